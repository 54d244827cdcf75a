"""Hints for sorting, and adding one: by hand, and what is asked for."""

import numpy as np
import pytest

from lcref.tasks import BOS, CONTENT, EOS, SEP, TASKS, Clustered, Crowded, Sort, SortDuplicates


def row(task, numbers, question):
    """The answer that the solver gives, by name, to one written problem."""
    ids = {name: i for i, name in enumerate(task.tokens)}
    tokens = np.array([[BOS, *(ids[str(n)] for n in numbers), task.marker, *(ids[str(n)] for n in question)]])
    return task.decode([int(task.solve(tokens)[0, -1])])[0]


@pytest.mark.parametrize("name, numbers, question, answer", [
    ("successor", (33, 19, 106), (19,), "33"), ("successor", (33, 19, 106), (106,), "$"), ("successor", (7, 7, 9), (7,), "9"),
    ("predecessor", (33, 19, 106), (33,), "19"), ("predecessor", (33, 19, 106), (19,), "$"), ("predecessor", (7, 9, 9), (9,), "7"),
    ("count", (33, 19, 33), (33,), "#2"), ("count", (33, 19, 33), (19,), "#1"),
    ("fill", (33, 19, 106), (19, "?", 106), "33"), ("fill", (7, 7, 9), (7, "?", 9), "7")])
def test_hints_by_hand(name, numbers, question, answer):
    assert row(TASKS[name](), numbers, question) == answer


@pytest.mark.parametrize("duplicates", [False, True])
@pytest.mark.parametrize("name", ["successor", "predecessor", "count", "fill"])
def test_hints_ask_about_the_numbers_that_sorting_draws(name, duplicates):
    task = TASKS[name](values=30, duplicates=duplicates)
    batch = task.sample(np.random.default_rng(0), 500, 20)
    numbers = batch.inputs[:, 1:21] - CONTENT
    assert ((0 <= numbers) & (numbers < 30)).all()
    repeats = np.array([len(set(row)) < 20 for row in numbers.tolist()])
    assert repeats.any() == (duplicates or name == "count")
    if name != "fill":
        asked = batch.inputs[:, 22] - CONTENT
        assert all(number in row for number, row in zip(asked, numbers.tolist())) and len(np.unique(asked)) > 20


@pytest.mark.parametrize("duplicates", [False, True])
def test_crowded_lists_are_as_long_ones(duplicates):
    """Twenty out of 500, anywhere: in the middle row they span as much as 20 of a tenth of the values, in some all but all of them."""
    task = Crowded(500, duplicates)
    numbers = np.sort(task.sample(np.random.default_rng(0), 4000, 20).inputs[:, 1:21] - CONTENT, axis=1)
    gaps, span = np.diff(numbers, axis=1), numbers[:, -1] - numbers[:, 0]
    assert numbers.min() == 0 and numbers.max() == 499 and len(np.unique(numbers)) == 500
    assert span.min() < 20 and span.max() > 480 and abs(np.median(span) / (500 * (5 if duplicates else 20)) ** 0.5 - 0.95) < 0.1
    close = (gaps == (0 if duplicates else 1)).mean()
    plain = np.diff(np.sort((SortDuplicates if duplicates else Sort)(500).sample(np.random.default_rng(0), 4000, 20).inputs[:, 1:21], axis=1), axis=1)
    assert close > 5 * (plain == (0 if duplicates else 1)).mean()
    assert (gaps.min() == 0) == duplicates


def test_crowded_lists_of_few_values():
    assert Crowded(3, duplicates=True).sample(np.random.default_rng(0), 50, 40).weights.sum() == 50 * 41
    assert sorted(Crowded(5).sample(np.random.default_rng(0), 1, 5).inputs[0, 1:6] - CONTENT) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="too long"):
        Crowded(5).sample(np.random.default_rng(0), 1, 6)


