"""A model in transformers' layout: config.json, model.safetensors (or its shards and their index), tokenizer.json.

    model.safetensors               header length u64, header JSON {tensor: {dtype, shape, data_offsets}}, then the data
    model.safetensors.index.json    {"weight_map": {tensor: file}}, for models in several files

Tensors are read by the safetensors package, one at a time. Before it opens a file the header is checked here: its length, that no
name occurs twice, that every tensor has the bytes its shape asks for, and that tensors lie side by side from the first byte to the
last. An index may only name files beside it. PyTorch's own files (.bin, .pt) are pickles, programs that run when they are read: refused.
"""
from __future__ import annotations

import json
import math
import os
import re

import numpy as np
import safetensors

from lcref.pretrained.source import Source, Tensor, regular, short

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
SIZES = {"F32": 4, "F16": 2, "BF16": 2}                    # what becomes float32 without a loss
OTHER = {"F64": 8, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
HEADER, JSON = 8 * 2**20, 16 * 2**20                       # bytes of a header, of a config or index: 80,000 tensors fit


def read(path: str | os.PathLike) -> Source:
    """config.json and every tensor of the folder's safetensors files. ValueError where they are not there, not whole, or do not agree."""
    path = os.fspath(path)
    here = lambda name: os.path.join(path, name)
    if not os.path.isdir(path):
        raise ValueError(f"{path}: {'not a folder' if os.path.exists(path) else 'there is no such folder'}")
    files = [SINGLE]
    if os.path.isfile(here(INDEX)) and not os.path.isfile(here(SINGLE)):
        index = load_json(here(INDEX))
        files = shards(here(INDEX), index)
    elif not os.path.isfile(here(SINGLE)):
        there = sorted(os.listdir(path))
        pickled = [name for name in there if name.endswith(PICKLES)]
        why = f"{pickled[0]} is a pickle, which can run any program when it is read, and is not opened" if pickled else "there is none"
        raise ValueError(f"{path}: weights are read from {SINGLE} or {INDEX}; {why}")
    config, tensors, home = load_json(here(CONFIG)), {}, {}
    for name in files:
        for key, tensor in read_file(here(name)).items():
            if key in tensors:
                raise ValueError(f"{path}: tensor {short(key)} is in {home[key]} and in {name}")
            tensors[key], home[key] = tensor, name
    if files != [SINGLE]:
        wanted = index["weight_map"]
        for key in wanted.keys() ^ home.keys() or (key for key in home if wanted[key] != home[key]):
            raise ValueError(f"{here(INDEX)}: tensor {short(key)} is said to be in {wanted.get(key, 'no file')}, and is in {home.get(key, 'none')}")
    return Source(path, config, tensors)


def shards(path, index) -> list[str]:
    names = index.get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{path}: weight_map should map tensors to file names, got {short(names)}")
    files = sorted(set(names.values()))
    for name in files:
        if not re.fullmatch(r"[\w.-]{1,200}\.safetensors", name, re.ASCII):           # no separator, no drive, no "..", no line break
            raise ValueError(f"{path}: {short(name)} is not the plain name of a .safetensors file beside the index")
    return files


def load_json(path) -> dict:
    """A JSON object from a file of at most 16 MiB."""
    size = regular(path)
    if size > JSON:
        raise ValueError(f"{path}: {size} bytes are more than the {JSON} that such a file may have")
    try:
        with open(path, "rb") as file:
            raw = file.read(size)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    return parse(raw, path)


def parse(raw: bytes, path) -> dict:
    def once(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"{short(next(name for name in names if names.count(name) > 1))} occurs twice")
        return found
    try:
        value = json.loads(raw.decode(), object_pairs_hook=once)
    except RecursionError as error:
        raise ValueError(f"{path}: JSON nested too deeply") from error
    except ValueError as error:                            # of json, of the decoder, and of `once`
        raise ValueError(f"{path}: not the JSON it should be: {short(str(error))}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: should hold a JSON object, not {short(value)}")
    return value


def read_file(path) -> dict[str, Tensor]:
    """The tensors of one safetensors file."""
    size = regular(path)
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(HEADER, size - 8):
                raise ValueError(f"{path}: not a whole safetensors file: {size} bytes, and a header of {length} bytes (at most {HEADER}) in it")
            header = parse(file.read(length), path)
        check(path, header, size - 8 - length)
        opened = safetensors.safe_open(path, framework="np")
        names = set(opened.keys())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file: {short(str(error))}") from error
    if names != set(header):
        raise ValueError(f"{path}: two readings of the header disagree about {short(sorted(names ^ set(header)))}")
    return {name: Tensor(name, tuple(entry["shape"]), lambda name=name, dtype=entry["dtype"]: array(opened, path, name, dtype))
            for name, entry in header.items()}


def check(path, header: dict, size: int):
    """Every entry is what it should be, and the tensors cover the data without a gap: nothing hides between them."""
    header.pop("__metadata__", None)
    places = []
    for name, entry in header.items():
        wrong = lambda what: ValueError(f"{path}: tensor {short(name)}: {what}")
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise wrong(f"should have dtype, shape and data_offsets, got {short(entry)}")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in SIZES | OTHER:
            raise wrong(f"unknown dtype {short(dtype)}")
        for what, numbers in (("shape", shape), ("data_offsets", offsets)):
            if not isinstance(numbers, list) or not all(type(n) is int and 0 <= n <= 2**53 for n in numbers) or len(numbers) > 8:
                raise wrong(f"{what} {short(numbers)}")
        nbytes = math.prod(shape) * (SIZES | OTHER)[dtype]
        if len(offsets) != 2 or offsets[1] - offsets[0] != nbytes or offsets[1] > size:
            raise wrong(f"{dtype}{shape} needs {nbytes} bytes, and data_offsets are {short(offsets)} in {size} bytes of data")
        places.append((*offsets, name))
    end = 0
    for first, last, name in sorted(places):
        if first != end:
            raise ValueError(f"{path}: tensor {short(name)} starts at byte {first} of the data, the one before it ends at {end}")
        end = last
    if end != size:
        raise ValueError(f"{path}: {size} bytes of data, and tensors for {end}")


def array(opened, path, name, dtype) -> np.ndarray:
    if dtype not in SIZES:
        raise ValueError(f"{path}: tensor {short(name)} is {dtype}; weights are read from {', '.join(SIZES)}")
    try:
        return np.array(opened.get_tensor(name), np.float32)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: tensor {short(name)} cannot be read: {short(str(error))}") from error
