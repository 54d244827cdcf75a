"""Position schemes one by one: what each promises on its own, randomized ids, scalings. The battery over all: test_positions.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.nn.positions import (POSITIONS, T5, Alibi, Fire, HardAlibi, Kerple, KerplePower, Learned, LMInfinite, Nope, Position,
                                Randomized, Rope, Sinusoidal, StreamingLLM, Xpos)
from lcref.ops import positions, rope
from lcref.ops.rope_scaling import SCALINGS
from tests.nn.test_positions import PLAIN, B, D, K, Q, T, X, build, normal, strict  # noqa: F401 (strict: a fixture of every test here)
from tests.tolerances import assert_close


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
    (lambda: Randomized(base=HardAlibi()), "not the places that HardAlibi counts"),
    (lambda: Randomized(base=LMInfinite(near=4)), "not the places that LMInfinite counts"),
    (lambda: Randomized(base=Xpos(), max_length=10**6), "999999, but the base scheme ends at 32696"),
    (lambda: Xpos(center=40_000), "center 40000 is more than 32696 from position 0"),
    (lambda: Randomized(base="rope"), "'rope'"),
    (lambda: Randomized(max_length=0), "max_length must be a whole number >= 1, got 0"),
    (lambda: Randomized(max_length=10.5), "max_length must be a whole number >= 1, got 10.5"),
    (lambda: Learned(2.5), "length must be a whole number >= 1, got 2.5"),
    (lambda: T5(buckets=32.0), "buckets must be a whole number >= 1, got 32.0"),
    (lambda: StreamingLLM(near=4, sinks=-1), "sinks must be a whole number >= 0, got -1"),
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
    far = 5 - np.arange(6)
    assert_close(module.bias(np.array([5]), np.arange(6))[:, 0], -np.asarray(r1)[:, None] * np.log1p(np.asarray(r2)[:, None] * far))
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


def test_randomized_ids_of_padded_rows():
    """Every row its own draw, as wide as the row is long, whatever it is padded to."""
    cfg, lengths = Randomized(max_length=100), np.array([T, 3, 3, 1])
    ids = np.asarray(jax.jit(lambda key: cfg.ids(key, positions.plain(T)[None], lengths))(jax.random.key(1)))
    assert ids.shape == (4, T) and not np.array_equal(ids[1], ids[2])
    for row, length in zip(ids, lengths):
        assert (np.diff(row[:length]) > 0).all() and (row[length:] == row[length - 1]).all()
    many = np.asarray(cfg.ids(jax.random.key(2), positions.plain(T)[None], np.full(2000, 3)))
    assert abs(many[:, 2].mean() - 74.75) < 2                                   # the largest of 3 out of range(100): 3 * 101 / 4 - 1


def test_randomized_ids_of_a_stream_in_pieces():
    cfg, key = Randomized(), jax.random.key(4)
    whole = cfg.ids(key, np.arange(30)[None])
    piece = jax.jit(lambda key, pos: cfg.ids(key, pos, length=30))
    for lo, hi in ((0, 7), (7, 8), (8, 30)):
        np.testing.assert_array_equal(piece(key, jnp.arange(lo, hi)[None]), whole[:, lo:hi])
    assert piece(key, jnp.asarray([[30]]))[0, 0] == cfg.max_length              # no draw contains it


def test_randomized_ids_of_packed_documents():
    """Each a draw of its own, and as wide as it is long: what else stands in its row does not squeeze it."""
    segments = np.array([[1, 1, 1, 2, 2, 2, 2, 3], [1, 1, 2, 2, 2, 2, 2, 2]])
    draw = jax.jit(lambda key: Randomized(max_length=100).training_ids(key, positions.packed(segments)))
    ids = np.stack([draw(key) for key in jax.random.split(jax.random.key(0), 2000)])
    assert ids.shape == (2000, 2, 8) and ids.dtype == np.int32 and 0 <= ids.min() and ids.max() < 100
    for row, begin, end in ((0, 0, 3), (0, 3, 7), (0, 7, 8), (1, 0, 2), (1, 2, 8)):
        document, n = ids[:, row, begin:end], end - begin
        assert (np.diff(document) > 0).all()
        assert abs(document[:, -1].mean() - (n * 101 / (n + 1) - 1)) < 3            # the largest of n out of range(100)
    assert abs(np.corrcoef(ids[:, 0, 0], ids[:, 0, 3])[0, 1]) < 0.1 and abs(np.corrcoef(ids[:, 0, 0], ids[:, 1, 0])[0, 1]) < 0.1
    np.testing.assert_array_equal(Randomized(max_length=T).training_ids(jax.random.key(0), positions.plain(T)), positions.plain(T))
    with pytest.raises(ValueError, match="need a key"):
        Randomized().training_ids(None, segments)
    with pytest.raises(ValueError, match="draw 8 distinct positions from range"):
        Randomized(max_length=7).training_ids(jax.random.key(0), segments)


def test_randomized_refuses():
    cfg = Randomized(max_length=16)
    with pytest.raises(ValueError, match="17.*16"):
        cfg.ids(jax.random.key(0), np.arange(17)[None])
    with pytest.raises(ValueError, match="key"):
        cfg.ids(None, np.arange(4)[None])
    with pytest.raises(ValueError, match="5 to 5 .* drawn for 1"):
        cfg.ids(jax.random.key(0), np.array([[5]]))
    for lengths in ([0, 3], [3, 5]):
        with pytest.raises(ValueError, match=f"1 to 4 that are not padding, got {min(lengths)} to {max(lengths)}"):
            cfg.ids(jax.random.key(0), np.arange(4)[None], np.array(lengths))
    with pytest.raises(ValueError, match=r"positions 0 to 3 in the shape \[1,4\]"):
        cfg.ids(jax.random.key(0), np.array([[0, 1, 0, 1]]), np.array([4, 4]))


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


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("name", ["dynamic_ntk", "e2"])
def test_rows_are_as_long_in_narrow_integers(name, dtype):
    """Positions 0 to 127 or 255 fill their type: one more would be 0, or negative."""
    n = np.iinfo(dtype).max + 1
    scheme = build(Rope(scaling=SCALINGS[name](original_length=16)))
    turned = jax.jit(lambda pos: scheme.rotate(jnp.ones((1, n, 1, K)), pos))
    wide, narrow = np.arange(n)[None], np.arange(n).astype(dtype)[None]
    for run in (turned, lambda pos: scheme.rotate(jnp.ones((1, n, 1, K)), pos)):
        assert_close(run(narrow), run(wide))


def test_an_id_drawn_for_a_negative_position_is_none():
    ids = jax.jit(lambda pos: Randomized(max_length=20).ids(jax.random.key(0), pos, 8))(np.array([[-1, 0, 7, 8]]))[0]
    assert ids[0] == ids[3] == 20 and 0 <= ids[1] < ids[2] < 20


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_a_negative_place_in_a_table_is_none(dtype):
    """Whatever counts it: a table longer than the type's largest number included."""
    table = build(Learned(40_000))
    made = jax.jit(lambda pos: table.embed(jnp.zeros((1, 2, D)), pos))(np.array([-1, 1], dtype))
    assert np.isnan(made[0, 0]).all()
    np.testing.assert_array_equal(made[0, 1], table.table[...][1])


def test_vectors_of_other_rows_are_refused():
    for scheme in (build(Learned(8)), build(Sinusoidal())):
        with pytest.raises(ValueError, match="rows do not fit"):
            scheme.embed(jnp.ones((1, 4, 8)), np.zeros((3, 4), int))
