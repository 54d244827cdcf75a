"""Position schemes as modules. A scheme can act on attention in three places; every hook it leaves alone is the identity.

    embed(x [B,T,D], pos)               add something to the token embedding          sinusoidal, learned
    rotate(x [B,T,H,K], pos, of)        turn queries (of="q") and keys (of="k")       rope, xpos
    bias(q_pos, k_pos)                  add something to the scores, ~[B,H,T,S]       alibi, hard_alibi, t5, kerple, fire

pos is always an argument ([T], [1,T] or [B,T], integers or floats, numpy or traced), never an arange inside: packed documents,
decoding, and randomized ids are then the same code. Give [1,T] rather than [B,T] when rows agree: angles and biases are made once.

A config is a frozen dataclass; its type is the choice of scheme. `config.build(heads, head_dim, d_model, rngs=)` makes the module.
    config.per_layer                    True: every layer owns its parameters; False: one module serves all layers
    config.limit                        positions at or past it do not exist (None: no end)
    config.ids(key, pos, length=None)   which ids stand for plain positions in this pass; only Randomized changes them
    config.draws_ids                    True: `ids` is drawn anew in every pass (Randomized); False: `ids` is the identity
The formulas are in lcref/ops: rope.py, bias/, positions.py. To add a scheme: a config, a module, one line in POSITIONS.
"""
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lcref.ops import positions, rope
from lcref.ops.bias import alibi, fire, hard_alibi, kerple, t5


class Position(nnx.Module):
    """How a scheme can act. As it stands: no position signal at all, NoPE."""

    def embed(self, x, pos):
        return x

    def rotate(self, x, pos, of="q"):
        return x

    def bias(self, q_pos, k_pos):
        return None


@dataclass(frozen=True)
class PositionConfig:
    """What every scheme's config offers."""
    per_layer: ClassVar[bool] = False
    draws_ids: ClassVar[bool] = False

    @property
    def limit(self) -> int | None:
        return None

    def ids(self, key, pos, length=None):
        return pos

    def build(self, heads, head_dim, d_model, *, rngs) -> Position:
        raise NotImplementedError(f"{type(self).__name__} must define build")


@dataclass(frozen=True)
class Nope(PositionConfig):
    """No positions: the causal mask alone breaks the symmetry, a token can count what it sees.  arXiv 2305.19466."""

    def build(self, heads, head_dim, d_model, *, rngs):
        return Position()


# ------------------------------------------------------------------------------------------- added to the embedding

@dataclass(frozen=True)
class Sinusoidal(PositionConfig):
    """x + [sin, cos] of p * base^(-2k/D).  arXiv 1706.03762, section 3.5; ValueError if d_model is odd.

    layout: "interleaved" (the paper: sin, cos, sin, cos, ...) or "concatenated" (all sin, then all cos).
    """
    base: float = 10_000.0
    layout: str = "interleaved"

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
    """x + table[p], one vector per position, init N(0, 0.02) (GPT-2). Positions >= length do not exist.

    Known positions past the table raise ValueError, and so does a row longer than the table whose positions are traced. Traced
    positions past the end of a shorter row (decoding inside jit) give NaN. JAX's own indexing would repeat the last row, and an
    extrapolation experiment would report a number for it.
    """
    length: int = 2048

    def __post_init__(self):
        if self.length < 1:
            raise ValueError(f"a learned position table needs length >= 1, got {self.length}")

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
        pos = jnp.asarray(pos)
        pos = jnp.where(pos < 0, length, pos)                                  # jnp.take counts negative numbers from the end
        return added(x, jnp.take(self.table[...], pos, axis=0, mode="fill", fill_value=jnp.nan))


