"""A task as an endless source of training batches: lengths drawn uniformly, rows padded to one fixed shape."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from lcref.tasks.copy import Copy
from lcref.tasks.task import Task, mixed


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
