# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 Mamba-2: one recurrence, three forms
#
# **Question.** A recurrent layer reads a row token by token into a state of fixed size, so a token costs the same however much was read before. But
# token by token is a poor way to train. How can the same layer be computed by matrix products, as attention is?
#
# You will see the recurrence of Mamba-2 (SSD) written as a matrix, what is special about that matrix, the form in chunks that follows from it, what
# each costs in operations, time and memory, and how far back a head can see. Ten minutes; under a minute of computing.
#
# The code that does it: [`ops/ssm/ssd.py`](../lcref/ops/ssm/ssd.py), [`ops/ssm/tracking.py`](../lcref/ops/ssm/tracking.py). Papers: Mamba-2,
# [2405.21060](https://arxiv.org/abs/2405.21060); decays with a sign, [2411.12537](https://arxiv.org/abs/2411.12537).

# %%
import json
import time
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from lcref import plotting
from lcref.exercises import mamba2_three_forms as judge
from lcref.experiment import shipped
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.ops.ssm.ssd import FORMS, decays, ssd_chunked, ssd_quadratic, ssd_recurrent
from lcref.ops.ssm.tracking import signed_chunked

# %% [markdown]
# ## The recurrence
#
# A head keeps a state $h$, a matrix of P x N numbers. Each token shrinks it by one number, adds a product of two vectors, and reads with a third:
#
# $$h_t = e^{a_t} h_{t-1} + v_t B_t^\top, \qquad y_t = h_t C_t, \qquad a_t = \Delta_t A \le 0, \quad v_t = \Delta_t x_t.$$
#
# $x_t$ (P numbers), $B_t$, $C_t$ (N numbers) and the step $\Delta_t \ge 0$ (`dt`) are computed from the token, $A < 0$ is a constant of the head. A
# token with a large step forgets what came before and writes itself; one with step 0 leaves the state as it is.

# %%
ones = jnp.ones((1, 4, 1, 1))                                       # x [B,T,H,P]; B and C [B,T,G,N]
y, state = ssd_recurrent(ones, jnp.ones((1, 4, 1)), jnp.array([-np.log(2)]), ones, ones)
print("halve the state, add 1, read it:", y[0, :, 0, 0])

# %% [markdown]
# ## The same as a matrix
#
# Written out, every output is a sum over the tokens up to it:
#
# $$y_i = \sum_{j \le i} L_{ij}\, (C_i \cdot B_j)\, v_j, \qquad L_{ij} = e^{a_{j+1} + \dots + a_i}.$$
#
# This is attention without softmax. $C$ are the queries, $B$ the keys, $v$ the values, and $L$ is a causal mask that fades. On the right, the same
# matrix from the recurrence: one row of tokens for each $j$, where only token $j$ writes, and a 1.

# %%
T, N = 24, 3
rng = np.random.default_rng(0)
dt, A = jnp.asarray(rng.uniform(0.02, 0.5, (1, T, 1)), jnp.float32), jnp.array([-1.0])
B, C = jnp.asarray(rng.normal(size=(2, 1, T, 1, N)), jnp.float32)
L = decays(dt[0, :, 0] * A, jnp.tril(jnp.ones((T, T), bool)), None, None)[0]
products = C[0, :, 0] @ B[0, :, 0].T

only_j = jnp.eye(T)[:, :, None, None] / dt[..., None]               # v = dt x is 1 at token j of row j
repeat = lambda z: jnp.repeat(z, T, axis=0)
measured = ssd_recurrent(only_j, repeat(dt), A, repeat(B), repeat(C))[0][:, :, 0, 0].T

figure, axes = plt.subplots(1, 4, figsize=(13, 3.5), layout="constrained")
pictures = {"$L$: decays, dark is 0": L, r"$C B^\top$": products, r"$L \circ C B^\top$, grey is 0": L * products,
            "the recurrence's answers": measured}
