"""Results lines in words: medians and ranges over seeds, and the table of a figure. Reads lines only, so any run can be shown again.

    exact match by length: median of 3 seeds, their range below it
             10      20          30
    rope  1.00    1.00        0.02
                        0.01..0.04
    nope  1.00    1.00        0.91*
                        0.88..0.97
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    """One run at one slice, over its seeds."""

    low: float
    median: float
    high: float
    seeds: int


def summary(lines: list[dict], metric: str) -> dict[str, dict[str, Point]]:
    """run -> slice -> Point, in the order of the lines; a value that is missing or not finite is left out.

    KeyError for a metric that no line has.
    """
    values = defaultdict(lambda: defaultdict(list))
    for line in lines:
        for slice_, value in line["metrics"].get(metric, {}).items():
            if value is not None and np.isfinite(value):
                values[line["run"]][slice_].append(value)
    if lines and not values:
        there = sorted({name for line in lines for name in line["metrics"]})
        raise KeyError(f"no results line has the metric {metric!r}; there is: {', '.join(there) or 'none'}")
    return {run: {s: Point(min(v), float(np.median(v)), max(v), len(v)) for s, v in slices.items()} for run, slices in values.items()}


def slices(found: dict[str, dict[str, Point]]) -> list[str]:
    """Every slice that some run has: by size when all are numbers, else in the order they come."""
    names = list(dict.fromkeys(name for points in found.values() for name in points))
    try:
        return sorted(names, key=float)
    except ValueError:
        return names


def table(lines: list[dict], figure, width: int = 100) -> str:
    """Rows are runs, columns the slices of the figure's metric; under each median the range over seeds. Wider than `width`: in parts."""
    found = summary(lines, figure.metric)
    names = slices(found)
    points = [point for run in found.values() for point in run.values()]
    ranged = any(point.high > point.low for point in points)
    seeds = max(point.seeds for point in points)
    head = f"{figure.metric.replace('_', ' ')} by {figure.x_label}" + (f": median of {seeds} seeds, their range below it" if ranged else "")

    rows = ["", *(label for run in found for label in ([run, ""] if ranged else [run]))]
    first = max(map(len, rows))
    parts, room = [], 0
    for name in names:
        best = _best(found, name, figure.lower_is_better)
        column = [f"{name} ", *(cell for run in found.values() for cell in _cells(run.get(name), best, ranged))]
        wide = max(map(len, column))
        if not parts or room < wide + 1:
            parts.append([f"{row:<{first}}" for row in rows])
            room = width - first
        parts[-1] = [f"{row} {cell:>{wide}}" for row, cell in zip(parts[-1], column)]
        room -= wide + 1
    text = f"{head}\n" + "\n\n".join("\n".join(row.rstrip() for row in part) for part in parts)
    return f"{text}\n* the column's best" if "*" in text else text


def markdown(lines: list[dict], figure) -> str:
    """The same as a Markdown table: median, and (lowest to highest seed) where they differ."""
    found = summary(lines, figure.metric)
    names = slices(found)

    def cell(point):
        if point is None:
            return ""
        low, middle, high = (f"{round(value, 2) + 0.0:.2f}" for value in point[:3])
        return middle if low == high else f"{middle} ({low} to {high})"
    body = [[f"`{run}`", *(cell(points.get(name)) for name in names)] for run, points in found.items()]
    rows = [[figure.x_label, *names], ["---"] * (1 + len(names)), *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _best(found, name: str, lower: bool) -> float | None:
    """The best median of a column, rounded as it is shown; None where all are the same."""
    medians = {round(points[name].median, 2) for points in found.values() if name in points}
    return (min if lower else max)(medians) if len(medians) > 1 else None


def _cells(point: Point | None, best: float | None, ranged: bool) -> list[str]:
    """The median (a star marks a column's best), and below it the range."""
    if point is None:
        return ["- ", ""] if ranged else ["- "]
    low, middle, high = (f"{round(value, 2) + 0.0:.2f}" for value in point[:3])  # + 0.0: no "-0.00"
    median = middle + ("*" if round(point.median, 2) == best else " ")
    return [median, f"{low}..{high} " if low != high else ""] if ranged else [median]
