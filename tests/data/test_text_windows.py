"""Evaluation windows: inside single documents, spread over all that are long enough, the same for the same seed."""

import numpy as np
import pytest

from lcref.data import corpora
from lcref.data.packing import stream
from lcref.data.text import Text
from lcref.data.windows import windows

LENGTHS = [5, 100, 31, 60, 12]
NAMES = list("abcde")
DOCUMENTS = stream([np.arange(1000 * d, 1000 * d + n) for d, n in enumerate(LENGTHS)])  # a token tells its document and place


@pytest.mark.parametrize("count", [1, 3, 9, 17, 40])
@pytest.mark.parametrize("length", [1, 10, 30, 59, 99])
def test_windows_are_contiguous_and_inside_one_document(count, length):
    got = windows(DOCUMENTS, NAMES, 0, count, length)
    assert got.shape == (count, length + 1) and got.dtype == np.int32
    assert (np.diff(got, axis=1) == 1).all()
    document, place = np.divmod(got, 1000)
    assert (document == document[:, :1]).all() and (place < np.array(LENGTHS)[document]).all()


@pytest.mark.parametrize("seed", range(20))
def test_windows_are_spread_and_do_not_overlap_while_there_is_room(seed):
    capacity = {d: n // 11 for d, n in enumerate(LENGTHS) if n > 10}  # 9, 2, 5 and 1 windows of 10 + 1 tokens
    for count in range(1, sum(capacity.values()) + 1):
        got = windows(DOCUMENTS, NAMES, seed, count, 10)
        assert len(np.unique(got)) == got.size
        shares = np.bincount(got[:, 0] // 1000, minlength=5)
        for d, most in capacity.items():  # a document gives less than another only when it has no more to give
            assert shares[d] == most or shares[d] >= shares.max() - 1


def test_every_place_can_be_drawn():
    begins = np.unique([windows(DOCUMENTS, NAMES, seed, 2, 58)[:, 0] for seed in range(1000)])
    assert begins.tolist() == [*range(1000, 1042), 3000, 3001]  # every place in the two documents that are long enough


def test_the_seed_decides():
    text = Text()
    np.testing.assert_array_equal(text.windows(1, 8, 512), Text(length=64).windows(np.random.default_rng(1), 8, 512))
    assert (text.windows(1, 8, 512) != text.windows(2, 8, 512)).any()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_windows_come_from_held_out_documents(split):
    got = Text().windows(0, 12, 8192, split)
    held_out = corpora.documents("stdlib", split)
    owners = [[name for name, text in held_out.items() if bytes(t for t in row.tolist() if t < 256) in text] for row in got]
    assert all(len(names) == 1 for names in owners)
    assert len({names[0] for names in owners}) == 12  # as many documents as windows, where there are so many


def test_there_are_windows_far_past_any_training_length():
    assert Text().windows(0, 4, 32768).shape == (4, 32769)


def test_a_length_past_every_document_names_the_longest():
    longest = max(corpora.documents("stdlib", "validation").items(), key=lambda item: len(item[1]))
    message = f"validation split of stdlib: no document has 1000001 tokens.*{longest[0]}, has {len(longest[1]) + 1}"
    with pytest.raises(ValueError, match=message):
        Text().windows(0, 4, 1_000_000)
    assert len(Text().windows(0, 2, len(longest[1]))) == 2  # the longest one itself still fits
    with pytest.raises(ValueError, match="0 windows of length 8"):
        Text().windows(0, 0, 8)