for ax, (title, z) in zip(axes, pictures.items()):
    plotting.matrix(ax, z, title, x_label="token j writes", y_label="token i reads")
print("the two on the right differ by at most", f"{jnp.abs(measured - L * products).max():.0e}")

# %% [markdown]
# Which matrices are recurrences? Cut the row at any place. All that tokens behind the cut can know of those before it has passed through the state.
# So the block of the matrix that joins the two has no higher rank than the state has room for: $L$ alone is a state of one number, its blocks below
# the diagonal have rank 1 (*1-semiseparable*), and with $C$ and $B$ of width N the rank is at most N. A causal matrix of any numbers has no such
# bound, and no small state.

# %%
rank = lambda matrix, cut: np.linalg.matrix_rank(np.float64(matrix[cut:, :cut]), rtol=1e-5)
any_numbers = np.tril(rng.random((T, T)))
for cut in (6, 12, 18):
    print(f"cut before token {cut:2d}: rank of L {rank(L, cut)}, of L o C B^T {rank(L * products, cut)}, of any numbers {rank(any_numbers, cut)}")

# %% [markdown]
# ## Chunks: the matrix near the diagonal, the state beyond
#
# Low rank is what makes the third form possible. Cut the row into chunks of Q tokens. Inside a chunk, use the matrix: Q x Q, in parallel for all
# chunks. Between chunks, pass the state: a chunk adds to it, decays it, and reads what came before. Q = 1 is the recurrence and Q = T the
# matrix.

# %%
cuts = np.arange(0, T + 1, 6) - 0.5                                 # chunks of 6
figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
same = np.arange(T)[:, None] // 6 == np.arange(T)[None, :] // 6
plotting.matrix(axes[0], L * products, r"$L \circ C B^\top$ in chunks of 6", x_label="token j writes", y_label="token i reads")
plotting.matrix(axes[1], np.tril(1 + same), "yellow: inside a chunk, grey: by the state", x_label="token j writes", y_label="token i reads")
for ax in axes:
    ax.hlines(cuts, -0.5, T - 0.5, color="white", linewidth=1)
    ax.vlines(cuts, -0.5, T - 0.5, color="white", linewidth=1)


# %%
def row(T, H=4, P=64, N=64, seed=0):
    """A random row, with the steps and decays that a new Mamba-2 layer begins with: (x, dt, A, B, C)."""
    cfg, rng = Mamba2Config(), np.random.default_rng(seed)
    x, B, C = rng.normal(size=(1, T, H, P)), *rng.normal(size=(2, 1, T, 1, N)) / np.sqrt(N)
    dt = np.exp(rng.uniform(np.log(cfg.dt_min), np.log(cfg.dt_max), (1, 1, H))) * np.ones((1, T, 1))
    return [jnp.asarray(z, jnp.float32) for z in (x, dt, -rng.uniform(cfg.A_min, cfg.A_max, H), B, C)]


tokens = row(200, P=16, N=8)
y = ssd_recurrent(*tokens)[0]
forms = {"quadratic": ssd_quadratic, **{f"chunks of {Q}": partial(ssd_chunked, chunk=Q) for Q in (1, 16, 64, 200)}}
print(f"outputs of size {jnp.abs(y).mean():.2f}; largest difference from the recurrence:")
for name, form in forms.items():
    print(f"{name:13s} {jnp.abs(jax.jit(form)(*tokens)[0] - y).max():.0e}")

# %% [markdown]
# ## What each costs
#
# Multiplications counted for one head (leading terms), then time and memory on the machine that ran this notebook. `memory` is what the compiled
# program of the gradient holds beside its arguments and results. Which form would you train with, and which would you use to generate?

# %%
P = N = Q = 64
lengths, repeats = [64, 256, 1024], 3   # smoke: [64], 1
counted = {"recurrent": lambda T: 3 * T * N * P, "quadratic": lambda T: T * T * (N + P), "chunked": lambda T: T * (Q * (N + P) + 2 * N * P)}


