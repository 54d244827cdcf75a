"""What the tests of training share: one small model and config, so that few programs are compiled."""
import functools

import jax
import numpy as np
from flax import nnx

from lcref.nn.decoder import DecoderConfig
from lcref.nn.layers import Mlp
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Randomized, Rope
from lcref.tasks import Copy, TaskSource
from lcref.train import TrainConfig, train

SOURCE = TaskSource(Copy(alphabet=4), min_length=1, max_length=3)
MODEL = DecoderConfig(vocab=SOURCE.vocab, d_model=8, layers=1, mixer=AttentionConfig(heads=2), feed_forward=Mlp(16),
                      position=Randomized(Rope(), max_length=32))
CONFIG = TrainConfig(steps=8, batch=4, learning_rate=1e-2, warmup=2, steps_per_call=2, checkpoint_seconds=0)


def run(seeds, folder=None, *, model=MODEL, source=SOURCE, config=CONFIG, **kwargs):
    """(what train returns, the steps it reported)"""
    steps, tell = [], kwargs.pop("report", lambda progress: None)

    def report(progress):
        steps.append(progress.step)
        tell(progress)
    return train(model, source, config, seeds, folder=folder, report=report, **kwargs), steps


@functools.cache
def straight(*seeds):
    """A run that nothing interrupts."""
    return run(seeds)[0]


def weights(trained):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(trained.decoder))]


def same_bits(one, two):
    assert [t.seed for t in one] == [t.seed for t in two] and [t.loss for t in one] == [t.loss for t in two]
    for a, b in zip(one, two):
        assert [x.tobytes() for x in weights(a)] == [x.tobytes() for x in weights(b)]


class Plain:
    """SOURCE, except that the batch of (seed, step) == `bad` has NaN weights, or cannot be made."""
    vocab = SOURCE.vocab

    def __init__(self, bad=None, error=None):
        self.bad, self.error = bad, error

    def batch(self, rng, size):
        bad = self.bad is not None and rng.bit_generator.state == np.random.default_rng(list(self.bad)).bit_generator.state
        if bad and self.error:
            raise self.error
        batch = SOURCE.batch(rng, size)
        return batch | dict(weights=batch["weights"] * np.float32(np.nan if bad else 1))

    def fingerprint(self):
        return "plain"
