"""The short causal convolution in front of Mamba's recurrence: each channel sees its own last few inputs.

    y_t = sum_k w_k x_{t-k} + b,    k = 0 .. W-1   (W = 4 in Mamba)

It is what lets a linear recurrence bind a key to the value right after it. O(T W) per channel: W shifted multiply-adds.
To go on later, keep the last W - 1 inputs (`cache`): inputs, before the convolution and before any activation.
"""
import jax.numpy as jnp


def short_conv(x, kernel, bias=None, *, cache=None, segments=None):
    """x [B,T,D], kernel [W,D] (row 0 is the oldest input's weight, row W-1 the current one's), bias [D] or None
    -> (y [B,T,D] in x's dtype, cache [B,W-1,D] in the cache's dtype, or x's).

    cache: what the inputs before x were (None: zeros). A piece shorter than W - 1 keeps part of the old cache.
    segments int [B,T] or [1,T]: inputs of another document count as zero; the cache is then the first document's.
    Sums in float32. Raises ValueError where shapes do not fit.
    """
    (batch, T, D), W = x.shape, kernel.shape[0]
    if kernel.shape[1:] != (D,) or (cache is not None and cache.shape != (batch, W - 1, D)):
        raise ValueError(f"x {list(x.shape)} wants a kernel [W,{D}] and a cache [{batch},W-1,{D}]; got {list(kernel.shape)} and "
                         f"{None if cache is None else list(cache.shape)}")
    cache = jnp.zeros((batch, W - 1, D), x.dtype) if cache is None else cache
    seen = jnp.concatenate([cache, x.astype(cache.dtype)], axis=1)                       # [B,W-1+T,D]
    if segments is not None:
        ids = jnp.asarray(segments)
        ids = jnp.concatenate([jnp.repeat(ids[:, :1], W - 1, axis=1), ids], axis=1)
    each = lambda w: jnp.broadcast_to(w.astype(jnp.float32), x.shape)                    # its gradient is one sum over rows and tokens
    y = 0.0 if bias is None else each(bias)
    for k in range(W):
        tap = seen[:, k:k + T].astype(jnp.float32)
        if segments is not None:
            tap = jnp.where((ids[:, k:k + T] == ids[:, W - 1:])[..., None], tap, 0.0)
        y = y + tap * each(kernel[k])
    return y.astype(x.dtype), seen[:, T:]
