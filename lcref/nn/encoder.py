"""BERT's encoder (arXiv 1810.04805): every token sees every other, in both directions. Read it top to bottom.

    h = norm(E[token] + P[position] + s);   per block: h = norm(h + attention(h) Wo);  h = norm(h + W2 gelu(W1 h))

Norms come after the sums, gelu is the exact one, products carry biases. s is the vector of the first of BERT's two segments. A text's vector is
the mean over its tokens of the last h (arXiv 1908.10084, section 3).

`weights` is what turns scores into weights, any value of ops/weights.py: TempScale(0.9) divides the scores by 0.9 and changes no parameter.
Rows are all of one length: there is no padding to hide.
"""
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from lcref.kernels.attention import dot_product_attention
from lcref.nn.layers import Centred, Linear
from lcref.ops.numbers import whole
from lcref.ops.positions import indices
from lcref.ops.weights import Softmax, Weights


@dataclass(frozen=True)
class EncoderConfig:
    vocab: int
    d_model: int = 64
    layers: int = 2
    heads: int = 4
    width: int = 256                           # of the feed-forward layer
    length: int = 512                          # of the table of positions
    weights: Weights = Softmax()
    norm: Centred = Centred(1e-12)

    def __post_init__(self):
        for name in ("vocab", "d_model", "layers", "heads", "width", "length"):
            whole("encoder", name, getattr(self, name))
        if self.d_model % self.heads:
            raise ValueError(f"heads={self.heads} does not divide d_model={self.d_model}")

    def build(self, *, rngs):
        return Encoder(self, rngs=rngs)


class Encoder(nnx.Module):
    def __init__(self, cfg, *, rngs):
        normal = lambda *shape: nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))
        self.cfg = cfg
        self.embedding, self.position, self.segment = normal(cfg.vocab, cfg.d_model), normal(cfg.length, cfg.d_model), normal(cfg.d_model)
        self.norm = cfg.norm.build(cfg.d_model)
        self.blocks = nnx.List([EncoderBlock(cfg, rngs) for _ in range(cfg.layers)])

    def __call__(self, tokens):
        """tokens int [B,T] -> [B,T,D]. Cost O(B T (T + D) D) a layer.

        ValueError for T past the table of positions and for known ids outside the vocabulary; traced ones give NaN.
        """
        T = tokens.shape[1]
        if T > self.cfg.length:
            raise ValueError(f"rows of {T} tokens are longer than the table of {self.cfg.length} positions")
        if not isinstance(tokens, jax.core.Tracer) and tokens.size and not 0 <= tokens.min() <= tokens.max() < self.cfg.vocab:
            raise ValueError(f"tokens must be from 0 to {self.cfg.vocab - 1}, got {tokens.min()} to {tokens.max()}")
        h = self.norm(self.words(tokens) + self.position[...][None, :T] + self.segment[...][None, None])
        for block in self.blocks:
            h = block(h)
        return h

    def words(self, tokens):
        """The embeddings of tokens int [B,T] alone, [B,T,D]; NaN outside the vocabulary."""
        return jnp.take(self.embedding[...], indices(tokens, self.cfg.vocab), axis=0, mode="fill", fill_value=jnp.nan)


class EncoderBlock(nnx.Module):
    def __init__(self, cfg, rngs):
        D, linear = cfg.d_model, lambda fan_in, fan_out: Linear(fan_in, fan_out, rngs, bias=True)
        self.heads, self.weights = cfg.heads, cfg.weights
        self.q, self.k, self.v, self.out, self.mixer_norm = linear(D, D), linear(D, D), linear(D, D), linear(D, D), cfg.norm.build(D)
        self.up, self.down, self.feed_norm = linear(D, cfg.width), linear(cfg.width, D), cfg.norm.build(D)

    def __call__(self, h):
        B, T, D = h.shape
        q, k, v = (part(h).reshape(B, T, self.heads, D // self.heads) for part in (self.q, self.k, self.v))
        h = self.mixer_norm(h + self.out(dot_product_attention(q, k, v, weights=self.weights).reshape(B, T, D)))
        return self.feed_norm(h + self.down(nnx.gelu(self.up(h), approximate=False)))


def vectors(encoder, tokens):
    """(vectors of rows, means of their tokens' embeddings alone), [B,D] both: what attention makes of a row, and what averaging does by itself."""
    return encoder(tokens).mean(1), encoder.words(tokens).mean(1)
