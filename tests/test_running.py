"""Runs that share what is trained: parameters read with other positions, training that goes on from another run's, each trained once."""
import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

import lcref.train
from lcref import config, finished, provenance, results, running, showing, training
from lcref.data import corpora
from lcref.data.text import Text
from lcref.evaluate import ChunkLoss, ExactMatch
from lcref.experiment import Experiment, Run, Watch, load, run, run_all
from lcref.nn.decoder import Decoder
from lcref.nn.mixers import AttentionConfig, Mamba2Config
from lcref.nn.positions import LMInfinite, Randomized, Rope
from lcref.ops.rope_scaling import Clex, Linear
from lcref.train import NonFiniteLoss, Stopped, bare, read_as

fcntl = pytest.importorskip("fcntl")

BASE = load(Path(__file__).parent / "tiny_experiment.py")[0].runs["smoke"]["rope"]
PI = replace(BASE.model, position=Rope(scaling=Linear(factor=2.0)))
TUNED = replace(BASE, model=PI, train=replace(BASE.train, steps=4), start=BASE)
RUNS = {
    "pi": replace(BASE, read=PI),  # declared before the run that it reads
    "base": BASE,
    "lambda": replace(BASE, read=replace(BASE.model, position=LMInfinite(near=8))),
    "tuned": TUNED,
    "tuned_plain": replace(TUNED, read=BASE.model),
}


def experiment(**runs):
    return Experiment("shared", Path("shared.py"), "Shared?", {"smoke": runs}, seeds=1)


