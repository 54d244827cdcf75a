"""Results in words: what a table says is what the lines say, and how sure that is."""
import numpy as np
import pytest

from lcref import config, report
from lcref.evaluate import EVALS, ExactMatch, KeyRecall
from lcref.experiment import Figure
from lcref.report import wilson

FIGURE = Figure("exact_match", "Who copies?", x_label="letters", trained_to=20)


def lines(seeds, values=None):
    """Lines of three runs whose exact match falls with length, 0.1 apart between seeds."""
    values = values or {"rope": (1.0, 0.3, 0.0), "nope": (1.0, 0.5, 0.1), "hard_alibi": (1.0, 0.9, 0.8)}
    return [{"run": run, "seed": seed, "metrics": {"exact_match": {name: float(np.clip(value - 0.1 * seed * (value < 1), 0, 1))
                                                                   for name, value in zip(("10", "30", "100"), row)}}}
            for run, row in values.items() for seed in range(seeds)]


def sampled(lines, problems, make=ExactMatch, field="samples"):
    """The same lines with a config that says how many problems each share was measured on."""
    return [line | {"config": config.to_dict({"evals": (make(**{field: problems}),)})} for line in lines]


def test_summary_is_median_and_range():
    point = report.summary(lines(3), "exact_match")["rope"]["30"]
    assert point[:4] == pytest.approx((0.1, 0.2, 0.3, 3)) and point.trials is None


def test_summary_leaves_out_what_is_missing():
    some = [{"run": "a", "metrics": {"loss": {"10": None, "20": 2.0, "30": float("nan")}}}, {"run": "a", "metrics": {"loss": {"20": 4.0}}}]
    assert report.summary(some, "loss") == {"a": {"20": (2.0, 3.0, 4.0, 2, None)}}


def test_summary_names_the_metrics_there_are():
    with pytest.raises(KeyError, match="exact_matsch.*exact_match"):
        report.summary(lines(1), "exact_matsch")


def test_table_has_a_row_a_run_and_a_column_a_slice():
    rows = report.table(lines(1), FIGURE).splitlines()
    assert rows[0] == "exact match by letters"
    assert rows[1].split() == ["10", "30", "100"]
    assert [row.split() for row in rows[2:5]] == [["rope", "1.00", "0.30", "0.00"], ["nope", "1.00", "0.50", "0.10"],
                                                  ["hard_alibi", "1.00", "0.90*", "0.80*"]]


def test_table_shows_the_range_below_the_median():
    rows = report.table(lines(3), FIGURE).splitlines()
    assert "median of 3 seeds" in rows[0] and rows[2].split() == ["rope", "1.00", "0.20", "0.00"] and rows[3].split() == ["0.10..0.30"]


def test_a_run_with_fewer_seeds_says_so():
    """A seed that diverged leaves no line: what is left is not shown as if it were all."""
    some = [line for line in lines(3) if (line["run"], line["seed"]) != ("nope", 2)]
    rows = report.table(some, FIGURE).splitlines()
    assert "median of 2 to 3 seeds" in rows[0]
    assert [row[:14].strip() for row in rows[2:] if row[0] not in " *"] == ["rope", "nope (2 seeds)", "hard_alibi"]
    table = report.markdown(some, FIGURE)
    assert "| `nope` (2 seeds) |" in table and "| `rope` |" in table and "seeds" not in report.markdown(lines(3), FIGURE).partition("\n\n")[0]


def test_table_marks_the_lowest_where_lower_is_better():
    rows = report.table(lines(1), Figure("exact_match", lower_is_better=True)).splitlines()
    assert rows[2].split() == ["rope", "1.00", "0.30*", "0.00*"]


def test_a_figure_may_show_some_runs_only():
    figure = Figure("exact_match", runs=("rope", "nope"))
    changed = [line | {"run": "rope[model.layers=4]"} for line in lines(1) if line["run"] == "rope"]
    assert {line["run"] for line in report.shown(lines(1) + changed, figure)} == {"rope", "nope", "rope[model.layers=4]"}
    for text in (report.table(lines(1), figure), report.markdown(lines(1), figure)):
        assert "rope" in text and "hard_alibi" not in text


