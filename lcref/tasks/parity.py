"""Is the number of ones odd? Every bit matters equally, so attention must average them all and the answer's margin shrinks as 1/n;
a recurrent state needs one bit. Transformers are not known to carry this past their training lengths without a scratchpad.

Sources: parity_check of the Chomsky-hierarchy suite (arXiv 2207.02098); RASP-L, arXiv 2310.16028.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, SEP, Batch, Task, lay_out, vocabulary


@dataclass(frozen=True)
class Parity(Task):
    """`length` fair bits; the one answer token is their sum modulo 2. T = length + 2, no longest problem; guessing scores 1/2.

    >>> print(show(Parity(), np.random.default_rng(0), length=6, samples=1))
    length 6
    inputs   ^ 1 1 1 0 0 0 |
    targets  1 1 1 0 0 0 | 1
    scored                 *
    """

    @property
    def tokens(self) -> tuple[str, ...]:
        return vocabulary("01")

    def width(self, length: int) -> int:
        self.check(length)
        return length + 2

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        bits = rng.integers(2, size=(batch, length), dtype=np.int32)
        odd = bits.sum(axis=1, keepdims=True) % 2
        return lay_out([BOS, CONTENT + bits, SEP], [CONTENT + odd], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """A machine of two states: every one flips the state."""
        state = np.zeros(len(question), bool)
        for t in range(question.shape[1]):
            state ^= question[:, t] == CONTENT + 1
        return CONTENT + state[:, None].astype(np.int32)
