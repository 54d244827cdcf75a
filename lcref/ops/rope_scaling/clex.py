"""CLEX: frequencies as the solution of a learned ODE in the length scale t.  Chen et al., arXiv 2310.16450, and the authors' code.

The state is z(t) = ln theta(t), one number a plane, z(1) = ln theta. NTK scaling with alpha(t) = 2t - 1 is one such curve,
    ntk_k(t) = theta_k (2t - 1)^(-2k/(K-2)),
and CLEX learns how to leave it:
    dz/dt = act((z + ln ntk(t)) W_up) W_down  +  d ln ntk/dt,        W_up [K/2, width K],  W_down [width K, K/2] zero at first

Put y = z - ln ntk: the prior drops out, and only what is learned is left to integrate,
    dy/dt = act((y + 2 ln ntk(t)) W_up) W_down,    y(1) = 0,         theta(t) = ntk(t) exp(y(t)),
the same function, without the error of stepping through a prior that is known: a step of 0.1 is enough, and at initialisation, y = 0,
it is exactly NTK. One ODE serves all layers and heads.

Training, every row of n tokens: t ~ U{1..factor}, and n ids that reach t L: 0, n - 2 ids drawn without replacement between, and
t L - 1. So the model meets long positions, and the frequencies that go with them, at the price of short passes. t = 1 is 0..n-1.
With `chunks`, ids come in so many pieces of neighbours instead, and the gaps lie between the pieces (as in PoSE, arXiv 2309.10400,
section 3): scattered ids are t apart on average, and text is read with ids that are all 1 apart, such as no row at t > 1 has.
Reading: t = ceil(length / L), at most factor; ids are plain; frequencies come from a table solved once for t = 1..factor. The angles
of old keys change with t, so a cache holds keys un-rotated. The authors also scale logits by ln n / ln L when evaluating: that is
log_n in ops/weights.py, with reference = L.

    Clex               the above
    ClexPrior          W_down never trained: NTK frequencies with CLEX's training ids. A config of its own, nothing to train.
    RandomPositions    CLEX's training ids and plain frequencies: what of the gain do ids alone explain?

Cost: 4 (factor - 1) / step products of a vector with the two matrices, per training pass and once per text read.

Deviation: the released code computes ln ntk inside the act with base 10,000 whatever the model's base; here it is the model's.
Deviation: it draws once for a device's batch; here every row draws for itself, so that a step on one device meets many t, as theirs do
over devices and accumulated batches, and a row's frequencies are its own (lcref/nn/positions/scheme.py, row_length).
Deviation: for passes of c windows (n = c L) it puts ids at whole multiples of 1/c; the last id then equals its neighbour (c = 2) or
lies before it (c > 2). Here the n t places are spread evenly over 0..t L - 1. The same for c = 1.
"""
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from lcref.ops.numbers import number, whole
from lcref.ops.positions import indices, known
from lcref.ops.rope_scaling.ode import integrate
from lcref.ops.rope_scaling.scaling import Scaling, ntk_exponents, single, theta, windows

ACTIVATIONS = {"tanh": jnp.tanh, "silu": jax.nn.silu}


@dataclass(frozen=True)
class RandomPositions(Scaling):
    """CLEX's training ids, plain frequencies: the control called RandomPos in the paper. It extrapolates badly, and should.

    factor: largest t, a whole number. chunks: in how many pieces of neighbouring ids a row is laid out; None: every id for itself.
    ValueError for factor < 1, original_length < 1, chunks < 2.
    """
    draws_training_ids: ClassVar[bool] = True
    factor: int = 16
    original_length: int = 2048
    chunks: int | None = None

    def __post_init__(self):
        whole("clex", "factor", self.factor)
        whole("clex", "original_length", self.original_length)
        if self.chunks is not None:
            whole("clex", "chunks", self.chunks, least=2)

    def inv_freq(self, head_dim, base, length, table=None):
        return single(theta(head_dim, base))

    def training_ids(self, key, pos):
        """pos [n] or [B,n] -> ids, same shape: one draw a row, in which position p has one id.

        n is a multiple of original_length, else ValueError: only then does max(ids) + 1, the length that inv_freq is asked for, lie in
        window t. (In packed rows it is the longest document's end that says.) int32 for n = L, else float32. ValueError without a key, for
        known pos outside 0..n-1, or more chunks than positions. O(n factor log(n factor)) a row; the shape does not depend on t.
        """
        n, L = pos.shape[-1], self.original_length
        if key is None:
            raise ValueError("clex draws ids in every training pass: give a key")
        if n < 2 or n % L:
            raise ValueError(f"clex trains on whole windows: {n} positions are not a multiple of original_length {L}, or too few")
        if self.chunks is not None and self.chunks > n:
            raise ValueError(f"{n} positions cannot be laid out in {self.chunks} chunks")
        here = known(pos)
        if here is not None and here.size and not 0 <= here.min() <= here.max() < n:
            raise ValueError(f"positions {here.min()} to {here.max()} in a pass of {n}")

        def of_row(key, pos):
            for_t, for_places = jax.random.split(key)
            t = jax.random.randint(for_t, (), 1, self.factor + 1)
            ids = (self.scattered if self.chunks is None else self.chunked)(for_places, n, t)
            if n != L:
                last = (L * t - 1).astype(jnp.float32)
                ids = (ids.astype(jnp.float32) * (last / (n * t - 1).astype(jnp.float32))).at[-1].set(last)
            return jnp.take(ids, indices(pos, n), mode="fill", fill_value=L * self.factor)
        pos = jnp.asarray(pos)
        return of_row(key, pos) if pos.ndim == 1 else jax.vmap(of_row)(jax.random.split(key, len(pos)), pos)

    def scattered(self, key, n, t):
        """n sorted distinct numbers of 0..n t - 1, both ends among them, all sets of others equally likely. Exactly n - 2 distinct places:
        random numbers for all n factor - 2 of them, those past n t - 2 struck out, the places of the n - 2 smallest."""
        tickets = jax.random.bits(key, (n * self.factor - 2,), jnp.uint32)
        place = jnp.arange(len(tickets), dtype=jnp.int32)
        tickets = jnp.where(place < n * t - 2, tickets, np.uint32(2**32 - 1))    # equal tickets: the sort is stable, struck out ones last
        between = jnp.sort(jnp.argsort(tickets, stable=True)[:n - 2]).astype(jnp.int32) + 1
        return jnp.concatenate([jnp.zeros(1, jnp.int32), between, (n * t - 1)[None]])

    def chunked(self, key, n, t):
        """0..n-1, cut at chunks - 1 places, and each piece moved further than the one before it, the last by all n (t - 1)."""
        for_cuts, for_skips = jax.random.split(key)
        first = jnp.sort(jax.random.permutation(for_cuts, n - 1)[:self.chunks - 1]) + 1          # of each piece but the first
        skips = jax.random.randint(for_skips, (self.chunks - 1,), 0, n * (t - 1) + 1).at[0].set(n * (t - 1))
        piece = (jnp.arange(n)[:, None] >= first[None, :]).sum(1)
        return jnp.arange(n, dtype=jnp.int32) + jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.sort(skips)])[piece]


