"""Corpora by name and by path, their fingerprints, and what is said when there is no text."""

import subprocess
import sys

import numpy as np
import pytest

from lcref.data import corpora
from lcref.data.splits import SPLITS
from lcref.data.tokens import BOS, VOCAB, decode, encode


@pytest.fixture(autouse=True)
def nothing_cached():
    corpora.load.cache_clear()
    corpora.fingerprint.cache_clear()


def folder(path, files):
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(text)
    return str(path)


@pytest.mark.parametrize("name", corpora.CORPORA)
def test_every_corpus_has_the_common_form(name):
    splits = corpora.load(name)
    assert tuple(splits) == SPLITS
    texts = [text for group in splits.values() for text in group.values()]
    assert texts and all(isinstance(text, bytes) and text for text in texts)
    assert len(corpora.fingerprint(name)) == 64


def test_a_file_is_cut_in_three_stretches(tmp_path):
    text = bytes(range(256)) * 4  # not UTF-8, and none the worse for it
    splits = corpora.load(folder(tmp_path, {"book": text}) + "/book")
    assert b"".join(splits[split]["book"] for split in SPLITS) == text
    assert [len(splits[split]["book"]) for split in SPLITS] == [819, 102, 103]


def test_a_folder_gives_one_document_per_file(tmp_path):
    files = {f"part{i % 3}/page{i}.txt": b"page %d" % i for i in range(60)}
    path = folder(tmp_path, files | {".hidden": b"no", ".git/config": b"no", "empty.txt": b""})
    splits = corpora.load(path)
    assert {name: text for group in splits.values() for name, text in group.items()} == files
    assert all(splits[split] for split in SPLITS)


@pytest.mark.parametrize("files, name, message", [
    ({"a.txt": b""}, "a.txt", "is empty"),
    ({"a.txt": b"tiny"}, "a.txt", "has only 4 bytes"),
    ({"a.txt": b""}, "", "a folder without any text"),
    ({}, "missing.txt", "No such file"),
])
def test_a_path_without_text_is_named(tmp_path, files, name, message):
    path = str(tmp_path / name)
    folder(tmp_path, files)
    with pytest.raises(ValueError, match=f"{path}.*{message}"):
        corpora.load(path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(KeyError, match="unknown corpus 'stdlibs'; there is: stdlib, topics, tfds:NAME, or the path"):
        corpora.load("stdlibs")
    with pytest.raises(ValueError, match="unknown split 'valid'; there is: train, validation, test"):
        corpora.documents("stdlib", "valid")


def test_a_split_without_documents_is_named(tmp_path):
    path = folder(tmp_path, {"only.txt": b"one document"})
    empty = [split for split, group in corpora.load(path).items() if not group]
    assert len(empty) == 2
    with pytest.raises(ValueError, match=f"the {empty[0]} split of corpus .* is empty"):
        corpora.documents(path, empty[0])


def test_the_fingerprint_changes_with_every_byte_name_and_border(tmp_path):
    variants = [{"a": b"one", "b": b"two"}, {"a": b"one", "b": b"twO"}, {"a": b"one", "c": b"two"}, {"a": b"onet", "b": b"wo"},
                {"a": b"onebtwo"}]
    prints = [corpora.fingerprint(folder(tmp_path / str(i), files)) for i, files in enumerate(variants)]
    assert len(set(prints)) == len(variants)
    assert corpora.fingerprint(folder(tmp_path / "again", variants[0])) == prints[0]


def test_bytes_are_tokens():
    tokens = encode("né\n")
    assert tokens.tolist() == [BOS, ord("n"), 0xC3, 0xA9, ord("\n")] and tokens.max() < VOCAB
    assert decode(tokens) == "né\n"
    assert decode(np.array([BOS, 0xC3])) == "\N{REPLACEMENT CHARACTER}"
    assert encode(bytes(range(256)))[1:].tolist() == list(range(256))


def test_text_needs_numpy_only():
    code = """import sys
from lcref.data.text import Text
print(Text().fingerprint())
assert not {"jax", "flax", "tensorflow", "tensorflow_datasets"} & set(sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == corpora.fingerprint("stdlib")  # the same in another process, with another hash salt
