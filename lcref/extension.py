"""A published model read past its window, by every method that needs no training: `lcref extend smollm2-135m`.

For each method two things are measured, because a flat loss is no proof of memory:
    loss       nats per token on real text, on the last `scored` tokens of rows of each length, and along the longest row
    passkey    a five-digit number hidden at some depth of a long filler and asked for at the end: greedy decoding, first number written

Texts get harder and easier along the way. So the same tokens are read by the unchanged model with only half a window of context before
them, inside its window: the row called "control". What a method loses against it is what reading far has cost, or gained.

    METHODS        name -> (config, window, longest) -> config: position scheme and mixer changed, parameters untouched
    measure(...)   all cells, one results line each (method x text, method x length x depth); those that are there are not repeated

PI, NTK-aware and YaRN are given the factor longest / window; dynamic NTK finds it from the length of each row. LM-Infinite and
StreamingLLM keep a window (and 10, 4 first tokens); `window` keeps no first tokens: the control that should fail.
"""
import hashlib
import re
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lcref import config, provenance, results, running
from lcref.generate import generate
from lcref.nn.positions import LMInfinite, Rope, SelfExtend, StreamingLLM
from lcref.ops.rope_scaling import SCALINGS
from lcref.train import read_as


# ---------------------------------------------------------------------------------------------------------------- methods

def scaled(name, **fields):
    """Another scaling of the same rotation. `factor` and `original_length` are those of the moment, where the scaling has them.
    ValueError for a model that was published with a scaling of its own: without that it would fail inside its window."""
    def change(cfg, window, longest):
        kind, own = SCALINGS[name], cfg.position.scaling
        if own is not None:
            raise ValueError(f"method {name} would take the place of the model's own scaling of its rotation, {type(own).__name__}: leave it out")
        told = dict(factor=max(1.0, longest / window), original_length=window) | fields
        known = {field: value for field, value in told.items() if field in kind.__dataclass_fields__}
        return replace(cfg, position=replace(cfg.position, scaling=kind(**known)))
    return change


def windowed(sinks, scheme=None):
    """A window of what the model was trained on, the first `sinks` tokens beside it, and their distances by a scheme."""
    def change(cfg, window, longest):
        near = window if scheme is not StreamingLLM else window - sinks
        position = cfg.position if scheme is None else scheme(near=near, rope=cfg.position, **({"sinks": sinks} if scheme is StreamingLLM else {}))
        return replace(cfg, position=position, mixer=replace(cfg.mixer, window=near, sinks=sinks))
    return change


def self_extend(cfg, window, longest):
    """Neighbours up to window / 8 keep their distance; the group is the smallest power of two that reaches `longest`."""
    near, group = window // 8, 1
    while (window - near) * group + near < longest:
        group *= 2
    return replace(cfg, position=SelfExtend(near=near, group=group, rope=cfg.position))


METHODS = {
    "none": lambda cfg, window, longest: cfg,
    "linear": scaled("linear"),
    "ntk": scaled("ntk"),
    "dynamic_ntk": scaled("dynamic_ntk", factor=1.0),
    "by_parts": scaled("by_parts"),
    "yarn": scaled("yarn"),
    "self_extend": self_extend,
    "lm_infinite": windowed(10, LMInfinite),
    "streaming": windowed(4, StreamingLLM),
    "window": windowed(0),
}
CONTROL = "control"


# ------------------------------------------------------------------------------------------------------------------ cells

@dataclass(frozen=True)
class LossCell:
    """One method on one text. The config's digest names the cell."""
    method: str
    model: Any
    sha256: str                                # of the weights
    document: str
    lengths: tuple[int, ...]
    scored: int
    window: int                                # that the model was trained for


@dataclass(frozen=True)
class PasskeyCell:
    method: str
    model: Any
    sha256: str
    length: int
    depth: float
    sample: int
    tokens: int                                # written in answer
    window: int


@partial(jax.jit, static_argnums=0)
def nats_of_last(graph, params, tokens, targets):
    """Nats of the last targets.shape[1] tokens of a row [1,T]. Logits are made 2,048 tokens at a time: all of a long row's are gigabytes."""
    decoder, n = nnx.merge(graph, params), targets.shape[1]
    x = decoder.hidden(tokens)[:, -n:]
    parts = [optax.softmax_cross_entropy_with_integer_labels(decoder.logits(x[:, i:i + 2048]), targets[:, i:i + 2048]) for i in range(0, n, 2048)]
    return jnp.concatenate(parts, 1)[0]


