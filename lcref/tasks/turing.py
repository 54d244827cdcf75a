"""Chains of thought as traces of a Turing machine: every step of a computation written down, one cell at a time. arXiv 2507.13332 (TAIL).

    ^ a7 1 a8 0 a9 1 a10 # | even  a7 1 odd  a8 0 odd  a9 1 even  a10 # $           parity of 1 0 1, in the cells 7, 8, 9; # is blank

A machine is a dict: (state, symbol) -> (next state, symbol to write or None). Its head goes on to the next cell, unless the state says
otherwise, and stops where there is nothing to do: most machines read every cell once and stop at the blank.
A step of the trace is
    address     where the head is: the cell after the last one           `address`: Linear Transition, no step skipped or out of place
    symbol      what is read there, copied from the tape                 `fetch`: Memory Fetcher, retrieval apart from computation
    symbol      what is written instead, where the machine writes
    state       the next one, after every `cells` cells                  `cells` = 1: Atomic State; 2 joins two transitions into one
The three switches take one thing away each. `trace=False` asks for the answer alone, the control: what was written, and the last state.

Addresses are consecutive, from a random start in a pool of `addresses`: an index hint that makes every lookup unambiguous, and lets every
address occur in short problems. Two that are further apart than the longest tape never meet in training, though, and a lookup is not taught to
tell them apart; with `gaps` the tape has any of the pool, in ascending order, so that all pairs meet on short tapes (the idea of randomized
position ids, arXiv 2305.16843), and the next address is read off the tape instead of being counted to. Where a cell was written before, its latest
content is what counts. How many steps there are, and which of them write, depends on the length alone. Deviation: small vocabularies and tapes,
where the paper tunes a 7B model on text; its binary search is not here, since the middle of two addresses is arithmetic on names.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Piece, Task, at_least, lay_out, unique, vocabulary

BLANK = "#"
BITS, DIGITS = "01", "0123456789"
DONE = tuple(f"{d}*" for d in DIGITS)  # digits that are where they belong
LEFT, HOME, STOP = -1, 0, None


class Machine(NamedTuple):
    """delta: (state, symbol) -> (next state, symbol written or None). The first state is where it starts.

    moves: where the head goes in a state that is entered, if not to the next cell: LEFT, HOME (the first cell), STOP.
    """

    symbols: str  # that a tape is drawn from, without the blank
    delta: dict[tuple[str, str], tuple[str, str | None]]
    per_length: int = 1  # cells of a problem of length 1
    marks: tuple[str, ...] = ()  # symbols that are only ever written
    starts: int = 0  # the cell of the head, -1: the last one
    moves: dict[str, int | None] = {}

    @property
    def alphabet(self) -> list[str]:
        return [BLANK, *self.symbols, *self.marks]

    @property
    def states(self) -> list[str]:
        return list(dict.fromkeys([*(state for state, _ in self.delta), *(state for state, _ in self.delta.values())]))

    def run(self, tape: list[str]) -> Iterator[tuple[int, str, str | None, str | None]]:
        """Step by step: (cell, symbol read, symbol written, next state); at a symbol for which there is no step, no state, and the end."""
        tape, head, state = [*tape, BLANK], self.starts % len(tape), self.states[0]
        while head >= 0:
            read = tape[head]
            if (state, read) not in self.delta:
                yield head, read, None, None
                return
            state, new = self.delta[state, read]
            tape[head] = read if new is None else new
            yield head, read, new, state
            move = self.moves.get(state, 1)
            if move is STOP:
                return
            head = 0 if move == HOME else head + move


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
# a number by 7, highest digit first: the state is the remainder
DIVISION = Machine(DIGITS, {(f"r{r}", d): (f"r{(10 * r + int(d)) % 7}", str((10 * r + int(d)) // 7)) for r in range(7) for d in DIGITS})
# from the last cell to the first, out of the tape
REVERSE = Machine(DIGITS, {("say", d): ("say", d) for d in DIGITS}, starts=-1, moves={"say": LEFT})
# h5: a pass has come here holding 5. It reads the next one, 3, and is 3|5: back, 3 is written; /5: on, 5 is written. At the end of a pass, !5: back,
# and 5* is written: it is where it belongs, and the next pass ends before it
BUBBLE_SORT = Machine(DIGITS, {
    **{("take", d): (f"h{d}", None) for d in DIGITS}, **{("take", d): ("done", None) for d in DONE},
    **{(f"h{a}", b): (f"{min(a, b)}|{max(a, b)}", None) for a in DIGITS for b in DIGITS},
    **{(f"h{a}", end): (f"!{a}", None) for a in DIGITS for end in (BLANK, *DONE)},
    **{(f"{a}|{b}", d): (f"/{b}", a) for a in DIGITS for b in DIGITS if a <= b for d in DIGITS},
    **{(f"/{a}", d): (f"h{a}", a) for a in DIGITS for d in DIGITS}, **{(f"!{a}", a): ("take", f"{a}*") for a in DIGITS},
}, marks=DONE, moves={"take": HOME, "done": STOP, **{f"{a}|{b}": LEFT for a in DIGITS for b in DIGITS},
                      **{f"!{a}": LEFT for a in DIGITS}})  # fmt: skip
MACHINES = {"parity": PARITY, "increment": INCREMENT, "addition": ADDITION, "compare": COMPARE, "division": DIVISION, "reverse": REVERSE,
            "bubble_sort": BUBBLE_SORT}  # fmt: skip


@functools.cache
def tables(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The number of the next state, and of the symbol that is written, by numbers of state and symbol; -1 for none."""
    machine = MACHINES[name]
    symbols, states = ({said: i for i, said in enumerate(names)} for names in (machine.alphabet, machine.states))
    follows, written = np.full((2, len(states), len(symbols)), -1)
    for (state, symbol), (after, new) in machine.delta.items():
        follows[states[state], symbols[symbol]] = states[after]
        written[states[state], symbols[symbol]] = -1 if new is None else symbols[new]
    return follows, written


