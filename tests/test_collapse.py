"""Vectors of a published encoder by length and temperature: what is cut, what is measured, and that finished cells are not measured again."""
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from lcref import collapse, results
from lcref.nn.encoder import EncoderConfig, vectors
from lcref.ops.weights import TempScale
from lcref.pretrained.models import PretrainedEncoder
from lcref.train import read_as

FIRST, LAST, WINDOW = 256, 257, 34


class Bytes:
    def encode(self, text):
        return np.array([FIRST, *text.encode(), LAST], np.int32)


CFG = EncoderConfig(vocab=258, d_model=16, layers=2, heads=2, width=24, length=WINDOW)


@pytest.fixture(scope="module")
def model():
    encoder = CFG.build(rngs=nnx.Rngs(0))
    nnx.update(encoder, jax.tree.map(lambda leaf: 5 * leaf if leaf.ndim == 2 else leaf, nnx.state(encoder, nnx.Param)))
    return PretrainedEncoder(encoder, Bytes(), WINDOW, "tiny", "0" * 64)


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "texts").mkdir()
    for n in range(12):
        (tmp_path / f"texts/{n}.txt").write_text("".join(chr(97 + (n * i + n) % 26) for i in range(40 + 10 * n)))
    return str(tmp_path / "texts")


ASKED = dict(temperatures=(1.0, 0.5), lengths=(4, 32), seeds=2)


def test_pieces_are_two_of_each_text_that_is_long_enough_and_do_not_overlap(corpus):
    ids, ends = collapse.pieces(Bytes(), corpus, seed=0, longest=32)
    texts = ["".join(chr(97 + (n * i + n) % 26) for i in range(40 + 10 * n)) for n in range(12)]
    assert ends == (FIRST, LAST) and ids.shape == (sum(len(text) >= 64 for text in texts), 2, 32)
    both = [bytes(pair.ravel().tolist()).decode() for pair in ids]
    assert sorted(next(n for n, text in enumerate(texts) if piece in text) for piece in both) == list(range(3, 12))
    assert (collapse.pieces(Bytes(), corpus, seed=1, longest=32)[0] != ids).any()


def test_what_is_measured(model, corpus, tmp_path):
    lines = collapse.measure(model, tmp_path / "c.jsonl", corpus=corpus, **ASKED)
    assert [(line["run"], line["seed"]) for line in lines] == [("tau_1", 0), ("tau_1", 1), ("tau_0.5", 0), ("tau_0.5", 1)]
    ids, ends = collapse.pieces(Bytes(), corpus, 1, 32)
    for line, tau in ((lines[1], 1.0), (lines[3], 0.5)):
        encoder = read_as(model.encoder, replace(CFG, weights=TempScale(tau)))
        for n in (4, 32):
            rows = [[vectors(encoder, np.array([[FIRST, *piece[:n], LAST]])) for piece in pair] for pair in ids]
            for metric, of in (("embedding_cosine", 0), ("input_cosine", 1)):
                one, other = (np.array([np.asarray(pair[k][of])[0] / np.linalg.norm(pair[k][of]) for pair in rows]) for k in (0, 1))
                apart = [a @ b for i, a in enumerate(one) for j, b in enumerate(other) if i != j]
                assert line["metrics"][metric][str(n)] == pytest.approx(np.mean(apart), abs=1e-5)
                if of == 0:
                    assert line["metrics"]["sibling_found"][str(n)] == np.mean([(other @ a).argmax() == i for i, a in enumerate(one)])
    first, sharper = lines[1]["metrics"], lines[3]["metrics"]
    assert first["input_cosine"] == sharper["input_cosine"] and first["embedding_cosine"] != sharper["embedding_cosine"]


def test_finished_cells_are_not_measured_again(model, corpus, tmp_path, monkeypatch):
    out, said = tmp_path / "c.jsonl", []
    before = collapse.measure(model, out, corpus=corpus, **ASKED)
    assert collapse.measure(model, out, corpus=corpus, say=said.append, **ASKED) == before and not said
    collapse.measure(model, out, corpus=corpus, say=said.append, **(ASKED | dict(temperatures=(0.5, 2.0))))
    assert len(said) == 2 and all("tau_2 " in line for line in said) and len(results.read(out)) == 6
    cut = collapse.pieces
    monkeypatch.setattr(collapse, "pieces", lambda *args, **kwargs: (cut(*args, **kwargs)[0][:, ::-1], (FIRST, LAST)))
    edited = collapse.measure(model, out, corpus=corpus, say=said.append, **ASKED)
    assert len(said) == 6 and len(results.read(out)) == 6, "another text under the same name takes the place of what was read before"
    assert [line["data"] for line in edited] != [line["data"] for line in before]


@pytest.mark.parametrize("change, words", [
    (dict(lengths=(33,)), "lengths are from 1 to 32, tiny's window of 34 less two special tokens"), (dict(lengths=(0, 4)), "lengths are from 1"),
    (dict(lengths=()), "lengths is empty"), (dict(temperatures=()), "temperatures is empty"), (dict(temperatures=(0.0,)), "temperature above 0"),
    (dict(seeds=0), "seeds must be at least 1, got 0"),
])
def test_what_cannot_be_asked(change, words, model, corpus, tmp_path):
    with pytest.raises(ValueError, match=words):
        collapse.measure(model, tmp_path / "c.jsonl", corpus=corpus, **(ASKED | change))
    assert not (tmp_path / "c.jsonl").exists()


def test_too_few_texts(model, tmp_path):
    (tmp_path / "one").mkdir()
    for n in range(3):
        (tmp_path / f"one/{n}.txt").write_text("a" * (63 + (n == 1)))
    with pytest.raises(ValueError, match="1 texts of .* have the 64 tokens that two pieces take, and 2 are needed; the longest have 63, 64"):
        collapse.measure(model, tmp_path / "c.jsonl", corpus=str(tmp_path / "one"), **ASKED)


def test_without_a_tokenizer(model, corpus, tmp_path):
    with pytest.raises(ValueError, match="tiny has no tokenizer.json"):
        collapse.measure(replace(model, tokenizer=None), tmp_path / "c.jsonl", corpus=corpus, **ASKED)
