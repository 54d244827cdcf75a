# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 RoPE frequencies: who has turned a full circle?
#
# **Question.** A model with RoPE was trained on 128 tokens and is to read 512. Position interpolation, NTK, YaRN and their relatives change
# nothing but a few frequencies. Which frequencies are in trouble, what does each method do to each of them, and does it show in the loss?
#
# You will see every frequency as the number of turns that it makes, every method as one divisor per frequency, and two numbers, counted from the
# frequencies alone, beside the measured losses of one set of weights read in nine ways. Ten minutes; a few seconds of computing.
#
# The code that does it: [`ops/rope.py`](../lcref/ops/rope.py), [`ops/rope_scaling`](../lcref/ops/rope_scaling/__init__.py), one method a file.
# Papers: RoPE [2104.09864](https://arxiv.org/abs/2104.09864), position interpolation [2306.15595](https://arxiv.org/abs/2306.15595), Giraffe
# [2308.10882](https://arxiv.org/abs/2308.10882), NTK, dynamic NTK, by parts and YaRN [2309.00071](https://arxiv.org/abs/2309.00071), Llama 3.1
# [2407.21783](https://arxiv.org/abs/2407.21783).

# %%
import matplotlib.pyplot as plt
import numpy as np

from lcref import plotting, results
from lcref.exercises import rope_frequencies as judge
from lcref.experiment import load, shipped
from lcref.ops.rope import inv_freq
from lcref.ops.rope_scaling import ByParts, DynamicNtk, Linear, Llama3, Ntk, Power, Truncated, Yarn
from lcref.report import summary

