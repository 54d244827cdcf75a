"""Mamba-2 (arXiv 2405.21060): blocks of a norm and a state-space layer, no feed-forward, no positions, no window.

Two programs write such folders, with the same tensors (but for the embedding's name) and different words in config.json:

    transformers                                   mamba_ssm (no model_type)
    hidden_size, num_hidden_layers                 d_model, n_layer
    state_size, head_dim, n_groups                 ssm_cfg: d_state, headdim, ngroups
    conv_kernel, expand, use_bias                  ssm_cfg: d_conv, expand, bias
    vocab_size, tie_word_embeddings                vocab_size rounded up to a multiple of pad_vocab_size_multiple, tie_embeddings

    backbone.embeddings.weight                     embedding.embedding [W, D]           mamba_ssm: backbone.embedding.weight
    backbone.layers.i.norm.weight                  blocks[i].mixer_norm.scale
    backbone.layers.i.mixer.{in,out}_proj          blocks[i].mixer.{inward,out}         transposed; z | x | B | C | dt in both
    backbone.layers.i.mixer.conv1d                 blocks[i].mixer.conv_kernel, conv_bias       [channels, 1, taps] -> [taps, channels]
    backbone.layers.i.mixer.{dt_bias,A_log,D}      the same
    backbone.layers.i.mixer.norm.weight            blocks[i].mixer.norm_scale
    backbone.norm_f.weight, lm_head.weight         norm.scale, readout.kernel           no lm_head where embeddings are tied

chunk_size says how sums are cut, not what they are, and residual_in_fp32 nothing where all is float32: this layer keeps its own.
What training began with (time_step_min, A_init_range, ...) is in the weights.
"""
from __future__ import annotations

import re

import numpy as np

from lcref.nn.decoder import DecoderConfig
from lcref.nn.layers import Rms
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.positions import Nope
from lcref.pretrained.source import Fields, short

BUFFERS = re.compile(r"(?!)")                              # none
UNLIMITED = [0.0, np.inf], [0.0, {"__float__": "Infinity"}]            # the second: transformers 5, since JSON has no infinity
UNUSED = {"conv_init", "A_init_range", "dt_min", "dt_max", "dt_init_floor", "use_mem_eff_path", "sequence_parallel"}
READ = {"layer", "d_state", "d_conv", "expand", "headdim", "d_ssm", "ngroups", "bias", "conv_bias", "rmsnorm", "norm_before_gate", "D_has_hdim",
        "dt_limit", "chunk_size"}


def by_mamba_ssm(fields: Fields) -> bool:
    return "ssm_cfg" in fields.values and not fields.given("model_type")


def config(fields: Fields) -> tuple[DecoderConfig, None]:
    """(DecoderConfig, None): a state has no window. ValueError for what the Decoder does not have."""
    return (mamba_ssm if by_mamba_ssm(fields) else transformers)(fields), None


def transformers(fields: Fields) -> DecoderConfig:
    d_model, expand, heads, head_dim = (fields.whole(name, default) for name, default in
                                        (("hidden_size", None), ("expand", 2), ("num_heads", 128), ("head_dim", 64)))
    if heads * head_dim != expand * d_model:
        raise ValueError(f"{fields.where}: num_heads * head_dim = {heads * head_dim} should be expand * hidden_size = {expand * d_model}")
    groups = divided(fields, "n_groups", 8, heads)
    fields.only("hidden_act", ("silu", "swish"), "the convolution and the gate use silu")
    fields.only("use_conv_bias", (True,), "the convolution has a bias")
    fields.only("rms_norm", (True,), "the gated norm cannot be left out")
    fields.only("time_step_limit", UNLIMITED, "step sizes are not cut off")
    fields.flag("norm_before_gate", False)                 # true in published files, and not what transformers computes: it gates first
    fields.flag("residual_in_fp32", True), fields.whole("chunk_size", 256)
    epsilon = fields.number("layer_norm_epsilon", 1e-5)
    mixer = Mamba2Config(state=fields.whole("state_size", 128), head_dim=head_dim, groups=groups, expand=expand, epsilon=epsilon,
                         conv=fields.whole("conv_kernel", 4), bias=fields.flag("use_bias", False))
    return DecoderConfig(vocab=fields.whole("vocab_size"), d_model=d_model, layers=fields.whole("num_hidden_layers"), mixer=mixer,
                         position=Nope(), feed_forward=None, norm=Rms(epsilon), tie_embeddings=fields.flag("tie_word_embeddings", False))


