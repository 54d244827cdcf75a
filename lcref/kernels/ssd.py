"""The door to SSD: the forms of lcref/ops/ssm/ssd.py by name, and the TPU kernel, which says so where there is no TPU.

    FORMS["chunked"](x, dt, A, B, C, D, initial_state=None, segments=None, chunk=64) -> (y, final state)
"""
import jax

from lcref.kernels.ssd_tpu import ssd_pallas_tpu
from lcref.ops.ssm import ssd


def pallas_tpu(*args, **kwargs):
    """ssd_pallas_tpu on a TPU; ValueError elsewhere."""
    if jax.default_backend() != "tpu":
        raise ValueError(f"SSD by pallas_tpu runs on TPU, and this is {jax.default_backend()}: choose {', '.join(ssd.FORMS)}")
    return ssd_pallas_tpu(*args, **kwargs)


FORMS = {**ssd.FORMS, "pallas_tpu": pallas_tpu}
