"""Does LSSAR need RoPE? The same re-weighted softplus attention under other position schemes, and softmax under each beside it.

    alibi        a penalty that grows with the distance; nope: no positions at all
    truncated    RoPE without the planes that are too slow to turn once in the trained length (they are what no training row has seen whole)

Models, data and measures are those of softplus_attention/text, which also tells what `rope` and `lssar_15` do and why. ALiBi is published as flat
(arXiv 2108.12409); the paper of LSSAR (arXiv 2501.13428) has it with RoPE.
Three to six minutes an arm, two at a time on 2 cores; an hour in all. Deviations: as in softplus_attention/text.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.experiment import Figure, load
from lcref.nn.positions import Alibi, Nope, Rope
from lcref.ops.rope_scaling import Truncated

TEXT, = load("softplus_attention/text")
L = 256                                                        # trained length
LSSAR = "lssar_15"
SCHEMES = {"alibi": Alibi(), "nope": Nope(), "truncated": Rope(scaling=Truncated(L))}


def runs(known):
    found = {name: known[name] for name in ("rope", LSSAR)}
    for name, scheme in SCHEMES.items():
        for run, new in (("rope", name), (LSSAR, f"{LSSAR}_{name}")):
            found[new] = replace(known[run], model=replace(known[run].model, position=scheme))
    return found


RUNS = {size: runs(known) for size, known in TEXT.runs.items()}
SEEDS = 3
PAPER = TEXT.paper
CLAIMS = (
    Claim("alibi-stays", "ALiBi's loss does not rise under either.", source="arXiv 2108.12409",
          holds=tuple(of(run, "context_loss", 16 * L) <= 1.05 * of(run, "context_loss", L) for run in ("alibi", f"{LSSAR}_alibi"))),
)
ROWS = dict(x_label="bytes in the row", trained_to="data.text.length", log_x=True)
FIGURES = (
    Figure("context_loss", title="Loss of the same bytes: by position scheme", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("chunk_loss", title="Mean loss of whole rows: by position scheme", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("key_recall", title="A key among the text, asked for later (chance: 0.1): by position scheme", y_label="answered right",
           **ROWS | dict(x_label="bytes between key and question")),
    Figure("weight_entropy", title="Entropy of the attention weights: by position scheme", y_label="nats", **ROWS),
)
