"""S5 as a layer: one linear system of N states for all channels, by a parallel scan, then the gate of S4's layer. arXiv 2208.04933.

    y = SSM(x) + D x;   out = W1 gelu(y) * sigmoid(W2 gelu(y))

The system mixes the channels itself (Bbar [M,D], C [D,M] are full), so N is of the order of D, not a number per channel.
A stream carries its M = N/2 complex modes. Positions are not read; packed documents reset the scan where they begin.
Parameter groups as in S4's layer: eigenvalues, B and dt learn at `learning_rate` times the rate and are never decayed.
"""
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from lcref.nn.layers import Linear
from lcref.nn.mixers.s4 import check, log_uniform
from lcref.ops.ssm import s5
from lcref.ops.ssm.chunks import pack, unpack


@dataclass(frozen=True)
class S5Config:
    state: int = 64                                        # N, of the whole layer: even
    blocks: int = 1                                        # copies of HiPPO-LegS of size N / blocks
    dt_min: float = 1e-3                                   # log dt is uniform between the two, one dt per mode
    dt_max: float = 1e-1
    learning_rate: float = 0.1                             # of the system's own parameters, times the model's
    form: Literal["associative", "recurrent"] = "associative"

    def __post_init__(self):
        check(self, s5.FORMS)
        s5.legs_blocks(self.state, self.blocks)

    def build(self, d_model, *, position, gain, rngs):
        return S5(self, d_model, gain, rngs)


class S5(nnx.Module):
    def __init__(self, cfg, d_model, gain, rngs):
        slow, N = dict(learning_rate=cfg.learning_rate, weight_decay=False), cfg.state
        Lambda, V = (jnp.asarray(z, jnp.complex64) for z in s5.legs_blocks(N, cfg.blocks))
        B = jax.random.normal(rngs.params(), (N, d_model)) * d_model**-0.5
        C = jax.random.normal(rngs.params(), (d_model, N)) * N**-0.5
        self.cfg = cfg
        self.log_decay, self.frequency = nnx.Param(jnp.log(-Lambda.real), **slow), nnx.Param(Lambda.imag, **slow)     # [M]
        self.B = nnx.Param(pack((V.conj().T @ B).T), **slow)                             # [D,N]
        self.C = nnx.Param(pack(C @ V))                                                  # [D,N]
        self.D = nnx.Param(jnp.ones((d_model,)))
        self.log_dt = nnx.Param(jnp.log(log_uniform(rngs.params(), (N // 2,), cfg.dt_min, cfg.dt_max)), **slow)
        self.value, self.gate = Linear(d_model, d_model, rngs, gain), Linear(d_model, d_model, rngs)

    def __call__(self, x, positions=None, segments=None, seen=None):
        """seen: a dict that receives the final state, complex [B,M]."""
        y, state = s5.FORMS[self.cfg.form](x, self.system(), segments=segments)
        if seen is not None:
            seen["state"] = state
        return self.read_out(y, x)

    def init_state(self, batch, length, dtype=jnp.float32):
        """Zeros, complex64 [B,M], for streams of any length."""
        return jnp.zeros((batch, self.cfg.state // 2), jnp.complex64)

    def extend(self, x, state, positions=None):
        form = "recurrent" if x.shape[1] == 1 else self.cfg.form
        y, state = s5.FORMS[form](x, self.system(), initial_state=state)
        return self.read_out(y, x), state

    def system(self):
        Lambda = jax.lax.complex(-jnp.exp(self.log_decay[...]), self.frequency[...])
        return s5.discretized(Lambda, unpack(self.B[...]).T, unpack(self.C[...]), jnp.exp(self.log_dt[...]))

    def read_out(self, y, x):
        y = jax.nn.gelu(y + jnp.broadcast_to(self.D[...], x.shape) * x.astype(jnp.float32)).astype(x.dtype)
        return self.value(y) * jax.nn.sigmoid(self.gate(y))
