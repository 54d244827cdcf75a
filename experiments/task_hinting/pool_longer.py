"""Do twice the steps of task_hinting/pool sort lists of 400 of 512 numbers?

Its recipe (128 wide, one vector a number for reading and writing, half of the rows clustered lists; trained on 10 to 20 numbers) sorted .92 of the
lists of 200 on the first seed. `clustered-2x` was declared then, with its claims, before the two other seeds were known: twice the steps, on a
schedule of their own, nothing else.

14 to 21 minutes a run on 2 cores, fifty in all. Sizes gpu and paper have not been run.
Deviation: as in task_hinting/pool.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.experiment import Figure, load

POOL, = load("task_hinting/pool")


def longer(run):
    return replace(run, train=replace(run.train, steps=2 * run.train.steps))


RUNS = {size: {"clustered-2x": longer(known["clustered"])} for size, known in POOL.runs.items()}
SEEDS = 3
PAPER = POOL.paper
at = lambda run, n: of(run, "exact_match", n)
LATER = "added when one seed of `clustered` was known, none of its own arm"
CLAIMS = (
    Claim("sorts-200-in-time", "In twice the steps it sorts 200 of 512.", amended=LATER,
          holds=(at("clustered-2x", 20) >= 0.95, at("clustered-2x", 200) >= 0.95)),
    Claim("sorts-400-in-time", "In twice the steps it sorts 400 of 512.", amended=LATER,
          holds=(at("clustered-2x", 20) >= 0.95, at("clustered-2x", 400) >= 0.95)),
)
FIGURES = (
    Figure("exact_match", title="Sorting up to 400 of 512 numbers, twice the steps", x_label="numbers to sort", y_label="lists without an error",
           trained_to="data.max_length"),
)
