"""The wheel, installed elsewhere: it lists its experiments, carries the committed results, and trains the smoke size of one.

The new environment has no packages of its own. It borrows the dependencies of the one that runs the tests through a .pth file, so that
nothing is downloaded; lcref itself can come from the wheel alone.
"""
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from lcref import results

pytest.importorskip("build", reason="builds a wheel: pip install -e .[dev]")
pytest.importorskip("hatchling", reason="builds a wheel: pip install -e .[dev]")


@pytest.fixture(scope="module")
def wheel(request, tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(request.config.rootpath)],
                   check=True, capture_output=True, text=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def lcref(wheel, tmp_path_factory):
    """A function that calls the installed `lcref` from a folder that is no checkout: lcref("list") -> what it prints."""
    home = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
    python = home / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
                   check=True, capture_output=True, text=True)
    (packages,) = (home / "venv").glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # a path in a .pth brings no .pth files of its own
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"XDG_CACHE_HOME": str(home / "cache")}

    def call(*words, program=(python.with_name("lcref"),)):
        done = subprocess.run([*map(str, program), *map(str, words)], cwd=home, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = call("-c", "import lcref; print(lcref.__file__)", program=(python,))
    assert Path(where.strip()).is_relative_to(home / "venv"), f"this would test {where}"
    call.home = home
    return call


def test_the_wheel_holds_the_package_the_experiments_and_the_results(request, wheel):
    names = zipfile.ZipFile(wheel).namelist()
    root = request.config.rootpath
    beside = {"lcref": "lcref/", "experiments": "lcref/_experiments/", "results": "lcref/_results/"}
    for folder, inside in beside.items():
        for path in (root / folder).rglob("*.jsonl" if folder == "results" else "*.py"):
            assert inside + path.relative_to(root / folder).as_posix() in names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"lcref"}
    assert not [name for name in names if "/tests/" in name or name.endswith((".png", ".pyc"))]


def test_experiments_are_listed_by_name(request, lcref):
    listed = {row.split()[0] for row in lcref("list", "experiments").splitlines()}
    root = request.config.rootpath / "experiments"
    assert listed == {path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.py") if not path.name.startswith("_")}


def test_the_smoke_size_runs(lcref):
    said = lcref("run", "quickstart/copy", "--size", "smoke", "--seeds", "1", "--only", "rope")
    (line,) = results.read(lcref.home / "runs/quickstart/copy.smoke.jsonl")
    assert (line["experiment"], line["run"], line["commit"]) == ("quickstart/copy", "rope", "")
    assert (lcref.home / "runs/quickstart/copy.smoke.png").exists() and "figure   runs/quickstart/copy.smoke.png" in said
