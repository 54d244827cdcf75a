"""Results are files: one JSON line per run and seed, in OUT/<experiment>.<size>.jsonl. Tables and figures read nothing else.

    {"experiment": "quickstart/copy", "run": "rope", "size": "cpu", "seed": 0, "metrics": {"exact_match": {"10": 1.0, ...}}, ...}

A file is only ever replaced as a whole: a new copy is written beside it and renamed over it, under a lock, so that a kill leaves
either the old file or the new one, and two programs writing to one file lose no line. Nothing here imports jax.
"""

import contextlib
import json
import math
import os
import threading
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no fcntl: there, two programs must not write to one results file at a time
    fcntl = None

RESULTS = {
    "experiment": "name of the experiment file, e.g. quickstart/copy",
    "run": "name of the run in the file's RUNS, with the changes of --set in brackets",
    "size": "smoke, cpu, gpu or paper",
    "seed": "what initialisation and training data were drawn from",
    "config": "the whole Run: model, data, train, evals",
    "digest": "12 hex digits that name the config; runs that differ in the seed alone share it",
    "metrics": "metric -> slice (a length, a depth) -> value",
    "seconds": "wall time of the training calls, compilation included, waiting for data and checkpoints not",
    "steps_per_second": "of these calls without the first, which compiles; of all where there is no other, or where training was done before",
    "parameters": "trained numbers in the model",
    "device": "what it was trained and measured on; several where these, or parts of the training, were done on different ones",
    "versions": "of python, jax, jaxlib, flax, numpy; several likewise",
    "commit": "of this repository, with -dirty when code differed from it, and several likewise; empty outside a checkout",
    "data": "sha256 of the training data's bytes or definition",
    "date": "when the run ended, UTC",
}


KINDS = {"experiment": str, "run": str, "size": str, "seed": int, "config": dict, "digest": str, "metrics": dict, "device": str, "versions": dict}


def foreign(line: dict) -> str:
    """The first part of a line that is of another kind than a line's; "" where all are as they must be."""
    odd = [key for key, kind in KINDS.items() if not isinstance(line[key], kind)]
    number = lambda value: isinstance(value, int | float | None)
    return next(iter(odd), "") or next((f"metric {name}" for name, slices in line["metrics"].items()
                                        if not isinstance(slices, dict) or not all(map(number, slices.values()))), "")


def read(path: Path) -> list[dict]:
    """The lines of a results file. FileNotFoundError; ValueError naming file and line for one that is cut off, incomplete or of another kind."""
    lines = []
    try:
        rows = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text: {error}") from None
    for number, text in enumerate(rows, 1):
        try:
            line = json.loads(text)
            absent = [key for key in RESULTS if key not in line] if isinstance(line, dict) else list(RESULTS)
        except json.JSONDecodeError:
            raise ValueError(f"{path}: line {number} is not JSON (cut off?): {text[:40]!r}; repair or remove that line") from None
        if absent:
            raise ValueError(f"{path}: line {number} is not a results line, it lacks {', '.join(absent[:4])}; repair or remove it")
        if odd := foreign(line):
            raise ValueError(f"{path}: line {number} is not a results line, its {odd} is of another kind; repair or remove it")
        lines.append(line)
    return lines


def append(path: Path, line: dict) -> dict:
    """Add one line; one with the same run, seed and digest gives way to it. Returns the line as a reader will see it."""
    if missing := [key for key in RESULTS if key not in line]:
        raise ValueError(f"a results line needs {', '.join(missing)}")
    line = json.loads(json.dumps(plain(line), allow_nan=False))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        lines = [old for old in (read(path) if path.exists() else []) if identity(old) != identity(line)]
        write(path, "".join(json.dumps(entry) + "\n" for entry in [*lines, line]))
    return line


def identity(line: dict) -> tuple:
    return line["run"], line["seed"], line["digest"]


def current(lines: list[dict]) -> list[dict]:
    """For each run name only the lines of its newest config: those of an edited experiment do not mix with what it was before."""
    newest = {line["run"]: line["digest"] for line in lines}
    return [line for line in lines if newest[line["run"]] == line["digest"]]


def write(path: Path, text: str) -> None:
    """Replace a file by `text`, all or nothing."""
    fresh = path.with_name(f".{path.name}.tmp")
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def plain(value):
    """Values as JSON has them: NumPy numbers become Python's; NaN and infinities, which JSON lacks, become null."""
    if isinstance(value, dict):
        return {str(name): plain(inside) for name, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inside) for inside in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


_threads = threading.Lock()


@contextlib.contextmanager
def _locked(folder: Path):
    """One writer at a time, over threads and over programs. The folder itself is what is locked: nothing is left behind."""
    with _threads:
        handle = os.open(folder, os.O_RDONLY) if fcntl else None
        try:
            if fcntl:
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            if fcntl:
                os.close(handle)