@pytest.mark.parametrize("width", [40, 60, 100])
def test_table_fits_the_terminal(width):
    many = [{"run": "rope", "metrics": {"exact_match": {str(n): 0.5 for n in range(10, 130, 10)}}} for _ in range(2)]
    rows = report.table(many, FIGURE, width).splitlines()
    assert max(map(len, rows)) <= width
    assert [word for row in rows for word in row.split() if word.isdigit()] == [str(n) for n in range(10, 130, 10)]


def test_no_negative_zero():
    assert "-0.00" not in report.table([{"run": "a", "metrics": {"recall": {"10": -0.001}}}], Figure("recall"))


# ---------------------------------------------------------------------------------------------------------------- sampling

@pytest.mark.parametrize("right, samples, low, high", [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
                                                       (1, 29, 0.0061, 0.1718)])
def test_wilson_intervals_of_newcombe(right, samples, low, high):
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
    assert wilson(right / samples, samples) == pytest.approx((low, high), abs=5e-5)
    assert wilson(1 - right / samples, samples) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_intervals_cover():
    """95 % of the intervals hold the true share, also near 1 (on average over the shares; at a single one it swings by a few percent)."""
    rng, covered = np.random.default_rng(0), []
    for share in np.linspace(0.02, 0.98, 40):
        low, high = wilson(rng.binomial(50, share, 2000) / 50, 50)
        covered.append(((low <= share) & (share <= high)).mean())
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01) and min(covered) > 0.85


def test_each_metric_has_the_problems_of_its_own_evaluation():
    """OutcomeMatch poses fewer problems than ExactMatch, in the same run."""
    evals = config.to_dict({"evals": (ExactMatch(samples=200), EVALS["outcome_match"](samples=50))})
    line = {"run": "a", "metrics": {"exact_match": {"10": 0.5}, "outcome_match": {"10": 0.5}}, "config": evals}
    assert [report.summary([line], metric)["a"]["10"].trials for metric in ("exact_match", "outcome_match")] == [200, 50]


@pytest.mark.parametrize("metric", report.TRIALS)
def test_evaluations_say_how_many_problems_they_pose(metric):
    """The field that TRIALS names is one of the evaluation of that name; asked twice as much, it is twice as sure."""
    ev = EVALS[metric](**{report.TRIALS[metric]: 50})
    line = {"run": "a", "metrics": {metric: {"10": 0.5}}, "config": config.to_dict({"evals": (EVALS["context_loss"](), ev)})}
    point = report.summary([line], metric)["a"]["10"]
    assert point.trials == 50 and point.sampling == wilson(0.5, 50)


def test_the_committed_results_say_how_many_problems_they_are_of():
    from lcref import results
    from lcref.experiment import shipped

    for name, metric, problems in (("copy", "exact_match", 200), ("text", "key_recall", 100)):
        lines = results.read(shipped("results") / "quickstart" / f"{name}.cpu.jsonl")
        assert {point.trials for points in report.summary(lines, metric).values() for point in points.values()} == {problems}
    assert {point.trials for points in report.summary(lines, "context_loss").values() for point in points.values()} == {None}


def test_tokens_of_one_answer_are_not_trials_of_their_own():
    (line,) = sampled([{"run": "a", "metrics": {"exact_match": {"10": 0.5}, "token_accuracy": {"10": 0.5}}}], 200)
    assert report.summary([line], "exact_match")["a"]["10"].trials == 200
    assert report.summary([line], "token_accuracy")["a"]["10"].trials is None


def test_the_interval_is_that_of_one_seed_however_many_there_are():
    """All seeds are asked the same problems: three seeds that agree are as unsure as one."""
    same = [{"run": "a", "seed": seed, "metrics": {"exact_match": {"10": 0.5}}} for seed in range(3)]
    assert report.summary(sampled(same, 200), "exact_match")["a"]["10"].sampling == wilson(0.5, 200)


def test_the_interval_is_shown_where_it_is_wider_than_the_range():
    points = report.summary(sampled(lines(3), 200), "exact_match")["rope"]
    assert points["30"].sampling is None and points["30"].high - points["30"].low > np.diff(wilson(0.2, 200))
    assert points["10"].sampling == pytest.approx((0.9812, 1.0), abs=1e-4) and points["100"].sampling == pytest.approx((0.0, 0.0188), abs=1e-4)
    assert report.summary(sampled(lines(3), 20), "exact_match")["rope"]["30"].sampling == wilson(points["30"].median, 20)


