"""p-RoPE: the slowest planes do not turn.  Barbero et al., arXiv 2410.06205.

    theta_k for k < floor(p K/2), else 0        p = 1 is RoPE, p = 0 NoPE

As published, a trained model uses the fast planes to look at places and the slow ones to say what a key is about, which turning disturbs in long
contexts; models of 2B trained with the slowest planes stopped reach a lower perplexity (Table 2). What turns fully in training has no new angle to
show in longer rows, and neither has what does not turn: measured in softplus_attention/planes and passkey/grid. p does not know the training length,
`turning` does. transformers calls this "proportional". To be trained with.
"""
import math
from dataclasses import dataclass

import numpy as np

from lcref.ops.numbers import number, whole
from lcref.ops.rope_scaling.scaling import Scaling, single, theta, turns


@dataclass(frozen=True)
class PRope(Scaling):
    """p: the share of planes that turn. ValueError for p < 0 or p > 1."""
    p: float = 0.75

    def __post_init__(self):
        number("p_rope", "p", self.p, least=0)
        if self.p > 1:
            raise ValueError(f"p_rope p must be a number from 0 to 1, got {self.p!r}")

    def inv_freq(self, head_dim, base, length, table=None):
        plain = theta(head_dim, base)
        return single(np.where(np.arange(len(plain)) < int(self.p * head_dim // 2), plain, 0.0))


def turning(head_dim, base, length):
    """The p with which those planes turn that turn at least once in `length` positions. ValueError for length < 1."""
    whole("p_rope", "length", length)
    count = int((turns(theta(head_dim, base), length) >= 1).sum())
    p = count / (head_dim // 2)
    return p if int(p * head_dim // 2) == count else math.nextafter(p, 1.0)      # rounded down it would lose a plane
