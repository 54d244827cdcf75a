"""The decoder: one battery over POSITIONS on a model that mixes kinds of attention layers, then what the decoder itself promises.

The battery compiles three programs for a scheme (a whole pass, pieces of 1 and of 4 tokens), and every test of it uses these. The
other tests run op by op, on few shapes: each one more is another hundred small programs to compile.
"""
import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from lcref import config
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.layers import Centred, GatedMlp
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.positions import (POSITIONS, T5, Alibi, Fire, Kerple, Learned, LMInfinite, Nope, Randomized, Rope, SelfExtend, Sinusoidal,
                                StreamingLLM)
from lcref.ops.rope_scaling import SCALINGS
from lcref.ops.weights import LogN, Tempered
from tests.compiling import quick
from tests.tolerances import assert_close

W, T = 11, 10
FULL = AttentionConfig(heads=4, kv_heads=2)
NEAR = AttentionConfig(heads=4, kv_heads=2, window=3, sinks=2)
# Two kinds of layer: what one of them breaks, the logits show.
MIXED = (dataclasses.replace(FULL, qk_norm=True, soft_cap=5.0, weights=Tempered(0.3)), dataclasses.replace(NEAR, weights=LogN(8.0)))
# Schemes that rotate far keys differently, with something far in ten tokens; they do not go with weights that count keys.
FAR = {"lm_infinite": LMInfinite(near=3), "streaming_llm": StreamingLLM(near=3, sinks=2), "self_extend": SelfExtend(near=4, group=2)}
PATTERNS = {name: (dataclasses.replace(FULL, qk_norm=True, soft_cap=5.0), NEAR) for name in FAR} | {"streaming_llm": (NEAR, NEAR)}
TOKENS = np.random.default_rng(0).integers(0, W, (T, T)).astype(np.int32)
# packed rows: documents of 1 + 9, 2 + 8, 3 + 7, 4 + 6 and 5 + 4 tokens (and one of padding), then five rows with one document each
CUTS = [1, 2, 3, 4, 5]
SEGMENTS = np.array([[1] * cut + [2] * (T - cut) for cut in CUTS] + [[1] * T] * 5, np.int32)
WITHIN = np.array([[*range(cut), *range(T - cut)] for cut in CUTS] + [[*range(T)]] * 5, np.int32)
SEGMENTS[4, -1] = WITHIN[4, -1] = 0
DOCUMENTS = [part for row, cut in enumerate(CUTS) for part in ((row, 0, cut), (row, cut, T - (cut == 5)))]


@functools.cache
def make(position, pattern=MIXED, **kwargs):
    """(config, decoder) with weights larger than at the start of training, so that every layer shows in the logits."""
    cfg = DecoderConfig(vocab=W, d_model=16, layers=len(pattern), pattern=pattern, position=position, embed_std=1.0, **kwargs)
    return cfg, Decoder(cfg, rngs=nnx.Rngs(0))


@functools.cache
def programs(position, pattern):
    """The whole pass and pieces of it as compiled functions; randomized schemes use their base's."""
    _, decoder = make(position, pattern)
    graph, params = nnx.split(decoder)
    forward = quick(lambda params, tokens, positions, segments: nnx.merge(graph, params)(tokens, positions=positions, segments=segments))
    pieces = {n: quick(lambda params, tokens, state: nnx.merge(graph, params).extend(tokens, state)) for n in (1, 4)}
    return functools.partial(forward, params), lambda tokens, state: pieces[tokens.shape[1]](params, tokens, state)


def scheme(name):
    return FAR.get(name) or POSITIONS[name]()


def compiled(name):
    made = scheme(name)
    return programs(made.base if isinstance(made, Randomized) else made, PATTERNS.get(name, MIXED))


def ids(position, plain=np.arange(T, dtype=np.int32)[None, :], length=T):
    """The ids of a pass, for a scheme or the name of one: themselves unless the scheme draws them."""
    position = scheme(position) if isinstance(position, str) else position
    return np.asarray(position.ids(jax.random.key(7), plain, length=length))


def forward(name, tokens=TOKENS, positions=None, segments=np.ones((T, T), np.int32)):
    rows = np.broadcast_to(ids(name) if positions is None else positions, (T, T))
    return np.asarray(compiled(name)[0](tokens, rows, segments))


@functools.cache
def whole(name):
    return forward(name)


