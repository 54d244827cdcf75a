"""From scores to weights: what turns a row of logits into a distribution over the visible keys.

    softmax     w = softmax(s)                                  the default
    log_n       w = softmax(s * ln n / ln reference)            Chiang & Cholak, arXiv 2202.12172; Su's log-length scaling
    tempered    w = softmax(s * (1 + tau ln n))                 Awasthi & Gupta, arXiv 2310.00726 (form as in the authors' later code)
    ssmax       w = softmax(s * tau ln n)                       Scalable-Softmax, arXiv 2501.19399
    temp_scale  w = softmax(s / tau), tau < 1 after training    TempScale, arXiv 2410.24200
    cosine      w = softmax(ln K ln n cos(q, k))                what LSSA is without its softplus: the control
    lssa        w = F / sum F,  F = softplus(ln K ln n cos(q, k))              length-scaled softplus attention, arXiv 2501.13428
    lssar       w = x^p / sum x^p,  x = relu(F - mean F)        the same, re-weighted: only keys above the row's mean count

n is the number of keys that the mask lets a row see, itself included: t + 1 under a causal mask, the in-document count in packed rows, and the
same in decoding as in training, because it never depends on how many queries are computed at once. What a bias of -inf hides from one head
(Hard-ALiBi) is not taken off n, nor out of a row's mean. Why ln n: the weight of one key
that leads by delta among n is 1 / (1 + (n - 1) exp(-c delta)); to keep it fixed while n grows, the scale c must grow like ln n.
Softplus is linear, not exponential, in large scores, so that it cannot overflow as exp does; but a key of cosine 0 still has ln 2 where the best has
ln K ln n, and n such weights add up. Re-weighting takes that floor away: what is left are the few keys that stand out, however long the row.

A weights value is a frozen dataclass and a pytree: static fields are constants, array leaves (tau) are what a layer learns.
    weights.prepared(q, k)     queries and keys before their product: as they are, or of length 1
    weights.scale(K)           what the product is multiplied by where the caller names no scale
    weights.factor(n)          the number a row's scores are multiplied by before anything else, or None for 1 (then n is never counted);
                               that includes a bias, which is part of the scores
    weights(scores, n)         scores [..., T, S] (-inf = hidden), n [..., T] -> weights; a row with no visible key gets zeros
    weights.lse(scores, n)     log of what the weights were divided by, [..., T]: merges softmax attention over separate sets of keys, the other
                               weights where n counts the keys of all sets, and never lssar, whose mean needs them together
"""
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from lcref.ops.masks import static


def weights_type(cls):
    """Frozen dataclass, compared by value (it stands in configs), and a pytree."""
    return jax.tree_util.register_dataclass(dataclass(frozen=True)(cls))


class Weights:
    """Softmax of scaled scores; subclasses give `factor`."""

    def prepared(self, q, k):
        return q, k

    def scale(self, K):
        return K**-0.5

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
        if not 1 < self.reference < math.inf:
            raise ValueError(f"log_n needs a reference length above 1, got {self.reference}")

    def factor(self, n):
        return ln(n) / jnp.log(jnp.float32(self.reference))


@weights_type
class Tempered(Weights):
    """1 + tau ln n with tau learned, one scalar per layer.

    Deviation: n is the row's number of visible keys, not the number of queries in the call, so that decoding equals the whole pass.
    Deviation: tau starts at 0 (plain softmax); the published code draws it from N(0, 0.02).
    """
    tau: jax.Array | float = 0.0

    def factor(self, n):
        return 1.0 + self.tau * ln(n)


@weights_type
class SSMax(Weights):
    """tau ln n with tau learned, one scalar per layer. Deviation: the paper learns one per head as well."""
    tau: jax.Array | float = 0.43                              # 1 / ln 10: begins as plain softmax where a row sees 10 keys

    def factor(self, n):
        return self.tau * ln(n)


@weights_type
class TempScale(Weights):
    """1 / tau for every row, tau a constant that is chosen after training: below 1 sharpens what length has flattened."""
    tau: float = static(default=1.0)

    def __post_init__(self):
        if not 0 < self.tau < math.inf:
            raise ValueError(f"temp_scale needs a temperature above 0, got {self.tau}")

    def factor(self, n):
        return jnp.full(jnp.shape(n), 1.0 / self.tau, jnp.float32)


# --------------------------------------------------------------------------------- cosines of queries and keys, scaled by ln K ln n

def ln(n):
    return jnp.log(jnp.maximum(n, 1).astype(jnp.float32))


