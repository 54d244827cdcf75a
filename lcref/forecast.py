"""What a training will cost, before it is run.

    parameters   numbers that are trained
    tokens       read in all: steps x batch x row, padding included
    FLOPs        of a step: 2 m n k for every matrix product, forward and backward, counted in the traced program; a loop counts as often as it
                 runs (a `while` without a known end once), element-wise work and Fourier transforms not at all
    memory       what the compiled step needs at once, arguments and temporaries, as the compiler reports it
    seconds      steps x the time of one here, measured: the fastest call but the first of CALLS, STEPS steps each. Evaluations are not in it

A step of more than LIMIT FLOPs is neither compiled nor timed: a laptop can then still say what a pod is asked for. Its memory is the floor
that any program has: parameters, gradients and two moments.
"""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

STEPS, CALLS = 2, 4
LIMIT = 2e12


@dataclass(frozen=True)
class Forecast:
    parameters: int
    tokens: int
    flops: float  # of one step
    memory: int  # bytes
    seconds: float | None  # of the whole training, one seed; None: not timed


def forecast(run) -> Forecast:
    """Of a Run's own training; of what it begins with, ask again. Compiles a step and takes CALLS x STEPS of them, in memory alone."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    from lcref.train import call, make_optimizer, parameter_groups

    rows = [run.data.batch(np.random.default_rng([0, i]), run.train.batch) for i in range(STEPS)]
    data, key, first = {name: np.stack([row[name] for row in rows]) for name in rows[0]}, jax.random.key(0), jnp.int32(0)
    shapes = nnx.eval_shape(lambda: run.model.build(rngs=nnx.Rngs(0)))
    graph, params = nnx.split(shapes, nnx.Param)
    leaves = jax.tree.leaves(params)
    optimizer = make_optimizer(run.train, tuple(parameter_groups(shapes).values()), jax.tree.structure(params))
    static = graph, optimizer, run.model.position
    state = jax.eval_shape(optimizer.init, params)
    traced = call.trace(*static, params, state, data, key, first)
    count, flops = sum(leaf.size for leaf in leaves), products(traced.jaxpr.jaxpr) / STEPS
    tokens = run.train.steps * run.train.batch * data["inputs"].shape[-1]
    if flops > LIMIT:
        return Forecast(count, tokens, flops, 4 * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves), None)
    compiled = traced.lower().compile()
    used = compiled.memory_analysis()
    params = nnx.state(run.model.build(rngs=nnx.Rngs(0)), nnx.Param)
    state = optimizer.init(params)
    seconds = []
    for _ in range(CALLS):
        begin = time.monotonic()
        params, state, *_ = jax.block_until_ready(compiled(params, state, data, key, first))
        seconds.append(time.monotonic() - begin)
    return Forecast(count, tokens, flops, used.argument_size_in_bytes + used.temp_size_in_bytes, min(seconds[1:]) / STEPS * run.train.steps)


def products(jaxpr) -> float:
    """FLOPs of the matrix products in a jaxpr and in all that it calls."""
    total = 0.0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (over, _), _ = eqn.params["dimension_numbers"]
            left = eqn.invars[0].aval.shape
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(left[i] for i in over) * bool(over)      # none: element-wise
        elif eqn.primitive.name == "conv_general_dilated":
            kernel, layout = eqn.invars[1].aval.shape, eqn.params["dimension_numbers"].rhs_spec
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel) / kernel[layout[0]]
        inner = [products(each) for value in eqn.params.values() for each in programs(value)]
        if eqn.primitive.name == "cond":
            total += max(inner)
        elif eqn.primitive.name == "scan":
            total += eqn.params["length"] * sum(inner)
        elif eqn.primitive.name == "pallas_call":
            total += math.prod(eqn.params["grid_mapping"].grid) * sum(inner)
        elif eqn.primitive.name == "shard_map":
            total += eqn.params["mesh"].size * sum(inner)
        else:
            total += sum(inner)
    return total


def programs(value):
    """The jaxprs in a parameter of an equation."""
    for each in value if isinstance(value, tuple | list) else (value,):
        each = getattr(each, "jaxpr", each)
        if hasattr(each, "eqns"):
            yield each


def of_experiment(experiment, size: str, seeds: int | None, overrides=(), only=()) -> Iterator[str]:
    """Lines: one for each training that the chosen runs need, when it has been timed, and the time of all. KeyError, ValueError as `run_all`."""
    from lcref import running, training

    runs = running.asked(experiment, size, seeds, overrides, only)
    trainings = dict(training.owners(runs).values())
    yield f"{experiment.name} ({size})"
    yield from table(((name, forecast(run)) for name, run in trainings.items()), list(trainings), experiment.seeds if seeds is None else seeds)


def table(found: Iterable[tuple[str, Forecast]], names: list[str], seeds: int) -> Iterator[str]:
    """A line for each training as it is found, and the sum over all of them and all seeds."""
    def amount(number: float, unit: str = "") -> str:
        for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
            if number >= size:
                return f"{number / size:.3g} {prefix}{unit}"
        return f"{number:.3g} {unit}".strip()

    def clock(seconds: float | None) -> str:
        if seconds is None:
            return "not timed"
        return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.0f} s"
    width, timed = max(map(len, names)), []
    yield f"{'':{width}}  {'parameters':>10}  {'tokens':>8}  {'FLOPs a step':>12}  {'memory':>8}  {'a seed':>9}"
    for name, each in found:
        yield (f"{name:{width}}  {amount(each.parameters):>10}  {amount(each.tokens):>8}  {amount(each.flops):>12}  {amount(each.memory, 'B'):>8}  "
               f"{clock(each.seconds):>9}")
        timed += [] if each.seconds is None else [each.seconds]
    rest = f", and {len(names) - len(timed)} that were not timed" if len(timed) < len(names) else ""
    whole = f"{clock(seeds * sum(timed))}{rest}" if timed else "not timed: a step is too large to try here"
    count = lambda n, word: f"{n} {word}{'s' if n != 1 else ''}"
    yield f"{count(len(names), 'training')}, {count(seeds, 'seed')}, one after another: {whole}; evaluations come on top"
