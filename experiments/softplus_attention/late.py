"""Is LSSAR best learned last? Three quarters of the steps with other weights, and a power of 15 for the last quarter, in as many steps.

    cosine_then_15         first softmax of LSSAR's own scores (cosine): a search is learned with weights that every key shares in, then made to
                           read far; tried on a seed of its own when softplus_attention/text was known
    rope_then_15           its control, softmax with RoPE in place of cosine; added later, as were the heads of 128 (_k128), neither tried before

The last quarter has half the learning rate that LSSAR has from the first step on (size cpu).
Models, data and measures are those of softplus_attention/text. LSSAR: arXiv 2501.13428, which learns it from the first step on.
Three to six minutes an arm, two at a time on 2 cores; an hour in all. With twice the steps: softplus_attention/longer.
"""
from dataclasses import replace

from lcref import claims
from lcref.claims import Claim, of
from lcref.experiment import Figure, load

TEXT, = load("softplus_attention/text")
L = 256                                                        # trained length
LSSAR, LATE = "lssar_15", "cosine_then_15"


def runs(known):
    rope, cosine, last = known["rope"], known["cosine"], replace(known["rope"], model=known[LSSAR].model)

    def steps(run, share):
        return replace(run, train=replace(run.train, steps=int(share * run.train.steps)))

    def wide(run):
        return replace(run, model=replace(run.model, mixer=replace(run.model.mixer, head_dim=128)))

    def then_last(first, change=lambda run: run):
        return replace(change(steps(last, 1 / 4)), start=change(steps(first, 3 / 4)))
    return {"rope": rope, LSSAR: known[LSSAR], "rope_k128": wide(rope),
            LATE: then_last(cosine), f"{LATE}_k128": then_last(cosine, wide), "rope_then_15": then_last(rope)}


RUNS = {size: runs(known) for size, known in TEXT.runs.items()}
SEEDS = 3
PAPER = TEXT.paper


def rise(run, times, metric="context_loss"):
    return claims.rise(run, metric, times * L, L)


LOSSES = ("context_loss", "chunk_loss")
CLAIMS = (
    Claim("cosine-first", "Trained as cosine first, and with a power of 15 for the last quarter of the same steps, it is as good nearby as softmax, "
          "to 1 %, and finds every key there.",
          holds=(*(of(LATE, loss, L) <= 1.01 * of("rope", loss, L) for loss in LOSSES),
                 *(of(LATE, "key_recall", distance) >= 0.95 for distance in (32, 100, 240)))),
    Claim("cosine-first-share", "Then too it rises by at most a tenth of what softmax rises at 4 times the trained length, and a quarter at 16.",
          holds=tuple(rise(LATE, times, loss) <= share * rise("rope", times, loss) for times, share in ((4, 0.1), (16, 0.25)) for loss in LOSSES)),
    Claim("cosine-first-not-softmax", "Softmax first is worse: with it in place of cosine the loss nearby is higher, and fewer keys are found at 4 "
          "times the trained length.",
          holds=(*(of(LATE, loss, L) < of("rope_then_15", loss, L) for loss in LOSSES),
                 of(LATE, "key_recall", 1008) > of("rope_then_15", "key_recall", 1008) + 0.1)),
    Claim("cosine-first-wider", "With heads of 128 too it is as good nearby as softmax, to 1 %, and at 16 times the trained length it rises less "
          "than with 64.",
          holds=(*(of(f"{LATE}_k128", loss, L) <= 1.01 * of("rope_k128", loss, L) for loss in LOSSES),
                 rise(f"{LATE}_k128", 16) < rise(LATE, 16))),
)
ROWS = dict(x_label="bytes in the row", trained_to="data.text.length", log_x=True)
FIGURES = (
    Figure("context_loss", title="Loss of the same bytes: LSSAR at the end", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("chunk_loss", title="Mean loss of whole rows: LSSAR at the end", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("key_recall", title="A key among the text, asked for later (chance: 0.1): LSSAR at the end", y_label="answered right",
           **ROWS | dict(x_label="bytes between key and question")),
    Figure("weight_entropy", title="Entropy of the attention weights: LSSAR at the end", y_label="nats", **ROWS),
)