def loss(decoder, tokens, cell):
    """Metrics of one text: `loss` by length, and `loss_along` the longest row. Frequencies that depend on a row's length need a row each."""
    graph, params = nnx.split(decoder)
    read = lambda begin, end, n: np.asarray(nats_of_last(graph, params, tokens[None, begin:end], tokens[None, end - n + 1:end + 1]))
    scored, longest = cell.scored, max(cell.lengths)
    spans = range(scored, longest + 1, scored)
    if cell.method == CONTROL:
        reach = scored + cell.window // 2
        by_end = {end: read(max(0, end - reach), end, scored).mean() for end in sorted({*spans, *cell.lengths})}
        return {"loss": {n: by_end[n] for n in cell.lengths}, "loss_along": {end: by_end[end] for end in spans}}
    whole = read(0, longest, longest)
    scaling = getattr(decoder.cfg.position, "rope", decoder.cfg.position).scaling                      # LM-Infinite and others hold a Rope
    dynamic = scaling is not None and scaling.dynamic
    ends = {n: read(0, n, scored) if dynamic else whole[n - scored:n] for n in cell.lengths if n != longest} | {longest: whole[-scored:]}
    return {"loss": {n: ends[n].mean() for n in sorted(ends)}, "loss_along": {end: whole[end - scored:end].mean() for end in spans}}


HEADER = "There is one important fact hidden in a lot of irrelevant text. Find it and remember it. You will be asked for it at the end.\n"
FILLER = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
KEY = "\nThe pass key is {key}. Remember it. {key} is the pass key.\n"
QUESTION = "\nWhat is the pass key? The pass key is"


def prompt(tokenizer, length, depth, sample):
    """(ids [length], the key): filler cut to fit, the key line at `depth` of it (0 first, 1 last).  arXiv 2305.16300, arXiv 2308.16137."""
    key = int(np.random.default_rng([sample, length, round(1000 * depth)]).integers(10_000, 100_000))
    head, line, question, filler = (tokenizer.encode(text) for text in (HEADER, KEY.format(key=key), QUESTION, FILLER))
    if tokenizer.bos is not None and head[0] == tokenizer.bos:                         # put before every text, wanted before the first
        line, question, filler = line[1:], question[1:], filler[1:]
    room = length - len(head) - len(line) - len(question)
    if room < 0:
        raise ValueError(f"a passkey prompt takes {length - room} tokens without any filler, length {length} is too short")
    filler, before = np.resize(filler, room), round(depth * room)
    return np.concatenate([head, filler[:before], line, filler[:room - before], question]).astype(np.int32), key


def passkey(decoder, tokenizer, cell):
    """{"passkey": {"length@depth": 1 if the first number written is the key}}"""
    ids, key = prompt(tokenizer, cell.length, cell.depth, cell.sample)
    written = tokenizer.decode(np.asarray(generate(decoder, ids[None, :], cell.tokens, temperature=0.0))[0])
    number = re.search(r"\d+", written)
    return {"passkey": {f"{cell.length}@{cell.depth:g}": float(number is not None and int(number[0]) == key)}}


# ---------------------------------------------------------------------------------------------------------------- measure

def documents(tokenizer, names, longest):
    """name -> token ids [longest + 1]. A name is a module of the standard library, or a path. ValueError for a text that is too short."""
    from lcref.data import corpora
    library = {name: text for split in corpora.load("stdlib").values() for name, text in split.items()}
    found = {}
    for name in names:
        if name not in library and not Path(name).is_file():
            raise ValueError(f"{name!r} is neither a module of the standard library that lcref knows nor a file")
        text = library[name].decode("utf-8", "replace") if name in library else Path(name).read_text(encoding="utf-8", errors="replace")
        ids = tokenizer.encode(text[:12 * longest])
        if len(ids) <= longest:
            raise ValueError(f"{name} has {len(ids)} tokens and rows of up to {longest} were asked for: choose a longer text")
        found[name] = np.asarray(ids[:longest + 1], np.int32)
    return found


