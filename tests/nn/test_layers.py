import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lcref.nn.layers import FEED_FORWARDS, NORMS, GatedMlp, LayerNorm, Linear, Mlp, RMSNorm
from tests.tolerances import assert_close

D = 12
X = np.random.default_rng(0).normal(size=(2, 5, D)).astype(np.float32)


def build(cfg, gain=1.0):
    return cfg.build(D, gain=gain, rngs=nnx.Rngs(0))


def weight(layer):
    return np.asarray(layer.kernel[...], np.float64)


# ------------------------------------------------------------------------------------------------------------------- norm

def test_rms_norm_is_its_formula():
    norm = RMSNorm(D)
    norm.scale[...] = jnp.linspace(0.5, 2.0, D)
    x = X.astype(np.float64)
    want = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * np.linspace(0.5, 2.0, D)
    assert_close(norm(jnp.asarray(X)), want.astype(np.float32))


def test_rms_norm_ignores_scale_but_not_epsilon():
    x = jnp.asarray(X)
    assert_close(RMSNorm(D)(1000 * x), RMSNorm(D)(x))
    assert not np.allclose(RMSNorm(D, epsilon=1.0)(x), RMSNorm(D)(x), atol=1e-2)
    assert np.isfinite(RMSNorm(D)(jnp.zeros((3, D)))).all()


@pytest.mark.parametrize("shape", [(D,), (3, D), (2, 3, 4, D)])
def test_rms_norm_takes_any_rank(shape):
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert_close(RMSNorm(D)(jnp.asarray(x)), x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6))


def test_rms_norm_computes_in_float32():
    """A float16 sum of squares overflows from 65504 on; 300^2 * 12 is above it."""
    got = RMSNorm(D)(jnp.full((1, D), 300.0, jnp.float16))
    assert got.dtype == jnp.float16 and np.allclose(got, 1, atol=1e-2)


def test_layer_norm_is_its_formula():
    norm = LayerNorm(D)
    norm.scale[...], norm.shift[...] = jnp.linspace(0.5, 2.0, D), jnp.linspace(-1.0, 1.0, D)
    x = X.astype(np.float64)
    want = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * np.linspace(0.5, 2.0, D) + np.linspace(-1.0, 1.0, D)
    assert_close(norm(jnp.asarray(X)), want.astype(np.float32))


@pytest.mark.parametrize("name", NORMS)
def test_norms_keep_the_dtype_compute_in_float32_and_read_epsilon(name):
    norm = NORMS[name]().build(D)
    x = jnp.asarray(X * 300, jnp.float16)                  # a float16 sum of squares would overflow
    got = norm(x)
    assert got.dtype == jnp.float16 and np.isfinite(got).all()
    assert_close(got, norm(x.astype(jnp.float32)).astype(jnp.float16), "bfloat16")
    assert not np.allclose(NORMS[name](epsilon=1.0).build(D)(jnp.asarray(X)), norm(jnp.asarray(X)), atol=1e-2)


# ----------------------------------------------------------------------------------------------------------------- linear

def test_linear_with_a_bias():
    layer = Linear(D, 7, nnx.Rngs(0), bias=True)
    layer.bias[...] = jnp.arange(7.0)
    assert_close(layer(jnp.asarray(X)), (X @ weight(layer) + np.arange(7.0)).astype(np.float32))
    assert layer(jnp.asarray(X, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("shape", [(D,), (3, D), (2, 5, D), (2, 3, 4, D)])
def test_linear_is_a_product_on_the_last_axis(shape):
    layer, x = Linear(D, 7, nnx.Rngs(0)), np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert_close(layer(jnp.asarray(x)), (x @ weight(layer)).astype(np.float32))
    assert_close(layer(jnp.zeros(shape)), np.zeros((*shape[:-1], 7), np.float32))          # no bias


@pytest.mark.parametrize("bias", [False, True])
def test_linear_apart_is_the_product_cut_up(bias):
    layer, x = Linear(D, 7, nnx.Rngs(0), bias=bias), jnp.asarray(X)
    if bias:
        layer.bias[...] = jnp.arange(7.0)
    parts = layer.apart(x, (4, 1, 2))
    assert [part.shape[-1] for part in parts] == [4, 1, 2]
    assert_close(jnp.concatenate(parts, axis=-1), layer(x))


@pytest.mark.parametrize("gain", [1.0, 0.25])
def test_linear_starts_with_variance_gain_squared_over_fan_in(gain):
    W = weight(Linear(400, 300, nnx.Rngs(0), gain))
    assert abs(W.mean()) < 3e-4
    assert W.std() == pytest.approx(gain / 20, rel=0.02)


def test_linear_follows_the_dtype_of_its_input():
    assert Linear(D, 7, nnx.Rngs(0))(jnp.asarray(X, jnp.bfloat16)).dtype == jnp.bfloat16


# ----------------------------------------------------------------------------------------------------------- feed-forward

def test_mlp_is_its_formula():
    layer = build(Mlp())
    h = X @ weight(layer.up)
    gelu = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    assert_close(layer(jnp.asarray(X)), (gelu @ weight(layer.down)).astype(np.float32))


def test_gated_mlp_is_its_formula():
    layer = build(GatedMlp())
    gate, up = X @ weight(layer.gate), X @ weight(layer.up)
    assert_close(layer(jnp.asarray(X)), (gate / (1 + np.exp(-gate)) * up @ weight(layer.down)).astype(np.float32))


@pytest.mark.parametrize("cfg, d_model, width", [(Mlp(), 64, 256), (Mlp(10), 64, 10), (GatedMlp(), 64, 176), (GatedMlp(), 96, 256),
                                                 (GatedMlp(10), 64, 10)])
def test_feed_forward_width(cfg, d_model, width):
    layer = nnx.eval_shape(lambda: cfg.build(d_model, gain=1.0, rngs=nnx.Rngs(0)))
    assert layer.up.kernel.shape == (d_model, width) and layer.down.kernel.shape == (width, d_model)


@pytest.mark.parametrize("name", FEED_FORWARDS)
def test_feed_forward_acts_on_every_token_alone(name):
    layer, x = build(FEED_FORWARDS[name]()), jnp.asarray(X)
    assert_close(layer(x)[:, 2:3], layer(x[:, 2:3]))
    assert layer(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", FEED_FORWARDS)
def test_gain_scales_what_a_feed_forward_adds(name):
    one, half = (build(FEED_FORWARDS[name](), gain)(jnp.asarray(X)) for gain in (1.0, 0.5))
    assert_close(half, np.asarray(one) / 2)


@pytest.mark.parametrize("name", FEED_FORWARDS)
def test_every_field_of_a_feed_forward_changes_something(name):
    changes = dict(width=10) | (dict(bias=True) if name == "mlp" else {})
    cfg = FEED_FORWARDS[name]()
    assert set(changes) == {f.name for f in dataclasses.fields(cfg)}, "a new field needs a change here that shows in the layer"

    def shapes(cfg):
        return jax.tree.map(jnp.shape, nnx.state(nnx.eval_shape(lambda: build(cfg))))
    for field, value in changes.items():
        assert shapes(dataclasses.replace(cfg, **{field: value})) != shapes(cfg)


@pytest.mark.parametrize("name", FEED_FORWARDS)
@pytest.mark.parametrize("width", [0, -4])
def test_feed_forward_refuses_an_impossible_width(name, width):
    with pytest.raises(ValueError, match=f"width.*{width}"):
        FEED_FORWARDS[name](width)
