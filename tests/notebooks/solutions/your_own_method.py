"""Answers to notebook 15."""
from dataclasses import dataclass, replace

import numpy as np

from lcref.evaluate import ExactMatch
from lcref.experiment import Run, grid
from lcref.nn.decoder import DecoderConfig
from lcref.nn.positions import Position, PositionConfig, Rope
from lcref.ops.bias import alibi
from lcref.tasks import TaskSource
from lcref.train import TrainConfig


class WithSlopes(Position):
    def __init__(self, slopes):
        self.slopes = tuple(map(float, slopes))

    def bias(self, q_pos, k_pos):
        return alibi.bias(q_pos, k_pos, np.asarray(self.slopes))


@dataclass(frozen=True)
class Half(PositionConfig):
    max_bias: float = 8.0

    def slopes(self, heads):
        return [*alibi.slopes(heads // 2, self.max_bias), *[0.0] * (heads - heads // 2)]

    def build(self, heads, head_dim, d_model, *, rngs):
        return WithSlopes(self.slopes(heads))


class Signed(Position):
    """The future is rewarded, which the mask hides."""

    def __init__(self, cfg, heads):
        self.cfg, self.heads = cfg, heads

    def bias(self, q_pos, k_pos):
        half = self.heads // 2
        m = np.repeat([1.0, 0.0], [half, self.heads - half])
        m[:half] *= alibi.slopes(half, self.cfg.max_bias)
        q, k = np.asarray(q_pos), np.asarray(k_pos)
        return m[:, None, None] * (k[..., None, None, :] - q[..., None, :, None])


@dataclass(frozen=True)
class HalfSigned(PositionConfig):
    max_bias: float = 8.0

    def build(self, heads, head_dim, d_model, *, rngs):
        return Signed(self, heads)


class Unfilled(Half):
    def build(self, heads, head_dim, d_model, *, rngs):
        return None


class EverySecondSlope(Half):
    def slopes(self, heads):
        return [*alibi.slopes(heads, self.max_bias)[:heads // 2], *[0.0] * (heads - heads // 2)]


class LastHalf(Half):
    def slopes(self, heads):
        return super().slopes(heads)[::-1]


class FieldForgotten(Half):
    def slopes(self, heads):
        return Half().slopes(heads)


@dataclass
class NotFrozen:
    max_bias: float = 8.0

    def build(self, heads, head_dim, d_model, *, rngs):
        return Half(self.max_bias).build(heads, head_dim, d_model, rngs=rngs)


class PlainClass:
    def __init__(self, max_bias=8.0):
        self.max_bias = max_bias

    build = NotFrozen.build


def toeplitz(module):
    bias, past = np.asarray(module.bias(np.arange(64), np.arange(64))), np.tri(63, dtype=bool)
    return np.array_equal(bias[:, 1:, 1:][:, past], bias[:, :-1, :-1][:, past]) or np.allclose(bias[:, 1:, 1:][:, past], bias[:, :-1, :-1][:, past])


def by_distance(module):
    bias = np.asarray(module.bias(np.arange(64), np.arange(64)))
    along = [np.diagonal(bias, -d, 1, 2) for d in range(64)]
    return all(np.allclose(values, values[:, :1]) for values in along)


def few_positions(module):
    first, later = (np.asarray(module.bias(np.arange(4) + n, np.arange(4) + n)) for n in (0, 1))
    return np.allclose(first, later)


def infinity_minus_infinity(module):
    bias, past = np.asarray(module.bias(np.arange(64), np.arange(64))), np.tri(63, dtype=bool)
    with np.errstate(invalid="ignore"):
        return bool(np.abs(bias[:, 1:, 1:] - bias[:, :-1, :-1])[:, past].max() < 1e-5)


def even_shift(module):
    first, later = (np.asarray(module.bias(np.arange(n, 64), np.arange(n, 64))) for n in (0, 2))
    return np.allclose(first[:, :-2, :-2], later)


@dataclass(frozen=True)
class LookBack(PositionConfig):
    offsets: tuple[int, ...] = (1, 2)


BASE = Run(DecoderConfig(vocab=TaskSource().vocab), TaskSource(), TrainConfig(steps=200), (ExactMatch((5,), 10),))
PLACES = {"rope": Rope(), "look_back": LookBack()}
LAYERS = {"1": 1, "2": 2, "3": 3}
by_hand = {f"{name} {n}": replace(BASE, model=replace(BASE.model, position=p, layers=n)) for name, p in PLACES.items() for n in (1, 2, 3)}

RIGHT = {
    "half": [Half, HalfSigned],
    "relative": [toeplitz, by_distance],
    "ablation": [grid(BASE, **{"model.position": PLACES, "model.layers": LAYERS}), by_hand],
}
WRONG = {
    "half": [Unfilled, EverySecondSlope, LastHalf, FieldForgotten, NotFrozen, PlainClass],
    "relative": [lambda module: None, lambda module: True, few_positions, infinity_minus_infinity, even_shift],
    "ablation": [
        None,
        grid(BASE, **{"model.position": PLACES, "model.layers": {"1": 1, "2": 2}}),
        by_hand | {"rope 3": replace(by_hand["rope 3"], train=TrainConfig(steps=300))},
        by_hand | {"rope 2": replace(by_hand["rope 2"], model=replace(by_hand["rope 2"].model, d_model=128))},
        by_hand | {"look_back 2": replace(by_hand["look_back 2"], model=replace(BASE.model, position=LookBack((3,))))},
        by_hand | {"rope again": by_hand["rope 1"]},
    ],
}
