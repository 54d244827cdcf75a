"""S4: a linear state-space system per channel, trained as one long convolution, run as a recurrence. arXiv 2111.00396.

    x'(t) = A x + B u,  y = C x  with  A = V (Lambda - P P*) V*  (hippo.py), discretised by the bilinear rule:
    x_k = Abar x_{k-1} + Bbar u_k,   y_k = C x_k                 <=>      y = K * u,   K_l = C Abar^l Bbar

    recurrent      the definition: dense Abar, one step at a time                                     O(T N^2), O(N^3) once
    convolution    K term by term, then the sum y_t = sum_l K_l u_{t-l}                               O(T N^2 + T^2)
    fft            K from its generating function, then two FFTs: S4 as published                     O(T N + T log T)
    chunked        Toeplitz matrices of Q tokens, the state between them (chunks.py)                  O(T (Q + N)) + O(N^3 log Q) once
    step           the recurrence without any N x N matrix (Woodbury), for decoding                   O(N) a token

The generating function. K^(w) = sum_{l<L} K_l w^l = Ct (I - w Abar)^-1 Bbar with Ct = C (I - Abar^L): at the L-th roots of unity it is
the DFT of K. With A diagonal plus rank one the inverse is a handful of sums over the modes (Woodbury). At w = exp(-i theta), with
    s = (2/dt) sin(theta/2),   c = cos(theta/2),   k(v) = sum_n v_n / (i s - c Lambda_n):
    K^ = e^(i theta/2) [ k(Ct B) - c k(Ct P) k(P* B) / (1 + c k(P* P)) ]
The paper divides by 1 + w, which is 0 at theta = pi; written in half angles nothing is. Modes come in conjugate pairs, so the two
terms of a pair share a denominator that is quadratic with real coefficients, and k is a product of real matrices.

Deviation: C is the parameter, not Ct. Ct belongs to one length; from C the kernel has any length, and the recurrence needs no inverse.
It costs Abar^L, log2 L squarings of an N x N matrix per channel.
"""
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops.ssm import chunks
from lcref.ops.ssm.chunks import pack, unpack
from lcref.ops.ssm.discretize import bilinear
from lcref.ops.ssm.hippo import dplr, hippo_legs

__all__ = ["FORMS", "System", "convolution", "convolve", "chunked", "dense", "dplr", "fft", "hippo_legs", "kernel", "recurrent", "step"]
EXACT = jax.lax.Precision.HIGHEST              # powers of Abar: rounding to bfloat16 or TF32 inside would be squared log2 L times


class System(NamedTuple):
    """H systems of N = 2M states, one of each conjugate pair. y = 2 Re(C x): C multiplies as it is, without conjugation."""
    Lambda: jax.Array                          # complex64 [H,M], real parts negative
    P: jax.Array                               # complex64 [H,M]
    B: jax.Array                               # complex64 [H,M]
    C: jax.Array                               # complex64 [H,M]
    dt: jax.Array                              # float32 [H]


def dense(system):
    """The same systems in real numbers, state (Re x, Im x) -> A [H,N,N], B [H,N], C [H,N]. C as in the readout y = C x."""
    Lambda, P, B, C, _ = system
    rotation = jnp.concatenate([jnp.concatenate([diagonal(Lambda.real), diagonal(-Lambda.imag)], axis=-1),
                                jnp.concatenate([diagonal(Lambda.imag), diagonal(Lambda.real)], axis=-1)], axis=-2)
    p = pack(P)
    return rotation - 2 * p[..., :, None] * p[..., None, :], pack(B), readout(C)


def diagonal(x):
    return x[..., None] * jnp.eye(x.shape[-1], dtype=x.dtype).reshape((1,) * (x.ndim - 1) + (x.shape[-1],) * 2)


def readout(C):
    """C [...,M] as a real row: 2 Re(C x) = readout(C) . pack(x)."""
    return 2 * pack(C.conj())


