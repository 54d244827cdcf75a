"""SSD, the recurrence of Mamba-2, as a Pallas kernel for TPU: one kernel forward, one backward. arXiv 2405.21060, section 6.

The chunked form of lcref/ops/ssm/ssd.py in one pass: the grid runs over (batch, head, chunk), the chunks in order, and the state [N,P] stays in
scratch memory from one to the next. Of a chunk of Q tokens, with v = dt x, running sums s of dt A since the chunk's begin, and h before it:

    y  = (C B^T o L) v + e^s (C h)         L_ij = exp(s_i - s_j) for i >= j, else 0
    h' = e^{s_Q} h + (e^{s_Q - s} B)^T v

Backward goes through the chunks from the last to the first with the gradient of the state dh in scratch; h before each chunk was kept by the
forward pass (T/Q states), everything else is computed again. With G = C B^T o L, W = dy v^T o G and e = e^{s_Q - s}:

    dv = G^T dy + e B dh        dC = (dy v^T o L) B + e^s dy h^T        dB = (dy v^T o L)^T C + e v dh^T
    ds = W 1 - W^T 1 + e^s <dy, C h> - e <B v, dh>,   and at the last token  + e^{s_Q} <h, dh> + sum e <B v, dh>
    dh <- e^{s_Q} dh + (e^s C)^T dy

No exponent is above 0: L is masked before exp. Everything is float32, products at full precision, whatever the input. O(T (Q (N+P) + N P)) a
head. Packed documents are not here: use the chunked form. Checked interpreted, and compiled ahead of time; no TPU has run it yet.
"""
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from lcref.kernels.flash_tpu import dot
from lcref.ops.ssm.ssd import chunks, log_decay, prepared, skip

LOW = -1e30                                                    # exp of it is 0


class Plan(NamedTuple):
    heads: int                                                 # of a group of B and C
    interpret: Any


