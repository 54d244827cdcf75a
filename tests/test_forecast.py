"""What a run will cost: products counted as they are computed, sizes that are too large left alone, nothing written."""
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from lcref import forecast
from lcref.cli import main
from lcref.experiment import load

RUN = load("quickstart/copy")[0].runs["smoke"]["rope"]


def counted(f, *shapes):
    return forecast.products(jax.make_jaxpr(f)(*(jnp.zeros(shape) for shape in shapes)).jaxpr)


def test_a_matrix_product_and_its_gradients():
    product = lambda x, w: (x @ w).sum()
    assert counted(product, (3, 5), (5, 7)) == 2 * 3 * 5 * 7
    assert counted(jax.value_and_grad(product, argnums=(0, 1)), (3, 5), (5, 7)) == 3 * 2 * 3 * 5 * 7
    assert counted(lambda x, w: jnp.einsum("bij,bjk->bik", x, w), (4, 3, 5), (4, 5, 7)) == 4 * 2 * 3 * 5 * 7


def test_loops_and_branches():
    w = jnp.ones((5, 5))
    assert counted(lambda x: jax.lax.scan(lambda x, _: (x @ w, None), x, None, length=11)[0], (3, 5)) == 11 * 2 * 3 * 5 * 5
    assert counted(jax.jit(jax.checkpoint(lambda x: x @ w)), (3, 5)) == 2 * 3 * 5 * 5
    assert counted(lambda x: jax.lax.cond(x.sum() > 0, lambda x: x @ w @ w, lambda x: x @ w, x), (3, 5)) == 2 * 2 * 3 * 5 * 5
    conv = lambda x: jax.lax.conv_general_dilated(x, jnp.ones((4, 3, 5)), (1,), "VALID")                # [N,C,W] with [O,I,W]
    assert counted(conv, (2, 3, 9)) == 2 * (2 * 4 * 5) * 3 * 5


def test_a_run(monkeypatch):
    found = forecast.forecast(RUN)
    monkeypatch.setattr(forecast, "LIMIT", 0)                                                           # not compiled once more
    again = forecast.forecast(replace(RUN, train=replace(RUN.train, steps=10 * RUN.train.steps)))
    assert 0 < found.seconds < 60 and again.tokens == 10 * found.tokens and again.flops == found.flops
    width = found.tokens / RUN.train.steps / RUN.train.batch
    matrices = found.parameters - RUN.model.vocab * RUN.model.d_model                                   # the embedding is looked up
    assert 6 * matrices * RUN.train.batch * width * 0.9 < found.flops < 6 * matrices * RUN.train.batch * width * 3
    assert found.memory > 4 * 3 * found.parameters, "the parameters and two moments at least"


def test_too_large_to_try(monkeypatch):
    monkeypatch.setattr(forecast, "LIMIT", 0)
    found = forecast.forecast(RUN)
    assert found.seconds is None and found.memory == 16 * found.parameters and found.flops > 0
    assert "not timed: a step is too large" in list(forecast.table([("rope", found)], ["rope"], 3))[-1]


def test_the_table():
    row = forecast.Forecast(268_000, 5_380_000, 2.48e9, 56_400_000, 60.0)
    assert list(forecast.table([("rope", row), ("nope", replace(row, seconds=7200.0))], ["rope", "nope"], 3)) == [
        "      parameters    tokens  FLOPs a step    memory     a seed",
        "rope       268 k    5.38 M        2.48 G   56.4 MB       60 s",
        "nope       268 k    5.38 M        2.48 G   56.4 MB      2.0 h",
        "2 trainings, 3 seeds, one after another: 6.0 h; evaluations come on top"]


def test_the_command_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "quickstart/copy", "--size", "smoke", "--only", "rope,nope", "--seeds", "2", "--dry"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("quickstart/copy (smoke)\n") and "2 trainings, 2 seeds" in said and not list(tmp_path.iterdir())


@pytest.mark.parametrize("words, named", [(["--only", "rop"], "did you mean rope?"), (["--set", "model.layers=x"], "model.layers")])
def test_what_cannot_be_forecast(words, named, capsys):
    assert main(["run", "quickstart/copy", "--size", "smoke", "--dry", *words]) == 2
    assert named in capsys.readouterr().err