def added(x, vectors):
    """x [B,T,D] + vectors [T,D], [1,T,D] or [B,T,D], in float32; the result has x's dtype."""
    if vectors.shape[-2] != x.shape[-2]:
        raise ValueError(f"{vectors.shape[-2]} positions for {x.shape[-2]} tokens")
    vectors = vectors.reshape((1,) * (x.ndim - vectors.ndim) + vectors.shape)
    return (x.astype(jnp.float32) + vectors.astype(jnp.float32)).astype(x.dtype)


# ------------------------------------------------------------------------------------------- rotating queries and keys

@dataclass(frozen=True)
class Rope(PositionConfig):
    """Rotate q and k by p * base^(-2k/R).  arXiv 2104.09864.

    layout: "half" (Llama) or "interleaved" (the paper, GPT-J). fraction < 1 turns only the first R = fraction * head_dim numbers of
    a head, rounded down to an even number, with frequencies of width R (GPT-NeoX: 0.25); the rest of the head has no position.
    """
    base: float = 10_000.0
    layout: str = "half"
    fraction: float = 1.0

    def __post_init__(self):
        if self.layout not in rope.LAYOUTS:
            raise ValueError(f"unknown rope layout {self.layout!r}: choose one of {', '.join(rope.LAYOUTS)}")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"rope fraction must be in (0, 1], got {self.fraction}")

    def build(self, heads, head_dim, d_model, *, rngs):
        width = head_dim if self.fraction == 1 else 2 * int(head_dim * self.fraction / 2)
        if width < 2 or width % 2:
            raise ValueError(f"rope turns pairs: head_dim {head_dim} at fraction {self.fraction} leaves {width}, need an even number")
        return RopePosition(self, width)


class RopePosition(Position):
    def __init__(self, cfg, width):
        self.cfg, self.width = cfg, width

    def rotate(self, x, pos, of="q"):
        return rope.rotate(x, pos, rope.inv_freq(self.width, self.cfg.base), layout=self.cfg.layout)


@dataclass(frozen=True)
class Xpos(PositionConfig):
    """RoPE whose planes decay with distance, zeta_k^(d / scale_base).  arXiv 2212.10554.

    center cancels in the scores; it says where magnitudes are 1, and positions must stay within about 64 * scale_base of it
    (known ones raise ValueError beyond, traced ones give NaN: float32 ends there).
    """
    base: float = 10_000.0
    scale_base: float = 512.0
    center: int = 0
    layout: str = "interleaved"

    def __post_init__(self):
        if self.layout not in rope.LAYOUTS:
            raise ValueError(f"unknown xpos layout {self.layout!r}: choose one of {', '.join(rope.LAYOUTS)}")
        if not self.scale_base > 0:
            raise ValueError(f"xpos scale_base must be positive, got {self.scale_base}")

    def build(self, heads, head_dim, d_model, *, rngs):
        rope.inv_freq(head_dim, self.base)                                     # odd widths complain here
        return XposPosition(self, head_dim)


class XposPosition(Position):
    def __init__(self, cfg, width):
        self.cfg, self.width = cfg, width

    def rotate(self, x, pos, of="q"):
        cfg = self.cfg
        inv_freq = rope.inv_freq(self.width, cfg.base)
        return rope.xpos(x, pos, inv_freq, of=of, scale_base=cfg.scale_base, center=cfg.center, layout=cfg.layout)


# ------------------------------------------------------------------------------------------- added to the scores

@dataclass(frozen=True)
class Alibi(PositionConfig):
    """-m_h |i - j| with fixed slopes from 2^(-max_bias/H) down to 2^-max_bias.  arXiv 2108.12409."""
    max_bias: float = 8.0

    def build(self, heads, head_dim, d_model, *, rngs):
        return AlibiPosition(self, heads)


