"""What reading a long text in one pass takes, by its length: memory of the compiled program, in the shape of a published model.

    python -m benchmarks.memory [LENGTH ...]              default: 2048 4096 8192 16384

The compiler says it: `temp` is all that a pass holds beside weights and tokens, at its peak. Nothing is run and no weights are needed.
The exponent compares with the shortest length, log(memory ratio) / log(length ratio): 1 is memory that grows in proportion to the text, 2 would
be a T x S matrix. The state is what decoding at that length carries (keys and values, float32).
"""
import json
import math
import sys

import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.decode import model
from benchmarks.shapes import DECODE
from benchmarks.timing import device, versions
from lcref.extension import nats_of_last
from lcref.nn.decoder import Decoder
from lcref.provenance import cores

LENGTHS = (2048, 4096, 8192, 16384)


def measure(name, T):
    """(bytes of the pass's temporaries, bytes of the weights, bytes of the decoding state) at T tokens."""
    cfg = model(**DECODE[name])
    graph, params = nnx.split(nnx.eval_shape(lambda: Decoder(cfg, rngs=nnx.Rngs(0))))
    row = jax.ShapeDtypeStruct((1, T), jnp.int32)
    memory = nats_of_last.lower(graph, params, row, row).compile().memory_analysis()
    state = jax.eval_shape(lambda: Decoder(cfg, rngs=nnx.Rngs(0)).init_state(1, T))
    size = lambda tree: sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    return memory.temp_size_in_bytes, size(params), size(state)


def report(name, lengths):
    """Print a JSON line per length; from the second on with the exponent since the first."""
    first = None
    for T in lengths:
        temp, weights, state = measure(name, T)
        first = first or (T, temp)
        grown = {} if T == first[0] else {"exponent": round(math.log(temp / first[1]) / math.log(T / first[0]), 3)}
        print(json.dumps(dict(case=f"memory of one pass {name} T={T}", name="lcref", temp_MB=round(temp / 1e6, 1), weights_MB=round(weights / 1e6, 1),
                              state_MB=round(state / 1e6, 1), **grown, device=device(), cores=cores(), versions=versions())), flush=True)


if __name__ == "__main__":
    report("smollm2-135m", [int(length) for length in sys.argv[1:]] or LENGTHS)
