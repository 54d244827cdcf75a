"""Hard-ALiBi: some heads see only the last few tokens, the rest have no position at all.  Jelassi et al., arXiv 2402.01032.

    head h with window w_h:   0 <= i - j < w_h  visible,  everything else -inf        (w_h = 1 sees only itself)
    the other heads:          0: plain NoPE under the causal mask

Why it copies far past its training length: windows 1..m let a first layer gather the last m tokens, an n-gram, at every place.
A NoPE head of the next layer finds where that n-gram stood before and reads the token after it. Neither step knows the length.
It works while n-grams are unique, so the windows must be long enough for the text: with A letters, A^m well above length^2.

Cost: nothing learned, O(1) per score; hidden pairs are still computed (a mask per head could skip them).
"""
import jax.numpy as jnp
import numpy as np

from lcref.ops.bias.distance import distance, per_head


def windows(heads, windowed=None):
    """One window per head, 0 = no window: (1, 2, ..., windowed, 0, ..., 0). Default: half the heads, as published (8 of 16).

    ValueError unless 0 <= windowed <= heads.
    """
    windowed = heads // 2 if windowed is None else windowed
    if not 0 <= windowed <= heads:
        raise ValueError(f"{windowed} windowed heads of {heads}: choose 0 to {heads}")
    return tuple(range(1, windowed + 1)) + (0,) * (heads - windowed)


def bias(q_pos, k_pos, windows):
    """0 where visible, -inf where hidden.  windows: H integers, 0 = no window -> f32[H,T,S] or, batched, f32[B,H,T,S].

    A windowed head hides the future too; a head without a window leaves that to the mask.
    """
    delta, w = per_head(distance(q_pos, k_pos), np.asarray(windows))
    visible = (w == 0) | ((delta >= 0) & (delta < w))
    return jnp.where(visible, 0.0, -jnp.inf)
