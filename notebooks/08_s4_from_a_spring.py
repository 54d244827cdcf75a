# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 S4: from a spring to a convolution
#
# **Question.** Attention keeps every token that it has read. A state-space layer keeps $N$ numbers, however long the row. What can $N$ numbers
# remember, and how is such a layer trained without taking a row's steps one after another?
#
# You will see a damped spring turned into a recurrence, the same recurrence as one convolution, and the matrix HiPPO-LegS, whose state is a
# polynomial picture of the past. Then S4's shortcut to the convolution, and trained layers that start from different matrices. Ten minutes; a few
# seconds of computing.
#
# The code that does it: [`ops/ssm/discretize.py`](../lcref/ops/ssm/discretize.py), [`ops/ssm/hippo.py`](../lcref/ops/ssm/hippo.py),
# [`ops/ssm/s4.py`](../lcref/ops/ssm/s4.py), [`ops/ssm/s4d.py`](../lcref/ops/ssm/s4d.py). Papers: HiPPO,
# [2008.07669](https://arxiv.org/abs/2008.07669); S4, [2111.00396](https://arxiv.org/abs/2111.00396); what S4's state means,
# [2206.12037](https://arxiv.org/abs/2206.12037); S4D, [2206.11893](https://arxiv.org/abs/2206.11893).

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from numpy.polynomial import legendre

from lcref import plotting, results
from lcref.exercises import s4_from_a_spring as judge
from lcref.experiment import load, shipped
from lcref.ops.ssm import hippo, s4
from lcref.ops.ssm.discretize import bilinear, zoh

# %% [markdown]
# ## A spring is a state-space model
#
# A mass of 1 hangs on a spring. A force $u(t)$ pulls at it, the spring pulls back, friction slows it: $y'' = u - k\,y - b\,y'$. Two numbers say all
# that matters about the past, the place $y$ and the speed $y'$. Call them the state $x$:
#
# $$x'(t) = A\,x(t) + B\,u(t), \qquad y(t) = C\,x(t), \qquad
# A = \begin{pmatrix} 0 & 1 \\ -k & -b \end{pmatrix},\quad B = \begin{pmatrix} 0 \\ 1 \end{pmatrix},\quad C = (1 \;\; 0)$$
#
# A row of numbers $u_0, u_1, \ldots$ is a force that is held for a step $dt$ each. Over one step the equation becomes
# $x_k = \bar A\,x_{k-1} + \bar B\,u_k$. Zero-order hold (`zoh`) solves the step exactly, with $\bar A = e^{dt A}$. The bilinear rule replaces the
# exponential by a quotient, $\bar A = (I - \tfrac{dt}{2} A)^{-1}(I + \tfrac{dt}{2} A)$.
#
# The *kernel* is the answer to a single 1. Change `dt`: when do the two rules part from each other?

# %%
k, b, dt = 4.0, 0.4, 0.5
A, B, C = np.array([[0, 1], [-k, -b]]), np.array([0, 1.0]), np.array([1.0, 0])


def recurrence(u, Abar, Bbar, C):
    """y_k = C x_k with x_k = Abar x_{k-1} + Bbar u_k: one number after another."""
    x, y = np.zeros(len(Bbar)), []
    for now in u:
        x = Abar @ x + Bbar * now
        y.append(C @ x)
    return np.array(y)


def held(t):
    """Where a force of 1 since time 0 has brought the spring; two of these are a force that lasts one step."""
    w, t = np.sqrt(k - b * b / 4), np.maximum(t, 0)
    return (1 - np.exp(-b * t / 2) * (np.cos(w * t) + b / (2 * w) * np.sin(w * t))) / k


# %%
single = np.eye(1, 40)[0]
rules = {rule.__name__: [np.asarray(z, np.float64) for z in rule(A, B, dt)] for rule in (zoh, bilinear)}
kernels = {name: recurrence(single, *rule, C) for name, rule in rules.items()}
end, fine = dt * np.arange(1, 41), np.linspace(0, 40 * dt, 2000)

figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
ax.plot(fine, held(fine) - held(fine - dt), color=plotting.GREY, label="the spring itself")
for (name, kernel), colour, marker in zip(kernels.items(), (plotting.BLUE, plotting.RED), "os"):
    ax.plot(end, kernel, marker, color=colour, markersize=5, label=name)
ax.set(xlabel="time (s)", ylabel="place y", title=f"A pull of one step: kernels for dt = {dt:g}")
ax.legend(frameon=False);

# %% [markdown]
# ## The recurrence is a convolution
#
# Nothing in $\bar A$, $\bar B$ or $C$ depends on the step or on $u$. So the answer to a row is the sum of the answers to its numbers, each begun at
# its own time:
#
# $$y_k = \sum_{l=0}^{k} K_l\,u_{k-l}, \qquad K_l = C\,\bar A^{\,l}\,\bar B$$
#
# The recurrence takes $T$ steps one after another, and is how the layer writes token by token. The convolution takes all of them at once, by FFT
# in $O(T \log T)$, and is how it trains.

