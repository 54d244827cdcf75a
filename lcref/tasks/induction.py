"""Induction: "after S came x; here is S again, what comes now?" The smallest lookup there is, and a test of how far it reaches.

Source: arXiv 2312.00752, appendix E.1: trained at 256 tokens, tested to 2^20; attention holds to at most twice its training length
there, Mamba to the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, PAD, Batch, Task, at_least, lay_out, symbols, vocabulary

SPECIAL = 4


@dataclass(frozen=True)
class Induction(Task):
    """`length` tokens: random symbols, the special token S once among them (followed by x) and again at the end; predict x.

    S and its x lie at a uniformly drawn place. T = length + 1 (BOS), shortest 3 (S x S), no longest problem; guessing scores
    1 / alphabet.

    >>> print(show(Induction(), np.random.default_rng(0), length=8, samples=1))
    length 8
    inputs   ^ S k i e e a b S
    targets  S k i e e a b S k
    scored                   *
    """

    alphabet: int = 16

    def __post_init__(self):
        at_least(1, alphabet=self.alphabet)

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary(symbols(self.alphabet), S=SPECIAL)

    @property
    def shortest(self) -> int:
        return 3

    def width(self, length: int) -> int:
        self.check(length)
        return length + 1

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        context = rng.integers(CONTENT, CONTENT + self.alphabet, (batch, length - 1), np.int32)
        place = rng.integers(length - 2, size=batch)  # x is the token behind it, still before the closing S
        rows = np.arange(batch)
        context[rows, place] = SPECIAL
        x = context[rows, place + 1]
        return lay_out([BOS, context, SPECIAL], [x[:, None]], length)

    def solve(self, inputs: np.ndarray) -> np.ndarray:
        """Read from the left: keep what came right after S; at the last S that is the answer."""
        solved = np.full(inputs.shape, PAD, np.int32)
        memory = np.full(len(inputs), PAD, np.int32)
        for t in range(1, inputs.shape[1]):
            solved[:, t] = np.where(inputs[:, t] == SPECIAL, memory, PAD)
            memory = np.where(inputs[:, t - 1] == SPECIAL, inputs[:, t], memory)
        return solved
