# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 Sorting with hints
#
# **Question.** A model learns to sort lists of up to 20 numbers and is then given 100. One step, taken again and again, sorts a list of any length.
# What stands between a model and that step?
#
# You will see the sorting tasks and their hints, two programs that sort alike and answer a hint differently, an attention head set by hand that
# takes the step, what longer lists do to its margin, a whole model set by hand that sorts, and what trained ones do. Nothing is trained here: their
# results are committed. Ten minutes; a few seconds of computing.
#
# The code that does it: [`tasks/sort.py`](../lcref/tasks/sort.py), [`tasks/sort_hints.py`](../lcref/tasks/sort_hints.py),
# [`ops/weights.py`](../lcref/ops/weights.py). Papers: task hinting, [2310.00726](https://arxiv.org/abs/2310.00726); scaling by log length,
# [2202.12172](https://arxiv.org/abs/2202.12172).

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from lcref import plotting, results
from lcref.evaluate import ExactMatch
from lcref.exercises import sorting_with_hints as judge
from lcref.experiment import load, shipped
from lcref.nn.sorting_by_hand import sorting_decoder
from lcref.ops.attention import attention_scores, attention_weights
from lcref.ops.weights import LogN, Softmax, Tempered
from lcref.tasks import Count, Fill, Predecessor, Sort, SortDuplicates, Successor, TaskSource, show
from lcref.tasks.task import CONTENT, EOS

# %% [markdown]
# ## The task and its hints
#
# A number is one token. The list stands before the bar, the answer behind it, `$` ends it; stars mark what is scored. A *hint* is a smaller
# question about the same numbers, with an answer of one token. Hints are mixed into the training rows and never asked in a test. The paper trains
# on lists of up to 20 numbers and tests on 100: less than 1 % are sorted after standard training, more than 92 % with hints, and hints that all
# seem natural differ dramatically in what they do ([abstract](https://arxiv.org/abs/2310.00726)).

# %%
for task in (Sort(), SortDuplicates(values=8), Successor(), Predecessor(), Count(values=30), Fill()):
    print(type(task).__name__, show(task, np.random.default_rng(0), length=6, samples=1).replace("length 6\n", "\n"), end="\n\n")


# %% [markdown]
# ## Why the successor is a hint
#
# If all numbers differ, the next number of the answer is the smallest one above the last one written:
#
# $$y_{t+1} = \min\,\{x \text{ in the list} : x > y_t\}.$$
#
# This is the successor of $y_t$, and nothing else of the row matters. But a sorting row can be answered otherwise, for example by counting how many
# numbers are written already. Two programs, asked for the next token behind what is written so far:

# %%
def by_successor(numbers, written):
    larger = [x for x in numbers if not written or x > written[-1]]
    return min(larger) if larger else EOS


def by_rank(numbers, written):
    return sorted(numbers)[len(written)] if len(written) < len(numbers) else EOS


for n in (5, 20, 100):
    rng = np.random.default_rng(0)
    rows, hints = Sort().sample(rng, 100, n).inputs, Successor().sample(rng, 400, n)
    for program in (by_successor, by_rank):
        sorts = np.mean([all(program(row[1:n + 1], row[n + 2:n + 2 + t]) == ([*row[n + 2:], EOS])[t] for t in range(n + 1))
                         for row in rows.tolist()])
        hinted = np.mean([program(row[1:n + 1], [row[-1]]) == answer for row, answer in zip(hints.inputs.tolist(), hints.targets[:, -1].tolist())])
        print(f"n = {n:3d}  {program.__name__:12s} lists sorted {sorts:.2f}, hints answered {hinted:.2f}")

# %% [markdown]
# On sorting rows the two are equal, so sorting rows alone cannot teach which of them to be. The successor hint asks from any number, with nothing
# written before it; there, counting what is written is worth nothing. For longer lists the difference matters. The successor compares numbers, two at
# a time, needs no positions, and is the same at any length. The rank needs a count that is exact to one, at lengths that were never trained.
#
# ## A head that finds the successor
#
# One attention head can take the step. Its query is made of the current number $y$, its keys of the numbers $x$ in the list. The score has to fall
# with every number above $y$, and to be lower still for all others. A sawtooth of the difference does both: with values below $V$,
#
# $$s(y, x) = c\,\Big(1 - \frac{(x - y - 1) \bmod 2V}{2V}\Big).$$
#
# It jumps up right behind $y$ and falls by $c / 2V$ from each value to the next; what is not above $y$ comes last. A function of a difference is a
# sum of waves $\cos(\omega (x - y) + \varphi)$, and each of these is a product of a query and a key of two numbers. This is RoPE with the value in
# place of the position. A list begins from $y = -1$, and the end mark counts as the value $V$, which follows the largest number.

