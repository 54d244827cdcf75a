"""SSD: every form is the recurrence, in values, final state and every gradient; it stays finite; packed is separate."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops.ssm import chunks
from lcref.ops.ssm.short_conv import short_conv
from lcref.ops.ssm.ssd import FORMS, ssd_chunked, ssd_recurrent
from lcref.ops.ssm.tracking import SIGNED
from tests.compiling import quick
from tests.tolerances import assert_close

B, H, P, G, N = 2, 4, 3, 2, 5
FAST = [name for name in FORMS if name != "recurrent"]
ALL = {**FORMS, **{f"signed {name}": form for name, form in SIGNED.items()}}


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def inputs(T, batch=B, H=H, P=P, G=G, N=N, dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    x = dict(x=normal(batch, T, H, P), dt=jax.nn.softplus(normal(batch, T, H) - 2), A=-jnp.exp(normal(H)), B=normal(batch, T, G, N),
             C=normal(batch, T, G, N), D=normal(H), initial_state=normal(batch, H, P, N))
    return {name: value.astype(dtype) if name in "xBC" else value for name, value in x.items()}


def numpy_ssd(x, dt, A, B, C, D, initial_state, segments=None, decay=np.exp):
    """One number at a time, float64."""
    x, dt, A, B, C, D, h = (np.asarray(z, np.float64) for z in (x, dt, A, B, C, D, initial_state))
    h, y, R = h.copy(), np.zeros(x.shape), x.shape[2] // B.shape[2]
    for b, t, head in np.ndindex(x.shape[:3]):
        if segments is not None and t and segments[b, t] != segments[b, t - 1]:
            h[b, head] = 0
        h[b, head] = decay(dt[b, t, head] * A[head]) * h[b, head] + dt[b, t, head] * np.outer(x[b, t, head], B[b, t, head // R])
        y[b, t, head] = h[b, head] @ C[b, t, head // R] + D[head] * x[b, t, head]
    return y, h


def run(form, x, **kwargs):
    return quick(lambda x: form(**x, **kwargs))(x)


def gradients(form, x, **kwargs):
    """(values, gradients of every argument) of one form, pulled back along fixed cotangents."""
    def both(x):
        out, back = jax.vjp(lambda x: form(**x, **kwargs), x)
        return out, back(jax.tree.map(lambda z: jnp.asarray(np.random.default_rng(9).normal(size=z.shape), z.dtype), out))[0]
    return quick(both)(x)


@functools.cache
def results(form, T, chunk, packed, dtype):
    kwargs = dict(segments=np.sort(np.random.default_rng(T).integers(0, 4, (B, T)), axis=1)) if packed else {}
    return gradients(ALL[form], inputs(T, dtype=dtype), chunk=chunk, **kwargs)


# -------------------------------------------------------------------------------------------------------- the definition

def test_a_half_each_step():
    one = jnp.ones((1, 4, 1, 1))
    for form in FORMS.values():
        y, h = run(form, dict(x=one, dt=one[..., 0], A=jnp.log(jnp.asarray([0.5])), B=one, C=one))
        assert_close(y[0, :, 0, 0], np.array([1, 1.5, 1.75, 1.875]))
        assert_close(h, np.full((1, 1, 1, 1), 1.875))


@pytest.mark.parametrize("form", FORMS)
def test_forms_are_the_definition_in_numpy(form):
    x, segments = inputs(7), np.array([[1] * 3 + [2] * 4, [5] + [0] * 6])
    for extra in ({}, dict(segments=segments)):
        assert_close(run(FORMS[form], x, **extra, chunk=3), numpy_ssd(**x, **extra))


@pytest.mark.parametrize("form", SIGNED)
def test_signed_decays(form):
    x, segments = inputs(9), np.array([[1] * 3 + [2] * 6, [5, 5] + [0] * 7])
    for extra in ({}, dict(segments=segments)):
        assert_close(run(SIGNED[form], x, **extra, chunk=4), numpy_ssd(**x, **extra, decay=lambda a: 2 * np.exp(a) - 1))


@pytest.mark.parametrize("form", SIGNED)
def test_a_negative_decay_counts_modulo_two(form):
    """Ones flip the sign of the state, zeros keep it: dt = 40 gives -1, dt = 0 gives +1."""
    bits = np.random.default_rng(0).integers(0, 2, 300)
    one = jnp.ones((1, 300, 1, 1))
    dt = 40.0 * jnp.asarray(bits, jnp.float32)[None, :, None]
    y, _ = run(SIGNED[form], dict(x=0 * one, dt=dt, A=jnp.asarray([-1.0]), B=one, C=one, initial_state=jnp.ones((1, 1, 1, 1))))
    assert_close(y[0, :, 0, 0], 1 - 2 * (np.cumsum(bits) % 2))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["A", "dt"])
def test_nan_is_not_mistaken_for_a_decay_of_one(form, name):
    x = inputs(12)
    y, h = run(FORMS[form], x | {name: jnp.full_like(x[name], jnp.nan)}, chunk=4)
    assert np.isnan(y[:, 1:]).all() and np.isnan(h).all()


def test_chunks_need_a_token():
    for form in (lambda: ssd_chunked(**inputs(0)), lambda: chunks.run(jnp.zeros((1, 0, 3)), None, 4)):
        with pytest.raises(ValueError, match="at least one token, got T=0"):
            form()


def test_a_decay_of_nothing():
    """dt A = -ln 2: the decay passes through 0, where it has no logarithm and its gradient is what the rest of the row says."""
    x = inputs(40) | dict(A=jnp.full(H, -1.0))
    x["dt"] = x["dt"].at[:, ::7].set(np.log(2.0)).at[:, 3].set(np.log(2.0) * (1 + 1e-6))
    got, want = (gradients(form, x, chunk=16) for form in (SIGNED["chunked"], SIGNED["recurrent"]))
    assert np.abs(np.asarray(want[1]["dt"][:, ::7])).min() > 1e-4
    assert_close(got, want)


# ----------------------------------------------------------------------------------------------------------- forms agree

@pytest.mark.parametrize("T, packed", [*((T, False) for T in (1, 2, 63, 64, 65, 200)), (65, True), (200, True)])
@pytest.mark.parametrize("form", FAST)
def test_forms_agree(form, T, packed):
    assert_close(results(form, T, 64, packed, jnp.float32), results("recurrent", T, 64, packed, jnp.float32))


@pytest.mark.parametrize("T, packed", [(1, False), (2, True), (63, False), (64, False), (65, True), (200, True)])
def test_signed_forms_agree(T, packed):
    assert_close(results("signed chunked", T, 64, packed, jnp.float32), results("signed recurrent", T, 64, packed, jnp.float32))


@pytest.mark.parametrize("form", FAST)
def test_forms_agree_in_bfloat16(form):
    """Inputs and y in bfloat16, dt, decays and states in float32."""
    got, want = (results(name, 65, 64, True, jnp.bfloat16) for name in (form, "recurrent"))
    assert got[0][0].dtype == jnp.bfloat16 and got[0][1].dtype == jnp.float32
    assert_close(got, want, "bfloat16")
    exact, _ = run(ssd_recurrent, inputs(65), segments=np.sort(np.random.default_rng(65).integers(0, 4, (B, 65)), axis=1))
    assert_close(got[0][0], exact, "bfloat16")


def test_signed_forms_agree_in_bfloat16():
    got, want = (results(f"signed {name}", 65, 64, True, jnp.bfloat16) for name in ("chunked", "recurrent"))
    assert got[0][0].dtype == jnp.bfloat16 and got[0][1].dtype == jnp.float32
    assert_close(got, want, "bfloat16")


def test_a_long_row():
    """The chunk's 64 steps of a running sum, 64 times over, and one token more."""
    x = inputs(4097, batch=1, H=2, G=1)
    assert_close(gradients(ssd_chunked, x), gradients(ssd_recurrent, x))


