# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 14 Stretching a real model
#
# **Question.** SmolLM2-135M was made for rows of 8,192 tokens. Can it read 16,384 with the same weights and no training, and how would one know
# that it did?
#
# You will see what each method changes (the rotation of the keys, or which keys are seen), what `lcref extend` measures for each, and why it needs a
# control: the same tokens, read inside the window. The measurements are committed results. If the weights are in your cache, the model also answers
# one prompt here. Ten minutes; seconds of computing without the weights, up to a minute with them.
#
# The code that does it: [`extension.py`](../lcref/extension.py), [`nn/positions/regrouped.py`](../lcref/nn/positions/regrouped.py),
# [`ops/rope_scaling`](../lcref/ops/rope_scaling/__init__.py), [`pretrained/models.py`](../lcref/pretrained/models.py). Papers: SmolLM2,
# [2502.02737](https://arxiv.org/abs/2502.02737); position interpolation, [2306.15595](https://arxiv.org/abs/2306.15595); YaRN,
# [2309.00071](https://arxiv.org/abs/2309.00071); Self-Extend, [2401.01325](https://arxiv.org/abs/2401.01325); LM-Infinite,
# [2308.16137](https://arxiv.org/abs/2308.16137); StreamingLLM, [2309.17453](https://arxiv.org/abs/2309.17453).

# %%
import matplotlib.pyplot as plt
import numpy as np

from lcref import config, extension, plotting, results
from lcref.exercises import stretching_a_real_model as judge
from lcref.experiment import Figure, shipped
from lcref.generate import generate
from lcref.ops import rope
from lcref.pretrained import models
from lcref.train import read_as

lines = extension.current(results.read(shipped("results") / "extend/smollm2-135m.jsonl"))
plain = next(config.from_dict(line["config"]["model"]) for line in lines if line["run"] == "none")     # the model as it was published
window, longest = 8192, 16384
print(plain.position, f"{plain.layers} layers, {plain.mixer.heads} heads of {plain.mixer.head_dim}", sep="\n")

# %% [markdown]
# ## What a method changes
#
# RoPE turns the pairs of numbers in a query and a key by angles that grow with their distance, each pair at its own frequency. In a row of 8,192
# tokens the fast pairs turn many times. They have met every angle. The slow pairs do not turn even once: in a longer row they come to angles that
# training never showed.
#
# One family changes the frequencies. *Linear* interpolation slows every pair down by the factor 2; *NTK* changes the base, so that the slowest pair is
# slowed by 2 and the fastest not at all; *YaRN* leaves the fast pairs alone and slows the slow ones. The other family changes distances.
# *Self-Extend* lets far keys share positions in groups. *LM-Infinite* hides what is farther than the window, but for the first tokens, which seem to be
# at the window's edge. *StreamingLLM* is its near relation.
#
# Each is a change of the configuration; the weights stay as they are.

# %%
def largest_turns(name):
    """By how much each pair of a head has turned between the first and the last token of the long row, in turns."""
    scaling = extension.METHODS[name](plain, window, longest).position.scaling
    frequencies = rope.inv_freq(64, plain.position.base) if scaling is None else scaling.inv_freq(64, plain.position.base, longest)
    return np.asarray(frequencies) * longest / (2 * np.pi)


def seeming_distance(name):
    """At which distance the last token of the long row sees every key [longest], by true distance; NaN where it does not see it."""
    changed, last = extension.METHODS[name](plain, window, longest), longest - 1
    key, scheme, mixer = np.arange(longest), changed.position, changed.mixer
    if name == "none":
        return (last - key)[::-1]
    far = np.broadcast_to(scheme.far(np.array(last), "q") - scheme.far(key, "k"), key.shape)
    hidden = (last - key >= (mixer.window or longest)) & (key >= mixer.sinks)
    return np.where(hidden, np.nan, np.where(last - key < scheme.near, last - key, far))[::-1]


# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
trained = largest_turns("none") * window / longest
styles = plotting.styles(["none", "linear", "ntk", "yarn", "self_extend", "lm_infinite"])
for name in ("none", "linear", "ntk", "yarn"):
    left.plot(trained, largest_turns(name) / trained, label=name, **styles[name], markersize=4)
left.axvspan(trained.min(), 1, color="#dddddd", zorder=0)
left.annotate("less than one turn\nin training", (0.05, 1.4), fontsize=9, ha="center")
left.set(xscale="log", xlabel="turns of the pair in a row of 8,192 (fast pairs left)", ylabel="largest angle / largest in training",
         title="Frequencies: rows of 16,384")
left.invert_xaxis()
for name in ("none", "self_extend", "lm_infinite"):
    right.plot(seeming_distance(name), label=name, **styles[name], markevery=[longest - 1], linewidth=2)
right.axhline(window, color="#555555", linestyle=":")
right.annotate("trained to 8,192", (0, window), xytext=(0, 4), textcoords="offset points", fontsize=9, color="#555555")
right.set(xlabel="tokens between key and query", ylabel="distance by which it is turned", title="Distances: what the last token sees")
for ax in (left, right):
    ax.legend(frameon=False, fontsize=9)