# %%
V = 128
period = 2 * V
saw = 1 - (np.arange(period) - 1) % period / period
wave = np.fft.rfft(saw)[1:] * 2 / period                            # without the constant, which no softmax sees
wave[-1] /= 2
turns = 2 * np.pi * np.arange(1, V + 1) / period
pair = lambda angle: np.concatenate([np.cos(angle), np.sin(angle)], -1)


def queries(y, c):
    return c * np.tile(np.abs(wave), 2) * pair(y[..., None] * turns - np.angle(wave))


def keys(x):
    return pair(x[..., None] * turns)


def lists(n, batch, rng):
    """current [B,n+1]: -1 and the sorted numbers; candidates [B,n+1]: these and the end mark. Candidate t is the successor of current t."""
    numbers = np.sort(Sort(V).sample(rng, batch, n).inputs[:, 1:n + 1], 1) - CONTENT
    return np.pad(numbers, ((0, 0), (1, 0)), constant_values=-1), np.pad(numbers, ((0, 0), (0, 1)), constant_values=V)


def qk(current, candidates, c):
    return [jnp.asarray(z, jnp.float32)[:, :, None] for z in (queries(current, c), keys(candidates))]


def attention(current, candidates, c, weights=Softmax()):
    return np.asarray(attention_weights(*qk(current, candidates, c), weights=weights, scale=1.0))[:, 0]


# %% [markdown]
# Left: the scores that two current numbers give to all values. Right: the weights in a list of 20 and one of 80, keys in order of size. This order
# is for the eye alone; the head does not know where its keys stand. The weight of the right answer is on the diagonal. Change `c`.

# %%
c = 100.0
values, rng = np.arange(V + 1), np.random.default_rng(0)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained")
for y, colour in ((40, plotting.BLUE), (90, plotting.RED)):
    axes[0].plot(values, queries(np.array([y]), c)[0] @ keys(values).T, ".", color=colour, markersize=4, label=f"y = {y}")
