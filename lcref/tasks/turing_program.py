"""Turing programs: after every step of a machine the whole tape is written anew, so that each step is a copy with one edit. arXiv 2407.03310.

    ^ 1 0 1 # | even 1 0 1 # ; 1 odd 0 1 # ; 1 0 odd 1 # ; 1 0 1 even # $          parity of 1 0 1

A line is a configuration as textbooks write it: the tape, with the state in front of the cell where the head is; lines are separated by `;`. The
machines are those of turing.py. Nothing has to be looked up far away, as in traces with addresses: the last line is all that matters, copied but
for a place that its state marks. The price is their length: n + 1 lines of n + 2 tokens for a machine that reads every cell once.
Deviation: the paper marks the head by letters for digits, and writes a carry and a result in addition; here every machine has one form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Piece, Task, lay_out, vocabulary
from lcref.tasks.turing import Machine, draw, machine_named, tables

NEXT = 4


@dataclass(frozen=True)
class TuringProgram(Task):
    """A tape of `length` symbols (pairs of symbols for addition and compare), and every configuration of `machine` on it. All of them are scored.
    No longest problem. KeyError for an unknown machine.

    >>> print(show(TuringProgram(), np.random.default_rng(0), length=2, samples=1))
    length 2
    inputs   ^ 1 1 # |    even 1 1 # ; 1   odd 1 # ; 1 1    even #
    targets  1 1 # | even 1    1 # ; 1 odd 1   # ; 1 1 even #    $
    scored           *    *    * * * * *   *   * * * * *    *    *
    >>> print(show(TuringProgram(machine="addition"), np.random.default_rng(0), length=1, samples=1))
    length 1
    inputs   ^ 8 6 # |  c0 8 6 # ; 8    c0+8 6 # ; 8 4  c1 #
    targets  8 6 # | c0 8  6 # ; 8 c0+8 6    # ; 8 4 c1 #  $
    scored           *  *  * * * * *    *    * * * * *  *  *
    """

    machine: str = "parity"

    def __post_init__(self):
        machine_named(self.machine)

    @property
    def machinery(self) -> Machine:
        return machine_named(self.machine)

    @property
    def tokens(self) -> tuple[str, ...]:
        """Blank, symbols, marks, states."""
        return vocabulary([*self.machinery.alphabet, *self.machinery.states], **{";": NEXT})

    def width(self, length: int) -> int:
        self.check(length)
        cells = length * self.machinery.per_length
        return 1 + cells + 1 + len(self.heads(cells)) * (cells + 3)  # a line is the tape, its blank, the state, and ; or $

    def heads(self, cells: int) -> list[int]:
        """Where the head is in every configuration: on any tape of so many cells. Where a machine stops, it stays."""
        steps = list(self.machinery.run([self.machinery.symbols[0]] * cells))
        return [cell for cell, *_ in steps] + [steps[-1][0]] * (steps[-1][-1] is not None)

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        """All rows at once."""
        self.check(length)
        follows, written = tables(self.machine)
        tape, state = draw(self.machine, rng, batch, length), np.zeros(batch, np.int64)
        prompt: list[Piece] = [BOS, CONTENT + tape, SEP]
        lines: list[Piece] = []
        heads = self.heads(tape.shape[1] - 1)
        for i, head in enumerate(heads):
            named = CONTENT + len(self.machinery.alphabet) + state[:, None]
            lines += [NEXT] * bool(i) + [CONTENT + tape[:, :head], named, CONTENT + tape[:, head:]]
            if i + 1 < len(heads):
                read = tape[:, head]
                wrote, state = written[state, read], follows[state, read]
                tape = tape.copy()
                tape[:, head] = np.where(wrote >= 0, wrote, read)
        return lay_out(prompt, [*lines, EOS], length)

    def outcome(self, length: int) -> np.ndarray:
        """Places, in what is scored, of the last configuration."""
        cells = length * self.machinery.per_length
        end = len(self.heads(cells)) * (cells + 3) - 1
        return np.arange(end - (cells + 2), end)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """One row at a time, from the dict."""
        names = self.tokens
        number = {name: i for i, name in enumerate(names)}
        rows = []
        for row in question:
            tape, state, said = [names[i] for i in row], self.machinery.states[0], []
            for cell, _, new, after in self.machinery.run(tape[:-1]):
                said += [*tape[:cell], state, *tape[cell:], ";"]
                if after is None:
                    break
                tape[cell], state = new or tape[cell], after
            else:
                said += [*tape[:cell], state, *tape[cell:], ";"]
            rows.append([number[name] for name in said[:-1]] + [EOS])
        return np.array(rows, np.int32)
