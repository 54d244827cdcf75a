"""A stream read piece by piece is one long row."""
import numpy as np
import pytest

from lcref.data.keyed import Keyed
from lcref.data.text import Text
from lcref.evaluate import StreamLoss, score
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.positions import Randomized, Rope
from lcref.tasks import TaskSource
from tests.evaluate.looking import make
from tests.tolerances import assert_close


@pytest.mark.parametrize("mixer", [AttentionConfig(heads=2, window=5, sinks=1), Mamba2Config(state=4, head_dim=8)], ids=lambda m: type(m).__name__)
def test_a_stream_is_one_long_row(mixer):
    """Whatever the pieces, a last short one included; each span holds the tokens from one power of two to the next."""
    source, n = Keyed(Text(length=16), keys=2), 75
    decoder = make(vocab=source.vocab, mixer=mixer)
    tokens = source.stream(n)
    whole, _ = score(decoder, tokens[None, :-1], tokens[None, 1:])
    want = {"1": whole[0, :1], "2": whole[0, 1:2], "4": whole[0, 2:4], "8": whole[0, 4:8], "16": whole[0, 8:16], "32": whole[0, 16:32],
            "64": whole[0, 32:64], "75": whole[0, 64:]}
    for piece in (75, 16, 7):
        found = StreamLoss(n, piece)(decoder, source)["stream_loss"]
        assert list(found) == list(want)
        assert_close(np.array(list(found.values())), np.array([nats.mean() for nats in want.values()]))


def test_a_stream_is_the_documents_end_to_end_and_begins_anew():
    from lcref.data import text

    source, every = Text(length=16), text.tokens("stdlib", "validation").tokens[:-1]
    long = source.stream(len(every) + 9)
    assert long.dtype == np.int32 and len(long) == len(every) + 10
    assert (long[:len(every)] == every).all() and (long[len(every):] == every[:10]).all()
    assert (source.stream(9, split="test") != long[:10]).any()


@pytest.mark.parametrize("kwargs, message", [
    (dict(mixer=AttentionConfig(heads=2)), "state that does not grow with it, and AttentionConfig keeps every token"),
    (dict(pattern=(Mamba2Config(state=4, head_dim=8), AttentionConfig(heads=2))), "AttentionConfig keeps every token"),
    (dict(mixer=AttentionConfig(heads=2, window=4), position=Randomized(Rope(), 64)), "Randomized draws ids"),
])
def test_what_cannot_be_streamed(kwargs, message):
    model = DecoderConfig(**dict(vocab=257, d_model=8, layers=2) | kwargs)
    with pytest.raises(ValueError, match=message):
        StreamLoss(8).fits(model)
    with pytest.raises(ValueError, match="source.stream, which TaskSource does not have"):
        StreamLoss(8).check(TaskSource())
    with pytest.raises(ValueError, match="StreamLoss piece must be a whole number >= 1, got 0"):
        StreamLoss(8, 0)
