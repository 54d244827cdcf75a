"""Reading a published model past its window: what each method changes, what is scored, and that finished cells are not measured again."""
import dataclasses
import re

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from lcref import extension, results
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Alibi, Rope
from lcref.ops.rope_scaling import DynamicNtk, Llama3
from lcref.pretrained.models import Pretrained
from lcref.train import read_as
from tests.tolerances import assert_close

WINDOW, LONG = 64, 128


class Bytes:
    """A tokenizer of bytes, with a BOS of its own before every text when asked for one."""

    def __init__(self, bos=None):
        self.bos, self.vocab = bos, 257

    def encode(self, text):
        return np.array(([] if self.bos is None else [self.bos]) + list(text.encode()), np.int32)

    def decode(self, ids):
        return bytes(int(i) for i in ids if i < 256).decode(errors="replace")


CFG = DecoderConfig(vocab=257, d_model=16, layers=2, mixer=AttentionConfig(heads=2, kv_heads=1), position=Rope(), embed_std=1.0)
MODEL = Pretrained(Decoder(CFG, rngs=nnx.Rngs(0)), Bytes(), WINDOW, "tiny", "0" * 64)
TEXT = np.random.default_rng(0).integers(0, 256, LONG + 1).astype(np.int32)
ASKED = dict(methods=["none", "yarn"], lengths=(32, LONG), texts=["argparse"], depths=(), scored=32)


def cell(method, lengths=(32, 64, LONG)):
    cfg = extension.METHODS[method](CFG, WINDOW, LONG) if method in extension.METHODS else CFG
    return extension.LossCell(method, cfg, "", "text", lengths, 32, WINDOW)


def measured(method):
    wanted = cell(method)
    return extension.loss(read_as(MODEL.decoder, wanted.model), TEXT, wanted)


@pytest.mark.parametrize("method", extension.METHODS)
def test_a_method_changes_what_is_read_past_the_window_and_no_parameter(method):
    got, plain = measured(method), measured("none")
    assert set(got["loss"]) == {32, 64, LONG} and set(got["loss_along"]) == {32, 64, 96, LONG}
    assert all(np.isfinite(value) for values in got.values() for value in values.values())
    if method in ("dynamic_ntk", "lm_infinite", "streaming", "window"):             # the others change something at any length
        inside = 32 if method == "streaming" else 64                               # its window has room for the first tokens as well
        assert_close(got["loss"][inside], plain["loss"][inside])
    assert abs(got["loss"][LONG] - plain["loss"][LONG]) > 1e-4 or method == "none"


def test_factors_follow_the_longest_row():
    for method in ("linear", "ntk", "by_parts", "yarn"):
        scaling = extension.METHODS[method](CFG, WINDOW, LONG).position.scaling
        assert (scaling.factor, scaling.original_length) == (2.0, WINDOW)
    assert extension.METHODS["dynamic_ntk"](CFG, WINDOW, LONG).position.scaling.factor == 1.0
    scheme = extension.METHODS["self_extend"](CFG, WINDOW, 200).position
    assert (WINDOW - scheme.near) * scheme.group + scheme.near >= 200 > (WINDOW - scheme.near) * scheme.group / 2 + scheme.near


def test_the_loss_is_that_of_the_tokens_it_says():
    logits = MODEL.decoder(TEXT[None, :-1])
    nats = np.asarray(optax.softmax_cross_entropy_with_integer_labels(logits, TEXT[None, 1:]))[0]
    got = measured("none")
    assert_close(np.float32(got["loss"][64]), np.float32(nats[32:64].mean()))
    assert_close(np.float32(got["loss_along"][96]), np.float32(nats[64:96].mean()))


def test_a_scaling_that_depends_on_the_row_is_read_row_by_row():
    wanted = cell("dynamic_ntk", (96, LONG))
    decoder = read_as(MODEL.decoder, wanted.model)
    short = np.asarray(optax.softmax_cross_entropy_with_integer_labels(decoder(TEXT[None, :96]), TEXT[None, 1:97]))[0, 64:].mean()
    got = extension.loss(decoder, TEXT, wanted)
    assert_close(np.float32(got["loss"][96]), np.float32(short))
    assert abs(got["loss"][96] - got["loss_along"][96]) > 1e-4                       # in the longer row its frequencies are others


def test_the_control_reads_the_same_tokens_inside_the_window():
    got = measured(extension.CONTROL)
    row = TEXT[None, LONG - 64:LONG + 1]                                             # 32 that are scored, half a window before them
    nats = optax.softmax_cross_entropy_with_integer_labels(MODEL.decoder(row[:, :-1]), row[:, 1:])
    assert_close(np.float32(got["loss"][LONG]), np.float32(np.asarray(nats)[0, 32:].mean()))
    assert_close(got["loss"][64], measured("none")["loss"][64])


