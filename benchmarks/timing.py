"""How every benchmark here measures: inputs made before, compilation and warm-up excluded, contenders in turn, median and range.

    rows = race({"ours": f, "peer": g}, repeats=7)         f, g, f, g, ... so that a drifting machine drifts for all

One JSON line per contender is printed by `report`: milliseconds (median, min, max), the ratio to a named peer, and where it ran.
"""
import importlib.metadata
import json
import platform
import statistics
import time

from lcref.provenance import cores


def race(contenders, repeats=5, warmup=2):
    """{name: function that blocks until done} -> {name: [seconds, ...]}"""
    for run in contenders.values():
        for _ in range(warmup):
            run()
    seconds = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def report(case, seconds, work=None, unit="GFLOP/s"):
    """Print one JSON line per contender; `work` (operations per run) adds the rate reached."""
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name, times in seconds.items():
        line = dict(case=case, name=name, ms=round(1e3 * medians[name], 2), ms_min=round(1e3 * min(times), 2), ms_max=round(1e3 * max(times), 2),
                    ratio={other: round(medians[name] / m, 3) for other, m in medians.items() if other != name and not other.startswith("lcref")},
                    device=device(), cores=cores(), versions=versions())
        if work:
            line[unit] = round(work / medians[name] / 1e9, 1)
        print(json.dumps(line), flush=True)


def device():
    import jax
    return f"{jax.devices()[0].device_kind} ({platform.machine()})"


def versions():
    found = {}
    for package in ("jax", "jaxlib", "flax", "torch", "transformers", "mamba2-jax"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def matmul():
    """What this machine's matrix products reach: the ceiling to read every other rate against."""
    import jax
    import jax.numpy as jnp
    a, product = jnp.ones((2048, 2048)), jax.jit(lambda a: a @ a)
    report("matmul 2048", race({"lcref (jax)": lambda: product(a).block_until_ready()} | torch_matmul()), work=2 * 2048**3)


def torch_matmul():
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(cores())
    a = torch.ones(2048, 2048)
    return {"torch": lambda: a @ a}
