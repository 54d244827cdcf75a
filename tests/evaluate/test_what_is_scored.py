"""Which tokens each evaluation scores, seen by a scorer that only looks."""
from types import SimpleNamespace

import numpy as np
import pytest

from lcref.data.keyed import Keyed
from lcref.data.text import Text
from lcref.evaluate import (
    Accuracy, ChunkLoss, ContextLoss, DepthMatch, ExactMatch, KeyRecall, OutcomeMatch, PositionLoss, problems,
    scoring,
)
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Learned, Randomized, Rope
from lcref.tasks import Copy, Passkey, TaskSource, TuringTrace, mixed
from lcref.tasks.passkey import KEY
from tests.evaluate.looking import BLIND, W, Answers, Numbers, make, rows


def test_context_loss_scores_the_same_tokens_at_every_length(looked):
    ev = ContextLoss(lengths=(4, 7, 12), targets=3, windows=5)
    losses = ev(None, Numbers())["context_loss"]
    last = Numbers().windows(0, 5, 12)[:, -3:]
    assert losses == {"4": last.mean(), "7": last.mean(), "12": last.mean()}
    assert [inputs.shape for inputs, _ in looked] == [(5, 4), (5, 7), (5, 12)]
    assert all((targets[:, -3:] == last).all() for _, targets in looked), "the context grows to the left"
    assert all((inputs[:, 1:] == targets[:, :-1]).all() for inputs, targets in looked)


def test_chunk_loss_covers_the_same_tokens_at_every_length(looked):
    losses = ChunkLoss(lengths=(3, 4, 12), windows=5)(None, Numbers())["chunk_loss"]
    every = Numbers().windows(0, 5, 12)[:, 1:]
    assert losses == {"3": every.mean(), "4": every.mean(), "12": every.mean()}
    assert [inputs.shape for inputs, _ in looked] == [(20, 3), (15, 4), (5, 12)]
    assert all((np.sort(targets, axis=None) == every.ravel()).all() for _, targets in looked)
    assert all((inputs[:, 1:] == targets[:, :-1]).all() for inputs, targets in looked)


def test_position_loss_is_in_buckets(looked, monkeypatch):
    monkeypatch.setattr(scoring, "score", lambda decoder, x, y: (np.arange(x.shape[1]) + np.zeros((len(x), 1)), None))
    assert PositionLoss(10, bucket=4, windows=3)(BLIND, Numbers()) == {"position_loss": {"0": 1.5, "4": 5.5, "8": 8.5}}


def test_position_loss_is_one_pass_over_each_window(looked):
    losses = PositionLoss(12, bucket=3, windows=5)(BLIND, Numbers())["position_loss"]
    text = Numbers().windows(0, 5, 12)
    assert losses == {str(i): text[:, 1:][:, i:i + 3].mean() for i in (0, 3, 6, 9)}
    (inputs, targets), = looked
    assert (inputs == text[:, :-1]).all() and (targets == text[:, 1:]).all()


def test_key_recall_scores_the_answer_alone(looked):
    rows, answers = Numbers().questions(1, 30, 8)
    assert KeyRecall(distances=(8,), questions=30)(BLIND, Numbers()) == {"key_recall": {"8": answers.mean()}}
    (inputs, targets), = looked
    assert (inputs[:, :9] == rows).all() and (targets[:, 8] == answers[:, 0]).all() and inputs.shape == (30, 256)


@pytest.mark.parametrize("length, widths", [(8, [9, 300]), (100, [100, 300]), (310, [256, 310]), (5000, [256, 512])])
def test_key_recall_is_not_padded_past_the_positions_there_are(looked, length, widths):
    """Rows of 9 and of 300 tokens; a row is never cut: where the table ends before it does, the model refuses it."""
    for position, mixer in ((Learned(length), AttentionConfig()), (Rope(), AttentionConfig(position=Randomized(Rope(), length)))):
        looked.clear()
        KeyRecall(distances=(8, 299))(SimpleNamespace(cfg=DecoderConfig(vocab=W, position=position, mixer=mixer)), Numbers())
        assert [inputs.shape[1] for inputs, _ in looked] == widths


def test_key_recall_at_the_last_position_of_a_learned_table():
    source = Keyed(Text(length=16), keys=2)
    decoder = make(vocab=source.vocab, embed_std=0.02, position=Learned(24))   # 15 bytes, the key, 7 bytes, the question: 24 tokens at distance 8
    assert 0 <= KeyRecall(distances=(8,), questions=4)(decoder, source)["key_recall"]["8"] <= 1
    with pytest.raises(ValueError, match="length 24"):
        KeyRecall(distances=(9,), questions=4)(decoder, source)


