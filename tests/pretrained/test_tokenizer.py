"""Tokenizers out of GGUF metadata and out of tokenizer.json: words, merges, special tokens, and metadata that contradicts itself."""
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("gguf")
tokenizers = pytest.importorskip("tokenizers")

from lcref.pretrained import tokenizer  # noqa: E402
from tests.pretrained.tiny import MERGES, TOKENS, W, message  # noqa: E402

BYTES = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())


def metadata(tokens=TOKENS, merges=MERGES, rule="smollm", special=3, **changes):
    found = {"model": "gpt2", "pre": rule, "tokens": list(tokens), "merges": list(merges), "bos_token_id": 1, "eos_token_id": 2,
             "token_type": np.int32([3] * special + [1] * (len(tokens) - special))} | changes
    return {f"tokenizer.ggml.{key}": value for key, value in found.items() if value is not None}


def made(**kwargs):
    return tokenizer.from_gguf(metadata(**kwargs), "file")


def names(tokenizer_, text):
    return [tokenizer_.tokenizer.id_to_token(int(i)) for i in tokenizer_.encode(text)]


def whole(rule="smollm", **kwargs):
    """Every byte, the special tokens of TOKENS, and merges for digits and letters."""
    extra = ["12", "123", "1234", "ab", "aB", "ABC", "BC", "'s", "s'", "\u0120a", "\u0120\u0120"]
    merges = ["1 2", "12 3", "123 4", "a b", "a B", "B C", "' s", "s '", "\u0120 a", "\u0120 \u0120"]
    return made(tokens=[*TOKENS[:3], *BYTES, *extra], merges=merges, rule=rule, **kwargs)


def test_merges_and_words():
    t = made()
    assert names(t, "abcd ab\nab") == ["abcd", "\u0120ab", "\u010a", "ab"]          # "cd ab" is two words: "d" and "\u0120" never merge
    assert t.encode("abcd").dtype == np.int32 and t.vocab == W
    assert (t.bos, t.eos) == (1, (2,))


def test_rules_cut_differently():
    digits = {rule: names(whole(rule), "1234") for rule in tokenizer.WORDS}
    assert digits["smollm"] == list("1234") and digits["gpt-2"] == ["1234"] and digits["llama-bpe"] == ["123", "4"]
    assert digits["default"] == ["123", "4"]
    assert names(whole("default"), "s's") == ["s", "'", "s"] and names(whole("gpt-2"), "s's") == ["s", "'s"]
    assert names(whole("llama-bpe"), "ABC") == ["ABC"]                              # no merge makes it: it is a whole word, and a token
    assert names(whole("gpt-2"), "ABC") == ["A", "BC"]


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("a1 \n's\u0661\u00b2"), max_size=30))
def test_words_are_those_of_the_published_tokenizers(text):
    """SmolLM2's tokenizer.json names these two parts; GPT-2's the second alone."""
    pre = tokenizers.pre_tokenizers
    plain = pre.ByteLevel(add_prefix_space=False)
    for rule, theirs in (("gpt-2", plain), ("smollm", pre.Sequence([pre.Digits(individual_digits=True), plain]))):
        ours = TOKENIZERS.setdefault(rule, whole(rule)).tokenizer.pre_tokenizer
        assert [word for word, _ in ours.pre_tokenize_str(text)] == [word for word, _ in theirs.pre_tokenize_str(text)]


@given(st.text(max_size=40), st.sampled_from(list(tokenizer.WORDS)))
def test_text_comes_back(text, rule):
    t = TOKENIZERS.setdefault(rule, whole(rule))
    assert t.decode(t.encode(text)) == text


TOKENIZERS = {}


def test_special_tokens_are_never_cut():
    t = whole()
    text = tokenizer.chatml(("system", "a"), ("user", "b"))
    assert text == "<|im_start|>system\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
    assert np.isin(t.encode(text), [1, 2]).sum() == 5 and t.decode(t.encode(text)) == text


def test_a_first_token_where_the_file_asks_for_it():
    plain, with_bos = whole(), whole(add_bos_token=True)
    assert with_bos.encode("ab").tolist() == [1, *plain.encode("ab").tolist()]


def test_several_ends():
    assert made(eot_token_id=0).eos == (2, 0) and made(eos_token_id=None, bos_token_id=None).eos == () == made(eos_token_id=None).eos
    assert made(bos_token_id=None).bos is None


