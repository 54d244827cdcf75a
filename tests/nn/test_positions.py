"""Position schemes as modules: one battery over POSITIONS, then what each scheme promises on its own."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lcref.nn.positions import (POSITIONS, T5, Alibi, Fire, HardAlibi, Kerple, KerplePower, Learned, LMInfinite, Nope, Position,
                                PositionConfig, Randomized, Rope, SelfExtend, Sinusoidal, StreamingLLM, Xpos)
from lcref.ops import positions, rope
from lcref.ops.rope_scaling import SCALINGS

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
    for other in [*known, traced(X, Q, KEYS, one_d)]:
        for a, b in zip(traced(X, Q, KEYS, two_d), other):
            np.testing.assert_allclose(np.squeeze(a), np.squeeze(b), rtol=2e-5, atol=2e-5)
    assert traced._cache_size() == 2                                            # [1,T] and [T]
    traced(X, Q, KEYS, two_d * 3)
    assert traced._cache_size() == 2


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


# ---------------------------------------------------------------------------------------------------- one by one

def test_nope_is_the_identity():
    module = build(Nope())
    assert module.embed(X, None) is X and module.rotate(Q, None) is Q and module.bias(None, None) is None
    assert type(module) is Position


def test_sinusoidal_adds_its_vectors_and_refuses_odd_widths():
    got = build(Sinusoidal(), d_model=8).embed(np.zeros((1, 1, 8), np.float32), np.array([[1]]))
    np.testing.assert_allclose(got[0, 0], [0.841471, 0.540302, 0.099833, 0.995004, 0.01, 0.99995, 0.001, 1.0], atol=1e-6)
    with pytest.raises(ValueError, match="even.*15"):
        build(Sinusoidal(), d_model=15)
    with pytest.raises(ValueError, match="'x'"):
        build(Sinusoidal(layout="x"))


def test_learned_looks_rows_up():
    module = build(Learned(16))
    np.testing.assert_allclose(module.embed(X, np.array([[3, 0, 15, 1, 1, 2, 9, 8, 7, 4]])) - X,
                               np.broadcast_to(module.table[...][np.array([3, 0, 15, 1, 1, 2, 9, 8, 7, 4])], X.shape), atol=1e-6)
    assert abs(np.std(module.table[...]) - 0.02) < 0.005


@pytest.mark.parametrize("pos", [np.arange(T)[None] + 7, jnp.arange(T)[None] + 7, np.full((B, T), 16)])
def test_learned_refuses_known_positions_past_the_table(pos):
    with pytest.raises(ValueError, match="position 16 .* length 16"):
        build(Learned(16)).embed(X, pos)


def test_learned_refuses_rows_longer_than_the_table():
    module = build(Learned(8))
    with pytest.raises(ValueError, match="10 tokens.* length 8"):
        jax.jit(lambda pos: module.embed(X, pos))(jnp.zeros((1, T), jnp.int32))
    module.embed(X, np.arange(T)[None] % 8)                                     # known to be inside: a packed row may be longer


def test_learned_gives_nan_for_traced_positions_past_the_table():
    module = build(Learned(16))
    got = jax.jit(module.embed)(X, jnp.asarray([[0, 15, 16, 17, -1, 1_000_000, -16, 1, 2, 3]]))
    np.testing.assert_array_equal(np.isnan(got).any(-1)[0], [False, False, True, True, True, True, True, False, False, False])
    np.testing.assert_array_equal(np.isnan(got).any(-1), np.isnan(got).all(-1))


def test_learned_refuses_the_rest():
    with pytest.raises(ValueError, match="-1"):
        build(Learned(16)).embed(X, np.arange(T)[None] - 1)
    with pytest.raises(ValueError, match="integers.*float32"):
        build(Learned(16)).embed(X, np.arange(T, dtype=np.float32)[None])
    with pytest.raises(ValueError, match="0"):
        Learned(0)
    with pytest.raises(ValueError, match="3 positions for 10 tokens"):
        build(Learned(16)).embed(X, np.arange(3)[None])


def test_rope_fraction_turns_the_front_of_a_head():
    module = build(Rope(fraction=0.5))
    q = module.rotate(Q, np.arange(T)[None] + 1)
    np.testing.assert_array_equal(q[..., 4:], Q[..., 4:])
    np.testing.assert_allclose(q[..., :4], build(Rope(), head_dim=4).rotate(Q[..., :4], np.arange(T)[None] + 1), rtol=1e-6)
    assert build(Rope(fraction=0.3), head_dim=10).width == 2                    # 3 numbers, rounded down to a pair


@pytest.mark.parametrize("make, message", [
    (lambda: Rope(layout="neox"), "'neox'.*half, interleaved"),
    (lambda: Rope(fraction=0.0), "fraction.*0.0"),
    (lambda: Rope(fraction=1.5), "fraction.*1.5"),
    (lambda: build(Rope(fraction=0.1)), "head_dim 8 at fraction 0.1"),
    (lambda: build(Rope(), head_dim=7), "head_dim 7"),
    (lambda: Xpos(layout="x"), "'x'"),
    (lambda: Xpos(scale_base=0.0), "0.0"),
    (lambda: build(Xpos(), head_dim=7), "7"),
    (lambda: HardAlibi(windowed=2, windows=(1,)), "not both"),
    (lambda: HardAlibi(windows=(1, 0)), r"\(1, 0\)"),
    (lambda: HardAlibi(windows=[1, 2]), r"tuple.*\[1, 2\]"),
    (lambda: build(HardAlibi(windowed=5)), "5 windowed heads of 4"),
    (lambda: build(HardAlibi(windows=(1, 2, 3, 4, 5))), "5 windows.*4 heads"),
    (lambda: build(T5(max_distance=16)), "max_distance 16"),
    (lambda: build(Fire(hidden=0)), "0"),
    (lambda: Randomized(base=Randomized()), "plain position config"),
    (lambda: Randomized(base="rope"), "'rope'"),
    (lambda: Randomized(max_length=0), "0"),
    (lambda: Randomized(base=Rope(scaling=SCALINGS["clex"]())), "take the place of those that the base scheme draws"),
    (lambda: Randomized(base=Learned(100), max_length=200), "199.*100"),
])
def test_bad_configs_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_alibi_shows_its_slopes_to_kernels():
    module = build(Alibi())
    assert isinstance(module.slopes, np.ndarray)
    i = np.arange(T)
    np.testing.assert_allclose(module.bias(i, i), -module.slopes[:, None, None] * abs(i[:, None] - i), rtol=1e-6)


@pytest.mark.parametrize("cfg, windows", [
    (HardAlibi(), (1, 2, 0, 0)), (HardAlibi(windowed=3), (1, 2, 3, 0)), (HardAlibi(windowed=0), (0, 0, 0, 0)),
    (HardAlibi(windows=(4, 4)), (4, 4, 0, 0)), (HardAlibi(windows=(1, 2, 3, 4)), (1, 2, 3, 4)),
])
def test_hard_alibi_windows(cfg, windows):
    causal = np.tril(np.ones((T, T), bool))
    seen = np.isfinite(build(cfg).bias(np.arange(T), np.arange(T))) & causal
    assert tuple(seen[:, -1].sum(-1)) == tuple(w or T for w in windows)


def test_kerple_starts_in_its_range_and_stays_positive():
    module = build(Kerple(), heads=500)
    r1, r2 = (jax.nn.softplus(p[...]) for p in (module.raw_r1, module.raw_r2))
    assert 0.009 < r1.min() < 0.05 and 1.9 < r1.max() < 2.001 and 0.009 < r2.min() < 0.05 and 0.95 < r2.max() < 1.001
    module.raw_r1[...] = jnp.full((500,), -30.0)                                # whatever the optimiser does, far is never favoured
    assert (np.asarray(module.bias(np.array([5]), np.array([0]))) <= 0).all()


def test_kerple_power_starts_in_its_range():
    module = build(KerplePower(), heads=500)
    near, far = module.bias(np.array([100]), np.array([99]))[:, 0, 0], module.bias(np.array([100]), np.array([0]))[:, 0, 0]
    a, p = -near, np.log(far / near) / np.log(100)
    assert 0.009 < a.min() < 0.05 and 0.95 < a.max() < 1.001 and 0 < p.min() < 0.05 and 1.9 < p.max() < 2


def test_fire_starts_as_the_published_code():
    module = build(Fire(hidden=400))
    assert module.c[...] == np.float32(0.1) and module.stretch[...] == 1.0
    for p, bound in ((module.w1, 1.0), (module.b1, 1.0), (module.w2, 400**-0.5)):
        assert 0.9 * bound < abs(p[...]).max() <= bound


# ---------------------------------------------------------------------------------------------------- randomized ids

def test_identity_ids_for_plain_schemes():
    pos = np.arange(T)
    assert all(POSITIONS[name]().ids(None, pos) is pos for name in PLAIN)


def test_randomized_ids():
    cfg, pos = Randomized(max_length=500), np.tile(np.arange(T), (3, 1))
    ids = np.asarray(cfg.ids(jax.random.key(1), pos))
    assert ids.shape == (3, T) and ids.dtype == np.int32
    assert (np.diff(ids, axis=-1) > 0).all() and 0 <= ids.min() and ids.max() < 500
    np.testing.assert_array_equal(ids[0], ids[2])                               # one draw for the batch
    np.testing.assert_array_equal(ids, cfg.ids(jax.random.key(1), pos))
    assert not np.array_equal(ids, cfg.ids(jax.random.key(2), pos))
    np.testing.assert_array_equal(Randomized(max_length=T).ids(jax.random.key(1), pos), pos)


def test_randomized_ids_of_a_stream_in_pieces():
    cfg, key = Randomized(), jax.random.key(4)
    whole = cfg.ids(key, np.arange(30)[None])
    piece = jax.jit(lambda key, pos: cfg.ids(key, pos, length=30))
    for lo, hi in ((0, 7), (7, 8), (8, 30)):
        np.testing.assert_array_equal(piece(key, jnp.arange(lo, hi)[None]), whole[:, lo:hi])
    assert piece(key, jnp.asarray([[30]]))[0, 0] == cfg.max_length              # no draw contains it


def test_randomized_ids_of_packed_documents():
    segments = np.array([[1, 1, 1, 2, 2, 2, 2, 3]])
    ids = Randomized().ids(jax.random.key(0), positions.packed(segments))[0]
    np.testing.assert_array_equal(ids[:3], ids[3:6])
    assert ids[7] == ids[0] and ids[6] > ids[5]


def test_randomized_refuses():
    cfg = Randomized(max_length=16)
    with pytest.raises(ValueError, match="17.*16"):
        cfg.ids(jax.random.key(0), np.arange(17)[None])
    with pytest.raises(ValueError, match="key"):
        cfg.ids(None, np.arange(4)[None])
    with pytest.raises(ValueError, match="5 to 5 .* drawn for 1"):
        cfg.ids(jax.random.key(0), np.array([[5]]))


@pytest.mark.parametrize("name", sorted(set(POSITIONS) - PLAIN))
def test_randomized_modules_are_the_base_schemes(name):
    cfg = POSITIONS[name]()
    assert type(build(cfg)) is type(build(cfg.base)) and cfg.per_layer == cfg.base.per_layer
    assert type(cfg.base) is type(POSITIONS[name.removeprefix("randomized_")]())


# ---------------------------------------------------------------------------------------------------- scalings of RoPE

def test_clex_is_trained_at_its_own_rate_and_solved_once_for_every_length():
    cfg = Rope(scaling=SCALINGS["clex"](4, 8, learning_rate=0.25))
    module = build(cfg)
    assert {name: (p.shape, p.get_metadata()["learning_rate"]) for name, p in module.learned.items()} == {"up": ((4, 8), 0.25), "down": ((8, 4), 0.25)}
    module.learned["down"][...] = 0.1 * jnp.asarray(normal(8, 4, seed=3))
    table = module.solve()
    assert table.shape == (4, K // 2)
    for length, row in ((8, 0), (9, 1), (32, 3), (100, 3)):
        want = rope.rotate(jnp.asarray(Q), np.arange(T)[None], table[row])
        np.testing.assert_allclose(module.at(length, table).rotate(jnp.asarray(Q), np.arange(T)[None]), want, rtol=1e-6)
    longer = np.arange(T)[None] + 20                                            # the largest position says how long the row is
    np.testing.assert_allclose(module.rotate(jnp.asarray(Q), longer), rope.rotate(jnp.asarray(Q), longer, table[3]), rtol=1e-6)


@pytest.mark.parametrize("name", SCALINGS)
def test_every_scaling_turns_queries_and_keys(name):
    scaling = SCALINGS[name]()
    module = build(Rope(scaling=scaling))
    frequencies = scaling.inv_freq(K, 10_000.0, 5000, module.solve())
    pos = np.arange(T)[None] + 4990
    want = rope.rotate(jnp.asarray(Q), pos, frequencies, factor=scaling.attention_factor(5000))
    np.testing.assert_allclose(module.rotate(jnp.asarray(Q), pos), want, rtol=1e-5, atol=1e-5)
    assert module.late == scaling.dynamic and Rope(scaling=scaling).draws_training_ids == scaling.draws_training_ids
