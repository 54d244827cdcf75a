"""Do twice the steps of task_hinting/pool sort lists of 400 of 512 numbers?

Its recipe (128 wide, one vector a number for reading and writing, half of the rows clustered lists; trained on 10 to 20 numbers) sorted .92 of the
lists of 200 on the first seed. `clustered-2x` was declared then, with its claims, before the two other seeds were known: twice the steps, on a
schedule of their own, nothing else. `clustered-2x-to-0` came after its results: the learning rate ends at 0, where it ends at a twentieth of its peak
elsewhere. (Two trial seeds of their own sorted .98 and 1.00 of the lists of 400, on problems that are not those of the evaluation.)

14 to 21 minutes a run on 2 cores, half an hour where two shared them: under two hours in all. Sizes gpu and paper have not been run.
Deviation: as in task_hinting/pool.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.experiment import Figure, load

POOL, = load("task_hinting/pool")


def longer(run, **changes):
    return replace(run, train=replace(run.train, steps=2 * run.train.steps, **changes))


RUNS = {size: {"clustered-2x": longer(known["clustered"]), "clustered-2x-to-0": longer(known["clustered"], final_ratio=0.0)}
        for size, known in POOL.runs.items()}
SEEDS = 3
PAPER = POOL.paper
at = lambda run, n: of(run, "exact_match", n)
LATER = "added when one seed of `clustered` was known, none of its own arm"
LAST = "added when `clustered-2x` was known, none of its own arm"
CLAIMS = (
    Claim("sorts-200-in-time", "In twice the steps it sorts 200 of 512.", amended=LATER,
          holds=(at("clustered-2x", 20) >= 0.95, at("clustered-2x", 200) >= 0.95)),
    Claim("sorts-400-in-time", "In twice the steps it sorts 400 of 512.", amended=LATER,
          holds=(at("clustered-2x", 20) >= 0.95, at("clustered-2x", 400) >= 0.95)),
    Claim("sorts-to-400", "With a learning rate that ends at 0 it sorts 200 and 400 of 512.", amended=LAST,
          holds=tuple(at("clustered-2x-to-0", n) >= 0.95 for n in (20, 100, 200, 400))),
    Claim("the-last-steps-count", "At equal steps the rate that ends at 0 sorts more lists of 300 and 400 than the one that ends at a twentieth.",
          amended=LAST, holds=tuple(at("clustered-2x-to-0", n) > at("clustered-2x", n) for n in (300, 400))),
)
FIGURES = (
    Figure("exact_match", title="Sorting up to 400 of 512 numbers, twice the steps", x_label="numbers to sort", y_label="lists without an error",
           trained_to="data.max_length"),
)
