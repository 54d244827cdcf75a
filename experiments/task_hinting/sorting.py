"""Does a hint in training teach a model to sort five times as many numbers as it ever saw, or does longer training?

    ^ 33 19 106 | 19 33 106 $         128 different numbers, trained on 2 to 20 of them, tested up to 120; scored: the whole list
    ^ 33 19 106 suc 19 33             the hint, in half of the rows: the next larger number. It is never asked for in a test

Task hinting (arXiv 2310.00726): sorting trained to 20 numbers, tested at 100, is said to go from under 1 % to over 92 % with such hints, in a
model without positions. Plain softmax, softmax that sharpens with length (log_n; tempered learns how much), hints, and both; the model, the
rows a step and so the compute are the same, and each arm is trained for a budget (1x) and for four of them (4x; 16x at size gpu), each
on a schedule of its own. So what a hint does can be held against what the same time without it does. A hinted row takes the place of a sorting
row: those arms see half as many lists. Plain arms have the same vocabulary, and a share of hints of 0.

`pool`: of 512 numbers, up to 400 at once. `repeated`: values drawn independently from 100, the paper's regime. Then a number is written again
as often as it occurs, which must be counted; `local` gives half of the heads windows of 2 to 5 tokens, enough to see how often the last one has
been written. At size gpu also the other hints (predecessor, count, fill) and smaller shares of hints.

Trials with another seed settled the budget: after 2,500 steps only log_n sorted lists of 60, after 10,000 every arm did; lists of 20 with
repetitions were mostly wrong after 20,000 steps with hints, at the same size. So that part is declared to be measured, not because it works.
About 1 minute for 1x and 4 for 4x with two runs at a time on 2 cores, 2 hours in all. Sizes gpu and paper have
not been run yet.
Deviation: the paper's sizes, formats and shares of hints were not available to us; only the lengths and the kind of hint are its own, and size
paper is what a pod can do.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.evaluate import ExactMatch
from lcref.experiment import Figure, Run, grid
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import HardAlibi, Nope
from lcref.ops.weights import LogN, Softmax, Tempered
from lcref.tasks import Count, Fill, HintedSource, Predecessor, Sort, SortDuplicates, Successor
from lcref.train import TrainConfig

WEIGHTS = {"softmax": Softmax(), "log_n": LogN(20), "tempered": Tempered()}
LOCAL = dict(position=HardAlibi(windows=(2, 3, 4, 5)), mixer=AttentionConfig(heads=8, head_dim=16, weights=LogN(20)))
KINDS = {"predecessor": Predecessor(128), "count": Count(128), "fill": Fill(128)}
UNIQUE, REPEATED = (10, 20, 25, 30, 40, 50, 60, 80, 100, 120), (5, 10, 15, 20, 25, 30, 40, 60, 80, 100)


def source(values, duplicates=False):
    """`fraction` is the share of rows that pose the hint: none."""
    task = SortDuplicates(values) if duplicates else Sort(values)
    return HintedSource(task, min_length=2, max_length=20, hint=Successor(values, duplicates), fraction=0.0)


def hints(plain="", hinted="hints"):
    return {"data.fraction": {plain: 0.0, hinted: 0.5}}


def runs(base, budgets):
    """budgets: name -> steps. What is beside the main comparison gets the largest alone."""
    def on(data, lengths, **change):
        return replace(base, data=data, model=replace(base.model, vocab=data.vocab, **change), evals=(replace(base.evals[0], lengths=lengths),))
    sharp, steps = replace(base.model.mixer, weights=LogN(20)), {"train.steps": budgets}
    most = dict([list(budgets.items())[-1]])
    found = grid(base, **{"model.mixer.weights": WEIGHTS}, **hints(), **steps)
    found |= grid(on(source(512), (20, 50, 100, 200, 300, 400), mixer=sharp), **{"train.steps": {f"pool-{name}": n for name, n in most.items()}})
    twice = source(100, duplicates=True)
    steps = {"train.steps": most}
    found |= grid(on(twice, REPEATED), **hints("repeated", "repeated-hints"), **steps)
    found |= grid(on(twice, REPEATED, mixer=sharp), **{"data.fraction": {"repeated-log_n-hints": 0.5}}, **steps)
    return found | grid(on(twice, REPEATED, **LOCAL), **hints("repeated-local", "repeated-local-hints"), **steps)


def other_hints(base, budgets):
    """Hints of other kinds, and fewer of the same."""
    steps = {"train.steps": budgets}
    kinds = grid(replace(base, data=replace(base.data, fraction=0.5)), **{"data.hint": KINDS}, **steps)
    return kinds | grid(base, **{"data.fraction": {"share_10": 0.1, "share_25": 0.25}}, **steps)


DATA = source(128)
CPU = Run(
    model=DecoderConfig(vocab=DATA.vocab, d_model=64, layers=2, mixer=AttentionConfig(heads=4), position=Nope()),
    data=DATA,
    train=TrainConfig(steps=2500, batch=32, learning_rate=2e-3, steps_per_call=100),
    evals=(ExactMatch(UNIQUE, samples=200),),
    seed=3,                                                                    # the first: trials had smaller ones
)
SMOKE = replace(CPU, model=replace(CPU.model, d_model=16, layers=1), train=TrainConfig(steps=4, batch=8, warmup=1, steps_per_call=2),
                evals=(ExactMatch((10, 20, 40), samples=10),))
GPU = replace(CPU, model=replace(CPU.model, d_model=256, mixer=AttentionConfig(heads=8)), evals=(ExactMatch(UNIQUE, samples=500),),
              train=TrainConfig(steps=2500, batch=256, learning_rate=1e-3, warmup=500, steps_per_call=250))
POD = replace(GPU, model=replace(GPU.model, d_model=512), train=replace(GPU.train, batch=1024, learning_rate=5e-4, warmup=1000))
FEW = ("softmax-1x", "softmax-hints-1x", "tempered-1x", "repeated-local-hints-16x")
RUNS = {
    "smoke": {name: run for name, run in runs(SMOKE, {"1x": 4, "4x": 8, "16x": 16}).items() if name in FEW},
    "cpu": runs(CPU, {"1x": 625, "4x": 2500, "16x": 10_000}),
    "gpu": runs(GPU, {"1x": 2500, "4x": 10_000, "16x": 40_000}) | other_hints(GPU, {"4x": 10_000}),
    "paper": runs(POD, {"1x": 10_000, "4x": 40_000, "16x": 160_000}) | other_hints(POD, {"4x": 40_000}),
}
SEEDS = 3
SOURCE = "arXiv 2310.00726"
PAPER = {
    "hints": "trained to 20 numbers, tested at 100: under 1 % without hints, over 92 % with (arXiv 2310.00726, abstract)",
    "repetitions": "the best figure, 92.6 % at 100, is for lists with repetitions (arXiv 2310.00726, as summarised by others)",
    "tempered": "a softmax with a length-dependent parameter helps without hints as well (arXiv 2310.00726, as summarised by others)",
}
at = lambda run, n: of(run, "exact_match", n)
FAR = {"1x": (20, 25, 30), "4x": (30, 40, 60), "16x": (60, 80, 100)}           # where a budget should leave something to tell apart
CLAIMS = (
    Claim("short-lists", "Every arm sorts lists as long as those it was trained on.",
          holds=tuple(at(f"{weights}{hint}-16x", n) >= 0.95 for weights in WEIGHTS for hint in ("", "-hints") for n in (10, 20))),
    Claim("hints-sort", "With hints a model trained to 20 numbers sorts 100, without them it does not.", source=SOURCE,
          published="at 100: under 1 % without hints, over 92 % with", holds=(at("softmax-hints-16x", 100) >= 0.92, at("softmax-16x", 100) <= 0.01)),
    Claim("hints-at-equal-compute", "At equal compute hints help, whatever the budget.", source=SOURCE,
          holds=tuple(at(f"softmax-hints-{budget}", n) > at(f"softmax-{budget}", n) for budget, far in FAR.items() for n in far)),
    Claim("length-aware-helps", "So does a softmax that sharpens with length, without hints.", source=SOURCE,
          holds=tuple(at(f"{weights}-{budget}", n) > at(f"softmax-{budget}", n) for weights in ("log_n", "tempered")
                      for budget, far in FAR.items() for n in far)),
    Claim("both-add-up", "Both together are better than either.",
          holds=tuple(at(f"log_n-hints-{budget}", n) > at(f"{other}-{budget}", n) for other in ("log_n", "softmax-hints")
                      for budget, far in FAR.items() for n in far)),
    Claim("time-does-more", "Four times the training does more for a plain model than hints, or log_n, do at the budget before.",
          holds=tuple(at(f"softmax-{more}", n) > at(f"{other}-{less}", n) for other in ("softmax-hints", "log_n")
                      for less, more in (("1x", "4x"), ("4x", "16x")) for n in FAR[less])),
    Claim("sorts-five-times", "Trained to 20 different numbers, a model without positions sorts 100.", holds=(at("log_n-16x", 100) >= 0.95,)),
    Claim("sorts-from-a-pool", "And 200 and 400 of a larger pool.", holds=(at("pool-16x", 200) >= 0.95, at("pool-16x", 400) >= 0.95)),
    Claim("hints-sort-repetitions", "With hints it sorts lists with repetitions five times as long as any in training, without them it does not.",
          source=SOURCE, published="at 100: under 1 % without hints, 92.6 % with",
          holds=(at("repeated-hints-16x", 100) >= 0.92, at("repeated-16x", 100) <= 0.01)),
    Claim("hints-help-with-repetitions", "At equal compute hints help with repetitions, within the trained lengths and beyond.",
          holds=tuple(at("repeated-hints-16x", n) > at("repeated-16x", n) for n in (20, 25, 30))),
    Claim("repetitions-are-harder", "Repetitions are harder than different numbers: the same model on the same budget does not learn them at 20.",
          holds=tuple(at(f"repeated{hint}-16x", 20) <= at(f"softmax{hint}-16x", 20) - 0.1 for hint in ("", "-hints"))),
    Claim("windows-count", "Windows on half of the heads help with repetitions: they show how often the last number was written.",
          holds=tuple(at("repeated-local-hints-16x", n) > at("repeated-log_n-hints-16x", n) for n in (20, 25, 30, 40))),
)
NUMBERS = dict(x_label="numbers to sort", trained_to="data.max_length")
RIGHT = dict(y_label="lists without an error", **NUMBERS)
KIND = {"16x": "sixteen budgets", "4x": "four budgets", "1x": "one budget"}
MAIN = {budget: tuple(f"{weights}{hint}-{budget}" for weights in WEIGHTS for hint in ("", "-hints")) for budget in KIND}
ASIDE = {
    "of 512 numbers": ("pool-16x",),
    "with repetitions": tuple(f"repeated{kind}-16x" for kind in ("", "-hints", "-log_n-hints", "-local", "-local-hints")),
    "by kind and share of hints": ("softmax-4x", "softmax-hints-4x", *(f"{name}-4x" for name in (*KINDS, "share_10", "share_25"))),
}
FIGURES = (
    *(Figure("exact_match", title=f"Sorting different numbers, {KIND[budget]}", runs=names, **RIGHT) for budget, names in MAIN.items()),
    *(Figure("exact_match", title=f"Sorting {title}", runs=names, **RIGHT) for title, names in ASIDE.items()),
    Figure("token_accuracy", title="Number by number, with repetitions", y_label="numbers right", runs=ASIDE["with repetitions"], **NUMBERS),
)