def ssd_pallas_tpu(x, dt, A, B, C, D=None, *, initial_state=None, segments=None, chunk=256, interpret=False):
    """Arguments and results as lcref.ops.ssm.ssd.ssd_chunked. interpret=True runs the kernels on any machine, slowly.

    Raises ValueError for packed documents, and where shapes do not fit. Memory: O(T (P + N)) and one state a chunk.
    """
    if segments is not None:
        raise ValueError("the TPU kernel of SSD reads one document a row: use the chunked form for packed ones")
    x, dt, A, B, C, h, _, dtype = prepared(x, dt, A, B, C, D, initial_state, None)
    (batch, T, H, P), G = x.shape, B.shape[2]
    Q = min(chunk, -(-T // 8) * 8)
    heads_first = lambda z: jnp.moveaxis(chunks(z, Q), 3, 1)                              # [B,T,H,...] -> [B,H,C,Q,...]
    v, a, B, C = (heads_first(z) for z in (dt[..., None] * x, log_decay(dt, A), B, C))
    y, h = core(Plan(H // G, interpret), v, jnp.cumsum(a, axis=-1), B, C, h.swapaxes(2, 3))
    return skip(jnp.moveaxis(y, 1, 3).reshape(batch, -1, H, P)[:, :T], x, D, dtype), h.swapaxes(2, 3)


# ----------------------------------------------------------------------------------------------------------------- in a chunk

def decays(down, across):
    """(L [Q,Q], e^s [Q,1], e^{s_Q - s} [Q,1], e^{s_Q} [1,1]); s stands in both orientations, which spares a transposition."""
    Q = across.shape[1]
    past = lax.broadcasted_iota(jnp.int32, (Q, Q), 0) >= lax.broadcasted_iota(jnp.int32, (Q, Q), 1)
    difference = down - across
    L = jnp.exp(jnp.where(past & (difference <= 0), difference, jnp.where(past, 0.0, LOW)))
    last = across[:, Q - 1:]
    return L, jnp.exp(down), jnp.exp(jnp.where(last - down <= 0, last - down, 0.0)), jnp.exp(last)


def forward_kernel(v, down, across, B, C, start, y, before, final, h):
    c = pl.program_id(2)

    @pl.when(c == 0)
    def begin():
        h[...] = start[...]
    L, left, to_end, whole = decays(down[...], across[...])
    before[...] = h[...]
    y[...] = dot(dot(C[...], B[...], 1, 1) * L, v[...], 1, 0) + left * dot(C[...], h[...], 1, 0)
    h[...] = whole * h[...] + dot(to_end * B[...], v[...], 0, 0)

    @pl.when(c == pl.num_programs(2) - 1)
    def end():
        final[...] = h[...]


def backward_kernel(v, down, across, B, C, before, dy, d_final, dv, d_down, d_across, dB, dC, d_start, dh):
    step = pl.program_id(2)

    @pl.when(step == 0)
    def begin():
        dh[...] = d_final[...]
    L, left, to_end, whole = decays(down[...], across[...])
    pairs = dot(dy[...], v[...], 1, 1)                                                   # dy_i . v_j, [Q,Q]
    G, inner = dot(C[...], B[...], 1, 1) * L, pairs * L
    into, out_of = dot(B[...], dh[...], 1, 0), dot(C[...], before[...], 1, 0)            # [Q,P]: B dh, C h
    dv[...] = dot(G, dy[...], 0, 0) + to_end * into
    dC[...] = dot(inner, B[...], 1, 0) + left * dot(dy[...], before[...], 1, 1)
    dB[...] = dot(inner, C[...], 0, 0) + to_end * dot(v[...], dh[...], 1, 1)
    W = pairs * G
    written = to_end * (into * v[...]).sum(1, keepdims=True)                             # [Q,1]: what of dh each token's write is
    at_end = whole * (before[...] * dh[...]).sum(keepdims=True) + written.sum(keepdims=True)
    Q = W.shape[0]
    last = lax.broadcasted_iota(jnp.int32, (1, Q), 1) == Q - 1
    d_down[...] = W.sum(1, keepdims=True) + left * (out_of * dy[...]).sum(1, keepdims=True) - written
    d_across[...] = jnp.where(last, at_end, 0.0) - W.sum(0, keepdims=True)
    dh[...] = whole * dh[...] + dot(left * C[...], dy[...], 0, 0)

    @pl.when(step == pl.num_programs(2) - 1)
    def end():
        d_start[...] = dh[...]


# ----------------------------------------------------------------------------------------------------------------- the calls

def specs(plan, count, shapes, backwards):
    """Block specs of one chunk. shapes: (kind, *block) for each array, kind "head" or "group" for one block a chunk, "state" for one a head."""
    at = (lambda c: count - 1 - c) if backwards else (lambda c: c)

    def spec(kind, *block):
        if kind == "state":
            return pl.BlockSpec((None, None, *block), lambda b, h, c: (b, h, 0, 0))
        group = (lambda h: lax.div(h, plan.heads)) if kind == "group" else (lambda h: h)
        return pl.BlockSpec((None, None, None, *block), lambda b, h, c: (b, group(h), at(c), 0, 0))
    return [spec(*shape) for shape in shapes]


def call(plan, kernel, arrays, kinds, results, result_kinds, state, backwards):
    batch, H, count = arrays[0].shape[:3]
    return pl.pallas_call(
        kernel, grid=(batch, H, count), in_specs=specs(plan, count, kinds, backwards), out_specs=specs(plan, count, result_kinds, backwards),
        out_shape=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in results], scratch_shapes=[pltpu.VMEM(state, jnp.float32)],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")), interpret=plan.interpret,
        name=f"ssd_{kernel.__name__}")(*arrays)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def core(plan, v, s, B, C, h):
    """v [B,H,C,Q,P], s [B,H,C,Q], B and C [B,G,C,Q,N], h [B,H,N,P] -> (y like v, final state like h)"""
    y, _, final = forward(plan, v, s, B, C, h)
    return y, final


def forward(plan, v, s, B, C, h):
    (batch, H, count, Q, P), N = v.shape, B.shape[-1]
    kinds = [("head", Q, P), ("head", Q, 1), ("head", 1, Q), ("group", Q, N), ("group", Q, N), ("state", N, P)]
    return call(plan, forward_kernel, (v, s[..., None], s[..., None, :], B, C, h), kinds, (v.shape, (batch, H, count, N, P), h.shape),
                [("head", Q, P), ("head", N, P), ("state", N, P)], (N, P), False)


def core_forward(plan, v, s, B, C, h):
    y, before, final = forward(plan, v, s, B, C, h)
    return (y, final), (v, s, B, C, before)


def core_backward(plan, saved, cotangents):
    v, s, B, C, before = saved
    (batch, H, count, Q, P), N = v.shape, B.shape[-1]
    kinds = [("head", Q, P), ("head", Q, 1), ("head", 1, Q), ("group", Q, N), ("group", Q, N), ("head", N, P), ("head", Q, P), ("state", N, P)]
    by_head = (batch, H, count, Q, N)
    dv, d_down, d_across, dB, dC, dh = call(
        plan, backward_kernel, (v, s[..., None], s[..., None, :], B, C, before, *cotangents), kinds,
        (v.shape, (*s.shape, 1), (*s.shape[:3], 1, Q), by_head, by_head, (batch, H, N, P)),
        [("head", Q, P), ("head", Q, 1), ("head", 1, Q), ("head", Q, N), ("head", Q, N), ("state", N, P)], (N, P), True)
    of_group = lambda z: z.reshape(batch, H // plan.heads, plan.heads, count, Q, N).sum(2)
    return dv, d_down[..., 0] + d_across[..., 0, :], of_group(dB), of_group(dC), dh


core.defvjp(core_forward, core_backward)
