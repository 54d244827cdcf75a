"""The key/value cache as a value: `extend` takes one and returns the next, nothing is changed in place.

    k_all, v_all, k_slots, cache = cache.extend(k_new, v_new)

are the keys to attend over, the slot (index in the whole sequence) each of them holds, and the cache for the next call.
`cursor` counts the tokens read so far: new tokens take the slots cursor, cursor + 1, ...

FullCache   [B,S,G,K] for S slots, O(S) memory. Slots at or after the cursor hold nothing yet; a causal mask hides them.
RingCache   the first `sinks` slots and the last `window`, O(sinks + window) memory however long the stream
            (arXiv 2309.17453). Slot s lives at row s while s < sinks, else at sinks + (s - sinks) mod window.

Keys are stored as the caller gives them. Rotate before storing where an old key's angle never changes (RoPE); store them unrotated
where it does (schemes whose frequencies depend on the current length).
"""
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops.masks import static

EMPTY = np.int32(2**30)                                    # the slot of a row that holds nothing: later than any query


def empty(batch, rows, heads, k_width, v_width, dtype):
    return jnp.zeros((batch, rows, heads, k_width), dtype), jnp.zeros((batch, rows, heads, v_width), dtype)


def check(cache, k, v):
    """A slice update with arrays of another shape would write a part of the cache and say nothing."""
    rest = lambda x: x.shape[:1] + x.shape[2:]
    if rest(k) != rest(cache.k) or rest(v) != rest(cache.v) or k.shape[1] != v.shape[1]:
        raise ValueError(f"keys {k.shape} and values {v.shape} do not fit a cache of {cache.k.shape} and {cache.v.shape}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FullCache:
    k: jax.Array
    v: jax.Array
    cursor: jax.Array

    @classmethod
    def create(cls, batch, length, heads, k_width, v_width, dtype=jnp.float32):
        return cls(*empty(batch, length, heads, k_width, v_width, dtype), np.int32(0))

    def extend(self, k, v):
        """Raises ValueError past the end. Where the cursor is traced and nothing can be raised, the values become NaN instead of
        silently overwriting the last slots."""
        check(self, k, v)
        S, cursor, end = self.k.shape[1], self.cursor, self.cursor + k.shape[1]
        known = not isinstance(cursor, jax.core.Tracer)
        if k.shape[1] + (int(cursor) if known else 0) > S:
            raise ValueError(f"the cache holds {S} tokens; {int(cursor) if known else 'some'} are in it and {k.shape[1]} more were given")
        k_all = jax.lax.dynamic_update_slice(self.k, k.astype(self.k.dtype), (0, cursor, 0, 0))
        v_all = jax.lax.dynamic_update_slice(self.v, v.astype(self.v.dtype), (0, cursor, 0, 0))
        return k_all, jnp.where(end > S, jnp.nan, v_all), np.arange(S), FullCache(k_all, v_all, end)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RingCache:
    k: jax.Array
    v: jax.Array
    slots: jax.Array                                       # int32 [sinks + window], EMPTY where nothing is held
    cursor: jax.Array
    sinks: int = static()

    @classmethod
    def create(cls, batch, window, sinks, heads, k_width, v_width, dtype=jnp.float32):
        rows = sinks + window
        return cls(*empty(batch, rows, heads, k_width, v_width, dtype), jnp.full((rows,), EMPTY, jnp.int32), np.int32(0), sinks)

    def extend(self, k, v):
        """Raises ValueError where k and v do not fit."""
        check(self, k, v)
        rows, n, cursor = self.slots.shape[0], k.shape[1], self.cursor
        window = rows - self.sinks
        new = cursor + np.arange(n, dtype=np.int32)
        if not isinstance(cursor, jax.core.Tracer) and int(cursor) == 0:            # known to be empty: only the new tokens are there to see
            seen, seen_slots = (k.astype(self.k.dtype), v.astype(self.v.dtype)), np.arange(n)
        else:
            seen = [jnp.concatenate(pair, 1) for pair in ((self.k, k.astype(self.k.dtype)), (self.v, v.astype(self.v.dtype)))]
            seen_slots = jnp.concatenate([self.slots, new])
        row = jnp.where(new < self.sinks, new, self.sinks + (new - self.sinks) % window)
        kept = (new < self.sinks) | (new >= cursor + n - window)                    # of n > window new tokens the last ones stay
        row = jnp.where(kept, row, rows)                                            # one past the end: dropped
        after = RingCache(self.k.at[:, row].set(k.astype(self.k.dtype), mode="drop"),
                          self.v.at[:, row].set(v.astype(self.v.dtype), mode="drop"),
                          self.slots.at[row].set(new, mode="drop"), cursor + n, self.sinks)
        return *seen, seen_slots, after
