"""Attention: `attend` against numpy in float64, then `attend_chunked` against `attend`, values and every gradient."""
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops.attention import attend, attend_chunked, attention_weights
from lcref.ops.bias import alibi, hard_alibi, t5
from lcref.ops.masks import causal, everything, prefix, segments, sinks, window
from lcref.ops.weights import LogN, Tempered, softmax
from tests.compiling import compilations, quick
from tests.tolerances import assert_close

B, H, K, V = 2, 4, 8, 6


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def normal(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def inputs(T, S, G=H, dtype=jnp.float32):
    return dict(q=normal(B, T, H, K, seed=1, dtype=dtype), k=normal(B, S, G, K, seed=2, dtype=dtype), v=normal(B, S, G, V, seed=3, dtype=dtype))


# ---------------------------------------------------------------------------------------------------- the definition

def attend_numpy(q, k, v, seen, bias=0.0, scale=None, soft_cap=None, factor=1.0):
    """One number at a time, float64. seen, bias and factor broadcast to [B,H,T,S]."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    (B, T, H, K), (S, G) = q.shape, k.shape[1:3]
    seen, bias, factor = (np.broadcast_to(np.asarray(x), (B, H, T, S)) for x in (seen, bias, factor))
    out = np.zeros((B, T, H, v.shape[-1]))
    for b, t, h in product(range(B), range(T), range(H)):
        keys = [s for s in range(S) if seen[b, h, t, s] and bias[b, h, t, s] != -np.inf]
        g = h // (H // G)
        s = np.array([q[b, t, h] @ k[b, s, g] for s in keys]) * (K**-0.5 if scale is None else scale)
        s = s if soft_cap is None else soft_cap * np.tanh(s / soft_cap)
        e = np.exp((s + np.array([bias[b, h, t, s] for s in keys])) * np.array([factor[b, h, t, s] for s in keys]))
        out[b, t, h] = sum((w * v[b, s, g] for w, s in zip(e / e.sum(), keys)), np.zeros(v.shape[-1]))
    return out


@pytest.mark.parametrize("G", [1, 2, 4])
def test_definition(G):
    T, S = 5, 7
    x, bias, seen, n = inputs(T, S, G), normal(B, H, T, S, seed=4), np.tril(np.ones((T, S), bool)), np.arange(1, T + 1)[:, None]
    cases = [
        (dict(), dict(seen=True)),
        (dict(mask=causal(), bias=bias, scale=0.7, soft_cap=2.0), dict(seen=seen, bias=bias, scale=0.7, soft_cap=2.0)),
        (dict(mask=causal(), weights=LogN(3.0)), dict(seen=seen, factor=np.log(n) / np.log(3))),
        (dict(mask=causal(), weights=Tempered(0.5), bias=bias), dict(seen=seen, bias=bias, factor=1 + 0.5 * np.log(n))),
    ]
    outs = quick(lambda x: [attend(**x, **kwargs) for kwargs, _ in cases])(x)
    assert_close(outs, [attend_numpy(**x, **kwargs) for _, kwargs in cases])


@pytest.mark.parametrize("attend", [attend, partial(attend_chunked, block_q=1, block_k=2)])
def test_golden_row(attend):
    """Scores ln 1, ln 2, ln 4, ln 8 weigh the values 1, 2, 3, 4 with 1, 2, 4, 8 of 15: by hand."""
    x = dict(q=jnp.ones((1, 1, 1, 1)), k=jnp.log(jnp.asarray([1.0, 2.0, 4.0, 8.0])).reshape(1, 4, 1, 1), v=jnp.arange(1.0, 5.0).reshape(1, 4, 1, 1))
    out, grads = quick(jax.value_and_grad(lambda x: attend(**x, scale=1.0).sum()))(x)
    assert out == pytest.approx(49 / 15, rel=1e-6)
    np.testing.assert_allclose(grads["v"].ravel(), np.array([1, 2, 4, 8]) / 15, rtol=1e-6)
    np.testing.assert_allclose(grads["k"].ravel(), [-0.151111, -0.168889, -0.071111, 0.391111], atol=1e-6)


def test_attention_weights_are_what_attend_uses():
    x, kwargs = inputs(6, 6, 2), dict(mask=causal(), weights=LogN(4.0))
    w, out = quick(lambda x: (attention_weights(x["q"], x["k"], **kwargs), attend(**x, **kwargs)))(x)
    assert w.shape == (B, H, 6, 6) and w.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(w).sum(-1), 1.0, rtol=1e-6)
    assert not np.triu(np.asarray(w), 1).any()
    assert_close(out, np.einsum("bhts,bshv->bthv", w, np.repeat(x["v"], 2, 2)))


# ---------------------------------------------------------------------------------------------------- chunked = dense

def ids(length, seed):
    """Three documents, then padding: [length], non-decreasing up to the padding."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, length + 1, 3))
    return np.where(np.arange(length) >= max(1, length - length // 8), 0, 1 + np.searchsorted(cuts, np.arange(length), side="right"))


MASKS = {
    "none": lambda T, S: None,
    "causal": lambda T, S: causal(),
    "sliding": lambda T, S: causal() & window(20),
    "lambda": lambda T, S: causal() & (window(9) | sinks(2)),
    "prefix": lambda T, S: prefix(16) | causal(),
    "future": lambda T, S: ~causal(),                                                        # the last row may be hidden
    "late": lambda T, S: causal() & ~sinks(3),                                               # the first three rows are
    "documents": lambda T, S: causal() & segments(ids(T, 0), ids(S, 0)),
    "rows": lambda T, S: everything() & segments(np.stack([ids(T, 1), ids(T, 2)]), np.stack([ids(S, 1), ids(S, 2)])),
}


# name -> (parameters with gradients, function from them to what `bias` takes)
def array(*axes, hidden=False):
    def make(T, S):
        sizes = dict(B=B, H=H, T=T, S=S)
        gone = jnp.isneginf(hard_alibi.bias(np.arange(T), np.arange(S), (1, 3, 20, 0)))
        return normal(*(sizes.get(a, 1) for a in axes), seed=5), (lambda p: jnp.where(gone, -jnp.inf, p)) if hidden else lambda p: p
    return make


def function(parameters, f):
    """f(q_pos, k_pos, parameters) as a bias function."""
    return lambda T, S: (jnp.asarray(parameters), lambda p: lambda q_pos, k_pos: f(q_pos, k_pos, p))


def in_document(T, S):
    """ALiBi of positions that are looked up, [B,T] and [B,S]: what packed or randomised positions do."""
    places = np.sort(np.random.default_rng(6).integers(0, 300, (B, max(T, S))))
    def make(p):
        table = jnp.asarray(places) + jnp.int32(0) * p[0].astype(jnp.int32)                  # traced where the parameters are
        return lambda q_pos, k_pos: alibi.bias(table[:, q_pos], table[:, k_pos], p)
    return jnp.asarray(alibi.slopes(H)), make


BIASES = {
    "none": lambda T, S: (jnp.zeros(()), lambda p: None),
    "per pair": array("B", "H", "T", "S"),
    "per head": array("H", "T", "S"),
    "per key": array("B", 1, 1, "S"),
    "-inf array": array(1, "H", "T", "S", hidden=True),
    "alibi": function(alibi.slopes(H), alibi.bias),
    "t5": function(normal(32, H, seed=7), t5.bias),
    "hard alibi": function(np.ones(H, np.float32), lambda q, k, p: hard_alibi.bias(q, k, (1, 3, 20, 0)) + p.reshape(H, 1, 1)),
    "in document": in_document,
}
WEIGHTS = {"softmax": lambda tau: softmax, "log_n": lambda tau: LogN(16.0), "tempered": lambda tau: Tempered(tau)}
SHAPES = [(65, 65), (1, 1), (200, 200), (63, 63), (2, 2), (40, 100), (64, 64), (100, 40), (1, 70)]
BLOCKS = [(32, 16), (64, 64), (24, 40), (512, 512)]

# A covering set and not the product: every mask and every bias meets every weights, every shape meets every weights.
CASES = [dict(mask=list(MASKS)[m], bias=list(BIASES)[(m + 3 * w) % 9], weights=weights, shape=SHAPES[(2 * m + w) % 9], G=(1, 2, 4)[(m + w) % 3],
              soft_cap=(None, 2.0)[(m + w) % 2], blocks=BLOCKS[(m + w) % 4]) for w, weights in enumerate(WEIGHTS) for m in range(9)]


def test_cases_cover_the_tables():
    for axis, names in (("mask", MASKS), ("bias", BIASES), ("shape", SHAPES)):
        assert {(c[axis], c["weights"]) for c in CASES} == set(product(names, WEIGHTS))
    assert {(c["G"], c["soft_cap"]) for c in CASES} == set(product((1, 2, 4), (None, 2.0))) and {c["blocks"] for c in CASES} == set(BLOCKS)


def problem(mask, bias, weights, shape, G, soft_cap=None, blocks=(512, 512), dtype=jnp.float32):
    """(parameters, dense, chunked): functions from the parameters to the output."""
    bias_parameters, make_bias = BIASES[bias](*shape)
    parameters = dict(inputs(*shape, G, dtype), bias=bias_parameters, tau=jnp.float32(0.3))

    def call(attend, p, **kwargs):
        return attend(p["q"], p["k"], p["v"], mask=MASKS[mask](*shape), bias=make_bias(p["bias"]), weights=WEIGHTS[weights](p["tau"]),
                      soft_cap=soft_cap, **kwargs)
    return parameters, partial(call, attend), partial(call, attend_chunked, block_q=blocks[0], block_k=blocks[1])


def with_grads(f, p):
    """(output, gradients of all parameters) under a random cotangent. tau's is a sum over all rows: divided by T to be one row's size."""
    out, back = jax.vjp(f, p)
    grads, = back(normal(*out.shape, seed=8, dtype=out.dtype))
    return out, dict(grads, tau=grads["tau"] / out.shape[1]) if "tau" in grads else grads


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['mask']}-{c['bias']}-{c['weights']}-{c['shape'][0]}x{c['shape'][1]}")
def test_chunked_equals_dense(case):
    p, dense, chunked = problem(**case)
    (want, want_grads), (got, got_grads) = quick(lambda p: (with_grads(dense, p), with_grads(chunked, p)))(p)
    assert_close(got, want)
    assert_close(got_grads, want_grads)


@pytest.mark.parametrize("case", [CASES[13], CASES[26]], ids=lambda c: f"{c['bias']}-{c['weights']}")
def test_hidden_rows_give_zeros(case):
    """Output 0 and gradient 0, exactly, and nowhere a NaN."""
    p, dense, chunked = problem(**dict(case, shape=(40, 24), mask="rows", blocks=(16, 16)))
    seen = np.asarray(MASKS["rows"](40, 24)(np.arange(40), np.arange(24)))
    rows, keys = ~seen.any(-1), ~seen.any(1)
    assert rows.any() and not rows.all() and keys.any()
    for out, grads in quick(lambda p: (with_grads(dense, p), with_grads(chunked, p)))(p):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves((out, grads)))
        assert not np.asarray(out)[rows].any() and not np.asarray(grads["q"])[rows].any()
        assert not np.asarray(grads["k"])[keys].any() and not np.asarray(grads["v"])[keys].any()


def test_rows_hidden_by_the_bias_give_zeros():
    """No mask at all: -inf for every key of one row, and of another row for one head only."""
    x = dict(inputs(20, 20), bias=np.array(normal(B, H, 20, 20)))
    x["bias"][:, :, 3] = x["bias"][:, 1, 5] = -np.inf
    forms = (attend, partial(attend_chunked, block_q=8, block_k=8))
    for out, grads in quick(lambda x: [with_grads(lambda x: f(**x, weights=LogN(8.0)), x) for f in forms])(x):
        assert all(np.isfinite(g).all() for g in jax.tree.leaves((out, grads)))
        out, grads = jax.tree.map(np.asarray, (out, grads))
        assert not out[:, 3].any() and not out[:, 5, 1].any() and out[:, 5, 0].all()
        assert not grads["q"][:, 3].any() and not grads["bias"][:, 1, 5].any() and grads["bias"][:, 0, 5].any()


@pytest.mark.parametrize("case", [
    dict(mask="causal", bias="alibi", weights="log_n", shape=(65, 65), G=2, blocks=(16, 32)),
    dict(mask="rows", bias="per head", weights="tempered", shape=(40, 100), G=1, soft_cap=2.0, blocks=(64, 128)),
], ids=lambda c: c["mask"])
def test_chunked_equals_dense_in_bfloat16(case):
    dtypes = partial(jax.tree.map, lambda x: x.dtype)
    p, dense, chunked = problem(**case, dtype=jnp.bfloat16)
    exact = problem(**case)[1]
    high = jax.tree.map(lambda x: x.astype(jnp.float32), p)
    results = quick(lambda p, high: (with_grads(dense, p), with_grads(chunked, p), exact(high)))(p, high)
    (want, want_grads), (got, got_grads), exact = results
    assert want.dtype == got.dtype == jnp.bfloat16 and dtypes(got_grads) == dtypes(p)
    assert_close(got, want, "bfloat16")
    assert_close(got_grads, want_grads, "bfloat16")
    assert_close(want, exact, "bfloat16")                  # scores, weights and sums are float32 inside


@pytest.mark.parametrize("dtypes", [(jnp.bfloat16, jnp.float32), (jnp.float32, jnp.bfloat16)], ids=["bfloat16 queries", "bfloat16 cache"])
def test_output_dtype_follows_the_queries(dtypes):
    """Queries of one type over a cache of another."""
    low, high = (inputs(9, 9, dtype=d) for d in dtypes)
    x = dict(low, k=high["k"], v=high["v"])
    with jax.numpy_dtype_promotion("standard"):
        (want, want_grads), (got, got_grads) = quick(lambda x: [with_grads(lambda x: f(**x, mask=causal()), x) for f in (attend, attend_chunked)])(x)
    assert want.dtype == got.dtype == dtypes[0]
    assert_close(got, want, "bfloat16")
    assert_close(got_grads, want_grads, "bfloat16")


def test_not_a_number_is_not_lost():
    """A NaN in a key reaches every row that sees it and no other; in a value it may reach its own tile (0 * NaN), but no earlier one."""
    x = inputs(40, 40)
    forms = attend, partial(attend_chunked, block_q=8, block_k=8)
    outs = quick(lambda x: [f(**x, mask=causal()) for f in forms])
    spoilt = {name: np.where(np.arange(40)[:, None, None] == 20, np.float32(np.nan), x[name]) for name in "kv"}
    for out in outs(dict(x, k=spoilt["k"])):
        np.testing.assert_array_equal(np.isnan(out).all((0, 2, 3)), np.arange(40) >= 20)
        assert np.isfinite(np.asarray(out)[:, :20]).all()
    dense, chunked = outs(dict(x, v=spoilt["v"]))
    assert np.isnan(dense[:, 20:]).all() and np.isnan(chunked[:, 20:]).all() and np.isfinite(chunked[:, :16]).all()


# ---------------------------------------------------------------------------------------------------- transformations

DOCUMENTS = np.stack([np.repeat([1, 2, 3], [20, 25, 20]), np.repeat([1, 2, 0], [40, 20, 5])])


def packed(attend, x, ids):
    """One row with its ids and positions, so that vmap over all of it makes batched, traced ids inside mask and bias."""
    slopes = x["slopes"]
    bias = lambda q_pos, k_pos: alibi.bias(ids["pos"][q_pos], ids["pos"][k_pos], slopes)
    return attend(*(x[name][None] for name in "qkv"), mask=causal() & segments(ids["ids"], ids["ids"]), bias=bias, weights=Tempered(0.2))[0]


def test_vmap_of_values_and_gradients():
    slopes = jnp.stack([jnp.asarray(alibi.slopes(H)), jnp.linspace(0.1, 1.0, H)])
    x, ids = dict(inputs(65, 65, 2), slopes=slopes), dict(ids=jnp.asarray(DOCUMENTS), pos=jnp.asarray(np.arange(65) % [[20], [40]]))
    row = lambda attend, x, ids: with_grads(lambda x: packed(attend, x, ids), x)
    chunked = partial(attend_chunked, block_q=16, block_k=32)

    def both(x, ids):
        return jax.vmap(partial(row, chunked))(x, ids), jax.lax.map(lambda xi: row(attend, *xi), (x, ids))
    assert_close(*quick(both)(x, ids))


def test_vmap_over_parameters_only():
    """Seeds in one program: many sets of slopes, one batch."""
    x, slopes = inputs(40, 40), jnp.stack([jnp.asarray(alibi.slopes(H)), jnp.linspace(0.1, 1.0, H), jnp.zeros(H)])

    def grads(attend, slopes):
        return with_grads(lambda p: attend(**x, mask=causal(), bias=lambda q, k: alibi.bias(q, k, p["slopes"])), dict(slopes=slopes))
    chunked = partial(attend_chunked, block_q=16, block_k=16)
    assert_close(*quick(lambda s: (jax.vmap(partial(grads, chunked))(s), jax.lax.map(partial(grads, attend), s)))(slopes))


def test_without_jit_and_under_remat():
    p, dense, chunked = problem(mask="late", bias="alibi", weights="softmax", shape=(40, 24), G=2, blocks=(16, 16))
    out, want, got = quick(lambda p: (dense(p), with_grads(dense, p), with_grads(jax.checkpoint(chunked), p)))(p)
    assert_close(got, want)
    assert_close(chunked(p), out)


def test_values_do_not_recompile():
    """A mask may be an argument; other ids are other values of the same program."""
    x = inputs(40, 40)
    f = jax.jit(lambda x, mask: attend_chunked(**x, mask=causal() & mask, block_q=16, block_k=16))
    dense = jax.jit(lambda x, mask: attend(**x, mask=causal() & mask))
    with compilations() as programs:
        for seed in range(3):
            mask = segments(ids(40, seed), ids(40, seed))
            assert_close(f(x, mask), dense(x, mask))
    assert programs.count("<lambda>") == 2                 # f and dense


# ---------------------------------------------------------------------------------------------------- wrong input

@pytest.mark.parametrize("attend", [attend, attend_chunked])
@pytest.mark.parametrize("change, words", [
    (dict(k=(B, 9, 3, K), v=(B, 9, 3, V)), "3 key heads do not divide 4 query heads"),
    (dict(k=(B, 9, H, K + 1)), "do not fit"),
    (dict(v=(B, 8, H, V)), "do not fit"),
    (dict(k=(1, 9, H, K), v=(1, 9, H, V)), "do not fit"),
    (dict(q=(5, H, K)), "got ranks 3, 4, 4"),
    (dict(q_pos=np.arange(4)), "4 positions for 5 tokens"),
    (dict(k_pos=np.arange(10)), "10 positions for 9 tokens"),
    (dict(q_pos=np.zeros((3, 5), int)), r"positions \(3, 5\) do not fit 2 rows"),
    (dict(mask=segments(np.ones((3, 5), int), np.ones((3, 9), int))), "a mask for 3 rows does not fit 2"),
    (dict(mask=causal() & ~segments(np.ones((3, 5), int), np.ones((3, 9), int))), "a mask for 3 rows does not fit 2"),
    (dict(soft_cap=0.0), "soft_cap must be positive and finite, or None for no cap; got 0.0"),
    (dict(soft_cap=-2.0), "soft_cap must be positive and finite, or None for no cap; got -2.0"),
    (dict(bias=(H, 5, 8)), r"bias \(4, 5, 8\) does not fit"),
    (dict(bias=(H, 5, 10)), r"bias \(4, 5, 10\) does not fit"),
    (dict(bias=(3, 5, 9)), r"bias \(3, 5, 9\) does not fit"),
    (dict(bias=(1, B, H, 5, 9)), r"bias \(1, 2, 4, 5, 9\) does not fit"),
    (dict(mask=np.tril(np.ones((5, 9), bool))), "mask is a value of lcref.ops.masks .* not ndarray"),
    (dict(k=(B, 0, H, K), v=(B, 0, H, V)), "no keys at all"),
])
def test_wrong_input(attend, change, words):
    x = dict(q=(B, 5, H, K), k=(B, 9, H, K), v=(B, 9, H, V)) | change
    with pytest.raises(ValueError, match=words):
        attend(**{name: jnp.zeros(a) if isinstance(a, tuple) else a for name, a in x.items()})


@pytest.mark.parametrize("blocks", [dict(block_q=0), dict(block_k=-1)])
def test_tiles_hold_something(blocks):
    with pytest.raises(ValueError, match="at least one query and one key, got block_q="):
        attend_chunked(**inputs(5, 5), **blocks)


def test_no_query_under_a_mask_is_no_output():
    mask = causal() & segments(np.ones(0, int), np.ones(5, int))
    assert attend(**inputs(0, 5), mask=mask).shape[1] == 0


def test_tiles_want_a_query():
    with pytest.raises(ValueError, match="at least one row and one query, got B=2, T=0"):
        attend_chunked(**inputs(0, 5))
    with pytest.raises(ValueError, match="at least one row and one query, got B=0, T=5"):
        attend_chunked(**{name: x[:0] for name, x in inputs(5, 5).items()})
