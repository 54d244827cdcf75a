"""S4D: S4 with A diagonal. The kernel becomes a Vandermonde product, and the code a few lines. arXiv 2206.11893, 2203.14343.

    K_l = 2 Re sum_n C_n Bbar_n Abar_n^l          Abar_n = exp(dt lambda_n),  Bbar_n = B_n (exp(dt lambda_n) - 1) / lambda_n     (zoh)

One of each conjugate pair, M = N/2 modes. What matters is where they start (`INITS`, n = 0 .. M-1):
    lin     -1/2 + i pi n                        Fourier modes
    inv     -1/2 + i (N/pi) (N/(2n+1) - 1)       the law that the eigenvalues of HiPPO-LegS follow as N grows
    legs    HiPPO-LegS without its low-rank part
    real    -(n+1)                               decays only: cannot oscillate, and remembers worst
    random  |re| and im each exp(N(0,1))         structure taken away, for comparison
    gaussian  uniform in the unit disc's left half: what a matrix of independent entries N(0, 1/N) has (circular law), growing ones mirrored

    recurrent      the definition, one step at a time                                        O(T N)
    convolution    K term by term, and the sum y_t = sum_l K_l u_{t-l}                       O(T N + T^2)
    fft            the same kernel, convolved by FFT                                         O(T N + T log T)
    chunked        Toeplitz matrices of Q tokens, the state between them (chunks.py)         O(T (Q + N))
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops.ssm import chunks, hippo
from lcref.ops.ssm.chunks import pack, unpack
from lcref.ops.ssm.discretize import DIAGONAL
from lcref.ops.ssm.s4 import convolve, readout


class Diagonal(NamedTuple):
    """H diagonal systems of N = 2M states, discretised: one of each conjugate pair. y = 2 Re(C x)."""
    log_size: jax.Array                        # float32 [H,M]: log |Abar|
    turns: jax.Array                           # float32 [H,M]: angle of Abar / 2 pi, in [-1/2, 1/2]
    B: jax.Array                               # complex64 [H,M]: Bbar
    C: jax.Array                               # complex64 [H,M]


def modes(N):
    if N < 2 or N % 2:
        raise ValueError(f"modes come in conjugate pairs: the state size must be even and at least 2, got {N}")
    return np.arange(N // 2)


def lin(N, key=None):
    return -0.5 + 1j * np.pi * modes(N)


def inv(N, key=None):
    return -0.5 + 1j * N / np.pi * (N / (2 * modes(N) + 1) - 1)


def legs(N, key=None):
    return hippo.pairs(N).Lambda


def real(N, key=None):
    return -(modes(N) + 1) + 0j


def random(N, key):
    size, turn = jnp.exp(jax.random.normal(key, (2, len(modes(N)))))
    return jax.lax.complex(-size, turn)


def gaussian(N, key):
    share, turn = jax.random.uniform(key, (2, len(modes(N))), minval=1e-3, maxval=1 - 1e-3)
    return -jnp.sqrt(share) * jnp.exp(1j * jnp.pi * (turn - 0.5))


# name -> function (N, key) -> complex [N/2]; ValueError for odd N. Only the last two read the key (of jax.random)
INITS = {"lin": lin, "inv": inv, "legs": legs, "real": real, "random": random, "gaussian": gaussian}


def discretized(Lambda, B, C, dt, method="zoh"):
    """Lambda, B, C complex [H,M], dt [H] -> Diagonal. method: zoh or bilinear; ValueError for another."""
    if method not in DIAGONAL:
        raise ValueError(f"unknown discretisation {method!r}: choose one of {', '.join(DIAGONAL)}")
    step = jnp.broadcast_to(dt[:, None], Lambda.shape)
    Abar, Bbar = DIAGONAL[method](Lambda, B, step)
    log_A = Lambda * step if method == "zoh" else jnp.log(Abar)
    turns = log_A.imag / (2 * np.pi)
    return Diagonal(log_A.real, turns - jax.lax.stop_gradient(jnp.round(turns)), Bbar, C)


def power(system, n):
    """Abar^n for n a power of two, complex [H,M]. Turns are doubled, and whole ones dropped, without any rounding: an angle of
    n radians would have lost its last digits, and high modes turn fast."""
    turns = system.turns * n
    angle = 2 * np.pi * (turns - jax.lax.stop_gradient(jnp.round(turns)))
    size = jnp.exp(system.log_size * n)
    return jax.lax.complex(size * jnp.cos(angle), size * jnp.sin(angle))


def kernel(system, length):
    """K_l for l < length -> float32 [H,length]. The Vandermonde matrix [H,M,length] is the peak of memory. ValueError for length < 1."""
    if length < 1:
        raise ValueError(f"the kernel's length must be at least 1, got {length}")
    return readout_of(system.C * system.B, vandermonde(system, length))


def vandermonde(system, length):
    """Abar^l for l < length, complex [H,M,length], by doubling."""
    up = jnp.ones_like(system.B)[..., None]
    while up.shape[-1] < length:
        up = jnp.concatenate([up, power(system, up.shape[-1])[..., None] * up], axis=-1)
    return up[..., :length]


def readout_of(C, x):
    """2 Re sum_m C_m x_m in real products: C [H,M], x [H,M,L] -> [H,L]."""
    return jnp.einsum("hn,hnl->hl", readout(C), jnp.concatenate([x.real, x.imag], axis=1))


def step(x, u, system):
    """One token: x real [...,H,N], u [...,H] -> (x, y [...,H])."""
    Abar, B, C = (z.reshape((1,) * (x.ndim - 2) + z.shape) for z in (power(system, 1), system.B, system.C))
    x = Abar * unpack(x) + B * u[..., None]
    return pack(x), 2 * jnp.sum((C * x).real, axis=-1)


def recurrent(u, system, *, initial_state=None, segments=None, chunk=64):
    """The definition. u [B,T,H], initial_state real [B,H,N] or None, segments int [B,T] or None -> (y float32 [B,T,H], state [B,H,N]).
    `chunk` is not used: the forms have one signature. Raises ValueError where shapes do not fit, as all forms do."""
    u, x, fresh = chunks.prepared(u, 2 * system.B.shape[1], initial_state, segments)
    fresh = jnp.zeros(u.shape[:2], bool) if fresh is None else fresh

    def one(x, now):
        u, fresh = now
        return step(jnp.where(fresh[:, None, None], 0.0, x), u, system)
    x, y = jax.lax.scan(one, x, (u.swapaxes(0, 1), fresh.T))
    return y.swapaxes(0, 1), x


def convolution(u, system, *, initial_state=None, segments=None, chunk=64):
    """One T x T Toeplitz matrix: a single chunk as long as the row. `chunk` is not used."""
    return chunked(u, system, initial_state=initial_state, segments=segments, chunk=u.shape[1])


def chunked(u, system, *, initial_state=None, segments=None, chunk=64):
    """Chunks of `chunk` tokens, the state between them; arguments and results as `recurrent`."""
    def operators(Q):
        up = vandermonde(system, Q + 1)                                                  # Abar^0 .. Abar^Q
        return chunks.Operators(readout_of(system.C * system.B, up[..., :-1]), rows(system.B[..., None] * up[..., :-1]),
                                2 * rows((system.C[..., None] * up[..., 1:]).conj()), lambda x: pack(up[..., -1][None] * unpack(x)))
    return chunks.run(u, operators, 2 * system.B.shape[1], initial_state=initial_state, segments=segments, chunk=chunk)


def rows(z):
    """complex [H,M,Q] -> real [H,Q,2M]"""
    return pack(z.swapaxes(1, 2))


def fft(u, system, *, initial_state=None, segments=None, chunk=64):
    """The kernel over the whole row, by FFT; with `initial_state` its trace C Abar^{t+1} x is added. `chunk` is not used.

    A convolution cannot forget, so there are no `segments` here: ValueError.
    """
    if segments is not None:
        raise ValueError("a convolution over the row cannot keep packed documents apart: use the chunked or the recurrent form")
    T = u.shape[1]
    u, x, _ = chunks.prepared(u, 2 * system.B.shape[1], initial_state, None)
    up = vandermonde(system, T + 1)
    y = convolve(u, readout_of(system.C * system.B, up[..., :-1]))
    if initial_state is not None:
        y = y + jnp.einsum("htn,bhn->bth", 2 * rows((system.C[..., None] * up[..., 1:]).conj()), x)
    x = pack(up[..., -1][None] * unpack(x)) + jnp.einsum("htn,bth->bhn", rows(system.B[..., None] * up[..., :-1])[:, ::-1], u)
    return y, x


FORMS = {"recurrent": recurrent, "convolution": convolution, "fft": fft, "chunked": chunked}
