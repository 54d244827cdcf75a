"""What there is: every table of the package and every experiment, listed and shown from the tables themselves."""

import ast
import dataclasses
import functools
import inspect
import textwrap
from pathlib import Path

from lcref import config, provenance
from lcref.experiment import experiments, load, shipped


def kinds() -> list[str]:
    """What `lcref list` takes: experiments, benchmarks, tasks, positions, ..."""
    return ["experiments", "benchmarks", *(plural(kind) for kind in config.TABLES)]


def plural(kind: str) -> str:
    return kind if kind.endswith("s") else f"{kind}s"


def kind_of(word: str) -> str:
    """"task" and "tasks" both name the kind "tasks". KeyError for anything else."""
    return config.legal(plural(word), kinds(), "kind")


def members(kind: str) -> dict[str, str]:
    """name -> one line about it."""
    if kind == "experiments":
        return {name: first_line(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))) for name, path in experiments().items()}
    if kind == "benchmarks":
        return {name: first_line(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))) for name, path in benchmarks().items()}
    return {name: describe(member) for name, member in config.table(table_name(kind)).items()}


def table_name(kind: str) -> str:
    return next(name for name in config.TABLES if plural(name) == kind)


def benchmarks() -> dict[str, Path]:
    """The benchmark scripts of the checkout by name: those files of benchmarks/ that have a main part."""
    folder = shipped("benchmarks")
    return {path.stem: path for path in sorted(folder.glob("*.py")) if "__main__" in path.read_text(encoding="utf-8")} if folder else {}


def describe(member) -> str:
    """First line of a class's docstring; a partial says what it sets as well."""
    if isinstance(member, functools.partial):
        return f"{member.func.__name__}({', '.join(f'{name}={value}' for name, value in member.keywords.items())})"
    return first_line(member.__doc__ if member.__doc__ and not member.__doc__.startswith(f"{member.__name__}(") else "")


def first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


def listing(kind: str, width: int = 100) -> str:
    """Names and one line about each, in two columns."""
    found = members(kind)
    first = max(map(len, found), default=0)
    return "\n".join(f"{name:<{first}}  {fitting(line, width - first - 2)}".rstrip() for name, line in found.items()) or f"no {kind} found"


def fitting(line: str, width: int) -> str:
    """As many whole sentences of a line as fit; a first sentence that is too long is cut."""
    while len(line) > width and ". " in line:
        line = line.rpartition(". ")[0] + "."
    return textwrap.shorten(line, max(width, 20), placeholder=" ...")


def overview(width: int = 100) -> str:
    """All kinds, with the names of each."""
    parts = []
    for kind in kinds():
        names = experiments() if kind == "experiments" else benchmarks() if kind == "benchmarks" else config.table(table_name(kind))
        text = textwrap.fill(", ".join(names) or "none", width - 2, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
        parts.append(f"{kind}\n{text}")
    return "\n".join(parts)


def show_member(kind: str, name: str, width: int = 100) -> str:
    """Docstring, fields with their defaults, and the file of a table's member."""
    tables = config.table(table_name(kind))
    member = tables[config.legal(name, tables, table_name(kind))]
    value = member()
    cls, path = type(value), Path(inspect.getsourcefile(type(value)))
    fields = [f"  {key:<20} {text}" for key, text in config.flat(value).items()] if dataclasses.is_dataclass(value) else []
    doc = inspect.cleandoc(cls.__doc__ or "").partition(">>>")[0].rstrip()  # a task's printed examples are made afresh below
    settings = ["fields (set with --set)", *fields, ""] if fields else []
    return "\n".join([f"{name}: {cls.__name__}", "", doc, "", *settings, f"file: {shorter(path)}"])


def show_task(name: str, length: int | None, seed: int = 0, width: int = 100) -> str:
    """Three problems of a task, with what is scored."""
    import numpy as np

    from lcref.tasks import TASKS, show

    task = TASKS[config.legal(name, TASKS, "task")]()
    length = length if length is not None else max(task.shortest, min(8, task.longest or 8))
    problems = show(task, np.random.default_rng(seed), length, columns=width)
    return f"{show_member('tasks', name, width)}\n\nthree problems of length {length}\n\n{problems}"


def show_experiment(name: str, size: str, width: int = 100) -> str:
    """Question, runs, and every key that --set takes with its value in the first run."""
    parts = []
    for experiment in load(name):
        sizes = ", ".join(f"{size} ({len(runs)} runs)" for size, runs in experiment.runs.items())
        runs = experiment.runs[config.legal(size, experiment.runs, f"size of {experiment.name}")]
        first, run = next(iter(runs.items()))
        keys = [f"  {key:<32} {text}" for key, text in config.flat(run).items()]
        parts.append("\n".join([f"{experiment.name}  ({shorter(experiment.path)})", "", experiment.doc, "", f"sizes: {sizes}",
                                f"runs at size {size}: {', '.join(runs)}", f"seeds: {experiment.seeds}", "",
                                f"settings of {first} (change one with --set KEY=VALUE)", *keys]))
    return ("\n\n" + "-" * min(width, 100) + "\n\n").join(parts)


def shorter(path: Path) -> str:
    """A path as a reader of the checkout knows it: from the checkout's root, where it is inside it."""
    root = provenance.checkout()
    return str(path.relative_to(root)) if root and path.is_relative_to(root) else str(path)
