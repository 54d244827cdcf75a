"""Softplus attention: golden numbers, the published form, what length does to it, extremes; and that tiles change nothing."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops import masks
from lcref.ops.attention import attend, attend_chunked_lse, attention_scores, attention_weights
from lcref.ops.bias import alibi
from lcref.ops.masks import causal, segments, sinks, window
from lcref.ops.weights import Cosine, Lssa, Lssar, softmax, softplus, unit
from tests.compiling import quick
from tests.tolerances import assert_close

# q, k, v of width 4 and 2, five tokens, made by formulas; values computed in float64 by two independent programs
Q = np.sin(np.arange(20) + 1.0).reshape(1, 5, 1, 4).astype(np.float32)
K = np.cos(0.7 * np.arange(20)).reshape(1, 5, 1, 4).astype(np.float32)
V = np.arange(10.0).reshape(1, 5, 1, 2).astype(np.float32)
GOLDEN = {
    Lssa(): ([[1], [.298874, .701126], [.363983, .455775, .180242], [.435789, .039124, .47982, .045267], [.028568, .470996, .06385, .259759, .176827]],
             [0, 1.402251, 1.632518, 2.26913, 4.17056]),
    Lssar(3): ([[1], [.071891, .928109], [.324168, .636469, .039364], [.345687, 0, .654313, 0], [0, .98939, 0, .01061, 0]],
               [0, 1.856217, 1.430392, 2.61725, 2.042438]),
    Lssar(15): ([[1], [.000003, .999997], [.033138, .966861, .000001], [.039534, 0, .960466, 0], [0, 1, 0, 0, 0]],
                [0, 1.999994, 1.933726, 3.841863, 2.0]),
}


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


# ------------------------------------------------------------------------------------------------------------- the formula

@pytest.mark.parametrize("weights", GOLDEN, ids=str)
def test_golden_numbers(weights):
    rows, first = GOLDEN[weights]
    found = quick(lambda q, k: attention_weights(q, k, mask=causal(), weights=weights))(Q, K)[0, 0]
    np.testing.assert_allclose(found, [row + [0] * (5 - len(row)) for row in rows], atol=2e-6)
    out = quick(lambda q, k, v: attend(q, k, v, mask=causal(), weights=weights))(Q, K, V)[0, :, 0]
    np.testing.assert_allclose(out, np.stack([first, np.add(first, 1)], 1), atol=1e-5)


def published(q, k, power):
    """The authors' form, in float64, of one head [T,K]: A = F / sum F, then relu(A n - 1)^p over its sum; rows 1 to 3 without the 1."""
    q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (np.float64(q), np.float64(k)))
    n = np.arange(1, len(q) + 1)[:, None]
    F = np.tril(np.log1p(np.exp(np.log(q.shape[1]) * np.log(n) * (q @ k.T))))
    A = F / F.sum(1, keepdims=True)
    B = np.maximum(A * n - (n > 3), 0) ** power
    return A, B / B.sum(1, keepdims=True)


@pytest.mark.parametrize("power", [1, 2.5, 15])
def test_the_mean_form_is_the_published_one(power):
    q, k = normal(1, 40, 1, 16), normal(1, 40, 1, 16, seed=1)
    A, W = published(q[0, :, 0], k[0, :, 0], power)
    for weights, want in ((Lssa(), A), (Lssar(power), W)):
        assert_close(quick(lambda q, k: attention_weights(q, k, mask=causal(), weights=weights))(q, k)[0, 0], want.astype(np.float32))


def test_softplus_is_right_relative_to_its_size_and_so_is_its_slope():
    x = np.concatenate([np.linspace(-80, 80, 4001), np.linspace(-1e-3, 1e-3, 101), [1e4]]).astype(np.float32)
    wide, slope = x.astype(np.float64), jax.vmap(jax.grad(softplus))
    assert_close(softplus(x) / np.logaddexp(wide, 0), np.ones(len(x)))
    assert_close(slope(x) * (1 + np.exp(-wide)), np.ones(len(x)))
    nothing = np.float32([-1e4, -np.inf])
    assert (softplus(nothing) == 0).all() and (slope(nothing) == 0).all()


def test_cosine_is_the_softmax_of_the_same_scores():
    q, k = normal(1, 9, 1, 16), normal(1, 9, 1, 16, seed=1)
    scores, n = attention_scores(q, k, mask=causal(), weights=Lssa())
    scaled = jnp.where(jnp.isneginf(scores), -jnp.inf, jnp.maximum(scores, -99.0) * jnp.log(n.astype(jnp.float32))[..., None])
    assert_close(attention_weights(q, k, mask=causal(), weights=Cosine()), softmax(scaled))
    assert np.abs(np.asarray(scores[np.isfinite(scores)])).max() <= np.log(16) + 1e-5


def test_lengths_of_queries_and_keys_do_not_matter():
    for weights in (Cosine(), Lssa(), Lssar(3)):
        one, other = (quick(lambda q, k: attention_weights(q, k, mask=causal(), weights=weights))(c * Q, 3 * c * K) for c in (1.0, 50.0))
        assert_close(one, other)
    assert np.isfinite(jax.grad(lambda x: (unit(x) * 3.0).sum())(jnp.zeros((2, 4)))).all()


