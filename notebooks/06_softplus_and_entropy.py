# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 Softplus attention, re-weighting, and entropy
#
# **Question.** Attention over a longer row spreads its weight over more keys. Can another function in place of the exponential keep it on the few
# that matter?
#
# You will take LSSAR apart (softplus, mean, power), measure the entropy of its weights against length beside softmax and a control, and see what
# happens in float32 when formulas are coded as they are written. Nothing is trained here: queries and keys are drawn at random, and one key is
# planted. What trained models do with it is loaded. Ten minutes; a few seconds of computing.
#
# The code that does it: [`ops/weights.py`](../lcref/ops/weights.py). Papers: softplus attention with re-weighting,
# [2501.13428](https://arxiv.org/abs/2501.13428); scaling by log length, [2202.12172](https://arxiv.org/abs/2202.12172) and
# [2501.19399](https://arxiv.org/abs/2501.19399).

# %%
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from lcref import plotting, results
from lcref.exercises import softplus_and_entropy as judge
from lcref.experiment import load, shipped
from lcref.ops.attention import attention_weights
from lcref.ops.weights import Cosine, LogN, Lssa, Lssar, Softmax, SSMax

# %% [markdown]
# ## From scores to weights
#
# Let $c_j$ be the cosine of a query with key $j$, $K$ their width, and $n$ the number of keys that the query may see.
#
# | name | score $s_j$ | weight |
# |---|---|---|
# | `softmax` | $\sqrt{K}\,c_j$ for vectors of length $\sqrt{K}$ | $e^{s_j} / \sum_i e^{s_i}$ |
# | `log_n`, `ssmax` | the same, times $\ln n / \ln n_0$ (here $n_0 = 128$); times $\tau \ln n$ | the same |
# | `lssa` | $\ln K \,\ln n \; c_j$ | $F_j / \sum_i F_i$, with the softplus $F_j = \ln(1 + e^{s_j})$ |
# | `lssar` | the same | $x_j^p / \sum_i x_i^p$, with $x_j = \max(0, F_j - \text{mean } F)$ |
# | `cosine` | the same | $e^{s_j} / \sum_i e^{s_i}$: the control, `lssa`'s scores with an exponential |
#
# Softplus grows like the score itself, not exponentially, and for negative scores it is small but never zero. LSSAR takes the row's mean away, so
# that keys below it get exactly nothing, and a power makes what is left more unequal.
#
# A row of random vectors is enough to see it. One key is planted: its cosine with the query is given; the cosines of the others are random, with a
# standard deviation of $1/\sqrt{K}$.

# %%
K = 64
rng = np.random.default_rng(0)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def drawn(rows, n, cosine=None):
    """Queries [rows,1,1,K] and keys [rows,n,1,K] of length sqrt(K); the first key has this cosine with its query, or is as the others."""
    q, k = (unit(rng.standard_normal((rows, m, 1, K), np.float32)) for m in (1, n))
    if cosine is not None:
        away = k[:, :1] - (k[:, :1] * q).sum(-1, keepdims=True) * q
        k[:, :1] = cosine * q + np.sqrt(1 - cosine**2) * unit(away)
    return jnp.asarray(np.sqrt(K) * q), jnp.asarray(np.sqrt(K) * k)


def weights_of(kind, q, k):                                          # [rows,n]
    return np.asarray(attention_weights(q, k, weights=kind))[:, 0, 0]

# %%
n = 32
q, k = drawn(1, n, cosine=0.6)
s = np.log(K) * np.log(n) * np.asarray(k[0, :, 0] @ q[0, 0, 0]) / K
F = np.asarray(jax.nn.softplus(s))
shown = {"softmax": Softmax(), "lssa": Lssa(), "lssar_3": Lssar(3), "lssar_15": Lssar(15)}
order = np.argsort(-F)

figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
axes[0].bar(range(n), F[order], color=plotting.GREY, label="F, softplus of the score")
axes[0].axhline(F.mean(), color=plotting.RED, label="their mean: below it LSSAR gives nothing")
plotting.lines(axes[1], np.arange(n), {name: weights_of(kind, q, k)[0, order] for name, kind in shown.items()}, log_x=False, log_y=True,
               x_label="keys, best first", y_label="weight; 0 is not drawn")
