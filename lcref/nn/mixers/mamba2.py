"""Mamba-2 as a layer: a short convolution, the SSD recurrence with an input-dependent decay, a gated norm. arXiv 2405.21060.

    [z | xBC | dt] = x W_in                            widths E | E + 2 G N | H,   E = expand * D = H P
    [x | B | C]    = silu(conv(xBC))                   causal, `conv` taps per channel (lcref/ops/ssm/short_conv.py)
    dt             = softplus(dt + dt_bias),   A = -exp(A_log)
    y              = SSD(x, dt, A, B, C) + D x          (lcref/ops/ssm/ssd.py)
    out            = RMSNorm(y * silu(z)) W_out         the gate before the norm; the norm per group of E/G channels

A stream carries the last conv - 1 inputs of the convolution and the state [B,H,P,N]: memory does not grow. Positions are not read.
On a CPU a long row is read as a stream too, PIECE tokens at a time: faster both ways, and an eighth of the memory in training.
Packed documents reset both. A_log, D and dt_bias are never decayed: A_log towards 0 would make every head forget at the same rate.
With `allow_neg_eigval` the decay is 2 exp(dt A) - 1, in [-1, 1] (lcref/ops/ssm/tracking.py, arXiv 2411.12537).
`memory` changes what the recurrence keeps, without another parameter, so that a trained layer can be read with it: ForgetMore, CapState,
RecentOnly (lcref/ops/ssm/forgetting.py, arXiv 2410.07145).
Deviation: the convolution's bias starts at 0, the authors' at PyTorch's default for it.
"""
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from lcref.kernels.ssd import FORMS
from lcref.nn.layers import Linear
from lcref.nn.mixers.s4 import log_uniform
from lcref.ops.numbers import number, whole
from lcref.ops.ssm import ssd
from lcref.ops.ssm.forgetting import MITIGATIONS, ForgetMore
from lcref.ops.ssm.short_conv import short_conv
from lcref.ops.ssm.tracking import SIGNED, signed_step

PIECE = 512                                                # tokens of a long row that a CPU reads at a time: its cache holds what they need
INPUTS = "inputs"                                          # the name under which what the convolution reads is kept for the way back


