"""Training: the loss and the optimiser against formulas, then what a run promises when it is stopped, killed, repeated or spoilt.

Nearly all runs here are of one model and one config, so that two programs are compiled: one for a seed alone, one for two together.
"""
import dataclasses
import functools
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lcref import checkpoint
from lcref.data.text import Text
from lcref.evaluate import ExactMatch
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.layers import Mlp
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Nope, Position, PositionConfig, Randomized, Rope
from lcref.tasks import Copy, TaskSource
from lcref.train import (NonFiniteLoss, Start, Stopped, TrainConfig, bare, batches, call, claim, load, loss_of, make_optimizer, parameter_groups,
                         position_ids, read_as, train)
from tests.tolerances import assert_close

SOURCE = TaskSource(Copy(alphabet=4), min_length=1, max_length=3)
MODEL = DecoderConfig(vocab=SOURCE.vocab, d_model=8, layers=1, mixer=AttentionConfig(heads=2), feed_forward=Mlp(16),
                      position=Randomized(Rope(), max_length=32))
CONFIG = TrainConfig(steps=8, batch=4, learning_rate=1e-2, warmup=2, steps_per_call=2, checkpoint_seconds=0)


def run(seeds, folder=None, *, model=MODEL, source=SOURCE, config=CONFIG, **kwargs):
    """(what train returns, the steps it reported)"""
    steps, tell = [], kwargs.pop("report", lambda progress: None)

    def report(progress):
        steps.append(progress.step)
        tell(progress)
    return train(model, source, config, seeds, folder=folder, report=report, **kwargs), steps


@functools.cache
def straight(*seeds):
    """A run that nothing interrupts."""
    return run(seeds)[0]


def weights(trained):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(trained.decoder))]


def same_bits(one, two):
    assert [t.seed for t in one] == [t.seed for t in two] and [t.loss for t in one] == [t.loss for t in two]
    for a, b in zip(one, two):
        assert [x.tobytes() for x in weights(a)] == [x.tobytes() for x in weights(b)]


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
    assert float(loss_of(decoder, batch | dict(weights=np.eye(2, 3, dtype=np.float32)), None)) == pytest.approx(np.log(20))


def test_position_ids_of_a_pass():
    plain = SOURCE.batch(np.random.default_rng(0), 4)
    packed = {"inputs": np.zeros((2, 5), int), "positions": np.array([[0, 1, 0, 1, 2], [0, 1, 2, 3, 4]])}
    assert position_ids(Rope(), None, plain) is None
    assert position_ids(Rope(), None, packed) is packed["positions"]
    one, two = (np.asarray(position_ids(MODEL.position, jax.random.key(i), plain)) for i in range(2))
    assert one.shape == (1, 8) and (np.diff(one) > 0).all() and one.max() < 32 and (one != two).any()
    ids = np.asarray(position_ids(MODEL.position, jax.random.key(0), packed))
    assert (ids[0, 2:] == ids[1, :3]).all() and (ids[0, :2] == ids[1, :2]).all(), "one position has one id in the whole batch"


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
    before = call._cache_size()
    run([5])
    run([6], tmp_path / "folder")
    run([7, 8], model=dataclasses.replace(MODEL), config=dataclasses.replace(CONFIG), source=dataclasses.replace(SOURCE, min_length=2))
    assert call._cache_size() == before


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


class Plain:
    """SOURCE, except that the batch of (seed, step) == `bad` has NaN weights, or cannot be made."""
    vocab = SOURCE.vocab

    def __init__(self, bad=None, error=None):
        self.bad, self.error = bad, error

    def batch(self, rng, size):
        bad = self.bad is not None and rng.bit_generator.state == np.random.default_rng(list(self.bad)).bit_generator.state
        if bad and self.error:
            raise self.error
        batch = SOURCE.batch(rng, size)
        return batch | dict(weights=batch["weights"] * np.float32(np.nan if bad else 1))

    def fingerprint(self):
        return "plain"


def test_an_error_in_the_data_arrives_and_the_thread_ends(tmp_path):
    threads = threading.active_count()
    with pytest.raises(OSError, match="disk on fire"):
        run([0], tmp_path, source=Plain((0, 5), OSError("disk on fire")))
    assert checkpoint.latest(tmp_path) == 4
    deadline = time.monotonic() + 5
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert threading.active_count() <= threads


# ---------------------------------------------------------------------------------------------- stopped, killed, repeated

