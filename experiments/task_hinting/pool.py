"""Trained on lists of up to 20 of 512 numbers, can a model sort 200 and 400 of them?

    ^ 33 19 506 | 19 33 506 $         in training 2 to 20 of 512 different numbers, tested with up to 400; scored: the whole list
    ^ 41 44 42 | 41 42 44 $           a crowded list: the values are drawn from a part of the 512, whose width is log-uniform

What sorts 100 of 128 numbers in task_hinting/sorting (logits sharpened with ln n, no positions, sixteen budgets) has here four times as many numbers
to tell apart, and in a list of 400 nearly all of them are neighbours, which in a list of 20 of 512 they never are. `uniform` trains on such lists
alone; `crowded` has half of its rows drawn from a part of the values; each for the same 10,000 steps. `crowded-4x` is given four times as many.

The embeddings begin at a deviation of 0.02, as in task_hinting/sorting, and not at 0.5, as for counting repetitions in task_hinting/crowded, whose
arms with 512 numbers reach 100 in part and 200 seldom. That, and the share of crowded rows, was chosen in trials with another seed, of 10,000 steps;
40,000 had not been tried.
Four minutes for 10,000 steps on 2 cores, a quarter of an hour for 40,000; an hour and a quarter in all. Sizes gpu and paper have not been run.
Deviation: the paper's (arXiv 2310.00726) sizes and formats were not available to us; it goes to 100 numbers.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.experiment import Figure, load
from lcref.tasks import Crowded, HintedSource, Sort

SORTING, = load("task_hinting/sorting")
VALUES, LENGTHS = 512, (20, 50, 100, 200, 300, 400)


def source(fraction):
    """`fraction` is the share of crowded rows."""
    return HintedSource(Sort(VALUES), min_length=2, max_length=20, hint=Crowded(VALUES), fraction=fraction)


def runs(base, lengths):
    data = source(0.0)
    uniform = replace(base, data=data, model=replace(base.model, vocab=data.vocab), evals=tuple(replace(ev, lengths=lengths) for ev in base.evals))
    crowded = replace(uniform, data=source(0.5))
    return {"uniform": uniform, "crowded": crowded, "crowded-4x": replace(crowded, train=replace(crowded.train, steps=4 * crowded.train.steps))}


RUNS = {size: runs(known["log_n-hints-16x"], LENGTHS if size != "smoke" else (10, 20, 40)) for size, known in SORTING.runs.items()}
SEEDS = 3
PAPER = SORTING.paper
at, right = (lambda run, n: of(run, "exact_match", n)), (lambda run, n: of(run, "token_accuracy", n))
CLAIMS = (
    Claim("sorts-200-of-512", "Trained to 20 of 512 numbers, in part on crowded lists, a model sorts 200 of them.", source="arXiv 2310.00726",
          holds=(at("crowded-4x", 20) >= 0.95, at("crowded-4x", 200) >= 0.95)),
    Claim("sorts-400-of-512", "And 400.", source="arXiv 2310.00726", holds=(at("crowded-4x", 20) >= 0.95, at("crowded-4x", 400) >= 0.95)),
    Claim("crowded-lists-carry", "At equal compute crowded lists carry further: a tenth more numbers are right where nearly all are neighbours.",
          holds=tuple(right("crowded", n) >= right("uniform", n) + 0.1 for n in (200, 300, 400))),
    Claim("crowded-lists-cost", "Within the trained length they cost something.", holds=(at("crowded", 20) < at("uniform", 20),)),
    Claim("time-for-more-numbers", "What lacks after 10,000 steps is time: four times as many bring more, within the trained length and beyond.",
          holds=tuple(at("crowded-4x", n) >= at("crowded", n) + 0.05 for n in (20, 100, 200))),
)
NUMBERS = dict(x_label="numbers to sort", trained_to="data.max_length")
FIGURES = (
    Figure("exact_match", title="Sorting up to 400 of 512 numbers", y_label="lists without an error", **NUMBERS),
    Figure("token_accuracy", title="Number by number", y_label="numbers right", **NUMBERS),
)
