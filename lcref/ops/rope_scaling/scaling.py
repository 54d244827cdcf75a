"""What every RoPE scaling answers, and the few numbers that all of them start from.

    inv_freq(head_dim, base, length, table=None)    f32[K/2], fastest plane first; length = how many positions a row reaches. [B] lengths,
                                                    one a row: f32[B,K/2] from schemes that look at it
    attention_factor(length)                        what cos and sin are multiplied by, hence logits by its square
    training_ids(key, pos)                          the ids that stand for pos in one training pass
    initial(key, head_dim), solve(...)              parameters and what is made of them once per pass (clex alone has any)

`length` may be traced where a scheme is `dynamic`, and static schemes do not look at it: no scheme compiles again when it changes.
Known numbers are worked out in float64 and rounded once. head_dim is the width that is rotated, base a plain number above 1.
"""
import math
from numbers import Real
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from lcref.ops.positions import known


class Scaling:
    """Plain RoPE, but for what a scheme overrides; schemes are frozen dataclasses, hashable, compared by value."""
    dynamic: ClassVar[bool] = False                # True: angles of old keys change with the length, so a cache holds keys un-rotated
    draws_training_ids: ClassVar[bool] = False     # True: training_ids draws, and needs a key

    @property
    def reach(self):
        """The longest row that factor was chosen for, in tokens; None for schemes without the two fields."""
        return int(self.factor * self.original_length) if {"factor", "original_length"} <= set(self.__dataclass_fields__) else None

    def inv_freq(self, head_dim, base, length, table=None):
        """What theta becomes -> f32[K/2] or [B,K/2].  length: a number or [B], known or traced; table: what `solve` gave.
        ValueError for odd head_dim."""
        raise NotImplementedError(f"{type(self).__name__} must define inv_freq")

    def attention_factor(self, length):
        """A number, the `factor` of rope.rotate for queries and keys alike."""
        return 1.0

    def training_ids(self, key, pos):
        """Ids in place of pos [..., T] in one training pass, same shape, maybe fractions (float32) or below 0. Default: pos."""
        return pos

    def initial(self, key, head_dim):
        """Arrays to be trained, by name."""
        return {}

    def solve(self, head_dim, base, parameters):
        """The table that inv_freq wants, made of trained `parameters`; None when nothing is trained."""
        return None


def theta(head_dim, base):
    """base^(-2k/K) in float64, numpy [K/2], fastest first. ValueError for an odd width or a base that is no number above 1."""
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"rotation works on pairs: head_dim must be even and at least 2, got {head_dim}")
    if not (isinstance(base, Real) and 1 < base < math.inf):
        raise ValueError(f"rope scaling needs a base above 1, got {base!r}")
    return float(base) ** -(np.arange(0, head_dim, 2) / head_dim)


def ntk_exponents(head_dim):
    """2k/(K-2), numpy [K/2]: 0 for the fastest plane, 1 for the slowest. Multiplying the base by s^(K/(K-2)) is dividing theta_k by
    s to this power: same numbers, but a huge base never has to exist in float32. A single plane (K = 2) is the fastest, and stays."""
    return np.arange(0, head_dim, 2) / max(head_dim - 2, 1)


def turns(frequencies, original_length):
    """How often each plane comes round within the training length."""
    return original_length * frequencies / (2 * math.pi)


def windows(length, original_length):
    """ceil(length / original_length), at least 1, of the shape of `length`: numpy integers for a known one, else int32."""
    here = known(length)
    if here is not None:
        return np.maximum(np.ceil(here / original_length), 1).astype(np.int64)
    if jnp.issubdtype(length.dtype, jnp.integer):
        count = (length + (original_length - 1)) // original_length
    else:
        count = jnp.ceil(length / original_length)
    return jnp.maximum(count.astype(jnp.int32), 1)


def row(frequencies, length):
    """f32[K/2] with an axis of size 1 before it for every axis of a traced `length`."""
    return single(frequencies).reshape((1,) * jnp.ndim(length) + (-1,))


def single(frequencies):
    return jnp.asarray(frequencies, jnp.float32)
