"""Hints for sorting: smaller questions about the same numbers, mixed into training and never asked in a test. arXiv 2310.00726.

    successor     ^ 33 19 106 suc 19             33       the next larger number; of the largest: $
    predecessor   ^ 33 19 106 pre 33             19       the next smaller one; of the smallest: $
    count         ^ 33 19 33 count 33            #2       how often it occurs
    fill          ^ 33 19 106 fill 19 ? 106      33       what the gap in the sorted list is
    crowded       ^ 33 31 34 |                   31 33 34 $    the whole question, of numbers that are close to one another
    clustered     ^ 33 90 34 |                   33 34 90 $    and of some that are close and some that are far

Sorting is repeating one step, y' = min { x : x > y }, and the successor hint is that step from any number at all, not only from those that
stand last in a list sorted so far: what can be looked up instead (how long the answer is already) does not help there.
`crowded` and `clustered` are ours: what is hard about long lists is rare in short ones, neighbours that differ by one, and numbers that repeat.
Ids are those of lcref/tasks/sort.py; the counts come behind them. Deviation: the paper's exact formats and proportions were not available.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lcref.tasks.sort import Sort, SortDuplicates
from lcref.tasks.task import BOS, CONTENT, EOS, PAD, Batch, Task, at_least, lay_out, place_of, vocabulary

GREATER, LESS, COUNT, FILL, GAP = 4, 5, 6, 7, 8
MOST = 8  # a number is asked for that occurs up to so often


@dataclass(frozen=True)
class SortHint(Task):
    """Base of the four: `length` numbers below `values`, all different unless `duplicates`, a marker, a question, one answer token."""

    values: int = 128
    duplicates: bool = False
    marker: ClassVar[int] = 0

    def __post_init__(self):
        at_least(2, values=self.values)

    @property
    def sort(self) -> Sort:
        return SortDuplicates(self.values) if self.duplicates else Sort(self.values)

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary([*map(str, range(self.values)), *(f"#{n}" for n in range(1, MOST + 1))],
                          **{"suc": GREATER, "pre": LESS, "count": COUNT, "fill": FILL, "?": GAP})

    @property
    def shortest(self) -> int:
        return 2

    @property
    def longest(self) -> int | None:
        return self.sort.longest

    def width(self, length: int) -> int:
        self.check(length)
        return length + 3

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        numbers, question = self.pose(rng, CONTENT + self.sort.draw(rng, batch, length))
        return lay_out([BOS, numbers, self.marker, question], [self.told(numbers, question)[:, None]], length)

    def pose(self, rng: np.random.Generator, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(numbers [B,length], the question's tokens [B,n]): asks for one of the numbers."""
        return numbers, np.take_along_axis(numbers, rng.integers(numbers.shape[1], size=(len(numbers), 1)), axis=1)

    def told(self, numbers: np.ndarray, question: np.ndarray) -> np.ndarray:
        """The answer token [B], by array arithmetic."""
        raise NotImplementedError

    def found(self, numbers: list[int], question: list[int]) -> int:
        """The answer token of one problem, by another way: reading it as a person would."""
        raise NotImplementedError

    def solve(self, inputs: np.ndarray) -> np.ndarray:
        """The answer at the question's last token, PAD elsewhere. ValueError if rows differ in length."""
        at = place_of(inputs, self.marker)
        end = at + (self.width(at - 1) - at - 1)
        solved = np.full((len(inputs), max(inputs.shape[1], end + 1)), PAD, np.int32)
        solved[:, end] = [self.found(row[1:at].tolist(), row[at + 1 : end + 1].tolist()) for row in inputs]
        return solved


@dataclass(frozen=True)
class Successor(SortHint):
    """The smallest number above the one asked for, EOS where there is none. T = length + 3.

    >>> print(show(Successor(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^   125 53  102 34  121 117 suc 34
    targets  125 53  102 34  121 117 suc 34  53
    scored                                   *
    """

    marker: ClassVar[int] = GREATER

    def told(self, numbers: np.ndarray, question: np.ndarray) -> np.ndarray:
        above = np.where(numbers > question, numbers, np.iinfo(np.int32).max).min(axis=1)
        return np.where(above == np.iinfo(np.int32).max, EOS, above)

    def found(self, numbers: list[int], question: list[int]) -> int:
        ladder = [*sorted(set(numbers)), EOS]
        return ladder[ladder.index(question[0]) + 1]


@dataclass(frozen=True)
class Predecessor(SortHint):
    """The largest number below the one asked for, EOS where there is none. T = length + 3.

    >>> print(show(Predecessor(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^   125 53  102 34  121 117 pre 34
    targets  125 53  102 34  121 117 pre 34  $
    scored                                   *
    """

    marker: ClassVar[int] = LESS

    def told(self, numbers: np.ndarray, question: np.ndarray) -> np.ndarray:
        below = np.where(numbers < question, numbers, -1).max(axis=1)
        return np.where(below == -1, EOS, below)

    def found(self, numbers: list[int], question: list[int]) -> int:
        ladder = [EOS, *sorted(set(numbers))]
        return ladder[ladder.index(question[0]) - 1]


