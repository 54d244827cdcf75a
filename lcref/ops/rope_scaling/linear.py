"""Position Interpolation: theta'_k = theta_k / s.  Chen et al., arXiv 2306.15595; independently kaiokendev, 2023.

Dividing every frequency by s is dividing every position by s: L s tokens are squeezed into the angles of L, so none is new. The
price is resolution: neighbours are 1/s apart, which the model has never seen, so it wants a short fine-tune.
"""
from dataclasses import dataclass

from lcref.ops.numbers import number, whole
from lcref.ops.rope_scaling.scaling import Scaling, single, theta


@dataclass(frozen=True)
class Linear(Scaling):
    """theta_k / factor. ValueError for factor < 1 or original_length < 1."""
    factor: float = 4.0
    original_length: int = 2048                # not in the formula; it says how far: `reach` is factor * original_length

    def __post_init__(self):
        number("linear", "factor", self.factor, least=1)
        whole("linear", "original_length", self.original_length)

    def inv_freq(self, head_dim, base, length, table=None):
        return single(theta(head_dim, base) / self.factor)
