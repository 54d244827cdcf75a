"""What the tests of single tasks share."""

import numpy as np


def draw(task, length, batch=2000, seed=0):
    return task.sample(np.random.default_rng(seed), batch, length)


def rows(batch):
    """The full token rows, BOS to the last answer token."""
    return np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)


def assert_uniform(values, outcomes):
    """Chi-square of counts over range(outcomes) within six standard deviations of its mean: sure for a uniform draw."""
    counts = np.bincount(values, minlength=outcomes)
    assert len(counts) == outcomes
    expected = len(values) / outcomes
    assert ((counts - expected) ** 2 / expected).sum() < outcomes - 1 + 6 * np.sqrt(2 * outcomes)
