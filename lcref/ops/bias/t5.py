"""T5's relative bias: one learned number per head and distance bucket.  Raffel et al., arXiv 1910.10683.

    score(i, j) += table[bucket(i - j), h]

The first half of the buckets hold one distance each (0, 1, 2, ...), the second half grow geometrically up to max_distance, and the
last one takes everything beyond. So near distances are exact, far ones are just "far", and no distance is unknown: a longer text
puts more keys in the last bucket, it does not open a new one.

Deviation: T5 itself has no 1/sqrt(K) in its attention (its initialisation absorbs it); here the bias is added to scores that were
scaled as usual, so pretrained T5 tables need scale=1.

Cost: buckets * H parameters, one table look-up per score; float distances are floored to whole ones first.
"""
import functools
import math

import jax.numpy as jnp
import numpy as np

from lcref.ops.bias.distance import distance


@functools.lru_cache
def bucket_table(buckets=32, max_distance=128, bidirectional=False):
    """bucket of distance m = 0..max_distance, numpy int32 [max_distance + 1]; further away is like max_distance.

        m < e:  m          m >= e:  min(buckets - 1, e + floor(ln(m/e) / ln(max_distance/e) * (buckets - e))),   e = buckets/2
    Made on the host, once, in float64: many edges are exact powers (16, 32, 64 with 16 buckets up to 128), where a float32
    logarithm inside a compiled program may land on either side. The tiny nudge keeps such edges in the upper bucket, as in T5.
    Bidirectional: half of the buckets for each direction. ValueError without 2 buckets a direction and room for a log part.
    """
    n = buckets // 2 if bidirectional else buckets
    e = n // 2
    if e < 1 or max_distance <= e:
        fewest = 4 if bidirectional else 2
        raise ValueError(f"t5 buckets {buckets}, max_distance {max_distance}: need {fewest} buckets and a max_distance over {e}")
    m = np.arange(max_distance + 1)
    log = np.log(np.maximum(m, e) / e) / math.log(max_distance / e)
    return np.where(m < e, m, np.minimum(n - 1, e + np.floor(log * (n - e) + 1e-9))).astype(np.int32)


def bias(q_pos, k_pos, table, *, max_distance=128, bidirectional=False):
    """table[bucket(i - j), h].  q_pos [T], k_pos [S], table [buckets, H] -> f32[H,T,S];  batched positions -> f32[B,H,T,S].

    Causal: keys in the future share bucket 0 with the query itself, and are for the mask to hide. Bidirectional: the second half
    of the table serves them.
    """
    buckets = table.shape[0]
    by_distance = bucket_table(buckets, max_distance, bidirectional)
    delta = jnp.floor(distance(q_pos, k_pos)).astype(jnp.int32)
    if bidirectional:
        index = jnp.asarray(by_distance)[jnp.minimum(abs(delta), max_distance)] + jnp.where(delta < 0, buckets // 2, 0)
    else:
        index = jnp.asarray(by_distance)[jnp.clip(delta, 0, max_distance)]
    return jnp.moveaxis(table.astype(jnp.float32)[index], -1, -3)
