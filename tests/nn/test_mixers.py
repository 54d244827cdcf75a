"""Sequence mixers: the contract every entry of MIXERS keeps, then attention's own promises. State-space layers': test_state_space.py."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import lcref.kernels.attention
import lcref.nn.mixers.attention
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.mixers import MIXERS
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.mixers.s4 import S4Config, S4DConfig
from lcref.nn.mixers.s5 import S5Config
from lcref.nn.positions import Alibi, Nope, Rope
from lcref.ops.ssm.forgetting import CapState, ForgetMore, RecentOnly
from lcref.ops.weights import LogN, Lssar, Tempered
from tests.compiling import quick
from tests.tolerances import assert_close

B, T, D = 2, 8, 16
X = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
ARANGE = np.arange(T)[None, :]
# Few shapes of heads and windows on purpose: run op by op, each one is another hundred small programs to compile.
SMALL = {"s4": S4Config(state=8, chunk=3), "s4d": S4DConfig(state=8, chunk=3), "s5": S5Config(state=8, blocks=2),
         "mamba2": Mamba2Config(state=4, head_dim=8, groups=2, chunk=3)}
KINDS = {
    **{name: SMALL.get(name) or cfg() for name, cfg in MIXERS.items()},
    "capped, normed, tempered": AttentionConfig(soft_cap=2.0, qk_norm=True, weights=Tempered(0.5)),
    "window": AttentionConfig(window=3, weights=LogN(4.0)),
    "softplus": AttentionConfig(weights=Lssar(3)),
    "window and sinks": AttentionConfig(window=3, sinks=2),
    "window longer than the row": AttentionConfig(window=9, sinks=1),
    "chunked": AttentionConfig(implementation="chunked"),
    "s4 as a recurrence": S4Config(state=8, form="recurrent"),
    "s4d, bilinear, as a sum": S4DConfig(state=8, init="inv", discretization="bilinear", form="convolution"),
    "s5 as a recurrence": S5Config(state=8, form="recurrent"),
    "mamba2 with a long convolution": Mamba2Config(state=4, head_dim=16, conv=6, form="quadratic", bias=True),
    "mamba2 with negative eigenvalues": Mamba2Config(state=4, allow_neg_eigval=True, chunk=4),
    "mamba2 that forgets more": Mamba2Config(state=4, head_dim=8, memory=ForgetMore(2.0, 0.5)),
    "mamba2 with a capped state": Mamba2Config(state=4, head_dim=8, memory=CapState(0.05)),
    "mamba2 of recent tokens": Mamba2Config(state=4, head_dim=8, memory=RecentOnly(3)),
}


@functools.cache
def make(cfg, position=None, seed=0):
    """A mixer; attention gets rope."""
    if isinstance(cfg, AttentionConfig):
        position = (position or Rope()).build(cfg.heads, cfg.width(D), D, rngs=nnx.Rngs(0))
    return cfg.build(D, position=position, gain=1.0, rngs=nnx.Rngs(seed))


@functools.cache
def program(cfg, names=(), method="__call__"):
    """A mixer's method with some keywords, compiled. Attention runs op by op: its masks then see which values are known."""
    graph, params = nnx.split(make(cfg))
    f = lambda params, x, *values: getattr(nnx.merge(graph, params), method)(x, **dict(zip(names, values)))
    return functools.partial(f if isinstance(cfg, AttentionConfig) else quick(f), params)


def apply(cfg, x=X, **kwargs):
    return np.asarray(program(cfg, tuple(kwargs))(jnp.asarray(x), *kwargs.values()))


# -------------------------------------------------------------------------------------------------------------- battery

