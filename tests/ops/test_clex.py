"""CLEX: its ODE against scipy's solver, its gradient against differences of that solver, and the ids of a training pass."""
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from lcref.ops import rope
from lcref.ops.rope_scaling.clex import Clex, ClexPrior, RandomPositions
from lcref.ops.rope_scaling.ode import integrate
from lcref.ops.rope_scaling.scaling import windows


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


ACT = {"tanh": np.tanh, "silu": lambda x: x / (1 + np.exp(-x))}
GOLDEN = {"up": 0.1 * np.cos(np.arange(32)).reshape(4, 8), "down": 0.05 * np.sin(np.arange(32)).reshape(8, 4)}


def by_scipy(up, down, base=10_000.0, factor=4, activation="tanh"):
    """theta(t) at t = 1..factor: the ODE as published, in z = ln theta and float64, prior and all, by DOP853."""
    half = up.shape[0]
    K, u = 2 * half, 2.0 * np.arange(half)

    def slope(t, z):
        alpha = 2 * t - 1
        ntk = (base * alpha ** (K / (K - 2))) ** (-u / K)
        return ACT[activation]((z + np.log(ntk)) @ up) @ down - 2 * u / ((K - 2) * alpha)
    start = np.log(base) * -u / K
    found = solve_ivp(slope, (1, factor), start, method="DOP853", rtol=1e-11, atol=1e-12, t_eval=np.arange(1, factor + 1))
    return np.exp(found.y.T)