# %% [markdown]
# ## Hands of a clock
#
# RoPE splits a head of $K$ numbers into $K/2$ planes and turns plane $k$ by $p\,\theta_k$ at position $p$, with
# $\theta_k = \text{base}^{-2k/K}$: one turn takes $2\pi/\theta_k$ tokens, its wavelength. A score contains the angle between query and key alone,
# $d\,\theta_k$ at distance $d$. In $L$ tokens plane $k$ makes $r_k = L\,\theta_k/2\pi$ turns.
#
# A plane with $r_k \geq 1$ has been through the whole circle in training, and no distance can show it a new angle. A plane with $r_k < 1$
# has been through a part of the circle, and enters the rest as soon as rows grow longer. Bars end where training ended, black ticks where
# rows four times as long would end.

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
for ax, (name, K, L) in zip(axes, (("the small model of this notebook", 32, 128), ("the sizes of Llama 2", 128, 4096))):
    r = L * np.asarray(inv_freq(K)) / (2 * np.pi)
    ax.bar(np.arange(K // 2), r, color=np.where(r >= 1, plotting.BLUE, plotting.ORANGE), width=0.8)
    ax.plot(np.arange(K // 2), 4 * r, "k_", markersize=7, label="turns in 4 L tokens")
    ax.axhline(1, color="black", linewidth=1, linestyle="--", label="one full turn")
    ax.set_yscale("log")
    ax.set_xlabel("plane k")
    ax.set_ylabel("turns in L tokens")
    ax.set_title(f"{name}: K = {K}, L = {L}\n{(r >= 1).sum()} of {K // 2} planes come round", loc="left", fontsize=11)
    ax.legend(frameon=False, fontsize=10)

# %% [markdown]
# Orange planes are the trouble. Change `L`, or give `inv_freq` another base: a larger base makes more planes orange, a longer training fewer.
#
# ## Every method is one divisor per plane
#
# With $s$ = `factor`, how many times $L$ is wanted, each method divides $\theta_k$ by something between 1 and $s$. To keep an orange plane within
# the angles it knows, up to $sL$ tokens, takes a divisor of $s$. To leave the distances between neighbours as they were takes a divisor of 1, most
# of all for the fast planes, which tell neighbours apart. The dashed step does both.

# %%
K, base, L, s = 32, 10_000.0, 128, 4
plain = np.asarray(inv_freq(K, base), np.float64)
turns = L * plain / (2 * np.pi)
methods = {"rope": Linear(1.0, L), "linear": Linear(s, L), "ntk": Ntk(s, L), "dynamic_ntk": DynamicNtk(1.0, L), "by_parts": ByParts(s, L),
           "yarn": Yarn(s, L), "llama3": Llama3(s, L), "power": Power(0.1), "truncated": Truncated(L)}


def frequencies(method, length):
    return np.asarray(method.inv_freq(K, base, length), np.float64)


planes = np.arange(K // 2)
divisors = {name: plain / frequencies(methods[name], s * L) for name in ("linear", "ntk", "by_parts", "yarn", "llama3", "power")}
figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", sharey=True)
plotting.lines(axes[0], planes, divisors, x_label="plane k", y_label="frequency divided by", log_x=False, title="Fixed: the same at every length")
grown = {f"dynamic_ntk[{n}]": plain / frequencies(methods["dynamic_ntk"], n) for n in (L, 2 * L, 4 * L)}
plotting.lines(axes[1], planes, grown, x_label="plane k", log_x=False, title="dynamic_ntk, at three lengths of the row")
for ax in axes:
    ax.step(planes, np.where(turns >= 1, 1, s), "k--", where="mid", linewidth=1.2, zorder=6, label="the step")
    ax.legend(frameon=False, fontsize=9)

# %% [markdown]
# `linear` (position interpolation) divides all planes by $s$: nothing is new, and neighbours look like a quarter of a token apart. `ntk`
# enlarges the base: it leaves the fastest plane, divides the slowest by exactly $s$ and those between by less, so that the middle planes
# still meet new angles. `by_parts`, `yarn` and `llama3` ask how often a plane turns, and soften the step. `by_parts` leaves planes alone from 32
# turns on, which none of these 16 makes, `llama3` from 4 on; `yarn` draws its ramp over the numbers of the planes, and multiplies the scores
# as well. `dynamic_ntk` is `ntk` with the factor that the row needs at the moment: up to `L` it changes nothing. `power` hardly moves
# anything at this exponent, 0.1. `truncated`, not drawn, leaves the planes that come round and gives the others one slow frequency or none.
# `p_rope` stops the slow ones, and is for training: what turned fully in rows of $L$ has no new angle to show in longer ones, and neither has what
# does not turn at all. Softmax so trained [finds keys](../docs/results.md#lssar-without-rope) far past $L$ that it loses with all planes turning.
#
# ## Two numbers, counted before anything is run
#
# *New angles*: how much of the circle a plane enters in rows of $n$ tokens that it never entered in rows of $L$; summed over planes, in circles.
# *Moved*: by how much the angles between neighbours change, $\sum_k |\theta'_k - \theta_k|$, in radians. Beside them the measured losses of one set
# of weights read with each method and no training (committed results, medians of three seeds: `lcref run context_extension/tiny`).

# %%
def new_angles(method, n):
    entered, met = (np.minimum(angle, 2 * np.pi) for angle in (n * frequencies(method, n), L * plain))
    return np.maximum(entered - met, 0).sum() / (2 * np.pi)


def moved(method):
    return np.abs(frequencies(method, L) - plain).sum()


tiny = load("context_extension/tiny")[0]
lines = results.read(shipped("results") / "context_extension/tiny.cpu.jsonl")
loss = {run: {int(n): point.median for n, point in points.items()} for run, points in summary(lines, "context_loss").items()}
print(f"{'':12s} moved  loss at 128   new angles at 256, 512   loss at 256, 512")
for name, method in methods.items():
    new = [new_angles(method, n) for n in (2 * L, 4 * L)]
    print(f"{name:12s} {moved(method):5.2f}  {loss[name][128]:11.2f}   {new[0]:17.2f} {new[1]:5.2f}   {loss[name][256]:11.2f} {loss[name][512]:5.2f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
style = plotting.styles(list(methods))
for name, method in methods.items():
    mark = {key: style[name][key] for key in ("color", "marker")}
    axes[0].plot(moved(method), loss[name][128], linestyle="", markersize=9, label=name, **mark)
    for n, size in ((256, 6), (512, 10)):
        axes[1].plot(new_angles(method, n), loss[name][n] - loss[name][128], linestyle="", markersize=size, **mark)
axes[0].set(xlabel="moved (radians between neighbours)", ylabel="loss at 128 (nats per byte)")
axes[1].set(xlabel="new angles (circles)", ylabel="rise of the loss since 128 (nats per byte)")
axes[0].set_title("What it costs nearby", loc="left", fontsize=11, fontweight="bold")
axes[1].set_title("What is new far away: at 256 (small), 512 (large)", loc="left", fontsize=11, fontweight="bold")
axes[0].legend(frameon=False, fontsize=9, ncols=2);

# %% [markdown]
# Methods that move neighbours far pay at 128 already, `linear` most; methods that meet new angles pay as rows grow, plain `rope` most. `yarn`
# and `llama3`, which are closest to the step, pay little of either. `truncated` is the exception on both sides. It moves little and
# meets next to nothing new, but a plane that was stopped no longer says how far away a key is, which neither number counts. Nor do they count
# that known angles of several planes may meet in new combinations, or that more keys dilute attention.
#
# The whole curves, also past the 512 bytes that the methods were set for:

# %%
def figure_with(run):
    return next(figure for figure in tiny.figures if figure.metric == "context_loss" and run in figure.runs)


figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
plotting.panel(ax, lines, figure_with("yarn"))

# %% [markdown]
# Past 512 new angles come back, and with them the loss. All this was without training. When the same weights are trained on for 200 steps
# with rows of 512 bytes (from the same file; the dotted line is where the first training ended), most of the differences at 512 are gone, and
# plain RoPE is among the best:

# %%
figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
plotting.panel(ax, lines, figure_with("linear_tuned"))

# %% [markdown]
# `linear`, which was moved furthest, is the only one that has not caught up. That plain RoPE does so well says little about large models, where
# the paper on position interpolation found that training on longer rows, with nothing changed, extends the window slowly
# ([2306.15595](https://arxiv.org/abs/2306.15595), section 1).
#
# ## Exercises
#
# Each judge accepts any correct answer. `...` is yours to fill in.
#
# **1.** How many planes of a head of `head_dim` numbers come round within `trained` tokens? (What does a base of 500,000, as in Llama 3, do to the
# number? And how long must rows be for all planes of the small model to come round?)

# %%
def turning(head_dim, base, trained):
    ...


judge.turning(turning);


# %% [markdown]
# **2.** NTK by hand: the base with which the slowest plane, $k = K/2 - 1$, becomes slower by exactly `factor`. The fastest, $k = 0$, keeps its
# frequency under any base.

# %%
def ntk_base(head_dim, base, factor):
    ...


judge.ntk_base(ntk_base);


# %% [markdown]
# **3.** Build the step: frequencies with which a plane that comes round within `trained` tokens keeps its own, and each of the others turns no
# further within `factor * trained` tokens than it did within `trained` before, and is no slower than that takes. (What would `moved` and
# `new_angles` say of it? Which two neighbouring planes would you worry about?)

# %%
def step(theta, trained, factor):                                   # theta [K/2], fastest first -> frequencies [K/2]
    ...


judge.step(step);
