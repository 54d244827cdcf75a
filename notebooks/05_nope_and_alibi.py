# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 No positions, and ALiBi's fading ones
#
# **Question.** A decoder without any position scheme (NoPE) still learns word order. Where does it get positions from, and what does ALiBi, which
# only makes far keys cost something, let a head see?
#
# You will build a head that counts, see how fast its count blurs, measure the reach of ALiBi's slopes, and hold both against committed results on
# copying and against the distances that addition asks for. Ten minutes; a few seconds of computing.
#
# The code that does it: [`nn/positions/scheme.py`](../lcref/nn/positions/scheme.py), [`ops/bias/alibi.py`](../lcref/ops/bias/alibi.py),
# [`tasks/addition.py`](../lcref/tasks/addition.py). Papers: NoPE, [2203.16634](https://arxiv.org/abs/2203.16634) and
# [2305.19466](https://arxiv.org/abs/2305.19466); positions in untrained models, [2305.13571](https://arxiv.org/abs/2305.13571); ALiBi,
# [2108.12409](https://arxiv.org/abs/2108.12409).

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from lcref import plotting, report, results
from lcref.exercises import nope_and_alibi as judge
from lcref.experiment import load, shipped
from lcref.ops.attention import attend, attention_weights
from lcref.ops.bias import alibi
from lcref.ops.masks import causal
from lcref.tasks import Addition, AdditionHinted

# %% [markdown]
# ## The mask is a position scheme
#
# Without positions and without a mask, attention treats its tokens as a set: shuffle the tokens, and the same outputs come out, shuffled. Under the
# causal mask they do not, because each token sees another set: its own past.

# %%
T, K = 12, 8
x = jax.random.normal(jax.random.key(0), (1, T, 1, K))
order = np.random.default_rng(0).permutation(T)
for name, mask in {"no mask": None, "causal()": causal()}.items():
    same = jnp.allclose(attend(x, x, x, mask=mask)[:, order], attend(x[:, order], x[:, order], x[:, order], mask=mask), atol=1e-5)
    print(f"{name:9s} shuffled tokens give the shuffled outputs: {bool(same)}")

# %% [markdown]
# ## A head that counts
#
# Let all scores of a head be equal, so that a query with $n$ visible keys (itself included) gives each of them the weight $1/n$. Let the value be
# 1 at the first token, which is the same in every row, and 0 at all others. The output is then $1/n$: the position, as a number. The next layer
# can compute with it.
#
# Even an untrained head tells positions, roughly. Its values are as good as random, the average of $n$ independent numbers of variance 1 has a
# standard deviation of $1/\sqrt{n}$ (somewhat more where the weights are uneven), and so its outputs shrink along the row.

# %%
length = 1024
nothing = jnp.zeros((1, length, 1, 1))                               # queries and keys of a head with equal scores
first = nothing.at[:, 0].set(1.0)                                    # value 1 at the first token
counted = attend(nothing, nothing, first, mask=causal())[0, :, 0, 0]
q, k, v = jax.random.normal(jax.random.key(1), (3, 1, length, 1, 64))
untrained = attend(q, k, v, mask=causal())[0, :, 0].std(-1)

n = np.arange(1, length + 1)
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", width_ratios=(1, 1.6))
plotting.matrix(axes[0], attention_weights(nothing[:, :12], nothing[:, :12], mask=causal())[0, 0], "equal scores: weights 1/n")
axes[1].plot(n, untrained, color=plotting.GREY, linewidth=1, label="random head: standard deviation of its 64 outputs")
axes[1].plot(n, counted, color=plotting.BLUE, linewidth=2, label="counting head: its output")
axes[1].plot(n, 1 / n, "k--", linewidth=1, label="1/n, and dotted 1/sqrt(n)")
axes[1].plot(n, 1 / np.sqrt(n), "k:", linewidth=1)
axes[1].set(xscale="log", yscale="log", xlabel="n, tokens seen so far", ylabel="output")
axes[1].legend(frameon=False, fontsize=9);

