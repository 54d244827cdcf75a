"""Which symbol occurs most often? One look at everything: attention that weighs all tokens alike is a count, whatever the length.

RASP-L (arXiv 2310.16028, section 4) predicts that it generalizes in length. There is always one winner: where two lead, one occurrence of
the second becomes the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, SEP, Batch, Task, at_least, lay_out, symbols, vocabulary


@dataclass(frozen=True)
class Mode(Task):
    """`length` letters from `alphabet`; the one answer token is the commonest. T = length + 2, no longest problem; guessing scores 1/alphabet.

    >>> print(show(Mode(), np.random.default_rng(0), length=7, samples=1))
    length 7
    inputs   ^ e d c b b b a |
    targets  e d c b b b a | b
    scored                   *
    """

    alphabet: int = 5

    def __post_init__(self):
        at_least(1, alphabet=self.alphabet)

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary(symbols(self.alphabet))

    def width(self, length: int) -> int:
        self.check(length)
        return length + 2

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        letters = rng.integers(self.alphabet, size=(batch, length), dtype=np.int32)
        count = (letters[:, :, None] == np.arange(self.alphabet)).sum(axis=1)
        order = np.argsort(-(count + rng.random(count.shape)), axis=1)  # the fraction decides between equals
        winner = order[:, :1].astype(np.int32)
        if self.alphabet > 1:
            second = order[:, 1:2]
            tie = np.take_along_axis(count, winner, axis=1) == np.take_along_axis(count, second, axis=1)
            place = np.argmax(np.where(letters == second, rng.random(letters.shape), -1), axis=1)[:, None]  # one of its occurrences
            letters = np.where(tie & (np.arange(length)[None, :] == place), winner, letters)
        return lay_out([BOS, CONTENT + letters, SEP], [CONTENT + winner], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """Count each row, and take the largest count."""
        return np.array([[np.bincount(row).argmax()] for row in question], np.int32)
