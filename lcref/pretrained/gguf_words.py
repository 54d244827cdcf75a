"""GGUF's words for a model -> transformers': names of settings, names of tensors, and the layouts in which the two differ.

Two layouts differ. The Llama files' writer (llama.cpp, convert_hf_to_gguf.py) stores the rows of W_q and W_k head by head so that
rotation can pair neighbours: row (k, half) of transformers, half = 0 or 1, went to row 2k + half. Here they go back, to the "half"
layout of Rope. And GPT-2's matrices are [out, in] in a GGUF file, [in, out] in transformers.

The scaling of Llama 3 is stored as its result: rope_freqs.weight [K/2], what each frequency is divided by. That is LongRoPE with the
same factors at every length and no attention factor; it becomes that.
"""
from __future__ import annotations

import dataclasses
import re

import numpy as np

from lcref.pretrained.gguf import Gguf
from lcref.pretrained.source import Fields, Source, Tensor, short

# transformers' setting -> GGUF's, after "llama." or "gpt2."
LLAMA = {"hidden_size": "embedding_length", "intermediate_size": "feed_forward_length", "num_hidden_layers": "block_count",
         "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
         "max_position_embeddings": "context_length", "rms_norm_eps": "attention.layer_norm_rms_epsilon",
         "rope_theta": "rope.freq_base", "head_dim": "attention.key_length"}
GPT2 = {"n_embd": "embedding_length", "n_inner": "feed_forward_length", "n_layer": "block_count", "n_head": "attention.head_count",
        "n_positions": "context_length", "layer_norm_epsilon": "attention.layer_norm_epsilon"}
OPTIONAL = {"num_key_value_heads", "rope_theta", "head_dim"}
# Settings that change nothing, and settings that are compared with what the Decoder does. Any other is an error.
HARMLESS = {"rope.scaling.finetuned", "tensor_data_layout"}
CHECKED = {"vocab_size", "expert_count", "expert_used_count", "attention.sliding_window", "attention.value_length", "rope.dimension_count",
           "rope.scaling.type", "rope.scaling.attn_factor"}
SCALING = {"factor": "factor", "original_max_position_embeddings": "original_context_length",
           "beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow"}

LLAMA_TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LLAMA_BLOCK = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj",
               "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
               "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
GPT2_TENSORS = {"token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f", "output": "lm_head"}
GPT2_BLOCK = {"attn_norm": "ln_1", "ffn_norm": "ln_2", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc",
              "ffn_down": "mlp.c_proj"}
FACTORS = {"rope_freqs.weight": ("short_factor", "long_factor"), "rope_factors_long.weight": ("long_factor",),
           "rope_factors_short.weight": ("short_factor",)}


def source(file: Gguf) -> Source:
    """Config and tensors in transformers' words. ValueError for an architecture or a setting that has no equal."""
    fields = Fields(file.metadata, file.path)
    architecture = fields.text("general.architecture")
    if architecture not in READERS:
        raise ValueError(f"{file.path}: architecture {short(architecture)} is not supported; {', '.join(READERS)} are")
    return READERS[architecture](file, fields)


