"""Figures: what is drawn is what the lines say."""
import matplotlib.figure
import numpy as np
import pytest

from lcref import plotting, report
from lcref.experiment import Figure
from tests.test_report import FIGURE, lines, sampled


def axes_of(*args):
    axes = matplotlib.figure.Figure().subplots()
    plotting.panel(axes, *args)
    return axes


def test_lines_are_medians_over_the_slices_in_numeric_order():
    drawn = {line.get_color(): line for line in axes_of(lines(3), FIGURE).get_lines() if line.get_marker() not in ("", "None", None)}
    line = drawn[plotting.COLOURS["hard_alibi"][0]]
    assert list(line.get_xdata()) == [10, 30, 100]
    assert list(line.get_ydata()) == pytest.approx([1.0, 0.8, 0.7])


def test_one_slice_is_a_row_for_each_run():
    made = lambda seeds: [{"run": run, "seed": seed, "metrics": {"accuracy": {"64": value + 0.01 * seed}}} for run, value in (("b", 0.9), ("a", 0.5))
                          for seed in range(seeds)]
    axes = axes_of(made(3), Figure("accuracy", x_label="pixels", y_label="named right"), made(1))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["b", "a"] and axes.get_xlabel() == "named right, at 64 pixels"
    places = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.get_lines()]
    np.testing.assert_allclose(places, [(0.9, 0), (0.91, 0), (0.5, 1), (0.51, 1)])             # the committed one, then ours
    assert any("hollow: committed results" in text.get_text() for text in axes.texts)


def test_bands_are_there_with_seeds_and_absent_without():
    assert len(axes_of(lines(3), FIGURE).collections) == 3
    assert len(axes_of(lines(1), FIGURE).collections) == 0


def test_committed_results_lie_under_the_runs_of_their_names():
    only = [line for line in lines(1) if line["run"] == "rope"]
    axes = axes_of(only, FIGURE, lines(3))
    assert len(axes.collections) == 1 and len(axes.get_lines()) == 3  # band; median, new line, trained-to line
    assert any("dashed: committed results, 3 seeds" in text.get_text() for text in axes.texts)


def test_committed_results_may_lack_a_length_or_the_metric():
    """A new evaluation, or new lengths of an old one, are drawn over what there was before."""
    new = lines(1)[0]
    old = new | {"metrics": {"exact_match": {name: value for name, value in list(new["metrics"]["exact_match"].items())[:-1]}}}
    assert len(axes_of([new], FIGURE, [old]).get_lines()) == 3
    assert len(axes_of([new], FIGURE, [old | {"metrics": {"other": {"1": 1.0}}}]).get_lines()) == 2


def test_the_training_length_is_marked():
    axes = axes_of(lines(1), FIGURE)
    assert any(text.get_text() == "trained to 20" for text in axes.texts)
    assert any(list(line.get_xdata()) == [20, 20] for line in axes.get_lines())


def test_names_at_line_ends_do_not_overlap():
    same = lines(1, {name: (1.0, 0.0, 0.0) for name in ("rope", "nope", "alibi", "hard_alibi", "t5", "kerple", "fire")})
    axes = axes_of(same, FIGURE)
    heights = sorted(text.xyann[1] for text in axes.texts if text.get_text() in {line["run"] for line in same})
    assert len(heights) == 7 and min(np.diff(heights)) > 0.05 and -0.1 < heights[0] and heights[-1] <= 1.0


def test_the_changes_of_a_run_are_wrapped_under_its_name():
    run = "rope[train.steps=40,model.d_model=32,evals.0.lengths=3,900,data.min_length=2]"
    assert plotting.label("rope") == "rope"
    assert plotting.label(run).splitlines() == ["rope", "[train.steps=40,", "model.d_model=32,", "evals.0.lengths=3, 900,", "data.min_length=2]"]
    many = lines(1, {f"{name}{run[4:]}": (1.0, 0.0, 0.0) for name in ("rope", "nope", "alibi", "t5")})
    texts = [text for text in axes_of(many, FIGURE).texts if text.get_text().count("\n")]
    places, size = sorted(text.xyann[1] for text in texts), texts[0].get_fontsize()
    assert len(texts) == 4 and size < 10 and min(np.diff(places)) > 5 * 0.0052 * size, "five rows each, 1.2 of the font high, of axes of 230 points"


def test_six_variants_of_one_run_look_different():
    looks = plotting.styles(["clex", *(f"clex_{n}" for n in range(5))])
    assert len({look["color"] for look in looks.values()}) == 1 and len({look["linestyle"] for look in looks.values()}) == 6


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


