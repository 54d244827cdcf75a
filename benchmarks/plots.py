"""The lines of results/bench/*.jsonl as pictures beside them, NAME.png for NAME.jsonl: `lcref bench --plot`.

What a line has decides where it is drawn:
    T             a curve over length, one panel per quantity, one line per contender
    bundles       the TPU's schedules: bars per tile, a row of panels per kernel, a column per chip, where a peer is beside ours
    ms            times beside a peer: bars from 1, ours, to the left where a peer is faster and to the right where it is slower
The last line of a case and contender stands. Colours and what makes a picture legible are those of lcref/plotting.py.
"""
import json
import math
import re
from pathlib import Path

from lcref.plotting import BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY

OURS, PEERS = [BLUE, SKY, "#0b2f4f", "#a9b8d6"], [ORANGE, GREEN, RED, PINK, GREY]
MARKERS = "osD^vPX"
QUANTITIES = {"tiles": "tiles of scores computed", "GFLOP": "billion operations", "moved_MB": "MB moved (model)", "temp_MB": "MB held (compiler)",
              "state_MB": "MB of state carried on"}


def draw_all(folder="results/bench"):
    for path in sorted(Path(folder).glob("*.jsonl")):
        made = draw(path)
        print(made or f"{path}: nothing that is drawn", flush=True)


def draw(path):
    """The PNG beside a file of results lines; None where no line is of a kind that is drawn."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas
    lines = [with_length(line) for line in map(json.loads, Path(path).read_text(encoding="utf-8").splitlines()) if "case" in line]
    lines = list({tuple(line.get(key) for key in ("case", "name", "T", "kind")): line for line in lines}.values())
    parts = [(form, found) for form, found in ((curves, [line for line in lines if "T" in line]), (schedules, with_peers(lines, "bundles")),
                                               (ratios, with_peers(lines, "ms"))) if found]
    if not parts:
        return None
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        sizes = [form(None, found) for form, found in parts]
        canvas = Canvas(figsize=(11, sum(sizes)), dpi=130, layout="constrained", facecolor="white")
        for (form, found), part in zip(parts, [canvas] if len(parts) == 1 else canvas.subfigures(len(parts), 1, height_ratios=sizes)):
            form(part, found)
        fresh = Path(path).with_suffix(".tmp")
        canvas.savefig(fresh, format="png")
    fresh.replace(Path(path).with_suffix(".png"))
    return Path(path).with_suffix(".png")


def named(case):
    """A case's name with its length, head width and window, without the rest of its shape."""
    return " ".join([re.sub(r"\s*\{.*\}", "", case), *(f"{key}={value}" for key, value in re.findall(r"'(T|K|window)': (\d+)", case))])


def with_length(line):
    """A length that stands in the case, "... T=4096", as a number of its own where the line tells no time."""
    found = re.search(r" T=(\d+)$", line["case"])
    return line if not found or "ms" in line or "bundles" in line else {**line, "case": line["case"][:found.start()], "T": int(found[1])}


def with_peers(lines, key):
    """The lines that have a number there, of cases in which ours and somebody else's stand."""
    having = [line for line in lines if isinstance(line.get(key), (int, float)) and "T" not in line]
    ours, others = ({line["case"] for line in having if is_ours(line["name"]) is mine} for mine in (True, False))
    return [line for line in having if line["case"] in ours & others]


def is_ours(name):
    return name.startswith("lcref")


def colours(names):
    """Blues for ours, the other colours for the others, by name."""
    spare = {True: iter(OURS * 9), False: iter(PEERS * 9)}
    return {name: next(spare[is_ours(name)]) for name in names}


# ------------------------------------------------------------------------------------------------------------------- the forms
# form(part of the figure, lines) draws; form(None, lines) says how many inches high it wants to be

def curves(part, lines):
    from matplotlib.ticker import LogLocator
    cases = list(dict.fromkeys(line["case"] for line in lines))
    panels = [(case, key) for case in cases for key in QUANTITIES if any(key in line for line in lines if line["case"] == case)]
    rows = -(-len(panels) // 2)
    if part is None:
        return 0.6 + 3.1 * rows
    for n, (axes, panel) in enumerate(zip(part.subplots(rows, 2, squeeze=False).ravel(), [*panels, *[None] * (2 * rows - len(panels))])):
        if panel is None:
            axes.set_visible(False)
            continue
        case, key = panel
        found = [line for line in lines if line["case"] == case and key in line]
        for i, name in enumerate(dict.fromkeys(line["name"] for line in found)):
            points = sorted((line["T"], line[key]) for line in found if line["name"] == name)
            axes.plot(*zip(*points), label=name, color=(OURS[:1] + PEERS)[i % 6], marker=MARKERS[i % 7], markersize=5, linewidth=1.8)
        lengths = sorted({line["T"] for line in found})
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=10)
        values = [line[key] for line in found]
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) < 100 * min(values) else (1,), numticks=99))
        axes.yaxis.set_major_formatter("{x:,g}")
        axes.set_xticks(lengths, [str(T) if T < 1024 or T % 1024 else f"{T // 1024}k" for T in lengths])
        axes.minorticks_off()
        dressed(axes, "both", f"{case}: {QUANTITIES[key]}", "tokens")
        if n == 0 or panels[n - 1][0] != case:
            axes.legend(frameon=False, fontsize=9, loc="upper left")


