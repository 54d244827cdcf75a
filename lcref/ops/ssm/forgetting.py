"""What keeps a Mamba-2 state within the bounds of its training when rows are longer, without training it again. arXiv 2410.07145.

A state that is large for the length it was trained on never had to forget: past that length old tokens pile up in it, a few channels
grow out of proportion, and the gated norm behind drowns the others ("state collapse"). Three remedies, each a value that takes any
form of the recurrence (lcref/ops/ssm/ssd.py) and gives another:

    ForgetMore(decay=a, write=b)    h_t = exp(a dt_t A) h_{t-1} + b dt_t x_t B_t^T
    CapState(norm=p)                h_t = min(1, p / |h|) h,  h = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T,   |h| Frobenius, a head
    RecentOnly(window=r)            h_t - exp(a_{t-r+1} + ... + a_t) h_{t-r}:  the state as if the row began r tokens ago,  a_t = dt_t A

`remedy.init_state(batch, H, P, G, N)` and `remedy(form, x, dt, A, B, C, D, initial_state=, segments=, chunk=) -> (y, state)`, shapes as in
ssd.py. The first two keep the plain state [B,H,P,N].

CapState is not linear in the state, so it goes token by token, whatever the form. O(T N P).
RecentOnly by the formula above (`recent_recurrent`, the definition) subtracts two states, which costs digits where little decays and they are large.
The same output is a sum over the last r tokens alone, decaying attention in a band (`recent_banded`, what is used): O(T r (N + P)) in matrix
products, and what a stream carries is those tokens (`Recent`), not a state. Its weights are differences of a running sum over 2r tokens, so that it
is the less exact one where much decays: with a window of 256, errors of 4e-5 of an output where the sum is -400, 4e-4 at -6,500.

Sources: names and effects from the abstract of the paper's first version; the multipliers after softplus and the threshold per head from
the authors' code (github.com/thunlp/stuffed-mamba), whose capping multiplies by |h| / p where the idea needs p / |h|.
"""
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops.numbers import whole
from lcref.ops.ssm.ssd import LOWEST, log_decay, masked_exp, prepared, skip, ssd_step, time_first


class Recent(NamedTuple):
    """The last r - 1 tokens of a stream, oldest first; zeros where there were none."""
    value: jax.Array                                       # [B,r-1,H,P]: dt x
    a: jax.Array                                           # [B,r-1,H]: dt A
    B: jax.Array                                           # [B,r-1,G,N]


@dataclass(frozen=True)
class ForgetMore:
    """Decay every step `decay` times as much, and write `write` times as much."""
    decay: float = 1.1
    write: float = 1.0

    def __post_init__(self):
        if not 1 <= self.decay < math.inf or not 0 < self.write <= 1:
            raise ValueError(f"forgetting more takes decay >= 1 and 0 < write <= 1; got {self.decay} and {self.write}")

    def init_state(self, batch, H, P, G, N):
        return jnp.zeros((batch, H, P, N))

    def __call__(self, form, x, dt, A, B, C, D=None, **kwargs):
        return form(x, dt, self.decay * A, self.write * B, C, D, **kwargs)