@pytest.fixture
def trained(monkeypatch):
    """(model, seeds, step it began at or None, in a start?) of every call that trains, in order; a finished training is no such call."""
    calls, inside = [], lcref.train.batches

    def batches(source, cfg, seeds, start, stop, behind=0):
        if start < cfg.steps:
            calls.append((tuple(seeds), start, behind))
        return inside(source, cfg, seeds, start, stop, behind)
    monkeypatch.setattr(lcref.train, "batches", batches)
    return calls


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(folder, lines) of all of them with two seeds, two at a time."""
    out = tmp_path_factory.mktemp("shared")
    return out, run_all(experiment(**RUNS), "smoke", seeds=2, out=out, jobs=2)


def folders(out):
    return sorted(path.name for path in (out / "checkpoints" / "shared.smoke").iterdir())


def by_name(lines):
    return {(line["run"], line["seed"]): line["metrics"] for line in lines}


# ------------------------------------------------------------------------------------------------------------------ shared

def test_equal_trainings_are_one(trained, tmp_path):
    lines = run_all(experiment(**RUNS), "smoke", out=tmp_path, jobs=2)
    assert sorted(trained) == [((0,), 0, 0), ((0,), 0, 8)]
    assert folders(tmp_path) == ["base-s0", "tuned-s0"]
    assert sorted(line["run"] for line in lines) == sorted(RUNS)
    assert len({json.dumps(line["metrics"]) for line in lines}) > 2


def test_the_lines_say_what_was_read_and_begun_with(done):
    _, lines = done
    assert len({line["digest"] for line in lines}) == len(RUNS)
    for line in lines:
        made = config.from_dict(line["config"])
        assert config.digest(replace(made, seed=0)) == line["digest"] == config.digest(replace(RUNS[line["run"]], seed=0))
        assert made.read == RUNS[line["run"]].read and made.seed == line["seed"]
        if made.start:
            assert made.start == replace(BASE, evals=(), seed=line["seed"])


def test_what_is_read_is_the_same_parameters(done):
    out, lines = done
    home, measured = out / "checkpoints" / "shared.smoke", by_name(lines)
    for seed in (0, 1):
        base, tuned = (finished.revive(home / f"{name}-s{seed}") for name in ("base", "tuned"))
        assert base.step == 8 and tuned.step == 4
        for name, found in (("base", base), ("pi", base), ("lambda", base), ("tuned", tuned), ("tuned_plain", tuned)):
            decoder = read_as(found.decoder, RUNS[name].read or RUNS[name].model)
            assert BASE.evals[0](decoder, BASE.data) == measured[name, seed], (name, seed)


def test_sharing_changes_no_number(done, tmp_path):
    for name in ("base", "tuned"):
        (line,) = run_all(experiment(**RUNS), "smoke", seeds=1, out=tmp_path / name, only=[name])
        assert line["metrics"] == by_name(done[1])[name, 0]


def test_only_one_of_those_that_share(trained, tmp_path):
    run_all(experiment(**RUNS), "smoke", out=tmp_path, only=["pi"])
    assert folders(tmp_path) == ["base-s0"], "named after the run that reads what it trained, asked for or not"
    run_all(experiment(**RUNS), "smoke", out=tmp_path, only=["base", "tuned_plain"])
    assert folders(tmp_path) == ["base-s0", "tuned-s0"] and trained == [((0,), 0, 0), ((0,), 0, 8)]


def test_other_evaluations_are_measured_on_what_is_trained(trained, tmp_path):
    runs = {"base": BASE, "pi": RUNS["pi"]}
    first = run_all(experiment(**runs), "smoke", out=tmp_path)
    longer = {name: replace(made, evals=(ExactMatch(lengths=(3, 9), samples=8),)) for name, made in runs.items()}
    second = run_all(experiment(**longer), "smoke", out=tmp_path)
    assert trained == [((0,), 0, 0)] and folders(tmp_path) == ["base-s0"]
    assert [list(line["metrics"]["exact_match"]) for line in second] == 2 * [["3", "9"]]
    assert {line["digest"] for line in first}.isdisjoint(line["digest"] for line in second)
    assert finished.revive(tmp_path / "checkpoints/shared.smoke/base-s0").run.evals == longer["base"].evals


def test_a_folder_of_an_older_form_is_known(trained, tmp_path):
    """Its digest was that of the run, evaluations included, and it named neither read nor start."""
    run(BASE, tmp_path / "a.jsonl", name="x")
    path = tmp_path / "checkpoints/a/x-s0/run.json"
    note = json.loads(path.read_text())
    note["digest"], note["config"] = config.digest(BASE), {k: v for k, v in note["config"].items() if k not in ("read", "start")}
    path.write_text(json.dumps(note))
    run(replace(BASE, evals=()), tmp_path / "a.jsonl", name="x")
    assert len(trained) == 1


def test_what_was_moved_aside_comes_back(trained, tmp_path):
    small = replace(BASE, model=replace(BASE.model, d_model=8))
    for made in (BASE, small, replace(BASE, evals=())):
        run(made, tmp_path / "shared.smoke.jsonl", name="x")
    assert len(trained) == 2 and folders(tmp_path) == ["x-s0", f"x-s0-was-{training.identity(small)}"]


def test_what_another_program_trains_is_not_moved(trained, tmp_path):
    """A folder is locked while somebody trains in it. Renamed, it would get the other's checkpoints into what came to stand in its place."""
    small, out = replace(BASE, model=replace(BASE.model, d_model=8)), tmp_path / "shared.smoke.jsonl"

    class Meanwhile(Watch):
        def step(self, name, progress):
            with pytest.raises(ValueError, match="another program is training in .*x-s0, which holds a run of this name with another config"):
                run(small, out, name="x")
    first = run(BASE, out, name="x", watch=Meanwhile())
    second = run(small, out, name="x")
    assert len(trained) == 2 and first["metrics"] != second["metrics"]
    assert second["metrics"] == run(small, tmp_path / "alone.jsonl", name="x")["metrics"]


