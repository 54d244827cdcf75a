"""Exercises of notebook 06: how many keys a row spreads over, re-weighting that does not overflow, how long a planted key stays ahead."""
import numpy as np

from lcref.exercises import difference, verdict


def effective(answer) -> bool:
    """answer(weights [T,S]) -> [T]: e^H keys, H the entropy of a row. Zeros add nothing."""
    rng = np.random.default_rng(0)
    some = rng.random((3, 9))
    causal = np.tri(6) / np.arange(1, 7)[:, None]
    for what, w in (("a uniform row of 8", np.full((1, 8), 1 / 8)), ("random rows", some / some.sum(1, keepdims=True)),
                    ("rows with all weight on one key", np.eye(5)), ("uniform causal rows", causal)):
        with np.errstate(all="ignore"):
            got = answer(w)
        want = np.exp(-np.sum(w * np.log(np.where(w > 0, w, 1)), 1))
        if problem := difference(f"effective keys of {what}", got, want, within=1e-4):
            return verdict(problem)
    return verdict(None)


def _lssar(scores, p):
    F = np.logaddexp(0, np.asarray(scores, np.float64))
    x = np.maximum(F - F.mean(), 0)
    x = (x / max(x.max(), 1e-300)) ** p
    return x / max(x.sum(), 1e-300)


def reweighted(answer) -> bool:
    """answer(scores float32 [n], p) -> float weights [n] of LSSAR, n > 3: relu(F - mean F)^p over its sum, F = ln(1 + e^score)."""
    rng = np.random.default_rng(0)
    alone = np.full(5000, -30, np.float32)
    alone[7] = 30
    for what, scores, p in (
        ("8 random scores, p = 3", rng.normal(size=8), 3), ("300 random scores, p = 15", 2 * rng.normal(size=300), 15),
        ("one score of 30 among 5,000 of -30, p = 15", alone, 15), ("scores of hundreds, p = 3", 200 * rng.normal(size=20), 3),
        ("8 small scores, p = 15", 1e-2 * rng.normal(size=8), 15), ("8 scores of 0, where nothing stands out, p = 15", np.zeros(8), 15),
    ):
        scores = scores.astype(np.float32)
        with np.errstate(all="ignore"):
            got = answer(scores, p)
        if problem := difference(f"weights of {what}", got, _lssar(scores, p), within=1e-3):
            return verdict(problem)
    return verdict(None)


def crossing(answer) -> bool:
    """answer(cosine, K) -> the n at which the best of n random keys, at sqrt(2 ln n) / sqrt(K), reaches the planted cosine."""
    for cosine, K in ((0.5, 64), (0.6, 64), (0.5, 128), (0.3, 64), (0.8, 16)):
        got, want = answer(cosine, K), np.exp(K * cosine**2 / 2)
        if got is None:
            return verdict("the answer is None: it is still to be written")
        if not abs(np.log(float(got)) - np.log(want)) < 1e-2:
            return verdict(f"crossing({cosine}, {K}) is {float(got):,.6g}, and should be {want:,.6g}")
    return verdict(None)
