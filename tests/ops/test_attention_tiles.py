"""What tiling is for: linear memory, hidden tiles never visited, halves that merge; and that tiles show nowhere else."""
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops.attention import attend, attend_chunked, attend_chunked_lse, attention_scores
from lcref.ops.bias import alibi
from lcref.ops.masks import causal, everything, segments, sinks, window
from lcref.ops.tiles import live_tiles, placed, sizes
from lcref.ops.weights import LogN, Lssar, Tempered, softmax
from tests.compiling import quick
from tests.tolerances import assert_close

B, H, G, K, V = 2, 4, 2, 8, 6


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def inputs(T, S):
    return dict(q=normal(B, T, H, K, seed=1), k=normal(B, S, G, K, seed=2), v=normal(B, S, G, V, seed=3))


# ---------------------------------------------------------------------------------------------------- memory

def temporary_bytes(attend, T, grad):
    """What the compiled program needs beside its arguments and results."""
    x = dict(q=(1, T, 4, 16), k=(1, T, 2, 16), v=(1, T, 2, 16), slopes=(4,), tau=())
    x = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in x.items()}

    def f(x):
        bias = lambda q_pos, k_pos: alibi.bias(q_pos, k_pos, x["slopes"])
        return attend(x["q"], x["k"], x["v"], mask=causal(), bias=bias, weights=Tempered(x["tau"])).sum()
    return jax.jit(jax.grad(f) if grad else f).lower(x).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("grad", [False, True], ids=["forward", "gradient"])
def test_memory_grows_linearly(grad):
    """Four times the length: at most five times the memory, and far below one T x S matrix; `attend` is the control that needs 16 times."""
    chunked = partial(attend_chunked, block_q=128, block_k=128)
    short, long = (temporary_bytes(chunked, T, grad) for T in (1024, 4096))
    assert 0 < long < 5 * short and long < 4096 * 4096 * 4 / 2
    if not grad:
        assert temporary_bytes(attend, 4096, grad) > 12 * temporary_bytes(attend, 1024, grad)


# ---------------------------------------------------------------------------------------------------- skipping

