"""Results lines in words: medians and ranges over seeds, and the table of a figure. Reads lines only, so any run can be shown again.

    exact match by length: median of 3 seeds; below it their range; ~ the 95 % interval of a share of 200 problems, where that is wider
             10          20          30
    rope  1.00        1.00        0.30
                                  0.21..0.54
         ~0.98..1.00 ~0.98..1.00
    nope  1.00        1.00        0.91*
                                  0.88..0.97

Two doubts, and they are not added up. Another seed would have trained another model: the range over seeds shows that. Another drawing of
the test problems would have found another share for the same model: `wilson` says how far off it may be. All seeds are asked the same
problems, so 3 seeds of 200 problems are no 600 trials, and the interval is that of one seed, the median one.
"""

import re
import textwrap
from collections import defaultdict
from typing import NamedTuple

import numpy as np

# Metrics that are a share of independent trials -> the field of the evaluation that says how many it had at each slice. Not
# token_accuracy: the tokens of one answer go wrong together.
TRIALS = {"exact_match": "samples", "outcome_match": "samples", "depth_match": "samples", "key_recall": "questions"}


def wilson(share: float, trials: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share measured on independent trials (Wilson 1927): sound at 0 and 1, where the normal one is not."""
    centre, half = share + z * z / (2 * trials), z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    return (centre - half) / (1 + z * z / trials), (centre + half) / (1 + z * z / trials)


class Point(NamedTuple):
    """One run at one slice, over its seeds."""

    low: float
    median: float
    high: float
    seeds: int
    trials: int | None = None  # that every seed's share was measured on; None: not a share, or not known

    @property
    def sampling(self) -> tuple[float, float] | None:
        """The 95 % interval of the median seed's share, where it is wider than the seeds' range."""
        low, high = wilson(self.median, self.trials) if self.trials else (0.0, 0.0)
        return (max(low, 0.0), min(high, 1.0)) if high - low > self.high - self.low else None


def shown(lines: list[dict], figure) -> list[dict]:
    """The lines that a figure shows; for one across a setting, what it makes of them."""
    some = [line for line in lines if not figure.runs or line["run"].partition("[")[0] in figure.runs]
    return across(some, figure) if figure.across else ranking(some, figure) if figure.ranking else some


def ranking(lines: list[dict], figure) -> list[dict]:
    """Lines with one number: the mean over a run's slices beyond its training, and over all runs of one name before the first "-": "rope-copy"
    and "rope-sort" become "rope" (with changes, "rope[train.steps=10]"). From the best median down. Left out: a name and
    seed that lack one of the others' runs."""
    found = {}
    for line in lines:
        if figure.metric in line["metrics"]:
            beyond = [value for name, value in line["metrics"][figure.metric].items() if float(name) > trained_to(figure, line) and value is not None]
            name, _, change = line["run"].partition("[")
            series, _, part = name.partition("-")
            series += f"[{change}" if change else ""
            if beyond:
                found.setdefault((series, line["seed"]), (line, {}))[1][part] = float(np.mean(beyond))
    most = max((len(parts) for _, parts in found.values()), default=0)
    made, values = [], defaultdict(list)
    for (series, _), (line, parts) in found.items():
        if len(parts) == most:
            values[series].append(float(np.mean(list(parts.values()))))
            metrics = {figure.metric: {"every length beyond training": values[series][-1]}}
            made.append(line | {"run": series, "config": line["config"] | {"evals": ()}, "metrics": metrics})
    return sorted(made, key=lambda line: np.median(values[line["run"]]), reverse=not figure.lower_is_better)


def trained_to(figure, line: dict) -> float:
    """Where training of a line ended: the figure's number, or what the line's config has at the figure's key. KeyError for a key it lacks."""
    if not isinstance(figure.trained_to, str):
        return figure.trained_to
    value = line["config"]
    for name in figure.trained_to.split("."):
        if not isinstance(value, dict) or name not in value:
            raise KeyError(f"trained_to={figure.trained_to!r} is no setting of the run {line['run']}: it has no {name!r}")
        value = value[name]
    return value


def across(lines: list[dict], figure) -> list[dict]:
    """Lines whose one slice is a setting, and whose value is how far the run got (`reach`): "mamba2_64" becomes "mamba2" at 64.

    Left out: runs without that setting, and those of which not every seed crosses the share within the slices that were measured: the median
    of the seeds that do would be too low, as those that do not go further.
    """
    found, nowhere = [], set()
    for line in lines:
        value, far = line["config"], reach(line["metrics"].get(figure.metric, {}), figure.reaching)
        for name in figure.across.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if far is None:
            nowhere.add(line["run"])
        if value is not None:
            found.append((line, str(value), far))
    series = lambda run: re.sub(r"_?\d+(?=$|\[)", "", run, count=1)
    return [line | {"run": series(line["run"]), "config": line["config"] | {"evals": ()}, "metrics": {figure.metric: {value: far}}}
            for line, value, far in found if line["run"] not in nowhere]


def reach(values: dict[str, float], share: float) -> float | None:
    """Where a metric that falls with its slices first goes below a share, straight between two slices over the logarithm of their size.
    None where it is below from the first one on, or never.

    >>> reach({"8": 1.0, "16": 0.75, "32": 0.25, "64": 0.0}, 0.75)
    16.0
    """
    points = sorted((float(name), value) for name, value in values.items() if value is not None)
    for (near, above), (far, below) in zip(points, points[1:]):
        if above < share:
            return None
        if below < share:
            return float(near * (far / near) ** ((above - share) / (above - below)))
    return None


class Law(NamedTuple):
    """y = factor x^power, and the share of the variance of log y that it explains."""

    factor: float
    power: float
    explained: float

    def __str__(self) -> str:
        return f"{self.factor:.3g} x^{self.power:.2f}, R^2 {self.explained:.2f}"


def law(points: dict[str, Point]) -> Law | None:
    """The power law through the medians, by least squares of logarithms; None for fewer than three points."""
    if len(points) < 3:
        return None
    x, y = np.log([[float(name), point.median] for name, point in points.items()]).T
    power, shift = np.polyfit(x, y, 1)
    return Law(float(np.exp(shift)), float(power), float(1 - ((y - power * x - shift) ** 2).sum() / max(((y - y.mean()) ** 2).sum(), 1e-12)))


def laws(found: dict[str, dict[str, Point]], figure) -> str:
    """In words, for a figure across a setting: "mamba2 1.3 x^0.9, R^2 0.99"; else nothing."""
    fitted = {run: law(points) for run, points in found.items()} if figure.across else {}
    return ", ".join(f"{run} {each}" for run, each in fitted.items() if each)


def quantity(figure) -> str:
    """What a figure's values are, and by what."""
    metric = figure.metric.replace("_", " ")
    return f"{f'where {metric} crosses {figure.reaching:g}' if figure.across else metric} by {figure.x_label}"


def with_lines(figures, lines: list[dict]) -> list:
    """The figures that there is a number to show in: some of the runs may still be missing, or not have been asked for the metric."""
    numbers = lambda figure: (value for line in shown(lines, figure) for value in line["metrics"].get(figure.metric, {}).values())
    return [each for each in figures if any(value is not None for value in numbers(each))]


def summary(lines: list[dict], metric: str) -> dict[str, dict[str, Point]]:
    """run -> slice -> Point, in the order of the lines; a value that is missing or not finite is left out.

    KeyError for a metric that no line has.
    """
    if lines and not any(metric in line["metrics"] for line in lines):
        there = sorted({name for line in lines for name in line["metrics"]})
        raise KeyError(f"no results line has the metric {metric!r}; there is: {', '.join(there) or 'none'}")
    values, trials = defaultdict(lambda: defaultdict(list)), {}
    for line in lines:
        for slice_, value in line["metrics"].get(metric, {}).items():
            if value is not None and np.isfinite(value):
                values[line["run"]][slice_].append(value)
        trials.setdefault(line["run"], _trials(line, metric))
    return {run: {s: Point(min(v), float(np.median(v)), max(v), len(v), trials[run]) for s, v in slices.items()} for run, slices in values.items()}


def _trials(line: dict, metric: str) -> int | None:
    """How many trials each share of this line had, by its config: the fewest, where several evaluations could have measured it."""
    evals = line.get("config", {}).get("evals", ())
    name = metric.title().replace("_", "")
    evals = [ev for ev in evals if ev["type"].endswith(f".{name}")] or evals  # those of the metric's name, where there are any
    return min([ev[TRIALS[metric]] for ev in evals if TRIALS[metric] in ev], default=None) if metric in TRIALS else None


def trials(found: dict[str, dict[str, Point]]) -> str:
    """"200 problems", "100 problems or more", or nothing where nothing is known."""
    known = {point.trials for points in found.values() for point in points.values() if point.trials}
    return f"{min(known)} problems{' or more' * (len(known) > 1)}" if known else ""


def slices(found: dict[str, dict[str, Point]]) -> list[str]:
    """Every slice that some run has: by size when all are numbers ("4096", or "4096@0.5"), else in the order they come."""
    names = list(dict.fromkeys(name for points in found.values() for name in points))
    try:
        return sorted(names, key=lambda name: [float(part) for part in name.split("@")])
    except ValueError:
        return names


def table(lines: list[dict], figure, width: int = 100) -> str:
    """Rows are runs, columns the slices of the figure's metric; under each median the range over seeds, and under that, marked ~, the 95 %
    interval of sampling where it is the wider one. Wider than `width`: in parts."""
    found = summary(shown(lines, figure), figure.metric)
    names = slices(found)
    best = {name: _best(found, name, figure.lower_is_better) for name in names}
    cells = {run: {name: _cells(point, best[name]) for name, point in points.items()} for run, points in found.items()}
    rows = {run: [i for i in range(3) if i == 0 or any(column[i] for column in columns.values())] for run, columns in cells.items()}
    ranged, sampled = (any(i in used for used in rows.values()) for i in (1, 2))
    head = [quantity(figure)]
    if ranged:
        head.append(f"median of {counted(found, figure.over)}{'; below it their range' if sampled else ', their range below it'}")
    if sampled:
        head.append(f"~ the 95 % interval of a share of {trials(found)}" + (", where that is wider" if ranged else ""))

    left = fewer(found, figure.over)
    labels = ["", *(label for run, used in rows.items() for label in [run + left[run], *[""] * (len(used) - 1)])]
    first = max(map(len, labels))
    parts, room = [], 0
    for name in names:
        column = [f"{name} ", *(cells[run][name][i] if name in cells[run] else "- " if i == 0 else "" for run, used in rows.items() for i in used)]
        wide = max(map(len, column))
        if not parts or room < wide + 1:
            parts.append([f"{label:<{first}}" for label in labels])
            room = width - first
        parts[-1] = [f"{row} {cell:>{wide}}" for row, cell in zip(parts[-1], column)]
        room -= wide + 1
    if words := laws(found, figure):
        head.append(f"power law of the medians: {words}")
    text = "\n\n".join("\n".join(row.rstrip() for row in part) for part in parts)
    return f"{_wrapped(head, width)}\n{text}" + "\n* the column's best" * ("*" in text)


def counted(found, over: str = "seeds") -> str:
    """How many seeds the medians are of: "3 seeds", or "2 to 3 seeds" where not every run has as many, as one that diverged leaves no line."""
    counts = {point.seeds for points in found.values() for point in points.values()}
    return f"{min(counts)} to {max(counts)} {over}" if len(counts) > 1 else f"{max(counts)} {over}"


def fewer(found, over: str) -> dict[str, str]:
    """What follows a run's name: " (2 seeds)" where others have more, or nothing."""
    counts = {run: max(point.seeds for point in points.values()) for run, points in found.items()}
    most = max(counts.values())
    return {run: f" ({seeds} {over if seeds > 1 else over.removesuffix('s')})" if seeds < most else "" for run, seeds in counts.items()}


def _wrapped(head: list[str], width: int) -> str:
    """"what: how; how" on one line, or on several where it does not fit."""
    text = head[0] + (f": {'; '.join(head[1:])}" if head[1:] else "")
    return "\n".join(textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False))


