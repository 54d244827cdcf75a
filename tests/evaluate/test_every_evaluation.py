"""What all evaluations promise: fields that count, lengths known before training, wrong sources refused."""
import dataclasses

import numpy as np
import pytest

from lcref.data.keyed import Keyed
from lcref.data.text import Text
from lcref.evaluate import (
    EVALS, Accuracy, ChunkLoss, ContextLoss, DepthMatch, EmbeddingSpread, ExactMatch, KeyRecall, OutcomeMatch, PositionLoss,
    StateSpread, StreamLoss, WeightEntropy, problems,
)
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.tasks import Copy, CopyUnique, Passkey, TaskSource, TuringTrace
from tests.evaluate.looking import BLIND, Answers, Numbers, make

CHANGES = {
    "exact_match": (TaskSource(Copy(2), 1, 5), dict(lengths=(2, 3), samples=100, seed=1)),
    "outcome_match": (TaskSource(TuringTrace(addresses=8), 1, 3), dict(lengths=(2, 3), samples=50, seed=1)),
    "depth_match": (TaskSource(Passkey(digits=1), 1, 5), dict(lengths=(3, 4), depths=(0.0, 0.5), samples=60, seed=1, task=Passkey("random", 1))),
    "context_loss": (Numbers(), dict(lengths=(8, 9), targets=3, windows=4, split="test", seed=1)),
    "chunk_loss": (Numbers(), dict(lengths=(4, 16), windows=4, split="test", seed=1)),
    "position_loss": (Numbers(), dict(length=9, bucket=3, windows=4, split="test", seed=1)),
    "key_recall": (Numbers(), dict(distances=(4, 9), questions=30, split="test", seed=3)),
    "stream_loss": (Keyed(Text(length=16)), dict(length=9, split="test")),
    "state_spread": (Text(length=16), dict(length=16, every=2, windows=2, split="test", seed=1)),
    "weight_entropy": (Text(length=16), dict(lengths=(4, 9), rows=3, windows=3, split="test", seed=1)),
    "embedding_spread": (Text(length=16), dict(lengths=(4, 9), windows=3, split="test", seed=1)),
    "accuracy": (Answers(), dict(split="test")),
}
MODELS = {"stream_loss": dict(mixer=AttentionConfig(heads=2, window=4)), "state_spread": dict(mixer=Mamba2Config(state=4, head_dim=8)),
          "weight_entropy": {}, "embedding_spread": {}}
SAME = {"stream_loss": {"piece"}}                                               # fields that must not show: how a stream is cut


@pytest.mark.parametrize("name", EVALS)
def test_every_field_of_an_evaluation_changes_something(name, looked, monkeypatch):
    monkeypatch.setattr(problems, "generate", lambda decoder, prompt, tokens, **how: np.full((len(prompt), tokens), 19))   # "even", always
    base = {"exact_match": ExactMatch((2,)), "outcome_match": OutcomeMatch((1,), samples=99), "depth_match": DepthMatch((3,), depths=(0.0, 1.0)),
            "context_loss": ContextLoss((8,), targets=5), "chunk_loss": ChunkLoss((4, 8)),
            "position_loss": PositionLoss(8, bucket=4), "key_recall": KeyRecall((4, 8), questions=50), "stream_loss": StreamLoss(8, 8),
            "state_spread": StateSpread(8, every=4, windows=3), "weight_entropy": WeightEntropy((4, 8), rows=2, windows=2),
            "embedding_spread": EmbeddingSpread((4, 8), windows=4),
            "accuracy": Accuracy("validation")}[name]
    source, changes = CHANGES[name]
    model = make(vocab=source.vocab, **MODELS[name]) if name in MODELS else BLIND
    assert set(changes) | SAME.get(name, set()) == {f.name for f in dataclasses.fields(base)}, "a new field needs a change here that shows in the result"
    for field, value in changes.items():
        assert dataclasses.replace(base, **{field: value})(model, source) != base(model, source), field
    found = base(model, source)
    assert base(model, source) == found
    assert {metric: list(slices) for metric, slices in found.items()} == {metric: list(names) for metric, names in base.slices(source).items()}


