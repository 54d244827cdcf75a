"""Softplus attention (lssa, lssar of lcref/ops/weights.py) as Pallas kernels for TPU, on the tiles and tables of lcref/kernels/flash_tpu.py.

The formulas are those of lcref/ops/tiles_softplus.py. Re-weighting needs each row's mean before its weights, and the mean's gradient before
its scores': one light kernel more each way, which adds one number a row up over the key tiles.

    means     total_i = sum_j F_ij                                   (only with re-weighting)
    weigh     m, sum and product with v of ((F - mean) / m)^p        as the online softmax carries exp(s - m)
    shifts    total_i = sum_j dx_ij                                  (only with re-weighting)
    dq; dk, dv                                                       the kernels of flash_tpu.py, told how a tile's gradient is made

s is multiplied by ln n of its row, n the keys that it sees, after cap and slopes.
"""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from lcref.kernels.flash_tpu import LOW, Form, Refs, backward, blocks, call, dot, each_kind, over_query_tiles, whole_tiles
from lcref.ops.tiles import count_visible, pad
from lcref.ops.tiles_softplus import known
from lcref.ops.weights import above


def softplus_attention(q, k, v, weights, *, mask=None, slopes=None, scale=None, soft_cap=None, block_q=512, block_k=512, interpret=False):
    """As flash_attention, for weights that are Lssa or Lssar; the second result is log of what each row was divided by."""
    T, S = q.shape[1], k.shape[1]
    q, k = weights.prepared(q, k)
    taken = whole_tiles(q, k, v, mask, slopes, weights.scale(q.shape[-1]) if scale is None else scale, soft_cap, block_q, block_k, interpret)
    plan, rows = taken[0], taken[1].shape[2]
    n = jnp.broadcast_to(count_visible(mask, np.arange(T), np.arange(S), plan.bq, plan.bk), (q.shape[0], T))
    lanes = lambda x: jnp.broadcast_to(pad(x, 1, rows)[:, None, None, :], (q.shape[0], q.shape[2], 1, rows))
    out, lse = attention(plan, weights, *taken[1:], lanes(weights.factor(n)), lanes(n))
    return jnp.swapaxes(out[:, :, :T], 1, 2), lse[:, :, 0, :T]


# ------------------------------------------------------------------------------------------------------------------ in a tile

def softplus(s):
    """jax.nn.softplus in operations that the kernel compiler knows."""
    return jnp.maximum(s, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(s)))


def tile(plan, r, head, i, j, masked):
    """(s with what is hidden at LOW, t, |q - k|)"""
    s, t, distance = r.scores(plan, head, i, j)
    s = s * r.factor[...]
    return jnp.where(r.visible(plan, i, j), s, LOW) if masked else s, t, distance


def moved(r, weights, plan, head, i, j, masked):
    """(s, weights u, dx, |q - k|, t) of a tile"""
    s, t, distance = tile(plan, r, head, i, j, masked)
    x, p = above(softplus(s), r.mean[...]), weights.exponent
    over = 1 / known(r.top[...])
    y, du = x * over, (dot(r.v[...], r.d_out[...], 1, 1) - r.delta[...]) * r.share[...]
    return s, y**p * r.share[...], jnp.where(x > 0, p * y ** (p - 1) * over * du, 0.0), distance, t


def gradient(weights, plan, r, head, i, j, masked):
    """dF = dx - shift, ds = dF sigmoid(s) ln n"""
    s, u, dx, distance, t = moved(r, weights, plan, head, i, j, masked)
    return u, (dx - r.shift[...]) * r.factor[...] / (1 + jnp.exp(-s)), distance, t


# -------------------------------------------------------------------------------------------------------------------- kernels

def summing_kernel(names, of_tile, plan, numbers, kinds, *refs):
    """total_i = sum_j of_tile(...), one number a row."""
    r = Refs(plan, refs, f"slopes q k v q_ids k_ids {names} total sum")
    head, i, n = (pl.program_id(axis) for axis in (1, 2, 3))
    j = numbers[i, n]

    @pl.when(n == 0)
    def start():
        r.sum[...] = jnp.zeros_like(r.sum)

    def visit(masked):
        r.sum[...] += of_tile(plan, r, head, i, j, masked).sum(0, keepdims=True)
    each_kind(kinds[i, n], visit)

    @pl.when(n == pl.num_programs(3) - 1)
    def finish():
        r.total[...] = r.sum[...]