@dataclass(frozen=True)
class ClexPrior(RandomPositions):
    """The curve that CLEX starts from: theta_k (2t - 1)^(-2k/(K-2)) at t = ceil(length / original_length), at most factor."""
    dynamic: ClassVar[bool] = True

    def inv_freq(self, head_dim, base, length, table=None):
        """Row t of `table` [factor, K/2]; of the curve at initialisation when there is none."""
        table = single(np.exp(log_ntk(head_dim, base, np.arange(1, self.factor + 1)))) if table is None else table
        return table[jnp.minimum(windows(length, self.original_length), self.factor) - 1]


@dataclass(frozen=True)
class Clex(ClexPrior):
    """factor: largest t. step: of the integration, in t. width: W_up is [K/2, width K]. activation: "tanh" or "silu".
    learning_rate: of the two matrices, times the model's. What they say is summed over K hidden units and over t, so at the rate of the
    other weights a few hundred steps move a frequency by many powers of e. (The authors fine-tune everything at 2e-5.)

    ValueError for factor < 1, original_length < 1, chunks < 2, width < 1, a step that does not divide 1, an unknown activation, learning_rate <= 0.
    """
    step: float = 0.1
    width: int = 1
    activation: Literal["tanh", "silu"] = "tanh"
    learning_rate: float = 0.01

    def __post_init__(self):
        super().__post_init__()
        number("clex", "step", self.step, above=0)
        if self.step > 1 or not math.isclose(round(1 / self.step) * self.step, 1, rel_tol=1e-9):
            raise ValueError(f"clex step must divide 1, as 0.1 or 0.25 do, got {self.step}")
        whole("clex", "width", self.width)
        number("clex", "learning_rate", self.learning_rate, above=0)
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"unknown clex activation {self.activation!r}: choose one of {', '.join(ACTIVATIONS)}")

    def initial(self, key, head_dim):
        """W_up [K/2, width K] ~ U(-1, 1) / sqrt(width K), W_down [width K, K/2] = 0, float32: at first CLEX is ClexPrior."""
        theta(head_dim, 10_000.0)                                              # odd widths complain here
        half, hidden = head_dim // 2, self.width * head_dim
        return {"up": jax.random.uniform(key, (half, hidden), jnp.float32, -1.0, 1.0) * hidden**-0.5,
                "down": jnp.zeros((hidden, half), jnp.float32)}

    def solve(self, head_dim, base, parameters):
        """parameters {"up", "down"} -> theta(t) at t = 1..factor, f32[factor, K/2]; row 0 is theta itself. Differentiable."""
        up, down = (jnp.asarray(parameters[name], jnp.float32) for name in ("up", "down"))
        log_theta, exponents = single(np.log(theta(head_dim, base))), single(ntk_exponents(head_dim))
        act = ACTIVATIONS[self.activation]

        def slope(t, y):
            x = y + 2 * (log_theta - exponents * jnp.log(2 * t - 1))
            return jnp.matmul(act(jnp.matmul(x, up, precision="highest")), down, precision="highest")

        steps = round(1 / self.step)
        times = 1 + np.arange((self.factor - 1) * steps + 1) / steps
        y = integrate(slope, jnp.zeros(head_dim // 2, jnp.float32), times)[::steps]
        return single(np.exp(log_ntk(head_dim, base, times[::steps]))) * jnp.exp(y)


def log_ntk(head_dim, base, t):
    """ln theta_k - 2k/(K-2) ln(2t - 1), float64.  t, numpy [N] -> [N, K/2]."""
    return np.log(theta(head_dim, base)) - np.log(2.0 * t - 1)[:, None] * ntk_exponents(head_dim)