# %%
T = 200
u = np.random.default_rng(0).normal(size=T)
Abar, Bbar = rules["bilinear"]
step_by_step = recurrence(u, Abar, Bbar, C)
K = np.array([C @ np.linalg.matrix_power(Abar, l) @ Bbar for l in range(T)])
at_once = s4.convolve(jnp.asarray(u)[None, :, None], jnp.asarray(K)[None])[0, :, 0]

figure, ax = plt.subplots(figsize=(8, 3.2), layout="constrained")
ax.plot(u, color=plotting.GREY, linewidth=0.7, label="force u")
ax.plot(step_by_step, color=plotting.BLUE, label="place y, by recurrence")
ax.plot(at_once, ".", color=plotting.ORANGE, markersize=4, label="place y, by convolution")
ax.set(xlabel="step", ylabel="u and y")
ax.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
print(f"largest difference: {np.abs(at_once - step_by_step).max():.1e}")

# %% [markdown]
# ## A matrix that remembers
#
# A spring remembers one thing, its swing. What $A$ would let $N$ numbers say the most about the past? HiPPO-LegS is
#
# $$A_{nk} = -\sqrt{2n+1}\sqrt{2k+1}\;\;(n > k), \qquad A_{nn} = -(n+1), \qquad A_{nk} = 0\;\;(n < k), \qquad B_n = \sqrt{2n+1}.$$
#
# What its state number $n$ keeps of an input of age $s$ is a Legendre polynomial $P_n$ in $z = e^{-s}$, which is 1 now and goes to 0 in the far past:
#
# $$\left(e^{sA} B\right)_n = e^{-s}\,p_n(e^{-s}), \qquad p_n(z) = \sqrt{2n+1}\;P_n(2z - 1).$$
#
# The $p_n$ are orthonormal on $0 \ldots 1$. So the state holds the history's coefficients in them, and $\sum_n x_n\,p_n(e^{-s})$ is the polynomial
# in $e^{-s}$ that comes nearest to the history, where an age $s$ counts with weight $e^{-s}$. Age is measured in units of $1/dt$ steps: $dt$ says how
# far back the layer looks, $N$ how sharply.

# %%
def polynomials(N, ages):
    """p_n(e^-s) [N,S]."""
    return np.sqrt(2 * np.arange(N) + 1)[:, None] * legendre.legvander(2 * np.exp(-ages) - 1, N - 1).T


def remembered(u, N, dt):
    """What the state of HiPPO-LegS says about the row, after its last number: [T], the last number first."""
    state = recurrence(u, *(np.asarray(z, np.float64) for z in bilinear(*hippo.hippo_legs(N), dt)), np.eye(N))[-1]
    return state @ polynomials(N, dt * np.arange(len(u)))


# %%
T, dt = 1000, 1 / 300
rng = np.random.default_rng(0)
wave = sum(rng.normal() * np.sin(2 * np.pi * (f * np.arange(T) / T + rng.random())) for f in range(1, 13))
ages = np.arange(T)

figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4), layout="constrained", width_ratios=[2, 3])
for n, curve in enumerate(np.exp(-dt * ages) * polynomials(4, dt * ages)):
    left.plot(-ages, curve, color=(plotting.BLACK, plotting.BLUE, plotting.GREEN, plotting.RED)[n], label=f"n = {n}")
left.set(xlabel="steps before now", ylabel="weight in state n, per dt", title="What each state listens to")
right.plot(-ages, wave[::-1], color=plotting.GREY, linewidth=4, alpha=0.5, label="the row that was read")
for N, colour in ((4, plotting.RED), (16, plotting.ORANGE), (64, plotting.BLUE)):
    right.plot(-ages, remembered(wave, N, dt), color=colour, linewidth=1.5, label=f"from {N} numbers")
right.set(xlabel="steps before now", ylabel="u", title=f"The past, read off the state (1/dt = {1 / dt:.0f} steps)", ylim=(-8.5, 6))
left.legend(frameon=False)
right.legend(frameon=False, ncols=2, fontsize=9, loc="lower left");

# %% [markdown]
# Change `dt` to `1 / 100` and to `1 / 1000`: memory reaches less far, or farther and less sharply.
#
# A layer of S4 has such a system for every channel. Its $C$ is learned, and with it the kernel $K$: a combination of the curves on the left. $A$,
# $B$ and $dt$ are learned too, from this start.
#
# ## S4's shortcut
#
# Training needs $K_l = C \bar A^l \bar B$ for all $l$, and powers of a dense matrix are dear. But HiPPO-LegS is a simple matrix in disguise. With
# $P_n = \sqrt{n + 1/2}$, the sum $A + P P^\top$ is $-\tfrac12 I$ plus a skew-symmetric matrix, which a unitary $V$ makes diagonal:
#
# $$A = V\,(\Lambda - \tilde P \tilde P^*)\,V^*, \qquad \Lambda_n = -\tfrac12 + i\,w_n, \qquad \tilde P = V^* P.$$
#
# That is diagonal plus low rank (DPLR). Its generating function $\sum_l K_l w^l$ takes a few sums over the eigenvalues; taken at the roots of unity
# it is the Fourier transform of $K$. `s4.fft` makes $K$ so and convolves; `s4.recurrent` takes the steps one by one. S4D leaves $\tilde P$ out.

