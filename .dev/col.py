import os, sys
from dataclasses import replace
from lcref.experiment import load, Run
from lcref.running import run_all, Watch, check
from lcref.data.text import Text
from lcref.data.keyed import Keyed
from lcref.evaluate import *
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.ops.ssm.forgetting import CapState, ForgetMore, RecentOnly
runs = load("state_space/collapse")[0].runs["cpu"]
b = replace(runs["state_64"], seed=100, data=Keyed(Text(corpus="stdlib", length=128), keys=10, span=1))
b = replace(b, model=replace(b.model, vocab=b.data.vocab))
b = replace(b, evals=(ChunkLoss((128, 1024, 8192), windows=8, split="test", seed=1), StateSpread(8192, every=64, split="test", windows=4),
    KeyRecall((32, 100, 233, 1001, 4001), questions=64, split="test", seed=5)))
def var(state=64, span=1, keys=10, dt_min=1e-3, dt_max=.1, A=(1., 16.), memory=None, steps=2000, lr=2e-3):
    d = Keyed(Text(corpus="stdlib", length=128), keys=keys, span=span)
    m = replace(b.model, vocab=d.vocab, mixer=Mamba2Config(state, dt_min=dt_min, dt_max=dt_max, A_min=A[0], A_max=A[1]))
    return replace(b, data=d, model=m, train=replace(b.train, steps=steps, learning_rate=lr))
V = {"k64": var(64), "k256": var(256), "s64": var(64, span=8), "s256": var(256, span=8), "slow64": var(64, dt_min=1e-4), "slow256": var(256, dt_min=1e-4),
     "slows64": var(64, span=8, dt_min=1e-4, A=(.1, 1.)), "lo64": var(64, dt_min=1e-4, dt_max=1e-2, A=(1., 1.0001))}
found = {n: V[n] for n in sys.argv[2:]}
class W(Watch):
    def done(self, name, lines):
        for l in lines: print(l["run"], l["seed"], {m: {k: round(v, 3) for k, v in s.items() if k in ("128","1024","8192","32","100","233","1001","4001")} for m, s in l["metrics"].items()}, l["seconds"], l["steps_per_second"], flush=True)
for r in found.values(): check(r)
e = replace(load("state_space/collapse")[0], runs={"cpu": found}, name="tune_collapse", claims=(), figures=())
run_all(e, "cpu", int(os.environ.get("SEEDS", 1)), sys.argv[1], jobs=int(os.environ.get("JOBS", 1)), together=False, watch=W())
