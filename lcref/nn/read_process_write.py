"""Read, process, write: a set goes in, a sequence of its members comes out. arXiv 1511.06391, section 4; pointers: arXiv 1506.03134.

    ^ 33 19 106 | 19 33 106 $         the members stand between ^ and |; what follows | is written one by one, and pointing at ^ ends it with $

    read      a memory m_i of every member, and of ^              `AsSet`: each by itself.  `InOrder`: the states of an LSTM that passes over them
    process   q_t = LSTM(q*_(t-1));  a_t = softmax_i(m_i . q_t);  q*_t = [q_t, sum_i a_ti m_i]             t = 1 .. steps, q*_0 = 0; `AsSet` alone
    write     h_t = LSTM(what was written before t), starting from q*;  p(member i at t) = softmax_i(m_i . U h_t)
              with a glimpse h_t first becomes V [h_t, sum_i softmax_i(m_i . W h_t) m_i]

Dot products are divided by sqrt(D). Whatever order the set is given in, `AsSet` does the same with it. A transformer without positions
that sees a whole prompt at once is such a reader too: its layers are the process steps.

Deviations: members are tokens with a table of embeddings, where the paper sorts floats; pointers are dot products, where arXiv 1506.03134
adds; the start of the writer is a linear map of q*. The LSTM of the process reads q* and keeps its own state, as arXiv 1704.01212 has it.
"""
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lcref.nn.layers import Linear, Mlp
from lcref.nn.positions import Nope

TINY = 1e-30                                   # the probability of what is not in the set: its logit is finite


@dataclass(frozen=True)
class AsSet:
    """Every member by itself, then `steps` of attention over all of them. 0 steps: the writer starts without having seen any."""
    steps: int = 5

    def __post_init__(self):
        if not self.steps >= 0:
            raise ValueError(f"steps must be at least 0, got {self.steps}")

    def build(self, width, rngs):
        return SetReader(self.steps, width, rngs)


@dataclass(frozen=True)
class InOrder:
    """One pass over the members, first to last: the encoder of a pointer network."""

    def build(self, width, rngs):
        return OrderedReader(width, rngs)


