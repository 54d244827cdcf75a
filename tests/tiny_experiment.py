"""Does a model of one layer copy three letters? An experiment file for the tests of the harness: seconds, and no answer.

Expected: less than a second a run, once compiled.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.evaluate import ExactMatch
from lcref.experiment import Figure, Run, grid
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers import AttentionConfig
from lcref.nn.positions import Nope, Rope
from lcref.tasks import Copy, TaskSource
from lcref.train import TrainConfig

DATA = TaskSource(Copy(), min_length=2, max_length=4)
BASE = Run(
    model=DecoderConfig(vocab=DATA.vocab, d_model=16, layers=1, mixer=AttentionConfig(heads=2)),
    data=DATA,
    train=TrainConfig(steps=8, batch=4, warmup=2, steps_per_call=4, checkpoint_seconds=0),
    evals=(ExactMatch(lengths=(3, 6), samples=8),),
)
RUNS = {
    "smoke": grid(BASE, **{"model.position": {"rope": Rope(), "nope": Nope()}}),
    "long": grid(BASE, **{"model.position": {"rope": Rope()}, "train.steps": {"": 80}}),  # for tests that interrupt it
    "tuned": {"tuned": replace(BASE, train=replace(BASE.train, steps=80), start=BASE)},
    "diverging": grid(BASE, **{"model.position": {"rope": Rope()}, "train.learning_rate": {"good": 1e-3, "bad": 1e30}}),
}
SEEDS = 2
PAPER = {}
CLAIMS = (Claim("rope-runs", "RoPE runs.", (of("rope", "exact_match", 3) >= 0,)), Claim("longer", "It copies.", (of("rope", "exact_match", 7) >= 0,)))
FIGURES = (Figure("exact_match", "Does it copy?", x_label="letters", trained_to=4), Figure("token_accuracy", x_label="letters"))
