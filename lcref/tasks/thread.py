"""Threads of needles: a list of pairs in which the value of one is the key of another. Where does one get from here, in so many steps?

    BOS  k9 k4   k0 k7   k4 k2   k7 k5  ...  k9  |  ->  k2 EOS              with hops=2:  k9 -> k4 -> k2

One pair is associative recall. A thread is recall of what was recalled: without writing on the way a model of few layers runs out of them,
with `path` it writes every step, and each is a recall of its own. The other threads are as long as the one that is asked for, so that
nothing but following it gives the answer. Which pair comes first in the text is `direction`: models find threads that run backward harder.
Needle Threading, arXiv 2411.05000; here ids in place of UUIDs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Literal

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Task, at_least, lay_out, unique, vocabulary

DIRECTIONS = ("forward", "backward", "random")


@dataclass(frozen=True)
class Thread(Task):
    """`length` pairs: as many threads of `hops` pairs as fit, and what is left over as single pairs.
    T = 2 length + 4, and hops - 1 more with `path`.

    direction: the order in the text of a thread's pairs, of all threads. path: answer with every key on the way and not only the last.
    Longest: up to it `keys` different ids can write every length. Shortest: one thread.
    ValueError for an unknown direction, hops < 1, fewer than hops + 1 keys.

    >>> print(show(Thread(hops=2, keys=9, path=True), np.random.default_rng(0), length=4, samples=1))
    length 4
    inputs   ^  k4 k5 k6 k3 k5 k2 k3 k8 k4 |  k5 k2
    targets  k4 k5 k6 k3 k5 k2 k3 k8 k4 |  k5 k2 $
    scored                                 *  *  *
    """

    hops: int = 3
    direction: Literal["forward", "backward", "random"] = "forward"
    path: bool = False
    keys: int = 256

    def __post_init__(self):
        at_least(1, hops=self.hops)
        if self.direction not in DIRECTIONS:
            raise ValueError(f"direction {self.direction!r} is not one of {', '.join(DIRECTIONS)}")
        if self.keys < self.hops + 1:
            raise ValueError(f"keys {self.keys} are too few for a thread of {self.hops} hops")

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary([f"k{i}" for i in range(self.keys)])

    @property
    def shortest(self) -> int:
        return self.hops

    @property
    def longest(self) -> int:
        return next(n for n in count(self.hops) if self.needed(n + 1) > self.keys)

    def needed(self, length: int) -> int:
        """How many different ids `length` pairs are written with. It may fall from one length to the next: single pairs become a thread."""
        threads, single = divmod(length, self.hops)
        return threads * (self.hops + 1) + 2 * single

    def width(self, length: int) -> int:
        self.check(length)
        return 2 * length + 4 + (self.hops - 1) * self.path

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        threads, single = divmod(length, self.hops)
        ids = CONTENT + unique(rng, batch, self.needed(length), self.keys)
        along = ids[:, : threads * (self.hops + 1)].reshape(batch, threads, self.hops + 1)
        pairs = np.stack([along[:, :, :-1], along[:, :, 1:]], axis=-1).reshape(batch, -1, 2)
        pairs = np.concatenate([pairs, ids[:, threads * (self.hops + 1) :].reshape(batch, single, 2)], axis=1)  # [B,length,2]
        place = unique(rng, batch, length, length)
        if self.direction != "random":
            of = np.sort(place[:, : threads * self.hops].reshape(batch, threads, self.hops), axis=2)
            place[:, : threads * self.hops] = (of if self.direction == "forward" else of[:, :, ::-1]).reshape(batch, -1)
        text = np.empty_like(pairs)
        np.put_along_axis(text, place[:, :, None], pairs, axis=1)
        return lay_out([BOS, text.reshape(batch, -1), along[:, 0, :1], SEP], [along[:, 0, 1 if self.path else -1 :], EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """Look the key up in the text, and what is found, and so on."""
        text, at, found = question[:, :-1], question[:, -1], []
        for _ in range(self.hops):
            at = text[np.arange(len(text)), 2 * (text[:, ::2] == at[:, None]).argmax(axis=1) + 1]
            found.append(at)
        return np.stack([*(found if self.path else found[-1:]), np.full(len(text), EOS)], axis=1).astype(np.int32)