def test_exact_match_wants_all_of_the_answer_and_nothing_else(looked):
    """An answer is right where all its tokens are odd: of letters 16, 17 half are, and EOS = 3 always is."""
    batch = mixed(Copy(2), np.random.default_rng([10_000, 3]), 200, np.full(200, 3), 12)
    odd = (batch.targets % 2 == 1)[:, 4:7]
    found = ExactMatch(lengths=(3, 5))(None, TaskSource(Copy(2), 1, 5))
    assert found["exact_match"]["3"] == odd.all(1).mean() and 0.05 < odd.all(1).mean() < 0.25
    assert found["token_accuracy"]["3"] == pytest.approx((odd.sum() + 200) / 800)
    assert {inputs.shape for inputs, _ in looked} == {(200, 12)}, "every length in the width of the longest: one program"


def test_randomized_ids_do_not_know_the_other_lengths(monkeypatch):
    """A problem's ids are drawn for its own tokens, whatever it is padded to, and for each problem anew."""
    drawn = []
    monkeypatch.setattr(scoring, "scored", lambda graph, state, x, y, ids: drawn.append(np.asarray(ids)) or (np.zeros(x.shape), np.zeros(x.shape, bool)))
    source = TaskSource(Copy(2), 1, 3)
    decoder = make(vocab=source.vocab, embed_std=0.02, position=Randomized(Rope(), 64))
    for longest in (3, 9):
        ExactMatch(lengths=(3, longest))(decoder, source)
    real = source.task.width(3)
    alone, padded = drawn[0], drawn[2]
    np.testing.assert_array_equal(padded[:, :real], alone[:, :real])
    assert padded.shape == (200, source.task.width(9)) and len(np.unique(alone, axis=0)) > 190


def test_depth_match_by_length_and_depth(looked):
    """Every row is a problem of its depth; right are keys of odd digits, wherever they stand."""
    found = DepthMatch(lengths=(4, 20), depths=(0.0, 0.25, 1.0), samples=50)(None, TaskSource(Passkey(digits=2), 1, 20))
    assert [inputs.shape for inputs, _ in looked] == [(150, 4 + 7), (150, 20 + 7)], "each length in its own width"
    for (inputs, targets), length, at in zip(looked, (4, 20), ((0, 1, 4), (0, 5, 20))):
        assert ((inputs == KEY).argmax(1) == 1 + np.repeat(at, 50)).all()
        odd = (targets[:, -3:] % 2 == 1).all(1).reshape(3, 50).mean(1)
        assert [found["depth_match"][f"{length}@{depth}"] for depth in ("0", "0.25", "1")] == list(odd) and (odd > 0).all()
        assert found["depth_mean"][str(length)] == pytest.approx(odd.mean())
    assert list(found["depth_mean"]) == ["4", "20"]


def test_the_outcome_of_a_trace_is_what_the_model_writes_itself(monkeypatch):
    """A scribe that writes the right trace, but for its first row's first state, and for its second row's last."""
    task, read = TuringTrace(addresses=8), []

    def scribe(decoder, prompt, tokens, **how):
        read.append((prompt.shape, tokens, how["temperature"]))
        written = task.answer(prompt[:, 1:-1])[:, :tokens].copy()
        written[0, 0], written[1, -1] = 0, 0
        return written
    monkeypatch.setattr(problems, "generate", scribe)
    assert OutcomeMatch((2, 5), samples=10)(None, TaskSource(task, 1, 3)) == {"outcome_match": {"2": 0.9, "5": 0.9}}
    with pytest.raises(ValueError, match="OutcomeMatch reads source.outcome, which Copy does not have"):
        OutcomeMatch((2,)).check(TaskSource())
    assert read == [((10, 1 + 2 * 3 + 1), 1 + 3 * 2, 0), ((10, 1 + 2 * 6 + 1), 1 + 3 * 5, 0)], "only the prompt is given"


def test_depth_match_with_other_filler(looked):
    source = TaskSource(Passkey(symbols=5), 1, 20)
    DepthMatch((20,), depths=(0.5,), samples=30, task=Passkey("random", symbols=5))(None, source)
    filler = looked[0][0][:, 1:11]
    assert len({tuple(row) for row in filler}) == 30 and filler.max() < source.vocab
    with pytest.raises(ValueError, match="other tokens"):
        DepthMatch((20,), task=Passkey("random", symbols=6)).check(source)
    with pytest.raises(ValueError, match="source.depth, which Copy does not have"):
        DepthMatch((20,)).check(TaskSource())


def test_accuracy_asks_for_the_answer_at_the_last_token(looked):
    assert Accuracy("validation")(None, Answers()) == {"accuracy": {"5": 3 / 7}} and Accuracy()(None, Answers()) == {"accuracy": {"5": 1.0}}
    rows, targets = looked[0]
    assert (rows == np.arange(35).reshape(7, 5)).all() and (targets[:, -1] == np.arange(7)).all() and Accuracy().width(Answers()) == 5
