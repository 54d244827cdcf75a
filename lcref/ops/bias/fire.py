"""FIRE: a small network of the relative distance, measured as a fraction of how far back a query could look.  arXiv 2310.04418.

    score_h(i, j) += f_h( psi(i - j) / (psi(max(i, L)) + 1e-6) )         psi(x) = ln(|c x| + 1)

The fraction lies in [0, 1] for every causal pair at every length: a longer text asks the network nothing it was not trained on
(progressive interpolation). psi spends the resolution on near distances; L keeps short texts from being stretched over all of
[0, 1], where the same fraction would mean a different distance in every row. f is Linear(1 -> F), ReLU, Linear(F -> H).
c and L are learned, and so is f; the same function expresses T5's, ALiBi's and KERPLE's bias.

Not shift invariant, by design: past L, the score of a pair depends on where the query stands.
Cost: 2F + (F + 1)H + 2 parameters, each layer its own; O(F) work and memory per score, so use it by tiles.
"""
import functools

import jax
import jax.numpy as jnp

from lcref.ops.bias.distance import distance
from lcref.ops.masks import pairs


def fraction(q_pos, k_pos, c, length):
    """psi(i - j) / (psi(max(i, |length|)) + 1e-6), f32 [T,S] or [B,T,S].  c, length: scalars, learned ones included."""
    def psi(x):
        return jnp.log1p(abs(c * x))
    i, _ = pairs(q_pos, k_pos)
    furthest = jnp.maximum(i.astype(jnp.float32), abs(length))
    return psi(distance(q_pos, k_pos).astype(jnp.float32)) / (psi(furthest) + 1e-6)


def bias(q_pos, k_pos, *, c, length, w1, b1, w2, b2):
    """f(fraction).  c, length scalars, w1, b1 [F], w2 [F,H], b2 [H] -> f32[H,T,S];  batched positions -> f32[B,H,T,S]."""
    x = fraction(q_pos, k_pos, c, length)[..., None]
    w1, b1, w2, b2 = (jnp.asarray(v, jnp.float32) for v in (w1, b1, w2, b2))
    # matrix products even for the 1 -> F layer: their gradients are products too, 4x faster on CPU than sums over all pairs.
    # Full precision: a matrix unit would otherwise round the distances to bfloat16.
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    hidden = jax.nn.relu(product("...i,if->...f", x, w1[None]) + b1.reshape((1,) * (x.ndim - 1) + (-1,)))
    out = jnp.moveaxis(product("...f,fh->...h", hidden, w2), -1, -3)
    return out + b2.reshape((1,) * (out.ndim - 3) + (-1, 1, 1))
