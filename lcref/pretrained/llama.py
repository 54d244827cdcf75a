"""The Llama family (arXiv 2302.13971, 2307.09288, 2407.21783): RMSNorm, SwiGLU, grouped queries, RoPE in the "half" layout.

transformers stores a projection as [out, in] and computes x W^T; a kernel here is [in, out], so every matrix is transposed once.

    model.embed_tokens.weight                      embedding.embedding [W, D]
    model.layers.i.input_layernorm.weight          blocks[i].mixer_norm.scale
    model.layers.i.self_attn.{q,k,v,o}_proj        blocks[i].mixer.{q,k,v,out}          with attention_bias: their biases, all four
    model.layers.i.post_attention_layernorm        blocks[i].feed_norm.scale
    model.layers.i.mlp.{gate,up,down}_proj         blocks[i].feed_forward.{gate,up,down}
    model.norm.weight, lm_head.weight              norm.scale, readout.kernel           no lm_head where embeddings are tied
"""
from __future__ import annotations

import re

from lcref.nn.decoder import DecoderConfig
from lcref.nn.layers import GatedMlp, Rms
from lcref.nn.mixers.attention import AttentionConfig
from lcref.pretrained.rope import rope
from lcref.pretrained.source import Fields

BUFFERS = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")       # old files store the plain frequencies


def config(fields: Fields) -> tuple[DecoderConfig, int]:
    """(DecoderConfig, window). ValueError for what the Decoder does not have."""
    heads, d_model, window = fields.whole("num_attention_heads"), fields.whole("hidden_size"), fields.whole("max_position_embeddings", 2048)
    kv_heads = fields.whole("num_key_value_heads", heads)
    if heads % kv_heads or not fields.given("head_dim") and d_model % heads:
        raise ValueError(f"{fields.where}: {heads} heads with {kv_heads} key-value heads at hidden_size {d_model} do not divide")
    head_dim = fields.whole("head_dim", max(d_model // heads, 1))
    fields.only("hidden_act", ("silu", "swish"), "the gated feed-forward layer uses silu")
    fields.only("mlp_bias", (False,), "the gated feed-forward layer has no biases")
    fields.only("rope_interleaved", (False,), "rotation pairs the halves of a head")
    fields.only("sliding_window", (), "every layer sees the whole context")
    fields.only("num_local_experts", (0,), "there is no mixture of experts")
    bias = fields.flag("attention_bias", False)
    mixer = AttentionConfig(heads=heads, kv_heads=kv_heads, head_dim=head_dim, bias=bias)
    return DecoderConfig(vocab=fields.whole("vocab_size"), d_model=d_model, layers=fields.whole("num_hidden_layers"), mixer=mixer,
                         position=rope(fields, window, head_dim), feed_forward=GatedMlp(fields.whole("intermediate_size")),
                         norm=Rms(fields.number("rms_norm_eps", 1e-6)), tie_embeddings=fields.flag("tie_word_embeddings", False)), window


def layout(cfg: DecoderConfig) -> dict:
    """tensor -> (its shape, {parameter: how to cut it out of the tensor})"""
    D, F, heads, kv_heads, K = cfg.d_model, cfg.feed_forward.width, cfg.mixer.heads, cfg.mixer.kv_heads, cfg.mixer.head_dim
    transposed, whole = lambda w: w.T, lambda w: w
    found = {"model.embed_tokens.weight": ((cfg.vocab, D), {"embedding.embedding": whole}),
             "model.norm.weight": ((D,), {"norm.scale": whole})}
    if not cfg.tie_embeddings:
        found["lm_head.weight"] = (cfg.vocab, D), {"readout.kernel": transposed}
    for i in range(cfg.layers):
        there, here = f"model.layers.{i}.", f"blocks.{i}."
        found[there + "input_layernorm.weight"] = (D,), {here + "mixer_norm.scale": whole}
        found[there + "post_attention_layernorm.weight"] = (D,), {here + "feed_norm.scale": whole}
        for theirs, ours, shape in (("q", "q", (heads * K, D)), ("k", "k", (kv_heads * K, D)), ("v", "v", (kv_heads * K, D)),
                                    ("o", "out", (D, heads * K))):
            found[f"{there}self_attn.{theirs}_proj.weight"] = shape, {f"{here}mixer.{ours}.kernel": transposed}
            if cfg.mixer.bias:
                found[f"{there}self_attn.{theirs}_proj.bias"] = shape[:1], {f"{here}mixer.{ours}.bias": whole}
        for name, shape in (("gate", (F, D)), ("up", (F, D)), ("down", (D, F))):
            found[f"{there}mlp.{name}_proj.weight"] = shape, {f"{here}feed_forward.{name}.kernel": transposed}
    return found


def canonical(name: str) -> str:
    return name


TIED = "lm_head.weight", "model.embed_tokens.weight"       # where a file of a tied model holds both, they must be equal