def bars_of(axes):
    """{colour: {x: (low, high)}} of the bars."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_hex

    found = [collection for collection in axes.collections if isinstance(collection, LineCollection)]
    return {to_hex(c.get_color()[0][:3]).upper(): {segment[0][0]: (segment[0][1], segment[1][1]) for segment in c.get_segments()} for c in found}


def test_one_seed_of_a_share_has_a_bar_at_every_point():
    axes = axes_of(sampled(lines(1), 200), FIGURE)
    bars = bars_of(axes)
    assert set(bars) == {plotting.COLOURS[run][0] for run in ("rope", "nope", "hard_alibi")}
    assert bars[plotting.COLOURS["nope"][0]][30] == pytest.approx(report.wilson(0.5, 200))
    assert bars[plotting.COLOURS["nope"][0]][10] == pytest.approx((0.9812, 1.0), abs=1e-4)
    assert any(text.get_text() == "one seed; bars: 95 % interval of 200 problems" for text in axes.texts)


def test_bars_only_where_they_are_wider_than_the_band():
    """Seeds 0.2 apart at 30 letters say more than 200 problems do, and at 10 letters, where all seeds agree, less."""
    axes = axes_of(sampled(lines(3), 200), FIGURE)
    assert set(bars_of(axes)[plotting.COLOURS["rope"][0]]) == {10, 100}
    assert any(text.get_text() == "median and range of 3 seeds; bars where wider: 95 % interval of 200 problems" for text in axes.texts)


def test_no_bars_where_nothing_says_how_many_problems():
    axes = axes_of(lines(1), FIGURE)
    assert bars_of(axes) == {} and any(text.get_text() == "one seed" for text in axes.texts)


def test_a_figure_may_show_some_runs_only():
    axes = axes_of(lines(3), Figure("exact_match", runs=("rope", "nope")), lines(3))
    assert {text.get_text() for text in axes.texts} >= {"rope", "nope"} and len(axes.collections) == 4  # bands of two runs, and of their reference
    assert not any(text.get_text() == "hard_alibi" for text in axes.texts)


def test_where_training_ended_can_be_each_runs_own():
    figure = Figure("exact_match", trained_to="data.max_length")
    here = [line | {"config": {"data": {"max_length": 20 if line["run"] == "rope" else 50}}} for line in lines(2)]
    axes = axes_of(here, figure)
    assert {text.get_text() for text in axes.texts} >= {"trained to 20", "trained to 50"}
    alone = axes_of(here, Figure("exact_match", trained_to="data.max_length", runs=("rope",)))
    assert "trained to 50" not in {text.get_text() for text in alone.texts}, "of the runs that are shown"
    with pytest.raises(KeyError, match="trained_to='data.max_length' is no setting of the run rope: it has no 'max_length'"):
        axes_of([{**here[0], "config": {"data": {}}}], figure)


def test_loss_by_position_can_be_drawn():
    from lcref.evaluate import PositionLoss

    slices = {str(i): 2.0 + i / 4096 for i in range(0, PositionLoss().length, PositionLoss().bucket)}
    axes = axes_of([{"run": "rope", "metrics": {"position_loss": slices}}], Figure("position_loss", x_label="position", trained_to=256))
    line = next(line for line in axes.get_lines() if line.get_marker() == "o")
    assert list(line.get_xdata()) == [128.0 * i for i in range(32)] and len(axes.get_xticks()) <= 10


def test_a_map_with_nothing_below_it_says_its_lengths(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, path, **_: (drawn.append(self), path.touch()))
    plotting.heat([{"run": str(run), "metrics": {"found": {"8@0": 1.0, "16@1": 0.5}}} for run in range(6)], "found", tmp_path / "found.png")
    assert [axes.xaxis.get_tick_params()["labelbottom"] for axes in drawn[0].axes if axes.get_visible()] == 2 * [False] + 4 * [True]


def test_a_map_shows_the_median_over_seeds_and_says_so(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, path, **_: (drawn.append(self), path.touch()))
    lines = [{"run": "rope", "metrics": {"found": {"8@0": share, "16@0": share / 2}}} for share in (0.0, 0.8, 1.0)]
    plotting.heat(lines, "found", tmp_path / "found.png")
    plotting.heat(lines[:1], "found", tmp_path / "one.png")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["0.8", "0.4"]
    assert "median of 3 seeds" in [text.get_text() for text in drawn[0].texts] and not any("seeds" in text.get_text() for text in drawn[1].texts)


def test_a_map_of_samples_shows_their_share(monkeypatch, tmp_path):
    """One line per prompt, as `lcref extend` writes: a cell of one is no median of all lines."""
    drawn = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda self, path, **_: (drawn.append(self), path.touch()))
    lines = [{"run": "yarn", "metrics": {"found": {slice_: found}}} for slice_, found in (("8@0", 1.0), ("16@0", 0.0), ("16@0", 1.0), ("16@0", 1.0))]
    plotting.heat(lines, "found", tmp_path / "found.png", over="samples")
    plotting.heat(lines[:2], "found", tmp_path / "one.png", over="samples")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["1", "0.67"]
    assert "mean of 3 samples" in [text.get_text() for text in drawn[0].texts] and not any("sample" in text.get_text() for text in drawn[1].texts)
