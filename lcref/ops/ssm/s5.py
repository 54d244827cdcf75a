"""S5: one system with many inputs and outputs in place of one per channel, run by a parallel scan. arXiv 2208.04933.

    x_k = Abar x_{k-1} + Bbar u_k  (x: M modes, Abar diagonal, Bbar [M,D])        y_k = 2 Re(C x_k)  (C [D,M])

    recurrent      one step at a time: the definition                      O(T M D), sequential
    associative    all steps at once: affine maps x -> a x + b compose,    O(T M (D + log T)), log2 T parallel rounds
                   (a2, b2) after (a1, b1) = (a2 a1, a2 b1 + b2), in any order of brackets

Abar is at 0 where a document of a packed row begins, and that is all of it. One of each conjugate pair; zoh with a dt per mode.
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops.ssm import hippo
from lcref.ops.ssm.discretize import diagonal_zoh
from lcref.ops.ssm.documents import starts


class System(NamedTuple):
    """One system of N = 2M states, D inputs and D outputs, discretised: one of each conjugate pair."""
    A: jax.Array                               # complex64 [M]: Abar
    B: jax.Array                               # complex64 [M,D]: Bbar
    C: jax.Array                               # complex64 [D,M]


def discretized(Lambda, B, C, dt):
    """Lambda complex [M], B [M,D], C [D,M], dt [M] -> System."""
    A, scale = diagonal_zoh(Lambda, jnp.ones_like(Lambda), dt)
    return System(A, scale[:, None] * B, C)


def legs_blocks(N, blocks):
    """(Lambda [N/2], V [N,N/2]): `blocks` copies of HiPPO-LegS of size N/blocks down the diagonal, one of each conjugate pair; complex128.
    Raises ValueError if blocks does not divide N or leaves an odd size."""
    if blocks < 1 or N % blocks:
        raise ValueError(f"blocks={blocks} does not divide the state size {N}")
    one = hippo.pairs(N // blocks)
    V = np.zeros((N, N // 2), complex)
    n, m = one.V.shape
    for i in range(blocks):
        V[i * n:(i + 1) * n, i * m:(i + 1) * m] = one.V
    return np.tile(one.Lambda, blocks), V


def recurrent(u, system, *, initial_state=None, segments=None):
    """u [B,T,D], initial_state complex64 [B,M] or None (zeros), segments int [B,T] or None -> (y float32 [B,T,D], state [B,M]).
    Raises ValueError where shapes do not fit."""
    b, x, fresh = prepared(u, system, initial_state, segments)

    def one(x, now):
        b, fresh = now
        x = system.A[None] * jnp.where(fresh[:, None], 0, x) + b
        return x, x
    x, states = jax.lax.scan(one, x, (b.swapaxes(0, 1), fresh.T))
    return outputs(states.swapaxes(0, 1), system), x


def associative(u, system, *, initial_state=None, segments=None):
    """The parallel scan; arguments and results as `recurrent`. The initial state enters with the first input."""
    b, x, fresh = prepared(u, system, initial_state, segments)
    a = jnp.where(fresh[..., None], 0, system.A[None, None])                             # [B,T,M]
    b = b.at[:, 0].add(a[:, 0] * x)

    def after(first, second):
        (a1, b1), (a2, b2) = first, second
        return a2 * a1, a2 * b1 + b2
    _, states = jax.lax.associative_scan(after, (a, b), axis=1)
    return outputs(states, system), states[:, -1]


def outputs(states, system):
    """y = 2 Re(C x), in real products: states [B,T,M] -> [B,T,D]."""
    return 2 * (states.real @ system.C.real.T - states.imag @ system.C.imag.T)


def prepared(u, system, initial_state, segments):
    """Bbar u [B,T,M], the initial state [B,M], which tokens begin a document [B,T]."""
    (batch, T, D), (M, width) = u.shape, system.B.shape
    if D != width:
        raise ValueError(f"the system takes {width} inputs, u has {D}")
    if initial_state is not None and initial_state.shape != (batch, M):
        raise ValueError(f"initial_state must be {[batch, M]}, got {list(initial_state.shape)}")
    if segments is not None and jnp.shape(segments) not in ((1, T), (batch, T)):
        raise ValueError(f"segments must be {[batch, T]}, got {list(jnp.shape(segments))}")
    fresh = jnp.zeros((batch, T), bool) if segments is None else jnp.broadcast_to(starts(segments), (batch, T))
    u = u.astype(jnp.float32)
    b = jax.lax.complex(u @ system.B.real.T, u @ system.B.imag.T)
    return b, jnp.zeros((batch, M), jnp.complex64) if initial_state is None else initial_state.astype(jnp.complex64), fresh


FORMS = {"recurrent": recurrent, "associative": associative}