@dataclass(frozen=True)
class ReadProcessWriteConfig:
    vocab: int
    d_model: int = 64
    reader: Any = AsSet()
    glimpses: int = 1
    begin: int = 1                             # ids of ^, | and $ (lcref/tasks/task.py)
    separator: int = 2
    end: int = 3

    position = Nope()                          # no scheme: order is the reader's business

    def __post_init__(self):
        for name, least in (("vocab", 1), ("d_model", 1), ("glimpses", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def mixers(self):
        return []

    def build(self, *, rngs):
        return ReadProcessWrite(self, rngs=rngs)


class ReadProcessWrite(nnx.Module):
    def __init__(self, cfg, *, rngs):
        self.cfg, D = cfg, cfg.d_model
        self.embedding = nnx.Embed(cfg.vocab, D, embedding_init=nnx.initializers.normal(1.0), rngs=rngs)
        self.reader, self.writer = cfg.reader.build(D, rngs), Lstm(D, D, rngs)
        self.looks = nnx.List([Linear(D, D, rngs) for _ in range(cfg.glimpses)])
        self.joins = nnx.List([Linear(2 * D, D, rngs) for _ in range(cfg.glimpses)])
        self.points = Linear(D, D, rngs)

    def __call__(self, tokens, positions=None, segments=None):
        """tokens int [B,T] -> logits [B,T,W] in float32, of use from the separator on: each row's first one ends the set.

        ValueError for positions, which a set does not have, and for packed rows. Cost: O(T) steps one after another, O(T^2 W) products.
        """
        if positions is not None or segments is not None:
            raise ValueError("a set has no positions, and each row holds one: give neither positions nor segments")
        opened = tokens == self.cfg.separator
        seen = jnp.cumsum(opened, 1)
        inside, first = seen == 0, opened & (seen == 1)
        x = self.embedding(tokens)
        memory, start = self.reader(x, inside)
        h = self.write(x, start, first)
        for look, join in zip(self.looks, self.joins):
            h = join(jnp.concatenate([h, attended(memory, look(h), inside)], -1))
        members = jnp.where(tokens == self.cfg.begin, self.cfg.end, tokens)
        named = jax.nn.one_hot(members, self.cfg.vocab)
        return jnp.log(jnp.einsum("bts,bsw->btw", pointed(memory, self.points(h), inside), named) + TINY)

    def write(self, x, start, first):
        """The writer's states [B,T,D]: it starts anew from `start` where `first`."""
        def step(now, at):
            given, anew = at
            now = self.writer.step(tuple(jnp.where(anew[:, None], s, n) for s, n in zip(start, now)), given)
            return now, now[0]
        _, h = jax.lax.scan(step, start, (self.writer.into(x).swapaxes(0, 1), first.T))
        return h.swapaxes(0, 1)

    def rotating(self):
        return []

    def init_state(self, batch, length, positions=None):
        raise ValueError("ReadProcessWrite takes a whole row at once, and does not read or write piece by piece")


class SetReader(nnx.Module):
    def __init__(self, steps, width, rngs):
        self.each, self.steps = Mlp().build(width, gain=1.0, rngs=rngs), steps
        self.process, self.start = Lstm(2 * width, width, rngs), Linear(2 * width, 2 * width, rngs, bias=True)

    def __call__(self, x, inside):
        """-> (memories [B,T,D], (h, c) of the writer)"""
        memory = self.each(x)
        now, found = (jnp.zeros_like(x[:, 0]),) * 2, jnp.zeros_like(memory[:, 0])
        for _ in range(self.steps):
            now = self.process.step(now, self.process.into(jnp.concatenate([now[0], found], -1)))
            found = attended(memory, now[0][:, None, :], inside)[:, 0]
        return memory, tuple(jnp.split(self.start(jnp.concatenate([now[0], found], -1)), 2, -1))


class OrderedReader(nnx.Module):
    def __init__(self, width, rngs):
        self.lstm = Lstm(width, width, rngs)

    def __call__(self, x, inside):
        """-> (memories [B,T,D], (h, c) of the writer): the last state inside."""
        def step(now, at):
            given, counts = at
            now = tuple(jnp.where(counts[:, None], new, old) for new, old in zip(self.lstm.step(now, given), now))
            return now, now[0]
        last, memory = jax.lax.scan(step, (jnp.zeros_like(x[:, 0]),) * 2, (self.lstm.into(x).swapaxes(0, 1), inside.T))
        return memory.swapaxes(0, 1), last


class Lstm(nnx.Module):
    """i, f, g, o = parts of A x + b + B h;  c' = sigmoid(f + 1) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c').  `into` is A x + b, for all x
    at once; `step` the rest."""

    def __init__(self, fan_in, width, rngs):
        self.into, self.across = Linear(fan_in, 4 * width, rngs, bias=True), Linear(width, 4 * width, rngs)

    def step(self, now, given):
        h, c = now
        i, f, g, o = jnp.split(given + self.across(h), 4, -1)
        c = nnx.sigmoid(f + 1) * c + nnx.sigmoid(i) * jnp.tanh(g)
        return nnx.sigmoid(o) * jnp.tanh(c), c


def pointed(memory, query, inside):
    """memory [B,S,D], query [B,T,D], inside [B,S] -> shares [B,T,S] over the members; a row has at least one."""
    scores = jnp.einsum("btd,bsd->bts", query, memory) * memory.shape[-1] ** -0.5
    return jax.nn.softmax(jnp.where(inside[:, None, :], scores, -jnp.inf), -1)


def attended(memory, query, inside):
    return jnp.einsum("bts,bsd->btd", pointed(memory, query, inside), memory)


READERS = {"as_set": AsSet, "in_order": InOrder}
