"""From a differential equation to a recurrence: x'(t) = A x + B u, with u held for a step of size dt, becomes x_k = Abar x_{k-1} + Bbar u_k.

    bilinear    Abar = (I - dt/2 A)^-1 (I + dt/2 A)     Bbar = (I - dt/2 A)^-1 dt B          S4; trapezoidal rule (Tustin)
    zoh         Abar = exp(dt A)                        Bbar = A^-1 (exp(dt A) - I) B        S4D, S5; exact for u constant in a step

Both keep a stable system stable. Mamba uses Abar = exp(dt A), Bbar = dt B (zoh for A, Euler for B).
C and D stay as they are (scipy.signal.cont2discrete changes both in its bilinear form).

Diagonal systems: A is the vector of eigenvalues. Bbar then holds (e^z - 1)/z at z = dt lambda, which loses every digit near z = 0 when
written so, in value and even more in gradient; `expm1_over` does not.
"""
import jax
import jax.numpy as jnp


def bilinear(A, B, dt):
    """A [...,N,N], B [...,N], dt [...] -> (Abar [...,N,N], Bbar [...,N]). Cost: a solve, O(N^3)."""
    A, B, half = jnp.asarray(A), jnp.asarray(B), jnp.asarray(dt)[..., None, None] / 2
    I = jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape)
    both = jnp.linalg.solve(I - half * A, jnp.concatenate([I + half * A, 2 * half * B[..., None]], axis=-1))
    return both[..., :-1], both[..., -1]


def zoh(A, B, dt):
    """The same shapes. Both at once, and for singular A too:  exp(dt [[A, B], [0, 0]]) = [[Abar, Bbar], [0, 1]]. Cost: O(N^3)."""
    A, B = jnp.asarray(A), jnp.asarray(B)
    above = jnp.concatenate([A, B[..., None]], axis=-1)
    block = jnp.concatenate([above, jnp.zeros_like(above[..., :1, :])], axis=-2)
    both = jax.scipy.linalg.expm(block * jnp.asarray(dt)[..., None, None])
    return both[..., :-1, :-1], both[..., :-1, -1]


def diagonal_bilinear(Lambda, B, dt):
    """Lambda, B, dt of one shape -> (Abar, Bbar) of that shape."""
    half = Lambda * dt / 2
    return (1 + half) / (1 - half), dt * B / (1 - half)


def diagonal_zoh(Lambda, B, dt):
    """Lambda, B, dt of one shape -> (Abar, Bbar) of that shape."""
    z = Lambda * dt
    return jnp.exp(z), dt * expm1_over(z) * B


def expm1_over(z):
    """(e^z - 1) / z, accurate everywhere in value and gradient, 1 at z = 0. Near 0 by its series: the quotient's derivative is a
    difference of two numbers of size 1/z."""
    near = jnp.abs(z) < 0.1
    far = jnp.where(near, jnp.ones_like(z), z)
    small = jnp.where(near, z, jnp.zeros_like(z))
    series = 1 + small / 2 * (1 + small / 3 * (1 + small / 4 * (1 + small / 5 * (1 + small / 6))))
    return jnp.where(near, series, jnp.expm1(far) / far)


DIAGONAL = {"bilinear": diagonal_bilinear, "zoh": diagonal_zoh}
