"""Evaluation by length: the numbers every figure of this project is made of.

An evaluation is a frozen dataclass; calling it with a decoder and a source gives {metric: {slice: value}}.

    ExactMatch   a task's problems of many lengths: share solved entirely, share of answer tokens right
    ContextLoss  real text, strided: nats per byte on the SAME last bytes of each window, given more and more context before them
    ChunkLoss    real text, non-overlapping: mean nats per byte of whole chunks of each length
    KeyRecall    real text with a key in it: share of questions answered, by the distance from key to question

Exact match is teacher-forced: for a deterministic answer greedy decoding is right iff every scored argmax of one parallel pass is.
ContextLoss is paired: each length predicts the same bytes, so a difference between lengths is the context's doing, not the text's.
A model that cannot use more context stays flat; one that breaks past its training length rises; one that can use it falls.
"""
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lcref.tasks import mixed

TOKENS = 2**15                                             # tokens per compiled forward pass: bounds memory


@partial(jax.jit, static_argnums=0)
def scored(graph, state, inputs, targets, positions):
    """(nats of each target [B,T], is its argmax right [B,T])"""
    logits = nnx.merge(graph, state)(inputs, positions=positions)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets), jnp.argmax(logits, -1) == targets


def score(decoder, inputs, targets, seed=0):
    """`scored` over any number of rows, in equal batches (the last one padded), as numpy. Randomized position schemes draw ids from seed."""
    graph, state = nnx.split(decoder)
    rows, T = inputs.shape
    batch = max(1, min(rows, TOKENS // T))
    scheme = decoder.cfg.position
    results = []
    for n, first in enumerate(range(0, rows, batch)):
        x, y = inputs[first:first + batch], targets[first:first + batch]
        short = batch - len(x)
        x, y = np.pad(x, ((0, short), (0, 0))), np.pad(y, ((0, short), (0, 0)))
        ids = scheme.ids(jax.random.fold_in(jax.random.key(seed), n), jnp.arange(T)[None, :]) if scheme.draws_ids else None
        results.append([np.asarray(r)[:batch - short] for r in scored(graph, state, x, y, ids)])
    return tuple(np.concatenate(column) for column in zip(*results))


def needs(ev, source, what):
    """ValueError where the source cannot give what an evaluation reads."""
    if not hasattr(source, what):
        raise ValueError(f"{type(ev).__name__} reads source.{what}, which {type(source).__name__} does not have")


@dataclass(frozen=True)
class ExactMatch:
    lengths: tuple[int, ...] = (10, 20, 30, 40, 50)
    samples: int = 200                         # problems per length
    seed: int = 10_000                         # of the problems; training seeds are small numbers, so they never meet

    def check(self, source):
        needs(self, source, "task")

    def __call__(self, decoder, source):
        """All lengths are padded to the longest, so one program is compiled. 95 % intervals: see `wilson`."""
        self.check(source)
        task, width = source.task, source.task.width(max(self.lengths))
        metrics = {"exact_match": {}, "token_accuracy": {}}
        for length in self.lengths:
            rng = np.random.default_rng([self.seed, length])
            batch = mixed(task, rng, self.samples, np.full(self.samples, length), width)
            _, right = score(decoder, batch.inputs, batch.targets, seed=length)
            wanted = batch.weights > 0
            metrics["exact_match"][str(length)] = float((right | ~wanted).all(1).mean())
            metrics["token_accuracy"][str(length)] = float(right[wanted].mean())
        return metrics


@dataclass(frozen=True)
class ContextLoss:
    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    targets: int = 128                         # the last bytes of each window, the only ones scored
    windows: int = 32
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        if not 1 <= self.targets <= min(self.lengths):
            raise ValueError(f"targets={self.targets}: the shortest length is {min(self.lengths)}, and every length scores the same bytes")

    def check(self, source):
        needs(self, source, "windows")

    def __call__(self, decoder, source):
        self.check(source)
        text = source.windows(self.seed, self.windows, max(self.lengths), split=self.split)       # [windows, longest + 1]
        return {"context_loss": {str(length): float(self.nats(decoder, text[:, -(length + 1):]).mean()) for length in self.lengths}}

    def nats(self, decoder, rows):
        return score(decoder, rows[:, :-1], rows[:, 1:])[0][:, -self.targets:]


@dataclass(frozen=True)
class ChunkLoss:
    lengths: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    windows: int = 32
    split: str = "validation"
    seed: int = 0

    def __post_init__(self):
        if odd := [length for length in self.lengths if length < 1 or max(self.lengths) % length]:
            raise ValueError(f"length {odd[0]} does not divide the longest, {max(self.lengths)}, and every length scores the same bytes")

    def check(self, source):
        needs(self, source, "windows")

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

    def by_position(self, decoder, source, bucket=64):
        """Mean nats per byte of one pass over the longest windows, in buckets of positions: {first position: loss}."""
        text = source.windows(self.seed, self.windows, max(self.lengths), split=self.split)
        nats = score(decoder, text[:, :-1], text[:, 1:])[0].mean(0)
        return {str(i): float(nats[i:i + bucket].mean()) for i in range(0, len(nats), bucket)}


@dataclass(frozen=True)
class KeyRecall:
    """Text with a key in it (lcref.data.keyed): share of questions answered, by the number of tokens between key and question. Chance is
    1 / keys. A model whose layers x window is less than the distance cannot do better."""
    distances: tuple[int, ...] = (32, 64, 128, 240, 512, 1024, 2048)
    questions: int = 100                       # per distance
    split: str = "validation"
    seed: int = 1

    def check(self, source):
        needs(self, source, "questions")

    def __call__(self, decoder, source):
        self.check(source)
        found = {}
        for distance in self.distances:
            rows, answers = source.questions(self.seed, self.questions, distance, split=self.split)
            targets = np.concatenate([rows[:, 1:], answers[:, None]], 1)
            asked = rows.shape[1] - 1
            after = ((0, 0), (0, -rows.shape[1] % 256))     # what comes after the question changes nothing; few widths, few programs
            found[str(distance)] = float(score(decoder, np.pad(rows, after), np.pad(targets, after))[1][:, asked].mean())
        return {"key_recall": found}


def wilson(share, samples, z=1.96):
    """95 % interval of a share measured on `samples` independent trials (Wilson 1927): sound at 0 and 1, where the normal one is not."""
    centre, half = share + z * z / (2 * samples), z * np.sqrt(share * (1 - share) / samples + z * z / (4 * samples**2))
    return (centre - half) / (1 + z * z / samples), (centre + half) / (1 + z * z / samples)


EVALS = {"exact_match": ExactMatch, "context_loss": ContextLoss, "chunk_loss": ChunkLoss, "key_recall": KeyRecall}
