"""Evaluation by length: the numbers every figure of this project is made of.

An evaluation is a frozen dataclass; calling it with a decoder and a source gives {metric: {slice: value}}. `check(source)` refuses what it
cannot measure, `width(source)` is the longest row it will read, `fits(model)` refuses models: all are asked before anything is trained.

    ExactMatch   a task's problems of many lengths: share solved entirely, share of answer tokens right
    OutcomeMatch tasks whose answer is a trace: share whose outcome is right when the model writes it all itself
    DepthMatch   tasks that hide something: the same, by length and by how deep it stands
    ContextLoss  real text, strided: nats per byte on the SAME last bytes of each window, given more and more context before them
    ChunkLoss    real text, non-overlapping: mean nats per byte of whole chunks of each length
    PositionLoss real text, one pass over long windows: nats per byte by position, in buckets
    KeyRecall    real text with a key in it: share of questions answered, by the distance from key to question
    StreamLoss   real text without end, read piece by piece with a state that does not grow: nats per byte by how far the stream has come
    WeightEntropy  real text: how evenly attention spreads over what it may see, by the length of the row
    StateSpread  real text: how large the states of Mamba-2 layers are, and how much of the first token is left, by position
    Accuracy     rows with one answer at their end, such as images read pixel by pixel: share answered right

Exact match is teacher-forced: for a deterministic answer greedy decoding is right iff every scored argmax of one parallel pass is.
ContextLoss is paired: each length predicts the same bytes, so a difference between lengths is the context's doing, not the text's.
A model that cannot use more context stays flat; one that breaks past its training length rises; one that can use it falls.
"""
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lcref.generate import generate
from lcref.nn.decoder import growing
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config, Mamba2State
from lcref.ops.positions import plain
from lcref.ops.ssm.forgetting import Recent, RecentOnly
from lcref.tasks import mixed

TOKENS = 2**15                                             # tokens per compiled forward pass: bounds memory


@partial(jax.jit, static_argnums=0)
def scored(graph, state, inputs, targets, positions):
    """(nats of each target [B,T], is its argmax right [B,T])"""
    logits = nnx.merge(graph, state)(inputs, positions=positions)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets), jnp.argmax(logits, -1) == targets


