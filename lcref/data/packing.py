"""Packing: documents of any length -> rows of exactly T tokens, in which no document sees or predicts another.

    concat     lay all documents end to end and cut every T tokens: no padding, but most documents are cut somewhere
    best_fit   cut only documents longer than T; then, longest first, put each piece in the fullest row that still holds it
               (best-fit-decreasing, arXiv 2404.10830): a little padding, and short documents stay whole
    pad        one piece per row: wasteful and obviously right, so the other two are tested against it

A packing is nothing but an index, int [R,T]: which token of the stream stands where, -1 for padding. The rest follows from it:

    inputs     the tokens themselves; every token of the stream is an input exactly once
    targets    the next token of the same document (also where the row ends before the document does)
    weights    1 where there is such a token; 0 at a document's last token and at padding
    segments   1, 2, ... by piece, from left to right in the row, 0 at padding: attention stays within equal segments
    positions  restart at 0 with every piece
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Stream:
    """Documents laid end to end, plus one entry more, so that "the next token" exists everywhere."""

    tokens: np.ndarray  # [N+1], the last is unused
    first: np.ndarray  # bool [N+1]: does a document begin here? True at the end as well
    starts: np.ndarray  # [documents]
    lengths: np.ndarray  # [documents]


def stream(documents: Iterable[np.ndarray]) -> Stream:
    """Token arrays, one per document -> Stream. ValueError when there are none, or one is empty."""
    documents = [np.asarray(document) for document in documents]
    lengths = np.array([len(document) for document in documents], np.int64)
    if not len(documents) or not lengths.all():
        raise ValueError("no documents to pack" if not len(documents) else f"document {int(lengths.argmin())} has no tokens")
    if lengths.sum() >= 2**31 - 1:
        raise ValueError(f"{lengths.sum()} tokens are too many to be packed in memory (the limit is 2^31)")
    tokens = np.concatenate([*documents, np.zeros(1, documents[0].dtype)])
    starts = np.cumsum(lengths) - lengths
    first = np.zeros(len(tokens), bool)
    first[starts] = first[-1] = True
    return Stream(tokens, first, starts, lengths)


# ------------------------------------------------------------------------------------------ document lengths -> index [R,T]

def concat(lengths: np.ndarray, T: int) -> np.ndarray:
    """Concat-and-chunk: ceil(N / T) rows, padding only at the end of the last. O(N)."""
    total = int(np.sum(lengths))
    index = np.full(-(-total // T) * T, -1, np.int32)
    index[:total] = np.arange(total, dtype=np.int32)
    return index.reshape(-1, T)


def pad(lengths: np.ndarray, T: int) -> np.ndarray:
    """One piece per row. O(R T)."""
    starts, sizes = pieces(lengths, T)
    return place(starts, sizes, np.arange(len(sizes)), np.zeros(len(sizes), np.int64), T)


def best_fit(lengths: np.ndarray, T: int) -> np.ndarray:
    """Best-fit-decreasing bin packing of the pieces. O(P log P) for P pieces (and P moves in a sorted list of open rows)."""
    starts, sizes = pieces(lengths, T)
    rows, columns = np.zeros_like(sizes), np.zeros_like(sizes)
    rooms, opened = [], 0  # (free room, row) of every row that still has room, fullest first
    for piece in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[piece])
        fullest = bisect.bisect_left(rooms, (size, -1))
        if fullest < len(rooms):
            room, row = rooms.pop(fullest)
        else:
            room, row, opened = T, opened, opened + 1
        rows[piece], columns[piece] = row, T - room
        if room > size:
            bisect.insort(rooms, (room - size, row))
    return place(starts, sizes, rows, columns, T)


PACKINGS = {"concat": concat, "best_fit": best_fit, "pad": pad}


def pieces(lengths: np.ndarray, T: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and size of every piece: each document cut every T tokens, the rest of it (if any) as its last piece."""
    lengths = np.asarray(lengths, np.int64)
    counts = -(-lengths // T)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, ... in each document
    sizes = np.minimum(np.repeat(lengths, counts) - within * T, T)
    return np.repeat(np.cumsum(lengths) - lengths, counts) + within * T, sizes


def place(starts, sizes, rows, columns, T: int) -> np.ndarray:
    """Index [R,T] with piece i, stream[starts[i] : starts[i] + sizes[i]], written at row rows[i] from column columns[i] on."""
    index = np.full((int(rows.max()) + 1, T), -1, np.int32)
    for start, size, row, column in np.stack([starts, sizes, rows, columns], axis=1).tolist():
        index[row, column:column + size] = np.arange(start, start + size)
    return index


# ------------------------------------------------------------------------------------------------ index -> what a model reads

@dataclass(frozen=True, eq=False)
class Packed:
    """A stream and its index. Rows are made when asked for, so memory stays at 7 bytes a token whatever a batch holds."""

    stream: Stream
    index: np.ndarray  # int32 [R,T]

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, which: np.ndarray) -> dict[str, np.ndarray]:
        """Rows `which` [n] -> inputs, targets, segments, positions int32 [n,T] and weights float32 [n,T]. O(n T)."""
        index = self.index[which]
        tokens, first = self.stream.tokens, self.stream.first
        real = index >= 0
        scored = ~first[index + 1]  # padding is -1, and a document begins at 0: never scored
        begins = first[index] & real
        begins[:, 0] = real[:, 0]  # a row's first token opens a piece even when it continues a document,
        begins[:, 1:] |= (index[:, 1:] != index[:, :-1] + 1) & real[:, 1:]  # and so does the rest of a document cut elsewhere
        column = np.arange(index.shape[1], dtype=np.int32)
        opened = np.maximum.accumulate(np.where(begins, column, 0), axis=1)
        return {"inputs": np.where(real, tokens[index], 0).astype(np.int32),
                "targets": np.where(scored, tokens[index + 1], 0).astype(np.int32),
                "weights": scored.astype(np.float32),
                "segments": np.cumsum(begins, axis=1, dtype=np.int32) * real,
                "positions": np.where(real, column - opened, 0).astype(np.int32)}


def pack(documents: Stream, T: int, how: str = "concat") -> Packed:
    """A stream of documents -> rows of T tokens. KeyError for a packing that is not in PACKINGS, ValueError for T < 1."""
    if how not in PACKINGS:
        raise KeyError(f"unknown packing {how!r}; there is: {', '.join(PACKINGS)}")
    if T < 1:
        raise ValueError(f"rows of {T} tokens: the length must be 1 or more")
    return Packed(documents, PACKINGS[how](documents.lengths, T))
