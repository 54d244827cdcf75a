"""Giraffe's power scaling: theta'_k = theta_k (1 - k/(K/2))^p.  Pal et al., arXiv 2308.10882.

Fast planes stay, slow ones are slowed, the slowest by (2/K)^p. As published, good in short contexts and the first to fall off in long
ones. Needs fine-tuning.
"""
from dataclasses import dataclass

import numpy as np

from lcref.ops.numbers import number
from lcref.ops.rope_scaling.scaling import Scaling, single, theta


@dataclass(frozen=True)
class Power(Scaling):
    """power: the p above, 0 changes nothing. ValueError for power < 0."""
    power: float = 0.5

    def __post_init__(self):
        number("power", "power", self.power, least=0)

    def inv_freq(self, head_dim, base, length, table=None):
        plain = theta(head_dim, base)
        return single(plain * (1 - np.arange(len(plain)) / len(plain)) ** self.power)
