"""Does LSSAR's loss stay flat to sixteen times the trained length if its heads are wide, and what does that cost nearby?

    cosine_then_15_fast_long          cosine for 3,000 steps, then a power of 15 for 1,000, two heads of 64 (softplus_attention/longer)
    cosine_then_15_k128_fast_long     two heads of 128: 1.4 times the weights; _k256_: of 256, 2.2 times
    rope_k128_long                    softmax with heads of 128 and as many steps

The wider the head, the less the cosines with n random keys spread (1 / sqrt K), and the later one of them stands out as far as the right key.
Models, data and measures are those of softplus_attention/text. LSSAR: arXiv 2501.13428, whose abstract says nearly constant at 16 times the trained
length. Both widths were tried on a seed of their own before they were declared; softmax with heads of 256 was not trained.
Ten to twenty-six minutes an arm, two at a time on 2 cores; an hour and three quarters in all. Deviations: as in softplus_attention/text.
"""
from dataclasses import replace

from lcref import claims
from lcref.claims import Claim, of
from lcref.experiment import Figure, load

TEXT, = load("softplus_attention/text")
L = 256                                                        # trained length
WIDTHS = {"cosine_then_15_fast_long": {}, "cosine_then_15_k128_fast_long": {"head_dim": 128}, "cosine_then_15_k256_fast_long": {"head_dim": 256}}
NARROW, WIDE, WIDEST = WIDTHS
SOFTMAX = "rope_k128_long"


def runs(known):
    def made(name, times, width):
        run = known[name]
        return replace(run, model=replace(run.model, mixer=replace(run.model.mixer, **width)),
                       train=replace(run.train, steps=int(times * run.train.steps)))
    found = {name: replace(made("lssar_15", 2 / 4, width), start=made("cosine", 2 * 3 / 4, width)) for name, width in WIDTHS.items()}
    return found | {SOFTMAX: made("rope", 2, WIDTHS[WIDE])}


RUNS = {size: runs(known) for size, known in TEXT.runs.items()}
SEEDS = 3
PAPER = TEXT.paper
LOSSES = ("context_loss", "chunk_loss")


def rise(run, times, metric="context_loss"):
    return claims.rise(run, metric, times * L, L)


def flat(share, run, times):
    return claims.flat(run, LOSSES, [n * L for n in times], L, share)


CLAIMS = (
    Claim("wide-cheap", "With heads of 128 it is as good nearby as softmax of that width, to 1 %.",
          holds=tuple(of(WIDE, loss, L) <= 1.01 * of(SOFTMAX, loss, L) for loss in LOSSES)),
    Claim("wide-keys", "With wide heads too it finds every key within the trained length.",
          holds=tuple(of(run, "key_recall", distance) >= 0.95 for run in (WIDE, WIDEST) for distance in (32, 100, 240))),
    Claim("wide-flat", "With heads of 128 it stays within 5 % to 8 times the trained length.", holds=flat(0.05, WIDE, (4, 8))),
    Claim("wide-flatter", "At 16 times it rises by less than with heads of 64, and by no more than 6 %.",
          holds=(*(rise(WIDE, 16, loss) < rise(NARROW, 16, loss) for loss in LOSSES), *flat(0.06, WIDE, (16,)))),
    Claim("wide-recall", "At 4 times the trained length it finds more than half of the keys, softmax of that width fewer than a quarter.",
          holds=(of(WIDE, "key_recall", 1008) >= 0.5, of(SOFTMAX, "key_recall", 1008) <= 0.25)),
    Claim("widest-flat", "With heads of 256 it stays within 5 % to 16 times.", source="arXiv 2501.13428", published="nearly constant (abstract)",
          holds=flat(0.05, WIDEST, (4, 8, 16))),
    Claim("widest-dear", "But in as many steps the widest heads learn less: their loss nearby is higher than with heads of 64, and at 4 times the "
          "trained length they find fewer keys.",
          holds=(*(of(WIDEST, loss, L) > of(NARROW, loss, L) for loss in LOSSES),
                 of(WIDEST, "key_recall", 1008) < of(NARROW, "key_recall", 1008) - 0.1)),
)
ROWS = dict(x_label="bytes in the row", trained_to="data.text.length", log_x=True)
LOSS = dict(y_label="loss (nats per byte)", lower_is_better=True, **ROWS)
FIGURES = (
    Figure("context_loss", title="Loss of the same bytes: wide heads", **LOSS),
    Figure("chunk_loss", title="Mean loss of whole rows: wide heads", **LOSS),
    Figure("key_recall", title="A key among the text, asked for later (chance: 0.1): wide heads", y_label="answered right",
           **ROWS | dict(x_label="bytes between key and question")),
    Figure("context_loss", title="Loss of the same bytes: LSSAR by width of the heads", runs=tuple(WIDTHS), **LOSS),
    Figure("chunk_loss", title="Mean loss of whole rows: LSSAR by width of the heads", runs=tuple(WIDTHS), **LOSS),
    Figure("weight_entropy", title="Entropy of the attention weights: wide heads", y_label="nats", **ROWS),
)
