"""S4, S4D and S5: every form is the recurrence, in values, final state and every gradient; kernels are impulse responses."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from lcref.ops.ssm import hippo, s4, s4d, s5
from tests.compiling import quick
from tests.tolerances import assert_close

B, H, N = 2, 3, 8
FAMILIES = {"s4": s4, "s4d": s4d, "s5": s5}
FAST = [(family, form) for family, module in FAMILIES.items() for form in module.FORMS if form != "recurrent"]


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_rank_promotion("raise"):
        yield


def normal(*shape, seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=shape) + (1j * rng.normal(size=shape) if dtype == jnp.complex64 else 0), dtype)


def parameters(family, N=N, H=H):
    """What the family's system is made of, HiPPO's values among them."""
    M, spread = N // 2, lambda z: jnp.asarray(np.broadcast_to(z, (H, len(z))), jnp.complex64)
    legs = hippo.pairs(N)
    dt = jnp.asarray(np.geomspace(0.02, 0.2, H), jnp.float32)
    C = normal(H, M, dtype=jnp.complex64)
    if family == "s4":
        return dict(Lambda=spread(legs.Lambda), P=spread(legs.P), B=spread(legs.B), C=C, dt=dt)
    if family == "s4d":
        return dict(Lambda=spread(s4d.inv(N)), B=normal(H, M, seed=1, dtype=jnp.complex64), C=C, dt=dt)
    return dict(Lambda=jnp.asarray(legs.Lambda, jnp.complex64), B=normal(M, H, dtype=jnp.complex64), C=C,
                dt=jnp.asarray(np.geomspace(0.02, 0.2, M), jnp.float32))


def system(family, x):
    return s4.System(**x) if family == "s4" else FAMILIES[family].discretized(**x)


def initial(family):
    return normal(B, N // 2, seed=3, dtype=jnp.complex64) if family == "s5" else normal(B, H, N, seed=3)


def gradients(family, form, u, parameters, x0, **kwargs):
    """((y, final state), gradients of input, initial state and every parameter)."""
    def f(u, parameters, x0):
        return FAMILIES[family].FORMS[form](u, system(family, parameters), initial_state=x0, **kwargs)

    def both(*args):
        out, back = jax.vjp(f, *args)
        return out, back(tuple(normal(*z.shape, seed=9, dtype=z.dtype) for z in out))
    return quick(both)(u, parameters, x0)


def close(got, want):
    """As assert_close, but for dt's gradient. dt enters as dt Lambda: its gradient is the sum over modes of Lambda dL/dLambda / dt, large
    numbers that cancel, and the scale of what is summed is theirs."""
    (out, (u, slopes, x0)), (want_out, (want_u, want_slopes, want_x0)) = got, want
    rest = lambda slopes: {name: value for name, value in slopes.items() if name != "dt"}
    assert_close((out, u, rest(slopes), x0), (want_out, want_u, rest(want_slopes), want_x0))
    terms = np.abs(np.asarray(want_slopes["Lambda"]) * hippo.pairs(N).Lambda / 0.02).sum(-1).max()
    np.testing.assert_allclose(slopes["dt"], want_slopes["dt"], rtol=0, atol=1e-5 * (1 + terms))


@functools.cache
def results(family, form, T, packed=False):
    kwargs = dict(segments=np.sort(np.random.default_rng(T).integers(0, 4, (B, T)), axis=1)) if packed else {}
    return gradients(family, form, normal(B, T, H, seed=T), parameters(family), initial(family), **kwargs)


# ----------------------------------------------------------------------------------------------------------- the definition

def test_s5_is_its_recurrence_in_numpy():
    """x_t = exp(dt Lambda) x_{t-1} + (exp(dt Lambda) - 1) / Lambda B u_t, y_t = 2 Re(C x_t): both of each pair are counted."""
    x, u = parameters("s5"), np.asarray(normal(B, 9, H))
    Lambda, b, c, dt = (np.asarray(x[name], np.complex128) for name in ("Lambda", "B", "C", "dt"))
    A = np.exp(dt * Lambda)
    state, want = np.zeros((B, N // 2), complex), []
    for t in range(9):
        state = A * state + u[:, t] @ (((A - 1) / Lambda)[:, None] * b).T
        want.append(2 * (state @ c.T).real)
    for form in s5.FORMS.values():
        assert_close(form(jnp.asarray(u), system("s5", x))[0], np.stack(want, 1))


# ----------------------------------------------------------------------------------------------------------- forms agree

@pytest.mark.parametrize("T", [1, 2, 63, 64, 65, 200])
@pytest.mark.parametrize("family, form", FAST)
def test_forms_agree(family, form, T):
    close(results(family, form, T), results(family, "recurrent", T))


@pytest.mark.parametrize("family, form", [(family, form) for family, form in FAST if form != "fft"])
def test_forms_agree_on_packed_rows(family, form):
    close(results(family, form, 130, True), results(family, "recurrent", 130, True))


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_in_bfloat16(family):
    """Computed in float32: y and state as from the same numbers in float32, and near those of the numbers before rounding."""
    made, u, x0 = system(family, parameters(family)), normal(B, 65, H), initial(family)
    for name, form in FAMILIES[family].FORMS.items():
        f = lambda u: form(u, made, initial_state=x0)
        got, same = quick(f)(u.astype(jnp.bfloat16)), quick(f)(u.astype(jnp.bfloat16).astype(jnp.float32))
        assert got[0].dtype == jnp.float32
        assert_close(got, same)
        assert_close(got, quick(f)(u), "bfloat16")


def test_gaussian_fills_the_half_disc():
    Lambda = np.asarray(s4d.gaussian(20_000, jax.random.key(0)))
    np.testing.assert_allclose([(abs(Lambda)**2).mean(), (Lambda.real < -0.5).mean()], [0.5, 0.391], atol=0.02)        # 2/3 - sqrt(3) / (2 pi)


@pytest.mark.parametrize("family, form", [("s4", "fft"), ("s4", "chunked"), ("s4d", "fft"), ("s4d", "chunked"), ("s5", "associative")])
def test_a_long_row(family, form):
    close(results(family, form, 4097), results(family, "recurrent", 4097))


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_are_separate_rows(family):
    """Gradient of the second document alone, too: nothing of the first is in it."""
    f = FAMILIES[family].FORMS["associative" if family == "s5" else "chunked"]
    made, u = system(family, parameters(family)), normal(1, 70, H)
    segments = np.repeat([[1, 2, 0]], [30, 36, 4], axis=1)
    packed = quick(lambda u: f(u, made, segments=segments)[0])(u)
    for begin, end in ((0, 30), (30, 66)):
        assert_close(packed[:, begin:end], quick(lambda u: f(u, made)[0])(u[:, begin:end]))
    slope = quick(jax.grad(lambda u: f(u, made, segments=segments)[0][:, 30:66].sum()))(u)
    assert np.any(np.asarray(slope[:, 30:66])) and not np.any(np.asarray(slope[:, :30])) and not np.any(np.asarray(slope[:, 66:]))


@pytest.mark.parametrize("family", ["s4", "s4d"])
def test_one_step_at_a_time(family):
    """`step`, which decoding uses, against the definition."""
    made, u, x = system(family, parameters(family)), normal(B, 9, H), initial(family)
    y, end = quick(lambda u, x: FAMILIES[family].recurrent(u, made, initial_state=x))(u, x)
    step, out = quick(lambda x, u: FAMILIES[family].step(x, u, made)), []
    for t in range(9):
        x, now = step(x, u[:, t])
        out.append(now)
    assert_close((jnp.stack(out, 1), x), (y, end))


@pytest.mark.parametrize("family", ["s4", "s4d"])
def test_a_convolution_cannot_forget(family):
    with pytest.raises(ValueError, match="cannot keep packed documents apart"):
        FAMILIES[family].fft(normal(1, 4, H), system(family, parameters(family)), segments=np.ones((1, 4), int))


# ---------------------------------------------------------------------------------------------------------------- kernels

def one(C, dt, N):
    """A single S4 channel whose C is given in HiPPO's own basis."""
    d = hippo.pairs(N)
    return s4.System(*(jnp.asarray(z[None], jnp.complex64) for z in (d.Lambda, d.P, d.B, C @ d.V)), jnp.asarray([dt], jnp.float32))


