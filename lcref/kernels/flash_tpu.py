"""FlashAttention as a Pallas kernel for TPU, forward and backward: no T x S matrix ever leaves the core. arXiv 2205.14135, 2307.08691.

Three kernels, each a grid of tiles: forward over (batch, query head, query tile, key tile), dq over the same, dk and dv over (batch, key
head, key tile, query head of the group, query tile). The last axes run in order and carry their sums in scratch memory.

Forward, a tile of scores is s [bq, bk], and its weights go into the second product as they stand; a row's maximum is kept over 128 lanes, where
it meets tiles without being moved, and of its sum each lane keeps a part, added up once at the end. s is read twice, for the maximum and for the
weights, from scratch memory: a tile is four times what the registers hold.

Backward, tiles are transposed: s^T [bk, bq], keys down and queries across, so that the numbers of a row are [1, bq], one lane a query, which is
also how the log-sum-exp is stored: 4 bytes a row. benchmarks/tpu_schedule.py counts what each costs.

Which tiles there are is decided before the kernel runs, by the mask's own `tile` answers: a table gives, for each query tile, the numbers of
the key tiles that it reads and whether they need the element mask (PARTIAL) or not (FULL). The table is prefetched into scalar memory; a
shorter row repeats its last number with DEAD, which computes nothing and fetches nothing, since a block that is the same as before is not
copied again. So a window, sinks or any block-sparse mask costs what its live tiles cost.

Not here, and refused by name: bias arrays and functions other than ALiBi's slopes, positions that are not 0 .. T-1, queries at other slots
than keys begin at. Softplus weights have passes of their own and share the backward kernels: lcref/kernels/softplus_tpu.py.

Checked interpreted, and compiled ahead of time by the vendor's compiler; no TPU has run it yet.
"""
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from lcref.ops.masks import without_documents
from lcref.ops.tiles import live_tiles, pad, round_up
from lcref.ops.weights import Lssa, Softmax, softmax

DEAD, PARTIAL, FULL = 0, 1, 2
LOW = -0.7 * float(np.finfo(np.float32).max)                   # a score that is hidden; finite, so that LOW - LOW is 0 and not NaN
LANES = 128


class Plan(NamedTuple):
    """What is known before the kernels run, the same for all three."""
    mask: Any                                                  # asks positions alone; None for everything
    bq: int
    bk: int
    keys: int                                                  # S, before padding to whole tiles
    scale: float
    soft_cap: float | None
    documents: bool
    slopes: bool
    interpret: Any
    strip: int | None = None                                   # queries of a tile that softmax forward works on at a time; None: all


def why_not(q, *, weights=softmax, **call):
    """What of a call to attention this kernel cannot do, in words; None where it can all."""
    if type(weights) is not Softmax and not isinstance(weights, Lssa):
        return f"its weights are softmax, lssa or lssar, not {type(weights).__name__}"
    if q.dtype not in (jnp.float32, jnp.bfloat16):
        return f"it computes in float32 or bfloat16, not {q.dtype}"
    return not_in_tiles(**call)


def not_in_tiles(*, bias=None, q_pos=None, k_pos=None, mask=None, **rest):
    """What of a call no kernel of live tiles can do, in words."""
    if bias is not None:
        return "it takes no bias; ALiBi goes by slopes"
    if any(pos is not None and not (isinstance(pos, np.ndarray) and np.array_equal(pos, np.arange(len(pos)))) for pos in (q_pos, k_pos)):
        return "queries and keys stand at slots 0, 1, 2, ... in it"
    try:
        rest, _ = without_documents(mask)
    except ValueError as error:
        return str(error)
    if jax.tree.leaves(rest):
        return "its masks ask positions alone, beside one factor of packed documents: this one looks positions up in an array"
    return None


def flash_attention(q, k, v, *, mask=None, slopes=None, scale=None, soft_cap=None, block_q=512, block_k=512, strip=None, interpret=False):
    """q [B,T,H,K], k [B,S,G,K], v [B,S,G,V] -> (output [B,T,H,V], log-sum-exp float32 [B,H,T]); gradients of q, k, v and slopes [H].

    A query that sees no key gets 0 and -inf. interpret=True runs the kernels on any machine, slowly. Raises ValueError where packed documents
    are not one factor of the mask, and for a strip that is no multiple of 16. Memory: O(T + S). Work: 4 B H K bq bk a live tile forward, 14 / 4
    of it backward. strip: queries of a tile that are worked on at a time, forward; None: all. With 256, in tiles of 512 x 512 or 1024 x 512, v5e
    and v5p spill no register; v6e issues fewest bundles for whole tiles of 1024 x 1024 (results/bench/tpu_schedule.jsonl).
    """
    if strip is not None and (strip < 16 or strip % 16):
        raise ValueError(f"strip={strip}: a positive multiple of 16, or None for whole tiles")
    plan, *taken = whole_tiles(q, k, v, mask, slopes, q.shape[-1]**-0.5 if scale is None else scale, soft_cap, block_q, block_k, interpret)
    out, lse = flash(plan._replace(strip=strip), *taken)
    return jnp.swapaxes(out[:, :, :q.shape[1]], 1, 2), lse[:, :, 0, :q.shape[1]]


