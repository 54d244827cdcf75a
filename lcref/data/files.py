"""Your own text as a corpus: a folder of files, each one a document, or a single file, cut into three stretches.

Files are read as bytes, so no encoding can be wrong. In a folder the split of a file follows from its path inside the folder; a
single file gives its first 80 per cent to train, the next 10 to validation and the last 10 to test.
"""

from __future__ import annotations

import os

from lcref.data.splits import SPLITS, by_name


def splits(path: str) -> dict[str, dict[str, bytes]]:
    """split -> document name -> text, read from a file or a folder (hidden and empty files in a folder are passed over).

    ValueError when there is nothing at `path`, when it cannot be read, or when there is no text in it.
    """
    path = os.path.expanduser(path)
    try:
        return _folder(path) if os.path.isdir(path) else _file(path)
    except OSError as error:
        raise ValueError(f"corpus {path!r} cannot be read: {error.strerror or error}") from error


def _file(path: str) -> dict[str, dict[str, bytes]]:
    text = _read(path)
    if len(text) < 10:
        raise ValueError(f"corpus {path!r} is empty" if not text else f"corpus {path!r} has only {len(text)} bytes")
    cuts = [0, len(text) * 8 // 10, len(text) * 9 // 10, len(text)]
    return {split: {os.path.basename(path): text[lo:hi]} for split, lo, hi in zip(SPLITS, cuts, cuts[1:])}


def _folder(path: str) -> dict[str, dict[str, bytes]]:
    def refuse(error: OSError):
        raise ValueError(f"corpus {path!r} has a folder that cannot be read: {error}")
    found = {}
    for here, folders, files in os.walk(path, onerror=refuse):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for file in sorted(f for f in files if not f.startswith(".")):
            whole = os.path.join(here, file)
            if os.path.isfile(whole) and (text := _read(whole)):
                found[os.path.relpath(whole, path).replace(os.sep, "/")] = text
    if not found:
        raise ValueError(f"corpus {path!r} is a folder without any text in it")
    return by_name(dict(sorted(found.items())))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