# %% [markdown]
# ## The count blurs
#
# Neighbours differ by $1/n - 1/(n+1) = 1/(n(n+1))$: at $n = 10$ by about a hundredth, at 1,000 by a millionth. Training never asks a model to tell
# places apart that its rows do not reach. And bfloat16 cannot: here is what is left of $1/n$ in two formats.

# %%
n = np.arange(1, 4097)
for kind in (jnp.float32, jnp.bfloat16):
    value = np.asarray(jnp.asarray(1 / n, kind), np.float32)
    equal = n[:-1][value[:-1] == value[1:]]
    print(f"{jnp.dtype(kind).name:9s} {len(set(value.tolist()))} of {len(n)} positions have a value of their own;",
          f"the first two alike: {equal[0]} and {equal[0] + 1}" if len(equal) else "no neighbours are alike")

# %% [markdown]
# ## ALiBi: a price for distance
#
# ALiBi subtracts $m_h\, d$ from the score of a key $d$ tokens back, with a fixed slope $m_h$ for each head. Where the content says nothing, the
# weights are $e^{-m d}$, normalised. The nearest $N$ keys together have the share $1 - e^{-m N}$ of a long row, so that
#
# $$N = \frac{-\ln(1 - \text{share})}{m}$$
#
# keys make up that share: 95 % of the weight lies within about $3/m$ keys, however long the row. That is the head's window. It is not hard: a
# key $d$ back outweighs the nearest one if its score leads by more than $m d$. Change the number of heads.

# %%
heads, row = 8, 4096
slopes = alibi.slopes(heads)
q, k = jnp.zeros((1, 1, heads, 1)), jnp.zeros((1, row, heads, 1))
weights = attention_weights(q, k, bias=lambda i, j: alibi.bias(i, j, slopes), mask=causal(), q_pos=np.array([row - 1]))[0, :, 0]
share = np.cumsum(np.asarray(weights)[:, ::-1], axis=1)              # [H,S]: of the nearest 1, 2, 3, ... keys
for m, of_head in zip(slopes, share):
    print(f"slope 1/{1 / m:<4.0f} 95 % of the weight in {np.argmax(of_head >= 0.95) + 1:4d} keys; the formula: {np.log(20) / m:6.1f}")

# %%
near = np.unique(np.geomspace(1, row, 40).astype(int))
curves = {f"slope 1/{1 / m:.0f}": of_head[near - 1] for m, of_head in zip(slopes[::2], share[::2])} | {"nope": near / row}
figure, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
plotting.lines(ax, near, curves, x_label="nearest keys", y_label="their share of the weight", title=f"A row of {row} keys whose contents say nothing")
ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5));

# %% [markdown]
# So the two fail in opposite ways. A head without positions sees everything and hardly knows where; ALiBi's heads know what is near and see little
# else, unless a key stands out by its content.
#
# ## Copying
#
# Committed results (three seeds, `lcref run quickstart/copy`): strings of 2 to 20 letters were trained, longer ones are asked for.

# %%
copy = load("quickstart/copy")[0]
lines = results.read(shipped("results") / "quickstart/copy.cpu.jsonl")
figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
plotting.panel(ax, lines, copy.figures[0])
print(report.table(lines, copy.figures[0], 132))

# %% [markdown]
# At 25 letters `alibi` and `nope` still copy some strings, where `rope` copies next to none; at 30 hardly one is left. `hard_alibi` goes much
# further, and it is made of these two parts: hard windows on half of the heads, which can gather the last few letters, and no positions on the
# others, which can find where the same letters stood before ([2402.01032](https://arxiv.org/abs/2402.01032)).
#
# This is no ranking of schemes. What a task asks for decides, and can be read off it.
#
# ## What addition asks for
#
# To write a digit of the sum, a model has to find the two digits of its column (and the carry). In plain notation their distances change with the
# length of the numbers. With index hints, tokens that name the columns, the rule is the same at every length: find my hint, look one further.

# %%
def drawn(task, digits):
    batch = task.sample(np.random.default_rng(1), 1, digits)
    return task.decode(batch.inputs[0])


