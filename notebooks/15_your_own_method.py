# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 15 An ablation with a method of your own
#
# **Question.** You have an idea for a position scheme. What is the least you have to write until it stands in a figure beside the built-in ones,
# under the same training, data and tests?
#
# About 20 lines: a config and a module. You will write one, look at what its heads see before any training, put it into an ablation, and move it
# into a file that the command line runs. Ten minutes; the trainings take less than one on two cores.
#
# The code that does it: [`nn/positions/scheme.py`](../lcref/nn/positions/scheme.py), [`experiment.py`](../lcref/experiment.py). Papers: the scheme
# to be changed is Hard-ALiBi, [2402.01032](https://arxiv.org/abs/2402.01032); why one token back matters,
# [2209.11895](https://arxiv.org/abs/2209.11895).

# %%
import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx

from lcref import cli, plotting
from lcref.evaluate import ExactMatch
from lcref.exercises import your_own_method as judge
from lcref.experiment import Experiment, Figure, Run, grid, load, run_all
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.mixers import AttentionConfig
from lcref.nn.positions import POSITIONS, HardAlibi, Position, PositionConfig, Rope
from lcref.ops.bias.distance import distance, per_head
from lcref.tasks import Copy, TaskSource
from lcref.train import TrainConfig

# %% [markdown]
# ## Three places where positions can act
#
# A scheme may add something to the token embedding (`embed`), turn queries and keys (`rotate`), or add a number to every score (`bias`). What it
# leaves alone does nothing. Here is which place each built-in scheme uses.

# %%
hooks = ("embed", "rotate", "bias")
modules = {name: config().build(heads=4, head_dim=16, d_model=64, rngs=nnx.Rngs(0)) for name, config in POSITIONS.items()}
used = np.array([[getattr(type(module), hook) is not getattr(Position, hook) for module in modules.values()] for hook in hooks])

figure, ax = plt.subplots(figsize=(9, 3.4), layout="constrained")
plotting.matrix(ax, used, "light: the scheme acts here", x_label="", y_label="")
ax.set_yticks(range(3), hooks)
ax.set_xticks(range(len(modules)), list(modules), rotation=60, ha="right", fontsize=9);

# %% [markdown]
# ## A scheme of your own
#
# Hard-ALiBi gives some heads a window of the last few tokens and leaves the others without positions. Does such a head need the window, or is one
# token enough? `LookBack` lets head $h$ see exactly one key, the one $o_h$ tokens back, by adding $-\infty$ to the score of every other key.
#
# The config is a frozen dataclass: its fields are what an ablation can vary, and what is written into the results. `build` makes the module. The
# positions arrive as arguments, possibly with a batch axis; `distance` and `per_head` take care of the shapes.

# %%
@dataclass(frozen=True)
class LookBack(PositionConfig):
    """Head h sees the key offsets[h] tokens back and no other; heads beyond the tuple see all, without positions."""
    offsets: tuple[int, ...] = (1, 2)

    def build(self, heads, head_dim, d_model, *, rngs):
        return LookBackPosition(self.offsets + (0,) * (heads - len(self.offsets)))


class LookBackPosition(Position):
    def __init__(self, offsets):
        self.offsets = offsets                                       # one a head; 0: a free head

    def bias(self, q_pos, k_pos):                                    # [T], [S] -> [H,T,S]
        back, offset = per_head(distance(q_pos, k_pos), np.asarray(self.offsets))
        return jnp.where((offset == 0) | (back == offset), 0.0, -jnp.inf)


# %% [markdown]
# ## Look before you train
#
# An untrained model already shows what the heads are allowed to see. A query with no visible key gets zeros: the first token of head 1, the first
# two of head 2. Change the offsets.

# %%
data = TaskSource(Copy(), min_length=1, max_length=6)
model = DecoderConfig(vocab=data.vocab, d_model=64, layers=2, mixer=AttentionConfig(heads=4), position=LookBack((1, 2)))
tokens = jnp.asarray(data.batch(np.random.default_rng(0), 1)["inputs"])
decoder = Decoder(model, rngs=nnx.Rngs(0))
logits, seen = decoder(tokens, capture=True)

figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), layout="constrained")
for h, ax in enumerate(axes):
    plotting.matrix(ax, seen["block0/weights"][0, h], f"head {h + 1}", top=1)

# %% [markdown]
# Two checks cost nothing. Decoding token by token has to give the logits of the whole pass: it does not where a scheme counts array indices in
# place of the positions it was given. And no logit may change with a later token.

# %%
state, pieces = decoder.init_state(batch=1, length=tokens.shape[1]), []
for t in range(tokens.shape[1]):
    piece, state = decoder.extend(tokens[:, t:t + 1], state)
    pieces.append(piece)
changed = decoder(tokens.at[:, -1].set(5))
print("decoding equals the whole pass:", bool(jnp.allclose(jnp.concatenate(pieces, 1), logits, atol=1e-4)))
print("the past ignores the future:   ", bool(jnp.allclose(changed[:, :-1], logits[:, :-1], atol=1e-4)))

# %% [markdown]
# ## The ablation
#
# A `Run` says what is trained, on what, how, and what is measured. `grid` replaces one part of it and nothing else: the difference between two
# runs is the ablation. The task is to copy 1 to 6 letters; the test asks for up to 12.

# %%
steps = 600                                                          # smoke: 50
compared = ("rope", "hard_alibi", "look_back")                       # smoke: ("look_back",)
base = Run(
    model=model, data=data,
    train=TrainConfig(steps=steps, batch=32, learning_rate=5e-3, warmup=40),
    evals=(ExactMatch(lengths=(2, 4, 6, 8, 10, 12), samples=100),),
)
schemes = {"rope": Rope(), "hard_alibi": HardAlibi(windows=(2, 3)), "look_back": LookBack((1, 2))}
copied = Figure("exact_match", title="Copying, trained for seconds", x_label="letters to copy", y_label="copied without an error",
                trained_to="data.max_length")
runs = grid(base, **{"model.position": {name: schemes[name] for name in compared}})
mine = Experiment("look_back", Path("look_back.py"), "", {"tiny": runs}, figures=(copied,))

temporary = tempfile.TemporaryDirectory()                            # a folder of your own keeps the results: out="runs"
found = run_all(mine, "tiny", seeds=1, out=temporary.name, jobs=2)
figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
plotting.panel(ax, found, copied)

# %% [markdown]
# Read it with care: one seed, seconds of training, and `rope` has not even learned the lengths that it was trained on, so that this figure ranks
# nothing. What it shows is that your scheme is in it. In the run above both schemes with free heads copy some strings longer than any in training,
# and one token back did not do better than a window. A result needs more steps and seeds: raise both, or see the committed results of
# `lcref run quickstart/copy`, where each model trains for 4,000 steps with three seeds.
#
# Each run left one line, which says everything needed to make it again. Asked a second time, finished runs are read and not trained.

# %%
line = found[-1]
print("config:    ", line["run"], line["config"]["model"]["position"])
print("made on:   ", line["device"], "| seed", line["seed"], "|", line["parameters"], "parameters")
print("exact match", line["metrics"]["exact_match"])
print("read again:", run_all(mine, "tiny", seeds=1, out=temporary.name, jobs=2) == found)

# %% [markdown]
# ## A file of your own
#
# The command line runs the same declaration from a file: a docstring with the question, the scheme, `RUNS` by size, `FIGURES`.
# `lcref show experiment look_back.py` lists the settings that `--set` can change, the fields of your own config among them. A changed offset is a
# run with a name of its own. The 20 steps of size `smoke` learn nothing; they show that the file works.

