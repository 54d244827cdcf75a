# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 13 Passkeys and needles
#
# **Question.** A model's loss stays flat while its rows get sixteen times longer. Does it use what it read at the beginning?
#
# You will see the passkey task and how its filler decides what is tested, why the loss cannot answer the question, models whose loss is flat and who
# find nothing, and how to read the map of length and depth that papers print. Ten minutes; a few seconds of computing, nothing is trained.
#
# The code that does it: [`tasks/passkey.py`](../lcref/tasks/passkey.py), [`tasks/mqar.py`](../lcref/tasks/mqar.py),
# [`data/keyed.py`](../lcref/data/keyed.py), [`extension.py`](../lcref/extension.py). Papers: passkey,
# [2305.16300](https://arxiv.org/abs/2305.16300); confusing facts, [2402.05136](https://arxiv.org/abs/2402.05136); many keys,
# [2312.04927](https://arxiv.org/abs/2312.04927).

# %%
import matplotlib.pyplot as plt
import numpy as np

from lcref import extension, plotting, results
from lcref.exercises import passkey_and_needles as judge
from lcref.experiment import load, shipped
from lcref.tasks import MQAR, Passkey, show
from lcref.tasks.task import CONTENT, PAD

# %% [markdown]
# ## A key in a haystack
#
# Some digits stand somewhere in a long row that says nothing. At the end they are asked for. Only the answer is scored (stars), and it is right if
# every token of it is. The row's length and the key's depth, 0 at the start and 1 right before the question, are ours to choose. No guess finds four
# digits: chance is 1 in 10,000.
#
# What stands around the key decides what is tested. The filler `cycle`, the same five tokens over and over, can be compressed. `random` tokens have to
# be ignored one by one. `decoy` adds digits, and spans with another marker, `KEY2`: now it matters which digits were asked for. In MQAR there are many
# needles: keys with a value each, and all are asked for.

# %%
for task, length in ((Passkey(filler="random", depth=0.3), 16), (Passkey(filler="decoy", depth=0.3), 24), (MQAR(pairs=3, keys=8, values=8), 20)):
    print(type(task).__name__, show(task, np.random.default_rng(0), length, samples=1, columns=140), sep=", ", end="\n\n")

# %% [markdown]
# A reader that takes the first four digits it finds understands nothing, and passes wherever the key is the only number.

# %%
def lazy(question):
    """The first four digits of each row: question [B,n] -> [B,4]."""
    digit = (question >= CONTENT) & (question < CONTENT + 10)
    return np.take_along_axis(question, np.argsort(~digit, axis=1, kind="stable")[:, :4], axis=1)


for filler in ("cycle", "random", "decoy"):
    task = Passkey(filler=filler)
    question = task.sample(np.random.default_rng(0), 500, 256).inputs[:, 1:-5]              # without BOS, the question mark and the answer
    right = (lazy(question) == task.answer(question)[:, :4]).all(1).mean()
    print(f"{filler:8s} the lazy reader finds {right:.2f}")

# %% [markdown]
# ## Why the loss cannot tell
#
# A model that has lost the key guesses: each of its digits costs $\ln 10$ nats, where one that knows the key pays nothing. Everything else in the row
# both may predict equally well. So over a row of $T$ tokens, one question for four digits raises the mean loss by
#
# $$\frac{4 \ln 10}{T}.$$
#
# The line below is this price. The grey band is how far apart the losses of one small model are that was trained with three seeds (committed results:
# `lcref run quickstart/text`): a difference inside it may be luck.

# %%
text = load("quickstart/text")[0]
lines = results.read(shipped("results") / "quickstart/text.cpu.jsonl")
seeds = [line["metrics"]["context_loss"]["256"] for line in lines if line["run"] == "rope_window"]
T = 2 ** np.arange(5, 17)

figure, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
ax.plot(T, 4 * np.log(10) / T, "o-", color=plotting.RED, label="price of a forgotten key of four digits")
ax.axhspan(0, max(seeds) - min(seeds), color="#dddddd", label="range of one model's loss over three seeds")
ax.set_xscale("log", base=2)
ax.set(yscale="log", xlabel="tokens in the row", ylabel="mean loss (nats per token)")
ax.legend(frameon=False)
print(f"range over seeds {max(seeds) - min(seeds):.3f}; price in 256 tokens {4 * np.log(10) / 256:.3f}, in 4,096 tokens {4 * np.log(10) / 4096:.4f}")

# %% [markdown]
# ## Flat loss, no recall
#
# The same small models, trained on 256 bytes, by both measures. A key token hides in the text of every training row and is asked for later, so all
# were trained to answer (committed results, three seeds).

