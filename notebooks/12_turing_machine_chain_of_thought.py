# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 A Turing machine's trace as chain of thought
#
# **Question.** Is the number of ones in a row even or odd? One prediction has to take in every bit, however long the row is. Which words, written
# down before the answer, make each single prediction as easy in a row of a thousand as in a row of ten?
#
# You will see a machine, its run written as text, three ways to spoil that text, and what each does to the next word: how far back one has to
# look for it, and how much has to be combined. Then, what trained models make of such traces. Nothing is trained here: problems are counted, and
# the results of models are committed. Ten minutes; a few seconds of computing.
#
# The code that does it: [`tasks/turing.py`](../lcref/tasks/turing.py). Paper: TAIL, [2507.13332](https://arxiv.org/abs/2507.13332).

# %%
from itertools import product

import matplotlib.pyplot as plt
import numpy as np

from lcref import plotting, results
from lcref.exercises import turing_machine_chain_of_thought as judge
from lcref.experiment import load, shipped
from lcref.tasks import TuringTrace
from lcref.tasks.turing import MACHINES, PARITY

# %% [markdown]
# ## A machine is a dict
#
# A tape holds a symbol in each cell. The machine has a state. It reads a cell, takes the next state from a table, and moves one cell to the right,
# until it meets the blank `#`. (It may also write into the cell; parity does not, so it has `None` there.)

# %%
for (state, symbol), (following, written) in PARITY.delta.items():
    print(f"in state {state:4s} read {symbol}: go to {following:4s} write {written}")

state = "even"
for symbol in "101":
    state = PARITY.delta[state, symbol][0]
    print(symbol, "->", state)

# %% [markdown]
# The table does not know how long the tape is: the loop does. So it is the loop that has to be written down.
#
# ## The run as text
#
# The prompt is the tape: before each symbol stands the address of its cell. Addresses begin anywhere in a pool, so that short tapes use those that
# long ones need. The answer begins with the first state. Each step then says three words: where the head is, what it reads there, which state
# follows. These are the three modules of the paper:
#
# - *Linear Transition*: the computation is one chain of steps, none skipped. Here every step names its place, the **address**.
# - *Memory Fetcher*: what a step needs is copied from afar before it is used. Here, the **symbol**.
# - *Atomic State*: a step has no steps inside. Here, a **state** after each cell.
#
# Each can be switched off. Try another machine: `increment` also writes.

# %%
def words(task, tape, start=7):
    """The words of a problem: (prompt, answer)."""
    question = [word for i, symbol in enumerate([*tape, "#"]) for word in (f"a{start + i}", symbol)]
    numbers = {word: i for i, word in enumerate(task.tokens)}
    return ["^", *question, "|"], task.decode(task.answer(np.array([[numbers[word] for word in question]]))[0])


machine, tape = "parity", "101"
switches = {"whole trace": {}, "no addresses": dict(address=False), "no fetcher": dict(fetch=False), "two cells a step": dict(cells=2),
            "direct answer": dict(trace=False)}
for name, off in switches.items():
    prompt, answer = words(TuringTrace(machine, **off), tape)
    print(f"{name:16s} {' '.join(prompt)}  {' '.join(answer)}")

# %% [markdown]
# ## Which words make the next word
#
# Here is a reader of parity traces: rules that name the next word, and the places of the words that were used. One rule looks up: find the same
# address on the tape, take what stands behind it. The others use what was just said. Without the fetcher, looking up and the machine's table have
# to happen within one word.

# %%
def next_word(row, fetcher=True):
    """(the word that follows in a parity trace, the places of the words that it was made of)"""
    last = len(row) - 1
    if row[last] in ("even", "odd"):
        before = last - (2 if fetcher else 1)
        return f"a{int(row[before][1:]) + 1}", [before]             # the address after the last one
    if row[last] in "01#":
        state, symbol = last - 2, last
    else:
        state, symbol = last - 1, row.index(row[last]) + 1          # look up
        if fetcher:
            return row[symbol], [last, symbol]                      # and only copy
    if row[symbol] == "#":
        return "$", [last, symbol]
    return PARITY.delta[row[state], row[symbol]][0], sorted({state, last, symbol})


