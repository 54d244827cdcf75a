"""Badges that open the notebooks in Colab, once the project lies in a public repository on GitHub.

    make colab REPOSITORY=owner/name            # python docs/colab.py owner/name, then make notebooks

Every notebook gets a badge under its title, and a first cell that installs lcref from that repository where it is not installed. Colab brings a
jax that fits its machine: lcref asks for lower bounds only, so pip leaves that one as it is, or takes a newer one where it is older than the bound.
Links to files of the project, `../docs/results.md`, lead to the repository: Colab opens a notebook without the folders around it. Run with another
address, it replaces the badges, cells and links of before. The branch is `main`.
"""
import re
import sys
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
BADGE = ("# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
         "(https://colab.research.google.com/github/{repository}/blob/main/notebooks/{name}.ipynb)\n#\n")
CELL = """\
# %% tags=["colab"]
import importlib.util

if importlib.util.find_spec("lcref") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install --quiet 'lcref[hf] @ git+https://github.com/{repository}'")

"""
LINK = "](https://github.com/{repository}/blob/main/"
TITLE = re.compile(r"^# # \d\d .*\n#\n", re.MULTILINE)
OLD = re.compile(r"^# \[!\[Open in Colab.*\n#\n" + r'|^# %% tags=\["colab"\]\n(?:(?!# %%).*\n)*', re.MULTILINE)


def opened(source: str, name: str, repository: str) -> str:
    """The percent source of a notebook, with its badge, the cell that installs, and links that lead to the repository."""
    if before := re.search(r"colab\.research\.google\.com/github/([\w-]+/[\w.-]+)/blob/", source):
        source = source.replace(LINK.format(repository=before[1]), "](../")
    source = OLD.sub("", source).replace("](../", LINK.format(repository=repository))
    title = TITLE.search(source)
    code = source.find("# %%\n")
    if title is None or code < 0:
        raise ValueError(f"{name}: no title '# # 01 ...' or no cell of code")
    return source[:title.end()] + BADGE.format(repository=repository, name=name) + source[title.end():code] + \
        CELL.format(repository=repository) + source[code:]


if __name__ == "__main__":
    if len(sys.argv) != 2 or not re.fullmatch(r"[\w-]+/[\w.-]+", sys.argv[1]):
        sys.exit("which repository on GitHub? make colab REPOSITORY=owner/name")
    for path in sorted(NOTEBOOKS.glob("*.py")):
        path.write_text(opened(path.read_text(encoding="utf-8"), path.stem, sys.argv[1]), encoding="utf-8")
        print(f"badge    {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")
