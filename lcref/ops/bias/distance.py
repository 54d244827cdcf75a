"""What all relative biases start from: the distance i - j of a query at i and a key at j, and the axes of a number per head."""
import jax.numpy as jnp

from lcref.ops.masks import pairs


def distance(q_pos, k_pos):
    """i - j: positive towards the past.  [T], [S] -> [T,S];  [B,T], [B,S] -> [B,T,S].  int32 if both are integers, else float32.

    Subtract first, convert later: two positions near 2^24 or beyond are not exact in float32, their difference is.
    """
    q, k = pairs(q_pos, k_pos)
    both = jnp.issubdtype(q.dtype, jnp.integer) and jnp.issubdtype(k.dtype, jnp.integer)
    kind = jnp.int32 if both else jnp.float32
    return q.astype(kind) - k.astype(kind)


def per_head(delta, *values):
    """Make room for heads: delta [..., T,S] -> float32 [..., 1, T,S], each of values [H] -> float32 [.., H, 1, 1], ranks equal."""
    delta = delta[..., None, :, :].astype(jnp.float32)
    return delta, *(jnp.asarray(v, jnp.float32).reshape((1,) * (delta.ndim - 3) + (-1, 1, 1)) for v in values)