def whole_tiles(q, k, v, mask, slopes, scale, soft_cap, block_q, block_k, interpret):
    """What the kernels take: (plan, q, k, v with heads first and filled up to whole tiles, slopes, ids, the two tables)."""
    (B, T), S = q.shape[:2], k.shape[1]
    rest, documents = without_documents(mask)
    bq, bk = min(block_q, round_up(T, 128)), min(block_k, round_up(S, 128))
    full, part = live_tiles(mask, np.arange(T), np.arange(S), bq, bk)
    rows, columns = len(full) * bq, -(-S // bk) * bk
    plan = Plan(rest, bq, bk, S, float(scale), soft_cap, documents is not None, slopes is not None, interpret)
    heads_first = lambda x, n: pad(jnp.swapaxes(x, 1, 2), 2, n)
    ids = None
    if documents is not None:
        row = lambda ids, n: pad(jnp.broadcast_to(jnp.atleast_2d(jnp.asarray(ids, jnp.int32)), (B, np.shape(ids)[-1])), 1, n)
        ids = row(documents.q_ids, rows)[:, None, :], row(documents.k_ids, columns)[:, :, None]
    rates = None if slopes is None else jnp.asarray(slopes, jnp.float32)
    return plan, heads_first(q, rows), heads_first(k, columns), heads_first(v, columns), rates, ids, *table(full, part, len(full), columns // bk)


def table(full, part, rows, columns):
    """((numbers, kinds) [rows, widest] of the key tiles of each query tile, the same of the query tiles of each key tile), int32."""
    kinds = np.zeros((rows, columns), np.int32)
    for i in range(rows):
        kinds[i, list(full[i])], kinds[i, list(part[i])] = FULL, PARTIAL

    def lists(kinds):
        live = [np.flatnonzero(row) for row in kinds]
        widest = max(1, *map(len, live))
        numbers, which = np.zeros((len(kinds), widest), np.int32), np.full((len(kinds), widest), DEAD, np.int32)
        for i, found in enumerate(live):
            numbers[i, :len(found)], numbers[i, len(found):] = found, found[-1] if len(found) else 0
            which[i, :len(found)] = kinds[i, found]
        return numbers, which
    return lists(kinds), lists(kinds.T)


# ------------------------------------------------------------------------------------------------------------------ in a tile

def dot(a, b, contract_a, contract_b):
    """Float32 product of two tiles; float32 operands are not rounded to bfloat16 on the way."""
    precision = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return lax.dot_general(a, b, (((contract_a,), (contract_b,)), ((), ())), precision=precision, preferred_element_type=jnp.float32)


def scores(plan, q, k, slope, first_q, first_k, down):
    """(s before the mask, tanh of the cap or None, |q - k| or None) of queries and keys from the first on: [keys,queries], or with down="queries"
    [queries,keys]"""
    s, t, distance = (dot(q, k, 1, 1) if down == "queries" else dot(k, q, 1, 1)) * plan.scale, None, None
    if plan.soft_cap is not None:
        t = jnp.tanh(s / plan.soft_cap)
        s = plan.soft_cap * t
    if plan.slopes:
        q_pos, k_pos = positions(s.shape, first_q, first_k, down)
        distance = jnp.abs(q_pos - k_pos).astype(jnp.float32)
        s = s - slope * distance
    return s, t, distance


def positions(shape, first_q, first_k, down):
    axis = 0 if down == "queries" else 1
    return first_q + lax.broadcasted_iota(jnp.int32, shape, axis), first_k + lax.broadcasted_iota(jnp.int32, shape, 1 - axis)


def visible(plan, i, j, q_ids, k_ids, down):
    """bool, of the shape of a whole tile's scores. The ids of packed documents lie along their axes, a row and a column; or None."""
    q_pos, k_pos = positions((plan.bq, plan.bk) if down == "queries" else (plan.bk, plan.bq), i * plan.bq, j * plan.bk, down)
    seen = k_pos < plan.keys
    if plan.mask is not None:
        seen = seen & plan.mask.visible(q_pos, k_pos)
    if plan.documents:
        seen = seen & (q_ids == k_ids) & (q_ids > 0)
    return seen


def wide(x, n):
    """Numbers of rows kept over all lanes, [bq,128] -> [bq,n]"""
    return jnp.tile(x, (1, -(-n // LANES)))[:, :n]


def each_kind(kind, visit):
    """visit(masked) for a live tile."""
    pl.when(kind == PARTIAL)(partial(visit, True))
    pl.when(kind == FULL)(partial(visit, False))


class Refs:
    """A kernel's refs by name, in order; what this plan does without is None."""

    def __init__(self, plan, refs, names):
        absent, refs = set(), iter(refs)
        absent |= set() if plan.documents else {"q_ids", "k_ids"}
        absent |= set() if plan.slopes else {"slopes", "d_slopes", "slopes_sum"}
        for name in names.split():
            setattr(self, name, None if name in absent else next(refs))

    def scores(self, plan, head, i, j, down="keys", rows=slice(0, None)):
        """`scores` of one tile, or of some of its queries."""
        slope = None if self.slopes is None else self.slopes[head]
        return scores(plan, self.q[rows, :], self.k[...], slope, i * plan.bq + rows.start, j * plan.bk, down)

    def visible(self, plan, i, j, down="keys"):
        return visible(plan, i, j, *((None, None) if self.q_ids is None else (self.q_ids[...], self.k_ids[...])), down)


def forward_kernel(plan, numbers, kinds, *refs):
    r = Refs(plan, refs, "slopes q k v q_ids k_ids out lse m l acc s")
    head, i, n = (pl.program_id(axis) for axis in (1, 2, 3))
    j = numbers[i, n]

    @pl.when(n == 0)
    def start():
        r.m[...], r.l[...], r.acc[...] = jnp.full_like(r.m, LOW / 2), jnp.zeros_like(r.l), jnp.zeros_like(r.acc)

    def visit(masked):
        seen, strip = r.visible(plan, i, j, "queries") if masked else None, plan.strip or plan.bq
        for at in range(0, plan.bq, strip):
            rows = slice(at, min(at + strip, plan.bq))
            s, _, _ = r.scores(plan, head, i, j, "queries", rows)
            r.s[rows, :] = jnp.where(seen[rows], s, LOW) if masked else s
            m = jnp.maximum(r.m[rows, :], r.s[rows, :].max(1, keepdims=True))          # LOW / 2 where nothing was seen yet: p = exp(LOW / 2) = 0
            p, shrink = jnp.exp(r.s[rows, :] - wide(m, plan.bk)), jnp.exp(r.m[rows, :] - m)
            r.m[rows, :], r.l[rows, :] = m, shrink * r.l[rows, :] + sum(p[:, c:c + LANES] for c in range(0, plan.bk, LANES))
            r.acc[rows, :] = wide(shrink, r.acc.shape[1]) * r.acc[rows, :] + dot(p.astype(r.v.dtype), r.v[...], 1, 0)
    each_kind(kinds[i, n], visit)

    @pl.when(n == pl.num_programs(3) - 1)
    def finish():
        total = r.l[...].sum(1, keepdims=True)
        l = jnp.where(total == 0, 1.0, total)
        r.out[...] = (r.acc[...] * (1 / l)).astype(r.out.dtype)
        r.lse[...] = jnp.where(total == 0, -jnp.inf, r.m[...] + jnp.log(l)).T[:1]


class Form(NamedTuple):
    """What backward kernels do for one kind of weights: the numbers per row that they read, and what a tile gives back."""
    rows: str
    gradient: Any                                              # (plan, refs, head, i, j, masked) -> (weights, ds), both [bk,bq], and |q - k|, t


def gradient(plan, r, head, i, j, masked):
    """Softmax: p = exp(s - lse), ds = p (do v^T - delta)"""
    s, t, distance = r.scores(plan, head, i, j)
    p = jnp.exp(s - r.lse[...])
    if masked:
        p = jnp.where(r.visible(plan, i, j), p, 0.0)
    return p, p * (dot(r.v[...], r.d_out[...], 1, 1) - r.delta[...]), distance, t


SOFTMAX = Form("lse delta", gradient)


def uncapped(ds, t):
    """Through s = cap tanh(raw / cap)."""
    return ds if t is None else ds * (1 - t * t)


def dq_kernel(form, plan, numbers, kinds, *refs):
    r = Refs(plan, refs, f"slopes q k v q_ids k_ids d_out {form.rows} dq d_slopes acc slopes_sum")
    head, i, n = (pl.program_id(axis) for axis in (1, 2, 3))
    j = numbers[i, n]

    @pl.when(n == 0)
    def start():
        r.acc[...] = jnp.zeros_like(r.acc)
        if plan.slopes:
            r.slopes_sum[...] = jnp.zeros_like(r.slopes_sum)

    def visit(masked):
        _, ds, distance, t = form.gradient(plan, r, head, i, j, masked)
        r.acc[...] += dot(uncapped(ds, t).astype(r.k.dtype), r.k[...], 0, 0)
        if plan.slopes:
            r.slopes_sum[...] -= (ds * distance).sum(0, keepdims=True)
    each_kind(kinds[i, n], visit)

    @pl.when(n == pl.num_programs(3) - 1)
    def finish():
        r.dq[...] = (r.acc[...] * plan.scale).astype(r.dq.dtype)
        if plan.slopes:
            r.d_slopes[...] = r.slopes_sum[...]


def dkv_kernel(form, plan, numbers, kinds, *refs):
    r = Refs(plan, refs, f"slopes q k v q_ids k_ids d_out {form.rows} dk dv dk_sum dv_sum")
    group, j, member, n = (pl.program_id(axis) for axis in (1, 2, 3, 4))
    head, i = group * pl.num_programs(3) + member, numbers[j, n]

    @pl.when((member == 0) & (n == 0))
    def start():
        r.dk_sum[...], r.dv_sum[...] = jnp.zeros_like(r.dk_sum), jnp.zeros_like(r.dv_sum)

    def visit(masked):
        p, ds, _, t = form.gradient(plan, r, head, i, j, masked)
        r.dv_sum[...] += dot(p.astype(r.d_out.dtype), r.d_out[...], 1, 0)
        r.dk_sum[...] += dot(uncapped(ds, t).astype(r.q.dtype), r.q[...], 1, 0)
    each_kind(kinds[j, n], visit)

    @pl.when((member == pl.num_programs(3) - 1) & (n == pl.num_programs(4) - 1))
    def finish():
        r.dk[...], r.dv[...] = (r.dk_sum[...] * plan.scale).astype(r.dk.dtype), r.dv_sum[...].astype(r.dv.dtype)


# ----------------------------------------------------------------------------------------------------------------- the calls

def call(plan, kernel, grid, parallel, tables, inputs, outputs, scratch):
    """inputs, outputs: [(array or its shape, block, index map)] in the kernel's order, absent ones left out; block None: in scalar memory."""
    def spec(block, index):
        return pl.BlockSpec(memory_space=pltpu.SMEM) if block is None else pl.BlockSpec(block, index)
    return pl.pallas_call(
        partial(kernel, plan),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2, grid=grid, in_specs=[spec(block, index) for _, block, index in inputs],
            out_specs=[spec(block, index) for _, block, index in outputs], scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in scratch]),
        out_shape=[shape for shape, _, _ in outputs],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel",) * parallel + ("arbitrary",) * (len(grid) - parallel)),
        interpret=plan.interpret, name=getattr(kernel, "func", kernel).__name__,
    )(*tables, *[array for array, _, _ in inputs])


def blocks(plan, q, k, v, slopes, ids, where, down="keys"):
    """(what q and k look like by query tile, [input triples every kernel begins with]). where: grid and table -> (b, head, key head, i, j)."""
    bq, bk = plan.bq, plan.bk
    at = lambda pick: lambda *grid: pick(*where(*grid))
    by_query = lambda width: ((None, None, bq, width), at(lambda b, h, g, i, j: (b, h, i, 0)))
    by_key = lambda width: ((None, None, bk, width), at(lambda b, h, g, i, j: (b, g, j, 0)))
    lanes = ((None, None, 1, bq), at(lambda b, h, g, i, j: (b, h, 0, i)))
    inputs = [(q, *by_query(q.shape[3])), (k, *by_key(k.shape[3])), (v, *by_key(v.shape[3]))]
    if slopes is not None:
        inputs.insert(0, (slopes, None, None))
    if ids is not None:
        along = [(ids[0], (None, 1, bq), lambda b, h, g, i, j: (b, 0, i)), (ids[1], (None, bk, 1), lambda b, h, g, i, j: (b, j, 0))]
        if down == "queries":
            turned = lambda x: (x[0], x[2], x[1])
            along = [(jnp.swapaxes(x, 1, 2), turned(block), lambda *place, index=index: turned(index(*place))) for x, block, index in along]
        inputs += [(x, block, at(index)) for x, block, index in along]
    return by_query, by_key, lanes, inputs


def over_query_tiles(R):
    """Where a grid (batch, head, query tile, n) with its table stands; lax.div because // asks which device this is."""
    return lambda b, h, i, n, numbers, kinds: (b, h, lax.div(h, R), i, numbers[i, n])


def over_key_tiles(R):
    return lambda b, g, j, r, n, numbers, kinds: (b, g * R + r, g, numbers[j, n], j)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def flash(plan, q, k, v, slopes, ids, by_query, by_key):
    """Heads first and whole tiles: q [B,H,T,K], k [B,G,S,K], v [B,G,S,V] -> (out [B,H,T,V], lse [B,H,1,T])"""
    (B, H, T, _), V = q.shape, v.shape[3]
    rows, _, lanes, inputs = blocks(plan, q, k, v, slopes, ids, over_query_tiles(H // k.shape[1]), "queries")
    outputs = [(jax.ShapeDtypeStruct((B, H, T, V), q.dtype), *rows(V)), (jax.ShapeDtypeStruct((B, H, 1, T), jnp.float32), *lanes)]
    grid = (B, H, *by_query[0].shape)
    return call(plan, forward_kernel, grid, 3, by_query, inputs, outputs, [(plan.bq, LANES), (plan.bq, LANES), (plan.bq, V), (plan.bq, plan.bk)])


def flash_forward(plan, q, k, v, slopes, ids, by_query, by_key):
    out, lse = flash(plan, q, k, v, slopes, ids, by_query, by_key)
    return (out, lse), (q, k, v, slopes, ids, by_query, by_key, out, lse)


def flash_backward(plan, saved, cotangents):
    """delta = rowsum(do o) - dlse is all that the log-sum-exp's own gradient needs."""
    q, k, v, slopes, ids, by_query, by_key, out, lse = saved
    d_out, d_lse = cotangents
    delta = (d_out.astype(jnp.float32) * out.astype(jnp.float32)).sum(-1)[:, :, None] - jnp.where(jnp.isneginf(lse), 0.0, d_lse)
    lse = jnp.where(jnp.isneginf(lse), jnp.inf, lse)           # a query that sees nothing: exp(s - inf) = 0
    return (*backward(SOFTMAX, plan, q, k, v, slopes, ids, by_query, by_key, d_out, (lse, delta)), None, None, None)


def backward(form, plan, q, k, v, slopes, ids, by_query, by_key, d_out, per_row):
    """(dq, dk, dv, d_slopes or None). per_row: what the form reads of every row, each [B,H,1,T]."""
    (B, H, T, K), G, V = q.shape, v.shape[1], v.shape[3]
    rows, _, lanes, inputs = blocks(plan, q, k, v, slopes, ids, over_query_tiles(H // G))
    inputs += [(d_out, *rows(V)), *((numbers, *lanes) for numbers in per_row)]
    outputs, scratch = [(jax.ShapeDtypeStruct(q.shape, q.dtype), *rows(K))], [(plan.bq, K)]
    if plan.slopes:
        outputs, scratch = outputs + [(jax.ShapeDtypeStruct((B, H, 1, T), jnp.float32), *lanes)], scratch + [(1, plan.bq)]
    dq, *d_slopes = call(plan, partial(dq_kernel, form), (B, H, *by_query[0].shape), 3, by_query, inputs, outputs, scratch)

    rows, columns, lanes, inputs = blocks(plan, q, k, v, slopes, ids, over_key_tiles(H // G))
    inputs += [(d_out, *rows(V)), *((numbers, *lanes) for numbers in per_row)]
    outputs = [(jax.ShapeDtypeStruct(k.shape, k.dtype), *columns(K)), (jax.ShapeDtypeStruct(v.shape, v.dtype), *columns(V))]
    grid = (B, G, by_key[0].shape[0], H // G, by_key[0].shape[1])
    dk, dv = call(plan, partial(dkv_kernel, form), grid, 3, by_key, inputs, outputs, [(plan.bk, K), (plan.bk, V)])
    return dq, dk, dv, d_slopes[0].sum((0, 2, 3)) if plan.slopes else None


flash.defvjp(flash_forward, flash_backward)
