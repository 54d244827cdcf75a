"""Scores of real models, against greedy decoding and by hand."""
import functools

import jax
import numpy as np
import pytest

from lcref.data.keyed import Keyed
from lcref.data.text import Text
from lcref.evaluate import ChunkLoss, ContextLoss, ExactMatch, KeyRecall, PositionLoss, score, scoring
from lcref.generate import generate
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Learned, LMInfinite, Randomized, Rope
from lcref.ops.rope_scaling import ClexPrior, DynamicNtk
from lcref.tasks import Copy, TaskSource
from lcref.train import TrainConfig, train
from tests.evaluate.looking import W, make, rows
from tests.tolerances import assert_close


def test_score_is_cross_entropy_and_argmax():
    inputs, targets = rows(7, 8)
    nats, right = score(make(), inputs, targets)
    logits = np.asarray(jax.jit(make())(inputs), np.float64)
    want = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    assert_close(nats, want.astype(np.float32))
    assert (right == (logits.argmax(-1) == targets)).all() and 0 < right.mean() < 0.5


def test_score_in_batches_is_score_at_once(monkeypatch):
    inputs, targets = rows(7, 8)
    once = score(make(), inputs, targets)
    monkeypatch.setattr(scoring, "TOKENS", 24)                                 # three rows at a time, the last batch padded
    assert_close(score(make(), inputs, targets), once)


def test_score_draws_randomized_ids_from_its_seed():
    inputs, targets = rows(7, 8)
    decoder = make(position=Randomized(Rope()))
    one, again, other = (score(decoder, inputs, targets, seed=seed)[0] for seed in (1, 1, 2))
    assert one.tobytes() == again.tobytes() and np.abs(one - other).max() > 1e-3


def test_one_program_scores_every_seed(monkeypatch):
    """Python runs only while jax traces, so that its calls can be counted; rows of 11 are scored by no other test."""
    traced, called = [], Decoder.__call__
    monkeypatch.setattr(Decoder, "__call__", lambda self, *args, **named: traced.append(args[0].shape) or called(self, *args, **named))
    inputs, targets = rows(7, 11)
    assert np.abs(score(make(seed=1), inputs, targets)[0] - score(make(), inputs, targets)[0]).max() > 0.1
    assert traced == [(7, 11)]


def test_rows_longer_than_a_learned_table_are_refused():
    with pytest.raises(ValueError, match="learned position table.*length 4"):
        score(make(position=Learned(4)), *rows(2, 5))


def test_a_windowed_model_answers_nothing_beyond_its_reach():
    """Two layers of window 3 reach back 2 + 2 tokens: what stands before cannot change the last token's loss by one bit."""
    decoder, T = make(layers=2, mixer=AttentionConfig(heads=2, window=3)), 10
    inputs, targets = (np.repeat(x, T + 1, axis=0) for x in rows(1, T))
    inputs[np.arange(T), np.arange(T)] = (inputs[0] + 1) % W                    # row t differs at t, the last row nowhere
    last = score(decoder, inputs, targets)[0][:, -1]
    assert (last[:T - 5] == last[T]).all() and (np.abs(last[T - 5:T] - last[T]) > 1e-4).all()


@functools.cache
def half_trained():
    """Right about every other problem of 2 and of 3 letters."""
    source = TaskSource(Copy(alphabet=2), 1, 3)
    model = DecoderConfig(vocab=source.vocab, d_model=16, layers=1, mixer=AttentionConfig(heads=2))
    return train(model, source, TrainConfig(steps=60, batch=32, learning_rate=1e-2, warmup=10, steps_per_call=20), [0])[0].decoder, source


@pytest.mark.parametrize("length", [2, 3])
def test_exact_match_is_greedy_decoding(length):
    decoder, source = half_trained()
    found = ExactMatch(lengths=(2, 3), samples=150)(decoder, source)
    batch = source.task.sample(np.random.default_rng([10_000, length]), 150, length)
    prompt, answer = batch.inputs[:, :length + 2], batch.targets[:, length + 1:]
    written = np.asarray(generate(decoder, prompt, length + 1, temperature=0))
    assert found["exact_match"][str(length)] == (written == answer).all(1).mean()
    assert 0.1 < found["exact_match"][str(length)] < 0.98, "a model that is always right, or never, would show nothing"
    assert found["token_accuracy"][str(length)] > found["exact_match"][str(length)]


def test_padding_to_the_longest_changes_nothing():
    decoder, source = half_trained()
    narrow, wide = ExactMatch(lengths=(2,), samples=150), ExactMatch(lengths=(2, 3), samples=150)
    for metric, values in wide(decoder, source).items():
        assert values["2"] == narrow(decoder, source)[metric]["2"]


@pytest.mark.parametrize("position", [Rope(scaling=DynamicNtk(original_length=4)), Rope(scaling=ClexPrior(factor=8, original_length=4)),
                                      LMInfinite(near=4, rope=Rope(scaling=DynamicNtk(original_length=4)))], ids=lambda p: type(p).__name__)
def test_padding_is_not_length(position):
    """Frequencies depend on how long a row is, and padding is not part of it."""
    inputs, targets = rows(5, 9)
    wide = [np.pad(x, ((0, 0), (0, 7))) for x in (inputs, targets)]
    decoder = make(position=position)
    alone, padded, as_a_whole = score(decoder, inputs, targets), score(decoder, *wide, real=9), score(decoder, *wide)
    assert_close(padded[0][:, :9], alone[0])
    assert (padded[1][:, :9] == alone[1]).all()
    assert np.abs(as_a_whole[0][:, :9] - alone[0]).max() > 1e-3, "or this test shows nothing"


def test_evaluations_say_what_is_padding(monkeypatch):
    """Two rows of 6 and 8 tokens, padded to 8, and questions of 23 and 25 tokens, padded to 256."""
    lengths, source = [], Keyed(Text(length=16), keys=2)

    def look(graph, state, inputs, targets, ids):
        lengths.append(inputs.shape[1] if ids is None else int(ids.max()) + 1)
        return targets, targets > 0
    monkeypatch.setattr(scoring, "scored", look)
    decoder = make(vocab=source.vocab, position=Rope(scaling=DynamicNtk(original_length=4)))
    ExactMatch((2, 3), samples=4)(decoder, TaskSource(Copy(2), 1, 3))
    KeyRecall((7, 9), questions=4)(decoder, source)
    assert lengths == [6, 8, 23, 25]


def test_evaluations_of_real_text():
    source = Keyed(Text(length=16), keys=2)
    decoder = make(vocab=source.vocab, embed_std=0.02)
    loss = ContextLoss(lengths=(8, 24), targets=8, windows=4)(decoder, source)["context_loss"]
    assert list(loss) == ["8", "24"] and all(abs(value - np.log(source.vocab)) < 1.5 for value in loss.values())
    by_position = PositionLoss(24, bucket=8, windows=4)(decoder, source)["position_loss"]
    assert list(by_position) == ["0", "8", "16"]
    assert np.mean(list(by_position.values())) == pytest.approx(ChunkLoss(lengths=(24,), windows=4)(decoder, source)["chunk_loss"]["24"], rel=1e-5)
    assert KeyRecall(distances=(7,), questions=4)(decoder, source)["key_recall"]["7"] in (0, 0.25, 0.5, 0.75, 1)
