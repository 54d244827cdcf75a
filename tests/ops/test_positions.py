"""Position ids: plain, packed, randomized."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops import positions


def test_plain_is_known_inside_jit():
    def f(x):
        assert positions.known(positions.plain(x.shape[0])) is not None
        assert positions.known(x) is None
        return x + positions.plain(x.shape[0])
    np.testing.assert_array_equal(jax.jit(f)(jnp.zeros(4, jnp.int32)), [0, 1, 2, 3])


@pytest.mark.parametrize("segments, wanted", [
    ([[1, 1, 1, 2, 2, 0]], [[0, 1, 2, 0, 1, 0]]),
    ([[5, 5, 5, 5], [1, 2, 3, 3]], [[0, 1, 2, 3], [0, 0, 0, 1]]),
    ([[1, 2, 1, 1]], [[0, 0, 0, 1]]),                # an id that comes back starts a new document
    ([7, 7, 8], [0, 1, 0]),
    ([[3]], [[0]]),
])
def test_packed(segments, wanted):
    for f in (positions.packed, jax.jit(positions.packed)):
        got = f(jnp.asarray(segments, jnp.int32))
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == jnp.int32


def test_packed_against_counting_in_a_loop():
    rng = np.random.default_rng(0)
    segments = np.repeat(rng.integers(0, 3, (4, 12)), rng.integers(1, 6, 12), axis=1)
    wanted = np.zeros_like(segments)
    for b in range(segments.shape[0]):
        for t in range(1, segments.shape[1]):
            wanted[b, t] = wanted[b, t - 1] + 1 if segments[b, t] == segments[b, t - 1] else 0
    np.testing.assert_array_equal(positions.packed(segments), wanted)


@pytest.mark.parametrize("T, max_length", [(1, 1), (1, 2048), (40, 2048), (63, 64)])
def test_randomized_is_strictly_increasing_and_in_range(T, max_length):
    for seed in range(3):
        ids = np.asarray(positions.randomized(jax.random.key(seed), T, max_length))
        assert ids.shape == (T,) and ids.dtype == np.int32
        assert (np.diff(ids) > 0).all() and 0 <= ids[0] and ids[-1] < max_length


def test_randomized_at_max_length_is_plain():
    np.testing.assert_array_equal(positions.randomized(jax.random.key(3), 50, 50), positions.plain(50))


def test_randomized_depends_on_the_key_and_covers_the_range():
    draws = np.asarray(jax.vmap(lambda key: positions.randomized(key, 4, 32))(jax.random.split(jax.random.key(0), 2000)))
    counts = np.bincount(draws.reshape(-1), minlength=32)
    assert (abs(counts / 2000 - 4 / 32) < 0.04).all()        # each id is in a draw with probability T / max_length; 5 standard errors
    # the smallest of 4 out of range(32) has mean (32 + 1)/(4 + 1) - 1 = 5.6, the largest mirrors it
    assert abs(draws[:, 0].mean() - 5.6) < 0.6 and abs(draws[:, -1].mean() - 25.4) < 0.6


@pytest.mark.parametrize("T", [0, 65])
def test_randomized_refuses_what_does_not_fit(T):
    with pytest.raises(ValueError, match=rf"draw {T} distinct positions from range\(64\)"):
        positions.randomized(jax.random.key(0), T, 64)
