"""Selective copying: pick the data tokens out of the noise and write them down in their order.

The gaps are random, so a fixed convolution (a time-invariant state-space model) cannot solve it: what enters the state has to
depend on the token. Source: arXiv 2312.00752, section 4.1: 4096 tokens, 16 of them data, vocabulary 16 with the noise token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Task, at_least, lay_out, symbols, vocabulary

NOISE = 4


@dataclass(frozen=True)
class SelectiveCopy(Task):
    """`length` tokens, `data` of them random letters at random places, the rest noise; the answer is the letters in order.

    T = length + data + 2; shortest: data; no longest problem. Cost O(B length).

    >>> print(show(SelectiveCopy(data=3), np.random.default_rng(0), length=10, samples=1))
    length 10
    inputs   ^ . . . m j . . h . . | m j h
    targets  . . . m j . . h . . | m j h $
    scored                         * * * *
    """

    data: int = 8
    alphabet: int = 15

    def __post_init__(self):
        at_least(1, data=self.data, alphabet=self.alphabet)

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary(symbols(self.alphabet), **{".": NOISE})

    @property
    def shortest(self) -> int:
        return self.data

    def width(self, length: int) -> int:
        self.check(length)
        return length + self.data + 2

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        letters = rng.integers(CONTENT, CONTENT + self.alphabet, (batch, self.data), np.int32)
        is_data = rng.permuted(np.broadcast_to(np.arange(length) < self.data, (batch, length)), axis=1)
        context = np.full((batch, length), NOISE, np.int32)
        context[is_data] = letters.ravel()  # every row has `data` of them, so rows stay rows and order stays order
        return lay_out([BOS, context, SEP], [letters, EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """A pen for each row: it writes the token it reads and moves on only if that was no noise."""
        out = np.full((len(question), self.data + 1), EOS, np.int32)
        rows, pen = np.arange(len(question)), np.zeros(len(question), np.int64)
        for token in question.T:
            out[rows, pen] = np.where(token == NOISE, EOS, token)
            pen += token != NOISE
        return out