@dataclass(frozen=True)
class CapState:
    """Scale a head's state down to Frobenius norm `norm` wherever it is larger."""
    norm: float = 10.0

    def __post_init__(self):
        if not self.norm > 0:
            raise ValueError(f"norm must be positive, got {self.norm}")

    def init_state(self, batch, H, P, G, N):
        return jnp.zeros((batch, H, P, N))

    def __call__(self, form, x, dt, A, B, C, D=None, *, initial_state=None, segments=None, chunk=64):
        x, dt, A, B, C, h, fresh, dtype = prepared(x, dt, A, B, C, D, initial_state, segments)

        def step(h, now):
            x, dt, B, C, fresh = now
            h, _ = ssd_step(jnp.where(fresh[:, None, None, None], 0.0, h), x, dt, A, B, C)
            size = jnp.sqrt(jnp.sum(h * h, axis=(2, 3), keepdims=True) + 1e-30)          # 1e-30: a gradient at h = 0
            h = h * jnp.where(size > self.norm, self.norm / size, 1.0)
            return h, jnp.einsum("bhpn,bhn->bhp", h, jnp.repeat(C, h.shape[1] // C.shape[1], axis=1))
        h, y = jax.lax.scan(step, h, [time_first(z) for z in (x, dt, B, C, fresh)])
        return skip(time_first(y), x, D, dtype), h


@dataclass(frozen=True)
class RecentOnly:
    """Read of the state only what the last `window` tokens have written, the current one included."""
    window: int = 256

    def __post_init__(self):
        whole("recent_only", "window", self.window)

    def init_state(self, batch, H, P, G, N):
        n = self.window - 1
        return Recent(jnp.zeros((batch, n, H, P)), jnp.zeros((batch, n, H)), jnp.zeros((batch, n, G, N)))

    def __call__(self, form, x, dt, A, B, C, D=None, *, initial_state=None, segments=None, chunk=64):
        return recent_banded(x, dt, A, B, C, D, window=self.window, initial_state=initial_state, segments=segments)


MITIGATIONS = {"forget_more": ForgetMore, "cap_state": CapState, "recent_only": RecentOnly}


# ------------------------------------------------------------------------------------------------------- the window's two forms

def recent_recurrent(x, dt, A, B, C, D=None, *, window):
    """The definition: two recurrences, the second `window` tokens late, and their difference. Rows from their beginning -> y [B,T,H,P].

    The running sum of decays is cut as in ssd.py; where all of it has decayed the late state counts as 0.
    """
    x, dt, A, B, C, h, _, dtype = prepared(x, dt, A, B, C, D, None, None)
    late = [jnp.pad(z, [(0, 0), (window, 0)] + [(0, 0)] * (z.ndim - 2))[:, :z.shape[1]] for z in (x, dt, B, C)]
    a = log_decay(dt, A)
    total = jnp.cumsum(a, axis=1)
    between = total - jnp.pad(total, ((0, 0), (window, 0), (0, 0)))[:, :x.shape[1]]      # a_{t-r+1} + ... + a_t, [B,T,H]

    def step(states, now):
        new, old, between, C = now
        h, _ = ssd_step(states[0], new[0], new[1], A, new[2], new[3])
        g, _ = ssd_step(states[1], old[0], old[1], A, old[2], old[3])
        left = h - jnp.exp(jnp.maximum(between, LOWEST))[..., None, None] * g
        return (h, g), jnp.einsum("bhpn,bhn->bhp", left, jnp.repeat(C, h.shape[1] // C.shape[1], axis=1))
    _, y = jax.lax.scan(step, (h, h), jax.tree.map(time_first, ((x, dt, B, C), tuple(late), between, C)))
    return skip(time_first(y), x, D, dtype)


def recent_banded(x, dt, A, B, C, D=None, *, window, initial_state=None, segments=None):
    """Every token adds up what the last `window` tokens wrote: queries in pieces of `window`, each with the keys of its piece and of the
    window - 1 tokens before. initial_state, and the state that is returned: `Recent`, which belongs to the row's first and last document."""
    x, dt, A, B, C, _, fresh, dtype = prepared(x, dt, A, B, C, D, None, segments)
    (batch, T, H, P), (G, N), r = x.shape, B.shape[2:], window
    before = RecentOnly(r).init_state(batch, H, P, G, N) if initial_state is None else initial_state
    row = Recent(*(jnp.concatenate(pair, axis=1) for pair in zip(before, (dt[..., None] * x, log_decay(dt, A), B), strict=True)))
    document = jnp.pad(jnp.cumsum(fresh, axis=1), ((0, 0), (r - 1, 0)))                  # what came before belongs to document 0

    Q = min(r, T)
    fill = lambda z: jnp.pad(z, [(0, 0), (0, -T % Q)] + [(0, 0)] * (z.ndim - 2))
    keys = np.arange(0, T, Q)[:, None] + np.arange(Q + r - 1)[None, :]                   # [C,S], S = Q + r - 1
    value, a, B, ids = (fill(z)[:, keys] for z in (*row, document))                      # [B,C,S,...]
    C = fill(C).reshape(batch, -1, Q, G, N)
    i, j = np.arange(r - 1, Q + r - 1)[:, None], np.arange(Q + r - 1)[None, :]
    near = jnp.asarray((j <= i) & (i - j < r))[None, None] & (ids[:, :, r - 1:, None] == ids[:, :, None, :])
    s = jnp.cumsum(a, axis=2).transpose(0, 1, 3, 2)                                      # [B,C,H,S]
    L = masked_exp(s[..., r - 1:, None] - s[..., None, :], near[:, :, None])             # [B,C,H,Q,S]
    scores = jnp.repeat(jnp.einsum("bcqgn,bcsgn->bcgqs", C, B), H // G, axis=2) * L
    y = jnp.einsum("bchqs,bcshp->bcqhp", scores, value).reshape(batch, -1, H, P)[:, :T]

    same = (document == document[:, -1:])[:, T:]
    kept = Recent(*(jnp.where(same.reshape(*same.shape, *[1] * (z.ndim - 2)), z[:, T:], 0.0) for z in row))
    return skip(y, x, D, dtype), kept
