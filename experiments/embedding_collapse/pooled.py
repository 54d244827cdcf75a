"""Do texts look the more alike to a model the longer they are, and does a lower temperature of its attention keep them apart?

Length collapse (arXiv 2410.24200): the mean of a transformer's last layer, used as a text's vector, is drawn to one direction as texts get long,
since attention spread over more tokens is a stronger low-pass filter; dividing the scores by a temperature below 1 (TempScale) after training is
said to help. Here a byte model with no positions (`nope`), and one with ALiBi, which looks far only on some of its heads, trained on
512 bytes of Python at a time; from each of 20 files two pieces that do not overlap. Three questions at every length: how alike are pieces of
different files (mean cosine), does a piece find the other one of its file among all 20 (chance 0.05), and what does the temperature cost in loss?

The control for the first: the mean of the tokens' embeddings, without any attention. Averaging over more tokens makes vectors alike by itself.
`nope_at_0.7` is the trained `nope`, read at a temperature of 0.7: nothing is trained again. Width, rate and embeddings are those that were chosen
for softplus_attention/text, nothing here was. Seven minutes for each model that is trained, two at a time on 2 cores; half an hour in all.
Deviations: a causal byte model and the files of Python's library, where the paper has encoders such as BERT and sets of MTEB.
"""
from dataclasses import replace

from lcref import claims
from lcref.claims import Claim, of
from lcref.data.text import Text
from lcref.evaluate import ContextLoss, EmbeddingSpread
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Alibi, Nope
from lcref.ops.weights import TempScale
from lcref.train import TrainConfig

SCHEMES = {"nope": Nope(), "alibi": Alibi()}
TEMPERATURES = (0.5, 0.7, 0.9)


def runs(base):
    found = {}
    for name, scheme in SCHEMES.items():
        model = replace(base.model, position=scheme)
        found[name] = replace(base, model=model)
        found |= {f"{name}_at_{tau:g}": replace(found[name], read=replace(model, mixer=replace(model.mixer, weights=TempScale(tau))))
                  for tau in TEMPERATURES}
    return found


DATA = Text(length=512)
LENGTHS = (64, 128, 256, 512, 1024, 2048)
CPU = Run(
    model=DecoderConfig(vocab=DATA.vocab, d_model=64, layers=3, mixer=AttentionConfig(heads=2, head_dim=64), embed_std=0.5),
    data=DATA,
    train=TrainConfig(steps=2000, batch=8, learning_rate=3e-3, warmup=50),
    evals=(EmbeddingSpread(LENGTHS, windows=20, split="test"), ContextLoss(LENGTHS, targets=64, split="test")),
)
SMOKE = replace(CPU, model=replace(CPU.model, d_model=16, layers=1), train=TrainConfig(steps=4, batch=2, warmup=1, steps_per_call=2),
                evals=(EmbeddingSpread((16, 64), windows=4), ContextLoss((16, 64), targets=8, windows=2)))
GPU = replace(CPU, model=replace(CPU.model, d_model=512, layers=8, mixer=AttentionConfig(heads=8), embed_std=0.02), data=replace(DATA, length=1024),
              train=TrainConfig(steps=5000, batch=32, learning_rate=1e-3, warmup=250, weight_decay=0.1, steps_per_call=100))
PUBLISHED = replace(GPU, model=replace(GPU.model, d_model=768, layers=12, mixer=AttentionConfig(heads=12)),
                    train=replace(GPU.train, steps=50_000, batch=256, learning_rate=6e-4, warmup=2000))
FEW = ("nope", "nope_at_0.5")
RUNS = {"smoke": {name: run for name, run in runs(SMOKE).items() if name in FEW}, "cpu": runs(CPU), "gpu": runs(GPU),
        "paper": runs(PUBLISHED)}
SEEDS = 3
SOURCE = "arXiv 2410.24200"
PAPER = {"gain": "with a temperature below 1: +0.53 % on 40 sets of MTEB, +0.82 % on LongEmbed (abstract, version 1)"}
rise = lambda run, metric="embedding_cosine": claims.rise(run, metric, 2048, 64)
CLAIMS = (
    Claim("collapse", "The longer two pieces of different files, up to the trained length, the more alike their vectors.", source=SOURCE,
          holds=tuple(of(run, "embedding_cosine", long) > of(run, "embedding_cosine", short)
                      for run in SCHEMES for short, long in zip(LENGTHS, LENGTHS[1:]) if long <= DATA.length)),
    Claim("collapse-goes-on", "And so on past the trained length.", source=SOURCE,
          holds=tuple(of(run, "embedding_cosine", long) > of(run, "embedding_cosine", short)
                      for run in SCHEMES for short, long in zip(LENGTHS, LENGTHS[1:]) if long > DATA.length)),
    Claim("more-than-averaging", "Their cosine rises by more than that of the embeddings' means, which starts higher and so has less room.",
          holds=tuple(rise(run) > rise(run, "input_cosine") for run in SCHEMES)),
    Claim("temperature-keeps-apart", "The lower the temperature, the less alike, at 512 bytes and more.", source=SOURCE,
          holds=tuple(of(one, "embedding_cosine", n) < of(other, "embedding_cosine", n) for run in SCHEMES for n in (512, 1024, 2048)
                      for one, other in zip((f"{run}_at_0.5", f"{run}_at_0.7", f"{run}_at_0.9"), (f"{run}_at_0.7", f"{run}_at_0.9", run)))),
    Claim("temperature-finds", "At a temperature of 0.9 more pieces find the other one of their file.", source=SOURCE,
          published="+0.53 % on MTEB, +0.82 % on LongEmbed",
          holds=tuple(of(f"{run}_at_0.9", "sibling_found", n) > of(run, "sibling_found", n) for run in SCHEMES for n in (1024, 2048))),
    Claim("temperature-costs", "It is not free: at a temperature of 0.7 the loss at the trained length is higher.",
          holds=tuple(of(f"{run}_at_0.7", "context_loss", 512) > of(run, "context_loss", 512) for run in SCHEMES)),
)
BYTES = dict(x_label="bytes in a piece", trained_to="data.length", log_x=True)
GROUPS = {name: (name, *(f"{name}_at_{tau:g}" for tau in TEMPERATURES)) for name in SCHEMES}
FIGURES = tuple(figure for name, names in GROUPS.items() for figure in (
    Figure("embedding_cosine", title=f"How alike pieces of different files are, {name}", y_label="mean cosine", runs=names, lower_is_better=True, **BYTES),
    Figure("sibling_found", title=f"Pieces that find the other one of their file, {name}", y_label="share", runs=names, **BYTES),
)) + (
    Figure("input_cosine", title="The control: means of embeddings alone", y_label="mean cosine", runs=tuple(SCHEMES), lower_is_better=True, **BYTES),
    Figure("context_loss", title="What the temperature costs", y_label="loss (nats per byte)", lower_is_better=True,
           runs=sum(GROUPS.values(), ()), **BYTES),
)
