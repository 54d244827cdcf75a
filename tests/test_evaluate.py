"""Evaluations: which tokens they score (with a scorer that only looks), then real models against greedy decoding and by hand."""
import dataclasses
import functools
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax import nnx

from lcref import evaluate
from lcref.data.keyed import Keyed
from lcref.data.text import Text
from lcref.evaluate import (
    EVALS,
    Accuracy,
    ChunkLoss,
    ContextLoss,
    DepthMatch,
    ExactMatch,
    KeyRecall,
    OutcomeMatch,
    PositionLoss,
    StateSpread,
    StreamLoss,
    WeightEntropy,
    score,
    scored,
)
from lcref.generate import generate
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.positions import Learned, LMInfinite, Randomized, Rope
from lcref.ops.rope_scaling import ClexPrior, DynamicNtk
from lcref.ops.ssm.forgetting import RecentOnly
from lcref.ops.weights import Lssa, Lssar, Softmax
from lcref.tasks import Copy, CopyUnique, Passkey, TaskSource, TuringTrace, mixed
from lcref.tasks.passkey import KEY
from lcref.train import TrainConfig, train
from tests.compiling import quick
from tests.tolerances import assert_close

W = 20
BLIND = SimpleNamespace(cfg=DecoderConfig(vocab=W))                             # for a `score` that does not ask the model


class Numbers:
    """Every token of every window is another number, so that what was scored can be read off."""
    vocab = 10**6

    def windows(self, seed, count, length, split="validation"):
        assert split in ("validation", "test")
        return 10_000 * (split == "test") + 1000 * seed + np.arange(count * (length + 1)).reshape(count, length + 1)

    def questions(self, seed, count, distance, split="validation"):
        rows = self.windows(seed, count, distance, split)
        return rows, np.random.default_rng([seed, distance, split == "test"]).integers(0, 2, (count, 1))


class Answers:
    """Seven rows of 5 tokens and their answers; every second one is odd, or in the test split every one."""
    vocab, width = W, 5

    def examples(self, split):
        return np.arange(35).reshape(7, 5), np.arange(7) if split == "validation" else np.full(7, 3)


@pytest.fixture
def looked(monkeypatch):
    """What `score` was given; its nats are the targets themselves, and a target is right where it is odd."""
    seen = []

    def look(decoder, inputs, targets, seed=0, real=None):
        seen.append((inputs, targets))
        return targets.astype(float), targets % 2 == 1
    monkeypatch.setattr(evaluate, "score", look)
    return seen


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
    monkeypatch.setattr(evaluate, "score", lambda decoder, x, y: (np.arange(x.shape[1]) + np.zeros((len(x), 1)), None))
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
    monkeypatch.setattr(evaluate, "generate", scribe)
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
    "accuracy": (Answers(), dict(split="test")),
}
MODELS = {"stream_loss": dict(mixer=AttentionConfig(heads=2, window=4)), "state_spread": dict(mixer=Mamba2Config(state=4, head_dim=8)),
          "weight_entropy": {}}
SAME = {"stream_loss": {"piece"}}                                               # fields that must not show: how a stream is cut


@pytest.mark.parametrize("name", EVALS)
def test_every_field_of_an_evaluation_changes_something(name, looked, monkeypatch):
    monkeypatch.setattr(evaluate, "generate", lambda decoder, prompt, tokens, **how: np.full((len(prompt), tokens), 19))   # "even", always
    base = {"exact_match": ExactMatch((2,)), "outcome_match": OutcomeMatch((1,), samples=99), "depth_match": DepthMatch((3,), depths=(0.0, 1.0)),
            "context_loss": ContextLoss((8,), targets=5), "chunk_loss": ChunkLoss((4, 8)),
            "position_loss": PositionLoss(8, bucket=4), "key_recall": KeyRecall((4, 8), questions=50), "stream_loss": StreamLoss(8, 8),
            "state_spread": StateSpread(8, every=4, windows=3), "weight_entropy": WeightEntropy((4, 8), rows=2, windows=2),
            "accuracy": Accuracy("validation")}[name]
    source, changes = CHANGES[name]
    model = make(vocab=source.vocab, **MODELS[name]) if name in MODELS else BLIND
    assert set(changes) | SAME.get(name, set()) == {f.name for f in dataclasses.fields(base)}, "a new field needs a change here that shows in the result"
    for field, value in changes.items():
        assert dataclasses.replace(base, **{field: value})(model, source) != base(model, source), field
    assert base(model, source) == base(model, source)


