"""The loop over tiles for softplus weights (lssa, lssar of lcref/ops/weights.py): sums instead of exponentials, and a pass more.

    F = softplus(s);   x = relu(F - mean F);   out = sum_j x_j^p v_j / sum_j x_j^p                   per row, mean over its visible keys

Pass 1 of a query tile adds up F for the mean (not without re-weighting). Pass 2 computes F again and accumulates sum and product with v of
(x / m)^p, m the largest x so far, as the online softmax does with exp(s - m). O(T + S) memory. Backward, with y = x / m, l = sum y^p:

    dx = p y^(p-1) / m (do v - do out + dlse) / l      for x > 0
    dF = dx - (sum_k dx_k) / n                          the mean sends it to every key of the row: one more pass for that sum
    ds = dF sigmoid(s)
"""
from functools import partial

import jax
import jax.numpy as jnp

from lcref.ops.tiles import add_at, cut, finish, over_queries, over_tiles, product
from lcref.ops.weights import above, softplus


def known(x):
    """x, and 1 where it is 0: to divide by."""
    return jnp.where(x == 0, 1.0, x)


def row_counts(plan, counts, rows):
    """The visible keys [1 or B, bq] of a query tile, for its rows [B*G, R*bq]."""
    BG, M = rows.shape[:2]
    n = jnp.broadcast_to(counts[:, None, None, :], (plan.batch, BG // plan.batch, M // plan.block_q, plan.block_q))
    return n.reshape(BG, M)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def tiled_softplus(plan, tile_bias, weights, rows, keys, values, factor, learned, counts, where):
    """As lcref.ops.tiles.tiled; counts int32 [nq, 1 or B, bq]."""
    return run(plan, tile_bias, weights, rows, keys, values, factor, learned, counts, where)[:2]


def run(plan, tile_bias, weights, rows, keys, values, factor, learned, counts, where):
    """(out, lse, mean, m, l), the last four [nq, B*G, R*bq]"""
    BG, M, V = *rows.shape[1:3], values.shape[-1]
    p = weights.exponent

    def query_tile(_, i):
        n = row_counts(plan, counts[i], rows[i])
        scores = lambda j: product(rows[i], cut(plan, keys, j, 2), 2, 1)
        F = lambda j, masked: softplus(finish(plan, tile_bias, masked, scores(j), factor, learned, where, i, j))
        total = jnp.zeros((BG, M))
        if weights.centred:
            total = over_tiles(plan, i, lambda total, j, masked: total + F(j, masked).sum(-1), total)
        mean = weights.mean(total, n)

        def visit(state, j, masked):
            m, l, a = state
            x = above(F(j, masked), mean[..., None])
            m_new = jnp.maximum(m, x.max(-1))
            u, shrink = (x / known(m_new)[..., None]) ** p, (m / known(m_new)) ** p
            return m_new, shrink * l + u.sum(-1), shrink[..., None] * a + product(u.astype(values.dtype), cut(plan, values, j, 1), 2, 1)
        m, l, a = over_tiles(plan, i, visit, (jnp.zeros((BG, M)), jnp.zeros((BG, M)), jnp.zeros((BG, M, V))))
        return None, (a / known(l)[..., None], jnp.where(l == 0, -jnp.inf, jnp.log(known(l)) + p * jnp.log(known(m))), mean, m, l)
    return over_queries(plan, query_tile, None)[1]


def forward(plan, tile_bias, weights, rows, keys, values, factor, learned, counts, where):
    out, lse, mean, m, l = run(plan, tile_bias, weights, rows, keys, values, factor, learned, counts, where)
    return (out, lse), (rows, keys, values, factor, learned, counts, where, out, mean, m, l)


def backward(plan, tile_bias, weights, saved, cotangents):
    rows, keys, values, factor, learned, counts, where, out, mean, m, l = saved
    d_out, d_lse = cotangents
    delta = (d_out * out).sum(-1) - jnp.where(l == 0, 0.0, d_lse)
    share = jnp.where(l == 0, 0.0, 1.0 / known(l))                                   # a row without weights: no gradient
    p, add = weights.exponent, partial(jax.tree.map, jnp.add)

    def query_tile(carry, i):
        n = row_counts(plan, counts[i], rows[i])

        def tile(s, j):
            """u and dx of a tile's scores"""
            x = above(softplus(s), mean[i][..., None])
            v = cut(plan, values, j, 1)
            y, du = x / known(m[i])[..., None], (product(d_out[i], v, 2, 2) - delta[i][..., None]) * share[i][..., None]
            return y**p, jnp.where(x > 0, p * y ** (p - 1) * du / known(m[i])[..., None], 0.0)

        def scores(j, masked):
            raw = product(rows[i], cut(plan, keys, j, 2), 2, 1)
            return jax.vjp(lambda *x: finish(plan, tile_bias, masked, *x, where, i, j), raw, factor, learned)
        total = jnp.zeros(rows.shape[1:3])
        if weights.centred:
            total = over_tiles(plan, i, lambda total, j, masked: total + tile(scores(j, masked)[0], j)[1].sum(-1), total)
        shift = weights.mean(total, n)

        def visit(state, j, masked):
            dq, dk, dv, d_factor, d_learned = state
            s, back = scores(j, masked)
            u, dx = tile(s, j)
            dv = add_at(plan, dv, j, product(u * share[i][..., None], d_out[i], 1, 1), 1)
            ds, df, dl = back((dx - shift[..., None]) * jax.nn.sigmoid(s))
            dk = add_at(plan, dk, j, product(rows[i], ds, 1, 1), 2)
            return dq + product(ds, cut(plan, keys, j, 2), 2, 2), dk, dv, add(d_factor, df), add(d_learned, dl)
        dq, *carry = over_tiles(plan, i, visit, (jnp.zeros(rows.shape[1:]), *carry))
        return tuple(carry), dq
    zeros = partial(jax.tree.map, lambda x: jnp.zeros(x.shape, jnp.float32))
    (dk, dv, d_factor, d_learned), dq = over_queries(plan, query_tile, zeros((keys, values, factor, learned)))
    cast = partial(jax.tree.map, lambda g, x: g.astype(x.dtype))
    return (*cast((dq, dk, dv, d_factor, d_learned), (rows, keys, values, factor, learned)), None, None)


tiled_softplus.defvjp(forward, backward)
