"""Answers to notebook 04."""
import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops.rope_scaling import Clex


def curve(k, head_dim, t, a):
    return -2 * k / (head_dim - 2) * jnp.log(a * t - (a - 1))


def simulated(n, t, draws=2000):
    rng, gaps = np.random.default_rng(1), []
    for _ in range(draws):
        between = 1 + rng.permutation(n * t - 2)[:n - 2]
        gaps.append(np.diff(np.sort([0, *between, n * t - 1])))
    return (np.stack(gaps) == 1).mean()


def one_gap(rng, n, t, chunks):
    ids, cut = np.arange(n), rng.integers(1, n)
    ids[cut:] += n * (t - 1)
    return ids


def many_gaps(rng, n, t, chunks):
    cuts = np.sort(rng.choice(n - 1, chunks - 1, replace=False)) + 1
    skips = np.sort(rng.integers(0, n * (t - 1) + 1, chunks - 1))
    skips[-1] = n * (t - 1)
    return [int(i + sum(skips[cuts <= i][-1:])) for i in range(n)]


def ours(rng, n, t, chunks):
    return Clex(16, n, chunks).chunked(jax.random.key(int(rng.integers(2**31))), n, jnp.int32(t))


def scattered(rng, n, t, chunks):
    return np.sort([0, *(1 + rng.permutation(n * t - 2)[:n - 2]), n * t - 1])


RIGHT = {
    "velocity": [
        lambda k, head_dim, t, a: -2 * k / (head_dim - 2) * a / (a * t - a + 1),
        lambda k, head_dim, t, a: jax.grad(lambda time: curve(k, head_dim, time, a))(t),
        lambda k, head_dim, t, a: float(curve(k, head_dim, t + 2e-2, a) - curve(k, head_dim, t - 2e-2, a)) / 4e-2,
    ],
    "neighbours": [lambda n, t: (n - 2) / (n * t - 2), simulated],
    "chunked": [one_gap, many_gaps, ours],
}
WRONG = {
    "velocity": [
        lambda k, head_dim, t, a: None,
        lambda k, head_dim, t, a: -2 * k / (head_dim - 2) / (a * t - a + 1),
        lambda k, head_dim, t, a: -2 * k / head_dim * a / (a * t - a + 1),
        lambda k, head_dim, t, a: 2 * k / (head_dim - 2) * a / (a * t - a + 1),
        curve,
    ],
    "neighbours": [lambda n, t: None, lambda n, t: 1 / t, lambda n, t: (n - 2) / (n - 1), lambda n, t: n / (n * t - 1)],
    "chunked": [
        lambda rng, n, t, chunks: None,
        scattered,
        lambda rng, n, t, chunks: np.arange(n) * t,
        lambda rng, n, t, chunks: np.arange(n) + (np.arange(n) >= n // 2) * n * (t - 1),
        lambda rng, n, t, chunks: np.arange(n) + (np.arange(n) >= rng.integers(1, n)) * n * t,
        lambda rng, n, t, chunks: one_gap(rng, n, t, chunks)[1:],
    ],
}
