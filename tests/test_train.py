"""Training: the loss and the optimiser against formulas, what a run is a function of, and that it learns."""
import dataclasses
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lcref import checkpoint
from lcref.evaluate import ExactMatch
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.positions import Nope, Position, PositionConfig, Rope
from lcref.tasks import Copy, TaskSource
from lcref.train import TrainConfig, batches, loss_of, make_optimizer, parameter_groups, position_ids, train
from tests.compiling import compilations
from tests.tiny_training import CONFIG, MODEL, SOURCE, Plain, run, same_bits, straight, weights
from tests.tolerances import assert_close


# ----------------------------------------------------------------------------------------------------------------- loss

def test_loss_is_the_mean_over_scored_tokens():
    decoder, rng = Decoder(MODEL, rngs=nnx.Rngs(0)), np.random.default_rng(0)
    batch = {name: rng.integers(0, MODEL.vocab, (4, 8)) for name in ("inputs", "targets")}
    batch["weights"] = rng.random((4, 8)).astype(np.float32).round(1)
    batch["segments"] = np.repeat([[1, 1, 1, 2, 2, 2, 2, 2]], 4, 0)
    batch["positions"] = np.repeat([[0, 1, 2, 0, 1, 2, 3, 4]], 4, 0)
    loss, logits = jax.jit(lambda batch: (loss_of(decoder, batch, batch["positions"]),
                                          decoder(batch["inputs"], positions=batch["positions"], segments=batch["segments"])))(batch)
    logits = np.asarray(logits, np.float64)
    nats = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, batch["targets"][..., None], -1)[..., 0]
    assert float(loss) == pytest.approx((nats * batch["weights"]).sum() / batch["weights"].sum(), rel=1e-5)


def test_a_batch_without_scored_tokens_has_loss_zero():
    decoder = lambda inputs, **kwargs: jnp.zeros((*inputs.shape, 20))
    batch = dict(inputs=np.zeros((2, 3), int), targets=np.zeros((2, 3), int), weights=np.zeros((2, 3), np.float32))
    assert float(loss_of(decoder, batch, None)) == 0
    for scale in (1, 1e-3):
        assert float(loss_of(decoder, batch | dict(weights=scale * np.eye(2, 3, dtype=np.float32)), None)) == pytest.approx(np.log(20))


def test_position_ids_of_a_pass():
    plain = SOURCE.batch(np.random.default_rng(0), 4)
    packed = {"inputs": np.zeros((2, 5), int), "positions": np.array([[0, 1, 0, 1, 2], [0, 1, 2, 3, 4]])}
    assert position_ids(Rope(), None, plain) is None
    assert position_ids(Rope(), None, packed) is packed["positions"]
    one, two = (np.asarray(position_ids(MODEL.position, jax.random.key(i), plain)) for i in range(2))
    assert one.shape == (4, 8) and one.max() < 32 and (one != two).any()
    for row, weights in zip(one, plain["weights"]):
        real = np.flatnonzero(weights)[-1] + 1
        assert (np.diff(row[:real]) > 0).all() and (row[real:] == row[real - 1]).all(), "ids are drawn for as many tokens as a row has"
    ids = np.asarray(position_ids(MODEL.position, jax.random.key(0), packed))
    assert ids[0, 0] < ids[0, 1] and (np.diff(ids[0, 2:]) > 0).all() and (np.diff(ids[1]) > 0).all() and len(set(ids[0])) == 5
    assert (ids[0, :3] != ids[1, :3]).any(), "every document has a draw of its own"


# ------------------------------------------------------------------------------------------------------------- optimiser

PARAMS = {name: np.random.default_rng(i).normal(size=(3, 4)).astype(np.float32) for i, name in enumerate(("decayed", "free", "slow", "still"))}
GROUPS = {"decayed": (1.0, True), "free": (1.0, False), "slow": (0.1, True), "still": (0.0, True)}
GRADS = [{name: size * np.random.default_rng([i, t]).normal(size=(3, 4)).astype(np.float32) for i, name in enumerate(PARAMS)}
         for t, size in enumerate((1.0, 0.1, 3.0, 0.5))]                        # norms of about 7, 0.7, 20 and 3.5


def optimised(cfg):
    optimizer = make_optimizer(cfg, tuple(GROUPS.values()), jax.tree.structure(PARAMS))
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = optimizer.init(params)
    for grads in GRADS:
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, grads), state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


def test_the_optimiser_is_adamw_with_warm_up_and_cosine():
    cfg = TrainConfig(steps=5, warmup=2, learning_rate=0.1, final_ratio=0.2, weight_decay=0.3, b1=0.8, b2=0.95, clip=2.0)
    want, m, v = dict(PARAMS), dict.fromkeys(PARAMS, 0.0), dict.fromkeys(PARAMS, 0.0)
    for t, grads in enumerate(GRADS):
        norm = np.sqrt(sum((g.astype(float) ** 2).sum() for g in grads.values()))
        rate = 0.1 * (t / 2 if t < 2 else 0.2 + 0.8 * 0.5 * (1 + np.cos(np.pi * (t - 2) / 3)))
        for name, g in grads.items():
            g = g * min(1, 2.0 / norm)
            m[name], v[name] = 0.8 * m[name] + 0.2 * g, 0.95 * v[name] + 0.05 * g * g
            step = m[name] / (1 - 0.8 ** (t + 1)) / (np.sqrt(v[name] / (1 - 0.95 ** (t + 1))) + 1e-8)
            scale, decayed = GROUPS[name]
            want[name] = want[name] - rate * scale * (step + 0.3 * want[name] * decayed)
    assert_close(optimised(cfg), jax.tree.map(np.float32, want))


