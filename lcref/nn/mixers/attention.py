"""Causal self-attention with grouped queries, any position scheme, any weights, an optional sliding window with sinks.

    q = x Wq,  k = x Wk,  v = x Wv;   y = attention(rotate(q), rotate(k), v; mask, bias) Wo

The mask works on slots (where a token lies in memory), the position scheme on positions (which restart in packed documents and may
be drawn at random): inside one document the two order tokens the same way, and slots let a tiled kernel skip what is hidden.
Sinks are the first slots of the token's own document, so that a packed document sees what it would see alone.
With `window` set, decoding keeps a ring of window + sinks keys; else it keeps them all.
"""
import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lcref.kernels.attention import dot_product_attention
from lcref.nn.layers import Linear, RMSNorm
from lcref.nn.positions.scheme import Position, row_length
from lcref.ops import masks
from lcref.ops.attention import attention_scores, merged
from lcref.ops.cache import FullCache, RingCache
from lcref.ops.numbers import whole
from lcref.ops.positions import packed, plain
from lcref.ops.weights import Softmax, TempScale, Weights


@dataclass(frozen=True)
class AttentionConfig:
    heads: int = 4
    kv_heads: int | None = None                # G; None = heads. Must divide heads
    head_dim: int | None = None                # K = V; None = d_model / heads
    window: int | None = None                  # each token sees the last `window` slots, itself included
    sinks: int = 0                             # ... and the first `sinks`
    weights: Weights = Softmax()
    soft_cap: float | None = None
    bias: bool = False                         # of the four projections
    qk_norm: bool = False                      # RMSNorm on q and k per head before rotation; arXiv 2302.05442 has layer norm there
    position: Any = None                       # this layer's own scheme; None = the decoder's
    implementation: str | None = None          # of dot_product_attention; None picks by size

    def __post_init__(self):
        for name, least in (("heads", 1), ("kv_heads", 1), ("head_dim", 1), ("window", 1), ("sinks", 0)):
            if getattr(self, name) is not None:
                whole("attention", name, getattr(self, name), least=least)
        if self.soft_cap is not None and not 0 < self.soft_cap < math.inf:
            raise ValueError(f"soft_cap must be positive and finite, or None for no cap; got {self.soft_cap}")
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"kv_heads={self.kv_heads} does not divide heads={self.heads}")
        if self.sinks and not self.window:
            raise ValueError(f"sinks={self.sinks} needs a window: without one every key is visible already")

    def width(self, d_model):
        if self.head_dim is None and d_model % self.heads:
            raise ValueError(f"heads={self.heads} does not divide d_model={d_model}; set head_dim or choose a divisor")
        return self.head_dim or d_model // self.heads

    def mask(self, segments=None):
        mask = masks.causal() if segments is None else masks.causal() & masks.segments(segments, segments)
        if self.window is None:
            return mask
        near = masks.window(self.window)
        if self.sinks:
            near = near | (masks.sinks(self.sinks) if segments is None else DocumentSinks(packed(segments), self.sinks))
        return mask & near

    def build(self, d_model, *, position, gain, rngs):
        return Attention(self, d_model, position, gain, rngs)


@masks.mask_type
class DocumentSinks(masks.Mask):
    """The first n tokens of every packed document: index[k] < n, where index int [B,S] is a slot's place in its document."""
    index: jax.Array
    n: int = masks.static()

    def __call__(self, q_pos, k_pos):
        q, k = masks.pairs(q_pos, self.index[:, k_pos])
        return (k < self.n) | (q != q)


