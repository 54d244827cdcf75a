"""Write a string backwards: the first answer token is the nearest, every next one lies two places further back.

Sources: reverse_string of the Chomsky-hierarchy suite (arXiv 2207.02098) and arXiv 2305.19466.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Task, at_least, lay_out, symbols, vocabulary


@dataclass(frozen=True)
class Reverse(Task):
    """`length` letters, independent and uniform, to be written last to first. T = 2 length + 2, no longest problem.

    >>> print(show(Reverse(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^ w q n h i b | b i h n q w
    targets  w q n h i b | b i h n q w $
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

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        string = rng.integers(CONTENT, CONTENT + self.alphabet, (batch, length), np.int32)
        return lay_out([BOS, string, SEP], [string[:, ::-1], EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """Push every token on a stack, then pop until it is empty."""
        stack = list(question.T)
        out = [stack.pop() for _ in range(len(stack))]
        return np.stack([*out, np.full(len(question), EOS)], axis=1)
