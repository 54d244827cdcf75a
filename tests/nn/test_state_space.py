"""State-space layers: starting values, parameter groups, config fields, states. What every mixer promises: test_mixers.py."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.mixers import mamba2
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.mixers.s4 import S4Config, S4DConfig
from lcref.nn.mixers.s5 import S5Config
from lcref.ops.ssm import hippo, s4, s4d, s5
from lcref.ops.ssm.forgetting import CapState, ForgetMore, RecentOnly
from lcref.train import parameter_groups
from tests.compiling import quick
from tests.tolerances import assert_close

B, T, D = 2, 9, 16
X = np.random.default_rng(0).normal(size=(B, T, D)).astype(np.float32)
BASE = {"s4": S4Config(state=8), "s4d": S4DConfig(state=8), "s5": S5Config(state=8), "mamba2": Mamba2Config(state=4, head_dim=8)}
CHANGES = {
    "s4": dict(state=4, init="random", dt_min=0.05, dt_max=2e-3, learning_rate=0.5, form="recurrent", chunk=3),
    "s4d": dict(state=4, init="inv", discretization="bilinear", dt_min=0.05, dt_max=2e-3, learning_rate=0.5, form="chunked", chunk=3),
    "s5": dict(state=4, blocks=2, dt_min=0.05, dt_max=2e-3, learning_rate=0.5, form="recurrent"),
    "mamba2": dict(state=8, head_dim=16, groups=2, expand=3, conv=3, dt_min=0.05, dt_max=2e-3, A_min=8.0, A_max=2.0, bias=True,
                   allow_neg_eigval=True, memory=ForgetMore(3.0, 0.5), form="quadratic", chunk=3, epsilon=0.1),
}


@functools.cache
def make(cfg, seed=0):
    return cfg.build(D, position=None, gain=1.0, rngs=nnx.Rngs(seed))


def apply(cfg, **kwargs):
    graph, params = nnx.split(make(cfg))
    return quick(lambda params, x: nnx.merge(graph, params)(x, **kwargs))(params, X)


# ------------------------------------------------------------------------------------------------------- starting values

@pytest.mark.parametrize("kind", ["s4", "s4d", "s5"])
def test_eigenvalues_start_where_the_paper_says(kind):
    mixer = make(BASE[kind])
    Lambda = mixer.system().Lambda if kind == "s4" else -jnp.exp(mixer.log_decay[...]) + 1j * mixer.frequency[...]
    want = {"s4": hippo.pairs(8).Lambda, "s4d": s4d.lin(8), "s5": hippo.pairs(8).Lambda}[kind]
    assert_close(Lambda, np.broadcast_to(want, Lambda.shape))
    dt = np.exp(mixer.log_dt[...])
    assert (dt >= 0.999e-3).all() and (dt <= 0.1001).all() and dt.std() > 1e-3


def test_s5_starts_as_hippo_seen_through_random_maps():
    """C (Lambda basis) B of a layer = C_real V V* B_real: real, as both of each pair are counted."""
    mixer = make(BASE["s5"])
    keys = nnx.Rngs(0)
    B_real, C_real = jax.random.normal(keys.params(), (8, D)) * D**-0.5, jax.random.normal(keys.params(), (D, 8)) * 8**-0.5
    C, Bt = mixer.system().C, jax.lax.complex(*jnp.split(mixer.B[...], 2, axis=-1)).T
    assert_close(2 * (C @ Bt).real, np.asarray(C_real @ B_real))


@pytest.mark.parametrize("kind", ["s4", "s4d", "s5"])
def test_the_layer_is_its_formula(kind):
    """y = W_value h * sigmoid(W_gate h), h = gelu(SSM(x) + D x), of a system that starts as HiPPO's."""
    mixer, skip = BASE[kind].build(D, position=None, gain=1.0, rngs=nnx.Rngs(0)), np.linspace(-1.0, 2.0, D)
    mixer.D[...] = jnp.asarray(skip, jnp.float32)
    y = np.asarray({"s4": s4, "s4d": s4d, "s5": s5}[kind].FORMS["recurrent"](jnp.asarray(X), mixer.system())[0], np.float64) + skip * X
    h = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    value, gate = (h @ np.asarray(layer.kernel[...], np.float64) for layer in (mixer.value, mixer.gate))
    assert_close(mixer(jnp.asarray(X)), value / (1 + np.exp(-gate)))
    if kind == "s4":
        for got, want in zip(mixer.system()[:3], hippo.pairs(8)[:3]):
            assert_close(got, np.broadcast_to(want, got.shape))


