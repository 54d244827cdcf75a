"""What is inside while a model reads real text: the states it carries, how evenly its attention spreads, what its rows look like as vectors."""
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lcref.evaluate import scoring
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config, Mamba2State
from lcref.ops.ssm.forgetting import Recent, RecentOnly


@partial(jax.jit, static_argnums=0)
def extended(graph, params, state, tokens):
    """(the state after the next tokens, standard deviation [B,H] over the P x N numbers of every Mamba-2 state)"""
    _, state = nnx.merge(graph, params).read(tokens, state)
    return state, [layer.ssm.std((2, 3)) for layer in state.layers
                   if isinstance(layer, Mamba2State) and not isinstance(layer.ssm, Recent)]


@partial(jax.jit, static_argnums=0)
def decayed(graph, params, tokens):
    """Of every Mamba-2 layer, the sum of log decays [B,T,H] up to each token."""
    _, seen = nnx.merge(graph, params)(tokens, capture=True)
    return [jnp.cumsum(value, axis=1) for name, value in seen.items() if name.endswith("/log_decay")]


@dataclass(frozen=True)
class StateSpread(scoring.OfWindows):
    """Real text, read `every` tokens at a time: the Mamba-2 states after every, 2 every, 4 every, ... tokens.

        state_spread          standard deviation over a head's P x N numbers, mean over rows, median over heads and layers
        state_spread_largest  the same, of the head that has the largest
        first_token_left      exp(a_1 + ... + a_t), mean over rows, of the head that forgets least: 1 where nothing is forgotten. By decays
                              alone: what CapState scales away, and RecentOnly does not read, counts as kept

    A state that grows on past the training length was never seen by what reads it: state collapse (arXiv 2410.07145).
    """
    length: int = 4096
    every: int = 64
    windows: int = 8
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.every > self.length:
            raise ValueError(f"every={self.every} must be from 1 to length={self.length}")

    def slices(self, source):
        reads = [str(self.every << i) for i in range((self.length // self.every).bit_length())]
        return dict.fromkeys(("state_spread", "state_spread_largest", "first_token_left"), reads)

    def fits(self, model):
        """ValueError for a DecoderConfig without a Mamba-2 layer that keeps a plain state."""
        layers = [mixer for mixer in model.mixers() if isinstance(mixer, Mamba2Config)]
        if not any(not isinstance(mixer.memory, RecentOnly) for mixer in layers):
            raise ValueError("StateSpread looks at the states of Mamba-2 layers, and this model has none that keeps one")
        if any(mixer.allow_neg_eigval for mixer in layers):
            raise ValueError("StateSpread adds up log decays, and with allow_neg_eigval a decay has a sign: it has no logarithm")

    def __call__(self, decoder, source):
        self.check(source)
        self.fits(decoder.cfg)
        text = source.windows(self.seed, self.windows, self.length, split=self.split)[:, :-1]
        graph, params = nnx.split(decoder)
        state, found = jax.tree.map(jnp.asarray, decoder.init_state(self.windows, self.length)), {}
        left = [np.asarray(total) for total in decayed(graph, params, text)]
        for step in range(1, self.length // self.every + 1):
            end = step * self.every
            state, spread = extended(graph, params, state, text[:, end - self.every:end])
            if step & (step - 1) == 0:
                spread = np.concatenate([np.asarray(layer).mean(0) for layer in spread])
                kept = max(np.exp(total[:, end - 1]).mean(0).max() for total in left)
                for name, value in dict(state_spread=np.median(spread), state_spread_largest=spread.max(), first_token_left=kept).items():
                    found.setdefault(name, {})[str(end)] = float(value)
        return found


@partial(jax.jit, static_argnums=(0, 4))
def entropies(graph, params, tokens, positions, rows):
    """Of every attention layer, the entropy [B,H,rows] in nats of the weights [B,H,T,T] in the last rows."""
    seen = {}
    nnx.merge(graph, params).hidden(tokens, positions, seen=seen)
    return [jax.scipy.special.entr(value[:, :, -rows:]).sum(-1) for name, value in seen.items() if name.endswith("/weights")]


@dataclass(frozen=True)
class WeightEntropy(scoring.OfWindows):
    """Real text: the entropy of the attention weights w [B,H,T,T] in the last `rows` rows of each window, mean over windows, rows, heads, layers.

        weight_entropy   H_t = -sum_s w_ts ln w_ts, in nats: exp(H_t) keys of equal weight would have it
        weight_evenness  H_t / ln n, n = t + 1 tokens up to the row's own: 1 where all of them weigh the same, 0 where one has everything

    The rows are the same tokens at every length, given more and more context before them. A row of zeros (LSSAR where no key stands out)
    counts as 0. The T x T matrix of a layer is built, for one window at a time.
    """
    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    rows: int = 64
    windows: int = 4
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.rows >= min(self.lengths):
            raise ValueError(f"rows={self.rows}: the shortest length is {min(self.lengths)}, and every row looked at has a token before it")

    def slices(self, source):
        return dict.fromkeys(("weight_entropy", "weight_evenness"), [str(length) for length in self.lengths])

    def fits(self, model):
        """ValueError for a DecoderConfig without attention."""
        if not any(isinstance(mixer, AttentionConfig) for mixer in model.mixers()):
            raise ValueError("WeightEntropy looks at the weights of attention layers, and this model has none")

    def __call__(self, decoder, source):
        self.check(source)
        self.fits(decoder.cfg)
        text = source.windows(self.seed, self.windows, max(self.lengths), split=self.split)[:, :-1]
        graph, params = nnx.split(decoder)
        scheme, found = decoder.cfg.position, {"weight_entropy": {}, "weight_evenness": {}}
        for length in self.lengths:
            H = []
            for n, row in enumerate(text[:, None, -length:]):
                ids = scheme.ids(jax.random.fold_in(jax.random.key(self.seed), n), jnp.arange(length)[None, :]) if scheme.draws_ids else None
                H.append(np.concatenate([np.asarray(layer) for layer in entropies(graph, params, row, ids, self.rows)], axis=1))
            H = np.mean(H, axis=(0, 1, 2))                                     # [rows]
            found["weight_entropy"][str(length)] = float(H.mean())
            found["weight_evenness"][str(length)] = float((H / np.log(np.arange(length - self.rows, length) + 1)).mean())
        return found


@partial(jax.jit, static_argnums=0)
def pooled(graph, params, tokens, positions):
    """Means over each row, [B,D]: of what the logits are made of, and of the embeddings of its tokens."""
    model = nnx.merge(graph, params)
    return model.norm(model.hidden(tokens, positions)).mean(1), model.embed(tokens, positions).mean(1)


def spread(one, other):
    """Vectors of two pieces of each of n texts, [n,D] both -> (mean cosine between pieces of different texts, share of the first pieces whose
    nearest among the second ones is their own text's)."""
    one, other = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (one, other))
    cosines, n = one @ other.T, len(one)
    return float(cosines[~np.eye(n, dtype=bool)].mean()), float((cosines.argmax(1) == np.arange(n)).mean())


@dataclass(frozen=True)
class EmbeddingSpread(scoring.OfWindows):
    """Real text as vectors: each row is the mean of its last layer. From each of `windows` stretches two
    rows that do not overlap, of every length; each is of a document of its own as long as so many are long enough.

        embedding_cosine  mean cosine between rows of different windows: 1 where all look alike (length collapse, arXiv 2410.24200)
        input_cosine      the same of the tokens' embeddings alone, the control: what averaging over more tokens does by itself
        sibling_found     share of rows whose nearest among the second rows of all windows is its own window's

    ValueError for models that are no Decoder, and below 2 windows.
    """
    lengths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    windows: int = 32
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.windows < 2:
            raise ValueError(f"windows={self.windows}: one window cannot be compared with others; 2 or more")

    def slices(self, source):
        return dict.fromkeys(("embedding_cosine", "input_cosine", "sibling_found"), [str(length) for length in self.lengths])

    def width(self, source):
        """The longest row; a window holds two, and the source must have one."""
        source.windows(self.seed, 1, 2 * max(self.lengths), split=self.split)
        return max(self.lengths)

    def fits(self, model):
        """ValueError for a model that is not a Decoder: it has no last layer to average."""
        if not model.mixers():
            raise ValueError("EmbeddingSpread averages a decoder's last layer, and this model has none")

    def __call__(self, decoder, source):
        self.check(source)
        self.fits(decoder.cfg)
        longest = max(self.lengths)
        text = source.windows(self.seed, self.windows, 2 * longest, split=self.split)
        graph, params = nnx.split(decoder)
        scheme, found = decoder.cfg.position, {"embedding_cosine": {}, "input_cosine": {}, "sibling_found": {}}
        for length in self.lengths:
            ids = scheme.ids(jax.random.key(self.seed), jnp.arange(length)[None, :]) if scheme.draws_ids else None
            rows = np.array([[pooled(graph, params, row[None, first:first + length], ids) for row in text] for first in (0, longest)])[..., 0, :]
            (one, alone), (other, other_alone) = np.moveaxis(rows, 2, 1)                               # [windows, D] each: last layer, embeddings
            found["embedding_cosine"][str(length)], found["sibling_found"][str(length)] = spread(one, other)
            found["input_cosine"][str(length)], _ = spread(alone, other_alone)
        return found