class AlibiPosition(Position):
    def __init__(self, cfg, heads):
        self.cfg, self.heads = cfg, heads

    @property
    def slopes(self):
        """numpy float32 [H], for kernels that build this bias themselves."""
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
        if self.windows is not None and not (isinstance(self.windows, tuple) and all(w >= 1 for w in self.windows)):
            raise ValueError(f"hard_alibi windows must be a tuple of numbers >= 1, got {self.windows!r}")

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
    """table[bucket(i - j), h], one table shared by all layers, init N(0, 1/d_model).  arXiv 1910.10683.

    bidirectional splits the buckets between past and future (encoders); without it the future shares bucket 0.
    """
    buckets: int = 32
    max_distance: int = 128
    bidirectional: bool = False

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

    def build(self, heads, head_dim, d_model, *, rngs):
        if self.hidden < 1:
            raise ValueError(f"fire needs hidden >= 1, got {self.hidden}")
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


# ------------------------------------------------------------------------------------------- other ids for any scheme

@dataclass(frozen=True)
class Randomized(PositionConfig):
    """Any scheme, told T sorted distinct ids out of range(max_length) in place of 0..T-1.  arXiv 2305.16843.

    The module is the base scheme's; what is new is `ids`. Draw once per forward pass, in training and in evaluation alike:
        positions = cfg.ids(key, plain(T)[None])
    and, when a stream is decoded in pieces, once for the whole stream: `length` = how many tokens it may come to hold.
    """
    draws_ids: ClassVar[bool] = True
    base: PositionConfig = Rope()
    max_length: int = 2048

    def __post_init__(self):
        if not isinstance(self.base, PositionConfig) or isinstance(self.base, Randomized):
            raise ValueError(f"randomized ids need a plain position config as base, got {self.base!r}")
        if self.max_length < 1:
            raise ValueError(f"randomized max_length must be at least 1, got {self.max_length}")
        if self.base.limit is not None and self.base.limit < self.max_length:
            raise ValueError(f"randomized ids go up to {self.max_length - 1}, but the base scheme ends at {self.base.limit}")

    @property
    def per_layer(self):
        return self.base.per_layer

    @property
    def limit(self):
        return self.max_length

    def ids(self, key, pos, length=None):
        """pos [T] or [B,T] plain or within-document positions, all < length (default: T) -> ids, int32, same shape.

        Every row is given the same table: position p has one id in the whole batch. Raises ValueError without a key, for
        length > max_length, and for known positions >= length; traced ones past it get the id max_length, which no draw contains.
        """
        if key is None:
            raise ValueError("randomized positions need a key: ids(key, pos)")
        length = pos.shape[-1] if length is None else length
        table, here = positions.randomized(key, length, self.max_length), positions.known(pos)
        if here is not None and here.size and not 0 <= here.min() <= here.max() < length:
            raise ValueError(f"positions {here.min()} to {here.max()} with ids drawn for {length}: give the whole stream's length")
        return jnp.take(table, jnp.asarray(pos), mode="fill", fill_value=self.max_length)

    def build(self, heads, head_dim, d_model, *, rngs):
        return self.base.build(heads, head_dim, d_model, rngs=rngs)


POSITIONS = {
    "nope": Nope,
    "sinusoidal": Sinusoidal,
    "learned": Learned,
    "rope": Rope,
    "xpos": Xpos,
    "alibi": Alibi,
    "hard_alibi": HardAlibi,
    "t5": T5,
    "kerple": Kerple,
    "kerple_power": KerplePower,
    "fire": Fire,
    "randomized_sinusoidal": partial(Randomized, base=Sinusoidal()),
    "randomized_learned": partial(Randomized, base=Learned(2048)),
    "randomized_rope": partial(Randomized, base=Rope()),
    "randomized_xpos": partial(Randomized, base=Xpos()),
    "randomized_alibi": partial(Randomized, base=Alibi()),
    "randomized_t5": partial(Randomized, base=T5(max_distance=2048)),          # gaps of tens are usual: 128 would be one bucket
    "randomized_kerple": partial(Randomized, base=Kerple()),
    "randomized_fire": partial(Randomized, base=Fire()),
}   # not nope (no ids to change), not hard_alibi (a window counts tokens, and ids would open gaps in it)