def test_values_of_the_s4_kernel():
    want = np.array([[0.636287, 0.189746, 0.015232, -0.033632, -0.030924, -0.012114, 0.007326, 0.021828]])
    for length in (1, 5, 8):
        assert_close(quick(lambda: s4.kernel(one(np.ones(4), 1 / 8, 4), length))(), want[:, :length])


@pytest.mark.parametrize("length", [33, 1024])
def test_the_s4_kernel_is_scipys_impulse_response(length):
    """From HiPPO's dense matrices, in float64."""
    C, (A, b) = np.random.default_rng(0).normal(size=16), hippo.hippo_legs(16)
    Ad, Bd, *_ = scipy.signal.cont2discrete((A, b[:, None], C[None], np.zeros((1, 1))), 0.02, method="bilinear")
    # scipy reads the state before the input reaches it: C Ad, and C Bd at once
    _, (want,) = scipy.signal.dimpulse((Ad, Bd, C[None] @ Ad, C[None] @ Bd, 1), n=length)
    assert_close(quick(lambda: s4.kernel(one(C, 0.02, 16), length))(), want.T)


def test_the_s4d_kernel_is_scipys_impulse_response():
    C = np.random.default_rng(0).normal(size=4) + 1j
    made = s4d.discretized(*(jnp.asarray(z[None], jnp.complex64) for z in (s4d.lin(8), np.ones(4), C)), jnp.asarray([0.05], jnp.float32))
    Lambda = s4d.lin(8)
    want = [2 * (C * np.expm1(0.05 * Lambda) / Lambda * np.exp(0.05 * Lambda * l)).sum().real for l in range(60)]
    assert_close(s4d.kernel(made, 60), np.array([want]))


