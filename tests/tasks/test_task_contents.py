"""What is particular to each task: how it is written, and how its problems are distributed."""

import numpy as np
import pytest

from lcref.tasks import (
    BOS, CONTENT, EOS, MQAR, SEP, Addition, AdditionHinted, AdditionReversed, Copy, CopyUnique, CountUp, Induction, Mode, Parity, Passkey,
    Polynomial, Reverse, SelectiveCopy, Sort, SortDuplicates, Sum,
)  # fmt: skip
from lcref.tasks.addition import HINTS, PLUS, add, problem
from lcref.tasks.induction import SPECIAL
from lcref.tasks.mqar import BLANK
from lcref.tasks.passkey import CYCLE, FILLER, KEY, KEY2
from lcref.tasks.selective_copy import NOISE
from tests.tasks.drawing import assert_uniform, draw, rows


def test_copy_and_reverse_by_hand():
    for task, step in ((Copy(), 1), (Reverse(), -1)):
        row = rows(draw(task, 4, batch=1))[0]
        assert [row[0], row[5], row[10]] == [BOS, SEP, EOS]
        np.testing.assert_array_equal(row[6:10], row[1:5][::step])
    assert_uniform(draw(Copy(), 10).inputs[:, 1:11].ravel() - CONTENT, 26)
    assert "".join(Copy().tokens[CONTENT:]) == "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("task", [CopyUnique(alphabet=20), Sort(values=20)])
def test_unique_values(task):
    for n in (1, 7, 20):
        question = np.sort(draw(task, n).inputs[:, 1 : n + 1], axis=1)
        assert (np.diff(question, axis=1) > 0).all()
        assert_uniform(question.ravel() - CONTENT, 20)
    assert_uniform(draw(task, 7).inputs[:, 3] - CONTENT, 20)  # order is random too


def test_sorting():
    for task in (Sort(), SortDuplicates(values=8)):
        row = rows(draw(task, 12))
        answer = row[:, 14:26]
        np.testing.assert_array_equal(answer, np.sort(row[:, 1:13], axis=1))
        assert (row[:, 26] == EOS).all()
    assert (np.diff(answer, axis=1) == 0).any(axis=1).all()  # 12 numbers below 8 must repeat
    draw(SortDuplicates(values=8), 100)


def test_parity_is_balanced_and_right():
    batch = draw(Parity(), 9, batch=4000)
    np.testing.assert_array_equal(batch.targets[:, -1] - CONTENT, (batch.inputs[:, 1:10] - CONTENT).sum(axis=1) % 2)
    assert_uniform(batch.targets[:, -1] - CONTENT, 2)


@pytest.mark.parametrize("length", [1, 2, 5, 40])
def test_mode_has_one_winner_and_every_letter_wins_as_often(length):
    task = Mode(alphabet=4)
    batch = draw(task, length, batch=4000)
    letters, said = batch.inputs[:, 1:-1] - CONTENT, batch.targets[:, -1] - CONTENT
    count = (letters[:, :, None] == np.arange(4)).sum(axis=1)
    np.testing.assert_array_equal(count.argmax(axis=1), said)
    assert ((count == count.max(axis=1, keepdims=True)).sum(axis=1) == 1).all()
    assert_uniform(said, 4)


def test_count_up_starts_anywhere_and_ends_where_it_is_told():
    task = CountUp(values=20)
    batch = draw(task, 5, batch=4000)
    assert_uniform(batch.inputs[:, 1] - CONTENT, 16)
    np.testing.assert_array_equal(batch.targets[:, 3:8], batch.inputs[:, [1]] + np.arange(5))
    np.testing.assert_array_equal(batch.targets[:, 7], batch.inputs[:, 2])
    assert (batch.targets[:, 8] == EOS).all()


def test_sums_and_polynomials_take_every_value():
    """Sums are uniform; a polynomial's value is what its terms give, written out once by hand."""
    assert_uniform(draw(Sum(), 8, batch=4000).targets[:, -1] - CONTENT, 10)
    task = Polynomial()
    tokens = task.tokens
    question = np.array([[tokens.index(name) for name in ("x-2", "3*", "^3", "-1*", "^2", "2*", "^0")]])
    assert tokens[task.answer(question)[0, 0]] == "4"                              # -24 - 4 + 2 = -26
    said = draw(task, 8, batch=4000)
    assert len(np.unique(said.targets[:, -1])) == 10
    x, terms = said.inputs[:, 1], said.inputs[:, 2:-1]
    for column, names in ((x, [f"x{i}" for i in range(-2, 3)]), (terms[:, 0], [f"{i}*" for i in range(-3, 4)]), (terms[:, 1], [f"^{i}" for i in range(4)])):
        assert_uniform(column - tokens.index(names[0]), len(names))


