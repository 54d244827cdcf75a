"""What a synthetic task is: problems of a chosen length, written as token rows, and an independent algorithm that solves them.

Every problem is one row of tokens, prompt first, answer last:

    BOS  question  SEP  answer  EOS            e.g.  ^ c a b | c a b $

A decoder reads `inputs` (the row without its last token) and is asked for `targets` (the row without its first token), the next
token at every position; only the answer's tokens (EOS included, where the answer has one) are scored, weight 1, all others 0.

Exact match needs no decoding loop: the answer follows from the prompt, so greedy decoding is right if and only if every scored
argmax of one teacher-forced pass is right. (Token accuracy does not transfer in this way: teacher forcing repairs each error.)

One vocabulary per task, sized for its longest problem, with the same first ids everywhere: PAD 0, BOS 1, SEP 2, EOS 3, markers of
the task 4..15, content from 16. A token that a long test problem needs (a value, an index hint) must occur in short training
problems too: such tokens are drawn from a pool larger than the longest problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

PAD, BOS, SEP, EOS = 0, 1, 2, 3
CONTENT = 16  # ids 4..15 are the task's own markers; everything a problem is about starts here

Piece = int | np.ndarray  # one token for every row, or tokens [B,n]


class Batch(NamedTuple):
    """B problems. `slices` holds what a result may be grouped by: always "length", the problem size; "depth" for a passkey."""

    inputs: np.ndarray  # int32 [B,T]
    targets: np.ndarray  # int32 [B,T], the next token at every position
    weights: np.ndarray  # float32 [B,T], 1 where the target is scored, else 0
    slices: dict[str, np.ndarray]  # name -> [B]


@dataclass(frozen=True)
class Task:
    """Base of all tasks: a frozen config whose methods are pure functions of their arguments.

    A task writes `tokens`, `width`, `sample` and `answer` (or, where the answer is not one run after SEP, `solve`);
    `shortest` and `longest` bound the problem lengths it can pose.
    """

    @property
    def tokens(self) -> tuple[str, ...]:
        """Printable name of every id."""
        raise NotImplementedError

    @property
    def vocab(self) -> int:
        return len(self.tokens)

    @property
    def shortest(self) -> int:
        return 1

    @property
    def longest(self) -> int | None:
        """Longest problem the vocabulary can write; None where there is no limit."""
        return None

    def check(self, length: int) -> None:
        """ValueError unless shortest <= length <= longest."""
        if length < self.shortest:
            raise ValueError(f"length {length} is too short for {self}: the shortest is {self.shortest}")
        if self.longest is not None and length > self.longest:
            raise ValueError(f"length {length} is too long for {self}: the longest is {self.longest}")

    def width(self, length: int) -> int:
        """T of `sample(..., length)`; never shrinks as length grows."""
        raise NotImplementedError

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        """`batch` fresh problems, all of size `length`, each row [T = width(length)]. ValueError for an impossible length."""
        raise NotImplementedError

    def answer(self, question: np.ndarray) -> np.ndarray:
        """Tokens [B,n] between BOS and SEP -> the answer's tokens [B,m]; a different algorithm from the one that sampled."""
        raise NotImplementedError

    def solve(self, inputs: np.ndarray) -> np.ndarray:
        """Prompts of one length -> int32 [B,T]: the answer at every scored place, PAD elsewhere.

        `inputs` may stop at SEP or carry anything after it: what follows SEP is not read. ValueError if rows differ in length.
        """
        sep = place_of(inputs, SEP)
        answer = self.answer(inputs[:, 1:sep])
        solved = np.full((len(inputs), max(inputs.shape[1], sep + answer.shape[1])), PAD, np.int32)
        solved[:, sep : sep + answer.shape[1]] = answer  # the token at SEP is asked for the answer's first token
        return solved

    def decode(self, ids: Sequence[int] | np.ndarray) -> list[str]:
        """Names of a row of ids. ValueError for an id outside the vocabulary."""
        names = self.tokens
        for i in ids:
            if not 0 <= i < len(names):
                raise ValueError(f"token id {i} is not in 0..{len(names) - 1}")
        return [names[i] for i in ids]