def stop_at(step):
    event = threading.Event()
    return dict(stop=event, report=lambda progress: progress.step >= step and event.set())


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=str)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(seeds, tmp_path):
    with pytest.raises(Stopped, match="stopped at step 4 of 8"):
        run(seeds, tmp_path, **stop_at(4))
    assert checkpoint.steps(tmp_path) == [4]
    trained, steps = run(seeds, tmp_path)
    assert steps == [6, 8]
    same_bits(trained, straight(*seeds))


def test_stopped_before_it_began(tmp_path):
    event = threading.Event()
    event.set()
    with pytest.raises(Stopped, match="stopped at step 0 of 8"):
        run([0], tmp_path, stop=event)
    trained, steps = run([0], tmp_path)
    assert steps == [2, 4, 6, 8]
    same_bits(trained, straight(0))


def killed_here(folder):
    """What the process does that is killed below: say each step, and wait to be killed at step 6, before its checkpoint is written."""
    def report(progress):
        print(progress.step, flush=True)
        time.sleep(600 * (progress.step == 6))
    run([0], Path(folder), report=report)


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path):
    code = f"from tests.test_train import killed_here; killed_here({str(tmp_path)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[1], env=os.environ, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        said = [process.stdout.readline().strip() for _ in range(3)]
        assert said == ["2", "4", "6"], process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    (tmp_path / "step_00000006.orbax-checkpoint-tmp").mkdir()                    # as if it had been killed while writing
    (tmp_path / "step_00000006.orbax-checkpoint-tmp" / "manifest.ocdbt").write_bytes(b"\0" * 100)
    trained, steps = run([0], tmp_path)
    assert steps == [6, 8]
    same_bits(trained, straight(0))
    assert {path.name for path in tmp_path.iterdir()} == {"run_id", "step_00000008"}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=str)
def test_a_finished_run_is_not_repeated(seeds, tmp_path):
    first, _ = run(seeds, tmp_path)
    again, steps = run(seeds, tmp_path)
    assert steps == []
    same_bits(again, first)
    assert [t.seconds for t in again] == [t.seconds for t in first]


@pytest.mark.parametrize("seconds, steps", [(0.0, [2, 4, 6, 8]), (1e6, [8])])
def test_checkpoints_come_as_often_as_asked(seconds, steps, tmp_path, monkeypatch):
    saved, save = [], checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda folder, step, tree: (saved.append(step), save(folder, step, tree)))
    run([0], tmp_path, config=dataclasses.replace(CONFIG, checkpoint_seconds=seconds))
    assert saved == steps


def test_progress_counts_the_seconds_of_all_sessions(tmp_path):
    told = []
    with pytest.raises(Stopped):
        event = threading.Event()
        run([0], tmp_path, stop=event, report=lambda progress: (told.append(progress), progress.step == 4 and event.set()))
    run([0], tmp_path, report=told.append)
    assert [progress.step for progress in told] == [2, 4, 6, 8] and {progress.steps for progress in told} == {8}
    assert (np.diff([progress.seconds for progress in told]) > 0).all() and all(np.isfinite(progress.loss) for progress in told)


# ------------------------------------------------------------------------------------- beginning with what another run trained

def start(*seeds, **kwargs):
    """From `straight`; parameters are asked for once, or never."""
    asked = iter([[bare(nnx.state(each.decoder, nnx.Param)) for each in straight(*seeds)]])
    return Start(**dict(origin="straight", steps=8, parameters=lambda: next(asked)) | kwargs)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=str)
def test_a_run_begins_where_another_ended(seeds, tmp_path):
    """Warm-up starts at 0, so that steps 0 and 1 both meet the parameters of the start; batches and ids are those of its next steps."""
    told = []
    (continued, *_), _ = run(seeds, start=start(*seeds), report=told.append)
    batch = SOURCE.batch(np.random.default_rng([0, 9]), 4)
    want = [float(loss_of(straight(*seeds)[i].decoder, SOURCE.batch(np.random.default_rng([seed, 9]), 4),
                          position_ids(MODEL.position, jax.random.fold_in(jax.random.key(seed), 9), batch))) for i, seed in enumerate(seeds)]
    assert told[0].loss == pytest.approx(np.mean(want), rel=1e-4)
    assert [x.tobytes() for x in weights(straight(*seeds)[0])] != [x.tobytes() for x in weights(continued)]
    with pytest.raises(Stopped):
        run(seeds, tmp_path, start=start(*seeds), **stop_at(4))
    trained, steps = run(seeds, tmp_path, start=start(*seeds, parameters=None))    # there is a checkpoint to go on from
    assert steps == [6, 8]
    assert [x.tobytes() for x in weights(trained[0])] == [x.tobytes() for x in weights(continued)]
    assert [x.sum() for x in weights(straight(*seeds)[0])], "what it began with is still there: training reuses memory"


