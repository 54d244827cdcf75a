"""Exercises of notebook 08: a spring with a wanted swing, the kernel of a diagonal system, a whole history in Legendre coefficients."""
import numpy as np

from lcref.exercises import difference, verdict


def spring(answer) -> bool:
    """answer(period, half_life) -> (k, b) of y'' = u - k y - b y': it swings with this period, and its swings halve in this time."""
    for period, half_life in ((1.0, 10.0), (6.0, 2.0), (0.5, 0.1), (100.0, 30.0)):
        case, got = f"spring({period:g}, {half_life:g})", answer(period, half_life)
        if got is None:
            return verdict("the answer is None: it is still to be written")
        if np.shape(got) != (2,):
            return verdict(f"{case} should be two numbers, k and b")
        k, b = map(float, got)
        if not k > b * b / 4:
            return verdict(f"{case} gives k = {k:g}, b = {b:g}: such a spring does not swing, as b^2 is not below 4 k")
        if not b > 0:
            return verdict(f"{case} gives b = {b:g}: its swings never get smaller")
        swings, halves = 2 * np.pi / np.sqrt(k - b * b / 4), 2 * np.log(2) / b
        if not np.allclose((swings, halves), (period, half_life), rtol=1e-4, atol=0):
            return verdict(f"{case} gives k = {k:g}, b = {b:g}: a period of {swings:.5g}, and swings that halve in {halves:.5g}")
    return verdict(None)


def kernel(answer) -> bool:
    """answer(Lambda [M], B [M], C [M], dt, length) -> real [length]: K_l = 2 Re sum C Bbar Abar^l, by zero-order hold."""
    rng = np.random.default_rng(0)
    for M, dt, length in ((1, 0.1, 4), (2, 0.5, 1), (3, 0.1, 7), (8, 0.02, 100)):
        Lambda = -0.5 + 1j * np.pi * np.arange(1, M + 1)
        B, C = rng.normal(size=(2, M)) + 1j * rng.normal(size=(2, M))
        Abar = np.exp(dt * Lambda)
        want = [2 * np.sum(C * B * (Abar - 1) / Lambda * Abar**step).real for step in range(length)]
        got = answer(*(np.complex64(z) for z in (Lambda, B, C)), dt, length)
        what = f"the kernel of {M} eigenvalues, dt = {dt:g}, length {length},"
        if got is not None and np.iscomplexobj(got):
            return verdict(f"{what} is complex: its values should be real numbers")
        if problem := difference(what, got, want, within=1e-3):
            return verdict(problem)
    return verdict(None)


def coefficients(answer) -> bool:
    """answer(u [T], N) -> [N]: integrals over 0 .. 1 of u, stretched over it and its last number at 1, times sqrt(2n + 1) P_n(2z - 1)."""
    T = 2000
    z = (np.arange(T) + 0.5) / T
    rows = {"of ones": z**0, "that rises from 0 to 1": z, "that is a wave": np.sin(5 * z + 1), "that is 1 in its last quarter": 1.0 * (z > 0.75)}
    for N in (1, 4):
        basis = np.sqrt(2 * np.arange(N) + 1)[:, None] * np.polynomial.legendre.legvander(2 * z - 1, N - 1).T
        for name, u in rows.items():
            if problem := difference(f"coefficients of a row {name}, N = {N},", answer(u, N), basis @ u / T, within=0.01):
                return verdict(problem)
    return verdict(None)