def mamba_ssm(fields: Fields) -> DecoderConfig:
    if not isinstance(fields.values["ssm_cfg"], dict):
        fields.wrong("ssm_cfg", "an object")
    inner = Fields(fields.values["ssm_cfg"], f"{fields.where}: ssm_cfg")
    if (kind := inner.text("layer", "Mamba1")) != "Mamba2":
        raise ValueError(f"{inner.where}: layer = {short(kind)} is not supported; Mamba2 is")
    if unknown := inner.values.keys() - READ - UNUSED:
        raise ValueError(f"{inner.where}: {short(min(map(str, unknown)))} is not a setting that is known")
    d_model, expand, head_dim = fields.whole("d_model"), inner.whole("expand", 2), inner.whole("headdim", 64)
    if expand * d_model % head_dim:
        raise ValueError(f"{inner.where}: headdim = {head_dim} does not divide expand * d_model = {expand * d_model}")
    groups = divided(inner, "ngroups", 1, expand * d_model // head_dim)
    fields.only("attn_layer_idx", ([],), "no layer of this family is attention")
    fields.only("d_intermediate", (0,), "blocks have no feed-forward layer")
    fields.only("rms_norm", (True,), "the norms are RMSNorm")
    inner.only("d_ssm", (expand * d_model,), "every channel goes through the recurrence")
    inner.only("D_has_hdim", (False,), "D is one number a head")
    inner.only("conv_bias", (True,), "the convolution has a bias")
    inner.only("rmsnorm", (True,), "the gated norm cannot be left out")
    inner.only("norm_before_gate", (False,), "the gate comes before the norm")
    inner.only("dt_limit", UNLIMITED, "step sizes are not cut off")
    fields.flag("residual_in_fp32", True), fields.flag("fused_add_norm", True), inner.whole("chunk_size", 256)
    vocab, multiple = fields.whole("vocab_size"), fields.whole("pad_vocab_size_multiple", 8)
    mixer = Mamba2Config(state=inner.whole("d_state", 128), head_dim=head_dim, groups=groups, expand=expand, conv=inner.whole("d_conv", 4),
                         bias=inner.flag("bias", False), epsilon=1e-5)
    return DecoderConfig(vocab=-(-vocab // multiple) * multiple, d_model=d_model, layers=fields.whole("n_layer"), mixer=mixer, position=Nope(),
                         feed_forward=None, norm=Rms(1e-5), tie_embeddings=fields.flag("tie_embeddings", True))


def divided(fields, name, default, heads):
    groups = fields.whole(name, default)
    if heads % groups:
        raise ValueError(f"{fields.where}: {name} = {groups} does not divide the {heads} heads")
    return groups


def layout(cfg: DecoderConfig) -> dict:
    """tensor -> (its shape, {parameter: how to cut it out of the tensor})"""
    D, (H, P, G, N), transposed, whole = cfg.d_model, cfg.mixer.shape(cfg.d_model), lambda w: w.T, lambda w: w
    E, channels = H * P, H * P + 2 * G * N
    found = {"backbone.embeddings.weight": ((cfg.vocab, D), {"embedding.embedding": whole}),
             "backbone.norm_f.weight": ((D,), {"norm.scale": whole})}
    if not cfg.tie_embeddings:
        found["lm_head.weight"] = (cfg.vocab, D), {"readout.kernel": transposed}
    for i in range(cfg.layers):
        there, here = f"backbone.layers.{i}.", f"blocks.{i}."
        found[there + "norm.weight"] = (D,), {here + "mixer_norm.scale": whole}
        there, here = there + "mixer.", here + "mixer."
        for theirs, ours, shape in (("in_proj", "inward", (E + channels + H, D)), ("out_proj", "out", (D, E))):
            found[f"{there}{theirs}.weight"] = shape, {f"{here}{ours}.kernel": transposed}
            if cfg.mixer.bias:
                found[f"{there}{theirs}.bias"] = shape[:1], {f"{here}{ours}.bias": whole}
        found[there + "conv1d.weight"] = (channels, 1, cfg.mixer.conv), {here + "conv_kernel": lambda w: w[:, 0].T}
        found[there + "conv1d.bias"] = (channels,), {here + "conv_bias": whole}
        found[there + "norm.weight"] = (E,), {here + "norm_scale": whole}
        found |= {there + name: ((H,), {here + name: whole}) for name in ("dt_bias", "A_log", "D")}
    return found


def canonical(name: str) -> str:
    """transformers' names, with the "backbone." that files of the model without its head leave out."""
    name = name if name.startswith(("backbone.", "lm_head.")) else "backbone." + name
    return "backbone.embeddings.weight" if name == "backbone.embedding.weight" else name


TIED = "lm_head.weight", "backbone.embeddings.weight"      # where a file of a tied model holds both, they must be equal
