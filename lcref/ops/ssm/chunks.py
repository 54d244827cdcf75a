"""Time-invariant systems by chunks: the third way to run an S4 or S4D layer, beside the recurrence and the convolution.

    x_k = Abar x_{k-1} + Bbar u_k,   y_k = C x_k        (Abar the same at every step)

Inside a chunk of Q tokens the output is a small convolution, one Q x Q Toeplitz matrix; between chunks only the state passes:
    y_i = sum_{j <= i} K_{i-j} u_j + C Abar^{i+1} x          K_l = C Abar^l Bbar
    x'  = Abar^Q x + sum_j Abar^{Q-1-j} Bbar u_j
Four arrays made once say all of it (`Operators`). O(T (Q + N)) per channel in matrix products. Unlike the convolution over the whole
row it takes an initial state, gives the final one, and forgets at the borders of packed documents.
The state is real, [B,H,N]; systems in complex pairs put their real parts first and their imaginary parts after them.
"""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lcref.ops.ssm.documents import starts


class Operators(NamedTuple):
    kernel: jax.Array                          # [H,Q]      K_0 .. K_{Q-1}
    write: jax.Array                           # [H,Q,N]    Abar^l Bbar
    read: jax.Array                            # [H,Q,N]    C Abar^{l+1}
    carry: Any                                 # x -> Abar^Q x


def pack(z):
    """complex [...,M] -> real [...,2M]"""
    return jnp.concatenate([z.real, z.imag], axis=-1)


def unpack(x):
    """real [...,2M] -> complex [...,M]"""
    re, im = jnp.split(x, 2, axis=-1)
    return jax.lax.complex(re, im)


def run(u, operators, N, *, initial_state=None, segments=None, chunk=64):
    """u [B,T,H], operators: a function Q -> Operators for chunks of Q -> (y float32 [B,T,H], final state float32 [B,H,N]).

    The last T mod Q tokens are a shorter chunk of their own: filling them up would decay the state. ValueError for shapes or chunk < 1.
    """
    batch, T, H = u.shape
    u, x, fresh = prepared(u, N, initial_state, segments)
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if T < 1:
        raise ValueError("chunks need at least one token, got T=0")
    Q = min(chunk, T)
    whole, outputs = T - T % Q, []
    for begin, end, size in ((0, whole, Q), (whole, T, T % Q)):
        if begin < end:
            cut = lambda z: z[:, begin:end].reshape(batch, -1, size, *z.shape[2:])
            y, x = part(cut(u), operators(size), x, None if fresh is None else cut(fresh))
            outputs.append(y.reshape(batch, end - begin, H))
    return jnp.concatenate(outputs, axis=1), x


def part(u, operators, x, fresh):
    """u [B,C,Q,H], state x [B,H,N], fresh bool [B,C,Q] or None -> (y [B,C,Q,H], state)."""
    Q, (kernel, write, read, carry) = u.shape[2], operators
    lag = jnp.arange(Q)[:, None] - jnp.arange(Q)[None, :]
    toeplitz = jnp.where((lag >= 0)[None], kernel[:, jnp.maximum(lag, 0)], 0.0)           # [H,Q,Q]
    if fresh is None:
        y, sent = jnp.einsum("hij,bcjh->bcih", toeplitz, u), u
        keep = jnp.ones(u.shape[:3], bool)
    else:
        document = jnp.cumsum(fresh, axis=-1)
        alike = (document[..., :, None] == document[..., None, :]).astype(u.dtype)
        y = jnp.einsum("bchij,bcjh->bcih", toeplitz[None, None] * alike[:, :, None], u)
        sent, keep = jnp.where((document == document[..., -1:])[..., None], u, 0.0), document == 0
    added = jnp.einsum("hjn,bcjh->cbhn", write[:, ::-1], sent)

    def step(x, now):
        added, keep = now
        return jnp.where(keep[:, None, None], carry(x), 0.0) + added, x
    x, before = jax.lax.scan(step, x, (added, keep[:, :, -1].T))
    return y + jnp.where(keep[..., None], jnp.einsum("hin,cbhn->bcih", read, before), 0.0), x


def prepared(u, N, initial_state, segments):
    """u and the state in float32, and which tokens begin a document (None: none does)."""
    batch, T, H = u.shape
    if initial_state is not None and initial_state.shape != (batch, H, N):
        raise ValueError(f"initial_state must be {[batch, H, N]}, got {list(initial_state.shape)}")
    x = jnp.zeros((batch, H, N)) if initial_state is None else initial_state.astype(jnp.float32)
    if segments is not None and jnp.shape(segments) not in ((1, T), (batch, T)):
        raise ValueError(f"segments must be {[batch, T]}, got {list(jnp.shape(segments))}")
    return u.astype(jnp.float32), x, None if segments is None else jnp.broadcast_to(starts(segments), (batch, T))
