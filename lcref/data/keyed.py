"""Text with a key to remember: somewhere a key token, later a question mark of its own, and the key is the answer.

    inputs   d e f K3 n c o d e ( i n p u t , ... s e l f . ASK K3 c o n ...        K0 .. K9 and ASK are tokens beside the 256 bytes and BOS
    scored   the text as ever, and K3 after ASK, `weight` times as much; not the arrival of key and question, which nothing announces

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
    """`text` with one of `keys` key tokens and a question in every row that is one document. ValueError for keys < 2, weight <= 0,
    rows shorter than 4. Key and question are at uniformly drawn places, so every distance up to the row's length is trained."""

    text: Text = Text()
    keys: int = 10
    weight: float = 10.0

    def __post_init__(self):
        if self.keys < 2 or not self.weight > 0 or self.text.length < 4:
            raise ValueError(f"keyed text needs keys >= 2, weight > 0, rows of 4 or more: got {self.keys}, {self.weight}, {self.text.length}")

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
        T = weights.shape[1]
        places = np.sort(rng.random((batch_size, T)).argsort(1)[:, :2], 1)             # two different slots of each row's inputs
        numbers = rng.integers(0, self.keys, batch_size)
        whole = np.flatnonzero((batch["segments"] == batch["segments"][:, :1]).all(1) & (batch["weights"] > 0).all(1))
        for i in whole:
            first, second = places[i]
            rows[i, first] = rows[i, second + 1] = self.key(numbers[i])
            rows[i, second] = self.ask
            weights[i, [p - 1 for p in (first, second) if p > 0]] = 0.0
            weights[i, second] = self.weight
        return batch | {"inputs": rows[:, :-1], "targets": rows[:, 1:], "weights": weights}

    def questions(self, seed: int, count: int, distance: int, split: str = "validation", lead: int = 15) -> tuple[np.ndarray, np.ndarray]:
        """(rows int32 [count, lead + distance + 1], answers int32 [count]): `lead` bytes, a key, text, ASK, the question `distance` after the key."""
        rng = np.random.default_rng([seed, distance])
        rows = self.windows(rng, count, lead + distance, split=split).copy()
        answers = self.key(rng.integers(0, self.keys, count)).astype(np.int32)
        rows[:, lead], rows[:, lead + distance] = answers, self.ask
        return rows, answers

    def windows(self, *args, **kwargs) -> np.ndarray:
        """The text itself, without keys."""
        return self.text.windows(*args, **kwargs)

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.text.fingerprint()} {self.keys} {self.weight}".encode()).hexdigest()