@pytest.mark.parametrize("ev, source, width", [
    (ExactMatch((9, 4)), TaskSource(Copy(2), 1, 5), 20), (DepthMatch((9, 4)), TaskSource(Passkey(), 1, 5), 20), (ContextLoss((9, 4), targets=3), Numbers(), 9), (ChunkLoss((4, 8)), Numbers(), 8),
    (PositionLoss(10, 4), Numbers(), 10), (KeyRecall((9, 4)), Numbers(), 10), (EmbeddingSpread((9, 4)), Numbers(), 9), (KeyRecall((9, 4)), Keyed(Text(length=16)), 25)])
def test_the_longest_row_is_known_before_training(ev, source, width):
    assert ev.width(source) == width


@pytest.mark.parametrize("ev", [ContextLoss((256, 10**7)), ChunkLoss((10**7,)), PositionLoss(10**7), KeyRecall((10**7,)), EmbeddingSpread((10**7,))],
                         ids=lambda ev: type(ev).__name__)
def test_windows_longer_than_any_text_are_refused_before_training(ev):
    with pytest.raises(ValueError, match="no document has [12]00000"):
        ev.width(Keyed(Text(length=16)))


@pytest.mark.parametrize("make, words", [
    (lambda: ContextLoss(lengths=(64, 256)), "targets=128: the shortest length is 64"),
    (lambda: ContextLoss(lengths=(64,), targets=0), "ContextLoss targets must be a whole number >= 1, got 0"),
    (lambda: ChunkLoss(lengths=(3, 8)), "length 3 does not divide the longest, 8"),
    (lambda: ChunkLoss(lengths=(0, 8)), "ChunkLoss lengths must be a whole number >= 1, got 0"),
    (lambda: PositionLoss(length=8, bucket=9), "bucket=9 must be from 1 to length=8"),
    (lambda: WeightEntropy((8, 4), rows=4), "rows=4: the shortest length is 4"),
    (lambda: WeightEntropy((8,), rows=0), "WeightEntropy rows must be a whole number >= 1, got 0"),
    (lambda: PositionLoss(length=8, bucket=0), "PositionLoss bucket must be a whole number >= 1, got 0"),
    (lambda: ExactMatch(()), "ExactMatch lengths is empty"),
    (lambda: ExactMatch((5,), samples=0), "ExactMatch samples must be a whole number >= 1, got 0"),
    (lambda: ExactMatch((5,), seed=-1), "ExactMatch seed must be a whole number >= 0, got -1"),
    (lambda: DepthMatch((5,), depths=()), "DepthMatch depths is empty"),
    (lambda: KeyRecall((32, 2.5)), "KeyRecall distances must be a whole number >= 1, got 2.5"),
    (lambda: StateSpread(length=8, every=4, windows=0), "StateSpread windows must be a whole number >= 1, got 0"),
    (lambda: StateSpread(length=8, every=9), "every=9 must be from 1 to length=8"),
    (lambda: EmbeddingSpread((8,), windows=1), "windows=1: one window cannot be compared"),
])
def test_lengths_that_would_score_different_tokens(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("name, source, what", [("exact_match", Text(), "task"), ("depth_match", Text(), "task"),
                                                ("context_loss", TaskSource(), "windows"),
                                                ("chunk_loss", TaskSource(), "windows"),
                                                ("position_loss", TaskSource(), "windows"), ("key_recall", Text(), "questions"),
                                                ("state_spread", TaskSource(), "windows"), ("weight_entropy", TaskSource(), "windows"),
                                                ("embedding_spread", TaskSource(), "windows"),
                                                ("accuracy", Text(), "examples")])
def test_an_evaluation_of_the_wrong_source(name, source, what):
    for ask in (EVALS[name]().check, lambda source: EVALS[name]()(None, source)):
        with pytest.raises(ValueError, match=f"{EVALS[name].__name__} reads source.{what}, which {type(source).__name__} does not have"):
            ask(source)


def test_problems_longer_than_the_task_can_pose():
    with pytest.raises(ValueError, match="length 9 is too long"):
        ExactMatch(lengths=(2, 9))(None, TaskSource(CopyUnique(alphabet=8), 1, 4))
