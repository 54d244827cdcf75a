"""RoPE that never sees a distance it was not trained on: beyond `near` tokens, keys are rotated to other places.

                   distance of a key at delta >= near                     in a mixer with             source
    LMInfinite     limit_distance, whatever delta                         window=near, sinks=G        arXiv 2308.16137
                                                                          every key visible           ReRoPE, its window and limit
    StreamingLLM   min(i, sinks + near - 1) - j: places in the cache      window=near, sinks=sinks    arXiv 2309.17453
    SelfExtend     i // group + near - near // group - j // group         every key visible           arXiv 2401.01325

Keys nearer than `near` keep their true distance delta = i - j. So a query and a key have two rotations each, a near and a far one;
attention is computed over the near and the far keys apart and merged by their log-sum-exp, which tiled kernels can do as well.
Keys are cached un-rotated. What is visible is the mask's business (`window`, `sinks` of the mixer): with a window, memory is bounded.
StreamingLLM's two orders of eviction are two windows: `recent + 1` keys (its released code evicts after the step), or `recent`.
"""
from dataclasses import dataclass

import jax.numpy as jnp

from lcref.nn.positions.rotary import Rope
from lcref.nn.positions.scheme import Position, PositionConfig
from lcref.ops.numbers import whole


@dataclass(frozen=True)
class Regrouped(PositionConfig):
    """What the three have in common. rope: base, layout, and a scaling if wanted."""
    near: int = 256
    rope: Rope = Rope()

    def __post_init__(self):
        whole("regrouped positions'", "near", self.near)
        if not isinstance(self.rope, Rope) or self.rope.draws_training_ids:
            raise ValueError(f"regrouped positions need a Rope that draws no ids, got {self.rope!r}")

    def build(self, heads, head_dim, d_model, *, rngs):
        return RegroupedPosition(self, self.rope.build(heads, head_dim, d_model, rngs=rngs))

    def check(self, mixer):
        """ValueError where a mixer's window does not go with the scheme."""


@dataclass(frozen=True)
class LMInfinite(Regrouped):
    """Every key at `near` or further seems to be at `limit_distance` (None: near - 1, the largest near one).

    Deviation: the authors' own default is near, one more than the largest distance ever trained when near is the training length.
    """
    limit_distance: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.limit_distance is not None:
            whole("lm_infinite", "limit_distance", self.limit_distance, least=0)

    def far(self, pos, of):
        limit = self.near - 1 if self.limit_distance is None else self.limit_distance
        return jnp.full_like(pos, limit if of == "q" else 0)


@dataclass(frozen=True)
class StreamingLLM(Regrouped):
    """Positions are places in a cache of the first `sinks` keys and the last `near`."""
    sinks: int = 4

    def __post_init__(self):
        super().__post_init__()
        whole("streaming_llm", "sinks", self.sinks, least=0)

    def far(self, pos, of):
        return jnp.minimum(pos, self.sinks + self.near - 1) if of == "q" else pos

    def check(self, mixer):
        if (mixer.window, mixer.sinks) != (self.near, self.sinks):
            raise ValueError(f"positions in a cache of {self.sinks} sinks and {self.near} recent keys need a mixer with just those: "
                             f"window={self.near} and sinks={self.sinks}, got window={mixer.window} and sinks={mixer.sinks}")


@dataclass(frozen=True)
class SelfExtend(Regrouped):
    """Beyond `near`, `group` neighbours share a position. ValueError unless group divides near.

    A model trained to L reads up to (L - near) * group + near tokens.
    """
    group: int = 8

    def __post_init__(self):
        super().__post_init__()
        if not self.group >= 1 or self.near % self.group:
            raise ValueError(f"group={self.group} must divide near={self.near}")

    def far(self, pos, of):
        return pos // self.group + (self.near - self.near // self.group if of == "q" else 0)


class RegroupedPosition(Position):
    late = True

    def __init__(self, cfg, rope):
        self.cfg, self.rope = cfg, rope

    @property
    def near(self):
        return self.cfg.near

    def rotate(self, x, pos, of="q"):
        return self.rope.rotate(x, pos, of)

    def rotate_far(self, x, pos, of="q"):
        return self.rope.rotate(x, self.cfg.far(jnp.asarray(pos), of), of)

    def solve(self):
        return self.rope.solve()

    def at(self, length, table=None):
        return RegroupedPosition(self.cfg, self.rope.at(length, table))
