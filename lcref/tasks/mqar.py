"""Multi-query associative recall: a list of key-value pairs, then some keys again, each to be answered with its value.

It explains most of the gap between attention and gated convolutions in language modelling: attention recalls at any width, a
fixed-size state only what fits into it. Source: arXiv 2312.04927 (Zoology); its figure 2 sweeps (T, D) = (64, 4), (128, 8),
(256, 16), (512, 64).

    tokens 1 .. 2D          k1 v1 k2 v2 ... kD vD              keys differ, values differ
    the rest, in slots of two tokens:  "k v" where a key is asked for, blanks elsewhere; every key is asked for once

Slot i = 1..N of a query: p(i) ~ a i^(a-1), drawn without replacement key after key. With the usual a = 0.01 that is close to 1/i:
most queries follow soon, a few come late, as repeated phrases do in text. a = 1 is uniform.

With pairs=None a row holds as many pairs as it can ask for, D = T / 4, and no blanks: longer problems are fuller ones, which is how the
capacity of a state is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, PAD, Batch, Task, at_least, next_token, unique, vocabulary

BLANK = 4


@dataclass(frozen=True)
class MQAR(Task):
    """`length` tokens in all, `pairs` (D) of them pairs; the value is scored at each of the D queries. T = length.

    pairs None: length // 4 of them. Shortest: 4 D, room for every query. No longest problem for a given D, which may not exceed the
    pools `keys` and `values`.
    Deviation: the value stands behind its query, so that targets are next tokens everywhere (the original leaves a filler there; no
    key is asked for twice, so nothing is given away), and unused slots hold one blank token, not random ones. An odd length ends in
    a single blank. Cost: O(B (keys + values + length log length)).

    >>> print(show(MQAR(pairs=2, keys=8, values=8), np.random.default_rng(0), length=14, samples=1))
    length 14
    inputs   ^  k2 v6 k4 v2 . .  k2 v6 . .  k4 v2 .
    targets  k2 v6 k4 v2 .  . k2 v6 .  . k4 v2 .  .
    scored                       *          *
    """

    pairs: int | None = 8
    keys: int = 256
    values: int = 256
    power: float = 0.01

    def __post_init__(self):
        at_least(1, pairs=self.least, keys=self.keys, values=self.values)
        for name, pool in (("keys", self.keys), ("values", self.values)):
            if self.least > pool:
                raise ValueError(f"pairs {self.pairs} are more than the {pool} different {name}")
        if not self.power > 0:
            raise ValueError(f"power {self.power} is not above 0")

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary([*(f"k{i}" for i in range(self.keys)), *(f"v{i}" for i in range(self.values))], **{".": BLANK})

    @property
    def least(self) -> int:
        """The fewest pairs of a problem."""
        return 1 if self.pairs is None else self.pairs

    @property
    def shortest(self) -> int:
        return 4 * self.least

    @property
    def longest(self) -> int | None:
        return 4 * min(self.keys, self.values) + 3 if self.pairs is None else None

    def width(self, length: int) -> int:
        self.check(length)
        return length

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        pairs = length // 4 if self.pairs is None else self.pairs
        key = CONTENT + unique(rng, batch, pairs, self.keys)
        value = CONTENT + self.keys + unique(rng, batch, pairs, self.values)
        tokens = np.full((batch, 1 + length), BLANK, np.int32)
        tokens[:, 0] = BOS
        tokens[:, 1 : 2 * pairs : 2] = key
        tokens[:, 2 : 2 * pairs + 1 : 2] = value

        query = 1 + 2 * pairs + 2 * self.slots(rng, batch, length // 2 - pairs)[:, :pairs]
        np.put_along_axis(tokens, query, key, axis=1)
        np.put_along_axis(tokens, query + 1, value, axis=1)
        weights = np.zeros((batch, length), np.float32)
        np.put_along_axis(weights, query, 1, axis=1)  # the value is the next token after its query
        return next_token(tokens, weights, length)

    def slots(self, rng: np.random.Generator, batch: int, space: int) -> np.ndarray:
        """[B, space] all slots below `space`, in the order drawn.

        Drawing one after another without replacement, each with probability ~ p(i), gives the same as the order of
        log p(i) + Gumbel noise, largest first: all draws at once.
        """
        log_p = (self.power - 1) * np.log(np.arange(1, space + 1))
        return np.argsort(-(log_p + rng.gumbel(size=(batch, space))), axis=1)

    def solve(self, inputs: np.ndarray) -> np.ndarray:
        """Read from the left with a table: a key not seen before stores the token behind it, a known key is a query."""
        solved = np.full(inputs.shape, PAD, np.int32)
        table = np.full((len(inputs), self.vocab), PAD, np.int32)
        rows = np.arange(len(inputs))
        for t in range(1, inputs.shape[1]):
            token, behind = inputs[:, t], inputs[:, min(t + 1, inputs.shape[1] - 1)]
            is_key = (token >= CONTENT) & (token < CONTENT + self.keys)
            known = table[rows, token]
            solved[:, t] = np.where(is_key, known, PAD)
            table[rows, token] = np.where(is_key & (known == PAD), behind, known)
        return solved
