"""Synthetic problems with known answers, in NumPy alone: one task a file, each with its solver and a printed example.

    batch = Copy().sample(np.random.default_rng(0), batch=32, length=20)     # Batch(inputs, targets, weights, slices)
    print(show(Copy(), np.random.default_rng(0), length=20))

A new task is one file and one line in TASKS, whose entries are called without arguments and return a Task.
"""

from functools import partial

from lcref.tasks.addition import Addition, AdditionHinted, AdditionReversed
from lcref.tasks.copy import Copy, CopyUnique
from lcref.tasks.count_up import CountUp
from lcref.tasks.increment import Increment, IncrementReversed
from lcref.tasks.increment_hints import NextDigit, Nines
from lcref.tasks.induction import Induction
from lcref.tasks.mode import Mode
from lcref.tasks.modular import Polynomial, Sum
from lcref.tasks.mqar import MQAR
from lcref.tasks.needles import Needles
from lcref.tasks.parity import Parity
from lcref.tasks.passkey import Passkey
from lcref.tasks.reverse import Reverse
from lcref.tasks.selective_copy import SelectiveCopy
from lcref.tasks.show import show
from lcref.tasks.sort import Sort, SortDuplicates
from lcref.tasks.sort_hints import Clustered, Count, Crowded, Fill, Predecessor, Successor
from lcref.tasks.sort_orders import SortInOrder
from lcref.tasks.source import HintedSource, TaskSource
from lcref.tasks.task import BOS, CONTENT, EOS, PAD, SEP, Batch, Task, mixed
from lcref.tasks.thread import Thread
from lcref.tasks.turing import TuringTrace
from lcref.tasks.turing_program import TuringProgram
from lcref.tasks.variables import VariableTracking

TASKS = {
    "copy": Copy,
    "copy_unique": CopyUnique,
    "reverse": Reverse,
    "sort": Sort,
    "sort_duplicates": SortDuplicates,
    "sort_descending": SortInOrder,
    "sort_ends_first": partial(SortInOrder, order="ends_first"),
    "sort_odds_first": partial(SortInOrder, order="odds_first"),
    "successor": Successor,
    "predecessor": Predecessor,
    "count": Count,
    "fill": Fill,
    "crowded": Crowded,
    "crowded_duplicates": partial(Crowded, duplicates=True),
    "clustered": Clustered,
    "increment": Increment,
    "increment_reversed": IncrementReversed,
    "nines": Nines,
    "next_digit": NextDigit,
    "count_up": CountUp,
    "mode": Mode,
    "sum": Sum,
    "polynomial": Polynomial,
    "parity": Parity,
    "turing_parity": TuringTrace,
    "turing_increment": partial(TuringTrace, machine="increment"),
    "turing_addition": partial(TuringTrace, machine="addition"),
    "turing_compare": partial(TuringTrace, machine="compare"),
    "turing_division": partial(TuringTrace, machine="division"),
    "turing_reverse": partial(TuringTrace, machine="reverse"),
    "turing_bubble_sort": partial(TuringTrace, machine="bubble_sort"),
    "turing_program": TuringProgram,
    "turing_program_addition": partial(TuringProgram, machine="addition"),
    "addition": Addition,
    "addition_reversed": AdditionReversed,
    "addition_hinted": AdditionHinted,
    "induction": Induction,
    "mqar": MQAR,
    "passkey": Passkey,
    "passkey_random": partial(Passkey, filler="random"),
    "passkey_decoy": partial(Passkey, filler="decoy"),
    "needles": Needles,
    "needles_multi_value": partial(Needles, values_each=4),
    "needles_multi_query": partial(Needles, queries=4),
    "thread": Thread,
    "thread_path": partial(Thread, path=True),
    "variable_tracking": VariableTracking,
    "selective_copy": SelectiveCopy,
}