def test_mamba2_starts_as_published():
    mixer = make(Mamba2Config(head_dim=1, expand=4))                               # 64 heads: a sample worth looking at
    assert 0.45 < np.abs(mixer.conv_kernel[...]).max() <= 0.5                      # 4 taps
    low = make(Mamba2Config(head_dim=1, expand=4, dt_min=1e-6, dt_max=1e-5))
    np.testing.assert_allclose(jax.nn.softplus(low.dt_bias[...]), 1e-4, rtol=1e-3)
    dt, A = np.asarray(jax.nn.softplus(mixer.dt_bias[...])), np.asarray(jnp.exp(mixer.A_log[...]))
    assert (dt >= 0.999e-3).all() and (dt <= 0.1001).all() and np.log10(dt).std() > 0.4
    assert (A >= 1).all() and (A <= 16).all() and A.std() > 3
    assert (mixer.D[...] == 1).all() and (mixer.norm_scale[...] == 1).all() and not mixer.conv_bias[...].any()


# ------------------------------------------------------------------------------------------------------ parameter groups

def test_which_parameter_learns_how():
    """A hybrid of all layers: the systems' own parameters at a tenth of the rate, and what is never decayed."""
    cfg = DecoderConfig(vocab=5, d_model=D, layers=4, pattern=tuple(BASE.values()))
    groups = parameter_groups(Decoder(cfg, rngs=nnx.Rngs(0)))
    of = lambda layer: {path.split("mixer/")[1]: group for path, group in groups.items() if path.startswith(f"blocks/{layer}/mixer/")}
    slow, plain, undecayed = (0.1, False), (1.0, True), (1.0, False)
    common = {"C": plain, "D": undecayed, "value/kernel": plain, "gate/kernel": plain}
    assert of(0) == {**common, **dict.fromkeys(["log_decay", "frequency", "log_dt", "inputs/P", "inputs/B"], slow)}
    assert of(1) == {**common, **dict.fromkeys(["log_decay", "frequency", "log_dt"], slow)}
    assert of(2) == {**common, **dict.fromkeys(["log_decay", "frequency", "log_dt", "B"], slow)}
    assert of(3) == {**dict.fromkeys(["inward/kernel", "conv_kernel", "out/kernel"], plain),
                     **dict.fromkeys(["conv_bias", "dt_bias", "A_log", "D", "norm_scale"], undecayed)}


@pytest.mark.parametrize("kind", BASE)
def test_gradients_reach_every_parameter(kind):
    graph, params = nnx.split(make(BASE[kind]))
    segments = np.array([[1] * 4 + [2] * 5, [1] * 9])
    grads = quick(jax.grad(lambda params: jnp.sin(nnx.merge(graph, params)(X, segments=segments)).sum()))(params)
    for path, leaf in jax.tree.leaves_with_path(grads):
        assert np.isfinite(leaf).all() and np.any(np.asarray(leaf)), jax.tree_util.keystr(path)


@pytest.mark.parametrize("cfg", [BASE["mamba2"], Mamba2Config(state=4, head_dim=8, groups=2, chunk=3), Mamba2Config(state=4, allow_neg_eigval=True),
                                 *(Mamba2Config(state=4, head_dim=8, memory=memory) for memory in (ForgetMore(2.0, 0.5), CapState(0.1), RecentOnly(4)))],
                         ids=["plain", "grouped", "signed", "forget_more", "cap_state", "recent_only"])
@pytest.mark.parametrize("length", [9, 12, 13])
def test_a_long_row_in_pieces_is_the_row(cfg, length, monkeypatch):
    """Values and gradients: pieces of 4 tokens, with and without a rest, against rows in one piece, which documents ask for."""
    monkeypatch.setattr(mamba2, "PIECE", 4)
    graph, params = nnx.split(make(cfg))
    x = np.random.default_rng(1).normal(size=(B, length, D)).astype(np.float32)
    taken = []
    monkeypatch.setattr(mamba2.Mamba2, "in_pieces", lambda self, x, read=mamba2.Mamba2.in_pieces: (taken.append(x.shape), read(self, x))[1])

    def of(segments):
        def value(params, x):
            y = nnx.merge(graph, params)(x, segments=segments)
            return jnp.sin(y).sum(), y
        return quick(jax.grad(value, argnums=(0, 1), has_aux=True))(params, x)
    pieces, count = of(None), len(taken)
    assert_close(pieces, of(np.ones((B, length), np.int32)))
    assert count and count == len(taken)


