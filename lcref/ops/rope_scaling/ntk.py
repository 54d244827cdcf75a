"""NTK-aware scaling: base' = base s^(K/(K-2)).  bloc97, 2023; written up in Peng et al., arXiv 2309.00071, section 3.1.

A larger base slows every plane by a different amount: theta'_k = theta_k s^(-2k/(K-2)), so the fastest plane is left alone (neighbours
stay apart) and the slowest is divided by exactly s (its angles stay within those of L). The planes between are divided by less than
s, hence some still meet new angles: the usable length falls short of s L, and s is chosen larger than what is wanted.
"""
from dataclasses import dataclass

from lcref.ops.numbers import number, whole
from lcref.ops.rope_scaling.scaling import Scaling, ntk_exponents, single, theta


@dataclass(frozen=True)
class Ntk(Scaling):
    """theta_k factor^(-2k/(K-2)). ValueError for factor < 1 or original_length < 1."""
    factor: float = 4.0
    original_length: int = 2048                # not in the formula; it says how far: `reach` is factor * original_length

    def __post_init__(self):
        number("ntk", "factor", self.factor, least=1)
        whole("ntk", "original_length", self.original_length)

    def inv_freq(self, head_dim, base, length, table=None):
        return single(theta(head_dim, base) * float(self.factor) ** -ntk_exponents(head_dim))
