"""Exercises of notebook 04: the velocity of NTK, neighbours among scattered ids, and ids in chunks."""
import numpy as np

from lcref.exercises import difference, verdict
from lcref.ops.rope_scaling.scaling import ntk_exponents


def velocity(answer) -> bool:
    """answer(k, head_dim, t, a) -> d ln theta_k / dt where theta_k(t) = theta_k (a t - a + 1)^(-2k/(K-2))."""
    for k, head_dim, t, a in ((0, 32, 2.0, 2), (15, 32, 1.0, 2), (15, 32, 4.0, 1), (3, 16, 2.5, 2), (10, 128, 8.0, 3.0)):
        want = -ntk_exponents(head_dim)[k] * a / (a * t - a + 1)
        if problem := difference(f"velocity({k}, {head_dim}, {t}, {a})", answer(k, head_dim, t, a), want, within=1e-3):
            return verdict(problem)
    return verdict(None)


def neighbours(answer) -> bool:
    """answer(n, t) -> the share of the n - 1 gaps of a scattered row that are 1, on average: 0, n - 2 of the n t - 2 ids between, and n t - 1."""
    for n, t in ((128, 4), (128, 1), (4, 2), (3, 3), (10, 2), (64, 16)):
        if problem := difference(f"neighbours({n}, {t})", answer(n, t), (n - 2) / (n * t - 2), within=0.02):
            return verdict(problem)
    return verdict(None)


def chunked(answer) -> bool:
    """answer(rng, n, t, chunks) -> n increasing ids from 0 to n t - 1, in at most `chunks` pieces of neighbours, drawn anew in every call."""
    rng = np.random.default_rng(0)
    for n, t, chunks in ((8, 1, 2), (8, 4, 2), (128, 4, 4), (5, 3, 5), (64, 16, 3)):
        drawn = set()
        for _ in range(30):
            name, got = f"chunked(rng, {n}, {t}, {chunks})", answer(rng, n, t, chunks)
            if got is None:
                return verdict(f"{name} is None: the answer is still to be written")
            got = np.asarray(got)
            shown = np.array2string(got, threshold=20)
            if got.shape != (n,):
                return verdict(f"{name} has shape {list(got.shape)}, and should have {[n]}")
            gaps = np.diff(got)
            if not (gaps > 0).all() or not (got == np.round(got)).all():
                return verdict(f"{name} should be increasing whole numbers, and is {shown}")
            if got[0] != 0 or got[-1] != n * t - 1:
                return verdict(f"{name} should begin with 0 and end with {n * t - 1}, and is {shown}")
            if (gaps > 1).sum() > chunks - 1:
                return verdict(f"{name} has {(gaps > 1).sum()} gaps of more than 1, so {(gaps > 1).sum() + 1} pieces: {shown}")
            drawn.add(tuple(got.tolist()))
        if t > 1 and len(drawn) == 1:
            return verdict(f"{name} is the same row in 30 calls: {shown}")
    return verdict(None)
