"""Notebooks: the source and the file that readers open are the same cells, run to the end, and carry figures; small sizes run here."""
import json
import re
import runpy
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
def test_a_badge_opens_it_in_colab_and_its_first_code_installs(source):
    """Written twice, for two addresses: the second replaces the first, and nothing else of the notebook changes but where its links lead to."""
    before = source.read_text(encoding="utf-8")
    opened = runpy.run_path(str(FOLDER.parent / "docs/colab.py"))["opened"]
    with_badge = opened(opened(before, source.stem, "some/one"), source.stem, "owner/na.me")
    code = [cell for cell in jupytext.reads(with_badge, "py:percent").cells if cell.cell_type == "code"]
    assert "github/owner/na.me/blob/main/notebooks/" + f"{source.stem}.ipynb" in with_badge and "some/one" not in with_badge
    assert with_badge.index("# # ") < with_badge.index("Open in Colab") < with_badge.index("**Question.**")
    installs = [cell.source for cell in code if "pip" in cell.source]
    assert installs == [code[0].source] and "git+https://github.com/owner/na.me" in installs[0]
    links = re.findall(r"\]\((?!https?:)[^)]*\)", "\n".join(text for kind, text in cells(source) if kind == "markdown"))
    there = [link.replace("](../", "](https://github.com/owner/na.me/blob/main/") for link in links]
    assert links and not [link for link in links if link in with_badge] and not [link for link in there if link not in with_badge]
    back = with_badge.replace("](https://github.com/owner/na.me/blob/main/", "](../")
    kept = [line for line in back.splitlines() if line in before.splitlines()]
    assert [line for line in before.splitlines() if line.strip("# ")] == [line for line in kept if line.strip("# ")]
    exec(compile(installs[0], "first cell", "exec"), {})          # lcref is here: nothing is installed, and IPython is not asked for


def test_a_notebook_without_title_gets_no_badge():
    with pytest.raises(ValueError, match="99_none: no title"):
        runpy.run_path(str(FOLDER.parent / "docs/colab.py"))["opened"]("# %%\nx = 1\n", "99_none", "owner/name")


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
