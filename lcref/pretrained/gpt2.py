"""GPT-2: learned positions, LayerNorm with bias, biases everywhere, gelu in its tanh form; query, key and value in one matrix.

transformers stores GPT-2's projections as [in, out], the way a kernel is stored here (its Conv1D): nothing is transposed but the head.

    wte.weight, wpe.weight                 embedding.embedding [W, D], position.table [window, D]
    h.i.ln_1, h.i.ln_2, ln_f               mixer_norm, feed_norm, norm: scale and shift
    h.i.attn.c_attn  [D, 3D]               mixer.q | mixer.k | mixer.v, side by side
    h.i.attn.c_proj, h.i.mlp.{c_fc,c_proj} mixer.out, feed_forward.{up,down}

Names may have "transformer." in front: files saved from the model with its head do, those of the model alone do not.
"""
from __future__ import annotations

import re

from lcref.nn.decoder import DecoderConfig
from lcref.nn.layers import Centred, Mlp
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Learned
from lcref.pretrained.source import Fields

BUFFERS = re.compile(r"h\.\d+\.attn\.(masked_)?bias")      # the causal mask, which old files store


def config(fields: Fields) -> tuple[DecoderConfig, int]:
    """(DecoderConfig, window). ValueError for what the Decoder does not have."""
    heads, d_model, window = fields.whole("n_head"), fields.whole("n_embd"), fields.whole("n_positions", 1024)
    if d_model % heads:
        raise ValueError(f"{fields.where}: n_head = {heads} does not divide n_embd = {d_model}")
    fields.only("activation_function", ("gelu_new", "gelu_pytorch_tanh"), "the feed-forward layer uses gelu in its tanh form")
    fields.only("scale_attn_weights", (True,), "scores are always divided by the root of the head's width")
    fields.only("scale_attn_by_inverse_layer_idx", (False,), "every layer scales its scores alike")
    fields.only("add_cross_attention", (False,), "there is no second sequence to attend to")
    return DecoderConfig(vocab=fields.whole("vocab_size"), d_model=d_model, layers=fields.whole("n_layer"),
                         mixer=AttentionConfig(heads=heads, bias=True), position=Learned(window),
                         feed_forward=Mlp(fields.whole("n_inner", 4 * d_model), bias=True),
                         norm=Centred(fields.number("layer_norm_epsilon", 1e-5)),
                         tie_embeddings=fields.flag("tie_word_embeddings", True)), window


def layout(cfg: DecoderConfig) -> dict:
    """tensor -> (its shape, {parameter: how to cut it out of the tensor})"""
    D, F, whole = cfg.d_model, cfg.feed_forward.width, lambda w: w
    third = [lambda w: w[..., :D], lambda w: w[..., D:2 * D], lambda w: w[..., 2 * D:]]
    found = {"wte.weight": ((cfg.vocab, D), {"embedding.embedding": whole}),
             "wpe.weight": ((cfg.position.length, D), {"position.table": whole})}
    if not cfg.tie_embeddings:
        found["lm_head.weight"] = (cfg.vocab, D), {"readout.kernel": lambda w: w.T}
    norms = {"ln_f": "norm"}
    for i in range(cfg.layers):
        there, here = f"h.{i}.", f"blocks.{i}."
        norms |= {there + "ln_1": here + "mixer_norm", there + "ln_2": here + "feed_norm"}
        parts = dict(zip("qkv", third))
        found[there + "attn.c_attn.weight"] = (D, 3 * D), {f"{here}mixer.{name}.kernel": cut for name, cut in parts.items()}
        found[there + "attn.c_attn.bias"] = (3 * D,), {f"{here}mixer.{name}.bias": cut for name, cut in parts.items()}
        for theirs, ours, shape in (("attn.c_proj", "mixer.out", (D, D)), ("mlp.c_fc", "feed_forward.up", (D, F)),
                                    ("mlp.c_proj", "feed_forward.down", (F, D))):
            found[f"{there}{theirs}.weight"] = shape, {f"{here}{ours}.kernel": whole}
            found[f"{there}{theirs}.bias"] = shape[1:], {f"{here}{ours}.bias": whole}
    for theirs, ours in norms.items():
        found[theirs + ".weight"], found[theirs + ".bias"] = ((D,), {ours + ".scale": whole}), ((D,), {ours + ".shift": whole})
    return found


def canonical(name: str) -> str:
    return name.removeprefix("transformer.")


TIED = "lm_head.weight", "wte.weight"                      # where a file of a tied model holds both, they must be equal
