"""Judges accept any right answer, name what is wrong with others, and every judge is tried with one right and two wrong ones at least.

tests/notebooks/solutions/<notebook>.py holds RIGHT {judge: [answers]} and WRONG {judge: [answers]}, apart from what the reader opens.
"""
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import lcref.exercises

SOURCES = sorted((Path(__file__).parents[2] / "notebooks").glob("*.py"))
NAMES = [module.name for module in pkgutil.iter_modules(lcref.exercises.__path__)]


def judges(name):
    module = importlib.import_module(f"lcref.exercises.{name}")
    return {n: f for n, f in vars(module).items() if inspect.isfunction(f) and f.__module__ == module.__name__ and not n.startswith("_")
            and f.__annotations__.get("return") is bool}


def cases(kind):
    for name in NAMES:
        for judge, answers in getattr(importlib.import_module(f"tests.notebooks.solutions.{name}"), kind).items():
            yield from (pytest.param(name, judge, answer, id=f"{name}-{judge}-{i}") for i, answer in enumerate(answers))


def test_every_notebook_has_judges():
    assert NAMES == sorted(path.stem.split("_", 1)[1] for path in SOURCES)


@pytest.mark.parametrize("name", NAMES)
def test_every_judge_is_tried_and_used(name):
    solutions = importlib.import_module(f"tests.notebooks.solutions.{name}")
    assert set(judges(name)) == set(solutions.RIGHT) == set(solutions.WRONG)
    assert all(len(answers) >= 1 for answers in solutions.RIGHT.values()) and all(len(answers) >= 2 for answers in solutions.WRONG.values())
    source, = (path for path in SOURCES if path.stem.split("_", 1)[1] == name)
    for judge in judges(name):
        assert f"judge.{judge}(" in source.read_text(encoding="utf-8"), f"no exercise asks for {judge}"


@pytest.mark.parametrize("name, judge, answer", [*cases("RIGHT")])
def test_right_answers(name, judge, answer, capsys):
    assert judges(name)[judge](answer) is True
    assert capsys.readouterr().out == "right\n"


@pytest.mark.parametrize("name, judge, answer", [*cases("WRONG")])
def test_wrong_answers(name, judge, answer, capsys):
    assert judges(name)[judge](answer) is False
    assert capsys.readouterr().out.startswith("not yet: ")
