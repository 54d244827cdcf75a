"""Who still finds four digits in a text many times longer than any in training, and does it matter where in the text they stand?

    ^ f0 f1 f2 KEY 4 1 7 2 f3 f4 f0 f1 ... ? 4 1 7 2 $        trained on rows of up to 128 tokens, tested with up to 2048 of filler

Passkey retrieval (arXiv 2305.16300) in a small vocabulary, by length and by depth: 0 is a key at the start, 1 right before the question.
Plain RoPE is the control that should fail soon; the same weights are also read with its frequencies scaled (`yarn`, `dynamic_ntk`, `linear`).
In rows of 128 a base of 10,000 turns a third of RoPE's planes, in the thousands of tokens of a language model two thirds: `rope_fast` has the base at
which two thirds turn in the rows it is trained on, (T / 2 pi)^(3/2), here 92. `p_rope` and `p_rope_fast` are these two with the planes stopped that
do not turn once in rows of 128 (arXiv 2410.06205): of 8 planes 3 and 6 are left. They were declared and run after all others, when
softplus_attention/positions had pointed to these planes.
NoPE; ALiBi; Hard-ALiBi (windows on half of the heads, no positions on the rest); the same with logits that sharpen with ln n, n the keys up to
a token, also on the heads with windows; a layer of
RoPE in a window of 16 below one that sees everything and has no positions (`window_nope`, sharpened as well; so arranged in arXiv 2501.18795 and
2504.08719). S4D, whose time scales input
cannot change, as it comes and with more of them over a wider range that learn at the full rate (`s4d_wide`). Mamba-2 as it comes, with eight heads
in place of two (`mamba2_heads`), with step sizes that start at 1e-4 to 2e-4 in place of 1e-3 to 1e-1 (`mamba2_slow`: what a token of filler writes
and erases goes with its step size), and with both (`mamba2_closed`). Mamba-2 below attention. Two layers of one width, one rate, one budget; each
learns first on rows of up to 35.

The filler in training is a cycle of five tokens. `_random` reads the same weights with the same five tokens in random order, which a state
cannot compress; `_decoy` with digits among them and spans "KEY2 d d d d" that are wrong, after a marker that no training row had.
A share of 100 problems at each length, 20 at each depth; guessing is right once in ten thousand.
One to five minutes for a trained run on one of two cores, an hour and a half in all on both. Size gpu trains on rows of 1,024, size paper on rows
of 8,192; neither has been run. Keys of eight digits are in passkey/eight.
Deviation: the original is a sentence in English text, read by models of billions of parameters.
"""
from dataclasses import replace

import numpy as np

from lcref.claims import Claim, of
from lcref.evaluate import DepthMatch
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.mixers.s4 import S4DConfig
from lcref.nn.positions import Alibi, HardAlibi, Nope, Rope
from lcref.ops.rope_scaling import DynamicNtk, Linear, PRope, Yarn, turning
from lcref.ops.weights import LogN
from lcref.tasks import Passkey, TaskSource
from lcref.train import TrainConfig

S = 8                                                          # how many times the trained length the scaled RoPE is meant for
CONSTANT = ("s4d", "s4d_wide", "mamba2", "mamba2_heads", "mamba2_slow", "mamba2_closed")
ROPES = ("rope", "rope_fast")
READ = ("linear", "yarn", "dynamic_ntk")
READ_FAST = tuple(f"{name}_fast" for name in READ)
FILLED = ("nope", "hard_alibi_log_n", "window_nope", "s4d_wide", "mamba2", "mamba2_closed", "mamba2_attention")
FILLERS = ("random", "decoy")
WINDOWS = (2, 4)                                               # of Hard-ALiBi, on half of the heads
SLOW = dict(dt_min=1e-4, dt_max=2e-4)                          # where the step sizes of Mamba-2 start
TURN = 2 * np.pi                                               # positions in which a plane of frequency 1 turns once


