"""ABF, adjusted base frequency: base 10,000 -> 500,000, and train on.  Xiong et al., arXiv 2309.16039.

Every plane but the first slows down, the slow ones most: at K = 128 the longest wavelength grows from 54,410 to 2,559,195 tokens, so
far keys are turned less and count more. Unlike NTK the base is a choice, not a function of the length wanted, and the model is
trained on at the new length (the paper: 400B tokens at up to 32,768).
"""
from dataclasses import dataclass

from lcref.ops.numbers import number
from lcref.ops.rope_scaling.scaling import Scaling, single, theta


@dataclass(frozen=True)
class Abf(Scaling):
    """base^(-2k/K) with this base, whatever the model's was. ValueError for a base not above 1."""
    base: float = 500_000.0

    def __post_init__(self):
        number("abf", "base", self.base, above=1)

    def inv_freq(self, head_dim, base, length, table=None):
        return single(theta(head_dim, self.base))
