"""Whatever a user gets wrong: one line that names the value and what is legal, exit code 2, nothing left behind."""
import json
import shutil

import pytest

from lcref import cli

TINY = "TINY"  # stands for the path of tests/tiny_experiment.py


@pytest.fixture
def tiny(request):
    return str(request.config.rootpath / "tests/tiny_experiment.py")


def complaint(capsys, words):
    """The one line that a call prints on stderr."""
    code = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert code == 2, err
    assert err.startswith("lcref: error: ") and err.count("\n") == 1 and "Traceback" not in err + out, err
    return err


@pytest.mark.parametrize("words, said", [
    (["rum", "quickstart"], ["rum", "run"]),
    (["run"], ["NAME"]),
    (["run", TINY, "--sise", "smoke"], ["--sise", "--size"]),
    (["run", TINY, "--seeds", "three"], ["--seeds", "three"]),
    (["run", "quickstrat"], ["unknown experiment 'quickstrat'"]),
    (["run", "nosuch/file.py"], ["no experiment file at nosuch/file.py"]),
    (["run", TINY, "--size", "huge"], ["unknown size", "'huge'", "smoke", "long"]),
    (["run", TINY, "--size", "smoke", "--seeds", "0"], ["seeds must be a whole number >= 1, got 0"]),
    (["run", TINY, "--size", "smoke", "--jobs", "0"], ["jobs must be a whole number >= 1, got 0"]),
    (["run", TINY, "--size", "smoke", "--only", "ropee"], ["'ropee'", "rope, nope"]),
    (["run", TINY, "--size", "smoke", "--set", "model.layers"], ["KEY=VALUE", "model.layers"]),
    (["run", TINY, "--size", "smoke", "--set", "model.layer=2"], ["'layer'", "did you mean layers?", "mixer"]),
    (["run", TINY, "--size", "smoke", "--set", "model.layers=two"], ["model.layers='two'", "whole number"]),
    (["run", TINY, "--size", "smoke", "--set", "model.layers=0"], ["layers must be a whole number >= 1, got 0"]),
    (["run", TINY, "--size", "smoke", "--set", "model.position=robe"], ["'robe'", "did you mean rope?", "alibi"]),
    (["run", TINY, "--size", "smoke", "--set", "data.task=sot"], ["'sot'", "sort", "passkey"]),
    (["run", TINY, "--size", "smoke", "--set", "model.mixer=s9"], ["'s9'", "attention"]),
    (["run", TINY, "--size", "smoke", "--set", "model.mixer.heads=3"], ["heads=3", "d_model=16"]),
    (["run", TINY, "--size", "smoke", "--set", "model.mixer.kv_heads=3"], ["kv_heads=3", "heads=2"]),
    (["run", TINY, "--size", "smoke", "--set", "model.vocab=7"], ["vocab=7", "42"]),
    (["run", TINY, "--size", "smoke", "--set", "model.position=learned", "model.position.length=10"], ["10 positions", "14"]),
    (["run", TINY, "--size", "smoke", "--set", "model.position=randomized_rope", "--set", "model.position.max_length=9"], ["9 positions"]),
    (["run", TINY, "--size", "smoke", "--set", "data.task=copy_unique", "evals.0.lengths=3,900"], ["900", "too long"]),
    (["run", TINY, "--size", "smoke", "--set", "data.max_length=1"], ["min_length 2", "max_length 1"]),
    (["run", TINY, "--size", "smoke", "--set", "train.warmup=50"], ["warmup=50", "steps=8"]),
    (["list", "tusks"], ["'tusks'", "tasks", "positions"]),
    (["show", "position", "robe"], ["'robe'", "rope"]),
    (["show"], ["KIND|NAME"]),
    (["show", "yarm"], ["nothing is called 'yarm'", "did you mean yarn?"]),
    (["show", "attention"], ["attention names several things", "lcref show benchmark attention, lcref show mixer attention"]),
    (["show", "extend"], ["lcref show lcref.nn.decoder.Decoder.extend, lcref show "]),
    (["show", "copying"], ["did you mean state_space/copying?"]),
    (["show", "task"], ["which task? lcref list tasks prints them"]),
    (["show", "lcref/ops/mask.py"], ["did you mean lcref.ops.masks?"]),
    (["show", "nosuch/file.py"], ["no experiment file at nosuch/file.py"]),
    (["show", "task", "copi"], ["'copi'", "copy"]),
    (["show", "task", "copy", "--length", "0"], ["length 0", "shortest is 1"]),
    (["show", "experiment", TINY, "--size", "huge"], ["'huge'", "smoke"]),
    (["show", "experiment", "nosuch"], ["nosuch"]),
    (["weights", "get"], ["which weights", "smollm2-135m"]),
    (["weights", "get", "smollm"], ["unknown model 'smollm'", "did you mean smollm2-135m?"]),
    (["weights", "list", "smollm2-135m"], ["takes nothing more", "did you mean lcref weights get?"]),
    (["extend", "nosuch"], ["unknown model 'nosuch'", "no such file or folder"]),
    (["extend", "--lengths", "2k"], ["lengths are numbers", "'2k'"]),
    (["plot", "nosuch.jsonl"], ["nosuch.jsonl", "No such file"]),
    (["plot", TINY, "--size", "smoke"], ["tiny_experiment.smoke.jsonl", "No such file"]),
    (["plot", TINY, "--size", "huge"], ["unknown size", "'huge'", "smoke, long"]),
    (["run", TINY, "--size", "smoke", "--dry", "--jobs", "0"], ["jobs must be a whole number >= 1, got 0"]),
    (["run", TINY, "--size", "smoke", "--dry", "--seeds", "-2"], ["seeds must be a whole number >= 1, got -2"]),
    (["run", TINY, "--size", "smoke", "--set", "evals.0.samples=0"], ["ExactMatch samples must be a whole number >= 1, got 0"]),
    (["run", TINY, "--size", "smoke", "--set", "evals.0.lengths="], ["ExactMatch lengths is empty"]),
    (["run", TINY, "--size", "smoke", "--set", "train.learning_rate=-1"], ["learning_rate must be a number > 0, got -1.0"]),
    (["run", TINY, "--size", "smoke", "--set", "seed=-1"], ["Run seed must be a whole number >= 0, got -1"]),
    (["run", TINY, "--size", "smoke", "--set", "train.steps=9", "train.steps=7"], ["train.steps is set twice"]),
    (["show", "task", "copy", "--seed", "-1"], ["seed must be a whole number >= 0, got -1"]),
    (["report", TINY, "--to", "results.jsonl"], ["--to results.jsonl: the page is a .html file"]),
    (["report", TINY, "--size", "smoke", "--out", "nowhere", "--to", "new/page.html"], ["nowhere"]),
    (["plot", "any.jsonl", "--out", "there"], ["--out there goes with an experiment's name", "any.jsonl is drawn beside itself"]),
    (["list", "foo"], ["unknown kind 'foo'"]),
    (["reproduce", "quickstart/copy"], ["a claim is EXPERIMENT:CLAIM", "got 'quickstart/copy'"]),
    (["run", TINY, "--seeds", "abc"], ["parsing --seeds: invalid literal for int() with base 10: 'abc'"]),
    (["eval", "nowhere"], ["nowhere is not the folder of a run", "run.json"]),
    (["generate", "nowhere"], ["nowhere is not the folder of a run"]),
    (["bench", "nosuch"], ["bench"]),
])
def test_one_line_and_nothing_left_behind(capsys, tmp_path, monkeypatch, tiny, words, said):
    monkeypatch.chdir(tmp_path)
    line = complaint(capsys, [tiny if word == TINY else word for word in words])
    for word in said:
        assert word in line, line
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tiny):
    with pytest.raises(KeyError, match="huge"):
        cli.main(["run", tiny, "--size", "huge", "--debug"])