def test_a_folder_that_was_moved_before_it_was_locked(tmp_path):
    folder, stop = tmp_path / "x-s0", threading.Event()
    folder.mkdir()
    lock = training.lock

    def late(path):
        if path.exists() and not (tmp_path / "aside").exists():
            handle = lock(path)
            path.rename(tmp_path / "aside")
            return handle
        return lock(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "lock", late)
        with training.alone(folder, stop):
            assert folder.is_dir() and (tmp_path / "aside").is_dir()
            with pytest.raises(BlockingIOError):
                lock(folder)
    training.unlock(lock(folder))


def test_a_line_names_the_commits_of_training_and_of_measuring(tmp_path, monkeypatch):
    out, stop = tmp_path / "shared.smoke.jsonl", threading.Event()

    class Early(Watch):
        def step(self, name, progress):
            stop.set()
    monkeypatch.setattr(provenance, "commit", lambda: "aaaa")
    with pytest.raises(Stopped):
        run(BASE, out, name="x", watch=Early(), stop=stop)
    monkeypatch.setattr(provenance, "commit", lambda: "bbbb")
    assert run(BASE, out, name="x")["commit"] == "aaaa, bbbb"
    monkeypatch.setattr(provenance, "commit", lambda: "cccc")
    line = run(replace(BASE, evals=()), out, name="x")
    assert line["commit"] == "aaaa, bbbb, cccc" and line["device"] == provenance.device() and line["versions"] == provenance.versions()
    assert run(replace(BASE, evals=()), tmp_path / "other.jsonl", name="x")["commit"] == "cccc"


def test_other_data_is_another_run(trained, tmp_path):
    """A file that a config names may change while the config does not: the run is not finished then, and its checkpoints are others'."""
    text = tmp_path / "book.txt"
    made = replace(BASE, data=Text(corpus=str(text), length=8), evals=(ChunkLoss((4, 8), windows=2),))
    made = replace(made, model=replace(made.model, vocab=made.data.vocab))

    def again(content):
        text.write_bytes(content)
        for known in (corpora.load, corpora.fingerprint):
            known.cache_clear()
        return run_all(experiment(base=made), "smoke", seeds=1, out=tmp_path)
    first, second = again(b"a b c d " * 99), again(b"a b c d " * 99)
    assert first == second and len(trained) == 1
    with pytest.raises(ValueError, match="base-s0 holds the checkpoint of another configuration, or of other data"):
        again(b"e f g h " * 99)
    shutil.rmtree(tmp_path / "checkpoints")
    (line,) = again(b"e f g h " * 99)
    assert line["data"] == made.data.fingerprint() != first[0]["data"] and results.read(tmp_path / "shared.smoke.jsonl") == [line]


def test_two_evaluations_of_one_name(tmp_path):
    made = replace(BASE, evals=(BASE.evals[0], replace(BASE.evals[0], seed=1)))
    with pytest.raises(ValueError, match="two evaluations of this run measure exact_match at 3"):
        run_all(experiment(base=made), "smoke", seeds=1, out=tmp_path)


def test_a_config_that_is_back_is_shown_again(tmp_path):
    """Changed, run, and changed back: the file ends with the changed one's line, and is not read as if that were declared."""
    for made in (BASE, replace(BASE, train=replace(BASE.train, warmup=3)), BASE):
        run_all(experiment(base=made), "smoke", seeds=1, out=tmp_path)
    shown = showing.lines_of(experiment(base=BASE), tmp_path / "shared.smoke.jsonl")
    assert [line["digest"] for line in shown] == [config.digest(BASE)] and len(results.read(tmp_path / "shared.smoke.jsonl")) == 2


def test_a_name_that_now_means_something_else(trained, tmp_path):
    """`base` is edited, and `pi` still reads what it was."""
    small = replace(BASE, model=replace(BASE.model, d_model=8))
    run_all(experiment(base=BASE), "smoke", out=tmp_path)
    run_all(experiment(base=small, pi=RUNS["pi"]), "smoke", out=tmp_path)
    assert len(trained) == 2 and folders(tmp_path) == ["base-s0", "pi-s0"]


