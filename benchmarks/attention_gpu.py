"""The attention kernels on an NVIDIA GPU: are they right, and how fast are they beside cuDNN, jax.nn and (where installed) torch?

    python -m benchmarks.attention_gpu [check] [time] [tiles]        all three by default
    python -m benchmarks.attention_gpu --tiny                        small and interpreted: that this file works, on any machine

check   output, log-sum-exp and gradients of every implementation against a float64 oracle in numpy; one JSON line each, with the error
        max |got - want| / (1 + max |want|) per array. float32 is asked for in full: XLA's default there, on a GPU, is TF32.
time    forward, and forward + backward, in bfloat16; inputs are on the device and compilation is excluded. Work counted: 4 B H K for each
        visible pair forward, 3.5 times that with the backward pass (in which some forms do more).
tiles   the same for other tiles of ours (queries x keys, warps, stages).

Programs are compiled in threads, ahead of what runs; a case that fails prints its error and the rest goes on. On an H200 with
16 cores, half of them busy, time and tiles took 103 s together; check was not done after 120 s.
"""
import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import partial

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")          # torch needs room beside

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.timing import device, race, report, versions  # noqa: E402
from lcref.kernels.attention import dot_product_attention  # noqa: E402
from lcref.kernels.flash_gpu import Passes, Tiles, flash_attention, passes  # noqa: E402
from lcref.ops.masks import causal, segments, window  # noqa: E402

TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


def normal(*shape, seed=0, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32), dtype)


def say(**line):
    print(json.dumps(line), flush=True)


