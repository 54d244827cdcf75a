"""Answers to notebook 13."""
import jax.numpy as jnp
import numpy as np

from lcref.tasks import Passkey
from lcref.tasks.passkey import KEY, KEY2
from lcref.tasks.task import CONTENT


def by_rows(question):
    return [list(row[list(row).index(KEY) + 1:][:4]) for row in question]


def lazy(question):
    digit = (question >= CONTENT) & (question < CONTENT + 10)
    return np.take_along_axis(question, np.argsort(~digit, axis=1, kind="stable")[:, :4], axis=1)


def after(question, marker, shift=1):
    at = marker(question).argmax(1)[:, None]
    return np.take_along_axis(question, np.minimum(at + shift + np.arange(4), question.shape[1] - 1), axis=1)


RIGHT = {
    "find": [
        by_rows,
        lambda question: Passkey().answer(question)[:, :4],
        lambda question: jnp.stack([row[jnp.argmax(row == 4) + 1 + jnp.arange(4)] for row in jnp.asarray(question)]),
    ],
    "price": [
        lambda T, questions, digits, kinds: questions * digits * np.log(kinds) / T,
        lambda T, questions, digits, kinds: sum([float(jnp.log(kinds))] * digits * questions) / T,
    ],
    "reach": [lambda layers, w: layers * (w - 1), lambda layers, w: sum(w - 1 for _ in range(layers))],
}
WRONG = {
    "find": [
        lambda question: None,
        lazy,
        lambda question: after(question, lambda q: q == KEY, 0),                                     # begins with the marker
        lambda question: after(question, lambda q: (q == KEY) | (q == KEY2)),
        lambda question: after(question, lambda q: q == KEY) - CONTENT,                              # digits, not their tokens
    ],
    "price": [
        lambda T, questions, digits, kinds: None,
        lambda T, questions, digits, kinds: digits * np.log(kinds) / T,
        lambda T, questions, digits, kinds: questions * digits * np.log2(kinds) / T,
        lambda T, questions, digits, kinds: questions * digits * np.log(kinds),
    ],
    "reach": [
        lambda layers, w: None,
        lambda layers, w: w - 1,
        lambda layers, w: layers * w,
        lambda layers, w: w**layers,
    ],
}
