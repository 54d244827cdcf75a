"""The command line as a person meets it: help at once, lists from the tables, one call from nothing to a figure."""
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from lcref import catalogue, cli, config, results, showing


@pytest.fixture(scope="module")
def done(request, tmp_path_factory):
    """(folder, what was printed) of one `lcref run`."""
    import contextlib
    import io

    out, said = tmp_path_factory.mktemp("runs"), io.StringIO()
    with contextlib.redirect_stdout(said):
        code = cli.main(["run", str(request.config.rootpath / "tests/tiny_experiment.py"), "--size", "smoke", "--out", str(out)])
    assert code == 0
    return out, said.getvalue()


def said(capsys, *words):
    assert cli.main(list(words)) == 0
    return capsys.readouterr().out


def test_help_and_lists_do_not_import_jax():
    code = ("import sys, lcref.cli as cli, lcref.experiment\n"
            "assert cli.main(['list', 'experiments']) == 0 and cli.main(['list', 'tasks']) == 0\n"
            "try: cli.main(['run', '--help'])\nexcept SystemExit as leaving: assert leaving.code == 0\n"
            "slow = {'jax', 'flax', 'optax', 'matplotlib', 'orbax', 'tensorflow_datasets'} & set(sys.modules)\n"
            "assert not slow, slow")
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_explains_each_option(capsys, command):
    with pytest.raises(SystemExit) as leaving:
        cli.main([command, "--help"])
    assert leaving.value.code == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(cli.COMMANDS[command]):
        assert {"settings": "--set", "names": "NAME"}.get(field.name, field.name.rstrip("_").replace("_", "-")).lower() in text.lower()


def test_no_words_print_the_help(capsys):
    with pytest.raises(SystemExit):
        cli.main([])
    text = capsys.readouterr().out
    assert all(command in text for command in cli.COMMANDS)


@pytest.mark.parametrize("kind", config.TABLES)
def test_list_and_show_know_every_member_of_every_table(capsys, kind):
    listed = said(capsys, "list", kind)
    overview = said(capsys, "list")
    for name in config.table(kind):
        assert any(row.split()[0] == name for row in listed.splitlines())
        assert name in overview
        shown = said(capsys, "show", kind, name)
        assert shown.startswith(f"{name}: ") and ".py" in shown


def test_show_a_task_marks_what_is_scored(capsys):
    text = said(capsys, "show", "task", "copy", "--length", "5")
    assert text.count("inputs ") == text.count("targets ") == text.count("scored ") == 3
    assert all(row.count("*") == 6 for row in text.splitlines() if row.startswith("scored"))  # five letters and the end


def test_show_an_experiment_lists_every_key(capsys, request):
    path = str(request.config.rootpath / "tests/tiny_experiment.py")
    text = said(capsys, "show", "experiment", path, "--size", "smoke")
    assert "Does a model of one layer copy" in text and "rope, nope" in text
    for key in ("model.mixer.heads", "model.position", "data.task", "train.learning_rate", "evals.0.lengths"):
        assert f"  {key} " in text


def test_run_prints_progress_table_and_where_things_are(done):
    out, text = done
    assert "rope seed 1: step 8/8  loss " in text and "nope seed 0: done, exact match " in text
    assert "Does it copy?" in text and "exact match by letters" in text and "token accuracy by letters" in text
    path = out / "tiny_experiment.smoke.jsonl"
    assert f"figure   {path.with_suffix('.png')}" in text and f"results  {path}  (4 lines)" in text and f"page     {path.with_suffix('.md')}" in text
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert {p.name for p in out.iterdir()} == {"checkpoints", path.name, path.with_suffix(".png").name, path.with_suffix(".md").name}


def test_run_again_says_that_nothing_is_to_do(done, request, capsys):
    out, _ = done
    text = said(capsys, "run", str(request.config.rootpath / "tests/tiny_experiment.py"), "--size", "smoke", "--out", str(out))
    assert "0 runs to do, 4 finished before" in text and "step" not in text and "results  " in text