@pytest.mark.parametrize("dt, at_most", [(0.05, 1e-5), (1.0, 1e-4), (6.5, 1e-3)])
def test_what_a_chunks_running_sum_costs_in_digits(dt, at_most):
    """Half of the tokens decay by exp(-16 dt), at 6.5 by the cut; the others hardly: relative to the largest number of a token's output."""
    rng = np.random.default_rng(0)
    x = inputs(512, batch=1, H=1, G=1) | dict(dt=jnp.asarray(np.where(rng.random((1, 512, 1)) < 0.5, dt, 0.001), jnp.float32), A=jnp.asarray([-16.0]))
    x["D"], x["initial_state"] = jnp.zeros(1), jnp.zeros_like(x["initial_state"])
    want = numpy_ssd(**x)[0]
    off = lambda form: (np.abs(run(form, x)[0] - want).max(-1) / np.abs(want).max(-1)).max()
    assert off(ssd_chunked) < at_most
    assert off(ssd_recurrent) < max(1e-5, at_most / 5)


@pytest.mark.parametrize("chunk", [1, 2, 7, 16, 1000])
def test_the_chunk_does_not_matter(chunk):
    assert_close(run(ssd_chunked, inputs(30), chunk=chunk), run(ssd_recurrent, inputs(30)))