def test_every_field_of_the_config_changes_something():
    base = TrainConfig(steps=20, warmup=2)
    before = optimised(base)
    in_the_optimiser = dict(steps=10, learning_rate=1e-2, final_ratio=0.5, warmup=1, weight_decay=0.5, b1=0.5, b2=0.5, clip=0.1)
    in_the_batches = dict(batch=3, steps_per_call=7)
    elsewhere = {"checkpoint_seconds"}                                          # test_checkpoints_come_as_often_as_asked
    assert {*in_the_optimiser, *in_the_batches, *elsewhere} == {f.name for f in dataclasses.fields(TrainConfig)}, "test the new field"
    for field, value in in_the_optimiser.items():
        after = optimised(dataclasses.replace(base, **{field: value}))
        assert max(float(jnp.abs(after[name] - before[name]).max()) for name in after) > 1e-6, field
    shape = lambda cfg: next(batches(SOURCE, cfg, [0], 0, threading.Event()))["inputs"].shape
    assert shape(base) == (20, 32, 8)
    for field, value in in_the_batches.items():
        assert shape(dataclasses.replace(base, **{field: value})) == {"batch": (20, 3, 8), "steps_per_call": (7, 32, 8)}[field]


def test_vectors_are_not_decayed_and_each_group_is_its_parameter():
    """Twelve layers: 10 and 11 must not be sorted between 1 and 2 in one place and after 9 in another."""
    decoder = Decoder(dataclasses.replace(MODEL, layers=12, position=Nope()), rngs=nnx.Rngs(0))
    groups, params = parameter_groups(decoder), nnx.state(decoder, nnx.Param)
    leaves = {jax.tree_util.keystr(path[:-1] if "value" in str(path[-1]) else path, simple=True, separator="/"): leaf
              for path, leaf in jax.tree.leaves_with_path(params)}
    assert list(groups) == list(leaves) and len(groups) == 12 * 8 + 3
    assert {name for name, (_, decayed) in groups.items() if decayed} == {name for name, leaf in leaves.items() if leaf.ndim >= 2}
    assert {name.rsplit("/", 1)[1] for name, (_, decayed) in groups.items() if not decayed} == {"scale"}
    assert {scale for scale, _ in groups.values()} == {1.0}


@dataclasses.dataclass(frozen=True)
class Marked(PositionConfig):
    """Scales the embedding with two vectors that say how they want to be trained."""

    def build(self, heads, head_dim, d_model, *, rngs):
        return MarkedPosition(d_model)


class MarkedPosition(Position):
    def __init__(self, d_model):
        self.still, self.free = (nnx.Param(jnp.ones((d_model,)), learning_rate=rate, weight_decay=True) for rate in (0.0, 0.5))

    def embed(self, x, pos):
        return x * (self.still[...] * self.free[...]).reshape(1, 1, -1)


def test_a_parameter_that_asks_to_stay_stays():
    model = dataclasses.replace(MODEL, position=Marked())
    groups = parameter_groups(Decoder(model, rngs=nnx.Rngs(0)))
    assert {name.rsplit("/", 1)[1]: group for name, group in groups.items() if "position" in name} == {"still": (0.0, True), "free": (0.5, True)}
    position = run([0], model=model)[0][0].decoder.blocks[0].mixer.position
    assert (np.asarray(position.still[...]) == 1).all() and np.abs(np.asarray(position.free[...]) - 1).min() > 1e-4


# --------------------------------------------------------------------------------------------------------- several seeds

def test_a_run_is_a_function_of_its_seed():
    same_bits(run([0])[0], straight(0))
    assert straight(0)[0].loss != straight(1)[0].loss
    assert straight(0)[0].parameters == sum(x.size for x in weights(straight(0)[0]))


def test_step_i_sees_batch_i_and_the_ids_of_step_i():
    """Warm-up starts at 0, so steps 0 and 1 both meet the parameters of the start, and the loss of step 1 can be had without training."""
    told = []
    run([0], report=told.append)
    decoder, batch = Decoder(MODEL, rngs=nnx.Rngs(0)), SOURCE.batch(np.random.default_rng([0, 1]), 4)
    losses = [float(loss_of(decoder, batch, position_ids(MODEL.position, jax.random.fold_in(jax.random.key(0), i), batch))) for i in (0, 1)]
    assert told[0].loss == pytest.approx(losses[1], rel=1e-5) and told[0].loss != pytest.approx(losses[0], rel=1e-4)


