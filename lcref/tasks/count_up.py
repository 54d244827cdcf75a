"""Count from one number to another: the shortest program of all. The next token is the last one plus one, until it equals the second number.

RASP-L (arXiv 2310.16028, section 4) predicts that it generalizes in length, and uses it as the first example. One token a number, so that
nothing but the program is to be learned; every number occurs in short problems, as the first is drawn from all that leave room.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Task, at_least, lay_out, vocabulary


@dataclass(frozen=True)
class CountUp(Task):
    """First and last of `length` consecutive numbers below `values`; the answer is all of them. T = length + 4; the longest problem is `values`.

    >>> print(show(CountUp(), np.random.default_rng(0), length=5, samples=1))
    length 5
    inputs   ^   105 109 |   105 106 107 108 109
    targets  105 109 |   105 106 107 108 109 $
    scored               *   *   *   *   *   *
    """

    values: int = 128

    def __post_init__(self):
        at_least(1, values=self.values)

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary(str(i) for i in range(self.values))

    @property
    def longest(self) -> int:
        return self.values

    def width(self, length: int) -> int:
        self.check(length)
        return length + 4

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        first = CONTENT + rng.integers(self.values - length + 1, size=(batch, 1), dtype=np.int32)
        numbers = first + np.arange(length, dtype=np.int32)[None, :]
        return lay_out([BOS, first, numbers[:, -1:], SEP], [numbers, EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """One number after the other, until the second is reached."""
        rows = []
        for first, last in question.tolist():
            row = [first]
            while row[-1] != last:
                row.append(row[-1] + 1)
            rows.append([*row, EOS])
        return np.array(rows, np.int32)
