"""Keyed text: every ordinary row holds one key, one question and its answer, and evaluation asks at the distance it says."""
import numpy as np
import pytest

from lcref.data.keyed import Keyed
from lcref.data.text import Text

KEYED = Keyed(Text(length=64), keys=5)


@pytest.fixture(scope="module")
def batch():
    return KEYED.batch(np.random.default_rng(0), 200)


def test_shapes_and_vocabulary(batch):
    assert batch["inputs"].shape == batch["targets"].shape == (200, KEYED.width) == (200, 64)
    assert KEYED.vocab == 257 + 5 + 1 and max(batch["inputs"].max(), batch["targets"].max()) < KEYED.vocab
    np.testing.assert_array_equal(batch["inputs"][:, 1:], batch["targets"][:, :-1])


def test_the_answer_is_the_key_and_weighs_most(batch):
    asked = 0
    for row, target, weight in zip(batch["inputs"], batch["targets"], batch["weights"]):
        at = np.flatnonzero(row == KEYED.ask)
        if not at.size:
            assert (row <= 256).all()                                # a row with a border: the text as it is
            continue
        asked += 1
        (question,), key = at, row[row > 256][0]
        assert target[question] == key and 257 <= key < KEYED.ask
        assert np.flatnonzero(row == key)[0] < question
        assert weight[question] == KEYED.weight and (weight == KEYED.weight).sum() == 1
        unannounced = np.flatnonzero((target == KEYED.ask) | ((target == key) & (np.arange(64) != question)))
        assert (weight[unannounced] == 0).all()
    assert asked > 150


def test_every_distance_is_trained():
    rows = KEYED.batch(np.random.default_rng(1), 4000)["inputs"]
    rows = rows[(rows == KEYED.ask).any(1)]
    distance = (rows == KEYED.ask).argmax(1) - (rows > 256).argmax(1)
    assert distance.min() == 1 and distance.max() >= 60


def test_questions_are_at_their_distance():
    rows, answers = KEYED.questions(seed=3, count=20, distance=100)
    assert rows.shape == (20, 116) and (rows[:, -1] == KEYED.ask).all()
    np.testing.assert_array_equal(rows[:, -101], answers[:, 0])
    assert (np.delete(rows, [15, 115], axis=1) <= 256).all() and len(np.unique(answers)) > 1
    again, _ = KEYED.questions(seed=3, count=20, distance=100)
    np.testing.assert_array_equal(rows, again)
    assert (rows != KEYED.questions(seed=4, count=20, distance=100)[0]).any()


def test_a_key_of_several_tokens():
    keyed = Keyed(Text(length=64), keys=5, span=3)
    batch, first_at_end = keyed.batch(np.random.default_rng(0), 400), False
    np.testing.assert_array_equal(batch["inputs"][:, 1:], batch["targets"][:, :-1])
    asked = 0
    for row, target, weight in zip(batch["inputs"], batch["targets"], batch["weights"]):
        if keyed.ask not in row:
            continue
        asked += 1
        question, first = np.flatnonzero(row == keyed.ask)[0], np.flatnonzero(row > 256)[0]
        assert first + 3 <= question and (row[first:first + 3] > 256).all()
        np.testing.assert_array_equal(target[question:question + 3], row[first:first + 3])
        assert (np.flatnonzero(weight == keyed.weight) == question + np.arange(3)).all()
        arrivals = [p for p in (*range(first - 1, first + 2), question - 1) if p >= 0]
        assert (weight[arrivals] == 0).all() and (weight == 0).sum() == len(set(arrivals))
        first_at_end |= question + 3 == 64
    assert asked > 300 and first_at_end
    rows, answers = keyed.questions(seed=3, count=20, distance=100)
    assert rows.shape == (20, 118) and answers.shape == (20, 3)
    np.testing.assert_array_equal(rows[:, 15:18], answers)
    np.testing.assert_array_equal(rows[:, 116:], answers[:, :2])
    assert (rows[:, 115] == keyed.ask).all()
    with pytest.raises(ValueError, match="a key of 3 tokens cannot be asked for after 2"):
        keyed.questions(seed=3, count=1, distance=2)


def test_every_field_changes_the_fingerprint_and_bad_ones_are_refused():
    assert len({KEYED.fingerprint(), Keyed(Text(length=64), keys=6).fingerprint(), Keyed(Text(length=64), keys=5, weight=2.0).fingerprint(),
                Keyed(Text(length=64), keys=5, span=2).fingerprint()}) == 4
    for bad in (dict(keys=1), dict(weight=0.0), dict(text=Text(length=3)), dict(span=0), dict(text=Text(length=7), span=3)):
        with pytest.raises(ValueError, match="keyed text needs"):
            Keyed(**bad)


def test_evaluation_windows_are_plain_text():
    np.testing.assert_array_equal(KEYED.windows(0, 3, 100), Text(length=64).windows(0, 3, 100))
