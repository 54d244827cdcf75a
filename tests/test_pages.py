"""README and docs keep their promises: tables are the committed results, Python and shell lines run, files and notebooks are there."""
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lcref import cli, collapse, config, extension, pages, report, results, showing
from lcref.experiment import Figure, experiments, load

ROOT = Path(__file__).parents[1]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
         for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))}


def block(name):
    return PAGES["docs/results.md"].split(f"<!-- {name}:begin -->")[1].split(f"<!-- {name}:end -->")[0]


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


def test_tables_figures_and_verdicts_have_lines_behind_them():
    assert pages.findings(ROOT) == []
    assert len(pages.run_tables(PAGES["docs/results.md"])) >= 10 and len(re.findall(r"^- \*\*", PAGES["docs/results.md"], re.M)) >= 15


@pytest.mark.parametrize("page, old, new, said", [
    ("docs/results.md", "| `alibi` | 1.00 | 1.00 | 0.71 ", "| `alibi` | 1.00 | 1.00 | 0.72 ", "docs/results.md: no results file gives the table | letters"),
    ("docs/results.md", "| `none` | 0.00 | -2.04", "| `none` | 0.00 | -2.05", "no results file gives the table | tokens in the row"),
    ("docs/results.md", "- **partly**: HiPPO", "- **reproduced**: HiPPO", "the verdict is partly, not reproduced: HiPPO's A"),
    ("docs/results.md", "- **partly**: HiPPO", "- **partly**: Our HiPPO", "no experiment claims: Our HiPPO"),
    ("docs/results.md", "| `quickstart/copy` | 1 | 0 | 0 |", "| `quickstart/copy` | 2 | 0 | 0 |", "the claims of quickstart/copy are 1 / 0 / 0 (reproduced"),
    ("docs/results.md", "| `state_space/parity` | 1 | 0 | 0 |\n", "| `state_space/parity` | 1 | 0 | 0 |\n| [A](#a) | `no/such` | 0 | 0 | 0 |\n",
     "the claims of no/such are not run"),
    ("README.md", "results/quickstart/copy.cpu.png", "results/quickstart/text.gpu.png", "README.md: no results lines behind the figure results/quickstart/text.gpu.png"),
    ("results/quickstart/copy.cpu.md", "0.71", "0.72", "results/quickstart/copy.cpu.md is not what its lines say: lcref plot quickstart/copy"),
])
def test_what_is_not_so_is_found(page, old, new, said, tmp_path, capsys, monkeypatch):
    shutil.copytree(ROOT / "results", tmp_path / "results")
    for name in PAGES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    text = (tmp_path / page).read_text(encoding="utf-8")
    assert old in text
    (tmp_path / page).write_text(text.replace(old, new), encoding="utf-8")
    found = pages.findings(tmp_path)
    assert len(found) == 1 and said in found[0]
    monkeypatch.setattr(pages, "findings", lambda root: found)
    with pytest.raises(SystemExit, match="True"):
        cli.main(["claims", "--check"])
    assert said in capsys.readouterr().out


def test_two_experiments_cannot_claim_the_same(monkeypatch):
    """The page's list is read by its sentences: a verdict of one would pass for that of the other."""
    import lcref.experiment
    inside = lcref.experiment.load

    def both(name):
        (made,) = inside(name)
        return [replace(made, claims=inside("quickstart/copy")[0].claims) if name == "quickstart/text" else made]
    monkeypatch.setattr(lcref.experiment, "load", both)
    sentence = inside("quickstart/copy")[0].claims[0].statement
    assert f"quickstart/text: another experiment claims the same sentence: {sentence}" in pages.findings(ROOT)


def test_there_must_be_pages(tmp_path):
    with pytest.raises(ValueError, match="has no README.md and no docs"):
        pages.findings(tmp_path)


