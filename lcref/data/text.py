"""Text as a source of training batches and of evaluation windows.

    text = Text(corpus="stdlib", length=256)
    batch = text.batch(np.random.default_rng(0), 32)          what a training step reads: packed rows of the training split
    tokens = text.windows(0, count=16, length=4096)           what evaluation reads: whole stretches of held-out documents

A corpus is read, encoded and packed once per process, whatever number of Text objects name it; a batch costs only its own size.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from lcref.data import corpora, windows
from lcref.data.packing import PACKINGS, Packed, Stream, pack, stream
from lcref.data.splits import SPLITS
from lcref.data.tokens import VOCAB, encode


@dataclass(frozen=True)
class Text:
    """Rows of `length` byte tokens from one split of a corpus (see corpora.py for what may be named, packing.py for how).

    KeyError for an unknown corpus (when it is first read) or packing, ValueError for an unknown split, a length below 1, no text.
    Cost of a batch of 32 x 256: about 0.15 ms; before the first one, reading and packing stdlib takes about 0.2 s and 60 MB.
    """

    corpus: str = "stdlib"
    length: int = 256
    split: str = "train"
    packing: str = "concat"

    def __post_init__(self):
        if self.length < 1:
            raise ValueError(f"length {self.length}: rows need 1 token or more")
        if self.split not in SPLITS:
            raise ValueError(f"unknown split {self.split!r}; there is: {', '.join(SPLITS)}")
        if self.packing not in PACKINGS:
            raise KeyError(f"unknown packing {self.packing!r}; there is: {', '.join(PACKINGS)}")

    @property
    def vocab(self) -> int:
        """257: the bytes, and BOS at the start of a document."""
        return VOCAB

    @property
    def width(self) -> int:
        """T of every batch."""
        return self.length

    def batch(self, rng: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
        """inputs, targets, segments, positions int32 and weights float32, each [batch_size, length], of rows drawn by `rng`."""
        rows = packed(self.corpus, self.split, self.length, self.packing)
        return rows.rows(rng.integers(0, len(rows), batch_size))

    def windows(self, seed: int | np.random.Generator, count: int, length: int, split: str = "validation") -> np.ndarray:
        """int32 [count, length + 1], each row inside one document of `split`; at any length; see windows.py."""
        held_out, names = tokens(self.corpus, split), list(corpora.documents(self.corpus, split))
        try:
            return windows.windows(held_out, names, seed, count, length)
        except ValueError as error:
            raise ValueError(f"{split} split of {self.corpus}: {error}") from error

    def stream(self, count: int, split: str = "validation") -> np.ndarray:
        """int32 [count + 1]: the documents of `split` end to end, from the first one again when all are used up."""
        return np.resize(tokens(self.corpus, split).tokens[:-1], count + 1).astype(np.int32)

    def fingerprint(self) -> str:
        """sha256 over all documents of the corpus, held-out ones included."""
        return corpora.fingerprint(self.corpus)


@functools.lru_cache(maxsize=4)
def tokens(corpus: str, split: str) -> Stream:
    """One split of a corpus as byte tokens, documents end to end."""
    return stream(encode(text) for text in corpora.documents(corpus, split).values())


@functools.lru_cache(maxsize=4)
def packed(corpus: str, split: str, length: int, packing: str) -> Packed:
    """One split of a corpus, packed in rows of `length`."""
    return pack(tokens(corpus, split), length, packing)
