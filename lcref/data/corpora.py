"""Where text comes from: a name in CORPORA, "tfds:NAME" for a TFDS set, or the path of a text file or folder.

Every corpus has the same form, split -> document name -> bytes, and a fingerprint that says exactly which text a result is about.
To add one: write a function that returns that form, and give it a line in CORPORA.
"""

from __future__ import annotations

import functools
import hashlib
import os

from lcref.data import files, stdlib, topics
from lcref.data.splits import SPLITS, by_name

CORPORA = {
    "stdlib": lambda: by_name(stdlib.documents()),
    "topics": lambda: by_name(topics.documents()),
}


@functools.lru_cache(maxsize=4)
def load(corpus: str) -> dict[str, dict[str, bytes]]:
    """split -> document name -> text. Read once per process.

    KeyError for a name that is none of CORPORA, ValueError for a path with no text at it. Cost: stdlib takes about 20 ms.
    """
    if corpus in CORPORA:
        return CORPORA[corpus]()
    if corpus.startswith("tfds:"):
        return _tfds().splits(corpus.removeprefix("tfds:"))
    if os.path.exists(os.path.expanduser(corpus)) or any(sign in corpus for sign in "/\\.~"):
        return files.splits(corpus)
    raise KeyError(f"unknown corpus {corpus!r}; there is: {', '.join(CORPORA)}, tfds:NAME, or the path of a text file or folder")


def documents(corpus: str, split: str) -> dict[str, bytes]:
    """Document name -> text of one split. ValueError for a split that is not one of SPLITS, or that has no document in it."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there is: {', '.join(SPLITS)}")
    splits = load(corpus)
    if not splits[split]:
        sizes = ", ".join(f"{name} {len(group)}" for name, group in splits.items())
        raise ValueError(f"the {split} split of corpus {corpus!r} is empty (documents: {sizes}); give it more files")
    return splits[split]


@functools.lru_cache(maxsize=4)
def fingerprint(corpus: str) -> str:
    """sha256 over the split, name and text of every document, in order: equal fingerprints, equal data."""
    digest = hashlib.sha256()
    for split, group in load(corpus).items():
        for name, text in group.items():
            digest.update(f"{split}\0{name}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()


def _tfds():
    try:
        from lcref.data import tfds_text
    except ImportError as error:
        raise ValueError(f"a corpus tfds:NAME needs TFDS and array_record: pip install -e '.[real]' ({error})") from error
    return tfds_text