def test_output_folder_that_is_a_file(capsys, tmp_path, tiny):
    (tmp_path / "out").write_text("mine")
    line = complaint(capsys, ["run", tiny, "--size", "smoke", "--out", tmp_path / "out"])
    assert f"cannot write results to {tmp_path / 'out'}" in line
    assert (tmp_path / "out").read_text() == "mine"


def test_output_folder_that_cannot_be_made(capsys, tiny):
    assert "cannot write results to /proc/nosuch" in complaint(capsys, ["run", tiny, "--size", "smoke", "--out", "/proc/nosuch"])


@pytest.mark.parametrize("text", ['{"run": "rope", "se', "not a line\n", '{"run": "rope"}\n'])
def test_half_written_results(capsys, tmp_path, tiny, text):
    path = tmp_path / "tiny_experiment.smoke.jsonl"
    path.write_text(text)
    for words in (["run", tiny], ["plot", tiny]):
        line = complaint(capsys, [*words, "--size", "smoke", "--out", tmp_path])
        assert f"{path}: line 1 " in line
    assert path.read_text() == text and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_empty_results(capsys, tmp_path, tiny):
    (tmp_path / "tiny_experiment.smoke.jsonl").write_text("")
    assert "no results lines" in complaint(capsys, ["plot", tiny, "--size", "smoke", "--out", tmp_path])


TEXT = '''"""A byte model of a folder."""
from lcref.data.text import Text
from lcref.experiment import Run
from lcref.nn.decoder import DecoderConfig
from lcref.train import TrainConfig
RUNS = {"smoke": {"rope": Run(DecoderConfig(vocab=257, d_model=16, layers=1), Text("CORPUS", length=16), TrainConfig(steps=200))}}
'''


