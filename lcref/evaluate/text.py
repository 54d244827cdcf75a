"""The loss of real text: with more and more context, in whole chunks, by position, as a stream; and questions about a key in it."""
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lcref.evaluate import scoring
from lcref.nn.decoder import growing


@dataclass(frozen=True)
class ContextLoss(scoring.OfWindows):
    """Real text: nats per byte on the same last bytes of each window, given more and more context before them."""
    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    targets: int = 128                         # the last bytes of each window, the only ones scored
    windows: int = 32
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.targets > min(self.lengths):
            raise ValueError(f"targets={self.targets}: the shortest length is {min(self.lengths)}, and every length scores the same bytes")

    def slices(self, source):
        return {"context_loss": [str(length) for length in self.lengths]}

    def __call__(self, decoder, source):
        self.check(source)
        text = source.windows(self.seed, self.windows, max(self.lengths), split=self.split)       # [windows, longest + 1]
        return {"context_loss": {str(length): float(self.nats(decoder, text[:, -(length + 1):]).mean()) for length in self.lengths}}

    def nats(self, decoder, rows):
        return scoring.score(decoder, rows[:, :-1], rows[:, 1:])[0][:, -self.targets:]


@dataclass(frozen=True)
class ChunkLoss(scoring.OfWindows):
    """Real text: mean nats per byte of whole chunks of each length; the chunks of a length cover the same bytes."""
    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    windows: int = 32
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if odd := [length for length in self.lengths if max(self.lengths) % length]:
            raise ValueError(f"length {odd[0]} does not divide the longest, {max(self.lengths)}, and every length scores the same bytes")

    def slices(self, source):
        return {"chunk_loss": [str(length) for length in self.lengths]}

    def __call__(self, decoder, source):
        self.check(source)
        longest = max(self.lengths)
        text = source.windows(self.seed, self.windows, longest, split=self.split)
        losses = {}
        for length in self.lengths:
            chunks = longest // length                     # the same bytes at every length: windows cut without overlap
            starts = np.arange(chunks) * length
            rows = np.concatenate([text[:, s:s + length + 1] for s in starts])
            losses[str(length)] = float(scoring.score(decoder, rows[:, :-1], rows[:, 1:])[0].mean())
        return {"chunk_loss": losses}


@dataclass(frozen=True)
class PositionLoss(scoring.OfWindows):
    """Real text: mean nats per byte of one pass over windows of `length`, by position: one slice for each `bucket` of them, named by
    its first. Where does a model break, and does it ever recover? Later positions have more context but also other bytes to predict:
    compare schemes at a position, not one scheme's positions with each other (ContextLoss pairs the bytes for that)."""
    length: int = 4096
    bucket: int = 128
    windows: int = 32
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.bucket > self.length:
            raise ValueError(f"bucket={self.bucket} must be from 1 to length={self.length}")

    def slices(self, source):
        return {"position_loss": [str(i) for i in range(0, self.length, self.bucket)]}

    def __call__(self, decoder, source):
        self.check(source)
        text = source.windows(self.seed, self.windows, self.length, split=self.split)
        nats = scoring.score(decoder, text[:, :-1], text[:, 1:])[0].mean(0)
        return {"position_loss": {str(i): float(nats[i:i + self.bucket].mean()) for i in range(0, self.length, self.bucket)}}


@dataclass(frozen=True)
class KeyRecall(scoring.Evaluation):
    """Text with a key in it (lcref.data.keyed): share of questions answered, by the number of tokens between key and question. Chance is
    1 / keys for every token of the key. A model whose layers x window is less than the distance cannot do better."""
    distances: tuple[int, ...] = (32, 64, 128, 240, 512, 1024, 2048)
    questions: int = 100                       # per distance
    split: str = "validation"
    seed: int = 1

    def check(self, source):
        scoring.needs(self, source, "questions")

    def width(self, source):
        return max(source.questions(self.seed, 1, distance, split=self.split)[0].shape[1] for distance in self.distances)

    def slices(self, source):
        return {"key_recall": [str(distance) for distance in self.distances]}

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
            found[str(distance)] = float(scoring.score(decoder, np.pad(rows, after), np.pad(targets, after), real=T)[1][:, T - span:T].all(1).mean())
        return {"key_recall": found}


@partial(jax.jit, static_argnums=0)
def streamed(graph, params, state, inputs, targets):
    """(nats [B,n] of the next n tokens of a stream, the state after them)"""
    logits, state = nnx.merge(graph, params).extend(inputs, state)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets), state


@dataclass(frozen=True)
class StreamLoss(scoring.Evaluation):
    """Real text as one stream of `length` tokens, read `piece` at a time: mean nats per byte between one power of two and the next, named by
    where each span ends. Documents follow one another, announced by BOS alone, and the split begins anew when it is used up. That a document
    ends, which nothing else scores, is scored here too: some 50 tokens of a million in the Python library.

    Constant memory is the point: ValueError for a model whose state grows with the stream (attention without a window), and for schemes
    that draw ids. Spans hold different bytes: compare models on a span, not one model's spans with each other.
    """
    length: int = 1_000_000
    piece: int = 1024
    split: str = "validation"

    def check(self, source):
        scoring.needs(self, source, "stream")

    def width(self, source):
        return self.length

    def slices(self, source):
        return {"stream_loss": [str(min(2**i, self.length)) for i in range((self.length - 1).bit_length() + 1)]}

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
