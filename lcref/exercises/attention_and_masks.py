"""Exercises of notebook 01: masks by algebra, the margin that a long row asks for, attention itself."""
import numpy as np

from lcref.exercises import difference, verdict


def dilated(answer) -> bool:
    """answer(n, step) -> a mask of lcref.ops.masks or any function (q_pos, k_pos) -> bool [T,S]: a query sees itself and the n - 1 keys that
    lie step, 2 step, ... before it."""
    for n, step, T in ((1, 1, 5), (3, 1, 7), (3, 2, 11), (4, 5, 23)):
        mask, where = answer(n, step), np.arange(T)
        if mask is None:
            return verdict("the answer is None: it is still to be written")
        back = where[:, None] - where[None, :]
        if problem := difference(f"dilated({n}, {step}) of {T} positions", mask(where, where), (back >= 0) & (back % step == 0) & (back < n * step)):
            return verdict(problem)
    return verdict(None)


def margin(answer) -> bool:
    """answer(n, share) -> by how much the score of one key must exceed those of n - 1 others, all alike, for its weight to be `share`."""
    for n, share in ((2, 0.5), (16, 0.9), (128, 0.9), (100_000, 0.99), (7, 0.1)):
        if problem := difference(f"margin({n}, {share})", answer(n, share), np.log((n - 1) * share / (1 - share)), within=1e-4):
            return verdict(problem)
    return verdict(None)


def attention(answer) -> bool:
    """answer(q [T,K], k [S,K], v [S,V], visible bool [T,S]) -> [T,V]: softmax attention of one head. A query that sees nothing gets zeros."""
    rng = np.random.default_rng(0)
    for T, S, K, V, size in ((1, 1, 2, 3, 1.0), (3, 3, 4, 4, 1.0), (5, 9, 8, 2, 1.0), (4, 6, 4, 4, 100.0)):
        q, k, v = (rng.normal(size=shape) for shape in ((T, K), (S, K), (S, V)))
        visible = rng.random((T, S)) < 0.6
        visible[:, 0] |= size > 1
        if size == 1.0 and T > 1:
            visible[-1] = False
        scores = np.where(visible, size * q @ k.T / np.sqrt(K), -np.inf)
        e = np.exp(scores - np.where(visible.any(1, keepdims=True), scores.max(1, keepdims=True), 0.0))
        want = e / np.maximum(e.sum(1, keepdims=True), 1e-300) @ v
        with np.errstate(all="ignore"):
            got = answer(np.float32(size * q), np.float32(k), np.float32(v), visible)
        what = f"attention of {T} queries and {S} keys" + (", scores of hundreds" if size > 1 else ", the last query sees nothing" if T > 1 else "")
        if problem := difference(what, got, want, within=1e-3):
            return verdict(problem)
    return verdict(None)
