"""Batches of mixed lengths, and the training source made of them."""

import dataclasses
import time

import numpy as np
import pytest

from lcref.tasks import PAD, SEP, TASKS, Copy, CopyUnique, Count, Fill, HintedSource, Passkey, Sort, Successor, TaskSource, mixed

EVERY = pytest.mark.parametrize("name", TASKS)


@EVERY
def test_mixed_rows_are_problems_of_their_length(name):
    task = TASKS[name]()
    low = task.shortest
    lengths = low + np.array([3, 0, 7, 3, 3, 1, 0, 7])
    width = task.width(low + 7) + 2
    batch = mixed(task, np.random.default_rng(0), 8, lengths, width)
    assert batch.inputs.shape == batch.targets.shape == batch.weights.shape == (8, width)
    assert (batch.inputs.dtype, batch.targets.dtype, batch.weights.dtype) == (np.int32, np.int32, np.float32)
    np.testing.assert_array_equal(batch.slices["length"], lengths)
    for i, length in enumerate(lengths):
        t = task.width(length)
        assert (batch.weights[i, t:] == 0).all() and (batch.inputs[i, t:] == PAD).all() and (batch.targets[i, t:] == PAD).all()
        assert batch.weights[i, :t].any() and (batch.inputs[i, :t] != PAD).all()
        np.testing.assert_array_equal(batch.targets[i, : t - 1], batch.inputs[i, 1:t])
        scored = batch.weights[i, :t] > 0
        np.testing.assert_array_equal(task.solve(batch.inputs[i : i + 1, :t])[0][scored], batch.targets[i, :t][scored])
    assert set(batch.slices) == set(task.sample(np.random.default_rng(0), 1, low).slices)


def test_mixed_keeps_slices_with_their_rows():
    task = Passkey()
    batch = mixed(task, np.random.default_rng(0), 6, np.array([9, 4, 9, 2, 4, 9]), 40)
    before = (batch.inputs == 4).argmax(axis=1) - 1
    np.testing.assert_allclose(batch.slices["depth"], before / batch.slices["length"])


def test_mixed_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="width 11 is too small for length 5, which needs 12"):
        mixed(Copy(), np.random.default_rng(0), 2, np.array([2, 5]), 11)
    with pytest.raises(ValueError, match=r"lengths have shape \(3,\), expected \(2,\)"):
        mixed(Copy(), np.random.default_rng(0), 2, np.array([2, 5, 5]), 20)


@EVERY
def test_source_batches(name):
    task = TASKS[name]()
    low = max(2, task.shortest)
    source = TaskSource(task, low, low + 8)
    assert source.vocab == task.vocab and source.width == task.width(low + 8)
    rng = np.random.default_rng(0)
    first, second = source.batch(rng, 16), source.batch(rng, 16)
    again = source.batch(np.random.default_rng(0), 16)
    assert list(first) == ["inputs", "targets", "weights"]
    for key, array in first.items():
        assert array.shape == second[key].shape == (16, source.width)
        np.testing.assert_array_equal(array, again[key])
    assert (first["inputs"] != second["inputs"]).any()


def test_source_lengths_are_uniform():
    batch = TaskSource(Copy(), 3, 10).batch(np.random.default_rng(0), 8000)
    lengths = batch["weights"].sum(axis=1).astype(int) - 1  # the answer is the string and EOS
    counts = np.bincount(lengths, minlength=11)
    assert counts[:3].sum() == 0 and counts[3:].min() > 850 and counts[3:].max() < 1150 and len(counts) == 11


def test_fingerprint_tells_sources_apart():
    base = TaskSource(Copy(), 2, 20)
    assert base.fingerprint() == TaskSource(Copy(), 2, 20).fingerprint()
    others = [
        *(dataclasses.replace(base, **change) for change in ({"task": Sort()}, {"min_length": 3}, {"max_length": 21})),
        TaskSource(CopyUnique(alphabet=26), 2, 20),
        TaskSource(Copy(alphabet=25), 2, 20),
    ]
    assert len({s.fingerprint() for s in [base, *others]}) == 1 + len(others)
    assert len(base.fingerprint()) == 64


