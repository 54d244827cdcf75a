"""Does writing a computation down, step by step as a Turing machine would, carry a model to problems four times as long as any it was trained on?

    ^ a7 1 a31 0 a52 1 a60 # | even  a7 1 odd  a31 0 odd  a52 1 even  a60 # $       parity of 1 0 1, in the cells 7, 31, 52; # is blank

Three machines (parity; a number plus one; the sum of two numbers, their digits in turn, lowest first), trained on up to 10 digits, tested with up
to 40. TAIL (arXiv 2507.13332) names three modules of such traces; each is taken away in turn, from the data alone:
    no_address    Linear Transition: the step does not say which cell it is about
    no_fetch      Memory Fetcher: the symbol is not copied before it is used
    two_cells     Atomic State: the state is told after every second cell only
    direct        no trace: what was written and the last state, at once. The control
The cells of a tape are any of 96, in ascending order. In `consecutive` they are neighbours, as they would be in an array: then cells that are
further apart than the longest tape in training never stand on one tape, and nothing teaches the model to tell them apart.
The model of these arms has windows of 1 to 4 tokens on half of its heads, which hold a step, and no positions on the rest: the place in the trace
is local, the lookup on the tape is by address. For parity also no positions at all (`nope`), RoPE on everything (`rope`), and two other
kinds of heads apart (`layered`): half as many in a layer, RoPE in a window of 8 tokens below, no positions above, sharpened by ln n.

Whole trace: every token right. Outcome: the symbols written and the last state, in a trace that the model writes itself; a direct answer is
right about the last state of parity half of the time by guessing.
Heads, windows and steps were chosen in trials with another seed. There a sum of 20 digits in consecutive cells went wrong in what was fetched, and
in nothing else, which is how the cells came to be apart.

Half a minute to three for one run of parity or increment on one of two cores, one and a half to nine for one of addition, an hour and a half in
all. Size gpu trains on up to 20 digits, size paper on up to 50; neither has been run yet. Deviation: machines of one pass and a small vocabulary,
where the paper tunes a model of 7B on text. At sizes gpu and paper also `program`: Turing programs (arXiv 2407.03310), which write the whole tape
anew at every step.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.evaluate import ExactMatch, OutcomeMatch
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import HardAlibi, Nope, Rope
from lcref.ops.weights import LogN
from lcref.tasks import TaskSource, TuringProgram, TuringTrace
from lcref.train import TrainConfig

MACHINES = ("parity", "increment", "addition")
MODULES = {"no_address": dict(address=False), "no_fetch": dict(fetch=False), "two_cells": dict(cells=2)}
SWITCHES = {"": {}, **MODULES, "consecutive": dict(gaps=False), "direct": dict(trace=False)}
HEADS = AttentionConfig(heads=8, head_dim=16)
LOCAL = HardAlibi(windows=(1, 2, 3, 4))
LAYERED = replace(HEADS, heads=4, window=8, position=Rope()), replace(HEADS, heads=4, weights=LogN(64))
SCHEMES = {"nope": dict(position=Nope()), "rope": dict(position=Rope()), "layered": dict(position=Nope(), pattern=LAYERED)}


def named(machine, change):
    return f"{machine}-{change}" if change else machine


def runs(base, machines=MACHINES):
    found = {}
    for machine in machines:
        for change, switches in SWITCHES.items():
            data = replace(base.data, task=replace(base.data.task, machine=machine, **switches))
            found[named(machine, change)] = replace(base, data=data, model=replace(base.model, vocab=data.vocab))
        whole = found[machine]
        if machine == "parity":
            found |= {named(machine, scheme): replace(whole, model=replace(whole.model, **change)) for scheme, change in SCHEMES.items()}
    return found


def programs(base, tested, comes_out):
    """The whole tape anew at every step. tested, comes_out: lengths, of which a program of n cells has n^2 tokens."""
    evals = (replace(base.evals[0], lengths=tested), replace(base.evals[1], lengths=comes_out, samples=50))
    found = {}
    for machine in MACHINES:
        data = replace(base.data, task=TuringProgram(machine))
        found[f"{machine}-program"] = replace(base, data=data, model=replace(base.model, vocab=data.vocab), evals=evals)
    return found


DATA = TaskSource(TuringTrace(addresses=96, gaps=True), min_length=1, max_length=10)
CPU = Run(
    model=DecoderConfig(vocab=DATA.vocab, d_model=64, layers=2, mixer=HEADS, position=LOCAL),
    data=DATA,
    train=TrainConfig(steps=2000, batch=32, learning_rate=2e-3),
    evals=(ExactMatch((5, 10, 15, 20, 30, 40), samples=200), OutcomeMatch((10, 20, 40), samples=100)),
)
FURTHER = (10, 20, 30, 40, 60, 80, 100)
GPU = replace(
    CPU,
    model=replace(CPU.model, d_model=256, layers=4),
    data=TaskSource(TuringTrace(addresses=256, gaps=True), min_length=1, max_length=20),
    train=TrainConfig(steps=10_000, batch=128, learning_rate=1e-3, warmup=500, steps_per_call=200),
    evals=(ExactMatch(FURTHER, samples=500), OutcomeMatch((20, 40, 80), samples=200)),
)
POD = replace(
    GPU,
    model=replace(GPU.model, d_model=1024, layers=12, mixer=AttentionConfig(heads=16)),
    data=TaskSource(TuringTrace(addresses=512, gaps=True), min_length=1, max_length=50),
    train=replace(GPU.train, steps=20_000, batch=256, learning_rate=3e-4, warmup=1000),
    evals=(ExactMatch((25, 50, 75, 100, 150, 200), samples=500), OutcomeMatch((50, 100, 200), samples=200)),
)
SMOKE = replace(CPU, model=replace(CPU.model, d_model=16), train=TrainConfig(steps=4, batch=8, warmup=1, steps_per_call=2),
                evals=(ExactMatch((5, 10, 20), samples=10), OutcomeMatch((10, 20), samples=4)))
FEW = ("parity", "parity-direct", "parity-layered", "addition-two_cells")
MORE = (*MACHINES, "compare")
RUNS = {
    "smoke": {name: run for name, run in runs(SMOKE).items() if name in FEW},
    "cpu": runs(CPU),
    "gpu": runs(GPU, MORE) | programs(GPU, (10, 20, 30, 40), (20, 40)),
    "paper": runs(POD, MORE) | programs(POD, (25, 50, 75, 100), (50, 100)),
}
SEEDS = 3
TAIL = "arXiv 2507.13332"
PAPER = {
    "tail": "Qwen2.5-7B, comparing numbers of 11-20 and 21-50 digits after training on 5-10: all modules 94.2, 90.0; without Linear Transition 80.0, "
            "75.4; without Atomic State 82.6, 73.6; without Memory Fetcher 90.2, 88.0 (arXiv 2507.13332, ablation). Addition, trained on 10-30 "
            "digits, at 31-40 and 41-50: 92.5, 86.5",
    "turing programs": "addition trained to 50 digits: 98 % at 100 (arXiv 2407.03310, as summarised by others)",
}
whole, outcome = (lambda run, n: of(run, "exact_match", n)), (lambda run, n: of(run, "outcome_match", n))
CLAIMS = (
    Claim("learned", "Within the trained lengths traces of every kind are right, to the last token.",
          holds=tuple(whole(named(machine, change), 10) >= 0.95 for machine in MACHINES for change in ("", *MODULES, "consecutive"))),
    Claim("twice", "With all modules whole traces are right at twice the trained length.", source="arXiv 2407.03310",
          published="addition, trained to 50 digits: 98 % at 100", holds=tuple(whole(machine, 20) >= 0.95 for machine in MACHINES)),
    Claim("outcome-twice", "So is what comes out, when the model writes the trace itself.", source="arXiv 2407.03310",
          published="addition, trained to 50 digits: 98 % at 100", holds=tuple(outcome(machine, 20) >= 0.95 for machine in MACHINES)),
    Claim("four-times", "And at four times.", holds=tuple(outcome(machine, 40) >= 0.95 for machine in MACHINES)),
    Claim("direct-fails", "Asked for the answer alone, at twice the trained length and more, the same model guesses parity, and gets next to no "
          "number right.",
          holds=(*(outcome("parity-direct", n) <= 0.6 for n in (20, 40)),
                 *(outcome(f"{machine}-direct", n) <= 0.05 for machine in ("increment", "addition") for n in (20, 40)))),
    *(Claim(f"{change.replace('_', '-')}-costs", f"Without {module} less comes out right, at twice and at four times the trained length.",
            source=TAIL, published=published,
            holds=tuple(outcome(named(machine, change), n) < outcome(machine, n) for machine in MACHINES for n in (20, 40)))
      for change, module, published in (
          ("no_address", "Linear Transition", "comparing numbers, up to 2 and 5 times the trained length: 80.0, 75.4 for 94.2, 90.0"),
          ("no_fetch", "Memory Fetcher", "comparing numbers, up to 2 and 5 times the trained length: 90.2, 88.0 for 94.2, 90.0"),
          ("two_cells", "Atomic State", "comparing numbers, up to 2 and 5 times the trained length: 82.6, 73.6 for 94.2, 90.0"))),
    Claim("nope-loses-its-place", "Without positions a model does not follow a trace that is half as long again as any in training.",
          holds=(whole("parity-nope", 15) <= 0.1,)),
    Claim("cells-apart-go-further", "Where the cells of a tape are neighbours, and those far apart never met in training, less comes out right.",
          source="arXiv 2305.16843 (of position ids)",
          holds=tuple(outcome(named(machine, "consecutive"), 40) < outcome(machine, 40) for machine in MACHINES)),
    Claim("windows-keep-it", "With windows on half of its heads it does; RoPE everywhere does not.",
          holds=(*(whole(machine, 15) >= 0.8 for machine in MACHINES), whole("parity-rope", 15) <= 0.1)),
    Claim("together-is-better", "Windows and free heads in every layer go further than a layer of windowed RoPE below one without positions, with half "
          "the heads.",
          holds=tuple(whole("parity", n) > whole("parity-layered", n) for n in (15, 20, 30))),
)
DIGITS = dict(x_label="digits", trained_to="data.max_length")
FIGURES = tuple(figure for machine in (*MACHINES, "compare") for figure in (
    Figure("exact_match", title=f"Whole traces, every token right: {machine}", y_label="traces without an error",
           runs=tuple(named(machine, change) for change in ("", *MODULES, "consecutive", *SCHEMES, "program")), **DIGITS),
    Figure("outcome_match", title=f"What comes out, the model writing by itself: {machine}", y_label="outcomes right",
           runs=tuple(named(machine, change) for change in (*SWITCHES, *SCHEMES, "program")), **DIGITS),
))
