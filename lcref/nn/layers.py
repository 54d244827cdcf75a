"""The parts every block shares: root-mean-square norm and the two feed-forward layers.

    RMSNorm    y = x / sqrt(mean(x^2) + eps) * g                            arXiv 1910.07467
    Mlp        y = W2 gelu(W1 x)                                            width F (default 4 D)
    GatedMlp   y = W2 (silu(W1 x) * W3 x)                                   SwiGLU, arXiv 2002.05202; F (default 8/3 D, up to a multiple of 8)

No biases. x is [..., D].
"""
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx


class RMSNorm(nnx.Module):
    def __init__(self, width, epsilon=1e-6):
        self.scale, self.epsilon = nnx.Param(jnp.ones((width,))), epsilon

    def __call__(self, x):
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.epsilon)
        return (wide * self.scale[...].reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


class Linear(nnx.Module):
    """y = x W on the last axis, no bias; W [fan_in, fan_out] normal (truncated) with variance gain^2 / fan_in.

    x is flattened to rows first: the weights' gradient is then one product of two matrices. With [B,T,D] operands XLA's CPU compiler
    contracts two axes at once, and a training step of the feed-forward takes twice as long.
    """

    def __init__(self, fan_in, fan_out, rngs, gain=1.0):
        init = nnx.initializers.variance_scaling(gain**2, "fan_in", "truncated_normal")
        self.kernel = nnx.Param(init(rngs.params(), (fan_in, fan_out), jnp.float32))

    def __call__(self, x):
        W = self.kernel[...].astype(x.dtype)
        return (x.reshape(-1, W.shape[0]) @ W).reshape(*x.shape[:-1], W.shape[1])


def positive(width):
    if width is not None and width < 1:
        raise ValueError(f"the feed-forward width must be at least 1, or None for the default; got {width}")


@dataclass(frozen=True)
class Mlp:
    width: int | None = None

    def __post_init__(self):
        positive(self.width)

    def build(self, d_model, *, gain, rngs):
        return MlpLayer(d_model, self.width or 4 * d_model, gain, rngs)


@dataclass(frozen=True)
class GatedMlp:
    width: int | None = None

    def __post_init__(self):
        positive(self.width)

    def build(self, d_model, *, gain, rngs):
        return GatedMlpLayer(d_model, self.width or -(-8 * d_model // 24) * 8, gain, rngs)


class MlpLayer(nnx.Module):
    def __init__(self, d_model, width, gain, rngs):
        self.up, self.down = Linear(d_model, width, rngs), Linear(width, d_model, rngs, gain)

    def __call__(self, x):
        return self.down(nnx.gelu(self.up(x)))


class GatedMlpLayer(nnx.Module):
    def __init__(self, d_model, width, gain, rngs):
        self.gate, self.up, self.down = Linear(d_model, width, rngs), Linear(d_model, width, rngs), Linear(width, d_model, rngs, gain)

    def __call__(self, x):
        return self.down(nnx.silu(self.gate(x)) * self.up(x))


FEED_FORWARDS = {"mlp": Mlp, "gated_mlp": GatedMlp}
