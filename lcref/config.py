"""Configs are nested frozen dataclasses; this file changes them by key, writes them down and reads them back.

    override(run, "model.mixer.heads", "8")       text from a command line, checked against the field's type
    override(run, "model.position", "alibi")      a part that is chosen by its type is set by its name in a table
    put(run, "model.position", Alibi())           the same with a value
    to_dict(run), from_dict(...)                  plain dicts for JSON; every dataclass carries its "type"
    digest(run)                                   12 hex digits that name the config: equal digests, equal configs

An unknown key or a value of the wrong type is an error that lists what is legal: a misspelt `--set` must never be a run that
silently did something else. Nothing here imports jax.
"""

import dataclasses
import difflib
import functools
import hashlib
import importlib
import json
import math
import types
import typing

# Where each kind of part that is chosen by its type has its table: "module:NAME", a plain dict from names to configs.
TABLES = {
    "task": "lcref.tasks:TASKS",
    "position": "lcref.nn.positions:POSITIONS",
    "mixer": "lcref.nn.mixers:MIXERS",
    "reader": "lcref.nn.read_process_write:READERS",
    "weights": "lcref.ops.weights:WEIGHTS",
    "feed_forward": "lcref.nn.layers:FEED_FORWARDS",
    "norm": "lcref.nn.layers:NORMS",
    "scaling": "lcref.ops.rope_scaling:SCALINGS",
    "mitigation": "lcref.ops.ssm.forgetting:MITIGATIONS",
    "evaluation": "lcref.evaluate:EVALS",
}
# Fields that hold a part of some kind under another name.
FIELD_KINDS = {"pattern": "mixer", "base": "position", "memory": "mitigation"}


def table(kind: str) -> dict:
    """The table of a kind of part, e.g. table("position") is POSITIONS. KeyError for an unknown kind."""
    module, _, name = TABLES[legal(kind, TABLES, "kind of part")].partition(":")
    return getattr(importlib.import_module(module), name)


def legal(name: str, names: typing.Iterable[str], what: str) -> str:
    """`name` when it is one of `names`, else KeyError."""
    if name not in names:
        raise KeyError(unknown(name, names, what))
    return name


def unknown(name: str, names: typing.Iterable[str], what: str) -> str:
    """The line that says that `name` is not one of `names`: it gives the nearest one, and all of them."""
    names = list(names)
    near = difflib.get_close_matches(name, names, n=1) or [n for n in names if name and name in n]
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"unknown {what} {name!r}{hint}; there is: {', '.join(names) or 'none'}"


# ---------------------------------------------------------------------------------------------------------------- change

def put(cfg, key: str, value):
    """`cfg` with the field at a dotted key replaced: put(run, "model.position", Alibi()). Whole numbers index tuples."""
    return _change(cfg, key, key, lambda old, hint, name: value)


def override(cfg, key: str, text: str):
    """`cfg` with the field at a dotted key set from text. KeyError: no such key; ValueError: not a value of its type."""
    return _change(cfg, key, key, lambda old, hint, name: _parse(text, hint, old, key, name))


def _change(cfg, rest: str, key: str, new):
    head, _, rest = rest.partition(".")
    if isinstance(cfg, tuple):
        index = [str(i) for i in range(len(cfg))]
        i = int(legal(head, index, f"index in {key}:"))
        value = _change(cfg[i], rest, key, new) if rest else new(cfg[i], type(cfg[i]), head)
        return cfg[:i] + (value,) + cfg[i + 1:]
    if not dataclasses.is_dataclass(cfg):
        raise KeyError(f"{key}: {cfg!r} has no fields, so there is no {head!r} in it")
    fields = {f.name: f for f in dataclasses.fields(cfg) if f.init}
    field, old = fields[legal(head, fields, f"key {key}: {type(cfg).__name__} field")], getattr(cfg, head)
    hint = hints(type(cfg)).get(head, typing.Any)
    hint = type(old) if hint is typing.Any and old is not None else hint
    value = _change(old, rest, key, new) if rest else new(old, hint | None if field.default is None else hint, head)
    return dataclasses.replace(cfg, **{head: value})


