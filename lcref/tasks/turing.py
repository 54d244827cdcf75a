"""Chains of thought as traces of a Turing machine: every step of a computation written down, one cell at a time. arXiv 2507.13332 (TAIL).

    ^ a7 1 a8 0 a9 1 a10 # | even  a7 1 odd  a8 0 odd  a9 1 even  a10 # $           parity of 1 0 1, in the cells 7, 8, 9; # is blank

A machine is a dict: (state, symbol) -> (next state, symbol to write or None). The head moves right and stops at the blank, so that every cell
is read once. A step of the trace is
    address     where the head is: the cell after the last one           `address`: Linear Transition, no step skipped or out of place
    symbol      what is read there, copied from the tape                 `fetch`: Memory Fetcher, retrieval apart from computation
    symbol      what is written instead, where the machine writes
    state       the next one, after every `cells` cells                  `cells` = 1: Atomic State; 2 joins two transitions into one
The three switches take one thing away each. `trace=False` asks for the answer alone, the control: what was written, and the last state.

Addresses are consecutive, from a random start in a pool of `addresses`: an index hint that makes every lookup unambiguous, and lets every
address occur in short problems. Deviation: small vocabularies and one pass over the tape, where the paper tunes a 7B model on text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Piece, Task, at_least, lay_out, vocabulary

BLANK = "#"
BITS, DIGITS = "01", "0123456789"


class Machine(NamedTuple):
    """delta: (state, symbol) -> (next state, symbol written or None). The first state is where it starts."""

    symbols: str  # without the blank
    delta: dict[tuple[str, str], tuple[str, str | None]]
    per_length: int = 1  # cells of a problem of length 1

    @property
    def states(self) -> list[str]:
        return list(dict.fromkeys([*(state for state, _ in self.delta), *(state for state, _ in self.delta.values())]))


FLIP = {"even": "odd", "odd": "even"}
PARITY = Machine(BITS, {(q, s): (q if s == "0" else FLIP[q], None) for q in FLIP for s in BITS})
# lowest digit first: a one is carried in, and goes on while there are nines
INCREMENT = Machine(DIGITS, {**{("carry", d): ("carry", "0") if d == "9" else ("done", str(int(d) + 1)) for d in DIGITS},
                             **{("done", d): ("done", d) for d in DIGITS}})  # fmt: skip
# the digits of two numbers in turn, lowest first: between the two cells of a place the state remembers the first; the sum is in the second
ADDITION = Machine(DIGITS, {**{(f"c{c}", a): (f"c{c}+{a}", None) for c in BITS for a in DIGITS},
                            **{(f"c{c}+{a}", b): (f"c{total // 10}", str(total % 10)) for c in BITS for a in DIGITS for b in DIGITS
                               for total in [int(c) + int(a) + int(b)]}}, per_length=2)  # fmt: skip
# the digits of two numbers in turn, highest first: the first place where they differ decides
COMPARE = Machine(DIGITS, {**{(q, a): (f"{q}:{a}", None) for q in ("same", "less", "more") for a in DIGITS},
                           **{(f"{q}:{a}", b): (q if q != "same" or a == b else "less" if a < b else "more", None)
                              for q in ("same", "less", "more") for a in DIGITS for b in DIGITS}}, per_length=2)  # fmt: skip
MACHINES = {"parity": PARITY, "increment": INCREMENT, "addition": ADDITION, "compare": COMPARE}


@dataclass(frozen=True)
class TuringTrace(Task):
    """A tape of `length` symbols (pairs of symbols for addition and compare), and the trace of `machine` over it. All of it is scored.

    Increment: so many nines at the low end, uniform in 0 .. length. Compare: so many equal places before the first that may differ, likewise.
    Longest: what the addresses hold. KeyError for an unknown machine.

    >>> print(show(TuringTrace(), np.random.default_rng(0), length=3, samples=1))
    length 3
    inputs   ^   a77 1   a78 1   a79 1   a80 # |    even a77 1   odd a78 1    even a79 1   odd a80 #
    targets  a77 1   a78 1   a79 1   a80 #   | even a77  1   odd a78 1   even a79  1   odd a80 #   $
    scored                                     *    *    *   *   *   *   *    *    *   *   *   *   *
    >>> print(show(TuringTrace(machine="increment"), np.random.default_rng(0), length=3, samples=1))
    length 3
    inputs   ^   a77 9   a78 6   a79 5   a80 # |     carry a77 9 0     carry a78 6 7    done a79 5 5    done a80 #
    targets  a77 9   a78 6   a79 5   a80 #   | carry a77   9   0 carry a78   6   7 done a79  5   5 done a80  #   $
    scored                                     *     *     *   * *     *     *   * *    *    *   * *    *    *   *
    >>> print(show(TuringTrace(machine="addition"), np.random.default_rng(0), length=2, samples=1))
    length 2
    inputs   ^   a10 8   a11 6   a12 5   a13 2   a14 # |  c0  a10 8    c0+8 a11 6 4  c1  a12 5    c1+5 a13 2 8  c0  a14 #
    targets  a10 8   a11 6   a12 5   a13 2   a14 #   | c0 a10 8   c0+8 a11  6   4 c1 a12 5   c1+5 a13  2   8 c0 a14 #   $
    scored                                             *  *   *   *    *    *   * *  *   *   *    *    *   * *  *   *   *
    >>> print(show(TuringTrace(machine="compare"), np.random.default_rng(0), length=2, samples=1))
    length 2
    inputs   ^   a10 8   a11 6   a12 5   a13 2   a14 # |    same a10 8      same:8 a11 6    more a12 5      more:5 a13 2
    targets  a10 8   a11 6   a12 5   a13 2   a14 #   | same a10  8   same:8 a11    6   more a12  5   more:5 a13    2   more
    scored                                             *    *    *   *      *      *   *    *    *   *      *      *   *
    inputs   more a14 #
    targets  a14  #   $
    scored   *    *   *
    """

    machine: str = "parity"
    addresses: int = 256
    address: bool = True
    fetch: bool = True
    cells: int = 1
    trace: bool = True

    def __post_init__(self):
        at_least(1, cells=self.cells)
        if self.machine not in MACHINES:
            raise KeyError(f"unknown machine {self.machine!r}; there is: {', '.join(MACHINES)}")
        at_least(1 + self.machinery.per_length, addresses=self.addresses)

    @property
    def machinery(self) -> Machine:
        return MACHINES[self.machine]

    @property
    def tokens(self) -> tuple[str, ...]:
        """Blank, symbols, states, addresses."""
        return vocabulary([BLANK, *self.machinery.symbols, *self.machinery.states, *(f"a{i}" for i in range(self.addresses))])

    @property
    def longest(self) -> int:
        return (self.addresses - 1) // self.machinery.per_length

    def width(self, length: int) -> int:
        self.check(length)
        return self.sample(np.random.default_rng(0), 1, length).inputs.shape[1]

    def tape(self, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
        """Numbers of symbols [B, cells]."""
        machine = self.machinery
        tape = rng.integers(len(machine.symbols), size=(batch, length * machine.per_length), dtype=np.int32)
        first = np.arange(length)[None, :] < rng.integers(length + 1, size=(batch, 1))  # the places that are made special
        if self.machine == "increment":
            tape = np.where(first, 9, tape)
        if self.machine == "compare":
            tape[:, 1::2] = np.where(first, tape[:, ::2], tape[:, 1::2])
        return tape

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        """The machine as two tables, all rows at once."""
        self.check(length)
        machine, states = self.machinery, self.machinery.states
        follows = np.array([[states.index(machine.delta.get((q, s), (q, None))[0]) for s in machine.symbols] for q in states])
        written = np.array([[machine.symbols.find(machine.delta.get((q, s), (q, None))[1] or BLANK) for s in machine.symbols] for q in states])
        symbol, state, place = CONTENT + 1, CONTENT + 1 + len(machine.symbols), CONTENT + 1 + len(machine.symbols) + len(states)
        tape = self.tape(rng, batch, length)
        cells = tape.shape[1]
        at = place + rng.integers(self.addresses - cells, size=(batch, 1)) + np.arange(cells + 1)[None, :]
        prompt: list[Piece] = [BOS, *(piece for i in range(cells) for piece in (at[:, [i]], symbol + tape[:, [i]])), at[:, [-1]], CONTENT, SEP]
        now, trace, answer = np.zeros(batch, np.int64), [np.full((batch, 1), state, np.int32)], []
        for i in range(cells):
            wrote, now = written[now, tape[:, i]], follows[now, tape[:, i]]
            step = [at[:, [i]]] * self.address + [symbol + tape[:, [i]]] * self.fetch
            if (wrote >= 0).all():
                answer.append(symbol + wrote[:, None])
                step.append(answer[-1])
            trace += step + [state + now[:, None]] * ((i + 1) % self.cells == 0 or i + 1 == cells)
        trace += [at[:, [-1]]] * self.address + [np.full((batch, 1), CONTENT)] * self.fetch
        return lay_out(prompt, [*(trace if self.trace else [*answer, state + now[:, None]]), EOS], length)

    def outcome(self, length: int) -> np.ndarray:
        """Places, in what is scored, of what comes out: every symbol written, and the last state."""
        machine, place, places = self.machinery, int(self.trace), []  # a trace begins with a state
        state, cells = machine.states[0], length * machine.per_length
        for i in range(cells):
            state, new = machine.delta[state, machine.symbols[0]]  # whether a cell is written does not depend on what it holds
            place += self.trace * (self.address + self.fetch)
            if new is not None:
                places.append(place)
                place += 1
            place += self.trace * ((i + 1) % self.cells == 0 or i + 1 == cells)
        return np.array([*places, place - self.trace])

    def answer(self, question: np.ndarray) -> np.ndarray:
        """The machine as it is written down: one row at a time, one step at a time, from the dict."""
        names, delta = self.tokens, self.machinery.delta
        number = {name: i for i, name in enumerate(names)}
        rows = []
        for row in question:
            said = [names[i] for i in row]
            state = self.machinery.states[0]
            trace, wrote = [state], []
            for i, (address, symbol) in enumerate(zip(said[::2], said[1::2])):
                trace += [address] * self.address + [symbol] * self.fetch
                if symbol == BLANK:
                    break
                state, new = delta[state, symbol]
                wrote += [] if new is None else [new]
                trace += [] if new is None else [new]
                if (i + 1) % self.cells == 0 or said[2 * i + 3] == BLANK:
                    trace.append(state)
            rows.append([number[name] for name in (trace if self.trace else [*wrote, state])] + [EOS])
        return np.array(rows, np.int32)