def step(x, u, system):
    """One token of the bilinear recurrence: x real [...,H,N], u [...,H] -> (x, y [...,H]).

    x' = D z - D P (P* D z) / (1 + P* D P)   with   z = (2/dt + Lambda) x - P (P* x) + 2 B u,   D = 1 / (2/dt - Lambda)
    """
    Lambda, P, B, C, dt = (z.reshape((1,) * (x.ndim - 2) + z.shape) for z in system)
    rate = 2 / dt[..., None]
    whole = lambda v: 2 * jnp.sum((P.conj() * v).real, axis=-1, keepdims=True)          # P* v over both of each pair
    x = unpack(x)
    D = 1 / (rate - Lambda)
    z = (rate + Lambda) * x - P * whole(x) + 2 * B * u[..., None]
    x = D * z - D * P * (whole(D * z) / (1 + whole(D * P)))
    return pack(x), 2 * jnp.sum((C * x).real, axis=-1)


def discretized(system):
    """(Abar [H,N,N], Bbar [H,N]) by `step` on the columns of I: O(N^2), where `bilinear` solves in O(N^3)."""
    H, N = system.B.shape[0], 2 * system.B.shape[1]
    columns = jnp.broadcast_to(jnp.eye(N)[:, None, :], (N, H, N))
    Abar, _ = step(columns, jnp.zeros((N, H)), system)
    Bbar, _ = step(jnp.zeros((H, N)), jnp.ones((H,)), system)
    return Abar.transpose(1, 2, 0), Bbar


def recurrent(u, system, *, initial_state=None, segments=None, chunk=64):
    """The definition. u [B,T,H], initial_state real [B,H,N] or None, segments int [B,T] or None -> (y float32 [B,T,H], state [B,H,N]).
    `chunk` is not used: the forms have one signature. Raises ValueError where shapes do not fit, as all forms do."""
    A, B, C = dense(system)
    Abar, Bbar = bilinear(A, B, system.dt)
    u, x, fresh = chunks.prepared(u, A.shape[-1], initial_state, segments)
    fresh = jnp.zeros(u.shape[:2], bool) if fresh is None else fresh

    def one(x, now):
        u, fresh = now
        x = jnp.where(fresh[:, None, None], 0.0, x)
        x = jnp.einsum("hmn,bhn->bhm", Abar, x, precision=EXACT) + Bbar[None] * u[..., None]
        return x, jnp.einsum("hn,bhn->bh", C, x)
    x, y = jax.lax.scan(one, x, (u.swapaxes(0, 1), fresh.T))
    return y.swapaxes(0, 1), x


def convolution(u, system, *, initial_state=None, segments=None, chunk=64):
    """The kernel term by term, and one T x T Toeplitz matrix: a single chunk as long as the row. `chunk` is not used."""
    return chunked(u, system, initial_state=initial_state, segments=segments, chunk=u.shape[1])


def chunked(u, system, *, initial_state=None, segments=None, chunk=64):
    """Chunks of `chunk` tokens, the state between them; arguments and results as `recurrent`."""
    Abar, Bbar = discretized(system)
    C = readout(system.C)

    def operators(Q):
        write, AbarQ = powers(Abar, Bbar, Q)
        read, _ = powers(Abar.swapaxes(1, 2), C, Q + 1)
        return chunks.Operators(jnp.einsum("hn,hqn->hq", C, write), write, read[:, 1:],
                                lambda x: jnp.einsum("hmn,bhn->bhm", AbarQ, x, precision=EXACT))
    return chunks.run(u, operators, Abar.shape[-1], initial_state=initial_state, segments=segments, chunk=chunk)


def fft(u, system, *, initial_state=None, segments=None, chunk=64):
    """S4 as published: kernel by generating function, FFT convolution. With `initial_state` its trace C Abar^{t+1} x is added.

    The final state and the trace take all powers of Abar, O(T N) memory; under jit they cost nothing where they are not used.
    A convolution cannot forget, so there are no `segments` here: ValueError. `chunk` is not used.
    """
    if segments is not None:
        raise ValueError("a convolution over the row cannot keep packed documents apart: use the chunked or the recurrent form")
    N, T = 2 * system.B.shape[1], u.shape[1]
    u, x, _ = chunks.prepared(u, N, initial_state, None)
    Abar, Bbar = discretized(system)
    y = convolve(u, kernel(system, T))
    write, AbarT = powers(Abar, Bbar, T)
    if initial_state is not None:
        read, _ = powers(Abar.swapaxes(1, 2), readout(system.C), T + 1)
        y = y + jnp.einsum("htn,bhn->bth", read[:, 1:], x)
    return y, jnp.einsum("hmn,bhn->bhm", AbarT, x, precision=EXACT) + jnp.einsum("htn,bth->bhn", write[:, ::-1], u)


