# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 Position schemes, and what they do to a matrix of scores
#
# **Question.** Let every token have the same query and the same key. All scores are then equal, unless a position scheme changes them. What
# does each scheme do, as a function of distance, and what does it do at distances that training never showed?
#
# You will see twelve schemes as matrices, six as curves over distance, and the share of the attention that leaves the trained range as rows
# grow. Ten minutes; half a minute of computing.
#
# The code that does it: [`nn/positions`](../lcref/nn/positions/__init__.py), [`ops/rope.py`](../lcref/ops/rope.py),
# [`ops/bias`](../lcref/ops/bias/__init__.py), [`ops/positions.py`](../lcref/ops/positions.py). Papers: sinusoids
# [1706.03762](https://arxiv.org/abs/1706.03762), T5 [1910.10683](https://arxiv.org/abs/1910.10683), RoPE
# [2104.09864](https://arxiv.org/abs/2104.09864), ALiBi [2108.12409](https://arxiv.org/abs/2108.12409), KERPLE
# [2205.09921](https://arxiv.org/abs/2205.09921), xPos [2212.10554](https://arxiv.org/abs/2212.10554), randomized ids
# [2305.16843](https://arxiv.org/abs/2305.16843), NoPE [2305.19466](https://arxiv.org/abs/2305.19466), FIRE
# [2310.04418](https://arxiv.org/abs/2310.04418), Hard-ALiBi [2402.01032](https://arxiv.org/abs/2402.01032).

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

from lcref import plotting, results
from lcref.exercises import position_schemes as judge
from lcref.experiment import load, shipped
from lcref.nn.positions import POSITIONS, Fire, Learned
from lcref.ops.bias.fire import fraction
from lcref.ops.bias.t5 import bucket_table
from lcref.ops.positions import plain
from lcref.ops.rope import angles, inv_freq

# %% [markdown]
# ## Three places to act
#
# A scheme can add a vector to the token embedding (`embed`), turn queries and keys (`rotate`), or add a number to the score (`bias`). What it
# leaves alone stays as it is. The function below gives every token the vector of ones as its query and as its key, lets the scheme act, and
# returns the scores. There is no other content: whatever varies in the result is position.

# %%
H, K = 4, 32                                                        # heads, and the width of each


@functools.partial(jax.jit, static_argnums=0)
def scores(module, q_pos, k_pos):
    """[H,T,S]: q.k / sqrt(K) + bias, for q = k = (1, ..., 1) at the given positions."""
    def vectors(pos, of):
        x = module.embed(jnp.ones((1, len(pos), K)), pos)           # the projections to q and k are the identity
        return module.rotate(jnp.broadcast_to(x[:, :, None], (1, len(pos), H, K)), pos, of)
    s = jnp.einsum("thk,shk->hts", vectors(q_pos, "q")[0], vectors(k_pos, "k")[0]) / np.sqrt(K)
    bias = module.bias(q_pos, k_pos)
    return s if bias is None else s + bias


names = ("nope", "sinusoidal", "learned", "randomized_rope", "rope", "xpos", "alibi", "randomized_alibi", "hard_alibi", "t5", "kerple", "fire")
configs = {name: POSITIONS[name]() for name in names} | {"fire": Fire(threshold=64.0)}
modules = {name: config.build(H, K, K, rngs=nnx.Rngs(0)) for name, config in configs.items()}

# %%
T, head = 64, 1                                                     # rows to draw, and which of the heads 0 to 3
ids = {name: configs[name].ids(jax.random.key(0), plain(T)) for name in names}          # plain(T), but for the randomized two
figure, axes = plt.subplots(3, 4, figsize=(11, 9), layout="constrained")
for ax, name in zip(axes.flat, names):
    square = scores(modules[name], ids[name], ids[name])[head]
    plotting.matrix(ax, np.where(np.tri(T, dtype=bool), square, -np.inf), name)
    ax.tick_params(labelsize=8)

# %% [markdown]
# Each panel has its own range of colours, light where the score is large; white is hidden. `nope` is one colour: it says nothing, and
# leaves order to the causal mask. Stripes along the diagonal mean that only distance counts. `sinusoidal` and `learned` also have rows and
# columns, since the product of two sums contains terms of each position alone. `learned`, `t5`, `kerple` and `fire` are trained, and drawn here
# at their random initial values: their pictures show what they can tell apart, not what they will say. `hard_alibi` has a window in half of
# its heads; this one sees two keys.
#
# `randomized_rope` and `randomized_alibi` are two of the other formulas with other ids: sorted draws out of 0 to 2,047 in place of
# 0, 1, 2. Order survives; the distance between two neighbours is a matter of luck.
#
# Change `head`. Then see by how much scores change when every position moves by the same amount, which is nothing where distance alone counts:

