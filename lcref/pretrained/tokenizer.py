"""Text to token ids and back, by the tokenizer that belongs to the weights: out of a GGUF file's metadata, or a tokenizer.json.

Both become a tokenizers.Tokenizer. A GGUF file holds the vocabulary, the merges, a type for every token (3: control, 4: added by a
user; both are never cut), and the name of a rule that cuts text into words before any merging, listed below; the rules are those of
llama.cpp (src/llama-vocab.cpp) and of the models' own tokenizer.json. Only byte-level BPE, GPT-2's kind, is read from GGUF files.
"""
from __future__ import annotations

import contextlib
import os

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors

from lcref.pretrained.source import Fields, regular, short

CONTROL, USER = 3, 4
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# How text is cut into words, by GGUF's name: a list of patterns, each of which cuts what those before it have left.
WORDS = {
    "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],                            # digits one by one
    "llama-bpe": [LLAMA3],
}
WHOLE_WORDS = {"llama-bpe"}    # a word that is a token is that token, whatever the merges would make of it


class Tokenizer:
    """encode, decode; vocab: one more than the largest id; bos, eos: the id that begins a text (or None), and a tuple of ids that end one."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, bos: int | None, eos: tuple[int, ...]):
        self.tokenizer, self.bos, self.eos = tokenizer, bos, eos
        self.vocab = 1 + max(tokenizer.get_vocab().values(), default=-1)

    def encode(self, text: str) -> np.ndarray:
        """int32 ids. Special tokens written in the text, such as <|im_end|>, become themselves; one that the published tokenizer puts
        before every text (Llama's <s>) is put there."""
        return np.asarray(self.tokenizer.encode(text).ids, np.int32)

    def decode(self, ids) -> str:
        """Text, special tokens included. ValueError for an id that is not in the vocabulary."""
        ids = [int(i) for i in np.asarray(ids).reshape(-1)]
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab:
            raise ValueError(f"token id {min(ids) if min(ids) < 0 else max(ids)} is outside the vocabulary of {self.vocab}")
        return self.tokenizer.decode(ids, skip_special_tokens=False)


def chatml(*messages: tuple[str, str]) -> str:
    """(role, text) pairs as SmolLM2-Instruct was trained to read them, and the opening of its answer."""
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in messages) + "<|im_start|>assistant\n"


def from_gguf(metadata: dict, path: str) -> Tokenizer:
    """ValueError for a kind or a rule that is not known, and for a vocabulary that contradicts itself."""
    fields = Fields(metadata, path)
    kind, rule = fields.text("tokenizer.ggml.model"), fields.text("tokenizer.ggml.pre", "default")
    if kind != "gpt2":
        raise ValueError(f"{path}: tokenizer {short(kind)} is not supported; gpt2 (byte-level BPE) is")
    if rule not in WORDS:
        raise ValueError(f"{path}: tokenizer.ggml.pre = {short(rule)} is not supported; {', '.join(WORDS)} are")
    tokens, merges = strings(fields, "tokenizer.ggml.tokens"), strings(fields, "tokenizer.ggml.merges")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens):
        raise ValueError(f"{path}: tokenizer.ggml.tokens holds {len(tokens) - len(vocabulary)} tokens twice")
    pairs = [tuple(merge.split(" ")) for merge in merges]
    for pair, merge in zip(pairs, merges):
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys():
            raise ValueError(f"{path}: merge {short(merge)} is not two tokens that make a third")
    types = metadata.get("tokenizer.ggml.token_type", np.zeros(len(tokens), np.int32))
    if not isinstance(types, np.ndarray) or len(types) != len(tokens):
        fields.wrong("tokenizer.ggml.token_type", f"a list of {len(tokens)} numbers")
    special = [AddedToken(token, special=bool(t == CONTROL), normalized=False) for token, t in zip(tokens, types) if t in (CONTROL, USER)]
    ids = {name: fields.whole(f"tokenizer.ggml.{name}_token_id", least=0, most=len(tokens) - 1)
           for name in ("bos", "eos", "eot") if fields.given(f"tokenizer.ggml.{name}_token_id")}
    with plainly(path):
        made = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=rule in WHOLE_WORDS))
        cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in WORDS[rule]]
        made.pre_tokenizer = pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        made.decoder = decoders.ByteLevel()
        made.add_tokens(special)
        if fields.flag("tokenizer.ggml.add_bos_token", False):
            if "bos" not in ids:
                raise ValueError("tokenizer.ggml.add_bos_token without a tokenizer.ggml.bos_token_id")
            bos = tokens[ids["bos"]]
            made.post_processor = processors.TemplateProcessing(single=[bos, "$A"], special_tokens=[(bos, ids["bos"])])
        if made.get_vocab_size() != len(tokens):
            raise ValueError("special tokens that are not in the vocabulary")
    return Tokenizer(made, ids.get("bos"), tuple(dict.fromkeys(ids[name] for name in ("eos", "eot") if name in ids)))


def strings(fields, name) -> list[str]:
    value = fields.values.get(name)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        fields.wrong(name, "a list of strings")
    return value


LIMIT = 64 * 2**20             # bytes of a tokenizer.json; the largest known have 35 million


def from_folder(path: str, config: dict) -> Tokenizer | None:
    """tokenizer.json of a folder, with bos_token_id and eos_token_id from its config.json. None where there is no tokenizer.json."""
    file = os.path.join(path, "tokenizer.json")
    if not os.path.lexists(file):
        return None
    with plainly(file):
        if (size := regular(file)) > LIMIT:
            raise ValueError(f"{size} bytes are more than the {LIMIT} that such a file may have")
        made = tokenizers.Tokenizer.from_file(file)
        made.no_truncation(), made.no_padding()            # a file may ask for either, and evaluation for neither
        made.encode("a b")                                 # parts that contradict each other show when they are used
    ids, fields = {}, Fields(config, os.path.join(path, "config.json"))
    for name in ("bos_token_id", "eos_token_id"):
        value = config.get(name)
        ids[name] = tuple(value if isinstance(value, list) else [value] * (value is not None))
        if not all(type(i) is int and 0 <= i < 2**31 for i in ids[name]):
            fields.wrong(name, "a token id")
    return Tokenizer(made, next(iter(ids["bos_token_id"]), None), ids["eos_token_id"])


@contextlib.contextmanager
def plainly(path):
    """Whatever the library raises, as a ValueError of one line. It is written in Rust, and what it takes for a bug of its own (a panic)
    is no Exception in Python."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ValueError(f"{path}: not a tokenizer that can be used: {short(str(error), 200)}") from error
