"""The TPU kernels, interpreted on any machine: values, log-sum-exp and every gradient are those of `attend`; which tiles it reads."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.kernels.flash_tpu import DEAD, FULL, PARTIAL, flash_attention, table
from lcref.kernels.softplus_tpu import softplus_attention
from lcref.ops.attention import attend, attention_scores
from lcref.ops.bias import alibi
from lcref.ops.masks import causal, everything, segments, sinks, window
from lcref.ops.tiles import live_tiles
from lcref.ops.weights import Lssa, Lssar, softmax
from tests.compiling import quick
from tests.tolerances import assert_close

T = 200
IDS = np.stack([np.repeat([1, 2, 3], [50, 90, 60]), np.repeat([1, 2, 0], [130, 40, 30])])          # the last 30 see nothing
MASKS = {"causal": causal(), "none": None, "window and sinks": causal() & (window(40) | sinks(3)), "documents": segments(IDS, IDS) & causal(),
         "window in documents": causal() & window(40) & segments(IDS, IDS), "nothing": ~everything(), "a hole": causal() & ~window(30)}


def normal(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def compare(mask, H=2, G=2, K=32, V=32, S=T, slopes=False, soft_cap=None, scale=None, dtype=jnp.float32, weights=softmax, **tiles):
    x = dict(q=normal(2, T, H, K, dtype=dtype), k=normal(2, S, G, K, seed=1, dtype=dtype), v=normal(2, S, G, V, seed=2, dtype=dtype),
             slopes=jnp.asarray(alibi.slopes(H)) if slopes else None)
    dy, dlse = normal(2, T, H, V, seed=3, dtype=dtype), normal(2, H, T, seed=4)

    def kernel(x):
        form = flash_attention if weights is softmax else partial(softplus_attention, weights=weights)
        return form(**x, mask=mask, soft_cap=soft_cap, scale=scale, **{"block_q": 128, "block_k": 128, **tiles}, interpret=True)

    def definition(x):
        x = dict(x)
        slopes = x.pop("slopes")
        kwargs = dict(mask=mask, soft_cap=soft_cap, scale=scale, weights=weights,
                      bias=None if slopes is None else lambda q, k: alibi.bias(q, k, slopes))
        return attend(**x, **kwargs), weights.lse(*attention_scores(x["q"], x["k"], **kwargs))

    def both(form):
        def run(x):
            (out, lse), back = jax.vjp(form, x)
            return out, lse, back((dy, jnp.where(jnp.isneginf(lse), 0.0, dlse)))[0]
        return quick(run)(x)
    assert_close(both(kernel), both(definition), str(jnp.dtype(dtype)))


@pytest.mark.parametrize("name", MASKS)
def test_masks(name):
    compare(MASKS[name], slopes=name in ("none", "window in documents"), soft_cap=3.0 if name in ("causal", "documents") else None)


@pytest.mark.parametrize("H, G, K, V, S", [(4, 2, 64, 64, T), (4, 1, 80, 48, 140), (2, 2, 128, 128, 300)], ids=str)
def test_heads_and_lengths(H, G, K, V, S):
    """Grouped queries, widths of heads, ragged tiles, more and fewer keys than queries."""
    compare(None if S != T else causal(), H, G, K, V, S, scale=0.1)


@pytest.mark.parametrize("name, change", [("window in documents", dict(slopes=True, soft_cap=3.0, strip=96)),
                                          ("causal", dict(H=4, S=300, strip=64, block_q=256, block_k=256))], ids=str)
def test_strips_of_a_tile(name, change):
    """The last strip of 96 in 128 queries has 32; the last keys of a tile of 256 are filled up."""
    compare(MASKS[name], **change)


@pytest.mark.parametrize("strip", [0, -16, 100])
def test_strips_that_are_none(strip):
    with pytest.raises(ValueError, match=f"strip={strip}: a positive multiple of 16"):
        flash_attention(*[normal(2, T, 1, 32)] * 3, strip=strip, interpret=True)


@pytest.mark.parametrize("weights, name, change", [
    (Lssa(), "causal", dict(soft_cap=3.0, H=4, G=2)), (Lssar(3), "documents", dict(slopes=True)), (Lssar(15), "window and sinks", dict(K=64, V=16)),
    (Lssar(2.5), "none", dict(S=140)), (Lssar(3), "nothing", dict())], ids=str)
def test_softplus_weights(weights, name, change):
    compare(MASKS[name], weights=weights, **change)


def test_bfloat16():
    compare(causal() & window(150), 4, 2, 64, 64, dtype=jnp.bfloat16, slopes=True)


def test_rows_that_see_nothing():
    out, lse = quick(lambda q: flash_attention(q, q, q, mask=segments(IDS, IDS), block_q=128, block_k=128, interpret=True))(normal(2, T, 1, 32))
    assert not out[1, 170:].any() and np.isneginf(lse[1, :, 170:]).all() and np.isfinite(lse[0]).all()


@pytest.mark.parametrize("mask, live", [(causal(), 136), (causal() & window(256), 45), (everything(), 256), (causal() & (window(256) | sinks(4)), 58)],
                         ids=["causal", "window", "everything", "window and sinks"])
def test_the_table_names_every_live_tile_once_and_nothing_else(mask, live):
    """2,048 tokens in tiles of 128, from the queries' side and from the keys'."""
    full, part = live_tiles(mask, np.arange(2048), np.arange(2048), 128, 128)
    (numbers, kinds), (i_numbers, i_kinds) = table(full, part, 16, 16)
    found = {(i, int(j)): kind for i in range(16) for j, kind in zip(numbers[i], kinds[i]) if kind != DEAD}
    assert len(found) == live == (kinds != DEAD).sum() and found == {**{(i, j): FULL for i in range(16) for j in full[i]},
                                                                     **{(i, j): PARTIAL for i in range(16) for j in part[i]}}
    assert found == {(int(i), j): kind for j in range(16) for i, kind in zip(i_numbers[j], i_kinds[j]) if kind != DEAD}
    for row, which in zip(numbers, kinds):
        assert (row[which == DEAD] == row[which != DEAD][-1]).all(), "a dead step fetches what is there already"


def test_documents_elsewhere_in_the_mask():
    with pytest.raises(ValueError, match="must be one factor of the mask"):
        flash_attention(*[normal(2, T, 1, 32)] * 3, mask=causal() | segments(IDS, IDS), interpret=True)
    with pytest.raises(ValueError, match="packed documents twice"):
        flash_attention(*[normal(2, T, 1, 32)] * 3, mask=segments(IDS, IDS) & segments(IDS, IDS), interpret=True)