class Attention(nnx.Module):
    def __init__(self, cfg, d_model, position, gain, rngs):
        H, K = cfg.heads, cfg.width(d_model)
        G = cfg.kv_heads or H
        self.cfg, self.position, self.shape = cfg, position, (H, G, K)
        check_scheme(cfg, position)
        self.q, self.k, self.v = (Linear(d_model, n * K, rngs, bias=cfg.bias) for n in (H, G, G))
        self.out = Linear(H * K, d_model, rngs, gain, cfg.bias)
        self.q_norm, self.k_norm = (RMSNorm(K), RMSNorm(K)) if cfg.qk_norm else (None, None)
        learned = jax.tree.map(lambda leaf: nnx.Param(jnp.asarray(leaf, jnp.float32)), jax.tree.leaves(cfg.weights))
        self.learned = nnx.List(learned)       # what the weights value learns: its array leaves (tau of Tempered)

    def __call__(self, x, positions=None, segments=None, position=None, seen=None):
        """position: the scheme made ready for rows of this length (None: do it here).
        seen: a dict that receives the attention weights [B,H,T,T] (then the T x T matrix is built)."""
        ids = plain(x.shape[1])[None, :] if positions is None else positions
        position = position or self.position.at(row_length(ids), self.position.solve())
        q, k, v = self.project(x)
        views = self.views(position, q, k, ids, ids, self.cfg.mask(segments))
        if seen is not None:
            seen["weights"] = attention_weights(views, weights=self.weights(), bias=self.bias(positions), soft_cap=self.cfg.soft_cap)
        return self.merge(self.attend(views, v, **self.added(positions)))

    def init_state(self, batch, length, dtype=jnp.float32):
        H, G, K = self.shape
        if self.cfg.window is None:
            return FullCache.create(batch, length, G, K, K, dtype)
        return RingCache.create(batch, self.cfg.window, self.cfg.sinks, G, K, K, dtype)

    def extend(self, x, state, positions=None, position=None):
        """positions: ids of all slots [1 or B, length] of the stream, or None for 0, 1, 2, ..."""
        q_slots = state.cursor + np.arange(x.shape[1])
        ids = lambda slots: slots[None, :] if positions is None else jnp.asarray(positions)[:, jnp.minimum(slots, positions.shape[1] - 1)]
        position = position or self.position.at(state.cursor + x.shape[1] if positions is None else row_length(positions), self.position.solve())
        q, k, v = self.project(x)
        if not position.late:
            k = position.rotate(k, ids(q_slots), of="k")
        k, v, k_slots, state = state.extend(k, v)
        views = self.views(position, q, k, ids(q_slots), ids(k_slots) if position.late else None, self.cfg.mask())
        return self.merge(self.attend(views, v, **self.added(positions), q_pos=q_slots, k_pos=k_slots)), state

    def project(self, x):
        H, G, K = self.shape
        B, T, _ = x.shape
        q, k, v = self.q(x).reshape(B, T, H, K), self.k(x).reshape(B, T, G, K), self.v(x).reshape(B, T, G, K)
        return (self.q_norm(q), self.k_norm(k), v) if self.cfg.qk_norm else (q, k, v)

    def views(self, position, q, k, q_ids, k_ids, mask):
        """[(q, k, mask)]: queries and keys rotated, and which pairs they stand for. One view, unless the scheme rotates far keys
        differently. k_ids None: the keys are rotated already."""
        if position.near is None:
            return [(position.rotate(q, q_ids, of="q"), k if k_ids is None else position.rotate(k, k_ids, of="k"), mask)]
        near = masks.window(position.near)
        start = jnp.min(q_ids)                  # near keys: only differences count, and small numbers make exact angles, a million tokens on
        return [(position.rotate(q, q_ids - start, of="q"), position.rotate(k, k_ids - start, of="k"), mask & near),
                (position.rotate_far(q, q_ids, of="q"), position.rotate_far(k, k_ids, of="k"), mask & ~near)]

    def attend(self, views, v, **kwargs):
        kwargs |= dict(weights=self.weights(), soft_cap=self.cfg.soft_cap, implementation=self.cfg.implementation)
        if len(views) == 1:
            (q, k, mask), = views
            return dot_product_attention(q, k, v, mask=mask, **kwargs)
        return merged([dot_product_attention(q, k, v, mask=mask, return_lse=True, **kwargs) for q, k, mask in views])

    def merge(self, y):
        return self.out(y.reshape(*y.shape[:2], -1))

    def added(self, positions):
        """What the scheme adds to the scores, as arguments of the door. Where positions are slots, ALiBi is its slopes, for kernels."""
        return dict(bias=self.bias(positions)) if positions is not None or self.position.slopes is None else dict(slopes=self.position.slopes)

    def bias(self, positions):
        """The scheme's bias as a function of slots: look the slots' positions up first."""
        if type(self.position).bias is Position.bias:              # the scheme does not override the hook
            return None
        if positions is None:
            return self.position.bias
        ids = jnp.asarray(positions)
        return lambda q_slots, k_slots: self.position.bias(ids[:, q_slots], ids[:, jnp.minimum(k_slots, ids.shape[1] - 1)])

    def weights(self):
        structure = jax.tree.structure(self.cfg.weights)
        return jax.tree.unflatten(structure, [p[...] for p in self.learned])


def check_scheme(cfg, position):
    """ValueError where a scheme that rotates far keys differently does not go with the mixer."""
    if position.near is None:
        return
    position.cfg.check(cfg)
    if not isinstance(cfg.weights, (Softmax, TempScale)):
        raise ValueError(f"{type(position.cfg).__name__} attends to near and far keys apart, and {type(cfg.weights).__name__} counts all of them: "
                         "choose softmax or temp_scale")


def attention_weights(views, weights, **kwargs):
    """The T x S matrix [B,H,T,S]: every pair is visible in one view at most."""
    scored = [attention_scores(q, k, mask=mask, weights=weights, **kwargs) for q, k, mask in views]
    return weights(functools.reduce(jnp.maximum, [scores for scores, _ in scored]), scored[0][1])
