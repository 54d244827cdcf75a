"""Add one to a number: copy it but for its last digits, as far as the carry goes. A second task of arXiv 2310.00726.

In random numbers nine in ten carries end at once, and a model that never saw a long one does not learn it: the number of nines at the end
is drawn uniformly. Written from the left, the first digit that changes depends on how many nines follow, which must be counted ahead; with
the lowest digit first, every digit depends on those before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Task, lay_out, vocabulary


@dataclass(frozen=True)
class Increment(Task):
    """`length` digits, of which the last k are nines, k uniform in 0 .. length - 1, and the one before them is none: no number grows longer.
    T = 2 length + 2, no longest problem.

    >>> print(show(Increment(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^ 8 6 5 2 3 0 | 8 6 5 2 3 1
    targets  8 6 5 2 3 0 | 8 6 5 2 3 1 $
    scored                 * * * * * * *
    """

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary("0123456789")

    def width(self, length: int) -> int:
        self.check(length)
        return 2 * length + 2

    def written(self, digits: np.ndarray) -> np.ndarray:
        """Digits [B,n], highest first, in the order in which they are written."""
        return digits

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        digits = rng.integers(10, size=(batch, length), dtype=np.int32)
        nines = rng.integers(length, size=(batch, 1))
        place = np.arange(length)[None, ::-1]  # of a digit, from the right
        digits = np.where(place < nines, 9, np.where((place == nines) & (digits == 9), rng.integers(9, size=(batch, 1)), digits))
        more = np.where(place < nines, 0, np.where(place == nines, digits + 1, digits))
        return lay_out([BOS, CONTENT + self.written(digits), SEP], [CONTENT + self.written(more), EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """As whole numbers: read the digits, add one, write the digits."""
        n = question.shape[1]
        rows = []
        for row in self.written(question - CONTENT):
            number = int("".join(map(str, row.tolist()))) + 1
            rows.append([int(digit) for digit in str(number).zfill(n)])
        return np.pad(CONTENT + self.written(np.array(rows, np.int32)), ((0, 0), (0, 1)), constant_values=EOS)


@dataclass(frozen=True)
class IncrementReversed(Increment):
    """The same, the lowest digit first in question and answer.

    >>> print(show(IncrementReversed(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^ 0 3 2 5 6 8 | 1 3 2 5 6 8
    targets  0 3 2 5 6 8 | 1 3 2 5 6 8 $
    scored                 * * * * * * *
    """

    def written(self, digits: np.ndarray) -> np.ndarray:
        return digits[:, ::-1]