def direct(row):
    bits = [place for place, word in enumerate(row) if word in "01"]
    return ("odd" if [row[place] for place in bits].count("1") % 2 else "even"), bits


readers = {"whole trace": next_word, "no fetcher": lambda row: next_word(row, fetcher=False), "direct answer": direct}


# %%
def arcs(ax, row, made):
    """made: place of a word -> places of the words that it was made of."""
    bend = np.linspace(0, np.pi, 50)
    for place, sources in made.items():
        colour = plotting.RED if row[place] in ("even", "odd") else plotting.BLUE if row[place] in "01#" else plotting.GREY
        for source in sources:
            half = (place - source) / 2
            ax.plot(source + half * (1 + np.cos(bend)), 0.6 + half * np.sin(bend), color=colour, linewidth=1.6)
    for place, word in enumerate(row):
        ax.text(place, 0, word, ha="center", va="center", fontsize=10, weight="bold" if place in made else "normal")
    ax.set(xlim=(-1, 23), ylim=(-0.6, 0.9 + max(place - min(sources) for place, sources in made.items()) / 2))
    ax.axis("off")


figure, axes = plt.subplots(3, 1, figsize=(10, 6.6), layout="constrained", height_ratios=(7, 6, 5))
for ax, (name, reader) in zip(axes, readers.items()):
    prompt, answer = words(TuringTrace(**switches[name]), "101")
    row, first = prompt + answer, len(prompt) + 2 * (name != "direct answer")
    made = {place: reader(row[:place])[1] for place in range(first, len(row) - 1)}
    arcs(ax, row, made)
    right = sum(reader(row[:place])[0] == row[place] for place in made)
    ax.set_title(f"{name}, bold: {right} of {len(made)} words right by rule", loc="left", fontsize=11)

# %% [markdown]
# Blue ends at a symbol, orange at a state, grey at an address. In the whole trace some words are fetched (long arcs, nothing is computed) and some
# are computed (short arcs), and no word is both. Without the fetcher every state is both. The direct answer joins all long arcs in one word.
#
# ## Counted over all problems
#
# A reader is one way to find the next word. Is there an easier one? Take all tapes of $n$ bits, each at two starts, and ask: do the last $w$ words
# of a row settle the next one? They do not if somewhere two rows agree in them and go on differently. The smallest $w$ that settles it is how far
# anyone has to look back.

# %%
def contexts(n, wanted, **off):
    """(the prompt, what was said of the answer, the next word) wherever a wanted word is next, in all problems of n bits."""
    task, found = TuringTrace(addresses=n + 2, **off), []
    for tape, start in product(product("01", repeat=n), (0, 1)):
        prompt, answer = words(task, tape, start)
        found += [(prompt, answer[:i], word) for i, word in enumerate(answer) if word in wanted and (i > 0 or not task.trace)]
    return found


def settled(pairs):
    """Does the same that is seen always go with the same next word?"""
    known = {}
    return all(known.setdefault(tuple(seen), word) == word for seen, word in pairs)


def look_back(found):
    """The fewest last words of the row that settle the next one."""
    return next(w for w in range(1, 100) if settled(((prompt + said)[-w:], word) for prompt, said, word in found))


def look_back_in_the_trace(found):
    """The fewest last words of the trace that do, with the whole prompt in view."""
    return next(w for w in range(1, 100) if settled((prompt + said[-w:], word) for prompt, said, word in found))


def table(found):
    """(how many of the last words are needed, leaving out each that can be; how many different ones they are: a table's entries)"""
    need = list(range(1, look_back(found) + 1))
    for w in need[::-1]:
        fewer = [z for z in need if z != w]
        need = fewer if settled(([(prompt + said)[-z] for z in fewer], word) for prompt, said, word in found) else need
    return len(need), len({tuple((prompt + said)[-z] for z in need) for prompt, said, _ in found})


