"""Attention, twice: the definition (`attend`) and the same values in linear memory (`attend_chunked`).

    s = scale * q k^T  ->  soft cap  ->  + bias  ->  mask (-inf)  ->  weights  ->  @ v

q [B,T,H,K]  k [B,S,G,K]  v [B,S,G,V]  ->  [B,T,H,V].  G divides H: query head h reads key head h // (H / G) (grouped queries,
arXiv 2305.13245). Scores and weights are float32 whatever the input; the output has q's dtype. A query that sees no key gets 0.

mask      a value of lcref.ops.masks, or None for everything
bias      array broadcastable to [B,H,T,S], or a function (q_pos, k_pos) -> ~[H,T,S] or ~[B,H,T,S], so that tiles never build T x S;
          -inf hides a pair for one head (weights that count visible keys go by the mask, and count it)
soft_cap  c: s -> c tanh(s / c)   (Gemma 2, arXiv 2408.00118)
weights   a value of lcref.ops.weights
scale     default: what the weights say, 1 / sqrt(K) for softmax. A plain number: multiply q by one that is learned
q_pos, k_pos   slots of the queries and keys, [T] and [S] (default 0..T-1 and 0..S-1): what mask and bias functions are asked about.
          Pass numpy arrays, not traced ones, where tiles should be skipped.

`attend` costs O(T S) memory. `attend_chunked` costs O(T + S), forward and backward: it is the online softmax of FlashAttention
(arXiv 2205.14135, 2307.08691) in plain JAX, tile by tile (lcref/ops/tiles.py; softplus weights: lcref/ops/tiles_softplus.py).
"""
import math

