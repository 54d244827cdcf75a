"""A byte language model read beyond its training length: whose loss stays where it was, and who still remembers?

Trained on 256 bytes of the Python standard library at a time. Then the same last 128 bytes of held-out files are predicted from 256,
512, ... 4096 bytes of context: a scheme that carries stays level or improves, one that does not gets worse the more it is shown
(RoPE: arXiv 2306.15595, section 1; ALiBi: arXiv 2108.12409). Loss alone can be fooled: RoPE in a sliding window of 32 is flat because it
forgets. So every training row also hides a key token and asks for it later, and a second figure shows who still answers when the
question comes further away than any in training. About a minute per run on 2 cores.

Size gpu is sized for three seeds in under an hour at 20 TFLOP/s; size paper trains at 1024 a model as large as that of ALiBi's first
experiments (16 layers, D = 1024, 8 heads). Neither has been run yet. Deviation: ALiBi's text was 103 million words; set
data.text.corpus=tfds:NAME for a text that feeds a model of that size. Both also measure the loss by position.
"""
from dataclasses import replace

from lcref.claims import Claim, of, within
from lcref.data.keyed import Keyed
from lcref.data.text import Text
from lcref.evaluate import ContextLoss, KeyRecall, PositionLoss
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Alibi, Nope, Rope
from lcref.train import TrainConfig

SCHEMES = {"rope": (Rope(), None), "nope": (Nope(), None), "alibi": (Alibi(), None), "rope_window": (Rope(), 32)}


def runs(base):
    return {name: replace(base, model=replace(base.model, position=scheme, mixer=replace(base.model.mixer, window=window)))
            for name, (scheme, window) in SCHEMES.items()}


DATA = Keyed(Text(corpus="stdlib", length=256), keys=10)
CPU = Run(
    model=DecoderConfig(vocab=DATA.vocab, d_model=128, layers=3, mixer=AttentionConfig(heads=4)),
    data=DATA,
    train=TrainConfig(steps=250, batch=16, learning_rate=2e-3, warmup=50, steps_per_call=25),
    evals=(ContextLoss(), KeyRecall((32, 64, 128, 240, 512, 1024))),
)
GPU = Run(
    model=replace(CPU.model, d_model=384, layers=6, mixer=AttentionConfig(heads=6)),
    data=DATA,
    train=TrainConfig(steps=4000, batch=64, learning_rate=1e-3, warmup=200, weight_decay=0.1, steps_per_call=100),
    evals=(ContextLoss((256, 512, 1024, 2048, 4096, 8192)), KeyRecall((32, 64, 128, 240, 512, 1024, 2048, 4096)), PositionLoss(4096)),
)
PUBLISHED = Run(
    model=replace(CPU.model, d_model=1024, layers=16, mixer=AttentionConfig(heads=8)),
    data=replace(DATA, text=replace(DATA.text, length=1024)),
    train=TrainConfig(steps=10_000, batch=64, learning_rate=5e-4, warmup=1000, weight_decay=0.1, steps_per_call=100),
    evals=(ContextLoss((1024, 2048, 4096, 8192, 16384)), KeyRecall((128, 512, 1000, 2048, 4096, 8192)), PositionLoss(16384, bucket=512)),
)
RUNS = {
    "smoke": runs(replace(CPU, model=replace(CPU.model, d_model=32, layers=2), train=TrainConfig(steps=4, batch=4, warmup=1, steps_per_call=2),
                          evals=(ContextLoss((256, 512), windows=2), KeyRecall((32, 240), questions=4)))),
    "cpu": runs(CPU),
    "gpu": runs(GPU),
    "paper": runs(PUBLISHED),
}
SEEDS = 3
PAPER = {"alibi": "trained at 1024, evaluated at 2048: the perplexity of sinusoidal positions trained at 2048 (arXiv 2108.12409, 1.3B parameters)"}
loss, recall = (lambda run, length: of(run, "context_loss", length)), (lambda run, distance: of(run, "key_recall", distance))
CLAIMS = (
    Claim("rope-rises", "RoPE's loss rises as soon as the context is longer than in training.", source="arXiv 2306.15595, section 1",
          amended="twice the trained length was added", holds=(loss("rope", 512) >= 1.05 * loss("rope", 256), loss("rope", 2048) >= 1.25 * loss("rope", 256))),
    Claim("alibi-stays", "ALiBi's loss does not.", source="arXiv 2108.12409", holds=(within(loss("alibi", 2048), 0.05, loss("alibi", 256)),)),
    Claim("flat-is-no-memory", "A flat loss is no proof of memory: a sliding window is flat, finds keys within its reach of 93 bytes, and answers none "
          "from beyond (chance 0.1).", amended="that it finds keys within its reach is asked as well",
          holds=(within(loss("rope_window", 2048), 0.05, loss("rope_window", 256)),
                 *(recall("rope_window", distance) >= 0.9 for distance in (32, 64)),
                 *(recall("rope_window", distance) <= 0.2 for distance in (128, 240, 512, 1024)))),
)
FIGURES = (
    Figure("context_loss", title="The same bytes, predicted from more and more context", x_label="bytes of context", y_label="loss (nats per byte)",
           trained_to="data.text.length", log_x=True, lower_is_better=True),
    Figure("key_recall", title="A key among the text, asked for later (chance: 0.1)", x_label="bytes between key and question",
           y_label="answered right", trained_to="data.text.length", log_x=True),
)
