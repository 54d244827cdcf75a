"""Printed problems, and the examples in the docstrings."""

import doctest
import functools

import numpy as np
import pytest

import lcref.tasks
from lcref.tasks import TASKS, Copy, Passkey, show

NAMES = {"np": np, **vars(lcref.tasks)}


@pytest.mark.parametrize("name", TASKS)
def test_docstring_example_is_what_the_code_prints(name):
    make = TASKS[name]
    cls = make.func if isinstance(make, functools.partial) else make
    examples = doctest.DocTestParser().get_doctest(cls.__doc__, dict(NAMES), cls.__name__, None, 0)
    settings = [f'{k}="{v}"' if isinstance(v, str) else f"{k}=" for k, v in getattr(make, "keywords", {}).items()]
    shown = [e for e in examples.examples if f"{cls.__name__}(" in e.source and all(s in e.source for s in settings)]
    assert shown, f"no printed example of {name}"
    assert all("scored" in e.want and "*" in e.want for e in shown)
    report = []
    failed, _ = doctest.DocTestRunner(verbose=False).run(examples, out=report.append)
    assert failed == 0, "".join(report)


def test_show_marks_the_scored_targets():
    text = show(Copy(), np.random.default_rng(3), 5, samples=2)
    first, second = text.split("\n\n")
    assert first != second
    for sample in (first, second):
        head, inputs, targets, scored = sample.split("\n")
        assert head == "length 5"
        inputs, targets = inputs.removeprefix("inputs").split(), targets.removeprefix("targets").split()
        assert inputs[0] == "^" and inputs[1:] == targets[:-1]
        assert [targets[i] for i, mark in enumerate(scored[9::2]) if mark == "*"] == inputs[1:6] + ["$"]


def test_show_default_is_three_samples_and_tells_the_depth():
    blocks = show(Passkey(depth=0.25), np.random.default_rng(0), 40).split("\n\n")
    assert len(blocks) == 3 and all(block.startswith("length 40, depth 0.25\n") for block in blocks)


def test_long_lines_are_cut_into_blocks_that_lose_nothing():
    whole = show(Passkey(), np.random.default_rng(0), 100, samples=1, columns=10_000).split("\n")
    cut = show(Passkey(), np.random.default_rng(0), 100, samples=1, columns=60).split("\n")
    assert len(whole) == 4 and len(cut) > 10 and max(map(len, cut)) <= 60
    for label in ("inputs", "targets"):
        cells = [cell for line in cut if line.startswith(label) for cell in line.split()[1:]]
        assert cells == next(line for line in whole if line.startswith(label)).split()[1:]
    assert sum(line.count("*") for line in cut) == whole[3].count("*") == 5


def test_decode():
    task = Copy()
    assert task.decode([1, 16, 17, 41, 2, 3, 0]) == ["^", "a", "b", "z", "|", "$", "_"]
    assert task.decode(np.array([16])) == ["a"]
    for bad in (42, -1):
        with pytest.raises(ValueError, match=rf"token id {bad} is not in 0..41"):
            task.decode([bad])


def test_show_refuses_impossible_lengths():
    with pytest.raises(ValueError, match="length 0 is too short"):
        show(Copy(), np.random.default_rng(0), 0)
