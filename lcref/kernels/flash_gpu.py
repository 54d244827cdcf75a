"""FlashAttention as a Pallas kernel for NVIDIA's GPUs, forward and backward. arXiv 2205.14135, 2307.08691.

Three kernels, one program a tile: forward and dq by (query tile, query head, batch), each looping over the key tiles that its queries see; dk
and dv by (key tile, key head, batch), looping over the query heads of the group and the query tiles that see it. A program holds its tile
and its sums in registers; nothing is shared between programs and no T x S matrix is written.

Which tiles there are is decided before the kernel runs, by the mask's own `tile` answers: a table gives, for each query tile, its live key
tiles as runs start .. stop, those that need no element mask (full) apart from those that do (part). A program reads its row of the table
and loops over the runs, so that a window, sinks or any block-sparse mask costs what its live tiles cost.

Scores are kept times log2(e), so that a weight is one exp2; the log-sum-exp that comes back is natural. float32 products are full float32,
outside the tensor cores and slow; bfloat16 and float16 are what the kernel is fast in. Widths of heads are filled up to a power of two.

Written for Pallas on Triton, which jax 0.10 to 0.12 have (deprecated since 0.11); where a later one has it no more, the door says so. Not
here, and refused by name: bias arrays and functions other than ALiBi's slopes, positions that are not 0 .. T-1, weights other than softmax.

Run on an H200 (results/bench/gpu.jsonl): equal to float64 within 5e-7 in float32 and 3e-3 in bfloat16, and 1.2 to 1.7 times cuDNN's time in
causal attention. Packed documents, slopes, the soft cap and several seeds at once (vmap) have run interpreted only.
"""
import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from lcref.kernels.flash_tpu import DEAD, FULL, LOW, PARTIAL, dot, not_in_tiles, uncapped
from lcref.ops.masks import without_documents
from lcref.ops.tiles import pad, round_up
from lcref.ops.weights import Softmax, softmax

try:
    from jax.experimental.pallas import triton
except ImportError:
    triton = None

LOG2E = float(np.log2(np.e))
WIDEST = 256                                                   # of a head: a wider tile does not fit a processor's shared memory


class Tiles(NamedTuple):
    """How one kernel cuts its work: queries and keys a tile (powers of two, 16 at least), warps a program, stages of its loop in flight."""
    q: int
    k: int
    warps: int
    stages: int


class Passes(NamedTuple):
    forward: Tiles
    dq: Tiles
    dkv: Tiles


class Plan(NamedTuple):
    """What is known before the kernels run, the same for all three."""
    mask: Any                                                  # asks positions alone; None for everything
    keys: int                                                  # S, before padding to whole tiles
    scale: float
    soft_cap: float | None
    tiles: Passes
    interpret: Any


def why_not(q, *, v, weights=softmax, **call):
    """What of a call to attention this kernel cannot do, in words; None where it can all."""
    if triton is None:
        return f"it is written for Pallas on Triton, which jax {jax.__version__} has no more"
    if type(weights) is not Softmax:
        return f"its weights are softmax, not {type(weights).__name__}"
    if q.dtype not in (jnp.float32, jnp.bfloat16, jnp.float16):
        return f"it computes in float32, bfloat16 or float16, not {q.dtype}"
    if (wide := max(q.shape[-1], v.shape[-1])) > WIDEST:
        return f"its heads are at most {WIDEST} wide, not {wide}"
    return not_in_tiles(**call)


def passes(dtype, width):
    """Tiles for heads of this width (a power of two). float32 tiles are small: their products are unrolled, one multiply-add at a time."""
    if dtype == jnp.float32:
        small = Tiles(32, 32, 4 if width <= 64 else 8, 1)
        return Passes(small, small, small)
    if width <= 64:
        return Passes(Tiles(64, 64, 4, 3), Tiles(64, 64, 4, 3), Tiles(64, 64, 4, 3))
    if width <= 128:
        return Passes(Tiles(128, 64, 8, 3), Tiles(128, 64, 8, 2), Tiles(64, 128, 8, 2))
    return Passes(Tiles(64, 64, 8, 2), Tiles(64, 32, 8, 2), Tiles(32, 64, 8, 2))


