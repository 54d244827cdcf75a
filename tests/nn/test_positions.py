"""Position schemes as modules: one battery over POSITIONS, then what each scheme promises on its own."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lcref.nn.positions import POSITIONS, Learned, Nope, PositionConfig, Randomized, Rope, Sinusoidal
from lcref.ops.rope_scaling import SCALINGS
from tests.compiling import compilations

B, T, H, K, D = 2, 10, 4, 8, 16
PLAIN = {name for name in POSITIONS if not name.startswith("randomized_")}
# what a constant added to all positions leaves unchanged; the others must change, or they would be declared here
SHIFT_INVARIANT = {"nope", "rope", "lm_infinite", "streaming_llm", "self_extend", "xpos", "alibi", "hard_alibi", "t5", "kerple", "kerple_power"}
PARAMETER_COUNT = {"learned": 2048 * D, "t5": 32 * H, "kerple": 2 * H, "kerple_power": 2 * H, "fire": 2 * 32 + 33 * H + 2}


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


X, Q, KEYS = normal(B, T, D), normal(B, T, H, K, seed=1), normal(B, T, H, K, seed=2)


def build(cfg, seed=0, d_model=D, heads=H, head_dim=K):
    return cfg.build(heads, head_dim, d_model, rngs=nnx.Rngs(seed))


def hooks(module, x, q, k, pos):
    """Everything the scheme does; no bias counts as 0."""
    bias = module.bias(pos, pos)
    bias = jnp.zeros((1, 1, 1, 1)) if bias is None else bias
    return module.embed(x, pos), module.rotate(q, pos, of="q"), module.rotate(k, pos, of="k"), bias


@functools.cache
def compiled(cfg, seed=0):
    """hooks as one program, positions traced. (Op by op, these tests would spend their time in the compiler.)"""
    if isinstance(cfg, Randomized):
        return compiled(cfg.base, seed)
    graph, params = nnx.split(build(cfg, seed))
    program = jax.jit(lambda params, *args: hooks(nnx.merge(graph, params), *args))
    return functools.partial(program, params)


@functools.cache
def far(cfg, seed=0):
    """What is rotated differently beyond `near`, as one program; zeros for schemes without."""
    module = build(cfg, seed)
    if module.near is None:
        return lambda q, k, pos: (np.zeros(1), np.zeros(1))
    return jax.jit(lambda q, k, pos: (module.rotate_far(q, pos, of="q"), module.rotate_far(k, pos, of="k")))


def scores(cfg, pos):
    """A score matrix that every hook can reach: the embedded input is query and key at once. [B,H,T,T]"""
    pos = jnp.asarray(pos)
    x = jnp.asarray(X)
    embedded, _, _, bias = compiled(cfg)(x, Q, KEYS, pos)
    heads = embedded.reshape(B, T, 2, K).repeat(H // 2, axis=2)
    _, q, k, _ = compiled(cfg)(x, heads, heads, pos)
    return np.einsum("bthk,bshk->bhts", q, k) / K**0.5 + np.asarray(bias)


each = pytest.mark.parametrize("name", POSITIONS)
each_plain = pytest.mark.parametrize("name", sorted(PLAIN))


# ---------------------------------------------------------------------------------------------------- the battery

@each
def test_configs_are_values(name):
    cfg = POSITIONS[name]()
    assert isinstance(cfg, PositionConfig) and cfg == POSITIONS[name]() and hash(cfg) == hash(POSITIONS[name]())
    assert dataclasses.replace(cfg) == cfg
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.base = None


@each_plain
def test_shapes_and_dtypes(name):
    module = build(POSITIONS[name]())
    for dtype in (jnp.float32, jnp.bfloat16):
        inputs = [jnp.asarray(a, dtype) for a in (X, Q, KEYS)]
        shapes = jax.eval_shape(lambda *a: hooks(module, *a), *inputs, jnp.zeros((B, T), jnp.int32))
        for before, after in zip(inputs, shapes[:3]):
            assert (after.shape, after.dtype) == (before.shape, before.dtype)
        assert shapes[3].dtype == jnp.float32 and shapes[3].shape in ((B, H, T, T), (1, 1, 1, 1))


@each
def test_only_parameters_are_state(name):
    module = build(POSITIONS[name]())
    _, params, rest = nnx.split(module, nnx.Param, ...)
    assert not jax.tree.leaves(rest)                             # a constant kept as an array would be trained, counted and saved
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETER_COUNT.get(name.removeprefix("randomized_"), 0)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


@each_plain
def test_low_precision_goes_through_float32(name):
    pos = jnp.arange(T)[None] * 100
    f, low = compiled(POSITIONS[name]()), [np.asarray(a, jnp.bfloat16) for a in (X, Q, KEYS)]
    for got, wanted in zip(f(*low, pos)[:3], f(*(a.astype(np.float32) for a in low), pos)):
        np.testing.assert_array_equal(got, wanted.astype(jnp.bfloat16))


@each_plain
def test_kinds_of_positions_agree_and_values_do_not_recompile(name):
    module, two_d, one_d = build(POSITIONS[name]()), np.arange(T)[None] + 7, np.arange(T) + 7
    kinds = [two_d, one_d] + ([] if name == "learned" else [two_d.astype(np.float32), jnp.asarray(two_d, jnp.float32)])
    known = jax.jit(lambda *arrays: [hooks(module, *arrays, pos) for pos in kinds])(X, Q, KEYS)
    traced = jax.jit(lambda *args: hooks(module, *args))
    with compilations() as programs:
        for other in [*known, traced(X, Q, KEYS, one_d)]:
            for a, b in zip(traced(X, Q, KEYS, two_d), other):
                np.testing.assert_allclose(np.squeeze(a), np.squeeze(b), rtol=2e-5, atol=2e-5)
        assert programs.count("<lambda>") == 2                                  # [1,T] and [T]
        traced(X, Q, KEYS, two_d * 3)
    assert programs.count("<lambda>") == 2


@each_plain
def test_each_token_alone_is_a_slice_of_the_whole(name):
    """What decoding relies on: a hook looks at the positions it is given, not at where they lie in the array."""
    module, pos = build(POSITIONS[name]()), jnp.asarray([[0, 1, 2, 3, 0, 1, 2, 0, 1, 2], [5, 6, 7, 8, 9, 10, 11, 12, 600, 700]])
    whole = compiled(POSITIONS[name]())(X, Q, KEYS, pos)

    @jax.jit
    def at(t):
        def cut(a):
            return jax.lax.dynamic_slice_in_dim(jnp.asarray(a), t, 1, axis=1)
        bias = module.bias(cut(pos), pos)
        rest = hooks(module, cut(X), cut(Q), cut(KEYS), cut(pos))[:3]
        return *rest, jnp.zeros((1, 1, 1, 1)) if bias is None else bias
    for t in (0, 4, 9):
        *tokens, bias = at(t)
        for a, b in zip(tokens, whole):
            np.testing.assert_allclose(a[:, 0], b[:, t], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(bias[..., 0, :], whole[3][..., t if whole[3].shape[2] == T else 0, :], rtol=1e-5, atol=1e-5)


@each_plain
def test_shift(name):
    cfg, pos = POSITIONS[name](), np.arange(T)[None] * 20
    base, shifted = scores(cfg, pos), scores(cfg, pos + 1000)
    if name in SHIFT_INVARIANT:
        np.testing.assert_allclose(shifted, base, atol=2e-3)
    else:
        assert abs(shifted - base).max() > 0.02
    if name != "nope":
        assert not np.allclose(scores(cfg, np.arange(T)[None]), base, atol=0.02)              # but positions do something


def bumped(cfg, field):
    """Another legal value of the field."""
    value = getattr(cfg, field)
    special = {"layout": {"half": "interleaved", "interleaved": "concatenated" if isinstance(cfg, Sinusoidal) else "half"},
               "fraction": {1.0: 0.5}, "windowed": {None: 1}, "windows": {None: (2, 5)}, "bidirectional": {False: True},
               "scaling": {None: SCALINGS["linear"](4.0, 128)}, "rope": {Rope(): Rope(base=500.0)}, "limit_distance": {None: 3},
               "length": {2048: 9}, "center": {0: 100}, "buckets": {32: 16}, "max_length": {2048: 1000}, "threshold": {512.0: 2.0}}
    if field == "base" and isinstance(cfg, Randomized):
        return Nope()
    return special[field][value] if field in special else value * 2


def outcome(cfg):
    """All the scheme does at a few positions, or what it says when it refuses."""
    pos = jnp.asarray([[0, 1, 2, 3, 5, 8, 13, 50, 70, 200], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]])
    try:
        ids = cfg.ids(jax.random.key(0), pos, length=256)
        return [np.asarray(a) for a in (ids, *compiled(cfg)(X, Q, KEYS, ids), *far(cfg)(Q, KEYS, ids * 10))]
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("name, field", [(name, f.name) for name in POSITIONS for f in dataclasses.fields(POSITIONS[name]())])
def test_every_field_changes_something(name, field):
    cfg = POSITIONS[name]()
    before, after = outcome(cfg), outcome(dataclasses.replace(cfg, **{field: bumped(cfg, field)}))
    assert not isinstance(before, str), before
    assert isinstance(after, str) or any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(before, after))


@pytest.mark.parametrize("name", sorted(PARAMETER_COUNT))
def test_gradients_reach_every_parameter_through_a_tile_function(name):
    """attend_chunked lifts what `bias` closes over out of the function (jax.closure_convert): nothing may hide from that."""
    module = build(POSITIONS[name]())
    graph, params = nnx.split(module)
    pos = jnp.asarray([[0, 1, 2, 3, 20, 30, 40, 50, 80, 130]])
    weights = normal(1, H, T, T, seed=5)

    def loss(params, lifted):
        module = nnx.merge(graph, params)
        if name == "learned":
            return (module.embed(jnp.asarray(X), pos) ** 2).sum()
        if not lifted:
            return (module.bias(pos, pos) * weights).sum()
        pure, captured = jax.closure_convert(module.bias, pos, pos)
        return (pure(pos, pos, *captured) * weights).sum()
    direct, lifted = (jax.jit(jax.grad(loss), static_argnums=1)(params, flag) for flag in (False, True))
    for a, b in zip(*map(jax.tree.leaves, (direct, lifted))):
        assert np.isfinite(a).all() and np.asarray(a).any()
        np.testing.assert_allclose(a, b, rtol=1e-5)


@each_plain
def test_gradients_of_the_inputs_are_finite(name):
    pos, program = jnp.asarray([[0, 0, 1, 2, 1000, 1001, 1500, 2000, 2046, 2047]]), compiled(POSITIONS[name]())

    @jax.jit
    def loss(x, q, k):
        return sum((a**2).sum() for a in program(x, q, k, pos)[:3])
    for g in jax.grad(loss, argnums=(0, 1, 2))(*map(jnp.asarray, (X, Q, KEYS))):
        assert np.isfinite(g).all() and np.asarray(g).any()


@pytest.mark.parametrize("name", sorted(PLAIN - {"learned", "xpos"}))
def test_a_million_positions_on(name):
    pos = jnp.arange(T)[None] + 1_000_000
    embedded, q, k, bias = compiled(POSITIONS[name]())(X, Q, KEYS, pos)
    assert np.isfinite(embedded).all() and not np.isnan(bias).any()
    for before, after in ((Q, q), (KEYS, k)):
        np.testing.assert_allclose(np.linalg.norm(after, axis=-1), np.linalg.norm(before, axis=-1), rtol=1e-5)
    if name in SHIFT_INVARIANT:
        np.testing.assert_array_equal(bias, compiled(POSITIONS[name]())(X, Q, KEYS, pos - 1_000_000)[3])


def test_per_layer():
    own = {name for name in POSITIONS if POSITIONS[name]().per_layer}
    assert own == {"kerple", "kerple_power", "fire", "randomized_kerple", "randomized_fire"}


def test_limits():
    assert [POSITIONS[name]().limit for name in ("rope", "learned", "randomized_rope")] == [None, 2048, 2048]
    assert Learned(7).limit == Randomized(max_length=7).limit == 7