# %%
states, bits = ("even", "odd"), ("0", "1")
sizes = [2, 3, 4, 5, 6, 7]   # smoke: [2, 3]
far = {name: [look_back(contexts(n, states, **switches[name])) for n in sizes] for name in readers}
where = {name: [look_back_in_the_trace(contexts(n, bits, **switches[name])) for n in sizes] for name in ("whole trace", "no addresses")}
joined = {cells: table(contexts(6, states, cells=cells)) for cells in (1, 2, 3, 6)}

figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
plotting.lines(axes[0], sizes, far, x_label="bits on the tape", y_label="words of the row", log_x=False,
               title="Memory Fetcher: how far back to\nlook until the next state is settled")
plotting.lines(axes[1], sizes, where, x_label="bits on the tape", y_label="words of the trace", log_x=False,
               title="Linear Transition: how far back until\nthe next symbol is, with the tape in view")
axes[2].bar_label(axes[2].bar([str(cells) for cells in joined], [size for _, size in joined.values()], color=plotting.BLUE))
axes[2].set(xlabel="cells a step (tapes of 6 bits)", ylabel="entries of the table")
axes[2].set_title("Atomic State: entries of the\ntable that gives the next state", loc="left", fontsize=11, fontweight="bold", pad=16)
axes[2].spines[["top", "right"]].set_visible(False)
for name, found in {**far, **{f"{name}, symbol": found for name, found in where.items()}}.items():
    print(f"{name:21s}", *(f"{n} bits: {w:2d}" for n, w in zip(sizes, found)), sep="   ")
print("words that a state is made of:", ", ".join(f"{need} at {cells} a step" for cells, (need, _) in joined.items()))

# %% [markdown]
# **Memory Fetcher.** A state is settled by the last three words at every length: the state before, an address that does not matter, the symbol.
# Without the fetcher one has to look back to the tape, two words further for each bit, and what is found there goes straight into the table. The
# direct answer looks almost as far, and at every bit. (In the whole trace the way to the tape is as long. But what is there is only copied.)
#
# **Linear Transition.** With the tape in view, the last word names the cell to read next. Without addresses only the number of steps tells, and to
# count them one has to read the trace from its beginning.
#
# **Atomic State.** Two cells a step make a table over two symbols and a state. Each cell more doubles it. All six cells in one step, which is
# the direct answer with the bits copied out first, need an entry for each of the 64 tapes (the state before is always the first). Parity could be
# counted instead of looked up, but six bits would still have to go into one word.
#
# ## A reader of any length
#
# So a reader who does one thing a word, *either* look up *or* use the table on the last words, needs nothing more for a longer tape. It goes on
# from the first state and address by its own words. Beside it, traces without the fetcher: read by one who may do both in one word, and by one who
# may not, and so has to guess each state.

# %%
def guess(row):
    return rng.choice(states) if row[-1].startswith("a") and row[row.index(row[-1]) + 1] != "#" else next_word(row, fetcher=False)[0]


def share_right(reader, n, problems=100, **off):
    """The share of problems of n bits whose whole answer a reader writes."""
    batch, found = (task := TuringTrace(**off)).sample(rng, problems, n), 0
    for inputs, targets in zip(batch.inputs, batch.targets):
        truth = [*task.decode(inputs), task.tokens[targets[-1]]]
        row = truth[:truth.index("|") + 3]
        while len(row) < len(truth) and row[-1] == truth[len(row) - 1]:     # the first wrong word ends it
            row.append(reader(row))
        found += row == truth
    return found / problems


rng = np.random.default_rng(0)
lengths = [1, 2, 4, 8, 16, 32, 64, 128]   # smoke: [1, 2, 4]
tried = {"whole trace": [share_right(lambda row: next_word(row)[0], n) for n in lengths],
         "no fetcher, a state is a guess": [share_right(guess, n, fetch=False) for n in lengths],
         "no fetcher, both in one word": [share_right(lambda row: next_word(row, fetcher=False)[0], n, fetch=False) for n in lengths]}