def test_table_of_one_seed_shows_the_interval_below_the_share():
    rows = report.table(sampled(lines(1), 200), FIGURE).splitlines()
    assert rows[0] == "exact match by letters: ~ the 95 % interval of a share of 200 problems"
    assert rows[2].split() == ["rope", "1.00", "0.30", "0.00"] and rows[3].split() == ["~0.98..1.00", "~0.24..0.37", "~0.00..0.02"]
    assert rows[4].split()[0] == "nope"


def test_table_of_seeds_shows_range_and_interval_in_rows_of_their_own():
    rows = report.table(sampled(lines(3), 200), FIGURE, width=140).splitlines()
    assert rows[0] == ("exact match by letters: median of 3 seeds; below it their range; ~ the 95 % interval of a share of 200 problems, "
                       "where that is wider")
    assert rows[2].split() == ["rope", "1.00", "0.20", "0.00"]
    assert rows[3].split() == ["0.10..0.30"] and rows[4].split() == ["~0.98..1.00", "~0.00..0.02"]
    at = rows[2].index("0.20")
    assert rows[3].index("0.10..0.30") <= at < rows[3].index("0.10..0.30") + 10 and rows[4][at:at + 4].isspace()
    assert max(map(len, report.table(sampled(lines(3), 200), FIGURE, width=60).splitlines())) <= 60


def test_markdown_says_what_sampling_leaves_open():
    text = report.markdown(sampled(lines(3), 200), FIGURE)
    table, words = text.split("\n\n")
    assert table == report.markdown(lines(3), FIGURE), "and the table is the same without"
    assert words == ("Each value is a share of 200 problems, the same ones for every seed; what that sampling alone leaves open (95 %): "
                     "0.00 to 0.02 at 0.00, 0.07 to 0.15 at 0.10, 0.43 to 0.57 at 0.50, 0.85 to 0.93 at 0.90, 0.98 to 1.00 at 1.00.")
    assert report.markdown(sampled(lines(3), 100, KeyRecall, "questions"), FIGURE) == table, "questions of another evaluation"


def test_runs_of_different_numbers_of_problems():
    mixed = sampled(lines(1)[:1], 50) + sampled(lines(1)[1:], 200)
    assert "a share of 50 problems or more" in report.table(mixed, FIGURE)


def test_slices_are_ordered_by_their_numbers():
    lines = [{"run": "a", "config": {}, "metrics": {"m": {"4096@0.9": 1.0, "512@0.5": 1.0, "4096@0.1": 0.0}, "n": {"b": 1.0, "a": 1.0}}}]
    assert report.slices(report.summary(lines, "m")) == ["512@0.5", "4096@0.1", "4096@0.9"]
    assert report.slices(report.summary(lines, "n")) == ["b", "a"]


# ------------------------------------------------------------------------------------------------------------ across a setting

ACROSS = Figure("recall", x_label="state", across="model.state", reaching=0.5)


def sized(sizes, seeds=(0,)):
    """Lines of runs whose recall is one half where there are as many pairs as they have numbers of state."""
    return [{"run": f"mamba_{n}", "seed": seed, "config": {"model": {"state": n}, "evals": [{"samples": 9}]},
             "metrics": {"recall": {str(pairs): float(1 / (1 + (pairs / n / (1 + seed)) ** 4)) for pairs in (2, 4, 8, 16, 32, 64, 128)}}}
            for n in sizes for seed in seeds]


@pytest.mark.parametrize("values, share, far", [({"8": 1.0, "32": 0.0}, 0.5, 16.0), ({"32": 0.0, "8": 1.0}, 0.75, 8 * 2**0.5),
                                                ({"8": 0.5, "16": 0.4}, 0.5, 8.0),
                                                ({"8": 0.4, "16": 0.1}, 0.5, None), ({"8": 0.4, "16": 0.9, "32": 0.1}, 0.5, None),
                                                ({"8": 1.0, "16": 0.5}, 0.5, None), ({"8": None}, 0.5, None), ({}, 0.5, None)])
def test_how_far_a_run_gets(values, share, far):
    assert report.reach(values, share) == (far if far is None else pytest.approx(far))


