"""Does a hint about the carry teach a model to add one to longer numbers?

    ^ 4 1 9 9 | 4 2 0 0 $           trained on 2 to 10 digits, tested with up to 30; as many nines at the end as there may be, uniformly
    ^ 4 1 9 9 nines #2              the hint `nines`, in half of the rows: how far the carry goes
    ^ 4 1 9 9 next 3 4              the hint `next`: a digit plus one, which says nothing about the carry

The second task of task hinting (arXiv 2310.00726). Written from the left, the first digit to change depends on how many nines follow, which must be
looked up ahead; written from the right (`reversed`) the carry is the digit before. Adding one is copying but for the carry, so the model has what
copies far: windows of 2 to 5 tokens on half of the heads, no positions on the rest (`nope`: no positions at all). A hinted row takes the place of
one of the task: arms with hints see half as many. Each arm for a budget (1x) and for four of them (4x).

42 runs, of a third of a minute to two and a half on one of two cores, 25 minutes in all on both. Sizes gpu and paper train on up to 20 digits.
Deviation: the paper's sizes and formats were not available to us, nor which hints it uses for this task.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.evaluate import ExactMatch
from lcref.experiment import Figure, Run, grid
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import HardAlibi, Nope
from lcref.tasks import HintedSource, Increment, IncrementReversed, NextDigit, Nines
from lcref.train import TrainConfig

TASKS = {"increment": (Increment(), False), "reversed": (IncrementReversed(), True)}
HINTS = ("nines", "next")


def source(task, reverse, hint=Nines, fraction=0.0):
    """`fraction` is the share of rows that pose the hint: none."""
    return HintedSource(task, min_length=2, max_length=10, hint=hint(reverse), fraction=fraction)


def runs(base, budgets):
    """budgets: name -> steps."""
    found = {}
    for name, (task, reverse) in TASKS.items():
        sources = {"": source(task, reverse), "nines": source(task, reverse, Nines, 0.5), "next": source(task, reverse, NextDigit, 0.5)}
        sources = {hint: replace(data, max_length=base.data.max_length) for hint, data in sources.items()}
        arms = grid(base, **{"data": sources, "train.steps": budgets})
        found |= {f"{name}-{arm}": run for arm, run in arms.items()}
    most = list(budgets)[-1]
    return found | {f"nope-{arm}": replace(found[f"increment-{arm}"], model=replace(base.model, position=Nope())) for arm in (most, f"nines-{most}")}


DATA = source(Increment(), False)
CPU = Run(
    model=DecoderConfig(vocab=DATA.vocab, d_model=64, layers=2, mixer=AttentionConfig(heads=8, head_dim=16), position=HardAlibi(windows=(2, 3, 4, 5))),
    data=DATA,
    train=TrainConfig(steps=1500, batch=32, learning_rate=2e-3, steps_per_call=100),
    evals=(ExactMatch((5, 8, 10, 12, 15, 20, 30), samples=300),),
)
GPU = replace(CPU, model=replace(CPU.model, d_model=256, layers=4), data=replace(DATA, max_length=20),
              train=TrainConfig(steps=5000, batch=256, learning_rate=1e-3, warmup=500, steps_per_call=250),
              evals=(ExactMatch((10, 20, 25, 30, 40, 60, 100), samples=500),))
POD = replace(GPU, model=replace(GPU.model, d_model=512), train=replace(GPU.train, steps=20_000, batch=1024, learning_rate=5e-4))
SMOKE = replace(CPU, model=replace(CPU.model, d_model=16, layers=1), train=TrainConfig(steps=4, batch=8, warmup=1, steps_per_call=2),
                evals=(ExactMatch((5, 10, 20), samples=10),))
FEW = ("increment-1x", "increment-nines-1x", "reversed-next-4x", "nope-4x")
RUNS = {
    "smoke": {name: run for name, run in runs(SMOKE, {"1x": 4, "4x": 16}).items() if name in FEW},
    "cpu": runs(CPU, {"1x": 1500, "4x": 6000}),
    "gpu": runs(GPU, {"1x": 5000, "4x": 20_000, "16x": 80_000}),
    "paper": runs(POD, {"1x": 20_000, "4x": 80_000}),
}
SEEDS = 3
SOURCE = "arXiv 2310.00726"
PAPER = {"increment": "hints help with a second task, adding one, as well (arXiv 2310.00726, as summarised by others; no figures were available)"}
at = lambda run, n: of(run, "exact_match", n)
BUDGETS = ("1x", "4x")
CLAIMS = (
    Claim("short-numbers", "With the longer budget every arm with windows adds one within the trained lengths.",
          holds=tuple(at(f"{task}-{arm}4x", 10) >= 0.95 for task in TASKS for arm in ("", "nines-", "next-"))),
    Claim("hints-add-one", "At equal compute the hint about the carry helps beyond the trained length.", source=SOURCE,
          holds=tuple(at(f"increment-nines-{budget}", n) > at(f"increment-{budget}", n) for budget in BUDGETS for n in (12, 15))),
    Claim("which-hint-matters", "More than the hint that says nothing about it.", source=SOURCE, amended="by .05 at least, in place of by any",
          holds=tuple(at(f"increment-nines-{budget}", n) >= at(f"increment-next-{budget}", n) + 0.05 for budget in BUDGETS for n in (12, 15))),
    Claim("reversing-does-more", "Writing the number the other way round does more than a hint.",
          holds=tuple(at("reversed-4x", n) > at("increment-nines-4x", n) for n in (15, 20))),
    Claim("no-positions-no-number", "Without positions the number is lost beyond the trained length, hint or not.",
          holds=tuple(at(f"nope-{arm}4x", 15) <= 0.1 for arm in ("", "nines-"))),
)
FIGURES = tuple(
    Figure("exact_match", title=f"Adding one, {words}", x_label="digits", y_label="numbers without an error", trained_to="data.max_length", runs=names)
    for words, names in (
        ("highest digit first", tuple(f"increment-{arm}{budget}" for budget in (*BUDGETS, "16x") for arm in ("", "nines-", "next-"))),
        ("lowest digit first", tuple(f"reversed-{arm}{budget}" for budget in (*BUDGETS, "16x") for arm in ("", "nines-", "next-"))),
        ("without positions", tuple(f"nope-{arm}{budget}" for budget in (*BUDGETS, "16x") for arm in ("", "nines-")))))
