"""Results lines as curves: one panel per Figure, one colour per run everywhere, the median over seeds inside its range.

A band is the range over seeds. A thin bar is the 95 % interval of a share of so many problems, drawn where it is wider than the band
(with one seed: everywhere), see lcref/report.py.
Colours are those of Okabe and Ito, told apart with any colour vision; markers differ as well. Where committed results are given,
they lie dashed under the new ones. Reads results lines only. matplotlib is imported when something is drawn.
"""

import math
import statistics
import textwrap
from pathlib import Path

from lcref.report import counted, law, laws, shown, slices, summary, trained_to, trials

BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
# A run keeps its colour and marker in every figure; the longest name here that the run's name starts with decides.
COLOURS = {
    "rope": (RED, "o"),
    "nope": (BLACK, "s"),
    "alibi": (BLUE, "^"),
    "hard_alibi": (GREEN, "D"),
    "window": (ORANGE, "v"),
    "rope_window": (ORANGE, "v"),
    "t5": (SKY, "P"),
    "kerple": (PINK, "X"),
    "fire": (ORANGE, "h"),
    "xpos": (PINK, "<"),
    "sinusoidal": (GREY, "p"),
    "learned": (GREY, ">"),
    "randomized": (SKY, "d"),
    "none": (RED, "o"),
    "control": (BLACK, "s"),
    "linear": (BLUE, "^"),
    "ntk": (GREEN, "D"),
    "dynamic_ntk": (SKY, "P"),
    "yarn": (ORANGE, "h"),
    "lm_infinite": (PINK, "X"),
    "streaming": (GREY, ">"),
    "forget_more": (GREEN, "D"),
    "cap_state": (BLUE, "^"),
    "recent_only": (ORANGE, "<"),
    "clex": (BLACK, "*"),
    "softmax": (GREY, "o"),
    "log_n": (BLUE, "v"),
    "lssa": (SKY, "s"),
    "lssar": (GREEN, "o"),
    "ssmax": (ORANGE, "s"),
    "cosine": (PINK, "o"),
    "whole trace": (BLUE, "o"),
    "no fetcher": (PINK, "s"),
    "no addresses": (ORANGE, "^"),
    "direct answer": (BLACK, "D"),
    "window_rope": (BLUE, "v"),
    "mamba2_closed": (SKY, "p"),
}
SPARE = [(colour, marker) for marker in "*H8" for colour in (SKY, PINK, ORANGE, GREY, GREEN, BLUE, BLACK, RED)]
DASHES = ["-", (0, (5, 1.5)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (1, 1)), (0, (10, 2.5))]


def styles(names: list[str]) -> dict[str, dict]:
    """Colour, marker and line of every run. Variants of one run ("rope", "rope[model.layers=4]") share a colour, not the line."""
    found, used, spare = {}, {}, iter(SPARE * 4)
    for name in names:
        known = [key for key in COLOURS if name == key or name.startswith((f"{key}[", f"{key}-", f"{key}_"))]
        colour, marker = COLOURS[max(known, key=len)] if known else next(spare)
        turn = used[colour] = used.get(colour, -1) + 1
        found[name] = {"color": colour, "marker": marker, "linestyle": DASHES[turn % len(DASHES)]}
    return found


def curves(lines: list[dict], figures, path: str | Path, reference: list[dict] = ()) -> Path:
    """Draw one panel per Figure into a PNG. `reference`: committed lines, drawn dashed under the runs of the same names.

    KeyError for a metric that no line has; ValueError when there are no lines.
    """
    if not lines:
        raise ValueError(f"there are no results lines to draw into {path}")
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}):
        canvas = Canvas(figsize=(8, 4.4 * len(figures)), dpi=140, layout="constrained", facecolor="white")
        for axes, figure in zip(canvas.subplots(len(figures), squeeze=False)[:, 0], figures):
            panel(axes, lines, figure, reference)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(path).with_suffix(".tmp")
        canvas.savefig(fresh, format="png")
    fresh.replace(path)
    return Path(path)


