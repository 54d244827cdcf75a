"""Exercises of notebook 05: counting with averages, a slope for a window, where addition looks."""
import numpy as np

from lcref.exercises import difference, verdict
from lcref.tasks import AdditionReversed

BOS = 1


def occurrences(answer) -> bool:
    """answer(average, tokens [T], c) -> [T]: how often c is among the tokens up to and with each place. average([T]) -> causal means [T]."""
    def average(values):
        return np.cumsum(np.asarray(values, np.float64)) / np.arange(1, len(values) + 1)
    rng = np.random.default_rng(0)
    for T, kinds in ((1, 2), (6, 2), (40, 3), (300, 20)):
        tokens = np.concatenate([[BOS], rng.integers(4, 4 + kinds, T - 1)])
        want = np.cumsum(tokens == 4).astype(float)
        if problem := difference(f"occurrences of 4 in {T} tokens", answer(average, tokens, 4), want, within=1e-3):
            return verdict(f"{problem} (tokens {tokens[:12].tolist()}{' ...' if T > 12 else ''})")
    return verdict(None)


def slope(answer) -> bool:
    """answer(keys, share) -> m such that the nearest `keys` keys have that share of weights e^(-m d) in a row without end."""
    for keys, share in ((10, 0.5), (100, 0.95), (1000, 0.95), (64, 0.1)):
        if problem := difference(f"slope({keys}, {share})", answer(keys, share), -np.log1p(-share) / keys, within=1e-5):
            return verdict(problem)
    return verdict(None)


def distances(answer) -> bool:
    """answer(n, place) -> how far back the first and the second number's digit lie where digit `place` of a reversed sum is predicted."""
    for n in (1, 2, 4, 9):
        start = AdditionReversed().width(n) - (n + 2)                                  # of "=": it predicts place 0
        for place in range(n):
            a, b = n - place, 2 * n + 1 - place                                        # the last digits stand at n and 2 n + 1
            got = answer(n, place)
            if got is None:
                return verdict("the answer is None: it is still to be written")
            want = np.array([start + place - a, start + place - b])
            if problem := difference(f"distances({n}, {place})", got, want, within=0.0):
                return verdict(problem)
    return verdict(None)
