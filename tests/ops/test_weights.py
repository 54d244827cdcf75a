"""From scores to weights: golden numbers, hidden rows, and that the count n is a fact about the row and not about the call."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops.attention import attend
from lcref.ops.masks import causal, segments, sinks, window
from lcref.ops.weights import WEIGHTS, Cosine, LogN, Lssa, Lssar, Softmax, SSMax, TempScale, Tempered, softmax
from tests.compiling import compilations, quick
from tests.tolerances import assert_close

ALL = {"softmax": softmax, "log_n": LogN(16.0), "tempered": Tempered(jnp.float32(0.3)), "ssmax": SSMax(jnp.float32(0.6)),
       "temp_scale": TempScale(0.5), "cosine": Cosine(), "lssa": Lssa(), "lssar": Lssar(3)}
SOFTMAX = [name for name, weights in ALL.items() if not isinstance(weights, Lssa)]
B, T, S = 2, 5, 6


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


apply = jax.jit(lambda w, scores, n: w(scores, n))         # op by op, these tests would spend their time in the compiler


def scores_and_n(seed=0):
    """Scores [B,T,S] with a hidden pair here and there, row 2 hidden altogether, and the rows' visible keys [B,T]."""
    hidden = np.random.default_rng(seed).random((B, T, S)) < 0.3
    hidden[:, 2], hidden[:, [0, 1, 3, 4], 0] = True, False
    return np.where(hidden, -np.inf, normal(B, T, S, seed=seed)).astype(np.float32), (~hidden).sum(-1).astype(np.int32)


def test_every_weights_is_tested():
    assert set(ALL) == set(WEIGHTS) and all(type(ALL[name]) is kind for name, kind in WEIGHTS.items())
    for kind in WEIGHTS.values():
        kind()                                             # every one has defaults


@pytest.mark.parametrize("name", ALL)
def test_weights_are_a_distribution_over_the_visible_keys(name):
    scores, n = scores_and_n()
    w = np.asarray(apply(ALL[name], scores, n))
    assert w.dtype == np.float32 and (w >= 0).all()
    assert (w[np.isneginf(scores)] == 0).all() and (name == "lssar" or (w[~np.isneginf(scores)] > 0).all())
    np.testing.assert_allclose(w.sum(-1), np.broadcast_to(np.arange(T) != 2, (B, T)), rtol=1e-6)      # a hidden row: zeros


@pytest.mark.parametrize("name", SOFTMAX)
def test_weights_are_the_softmax_of_the_scaled_scores(name):
    scores, n = scores_and_n()
    factor, w, lse = jax.jit(lambda w, s, n: (w.factor(n), w(s, n), w.lse(s, n)))(ALL[name], scores, n)
    scaled = np.where(np.isneginf(scores), 0.0, scores) * (1.0 if factor is None else np.asarray(factor)[..., None])
    e = np.where(np.isneginf(scores), 0.0, np.exp(scaled))
    total = e.sum(-1, keepdims=True)
    assert_close(w, e / np.where(total == 0, 1, total))
    with np.errstate(divide="ignore"):
        assert_close(lse, np.log(total[..., 0]))


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_finite_and_nothing_for_hidden_pairs(name):
    scores, n = scores_and_n()
    cotangent = normal(B, T, S, seed=1)

    def total(weights, scores):
        return (weights(scores, n) * cotangent).sum() + jnp.where(jnp.asarray(n) > 0, weights.lse(scores, n), 0.0).sum()
    dw, ds = quick(jax.grad(total, (0, 1)))(ALL[name], scores)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves((dw, ds)))
    assert (np.asarray(ds)[np.isneginf(scores)] == 0).all() and (name == "lssar" or (np.asarray(ds)[~np.isneginf(scores)] != 0).all())
    if name in ("tempered", "ssmax"):
        assert dw.tau != 0


def test_large_scores_do_not_overflow():
    w = apply(softmax, jnp.asarray([[1e4, 1e4 - 1.0, -jnp.inf], [-1e4, -1e4 - 1.0, -1e4 - 1.0]]), None)
    np.testing.assert_allclose(w, [[0.731059, 0.268941, 0], [0.576117, 0.211942, 0.211942]], atol=1e-6)


def test_scores_in_bfloat16_become_float32_weights():
    scores = jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)
    assert {jax.eval_shape(w, scores, jnp.asarray([3, 3])).dtype for w in ALL.values()} == {jnp.dtype(jnp.float32)}


# ---------------------------------------------------------------------------------------------------- the formulas

def test_log_n():
    """ln 16 / ln 64 = 2/3, ln 64 / ln 64 = 1, ln 256 / ln 64 = 4/3; one visible key leaves nothing to scale."""
    np.testing.assert_allclose(LogN(64.0).factor(jnp.asarray([1, 16, 64, 256])), [0, 2 / 3, 1, 4 / 3], rtol=1e-6)
    assert LogN(512.0).factor(jnp.asarray(512)) == 1.0 and LogN(512).factor(jnp.asarray(512)) == 1.0
    scores = normal(3, 512)
    assert_close(apply(LogN(512.0), scores, np.full(3, 512)), apply(softmax, scores, None))
    # scores 0 and ln 2 with n = 16 and reference 4: factor 2, odds 1 : 4
    np.testing.assert_allclose(apply(LogN(4.0), np.log(np.float32([[1, 2]])), np.asarray([16])), [[0.2, 0.8]], rtol=1e-6)