def llama(file: Gguf, fields: Fields) -> Source:
    config = settings(file, fields, "llama.", LLAMA) | dict(model_type="llama", tie_word_embeddings="output.weight" not in file.tensors)
    for name in ("llama.expert_count", "llama.expert_used_count"):
        fields.only(name, (0,), "there is no mixture of experts")
    fields.only("llama.attention.sliding_window", (0,), "every layer sees the whole context")
    heads, width = fields.whole("llama.attention.head_count"), fields.whole("llama.embedding_length")
    kv_heads, head_dim = fields.whole("llama.attention.head_count_kv", heads), fields.whole("llama.attention.key_length", max(width // heads, 1))
    for name in ("llama.attention.value_length", "llama.rope.dimension_count"):
        fields.only(name, (head_dim,), f"keys have {head_dim} numbers a head, and all must be alike and turned")
    renamed = rename(file, LLAMA_TENSORS, LLAMA_BLOCK)
    factors = {name: renamed.pop(name) for name in FACTORS if name in renamed}
    config |= dict(rope_parameters=scaling(file, fields, factors, config, head_dim),
                   attention_bias=any(name.endswith("self_attn.q_proj.bias") for name in renamed))
    for name, tensor in renamed.items():
        n = {"q_proj": heads, "k_proj": kv_heads}.get(name.split(".")[-2] if "self_attn" in name else "")
        if n:
            renamed[name] = dataclasses.replace(tensor, read=lambda read=tensor.read, n=n: unpermuted(read(), n))
    return Source(file.path, config, renamed, back(LLAMA_TENSORS, LLAMA_BLOCK))


def gpt2(file: Gguf, fields: Fields) -> Source:
    config = settings(file, fields, "gpt2.", GPT2) | dict(model_type="gpt2", tie_word_embeddings="output.weight" not in file.tensors)
    renamed = rename(file, GPT2_TENSORS, GPT2_BLOCK)
    for name, tensor in renamed.items():
        if name.startswith("h.") and len(tensor.shape) == 2:
            renamed[name] = Tensor(tensor.name, tensor.shape[::-1], lambda read=tensor.read: read().T)
    return Source(file.path, config, renamed, back(GPT2_TENSORS, GPT2_BLOCK))


READERS = {"llama": llama, "gpt2": gpt2}


def settings(file, fields, prefix, table) -> dict:
    legal = {*table.values(), *HARMLESS, *CHECKED, *(f"rope.scaling.{name}" for name in SCALING.values())}
    unknown = [key for key in file.metadata if key.startswith(prefix) and key.removeprefix(prefix) not in legal]
    if unknown:
        raise ValueError(f"{file.path}: {short(', '.join(unknown))} is not supported: what it changes is not built")
    fields.only("split.count", (0, 1), "it is one of several files; merge them first")
    missing = [prefix + theirs for ours, theirs in table.items() if ours not in OPTIONAL and not fields.given(prefix + theirs)]
    if missing:
        raise ValueError(f"{file.path}: {', '.join(missing)} is missing")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise ValueError(f"{file.path}: tensor 'token_embd.weight' is missing")
    return {ours: file.metadata[prefix + theirs] for ours, theirs in table.items() if fields.given(prefix + theirs)} | dict(
        vocab_size=fields.whole(prefix + "vocab_size", embedding.shape[0]))


def scaling(file, fields, factors, config, head_dim) -> dict:
    """rope_parameters. What a llama file says under llama.rope.scaling, or the factors that it stores as tensors."""
    prefix = "llama.rope.scaling."
    kind = fields.text(prefix + "type", "none")
    found = {ours: file.metadata[prefix + theirs] for ours, theirs in SCALING.items() if fields.given(prefix + theirs)}
    for name, tensor in factors.items():
        if tensor.shape != (head_dim // 2,):
            raise ValueError(f"{file.path}: tensor {name!r} has shape {tensor.shape}, should have {(head_dim // 2,)}")
        found |= {key: tensor.array().tolist() for key in FACTORS[name]}
    if "rope_freqs.weight" in factors and kind == "none" and len(factors) == 1:
        return found | dict(rope_type="longrope", factor=1.0, attention_factor=1.0)
    if kind == "longrope" and {"rope_factors_long.weight", "rope_factors_short.weight"} == factors.keys():
        return found | dict(rope_type="longrope", attention_factor=fields.number(prefix + "attn_factor", 1.0))
    if factors or kind not in ("none", "linear", "yarn"):
        raise ValueError(f"{file.path}: rope scaling {short(kind)} with tensors {sorted(factors)} is not supported")
    fields.only(prefix + "attn_factor", (1.0,), "it changes the scaling in a way that is not built")
    return dict(rope_type="default") if kind == "none" else found | dict(rope_type=kind)


def rename(file, tensors, block) -> dict[str, Tensor]:
    """Names that are not in the tables stay as they are, and are found to be unexpected later."""
    found = {}
    for name, tensor in file.tensors.items():
        new = transformers_name(name, tensors, block)
        if new in found:
            raise ValueError(f"{file.path}: tensors {short(found[new].name)} and {short(name)} are the same parameter")
        found[new] = tensor
    return found


def transformers_name(name, tensors, block):
    outer, inner = re.fullmatch(r"(\w+)\.(weight|bias)", name), re.fullmatch(r"blk\.(0|[1-9]\d{0,5})\.(\w+)\.(weight|bias)", name)
    if outer and outer[1] in tensors:
        return f"{tensors[outer[1]]}.{outer[2]}"
    if inner and inner[2] in block:
        return f"{'model.layers' if block is LLAMA_BLOCK else 'h'}.{inner[1]}.{block[inner[2]]}.{inner[3]}"
    return name


def back(tensors, block):
    """transformers' name -> GGUF's, for messages about tensors that are missing."""
    theirs = {new: old for old, new in (tensors | block).items()}

    def called(name):
        stem, _, kind = name.rpartition(".")
        layer = re.fullmatch(r"(?:model\.layers|h)\.(\d+)\.(.+)", stem)
        return f"blk.{layer[1]}.{theirs[layer[2]]}.{kind}" if layer else f"{theirs[stem]}.{kind}"
    return called


def unpermuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows (head, k, half) -> (head, half, k), of a matrix [H K, D] or a bias [H K]."""
    pairs = rows.reshape(heads, -1, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)