# ------------------------------------------------------------------------------------------------- in a decoder, as states

def test_a_hybrid_decodes_as_it_reads():
    cfg = DecoderConfig(vocab=5, d_model=D, layers=5, pattern=(*BASE.values(), AttentionConfig(heads=2, window=4)))
    decoder, tokens = Decoder(cfg, rngs=nnx.Rngs(0)), np.random.default_rng(0).integers(0, 5, (B, T)).astype(np.int32)
    graph, params = nnx.split(decoder)
    whole, seen = quick(lambda params: nnx.merge(graph, params)(tokens, capture=True))(params)
    assert {f"block{i}/state" for i in range(4)} <= set(seen) and "block3/dt" in seen

    @quick
    def decode(params):
        decoder = nnx.merge(graph, params)
        first, state = decoder.extend(tokens[:, :4], decoder.init_state(B, T))

        def step(state, token):
            logits, state = decoder.extend(token[:, None], state)
            return state, logits[:, 0]
        state, rest = jax.lax.scan(step, state, tokens[:, 4:].T)
        return jnp.concatenate([first, rest.swapaxes(0, 1)], axis=1), [state.layers[i] for i in range(4)]
    logits, states = decode(params)
    assert_close(logits, whole)
    assert_close([*states[:3], states[3].ssm], [seen[f"block{i}/state"] for i in range(4)])


@pytest.mark.parametrize("kind", BASE)
def test_a_state_does_not_grow(kind):
    size = lambda length: jax.tree.map(lambda leaf: leaf.shape, make(BASE[kind]).init_state(B, length))
    assert size(10) == size(10**9)


def test_shapes_of_states():
    assert make(S4Config(state=8)).init_state(B, 1).shape == (B, D, 8) and make(S5Config(state=8)).init_state(B, 1).shape == (B, 4)
    state = make(Mamba2Config(state=4, head_dim=8, groups=2, conv=6)).init_state(B, 1)
    assert state.conv.shape == (B, 5, 32 + 2 * 2 * 4) and state.ssm.shape == (B, 4, 8, 4)


@pytest.mark.parametrize("kind", BASE)
def test_a_longer_row_than_any_chunk(kind):
    """A form is a way of computing: 150 tokens in pieces of 70 and 80, against the whole."""
    mixer, x = make(BASE[kind]), np.random.default_rng(1).normal(size=(1, 150, D)).astype(np.float32)
    graph, params = nnx.split(mixer)
    y1, state = quick(lambda params, x: nnx.merge(graph, params).extend(x, mixer.init_state(1, 150)))(params, x[:, :70])
    y2, _ = quick(lambda params, x, state: nnx.merge(graph, params).extend(x, state))(params, x[:, 70:], state)
    assert_close(jnp.concatenate([y1, y2], 1), quick(lambda params, x: nnx.merge(graph, params)(x))(params, x))


# ----------------------------------------------------------------------------------------------------- config and errors

@pytest.mark.parametrize("kind", BASE)
def test_every_field_of_the_config_changes_something(kind):
    base, changes = BASE[kind], CHANGES[kind]
    assert set(changes) == {f.name for f in dataclasses.fields(base)}, "a new field needs a change here that shows"
    for field, value in changes.items():
        cfg = dataclasses.replace(base, **{field: value})
        if field in ("form", "chunk"):                                     # the same values another way
            segments = np.array([[1] * 4 + [2] * 5])
            programs = [str(jax.make_jaxpr(lambda x: make(c)(x, segments=segments if field == "chunk" else None))(X)) for c in (base, cfg)]
            assert programs[0] != programs[1], field
        elif field == "learning_rate":
            assert make(cfg).log_dt.get_metadata()["learning_rate"] == 0.5
        elif field == "bias":
            assert make(cfg).inward.bias is not None and make(cfg).out.bias.shape == (D,) and make(base).out.bias is None
        else:
            assert np.abs(np.asarray(apply(cfg) - apply(base))).max() > 1e-4, field


