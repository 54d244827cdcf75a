# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 Attention, masks, and why length hurts
#
# **Question.** A model is trained on rows of 128 tokens and then reads 4,096. Nothing in attention forbids it: the formula is the same for
# any length. What changes?
#
# You will see attention as three matrices, masks as a small algebra, and one measured reason why a longer row is harder even before any
# position scheme comes in: a key that stands out among 128 no longer does among 4,096. Ten minutes; a few seconds of computing.
#
# The code that does it: [`ops/attention.py`](../lcref/ops/attention.py), [`ops/masks.py`](../lcref/ops/masks.py),
# [`ops/weights.py`](../lcref/ops/weights.py). Papers: attention, [1706.03762](https://arxiv.org/abs/1706.03762); what softmax cannot do in long
# rows, and scaling by log length, [2202.12172](https://arxiv.org/abs/2202.12172).

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from lcref import plotting, results
from lcref.exercises import attention_and_masks as judge
from lcref.experiment import load, shipped
from lcref.ops.attention import attend
from lcref.ops.masks import causal, segments, sinks, window
from lcref.ops.weights import LogN, Softmax

# %% [markdown]
# ## Attention is three matrices
#
# Every token asks a question (query), offers an answer's name (key) and an answer (value). Scores are the products of all queries with all
# keys; the mask hides the future; softmax makes each row sum to one; each output is the average of the values with these weights.

# %%
T, K = 16, 8
q, k, v = jax.random.normal(jax.random.key(0), (3, 1, T, 1, K))     # [B,T,H,K]: one row, one head
where = jnp.arange(T)

scores = jnp.einsum("bthk,bshk->bhts", q, k)[0, 0] / np.sqrt(K)
visible = causal()(where, where)
weights = Softmax()(jnp.where(visible, scores, -jnp.inf))
by_hand = weights @ v[0, :, 0]

figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
plotting.matrix(axes[0], scores, "scores: every query with every key")
plotting.matrix(axes[1], visible, "mask: light is visible")
plotting.matrix(axes[2], weights, "weights: each row sums to 1")
print("the library's own:", bool(jnp.allclose(by_hand, attend(q, k, v, mask=causal())[0, :, 0], atol=1e-5)))

# %% [markdown]
# ## A mask is a value with two questions
#
# Masks combine with `&`, `|` and `~`. Asked about positions, a mask answers for every pair. Asked about a rectangle of positions (`tile`), it
# says `none`, `some` or `all`: so a tiled kernel knows which blocks it may skip, and why a window makes long rows cheap.

# %%
documents = jnp.asarray([1] * 6 + [2] * 10)                          # 0 would be padding, which sees nothing
masks = {
    "causal()": causal(),
    "causal() & window(5)": causal() & window(5),
    "causal() & (window(5) | sinks(2))": causal() & (window(5) | sinks(2)),
    "causal() & segments(ids, ids)": causal() & segments(documents, documents),
}
figure, axes = plt.subplots(1, 4, figsize=(13, 3.6), layout="constrained")
for ax, (name, mask) in zip(axes, masks.items()):
    plotting.matrix(ax, jnp.broadcast_to(mask(where, where), (1, T, T))[0], name)

# %%
length, block = 4096, 256
for name, mask in {"causal()": causal(), "causal() & window(512)": causal() & window(512)}.items():
    tiles = [mask.tile(i, i + block - 1, j, j + block - 1) for i in range(0, length, block) for j in range(0, length, block)]
    print(f"{name:24s} {len(tiles)} tiles of {block} x {block}: " + ", ".join(f"{tiles.count(answer)} {answer}" for answer in ("none", "some", "all")))

# %% [markdown]
# ## Why length hurts: one key among many
#
# Say that a head has learned to find one key: its score is `margin` above the others', whose scores are noise of standard deviation 1. The
# key's weight is then about
#
# $$w = \frac{1}{1 + (n - 1)\, e^{1/2 - \text{margin}}}$$
#
# since each of the $n - 1$ others adds $e^{s}$, which is $e^{1/2}$ on average. The others win by numbers. To keep $w$ where it was, the margin
# has to grow like $\ln n$: multiplying scores by $\ln n / \ln n_0$ (`LogN`) does that without training, at least for the margin; it also
# widens the noise. Change `margin` and see how far each carries.

# %%
margin, trained, repeats = 8.0, 128, 32
lengths = [2**i for i in range(4, 15)]                               # smoke: [16, 64]
rng = np.random.default_rng(0)


def weight_of_the_key(weights, n):
    """[repeats]: what the key at place 0 gets among n."""
    noise = rng.normal(size=(repeats, 1, n)).astype(np.float32)
    noise[:, :, 0] = margin
    return np.asarray(weights(jnp.asarray(noise), jnp.full((repeats, 1), float(n))))[:, 0, 0]


measured = {name: np.stack([weight_of_the_key(weights, n) for n in lengths], 1) for name, weights in
            {"softmax": Softmax(), "log_n": LogN(trained)}.items()}
figure, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
ax.plot(lengths, [1 / (1 + (n - 1) * np.exp(0.5 - margin)) for n in lengths], "k--", linewidth=1, zorder=5, label="the formula")
plotting.lines(ax, lengths, measured, x_label="keys in the row", y_label="weight of the one that matters", trained_to=trained,
               title=f"A key that leads by {margin:g}, {repeats} draws of the others")

# %% [markdown]
# Length also brings positions that were never trained, which the next notebooks are about. Both together, in models that were trained on 256
# bytes (committed results, three seeds: `lcref run quickstart/text`): the loss of the same bytes, read with more and more context.

# %%
text = load("quickstart/text")[0]
lines = results.read(shipped("results") / "quickstart/text.cpu.jsonl")
figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
plotting.panel(ax, lines, text.figures[0])

# %% [markdown]
# `rope` meets angles it has never seen and breaks. `nope`, which has no positions at all, is worse everywhere but decays slowly: what remains is
# dilution. `alibi` and the window hide what is far, and so never meet a longer row.
#
# ## Exercises
#
# Each judge accepts any correct answer. `...` is yours to fill in.
#
# **1.** Write a dilated window: a query sees itself and the `n - 1` keys that lie `step`, `2 step`, ... before it. A plain function of positions
# will do, as will masks and a class of your own.

# %%
def dilated(n, step):
    def visible(q_pos, k_pos):                                      # q_pos [T], k_pos [S] -> bool [T,S]
        ...
    return None                                                     # return visible


judge.dilated(dilated);


# %% [markdown]
# **2.** One key's score exceeds those of `n - 1` others, which are all alike. By how much, so that its weight is `share`? (How much more is that at
# 100,000 keys than at 128?)

# %%
def margin_needed(n, share):
    ...


judge.margin(margin_needed);


# %% [markdown]
# **3.** Attention of one head, in numpy or jax.numpy: `q [T,K]`, `k [S,K]`, `v [S,V]`, `visible bool [T,S]`. Scores are divided by the square root of K. A
# query that sees nothing gets zeros, and scores of several hundred must not overflow.

# %%
def attention(q, k, v, visible):
    ...


judge.attention(attention);