def in_pieces(decoder, tokens, split, positions=None, length=None, extend=None):
    state, out, at = decoder.init_state(len(tokens), length or tokens.shape[1], positions), [], 0
    for n in split:
        logits, state = (extend or decoder.extend)(tokens[:, at:at + n], state)
        out, at = [*out, logits], at + n
    return np.concatenate(out, axis=1)


def changed(a, b):
    return np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-3


# ------------------------------------------------------------------------------------------------ battery over POSITIONS

@pytest.mark.parametrize("name", POSITIONS)
def test_a_token_changes_no_earlier_logit(name):
    rows = np.repeat(TOKENS[:1], T, axis=0)
    rows[np.arange(T), np.arange(T)] = (rows[0] + 1) % W                       # row t differs from TOKENS[0] at t alone
    logits = forward(name, rows)
    assert np.isfinite(logits).all()
    for t in range(T):
        assert_close(logits[t, :t], whole(name)[0, :t])
        assert changed(logits[t, t], whole(name)[0, t])


@pytest.mark.parametrize("split", [(4, 1, 1, 4), (1,) * 6 + (4,)], ids=str)
@pytest.mark.parametrize("name", POSITIONS)
def test_extend_in_any_split_is_the_whole_pass(name, split):
    _, decoder = make(scheme(name), PATTERNS.get(name, MIXED))
    assert_close(in_pieces(decoder, TOKENS, split, ids(name), extend=compiled(name)[1]), whole(name))


@pytest.mark.parametrize("name", POSITIONS)
def test_packed_documents_are_separate_documents(name):
    packed = forward(name, positions=ids(name, WITHIN), segments=SEGMENTS)
    alone = np.zeros((len(DOCUMENTS), T), np.int32)                             # each document at the start of a row of its own
    for n, (row, begin, end) in enumerate(DOCUMENTS):
        alone[n, :end - begin] = TOKENS[row, begin:end]
    separate = forward(name, alone)
    for n, (row, begin, end) in enumerate(DOCUMENTS):
        assert_close(packed[row, begin:end], separate[n, :end - begin])
    assert np.isfinite(packed).all(), "padding must not make NaN, even where nothing is scored"
    assert changed(packed, forward(name, positions=ids(name, WITHIN))), "without segments the documents see each other"


@pytest.mark.parametrize("scaling", ["dynamic_ntk", "clex", "clex_prior", "e2", "longrope"])
def test_frequencies_that_follow_the_length_are_those_of_the_row_read_so_far(scaling):
    """With keys kept un-rotated, the last piece of a stream has the logits of the whole pass, in one layer (in a deeper one, the keys of
    earlier tokens were made when the row was shorter)."""
    _, decoder = make(Rope(scaling=SCALINGS[scaling](2, 4)), (FULL,))
    if learned := decoder.blocks[0].mixer.position.learned:
        learned["down"][...] = 0.1 * jnp.ones_like(learned["down"][...])
    graph, params = nnx.split(decoder)
    whole = jax.jit(lambda params, tokens: nnx.merge(graph, params)(tokens))
    piece = jax.jit(lambda params, tokens, state: nnx.merge(graph, params).extend(tokens, state))
    state, seen = decoder.init_state(T, T), {}
    for end in (4, 5, 9, 10):
        begin = max((0, *seen))
        logits, state = piece(params, TOKENS[:, begin:end], state)
        seen[end] = whole(params, TOKENS[:, :end])
        assert_close(logits, seen[end][:, begin:])
    assert changed(seen[10][:, 3], seen[4][:, 3]), "else this test could not fail"


@pytest.mark.parametrize("scaling", ["dynamic_ntk", "clex", "clex_prior", "e2", "longrope"])
def test_a_rows_frequencies_are_its_own(scaling):
    """Rows of different lengths in one batch give what each gives alone: positions known, traced, and the same inside a regrouped scheme."""
    rope = Rope(scaling=SCALINGS[scaling](2, 4))
    tokens, positions = TOKENS[:3], np.stack([np.arange(T), np.minimum(np.arange(T), 3), np.arange(T) + 7])      # up to 10, 4 and 17
    for scheme in (rope, *([] if rope.draws_training_ids else [SelfExtend(near=4, group=2, rope=rope)])):
        _, decoder = make(scheme, (FULL,))
        graph, params = nnx.split(decoder)
        traced = jax.jit(lambda params, tokens, positions: nnx.merge(graph, params)(tokens, positions=positions))
        alone = np.concatenate([decoder(tokens[i:i + 1], positions=positions[i:i + 1]) for i in range(3)])
        for got in (decoder(tokens, positions=positions), traced(params, tokens, positions)):
            assert_close(got, alone)