def test_a_figure_across_a_setting_is_one_line_of_many_runs():
    others = [{"run": "attention", "seed": 0, "config": {"model": {}}, "metrics": {"recall": {"8": 1.0, "16": 0.0}}}]
    found = report.summary(report.shown(sized((4, 8, 16, 32)) + others, ACROSS), "recall")
    assert {run: {name: point.median for name, point in points.items()} for run, points in found.items()} == {
        "mamba": {str(n): pytest.approx(n) for n in (4, 8, 16, 32)}}
    fitted = report.law(found["mamba"])
    assert fitted == pytest.approx((1.0, 1.0, 1.0)) and report.law({"4": found["mamba"]["4"]}) is None
    table = report.table(sized((4, 8, 16, 32)), ACROSS, 200)
    assert table.startswith("where recall crosses 0.5 by state: power law of the medians: mamba 1 x^1.00, R^2 1.00\n")
    assert "Power law of the medians, by least squares of logarithms: mamba 1 x^1.00, R^2 1.00." in report.markdown(sized((4, 8, 16)), ACROSS)
    point = report.summary(report.shown(sized((4, 8), seeds=(0, 1)), ACROSS), "recall")["mamba"]["8"]
    assert (point.low, point.high, point.seeds, point.trials) == (pytest.approx(8), pytest.approx(16), 2, None)


def test_runs_that_never_get_there_are_left_out():
    assert not report.with_lines([ACROSS], sized((400, 800))) and report.with_lines([ACROSS], sized((400, 8)))


def test_a_median_is_not_that_of_the_seeds_that_fail_early():
    """At 100 the first seed crosses one half within 128 pairs, the second at 200: the run is left out, not shown at 100."""
    found = report.summary(report.shown(sized((8, 100), seeds=(0, 1)), ACROSS), "recall")["mamba"]
    assert list(found) == ["8"] and found["8"].seeds == 2


def test_figures_without_a_number_are_left_out():
    """Some run was not asked for the metric, or it was never finite: the other figures are shown all the same."""
    line = {"run": "a", "seed": 0, "config": {}, "metrics": {"m": {"8": 1.0}, "n": {"8": None}}}
    assert report.with_lines([Figure("m"), Figure("n"), Figure("o")], [line]) == [Figure("m")]
    assert report.summary([line], "n") == {}


RANKING = Figure("exact_match", "Who goes furthest?", trained_to="data.max_length", ranking=True)


def ranked(values):
    """Lines of runs "scheme-task", trained to 20; values: run -> (at 10, at 30, at 100) of each seed."""
    return [{"run": run, "seed": seed, "config": {"data": {"max_length": 20}}, "metrics": {"exact_match": dict(zip(("10", "30", "100"), row))}}
            for run, rows in values.items() for seed, row in enumerate(rows)]


def test_a_ranking_is_the_mean_beyond_training_of_all_tasks():
    found = report.shown(ranked({"rope-copy": [(1, 0.2, 0), (1, 0.4, 0)], "rope-sort": [(1, 0.6, 0.2), (1, 0.8, 0)], "nope-copy": [(0, 1, 0.5)] * 2,
                                 "nope-sort": [(0, 0.5, 0)] * 2}), RANKING)
    points = {run: points["every length beyond training"] for run, points in report.summary(found, "exact_match").items()}
    assert list(points) == ["nope", "rope"] and points["nope"].median == pytest.approx(0.5)
    assert (points["rope"].low, points["rope"].high, points["rope"].seeds) == (pytest.approx(0.25), pytest.approx(0.3), 2)


def test_a_changed_run_does_not_change_the_ranking():
    rows = {"rope-copy": [(1, 0.5, 0.5)], "nope-copy": [(1, 1, 1)], "rope-sort": [(1, 0, 0)], "nope-sort": [(1, 1, 1)]}
    found = report.shown(ranked(rows | {"rope-copy[train.steps=10]": [(0, 0, 0)]}), RANKING)
    assert [(line["run"], line["metrics"]["exact_match"]["every length beyond training"]) for line in found] == [("nope", 1.0), ("rope", 0.25)]


def test_a_ranking_compares_like_with_like():
    """A scheme and seed whose runs are not all there is left out; what is measured within training alone is none."""
    found = report.shown(ranked({"rope-copy": [(1, 0.2, 0), (1, 0.4, 0)], "rope-sort": [(1, 0.6, 0.2)], "nope-copy": [(0, 1, 0.5)]}), RANKING)
    assert [(line["run"], line["seed"]) for line in found] == [("rope", 0)]
    assert not report.with_lines([RANKING], [line | {"metrics": {"exact_match": {"10": 1.0}}} for line in ranked({"rope-copy": [(1, 1, 1)]})])
