"""Schemes that add a number to every score: ALiBi, Hard-ALiBi, T5's buckets, KERPLE, FIRE. The formulas are in lcref/ops/bias."""
from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from lcref.nn.positions.scheme import Position, PositionConfig
from lcref.ops.bias import alibi, fire, hard_alibi, kerple, t5
from lcref.ops.numbers import number, whole


@dataclass(frozen=True)
class Alibi(PositionConfig):
    """-m_h |i - j| with fixed slopes from 2^(-max_bias/H) down to 2^-max_bias.  arXiv 2108.12409."""
    max_bias: float = 8.0

    def __post_init__(self):
        number("alibi", "max_bias", self.max_bias, above=0)

    def build(self, heads, head_dim, d_model, *, rngs):
        return AlibiPosition(self, heads)


class AlibiPosition(Position):
    def __init__(self, cfg, heads):
        self.cfg, self.heads = cfg, heads

    @property
    def slopes(self):
        return alibi.slopes(self.heads, self.cfg.max_bias)

    def bias(self, q_pos, k_pos):
        return alibi.bias(q_pos, k_pos, self.slopes)


@dataclass(frozen=True)
class HardAlibi(PositionConfig):
    """Windows 1, 2, ..., windowed on the first heads, NoPE on the rest.  arXiv 2402.01032.

    windowed: how many heads have a window (None: half of them). windows: say them instead, such as (1, 2, 3, 4) or (4, 4, 8); heads
    beyond the tuple have none.
    """
    windowed: int | None = None
    windows: tuple[int, ...] | None = None

    def __post_init__(self):
        if self.windows is not None and self.windowed is not None:
            raise ValueError(f"hard_alibi: give windowed={self.windowed} or windows={self.windows}, not both")
        if self.windows is not None and not (isinstance(self.windows, tuple) and all(isinstance(w, Integral) and w >= 1 for w in self.windows)):
            raise ValueError(f"hard_alibi windows must be a tuple of whole numbers >= 1, got {self.windows!r}")

    def build(self, heads, head_dim, d_model, *, rngs):
        if self.windows is None:
            return HardAlibiPosition(hard_alibi.windows(heads, self.windowed))
        if len(self.windows) > heads:
            raise ValueError(f"hard_alibi: {len(self.windows)} windows {self.windows} for {heads} heads")
        return HardAlibiPosition(self.windows + (0,) * (heads - len(self.windows)))


class HardAlibiPosition(Position):
    def __init__(self, windows):
        self.windows = windows                                                 # a tuple, one entry a head, 0 = no window

    def bias(self, q_pos, k_pos):
        return hard_alibi.bias(q_pos, k_pos, self.windows)


@dataclass(frozen=True)
class T5(PositionConfig):
    """table[bucket(i - j), h], one table shared by all layers, init normal with variance 1/d_model.  arXiv 1910.10683.

    bidirectional splits the buckets between past and future (encoders); without it the future shares bucket 0.
    """
    buckets: int = 32
    max_distance: int = 128
    bidirectional: bool = False

    def __post_init__(self):
        whole("t5", "buckets", self.buckets)
        whole("t5", "max_distance", self.max_distance)

    def build(self, heads, head_dim, d_model, *, rngs):
        t5.bucket_table(self.buckets, self.max_distance, self.bidirectional)   # impossible numbers complain here
        return T5Position(self, heads, d_model, rngs)


class T5Position(Position):
    def __init__(self, cfg, heads, d_model, rngs):
        self.cfg = cfg
        self.table = nnx.Param(nnx.initializers.normal(d_model**-0.5)(rngs.params(), (cfg.buckets, heads), jnp.float32))

    def bias(self, q_pos, k_pos):
        return t5.bias(q_pos, k_pos, self.table[...], max_distance=self.cfg.max_distance, bidirectional=self.cfg.bidirectional)