def number(digits):
    return int("".join(str(d) for d in digits))


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_addition_writes_the_sum(n):
    for row in rows(draw(Addition(), n, batch=300)):
        text = "".join(Addition().tokens[i] for i in row)
        a, b, total = text[1:-1].replace("=", "+").split("+")
        assert (len(a), len(b), len(total)) == (n, n, n + 1)
        assert a[0] != "0" and b[0] != "0"
        assert int(a) + int(b) == int(total)
    plain, backward = rows(draw(Addition(), n)), rows(draw(AdditionReversed(), n))
    np.testing.assert_array_equal(plain[:, : 2 * n + 3], backward[:, : 2 * n + 3])
    np.testing.assert_array_equal(plain[:, 2 * n + 3 : -1], backward[:, 2 * n + 3 : -1][:, ::-1])


def test_carries_run_through_nines():
    """The column rule without a loop against Python's integers, on digits where long chains are common."""

    class Nines:
        """A generator whose digits mostly make columns of 9."""

        def __init__(self, seed):
            self.rng = np.random.default_rng(seed)

        def integers(self, low, high=None, size=None, dtype=np.int64):
            if high is not None:
                return self.rng.integers(low, high, size)
            first = self.rng.integers(10, size=size[1:])
            second = 9 - first + self.rng.choice([0, 0, 0, 0, 1, -1], size[1:])
            return np.stack([first, second.clip(0, 9)]).astype(dtype)

    longest_chain = 0
    for seed in range(20):
        a, b, total = problem(Nines(seed), 50, 12)
        for row in range(50):
            assert number(a[row]) + number(b[row]) == number(total[row])
        columns = "".join("9" if s == 9 else "x" for s in (a + b).ravel())
        longest_chain = max(longest_chain, max(map(len, columns.split("x"))))
    assert longest_chain >= 8


def test_add_is_exact_past_64_bits():
    a, b = np.full((1, 60), 9), np.zeros((1, 60), int)
    b[0, -1] = 1
    assert number(add(a, b)[0]) == 10**60


def test_hints_name_the_column():
    n, task = 5, AdditionHinted(hints=20)
    row = rows(draw(task, n))
    a, b, answer = row[:, 1 : 2 * n + 3], row[:, 2 * n + 4 : 4 * n + 6], row[:, 4 * n + 7 : -1]
    assert (row[:, 2 * n + 3] == PLUS).all() and (row[:, 4 * n + 6] == SEP).all() and (row[:, -1] == EOS).all()
    np.testing.assert_array_equal(np.diff(a[:, 0::2], axis=1), 1)
    np.testing.assert_array_equal(a[:, 0::2], b[:, 0::2])
    np.testing.assert_array_equal(answer[:, 0::2], a[:, 0::2][:, ::-1])
    for i in range(50):
        assert number(a[i, 1::2] - CONTENT) + number(b[i, 1::2] - CONTENT) == number(answer[i, 1::2][::-1] - CONTENT)
    assert_uniform(a[:, 0] - HINTS, 20 - n)
    assert (draw(task, 19).inputs[:, 1] == HINTS).all()  # the longest problem needs every hint
    assert task.longest == 19


def test_induction_places_the_special_token_once_and_uniformly():
    for n in (3, 4, 30):
        batch = draw(Induction(), n)
        special = batch.inputs == SPECIAL
        assert (special.sum(axis=1) == 2).all() and special[:, -1].all()
        place = special.argmax(axis=1)
        assert_uniform(place - 1, n - 2)
        x = batch.inputs[np.arange(2000), place + 1]
        np.testing.assert_array_equal(batch.targets[:, -1], x)
        assert_uniform(x - CONTENT, 16)


