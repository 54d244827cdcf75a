"""What there is: every table of the package and every experiment, listed and shown from the tables themselves."""

import ast
import dataclasses
import difflib
import functools
import inspect
import re
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
    if plural(word) not in kinds():
        raise KeyError(config.unknown(word, kinds(), "kind"))
    return plural(word)


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
        text = textwrap.fill(", ".join(names(kind)) or "none", width - 2, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
        parts.append(f"{kind}\n{text}")
    return "\n".join(parts)


def show(kind: str, name: str, length: int | None = None, seed: int = 0, size: str = "cpu", width: int = 100) -> str:
    """What there is to say of one member of one kind ("tasks"). length and seed are of a task's problems, size of an experiment."""
    if kind == "experiments":
        return show_experiment(name, size, width)
    if kind == "tasks":
        return show_task(name, length, seed, width)
    if kind == "benchmarks":
        return benchmarks()[config.legal(name, benchmarks(), "benchmark")].read_text(encoding="utf-8")
    return show_member(kind, name, width)


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

    from lcref.ops.numbers import whole
    from lcref.tasks import TASKS, show

    whole("show", "seed", seed, least=0)
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


# --------------------------------------------------------------------------------------------- by one word, whatever it names

def show_any(word: str, length: int | None = None, seed: int = 0, size: str = "cpu", width: int = 100) -> str:
    """What a word names: a member of a table, an experiment or a folder of them, a benchmark, else a function, class or file of lcref.

    KeyError where it names nothing, or more than one thing.
    """
    if plural(word) in kinds():
        raise KeyError(f"which {word}? lcref list {plural(word)} prints them")
    found = [kind for kind in kinds() if word in names(kind)]
    if len(found) > 1:
        raise KeyError(f"{word} names several things: {', '.join(f'lcref show {singular(kind)} {word}' for kind in found)}")
    if found:
        text = show(found[0], word, length, seed, size, width)
        return text if found[0] in ("experiments", "benchmarks") else f"{text}\n\n{behind_member(found[0], word, width)}"
    if not word.startswith("lcref/") and ("/" in word or word.endswith(".py") or any(name.startswith(f"{word}/") for name in experiments())):
        return show_experiment(word, size, width)
    definitions = defined()
    name = matching(word.removesuffix(".py").removesuffix("/__init__").replace("/", "."), definitions)
    return show_definition(name, *definitions[name], width)


def singular(kind: str) -> str:
    return kind.removesuffix("s") if kind in ("experiments", "benchmarks") else table_name(kind)


def names(kind: str):
    return experiments() if kind == "experiments" else benchmarks() if kind == "benchmarks" else config.table(table_name(kind))


@functools.cache
def defined() -> dict[str, tuple[Path, ast.AST]]:
    """"lcref.ops.rope.rotate" -> (its file, its syntax tree): files, functions, classes and methods. Nothing is imported for it."""
    found = {}

    def take(name: str, path: Path, tree: ast.AST):
        found[name] = path, tree
        for node in tree.body if isinstance(tree, (ast.Module, ast.ClassDef)) else ():
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                take(f"{name}.{node.name}", path, node)

    for path in sorted(provenance.PACKAGE.rglob("*.py")):
        take(dotted(path), path, ast.parse(path.read_text(encoding="utf-8")))
    return found


def dotted(path: Path) -> str:
    """How a file of the package is imported."""
    return ".".join(path.relative_to(provenance.PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def matching(word: str, definitions: dict[str, tuple[Path, ast.AST]]) -> str:
    """The whole name of what is meant by a name or the end of one ("rope.rotate"), or by one that a package hands on ("lcref.tasks.Copy").

    Functions and classes come before files, files before methods.
    """
    if word in definitions:
        return word
    package, _, last = word.rpartition(".")
    ends = [name for name in definitions if name.endswith(f".{word}")]
    ends = ends or [name for name in definitions if name.endswith(f".{last}") and f".{package}." in f".{name}"]
    methods = [name for name in ends if isinstance(definitions[name.rpartition(".")[0]][1], ast.ClassDef)]
    files = [name for name in ends if isinstance(definitions[name][1], ast.Module)]
    chosen = [name for name in ends if name not in methods + files] or files or methods
    if len(chosen) > 1:
        more = f" and {len(chosen) - 8} more" if len(chosen) > 8 else ""
        raise KeyError(f"{word} names several things: {', '.join(f'lcref show {name}' for name in chosen[:8])}{more}")
    if not chosen:
        known = {name for kind in kinds() for name in names(kind)} | {name.rpartition(".")[2] for name in definitions} | set(definitions)
        near = [name for name in known if name.endswith(f"/{word}")] or difflib.get_close_matches(word, sorted(known), n=1)
        raise KeyError(f"nothing is called {word!r}{f' (did you mean {near[0]}?)' if near else ''}; there is: what lcref list prints, and the files, "
                       "functions and classes of lcref")
    return chosen[0]


def show_definition(name: str, path: Path, tree: ast.AST, width: int = 100) -> str:
    """Signature and docstring, the file's docstring, which has the formula, file and line, and the tests that use it."""
    if isinstance(tree, ast.Module):
        inside = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")]
        return "\n".join([name, "", ast.get_docstring(tree) or "", "", *listed("in it: ", inside, width), f"file: {shorter(path)}",
                          *tests(name, "", width)])
    shape = ", ".join(map(ast.unparse, tree.bases)) if isinstance(tree, ast.ClassDef) else ast.unparse(tree.args)
    returned = f" -> {ast.unparse(tree.returns)}" if getattr(tree, "returns", None) else ""
    module = dotted(path)
    used = name.removeprefix(f"{module}.").partition(".")[0]  # of a method, its class
    return "\n".join([*listed(f"{name}({shape}){returned}", [""], width), "", *filter(None, [ast.get_docstring(tree)]), "", said_by(path), "",
                      f"file: {shorter(path)}:{tree.lineno}", *tests(module, used, width)])


def said_by(path: Path) -> str:
    """The docstring of a file, indented under its name."""
    doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return f"{shorter(path)} says\n\n{textwrap.indent(doc, '  ')}"


def behind_member(kind: str, name: str, width: int = 100) -> str:
    """What the file with the formula of a table's member says, where its class is, its papers, and the tests."""
    table = config.TABLES[table_name(kind)]
    cls, row = type(config.table(table_name(kind))[name]()), methods().get(name, {})
    path = Path(inspect.getsourcefile(cls))
    module, _, constant = table.partition(":")
    return "\n".join([said_by(provenance.checkout() / row["file"] if row else path), "", f"class: {shorter(path)}:{inspect.getsourcelines(cls)[1]}",
                      *listed("paper: ", row.get("papers", ()), width), *tests(cls.__module__, cls.__name__, width, row.get("tests", ())),
                      *tests(module, constant, width, label=f"tested with all of {constant} in: ")])


def methods() -> dict[str, dict]:
    """Name -> file, papers and tests, as the README's table of methods has them; empty in a copy without a README."""
    root, found = provenance.checkout(), {}
    for line in (root / "README.md").read_text(encoding="utf-8").splitlines() if root and (root / "README.md").is_file() else ():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 6 and cells[3].startswith("`lcref/"):
            row = {"file": cells[3].strip("`"), "papers": re.findall(r"\((https?:[^)]+)\)", cells[2]), "tests": re.findall(r"`([^`]+)`", cells[4])}
            found |= {name: row for name in re.findall(r"`([^`]+)`", cells[1])}
    return found


def tests(module: str, name: str, width: int, known=(), label: str = "tested in: ") -> list[str]:
    """The line with the checkout's test files that import a name of a module, or use it as module.name; those known already come first."""
    found, last = list(known), module.rpartition(".")[2]
    for path, (text, imported) in imports(provenance.checkout()).items():
        whole = any(f"{package}.{one}" == module for package, one in imported)
        direct = any((package == module) if not name else one == name and f"{module}.".startswith(f"{package}.") for package, one in imported)
        if direct or whole and (not name or re.search(rf"\b{last}\.{name}\b", text)):
            found.append(shorter(path))
    return listed(label, dict.fromkeys(found), width)


@functools.cache
def imports(root: Path | None) -> dict[Path, tuple[str, list[tuple[str, str]]]]:
    """The test files of a checkout: their text, and (package, name) of all they import from one."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((root / "tests").rglob("test_*.py"))} if root else {}
    nodes = {path: [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)] for path, text in texts.items()}
    return {path: (text, [(node.module, alias.name) for node in nodes[path] for alias in node.names]) for path, text in texts.items()}


def listed(label: str, words, width: int) -> list[str]:
    """"label one, two, ..." in lines that fit; nothing for no words."""
    return [textwrap.fill(label + ", ".join(words), width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)] if words else []


def shorter(path: Path) -> str:
    """A path as a reader of the checkout knows it: from the checkout's root, where it is inside it."""
    root = provenance.checkout()
    return str(path.relative_to(root)) if root and path.is_relative_to(root) else str(path)