def test_clustered_lists_are_close_and_far_at_every_place():
    """Each list holds neighbours and numbers far from them; the first and the last value are as often beside a neighbour as those between."""
    rows, n = 8000, 20
    numbers = Clustered(500).sample(np.random.default_rng(0), rows, n).inputs[:, 1:n + 1] - CONTENT
    assert (np.diff(numbers, axis=1) > 0).mean().round(1) == 0.5                              # in random order
    numbers = np.sort(numbers, axis=1)
    gaps = np.diff(numbers, axis=1)
    assert gaps.min() == 1 and ((gaps == 1).any(1) & (gaps >= 30).any(1)).mean() > 0.9
    pairs = np.bincount(numbers[:, :-1][gaps == 1], minlength=499) / rows                     # how often a list holds v and v + 1
    ends = (pairs[:10].mean() + pairs[-10:].mean()) / 2
    assert pairs.min() > 0.002 and 0.5 < ends / pairs[200:300].mean() < 2
    numbers = np.sort(Crowded(500).sample(np.random.default_rng(0), rows, n).inputs[:, 1:n + 1] - CONTENT, axis=1)
    crowded = np.bincount(numbers[:, :-1][np.diff(numbers, axis=1) == 1], minlength=499) / rows
    assert (crowded[:10].mean() + crowded[-10:].mean()) / 2 < 0.5 * crowded[200:300].mean()   # which those in an interval are not


def test_clustered_lists_are_drawn_by_their_weights():
    """Pairs out of five values, as often as one draw after another without replacement gives them."""
    rows = 200_000
    expected = np.zeros((5, 5))
    for centre, first, second in np.ndindex(5, 5, 5):
        weights = 1 / (1 + np.abs(np.arange(5) - centre))
        if first != second:
            chance = weights[first] / weights.sum() * weights[second] / (weights.sum() - weights[first])
            expected[min(first, second), max(first, second)] += chance / 5
    pairs = np.sort(Clustered(5).draw(np.random.default_rng(0), rows, 2), axis=1)
    found = np.bincount(pairs[:, 0] * 5 + pairs[:, 1], minlength=25).reshape(5, 5) / rows
    assert expected.sum().round(6) == 1 and np.ptp(expected[expected > 0]) > 0.05                # a tolerance of .0045 tells them from even ones
    assert np.abs(found - expected).max() < 4 * (0.25 / rows) ** 0.5


@pytest.mark.parametrize("length", [1, 7])
def test_clustered_lists_of_few_values(length):
    numbers = Clustered(7).sample(np.random.default_rng(0), 50, length).inputs[:, 1:length + 1] - CONTENT
    assert all(len(set(row)) == length for row in numbers.tolist()) and numbers.min() == 0 and numbers.max() == 6
    with pytest.raises(ValueError, match="too long"):
        Clustered(7).sample(np.random.default_rng(0), 1, 8)


def test_ends_of_the_list_are_asked_for_too():
    for name in ("successor", "predecessor"):
        batch = TASKS[name]().sample(np.random.default_rng(0), 2000, 10)
        assert 0.07 < (batch.targets[:, -1] == EOS).mean() < 0.13


def test_counts_are_uniform():
    batch = TASKS["count"]().sample(np.random.default_rng(0), 8000, 20)
    counts = np.bincount(batch.targets[:, -1] - CONTENT - 127)[1:]
    assert len(counts) == 8 and (abs(counts / 8000 - 1 / 8) < 0.02).all()
    assert TASKS["count"]().sample(np.random.default_rng(0), 200, 3).targets[:, -1].max() == CONTENT + 127 + 3


@pytest.mark.parametrize("name", ["increment", "increment_reversed"])
def test_carries_of_every_length_occur(name):
    batch = TASKS[name]().sample(np.random.default_rng(0), 4000, 8)
    digits = batch.inputs[:, 1:9] - CONTENT
    digits = digits if name == "increment" else digits[:, ::-1]
    nines = (np.cumprod(digits[:, ::-1] == 9, axis=1)).sum(1)
    shares = np.bincount(nines, minlength=9) / 4000
    assert (abs(shares[:8] - 1 / 8) < 0.025).all() and shares[8] == 0, "no number grows longer"


def test_increment_by_hand():
    task = TASKS["increment"]()
    ids = {name: i for i, name in enumerate(task.tokens)}
    ask = lambda task, text: "".join(task.decode(task.solve(np.array([[BOS, *(ids[d] for d in text), SEP]]))[0, len(text) + 1:]))
    assert ask(task, "1399") == "1400$" and ask(task, "0") == "1$" and ask(TASKS["increment_reversed"](), "9931") == "0041$"