@pytest.mark.parametrize("name, file", [("smollm2-135m", "smollm2-135m"), ("/somewhere/else/model.gguf", "model.gguf"), ("a/folder/", "folder")])
def test_the_results_of_a_model_are_where_out_says_wherever_the_model_is(monkeypatch, name, file):
    from lcref import extension
    from lcref.pretrained import models

    monkeypatch.setattr(models, "load", lambda name: models.Pretrained(None, None, 8192, name, ""))
    monkeypatch.setattr(extension, "measure", lambda model, path, **asked: [(path, asked["methods"])])
    monkeypatch.setattr(showing, "draw_extension", lambda lines, path: shown.extend(lines))
    shown = []
    assert cli.main(["extend", name, "--out", "here", "--method", "none, yarn"]) == 0
    assert shown == [(Path("here/extend") / f"{file}.jsonl", ["none", "yarn"])]


def test_plot_draws_from_the_lines_alone(done, request, capsys):
    out, _ = done
    png = out / "tiny_experiment.smoke.png"
    png.unlink()
    text = said(capsys, "plot", str(request.config.rootpath / "tests/tiny_experiment.py"), "--size", "smoke", "--out", str(out))
    assert png.exists() and "exact match by letters" in text


def test_eval_measures_other_lengths(done, capsys):
    out, _ = done
    folder = out / "checkpoints/tiny_experiment.smoke/rope-s0"
    text = said(capsys, "eval", str(folder), "--lengths", "3,5")
    assert "rope seed 0, step 8 of 8" in text
    header, row, interval = text.split("exact match by length: ~ the 95 % interval of a share of 8 problems\n")[1].splitlines()[:3]
    assert header.split() == ["3", "5"] and len(interval.split()) == 2 and interval.split()[0].startswith("~0.")
    line = next(entry for entry in results.read(out / "tiny_experiment.smoke.jsonl") if (entry["run"], entry["seed"]) == ("rope", 0))
    assert f"{line['metrics']['exact_match']['3']:.2f}" in row


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    """The checkpoint folder of a byte model of one layer, trained for two steps."""
    from lcref.data.text import Text
    from lcref.evaluate import ContextLoss
    from lcref.experiment import Run, run
    from lcref.nn.decoder import DecoderConfig
    from lcref.nn.mixers.attention import AttentionConfig
    from lcref.train import TrainConfig

    out = tmp_path_factory.mktemp("text")
    model = DecoderConfig(vocab=257, d_model=8, layers=1, mixer=AttentionConfig(heads=2))
    run(Run(model, Text(length=16), TrainConfig(steps=2, batch=2, warmup=1, steps_per_call=2), (ContextLoss((16,), targets=4, windows=2),)), out)
    return next((out / "checkpoints/runs").iterdir())


def test_eval_measures_what_the_run_did_not(text_model, capsys):
    text = said(capsys, "eval", str(text_model), "--evals", "position_loss,chunk_loss", "--lengths", "256")
    assert text.split("position loss by position\n")[1].splitlines()[0].split() == ["0", "128"]
    assert text.split("chunk loss by length\n")[1].splitlines()[0].split() == ["256"] and "context loss" not in text
    assert "context loss by length" in said(capsys, "eval", str(text_model))


def test_eval_of_a_stream(text_model, capsys, tmp_path):
    import dataclasses

    from lcref import finished
    from lcref.experiment import run

    made = finished.revive(text_model).run
    near = dataclasses.replace(made, model=dataclasses.replace(made.model, mixer=dataclasses.replace(made.model.mixer, window=8)))
    run(near, tmp_path)
    text = said(capsys, "eval", str(next((tmp_path / "checkpoints/runs").iterdir())), "--stream", "100")
    assert text.split("stream loss by tokens read\n")[1].splitlines()[0].split() == ["1", "2", "4", "8", "16", "32", "64", "100"]


