"""Can a model learn to read 512 bytes from rows of 128 alone? CLEX's ids and learned frequencies, their controls, and E2's scales and offsets.

The base is that of context_extension/tiny, with its data and measures. All train on from it, on rows as long as before:
    clex                 as published (arXiv 2310.16450): the ids of a row are scattered over t windows, on average t apart; text is then read with
                         ids that are all 1 apart, such as no row at t > 1 has
    clex_chunked         the same rows in four pieces of neighbouring ids
    random_positions     the control whose frequencies stay plain; random_chunked: with ids in chunks
    prior_chunked        the control whose frequencies stay at CLEX's initial curve
    clex_long            the chunked one with ids over up to eight windows and five times the steps, chosen with another seed and other text
    e2                   E2's scales and offsets (arXiv 2401.06951); rope_longer: nothing changed
`_log_n` reads with log-n scaling, as CLEX's authors do. `linear`, `ntk` and `yarn` are the base, read with scaled frequencies.
Two runs at a time on 2 cores, 13 to 17 minutes for a base model, 5 for each that trains on and 20 to 30 for `clex_long`; two hours in all.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.experiment import Figure, load
from lcref.nn.positions import Rope
from lcref.ops.rope_scaling import E2, Clex, ClexPrior, RandomPositions
from lcref.ops.weights import LogN

TINY, = load("context_extension/tiny")
L, S, CHUNKS = 128, 4, 4                                       # trained length, how many times of it is wanted, pieces of a chunked row
MORE = {"smoke": dict(steps=2), "cpu": dict(steps=600, learning_rate=1e-3, warmup=20), "gpu": dict(steps=2000, learning_rate=3e-4, warmup=100),
        "paper": dict(steps=4000, learning_rate=1e-4, warmup=100)}
SCALINGS = {"clex": Clex(S, L), "random_positions": RandomPositions(S, L), "clex_chunked": Clex(S, L, CHUNKS),
            "prior_chunked": ClexPrior(S, L, CHUNKS), "random_chunked": RandomPositions(S, L, CHUNKS), "e2": E2(S, L), "rope_longer": None}


def runs(known, more):
    base = known["rope"]

    def trained_on(scaling, times=1):
        model = replace(base.model, position=Rope(scaling=scaling))
        return replace(base, model=model, train=replace(base.train, **more | dict(steps=times * more["steps"])), start=base)

    def log_n(run):
        return replace(run, read=replace(run.model, mixer=replace(run.model.mixer, weights=LogN(L))))
    found = {name: known[name] for name in ("rope", "linear", "ntk", "yarn")}
    found |= {name: trained_on(scaling) for name, scaling in SCALINGS.items()}
    found["clex_long"] = trained_on(Clex(2 * S, L, CHUNKS), times=5)
    return found | {f"{name}_log_n": log_n(found[name]) for name in ("clex", "clex_chunked", "clex_long")}


RUNS = {size: runs(known, MORE[size]) for size, known in TINY.runs.items()}
SEEDS = 3
PAPER = {
    "clex": "LLaMA-2-7B trained at 4k, perplexity at 4k, 8k, 16k, 32k: CLEX 5.86, 5.70, 5.87, 14.53; ids alone 5.88, >100, >1000, >1000 "
            "(arXiv 2310.16450)",
}
near, far = (lambda run: of(run, "context_loss", L)), (lambda run: of(run, "context_loss", S * L))


def holds(run):
    """Within 2 % at 4 L, by the same bytes and, as its authors measure, by whole rows; and there below three scalings that need no training."""
    return (far(run) <= 1.02 * near(run), of(run, "chunk_loss", S * L) <= 1.02 * of(run, "chunk_loss", L),
            *(far(run) < far(other) for other in ("linear", "ntk", "yarn")))


CLAIMS = (
    Claim("clex-holds", "CLEX, trained on short rows, holds its loss at 4 times their length, by the same bytes and by whole rows, and is there below "
          "linear, NTK and YaRN.", source="arXiv 2310.16450",
          published="perplexity of LLaMA-2-7B at 1 and 4 times the trained length: 5.86, 5.87", holds=holds("clex")),
    Claim("clex-chunked-holds", "With ids in chunks, which show neighbours 1 apart at every factor, it does.", source="arXiv 2310.16450",
          published="perplexity of LLaMA-2-7B at 1 and 4 times the trained length: 5.86, 5.87", holds=holds("clex_chunked")),
    Claim("clex-chunked-log-n-holds", "The same, read with log-n scaling as CLEX's authors evaluate, does.", holds=holds("clex_chunked_log_n")),
    Claim("clex-long-holds", "Trained for five times as long, over twice as many windows, and read with log-n, it does.",
          holds=holds("clex_long_log_n")),
    Claim("clex-whole-rows", "By whole rows alone, which its authors measure, CLEX with ids in chunks stays within 2 % at 4 times the length.",
          source="arXiv 2310.16450", amended="this claim was added",
          holds=tuple(of(run, "chunk_loss", S * L) <= 1.02 * of(run, "chunk_loss", L)
                      for run in ("clex_chunked", "clex_chunked_log_n", "clex_long", "clex_long_log_n"))),
    Claim("clex-ids-alone", "CLEX's ids without its frequencies do not extrapolate.", source="arXiv 2310.16450",
          published="perplexity at 2 times the trained length above 100",
          holds=(far("random_positions") > far("clex"), far("random_chunked") > far("clex_chunked"))),
    Claim("clex-learned", "The learned part of CLEX's frequencies matters, not only their initial curve.", source="arXiv 2310.16450",
          holds=(far("clex_chunked") < far("prior_chunked"),)),
    Claim("nearby-cost", "What CLEX and E2 gain far away they pay for nearby.",
          amended="that they gain far away is asked as well", holds=tuple(part for run in ("clex", "clex_chunked", "e2") for part in (
              far(run) < far("rope_longer"), near(run) > near("rope_longer")))),
)
SHOWN = tuple(name for name in RUNS["cpu"] if name not in ("linear", "ntk", "yarn"))
LOSS = dict(x_label="bytes in the row", y_label="loss (nats per byte)", trained_to=L, log_x=True, lower_is_better=True, runs=SHOWN)
FIGURES = (
    Figure("context_loss", title="Loss of the same bytes: trained on with 128 bytes only", **LOSS),
    Figure("chunk_loss", title="Mean loss of whole rows: trained on with 128 bytes only", **LOSS),
    Figure("key_recall", title="A key of eight tokens, asked for later: trained on with 128 bytes only", x_label="bytes between key and question",
           y_label="answered right", trained_to=L - 1, log_x=True, runs=SHOWN),
)