def test_stopped_before_it_began_asks_for_its_start_again(tmp_path):
    event = threading.Event()
    event.set()
    with pytest.raises(Stopped, match="stopped at step 0 of 8"):
        run([0], tmp_path, start=start(0), stop=event)
    same_bits(run([0], tmp_path, start=start(0))[0], run([0], start=start(0))[0])


def test_what_was_begun_with_is_part_of_a_folder(tmp_path):
    run([0], tmp_path, start=start(0))
    for other in (None, start(0, origin="elsewhere")):
        with pytest.raises(ValueError, match="another configuration"):
            run([0], tmp_path, start=other)


def test_parameters_of_another_model_are_not_begun_with_or_read():
    deeper = dataclasses.replace(MODEL, layers=2)
    with pytest.raises(ValueError, match="begin with these parameters: the new model has no readout.kernel"):
        run([0], model=dataclasses.replace(MODEL, tie_embeddings=True), start=start(0))
    with pytest.raises(ValueError, match="cannot be read as another model: there is no blocks.1"):
        read_as(straight(0)[0].decoder, deeper)
    trained, _ = run([0], model=deeper, config=dataclasses.replace(CONFIG, learning_rate=1e-12, weight_decay=0.0), start=start(0))
    fresh, old, new = (bare(nnx.state(decoder)) for decoder in (Decoder(deeper, rngs=nnx.Rngs(0)), straight(0)[0].decoder,
                                                                              trained[0].decoder))
    assert_close(new, fresh | old)


def test_parameters_are_read_as_another_model():
    plain, far = (dataclasses.replace(MODEL, position=Rope(base=base)) for base in (10_000.0, 7.0))
    decoder = Decoder(plain, rngs=nnx.Rngs(3))
    tokens = SOURCE.batch(np.random.default_rng(0), 2)["inputs"]
    read = read_as(decoder, far)
    assert read.cfg == far and np.abs(np.asarray(read(tokens)) - np.asarray(decoder(tokens))).max() > 1e-4
    assert np.asarray(read(tokens)).tobytes() == np.asarray(Decoder(far, rngs=nnx.Rngs(3))(tokens)).tobytes()


# ----------------------------------------------------------------------------------------------------------- spoilt runs

@pytest.mark.parametrize("seeds, bad, losses", [((0,), (0, 5), r"\[nan\]"), ((0, 1), (1, 5), r"\[\d\.\d+, nan\]")], ids=["alone", "together"])
def test_a_loss_that_is_not_finite_stops_the_run(seeds, bad, losses, tmp_path):
    with pytest.raises(NonFiniteLoss, match=f"the loss is {losses} at step 5; last good checkpoint: {tmp_path}/step_00000004"):
        run(seeds, tmp_path, source=Plain(bad))
    assert checkpoint.steps(tmp_path) == [4]
    trained, steps = run(seeds, tmp_path, source=Plain())                       # the cause mended, it goes on from there
    assert steps == [6, 8]
    same_bits(trained, straight(*seeds))


@pytest.mark.parametrize("seeds, steps, spoilt, good", [((0,), 4, "2 to 3", 2), ((0, 1), 2, "0 to 1", None)], ids=["alone", "together"])
def test_parameters_that_are_not_finite_stop_the_run(seeds, steps, spoilt, good, tmp_path, monkeypatch):
    """A learning rate that overflows in the very last step: every loss was computed before it, and is finite."""
    config = dataclasses.replace(CONFIG, steps=steps, warmup=0, weight_decay=0.123)
    monkeypatch.setattr(optax, "warmup_cosine_decay_schedule", lambda *args: lambda i: jnp.where(i == steps - 1, jnp.inf, 1e-3))
    told, last = [], f"last good checkpoint: {tmp_path}/step_0000000{good}" if good else "no checkpoint before it"
    with pytest.raises(NonFiniteLoss) as stopped:
        run(seeds, tmp_path, config=config, report=told.append)
    assert str(stopped.value) == f"parameters or optimiser state are not finite after steps {spoilt}, though the loss at each of them was; {last}"
    assert checkpoint.steps(tmp_path) == ([good] if good else []) and [progress.step for progress in told] == ([good] if good else [])