# %%
shift = 50
for name in names:
    here, there = (np.asarray(scores(modules[name], where, where))[head] for where in (ids[name], ids[name] + shift))
    seen = np.isfinite(here) & np.tri(T, dtype=bool)
    change, spread = np.abs(here[seen] - there[seen]).max(), np.ptp(here[seen])
    print(f"{name:18s} largest change {change:.3f}, largest difference between two scores {spread:.3f}")

# %% [markdown]
# ## Past the trained length
#
# A model was trained on rows of `L` tokens, so on distances 0 to `L - 1`. Now one query reads four times as many keys. Below is its score
# with the key at each distance; the trained range is shaded. RoPE turns plane $k$ of a head, a pair of its numbers, by $p\,\theta_k$ at
# position $p$, with $\theta_k = 10000^{-2k/K}$. For the vectors of ones the score at distance $d$ is therefore a sum of
# $\cos(d\,\theta_k)$ over the planes, times $2/\sqrt{K}$: the second panel shows four of these cosines.

# %%
L, n = 128, 512
far = np.arange(n)
curves = {name: np.asarray(scores(modules[name], plain(n)[-1:], n - 1 - far))[:, 0] for name in ("rope", "xpos", "alibi", "t5", "kerple", "fire")}
theta = np.asarray(inv_freq(K))
figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained", sharex=True)
panels = {"rope and xpos": {name: curves[name][0] for name in ("rope", "xpos")},
          "rope: four of its 16 planes": {f"plane {k}": np.cos(far * theta[k]) for k in (3, 6, 8, 11)},
          **{f"{name}, bias of four heads": {f"head {h}": curves[name][h] - np.sqrt(K) for h in range(H)}
             for name in ("alibi", "t5", "kerple", "fire")}}
for ax, (title, drawn) in zip(axes.flat, panels.items()):
    for (name, curve), colour in zip(drawn.items(), (plotting.RED, plotting.BLUE, plotting.ORANGE, plotting.BLACK)):
        ax.plot(far, curve, color=colour, linewidth=1.5, label=name)
    ax.axvspan(0, L, color="#dddddd", zorder=0)
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_ylim(top=ax.get_ylim()[1] + 0.45 * np.ptp(ax.get_ylim()))
    ax.legend(frameon=False, fontsize=9, ncols=2, loc="upper right")
for ax in axes[1]:
    ax.set_xlabel("distance to the key (tokens)")
for ax in axes[:, 0]:
    ax.set_ylabel("score")

# %% [markdown]
# The planes of `rope` differ. Plane 3 has come round three times within the shaded range: past it nothing is new. Plane 6 has not come round
# once, and plane 11 has hardly moved: past the range they reach angles that no trained pair has met. `alibi` and `kerple` go on as they
# began, a straight line and a logarithm. `t5` is flat from its last bucket on. `fire` measures distance as a share of how far back a query
# can look (both on a logarithmic scale), so for a later query its curve is stretched, not continued.
#
# What a formula is fed decides whether training has prepared the model for it. The largest such number in rows of `L` and in rows of `n`:

# %%
def largest(rows):
    where, back = plain(rows)[-1:], plain(rows)
    return {
        "learned: row of the table": rows - 1,
        "rope: angle of plane 6 (radians)": float(angles(rows - 1, inv_freq(K))[6]),
        "rope: angle of plane 11 (radians)": float(angles(rows - 1, inv_freq(K))[11]),
        "alibi and kerple: distance": rows - 1,
        "t5: bucket (of 32)": int(bucket_table()[min(rows - 1, 128)]),
        "fire: share of the reach": float(fraction(where, back, 0.1, 64.0).max()),
        "randomized: id, below 2048": int(jnp.max(configs["randomized_rope"].ids(jax.random.key(1), plain(rows)))),
    }


print(f"{'':36s}{'trained, ' + str(L):>14s}{'read, ' + str(n):>14s}")
for (what, trained), read in zip(largest(L).items(), largest(n).values()):
    print(f"{what:36s}{trained:14.3f}{read:14.3f}")
try:
    Learned(length=L).build(H, K, K, rngs=nnx.Rngs(0)).embed(jnp.ones((1, n, K)), plain(n))
except ValueError as error:
    print("learned:", error)