@pytest.mark.parametrize("name", [name for name in POSITIONS if name != "nope"])
def test_positions_are_read(name):
    assert changed(forward(name, positions=ids(name, np.arange(T)[None, :] * 3, length=4 * T)), whole(name))


@pytest.mark.parametrize("name", ["learned", "alibi", "randomized_rope"])       # a hook each
def test_op_by_op_and_without_a_batch_of_positions(name):
    cfg, decoder = make(POSITIONS[name]())
    assert_close(decoder(TOKENS, positions=ids(name)), whole(name))
    if not cfg.position.draws_ids:
        assert_close(decoder(TOKENS), whole(name))
    assert_close(in_pieces(decoder, TOKENS, (1,) * T, ids(name) if cfg.position.draws_ids else None), whole(name))


def test_gradients_are_finite_and_reach_every_parameter():
    """One model whose layers have a scheme each, on packed rows with padding."""
    own = {name: scheme(name) for name in POSITIONS if not name.startswith("randomized") and name not in ("sinusoidal", "learned")}
    _, decoder = make(Learned(T), tuple(dataclasses.replace(PATTERNS.get(name, MIXED)[i % 2], position=position)
                                        for i, (name, position) in enumerate(own.items())))
    graph, params = nnx.split(decoder)

    def loss(params):
        logits = nnx.merge(graph, params)(TOKENS, positions=WITHIN, segments=SEGMENTS)
        return (optax.softmax_cross_entropy_with_integer_labels(logits, (TOKENS + 1) % W) * (SEGMENTS > 0)).mean()
    grads = quick(jax.grad(loss))(params)
    assert sum("position" in jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(grads)) == 1 + 1 + 2 + 2 + 6
    for path, grad in jax.tree.leaves_with_path(grads):
        assert np.isfinite(grad).all() and np.any(np.asarray(grad)), jax.tree_util.keystr(path)


@pytest.mark.parametrize("name", POSITIONS)
def test_every_seed_is_the_same_program(name):
    """A compiled call is found again by its graph: equal for every seed, and for a config written down and read back."""
    cfg = make(scheme(name), PATTERNS.get(name, MIXED))[0]
    one, two = (nnx.split(nnx.eval_shape(lambda: Decoder(c, rngs=nnx.Rngs(seed))))[0]
                for seed, c in enumerate((cfg, config.from_dict(config.to_dict(cfg)))))
    assert one == two and hash(one) == hash(two)


# ---------------------------------------------------------------------------------------------------------- under jit

def test_decoding_scanned_inside_jit():
    _, decoder = make(Rope())
    graph, params = nnx.split(decoder)

    @quick
    def decode(params, tokens):
        decoder = nnx.merge(graph, params)

        def step(state, token):
            logits, state = decoder.extend(token[:, None], state)
            return state, logits[:, 0]
        return jnp.moveaxis(jax.lax.scan(step, decoder.init_state(T, T), tokens.T)[1], 0, 1)
    assert_close(decode(params, TOKENS), whole("rope"))


def test_only_shapes_compile_again():
    """Tokens, parameters, positions and segments are values: one program serves them all."""
    cfg, _ = make(Alibi(), (FULL,))
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def forward(graph, params, tokens, positions, segments):
        traces.append(tokens.shape)
        return nnx.merge(graph, params)(tokens, positions=positions, segments=segments)
    out = [forward(*nnx.split(Decoder(cfg, rngs=nnx.Rngs(seed))), (TOKENS + seed) % W, WITHIN + seed, SEGMENTS + seed) for seed in range(3)]
    assert len(traces) == 1 and changed(out[0], out[1]) and changed(out[1], out[2])
    forward(*nnx.split(Decoder(cfg, rngs=nnx.Rngs(0))), TOKENS[:2], WITHIN[:2], SEGMENTS[:2])
    assert len(traces) == 2


# ------------------------------------------------------------------------------------------------- more tokens than fit

