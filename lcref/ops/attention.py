"""Attention, twice: the definition (`attend`) and the same values in linear memory (`attend_chunked`).

    s = scale * q k^T  ->  soft cap  ->  + bias  ->  mask (-inf)  ->  weights  ->  @ v            scale defaults to 1 / sqrt(K)

q [B,T,H,K]  k [B,S,G,K]  v [B,S,G,V]  ->  [B,T,H,V].  G divides H: query head h reads key head h // (H / G) (grouped queries,
arXiv 2305.13245). Scores and weights are float32 whatever the input; the output has q's dtype. A query that sees no key gets 0.

mask      a value of lcref.ops.masks, or None for everything
bias      array broadcastable to [B,H,T,S], or a function (q_pos, k_pos) -> ~[H,T,S] or ~[B,H,T,S], so that tiles never build T x S;
          -inf hides a pair for one head
soft_cap  c: s -> c tanh(s / c)   (Gemma 2, arXiv 2408.00118)
weights   a value of lcref.ops.weights
q_pos, k_pos   slots of the queries and keys, [T] and [S] (default 0..T-1 and 0..S-1): what mask and bias functions are asked about.
          Pass numpy arrays, not traced ones, where tiles should be skipped.

`attend` costs O(T S) memory. `attend_chunked` costs O(T + S), forward and backward: it is the online softmax of FlashAttention
(arXiv 2205.14135, 2307.08691) in plain JAX. Per query tile a running maximum m, sum l and accumulator a; tiles that the mask
calls "none" are never computed, tiles it calls "all" skip the element mask, and the backward pass recomputes the scores.
"""
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from lcref.ops import masks
from lcref.ops.weights import softmax


