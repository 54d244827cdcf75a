"""What every file format is turned into: a config in transformers' words, and named tensors that are read when asked for."""
from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Tensor:
    """name: as in the file. shape: checked against the file's size. `array()` reads it as float32, a new array every time."""
    name: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray] = field(repr=False)

    def array(self) -> np.ndarray:
        return self.read()


@dataclass(frozen=True)
class Source:
    """path: for messages. called: a tensor's name here -> its name in the file, for tensors that are missing."""
    path: str
    config: dict
    tensors: dict[str, Tensor]
    called: Callable[[str], str] = str


def regular(path) -> int:
    """The size of a plain file (or a link to one). ValueError for anything else: a pipe, for one, would be waited for without end."""
    try:
        if not os.path.isfile(path):
            raise ValueError(f"{path}: {'not a plain file' if os.path.exists(path) else 'there is no such file'}")
        return os.path.getsize(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error


def short(value, width: int = 80) -> str:
    """A value from a file as it can stand in a line of an error message."""
    try:
        text = repr(value[:width + 1] if isinstance(value, (str, list, tuple)) else value)
    except RecursionError:
        text = "something nested too deeply"
    text = " ".join(text.split())
    return text if len(text) <= width else text[:width] + "..."


class Fields:
    """Values out of a dict that a stranger wrote, by name and type: ValueError names the file and the field."""

    def __init__(self, values: dict, where: str):
        self.values, self.where = values, where

    def wrong(self, name, wanted):
        raise ValueError(f"{self.where}: {name} should be {wanted}, got {short(self.values.get(name))}")

    def given(self, name) -> bool:
        return self.values.get(name) is not None

    def whole(self, name, default=None, least=1, most=2**31 - 1) -> int:
        """An integer in [least, most]; required where there is no default."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.wrong(name, f"a whole number from {least} to {most}")
        return value

    def number(self, name, default=None, above=0.0) -> float:
        """A finite number greater than `above`."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not above < value < 1e30 or not math.isfinite(value):
            self.wrong(name, f"a number greater than {above:g}")
        return float(value)

    def numbers(self, name) -> tuple[float, ...]:
        value = self._value(name, None)
        value = value.tolist() if isinstance(value, np.ndarray) else value
        if not isinstance(value, (list, tuple)) or not all(type(x) in (int, float) and 0 < x < 1e30 for x in value):
            self.wrong(name, "a list of positive numbers")
        return tuple(float(x) for x in value)

    def flag(self, name, default: bool) -> bool:
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            self.wrong(name, "true or false")
        return default if value is None else value

    def text(self, name, default=None) -> str:
        value = self._value(name, default)
        if not isinstance(value, str):
            self.wrong(name, "a string")
        return value

    def only(self, name, legal: tuple, why: str):
        """ValueError where a field is there and is none of `legal`: what it asks for does not exist here."""
        value = self.values.get(name)
        if value is not None and not any(type(value) is type(x) and value == x for x in legal):
            raise ValueError(f"{self.where}: {name} = {short(value)} is not supported: {why}")

    def _value(self, name, default):
        value = self.values.get(name)
        if value is None and default is None:
            raise ValueError(f"{self.where}: {name} is missing")
        return default if value is None else value
