"""`make notebooks` runs them and `make lab` opens them; the environment of `make test-tpu-aot`."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="there is no make here")


@pytest.fixture
def checkout(tmp_path):
    """A folder with the Makefile and an environment whose jupyter only says how it was called; nothing is installed."""
    shutil.copy(Path(__file__).parents[1] / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in ("python", "jupyter"):
        (tmp_path / ".venv/bin" / name).write_text(f'#!/bin/sh\necho "{name} $@"\n')
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    stamp = tmp_path / ".venv/installed-notebooks"
    stamp.touch()
    later = (tmp_path / "pyproject.toml").stat().st_mtime + 10
    os.utime(stamp, (later, later))
    return tmp_path


def make(folder, *words):
    return subprocess.run(["make", "--no-print-directory", *words], cwd=folder, capture_output=True, text=True)


def test_notebooks_are_written_from_their_sources_and_run(checkout):
    done = make(checkout, "notebooks", "NAME=08")
    sync, run = done.stdout.splitlines()
    assert done.returncode == 0 and sync.startswith("python -m jupytext ") and sync.endswith(" notebooks/08*.py"), done
    assert run.startswith("python -m pytest ") and "--nbmake-timeout=180 --overwrite" in run and run.endswith(" notebooks/08*.ipynb")


def test_badges_are_written_and_then_the_notebooks(checkout):
    done = make(checkout, "colab", "REPOSITORY=owner/name")
    badges, sync, run = done.stdout.splitlines()
    assert done.returncode == 0 and badges == "python docs/colab.py owner/name", done
    assert sync.endswith(" notebooks/*.py") and run.endswith(" notebooks/*.ipynb")


def test_notebooks_are_opened_where_they_are(checkout):
    done = make(checkout, "lab")
    assert (done.returncode, done.stdout) == (0, "jupyter lab notebooks\n"), done.stderr


def test_the_tpu_compiler_has_an_environment_of_its_own(checkout):
    (checkout / ".venv/bin/python").unlink()
    shutil.copytree(checkout / ".venv", checkout / ".venv-tpu")
    (checkout / ".venv-tpu/bin/python").write_text('#!/bin/sh\necho "apart $@"\n')
    (checkout / ".venv-tpu/bin/python").chmod(0o755)
    shutil.copy2(checkout / ".venv/installed-notebooks", checkout / ".venv-tpu/installed")
    done = make(checkout, "test-tpu-aot")
    assert done.returncode == 0 and done.stdout.startswith("apart -m pytest ") and "tests/kernels/test_tpu_aot.py" in done.stdout, done


def test_the_help_names_the_targets(checkout):
    assert [line.split()[1] for line in make(checkout, "help").stdout.splitlines() if line.startswith("make ")] == [
        "demo", "test", "test-tpu-aot", "install", "bench", "notebooks", "lab", "colab", "reference", "doctor", "clean"]
