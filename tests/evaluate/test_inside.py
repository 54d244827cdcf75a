"""States, attention weights and rows as vectors, against whole passes by hand."""
import numpy as np
import pytest

from lcref.data.text import Text
from lcref.evaluate import EmbeddingSpread, StateSpread, WeightEntropy
from lcref.nn.decoder import DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.positions import Randomized, Rope
from lcref.nn.read_process_write import ReadProcessWriteConfig
from lcref.ops.ssm.forgetting import RecentOnly
from lcref.ops.weights import Lssa, Lssar, Softmax
from tests.compiling import quick
from tests.evaluate.looking import make
from tests.tolerances import assert_close


def test_state_spread_by_hand():
    """Two Mamba-2 layers and one of attention, three rows: the states of whole passes, and the decays they saw."""
    source, mamba = Text(length=16), Mamba2Config(state=4, head_dim=8, A_min=0.01, A_max=0.1)
    decoder = make(vocab=source.vocab, layers=3, pattern=(mamba, AttentionConfig(heads=2), mamba))
    found = StateSpread(7, every=3, windows=3)(decoder, source)
    rows = source.windows(0, 3, 7)[:, :-1]
    assert {tuple(slices) for slices in found.values()} == {("3", "6")}
    for end in (3, 6):
        seen = quick(lambda rows: decoder(rows, capture=True)[1])(rows[:, :end])
        spread = np.concatenate([np.std(seen[f"block{i}/state"], axis=(2, 3)).mean(0) for i in (0, 2)])
        left = max(float(np.exp(np.sum(seen[f"block{i}/log_decay"], axis=1)).mean(0).max()) for i in (0, 2))
        want = dict(state_spread=np.median(spread), state_spread_largest=spread.max(), first_token_left=left)
        assert_close({name: slices[str(end)] for name, slices in found.items()}, {name: float(value) for name, value in want.items()})
    assert found["first_token_left"]["3"] > found["first_token_left"]["6"] > 0.5


@pytest.mark.parametrize("mixer", [AttentionConfig(heads=2), Mamba2Config(state=4, head_dim=8, memory=RecentOnly(3))])
def test_models_without_a_state_to_look_at(mixer):
    with pytest.raises(ValueError, match="this model has none that keeps one"):
        StateSpread(8, 4).fits(DecoderConfig(vocab=257, d_model=8, mixer=mixer))


def test_weight_entropy_by_hand():
    """Two layers of attention with 2 and 4 heads, and one without: the weights of whole passes, their entropies in float64."""
    source, layers = Text(length=16), (AttentionConfig(heads=2), Mamba2Config(state=4, head_dim=8), AttentionConfig(heads=4, weights=Lssar(3)))
    decoder = make(vocab=source.vocab, layers=3, pattern=layers)
    found = WeightEntropy((6, 9), rows=4, windows=3)(decoder, source)
    text = source.windows(0, 3, 9)[:, :-1]
    for length in (6, 9):
        seen = quick(lambda rows: decoder(rows, capture=True)[1])(text[:, -length:])
        w = np.concatenate([np.asarray(seen[f"block{i}/weights"], np.float64) for i in (0, 2)], axis=1)        # [windows, 2 + 4 heads, T, T]
        H = -(w * np.log(np.where(w > 0, w, 1.0))).sum(-1)[:, :, -4:]
        n = np.arange(length - 3, length + 1)
        want = {"weight_entropy": H.mean(), "weight_evenness": (H / np.log(n)).mean()}
        assert_close({name: slices[str(length)] for name, slices in found.items()}, {name: float(value) for name, value in want.items()})
        assert 0.1 < want["weight_evenness"] < 0.99


@pytest.mark.parametrize("weights, window, keys", [(Softmax(), None, None), (Lssa(), None, None), (Softmax(), 3, 3), (Lssar(15), None, 1)])
def test_weight_entropy_of_keys_that_are_all_alike(weights, window, keys):
    """ln of how many keys are seen, since all weigh the same; under re-weighting none stands out, and no weight is no entropy."""
    decoder = make(vocab=257, layers=2, embed_std=0.0, mixer=AttentionConfig(heads=2, weights=weights, window=window))
    found = WeightEntropy((8, 16), rows=2, windows=2)(decoder, Text(length=16))
    for length in (8, 16):
        n = np.array([length - 1, length])
        H = np.log(n if keys is None else np.full(2, keys))
        assert_close((found["weight_entropy"][str(length)], found["weight_evenness"][str(length)]), (float(H.mean()), float((H / np.log(n)).mean())))


def test_weight_entropy_draws_randomized_ids_from_its_seed():
    decoder, ev = make(vocab=257, position=Randomized(Rope(), 64)), WeightEntropy((8,), rows=2, windows=2)
    once, again, plain = ev(decoder, Text(length=16)), ev(decoder, Text(length=16)), ev(make(vocab=257), Text(length=16))
    assert once == again and abs(once["weight_entropy"]["8"] - plain["weight_entropy"]["8"]) > 1e-4


def test_a_model_without_weights_to_look_at():
    with pytest.raises(ValueError, match="attention layers, and this model has none"):
        WeightEntropy((8,), rows=2).fits(DecoderConfig(vocab=257, d_model=8, mixer=Mamba2Config(state=4, head_dim=8)))


# ------------------------------------------------------------------------------------------------------------ rows as vectors

def test_embedding_spread_by_hand():
    source, decoder = Text(length=16), make(vocab=257, layers=2)
    found = EmbeddingSpread((4, 6), windows=3)(decoder, source)
    text = source.windows(0, 3, 12)
    for length in (4, 6):
        rows = [text[:, first:first + length] for first in (0, 6)]
        last = [np.asarray(decoder.norm(decoder.hidden(each)), np.float64).mean(1) for each in rows]
        first = [np.asarray(decoder.embedding.embedding[...], np.float64)[each].mean(1) for each in rows]
        for name, (a, b) in (("embedding_cosine", last), ("input_cosine", first)):
            cosines = np.array([[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in b] for x in a])
            assert_close(found[name][str(length)], float(np.mean([cosines[i, j] for i in range(3) for j in range(3) if i != j])))
            if name == "embedding_cosine":
                assert found["sibling_found"][str(length)] == np.mean([cosines[i].argmax() == i for i in range(3)])


def test_rows_that_are_all_alike_have_a_cosine_of_one():
    """A model that gives every token the same vector: longer rows cannot be more alike."""
    decoder = make(vocab=257, embed_std=0.0)
    table = np.zeros((257, 8), np.float32)
    table[:, 0] = 1
    decoder.embedding.embedding[...] = table
    found = EmbeddingSpread((4, 8), windows=5)(decoder, Text(length=16))
    assert_close(found["embedding_cosine"], {"4": 1.0, "8": 1.0})
    assert_close(found["input_cosine"], {"4": 1.0, "8": 1.0})


def test_embedding_spread_of_randomized_positions_is_the_same_twice():
    decoder, ev = make(vocab=257, position=Randomized(Rope(), 64)), EmbeddingSpread((8,), windows=3)
    once, again, plain = ev(decoder, Text(length=16)), ev(decoder, Text(length=16)), ev(make(vocab=257), Text(length=16))
    assert once == again and abs(once["embedding_cosine"]["8"] - plain["embedding_cosine"]["8"]) > 1e-5


def test_a_model_without_a_last_layer():
    with pytest.raises(ValueError, match="averages a decoder's last layer, and this model has none"):
        EmbeddingSpread((8,)).fits(ReadProcessWriteConfig(257))
