"""Who can copy what was read: layers that keep everything, or layers whose state has a fixed size? And past the trained length?

    ^ c a b | c a b $            26 letters, trained on 2 to 20 of them: the whole string must be in memory before the answer begins
    ^ . . c . a . b | c a b $    eight letters among blanks, trained on rows of 8 to 64: what to keep depends on the token

A state of b bits cannot hold more than b bits of string, and in practice holds fewer, while attention finds its place again by the last few
letters (arXiv 2402.01032); a Mamba copies what its size allows, and needs a size that grows with the string (arXiv 2410.03810). Selective
copying is Mamba's own task: S4, whose system is the same at every step, cannot time what to write by the token, and a decay that depends on
the token can (arXiv 2312.00752, table 1). S4, S4D, S5, Mamba-2 with two state sizes; attention with NoPE, RoPE and Hard-ALiBi. All have two
layers of the same width with feed-forward layers, and on each task one rate and one budget. Selective copying starts on rows of up to 16: on
all of them at once Mamba-2 had not begun to copy after 500 steps (another seed). 1.5 to 7 minutes a run on 2 busy cores, 2 hours in all.

Deviations: one string a row, padded, where the first paper packs several; rows of 64 with 8 letters of 15 where selective copying has 4096
with 16. Sizes gpu and paper are larger and have not been run yet.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.evaluate import ExactMatch
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.mixers.s4 import S4Config, S4DConfig
from lcref.nn.mixers.s5 import S5Config
from lcref.nn.positions import HardAlibi, Nope, Rope
from lcref.tasks import Copy, SelectiveCopy, TaskSource
from lcref.train import TrainConfig

HEADS = AttentionConfig(heads=8, head_dim=16)
MODELS = {
    "s4": dict(mixer=S4Config(64)), "s4d": dict(mixer=S4DConfig(64)), "s5": dict(mixer=S5Config(128)),
    "mamba2_16": dict(mixer=Mamba2Config(16)), "mamba2_64": dict(mixer=Mamba2Config(64)),
    "nope": dict(mixer=HEADS), "rope": dict(mixer=HEADS, position=Rope()),
    "hard_alibi": dict(mixer=HEADS, position=HardAlibi(windows=(2, 3, 4, 5))),
}
CONSTANT = ("s4", "s4d", "s5", "mamba2_16", "mamba2_64")
SELECTIVE = tuple(f"{name}_selective" for name in MODELS)


def runs(base, selective):
    """selective: a Run on the other task, of the same model."""
    def with_vocab(run, change):
        model = replace(run.model, vocab=run.data.vocab, **change)
        return replace(run, model=model, start=run.start and replace(run.start, model=model))
    return ({name: with_vocab(base, change) for name, change in MODELS.items()}
            | {f"{name}_selective": with_vocab(selective, change) for name, change in MODELS.items()})


STRINGS, LETTERS = TaskSource(Copy(), min_length=2, max_length=20), TaskSource(SelectiveCopy(), min_length=8, max_length=64)
CPU = Run(
    model=DecoderConfig(vocab=STRINGS.vocab, d_model=64, layers=2, position=Nope()),
    data=STRINGS,
    train=TrainConfig(steps=4000, batch=32, learning_rate=2e-3),
    evals=(ExactMatch(lengths=(5, 10, 15, 20, 25, 30, 40, 60), samples=300),),
)
CPU_SELECTIVE = replace(
    CPU, data=LETTERS, train=replace(CPU.train, steps=2500, learning_rate=5e-3),
    start=replace(CPU, data=replace(LETTERS, max_length=16), train=replace(CPU.train, steps=1500, batch=64, learning_rate=5e-3)),
    evals=(ExactMatch(lengths=(16, 32, 64, 96, 128, 256), samples=300),),
)
LONGER, MORE_LETTERS = TaskSource(Copy(), 2, 50), TaskSource(SelectiveCopy(data=16), 16, 512)
GPU = Run(
    model=replace(CPU.model, d_model=256, layers=4),
    data=LONGER,
    train=TrainConfig(steps=10_000, batch=64, learning_rate=1e-3, warmup=500, steps_per_call=200),
    evals=(ExactMatch(lengths=(10, 25, 50, 60, 75, 100, 150, 200), samples=500),),
)
GPU_SELECTIVE = replace(GPU, data=MORE_LETTERS, start=replace(GPU, data=replace(MORE_LETTERS, max_length=32)),
                        evals=(ExactMatch(lengths=(64, 128, 256, 512, 1024, 2048), samples=300),))
PUBLISHED = replace(GPU, model=replace(GPU.model, d_model=1024, layers=12), train=replace(GPU.train, steps=20_000, learning_rate=1e-4))
PUBLISHED_SELECTIVE = replace(
    GPU_SELECTIVE, model=replace(GPU.model, d_model=64, layers=2), data=replace(MORE_LETTERS, max_length=4096),
    train=replace(GPU.train, steps=400_000, learning_rate=1e-4), evals=(ExactMatch(lengths=(1024, 4096, 8192, 16384), samples=300),))
SMOKE = replace(CPU, model=replace(CPU.model, d_model=16, layers=1), train=TrainConfig(steps=4, batch=8, warmup=1, steps_per_call=2),
                evals=(ExactMatch(lengths=(5, 20, 40), samples=10),))
SMOKE_SELECTIVE = replace(SMOKE, data=LETTERS, evals=(ExactMatch(lengths=(16, 64, 96), samples=10),))
FEW = ("s4", "hard_alibi", "mamba2_16_selective")
RUNS = {"smoke": {name: run for name, run in runs(SMOKE, SMOKE_SELECTIVE).items() if name in FEW}, "cpu": runs(CPU, CPU_SELECTIVE), "gpu": runs(GPU, GPU_SELECTIVE),
        "paper": runs(PUBLISHED, PUBLISHED_SELECTIVE)}
SEEDS = 3
PAPER = {
    "copy": "trained to 50 letters, about 160M parameters: Hard-ALiBi near-perfect to 1000, Mamba and the other transformers not "
            "(arXiv 2402.01032)",
    "selective": "4096 tokens of which 16 are data, accuracy: S4 18.3, Mamba 99.8 (arXiv 2312.00752, table 1)",
}
whole, tokens = (lambda run, n: of(run, "exact_match", n)), (lambda run, n: of(run, "token_accuracy", n))
CLAIMS = (
    Claim("attention-copies-on", "With windows on half of its heads, attention copies strings twice as long as any seen; constant states do not.",
          source="arXiv 2402.01032", published="trained to 50 letters: Hard-ALiBi near-perfect to 1000, Mamba not",
          holds=(whole("hard_alibi", 40) >= 0.8, *(whole(run, 40) <= 0.05 for run in CONSTANT))),
    Claim("attention-copies-sooner", "Within the trained lengths, on one budget, attention copies every string; states of constant size do not.",
          source="arXiv 2402.01032", published="transformers learn the task from about a hundredth of the examples",
          holds=(*(whole(run, 20) >= 0.99 for run in ("nope", "rope", "hard_alibi")), *(whole(run, 20) <= 0.9 for run in CONSTANT))),
    Claim("size-copies", "A Mamba-2 with the larger state copies more of a string.", source="arXiv 2410.03810",
          holds=tuple(tokens("mamba2_64", n) > tokens("mamba2_16", n) for n in (15, 20, 25))),
    Claim("selection", "What enters the state must depend on the token: Mamba-2 copies selectively, S4 does not.", source="arXiv 2312.00752, table 1",
          published="accuracy at 4096 tokens, 16 of them data: S4 18.3, Mamba 99.8",
          holds=(tokens("mamba2_64_selective", 64) >= 0.95, tokens("s4_selective", 64) <= 0.5)),
    Claim("selection-goes-on", "And goes on doing so in longer rows.", holds=(whole("mamba2_64_selective", 128) >= 0.9,)),
)
FIGURES = (
    Figure("exact_match", title="Copying strings longer than any seen in training", x_label="letters to copy", y_label="copied without an error",
           trained_to="data.max_length", runs=tuple(MODELS)),
    Figure("token_accuracy", title="The same, letter by letter", x_label="letters to copy", y_label="letters right", trained_to="data.max_length",
           runs=tuple(MODELS)),
    Figure("exact_match", title="Selective copying: eight letters among blanks", x_label="tokens to choose from", y_label="copied without an error",
           trained_to="data.max_length", log_x=True, runs=SELECTIVE),
    Figure("token_accuracy", title="The same, letter by letter", x_label="tokens to choose from", y_label="letters right",
           trained_to="data.max_length", log_x=True, runs=SELECTIVE),
)