axes[1].set_ylim(1e-8, 2)
axes[0].set(xlabel="keys, best first", ylabel="F", xlim=axes[1].get_xlim())
axes[0].legend(frameon=False, fontsize=9)
x = np.maximum(F - F.mean(), 0) ** 15
print("the library's own:", np.allclose(x / x.sum(), weights_of(Lssar(15), q, k)[0], atol=1e-5))

# %% [markdown]
# ## Entropy against length
#
# The entropy $H = -\sum_j w_j \ln w_j$ says over how many keys a row spreads: $e^H$ keys of equal weight would have it, and $\ln n$ is the most there
# can be. Left, nothing is planted; right, one key is. `ssmax` is taken as it starts before training, at $\tau = 0.43$.

# %%
cosine, rows = 0.6, 8
lengths = [2**i for i in range(4, 15)]                               # smoke: [16, 64]
kinds = shown | {"log_n": LogN(128), "ssmax": SSMax(), "cosine": Cosine()}


def entropy(w):
    return -np.sum(w * np.log(np.where(w > 0, w, 1.0)), axis=-1)


found = {}
for planted in (None, cosine):
    weights = [[weights_of(kind, *pair) for kind in kinds.values()] for pair in (drawn(rows, n, planted) for n in lengths)]
    found[planted] = {name: [w[i] for w in weights] for i, name in enumerate(kinds)}

figure, axes = plt.subplots(1, 2, figsize=(12, 4.4), layout="constrained", sharey=True)
for ax, (planted, by_kind) in zip(axes, found.items()):
    ax.plot(lengths, np.log(lengths), "k--", linewidth=1, label="ln n")
    plotting.lines(ax, lengths, {name: np.stack([entropy(w) for w in ws], 1) for name, ws in by_kind.items()}, x_label="keys in the row",
                   y_label="entropy (nats)", title="random keys" if planted is None else f"one key planted at cosine {planted:g}")
    ax.get_legend().set_visible(ax is axes[0])

# %%
figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
plotting.lines(ax, lengths, {name: np.stack([w[:, 0] for w in ws], 1) for name, ws in found[cosine].items()}, x_label="keys in the row",
               y_label="weight of the planted key", title=f"A key at cosine {cosine:g}: median and range of {rows} rows")
print("median at", lengths[-1], "keys:")
for name, ws in found[cosine].items():
    print(f"{name:9s} weight {np.median(ws[-1][:, 0]):.3f}, e^H = {np.exp(np.median(entropy(ws[-1]))):.1f} keys")

# %% [markdown]
# What is seen, on these rows:
#
# The softplus alone does not help. The entropy of `lssa` rises along with $\ln n$ as that of `softmax` does, and its weight on the planted key is the
# lowest of all: thousands of small weights add up. With the mean taken away and a power of 3 it rises still; with a power of 15 the planted key
# keeps nearly everything.
#
# So does the control. `cosine` is an exponential of the very same scores. If a score is $a \ln n\, c$, then $e^s = n^{a c}$, while the number of the
# others grows like $n$: a planted key can stay ahead only where $a c > 1$, and the more so the larger it is.

# %%
for name, a in {"log_n": np.sqrt(K) / np.log(128), "ssmax": np.sqrt(K) * 0.43, "cosine": np.log(K)}.items():
    print(f"{name:7s} a = {a:.2f}, a c = {a * cosine:.2f}")

# %% [markdown]
# Here, then, a scale that is large and grows with $\ln n$ does what softplus, mean and power do together. Whether a trained model gains from one
# more than from the other, this cannot say; the trained ones below do.
#
# The left figure holds a warning. Where there is nothing to find, `lssar_15` still picks a few keys. Low entropy is no sign of having found the
# right one. And no function here changes the order of keys: if some random key lies nearer than the planted one, that one wins. Set `cosine` to 0.4.
#
# ## Trained models
#
# Byte models of three layers with two heads of 64, trained on rows of 256 bytes of Python with a key in each that is asked for later, read on to
# 4,096 (committed results, medians and ranges of three seeds: `lcref run softplus_attention`). The loss of the same last 128 bytes after more and more
# before them, by kind of weights ([declaration](../experiments/softplus_attention/text.py)) and by width of the heads
# ([declaration](../experiments/softplus_attention/widths.py); `_k32`: four of 32 in place of two of 64; `_k128`: two of 128).

