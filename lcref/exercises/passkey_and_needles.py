"""Exercises of notebook 13: a reader that decoys do not fool, what a forgotten key costs, how far windows reach through layers."""
import numpy as np

from lcref.exercises import difference, verdict
from lcref.tasks import Passkey


def find(answer) -> bool:
    """answer(question [B,n]) -> [B,4]: the digit tokens behind KEY, whatever else stands in the row."""
    rng = np.random.default_rng(0)
    for filler, depth, length in (("cycle", 0.5, 6), ("random", 0.0, 40), ("random", 1.0, 40), ("decoy", None, 12), ("decoy", 0.9, 200),
                                  ("decoy", 0.0, 200)):
        task = Passkey(filler=filler, depth=depth)
        question = task.sample(rng, 20, length).inputs[:, 1:-5]
        got, want = answer(question.copy()), task.answer(question)[:, :4]
        what = f"the answer for {length} tokens of the filler {filler}, depth {'drawn' if depth is None else f'{depth:g}'},"
        if problem := difference(what, got, want):
            if np.shape(got) == want.shape:
                row = int(np.argwhere(np.asarray(got) != want)[0, 0])
                problem += f"; row {row} begins {' '.join(task.decode(question[row, :40]))}"
            return verdict(problem)
    return verdict(None)


def price(answer) -> bool:
    """answer(T, questions, digits, kinds) -> nats per token that a row's mean loss rises when its keys have to be guessed."""
    for T, questions, digits, kinds in ((256, 1, 4, 10), (4096, 1, 4, 10), (100, 3, 1, 10), (1000, 1, 8, 2), (50, 2, 5, 1)):
        want = questions * digits * np.log(kinds) / T
        if problem := difference(f"price({T}, questions={questions}, digits={digits}, kinds={kinds})", answer(T, questions, digits, kinds), want):
            return verdict(problem)
    return verdict(None)


def reach(answer) -> bool:
    """answer(layers, w) -> the largest distance between key and question that layers of windows of w can bridge."""
    for layers, w in ((1, 4), (1, 1), (2, 4), (3, 8), (4, 2)):
        T = layers * w + 2
        back = np.arange(T)[:, None] - np.arange(T)[None, :]
        seen = np.linalg.matrix_power(((back >= 0) & (back < w)).astype(int), layers)[-1]
        if problem := difference(f"reach({layers}, {w})", answer(layers, w), T - 1 - int(np.argmax(seen > 0))):
            return verdict(problem)
    return verdict(None)