def schedules(part, lines):
    kernels = list(dict.fromkeys(line["case"].split(f" {line['tile']} ")[0] for line in lines))
    sides = {line["tile"]: [int(side) for side in line["tile"].split("x")] for line in lines}
    chips, tiles = list(dict.fromkeys(line["chip"] for line in lines)), sorted(sides, key=lambda tile: math.prod(sides[tile]))
    label = lambda line: line["name"] + (f", {line['kind']} tile" if line["kind"] != "every" else "")
    names = sorted({label(line) for line in lines}, key=lambda name: (not is_ours(name), name))
    if part is None:
        return 0.9 + 2.4 * len(kernels)
    grid, look, width = part.subplots(len(kernels), len(chips), squeeze=False, sharey="row"), colours(names), 0.8 / len(names)
    for (i, kernel), (j, chip) in ((row, column) for row in enumerate(kernels) for column in enumerate(chips)):
        axes = grid[i, j]
        here = [line for line in lines if line["case"].startswith(f"{kernel} {line['tile']} ") and line["chip"] == chip]
        for line in here:
            x = tiles.index(line["tile"]) + width * (names.index(label(line)) - (len(names) - 1) / 2)
            axes.bar(x, line["per_512x512"], width, color=look[label(line)])
            floor = line["floor"] * 512**2 / math.prod(sides[line["tile"]])
            axes.text(x, max(floor, line["per_512x512"]), f" {line['per_512x512']:,}", rotation=90, ha="center", va="bottom", fontsize=7)
            axes.hlines(floor, x - width / 2, x + width / 2, color="black", linewidth=1.2)
        axes.set_xticks(range(len(tiles)), [tile.replace("x", " x ") for tile in tiles], fontsize=8.5)
        axes.set_xlim(-0.5, len(tiles) - 0.5)
        axes.margins(y=0.3)
        dressed(axes, "y", f"{kernel}, {chip}")
    part.supylabel("bundles per 512 x 512 scores; black: what the products alone need", fontsize=10)
    part.legend(handles=[grid[0, 0].bar(0, 0, color=look[name], label=name) for name in names], ncols=-(-len(names) // 2), loc="outside upper center",
                frameon=False)


def ratios(part, lines):
    cases = list(dict.fromkeys(line["case"] for line in lines))
    if part is None:
        return 1.2 + 0.16 * len(cases) + 0.27 * len(lines)
    axes, look, y, places = part.subplots(), colours(dict.fromkeys(line["name"] for line in lines)), 0.0, []
    for case in cases:
        here = sorted((line for line in lines if line["case"] == case), key=lambda line: (not is_ours(line["name"]), line["ms"]))
        for line in here:
            ratio = line["ms"] / here[0]["ms"]
            axes.barh(y, ratio - 1, left=1, height=0.8, color=look[line["name"]])
            axes.plot(ratio, y, marker="o", markersize=5, color=look[line["name"]])
            text = f"{line['name']}  {line['ms']:{',.0f' if line['ms'] >= 100 else '.3g'}} ms" + (f"  ({ratio:.2g} x)" if line is not here[0] else "")
            axes.annotate(text, (max(ratio, 1), y), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8.5)
            places.append((y, named(case)) if line is here[0] else (y, ""))
            y += 1
        y += 0.6
    axes.set_xscale("log", base=2)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 2.5)                             # room for the words beside the longest bar
    axes.margins(y=0.02)
    ticks = [2.0**n for n in range(-6, 9) if low <= 2.0**n <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([place for place, _ in places], [text for _, text in places])
    axes.tick_params(axis="y", length=0)
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.axvline(1, color="#555555", linewidth=1)
    dressed(axes, "x", "time of a peer, ours = 1: to the right slower than lcref")


def dressed(axes, grid, title, x_label=""):
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(x_label)
