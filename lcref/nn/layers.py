"""The parts every block shares: two norms and two feed-forward layers.

    Rms        y = x / sqrt(mean(x^2) + eps) * g                            arXiv 1910.07467
    Centred    y = (x - mean(x)) / sqrt(var(x) + eps) * g + b               layer norm, arXiv 1607.06450
    Mlp        y = W2 gelu(W1 x)                                            width F (default 4 D); gelu in its tanh form
    GatedMlp   y = W2 (silu(W1 x) * W3 x)                                   SwiGLU, arXiv 2002.05202; F (default 8/3 D, up to a multiple of 8)

x is [..., D]. Products carry no bias unless asked for; statistics of the norms are float32.
"""
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from lcref.ops.numbers import number


@dataclass(frozen=True)
class Rms:
    epsilon: float = 1e-6

    def __post_init__(self):
        number("norm", "epsilon", self.epsilon, least=0)

    def build(self, width):
        return RMSNorm(width, self.epsilon)


@dataclass(frozen=True)
class Centred:
    epsilon: float = 1e-5

    def __post_init__(self):
        number("norm", "epsilon", self.epsilon, least=0)

    def build(self, width):
        return LayerNorm(width, self.epsilon)


class RMSNorm(nnx.Module):
    def __init__(self, width, epsilon=1e-6):
        self.scale, self.epsilon = nnx.Param(jnp.ones((width,))), epsilon

    def __call__(self, x):
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.epsilon)
        return (wide * jnp.broadcast_to(self.scale[...], x.shape)).astype(x.dtype)


class LayerNorm(nnx.Module):
    def __init__(self, width, epsilon=1e-5):
        self.scale, self.shift, self.epsilon = nnx.Param(jnp.ones((width,))), nnx.Param(jnp.zeros((width,))), epsilon

    def __call__(self, x):
        wide = x.astype(jnp.float32)
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.epsilon)
        return (wide * jnp.broadcast_to(self.scale[...], x.shape) + jnp.broadcast_to(self.shift[...], x.shape)).astype(x.dtype)


class Linear(nnx.Module):
    """y = x W (+ b) on the last axis; W [fan_in, fan_out] normal (truncated) with variance gain^2 / fan_in, b zeros.

    x is flattened to rows first: the weights' gradient is then one product of two matrices. With [B,T,D] operands XLA's CPU compiler
    contracts two axes at once, and a training step of the feed-forward takes twice as long.
    """

    def __init__(self, fan_in, fan_out, rngs, gain=1.0, bias=False):
        init = nnx.initializers.variance_scaling(gain**2, "fan_in", "truncated_normal")
        self.kernel = nnx.Param(init(rngs.params(), (fan_in, fan_out), jnp.float32))
        self.bias = nnx.Param(jnp.zeros((fan_out,))) if bias else None

    def __call__(self, x):
        return product(x, self.kernel[...], None if self.bias is None else self.bias[...])

    def apart(self, x, widths):
        """y in pieces of these widths, a product each: in a loop over pieces of a row cheaper than one product cut up, which is copied, as is its
        gradient. For a single token, or a whole batch at once, dearer: the columns of W are what is copied then."""
        y, begin = [], 0
        for width in widths:
            columns = slice(begin, begin + width)
            y.append(product(x, self.kernel[:, columns], None if self.bias is None else self.bias[columns]))
            begin += width
        return y


def product(x, W, b=None):
    y = x.reshape(-1, W.shape[0]) @ W.astype(x.dtype)
    y = y if b is None else y + b.astype(x.dtype)[None, :]
    return y.reshape(*x.shape[:-1], W.shape[1])


def positive(width):
    if width is not None and width < 1:
        raise ValueError(f"the feed-forward width must be at least 1, or None for the default; got {width}")


@dataclass(frozen=True)
class Mlp:
    width: int | None = None
    bias: bool = False

    def __post_init__(self):
        positive(self.width)

    def build(self, d_model, *, gain, rngs):
        return MlpLayer(d_model, self.width or 4 * d_model, self.bias, gain, rngs)


@dataclass(frozen=True)
class GatedMlp:
    width: int | None = None

    def __post_init__(self):
        positive(self.width)

    def build(self, d_model, *, gain, rngs):
        return GatedMlpLayer(d_model, self.width or -(-8 * d_model // 24) * 8, gain, rngs)


class MlpLayer(nnx.Module):
    def __init__(self, d_model, width, bias, gain, rngs):
        self.up, self.down = Linear(d_model, width, rngs, bias=bias), Linear(width, d_model, rngs, gain, bias)

    def __call__(self, x):
        return self.down(nnx.gelu(self.up(x)))


class GatedMlpLayer(nnx.Module):
    def __init__(self, d_model, width, gain, rngs):
        self.gate, self.up, self.down = Linear(d_model, width, rngs), Linear(d_model, width, rngs), Linear(width, d_model, rngs, gain)

    def __call__(self, x):
        return self.down(nnx.silu(self.gate(x)) * self.up(x))


NORMS = {"rms": Rms, "centred": Centred}
FEED_FORWARDS = {"mlp": Mlp, "gated_mlp": GatedMlp}
