"""Images as sequences: one pixel a token, line after line, and at the last one the class is asked for.

    inputs    . . . 5 13 9 1 . . . . 13 15 10 15 5 . ...  . 6 13 10 . . .     64 grey levels of an 8 x 8 digit
    targets                                                             3     scored at the last pixel only

To answer there, what was seen at the first lines must still be in the state: nothing pools over time. With `permuted` the pixels come in
an order that is shuffled once and for all, so that neighbours in the image are far apart in the row. Sequential and permuted MNIST are
from arXiv 1504.00941; tokens for grey levels as in the image task of Long Range Arena (arXiv 2011.04006).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from lcref.data import images
from lcref.data.splits import SPLITS


@dataclass(frozen=True)
class Pixels:
    """Rows of one set of images (see images.py) as tokens: 0 .. levels - 1 are grey levels, the classes come after them.

    levels: grey is rounded down to so many; None keeps the set's own. split: what training draws from, "train" or "train+validation".
    KeyError for an unknown set, ValueError for an unknown split and for more levels than the set has, when it is first read.
    """

    images: str = "digits"
    levels: int | None = None
    permuted: bool = False
    split: str = "train"

    def __post_init__(self):
        if unknown := set(self.split.split("+")) - set(SPLITS):
            raise ValueError(f"unknown split {sorted(unknown)[0]!r}; there is: {', '.join(SPLITS)}, joined by +")
        if self.levels is not None and self.levels < 2:
            raise ValueError(f"levels must be at least 2, got {self.levels}")

    @property
    def grey(self) -> int:
        """How many tokens are grey levels."""
        own = images.load(self.images)["train"].levels
        if self.levels is not None and self.levels > own:
            raise ValueError(f"{self.images} has {own} grey levels, {self.levels} were asked for")
        return self.levels or own

    @property
    def vocab(self) -> int:
        return self.grey + images.load(self.images)["train"].classes

    @property
    def width(self) -> int:
        """Pixels of an image: T of every batch."""
        return images.load(self.images)["train"].pixels[0].size

    def examples(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """(rows int32 [n,T], class tokens int32 [n]) of one or several splits, in their order."""
        return examples(self.images, self.grey, self.permuted, split)

    def batch(self, rng: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
        """inputs, targets int32 and weights float32, each [batch_size, T], of images drawn by `rng`."""
        rows, answers = self.examples(self.split)
        drawn = rng.integers(0, len(rows), batch_size)
        targets, weights = np.zeros((batch_size, self.width), np.int32), np.zeros((batch_size, self.width), np.float32)
        targets[:, -1], weights[:, -1] = answers[drawn], 1.0
        return {"inputs": rows[drawn], "targets": targets, "weights": weights}

    def fingerprint(self) -> str:
        """sha256 over the settings and over every row of every split."""
        digest = hashlib.sha256(repr(self).encode())
        for split in SPLITS:
            for array in self.examples(split):
                digest.update(f"{array.shape}".encode() + array.astype("<i4").tobytes())
        return digest.hexdigest()


@functools.lru_cache(maxsize=8)
def examples(name: str, grey: int, permuted: bool, split: str) -> tuple[np.ndarray, np.ndarray]:
    parts = [images.load(name)[part] for part in split.split("+")]
    pixels = np.concatenate([part.pixels.reshape(len(part.pixels), -1) for part in parts]).astype(np.int32)
    if permuted:
        pixels = pixels[:, np.random.default_rng(0).permutation(pixels.shape[1])]
    return pixels * grey // parts[0].levels, grey + np.concatenate([part.labels for part in parts])