def test_a_run_alone_shares_as_well(trained, tmp_path):
    lines = [run(made, tmp_path, name=name) for name, made in RUNS.items()]
    assert trained == [((0,), 0, 0), ((0,), 0, 8)]
    assert sorted(path.name for path in (tmp_path / "checkpoints/runs").iterdir()) == ["pi-s0", "tuned-s0"]
    assert [run(made, tmp_path, name=name) for name, made in RUNS.items()] == lines
    found = finished.revive(tmp_path / "checkpoints/runs/pi-s0")
    assert found.decoder.cfg == PI and BASE.evals[0](found.decoder, BASE.data) == lines[0]["metrics"]


def test_two_programs_do_not_train_in_one_folder(tmp_path):
    one, = training.plan([(BASE, 0)], {"x": BASE}, tmp_path, ("e", "smoke")).values()
    one.folder.mkdir(parents=True)
    handle, stop, timer = os.open(one.folder, os.O_RDONLY), threading.Event(), None
    fcntl.flock(handle, fcntl.LOCK_EX)  # as another program would
    try:
        timer = threading.Timer(0.5, stop.set)
        timer.start()
        with pytest.raises(Stopped, match="another program is training in .*x-s0"):
            training.Trainer().trained(one, None, stop)
        assert stop.is_set() and not list(one.folder.iterdir())
    finally:
        os.close(handle)
    assert training.Trainer().trained(one, None, threading.Event())[0].seed == 0


# ------------------------------------------------------------------------------------------------------------------- start

def test_a_start_that_is_no_run_has_a_folder_of_its_own(trained, tmp_path):
    lines = run_all(experiment(tuned=TUNED, other=replace(TUNED, train=replace(TUNED.train, steps=2, warmup=1))), "smoke", out=tmp_path, jobs=2)
    assert folders(tmp_path) == ["other-s0", "tuned-s0", "tuned.start-s0"] and [line["run"] for line in lines] == ["tuned", "other"]
    assert sorted(trained) == [((0,), 0, 0), ((0,), 0, 8), ((0,), 0, 8)]


def test_a_start_may_have_a_start(trained, tmp_path, done):
    third = replace(TUNED, model=BASE.model, start=TUNED)
    run_all(experiment(third=third), "smoke", out=tmp_path)
    assert trained == [((0,), 0, 0), ((0,), 0, 8), ((0,), 0, 12)]
    assert folders(tmp_path) == ["third-s0", "third.start-s0", "third.start.start-s0"]
    tuned = finished.revive(tmp_path / "checkpoints/shared.smoke/third.start-s0")
    assert BASE.evals[0](tuned.decoder, BASE.data) == by_name(done[1])["tuned", 0]


def test_new_parameters_keep_their_initial_values(tmp_path):
    """A learning rate of next to nothing leaves all parameters where they began."""
    model = replace(BASE.model, position=Rope(scaling=Clex(factor=2, original_length=10)))
    made = replace(BASE, model=model, train=replace(BASE.train, learning_rate=1e-12, weight_decay=0.0), start=BASE)
    run(made, tmp_path, name="clex")
    start, clex = (finished.revive(tmp_path / "checkpoints/runs" / name).decoder for name in ("clex.start-s0", "clex-s0"))
    fresh, begun, found = (bare(nnx.state(decoder, nnx.Param)) for decoder in (Decoder(model, rngs=nnx.Rngs(0)), start, clex))
    want = fresh | begun
    assert len(want) == len(found) > 10 and any("up" in name for name in found)
    for name in want:
        np.testing.assert_allclose(found[name], want[name], atol=1e-9, err_msg=name)


# ---------------------------------------------------------------------------------------------------------------- together

def test_seeds_together_share_too(trained, tmp_path, done):
    lines = run_all(experiment(**RUNS), "smoke", seeds=2, out=tmp_path, together=True)
    assert trained == [((0, 1), 0, 0), ((0, 1), 0, 8)] and folders(tmp_path) == ["base-s0_1", "tuned-s0_1"]
    wanted = by_name(done[1])
    for line in lines:
        for metric, values in line["metrics"].items():
            assert values == pytest.approx(wanted[line["run"], line["seed"]][metric], abs=0.15), line["run"]


