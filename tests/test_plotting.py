"""Figures and tables: what is drawn is what the lines say."""
import matplotlib.figure
import numpy as np
import pytest

from lcref import plotting, report
from lcref.experiment import Figure

FIGURE = Figure("exact_match", "Who copies?", x_label="letters", trained_to=20)


def lines(seeds, values=None):
    """Lines of three runs whose exact match falls with length, 0.1 apart between seeds."""
    values = values or {"rope": (1.0, 0.3, 0.0), "nope": (1.0, 0.5, 0.1), "hard_alibi": (1.0, 0.9, 0.8)}
    return [{"run": run, "seed": seed, "metrics": {"exact_match": {name: float(np.clip(value - 0.1 * seed * (value < 1), 0, 1))
                                                                   for name, value in zip(("10", "30", "100"), row)}}}
            for run, row in values.items() for seed in range(seeds)]


def axes_of(*args):
    axes = matplotlib.figure.Figure().subplots()
    plotting.panel(axes, *args)
    return axes


def test_summary_is_median_and_range():
    point = report.summary(lines(3), "exact_match")["rope"]["30"]
    assert point == pytest.approx((0.1, 0.2, 0.3, 3))


def test_summary_leaves_out_what_is_missing():
    some = [{"run": "a", "metrics": {"loss": {"10": None, "20": 2.0, "30": float("nan")}}}, {"run": "a", "metrics": {"loss": {"20": 4.0}}}]
    assert report.summary(some, "loss") == {"a": {"20": (2.0, 3.0, 4.0, 2)}}


def test_summary_names_the_metrics_there_are():
    with pytest.raises(KeyError, match="exact_matsch.*exact_match"):
        report.summary(lines(1), "exact_matsch")


def test_lines_are_medians_over_the_slices_in_numeric_order():
    drawn = {line.get_color(): line for line in axes_of(lines(3), FIGURE).get_lines() if line.get_marker() not in ("", "None", None)}
    line = drawn[plotting.COLOURS["hard_alibi"][0]]
    assert list(line.get_xdata()) == [10, 30, 100]
    assert list(line.get_ydata()) == pytest.approx([1.0, 0.8, 0.7])


def test_bands_are_there_with_seeds_and_absent_without():
    assert len(axes_of(lines(3), FIGURE).collections) == 3
    assert len(axes_of(lines(1), FIGURE).collections) == 0


def test_committed_results_lie_under_the_runs_of_their_names():
    only = [line for line in lines(1) if line["run"] == "rope"]
    axes = axes_of(only, FIGURE, lines(3))
    assert len(axes.collections) == 1 and len(axes.get_lines()) == 3  # band; median, new line, trained-to line
    assert any("dashed: committed results, 3 seeds" in text.get_text() for text in axes.texts)


def test_the_training_length_is_marked():
    axes = axes_of(lines(1), FIGURE)
    assert any(text.get_text() == "trained to 20" for text in axes.texts)
    assert any(list(line.get_xdata()) == [20, 20] for line in axes.get_lines())


def test_names_at_line_ends_do_not_overlap():
    same = lines(1, {name: (1.0, 0.0, 0.0) for name in ("rope", "nope", "alibi", "hard_alibi", "t5", "kerple", "fire")})
    axes = axes_of(same, FIGURE)
    heights = sorted(text.xyann[1] for text in axes.texts if text.get_text() in {line["run"] for line in same})
    assert len(heights) == 7 and min(np.diff(heights)) > 0.05 and -0.1 < heights[0] and heights[-1] <= 1.0


def test_every_run_has_its_own_look():
    names = [*plotting.COLOURS, "rope[model.layers=4]", "rope[model.layers=8]", "one", "two", *(f"more{i}" for i in range(10))]
    looks = plotting.styles(names)
    assert len({(look["color"], look["marker"], str(look["linestyle"])) for look in looks.values()}) == len(names)
    assert looks["rope"]["color"] == looks["rope[model.layers=4]"]["color"] != looks["nope"]["color"]
    assert plotting.styles(["rope"])["rope"] == looks["rope"]  # the same in every figure


def test_slices_that_are_not_numbers_keep_their_order():
    words = [{"run": "a", "metrics": {"accuracy": {"start": 0.1, "middle": 0.5, "end": 0.9}}}]
    axes = axes_of(words, Figure("accuracy"))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["start", "middle", "end"]


def test_curves_writes_one_panel_a_figure(tmp_path):
    path = plotting.curves(lines(2), (FIGURE, FIGURE), tmp_path / "deep" / "copy.png", lines(3))
    head = path.read_bytes()[16:24]  # of a PNG: width and height
    width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
    assert width >= 700 and height > width and [p.name for p in path.parent.iterdir()] == ["copy.png"]


def test_curves_of_nothing():
    with pytest.raises(ValueError, match="no results lines"):
        plotting.curves([], (FIGURE,), "never.png")


def test_table_has_a_row_a_run_and_a_column_a_slice():
    rows = report.table(lines(1), FIGURE).splitlines()
    assert rows[0] == "exact match by letters"
    assert rows[1].split() == ["10", "30", "100"]
    assert [row.split() for row in rows[2:5]] == [["rope", "1.00", "0.30", "0.00"], ["nope", "1.00", "0.50", "0.10"],
                                                  ["hard_alibi", "1.00", "0.90*", "0.80*"]]


def test_table_shows_the_range_below_the_median():
    rows = report.table(lines(3), FIGURE).splitlines()
    assert "median of 3 seeds" in rows[0] and rows[2].split() == ["rope", "1.00", "0.20", "0.00"] and rows[3].split() == ["0.10..0.30"]


def test_table_marks_the_lowest_where_lower_is_better():
    rows = report.table(lines(1), Figure("exact_match", lower_is_better=True)).splitlines()
    assert rows[2].split() == ["rope", "1.00", "0.30*", "0.00*"]


@pytest.mark.parametrize("width", [40, 60, 100])
def test_table_fits_the_terminal(width):
    many = [{"run": "rope", "metrics": {"exact_match": {str(n): 0.5 for n in range(10, 130, 10)}}} for _ in range(2)]
    rows = report.table(many, FIGURE, width).splitlines()
    assert max(map(len, rows)) <= width
    assert [word for row in rows for word in row.split() if word.isdigit()] == [str(n) for n in range(10, 130, 10)]


def test_no_negative_zero():
    assert "-0.00" not in report.table([{"run": "a", "metrics": {"recall": {"10": -0.001}}}], Figure("recall"))
