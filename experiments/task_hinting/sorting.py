"""Does a hint in training teach a model to sort five times as many numbers as it ever saw, or does longer training?

    ^ 33 19 106 | 19 33 106 $         128 different numbers, trained on 2 to 20 of them, tested up to 120; scored: the whole list
    ^ 33 19 106 suc 19 33             the hint, in half of the rows: the next larger number. It is never asked for in a test

Task hinting (arXiv 2310.00726): sorting trained to 20 numbers, tested at 100, is said to go from under 1 % to over 92 % with such hints, in a
model without positions. Plain softmax, softmax that sharpens with length (log_n; tempered learns how much), hints, and both; the model, the
rows a step and so the compute are the same, and each arm is trained for a budget (1x), for four and for sixteen of them, each on a schedule of
its own. So what a hint does can be held against what the same time without it does. A hinted row takes the place of a sorting row: those arms
see half as many lists. Plain arms have the same vocabulary, and a share of hints of 0.

Beside the main comparison, on four budgets, other hints (predecessor, count, fill) and smaller shares of one. Lists with repetitions, the paper's
regime, are in crowded.py. Budgets come from trials with another seed. 10 to 30 seconds for 1x, half a minute to one and a half for 4x, two to seven
minutes for 16x, one run on one of two cores.
Deviation: the paper's sizes, formats and shares of hints were not available to us; only the lengths and the kind of hint are its own, and size
paper is what a pod can do. Sizes gpu and paper have not been run yet.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.evaluate import ExactMatch
from lcref.experiment import Figure, Run, grid
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Nope
from lcref.ops.weights import LogN, Softmax, Tempered
from lcref.tasks import Count, Fill, HintedSource, Predecessor, Sort, Successor
from lcref.train import TrainConfig

WEIGHTS = {"softmax": Softmax(), "log_n": LogN(20), "tempered": Tempered()}
KINDS = {"predecessor": Predecessor(128), "count": Count(128), "fill": Fill(128)}
LENGTHS = (10, 20, 25, 30, 40, 50, 60, 80, 100, 120)


def runs(base, budgets):
    """budgets: name -> steps."""
    return grid(base, **{"model.mixer.weights": WEIGHTS, "data.fraction": {"": 0.0, "hints": 0.5}, "train.steps": budgets})


def other_hints(base, budgets):
    """Hints of other kinds, and fewer of the same."""
    steps = {"train.steps": budgets}
    kinds = grid(replace(base, data=replace(base.data, fraction=0.5)), **{"data.hint": KINDS}, **steps)
    return kinds | grid(base, **{"data.fraction": {"share_10": 0.1, "share_25": 0.25}}, **steps)


DATA = HintedSource(Sort(128), min_length=2, max_length=20, hint=Successor(128), fraction=0.0)    # the share of rows that pose the hint: none
CPU = Run(
    model=DecoderConfig(vocab=DATA.vocab, d_model=64, layers=2, mixer=AttentionConfig(heads=4), position=Nope()),
    data=DATA,
    train=TrainConfig(steps=2500, batch=32, learning_rate=2e-3, steps_per_call=100),
    evals=(ExactMatch(LENGTHS, samples=200),),
    seed=3,                                                                    # the first: trials had smaller ones
)
SMOKE = replace(CPU, model=replace(CPU.model, d_model=16, layers=1), train=TrainConfig(steps=4, batch=8, warmup=1, steps_per_call=2),
                evals=(ExactMatch((10, 20, 40), samples=10),))
GPU = replace(CPU, model=replace(CPU.model, d_model=256, mixer=AttentionConfig(heads=8)), evals=(ExactMatch(LENGTHS, samples=500),),
              train=TrainConfig(steps=2500, batch=256, learning_rate=1e-3, warmup=500, steps_per_call=250))
POD = replace(GPU, model=replace(GPU.model, d_model=512), train=replace(GPU.train, batch=1024, learning_rate=5e-4, warmup=1000))
FEW = ("softmax-1x", "softmax-hints-1x", "tempered-1x", "log_n-hints-16x")
RUNS = {
    "smoke": {name: run for name, run in runs(SMOKE, {"1x": 4, "4x": 8, "16x": 16}).items() if name in FEW},
    "cpu": runs(CPU, {"1x": 625, "4x": 2500, "16x": 10_000}) | other_hints(CPU, {"4x": 2500}),
    "gpu": runs(GPU, {"1x": 2500, "4x": 10_000, "16x": 40_000}) | other_hints(GPU, {"4x": 10_000}),
    "paper": runs(POD, {"1x": 10_000, "4x": 40_000, "16x": 160_000}) | other_hints(POD, {"4x": 40_000}),
}
SEEDS = 3
SOURCE = "arXiv 2310.00726"
PAPER = {
    "hints": "trained to 20 numbers, tested at 100: under 1 % without hints, over 92 % with (arXiv 2310.00726, abstract)",
    "tempered": "a softmax with a length-dependent parameter helps without hints as well (arXiv 2310.00726, as summarised by others)",
}
at = lambda run, n: of(run, "exact_match", n)
FAR = {"1x": (20, 25, 30), "4x": (30, 40, 60), "16x": (60, 80, 100)}           # where a budget should leave something to tell apart
CLAIMS = (
    Claim("short-lists", "After sixteen budgets every arm sorts lists as long as those it was trained on.",
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
    Claim("time-does-more", "Four times the training does more for a plain model than hints do at the budget before, and, up to 60 numbers, than "
          "log_n does.",
          holds=tuple(at(f"softmax-{more}", n) > at(f"{other}-{less}", n) for other in ("softmax-hints", "log_n")
                      for less, more in (("1x", "4x"), ("4x", "16x")) for n in FAR[less])),
    Claim("other-hints-help", "At equal compute other hints help: the next smaller number, how often one occurs, which one is missing.", source=SOURCE,
          holds=tuple(at(f"{kind}-4x", n) > at("softmax-4x", n) for kind in KINDS for n in FAR["4x"])),
    Claim("fewer-hints-cost-less", "Hints in a tenth of the rows leave more long lists sorted than hints in half of them.",
          holds=tuple(at("share_10-4x", n) > at("softmax-hints-4x", n) for n in FAR["4x"])),
    Claim("sorts-five-times", "Trained to 20 different numbers, a model without positions whose logits sharpen with ln n sorts 100.", holds=(at("log_n-16x", 100) >= 0.95,)),
)
NUMBERS = dict(x_label="numbers to sort", trained_to="data.max_length")
RIGHT = dict(y_label="lists without an error", **NUMBERS)
KIND = {"16x": "sixteen budgets", "4x": "four budgets", "1x": "one budget"}
MAIN = {budget: tuple(f"{weights}{hint}-{budget}" for weights in WEIGHTS for hint in ("", "-hints")) for budget in KIND}
ASIDE = ("softmax-4x", "softmax-hints-4x", *(f"{name}-4x" for name in (*KINDS, "share_10", "share_25")))
FIGURES = (
    *(Figure("exact_match", title=f"Sorting different numbers, {KIND[budget]}", runs=names, **RIGHT) for budget, names in MAIN.items()),
    Figure("exact_match", title="Sorting different numbers, by kind and share of hints", runs=ASIDE, **RIGHT),
)
