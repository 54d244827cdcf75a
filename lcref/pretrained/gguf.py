"""GGUF, one file with everything: typed metadata, the tokenizer, and tensors that may be quantised.

    magic "GGUF", version u32, tensor count u64, metadata count u64          all little-endian
    metadata      key string, type u32, value;   string: length u64, UTF-8;   array: element type u32, count u64, elements
    tensor infos  name string, dimensions u32, sizes u64 (fastest axis first), type u32, offset u64 from the start of the data
    padding to the alignment (general.alignment, 32 if not given), then the data

The format is described in the ggml project's docs/gguf.md. The header is read here rather than by the gguf package, because a
header can lie: the package trusts counts and sizes, and a count of 2^60 keeps it busy until memory ends. Here every count is compared
with the bytes that are left before anything is read, so time and memory are bounded by the size of the file, and the header may take
32 MiB at most. Undoing the quantisation is the package's work (gguf.quants).

Tensors stay on disk (the file is mapped into memory) until `array()` makes float32 of one. Arrays of arrays, which no model has,
are refused.
"""
from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass

import gguf
import numpy as np

from lcref.pretrained.source import Tensor, regular, short

HEADER = 32 * 2**20            # the largest vocabularies (260,000 tokens) take 8 MiB
ENTRIES = 2**16                # metadata entries, and tensors
NAME, KEY = 256, 2**16
SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1", 10: "<u8", 11: "<i8", 12: "<f8"}
BOOL, STRING, ARRAY = 7, 8, 9


@dataclass(frozen=True)
class Gguf:
    path: str
    metadata: dict             # numbers, strings, bools; arrays as numpy arrays, lists of strings as lists
    tensors: dict[str, Tensor]
    kinds: dict[str, str]      # tensor -> "F32", "Q4_1", ...


def read(path: str | os.PathLike) -> Gguf:
    """The header, checked, and tensors that are read later. ValueError for a file that is not a whole and honest GGUF file."""
    path, size = os.fspath(path), regular(path)
    try:
        data = np.memmap(path, np.uint8, "r") if size >= 24 else np.zeros(0, np.uint8)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    reader = Reader(path, memoryview(data), len(data))
    if not len(data) or reader.take(4) != b"GGUF":
        raise ValueError(f"{path}: not a GGUF file" if size >= 4 else f"{path}: a file of {size} bytes is not a GGUF file")
    version = reader.number("<u4")
    if version not in (2, 3):
        swapped = " (written on a big-endian machine)" if version and version & 0xffff == 0 else ""
        raise ValueError(f"{path}: GGUF version {version}{swapped} is not supported, versions 2 and 3 are")
    tensors, entries = reader.count("tensors", 24), reader.count("metadata entries", 13)
    metadata = {}
    for _ in range(entries):
        key = reader.string(KEY, "a metadata key")
        if key in metadata:
            reader.fail(f"metadata key {short(key)} occurs twice")
        metadata[key] = reader.value(reader.number("<u4"), short(key))
    infos = reader.infos(tensors)
    return reader.finish(metadata, infos, data)