@pytest.mark.parametrize("words, complaint", [
    (["--stream", "100"], "a stream needs a state that does not grow with it, and AttentionConfig keeps every token: give it a window"),
    (["--stream", "0"], "StreamLoss length must be a whole number >= 1, got 0"),
    (["--stream", "9", "--evals", "chunk_loss"], "--stream is an evaluation of its own: leave out --evals and --lengths"),
    (["--evals", "position_los"], "unknown evaluation 'position_los' (did you mean position_loss?)"),
    (["--evals", "exact_match"], "ExactMatch reads source.task, which Text does not have"),
    (["--evals", "key_recall", "--lengths", "3"], "--lengths 3: no evaluation here is by length"),
    (["--evals", "position_loss", "--lengths", "64,128"], "length='64,128' is not a whole number"),
])
def test_eval_of_what_there_is_not(text_model, capsys, words, complaint):
    assert cli.main(["eval", str(text_model), *words]) == 2
    assert complaint in capsys.readouterr().err


def test_generate_answers_a_problem(done, capsys):
    out, _ = done
    folder = str(out / "checkpoints/tiny_experiment.smoke/rope-s0")
    text = said(capsys, "generate", folder, "--prompt", "a b c")
    prompt, written, answer = (row.split(maxsplit=1) for row in text.splitlines())
    assert prompt == ["prompt", "^ a b c |"] and answer == ["answer", "a b c $"] and len(written[1].split()) == 4
    assert said(capsys, "generate", folder, "--prompt", "a b c", "--tokens", "2").splitlines()[1] == f"written  {' '.join(written[1].split()[:2])}"
    assert said(capsys, "generate", folder) == said(capsys, "generate", folder)  # a problem from the data, the same every time


def test_generate_goes_on_from_standard_input(text_model, capsys, monkeypatch):
    import io

    options = ("--tokens", "5", "--temperature", "0")
    whole = said(capsys, "generate", str(text_model), "--prompt", "import os", *options)
    for piped in (b"import os", b"\xff\xfe"):  # bytes, as the model reads them
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(piped), encoding="utf-8"))
        alone = said(capsys, "generate", str(text_model), "--prompt", "-", *options)
        assert alone and (piped != b"import os" or whole == f"import os{alone}")


def test_bars_name_every_run_and_its_loss(monkeypatch):
    import io

    from rich.console import Console

    from lcref.progress import Bars
    from lcref.train import Progress

    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Bars(console, "quickstart/copy (cpu)") as bars:
        bars.plan(["rope[model.layers=4] seed 0", "nope seed 0"], ["alibi seed 0"])
        for name in ("rope[model.layers=4] seed 0", "nope seed 0"):
            bars.start(name)
        bars.step("nope seed 0", Progress(50, 200, 2.5, 3.0))
        bars.step("nope seed 0", Progress(100, 200, 1.25, 3.5))
        bars.progress.refresh()
        bars.done("nope seed 0", [{"run": "nope", "metrics": {}, "seconds": 4.0}])
    text = console.file.getvalue()
    for word in ("rope[model.layers=4] seed 0", "1 of 3 runs are finished already", "100/200", "100 steps/s", "0:01 left", "loss 1.2500",
                 "1/2 runs", "compiling", "4 s of training"):
        assert word in text, word


def test_doctor_says_what_is_here(capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["doctor"])
    text = capsys.readouterr().out
    assert leaving.value.code == (0 if text.endswith("\nready\n") else 1)
    for word in ("lcref", "python", "jax", "flax", "devices", "cores", "results", "experiments", "[hf]"):
        assert f"\n{word} " in f"\n{text}"


def test_benchmarks_are_those_with_a_main_part():
    for path in catalogue.benchmarks().values():
        assert "__main__" in path.read_text()


def test_new_runs_are_drawn_over_the_committed_ones(done, request, capsys, tmp_path, monkeypatch):
    from lcref import experiment, plotting

    out, _ = done
    (tmp_path / "tiny_experiment.smoke.jsonl").write_bytes((out / "tiny_experiment.smoke.jsonl").read_bytes())
    monkeypatch.setattr(experiment, "shipped", lambda kind: tmp_path if kind == "results" else None)
    references = []
    monkeypatch.setattr(plotting, "curves", lambda lines, figures, path, reference=(): references.append(len(reference)) or path)
    for folder in (out, tmp_path):  # drawing the committed file itself, there is nothing to draw it over
        said(capsys, "plot", str(request.config.rootpath / "tests/tiny_experiment.py"), "--size", "smoke", "--out", str(folder))
    assert references == [4, 0]


