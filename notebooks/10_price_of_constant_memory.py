# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10 The price of constant memory
#
# **Question.** A recurrent layer keeps a state of fixed size, however long the row. How much can such a state hold, and what becomes of it when more
# is written than it holds?
#
# You will see the state of a Mamba-2 head as a memory of pairs, what its pairs do to each other, what forgetting costs and buys, and three ways to
# make a head forget without training it again. All that is computed here is set by hand; what trained models do is loaded. Ten minutes; half a
# minute of computing.
#
# The code that does it: [`ops/ssm/ssd.py`](../lcref/ops/ssm/ssd.py), [`ops/ssm/forgetting.py`](../lcref/ops/ssm/forgetting.py). Papers: linear
# attention as a memory of pairs, [2102.11174](https://arxiv.org/abs/2102.11174); state collapse,
# [2410.07145](https://arxiv.org/abs/2410.07145).

# %%
import json
from dataclasses import replace
from functools import partial
from statistics import NormalDist

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from lcref import plotting, results
from lcref.exercises import price_of_constant_memory as judge
from lcref.experiment import load, shipped
from lcref.ops.ssm.forgetting import CapState, ForgetMore, RecentOnly
from lcref.ops.ssm.ssd import ssd_chunked

# %% [markdown]
# ## A state is a memory of pairs
#
# A head of Mamba-2 writes, with every token, a product of a value $v_t$ (P numbers) and a key $k_t$ (N numbers) into its state $h$, a matrix P x N
# (in [notebook 09](../notebooks/09_mamba2_three_forms.ipynb) the key is called $B_t$, the query $C_t$). With a step of 1 and a decay of
# $e^{-1/\tau}$ a token,
#
# $$h_t = e^{-1/\tau}\, h_{t-1} + v_t k_t^\top, \qquad
# h_T\, k_s = \sum_{t \le T} e^{-(T-t)/\tau}\, (k_t \cdot k_s)\; v_t .$$
#
# On the right the state is asked for token $s$, with its own key. If keys have length 1, the value $v_s$ comes back, faded, and with it a share
# $k_t \cdot k_s$ of every other value. Below are these shares, read from the library's recurrence: value $t$ is the $t$-th unit vector. Without
# decay ($\tau = \infty$) the diagonal is 1, yellow. What stands beside it is interference.

# %%
@partial(jax.jit, static_argnums=0)
def head(memory, values, keys, queries, tau, state=None):
    """One head reads values [T,P] and keys [T,N]; queries [D,T,N] ask it D questions at each token -> (answers [D,T,P], state)."""
    form = ssd_chunked if memory is None else partial(memory, ssd_chunked)
    values, keys = (jnp.broadcast_to(z[None, :, None], (len(queries), len(z), 1, z.shape[1])) for z in (values, keys))
    answers, state = form(values, jnp.ones(keys.shape[:3]), -1 / jnp.full(1, tau), keys, queries[:, :, None], initial_state=state)
    return answers[:, :, 0], state


def state_after(values, keys, tau=np.inf):
    """[P,N]: what the head holds after all pairs."""
    return np.asarray(head(None, values, keys, keys[None], tau)[1][0, 0])


def random_keys(T, N):
    keys = rng.normal(size=(T, N))
    return np.float32(keys / np.linalg.norm(keys, axis=1, keepdims=True))


rng, T = np.random.default_rng(0), 24
figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
for ax, (N, tau) in zip(axes, ((8, np.inf), (128, np.inf), (128, 12.0))):
    keys = random_keys(T, N)
    plotting.matrix(ax, keys @ state_after(np.eye(T, dtype=np.float32), keys, tau).T, rf"N = {N}, $\tau$ = {tau:g}", top=1,
                    x_label="token that answers", y_label="token asked for")