# %%
A, B, P = hippo.nplr(16)
normal, low = A + np.outer(P, P), np.outer(P, P)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
plotting.matrix(axes[0], A, "A: 0 above the diagonal", x_label="state k", y_label="state n")
plotting.matrix(axes[1], normal, "A + P P$^T$: skew but for the diagonal", x_label="state k", y_label="state n")
plotting.matrix(axes[2], low, "P P$^T$: rank one", x_label="state k", y_label="state n")
print("A + P P^T is -1/2 I and a skew-symmetric matrix:", np.allclose(normal + normal.T, -np.eye(16)))

# %%
N, T = 64, 400
start = [jnp.asarray(z, jnp.complex64)[None] for z in hippo.pairs(N)[:3]]                # Lambda, P, B: one of each conjugate pair
C = jax.random.normal(jax.random.key(0), (1, N // 2), jnp.complex64)
system = s4.System(*start, C, jnp.full(1, 1 / 100))
u = jax.random.normal(jax.random.key(1), (1, T, 1))
y = {form.__name__: jax.jit(lambda u, form=form: form(u, system)[0])(u) for form in (s4.recurrent, s4.fft)}
print(f"outputs up to {jnp.abs(y['recurrent']).max():.1f}; recurrence and shortcut differ by at most {jnp.abs(y['recurrent'] - y['fft']).max():.0e}")

# %% [markdown]
# ## Does the matrix matter?
#
# Handwritten digits of 8 x 8 pixels are read pixel by pixel and named at the last one: what the first line showed must still be in the state 63 pixels
# later. `s4` runs have the low-rank part, `s4d` runs do not; the rest of a name says where the eigenvalues start. `attention`, for comparison, keeps
# every pixel. Committed results, three seeds, loaded here and not computed: `lcref run state_space/digits` makes them.

# %%
digits = load("state_space/digits")[0]
lines = [line for line in results.read(shipped("results") / "state_space/digits.cpu.jsonl") if not line["run"].endswith(("_permuted", "_frozen", "_small"))]
figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
plotting.panel(ax, lines, digits.figures[0])

# %% [markdown]
# The starts that were laid out (`s4`: HiPPO; `s4d_lin`, `s4d_inv`, `s4d_legs`: diagonal) end close together, with and without the low-rank part. The
# eigenvalues of a Gaussian matrix end lower, random ones of many sizes in between. Lowest are the states that can only decay and never swing:
# `s4d_real`, whose eigenvalues are real, and `mamba2`. The S4 paper reports 60 % and 98 % for random and HiPPO on sequential MNIST
# ([2111.00396](https://arxiv.org/abs/2111.00396), section 2.2); the gap is smaller here.
#
# ## Exercises
#
# Each judge accepts any correct answer. `...` is yours to fill in.
#
# **1.** Build a spring: $y'' = u - k\,y - b\,y'$ shall swing with a given period, and its swings shall halve in a given time. Return `k` and `b`. (The
# eigenvalues of $A$ are the roots of $r^2 + b\,r + k$. What does the real part of such a pair say, what its imaginary part?)

# %%
def spring(period, half_life):
    ...


judge.spring(spring);


# %% [markdown]
# **2.** The kernel of a diagonal system, which is S4D in two lines: eigenvalues `Lambda [M]`, `B [M]` and `C [M]`, complex, one of each conjugate pair,
# so that $K_l = 2\,\mathrm{Re} \sum_n C_n \bar B_n \bar A_n^l$. Zero-order hold: $\bar A_n = e^{dt \lambda_n}$, $\bar B_n = B_n (\bar A_n - 1) / \lambda_n$.
# Return `K [length]`.

# %%
def kernel(Lambda, B, C, dt, length):
    ...


judge.kernel(kernel);


# %% [markdown]
# **3.** S4 looks back about $1/dt$ steps. LegS as first published ([2008.07669](https://arxiv.org/abs/2008.07669)) looks back to the beginning, wherever
# it is: $x'(t) = (A\,x + B\,u)\,/\,t$. With samples at $t = 1, 2, \ldots$, that is a step of $1/k$ for sample $k$ instead of $dt$. The state is then
# $c_n = \int_0^1 u(z)\,p_n(z)\,dz$, the whole row stretched over $0 \ldots 1$, its last number at $z = 1$. Return the first `N` of them for `u [T]`. (By the
# recurrence or by the integral; they agree but for the sampling.)

# %%
def coefficients(u, N):
    ...


judge.coefficients(coefficients);