def place_of(inputs: np.ndarray, marker: int) -> int:
    """Where SEP, or a marker of the task's own, first stands in every row. ValueError if rows differ in length."""
    at = int((inputs[0] == marker).argmax())
    if not (inputs[:, at] == marker).all():
        said = "SEP" if marker == SEP else "its marker"
        raise ValueError(f"solve takes prompts of one length, each with {said} at the same place; row 0 has it at {at}")
    return at


def vocabulary(content: Iterable[str], **markers: int) -> tuple[str, ...]:
    """Names of all ids: specials `_ ^ | $`, the given markers (name=id, a special may be renamed), `<id>` if unused, content."""
    names = ["_", "^", "|", "$", *(f"<{i}>" for i in range(4, CONTENT))]
    for name, i in markers.items():
        names[i] = name
    return (*names, *content)


def symbols(n: int) -> list[str]:
    """n names: a, b, c, ... while the letters last, else 0, 1, 2, ..."""
    return [chr(ord("a") + i) for i in range(n)] if n <= 26 else [str(i) for i in range(n)]


def at_least(limit: int, **fields: int) -> None:
    """ValueError for a config field below its limit."""
    for name, value in fields.items():
        if value < limit:
            raise ValueError(f"{name} {value} is below {limit}")


def lay_out(prompt: Sequence[Piece], answer: Sequence[Piece], length: int, **slices: np.ndarray) -> Batch:
    """Write the pieces of prompt and answer side by side, one problem a row; the answer's tokens are the scored ones."""
    pieces = [*prompt, *answer]
    widths = [1 if isinstance(piece, int) else piece.shape[1] for piece in pieces]
    batch = next(len(piece) for piece in pieces if not isinstance(piece, int))
    rows = np.empty((batch, sum(widths)), np.int32)
    end = 0
    for piece, width in zip(pieces, widths):
        rows[:, end : end + width] = piece
        end += width
    weights = np.zeros((batch, end - 1), np.float32)
    weights[:, sum(widths[: len(prompt)]) - 1 :] = 1  # targets are one place ahead of inputs
    return next_token(rows, weights, length, **slices)


def next_token(rows: np.ndarray, weights: np.ndarray, length: int, **slices: np.ndarray) -> Batch:
    """Token rows [B,T+1] as a batch of next-token predictions."""
    slices = {"length": np.full(len(rows), length, np.int32), **slices}
    return Batch(rows[:, :-1].copy(), rows[:, 1:], weights, slices)  # a copy: writing to one must not change the other


def unique(rng: np.random.Generator, batch: int, n: int, pool: int) -> np.ndarray:
    """[batch,n] draws from range(pool), no value twice in a row: the head of a random permutation. Cost O(batch pool)."""
    return rng.permuted(np.broadcast_to(np.arange(pool, dtype=np.int32), (batch, pool)), axis=1)[:, :n]


def mixed(task: Task, rng: np.random.Generator, batch: int, lengths: np.ndarray, width: int) -> Batch:
    """Row i poses a problem of size lengths[i]; rows are padded to `width` with PAD of weight 0.

    One call of `sample` for each distinct length. ValueError when `lengths` is not [batch] or a problem is wider than `width`.
    """
    lengths = np.asarray(lengths)
    if lengths.shape != (batch,):
        raise ValueError(f"lengths have shape {lengths.shape}, expected ({batch},)")
    need = task.width(int(lengths.max()))
    if need > width:
        raise ValueError(f"width {width} is too small for length {lengths.max()}, which needs {need}")
    inputs = np.full((batch, width), PAD, np.int32)
    targets = np.full((batch, width), PAD, np.int32)
    weights = np.zeros((batch, width), np.float32)
    slices: dict[str, np.ndarray] = {}

    order = np.argsort(lengths, kind="stable")  # rows of equal length side by side, so that each group is written as one slice
    distinct, starts = np.unique(lengths[order], return_index=True)
    for length, low, high in zip(distinct, starts, [*starts[1:], batch]):
        part = task.sample(rng, high - low, int(length))
        t = part.inputs.shape[1]
        inputs[low:high, :t], targets[low:high, :t], weights[low:high, :t] = part.inputs, part.targets, part.weights
        for name, values in part.slices.items():
            slices.setdefault(name, np.empty(batch, values.dtype))[low:high] = values
    back = np.empty(batch, np.intp)
    back[order] = np.arange(batch)
    return Batch(inputs[back], targets[back], weights[back], {name: values[back] for name, values in slices.items()})