# %% [markdown]
# ## How many pairs fit
#
# N keys at right angles do not disturb each other; more than N cannot be at right angles. Random keys disturb each other a little from the second
# on: the product of two has mean 0 and variance 1/N. Let every value be P random signs. Then each sign comes back as $\pm 1$ plus a sum of $T - 1$
# disturbances, of variance $(T - 1) / N$, nearly normal. It is read right with probability
#
# $$\Phi\left(\sqrt{N / (T - 1)}\right),$$
#
# where $\Phi$ is the normal distribution function. P does not occur: a state of P x N numbers has room for about N pairs, of P numbers each. Nothing
# breaks at N. Every further pair makes all others a little harder to read.

# %%
P, repeats = 16, 8   # smoke: 16, 2
lengths = [4, 16, 64, 256, 1024, 4096]                              # smoke: [4, 16]
signs = lambda T: np.float32(rng.choice([-1, 1], (T, P)))
share = np.vectorize(lambda ratio: NormalDist().cdf(np.sqrt(ratio)))   # of signs, by signal over disturbance (squares)


def read_all(T, N):
    keys, values = random_keys(T, N), signs(T)
    return np.mean(np.sign(keys @ state_after(values, keys).T) == values)


found = {f"N = {N}": [[read_all(T, N) for T in lengths] for _ in range(repeats)] for N in (16, 64, 256)}
figure, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
for N in (16, 64, 256):
    ax.plot(lengths, share(N / (np.array(lengths) - 1)), "k--", linewidth=1, zorder=5, label="the formula" if N == 16 else None)
plotting.lines(ax, lengths, found, x_label="pairs written", y_label="signs read right", title=f"All pairs read back, {repeats} draws")

# %% [markdown]
# ## Forgetting as the way out
#
# With a decay, the value that is $d$ tokens old comes back as $e^{-d/\tau}$. The disturbances fade as well, so that their sum settles, however
# long the stream: with $q = e^{-2/\tau}$ the squares of all weights add up to $1 / (1 - q)$, about $\tau / 2$. In a stream without end, signal over
# disturbance, in squares, is
#
# $$\frac{N q^d}{1/(1-q) - q^d}.$$
#
# A head that forgets reads its last tokens after a million as well as after a thousand, and nothing that is many $\tau$ old. A small $\tau$ is good
# for what is near. For a token at distance $d$ the best is $q = d/(d+1)$, that is $\tau \approx 2d$, and it leaves a ratio of about $N / (e\,d)$.
# Each line below is a head in a stream of 4,096 tokens that is asked, at each of the last 2,048, for the token $d$ before it. The dashed line is
# the most that a decay can do. Change N.

# %%
N, T = 128, 4096                                                    # smoke: 16, 2048
distances = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024])


def questions(keys, distances):
    """[D,T,N]: at every token, the key of the token d before it; zeros where there is none."""
    back = np.arange(len(keys)) - distances[:, None]
    return np.where(back[..., None] >= 0, keys[back], np.float32(0))