def test_what_was_trained_together_serves_one_by_one(trained, tmp_path):
    run_all(experiment(base=BASE), "smoke", seeds=2, out=tmp_path, together=True)
    lines = run_all(experiment(**RUNS), "smoke", seeds=3, out=tmp_path, only=["base", "pi", "tuned"])
    assert folders(tmp_path) == ["base-s0_1", "base-s2", "tuned-s0", "tuned-s1", "tuned-s2"] and len(lines) == 9
    assert sorted(trained) == [((0,), 0, 8), ((0, 1), 0, 0), ((1,), 0, 8), ((2,), 0, 0), ((2,), 0, 8)]


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_settings_does_not_matter(order):
    """A part before its fields; what one value forbids, 4 warm-up steps of 3, after the one that allows it."""
    given = ["train.steps=3", "train.warmup=1", "model.mixer.state=8", "model.mixer=mamba2", "model.mixer.head_dim=8"][::order]
    name, made = running.settled("base", replace(BASE, train=replace(BASE.train, warmup=4)), given)
    assert name == f"base[{','.join(given)}]"
    assert (made.train.steps, made.train.warmup, made.model.mixer) == (3, 1, Mamba2Config(state=8, head_dim=8))


@pytest.mark.parametrize("given, said", [(["train.steps=3", "train.steps=4"], "train.steps is set twice, to '3' and to '4'"),
                                         (["train.steps=1", "data.min_length=3"], "warmup=2 must be less than steps=1"),
                                         (["model.=3"], "a setting is KEY=VALUE, got 'model.=3'")])
def test_settings_that_cannot_be(given, said):
    with pytest.raises(ValueError, match=said):
        running.settled("base", BASE, given)


def test_evaluations_of_ones_own_need_not_say_what_they_measure():
    class Mine:
        pass
    assert running.slices(BASE) == {"exact_match": {"3": None, "6": None}, "token_accuracy": {"3": None, "6": None}}
    assert running.slices(replace(BASE, evals=(*BASE.evals, Mine()))) is None


def test_long_names_make_short_folders():
    names = [f"rope[{'model.layers=2,' * 30}{end}]" for end in ("a=1", "a=2")]
    folders = [training.folder_name(name, (0,)) for name in names]
    assert len(set(folders)) == 2 and all(len(folder) < 220 and folder.startswith("rope@model.layers=2") and folder.endswith("-s0") for folder in folders)
    assert training.folder_name("rope[model.layers=2]", (0, 1)) == "rope@model.layers=2-s0_1"


# ----------------------------------------------------------------------------------------------------------------- failing

def test_a_training_that_diverges_is_reported_for_every_run(trained, tmp_path):
    class Said(Watch):
        def __init__(self):
            self.failures = []

        def failed(self, name, error):
            self.failures.append((name, str(error)))
    bad, said = replace(BASE, train=replace(BASE.train, learning_rate=1e30)), Said()
    runs = {"bad": bad, "bad_pi": replace(bad, read=PI), "after_bad": replace(TUNED, start=bad), "good": BASE}
    with pytest.raises(NonFiniteLoss, match="3 of 4 runs did not finish"):
        run_all(experiment(**runs), "smoke", out=tmp_path, jobs=2, watch=said)
    assert sorted(name for name, _ in said.failures) == ["after_bad seed 0", "bad seed 0", "bad_pi seed 0"]
    assert "bad, which this begins with, did not finish: " in dict(said.failures)["after_bad seed 0"]
    assert sorted(trained) == [((0,), 0, 0), ((0,), 0, 0)], "once, for all of them"
    assert [line["run"] for line in results.read(tmp_path / "shared.smoke.jsonl")] == ["good"]