def test_the_s4d_kernel_of_the_bilinear_rule():
    Lambda, C, dt = s4d.lin(8), np.random.default_rng(0).normal(size=4) + 1j, 0.05
    A, Bbar = (1 + dt * Lambda / 2) / (1 - dt * Lambda / 2), dt / (1 - dt * Lambda / 2)
    made = s4d.discretized(*(jnp.asarray(z[None], jnp.complex64) for z in (Lambda, np.ones(4), C)), jnp.asarray([dt], jnp.float32), "bilinear")
    assert_close(s4d.kernel(made, 60), np.array([[2 * (C * Bbar * A**l).sum().real for l in range(60)]]))


def test_values_of_s4d():
    made = s4d.discretized(*(jnp.asarray(z[None], jnp.complex64) for z in (s4d.lin(4), np.ones(2), np.ones(2))), jnp.asarray([0.1], jnp.float32))
    assert_close(s4d.kernel(made, 5), np.array([[0.387011, 0.350341, 0.300985, 0.244020, 0.184809]]))
    assert_close(s4d.inv(8).imag, np.array([17.825354, 4.244132, 1.527887, 0.363783]))
    assert_close(s4d.inv(64).imag[[0, -1]], np.array([1283.4254, 0.323362]))
    assert_close((s4d.legs(8), s4d.real(6)), (hippo.pairs(8).Lambda, np.array([-1.0, -2, -3]) + 0j))


@pytest.mark.parametrize("init", s4d.INITS)
def test_eigenvalues_start_stable(init):
    Lambda = np.asarray(s4d.INITS[init](8, jax.random.key(0)))
    assert Lambda.shape == (4,) and (Lambda.real < 0).all() and (init == "real" or Lambda.imag.any())
    with pytest.raises(ValueError, match="must be even"):
        s4d.INITS[init](7, jax.random.key(0))