keys, values = random_keys(T, N), signs(T)
found = {}
for tau in (16, 128, 1024, np.inf):
    answers = np.asarray(head(None, values, keys, questions(keys, distances), tau)[0])
    right = np.sign(answers) == values[np.arange(T) - distances[:, None]]
    found[f"tau = {tau:g}"] = right[:, T // 2:].mean((1, 2))

ratio = lambda N, d, q: N * q**d / (1 / (1 - q) - q**d)
figure, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
ax.plot(distances, share(ratio(N, distances, distances / (distances + 1))), "k--", linewidth=1, zorder=5, label="the best decay for each distance")
plotting.lines(ax, distances, found, x_label="how many tokens ago", y_label="signs read right", title=f"A stream of {T:,} tokens, N = {N}")
for tau in (16, 128, 1024):
    print(f"tau = {tau:4d}: 64 tokens ago, {found[f'tau = {tau}'][6]:.3f} read right, by the formula {share(ratio(N, 64, np.exp(-2 / tau))):.3f}")

# %% [markdown]
# That is the price. Attention keeps every token and pays in memory, which grows with the row. A state of fixed size pays in what it can still
# read: without decay all of the past, ever worse; with decay the recent past, as well as N allows.
#
# ## A head that does not forget
#
# The size of a state says how much is in it. A write has Frobenius norm $\sqrt{P}$ here. Writes in random directions add up like $\sqrt{P\,T}$; the
# same token over and over adds up like $\sqrt{P}\,T$. A decay bounds both, by $\sqrt{P / (1 - q)}$ and $\sqrt{P} / (1 - e^{-1/\tau})$, but not
# before about $\tau$ tokens have been read.

# %%
lengths = [4, 16, 64, 128, 512, 4096]                               # smoke: [4, 16]
N = 64
figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
for ax, title in zip(axes, ("random tokens", "one token, repeated")):
    keys, values = random_keys(lengths[-1], N), signs(lengths[-1])
    if title != "random tokens":
        keys, values = np.tile(keys[:1], (len(keys), 1)), np.tile(values[:1], (len(values), 1))
    sizes = {f"tau = {tau:g}": [np.linalg.norm(state_after(values[:T], keys[:T], tau)) for T in lengths] for tau in (16, 256, np.inf)}
    ax.plot(lengths, np.sqrt(P) * np.array(lengths) ** (0.5 if title == "random tokens" else 1), "k--", linewidth=1,
            label=r"$\sqrt{P\,T}$" if title == "random tokens" else r"$\sqrt{P}\,T$", zorder=5)
    plotting.lines(ax, lengths, sizes, x_label="tokens read", y_label="norm of the state", title=title, log_y=True)
    ax.axvline(128, color=plotting.GREY, linestyle=":", zorder=0)
    more = np.divide(sizes["tau = inf"], sizes["tau = 256"])
    print(f"{title:20s} norm without decay over that of tau = 256:", ", ".join(f"{z:.1f} at {T}" for T, z in zip(lengths, more)))

# %% [markdown]
# Say that training rows have 128 tokens (the dotted line). Up to there the heads with $\tau = 256$ and $\tau = \infty$ differ little: rows of that
# length hardly show which of the two a head is. Past it they part, and the second grows to sizes that nothing behind it was trained to read. Of
# trained models the paper on state collapse says that rows too short for the size of the state let them do well without learning to forget, and
# that they degrade on longer ones ([abstract](https://arxiv.org/abs/2410.07145)). The heads here are set by hand and only show that a state can do
# so; what trained ones do is shown below the remedies.
#
# ## Three remedies that need no training
#
# `ForgetMore(a)` takes every decay to the power $a$, so $\tau$ becomes $\tau / a$. `CapState(p)` scales the state down wherever its norm exceeds $p$.
# `RecentOnly(r)` reads of the state only what the last $r$ tokens wrote. All three are from the first version of
# [2410.07145](https://arxiv.org/abs/2410.07145v1).
#
# A head with $\tau = 2048$ reads one stream: 1,536 random tokens, one token 512 times, 2,048 random tokens. The remedies are set so that random
# tokens settle at one norm in all three, that of 128 writes: $\sqrt{128\,P}$. It is read in pieces of 128 tokens, the state handed on. Change the
# three settings.

# %%
N = 128                                                             # smoke: 16
tau, r, T = 2048.0, 128, 4096
same = slice(1536, 2048)
keys, values = random_keys(T, N), signs(T)
keys[same], values[same] = keys[same][0], values[same][0]
distances = np.array([16, 1, 32, 64, 96, 127, 128, 160, 192, 256, 384, 512, 1024])
asked = questions(keys, distances)
memories = {"none": None, "forget_more": ForgetMore(tau / (2 * r)), "cap_state": CapState(float(np.sqrt(r * P))), "recent_only": RecentOnly(r)}

norms, right = {}, {}
for name, memory in memories.items():
    state, answers, norms[name] = None, [], []
    for first in range(0, T, r):
        piece = slice(first, first + r)
        answer, state = head(memory, values[piece], keys[piece], asked[:, piece], tau, state)
        seen = head(None, values[piece], keys[piece], asked[:, piece], tau)[1] if name == "recent_only" else state   # the last r tokens are the piece
        norms[name].append(float(jnp.linalg.norm(seen[0, 0])))
        answers.append(np.asarray(answer))
    right[name] = (np.sign(np.concatenate(answers, 1)) == values[np.arange(T) - distances[:, None]]).mean(-1)         # [D,T]

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
read = np.arange(r, T + 1, r)
order, late = np.argsort(distances), slice(3072, T)
near = {name: found[0].reshape(-1, r).mean(1) for name, found in right.items()}
far = {name: found[order, late].mean(1) for name, found in right.items()}
plotting.lines(axes[0], read, norms, x_label="tokens read", y_label="norm", title="The state", log_x=False, log_y=True)
plotting.lines(axes[1], read, near, x_label="tokens read", y_label="signs read right", title="The token 16 ago", log_x=False)
plotting.lines(axes[2], distances[order], far, x_label="how many tokens ago", y_label="signs read right", title="The last 1,024 tokens of the stream")
for ax in axes[:2]:
    ax.axvspan(same.start, same.stop, color="#eeeeee", zorder=0)
for name in memories:
    print(f"{name:12s} norm at 1,536: {norms[name][11]:5.0f}, at 2,048: {norms[name][15]:5.0f}, at the end: {norms[name][-1]:4.0f};  "
          f"read right, 1 ago: {far[name][0]:.2f}, 127 ago: {far[name][5]:.2f}, 256 ago: {far[name][9]:.2f}")

# %% [markdown]
# Grey is where one token repeats; what was 16 tokens ago is then soon that token itself, and easy to read.
#
# Without a remedy the head reads worse and worse, and what the repeated token leaves behind drowns everything to the end of the stream.
# `recent_only` holds 128 writes, whichever they are. The repeated token is gone as soon as it has left the window; and so is everything else.
# `forget_more` bounds random tokens, but writes that agree still pile up, and it reads as before only about a thousand tokens later. A head without
# any decay it would not change at all. `cap_state` bounds every stream, and reads on at once.
#
# On the right, all three hold the same norm, so their tokens disturb each other equally. `recent_only` spends it on 128 tokens alike, the two
# others most on what is nearest. Why do these two agree? A random write turns a full state's norm from $p$ to $\sqrt{p^2 + P}$, and the cap scales
# it back: a decay with $\tau = 2 p^2 / P$, which is 256 here, as `forget_more` was set. A repeated token adds up to $p + \sqrt{P}$, and the cap
# scales down more: it is a decay that the stream chooses.
#
# ## Trained models
#
# Byte models of two Mamba-2 layers, trained on rows of 128 bytes of Python, read on to 8,192 (committed results, medians and ranges of three seeds:
# `lcref run state_space/collapse`; [the declaration](../experiments/state_space/collapse.py)). The decays of `state_64` start slow, A = 0.01, and in
# rows of 128 bytes nothing teaches them otherwise. Those of `published` start where the layer's usual ones do, A from 1 to 16. The three remedies
# read the trained weights of `state_64`; their settings were chosen with another seed.

# %%
collapse = load("state_space/collapse")[0]
lines = results.read(shipped("results") / "state_space/collapse.cpu.jsonl")
figure, axes = plt.subplots(1, 2, figsize=(13, 4.8), layout="constrained")
for ax, shown in zip(axes, collapse.figures):
    plotting.panel(ax, lines, replace(shown, runs=("state_64", "published", "forget_more", "cap_state", "recent_only")))

# %% [markdown]
# Without a remedy the loss rises with rows several times as long as those of training, and the state of the largest head with it. Read with any of the
# three remedies the same weights keep the loss that they have at 128 bytes. So do the models whose decays start quick: short rows did not teach
# them to hold on, as they did not teach the others to let go. Size is not what decides here: states of 16 and of 128 numbers, not drawn, collapse
# as well ([the whole table](../docs/results.md)).
#
# And how many pairs do trained ones hold? Two layers again, trained to recall up to 32 pairs, a key and a value of one token each, that are then
# all asked for (committed results, three seeds: `lcref run state_space/recall`; [the declaration](../experiments/state_space/recall.py)). Left,
# by length; right, the number of tokens at which fewer than nine in ten questions are answered right, by the size N of the state.

# %%
recall = load("state_space/recall")[0]
lines = results.read(shipped("results") / "state_space/recall.cpu.jsonl")
figure, axes = plt.subplots(1, 2, figsize=(14, 4.8), width_ratios=(3, 2), layout="constrained")
plotting.panel(axes[0], lines, replace(recall.figures[0], runs=("mamba2_4", "mamba2_8", "mamba2_16", "mamba2_64", "rope", "hard_alibi")))
plotting.panel(axes[1], lines, replace(recall.figures[1], title="Where it falls below nine in ten"))

# %% [markdown]
# The larger the state, the more it holds, as for the random keys above; the fitted line is a power of N. It bends at the end: the largest states
# recall every pair of the lengths that they were trained on, and what fails beyond has to do with training too. One of two heads that sees two
# tokens, beside one without positions, is enough for attention (`hard_alibi`) to miss none.
#
# Ask for one passkey in ever longer filler instead (`lcref run state_space/passkeys`), and size decides less than it seems to: by the median of three
# seeds a state of 2 and one of 64 both find four digits nearly always at 512 tokens, and a state of 8 holds eight digits as well as one of 64, once it
# is trained for as long as it takes to learn. (States of 2 and 4 were not trained for longer; [the tables](../docs/results.md).)
#
# ## What constant memory buys
#
# A stream of a million tokens of text through a decoder of two Mamba-2 layers of width 64, with random weights, on which memory does not depend
# (committed results: `python -m benchmarks.stream`). Beside it, the keys and values that two attention layers of that width would keep by then,
# counted.

# %%
lines = [json.loads(line) for line in (shipped("results") / "bench/state_space.jsonl").read_text(encoding="utf-8").splitlines()]
stream = next(line for line in lines if line["case"].startswith("stream 1M"))
read, held = np.array([int(n) for n in stream["MB"]]), list(stream["MB"].values())
cache = 2 * 2 * 64 * 4 * read / 1e6                                 # layers, keys and values, width, bytes of a float32
figure, ax = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
state = np.full(len(read), stream["state_kB"] / 1e3)
plotting.lines(ax, read / 1000, {"the process, Mamba-2": held, "cache of attention, counted": cache, "its state": state}, log_x=False, log_y=True,
               x_label="tokens read (thousands)", y_label="MB", title="A million tokens in pieces of 2,000")
print(f"the process grows from {held[0]:.1f} to {held[-1]:.1f} MB; its state has {stream['state_kB']} kB, as much as a cache of "
      f"{1e6 * state[0] / (2 * 2 * 64 * 4):.0f} tokens")

# %% [markdown]
# ## Exercises
#
# Each judge accepts any correct answer. `...` is yours to fill in. `statistics.NormalDist()` has `cdf` and `inv_cdf`.
#
# **1.** How many pairs of random keys (N numbers, length 1) and random signs (P of them) can a state P x N without decay hold, if a share `share`
# of the signs, above one half, shall be read right? To the nearest pair; one more or less is right as well.

# %%
def capacity(P, N, share):
    ...


judge.capacity(capacity);


# %% [markdown]
# **2.** The norm of a state after `T` tokens that each write a matrix of norm `size`, with a decay `alpha` a token between 0 and 1, 1
# included. If `alike`, all write the same matrix; if not, random ones, whose products average to zero (then: the root of the mean square).

# %%
def norm_after(T, alpha, size, alike):
    ...


judge.norm_after(norm_after);


# %% [markdown]
# **3.** In a stream without end, the token `d` tokens ago shall be read with a share `share` of its signs right. Choose the decay a
# token, `alpha`, for keys of N numbers. Many answers may do; near the limit few do. (Which `N` does it take at `d` = 1,000 for 0.9?)

# %%
def decay(N, d, share):
    ...


judge.decay(decay);
