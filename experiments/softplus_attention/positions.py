"""Does LSSAR need RoPE? The same re-weighted softplus attention under other position schemes, and softmax under each beside it.

    alibi        a penalty that grows with the distance; nope: no positions at all
    truncated    RoPE with 13 of 32 planes, those that turn at least once in the trained length; of the slower ones Giraffe (arXiv 2308.10882) gives
                 eight a turn in 4,096 bytes and stops the others
    p_rope       all of the slower ones stopped (arXiv 2410.06205)

Models, data and measures are those of softplus_attention/text, which also tells what `rope` and `lssar_15` do and why. ALiBi is published as flat
(arXiv 2108.12409); the paper of LSSAR (arXiv 2501.13428) has it with RoPE. `p_rope` came last, to test what the results of `truncated` suggest: its
eight slow planes have made a quarter of a turn at 1,024 bytes, half of one at 2,048 and all of it at 4,096, and keys are lost at the first two and
found again at the last.
Three to six minutes an arm, two at a time on 2 cores; an hour and a quarter in all. Deviations: as in softplus_attention/text.
"""
from dataclasses import replace

from lcref.claims import Claim, of, rise
from lcref.experiment import Figure, load
from lcref.nn.positions import Alibi, Nope, Rope
from lcref.ops.rope_scaling import PRope, Truncated

TEXT, = load("softplus_attention/text")
L = 256                                                        # trained length
LSSAR = "lssar_15"
SCHEMES = {"alibi": Alibi(), "nope": Nope(), "truncated": Rope(scaling=Truncated(L)), "p_rope": Rope(scaling=PRope(13 / 32))}


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
    Claim("slow-planes-keys", "Softmax finds keys at 1,008 and 2,032 bytes that it does not find where eight slow planes turn.",
          source="arXiv 2410.06205",
          holds=tuple(of("p_rope", "key_recall", far) >= of("truncated", "key_recall", far) + 0.2 for far in (1008, 2032))),
    Claim("slow-planes-loss", "With every slow plane stopped the loss rises less to 16 times the trained length, under either.",
          source="arXiv 2410.06205",
          holds=tuple(rise(f"{run}p_rope", "context_loss", 16 * L, L) < rise(f"{run}truncated", "context_loss", 16 * L, L)
                      for run in ("", f"{LSSAR}_"))),
)
ROWS = dict(x_label="bytes in the row", trained_to="data.text.length", log_x=True)
FIGURES = (
    Figure("context_loss", title="Loss of the same bytes: by position scheme", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("chunk_loss", title="Mean loss of whole rows: by position scheme", y_label="loss (nats per byte)", lower_is_better=True, **ROWS),
    Figure("key_recall", title="A key among the text, asked for later (chance: 0.1): by position scheme", y_label="answered right",
           **ROWS | dict(x_label="bytes between key and question")),
    Figure("weight_entropy", title="Entropy of the attention weights: by position scheme", y_label="nats", **ROWS),
)
