"""How near to flat does LSSAR come with twice the steps, learned last, and with wide heads? A model trained on 256 bytes reads 4,096.

    rope_long                   softmax, 4,000 steps in place of 2,000; lssar_15_long: a power of 15 from the first step on
    cosine_then_15_long         cosine for 3,000 steps, then a power of 15 for 1,000 (softplus_attention/late)
    ..._fast_long               with LSSAR's learning rate in the last quarter, where the others have half of that (size cpu)
    ..._k128_fast_long          and with two heads of 128 in place of two of 64; rope_k128_long: softmax of that width

Models, data and measures are those of softplus_attention/text. LSSAR: arXiv 2501.13428, whose abstract says nearly constant at 16 times the trained
length. Each of these was tried on a seed of its own before it was declared; the wide heads were added when the rest was known.
Six to fourteen minutes an arm, two at a time on 2 cores; an hour and a half in all. Deviations: as in softplus_attention/text.
"""
from dataclasses import replace

from lcref import claims
from lcref.claims import Claim, of
from lcref.experiment import Figure, load

TEXT, = load("softplus_attention/text")
L = 256                                                        # trained length
LSSAR, LATE = "lssar_15", "cosine_then_15"
FLAT = f"{LATE}_k128_fast"


def runs(known):
    rope, cosine, lssar = known["rope"], known["cosine"], known[LSSAR]

    def steps(run, times):
        return replace(run, train=replace(run.train, steps=int(times * run.train.steps)))

    def wide(run):
        return replace(run, model=replace(run.model, mixer=replace(run.model.mixer, head_dim=128)))

    def after_cosine(last, change=lambda run: run):
        return replace(change(steps(last, 2 / 4)), start=change(steps(cosine, 2 * 3 / 4)))
    return {"rope_long": steps(rope, 2), f"{LSSAR}_long": steps(lssar, 2), f"{LATE}_long": after_cosine(replace(rope, model=lssar.model)),
            f"{LATE}_fast_long": after_cosine(lssar), "rope_k128_long": wide(steps(rope, 2)), f"{FLAT}_long": after_cosine(lssar, wide)}


RUNS = {size: runs(known) for size, known in TEXT.runs.items()}
SEEDS = 3


def rise(run, times, metric="context_loss"):
    return claims.rise(run, metric, times * L, L)


def flat(run, times):
    return tuple(of(run, loss, n * L) <= 1.05 * of(run, loss, L) for n in times for loss in LOSSES)


def cheap(run, softmax):
    return (*(of(run, loss, L) <= 1.01 * of(softmax, loss, L) for loss in LOSSES),
            *(of(run, "key_recall", distance) >= 0.95 for distance in (32, 100, 240)))


LOSSES = ("context_loss", "chunk_loss")
CLAIMS = (
    Claim("cosine-first-long", "Trained as cosine first, and with a power of 15 for the last quarter of twice the steps, it is as good nearby as "
          "softmax, to 1 %, and finds every key there.", holds=cheap(f"{LATE}_long", "rope_long")),
    Claim("cosine-first-long-share", "Then too it rises by at most a tenth of what softmax rises at 4 times the trained length, and a quarter at 16.",
          holds=tuple(rise(f"{LATE}_long", times, loss) <= share * rise("rope_long", times, loss)
                      for times, share in ((4, 0.1), (16, 0.25)) for loss in LOSSES)),
    Claim("cosine-first-flat", "And with twice the steps it stays within 5 % to 16 times the trained length.",
          holds=flat(f"{LATE}_long", (4, 8, 16))),
    Claim("wide-cheap", "With heads of 128 too it is as good nearby as softmax of that width, to 1 %, and finds every key there.",
          holds=cheap(f"{FLAT}_long", "rope_k128_long")),
    Claim("wide-flat", "And it stays within 5 % to 8 times the trained length.", holds=flat(f"{FLAT}_long", (4, 8))),
    Claim("wide-flatter", "At 16 times it rises by less than with heads of 64, and by no more than 6 %.",
          holds=(*(rise(f"{FLAT}_long", 16, loss) < rise(f"{LATE}_fast_long", 16, loss) for loss in LOSSES),
                 *(of(f"{FLAT}_long", loss, 16 * L) <= 1.06 * of(f"{FLAT}_long", loss, L) for loss in LOSSES))),
    Claim("wide-recall", "At 4 times the trained length it finds more than half of the keys, softmax of that width fewer than a quarter.",
          holds=(of(f"{FLAT}_long", "key_recall", 1008) >= 0.5, of("rope_k128_long", "key_recall", 1008) <= 0.25)),
)
ROWS = dict(x_label="bytes in the row", trained_to="data.text.length", log_x=True)
FIGURES = (
    Figure("context_loss", title="Loss of the same bytes: twice the steps", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("chunk_loss", title="Mean loss of whole rows: twice the steps", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("key_recall", title="A key among the text, asked for later (chance: 0.1): twice the steps", y_label="answered right",
           **ROWS | dict(x_label="bytes between key and question")),
    Figure("weight_entropy", title="Entropy of the attention weights: twice the steps", y_label="nats", **ROWS),
)