def failed(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def attention(name, interpret=False, tiles=None):
    """(q, k, v, **kwargs) -> output, or (output, lse)"""
    if name != "pallas_gpu":
        return partial(dot_product_attention, implementation=name)

    def ours(q, k, v, return_lse=False, **kwargs):
        out, lse = flash_attention(q, k, v, tiles=tiles, interpret=interpret, **kwargs)
        return (out, lse) if return_lse else out
    return ours


# ----------------------------------------------------------------------------------------------------------------- are they right?

def documents(T):
    """Two rows of packed documents; the end of the second is padding, which sees nothing."""
    cut = T // 3
    return np.stack([np.repeat([1, 2], [cut, T - cut]), np.repeat([1, 2, 0], [T - 2 * cut, cut, cut])])


def check_cases(T):
    return {
        "causal": dict(H=4, G=4, K=64, T=T, mask=causal()),
        "window": dict(H=4, G=2, K=64, T=T, mask=causal() & window(T // 8)),
        "documents": dict(H=4, G=2, K=64, T=T, mask=causal() & segments(documents(T), documents(T))),
        "grouped-128": dict(H=8, G=2, K=128, T=T // 2, mask=causal()),
        "ragged-80": dict(H=2, G=1, K=80, T=T - 247 if T > 512 else T - 7, mask=causal(), soft_cap=5.0, slopes=np.array([0.5, 0.06], np.float32)),
    }


def oracle(q, k, v, dy, dlse, mask, soft_cap=None, slopes=None):
    """float64, by the definition: (out, lse, (dq, dk, dv, d_slopes)) for a loss sum(out dy) + sum(lse dlse)."""
    first = lambda x: np.moveaxis(np.asarray(x, np.float64), 2, 1)                       # [B,H,T,K]
    q, k, v, dy = map(first, (q, k, v, dy))
    (B, H, T, K), G = q.shape, k.shape[1]
    k, v = (np.repeat(x, H // G, 1) for x in (k, v))
    across, pos = lambda x: np.swapaxes(x, -1, -2), np.arange(T)
    s, t, distance = q @ across(k) * K**-0.5, 0, np.abs(pos[:, None] - pos)
    if soft_cap is not None:
        t = np.tanh(s / soft_cap)
        s = soft_cap * t
    if slopes is not None:
        s = s - np.asarray(slopes, np.float64)[:, None, None] * distance
    seen = np.asarray(mask(pos, pos))
    s = np.where(seen if seen.ndim == 2 else seen[:, None], s, -np.inf)
    top = np.maximum(s.max(-1, keepdims=True), np.finfo(np.float64).min)
    p = np.exp(s - top)
    total = p.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (top + np.log(total))[..., 0]
    p = p / np.where(total == 0, 1, total)
    out = p @ v
    ds = p * (dy @ across(v) - (dy * out).sum(-1, keepdims=True) + np.where(np.isinf(lse), 0, dlse)[..., None])
    d_slopes = None if slopes is None else -(ds * distance).sum((0, 2, 3))
    ds = ds * (1 - t * t)
    of_group = lambda x: np.moveaxis(x.reshape(B, G, H // G, *x.shape[2:]).sum(2), 1, 2)
    return np.moveaxis(out, 1, 2), lse, (np.moveaxis(ds @ k, 1, 2) * K**-0.5, of_group(across(ds) @ q) * K**-0.5, of_group(across(p) @ dy), d_slopes)


def check_program(form, return_lse, dtype, mask, soft_cap, shape):
    """A compiled (q, k, v, slopes, dy, dlse) -> (out, lse, gradients), as `oracle`."""
    def run(q, k, v, slopes, dy, dlse):
        def f(q, k, v, slopes):
            out = form(q, k, v, mask=mask, soft_cap=soft_cap, slopes=slopes, return_lse=return_lse)
            return out if return_lse else (out, jnp.zeros_like(dlse))
        (out, lse), back = jax.vjp(f, q, k, v, slopes)
        return out, lse, back((dy, jnp.where(jnp.isneginf(lse), 0.0, dlse)))
    with jax.default_matmul_precision("highest") if dtype == "float32" else nullcontext():
        return jax.jit(run).lower(*shape).compile()


def errors(got, want, return_lse):
    names = "out lse dq dk dv d_slopes".split()
    found = {}
    for name, a, b in zip(names, (*got[:2], *got[2]), (*want[:2], *want[2])):
        if b is None or (name == "lse" and not return_lse):
            continue
        a, b = np.asarray(a, np.float64), np.asarray(b)
        same = np.isneginf(a) & np.isneginf(b)
        a, b = np.where(same, 0, a), np.where(same, 0, b)
        found[name] = float(np.abs(a - b).max() / (1 + np.abs(b).max()))                # NaN and a lone infinity show as such
    return found


def begin_checks(pool, tiny):
    """[(case, type, implementation, arguments, its program to come)]"""
    waiting = []
    for name, case in check_cases(64 if tiny else 1024).items():
        H, G, K, T, mask = (case[key] for key in ("H", "G", "K", "T", "mask"))
        slopes = None if "slopes" not in case else jnp.asarray(case["slopes"])
        for dtype in ("float32", "bfloat16"):
            x = [normal(2, T, n, K, seed=i, dtype=dtype) for i, n in enumerate((H, G, G))]
            args = *x, slopes, normal(2, T, H, K, seed=3, dtype=dtype), normal(2, H, T, seed=4)
            for of in ("pallas_gpu", "cudnn", "chunked", "dense"):
                lse = of != "cudnn"
                program = pool.submit(check_program, attention(of, interpret=tiny), lse, dtype, mask, case.get("soft_cap"), args)
                waiting.append((name, case, dtype, of, lse, args, program))
    return waiting


def check(waiting):
    """One line per case, type and implementation."""
    wants = {}
    for name, case, dtype, of, lse, args, program in waiting:
        line = dict(check=name, dtype=dtype, name=of, shape={key: case[key] for key in "TKHG"}, device=device())
        try:
            q, k, v, slopes, dy, dlse = args
            if (name, dtype, lse) not in wants:
                wants[name, dtype, lse] = oracle(q, k, v, dy, np.asarray(dlse) * lse, case["mask"], case.get("soft_cap"), slopes)
            found = errors(program.result()(*args), wants[name, dtype, lse], lse)
            say(**line, ok=all(error <= TOLERANCE[dtype] for error in found.values()), errors={key: float(f"{e:.2g}") for key, e in found.items()})
        except Exception as error:
            say(**line, ok=False, error=failed(error))


# ----------------------------------------------------------------------------------------------------------------- how fast are they?

def time_cases(tiny):
    if tiny:
        return [dict(B=1, H=2, T=64, K=16, window=None, backward=backward) for backward in (False, True)]
    several = [dict(B=4, H=16, T=T, K=K, window=None, backward=backward) for T in (2048, 8192) for K in (64, 128) for backward in (False, True)]
    return several + [dict(B=1, H=16, T=32768, K=K, window=n, backward=False) for n in (None, 512) for K in (64, 128)]


def pairs(T, window):
    """Visible pairs of a causal square."""
    return int(np.minimum(np.arange(T) + 1, window or T).sum())


def compiled(form, B, H, T, K, window, backward, dtype=jnp.bfloat16):
    """A program (q, k, v, g) -> output, or its gradients."""
    shape = jax.ShapeDtypeStruct((B, T, H, K), dtype)
    run = lambda q, k, v, g: form(q, k, v)
    if backward:
        run = lambda q, k, v, g: jax.grad(lambda q, k, v: (form(q, k, v) * g).astype(jnp.float32).sum(), (0, 1, 2))(q, k, v)
    return jax.jit(run).lower(*[shape] * 4).compile()


def masked(n):
    return causal() if n is None else causal() & window(n)


def contenders(case, tiny):
    """{name: (q, k, v) -> output}"""
    mask = masked(case["window"])
    forms = {f"lcref {name}": partial(attention(name, interpret=tiny), mask=mask) for name in ("pallas_gpu", "chunked")}
    forms["cudnn"] = partial(attention("cudnn"), mask=mask)
    if case["T"] <= 2048:                                  # above, its T x T matrices need tens of gigabytes
        forms["jax.nn xla"] = partial(jax.nn.dot_product_attention, is_causal=True, implementation="xla")
    return forms


def tile_contenders(case):
    """Other tiles of ours: for the forward pass, or for both kernels of the backward pass."""
    usual = passes(jnp.bfloat16, case["K"])
    if not case["backward"]:
        tried = [Tiles(128, 64, 4, 3), Tiles(128, 64, 8, 3), Tiles(128, 128, 8, 2), Tiles(64, 64, 4, 3), Tiles(128, 64, 8, 2), Tiles(128, 32, 4, 3)]
        return {f"lcref forward {tuple(tiles)}": usual._replace(forward=tiles) for tiles in tried}
    tried = [(usual.dq, usual.dkv), (Tiles(64, 64, 4, 3), Tiles(64, 64, 4, 3)), (Tiles(64, 64, 8, 2), Tiles(64, 64, 8, 2)),
             (Tiles(128, 32, 8, 3), Tiles(32, 128, 8, 3)), (Tiles(128, 64, 8, 2), Tiles(64, 128, 8, 2)), (Tiles(64, 128, 8, 2), Tiles(128, 64, 8, 2))]
    return {f"lcref dq {tuple(dq)} dkv {tuple(dkv)}": Passes(usual.forward, dq, dkv) for dq, dkv in tried}


def torch_contender(B, H, T, K, window, backward):
    try:
        import torch
        import torch.nn.functional as F
    except ImportError:
        return {}
    if window is not None or not torch.cuda.is_available():
        return {}
    q, k, v, g = (torch.randn(B, H, T, K, device="cuda", dtype=torch.bfloat16, requires_grad=backward) for _ in range(4))

    def run(n):
        for _ in range(n):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            if backward:
                torch.autograd.grad(y, (q, k, v), g.detach())
        torch.cuda.synchronize()
    return {"torch sdpa": run}


def several(program, args):
    def run(n):
        for _ in range(n):
            out = program(*args)
        jax.block_until_ready(out)
    return run


def measure(case, runs, label=""):
    """Each contender is called many times in a row, so that launching is hidden; lines as `report` prints them, per call."""
    calls = {}
    for name, run in list(runs.items()):
        try:
            run(2)
            begin = time.perf_counter()
            run(1)
            calls[name] = int(min(50, max(1, 0.02 / (time.perf_counter() - begin))))
        except Exception as error:
            say(case=label, name=name, error=failed(error))
            del runs[name]
    if not runs:
        return
    seconds = race({name: partial(run, calls[name]) for name, run in runs.items()}, repeats=5, warmup=1)
    work = 4 * case["B"] * case["H"] * case["K"] * pairs(case["T"], case["window"]) * (3.5 if case["backward"] else 1)
    report(label, {name: [each / calls[name] for each in times] for name, times in seconds.items()}, work=work / 1e3, unit="TFLOP/s")


def begin_times(pool, cases, forms_of):
    """[(case, {name: its program to come})]; forms_of(case) -> {name: form}"""
    return [(case, {name: pool.submit(compiled, form, **case) for name, form in forms_of(case).items()}) for case in cases]


def race_all(waiting, torch=False):
    for case, programs in waiting:
        label = f"attention {'forward+backward' if case['backward'] else 'forward'} {case}"
        args = [normal(case["B"], case["T"], case["H"], case["K"], seed=i, dtype=jnp.bfloat16) for i in range(4)]
        runs = {}
        for name, program in programs.items():
            try:
                runs[name] = several(program.result(), args)
            except Exception as error:
                say(case=label, name=name, error=failed(error))
        try:
            measure(case, runs | (torch_contender(**case) if torch else {}), label)
        except Exception as error:
            say(case=label, error=failed(error))


def tile_forms(case, tiny):
    return {name: partial(attention("pallas_gpu", tiny, tiles), mask=masked(case["window"])) for name, tiles in tile_contenders(case).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="check | time | tiles")
    parser.add_argument("--tiny", action="store_true", help="small and interpreted, on any machine")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - {"check", "time", "tiles"}:
        parser.error(f"unknown part {unknown.pop()!r}: check, time or tiles")
    asked.parts = asked.parts or ["check", "time", "tiles"]
    if not asked.tiny and jax.default_backend() != "gpu":
        return print("left out: it needs an NVIDIA GPU, and jax sees none (--tiny runs on any machine)")
    say(device=device(), versions=versions())
    begin, cases = time.perf_counter(), time_cases(asked.tiny)
    with ThreadPoolExecutor(2 if asked.tiny else 12) as pool:
        checks = begin_checks(pool, asked.tiny) if "check" in asked.parts else []
        times = begin_times(pool, cases, partial(contenders, tiny=asked.tiny)) if "time" in asked.parts else []
        tiles = begin_times(pool, [case for case in cases if case["T"] in (64, 8192)], partial(tile_forms, tiny=asked.tiny)) if "tiles" in asked.parts else []
        check(checks)
        wait([program for _, programs in times + tiles for program in programs.values()])         # a compiler tries things on the device
        say(compiled=round(time.perf_counter() - begin, 1))
    race_all(times, torch=not asked.tiny)
    race_all(tiles)
    say(seconds=round(time.perf_counter() - begin, 1))


if __name__ == "__main__":
    main()
