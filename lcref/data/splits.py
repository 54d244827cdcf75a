"""Train, validation and test: about 80, 10 and 10 per cent of the documents, each placed by the hash of its own name.

No list to keep and nothing to draw: adding or removing a document never moves another one, and the answer is the same on every
machine and in every process (unlike Python's built-in `hash`, which is salted).
"""

from __future__ import annotations

import hashlib

SPLITS = ("train", "validation", "test")


def split_of(name: str) -> str:
    """The split of the document called `name`: sha256's first 8 bytes as a number in [0, 1), cut at 0.8 and 0.9."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "train" if place < 0.8 else "validation" if place < 0.9 else "test"


def by_name(documents: dict[str, bytes]) -> dict[str, dict[str, bytes]]:
    """Documents grouped by split: split -> name -> text. A split may be empty when there are only a few documents."""
    groups = {split: {} for split in SPLITS}
    for name, text in documents.items():
        groups[split_of(name)][name] = text
    return groups
