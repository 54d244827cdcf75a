"""Which machines can be followed past the trained length, and is it enough to be told the answer?

    compare         two numbers, their digits in turn, highest first: the first difference decides, however far back it was
    division        a number by seven, highest digit first: the remainder is the state
    reverse         the head starts at the last cell and goes left
    bubble_sort     the head goes back and forth, and a cell is written again and again: its latest content is what counts

Traces of the kind that traces.py takes apart, the cells apart from one another as there, of more machines, all modules whole, beside the answer
alone (`-direct`). Trained on up to 10 digits (sorting: 4), tested with up to 40 (8). The model is that of traces.py: windows of 1 to 4 tokens on half
of the heads, no positions on the rest. Where cells are written again, such a head might not tell an old content from a new one; `bubble_sort-recent`
has ALiBi instead, of which some heads look far and all prefer what is near.

Half a minute to five on one of two cores, 36 minutes in all on both. Size gpu trains on up to 20 digits (sorting: 8), size paper on up to 50.
Deviation: machines on small tapes, where TAIL (arXiv 2507.13332) tunes a model of 7B on text; what is sorted are digits, and they may repeat.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.evaluate import ExactMatch, OutcomeMatch
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Alibi, HardAlibi
from lcref.tasks import TaskSource, TuringTrace
from lcref.train import TrainConfig

ONE_PASS = ("compare", "division", "reverse")
WAYS = {"": {}, "-direct": dict(trace=False)}


def runs(base, sorts):
    """sorts: a Run of bubble_sort, with lengths of its own."""
    def on(run, machine, **switches):
        data = replace(run.data, task=replace(run.data.task, machine=machine, **switches))
        return replace(run, data=data, model=replace(run.model, vocab=data.vocab))
    found = {machine + way: on(base, machine, **switches) for machine in ONE_PASS for way, switches in WAYS.items()}
    found |= {f"bubble_sort{way}": on(sorts, "bubble_sort", **switches) for way, switches in WAYS.items()}
    whole = found["bubble_sort"]
    return found | {"bubble_sort-recent": replace(whole, model=replace(whole.model, position=Alibi()))}


DATA = TaskSource(TuringTrace("compare", addresses=96, gaps=True), min_length=1, max_length=10)
FEW_CELLS = TaskSource(TuringTrace("bubble_sort", addresses=32, gaps=True), min_length=1, max_length=4)
CPU = Run(
    model=DecoderConfig(vocab=DATA.vocab, d_model=64, layers=2, mixer=AttentionConfig(heads=8, head_dim=16), position=HardAlibi(windows=(1, 2, 3, 4))),
    data=DATA,
    train=TrainConfig(steps=2000, batch=32, learning_rate=2e-3),
    evals=(ExactMatch((5, 10, 15, 20, 30, 40), samples=200), OutcomeMatch((10, 20, 40), samples=100)),
)
CPU_SORTS = replace(CPU, data=FEW_CELLS, evals=(ExactMatch((2, 3, 4, 5, 6, 8), samples=200), OutcomeMatch((4, 6, 8), samples=100)))
GPU = replace(
    CPU,
    model=replace(CPU.model, d_model=256, layers=4),
    data=TaskSource(TuringTrace("compare", addresses=256, gaps=True), min_length=1, max_length=20),
    train=TrainConfig(steps=10_000, batch=128, learning_rate=1e-3, warmup=500, steps_per_call=200),
    evals=(ExactMatch((10, 20, 30, 40, 60, 80, 100), samples=500), OutcomeMatch((20, 40, 80), samples=200)),
)
GPU_SORTS = replace(GPU, data=TaskSource(TuringTrace("bubble_sort", addresses=64, gaps=True), min_length=1, max_length=8),
                    evals=(ExactMatch((4, 6, 8, 10, 12, 16), samples=500), OutcomeMatch((8, 12, 16), samples=200)))
POD = replace(GPU, model=replace(GPU.model, d_model=1024, layers=12, mixer=AttentionConfig(heads=16)),
              data=TaskSource(TuringTrace("compare", addresses=512, gaps=True), min_length=1, max_length=50),
              train=replace(GPU.train, steps=20_000, batch=256, learning_rate=3e-4, warmup=1000),
              evals=(ExactMatch((25, 50, 75, 100, 150, 200), samples=500), OutcomeMatch((50, 100, 200), samples=200)))
POD_SORTS = replace(GPU_SORTS, model=POD.model, train=POD.train)
SMALL = dict(model=replace(CPU.model, d_model=16), train=TrainConfig(steps=4, batch=8, warmup=1, steps_per_call=2))
SMOKE = replace(CPU, **SMALL, evals=(ExactMatch((5, 10, 20), samples=10), OutcomeMatch((10, 20), samples=4)))
SMOKE_SORTS = replace(CPU_SORTS, **SMALL, evals=(ExactMatch((2, 4, 5), samples=10), OutcomeMatch((4, 5), samples=4)))
FEW = ("compare", "reverse-direct", "bubble_sort-recent")
RUNS = {
    "smoke": {name: run for name, run in runs(SMOKE, SMOKE_SORTS).items() if name in FEW},
    "cpu": runs(CPU, CPU_SORTS),
    "gpu": runs(GPU, GPU_SORTS),
    "paper": runs(POD, POD_SORTS),
}
SEEDS = 3
SOURCE = "arXiv 2507.13332"
PAPER = {
    "tail": "Qwen2.5-7B: comparing numbers, trained on 5-10 digits, at 11-20 and 21-50: 94.2, 90.0. Training ranges of division 2-5 digits, of bubble sort "
            "2-4 numbers (5-6 and 7-8), of reversing words 10-20 letters (21-50 and 51-100) (arXiv 2507.13332, tables and ablation)",
}
whole, outcome = (lambda run, n: of(run, "exact_match", n)), (lambda run, n: of(run, "outcome_match", n))
CLAIMS = (
    Claim("learned", "Within the trained lengths whole traces are right.",
          holds=(*(whole(machine, 10) >= 0.95 for machine in ONE_PASS), *(whole(f"bubble_sort{way}", 4) >= 0.95 for way in ("", "-recent")))),
    *(Claim(f"{machine}-twice", f"{machine}: what comes out is right at twice the trained length.", source=SOURCE, published=published,
            holds=(outcome(machine, 20) >= 0.9,))
      for machine, published in (("compare", "to twice the trained length: 94.2"), ("division", ""), ("reverse", ""))),
    Claim("sorting-twice", "bubble_sort: what comes out is right for twice as many digits as it was trained on.", source=SOURCE,
          holds=(outcome("bubble_sort", 8) >= 0.9, outcome("bubble_sort-recent", 8) >= 0.9)),
    Claim("the-latest-counts", "Where cells are written again, a lookup that prefers what is near goes further.",
          holds=tuple(outcome("bubble_sort-recent", n) > outcome("bubble_sort", n) for n in (6, 8))),
    Claim("direct-fails", "Asked for the answer alone at twice the trained length, the same model gets next to none right; in comparing it guesses.",
          source=SOURCE, holds=(outcome("compare-direct", 20) <= 0.6, *(outcome(f"{machine}-direct", 20) <= 0.1 for machine in ("division", "reverse")),
                                outcome("bubble_sort-direct", 8) <= 0.1)),
)
DIGITS, SORTED = dict(x_label="digits", trained_to="data.max_length"), tuple(f"bubble_sort{way}" for way in (*WAYS, "-recent"))
PASSES = tuple(machine + way for machine in ONE_PASS for way in WAYS)
FIGURES = tuple(
    Figure(metric, title=f"{title}: {words}", y_label=y_label, runs=names, **DIGITS)
    for words, names in (("one pass over the tape", PASSES), ("sorting, cells written again", SORTED))
    for metric, title, y_label in (("exact_match", "All of it right", "answers without an error"),
                                   ("outcome_match", "What comes out, the model writing by itself", "outcomes right")))
