"""The same sorted list in another order of writing. arXiv 1511.06391 asks of an output what of an input: does its order matter?

    ascending    ^ 33 106 19 53 | 19 33 53 106 $
    descending   ^ 33 106 19 53 | 106 53 33 19 $
    ends_first   ^ 33 106 19 53 | 19 106 33 53 $          the smallest, the largest, the next smallest, ...
    odds_first   ^ 33 106 19 53 | 19 53 33 106 $          the first, third, ... of the sorted list, then the second, fourth, ...

Each is a fixed permutation of the sorted list: what it asks for is the same, and how many of the numbers decide the next one is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.sort import Sort
from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, lay_out

ORDERS = {
    "ascending": lambda n: np.arange(n),
    "descending": lambda n: np.arange(n)[::-1],
    "ends_first": lambda n: np.where(np.arange(n) % 2, n - 1 - np.arange(n) // 2, np.arange(n) // 2),
    "odds_first": lambda n: np.r_[0:n:2, 1:n:2],
}


@dataclass(frozen=True)
class SortInOrder(Sort):
    """`length` different numbers below `values`; the answer is the sorted list, written in an `order` of ORDERS. KeyError for an unknown one.

    >>> print(show(SortInOrder(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^   125 53  102 34  121 117 |   125 121 117 102 53 34
    targets  125 53  102 34  121 117 |   125 121 117 102 53  34 $
    scored                               *   *   *   *   *   *  *
    >>> print(show(SortInOrder(order="ends_first"), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^   125 53  102 34  121 117 |  34  125 53  121 102 117
    targets  125 53  102 34  121 117 |   34 125 53  121 102 117 $
    scored                               *  *   *   *   *   *   *
    >>> print(show(SortInOrder(order="odds_first"), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^   125 53  102 34  121 117 |  34  102 121 53  117 125
    targets  125 53  102 34  121 117 |   34 102 121 53  117 125 $
    scored                               *  *   *   *   *   *   *
    """

    order: str = "descending"

    def __post_init__(self):
        super().__post_init__()
        if self.order not in ORDERS:
            raise KeyError(f"unknown order {self.order!r}; there is: {', '.join(ORDERS)}")

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        numbers = CONTENT + self.draw(rng, batch, length)
        return lay_out([BOS, numbers, SEP], [np.sort(numbers, axis=1)[:, ORDERS[self.order](length)], EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """One number after another, taken out of those that are left: the smallest or the largest; every second one, later the rest."""
        rows = []
        for row in question.tolist():
            left, aside, written, skips = sorted(row), [], [], self.order == "odds_first"
            while left or aside:
                if not left:
                    left, aside, skips = aside, [], False
                largest = self.order == "descending" or self.order == "ends_first" and len(written) % 2 == 1
                written.append(left.pop(-1 if largest else 0))
                if skips and left:
                    aside.append(left.pop(0))
            rows.append(written + [EOS])
        return np.array(rows, np.int32)