def test_a_loss_is_held_against_the_control_on_the_same_tokens():
    """Texts of several commands have the same seeds, and another text is easier or harder."""
    def line(run, document, **losses):
        return dict(run=run, seed=0, config=dict(sha256="0", window=64, scored=32, document=document), metrics={"loss": losses})
    lines = [line("control", "a", n64=2.0, n128=None), line("none", "a", n64=2.5, n128=3.0),
             line("control", "b", n64=5.0), line("none", "b", n64=None)]
    _, a, _, b = extension.against_control(lines)
    assert a["metrics"]["over_control"] == {"n64": 25.0, "n128": None} and b["metrics"]["over_control"] == {"n64": None}


@pytest.mark.parametrize("bos", [None, 256])
@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
def test_a_passkey_prompt_is_as_long_as_asked_with_the_key_at_its_depth(depth, bos):
    ids, key = extension.prompt(Bytes(bos), 600, depth, sample=3)
    text = Bytes().decode(ids)
    assert len(ids) == 600 and (ids == 256).sum() == (bos is not None) and 10_000 <= key < 100_000
    assert text.startswith("There is one important fact") and text.endswith("What is the pass key? The pass key is")
    assert text.count(str(key)) == 2
    room = 600 - len(Bytes(bos).encode("")) - len(extension.HEADER) - len(extension.KEY.format(key=key)) - len(extension.QUESTION)
    assert text.index("\nThe pass key is") == len(extension.HEADER) + round(depth * room)
    assert extension.prompt(Bytes(bos), 600, depth, 4)[1] != key
    with pytest.raises(ValueError, match="length 100 is too short"):
        extension.prompt(Bytes(bos), 100, depth, 3)


@pytest.mark.parametrize("answer, found", [(" {key}.", 1.0), (" the number {key}, of course", 1.0), (" {key}0", 0.0), (" 7, no, {key}", 0.0), (" green", 0.0)])
def test_the_first_number_written_is_the_answer(monkeypatch, answer, found):
    wanted = extension.PasskeyCell("none", CFG, "", 400, 0.5, 0, 40, WINDOW)
    _, key = extension.prompt(Bytes(), 400, 0.5, 0)
    monkeypatch.setattr(extension, "generate", lambda decoder, ids, tokens, temperature: Bytes().encode(answer.format(key=key))[None])
    assert extension.passkey(MODEL.decoder, Bytes(), wanted) == {"passkey": {"400@0.5": found}}


def test_finished_cells_are_not_measured_again(tmp_path):
    out, said = tmp_path / "tiny.jsonl", []
    first = extension.measure(MODEL, out, **ASKED | dict(methods=["none"]), say=said.append)
    assert len(said) == 2 and [line["run"] for line in first] == ["control", "none"]
    wide = dataclasses.replace(MODEL, window=256)
    more = extension.measure(wide, out, **ASKED | dict(depths=(0.5,), lengths=(256, 384), scored=128), say=said.append)
    assert len(more) == 3 + 4                                                        # control and two methods; two lengths of passkeys for both
    again = extension.measure(MODEL, out, **ASKED | dict(methods=["none"]), say=said.append)
    assert again == first and len(said) == 2 + 7
    assert len(results.read(out)) == 9
    other = dataclasses.replace(MODEL, sha256="1" * 64)                              # other weights are another measurement
    extension.measure(other, out, **ASKED | dict(methods=["none"]), say=said.append)
    assert len(results.read(out)) == 11


def test_a_cell_is_its_text_and_not_the_place_of_it(tmp_path):
    out, text, said = tmp_path / "tiny.jsonl", tmp_path / "text.txt", []
    text.write_text("a row of words " * 20)
    ask = lambda *texts, **change: extension.measure(MODEL, out, **ASKED | dict(methods=["none", "none"], texts=texts) | change, say=said.append)
    ask("argparse", str(text))
    assert len(said) == 4
    assert len(ask(str(text), "argparse", str(text))) == 4 and len(said) == 4
    text.write_text("other words in it " * 20)
    assert len(ask(str(text))) == 2 and len(said) == 6


def test_plotting_a_file_again_shows_what_belongs_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(extension, "loss", lambda decoder, ids, cell: {"loss": {}})
    monkeypatch.setattr(extension, "passkey", lambda decoder, tokenizer, cell: {"passkey": {}})
    out, ask = tmp_path / "tiny.jsonl", dict(ASKED, depths=(0.5,), scored=128, lengths=(512,))
    wide = dataclasses.replace(MODEL, window=256)
    extension.measure(dataclasses.replace(wide, sha256="1" * 64), out, **ask | dict(depths=()))
    extension.measure(wide, out, **ask)
    extension.measure(wide, out, **ask | dict(texts=["tarfile"], depths=()))
    both = extension.current(results.read(out))
    assert [line["run"] for line in both] == ["control", "none", "yarn", "none", "yarn", "control", "none", "yarn"]
    extension.measure(wide, out, **ask | dict(lengths=(512, 768)))                    # YaRN at another factor, argparse and passkeys alone
    newest = extension.current(results.read(out))
    assert [line["config"]["model"]["position"]["scaling"]["factor"] for line in newest if line["run"] == "yarn"] == [3.0] * 3
    assert [line["run"] for line in newest if "loss" in line["metrics"]] == ["control", "none", "yarn"]


