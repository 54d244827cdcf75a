import numpy as np
import pytest

from lcref.tasks import CONTENT, SortInOrder
from lcref.tasks.sort_orders import ORDERS


@pytest.mark.parametrize("order, five, four", [
    ("ascending", [0, 1, 2, 3, 4], [0, 1, 2, 3]), ("descending", [4, 3, 2, 1, 0], [3, 2, 1, 0]), ("ends_first", [0, 4, 1, 3, 2], [0, 3, 1, 2]),
    ("odds_first", [0, 2, 4, 1, 3], [0, 2, 1, 3]),
])  # fmt: skip
def test_by_hand(order, five, four):
    for want in (five, four, [0]):
        batch = SortInOrder(len(want), order).sample(np.random.default_rng(0), 1, len(want))  # of so many numbers, all
        np.testing.assert_array_equal(batch.targets[0, len(want) + 1 : -1] - CONTENT, want)


@pytest.mark.parametrize("order", ORDERS)
def test_the_solver_knows_every_order(order):
    task = SortInOrder(40, order)
    for length in (1, 2, 3, 8, 9, 40):
        batch = task.sample(np.random.default_rng(length), 20, length)
        np.testing.assert_array_equal(task.answer(batch.inputs[:, 1 : length + 1]), batch.targets[:, length + 1 :])


def test_an_unknown_order_is_named():
    with pytest.raises(KeyError, match="unknown order 'sideways'; there is: ascending, descending, ends_first, odds_first"):
        SortInOrder(order="sideways")
