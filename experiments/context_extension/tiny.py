"""Which changes of RoPE let a model trained on 128 bytes read 512, and does it still remember what it read?

A byte language model is trained on 128 bytes at a time, with a key of eight tokens in every row that must be repeated when asked for. Then
the same weights read longer rows under every scaling of the frequencies (zero-shot), under windows with first tokens (LM-Infinite,
StreamingLLM) and with grouped positions (Self-Extend). Others train on, briefly on rows of 512, with position interpolation, NTK, YaRN, a
larger base, or nothing changed. Those that train on with rows of 128 alone: context_extension/clex.

Chunk loss is what CLEX's authors measure (train/eval_lm.py of their repository): the mean over all positions of rows of each length,
cut from the same text. Context loss is stricter: the last 64 bytes of a row, the same bytes at every length. Papers: arXiv 2306.15595,
2309.00071, 2309.16039, 2308.16137, 2309.17453, 2401.01325, 2309.10400. Two runs at a time on 2 cores, 13 to 17 minutes for a base model and two
to three for each that trains on; an hour in all.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.data.keyed import Keyed
from lcref.data.text import Text
from lcref.evaluate import ChunkLoss, ContextLoss, KeyRecall
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import LMInfinite, Rope, SelfExtend, StreamingLLM
from lcref.ops.rope_scaling import Abf, ByParts, DynamicNtk, Linear, Llama3, Ntk, Power, Truncated, Yarn
from lcref.train import TrainConfig

L, S = 128, 4                                                  # trained length, how many times of it is wanted


def rows(length):
    return Keyed(Text(corpus="stdlib", length=length), keys=10, span=8)


def runs(base, brief):
    """base: the model that is trained. brief: TrainConfig of those that train on, on long rows, with as many tokens a step."""
    def rope(scaling):
        return replace(base.model, position=Rope(scaling=scaling))

    def windowed(near, sinks, scheme):
        return replace(base.model, position=scheme, mixer=replace(base.model.mixer, window=near, sinks=sinks))
    read = {
        "rope": None,
        "linear": rope(Linear(S, L)), "ntk": rope(Ntk(S, L)), "dynamic_ntk": rope(DynamicNtk(1.0, L)), "by_parts": rope(ByParts(S, L)),
        "yarn": rope(Yarn(S, L)), "llama3": rope(Llama3(S, L)), "power": rope(Power(0.1)), "truncated": rope(Truncated(L)),
        "window": windowed(L, 0, Rope()), "lm_infinite": windowed(L, 4, LMInfinite(near=L)),
        "streaming": windowed(L - 4, 4, StreamingLLM(near=L - 4, sinks=4)),
        "self_extend": replace(base.model, position=SelfExtend(near=L // 4, group=2 * S)),
    }
    tuned = {"rope_tuned": None, "linear_tuned": Linear(S, L), "ntk_tuned": Ntk(S, L), "yarn_tuned": Yarn(S, L), "abf_tuned": Abf(500_000.0)}
    found = {name: replace(base, read=model) for name, model in read.items()}
    return found | {name: replace(base, model=rope(scaling), data=rows(S * L), train=replace(brief, batch=brief.batch // S), start=base)
                    for name, scaling in tuned.items()}


CPU = Run(
    model=DecoderConfig(vocab=rows(L).vocab, d_model=128, layers=3, mixer=AttentionConfig(heads=4), position=Rope()),
    data=rows(L),
    train=TrainConfig(steps=2000, batch=32, learning_rate=2e-3, warmup=50, steps_per_call=25),
    evals=(ContextLoss((128, 256, 512, 1024, 2048), targets=64), ChunkLoss((128, 256, 512, 1024, 2048), windows=8),
           KeyRecall((32, 100, 233, 489, 1001, 2025), questions=64)),          # rows of at most L, L, 2 L, 4 L, ...
    seed=3,                                                                    # the first: 0 to 2 were seen before the budget was settled
)
BRIEF = replace(CPU.train, steps=200, learning_rate=1e-3, warmup=20)
SMALL = replace(CPU, model=replace(CPU.model, d_model=32, layers=1), train=TrainConfig(steps=4, batch=4, warmup=1, steps_per_call=2),
                evals=(ContextLoss((128, 256), targets=64, windows=2), ChunkLoss((128, 256), windows=2), KeyRecall((32, 233), questions=4)))
LARGE = replace(CPU, model=replace(CPU.model, d_model=512, layers=8, mixer=AttentionConfig(heads=8)),
                train=replace(CPU.train, steps=20_000, batch=128, learning_rate=1e-3, warmup=1000))
POD = replace(LARGE, model=replace(LARGE.model, d_model=1024, layers=24, mixer=AttentionConfig(heads=16)),
              train=replace(LARGE.train, steps=50_000, batch=1024, learning_rate=3e-4))
RUNS = {
    "smoke": runs(SMALL, replace(SMALL.train, steps=2)),
    "cpu": runs(CPU, BRIEF),
    "gpu": runs(LARGE, replace(LARGE.train, steps=2000, learning_rate=3e-4, warmup=100)),
    "paper": runs(POD, replace(POD.train, steps=4000, learning_rate=1e-4, warmup=100)),
}
SEEDS = 3
PAPER = {
    "zero-shot": "LLaMA-2-7B on PG19 at 1, 2, 4, 8 times its window, perplexity: rope 7.87, >100; dynamic PI 7.87, 9.19, 15.11, >100; "
                 "dynamic NTK 7.87, 11.98, 26.12, 58.91; NTK-YaRN 7.87, 8.06, 9.82, 11.74 (arXiv 2402.17463, table 1)",
}
near, far = (lambda run: of(run, "context_loss", L)), (lambda run: of(run, "context_loss", S * L))

CLAIMS = (
    Claim("rope-fails", "Plain RoPE fails soon past its training length.", source="arXiv 2306.15595, section 1",
          holds=(of("rope", "context_loss", 2 * L) >= 1.2 * near("rope"), of("rope", "key_recall", 233) < 0.2)),
    Claim("zero-shot-order", "Without training, YaRN is better than NTK, and both than interpolation.", source="arXiv 2402.17463, table 1",
          published="perplexity of LLaMA-2-7B at 4 times its window: dynamic interpolation 15.11, dynamic NTK 26.12, YaRN 9.82",
          holds=(far("yarn") < far("dynamic_ntk"), far("yarn") < far("ntk"), far("dynamic_ntk") < far("linear"), far("ntk") < far("linear"))),
    Claim("nearby-cost", "What linear, NTK and YaRN without training, and linear with it, gain far away they pay for nearby.",
          amended="that they gain far away is asked as well",
          holds=tuple(part for run in ("linear", "ntk", "yarn", "linear_tuned") for part in (far(run) < far("rope"), near(run) > near("rope")))),
    Claim("windows-fluent", "LM-Infinite and StreamingLLM stay fluent and remember nothing from beyond their window, be it within reach of three of "
          "them.", source="arXiv 2309.17453", amended="distances of 233 and 489 in place of 489 and 1,001",
          holds=(*(of(run, "context_loss", 8 * L) <= 1.05 * near("rope") for run in ("lm_infinite", "streaming")),
                 *(of(run, "key_recall", distance) <= 0.05 for run in ("lm_infinite", "streaming") for distance in (233, 489)))),
)
GROUPS = {
    "one set of weights, frequencies scaled": ("rope", "linear", "ntk", "dynamic_ntk", "by_parts", "yarn", "llama3", "power", "truncated"),
    "one set of weights, windows and regrouped positions": ("rope", "window", "lm_infinite", "streaming", "self_extend"),
    "trained on briefly with 512 bytes": ("rope_tuned", "linear_tuned", "ntk_tuned", "yarn_tuned", "abf_tuned"),
}
LOSS = dict(x_label="bytes in the row", y_label="loss (nats per byte)", trained_to=L, log_x=True, lower_is_better=True)
FIGURES = tuple(
    figure for title, names in GROUPS.items() for figure in (
        Figure("context_loss", title=f"Loss of the same bytes: {title}", runs=names, **LOSS),
        Figure("chunk_loss", title=f"Mean loss of whole rows: {title}", runs=names, **LOSS),
        Figure("key_recall", title=f"A key of eight tokens, asked for later: {title}", x_label="bytes between key and question",
               y_label="answered right", trained_to=L - 1, log_x=True, runs=names),
    ))
