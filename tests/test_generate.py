import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lcref import generate as generation
from lcref.generate import filtered, generate
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.positions import Learned, Randomized, Rope, Xpos
from tests.compiling import compilations

W, B, T = 11, 3, 4
PROMPT = np.random.default_rng(0).integers(0, W, (B, T)).astype(np.int32)
LOGITS = np.random.default_rng(1).normal(size=(50, W)).astype(np.float32) * 2
NEAR = AttentionConfig(heads=2, window=3, sinks=1)
READ = generation.read


@functools.cache
def make(position=Rope(), pattern=(AttentionConfig(heads=2),)):
    cfg = DecoderConfig(vocab=W, d_model=8, layers=len(pattern), pattern=pattern, position=position, embed_std=1.0)
    return Decoder(cfg, rngs=nnx.Rngs(3))


# ----------------------------------------------------------------------------------------------------------------- filters

def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def by_hand(logits, temperature, top_k, top_p):
    """Probabilities of one row: walk down the ranking, keep while the mass above is less than top_p."""
    share = softmax(logits.astype(np.float64) / temperature)
    order = np.argsort(-share)
    share[order[top_k or W:]] = 0
    share = share / share.sum()
    above = 0.0
    for token in order:
        above, share[token] = above + share[token], share[token] if above < (top_p or 1) else 0
    return share / share.sum()


@pytest.mark.parametrize("temperature, top_k, top_p", [(1.0, None, None), (0.5, None, None), (1.0, 3, None), (1.0, None, 0.6), (2.0, 4, 0.7),
                                                       (0.7, W, 1.0), (1.0, 1, None), (1.0, None, 1e-6)])
def test_filters_are_their_definition(temperature, top_k, top_p):
    got = np.asarray(jax.nn.softmax(filtered(jnp.asarray(LOGITS), temperature, top_k, top_p), axis=-1))
    want = np.array([by_hand(row, temperature, top_k, top_p) for row in LOGITS])
    assert ((got > 0) == (want > 0)).all()
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    share = softmax(LOGITS)
    for p in (0.1, 0.5, 0.9):
        kept = np.isfinite(filtered(jnp.asarray(LOGITS), top_p=p))
        mass = np.where(kept, share, 0).sum(-1)
        least = np.where(kept, share, 2).min(-1)
        assert (mass >= p - 1e-6).all() and (mass - least < p + 1e-6).all()
        assert (np.where(kept, 0, share).max(-1) <= least).all(), "no token is kept before a likelier one"


@pytest.mark.parametrize("top_p", [1e-40, 1e-46])
def test_a_top_p_below_what_float32_holds_keeps_the_likeliest(top_p):
    kept = np.isfinite(jax.jit(filtered)(jnp.asarray(LOGITS), 1.0, None, jnp.float32(top_p)))
    np.testing.assert_array_equal(kept, LOGITS == LOGITS.max(-1, keepdims=True))


def test_ties_with_the_last_of_top_k_stay():
    kept = np.isfinite(filtered(jnp.asarray([2.0, 1.0, 1.0, 0.0]), top_k=2))
    assert kept.tolist() == [True, True, True, False]


def test_a_low_temperature_is_greedy():
    drawn = jax.random.categorical(jax.random.key(0), filtered(jnp.asarray(LOGITS), temperature=1e-5))
    assert (np.asarray(drawn) == LOGITS.argmax(-1)).all()


# -------------------------------------------------------------------------------------------------------------- generation

@pytest.mark.parametrize("position, pattern", [(Rope(), (NEAR, AttentionConfig(heads=2))), (Learned(8), (AttentionConfig(heads=2),))],
                         ids=["ring and full cache", "to a table's end"])
def test_greedy_is_the_argmax_of_the_whole_pass(position, pattern):
    decoder = make(position, pattern)
    written = np.asarray(generate(decoder, PROMPT, 5, temperature=0))
    logits = np.asarray(jax.jit(decoder)(np.concatenate([PROMPT, written[:, :-1]], 1)))
    assert written.shape == (B, 5) and written.dtype == np.int32
    assert (written == logits[:, T - 1:].argmax(-1)).all()
    assert len(np.unique(written)) > 2, "a model that repeats one token would show little"