@pytest.mark.parametrize("form", ALL)
def test_states_carry_over_any_cut(form):
    x = inputs(30)
    whole, h = run(ALL[form], x, chunk=8), x.pop("initial_state")
    out = []
    for begin, end in ((0, 1), (1, 12), (12, 30)):
        y, h = run(ALL[form], {n: v[:, begin:end] if v.ndim > 1 else v for n, v in x.items()} | dict(initial_state=h), chunk=8)
        out.append(y)
    assert_close((jnp.concatenate(out, 1), h), whole)


def test_groups_are_shared_heads():
    """One group for all heads, against the same B and C given to every head."""
    x = inputs(20, G=1)
    wide = x | {name: jnp.repeat(x[name], H, axis=2) for name in "BC"}
    assert_close(run(ssd_chunked, x, chunk=8), run(ssd_chunked, wide, chunk=8))


def test_without_skip_and_initial_state():
    x = inputs(20)
    full = x | dict(D=jnp.zeros(H), initial_state=jnp.zeros((B, H, P, N)))
    bare = {name: value for name, value in x.items() if name not in ("D", "initial_state")}
    for form in FORMS.values():
        assert_close(run(form, bare), run(form, full))


# --------------------------------------------------------------------------------------------------------------- numerics

def finite(tree):
    return all(np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("form", ALL)
def test_extreme_steps_and_decays(form):
    """dt to 1e4 and none at all, decays of exp(-1e5): finite, and what follows a forgotten past has all its digits."""
    x = inputs(130)
    dt = x["dt"].at[:, ::5].set(1e4).at[:, 1::5].set(0.0).at[:, 40:90].set(1e-7)
    x |= dict(dt=dt, A=jnp.asarray([-1e3, -1e-9, -10.0, 0.0]))
    got = gradients(ALL[form], x)
    assert finite(got)
    assert_close(got[0], numpy_ssd(**x, decay=np.exp if form in FORMS else lambda a: 2 * np.exp(a) - 1))


@pytest.mark.parametrize("form", ["recurrent", "chunked"])
def test_a_hundred_thousand_tokens(form):
    x = inputs(100_000, batch=1, H=1, P=2, G=1, N=2)
    assert finite(gradients(FORMS[form], x | dict(A=jnp.asarray([-1e3]))))


def test_digits_survive_a_large_decay():
    """Right after a token that forgets everything, small decays are the difference of two large sums."""
    T = 64
    x = inputs(T, batch=1, H=1, P=1, G=1, N=1) | dict(A=jnp.asarray([-1.0]))
    x["dt"] = jnp.full((1, T, 1), 0.01).at[0, 3].set(1e6)
    y, want = run(ssd_chunked, x, chunk=T)[0], numpy_ssd(**x)[0]
    assert np.abs(y - want).max() < 1e-4 * np.abs(want).max(), "sums of float32 near 1e6 are off by 0.03, near 104 by 4e-6"


# ----------------------------------------------------------------------------------------------------------------- errors

@pytest.mark.parametrize("change, words", [
    (dict(A=jnp.zeros(3)), r"A must be \[4\] for x \[2, 6, 4, 3\]"),
    (dict(dt=jnp.zeros((2, 6))), r"dt must be \[2, 6, 4\]"),
    (dict(C=jnp.zeros((2, 6, 2, 4))), r"C must be \[2, 6, 2, 5\]"),
    (dict(B=jnp.zeros((2, 6, 3, 5)), C=jnp.zeros((2, 6, 3, 5))), "3 groups of B and C do not divide 4 heads"),
    (dict(D=jnp.zeros(1)), r"D must be \[4\] for x"),
    (dict(initial_state=jnp.zeros((2, 4, 5, 3))), r"initial_state must be \[2, 4, 3, 5\]"),
    (dict(segments=np.zeros((2, 5), int)), r"segments must be \[2, 6\], got \[2, 5\]"),
    (dict(x=jnp.zeros((6, 4, 3))), r"x must be \[B,T,H,P\]"),
])
@pytest.mark.parametrize("form", FORMS)
def test_shapes_that_do_not_fit(form, change, words):
    with pytest.raises(ValueError, match=words):
        FORMS[form](**{**inputs(6), **change})


def test_chunk_below_one():
    with pytest.raises(ValueError, match="chunk must be at least 1, got 0"):
        ssd_chunked(**inputs(3), chunk=0)


# ---------------------------------------------------------------------------------------------------- short convolution

@pytest.mark.parametrize("T", [1, 2, 3, 4, 9])
def test_short_convolution(T):
    """Against numpy's, rows shorter than the kernel included, and in two pieces."""
    rng = np.random.default_rng(T)
    x, kernel, bias, before = (rng.normal(size=shape).astype(np.float32) for shape in ((2, T, 3), (4, 3), (3,), (2, 3, 3)))
    for cache in (None, before):
        y, after = short_conv(jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias), cache=None if cache is None else jnp.asarray(cache))
        seen = np.concatenate([np.zeros_like(before) if cache is None else cache, x], 1)
        want = np.stack([[np.convolve(row[:, d], kernel[::-1, d], "valid") + bias[d] for d in range(3)] for row in seen]).swapaxes(1, 2)
        assert_close((y, after), (want, seen[:, -3:]))
        y1, middle = short_conv(jnp.asarray(x[:, :1]), jnp.asarray(kernel), jnp.asarray(bias), cache=None if cache is None else jnp.asarray(cache))
        y2, end = short_conv(jnp.asarray(x[:, 1:]), jnp.asarray(kernel), jnp.asarray(bias), cache=middle)
        assert_close((jnp.concatenate([y1, y2], 1), end), (y, after))


def test_short_convolution_of_packed_documents():
    rng = np.random.default_rng(0)
    x, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((1, 9, 2), (4, 2)))
    y, _ = short_conv(x, kernel, segments=np.array([[1, 1, 2, 2, 2, 2, 2, 3, 0]]))
    for begin, end in ((0, 2), (2, 7), (7, 8)):
        assert_close(y[:, begin:end], short_conv(x[:, begin:end], kernel)[0])


def test_short_convolution_says_what_does_not_fit():
    with pytest.raises(ValueError, match=r"wants a kernel \[W,2\] and a cache \[1,W-1,2\]; got \[4, 3\]"):
        short_conv(jnp.zeros((1, 5, 2)), jnp.zeros((4, 3)))
