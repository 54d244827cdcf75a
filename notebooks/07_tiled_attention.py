# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 Tiled attention: the softmax that needs no matrix
#
# **Question.** Attention of 32,768 queries to as many keys has a billion scores a head, and softmax divides each by a sum over its whole
# row. How can the exact result be had without ever holding the scores?
#
# You will see softmax added up from pieces, a mask that says which pieces to leave out, what that saves, and a small Pallas kernel that runs
# on any machine. The exercises build flash attention in four steps. Ten minutes to read, longer with the exercises; half a minute of computing.
#
# The code that does it: [`ops/attention.py`](../lcref/ops/attention.py) (`attend_chunked`), [`ops/tiles.py`](../lcref/ops/tiles.py),
# kernels for GPU and TPU in [`kernels/flash_gpu.py`](../lcref/kernels/flash_gpu.py) and [`kernels/flash_tpu.py`](../lcref/kernels/flash_tpu.py).
# Papers: FlashAttention, [2205.14135](https://arxiv.org/abs/2205.14135), and FlashAttention-2, [2307.08691](https://arxiv.org/abs/2307.08691);
# the online softmax before it, [1805.02867](https://arxiv.org/abs/1805.02867).

# %%
import json
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.experimental import pallas as pl

from lcref import plotting
from lcref.exercises import tiled_attention as judge
from lcref.experiment import shipped
from lcref.ops.attention import attend, attend_chunked_lse, merged
from lcref.ops.masks import causal, sinks, window
from lcref.ops.tiles import live_tiles, table

# %% [markdown]
# ## Softmax in pieces
#
# One query has scores $s_j$ for keys with values $v_j$. Take any set of keys and keep three things of it:
#
# $$m = \max_j s_j, \qquad l = \sum_j e^{s_j - m}, \qquad a = \sum_j e^{s_j - m}\, v_j, \qquad \text{output} = a / l.$$
#
# The maximum is there because $e^{89}$ already overflows float32; with it no exponent is above 0. It cancels in $a / l$, so any other reference
# would give the same output. That is the whole trick: two pieces can be moved to a common reference, and then their sums add up.

# %%
def piece(s, v):
    e = np.exp(s - s.max())
    return s.max(), e.sum(), e @ v


s, v = np.log([1.0, 2.0, 4.0, 8.0]), np.array([1.0, 2.0, 3.0, 4.0])
for name, part in {"keys 0, 1": slice(0, 2), "keys 2, 3": slice(2, 4), "all four": slice(0, 4)}.items():
    m, l, a = piece(s[part], v[part])
    print(f"{name}:  m = ln {np.exp(m):g}   l = {l:g}   a = {a:g}   output a / l = {a / l:.4f}")

# %% [markdown]
# The first piece has its maximum at $\ln 2$, the whole at $\ln 8$: seen from there, everything in the first piece is worth a quarter, and
# $1.5 / 4 + 1.5 = 1.875$, $2.5 / 4 + 5.5 = 6.125$.
#
# So a row can be read in tiles of keys, and only $m$, $l$ and $a$ are carried from one to the next. Below, 64 keys in tiles of 8. When a tile
# brings a new maximum, what was summed before shrinks. Change the seed or the tile.

# %%
S, tile = 64, 8
rng = np.random.default_rng(1)
keys, values = rng.normal(scale=2, size=S), np.cumsum(rng.normal(size=S)) / 4
read = np.arange(tile, S + 1, tile)
m, l, a = np.array([piece(keys[:n], values[:n]) for n in read]).T   # exercise 2 gets the same without reading a key twice

figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
axes[0].vlines(np.arange(S), 0, keys, color=plotting.GREY, linewidth=2, label="score of a key")
axes[0].step(np.r_[0, read], np.r_[m[0], m], color=plotting.RED, linewidth=2, label="m, after each tile")
axes[1].plot(read, l, "o-", color=plotting.BLUE, label="l")
axes[2].plot(read, a / l, "o-", color=plotting.GREEN, label="a / l, after each tile")
axes[2].axhline(jax.nn.softmax(keys) @ values, color="black", linestyle="--", linewidth=1, label="softmax of the whole row")
axes[0].set_ylim(bottom=keys.min() - 3)                             # room for the legend
for ax, title in zip(axes, ("maximum", "sum of exp(score - m)", "output")):
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_xlabel("keys read")
    ax.legend(frameon=False, fontsize=9)

