"""KERPLE: ALiBi with the shape of the decay learned.  Chi, Fan, Ramadge, Rudnicky, arXiv 2205.09921.

    log     score(i, j) += -r1 ln(1 + r2 |i - j|)        r1, r2 > 0        the paper's best: slow, scale-free decay
    power   score(i, j) += -a |i - j|^p                  a > 0, 0 < p <= 2      p = 1 with fixed a is ALiBi

Both are conditionally positive definite kernels of the distance, which is where the family and its limits on the
parameters come from. Under softmax the log form multiplies weights by (1 + r2 |i - j|)^-r1: a power law, where ALiBi's is
exponential, so far tokens fade without vanishing.

Cost: two numbers per head, each layer its own; one logarithm per score.
"""
import jax.numpy as jnp

from lcref.ops.bias.distance import distance, per_head


def log(q_pos, k_pos, r1, r2):
    """-r1 ln(1 + r2 |i - j|).  q_pos [T], k_pos [S], r1, r2 [H] positive -> f32[H,T,S];  batched positions -> f32[B,H,T,S]."""
    delta, r1, r2 = per_head(abs(distance(q_pos, k_pos)), r1, r2)
    return -r1 * jnp.log1p(r2 * delta)


def power(q_pos, k_pos, a, p):
    """-a |i - j|^p.  q_pos [T], k_pos [S], a, p [H] positive, p <= 2 -> f32[H,T,S];  batched positions -> f32[B,H,T,S]."""
    delta, a, p = per_head(abs(distance(q_pos, k_pos)), a, p)
    far = delta > 0
    # |i - j|^p as exp(p ln): the inner where keeps ln 0 out of the gradient, the outer one makes distance 0 exactly 0
    return jnp.where(far, -a * jnp.exp(p * jnp.log(jnp.where(far, delta, 1.0))), 0.0)
