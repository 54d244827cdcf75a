"""Add two numbers of n digits each, in three ways of writing the same sum.

    plain      54 + 37 = 091        the first digit written depends on every carry: look-ahead over the whole chain
    reversed   54 + 37 = 190        each digit needs its own column and the one before: carry = what the last column left over
    hinted     reversed, and an index token, the same all down a column, announces every digit: finding the column is copying

Index hints with a reversed answer are what carries from 40 to 100 digits in arXiv 2402.09371 (with FIRE and randomized positions);
without hints every scheme tried there fails. Hints with a random offset: RASP-L, arXiv 2310.16028.
The answer always has n + 1 digits, zero-padded, so that its width does not tell the carry. No operand starts with a zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Task, at_least, lay_out, vocabulary

PLUS = 4
HINTS = CONTENT + 10  # ids of the index hints, after the ten digits


def problem(rng: np.random.Generator, batch: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Digits, most significant first: a [B,n+1] and b [B,n+1] with a leading zero, and their sum [B,n+1].

    No loop along the carries: what a column hands on is decided by the last column so far whose sum is not 9 (a nine only
    passes on what it gets); it hands on a one if that sum is at least 10. Cost O(B n).
    """
    digits = rng.integers(10, size=(2, batch, n + 1), dtype=np.int32)
    digits[:, :, 0] = 0
    digits[:, :, 1] = rng.integers(1, 10, (2, batch))
    a, b = digits
    column = (a + b)[:, ::-1]  # least significant first, the way carries travel
    decides = np.maximum.accumulate(np.where(column != 9, np.arange(n + 1), -1), axis=1)
    carry = np.take_along_axis(column, decides, axis=1) > 9  # -1, nines only so far, reads the top column: 0, no carry
    column[:, 1:] += carry[:, :-1]
    return a, b, column[:, ::-1] % 10


def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Digits [B,n] + digits [B,n] -> digits [B,n+1], most significant first, through Python's own unbounded integers."""
    powers = np.array([10**k for k in range(a.shape[1], -1, -1)], dtype=object)
    total = a.astype(object) @ powers[1:] + b.astype(object) @ powers[1:]
    return (total[:, None] // powers % 10).astype(np.int32)


@dataclass(frozen=True)
class Addition(Task):
    """a + b = sum, most significant digit first throughout. `length` digits an operand, T = 3 length + 4, no longest problem.

    >>> print(show(Addition(), np.random.default_rng(0), length=3, samples=1))
    length 3
    inputs   ^ 2 5 2 + 8 0 0 = 1 0 5 2
    targets  2 5 2 + 8 0 0 = 1 0 5 2 $
    scored                   * * * * *
    """

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary("0123456789", **{"+": PLUS, "=": SEP})

    def width(self, length: int) -> int:
        self.check(length)
        return 3 * length + 4

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        a, b, total = (CONTENT + digits for digits in problem(rng, batch, length))
        return lay_out([BOS, a[:, 1:], PLUS, b[:, 1:], SEP], [self.written(total), EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        n = question.shape[1] // 2
        total = CONTENT + add(question[:, :n] - CONTENT, question[:, n + 1 :] - CONTENT)
        return np.pad(self.written(total), ((0, 0), (0, 1)), constant_values=EOS)

    def written(self, total: np.ndarray) -> np.ndarray:
        return total


@dataclass(frozen=True)
class AdditionReversed(Addition):
    """The operands as they are, the sum least significant digit first.

    >>> print(show(AdditionReversed(), np.random.default_rng(0), length=3, samples=1))
    length 3
    inputs   ^ 2 5 2 + 8 0 0 = 2 5 0 1
    targets  2 5 2 + 8 0 0 = 2 5 0 1 $
    scored                   * * * * *
    """

    def written(self, total: np.ndarray) -> np.ndarray:
        return total[:, ::-1]


@dataclass(frozen=True)
class AdditionHinted(Addition):
    """Every digit follows the hint of its column; the sum is written least significant digit first, so its hints descend.

    The hints of a row are consecutive tokens from a random start, so that all of them are seen in training; both operands get one
    leading zero, so that every hint of the answer stands in the prompt. Hints in the answer are scored.
    T = 6 length + 9; the longest problem is hints - 1 digits.
    Deviation: arXiv 2402.09371 writes the operands least significant first as well.

    >>> print(show(AdditionHinted(), np.random.default_rng(0), length=2, samples=1))
    length 2
    inputs   ^    h107 0    h108 1    h109 2 +    h107 0    h108 2    h109 0 =    h109 2    h108 3    h107 0
    targets  h107 0    h108 1    h109 2    + h107 0    h108 2    h109 0    = h109 2    h108 3    h107 0    $
    scored                                                                   *    *    *    *    *    *    *
    """

    hints: int = 128

    def __post_init__(self):
        at_least(2, hints=self.hints)

    @property
    def tokens(self) -> tuple[str, ...]:
        return (*super().tokens, *(f"h{i}" for i in range(self.hints)))

    @property
    def longest(self) -> int:
        return self.hints - 1

    def width(self, length: int) -> int:
        self.check(length)
        return 6 * length + 9

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        start = rng.integers(self.hints - length, size=(batch, 1), dtype=np.int32)  # length + 1 hints fit behind it
        hints = HINTS + start + np.arange(length + 1, dtype=np.int32)
        a, b, total = (_interleaved(hints, CONTENT + digits) for digits in problem(rng, batch, length))
        return lay_out([BOS, a, PLUS, b, SEP], [self.written(total), EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """Undo the hints, add, and give each digit the hint of its column back."""
        n = question.shape[1] // 2
        hints, a, b = question[:, 0:n:2], question[:, 1:n:2] - CONTENT, question[:, n + 2 :: 2] - CONTENT
        total = _interleaved(hints, CONTENT + add(a, b)[:, 1:])
        return np.pad(self.written(total), ((0, 0), (0, 1)), constant_values=EOS)

    def written(self, total: np.ndarray) -> np.ndarray:
        """Pairs (hint, digit) in opposite order."""
        return total.reshape(len(total), -1, 2)[:, ::-1].reshape(total.shape)


def _interleaved(hints: np.ndarray, digits: np.ndarray) -> np.ndarray:
    return np.stack([hints, digits], axis=-1).reshape(len(digits), -1)