class Reader:
    """A place in the file that only moves forward, and never past the end of the file or of what a header may take."""

    def __init__(self, path, view, size):
        self.path, self.view, self.size, self.at, self.end = path, view, size, 0, min(size, HEADER)

    def fail(self, what):
        raise ValueError(f"{self.path}: {what}")

    def need(self, n, what):
        if n > self.end - self.at:
            limit = "the file ends" if self.end == self.size else f"a header of {HEADER} bytes, the limit here, ends"
            self.fail(f"{what} would take {n} bytes at byte {self.at}, and {limit} at byte {self.end}")

    def take(self, n, what="the header"):
        self.need(n, what)
        self.at += n
        return bytes(self.view[self.at - n:self.at])

    def number(self, dtype, what="the header"):
        return np.frombuffer(self.take(int(dtype[2:]), what), dtype)[0].item()

    def count(self, what, least_bytes):
        n = self.number("<u8")
        if n > ENTRIES:
            self.fail(f"{n} {what} are more than the {ENTRIES} allowed")
        if n * least_bytes > self.size:
            self.fail(f"{n} {what} do not fit in a file of {self.size} bytes")
        return n

    def string(self, most, what):
        n = self.number("<u8", what)
        if n > most:
            self.fail(f"{what} is a string of {n} bytes, more than the {most} allowed")
        return self.text(self.take(n, what), what)

    def text(self, raw, what):
        try:
            return raw.decode()
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8 text")

    def value(self, kind, key):
        if kind == STRING:
            return self.string(HEADER, key)
        if kind == ARRAY:
            return self.array(key)
        if kind not in SCALARS:
            self.fail(f"metadata {key} has the unknown type {kind}")
        value = self.number(SCALARS[kind], key)
        return self.truth(np.uint8([value]), key)[0].item() if kind == BOOL else value

    def truth(self, values, key):
        if values.max(initial=0) > 1:
            self.fail(f"metadata {key} is a truth value and neither 0 nor 1")
        return values.astype(bool)

    def array(self, key):
        kind, n = self.number("<u4", key), self.number("<u8", key)
        if kind == STRING:
            self.need(8 * n, f"the {n} strings of {key}")
            return self.strings(n, key)
        if kind not in SCALARS:
            self.fail(f"metadata {key} is an array of {'arrays' if kind == ARRAY else f'the unknown type {kind}'}")
        dtype = np.dtype(SCALARS[kind])
        values = np.frombuffer(self.take(n * dtype.itemsize, f"the {n} numbers of {key}"), dtype)
        return self.truth(values, key) if kind == BOOL else values

    def strings(self, n, key):
        """Vocabularies have 100,000 of them: one loop without a call per string."""
        view, at, end, length, found = self.view, self.at, self.end, struct.Struct("<Q").unpack_from, []
        for _ in range(n):
            stop = at + 8 + length(view, at)[0] if at + 8 <= end else end + 1
            if stop > end:
                self.at = at
                self.need(stop - at, f"string {len(found)} of {key}")
            found.append(bytes(view[at + 8:stop]))
            at = stop
        self.at = at
        return [self.text(raw, f"string {i} of {key}") for i, raw in enumerate(found)]

    def infos(self, n):
        """name -> (sizes as written, type number, offset)"""
        found = {}
        for i in range(n):
            name = self.string(NAME, f"the name of tensor {i}")
            if name in found:
                self.fail(f"tensor {short(name)} occurs twice")
            axes = self.number("<u4")
            if not 1 <= axes <= 4:
                self.fail(f"tensor {short(name)} has {axes} axes, GGUF allows 1 to 4")
            sizes = [self.number("<u8") for _ in range(axes)]
            found[name] = sizes, self.number("<u4"), self.number("<u8")
        return found

    def finish(self, metadata, infos, data):
        """Where each tensor lies: inside the file, aligned, and on nobody else's bytes."""
        alignment = metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= 2**20 or alignment & (alignment - 1):
            self.fail(f"general.alignment {short(alignment)} is not a power of two up to 2^20")
        start = -(-self.at // alignment) * alignment
        tensors, kinds, places = {}, {}, []
        for name, (sizes, number, offset) in infos.items():
            try:
                kind = gguf.GGMLQuantizationType(number)
            except ValueError:
                self.fail(f"tensor {short(name)} has the unknown type {number}")
            block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
            if 0 in sizes or sizes[0] % block:
                self.fail(f"tensor {short(name)} has sizes {sizes}: none may be 0, and the first must be a multiple of {block} for {kind.name}")
            nbytes, first = math.prod(sizes) // block * block_bytes, start + offset       # Python's integers do not overflow
            if offset % alignment or first + nbytes > self.size:
                self.fail(f"tensor {short(name)} {kind.name}{sizes} takes {nbytes} bytes at byte {first}: "
                          + ("not aligned" if offset % alignment else f"past the end of a file of {self.size} bytes"))
            places.append((first, first + nbytes, name))
            shape = tuple(reversed(sizes))
            rows = data[first:first + nbytes].reshape(*shape[:-1], -1)
            tensors[name] = Tensor(name, shape, lambda rows=rows, kind=kind, name=name: self.dequantised(rows, kind, name))
            kinds[name] = kind.name
        places.sort()
        for (_, end, a), (first, _, b) in zip(places, places[1:]):
            if end > first:
                self.fail(f"tensors {short(a)} and {short(b)} overlap")
        return Gguf(self.path, metadata, tensors, kinds)

    def dequantised(self, rows, kind, name):
        try:
            return np.array(gguf.quants.dequantize(rows, kind), np.float32)
        except NotImplementedError:
            self.fail(f"tensor {short(name)} has type {kind.name}, which cannot be turned into float32")
