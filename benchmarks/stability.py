"""How large scores and rows may get before attention weights stop being finite: formulas as papers write them, beside the forms used here.

    python -m benchmarks.stability [FORM ...]              forms: those of FORMS below

A row is scale * cos over N keys: cos is 1 at the first key, 0 at the second and -1 at the others, so that one key stands out as far as one can.
Operations run one by one, each rounded to the dtype. K = 64. A JSON line per form and dtype: the largest power of two, up to 2^20, until which
all are sound (0: not even the first that was tried, scale 1 or N = 4),
    scale    of a row of 1,024 keys
    N        of keys, with the scale that belongs to them: 8 for softmax (sqrt(K): q and k of normal entries), ln K ln N for the others
Sound: finite, all at least 0, and the sum within 2 % of 1, in which bfloat16 gets 8 % for its own rounding.
    softmax literal    exp(s) / sum exp(s)                       here    exp(s - max) / its sum, in float32
    lssa literal       F / sum F, F = log(1 + exp(s))            here    softplus in a form that does not overflow, in float32
    lssar literal      B / (sum B + 1e-8), B = relu(A N - 1)^p,  A as lssa literal's
    lssar safe exp     the same with a softplus that does not overflow: what is left is the power
    lssar here         (relu(F - mean) / its max)^p over its sum, in float32, given and giving the dtype
"""
import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import device, versions
from lcref.ops.weights import Lssa, Lssar, softmax

K, KEYS, TOP = 64, 1024, 20


def normalised(x, eps=0.0):
    return x / (x.sum(-1, keepdims=True) + jnp.asarray(eps, x.dtype))


def literal_lssar(power, softplus):
    def weights(s):
        A = normalised(softplus(s))
        return normalised(jnp.maximum(A * s.shape[-1] - 1, 0) ** power, 1e-8)
    return weights


def here(weights):
    """The library's form; n as numbers beside float32 scores, the result in the scores' dtype. The scale is in the scores already."""
    def row(s):
        n = jnp.full(s.shape[:-1], s.shape[-1])
        factor = weights.factor(n)
        return weights(s.astype(jnp.float32) / (1.0 if factor is None else factor[..., None]), n).astype(s.dtype)
    return row


def plain_softplus(s):
    return jnp.log(1 + jnp.exp(s))


FORMS = {"softmax literal": lambda s: normalised(jnp.exp(s)), "softmax here": here(softmax),
         "lssa literal": lambda s: normalised(plain_softplus(s)), "lssa here": here(Lssa())}
for p in (3, 5, 10, 15, 30):
    FORMS |= {f"lssar p={p} literal": literal_lssar(p, plain_softplus), f"lssar p={p} safe exp": literal_lssar(p, jax.nn.softplus),
              f"lssar p={p} here": here(Lssar(p))}


def row(scale, N, dtype):
    return jnp.full((1, N), -scale, dtype).at[0, :2].set(jnp.asarray([scale, 0], dtype))


def sound(form, scale, N, dtype):
    w = np.asarray(form(row(scale, N, dtype)), np.float64)
    return bool(np.isfinite(w).all() and (w >= 0).all() and abs(w.sum() - 1) <= (0.02 if dtype == jnp.float32 else 0.08))


def largest(holds, first):
    """The largest power of two from `first` to 2^TOP that holds, all below it holding too; 0 where the first does not."""
    found = 0
    for value in (2**i for i in range(TOP + 1) if 2**i >= first):
        if not holds(value):
            return found
        found = value
    return found


def limits(name, dtype):
    form, own = FORMS[name], (lambda N: 8.0) if name.startswith("softmax") else (lambda N: math.log(K) * math.log(N))
    return dict(scale=largest(lambda scale: sound(form, float(scale), KEYS, dtype), 1),
                N=largest(lambda N: sound(form, own(N), N, dtype), 4))


if __name__ == "__main__":
    for name in sys.argv[1:] or FORMS:
        for dtype in (jnp.float32, jnp.bfloat16):
            print(json.dumps(dict(case=f"stability {jnp.dtype(dtype).name}", name=name, **limits(name, dtype), tried_to=2**TOP, device=device(),
                                  versions=versions())), flush=True)
