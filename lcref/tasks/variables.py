"""Variable tracking: names are given values, and values of other names, here and there in a long text. Which names hold this value?

    BOS  filler ..  SET x4 v7  filler ..  SET x0 v2  ..  SET x9 x4  ..  SET x1 x9  filler ..  v7  |  ->  x4 x9 x1 EOS

One chain with `hops` links has the value that is asked for; the other chains are as long, of other names and values. Statements of a chain come in
order, chains are mixed. It is RULER's "vt" (arXiv 2404.06654, section 3) in a small vocabulary: a search that goes on from what it has found.

`begins="held"` turns the statements round, as "put v7 in x4" would: SET v7 x4, SET x4 x9. Then what is looked for stands before what is found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lcref.tasks.needles import scatter, turns
from lcref.tasks.task import BOS, CONTENT, EOS, SEP, Batch, Task, at_least, lay_out, unique, vocabulary

SET = 4


@dataclass(frozen=True)
class VariableTracking(Task):
    """`length` filler tokens with `chains` chains of hops + 1 statements among them; the answer is the asked chain's hops + 1 names, in order.
    T = length + 3 chains (hops + 1) + hops + 4.

    begins: what a statement begins with, its "name" or what it "held".

    No longest problem. ValueError for more chains than `values`, more statements than `names`, another `begins`. Cost O(B (length + names)).

    >>> print(show(VariableTracking(chains=1, hops=1, names=4, values=3), np.random.default_rng(0), length=4, samples=1))
    length 4
    inputs   ^   SET x2 v2 f0  SET x0 x2 f2  f13 f10 v2 |  x2 x0
    targets  SET x2  v2 f0 SET x0  x2 f2 f13 f10 v2  |  x2 x0 $
    scored                                              *  *  *
    """

    chains: int = 2
    hops: int = 2
    names: int = 32
    values: int = 16
    symbols: int = 16
    begins: str = "name"

    def __post_init__(self):
        at_least(1, chains=self.chains, symbols=self.symbols)
        at_least(0, hops=self.hops)
        if self.begins not in ("name", "held"):
            raise ValueError(f"begins {self.begins!r} is not one of name, held")
        if self.chains > self.values:
            raise ValueError(f"chains {self.chains} are more than the {self.values} different values")
        if self.chains * (self.hops + 1) > self.names:
            raise ValueError(f"{self.chains} chains of {self.hops + 1} statements need more than the {self.names} different names")

    @property
    def tokens(self) -> tuple[str, ...]:
        names = [*(f"x{i}" for i in range(self.names)), *(f"v{i}" for i in range(self.values)), *(f"f{i}" for i in range(self.symbols))]
        return vocabulary(names, SET=SET)

    def width(self, length: int) -> int:
        self.check(length)
        return length + 3 * self.chains * (self.hops + 1) + self.hops + 4

    def sample(self, rng: np.random.Generator, batch: int, length: int) -> Batch:
        self.check(length)
        links, first_value = self.hops + 1, CONTENT + self.names
        name = CONTENT + unique(rng, batch, self.chains * links, self.names).reshape(batch, self.chains, links)
        value = first_value + unique(rng, batch, self.chains, self.values)
        holds = np.concatenate([value[:, :, None], name[:, :, :-1]], axis=2)                # what each name is set to
        of, nth = turns(rng, batch, self.chains, links)
        rows = np.arange(batch)[:, None]
        pair = [name[rows, of, nth], holds[rows, of, nth]]
        spans = np.stack([np.full(of.shape, SET), *(pair if self.begins == "name" else pair[::-1])], axis=2)
        filler = rng.integers(first_value + self.values, first_value + self.values + self.symbols, (batch, length), np.int32)
        return lay_out([BOS, scatter(rng, spans, filler), value[:, :1], SEP], [name[:, 0], EOS], length)

    def answer(self, question: np.ndarray) -> np.ndarray:
        """Look for the statement that sets something to what was found last."""
        text, at, found = question[:, :-1], question[:, -1], []
        named, held = (1, 2) if self.begins == "name" else (2, 1)
        words = np.lib.stride_tricks.sliding_window_view(text, 3, axis=1)
        for _ in range(self.hops + 1):
            place = ((words[:, :, 0] == SET) & (words[:, :, held] == at[:, None])).argmax(axis=1)
            at = words[np.arange(len(text)), place, named]
            found.append(at)
        return np.stack([*found, np.full(len(text), EOS)], axis=1).astype(np.int32)