@pytest.mark.parametrize("family, form", [("s4", "fft"), ("s4", "chunked"), ("s4d", "fft"), ("s4d", "chunked"), ("s5", "associative")])
def test_extremes_over_a_hundred_thousand_tokens(family, form):
    """dt of 1e-6 and 1e4: what never forgets and what forgets at once, finite in value and gradient."""
    x = parameters(family, N=4, H=2) | dict(dt=jnp.asarray([1e-6, 1e4], jnp.float32))
    u, kwargs = normal(1, 100_000, 2), dict(chunk=500) if form == "chunked" else {}
    got = quick(jax.value_and_grad(lambda x: jnp.sin(FAMILIES[family].FORMS[form](u, system(family, x), **kwargs)[0]).mean()))(x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(got))


@pytest.mark.parametrize("T", [1, 2, 7, 64])
def test_convolve(T):
    u, kernel = normal(B, T, H), normal(H, T + 3, seed=1)
    want = np.stack([[np.convolve(u[b, :, h], kernel[h])[:T] for h in range(H)] for b in range(B)]).swapaxes(1, 2)
    assert_close(s4.convolve(u, kernel), want)


def test_dense_is_the_matrix_of_the_paper():
    """The real form has HiPPO's eigenvalues."""
    A, b, C = s4.dense(one(np.ones(6), 0.1, 6))
    want, _ = hippo.hippo_legs(6)
    assert_close(np.sort(np.linalg.eigvals(np.asarray(A[0], np.float64)).real), np.sort(np.diag(want)))
    assert_close(C @ b.T, np.array([[np.sqrt(2 * np.arange(6) + 1).sum()]]))            # C B in any basis


def test_blocks_of_s5():
    Lambda, V = s5.legs_blocks(8, 2)
    A = np.zeros((8, 8))
    for i in (0, 4):
        A[i:i + 4, i:i + 4] = hippo.hippo_legs(4)[0] + np.outer(hippo.nplr(4)[2], hippo.nplr(4)[2])
    assert_close(2 * ((V * Lambda[None]) @ V.conj().T).real, A)


# ----------------------------------------------------------------------------------------------------------------- errors

@pytest.mark.parametrize("call, words", [
    (lambda: s4.kernel(one(np.ones(4), 0.1, 4), 0), "kernel's length must be at least 1, got 0"),
    (lambda: s4.convolve(normal(1, 5, 2), normal(2, 4)), "a kernel of 4 steps is too short for 5 tokens"),
    (lambda: s4.chunked(normal(1, 5, H), system("s4", parameters("s4")), chunk=0), "chunk must be at least 1, got 0"),
    (lambda: s4.recurrent(normal(1, 5, H), system("s4", parameters("s4")), initial_state=jnp.zeros((1, H, 4))), r"initial_state must be \[1, 3, 8\]"),
    (lambda: s4d.chunked(normal(1, 5, H), system("s4d", parameters("s4d")), segments=np.ones((1, 4), int)),
     r"segments must be \[1, 5\], got \[1, 4\]"),
    (lambda: s4d.discretized(None, None, None, None, "euler"), "unknown discretisation 'euler': choose one of bilinear, zoh"),
    (lambda: s5.recurrent(normal(1, 5, 2), system("s5", parameters("s5"))), "takes 3 inputs, u has 2"),
    (lambda: s5.associative(normal(1, 5, H), system("s5", parameters("s5")), segments=np.ones((2, 5), int)), r"segments must be \[1, 5\]"),
    (lambda: s5.recurrent(normal(1, 5, H), system("s5", parameters("s5")), initial_state=jnp.zeros((1, 3))), r"initial_state must be \[1, 4\]"),
    (lambda: s5.legs_blocks(8, 3), "blocks=3 does not divide the state size 8"),
])
def test_what_does_not_fit_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call()
