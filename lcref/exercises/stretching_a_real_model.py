"""Exercises of notebook 14: Self-Extend's distances, a loss against its control, what a window lets the last token see."""
import numpy as np

from lcref.exercises import difference, verdict


def seeming(answer) -> bool:
    """answer(i, j, near, group) -> the distance at which Self-Extend lets the query at i see the key at j <= i."""
    for i, j, near, group in ((5, 5, 4, 2), (10, 7, 4, 2), (10, 6, 4, 2), (11, 6, 4, 2), (100, 0, 16, 8), (101, 6, 16, 8), (16383, 0, 1024, 4),
                              (9, 2, 6, 1)):
        want = i - j if i - j < near else i // group + near - near // group - j // group
        if problem := difference(f"seeming({i}, {j}, near={near}, group={group})", answer(i, j, near, group), want, within=1e-6):
            return verdict(problem)
    return verdict(None)


def over_control(answer) -> bool:
    """answer(loss [texts], control [texts]) -> median over texts of how many percent the loss is above the control's."""
    for loss, control in (([3.0], [2.0]), ([1.0, 2.0, 4.0], [1.0, 2.0, 4.0]), ([1.1, 2.0, 4.4], [1.0, 2.5, 4.0]), ([2.0, 3.0, 1.0], [4.0, 1.0, 0.9])):
        want = np.median(100 * (np.array(loss) / np.array(control) - 1))
        if problem := difference(f"over_control({loss}, {control})", answer(np.array(loss), np.array(control)), want, within=1e-4):
            return verdict(problem)
    return verdict(None)


def sees(answer) -> bool:
    """answer(length, depth, window) -> bool: is what stands at `depth` of a prompt among the last `window` tokens?"""
    for length, depth, window in ((6144, 0.1, 8192), (12288, 0.1, 8192), (12288, 0.5, 8192), (12288, 0.9, 8192), (16384, 0.1, 8192),
                                  (16384, 0.9, 8192), (400, 0.1, 256), (400, 0.9, 256), (1000, 0.5, 100)):
        case, got = f"sees({length}, {depth:g}, window={window})", answer(length, depth, window)
        if got is None:
            return verdict("the answer is None: it is still to be written")
        back = round((1 - depth) * length)
        if bool(got) != (back < window):
            return verdict(f"{case} is {bool(got)}: the key lies about {back} tokens back, and the window is {window}")
    return verdict(None)