@pytest.mark.parametrize("memory", [ForgetMore(2.0, 0.5), CapState(0.05), RecentOnly(3)], ids=lambda memory: type(memory).__name__)
def test_a_trained_layer_read_with_another_memory(memory):
    """The same parameters, another output."""
    plain, other = BASE["mamba2"], dataclasses.replace(BASE["mamba2"], memory=memory)
    shapes = lambda cfg: jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(make(cfg), nnx.Param)))
    assert shapes(plain) == shapes(other) and np.abs(np.asarray(apply(plain) - apply(other))).max() > 1e-3


@pytest.mark.skipif(jax.default_backend() == "tpu", reason="a TPU can do it")
def test_the_tpu_kernel_says_where_it_runs():
    with pytest.raises(ValueError, match="SSD by pallas_tpu runs on TPU, and this is .*: choose recurrent, quadratic, chunked"):
        make(dataclasses.replace(BASE["mamba2"], form="pallas_tpu"))(X)


def test_decays_are_shown_as_they_were_used():
    seen = {name: {} for name in ("plain", "more")}
    for name, memory in (("plain", None), ("more", ForgetMore(3.0))):
        make(dataclasses.replace(BASE["mamba2"], memory=memory))(X, seen=seen[name])
    assert_close(seen["more"]["log_decay"], 3 * seen["plain"]["log_decay"])


def test_the_head_width_by_itself():
    assert Mamba2Config().shape(64) == (2, 64, 1, 64) and Mamba2Config().shape(24) == (3, 16, 1, 64)


@pytest.mark.parametrize("make, words", [
    (lambda: S4Config(state=7), "state must be even, as modes come in conjugate pairs; got 7"),
    (lambda: S5Config(state=0), "state must be a whole number >= 2, got 0"),
    (lambda: S4Config(state=8.0), "state must be a whole number >= 2, got 8.0"),
    (lambda: S4Config(init="hippo"), "unknown init 'hippo': choose legs, random or gaussian"),
    (lambda: S4DConfig(init="hippo"), "unknown init 'hippo': choose one of lin, inv, legs, real, random"),
    (lambda: S4DConfig(discretization="euler"), "unknown discretization 'euler': choose one of bilinear, zoh"),
    (lambda: S4DConfig(dt_min=0.2), "dt_min must be positive and at most dt_max, which is finite; got 0.2 and 0.1"),
    (lambda: S4Config(dt_min=0.0), "dt_min must be positive"),
    (lambda: S4Config(chunk=0), "chunk must be a whole number >= 1, got 0"),
    (lambda: S4Config(form="scan"), "unknown form 'scan': choose one of recurrent, convolution, fft, chunked"),
    (lambda: S5Config(form="fft"), "unknown form 'fft': choose one of recurrent, associative"),
    (lambda: S5Config(blocks=3), "blocks=3 does not divide the state size 64"),
    (lambda: S5Config(state=4, blocks=4), "must be even, got 1"),
    (lambda: Mamba2Config(state=0), "state must be a whole number >= 1, got 0"),
    (lambda: Mamba2Config(conv=0), "conv must be a whole number >= 1, got 0"),
    (lambda: Mamba2Config(chunk=2.5), "chunk must be a whole number >= 1, got 2.5"),
    (lambda: Mamba2Config(head_dim=0), "head_dim must be a whole number >= 1, got 0"),
    (lambda: Mamba2Config(A_min=20.0), "A_min must be positive and at most A_max, which is finite; got 20.0 and 16.0"),
    (lambda: Mamba2Config(form="fft"), "unknown form 'fft': choose one of recurrent, quadratic, chunked"),
    (lambda: Mamba2Config(memory="forget_more"), "memory must be None or one of ForgetMore, CapState, RecentOnly, got 'forget_more'"),
    (lambda: Mamba2Config(allow_neg_eigval=True, form="quadratic"), "allow_neg_eigval has the forms recurrent, chunked, got form='quadratic'"),
    (lambda: Mamba2Config(memory=CapState(), allow_neg_eigval=True), "CapState is about decays from 0 to 1"),
    (lambda: Mamba2Config(head_dim=5).shape(16), r"head_dim=5 does not divide expand \* d_model = 32"),
    (lambda: Mamba2Config(head_dim=8, groups=3).shape(16), "groups=3 does not divide the 4 heads"),
])
def test_wrong_configs(make, words):
    with pytest.raises(ValueError, match=words):
        make()
