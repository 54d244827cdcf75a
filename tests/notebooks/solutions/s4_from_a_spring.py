"""Answers to notebook 08."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import legendre

from lcref.ops.ssm import hippo, s4d
from lcref.ops.ssm.discretize import bilinear, zoh


def by_eigenvalue(period, half_life):
    r = -np.log(2) / half_life + 2j * np.pi / period
    return abs(r) ** 2, -2 * r.real


def formula(period, half_life):
    b = 2 * np.log(2) / half_life
    return [(2 * np.pi / period) ** 2 + b * b / 4, b]


def ours(Lambda, B, C, dt, length):
    return s4d.kernel(s4d.discretized(*(jnp.asarray(z)[None] for z in (Lambda, B, C)), jnp.full(1, dt)), length)[0]


def vandermonde(Lambda, B, C, dt, length, step=lambda z: np.exp(z), times=2):
    Abar = step(dt * Lambda)
    return times * ((C * B * (Abar - 1) / Lambda) @ Abar[:, None] ** np.arange(length)).real


def loop(Lambda, B, C, dt, length):
    x, out = B * (np.exp(dt * Lambda) - 1) / Lambda, []
    for _ in range(length):
        out.append(2 * np.sum(C * x).real)
        x = x * np.exp(dt * Lambda)
    return out


def by_recurrence(u, N, rule=bilinear, step=lambda k, T: 1 / k):
    steps = np.array([step(k, len(u)) for k in range(1, len(u) + 1)])
    Abar, Bbar = (np.asarray(z, np.float64) for z in jax.vmap(partial(rule, *hippo.hippo_legs(N)))(steps))
    x = np.zeros(N)
    for k, now in enumerate(u):
        x = Abar[k] @ x + Bbar[k] * now
    return x


def by_integral(u, N, scale=lambda n: np.sqrt(2 * n + 1)):
    z = (np.arange(len(u)) + 0.5) / len(u)
    return np.array([np.mean(u * scale(n) * legendre.Legendre.basis(n)(2 * z - 1)) for n in range(N)])


RIGHT = {
    "spring": [formula, by_eigenvalue],
    "kernel": [ours, vandermonde, loop],
    "coefficients": [by_recurrence, by_integral, lambda u, N: by_recurrence(u, N, zoh)],
}
WRONG = {
    "spring": [
        lambda period, half_life: None,
        lambda period, half_life: ((2 * np.pi / period) ** 2, 2 * np.log(2) / half_life),           # friction slows the swing
        lambda period, half_life: formula(period, 2 * half_life),
        lambda period, half_life: (1.0, 4.0),
        lambda period, half_life: (1.0, 0.0),
    ],
    "kernel": [
        lambda *a: None,
        lambda *a: vandermonde(*a, times=1),                                                       # one of each pair
        lambda *a: vandermonde(*a, step=lambda z: (1 + z / 2) / (1 - z / 2)),                      # the other rule
        lambda Lambda, B, C, dt, length: ours(Lambda, B, C.conj(), dt, length),
        lambda Lambda, B, C, dt, length: ours(Lambda, B, C, dt, length + 1)[1:],                   # begins with the second term
    ],
    "coefficients": [
        lambda u, N: None,
        lambda u, N: by_integral(u[::-1], N),
        lambda u, N: by_integral(u, N, lambda n: 1.0),
        lambda u, N: by_recurrence(u, N, step=lambda k, T: 1 / T),                                 # S4's own, which forgets
    ],
}