def test_only_re_weighting_keeps_few_keys_as_rows_grow():
    """Random keys of width 64: exp(entropy) of the weights at n = 64 and 4096. Softplus alone thins nothing out; the power does."""
    def kept(weights, n):
        q, k = normal(1, 20, 1, 64), normal(1, n, 1, 64, seed=n)
        w = np.asarray(attention_weights(q, k, weights=weights), np.float64)
        return np.exp(-(w * np.log(np.where(w > 0, w, 1))).sum(-1)).mean()
    few, many = ({name: kept(weights, n) for name, weights in (("lssa", Lssa()), ("three", Lssar(3)), ("fifteen", Lssar(15)))} for n in (64, 4096))
    assert many["lssa"] > 30 * few["lssa"] and many["three"] > 5 * few["three"] and many["fifteen"] < 5 * few["fifteen"] < 20


# ----------------------------------------------------------------------------------------------------------------- extremes

def test_where_no_key_stands_out_there_is_nothing():
    """All keys equal, as at a start from zeros: output 0 and gradient 0 in rows of more than 3; lssa gives the mean."""
    q, k, v = normal(1, 8, 1, 4), jnp.ones((1, 8, 1, 4)), jnp.ones((1, 8, 1, 2))

    @quick
    def passes(q, k, v):
        found = {}
        for name, form in dict(dense=attend, tiles=lambda *x, **kw: attend_chunked_lse(*x, **kw)[0]).items():
            out, back = jax.vjp(lambda *x, form=form: form(*x, mask=causal(), weights=Lssar(15)), q, k, v)
            found[name] = out, back(jnp.ones_like(out))
        return found, attend(q, k, v, mask=causal(), weights=Lssa())
    found, plain = passes(q, k, v)
    for out, gradients in found.values():
        assert_close(out[0, :, 0, 0], np.array([1, 1, 1, 0, 0, 0, 0, 0], np.float32))
        assert all(np.isfinite(gradient).all() for gradient in gradients) and not np.any(np.asarray(gradients[0])[0, 3:])
    assert_close(plain, v)


def test_large_powers_do_not_lose_the_row():
    """x^100 of a row of small x is 0 in float32: dividing by the row's largest first keeps it."""
    w = quick(lambda q, k: attention_weights(q, k, mask=causal(), weights=Lssar(100)))(normal(1, 30, 1, 8), normal(1, 30, 1, 8, seed=1))
    np.testing.assert_allclose(np.asarray(w).sum(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("power", [0.5, 0, float("nan")])
def test_the_power_is_one_or_more(power):
    with pytest.raises(ValueError, match=f"lssar needs a power of 1 or more, got {power}"):
        Lssar(power)


@pytest.mark.parametrize("weights", [Lssa(), Lssar(3), Lssar(15)])
@pytest.mark.parametrize("form", [attend, lambda *args, **kwargs: attend_chunked_lse(*args, **kwargs, block_q=8, block_k=8)[0]])
def test_nan_is_not_mistaken_for_a_key_that_does_not_stand_out(form, weights):
    q, k, v = (normal(1, 20, 1, 8, seed=seed) for seed in range(3))
    out = quick(lambda q: form(q, k, v, mask=causal(), weights=weights))(q.at[0, 7].set(jnp.nan))
    assert np.isnan(out[0, 7]).all() and np.isfinite(np.delete(out, 7, axis=1)).all()


# -------------------------------------------------------------------------------------------------------------------- tiles

IDS = np.sort(np.random.default_rng(3).integers(0, 3, (2, 37)), axis=1)
MASKS = {"causal": causal(), "window and sinks": causal() & (window(9) | sinks(2)), "documents": causal() & segments(IDS, IDS), "none": None,
         "everything hidden": ~masks.everything()}


CASES = [*((name, weights) for name in MASKS for weights in (Lssa(), Lssar(3))), ("causal", Cosine()), ("causal", Lssar(1)), ("documents", Lssar(2.5))]


@pytest.mark.parametrize("name, weights", CASES, ids=str)
def test_tiles_change_nothing(name, weights):
    """Values, log-sums and every gradient, ALiBi's slopes and a soft cap included, with grouped queries and ragged tiles."""
    x = dict(q=normal(2, 37, 4, 8), k=normal(2, 37, 2, 8, seed=1), v=normal(2, 37, 2, 6, seed=2), slopes=jnp.asarray([0.1, 0.2, 0.3, 0.4]))
    dy, dlse = normal(2, 37, 4, 6, seed=3), normal(2, 4, 37, seed=4)

    def both(form):
        def run(x):
            bias = lambda q_pos, k_pos: alibi.bias(q_pos, k_pos, x["slopes"])
            return form(x["q"], x["k"], x["v"], mask=MASKS[name], bias=bias, soft_cap=5.0, weights=weights)

        def all_of_it(x):
            (out, lse), back = jax.vjp(run, x)
            return out, lse, back((dy, jnp.where(jnp.isneginf(lse), 0.0, dlse)))[0]
        return quick(all_of_it)(x)

    def dense(q, k, v, **kwargs):
        return attend(q, k, v, **kwargs), weights.lse(*attention_scores(q, k, **kwargs))
    blocks = dict(block_q=64, block_k=64) if name == "none" else dict(block_q=16, block_k=8)          # one tile; loops over many
    assert_close(both(lambda *a, **kw: attend_chunked_lse(*a, **kw, **blocks)), both(dense))
