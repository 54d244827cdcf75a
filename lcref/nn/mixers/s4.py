"""S4 and S4D as layers: a linear system per channel, then a gate that mixes the channels. arXiv 2111.00396, 2206.11893.

    y = SSM(x) + D x;   out = W1 gelu(y) * sigmoid(W2 gelu(y))

A whole row is a convolution (or whatever `form` says), a stream is the recurrence with its state [B,D,N]: memory does not grow.
Positions are not read: the order is in the recurrence. Packed documents go by chunks, since a convolution cannot forget.

The system's own parameters (eigenvalues, P, B, dt) are a group apart: they learn at `learning_rate` times the rate and are never
decayed, which would pull every time scale towards 1. C and D are ordinary parameters.
Complex parameters are stored as real ones, [D,N] = (real parts, imaginary parts) of one of each conjugate pair.
Deviation: S4D's B is 1 and not learned: only C B counts.
"""
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lcref.nn.layers import Linear
from lcref.ops.numbers import number, whole
from lcref.ops.ssm import hippo, s4, s4d
from lcref.ops.ssm.chunks import pack, unpack


@dataclass(frozen=True)
class S4Config:
    state: int = 64                                        # N, a channel: even
    init: Literal["legs", "random", "gaussian"] = "legs"   # HiPPO-LegS; or, for comparison, P and B N(0,1) and eigenvalues as in s4d.py
    dt_min: float = 1e-3                                   # log dt is uniform between the two; 1/dt is the length a channel sees at first
    dt_max: float = 1e-1
    learning_rate: float = 0.1                             # of the system's own parameters, times the model's
    form: Literal["fft", "chunked", "convolution", "recurrent"] = "fft"
    chunk: int = 64                                        # of the chunked form: packed rows, and pieces of a stream
    ops: ClassVar = s4

    def __post_init__(self):
        check(self, s4.FORMS)
        if self.init not in ("legs", "random", "gaussian"):
            raise ValueError(f"unknown init {self.init!r}: choose legs, random or gaussian")

    def build(self, d_model, *, position, gain, rngs):
        return S4(self, d_model, gain, rngs)

    def start(self, d_model, key):
        """(Lambda [D,M], {"P": [D,M], "B": [D,M]})"""
        if self.init == "legs":
            Lambda, P, B = (jnp.broadcast_to(jnp.asarray(z, jnp.complex64)[None], (d_model, self.state // 2)) for z in hippo.pairs(self.state)[:3])
            return Lambda, dict(P=P, B=B)
        keys, shape = jax.random.split(key, 3), (d_model, self.state // 2)
        draws = [jax.random.normal(key, shape, jnp.complex64) for key in keys[1:]]
        return spread(s4d.INITS[self.init], self.state, d_model, keys[0]), dict(P=draws[0], B=draws[1])

    def system(self, Lambda, C, dt, P, B):
        return s4.System(Lambda, P, B, C, dt)


@dataclass(frozen=True)
class S4DConfig:
    state: int = 64
    init: Literal["lin", "inv", "legs", "real", "random", "gaussian"] = "lin"
    discretization: Literal["zoh", "bilinear"] = "zoh"
    dt_min: float = 1e-3
    dt_max: float = 1e-1
    learning_rate: float = 0.1
    form: Literal["fft", "chunked", "convolution", "recurrent"] = "fft"
    chunk: int = 64
    ops: ClassVar = s4d

    def __post_init__(self):
        check(self, s4d.FORMS)
        for name, legal in (("init", s4d.INITS), ("discretization", s4d.DIAGONAL)):
            if getattr(self, name) not in legal:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(legal)}")

    def build(self, d_model, *, position, gain, rngs):
        return S4(self, d_model, gain, rngs)

    def start(self, d_model, key):
        return spread(s4d.INITS[self.init], self.state, d_model, key), {}

    def system(self, Lambda, C, dt):
        return s4d.discretized(Lambda, jnp.ones_like(Lambda), C, dt, self.discretization)


def check(cfg, forms):
    whole("state-space", "state", cfg.state, least=2)
    if cfg.state % 2:
        raise ValueError(f"state must be even, as modes come in conjugate pairs; got {cfg.state}")
    if not 0 < cfg.dt_min <= cfg.dt_max < math.inf:
        raise ValueError(f"dt_min must be positive and at most dt_max, which is finite; got {cfg.dt_min} and {cfg.dt_max}")
    number("state-space", "learning_rate", cfg.learning_rate, least=0)
    whole("state-space", "chunk", getattr(cfg, "chunk", 1))
    if cfg.form not in forms:
        raise ValueError(f"unknown form {cfg.form!r}: choose one of {', '.join(forms)}")


def spread(init, N, channels, key):
    """Eigenvalues of every channel, complex64 [channels,N/2]."""
    return jax.vmap(lambda key: jnp.asarray(init(N, key), jnp.complex64))(jax.random.split(key, channels))


def log_uniform(key, shape, low, high):
    return jnp.exp(jax.random.uniform(key, shape, minval=np.log(low), maxval=np.log(high)))


class S4(nnx.Module):
    def __init__(self, cfg, d_model, gain, rngs):
        slow = dict(learning_rate=cfg.learning_rate, weight_decay=False)
        Lambda, inputs = cfg.start(d_model, rngs.params())
        self.cfg = cfg
        self.log_decay = nnx.Param(jnp.log(-Lambda.real), **slow)                        # [D,M]: Lambda = -exp(log_decay) + i frequency
        self.frequency = nnx.Param(Lambda.imag, **slow)
        self.inputs = nnx.Dict({name: nnx.Param(pack(value), **slow) for name, value in inputs.items()})
        self.C = nnx.Param(jax.random.normal(rngs.params(), (d_model, cfg.state)) * 0.5**0.5)
        self.D = nnx.Param(jnp.ones((d_model,)))
        self.log_dt = nnx.Param(jnp.log(log_uniform(rngs.params(), (d_model,), cfg.dt_min, cfg.dt_max)), **slow)
        self.value, self.gate = Linear(d_model, d_model, rngs, gain), Linear(d_model, d_model, rngs)

    def __call__(self, x, positions=None, segments=None, seen=None):
        """seen: a dict that receives the final state [B,D,N]."""
        form = "chunked" if self.cfg.form == "fft" and segments is not None else self.cfg.form
        y, state = self.cfg.ops.FORMS[form](x, self.system(), segments=segments, chunk=self.cfg.chunk)
        if seen is not None:
            seen["state"] = state
        return self.read_out(y, x)

    def init_state(self, batch, length, dtype=jnp.float32):
        """Zeros [B,D,N], float32, for streams of any length."""
        return jnp.zeros((batch, self.D.shape[0], self.cfg.state))

    def extend(self, x, state, positions=None):
        if x.shape[1] == 1:
            state, y = self.cfg.ops.step(state, x[:, 0].astype(jnp.float32), self.system())
            return self.read_out(y[:, None], x), state
        y, state = self.cfg.ops.chunked(x, self.system(), initial_state=state, chunk=self.cfg.chunk)
        return self.read_out(y, x), state

    def system(self):
        """The parameters as the complex arrays of lcref.ops.ssm."""
        Lambda = jax.lax.complex(-jnp.exp(self.log_decay[...]), self.frequency[...])
        inputs = {name: unpack(value[...]) for name, value in self.inputs.items()}
        return self.cfg.system(Lambda, unpack(self.C[...]), jnp.exp(self.log_dt[...]), **inputs)

    def read_out(self, y, x):
        y = jax.nn.gelu(y + jnp.broadcast_to(self.D[...], x.shape) * x.astype(jnp.float32)).astype(x.dtype)
        return self.value(y) * jax.nn.sigmoid(self.gate(y))
