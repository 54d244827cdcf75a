"""Copy a string: the plainest test of whether a model finds its place again past the lengths it was trained on.

Transformers copy by looking up the last few tokens (an n-gram) and repeating what followed them, so a string whose n-grams are
unique is enough; a state-space model must hold the whole string in its state. Source: arXiv 2402.01032 (26 letters).
RASP-L (arXiv 2310.16028, section 5) predicts that copying unique tokens generalizes in length, since the last token alone names
the place, and that copying a string with many repeats does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Task, at_least, lay_out, symbols, unique, vocabulary


@dataclass(frozen=True)
class Copy(Task):
    """Repeat `length` letters drawn independently and uniformly from `alphabet`. T = 2 length + 2, no longest problem.

    Deviation: one string a row, padded, where arXiv 2402.01032 packs several into one training context.

    >>> print(show(Copy(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^ w q n h i b | w q n h i b
    targets  w q n h i b | w q n h i b $
    scored                 * * * * * * *
    """

    alphabet: int = 26

    def __post_init__(self):
        at_least(1, alphabet=self.alphabet)

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary(symbols(self.alphabet))

    def width(self, length: int) -> int:
        self.check(length)
        return 2 * length + 2

    def draw(self, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
        return rng.integers(CONTENT, CONTENT + self.alphabet, (batch, length), np.int32)

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        string = self.draw(rng, batch, length)
        return lay_out([BOS, string, SEP], [string, EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """Read the string once from the left and write each token down."""
        out = np.full((len(question), question.shape[1] + 1), EOS, np.int32)
        for t in range(question.shape[1]):
            out[:, t] = question[:, t]
        return out


@dataclass(frozen=True)
class CopyUnique(Copy):
    """Repeat `length` tokens, no token twice; the longest problem is `alphabet`.

    >>> print(show(CopyUnique(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^   125 53  102 34  121 117 |   125 53  102 34  121 117
    targets  125 53  102 34  121 117 |   125 53  102 34  121 117 $
    scored                               *   *   *   *   *   *   *
    """

    alphabet: int = 128

    @property
    def longest(self) -> int:
        return self.alphabet

    def draw(self, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
        return CONTENT + unique(rng, batch, length, self.alphabet)
