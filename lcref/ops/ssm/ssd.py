"""SSD, the heart of Mamba-2: a state that forgets by a number the input chooses, computed as attention. arXiv 2405.21060.

    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T            y_t = h_t C_t + D x_t                        h [P,N] per head

The same map as a matrix is attention without softmax: C is the query, B the key, dt x the value, and L the (causal, decaying) mask:
    Y = (L o C B^T) (dt X),   L_ij = exp(a_{j+1} + ... + a_i)  for i >= j,  else 0,          a_t = dt_t A <= 0

    ssd_recurrent    one step at a time                      O(T N P)      sequential: the definition
    ssd_quadratic    the matrix                              O(T^2 (N+P))  parallel
    ssd_chunked      the matrix inside chunks of Q tokens, the recurrence between them: O(T (Q (N+P) + N P)), matrix products but for
                     T/Q steps that are one multiplication and one addition each

    x [B,T,H,P]   dt [B,T,H] (after softplus, >= 0)   A [H] (negative)   B, C [B,T,G,N] (head h uses group h // (H/G))   D [H] or None
    initial_state [B,H,P,N] or None (zeros)   segments int [B,T] or None   ->   y [B,T,H,P] in x's dtype, final state float32 [B,H,P,N]

With `segments` (packed documents) the state is forgotten where the id changes; the initial state belongs to the row's first document
and the final state is the last one's. Sums of decays, states and products are float32 whatever the input.

Three things that make NaN out of this, and what is done here. (1) L's exponents are positive above the diagonal and overflow: they are
masked before exp, so that the gradient of what was masked is 0 and not 0 * inf. (2) A difference of two running sums may come out
above 0 by rounding: `where`, not minimum, whose gradient is halved at ties. (3) A decay of exp(-1e5) in a running sum would leave the
sums after it without digits: exp(-104) is 0 in float32, so decays are cut there, which changes nothing else.

What is left of (3): the chunked form takes differences of a chunk's running sum, wrong by about half a unit of the sum in float32. Largest relative
error of a token's output, chunks of 64: 5e-6 where a chunk sums up to -60, 3e-5 at -1,000, 6e-4 at -3,700 (half of the tokens at the cut); the
recurrence's, the same rows: 1e-6, 1e-5, 4e-5. A smaller chunk has a smaller sum.
"""
from functools import partial

import jax
import jax.numpy as jnp

from lcref.ops.ssm.documents import starts

LOWEST = -104.0                                            # exp of this is 0 in float32
scaled = partial(jnp.einsum, precision="highest")          # a number times what it weighs: exact, and its gradient, a sum, is fast on a CPU too
spread = jax.lax.broadcast_in_dim                          # spread(number, shape, axes) * what it weighs: the same where an einsum would transpose


def ssd_recurrent(x, dt, A, B, C, D=None, *, initial_state=None, segments=None, chunk=64):
    """The definition. `chunk` is not used: the forms have one signature. Raises ValueError where shapes do not fit, as all forms do."""
    x, dt, A, B, C, h, fresh, dtype = prepared(x, dt, A, B, C, D, initial_state, segments)

    def step(h, now):
        x, dt, B, C, fresh = now
        h = jnp.where(fresh[:, None, None, None], 0.0, h)
        return ssd_step(h, x, dt, A, B, C)
    h, y = jax.lax.scan(step, h, [time_first(z) for z in (x, dt, B, C, fresh)])
    return skip(time_first(y), x, D, dtype), h


