"""Exercises of notebook 07: attention merged from two halves, updated tile by tile, looped over live tiles, and as a Pallas kernel."""
import jax
import jax.numpy as jnp
import numpy as np

from lcref.exercises import difference, verdict
from lcref.ops.attention import attend
from lcref.ops.masks import Mask, causal, sinks, window


def _softmax(s, v):
    """scores [T,S] with -inf where hidden, v [S,V] -> (out [T,V], lse [T]) in float64; a row that sees nothing: 0 and -inf."""
    top = np.where(np.isneginf(s.max(1)), 0.0, s.max(1))
    e = np.exp(s - top[:, None])
    l = e.sum(1)
    with np.errstate(divide="ignore"):
        return e @ v / np.where(l == 0, 1.0, l)[:, None], top + np.log(l)


def _log_sums(what, got, want):
    """As `difference`, for numbers of which some are -inf."""
    if got is not None and np.shape(got) == np.shape(want) and (np.isneginf(want) & ~np.isneginf(np.asarray(got))).any():
        row = int(np.argwhere(np.isneginf(want) & ~np.isneginf(np.asarray(got)))[0, 0])
        return f"{what} at [{row}] is {np.asarray(got)[row]}, and should be -inf: that row has seen no key"
    finite = ~np.isneginf(want)
    return difference(what, got if got is None or np.shape(got) != np.shape(want) else np.where(finite, got, 0.0), np.where(finite, want, 0.0), 1e-4)


def merge(answer) -> bool:
    """answer(out_a [T,V], lse_a [T], out_b, lse_b) -> (out, lse): attention over all keys from that over two disjoint sets of them."""
    rng = np.random.default_rng(0)
    cases = {"scores of about 1": (1.0, 0.0, ()), "scores of hundreds": (1.0, 600.0, ()), "scores of minus hundreds": (1.0, -600.0, ()),
             "halves whose scores lie far apart": (200.0, 0.0, ()),
             "rows 0 and 1 see nothing in the first half, rows 1 and 2 nothing in the second": (1.0, 0.0, (0, 1, 2))}
    for what, (size, shift, blind) in cases.items():
        s, v = shift + size * rng.normal(size=(4, 6)), rng.normal(size=(6, 3))
        if blind:
            s[:2, :3], s[1:3, 3:] = -np.inf, -np.inf
        (out_a, lse_a), (out_b, lse_b), (out, lse) = _softmax(s[:, :3], v[:3]), _softmax(s[:, 3:], v[3:]), _softmax(s, v)
        with np.errstate(all="ignore"):
            got = answer(*(np.float32(z) for z in (out_a, lse_a, out_b, lse_b)))
        if got is None:
            return verdict("the answer is None: it is still to be written")
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            return verdict(f"the answer is a {type(got).__name__}, and should be the pair (out, lse)")
        if problem := difference(f"{what}: out", got[0], out, 1e-3) or _log_sums(f"{what}: lse", got[1], lse):
            return verdict(problem)
    return verdict(None)


def update(answer) -> bool:
    """answer(m [T], l [T], a [T,V], s [T,bk], v [bk,V]) -> (m, l, a): the state after one more tile of scores. It starts as -inf, 0, 0."""
    rng = np.random.default_rng(1)
    cases = {"ordinary scores": (1.0, False), "scores of hundreds": (300.0, False),
             "row 0 sees nothing in the first tile, row 1 nothing in the second, row 2 nothing at all": (1.0, True)}
    for what, (size, blind) in cases.items():
        T, V, bk, tiles = 4, 3, 5, 4
        s, v = np.float32(size * rng.normal(size=(T, tiles * bk))), np.float32(rng.normal(size=(tiles * bk, V)))
        if blind:
            s[0, :bk], s[1, bk:2 * bk], s[2] = -np.inf, -np.inf, -np.inf
        state = np.full(T, -np.inf, np.float32), np.zeros(T, np.float32), np.zeros((T, V), np.float32)
        for n in range(tiles):
            tile = slice(n * bk, n * bk + bk)
            with np.errstate(all="ignore"):
                got = answer(*state, s[:, tile], v[tile])
            if got is None:
                return verdict("the answer is None: it is still to be written")
            if not isinstance(got, (tuple, list)) or [np.shape(z) for z in got] != [(T,), (T,), (T, V)]:
                return verdict(f"the new state should be (m [{T}], l [{T}], a [{T},{V}]), as large as the old one, whatever was read")
            state = tuple(np.asarray(z) for z in got)
            m, l, a = state
            out, lse = _softmax(np.float64(s[:, :n * bk + bk]), v[:n * bk + bk])
            with np.errstate(all="ignore"):
                got_lse, got_out = np.where(l == 0, -np.inf, m + np.log(l)), a / np.where(l == 0, 1.0, l)[:, None]
            where = f"{what}: after tile {n + 1}, "
            if problem := difference(f"{where}a / l", got_out, out, 1e-3) or _log_sums(f"{where}m + log l", got_lse, lse):
                return verdict(problem)
    return verdict(None)


