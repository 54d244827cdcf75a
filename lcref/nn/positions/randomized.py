"""Other ids for any scheme: T sorted distinct ids out of range(max_length) in place of 0..T-1."""
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from lcref.nn.positions.biases import HardAlibi
from lcref.nn.positions.regrouped import Regrouped
from lcref.nn.positions.rotary import Rope
from lcref.nn.positions.scheme import PositionConfig
from lcref.ops import positions
from lcref.ops.numbers import whole


@dataclass(frozen=True)
class Randomized(PositionConfig):
    """Any scheme, told T sorted distinct ids out of range(max_length) in place of 0..T-1.  arXiv 2305.16843.

    The module is the base scheme's; what is new is `ids`. Draw once per forward pass, in training and in evaluation alike, a table for all rows
    or one for each, by how many of its T tokens are not padding (ids spread by that number, so padding must not count):
        positions = cfg.ids(key, plain(T)[None])               positions = cfg.ids(key, plain(T)[None], lengths)
    and, when a stream is decoded in pieces, once for the whole stream: `length` = how many tokens it may come to hold. Packed rows are given
    ids document by document, each as a row of its length would be: positions = cfg.training_ids(key, packed(segments)).
    """
    draws_ids: ClassVar[bool] = True
    base: PositionConfig = Rope()
    max_length: int = 2048

    def __post_init__(self):
        if not isinstance(self.base, PositionConfig) or isinstance(self.base, Randomized):
            raise ValueError(f"randomized ids need a plain position config as base, got {self.base!r}")
        if self.base.draws_training_ids:
            raise ValueError(f"randomized ids take the place of those that the base scheme draws in training: choose another base than {self.base!r}")
        if isinstance(self.base, (Regrouped, HardAlibi)):
            raise ValueError(f"randomized ids are not the places that {type(self.base).__name__} counts distances by: choose another base")
        whole("randomized", "max_length", self.max_length)
        if self.base.limit is not None and self.base.limit < self.max_length:
            raise ValueError(f"randomized ids go up to {self.max_length - 1}, but the base scheme ends at {self.base.limit}")

    @property
    def per_layer(self):
        return self.base.per_layer

    @property
    def embeds(self):
        return self.base.embeds

    @property
    def limit(self):
        return self.max_length

    def ids(self, key, pos, length=None):
        """pos [T] or [B,T] plain or within-document positions, all < length (default: T) -> ids, int32, same shape.

        Every row is given the same table: position p has one id in the whole batch. Raises ValueError without a key, for
        length > max_length, and for known positions >= length; traced ones past it get the id max_length, which no draw contains.

        With length [B], how many tokens of each row are not padding, pos is [1,T], 0..T-1: every row is given a table of its own [B,T], drawn
        for its length, and its padding the last id in it. Raises ValueError for other known positions, and known lengths outside 1..T.
        Deviation: the authors' batches have rows of one length, and share one draw.
        """
        if key is None:
            raise ValueError("randomized positions need a key: ids(key, pos)")
        length = pos.shape[-1] if length is None else length
        if jnp.ndim(length):
            T, here, real = pos.shape[-1], positions.known(pos), positions.known(length)
            if here is not None and not np.array_equal(here, positions.plain(T)[None]):
                raise ValueError(f"ids by row are for positions 0 to {T - 1} in the shape [1,{T}], got {list(np.shape(here))}")
            if real is not None and real.size and not 1 <= real.min() <= real.max() <= T:
                raise ValueError(f"rows of {T} tokens have 1 to {T} that are not padding, got {real.min()} to {real.max()}")
            draw = partial(positions.randomized, T=T, max_length=self.max_length)
            return jax.vmap(lambda key, n: draw(key, length=n))(jax.random.split(key, len(length)), jnp.asarray(length))
        table, here = positions.randomized(key, length, self.max_length), positions.known(pos)
        if here is not None and here.size and not 0 <= here.min() <= here.max() < length:
            raise ValueError(f"positions {here.min()} to {here.max()} with ids drawn for {length}: give the whole stream's length")
        return jnp.take(table, positions.indices(pos, len(table)), mode="fill", fill_value=self.max_length)

    def training_ids(self, key, pos):
        """pos [B,T] or [T], within-document positions -> ids, int32, same shape: every document of every row a draw of its own, by its length.

        Raises ValueError without a key, and for T > max_length.
        """
        if key is None:
            raise ValueError("randomized positions need a key: training_ids(key, pos)")
        return positions.randomized_packed(key, pos, self.max_length)

    def build(self, heads, head_dim, d_model, *, rngs):
        return self.base.build(heads, head_dim, d_model, rngs=rngs)
