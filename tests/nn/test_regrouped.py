"""LM-Infinite, StreamingLLM and Self-Extend: the distances they promise, pair by pair, and a stream in bounded memory."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.mixers.attention import Attention, AttentionConfig
from lcref.nn.positions import LMInfinite, Nope, Randomized, Rope, SelfExtend, StreamingLLM
from lcref.ops import rope
from lcref.ops.attention import attend, attend_chunked_lse, merged
from lcref.ops.masks import causal, window
from lcref.ops.rope_scaling import SCALINGS
from lcref.ops.weights import LogN, Softmax, TempScale
from tests.compiling import quick
from tests.tolerances import assert_close

D, H, K = 16, 2, 8
ALL = AttentionConfig(heads=H)


def near_and_sinks(near, sinks):
    return AttentionConfig(heads=H, window=near, sinks=sinks)


# The distance every key seems to have, "." where it is hidden; the oracle rows are written out by hand from the papers' rules.
CASES = {
    "lm_infinite": (LMInfinite(near=4, limit_distance=4), near_and_sinks(4, 2), {
        0: "0", 3: "3 2 1 0", 4: "4 3 2 1 0", 5: "4 4 3 2 1 0", 6: "4 4 . 3 2 1 0", 7: "4 4 . . 3 2 1 0"}),
    "lm_infinite, limit below near": (LMInfinite(near=4), near_and_sinks(4, 1), {4: "3 3 2 1 0", 7: "3 . . . 3 2 1 0"}),
    "rerope: nothing hidden": (LMInfinite(near=3), ALL, {2: "2 1 0", 6: "2 2 2 2 2 1 0"}),
    # start 2, recent 3: after the step the released code evicts, so that a step sees start + recent + 1 keys (query in slot 5) ...
    "streaming_llm, evicting after the step": (StreamingLLM(near=4, sinks=2), near_and_sinks(4, 2), {
        4: "4 3 2 1 0", 5: "5 4 3 2 1 0", 6: "5 4 . 3 2 1 0", 8: "5 4 . . . 3 2 1 0"}),
    # ... or before it, start + recent in all (slot 4)
    "streaming_llm, evicting first": (StreamingLLM(near=3, sinks=2), near_and_sinks(3, 2), {4: "4 3 2 1 0", 8: "4 3 . . . . 2 1 0"}),
    "self_extend": (SelfExtend(near=4, group=2), ALL, {
        4: "4 3 2 1 0", 7: "5 5 4 4 3 2 1 0", 8: "6 6 5 5 4 3 2 1 0", 9: "6 6 5 5 4 4 3 2 1 0"}),
}


def attention(scheme, cfg):
    return Attention(cfg, D, scheme.build(H, K, D, rngs=nnx.Rngs(1)), 1.0, nnx.Rngs(0))


@pytest.mark.parametrize("case", CASES)
def test_distances_are_those_of_the_paper(case):
    """Keys at the stated distances, one query at a time: q rotated to the distance itself, k not at all."""
    scheme, cfg, rows = CASES[case]
    layer, x = attention(scheme, cfg), np.random.default_rng(0).normal(size=(1, 10, D)).astype(np.float32)
    got, seen = np.asarray(layer(x)), {}
    layer(x, seen=seen)
    q, k, v = layer.project(jnp.asarray(x))
    for t, row in rows.items():
        row = row.split()
        scores = []
        for j, distance in enumerate(row):
            turned = rope.rotate(q[:, t:t + 1], np.array([0 if distance == "." else int(distance)]), rope.inv_freq(K))
            scores.append(-np.inf * np.ones(H) if distance == "." else np.einsum("hk,hk->h", turned[0, 0], k[0, j]) / K**0.5)
        weights = np.array(jax.nn.softmax(jnp.stack(scores), axis=0)).T                                # [H, t + 1]
        assert_close(np.asarray(seen["weights"])[0, :, t, :t + 1], weights)
        out = np.einsum("hs,shk->hk", weights, np.asarray(v)[0, :t + 1]).reshape(1, 1, H * K)
        assert_close(got[:, t:t + 1], np.asarray(layer.out(jnp.asarray(out, jnp.float32))))


@pytest.mark.parametrize("case", CASES)
def test_where_nothing_is_far_it_is_rope(case):
    scheme, cfg, _ = CASES[case]
    x = np.random.default_rng(1).normal(size=(2, scheme.near, D)).astype(np.float32)
    assert_close(attention(scheme, cfg)(x), attention(Rope(), cfg)(x))


def test_merging_parts_is_attention_over_all():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(2, 9, 2, 4)), jnp.float32) for _ in range(3))
    hide = -jnp.inf * jnp.asarray([1, 0, 0, 0, 0, 0, 0, 0, 0.0])[None, None, :, None]                  # the first query sees nothing
    hide = jnp.where(jnp.isnan(hide), 0.0, hide)

    def whole(q, k, v):
        return attend(q, k, v, mask=causal(), bias=hide)

    def parts(q, k, v):
        return merged([attend_chunked_lse(q, k, v, mask=m, bias=hide, block_q=8, block_k=8) for m in (causal() & window(3), causal() & ~window(3))])
    assert_close(parts(q, k, v), whole(q, k, v))
    grads = [quick(jax.grad(lambda *a: (f(*a)**2).sum(), argnums=(0, 1, 2)))(q, k, v) for f in (whole, parts)]
    assert_close(grads[1], grads[0])


@pytest.mark.parametrize("scheme", [LMInfinite(near=6), StreamingLLM(near=6, sinks=2)], ids=["lm_infinite", "streaming_llm"])
def test_a_stream_a_million_tokens_on_is_the_stream_near_its_start(scheme):
    """Distances are all that counts, and they are bounded: the same last tokens after the same sinks give the same logits, and memory
    does not depend on how far the stream has come."""
    cfg = DecoderConfig(vocab=7, d_model=D, layers=1, mixer=near_and_sinks(6, 2), position=scheme, embed_std=1.0)
    decoder = Decoder(cfg, rngs=nnx.Rngs(0))
    tokens = np.random.default_rng(0).integers(0, 7, (1, 40)).astype(np.int32)
    _, state = decoder.extend(tokens[:, :30], decoder.init_state(1, 30))
    layer = state.layers[0]
    moved = np.where(np.asarray(layer.slots) >= 2, np.asarray(layer.slots) + 6 * 200_000, np.asarray(layer.slots))  # 6 divides: rows stay
    far = state._replace(cursor=state.cursor + 1_200_000, layers=(type(layer)(layer.k, layer.v, jnp.asarray(moved), layer.cursor + 1_200_000, 2),))
    assert_close(decoder.extend(tokens[:, 30:], far)[0], decoder.extend(tokens[:, 30:], state)[0])
    assert jax.tree.map(jnp.shape, far.layers) == jax.tree.map(jnp.shape, state.layers)


@pytest.mark.parametrize("scheme", [LMInfinite(near=32), StreamingLLM(near=32, sinks=4)], ids=["lm_infinite", "streaming_llm"])
def test_a_million_tokens_in_constant_memory(scheme):
    """Read for real, 500 at a time: the state stays what it was in size, and the last logits are those of a stream that began with the
    same first tokens and then read only what the layer can still see."""
    cfg = DecoderConfig(vocab=7, d_model=8, layers=1, mixer=AttentionConfig(heads=1, window=32, sinks=4), position=scheme, embed_std=1.0)
    decoder, n = Decoder(cfg, rngs=nnx.Rngs(0)), 500
    graph, params = nnx.split(decoder)
    tokens = np.random.default_rng(0).integers(0, 7, (1, 1_000_000)).astype(np.int32)

    @jax.jit
    def stream(params, chunks):
        decoder = nnx.merge(graph, params)

        def step(state, chunk):
            x, state = decoder.read(chunk[None], state)
            return state, jnp.isfinite(x).all()
        state, finite = jax.lax.scan(step, decoder.init_state(1, n), chunks[:-1])
        logits, after = decoder.extend(chunks[-1][None], state)
        return logits[:, -10:], finite.all(), state, after
    logits, finite, before, after = stream(params, tokens.reshape(-1, n))
    assert finite and int(after.cursor) == 1_000_000
    assert jax.tree.map(jnp.shape, before) == jax.tree.map(jnp.shape, after) and after.layers[0].k.shape[1] == 36
    short = np.concatenate([tokens[:, :4], tokens[:, -64:]], 1)
    assert_close(logits, decoder.extend(short, decoder.init_state(1, 68))[0][:, -10:])


def test_a_scaling_acts_on_near_and_far_keys():
    """LM-Infinite at half the frequencies with twice the distances is LM-Infinite."""
    x = np.random.default_rng(2).normal(size=(1, 12, D)).astype(np.float32)
    half = SelfExtend(near=4, group=2, rope=Rope(scaling=SCALINGS["linear"](2.0, 16)))
    layer, plain = attention(half, ALL), attention(SelfExtend(near=4, group=2), ALL)
    assert np.abs(np.asarray(layer(x)) - np.asarray(plain(x))).max() > 1e-3
    q = jnp.asarray(np.random.default_rng(3).normal(size=(1, 5, H, K)), jnp.float32)
    pos = np.arange(5)[None] * 2
    assert_close(layer.position.rotate(q, pos), plain.position.rotate(q, pos / 2))
    assert_close(layer.position.rotate_far(q, pos), plain.position.rope.rotate(q, half.far(jnp.asarray(pos), "q") / 2))


@pytest.mark.parametrize("scheme", [LMInfinite(near=4), SelfExtend(near=4, group=2)], ids=repr)
def test_a_temperature_merges_near_and_far(scheme):
    """It is the same for every key, so that it divides all scores of a row, wherever they were computed."""
    x = np.random.default_rng(0).normal(size=(1, 10, D)).astype(np.float32)
    sharp, plain = (attention(scheme, AttentionConfig(heads=H, weights=weights)) for weights in (TempScale(0.5), Softmax()))
    want, seen = {}, {}
    got = sharp(x, seen=seen)
    plain(x, seen=want)
    weights = np.asarray(want["weights"], np.float64) ** 2
    assert_close(seen["weights"], weights / weights.sum(-1, keepdims=True))
    v = plain.project(jnp.asarray(x))[2]
    assert_close(got, plain.merge(jnp.einsum("bhts,bshv->bthv", seen["weights"], v)))


@pytest.mark.parametrize("make, words", [
    (lambda: LMInfinite(near=0), "near must be a whole number >= 1, got 0"),
    (lambda: SelfExtend(near=2.5), "near must be a whole number >= 1, got 2.5"),
    (lambda: SelfExtend(near=10, group=4), "group=4 must divide near=10"),
    (lambda: SelfExtend(near=10, group=0), "group=0 must divide near=10"),
    (lambda: LMInfinite(rope=Nope()), "need a Rope that draws no ids, got Nope"),
    (lambda: LMInfinite(rope=Randomized()), "need a Rope that draws no ids, got Randomized"),
    (lambda: attention(StreamingLLM(near=6, sinks=2), near_and_sinks(6, 1)), "window=6 and sinks=2, got window=6 and sinks=1"),
    (lambda: attention(StreamingLLM(near=6, sinks=2), ALL), "window=6 and sinks=2, got window=None and sinks=0"),
    (lambda: attention(LMInfinite(near=6), AttentionConfig(heads=H, weights=LogN(8.0))), "LogN counts all of them: choose softmax or temp_scale"),
])
def test_what_does_not_fit_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
