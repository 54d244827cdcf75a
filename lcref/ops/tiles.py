"""The loop over tiles behind `attend_chunked`: the online softmax of FlashAttention (arXiv 2205.14135, 2307.08691) in plain JAX.

Per query tile a running maximum m, sum l and accumulator a; tiles that the mask calls "none" are never computed, tiles it calls "all" skip
the element mask, and the backward pass recomputes the scores. Tiles of keys that are wider than those of queries, by a whole factor, begin with
the first multiple of the latter in which a key is seen: under a window of W keys one of W and a query tile is enough (`placed`).
"""
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun


class Plan(NamedTuple):
    """Everything about the loop that is known before it runs."""
    block_q: int
    block_k: int
    grain: int           # a key tile begins at a multiple of it; block_k is one
    scale: float
    soft_cap: float | None
    batch: int
    keys: int            # S, before padding to whole tiles
    full: tuple          # per query tile, the grains in which key tiles begin that need no element mask
    part: tuple          # per query tile, those in which one begins that does


def visible_keys(mask, q_pos, k_pos):
    """How many keys each query may see: int32 [1 or B, T]."""
    if mask is None:
        return jnp.full((1, np.shape(q_pos)[-1]), np.shape(k_pos)[-1], jnp.int32)
    return jnp.atleast_2d(mask(q_pos, k_pos).sum(-1, dtype=jnp.int32))


def heads(x, axis=-4):
    """Mask [T,S] or [B,T,S] (axis -3: insert the head axis), bias [H,T,S] or [B,H,T,S] -> rank 4."""
    x = jnp.asarray(x)
    if axis == -3 and x.ndim >= 2:
        x = jnp.expand_dims(x, -3)
    return x.reshape((1,) * (4 - x.ndim) + x.shape)


def fitting(bias, shape):
    """The bias as rank 4. Raises ValueError unless it broadcasts to [B,H,T,S]: padding to whole tiles would hide a wrong length."""
    x = heads(bias)
    if x.ndim != 4 or any(n not in (1, m) for n, m in zip(x.shape, shape)):
        raise ValueError(f"a bias {np.shape(bias)} does not fit [B,H,T,S] = {shape}")
    return x


def round_up(n, to):
    return -(-n // to) * to


def pad(x, axis, length, mode="constant"):
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, length - x.shape[axis])
    return jnp.pad(x, widths, mode=mode) if widths[axis][1] else x


