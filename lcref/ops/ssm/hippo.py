"""HiPPO-LegS: the matrix whose state is the best polynomial summary of everything seen so far. arXiv 2008.07669, 2111.00396.

    x'(t) = A x(t) + B u(t),     A_nk = -sqrt(2n+1) sqrt(2k+1) (n > k),   -(n+1) (n = k),   0 (n < k),     B_n = sqrt(2n+1)

Dense A costs N^2 a step. But A is a normal matrix less a rank-one one, and that is what S4 lives on:

    NPLR    A + P P^T = -1/2 I + K,   P_n = sqrt(n + 1/2),   K real and skew-symmetric
    DPLR    K = V (i w) V*  with V unitary, so  A = V (Lambda - P~ P~*) V*,   Lambda = -1/2 + i w,   P~ = V* P,   B~ = V* B

The same P stands on both sides: A's symmetric part is then never positive, whatever is learned, and the state cannot grow.
Eigenvalues come in conjugate pairs and the output is real, so one of each pair is enough: y = 2 Re(sum over pairs).

Everything here is numpy in float64, done once: -i K is Hermitian, and `eigh` gives a unitary V to rounding. Diagonalising A itself is
no way: its eigenvectors' entries grow like 2^(4N/3) (arXiv 2111.00396, section 3.1). Cost: O(N^3).
"""
from typing import NamedTuple

import numpy as np


class Dplr(NamedTuple):
    Lambda: np.ndarray                         # complex [N] (or [N/2]: one of each conjugate pair)
    P: np.ndarray
    B: np.ndarray
    V: np.ndarray                              # complex [N,N] (or [N,N/2]); columns are A's normal part's eigenvectors


def hippo_legs(N):
    """-> (A float64 [N,N], B float64 [N]). Raises ValueError for N < 1."""
    if N < 1:
        raise ValueError(f"the state size must be at least 1, got {N}")
    r = np.sqrt(2 * np.arange(N) + 1.0)
    return -np.tril(np.outer(r, r), -1) - np.diag(np.arange(N) + 1.0), r


def nplr(N):
    """-> (A, B, P) with A + P P^T normal: its symmetric part is -1/2 I."""
    A, B = hippo_legs(N)
    return A, B, np.sqrt(np.arange(N) + 0.5)


def dplr(N):
    """A = V (diag(Lambda) - P P*) V*, all N eigenvalues, imaginary parts ascending -> Dplr of complex128."""
    A, B, P = nplr(N)
    normal = A + np.outer(P, P)
    w, V = np.linalg.eigh(-1j * (normal - np.diag(np.diag(normal))))
    return Dplr(np.mean(np.diag(normal)) + 1j * w, V.conj().T @ P, V.conj().T @ B, V)


def pairs(N):
    """`dplr(N)` with one of each conjugate pair, the one with the positive imaginary part: arrays of N/2. ValueError for odd N."""
    if N % 2:
        raise ValueError(f"eigenvalues come in conjugate pairs: the state size must be even, got {N}")
    whole = dplr(N)
    return Dplr(whole.Lambda[N // 2:], whole.P[N // 2:], whole.B[N // 2:], whole.V[:, N // 2:])
