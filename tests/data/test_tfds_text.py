"""The TFDS adapter for real: written and read back as array_record in a Python from which TensorFlow cannot be imported."""

import ast
import json
import os
import pathlib
import subprocess
import sys

import pytest

import lcref
from lcref.data import corpora

pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")

SCRIPT = r'''
import json, sys
class NoTensorFlow:
    """A finder of modules that does not find TensorFlow, installed or not; etils asks for its spec, so raising will not do."""
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == "tensorflow" else self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = map(NoTensorFlow, sys.meta_path)

from lcref.data import corpora
from lcref.data.text import Text
import numpy as np

out = {}
ours = corpora.load("tfds:lcref_stdlib_text")
out["same"] = ours == corpora.load("stdlib") and list(ours["train"]) == list(corpora.load("stdlib")["train"])
out["fingerprints"] = [corpora.fingerprint("tfds:lcref_stdlib_text"), corpora.fingerprint("stdlib")]
out["batches"] = [Text(corpus=corpus).batch(np.random.default_rng(0), 4)["inputs"].tolist()
                  for corpus in ("tfds:lcref_stdlib_text", "stdlib")]

import tensorflow_datasets as tfds
class Letters(tfds.core.GeneratorBasedBuilder):
    """Another text set: two features with text, no split for validation, bytes that are not UTF-8."""
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        features = {"title": tfds.features.Text(), "body": tfds.features.Text(), "n": np.int32}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))
    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(100), "test": self._generate_examples(7)}
    def _generate_examples(self, count):
        for n in range(count):
            yield n, {"title": f"letter {n}", "body": b"dear \xff %d" % n if n else b"", "n": n}

def error(name):
    try:
        return corpora.load(name) and None
    except (KeyError, ValueError) as error:
        return f"{type(error).__name__}: {error}"

letters = corpora.load("tfds:letters#body")
out["sizes"] = {split: len(group) for split, group in letters.items()}
out["texts"] = sorted(text.decode("latin-1") for split in ("train", "validation") for text in letters[split].values())
out["errors"] = [error(n) for n in ("tfds:letters", "tfds:letters#n", "tfds:lcref_no_such_set")]
from lcref.data import tfds_text
tfds_text.LIMIT = 300
out["limited"] = sum(len(text) for group in tfds_text.splits("letters#title").values() for text in group.values())
out["tensorflow"] = [name for name in sys.modules if name.partition(".")[0] == "tensorflow"]
print(json.dumps(out))
'''


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("tfds")
    root = str(pathlib.Path(lcref.__file__).parents[1])
    environment = os.environ | {"TFDS_DATA_DIR": str(data_dir), "HOME": str(data_dir), "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)  # which also shows that TFDS printed nothing of its own there
    return found | {"files": [path.name for path in data_dir.rglob("*") if path.is_file()]}


def test_tensorflow_is_never_imported(result):
    assert result["tensorflow"] == []


def test_the_stored_set_is_the_corpus_itself(result):
    assert result["same"]
    assert result["fingerprints"] == [corpora.fingerprint("stdlib")] * 2
    assert result["batches"][0] == result["batches"][1]


def test_records_are_stored_as_array_record(result):
    assert any(name.startswith("lcref_stdlib_text-train.array_record") for name in result["files"])
    assert not any("tfrecord" in name or "incomplete" in name for name in result["files"])


def test_another_set_by_name(result):
    """A validation split is cut out of train, none of it is lost, and empty documents are passed over."""
    assert result["sizes"]["test"] == 6 and result["sizes"]["validation"] > 0
    assert result["texts"] == sorted(f"dear \xff {n}" for n in range(1, 100))


def test_no_more_than_the_limit_is_read(result):
    titles = sum(len(f"letter {n}") for n in range(7))
    assert 300 + titles - 10 < result["limited"] <= 300 + titles  # the test split is shorter than the limit


def test_wrong_names_are_explained(result):
    ambiguous, not_text, unknown = result["errors"]
    assert ambiguous.startswith("ValueError") and "letters#FEATURE" in ambiguous and "title, body" in ambiguous
    assert not_text.startswith("ValueError") and "title, body" in not_text
    assert unknown.startswith("KeyError") and "TFDS knows no set 'lcref_no_such_set'" in unknown


def test_nothing_else_imports_tfds():
    for path in pathlib.Path(lcref.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
            assert path.name == "tfds_text.py" or not any(name.startswith("tensorflow_datasets") for name in names), path


def test_a_machine_without_tfds_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, "lcref.data.tfds_text", raising=False)
    monkeypatch.delattr("lcref.data.tfds_text", raising=False)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[real\]'"):
        corpora.load("tfds:lcref_stdlib_text")
