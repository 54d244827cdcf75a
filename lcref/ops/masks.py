"""Mask algebra: which key may a query see?  A mask is a small value with two questions.

    mask(q_pos [T], k_pos [S]) -> bool [T, S]            the answer for every pair (True = may attend)
    mask.tile(q_lo, q_hi, k_lo, k_hi) -> "none" | "some" | "all"
                                                         the answer for a whole rectangle of positions, bounds included

The second question is what makes tiled attention fast: a "none" tile is skipped, an "all" tile needs no element mask. It must be
sound (never "none" where one pair is visible, never "all" where one is hidden); it may be cautious and say "some".

    causal() & window(128)                    each token sees itself and the 127 before it
    causal() & (window(128) | sinks(4))       StreamingLLM / LM-Infinite's Lambda shape   (arXiv 2309.17453, 2308.16137)
    causal() & segments(ids, ids)             packed documents that do not see each other
    prefix(16) | causal()                     prefix LM: the first 16 tokens see each other in both directions

`q_pos`, `k_pos` are slots: indices in the sequence as it lies in memory. They may be batched ([B,T], [B,S] -> [B,T,S]) and traced.
Masks are JAX pytrees: numbers are static, the ids of `segments` are array leaves, so a mask passes through jit, vmap and scan.
"""
import operator
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops.positions import indices, known


def static(**kwargs):
    return field(metadata=dict(static=True), **kwargs)


def mask_type(cls):
    """Frozen dataclass + pytree registration, in one decorator."""
    return jax.tree_util.register_dataclass(dataclass(frozen=True, eq=False, repr=True)(cls))


def signed(pos):
    """Differences of unsigned numbers would wrap."""
    pos = jnp.asarray(pos)
    return pos.astype(jnp.int32) if jnp.issubdtype(pos.dtype, jnp.unsignedinteger) else pos


def pairs(q_pos, k_pos):
    """Positions as a column and a row that broadcast to [..., T, S]."""
    q_pos, k_pos = signed(q_pos), signed(k_pos)
    if 1 < max(q_pos.ndim, k_pos.ndim):                                  # one of them batched: give both a batch axis
        q_pos, k_pos = jnp.atleast_2d(q_pos), jnp.atleast_2d(k_pos)
    return q_pos[..., :, None], k_pos[..., None, :]


class Mask:
    """Base of the algebra. A new mask needs `visible` and `tile`."""

    def __call__(self, q_pos, k_pos):
        return self.visible(*pairs(q_pos, k_pos))

    def visible(self, q, k):
        """The answer for positions of any shapes that broadcast: what a kernel asks about its own tile."""
        raise TypeError(f"{type(self).__name__} must define visible")

    def tile(self, q_lo, q_hi, k_lo, k_hi):
        return "some"

    def __and__(self, other):
        return And(self, checked(other))

    def __or__(self, other):
        return Or(self, checked(other))

    def __invert__(self):
        return Not(self)


def checked(mask):
    if not isinstance(mask, Mask):
        raise TypeError(f"masks combine with masks, not with {type(mask).__name__}; build one with causal(), window(n), segments(...)")
    return mask


@mask_type
class Causal(Mask):
    def visible(self, q, k):
        return k <= q

    def tile(self, q_lo, q_hi, k_lo, k_hi):
        return "none" if k_lo > q_hi else "all" if k_hi <= q_lo else "some"


@mask_type
class Window(Mask):
    n: int = static()

    def visible(self, q, k):
        return q - k < self.n

    def tile(self, q_lo, q_hi, k_lo, k_hi):
        return "none" if q_lo - k_hi >= self.n else "all" if q_hi - k_lo < self.n else "some"


@mask_type
class Sinks(Mask):
    n: int = static()

    def visible(self, q, k):
        return (k < self.n) | (q != q)                                   # the second half only broadcasts to [T, S]

    def tile(self, q_lo, q_hi, k_lo, k_hi):
        return "none" if k_lo >= self.n else "all" if k_hi < self.n else "some"


@mask_type
class Prefix(Mask):
    n: int = static()

    def visible(self, q, k):
        return (q < self.n) & (k < self.n)

    def tile(self, q_lo, q_hi, k_lo, k_hi):
        return "none" if max(q_lo, k_lo) >= self.n else "all" if max(q_hi, k_hi) < self.n else "some"


@mask_type
class Everything(Mask):
    def visible(self, q, k):
        return (q == q) & (k == k)

    def tile(self, q_lo, q_hi, k_lo, k_hi):
        return "all"


def reach(ids, slot):
    """Raises ValueError where ids [S] or [B,S] end before a slot."""
    if slot >= jnp.shape(ids)[-1]:
        raise ValueError(f"segments have ids for {jnp.shape(ids)[-1]} slots, and slot {slot} is asked about")


def looked_up(ids, pos):
    """ids [S] or [B,S] at slots pos. Known slots outside: ValueError; traced ones have the id 0, as padding has."""
    here, pos = known(pos), indices(pos, jnp.shape(ids)[-1])
    if here is not None and here.size:
        if here.min() < 0:
            raise ValueError(f"segments have ids for slots 0 and up, and slot {here.min()} is asked about")
        reach(ids, here.max())
    one = lambda ids, pos: ids.at[pos].get(mode="fill", fill_value=0)
    ids = jnp.asarray(ids)
    return one(ids, pos) if ids.ndim == 1 else jax.vmap(one, (0, 0 if pos.ndim == 2 else None))(ids, pos)


