"""ALiBi: attention with linear biases.  Press, Smith, Lewis, arXiv 2108.12409.

    score(i, j) += -m_h |i - j|

No embedding and no rotation: each head is told, with its own slope m_h, how much a token should cost per step of distance. Steep
heads read the last few tokens, shallow ones look back further; nothing has a range to run out of, which is why loss stays flat past
the training length. The price is the same fact: far tokens are out of reach (with m = 1/4 a key 60 back weighs e^-15).

Cost: nothing learned, O(1) per score. Keep scores float32: in bfloat16 a large m |i - j| swallows the content part.
"""
import math

import numpy as np

from lcref.ops.bias.distance import distance, per_head


def slopes(heads, max_bias=8.0):
    """m_h, a numpy float32 [H]: for H a power of two the geometric row r, r^2, ..., r^H with r = 2^(-max_bias/H).

    Otherwise, with c the power of two below H: slopes(c), then every second entry of slopes(2c) until H are found. The order is
    the authors': the extra heads come last, so the list is not sorted. ValueError if heads < 1.
    """
    if heads < 1:
        raise ValueError(f"alibi needs at least one head, got {heads}")
    below = 2 ** int(math.log2(heads))

    def row(n):
        return 2.0 ** (-max_bias * np.arange(1, n + 1) / n)
    return np.concatenate([row(below), row(2 * below)[0::2][:heads - below]]).astype(np.float32)


def bias(q_pos, k_pos, slopes):
    """-m_h |i - j|.  q_pos [T], k_pos [S], slopes [H] -> f32[H,T,S];  batched positions -> f32[B,H,T,S].

    |i - j| rather than i - j, so that without a causal mask the future is not rewarded; under one they are the same.
    """
    delta, m = per_head(abs(distance(q_pos, k_pos)), slopes)
    return -m * delta
