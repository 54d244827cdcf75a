"""Needles in a haystack: facts "N key value" stand here and there in a long text that says nothing; some keys are asked for at the end.

    BOS  filler ..  N k3 v1  filler ..  N k0 v7  filler ..  ASK k0 k3  |  ->  v7 v1 EOS

A small vocabulary makes it learnable in minutes. The four kinds of RULER (arXiv 2404.06654, section 3) are settings:

    single        needles=1, queries=1                   multi-key     needles=4, queries=1: the others distract
    multi-value   needles=4, queries=1, values_each=4    multi-query   needles=4, queries=4

A passkey asks whether one thing is found; this asks whether the right one is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Task, at_least, lay_out, unique, vocabulary

NEEDLE, ASK = 4, 5


def scatter(rng: np.random.Generator, spans: np.ndarray, filler: np.ndarray) -> np.ndarray:
    """Spans [B,m,n], in their order, at random places among filler tokens [B,length] -> [B, length + m n], all sets of places equally likely."""
    (batch, m, n), length = spans.shape, filler.shape[1]
    item = np.sort(rng.permuted(np.broadcast_to(np.arange(length + m), (batch, length + m)), axis=1)[:, :m], axis=1)
    places = (item + (n - 1) * np.arange(m))[:, :, None] + np.arange(n)  # a span before this one is n tokens and not one
    mixed = np.empty((batch, length + m * n), np.int32)
    is_filler = np.ones(mixed.shape, bool)
    np.put_along_axis(is_filler, places.reshape(batch, -1), False, axis=1)
    mixed[is_filler] = filler.ravel()
    np.put_along_axis(mixed, places.reshape(batch, -1), spans.reshape(batch, -1), axis=1)
    return mixed


def turns(rng: np.random.Generator, batch: int, n: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """A random order of n things that come `each` times: whose turn it is, and its how manieth. [B, n each] both."""
    of = rng.permuted(np.broadcast_to(np.repeat(np.arange(n), each), (batch, n * each)), axis=1)
    return of, np.stack([(of[:, :i] == of[:, i : i + 1]).sum(1) for i in range(of.shape[1])], axis=1)


@dataclass(frozen=True)
class Needles(Task):
    """`length` filler tokens, `needles` keys with `values_each` values, each value in a needle of its own; `queries` of the keys are asked
    for, in random order, and answered with all their values in order of appearance.
    T = length + 3 needles values_each + queries (1 + values_each) + 3.

    No longest problem. Cost O(B (length + keys)). ValueError for more queries than needles, or more needles than `keys`.

    >>> print(show(Needles(needles=2, queries=2, keys=4, values=8), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^  f0 N  k2 v2 N  k0 v0 f2  f13 f10 f14 f8 ?  k2 k0 |  v2 v0
    targets  f0 N  k2 v2 N  k0 v0 f2 f13 f10 f14 f8  ?  k2 k0 |  v2 v0 $
    scored                                                       *  *  *

    >>> print(show(Needles(needles=2, values_each=2, keys=4, values=8), np.random.default_rng(0), length=3, samples=1))
    length 3
    inputs   ^   f14 N  k2 v2 N  k0 v0 N  k2 v0 f8 f9 N  k0 v0 ?  k2 |  v2 v0
    targets  f14 N   k2 v2 N  k0 v0 N  k2 v0 f8 f9 N  k0 v0 ?  k2 |  v2 v0 $
    scored                                                           *  *  *
    """

    needles: int = 4
    queries: int = 1
    values_each: int = 1
    keys: int = 16
    values: int = 16
    symbols: int = 16

    def __post_init__(self):
        at_least(1, needles=self.needles, queries=self.queries, values_each=self.values_each, values=self.values, symbols=self.symbols)
        if self.queries > self.needles:
            raise ValueError(f"queries {self.queries} are more than the {self.needles} needles")
        if self.needles > self.keys:
            raise ValueError(f"needles {self.needles} are more than the {self.keys} different keys")

    @property
    def tokens(self) -> tuple[str, ...]:
        names = [*(f"k{i}" for i in range(self.keys)), *(f"v{i}" for i in range(self.values)), *(f"f{i}" for i in range(self.symbols))]
        return vocabulary(names, **{"N": NEEDLE, "?": ASK})

    def width(self, length: int) -> int:
        self.check(length)
        return length + 3 * self.needles * self.values_each + self.queries * (1 + self.values_each) + 3

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        first_value = CONTENT + self.keys
        key = CONTENT + unique(rng, batch, self.needles, self.keys)
        value = rng.integers(first_value, first_value + self.values, (batch, self.needles, self.values_each), np.int32)
        of, nth = turns(rng, batch, self.needles, self.values_each)
        rows = np.arange(batch)[:, None]
        spans = np.stack([np.full(of.shape, NEEDLE), key[rows, of], value[rows, of, nth]], axis=2)
        filler = rng.integers(first_value + self.values, first_value + self.values + self.symbols, (batch, length), np.int32)
        asked = unique(rng, batch, self.queries, self.needles)
        return lay_out([BOS, scatter(rng, spans, filler), ASK, key[rows, asked], SEP], [value[rows, asked].reshape(batch, -1), EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """For every key behind ASK, read the text from the left and write down what stands behind "N key"."""
        found = np.full((len(question), self.queries, self.values_each), EOS, np.int32)
        for i, row in enumerate(question):
            end = int(np.flatnonzero(row == ASK)[-1])
            for j, key in enumerate(row[end + 1 :]):
                at = np.flatnonzero((row[: end - 2] == NEEDLE) & (row[1 : end - 1] == key))
                found[i, j, : len(at)] = row[at + 2]
        return np.pad(found.reshape(len(question), -1), ((0, 0), (0, 1)), constant_values=EOS)
