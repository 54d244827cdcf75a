"""Experiments: declared, found, run once, resumed, and measured the same whatever happens on the way."""
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from flax import nnx

import lcref.train
from lcref import config, finished, results, running, training
from lcref.experiment import Run, Watch, experiments, grid, load, override, run, run_all
from lcref.nn.positions import Alibi, Nope, Rope
from lcref.train import NonFiniteLoss


@pytest.fixture(scope="module")
def tiny(request):
    return load(request.config.rootpath / "tests" / "tiny_experiment.py")[0]


@pytest.fixture
def untrained(monkeypatch):
    """Training is an error from here on."""
    def train(*args, **kwargs):
        raise AssertionError("this run was finished already")
    monkeypatch.setattr(lcref.train, "train", train)


@pytest.fixture(scope="module")
def done(tiny, tmp_path_factory):
    """(folder, lines): the smoke size with both seeds, run once for this file."""
    out = tmp_path_factory.mktemp("runs")
    return out, run_all(tiny, "smoke", out=out)


# ------------------------------------------------------------------------------------------------------------ declarations

def test_grid_is_every_combination():
    run = Run(model=Rope(), data=Nope(), train=Alibi())
    found = grid(run, model={"rope": Rope(), "alibi": Alibi()}, **{"train.max_bias": {"": 8.0, "steep": 4.0}})
    assert list(found) == ["rope", "rope-steep", "alibi", "alibi-steep"]
    assert found["alibi-steep"] == Run(model=Alibi(), data=Nope(), train=Alibi(4.0))


def test_grid_knows_the_keys():
    with pytest.raises(KeyError, match="max_bais"):
        grid(Run(model=Alibi(), data=None, train=None), **{"model.max_bais": {"a": 1.0}})


def test_load_by_path(tiny):
    assert tiny.name == "tiny_experiment" and tiny.seeds == 2 and list(tiny.runs["smoke"]) == ["rope", "nope"]
    assert tiny.doc.startswith("Does a model of one layer copy") and tiny.figures[0].trained_to == 4