@pytest.mark.parametrize("ev, source, width", [
    (ExactMatch((9, 4)), TaskSource(Copy(2), 1, 5), 20), (DepthMatch((9, 4)), TaskSource(Passkey(), 1, 5), 20), (ContextLoss((9, 4), targets=3), Numbers(), 9), (ChunkLoss((4, 8)), Numbers(), 8),
    (PositionLoss(10, 4), Numbers(), 10), (KeyRecall((9, 4)), Numbers(), 10), (KeyRecall((9, 4)), Keyed(Text(length=16)), 25)])
def test_the_longest_row_is_known_before_training(ev, source, width):
    assert ev.width(source) == width


@pytest.mark.parametrize("ev", [ContextLoss((256, 10**7)), ChunkLoss((10**7,)), PositionLoss(10**7), KeyRecall((10**7,))],
                         ids=lambda ev: type(ev).__name__)
def test_windows_longer_than_any_text_are_refused_before_training(ev):
    with pytest.raises(ValueError, match="no document has 100000"):
        ev.width(Keyed(Text(length=16)))


@pytest.mark.parametrize("make, words", [
    (lambda: ContextLoss(lengths=(64, 256)), "targets=128: the shortest length is 64"),
    (lambda: ContextLoss(lengths=(64,), targets=0), "targets=0"),
    (lambda: ChunkLoss(lengths=(3, 8)), "length 3 does not divide the longest, 8"),
    (lambda: ChunkLoss(lengths=(0, 8)), "length 0 does not divide"),
    (lambda: PositionLoss(length=8, bucket=9), "bucket=9 must be from 1 to length=8"),
    (lambda: WeightEntropy((8, 4), rows=4), "rows=4: the shortest length is 4"),
    (lambda: WeightEntropy((8,), rows=0), "rows=0"),
    (lambda: PositionLoss(length=8, bucket=0), "bucket=0 must be from 1 to length=8"),
    (lambda: StateSpread(length=8, every=9), "every=9 must be from 1 to length=8"),
])
def test_lengths_that_would_score_different_tokens(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("name, source, what", [("exact_match", Text(), "task"), ("depth_match", Text(), "task"),
                                                ("context_loss", TaskSource(), "windows"),
                                                ("chunk_loss", TaskSource(), "windows"),
                                                ("position_loss", TaskSource(), "windows"), ("key_recall", Text(), "questions"),
                                                ("state_spread", TaskSource(), "windows"), ("weight_entropy", TaskSource(), "windows"),
                                                ("accuracy", Text(), "examples")])
def test_an_evaluation_of_the_wrong_source(name, source, what):
    for ask in (EVALS[name]().check, lambda source: EVALS[name]()(None, source)):
        with pytest.raises(ValueError, match=f"{EVALS[name].__name__} reads source.{what}, which {type(source).__name__} does not have"):
            ask(source)


def test_accuracy_asks_for_the_answer_at_the_last_token(looked):
    assert Accuracy("validation")(None, Answers()) == {"accuracy": {"5": 3 / 7}} and Accuracy()(None, Answers()) == {"accuracy": {"5": 1.0}}
    rows, targets = looked[0]
    assert (rows == np.arange(35).reshape(7, 5)).all() and (targets[:, -1] == np.arange(7)).all() and Accuracy().width(Answers()) == 5


def test_problems_longer_than_the_task_can_pose():
    with pytest.raises(ValueError, match="length 9 is too long"):
        ExactMatch(lengths=(2, 9))(None, TaskSource(CopyUnique(alphabet=8), 1, 4))


# -------------------------------------------------------------------------------------------------------------- real models

@functools.cache
def make(vocab=W, seed=0, **kwargs):
    cfg = DecoderConfig(**dict(vocab=vocab, d_model=8, layers=1, mixer=AttentionConfig(heads=2), embed_std=1.0) | kwargs)
    return Decoder(cfg, rngs=nnx.Rngs(seed))


def rows(count, length, seed=0):
    text = np.random.default_rng(seed).integers(0, W, (count, length + 1)).astype(np.int32)
    return text[:, :-1], text[:, 1:]


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
    monkeypatch.setattr(evaluate, "TOKENS", 24)                                 # three rows at a time, the last batch padded
    assert_close(score(make(), inputs, targets), once)


def test_score_draws_randomized_ids_from_its_seed():
    inputs, targets = rows(7, 8)
    decoder = make(position=Randomized(Rope()))
    one, again, other = (score(decoder, inputs, targets, seed=seed)[0] for seed in (1, 1, 2))
    assert one.tobytes() == again.tobytes() and np.abs(one - other).max() > 1e-3


def test_one_program_scores_every_seed():
    inputs, targets = rows(7, 8)
    score(make(), inputs, targets)
    before = scored._cache_size()
    assert np.abs(score(make(seed=1), inputs, targets)[0] - score(make(), inputs, targets)[0]).max() > 0.1
    assert scored._cache_size() == before


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
    monkeypatch.setattr(evaluate, "scored", look)
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


# ------------------------------------------------------------------------------------------------------------------ streams

@pytest.mark.parametrize("mixer", [AttentionConfig(heads=2, window=5, sinks=1), Mamba2Config(state=4, head_dim=8)], ids=lambda m: type(m).__name__)
def test_a_stream_is_one_long_row(mixer):
    """Whatever the pieces, a last short one included; each span holds the tokens from one power of two to the next."""
    source, n = Keyed(Text(length=16), keys=2), 75
    decoder = make(vocab=source.vocab, mixer=mixer)
    tokens = source.stream(n)
    whole, _ = score(decoder, tokens[None, :-1], tokens[None, 1:])
    want = {"1": whole[0, :1], "2": whole[0, 1:2], "4": whole[0, 2:4], "8": whole[0, 4:8], "16": whole[0, 8:16], "32": whole[0, 16:32],
            "64": whole[0, 32:64], "75": whole[0, 64:]}
    for piece in (75, 16, 7):
        found = StreamLoss(n, piece)(decoder, source)["stream_loss"]
        assert list(found) == list(want)
        assert_close(np.array(list(found.values())), np.array([nats.mean() for nats in want.values()]))


def test_a_stream_is_the_documents_end_to_end_and_begins_anew():
    from lcref.data import text

    source, every = Text(length=16), text.tokens("stdlib", "validation").tokens[:-1]
    long = source.stream(len(every) + 9)
    assert long.dtype == np.int32 and len(long) == len(every) + 10
    assert (long[:len(every)] == every).all() and (long[len(every):] == every[:10]).all()
    assert (source.stream(9, split="test") != long[:10]).any()


@pytest.mark.parametrize("kwargs, message", [
    (dict(mixer=AttentionConfig(heads=2)), "state that does not grow with it, and AttentionConfig keeps every token"),
    (dict(pattern=(Mamba2Config(state=4, head_dim=8), AttentionConfig(heads=2))), "AttentionConfig keeps every token"),
    (dict(mixer=AttentionConfig(heads=2, window=4), position=Randomized(Rope(), 64)), "Randomized draws ids"),
])
def test_what_cannot_be_streamed(kwargs, message):
    model = DecoderConfig(**dict(vocab=257, d_model=8, layers=2) | kwargs)
    with pytest.raises(ValueError, match=message):
        StreamLoss(8).fits(model)
    with pytest.raises(ValueError, match="source.stream, which TaskSource does not have"):
        StreamLoss(8).check(TaskSource())
    with pytest.raises(ValueError, match="piece must be at least 1, got 0"):
        StreamLoss(8, 0)


def test_state_spread_by_hand():
    """Two Mamba-2 layers and one of attention, three rows: the states of whole passes, and the decays they saw."""
    source, mamba = Text(length=16), Mamba2Config(state=4, head_dim=8, A_min=0.01, A_max=0.1)
    decoder = make(vocab=source.vocab, layers=3, pattern=(mamba, AttentionConfig(heads=2), mamba))
    found = StateSpread(7, every=3, windows=3)(decoder, source)
    rows = source.windows(0, 3, 7)[:, :-1]
    assert {tuple(slices) for slices in found.values()} == {("3", "6")}
    for end in (3, 6):
        seen = quick(lambda rows: decoder(rows, capture=True)[1])(rows[:, :end])
        spread = np.concatenate([np.std(seen[f"block{i}/state"], axis=(2, 3)).mean(0) for i in (0, 2)])
        left = max(float(np.exp(np.sum(seen[f"block{i}/log_decay"], axis=1)).mean(0).max()) for i in (0, 2))
        want = dict(state_spread=np.median(spread), state_spread_largest=spread.max(), first_token_left=left)
        assert_close({name: slices[str(end)] for name, slices in found.items()}, {name: float(value) for name, value in want.items()})
    assert found["first_token_left"]["3"] > found["first_token_left"]["6"] > 0.5


@pytest.mark.parametrize("mixer", [AttentionConfig(heads=2), Mamba2Config(state=4, head_dim=8, memory=RecentOnly(3))])
def test_models_without_a_state_to_look_at(mixer):
    with pytest.raises(ValueError, match="this model has none that keeps one"):
        StateSpread(8, 4).fits(DecoderConfig(vocab=257, d_model=8, mixer=mixer))


# ------------------------------------------------------------------------------------------------------------------ weights

def test_weight_entropy_by_hand():
    """Two layers of attention with 2 and 4 heads, and one without: the weights of whole passes, their entropies in float64."""
    source, layers = Text(length=16), (AttentionConfig(heads=2), Mamba2Config(state=4, head_dim=8), AttentionConfig(heads=4, weights=Lssar(3)))
    decoder = make(vocab=source.vocab, layers=3, pattern=layers)
    found = WeightEntropy((6, 9), rows=4, windows=3)(decoder, source)
    text = source.windows(0, 3, 9)[:, :-1]
    for length in (6, 9):
        seen = quick(lambda rows: decoder(rows, capture=True)[1])(text[:, -length:])
        w = np.concatenate([np.asarray(seen[f"block{i}/weights"], np.float64) for i in (0, 2)], axis=1)        # [windows, 2 + 4 heads, T, T]
        H = -(w * np.log(np.where(w > 0, w, 1.0))).sum(-1)[:, :, -4:]
        n = np.arange(length - 3, length + 1)
        want = {"weight_entropy": H.mean(), "weight_evenness": (H / np.log(n)).mean()}
        assert_close({name: slices[str(length)] for name, slices in found.items()}, {name: float(value) for name, value in want.items()})
        assert 0.1 < want["weight_evenness"] < 0.99


@pytest.mark.parametrize("weights, window, keys", [(Softmax(), None, None), (Lssa(), None, None), (Softmax(), 3, 3), (Lssar(15), None, 1)])
def test_weight_entropy_of_keys_that_are_all_alike(weights, window, keys):
    """ln of how many keys are seen, since all weigh the same; under re-weighting none stands out, and no weight is no entropy."""
    decoder = make(vocab=257, layers=2, embed_std=0.0, mixer=AttentionConfig(heads=2, weights=weights, window=window))
    found = WeightEntropy((8, 16), rows=2, windows=2)(decoder, Text(length=16))
    for length in (8, 16):
        n = np.array([length - 1, length])
        H = np.log(n if keys is None else np.full(2, keys))
        assert_close((found["weight_entropy"][str(length)], found["weight_evenness"][str(length)]), (float(H.mean()), float((H / np.log(n)).mean())))


def test_weight_entropy_draws_randomized_ids_from_its_seed():
    decoder, ev = make(vocab=257, position=Randomized(Rope(), 64)), WeightEntropy((8,), rows=2, windows=2)
    once, again, plain = ev(decoder, Text(length=16)), ev(decoder, Text(length=16)), ev(make(vocab=257), Text(length=16))
    assert once == again and abs(once["weight_entropy"]["8"] - plain["weight_entropy"]["8"]) > 1e-4


def test_a_model_without_weights_to_look_at():
    with pytest.raises(ValueError, match="attention layers, and this model has none"):
        WeightEntropy((8,), rows=2).fits(DecoderConfig(vocab=257, d_model=8, mixer=Mamba2Config(state=4, head_dim=8)))