def flash_attention(q, k, v, *, mask=None, slopes=None, scale=None, soft_cap=None, tiles=None, interpret=False):
    """q [B,T,H,K], k [B,S,G,K], v [B,S,G,V] -> (output [B,T,H,V], log-sum-exp float32 [B,H,T]); gradients of q, k, v and slopes [H].

    A query that sees no key gets 0 and -inf. tiles: a Passes, by default the one of `passes`. interpret=True runs the kernels on any
    machine, slowly. Raises ValueError where packed documents are not one factor of the mask. Memory: O(T + S). Work: 4 B H K bq bk a live
    tile forward, 14 / 4 of it backward.
    """
    (B, T, _, K), S = q.shape, k.shape[1]
    rest, documents = without_documents(mask)
    K, V = (max(16, pl.next_power_of_2(n)) for n in (K, v.shape[3]))
    if max(K, V) > WIDEST:
        raise ValueError(f"heads are at most {WIDEST} wide in this kernel, not {max(q.shape[-1], v.shape[-1])}")
    tiles = Passes(*(fitted(each, T, S) for each in tiles or passes(q.dtype, max(K, V))))
    rows, columns = round_up(T, max(each.q for each in tiles)), round_up(S, max(each.k for each in tiles))
    plan = Plan(rest, S, float(q.shape[-1]**-0.5 if scale is None else scale), soft_cap, tiles, interpret)
    fill = lambda x, n, width: pad(pad(x, 1, n), 3, width)
    ids = lambda ids, n: pad(jnp.broadcast_to(jnp.atleast_2d(jnp.asarray(ids, jnp.int32)), (B, np.shape(ids)[-1])), 1, n)
    out, lse = flash(plan, fill(q, rows, K), fill(k, columns, K), fill(v, columns, V), None if slopes is None else jnp.asarray(slopes, jnp.float32),
                     None if documents is None else (ids(documents.q_ids, rows), ids(documents.k_ids, columns)), tables(mask, T, rows, S, tiles))
    return out[:, :T, :, :v.shape[3]], lse[:, :, :T]


def fitted(tiles, T, S):
    """No larger than the sequence."""
    return tiles._replace(q=min(tiles.q, max(16, pl.next_power_of_2(T))), k=min(tiles.k, max(16, pl.next_power_of_2(S))))


