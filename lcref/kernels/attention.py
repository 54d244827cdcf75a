"""The only door to attention: one call, several implementations with the same values.

    dot_product_attention(q, k, v, mask=causal())                                    picks by device, capability and size
    dot_product_attention(q, k, v, mask=causal(), implementation="chunked")          exactly this one, or an error that says why not

dense        the T x S matrix at once: fastest while it is small (decoding, short sequences)
chunked      tiles and an online softmax: O(T + S) memory, skips what the mask hides
pallas_tpu   the same as TPU kernels (lcref/kernels/flash_tpu.py, softplus_tpu.py)
pallas_gpu   the same for NVIDIA's GPUs (lcref/kernels/flash_gpu.py); picked in bfloat16 and float16
cudnn        NVIDIA's kernel through jax.nn: bfloat16 or float16, causal and window masks, no log-sum-exp
"""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from lcref.kernels import flash_gpu, flash_tpu
from lcref.kernels.softplus_tpu import softplus_attention
from lcref.ops import masks
from lcref.ops.attention import attend, attend_chunked_lse, attention_scores, check, slots
from lcref.ops.bias.alibi import bias as alibi_bias
from lcref.ops.tiles import heads, sizes
from lcref.ops.weights import Lssa, Softmax, softmax

SMALL = 2**14                                              # T * S up to which one product beats a loop over tiles
SMALL_SINGLE = 2**20                                       # and in float32 on a GPU, where no kernel here is fast
CUDNN_WIDEST = 128                                         # of heads, on GPUs before Hopper as well


def with_slopes(slopes, bias):
    """ALiBi's slopes and a bias function as one bias function."""
    if slopes is None:
        return bias
    linear = lambda q_pos, k_pos: alibi_bias(q_pos, k_pos, slopes)
    return linear if bias is None else lambda q_pos, k_pos: heads(linear(q_pos, k_pos)) + heads(bias(q_pos, k_pos))


def dense(q, k, v, *, return_lse=False, slopes=None, bias=None, **kwargs):
    kwargs["bias"] = with_slopes(slopes, bias)
    out = attend(q, k, v, **kwargs)
    if not return_lse:
        return out
    weights = kwargs.get("weights", softmax)
    return out, weights.lse(*attention_scores(q, k, **kwargs))


def chunked(q, k, v, *, return_lse=False, slopes=None, bias=None, mask=None, q_pos=None, k_pos=None, **kwargs):
    where = dict(mask=mask, q_pos=slots(q_pos, q.shape[1], len(q)), k_pos=slots(k_pos, k.shape[1], len(q)))
    bq, bk = sizes(**where)
    out, lse = attend_chunked_lse(q, k, v, bias=with_slopes(slopes, bias), block_q=bq, block_k=bk, **where, **kwargs)
    return (out, lse) if return_lse else out


def pallas_tpu(q, k, v, *, return_lse=False, weights=softmax, mask=None, slopes=None, scale=None, soft_cap=None, **kwargs):
    run = partial(softplus_attention, weights=weights) if isinstance(weights, Lssa) else flash_tpu.flash_attention
    out, lse = run(q, k, v, mask=mask, slopes=slopes, scale=scale, soft_cap=soft_cap)
    return (out, lse) if return_lse else out


def pallas_gpu(q, k, v, *, return_lse=False, mask=None, slopes=None, scale=None, soft_cap=None, **kwargs):
    out, lse = flash_gpu.flash_attention(q, k, v, mask=mask, slopes=slopes, scale=scale, soft_cap=soft_cap)
    return (out, lse) if return_lse else out


def cudnn(q, k, v, *, mask=None, scale=None, **kwargs):
    n = causal_window(mask)
    window = {} if n is None else dict(local_window_size=(n - 1, 0))
    return jax.nn.dot_product_attention(q, k, v, scale=scale, is_causal=mask is not None, implementation="cudnn", **window)


def causal_window(mask):
    """n where the mask is causal() & window(n), in either order."""
    if isinstance(mask, masks.And):
        for one, other in ((mask.left, mask.right), (mask.right, mask.left)):
            if isinstance(one, masks.Causal) and isinstance(other, masks.Window):
                return other.n
    return None


