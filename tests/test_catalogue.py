"""`lcref show WORD`: whatever the word names, what it says of itself, the formula, the file, the papers and the tests."""
import re
from pathlib import Path

import pytest

from lcref import catalogue, config, provenance

ROOT = Path(__file__).parent.parent
MEMBERS = [(kind, name) for kind in config.TABLES for name in config.table(kind)]


def named(text, label):
    """What stands behind a label, up to the next one."""
    found = re.search(rf"^{label}(.*(?:\n  .*)*)", text, re.M)
    return re.split(r",?\s+", found[1].strip()) if found else []


@pytest.mark.parametrize("kind, name", MEMBERS)
def test_every_member_is_found_by_its_name_alone(kind, name):
    kinds = [each for each in catalogue.kinds() if name in catalogue.names(each)]
    if len(kinds) > 1:
        with pytest.raises(KeyError, match=f"lcref show {kind} {name}"):
            catalogue.show_any(name)
        return
    text = catalogue.show_any(name)
    assert text.startswith(catalogue.show(catalogue.plural(kind), name)), "all that `lcref show KIND NAME` says, and more"
    (place,) = named(text, "class: ")
    path, line = place.split(":")
    assert (ROOT / path).read_text().splitlines()[int(line) - 1].startswith(("class ", "@"))
    tested = named(text, "tested in: ") + named(text, f"tested with all of {config.TABLES[kind].partition(':')[2]} in: ")
    assert tested and all((ROOT / test).is_file() for test in tested)


@pytest.mark.parametrize("name", [name for name in catalogue.methods() if [table for table in config.TABLES if name in config.table(table)]])
def test_a_member_has_what_the_table_of_methods_says(name):
    kind, = (kind for kind in config.TABLES if name in config.table(kind))
    row, text = catalogue.methods()[name], catalogue.behind_member(catalogue.plural(kind), name)
    assert text.startswith(f"{row['file']} says\n") and named(text, "paper: ") == row["papers"]
    assert named(text, "tested in: ")[:len(row["tests"])] == row["tests"]


def test_the_formula_is_shown():
    assert "score(i, j) += -m_h |i - j|" in catalogue.show_any("alibi"), "of the file in ops, where the class is in nn"
    assert "theta' = (1 - gamma) theta / s + gamma theta" in catalogue.show_any("yarn")
    assert "s = scale * q k^T" in catalogue.show_any("attend")


@pytest.mark.parametrize("word, whole, head", [
    ("attend", "lcref.ops.attention.attend", "lcref.ops.attention.attend(q, k, v, *, mask=None"),
    ("rotate", "lcref.ops.rope.rotate", "lcref.ops.rope.rotate(x, pos, inv_freq"),
    ("rope.rotate", "lcref.ops.rope.rotate", "lcref.ops.rope.rotate(x, pos, inv_freq"),
    ("lcref.ops.rope.rotate", "lcref.ops.rope.rotate", "lcref.ops.rope.rotate(x, pos, inv_freq"),
    ("Decoder.extend", "lcref.nn.decoder.Decoder.extend", "lcref.nn.decoder.Decoder.extend(self, tokens, state)"),
    ("TuringTrace", "lcref.tasks.turing.TuringTrace", "lcref.tasks.turing.TuringTrace(Task)"),
    ("lcref.tasks.Copy", "lcref.tasks.copy.Copy", "lcref.tasks.copy.Copy(Task)"),
    ("override", "lcref.config.override", "lcref.config.override(cfg, key: str, text: str)"),
])
def test_functions_classes_and_methods(word, whole, head):
    definitions = catalogue.defined()
    assert catalogue.matching(word, definitions) == whole
    text = catalogue.show_any(word)
    assert text.startswith(head)
    (place,) = named(text, "file: ")
    path, line = place.split(":")
    assert re.search(rf"(def|class) {whole.rpartition('.')[2]}\b", (ROOT / path).read_text().splitlines()[int(line) - 1])
    assert f"{path} says" in text


@pytest.mark.parametrize("word", ["lcref.ops.masks", "ops.masks", "masks", "lcref/ops/masks.py"])
def test_files(word):
    text = catalogue.show_any(word)
    assert text.startswith("lcref.ops.masks\n\nMask algebra") and named(text, "file: ") == ["lcref/ops/masks.py"]
    assert "window" in named(text, "in it: ") and "tests/ops/test_masks.py" in named(text, "tested in: ")
    assert catalogue.show_any("lcref/tasks/__init__.py").startswith("lcref.tasks\n\nSynthetic problems")


def test_tests_are_those_that_use_it():
    found = named(catalogue.show_any("attend_chunked"), "tested in: ")
    assert "tests/ops/test_attention_tiles.py" in found
    assert all("attend_chunked" in (ROOT / path).read_text() for path in found)
    assert named(catalogue.show_any("catalogue.matching"), "tested in: ") == ["tests/test_catalogue.py"], "by catalogue.matching above"


def test_experiments_and_benchmarks():
    assert catalogue.show_any("quickstart/copy") == catalogue.show("experiments", "quickstart/copy")
    assert catalogue.show_any("quickstart").count("seeds: ") == 2, "a folder"
    assert "Does a model of one layer copy" in catalogue.show_any(str(ROOT / "tests/tiny_experiment.py"), size="smoke")
    assert catalogue.show_any("tpu_schedule") == (ROOT / "benchmarks/tpu_schedule.py").read_text()


def test_a_task_has_its_problems():
    assert catalogue.show_any("copy", length=5, seed=3).startswith(catalogue.show_task("copy", 5, seed=3))


def test_an_installed_copy_has_no_tests_and_no_table_of_methods(monkeypatch):
    monkeypatch.setattr(provenance, "checkout", lambda: None)
    text = catalogue.show_any("yarn")
    assert "theta' = (1 - gamma)" in text and "class: " in text and "tested" not in text and "paper: " not in text
    assert "tested" not in catalogue.show_any("attend")
