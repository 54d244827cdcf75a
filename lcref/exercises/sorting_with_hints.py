"""Exercises of notebook 11: a sort made of hints, the factor that a crowded list asks for, and the rule for numbers that repeat."""
import numpy as np

from lcref.exercises import verdict


def _lists():
    """Lists with repeats, from one number to many."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, values, n).tolist() for values, n in ((6, 9), (20, 12), (500, 40))]
    return [[5], [0], [3, 3], [2, 0, 1], [0, 0, 7, 7, 7], [9, 0, 9, 4], *drawn]


def sort_by_hints(answer) -> bool:
    """answer(successor, count) -> the sorted list, of which it sees successor(y): the smallest number above y, or None; and count(y)."""
    for numbers in _lists():
        got = answer(lambda y: min((x for x in numbers if x > y), default=None), lambda y: sum(x == y for x in numbers))
        if got is None:
            return verdict("the answer is None: it is still to be written")
        if list(got) != sorted(numbers):
            return verdict(f"the list was {numbers}, the answer is {list(got)}")
    return verdict(None)


def factor_needed(answer) -> bool:
    """answer(numbers, y, share) -> the smallest a with which softmax of -a (x - y) over the numbers above y gives the smallest of them `share`."""
    rng = np.random.default_rng(0)
    crowds = [sorted(rng.permutation(128)[:n].tolist()) for n in (20, 100)]
    for numbers, y, share in (([4, 9], 0, 0.9), ([1, 2, 3], 0, 0.5), ([10, 2, 3, 40], 5, 0.99), ([7, 1, 30, 8, 9], 1, 0.9),
                              *((crowd, crowd[0], 0.9) for crowd in crowds)):
        a = answer(numbers, y, share)
        if a is None:
            return verdict("the answer is None: it is still to be written")
        above = np.array(sorted(x for x in numbers if x > y), float)
        weight = 1 / np.exp(-a * (above - above[0])).sum()
        some = f"{above[:6].astype(int).tolist()}{' and more' if len(above) > 6 else ''}"
        what = f"numbers above y = {y}: {some}; with a = {a:.5g} the first gets {weight:.4f}"
        if not weight >= share - 1e-3:
            return verdict(f"{what}, which is less than {share}")
        if weight > share + 1e-3:
            return verdict(f"{what}; a smaller factor gives {share}")
    return verdict(None)


def next_number(answer) -> bool:
    """answer(numbers, written) -> what comes next in the sorted list behind its beginning `written`; -1 at the end."""
    for numbers in _lists():
        ordered = [*sorted(numbers), -1]
        for n, want in enumerate(ordered):
            got = answer(list(numbers), ordered[:n])
            if got is None:
                return verdict("the answer is None: it is still to be written")
            if got != want:
                return verdict(f"numbers {numbers}, written {ordered[:n]}: the answer is {got}, and should be {want}")
    return verdict(None)
