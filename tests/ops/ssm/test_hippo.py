"""HiPPO-LegS and its normal-plus-low-rank form, and the two discretisations: values from the papers' formulas, and against scipy."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.signal

from lcref.ops.ssm.discretize import DIAGONAL, bilinear, diagonal_zoh, expm1_over, zoh
from lcref.ops.ssm.hippo import dplr, hippo_legs, nplr, pairs
from tests.tolerances import assert_close


def test_values_of_hippo():
    A, B = hippo_legs(4)
    assert_close(A, np.array([[-1, 0, 0, 0], [-1.732051, -2, 0, 0], [-2.236068, -3.872983, -3, 0], [-2.645751, -4.582576, -5.916080, -4]]))
    assert_close(B, np.sqrt(np.array([1.0, 3, 5, 7])))


@pytest.mark.parametrize("k", range(6))
def test_the_state_is_the_polynomial_seen(k):
    """Of u(t) = t^k the LegS state after time t is t^k g, g the coefficients of x^k in the normalised Legendre basis of [0, 1]. As
    d/dt (t^k g) = (A t^k g + B t^k) / t, that is k g = A g + B: no approximation up to degree N - 1."""
    A, B = hippo_legs(6)
    g = np.linalg.solve(k * np.eye(6) - A, B)
    x = np.linspace(0, 1, 20)
    basis = np.stack([np.sqrt(2 * n + 1) * np.polynomial.legendre.Legendre.basis(n)(2 * x - 1) for n in range(6)])
    assert_close(g @ basis, x**k)


@pytest.mark.parametrize("N", [2, 8, 64])
def test_normal_plus_low_rank(N):
    A, B, P = nplr(N)
    normal = A + np.outer(P, P)
    assert_close(normal + normal.T, -np.eye(N))
    d = dplr(N)
    assert_close(d.V.conj().T @ d.V, np.eye(N) + 0j)
    assert_close(d.V @ (np.diag(d.Lambda) - np.outer(d.P, d.P.conj())) @ d.V.conj().T, A + 0j)
    assert_close(d.V @ d.B, B + 0j)
    assert (d.Lambda.real == d.Lambda.real[0]).all() and abs(d.Lambda.real[0] + 0.5) < 1e-12
    assert_close(d.Lambda, d.Lambda[::-1].conj())                               # pairs


@pytest.mark.parametrize("N, want", [(2, [0.866025]), (4, [0.556501, 4.603293]), (8, [0.427489, 1.957794, 5.354209, 19.857410])])
def test_values_of_the_modes(N, want):
    assert_close(pairs(N).Lambda.imag, np.array(want))
    assert pairs(64).Lambda.imag[0] == pytest.approx(0.263857, abs=1e-6) and pairs(64).Lambda.imag[-1] == pytest.approx(1303.2738, abs=1e-4)


def test_one_of_each_pair_is_enough():
    whole, half = dplr(8), pairs(8)
    assert_close(2 * (half.V @ half.B).real, (whole.V @ whole.B).real)


@pytest.mark.parametrize("make, N, words", [(hippo_legs, 0, "at least 1, got 0"), (pairs, 3, "must be even, got 3")])
def test_sizes_that_cannot_be(make, N, words):
    with pytest.raises(ValueError, match=words):
        make(N)


# --------------------------------------------------------------------------------------------------------- discretisation

GOLDEN = {"bilinear": ([[0.904762, 0], [-0.149961, 0.818182]], [0.095238, 0.149961]),
          "zoh": ([[0.904837, 0], [-0.149141, 0.818731]], [0.095163, 0.149141])}
DENSE = {"bilinear": bilinear, "zoh": zoh}


@pytest.mark.parametrize("method", DENSE)
def test_values_of_discretisation(method):
    A, B = (z.astype(np.float32) for z in hippo_legs(2))
    assert_close(DENSE[method](A, B, jnp.float32(0.1)), tuple(np.array(z) for z in GOLDEN[method]))


@pytest.mark.parametrize("dt", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("method", DENSE)
def test_discretisation_is_scipys(method, dt):
    """Ad and Bd. (scipy's bilinear changes C and D as well; S4 does not.)"""
    A, B = hippo_legs(8)
    Ad, Bd, *_ = scipy.signal.cont2discrete((A, B[:, None], np.eye(8), np.zeros((8, 1))), dt, method=method)
    got = DENSE[method](*(jnp.asarray(z, jnp.float32)[None] for z in (A, B)), jnp.asarray([dt], jnp.float32))
    assert_close(got, (Ad[None], Bd[None, :, 0]))


@pytest.mark.parametrize("method", DIAGONAL)
def test_diagonal_is_dense(method):
    rng = np.random.default_rng(0)
    Lambda, B = rng.normal(size=(2, 6))
    Lambda = -np.abs(Lambda)
    dt = np.full(6, 0.3)
    Abar, Bbar = DENSE[method](*(jnp.asarray(z, jnp.float32) for z in (np.diag(Lambda), B, 0.3)))
    assert_close(DIAGONAL[method](*(jnp.asarray(z, jnp.float32) for z in (Lambda, B, dt))), (np.diag(Abar), np.asarray(Bbar)))


def test_zoh_of_a_singular_system():
    """An integrator: Abar = 1, Bbar = dt; where the eigenvalue is 0 the textbook formula divides 0 by 0."""
    zero = jnp.zeros((1, 1))
    assert_close(zoh(zero, jnp.ones((1,)), jnp.float32(0.5)), (np.ones((1, 1)), np.full((1,), 0.5)))
    assert_close(diagonal_zoh(jnp.zeros(1, jnp.complex64), jnp.ones(1, jnp.complex64), jnp.full(1, 0.5)), (np.ones(1) + 0j, np.full(1, 0.5) + 0j))


def test_expm1_over_keeps_its_digits():
    """Value and derivative, from 1e-8 to 20, on either side of the border between series and quotient."""
    size = np.concatenate([[0.0], np.logspace(-8, 1.3, 60), [0.0999, 0.1001]])
    z = np.concatenate([size * np.exp(1j * angle) for angle in (np.pi / 2, 2.0, np.pi)])
    safe = np.where(z == 0, 1, z)
    terms = [z**k / scipy.special.factorial(k + 1) for k in range(12)]
    slopes = [(k + 1) / scipy.special.factorial(k + 2) * z**k for k in range(12)]
    want = np.where(np.abs(z) < 0.5, sum(terms), np.expm1(safe) / safe)
    slope = np.where(np.abs(z) < 0.5, sum(slopes), (np.exp(safe) * (safe - 1) + 1) / safe**2)
    got = jax.vmap(jax.value_and_grad(expm1_over, holomorphic=True))(jnp.asarray(z, jnp.complex64))
    assert_close(got, (want, slope))
