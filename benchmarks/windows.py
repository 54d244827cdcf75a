"""What a mask that hides most of a long square saves: causal attention on a CPU, all of it, within a window, within packed documents.

    python -m benchmarks.windows [SHAPE ...]               shapes: benchmarks/shapes.py

Tiles in which nothing is seen are not computed, so time falls with those that are. A query of 32,768 is given 16,640 keys on average in tiles of
512 x 512, 512 with documents of 512 that begin where tiles do, and 768 with a window of 512: tiles of 256 queries and 768 keys, one for each tile of
queries (`lcref.ops.tiles.sizes`; in tiles of 512 x 512 it would be 1,024). Smaller ones would compute less and were no faster on two cores: XLA
(jax 0.10.2) gives a product of 256 x 256 x 64 one of them, of 512 x 512 x 64 both.
"""
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.shapes import WINDOWS
from benchmarks.timing import race, report
from lcref.kernels.attention import dot_product_attention
from lcref.ops.masks import causal, segments, window

SIDE = 512                                                 # of a window, and of a document


def masks(T):
    ids = 1 + np.arange(T) // SIDE
    return {"causal": causal(), f"window {SIDE}": causal() & window(SIDE), f"documents of {SIDE}": causal() & segments(ids, ids)}


def main(names):
    for name in names or WINDOWS:
        shape = WINDOWS[name]
        q, k, v, g = (jnp.asarray(np.random.default_rng(i).normal(size=[shape[axis] for axis in "BTHK"]), jnp.float32) for i in range(4))
        for backward in (False, True):
            runs = {}
            for mask_name, mask in masks(shape["T"]).items():
                form = lambda q, k, v, mask=mask: dot_product_attention(q, k, v, mask=mask, implementation="chunked")
                f = jax.jit(jax.grad(lambda q, k, v, form=form: (form(q, k, v) * g).sum(), (0, 1, 2)) if backward else form)
                runs[f"lcref {mask_name}"] = lambda f=f: jax.block_until_ready(f(q, k, v))
            report(f"windows {'forward+backward' if backward else 'forward'} {name} {shape}", race(runs, repeats=5, warmup=1))


if __name__ == "__main__":
    main(sys.argv[1:])