SHOWN = [("context_extension/tiny", "context", (0, 2, 3, 5, 6, 8)), ("context_extension/clex", "clex", (0, 1, 2)),
         ("softplus_attention/text", "softplus", (0, 2, 8)),
         ("softplus_attention/positions", "softplus_positions", (0, 2)), ("softplus_attention/widths", "softplus_widths", (0, 2)),
         ("softplus_attention/late", "softplus_late", (0, 2)), ("softplus_attention/longer", "softplus_longer", (0, 2)),
         ("softplus_attention/wider", "softplus_wider", (0, 1, 2)), ("softplus_attention/local", "softplus_local", (0, 1, 3)),
         ("softplus_attention/planes", "softplus_planes", (0, 1, 3)),
         ("embedding_collapse/pooled", "pooled", (0, 2, 4, 1, 3)), ("state_space/digits", "digits", (0,)), ("passkey/needles", "needles", (0, 1, 2, 3, 4, 5)),
         ("state_space/parity", "parity", (0,)), ("state_space/collapse", "collapse", (0,)),
         ("state_space/recall", "recall", (0, 1)), ("state_space/passkeys", "passkeys", (0, 1, 2, 3)), ("state_space/copying", "copying", (0, 2)),
         ("order_matters/sets", "order", (0, 1, 2, 3)), ("task_hinting/sorting", "sorting", (0, 1, 2, 3)),
         ("task_hinting/crowded", "crowded", (0, 2)), ("task_hinting/pool", "pool", (0,)),
         ("task_hinting/pool_longer", "pool_longer", (0,)), ("task_hinting/increment", "increment", (0, 1, 2)),
         ("turing_machine_cot/traces", "traces", (0, 1, 2, 3, 4, 5)), ("turing_machine_cot/machines", "machines", (0, 1, 2, 3)),
         ("passkey/grid", "passkey", (0, 1, 2, 3, 4, 5)), ("passkey/eight", "eight", (0,)),
         ("position_study/study", "study", (0, 1, 2, 5, 6, 8, 10)),
         ("rasp_length/algorithms", "rasp", (0, 1, 2, 3))]              # experiment, block, figures


@pytest.mark.parametrize("name, shown, figures", SHOWN)
def test_experiments_are_shown_as_committed(name, shown, figures):
    """These tables, and every claim, with what was amended in it."""
    (experiment,) = load(name)
    path = ROOT / "results" / f"{name}.cpu.jsonl"
    lines = showing.lines_of(experiment, path)
    assert all(sum(line["run"] == run for line in lines) == 3 for run in experiment.runs["cpu"])
    digests = {run: config.digest(replace(made, seed=0)) for run, made in experiment.runs["cpu"].items()}
    assert all(line["digest"] == digests[line["run"]] for line in lines), "the declared runs are not those that were carried out"
    for number in figures:
        assert report.markdown(lines, experiment.figures[number]).split("\n\n")[0] in block(shown)
    for claim in experiment.claims:
        (row,) = [line for line in block(shown).splitlines() if f"**: {claim.statement}" in line]
        assert claim.amended in row and ("amended: " in row) == bool(claim.amended)


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


def test_tables_of_the_published_encoder_are_the_committed_results():
    lines = results.read(ROOT / "results/collapse/minilm-l6.jsonl")
    assert all(line["digest"] == config.digest_of(line["config"]) for line in lines), "the cells would be measured again"
    assert {line["seed"] for line in lines} == {0, 1, 2}
    for figure in collapse.FIGURES:
        assert (table := report.markdown(lines, figure).split("\n\n")[0]) in block("minilm"), f"paste this:\n{table}"


def test_gpu_times_are_the_committed_results():
    found = [line for line in map(json.loads, (ROOT / "results/bench/gpu.jsonl").read_text(encoding="utf-8").splitlines()) if "ms" in line]
    rows = re.findall(r"^\| T = (\d+), (\d+) wide(, window 512)?, (forward|forward and backward) \| (.*) \|$", PAGES["docs/speed.md"], re.M)
    assert rows
    for T, K, window, passes, cells in rows:
        shape = f"'T': {T}, 'K': {K}, 'window': {512 if window else None}, 'backward': {passes != 'forward'}"
        for name, cell in zip(("lcref pallas_gpu", "lcref chunked", "cudnn", "torch sdpa", "jax.nn xla"), cells.split(" | ")):
            lines = [line for line in found if line["name"] == name and shape in line["case"]]
            assert [f"{line['ms']:g} ms" for line in lines] == ([cell.strip()] if cell.strip() else [])


def test_bundles_are_the_committed_schedules():
    found = [json.loads(line) for line in (ROOT / "results/bench/tpu_schedule.jsonl").read_text(encoding="utf-8").splitlines()]
    fewest = lambda chip, who: min((line for line in found if line["case"].startswith("attention forward") and line["chip"] == chip
                                    and who(line) and line["kind"] != "masked"), key=lambda line: line["per_512x512"])
    ours, jax = (lambda line: line["name"].startswith("lcref")), (lambda line: line["name"].startswith("jax"))
    whole = fewest("v5e", lambda line: ours(line) and not line["spills"])
    v5e, v6e, jax_v6e = fewest("v5e", jax), fewest("v6e", ours), fewest("v6e", jax)
    assert (whole["tile"], whole["name"]) == ("1024x512", "lcref, strips of 256") and v5e["tile"] == "1024x1024"
    text = " ".join(PAGES["docs/speed.md"].split())
    for words in (f"issues {whole['per_512x512']:,} bundles per 512 x 512 scores and spills no register",
                  f"JAX's better kernel {v5e['per_512x512']:,} with {v5e['spills']:,} spills",
                  f"on a v6e ours issues {v6e['per_512x512']} with {v6e['spills']} spills, and JAX's {jax_v6e['per_512x512']} with {jax_v6e['spills']:,}."):
        assert words in text, words


