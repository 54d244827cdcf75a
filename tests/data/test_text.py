"""Text as a source: batches that are pieces of the right split, a function of the generator alone, and quick."""

import dataclasses
import time

import numpy as np
import pytest

from lcref.data import corpora
from lcref.data.text import Text
from lcref.data.tokens import BOS


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("corpus", corpora.CORPORA)
@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_a_batch_holds_pieces_of_training_documents(corpus, packing):
    text = Text(corpus=corpus, length=128, packing=packing)
    batch = text.batch(np.random.default_rng(0), 16)
    assert {key: array.dtype.name for key, array in batch.items()} == {
        "inputs": "int32", "targets": "int32", "weights": "float32", "segments": "int32", "positions": "int32"}
    assert all(array.shape == (16, 128) for array in batch.values())
    assert batch["inputs"].max() < text.vocab and batch["weights"].mean() > 0.8
    train = list(corpora.documents(corpus, "train").values())
    for r in range(16):
        for segment in range(1, batch["segments"][r].max() + 1):
            here = batch["segments"][r] == segment
            tokens = [*batch["inputs"][r, here], batch["targets"][r, here][-1]][:here.sum() + int(batch["weights"][r, here][-1])]
            assert BOS not in tokens[1:]
            piece = bytes(int(token) for token in tokens if token != BOS)
            assert any(piece == document[:len(piece)] if tokens[0] == BOS else piece in document for document in train)


def test_batches_depend_on_the_generator_alone():
    text = Text()
    first = text.batch(np.random.default_rng(3), 8)
    assert same(first, Text().batch(np.random.default_rng(3), 8))
    assert not same(first, text.batch(np.random.default_rng(4), 8))


@pytest.mark.parametrize("change", [dict(corpus="topics"), dict(length=255), dict(split="validation"), dict(packing="best_fit")])
def test_every_field_changes_the_batch(change):
    a, b = Text(), dataclasses.replace(Text(), **change)
    assert not same(a.batch(np.random.default_rng(0), 8), b.batch(np.random.default_rng(0), 8))


def test_a_file_of_your_own_works(tmp_path):
    (tmp_path / "book.txt").write_text("a rose is " * 1000)
    text = Text(corpus=str(tmp_path / "book.txt"), length=20)
    assert set(np.unique(text.batch(np.random.default_rng(0), 64)["targets"])) <= set(b"a rose is \0")
    assert text.windows(0, 5, 100).shape == (5, 101)
    assert text.fingerprint() != Text().fingerprint()


def test_a_batch_takes_well_under_two_milliseconds():
    text, rng = Text(length=256), np.random.default_rng(0)
    text.batch(rng, 32)

    def once():
        begin = time.perf_counter()
        text.batch(rng, 32)
        return time.perf_counter() - begin

    assert min(once() for _ in range(50)) < 0.002  # about 0.15 ms; the quickest of many, as other processes may be running


@pytest.mark.parametrize("wrong, error, message", [
    (dict(length=0), ValueError, "length 0"),
    (dict(split="dev"), ValueError, "unknown split 'dev'; there is: train, validation, test"),
    (dict(packing="dense"), KeyError, "unknown packing 'dense'; there is: concat, best_fit, pad"),
])
def test_wrong_fields_are_named(wrong, error, message):
    with pytest.raises(error, match=message):
        Text(**wrong)