def weigh_kernel(weights, plan, numbers, kinds, *refs):
    r = Refs(plan, refs, "slopes q k v q_ids k_ids factor mean out top total m l acc")
    head, i, n = (pl.program_id(axis) for axis in (1, 2, 3))
    j, p = numbers[i, n], weights.exponent

    @pl.when(n == 0)
    def start():
        r.m[...], r.l[...], r.acc[...] = jnp.zeros_like(r.m), jnp.zeros_like(r.l), jnp.zeros_like(r.acc)

    def visit(masked):
        x = above(softplus(tile(plan, r, head, i, j, masked)[0]), r.mean[...])
        m = jnp.maximum(r.m[...], x.max(0, keepdims=True))
        over = 1 / known(m)
        u, shrink = (x * over) ** p, (r.m[...] * over) ** p
        r.m[...], r.l[...] = m, shrink * r.l[...] + u.sum(0, keepdims=True)
        r.acc[...] = shrink * r.acc[...] + dot(r.v[...], u.astype(r.v.dtype), 0, 0)
    each_kind(kinds[i, n], visit)

    @pl.when(n == pl.num_programs(3) - 1)
    def finish():
        r.out[...] = (r.acc[...] * (1 / known(r.l[...]))).T.astype(r.out.dtype)
        r.top[...], r.total[...] = r.m[...], r.l[...]


# ----------------------------------------------------------------------------------------------------------------- the calls

def over_rows(kernel, plan, q, k, v, slopes, ids, by_query, more, widths, scratch):
    """A kernel over query tiles and their key tiles. more: [(array, width or None for one number a row)]; widths: of the outputs, likewise."""
    B, H, T, _ = q.shape
    rows, _, lanes, inputs = blocks(plan, q, k, v, slopes, ids, over_query_tiles(H // k.shape[1]))
    inputs += [(array, *(lanes if width is None else rows(width))) for array, width in more]
    outputs = [(jax.ShapeDtypeStruct((B, H, 1, T), jnp.float32), *lanes) if width is None
               else (jax.ShapeDtypeStruct((B, H, T, width), q.dtype), *rows(width)) for width in widths]
    return call(plan, kernel, (B, H, *by_query[0].shape), 3, by_query, inputs, outputs, scratch)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def attention(plan, weights, q, k, v, slopes, ids, by_query, by_key, factor, n):
    """(out [B,H,T,V], log of what each row was divided by [B,H,1,T]); factor and n [B,H,1,T]"""
    return weighed(plan, weights, q, k, v, slopes, ids, by_query, by_key, factor, n)[0]


def weighed(plan, weights, q, k, v, slopes, ids, by_query, by_key, factor, n):
    row, tensors = (1, plan.bq), (plan, q, k, v, slopes, ids, by_query)
    total = jnp.zeros_like(factor)
    if weights.centred:
        of_tile = lambda plan, r, *where: softplus(tile(plan, r, *where)[0])
        (total,) = over_rows(partial(summing_kernel, "factor", of_tile), *tensors, [(factor, None)], [None], [row])
    mean, V = weights.mean(total, n), v.shape[3]
    out, top, l = over_rows(partial(weigh_kernel, weights), *tensors, [(factor, None), (mean, None)], [V, None, None], [row, row, (V, plan.bq)])
    lse = jnp.where(l == 0, -jnp.inf, jnp.log(known(l)) + weights.power * jnp.log(known(top)))
    return (out, lse), (mean, top, l)


def attention_forward(plan, weights, *arguments):
    (out, lse), kept = weighed(plan, weights, *arguments)
    return (out, lse), (*arguments, out, *kept)


def attention_backward(plan, weights, saved, cotangents):
    q, k, v, slopes, ids, by_query, by_key, factor, n, out, mean, top, l = saved
    d_out, d_lse = cotangents
    delta = (d_out.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1)[:, :, None] - jnp.where(l == 0, 0.0, d_lse)
    share = jnp.where(l == 0, 0.0, 1 / known(l))
    shift = jnp.zeros_like(factor)
    if weights.centred:
        of_tile = lambda plan, r, *where: moved(r, weights, plan, *where)[2]
        more = [(d_out, v.shape[3]), *((x, None) for x in (factor, mean, top, share, delta))]
        kernel = partial(summing_kernel, "d_out factor mean top share delta", of_tile)
        shift = weights.mean(over_rows(kernel, plan, q, k, v, slopes, ids, by_query, more, [None], [(1, plan.bq)])[0], n)
    form = Form("factor mean top share delta shift", partial(gradient, weights))
    found = backward(form, plan, q, k, v, slopes, ids, by_query, by_key, d_out, (factor, mean, top, share, delta, shift))
    return (*found, None, None, None, jnp.zeros_like(factor), None)


attention.defvjp(attention_forward, attention_backward)
