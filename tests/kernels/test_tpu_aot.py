"""The TPU kernels through the vendor's own compiler, without a TPU: layouts, memory and types are what it checks; numbers are not."""
import importlib.util
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.tpu_aot, pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu: make test-tpu-aot")]
SCRIPT = '''
import sys
from functools import partial
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec, use_abstract_mesh
from lcref.kernels.flash_tpu import flash_attention
from lcref.kernels.softplus_tpu import softplus_attention
from lcref.kernels.ssd_tpu import ssd_pallas_tpu
from lcref.ops import masks
from lcref.ops.weights import Lssar

topology = topologies.get_topology_desc(sys.argv[1], platform="tpu")
mesh = Mesh(np.array(topology.devices[:1]), ("x",))
sharding = NamedSharding(mesh, PartitionSpec())
shape = lambda *s, dtype=jnp.float32: jax.ShapeDtypeStruct(s, dtype, sharding=sharding)

def compile(dtype, K, mask=masks.causal(), soft_cap=None, slopes=False, ids=False, T=2048, weights=None, backward=True, **tiles):
    """Whatever T is, the program holds a few copies of its arguments and results beside them: heads first, filled up to whole tiles and lanes."""
    attention = partial(flash_attention, **tiles) if weights is None else partial(softplus_attention, weights=weights)
    def f(q, k, v, slopes, ids):
        packed = mask if ids is None else mask & masks.segments(ids, ids)
        both = lambda q, k, v, slopes: attention(q, k, v, mask=packed, soft_cap=soft_cap, slopes=slopes)
        loss = lambda *x: sum(jnp.where(jnp.isneginf(y), 0, y).astype(jnp.float32).sum() for y in both(*x))
        return jax.value_and_grad(loss, (0, 1, 2))(q, k, v, slopes) if backward else both(q, k, v, slopes)
    q, k = shape(1, T, 8, K, dtype=dtype), shape(1, T, 2, K, dtype=dtype)
    with use_abstract_mesh(mesh.abstract_mesh):
        made = jax.jit(f).trace(q, k, k, shape(8) if slopes else None, shape(1, T, dtype=jnp.int32) if ids else None).lower(
            lowering_platforms=("tpu",)).compile()
    memory = made.memory_analysis()
    temp, kept = memory.temp_size_in_bytes, memory.argument_size_in_bytes + memory.output_size_in_bytes
    print("attention", dtype.__name__, K, T, "forward" + " and backward" * backward, f"temp {temp} arguments and results {kept}", flush=True)
    assert temp <= 3 * kept, "more than copies: a T x S matrix?"

def compile_ssd(P, N, chunk, T=1000):
    x = dict(x=shape(1, T, 8, P), dt=shape(1, T, 8), A=shape(8), B=shape(1, T, 2, N), C=shape(1, T, 2, N), D=shape(8),
             initial_state=shape(1, 8, P, N))
    f = lambda x: sum(z.sum() for z in ssd_pallas_tpu(**x, chunk=chunk))
    with use_abstract_mesh(mesh.abstract_mesh):
        jax.jit(jax.value_and_grad(f)).trace(x).lower(lowering_platforms=("tpu",)).compile()
    print("ssd", P, N, chunk, flush=True)

compile(jnp.bfloat16, 128)
compile(jnp.bfloat16, 128, T=131072, backward=False)
compile(jnp.bfloat16, 128, T=8192, block_q=1024, strip=256)
compile(jnp.bfloat16, 64, weights=Lssar(15), ids=True)
compile(jnp.float32, 64, masks.causal() & (masks.window(300) | masks.sinks(4)), soft_cap=5.0, slopes=True, ids=True, T=8192)
compile_ssd(64, 128, 256)
if sys.argv[1].startswith("v5e"):
    compile(jnp.bfloat16, 128, T=8192)
    compile(jnp.bfloat16, 80, ids=True)
    compile(jnp.float32, 32)
    compile(jnp.float32, 128, weights=Lssar(2.5), slopes=True, soft_cap=4.0)
    compile_ssd(64, 64, 64)
    compile_ssd(128, 16, 128)
'''


@pytest.mark.parametrize("chip", ["v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2"])
def test_the_kernels_compile_for(chip):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT, chip], capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