def measure(model, out, *, methods, lengths, texts, depths, samples=1, scored=2048, tokens=12, say=lambda line: None):
    """Fill the results file `out` with every cell that is not in it yet; returns its lines. Raises before anything is measured where a
    name or a length makes no sense. An interruption loses the cell at hand. A cell is its config and the tokens that are read, so a file
    that was edited is measured again, and texts can be asked for in any order."""
    methods, lengths, texts, depths = (tuple(dict.fromkeys(values)) for values in (methods, lengths, texts, depths))
    if not isinstance(model.decoder.cfg.position, Rope):               # before anything asks for the window: a Mamba-2 has none
        raise ValueError(f"{model.name} has {type(model.decoder.cfg.position).__name__} positions: these methods change rotations")
    if model.tokenizer is None:
        raise ValueError(f"{model.name} has no tokenizer.json, which texts and passkeys need")
    if not texts and not (depths and samples > 0):
        raise ValueError("nothing to measure: give texts, or depths and samples of passkeys")
    for method in methods:
        config.legal(method, METHODS, "method")
    if not lengths or min(lengths) < 1:
        raise ValueError(f"lengths {lengths} must be one or more, of at least 1 token")
    if texts and (scored < 1 or min(lengths) < scored or max(lengths) % scored):
        raise ValueError(f"lengths {lengths} must be at least the {scored} tokens that are scored, the longest a multiple of it")
    if texts and scored > (most := model.window - model.window // 2):
        raise ValueError(f"the control reads half a window before the {scored} tokens that are scored, which leaves room for {most} of them "
                         f"in {model.name}'s window of {model.window}")
    for depth in depths:
        if not 0 <= depth <= 1:
            raise ValueError(f"depth is between 0 (the key comes first) and 1 (last), got {depth}")
    cfg, longest, made = model.decoder.cfg, max(lengths), provenance.provenance()
    rows = documents(model.tokenizer, texts, longest)
    styles = {method: METHODS[method](cfg, model.window, longest) for method in methods}
    loss_cells = [LossCell(method, styles.get(method, cfg), model.sha256, name, tuple(sorted(lengths)), scored, model.window)
                  for name in rows for method in [CONTROL, *methods]]
    key_cells = [PasskeyCell(method, styles[method], model.sha256, length, depth, sample, tokens, model.window)
                 for sample in range(samples) for length in sorted(lengths) for depth in depths for method in methods]
    cells = [(cell, texts.index(cell.document), fingerprint(rows[cell.document])) for cell in loss_cells]
    cells += [(cell, cell.sample, fingerprint(prompt(model.tokenizer, cell.length, cell.depth, cell.sample)[0])) for cell in key_cells]
    there = {identity(line) for line in running.writable(out)}
    wanted = {(cell.method, config.digest(cell), data) for cell, _, data in cells}
    waiting = [(cell, seed, data) for cell, seed, data in cells if (cell.method, config.digest(cell), data) not in there]
    for number, (cell, seed, data) in enumerate(waiting, 1):
        begun, decoder = time.monotonic(), read_as(model.decoder, cell.model)
        if isinstance(cell, LossCell):
            metrics, what = loss(decoder, rows[cell.document], cell), cell.document
        else:
            metrics, what = passkey(decoder, model.tokenizer, cell), f"passkey {cell.length}@{cell.depth:g}"
        results.append(out, {
            "experiment": f"extend/{model.name}", "run": cell.method, "size": "", "config": config.to_dict(cell), "seed": seed,
            "digest": config.digest(cell), "metrics": metrics, "seconds": round(time.monotonic() - begun, 2), "steps_per_second": None,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model.decoder, nnx.Param))), **made,
            "data": data, "date": provenance.now()})
        say(f"{number}/{len(waiting)}  {cell.method:<12} {what}  {time.monotonic() - begun:.0f} s")
    order = [CONTROL, *methods]
    return sorted((line for line in results.read(out) if identity(line) in wanted), key=lambda line: order.index(line["run"]))


def fingerprint(ids) -> str:
    return hashlib.sha256(np.ascontiguousarray(ids)).hexdigest()


def identity(line) -> tuple:
    """What makes a results line that of a cell. Its seed is only the place that its text had in the command."""
    return line["run"], line["digest"], line["data"]


def current(lines):
    """Of all lines of a results file, those that belong side by side: the weights of the newest line, for each run the model and lengths of
    its newest line (YaRN at factor 2 and at factor 4 are two methods), and each text or passkey once."""
    def kind(line):
        return line["run"], line["config"]["type"]

    def settings(line):
        return config.digest_of({name: value for name, value in line["config"].items() if name not in ("document", "length", "depth", "sample")})
    lines = [line for line in lines if line["config"]["sha256"] == lines[-1]["config"]["sha256"]]
    newest = {kind(line): settings(line) for line in lines}
    return list({(line["run"], line["digest"]): line for line in lines if settings(line) == newest[kind(line)]}.values())


def against_control(lines):
    """The same lines with a metric more, "over_control": loss / that of the control on the same tokens - 1, in percent. None where a loss
    is not finite."""
    def tokens(line, n):
        return *(line["config"][name] for name in ("sha256", "window", "scored", "document")), n

    def over(line, n, nats):
        least = control.get(tokens(line, n))
        return None if nats is None or least is None else 100 * (nats / least - 1)
    control = {tokens(line, n): nats for line in lines if line["run"] == CONTROL for n, nats in line["metrics"]["loss"].items()}
    return [line if line["run"] == CONTROL or "loss" not in line["metrics"] else
            line | {"metrics": line["metrics"] | {"over_control": {n: over(line, n, nats) for n, nats in line["metrics"]["loss"].items()}}}
            for line in lines]