def weights(K, width=1, size=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return {"up": size * rng.uniform(-1, 1, (K // 2, width * K)) / math.sqrt(width * K),
            "down": size * 0.1 * rng.normal(size=(width * K, K // 2))}


# ---------------------------------------------------------------------------------------------------- the ODE

def test_golden_at_initialisation():
    scaling = Clex(factor=8, original_length=64)
    table = np.asarray(scaling.solve(8, 10_000.0, scaling.initial(jax.random.key(0), 8)))
    for t, printed in ((2, [1, .069336, .004807, .000333]), (4, [1, .052276, .002733, .000143]), (8, [1, .040548, .001644, .000067])):
        np.testing.assert_allclose(table[t - 1], printed, atol=5.1e-7)


@pytest.mark.parametrize("step", [0.01, 0.1, 0.25])
@pytest.mark.parametrize("activation, t, want", [
    ("tanh", 2, [.9934640919, .07200665916, .005040841464, .0003378381545]), ("tanh", 4, [.9794517301, .05887070634, .003172312385, .0001490387301]),
    ("silu", 2, [1.014670793, .07178629167, .004919167547, .0003300449445]), ("silu", 4, [1.052291030, .05861746742, .002939002886, .0001378228638])])
def test_golden_with_weights(activation, t, want, step):
    table = Clex(factor=4, step=step, activation=activation).solve(8, 10_000.0, GOLDEN)
    np.testing.assert_allclose(table[t - 1], want, rtol=1e-6)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
@pytest.mark.parametrize("K, factor", [(4, 3), (16, 16), (64, 8), (2, 4)])
def test_at_initialisation_it_is_the_closed_form(K, factor, base):
    scaling = Clex(factor=factor, original_length=10)
    table = scaling.solve(K, base, scaling.initial(jax.random.key(3), K))
    t, k = np.arange(1, factor + 1), np.arange(K // 2)
    with np.errstate(invalid="ignore"):
        exponents = -2 * k / (K - 2) if K > 2 else np.zeros(1)
    np.testing.assert_allclose(table, np.asarray(rope.inv_freq(K, base), np.float64) * (2.0 * t - 1)[:, None] ** exponents, rtol=1e-6)
    np.testing.assert_array_equal(table[0], rope.inv_freq(K, base))
    for length in (5, 10, 11, 10 * factor, 10**6):                            # and so are ClexPrior, and Clex without a table
        for other in (ClexPrior(factor, 10), scaling):
            np.testing.assert_array_equal(scaling.inv_freq(K, base, length, table), other.inv_freq(K, base, length))
    assert table.shape == (factor, K // 2) and table.dtype == jnp.float32


@pytest.mark.parametrize("activation", ACT)
@pytest.mark.parametrize("K, width, size, base", [(8, 1, 1.0, 1e4), (16, 2, 1.0, 1e4), (32, 1, 1.0, 5e5), (64, 1, 0.5, 1e4)])
def test_equals_scipy_with_random_weights(K, width, size, base, activation):
    parameters = weights(K, width, size, seed=K)
    table = np.asarray(Clex(factor=6, width=width, activation=activation).solve(K, base, parameters), np.float64)
    want = by_scipy(parameters["up"], parameters["down"], base, 6, activation)
    assert np.abs(np.log(want[-1] / Clex(factor=6).solve(K, base, Clex(factor=6).initial(jax.random.key(0), K))[-1])).max() > 0.1
    np.testing.assert_allclose(table, want, rtol=1e-5)


@pytest.mark.parametrize("activation", ACT)
def test_gradient_is_that_of_scipy_by_differences(activation):
    parameters, mix = weights(8, seed=1), np.random.default_rng(2).normal(size=(5, 4))
    scaling = Clex(factor=5, activation=activation)
    loss = lambda p: (jnp.log(scaling.solve(8, 10_000.0, p)) * mix.astype(np.float32)).sum()
    grads = jax.grad(loss)({name: jnp.asarray(value, jnp.float32) for name, value in parameters.items()})
    for seed in range(3):
        for name in ("up", "down"):
            direction = np.random.default_rng(10 + seed).normal(size=parameters[name].shape)
            value = []
            for sign in (1, -1):
                moved = {**parameters, name: parameters[name] + sign * 1e-4 * direction}
                value.append((np.log(by_scipy(moved["up"], moved["down"], factor=5, activation=activation)) * mix).sum())
            want = (value[0] - value[1]) / 2e-4
            assert float((np.asarray(grads[name]) * direction).sum()) == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_gradient_at_initialisation_reaches_what_starts_at_zero():
    scaling = Clex(factor=4)
    grads = jax.grad(lambda p: jnp.log(scaling.solve(8, 10_000.0, p)).sum())(scaling.initial(jax.random.key(0), 8))
    assert np.abs(grads["down"]).max() > 0.1 and np.abs(grads["up"]).max() == 0


def test_initial_values():
    parameters = Clex(width=3).initial(jax.random.key(0), 32)
    assert parameters["up"].shape == (16, 96) and parameters["down"].shape == (96, 16)
    bound = 96 ** -0.5                                                        # torch: fan_in of a [16, 96] matrix is 96
    assert 0.95 * bound < np.abs(parameters["up"]).max() <= bound and abs(np.asarray(parameters["up"]).mean()) < 0.1 * bound
    assert not np.asarray(parameters["down"]).any()
    assert ClexPrior().initial(None, 32) == {} and ClexPrior().solve(32, 10_000.0, {}) is None


def test_integrate_is_of_order_4_and_exact_for_cubics():
    times = np.linspace(0, 2, 5)
    cubic = integrate(lambda t, y: 4 * t**3 + jnp.zeros_like(y), jnp.zeros(2), times)
    np.testing.assert_allclose(cubic, np.stack([times**4] * 2, -1), rtol=1e-6)
    errors = [abs(float(integrate(lambda t, y: y * jnp.cos(t), jnp.ones(()), np.linspace(0, 2, n + 1))[-1]) - math.exp(math.sin(2)))
              for n in (2, 4)]
    assert 10 < errors[0] / errors[1] < 40
    # one step on y' = y: the 3/8 rule and every other method of order 4 give 1 + h + h^2/2 + h^3/6 + h^4/24; y' = t y^2 tells them apart
    k1 = 0.0
    k2 = (1 / 3) * (1 + k1 / 3) ** 2
    k3 = (2 / 3) * (1 + k2 - k1 / 3) ** 2
    k4 = (1 + k1 - k2 + k3) ** 2
    got = integrate(lambda t, y: t * y * y, jnp.ones(()), np.array([0.0, 1.0]))[-1]
    assert float(got) == pytest.approx(1 + (k1 + 3 * k2 + 3 * k3 + k4) / 8, rel=1e-6)


# ---------------------------------------------------------------------------------------------------- reading

def test_which_row_is_read():
    scaling = Clex(factor=16, original_length=4096)
    table = jnp.arange(16, dtype=jnp.float32)[:, None] + jnp.ones((16, 4), jnp.float32)
    for length, t in ((1, 1), (4095, 1), (4096, 1), (4097, 2), (8192, 2), (8193, 3), (65536, 16), (65537, 16), (10**7, 16)):
        assert float(scaling.inv_freq(8, 10_000.0, length, table)[0]) == t
        assert float(jax.jit(lambda n: scaling.inv_freq(8, 10_000.0, n, table))(jnp.int32(length))[0]) == t


def test_random_positions_never_change_a_frequency():
    for length in (1, 10**6):
        np.testing.assert_array_equal(RandomPositions(8, 64).inv_freq(16, 10_000.0, length), rope.inv_freq(16))
    pos, key = np.arange(64), jax.random.key(5)
    np.testing.assert_array_equal(RandomPositions(8, 64).training_ids(key, pos), Clex(8, 64).training_ids(key, pos))


# ---------------------------------------------------------------------------------------------------- ids in training

def drawn(scaling, n, count=600):
    keys = jax.random.split(jax.random.key(7), count)
    return np.asarray(jax.jit(jax.vmap(lambda key: scaling.training_ids(key, jnp.arange(n))))(keys))


@pytest.mark.parametrize("n, L, factor", [(8, 8, 4), (64, 64, 8), (2, 2, 3), (16, 8, 4), (32, 8, 3), (56, 8, 5)])
def test_ids_are_distinct_sorted_and_reach_the_window_drawn(n, L, factor):
    ids = drawn(Clex(factor, L), n)
    assert ids.dtype == (np.int32 if n == L else np.float32)
    assert (np.diff(ids, axis=1) > 0).all() and (ids[:, 0] == 0).all()
    t = np.array([windows(int(row.max()) + 1, L) for row in ids])
    np.testing.assert_array_equal(ids[:, -1], L * t - 1)                      # so max + 1 fills exactly t windows
    traced = jax.jit(jax.vmap(lambda row: windows(row.max() + 1, L)))(ids)
    np.testing.assert_array_equal(traced, t)
    counts = np.bincount(t, minlength=factor + 1)[1:]
    assert len(counts) == factor and (np.abs(counts / 600 - 1 / factor) < 0.1).all()
    shortest = ids[t == 1]
    assert len(shortest) and (shortest == shortest[0]).all()
    np.testing.assert_allclose(shortest[0], np.arange(n) * ((L - 1) / (n - 1)), rtol=1e-6)     # 0..n-1 when n is the training length


def test_every_place_between_is_equally_likely():
    ids = drawn(Clex(3, 8), 8, count=4000)
    for t in (1, 2, 3):
        rows = ids[ids[:, -1] == 8 * t - 1]
        share = np.bincount(rows[:, 1:-1].reshape(-1), minlength=8 * t)[1:8 * t - 1] / len(rows)
        assert np.abs(share - 6 / (8 * t - 2)).max() < 0.06                   # 4.5 standard errors


def test_one_t_at_factor_1_and_positions_are_looked_up():
    np.testing.assert_array_equal(Clex(1, 8).training_ids(jax.random.key(0), np.arange(8)), np.arange(8))
    key, plain = jax.random.key(1), np.arange(8)
    whole = np.asarray(Clex(4, 8).training_ids(key, plain))
    assert (np.diff(whole) > 0).all()
    rows = np.array([[0, 1, 2, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 7]] * 20)       # a draw a row: packed rows look their positions up in it
    ids = np.asarray(Clex(4, 8).training_ids(key, rows))
    assert (ids[0::2, :3] == ids[0::2, 3:6]).all() and len(np.unique(ids[1::2], axis=0)) > 10
    np.testing.assert_array_equal(np.unique(ids[1::2, -1]), [7, 15, 23, 31])         # every t within one batch


@pytest.mark.parametrize("n, L, factor, chunks", [(64, 64, 4, 2), (64, 64, 4, 5), (16, 8, 3, 4), (4, 4, 2, 4)])
def test_chunked_ids_are_pieces_of_neighbours_that_reach_the_window_drawn(n, L, factor, chunks):
    ids = drawn(Clex(factor, L, chunks), n)
    t = np.array([windows(int(row.max()) + 1, L) for row in ids])
    np.testing.assert_array_equal(ids[:, -1], L * t - 1)
    assert (ids[:, 0] == 0).all() and (np.diff(ids, axis=1) > 0).all()
    steps = np.diff(ids, axis=1) * (n * t - 1)[:, None] / (L * t - 1)[:, None]       # in places: 1 inside a piece
    jumps = (steps > 1.5).sum(1)
    assert jumps.max() == chunks - 1 and jumps[t == 1].max() == 0 and (jumps[t > 1] >= 1).all()
    where = np.argmax(steps[t > 1] > 1.5, axis=1)
    assert len(np.unique(where)) > (n - chunks) / 2                                  # cut anywhere
    assert set(np.unique(t)) == set(range(1, factor + 1))


def test_chunks_of_every_size_of_skip_are_drawn():
    ids = drawn(Clex(4, 64, 3), 64, count=2000)
    middle = ids[ids[:, -1] == 255] - np.arange(64)                                  # how far each position was moved, at t = 4
    between = middle[(middle > 0) & (middle < 192)]
    assert np.abs(np.histogram(between, bins=4, range=(0, 192))[0] / len(between) - 0.25).max() < 0.04


@pytest.mark.parametrize("pos, message", [(np.arange(7), "7 positions are not a multiple of original_length 8"),
                                          (np.arange(12), "12 positions are not a multiple"),
                                          (np.arange(8) + 1, "positions 1 to 8 in a pass of 8")])
def test_ids_refused(pos, message):
    with pytest.raises(ValueError, match=message):
        Clex(4, 8).training_ids(jax.random.key(0), pos)
    with pytest.raises(ValueError, match="8 positions cannot be laid out in 9 chunks"):
        Clex(4, 8, chunks=9).training_ids(jax.random.key(0), np.arange(8))


@pytest.mark.parametrize("change, message", [(dict(step=0.3), "step must divide 1, as 0.1 or 0.25 do, got 0.3"), (dict(step=2.0), "got 2.0"),
                                             (dict(chunks=1), "chunks must be a whole number >= 2, got 1"),
                                             (dict(activation="relu"), "unknown clex activation 'relu': choose one of tanh, silu"),
                                             (dict(factor=2.5), "factor must be a whole number >= 1, got 2.5")])
def test_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Clex(**change)
