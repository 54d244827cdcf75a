"""Answers to notebook 06."""
import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops.weights import Lssar


def safe(scores, p):
    F = np.maximum(scores, 0) + np.log1p(np.exp(-np.abs(scores)))
    x = np.maximum(F - F.mean(), 0)
    if not x.any():
        return x
    x = (x / x.max()) ** p
    return x / x.sum()


def ours(scores, p):
    n = jnp.asarray([len(scores)])
    return Lssar(p)(jnp.asarray(scores)[None] / jnp.log(float(len(scores))), n)[0]


def logarithms(scores, p):
    F = jax.nn.softplus(jnp.asarray(scores))
    x = jnp.maximum(F - F.mean(), 0)
    return jnp.where(x > 0, jax.nn.softmax(p * jnp.log(x)), 0.0)


def as_written(softplus):
    def answer(scores, p):
        F = softplus(scores)
        A = F / F.sum()
        B = np.maximum(A * np.float32(len(scores)) - 1, 0) ** p
        return B / (B.sum() + np.float32(1e-8))
    return answer


def no_mean(scores, p):
    F = np.logaddexp(0, scores)
    return (F / F.max()) ** p / ((F / F.max()) ** p).sum()


RIGHT = {
    "effective": [
        lambda w: np.exp(-np.sum(np.where(w > 0, w * np.log(np.where(w > 0, w, 1)), 0), axis=1)),
        lambda w: [1 / np.prod([p**p for p in row]) for row in w],
        lambda w: jnp.exp(jax.scipy.special.entr(jnp.asarray(w)).sum(-1)),
    ],
    "reweighted": [safe, ours, logarithms],
    "crossing": [lambda cosine, K: np.exp(K * cosine**2 / 2), lambda cosine, K: float(np.exp((np.sqrt(K) * cosine) ** 2 / 2))],
}
WRONG = {
    "effective": [
        lambda w: None,
        lambda w: np.exp(-np.sum(w * np.log(w), axis=1)),
        lambda w: -np.sum(np.where(w > 0, w * np.log(np.where(w > 0, w, 1)), 0), axis=1),
        lambda w: (w > 0).sum(1),
    ],
    "reweighted": [
        lambda scores, p: None,
        as_written(lambda s: np.log(1 + np.exp(s))),
        as_written(lambda s: np.logaddexp(np.float32(0), s)),
        no_mean,
        lambda scores, p: safe(scores, 3),
    ],
    "crossing": [
        lambda cosine, K: None,
        lambda cosine, K: K * cosine**2 / 2,
        lambda cosine, K: np.exp(cosine**2 / (2 * K)),
        lambda cosine, K: np.exp(K * cosine**2),
    ],
}