def cost(form, T):
    """(seconds forward, seconds forward and backward, MB held), the fastest of `repeats`."""
    tokens, seconds = row(T), []
    for f in (form, jax.grad(lambda *tokens: form(*tokens)[0].sum(), argnums=(0, 1, 2, 3, 4))):
        program = jax.jit(f).lower(*tokens).compile()
        jax.block_until_ready(program(*tokens))
        times = [time.perf_counter()]
        for _ in range(repeats):
            jax.block_until_ready(program(*tokens))
            times.append(time.perf_counter())
        seconds.append(np.diff(times).min())
    return *seconds, program.memory_analysis().temp_size_in_bytes / 1e6


measured = {name: np.array([cost(form, T) for T in lengths]).T for name, form in FORMS.items()}

# %%
figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
plotting.lines(axes[0, 0], lengths, {name: [count(T) for T in lengths] for name, count in counted.items()}, y_label="multiplications",
               title="counted, a head, forward", log_y=True)
for ax, i, title, unit in ((axes[0, 1], 0, "time, 4 heads, forward", "seconds"), (axes[1, 0], 1, "time, 4 heads, with the gradient", "seconds"),
                           (axes[1, 1], 2, "memory, 4 heads, with the gradient", "MB")):
    plotting.lines(ax, lengths, {name: found[i] for name, found in measured.items()}, y_label=unit, title=title, log_y=True)
for ax in axes.flat:
    ax.set_xlabel("tokens")

# %% [markdown]
# The matrix grows with the square of the length. The recurrence does the fewest multiplications on the longest rows, and forward a CPU runs it
# about as fast as the chunks. The gradient separates them: the recurrence keeps the state of every token and goes back through them one by one, the
# chunked form keeps one state a chunk. So one trains in chunks, and generates by the recurrence.
#
# Longer rows, beside attention: one layer of each, of the same width, forward (committed results; `python -m benchmarks.state_space lengths` makes
# them again). At the end of the range, twice the length is about four times the time in attention, and about twice in Mamba-2.

# %%
lines = [json.loads(line) for line in (shipped("results") / "bench/state_space.jsonl").read_text(encoding="utf-8").splitlines()]
layers = {line["case"].split()[0]: line for line in lines if "forward by length" in line["case"]}
figure, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
plotting.lines(ax, [int(T) for T in layers["mamba2"]["ms"]], {name: list(line["ms"].values()) for name, line in layers.items()},
               x_label="tokens", y_label="ms", title="one layer of width 64, forward, 2 CPU cores", log_y=True)
print("slope of log time over log length, whole range:", {name: line["exponent"] for name, line in layers.items()})

# %% [markdown]
# ## How far back a head sees
#
# With a steady step, a token that is $n$ tokens back counts $e^{-n / \tau}$, $\tau = 1 / |\Delta A|$. Steps and decays of a new layer are drawn
# from the ranges that Mamba-2 uses; together they put $\tau$ anywhere from below one token to several hundred. Training moves them, and each token
# chooses its own step. In the middle, one token with a step of 20: nothing before it is seen from then on. On the right, eight tokens with step 0:
# they write nothing, since $v = \Delta x$, and nothing fades while they pass. Change the steps.

# %%
cfg, rng = Mamba2Config(), np.random.default_rng(0)
tau = 1 / (np.exp(rng.uniform(np.log(cfg.dt_min), np.log(cfg.dt_max), 5000)) * rng.uniform(cfg.A_min, cfg.A_max, 5000))
steady = np.full(T, 0.2)
border, pause = steady.copy(), steady.copy()
border[10], pause[8:16] = 20.0, 0.0

figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
axes[0].hist(tau, bins=np.logspace(-0.5, 3, 40), color=plotting.BLUE)
axes[0].set(xscale="log", xlabel="tau (tokens)", ylabel="heads, of 5,000 drawn")
axes[0].set_title("how far back new heads see", loc="left", fontsize=11)
for ax, steps, title in zip(axes[1:], (border, pause), ("L, token 10 has step 20", "L, tokens 8 to 15 have step 0")):
    fading = decays(jnp.asarray(-steps, jnp.float32), jnp.tril(jnp.ones((T, T), bool)), None, None)[0]
    plotting.matrix(ax, fading, title, x_label="token j writes", y_label="token i reads")

# %% [markdown]
# A head whose $\tau$ is longer than the rows of its training has never had to forget within one. Reading on, its state holds more than it ever did;
# what then happens, and remedies, are in [`ops/ssm/forgetting.py`](../lcref/ops/ssm/forgetting.py).
#
# ## A decay with a sign
#
# $e^{a}$ lies between 0 and 1: it can make a state fade, and never change its sign. No stack of such layers, in finite precision, tells an even
# from an odd number of ones in rows of every length ([2411.12537](https://arxiv.org/abs/2411.12537)). `tracking.py` takes $2 e^{a} - 1$ instead,
# between -1 and 1. Weights set by hand: a state that begins as 1, a step of 200 at every one and of 0 at every zero, and nothing written. Each one
# then multiplies the state by -1. With the same weights and $e^{a}$, the first one wipes it out.

# %%
def state_after(form, bits):
    T = len(bits)
    dt, one = 200.0 * jnp.asarray(bits, jnp.float32)[None, :, None], jnp.ones((1, T, 1, 1))
    return form(0 * one, dt, jnp.array([-1.0]), one, one, initial_state=jnp.ones((1, 1, 1, 1)))[0][0, :, 0, 0]


bits = np.random.default_rng(3).integers(0, 2, 10_000)
figure, ax = plt.subplots(figsize=(9, 2.8), layout="constrained")
for form, colour, label in ((signed_chunked, plotting.BLUE, "decay 2 exp(a) - 1"), (ssd_chunked, plotting.RED, "decay exp(a)")):
    state = state_after(form, bits)
    correct = int((state == (-1.0) ** np.cumsum(bits)).sum())
    print(f"{label:18s}: the state is 1 after an even number of ones, -1 after an odd one, at {correct} of 10000 tokens")
    ax.step(range(40), state[:40], where="mid", color=colour, linewidth=2, label=label)
ax.plot(np.flatnonzero(bits[:40]), 0 * np.flatnonzero(bits[:40]) - 1.4, "k|", label="a one")
ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
ax.set(xlabel="token", ylabel="state");

# %% [markdown]
# ## Exercises
#
# Each judge accepts any correct answer, in numpy or jax.numpy. One head, one row: `v [T,P]`, `a [T]`, `B [T,N]`, `C [T,N]`, with $v = \Delta x$ and
# $a = \Delta A$ done.
#
# **1.** The recurrence. The state begins as zeros. Is the new token decayed before it is read?

# %%
def recurrence(v, a, B, C):
    ...                                                             # return y [T,P]


judge.recurrence(recurrence);


# %% [markdown]
# **2.** $L$ from the log decays. The blocks below the diagonal have rank 1, and one is tempted to write $L_{ij} = e^{s_i} e^{-s_j}$ with running
# sums $s$: why does this fail on long rows? Above the diagonal too an exponent can be large. In JAX, the gradient has to be finite as well.

# %%
def decay_matrix(a):
    ...                                                             # return L [T,T]


judge.decay_matrix(decay_matrix);


# %% [markdown]
# **3.** One step of the chunked form: the outputs of a chunk of Q tokens, and the state `h [P,N]` after it. Four terms: what the chunk says to
# itself, what the old state says in it, what is left of the old state at its end, and what each token has added by then. No loop over tokens is
# needed.

# %%
def chunk(h, v, a, B, C):
    ...                                                             # return y [Q,P], the new h [P,N]


judge.chunk(chunk);
