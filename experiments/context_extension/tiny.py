"""Which changes of RoPE let a model trained on 128 bytes read 512, and does it still remember what it read?

A byte language model is trained on 128 bytes at a time, with a key of four tokens in every row that must be repeated when asked for. Then
the same weights read longer rows under every scaling of the frequencies (zero-shot), under windows with first tokens (LM-Infinite,
StreamingLLM) and with grouped positions (Self-Extend). Others train on for a quarter of the steps: on rows of 512 with position
interpolation, YaRN, a larger base, or nothing changed; or on rows of 128 alone with CLEX's ids and learned frequencies, its two controls
(the curve it starts from, and its ids alone), and E2's scales and offsets. Loss is taken on the last 64 bytes of a row, which are the same
bytes at every length. Papers: arXiv 2306.15595, 2309.00071, 2309.16039, 2310.16450, 2401.06951, 2308.16137, 2309.17453, 2401.01325.
About three minutes for the base model and one for each that trains on, per seed on 2 cores.
"""
from dataclasses import replace

from lcref.data.keyed import Keyed
from lcref.data.text import Text
from lcref.evaluate import ContextLoss, KeyRecall
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import LMInfinite, Rope, SelfExtend, StreamingLLM
from lcref.ops.rope_scaling import E2, Abf, ByParts, Clex, ClexPrior, DynamicNtk, Linear, Llama3, Ntk, Power, RandomPositions, Truncated, Yarn
from lcref.ops.weights import LogN
from lcref.train import TrainConfig

L, S = 128, 4                                                  # trained length, and how many times of it is wanted


def rows(length):
    return Keyed(Text(corpus="stdlib", length=length), keys=10, span=4)


def runs(base, more):
    """base: the model that is trained. more: TrainConfig of those that train on, on as many tokens a step whatever the length."""
    def rope(scaling):
        return replace(base.model, position=Rope(scaling=scaling))

    def windowed(near, sinks, scheme):
        return replace(base.model, position=scheme, mixer=replace(base.model.mixer, window=near, sinks=sinks))
    long, longer = rows(S * L), replace(more, batch=more.batch // S)
    read = {
        "rope": None,
        "linear": rope(Linear(S, L)), "ntk": rope(Ntk(S, L)), "dynamic_ntk": rope(DynamicNtk(1.0, L)), "by_parts": rope(ByParts(S, L)),
        "yarn": rope(Yarn(S, L)), "llama3": rope(Llama3(S, L)), "power": rope(Power(0.1)), "truncated": rope(Truncated(L)),
        "window": windowed(L, 0, Rope()), "lm_infinite": windowed(L, 4, LMInfinite(near=L)),
        "streaming": windowed(L - 4, 4, StreamingLLM(near=L - 4, sinks=4)),
        "self_extend": replace(base.model, position=SelfExtend(near=L // 4, group=2 * S)),
    }
    tuned = {"rope_tuned": rope(None), "ntk_tuned": rope(Ntk(S, L)), "linear_tuned": rope(Linear(S, L)), "yarn_tuned": rope(Yarn(S, L)), "abf_tuned": rope(Abf(500_000.0))}
    short = {"clex": rope(Clex(S, L)), "clex_prior": rope(ClexPrior(S, L)), "random_positions": rope(RandomPositions(S, L)), "e2": rope(E2(S, L)),
             "rope_longer": rope(None)}
    clex = replace(base, model=short["clex"], train=more, start=base)
    log_n = replace(clex.model, mixer=replace(base.model.mixer, weights=LogN(L)))
    return ({name: replace(base, read=model) for name, model in read.items()}
            | {name: replace(base, model=model, data=long, train=longer, start=base) for name, model in tuned.items()}
            | {name: replace(base, model=model, train=more, start=base) for name, model in short.items()}
            | {"clex_log_n": replace(clex, read=log_n)})


CPU = Run(
    model=DecoderConfig(vocab=rows(L).vocab, d_model=128, layers=3, mixer=AttentionConfig(heads=4), position=Rope()),
    data=rows(L),
    train=TrainConfig(steps=800, batch=32, learning_rate=2e-3, warmup=50, steps_per_call=25),
    evals=(ContextLoss((128, 256, 512, 1024, 2048), targets=64), KeyRecall((32, 100, 237, 493, 1005, 2029))),   # rows of at most L, 2 L, 4 L, ...
)
MORE = replace(CPU.train, steps=200, learning_rate=1e-3, warmup=20)
SMALL = replace(CPU, model=replace(CPU.model, d_model=32, layers=1), train=TrainConfig(steps=4, batch=4, warmup=1, steps_per_call=2),
                evals=(ContextLoss((128, 256), targets=64, windows=2), KeyRecall((32, 237), questions=4)))
LARGE = replace(CPU, model=replace(CPU.model, d_model=512, layers=8, mixer=AttentionConfig(heads=8)),
                train=replace(CPU.train, steps=20_000, batch=128, learning_rate=1e-3, warmup=1000))
RUNS = {
    "smoke": runs(SMALL, replace(SMALL.train, steps=2)),
    "cpu": runs(CPU, MORE),
    "gpu": runs(LARGE, replace(LARGE.train, steps=2000, learning_rate=3e-4, warmup=100)),
}
SEEDS = 3
PAPER = {
    "zero-shot": "LLaMA-2-7B on PG19 at 1, 2, 4, 8 times its window, perplexity: rope 7.87, >100; dynamic PI 7.87, 9.19, 15.11, >100; "
                 "dynamic NTK 7.87, 11.98, 26.12, 58.91; NTK-YaRN 7.87, 8.06, 9.82, 11.74 (arXiv 2402.17463, table 1)",
    "clex": "LLaMA-2-7B trained at 4k, perplexity at 4k, 8k, 16k, 32k: CLEX 5.86, 5.70, 5.87, 14.53; ids alone 5.88, >100, >1000, >1000 "
            "(arXiv 2310.16450)",
}
CLAIMS = (
    dict(statement="Plain RoPE fails soon past its training length (arXiv 2306.15595, section 1)",
         measure="median context loss of rope at 256 >= 1.2 times that at 128; key recall of rope at 237 < 0.2"),
    dict(statement="Zero-shot at 2 to 4 times the window, YaRN is better than dynamic NTK and both than interpolation (arXiv 2402.17463, table 1)",
         measure="median context loss at 512: yarn below dynamic_ntk and ntk, both below linear"),
    dict(statement="CLEX trained short holds its loss to 4 times the length (arXiv 2310.16450)",
         measure="median context loss of clex at 512 within 2 % of that at 128, and below linear, ntk and yarn at 512"),
    dict(statement="Its ids without its frequencies do not (arXiv 2310.16450, RandomPos)", measure="random_positions: loss at 512 above clex's"),
    dict(statement="The learned part of CLEX matters", measure="loss at 512: clex below clex_prior"),
    dict(statement="What a method gains far away it pays for nearby", measure="median context loss at 128 of every arm beside that of rope"),
    dict(statement="LM-Infinite and StreamingLLM stay fluent and do not remember beyond their window (arXiv 2309.17453)",
         measure="lm_infinite and streaming: loss at 1024 within 5 % of rope's at 128; key recall at 493 and 1005 near 0"),
)
FIGURES = (
    Figure("context_loss", title="The same bytes, read with more and more before them", x_label="bytes in the row", y_label="loss (nats per byte)",
           trained_to=128, log_x=True, lower_is_better=True),
    Figure("key_recall", title="A key of four tokens, asked for later (chance: 0.0001)", x_label="bytes between key and question",
           y_label="answered right", trained_to=127, log_x=True),
)