def kernel(system, length):
    """K_l = C Abar^l Bbar for l < length, by the truncated generating function -> float32 [H,length]. ValueError for length < 1."""
    if length < 1:
        raise ValueError(f"the kernel's length must be at least 1, got {length}")
    Abar, _ = discretized(system)
    Lambda, P, B, C, dt = system
    row = readout(C)
    row = row - times_power(row, Abar, length)                                           # Ct = C (I - Abar^L)
    Ct = unpack(row).conj() / 2
    half = np.pi * np.arange(length // 2 + 1) / length                                   # theta / 2; the rest follows as K is real
    c, s = (jnp.asarray(f(half), jnp.float32)[None, :] for f in (np.cos, np.sin))
    s = s * (2 / dt)[:, None]                                                            # [H,J]
    re, size = Lambda.real[..., None], (Lambda.real**2 + Lambda.imag**2)[..., None]
    # 1 / ((i s - c Lambda)(i s - c Lambda^*)), modes and nodes, as real and imaginary part
    re, im = size * (c * c)[:, None] - (s * s)[:, None], -2 * re * (s * c)[:, None]      # [H,M,J]
    scale = 1 / (re * re + im * im)
    inverse = jnp.concatenate([re * scale, -im * scale], axis=-1)                        # [H,M,2J]
    v = jnp.stack([Ct * B, Ct * P, P.conj() * B, P.conj() * P], axis=1)                  # [H,4,M]
    v = jnp.concatenate([2 * v.real, 2 * (v * Lambda[:, None].conj()).real], axis=1)     # [H,8,M]
    sums = jnp.einsum("hvm,hmj->hvj", v, inverse, precision=EXACT)
    sums = jax.lax.complex(*jnp.split(sums, 2, axis=-1))                                 # [H,8,J]
    CB, CP, PB, PP = jnp.moveaxis(1j * s[:, None] * sums[:, :4] - c[None] * sums[:, 4:], 1, 0)
    spectrum = jnp.asarray(np.exp(1j * half), jnp.complex64)[None, :] * (CB - c * CP * PB / (1 + c * PP))
    return jnp.fft.irfft(spectrum, n=length, axis=-1)


def convolve(u, kernel):
    """y_t = sum_{l <= t} K_l u_{t-l} by FFT: u [B,T,H], kernel [H,L] with L >= T -> float32 [B,T,H]. O(T log T).

    Both are filled up to at least 2T with zeros, or the end of the row would leak into its beginning. Raises ValueError if L < T.
    """
    T = u.shape[1]
    if kernel.shape[-1] < T:
        raise ValueError(f"a kernel of {kernel.shape[-1]} steps is too short for {T} tokens")
    n = 1 << (2 * T - 1).bit_length()
    u_hat = jnp.fft.rfft(u.astype(jnp.float32).swapaxes(1, 2), n=n)                      # [B,H,n/2+1]
    y = jnp.fft.irfft(u_hat * jnp.fft.rfft(kernel[:, :T].astype(jnp.float32), n=n)[None], n=n)
    return y[..., :T].swapaxes(1, 2)


def powers(A, v, length):
    """(A^l v for l < length [H,length,N], A^length [H,N,N]) by doubling: [v .. A^{k-1} v] -> [.. , A^k of all of it]."""
    out, power, k, result = v[:, None], A, 1, None                                       # power = A^k, out holds k terms
    while True:
        if length & k:
            result = power if result is None else jnp.matmul(result, power, precision=EXACT)
        if k < length:
            out = jnp.concatenate([out, jnp.einsum("hmn,hkn->hkm", power, out, precision=EXACT)], axis=1)
        k = 2 * k
        if k > length:
            return out[:, :length], result
        power = jnp.matmul(power, power, precision=EXACT)


def times_power(row, A, n):
    """row A^n, by squaring: row [H,N], A [H,N,N]."""
    while n:
        if n & 1:
            row = jnp.einsum("hm,hmn->hn", row, A, precision=EXACT)
        n >>= 1
        A = jnp.matmul(A, A, precision=EXACT) if n else A
    return row


FORMS = {"recurrent": recurrent, "convolution": convolution, "fft": fft, "chunked": chunked}