# ------------------------------------------------------------------------------------------- the whole of it, for masks that have dead tiles

T, S, BLOCK = 32, 40, 8
MASKS = {"causal()": causal(), "causal() & window(10)": causal() & window(10), "causal() & (window(6) | sinks(4))": causal() & (window(6) | sinks(4)),
         "causal() & ~sinks(4), under which the first queries see nothing": causal() & ~sinks(4)}


@jax.tree_util.register_static
class _Watched(Mask):
    """A mask that keeps how many pairs it was asked about at once."""

    def __init__(self, mask):
        self.mask, self.most = mask, 0

    def visible(self, q, k):
        self.most = max(self.most, int(np.prod(np.broadcast_shapes(np.shape(q), np.shape(k)))))
        return self.mask.visible(q, k)

    def tile(self, *bounds):
        return self.mask.tile(*bounds)


def _tiled(run, mask, name):
    """What is wrong with run(q, k, v), in words, or None. A tile that queries must not read is NaN where their rows are compared again."""
    rng = np.random.default_rng(2)
    q, k, v = (np.float32(rng.normal(size=shape)) for shape in ((T, 8), (S, 8), (S, 6)))
    want = np.asarray(attend(*(jnp.asarray(z)[None, :, None] for z in (q, k, v)), mask=mask))[0, :, 0]
    with np.errstate(all="ignore"):
        got = run(q, k, v)
        if got is not None and np.shape(got) == want.shape and np.isnan(np.asarray(got)).all():
            return f"{name}: the output is NaN everywhere (a kernel that writes nothing into `out` leaves it so)"
        if problem := difference(f"{name}, {T} queries, {S} keys, block {BLOCK}: the output", got, want, 1e-4):
            return problem
        for i in range(0, T, BLOCK):
            tiles = [mask.tile(i, i + BLOCK - 1, j, j + BLOCK - 1) for j in range(0, S, BLOCK)]
            dead = np.repeat([tile == "none" for tile in tiles], BLOCK)[:, None]
            again = run(q, *(np.where(dead, np.float32(np.nan), z) for z in (k, v)))
            if np.isnan(np.asarray(again)[i:i + BLOCK]).any():
                return f"{name}: queries {i} to {i + BLOCK - 1} have read a tile of keys that the mask calls \"none\" for them; it should be skipped"
    return None


def flash(answer) -> bool:
    """answer(q [T,K], k [S,K], v [S,V], mask, block) -> [T,V], in tiles of block x block; tiles that the mask calls "none" are not read."""
    for name, mask in MASKS.items():
        watched = _Watched(mask)
        if problem := _tiled(lambda q, k, v: answer(q, k, v, watched, BLOCK), mask, name):
            return verdict(problem)
        if watched.most >= T * S:
            return verdict(f"{name}: the mask was asked about {watched.most} pairs at once, which is the whole T x S matrix; ask it tile by tile")
    return verdict(None)


def kernel(answer) -> bool:
    """answer(q [T,K], k [S,K], v [S,V], mask, block) -> [T,V] through pl.pallas_call(..., interpret=True), else as `flash`."""
    for name, mask in MASKS.items():
        run = jax.jit(lambda q, k, v: answer(q, k, v, mask, BLOCK))
        traced = run.trace(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((T, 8), (S, 8), (S, 6)))).jaxpr
        if traced.out_avals and "pallas_call" not in str(traced):
            return verdict("the answer calls no Pallas kernel: pl.pallas_call is missing")
        if problem := _tiled(run, mask, name):
            return verdict(problem)
    return verdict(None)