def test_claims_and_their_verdicts(done, request, capsys):
    name, out = str(request.config.rootpath / "tests/tiny_experiment.py"), str(done[0])
    text = said(capsys, "claims", name, "--size", "smoke", "--out", out)
    assert text.splitlines()[:2] == ["reproduced  tiny_experiment:rope-runs", f"{'':<12}RoPE runs."]
    assert "here:  rope exact match at 3 >= 0: 0." in text and "not run     tiny_experiment:longer" in text
    assert text.splitlines()[-1] == "1 reproduced, 0 partly, 0 not, 1 not run"
    assert said(capsys, "claims", f"{name}:longer", "--size", "smoke", "--out", out).splitlines()[-1] == "0 reproduced, 0 partly, 0 not, 1 not run"
    assert cli.main(["claims", f"{name}:long", "--size", "smoke"]) == 2 and "unknown claim 'long' (did you mean longer?)" in capsys.readouterr().err
    assert said(capsys, "claims", name, "--size", "smoke").splitlines()[-1].endswith("2 not run"), "by committed results: there are none"
    for words, complaint in ((["--size", "smok"], "unknown size 'smok' (did you mean smoke?)"), (["--size", "smoke", "--out", out + "x"], "is no folder"),
                             (["--check"], "leave out names, --size and --out")):
        assert cli.main(["claims", name, *words]) == 2 and complaint in capsys.readouterr().err


def test_every_experiment_has_its_claims_in_the_ledger(capsys):
    text = said(capsys, "claims")
    assert all(f"  {name}:" in text for name in catalogue.members("experiments"))


def test_reproduce_runs_what_a_claim_needs(request, capsys, tmp_path):
    name = str(request.config.rootpath / "tests/tiny_experiment.py")
    text = said(capsys, "reproduce", f"{name}:rope-runs", "--size", "smoke", "--seeds", "1", "--out", str(tmp_path))
    assert "1 runs to do" in text and text.splitlines()[-1] == "1 reproduced, 0 partly, 0 not, 0 not run"
    assert {line["run"] for line in results.read(tmp_path / "tiny_experiment.smoke.jsonl")} == {"rope"}
    assert cli.main(["reproduce", name, "--out", str(tmp_path)]) == 2 and "a claim is EXPERIMENT:CLAIM" in capsys.readouterr().err


