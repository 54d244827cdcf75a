"""Additive biases: values from the papers' code, and the battery that every entry of BIASES must pass."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops.bias import BIASES, alibi, fire, hard_alibi, kerple, t5
from lcref.ops.bias.distance import distance

H = 4


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


FIRE = dict(c=jnp.float32(0.1), length=jnp.float32(512.0),
            w1=normal(8), b1=normal(8, seed=1), w2=normal(8, H, seed=2), b2=normal(H, seed=3))
# per entry of BIASES: the parameters it is called with; float ones are what gets gradients
PARAMETERS = {
    "alibi": dict(slopes=jnp.asarray(alibi.slopes(H))),
    "hard_alibi": dict(windows=(1, 3, 0, 0)),
    "t5": dict(table=normal(32, H)),
    "kerple": dict(r1=jnp.asarray([0.5, 1.0, 1.5, 2.0]), r2=jnp.asarray([0.1, 0.5, 1.0, 0.9])),
    "kerple_power": dict(a=jnp.asarray([0.5, 1.0, 0.1, 0.2]), p=jnp.asarray([0.3, 1.0, 1.5, 2.0])),
    "fire": FIRE,
}
LEARNED = [name for name in BIASES if name not in ("hard_alibi",)]


def compiled(name):
    """jit with the parameters inside: op by op, these tests would spend their time in the compiler."""
    return jax.jit(lambda q, k: BIASES[name](q, k, **PARAMETERS[name]))


@pytest.fixture(params=BIASES)
def bias(request):
    return compiled(request.param)


def test_every_bias_is_tested():
    assert set(PARAMETERS) == set(BIASES)


# ---------------------------------------------------------------------------------------------------- the battery

def test_shape_dtype_and_kinds_of_positions(bias):
    whole = bias(np.arange(7), np.arange(5))
    assert whole.shape == (H, 7, 5) and whole.dtype == jnp.float32
    for q, k in ((jnp.arange(7), jnp.arange(5)), (np.arange(7.0), np.arange(5.0)), (np.arange(7, dtype=np.uint8), np.arange(5))):
        np.testing.assert_allclose(bias(q, k), whole, rtol=1e-6)


def test_tile_is_a_slice_of_the_whole(bias):
    whole = bias(np.arange(40), np.arange(40))
    np.testing.assert_allclose(bias(np.arange(24, 32), np.arange(8, 16)), whole[:, 24:32, 8:16], rtol=1e-6)
    traced = jax.jit(lambda q0, k0: bias(q0 + jnp.arange(8), k0 + jnp.arange(8)))(24, 8)
    np.testing.assert_allclose(traced, whole[:, 24:32, 8:16], rtol=1e-5)


def test_batched_is_row_by_row(bias):
    q, k = jnp.asarray([[0, 1, 2], [50, 9, 600]]), jnp.asarray([[0, 5, 2, 3], [40, 9, 1, 30]])
    both = bias(q, k)
    assert both.shape == (2, H, 3, 4)
    for b in range(2):
        np.testing.assert_allclose(both[b], bias(q[b], k[b]), rtol=1e-6)
    np.testing.assert_allclose(bias(q, k[0]), bias(q, jnp.stack([k[0], k[0]])), rtol=1e-6)      # one side shared by the batch


def test_never_nan_anywhere(bias):
    far = np.array([0, 1, 1000, 1_000_000])                  # future keys included: a mask hides them, NaN would leak through it
    assert not np.isnan(bias(far, far)).any()
    assert np.isfinite(np.asarray(bias(far, far))[:, np.arange(4), np.arange(4)]).all()


@pytest.mark.parametrize("name", [n for n in BIASES if n != "fire"])
def test_only_the_difference_counts(name):
    q, k = np.arange(300), np.arange(0, 300, 7)
    bias = compiled(name)
    for shift in (5, 1_000_000):
        np.testing.assert_array_equal(bias(q + shift, k + shift), bias(q, k))


def loss(name, q, k):
    weights = normal(H, len(q), len(k), seed=9)
    return jax.jit(lambda parameters: (BIASES[name](q, k, **parameters) * weights).sum())


@pytest.mark.parametrize("name", LEARNED)
def test_gradients(name):
    q = np.r_[450:500, 530:590]                                        # both sides of FIRE's L = 512, but not at its kink
    f = loss(name, q, np.arange(400, 590))                             # distances 0, positive, negative
    g, parameters = jax.jit(jax.grad(f))(PARAMETERS[name]), PARAMETERS[name]
    for leaf in jax.tree.leaves(g):
        assert np.isfinite(leaf).all() and (np.asarray(leaf) != 0).any()
    # and they are right: a small step along each parameter alone, against a finite difference
    if name == "fire":                                                 # keep its ReLUs off their kinks: half on, half off
        on = jnp.asarray([3.0, -3.0] * 4)
        parameters = FIRE | dict(w1=jnp.clip(FIRE["w1"], -1, 1), b1=on)
        g = jax.jit(jax.grad(f))(parameters)
    for at, leaf in parameters.items():
        step = 0.01 * abs(leaf)
        ahead, behind = (f(parameters | {at: leaf + sign * step}) for sign in (1.0, -1.0))
        np.testing.assert_allclose((ahead - behind) / 2, (g[at] * step).sum(), atol=0.02 * abs(g[at] * step).sum() + 1e-3, err_msg=at)


def test_distance():
    np.testing.assert_array_equal(distance(np.array([5, 6]), np.array([4, 6, 9])), [[1, -1, -4], [2, 0, -3]])
    assert distance(np.arange(3), jnp.arange(2)).dtype == jnp.int32
    assert distance(np.arange(3.0), jnp.arange(2)).dtype == jnp.float32
    exact = distance(np.array([2**24 + 1]), np.array([2**24]))          # as float32 both positions are 2^24
    assert exact[0, 0] == 1


# ---------------------------------------------------------------------------------------------------- ALiBi

@pytest.mark.parametrize("heads, wanted", [            # the authors' repository (fairseq/models/transformer.py) and MPT agree on these
    (1, [2**-8]), (2, [.0625, .00390625]), (3, [.0625, .00390625, .25]), (4, [.25, .0625, .015625, .00390625]),
    (6, [.25, .0625, .015625, .00390625, .5, .125]), (8, [2.0**-n for n in range(1, 9)]),
    (12, [2.0**-n for n in range(1, 9)] + [2.0**-n for n in (0.5, 1.5, 2.5, 3.5)]),
])
def test_alibi_slopes(heads, wanted):
    np.testing.assert_allclose(alibi.slopes(heads), wanted, rtol=1e-6)


def test_alibi_max_bias_is_the_last_exponent():
    np.testing.assert_allclose(alibi.slopes(4, max_bias=4.0), [2**-1, 2**-2, 2**-3, 2**-4], rtol=1e-6)
    with pytest.raises(ValueError, match="0"):
        alibi.slopes(0)


def test_alibi_values():
    got = np.tril(alibi.bias(np.arange(4), np.arange(4), alibi.slopes(2))[0])
    np.testing.assert_array_equal(got, [[0, 0, 0, 0], [-.0625, 0, 0, 0], [-.125, -.0625, 0, 0], [-.1875, -.125, -.0625, 0]])


# ---------------------------------------------------------------------------------------------------- Hard-ALiBi

def test_hard_alibi_windows():
    assert hard_alibi.windows(16) == (1, 2, 3, 4, 5, 6, 7, 8) + (0,) * 8         # as published
    assert hard_alibi.windows(4, 3) == (1, 2, 3, 0)
    assert hard_alibi.windows(4, 0) == (0, 0, 0, 0)
    for bad in (5, -1):
        with pytest.raises(ValueError, match=f"{bad} windowed heads of 4"):
            hard_alibi.windows(4, bad)


def test_hard_alibi_head_i_sees_the_last_i_plus_1():
    got = np.asarray(hard_alibi.bias(np.arange(6), np.arange(6), hard_alibi.windows(6, 3)))
    i, j = np.arange(6)[:, None], np.arange(6)[None]
    for head in range(3):
        np.testing.assert_array_equal(got[head], np.where((j <= i) & (i - j <= head), 0.0, -np.inf))
    np.testing.assert_array_equal(got[3:], 0.0)
    np.testing.assert_array_equal(got[0], np.where(i == j, 0.0, -np.inf))        # head 0 sees only itself


# ---------------------------------------------------------------------------------------------------- T5

FIRST_CAUSAL = dict(zip([*range(17), 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113], range(32)))
FIRST_BOTH = dict(zip([*range(9), 12, 16, 23, 32, 46, 64, 91], range(16)))


@pytest.mark.parametrize("bidirectional, first", [(False, FIRST_CAUSAL), (True, FIRST_BOTH)])
def test_t5_bucket_edges(bidirectional, first):
    # transformers 5.23.0, T5Attention._relative_position_bucket, 32 buckets, max_distance 128: first distance of each bucket
    wanted = [max(b for m, b in first.items() if m <= d) for d in range(129)]
    np.testing.assert_array_equal(t5.bucket_table(32, 128, bidirectional), wanted)


@pytest.mark.parametrize("buckets, max_distance", [(32, 128), (64, 256), (16, 64), (32, 2048), (8, 1024), (10, 160), (2, 2)])
def test_t5_edges_by_exact_integers(buckets, max_distance):
    # m reaches bucket e + n when (m/e)^(buckets - e) >= (max_distance/e)^n: no logarithm, no rounding
    e = buckets // 2
    for m, got in enumerate(t5.bucket_table(buckets, max_distance)):
        # e.g. (10, 160) loses 10, 20 and 80 to the bucket below if the nudge is left out
        n = sum(m ** (buckets - e) * e**n >= max_distance**n * e ** (buckets - e) for n in range(1, buckets - e)) if m >= e else 0
        assert got == (m if m < e else e + n), m


def test_t5_looks_up_the_table():
    table = jnp.arange(32 * 2, dtype=jnp.float32).reshape(32, 2)
    got = t5.bias(np.array([0, 20, 500]), np.array([0, 3, 20]), table)
    np.testing.assert_array_equal(got[0] / 2, [[0, 0, 0], [17, 16, 0], [31, 31, 31]])     # future keys share bucket 0
    np.testing.assert_array_equal(got[1], got[0] + 1)


def test_t5_bidirectional_sides():
    table = jnp.arange(32.0)[:, None]
    got = t5.bias(np.array([0]), np.array([1, 7, 8, 16, 64, 128, 5000, -1, -16, -91]), table, bidirectional=True)
    np.testing.assert_array_equal(got[0, 0], [17, 23, 24, 26, 30, 31, 31, 1, 10, 15])


def test_t5_floors_fractions_and_refuses_impossible_tables():
    table = jnp.arange(32.0)[:, None]
    assert t5.bias(np.array([4.9]), np.array([0.0]), table)[0, 0, 0] == 4
    for bad in ((1, 128, False), (32, 16, False), (2, 128, True), (32, 8, True)):
        with pytest.raises(ValueError, match=f"t5 buckets {bad[0]}, max_distance {bad[1]}"):
            t5.bucket_table(*bad)


# ---------------------------------------------------------------------------------------------------- KERPLE

def test_kerple_log_values():
    got = kerple.log(np.array([4]), np.array([4, 3, 2, 1, 0, 8]), np.ones(1), np.ones(1))
    np.testing.assert_allclose(got[0, 0], [0, -.693147, -1.098612, -1.386294, -1.609438, -1.609438], atol=1e-6)


def test_kerple_power_values_and_alibi_as_its_special_case():
    q = np.arange(9)
    np.testing.assert_allclose(kerple.power(q, q, alibi.slopes(4), np.ones(4)), alibi.bias(q, q, alibi.slopes(4)), rtol=1e-5)
    np.testing.assert_allclose(kerple.power(q[-1:], q, np.array([0.5]), np.array([2.0]))[0, 0], -0.5 * (8 - q) ** 2, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------- FIRE

@pytest.mark.parametrize("i, j, wanted", [(10, 3, .134163603), (511, 0, .999514916), (1000, 0, .999999783), (1000, 500, .851944118)])
def test_fire_fraction_values(i, j, wanted):
    # the paper's appendix listing evaluated in float64: c = 0.1, L = 512
    np.testing.assert_allclose(fire.fraction(np.array([i]), np.array([j]), 0.1, 512.0)[0, 0], wanted, rtol=2e-6)


def test_fire_fraction_stays_in_the_unit_interval_at_any_length():
    for i in (1, 100, 512, 5000, 1_000_000):
        x = np.asarray(fire.fraction(np.array([i]), np.linspace(0, i, 50).astype(int), 0.1, 512.0))
        assert (x >= 0).all() and (x <= 1).all() and (np.diff(x) <= 0).all()
    assert x.max() > 0.99


def test_fire_shifts_matter_past_the_threshold_only():
    q, k = np.arange(100, 120), np.arange(90, 110)
    bias = compiled("fire")
    base = bias(q, k)
    np.testing.assert_allclose(bias(q + 300, k + 300), base, rtol=1e-4, atol=1e-5)
    assert abs(bias(q + 3000, k + 3000) - base).max() > 1e-2


def test_fire_is_its_formula():
    q, k = np.array([3, 600]), np.array([0, 2, 550])
    x = np.asarray(fire.fraction(q, k, FIRE["c"], FIRE["length"]), np.float64)
    w1, b1, w2, b2 = (np.asarray(FIRE[n], np.float64) for n in ("w1", "b1", "w2", "b2"))
    wanted = np.maximum(x[..., None] * w1 + b1, 0) @ w2 + b2
    np.testing.assert_allclose(fire.bias(q, k, **FIRE), wanted.transpose(2, 0, 1), rtol=1e-5, atol=1e-6)
