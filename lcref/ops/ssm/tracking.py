"""State tracking: a linear recurrence whose decay may be negative. arXiv 2411.12537.

    h_t = (2 exp(dt_t A) - 1) h_{t-1} + dt_t x_t B_t^T            y_t = h_t C_t + D x_t

A decay in [0, 1] can only forget: in finite precision no stack of such layers tells an even from an odd count of ones in rows of every
length. In [-1, 1] one state that flips its sign at every 1 and keeps it at every 0 is parity.
The same signature and shapes as lcref.ops.ssm.ssd; one step at a time, O(T N P).

Sequential: the chunked form works with logarithms of decays, and these have a sign and pass through 0.
"""
import jax
import jax.numpy as jnp

from lcref.ops.ssm.ssd import prepared, skip, ssd_step, time_first


def signed_decay(a):
    """a = dt A <= 0 -> 2 exp(a) - 1, in [-1, 1]."""
    return 2 * jnp.exp(a) - 1


def signed_step(h, x, dt, A, B, C):
    return ssd_step(h, x, dt, A, B, C, decay=signed_decay)


def signed_recurrent(x, dt, A, B, C, D=None, *, initial_state=None, segments=None, chunk=64):
    """-> (y [B,T,H,P], final state [B,H,P,N]). `chunk` is not used."""
    x, dt, A, B, C, h, fresh, dtype = prepared(x, dt, A, B, C, initial_state, segments)

    def step(h, now):
        x, dt, B, C, fresh = now
        return signed_step(jnp.where(fresh[:, None, None, None], 0.0, h), x, dt, A, B, C)
    h, y = jax.lax.scan(step, h, [time_first(z) for z in (x, dt, B, C, fresh)])
    return skip(time_first(y), x, D, dtype), h
