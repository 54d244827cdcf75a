"""Packing against a slow reading of its definition, and the properties that 2404.10830 claims for best-fit packing."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from lcref.data.packing import PACKINGS, pack, pieces, stream

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=25)


def packed(lengths, T, how):
    """Documents whose every token is its own place in the stream, so that a token says where it came from."""
    ends = np.cumsum(lengths)
    return pack(stream([np.arange(end - n, end) for end, n in zip(ends, lengths)]), T, how)


def all_rows(rows):
    return rows.rows(np.arange(len(rows)))


@pytest.mark.parametrize("how", PACKINGS)
@settings(deadline=None, max_examples=60)
@given(lengths=LENGTHS, T=st.integers(1, 17))
def test_every_field_follows_its_definition(how, lengths, T):
    rows = packed(lengths, T, how)
    got = all_rows(rows)
    document = np.repeat(np.arange(len(lengths)), lengths)
    seen = []
    for r in range(len(rows)):
        segment, position, before = 0, 0, None
        for t in range(T):
            here = {name: array[r, t] for name, array in got.items()}
            if rows.index[r, t] < 0:
                assert not any(here.values())
                continue
            token = here["inputs"]
            continues = before is not None and token == before + 1 and document[token] == document[before]
            segment, position = (segment, position + 1) if continues else (segment + 1, 0)
            follows = token + 1 < len(document) and document[token + 1] == document[token]
            assert (here["segments"], here["positions"], here["weights"]) == (segment, position, follows)
            assert here["targets"] == (token + 1 if follows else 0)
            before = token
            seen.append(token)
    assert sorted(seen) == list(range(sum(lengths)))  # every token once
    assert got["weights"].sum() == sum(lengths) - len(lengths)  # every token but the first of each document is predicted once


def test_concat_written_out():
    got = all_rows(pack(stream([np.array([10, 11, 12]), np.array([20, 21, 22, 23, 24]), np.array([30])]), 4, "concat"))
    expected = {"inputs": [[10, 11, 12, 20], [21, 22, 23, 24], [30, 0, 0, 0]],
                "targets": [[11, 12, 0, 21], [22, 23, 24, 0], [0, 0, 0, 0]],
                "weights": [[1, 1, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]],
                "segments": [[1, 1, 1, 2], [1, 1, 1, 1], [1, 0, 0, 0]],
                "positions": [[0, 1, 2, 0], [0, 1, 2, 3], [0, 0, 0, 0]]}
    assert {name: array.tolist() for name, array in got.items()} == expected
    assert {name: array.dtype.name for name, array in got.items()} == dict.fromkeys(expected, "int32") | {"weights": "float32"}


def test_best_fit_written_out():
    """Documents of 6, 3, 2 tokens, T = 4: the piece [0..3] fills a row, 3 and nothing fits beside it, the rest [4, 5] joins 2."""
    rows = packed([6, 3, 2], 4, "best_fit")
    assert rows.index.tolist() == [[0, 1, 2, 3], [6, 7, 8, -1], [4, 5, 9, 10]]
    got = all_rows(rows)
    assert got["targets"].tolist() == [[1, 2, 3, 4], [7, 8, 0, 0], [5, 0, 10, 0]]  # a cut piece still predicts what follows it
    assert got["segments"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 2, 2]]


def test_a_piece_that_continues_a_document_opens_a_segment_in_mid_row():
    rows = packed([7, 2], 5, "best_fit")  # the second row holds tokens 5, 6 and 7, 8: one place apart, two documents
    assert rows.index[1].tolist() == [5, 6, 7, 8, -1]
    assert all_rows(rows)["segments"][1].tolist() == [1, 1, 2, 2, 0]
    rows = packed([3, 7], 5, "best_fit")  # here the rest of the second document follows the first one, whole
    assert rows.index[1].tolist() == [0, 1, 2, 8, 9]
    assert all_rows(rows)["segments"][1].tolist() == [1, 1, 1, 2, 2]
    assert all_rows(rows)["positions"][1].tolist() == [0, 1, 2, 0, 1]


def first_fit(lengths, T):
    rooms = []
    for size in pieces(np.array(lengths), T)[1]:
        for row, room in enumerate(rooms):
            if room >= size:
                rooms[row] -= size
                break
        else:
            rooms.append(T - size)
    return len(rooms)


def documents_cut(index, lengths):
    """How many documents lie in more than one piece."""
    document = np.repeat(np.arange(len(lengths)), lengths)
    pieces_of = [set() for _ in lengths]
    for r, row in enumerate(index):
        for token in row[row >= 0]:
            pieces_of[document[token]].add(r)
    return sum(len(rows) > 1 for rows in pieces_of)


@pytest.mark.parametrize("seed", range(8))
def test_best_fit_needs_few_rows_and_cuts_few_documents(seed):
    rng, T = np.random.default_rng(seed), 64
    lengths = rng.geometric(1 / 30, 300)
    fitted, joined, padded = (packed(lengths, T, how).index for how in ("best_fit", "concat", "pad"))
    assert -(-lengths.sum() // T) == len(joined) <= len(fitted) <= first_fit(lengths, T) < len(padded)
    assert documents_cut(fitted, lengths) == (lengths > T).sum() < documents_cut(joined, lengths)


def test_best_fit_finds_the_perfect_packing_of_matching_pairs():
    small = np.arange(1, 32)
    assert len(packed([*small, *(64 - small)], 64, "best_fit")) == 31


def test_rows_may_be_asked_for_in_any_order():
    rows = packed([9, 4, 30, 2], 8, "best_fit")
    some, every = rows.rows(np.array([2, 0, 2])), all_rows(rows)
    for name in every:
        np.testing.assert_array_equal(some[name], every[name][[2, 0, 2]])


def test_what_cannot_be_packed():
    with pytest.raises(ValueError, match="no documents"):
        stream([])
    with pytest.raises(ValueError, match="document 1 has no tokens"):
        stream([np.ones(3, int), np.ones(0, int)])
    with pytest.raises(ValueError, match="rows of 0 tokens"):
        pack(stream([np.ones(3, int)]), 0)
    with pytest.raises(KeyError, match="unknown packing 'bestfit'; there is: concat, best_fit, pad"):
        pack(stream([np.ones(3, int)]), 4, "bestfit")
