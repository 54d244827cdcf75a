"""A task as an endless source of training batches: lengths drawn uniformly, rows padded to one fixed shape."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from lcref.tasks.copy import Copy
from lcref.tasks.sort import Sort
from lcref.tasks.sort_hints import Successor
from lcref.tasks.task import CONTENT, Task, mixed


@dataclass(frozen=True)
class TaskSource:
    """Batches of `task` with problem lengths uniform in min_length..max_length, drawn anew for each row.

    Every batch has T = task.width(max_length), so a training step compiles once. ValueError for lengths the task cannot pose.
    Cost: one `task.sample` call per distinct length in the batch; a batch of 32 copies of up to 20 letters takes about 0.2 ms.
    """

    task: Task = Copy()
    min_length: int = 2
    max_length: int = 20

    def __post_init__(self):
        if self.min_length > self.max_length:
            raise ValueError(f"min_length {self.min_length} is above max_length {self.max_length}")
        self.task.check(self.min_length)
        self.task.check(self.max_length)

    @property
    def vocab(self) -> int:
        return self.task.vocab

    @property
    def width(self) -> int:
        """T of every batch."""
        return self.task.width(self.max_length)

    def batch(self, rng: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
        """inputs int32, targets int32, weights float32, each [batch_size, width]."""
        lengths = rng.integers(self.min_length, self.max_length + 1, batch_size)
        batch = mixed(self.task, rng, batch_size, lengths, self.width)
        return {"inputs": batch.inputs, "targets": batch.targets, "weights": batch.weights}

    def fingerprint(self) -> str:
        """sha256 of the config and of one fixed batch: it changes when the settings, the generator or NumPy's stream change."""
        digest = hashlib.sha256(repr(self).encode())
        for name, array in self.batch(np.random.default_rng(0), 16).items():
            digest.update(f"{name} {array.shape} {array.dtype}".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class HintedSource(TaskSource):
    """The same, but each row poses the `hint` instead of the task with probability `fraction`; what a hint's tokens score counts `hint_weight`
    times as much. A length below the hint's shortest becomes that. Evaluations ask the task alone. ValueError for a fraction outside 0..1,
    and for hints in other ids than the task's.

    With a fraction of 0 the batches are not those of TaskSource: which rows are hints is drawn all the same.
    """

    task: Task = Sort()
    hint: Task = Successor()
    fraction: float = 0.5
    hint_weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        self.hint.check(max(self.min_length, self.hint.shortest))
        self.hint.check(self.max_length)
        if not 0 <= self.fraction <= 1 or not self.hint_weight >= 0:
            raise ValueError(f"fraction must be from 0 to 1 and hint_weight 0 or more, got {self.fraction} and {self.hint_weight}")
        content = [task.tokens[CONTENT:] for task in (self.task, self.hint)]
        if any(a != b for a, b in zip(*content)):
            raise ValueError(f"{self.hint} writes in other tokens than {self.task}: the two must agree on what a problem is about")

    @property
    def vocab(self) -> int:
        return max(self.task.vocab, self.hint.vocab)

    @property
    def width(self) -> int:
        return max(self.task.width(self.max_length), self.hint.width(self.max_length))

    def batch(self, rng: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
        lengths = rng.integers(self.min_length, self.max_length + 1, batch_size)
        asks = rng.random(batch_size) < self.fraction
        types = {"inputs": np.int32, "targets": np.int32, "weights": np.float32}
        out = {name: np.zeros((batch_size, self.width), dtype) for name, dtype in types.items()}
        for task, rows in ((self.task, ~asks), (self.hint, asks)):
            if rows.any():
                part = mixed(task, rng, int(rows.sum()), np.maximum(lengths[rows], task.shortest), self.width)
                for name in out:
                    out[name][rows] = getattr(part, name)
        out["weights"][asks] *= self.hint_weight
        return out