# %% [markdown]
# ## Pieces read apart
#
# Where pieces are computed in different places (a cache that lies on several devices, keys in several calls), $m$ and $l$ are sent as one number,
# the log-sum-exp of the scores: $\text{lse} = \ln \sum_j e^{s_j} = m + \ln l$. A piece's output is an average over its keys with weights
# $e^{s_j - \text{lse}_\text{piece}}$; the whole wants $e^{s_j - \text{lse}}$ instead. `merged` does that for any number of pieces, in any order.

# %%
q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 192, 2, 16))   # [B,T,H,K]
attend_piece = jax.jit(attend_chunked_lse)
pieces = [attend_piece(q, k[:, at], v[:, at]) for at in (slice(128, 192), slice(0, 64), slice(64, 128))]
print("three pieces, merged, beside attention at once: largest difference", f"{np.abs(merged(pieces) - attend(q, k, v)).max():.0e}")

# %% [markdown]
# ## Tiles that a mask leaves out
#
# Queries are cut into tiles as well. Each tile of queries is a loop of its own over tiles of keys, with $m$, $l$ and $a$ for each of its rows; the
# loops need nothing from each other. A tile of scores lives only while it is summed. The mask is asked about each tile before the loop begins
# (`live_tiles`): `none` is never read, `all` needs no test of single pairs, `some` is tested.
#
# What is saved is memory, and traffic. Memory close to the processor is small and fast, the rest large and slow. With the matrix, $T^2$ scores are
# written and read, and then $T^2$ weights. In tiles of side $b$, q is read and the output written once, and a tile of k and v once for each visit:
# the larger the tiles, the less is moved, and the more fast memory they take.

# %%
T, K = 4096, 64
mask = causal() & (window(1024) | sinks(4))                         # change it


def kinds(mask, T, b):
    """[tiles of queries, tiles of keys]: 0 none, 1 some, 2 all."""
    ask = lambda i, j: ("none", "some", "all").index(mask.tile(i, i + b - 1, j, j + b - 1))
    return np.array([[ask(i, j) for j in range(0, T, b)] for i in range(0, T, b)])


sides = [2**i for i in range(6, 11)]   # smoke: [512, 1024]
moved = {name: [2 * T * K + (kinds(each, T, b) > 0).sum() * 2 * b * K for b in sides]
         for name, each in {"causal()": causal(), "the mask on the left": mask}.items()}
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", width_ratios=(1, 1.5))
plotting.matrix(axes[0], kinds(mask, T, b=256), "yellow: all, grey: some, dark: none",
                x_label="tile of 256 keys", y_label="tile of 256 queries")
axes[0].set(xticks=range(0, 16, 5), yticks=range(0, 16, 5))
plotting.lines(axes[1], sides, {"with the matrix": [4 * T * K + 4 * T * T] * len(sides), **moved},
               x_label="side b of a tile (queries and keys)", y_label="numbers moved, a head", title=f"{T} queries and keys of width {K}", log_y=True)

# %% [markdown]
# Counted for the library's own forms (committed results; `python -m benchmarks.cost` makes them again): bytes moved, by the same formula, and the
# memory that XLA's compiled program holds beside its arguments and its result. With the matrix both grow with the square of the length. In tiles
# the memory grows no faster than the length. The traffic of causal tiles still grows with the square, from far below; under a window it too grows
# in proportion to the length.

# %%
lines = [json.loads(line) for line in (shipped("results") / "bench/cost.jsonl").read_text(encoding="utf-8").splitlines()]
lengths = sorted({line["T"] for line in lines})
curve = lambda name, what: [line[what] for length in lengths for line in lines if (line["name"], line["T"]) == (name, length)]
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for ax, what, title in zip(axes, ("moved_MB", "temp_MB"), ("moved between slow and fast memory", "held by the compiled program")):
    plotting.lines(ax, lengths, {name: curve(name, what) for name in dict.fromkeys(line["name"] for line in lines)},
                   x_label="length (queries = keys)", y_label="MB", title=f"{title}, 4 heads of 64", log_y=True)

# %% [markdown]
# ## The same as a kernel
#
# In Pallas you write what one program does, and `pallas_call` runs it at every place of a grid: here one program for each tile of queries.
# Arguments are references: `q[...]` is the program's own tile, `k[pl.ds(start, block), :]` reads `block` rows of all keys, `out[...] =` writes.
# `tiles[0, n]` is the number of the n-th tile of keys that this program has to visit, of `count[0, 0]`. `interpret=True` runs it all as plain JAX,
# on any machine; the library's kernel for GPUs has the same structure, and is compiled.

