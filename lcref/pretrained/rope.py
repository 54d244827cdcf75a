"""The rotation that a config asks for: transformers' rope_parameters (version 5) or rope_scaling and rope_theta (version 4) -> Rope.

    rope_type      scheme           what the file may say, besides factor            where it does not
    default        none             rope_theta, partial_rotary_factor                10000, 1
    linear         linear
    dynamic        dynamic_ntk                                                       (its training length is max_position_embeddings)
    yarn           yarn             beta_fast, beta_slow, truncate, mscale, ...      32, 1, true
    llama3         llama3           low_freq_factor, high_freq_factor                required
    longrope       longrope         short_factor, long_factor                        required; factor: max_position_embeddings / L

L, the training length, is original_max_position_embeddings, or max_position_embeddings where that is missing. attention_factor of
yarn and longrope is called magnitude here. Every other type, and every key that a scheme does not read, is an error: a model run with
another rotation still talks, only worse.
"""
from __future__ import annotations

from lcref.nn.positions import Rope
from lcref.ops.rope_scaling import SCALINGS
from lcref.pretrained.source import Fields, short

KINDS = {"linear": "linear", "dynamic": "dynamic_ntk", "yarn": "yarn", "llama3": "llama3", "longrope": "longrope"}
EVERYWHERE = {"rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "original_max_position_embeddings"}
REQUIRED = {"llama3": ("low_freq_factor", "high_freq_factor"), "longrope": ("short_factor", "long_factor")}
OPTIONAL = {"yarn": ("beta_fast", "beta_slow", "truncate", "mscale", "mscale_all_dim", "attention_factor"), "longrope": ("attention_factor",)}


def rope(config: Fields, window: int, head_dim: int) -> Rope:
    """Rope with its base, fraction and scaling. ValueError for a type, a key or a number that has no equal here."""
    given = [name for name in ("rope_scaling", "rope_parameters") if config.values.get(name)]
    inner = {}
    for name in given:
        if not isinstance(config.values[name], dict):
            config.wrong(name, "an object")
        inner |= {key: value for key, value in config.values[name].items() if value is not None}
    for name in ("rope_theta", "partial_rotary_factor"):
        if config.given(name):
            inner.setdefault(name, config.values[name])
    if config.given("original_max_position_embeddings"):               # beside the others it wins, as in transformers
        inner["original_max_position_embeddings"] = config.values["original_max_position_embeddings"]
    fields = Fields(inner, f"{config.where}: {' and '.join(given) or 'rope'}")
    base, fraction = fields.number("rope_theta", 10_000.0, above=1.0), fields.number("partial_rotary_factor", 1.0)
    kind, width = fields.text("rope_type", inner.get("type", "default")), int(head_dim * min(fraction, 1.0))
    if fraction > 1 or width % 2 or width < 2:
        raise ValueError(f"{fields.where}: partial_rotary_factor = {fraction:g} of {head_dim} numbers in a head is not an even part of it")
    if kind != "default" and kind not in KINDS:
        raise ValueError(f"{fields.where}: rope_type = {short(kind)} is not supported; default, {', '.join(KINDS)} are")
    legal = EVERYWHERE | {*REQUIRED.get(kind, ()), *OPTIONAL.get(kind, ())}
    if inner.keys() - legal:
        raise ValueError(f"{fields.where}: {short(min(map(str, inner.keys() - legal)))} is not a setting of rope_type {kind}")
    return Rope(base=base, fraction=fraction, scaling=None if kind == "default" else scaling(kind, fields, window, width))


def scaling(kind, fields: Fields, window, width):
    original = fields.whole("original_max_position_embeddings", window)
    values = dict(factor=fields.number("factor", max(window / original, 1.0) if kind == "longrope" else None))
    if kind == "dynamic" and original != window:
        fields.wrong("original_max_position_embeddings", f"max_position_embeddings ({window}) for rope_type dynamic")
    values["original_length"] = original
    for name in REQUIRED.get(kind, ()) + OPTIONAL.get(kind, ()):
        if name in ("short_factor", "long_factor"):
            values[name] = fields.numbers(name)
            if len(values[name]) != width // 2:
                fields.wrong(name, f"a list of {width // 2} numbers")
        elif name == "truncate":
            values[name] = fields.flag(name, True)
        elif fields.given(name) or name in REQUIRED.get(kind, ()):
            values[{"attention_factor": "magnitude"}.get(name, name)] = fields.number(name, above=-1.0 if name.startswith("mscale") else 0.0)
    if not (values.get("mscale") and values.get("mscale_all_dim")):    # one alone, or 0, says nothing (in transformers neither)
        values.pop("mscale", None), values.pop("mscale_all_dim", None)
    return SCALINGS[KINDS[kind]](**values)