# %%
figure, axes = plt.subplots(1, 2, figsize=(14, 4.8), layout="constrained")
kinds = ("rope", "log_n", "lssa", "lssar_3", "lssar_15", "cosine", "window")
for ax, name, title, runs in ((axes[0], "text", "By kind of weights", kinds), (axes[1], "widths", "By width of the heads", ())):
    shown = next(figure for figure in load(f"softplus_attention/{name}")[0].figures if figure.metric == "context_loss")
    plotting.panel(ax, results.read(shipped("results") / f"softplus_attention/{name}.cpu.jsonl"), replace(shown, title=title, runs=runs))

# %% [markdown]
# LSSAR with a power of 15 goes from 1.34 to 1.44; softmax, softplus alone and small powers end above 3. So far the trained models agree with the
# rows of random vectors. `cosine`, the control, is better nearby and in between far away: 1.66. And the picture on the right is exercise 3 below:
# with narrower heads some random key catches up sooner. The window is flat because it forgets; which of these models still finds the key, [the
# results page](../docs/results.md) says.
#
# The power is best learned last ([declaration](../experiments/softplus_attention/late.py)). `cosine_then_15` was trained as `cosine` for three quarters
# of the steps and with a power of 15 for the rest: it has softmax's loss nearby, 1.31 for 1.30, ends at 1.45, and finds every key within the trained
# length, of which `lssar_15` misses a fifth. With twice the steps and heads of 256 the loss even stays, 1.29 and 1.30, though it is dearer nearby than
# with heads of 64, 1.22 ([declaration](../experiments/softplus_attention/wider.py)). Hardly anything is where two of three layers see 128 bytes
# only and the middle one everything: 1.21, as softmax has with as many steps, and 1.24 at 4,096. Without positions in that layer two of three seeds find
# every key up to 4,080 bytes back, at 1.28 nearby ([declaration](../experiments/softplus_attention/local.py)). All three seeds do, at 1.21, where the
# whole row is read in the first layer and not in the middle one, and only those of RoPE's planes turn there that turn at least once in 256 bytes; the loss
# then rises to 1.28, and over whole rows from 1.35 to 1.36
# ([declaration](../experiments/softplus_attention/planes.py)).
#
# ## In numbers that computers have
#
# A power of 15 is easily said. Written as in the paper, LSSAR takes $(n A_j - 1)^p$ with $A = F / \sum F$. The table is read from committed results
# (`python -m benchmarks.stability`). Each row has one key that stands out as far as one can; the columns say how large its score may get among 1,024
# keys, and how many keys there may be with the scores that belong to them. `literal` is the formula as written, `safe exp` the same with a
# softplus that does not overflow, `here` the library's: it divides by the row's largest value before it takes the power.

# %%
path = shipped("results") / "bench/stability.jsonl"
lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
print(f"float32, sound up to (2^20 = {2**20:,d} was the largest tried)    score        keys")
for line in lines:
    if line["case"] == "stability float32" and not any(f"p={p} " in line["name"] for p in (5, 10)):
        print(f"    {line['name']:<42s}{line['scale']:>20,d}{line['N']:>12,d}")
print(f"\nthe largest number whose 15th power float32 holds: {np.finfo(np.float32).max ** (1 / 15):.1f}")

# %% [markdown]
# A key that has the whole row's weight has $n A - 1 = n - 1$, and from a few hundred keys on its 15th power is no number of float32. A softplus that
# does not overflow is no cure; dividing first is.
#
# ## Exercises
#
# Each judge accepts any correct answer. `...` is yours to fill in.
#
# **1.** Over how many keys does each row spread? Return $e^H$ for weights `[T,S]`. Some weights are exactly zero and add nothing.

# %%
def effective_keys(weights):
    ...


judge.effective(effective_keys);


# %% [markdown]
# **2.** LSSAR for one row, in numpy or jax.numpy: `scores` float32 `[n]`, already scaled, $n > 3$. It must not overflow with scores of hundreds
# nor in rows of thousands. Where no key stands out, all get 0.

# %%
def reweighted(scores, p):
    ...


judge.reweighted(reweighted);


# %% [markdown]
# **3.** How long can a key of a given cosine stay the best? The largest of $n$ standard normal numbers is about $\sqrt{2 \ln n}$, and random
# cosines are nearly normal with standard deviation $1/\sqrt{K}$. At which $n$ has the best random key caught up? (Then: what does a head twice as
# wide gain?)

# %%
def crossing(cosine, K):
    ...


judge.crossing(crossing);