def test_log_n_keeps_a_lead_as_the_row_grows():
    """One key leads by 8 among n. Plain softmax loses it (0.85 to 0.15); the scaled one holds it, because ln n grows as it must."""
    lead = {}
    for n in (512, 4096, 16384):
        scores = np.where(np.arange(n) == 7, 8, 0).astype(np.float32)[None]
        lead[n] = [float(np.asarray(apply(w, scores, np.asarray([n])))[0, 7]) for w in (softmax, LogN(512.0))]
    assert lead[512][0] == pytest.approx(lead[512][1], rel=1e-5) and 0.85 < lead[512][0] < 0.86
    assert lead[16384][0] < 0.16 and lead[16384][1] > lead[4096][1] > lead[512][1]


def test_tempered():
    n = jnp.asarray([1, 2, 16])
    np.testing.assert_allclose(Tempered(jnp.float32(0.5)).factor(n), [1, 1.346574, 2.386294], rtol=1e-6)
    scores, n = scores_and_n()
    for zero in (Tempered(), Tempered(jnp.float32(0.0))):
        np.testing.assert_array_equal(apply(zero, scores, n), apply(softmax, scores, None))


def test_tau_is_what_a_layer_learns():
    leaves = {name: len(jax.tree.leaves(w)) for name, w in ALL.items()}
    assert {name for name, count in leaves.items() if count} == {"tempered", "ssmax"}
    f = jax.jit(lambda w, scores, n: w(scores, n))
    with compilations() as programs:
        half, double = (f(Tempered(jnp.float32(tau)), *scores_and_n()) for tau in (0.5, 2.0))
        assert programs.count("<lambda>") == 1 and np.abs(np.asarray(half) - np.asarray(double)).max() > 0.01   # another tau, the same program
        eight, sixteen = (f(LogN(reference), *scores_and_n()) for reference in (8.0, 16.0))
        assert programs.count("<lambda>") == 3 and np.abs(np.asarray(eight) - np.asarray(sixteen)).max() > 0.01
    assert isinstance(jax.tree.map(lambda x: x, Softmax()), Softmax)


def test_ssmax_and_temp_scale():
    np.testing.assert_allclose(SSMax(0.5).factor(jnp.asarray([1, 2, 16])), [0, 0.346574, 1.386294], rtol=1e-5)
    scores, n = scores_and_n()
    assert_close(apply(TempScale(0.5), scores, n), apply(softmax, 2 * scores, None))
    with pytest.raises(ValueError, match="temp_scale needs a temperature above 0, got 0.0"):
        TempScale(0.0)


@pytest.mark.parametrize("reference", [1, 0.5, -3.0, float("nan")])
def test_a_reference_is_above_one(reference):
    with pytest.raises(ValueError, match=f"reference length above 1, got {reference}"):
        LogN(reference)


# ---------------------------------------------------------------------------------------------------- n

DOCUMENTS = np.repeat([1, 2, 0], [7, 9, 4])


@pytest.mark.parametrize("name, mask", [("log_n", causal()), ("tempered", causal() & window(6)), ("log_n", causal() & (window(4) | sinks(2))),
                                        ("tempered", causal() & segments(DOCUMENTS, DOCUMENTS)),
                                        ("lssar", causal() & segments(DOCUMENTS, DOCUMENTS))],
                         ids=["causal", "sliding", "lambda", "documents", "softplus"])
def test_n_is_the_same_in_decoding_as_in_the_whole_pass(name, mask):
    """In chunks, one of a single query, over a buffer that is longer than what has been read."""
    q, k, v = (normal(1, 20, 2, 4, seed=s) for s in range(3))

    def split(q, k, v):
        some = lambda slots: attend(q[:, slots], k, v, mask=mask, weights=ALL[name], q_pos=slots, k_pos=np.arange(20))
        parts = [jnp.concatenate([some(s) for s in np.split(np.arange(20), cuts)], 1) for cuts in ([7], [10, 11])]
        return attend(q, k, v, mask=mask, weights=ALL[name]), parts
    whole, parts = quick(split)(q, k, v)
    assert_close(parts, [whole, whole])


def test_n_counts_the_document_and_not_the_row():
    """Two documents packed in a row equal each on its own."""
    q, k, v = (normal(1, 16, 2, 4, seed=s) for s in range(3))
    ids = np.repeat([1, 2], [7, 9])

    def both(q, k, v):
        alone = [attend(q[:, s], k[:, s], v[:, s], mask=causal(), weights=LogN(8.0)) for s in (slice(7), slice(7, 16))]
        return attend(q, k, v, mask=causal() & segments(ids, ids), weights=LogN(8.0)), jnp.concatenate(alone, 1)
    assert_close(*quick(both)(q, k, v))