# %%
figure, axes = plt.subplots(2, 1, figsize=(8, 8.4), layout="constrained")
for ax, each in zip(axes, text.figures):
    plotting.panel(ax, lines, each)
model = next(line["config"]["model"] for line in lines if line["run"] == "rope_window")
print(f"rope_window: {model['layers']} layers, each sees {model['mixer']['window']} bytes")

# %% [markdown]
# `rope_window` has the lowest loss, flat to 4,096 bytes, and answers at chance: what is near suffices to predict text. `alibi` is as flat, and its
# answers are gone at 512. `nope` has a far higher loss, and its median answers about nine questions in ten at every distance (its worst seed: none beyond
# chance).
#
# The same in one picture, for every run of `lcref run context_extension` (medians of three seeds; models trained on 128 bytes, a key of eight
# tokens): loss in rows of 512 against keys found 489 bytes away.

# %%
lines = [line for name in ("tiny", "clex") for line in results.read(shipped("results") / f"context_extension/{name}.cpu.jsonl")]
median = lambda run, metric, name: np.median([line["metrics"][metric][name] for line in lines if line["run"] == run])
places = {run: (median(run, "context_loss", "512"), median(run, "key_recall", "489")) for run in dict.fromkeys(line["run"] for line in lines)}

figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
ax.scatter(*zip(*places.values()), s=24, color=plotting.GREY)
labels = {"window": "window, lm_infinite, streaming", "abf_tuned": "abf_tuned", "self_extend": "self_extend", "yarn": "yarn", "truncated": "truncated",
          "rope": "rope", "linear": "linear"}
for run, label in labels.items():
    ax.scatter(*places[run], s=50, color=plotting.BLUE)
    ax.annotate(label, places[run], xytext=(-12, 9) if places[run][1] < 0.1 else (7, 2), textcoords="offset points", fontsize=9)
ax.set(xlabel="loss in rows of 512 (nats per byte)", ylabel="keys found, 489 bytes away")
print({run: tuple(round(float(z), 2) for z in places[run]) for run in ("window", "lm_infinite", "streaming", "abf_tuned", "truncated")})

# %% [markdown]
# At the lowest losses stand models that find nearly everything and models that find nothing. `truncated` has a high loss and finds most keys.
#
# ## How to read a map
#
# A passkey map has a square for each length and depth. Its shape says how a reader fails. Three readers without any model: one that breaks in rows
# longer than 600, one that sees the last 256 tokens, one that sees the first and the last 128. Each finds the key if it sees it. Change them.

# %%
readers = {
    "breaks beyond 600": lambda n: np.full(n, n <= 600),
    "sees the last 256": lambda n: np.arange(n) >= n - 256,
    "sees 128 at both ends": lambda n: (np.arange(n) < 128) | (np.arange(n) >= n - 128),
}
figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained", sharey=True)
for ax, (name, sees) in zip(axes, readers.items()):
    found = {}
    for length in (128, 256, 512, 1024, 2048):
        for depth in (0.0, 0.25, 0.5, 0.75, 0.9, 1.0):
            task = Passkey(filler="random", depth=depth)
            question = task.sample(np.random.default_rng(0), 20, length).inputs[:, 1:-5]
            read = task.answer(np.where(sees(question.shape[1]), question, PAD))
            found[f"{length}@{depth:g}"] = (read == task.answer(question)).all(1).mean()
    plotting.cells(ax, [{"metrics": {"passkey": found}}], "passkey", name, x_label="tokens of filler", y_label="depth of the key" if ax is axes[0] else "")

# %% [markdown]
# An upright edge: length itself breaks the reader. A slanted edge: it forgets what is far. A hole in the middle: it keeps both ends.
#
# Now models that were trained, on rows of up to 117 tokens of the filler `cycle` (committed results, three seeds: `lcref run passkey/grid`). Each
# reads up to seventeen times as many.

# %%
grid = load("passkey/grid")[0]
found = results.current(results.read(shipped("results") / "passkey/grid.cpu.jsonl"))
shown = ("rope", "rope_fast", "yarn_fast", "nope", "alibi", "window_nope", "mamba2", "mamba2_closed")
figure, axes = plt.subplots(2, 4, figsize=(12, 5.4), layout="constrained", sharey=True)
for ax, run in zip(axes.flat, shown):
    plotting.cells(ax, [line for line in found if line["run"] == run], "depth_match", run, x_label="tokens of filler",
                   y_label="depth of the key" if ax in axes[:, 0] else "")

