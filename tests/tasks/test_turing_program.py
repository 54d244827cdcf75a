import numpy as np
import pytest

from lcref.tasks import CONTENT, EOS, TuringProgram, TuringTrace
from lcref.tasks.turing import BLANK, HOME, LEFT, MACHINES, STOP
from lcref.tasks.turing_program import NEXT


def lines(task, row, cells):
    """The lines that follow the bar, each as names."""
    said = [task.tokens[i] for i in row[cells + 3:-1]]
    found = [[]]
    for name in said:
        found.append([]) if name == ";" else found[-1].append(name)
    return found


@pytest.mark.parametrize("machine", MACHINES)
def test_every_line_follows_from_the_one_before(machine):
    """Read back: the state says where the head is; what it reads there decides the next line."""
    rule, task, length = MACHINES[machine], TuringProgram(machine), 3
    batch = task.sample(np.random.default_rng(0), 30, length)
    rows = np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)
    assert (rows[:, -1] == EOS).all() and rows.shape[1] == task.width(length) + 1
    for row in rows:
        cells = length * rule.per_length
        tape = [task.tokens[i] for i in row[1:cells + 2]]
        said, state, head = lines(task, row, cells), rule.states[0], cells - 1 if rule.starts else 0
        for i, line in enumerate(said):
            assert line == [*tape[:head], state, *tape[head:]] and tape[-1] == BLANK
            if (state, tape[head]) not in rule.delta:
                assert i + 1 == len(said)
                break
            state, new = rule.delta[state, tape[head]]
            tape[head] = new or tape[head]
            move = rule.moves.get(state, 1)
            if move is STOP or head + (move or 0) < 0:
                assert said[i + 1:] == [[*tape[:head], state, *tape[head:]]], "where it stops, the head stays"
                break
            head = {LEFT: head - 1, HOME: 0, 1: head + 1}[move]


def test_parity_by_hand():
    task = TuringProgram()
    one, zero = CONTENT + 2, CONTENT + 1
    said = task.decode(task.answer(np.array([[one, zero, one, CONTENT]]))[0])
    assert " ".join(said) == "even 1 0 1 # ; 1 odd 0 1 # ; 1 0 odd 1 # ; 1 0 1 even # $" and task.tokens[NEXT] == ";"


@pytest.mark.parametrize("machine", MACHINES)
def test_what_comes_out_is_what_a_trace_comes_to(machine):
    """The last line has the last state in it, and on its tape what the machine wrote."""
    program, alone = TuringProgram(machine), TuringTrace(machine, trace=False)
    batch = program.sample(np.random.default_rng(1), 20, 4)
    cells = 4 * MACHINES[machine].per_length
    question = batch.inputs[:, 1:cells + 2]
    last = program.answer(question)[:, program.outcome(4)]
    addressed = np.stack([alone.tokens.index("a3") + np.arange(cells + 1) + 0 * question, question], 2).reshape(20, -1)
    short = alone.answer(addressed)
    for line, answer in zip(last, short):
        names, wanted = [program.tokens[i] for i in line], [alone.tokens[i] for i in answer[:-1]]
        assert len(names) == cells + 2 and wanted[-1] in names and ";" not in names
        names.remove(wanted[-1])
        assert set(wanted[:-1]) <= set(names)


def test_an_unknown_machine_is_named():
    with pytest.raises(KeyError, match="unknown machine 'sort'; there is: parity, increment"):
        TuringProgram("sort")
