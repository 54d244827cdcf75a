"""Does one layer without positions, between layers that see 128 bytes, keep the loss flat to sixteen times the trained length, and find keys there?

    local_15        RoPE and a window of 128 bytes, NoPE over the whole row, RoPE and a window again; all with softmax of normalised scores (cosine)
                    for 3,000 steps, then LSSAR with a power of 15 in the middle layer for 1,000
    local_15_near   local_15 with windows of 64: is the search learned more surely where it is needed earlier?
    local_cosine    local_15, read before those 1,000 steps: is it the re-weighting? (or the steps)
    local_15_rope   local_15 with RoPE in the middle layer as well: is it that this layer has no positions?
    local_rope      softmax (and its rate) in place of cosine and LSSAR, otherwise like local_15_rope, 4,000 steps
    local_log_n     the same layers with plain softmax, with ln n in the middle one: is it the normalised scores?
    rope_long       RoPE and softmax over the whole row in all three layers (softplus_attention/longer)
    cosine_then_15_fast_long    RoPE over the whole row, cosine, then LSSAR in all three (softplus_attention/longer)

Windows no longer than what was trained on never meet a distance that is new, and a layer without positions has none to meet: RNoPE-SWA
(arXiv 2501.18795) and SWAN-GPT (arXiv 2504.08719), which scales the scores of such layers with ln n. The middle layer can find a key by what the
layer below wrote beside it. Models, data and measures are those of softplus_attention/text. The window of 128 and the weights of the
outer layers were chosen on a seed of their own: with windows of 256, or softmax in the outer layers, no key was found beyond the window.
local_15_rope and local_rope were declared as controls; the claim local-rope was written when the runs of the first were known.
Four to ten minutes an arm, two at a time on 2 cores; an hour and a half in all.
Deviations: as in softplus_attention/text; the papers train with far larger windows (RNoPE-SWA 8,192 tokens) and several layers of both kinds.
"""
from dataclasses import replace

from lcref import claims
from lcref.claims import Claim, of
from lcref.experiment import Figure, load
from lcref.nn.positions import Nope
from lcref.ops.weights import Cosine, LogN, Lssar, Softmax

TEXT, = load("softplus_attention/text")
L = 256                                                        # trained length
MIXED, COSINE, TURNED, LOG_N = "local_15", "local_cosine", "local_15_rope", "local_log_n"
NEAR, ROPE = "local_15_near", "local_rope"
SOFTMAX, EVERYWHERE = "rope_long", "cosine_then_15_fast_long"