@pytest.mark.parametrize("mask, live", [(causal(), 136), (causal() & window(256), 45), (everything(), 256)], ids=["causal", "window", "everything"])
def test_hidden_tiles_are_not_visited(mask, live):
    """2048 tokens in 16 x 16 tiles. The bias is asked once per tile that is computed, and counts."""
    visits = []

    def count(q_first, k_first):
        visits.append((int(q_first) // 128, int(k_first) // 128))
        return np.zeros((1, 1, 1), np.float32)

    def bias(q_pos, k_pos):
        return jax.pure_callback(count, jax.ShapeDtypeStruct((1, 1, 1), jnp.float32), q_pos[0], k_pos[0], vmap_method="sequential")
    q = jnp.zeros((1, 2048, 1, 4))
    jax.block_until_ready(quick(lambda q: attend_chunked(q, q, q, mask=mask, bias=bias, block_q=128, block_k=128))(q))
    tiles = [(i, j) for i, j in product(range(16), repeat=2) if mask.tile(128 * i, 128 * i + 127, 128 * j, 128 * j + 127) != "none"]
    assert sorted(set(visits)) == tiles and len(tiles) == live
    assert len(visits) <= live + 2                         # XLA may take a callback out of a loop that runs no time at all


IDS = np.repeat([1, 2, 3], 100)
MASKS = {"causal": causal(), "window": causal() & window(50), "sinks": causal() & (sinks(3) | window(20)), "both ways": window(30), "none": None,
         "documents": causal() & segments(IDS, IDS), "holes": causal() & (sinks(70) & ~sinks(40) | window(5)), "nothing": ~everything()}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("shape", [(32, 32), (32, 96), (64, 16), (48, 112), (304, 300)], ids=str)
def test_tiles_hold_what_is_seen_once(name, shape):
    """Every visible pair lies in one tile, and in tiles without an element mask nothing is hidden, nor beyond the keys."""
    mask, (bq, bk), T = MASKS[name], shape, 300
    grain, slots = bk if bk % bq else bq, np.arange(300)
    seen = np.ones((T, T), bool) if mask is None else np.asarray(mask(slots, slots))
    full, part = placed(mask, slots, slots, bq, bk, grain)
    inside = np.zeros((T, 3 * T), int)
    for i, (whole, some) in enumerate(zip(full, part)):
        for j in whole + some:
            inside[i * bq:(i + 1) * bq, j * grain:j * grain + bk] += 1
        for j in whole:
            assert j * grain + bk <= T and seen[i * bq:(i + 1) * bq, j * grain:j * grain + bk].all()
    assert (inside <= 1).all() and (inside[:, :T] >= seen).all()


@pytest.mark.parametrize("name", MASKS)
def test_squares_of_tiles_are_asked_for_their_tiles(name):
    """The control asks about each tile. Uneven numbers of tiles, and keys that end inside one."""
    mask, q_slots, k_slots = MASKS[name], np.arange(100, 300), np.arange(290)

    def each(i, j):
        answer = "all" if mask is None else mask.tile(100 + i, min(100 + i + 15, 299), j, min(j + 23, 289))
        return "some" if answer == "all" and j + 24 > 290 else answer
    answers = [[each(i, j) for j in range(0, 290, 24)] for i in range(0, 200, 16)]
    want = [tuple(tuple(j for j, answer in enumerate(row) if answer == kind) for row in answers) for kind in ("all", "some")]
    assert list(live_tiles(mask, q_slots, k_slots, 16, 24)) == want


def test_few_questions_are_asked():
    """A million tokens, of which each sees 512: four million tiles, thousands of questions."""
    asked = []

    class Counting(type(window(1))):
        def tile(self, *bounds):
            asked.append(bounds)
            return (causal() & window(512)).tile(*bounds)
    slots = np.arange(2**20)
    full, part = live_tiles(Counting(512), slots, slots, 512, 512)
    assert sum(map(len, full + part)) == 2 * 2048 - 1 and len(asked) < 10 * 2048


def test_narrow_masks_get_wide_tiles():
    at = lambda mask, n: sizes(mask, np.arange(n), np.arange(n))
    assert at(causal(), 4096) == at(causal(), 32000) == at(None, 4096) == at(causal() & window(1024), 4096) == (512, 512)
    assert at(causal() & window(512), 4096) == (256, 768) and at(causal() & window(256), 4096) == at(causal() & window(100), 4096) == (256, 512)
    assert at(causal() & window(100), 1024) == (128, 128)
    assert sizes(None, np.arange(1), np.arange(4096)) == sizes(None, jnp.arange(40), jnp.arange(4096)) == (512, 512)        # a stream


@pytest.mark.parametrize("weights", [LogN(9.0), Lssar(power=3)], ids=str)
def test_a_window_in_one_tile_a_row(weights):
    """Values, log-sum-exp and gradients where a tile of keys is three of queries wide, under a window that one such tile holds; grouped queries,
    a bias, keys that end inside a tile, and a row that sees none."""
    x = dict(inputs(100, 90), bias=normal(H, 100, 90, seed=4))
    mask, one = causal() & window(20) & ~sinks(1), dict(block_q=16, block_k=48)
    assert all(len(whole) + len(some) == 1 for whole, some in zip(*placed(mask, np.arange(96), np.arange(90), 16, 48, 16)))

    def both(attend, x):
        out, back = jax.vjp(lambda x: attend(**x, mask=mask, weights=weights), x)
        grads, = back((normal(*out[0].shape, seed=5), normal(*out[1].shape, seed=6)))
        return out, grads
    want, got = quick(lambda x: (both(lse_dense, x), both(partial(attend_chunked_lse, **one), x)))(x)
    assert_close(got, want)


def test_a_mask_may_hide_every_tile():
    def both(x):
        out, back = jax.vjp(lambda x: attend_chunked_lse(**x, mask=~everything(), block_q=16, block_k=16), x)
        return out, back((normal(*out[0].shape, seed=4), jnp.zeros_like(out[1])))
    (out, lse), grads = quick(both)(inputs(40, 40))
    assert np.isneginf(lse).all() and not any(np.asarray(x).any() for x in jax.tree.leaves((out, grads)))


def test_what_lies_in_hidden_tiles_cannot_leak():
    """Keys and values no query sees are NaN (0 * NaN would show): not in values, not in gradients. `attend` is the control."""
    x = inputs(64, 192)
    mask = causal() & window(32)
    unseen = ((np.arange(192) < 64) | (np.arange(192) >= 160))[:, None, None]
    x = dict(x, **{name: np.where(unseen, np.float32(np.nan), x[name]) for name in "kv"})

    def grads(attend):
        return jax.value_and_grad(lambda x: attend(**x, mask=mask, q_pos=np.arange(96, 160), weights=LogN(9.0)).sum())
    out, g = quick(grads(partial(attend_chunked, block_q=32, block_k=32)))(x)
    assert np.isfinite(out) and all(np.isfinite(a).all() for a in jax.tree.leaves(g))
    assert not np.asarray(g["k"])[:, :64].any() and np.asarray(g["k"])[:, 70:160].any()
    assert np.isnan(quick(grads(attend))(x)[0])


# ---------------------------------------------------------------------------------------------------- log-sum-exp

def lse_dense(q, k, v, *, weights=softmax, **kwargs):
    return attend(q, k, v, weights=weights, **kwargs), weights.lse(*attention_scores(q, k, weights=weights, **kwargs))


def test_lse_and_its_gradient():
    """Under a cotangent of both results; the first two rows see nothing: -inf, and no gradient."""
    x = dict(inputs(40, 40), slopes=jnp.asarray(alibi.slopes(H)), tau=jnp.float32(0.3))

    def both(attend, x):
        out, back = jax.vjp(lambda x: attend(x["q"], x["k"], x["v"], mask=causal() & ~sinks(2), bias=lambda q, k: alibi.bias(q, k, x["slopes"]),
                                             soft_cap=3.0, weights=Tempered(x["tau"])), x)
        grads, = back((normal(*out[0].shape, seed=4), normal(*out[1].shape, seed=5)))
        return out, dict(grads, tau=grads["tau"] / 40, slopes=grads["slopes"] / 40)           # sums over rows: one row's size
    want, got = quick(lambda x: (both(lse_dense, x), both(partial(attend_chunked_lse, block_q=16, block_k=16), x)))(x)
    assert got[0][1].shape == (B, H, 40) and got[0][1].dtype == jnp.float32
    np.testing.assert_array_equal(np.isneginf(got[0][1]).all((0, 1)), np.arange(40) < 2)
    assert_close(got, want)


def test_two_halves_of_the_keys_merge_to_the_whole():
    """out = sum_i softmax_i(lse_i) out_i, values and gradients: what a ring of devices does. Some rows see only one half, or neither."""
    x = inputs(40, 80)
    mask = causal() & ~sinks(1)
    slots = dict(q_pos=np.r_[0, 21:60])

    def part(x, lo, hi):
        return attend_chunked_lse(x["q"], x["k"][:, lo:hi], x["v"][:, lo:hi], mask=mask, k_pos=np.arange(lo, hi), block_q=16, block_k=16, **slots)

    def merged(x):
        (a, lse_a), (b, lse_b) = part(x, 0, 40), part(x, 40, 80)
        top = jax.lax.stop_gradient(jnp.maximum(jnp.maximum(lse_a, lse_b), -1e30))
        wa, wb = (jnp.exp(lse - top).swapaxes(1, 2)[..., None] for lse in (lse_a, lse_b))
        return (wa * a + wb * b) / jnp.maximum(wa + wb, 1e-30)

    def whole(x):
        return attend(**x, mask=mask, **slots)

    def both(x):
        return [(out, back(normal(*out.shape, seed=6))) for out, back in (jax.vjp(f, x) for f in (merged, whole))]
    got, want = quick(both)(x)
    assert not np.asarray(want[0])[:, 0].any() and np.asarray(want[0])[:, 1:].all()
    assert_close(got, want)


# ---------------------------------------------------------------------------------------------------- slots and blocks

@pytest.mark.parametrize("known", [True, False], ids=["numpy", "traced"])
def test_slots_of_queries_and_keys(known):
    """A later chunk of a sequence; keys in any order; rows of the batch at different places."""
    x, order = inputs(24, 60), np.random.default_rng(0).permutation(60)
    slots = [(np.arange(36, 60), order), (np.stack([np.arange(24), np.arange(30, 54)]), np.stack([order, np.arange(60)]))]

    def call(attend, q_pos, k_pos, **blocks):
        return attend(**x, mask=causal() & (window(12) | sinks(2)), weights=LogN(9.0), scale=0.6, q_pos=q_pos, k_pos=k_pos,
                      bias=lambda q, k: alibi.bias(q, k, alibi.slopes(H)), **blocks)

    padded = np.concatenate([normal(B, 36, H, K, seed=7), x["q"]], 1)

    def all_ways(slots):
        whole = call(lambda q, **kwargs: attend(jnp.asarray(padded), **kwargs), np.arange(60), slots[0][1])
        return [call(attend_chunked, *s, block_q=16, block_k=16) for s in slots], [call(attend, *s) for s in slots], whole[:, 36:]
    got, want, tail = quick(all_ways)(slots) if not known else quick(lambda: all_ways(slots))()
    assert_close(got, want)
    assert_close(tail, want[0])                            # a chunk is a slice of the whole


def test_any_block_size_gives_the_same():
    x = inputs(40, 30)
    kwargs = dict(mask=causal() & segments(np.repeat([1, 2], 20), np.repeat([1, 2], [20, 10])), bias=normal(H, 40, 30, seed=4), weights=LogN(9.0))
    shapes = [(20, 1), (7, 13), (40, 30), (1000, 16), (10, 30), (8, 16), (512, 512), (1, 30)]
    want, got = quick(lambda x: (attend(**x, **kwargs), [attend_chunked(**x, **kwargs, block_q=q, block_k=k) for q, k in shapes]))(x)
    assert_close(got, [want] * len(shapes))


def test_bias_arrays_of_every_broadcast_shape():
    x = inputs(20, 24)
    shapes = [(B, 1, 20, 24), (H, 1, 24), (H, 20, 1), (20, 24), (1, 1, 1, 1)]

    def both(biases):
        def total(f, biases):
            return sum(f(**x, mask=causal(), bias=b).sum((0, 1, 2)) @ normal(V, seed=i) for i, b in enumerate(biases))
        return [jax.value_and_grad(partial(total, f))(biases) for f in (attend, partial(attend_chunked, block_q=8, block_k=16))]
    assert_close(*quick(both)([normal(*s, seed=4) for s in shapes]))
