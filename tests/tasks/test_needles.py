"""Needles, threads and variables: by hand, and how their problems are distributed."""

import numpy as np
import pytest

from lcref.tasks import CONTENT, EOS, SEP, Needles, Thread, VariableTracking
from lcref.tasks.needles import ASK, NEEDLE
from lcref.tasks.variables import SET
from tests.tasks.drawing import assert_uniform, draw, rows


def test_needles_by_hand():
    """Every key that is asked for stands in the text as often as it has values, and these follow in order; places are uniform."""
    task = Needles(needles=3, queries=2, values_each=2, keys=8, values=5)
    batch = draw(task, 10)
    row = rows(batch)
    text, asked, answer = row[:, 1:29], row[:, 30:32], row[:, 33:37]
    assert (row[:, 29] == ASK).all() and (row[:, 32] == SEP).all() and (row[:, 37] == EOS).all()
    assert ((text == NEEDLE).sum(1) == 6).all() and (asked[:, 0] != asked[:, 1]).all()
    for line, keys, values in zip(text[:50], asked, answer):
        spans = [tuple(line[i + 1:i + 3]) for i in np.flatnonzero(line == NEEDLE)]
        assert [value for key in keys for at, value in spans if at == key] == list(values)
    single = rows(draw(Needles(needles=1), 9))[:, 1:13]
    assert_uniform((single == NEEDLE).argmax(1), 10)
    assert_uniform(single[np.arange(len(single)), (single == NEEDLE).argmax(1) + 1] - CONTENT, 16)


@pytest.mark.parametrize("direction, signs", [("forward", {1}), ("backward", {-1}), ("random", {1, -1})])
def test_threads_run_in_their_direction(direction, signs):
    task = Thread(hops=3, direction=direction, path=True)
    row = rows(draw(task, 11))                                           # three threads and two single pairs
    pairs, path = row[:, 1:23].reshape(-1, 11, 2), row[:, 23:28]
    assert (path[:, 1] == SEP).all() and (row[:, -1] == EOS).all()
    way = np.concatenate([path[:, :1], path[:, 2:]], axis=1)             # start, three steps
    at = np.stack([((pairs == way[:, None, i:i + 2]).all(2)).argmax(1) for i in range(3)], axis=1)
    assert (np.take_along_axis(pairs, at[:, :, None], axis=1) == np.stack([way[:, :-1], way[:, 1:]], axis=2)).all()
    assert set(np.sign(np.diff(at, axis=1)).ravel()) == signs
    assert all(len(np.unique(keys)) == 11 for keys in pairs[:100, :, 0]), "a key leads one way"
    starts = [set(keys) - set(values) for keys, values in zip(pairs[:100, :, 0], pairs[:100, :, 1])]
    assert all(len(found) == 3 + 2 for found in starts), "as many begin as there are threads: the start gives nothing away"
    last = rows(draw(Thread(hops=3, direction=direction), 11))
    np.testing.assert_array_equal(last[:, [-1]], np.full((2000, 1), EOS))


@pytest.mark.parametrize("begins, turn", [("name", 1), ("held", -1)])
def test_variables_by_hand(begins, turn):
    task = VariableTracking(chains=3, hops=2, begins=begins)
    row = rows(draw(task, 20))
    text, value, answer = row[:, 1:48], row[:, 48], row[:, 50:53]
    for line, wanted, names in zip(text[:100], value, answer):
        spans = [tuple(line[i + 1:i + 3][::turn]) for i in np.flatnonzero(line == SET)]
        assert len(spans) == 9 and len({name for name, _ in spans}) == 9
        places = [spans.index((name, held)) for name, held in zip(names, [wanted, *names[:-1]])]
        assert places == sorted(places), "a chain is told in order"
        assert sum(held >= CONTENT + task.names for _, held in spans) == 3, "one value a chain"


@pytest.mark.parametrize("make, words", [
    (lambda: Needles(queries=5), "queries 5 are more than the 4 needles"), (lambda: Needles(needles=17), "needles 17 are more than the 16 different keys"),
    (lambda: Needles(values_each=0), "values_each 0 is below 1"), (lambda: Thread(hops=0), "hops 0 is below 1"),
    (lambda: Thread(direction="up"), "direction 'up' is not one of forward, backward, random"),
    (lambda: Thread(keys=3), "keys 3 are too few for a thread of 3 hops"), (lambda: VariableTracking(chains=17), "chains 17 are more than the 16"),
    (lambda: VariableTracking(begins="end"), "begins 'end' is not one of name, held"),
    (lambda: VariableTracking(hops=16), "2 chains of 17 statements need more than the 32 different names"),
])
def test_impossible_needles_threads_and_variables(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("hops, keys", [(1, 9), (2, 9), (3, 64), (4, 10), (7, 256), (8, 256)])
def test_every_length_up_to_the_longest_can_be_written(hops, keys):
    task = Thread(hops=hops, keys=keys)
    for length in range(task.shortest, task.longest + 1):
        assert task.sample(np.random.default_rng(length), 1, length).inputs.shape == (1, task.width(length))
    assert task.needed(task.longest + 1) > keys