def runs(known):
    def steps(run, times):
        return replace(run, train=replace(run.train, steps=int(times * run.train.steps)))

    def layers(name, middle, times, position=Nope(), window=L // 2):
        run = known[name]
        pattern = (replace(run.model.mixer, window=window), replace(run.model.mixer, position=position, weights=middle))
        return steps(replace(run, model=replace(run.model, pattern=pattern)), times)
    cosine = layers("cosine", Cosine(), 2 * 3 / 4)
    return {
        MIXED: replace(layers("cosine", Lssar(15), 2 / 4), start=cosine),
        NEAR: replace(layers("cosine", Lssar(15), 2 / 4, window=L // 4), start=layers("cosine", Cosine(), 2 * 3 / 4, window=L // 4)),
        COSINE: cosine,
        TURNED: replace(layers("cosine", Lssar(15), 2 / 4, None), start=layers("cosine", Cosine(), 2 * 3 / 4, None)),
        ROPE: layers("rope", Softmax(), 2, None),
        LOG_N: layers("rope", LogN(L), 2),
        SOFTMAX: steps(known["rope"], 2),
        EVERYWHERE: replace(steps(known["lssar_15"], 2 / 4), start=steps(known["cosine"], 2 * 3 / 4)),
    }


RUNS = {size: runs(known) for size, known in TEXT.runs.items()}
SEEDS = 3
PAPER = TEXT.paper
LOSSES = ("context_loss", "chunk_loss")
FAR = (496, 1008, 2032, 4080)


def flat(share, run, times):
    return claims.flat(run, LOSSES, [n * L for n in times], L, share)


CLAIMS = (
    Claim("local-flat", "With one layer without positions between local ones LSSAR stays within 5 % to 16 times the trained length.",
          source="arXiv 2501.13428, 2504.08719", published="nearly constant (abstract of 2501.13428)", holds=flat(0.05, MIXED, (4, 8, 16))),
    Claim("local-recall", "And it finds keys at all lengths to 16 times the trained one; from 8 times on RoPE over whole rows in every layer "
          "finds none.",
          holds=(*(of(MIXED, "key_recall", distance) >= 0.95 for distance in FAR),
                 *(of(run, "key_recall", distance) <= 0.25 for run in (SOFTMAX, EVERYWHERE) for distance in FAR[2:]))),
    Claim("local-near", "With windows of 64 too it finds keys at all lengths to 16 times the trained one, stays within 5 %, and is no dearer "
          "nearby, to 1 %.",
          holds=(*(of(NEAR, "key_recall", distance) >= 0.95 for distance in FAR), *flat(0.05, NEAR, (4, 8, 16)),
                 *(of(NEAR, loss, L) <= 1.01 * of(MIXED, loss, L) for loss in LOSSES))),
    Claim("local-log-n", "Softmax with ln n in the same layers is flat as well, to 6 %, and in most seeds finds no key beyond its windows.",
          source="arXiv 2504.08719", amended="a distance of 240 was added",
          holds=(*flat(0.06, LOG_N, (4, 8, 16)), *(of(LOG_N, "key_recall", distance) <= 0.25 for distance in (240, *FAR)))),
    Claim("local-re-weighted", "Before the steps with a power of 15 it finds fewer keys at 16 times the trained length.",
          holds=(of(COSINE, "key_recall", 4080) <= of(MIXED, "key_recall", 4080) - 0.1,)),
    Claim("local-no-positions", "With RoPE in the middle layer too it finds fewer keys at 16 times the trained length, and its loss rises by more.",
          source="arXiv 2501.18795, 2504.08719",
          holds=(of(TURNED, "key_recall", 4080) <= of(MIXED, "key_recall", 4080) - 0.1,
                 *(claims.rise(TURNED, loss, 16 * L, L) > claims.rise(MIXED, loss, 16 * L, L) for loss in LOSSES))),
    Claim("local-rope", "So arranged, with RoPE in all layers, LSSAR stays within 5 % to 16 times the trained length and is as good nearby as "
          "softmax in every layer, to 1 %; softmax so arranged rises by more than 5 %.",
          holds=(*flat(0.05, TURNED, (4, 8, 16)), *(of(TURNED, loss, L) <= 1.01 * of(SOFTMAX, loss, L) for loss in LOSSES),
                 of(ROPE, "context_loss", 16 * L) > 1.05 * of(ROPE, "context_loss", L))),
    Claim("local-dear", "Without positions in the middle layer it is dearer nearby than softmax with RoPE in every layer, by more than 5 %.",
          holds=tuple(of(MIXED, loss, L) > 1.05 * of(SOFTMAX, loss, L) for loss in LOSSES)),
)
ROWS = dict(x_label="bytes in the row", trained_to="data.text.length", log_x=True)
LOSS = dict(y_label="loss (nats per byte)", lower_is_better=True, **ROWS)
FIGURES = (
    Figure("context_loss", title="Loss of the same bytes: local layers and one without positions", **LOSS),
    Figure("chunk_loss", title="Mean loss of whole rows: local layers and one without positions", **LOSS),
    Figure("context_loss", title="Loss of the same bytes: what stays flat", runs=(MIXED, NEAR, COSINE, TURNED, LOG_N, EVERYWHERE), **LOSS),
    Figure("key_recall", title="A key among the text, asked for later (chance: 0.1): local layers", y_label="answered right",
           **ROWS | dict(x_label="bytes between key and question")),
    Figure("weight_entropy", title="Entropy of the attention weights: local layers", y_label="nats", **ROWS),
)
