"""The encoder: both directions, positions, and gradients to every parameter. Agreement with transformers: tests/pretrained/test_bert.py."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lcref.nn.encoder import EncoderConfig, vectors
from tests.tolerances import assert_close

CFG = EncoderConfig(vocab=30, d_model=16, layers=2, heads=4, width=24, length=20)
TOKENS = np.random.default_rng(0).integers(0, 30, (2, 9)).astype(np.int32)


def test_every_token_sees_every_other_by_content_and_place():
    encoder = CFG.build(rngs=nnx.Rngs(0))
    whole, changed = encoder(TOKENS), encoder(np.concatenate([TOKENS[:, :-1], (TOKENS[:, -1:] + 1) % 30], 1))
    assert (np.abs(whole - changed).max(-1) > 1e-6).all(), "the last token changes all rows before it"
    order = np.array([3, 1, 2, 0, 4, 5, 6, 7, 8])
    assert np.abs(encoder(TOKENS[:, order]) - whole[:, order]).max() > 1e-4, "places count"
    encoder.position[...] = jnp.zeros_like(encoder.position[...])
    assert_close(encoder(TOKENS[:, order]), encoder(TOKENS)[:, order])


def test_a_vector_is_the_mean_of_the_last_rows_and_all_parameters_count():
    encoder = CFG.build(rngs=nnx.Rngs(0))
    one, alone = vectors(encoder, TOKENS)
    assert_close(one, np.asarray(encoder(TOKENS)).mean(1))
    assert_close(alone, np.asarray(encoder.embedding[...])[TOKENS].mean(1))
    aim = jax.random.normal(jax.random.key(1), (2, 16))
    slopes = nnx.grad(lambda encoder: (vectors(encoder, TOKENS)[0] * aim).sum())(encoder)
    for path, slope in jax.tree.leaves_with_path(slopes):
        assert np.isfinite(slope).all()
        assert np.abs(slope).max() > 0 or "'k'" in jax.tree_util.keystr(path) and "bias" in jax.tree_util.keystr(path), "softmax undoes a bias on keys"


@pytest.mark.parametrize("change, words", [(dict(heads=3), "heads=3 does not divide d_model=16"), (dict(layers=0), "layers must be a whole number >= 1, got 0")])
def test_configs_that_make_no_sense(change, words):
    with pytest.raises(ValueError, match=words):
        EncoderConfig(**(dict(vocab=30, d_model=16) | change))


@pytest.mark.parametrize("token", [-1, 30])
def test_inside_jit_a_token_outside_the_vocabulary_is_nan(token):
    encoder = CFG.build(rngs=nnx.Rngs(0))
    assert np.isnan(nnx.jit(lambda encoder, tokens: encoder(tokens))(encoder, np.array([[1, token, 2]]))[0, 1]).all()
    assert all(np.isnan(made).all() for made in nnx.jit(vectors)(encoder, np.array([[1, token, 2]])))
