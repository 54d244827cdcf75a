"""Answers to notebook 11."""
import numpy as np
from jax.nn import logsumexp


# ------------------------------------------------------------------------------------------------------------------------- sort_by_hints

def steps(successor, count, times=None):
    ordered, y = [], successor(-1)
    while y is not None:
        ordered += [y] * (times or count(y))
        y = successor(y)
    return ordered


def every_value(successor, count):
    return np.repeat(np.arange(600), [count(y) for y in range(600)]).tolist()


def from_zero(successor, count):
    ordered, y = [], successor(0)
    while y is not None:
        ordered += [y] * count(y)
        y = successor(y)
    return ordered


# ------------------------------------------------------------------------------------------------------------------------- factor_needed

def distances(numbers, y):
    above = np.sort([x for x in numbers if x > y])
    return above - above[0]


def bisected(numbers, y, share):
    low, high = 0.0, 100.0
    for _ in range(80):
        a = (low + high) / 2
        low, high = (low, a) if 1 / np.exp(-a * distances(numbers, y)).sum() >= share else (a, high)
    return high


def on_a_grid(numbers, y, share):
    a = np.linspace(0, 10, 100_001)
    return a[np.argmax(np.exp(-logsumexp(-a[:, None] * distances(numbers, y), axis=1)) >= share - 1e-5)]


def second_for_all(numbers, y, share):
    gaps = distances(numbers, y)[1:]
    return np.log(len(gaps) * share / (1 - share)) / gaps[0]


# --------------------------------------------------------------------------------------------------------------------------- next_number

def by_counts(numbers, written):
    if written and numbers.count(written[-1]) > written.count(written[-1]):
        return written[-1]
    return min((x for x in numbers if not written or x > written[-1]), default=-1)


def by_what_is_left(numbers, written):
    left = list(numbers)
    for y in written:
        left.remove(y)
    return min(left) if left else -1


RIGHT = {
    "sort_by_hints": [steps, every_value],
    "factor_needed": [bisected, on_a_grid],
    "next_number": [by_counts, by_what_is_left, lambda numbers, written: sorted(numbers)[len(written)] if len(written) < len(numbers) else -1],
}
WRONG = {
    "sort_by_hints": [
        lambda successor, count: None,
        from_zero,
        lambda successor, count: steps(successor, count, times=1),
        lambda successor, count: [],
    ],
    "factor_needed": [
        lambda numbers, y, share: None,
        second_for_all,
        lambda numbers, y, share: np.log(1 / (1 - share)),
        lambda numbers, y, share: bisected(numbers, min(numbers) - 1, share),
        lambda numbers, y, share: bisected(numbers, y, share) + 0.05,
        lambda numbers, y, share: float("nan"),
    ],
    "next_number": [
        lambda numbers, written: None,
        lambda numbers, written: min((x for x in numbers if not written or x > written[-1]), default=-1),
        lambda numbers, written: min((x for x in numbers if not written or x >= written[-1]), default=-1),
        lambda numbers, written: sorted(set(numbers))[len(set(written))] if len(set(written)) < len(set(numbers)) else -1,
        lambda numbers, written: min((x for x in numbers if not written or x > written[-1]), default="$"),
    ],
}