axes[0].set(xlabel="x", ylabel="score")
axes[0].set_title(f"scores, c = {c:g}", loc="left", fontsize=11)
axes[0].legend(frameon=False)
for ax, n in zip(axes[1:], (20, 80)):
    plotting.matrix(ax, attention(*lists(n, 1, rng), c)[0], f"weights, {n} of {V} values", top=1, x_label="keys, by size",
                    y_label="current number, by size")
    ax.set(xticks=range(0, n + 1, n // 4), yticks=range(0, n + 1, n // 4))
error = queries(values - 1, 1.0) @ keys(values).T - (saw - saw.mean())[(values - (values[:, None] - 1)) % period]
print(f"from the sawtooth without its mean the products differ by at most {np.abs(error).max():.0e}")

# %% [markdown]
# ## What length does
#
# Two things happen in longer lists. There are more keys, as in [notebook 01](../notebooks/01_attention_and_masks.ipynb), and a factor that grows
# with $\ln n$ is a remedy for that. Here the second weighs more: numbers from the same range lie closer together. The mean gap is about $V / n$, and
# the margin is what the score falls over a gap.
#
# Yet there is a floor. Two values differ by 1 at least, so the $j$-th number behind the successor gets at most $e^{-jc/2V}$ of its weight, and a
# number that is not above $y$ at most $e^{-c/2}$. But for the latter, the successor's weight is at least
#
# $$1 - e^{-c / 2V}$$
#
# in a list of any length. With a large $c$ the head sorts whatever comes.
#
# Below, left: the mean weight of the successor. `log_n` multiplies the scores by $\ln n / \ln 21$ for $n$ keys, `tempered` by $1 + \ln n$, with $c$
# divided so that all agree at 20 numbers and their end mark. Right: the scores of a learned head are not exact. Every score gets noise of
# standard deviation 1, and the key with the largest is taken. A list is sorted if all its steps are right.

# %%
lengths, batch = [5, 10, 20, 40, 80, 128], 100                      # smoke: [5, 10], 4
keys_at_20 = 21.0
factors = {"softmax": (c, Softmax()), "log_n": (c, LogN(keys_at_20)), "tempered": (c / (1 + np.log(keys_at_20)), Tempered(1.0)),
           "softmax, 6 c": (6 * c, Softmax())}
rng = np.random.default_rng(0)
problems = {n: lists(n, batch, rng) for n in lengths}
weight = {name: [np.trace(attention(*problems[n], scale, kind), axis1=1, axis2=2).mean() / (n + 1) for n in lengths]
          for name, (scale, kind) in factors.items()}


def sorted_with_noise(n, c):
    scores = np.asarray(attention_scores(*qk(*problems[n], c), scale=1.0)[0])[:, 0]
    taken = (scores + rng.normal(size=scores.shape)).argmax(-1)
    return (taken == np.arange(n + 1)).all(1).mean()


noisy = {f"c = {scale}": [sorted_with_noise(n, scale) for n in lengths] for scale in (100, 400, 1600)}

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
plotting.lines(axes[0], lengths, weight, x_label="numbers in the list", y_label="weight of the successor",
               title=f"c = {c:g}; dashed: floors of c and 6 c")
for scale in (c, 6 * c):
    axes[0].axhline(1 - np.exp(-scale / period), color="black", linestyle="--", linewidth=1, zorder=0)
plotting.lines(axes[1], lengths, noisy, x_label="numbers in the list", y_label="lists sorted", title="Noise of 1 on every score")
for n, (current, candidates) in problems.items():
    gap = candidates - current
    print(f"n = {n:3d}: mean gap {gap.mean():4.1f}, gaps of 1: {(gap == 1).mean():.2f}, factor of log_n {np.log(n + 1) / np.log(keys_at_20):.2f}, "
          f"of tempered {(1 + np.log(n + 1)) / (1 + np.log(keys_at_20)):.2f}")
print(f"the floor is {1 - np.exp(-c / period):.2f} for c = {c:g}, and {1 - np.exp(-6 * c / period):.2f} for {6 * c:g}")

# %% [markdown]
# The weight falls towards its floor as the numbers close up. Both factors slow this down and do not stop it: from 20 numbers to 128 they grow by
# about a half, while the gaps shrink to a sixth. Six times the scale keeps 0.9 or more at every length.
#
# With noise, close neighbours are confused, and one confusion spoils the list. With $c = 400$ more than half of the lists of 20 come out right and
# none of 80. Here no factor of the row would help: it multiplies scores and noise alike, and the order stays. What helps is a larger $c$, which has
# to be learned. In lists of 20, about one gap in six is 1 and asks for it; in lists of 80 more than half are.
#
# This head is one of many that could sort. What trained ones do is measured below.
#
# ## Duplicates need counting
#
# If numbers repeat, the successor of $y$ is not always next: $y$ comes again as long as it has been written fewer times than it occurs. That takes
# counting. A head that attends to all tokens alike and averages "is this $y$?" finds $m / n$ for a number that occurs $m$ times among $n$. One time
# more or less is a difference of $1 / n$: the longer the list, the finer the head has to tell. How often does it matter?

# %%
lengths = np.array([2, 4, 8, 16, 32, 64])
rng = np.random.default_rng(0)
alike = []
for n in lengths:
    numbers = np.sort(SortDuplicates(V).sample(rng, 2000, n).inputs[:, 1:n + 1], 1)
    alike.append((np.diff(numbers, axis=1) > 0).all(1).mean())
figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
ax.plot(lengths, [np.prod(1 - np.arange(n) / V) for n in lengths], "k--", linewidth=1, zorder=5, label=r"$\prod_{i<n} (1 - i/V)$")
plotting.lines(ax, lengths, {"2,000 lists a length": alike}, x_label="numbers in the list", y_label="lists", title=f"No number twice, {V} values")

# %% [markdown]
# Of the lists of 16 fewer than half have no repeat, of those of 64 none. There, steps from each number to its successor leave numbers out. The hint
# `Count` asks for what is missing: how often a number occurs.
#
# A head can do better than to average over everything. Attending to the tokens equal to $y$ alone, it averages "is this in front of the bar?". If $y$
# occurs $m$ times and is written $w$ times, that is $m / (m + w)$, more than a half as long as some are missing, and the length of the list is not
# in it. Two layers are then enough for all of sorting, and [`nn/sorting_by_hand.py`](../lcref/nn/sorting_by_hand.py) writes their weights down:
# layer 1 tells each token whether the bar is behind it; in layer 2 one head finds the successor, the other takes this mean, and the feed-forward
# layer says $y$ again where it is above a half. An ordinary `Decoder` without positions, never trained:

# %%
sorter = sorting_decoder(V)
right = ExactMatch(lengths=(10, 20, 50, 100, 200), samples=50)(sorter, TaskSource(SortDuplicates(V)))["exact_match"]
print("lists sorted without an error:", right)

# %%
n = 60
row = SortDuplicates(20).sample(np.random.default_rng(4), 1, n).inputs
_, seen = sorting_decoder(20)(row, capture=True)
mean = np.asarray(seen["block1"])[0, n + 2:, -2]
figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
ax.axhline(0.5, color="0.6", linewidth=1)
ax.plot(np.arange(1, n + 1), mean, "o-", markersize=3, linewidth=1)
ax.set(xlabel="numbers written", ylabel="share of the last one's twins\nin front of the bar", ylim=(0.45, 1.02), title=f"Twins counted: {n} numbers, 20 values");

# %% [markdown]
# Each tooth is one value: at its foot, a half, all of it is written and the next value begins. So length is no obstacle to this architecture. That
# a trained model fails on long lists says what training found, not what could be found.
#
# ## What training finds
#
# Two layers without positions, trained on up to 20 of 128 different numbers: plain softmax, one that sharpens with length (`log_n`) or learns
# how much (`tempered`), each also with `Successor` hints in half of the rows. The same models after one budget of training, four and sixteen
# (committed results, three seeds: `lcref run task_hinting/sorting`).

# %%
sorting = load("task_hinting/sorting")[0]
measured = results.read(shipped("results") / "task_hinting/sorting.cpu.jsonl")
figure, axes = plt.subplots(3, 1, figsize=(9, 12), layout="constrained")
for ax, declared in zip(axes, (sorting.figures[2], sorting.figures[1], sorting.figures[0])):
    plotting.panel(ax, measured, declared)

# %% [markdown]
# Time does most of it: the plain model sorts no list of 100 after one budget, and most of them after sixteen. Trained and tested with the factor of
# `log_n` it sorts nearly all, and 120 as well. A factor does not help a head that is there already, as we saw; it may well change which head training
# finds. Hints do not help: they take the place of lists, and after one and four budgets the arms with hints sort fewer of the longer ones than
# those without. This is about different numbers.
#
# With repetitions a number is also to be counted, and in lists of 20 out of 100 values few occur more than once. Three layers, trained on such lists
# (`repeated`), with `Successor` or `Count` hints in half of the rows, or with half of the rows `Crowded`: lists of the same lengths, drawn from a part of
# the values, so that numbers repeat and are close, as they do and are in long lists. Below, 512 different values and up to 400 of them. Half of the rows
# are `Clustered` there: values about one of the 512, at distances from one to hundreds; `uniform` trains on lists of uniform draws alone, and
# `clustered-untied` reads and writes a number with two vectors in place of one (committed results, three seeds: `lcref run task_hinting/crowded` and
# `task_hinting/pool`).

# %%
figure, axes = plt.subplots(2, 1, figsize=(9, 8.5), layout="constrained")
for ax, name in zip(axes, ("task_hinting/crowded", "task_hinting/pool")):
    plotting.panel(ax, results.read(shipped("results") / f"{name}.cpu.jsonl"), load(name)[0].figures[0])

# %% [markdown]
# Lists of 20 with repetitions are sorted by all of them. Longer ones are where they part: hints cost again, and crowded lists carry most of the way to a
# hundred numbers. They pose in few numbers the problem that long lists pose in many. In a list of 400 of 512 values the successor has to be told from
# many neighbours that differ by one, which is what the margin above was about. A wider model with lists of 20 in which some are close and some are far
# learns it nearly everywhere, and without such lists it does not; what is still wrong, one number in 3,000, spoils one list of 400 in eight. Twice the
# steps and a learning rate that ends at 0 leave one list in 200 (`task_hinting/pool_longer`).
#
# ## Exercises
#
# Each judge accepts any correct answer. `...` is yours to fill in.
#
# **1.** The hints suffice. Somebody has a list of numbers, 0 or larger, some of them more than once, and does not show it. `successor(y)` is the
# smallest number in it above `y`, or `None`; `count(y)` is how often `y` occurs. Return the sorted list.

# %%
def sort_by_hints(successor, count):
    ...


judge.sort_by_hints(sort_by_hints);


# %% [markdown]
# **2.** A head sees only the numbers above `y`, and gives each the score $-a\,(x - y)$. What is the smallest factor `a` with which the successor gets
# the weight `share`? It may have to be searched for. (Take 20 of 128 values, then 100: what does the factor grow by?)

# %%
def factor_needed(numbers, y, share):
    ...


judge.factor_needed(factor_needed);


# %% [markdown]
# **3.** The tie rule. `numbers` may repeat, `written` is a right beginning of the sorted list, maybe empty. Return the next number,
# or -1 if the list is complete.

# %%
def next_number(numbers, written):
    ...


judge.next_number(next_number);
