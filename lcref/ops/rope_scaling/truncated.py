"""Giraffe's truncated basis: keep the fast planes, stop the slow ones.  Pal et al., arXiv 2308.10882.

With window W and b = 2 pi / W, the frequency of one turn in W tokens:
    theta            where theta >= b             the plane has met all its angles
    b / 16           where b/8 <= theta < b       one fixed slow frequency for all of these
    0                where theta < b/8            no position at all in these planes
It is the low frequencies that go. As published: perplexity stays good at any length, and retrieval is worse than with `linear`.
Needs fine-tuning.
"""
import math
from dataclasses import dataclass

import numpy as np

from lcref.ops.numbers import whole
from lcref.ops.rope_scaling.scaling import Scaling, single, theta


@dataclass(frozen=True)
class Truncated(Scaling):
    """window: the W above, usually the training length. ValueError for window < 1."""
    window: int = 2048

    def __post_init__(self):
        whole("truncated", "window", self.window)

    def inv_freq(self, head_dim, base, length, table=None):
        plain, b = theta(head_dim, base), 2 * math.pi / self.window
        return single(np.where(plain >= b, plain, np.where(plain >= b / 8, b / 16, 0.0)))