def panel(axes, lines: list[dict], figure, reference: list[dict] = ()) -> None:
    """Draw one Figure into matplotlib axes; a notebook can call this with its own."""
    lines = shown(lines, figure)
    found = summary(lines, figure.metric)
    reference = [line for line in shown(reference, figure) if figure.metric in line["metrics"]]
    before = {run: points for run, points in summary(reference, figure.metric).items() if run in found}
    names = slices({run: before.get(run, {}) | points for run, points in found.items()})
    if len(names) == 1 < len(found):
        return dots(axes, found, before, figure, names[0])
    numbers = all(_is_number(name) for name in names)
    where = {name: float(name) if numbers else float(i) for i, name in enumerate(names)}
    style = styles(list(found))

    for run, points in before.items():
        x = sorted(where[name] for name in points)
        low, median, high = _arrays(points, where)
        axes.fill_between(x, low, high, color=style[run]["color"], alpha=0.13, linewidth=0, zorder=1)
        axes.plot(x, median, color=style[run]["color"], linewidth=1.0, dashes=(4, 2), zorder=2)
    ends = {}
    for run, points in found.items():
        x = sorted(where[name] for name in points)
        low, median, high = _arrays(points, where)
        if any(point.seeds > 1 for point in points.values()):
            axes.fill_between(x, low, high, color=style[run]["color"], alpha=0.18, linewidth=0, zorder=3)
        axes.plot(x, median, linewidth=2.0, markersize=5.5, zorder=4, clip_on=False, **style[run])
        if bars := {where[name]: point.sampling for name, point in points.items() if point.sampling}:
            axes.vlines(list(bars), *zip(*bars.values()), color=style[run]["color"], linewidth=1.2, alpha=0.7, zorder=3, clip_on=False)
        if figure.across and (fitted := law(points)):
            axes.plot(x, [fitted.factor * value**fitted.power for value in x], color=style[run]["color"], linewidth=1.2, linestyle=":", zorder=3)
        ends[run] = (x[-1], median[-1])

    if figure.across:
        axes.set_yscale("log", base=2)
    if figure.log_x:
        axes.set_xscale("log", base=2)
    axes.set_xticks(list(where.values()), names, minor=False)
    if len(names) > 10 and not figure.log_x:  # too many slices to name them all
        axes.set_xticks(list(where.values())[:: -(-len(names) // 10)], names[:: -(-len(names) // 10)])
    axes.minorticks_off()
    if all(0 <= point.low and point.high <= 1 for points in found.values() for point in points.values()):
        axes.set_ylim(-0.03, 1.03)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(figure.x_label)
    axes.set_ylabel(figure.y_label or figure.metric.replace("_", " "))
    for end in sorted({trained_to(figure, line) for line in lines} - {None}):
        axes.axvline(end, color="#555555", linewidth=1.2, linestyle=":", zorder=0)
        axes.annotate(f"trained to {end:g}", (end, 1), xycoords=("data", "axes fraction"), xytext=(4, 2),
                      textcoords="offset points", color="#555555", fontsize=10, va="bottom")
    axes.set_title(figure.title, loc="left", fontsize=12, fontweight="bold", pad=20, wrap=True)
    below = "; dotted: ".join(filter(None, (caption(found, before, figure.over), laws(found, figure))))
    axes.annotate(below, (1, 0), xycoords="axes fraction", xytext=(0, -42), textcoords="offset points", ha="right",
                  va="top", fontsize=9, color="#555555")
    label_ends(axes, ends, style)


MIDDLE = {"seeds": ("median", statistics.median), "samples": ("mean", statistics.mean)}        # a sample is found or not: its mean is a share


def heat(lines: list[dict], metric: str, path: str | Path, *, title="", x_label="length", y_label="depth", over="seeds") -> Path:
    """One panel per run of a metric whose slices are "x@y", shares from 0 (dark) to 1 (light) in every cell, of several lines their MIDDLE.

    KeyError for a metric that no line has. heat(lines, "passkey", "passkey.png")
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    runs = list(dict.fromkeys(line["run"] for line in lines if metric in line["metrics"]))
    if not runs:
        raise KeyError(f"no results line has the metric {metric!r}")
    places = [name.split("@") for line in lines for name in line["metrics"].get(metric, {})]
    xs, ys = (sorted({place[i] for place in places}, key=float) for i in (0, 1))
    columns = min(4, len(runs))
    rows = -(-len(runs) // columns)
    with matplotlib.rc_context({"font.size": 11}):
        canvas = Canvas(figsize=(0.9 + columns * max(1.7, 0.62 * len(xs) + 0.5), 0.8 + rows * (0.42 * len(ys) + 0.9)), dpi=140, layout="constrained",
                        facecolor="white")
        canvas.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
        grid = canvas.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        most = 1
        for place, (axes, run) in enumerate(zip(grid, runs)):
            own = [line for line in lines if line["run"] == run]
            most = max(most, cells(axes, own, metric, run, x_label="", y_label="", xs=xs, ys=ys, over=over))
            axes.tick_params("x", rotation=45 if max(map(len, xs)) > 4 else 0, labelbottom=place >= len(runs) - columns)     # nothing below it
        for axes in grid[len(runs):]:
            axes.set_visible(False)
        canvas.supxlabel(x_label, fontsize=11)
        canvas.supylabel(y_label, fontsize=11)
        if most > 1:
            canvas.text(0.995, 0.01, f"{MIDDLE[over][0]} of {most} {over}", ha="right", va="bottom", fontsize=9, color="#555555")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(path).with_suffix(".tmp")
        canvas.savefig(fresh, format="png")
    fresh.replace(path)
    return Path(path)


def caption(found, before, over="seeds") -> str:
    """What line and band stand for."""
    seeds = max(point.seeds for points in found.values() for point in points.values())
    text = f"one {over.removesuffix('s')}" if seeds == 1 else f"median and range of {counted(found, over)}"
    if any(point.sampling for points in found.values() for point in points.values()):
        text += f"; bars{'' if seeds == 1 else ' where wider'}: 95 % interval of {trials(found)}"
    if before:
        committed = max(point.seeds for points in before.values() for point in points.values())
        text += f"; dashed: committed results, {committed} seed{'s' * (committed > 1)}"
    return text


def dots(axes, found, before, figure, name: str) -> None:
    """One slice has no curve: a row for each run, its median and the range over seeds; a committed median is a hollow dot."""
    style = styles(list(found))
    for row, (run, points) in enumerate(found.items()):
        point, color = points[name], style[run]["color"]
        if run in before and name in before[run]:
            axes.plot(before[run][name].median, row, "o", markersize=9, markerfacecolor="none", color=color)
        axes.hlines(row, point.low, point.high, color=color, linewidth=5, alpha=0.35)
        axes.plot(point.median, row, "o", markersize=6, color=color, clip_on=False)
        axes.annotate(f"{point.median:.2f}", (point.high, row), xytext=(8, 0), textcoords="offset points", va="center", fontsize=9, color="#555555")
    axes.set_yticks(range(len(found)), list(found), fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{figure.y_label or figure.metric.replace('_', ' ')}, at {name} {figure.x_label}")
    axes.set_title(figure.title, loc="left", fontsize=12, fontweight="bold", pad=20, wrap=True)
    axes.annotate(caption(found, before, figure.over).replace("dashed", "hollow"), (1, 0), xycoords="axes fraction", xytext=(0, -42),
                  textcoords="offset points", ha="right", va="top", fontsize=9, color="#555555")


def label_ends(axes, ends: dict[str, tuple[float, float]], style) -> None:
    """Names at the right ends of the lines, pushed apart where lines end together."""
    low, high = axes.get_ylim()
    texts = {run: label(run) for run in ends}
    order = sorted(ends, key=lambda run: ends[run][1])
    rows = [1 + texts[run].count("\n") for run in order]
    height = min(0.062, 0.9 / sum(rows))  # of one row, as a share of the axes
    share = (lambda y: math.log(y / low) / math.log(high / low)) if axes.get_yscale() == "log" else (lambda y: (y - low) / (high - low))
    place = [share(ends[run][1]) for run in order]
    for i in range(1, len(place)):
        place[i] = max(place[i], place[i - 1] + height * (rows[i - 1] + rows[i]) / 2)
    place[-1] = min(place[-1], 1.0)
    for i in reversed(range(len(place) - 1)):
        place[i] = min(place[i], place[i + 1] - height * (rows[i] + rows[i + 1]) / 2)
    right = max(x for x, _ in ends.values())
    for run, middle in zip(order, place):
        axes.annotate(texts[run], xy=(right, ends[run][1]), xytext=(1.035, middle), textcoords="axes fraction", va="center",
                      fontsize=min(10, 175 * height), color=style[run]["color"], annotation_clip=False,
                      arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": style[run]["color"], "linewidth": 0.6, "shrinkA": 1, "shrinkB": 5})


def label(run: str, width: int = 30) -> str:
    """A run's name, its changes wrapped under it: `rope[model.layers=4,train.steps=9]` in as many rows as they need."""
    name, bracket, changes = run.partition("[")
    return "\n".join([name, *textwrap.wrap(bracket + changes.replace(",", ", "), width, break_on_hyphens=False)])


def _arrays(points, where):
    ordered = [points[name] for name in sorted(points, key=where.get)]
    return [p.low for p in ordered], [p.median for p in ordered], [p.high for p in ordered]


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False


# ------------------------------------------------------------------------------------------------- pictures for notebooks, into given axes

def matrix(axes, values, title="", *, x_label="key", y_label="query", top=None):
    """A mask, scores or weights as cells, light where large; what is -inf stays white.   matrix(axes, attention_weights[0, 0], "weights")"""
    import numpy as np

    values = np.asarray(values, np.float64)
    shown = np.where(np.isneginf(values), np.nan, values)
    axes.imshow(shown, cmap="cividis", vmin=None if np.nanmin(shown) < 0 else 0, vmax=top, interpolation="nearest")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    for spine in axes.spines.values():
        spine.set_visible(False)


def lines(axes, x, curves, *, x_label="", y_label="", title="", trained_to=None, log_x=True, log_y=False):
    """Named curves over x, each in its own colour everywhere; an array [repeats, len(x)] is a median inside its range.
    lines(axes, lengths, {"softmax": weight}, x_label="keys", y_label="weight")"""
    import numpy as np

    style = styles(list(curves))
    for name, values in curves.items():
        values = np.atleast_2d(np.asarray(values, np.float64))
        if len(values) > 1:
            axes.fill_between(x, values.min(0), values.max(0), color=style[name]["color"], alpha=0.18, linewidth=0)
        axes.plot(x, np.median(values, 0), linewidth=2, markersize=5, label=name, **style[name])
    if log_x:
        axes.set_xscale("log", base=2)
    if log_y:
        axes.set_yscale("log")
    if trained_to is not None:
        axes.axvline(trained_to, color="#555555", linewidth=1.2, linestyle=":", zorder=0)
        axes.annotate(f"trained to {trained_to:g}", (trained_to, 1), xycoords=("data", "axes fraction"), xytext=(4, 2), textcoords="offset points",
                      color="#555555", fontsize=9, va="bottom")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=16)
    axes.legend(frameon=False, fontsize=9)


def cells(axes, lines, metric, title="", *, x_label="length", y_label="depth", xs=None, ys=None, over="seeds"):
    """Slices "x@y" of one run as cells from 0 (dark) to 1 (light), the MIDDLE over lines in each; xs, ys: columns and rows, where others share them.
    Returns how many lines a cell has at most. cells(axes, lines_of_yarn, "passkey", "yarn")"""
    found = {}
    for line in lines:
        for name, value in line["metrics"].get(metric, {}).items():
            found.setdefault(tuple(name.split("@")), []).append(value)
    xs, ys = (given or sorted({place[i] for place in found}, key=float) for i, given in enumerate((xs, ys)))
    shares = [[MIDDLE[over][1](got) if (got := found.get((x, y))) else math.nan for x in xs] for y in ys]
    axes.imshow(shares, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    for i, row in enumerate(shares):
        for j, share in enumerate(row):
            if share == share:
                axes.text(j, i, f"{share:.2g}", ha="center", va="center", color="white" if share < 0.5 else "black", fontsize=9)
    axes.set_xticks(range(len(xs)), xs)
    axes.set_yticks(range(len(ys)), ys)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return max(map(len, found.values()), default=0)
