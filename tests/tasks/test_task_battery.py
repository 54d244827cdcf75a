"""What every member of TASKS promises."""

import dataclasses

import numpy as np
import pytest

from lcref.tasks import BOS, CONTENT, PAD, SEP, TASKS, Task

NO_SEP = ("induction", "mqar", "successor", "predecessor", "count", "fill", "nines", "next_digit")
EVERY = pytest.mark.parametrize("name", TASKS)
LENGTHS = (1, 2, 3, 5, 17, 33, 64, 100)


def lengths(task):
    return [max(task.shortest, n) for n in LENGTHS]


def draw(task, length, seed=0, batch=64):
    return task.sample(np.random.default_rng(seed), batch, length)


def hidden(batch):
    """The inputs with every scored token blotted out: what a solver may not use."""
    inputs = batch.inputs.copy()
    inputs[:, 1:][batch.weights[:, :-1] > 0] = PAD
    return inputs


@EVERY
def test_solver_finds_the_scored_targets_without_reading_them(name):
    task = TASKS[name]()
    for length in lengths(task):
        batch = draw(task, length)
        scored = batch.weights > 0
        solved = task.solve(hidden(batch))
        np.testing.assert_array_equal(solved[scored], batch.targets[scored])
        assert (solved[~scored] == PAD).all()


@EVERY
def test_solver_reads_the_prompt(name):
    """Problems of different rows have different answers: a solver given another row's prompt is wrong somewhere."""
    task = TASKS[name]()
    batch = draw(task, max(task.shortest, 10))
    scored = batch.weights > 0
    solved = np.where(scored, task.solve(np.roll(batch.inputs, 1, axis=0)), PAD)
    assert (solved != np.where(scored, batch.targets, PAD)).any()


@pytest.mark.parametrize("name", [name for name in TASKS if name not in NO_SEP])
def test_solver_needs_no_more_than_the_prompt(name):
    task = TASKS[name]()
    batch = draw(task, max(task.shortest, 9))
    sep = int((batch.inputs[0] == SEP).argmax())
    np.testing.assert_array_equal(task.solve(batch.inputs[:, : sep + 1]), task.solve(batch.inputs))
    first_scored = (batch.weights > 0).argmax(axis=1)
    assert (first_scored == sep).all()


@EVERY
def test_shapes_dtypes_and_width(name):
    task = TASKS[name]()
    for length in lengths(task):
        batch = draw(task, length, batch=3)
        shape = (3, task.width(length))
        assert batch.inputs.shape == batch.targets.shape == batch.weights.shape == shape
        assert (batch.inputs.dtype, batch.targets.dtype, batch.weights.dtype) == (np.int32, np.int32, np.float32)
        assert all(values.shape == (3,) for values in batch.slices.values())
        assert (batch.slices["length"] == length).all()
    assert [task.width(n) for n in lengths(task)] == sorted(task.width(n) for n in lengths(task))


@EVERY
def test_targets_are_the_next_tokens(name):
    task = TASKS[name]()
    for length in lengths(task):
        batch = draw(task, length)
        np.testing.assert_array_equal(batch.targets[:, :-1], batch.inputs[:, 1:])
        assert (batch.inputs[:, 0] == BOS).all()
        assert not np.shares_memory(batch.inputs, batch.targets)


@EVERY
def test_only_the_answer_is_scored(name):
    task = TASKS[name]()
    for length in lengths(task):
        batch = draw(task, length)
        assert set(np.unique(batch.weights)) == {0.0, 1.0}
        scored = (batch.weights > 0).sum(axis=1)
        assert (scored == scored[0]).all() and scored[0] > 0
        if (batch.inputs == SEP).any():
            assert ((batch.inputs == SEP).sum(axis=1) == 1).all()
            behind = np.cumsum(batch.inputs == SEP, axis=1) > 0
            np.testing.assert_array_equal(batch.weights > 0, behind)


