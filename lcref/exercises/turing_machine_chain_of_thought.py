"""Exercises of notebook 12: a machine as a dict, how long its trace is, the rules that continue a trace."""
from collections.abc import Mapping
from itertools import product

import numpy as np

from lcref.exercises import difference, verdict
from lcref.tasks import TuringTrace


def increment(answer) -> bool:
    """answer: {(state, symbol): (next state, symbol to write)} over "0" and "1", lowest bit first, which adds one; the first entry's state starts."""
    if answer is None:
        return verdict("the answer is None: it is still to be written")
    delta = getattr(answer, "delta", answer)
    if not isinstance(delta, Mapping) or not delta or not all(isinstance(key, tuple) and len(key) == 2 for key in delta):
        return verdict('the answer should be a dict whose keys are pairs (state, symbol), such as ("carry", "0")')
    tapes = ["".join(bits) for n in range(1, 7) for bits in product("01", repeat=n)] + ["1" * 50, "1" * 20 + "0" * 30]
    for tape in tapes:
        state, written = next(iter(delta))[0], []
        for cell, symbol in enumerate(tape):
            where = f"on the tape {' '.join(tape)}, in cell {cell}"
            if (state, symbol) not in delta:
                return verdict(f"{where}, the machine is in state {state!r} and reads {symbol!r}, and the dict has no entry for that")
            entry = delta[state, symbol]
            if not isinstance(entry, (tuple, list)) or len(entry) != 2:
                return verdict(f"the entry for {(state, symbol)} is {entry!r}, and should be (next state, symbol to write)")
            state = entry[0]
            written.append(entry[1])
        want = [*f"{(int(tape[::-1], 2) + 1) % 2 ** len(tape):0{len(tape)}b}"[::-1]]
        if written != want:
            return verdict(f"the tape {' '.join(tape)} becomes {' '.join(map(repr, written))}, and should become {' '.join(map(repr, want))}")
    return verdict(None)


def answer_length(answer) -> bool:
    """answer(n, address, fetch, writes, cells) -> how many words are scored in a trace over n cells, the first state and $ included."""
    for n, cells, address, fetch, writes in product((1, 2, 7, 20), (1, 2, 3), (True, False), (True, False), (True, False)):
        task = TuringTrace("increment" if writes else "parity", address=address, fetch=fetch, cells=cells)
        want = int(task.sample(np.random.default_rng(0), 1, n).weights.sum())
        what = f"answer_length({n}, address={address}, fetch={fetch}, writes={writes}, cells={cells})"
        if problem := difference(what, answer(n, address, fetch, writes, cells), want):
            return verdict(problem)
    return verdict(None)


def rule(answer) -> bool:
    """answer(last, found) -> the next word of a trace of `increment` from its last four words and the word behind the first mention of the last."""
    task = TuringTrace("increment")
    for length in (1, 2, 3, 6, 40):
        batch = task.sample(np.random.default_rng(length), 20, length)
        for inputs, targets in zip(batch.inputs, batch.targets):
            row = [*task.decode(inputs), task.tokens[targets[-1]]]
            for place in range(row.index("|") + 3, len(row)):
                mentioned = row.index(row[place - 1]) + 1
                last, found = row[place - 4:place], row[mentioned] if mentioned < place else None
                if (got := answer(list(last), found)) is None:
                    return verdict(f"the answer for last={last}, found={found!r} is None: it is still to be written")
                if got != row[place]:
                    said = " ".join(row[row.index("|") + 1:place][-12:])
                    return verdict(f"the word after {said} (found={found!r}) is {got!r}, and should be {row[place]!r}")
    return verdict(None)
