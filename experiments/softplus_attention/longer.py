"""Is LSSAR's loss nearer to flat with twice the steps? Learned from the first step on, and learned last.

    rope_long                   softmax, 4,000 steps in place of 2,000; lssar_15_long: a power of 15 from the first step on
    cosine_then_15_long         cosine for 3,000 steps, then a power of 15 for 1,000 (softplus_attention/late)
    ..._fast_long               with LSSAR's learning rate in the last quarter, where the other has half of that (size cpu)

Models, data and measures are those of softplus_attention/text. LSSAR: arXiv 2501.13428, whose abstract says nearly constant at 16 times the trained
length. All but the controls were tried on a seed of their own before they were declared. With wider heads: softplus_attention/wider.
Six to eleven minutes an arm, two at a time on 2 cores; an hour in all. Deviations: as in softplus_attention/text.
"""
from dataclasses import replace

from lcref import claims
from lcref.claims import Claim, of
from lcref.experiment import Figure, load

TEXT, = load("softplus_attention/text")
L = 256                                                        # trained length
LSSAR, LATE = "lssar_15", "cosine_then_15"


def runs(known):
    rope, cosine, lssar = known["rope"], known["cosine"], known[LSSAR]

    def steps(run, times):
        return replace(run, train=replace(run.train, steps=int(times * run.train.steps)))

    def after_cosine(last):
        return replace(steps(last, 2 / 4), start=steps(cosine, 2 * 3 / 4))
    return {"rope_long": steps(rope, 2), f"{LSSAR}_long": steps(lssar, 2), f"{LATE}_long": after_cosine(replace(rope, model=lssar.model)),
            f"{LATE}_fast_long": after_cosine(lssar)}


RUNS = {size: runs(known) for size, known in TEXT.runs.items()}
SEEDS = 3
PAPER = TEXT.paper


def rise(run, times, metric="context_loss"):
    return claims.rise(run, metric, times * L, L)


LOSSES = ("context_loss", "chunk_loss")
CLAIMS = (
    Claim("cosine-first-long", "Trained as cosine first, and with a power of 15 for the last quarter of twice the steps, it is as good nearby as "
          "softmax, to 1 %, and finds every key there.",
          holds=(*(of(f"{LATE}_long", loss, L) <= 1.01 * of("rope_long", loss, L) for loss in LOSSES),
                 *(of(f"{LATE}_long", "key_recall", distance) >= 0.95 for distance in (32, 100, 240)))),
    Claim("cosine-first-long-share", "With twice the steps too it rises by at most a tenth of what softmax rises at 4 times the trained length, and a "
          "quarter at 16.",
          holds=tuple(rise(f"{LATE}_long", times, loss) <= share * rise("rope_long", times, loss)
                      for times, share in ((4, 0.1), (16, 0.25)) for loss in LOSSES)),
    Claim("cosine-first-flat", "And with twice the steps it stays within 5 % to 16 times the trained length.",
          holds=claims.flat(f"{LATE}_long", LOSSES, (4 * L, 8 * L, 16 * L), L, 0.05)),
)
ROWS = dict(x_label="bytes in the row", trained_to="data.text.length", log_x=True)
FIGURES = (
    Figure("context_loss", title="Loss of the same bytes: twice the steps", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("chunk_loss", title="Mean loss of whole rows: twice the steps", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("key_recall", title="A key among the text, asked for later (chance: 0.1): twice the steps", y_label="answered right",
           **ROWS | dict(x_label="bytes between key and question")),
    Figure("weight_entropy", title="Entropy of the attention weights: twice the steps", y_label="nats", **ROWS),
)
