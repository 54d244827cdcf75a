"""What the experiments declare can be run: every run of every size is built on shapes alone, and a figure of every size can be drawn."""
from dataclasses import replace

import pytest

from lcref import config, report, running
from lcref.experiment import experiments, load

SIZES = [(name, size) for name in experiments() for size in load(name)[0].runs]


def shallow(run):
    """The same run, with no more layers than its pattern has: those above are the same again, and tracing 24 of them takes its time."""
    def cut(model):
        return replace(model, layers=min(model.layers, len(model.pattern or (model.mixer,)))) if hasattr(model, "layers") else model
    return replace(run, model=cut(run.model), read=cut(run.read), start=run.start and shallow(run.start))


@pytest.mark.parametrize("name, size", SIZES, ids=lambda text: text)
def test_every_declared_run_can_work(name, size, monkeypatch):
    """Data, evaluations and model, as `lcref run` asks before it writes anything. Nothing is allocated, whatever the size."""
    import jax

    built = []
    inside = jax.eval_shape
    monkeypatch.setattr(jax, "eval_shape", lambda *args: built.append(inside(*args)) or built[-1])
    (experiment,) = load(name)
    for run in experiment.runs[size].values():
        built.clear()
        running.check(shallow(run))
        assert any(getattr(shape, "shape", None) == () for shape in built), "a training loss, of one batch"


@pytest.mark.parametrize("name, size", SIZES, ids=lambda text: text)
def test_every_figure_knows_where_training_ended(name, size):
    (experiment,) = load(name)
    lines = [{"run": run, "config": config.to_dict(made)} for run, made in experiment.runs[size].items()]
    for figure in experiment.figures:
        assert all(report.trained_to(figure, line) is None or report.trained_to(figure, line) > 0 for line in lines)


@pytest.mark.parametrize("name", ["quickstart/copy", "quickstart/text"])
def test_the_quickstart_has_every_size_and_larger_ones_are_larger(name):
    (experiment,) = load(name)
    assert list(experiment.runs) == ["smoke", "cpu", "gpu", "paper"] and len({tuple(runs) for runs in experiment.runs.values()}) == 1

    def work(run):                              # of one step's matrices, and how many steps: a coarse measure is enough
        return run.model.layers * run.model.d_model**2 * run.train.steps * run.train.batch * run.data.width
    for runs in zip(*(runs.values() for runs in experiment.runs.values())):
        assert (sizes := [work(run) for run in runs]) == sorted(sizes) and sizes[1] * 20 < sizes[2]
    kinds = {size: {type(ev) for run in runs.values() for ev in run.evals} for size, runs in experiment.runs.items()}
    assert kinds["gpu"] >= kinds["cpu"] <= kinds["paper"], "every figure can be drawn at every size"


@pytest.mark.parametrize("name, window", [("quickstart/text", "rope_window")])
def test_the_control_cannot_reach_as_far_as_it_is_asked(name, window):
    """layers x (window - 1) bytes is all that a windowed model sees: every size asks beyond that."""
    for size, runs in load(name)[0].runs.items():
        run = runs[window]
        assert run.model.layers * (run.model.mixer.window - 1) < max(run.evals[1].distances), size