def test_a_state_that_overflows_says_so():
    _, decoder = make(Nope(), (FULL,))
    with pytest.raises(ValueError, match="holds 3 tokens.*3 are in it.*1 more"):
        in_pieces(decoder, TOKENS, (1,) * 4, length=3)


def test_a_state_without_ids_for_a_token_says_so():
    """Windowed attention remembers any number of tokens, the drawn ids end."""
    cfg, decoder = make(Randomized(), (NEAR,))
    with pytest.raises(ValueError, match="positions for 3 tokens, slot 3"):
        in_pieces(decoder, TOKENS, (1,) * 4, ids(cfg.position, length=T)[:, :3], length=3)


@pytest.mark.parametrize("position, mixer", [(Nope(), FULL), (Randomized(), NEAR), (Learned(8), NEAR)], ids=["cache", "ids", "table"])
def test_inside_jit_an_overflow_is_nan(position, mixer):
    _, decoder = make(position, (mixer,))
    positions = ids(position)[:, :8] if position.draws_ids else None
    logits = in_pieces(decoder, TOKENS, (1,) * T, positions, length=8, extend=quick(lambda tokens, state: decoder.extend(tokens, state)))
    assert np.isfinite(logits[:, :8]).all() and np.isnan(logits[:, 8:]).all()


def test_a_windowed_state_takes_any_number_of_tokens():
    cfg, decoder = make(Rope(), (NEAR,) * 2)
    assert_close(in_pieces(decoder, TOKENS, (1,) * T, length=3), np.asarray(decoder(TOKENS)))


@pytest.mark.parametrize("how", ["eager", "jit"])
def test_a_row_longer_than_the_learned_table_says_so(how):
    _, decoder = make(Learned(8), (FULL,))
    call = decoder if how == "eager" else jax.jit(lambda tokens: decoder(tokens))
    with pytest.raises(ValueError, match="learned position table.*length 8"):
        call(TOKENS)


def test_a_learned_table_that_ends_within_a_stream_says_so():
    _, decoder = make(Learned(8), (FULL,))
    with pytest.raises(ValueError, match="position 8 is outside the learned position table of length 8"):
        in_pieces(decoder, TOKENS, (1,) * 9)


# --------------------------------------------------------------------------------------------------------------- capture

def test_capture_shows_the_weights_and_changes_no_logit():
    _, decoder = make(Rope())
    logits, seen = decoder(TOKENS, capture=True)
    assert_close(logits, whole("rope"))
    assert set(seen) == {"embedding"} | {f"block{i}{what}" for i in range(2) for what in ("", "/weights")}
    assert_close(seen["embedding"], decoder.embedding(TOKENS))
    assert_close(decoder.logits(seen["block1"]), np.asarray(logits))
    for i in range(2):
        weights = np.asarray(seen[f"block{i}/weights"])
        assert weights.shape == (T, 4, T, T) and seen[f"block{i}"].shape == (T, T, 16)
        assert_close(weights.sum(-1), np.ones((T, 4, T), np.float32))


def test_capture_of_packed_rows():
    _, decoder = make(Rope())
    _, seen = decoder(TOKENS, positions=WITHIN, segments=SEGMENTS, capture=True)
    same = (SEGMENTS[:, :, None] == SEGMENTS[:, None, :]) & (SEGMENTS > 0)[:, :, None] & np.tri(T, dtype=bool)
    assert ((np.asarray(seen["block0/weights"]) > 0) == same[:, None]).all()
    assert_close(np.asarray(seen["block0/weights"]).sum(-1), np.broadcast_to((SEGMENTS > 0)[:, None, :], (T, 4, T)).astype(np.float32))


# ------------------------------------------------------------------------------------------------------ layers and sizes

def test_a_pattern_repeats_over_the_layers():
    near = dataclasses.replace(NEAR, sinks=0)
    cfg = DecoderConfig(vocab=W, d_model=16, layers=5, pattern=(near, FULL))
    assert cfg.mixers() == [near, FULL, near, FULL, near]
    _, seen = Decoder(cfg, rngs=nnx.Rngs(0))(TOKENS, capture=True)
    lower = np.tri(T, dtype=bool)
    for i in range(5):
        assert ((np.asarray(seen[f"block{i}/weights"]) > 0) == (lower if i % 2 else lower & ~np.tri(T, k=-3, dtype=bool))).all()