def markdown(lines: list[dict], figure) -> str:
    """The same as a Markdown table: median, and (lowest to highest seed) where they differ; then in words what sampling alone leaves open."""
    found = summary(shown(lines, figure), figure.metric)
    names = slices(found)

    def cell(point):
        if point is None:
            return ""
        low, middle, high = map(_two, point[:3])
        return middle if low == high else f"{middle} ({low} to {high})"
    left = fewer(found, figure.over)
    body = [[f"`{run}`{left[run]}", *(cell(points.get(name)) for name in names)] for run, points in found.items()]
    rows = [[figure.x_label, *names], ["---"] * (1 + len(names)), *body]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    if words := laws(found, figure):
        text = f"{text}\n\nPower law of the medians, by least squares of logarithms: {words}."
    if not (words := trials(found)):
        return text
    fewest = min(point.trials for points in found.values() for point in points.values() if point.trials)
    spans = ", ".join(f"{' to '.join(map(_two, wilson(share, fewest)))} at {_two(share)}" for share in (0.0, 0.1, 0.5, 0.9, 1.0))
    return f"{text}\n\nEach value is a share of {words}, the same ones for every seed; what that sampling alone leaves open (95 %): {spans}."


def _best(found, name: str, lower: bool) -> float | None:
    """The best median of a column, rounded as it is shown; None where all are the same."""
    medians = {round(points[name].median, 2) for points in found.values() if name in points}
    return (min if lower else max)(medians) if len(medians) > 1 else None


def _cells(point: Point, best: float | None) -> tuple[str, str, str]:
    """The median (a star marks a column's best), the range over seeds, the interval of sampling; "" for what is not shown."""
    low, middle, high = map(_two, point[:3])
    star = "*" if round(point.median, 2) == best else " "
    return middle + star, f"{low}..{high} " * (low != high), "~{}..{} ".format(*map(_two, point.sampling)) if point.sampling else ""


def _two(value: float) -> str:
    """Two decimals, and no "-0.00"."""
    return f"{round(value, 2) + 0.0:.2f}"
