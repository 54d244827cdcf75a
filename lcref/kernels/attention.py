"""The only door to attention: one call, several implementations with the same values.

    dot_product_attention(q, k, v, mask=causal())                                    picks by size
    dot_product_attention(q, k, v, mask=causal(), implementation="chunked")          exactly this one, or an error that says why not

dense     the T x S matrix at once: fastest while it is small (decoding, short sequences)
chunked   tiles and an online softmax: O(T + S) memory, skips what the mask hides
"""
import jax.numpy as jnp
import numpy as np

from lcref.ops import masks
from lcref.ops.attention import attend, attend_chunked_lse, attention_scores, check
from lcref.ops.bias.alibi import bias as alibi_bias
from lcref.ops.weights import softmax

SMALL = 2**14                                              # T * S up to which one product beats a loop over tiles


def dense(q, k, v, *, return_lse=False, **kwargs):
    out = attend(q, k, v, **kwargs)
    if not return_lse:
        return out
    weights = kwargs.get("weights", softmax)
    return out, weights.lse(*attention_scores(q, k, **kwargs))


def chunked(q, k, v, *, return_lse=False, **kwargs):
    block = 128 if k.shape[1] <= 1024 else 512             # small tiles skip more of a short causal square, large ones loop less
    out, lse = attend_chunked_lse(q, k, v, block_q=block, block_k=block, **kwargs)
    return (out, lse) if return_lse else out


IMPLEMENTATIONS = {"dense": dense, "chunked": chunked}


def dot_product_attention(q, k, v, *, mask=None, bias=None, slopes=None, scale=None, soft_cap=None, segments=None, weights=softmax,
                          q_pos=None, k_pos=None, return_lse=False, implementation=None):
    """q [B,T,H,K], k [B,S,G,K], v [B,S,G,V] -> [B,T,H,V], and the rows' log-sum-exp [B,H,T] with return_lse.

    Arguments as in lcref.ops.attention; `slopes` [H] adds ALiBi, `segments` (ids [B,T], or a pair of ids for q and k) adds the packed
    documents' mask. Raises KeyError on an unknown implementation, ValueError on shapes that do not fit.
    """
    check(q, k, v)
    if implementation is not None and implementation not in IMPLEMENTATIONS:
        raise KeyError(f"unknown implementation {implementation!r}; there are {', '.join(IMPLEMENTATIONS)}")
    if segments is not None:
        segments = segments if isinstance(segments, tuple) else (segments, segments)
        for ids, pos, length, of in zip(segments, (q_pos, k_pos), (q.shape[1], k.shape[1]), ("queries", "keys")):
            if pos is None and np.shape(ids)[-1:] != (length,) or np.shape(ids)[:-1] not in ((), (1,), q.shape[:1]):
                raise ValueError(f"segments {np.shape(ids)} do not fit {length} {of} in {q.shape[0]} rows")
        same = masks.segments(*segments)
        mask = same if mask is None else mask & same
    if slopes is not None:
        slopes, given = jnp.asarray(slopes), bias
        if slopes.shape != q.shape[2:3]:
            raise ValueError(f"slopes takes one number per query head, {q.shape[2]} in all; got shape {slopes.shape}")
        linear = lambda q_pos, k_pos: alibi_bias(q_pos, k_pos, slopes)
        if given is not None and not callable(given):
            raise ValueError("slopes and a bias array cannot be combined; add the slopes to the array or pass the bias as a function")
        bias = linear if given is None else lambda q_pos, k_pos: linear(q_pos, k_pos) + given(q_pos, k_pos)
    name = implementation or ("dense" if q.shape[1] * k.shape[1] <= SMALL else "chunked")
    return IMPLEMENTATIONS[name](q, k, v, mask=mask, bias=bias, scale=scale, soft_cap=soft_cap, weights=weights, q_pos=q_pos, k_pos=k_pos,
                                 return_lse=return_lse)
