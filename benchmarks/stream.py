"""A million tokens of real text through a Mamba-2 decoder, in pieces: how much memory the process holds on the way, and tokens per second.

    python -m benchmarks.stream [SHAPE ...]                shapes: benchmarks/shapes.py

Prints one JSON line: resident memory at every hundred thousand tokens, the largest of them over the first, and the size of the state.
Weights are random, which neither depends on. Linux only (/proc/self/statm).
"""
import json
import os
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.shapes import STREAM
from benchmarks.timing import device, versions
from lcref.data.text import Text
from lcref.evaluate import streamed
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.provenance import cores


def resident():
    """MB of this process in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(layers, d_model, state, tokens, every, piece):
    source = Text()
    cfg = DecoderConfig(vocab=source.vocab, d_model=d_model, layers=layers, mixer=Mamba2Config(state=state), feed_forward=None)
    decoder = Decoder(cfg, rngs=nnx.Rngs(0))
    graph, params = nnx.split(decoder)
    text, carried, held = source.stream(tokens), jax.tree.map(jnp.asarray, decoder.init_state(1, piece)), {}
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(carried))
    jax.block_until_ready(streamed(graph, params, carried, text[None, :piece], text[None, 1:piece + 1]))    # compiled, and thrown away
    begin = time.perf_counter()
    for first in range(0, tokens, piece):
        nats, carried = streamed(graph, params, carried, text[None, first:first + piece], text[None, first + 1:first + piece + 1])
        np.asarray(nats)
        if (first + piece) % every == 0:
            held[first + piece] = resident()
    return dict(MB={str(at): round(mb, 1) for at, mb in held.items()}, grown=round(max(held.values()) / next(iter(held.values())), 4),
                state_kB=round(size / 1e3, 1), tokens_per_s=round(tokens / (time.perf_counter() - begin)))


if __name__ == "__main__":
    for name in sys.argv[1:] or ["1M"]:
        print(json.dumps(dict(case=f"stream {name} {STREAM[name]}", name="lcref", **run(**STREAM[name]), device=device(), cores=cores(),
                              versions=versions())), flush=True)