def test_a_claim_that_no_training_would_decide_is_refused_before_any(request, capsys, tmp_path):
    name = str(request.config.rootpath / "tests/tiny_experiment.py")
    assert cli.main(["reproduce", f"{name}:longer", "--size", "smoke", "--out", str(tmp_path / "out")]) == 2
    assert ("tiny_experiment:longer cannot be decided at size smoke, which does not measure rope exact match at 7; it can at: none"
            in capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
    assert "size smoke does not measure rope exact match at 7" in said(capsys, "claims", f"{name}:longer", "--size", "smoke")


def test_a_claim_is_found_in_a_folder_of_experiments(request, capsys, tmp_path):
    tiny = (request.config.rootpath / "tests/tiny_experiment.py").read_text()
    (tmp_path / "one.py").write_text(tiny)
    (tmp_path / "two.py").write_text(tiny.replace('"rope-runs"', '"other"'))
    options = ("--size", "smoke", "--seeds", "1", "--out", str(tmp_path / "out"))
    assert said(capsys, "reproduce", f"{tmp_path}:other", *options).splitlines()[-1] == "1 reproduced, 0 partly, 0 not, 0 not run"
    assert [path.name for path in (tmp_path / "out").glob("*.jsonl")] == ["two.smoke.jsonl"]
    assert cli.main(["reproduce", f"{tmp_path}:longer", *options]) == 2
    assert "are several: one:longer, two:longer" in capsys.readouterr().err


def test_experiments_of_a_folder_are_all_looked_at_before_the_first_is_trained(request, capsys, tmp_path):
    tiny = (request.config.rootpath / "tests/tiny_experiment.py").read_text()
    (tmp_path / "one.py").write_text(tiny)
    (tmp_path / "two.py").write_text(tiny.replace('"rope": Rope(), "nope": Nope()', '"rope": Rope()'))
    words = ["--size", "smoke", "--seeds", "1", "--out", str(tmp_path / "out")]
    assert cli.main(["run", str(tmp_path), "--only", "nope", *words]) == 2
    assert "unknown run of two at size smoke 'nope'" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert cli.main(["run", str(tmp_path / "one.py"), "--only", "rope", *words]) == 0
    capsys.readouterr()
    assert cli.main(["plot", str(tmp_path), *words[:2], *words[4:]]) == 0
    out, err = capsys.readouterr()
    assert "one.smoke.png" in out and err == "no results yet: two\n"


class Closed:
    """A pipe whose reader has left after so many writes."""

    def __init__(self, left):
        self.left, self.encoding = left, "utf-8"

    def write(self, text):
        self.left -= 1
        if self.left < 0:
            raise BrokenPipeError

    def flush(self): ...

    def isatty(self):
        return False

    def fileno(self):
        import os

        return os.open(os.devnull, os.O_WRONLY)


@pytest.mark.parametrize("words, code, complaint", [(["list"], 0, ""), (["claims", "quickstart"], 0, ""), (["run"], 1, "stopped, since nothing reads")])
def test_a_reader_that_leaves(request, capsys, monkeypatch, tmp_path, words, code, complaint):
    if words == ["run"]:
        words = ["run", str(request.config.rootpath / "tests/tiny_experiment.py"), "--size", "smoke", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "stdout", Closed(2))
    assert cli.main(words) == code
    err = capsys.readouterr().err
    assert complaint in err and bool(err) == bool(complaint)


def test_a_picture_is_there_when_its_table_was_not_read(done, request, monkeypatch):
    out, _ = done
    png = out / "tiny_experiment.smoke.png"
    png.unlink()
    monkeypatch.setattr(sys, "stdout", Closed(1))
    assert cli.main(["plot", str(request.config.rootpath / "tests/tiny_experiment.py"), "--size", "smoke", "--out", str(out)]) == 0
    assert png.exists()


def test_many_figures_become_several_pictures(done, request, capsys, tmp_path, monkeypatch):
    import dataclasses

    from lcref import plotting
    from lcref.experiment import load

    (experiment,) = load(request.config.rootpath / "tests/tiny_experiment.py")
    five = tuple(dataclasses.replace(experiment.figures[0], title=f"number {i}") for i in range(5))
    drawn = {}
    monkeypatch.setattr(plotting, "curves", lambda lines, figures, path, reference=(): drawn.update({path.name: [f.title for f in figures]}) or path)
    paths = showing.pictures(dataclasses.replace(experiment, figures=five), done[0] / "tiny_experiment.smoke.jsonl")
    assert [path.name for path in paths] == list(drawn)
    assert drawn == {"tiny_experiment.smoke.png": ["number 0", "number 1", "number 2"], "tiny_experiment.smoke-2.png": ["number 3", "number 4"]}
    # a heat map has a picture of its own, wherever it stands
    drawn.clear()
    monkeypatch.setattr(plotting, "heat", lambda lines, metric, path, title="", x_label="", y_label="": drawn.update({path.name: title}) or path)
    mixed = (five[0], dataclasses.replace(five[1], heat=True), five[2], five[3])
    showing.pictures(dataclasses.replace(experiment, figures=mixed), done[0] / "tiny_experiment.smoke.jsonl")
    assert drawn == {"tiny_experiment.smoke.png": ["number 0"], "tiny_experiment.smoke-2.png": "number 1",
                     "tiny_experiment.smoke-3.png": ["number 2", "number 3"]}