def test_load_a_folder_gives_its_files_in_name_order(tmp_path):
    for name in ("b", "a", "_shared"):
        (tmp_path / f"{name}.py").write_text(f'"""{name}?"""\nRUNS = {{"smoke": {{}}}}\n')
    assert [experiment.name for experiment in load(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("text, said", [("RUNS = 3", "needs RUNS"), ("1 +", "does not load: SyntaxError"), ("import nosuch", "nosuch")])
def test_a_file_that_is_no_experiment(tmp_path, text, said):
    (tmp_path / "wrong.py").write_text(text)
    with pytest.raises(ValueError, match=said):
        load(tmp_path / "wrong.py")


# ----------------------------------------------------------------------------------------------------------------- running

def test_every_run_and_seed_has_one_whole_line(tiny, done):
    out, lines = done
    assert sorted((line["run"], line["seed"]) for line in lines) == [("nope", 0), ("nope", 1), ("rope", 0), ("rope", 1)]
    assert lines == results.read(out / "tiny_experiment.smoke.jsonl")
    for line in lines:
        assert set(line) == set(results.RESULTS)
        assert (line["experiment"], line["size"]) == ("tiny_experiment", "smoke")
        assert set(line["metrics"]["exact_match"]) == {"3", "6"} and line["parameters"] > 0 and line["steps_per_second"] > 0
        assert line["data"] == tiny.runs["smoke"]["rope"].data.fingerprint()
        made = config.from_dict(line["config"])
        assert made.seed == line["seed"] and config.digest(dataclasses.replace(made, seed=0)) == line["digest"]
    assert len({line["digest"] for line in lines}) == 2  # one a run, whatever the seed
    assert len({json.dumps(line["metrics"]) for line in lines}) > 2  # seeds matter


def test_finished_runs_are_not_repeated(tiny, done, untrained):
    out, lines = done
    assert run_all(tiny, "smoke", out=out) == lines
    assert run_all(tiny, "smoke", seeds=1, out=out, only=["rope"]) == [line for line in lines if (line["run"], line["seed"]) == ("rope", 0)]


def test_more_seeds_train_only_what_is_new(tiny, done, monkeypatch):
    out, lines = done
    trained = []
    inside = lcref.train.train
    monkeypatch.setattr(lcref.train, "train", lambda model, data, cfg, seeds, **rest: trained.append(tuple(seeds)) or
                        inside(model, data, cfg, seeds, **rest))
    more = run_all(tiny, "smoke", seeds=3, out=out, only=["rope"])
    assert trained == [(2,)] and len(more) == 3


def test_a_setting_makes_a_run_of_another_name(tiny, tmp_path):
    lines = run_all(tiny, "smoke", seeds=1, out=tmp_path, only=["rope"], overrides=["model.layers=2", "data.task=reverse"])
    assert [line["run"] for line in lines] == ["rope[model.layers=2,data.task=reverse]"]
    assert lines[0]["config"]["model"]["layers"] == 2 and lines[0]["config"]["data"]["task"]["type"].endswith("Reverse")


def test_another_task_brings_its_vocabulary(tiny):
    base = tiny.runs["smoke"]["rope"]
    changed = running.change(base, "data.task", "parity")
    assert changed.model.vocab == changed.data.vocab != base.model.vocab


def test_an_edited_run_moves_old_checkpoints_aside(tiny, tmp_path):
    base = tiny.runs["smoke"]["rope"]
    first = run(base, tmp_path / "a.jsonl", name="x")
    second = run(override(base, "model.d_model", "8"), tmp_path / "a.jsonl", name="x")
    assert second["digest"] != first["digest"] and second["parameters"] < first["parameters"]
    folders = sorted(path.name for path in (tmp_path / "checkpoints" / "a").iterdir())
    assert folders == ["x-s0", f"x-s0-was-{training.identity(base)}"]
    assert results.current(results.read(tmp_path / "a.jsonl")) == [second]


def test_jobs_side_by_side_give_the_same_numbers(tiny, done, tmp_path):
    again = run_all(tiny, "smoke", out=tmp_path, jobs=2)
    assert metrics(again) == metrics(done[1])


def test_seeds_together_give_the_same_numbers(tiny, done, tmp_path):
    again = run_all(tiny, "smoke", out=tmp_path, together=True)
    for name, ((_, values), (_, wanted)) in zip(metrics(again), zip(metrics(again).items(), metrics(done[1]).items())):
        for metric in values:
            assert values[metric] == pytest.approx(wanted[metric], abs=0.05), name


def metrics(lines):
    return {(line["run"], line["seed"]): line["metrics"] for line in sorted(lines, key=lambda line: (line["run"], line["seed"]))}


def test_one_diverging_run_does_not_stop_the_others(tiny, tmp_path):
    class Said(Watch):
        failures = []

        def failed(self, name, error):
            self.failures.append(name)

    with pytest.raises(NonFiniteLoss, match="1 of 2 runs did not finish: rope-bad seed 0: .*step"):
        run_all(tiny, "diverging", seeds=1, out=tmp_path, watch=Said())
    assert Said.failures == ["rope-bad seed 0"]
    assert [line["run"] for line in results.read(tmp_path / "tiny_experiment.diverging.jsonl")] == ["rope-good"]


# ------------------------------------------------------------------------------------------------- from a folder, after all

def test_a_finished_run_is_measured_again_from_its_folder(done):
    (out, lines), found = done, {}
    for folder in (out / "checkpoints" / "tiny_experiment.smoke").iterdir():
        trained = finished.revive(folder)
        assert trained.step == trained.run.train.steps
        found[trained.name, trained.seed] = trained.run.evals[0](trained.decoder, trained.run.data)
    assert len(lines) == 4 and {key: found[key] for key in metrics(lines)} == metrics(lines)


def test_seeds_trained_together_are_found_one_by_one(tiny, done, tmp_path):
    run_all(tiny, "smoke", out=tmp_path, together=True, only=["rope"])
    folder = next((tmp_path / "checkpoints" / "tiny_experiment.smoke").iterdir())
    found = {seed: finished.revive(folder, seed) for seed in (0, 1)}
    lines = {line["seed"]: line for line in results.read(tmp_path / "tiny_experiment.smoke.jsonl")}
    for seed, trained in found.items():
        assert trained.run.evals[0](trained.decoder, trained.run.data) == lines[seed]["metrics"]
    with pytest.raises(ValueError, match="holds seed 0, 1, not 5"):
        finished.revive(folder, 5)


OWN = '''"""Does a scheme that this file defines come back?"""
from dataclasses import dataclass, replace
from lcref.nn.positions import Nope
from tests.tiny_experiment import RUNS as TINY
@dataclass(frozen=True)
class Mine(Nope):
    strength: int = 1
BASE = TINY["smoke"]["rope"]
RUNS = {"smoke": {"mine": replace(BASE, model=replace(BASE.model, position=Mine(2)))}}
'''


def test_a_scheme_of_an_experiment_file_is_found_through_that_file(tmp_path):
    path = tmp_path / "own-scheme.2.py"
    path.write_text(OWN)
    lines = run_all(load(path)[0], "smoke", seeds=1, out=tmp_path)
    for name in [name for name in sys.modules if "own-scheme" in name]:
        del sys.modules[name]                                          # another program
    folder = tmp_path / "checkpoints/own-scheme.2.smoke/mine-s0"
    trained = finished.revive(folder)
    assert trained.run.model.position.strength == 2
    assert trained.run.evals[0](trained.decoder, trained.run.data) == lines[0]["metrics"]
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no experiment file at .*own-scheme.2.py"):
        finished.revive(folder)


# ------------------------------------------------------------------------------------------------------------- interrupted

def start(request, out, size="long", folder="rope-s0"):
    """`lcref run` of 80 steps in its own process, at the moment its first checkpoint is whole."""
    words = [sys.executable, "-m", "lcref.cli", "run", "tests/tiny_experiment.py", "--size", size, "--seeds", "1", "--out", str(out)]
    process = subprocess.Popen(words, cwd=request.config.rootpath, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folder = out / "checkpoints" / f"tiny_experiment.{size}" / folder
    deadline = time.monotonic() + 60
    while not list(folder.glob("step_*[0-9]")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    (line,) = run_all(tiny, "long", seeds=1, out=tmp_path_factory.mktemp("whole"))
    return line["metrics"]


@pytest.mark.parametrize("number, code", [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_interrupted_and_run_again_ends_the_same(request, tiny, tmp_path, uninterrupted, number, code):
    process = start(request, tmp_path)
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert number == signal.SIGKILL or said == "lcref: stopped; what was written is kept, and the same command goes on from there\n"
    assert not (tmp_path / "tiny_experiment.long.jsonl").exists()

    steps = []

    class Steps(Watch):
        def step(self, name, progress):
            steps.append(progress.step)

    (line,) = run_all(tiny, "long", seeds=1, out=tmp_path, watch=Steps())
    assert line["metrics"] == uninterrupted
    assert steps[0] > 4 and steps[-1] == 80  # it went on from a checkpoint: the first call of a fresh run ends at step 4
    assert json.dumps(line["metrics"]) == json.dumps(uninterrupted)


@pytest.mark.parametrize("folder", ["tuned.start-s0", "tuned-s0"])
def test_killed_in_its_start_or_after_it_ends_the_same(request, tiny, tmp_path, folder):
    process = start(request, tmp_path, "tuned", folder)
    process.kill()
    process.communicate(timeout=60)
    (line,) = run_all(tiny, "tuned", seeds=1, out=tmp_path)
    (whole,) = run_all(tiny, "tuned", seeds=1, out=tmp_path / "whole")
    assert line["metrics"] == whole["metrics"]
    one, two = (finished.revive(out / "checkpoints" / "tiny_experiment.tuned" / "tuned-s0") for out in (tmp_path, tmp_path / "whole"))
    assert one.step == 80
    weights = [[np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(nnx.state(each.decoder))] for each in (one, two)]
    assert weights[0] == weights[1]


def test_experiments_are_found_by_name():
    for name, path in experiments().items():
        assert path.is_file() and path.as_posix().endswith(f"{name}.py")