def test_fingerprint_sees_a_changed_generator():
    """Same settings, other data: the fixed batch is part of it."""

    class Shifted(Copy):
        def draw(self, rng, batch, length):
            return np.flip(super().draw(rng, batch, length), axis=1)

        def __repr__(self):
            return repr(Copy())

    assert repr(TaskSource(Shifted(), 2, 20)) == repr(TaskSource(Copy(), 2, 20))
    assert TaskSource(Shifted(), 2, 20).fingerprint() != TaskSource(Copy(), 2, 20).fingerprint()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: TaskSource(Copy(), 0, 5), "length 0 is too short"),
        (lambda: TaskSource(Copy(), 6, 5), "min_length 6 is above max_length 5"),
        (lambda: TaskSource(CopyUnique(alphabet=8), 2, 9), "length 9 is too long .* 8"),
        (lambda: TaskSource(TASKS["mqar"](), 2, 20), "length 2 is too short .* 32"),
    ],
)
def test_impossible_lengths_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@EVERY
def test_batches_keep_up_with_training(name):
    """Sixteen times the rows cost far less than sixteen times the time, which a loop over rows would take: a ratio, since milliseconds
    are the machine's. The best of many tries, in turn, is what the code needs on a busy machine."""
    task = TASKS[name]()
    source, rng = TaskSource(task, max(2, task.shortest), max(2, task.shortest) + 18), np.random.default_rng(0)
    times = {32: [], 512: []}
    for _ in range(30):
        for rows, taken in times.items():
            start = time.perf_counter()
            source.batch(rng, rows)
            taken.append(time.perf_counter() - start)
    assert min(times[512]) < 8 * min(times[32])


# ---------------------------------------------------------------------------------------------------------------------- hints

@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_so_many_rows_are_hints(fraction):
    source = HintedSource(Sort(), 2, 20, hint=Successor(), fraction=fraction)
    batch = source.batch(np.random.default_rng(0), 2000)
    hints = (batch["inputs"] == Successor.marker).any(1)
    assert abs(hints.mean() - fraction) < 0.04 and batch["inputs"].shape == (2000, source.width)
    assert ((batch["inputs"] == SEP).any(1) == ~hints).all()
    scored = (batch["weights"] > 0).sum(1)
    assert (scored[hints] == 1).all() and (scored[~hints] >= 3).all()
    for task, rows in ((Sort(), ~hints), (Successor(), hints)):
        for inputs, targets, weights in zip(*(batch[name][rows][:50] for name in ("inputs", "targets", "weights"))):
            solved = task.solve(inputs[None, :(inputs != PAD).sum()])[0]
            assert (solved[np.flatnonzero(weights)] == targets[weights > 0]).all()


def test_hints_weigh_what_is_asked():
    source = HintedSource(Sort(), 2, 20, hint=Fill(), fraction=0.5, hint_weight=3.0)
    batch = source.batch(np.random.default_rng(0), 200)
    hints = (batch["inputs"] == Fill.marker).any(1)
    assert set(np.unique(batch["weights"][hints])) == {0.0, 3.0} and set(np.unique(batch["weights"][~hints])) == {0.0, 1.0}


def test_a_hinted_source_holds_both_vocabularies_and_widths():
    source = HintedSource(Sort(), 2, 20, hint=Count())
    assert source.vocab == Count().vocab > Sort().vocab and source.width == Sort().width(20)
    assert source.fingerprint() != HintedSource(Sort(), 2, 20, hint=Count(), fraction=0.4).fingerprint()


@pytest.mark.parametrize("kwargs, words", [
    (dict(fraction=1.5), "fraction must be from 0 to 1"), (dict(hint_weight=-1.0), "hint_weight 0 or more"),
    (dict(hint=Successor(values=64)), "writes in other tokens than Sort"), (dict(max_length=200), "too long")])
def test_hints_that_do_not_go_with_the_task(kwargs, words):
    with pytest.raises(ValueError, match=words):
        HintedSource(**dict(task=Sort(), min_length=2, max_length=20) | kwargs)
