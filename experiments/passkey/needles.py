"""Is the right one found, of several, and what if what was found says where to look next?

    multi_key     f N k3 v1 f f N k0 v7 f .. ? k0 | v7 $            four facts "N key value" in filler, one is asked for
    multi_value   one key of four, with two values, in the order in which they stand there
    multi_query   two of the four keys are asked for
    variables     SET x4 v7 f f SET x9 x4 .. v7 | x4 x9 $           two chains of names; who holds this value, from the first to the last?
    variables_turned   SET v7 x4 f f SET x4 x9 .. v7 | x4 x9 $      the same, told as "put v7 in x4"
    thread        k9 k4 k0 k7 k4 k2 .. k9 | k2 $                    a list of pairs; two steps from here lead where?
    thread_path   the same, with every step written down; thread_backward: so too, the pairs of a thread in the other order

A passkey (grid.py) asks whether one thing is found. The first four are kinds of RULER (arXiv 2404.06654), the threads are Needle Threading (arXiv
2411.05000), both in a small vocabulary. Trained on up to 50 tokens of filler (threads: 20 pairs), tested with up to 400 (80).
    window_nope   a layer of RoPE in a window of 3 tokens below one without positions whose logits sharpen with ln n: attention for length
    window_rope   the same, the second layer with RoPE as well: the control that should fail soon
    mamba2_closed a state of constant size, whose step sizes start small (grid.py)
Two layers of one width, one rate, one budget; each learns first on short rows. The window is no wider than an answer needs (what was asked two tokens
ago): with 8 tokens instead, training found the search many times later, or not at all (tried on other seeds). Two steps without writing may be more than
two layers can look up, one to know what stood before and one to find it; written down, every step is a search of its own.

Every token of the answer right; guessing is right once in sixteen, or less. Two at a time on 2 cores half a minute to four a run, an hour
and a half in all.
Deviation: the originals are English text and UUIDs, read by models of billions of parameters that were not trained on them.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.evaluate import ExactMatch
from lcref.experiment import Figure, Run
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.positions import Nope, Rope
from lcref.ops.weights import LogN
from lcref.tasks import Needles, TaskSource, Thread, VariableTracking
from lcref.train import TrainConfig

FILLED = {
    "multi_key": Needles(), "multi_value": Needles(needles=4, values_each=2), "multi_query": Needles(queries=2),
    "variables": VariableTracking(chains=2, hops=1), "variables_turned": VariableTracking(chains=2, hops=1, begins="held"),
}
THREADS = {"thread": Thread(hops=2), "thread_path": Thread(hops=2, path=True), "thread_backward": Thread(hops=2, path=True, direction="backward")}
TASKS = FILLED | THREADS


MODELS = ("window_nope", "window_rope", "mamba2_closed")
FAR = ("window_nope", "mamba2_closed")                         # those that should go far


def models(heads):
    near, search = replace(heads, window=3, position=Rope()), replace(heads, weights=LogN(64))
    return {"window_nope": dict(pattern=(near, search)), "window_rope": dict(pattern=(near, replace(search, position=Rope()))),
            "mamba2_closed": dict(mixer=Mamba2Config(head_dim=16, dt_min=1e-4, dt_max=2e-4))}


def runs(base, heads, filled, threads, first):
    """filled, threads: (first trained to, trained to, tested at, how many times the steps). first: training on the short rows."""
    times = lambda train, n: replace(train, steps=n * train.steps)
    found = {}
    for name, task in TASKS.items():
        short, longest, tested, n = threads if name in THREADS else filled
        data = TaskSource(task, min_length=task.hops if name in THREADS else 4, max_length=longest)
        evals = (replace(base.evals[0], lengths=tested),)
        for model, change in models(heads).items():
            run = replace(base, data=data, evals=evals, train=times(base.train, n), model=replace(base.model, vocab=data.vocab, **change))
            found[f"{model}-{name}"] = replace(run, start=replace(run, data=replace(data, max_length=short), train=times(first, n)))
    return found


DATA = TaskSource(Needles(), min_length=4, max_length=50)
CPU = Run(
    model=DecoderConfig(vocab=DATA.vocab, d_model=64, layers=2, position=Nope(), embed_std=0.5),
    data=DATA,
    train=TrainConfig(steps=1000, batch=32, learning_rate=3e-3),
    evals=(ExactMatch(samples=200),),
)
FIRST = replace(CPU.train, steps=1000, batch=64)
GPU = replace(CPU, model=replace(CPU.model, d_model=256, layers=4), evals=(ExactMatch(samples=500),),
              train=TrainConfig(steps=6000, batch=64, learning_rate=1e-3, warmup=300, steps_per_call=100))
POD = replace(GPU, model=replace(GPU.model, d_model=1024, layers=24), train=replace(GPU.train, steps=10_000, learning_rate=3e-4, warmup=1000))
SMOKE = replace(CPU, model=replace(CPU.model, d_model=16), train=TrainConfig(steps=4, batch=8, warmup=1, steps_per_call=2),
                evals=(ExactMatch(samples=10),))
FEW = ("window_nope-multi_key", "window_rope-variables", "mamba2_closed-thread_path", "window_nope-thread_backward")
CPU_LENGTHS = (20, 50, (20, 50, 100, 200, 400), 1), (6, 20, (5, 10, 20, 30, 40, 80), 3)
GPU_LENGTHS = (50, 1000, (500, 1000, 2000, 4000, 8000), 1), (10, 40, (20, 40, 60, 80, 120, 160), 3)
POD_LENGTHS = (50, 8000, (4000, 8000, 16_000, 32_000), 1), GPU_LENGTHS[1]
RUNS = {
    "smoke": {name: run for name, run in runs(SMOKE, AttentionConfig(heads=4), (20, 100, (20, 100, 200), 1), (6, 20, (5, 20, 40), 1), SMOKE.train).items()
              if name in FEW},
    "cpu": runs(CPU, AttentionConfig(heads=4), *CPU_LENGTHS, FIRST),
    "gpu": runs(GPU, AttentionConfig(heads=8), *GPU_LENGTHS, replace(GPU.train, steps=2000, batch=128)),
    "paper": runs(POD, AttentionConfig(heads=16), *POD_LENGTHS, replace(POD.train, steps=2000, batch=128)),
}
SEEDS = 3
PAPER = {
    "ruler": "nearly perfect with one needle, and large drops with length on its other tasks, for almost all of 17 models (arXiv 2404.06654, abstract)",
    "threads": "of 17 models most follow threads that run forward better than those that run backward, and more threads cost little (arXiv "
               "2411.05000, abstract and results)",
}
RULER, THREADING = "arXiv 2404.06654", "arXiv 2411.05000"
at = lambda model, task, n: of(f"{model}-{task}", "exact_match", n)
CLAIMS = (
    Claim("learned", "Within the trained length every model finds the fact that is asked for, of four.",
          holds=tuple(at(model, "multi_key", n) >= 0.95 for model in MODELS for n in (20, 50))),
    Claim("attention-finds-the-right-one", "Local places and a search without positions find it, and two of four, in eight times the filler.",
          holds=tuple(at("window_nope", task, 400) >= 0.9 for task in ("multi_key", "multi_query"))),
    Claim("rope-fails", "A search with RoPE does not, at four times.",
          holds=(at("window_rope", "multi_key", 50) >= 0.95, at("window_rope", "multi_key", 200) <= 0.5)),
    Claim("more-to-find-is-harder", "Two values, or two queries, are harder than one, at four times the trained length and more.", source=RULER,
          holds=tuple(at(model, task, n) < at(model, "multi_key", n) for model in FAR for task in ("multi_value", "multi_query")
                      for n in (200, 400))),
    Claim("order-needs-positions", "A search without positions finds both values of a key and cannot say which came first; a state can.",
          holds=(at("window_nope", "multi_value", 50) <= 0.6, of("window_nope-multi_value", "token_accuracy", 50) >= 0.6,
                 at("mamba2_closed", "multi_value", 50) >= 0.9)),
    Claim("states-lose-some", "A state of constant size loses some of the facts as the filler grows; attention does not.",
          holds=tuple(at("mamba2_closed", task, 400) <= at("window_nope", task, 400) - 0.1 for task in ("multi_key", "multi_query"))),
    Claim("names-are-followed", "Names that hold names are followed, at twice the trained length.", source=RULER,
          holds=tuple(at(model, task, 100) >= 0.9 for model in FAR for task in ("variables", "variables_turned"))),
    Claim("what-stands-first", "They are learned where the text has what is asked by before what is asked for, and not where it stands behind.",
          holds=tuple(condition for model in MODELS for condition in (at(model, "variables_turned", 50) >= 0.9, at(model, "variables", 50) <= 0.5))),
    Claim("writing-the-path-helps", "A thread is followed further when each step is written down, by attention and by a state.", source=THREADING,
          holds=tuple(at(model, "thread_path", n) >= at(model, "thread", n) + 0.2 for model in FAR for n in (20, 40))),
    Claim("backward-is-harder", "Threads that run backward in the text are harder than those that run forward.", source=THREADING,
          holds=tuple(at(model, "thread_backward", n) <= at(model, "thread_path", n) - 0.05 for model in FAR for n in (20, 40))),
)
FILLER = dict(x_label="tokens of filler", log_x=True, trained_to="data.max_length", y_label="answers without an error")
FIGURES = (
    *(Figure("exact_match", title=title, runs=tuple(f"{model}-{name}" for model in MODELS), **FILLER) for name, title in {
        "multi_key": "One of four facts", "multi_value": "A fact with two values", "multi_query": "Two of four facts", "variables": "Chains of names",
        "variables_turned": "Chains of names, told the other way round",
    }.items()),
    Figure("exact_match", title="Threads of two steps through a list of pairs", x_label="pairs", trained_to="data.max_length",
           y_label="answers without an error", runs=tuple(f"{model}-{name}" for name in THREADS for model in MODELS)),
)