@dataclass(frozen=True)
class Kerple(PositionConfig):
    """-r1 ln(1 + r2 |i - j|), r1 and r2 learned per head and layer.  arXiv 2205.09921.

    Starts at r1 ~ U(0, 2), r2 ~ U(0, 1), nothing below 0.01, as the authors' code.
    Deviation: they clamp the parameters at 0.01 in every forward pass (no gradient below); here r = softplus(raw), always positive.
    """
    per_layer: ClassVar[bool] = True

    def build(self, heads, head_dim, d_model, *, rngs):
        return KerplePosition(heads, rngs)


class KerplePosition(Position):
    def __init__(self, heads, rngs):
        self.raw_r1, self.raw_r2 = (nnx.Param(softplus_inverse(uniform(rngs, heads, top))) for top in (2.0, 1.0))

    def bias(self, q_pos, k_pos):
        return kerple.log(q_pos, k_pos, jax.nn.softplus(self.raw_r1[...]), jax.nn.softplus(self.raw_r2[...]))


@dataclass(frozen=True)
class KerplePower(PositionConfig):
    """-a |i - j|^p, a > 0 and 0 < p < 2 learned per head and layer.  arXiv 2205.09921.  Starts at a ~ U(0, 1), p ~ U(0, 2).

    Deviation: a = softplus(raw), p = 2 sigmoid(raw), in place of clamping a and p at 0.01 and p at 2 in every forward pass.
    """
    per_layer: ClassVar[bool] = True

    def build(self, heads, head_dim, d_model, *, rngs):
        return KerplePowerPosition(heads, rngs)


class KerplePowerPosition(Position):
    def __init__(self, heads, rngs):
        self.raw_a = nnx.Param(softplus_inverse(uniform(rngs, heads, 1.0)))
        half = uniform(rngs, heads, 1.99) / 2
        self.raw_p = nnx.Param(jnp.log(half) - jnp.log1p(-half))

    def bias(self, q_pos, k_pos):
        return kerple.power(q_pos, k_pos, jax.nn.softplus(self.raw_a[...]), 2 * jax.nn.sigmoid(self.raw_p[...]))


def uniform(rngs, heads, top):
    return jax.random.uniform(rngs.params(), (heads,), jnp.float32, minval=0.01, maxval=top)


def softplus_inverse(y):
    return jnp.log(jnp.expm1(y))


@dataclass(frozen=True)
class Fire(PositionConfig):
    """A network of ln(1 + c |i - j|) / ln(1 + c max(i, L)), each layer its own.  arXiv 2310.04418.

    hidden: width of the network. c: where the logarithm starts to bend, and threshold: L, both initial values, both learned
    (L as threshold times a learned multiplier that starts at 1).
    """
    per_layer: ClassVar[bool] = True
    hidden: int = 32
    c: float = 0.1
    threshold: float = 512.0

    def __post_init__(self):
        whole("fire", "hidden", self.hidden)
        number("fire", "c", self.c, above=0)
        number("fire", "threshold", self.threshold, above=0)

    def build(self, heads, head_dim, d_model, *, rngs):
        return FirePosition(self, heads, rngs)


class FirePosition(Position):
    def __init__(self, cfg, heads, rngs):
        def linear(fan_in, *shape):                                            # as the published code: U(-1, 1) / sqrt(fan_in)
            return nnx.Param(jax.random.uniform(rngs.params(), shape, jnp.float32, -1.0, 1.0) * fan_in**-0.5)
        self.cfg = cfg
        self.c, self.stretch = nnx.Param(jnp.float32(cfg.c)), nnx.Param(jnp.float32(1.0))
        self.w1, self.b1 = linear(1, cfg.hidden), linear(1, cfg.hidden)
        self.w2, self.b2 = linear(cfg.hidden, cfg.hidden, heads), linear(cfg.hidden, heads)

    def bias(self, q_pos, k_pos):
        return fire.bias(q_pos, k_pos, c=self.c[...], length=self.stretch[...] * self.cfg.threshold,
                         w1=self.w1[...], b1=self.b1[...], w2=self.w2[...], b2=self.b2[...])