@pytest.mark.parametrize("made, said", [
    (replace(BASE, read=replace(BASE.model, layers=2)), "read must have the parameters that the model has trained: there is no blocks.1.* more"),
    (replace(BASE, read=replace(BASE.model, position=Rope(scaling=Clex(factor=2)))), "read must have .*there is no .*position.learned.down, .*up$"),
    (replace(BASE, read=replace(BASE.model, d_model=8)), r"down.kernel is \(64, 16\), the new model's is \(32, 8\)"),
    (replace(BASE, read=replace(BASE.model, vocab=7)), "the read has vocab=7, and the data 42 tokens"),
    (replace(BASE, read=replace(BASE.model, position=Randomized(Rope(), 13))), "rows of up to 14 .* 13 positions"),
    (replace(BASE, read=replace(BASE.model, mixer=AttentionConfig(heads=2, position=LMInfinite()))), None),
    (replace(BASE, model=replace(BASE.model, position=Randomized(Rope(), 12)), read=BASE.model), None),
    (replace(TUNED, model=replace(PI, layers=2)), None),
    (replace(TUNED, start=replace(BASE, model=replace(BASE.model, layers=2))), "begin with the parameters of start: the new model has no blocks.1"),
    (replace(TUNED, model=replace(PI, tie_embeddings=True)), "of start: the new model has no readout.kernel$"),
    (replace(TUNED, start=replace(BASE, model=replace(BASE.model, vocab=7))), "the model has vocab=7"),
    (replace(BASE, model=replace(BASE.model, position=Rope(scaling=Clex(original_length=7)))), "not a multiple of original_length 7"),
], ids=lambda value: (value or "fine")[:40] if not isinstance(value, Run) else "")
def test_wrong_reads_and_starts_are_found_before_anything_is_written(made, said, tmp_path):
    if said is None:
        return running.check(made)
    for ask in (lambda: run(made, tmp_path / "out"), lambda: run_all(experiment(x=made), "smoke", out=tmp_path / "out")):
        with pytest.raises(ValueError, match=said):
            ask()
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------------------------------------- settings

def test_a_setting_of_the_model_is_one_of_what_reads_it_and_of_what_it_begins_with():
    made = replace(TUNED, read=BASE.model)
    deeper = running.change(made, "model.layers", "3")
    assert deeper.model.layers == deeper.read.layers == deeper.start.model.layers == 3
    running.check(deeper)
    assert running.change(made, "model.position.scaling.factor", "4").model.position.scaling.factor == 4
    assert running.change(made, "model.position.scaling.factor", "4").read == made.read, "it has no such key"
    other = running.change(made, "data.task", "parity")
    assert other.model.vocab == other.read.vocab == other.start.model.vocab == other.start.data.vocab == other.data.vocab != made.data.vocab
    assert running.change(made, "train.steps", "6").start.train.steps == 6
    assert running.change(made, "read.position.base", "5").read == replace(BASE.model, position=Rope(base=5.0))


def test_a_setting_that_only_some_runs_have():
    found = running.every_run(experiment(**RUNS), "smoke", ["model.position.scaling.factor=4"])
    assert list(found) == [f"{name}[model.position.scaling.factor=4]" for name in ("tuned", "tuned_plain")]


def test_a_start_keeps_its_training_alone():
    made = replace(TUNED, start=replace(BASE, read=PI, seed=5), seed=2)
    assert made.start == replace(BASE, evals=(), seed=2) and config.digest(replace(made, seed=0)) == config.digest(TUNED)


def test_settings_reach_all_and_sharing_stays(trained, tmp_path):
    lines = run_all(experiment(**RUNS), "smoke", out=tmp_path, overrides=["model.d_model=8"], only=["pi", "tuned"])
    assert folders(tmp_path) == ["base@model.d_model=8-s0", "tuned@model.d_model=8-s0"] and len(trained) == 2
    assert {line["config"]["model"]["d_model"] for line in lines} == {8}
