"""Training that is stopped, killed, repeated, begun with what another run trained, or spoilt: what a folder of checkpoints promises."""
import dataclasses
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
from lcref.nn.decoder import Decoder
from lcref.nn.positions import Randomized, Rope
from lcref.train import NonFiniteLoss, Start, Stopped, bare, claim, load, loss_of, position_ids, read_as
from tests.tiny_training import CONFIG, MODEL, SOURCE, Plain, run, same_bits, straight, weights
from tests.tolerances import assert_close


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
    code = f"from tests.test_train_interrupted import killed_here; killed_here({str(tmp_path)!r})"
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
    told, before = [], [x.tobytes() for x in weights(straight(*seeds)[0])]
    (continued, *_), _ = run(seeds, start=start(*seeds), report=told.append)
    ninth = [SOURCE.batch(np.random.default_rng([seed, 9]), 4) for seed in seeds]
    ids = [position_ids(MODEL.position, jax.random.fold_in(jax.random.key(seed), 9), batch) for seed, batch in zip(seeds, ninth)]
    want = [float(loss_of(trained.decoder, *each)) for trained, *each in zip(straight(*seeds), ninth, ids)]
    assert told[0].loss == pytest.approx(np.mean(want), rel=1e-4)
    assert before != [x.tobytes() for x in weights(continued)]
    with pytest.raises(Stopped):
        run(seeds, tmp_path, start=start(*seeds), **stop_at(4))
    trained, steps = run(seeds, tmp_path, start=start(*seeds, parameters=None))    # there is a checkpoint to go on from
    assert steps == [6, 8]
    assert [x.tobytes() for x in weights(trained[0])] == [x.tobytes() for x in weights(continued)]
    assert [x.tobytes() for x in weights(straight(*seeds)[0])] == before, "what it began with is still there: training reuses memory"


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
