"""Does a Mamba-2 trained on short rows forget when rows get long, or does its state collapse? And what helps?

Byte models of two Mamba-2 layers, trained on 128 bytes of Python at a time, read to 8,192 and as one stream of a million bytes. A state that
is large for the length it was trained on need not forget to do well there; past it old bytes pile up, and what reads the state has never
seen one like it (state collapse, arXiv 2410.07145). By state size; then one set of weights with what needs no training: forget more, a
capped state, recent tokens only; and what does: longer rows, as many bytes a step.

Chunk loss is the mean over whole rows of each length, cut from the same text; the spread of the states is shown beside it, and how much of
the first byte is left in the head that forgets least. The settings of the remedies were set beforehand and not tuned.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.data.text import Text
from lcref.evaluate import ChunkLoss, PositionLoss, StateSpread, StreamLoss
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.positions import Nope
from lcref.ops.ssm.forgetting import CapState, ForgetMore, RecentOnly
from lcref.train import TrainConfig

L, FAR = 128, 8192
SIZES = (16, 64, 256)


def runs(base, sizes=SIZES, longer=1024, remedies=(ForgetMore(1.5), CapState(4.0), RecentOnly(L))):
    def state(n):
        return replace(base, model=replace(base.model, mixer=replace(base.model.mixer, state=n)))

    def reading(run, memory):
        found = replace(run, read=replace(run.model, mixer=replace(run.model.mixer, memory=memory)))
        return replace(found, evals=tuple(ev for ev in run.evals if not (isinstance(ev, StateSpread) and isinstance(memory, RecentOnly))))
    largest = state(max(sizes))
    names = ("forget_more", "cap_state", "recent_only")
    return ({f"state_{n}": state(n) for n in sizes} | {name: reading(largest, memory) for name, memory in zip(names, remedies)}
            | {"longer": replace(largest, data=replace(base.data, length=longer), train=replace(base.train, batch=base.train.batch * L // longer))})


LENGTHS = tuple(2**i for i in range(6, 14))
CPU = Run(
    model=DecoderConfig(vocab=257, d_model=64, layers=2, mixer=Mamba2Config(), position=Nope(), feed_forward=None),
    data=Text(length=L),
    train=TrainConfig(steps=2000, batch=32, learning_rate=2e-3, warmup=50),
    evals=(ChunkLoss(LENGTHS, windows=16), PositionLoss(FAR, bucket=L, windows=16), StateSpread(FAR, every=L // 2), StreamLoss(1_000_000)),
)
SMOKE = replace(CPU, model=replace(CPU.model, d_model=16, layers=1), train=TrainConfig(steps=4, batch=8, warmup=1, steps_per_call=2),
                evals=(ChunkLoss((64, 128), windows=2), PositionLoss(256, bucket=64, windows=2), StateSpread(256, every=64, windows=2), StreamLoss(512, 256)))
RUNS = {"smoke": runs(SMOKE, sizes=(4, 8), longer=512), "cpu": runs(CPU)}
SEEDS = 3
PAPER = {"state_256": "Mamba-2 370M, trained to 8k, collapses soon past it on every prompt of one repeated character; the three methods carry it past a "
                      "million tokens (arXiv 2410.07145, version 1)"}
loss = lambda run, length: of(run, "chunk_loss", length)
CLAIMS = (
    Claim("collapse", "A Mamba-2 whose state is large for its training length collapses past it.", source="arXiv 2410.07145",
          holds=(loss("state_256", FAR) >= 1.2 * loss("state_256", L), of("state_256", "state_spread_largest", FAR) >= 2 * of("state_256", "state_spread_largest", L))),
    Claim("small-states-forget", "A small state, which must forget, does not.", source="arXiv 2410.07145",
          holds=(loss("state_16", FAR) <= 1.05 * loss("state_16", L),)),
    Claim("remedies-hold", "One of three ways that need no training holds the loss over a million tokens.", source="arXiv 2410.07145",
          holds=(of("recent_only", "stream_loss", 1_000_000) <= 1.05 * loss("state_256", L),)),
    Claim("longer-rows", "Training on longer rows teaches to forget.", source="arXiv 2410.07145", holds=(loss("longer", FAR) <= 1.05 * loss("longer", 1024),)),
)
FIGURES = (
    Figure("chunk_loss", title="Mean loss of whole rows", x_label="bytes in the row", y_label="loss (nats per byte)", trained_to=L, log_x=True,
           lower_is_better=True),
    Figure("state_spread_largest", title="The largest state of a head: its standard deviation", x_label="bytes read", trained_to=L, log_x=True),
    Figure("first_token_left", title="What is left of the first byte in the head that forgets least", x_label="bytes read", trained_to=L, log_x=True),
    Figure("stream_loss", title="A stream of a million bytes", x_label="bytes read", y_label="loss (nats per byte)", log_x=True, lower_is_better=True),
)
