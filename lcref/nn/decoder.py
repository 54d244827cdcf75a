"""The decoder: tokens in, next-token logits out. Read it top to bottom.

    h = embed(tokens) (+ position scheme's embedding);   per block: h += mixer(norm(h)); h += feed_forward(norm(h));   logits = norm(h) W

Pre-norm residual blocks. `pattern` is a tuple of mixer configs repeated over the layers, so that any mixture of mixers is one line:
    DecoderConfig(vocab=256, layers=4, pattern=(AttentionConfig(window=64), AttentionConfig()))
"""
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lcref.nn.layers import Linear, Mlp, Rms
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Position, Rope
from lcref.nn.positions.scheme import row_length
from lcref.ops.numbers import number, whole
from lcref.ops.positions import plain


@dataclass(frozen=True)
class DecoderConfig:
    vocab: int
    d_model: int = 64
    layers: int = 2
    mixer: Any = AttentionConfig()             # used by every layer ...
    pattern: tuple | None = None               # ... unless this is given: mixer configs, repeated over the layers
    position: Any = Rope()
    feed_forward: Any = Mlp()                  # None: blocks of a mixer alone, as Mamba's
    norm: Any = Rms()
    tie_embeddings: bool = False               # logits = norm(h) E^T with the input embedding E
    embed_std: float = 0.02

    def __post_init__(self):
        for name in ("vocab", "d_model", "layers"):
            whole("decoder", name, getattr(self, name))
        number("decoder", "embed_std", self.embed_std, least=0)
        if self.pattern is not None and not (isinstance(self.pattern, tuple) and self.pattern):
            raise ValueError(f"pattern must be a tuple of mixer configs, or None to use `mixer` in every layer; got {self.pattern!r}")

    def mixers(self):
        pattern = self.pattern or (self.mixer,)
        return [pattern[i % len(pattern)] for i in range(self.layers)]

    def build(self, *, rngs):
        return Decoder(self, rngs=rngs)


class Block(nnx.Module):
    def __init__(self, cfg, mixer, position, rngs):
        # Each block adds two terms to the stream: keep its variance independent of depth. Deviation: blocks without a feed-forward add but one, for
        # which Mamba's code has layers^-0.5.
        gain = (2 * cfg.layers) ** -0.5
        self.mixer_norm, self.mixer = cfg.norm.build(cfg.d_model), mixer.build(cfg.d_model, position=position, gain=gain, rngs=rngs)
        feeds = cfg.feed_forward is not None
        self.feed_norm = cfg.norm.build(cfg.d_model) if feeds else None
        self.feed_forward = cfg.feed_forward.build(cfg.d_model, gain=gain, rngs=rngs) if feeds else None

    def __call__(self, x, **kwargs):
        return self.feed(x + self.mixer(self.mixer_norm(x), **kwargs))

    def extend(self, x, state, **kwargs):
        y, state = self.mixer.extend(self.mixer_norm(x), state, **kwargs)
        return self.feed(x + y), state

    def feed(self, x):
        return x if self.feed_forward is None else x + self.feed_forward(self.feed_norm(x))


class State(NamedTuple):
    """What decoding carries: how many tokens were read, the ids of all slots (None: 0, 1, 2, ...), one state per layer, and what the
    position schemes solved for once (CLEX's frequencies)."""
    cursor: jax.Array | int
    positions: jax.Array | None
    layers: tuple
    tables: tuple = ()