def draw(name: str, rng: np.random.Generator, batch: int, length: int) -> np.ndarray:
    """Tapes of a machine, [B, cells + 1]: numbers in its alphabet, the last one the blank, 0."""
    machine = machine_named(name)
    tape = rng.integers(len(machine.symbols), size=(batch, length * machine.per_length), dtype=np.int32)
    first = np.arange(length)[None, :] < rng.integers(length + 1, size=(batch, 1))  # the places that are made special
    if name == "increment":
        tape = np.where(first, 9, tape)
    if name == "compare":
        tape[:, 1::2] = np.where(first, tape[:, ::2], tape[:, 1::2])
    return np.pad(1 + tape, ((0, 0), (0, 1)))


def machine_named(name: str) -> Machine:
    """KeyError for an unknown one."""
    if name not in MACHINES:
        raise KeyError(f"unknown machine {name!r}; there is: {', '.join(MACHINES)}")
    return MACHINES[name]


@dataclass(frozen=True)
class TuringTrace(Task):
    """A tape of `length` symbols (pairs of symbols for addition and compare), and the trace of `machine` over it. All of it is scored. A trace has
    as many steps as the tape has cells, give or take one; that of bubble_sort 3 n (n + 1) / 2 + 1.

    Increment: at least so many nines at the low end, uniform in 0 .. length. Compare: so many equal places before the first that may
    differ, likewise. Longest: what the addresses hold. KeyError for an unknown machine.

    >>> print(show(TuringTrace(), np.random.default_rng(0), length=3, samples=1))
    length 3
    inputs   ^   a77 1   a78 1   a79 1   a80 # |    even a77 1   odd a78 1    even a79 1   odd a80 #
    targets  a77 1   a78 1   a79 1   a80 #   | even a77  1   odd a78 1   even a79  1   odd a80 #   $
    scored                                     *    *    *   *   *   *   *    *    *   *   *   *   *
    >>> print(show(TuringTrace(gaps=True), np.random.default_rng(0), length=3, samples=1))
    length 3
    inputs   ^   a54 1   a93 1   a94 1    a122 # |    even a54 1   odd a93 1    even a94 1   odd  a122 #
    targets  a54 1   a93 1   a94 1   a122 #    | even a54  1   odd a93 1   even a94  1   odd a122 #    $
    scored                                       *    *    *   *   *   *   *    *    *   *   *    *    *
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
    >>> print(show(TuringTrace(machine="division"), np.random.default_rng(0), length=3, samples=1))
    length 3
    inputs   ^   a77 8   a78 6   a79 5   a80 # |  r0  a77 8 1  r1  a78 6 2  r2  a79 5 3  r4  a80 #
    targets  a77 8   a78 6   a79 5   a80 #   | r0 a77 8   1 r1 a78 6   2 r2 a79 5   3 r4 a80 #   $
    scored                                     *  *   *   * *  *   *   * *  *   *   * *  *   *   *
    >>> print(show(TuringTrace(machine="reverse"), np.random.default_rng(0), length=3, samples=1))
    length 3
    inputs   ^   a77 8   a78 6   a79 5   a80 # |   say a79 5 5   say a78 6 6   say a77 8 8   say
    targets  a77 8   a78 6   a79 5   a80 #   | say a79 5   5 say a78 6   6 say a77 8   8 say $
    scored                                     *   *   *   * *   *   *   * *   *   *   * *   *
    >>> print(show(TuringTrace(machine="bubble_sort"), np.random.default_rng(0), length=2, samples=1))
    length 2
    inputs   ^   a68 8   a69 6   a70 # |    take a68 8  h8  a69 6   6|8 a68 8 6  /8  a69 6 8  h8  a70 #  !8  a69 8  8*
    targets  a68 8   a69 6   a70 #   | take a68  8   h8 a69 6   6|8 a68 8   6 /8 a69 6   8 h8 a70 #   !8 a69 8   8* take
    scored                             *    *    *   *  *   *   *   *   *   * *  *   *   * *  *   *   *  *   *   *  *
    inputs   take a68 6  h6  a69 8* !6  a68 6  6*   take a68 6*   done
    targets  a68  6   h6 a69 8*  !6 a68 6   6* take a68  6*  done $
    scored   *    *   *  *   *   *  *   *   *  *    *    *   *    *
    """

    machine: str = "parity"
    addresses: int = 256
    address: bool = True
    fetch: bool = True
    cells: int = 1
    trace: bool = True
    gaps: bool = False

    def __post_init__(self):
        at_least(1, cells=self.cells)
        at_least(1 + self.machinery.per_length, addresses=self.addresses)

    @property
    def machinery(self) -> Machine:
        return machine_named(self.machine)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Blank, symbols, marks, states, addresses."""
        return vocabulary([*self.machinery.alphabet, *self.machinery.states, *(f"a{i}" for i in range(self.addresses))])

    @property
    def longest(self) -> int:
        return (self.addresses - 1) // self.machinery.per_length

    def width(self, length: int) -> int:
        self.check(length)
        return self.sample(np.random.default_rng(0), 1, length).inputs.shape[1]

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        """All rows at once: the head is where it would be on any tape of this length."""
        self.check(length)
        machine, (follows, written) = self.machinery, tables(self.machine)
        symbols, states = len(machine.alphabet), len(machine.states)
        tape = draw(self.machine, rng, batch, length)
        cells = tape.shape[1] - 1
        if self.gaps:
            at = np.sort(unique(rng, batch, cells + 1, self.addresses), axis=1)
        else:
            at = rng.integers(self.addresses - cells, size=(batch, 1)) + np.arange(cells + 1)[None, :]
        at = at + CONTENT + symbols + states
        prompt: list[Piece] = [BOS, *(piece for i in range(cells + 1) for piece in (at[:, [i]], CONTENT + tape[:, [i]])), SEP]
        name = lambda state: (CONTENT + symbols + state)[:, None]
        state = np.zeros(batch, np.int64)
        trace, last, steps = [name(state)], {}, list(machine.run([machine.symbols[0]] * cells))
        count = sum(after is not None for *_, after in steps)
        for i, (cell, _, _, after) in enumerate(steps, 1):
            read = tape[:, cell]
            trace += [at[:, [cell]]] * self.address + [CONTENT + read[:, None]] * self.fetch
            if after is None:
                break
            wrote, state = written[state, read], follows[state, read]
            if (wrote >= 0).all():
                tape[:, cell] = wrote
                last.pop(cell, None)  # to the end: answers are in the order of the last writing
                last[cell] = CONTENT + wrote[:, None]
                trace.append(last[cell])
            if i % self.cells == 0 or i == count:
                trace.append(name(state))
        return lay_out(prompt, [*(trace if self.trace else [*last.values(), name(state)]), EOS], length)

    def said(self, tape: list[str], addresses: list[str]) -> tuple[list[str], list[int]]:
        """The machine as it is written down, on one tape: (trace, places in it of what comes out): what stands at the end in every cell that
        was written, in the order of the last writing, and the last state."""
        said, last, end, steps = [self.machinery.states[0]], {}, 0, list(self.machinery.run(tape))
        count = sum(state is not None for *_, state in steps)
        for i, (cell, read, new, state) in enumerate(steps, 1):
            said += [addresses[cell]] * self.address + [read] * self.fetch
            if new is not None:
                last.pop(cell, None)
                last[cell] = len(said)
                said.append(new)
            if state is not None and (i % self.cells == 0 or i == count):
                end = len(said)
                said.append(state)
        return said, [*last.values(), end]

    def outcome(self, length: int) -> np.ndarray:
        """Places, in what is scored, of what comes out: which they are does not depend on what is on the tape."""
        self.check(length)
        cells = length * self.machinery.per_length
        _, places = self.said([self.machinery.symbols[0]] * cells, ["a0"] * (cells + 1))
        return np.array(places if self.trace else range(len(places)))

    def answer(self, question: np.ndarray) -> np.ndarray:
        """One row at a time, one step at a time, from the dict."""
        names = self.tokens
        number = {name: i for i, name in enumerate(names)}
        rows = []
        for row in question:
            prompt = [names[i] for i in row]
            trace, places = self.said(prompt[1:-2:2], prompt[::2])
            rows.append([number[name] for name in (trace if self.trace else [trace[i] for i in places])] + [EOS])
        return np.array(rows, np.int32)
