"""The GPU kernels, interpreted on any machine: values, log-sum-exp and every gradient are those of `attend`; which tiles they read."""
import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.kernels import flash_gpu
from lcref.kernels.flash_gpu import FULL, PARTIAL, Passes, Tiles, flash_attention, kinds, passes, runs, tables
from lcref.ops.attention import attend, attention_scores
from lcref.ops.bias import alibi
from lcref.ops.masks import causal, everything, segments, sinks, window
from lcref.ops.tiles import live_tiles
from lcref.ops.weights import softmax
from tests.compiling import quick
from tests.tolerances import assert_close

T = 200
IDS = np.stack([np.repeat([1, 2, 3], [50, 90, 60]), np.repeat([1, 2, 0], [130, 40, 30])])          # the last 30 see nothing
MASKS = {"causal": causal(), "none": None, "window and sinks": causal() & (window(40) | sinks(3)), "documents": segments(IDS, IDS) & causal(),
         "window in documents": causal() & window(40) & segments(IDS, IDS), "nothing": ~everything(), "a hole": causal() & ~window(30)}
SMALL = Passes(Tiles(64, 32, 4, 2), Tiles(32, 64, 4, 2), Tiles(64, 64, 4, 2))      # each of its own shape


def normal(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def compare(mask, H=2, G=2, K=32, V=32, S=T, slopes=False, soft_cap=None, scale=None, dtype=jnp.float32, tiles=SMALL, ids=None):
    x = dict(q=normal(2, T, H, K, dtype=dtype), k=normal(2, S, G, K, seed=1, dtype=dtype), v=normal(2, S, G, V, seed=2, dtype=dtype),
             slopes=jnp.asarray(alibi.slopes(H)) if slopes else None)
    dy, dlse = normal(2, T, H, V, seed=3, dtype=dtype), normal(2, H, T, seed=4)

    def kernel(x, ids):
        packed = mask if ids is None else mask & segments(ids, ids)
        return flash_attention(**x, mask=packed, soft_cap=soft_cap, scale=scale, tiles=tiles, interpret=True)

    def definition(x, ids):
        x = dict(x)
        slopes = x.pop("slopes")
        kwargs = dict(mask=mask if ids is None else mask & segments(ids, ids), soft_cap=soft_cap, scale=scale,
                      bias=None if slopes is None else lambda q, k: alibi.bias(q, k, slopes))
        return attend(**x, **kwargs), softmax.lse(*attention_scores(x["q"], x["k"], **kwargs))

    def both(form):
        def run(x, ids):
            (out, lse), back = jax.vjp(lambda x: form(x, ids), x)
            return out, lse, back((dy, jnp.where(jnp.isneginf(lse), 0.0, dlse)))[0]
        return quick(run)(x, ids)
    assert_close(both(kernel), both(definition), str(jnp.dtype(dtype)))


@pytest.mark.parametrize("name", MASKS)
def test_masks(name):
    compare(MASKS[name], slopes=name in ("none", "window in documents"), soft_cap=3.0 if name in ("causal", "documents") else None)


@pytest.mark.parametrize("H, G, K, V, S", [(4, 2, 64, 64, T), (4, 1, 80, 48, 140), (2, 2, 128, 128, 300), (1, 1, 8, 8, 1)], ids=str)
def test_heads_and_lengths(H, G, K, V, S):
    """Grouped queries, widths of heads that are no power of two or below a product's least, ragged tiles, more and fewer keys than queries."""
    compare(None if S != T else causal(), H, G, K, V, S, scale=0.1)


def test_bfloat16():
    compare(causal() & window(150), 4, 2, 64, 64, dtype=jnp.bfloat16, slopes=True, tiles=None)


def test_several_at_once():
    """Under vmap, as seeds are trained together: values and gradients are those of one after the other."""
    q, k, v = (normal(3, 2, 70, 2, 32, seed=n) for n in range(3))
    loss = lambda q, k, v: (flash_attention(q, k, v, mask=causal(), tiles=SMALL, interpret=True)[0] ** 2).sum()
    run = jax.value_and_grad(loss, (0, 1, 2))
    assert_close(quick(jax.vmap(run))(q, k, v), jax.tree.map(lambda *x: jnp.stack(x), *[quick(run)(*x) for x in zip(q, k, v)]))


def test_documents_known_only_at_run_time():
    compare(causal(), 4, 2, slopes=True, tiles=None, ids=jnp.asarray(IDS))


@pytest.mark.parametrize("mask, live, most", [(causal(), 136, 1), (causal() & window(256), 45, 2), (everything(), 256, 1),
                                              (causal() & (window(256) | sinks(4)), 58, 3)], ids=["causal", "window", "everything", "window and sinks"])
def test_the_tables_name_every_live_tile_once_and_nothing_else(mask, live, most):
    """2,048 tokens in tiles of 128, from the queries' side and from the keys'; a 17th tile of queries is filling, and visits none."""
    cut = Tiles(128, 128, 4, 1)
    by_query, again, by_key = tables(mask, 2048, 2048 + 128, 2048, Passes(cut, cut, cut))
    assert len(by_query[0]) == len(by_query[1]) == 17 and len(by_key[0]) == 16
    assert max(table.shape[1] for table in by_query) == most
    named = lambda table: [(i, j) for i, row in enumerate(table) for start, stop in row for j in range(start, stop)]
    for (full, part), flip in ((by_query, False), (again, False), (by_key, True)):
        full, part = ([pair[::-1] if flip else pair for pair in named(table)] for table in (full, part))
        assert len(full + part) == len({*full, *part}) == live
        bounds = lambda n: (128 * n, 128 * n + 127)
        assert all(mask.tile(*bounds(i), *bounds(j)) == "all" for i, j in full) and all(mask.tile(*bounds(i), *bounds(j)) == "some" for i, j in part)


def test_runs():
    live = np.array([[1, 1, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]], bool)
    np.testing.assert_array_equal(runs(live), [[[0, 3], [5, 6]], [[0, 0], [0, 0]], [[3, 4], [0, 0]]])


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("S, bq, bk", [(T, 16, 16), (T, 64, 32), (137, 16, 64), (17, 128, 16)])
def test_asking_by_quarters_is_asking_about_every_tile(name, S, bq, bk):
    full, part = live_tiles(MASKS[name], np.arange(T), np.arange(S), bq, bk)
    found = kinds(MASKS[name], T, S, bq, bk)
    assert found.shape == (len(full), -(-S // bk))
    for row, all_seen, some_seen in zip(found, full, part):
        np.testing.assert_array_equal(np.flatnonzero(row == FULL), all_seen)
        np.testing.assert_array_equal(np.flatnonzero(row == PARTIAL), some_seen)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("K", [16, 64, 128, 256])
def test_tiles_are_what_the_backend_takes(dtype, K):
    """Powers of two, products of 16 at least, and a tile of each operand beside the stages' within an H100's 227 KiB."""
    for tiles in passes(dtype, K):
        assert all(n >= 16 and n & (n - 1) == 0 for n in tiles[:2]) and tiles.warps in (4, 8)
    size = jnp.dtype(dtype).itemsize
    for own, looped, tiles in zip("qqk", "kkq", passes(dtype, K)):
        assert 2 * K * size * (getattr(tiles, own) + tiles.stages * getattr(tiles, looped)) <= 227 * 1024


def an_h100():
    """Since jax 0.11 the backend asks which GPU it lowers for; where there is none it is told."""
    if jax.__version_info__ < (0, 11):
        return contextlib.nullcontext()
    mesh = jax.sharding.AbstractMesh((), (), abstract_device=jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", None, "gpu"))
    return jax.sharding.use_abstract_mesh(mesh)


@pytest.mark.parametrize("dtype, K, change", [
    (jnp.bfloat16, 64, dict()), (jnp.float32, 80, dict(slopes=True, ids=True, soft_cap=3.0)), (jnp.float16, 128, dict(T=1)),
    (jnp.bfloat16, 32, dict(mask=causal() & (window(300) | sinks(4)), T=1999))], ids=["plain", "everything at once", "one token", "ragged"])
def test_lowers_for_cuda(dtype, K, change):
    """To the backend's own representation, forward and both backward kernels, on a machine without a GPU."""
    mask, T = change.get("mask", causal()), change.get("T", 2048)
    shape = lambda *shape, dtype=dtype: jax.ShapeDtypeStruct(shape, dtype)

    def loss(q, k, v, slopes, ids):
        packed = mask if ids is None else mask & segments(ids, ids)
        return sum(x.astype(jnp.float32).sum() for x in flash_attention(q, k, v, mask=packed, slopes=slopes, soft_cap=change.get("soft_cap")))
    args = (shape(1, T, 4, K), shape(1, T, 2, K), shape(1, T, 2, K), shape(4, dtype=jnp.float32) if "slopes" in change else None,
            shape(1, T, dtype=jnp.int32) if "ids" in change else None)
    with an_h100():
        text = jax.jit(jax.grad(loss, (0, 1, 2))).trace(*args).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count('"__gpu$xla.gpu.triton"') + text.count("@__gpu$xla.gpu.triton") == 3


def test_what_it_refuses():
    x = [normal(2, T, 1, 32)] * 3
    with pytest.raises(ValueError, match="must be one factor of the mask"):
        flash_attention(*x, mask=causal() | segments(IDS, IDS), interpret=True)
    with pytest.raises(ValueError, match="at most 256 wide in this kernel, not 300"):
        flash_attention(*x[:2], normal(2, T, 1, 300), interpret=True)
    assert flash_gpu.why_not(x[0], v=x[2], mask=causal()) is None
