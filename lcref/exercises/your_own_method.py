"""Exercises of notebook 15: a scheme with free heads, a test whether a bias knows distance alone, an ablation that changes what it says."""
import dataclasses
from types import SimpleNamespace

import numpy as np

from lcref.exercises import difference, verdict
from lcref.ops.bias import alibi, fire, hard_alibi, kerple


def half(answer) -> bool:
    """answer: a config class with one field, max_bias; its module's bias is ALiBi on the first half of the heads and 0 on the others."""
    for heads, chosen, T, batch in ((4, 8.0, 6, False), (8, 8.0, 5, False), (4, 2.0, 6, False), (6, 8.0, 7, True)):
        module = answer(max_bias=chosen).build(heads, 16, 16 * heads, rngs=None)
        if module is None:
            return verdict("build returns None: the answer is still to be written")
        pos = np.stack([np.arange(T), 3 + 2 * np.arange(T)]) if batch else np.arange(T)
        m = np.concatenate([alibi.slopes(heads // 2, chosen), np.zeros(heads - heads // 2, np.float32)])
        want = np.where(np.tri(T, dtype=bool), np.asarray(alibi.bias(pos, pos, m)), 0.0)
        got = module.bias(pos, pos)
        if got is not None and np.ndim(got) == want.ndim and np.shape(got)[-2:] == (T, T):
            got = np.where(np.tri(T, dtype=bool), np.asarray(got), 0.0)            # what the mask hides may be anything
        what = f"the bias of {heads} heads, max_bias {chosen:g}, {'positions [2,T]' if batch else f'positions 0..{T - 1}'}"
        if problem := difference(what, got, want):
            return verdict(problem)
    if answer(max_bias=3.0) != answer(max_bias=3.0) or answer(max_bias=3.0) == answer(max_bias=4.0):
        return verdict("configs stand in Runs and are compared by their fields: make it a dataclass")
    try:
        hash(answer())
    except TypeError:
        return verdict("the config cannot be hashed: make the dataclass frozen")
    return verdict(None)


def _fire(L):
    rng = np.random.default_rng(0)
    w1, b1, w2, b2 = (rng.normal(size=shape).astype(np.float32) for shape in ((8,), (8,), (8, 2), (2,)))
    return lambda q, k: fire.bias(q, k, c=0.1, length=float(L), w1=w1, b1=b1, w2=w2, b2=b2)


SCHEMES = {  # name -> (bias of two heads, does it know the distance alone)
    "ALiBi": (lambda q, k: alibi.bias(q, k, alibi.slopes(2)), True),
    "Hard-ALiBi": (lambda q, k: hard_alibi.bias(q, k, (3, 0)), True),
    "KERPLE": (lambda q, k: kerple.log(q, k, np.ones(2), np.ones(2)), True),
    "FIRE with threshold 8": (_fire(8), False),
    "FIRE with threshold 48": (_fire(48), False),
    "a bias of 1 on every second key": (lambda q, k: np.ones((2, len(q), 1), np.float32) * (np.asarray(k) % 2 == 0), False),
    "Hard-ALiBi that hides the first token": (
        lambda q, k: np.where(np.asarray(k) == 0, -np.inf, np.asarray(hard_alibi.bias(q, k, (3, 0)))), False),
}


def relative(answer) -> bool:
    """answer(module) -> does module.bias, over positions 0..63, say the same for all pairs (i, j <= i) of equal distance?"""
    for name, (bias, want) in SCHEMES.items():
        got = answer(SimpleNamespace(bias=bias))
        if got is None:
            return verdict("the answer is None: it is still to be written")
        if bool(got) != want:
            return verdict(f"{name}: you say {bool(got)}, and its bias is {'' if want else 'not '}a function of i - j alone")
    return verdict(None)


def ablation(runs) -> bool:
    """runs {name: Run}: RoPE and LookBack with 1, 2 and 3 layers each, otherwise alike."""
    if runs is None:
        return verdict("the answer is None: it is still to be written")
    cells = {name: (type(run.model.position).__name__, run.model.layers) for name, run in runs.items()}
    want = [(scheme, layers) for scheme in ("Rope", "LookBack") for layers in (1, 2, 3)]
    if absent := [cell for cell in want if cell not in cells.values()]:
        return verdict(f"no run has {absent[0][0]} positions and {absent[0][1]} layers; there is {cells}")
    if len(cells) != len(want):
        return verdict(f"{len(want)} runs are wanted, and there are {len(cells)}: {cells}")
    alike = {name: dataclasses.replace(run, model=dataclasses.replace(run.model, position=None, layers=1)) for name, run in runs.items()}
    first = next(iter(alike))
    for name, run in alike.items():
        for field in dataclasses.fields(run):
            if getattr(run, field.name) != getattr(alike[first], field.name):
                return verdict(f"{name} and {first} differ in {field.name} as well")
    for kind in ("Rope", "LookBack"):
        if len({run.model.position for run in runs.values() if type(run.model.position).__name__ == kind}) > 1:
            return verdict(f"the {kind} runs do not all have the same positions")
    return verdict(None)