@pytest.mark.parametrize("corpus, said", [("EMPTY", "text"), ("stdlibb", "unknown corpus 'stdlibb'"), ("./nosuch.txt", "nosuch.txt")])
def test_text_that_is_not_there(capsys, tmp_path, corpus, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("")
    (tmp_path / "text.py").write_text(TEXT.replace("CORPUS", str(tmp_path / "empty") if corpus == "EMPTY" else corpus))
    assert said in complaint(capsys, ["run", tmp_path / "text.py", "--size", "smoke", "--out", tmp_path / "out"])
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def trained(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    path = str(request.config.rootpath / "tests/tiny_experiment.py")
    assert cli.main(["run", path, "--size", "smoke", "--seeds", "1", "--only", "rope", "--out", str(out)]) == 0
    return out / "checkpoints" / "tiny_experiment.smoke" / "rope-s0"


@pytest.fixture
def folder(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "checkpoints" / "tiny_experiment.smoke" / "rope-s0")


@pytest.mark.parametrize("options, said", [
    (["--lengths", "3,x"], ["3,x"]),
    (["--lengths", "0"], ["lengths must be a whole number >= 1, got 0"]),
    (["--lengths", ","], ["ExactMatch lengths is empty"]),
    (["--seed", "7"], ["seed 0, not 7"]),
])
def test_eval_options(capsys, trained, options, said):
    line = complaint(capsys, ["eval", trained, *options])
    assert all(word in line for word in said), line


@pytest.mark.parametrize("options, said", [
    (["--prompt", "a b ?!"], ["'?!'", "Copy"]),
    (["--tokens", "0"], ["tokens must be at least 1"]),
    (["--prompt", ""], ["the prompt is empty", "Copy"]),
    (["--seed", "-1"], ["seed must be a whole number >= 0, got -1"]),
    (["--temperature", "0", "--top-p", "0.5"], ["is greedy", "give one above 0"]),
    (["--temperature", "-1"], ["temperature", "-1"]),
    (["--top-k", "3"], ["is greedy", "give one above 0"]),
    (["--temperature", "1", "--top-p", "2"], ["top_p", "2"]),
    (["--temperature", "1", "--top-k", "999"], ["top_k", "999", "42"]),
])
def test_generate_options(capsys, trained, options, said):
    line = complaint(capsys, ["generate", trained, *options])
    assert all(word in line for word in said), line


def test_the_folder_above_is_pointed_down(capsys, folder):
    assert f"did you mean {folder}?" in complaint(capsys, ["eval", folder.parent.parent])


def test_a_folder_without_a_checkpoint(capsys, folder):
    for step in folder.glob("step_*"):
        shutil.rmtree(step)
    assert "no whole checkpoint" in complaint(capsys, ["eval", folder])


def test_a_damaged_run_json(capsys, folder, tiny):
    (folder / "run.json").write_text('{"config": {"ty')
    assert f"{folder / 'run.json'} is damaged" in complaint(capsys, ["eval", folder])
    line = complaint(capsys, ["run", tiny, "--size", "smoke", "--seeds", "1", "--only", "rope", "--out", folder.parent.parent.parent])
    assert "run.json is damaged" in line


@pytest.mark.parametrize("text", ["[]", '"x"', '{"config": 3, "seeds": [0]}', '{"config": {"type": "lcref.experiment.Run"}, "seeds": [0]}', "\udcff"])
def test_a_run_json_of_another_kind(capsys, folder, text):
    (folder / "run.json").write_bytes(text.encode(errors="surrogateescape"))
    assert f"{folder / 'run.json'} is damaged" in complaint(capsys, ["eval", folder])


def test_a_checkpoint_of_another_model(capsys, folder):
    note = json.loads((folder / "run.json").read_text())
    note["config"]["model"]["d_model"] = 32
    (folder / "run.json").write_text(json.dumps(note))
    for command in ("eval", "generate"):
        assert "are not those of this model: blocks.0.feed_forward.down.kernel is (64, 16), the new" in complaint(capsys, [command, folder])


def test_a_config_of_another_version(capsys, folder):
    note = json.loads((folder / "run.json").read_text())
    note["config"]["model"]["no_longer"] = 1
    (folder / "run.json").write_text(json.dumps(note))
    assert "no_longer, which lcref.nn.decoder.DecoderConfig does not have any more" in complaint(capsys, ["eval", folder])


def test_a_half_written_checkpoint(capsys, folder, tiny):
    """Files of the checkpoint itself are gone: it is named, and not silently trained over."""
    for step in folder.glob("step_*"):
        for path in step.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert str(folder) in complaint(capsys, ["eval", folder])
    line = complaint(capsys, ["run", tiny, "--size", "smoke", "--seeds", "1", "--only", "rope", "--out", folder.parent.parent.parent])
    assert str(folder) in line