def score(decoder, inputs, targets, seed=0, real=None):
    """`scored` over any number of rows, in equal batches (the last one padded), as numpy. Randomized position schemes draw ids from seed.

    real: of the T tokens, how many are not padding (default: all). Where frequencies depend on how long a row is (dynamic NTK, CLEX), all
    padding stands at the last real position: the longest position is what such a scheme takes for the length.
    """
    graph, state = nnx.split(decoder)
    rows, T = inputs.shape
    real = T if real is None else real
    batch = max(1, min(rows, TOKENS // T))
    scheme = decoder.cfg.position
    clipped = np.minimum(plain(T), real - 1)[None, :] if real < T and any(each.late for each in decoder.rotating()) else None
    results = []
    for n, first in enumerate(range(0, rows, batch)):
        x, y = inputs[first:first + batch], targets[first:first + batch]
        short = batch - len(x)
        x, y = np.pad(x, ((0, short), (0, 0))), np.pad(y, ((0, short), (0, 0)))
        ids = scheme.ids(jax.random.fold_in(jax.random.key(seed), n), jnp.arange(T)[None, :]) if scheme.draws_ids else clipped
        results.append([np.asarray(r)[:batch - short] for r in scored(graph, state, x, y, ids)])
    return tuple(np.concatenate(column) for column in zip(*results))


def needs(ev, source, what):
    """ValueError where the source cannot give what an evaluation reads."""
    if not hasattr(source, what):
        raise ValueError(f"{type(ev).__name__} reads source.{what}, which {type(source).__name__} does not have")


class OfWindows:
    """Evaluations that read windows of real text."""

    def check(self, source):
        needs(self, source, "windows")

    def width(self, source):
        """The longest window, once the source has shown that it holds one (ValueError)."""
        longest = max(self.lengths) if hasattr(self, "lengths") else self.length
        return source.windows(self.seed, 1, longest, split=self.split).shape[1] - 1


@dataclass(frozen=True)
class ExactMatch:
    lengths: tuple[int, ...] = (10, 20, 30, 40, 50)
    samples: int = 200                         # problems per length
    seed: int = 10_000                         # of the problems; training seeds are small numbers, so they never meet

    def check(self, source):
        needs(self, source, "task")
        for length in self.lengths:
            source.task.check(length)

    def width(self, source):
        return max(map(source.task.width, self.lengths))

    def __call__(self, decoder, source):
        """All lengths are padded to the longest, so one program is compiled. 95 % intervals: lcref/report.py."""
        self.check(source)
        task, width = source.task, self.width(source)
        metrics = {"exact_match": {}, "token_accuracy": {}}
        for length in self.lengths:
            rng = np.random.default_rng([self.seed, length])
            batch = mixed(task, rng, self.samples, np.full(self.samples, length), width)
            _, right = score(decoder, batch.inputs, batch.targets, seed=length, real=task.width(length))
            wanted = batch.weights > 0
            metrics["exact_match"][str(length)] = float((right | ~wanted).all(1).mean())
            metrics["token_accuracy"][str(length)] = float(right[wanted].mean())
        return metrics


@dataclass(frozen=True)
class OutcomeMatch(ExactMatch):
    """A task whose answer says more than what comes out, such as a trace: share of problems whose outcome (`task.outcome`, each token at its
    place) is right when the answer is written token by token, greedily. The problems are those of ExactMatch, which asks for all of it."""

    def check(self, source):
        super().check(source)
        needs(self, source.task, "outcome")

    def __call__(self, decoder, source):
        self.check(source)
        shares = {}
        for length in self.lengths:
            batch = source.task.sample(np.random.default_rng([self.seed, length]), self.samples, length)
            first, places = int(batch.weights[0].argmax()), source.task.outcome(length)
            written = np.asarray(generate(decoder, batch.inputs[:, :first + 1], int(places.max()) + 1, temperature=0, seed=length))
            shares[str(length)] = float((written[:, places] == batch.targets[:, first + places]).all(1).mean())
        return {"outcome_match": shares}


@dataclass(frozen=True)
class DepthMatch(ExactMatch):
    """A task that hides something at a depth, such as a passkey: share of problems solved entirely.

        depth_match  by length and depth ("256@0.5")        depth_mean  by length, the mean over depths
    """
    samples: int = 40                          # problems per length and depth
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    task: Any = None                           # another one in the same tokens (other filler); None: the source's

    def check(self, source):
        super().check(source)
        needs(self, task := self.task or source.task, "depth")
        if task.tokens != source.task.tokens:
            raise ValueError(f"{task} writes in other tokens than {source.task}, which the model has learned")

    def __call__(self, decoder, source):
        """Each length has a program of its own: the longest rows are many times the shortest."""
        self.check(source)
        found = {"depth_mean": {}, "depth_match": {}}
        for length in self.lengths:
            rng = np.random.default_rng([self.seed, length])
            parts = [replace(self.task or source.task, depth=depth).sample(rng, self.samples, length) for depth in self.depths]
            inputs, targets, weights = (np.concatenate(column) for column in list(zip(*parts))[:3])
            shares = (score(decoder, inputs, targets, seed=length)[1] | (weights == 0)).all(1).reshape(len(self.depths), -1).mean(1)
            found["depth_mean"][str(length)] = float(shares.mean())
            found["depth_match"] |= {f"{length}@{depth:g}": float(share) for depth, share in zip(self.depths, shares)}
        return found


@dataclass(frozen=True)
class ContextLoss(OfWindows):
    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    targets: int = 128                         # the last bytes of each window, the only ones scored
    windows: int = 32
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        if not 1 <= self.targets <= min(self.lengths):
            raise ValueError(f"targets={self.targets}: the shortest length is {min(self.lengths)}, and every length scores the same bytes")

    def __call__(self, decoder, source):
        self.check(source)
        text = source.windows(self.seed, self.windows, max(self.lengths), split=self.split)       # [windows, longest + 1]
        return {"context_loss": {str(length): float(self.nats(decoder, text[:, -(length + 1):]).mean()) for length in self.lengths}}

    def nats(self, decoder, rows):
        return score(decoder, rows[:, :-1], rows[:, 1:])[0][:, -self.targets:]


@dataclass(frozen=True)
class ChunkLoss(OfWindows):
    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    windows: int = 32
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        if odd := [length for length in self.lengths if length < 1 or max(self.lengths) % length]:
            raise ValueError(f"length {odd[0]} does not divide the longest, {max(self.lengths)}, and every length scores the same bytes")

    def __call__(self, decoder, source):
        self.check(source)
        longest = max(self.lengths)
        text = source.windows(self.seed, self.windows, longest, split=self.split)
        losses = {}
        for length in self.lengths:
            chunks = longest // length                     # the same bytes at every length: windows cut without overlap
            starts = np.arange(chunks) * length
            rows = np.concatenate([text[:, s:s + length + 1] for s in starts])
            losses[str(length)] = float(score(decoder, rows[:, :-1], rows[:, 1:])[0].mean())
        return {"chunk_loss": losses}


@dataclass(frozen=True)
class PositionLoss(OfWindows):
    """Real text: mean nats per byte of one pass over windows of `length`, by position: one slice for each `bucket` of them, named by
    its first. Where does a model break, and does it ever recover? Later positions have more context but also other bytes to predict:
    compare schemes at a position, not one scheme's positions with each other (ContextLoss pairs the bytes for that)."""
    length: int = 4096
    bucket: int = 128
    windows: int = 32
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        if not 1 <= self.bucket <= self.length:
            raise ValueError(f"bucket={self.bucket} must be from 1 to length={self.length}")

    def __call__(self, decoder, source):
        self.check(source)
        text = source.windows(self.seed, self.windows, self.length, split=self.split)
        nats = score(decoder, text[:, :-1], text[:, 1:])[0].mean(0)
        return {"position_loss": {str(i): float(nats[i:i + self.bucket].mean()) for i in range(0, self.length, self.bucket)}}


@dataclass(frozen=True)
class KeyRecall:
    """Text with a key in it (lcref.data.keyed): share of questions answered, by the number of tokens between key and question. Chance is
    1 / keys for every token of the key. A model whose layers x window is less than the distance cannot do better."""
    distances: tuple[int, ...] = (32, 64, 128, 240, 512, 1024, 2048)
    questions: int = 100                       # per distance
    split: str = "validation"
    seed: int = 1

    def check(self, source):
        needs(self, source, "questions")

    def width(self, source):
        return max(source.questions(self.seed, 1, distance, split=self.split)[0].shape[1] for distance in self.distances)

    def __call__(self, decoder, source):
        """Rows are padded to few widths, so that few programs are compiled, but never past the positions that the scheme has."""
        self.check(source)
        schemes = [decoder.cfg.position, *(mixer.position for mixer in decoder.cfg.mixers() if getattr(mixer, "position", None))]
        found, limit = {}, min([scheme.limit for scheme in schemes if scheme.limit is not None], default=np.inf)
        for distance in self.distances:
            rows, answers = source.questions(self.seed, self.questions, distance, split=self.split)
            targets = np.concatenate([rows[:, 1:], answers[:, -1:]], 1)
            T, span = rows.shape[1], answers.shape[1]
            after = ((0, 0), (0, min(-T % 256, max(0, limit - T))))             # what comes after the question changes nothing
            found[str(distance)] = float(score(decoder, np.pad(rows, after), np.pad(targets, after), real=T)[1][:, T - span:T].all(1).mean())
        return {"key_recall": found}


@partial(jax.jit, static_argnums=0)
def streamed(graph, params, state, inputs, targets):
    """(nats [B,n] of the next n tokens of a stream, the state after them)"""
    logits, state = nnx.merge(graph, params).extend(inputs, state)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets), state


@dataclass(frozen=True)
class StreamLoss:
    """Real text as one stream of `length` tokens, read `piece` at a time: mean nats per byte between one power of two and the next, named by
    where each span ends. Documents follow one another, announced by BOS alone, and the split begins anew when it is used up.

    Constant memory is the point: ValueError for a model whose state grows with the stream (attention without a window), and for schemes
    that draw ids. Spans hold different bytes: compare models on a span, not one model's spans with each other.
    """
    length: int = 1_000_000
    piece: int = 1024
    split: str = "validation"

    def __post_init__(self):
        for name in ("length", "piece"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def check(self, source):
        needs(self, source, "stream")

    def width(self, source):
        return self.length

    def fits(self, model):
        """ValueError for a DecoderConfig that cannot be read as a stream."""
        if (mixer := growing(model)) is not None:
            raise ValueError(f"a stream needs a state that does not grow with it, and {type(mixer).__name__} keeps every token: give it a window, "
                             "or use state-space layers")
        if model.position.draws_ids:
            raise ValueError(f"{type(model.position).__name__} draws ids for a row of known length, and a stream has none")

    def __call__(self, decoder, source):
        self.check(source)
        self.fits(decoder.cfg)
        tokens = source.stream(self.length, split=self.split)
        graph, params = nnx.split(decoder)
        state = jax.tree.map(jnp.asarray, decoder.init_state(1, self.piece))
        total, count = np.zeros(64), np.zeros(64, np.int64)
        for first in range(0, self.length, self.piece):
            end = min(first + self.piece, self.length)
            nats, state = streamed(graph, params, state, tokens[None, first:end], tokens[None, first + 1:end + 1])
            span = np.ceil(np.log2(np.arange(first, end) + 1)).astype(int)     # token number i + 1 lies in the span that ends at 2^span
            np.add.at(total, span, np.asarray(nats)[0])
            np.add.at(count, span, 1)
        return {"stream_loss": {str(min(2**i, self.length)): float(total[i] / count[i]) for i in np.flatnonzero(count)}}


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
class StateSpread(OfWindows):
    """Real text, read `every` tokens at a time: the Mamba-2 states after every, 2 every, 4 every, ... tokens.

        state_spread          standard deviation over a head's P x N numbers, mean over rows, median over heads and layers
        state_spread_largest  the same, of the head that has the largest
        first_token_left      exp(a_1 + ... + a_t), mean over rows, of the head that forgets least: 1 where nothing is forgotten

    A state that grows on past the training length was never seen by what reads it: state collapse (arXiv 2410.07145).
    """
    length: int = 4096
    every: int = 64
    windows: int = 8
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        if not 1 <= self.every <= self.length:
            raise ValueError(f"every={self.every} must be from 1 to length={self.length}")

    def fits(self, model):
        """ValueError for a DecoderConfig without a Mamba-2 layer that keeps a plain state."""
        if not any(isinstance(mixer, Mamba2Config) and not isinstance(mixer.memory, RecentOnly) for mixer in model.mixers()):
            raise ValueError("StateSpread looks at the states of Mamba-2 layers, and this model has none that keeps one")

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
class WeightEntropy(OfWindows):
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
        if not 1 <= self.rows < min(self.lengths):
            raise ValueError(f"rows={self.rows}: the shortest length is {min(self.lengths)}, and every row looked at has a token before it")

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


@dataclass(frozen=True)
class Accuracy:
    """Rows with one answer, at their last token (lcref.data.pixels): share of a whole split that is answered right, by how long the rows are."""
    split: str = "test"

    def check(self, source):
        needs(self, source, "examples")
        source.examples(self.split)

    def width(self, source):
        return source.width

    def __call__(self, decoder, source):
        self.check(source)
        rows, answers = source.examples(self.split)
        targets = np.zeros_like(rows)
        targets[:, -1] = answers
        return {"accuracy": {str(source.width): float(score(decoder, rows, targets)[1][:, -1].mean())}}


EVALS = {"exact_match": ExactMatch, "outcome_match": OutcomeMatch, "depth_match": DepthMatch, "context_loss": ContextLoss,
         "chunk_loss": ChunkLoss, "position_loss": PositionLoss, "key_recall": KeyRecall, "stream_loss": StreamLoss,
         "state_spread": StateSpread, "weight_entropy": WeightEntropy, "accuracy": Accuracy}
