"""What a position scheme is: a module that can act on attention in three places, and the config that makes it.

Every hook a scheme leaves alone is the identity; a scheme that leaves all of them alone is NoPE.
"""
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from lcref.ops.positions import known


class Position(nnx.Module):
    """How a scheme can act. As it stands: no position signal at all."""
    late = False                               # True: an old key's angle still changes, so caches keep keys un-rotated
    near = None                                # a number: keys at this distance or further are rotated by `rotate_far`
    slopes = None                              # numpy float32 [H]: all that `bias` does is -slope * |i - j|, which kernels build themselves

    def embed(self, x, pos):
        return x

    def rotate(self, x, pos, of="q"):
        return x

    def bias(self, q_pos, k_pos):
        return None

    def solve(self):
        """What `at` needs and every length shares: made once per pass, or once per stream. None for all but CLEX."""
        return None

    def at(self, length, table=None):
        """The scheme as it is in a row of `length` tokens (a number, known or traced)."""
        return self


@dataclass(frozen=True)
class PositionConfig:
    """What every scheme's config offers."""
    per_layer: ClassVar[bool] = False
    embeds: ClassVar[bool] = False
    draws_ids: ClassVar[bool] = False
    draws_training_ids: ClassVar[bool] = False

    @property
    def limit(self) -> int | None:
        return None

    def ids(self, key, pos, length=None):
        return pos

    def training_ids(self, key, pos):
        return self.ids(key, pos)

    def build(self, heads, head_dim, d_model, *, rngs) -> Position:
        raise NotImplementedError(f"{type(self).__name__} must define build")


@dataclass(frozen=True)
class Nope(PositionConfig):
    """No positions: the causal mask alone breaks the symmetry, a token can count what it sees.  arXiv 2305.19466."""

    def build(self, heads, head_dim, d_model, *, rngs):
        return Position()


def row_length(pos):
    """How long each row is: its largest position + 1. pos [T] or [1,T] -> a number, [B,T] -> [B]; numpy where positions are known."""
    here = known(pos)
    longest = jnp.max(pos, axis=-1) if here is None else np.max(here, axis=-1, initial=0)
    longest = longest.astype(np.int32) if jnp.issubdtype(longest.dtype, jnp.integer) else longest          # 255 + 1 in a uint8 would be 0
    longest = longest + 1
    return longest[0] if longest.shape == (1,) else longest