def hints(cls: type) -> dict:
    """Field types of a dataclass; empty where an annotation names something imported for type checkers only."""
    try:
        return typing.get_type_hints(cls)
    except NameError:
        return {}


def _parse(text: str, hint, old, key: str, name: str):
    """Text as a value of type `hint` (a plain type, X | None, tuple[X, ...], Literal), or a part chosen from a table."""
    kind = FIELD_KINDS.get(name, name)
    if kind in TABLES and not isinstance(old, (int, float, str)):  # Rope.base is a number, Randomized.base a position scheme
        return _pick(text, kind, hint, old, key)
    if dataclasses.is_dataclass(old):
        inside = ", ".join(f"{key}.{f.name}" for f in dataclasses.fields(old))
        raise ValueError(f"{key} is a {type(old).__name__}, which is not chosen by name; set one of its fields: {inside}")
    try:
        return _read(text, hint)
    except ValueError as error:
        raise ValueError(f"{key}={text!r} is not {_words(hint)}; it is {old!r} now") from error


def _pick(text: str, kind: str, hint, old, key: str):
    """A member of a table by name, or a tuple of members ("attention,attention") where the field holds a tuple."""
    several = isinstance(old, tuple) or any(tuple in (option, typing.get_origin(option)) for option in _options(hint))
    if text.lower() == "none" and type(None) in _options(hint):
        return None
    members, names = table(kind), text.split(",") if several else [text]
    try:
        made = tuple(members[legal(name.strip(), members, f"{kind} in {key}:")]() for name in names)
    except TypeError as error:
        raise ValueError(f"{key}={text!r} has fields without a default and cannot be chosen by name: {error}") from error
    return made if several else made[0]


def _options(hint) -> tuple:
    """The members of a union in the order they are tried: None first, str last, since every text is a str."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(sorted(typing.get_args(hint), key=lambda t: (t is not type(None), t is str)))
    return (hint,)


def _read(text: str, hint):
    """Text as the first member of a union that takes it. ValueError when none does."""
    for option in _options(hint):
        try:
            return _convert(text, option)
        except (ValueError, KeyError):
            pass
    raise ValueError(f"{text!r} is not {_words(hint)}")


def _convert(text: str, hint):
    """Text as one plain type. ValueError or KeyError when it is not one."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return {"none": None}[text.lower()]
    if hint is bool:
        return {"true": True, "false": False}[text.lower()]
    if hint in (int, float, str):
        return hint(text)
    if origin is typing.Literal:
        return {str(value): value for value in inside}[text]
    if tuple in (hint, origin):
        parts = [part.strip() for part in text.strip("()[] ").split(",") if part.strip()]
        each = inside[:1] * len(parts) if inside[-1:] == (Ellipsis,) else inside or (int | float | str,) * len(parts)
        if len(each) != len(parts):
            raise ValueError(f"{len(each)} values wanted, {len(parts)} given")
        return tuple(_read(part, h) for part, h in zip(parts, each))
    raise ValueError(f"no text stands for {hint}")