@dataclass(frozen=True)
class Mamba2Config:
    state: int = 64                                        # N
    head_dim: int | None = None                            # P; None = 64, or the largest power of 2 below that divides E
    groups: int = 1                                        # G: heads share B and C in groups
    expand: int = 2                                        # E = expand * d_model
    conv: int = 4                                          # taps of the short convolution
    dt_min: float = 1e-3                                   # softplus(dt_bias) starts log-uniform between the two, a head, but not below 1e-4
    dt_max: float = 1e-1
    A_min: float = 1.0                                     # -A starts uniform between the two, a head
    A_max: float = 16.0
    bias: bool = False                                     # of the two projections
    allow_neg_eigval: bool = False
    memory: Any = None                                     # one of MITIGATIONS; None: the state as it comes
    form: Literal["chunked", "quadratic", "recurrent", "pallas_tpu"] = "chunked"
    chunk: int = 64                                        # Q
    epsilon: float = 1e-5                                  # of the norm

    def __post_init__(self):
        for name in ("state", "head_dim", "groups", "expand", "conv", "chunk"):
            if not (name == "head_dim" and self.head_dim is None):
                whole("mamba2", name, getattr(self, name))
        for low, high in (("dt_min", "dt_max"), ("A_min", "A_max")):
            if not 0 < getattr(self, low) <= getattr(self, high) < math.inf:
                raise ValueError(f"{low} must be positive and at most {high}, which is finite; got {getattr(self, low)} and {getattr(self, high)}")
        number("mamba2", "epsilon", self.epsilon, least=0)
        if self.form not in FORMS:
            raise ValueError(f"unknown form {self.form!r}: choose one of {', '.join(FORMS)}")
        if self.allow_neg_eigval and self.form not in SIGNED:
            raise ValueError(f"allow_neg_eigval has the forms {', '.join(SIGNED)}, got form={self.form!r}")
        if self.memory is not None and not isinstance(self.memory, tuple(MITIGATIONS.values())):
            raise ValueError(f"memory must be None or one of {', '.join(cls.__name__ for cls in MITIGATIONS.values())}, got {self.memory!r}")
        if self.memory is not None and self.allow_neg_eigval:
            raise ValueError(f"{type(self.memory).__name__} is about decays from 0 to 1, and allow_neg_eigval makes them negative: choose one")

    def shape(self, d_model):
        """(H, P, G, N). ValueError where they do not divide."""
        E = self.expand * d_model
        P = self.head_dim or math.gcd(64, E)
        if E % P:
            raise ValueError(f"head_dim={P} does not divide expand * d_model = {E}")
        if (E // P) % self.groups:
            raise ValueError(f"groups={self.groups} does not divide the {E // P} heads")
        return E // P, P, self.groups, self.state

    def build(self, d_model, *, position, gain, rngs):
        return Mamba2(self, d_model, gain, rngs)


class Mamba2State(NamedTuple):
    conv: jax.Array                                        # [B,conv-1,E+2GN]: inputs of the convolution
    ssm: Any                                               # float32 [B,H,P,N]; with RecentOnly, the recent tokens


class Mamba2(nnx.Module):
    def __init__(self, cfg, d_model, gain, rngs):
        self.cfg, self.shape = cfg, cfg.shape(d_model)
        H, P, G, N = self.shape
        E, channels, fixed = H * P, H * P + 2 * G * N, dict(weight_decay=False)
        self.inward = Linear(d_model, E + channels + H, rngs, bias=cfg.bias)
        bound = cfg.conv**-0.5
        self.conv_kernel = nnx.Param(jax.random.uniform(rngs.params(), (cfg.conv, channels), minval=-bound, maxval=bound))
        self.conv_bias = nnx.Param(jnp.zeros((channels,)))
        dt = jnp.maximum(log_uniform(rngs.params(), (H,), cfg.dt_min, cfg.dt_max), 1e-4)
        self.dt_bias = nnx.Param(dt + jnp.log(-jnp.expm1(-dt)), **fixed)                 # softplus of it is dt
        self.A_log = nnx.Param(jnp.log(jax.random.uniform(rngs.params(), (H,), minval=cfg.A_min, maxval=cfg.A_max)), **fixed)
        self.D = nnx.Param(jnp.ones((H,)), **fixed)
        self.norm_scale = nnx.Param(jnp.ones((E,)))
        self.out = Linear(E, d_model, rngs, gain, cfg.bias)

    def __call__(self, x, positions=None, segments=None, seen=None):
        """seen: a dict that receives the final state [B,H,P,N], and dt and the log decays of every token [B,T,H]."""
        if x.shape[1] > 2 * PIECE and segments is None and seen is None and jax.default_backend() == "cpu":
            return self.in_pieces(x) if x.shape[0] == 1 else jax.lax.map(lambda row: self.in_pieces(row[None])[0], x)
        z, inputs, raw = self.project(x)
        inputs, _ = self.convolve(inputs, segments=segments)
        dt = self.dt(raw)
        y, state = self.scan(dt, *self.parts(inputs), segments=segments)
        if seen is not None:
            more = self.cfg.memory.decay if isinstance(self.cfg.memory, ForgetMore) else 1.0
            seen |= dict(state=state, dt=dt, log_decay=more * dt * self.A()[None, None, :])
        return self.read_out(y, z)

    def in_pieces(self, x):
        """The same of long rows [B,T,D], a piece after the other. The way back works each out again, but for what the convolution reads."""
        H, P, G, N = self.shape
        whole = x.shape[1] // PIECE * PIECE
        pieces = x[:, :whole].reshape(x.shape[0], -1, PIECE, x.shape[2]).swapaxes(0, 1)

        def read(state, piece):
            z, inputs, raw = self.inward.apart(piece, (H * P, H * P + 2 * G * N, H))
            y, state = self.advance(z, checkpoint_name(inputs, INPUTS), raw, state)
            return state, y
        read = jax.checkpoint(read, prevent_cse=False, policy=jax.checkpoint_policies.save_only_these_names(INPUTS))
        state, y = jax.lax.scan(read, self.init_state(x.shape[0], x.shape[1], x.dtype), pieces)
        y = y.swapaxes(0, 1).reshape(x.shape[0], whole, -1)
        return y if whole == x.shape[1] else jnp.concatenate([y, self.extend(x[:, whole:], state)[0]], axis=1)

    def init_state(self, batch, length, dtype=jnp.float32):
        """Zeros, for streams of any length."""
        H, P, G, N = self.shape
        ssm = jnp.zeros((batch, H, P, N)) if self.cfg.memory is None else self.cfg.memory.init_state(batch, H, P, G, N)
        return Mamba2State(jnp.zeros((batch, self.cfg.conv - 1, H * P + 2 * G * N), dtype), ssm)

    def extend(self, x, state, positions=None):
        return self.advance(*self.project(x), state)

    def advance(self, z, inputs, raw, state):
        """What `project` gave, read on from a state -> (out, state)."""
        inputs, conv = self.convolve(inputs, cache=state.conv)
        scan = self.step if z.shape[1] == 1 and self.cfg.memory is None else self.scan
        y, ssm = scan(self.dt(raw), *self.parts(inputs), initial_state=state.ssm)
        return self.read_out(y, z), Mamba2State(conv, ssm)

    def scan(self, dt, x, B, C, **kwargs):
        """The recurrence over a row: (y [B,T,H,P], state)."""
        form = (SIGNED if self.cfg.allow_neg_eigval else FORMS)[self.cfg.form]
        form = form if self.cfg.memory is None else partial(self.cfg.memory, form)
        return form(x, dt, self.A(), B, C, self.D[...], chunk=self.cfg.chunk, **kwargs)

    def step(self, dt, x, B, C, initial_state):
        """The same of a single token."""
        step, v = signed_step if self.cfg.allow_neg_eigval else ssd.ssd_step, x.astype(jnp.float32)
        ssm, y = step(initial_state, v[:, 0], dt[:, 0], self.A(), *(w[:, 0].astype(jnp.float32) for w in (B, C)))
        return ssd.skip(y[:, None], v, self.D[...], x.dtype), ssm

    def project(self, x):
        """z [B,T,E], the convolution's input [B,T,E+2GN], dt before bias and softplus [B,T,H]."""
        H, P, G, N = self.shape
        return jnp.split(self.inward(x), [H * P, 2 * (H * P + G * N)], axis=-1)

    def dt(self, raw):
        """softplus(raw + dt_bias), float32 [B,T,H]."""
        return jax.nn.softplus(raw.astype(jnp.float32) + jnp.broadcast_to(self.dt_bias[...], raw.shape))

    def convolve(self, inputs, **kwargs):
        y, cache = short_conv(inputs, self.conv_kernel[...], self.conv_bias[...], **kwargs)
        return jax.nn.silu(y), cache

    def parts(self, inputs):
        """x [B,T,H,P], B and C [B,T,G,N]"""
        H, P, G, N = self.shape
        rows = inputs.shape[:2]
        x, B, C = jnp.split(inputs, [H * P, H * P + G * N], axis=-1)
        return x.reshape(*rows, H, P), B.reshape(*rows, G, N), C.reshape(*rows, G, N)

    def A(self):
        return -jnp.exp(self.A_log[...])

    def read_out(self, y, z):
        """RMSNorm(y * silu(z)) W_out, statistics in float32. y [B,T,H,P], z [B,T,E]."""
        y = y.reshape(z.shape).astype(jnp.float32) * jax.nn.silu(z.astype(jnp.float32))
        grouped = y.reshape(*z.shape[:2], self.shape[2], -1)
        scale = jax.lax.rsqrt(ssd.scaled("btge,btge->btg", grouped, grouped) / grouped.shape[-1] + self.cfg.epsilon)
        grouped = ssd.scaled("btg,btge->btge", scale, grouped)
        return self.out((grouped.reshape(z.shape) * jnp.broadcast_to(self.norm_scale[...], z.shape)).astype(z.dtype))