@pytest.mark.parametrize("length", [32, 33, 64, 101])
def test_mqar_pairs_and_queries(length):
    task = MQAR(pairs=8, keys=32, values=40)
    batch = draw(task, length, batch=300)
    row = rows(batch)
    keys, values = row[:, 1:17:2], row[:, 2:18:2]
    for pool, low, size in ((keys, CONTENT, 32), (values, CONTENT + 32, 40)):
        assert (np.diff(np.sort(pool, axis=1), axis=1) > 0).all()
        assert pool.min() >= low and pool.max() < low + size
        assert_uniform(pool.ravel() - low, size)
    r, at = np.nonzero(batch.weights)
    assert (np.bincount(r) == 8).all() and at.min() >= 17 and (at % 2 == 1).all()
    for i in range(300):  # every key is asked for once and followed by its value; the rest is blank
        asked = row[i, at[r == i]]
        assert sorted(asked) == sorted(keys[i])
        value_of = dict(zip(keys[i], values[i]))
        assert [value_of[k] for k in asked] == list(row[i, at[r == i] + 1])
    assert ((row[:, 17:] == BLANK).sum(axis=1) == length - 32).all()


@pytest.mark.parametrize("length", [4, 7, 32, 33, 34])
def test_mqar_as_many_pairs_as_fit(length):
    task = MQAR(pairs=None, keys=8, values=8, power=1.0)
    assert (task.shortest, task.longest) == (4, 35)
    batch = draw(task, length, batch=50)
    assert (batch.weights.sum(axis=1) == length // 4).all()
    scored = batch.weights > 0
    np.testing.assert_array_equal(task.solve(batch.inputs)[scored], batch.targets[scored])
    assert ((rows(batch) == BLANK).sum(axis=1) == length % 4).all()


def test_mqar_gaps_follow_the_power_law():
    """The first slot drawn has p(i) ~ i^(a-1); the set of slots is drawn without replacement as numpy's choice draws it."""
    space, batch = 12, 40_000
    for power in (0.01, 1.0):
        slots = MQAR(pairs=3, power=power).slots(np.random.default_rng(0), batch, space)
        p = np.arange(1, space + 1) ** (power - 1)
        p /= p.sum()
        first = np.bincount(slots[:, 0], minlength=space) / batch
        np.testing.assert_allclose(first, p, atol=5 * np.sqrt(p.max() / batch))
        assert (np.diff(np.sort(slots, axis=1), axis=1) > 0).all()
        second = np.array([sum(p[j] * p[i] / (1 - p[j]) for j in range(space) if j != i) for i in range(space)])
        np.testing.assert_allclose(np.bincount(slots[:, 1], minlength=space) / batch, second, atol=5 * np.sqrt(p.max() / batch))


FILLED = pytest.mark.parametrize("filler", ["cycle", "random", "decoy"])


@FILLED
@pytest.mark.parametrize("length", [1, 3, 40, 97])
def test_passkey_depth_is_uniform_and_told(filler, length):
    task = Passkey(filler=filler)
    batch = draw(task, length)
    is_key = batch.inputs == KEY
    assert (is_key.sum(axis=1) == 1).all()
    before = is_key.argmax(axis=1) - 1
    assert_uniform(before, length + 1)
    np.testing.assert_allclose(batch.slices["depth"], before / length)


@FILLED
@pytest.mark.parametrize("depth, before", [(0.0, 0), (0.1, 4), (0.5, 20), (1.0, 40)])
def test_passkey_depth_can_be_fixed(filler, depth, before):
    batch = draw(Passkey(filler=filler, depth=depth), 40, batch=50)
    assert (batch.inputs[:, before + 1] == KEY).all()
    assert (batch.slices["depth"] == depth).all()


@FILLED
def test_passkey_asks_for_uniform_digits(filler):
    task = Passkey(filler=filler, digits=3)
    batch = draw(task, 20)
    at = (batch.inputs == KEY).argmax(axis=1)[:, None]
    key = np.take_along_axis(batch.inputs, at + 1 + np.arange(3), axis=1)
    np.testing.assert_array_equal(batch.targets[:, -4:-1], key)
    assert (batch.targets[:, -1] == EOS).all() and (batch.inputs[:, -4] == SEP).all()
    for digit in range(3):
        assert_uniform(key[:, digit] - CONTENT, 10)


def filler_tokens(task, length, batch=500):
    """Haystacks with the key span cut out, [B,length], and where the key stood."""
    inputs = draw(task, length, batch=batch).inputs[:, 1 : length + task.digits + 2]
    before = (inputs == KEY).argmax(axis=1)[:, None]
    column = np.arange(inputs.shape[1])
    keep = (column < before) | (column > before + task.digits)
    return inputs[keep].reshape(batch, length), before[:, 0], inputs


def test_passkey_fillers():
    cycle, _, _ = filler_tokens(Passkey(), 43)
    np.testing.assert_array_equal(cycle, np.broadcast_to(FILLER + np.arange(43) % CYCLE, cycle.shape))
    random, _, _ = filler_tokens(Passkey(filler="random", symbols=9), 43)
    assert_uniform(random.ravel() - FILLER, 9)
    decoy, _, _ = filler_tokens(Passkey(filler="decoy"), 15)  # too short for a decoy span: digits and filler tokens
    assert_uniform(decoy.ravel() - CONTENT, 26)


@pytest.mark.parametrize("digits, length", [(1, 40), (4, 64), (18, 100)])
def test_decoys_are_whole_wrong_and_away_from_the_key(digits, length):
    task = Passkey(filler="decoy", digits=digits)
    stretches = length // max(16, digits + 1)
    _, before, haystack = filler_tokens(task, length, batch=2000)
    count = (haystack == KEY2).sum(axis=1)
    assert count.max() == stretches and count.min() >= stretches - 1  # the key drops at most the one it would cut
    assert (count == stretches).any()
    number = 10 ** np.arange(digits - 1, -1, -1)
    key = (haystack[np.arange(2000)[:, None], before[:, None] + 1 + np.arange(digits)] - CONTENT) @ number
    row, at = np.nonzero(haystack == KEY2)
    span = haystack[row[:, None], at[:, None] + 1 + np.arange(digits)] - CONTENT
    assert span.min() >= 0 and span.max() <= 9  # no span runs into the key, another decoy or the end
    assert (span @ number != key[row]).all()
    if digits == 1:
        assert_uniform((span[:, 0] - key[row] - 1) % 10, 9)


def test_passkey_fillers_share_one_vocabulary():
    assert Passkey().tokens == Passkey(filler="random").tokens == Passkey(filler="decoy").tokens


def test_selective_copy_scatters_the_data():
    batch = draw(SelectiveCopy(data=3, alphabet=5), 12)
    context = batch.inputs[:, 1:13]
    is_data = context != NOISE
    assert (is_data.sum(axis=1) == 3).all()
    assert_uniform(np.nonzero(is_data)[1], 12)
    assert_uniform(context[is_data] - CONTENT, 5)
    places = np.ravel_multi_index(np.nonzero(is_data)[1].reshape(-1, 3).T, (12, 12, 12))
    assert len(np.unique(places)) == 12 * 11 * 10 // 6  # every set of places occurs, in 2000 draws of 220
    for i in range(100):
        assert [t for t in context[i] if t != NOISE] == list(batch.targets[i, 13:16])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Copy(alphabet=0), "alphabet 0 is below 1"),
        (lambda: Reverse(alphabet=-1), "alphabet -1 is below 1"),
        (lambda: Sort(values=0), "values 0 is below 1"),
        (lambda: AdditionHinted(hints=1), "hints 1 is below 2"),
        (lambda: Induction(alphabet=0), "alphabet 0 is below 1"),
        (lambda: Mode(alphabet=0), "alphabet 0 is below 1"),
        (lambda: CountUp(values=8).sample(np.random.default_rng(0), 2, 9), "length 9 is too long .* the longest is 8"),
        (lambda: MQAR(pairs=0), "pairs 0 is below 1"),
        (lambda: MQAR(pairs=9, keys=8), "pairs 9 are more than the 8 different keys"),
        (lambda: MQAR(pairs=9, values=8), "pairs 9 are more than the 8 different values"),
        (lambda: MQAR(power=0.0), "power 0.0 is not above 0"),
        (lambda: Passkey(filler="essays"), "filler 'essays' is not one of cycle, random, decoy"),
        (lambda: Passkey(digits=0), "digits 0 is below 1"),
        (lambda: Passkey(digits=19), "digits 19 is above 18"),
        (lambda: Passkey(symbols=4), "symbols 4 is below 5"),
        (lambda: Passkey(depth=1.5), "depth 1.5 is not in 0..1"),
        (lambda: SelectiveCopy(data=0), "data 0 is below 1"),
        (lambda: SelectiveCopy(alphabet=0), "alphabet 0 is below 1"),
        (lambda: CopyUnique(alphabet=8).sample(np.random.default_rng(0), 2, 9), "length 9 is too long .* the longest is 8"),
        (lambda: MQAR(pairs=4).width(15), "length 15 is too short .* the shortest is 16"),
    ],
)
def test_impossible_configs_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
