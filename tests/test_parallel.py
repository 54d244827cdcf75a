"""Rows over several devices: the same training as on one, whatever the rows weigh. Devices are made of one CPU, in a process of its own."""
import json
import os
import subprocess
import sys

import numpy as np

from lcref import parallel
from tests.tolerances import assert_close

PROGRAM = """
import json
import jax
from lcref import parallel
from lcref.data.text import Text
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Randomized, Rope
from lcref.tasks import Copy, TaskSource
from lcref.train import TrainConfig, train

def trained(source, position, batch, seeds=(0,)):
    cfg = TrainConfig(steps=2, batch=batch, warmup=1, steps_per_call=1)
    model = DecoderConfig(vocab=source.vocab, d_model=8, layers=1, mixer=AttentionConfig(heads=2), position=position, feed_forward=None)
    found = train(model, source, cfg, seeds)
    return [one.loss for one in found], [jax.device_get(one.decoder.embedding.embedding[...]).tolist() for one in found]

copy = TaskSource(Copy(), 1, 20)
cases = {"six rows, ids drawn": (copy, Randomized(Rope(), 64), 6), "two seeds": (copy, Rope(), 8, (0, 1)),
         "packed": (Text(length=32, packing="best_fit"), Rope(), 4)}
found, used = {}, [parallel.devices_for(rows) for rows in (5, 6, 8)]
for name, case in cases.items():
    found[name] = [trained(*case)]
parallel.devices_for = lambda rows: 1
jax.clear_caches()
for name, case in cases.items():
    found[name].append(trained(*case))
print(json.dumps({"used": used, "found": found}))
"""


def test_rows_over_devices_train_as_on_one():
    """Losses and the embedding after two steps, on four devices and on one. Copies of different lengths weigh differently on each."""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["used"] == [1, 3, 4]
    for several, one in said["found"].values():
        for got, want in zip(several, one, strict=True):
            assert_close(np.array(got), np.array(want))


def test_a_number_of_rows_finds_its_devices(monkeypatch):
    monkeypatch.setattr(parallel.jax, "devices", lambda: list(range(8)))
    assert [parallel.devices_for(rows) for rows in (1, 2, 6, 7, 8, 12, 15, 64)] == [1, 2, 6, 7, 8, 6, 5, 8]