for name, shares in tried.items():
    print(f"{name:30s}", *(f"{n} bits {share:.2f}" for n, share in zip(lengths, shares)), sep="  ")

# %% [markdown]
# The fetcher tells the reader nothing new: who can look up and compute within one word is right without it. It cuts one hard word into two easy
# ones, and the answer is longer.
#
# What a model makes of such traces when it is trained on them is a question of its own, which nothing above answers. A transformer has layers and can
# do more than one thing a word; and training need not find the rules that hold at every length.
#
# ## What training makes of them
#
# Three machines: parity, a number plus one, the sum of two numbers. Models of two layers, half of whose heads see the last one to four words only, and
# the rest all of them, without positions: the first can hold a step, the others look up. They were trained on tapes of up to 10 digits and write
# whole traces by themselves for up to 40 (committed results, three seeds: `lcref run turing_machine_cot/traces`). One thing differs from the tapes
# above: their cells are any of 96 addresses, in ascending order, so that those far apart meet in training. In `consecutive` they are neighbours. For
# parity also other heads: no positions at all (`nope`), RoPE (`rope`), windows in one layer and none in the next (`layered`).

# %%
traces = load("turing_machine_cot/traces")[0]
measured = results.read(shipped("results") / "turing_machine_cot/traces.cpu.jsonl")
figure, axes = plt.subplots(3, 1, figsize=(9, 13), layout="constrained")
for ax, declared in zip(axes, traces.figures[1:6:2]):
    plotting.panel(ax, measured, declared)

# %% [markdown]
# With the whole trace what comes out is right at four times the trained length, for every machine and in every seed. Without addresses it is lost soon
# after the trained lengths: to know which cell is next one would have to count. With neighbours for cells it is lost later: addresses that are far apart
# never stood on one tape in training, and nothing taught the lookup to tell them apart. Without the fetcher parity and increment go as far as with it.
# Two layers can evidently look up and compute within one word, as our second reader did. But addition, whose table has 220 entries where parity's has
# four (its state holds the carry and the digit before), was not learned that way in the time that all arms had. Two cells a step cost something, in
# some seeds much. Asked for the answer alone, the same model guesses parity, and at twice the trained length gets next to no number right. Parity
# without positions, or with RoPE on every head, is not followed beyond the trained lengths.
#
# The paper fine-tunes a model of 7B parameters on traces as text and takes the modules away one at a time (its ablation: eight tasks, two ranges of
# length beyond training). Accuracy falls in all but one of these sixteen settings, whichever module goes. In that one, the longer dynamic programming
# problems, two of the three removals did better.
#
# ## Exercises
#
# Each judge accepts any correct answer.
#
# **1.** Write a machine that adds one to a binary number, lowest bit first: a dict `{(state, symbol): (next state, symbol to write)}` with the
# symbols `"0"` and `"1"` and states named as you like. It starts in the state of the first entry. What is carried over the top end is lost.

# %%
increment = None                                                    # {("...", "0"): ("...", "1"), ...}

judge.increment(increment);

# %% [markdown]
# **2.** How many words has the answer, first state and `$` included, for a tape of `n` cells and its blank? `address` and `fetch` say whether the
# trace has these; `writes` whether the machine writes a symbol in every cell; a state is said after every `cells` cells and after the last one.

# %%
def answer_length(n, address, fetch, writes, cells):
    ...


judge.answer_length(answer_length);


# %% [markdown]
# **3.** The reader of another machine. In a trace of `increment` over decimal digits, lowest first, a step says address, digit read, digit written,
# state: `carry a7 9 0 carry a8 6 7 done a9 5 5 done a10 # $`. Name the next word from the last four, `last`, and from `found`, the word behind the
# first mention of `last[-1]` in the row (None if there is none). You may use `MACHINES["increment"].delta`. How do you tell a digit that was read
# from one that was written?

# %%
def rule(last, found):
    ...


judge.rule(rule);
