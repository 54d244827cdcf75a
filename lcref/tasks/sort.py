"""Sort numbers, each number one token.

With unique values the next answer token is the smallest input above the last one written, y' = min { x : x > y }: one causal
attention from the current token, no positions needed, which is why models without position encoding carry far on it. With
duplicates the model must also count how often it has written y, and counting blurs as the list grows.
Source: arXiv 2310.00726 (trained up to 20 numbers, tested at 100). The markers 4..15 are free for hint tasks over the same values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Task, at_least, lay_out, unique, vocabulary


@dataclass(frozen=True)
class Sort(Task):
    """`length` different numbers below `values`, to be written in ascending order. T = 2 length + 2; the longest is `values`.

    Cost: O(values) a row to draw (a permutation), O(n log n) to sort.

    >>> print(show(Sort(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^   125 53  102 34  121 117 |  34 53  102 117 121 125
    targets  125 53  102 34  121 117 |   34 53 102 117 121 125 $
    scored                               *  *  *   *   *   *   *
    """

    values: int = 128

    def __post_init__(self):
        at_least(1, values=self.values)

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary(str(i) for i in range(self.values))

    @property
    def longest(self) -> int | None:
        return self.values

    def width(self, length: int) -> int:
        self.check(length)
        return 2 * length + 2

    def draw(self, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
        return unique(rng, batch, length, self.values)

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        numbers = CONTENT + self.draw(rng, batch, length)
        return lay_out([BOS, numbers, SEP], [np.sort(numbers, axis=1), EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """Counting sort: count every value, then write each as often as it was counted, from the smallest up."""
        counts = np.zeros((len(question), self.values), np.int64)
        for t in range(question.shape[1]):
            counts[np.arange(len(question)), question[:, t] - CONTENT] += 1
        ascending = np.tile(np.arange(CONTENT, CONTENT + self.values), len(question))
        ordered = np.repeat(ascending, counts.ravel()).reshape(question.shape)
        return np.pad(ordered, ((0, 0), (0, 1)), constant_values=EOS)


@dataclass(frozen=True)
class SortDuplicates(Sort):
    """`length` numbers below `values`, independent and uniform, so that some repeat. No longest problem.

    >>> print(show(SortDuplicates(values=8), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^ 6 5 4 2 2 0 | 0 2 2 4 5 6
    targets  6 5 4 2 2 0 | 0 2 2 4 5 6 $
    scored                 * * * * * * *
    """

    @property
    def longest(self) -> None:
        return None

    def draw(self, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
        return rng.integers(self.values, size=(batch, length), dtype=np.int32)
