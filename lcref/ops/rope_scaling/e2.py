"""E2-LLM: train short once, with many scales and offsets; choose the scale when reading.  Liu et al., arXiv 2401.06951.

    training, every pass     g ~ U{1..factor},  t ~ U{0..max_offset},   ids  [0, 1, 2, 3+t, 4+t, ..., L-1+t] / g
    reading                  g = ceil(length / L),  no offset,           theta_k / g: position interpolation at the scale needed

Short passes at scale g show the model neighbours 1/g apart. The offset opens a gap behind the first tokens (its anchors, where
attention likes to rest), so that pairs are met that are farther apart than the pass is long. Under RoPE that gap is all an offset
does: moving every token by the same amount changes no score. Hence

Deviation: ids are counted from the other side of the gap, the anchors at p - t instead of the rest at p + t. Scores are the same, and
a training pass then never reaches beyond its length, so that `length` picks g = 1, the scale that the ids already contain.
Deviation: no code was released, and the value of the largest offset is not known to us. The default, (factor - 1) L, makes a pass at
g = 1 cover the distances of a text of factor L tokens.
"""
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from lcref.ops.numbers import whole
from lcref.ops.positions import known
from lcref.ops.rope_scaling.scaling import Scaling, row, single, theta, windows


@dataclass(frozen=True)
class E2(Scaling):
    """factor: largest scale in training; reading goes on past it. max_offset: largest offset (None: (factor - 1) original_length).
    anchors: how many first tokens are left where they were.

    ValueError for factor < 1, original_length < 1, max_offset < 0, anchors < 0.
    """
    dynamic: ClassVar[bool] = True
    draws_training_ids: ClassVar[bool] = True
    factor: int = 20
    original_length: int = 2048
    max_offset: int | None = None
    anchors: int = 3

    def __post_init__(self):
        whole("e2", "factor", self.factor)
        whole("e2", "original_length", self.original_length)
        whole("e2", "anchors", self.anchors, least=0)
        if self.max_offset is not None:
            whole("e2", "max_offset", self.max_offset, least=0)

    def inv_freq(self, head_dim, base, length, table=None):
        plain, g = theta(head_dim, base), windows(length, self.original_length)
        return single(plain / g[..., None]) if known(length) is not None else row(plain, length) / g.astype(jnp.float32)[..., None]

    def training_ids(self, key, pos):
        """pos [..., T], T <= original_length -> float32 ids, same shape, one (g, t) for the whole batch. Each document of a packed row
        has anchors of its own. ValueError without a key, or for a longer pass."""
        if key is None:
            raise ValueError("e2 draws a scale and an offset in every training pass: give a key")
        if pos.shape[-1] > self.original_length:
            raise ValueError(f"e2 trains within original_length {self.original_length}, got {pos.shape[-1]} positions")
        largest = (self.factor - 1) * self.original_length if self.max_offset is None else self.max_offset
        for_scale, for_offset = jax.random.split(key)
        g = jax.random.randint(for_scale, (), 1, self.factor + 1).astype(jnp.float32)
        t = jax.random.randint(for_offset, (), 0, largest + 1).astype(jnp.float32)
        pos = jnp.asarray(pos).astype(jnp.float32)
        return jnp.where(pos < self.anchors, pos - t, pos) / g
