"""What the tests of evaluations share: sources in which every token says where it was, and small models."""
import functools
from types import SimpleNamespace

import numpy as np
from flax import nnx

from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig

W = 20
BLIND = SimpleNamespace(cfg=DecoderConfig(vocab=W))                             # for a `score` that does not ask the model


class Numbers:
    """Every token of every window is another number, so that what was scored can be read off."""
    vocab = 10**6

    def windows(self, seed, count, length, split="validation"):
        assert split in ("validation", "test")
        return 10_000 * (split == "test") + 1000 * seed + np.arange(count * (length + 1)).reshape(count, length + 1)

    def questions(self, seed, count, distance, split="validation"):
        rows = self.windows(seed, count, distance, split)
        return rows, np.random.default_rng([seed, distance, split == "test"]).integers(0, 2, (count, 1))


class Answers:
    """Seven rows of 5 tokens and their answers; every second one is odd, or in the test split every one."""
    vocab, width = W, 5

    def examples(self, split):
        return np.arange(35).reshape(7, 5), np.arange(7) if split == "validation" else np.full(7, 3)


@functools.cache
def make(vocab=W, seed=0, **kwargs):
    cfg = DecoderConfig(**dict(vocab=vocab, d_model=8, layers=1, mixer=AttentionConfig(heads=2), embed_std=1.0) | kwargs)
    return cfg.build(rngs=nnx.Rngs(seed))


def rows(count, length, seed=0):
    text = np.random.default_rng(seed).integers(0, W, (count, length + 1)).astype(np.int32)
    return text[:, :-1], text[:, 1:]
