"""What each way of attending costs by length, counted and not timed: tiles, arithmetic, bytes moved, memory of the compiled program.

    python -m benchmarks.cost [LENGTH ...]              default: 1024 2048 4096 8192 16384 32768

One JSON line per method and length, float32, one pass forward, 4 heads of 64:

tiles      pairs of 512 queries and 512 keys whose scores are computed, of `tiles_all`; the mask says which
GFLOP      of the two products over those tiles, 4 K operations per pair; what a tile computes and then hides is counted
moved_MB   between a small fast memory and a large slow one, as arXiv 2205.14135 counts it (section 3.2, theorem 2). Dense, algorithm 0: Q and K read,
           S written and read, P written and read, V read, O written: 4 T K + 4 T^2 numbers a head. In tiles: of each query tile Q read and O written
           once, of each tile visited its K and V read; with all tiles that is 2 T K (1 + T / 512), the theorem's T^2 K^2 / M for a fast memory of
           M = 512 K numbers
temp_MB    what the program that XLA compiled for this machine holds beside arguments and results, at its peak (memory_analysis)
"""
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import device, versions
from lcref.ops.attention import attend, attend_chunked
from lcref.ops.masks import causal, sinks, window
from lcref.ops.tiles import live_tiles
from lcref.provenance import cores

H, K, TILE, BYTES = 4, 64, 512, 4
LENGTHS = tuple(2**i for i in range(10, 16))
METHODS = {                                                # name -> (form, mask)
    "dense": (attend, causal()),
    "causal tiles": (attend_chunked, causal()),
    "window 512": (attend_chunked, causal() & window(512)),
    "4 sinks, window 512": (attend_chunked, causal() & (sinks(4) | window(512))),
}


def tiles(name, T):
    """(how many are visited, how many there are)"""
    form, mask = METHODS[name]
    side = -(-T // TILE)
    full, part = live_tiles(mask, np.arange(T), np.arange(T), TILE, TILE)
    return side**2 if form is attend else sum(map(len, full + part)), side**2


def operations(name, T):
    return 4 * H * K * (T * T if METHODS[name][0] is attend else tiles(name, T)[0] * TILE**2)


def moved(name, T):
    """Bytes between slow and fast memory."""
    if METHODS[name][0] is attend:
        return BYTES * H * (4 * T * K + 4 * T * T)
    return BYTES * H * (2 * T * K + tiles(name, T)[0] * 2 * TILE * K)


def temporary(name, T):
    """Bytes, as the compiler says."""
    form, mask = METHODS[name]
    q = jax.ShapeDtypeStruct((1, T, H, K), jnp.float32)
    return jax.jit(lambda q, k, v: form(q, k, v, mask=mask)).lower(q, q, q).compile().memory_analysis().temp_size_in_bytes


def main(lengths):
    for name in METHODS:
        for T in lengths:
            visited, there = tiles(name, T)
            print(json.dumps(dict(case="attention cost", name=name, T=T, tiles=visited, tiles_all=there, GFLOP=round(operations(name, T) / 1e9, 3),
                                  moved_MB=round(moved(name, T) / 1e6, 3), temp_MB=round(temporary(name, T) / 1e6, 3), heads=H, head_dim=K,
                                  device=device(), cores=cores(), versions=versions())), flush=True)


if __name__ == "__main__":
    main([int(length) for length in sys.argv[1:]] or LENGTHS)
