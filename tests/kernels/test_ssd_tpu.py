"""The TPU kernel of SSD, interpreted on any machine: output, final state and every gradient are those of the recurrence."""
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.kernels.ssd_tpu import ssd_pallas_tpu
from lcref.ops.ssm.ssd import ssd_chunked, ssd_recurrent
from tests.compiling import quick
from tests.ops.ssm.test_ssd import gradients, inputs
from tests.tolerances import assert_close


def kernel(**kwargs):
    return ssd_pallas_tpu(**kwargs, interpret=True)


@pytest.mark.parametrize("T, chunk", [(1, 16), (16, 16), (17, 16), (50, 16), (40, 256)])
def test_it_is_the_recurrence(T, chunk):
    x = inputs(T)
    assert_close(gradients(kernel, x, chunk=chunk), gradients(ssd_recurrent, x))


def test_widths_of_a_real_layer():
    """Values only: P = 64, N = 32, two groups of two heads, two chunks of 64."""
    x = inputs(100, batch=1, H=4, P=64, G=2, N=32)
    got, want = quick(lambda x: (ssd_pallas_tpu(**x, chunk=64, interpret=True), ssd_chunked(**x, chunk=64)))(x)
    assert_close(got, want)


def test_without_skip_and_from_zeros_in_bfloat16():
    x = inputs(20, dtype=jnp.bfloat16)
    del x["D"], x["initial_state"]
    (y, h), (want, state) = quick(lambda x: (ssd_pallas_tpu(**x, chunk=8, interpret=True), ssd_recurrent(**x)))(x)
    assert y.dtype == jnp.bfloat16 and h.dtype == jnp.float32
    assert_close((y, h), (want, state), "bfloat16")


def test_extreme_steps_stay_finite():
    x = inputs(40) | dict(dt=jnp.asarray(10.0 ** np.random.default_rng(0).uniform(-8, 4, (2, 40, 4)), jnp.float32))
    (_, _), found = gradients(kernel, x, chunk=16)
    assert all(np.isfinite(leaf).all() for leaf in found.values())


def test_packed_documents_are_refused():
    with pytest.raises(ValueError, match="one document a row"):
        ssd_pallas_tpu(**inputs(8), segments=np.ones((2, 8), int))