def test_top_k_1_is_greedy():
    assert (np.asarray(generate(make(), PROMPT, 5, top_k=1, seed=4)) == np.asarray(generate(make(), PROMPT, 5, temperature=0))).all()


@pytest.mark.parametrize("pattern, pieces", [((NEAR, Mamba2Config(state=4, head_dim=8)), [2, 3]), ((AttentionConfig(heads=2),), [])],
                         ids=["state that does not grow", "cache that grows"])
def test_a_long_prompt_is_read_in_pieces_where_memory_is_bounded(pattern, pieces, monkeypatch):
    """8 tokens in pieces of 3: the odd one first, the last left to the program that writes; the same tokens either way."""
    prompt, seen = np.random.default_rng(2).integers(0, W, (B, 8)).astype(np.int32), []
    want = np.asarray(generate(make(pattern=pattern), prompt, 5, temperature=0))
    assert generation.PIECE > 8
    monkeypatch.setattr(generation, "PIECE", 3)
    monkeypatch.setattr(generation, "read", lambda graph, params, state, tokens: seen.append(tokens.shape[1]) or READ(graph, params, state, tokens))
    assert (np.asarray(generate(make(pattern=pattern), prompt, 5, temperature=0)) == want).all() and seen == pieces


def test_one_token():
    assert (np.asarray(generate(make(), PROMPT, 1, temperature=0)) == np.asarray(generate(make(), PROMPT, 5, temperature=0))[:, :1]).all()


def test_tokens_are_drawn_from_the_filtered_distribution():
    """The first token of 4000 streams against the probabilities of a whole pass, and the second in those that drew the commonest first."""
    prompt = np.repeat(PROMPT[:1], 4000, axis=0)
    drawn = np.asarray(generate(make(), prompt, 2, temperature=1.5, top_k=6, top_p=0.9, seed=1))
    common = np.bincount(drawn[:, 0]).argmax()
    logits = np.asarray(jax.jit(make())(np.append(PROMPT[:1], [[common]], 1)))[0]
    for tokens, row in ((drawn[:, 0], logits[-2]), (drawn[drawn[:, 0] == common, 1], logits[-1])):
        want, got = by_hand(row, 1.5, 6, 0.9), np.bincount(tokens, minlength=W) / len(tokens)
        assert (want > 0).sum() >= 3 and (got[want == 0] == 0).all()
        assert (np.abs(got - want) < 4.5 * np.sqrt(want * (1 - want) / len(tokens)) + 1e-9).all()


def test_the_seed_says_what_is_drawn():
    one, again, other = (np.asarray(generate(make(), PROMPT, 5, seed=seed)) for seed in (0, 0, 1))
    assert (one == again).all() and (one != other).any()
    rows = np.asarray(generate(make(), np.repeat(PROMPT[:1], B, axis=0), 5, seed=0))
    assert (rows[0] != rows[1]).any(), "rows draw for themselves"


def test_one_program_draws_at_every_temperature_and_top_p():
    """And still draws what the filters say: the first token is that of the filtered logits, setting for setting."""
    logits = jax.jit(make())(PROMPT)[:, -1]
    first = jax.random.split(jax.random.split(jax.random.key(0))[0], 5)[0]      # of the keys that `generate` makes from seed 0
    drawn = lambda temperature, top_p: np.asarray(generate(make(), PROMPT, 5, temperature=temperature, top_k=7, top_p=top_p))
    with compilations() as programs:
        drawn(1.0, 0.9)
    assert programs.count("run") == 1
    seen = []
    with compilations() as programs:
        for temperature, top_p in ((1.0, 0.9), (0.5, 0.9), (3.0, 0.4), (3.0, 1.0)):
            seen.append(drawn(temperature, top_p))
            want = jax.random.categorical(first, filtered(logits, temperature, 7, top_p))
            assert (seen[-1][:, 0] == np.asarray(want)).all(), (temperature, top_p)
        assert "run" not in programs and len({tokens.tobytes() for tokens in seen}) > 1, "the settings matter, and compile nothing"
        drawn(1.0, None), drawn(2.0, None), drawn(0.1, None)
    assert programs.count("run") == 1, "without top_p nothing is sorted: another program, for every temperature"