class Decoder(nnx.Module):
    def __init__(self, cfg, *, rngs):
        self.cfg = cfg
        self.embedding = nnx.Embed(cfg.vocab, cfg.d_model, embedding_init=nnx.initializers.normal(cfg.embed_std), rngs=rngs)
        self.position, own = schemes(cfg, rngs)
        self.blocks = nnx.List([Block(cfg, mixer, position, rngs) for mixer, position in zip(cfg.mixers(), own)])
        self.norm = cfg.norm.build(cfg.d_model)
        self.readout = None if cfg.tie_embeddings else Linear(cfg.d_model, cfg.vocab, rngs)

    def __call__(self, tokens, positions=None, segments=None, capture=False):
        """tokens int [B,T] -> logits [B,T,W] in float32.

        positions [B,T] or [1,T]: ids for the position scheme, default 0..T-1. segments [B,T]: document ids of packed rows (0 = padding);
        give the positions that restart with them. capture=True returns (logits, seen) with every intermediate by name:
        "embedding", "block0", ..., "block0/weights" [B,H,T,T].
        """
        seen = {}
        logits = self.logits(self.hidden(tokens, positions, segments, seen if capture else None))
        return (logits, seen) if capture else logits

    def hidden(self, tokens, positions=None, segments=None, seen=None):
        """What the logits are made of, [B,T,D]: for those who want only some of a long row's logits, since all of them are T x W numbers.
        seen: a dict that receives every intermediate."""
        self.check(tokens, positions=positions, segments=segments)
        x = self.embed(tokens, positions)
        if seen is not None:
            seen["embedding"] = x
        ready = self.ready(tokens.shape[1] if positions is None else row_length(positions), self.solve())
        for i, block in enumerate(self.blocks):
            inside = {}
            x = block(x, positions=positions, segments=segments, **ready(block), **({} if seen is None else dict(seen=inside)))
            if seen is not None:
                seen |= {f"block{i}": x, **{f"block{i}/{name}": value for name, value in inside.items()}}
        return x

    def init_state(self, batch, length, positions=None):
        """State for streams of up to `length` tokens (mixers with bounded memory, such as windowed attention, take any number).
        positions [1 or B, length]: ids of all slots, where they are not 0, 1, 2, ... (randomized schemes)."""
        if positions is not None and jnp.shape(positions) not in ((1, length), (batch, length)):
            raise ValueError(f"positions of a state must be [1 or {batch}, {length}], got {list(jnp.shape(positions))}")
        return State(np.int32(0), positions, tuple(block.mixer.init_state(batch, length) for block in self.blocks), self.solve())

    def extend(self, tokens, state):
        """The next n tokens [B,n] -> (logits [B,n,W], state): n = 1 is decoding, n > 1 prefill. Any split gives the whole pass's logits,
        unless a scaling depends on the length (dynamic NTK, CLEX, ...): each piece is then read as in a row that ends with it.

        Raises ValueError past the state's length; inside jit, where nothing can be raised, logits past it are NaN.
        """
        x, after = self.read(tokens, state)
        return self.logits(x), after

    def read(self, tokens, state):
        """`extend` without the logits: (what they are made of [B,n,D], state)."""
        self.check(tokens)
        slots = state.cursor + np.arange(tokens.shape[1], dtype=np.int32)      # known at the start of a stream: tiles can then be skipped
        if state.positions is not None and not isinstance(slots, jax.core.Tracer) and slots[-1] >= state.positions.shape[1]:
            raise ValueError(f"the state holds positions for {state.positions.shape[1]} tokens, slot {int(slots[-1])} was asked for")
        x = self.embed(tokens, slots[None, :] if state.positions is None else jnp.asarray(state.positions)[:, slots])
        layers, end = [], state.cursor + tokens.shape[1]
        ready = self.ready(end if state.positions is None else row_length(state.positions), state.tables)
        for block, layer in zip(self.blocks, state.layers):
            x, layer = block.extend(x, layer, positions=state.positions, **ready(block))
            layers.append(layer)
        if state.positions is not None:                            # the lookup above repeats the last id: never let that pass for a result
            x = jnp.where(end > state.positions.shape[1], jnp.nan, x)
        return x, State(end, state.positions, tuple(layers), state.tables)

    def rotating(self):
        """The distinct position schemes of the layers; mixers without one (state-space layers) are left out."""
        return list({id(scheme): scheme for block in self.blocks if (scheme := getattr(block.mixer, "position", None)) is not None}.values())

    def solve(self):
        return tuple(scheme.solve() for scheme in self.rotating())

    def ready(self, length, tables):
        """block -> the keyword that hands its mixer the position scheme, made ready once for rows of this length."""
        made = {id(scheme): dict(position=scheme.at(length, table)) for scheme, table in zip(self.rotating(), tables)}
        return lambda block: made.get(id(getattr(block.mixer, "position", None)), {})

    def embed(self, tokens, positions):
        positions = plain(tokens.shape[1])[None, :] if positions is None else positions
        tokens = jnp.where(tokens < 0, jnp.int32(self.cfg.vocab), tokens)        # an id that does not exist is NaN, not one counted from the end
        return self.position.embed(self.embedding(tokens), positions)

    def logits(self, x):
        """Next-token logits, float32, of what `hidden` gave."""
        x = self.norm(x)
        return (self.embedding.attend(x) if self.readout is None else self.readout(x)).astype(jnp.float32)

    def check(self, tokens, **ids):
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise ValueError(f"tokens must be integers [B,T], got {tokens.dtype}{list(tokens.shape)}")
        B, T = tokens.shape
        for name, value in ids.items():
            if value is not None and jnp.shape(value) not in ((1, T), (B, T)):
                raise ValueError(f"{name} must be [{B},{T}] or [1,{T}] for tokens [{B},{T}], got {list(jnp.shape(value))}")


def growing(cfg):
    """The first mixer's config whose state grows with the stream, as attention without a window keeps every token; None where none does."""
    sizes = [[jax.tree.map(jnp.shape, layer) for layer in jax.eval_shape(lambda: cfg.build(rngs=nnx.Rngs(0)).init_state(1, n)).layers]
             for n in (2, 4)]
    return next((mixer for mixer, short, long in zip(cfg.mixers(), *sizes) if short != long), None)


def schemes(cfg, rngs):
    """(the scheme whose embedding the decoder adds, the scheme of every layer; None for mixers without positions). Layers with the same
    scheme and head shape share one module, unless the scheme is one whose parameters belong to a layer (KERPLE, FIRE). A scheme that adds
    to the embedding has no heads to fit and is made once. Raises ValueError for a layer's own scheme that acts once for all layers."""
    shared, mixers = {}, cfg.mixers()

    def build(position, mixer):
        heads, width = getattr(mixer, "heads", 1), mixer.width(cfg.d_model) if hasattr(mixer, "width") else cfg.d_model
        key = position if position.embeds else (position, heads, width)
        if position != cfg.position and (position.embeds or position.draws_ids or position.draws_training_ids):
            raise ValueError(f"{position} acts once for all layers, so it cannot be one layer's own; give it as DecoderConfig.position")
        module = shared.get(key) or position.build(heads, width, cfg.d_model, rngs=rngs)
        if not position.per_layer:
            shared[key] = module
        return module
    own = [build(mixer.position or cfg.position, mixer) if hasattr(mixer, "position") else None for mixer in mixers]
    return build(cfg.position, mixers[0]) if cfg.position.embeds else Position(), own