def ssd_step(h, x, dt, A, B, C, decay=lambda a: jnp.exp(a)):
    """One token: h [B,H,P,N], x [B,H,P], dt [B,H], A [H], B, C [B,G,N], float32 -> (h, y [B,H,P]). What decoding does."""
    B, C = (jnp.repeat(z, x.shape[1] // z.shape[1], axis=1) for z in (B, C))
    h = decay(dt * A[None, :])[:, :, None, None] * h + (dt[:, :, None] * x)[..., None] * B[:, :, None, :]
    return h, jnp.einsum("bhpn,bhn->bhp", h, C)


def ssd_quadratic(x, dt, A, B, C, D=None, *, initial_state=None, segments=None, chunk=64):
    """The matrix. `chunk` is not used. The exponents are summed anew for every pair: exact however long the row, but T x T x H of them."""
    x, dt, A, B, C, h, fresh, dtype = prepared(x, dt, A, B, C, D, initial_state, segments)
    T, document = x.shape[1], jnp.cumsum(fresh, axis=1)
    a = log_decay(dt, A).transpose(0, 2, 1)                                              # [B,H,T]
    past = jnp.tril(jnp.ones((T, T), bool), -1)
    visible = jnp.tril(jnp.ones((T, T), bool))[None] & (document[:, :, None] == document[:, None, :])
    sums = jnp.cumsum(jnp.where(past[None, None], a[..., None], 0.0), axis=2)            # [B,H,T,S]: a_{j+1} + ... + a_i
    L = masked_exp(sums, visible[:, None])
    B, C = (jnp.repeat(z, x.shape[2] // z.shape[2], axis=2) for z in (B, C))
    value = dt[..., None] * x
    y = jnp.einsum("bhts,bshp->bthp", jnp.einsum("bthn,bshn->bhts", C, B) * L, value)
    # what is left of the initial state: everything in the first document decays it
    left = masked_exp(jnp.cumsum(a, axis=2), (document == 0)[:, None, :])
    y = y + jnp.einsum("bht,bthn,bhpn->bthp", left, C, h)
    h = left[:, :, -1, None, None] * h + jnp.einsum("bhs,bshp,bshn->bhpn", L[:, :, -1], value, B)
    return skip(y, x, D, dtype), h


def ssd_chunked(x, dt, A, B, C, D=None, *, initial_state=None, segments=None, chunk=64):
    """The fast form. Any T: the last chunk is filled with tokens whose dt is 0, which neither write nor decay."""
    x, dt, A, B, C, h, fresh, dtype = prepared(x, dt, A, B, C, D, initial_state, segments)
    y, h = in_chunks(decays, scaled("bth,bthp->bthp", dt, x), log_decay(dt, A), B, C, h, None if segments is None else fresh, chunk)
    return skip(y, x, D, dtype), h


def in_chunks(decays, value, a, B, C, h, fresh, chunk):
    """The chunked form of any diagonal decay: value [B,T,H,P], a [B,T,H], B, C [B,T,G,N], h [B,H,P,N], fresh [B,T] or None -> (y, h).

    decays(a [...,Q], alike, first, last) says what is left inside a chunk: L [...,Q,Q] of token j at token i, from_begin [...,Q] of the
    state before it at token i, to_end [...,Q] of token j behind it. a = 0 has to mean that nothing decays. The masks, which broadcast to
    these, are false where another document begins between; first and last are None where there is but one.
    """
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    (batch, T, H, P), (G, N) = value.shape, B.shape[2:]
    if T < 1:
        raise ValueError("chunks need at least one token, got T=0")
    Q, R = min(chunk, T), H // G
    value, a, B, C = (chunks(z, Q) for z in (value, a, B, C))                            # [B,C,Q,...]
    value, a = (z.reshape(*z.shape[:3], G, R, *z.shape[4:]) for z in (value, a))
    a, B, C = a.transpose(0, 1, 3, 4, 2), B.swapaxes(2, 3), C.swapaxes(2, 3)             # [B,C,G,R,Q], [B,C,G,Q,N]
    alike, first, last = jnp.tril(jnp.ones((Q, Q), bool))[None, None], None, None
    if fresh is not None:
        document = jnp.cumsum(chunks(fresh, Q), axis=-1)                                 # counted from the chunk's begin
        alike = alike & (document[..., :, None] == document[..., None, :])
        first, last = ((document == document_at)[:, :, None, None] for document_at in (0, document[..., -1:]))
    L, from_begin, to_end = decays(a, alike[:, :, None, None], first, last)

    # 1. inside a chunk: attention
    scores = spread(C @ B.swapaxes(-1, -2), L.shape, (0, 1, 2, 4, 5)) * L
    y = jnp.einsum("bcgrij,bcjgrp->bcgrip", scores, value).transpose(0, 1, 4, 2, 3, 5)
    # 2. what a chunk adds to the state, seen from its end. With the state as [N,RP], this and 4 are one product for all heads of a group
    left = scaled("bcgrj,bcjgrp->bcjgrp", to_end, value).swapaxes(2, 3).reshape(batch, -1, G, Q, R * P)
    added = (B.swapaxes(-1, -2) @ left).reshape(batch, -1, G, N, R, P)

    # 3. from chunk to chunk
    def step(h, now):
        added, whole = now
        return spread(whole, h.shape, (0, 1, 3)) * h + added, h
    h = h.reshape(batch, G, R, P, N).transpose(0, 1, 4, 2, 3)
    h, before = jax.lax.scan(step, h, (added.swapaxes(0, 1), from_begin[..., -1].swapaxes(0, 1)))
    # 4. what the state before a chunk still says in it
    said = (C @ before.swapaxes(0, 1).reshape(batch, -1, G, N, R * P)).reshape(batch, -1, G, Q, R, P).swapaxes(2, 3)
    y = y + scaled("bcgri,bcigrp->bcigrp", from_begin, said)
    return y.reshape(batch, -1, H, P)[:, :T], h.transpose(0, 1, 3, 4, 2).reshape(batch, H, P, N)


def decays(a, alike, first, last):
    """exp of sums of log decays, as in_chunks wants them. The running sum is a product: XLA's own, in blocks, would be worked out for every pair."""
    s = scaled("...j,ij->...i", a, jnp.tril(jnp.ones((a.shape[-1],) * 2)))
    return masked_exp(s[..., :, None] - s[..., None, :], alike), masked_exp(s, first), masked_exp(s[..., -1:] - s, last)


# ------------------------------------------------------------------------------------------------------------------ parts

def log_decay(dt, A):
    """dt_t A, cut where exp is 0 anyway. [B,T,H]"""
    a = dt * jnp.broadcast_to(A, dt.shape)
    return jnp.where(a < LOWEST, LOWEST, a)


def masked_exp(exponent, mask=None):
    """exp(exponent) where mask, else 0, for exponents that are at most 0 but for rounding. No NaN in value or gradient but that of a NaN exponent."""
    use = ~(exponent > 0) if mask is None else mask & ~(exponent > 0)
    e = jnp.exp(jnp.where(use, exponent, 0.0))
    return e if mask is None else jnp.where(mask, e, 0.0)


def chunks(z, Q):
    """[B,T,...] -> [B,C,Q,...], filled with zeros."""
    missing = -z.shape[1] % Q
    z = jnp.pad(z, [(0, 0), (0, missing)] + [(0, 0)] * (z.ndim - 2)) if missing else z
    return z.reshape(z.shape[0], -1, Q, *z.shape[2:])


def time_first(z):
    return jnp.moveaxis(z, 1, 0)


def skip(y, x, D, dtype):
    return (y if D is None else y + jnp.broadcast_to(D.astype(jnp.float32)[:, None], x.shape) * x).astype(dtype)


def prepared(x, dt, A, B, C, D, initial_state, segments):
    """Everything in float32, the initial state, which tokens begin a document [B,T], and the dtype of the output."""
    if x.ndim != 4 or B.ndim != 4:
        raise ValueError(f"x must be [B,T,H,P] and B, C [B,T,G,N]; got {list(x.shape)} and {list(B.shape)}")
    (batch, T, H, P), (G, N) = x.shape, B.shape[2:]
    fits = dict(dt=(dt, (batch, T, H)), A=(A, (H,)), B=(B, (batch, T, G, N)), C=(C, (batch, T, G, N)), D=(D, (H,)),
                initial_state=(initial_state, (batch, H, P, N)))
    for name, (value, shape) in fits.items():
        if value is not None and jnp.shape(value) != shape:
            raise ValueError(f"{name} must be {list(shape)} for x {list(x.shape)} and B {list(B.shape)}, got {list(jnp.shape(value))}")
    if H % G:
        raise ValueError(f"{G} groups of B and C do not divide {H} heads")
    if segments is not None and jnp.shape(segments) not in ((1, T), (batch, T)):
        raise ValueError(f"segments must be {[batch, T]}, got {list(jnp.shape(segments))}")
    fresh = jnp.zeros((batch, T), bool) if segments is None else jnp.broadcast_to(starts(segments), (batch, T))
    h = jnp.zeros((batch, H, P, N)) if initial_state is None else initial_state
    return *(jnp.asarray(z, jnp.float32) for z in (x, dt, A, B, C, h)), fresh, x.dtype


FORMS = {"recurrent": ssd_recurrent, "quadratic": ssd_quadratic, "chunked": ssd_chunked}
