"""NTK-by-parts: decide per plane, by how often it turns within the training length.  Peng et al., arXiv 2309.00071, section 3.2.

    r_k = L theta_k / 2 pi,     gamma = clip((r - slow) / (fast - slow), 0, 1),     theta' = (1 - gamma) theta / s + gamma theta

A plane with many turns (r >= 32) tells neighbours apart, has met all its angles, and stays. One that never comes round (r <= 1)
carries absolute position, and is interpolated. Between them, a mix. This is what YaRN turns the frequencies into, in the paper's
form; the first "by parts" code was another mix, of linear, NTK and plain frequencies.
"""
from dataclasses import dataclass

import numpy as np

from lcref.ops.numbers import number, whole
from lcref.ops.rope_scaling.scaling import Scaling, single, theta, turns


@dataclass(frozen=True)
class ByParts(Scaling):
    """beta_fast, beta_slow: turns within original_length from which a plane stays, and up to which it is divided by factor.

    ValueError for factor < 1, original_length < 1, or beta_fast not above beta_slow, or beta_slow < 0.
    """
    factor: float = 4.0
    original_length: int = 2048
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def __post_init__(self):
        number("by_parts", "factor", self.factor, least=1)
        whole("by_parts", "original_length", self.original_length)
        number("by_parts", "beta_slow", self.beta_slow, least=0)
        number("by_parts", "beta_fast", self.beta_fast, above=self.beta_slow)

    def inv_freq(self, head_dim, base, length, table=None):
        plain = theta(head_dim, base)
        return single(mixed(plain, self.factor, by_turns(plain, self.original_length, self.beta_fast, self.beta_slow)))


def by_turns(plain, original_length, fast, slow):
    """gamma, numpy [K/2]: 1 where a plane turns at least `fast` times within the training length, 0 up to `slow`."""
    return np.clip((turns(plain, original_length) - slow) / (fast - slow), 0.0, 1.0)


def mixed(plain, factor, gamma):
    """gamma of the frequencies as they were, the rest interpolated."""
    return (1 - gamma) * plain / factor + gamma * plain
