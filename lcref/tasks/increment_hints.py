"""Hints for adding one: smaller questions about the same number, mixed into training and never asked in a test. arXiv 2310.00726.

    nines        ^ 8 6 9 9 nines          #2       how many nines stand at the low end: how far the carry goes
    next digit   ^ 8 6 9 9 next 3         4        a digit plus one, the last one 0

Ids are those of lcref/tasks/increment.py; the counts come behind them. Deviation: which hints the paper uses for this task was not available.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.increment import Increment, IncrementReversed
from lcref.tasks.task import BOS, CONTENT, PAD, Batch, Task, lay_out, place_of, vocabulary

NINES, NEXT = 4, 5
MOST = 10  # nines that are told apart: more are told as so many


@dataclass(frozen=True)
class Nines(Task):
    """`length` digits as `Increment` draws them, the lowest first if `reverse`; asked is the number of nines at the low end,
    where ten stands for all above it. T = length + 2, no longest problem.

    >>> print(show(Nines(), np.random.default_rng(2), length=6, samples=1))
    length 6
    inputs   ^ 8 2 1 2 9 9     nines
    targets  8 2 1 2 9 9 nines #2
    scored                     *
    """

    reverse: bool = False

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary([*"0123456789", *(f"#{n}" for n in range(MOST + 1))], nines=NINES, next=NEXT)

    @property
    def task(self) -> Increment:
        return IncrementReversed() if self.reverse else Increment()

    def width(self, length: int) -> int:
        self.check(length)
        return length + 2

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        digits = self.task.sample(rng, batch, length).inputs[:, 1 : length + 1]
        low_first = digits if self.reverse else digits[:, ::-1]
        nines = np.cumprod(low_first == CONTENT + 9, axis=1).sum(1, keepdims=True)
        return lay_out([BOS, digits, NINES], [CONTENT + 10 + np.minimum(nines, MOST)], length)

    def solve(self, inputs: np.ndarray) -> np.ndarray:
        """The answer at the marker, PAD elsewhere: the digits as text, and what is left of it without its nines."""
        at = place_of(inputs, NINES)
        solved = np.full(inputs.shape, PAD, np.int32)
        for row, out in zip(inputs, solved):
            text = "".join(str(digit - CONTENT) for digit in row[1:at])
            out[at] = CONTENT + 10 + min(MOST, len(text) - len(text.lstrip("9") if self.reverse else text.rstrip("9")))
        return solved


@dataclass(frozen=True)
class NextDigit(Nines):
    """The same numbers; asked is a digit plus one, any digit of all. T = length + 3.

    >>> print(show(NextDigit(), np.random.default_rng(2), length=6, samples=1))
    length 6
    inputs   ^ 8 2 1 2 9 9    next 3
    targets  8 2 1 2 9 9 next 3    4
    scored                         *
    """

    def width(self, length: int) -> int:
        self.check(length)
        return length + 3

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        digits, asked = self.task.sample(rng, batch, length).inputs[:, 1 : length + 1], rng.integers(10, size=(batch, 1))
        return lay_out([BOS, digits, NEXT, CONTENT + asked], [CONTENT + (asked + 1) % 10], length)

    def solve(self, inputs: np.ndarray) -> np.ndarray:
        """The answer at the digit that is asked for, PAD elsewhere: from the list of what follows what."""
        at = place_of(inputs, NEXT) + 1
        solved = np.full(inputs.shape, PAD, np.int32)
        solved[:, at] = [CONTENT + int("1234567890"[digit - CONTENT]) for digit in inputs[:, at]]
        return solved
