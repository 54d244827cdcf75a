"""Machines compute what they are named after; the switches of a trace take away what they say and nothing else."""
import numpy as np
import pytest

from lcref.tasks import EOS, SEP, TuringTrace
from lcref.tasks.turing import BLANK, HOME, LEFT, MACHINES, STOP


def rows(task, length=9, batch=200):
    """(symbols on the tape, names of everything that is scored) of every row"""
    drawn = task.sample(np.random.default_rng(0), batch, length)
    cells = length * task.machinery.per_length
    scored = (drawn.weights > 0)
    return [([task.tokens[i] for i in inputs[2:2 + 2 * cells:2]], [task.tokens[i] for i in targets[which]])
            for inputs, targets, which in zip(drawn.inputs, drawn.targets, scored)]


def number(digits):
    return int("".join(digits))


def test_parity():
    for tape, answer in rows(TuringTrace("parity", trace=False)):
        assert answer == ["odd" if tape.count("1") % 2 else "even", "$"]


def test_increment():
    for tape, answer in rows(TuringTrace("increment", trace=False)):
        assert number(tape[::-1]) + 1 == number(answer[:-2][::-1]) + 10**9 * (answer[-2] == "carry")


def test_addition():
    for tape, answer in rows(TuringTrace("addition", trace=False)):
        a, b = number(tape[::2][::-1]), number(tape[1::2][::-1])
        assert a + b == number(answer[:-2][::-1]) + 10**9 * (answer[-2] == "c1")


def test_compare():
    verdicts = []
    for tape, answer in rows(TuringTrace("compare", trace=False), batch=500):
        a, b = number(tape[::2]), number(tape[1::2])
        verdicts.append(answer[0])
        assert answer == ["same" if a == b else "less" if a < b else "more", "$"]
    assert all(verdicts.count(verdict) > 50 for verdict in ("same", "less", "more")), "all three are common"


def test_division():
    for tape, answer in rows(TuringTrace("division", trace=False)):
        assert divmod(number(tape), 7) == (number(answer[:-2]), int(answer[-2].removeprefix("r")))


def test_reverse():
    for tape, answer in rows(TuringTrace("reverse", trace=False)):
        assert answer == [*tape[::-1], "say", "$"]


def test_bubble_sort():
    for length in (1, 2, 7):
        for tape, answer in rows(TuringTrace("bubble_sort", trace=False), length):
            assert answer == [*(f"{d}*" for d in sorted(tape, reverse=True)), "done", "$"], "the largest is in its place first"
    steps = [len(list(MACHINES["bubble_sort"].run(["0"] * n))) for n in (1, 2, 8)]
    assert steps == [3 * n * (n + 1) // 2 + 1 for n in (1, 2, 8)]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("machine", MACHINES)
def test_a_trace_is_the_machine_step_by_step(machine, gaps):
    """Read back: from state to state by the dict, the head where the states send it, over what each cell holds by then."""
    rule, task = MACHINES[machine], TuringTrace(machine, gaps=gaps)
    prompts = task.sample(np.random.default_rng(0), 50, 5).inputs
    for (tape, said), prompt in zip(rows(task, length=5, batch=50), prompts):
        said, state, tape = iter(said), rule.states[0], [*tape, BLANK]
        head, addresses = len(tape) - 2 if rule.starts else 0, task.decode(prompt[1:1 + 2 * len(tape):2])
        assert next(said) == state
        while 0 <= head < len(tape):
            assert next(said) == addresses[head] and next(said) == tape[head]
            if (state, tape[head]) not in rule.delta:
                break
            state, new = rule.delta[state, tape[head]]
            if new is not None:
                assert next(said) == new
                tape[head] = new
            assert next(said) == state
            head = {LEFT: head - 1, HOME: 0, STOP: -1, 1: head + 1}[rule.moves.get(state, 1)]
        assert next(said) == "$" and next(said, None) is None


@pytest.mark.parametrize("switches, kept", [
    (dict(address=False), lambda name: not name.startswith("a")), (dict(fetch=False), lambda name: name not in ("0", "1", BLANK)),
    (dict(address=False, fetch=False), lambda name: name in ("even", "odd", "$"))])
def test_switches_take_their_tokens_away(switches, kept):
    for (tape, whole), (same, less) in zip(rows(TuringTrace()), rows(TuringTrace(**switches))):
        assert tape == same and less == [name for name in whole if kept(name)]


def test_joined_steps_keep_every_second_state():
    for length in (4, 5):
        for (_, one), (_, two) in zip(rows(TuringTrace(), length), rows(TuringTrace(cells=2), length)):
            states = [name for name in one if name in ("even", "odd")]
            want = [states[i] for i in range(length + 1) if i % 2 == 0 or i == length]
            assert [name for name in two if name in ("even", "odd")] == want and len(one) - len(two) == len(states) - len(want)


def test_tapes_are_written_the_same_whatever_is_traced():
    a, b = (task.sample(np.random.default_rng(3), 20, 6) for task in (TuringTrace(), TuringTrace(trace=False)))
    end = int((a.inputs[0] == SEP).argmax()) + 1
    assert (a.inputs[:, :end] == b.inputs[:, :end]).all() and (b.targets[:, -1] == EOS).all()


def test_starts_are_everywhere_in_the_pool():
    task = TuringTrace(addresses=20)
    drawn = task.sample(np.random.default_rng(0), 2000, 15).inputs[:, 1]
    assert len(np.unique(drawn)) == 20 - 15, "a tape of 15 and its blank begin at 0 .. 4"


def test_addresses_are_consecutive_or_any_of_the_pool_in_order():
    without, with_gaps = (task.sample(np.random.default_rng(0), 2000, 5).inputs[:, 1:13:2] for task in (TuringTrace(addresses=20),
                                                                                                    TuringTrace(addresses=20, gaps=True)))
    assert (np.diff(without) == 1).all() and (np.diff(with_gaps) >= 1).all()
    met = [{(a, b) for row in drawn.tolist() for i, a in enumerate(row) for b in row[i + 1:]} for drawn in (without, with_gaps)]
    assert max(b - a for a, b in met[0]) == 5 and len(met[1]) == 20 * 19 // 2, "with gaps every two of the pool meet on some tape of 5"


def test_wrong_settings():
    with pytest.raises(KeyError, match="unknown machine 'sort'; there is: parity, increment, addition, compare, division, reverse, bubble_sort"):
        TuringTrace("sort")
    with pytest.raises(ValueError, match="addresses 2 is below 3"):
        TuringTrace("addition", addresses=2)
    with pytest.raises(ValueError, match="length 10 is too long"):
        TuringTrace("addition", addresses=20).width(10)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("switches", [dict(), dict(address=False), dict(fetch=False), dict(cells=2), dict(cells=3, fetch=False), dict(trace=False)],
                         ids=str)
def test_the_outcome_stands_where_it_is_said_to(machine, switches):
    """The tokens at those places are the answer alone."""
    task, alone = TuringTrace(machine, **switches), TuringTrace(machine, trace=False)
    for length in (1, 4):
        batch = task.sample(np.random.default_rng(0), 20, length)
        question = batch.inputs[:, 1:int(batch.weights[0].argmax())]
        assert (task.answer(question)[:, task.outcome(length)] == alone.answer(question)[:, :-1]).all()
