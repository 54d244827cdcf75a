"""How wide must a head be for LSSAR? Heads of 32, 64 and 128 numbers, and softmax with each beside it.

    rope_k32, lssar_15_k32      twice the heads at half the width: cosines with n random keys spread as 1 / sqrt K, and the largest grows with n
    rope_k128, lssar_15_k128    as many heads at twice the width, so with 1.4 times the weights; added when the others were known, tried on a
                                seed of its own

Models, data and measures are those of softplus_attention/text. LSSAR: arXiv 2501.13428, with heads of 64.
Four to six minutes an arm, two at a time on 2 cores; 50 minutes in all. Deviations: as in softplus_attention/text.
"""
from dataclasses import replace

from lcref import claims
from lcref.claims import Claim, of
from lcref.experiment import Figure, load

TEXT, = load("softplus_attention/text")
L = 256                                                        # trained length
LSSAR = "lssar_15"


def runs(known):
    def widths(name):
        attention = known[name].model.mixer
        heads = {"": attention, "_k32": replace(attention, heads=2 * attention.heads, head_dim=32), "_k128": replace(attention, head_dim=128)}
        return {name + k: replace(known[name], model=replace(known[name].model, mixer=mixer)) for k, mixer in heads.items()}
    return widths("rope") | widths(LSSAR)


RUNS = {size: runs(known) for size, known in TEXT.runs.items()}
SEEDS = 3
PAPER = TEXT.paper


def rise(run, times):
    return claims.rise(run, "context_loss", times * L, L)


CLAIMS = (
    Claim("wide-heads", "It takes wide heads: with heads of 32 in place of 64 LSSAR's loss rises twice as much at 16 times the trained length.",
          holds=(rise(f"{LSSAR}_k32", 16) >= 2 * rise(LSSAR, 16),
                 of(f"{LSSAR}_k32", "context_loss", 16 * L) >= 1.05 * of(f"{LSSAR}_k32", "context_loss", L))),
    Claim("wider-still", "Wider heads help on: with two of 128 LSSAR rises less at 16 times the trained length, and finds more keys at 4 times.",
          holds=(rise(f"{LSSAR}_k128", 16) < rise(LSSAR, 16),
                 of(f"{LSSAR}_k128", "key_recall", 1008) > of(LSSAR, "key_recall", 1008) + 0.1,
                 of(f"{LSSAR}_k128", "key_recall", 1008) > of("rope_k128", "key_recall", 1008) + 0.1)),
)
ROWS = dict(x_label="bytes in the row", trained_to="data.text.length", log_x=True)
FIGURES = (
    Figure("context_loss", title="Loss of the same bytes: by width of the heads", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("chunk_loss", title="Mean loss of whole rows: by width of the heads", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("key_recall", title="A key among the text, asked for later (chance: 0.1): by width of the heads", y_label="answered right",
           **ROWS | dict(x_label="bytes between key and question")),
    Figure("weight_entropy", title="Entropy of the attention weights: by width of the heads", y_label="nats", **ROWS),
)