def test_greedy_decoding_is_one_program_whatever_the_filters():
    greedy = lambda **kwargs: np.asarray(generate(make(), PROMPT, 6, temperature=0, **kwargs))
    want = greedy()
    with compilations() as programs:
        for kwargs in (dict(top_k=3), dict(top_p=0.5), dict(top_k=2, top_p=0.1), dict(seed=4)):
            assert (greedy(**kwargs) == want).all()
    assert "run" not in programs


def test_randomized_ids_are_drawn_once_for_a_stream():
    """Greedy decoding then depends on the seed through the ids alone."""
    written = [np.asarray(generate(make(Randomized(Rope(), max_length=1000)), PROMPT, 5, temperature=0, seed=seed)) for seed in (0, 0, 1, 2)]
    assert (written[0] == written[1]).all() and any((written[0] != other).any() for other in written[2:])
    # each row has ids as for all that is read, prompt and answer but its last token: the whole pass with them says the same
    decoder, answer = make(Randomized(Rope(), max_length=1000)), written[2]
    ids = decoder.cfg.position.ids(jax.random.split(jax.random.key(1))[1], np.arange(T + 4)[None], np.full(B, T + 4))
    logits = np.asarray(decoder(np.concatenate([PROMPT, answer[:, :-1]], 1), positions=ids))
    assert (answer == logits[:, T - 1:].argmax(-1)).all() and not (ids[0] == ids[1]).all()


# ------------------------------------------------------------------------------------------------------------------ errors

@pytest.mark.parametrize("prompt", [PROMPT[0], np.zeros((2, 0), np.int32), np.zeros((0, 2), np.int32), PROMPT.astype(np.float32),
                                    np.zeros((1, 2, 3), np.int32)], ids=lambda x: f"{x.dtype}{x.shape}")
def test_a_prompt_is_rows_of_ids(prompt):
    with pytest.raises(ValueError, match=r"the prompt must be token ids \[B,T\] with T >= 1, got"):
        generate(make(), prompt, 3)


@pytest.mark.parametrize("token", [W, 300, -1])
def test_a_prompt_outside_the_vocabulary(token):
    with pytest.raises(ValueError, match=f"prompt ids go from .*{token}.*, the vocabulary from 0 to 10"):
        generate(make(), np.array([[1, token]]), 3)


@pytest.mark.parametrize("kwargs, words", [
    (dict(tokens=0), "tokens must be at least 1, got 0"),
    (dict(temperature=-0.5), "temperature must be at least 1e-06, or 0.*got -0.5"),
    (dict(temperature=1e-38), "temperature must be at least 1e-06, or 0.*got 1e-38"),
    (dict(temperature=float("nan")), "temperature must be at least 1e-06.*got nan"),
    (dict(top_k=0), "top_k must be between 1 and the vocabulary's 11, got 0"),
    (dict(top_k=12), "top_k must be between 1 and the vocabulary's 11, got 12"),
    (dict(top_p=0.0), r"top_p must be in \(0, 1\], got 0.0"),
    (dict(top_p=1.5), r"top_p must be in \(0, 1\], got 1.5"),
    (dict(temperature=0, top_k=0), "top_k must be between 1"),
])
def test_parameters_out_of_range(kwargs, words):
    with pytest.raises(ValueError, match=words):
        generate(make(), PROMPT, **dict(tokens=3) | kwargs)


@pytest.mark.parametrize("position, words", [(Learned(8), r"a prompt of 4 and 6 more tokens need 9 positions, Learned\(length=8\) ends at 8"),
                                             (Randomized(Rope(), max_length=8), "need 9 positions, Randomized.* ends at 8"),
                                             (Xpos(scale_base=0.12), "need 9 positions, Xpos.* ends at 8")],
                         ids=["learned", "randomized", "xpos"])
def test_a_stream_longer_than_the_positions(position, words):
    """Inside the scan nothing could be raised: the logits would be NaN, and their argmax a token like any other. One token less still fits."""
    with pytest.raises(ValueError, match=words):
        generate(make(position), PROMPT, 6, temperature=0)
    written = np.asarray(generate(make(position), PROMPT, 5, temperature=0))
    want = PROMPT
    for _ in range(5):
        ids = None
        if position.draws_ids:                                     # all eight there are, whatever is drawn
            ids = np.arange(want.shape[1])[None]
        want = np.concatenate([want, np.argmax(make(position)(want, ids)[:, -1], -1)[:, None].astype(np.int32)], 1)
    assert (written == want[:, T:]).all()
