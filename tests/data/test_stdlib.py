"""The embedded corpora: present, long enough, split by name alone; and a clear word where Python has no sources."""

import importlib.util
import sys
import types

import numpy as np
import pytest

from lcref.data import corpora, stdlib, topics
from lcref.data.splits import SPLITS, by_name, split_of


def test_the_documents_are_the_sources_python_itself_would_load():
    documents = stdlib.documents()
    assert tuple(documents) == stdlib.MODULES == tuple(sorted(set(stdlib.MODULES)))
    for name in ("typing", "json", "xml.dom.minidom", "concurrent.futures.process"):
        with open(importlib.util.find_spec(name).origin, "rb") as file:
            assert documents[name] == file.read()


def test_there_is_enough_to_train_on_and_to_extrapolate_to():
    sizes = {split: np.array([len(text) for text in group.values()]) for split, group in corpora.load("stdlib").items()}
    assert sum(map(np.sum, sizes.values())) > 6_000_000
    shares = {split: len(size) / len(stdlib.MODULES) for split, size in sizes.items()}
    assert shares == pytest.approx({"train": 0.8, "validation": 0.1, "test": 0.1}, abs=0.03)
    for split in SPLITS:
        assert (sizes[split] > 8192).sum() >= 15 and (sizes[split] > 32768).sum() >= 5


def test_splits_are_fixed_by_name():
    """Written down once: a change here would mix what was held out with what was trained on."""
    expected = {"train": ["argparse", "turtle"], "validation": ["urllib.request", "ssl"], "test": ["typing", "enum"]}
    assert {split: [name for name in sum(expected.values(), []) if split_of(name) == split] for split in SPLITS} == expected


def test_splits_share_nothing_and_lose_nothing():
    names = [f"document {i}" for i in range(2000)]
    groups = by_name({name: b"x" for name in names})
    assert sorted(name for group in groups.values() for name in group) == sorted(names)
    assert [len(groups[split]) / 2000 for split in SPLITS] == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_held_out_modules_are_not_copies_of_training_modules():
    """At most 2 per cent of the held-out bytes lie in a run of 64 that also occurs in the training text (licence notices do)."""
    splits = corpora.load("stdlib")
    known = {text[i:i + 64] for text in splits["train"].values() for i in range(len(text) - 63) if text[i:i + 1] == b"\n"}
    asked = [text[i:i + 64] for text in splits["validation"].values() for i in range(len(text) - 63) if text[i:i + 1] == b"\n"]
    assert np.mean([run in known for run in asked]) < 0.02


def test_a_python_without_sources_is_named(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path} has no source for {len(stdlib.MODULES)} of {len(stdlib.MODULES)} modules"):
        stdlib.documents(str(tmp_path))
    for name, text in stdlib.documents().items():
        place = tmp_path.joinpath(*name.split("."))
        place.mkdir(parents=True, exist_ok=True)
        (place / "__init__.py").write_bytes(text)
    assert stdlib.documents(str(tmp_path)) == stdlib.documents()  # a module may be a package in another version of Python
    (tmp_path / "typing" / "__init__.py").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no source for 1 of .* modules \(typing"):
        stdlib.documents(str(tmp_path))


def test_topics_are_prose():
    documents = topics.documents()
    assert len(documents) > 70 and sum(map(len, documents.values())) > 400_000
    assert b'The "if" statement' in documents["if"]
    assert all(corpora.load("topics").values())


@pytest.mark.parametrize("broken, message", [(None, "no module pydoc_data.topics"), ({}, "topics is empty")])
def test_a_python_without_topics_is_named(monkeypatch, broken, message):
    module = types.ModuleType("pydoc_data.topics")
    module.topics = broken
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None if broken is None else module)
    with pytest.raises(ValueError, match=message):
        topics.documents()
