"""Claims: conditions as they are written, verdicts by results lines alone, and that what is declared can be decided."""
import pytest

from lcref import claims, showing
from lcref.claims import Claim, flat, judge, markdown, mean, of, rise, within
from lcref.experiment import experiments, load

A, B = of("a", "loss", 128), of("b", "loss", 128)


def some(values):
    """Lines of runs a and b with one loss a seed."""
    return [{"run": run, "seed": seed, "metrics": {"loss": {"128": value}}} for run, column in values.items() for seed, value in enumerate(column)]


def test_a_condition_reads_as_it_is_written():
    assert str(A >= 1.2 * B) == "a loss at 128 >= 1.2 x b loss at 128"
    assert str(of("a", "key_recall", "64@0.5") < 0.2) == "a key recall at 64@0.5 < 0.2"
    assert str(A - 0.15 > B) == "a loss at 128 - 0.15 > b loss at 128"
    assert str(within(A, 0.02, 2 * B)) == "a loss at 128 within 2 % of 2 x b loss at 128"


@pytest.mark.parametrize("condition, holds", [
    (A < B, True), (B < A, False), (A < 2.0, True), (A <= 1.5, True), (A < 1.5, False), (A > 1.5, False), (A >= 1.5, True), (2 * A > B + 0.5, True),
    (2 * A > B + 1.5, False), (B - 1 >= A / 2, True), (within(A, 0.1, 1.6), True), (within(A, 0.01, 1.6), False), (within(B, 0.34, A), True)])
def test_conditions_are_arithmetic_on_medians(condition, holds):
    lines = some({"a": [1.0, 1.5, 9.0], "b": [2.0, 0.0, 2.0]})
    assert judge(Claim("x", "", (condition,)), lines)[1][0].holds is holds


@pytest.mark.parametrize("conditions, verdict", [((A < B, A < 3), "reproduced"), ((A < B, A > 3), "partly"), ((A > B, A > 3), "not"),
                                                 ((A < B, of("c", "loss", 128) < 3), "not run"), ((A < B, of("a", "loss", 999) < 3), "not run"),
                                                 ((A < B, of("a", "recall", 128) < 3), "not run")])
def test_verdicts(conditions, verdict):
    assert judge(Claim("x", "", conditions), some({"a": [1.0], "b": [2.0]}))[0] == verdict
    assert verdict in claims.VERDICTS


def test_seeds_are_counted_one_by_one():
    """The medians agree with the condition, one seed of three does not; a seed that only one of the runs has is not counted."""
    lines = some({"a": [1.0, 1.0, 3.0], "b": [2.0, 2.0, 2.0, 2.0]})
    _, (found,) = judge(Claim("x", "", (A < B,)), lines)
    assert (found.left, found.right, found.holds, found.agreeing, found.seeds) == (1.0, 2.0, True, 2, 3)
    assert str(found) == "a loss at 128 < b loss at 128: 1.000 < 2.000, yes, 2 of 3 seeds"
    lines[0]["metrics"]["loss"]["128"] = None
    _, (found,) = judge(Claim("x", "", (A < B,)), lines)
    assert str(found) == "a loss at 128 < b loss at 128: nan < 2.000, no, 1 of 3 seeds", "one seed that came to nothing, and the claim rests on nothing"


def test_numbers_that_were_never_finite():
    lines = some({"a": [None, None], "b": [None, None]})
    assert judge(Claim("x", "", (A < B, A < 3)), lines)[0] == "not"


def test_a_flat_loss_stays_within_a_share_at_every_slice():
    conditions = flat("a", ("loss", "other"), (512, 1024), 128, 0.05)
    assert conditions == tuple(of("a", metric, each) <= 1.05 * of("a", metric, 128) for each in (512, 1024) for metric in ("loss", "other"))


def test_a_rise_is_a_difference_of_two_slices():
    find = lambda run, metric, name: {"a": {"128": 1.0, "512": 1.5}, "b": {"128": 2.0, "512": 4.0}}[run].get(name)
    a, b = (rise(run, "loss", 512, 128) for run in "ab")
    assert (a.value(find), (0.25 * b).value(find), (b + 1).value(find), rise("a", "loss", 512, 64).value(find)) == (0.5, 0.5, 3.0, None)
    assert str(0.25 * b) == "0.25 x b loss at 512 above that at 128" and (a <= 0.25 * b).holds(find) and not (a < 0.2 * b).holds(find)


def test_a_mean_is_of_numbers_that_are_all_there():
    lines = some({"a": [1.0, 3.0, 3.0], "b": [2.0, 5.0, 4.0]})
    both = mean("both", [A, 2 * B])
    verdict, (found,) = judge(Claim("x", "", (both >= 5.0,)), lines)
    assert verdict == "reproduced" and (found.left, found.agreeing, found.seeds) == (5.5, 2, 3)                # 3 and 8; 2.5, 6.5, 5.5 by seed
    assert str(found.condition) == "mean of both >= 5" and str(2 * both - 1 < A) == "2 x mean of both - 1 < a loss at 128"
    assert Claim("x", "", (mean("means", [both, A]) > B,)).runs() == ["a", "b"]
    assert judge(Claim("x", "", (mean("both", [A, of("a", "loss", 999)]) > 0,)), lines)[0] == "not run"
    with pytest.raises(ValueError, match="the mean 'none' needs numbers"):
        mean("none", [])


def test_nothing_was_run():
    verdict, (found,) = judge(Claim("x", "", (A < B,)), [])
    assert verdict == "not run" and str(found) == "a loss at 128 < b loss at 128: not run"


def test_the_page():
    claim = Claim("x", "A learns better.", (A < B, A < 1), source="arXiv 1", published="by far", amended="b is another one")
    assert markdown([claim, Claim("y", "Ours.", (A < 5,))], some({"a": [1.0], "b": [2.0]})).splitlines() == [
        "- **partly**: A learns better. (arXiv 1: by far)", "  - amended with the results known: b is another one",
        "  - a loss at 128 < b loss at 128: 1.000 < 2.000, yes", "  - a loss at 128 < 1: 1.000 < 1.000, no",
        "- **reproduced**: Ours.", "  - a loss at 128 < 5: 1.000 < 5.000, yes"]


def test_what_is_no_claim():
    with pytest.raises(ValueError, match="claim 'x' needs conditions"):
        Claim("x", "")
    with pytest.raises(ValueError, match="claim 'x' needs conditions"):
        Claim("x", "", (True,))
    with pytest.raises(TypeError, match="no yes or no before its results are looked up: a loss at 128 < b loss at 128"):
        A < B < 3  # noqa: B015 (Python would keep the second half alone)


def test_what_no_training_would_decide():
    claim = Claim("x", "", (A < B, rise("a", "loss", 512, 64) < 1, mean("both", [A, of("a", "recall", 128)]) > 0))
    measured = {"a": {"loss": ["128", "512"]}, "b": {"loss": ["128"]}}
    assert claims.undecidable(claim, measured) == ["a loss at 64", "a recall at 128"]
    assert claims.undecidable(claim, {"a": None}) == ["b loss at 128"], "None: what a is measured on is not known yet"


@pytest.mark.parametrize("name", experiments())
def test_declared_claims_can_be_decided(name):
    """Every number a claim asks for is one that the declared runs of size cpu measure: the run is there, and an evaluation has the slice."""
    (experiment,) = load(name)
    names = [claim.name for claim in experiment.claims]
    assert names and len(set(names)) == len(names) and all(isinstance(claim, Claim) for claim in experiment.claims)
    for claim in experiment.claims:
        assert showing.undecidable(experiment, claim, "cpu") == [], claim.name