def anything(**call):
    return None


def elsewhere(platform, name):
    here = jax.default_backend()
    return None if here == platform else f"it runs on {name}, and this is {here}"


def on_tpu(q, **call):
    return elsewhere("tpu", "TPU") or flash_tpu.why_not(q, **call)


def on_gpu(q, **call):
    return elsewhere("gpu", "NVIDIA's GPUs") or flash_gpu.why_not(q, **call)


def in_cudnn(q, *, k, v, bias, slopes, soft_cap, weights, return_lse, mask, q_pos, k_pos, **call):
    if away := elsewhere("gpu", "NVIDIA's GPUs"):
        return away
    if q.shape[-1] % 8 or q.shape[-1] > CUDNN_WIDEST or v.shape[-1] != q.shape[-1]:
        return (f"its heads are a multiple of 8 and at most {CUDNN_WIDEST} wide, the values as wide as the keys; "
                f"these are {q.shape[-1]} and {v.shape[-1]} wide")
    if bias is not None or slopes is not None or soft_cap is not None or type(weights) is not Softmax or return_lse:
        return "it does plain softmax: no bias, slopes, soft cap or log-sum-exp"
    if q.dtype not in (jnp.bfloat16, jnp.float16):
        return f"it computes in bfloat16 or float16, not {q.dtype}"
    if q_pos is not None or k_pos is not None:
        return "queries and keys stand at slots 0, 1, 2, ... in it"
    if not (mask is None or isinstance(mask, masks.Causal) or (n := causal_window(mask)) and q.shape[1] < k.shape[1] + n):
        return "its masks are none, causal(), and causal() & window(n) where every query sees a key: a row that sees nothing would not come out as 0"
    return None


IMPLEMENTATIONS = {"dense": dense, "chunked": chunked, "pallas_tpu": pallas_tpu, "pallas_gpu": pallas_gpu, "cudnn": cudnn}
WHY_NOT = {"dense": anything, "chunked": anything, "pallas_tpu": on_tpu, "pallas_gpu": on_gpu, "cudnn": in_cudnn}      # in words


def dot_product_attention(q, k, v, *, mask=None, bias=None, slopes=None, scale=None, soft_cap=None, segments=None, weights=softmax,
                          q_pos=None, k_pos=None, return_lse=False, implementation=None):
    """q [B,T,H,K], k [B,S,G,K], v [B,S,G,V] -> [B,T,H,V], and the rows' log-sum-exp [B,H,T] with return_lse.

    Arguments as in lcref.ops.attention; `slopes` [H] adds ALiBi, `segments` (ids [B,T], or a pair of ids for q and k) adds the packed
    documents' mask. Raises KeyError on an unknown implementation, ValueError on shapes that do not fit and for what a named one cannot do.
    """
    check(q, k, v, mask, soft_cap)
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
        slopes = jnp.asarray(slopes)
        if slopes.shape != q.shape[2:3]:
            raise ValueError(f"slopes takes one number per query head, {q.shape[2]} in all; got shape {slopes.shape}")
        if bias is not None and not callable(bias):
            raise ValueError("slopes and a bias array cannot be combined; add the slopes to the array or pass the bias as a function")
    call = dict(mask=mask, bias=bias, slopes=slopes, scale=scale, soft_cap=soft_cap, weights=weights, q_pos=q_pos, k_pos=k_pos, return_lse=return_lse)
    name = implementation or pick(q, k, v, call)
    if reason := WHY_NOT[name](q=q, k=k, v=v, **call):
        raise ValueError(f"attention by {name} cannot do this: {reason}")
    return IMPLEMENTATIONS[name](q, k, v, **call)


def pick(q, k, v, call):
    """Small: dense. Else the device's kernel where it can, and tiles where not. On a GPU kernels are for half precision."""
    single = q.dtype == jnp.float32 and jax.default_backend() == "gpu"
    if q.shape[1] * k.shape[1] <= (SMALL_SINGLE if single else SMALL):
        return "dense"
    kernels = ("pallas_tpu",) if single else ("pallas_tpu", "cudnn", "pallas_gpu")
    return next(name for name in (*kernels, "chunked") if WHY_NOT[name](q=q, k=k, v=v, **call) is None)