def split(x, axis, parts):
    """[.., parts * n, ..] -> [parts, .., n, ..]"""
    shape = x.shape[:axis] + (parts, x.shape[axis] // parts) + x.shape[axis + 1:]
    return jnp.moveaxis(x.reshape(shape), axis, 0)


def cut(plan, x, j, axis):
    """Of x [grains, ..., grain, ...] the key tile that begins with grain j: [..., block_k, ...]. The opposite of `split`."""
    x = jnp.moveaxis(jax.lax.dynamic_slice_in_dim(x, j, plan.block_k // plan.grain), 0, axis)
    return x.reshape(x.shape[:axis] + (plan.block_k,) + x.shape[axis + 2:])


def add_at(plan, x, j, tile, axis):
    """x with a key tile added to it."""
    tile = split(tile, axis, plan.block_k // plan.grain)
    return jax.lax.dynamic_update_slice_in_dim(x, jax.lax.dynamic_slice_in_dim(x, j, len(tile)) + tile, j, 0)


def live_tiles(mask, q_pos, k_pos, bq, bk):
    """Per query tile of bq, the key tiles of bk (those without an element mask, those with one), as the mask answers.

    A square of tiles is asked about at once, and its quarters only where the answer is "some". Slots known only at run time, or padding
    in the tile: at best with an element mask.
    """
    nq, nk = -(-np.shape(q_pos)[-1] // bq), -(-np.shape(k_pos)[-1] // bk)
    known = isinstance(q_pos, np.ndarray) and isinstance(k_pos, np.ndarray)
    answers = np.full((nq, nk), "all" if mask is None else "some", object)

    def ask(i, j, n):
        q, k = q_pos[..., i * bq:(i + n) * bq], k_pos[..., j * bk:(j + n) * bk]
        if not q.size or not k.size:
            return
        answer, half = mask.tile(int(q.min()), int(q.max()), int(k.min()), int(k.max())), n // 2
        if answer != "some":
            answers[i:i + n, j:j + n] = answer
        elif half:
            for down, right in np.ndindex(2, 2):
                ask(i + down * half, j + right * half, half)
    if mask is not None and known:
        ask(0, 0, 2 ** (max(nq, nk) - 1).bit_length())
    if np.shape(k_pos)[-1] % bk:
        answers[:, -1] = np.where(answers[:, -1] == "all", "some", answers[:, -1])
    which = lambda kind: tuple(tuple(np.flatnonzero(row == kind).tolist()) for row in answers)
    return which("all"), which("some")


def placed(mask, q_pos, k_pos, bq, bk, grain):
    """Per query tile, the grains in which its key tiles begin: (those without an element mask, those with one).

    The mask is asked about bq queries and `grain` keys at a time; the first that are live begin a tile of bk keys, a multiple of grain, the
    next behind it another. The last may reach past the keys there are.
    """
    width = bk // grain
    full, part = [], []
    for whole, some in zip(*live_tiles(mask, q_pos, k_pos, bq, grain)):
        begins, end, visible = ([], []), 0, set(whole)
        for j in sorted(whole + some):
            if j >= end:
                end = j + width
                begins[not visible.issuperset(range(j, end))].append(j)
        full.append(tuple(begins[0]))
        part.append(tuple(begins[1]))
    return tuple(full), tuple(part)


TILES = {(512, 512): 1.0, (256, 768): 1.1, (256, 512): 1.1}      # queries, keys: what a pair costs; products large enough for two cores
SHORT = 1024                                               # up to so many keys small tiles, which skip more of a causal square, are faster


def sizes(mask, q_pos, k_pos):
    """The (block_q, block_k) that cost least: wide tiles where a window or a document is narrow."""
    if np.shape(k_pos)[-1] <= SHORT:
        return 128, 128
    queries = round_up(np.shape(q_pos)[-1], 8)
    pairs = lambda bq, bk: min(bq, queries) * bk * sum(map(len, sum(placed(mask, q_pos, k_pos, bq, bk, bq), ())))
    return min(TILES, key=lambda size: TILES[size] * pairs(*size))


def count_visible(mask, q_pos, k_pos, bq, bk):
    """`visible_keys` without the T x S matrix: a scan over key blocks."""
    if mask is None:
        return visible_keys(mask, q_pos, k_pos)
    S = np.shape(k_pos)[-1]
    nk = -(-S // bk)
    k_slots = split(pad(jnp.asarray(k_pos), -1, nk * bk, "edge"), np.ndim(k_pos) - 1, nk)
    real = jnp.arange(nk * bk).reshape(nk, bk) < S

    def add(count, block):
        slots_, real_ = block
        seen = mask(q_pos, slots_)
        return count + (seen & real_.reshape((1,) * (seen.ndim - 1) + (bk,))).sum(-1, dtype=jnp.int32), None
    shape = jax.eval_shape(mask, jnp.asarray(q_pos), k_slots[0]).shape[:-1]
    return jnp.atleast_2d(jax.lax.scan(add, jnp.zeros(shape, jnp.int32), (k_slots, real))[0])


def bias_by_tile(plan, bias, q_slots, k_slots):
    """A bias as (function (learned, fixed, q_slots [bq], k_slots [bk], i, j) -> tile ~[B,H,bq,bk] of query tile i, key grain j, learned, fixed).

    Whatever the bias function closes over becomes an argument: floating arrays `learned`, so that they get gradients, the others
    `fixed`. (A custom derivative must not close over values that a transformation is tracing.)
    """
    if bias is None:
        return None, (), ()
    bq, bk = plan.block_q, plan.block_k
    if callable(bias):
        one = q_slots[0], cut(plan, k_slots, 0, k_slots.ndim - 2)
        jaxpr = jax.make_jaxpr(lambda q_pos, k_pos: heads(bias(q_pos, k_pos)).astype(jnp.float32))(*one)
        floating = [jnp.issubdtype(jnp.result_type(c), jnp.floating) for c in jaxpr.consts]
        learned = tuple(c for c, f in zip(jaxpr.consts, floating) if f)
        fixed = tuple(c for c, f in zip(jaxpr.consts, floating) if not f)

        def call(learned, fixed, q_slots, k_slots, i, j):
            learned, fixed = iter(learned), iter(fixed)
            consts = [next(learned if f else fixed) for f in floating]
            return jaxpr_as_fun(ClosedJaxpr(jaxpr.jaxpr, consts))(q_slots, k_slots)[0]
        return call, learned, fixed

    whole = heads(bias).astype(jnp.float32)
    whole = whole if whole.shape[2] == 1 else pad(whole, 2, len(q_slots) * bq)
    whole = whole if whole.shape[3] == 1 else pad(whole, 3, len(k_slots) * plan.grain)

    def tile(learned, fixed, q_slots, k_slots, i, j):
        a, = learned
        start = (0, 0, 0 if a.shape[2] == 1 else i * bq, 0 if a.shape[3] == 1 else j * plan.grain)
        return jax.lax.dynamic_slice(a, start, a.shape[:2] + (min(a.shape[2], bq), min(a.shape[3], bk)))
    return tile, (whole,), ()


def finish(plan, tile_bias, masked, s, factor, learned, where, i, j):
    """Raw products of one tile [B*G, R*bq, bk] -> the scores softmax sees: scale, soft cap, bias, mask, row factor."""
    mask, fixed, q_slots, k_slots = where
    shape, bq, bk = s.shape, plan.block_q, plan.block_k
    q_slots, k_slots = q_slots[i], cut(plan, k_slots, j, k_slots.ndim - 2)
    s = s.astype(jnp.float32) * plan.scale
    if plan.soft_cap is not None:
        s = plan.soft_cap * jnp.tanh(s / plan.soft_cap)
    s = s.reshape(plan.batch, -1, bq, bk)                                        # [B,H,bq,bk]: the same memory
    if tile_bias is not None:
        s = s + tile_bias(learned, fixed, q_slots, k_slots, i, j)
    hidden = jnp.isneginf(s) if tile_bias is not None and factor is not None else None
    if masked:
        real = (j * plan.grain + jnp.arange(bk) < plan.keys)[None, None, None, :]
        seen = real if mask is None else heads(mask(q_slots, k_slots), -3) & real
        hidden = ~seen if hidden is None else hidden | ~seen
    if factor is not None:
        s = (s if hidden is None else jnp.where(hidden, 0.0, s)) * factor[i][:, None, :, None]
    if hidden is not None:
        s = jnp.where(hidden, -jnp.inf, s)
    return s.reshape(shape)


def table(rows):
    """Ragged tuple of tuples -> (int32 [rows, widest], lengths): lists that a loop can read."""
    widest = max(1, *(len(r) for r in rows))
    return jnp.asarray([r + (0,) * (widest - len(r)) for r in rows], jnp.int32), jnp.asarray([len(r) for r in rows], jnp.int32)


FEW = 4                                                    # up to this many live tiles the loops are unrolled


def few(plan):
    return sum(map(len, plan.full + plan.part)) <= FEW


def over_queries(plan, visit, carry):
    """lax.scan of visit(carry, i) over the query tiles; plain Python where they are few, which lets XLA fuse and thread better."""
    if not few(plan):
        return jax.lax.scan(visit, carry, jnp.arange(len(plan.full)))
    outs = []
    for i in range(len(plan.full)):
        carry, out = visit(carry, i)
        outs.append(out)
    return carry, jax.tree.map(lambda *xs: jnp.stack(xs), *outs)


def over_tiles(plan, i, visit, state):
    """state = visit(state, j, masked) for every live key tile of query tile i; j is the grain in which it begins."""
    for masked, rows in ((False, plan.full), (True, plan.part)):
        if few(plan):
            for j in rows[i]:
                state = visit(state, j, masked)
            continue
        if any(rows):
            tiles, count = table(rows)
            state = jax.lax.fori_loop(0, count[i], lambda n, state: visit(state, tiles[i, n], masked), state)
    return state


def product(a, b, contract_a, contract_b):
    """Batched product over the leading axis, float32 result."""
    return jax.lax.dot_general(a, b, (((contract_a,), (contract_b,)), ((0,), (0,))), preferred_element_type=jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def tiled(plan, tile_bias, rows, keys, values, factor, learned, where):
    """rows [nq, B*G, R*bq, K], keys [grains, B*G, K, grain], values [grains, B*G, grain, V] -> out [nq, B*G, R*bq, V], lse [nq, B*G, R*bq]"""
    BG, M, V = *rows.shape[1:3], values.shape[-1]

    def query_tile(_, i):
        def visit(state, j, masked):
            m, l, a = state
            s = finish(plan, tile_bias, masked, product(rows[i], cut(plan, keys, j, 2), 2, 1), factor, learned, where, i, j)
            m_new = jnp.maximum(m, s.max(-1))
            top = jnp.where(jnp.isneginf(m_new), 0.0, m_new)
            e, shrink = jnp.exp(s - top[..., None]), jnp.exp(m - top)
            return m_new, shrink * l + e.sum(-1), shrink[..., None] * a + product(e.astype(values.dtype), cut(plan, values, j, 1), 2, 1)
        m, l, a = over_tiles(plan, i, visit, (jnp.full((BG, M), -jnp.inf), jnp.zeros((BG, M)), jnp.zeros((BG, M, V))))
        safe = jnp.where(l == 0, 1.0, l)
        return None, (a / safe[..., None], jnp.where(l == 0, -jnp.inf, m + jnp.log(safe)))
    return over_queries(plan, query_tile, None)[1]


def tiled_forward(plan, tile_bias, rows, keys, values, factor, learned, where):
    out, lse = tiled(plan, tile_bias, rows, keys, values, factor, learned, where)
    return (out, lse), (rows, keys, values, factor, learned, where, out, lse)


def tiled_backward(plan, tile_bias, saved, cotangents):
    """p = exp(s - lse);  dv = p^T do;  ds = p (do v^T - rowsum(do o) + dlse);  dq = ds k;  dk = ds^T q;  the rest through `finish`."""
    rows, keys, values, factor, learned, where, out, lse = saved
    d_out, d_lse = cotangents
    delta = (d_out * out).sum(-1) - jnp.where(jnp.isneginf(lse), 0.0, d_lse)
    lse = jnp.where(jnp.isneginf(lse), jnp.inf, lse)                             # a hidden row: every p = exp(-inf) = 0

    def query_tile(carry, i):
        def visit(state, j, masked):
            dq, dk, dv, d_factor, d_learned = state
            k, v = cut(plan, keys, j, 2), cut(plan, values, j, 1)
            raw = product(rows[i], k, 2, 1)
            s, back = jax.vjp(lambda *x: finish(plan, tile_bias, masked, *x, where, i, j), raw, factor, learned)
            p = jnp.exp(s - lse[i][..., None])
            ds = p * (product(d_out[i], v, 2, 2) - delta[i][..., None])
            dv = add_at(plan, dv, j, product(p, d_out[i], 1, 1), 1)
            ds, df, dl = back(ds)
            dk = add_at(plan, dk, j, product(rows[i], ds, 1, 1), 2)
            add = partial(jax.tree.map, jnp.add)
            return dq + product(ds, k, 2, 2), dk, dv, add(d_factor, df), add(d_learned, dl)
        dq, *carry = over_tiles(plan, i, visit, (jnp.zeros(rows.shape[1:]), *carry))
        return tuple(carry), dq
    zeros = partial(jax.tree.map, lambda x: jnp.zeros(x.shape, jnp.float32))
    (dk, dv, d_factor, d_learned), dq = over_queries(plan, query_tile, zeros((keys, values, factor, learned)))
    cast = partial(jax.tree.map, lambda g, x: g.astype(x.dtype))
    return (*cast((dq, dk, dv, d_factor, d_learned), (rows, keys, values, factor, learned)), None)


tiled.defvjp(tiled_forward, tiled_backward)