@mask_type
class Segments(Mask):
    q_ids: jax.Array
    k_ids: jax.Array

    def visible(self, q, k):
        raise ValueError("segments look ids up by position, which a tile cannot: take them apart with `without_documents`")

    def __call__(self, q_pos, k_pos):
        q, k = pairs(looked_up(self.q_ids, q_pos), looked_up(self.k_ids, k_pos))
        return (q == k) & (q > 0)

    def tile(self, q_lo, q_hi, k_lo, k_hi):
        reach(self.q_ids, q_hi)
        reach(self.k_ids, k_hi)
        if isinstance(self.q_ids, jax.core.Tracer) or isinstance(self.k_ids, jax.core.Tracer):
            return "some"                                                # ids known only at run time
        q, k = np.atleast_2d(self.q_ids)[:, q_lo:q_hi + 1], np.atleast_2d(self.k_ids)[:, k_lo:k_hi + 1]
        lo, hi = np.minimum, np.maximum
        apart = (q.max(1) < k.min(1)) | (k.max(1) < q.min(1)) | (q.max(1) <= 0)
        one = lo(q.min(1), k.min(1)) == hi(q.max(1), k.max(1))
        return "none" if apart.all() else "all" if (one & (q.min(1) > 0)).all() else "some"


@mask_type
class And(Mask):
    left: Mask
    right: Mask

    def __call__(self, q_pos, k_pos):
        return operator.and_(*same_rank(self.left(q_pos, k_pos), self.right(q_pos, k_pos)))

    def visible(self, q, k):
        return self.left.visible(q, k) & self.right.visible(q, k)

    def tile(self, *bounds):
        answers = {self.left.tile(*bounds), self.right.tile(*bounds)}
        return "none" if "none" in answers else "some" if "some" in answers else "all"


@mask_type
class Or(Mask):
    left: Mask
    right: Mask

    def __call__(self, q_pos, k_pos):
        return operator.or_(*same_rank(self.left(q_pos, k_pos), self.right(q_pos, k_pos)))

    def visible(self, q, k):
        return self.left.visible(q, k) | self.right.visible(q, k)

    def tile(self, *bounds):
        answers = {self.left.tile(*bounds), self.right.tile(*bounds)}
        return "all" if "all" in answers else "some" if "some" in answers else "none"


@mask_type
class Not(Mask):
    mask: Mask

    def __call__(self, q_pos, k_pos):
        return ~self.mask(q_pos, k_pos)

    def visible(self, q, k):
        return ~self.mask.visible(q, k)

    def tile(self, *bounds):
        return {"none": "all", "all": "none", "some": "some"}[self.mask.tile(*bounds)]


def without_documents(mask):
    """(rest, segments) with mask = rest & segments: the part that asks positions alone, and the packed documents; each may be None.

    ValueError where documents are not one factor of the mask: below | or ~, or twice.
    """
    if isinstance(mask, Segments):
        return None, mask
    if isinstance(mask, And):
        (left, ids), (right, more) = without_documents(mask.left), without_documents(mask.right)
        if ids is not None and more is not None:
            raise ValueError("the mask names packed documents twice")
        return (left if right is None else right if left is None else left & right), more if ids is None else ids
    if any(isinstance(leaf, Segments) for leaf in jax.tree.leaves(mask, is_leaf=lambda node: isinstance(node, Segments))):
        raise ValueError("packed documents must be one factor of the mask, as in causal() & segments(...), and not stand below | or ~")
    return mask, None


def same_rank(a, b):
    """[T,S] beside [B,T,S]: give the smaller one a batch axis (explicitly: rank promotion is an error in our tests)."""
    rank = max(a.ndim, b.ndim)
    return a.reshape((1,) * (rank - a.ndim) + a.shape), b.reshape((1,) * (rank - b.ndim) + b.shape)


def positive(name, n):
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"{name}(n) needs an integer n >= 1, got {n!r}")
    return int(n)


def causal():
    """Key no later than the query: k <= q."""
    return Causal()


def window(n):
    """The last n keys up to and including the query's own slot, and every later one: q - k < n. Combine with causal()."""
    return Window(positive("window", n))


def sinks(n):
    """The first n keys of the sequence (attention sinks, arXiv 2309.17453): k < n. Combine with causal()."""
    return Sinks(positive("sinks", n))


def prefix(n):
    """The first n tokens see each other in both directions: q < n and k < n."""
    return Prefix(positive("prefix", n))


def everything():
    """No restriction: an encoder."""
    return Everything()


def segments(q_ids, k_ids):
    """Same document only: q_ids[q] == k_ids[k]. Id 0 is padding: it sees nothing and nothing sees it. ids [T], [S] or [B,T], [B,S].

    Raises ValueError when one side is batched and the other is not.
    """
    q_ids, k_ids = (ids if isinstance(ids, jax.core.Tracer) else np.asarray(ids) for ids in (q_ids, k_ids))
    if q_ids.ndim != k_ids.ndim or q_ids.ndim not in (1, 2):
        raise ValueError(f"segments takes ids [T], [S] or [B,T], [B,S]; got shapes {q_ids.shape} and {k_ids.shape}")
    return Segments(q_ids, k_ids)
