"""What every evaluation is made of: the loss of each target and whether its argmax is right, over any number of rows."""
from dataclasses import fields
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lcref.ops.numbers import whole
from lcref.ops.positions import plain

TOKENS = 2**15                                             # tokens per compiled forward pass: bounds memory


@partial(jax.jit, static_argnums=0)
def scored(graph, state, inputs, targets, positions):
    """(nats of each target [B,T], is its argmax right [B,T])"""
    logits = nnx.merge(graph, state)(inputs, positions=positions)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets), jnp.argmax(logits, -1) == targets


def score(decoder, inputs, targets, seed=0, real=None):
    """`scored` over any number of rows, in equal batches (the last one padded), as numpy. Randomized position schemes draw ids from seed, for
    each row its own: a share of rows is then one of draws as well.

    real: of the T tokens, how many are not padding (default: all). Randomized ids are drawn for so many. Where frequencies depend on how long
    a row is (dynamic NTK, CLEX), all padding stands at the last real position: the longest position is what such a scheme takes for the length.
    """
    graph, state = nnx.split(decoder)
    rows, T = inputs.shape
    real = T if real is None else real
    batch = max(1, min(rows, TOKENS // T))
    scheme = decoder.cfg.position
    clipped = np.minimum(plain(T), real - 1)[None, :] if real < T and any(each.late for each in decoder.rotating()) else None
    results = []
    for n, first in enumerate(range(0, rows, batch)):
        x, y = inputs[first:first + batch], targets[first:first + batch]
        short = batch - len(x)
        x, y = np.pad(x, ((0, short), (0, 0))), np.pad(y, ((0, short), (0, 0)))
        ids = scheme.ids(jax.random.fold_in(jax.random.key(seed), n), plain(T)[None, :], np.full(batch, real)) if scheme.draws_ids else clipped
        results.append([np.asarray(r)[:batch - short] for r in scored(graph, state, x, y, ids)])
    return tuple(np.concatenate(column) for column in zip(*results))


def needs(ev, source, what):
    """ValueError where the source cannot give what an evaluation reads."""
    if not hasattr(source, what):
        raise ValueError(f"{type(ev).__name__} reads source.{what}, which {type(source).__name__} does not have")


class Evaluation:
    """What is wrong with any evaluation: a count below 1, a seed below 0, nothing listed. A field's default says which it is."""

    def __post_init__(self):
        name = type(self).__name__
        for field in fields(self):
            value, usual = getattr(self, field.name), field.default
            if isinstance(usual, tuple) and not value:
                raise ValueError(f"{name} {field.name} is empty: there is nothing to measure")
            for number, like in zip(value, usual[:1] * len(value)) if isinstance(usual, tuple) else [(value, usual)]:
                if isinstance(like, int):
                    whole(name, field.name, number, least=0 if field.name == "seed" else 1)


class OfWindows(Evaluation):
    """Evaluations that read windows of real text."""

    def check(self, source):
        needs(self, source, "windows")

    def width(self, source):
        """The longest window, once the source has shown that it holds one (ValueError)."""
        longest = max(self.lengths) if hasattr(self, "lengths") else self.length
        return source.windows(self.seed, 1, longest, split=self.split).shape[1] - 1
