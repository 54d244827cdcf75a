"""Answers to notebook 10."""
from statistics import NormalDist

import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm


# ------------------------------------------------------------------------------------------------------------------------------ capacity

def counted(P, N, share):
    """One pair after another until too few are read right, in steps of 1 % where there are many."""
    T = 2
    while NormalDist().cdf((N / (T - 1)) ** 0.5) >= share:
        T += max(1, T // 2000)
    return T - 1


# ---------------------------------------------------------------------------------------------------------------------------- norm_after

def summed(T, alpha, size, alike):
    total = 0.0
    for _ in range(T):
        total = alpha * total + size if alike else (alpha**2 * total**2 + size**2) ** 0.5
    return total


def geometric(T, alpha, size, alike):
    ratio = alpha if alike else alpha**2
    total = T if ratio == 1 else (1 - ratio**T) / (1 - ratio)
    return size * (total if alike else np.sqrt(total))


def settled(T, alpha, size, alike):
    return size * T if alpha == 1 else size / (1 - alpha) if alike else size / np.sqrt(1 - alpha**2)


# --------------------------------------------------------------------------------------------------------------------------------- decay

def searched(N, d, share):
    q = jnp.linspace(0, 1, 20_001)[:-1]
    right = norm.cdf(jnp.sqrt(N * q**d / (1 / (1 - q) - q**d)))
    return float(jnp.sqrt(q[jnp.argmax(right)]))


RIGHT = {
    "capacity": [lambda P, N, share: 1 + N / NormalDist().inv_cdf(share) ** 2, lambda P, N, share: 1 + int(N / float(norm.ppf(share)) ** 2), counted],
    "norm_after": [summed, geometric],
    "decay": [lambda N, d, share: (d / (d + 1)) ** 0.5, lambda N, d, share: np.exp(-1 / (2 * d)), searched],
}
WRONG = {
    "capacity": [
        lambda P, N, share: None,
        lambda P, N, share: N,
        lambda P, N, share: P * N / NormalDist().inv_cdf(share) ** 2,
        lambda P, N, share: N / NormalDist().inv_cdf(share),
        lambda P, N, share: N * NormalDist().inv_cdf(share) ** 2,
    ],
    "norm_after": [
        lambda T, alpha, size, alike: None,
        settled,
        lambda T, alpha, size, alike: geometric(T, alpha, size, True),
        lambda T, alpha, size, alike: geometric(T, alpha, size, False),
        lambda T, alpha, size, alike: size * np.sqrt(T),
    ],
    "decay": [
        lambda N, d, share: None,
        lambda N, d, share: 1.0,
        lambda N, d, share: np.exp(-1 / d),
        lambda N, d, share: 0.99,
        lambda N, d, share: d / (d + 1),
        lambda N, d, share: 2.0 * d,
    ],
}