def tables(mask, T, rows, S, tiles):
    """For each of the three kernels, its (full, part): the `runs` of tiles that each program visits. Queries from T to `rows` visit none."""
    cut = {(each.q, each.k): np.pad(found := kinds(mask, T, S, each.q, each.k), ((0, rows // each.q - len(found)), (0, 0))) for each in tiles}
    forward, dq, dkv = (cut[each.q, each.k] for each in tiles)
    return tuple((runs(of == FULL), runs(of == PARTIAL)) for of in (forward, dq, dkv.T))


def kinds(mask, T, S, bq, bk):
    """int8 [query tiles, key tiles] of DEAD, PARTIAL and FULL. The mask is asked about the whole and, where it says "some", about its quarters."""
    found = np.zeros((-(-T // bq), -(-S // bk)), np.int8)
    halves = lambda lo, hi: [(lo, hi)] if hi - lo == 1 else [(lo, (lo + hi) // 2), ((lo + hi) // 2, hi)]

    def ask(rows, columns):
        (i, i_end), (j, j_end) = rows, columns
        answer = "all" if mask is None else mask.tile(i * bq, min(i_end * bq, T) - 1, j * bk, min(j_end * bk, S) - 1)
        if answer == "some" and (i_end - i, j_end - j) != (1, 1):
            for quarter in itertools.product(halves(i, i_end), halves(j, j_end)):
                ask(*quarter)
        else:
            found[i:i_end, j:j_end] = {"none": DEAD, "some": PARTIAL, "all": FULL}[answer]
    ask((0, found.shape[0]), (0, found.shape[1]))
    if S % bk:                                                 # padding is hidden by the element mask
        found[:, -1] = np.minimum(found[:, -1], PARTIAL)
    return found


def runs(live):
    """bool [rows, tiles] -> int32 [rows, most, 2]: the tiles of each row as runs start .. stop (past the last), then empty ones 0 .. 0."""
    edges = np.diff(np.pad(live, ((0, 0), (1, 1))).astype(np.int8))
    table = np.zeros((len(live), max(1, (edges > 0).sum(1).max()), 2), np.int32)
    for row, edge in zip(table, edges):
        starts, stops = np.flatnonzero(edge > 0), np.flatnonzero(edge < 0)
        row[:len(starts), 0], row[:len(stops), 1] = starts, stops
    return table


# ------------------------------------------------------------------------------------------------------------------ in a program

def down(x):
    return x[:, None]


def across(x):
    return x[None, :]


def slots(start, size):
    return start + lax.iota(jnp.int32, size)


def over(count, visit, state):
    """state = visit(n, state) for n = 0 .. count-1; one visit needs no loop."""
    return visit(0, state) if count == 1 else lax.fori_loop(0, count, visit, state)


def over_live(full, part, visit, state):
    """state = visit(masked, tile number, state) for every tile of the program's rows of the two tables."""
    for masked, table in ((False, full), (True, part)):
        run = lambda n, state: lax.fori_loop(table[n, 0], table[n, 1], partial(visit, masked), state)
        state = over(table.shape[0], run, state)
    return state


def scores(plan, a, b, slope, q_pos, k_pos):
    """(log2(e) times the scores a b^T before the mask, tanh of the cap or None, |q - k|). a, b: q and k, or k and q for s^T."""
    plain = plan.soft_cap is None and slope is None
    s, t, distance = dot(a, b, 1, 1) * (plan.scale * (LOG2E if plain else 1)), None, jnp.abs(q_pos - k_pos).astype(jnp.float32)
    if plan.soft_cap is not None:
        t = jnp.tanh(s / plan.soft_cap)
        s = plan.soft_cap * t
    if slope is not None:
        s = s - slope * distance
    return s if plain else s * LOG2E, t, distance


def visible(plan, q_pos, k_pos, q_ids, k_ids):
    """bool, where positions and ids broadcast to a tile."""
    seen = (k_pos < plan.keys) & (q_pos >= 0)                  # the second half only broadcasts
    if plan.mask is not None:
        seen = seen & plan.mask.visible(q_pos, k_pos)
    if q_ids is not None:
        seen = seen & (q_ids == k_ids) & (q_ids > 0)
    return seen


def forward_kernel(last, plan, full, part, slopes, q, k, v, q_ids, k_ids, out, lse):
    """q [bq,K], k [S,K], v [S,V], ids [bq] and [S] -> out [bq,V], lse [bq]; later queries first: under a causal mask they have most to do."""
    bq, bk, *_ = plan.tiles.forward
    head, q_pos = pl.program_id(1), down(slots((last - pl.program_id(0)) * bq, bq))
    slope, queries = None if slopes is None else slopes[head], q[...]

    def visit(masked, j, state):
        m, l, acc = state
        at, k_pos = pl.ds(j * bk, bk), across(slots(j * bk, bk))
        s, _, _ = scores(plan, queries, k[at, :], slope, q_pos, k_pos)
        if masked:
            seen = visible(plan, q_pos, k_pos, *(None, None) if q_ids is None else (down(q_ids[...]), across(k_ids[at])))
            s = jnp.where(seen, s, LOW)
        top = jnp.maximum(m, s.max(1))
        p, shrink = jnp.exp2(s - down(top)), jnp.exp2(m - top)
        if masked:                                             # where nothing was seen yet the top is LOW too, and p would be 1
            p = jnp.where(seen, p, 0.0)
        return top, shrink * l + p.sum(1), down(shrink) * acc + dot(p.astype(v.dtype), v[at, :], 1, 0)
    start = jnp.full(bq, LOW, jnp.float32), jnp.zeros(bq, jnp.float32), jnp.zeros((bq, v.shape[1]), jnp.float32)
    m, l, acc = over_live(full, part, visit, start)
    safe = jnp.where(l == 0, 1.0, l)
    out[...] = (acc * down(1 / safe)).astype(out.dtype)
    lse[...] = jnp.where(l == 0, -jnp.inf, m / LOG2E + jnp.log(safe))


def dq_kernel(last, plan, full, part, slopes, q, k, v, q_ids, k_ids, d_out, lse, delta, dq, d_slopes):
    """As forward; d_out [bq,V], lse (times log2 e) and delta [bq] -> dq [bq,K], d_slopes [bq].  ds = p (do v^T - delta);  dq = ds k"""
    bq, bk, *_ = plan.tiles.dq
    head, q_pos = pl.program_id(1), down(slots((last - pl.program_id(0)) * bq, bq))
    slope, queries, d, row_lse, row_delta = None if slopes is None else slopes[head], q[...], d_out[...], down(lse[...]), down(delta[...])

    def visit(masked, j, state):
        acc, rates = state
        at, k_pos = pl.ds(j * bk, bk), across(slots(j * bk, bk))
        keys = k[at, :]
        s, t, distance = scores(plan, queries, keys, slope, q_pos, k_pos)
        p = jnp.exp2(s - row_lse)
        if masked:
            p = jnp.where(visible(plan, q_pos, k_pos, *(None, None) if q_ids is None else (down(q_ids[...]), across(k_ids[at]))), p, 0.0)
        ds = p * (dot(d, v[at, :], 1, 1) - row_delta)
        rates = None if slope is None else rates - (ds * distance).sum(1)
        return acc + dot(uncapped(ds, t).astype(keys.dtype), keys, 1, 0), rates
    start = jnp.zeros(q.shape, jnp.float32), None if slopes is None else jnp.zeros(bq, jnp.float32)
    acc, rates = over_live(full, part, visit, start)
    dq[...] = (acc * plan.scale).astype(dq.dtype)
    if slopes is not None:
        d_slopes[...] = rates


def dkv_kernel(plan, full, part, slopes, q, k, v, q_ids, k_ids, d_out, lse, delta, dk, dv):
    """k [bk,K], v [bk,V]; q [T,R,K], d_out [T,R,V], lse and delta [R,T] of the group -> dk, dv.  On s^T [bk,bq]: dv = p^T do;  dk = ds^T q"""
    bq, bk, *_ = plan.tiles.dkv
    members, k_pos = q.shape[1], down(slots(pl.program_id(0) * bk, bk))
    first, keys, values = pl.program_id(1) * members, k[...], v[...]

    def member(r, sums):
        slope = None if slopes is None else slopes[first + r]

        def visit(masked, i, sums):
            dk_sum, dv_sum = sums
            at, q_pos = pl.ds(i * bq, bq), across(slots(i * bq, bq))
            queries, d = q[at, r, :], d_out[at, r, :]
            s, t, _ = scores(plan, keys, queries, slope, q_pos, k_pos)
            p = jnp.exp2(s - across(lse[r, at]))
            if masked:
                p = jnp.where(visible(plan, q_pos, k_pos, *(None, None) if q_ids is None else (across(q_ids[at]), down(k_ids[...]))), p, 0.0)
            ds = uncapped(p * (dot(values, d, 1, 1) - across(delta[r, at])), t)
            return dk_sum + dot(ds.astype(queries.dtype), queries, 1, 0), dv_sum + dot(p.astype(d.dtype), d, 1, 0)
        return over_live(full, part, visit, sums)
    dk_sum, dv_sum = over(members, member, (jnp.zeros(k.shape, jnp.float32), jnp.zeros(v.shape, jnp.float32)))
    dk[...], dv[...] = (dk_sum * plan.scale).astype(dk.dtype), dv_sum.astype(dv.dtype)


# ----------------------------------------------------------------------------------------------------------------- the calls

def call(plan, tiles, kernel, grid, inputs, outputs):
    """inputs, outputs: [(array or its shape, block, index map) or None] in the kernel's order; the kernel gets None for None."""
    spec = lambda entry: None if entry is None else pl.BlockSpec(*entry[1:])
    array = lambda entry: None if entry is None else entry[0]
    return pl.pallas_call(
        partial(kernel, plan), grid=grid, in_specs=list(map(spec, inputs)), out_specs=list(map(spec, outputs)), out_shape=list(map(array, outputs)),
        compiler_params=triton.CompilerParams(num_warps=tiles.warps, num_stages=tiles.stages), interpret=plan.interpret,
    )(*map(array, inputs))


def by_query(tiles, table, q, k, v, slopes, ids):
    """(the last query tile's number, what a query tile of one head looks like, the same of one number a row, what both kernels read)"""
    last, R, bq = len(table[0]) - 1, q.shape[2] // k.shape[2], tiles.q
    row = lambda x: (x, (None, *x.shape[1:]), lambda n, h, b: (last - n, 0, 0))
    own = lambda x: (x, (None, bq, None, x.shape[3]), lambda n, h, b: (b, last - n, h, 0))
    number = lambda x: (x, (None, None, bq), lambda n, h, b: (b, h, last - n))
    every = lambda x: (x, (None, x.shape[1], None, x.shape[3]), lambda n, h, b: (b, 0, lax.div(h, R), 0))      # // asks which device this is
    q_ids, k_ids = (None, None) if ids is None else ids
    inputs = [*map(row, table), slopes if slopes is None else (slopes, slopes.shape, lambda n, h, b: (0,)), own(q), every(k), every(v),
              ids and (q_ids, (None, bq), lambda n, h, b: (b, last - n)), ids and (k_ids, (None, k_ids.shape[1]), lambda n, h, b: (b, 0))]
    return last, own, number, inputs


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def flash(plan, q, k, v, slopes, ids, tables):
    """Whole tiles: q [B,T,H,K], k [B,S,G,K], v [B,S,G,V] -> (out [B,T,H,V], lse [B,H,T])"""
    (B, T, H, _), V, tiles, table = q.shape, v.shape[3], plan.tiles.forward, tables[0]
    last, own, number, inputs = by_query(tiles, table, q, k, v, slopes, ids)
    outputs = [own(jax.ShapeDtypeStruct((B, T, H, V), q.dtype)), number(jax.ShapeDtypeStruct((B, H, T), jnp.float32))]
    return call(plan, tiles, partial(forward_kernel, last), (last + 1, H, B), inputs, outputs)


def flash_forward(plan, q, k, v, slopes, ids, tables):
    out, lse = flash(plan, q, k, v, slopes, ids, tables)
    return (out, lse), (q, k, v, slopes, ids, tables, out, lse)


def flash_backward(plan, saved, cotangents):
    """delta = rowsum(do o) - dlse is all that the log-sum-exp's own gradient needs."""
    q, k, v, slopes, ids, tables, out, lse = saved
    d_out, d_lse = cotangents
    delta = jnp.moveaxis((d_out.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1), 1, 2) - jnp.where(jnp.isneginf(lse), 0.0, d_lse)
    lse = jnp.where(jnp.isneginf(lse), jnp.inf, lse) * LOG2E   # a query that sees nothing: exp(s - inf) = 0
    dq, d_slopes = queries_backward(plan, tables[1], q, k, v, slopes, ids, d_out, lse, delta)
    dk, dv = keys_backward(plan, tables[2], q, k, v, slopes, ids, d_out, lse, delta)
    return dq, dk, dv, d_slopes, None, None


def queries_backward(plan, table, q, k, v, slopes, ids, d_out, lse, delta):
    """(dq [B,T,H,K], d_slopes [H] or None)"""
    (B, T, H, _), tiles = q.shape, plan.tiles.dq
    last, own, number, inputs = by_query(tiles, table, q, k, v, slopes, ids)
    inputs += [own(d_out), number(lse), number(delta)]
    outputs = [own(jax.ShapeDtypeStruct(q.shape, q.dtype)), None if slopes is None else number(jax.ShapeDtypeStruct((B, H, T), jnp.float32))]
    dq, d_slopes = call(plan, tiles, partial(dq_kernel, last), (last + 1, H, B), inputs, outputs)
    return dq, None if slopes is None else d_slopes.sum((0, 2))


def keys_backward(plan, table, q, k, v, slopes, ids, d_out, lse, delta):
    """(dk [B,S,G,K], dv [B,S,G,V])"""
    (B, T, H, _), G, tiles = q.shape, k.shape[2], plan.tiles.dkv
    row = lambda x: (x, (None, *x.shape[1:]), lambda j, g, b: (j, 0, 0))
    own = lambda x: (x, (None, tiles.k, None, x.shape[3]), lambda j, g, b: (b, j, g, 0))
    group = lambda x: (x, (None, T, H // G, x.shape[3]), lambda j, g, b: (b, 0, g, 0))
    number = lambda x: (x, (None, H // G, T), lambda j, g, b: (b, g, 0))
    q_ids, k_ids = (None, None) if ids is None else ids
    inputs = [*map(row, table), slopes if slopes is None else (slopes, slopes.shape, lambda j, g, b: (0,)), group(q), own(k), own(v),
              ids and (q_ids, (None, T), lambda j, g, b: (b, 0)), ids and (k_ids, (None, tiles.k), lambda j, g, b: (b, j)),
              group(d_out), number(lse), number(delta)]
    outputs = [own(jax.ShapeDtypeStruct(x.shape, x.dtype)) for x in (k, v)]
    return call(plan, tiles, dkv_kernel, (len(table[0]), G, B), inputs, outputs)


flash.defvjp(flash_forward, flash_backward)
