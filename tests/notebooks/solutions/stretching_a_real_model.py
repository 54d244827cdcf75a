"""Answers to notebook 14."""
import numpy as np

from lcref.nn.positions import SelfExtend


def ours(i, j, near, group):
    scheme = SelfExtend(near=near, group=group)
    return i - j if i - j < near else int(scheme.far(np.array(i), "q") - scheme.far(np.array(j), "k"))


RIGHT = {
    "seeming": [ours, lambda i, j, near, group: min(i - j, near - near // group + i // group - j // group) if i - j >= near else i - j],
    "over_control": [
        lambda loss, control: np.median((loss - control) / control) * 100,
        lambda loss, control: 100 * (sorted(loss / control)[len(loss) // 2] - 1),
    ],
    "sees": [
        lambda length, depth, window: (1 - depth) * length < window,
        lambda length, depth, window: int(depth * (length - 60)) + 30 >= length - window,
    ],
}
WRONG = {
    "seeming": [
        lambda i, j, near, group: None,
        lambda i, j, near, group: i - j if i - j < near else (i - j) // group,                          # forgets the shift
        lambda i, j, near, group: i - j if i - j < near else near + (i - j - near) // group,            # groups of distances, not of positions
        lambda i, j, near, group: i // group + near - near // group - j // group,
    ],
    "over_control": [
        lambda loss, control: None,
        lambda loss, control: 100 * (np.median(loss) / np.median(control) - 1),                        # not paired
        lambda loss, control: 100 * np.median(loss - control),
        lambda loss, control: 100 * np.mean(loss / control - 1),
    ],
    "sees": [
        lambda length, depth, window: None,
        lambda length, depth, window: depth * length < window,
        lambda length, depth, window: length < window,
        lambda length, depth, window: True,
    ],
}
