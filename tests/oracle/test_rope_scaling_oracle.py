"""Scaled frequencies against transformers' ROPE_INIT_FUNCTIONS, on random configurations."""
import math
from types import SimpleNamespace

import numpy as np
import pytest

from lcref.ops.rope_scaling import SCALINGS
from tests.tolerances import TOLERANCE

pytestmark = pytest.mark.oracle
CASES = 150


@pytest.fixture(scope="module")
def functions():
    pytest.importorskip("torch").set_num_threads(1)
    pytest.importorskip("transformers", minversion="5.0")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    return ROPE_INIT_FUNCTIONS


def theirs(function, head_dim, base, original_length, seq_len=None, **parameters):
    """transformers wants a model's config; this is what of it the functions read."""
    rope = dict(rope_theta=base, original_max_position_embeddings=original_length, **parameters)
    config = SimpleNamespace(head_dim=head_dim, hidden_size=4 * head_dim, num_attention_heads=4, max_position_embeddings=original_length,
                             rope_parameters=rope, standardize_rope_params=lambda: None)
    frequencies, magnitude = function(config, "cpu", seq_len=seq_len)
    return frequencies.numpy(), magnitude


def model(rng):
    """A random (head_dim, base, training length, factor); bases and lengths as models have them, factors also fractions."""
    return (int(rng.choice([8, 16, 32, 64, 80, 96, 128, 256])), float(rng.choice([1e4, 1e5, 5e5, 1e6, round(10 ** rng.uniform(3, 7))])),
            int(rng.choice([64, 128, 512, 2048, 4096, 8192, 32768, rng.integers(16, 10_000)])), float(round(rng.uniform(1, 40), 2)))


def linear(rng, head_dim, length, factor):
    return dict(factor=factor), {}, 1


def dynamic(rng, head_dim, length, factor):
    return dict(factor=factor, original_length=length), {}, int(length * rng.uniform(0.5, 20))


def yarn(rng, head_dim, length, factor):
    ours = dict(factor=factor, original_length=length, beta_fast=float(rng.choice([32, 16, 64, 8])), beta_slow=float(rng.choice([1, 2, 0.5])),
                truncate=bool(rng.integers(2)))
    extra, length_now = {}, 1
    if rng.integers(2):
        ours |= dict(mscale=round(rng.uniform(0.1, 2), 3), mscale_all_dim=round(rng.uniform(0.1, 2), 3))
    if rng.integers(4) == 0:
        ours["magnitude"] = extra["attention_factor"] = round(rng.uniform(0.5, 2), 3)
    return ours, extra, length_now


def longrope(rng, head_dim, length, factor):
    lists = {name: tuple(np.sort(rng.uniform(1, 40, head_dim // 2)).round(3).tolist()) for name in ("short_factor", "long_factor")}
    return dict(factor=factor, original_length=length, **lists), {}, int(rng.choice([1, length - 1, length, length + 1, 4 * length]))


def llama3(rng, head_dim, length, factor):
    low = round(rng.uniform(0.5, 4), 2)
    return dict(factor=factor, original_length=length, low_freq_factor=low, high_freq_factor=low + round(rng.uniform(0.5, 8), 2)), {}, 1


@pytest.mark.parametrize("name, make", [("linear", linear), ("dynamic_ntk", dynamic), ("yarn", yarn), ("longrope", longrope), ("llama3", llama3)])
def test_equals_transformers(functions, name, make):
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(CASES):
        head_dim, base, length, factor = model(rng)
        ours, extra, length_now = make(rng, head_dim, length, factor)
        if name == "yarn" and backwards(head_dim, base, length, ours):
            continue
        scaling = SCALINGS[name](**ours)
        shared = {key: value for key, value in ours.items() if key not in ("original_length", "magnitude")}
        want, magnitude = theirs(functions[name.removesuffix("_ntk")], head_dim, base, length, length_now, **shared, **extra)
        label = f"{scaling} head_dim={head_dim} base={base} length={length_now}"
        np.testing.assert_allclose(scaling.inv_freq(head_dim, base, length_now), want, rtol=TOLERANCE["float32"]["rtol"], err_msg=label)
        assert scaling.attention_factor(length_now) == pytest.approx(magnitude, rel=1e-6), label
        compared += 1
    assert compared >= 100


def test_p_rope_is_their_proportional(functions):
    if "proportional" not in functions:
        pytest.skip("this transformers has no proportional RoPE")
    rng = np.random.default_rng(1)
    for p in (0.0, 0.25, 0.29, 0.75, 1.0, *rng.uniform(size=CASES).round(3).tolist()):
        head_dim, base, length, _ = model(rng)
        want, _ = theirs(functions["proportional"], head_dim, base, length, partial_rotary_factor=p)
        np.testing.assert_allclose(SCALINGS["p_rope"](p).inv_freq(head_dim, base, 1), want, rtol=TOLERANCE["float32"]["rtol"])


def backwards(head_dim, base, length, yarn):
    """Where transformers' ramp has its ends the wrong way round: ours is a step there, on purpose."""
    def index(rotations):
        return head_dim * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(base))
    low, high = index(yarn["beta_fast"]), index(yarn["beta_slow"])
    if yarn["truncate"]:
        low, high = math.floor(low), math.ceil(high)
    return min(high, head_dim - 1) < max(low, 0)