digits = 4
plain, hinted = drawn(Addition(), digits), drawn(AdditionHinted(), digits)
needs = {"plain": np.zeros((len(plain), len(plain))), "with hints": np.zeros((len(hinted), len(hinted)))}
for column in range(1, digits + 1):                                  # place 0 is the last carry
    needs["plain"][plain.index("=") + column, [column, digits + 1 + column]] = 1
for t in range(hinted.index("="), len(hinted)):
    for s in range(1, hinted.index("=")):
        needs["with hints"][t, s] = hinted[t][0] == "h" and hinted[s - 1] == hinted[t]

print(" ".join(plain), "\n" + " ".join(hinted))
figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained", width_ratios=(1, 2))
for ax, (name, matrix), tokens in zip(axes, needs.items(), (plain, hinted)):
    equals = tokens.index("=")
    plotting.matrix(ax, matrix[equals:, :equals], f"{name}: where the two digits stand", x_label="token read", y_label="token written before")
    ax.set_xticks(range(equals), tokens[:equals], fontsize=9, rotation=90)
    ax.set_yticks(range(len(tokens) - equals), tokens[equals:], fontsize=9)

# %% [markdown]
# In plain notation the two digits lie $2 n + 2$ and $n + 1$ tokens back in numbers of $n$ digits: for ALiBi the price of the look grows with $n$, for
# NoPE it is a place in a long row, known by a blurred count. With hints, content finds the place. Change `digits`.
#
# ## Eight schemes learn to add, and more
#
# Committed results (three seeds, `lcref run position_study/study`): numbers of 1 to 6 digits with index hints were trained, longer ones are asked
# for. Read a curve from the left: a scheme that is not at 1 inside the trained lengths has not learned to add, and says nothing about length.

# %%
study = load("position_study/study")[0]
lines = results.read(shipped("results") / "position_study/study.cpu.jsonl")
ranking, adding = (next(figure for figure in study.figures if word in figure.title) for word in ("Every task", "Adding"))
figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
plotting.panel(ax, lines, adding)
print(report.table(lines, adding, 132))

# %% [markdown]
# `nope`, `alibi`, `fire` and `randomized` have learned to add in every seed, and go some digits further. The hint must be found, and then the token
# next to it, and without positions "next to" is again a count, to be made before it can be used. That may be why it took three layers, where the
# other tasks here have two. `rope`, `t5` and the absolute ones have not learned six digits in every seed.

# %%
print(report.table(lines, ranking, 132))

# %% [markdown]
# Over eight tasks, by the mean of all lengths beyond training, `fire` and `alibi` stand before `nope` here, and `nope` before `t5`, `rope` and the
# absolute ones. Kazemnejad et al. rank no positions first ([2305.19466](https://arxiv.org/abs/2305.19466)), with models of 107M parameters; ours have
# two or three layers and 0.1M, and `nope` does not learn every task in its budget. Where it does (sorting, adding, parity, sums) no scheme is far
# before it.
# More in [docs/results.md](../docs/results.md).
#
# ## Exercises
#
# Each judge accepts any correct answer. `...` is yours to fill in.
#
# **1.** Count without positions: how often has token `c` occurred so far, at every place? `average` is the head with equal scores: it takes numbers
# `[T]` and returns the mean of all visible ones, `[T]`. The first token of every row is 1 (`^`), and no other token is.

# %%
def occurrences(average, tokens, c):
    ...


judge.occurrences(occurrences);


# %% [markdown]
# **2.** A slope for a wanted window: in a row without end whose contents say nothing, the nearest `keys` keys shall have the share `share` of the
# weight. Which slope?

# %%
def slope(keys, share):
    ...


judge.slope(slope);


# %% [markdown]
# **3.** Written in reverse, least significant digit first, a sum needs no look ahead for its carries: `^ 8 7 9 0 + 4 9 2 3 = 3 1 7 3 1`. How far back
# do the two digits of a column lie when digit `place` of the answer is predicted (0: the first one written), in numbers of `n` digits? Return the
# distance to the first number's digit, then to the second's. Is it still one distance for all places?

# %%
def distances(n, place):
    ...


judge.distances(distances);