import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops import masks
from lcref.ops.tiles import Plan, bias_by_tile, count_visible, fitting, heads, pad, placed, round_up, split, tiled, visible_keys
from lcref.ops.tiles_softplus import tiled_softplus
from lcref.ops.weights import Lssa, softmax


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
    """What `weights` is applied to: scores [B,H,T,S] in float32, -inf where hidden, and the rows' visible keys [~B,1,T] if it asks for them."""
    B, T, H, K, S, G = check(q, k, k, mask, soft_cap)
    q_pos, k_pos = slots(q_pos, T, B), slots(k_pos, S, B)
    q, k = weights.prepared(q, k)
    scores = jnp.einsum("btgrk,bsgk->bgrts", q.reshape(B, T, G, H // G, K), k, preferred_element_type=jnp.float32)
    scores = scores.reshape(B, H, T, S) * float(weights.scale(K) if scale is None else scale)
    if soft_cap is not None:
        scores = soft_cap * jnp.tanh(scores / soft_cap)
    if bias is not None:
        scores = scores + fitting(bias(q_pos, k_pos) if callable(bias) else bias, (B, H, T, S))
    if mask is not None:
        scores = jnp.where(heads(mask(q_pos, k_pos), -3), scores, -jnp.inf)
    n = None if weights.factor(jnp.ones((1,))) is None else visible_keys(mask, q_pos, k_pos)[:, None, :]
    return scores, n


def check(q, k, v, mask=None, soft_cap=None):
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
    if soft_cap is not None and not 0 < soft_cap < math.inf:
        raise ValueError(f"soft_cap must be positive and finite, or None for no cap; got {soft_cap}")
    if mask is not None and (rows := jax.eval_shape(lambda: mask(np.zeros(0, int), np.zeros(0, int))).shape[:-2]) not in ((), (1,), (B,)):
        raise ValueError(f"a mask for {rows[0]} rows does not fit {B}")
    return B, T, H, K, S, G


def slots(pos, length, rows):
    if pos is None:
        return np.arange(length)
    if pos.shape[-1] != length:
        raise ValueError(f"{pos.shape[-1]} positions for {length} tokens")
    if pos.shape[:-1] not in ((), (1,), (rows,)):
        raise ValueError(f"positions {pos.shape} do not fit {rows} rows: want [T], [1,T] or [B,T]")
    return pos


def attend_chunked(q, k, v, *, mask=None, bias=None, scale=None, soft_cap=None, weights=softmax, q_pos=None, k_pos=None,
                   block_q=512, block_k=512):
    """`attend` in O(T + S) memory: same values, same gradients (q, k, v, bias, and what `weights` learns)."""
    return attend_chunked_lse(q, k, v, mask=mask, bias=bias, scale=scale, soft_cap=soft_cap, weights=weights, q_pos=q_pos,
                              k_pos=k_pos, block_q=block_q, block_k=block_k)[0]


def attend_chunked_lse(q, k, v, *, mask=None, bias=None, scale=None, soft_cap=None, weights=softmax, q_pos=None, k_pos=None,
                       block_q=512, block_k=512):
    """(output, log-sum-exp of every row's scores [B,H,T]); under softmax the second merges attention over split keys (`merged`). Hidden row: -inf."""
    B, T, H, K, S, G = check(q, k, v, mask, soft_cap)
    if min(B, T) < 1:
        raise ValueError(f"tiles need at least one row and one query, got B={B}, T={T}")
    if min(block_q, block_k) < 1:
        raise ValueError(f"a tile holds at least one query and one key, got block_q={block_q}, block_k={block_k}")
    V, R = v.shape[-1], H // G
    q_pos, k_pos = slots(q_pos, T, B), slots(k_pos, S, B)
    bq, bk = min(block_q, round_up(T, 8)), min(block_k, round_up(S, 8))
    grain = bk if bk % block_q else block_q
    q, k = weights.prepared(q, k)
    plan = Plan(bq, bk, grain, float(weights.scale(K) if scale is None else scale), soft_cap, B, S, *placed(mask, q_pos, k_pos, bq, bk, grain))
    ends = [j + bk // grain for row in plan.full + plan.part for j in row]
    nq, nk = -(-T // bq), max([-(-S // grain), bk // grain, *ends])

    n = None if weights.factor(jnp.ones((1,))) is None else count_visible(mask, q_pos, k_pos, bq, bk)
    factor = None if n is None else split(pad(weights.factor(n), 1, nq * bq), 1, nq)          # [nq, 1 or B, bq]
    q_slots = split(pad(jnp.asarray(q_pos), -1, nq * bq, "edge"), q_pos.ndim - 1, nq)
    k_slots = split(pad(jnp.asarray(k_pos), -1, nk * grain, "edge"), k_pos.ndim - 1, nk)
    bias = bias if bias is None or callable(bias) else fitting(bias, (B, H, T, S))
    tile_bias, learned, fixed = bias_by_tile(plan, bias, q_slots, k_slots)

    # rows of one tile: the R query heads of a group stacked on the tile's bq queries, so that grouped queries are one product
    rows = pad(q, 1, nq * bq).reshape(B, nq, bq, G, R, K).transpose(1, 0, 3, 4, 2, 5).reshape(nq, B * G, R * bq, K)
    keys = pad(k, 1, nk * grain).reshape(B, nk, grain, G, K).transpose(1, 0, 3, 4, 2).reshape(nk, B * G, K, grain)
    values = pad(v, 1, nk * grain).reshape(B, nk, grain, G, V).transpose(1, 0, 3, 2, 4).reshape(nk, B * G, grain, V)
    where = (mask, fixed, q_slots, k_slots)
    if isinstance(weights, Lssa):
        counts = split(pad(n, 1, nq * bq), 1, nq)
        out, lse = tiled_softplus(plan, tile_bias, weights, rows, keys, values, factor, learned, counts, where)
    else:
        out, lse = tiled(plan, tile_bias, rows, keys, values, factor, learned, where)
    out = out.reshape(nq, B, G, R, bq, V).transpose(1, 0, 4, 2, 3, 5).reshape(B, nq * bq, H, V)[:, :T]
    lse = lse.reshape(nq, B, G, R, bq).transpose(1, 2, 3, 0, 4).reshape(B, H, nq * bq)[:, :, :T]
    return out.astype(q.dtype), lse