def test_an_optimiser_state_that_is_not_finite_is_not_saved(tmp_path, monkeypatch):
    """Squares of large gradients overflow first: Adam would divide by infinity and stand still, its parameters sound."""
    monkeypatch.setattr(optax, "scale_by_adam", lambda *args: optax.GradientTransformation(
        lambda params: jnp.float32(1e38), lambda updates, state, params=None: (jax.tree.map(jnp.zeros_like, updates), 10 * state)))
    with pytest.raises(NonFiniteLoss, match="optimiser state are not finite after steps 0 to 1.*; no checkpoint before it"):
        run([0], tmp_path, config=dataclasses.replace(CONFIG, weight_decay=0.0))
    assert checkpoint.steps(tmp_path) == []


def test_a_loss_that_is_not_finite_without_a_folder():
    with pytest.raises(NonFiniteLoss, match="at step 1; no checkpoint before it"):
        run([0], source=Plain((0, 1)))


@pytest.mark.parametrize("other", [dict(model=dataclasses.replace(MODEL, position=Randomized(Rope(), max_length=33))),
                                   dict(source=dataclasses.replace(SOURCE, min_length=2)), dict(config=dataclasses.replace(CONFIG, steps=9)),
                                   dict(seeds=[1]), dict(seeds=[0, 1])], ids=lambda other: str(*other))
def test_a_folder_of_another_run_is_refused_and_left_alone(other, tmp_path):
    run([0], tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=f"{tmp_path} holds the checkpoint of another configuration"):
        run(**dict(seeds=[0], folder=tmp_path) | other)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_rows_of_another_length_are_another_run(tmp_path):
    """A text's fingerprint is its corpus; the rows cut from it are not in it."""
    claim(tmp_path, MODEL, Text(length=8), CONFIG, [0])
    (tmp_path / "step_00000002").mkdir()
    claim(tmp_path, MODEL, Text(length=8), CONFIG, [0])
    for other in (Text(length=16), Text(length=8, packing="pad"), Text(length=8, split="validation")):
        with pytest.raises(ValueError, match="another configuration"):
            claim(tmp_path, MODEL, other, CONFIG, [0])


def test_checkpoints_of_unknown_origin_are_refused(tmp_path):
    (tmp_path / "step_00000002").mkdir()
    with pytest.raises(ValueError, match="another configuration"):
        run([0], tmp_path)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)
    run([0], tmp_path)
    for file in (tmp_path / "step_00000008").rglob("*"):
        if file.is_file():
            file.write_bytes(b"half")
    for again in (lambda: run([0], tmp_path), lambda: load(tmp_path, MODEL)):
        with pytest.raises(ValueError, match="cannot restore .*step_00000008") as error:
            again()
        assert "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------------------------------ load

def test_what_was_trained_can_be_loaded(tmp_path):
    trained, _ = run([0], tmp_path / "one")
    decoder = load(tmp_path / "one", MODEL)
    tokens = SOURCE.batch(np.random.default_rng(0), 2)["inputs"]
    ids = np.arange(8)[None, :]
    assert np.asarray(decoder(tokens, positions=ids)).tobytes() == np.asarray(trained[0].decoder(tokens, positions=ids)).tobytes()
    together, _ = run([0, 1], tmp_path / "two")
    for i in range(2):
        same = together[i]._replace(decoder=load(tmp_path / "two", MODEL, index=i))
        assert [x.tobytes() for x in weights(same)] == [x.tobytes() for x in weights(together[i])]

    with pytest.raises(FileNotFoundError, match="no checkpoint in .*nowhere"):
        load(tmp_path / "nowhere", MODEL)
    deeper, tied = dataclasses.replace(MODEL, layers=2), dataclasses.replace(MODEL, tie_embeddings=True)
    for folder, model, index in (("one", deeper, None), ("one", tied, None), ("two", MODEL, None), ("one", MODEL, 0)):
        with pytest.raises(ValueError, match=f"parameters in .*{folder} are not those of this model"):
            load(tmp_path / folder, model, index)
    for index in (2, -1):
        with pytest.raises(ValueError, match=f"index={index} is not one of the seeds"):
            load(tmp_path / "two", MODEL, index)


# ---------------------------------------------------------------------------------------------------------- wrong settings

@pytest.mark.parametrize("kwargs, words", [
    (dict(steps=0), "steps must be at least 1, got 0"), (dict(batch=0), "batch must be at least 1, got 0"),
    (dict(steps_per_call=-1), "steps_per_call must be at least 1, got -1"),
    (dict(steps=10, warmup=10), "warmup=10 must be at least 0 and less than steps=10"), (dict(warmup=-1), "warmup=-1"),
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
