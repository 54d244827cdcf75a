"""From scores to weights: what turns a row of logits into a distribution over the visible keys.

    softmax     w = softmax(s)                                  the default
    log_n       w = softmax(s * ln n / ln reference)            Chiang & Cholak, arXiv 2202.12172; Su's log-length scaling
    tempered    w = softmax(s * (1 + tau ln n))                 Awasthi & Gupta, arXiv 2310.00726 (form as in the authors' later code)

n is the number of keys the row may see, itself included: t + 1 under a causal mask, the in-document count in packed rows, and the
same in decoding as in training, because it never depends on how many queries are computed at once. Why ln n: the weight of one key
that leads by delta among n is 1 / (1 + (n - 1) exp(-c delta)); to keep it fixed while n grows, the scale c must grow like ln n.

A weights value is a frozen dataclass and a pytree: static fields are constants, array leaves (tau) are what a layer learns.
    weights.factor(n)          the number a row's scores are multiplied by before softmax, or None for 1 (then n is never counted)
    weights(scores, n)         scores [..., T, S] (-inf = hidden), n [..., T] -> weights; a row with no visible key gets zeros
"""
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from lcref.ops.masks import static


def weights_type(cls):
    """Frozen dataclass, compared by value (it stands in configs), and a pytree."""
    return jax.tree_util.register_dataclass(dataclass(frozen=True)(cls))


class Weights:
    """Softmax of scaled scores; subclasses give `factor`."""

    def factor(self, n):
        return None

    def scaled(self, scores, n):
        scores, factor = scores.astype(jnp.float32), self.factor(n)
        if factor is None:
            return scores
        hidden = jnp.isneginf(scores)                                    # never multiply -inf: its gradient would be NaN
        return jnp.where(hidden, -jnp.inf, jnp.where(hidden, 0.0, scores) * factor[..., None])

    def exponentials(self, scores, n):
        """exp(scaled score - top), their row sums, and top [..., T, 1]: the row's maximum, or 0 where every key is hidden."""
        scores = self.scaled(scores, n)
        top = jnp.max(scores, axis=-1, keepdims=True)
        top = jax.lax.stop_gradient(jnp.where(jnp.isneginf(top), 0.0, top))      # a hidden row: exp(-inf - 0) = 0, not NaN
        e = jnp.exp(scores - top)
        return e, e.sum(-1, keepdims=True), top

    def __call__(self, scores, n=None):
        e, total, _ = self.exponentials(scores, n)
        return e / jnp.where(total == 0, 1.0, total)

    def lse(self, scores, n=None):
        """log sum_s exp(scaled score) per row, -inf where nothing is visible (and no gradient there: logsumexp would give NaN)."""
        _, total, top = self.exponentials(scores, n)
        return jnp.where(total == 0, -jnp.inf, top + jnp.log(jnp.where(total == 0, 1.0, total)))[..., 0]


@weights_type
class Softmax(Weights):
    pass


@weights_type
class LogN(Weights):
    """ln n / ln reference: 1 at n = reference (choose the training length), below 1 before it, above 1 after it."""
    reference: float = static(default=512.0)

    def __post_init__(self):
        if not self.reference > 1:
            raise ValueError(f"log_n needs a reference length above 1, got {self.reference}")

    def factor(self, n):
        return jnp.log(jnp.maximum(n, 1).astype(jnp.float32)) / jnp.log(jnp.float32(self.reference))


@weights_type
class Tempered(Weights):
    """1 + tau ln n with tau learned, one scalar per layer.

    Deviation: n is the row's number of visible keys, not the number of queries in the call, so that decoding equals the whole pass.
    Deviation: tau starts at 0 (plain softmax); the published code draws it from N(0, 0.02).
    """
    tau: jax.Array | float = 0.0

    def factor(self, n):
        return 1.0 + self.tau * jnp.log(jnp.maximum(n, 1).astype(jnp.float32))


softmax = Softmax()
WEIGHTS = {"softmax": Softmax, "log_n": LogN, "tempered": Tempered}
