"""From a Source to a Decoder or an Encoder: which family a model belongs to, does the file hold exactly its tensors, then fill the parameters.

A family is a file with three things:
    config(fields) -> (DecoderConfig or EncoderConfig, window)    window None: there is none, a state carries all of the past
    layout(cfg) -> {tensor: (shape, {parameter: function of the tensor})}
    canonical(name), BUFFERS, TIED      spellings of a tensor's name; what is stored and not needed; the two that tying makes one

Names and shapes are compared for all tensors before the first is read, and the model is built without any numbers in it
(nnx.eval_shape), so that a config that promises a trillion parameters costs nothing. Parameters are float32.

GPT-NeoX is not here: its blocks add attention and feed-forward to the same input (parallel residual), and the Decoder's do not.
"""
from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lcref.nn.decoder import Decoder
from lcref.nn.encoder import Encoder
from lcref.pretrained import bert, gpt2, llama, mamba2
from lcref.pretrained.source import Fields, Source, short

FAMILIES = {"llama": llama, "gpt2": gpt2, "mamba2": mamba2}            # by transformers' model_type
ENCODERS = {"bert": bert}


def decoder(source: Source) -> tuple[Decoder, int | None]:
    """(Decoder with the file's weights, its window). ValueError that names what is not supported, missing, unexpected or misshapen."""
    return filled(source, FAMILIES)


def encoder(source: Source) -> tuple[Encoder, int]:
    """(Encoder with the file's weights, its window). ValueError as of `decoder`."""
    return filled(source, ENCODERS)


def filled(source: Source, families: dict):
    cfg, window, layout, tensors = plan(source, families)
    values = {path: cut for name in layout for path, cut in read(source, layout[name][1], tensors[name]).items()}
    return fill(cfg, values), window


def plan(source: Source, families: dict = FAMILIES) -> tuple:
    """(config, window, layout, tensors) of a file that holds exactly what its config asks for; no tensor is read."""
    fields = Fields(source.config, source.path)
    kind = "mamba2" if mamba2.by_mamba_ssm(fields) else fields.text("model_type")
    if kind not in families:
        why = "is an encoder" if kind in ENCODERS else "is a decoder" if kind in FAMILIES else "is not supported"
        raise ValueError(f"{source.path}: model type {short(kind)} {why}; {', '.join(families)} {'is' if len(families) == 1 else 'are'} read here")
    fields.only("quantization_config", (), "the weights are stored in a form that only its own library reads")
    family = families[kind]
    try:
        cfg, window = family.config(fields)
    except ValueError as error:
        raise error if source.path in str(error) else ValueError(f"{source.path}: {error}") from error
    if cfg.layers > len(source.tensors):
        raise ValueError(f"{source.path}: {cfg.layers} layers, and only {len(source.tensors)} tensors")
    layout, tensors = family.layout(cfg), matched(source, family, cfg)
    compare(source, layout, tensors)
    return cfg, window, layout, tensors


def matched(source, family, cfg) -> dict:
    """Tensors by the family's names, without stored buffers and without the second copy of tied embeddings."""
    found = {}
    for name, tensor in source.tensors.items():
        name = family.canonical(name)
        if name in found:
            raise ValueError(f"{source.path}: tensors {short(found[name].name)} and {short(tensor.name)} are the same parameter")
        if not family.BUFFERS.fullmatch(name):
            found[name] = tensor
    head, embedding = family.TIED or (None, None)
    if head in found and embedding in found and cfg.tie_embeddings:
        a, b = found.pop(head), found[embedding]
        if a.shape != b.shape or a.shape != (cfg.vocab, cfg.d_model) or not np.array_equal(a.array(), b.array()):
            raise ValueError(f"{source.path}: the config ties {short(a.name)} to {short(b.name)}, and they differ")
    return found


def compare(source, layout, tensors):
    missing, unexpected = [name for name in layout if name not in tensors], [name for name in tensors if name not in layout]
    if missing:
        raise ValueError(f"{source.path}: {some(missing, source.called)} missing")
    if unexpected:
        raise ValueError(f"{source.path}: {some(unexpected, lambda name: tensors[name].name)} not part of this model")
    for name, (shape, _) in layout.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{source.path}: tensor {short(tensors[name].name)} has shape {tensors[name].shape}, should have {shape}")


def some(names, called):
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"tensor{'s' * (len(names) > 1)} {', '.join(short(called(name)) for name in names[:4])}{rest} {'is' if len(names) == 1 else 'are'}"


def read(source, parts, tensor) -> dict:
    array = tensor.array()
    if not np.isfinite(array).all():
        raise ValueError(f"{source.path}: tensor {short(tensor.name)} holds NaN or infinity")
    return {path: jnp.asarray(np.ascontiguousarray(cut(array))) for path, cut in parts.items()}


class OneKey:
    """In place of nnx.Rngs where nothing is drawn: counting keys takes longer than all the rest of tracing the initialisers."""

    def params(self):
        return jax.random.key(0)


def fill(cfg, values: dict):
    """What `cfg` builds with `values`, "blocks.0.mixer.q.kernel" -> array, as its parameters: all of them, and no others."""
    made = nnx.eval_shape(lambda: cfg.build(rngs=OneKey()))
    for path, value in values.items():
        parameter = functools.reduce(lambda part, key: part[int(key)] if key.isdigit() else getattr(part, key), path.split("."), made)
        if parameter.shape != value.shape:
            raise ValueError(f"parameter {path} has shape {parameter.shape}, not {value.shape}")
        parameter.set_value(value)
    empty = [path for path, leaf in jax.tree.leaves_with_path(nnx.state(made)) if isinstance(leaf, jax.ShapeDtypeStruct)]
    if empty:
        raise ValueError(f"no value for {', '.join(map(jax.tree_util.keystr, empty))}")
    return made
