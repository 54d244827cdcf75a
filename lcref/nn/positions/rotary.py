"""Schemes that turn queries and keys: RoPE with any scaling of its frequencies, and xPos."""
import math
from dataclasses import dataclass
from typing import Any

from flax import nnx

from lcref.nn.positions.scheme import Position, PositionConfig, row_length
from lcref.ops import rope
from lcref.ops.numbers import number


@dataclass(frozen=True)
class Rope(PositionConfig):
    """Rotate q and k by p * base^(-2k/R).  arXiv 2104.09864.

    layout: "half" (Llama) or "interleaved" (the paper, GPT-J). fraction < 1 turns only the first R = fraction * head_dim numbers of
    a head, rounded down to an even number, with frequencies of width R (GPT-NeoX: 0.25); the rest of the head has no position.
    scaling: a value of lcref.ops.rope_scaling (PI, NTK, YaRN, CLEX, ...) that changes the frequencies so that longer rows can be read.
    """
    base: float = 10_000.0
    layout: str = "half"
    fraction: float = 1.0
    scaling: Any = None

    def __post_init__(self):
        if self.layout not in rope.LAYOUTS:
            raise ValueError(f"unknown rope layout {self.layout!r}: choose one of {', '.join(rope.LAYOUTS)}")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"rope fraction must be in (0, 1], got {self.fraction}")
        number("rope", "base", self.base, least=1)

    @property
    def draws_training_ids(self):
        return self.scaling is not None and self.scaling.draws_training_ids

    def training_ids(self, key, pos):
        return pos if self.scaling is None else self.scaling.training_ids(key, pos)

    def build(self, heads, head_dim, d_model, *, rngs):
        width = head_dim if self.fraction == 1 else 2 * int(head_dim * self.fraction / 2)
        if width < 2 or width % 2:
            raise ValueError(f"rope turns pairs: head_dim {head_dim} at fraction {self.fraction} leaves {width}, need an even number")
        return RopePosition(self, width, rngs)


class RopePosition(Position):
    def __init__(self, cfg, width, rngs):
        self.cfg, self.width = cfg, width
        learned = {} if cfg.scaling is None else cfg.scaling.initial(rngs.params(), width)
        rate = getattr(cfg.scaling, "learning_rate", 1.0)
        self.learned = nnx.Dict({name: nnx.Param(value, learning_rate=rate) for name, value in learned.items()})   # what CLEX trains

    @property
    def late(self):
        return self.cfg.scaling is not None and self.cfg.scaling.dynamic

    def rotate(self, x, pos, of="q"):
        return self.at(row_length(pos), self.solve()).rotate(x, pos, of)

    def solve(self):
        scaling = self.cfg.scaling
        return scaling and scaling.solve(self.width, self.cfg.base, {name: p[...] for name, p in self.learned.items()})

    def at(self, length, table=None):
        cfg = self.cfg
        if cfg.scaling is None:
            return Rotation(rope.inv_freq(self.width, cfg.base), 1.0, cfg.layout, False)
        inv_freq = cfg.scaling.inv_freq(self.width, cfg.base, length, table)
        return Rotation(inv_freq, cfg.scaling.attention_factor(length), cfg.layout, self.late)


class Rotation(Position):
    """RoPE with its frequencies settled."""

    def __init__(self, inv_freq, factor, layout, late):
        self.turn, self.late = (lambda x, pos: rope.rotate(x, pos, inv_freq, layout=layout, factor=factor)), late

    def rotate(self, x, pos, of="q"):
        return self.turn(x, pos)


@dataclass(frozen=True)
class Xpos(PositionConfig):
    """RoPE whose planes decay with distance, zeta_k^(d / scale_base).  arXiv 2212.10554.

    center cancels in the scores; it says where magnitudes are 1, and positions must stay within about 64 * scale_base of it
    (known ones raise ValueError beyond, traced ones give NaN: float32 ends there).
    """
    base: float = 10_000.0
    scale_base: float = 512.0
    center: int = 0
    layout: str = "interleaved"

    def __post_init__(self):
        if self.layout not in rope.LAYOUTS:
            raise ValueError(f"unknown xpos layout {self.layout!r}: choose one of {', '.join(rope.LAYOUTS)}")
        number("xpos", "base", self.base, least=1)
        number("xpos", "scale_base", self.scale_base, above=0)
        if abs(self.center) > rope.xpos_reach(self.scale_base):
            raise ValueError(f"xpos center {self.center} is more than {rope.xpos_reach(self.scale_base):.0f} from position 0, where rows begin")

    @property
    def limit(self):
        return math.floor(self.center + rope.xpos_reach(self.scale_base)) + 1

    def build(self, heads, head_dim, d_model, *, rngs):
        rope.inv_freq(head_dim, self.base)                                     # odd widths complain here
        return XposPosition(self, head_dim)


class XposPosition(Position):
    def __init__(self, cfg, width):
        self.cfg, self.width = cfg, width

    def rotate(self, x, pos, of="q"):
        cfg = self.cfg
        inv_freq = rope.inv_freq(self.width, cfg.base)
        return rope.xpos(x, pos, inv_freq, of=of, scale_base=cfg.scale_base, center=cfg.center, layout=cfg.layout)
