"""Answers to notebook 01."""
import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops.attention import attend
from lcref.ops.masks import Mask, causal, window


class Dilated(Mask):
    def __init__(self, n, step):
        self.n, self.step = n, step

    def visible(self, q, k):
        return (q >= k) & ((q - k) % self.step == 0) & (q - k < self.n * self.step)


def stable(q, k, v, visible):
    scores = jnp.where(visible, q @ k.T / jnp.sqrt(q.shape[1]), -1e30)
    return jnp.where(visible.any(1, keepdims=True), jax.nn.softmax(scores, axis=1), 0.0) @ v


def overflowing(q, k, v, visible):
    e = np.where(visible, np.exp(q @ k.T / np.sqrt(q.shape[1], dtype=np.float32)), np.float32(0))
    return e / np.maximum(e.sum(1, keepdims=True), np.float32(1e-30)) @ v


def ours(q, k, v, visible):
    return attend(*(jnp.asarray(z)[None, :, None] for z in (q, k, v)), bias=jnp.where(visible, 0.0, -jnp.inf)[None, None])[0, :, 0]


RIGHT = {
    "dilated": [
        Dilated,
        lambda n, step: lambda q, k: np.isin(q[:, None] - k[None, :], np.arange(n) * step),
    ],
    "margin": [
        lambda n, share: np.log(n - 1) + np.log(share / (1 - share)),
        lambda n, share: float(jnp.log((n - 1) / (1 / share - 1))),
    ],
    "attention": [stable, ours],
}
WRONG = {
    "dilated": [
        lambda n, step: None,
        lambda n, step: causal() & window(n),
        lambda n, step: lambda q, k: (q[:, None] - k[None, :]) % step == 0,
        lambda n, step: lambda q, k: np.isin(q[:, None] - k[None, :], np.arange(n) * step).astype(float),
    ],
    "margin": [
        lambda n, share: None,
        lambda n, share: np.log(n) + np.log(share / (1 - share)),
        lambda n, share: np.log(n - 1),
    ],
    "attention": [
        lambda q, k, v, visible: None,
        overflowing,
        lambda q, k, v, visible: stable(q, k, v, np.ones_like(visible)),
        lambda q, k, v, visible: stable(q * np.sqrt(q.shape[1]), k, v, visible),
    ],
}
