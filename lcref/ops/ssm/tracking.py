"""State tracking: a linear recurrence whose decay may be negative. arXiv 2411.12537.

    h_t = (2 exp(dt_t A) - 1) h_{t-1} + dt_t x_t B_t^T            y_t = h_t C_t + D x_t

A decay in [0, 1] can only forget: in finite precision no stack of such layers tells an even from an odd count of ones in rows of every
length. In [-1, 1] one state that flips its sign at every 1 and keeps it at every 0 is parity.
The same signatures and shapes as lcref.ops.ssm.ssd:

    signed_recurrent    one step at a time, the definition                                                O(T N P)
    signed_chunked      attention in chunks of Q tokens, as ssd_chunked                                   O(T (Q (N+P) + N P))

A decay that has a sign and passes through 0 has no logarithm, and a product cannot be had as the difference of two sums. So the Q x Q
products of a chunk are multiplied out, a running product down each column. Nothing is divided: exact at a decay of 0 too, in value and
gradient. Their cost is Q numbers a token and head, log2(Q) times over.
"""
import jax
import jax.numpy as jnp

from lcref.ops.ssm.ssd import in_chunks, prepared, scaled, skip, ssd_step, time_first


def signed_decay(a):
    """a = dt A <= 0 -> 2 exp(a) - 1, in [-1, 1]."""
    return 2 * jnp.exp(a) - 1


def signed_step(h, x, dt, A, B, C):
    return ssd_step(h, x, dt, A, B, C, decay=signed_decay)


def signed_recurrent(x, dt, A, B, C, D=None, *, initial_state=None, segments=None, chunk=64):
    """-> (y [B,T,H,P], final state [B,H,P,N]). `chunk` is not used."""
    x, dt, A, B, C, h, fresh, dtype = prepared(x, dt, A, B, C, D, initial_state, segments)

    def step(h, now):
        x, dt, B, C, fresh = now
        return signed_step(jnp.where(fresh[:, None, None, None], 0.0, h), x, dt, A, B, C)
    h, y = jax.lax.scan(step, h, [time_first(z) for z in (x, dt, B, C, fresh)])
    return skip(time_first(y), x, D, dtype), h


def signed_chunked(x, dt, A, B, C, D=None, *, initial_state=None, segments=None, chunk=64):
    """-> (y [B,T,H,P], final state [B,H,P,N])."""
    x, dt, A, B, C, h, fresh, dtype = prepared(x, dt, A, B, C, D, initial_state, segments)
    value, a = scaled("bth,bthp->bthp", dt, x), dt * jnp.broadcast_to(A, dt.shape)
    y, h = in_chunks(products, value, a, B, C, h, None if segments is None else fresh, chunk)
    return skip(y, x, D, dtype), h


def products(a, alike, first, last):
    """Products of signed decays, as in_chunks wants them: L_ij = d_{j+1} ... d_i."""
    decay, Q = signed_decay(a), a.shape[-1]
    below = jnp.tril(jnp.ones((Q, Q), bool), -1).reshape((1,) * (a.ndim - 1) + (Q, Q))
    L = jnp.cumprod(jnp.where(below, decay[..., :, None], 1.0), axis=-2)
    kept = [L, jnp.cumprod(decay, axis=-1), L[..., -1, :]]
    return [z if mask is None else jnp.where(mask, z, 0.0) for z, mask in zip(kept, (alike, first, last))]


SIGNED = {"recurrent": signed_recurrent, "chunked": signed_chunked}
