import os, sys
from dataclasses import replace
from lcref.experiment import load
from lcref.running import run_all, Watch, check
from lcref.nn.mixers.mamba2 import Mamba2Config
runs = load("state_space/parity")[0].runs["cpu"]
b = runs["mamba2_signed"]
ev = (replace(b.evals[0], lengths=(20, 40, 64, 128, 256), samples=200, seed=20_000),)
b = replace(b, evals=ev, seed=100)
def mix(**k): return dict(mixer=Mamba2Config(16, allow_neg_eigval=True, **k))
V = {
 "base": (dict(), dict()),
 "dt1": (mix(dt_min=.1, dt_max=1.), dict()),
 "dt1L1": (mix(dt_min=.1, dt_max=1.) | dict(layers=1), dict()),
 "L1": (dict(layers=1), dict()),
 "dt1b256": (mix(dt_min=.1, dt_max=1.), dict(batch=256)),
 "dt1lr5": (mix(dt_min=.1, dt_max=1.), dict(learning_rate=5e-3)),
 "dt1lr5s6k": (mix(dt_min=.1, dt_max=1.), dict(learning_rate=5e-3, steps=6000)),
 "dt1lr5L1nf": (mix(dt_min=.1, dt_max=1.)|dict(layers=1, feed_forward=None), dict(learning_rate=5e-3)),
 "dt1lr5nf": (mix(dt_min=.1, dt_max=1.)|dict(feed_forward=None), dict(learning_rate=5e-3)),
 "dt1s10k": (mix(dt_min=.1, dt_max=1.), dict(steps=10000)),
 "dt1L1s10k": (mix(dt_min=.1, dt_max=1.)|dict(layers=1), dict(steps=10000)),
 "dt1L1lr5": (mix(dt_min=.1, dt_max=1.)|dict(layers=1), dict(learning_rate=5e-3)),
 "dt1wd": (mix(dt_min=.1, dt_max=1.), dict(weight_decay=.1)),
 "dt1L1wd": (mix(dt_min=.1, dt_max=1.)|dict(layers=1), dict(weight_decay=.1)),
}
found = {}
for n in sys.argv[2:]:
    m, t = V[n]
    found[n] = replace(b, model=replace(b.model, **m), train=replace(b.train, **t))
    print(n, found[n].train)
class W(Watch):
    def done(self, name, lines):
        for l in lines: print(l["run"], l["seed"], {k: round(v, 3) for k, v in l["metrics"]["exact_match"].items()}, l["seconds"], l["steps_per_second"], flush=True)
for r in found.values(): check(r)
e = replace(load("state_space/parity")[0], runs={"cpu": found}, name="tune_parity", claims=(), figures=())
run_all(e, "cpu", int(os.environ.get("SEEDS", 1)), sys.argv[1], jobs=int(os.environ.get("JOBS", 1)), together=False, watch=W())
