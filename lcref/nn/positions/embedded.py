"""Schemes that add a vector to the token embedding: sinusoids and a learned table."""
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from lcref.nn.positions.scheme import Position, PositionConfig
from lcref.ops import positions, rope
from lcref.ops.numbers import number, whole


@dataclass(frozen=True)
class Sinusoidal(PositionConfig):
    """x + [sin, cos] of p * base^(-2k/D).  arXiv 1706.03762, section 3.5; ValueError if d_model is odd.

    layout: "interleaved" (the paper: sin, cos, sin, cos, ...) or "concatenated" (all sin, then all cos).
    Deviation: the paper multiplies token embeddings by sqrt(d_model) before it adds; here DecoderConfig.embed_std says how large they
    start, and at its default of 0.02 the sinusoids are 35 times as large.
    """
    embeds: ClassVar[bool] = True
    base: float = 10_000.0
    layout: str = "interleaved"

    def __post_init__(self):
        number("sinusoidal", "base", self.base, least=1)

    def build(self, heads, head_dim, d_model, *, rngs):
        rope.sinusoid(np.zeros(1), d_model, self.base, layout=self.layout)     # complain now rather than in the first forward pass
        return SinusoidalPosition(self)


class SinusoidalPosition(Position):
    def __init__(self, cfg):
        self.cfg = cfg

    def embed(self, x, pos):
        return added(x, rope.sinusoid(pos, x.shape[-1], self.cfg.base, layout=self.cfg.layout))


@dataclass(frozen=True)
class Learned(PositionConfig):
    """x + table[p], one vector per position, init normal with standard deviation 0.02 (GPT-2 in transformers; OpenAI's code: 0.01).

    Positions >= length do not exist. Known positions past the table raise ValueError, and so does a row longer than the table whose
    positions are traced. Traced positions past the end of a shorter row (decoding inside jit) give NaN. JAX's own indexing would repeat the
    last row, and an extrapolation experiment would report a number for it.
    """
    embeds: ClassVar[bool] = True
    length: int = 2048

    def __post_init__(self):
        whole("learned", "length", self.length)

    @property
    def limit(self):
        return self.length

    def build(self, heads, head_dim, d_model, *, rngs):
        return LearnedPosition(self, d_model, rngs)


class LearnedPosition(Position):
    def __init__(self, cfg, d_model, rngs):
        self.cfg = cfg
        self.table = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (cfg.length, d_model), jnp.float32))

    def embed(self, x, pos):
        length, here = self.cfg.length, positions.known(pos)
        if not jnp.issubdtype(pos.dtype, jnp.integer):
            raise ValueError(f"a learned position table is looked up with integers, got {pos.dtype} positions")
        if here is None and pos.shape[-1] > length:
            raise ValueError(f"{pos.shape[-1]} tokens, but the learned position table has length {length}: raise Learned.length")
        if here is not None and here.size and not 0 <= here.min() <= here.max() < length:
            wrong = here.max() if here.max() >= length else here.min()
            raise ValueError(f"position {wrong} is outside the learned position table of length {length}: raise Learned.length")
        return added(x, jnp.take(self.table[...], positions.indices(pos, length), axis=0, mode="fill", fill_value=jnp.nan))


def added(x, vectors):
    """x [B,T,D] + vectors [T,D], [1,T,D] or [B,T,D], in float32; the result has x's dtype."""
    if vectors.shape[-2] != x.shape[-2]:
        raise ValueError(f"{vectors.shape[-2]} positions for {x.shape[-2]} tokens")
    if not positions.fit(vectors.shape[:-2], x.shape[:-2]):
        raise ValueError(f"positions of {vectors.shape[:-2]} rows do not fit {x.shape[:-2]}: want [T], [1,T] or [B,T]")
    vectors = vectors.reshape((1,) * (x.ndim - vectors.ndim) + vectors.shape)
    return (x.astype(jnp.float32) + vectors.astype(jnp.float32)).astype(x.dtype)
