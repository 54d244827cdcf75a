"""Passkey retrieval: a few digits stand somewhere in a long text that says nothing; at the end they are asked for.

    BOS  filler ...  KEY 4 1 7 2  filler ...  ?   ->   4 1 7 2 EOS

The sentence form ("The pass key is 41720. Remember it.") comes from arXiv 2305.16300; this is the same problem in a small
vocabulary, so that it is learned in minutes. What stands around the key decides how hard it is:

    cycle    the same five tokens over and over, as the repeated sentences of the original: a state can compress it
    random   independent tokens: nothing to compress, every one has to be ignored
    decoy    digits too, and spans "KEY2 d d d d" with wrong digits (confusing facts, as in LV-Eval, arXiv 2402.05136)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Task, at_least, lay_out, vocabulary

KEY, KEY2 = 4, 5
FILLER = CONTENT + 10  # ids of the filler tokens, after the ten digits
CYCLE = 5  # tokens after which the cycle filler repeats
DECOY_EVERY = 16  # one decoy in every full stretch of 16 filler tokens, at a random place inside it


def cycle(rng: np.random.Generator, shape: tuple[int, int], symbols: int) -> np.ndarray:
    """f0 f1 f2 f3 f4 f0 f1 ..., always from the start."""
    return np.broadcast_to(FILLER + np.arange(shape[1], dtype=np.int32) % CYCLE, shape).copy()


def random(rng: np.random.Generator, shape: tuple[int, int], symbols: int) -> np.ndarray:
    """Independent filler tokens."""
    return rng.integers(FILLER, FILLER + symbols, shape, np.int32)


def decoy(rng: np.random.Generator, shape: tuple[int, int], symbols: int) -> np.ndarray:
    """Independent filler tokens and digits; `Passkey.sample` adds the decoy spans."""
    return rng.integers(CONTENT, FILLER + symbols, shape, np.int32)


FILLERS = {"cycle": cycle, "random": random, "decoy": decoy}


@dataclass(frozen=True)
class Passkey(Task):
    """`length` filler tokens with the key between two of them (or first, or last). T = length + 2 digits + 3, no longest problem.

    depth None: the number of filler tokens before the key is uniform in 0..length; else it is round(depth length).
    slices["depth"] [B]: that share of the filler, 0 = at the start, 1 = right before the question; `depth` itself where it is set.
    The vocabulary is the same for every filler, so a model trained on one can be tested on another. Cost O(B length).
    ValueError for an unknown filler, fewer symbols than the cycle has, digits outside 1..18, depth outside 0..1.

    >>> print(show(Passkey(), np.random.default_rng(0), length=12, samples=1))
    length 12, depth 0.6667
    inputs   ^  f0 f1 f2 f3 f4 f0 f1 f2  KEY 8 5 0 6  f3 f4 f0 f1 ? 8 5 0 6
    targets  f0 f1 f2 f3 f4 f0 f1 f2 KEY 8   5 0 6 f3 f4 f0 f1 ?  8 5 0 6 $
    scored                                                        * * * * *

    >>> print(show(Passkey(filler="random"), np.random.default_rng(0), length=12, samples=1))
    length 12, depth 0.6667
    inputs   ^  f8 f4 f4 f0 f1 f0 f2  f13 KEY 8 5 0 6   f10 f14 f8 f9 ? 8 5 0 6
    targets  f8 f4 f4 f0 f1 f0 f2 f13 KEY 8   5 0 6 f10 f14 f8  f9 ?  8 5 0 6 $
    scored                                                            * * * * *

    >>> print(show(Passkey(filler="decoy", depth=0.1), np.random.default_rng(0), length=20, samples=1))
    length 20, depth 0.1
    inputs   ^  f6 f3  KEY 8 5 0 6 7 8 1 1 0 4   f11  KEY2 5 2 1 5  f8 f6 f4 f4  f14 7 ? 8 5 0 6
    targets  f6 f3 KEY 8   5 0 6 7 8 1 1 0 4 f11 KEY2 5    2 1 5 f8 f6 f4 f4 f14 7   ? 8 5 0 6 $
    scored                                                                             * * * * *
    """

    filler: Literal["cycle", "random", "decoy"] = "cycle"
    digits: int = 4
    symbols: int = 16
    depth: float | None = None

    def __post_init__(self):
        if self.filler not in FILLERS:
            raise ValueError(f"filler {self.filler!r} is not one of {', '.join(FILLERS)}")
        at_least(1, digits=self.digits)
        if self.digits > 18:
            raise ValueError(f"digits {self.digits} is above 18")
        at_least(CYCLE, symbols=self.symbols)
        if self.depth is not None and not 0 <= self.depth <= 1:
            raise ValueError(f"depth {self.depth} is not in 0..1")

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary([*"0123456789", *(f"f{i}" for i in range(self.symbols))], **{"KEY": KEY, "KEY2": KEY2, "?": SEP})

    def width(self, length: int) -> int:
        self.check(length)
        return length + 2 * self.digits + 3

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        key = rng.integers(10**self.digits, size=(batch, 1))
        if self.depth is None:
            before = rng.integers(length + 1, size=(batch, 1))
            depth = before[:, 0] / length
        else:
            before = np.full((batch, 1), round(self.depth * length))
            depth = np.full(batch, self.depth)
        filler = FILLERS[self.filler](rng, (batch, length), self.symbols)
        if self.filler == "decoy":
            self.add_decoys(rng, filler, key, before)

        span = np.concatenate([np.full((batch, 1), KEY), self.written(key)], axis=1)
        places = before + np.arange(self.digits + 1)
        haystack = np.empty((batch, length + self.digits + 1), np.int32)
        is_filler = np.ones(haystack.shape, bool)
        np.put_along_axis(is_filler, places, False, axis=1)
        haystack[is_filler] = filler.ravel()  # every row has `length` free places, so rows stay rows
        np.put_along_axis(haystack, places, span, axis=1)
        return lay_out([BOS, haystack, SEP], [span[:, 1:], EOS], length, depth=depth)

    def written(self, number: np.ndarray) -> np.ndarray:
        """Numbers [...,1] -> tokens [...,digits]."""
        return CONTENT + number // 10 ** np.arange(self.digits - 1, -1, -1) % 10

    def add_decoys(self, rng: np.random.Generator, filler: np.ndarray, key: np.ndarray, before: np.ndarray) -> None:
        """Write the decoy spans into `filler` [B,n]: one in each full stretch, unless the key would cut it in two."""
        batch, length = filler.shape
        size = self.digits + 1
        stretch = max(DECOY_EVERY, size)
        offset = rng.integers(stretch - size + 1, size=(batch, length // stretch))
        start = np.arange(length // stretch) * stretch + offset  # [B, decoys]
        wrong = (key + rng.integers(1, 10**self.digits, start.shape)) % 10**self.digits  # uniform over all numbers but the key
        span = np.concatenate([np.full((*start.shape, 1), KEY2), self.written(wrong[..., None])], axis=-1)
        whole = (start >= before) | (start + size <= before)
        row, which = np.nonzero(whole)
        filler[row[:, None], start[row, which][:, None] + np.arange(size)] = span[row, which]

    def answer(self, question: np.ndarray) -> np.ndarray:
        """Find KEY and read on."""
        at = (question == KEY).argmax(axis=1)[:, None]
        digits = np.take_along_axis(question, at + 1 + np.arange(self.digits), axis=1)
        return np.pad(digits, ((0, 0), (0, 1)), constant_values=EOS)
