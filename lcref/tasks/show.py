"""Problems printed for a reader: inputs over targets, with a star under every target that is scored."""

from __future__ import annotations

import numpy as np

from lcref.tasks.task import Task

LABELS = ("inputs", "targets", "scored")


def show(task: Task, rng: np.random.Generator, length: int, samples: int = 3, columns: int = 120) -> str:
    """`samples` problems of size `length` as text; lines longer than `columns` characters go on in a block below.

    ValueError for a length the task cannot pose.
    """
    batch = task.sample(rng, samples, length)
    texts = []
    for row in range(samples):
        slices = ", ".join(f"{name} {values[row]:.4g}" for name, values in batch.slices.items())
        stars = ["*" if weight else "" for weight in batch.weights[row]]
        texts.append(f"{slices}\n{_aligned([task.decode(batch.inputs[row]), task.decode(batch.targets[row]), stars], columns)}")
    return "\n\n".join(texts)


def _aligned(rows: list[list[str]], columns: int) -> str:
    """Rows of cells, every column as wide as its widest cell, cut into blocks that fit."""
    blocks, fresh = [], True
    for cells in zip(*rows):
        width = max(map(len, cells))
        if fresh or len(blocks[-1][0]) + 1 + width > columns:
            blocks.append([f"{label:<8}" for label in LABELS])
            fresh = False
        blocks[-1] = [f"{line} {cell:<{width}}" for line, cell in zip(blocks[-1], cells)]
    return "\n".join(line.rstrip() for block in blocks for line in block)