def models(base, heads, T):
    """T: tokens in the longest row of training."""
    sharp, local = replace(heads, weights=LogN(T // 2)), HardAlibi(windows=WINDOWS)
    rope, fast = Rope(), Rope(base=round((T / TURN) ** 1.5))
    stopped = lambda position: replace(position, scaling=PRope(turning(base.d_model // heads.heads, position.base, T)))
    changes = {
        "rope": dict(mixer=heads, position=rope), "rope_fast": dict(mixer=heads, position=fast),
        "p_rope": dict(mixer=heads, position=stopped(rope)), "p_rope_fast": dict(mixer=heads, position=stopped(fast)),
        "nope": dict(mixer=heads), "alibi": dict(mixer=heads, position=Alibi()),
        "hard_alibi": dict(mixer=heads, position=local), "hard_alibi_log_n": dict(mixer=sharp, position=local),
        "window_nope": dict(pattern=(replace(heads, window=16, position=Rope()), sharp)),
        "s4d": dict(mixer=S4DConfig()), "s4d_wide": dict(mixer=S4DConfig(state=128, dt_min=1e-4, dt_max=0.5, learning_rate=1.0)),
        "mamba2": dict(mixer=Mamba2Config()), "mamba2_heads": dict(mixer=Mamba2Config(head_dim=16)),
        "mamba2_slow": dict(mixer=Mamba2Config(**SLOW)), "mamba2_closed": dict(mixer=Mamba2Config(head_dim=16, **SLOW)),
        "mamba2_attention": dict(pattern=(Mamba2Config(), sharp)),
    }
    return {name: replace(base, **change) for name, change in changes.items()}


def runs(base, heads, first, further):
    """first: (data, train) that every run starts with. further: evaluations of models whose memory does not grow."""
    T = base.data.width
    start = replace(base, data=first[0], train=first[1])
    found = {name: replace(base, model=model, start=replace(start, model=model), evals=base.evals + further * (name in CONSTANT))
             for name, model in models(base.model, heads, T).items()}
    scaled = {"linear": Linear(S, T), "yarn": Yarn(S, T), "dynamic_ntk": DynamicNtk(1.0, T)}
    for base_of in ROPES:
        read = {name: replace(found[base_of].model, position=replace(found[base_of].model.position, scaling=scaled[name])) for name in READ}
        found |= {name + base_of.removeprefix("rope"): replace(found[base_of], read=model) for name, model in read.items()}
    other = {filler: tuple(replace(ev, task=replace(base.data.task, filler=filler)) for ev in base.evals) for filler in FILLERS}
    return found | {f"{name}_{filler}": replace(found[name], evals=evals) for filler, evals in other.items() for name in FILLED}


HEADS = AttentionConfig(heads=4)
DATA = TaskSource(Passkey(symbols=5), min_length=8, max_length=117)            # rows of up to 128 tokens
CPU = Run(
    model=DecoderConfig(vocab=DATA.vocab, d_model=64, layers=2, position=Nope(), embed_std=0.5),
    data=DATA,
    train=TrainConfig(steps=1000, batch=32, learning_rate=3e-3),
    evals=(DepthMatch((32, 117, 256, 512, 1024, 2048), samples=20),),
)
FIRST = replace(DATA, max_length=24), replace(CPU.train, steps=1000, batch=64)
LONG = TaskSource(Passkey(symbols=5), min_length=8, max_length=1013)           # of up to 1,024
GPU = replace(
    CPU,
    model=replace(CPU.model, d_model=256, layers=4),
    data=LONG,
    train=TrainConfig(steps=6000, batch=32, learning_rate=1e-3, warmup=300, steps_per_call=100),
    evals=(DepthMatch((117, 512, 1013, 2048, 4096, 8192, 16384), depths=(0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0), samples=20),),
)
LONG_FIRST = replace(LONG, max_length=53), replace(GPU.train, steps=2000, batch=128)
POD = replace(
    GPU,
    model=replace(GPU.model, d_model=1024, layers=24),
    data=replace(LONG, max_length=8181),                                       # of up to 8,192
    train=replace(GPU.train, steps=10_000, learning_rate=3e-4, warmup=1000),
    evals=(DepthMatch((1013, 4096, 8181, 16384, 32768), depths=GPU.evals[0].depths, samples=20),),
)
SMOKE = replace(CPU, model=replace(CPU.model, d_model=16), train=TrainConfig(steps=4, batch=8, warmup=1, steps_per_call=2),
                evals=(DepthMatch((32, 117, 256), depths=(0.0, 0.5, 1.0), samples=4),))
FEW = ("rope", "yarn", "window_nope", "s4d", "mamba2_attention_random", "s4d_wide_decoy")
RUNS = {
    "smoke": {name: run for name, run in runs(SMOKE, HEADS, (FIRST[0], SMOKE.train), (DepthMatch((512,), samples=4, depths=(0.0, 1.0)),)).items()
              if name in FEW},
    "cpu": runs(CPU, HEADS, FIRST, (DepthMatch((4096,), samples=20),)),
    "gpu": runs(GPU, AttentionConfig(heads=8), LONG_FIRST, (DepthMatch((32768, 65536), depths=GPU.evals[0].depths, samples=20),)),
    "paper": runs(POD, AttentionConfig(heads=16), LONG_FIRST, (DepthMatch((131072, 262144), depths=GPU.evals[0].depths, samples=20),)),
}
SEEDS = 3
PAPER = {
    "attention": "induction, trained at 256 tokens: attention with RoPE is right 31 % of the time at 4 times that (arXiv 2312.00752, appendix E, as "
                 "summarised by others)",
    "mamba2": "a Mamba-2 of 370M parameters, trained on long rows, finds a passkey in 256K tokens nearly always (arXiv 2410.07145, abstract)",
    "hybrid": "Mamba with windowed attention, 3.8B parameters, trained at 4K: perfect passkey at 256K after 500 steps at 4K (Samba, as summarised by "
              "others)",
}
at, cell = (lambda run, n: of(run, "depth_mean", n)), (lambda run, n, depth: of(run, "depth_match", f"{n}@{depth:g}"))
ATTENTION = ("rope", "rope_fast", "p_rope", "p_rope_fast", "nope", "alibi", "hard_alibi", "hard_alibi_log_n", "window_nope")
TRAINED = (*ATTENTION, *CONSTANT, "mamba2_attention")
CLAIMS = (
    Claim("all-find-nearby", "Within the trained length every model finds the key.",
          holds=tuple(at(run, n) >= 0.95 for run in TRAINED for n in (32, 117))),
    Claim("rope-fails", "Plain RoPE finds next to nothing at twice its training length.", source="arXiv 2306.15595, section 1",
          holds=tuple(part for run in ROPES for part in (at(run, 117) >= 0.95, at(run, 256) <= 0.2))),
    Claim("faster-rope-fails-sooner", "With two thirds of its planes turning within the trained length it fails sooner than with one third.",
          holds=(at("rope_fast", 117) >= 0.95, at("rope_fast", 256) <= at("rope", 256) - 0.2)),
    Claim("faster-rope-sees-no-further", "In rows of 256 it finds what stands no further back than keys in training did, and nothing else.",
          holds=(*(cell("rope_fast", 256, depth) <= 0.2 for depth in (0.0, 0.25, 0.5)), cell("rope_fast", 256, 0.75) >= 0.8)),
    Claim("slow-planes-end-the-search", "With the planes stopped that do not turn once within the trained length either RoPE finds more beyond it.",
          source="arXiv 2410.06205",
          holds=tuple(at(f"p_{base}", n) >= at(base, n) + 0.1 for base, n in (("rope", 512), ("rope_fast", 256), ("rope_fast", 512)))),
    Claim("scaled-rope-reads-on", "With its frequencies scaled the same weights find more, without training.", source="arXiv 2309.00071",
          holds=tuple(at(name + base.removeprefix("rope"), n) >= at(base, n) + 0.1
                      for base in ROPES for name in ("yarn", "dynamic_ntk") for n in (256, 512))),
    Claim("attention-finds-at-eight-times", "Attention whose places are local and whose search is position-free finds it at 1,024.",
          holds=(at("hard_alibi_log_n", 1024) >= 0.95, at("window_nope", 1024) >= 0.95)),
    Claim("states-find-at-eight-times", "So do states of constant size, in filler that they can foretell.", source="arXiv 2410.07145",
          published="Mamba-2, 370M, trained on long rows: nearly always at 256K",
          holds=(at("mamba2_closed", 1024) >= 0.95, at("s4d_wide", 1024) >= 0.95)),
    Claim("closed-start-remembers", "A Mamba-2 of more heads that start with small steps, closed to all input, keeps the key for longer.",
          amended="a tenth more, at 1,024 and 2,048, in place of any more, at 512 too",
          holds=tuple(at("mamba2_closed", n) >= at("mamba2", n) + 0.1 for n in (1024, 2048))),
    Claim("both-changes-count", "Neither the heads nor the small steps do it alone.",
          holds=tuple(at("mamba2_closed", 1024) >= at(run, 1024) + 0.1 for run in ("mamba2_heads", "mamba2_slow"))),
    Claim("more-scales-remember", "Of S4D, the one with more time scales over a wider range learns it, and remembers for longer.",
          holds=(at("s4d_wide", 117) >= 0.95, *(at("s4d_wide", n) > at("s4d", n) for n in (256, 512)))),
    Claim("sharper-finds-further", "A softmax that sharpens with ln n finds the key further away.",
          holds=tuple(at("hard_alibi_log_n", n) > at("hard_alibi", n) for n in (1024, 2048))),
    Claim("alibi-prefers-the-end", "ALiBi finds what stands near the question and not what stands at the start; NoPE has no such preference.",
          holds=(*(cell("alibi", n, 1.0) >= cell("alibi", n, 0.0) + 0.2 for n in (512, 1024)),
                 *(cell("nope", n, 1.0) <= cell("nope", n, 0.0) + 0.2 for n in (512, 1024)))),
    Claim("states-prefer-the-end", "A state that forgets finds late keys rather than early ones, at seventeen times the trained length and more.",
          holds=tuple(cell(run, n, 1.0) > cell(run, n, 0.0) for run in ("mamba2", "mamba2_closed") for n in (2048, 4096))),
    Claim("disorder-fills-states", "The same tokens in random order cost a state something, and attention next to nothing.",
          holds=(*(at(f"{run}_random", 512) <= at(run, 512) - 0.1 for run in ("mamba2", "mamba2_closed")),
                 *(at(f"{run}_random", 512) >= at(run, 512) - 0.1 for run in ("hard_alibi_log_n", "window_nope")))),
    Claim("decoys-are-harder", "Digits and wrong keys in the filler are harder than random filler, for every model.", source="arXiv 2402.05136",
          holds=tuple(at(f"{run}_decoy", 256) < at(f"{run}_random", 256) for run in FILLED)),
)
FILLER = dict(x_label="tokens of filler", log_x=True, trained_to="data.max_length")
MAP = dict(heat=True, x_label="tokens of filler", y_label="depth of the key")
KINDS = {"random": "the same tokens in random order", "decoy": "digits and wrong keys in the filler"}
FIGURES = (
    *(Figure("depth_mean", title=f"Passkeys found: {title}", y_label="found, mean over depths", runs=names, **FILLER) for title, names in {
        "attention by position scheme": ATTENTION, "one set of weights, RoPE scaled": ("rope", *READ),
        "the same for the RoPE that turns faster": ("rope_fast", *READ_FAST),
        "states of constant size, and one below attention": (*CONSTANT, "mamba2_attention"),
        **{KINDS[filler]: tuple(f"{name}_{filler}" for name in FILLED) for filler in FILLERS},
    }.items()),
    Figure("depth_match", title="Found by length and depth, trained to 117 (gpu: 1,013): attention", **MAP,
           runs=(*ATTENTION, *(f"{name}{which}" for which in ("", "_fast") for name in ("yarn", "dynamic_ntk")))),
    Figure("depth_match", title="Found by length and depth, trained to 117 (gpu: 1,013): states", runs=(*CONSTANT, "mamba2_attention"), **MAP),
    *(Figure("depth_match", title=f"Found by length and depth: {KINDS[filler]}", runs=tuple(f"{name}_{filler}" for name in FILLED), **MAP)
      for filler in FILLERS),
)