def test_every_time_was_recorded():
    """What is followed by "ms" on the page of speed is, rounded, a time in some results line."""
    def times(value):
        return [value] if isinstance(value, int | float) else [each for part in value.values() for each in times(part)]
    lines = [json.loads(line) for path in (ROOT / "results/bench").glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
    known = [time for line in lines if "ms" in line for time in times(line["ms"])]
    shown = re.findall(r"([\d,.]+) ms\b", PAGES["docs/speed.md"])
    assert len(shown) > 60
    for text in shown:
        half = 0.5 / 10 ** len(text.partition(".")[2]) + 1e-9
        assert any(abs(time - float(text.replace(",", ""))) <= half for time in known), text


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if "```python" in text])
def test_the_python_runs(page):
    for snippet in re.findall(r"```python\n(.*?)```", PAGES[page], re.S):
        exec(compile(snippet, page, "exec"), {})


def shell_lines(page):
    """What stands in blocks without a language, without comments."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGES[page], re.S | re.M)
    lines = [re.sub(r"\s{2,}#.*| # .*", "", line).strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.split(" ")[0] in ("lcref", "make", "pip", "python")]


LINES = list(dict.fromkeys(line for page in PAGES for line in shell_lines(page)))


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith("lcref ")])
def test_other_commands_exist(line):
    command, word = line.split()[:2]
    assert command == "make" and f"\n{word}:" in (ROOT / "Makefile").read_text(), line


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Where the quickstart was run, at the size of seconds."""
    from lcref.cli import main
    out = tmp_path_factory.mktemp("pages") / "runs"
    assert main(["run", "quickstart", "--size", "smoke", "--seeds", "1", "--out", str(out)]) == 0
    return out


SMALLER = {"100000": "2000"}
BESIDE = {"run": ["--size", "smoke", "--seeds", "1"], "reproduce": ["--size", "smoke", "--seeds", "1"], "plot": ["--size", "smoke"]}


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("lcref ")])
def test_lcref_lines_run(line, runs, monkeypatch):
    """Each as it stands but for size, seeds and place; what needs published weights is only parsed."""
    words = shlex.split(line)[1:]
    if words[0] in ("extend", "collapse", "weights") and words[1:] != ["list"]:
        return cli.parse(words)
    monkeypatch.chdir(runs.parent)
    kept = [word.replace(".cpu/", ".smoke/") for i, word in enumerate(words) if not {"--size", "--seeds"} & {word, words[i - 1]}]
    kept = [SMALLER.get(word, word) if kept[i - 1] == "--stream" else word for i, word in enumerate(kept)]
    try:
        assert cli.main(kept + BESIDE.get(words[0], [])) == 0
    except SystemExit as leaving:                                                      # doctor
        assert not leaving.code


def test_every_experiment_is_listed_and_was_run():
    rows = re.findall(r"^\| ([\w/, ]+/\w+) \| [^|]+\? \|$", PAGES["docs/reproduce.md"], re.M)
    listed = [name for names in rows for name in names.split(", ")]
    assert sorted(listed) == sorted(experiments())
    assert not [name for name in listed if not (ROOT / f"results/{name}.cpu.jsonl").exists()], "the page says that all were run"


def test_every_notebook_is_on_the_page_for_teachers():
    listed = re.findall(r"\]\(\.\./notebooks/([\w.]+)\)", PAGES["docs/teach.md"])
    assert listed == [path.name for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]


@pytest.mark.parametrize("page", PAGES)
def test_the_files_are_there(page):
    folder = (ROOT / page).parent
    for path in set(re.findall(r"`((?:lcref|tests|experiments|benchmarks|results|notebooks)/[\w/.]+\.\w+)`", PAGES[page])):
        assert (ROOT / path).exists(), path
    for path, anchor in set(re.findall(r"\]\(((?!http)[\w/.]*)(#[\w-]+)?\)", PAGES[page])):
        assert (folder / path).exists(), path
        if anchor:
            text = ((folder / path) if path else ROOT / page).read_text(encoding="utf-8")
            titles = [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)]
            assert anchor[1:] in titles, f"{path}{anchor}"
