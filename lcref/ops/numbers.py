"""What a number in a config may be: finite and within its bound, or one line that says what it is instead.

    number("yarn", "factor", 0.5, least=1)      ValueError: yarn factor must be a number >= 1, got 0.5
    whole("yarn", "original_length", 0)         ValueError: yarn original_length must be a whole number >= 1, got 0
"""
import math
from numbers import Integral, Real


def number(part, name, value, *, least=None, above=None):
    """ValueError unless value is a finite number, at least `least` or above `above`."""
    bound = f">= {least}" if above is None else f"> {above}"
    fits = isinstance(value, Real) and math.isfinite(value) and (value >= least if above is None else value > above)
    if not fits:
        raise ValueError(f"{part} {name} must be a number {bound}, got {value!r}")


def whole(part, name, value, *, least=1):
    """ValueError unless value is a whole number >= least."""
    if not (isinstance(value, Integral) and value >= least):
        raise ValueError(f"{part} {name} must be a whole number >= {least}, got {value!r}")