@dataclass(frozen=True)
class Count(SortHint):
    """How often the number asked for occurs: a multiplicity drawn uniformly from 1 .. min(length, 8), so that ties are not rare. T = length + 3.

    Without `duplicates` the other numbers differ from one another. Guessing scores 1 / 8 in long lists.

    >>> print(show(Count(values=30), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^ 2 4  10 2 2 2     count 2
    targets  2 4 10 2  2 2 count 2     #4
    scored                             *
    """

    marker: ClassVar[int] = COUNT

    def pose(self, rng: np.random.Generator, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first number is repeated over the next ones, the others are made to differ from it, and all are shuffled."""
        batch, length = numbers.shape
        asked = numbers[:, :1]
        others = np.where(numbers == asked, CONTENT + (numbers - CONTENT + 1) % self.values, numbers)
        times = rng.integers(1, min(length, MOST) + 1, size=(batch, 1))
        numbers = np.where(np.arange(length)[None, :] < times, asked, others)
        return rng.permuted(numbers, axis=1), asked

    def told(self, numbers: np.ndarray, question: np.ndarray) -> np.ndarray:
        return CONTENT + self.values - 1 + (numbers == question).sum(axis=1)

    def found(self, numbers: list[int], question: list[int]) -> int:
        return self.tokens.index(f"#{numbers.count(question[0])}")


@dataclass(frozen=True)
class Fill(SortHint):
    """The sorted list with one number missing: which? T = 2 length + 2.

    >>> print(show(Fill(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^   125 53  102 34  121 117  fill 34 53  102 ?   121 125
    targets  125 53  102 34  121 117 fill 34   53 102 ?   121 125 117
    scored                                                        *
    """

    marker: ClassVar[int] = FILL

    def width(self, length: int) -> int:
        self.check(length)
        return 2 * length + 2

    def pose(self, rng: np.random.Generator, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ordered = np.sort(numbers, axis=1)
        ordered[np.arange(len(ordered)), rng.integers(numbers.shape[1], size=len(ordered))] = GAP
        return numbers, ordered

    def told(self, numbers: np.ndarray, question: np.ndarray) -> np.ndarray:
        """What the two sums differ by."""
        return numbers.sum(axis=1) - np.where(question == GAP, 0, question).sum(axis=1)

    def found(self, numbers: list[int], question: list[int]) -> int:
        left = list(numbers)
        for number in question:
            if number != GAP:
                left.remove(number)
        return left[0]


@dataclass(frozen=True)
class Crowded(Sort):
    """Lists to sort from an interval of the values, anywhere, its width log-uniform between `length` (length / 4 with `duplicates`) and all of them:
    short lists in which numbers are as close, or repeat as often, as in long ones. Otherwise as Sort and SortDuplicates.

    >>> print(show(Crowded(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^  77 69 86 79 68 87 |  68 69 77 79 86 87
    targets  77 69 86 79 68 87 |  68 69 77 79 86 87 $
    scored                        *  *  *  *  *  *  *
    >>> print(show(Crowded(values=9, duplicates=True), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^ 2 1 1 0 0 0 | 0 0 0 1 1 2
    targets  2 1 1 0 0 0 | 0 0 0 1 1 2 $
    scored                 * * * * * * *
    """

    duplicates: bool = False

    @property
    def longest(self) -> int | None:
        return None if self.duplicates else self.values

    def draw(self, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
        least = min(-(-length // 4), self.values) if self.duplicates else length
        width = np.floor(least * (self.values / least) ** rng.random((batch, 1)) + 1e-9).astype(int)
        if self.duplicates:
            drawn = rng.integers(width, size=(batch, length))
        else:
            drawn = np.argsort(np.where(np.arange(self.values) < width, rng.random((batch, self.values)), 2), axis=1)[:, :length]
        return (rng.integers(self.values - width + 1) + drawn).astype(np.int32)


@dataclass(frozen=True)
class Clustered(Sort):
    """Lists to sort of values about one of them, anywhere: different v, drawn one after another with weights 1 / (1 + |v - centre|).

    Their distances from the centre are about log-uniform: neighbours that differ by one, as in long lists, between others that are far, in one list
    and at every place, the ends included (an interval that lies within the values, as in Crowded, seldom holds the first or the last). The draws are
    the largest of ln weight + Gumbel noise (the Gumbel top-k trick, arXiv 1903.06059). Otherwise as Sort. Cost: O(values log values) a row to draw.

    >>> print(show(Clustered(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^   116 107 110 112 91 10 |  10 91  107 110 112 116
    targets  116 107 110 112 91  10 |  10 91 107 110 112 116 $
    scored                             *  *  *   *   *   *   *
    """

    def draw(self, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
        centre = rng.integers(self.values, size=(batch, 1))
        weights = 1 / (1 + np.abs(np.arange(self.values) - centre))
        drawn = np.argsort(-(np.log(weights) + rng.gumbel(size=weights.shape)), axis=1)[:, :length]
        return rng.permuted(drawn, axis=1).astype(np.int32)
