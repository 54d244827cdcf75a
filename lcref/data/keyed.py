"""Text with a key to remember: somewhere a key token, later a question mark of its own, and the key is the answer.

    inputs   d e f K3 n c o d e ( i n p u t , ... s e l f . ASK K3 c o n ...        K0 .. K9 and ASK are tokens beside the 256 bytes and BOS
    scored   the text as ever, and K3 after ASK, `weight` times as much; not the arrival of key and question, which nothing announces

`span` makes the key a word of several such tokens, all of which must be said in order: harder to learn, and harder to keep.

Loss on text can stay flat in a model that forgets everything but the last few bytes. The key cannot be answered without looking back
all the way, and one look is enough, so that a small model can learn it in minutes. Not every seed does: a failure at distances that
were trained says that the look was not learned; only past layers x (window - 1) does it say that the architecture cannot reach.
"""
from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from lcref.data.text import Text


@dataclass(frozen=True)
class Keyed:
    """`text` with `span` of `keys` key tokens and a question in every row that is one document. ValueError for keys < 2, weight <= 0,
    span < 1, rows shorter than 2 span + 2. Key and question are at uniformly drawn places, so every distance up to the row's length is trained."""

    text: Text = Text()
    keys: int = 10
    weight: float = 10.0
    span: int = 1

    def __post_init__(self):
        if self.keys < 2 or not self.weight > 0 or self.span < 1 or self.text.length < 2 * self.span + 2:
            raise ValueError(f"keyed text needs keys >= 2, weight > 0, span >= 1, rows of {2 * self.span + 2} or more: "
                             f"got {self.keys}, {self.weight}, {self.span}, {self.text.length}")

    @property
    def vocab(self) -> int:
        """The text's tokens, the keys, and ASK."""
        return self.text.vocab + self.keys + 1

    @property
    def width(self) -> int:
        return self.text.width

    @property
    def ask(self) -> int:
        return self.text.vocab + self.keys

    def key(self, number):
        """Token id of key 0 .. keys - 1."""
        return self.text.vocab + number

    def batch(self, rng: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
        """As Text.batch. Rows that hold a border between documents are left as they are."""
        batch = self.text.batch(rng, batch_size)
        rows, weights = np.concatenate([batch["inputs"], batch["targets"][:, -1:]], 1), batch["weights"].copy()
        T, more = weights.shape[1], self.span - 1
        places = np.sort(rng.random((batch_size, T - 2 * more)).argsort(1)[:, :2], 1)  # where key and question begin, room for both behind them
        numbers = rng.integers(0, self.keys, (batch_size, self.span))
        whole = np.flatnonzero((batch["segments"] == batch["segments"][:, :1]).all(1) & (batch["weights"] > 0).all(1))
        for i in whole:
            first, second = places[i] + (0, more)
            rows[i, first:first + self.span] = rows[i, second + 1:second + 1 + self.span] = self.key(numbers[i])
            rows[i, second] = self.ask
            weights[i, max(first - 1, 0):first + more] = 0.0
            weights[i, second - 1] = 0.0
            weights[i, second:second + self.span] = self.weight
        return batch | {"inputs": rows[:, :-1], "targets": rows[:, 1:], "weights": weights}

    def questions(self, seed: int, count: int, distance: int, split: str = "validation", lead: int = 15) -> tuple[np.ndarray, np.ndarray]:
        """(rows int32 [count, lead + distance + span], answers int32 [count, span]): `lead` bytes, a key, text, ASK `distance` after the key's
        beginning, and the answer but for its last token, which follows."""
        if distance < self.span:
            raise ValueError(f"a key of {self.span} tokens cannot be asked for after {distance}")
        rng = np.random.default_rng([seed, distance])
        rows = self.windows(rng, count, lead + distance, split=split).copy()
        answers = self.key(rng.integers(0, self.keys, (count, self.span))).astype(np.int32)
        rows[:, lead:lead + self.span], rows[:, lead + distance] = answers, self.ask
        return np.concatenate([rows, answers[:, :-1]], 1), answers

    def windows(self, *args, **kwargs) -> np.ndarray:
        """The text itself, without keys."""
        return self.text.windows(*args, **kwargs)

    def stream(self, *args, **kwargs) -> np.ndarray:
        """The same, end to end."""
        return self.text.stream(*args, **kwargs)

    def fingerprint(self) -> str:
        span = f" {self.span}" if self.span > 1 else ""
        return hashlib.sha256(f"{self.text.fingerprint()} {self.keys} {self.weight}{span}".encode()).hexdigest()
