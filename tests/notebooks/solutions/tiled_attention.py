"""Answers to notebook 07."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from lcref.ops.attention import attend, attend_chunked, merged
from lcref.ops.tiles import live_tiles, table

LOW = -1e30


# ------------------------------------------------------------------------------------------------------------------------------- merge

def merge(out_a, lse_a, out_b, lse_b):
    lse = np.logaddexp(lse_a, lse_b)
    safe = np.where(np.isneginf(lse), 0, lse)
    return np.exp(lse_a - safe)[:, None] * out_a + np.exp(lse_b - safe)[:, None] * out_b, lse


def library_merge(out_a, lse_a, out_b, lse_b):
    lift = lambda out, lse: (jnp.asarray(out)[None, :, None], jnp.asarray(lse)[None, None])
    return merged([lift(out_a, lse_a), lift(out_b, lse_b)])[0, :, 0], jnp.logaddexp(lse_a, lse_b)


def overflowing_merge(out_a, lse_a, out_b, lse_b):
    l_a, l_b = np.exp(lse_a)[:, None], np.exp(lse_b)[:, None]
    return (l_a * out_a + l_b * out_b) / np.maximum(l_a + l_b, np.float32(1e-30)), np.log(l_a + l_b)[:, 0]


def unguarded_merge(out_a, lse_a, out_b, lse_b):
    lse = np.logaddexp(lse_a, lse_b)
    return np.exp(lse_a - lse)[:, None] * out_a + np.exp(lse_b - lse)[:, None] * out_b, lse


# ------------------------------------------------------------------------------------------------------------------------------ update

def update(m, l, a, s, v):
    new = np.maximum(m, s.max(1))
    top = np.where(np.isneginf(new), 0, new)
    shrink, e = np.exp(m - top), np.exp(s - top[:, None])
    return new, shrink * l + e.sum(1), shrink[:, None] * a + e @ v


def update_with_a_floor(m, l, a, s, v):
    """Finite instead of -inf, and the weights masked a second time."""
    new = jnp.maximum(jnp.maximum(m, LOW), s.max(1))
    e = jnp.where(jnp.isneginf(s), 0.0, jnp.exp(s - new[:, None]))
    return new, jnp.exp(m - new) * l + e.sum(1), jnp.exp(m - new)[:, None] * a + e @ v


def update_without_shrinking(m, l, a, s, v):
    new = np.maximum(m, s.max(1))
    e = np.exp(s - np.where(np.isneginf(new), 0, new)[:, None])
    return new, l + e.sum(1), a + e @ v


def update_unguarded(m, l, a, s, v):
    new = np.maximum(m, s.max(1))
    shrink, e = np.exp(m - new), np.exp(s - new[:, None])
    return new, shrink * l + e.sum(1), shrink[:, None] * a + e @ v


def update_that_forgets_a(m, l, a, s, v):
    new, total, _ = update(m, l, a, s, v)
    return new, total, a + np.exp(s - new[:, None]) @ v


def update_from_the_tile_alone(m, l, a, s, v):
    return update(np.full_like(m, -np.inf), 0 * l, 0 * a, s, v)


# ------------------------------------------------------------------------------------------------------------------------------- tiles

def flash(q, k, v, mask, block, step=update, skip=True, element=True):
    out = np.zeros((len(q), v.shape[1]), np.float32)
    for i in range(0, len(q), block):
        state = np.full(block, -np.inf), np.zeros(block), np.zeros((block, v.shape[1]))
        for j in range(0, len(k), block):
            answer = mask.tile(i, i + block - 1, j, j + block - 1)
            if answer == "none" and skip:
                continue
            s = q[i:i + block] @ k[j:j + block].T / np.sqrt(q.shape[1])
            if answer != "all" and element:
                s = np.where(mask(np.arange(i, i + block), np.arange(j, j + block)), s, -np.inf)
            state = step(*state, s, v[j:j + block])
        m, l, a = state
        out[i:i + block] = a / np.where(l == 0, 1, l)[:, None]
    return out


def lift(function):
    return partial(jax.jit, static_argnums=(3, 4))(
        lambda q, k, v, mask, block: function(*(jnp.asarray(z)[None, :, None] for z in (q, k, v)), mask, block)[0, :, 0])


def library_flash(q, k, v, mask, block):
    return attend_chunked(q, k, v, mask=mask, block_q=block, block_k=block)


# ------------------------------------------------------------------------------------------------------------------------------ Pallas

def launch(kernel, q, k, v, mask, block):
    full, part = live_tiles(mask, np.arange(len(q)), np.arange(len(k)), block, block)
    tiles, count = table([whole + some for whole, some in zip(full, part)])
    own = lambda rows, columns: pl.BlockSpec((rows, columns), lambda i: (i, 0))
    every = lambda x: pl.BlockSpec(x.shape, lambda i: (0, 0))
    return pl.pallas_call(
        partial(kernel, mask, block), grid=(len(q) // block,),
        in_specs=[own(1, tiles.shape[1]), own(1, 1), own(block, q.shape[1]), every(k), every(v)],
        out_specs=own(block, v.shape[1]), out_shape=jax.ShapeDtypeStruct((len(q), v.shape[1]), jnp.float32), interpret=True)(
            tiles, count[:, None], q, k, v)


def kernel(mask, block, tiles, count, q, k, v, out, step=update_with_a_floor, element=True, whole=False):
    queries = q[...] / np.sqrt(q.shape[1])
    q_pos = pl.program_id(0) * block + jnp.arange(block)[:, None]

    def visit(n, state):
        start = n * block if whole else tiles[0, n] * block
        s = queries @ k[pl.ds(start, block), :].T
        if element:
            s = jnp.where(mask.visible(q_pos, start + jnp.arange(block)[None, :]), s, -jnp.inf)
        return step(*state, s, v[pl.ds(start, block), :])
    start = jnp.full(block, -jnp.inf), jnp.zeros(block), jnp.zeros((block, v.shape[1]))
    m, l, a = jax.lax.fori_loop(0, k.shape[0] // block if whole else count[0, 0], visit, start)
    out[...] = a / jnp.where(l == 0, 1, l)[:, None]


def kernel_over_a_grid(mask, block, q, k, v):
    """Another way: one program a pair of tiles, the state in outputs that stay, dead tiles under pl.when."""
    kinds = np.array([[mask.tile(i, i + block - 1, j, j + block - 1) != "none" for j in range(0, len(k), block)] for i in range(0, len(q), block)])

    def body(live, q, k, v, m, l, a):
        i, j = pl.program_id(0), pl.program_id(1)

        @pl.when(j == 0)
        def begin():
            m[...], l[...], a[...] = jnp.full(m.shape, LOW), jnp.zeros(l.shape), jnp.zeros(a.shape)

        @pl.when(live[0, 0])
        def visit():
            s = q[...] @ k[...].T / np.sqrt(q.shape[1])
            seen = mask.visible(i * block + jnp.arange(block)[:, None], j * block + jnp.arange(block)[None, :])
            new = update_with_a_floor(m[..., 0], l[..., 0], a[...], jnp.where(seen, s, -jnp.inf), v[...])
            m[...], l[...], a[...] = new[0][:, None], new[1][:, None], new[2]
    rows = lambda x: pl.BlockSpec((block, x), lambda i, j: (i, 0))
    keys = lambda x: pl.BlockSpec((block, x), lambda i, j: (j, 0))
    shape = lambda x: jax.ShapeDtypeStruct((len(q), x), jnp.float32)
    widths = 1, 1, v.shape[1]
    _, l, a = pl.pallas_call(body, grid=kinds.shape, in_specs=[pl.BlockSpec((1, 1), lambda i, j: (i, j)), rows(q.shape[1]), keys(k.shape[1]),
                                                               keys(v.shape[1])],
                             out_specs=[*map(rows, widths)], out_shape=[*map(shape, widths)], interpret=True)(jnp.asarray(kinds), q, k, v)
    return a / jnp.where(l == 0, 1, l)


RIGHT = {
    "merge": [merge, library_merge],
    "update": [update, update_with_a_floor],
    "flash": [flash, lift(library_flash)],
    "kernel": [
        lambda q, k, v, mask, block: launch(kernel, q, k, v, mask, block),
        lambda q, k, v, mask, block: kernel_over_a_grid(mask, block, q, k, v),
    ],
}
WRONG = {
    "merge": [
        lambda *halves: None,
        overflowing_merge,
        unguarded_merge,
        lambda out_a, lse_a, out_b, lse_b: ((out_a + out_b) / 2, np.logaddexp(lse_a, lse_b)),
        lambda out_a, lse_a, out_b, lse_b: merge(out_a, lse_a, out_b, lse_b)[0],
    ],
    "update": [
        lambda m, l, a, s, v: None,
        update_without_shrinking,
        update_unguarded,
        update_that_forgets_a,
        update_from_the_tile_alone,
        lambda m, l, a, s, v: (np.concatenate([m, m]), l, a),
    ],
    "flash": [
        lambda q, k, v, mask, block: None,
        lambda q, k, v, mask, block: flash(q, k, v, mask, block, skip=False),
        lambda q, k, v, mask, block: flash(q, k, v, mask, block, element=False),
        lambda q, k, v, mask, block: flash(q, k, v, mask, block, step=update_without_shrinking),
        lift(lambda q, k, v, mask, block: attend(q, k, v, mask=mask)),
        lambda q, k, v, mask, block: mask(np.arange(len(q)), np.arange(len(k))).any() and flash(q, k, v, mask, block),
    ],
    "kernel": [
        lambda q, k, v, mask, block: None,
        lambda q, k, v, mask, block: launch(lambda *refs: None, q, k, v, mask, block),
        lambda q, k, v, mask, block: launch(partial(kernel, element=False), q, k, v, mask, block),
        lambda q, k, v, mask, block: launch(partial(kernel, whole=True), q, k, v, mask, block),
        lift(library_flash),
    ],
}