def _words(hint) -> str:
    """A type as the user should read it: int -> a whole number, tuple[int, ...] -> whole numbers with commas between."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "none"}
    inside = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, inside))
    if typing.get_origin(hint) is tuple:
        return f"values with commas between, each {_words(inside[0])}"
    return " or ".join(names.get(option, getattr(option, "__name__", str(option))) for option in _options(hint))


# ----------------------------------------------------------------------------------------------------- write down, read back

def to_dict(cfg):
    """Nested plain values for JSON. A dataclass becomes {"type": "module.Name", field: ...}; infinities become "inf"."""
    if dataclasses.is_dataclass(cfg) and not isinstance(cfg, type):
        fields = {f.name: to_dict(getattr(cfg, f.name)) for f in dataclasses.fields(cfg) if f.init}
        return {"type": f"{type(cfg).__module__}.{type(cfg).__qualname__}", **fields}
    if isinstance(cfg, (tuple, list, range)):
        return [to_dict(value) for value in cfg]
    if isinstance(cfg, dict):
        return {str(name): to_dict(value) for name, value in cfg.items()}
    if isinstance(cfg, float) and not math.isfinite(cfg):
        return str(cfg)
    if cfg is None or isinstance(cfg, (bool, int, float, str)):
        return cfg
    if callable(cfg) and hasattr(cfg, "__qualname__"):
        return {"type": f"{cfg.__module__}.{cfg.__qualname__}"}
    raise TypeError(f"a config cannot hold {cfg!r}: only dataclasses, functions, tuples, dicts, numbers and text can be written down")


def from_dict(data):
    """The config that `to_dict` wrote. Fields added to a class since then take their defaults; ValueError for fields it lost."""
    if isinstance(data, list):
        return tuple(from_dict(value) for value in data)
    if data in ("inf", "-inf", "nan"):
        return float(data)
    if not isinstance(data, dict):
        return data
    if "type" not in data:
        return {name: from_dict(value) for name, value in data.items()}
    module, _, name = data["type"].rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"this config was written with {data['type']}, which does not exist any more") from error
    if not isinstance(found, type):
        return found
    fields = {name: from_dict(value) for name, value in data.items() if name != "type"}
    known = {f.name for f in dataclasses.fields(found)}
    if gone := sorted(set(fields) - known):
        raise ValueError(f"this config sets {', '.join(gone)}, which {data['type']} does not have any more")
    return found(**fields)


def digest(cfg) -> str:
    """12 hex digits of the sha256 of a config. Module names and fields at their defaults are left out, so that neither moving a class nor
    a new field changes what a finished run is called. The price: a default, once released, stays what it is."""
    return digest_of(to_dict(cfg))


def digest_of(data) -> str:
    """`digest` of what `to_dict` wrote."""
    return hashlib.sha256(json.dumps(shortened(data), sort_keys=True).encode()).hexdigest()[:12]


def shortened(data):
    """What a digest is made of: types without their modules, and of the fields only those that are not at their default."""
    if not isinstance(data, dict):
        return [shortened(value) for value in data] if isinstance(data, list) else data
    usual = defaults(data["type"]) if "type" in data else {}
    found = {name: value.rpartition(".")[2] if name == "type" else shortened(value) for name, value in data.items()}
    return {name: value for name, value in found.items() if name not in usual or json.dumps(value, sort_keys=True) != usual[name]}


@functools.cache
def defaults(kind: str) -> dict[str, str]:
    """Field -> its default, shortened, as JSON, of the dataclass of that name; nothing for a class that cannot be found."""
    module, _, name = kind.rpartition(".")
    try:
        fields = dataclasses.fields(getattr(importlib.import_module(module), name))
    except (ImportError, AttributeError, ValueError, TypeError):
        return {}
    return {f.name: json.dumps(shortened(to_dict(f.default)), sort_keys=True) for f in fields if f.default is not dataclasses.MISSING}


def flat(cfg, prefix: str = "") -> dict[str, str]:
    """Every key that `override` takes, with its value as text: {"model.d_model": "64", ...}; parts show their type's name."""
    found = {}
    parts = enumerate(cfg) if isinstance(cfg, tuple) else ((f.name, getattr(cfg, f.name)) for f in dataclasses.fields(cfg) if f.init)
    for name, value in parts:
        key = f"{prefix}{name}"
        if dataclasses.is_dataclass(value):
            found |= {key: type(value).__name__, **flat(value, f"{key}.")}
        elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
            found |= flat(value, f"{key}.")
        else:
            found[key] = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return found