@pytest.mark.parametrize("change, words", [
    (dict(methods=["none", "magic"]), "unknown method 'magic'"),
    (dict(lengths=()), "must be one or more, of at least 1 token"),
    (dict(lengths=(16, 64)), "must be at least the 32 tokens"),
    (dict(lengths=(64, 100)), "the longest a multiple of it"),
    (dict(depths=(1.5,)), "depth is between 0"),
    (dict(depths=(0.5,)), "length 32 is too short"),
    (dict(texts=[]), "nothing to measure"),
    (dict(texts=[], depths=(0.5,), samples=0), "nothing to measure"),
    (dict(lengths=(64, 128), scored=64), "leaves room for 32 of them in tiny's window of 64"),
    (dict(texts=["no_such_module"]), "'no_such_module' is neither a module"),
    (dict(lengths=(32, 2**21)), "argparse has [0-9]+ tokens and rows of up to 2097152"),
])
def test_what_makes_no_sense_is_refused_before_anything_is_written(tmp_path, change, words):
    with pytest.raises((ValueError, KeyError), match=words):
        extension.measure(MODEL, tmp_path / "x.jsonl", **ASKED | change)
    assert not list(tmp_path.iterdir())


def test_models_without_rotations_are_refused(tmp_path):
    cfg = dataclasses.replace(CFG, position=Alibi())
    with pytest.raises(ValueError, match=re.escape("tiny has Alibi positions: these methods change rotations")):
        extension.measure(dataclasses.replace(MODEL, decoder=Decoder(cfg, rngs=nnx.Rngs(0))), tmp_path / "x.jsonl", **ASKED)


def test_models_without_a_tokenizer_are_refused(tmp_path):
    with pytest.raises(ValueError, match=re.escape("tiny has no tokenizer.json")):
        extension.measure(dataclasses.replace(MODEL, tokenizer=None), tmp_path / "x.jsonl", **ASKED)


@pytest.mark.parametrize("method", ["linear", "ntk", "dynamic_ntk", "by_parts", "yarn"])
def test_a_scaling_that_a_model_was_published_with_is_not_replaced(method):
    cfg = dataclasses.replace(CFG, position=Rope(scaling=Llama3(8.0, 16)))
    with pytest.raises(ValueError, match=f"method {method} would take the place of .*, Llama3"):
        extension.METHODS[method](cfg, WINDOW, LONG)


def test_a_scaling_inside_another_scheme_is_read_row_by_row_as_well():
    dynamic = dataclasses.replace(CFG, position=Rope(scaling=DynamicNtk(1.0, 32)))
    wanted = dataclasses.replace(cell("lm_infinite", (96, LONG)), model=extension.METHODS["lm_infinite"](dynamic, WINDOW, LONG))
    decoder = read_as(MODEL.decoder, wanted.model)
    short = np.asarray(optax.softmax_cross_entropy_with_integer_labels(decoder(TEXT[None, :96]), TEXT[None, 1:97]))[0, 64:].mean()
    assert_close(np.float32(extension.loss(decoder, TEXT, wanted)["loss"][96]), np.float32(short))


def test_a_row_takes_memory_in_proportion_to_its_length():
    """Temporary memory of the compiled pass from 4,096 to 16,384 tokens: four times, not sixteen."""
    graph, params = nnx.split(MODEL.decoder)
    used = []
    for length in (4096, 16384):
        tokens = np.zeros((1, length), np.int32)
        compiled = extension.nats_of_last.lower(graph, params, tokens, tokens[:, :512]).compile()
        used.append(compiled.memory_analysis().temp_size_in_bytes)
    assert used[1] < 5 * used[0]


def test_reading_far_is_traced_once_per_length(monkeypatch):
    """Python runs only while jax traces, so that its calls can be counted; 47 is a length that no other test reads."""
    traced, hidden = [], Decoder.hidden
    monkeypatch.setattr(Decoder, "hidden", lambda decoder, tokens: traced.append(tokens.shape) or hidden(decoder, tokens))
    for seed in range(3):
        graph, params = nnx.split(Decoder(CFG, rngs=nnx.Rngs(seed)))
        jax.block_until_ready(extension.nats_of_last(graph, params, TEXT[None, :47], TEXT[None, 1:48]))
    assert traced == [(1, 47)]
