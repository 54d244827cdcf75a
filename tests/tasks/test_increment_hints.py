import numpy as np
import pytest

from lcref.tasks import CONTENT, HintedSource, Increment, IncrementReversed, NextDigit, Nines
from lcref.tasks.increment_hints import MOST, NEXT, NINES


def ask(task, digits, *question):
    """The answer's name."""
    row = np.array([[1, *(CONTENT + np.array(digits)), *question]])
    return task.tokens[task.solve(row)[0].max()]


def test_by_hand():
    assert ask(Nines(), [8, 6, 9, 9], NINES) == "#2" and ask(Nines(), [9, 6, 9, 8], NINES) == "#0" and ask(Nines(), [9, 9, 9], NINES) == "#3"
    assert ask(Nines(reverse=True), [9, 9, 6, 8], NINES) == "#2" and ask(Nines(reverse=True), [8, 9, 9], NINES) == "#0"
    assert ask(NextDigit(), [8, 6, 9, 9], NEXT, CONTENT + 3) == "4" and ask(NextDigit(), [8, 6], NEXT, CONTENT + 9) == "0"


@pytest.mark.parametrize("reverse", [False, True])
def test_nines_of_every_number_are_asked_for(reverse):
    batch = Nines(reverse).sample(np.random.default_rng(0), 2000, 6)
    counts = np.bincount(batch.targets[:, -1] - CONTENT - 10, minlength=6)
    assert len(counts) == 6 and counts.min() > 250, "0 .. 5 of 6 digits, alike"


@pytest.mark.parametrize("task, reverse", [(Increment(), False), (IncrementReversed(), True)])
@pytest.mark.parametrize("hint", [Nines, NextDigit])
def test_hints_share_the_numbers_of_the_task(task, reverse, hint):
    source = HintedSource(task, 2, 10, hint=hint(reverse), fraction=0.5)
    batch = source.batch(np.random.default_rng(0), 400)
    asked = (batch["inputs"] == (NINES if hint is Nines else NEXT)).any(1)
    assert 120 < asked.sum() < 280 and batch["inputs"].max() < source.vocab and (batch["weights"][asked].sum(1) == 1).all()
    one, other = (np.random.default_rng(5) for _ in range(2))
    assert (task.sample(one, 9, 7).inputs[:, 1:8] == hint(reverse).sample(other, 9, 7).inputs[:, 1:8]).all()


def test_more_nines_than_have_a_name_are_told_as_the_most():
    for nines in (MOST - 1, MOST, MOST + 5):
        assert ask(Nines(), [3, *[9] * nines], NINES) == f"#{min(nines, MOST)}"
    batch = Nines().sample(np.random.default_rng(0), 500, 40)
    assert (batch.targets[:, -1] == Nines().solve(batch.inputs)[:, 41]).all() and batch.targets[:, -1].max() == CONTENT + 10 + MOST


def test_rows_of_several_lengths():
    with pytest.raises(ValueError, match="prompts of one length"):
        Nines().solve(np.array([[1, 16, NINES, 0], [1, 16, 17, NINES]]))
