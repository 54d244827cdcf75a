"""Answers to notebook 03."""
import math

import jax.numpy as jnp
import numpy as np

from lcref.ops.rope import inv_freq
from lcref.ops.rope_scaling import Ntk


def by_logarithm(head_dim, base, trained):
    if trained < 2 * math.pi:
        return 0
    return min(head_dim // 2, 1 + math.floor(head_dim / 2 * math.log(trained / (2 * math.pi), base)))


def by_root(head_dim, base, factor):
    slowest = base ** (-(head_dim - 2) / head_dim) / factor
    return math.exp(-math.log(slowest) * head_dim / (head_dim - 2))


def largest_distance(theta, trained, factor):
    """The last token's distance is one less than the length."""
    return jnp.where(trained * theta >= 2 * jnp.pi, theta, theta * (trained - 1) / (factor * trained - 1))


RIGHT = {
    "turning": [
        by_logarithm,
        lambda head_dim, base, trained: (2 * np.pi / np.asarray(inv_freq(head_dim, base)) <= trained).sum(),
        lambda head_dim, base, trained: sum(trained * base ** (-2 * k / head_dim) >= 2 * math.pi for k in range(head_dim // 2)),
    ],
    "ntk_base": [
        lambda head_dim, base, factor: base * factor ** (head_dim / (head_dim - 2)),
        by_root,
        lambda head_dim, base, factor: float(Ntk(factor).inv_freq(head_dim, base, 1)[-1]) ** (-head_dim / (head_dim - 2)),
    ],
    "step": [
        lambda theta, trained, factor: np.where(theta * trained / (2 * np.pi) >= 1, theta, theta / factor),
        lambda theta, trained, factor: [t if 2 * math.pi / t <= trained else t / factor for t in theta],
        largest_distance,
    ],
}
WRONG = {
    "turning": [
        lambda head_dim, base, trained: None,
        lambda head_dim, base, trained: int((1 / np.asarray(inv_freq(head_dim, base)) <= trained).sum()),
        lambda head_dim, base, trained: head_dim // 2 - by_logarithm(head_dim, base, trained),
        lambda head_dim, base, trained: by_logarithm(head_dim, base, trained) - 1,
    ],
    "ntk_base": [
        lambda head_dim, base, factor: None,
        lambda head_dim, base, factor: base * factor,
        lambda head_dim, base, factor: base * factor ** ((head_dim - 2) / head_dim),
    ],
    "step": [
        lambda theta, trained, factor: None,
        lambda theta, trained, factor: theta / factor,
        lambda theta, trained, factor: theta,
        lambda theta, trained, factor: np.where(theta * trained >= 1, theta, theta / factor),
        lambda theta, trained, factor: np.where(theta * trained >= 2 * np.pi, theta, 0.0),
        lambda theta, trained, factor: theta[:-1],
        lambda theta, trained, factor: theta * factor ** -np.linspace(0, 1, len(theta)),
    ],
}
