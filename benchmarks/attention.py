"""Causal attention, forward and forward + backward: ours beside jax.nn and (where installed) torch's fused kernel.

    python -m benchmarks.attention [SHAPE ...]             shapes: benchmarks/shapes.py

Peers are timed in turn with ours in the same process. FLOPs counted: 4 B H K T^2 / 2 forward (the causal half), 3.5 times that with the
backward pass that recomputes the scores.
"""
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.shapes import ATTENTION
from benchmarks.timing import matmul, race, report
from lcref.ops.attention import attend_chunked
from lcref.ops.masks import causal
from lcref.provenance import cores


def ours(q, k, v):
    return attend_chunked(q, k, v, mask=causal())


def jax_contenders(B, T, H, K, backward):
    q, k, v, g = (jnp.asarray(np.random.default_rng(i).normal(size=(B, T, H, K)), jnp.float32) for i in range(4))
    forms = {"lcref attend_chunked": ours}
    if B * H * T * T <= 2**28:                             # above, its T x T matrices need gigabytes
        forms["jax.nn"] = partial(jax.nn.dot_product_attention, is_causal=True)
    runs = {}
    for name, form in forms.items():
        f = jax.jit(jax.grad(lambda q, k, v, form=form: (form(q, k, v) * g).sum(), (0, 1, 2)) if backward else form)
        runs[name] = lambda f=f: jax.block_until_ready(f(q, k, v))
    return runs


def torch_contenders(B, T, H, K, backward):
    try:
        import torch
        import torch.nn.functional as F
    except ImportError:
        return {}
    torch.set_num_threads(cores())
    q, k, v, g = (torch.randn(B, H, T, K, requires_grad=backward) for _ in range(4))

    def run():
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        if backward:
            torch.autograd.grad(y, (q, k, v), g.detach())
    return {"torch sdpa": run}


def main(names):
    matmul()
    for name in names or ATTENTION:
        shape = ATTENTION[name]
        B, T, H, K = (shape[axis] for axis in "BTHK")
        for backward in (False, True):
            runs = jax_contenders(**shape, backward=backward) | torch_contenders(**shape, backward=backward)
            repeats = 5 if T >= 4096 else 11
            report(f"attention {'forward+backward' if backward else 'forward'} {name} {shape}", race(runs, repeats),
                   work=2 * B * H * K * T * T * (3.5 if backward else 1))


if __name__ == "__main__":
    main(sys.argv[1:])