# %%
source = '''"""Is one token of the past enough for a head that helps to copy?"""
from dataclasses import dataclass
import jax.numpy as jnp
import numpy as np
from lcref.evaluate import ExactMatch
from lcref.experiment import Figure, Run, grid
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers import AttentionConfig
from lcref.nn.positions import HardAlibi, Position, PositionConfig
from lcref.ops.bias.distance import distance, per_head
from lcref.tasks import Copy, TaskSource
from lcref.train import TrainConfig

@dataclass(frozen=True)
class LookBack(PositionConfig):
    offsets: tuple[int, ...] = (1, 2)

    def build(self, heads, head_dim, d_model, *, rngs):
        return LookBackPosition(self.offsets + (0,) * (heads - len(self.offsets)))

class LookBackPosition(Position):
    def __init__(self, offsets):
        self.offsets = offsets

    def bias(self, q_pos, k_pos):
        back, offset = per_head(distance(q_pos, k_pos), np.asarray(self.offsets))
        return jnp.where((offset == 0) | (back == offset), 0.0, -jnp.inf)
'''

# %%
source += '''
DATA = TaskSource(Copy(), min_length=1, max_length=6)
MODEL = DecoderConfig(vocab=DATA.vocab, d_model=64, layers=2, mixer=AttentionConfig(heads=4))
EVALS = (ExactMatch(lengths=(2, 4, 6, 8, 10, 12), samples=100),)
CPU = Run(MODEL, DATA, TrainConfig(steps=4000, batch=32, learning_rate=5e-3), EVALS)
SMOKE = Run(MODEL, DATA, TrainConfig(steps=20, batch=8, warmup=5, steps_per_call=10), EVALS)
SCHEMES = {"model.position": {"hard_alibi": HardAlibi(windows=(2, 3)), "look_back": LookBack()}}
RUNS = {"smoke": grid(SMOKE, **SCHEMES), "cpu": grid(CPU, **SCHEMES)}
SEEDS = 3
FIGURES = (Figure("exact_match", "Copying", x_label="letters to copy", trained_to="data.max_length"),)
'''
with contextlib.chdir(temporary.name):
    Path("look_back.py").write_text(source, encoding="utf-8")
    command = "run look_back.py --size smoke --seeds 1 --only look_back --set model.position.offsets=1,3"
    cli.main(command.split())
    print("the file as a value:", {size: list(runs) for size, runs in load("look_back.py")[0].runs.items()})

# %% [markdown]
# Without `--size` and `--set` it is size `cpu`, three seeds, figures and tables beside the results. A computer with a GPU or a TPU needs no change
# in the file, since the scheme is plain JAX:
#
# ```
# pip install -e '.[cuda]'           # or '.[tpu]'
# lcref doctor                       # names the device that JAX will use
# lcref run look_back.py
# ```
#
# There the seeds of a run are trained in one program. Attention with a bias of your own takes the dense or the tiled path in plain JAX, not a Pallas
# kernel; add a size `gpu` to `RUNS` when you want a larger model there. `lcref eval` and `lcref generate` find the scheme through the file, as long as it
# stays where it was. A scheme that should be chosen by name (`--set model.position=look_back`) needs one line in the table `POSITIONS`: in your file,
# `POSITIONS["look_back"] = LookBack`, for the commands that read it; in the library, for everything, and its tests then try it too.
#
# ## Exercises
#
# Each judge accepts any correct answer. `...` is yours to fill in.
#
# **1.** Soften Hard-ALiBi instead: ALiBi's slopes for `heads // 2` heads on the first half, nothing on the other half
# ([`ops/bias/alibi.py`](../lcref/ops/bias/alibi.py) has `slopes` and `bias`). Then add it to `schemes` and `compared` above: does a soft window copy
# as well?

# %%
@dataclass(frozen=True)
class HalfAlibi(PositionConfig):
    max_bias: float = 8.0

    def build(self, heads, head_dim, d_model, *, rngs):
        ...


judge.half(HalfAlibi);


# %% [markdown]
# **2.** A scheme that knows distance alone says the same wherever a text begins. Write the test: does `module.bias`, over positions 0 to 63, give
# one value to all visible pairs (the key not after the query) of equal distance? Some biases are $-\infty$, and two of those are equal.

# %%
def knows_distance_alone(module):
    ...


judge.relative(knows_distance_alone);

# %% [markdown]
# **3.** Is it depth that LookBack saves? Declare the ablation: `Rope()` and `LookBack()` with 1, 2 and 3 layers, six runs from `base`, nothing else
# different.

# %%
depth = None                                                         # {name: Run}

judge.ablation(depth);
