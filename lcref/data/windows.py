"""Evaluation windows: contiguous stretches of single documents, spread over as many documents as are long enough.

Perplexity at length n must not be a mixture of documents that begin somewhere inside the window, so a window never crosses a
document's border. Only documents longer than n can give one: to compare loss at several lengths, cut ONE set of windows, drawn at
the greatest length, into shorter ones. Sets drawn at each length for itself come from different documents, and the difference in
difficulty would be read as an effect of length.
"""

from __future__ import annotations

import numpy as np

from lcref.data.packing import Stream


def windows(documents: Stream, names: list[str], seed: int | np.random.Generator, count: int, length: int) -> np.ndarray:
    """int32 [count, length + 1]: inputs are the first `length` columns, targets the last `length`.

    Every document that is long enough gives one window before any gives a second, and windows overlap only when `count` asks for
    more than all documents hold side by side. Within a document they are spread evenly, each shifted at random as far as the slack
    allows. The same seed gives the same windows. ValueError, naming the longest document, when none has length + 1 tokens.
    """
    if count < 1 or length < 1:
        raise ValueError(f"{count} windows of length {length}: both must be 1 or more")
    fits = np.flatnonzero(documents.lengths > length)
    if not len(fits):
        longest = int(documents.lengths.argmax())
        raise ValueError(f"no document has {length + 1} tokens, as a window of length {length} needs; "
                         f"the longest, {names[longest]}, has {documents.lengths[longest]}")
    rng = np.random.default_rng(seed)
    chosen = _spread(rng.permutation(fits), documents.lengths // (length + 1), count)
    nth = _occurrence(chosen)
    share = np.bincount(chosen)[chosen]  # windows that this window's document gives in all
    last = documents.lengths[chosen] - (length + 1)  # the last place where a window may begin
    step = np.minimum(length + 1, last // np.maximum(share - 1, 1))
    slack = last - (share - 1) * step
    begin = nth * step + ((nth + rng.random(count)) * (slack + 1) / share).astype(np.int64)
    return documents.tokens[(documents.starts[chosen] + begin)[:, None] + np.arange(length + 1)].astype(np.int32)


def _spread(order: np.ndarray, capacity: np.ndarray, count: int) -> np.ndarray:
    """`count` documents: round after round through `order`, each document in as many rounds as it has capacity; then again."""
    rounds, taken = [], 0
    for turn in range(int(capacity[order].max())):
        rounds.append(order[capacity[order] > turn])
        taken += len(rounds[-1])
        if taken >= count:
            break
    return np.resize(np.concatenate(rounds), count)


def _occurrence(values: np.ndarray) -> np.ndarray:
    """How many times each entry's value has occurred before it: [a, b, a, a] -> [0, 0, 1, 2]."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.searchsorted(ordered, ordered, side="left")
    result = np.empty(len(values), np.int64)
    result[order] = np.arange(len(values)) - begins
    return result