# %%
def launch(kernel, q, k, v, mask, block, width):
    """kernel(mask, block, tiles, count, q, k, v, out) once a tile of queries -> [T, width]; T and S are whole tiles."""
    full, part = live_tiles(mask, np.arange(len(q)), np.arange(len(k)), block, block)
    tiles, count = table([whole + some for whole, some in zip(full, part)])
    own = lambda rows, columns: pl.BlockSpec((rows, columns), lambda i: (i, 0))     # program i gets block i of the rows
    every = lambda x: pl.BlockSpec(x.shape, lambda i: (0, 0))       # every program may read all of x
    return pl.pallas_call(
        partial(kernel, mask, block), grid=(len(q) // block,),
        in_specs=[own(1, tiles.shape[1]), own(1, 1), own(block, q.shape[1]), every(k), every(v)],
        out_specs=own(block, width), out_shape=jax.ShapeDtypeStruct((len(q), width), jnp.float32),
        interpret=True,
    )(tiles, count[:, None], q, k, v)


# %% [markdown]
# A kernel for half of the work: the largest visible score of each query. What goes from tile to tile is one number a row. To stay
# short it tests the pairs of every tile that it visits, `all` or `some`.

# %%
def largest(mask, block, tiles, count, q, k, v, out):
    queries = q[...] / np.sqrt(q.shape[1])
    q_pos = pl.program_id(0) * block + jnp.arange(block)[:, None]

    def visit(n, m):
        start = tiles[0, n] * block
        scores = queries @ k[pl.ds(start, block), :].T              # [block, block]: all of the matrix that there is
        seen = mask.visible(q_pos, start + jnp.arange(block)[None, :])
        return jnp.maximum(m, jnp.where(seen, scores, -jnp.inf).max(1))
    m = jax.lax.fori_loop(0, count[0, 0], visit, jnp.full(block, -jnp.inf))
    out[...] = m[:, None]


q, k, v = np.random.default_rng(0).normal(size=(3, 64, 8)).astype(np.float32)
mask = causal() & window(20)
scores = np.where(mask(np.arange(64), np.arange(64)), q @ k.T / np.sqrt(8), -np.inf)
print("as from the matrix:", np.allclose(launch(largest, q, k, v, mask, block=16, width=1)[:, 0], scores.max(1), atol=1e-5))

# %% [markdown]
# ## Exercises
#
# Each judge accepts any correct answer, in numpy or jax.numpy. They build on each other. All are one head: `[T,V]` for T queries.
#
# **1. Merge two halves.** Given output and log-sum-exp of each half, those of the whole. A row that has seen no key in a half has output 0 and
# log-sum-exp $-\infty$ there; in both, the same for the whole. Scores may be hundreds, of either sign.

# %%
def merge(out_a, lse_a, out_b, lse_b):                              # [T,V], [T], [T,V], [T]
    ...                                                             # return out, lse


judge.merge(merge);


# %% [markdown]
# **2. The online update.** The state of T rows, and one more tile of scores `s [T,bk]`, which are $-\infty$ where the mask hides a key, with the
# tile's values `v [bk,V]`. The judge begins with $m = -\infty$, $l = 0$, $a = 0$ and looks at $a / l$ and $m + \ln l$ after each tile.

# %%
def update(m, l, a, s, v):                                          # [T], [T], [T,V], [T,bk], [bk,V]
    ...                                                             # return m, l, a


judge.update(update);


# %% [markdown]
# **3. The loop over tiles.** `q [T,K]`, `k [S,K]`, `v [S,V]`, T and S in whole blocks; scores are divided by $\sqrt K$. A tile that the mask calls
# `none` must not be read: the judge fills it with NaN. The mask may not be asked about all pairs at once.

# %%
def flash(q, k, v, mask, block):
    ...                                                             # mask.tile(q_first, q_last, k_first, k_last), mask(q_pos, k_pos)


judge.flash(flash);


# %% [markdown]
# **4. The kernel.** Write `attention` in the form of `largest`. It is judged against `lcref.ops.attention.attend`.

# %%
def attention(mask, block, tiles, count, q, k, v, out):
    ...                                                             # out[...] = the output of this program's queries, [block, V]


judge.kernel(lambda q, k, v, mask, block: launch(attention, q, k, v, mask, block, v.shape[1]));