def unit(x):
    """Vectors of length 1 along the last axis, in x's dtype; 1e-12 below the root keeps a zero vector, and its gradient, finite.

    In bfloat16 their rounding is multiplied by ln K ln n, and in lssar by the power as well: outputs stray further from float32's than softmax's do.
    """
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.sum(y * y, axis=-1, keepdims=True) + 1e-12)).astype(x.dtype)


@weights_type
class Cosine(Weights):
    """Softmax of ln K ln n cos(q, k). K is the width of a head; a row that sees one key has ln n = 0 and gives it weight 1."""

    def prepared(self, q, k):
        return unit(q), unit(k)

    def scale(self, K):
        return math.log(K)

    def factor(self, n):
        return ln(n)


@jax.custom_jvp
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + z), z = e^-|x|, to float32's precision at any x; of -inf 0.

    log(1 + z) = 2 artanh(t) = 2 (t + t^3 / 3 + t^5 / 5 + ...), t = z / (2 + z), at most 1/3: the series ends at t^15. There are T x S of
    these, and on a CPU jax.nn.softplus takes several times as long, for its log1p.
    """
    z = jnp.exp(-jnp.abs(x))
    t = z / (2.0 + z)
    square, series = t * t, 1 / 15
    for odd in (13, 11, 9, 7, 5, 3, 1):
        series = series * square + 1 / odd
    return jnp.maximum(x, 0.0) + 2.0 * t * series


@softplus.defjvp
def softplus_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return softplus(x), jax.nn.sigmoid(x) * dx


NOISE = 1e-5                                                   # a key that exceeds the mean by less than this share of it does not stand out


@weights_type
class Lssa(Cosine):
    """Softplus of the scores over their sum."""

    power = 1                                                  # of what stands above the mean
    centred = False                                            # is the mean taken away?

    @property
    def exponent(self):
        """The power, as a whole number where it is one: repeated multiplication is quicker than exp(p log x)."""
        return int(self.power) if self.power == int(self.power) else self.power

    def __call__(self, scores, n=None):
        u, total, _ = self.powers(scores, n)
        return u / jnp.where(total == 0, 1.0, total)

    def lse(self, scores, n=None):
        _, total, top = self.powers(scores, n)
        none = total == 0
        return jnp.where(none, -jnp.inf, jnp.log(jnp.where(none, 1.0, total)) + self.power * jnp.log(jnp.where(none, 1.0, top)))[..., 0]

    def powers(self, scores, n):
        """(x / top)^power, its row sums, and top, the row's largest x. Dividing first, no power can overflow or lose the whole row."""
        scores = self.scaled(scores, n)
        F = softplus(scores)                                   # of -inf: 0
        x = above(F, self.mean(F.sum(-1), n)[..., None])
        top = jax.lax.stop_gradient(jnp.max(x, axis=-1, keepdims=True))
        u = (x / jnp.where(top == 0, 1.0, top)) ** self.exponent
        return u, u.sum(-1, keepdims=True), top

    def mean(self, total, n):
        """What a row's softplus scores have to exceed: their mean; 0 in rows of up to 3 keys, and without re-weighting."""
        return jnp.where(n > 3, total / jnp.maximum(n, 1).astype(jnp.float32), 0.0) if self.centred else jnp.zeros_like(total)


def above(F, mean):
    """relu(F - mean), and 0 for what is rounding: where all keys are equal none stands out. NaN stays NaN."""
    return jnp.where(F - mean <= NOISE * mean, 0.0, F - mean)


@weights_type
class Lssar(Lssa):
    """Re-weighted: relu(F - mean F)^power over its sum, the mean over the n keys. A row none of whose keys stands out gets zeros.

    This is the paper's relu(A n - 1)^p, normalised, A = F / sum F: n and the first sum cancel. Trained and read with the same power or with
    another (`Run.read`): the paper recommends 15 beyond the trained length, 3 within it. Learned last, by a model trained with `cosine`, it costs
    less nearby and finds more there than learned from the first step on (experiments/softplus_attention/late.py).
    """
    power: float = static(default=15)

    centred = True

    def __post_init__(self):
        if not 1 <= self.power < math.inf:
            raise ValueError(f"lssar needs a power of 1 or more, got {self.power}")


softmax = Softmax()
WEIGHTS = {"softmax": Softmax, "log_n": LogN, "tempered": Tempered, "ssmax": SSMax, "temp_scale": TempScale, "cosine": Cosine, "lssa": Lssa,
           "lssar": Lssar}
