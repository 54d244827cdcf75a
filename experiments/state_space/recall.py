"""How many pairs of key and value does a state of constant size hold? Multi-query associative recall with ever more pairs.

    ^ k7 v2 k1 v9 k4 v3 | then, in a new order:  k1 -> v9   k7 -> v2   k4 -> v3         every key is asked for once

Attention looks a pair up in what it has read. A state has so many numbers, whatever was written into it, and answers get worse as it fills up
(Zoology, arXiv 2312.04927; Based, arXiv 2402.18668; arXiv 2402.01032). Mamba-2 by state size; S4D and S5, which write the same whatever the
token is; attention. Two layers without feed-forward layers, so that nothing but the mixer can remember; one rate and one budget for all.
Every model learns on rows of up to 8 pairs before it sees up to 32: on long rows alone neither attention nor Mamba-2 had begun to recall
after 500 steps (another seed), and embeddings that start with a deviation of 0.5, not 0.02, made it sooner.

A row of n tokens has n / 4 pairs, from 128 keys and 128 values: guessing among the values of the row is right four times in n. Where the
accuracy of a size crosses 0.9, or one half, is its capacity, shown against the size of the state with the fitted power law.
Training had rows of all lengths up to the dotted line. Deviation from Zoology: no blanks between the questions, which come in uniform order.

The other form of the question, a passkey in ever longer text (arXiv 2410.07145; state_space/passkeys), asks how long a state keeps little; here
it is how much a state keeps. Sizes gpu and paper are larger and have not been run yet.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.evaluate import ExactMatch
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.mixers.s4 import S4DConfig
from lcref.nn.mixers.s5 import S5Config
from lcref.nn.positions import HardAlibi, Nope, Rope
from lcref.tasks import MQAR, TaskSource
from lcref.train import TrainConfig

SIZES, LARGER = (2, 4, 8, 16, 32, 64), (4, 8, 16, 32, 64, 128)


def runs(base, sizes, first=None):
    """first: (data, train) that every run starts with."""
    models = {f"mamba2_{n}": dict(mixer=Mamba2Config(n)) for n in sizes} | {
        "s4d": dict(mixer=S4DConfig(64)), "s5": dict(mixer=S5Config(128)),
        "rope": dict(mixer=AttentionConfig(heads=2, head_dim=64), position=Rope()),
        "hard_alibi": dict(mixer=AttentionConfig(heads=2, head_dim=64), position=HardAlibi(windows=(2,))),
    }
    found = {name: replace(base, model=replace(base.model, **change)) for name, change in models.items()}
    return {name: replace(run, start=first and replace(run, data=first[0], train=first[1])) for name, run in found.items()}


DATA = TaskSource(MQAR(pairs=None, keys=128, values=128, power=1.0), min_length=4, max_length=128)
CPU = Run(
    model=DecoderConfig(vocab=DATA.vocab, d_model=64, layers=2, position=Nope(), feed_forward=None, embed_std=0.5),
    data=DATA,
    train=TrainConfig(steps=1600, batch=32, learning_rate=5e-3),
    evals=(ExactMatch(lengths=(4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512), samples=200),),
)
FIRST = replace(DATA, max_length=32), replace(CPU.train, steps=800, batch=64)
MORE = TaskSource(MQAR(pairs=None, keys=512, values=512, power=1.0), min_length=4, max_length=512)
GPU = replace(
    CPU,
    model=replace(CPU.model, vocab=MORE.vocab, d_model=128),
    data=MORE,
    train=TrainConfig(steps=12_000, batch=64, learning_rate=3e-3, warmup=500, steps_per_call=200),
    evals=(ExactMatch(lengths=(8, 16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 2048), samples=200),),
)
MORE_FIRST = replace(MORE, max_length=64), replace(GPU.train, steps=3000)
POD = replace(GPU, model=replace(GPU.model, d_model=512), train=replace(GPU.train, steps=50_000, batch=256, learning_rate=1e-3))
SMOKE = replace(CPU, model=replace(CPU.model, d_model=16, layers=1), train=TrainConfig(steps=4, batch=8, warmup=1, steps_per_call=2),
                evals=(ExactMatch(lengths=(16, 64, 128), samples=10),))
FEW = ("mamba2_4", "s4d", "hard_alibi")
RUNS = {"smoke": {name: run for name, run in runs(SMOKE, SIZES).items() if name in FEW}, "cpu": runs(CPU, SIZES, FIRST), "gpu": runs(GPU, LARGER, MORE_FIRST),
        "paper": runs(POD, LARGER, MORE_FIRST)}
SEEDS = 3
PAPER = {
    "attention": "attention solves recall at every length with a width of 64; models with a fixed state need a width that grows with it "
                 "(arXiv 2312.04927, figure 2)",
    "mamba2": "copying a string of n letters needs a state of as many bits as the string (arXiv 2402.01032)",
}
CONSTANT = (*(f"mamba2_{n}" for n in SIZES), "s4d", "s5")
right = lambda run, n: of(run, "token_accuracy", n)
CLAIMS = (
    Claim("attention-recalls", "Attention recalls as many pairs as it was trained on, and better than every constant state.",
          source="arXiv 2312.04927, figure 2",
          holds=(right("hard_alibi", 128) >= 0.9, *(right("hard_alibi", 128) > right(run, 128) for run in CONSTANT))),
    Claim("larger-states-hold-more", "Every doubling of Mamba-2's state lets it recall more, at 8 pairs and at 16.",
          source="arXiv 2402.18668",
          holds=tuple(right(f"mamba2_{b}", n) > right(f"mamba2_{a}", n) for a, b in zip(SIZES, SIZES[1:]) for n in (32, 64))),
    Claim("states-fill-up", "A small state answers few pairs and not many: its accuracy falls with their number where attention's does not.",
          source="arXiv 2402.01032",
          holds=(right("mamba2_4", 8) >= 2 * right("mamba2_4", 64), right("hard_alibi", 64) >= right("hard_alibi", 8) - 0.05)),
    Claim("fixed-systems-cannot", "S4D and S5, whose system does not depend on the token, do not recall.", source="arXiv 2312.04927",
          holds=tuple(right(run, n) <= 0.5 for run in ("s4d", "s5") for n in (32, 128))),
)
FIGURES = (
    Figure("token_accuracy", title="Recall with ever more pairs", x_label="tokens, four a pair", y_label="questions answered right",
           trained_to="data.max_length", log_x=True),
    *(Figure("token_accuracy", title=f"Capacity: how many tokens until fewer than {share:.0%} of the questions are answered right",
             x_label="state size N of Mamba-2", y_label="tokens, four a pair", log_x=True, across="model.mixer.state", reaching=share,
             runs=tuple(f"mamba2_{n}" for n in sorted({*SIZES, *LARGER}))) for share in (0.9, 0.5)),
)