def test_a_layer_may_have_its_own_scheme():
    """rope below, none above: one of the ways to reach further than rope does."""
    def logits(*own):
        return np.asarray(make(Rope(), tuple(dataclasses.replace(FULL, position=p) for p in own))[1](TOKENS))
    both, lower, upper, neither = logits(None, None), logits(None, Nope()), logits(Nope(), None), logits(Nope(), Nope())
    assert_close(both, logits(Rope(), Rope()))
    assert changed(both, lower) and changed(both, upper) and changed(lower, upper) and changed(lower, neither)
    assert_close(neither, np.asarray(make(Nope(), (FULL, FULL))[1](TOKENS)))


@pytest.mark.parametrize("own", [Learned(16), Sinusoidal(), Randomized(), Randomized(Kerple()), Rope(scaling=SCALINGS["clex"]())], ids=repr)
def test_a_layer_cannot_own_what_acts_once_for_all_layers(own):
    """Its embedding would never be added and its ids never drawn: the run would silently be one without positions."""
    with pytest.raises(ValueError, match=f"{re.escape(repr(own))} acts once for all layers"):
        nnx.eval_shape(lambda: Decoder(DecoderConfig(W, pattern=(AttentionConfig(), AttentionConfig(position=own))), rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("position, tables", [(T5(), 1), (Learned(T), 1), (Kerple(), 6), (Fire(), 18), (Rope(), 0)], ids=repr)
def test_layers_share_a_scheme_unless_each_has_its_own_parameters(position, tables):
    cfg = DecoderConfig(vocab=W, d_model=16, layers=3, position=position)
    plain = DecoderConfig(vocab=W, d_model=16, layers=3, position=Nope())
    count = [len(jax.tree.leaves(nnx.eval_shape(lambda: nnx.state(Decoder(c, rngs=nnx.Rngs(0)))))) for c in (cfg, plain)]
    assert count[0] - count[1] == tables


def test_layers_with_different_heads():
    """A bias table has a column per head, so layers of 2 and of 4 heads have two; an embedding table serves both."""
    pattern = (AttentionConfig(heads=2), AttentionConfig(heads=4))
    for position, shapes in ((T5(), [(32, 2), (32, 4)]), (Learned(T), [(T, 16)])):
        decoder = nnx.eval_shape(lambda: Decoder(DecoderConfig(vocab=W, d_model=16, pattern=pattern, position=position), rngs=nnx.Rngs(0)))
        found = {id(m): m.table.shape for m in [decoder.position, *(block.mixer.position for block in decoder.blocks)] if hasattr(m, "table")}
        assert sorted(found.values()) == shapes


def test_tied_embeddings_read_out_with_the_embedding():
    _, decoder = make(Rope(), (FULL,), tie_embeddings=True)
    _, seen = decoder(TOKENS, capture=True)
    assert decoder.readout is None
    assert_close(decoder(TOKENS), np.asarray(decoder.norm(seen["block0"])) @ np.asarray(decoder.embedding.embedding[...]).T)


@pytest.mark.parametrize("layers", [1, 8])
def test_what_the_blocks_add_does_not_grow_with_depth(layers):
    _, seen = Decoder(DecoderConfig(vocab=W, d_model=16, layers=layers, mixer=FULL), rngs=nnx.Rngs(0))(TOKENS, capture=True)
    assert 0.3 < np.asarray(seen[f"block{layers - 1}"] - seen["embedding"]).std() < 1.5


# ----------------------------------------------------------------------------------------------------- config and errors

CHANGES = dict(vocab=13, d_model=24, layers=3, mixer=NEAR, pattern=(NEAR, FULL), position=Alibi(), feed_forward=GatedMlp(64),
               norm=Centred(), tie_embeddings=True, embed_std=0.5)


def test_every_field_of_the_config_changes_something():
    assert set(CHANGES) == {f.name for f in dataclasses.fields(DecoderConfig)}, "a new field needs a change here that shows in the model"

    def shapes(cfg):
        return jax.tree.map(jnp.shape, nnx.state(nnx.eval_shape(lambda: Decoder(cfg, rngs=nnx.Rngs(0)))))
    base = DecoderConfig(vocab=W, d_model=16, mixer=FULL)
    before = Decoder(base, rngs=nnx.Rngs(0))(TOKENS)
    for field, value in CHANGES.items():
        cfg = dataclasses.replace(base, **{field: value})
        assert shapes(cfg) != shapes(base) or changed(Decoder(cfg, rngs=nnx.Rngs(0))(TOKENS), before), field


@pytest.mark.parametrize("kwargs, words", [
    (dict(vocab=0), "vocab must be a whole number >= 1, got 0"),
    (dict(vocab=5.5), "vocab must be a whole number >= 1, got 5.5"),
    (dict(vocab=5, d_model=-1), "d_model must be a whole number >= 1, got -1"),
    (dict(vocab=5, layers=2.0), "layers must be a whole number >= 1, got 2.0"),
    (dict(vocab=5, pattern=()), r"pattern must be a tuple of mixer configs, or None .*; got \(\)"),
    (dict(vocab=5, pattern=[FULL]), r"pattern must be a tuple of mixer configs, or None .*; got \["),
])
def test_wrong_sizes(kwargs, words):
    with pytest.raises(ValueError, match=words):
        DecoderConfig(**kwargs)


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="heads=5 does not divide d_model=16"):
        Decoder(DecoderConfig(vocab=5, d_model=16, mixer=AttentionConfig(heads=5)), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("tokens", [np.zeros(T, np.int32), np.zeros((2, T), np.float32), np.zeros((1, 2, T), np.int32), np.zeros((2, T), bool)],
                         ids=lambda t: f"{t.dtype}{t.shape}")
def test_tokens_must_be_integers_in_rows(tokens):
    _, decoder = make(Nope(), (FULL,))
    for call in (decoder, lambda tokens: decoder.extend(tokens, decoder.init_state(T, T))):
        with pytest.raises(ValueError, match=r"tokens must be integers \[B,T\], got " + tokens.dtype.name):
            call(tokens)


@pytest.mark.parametrize("argument", ["positions", "segments"])
@pytest.mark.parametrize("shape", [(T,), (1, T - 1), (1, T + 1), (T + 1, T)], ids=str)
def test_ids_that_do_not_fit_the_tokens(argument, shape):
    """Longer ones would be cut, and one row too many would be broadcast, without a word."""
    _, decoder = make(Alibi(), (FULL,))
    with pytest.raises(ValueError, match=argument + r" must be \[10,10\] or \[1,10\]"):
        decoder(TOKENS, **{argument: np.ones(shape, np.int32)})


@pytest.mark.parametrize("shape", [(T,), (1, T - 1), (T + 1, T)], ids=str)
def test_state_positions_that_do_not_fit(shape):
    _, decoder = make(Alibi(), (FULL,))
    with pytest.raises(ValueError, match=r"positions of a state must be \[1 or 10, 10\]"):
        decoder.init_state(T, T, np.zeros(shape, np.int32))


def test_a_token_outside_the_vocabulary_is_seen():
    """An embedding lookup that clips would answer for another token."""
    _, decoder = make(Nope(), (FULL,))
    assert np.isnan(decoder(np.full((T, T), W, np.int32))).all()
    for dtype in (np.int32, np.int8):
        assert np.isnan(decoder(np.full((T, T), -1, dtype))).all(), "and not counted from the end"


def test_blocks_of_mixers_alone_need_no_positions():
    cfg = DecoderConfig(vocab=W, d_model=15, layers=2, mixer=Mamba2Config(state=4, conv=2), feed_forward=None, position=Rope())
    decoder = Decoder(cfg, rngs=nnx.Rngs(0))                                        # 15 is odd: Rope would complain if it were made
    assert not any("feed" in jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(nnx.state(decoder)))
    assert_close(in_pieces(decoder, TOKENS[:2], (4, 6)), decoder(TOKENS[:2]))


def test_decoders_in_bfloat16():
    """Parameters cast down: logits are float32, finite and near those of float32, whole and in pieces."""
    _, decoder = make(Rope(), (FULL, NEAR))
    graph, params = nnx.split(decoder)
    low = nnx.merge(graph, jax.tree.map(lambda p: p.astype(jnp.bfloat16), params))
    got, want = low(TOKENS), decoder(TOKENS)
    assert got.dtype == jnp.float32
    assert np.abs(np.asarray(got) - np.asarray(want)).max() < 0.1 * np.abs(np.asarray(want)).max()
    assert np.corrcoef(np.ravel(got), np.ravel(want))[0, 1] > 0.999
    assert_close(in_pieces(low, TOKENS, (4, 6)), got, "bfloat16")
