"""Exercises of notebook 09: SSD as a recurrence, its matrix of decays without overflow, and one step of the chunked form."""
import jax
import jax.numpy as jnp
import numpy as np

from lcref.exercises import difference, verdict


def _recurrence(v, a, B, C, h):
    """The definition in float64: v [T,P], a [T], B, C [T,N], h [P,N] -> (y [T,P], h after the last token)."""
    y = []
    for t in range(len(v)):
        h = np.exp(a[t]) * h + np.outer(v[t], B[t])
        y.append(h @ C[t])
    return np.array(y), h


def _inputs(T, P, N, decay, seed=0):
    """(v [T,P], a [T] of -decay on average, B [T,N], C [T,N]) float32."""
    rng = np.random.default_rng(seed)
    return [np.float32(z) for z in (rng.normal(size=(T, P)), -2 * decay * rng.random(T), rng.normal(size=(T, N)), rng.normal(size=(T, N)))]


def _lower(decay):
    """L [T,T] in float64: every sum of log decays by itself."""
    T = len(decay)
    return np.array([[np.exp(np.sum(np.float64(decay[j + 1:i + 1]))) if i >= j else 0.0 for j in range(T)] for i in range(T)])


def recurrence(answer) -> bool:
    """answer(v [T,P], a [T], B [T,N], C [T,N]) -> y [T,P]: h_t = exp(a_t) h_{t-1} + v_t B_t^T from a state of zeros, y_t = h_t C_t."""
    cases = {"one token": (1, 2, 3, 1.0), "one number written, one number kept": (6, 1, 1, 0.7), "nothing forgotten (a = 0)": (8, 3, 2, 0.0),
             "40 tokens": (40, 4, 3, 0.1), "decays of exp(-50)": (8, 3, 4, 50.0)}
    for what, (T, P, N, decay) in cases.items():
        v, a, B, C = _inputs(T, P, N, decay)
        want, _ = _recurrence(*(np.float64(z) for z in (v, a, B, C)), np.zeros((P, N)))
        if problem := difference(f"{what} (P = {P}, N = {N}): y", answer(v, a, B, C), want, 1e-3):
            return verdict(problem)
    return verdict(None)


def decay_matrix(answer) -> bool:
    """answer(a [T]) -> L [T,T]: exp(a_{j+1} + ... + a_i) for i >= j, else 0. Finite for any a <= 0, in JAX with a finite gradient."""
    mild = -np.random.default_rng(0).random(12).astype(np.float32)
    reset = mild.copy()
    reset[5] = -500.0
    cases = {"a between -1 and 0": mild, "a = 0: nothing decays": 0 * mild, "a = -60 at every token": np.full(10, -60.0, np.float32),
             "a = -500 at token 5, mild elsewhere": reset, "one token": mild[:1]}
    for what, a in cases.items():
        with np.errstate(all="ignore"):
            got = answer(a)
        if problem := difference(f"{what}: L", got, _lower(a), 1e-3):
            return verdict(problem)
        try:
            gradient = jax.grad(lambda a: jnp.sum(answer(a)))(jnp.asarray(a))
        except Exception:                                      # written in numpy, which has no gradient
            continue
        if not (finite := np.isfinite(np.asarray(gradient))).all():
            return verdict(f"{what}: L is right, but its gradient at a[{int(np.argmin(finite))}] is {np.asarray(gradient)[np.argmin(finite)]}: what "
                           "jnp.where leaves out of the value is still differentiated; mask the exponent, before exp")
    return verdict(None)


def chunk(answer) -> bool:
    """answer(h [P,N], v [Q,P], a [Q], B [Q,N], C [Q,N]) -> (y [Q,P], h after the chunk). Tried on rows of three chunks, h handed on."""
    cases = {"chunks of 1": (1, 2, 3, 0.5), "chunks of 4": (4, 3, 2, 0.3), "chunks of 7, nothing forgotten": (7, 3, 2, 0.0),
             "chunks of 8, decays of exp(-50)": (8, 2, 3, 50.0)}
    for what, (Q, P, N, decay) in cases.items():
        v, a, B, C = _inputs(3 * Q, P, N, decay, seed=1)
        h = np.float32(np.random.default_rng(2).normal(size=(P, N)))
        for n in range(3):
            here = slice(n * Q, n * Q + Q)
            y_want, h_want = _recurrence(*(np.float64(z[here]) for z in (v, a, B, C)), np.float64(h))
            with np.errstate(all="ignore"):
                got = answer(h, v[here], a[here], B[here], C[here])
            if got is None:
                return verdict("the answer is None: it is still to be written")
            if not isinstance(got, (tuple, list)) or len(got) != 2:
                return verdict(f"the answer is a {type(got).__name__}, and should be the pair (y, h)")
            where = f"{what} (P = {P}, N = {N}), chunk {n}: "
            if problem := difference(f"{where}y", got[0], y_want, 1e-3) or difference(f"{where}the new h", got[1], h_want, 1e-3):
                return verdict(problem)
            h = np.asarray(got[1])
    return verdict(None)
