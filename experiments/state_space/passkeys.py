"""How many digits of a passkey does a state of constant size hold, and does a larger state carry them further?

    ^ f0 f1 f2 KEY 4 1 7 2 f3 f4 f0 f1 ... ? 4 1 7 2 $        trained on rows of up to 128 tokens, tested with up to 4,096 of filler

Mamba-2 as it comes, by the size N of its state, with keys of four digits and of eight. Two limits are told apart. What does not fit is not found
even nearby, in rows as long as those of training, and nor is what was not learned in time: `eight_long` has twice the steps. What fits is found until
it is forgotten: the filler at which fewer than nine keys in ten are found, against N, with the fitted power law, is how far it is carried.

"Stuffed Mamba" (arXiv 2410.07145) finds that this distance grows exponentially with the size of the state, for five digits in English text and
models trained on long documents. How much a state holds when all of it is asked for is in state_space/recall; other starts of Mamba-2, other
filler and attention are in passkey/grid, whose budget this is.

A share of 100 problems at each length, 20 at each of five depths; guessing is right once in ten thousand, or in a hundred million. The two numbers
of digits were chosen on a seed of their own: of twelve, a state of 64 found less than half in this budget, the smaller ones none.
`eight_long` was added when the others were known. A minute and a half to two for a run, twice that for `eight_long`, two at a time on 2 cores,
an hour and a quarter in all. Size gpu trains on rows of 1,024, size paper on rows of 8,192; neither has been run.
Deviation: a small vocabulary in place of English text.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.evaluate import DepthMatch
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.positions import Nope
from lcref.tasks import Passkey, TaskSource
from lcref.train import TrainConfig

SIZES, LARGER = (2, 4, 8, 16, 32, 64), (8, 16, 32, 64, 128)
DIGITS = {"four": 4, "eight": 8}


def filler(digits, T):
    """Problems of up to T tokens."""
    return TaskSource(Passkey(symbols=5, digits=digits), min_length=8, max_length=T - 2 * digits - 3)


def runs(base, sizes, T, first):
    """T: tokens in the longest row of training. first: (the same, train) of what every run starts with."""
    found = {}
    for name, digits in DIGITS.items():
        for n in sizes:
            run = replace(base, model=replace(base.model, mixer=Mamba2Config(n)), data=filler(digits, T))
            found[f"{name}_{n}"] = replace(run, start=replace(run, data=filler(digits, first[0]), train=first[1]))
    for n in sizes[2:]:
        run = found[f"eight_{n}"]
        found[f"eight_long_{n}"] = replace(run, train=replace(run.train, steps=2 * run.train.steps))
    return found


CPU = Run(
    model=DecoderConfig(vocab=filler(4, 128).vocab, d_model=64, layers=2, position=Nope(), embed_std=0.5),
    data=filler(4, 128),
    train=TrainConfig(steps=1000, batch=32, learning_rate=3e-3),
    evals=(DepthMatch((32, 64, 109, 256, 512, 1024, 2048, 4096), samples=20),),
)
GPU = replace(CPU, model=replace(CPU.model, d_model=256, layers=4),
              train=TrainConfig(steps=6000, batch=32, learning_rate=1e-3, warmup=300, steps_per_call=100),
              evals=(DepthMatch((109, 512, 1005, 2048, 4096, 8192, 16384, 32768, 65536), samples=20),))
POD = replace(GPU, model=replace(GPU.model, d_model=1024, layers=24), train=replace(GPU.train, steps=10_000, learning_rate=3e-4, warmup=1000),
              evals=(DepthMatch((1005, 4096, 8173, 16384, 32768, 65536, 131072, 262144), samples=20),))
SMOKE = replace(CPU, model=replace(CPU.model, d_model=16, layers=1), train=TrainConfig(steps=4, batch=8, warmup=1, steps_per_call=2),
                evals=(DepthMatch((32, 109), samples=4, depths=(0.0, 1.0)),))
RUNS = {
    "smoke": runs(SMOKE, (2, 4), 128, (32, SMOKE.train)),
    "cpu": runs(CPU, SIZES, 128, (36, replace(CPU.train, batch=64))),
    "gpu": runs(GPU, LARGER, 1024, (64, replace(GPU.train, steps=2000, batch=128))),
    "paper": runs(POD, LARGER, 8192, (64, replace(GPU.train, steps=2000, batch=128))),
}
SEEDS = 3
PAPER = {
    "distance": "five digits, English text: the longest text in which Mamba-2 finds the key grows exponentially with its state; 370M parameters, "
                "trained on long rows, find it in 256K tokens nearly always (arXiv 2410.07145, abstract)",
    "content": "copying a string of n letters needs a state of as many bits as the string (arXiv 2402.01032)",
}
at = lambda run, n: of(run, "depth_mean", n)
CLAIMS = (
    Claim("four-digits-fit", "Four digits fit into the smallest state: all are found within the trained length, whatever its size.",
          holds=tuple(at(f"four_{n}", length) >= 0.95 for n in SIZES for length in (32, 109))),
    Claim("eight-digits-need-more", "Eight digits do not: it takes a larger state to find them within the trained length, and the largest does.",
          source="arXiv 2402.01032", holds=(*(at(f"eight_{n}", length) <= 0.1 for n in SIZES[:2] for length in (32, 109)),
                                            *(at(f"eight_{SIZES[-1]}", length) >= 0.9 for length in (32, 109)))),
    Claim("larger-states-hold-more", "Every doubling of the state finds more keys of eight digits within the trained length, until all are found.",
          amended="from 2 to 4 was added", holds=tuple(at(f"eight_{b}", 109) > at(f"eight_{a}", 109) for a, b in zip(SIZES, SIZES[1:]))),
    Claim("learned-in-time", "With twice the steps every state of 16 and more finds nine in ten of them.",
          holds=tuple(at(f"eight_long_{n}", length) >= 0.9 for n in SIZES[3:] for length in (32, 109))),
    Claim("too-small-all-the-same", "A state of 8 does not, with twice the steps either.",
          holds=tuple(at("eight_long_8", length) <= 0.8 for length in (32, 109))),
    Claim("larger-states-carry-further", "Every doubling of the state carries four digits further.", source="arXiv 2410.07145",
          published="exponentially with the state's size",
          holds=tuple(at(f"four_{b}", n) > at(f"four_{a}", n) for a, b in zip(SIZES, SIZES[1:]) for n in (512, 1024))),
    Claim("four-times-as-far", "Four times the state carries them at least four times as far.", source="arXiv 2410.07145",
          published="exponentially with the state's size",
          holds=tuple(at(f"four_{4 * n}", 4 * length) >= at(f"four_{n}", length) - 0.05 for n in SIZES[:4] for length in (256, 512, 1024))),
    Claim("carried-alike", "Where they fit, eight digits are carried as far as four.",
          holds=tuple(at(f"eight_{SIZES[-1]}", n) >= at(f"four_{SIZES[-1]}", n) - 0.1 for n in (512, 1024, 2048))),
)
ROWS = dict(x_label="tokens of filler", y_label="found, mean over depths", trained_to="data.max_length", log_x=True)
FIGURES = (
    *(Figure("depth_mean", title=f"Passkeys of {name} digits, by the state size N of Mamba-2", **ROWS,
             runs=tuple(f"{name}_{n}" for n in sorted({*SIZES, *LARGER}))) for name in DIGITS),
    Figure("depth_mean", title="Passkeys of eight digits, with twice the steps", **ROWS,
           runs=tuple(f"eight_long_{n}" for n in sorted({*SIZES, *LARGER}))),
    Figure("depth_mean", title="How far: the filler at which fewer than 90% are found", x_label="state size N of Mamba-2", y_label="tokens of filler",
           log_x=True, across="model.mixer.state", reaching=0.9),
)
