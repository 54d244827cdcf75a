"""LongRoPE: every plane its own divisor, found by search.  Ding et al., arXiv 2402.13753.

    theta'_k = theta_k / lambda_k          cos and sin times sqrt(1 + ln s / ln L)

An evolutionary search looks for the lambda_k, non-decreasing in k, that give the lowest perplexity: no formula in the index or in
the turns of a plane is assumed. Two lists come out of it, one for texts up to L (so that nothing is lost there), one for longer
ones; the switch makes the scheme dynamic. The search itself, and the paper's unscaled first tokens, are not here.
"""
import math
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from lcref.ops.numbers import number, whole
from lcref.ops.positions import known
from lcref.ops.rope_scaling.scaling import Scaling, row, single, theta


@dataclass(frozen=True)
class LongRope(Scaling):
    """short_factor, long_factor: the lambda_k, a tuple of head_dim/2 numbers each, used up to original_length and past it. An empty
    one stands for the search's starting points: 1 everywhere in the short list, `factor` everywhere in the long one.
    magnitude: cos and sin times this instead of sqrt(1 + ln factor / ln original_length), at every length; it is transformers'
    attention_factor, a name that here is the method's.

    ValueError for factor < 1, original_length < 2, a list that does not fit head_dim or holds anything but numbers above 0.
    """
    dynamic: ClassVar[bool] = True
    factor: float = 4.0
    original_length: int = 2048
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    magnitude: float | None = None

    def __post_init__(self):
        number("longrope", "factor", self.factor, least=1)
        whole("longrope", "original_length", self.original_length, least=2)
        if self.magnitude is not None:
            number("longrope", "magnitude", self.magnitude, above=0)
        for name in ("short_factor", "long_factor"):
            if not isinstance(getattr(self, name), tuple):
                raise ValueError(f"longrope {name} must be a tuple of numbers, got {getattr(self, name)!r}")
            for value in getattr(self, name):
                number("longrope", name, value, above=0)

    def inv_freq(self, head_dim, base, length, table=None):
        plain = theta(head_dim, base)
        for name in ("short_factor", "long_factor"):
            if len(getattr(self, name)) not in (0, len(plain)):
                raise ValueError(f"longrope {name} has {len(getattr(self, name))} numbers, head_dim {head_dim} wants {len(plain)}")
        short, long = plain / (self.short_factor or 1.0), plain / (self.long_factor or self.factor)
        here = known(length)
        if here is not None:
            return single(np.where((here > self.original_length)[..., None], long, short))
        return jnp.where((length > self.original_length)[..., None], row(long, length), row(short, length))

    def attention_factor(self, length):
        if self.magnitude is not None:
            return float(self.magnitude)
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_length))
