import numpy as np
import pytest

from lcref.evaluate import ExactMatch
from lcref.generate import generate
from lcref.nn.sorting_by_hand import put, sorting_decoder
from lcref.tasks import BOS, CONTENT, EOS, PAD, SEP, Sort, SortDuplicates, TaskSource


def share(decoder, task, *lengths, samples=20):
    return list(ExactMatch(lengths, samples=samples)(decoder, TaskSource(task, 2, 20))["exact_match"].values())


@pytest.mark.parametrize("task, lengths", [(Sort(60), (1, 2, 20, 60)), (SortDuplicates(60), (1, 2, 20, 100, 300)), (SortDuplicates(3), (2, 20, 60))])
def test_it_sorts_lists_of_any_length(task, lengths):
    assert share(sorting_decoder(task.values), task, *lengths) == [1.0] * len(lengths)


def test_it_writes_what_it_is_scored_on():
    written = generate(sorting_decoder(12), np.array([[BOS, *(CONTENT + np.array([7, 3, 11, 7, 0, 3, 7])), SEP]]), 8, temperature=0)
    assert np.asarray(written).tolist() == [[*(CONTENT + np.array([0, 3, 3, 7, 7, 7, 11])), EOS]]


def test_counting_is_what_head_two_is_for():
    """Without what it reads a number is written once: lists without repeats are sorted, those with repeats are not."""
    decoder = sorting_decoder(30)
    out = np.array(decoder.blocks[1].mixer.out.kernel[...])
    out[:, 2 * decoder.cfg.vocab + 1] = 0
    put(decoder.blocks[1].mixer.out.kernel, out)
    assert share(decoder, Sort(30), 20) == [1.0] and share(decoder, SortDuplicates(30), 20) == [0.0]


def test_a_value_may_occur_so_often_and_not_much_oftener():
    width = 2 * 4 * 50 + 1                     # one shape, so one program; what comes after the token that is asked changes nothing

    def says(decoder, occurrences):
        """What follows where all but one of so many are written."""
        rows = [[BOS, *[CONTENT + 1] * n, SEP, *[CONTENT + 1] * (n - 1)] for n in occurrences]
        tokens = np.array([row + [PAD] * (width - len(row)) for row in rows])
        return np.asarray(decoder(tokens))[np.arange(len(rows)), [len(row) - 1 for row in rows]].argmax(-1).tolist()
    for most in (1, 5, 50):
        found = says(sorting_decoder(2, most), [*range(2, most + 1), 4 * most])
        assert found == [CONTENT + 1] * (most - 1) + [EOS]


@pytest.mark.parametrize("kwargs", [dict(values=0), dict(values=3, most=0)])
def test_impossible_sizes_are_named(kwargs):
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        sorting_decoder(**kwargs)
