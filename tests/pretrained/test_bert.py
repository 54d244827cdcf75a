"""BERT's family: what transformers saves is read and gives the same rows; a temperature divides the scores and nothing else."""
import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("gguf")

from safetensors.numpy import load_file, save_file  # noqa: E402

from lcref.ops.weights import TempScale  # noqa: E402
from lcref.pretrained import families, folder, models  # noqa: E402
from lcref.train import read_as  # noqa: E402
from tests.pretrained.tiny import message, write_folder  # noqa: E402
from tests.tolerances import assert_close  # noqa: E402

FIXTURES = Path(__file__).parent / "fixtures"
CONFIG, TENSORS = json.loads((FIXTURES / "bert/config.json").read_text()), load_file(FIXTURES / "bert/model.safetensors")
EXPECTED = load_file(FIXTURES / "bert_expected.safetensors")


def written(path, config=None, tensors=None):
    shutil.copytree(FIXTURES / "bert", path)
    (path / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    save_file(TENSORS if tensors is None else tensors, path / "model.safetensors")
    return path


def test_equals_transformers():
    encoder, window = families.encoder(folder.read(FIXTURES / "bert"))
    assert window == 24
    np.testing.assert_allclose(encoder(EXPECTED["tokens"]), EXPECTED["logits"], rtol=0, atol=1e-4)


def test_a_temperature_divides_the_scores(tmp_path):
    """Dividing scores by tau is multiplying queries by 1 / tau: weights and biases of Wq, written into the file."""
    encoder, _ = families.encoder(folder.read(FIXTURES / "bert"))
    sharper = {name: array / np.float32(0.5) if ".query." in name else array for name, array in TENSORS.items()}
    by_hand, _ = families.encoder(folder.read(written(tmp_path / "b", tensors=sharper)))
    got = read_as(encoder, replace(encoder.cfg, weights=TempScale(0.5)))(EXPECTED["tokens"])
    assert_close(got, by_hand(EXPECTED["tokens"]))
    assert np.abs(got - EXPECTED["logits"]).max() > 0.1


def test_names_with_a_prefix_and_heads_that_are_left_out(tmp_path):
    more = {f"bert.{name}": array for name, array in TENSORS.items()} | {"cls.predictions.bias": np.zeros(40, np.float32)}
    encoder, _ = families.encoder(folder.read(written(tmp_path / "b", tensors=more)))
    np.testing.assert_allclose(encoder(EXPECTED["tokens"]), EXPECTED["logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("config, words", [
    (dict(hidden_act="relu"), "exact gelu"), (dict(position_embedding_type="relative_key"), "positions are learned"),
    (dict(is_decoder=True), "every token sees every other"), (dict(type_vocab_size=1), "two segments"),
    (dict(num_attention_heads=3), "heads=3 does not divide"), (dict(num_hidden_layers=3), "missing"), (dict(vocab_size=41), "should have (41, 16)"),
])
def test_what_the_encoder_is_not(config, words, tmp_path):
    assert words in message(lambda path: families.encoder(folder.read(path)), written(tmp_path / "b", config))


def test_an_encoder_is_not_a_decoder(tmp_path):
    assert "'bert' is an encoder; llama, gpt2, mamba2 are read here" in message(models.load, str(FIXTURES / "bert"))
    assert "'llama' is a decoder; bert is read here" in message(models.load_encoder, write_folder(tmp_path / "llama"))
    assert models.load_encoder(str(FIXTURES / "bert")).window == 24


def test_rows_that_do_not_fit():
    encoder, _ = families.encoder(folder.read(FIXTURES / "bert"))
    with pytest.raises(ValueError, match="rows of 25 tokens are longer than the table of 24 positions"):
        encoder(jnp.zeros((1, 25), jnp.int32))
    with pytest.raises(ValueError, match="tokens must be from 0 to 39, got 0 to 40"):
        encoder(jnp.array([[0, 40]]))