def test_ids_outside_the_vocabulary():
    for i in (-1, W):
        with pytest.raises(ValueError, match=f"token id {i} is outside"):
            made().decode([0, i])


WRONG = {
    "kind": (dict(model="llama"), "tokenizer 'llama' is not supported"),
    "rule": (dict(rule="other"), "'other' is not supported"),
    "no tokens": (dict(tokens=[]), "tokenizer.ggml.tokens"),
    "tokens twice": (dict(tokens=["a", "a"], merges=["a a"]), "1 tokens twice"),
    "merge of three": (dict(merges=["a b c"]), "'a b c' is not two tokens"),
    "merge of strangers": (dict(merges=["x y"]), "'x y' is not two tokens"),
    "merge to a stranger": (dict(merges=["b a"]), "'b a' is not two tokens"),
    "types": (dict(token_type=np.int32([1])), "tokenizer.ggml.token_type"),
    "bos": (dict(bos_token_id=W), "bos_token_id"),
    "eos": (dict(eos_token_id=-1), "eos_token_id"),
    "bos asked for": (dict(bos_token_id=None, add_bos_token=True), "add_bos_token without"),
    "merges": (dict(merges=[]), "tokenizer.ggml.merges"),
    "tokens are numbers": (dict(tokens=None), "tokenizer.ggml.tokens"),
}


@pytest.mark.parametrize("name", WRONG)
def test_says_what_is_wrong(name):
    changes, words = WRONG[name]
    found = metadata(**{k: v for k, v in changes.items() if v is not None}) | {f"tokenizer.ggml.{k}": None for k, v in changes.items() if v is None}
    assert words in message(lambda path: tokenizer.from_gguf(found, path), "file")


# ------------------------------------------------------------------------------------------------------------------ tokenizer.json

def save(path, **config):
    whole().tokenizer.save(str(path / "tokenizer.json"))
    return tokenizer.from_folder(path, config)


def test_a_saved_one_is_the_same(tmp_path):
    t = save(tmp_path, bos_token_id=1, eos_token_id=[2, 0])
    text = "ab 1234<|im_end|> \u00e9\n"
    assert t.encode(text).tolist() == whole().encode(text).tolist() and t.decode(t.encode(text)) == text
    assert (t.bos, t.eos, t.vocab) == (1, (2, 0), whole().vocab)
    assert save(tmp_path, eos_token_id=2).eos == (2,) and save(tmp_path).eos == ()


def test_truncation_and_padding_are_left_out(tmp_path):
    t = whole().tokenizer
    t.enable_truncation(3)
    t.enable_padding(length=20)
    t.save(str(tmp_path / "tokenizer.json"))
    assert len(tokenizer.from_folder(tmp_path, {}).encode("a b c d e")) == 9


def test_the_largest_id_counts(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1_000_000}, "merges": []}}))
    assert tokenizer.from_folder(tmp_path, {}).vocab == 1_000_001


def test_none_and_broken_ones(tmp_path):
    assert tokenizer.from_folder(tmp_path, {}) is None
    for text in ("", "{}", "[", '{"model": {"type": "BPE"}}', "[" * 100_000, json.dumps(dict(version="9.0"))):
        (tmp_path / "tokenizer.json").write_text(text)
        message(lambda path: tokenizer.from_folder(path, {}), str(tmp_path))
    with pytest.raises(ValueError, match="eos_token_id"):
        save(tmp_path, eos_token_id="x")


@pytest.mark.parametrize("seed", range(60))
def test_changed_ones(seed, tmp_path):
    """Some number, text or part of a tokenizer.json replaced: it works or is refused. (The library's own panics are among what it raises.)"""
    rng = np.random.default_rng(seed)
    made().tokenizer.save(str(tmp_path / "tokenizer.json"))
    value = json.loads((tmp_path / "tokenizer.json").read_text())
    for _ in range(3):
        part, depth = value, rng.integers(1, 5)
        for _ in range(depth):
            keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else []
            if not len(keys):
                break
            key, above = keys[rng.integers(len(keys))], part
            part = part[key]
        above[key] = [None, -1, 2**63, "", "a", [], {}, "\ud800", 1.5, True][rng.integers(10)]
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    try:
        tokenizer.from_folder(tmp_path, {})
    except ValueError as error:
        assert str(tmp_path) in str(error) and "\n" not in str(error)
