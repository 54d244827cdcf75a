"""How close two computations of the same thing must be. One table, so that no single method can be given a wider one.

|got - want| <= atol + rtol * (the largest |want| of the array): gradients are sums of many terms that partly cancel, and what
float32 keeps exact is the scale of the terms. NaN and infinity never pass, except -inf where -inf is wanted.
"""
import jax
import numpy as np

TOLERANCE = {
    "float32": dict(rtol=1e-5, atol=1e-5),
    "bfloat16": dict(rtol=2e-2, atol=2e-2),
}


def assert_close(got, want, dtype="float32"):
    """Two pytrees of the same structure and shapes. numpy does the comparing: jnp.max may drop NaN on CPU."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(want)):
        a, b = np.asarray(a), np.asarray(b)
        a, b = (x.astype(np.float64) if x.dtype.kind in "fiuV" else x for x in (a, b))      # V: bfloat16
        assert a.shape == b.shape, f"{jax.tree_util.keystr(path)}: shapes {a.shape} and {b.shape}"
        scale = np.max(np.abs(b), where=np.isfinite(b), initial=0.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype]["atol"] + TOLERANCE[dtype]["rtol"] * scale, equal_nan=False,
                                   err_msg=jax.tree_util.keystr(path))