def attend(q, k, v, *, mask=None, bias=None, scale=None, soft_cap=None, weights=softmax, q_pos=None, k_pos=None):
    """The definition. Raises ValueError on shapes that do not fit."""
    B, T, H, K, S, G = check(q, k, v)
    w = attention_weights(q, k, mask=mask, bias=bias, scale=scale, soft_cap=soft_cap, weights=weights, q_pos=q_pos, k_pos=k_pos)
    out = jnp.einsum("bgrts,bsgv->btgrv", w.reshape(B, G, H // G, T, S), v.astype(jnp.float32))
    return out.reshape(B, T, H, v.shape[-1]).astype(q.dtype)


def merged(parts):
    """Softmax attention over all keys from attention over disjoint sets of them: [(out [B,T,H,V], lse [B,H,T])] -> [B,T,H,V].

    out = sum_p exp(lse_p - lse) out_p with lse = log sum_p exp(lse_p): exact. A row that sees no key in any part gets 0.
    """
    lse = jnp.stack([lse for _, lse in parts])
    top = jax.lax.stop_gradient(jnp.max(lse, 0))
    share = jnp.exp(lse - jnp.where(jnp.isneginf(top), 0.0, top)[None])
    share = share / jnp.where(jnp.isneginf(top), 1.0, share.sum(0))[None]
    outs = [jnp.swapaxes(s, 1, 2)[..., None] * out.astype(jnp.float32) for s, (out, _) in zip(share, parts)]
    return sum(outs).astype(parts[0][0].dtype)


def attention_weights(q, k, *, weights=softmax, **kwargs):
    """The T x S matrix itself, float32 [B,H,T,S]: for pictures, and for `attend`."""
    return weights(*attention_scores(q, k, weights=weights, **kwargs))


def attention_scores(q, k, *, mask=None, bias=None, scale=None, soft_cap=None, weights=softmax, q_pos=None, k_pos=None):
    """What `weights` is applied to: scores [B,H,T,S], -inf where hidden, and the rows' visible keys [~B,1,T] if it asks for them."""
    B, T, H, K, S, G = check(q, k, k, mask)
    q_pos, k_pos = slots(q_pos, T), slots(k_pos, S)
    scores = jnp.einsum("btgrk,bsgk->bgrts", q.reshape(B, T, G, H // G, K), k, preferred_element_type=jnp.float32)
    scores = scores.reshape(B, H, T, S) * (K**-0.5 if scale is None else scale)
    if soft_cap is not None:
        scores = soft_cap * jnp.tanh(scores / soft_cap)
    if bias is not None:
        scores = scores + fitting(bias(q_pos, k_pos) if callable(bias) else bias, (B, H, T, S))
    if mask is not None:
        scores = jnp.where(heads(mask(q_pos, k_pos), -3), scores, -jnp.inf)
    n = None if weights.factor(jnp.ones((1,))) is None else visible_keys(mask, q_pos, k_pos)[:, None, :]
    return scores, n


def visible_keys(mask, q_pos, k_pos):
    """How many keys each query may see: int32 [1 or B, T]."""
    if mask is None:
        return jnp.full((1, np.shape(q_pos)[-1]), np.shape(k_pos)[-1], jnp.int32)
    return jnp.atleast_2d(mask(q_pos, k_pos).sum(-1, dtype=jnp.int32))


def check(q, k, v, mask=None):
    if mask is not None and not isinstance(mask, masks.Mask):
        raise ValueError(f"mask is a value of lcref.ops.masks such as causal() & window(n), not {type(mask).__name__}; "
                         "give arrays as a bias of 0 and -inf")
    if q.ndim != 4 or k.ndim != 4 or v.ndim != 4:
        raise ValueError(f"attention takes q [B,T,H,K], k [B,S,G,K], v [B,S,G,V]; got ranks {q.ndim}, {k.ndim}, {v.ndim}")
    B, T, H, K = q.shape
    S, G = k.shape[1:3]
    if k.shape != (B, S, G, K) or v.shape[:3] != (B, S, G):
        raise ValueError(f"q {q.shape}, k {k.shape} and v {v.shape} do not fit [B,T,H,K], [B,S,G,K], [B,S,G,V]")
    if H % G:
        raise ValueError(f"{G} key heads do not divide {H} query heads")
    if not S:
        raise ValueError("attention over no keys at all: S is 0")
    return B, T, H, K, S, G


def slots(pos, length):
    if pos is None:
        return np.arange(length)
    if pos.shape[-1] != length:
        raise ValueError(f"{pos.shape[-1]} positions for {length} tokens")
    return pos


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


# ---------------------------------------------------------------------------------------------------- the tiled form

class Plan(NamedTuple):
    """Everything about the loop that is known before it runs."""
    block_q: int
    block_k: int
    scale: float
    soft_cap: float | None
    batch: int
    keys: int            # S, before padding to whole tiles
    full: tuple          # per query tile, the key tiles that need no element mask
    part: tuple          # per query tile, the key tiles that do


def attend_chunked(q, k, v, *, mask=None, bias=None, scale=None, soft_cap=None, weights=softmax, q_pos=None, k_pos=None,
                   block_q=512, block_k=512):
    """`attend` in O(T + S) memory: same values, same gradients (q, k, v, bias, and what `weights` learns)."""
    return attend_chunked_lse(q, k, v, mask=mask, bias=bias, scale=scale, soft_cap=soft_cap, weights=weights, q_pos=q_pos,
                              k_pos=k_pos, block_q=block_q, block_k=block_k)[0]


def attend_chunked_lse(q, k, v, *, mask=None, bias=None, scale=None, soft_cap=None, weights=softmax, q_pos=None, k_pos=None,
                       block_q=512, block_k=512):
    """(output, log-sum-exp of every row's scores [B,H,T]); the second is what merges attention over split keys. Hidden row: -inf."""
    B, T, H, K, S, G = check(q, k, v, mask)
    if min(block_q, block_k) < 1:
        raise ValueError(f"a tile holds at least one query and one key, got block_q={block_q}, block_k={block_k}")
    V, R = v.shape[-1], H // G
    q_pos, k_pos = slots(q_pos, T), slots(k_pos, S)
    bq, bk = min(block_q, round_up(T, 8)), min(block_k, round_up(S, 8))
    nq, nk = -(-T // bq), -(-S // bk)
    plan = Plan(bq, bk, float(K**-0.5 if scale is None else scale), soft_cap, B, S, *live_tiles(mask, q_pos, k_pos, bq, bk))

    n = None if weights.factor(jnp.ones((1,))) is None else count_visible(mask, q_pos, k_pos, bq, bk)
    factor = None if n is None else split(pad(weights.factor(n), 1, nq * bq), 1, nq)          # [nq, 1 or B, bq]
    q_slots, k_slots = (split(pad(jnp.asarray(p), -1, c * b, "edge"), p.ndim - 1, c) for p, c, b in ((q_pos, nq, bq), (k_pos, nk, bk)))
    bias = bias if bias is None or callable(bias) else fitting(bias, (B, H, T, S))
    tile_bias, learned, fixed = bias_by_tile(bias, q_slots, k_slots, nq * bq, nk * bk)

    # rows of one tile: the R query heads of a group stacked on the tile's bq queries, so that grouped queries are one product
    rows = pad(q, 1, nq * bq).reshape(B, nq, bq, G, R, K).transpose(1, 0, 3, 4, 2, 5).reshape(nq, B * G, R * bq, K)
    keys = pad(k, 1, nk * bk).reshape(B, nk, bk, G, K).transpose(1, 0, 3, 4, 2).reshape(nk, B * G, K, bk)
    values = pad(v, 1, nk * bk).reshape(B, nk, bk, G, V).transpose(1, 0, 3, 2, 4).reshape(nk, B * G, bk, V)
    out, lse = tiled(plan, tile_bias, rows, keys, values, factor, learned, (mask, fixed, q_slots, k_slots))
    out = out.reshape(nq, B, G, R, bq, V).transpose(1, 0, 4, 2, 3, 5).reshape(B, nq * bq, H, V)[:, :T]
    lse = lse.reshape(nq, B, G, R, bq).transpose(1, 2, 3, 0, 4).reshape(B, H, nq * bq)[:, :, :T]
    return out.astype(q.dtype), lse


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


def live_tiles(mask, q_pos, k_pos, bq, bk):
    """Ask the mask about every tile. Slots known only at run time, or padding in the tile: at best "part"."""
    T, S = np.shape(q_pos)[-1], np.shape(k_pos)[-1]
    known = isinstance(q_pos, np.ndarray) and isinstance(k_pos, np.ndarray)
    full, part = [], []
    for i in range(0, T, bq):
        answers = []
        for j in range(0, S, bk):
            q, kk = q_pos[..., i:i + bq], k_pos[..., j:j + bk]
            answer = "all" if mask is None else mask.tile(int(q.min()), int(q.max()), int(kk.min()), int(kk.max())) if known else "some"
            answers.append("some" if answer == "all" and j + bk > S else answer)
        full.append(tuple(j for j, a in enumerate(answers) if a == "all"))
        part.append(tuple(j for j, a in enumerate(answers) if a == "some"))
    return tuple(full), tuple(part)


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


def bias_by_tile(bias, q_slots, k_slots, T, S):
    """A bias as (function (learned, fixed, q_slots, k_slots, i, j) -> tile ~[B,H,bq,bk], learned, fixed).

    Whatever the bias function closes over becomes an argument: floating arrays `learned`, so that they get gradients, the others
    `fixed`. (A custom derivative must not close over values that a transformation is tracing.)
    """
    if bias is None:
        return None, (), ()
    if callable(bias):
        jaxpr = jax.make_jaxpr(lambda q_pos, k_pos: heads(bias(q_pos, k_pos)).astype(jnp.float32))(q_slots[0], k_slots[0])
        floating = [jnp.issubdtype(jnp.result_type(c), jnp.floating) for c in jaxpr.consts]
        learned = tuple(c for c, f in zip(jaxpr.consts, floating) if f)
        fixed = tuple(c for c, f in zip(jaxpr.consts, floating) if not f)

        def call(learned, fixed, q_slots, k_slots, i, j):
            learned, fixed = iter(learned), iter(fixed)
            consts = [next(learned if f else fixed) for f in floating]
            return jaxpr_as_fun(ClosedJaxpr(jaxpr.jaxpr, consts))(q_slots[i], k_slots[j])[0]
        return call, learned, fixed

    bq, bk = q_slots.shape[-1], k_slots.shape[-1]
    whole = heads(bias).astype(jnp.float32)
    whole = whole if whole.shape[2] == 1 else pad(whole, 2, T)
    whole = whole if whole.shape[3] == 1 else pad(whole, 3, S)

    def cut(learned, fixed, q_slots, k_slots, i, j):
        a, = learned
        start = (0, 0, 0 if a.shape[2] == 1 else i * bq, 0 if a.shape[3] == 1 else j * bk)
        return jax.lax.dynamic_slice(a, start, a.shape[:2] + (min(a.shape[2], bq), min(a.shape[3], bk)))
    return cut, (whole,), ()


def finish(plan, tile_bias, masked, s, factor, learned, where, i, j):
    """Raw products of one tile [B*G, R*bq, bk] -> the scores softmax sees: scale, soft cap, bias, mask, row factor."""
    mask, fixed, q_slots, k_slots = where
    shape, bq, bk = s.shape, plan.block_q, plan.block_k
    s = s.astype(jnp.float32) * plan.scale
    if plan.soft_cap is not None:
        s = plan.soft_cap * jnp.tanh(s / plan.soft_cap)
    s = s.reshape(plan.batch, -1, bq, bk)                                        # [B,H,bq,bk]: the same memory
    if tile_bias is not None:
        s = s + tile_bias(learned, fixed, q_slots, k_slots, i, j)
    hidden = jnp.isneginf(s) if tile_bias is not None and factor is not None else None
    if masked:
        real = (j * bk + jnp.arange(bk) < plan.keys)[None, None, None, :]
        seen = real if mask is None else heads(mask(q_slots[i], k_slots[j]), -3) & real
        hidden = ~seen if hidden is None else hidden | ~seen
    if factor is not None:
        s = (s if hidden is None else jnp.where(hidden, 0.0, s)) * factor[i][:, None, :, None]
    if hidden is not None:
        s = jnp.where(hidden, -jnp.inf, s)
    return s.reshape(shape)


def table(rows):
    """Ragged tuple of tuples -> (int32 [rows, widest], lengths): lists of tiles a loop can read."""
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
    """state = visit(state, j, masked) for every live key tile j of query tile i."""
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
    """rows [nq, B*G, R*bq, K], keys [nk, B*G, K, bk], values [nk, B*G, bk, V] -> out [nq, B*G, R*bq, V], lse [nq, B*G, R*bq]"""
    BG, M, V = *rows.shape[1:3], values.shape[-1]

    def query_tile(_, i):
        def visit(state, j, masked):
            m, l, a = state
            s = finish(plan, tile_bias, masked, product(rows[i], keys[j], 2, 1), factor, learned, where, i, j)
            m_new = jnp.maximum(m, s.max(-1))
            top = jnp.where(jnp.isneginf(m_new), 0.0, m_new)
            e, shrink = jnp.exp(s - top[..., None]), jnp.exp(m - top)
            return m_new, shrink * l + e.sum(-1), shrink[..., None] * a + product(e.astype(values.dtype), values[j], 2, 1)
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
            raw = product(rows[i], keys[j], 2, 1)
            s, back = jax.vjp(lambda *x: finish(plan, tile_bias, masked, *x, where, i, j), raw, factor, learned)
            p = jnp.exp(s - lse[i][..., None])
            ds = p * (product(d_out[i], values[j], 2, 2) - delta[i][..., None])
            dv = dv.at[j].add(product(p, d_out[i], 1, 1))
            ds, df, dl = back(ds)
            dk = dk.at[j].add(product(rows[i], ds, 1, 1))
            add = partial(jax.tree.map, jnp.add)
            return dq + product(ds, keys[j], 2, 2), dk, dv, add(d_factor, df), add(d_learned, dl)
        dq, *carry = over_tiles(plan, i, visit, (jnp.zeros(rows.shape[1:]), *carry))
        return tuple(carry), dq
    zeros = partial(jax.tree.map, lambda x: jnp.zeros(x.shape, jnp.float32))
    (dk, dv, d_factor, d_learned), dq = over_queries(plan, query_tile, zeros((keys, values, factor, learned)))
    cast = partial(jax.tree.map, lambda g, x: g.astype(x.dtype))
    return (*cast((dq, dk, dv, d_factor, d_learned), (rows, keys, values, factor, learned)), None)


tiled.defvjp(tiled_forward, tiled_backward)
