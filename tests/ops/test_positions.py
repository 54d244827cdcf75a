"""Position ids: plain, packed, randomized; and a learned table stretched to more of them."""
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


def test_randomized_ids_do_not_depend_on_padding():
    key = jax.random.key(5)
    draw = jax.jit(lambda length: positions.randomized(key, 30, 64, length))
    for length in (1, 12, 30):
        alone = positions.randomized(key, length, 64)
        np.testing.assert_array_equal(draw(length), np.pad(alone, (0, 30 - length), mode="edge"))


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


# ---------------------------------------------------------------------------------------------------- stretching a learned table

def test_stretched_clip_table():
    # p[i] = i, 77 rows, 20 kept, times 4: 248 rows
    got = np.asarray(positions.stretched(jnp.arange(77.0)[:, None], 4, 20))[:, 0]
    assert len(got) == 248
    np.testing.assert_array_equal(got[:20], np.arange(20))
    np.testing.assert_array_equal(got[20:25], [20, 20.25, 20.5, 20.75, 21])
    np.testing.assert_array_equal(got[-7:], [75.25, 75.5, 75.75, 76, 76.25, 76.5, 76.75])
    np.testing.assert_array_equal(got[20:], 20 + np.arange(228) / 4)


@pytest.mark.parametrize("n, factor, keep", [(10, 3, 4), (5, 2, 0), (6, 4, 5), (2, 3, 1), (7, 1, 3)])
def test_stretched_against_the_published_loops(n, factor, keep):
    table = np.random.default_rng(0).normal(size=(n, 6)).astype(np.float32)
    wanted = list(table[:keep])
    for i in range(keep, n):
        step = table[i + 1] - table[i] if i + 1 < n else table[-1] - table[-2]
        wanted += [table[i] + m / factor * step for m in range(factor)]
    got = positions.stretched(table, factor, keep)
    assert got.shape == (factor * n - (factor - 1) * keep, 6) and got.dtype == jnp.float32
    np.testing.assert_allclose(got, np.stack(wanted), rtol=1e-5, atol=1e-6)
    old = np.concatenate([np.arange(keep), keep + factor * np.arange(n - keep)])
    np.testing.assert_array_equal(np.asarray(got)[old], table)               # the old rows are all still there
    if factor == 1:
        np.testing.assert_array_equal(got, table)


def test_stretched_keeps_the_dtype_and_passes_gradients():
    table = jnp.ones((4, 2), jnp.bfloat16)
    assert positions.stretched(table, 2, 1).dtype == jnp.bfloat16
    grads = jax.grad(lambda t: positions.stretched(t, 2, 1).sum())(jnp.ones((4, 1)))
    np.testing.assert_allclose(grads[:, 0], [1, 1.5, 1.5, 3.0])                # row 2 loses half a row to the line past the end


@pytest.mark.parametrize("n, factor, keep, message", [(4, 2.5, 1, "2.5"), (4, np.inf, 1, "inf"), (4, 0, 1, "0"), (4, 2, 4, "keep 4 rows of a position table of 4"),
                                                      (4, 2, -1, "-1"), (1, 2, 0, "table of 1")])
def test_stretched_refuses(n, factor, keep, message):
    with pytest.raises(ValueError, match=message):
        positions.stretched(np.zeros((n, 3), np.float32), factor, keep)
