"""Sums modulo ten: every term matters, so that attention must read them all, and no term alone tells anything about the answer.

Two tasks of "The impact of positional encoding on length generalization" (arXiv 2305.19466, table of tasks): `Sum` adds digits,
`Polynomial` evaluates one, given as its terms. Like parity, with ten values for two, they ask for the answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, SEP, Batch, Task, lay_out, vocabulary

DIGITS = "0123456789"
COEFFICIENTS, EXPONENTS, POINTS = range(-3, 4), range(4), range(-2, 3)


@dataclass(frozen=True)
class Sum(Task):
    """`length` digits from 1 to 9; the one answer token is their sum modulo 10. T = length + 2, no longest problem; guessing scores 1/10.

    >>> print(show(Sum(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^ 8 6 5 3 3 1 |
    targets  8 6 5 3 3 1 | 6
    scored                 *
    """

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary(DIGITS)

    def width(self, length: int) -> int:
        self.check(length)
        return length + 2

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        digits = rng.integers(1, 10, size=(batch, length), dtype=np.int32)
        return lay_out([BOS, CONTENT + digits, SEP], [CONTENT + digits.sum(axis=1, keepdims=True) % 10], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """Digit by digit, what is above nine dropped each time."""
        total = np.zeros(len(question), np.int32)
        for t in range(question.shape[1]):
            total = (total + question[:, t] - CONTENT) % 10
        return CONTENT + total[:, None]


@dataclass(frozen=True)
class Polynomial(Task):
    """x, then `length` terms c x^e as two tokens each, c from -3 to 3, e from 0 to 3, x from -2 to 2; the answer is the sum modulo 10.
    T = 2 length + 3, no longest problem; guessing scores about 1/10.

    >>> print(show(Polynomial(), np.random.default_rng(0), length=3, samples=1))
    length 3
    inputs   ^  x2 1* ^1 0* ^0  -2* ^0 |
    targets  x2 1* ^1 0* ^0 -2* ^0  |  0
    scored                             *
    """

    @property
    def tokens(self) -> tuple[str, ...]:
        """Digits, coefficients, exponents, points."""
        return vocabulary([*DIGITS, *(f"{c}*" for c in COEFFICIENTS), *(f"^{e}" for e in EXPONENTS), *(f"x{x}" for x in POINTS)])

    def width(self, length: int) -> int:
        self.check(length)
        return 2 * length + 3

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        x, c, e = (rng.integers(values.start, values.stop, size=(batch, n), dtype=np.int32)
                   for values, n in ((POINTS, 1), (COEFFICIENTS, length), (EXPONENTS, length)))  # fmt: skip
        value = (c * x**e).sum(axis=1, keepdims=True) % 10
        c, e, x = (CONTENT + self.tokens[CONTENT:].index(first) + z - z0 for first, z, z0 in (("-3*", c, -3), ("^0", e, 0), ("x-2", x, -2)))
        terms = np.stack([c, e], axis=-1).reshape(batch, 2 * length)
        return lay_out([BOS, x, terms, SEP], [CONTENT + value], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """Read what the tokens say, in Python's own numbers, term by term."""
        rows = []
        for row in question:
            x, *terms = self.decode(row)
            total = sum(int(c[:-1]) * int(x[1:]) ** int(e[1:]) for c, e in zip(terms[::2], terms[1::2]))
            rows.append([CONTENT + total % 10])
        return np.array(rows, np.int32)
