"""Packed rows: where the state must be forgotten because another document begins.

    segments  1 1 1 2 2 3        ids per token; any change is a new document, padding (0) is one like the others
    starts    . . . x . x        the first token of the row is none: it continues the initial state, if there is one
"""
import jax.numpy as jnp


def starts(segments):
    """segments int [B,T] (or [1,T]) -> bool of the same shape. Raises ValueError for another rank."""
    ids = jnp.asarray(segments)
    if ids.ndim != 2:
        raise ValueError(f"segments must be [B,T], got {list(ids.shape)}")
    return jnp.concatenate([jnp.zeros_like(ids[:, :1], bool), ids[:, 1:] != ids[:, :-1]], axis=1)
