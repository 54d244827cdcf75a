"""Answers to notebook 09."""
import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops.ssm.ssd import decays, in_chunks, masked_exp


# -------------------------------------------------------------------------------------------------------------------------- recurrence

def recurrence(v, a, B, C, read=lambda old, new: new, write=np.outer):
    h, y = np.zeros((v.shape[1], B.shape[1])), []
    for t in range(len(v)):
        old, h = h, np.exp(a[t]) * h + write(v[t], B[t])
        y.append(read(old, h) @ C[t])
    return np.array(y)


def scanned(v, a, B, C):
    def step(h, now):
        v, a, B, C = now
        h = jnp.exp(a) * h + v[:, None] * B[None, :]
        return h, h @ C
    return jax.lax.scan(step, jnp.zeros((v.shape[1], B.shape[1])), (v, a, B, C))[1]


def decayed_after_writing(v, a, B, C):
    h, y = np.zeros((v.shape[1], B.shape[1])), []
    for t in range(len(v)):
        h = np.exp(a[t]) * (h + np.outer(v[t], B[t]))
        y.append(h @ C[t])
    return np.array(y)


# ------------------------------------------------------------------------------------------------------------------------------ matrix

def differences(a):
    s = jnp.cumsum(jnp.asarray(a))
    past = jnp.tril(jnp.ones((len(a), len(a)), bool))
    return jnp.where(past, jnp.exp(jnp.where(past, s[:, None] - s[None, :], 0.0)), 0.0)


def row_by_row(a):
    L = np.eye(len(a))
    for i in range(1, len(a)):
        L[i, :i] = np.exp(a[i]) * L[i - 1, :i]
    return L


def masked_after_exp(a):
    s = jnp.cumsum(jnp.asarray(a))
    return jnp.where(jnp.tril(jnp.ones((len(a), len(a)), bool)), jnp.exp(s[:, None] - s[None, :]), 0.0)


def multiplied_by_the_mask(a):
    s = np.cumsum(a)
    return np.tril(np.ones((len(a), len(a)))) * np.exp(s[:, None] - s[None, :])


def factored(a):
    s = np.cumsum(a)
    return np.tril(np.exp(s)[:, None] * np.exp(-s)[None, :])


def own_decay_included(a):
    s, before = np.cumsum(a), np.cumsum(a) - a
    return np.tril(np.exp(np.minimum(s[:, None] - before[None, :], 0)))


# ------------------------------------------------------------------------------------------------------------------------------- chunk

def chunk(h, v, a, B, C, keep=True, recall=True, reach=True):
    s = jnp.cumsum(jnp.asarray(a))
    y = (C @ B.T * differences(a)) @ v
    if recall:
        y = y + (jnp.exp(s)[:, None] if keep else 1.0) * (C @ h.T)
    to_end = masked_exp(s[-1] - s) if reach else jnp.ones_like(s)
    return y, (jnp.exp(s[-1]) if keep else 1.0) * h + (to_end[:, None] * v).T @ B


def library_chunk(h, v, a, B, C):
    y, h = in_chunks(decays, *(jnp.asarray(z) for z in (v[None, :, None], a[None, :, None], B[None, :, None], C[None, :, None], h[None, None])), None,
                     len(v))
    return y[0, :, 0], h[0, 0]


RIGHT = {
    "recurrence": [recurrence, scanned],
    "decay_matrix": [differences, row_by_row],
    "chunk": [chunk, library_chunk],
}
WRONG = {
    "recurrence": [
        lambda v, a, B, C: None,
        decayed_after_writing,
        lambda v, a, B, C: recurrence(v, a, B, C, read=lambda old, new: old),
        lambda v, a, B, C: recurrence(v, a, C, B),
        lambda v, a, B, C: recurrence(v, 1 - np.exp(a), B, C),
        lambda v, a, B, C: recurrence(v, a, B, C).T,
    ],
    "decay_matrix": [lambda a: None, masked_after_exp, multiplied_by_the_mask, factored, own_decay_included],
    "chunk": [
        lambda h, v, a, B, C: None,
        lambda h, v, a, B, C: chunk(h, v, a, B, C, keep=False),
        lambda h, v, a, B, C: chunk(h, v, a, B, C, recall=False),
        lambda h, v, a, B, C: chunk(h, v, a, B, C, reach=False),
        lambda h, v, a, B, C: chunk(h, v, a, B, C)[0],
        lambda h, v, a, B, C: (chunk(h, v, a, B, C)[0], chunk(h, v, a, B, C)[1].T),
    ],
}
