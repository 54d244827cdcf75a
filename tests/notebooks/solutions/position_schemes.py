"""Answers to notebook 02."""
import math

import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops import rope
from lcref.ops.bias import alibi, t5


def planes(q, k, distance, sign=1.0, phase=True, halves=True):
    K = len(q)
    a, b = (np.asarray(x, np.float64).reshape(2, K // 2) if halves else np.asarray(x, np.float64).reshape(K // 2, 2).T for x in (q, k))
    angle = distance * 10_000.0 ** (-2 * np.arange(K // 2) / K)
    dot, cross = (a * b).sum(0), a[0] * b[1] - a[1] * b[0]
    return float((dot * np.cos(angle) + sign * phase * cross * np.sin(angle)).sum())


def by_complex_numbers(q, k, distance):
    K = len(q)
    a, b = (x[:K // 2] + 1j * x[K // 2:] for x in (q, k))
    return (a * np.conj(b) * np.exp(1j * distance * 10_000.0 ** (-np.arange(K // 2) / (K / 2)))).sum().real


def by_rotation(q, k, distance):
    q, k = (jnp.asarray(x)[None, None, None] for x in (q, k))
    turned = (rope.rotate(x, np.asarray([p]), rope.inv_freq(q.shape[-1])) for x, p in ((q, 1000 + distance), (k, 1000)))
    return jnp.vdot(*turned)


def logarithm(distance, buckets, max_distance):
    e = buckets // 2
    if distance < e:
        return distance
    return min(buckets - 1, e + int(math.log(distance / e) / math.log(max_distance / e) * (buckets - e)))


def by_edges(distance, buckets, max_distance):
    e = buckets // 2
    edges = [*range(e), *(e * (max_distance / e) ** (i / (buckets - e)) for i in range(buckets - e))]
    return sum(edge <= distance for edge in edges) - 1


def summed(slope, trained, n):
    weight = jax.nn.softmax(-slope * jnp.arange(n))
    return weight[trained:].sum()


RIGHT = {
    "rope_score": [planes, by_complex_numbers, by_rotation],
    "bucket": [
        logarithm,
        by_edges,
        lambda distance, buckets, furthest: t5.bucket_table(buckets, furthest)[min(distance, furthest)],
    ],
    "alibi_beyond": [
        lambda slope, trained, n: (math.exp(-slope * trained) - math.exp(-slope * n)) / (1 - math.exp(-slope * n)),
        summed,
        lambda slope, trained, n: jax.nn.softmax(alibi.bias(np.asarray([n - 1]), np.arange(n), np.asarray([slope]))[0, 0])[:n - trained].sum(),
    ],
}
WRONG = {
    "rope_score": [
        lambda q, k, distance: None,
        lambda q, k, distance: planes(q, k, distance, sign=-1.0),
        lambda q, k, distance: planes(q, k, distance, phase=False),
        lambda q, k, distance: planes(q, k, distance, halves=False),
        lambda q, k, distance: planes(q, k, distance) / math.sqrt(len(q)),
    ],
    "bucket": [
        lambda distance, buckets, max_distance: None,
        lambda distance, buckets, max_distance: min(distance, buckets - 1),
        lambda distance, buckets, max_distance: logarithm(distance, buckets, max_distance) if distance < max_distance else buckets,
        lambda distance, buckets, max_distance: min(buckets - 1, distance * buckets // max_distance),
    ],
    "alibi_beyond": [
        lambda slope, trained, n: None,
        lambda slope, trained, n: (n - trained) / n,
        lambda slope, trained, n: math.exp(-slope * trained),
        lambda slope, trained, n: 1 - summed(slope, trained, n),
    ],
}
