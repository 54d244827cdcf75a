"""The README keeps its promises: its tables are the committed results, its Python runs, its commands exist, its files are there."""
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lcref import claims, config, extension, report, results, showing
from lcref.experiment import Figure, experiments, load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(name):
    return README.split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0]


@pytest.mark.parametrize("name", ["quickstart/copy", "quickstart/text"])
def test_tables_are_the_committed_results(name):
    (experiment,) = load(name)
    order = list(experiment.runs["cpu"])
    lines = sorted(results.current(results.read(ROOT / "results" / f"{name}.cpu.jsonl")), key=lambda line: order.index(line["run"]))
    assert {line["run"] for line in lines} == set(order) and all(sum(line["run"] == run for line in lines) >= 3 for run in order)
    digests = {name: config.digest(run) for name, run in experiment.runs["cpu"].items()}
    assert all(line["digest"] == digests[line["run"]] for line in lines), "the declared runs are not those that were carried out"
    for figure in experiment.figures:
        assert report.markdown(lines, figure) in block("quickstart"), f"paste this:\n{report.markdown(lines, figure)}"


@pytest.mark.parametrize("name", [name for name in experiments() if (ROOT / "results" / f"{name}.cpu.jsonl").exists()])
def test_pages_are_the_committed_results(name):
    """`lcref plot NAME --out results` writes them again; their pictures are there."""
    (experiment,), path = load(name), ROOT / "results" / f"{name}.cpu.jsonl"
    page = path.with_suffix(".md").read_text(encoding="utf-8")
    assert page == showing.page(experiment, showing.lines_of(experiment, path), path)
    assert all(path.with_name(picture).is_file() for picture in re.findall(r"\]\(([\w.-]+\.png)\)", page))


SHOWN = [("context_extension/tiny", "context", (0, 2, 6, 7)), ("state_space/digits", "digits", (0,))]         # experiment, block, figures


@pytest.mark.parametrize("name, shown, figures", SHOWN)
def test_experiments_are_shown_as_committed(name, shown, figures):
    """The tables, and every verdict."""
    (experiment,) = load(name)
    path = ROOT / "results" / f"{name}.cpu.jsonl"
    lines = showing.lines_of(experiment, path)
    assert all(sum(line["run"] == run for line in lines) == 3 for run in experiment.runs["cpu"])
    digests = {run: config.digest(replace(made, seed=0)) for run, made in experiment.runs["cpu"].items()}
    assert all(line["digest"] == digests[line["run"]] for line in lines), "the declared runs are not those that were carried out"
    for number in figures:
        assert report.markdown(lines, experiment.figures[number]).split("\n\n")[0] in block(shown)
    for claim in experiment.claims:
        assert f"- **{claims.judge(claim, lines)[0]}**: {claim.statement}" in block(shown)


def test_tables_of_the_published_model_are_the_committed_results():
    order = [extension.CONTROL, *extension.METHODS]
    lines = sorted(results.read(ROOT / "results/extend/smollm2-135m.jsonl"), key=lambda line: order.index(line["run"]))
    assert all(line["digest"] == config.digest_of(line["config"]) for line in lines), "the cells would be measured again"
    losses, keys = ([line for line in lines if metric in line["metrics"]] for metric in ("loss", "passkey"))
    losses = extension.against_control(losses)
    assert len({line["seed"] for line in losses}) >= 3, "several texts"
    for found, metric, label in ((losses, "loss_along", "tokens read"), (losses, "over_control", "tokens in the row"), (keys, "passkey", "tokens@depth")):
        if found:
            table = report.markdown(found, Figure(metric, x_label=label))
            assert table in block("extend"), f"paste this:\n{table}"


def test_gpu_times_are_the_committed_results():
    found = [line for line in map(json.loads, (ROOT / "results/bench/gpu.jsonl").read_text(encoding="utf-8").splitlines()) if "ms" in line]
    rows = re.findall(r"^\| T = (\d+), (\d+) wide(, window 512)?, (forward|forward and backward) \| (.*) \|$", README, re.M)
    assert rows
    for T, K, window, passes, cells in rows:
        shape = f"'T': {T}, 'K': {K}, 'window': {512 if window else None}, 'backward': {passes != 'forward'}"
        for name, cell in zip(("lcref pallas_gpu", "lcref chunked", "cudnn", "torch sdpa", "jax.nn xla"), cells.split(" | ")):
            lines = [line for line in found if line["name"] == name and shape in line["case"]]
            assert [f"{line['ms']:g} ms" for line in lines] == ([cell.strip()] if cell.strip() else [])


def test_the_python_runs():
    snippets = re.findall(r"```python\n(.*?)```", README, re.S)
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), {})


def test_the_commands_exist():
    from lcref import cli
    commands = set(re.findall(r"^lcref (\w+)", README, re.M))
    assert commands and commands <= {name.lower() for name in vars(cli)}
    targets = set(re.findall(r"^make (\w+)", README, re.M))
    assert targets and all(f"\n{target}:" in (ROOT / "Makefile").read_text() for target in targets)


def test_the_files_are_there():
    for path in set(re.findall(r"`((?:lcref|tests|experiments|benchmarks|results)/[\w/.]+\.\w+)`|\]\(((?!http)[\w/.]+)\)", README)):
        assert (ROOT / (path[0] or path[1])).exists(), path
