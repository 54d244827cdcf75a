"""Exercises of notebook 10: how many pairs a state holds, how large it grows, and a decay with which a token is still readable."""
from statistics import NormalDist

import numpy as np

from lcref.exercises import difference, verdict


def capacity(answer) -> bool:
    """answer(P, N, share) -> how many pairs can be written so that `share` of all signs is read right: within one pair of 1 + N / z^2."""
    for P, N, share in ((16, 64, 0.9), (16, 256, 0.9), (64, 256, 0.9), (1, 128, 0.75), (16, 1024, 0.99), (8, 4096, 0.6)):
        got, want = answer(P, N, share), 1 + N / NormalDist().inv_cdf(share) ** 2
        if got is None:
            return verdict("the answer is None: it is still to be written")
        if not abs(got - want) <= 1 + 1e-3 * want:
            return verdict(f"capacity(P={P}, N={N}, share={share}) is {got:g}; with {want:.1f} pairs, {share} of the signs are read right")
    return verdict(None)


def norm_after(answer) -> bool:
    """answer(T, alpha, size, alike) -> the norm of sum_t alpha^(T-t) w_t, |w_t| = size, all alike or orthogonal on average."""
    for T, alpha, size, alike in ((1, 0.5, 3.0, True), (1, 0.5, 3.0, False), (100, 1.0, 4.0, True), (100, 1.0, 4.0, False), (10, 0.9, 2.0, True),
                                  (10, 0.9, 2.0, False), (100_000, 0.99, 4.0, True), (100_000, 0.99, 4.0, False), (5, 0.0, 2.0, False)):
        weights = alpha ** np.arange(T, dtype=np.float64)
        want = size * (weights.sum() if alike else np.sqrt(np.sum(weights**2)))
        if problem := difference(f"norm_after(T={T}, alpha={alpha}, size={size}, alike={alike})", answer(T, alpha, size, alike), want, 1e-3):
            return verdict(problem)
    return verdict(None)


def decay(answer) -> bool:
    """answer(N, d, share) -> a decay per token with which `share` of the signs of the token d ago is read right in an endless stream."""
    for N, d, share in ((64, 1, 0.99), (64, 8, 0.9), (256, 32, 0.93), (128, 40, 0.85), (4096, 1000, 0.88), (4096, 4, 0.999)):
        alpha = answer(N, d, share)
        if alpha is None:
            return verdict("the answer is None: it is still to be written")
        if not 0 <= alpha < 1:
            return verdict(f"decay(N={N}, d={d}, share={share}) is {alpha:g}: a decay of an endless stream lies between 0 and 1, 1 excluded")
        left = alpha ** (2 * d)
        found = NormalDist().cdf(np.sqrt(N * left / (1 / (1 - alpha**2) - left)))
        if not found >= share - 1e-6:
            return verdict(f"decay(N={N}, d={d}, share={share}) is {alpha:.6g}, which lets {found:.4f} of the signs be read right")
    return verdict(None)
