"""Answers to notebook 05."""
import numpy as np

from lcref.tasks import AdditionReversed


def looked_up(n, place):
    """Give every column a digit of its own and find it again."""
    tokens = ["^", *[f"a{i}" for i in reversed(range(n))], "+", *[f"b{i}" for i in reversed(range(n))], "="]
    assert len(tokens) + n + 1 == AdditionReversed().width(n)
    at = len(tokens) - 1 + place
    return at - tokens.index(f"a{place}"), at - tokens.index(f"b{place}")


def one_by_one(average, tokens, c):
    return [sum(tokens[: t + 1] == c) for t in range(len(tokens))]


RIGHT = {
    "occurrences": [lambda average, tokens, c: average(tokens == c) / average(tokens == 1), one_by_one],
    "slope": [lambda keys, share: -np.log(1 - share) / keys, lambda keys, share: float(np.log(1 / (1 - share))) / keys],
    "distances": [lambda n, place: (n + 2 + 2 * place, 1 + 2 * place), looked_up],
}
WRONG = {
    "occurrences": [
        lambda average, tokens, c: None,
        lambda average, tokens, c: average(tokens == c),
        lambda average, tokens, c: len(tokens) * average(tokens == c),
        lambda average, tokens, c: average(tokens == c) * average(tokens == 1),
    ],
    "slope": [
        lambda keys, share: None,
        lambda keys, share: 1 / keys,
        lambda keys, share: -np.log(share) / keys,
        lambda keys, share: np.log(1 - share) / keys,
    ],
    "distances": [
        lambda n, place: None,
        lambda n, place: (2 * n + 2, n + 1),
        lambda n, place: (1 + 2 * place, n + 2 + 2 * place),
        lambda n, place: (n + 2 + place, 1 + place),
    ],
}
