"""Llama 3.1's scaling: by wavelength, three cases.  Grattafiori et al., arXiv 2407.21783, and its released code.

With wavelength = 2 pi / theta (tokens per turn) and L the training length:
    shorter than L / high_freq_factor     theta           at least 4 turns within L: stays
    longer than L / low_freq_factor       theta / s       not one whole turn: interpolated
    between                               a mix, linear in L / wavelength

In number of turns this is by_parts with beta_slow 1 and beta_fast 4 (YaRN: 1 and 32), and no sharpening of logits.
"""
import math
from dataclasses import dataclass

import numpy as np

from lcref.ops.numbers import number, whole
from lcref.ops.rope_scaling.scaling import Scaling, single, theta


@dataclass(frozen=True)
class Llama3(Scaling):
    """Defaults: Llama 3.1. ValueError for factor < 1, original_length < 1, or high_freq_factor not above low_freq_factor > 0."""
    factor: float = 8.0
    original_length: int = 8192
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0

    def __post_init__(self):
        number("llama3", "factor", self.factor, least=1)
        whole("llama3", "original_length", self.original_length)
        number("llama3", "low_freq_factor", self.low_freq_factor, above=0)
        number("llama3", "high_freq_factor", self.high_freq_factor, above=self.low_freq_factor)

    def inv_freq(self, head_dim, base, length, table=None):
        plain, L = theta(head_dim, base), self.original_length
        wavelength = 2 * math.pi / plain
        smooth = (L / wavelength - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        between = (1 - smooth) * plain / self.factor + smooth * plain
        long, short = wavelength > L / self.low_freq_factor, wavelength < L / self.high_freq_factor
        return single(np.where(long, plain / self.factor, np.where(short, plain, between)))