# %% [markdown]
# Four fates: the input has an end (`learned`); it leaves the trained range (`rope`); it leaves it, but by a formula that makes small what is
# far (`alibi`, `kerple`); it stays inside (`t5`; `fire`, whose threshold is 64 here; randomized ids, which were large in training already).
#
# ## Who looks past the trained range?
#
# A score by itself moves nothing; a share of the attention does. The last token of a row of `n` attends to all of it, with the same constant
# query and key. Which share of its weight lies at distances of `L` and more? ALiBi's heads are drawn one by one, by their slopes; for `t5` and
# `kerple` the band is the range over the four heads, and the line is their median.

# %%
lengths = [128, 192, 256, 512, 1024, 2048, 4096]                    # smoke: [128, 256]
back = np.arange(max(lengths))                                      # one shape for all lengths: keys at n - 1 - back, of which the first n are real


def share_beyond(module, n):
    """[H]: the weight at distances >= L that the last of n tokens gives."""
    row = np.asarray(scores(module, np.asarray([n - 1]), n - 1 - back))[:, 0, :n]
    weight = np.exp(row - row.max(1, keepdims=True))
    return weight[:, L:].sum(1) / weight.sum(1)


shares = {name: np.stack([share_beyond(modules[name], n) for n in lengths], 1) for name in ("nope", "t5", "kerple", "rope", "alibi")}
shares["rope"], by_head = shares["rope"][0], shares.pop("alibi")                        # rope's heads agree
shares |= {f"alibi[1/{round(1 / slope)}]": share for slope, share in zip(modules["alibi"].slopes, by_head)}
figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
plotting.lines(ax, lengths, shares, x_label="tokens in the row", y_label="weight past the trained distance", trained_to=L,
               title="Share of the last token's attention at distances never trained")

# %% [markdown]
# `nope` gives every key the same, so its share is $(n - L)/n$. What falls below that is a scheme's own decay. A decay that is exponential, as
# ALiBi's is in the weights, has a bound: the shares stop growing, at nothing for the two steep heads. That is the other half of why ALiBi's
# loss stays flat in long rows: most heads hardly read what is new. They hardly remember what is far, either. `kerple` decays by a power of the
# distance, and `t5`, as it starts out, not at all: with them a long row is read where training never was, by known numbers. `rope` reads
# there as well, by angles that are not known.
#
# Content can outweigh all of this, and trained parameters differ from initial ones. So here are four trained models that copy strings, whose
# training had 20 letters at most (committed results, three seeds: `lcref run quickstart/copy`).

# %%
copying = load("quickstart/copy")[0]
lines = results.read(shipped("results") / "quickstart/copy.cpu.jsonl")
figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
plotting.panel(ax, lines, copying.figures[0])

# %% [markdown]
# `rope` fails at the next length tried. `nope` and `alibi` last a little longer. `hard_alibi` falls slowly: its windows see the same few
# distances in every row, and its other heads have no positions that could be new. To be fed nothing new is not enough by itself: `nope` is
# not fed anything.
#
# ## Exercises
#
# Each judge accepts any correct answer. `...` is yours to fill in.
#
# **1.** Write RoPE's score as a function of distance: `q [K]` and `k [K]` are any vectors now, and the query stands `distance` tokens after the
# key. Base 10,000; the numbers `i` and `i + K/2` form a plane, which is turned by position times $\theta_i$ (from the first of the two towards
# the second); no division by the square root of K.

# %%
def rope_score(q, k, distance):
    ...


judge.rope_score(rope_score);


# %% [markdown]
# **2.** T5's bucket of a distance into the past. The first half of the buckets hold one distance each: 0, 1, 2 and so on. In the other half
# the edges form a geometric series that begins at `buckets / 2` and would reach `max_distance` where the buckets end; a bucket begins at the
# first whole distance on or past its edge. The last bucket takes everything from its edge on. (Where does `t5` become flat above, and why
# is that below 128?)

# %%
def bucket(distance, buckets, max_distance):
    ...


judge.bucket(bucket);


# %% [markdown]
# **3.** Predict the figure of shares for a head of ALiBi: the last of `n` tokens, all content scores equal, a bias of `-slope * distance`.
# Which share of its weight lies at distances of `trained` and more? (What does it tend to when `n` grows? Which slope gives the far keys
# one percent at most, for a model trained on 128 tokens, and for one trained on 4,096?)

# %%
def alibi_beyond(slope, trained, n):
    ...


judge.alibi_beyond(alibi_beyond);