@EVERY
def test_the_generator_decides_the_sample(name):
    task = TASKS[name]()
    length = max(task.shortest, 12)
    first, again, other = draw(task, length), draw(task, length), draw(task, length, seed=1)
    for a, b in zip(first[:3], again[:3]):
        np.testing.assert_array_equal(a, b)
    for key in first.slices:
        np.testing.assert_array_equal(first.slices[key], again.slices[key])
    assert (first.inputs != other.inputs).any()
    assert len(np.unique(first.inputs, axis=0)) > 1


@EVERY
def test_ids_are_in_the_vocabulary_and_all_content_occurs_in_short_problems(name):
    """A token first met in a long test problem would be untrained."""
    task = TASKS[name]()
    assert task.vocab == len(task.tokens) == len(set(task.tokens))
    seen = np.zeros(task.vocab, bool)
    rng = np.random.default_rng(0)
    for length in range(task.shortest, task.shortest + 20):
        batch = task.sample(rng, 400, length)
        seen[batch.inputs] = seen[batch.targets] = True
    long = draw(task, 100)
    for ids in (long.inputs, long.targets):
        assert ids.min() >= 0 and ids.max() < task.vocab
        assert seen[ids].all()


@EVERY
def test_first_ids_are_the_same_everywhere(name):
    task = TASKS[name]()
    assert (task.tokens[0], task.tokens[1]) == ("_", "^")
    assert all(token == f"<{i}>" or not token.startswith("<") for i, token in enumerate(task.tokens))
    content = draw(task, max(task.shortest, 20)).inputs
    markers = np.unique(content[content < CONTENT])
    assert all(task.tokens[i] != f"<{i}>" for i in markers)  # a marker in use has a name


@EVERY
def test_impossible_lengths_are_refused(name):
    task = TASKS[name]()
    for bad in (task.shortest - 1, 0, -3):
        for ask in (lambda: task.width(bad), lambda: draw(task, bad)):
            with pytest.raises(ValueError, match=rf"length {bad} is too short .* {task.shortest}$"):
                ask()
    assert task.longest is None or task.longest >= 100
    if task.longest is not None:
        draw(task, task.longest, batch=2)
        with pytest.raises(ValueError, match=rf"length {task.longest + 1} is too long .* {task.longest}$"):
            draw(task, task.longest + 1)


def bumped(field, value):
    """Another legal value of a config field."""
    if field == "filler":
        return "random" if value != "random" else "cycle"
    if field == "direction":
        return "backward" if value != "backward" else "forward"
    if field == "begins":
        return "held" if value != "held" else "name"
    if field == "queries":
        return 2 if value != 2 else 3
    if isinstance(value, bool):
        return not value
    if field == "machine":
        return "increment" if value != "increment" else "parity"
    if field == "order":
        return "descending" if value != "descending" else "ends_first"
    return 0.5 if value is None else value * 2


@pytest.mark.parametrize(
    "name, field", [(name, field.name) for name, make in TASKS.items() for field in dataclasses.fields(make())]
)
def test_every_field_changes_something(name, field):
    task = TASKS[name]()
    other = dataclasses.replace(task, **{field: bumped(field, getattr(task, field))})
    length = max(task.shortest, other.shortest, 20)
    a, b = draw(task, length), draw(other, length)
    assert task.tokens != other.tokens or a.inputs.shape != b.inputs.shape or (a.inputs != b.inputs).any()


@EVERY
def test_a_task_is_a_hashable_value(name):
    task = TASKS[name]()
    assert isinstance(task, Task)
    assert task == TASKS[name]() and hash(task) == hash(TASKS[name]())
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.anything = 1


def test_entries_differ():
    assert len({TASKS[name]() for name in TASKS}) == len(TASKS)


def test_rows_of_different_length_cannot_be_solved_together():
    task = TASKS["copy"]()
    rows = [np.pad(draw(task, n, batch=1).inputs[0], (0, 9 - task.width(n) + 1)) for n in (3, 4)]
    with pytest.raises(ValueError, match="one length"):
        task.solve(np.stack(rows))
