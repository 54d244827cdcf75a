"""Which of RoPE's planes may turn where a row is read whole, if keys are to be found at sixteen times the trained length and the loss is to stay?

    local_15              none, in the middle one of three layers; the outer two have RoPE and see 128 bytes (softplus_attention/local)
    local_15_rope         all 32 (softplus_attention/local)
    local_15_p            the 13 that turn at least once in the trained length, 256 bytes: p-RoPE (arXiv 2410.06205)
    local_15_truncated    these 13, and of the slower ones eight that turn once in 4,096 bytes: Giraffe's truncated basis (arXiv 2308.10882)
    first_15_p            local_15_p with the whole rows in the first layer, the other two local: is the search learned more surely there?
    everywhere_p          p-RoPE and whole rows in all three layers
    cosine_then_15_fast_long    RoPE and whole rows in all three layers (softplus_attention/longer)
    rope_long             the same with softmax (softplus_attention/longer)

All but the last have softmax of normalised scores (cosine) for 3,000 steps, then LSSAR with a power of 15 for 1,000. A plane that turned fully in
training has shown every angle it will ever show; one that does not turn has no angle to show; the others show new ones in longer rows. Models, data
and measures are those of softplus_attention/text. The runs that begin here were each tried on a seed of their own before the claims were written;
first_15_p, on two such seeds, when the others were known: of local_15_p only one seed of three had learned the search.
Six to nine minutes a run of these, two at a time on 2 cores; an hour and three quarters for all eight. Deviations: as in softplus_attention/local.
"""
from dataclasses import replace

from lcref import claims
from lcref.claims import Claim, of
from lcref.experiment import Figure, load
from lcref.nn.positions import Rope
from lcref.ops.rope_scaling import PRope, Truncated

LOCAL, = load("softplus_attention/local")
L = 256                                                        # trained length
NONE, ALL, FAST, GIRAFFE, FIRST = "local_15", "local_15_rope", "local_15_p", "local_15_truncated", "first_15_p"
EVERYWHERE_FAST, EVERYWHERE, SOFTMAX = "everywhere_p", "cosine_then_15_fast_long", "rope_long"
P_ROPE, TRUNCATED = Rope(scaling=PRope(13 / 32)), Rope(scaling=Truncated(L))


def runs(known):
    def changed(name, change):
        run = known[name]
        return replace(run, model=change(run.model), start=replace(run.start, model=change(run.start.model)))

    def middle(position):
        return changed(NONE, lambda model: replace(model, pattern=(model.pattern[0], replace(model.pattern[1], position=position))))

    def first(position):
        return changed(NONE, lambda model: replace(model, pattern=(replace(model.pattern[1], position=position), *2 * model.pattern[:1])))
    return {NONE: known[NONE], ALL: known[ALL], FAST: middle(P_ROPE), GIRAFFE: middle(TRUNCATED), FIRST: first(P_ROPE),
            EVERYWHERE_FAST: changed(EVERYWHERE, lambda model: replace(model, position=P_ROPE)),
            EVERYWHERE: known[EVERYWHERE], SOFTMAX: known[SOFTMAX]}


RUNS = {size: runs(known) for size, known in LOCAL.runs.items()}
SEEDS = 3
PAPER = LOCAL.paper
LOSSES = ("context_loss", "chunk_loss")
FAR = (496, 1008, 2032, 4080)


def rise(run, metric="context_loss"):
    return claims.rise(run, metric, 16 * L, L)


CLAIMS = (
    Claim("fast-keys", "With the fast planes alone in the middle layer keys are found at all lengths to 16 times the trained one.",
          source="arXiv 2410.06205", holds=tuple(of(FAST, "key_recall", distance) >= 0.95 for distance in FAR)),
    Claim("fast-cheaper", "Nearby that is cheaper than no positions there, by 1 % or more.",
          holds=tuple(of(FAST, loss, L) <= 0.99 * of(NONE, loss, L) for loss in LOSSES)),
    Claim("fast-rises", "But its loss does not stay: at 16 times the same bytes cost more than 5 % more, and more is added than without positions.",
          holds=(of(FAST, "context_loss", 16 * L) > 1.05 * of(FAST, "context_loss", L), rise(FAST) > rise(NONE))),
    Claim("first-keys", "With the fast planes alone and whole rows in the first layer, the others local, keys are found at all lengths to 16 times "
          "the trained one.", source="arXiv 2410.06205", holds=tuple(of(FIRST, "key_recall", distance) >= 0.95 for distance in FAR)),
    Claim("first-surely", "In the first layer the search is learned more surely than in the middle one: more keys are found already at 240 bytes.",
          holds=(of(FIRST, "key_recall", 240) >= of(FAST, "key_recall", 240) + 0.5,)),
    Claim("first-rises", "At 16 times the trained length the same bytes cost more than 5 % more, whole rows less, and both rise by less than "
          "with whole rows in every layer.",
          holds=(of(FIRST, "context_loss", 16 * L) > 1.05 * of(FIRST, "context_loss", L), *claims.flat(FIRST, ("chunk_loss",), (16 * L,), L, 0.05),
                 *(rise(FIRST, loss) < rise(EVERYWHERE_FAST, loss) for loss in LOSSES))),
    Claim("first-near", "Nearby it is as good as softmax with RoPE in every layer, to 1 %.",
          holds=tuple(of(FIRST, loss, L) <= 1.01 * of(SOFTMAX, loss, L) for loss in LOSSES)),
    Claim("everywhere-keys", "With the fast planes alone and whole rows in every layer keys are found at all lengths to 16 times the trained one; "
          "with all planes none is found from 8 times on.", source="arXiv 2410.06205",
          holds=(*(of(EVERYWHERE_FAST, "key_recall", distance) >= 0.95 for distance in FAR),
                 *(of(EVERYWHERE, "key_recall", distance) <= 0.25 for distance in FAR[2:]))),
    Claim("everywhere-rises", "There the loss rises by more than where the outer layers see 128 bytes.",
          holds=tuple(rise(EVERYWHERE_FAST, loss) > rise(FAST, loss) for loss in LOSSES)),
    Claim("giraffe-flat", "With eight planes of one turn in 4,096 bytes beside the fast ones the loss stays within 5 % to 16 times.",
          holds=claims.flat(GIRAFFE, LOSSES, [n * L for n in (4, 8, 16)], L, 0.05)),
    Claim("giraffe-keys", "And keys are found at 4,080 bytes, after a whole turn of these, but not at 2,032, after half of one.",
          amended="that far fewer are found at 2,032 in place of few", holds=(
              of(GIRAFFE, "key_recall", 4080) >= 0.75, claims.rise(GIRAFFE, "key_recall", 4080, 2032) >= 0.5)),
)
ROWS = dict(x_label="bytes in the row", trained_to="data.text.length", log_x=True)
LOSS = dict(y_label="loss (nats per byte)", lower_is_better=True, **ROWS)
FIGURES = (
    Figure("key_recall", title="A key among the text, asked for later (chance: 0.1): by the planes that turn", y_label="answered right",
           **ROWS | dict(x_label="bytes between key and question")),
    Figure("context_loss", title="Loss of the same bytes: by the planes that turn", **LOSS),
    Figure("context_loss", title="Loss of the same bytes: LSSAR by the planes that turn",
           runs=(NONE, ALL, FAST, GIRAFFE, FIRST, EVERYWHERE_FAST, EVERYWHERE), **LOSS),
    Figure("chunk_loss", title="Mean loss of whole rows: by the planes that turn", **LOSS),
    Figure("weight_entropy", title="Entropy of the attention weights: by the planes that turn", y_label="nats", **ROWS),
)