# %% [markdown]
# Left, in the grey part, everything above 1 is an angle that training never showed; NTK goes a little beyond in all slow pairs but the slowest. Right,
# everything above the dotted line is a distance never shown. LM-Infinite's line stops where keys are hidden; its mark at the far right is the first
# tokens, which stay.
#
# ## Loss, and why it needs a control
#
# `lcref extend smollm2-135m` reads three long files of Python's standard library and takes the loss of every 2,048 tokens along the row. But a text
# gets harder and easier as it goes, whatever the method. So the unchanged model reads the same tokens once more with only the 4,096 to 6,144 tokens
# before them, always inside its window. That run is called `control`. (Committed results, loaded here and not computed.)

# %%
losses = extension.against_control([line for line in lines if "loss" in line["metrics"]])
keys = [line for line in lines if "passkey" in line["metrics"]]
print({run: len([line for line in losses if line["run"] == run]) for run in dict.fromkeys(line["run"] for line in losses)})

along = Figure("loss_along", "Loss along the row, three texts", "tokens read", "nats per token", trained_to=window, over="texts",
               runs=("control", "none", "linear", "yarn", "lm_infinite", "window"))
figure, ax = plt.subplots(figsize=(8, 4.6), layout="constrained")
plotting.panel(ax, losses, along)

# %% [markdown]
# Unchanged (`none`), the model follows the control to 10,240 and then breaks. `linear` is bad everywhere, also at 2,048, where nothing had to be
# stretched: to the fast pairs, neighbours now seem half a token apart. `window` hides all that is farther than 8,192, the first tokens too; `lm_infinite` keeps
# ten of them and stays with the control.
#
# The bands are wide because the texts differ. The paired difference is not: each loss over that of the control *on the same tokens*.

# %%
over = Figure("over_control", "Loss over the control's, on the same tokens", "tokens in the row", "percent", over="texts",
              runs=("ntk", "yarn", "self_extend", "lm_infinite"))
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
plotting.panel(ax, losses, over)
ax.axhline(0, color="#555555", linewidth=1, linestyle=":");

# %% [markdown]
# Below 0 means: reading farther back than the control has helped. By loss alone the four are close. LM-Infinite sees 8,192 tokens and ten more, and that
# is enough for a loss beside the others'.
#
# ## Retrieval
#
# So a second thing is measured: a five-digit key stands at some depth of a long filler (0: first, 1: last) and is asked for at the end. A square is
# one prompt, 1 if the first number written is the key. One prompt is little evidence for any one square; the pattern over squares says more.

# %%
names = ("none", "ntk", "yarn", "self_extend", "lm_infinite")
figure, axes = plt.subplots(1, 5, figsize=(13, 2.8), layout="constrained", sharey=True)
for ax, name in zip(axes, names):
    plotting.cells(ax, [line for line in keys if line["run"] == name], "passkey", name, x_label="tokens", y_label="depth" if ax is axes[0] else "")

# %% [markdown]
# LM-Infinite, whose loss stays with the control's, finds one key of six past the window. NTK, whose loss at 16,384 is the highest of the four, finds
# four. Loss does not rank them.
#
# ## Ask the model
#
# This cell answers one passkey prompt with the real weights, if they are here. The prompt has 400 tokens and the key stands at depth 0.1, about 350 tokens
# before the question. After it has run, tell the model that its window is shorter: `method, told = "lm_infinite", 256`. What will it write?

# %%
kept = models.is_kept("smollm2-135m")   # smoke: False
method, told = "none", window
if kept:
    model = models.load("smollm2-135m")
    ids, key = extension.prompt(model.tokenizer, 400, 0.1, sample=0)
    decoder = read_as(model.decoder, extension.METHODS[method](model.decoder.cfg, told, 512))
    answer = generate(decoder, ids[None, :], 12, temperature=0.0)[0]
    text = model.tokenizer.decode(ids)
    print(f"{text[:240]} [...] {text[-90:]} >>>{model.tokenizer.decode(np.asarray(answer))}\n\nthe key was {key}")
else:
    print("The weights are not in the cache: `lcref weights get smollm2-135m` (98 MB, Apache-2.0) brings them; then run this cell again.")

# %% [markdown]
# ## Exercises
#
# Each judge accepts any correct answer. `...` is yours to fill in.
#
# **1.** Self-Extend. A key nearer than `near` tokens keeps its distance $i - j$. Farther away, positions are counted in groups, $\lfloor i / g \rfloor$ and
# $\lfloor j / g \rfloor$, and the query's is moved by $near - near / g$, so that near and far meet. At which distance does the query at `i` see the key at `j`?
# ($g$ divides `near`.)

# %%
def seeming(i, j, near, group):
    ...


judge.seeming(seeming);


# %% [markdown]
# **2.** Three texts, read by a method and by the control: `loss [texts]` and `control [texts]`, in nats per token. By how many percent does the method
# exceed the control? Return the median over texts, paired by text.

# %%
def over_control(loss, control):
    ...


judge.over_control(over_control);


# %% [markdown]
# **3.** A window lets a token see itself and the `window - 1` tokens before it, nothing else. The key stands at `depth` of a prompt of `length` tokens. Does
# the last token see it? Then look at `lm_infinite` above: which squares does this predict, and which not? (The judge asks for no borderline cases.)

# %%
def sees(length, depth, window):
    ...


judge.sees(sees);
