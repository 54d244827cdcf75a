"""Dynamic NTK: the NTK scale follows the length.  emozilla, 2023; Peng et al., arXiv 2309.00071, section 3.3.

    s(length) = factor length/L - (factor - 1)   past L,   1 up to L;      theta'_k = theta_k s^(-2k/(K-2))

Up to L the model is untouched, and past it the scale is only as large as needed, so there is nothing to choose: factor = 1 is the
paper's s = max(1, length/L), and a larger one overshoots, as NTK wants (at length 2 L and factor 2, s = 3). No training needed.

The angle of an old key changes when the length grows, so a cache must hold keys un-rotated.
Deviation: released code keeps the frequencies it grew to until a sequence shorter than L comes; here they depend on length alone.
"""
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from lcref.ops.numbers import number, whole
from lcref.ops.positions import known
from lcref.ops.rope_scaling.scaling import Scaling, ntk_exponents, row, single, theta


@dataclass(frozen=True)
class DynamicNtk(Scaling):
    """factor: how far s overshoots length / original_length. ValueError for factor < 1 or original_length < 1."""
    dynamic: ClassVar[bool] = True
    factor: float = 1.0
    original_length: int = 2048

    def __post_init__(self):
        number("dynamic_ntk", "factor", self.factor, least=1)
        whole("dynamic_ntk", "original_length", self.original_length)

    def inv_freq(self, head_dim, base, length, table=None):
        plain, exponents, L = theta(head_dim, base), ntk_exponents(head_dim), self.original_length
        here = known(length)
        if here is not None:
            return single(plain * (1 + self.factor * np.maximum(here - L, 0) / L)[..., None] ** -exponents)
        over = jnp.maximum(length - L, 0).astype(jnp.float32)          # length - L before float32: whole numbers subtract exactly
        return row(plain, length) * (1 + self.factor * over / L)[..., None] ** row(-exponents, length)