@pytest.mark.parametrize("kind", KINDS)
def test_a_mixer_looks_back_only(kind):
    base = apply(KINDS[kind])
    for t in (0, 3, T - 1):
        x = X.copy()
        x[:, t] += 1
        after = apply(KINDS[kind], x)
        assert_close(after[:, :t], base[:, :t])
        assert np.abs(after[:, t] - base[:, t]).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_extend_in_any_split_is_the_whole_pass(kind):
    mixer = make(KINDS[kind])
    state, out, at = mixer.init_state(B, T), [], 0
    pieces = {n: program.__wrapped__(KINDS[kind], ("state",), "extend") for n in (1, 4)}
    for n in (1, 4, 1, 1, 1):
        y, after = pieces[n](jnp.asarray(X[:, at:at + n]), state)
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
        out, at, state = [*out, y], at + n, after
    assert_close(np.concatenate(out, 1), apply(KINDS[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_packed_documents_do_not_meet(kind):
    """Rows of 3 + 5 tokens, against the two parts each at the start of a row."""
    segments, positions = np.array([[1] * 3 + [2] * 5] * B), np.array([[*range(3), *range(5)]])
    packed = apply(KINDS[kind], segments=segments, positions=positions)
    second = np.concatenate([X[:, 3:], X[:, :3]], 1)
    assert_close(packed[:, :3], apply(KINDS[kind])[:, :3])
    assert_close(packed[:, 3:], apply(KINDS[kind], second)[:, :5])


@pytest.mark.parametrize("kind", ["window and sinks", "chunked", *SMALL])
def test_outputs_follow_the_dtype_of_the_input(kind):
    wide, narrow = apply(KINDS[kind]), program.__wrapped__(KINDS[kind])(jnp.asarray(X, jnp.bfloat16))
    assert narrow.dtype == jnp.bfloat16 and narrow.shape == X.shape
    assert np.abs(np.asarray(narrow, np.float32) - wide).mean() < 0.05 * np.abs(wide).mean()


# ------------------------------------------------------------------------------------------------------------ attention

def by_hand(mixer, x, cfg, visible):
    """Attention without positions, in numpy float64, one head at a time."""
    H, G, K = cfg.heads, cfg.kv_heads or cfg.heads, cfg.width(D)
    q, k, v, out = (np.asarray(layer.kernel[...], np.float64) for layer in (mixer.q, mixer.k, mixer.v, mixer.out))
    y = np.zeros((*x.shape[:2], H * K))
    for h in range(H):
        g = h // (H // G)
        s = np.einsum("btk,bsk->bts", x @ q[:, h * K:(h + 1) * K], x @ k[:, g * K:(g + 1) * K]) / np.sqrt(K)
        e = np.where(visible, np.exp(s - s.max(-1, keepdims=True)), 0)
        y[..., h * K:(h + 1) * K] = e / e.sum(-1, keepdims=True) @ (x @ v[:, g * K:(g + 1) * K])
    return (y @ out).astype(np.float32)


@pytest.mark.parametrize("cfg, visible", [
    (AttentionConfig(), lambda q, k: k <= q),
    (AttentionConfig(kv_heads=2), lambda q, k: k <= q),
    (AttentionConfig(heads=2, kv_heads=1, head_dim=6), lambda q, k: k <= q),
    (AttentionConfig(window=3), lambda q, k: (k <= q) & (q - k < 3)),
    (AttentionConfig(window=3, sinks=2), lambda q, k: (k <= q) & ((q - k < 3) | (k < 2))),
    (AttentionConfig(window=1), lambda q, k: k == q),
])
def test_attention_is_its_definition(cfg, visible):
    mixer = make(cfg, Nope())
    assert_close(quick(mixer)(jnp.asarray(X)), by_hand(mixer, X.astype(np.float64), cfg, visible(np.arange(T)[:, None], np.arange(T)[None, :])))


def test_sinks_of_a_packed_document_are_its_own():
    """Not the row's: the first tokens of another document are hidden, and the document would have none."""
    seen = {}
    make(AttentionConfig(window=2, sinks=1))(jnp.asarray(X), segments=np.array([[1] * 3 + [2] * 5] * B), seen=seen)
    want = np.zeros((T, T), bool)
    for begin, end in ((0, 3), (3, 8)):
        for q in range(begin, end):
            want[q, [k for k in range(begin, q + 1) if q - k < 2 or k == begin]] = True
    assert ((np.asarray(seen["weights"]) > 0) == want).all()


@pytest.mark.parametrize("segments", [None, np.array([[1] * 3 + [2] * 4 + [0]] * B)], ids=["plain", "packed"])
@pytest.mark.parametrize("cfg", [AttentionConfig(kv_heads=2, window=3, sinks=1, weights=Tempered(0.5)), AttentionConfig(soft_cap=2.0)],
                         ids=["window", "cap"])
def test_both_implementations_have_the_same_values_and_gradients(cfg, segments):
    def both(implementation):
        mixer = make(dataclasses.replace(cfg, implementation=implementation), Alibi())
        graph, params = nnx.split(mixer)
        return quick(jax.value_and_grad(lambda params, x: jnp.sin(nnx.merge(graph, params)(x, positions=ARANGE, segments=segments)).sum(),
                                        argnums=(0, 1)))(params, jnp.asarray(X))
    dense, chunked = (jax.tree.leaves(both(name)) for name in ("dense", "chunked"))
    assert_close(chunked, [np.asarray(leaf) for leaf in dense])


def test_tau_is_learned_and_starts_where_the_config_says():
    mixer = make(AttentionConfig(weights=Tempered(0.5)))
    assert [p.shape for p in mixer.learned] == [()] and float(mixer.learned[0][...]) == 0.5
    assert_close(apply(AttentionConfig(weights=Tempered(0.0))), apply(AttentionConfig()))
    graph, params = nnx.split(mixer)
    grads = quick(jax.grad(lambda params: jnp.sin(nnx.merge(graph, params)(jnp.asarray(X))).sum()))(params)
    assert abs(float(grads["learned"][0][...])) > 1e-4


def test_memory_of_a_window_does_not_grow():
    size = lambda cfg, length: sum(leaf.size for leaf in jax.tree.leaves(make(cfg).init_state(B, length)))
    assert size(AttentionConfig(window=3, sinks=2), 10**6) == size(AttentionConfig(window=3, sinks=2), 10)
    assert size(AttentionConfig(), 100) == 10 * size(AttentionConfig(), 10) - 9                         # all but the cursor
    assert size(AttentionConfig(kv_heads=1), 10) < size(AttentionConfig(), 10) / 3.9


# ----------------------------------------------------------------------------------------------------- config and errors

CHANGES = dict(heads=2, kv_heads=2, head_dim=6, window=3, sinks=1, weights=LogN(4.0), soft_cap=0.5, qk_norm=True, bias=True, implementation="chunked")


def test_every_field_of_the_config_changes_something():
    fields = {f.name for f in dataclasses.fields(AttentionConfig)}
    assert set(CHANGES) == fields - {"position"}, "a new field needs a change here that shows in the output (position: see test_decoder)"
    for field, value in CHANGES.items():
        base = AttentionConfig(window=4) if field == "sinks" else AttentionConfig()
        cfg = dataclasses.replace(base, **{field: value})
        if field == "implementation":                              # the same values another way
            programs = [str(jax.make_jaxpr(lambda x: make(c)(x))(X)) for c in (base, cfg)]
            assert programs[0] != programs[1]
        elif field == "bias":
            assert make(cfg).out.bias.shape == (D,) and make(base).out.bias is None
        elif field in ("kv_heads", "head_dim"):
            assert make(cfg).k.kernel.shape != make(base).k.kernel.shape
        else:
            assert np.abs(np.asarray(quick(make(cfg))(X)) - apply(base)).max() > 1e-3, field


@pytest.mark.parametrize("kwargs, words", [
    (dict(heads=0), "attention heads must be a whole number >= 1, got 0"),
    (dict(kv_heads=3), "kv_heads=3 does not divide heads=4"),
    (dict(kv_heads=8), "kv_heads=8 does not divide heads=4"),
    (dict(kv_heads=0), "attention kv_heads must be a whole number >= 1, got 0"),
    (dict(kv_heads=-2), "attention kv_heads must be a whole number >= 1, got -2"),
    (dict(head_dim=0), "attention head_dim must be a whole number >= 1, got 0"),
    (dict(window=0), "attention window must be a whole number >= 1, got 0"),
    (dict(sinks=2), "sinks=2 needs a window"),
    (dict(window=2.5), "attention window must be a whole number >= 1, got 2.5"),
    (dict(window=3, sinks=-1), "attention sinks must be a whole number >= 0, got -1"),
    (dict(soft_cap=0.0), "soft_cap must be positive and finite, or None for no cap; got 0.0"),
])
def test_wrong_configs(kwargs, words):
    with pytest.raises(ValueError, match=words):
        AttentionConfig(**kwargs)


def test_heads_that_do_not_divide_the_width():
    with pytest.raises(ValueError, match="heads=3 does not divide d_model=16"):
        AttentionConfig(heads=3).width(16)
    assert AttentionConfig(heads=3, head_dim=4).width(16) == 4


def test_an_unknown_implementation_names_those_there_are():
    with pytest.raises(KeyError, match="unknown implementation 'fast'.*dense, chunked"):
        apply(AttentionConfig(implementation="fast"))


def test_alibi_goes_to_the_kernels_as_slopes(monkeypatch):
    """They take no bias. Where positions are not slots, drawn ids for one, it stays a function of both."""
    calls = []

    def door(q, k, v, **kwargs):
        calls.append({name: value for name, value in kwargs.items() if name in ("bias", "slopes") and value is not None})
        return lcref.kernels.attention.dot_product_attention(q, k, v, **kwargs)
    layer = make(AttentionConfig(), Alibi())
    monkeypatch.setattr(lcref.nn.mixers.attention, "dot_product_attention", door)
    plain, same = layer(X), layer(X, positions=ARANGE)
    streamed, _ = layer.extend(X, layer.init_state(B, T))
    assert [list(call) for call in calls] == [["slopes"], ["bias"], ["slopes"]] and (calls[0]["slopes"] == layer.position.slopes).all()
    assert_close([plain, streamed], [same, same])


def test_positions_of_a_state_may_be_made_where_tokens_are_traced():
    decoder = Decoder(DecoderConfig(vocab=11, d_model=D, layers=1), rngs=nnx.Rngs(0))
    graph, params = nnx.split(decoder)
    tokens, places = np.arange(T)[None].astype(np.int32), np.arange(T)[None] * 2

    def streamed(params, tokens):
        decoder = nnx.merge(graph, params)
        return decoder.extend(tokens, decoder.init_state(1, T, places))[0]
    assert_close(jax.jit(streamed)(params, tokens), decoder(tokens, positions=places))


def test_equal_configs_are_equal():
    """Or a config that was written down and read back would compile again."""
    assert AttentionConfig(weights=LogN(64.0)) == AttentionConfig(weights=LogN(64.0))
    assert hash(AttentionConfig(weights=Tempered(0.5))) == hash(AttentionConfig(weights=Tempered(0.5)))