# %% [markdown]
# NoPE has the upright edge. ALiBi and Mamba-2 have the slanted one: they lose what is far. RoPE with its usual base of 10,000 turns a third of its
# planes in rows this short; `rope_fast` has a base at which two thirds of them turn, as they do in a language model, and sees no further back than
# training did. `yarn_fast` is the same weights, their frequencies scaled by eight. `mamba2_closed` has eight heads in place of two, and step sizes
# that start at about 1e-4, not 1e-3 to 1e-1. A token's step size says both how much of it is written into the state and how much of the state it
# erases, so small steps for filler spare the key. It does better at 1,024, and forgets in turn. (Small steps alone do so in two seeds of three, eight
# heads alone in none: `mamba2_slow` and `mamba2_heads` in the results.) Where attention is local below and free of positions above (`window_nope`),
# next to nothing is lost.
#
# ## Which needle, and where does it lead?
#
# One key in filler asks whether anything is found. Four facts ask whether the right one is, and a name that holds a name asks whether what was found can
# be looked for in turn (committed results, three seeds: `lcref run passkey/needles`; trained on up to 50 tokens of filler). `window_nope` looks at
# its two neighbours, then searches without positions; `window_rope` differs in that its search has RoPE; `mamba2_closed` carries a state.

# %%
needles = load("passkey/needles")[0]
found = results.current(results.read(shipped("results") / "passkey/needles.cpu.jsonl"))
figure, axes = plt.subplots(4, 1, figsize=(8, 17), layout="constrained")
for ax, title in zip(axes, ("A fact with two values", "Chains of names", "Chains of names, told the other way round",
                            "Threads of two steps through a list of pairs")):
    plotting.panel(ax, found, next(each for each in needles.figures if each.title == title))

# %% [markdown]
# A search without positions finds one of four facts at any length (not drawn: it is always right); with RoPE it is right where it was trained and
# fades. The first panel is what that costs: two values of one key have an order, and without positions both are found and the order is a guess. The
# second panel tells chains of names name first (`SET x4 v7`), the third value first (`SET v7 x4`): attention learns only the latter, whose text has what
# is asked by before what is asked for, and the state learns the former more surely. In the last, two steps along a list of pairs: asked for the end alone
# nobody follows beyond a few pairs; with each step written down (`thread_path`, and `thread_backward` in the other direction) attention does, through
# four times the pairs.
#
# Now a real model. SmolLM2-135M was made for rows of 8,192 tokens; here it reads 12,288 and 16,384 by methods that need no training (committed results:
# `lcref weights get smollm2-135m`, then `lcref extend smollm2-135m`). Every square is a single prompt: a 0 or a 1 alone says little.

# %%
extended = extension.current(results.read(shipped("results") / "extend/smollm2-135m.jsonl"))
runs = dict.fromkeys(line["run"] for line in extended if "passkey" in line["metrics"])
figure, axes = plt.subplots(2, 4, figsize=(11, 5), layout="constrained", sharey=True)
for ax, run in zip(axes.flat, runs):
    plotting.cells(ax, [line for line in extended if line["run"] == run], "passkey", run, x_label="tokens", y_label="depth" if ax in axes[:, 0] else "")
for ax in axes.flat[len(runs):]:
    ax.set_visible(False)

# %% [markdown]
# `none` has the upright edge, between 6,144 and 12,288. `self_extend` has no edge at all. `lm_infinite` and `streaming`, which see the first few tokens
# and about the last 8,192, lose the far keys as a window does, but also the keys at depth 0.9, which they do see. A loss would not have shown that.
#
# ## Exercises
#
# Each judge accepts any correct answer. `...` is yours to fill in.
#
# **1.** Write a reader that is not lazy: `question [B,n]`, tokens without BOS and question mark, holds one token `KEY` (4) and behind it four digits;
# there may be other digits and spans behind `KEY2` (5). Return the four digit tokens of every row, `[B,4]`.

# %%
def find(question):
    ...


judge.find(find);


# %% [markdown]
# **2.** A row of `T` tokens asks `questions` times for a key of `digits` tokens, each of which is one of `kinds`. By how much does the mean loss rise if
# a model that always knew the keys, with certainty, now has to guess?

# %%
def price(T, questions, digits, kinds):
    ...


judge.price(price);


# %% [markdown]
# **3.** In a layer with a window of `w`, a token sees itself and the `w - 1` tokens before it. Layers stand on each other, so what one token has
# gathered, others can read in the next layer. How many tokens back can the key be at most for a model of `layers` layers to be able to answer? (What does that
# say about `rope_window` above, whose numbers are printed there: is 32 bytes beyond its reach?)

# %%
def reach(layers, w):
    ...


judge.reach(reach);