def test_seeds_together_are_seeds_alone():
    """Parameters, batches and (the scheme is a randomized one) position ids."""
    together = straight(0, 1)
    for one, alone in zip(together, (*straight(0), *straight(1))):
        assert one.seed == alone.seed and one.loss == pytest.approx(alone.loss, rel=1e-4) and one.parameters == alone.parameters
        assert_close(weights(one), weights(alone))
    assert np.abs(weights(together[0])[0] - weights(together[1])[0]).max() > 1e-2


def test_the_same_config_is_compiled_once(tmp_path):
    straight(0), straight(0, 1)
    with compilations() as programs:
        run([5])
        run([6], tmp_path / "folder")
        run([7, 8], model=dataclasses.replace(MODEL), config=dataclasses.replace(CONFIG), source=dataclasses.replace(SOURCE, min_length=2))
    assert "call" not in programs
    with compilations() as programs:
        run([5], config=dataclasses.replace(CONFIG, steps=CONFIG.steps + 1))
    assert "call" in programs                              # or the lines above would say nothing


def test_calls_of_any_number_of_steps_give_the_same():
    """And a last call may be shorter than the others."""
    trained, steps = run([0], config=dataclasses.replace(CONFIG, steps_per_call=3))
    assert steps == [3, 6, 8]
    assert_close(weights(trained[0]), weights(straight(0)[0]))


# ---------------------------------------------------------------------------------------------------------------- batches

def test_batch_i_depends_on_seed_and_i_alone():
    cfg = dataclasses.replace(CONFIG, steps=7, steps_per_call=3)
    whole = list(batches(SOURCE, cfg, [4], 0, threading.Event()))
    assert [len(data["inputs"]) for data in whole] == [3, 3, 1]
    for name in whole[0]:
        rows = np.concatenate([data[name] for data in whole])
        for i in range(7):
            assert (rows[i] == SOURCE.batch(np.random.default_rng([4, i]), 4)[name]).all()
        later = np.concatenate([data[name] for data in batches(SOURCE, cfg, [4], 3, threading.Event())])
        assert (later == rows[3:]).all()
        both = np.concatenate([data[name] for data in batches(SOURCE, cfg, [9, 4], 0, threading.Event())])
        assert (both[:, 1] == rows).all() and both.shape[1] == 2


def test_an_error_in_the_data_arrives_and_the_thread_ends(tmp_path):
    threads = threading.active_count()
    with pytest.raises(OSError, match="disk on fire"):
        run([0], tmp_path, source=Plain((0, 5), OSError("disk on fire")))
    assert checkpoint.latest(tmp_path) == 4
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads


# ---------------------------------------------------------------------------------------------------------- wrong settings

@pytest.mark.parametrize("kwargs, words", [
    (dict(steps=0), "TrainConfig steps must be a whole number >= 1, got 0"), (dict(batch=2.5), "batch must be a whole number >= 1, got 2.5"),
    (dict(steps_per_call=-1), "steps_per_call must be a whole number >= 1, got -1"), (dict(warmup=-1), "warmup must be a whole number >= 0, got -1"),
    (dict(steps=10, warmup=10), "warmup=10 must be less than steps=10"),
    (dict(learning_rate=0), "learning_rate must be a number > 0, got 0"), (dict(learning_rate=float("nan")), "learning_rate .* got nan"),
    (dict(final_ratio=-0.1), "final_ratio must be a number >= 0, got -0.1"), (dict(weight_decay=-1.0), "weight_decay must be a number >= 0"),
    (dict(checkpoint_seconds=-1.0), "checkpoint_seconds must be a number >= 0"), (dict(b2=1.0), "b2 must be at least 0 and below 1, got 1.0"),
    (dict(clip=0.0), r"clip must be above 0 \(inf: none\), got 0.0"), (dict(clip=float("nan")), "clip .* got nan"),
])
def test_wrong_settings(kwargs, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**kwargs)


@pytest.mark.parametrize("seeds", [[], [-1], [0, -3]], ids=str)
def test_seeds_are_whole_numbers(seeds):
    with pytest.raises(ValueError, match="seeds must be one or more whole numbers from 0 on"):
        run(seeds)


def test_the_vocabulary_must_hold_the_data():
    with pytest.raises(ValueError, match="the model's vocabulary is 19, the data needs 20"):
        run([0], model=dataclasses.replace(MODEL, vocab=19))


# --------------------------------------------------------------------------------------------------------------- it learns

def test_a_small_model_learns_to_copy():
    """And only what it was trained on: rope at twice the length is the failure this library is about."""
    source = TaskSource(Copy(alphabet=4), min_length=1, max_length=4)
    model = DecoderConfig(vocab=source.vocab, d_model=32, layers=2, position=Rope())
    trained, = train(model, source, TrainConfig(steps=300, batch=32, learning_rate=1e-2, warmup=20, steps_per_call=100), [0])
    right = ExactMatch(lengths=(1, 2, 3, 4, 8), samples=100)(trained.decoder, source)["exact_match"]
    assert min(right[str(n)] for n in (1, 2, 3, 4)) >= 0.9 and right["8"] < 0.5
    assert trained.loss < 0.1 and trained.seed == 0 and trained.steps_per_second > 0
