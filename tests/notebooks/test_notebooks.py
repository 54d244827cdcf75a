"""Notebooks: the source and the file that readers open are the same cells, run to the end, and carry figures; small sizes run here."""
import json
import re
from pathlib import Path

import jupytext
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
SOURCES = sorted(FOLDER.glob("*.py"))
names = pytest.mark.parametrize("source", SOURCES, ids=[path.stem for path in SOURCES])


def cells(path):
    return [(cell.cell_type, cell.source.strip()) for cell in jupytext.read(path).cells]


def smaller(code: str) -> str:
    """`steps = 400   # smoke: 2` -> `steps = 2`: the sizes that a notebook names for a run in seconds."""
    return re.sub(r"^(\s*[\w, ]+ = ).*# smoke: (.*)$", r"\1\2", code, flags=re.MULTILINE)


def test_smaller():
    assert smaller("a, b = 400, 3   # smoke: 2, 1\nc = 3  # plain") == "a, b = 2, 1\nc = 3  # plain"


def test_there_are_notebooks():
    assert [path.stem for path in SOURCES] == [path.stem for path in sorted(FOLDER.glob("*.ipynb"))] and SOURCES


@names
def test_source_and_notebook_do_not_drift_apart(source):
    assert cells(source) == cells(source.with_suffix(".ipynb")), "make notebooks writes the .ipynb anew"


@names
def test_a_notebook_was_run_to_its_end_and_shows_figures(source):
    code = [cell for cell in json.loads(source.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not re.search(r"/(home|root|tmp|Users|work)/", "".join("".join(output.get("text", "")) for output in outputs)), "a path of one machine"


@names
def test_a_notebook_teaches_one_thing(source):
    """Named, asks a question, ends in exercises with judges, and no file that it points to is missing."""
    found = cells(source)
    prose = "\n".join(text for kind, text in found if kind == "markdown")
    number = source.stem.split("_")[0]
    assert found[0][1].startswith(f"# {number} ") and "**Question.**" in found[0][1]
    assert len(found) <= 30, "is this still one idea?"
    assert "## Exercises" in prose and sum(text.count("judge.") for kind, text in found if kind == "code") >= 2
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", prose):
        assert (FOLDER / target).exists(), f"{source.name} points to {target}"


@names
def test_a_small_version_runs(source, monkeypatch, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    code = "\n\n".join(text for kind, text in cells(source) if kind == "code")
    assert not re.search(r"^\s*[%!]", code, flags=re.MULTILINE), "no magics: the source is plain Python"
    try:
        exec(compile(smaller(code), str(source), "exec"), {"__name__": "__main__"})
    finally:
        plt.close("all")
