"""Which changes of RoPE let a model trained on 128 bytes read 512, and does it still remember what it read?

A byte language model is trained on 128 bytes at a time, with a key of eight tokens in every row that must be repeated when asked for. Then
the same weights read longer rows under every scaling of the frequencies (zero-shot), under windows with first tokens (LM-Infinite,
StreamingLLM) and with grouped positions (Self-Extend). Others train on: briefly on rows of 512, with position interpolation, NTK, YaRN, a
larger base, or nothing changed; or on rows of 128 alone, with CLEX's ids and learned frequencies, its controls, and E2's scales and offsets.

CLEX in two versions. As published, the ids of a training row are scattered over t windows, on average t apart; text is then read with
ids that are all 1 apart, such as no row at t > 1 has. `chunked` lays the same rows out in four pieces of neighbouring ids. Each has the
control whose frequencies stay plain (`random_...`), and the chunked one the control whose frequencies stay at their initial curve.
`clex_long` is the chunked one with ids over up to eight windows and five times the steps, chosen with another seed and other text.

Chunk loss is what CLEX's authors measure (train/eval_lm.py of their repository): the mean over all positions of rows of each length,
cut from the same text. Context loss is stricter: the last 64 bytes of a row, the same bytes at every length. Papers: arXiv 2306.15595,
2309.00071, 2309.16039, 2310.16450, 2401.06951, 2308.16137, 2309.17453, 2401.01325, 2309.10400. Two runs at a time on 2 cores, 13 to 17
minutes for a base model, 2 to 6 for each that trains on and 30 for `clex_long`.
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
from lcref.ops.rope_scaling import E2, Abf, ByParts, Clex, ClexPrior, DynamicNtk, Linear, Llama3, Ntk, Power, RandomPositions, Truncated, Yarn
from lcref.ops.weights import LogN
from lcref.train import TrainConfig

L, S, CHUNKS = 128, 4, 4                                       # trained length, how many times of it is wanted, pieces of a chunked row


def rows(length):
    return Keyed(Text(corpus="stdlib", length=length), keys=10, span=8)


def runs(base, brief, more):
    """base: the model that is trained. brief, more: TrainConfig of those that train on, on long rows (as many tokens a step) or short ones."""
    def rope(scaling):
        return replace(base.model, position=Rope(scaling=scaling))

    def windowed(near, sinks, scheme):
        return replace(base.model, position=scheme, mixer=replace(base.model.mixer, window=near, sinks=sinks))

    def log_n(run):
        return replace(run, read=replace(run.model, mixer=replace(run.model.mixer, weights=LogN(L))))
    read = {
        "rope": None,
        "linear": rope(Linear(S, L)), "ntk": rope(Ntk(S, L)), "dynamic_ntk": rope(DynamicNtk(1.0, L)), "by_parts": rope(ByParts(S, L)),
        "yarn": rope(Yarn(S, L)), "llama3": rope(Llama3(S, L)), "power": rope(Power(0.1)), "truncated": rope(Truncated(L)),
        "window": windowed(L, 0, Rope()), "lm_infinite": windowed(L, 4, LMInfinite(near=L)),
        "streaming": windowed(L - 4, 4, StreamingLLM(near=L - 4, sinks=4)),
        "self_extend": replace(base.model, position=SelfExtend(near=L // 4, group=2 * S)),
    }
    tuned = {"rope_tuned": None, "linear_tuned": Linear(S, L), "ntk_tuned": Ntk(S, L), "yarn_tuned": Yarn(S, L), "abf_tuned": Abf(500_000.0)}
    short = {"clex": Clex(S, L), "random_positions": RandomPositions(S, L), "clex_chunked": Clex(S, L, CHUNKS),
             "prior_chunked": ClexPrior(S, L, CHUNKS), "random_chunked": RandomPositions(S, L, CHUNKS), "e2": E2(S, L), "rope_longer": None}
    found = {name: replace(base, read=model) for name, model in read.items()}
    found |= {name: replace(base, model=rope(scaling), data=rows(S * L), train=replace(brief, batch=brief.batch // S), start=base)
              for name, scaling in tuned.items()}
    found |= {name: replace(base, model=rope(scaling), train=more, start=base) for name, scaling in short.items()}
    found["clex_long"] = replace(base, model=rope(Clex(2 * S, L, CHUNKS)), train=replace(more, steps=5 * more.steps), start=base)
    return found | {f"{name}_log_n": log_n(found[name]) for name in ("clex", "clex_chunked", "clex_long")}


CPU = Run(
    model=DecoderConfig(vocab=rows(L).vocab, d_model=128, layers=3, mixer=AttentionConfig(heads=4), position=Rope()),
    data=rows(L),
    train=TrainConfig(steps=2000, batch=32, learning_rate=2e-3, warmup=50, steps_per_call=25),
    evals=(ContextLoss((128, 256, 512, 1024, 2048), targets=64), ChunkLoss((128, 256, 512, 1024, 2048), windows=8),
           KeyRecall((32, 100, 233, 489, 1001, 2025), questions=64)),          # rows of at most L, L, 2 L, 4 L, ...
    seed=3,                                                                    # the first: 0 to 2 were seen before the budget was settled
)
BRIEF = replace(CPU.train, steps=200, learning_rate=1e-3, warmup=20)
MORE = replace(BRIEF, steps=600)
SMALL = replace(CPU, model=replace(CPU.model, d_model=32, layers=1), train=TrainConfig(steps=4, batch=4, warmup=1, steps_per_call=2),
                evals=(ContextLoss((128, 256), targets=64, windows=2), ChunkLoss((128, 256), windows=2), KeyRecall((32, 233), questions=4)))
LARGE = replace(CPU, model=replace(CPU.model, d_model=512, layers=8, mixer=AttentionConfig(heads=8)),
                train=replace(CPU.train, steps=20_000, batch=128, learning_rate=1e-3, warmup=1000))
POD = replace(LARGE, model=replace(LARGE.model, d_model=1024, layers=24, mixer=AttentionConfig(heads=16)),
              train=replace(LARGE.train, steps=50_000, batch=1024, learning_rate=3e-4))
RUNS = {
    "smoke": runs(SMALL, *[replace(SMALL.train, steps=2)] * 2),
    "cpu": runs(CPU, BRIEF, MORE),
    "gpu": runs(LARGE, *[replace(LARGE.train, steps=2000, learning_rate=3e-4, warmup=100)] * 2),
    "paper": runs(POD, *[replace(POD.train, steps=4000, learning_rate=1e-4, warmup=100)] * 2),
}
SEEDS = 3
PAPER = {
    "zero-shot": "LLaMA-2-7B on PG19 at 1, 2, 4, 8 times its window, perplexity: rope 7.87, >100; dynamic PI 7.87, 9.19, 15.11, >100; "
                 "dynamic NTK 7.87, 11.98, 26.12, 58.91; NTK-YaRN 7.87, 8.06, 9.82, 11.74 (arXiv 2402.17463, table 1)",
    "clex": "LLaMA-2-7B trained at 4k, perplexity at 4k, 8k, 16k, 32k: CLEX 5.86, 5.70, 5.87, 14.53; ids alone 5.88, >100, >1000, >1000 "
            "(arXiv 2310.16450)",
}
near, far = (lambda run: of(run, "context_loss", L)), (lambda run: of(run, "context_loss", S * L))
rows_near, rows_far = (lambda run: of(run, "chunk_loss", L)), (lambda run: of(run, "chunk_loss", S * L))


def holds(run):
    """Within 2 % at 4 L as its authors measure, and there below three scalings that need no training."""
    return (rows_far(run) <= 1.02 * rows_near(run), *(rows_far(run) < rows_far(other) for other in ("linear", "ntk", "yarn")))


CLAIMS = (
    Claim("rope-fails", "Plain RoPE fails soon past its training length.", source="arXiv 2306.15595, section 1",
          holds=(of("rope", "context_loss", 2 * L) >= 1.2 * near("rope"), of("rope", "key_recall", 233) < 0.2)),
    Claim("zero-shot-order", "Without training, YaRN is better than NTK, and both than interpolation.", source="arXiv 2402.17463, table 1",
          published="perplexity of LLaMA-2-7B at 4 times its window: dynamic interpolation 15.11, dynamic NTK 26.12, YaRN 9.82",
          holds=(far("yarn") < far("dynamic_ntk"), far("yarn") < far("ntk"), far("dynamic_ntk") < far("linear"), far("ntk") < far("linear"))),
    Claim("clex-holds", "CLEX, trained on short rows, holds its loss to 4 times their length.", source="arXiv 2310.16450",
          published="perplexity of LLaMA-2-7B at 1 and 4 times the trained length: 5.86, 5.87", holds=holds("clex")),
    Claim("clex-chunked-holds", "With ids in chunks, which show neighbours 1 apart at every factor, CLEX holds its loss to 4 times the length.",
          source="arXiv 2310.16450", published="perplexity of LLaMA-2-7B at 1 and 4 times the trained length: 5.86, 5.87",
          holds=holds("clex_chunked")),
    Claim("clex-chunked-log-n-holds", "The same, read with log-n scaling as CLEX's authors evaluate, does.", holds=holds("clex_chunked_log_n")),
    Claim("clex-long-holds", "Trained for five times as long, over twice as many windows, and read with log-n, it does.",
          holds=holds("clex_long_log_n")),
    Claim("clex-same-bytes", "By the same late bytes too, CLEX with ids in chunks stays within 2 % at 4 times the length.",
          holds=tuple(far(run) <= 1.02 * near(run) for run in ("clex_chunked", "clex_chunked_log_n", "clex_long", "clex_long_log_n"))),
    Claim("clex-ids-alone", "CLEX's ids without its frequencies do not extrapolate.", source="arXiv 2310.16450",
          published="perplexity at 2 times the trained length above 100",
          holds=(far("random_positions") > far("clex"), far("random_chunked") > far("clex_chunked"))),
    Claim("clex-learned", "The learned part of CLEX's frequencies matters, not only their initial curve.", source="arXiv 2310.16450",
          holds=(far("clex_chunked") < far("prior_chunked"),)),
    Claim("nearby-cost", "What linear, NTK and YaRN without training, linear with it, CLEX and E2 gain far away they pay for nearby.",
          holds=(near("linear") > near("rope"), near("ntk") > near("rope"), near("yarn") > near("rope"), near("linear_tuned") > near("rope"),
                 near("clex") > near("rope_longer"), near("clex_chunked") > near("rope_longer"), near("e2") > near("rope_longer"))),
    Claim("windows-fluent", "LM-Infinite and StreamingLLM stay fluent and remember nothing from beyond their window, be it within reach of three of "
          "them.", source="arXiv 2309.17453",
          holds=(*(of(run, "context_loss", 8 * L) <= 1.05 * near("rope") for run in ("lm_infinite", "streaming")),
                 *(of(run, "key_recall", distance) <= 0.05 for run in ("lm_infinite", "streaming") for distance in (233, 489)))),
)
GROUPS = {
    "one set of weights, frequencies scaled": ("rope", "linear", "ntk", "dynamic_ntk", "by_parts", "yarn", "llama3", "power", "truncated"),
    "one set of weights, windows and regrouped positions": ("rope", "window", "lm_infinite", "streaming", "self_extend"),
    "trained on with 128 bytes only": ("rope_longer", "clex", "clex_log_n", "random_positions", "clex_chunked", "clex_chunked_log_n", "prior_chunked",
                                       "random_chunked", "clex_long", "clex_long_log_n", "e2"),
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
