"""Scaled RoPE frequencies: golden values, what each scheme promises, and the battery that every entry of SCALINGS must pass.

Golden numbers are written as printed: a number with five digits is asked for five, one with all its digits for 1e-6 of its value.
Those marked transformers come from running its ROPE_INIT_FUNCTIONS (5.23.0, p-RoPE 5.24.0), the others from the papers' formulas in float64.
"""
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops import rope
from lcref.ops.rope_scaling import SCALINGS
from lcref.ops.rope_scaling.abf import Abf
from lcref.ops.rope_scaling.by_parts import ByParts
from lcref.ops.rope_scaling.dynamic_ntk import DynamicNtk
from lcref.ops.rope_scaling.e2 import E2
from lcref.ops.rope_scaling.linear import Linear
from lcref.ops.rope_scaling.llama3 import Llama3
from lcref.ops.rope_scaling.longrope import LongRope
from lcref.ops.rope_scaling.ntk import Ntk
from lcref.ops.rope_scaling.p_rope import PRope, turning
from lcref.ops.rope_scaling.power import Power
from lcref.ops.rope_scaling.scaling import Scaling
from lcref.ops.rope_scaling.truncated import Truncated
from lcref.ops.rope_scaling.yarn import Yarn


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def frequencies(scaling, head_dim, length=1, base=10_000.0, table=None):
    return np.asarray(scaling.inv_freq(head_dim, base, length, table), np.float64)


def check(got, printed):
    """got [n] against n printed numbers: half a unit of the last digit, and 1e-6 of the value for float32."""
    for value, text in zip(got, printed.split(), strict=True):
        digits, _, power = text.partition("e")
        unit = 10.0 ** (int(power or 0) - len(digits.partition(".")[2])) if "." in digits else 0.0
        assert abs(value - float(text)) <= 0.5001 * unit + 1e-6 * abs(float(text)), f"{value} is not {text}; all: {got}"


def test_the_check_itself_is_strict():
    check([.25001], ".2500")
    with pytest.raises(AssertionError):
        check([.25001], ".250000")
    with pytest.raises(AssertionError):
        check([1.00001], "1")


# ---------------------------------------------------------------------------------------------------- golden values

GOLDEN = [  # (scaling, head_dim, length, the planes or None for all, printed)
    (Linear(4.0), 16, 1, None, ".25 .0790569 .025 .00790569 .0025 .000790569 .00025 .0000790569"),                  # transformers
    (Ntk(4.0), 16, 1, None, "1 .259413 .067295 .017457 .004529 .001175 .000305 .000079"),
    (DynamicNtk(2.0, 64), 16, 128, None, "1 .270296 .07306 .0197478 .00533776 .00144278 .000389977 .000105409"),     # transformers
    (DynamicNtk(2.0, 64), 16, 256, None, "1 .239481 .0573513 .0137346 .00328917 .000787696 .000188638 .0000451754"),
    (DynamicNtk(1.0, 64), 16, 256, None, "1 .259413 .067295 .0174572 .00452862 .00117478 .000304753 .0000790569"),
    (ByParts(4.0, 64), 16, 1, None, ".47224 .09605 .025045 .007906 .0025 .000791 .00025 .000079"),
    (Yarn(4.0, 64), 16, 1, None, "1 .2371708 .05 .0079057 .0025 .00079057 .00025 .000079057"),                       # transformers
    (Yarn(4.0, 64, truncate=False), 16, 1, range(5), "1 .1985835 .0255953 .0079057 .0025"),
    (Yarn(8.0, 2048), 16, 1, None, "1 .3162278 .1 .0247053 .005625 .001087033 .000125 .0000395285"),
    (Yarn(4.0, 32768), 16, 1, None, "1 .3162278 .1 .03162278 .01 .002569351 .000625 .0001383497"),     # transformers; the ramp ends past K/2
    (Yarn(16.0, 4096), 128, 1, (0, 20, 21, 25, 32, 40, 45, 46, 63),
     "1 .0562341 .0469409 .0224471 .00567308 .000881789 .000151772 .0000833451 7.21739e-6"),
    (Yarn(4.0, 128), 32, 1, range(7), "1 .492049 .237171 .111142 .05 .021088 .007906"),
    (Yarn(16.0, 4096, ramp="rotations"), 128, 1, (20, 21, 25, 32, 40, 45, 46, 63),
     ".0562341 .0483217 .0156673 .00229405 .000299156 .0000964259 .0000833451 7.21739e-6"),
    (Llama3(4.0, 64), 16, 1, None, "1 .2546479 .0254648 .0079057 .0025 .00079057 .00025 .000079057"),                # transformers
    (Power(.5), 16, 1, None, "1 .295804 .086603 .025 .007071 .001936 .0005 .000112"),
    (Power(.1), 16, 1, None, "1 .312033 .097164 .030171 .00933 .002867 .000871 .000257"),
    (Truncated(64), 16, 1, None, "1 .316228 .1 .00613592 0 0 0 0"),
    (PRope(), 16, 1, None, "1 .316228 .1 .0316228 .01 .00316228 0 0"),                                               # transformers
    (PRope(0.3), 16, 1, None, "1 .316228 0 0 0 0 0 0"),                                                              # transformers
    (LongRope(4.0, 64, (1.0,) * 4, (1.0, 1.5, 3.0, 4.0)), 8, 65, None, "1 .0666667 .00333333 .00025"),               # transformers
    (LongRope(4.0, 64, (1.0,) * 4, (1.0, 1.5, 3.0, 4.0)), 8, 64, None, "1 .1 .01 .001"),
    (E2(original_length=64), 16, 200, None, ".25 .0790569 .025 .00790569 .0025 .000790569 .00025 .0000790569"),
]


@pytest.mark.parametrize("scaling, head_dim, length, planes, printed", GOLDEN, ids=[repr(case[0]) for case in GOLDEN])
def test_golden_values(scaling, head_dim, length, planes, printed):
    got = frequencies(scaling, head_dim, length)
    check(got if planes is None else got[list(planes)], printed)


def test_golden_llama3_at_its_defaults():
    # transformers, Llama 3.1: base 500,000, head_dim 128
    got = frequencies(Llama3(), 128, base=500_000.0)[[0, 20, 28, 29, 30, 32, 34, 35, 36, 40, 63]]
    check(got, "1 .0165604 .00321145 .00216657 .00137189 .000524846 .000178508 .0000955621 .0000778466 .0000342810 3.06893e-7")


@pytest.mark.parametrize("scaling, printed", [
    (Yarn(1.0), "1.0"), (Yarn(2.0), "1.0693147"), (Yarn(4.0), "1.138629436"), (Yarn(8.0), "1.2079442"), (Yarn(16.0), "1.2772589"),
    (Yarn(32.0), "1.3465736"),
    (LongRope(4.0, 64), "1.154700538"), (LongRope(1.0, 64), "1.0"),
    (Yarn(4.0, magnitude=1.5), "1.5"), (LongRope(4.0, magnitude=1.5), "1.5"),
    (Yarn(40.0, mscale=1.0, mscale_all_dim=1.0), "1.0"), (Yarn(math.exp(10), mscale=1.0, mscale_all_dim=0.5), "1.3333333"),
])
def test_golden_attention_factors(scaling, printed):
    check([scaling.attention_factor(4096)], printed)


@pytest.mark.parametrize("head_dim, factor, base", [(16, 4, 48760.54616817902), (64, 8, 85550.37588568537), (128, 2, 20221.261689737912),
                                                    (128, 4, 40889.94243248622)])
def test_ntk_is_a_larger_base(head_dim, factor, base):
    np.testing.assert_allclose(frequencies(Ntk(factor), head_dim), rope.inv_freq(head_dim, base), rtol=1e-6)


def test_ntk_ends():
    for scaling, length, head_dim in ((Ntk(4.0), 1, 16), (DynamicNtk(1.0, 64), 256, 64), (Ntk(4.0), 1, 4)):
        ratio = np.asarray(rope.inv_freq(head_dim), np.float64) / frequencies(scaling, head_dim, length)
        np.testing.assert_allclose(ratio[[0, -1]], [1, 4], rtol=1e-6)
        assert (np.diff(ratio) > 0).all()
    check(np.asarray(rope.inv_freq(16), np.float64) / frequencies(Ntk(4.0), 16),
          "1 1.219014 1.485994 1.811447 2.208179 2.691800 3.281341 4")


def test_abf_wavelengths():
    for scaling, longest, long in ((Abf(10_000.0), 54410, 18), (Abf(), 2559195, 32), (Abf(1_000_000.0), 5063256, 33)):
        wavelengths = 2 * np.pi / frequencies(scaling, 128)
        assert round(wavelengths[-1]) == pytest.approx(longest, rel=1e-6) and (wavelengths > 4096).sum() == long


def test_truncated_planes_of_a_large_head():
    got = frequencies(Truncated(2048), 128)
    plain = np.asarray(rope.inv_freq(128), np.float64)
    assert ((got == plain).sum(), (got == 0).sum(), np.isclose(got, 2 * np.pi / 2048 / 16).sum()) == (41, 9, 14)
    assert (got[:41] == plain[:41]).all() and (got[55:] == 0).all()          # it is the slow planes that go


# ---------------------------------------------------------------------------------------------------- what they promise

def test_yarn_ramps_agree_at_both_ends_only():
    index, turns = (frequencies(Yarn(16.0, 4096, ramp=ramp), 128) for ramp in ("index", "rotations"))
    np.testing.assert_array_equal(index[:21], turns[:21])
    np.testing.assert_array_equal(index[46:], turns[46:])
    assert (np.abs(index[21:46] / turns[21:46] - 1) > 0.02).all()


def test_yarn_in_rotations_is_by_parts():
    np.testing.assert_array_equal(frequencies(Yarn(8.0, 512, ramp="rotations"), 64), frequencies(ByParts(8.0, 512), 64))
    assert ByParts().attention_factor(1) == 1.0


@pytest.mark.parametrize("length, kept", [(4, False), (10**9, True)])
def test_yarn_where_no_plane_or_every_plane_turns_enough(length, kept):
    got = frequencies(Yarn(4.0, length), 16) / np.asarray(rope.inv_freq(16), np.float64)
    np.testing.assert_allclose(got[1:], 1.0 if kept else 0.25, rtol=1e-6)


@pytest.mark.parametrize("head_dim, length, factor, base", [(16, 64, 4.0, 1e4), (128, 8192, 8.0, 5e5), (64, 2048, 32.0, 1e6), (32, 128, 2.0, 1e4)])
def test_llama3_is_by_parts_between_1_and_4_turns(head_dim, length, factor, base):
    parts = ByParts(factor, length, beta_fast=4.0, beta_slow=1.0)
    np.testing.assert_allclose(frequencies(Llama3(factor, length), head_dim, base=base), frequencies(parts, head_dim, base=base), rtol=1e-6)


def test_linear_divides_positions():
    x = np.random.default_rng(0).normal(size=(1, 9, 2, 16)).astype(np.float32)
    by_frequency = rope.rotate(x, np.arange(9), Linear(4.0).inv_freq(16, 10_000.0, 9))
    np.testing.assert_allclose(by_frequency, rope.rotate(x, np.arange(9) / np.float32(4), rope.inv_freq(16)), atol=1e-6)


def test_what_changes_nothing():
    """Factor 1; for those that follow the length, any factor up to the training length; for the others, their neutral value."""
    plain = np.asarray(rope.inv_freq(16))
    for scaling in (Linear(1.0), Ntk(1.0), ByParts(1.0, 64), Yarn(1.0, 64), Yarn(1.0, 64, ramp="rotations"), Llama3(1.0, 64), Power(0.0),
                    Abf(10_000.0), Truncated(10**6), PRope(1.0), LongRope(1.0, 64), LongRope(1.0, 64, (1.0,) * 8, (1.0,) * 8),
                    *(SCALINGS[name](1, 64) for name in ("clex", "clex_prior", "random_positions"))):
        for length in (1, 64, 1000):
            np.testing.assert_allclose(scaling.inv_freq(16, 10_000.0, length), plain, rtol=1.2e-7)
        assert scaling.attention_factor(1000) == 1.0
    for scaling in (DynamicNtk(8.0, 64), LongRope(8.0, 64), E2(8, 64), *(SCALINGS[name](8, 64) for name in ("clex", "clex_prior"))):
        for length in (1, 63, 64):
            np.testing.assert_allclose(scaling.inv_freq(16, 10_000.0, length), plain, rtol=1.2e-7)
        assert (np.asarray(scaling.inv_freq(16, 10_000.0, 65))[-1] < plain[-1])


@pytest.mark.parametrize("base", [92, 10_000.0, 500_000.0])
def test_p_of_a_length_turns_what_turns_once_in_it(base):
    assert turning(64, 10_000.0, 256) == 13 / 32 and turning(16, 92, 128) == 6 / 8 and turning(64, base, 6) == 0.0
    for head_dim in range(2, 258, 2):
        plain = np.asarray(rope.inv_freq(head_dim, base), np.float64)
        for length in (7, 100, 1000, 123_457):
            want = np.where(plain * length >= 2 * np.pi, plain, 0.0)
            np.testing.assert_allclose(frequencies(PRope(turning(head_dim, base, length)), head_dim, base=base), want, rtol=1e-6)


def test_no_planes_are_no_positions():
    x = np.random.default_rng(0).normal(size=(1, 9, 2, 16)).astype(np.float32)
    np.testing.assert_array_equal(rope.rotate(x, np.arange(9), PRope(0.0).inv_freq(16, 10_000.0, 9)), x)


def test_longrope_lists_left_out():
    np.testing.assert_array_equal(frequencies(LongRope(4.0, 64), 16, 65), frequencies(Linear(4.0), 16))
    np.testing.assert_array_equal(frequencies(LongRope(4.0, 64, long_factor=(3.0,) * 8), 16, 64), np.asarray(rope.inv_freq(16)))


# ---------------------------------------------------------------------------------------------------- E2's ids

KEYS = jax.random.split(jax.random.key(0), 400)


def test_e2_ids_are_the_published_ones_moved_by_a_constant():
    scaling, pos = E2(factor=4, original_length=16, max_offset=10), jnp.arange(16)
    draws = np.asarray(jax.jit(jax.vmap(lambda key: scaling.training_ids(key, pos)))(KEYS), np.float64)
    seen = set()
    for ids in draws:
        g = round(1 / (ids[4] - ids[3]))
        t = round((ids[3] - ids[2]) * g) - 1
        seen.add((g, t))
        published = np.where(np.arange(16) < 3, np.arange(16), np.arange(16) + t) / g
        np.testing.assert_allclose(ids - ids[0], published - published[0], rtol=1e-6, atol=1e-6)
        assert ids[-1] == np.float32(15) / np.float32(g)                     # what is not anchored does not know t
        assert ids.max() + 1 <= 16                                           # so that inv_freq leaves these ids alone
    assert seen == {(g, t) for g in range(1, 5) for t in range(11)}


def test_e2_scores_do_not_know_the_offset_except_across_the_gap():
    q, k = (jnp.asarray(np.random.default_rng(s).normal(size=(1, 12, 1, 16)), jnp.float32) for s in (0, 1))
    inv_freq = E2(original_length=12).inv_freq(16, 10_000.0, 12)

    def scores(t):
        ids = E2(factor=1, original_length=12, max_offset=t).training_ids(KEYS[0], np.arange(12))
        return np.asarray(jnp.einsum("bthk,bshk->ts", rope.rotate(q, ids, inv_freq), rope.rotate(k, ids, inv_freq))), np.asarray(ids)
    (near, plain), (far, ids) = scores(0), scores(1000)
    np.testing.assert_array_equal(plain, np.arange(12))                      # one scale, no offset: the identity
    assert ids[0] < 0
    np.testing.assert_allclose(far[3:, 3:], near[3:, 3:], atol=1e-5)
    np.testing.assert_allclose(far[:3, :3], near[:3, :3], atol=1e-2)         # float32 angles at 1000
    assert np.abs(far[3:, :3] - near[3:, :3]).max() > 0.1


def test_e2_default_offset_reaches_the_longest_text():
    ids = jax.vmap(lambda key: E2(4, 8).training_ids(key, jnp.arange(8)))(KEYS)
    reach = np.asarray(ids[:, -1] - ids[:, 0])
    assert 25 < reach.max() <= 31                                            # 4 * 8 tokens are 31 apart


# ---------------------------------------------------------------------------------------------------- the battery

SMALL = {  # configs that are small enough to see every field matter at length 300, head_dim 16
    "linear": Linear(4.0), "ntk": Ntk(4.0), "dynamic_ntk": DynamicNtk(2.0, 64), "by_parts": ByParts(4.0, 64, 8.0, 1.0),
    "yarn": Yarn(4.0, 64, 8.0, 1.0, truncate=False), "llama3": Llama3(4.0, 64), "abf": Abf(), "power": Power(), "truncated": Truncated(64),
    "p_rope": PRope(), "longrope": LongRope(4.0, 64, (1.0,) * 8, (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.0)), "e2": E2(20, 64),
    "clex": SCALINGS["clex"](6, 64), "clex_prior": SCALINGS["clex_prior"](6, 64), "random_positions": SCALINGS["random_positions"](6, 64),
}
OTHER = {  # for every field, another legal value
    "factor": 3, "original_length": 32, "beta_fast": 4.0, "beta_slow": 2.0, "ramp": "rotations", "truncate": True, "magnitude": 1.25,
    "low_freq_factor": 2.0, "high_freq_factor": 3.0, "base": 2e4, "power": 0.25, "window": 30, "short_factor": (2.0,) * 8,
    "long_factor": (3.0,) * 8, "max_offset": 5, "anchors": 1, "step": 0.5, "width": 2, "chunks": 4, "activation": "silu",
    "learning_rate": 0.5, "p": 0.25,
}


@pytest.fixture(params=SCALINGS)
def scaling(request):
    return SMALL[request.param]


def answers(scaling):
    """All that a scaling says, as one flat tuple of numbers."""
    parameters = scaling.initial(jax.random.key(1), 16)
    shapes = [float(n) for name in sorted(parameters) for n in parameters[name].shape]
    moved = {name: value + 0.2 * jax.random.normal(jax.random.key(2), value.shape) for name, value in parameters.items()}
    tables = (None, scaling.solve(16, 10_000.0, moved)) if parameters else (None,)
    lengths = (40, 300, 10_000)
    numbers = [scaling.inv_freq(16, 10_000.0, length, table) for length in lengths for table in tables]
    numbers += [jnp.float32(scaling.attention_factor(length)) for length in lengths] + [jnp.float32(scaling.reach or 0)]
    numbers += [jnp.float32(getattr(scaling, "learning_rate", 0.0))]
    if scaling.draws_training_ids:
        pos = np.arange(32 if isinstance(scaling, E2) else 64)
        numbers += [scaling.training_ids(jax.random.key(seed), pos) for seed in range(4)]
    return shapes + [x for array in numbers for x in np.asarray(array).reshape(-1).tolist()]


def test_every_scaling_is_tested():
    assert set(SMALL) == set(SCALINGS) and all(type(SMALL[name]) is SCALINGS[name] for name in SMALL)


def test_a_scaling_is_a_value(scaling):
    assert isinstance(scaling, Scaling) and dataclasses.is_dataclass(scaling)
    again = dataclasses.replace(scaling)
    assert again == scaling and hash(again) == hash(scaling) and again is not scaling
    assert isinstance(type(scaling)(), Scaling)                              # can be chosen by its name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(scaling, dataclasses.fields(scaling)[0].name, 2)


@pytest.mark.parametrize("name, field", [(name, field.name) for name in SCALINGS for field in dataclasses.fields(SCALINGS[name])])
def test_every_field_changes_something(name, field):
    before = SMALL[name]
    if field in ("mscale", "mscale_all_dim"):
        before = dataclasses.replace(before, mscale=1.0, mscale_all_dim=0.5)
        after = dataclasses.replace(before, **{field: 0.25})
    else:
        after = dataclasses.replace(before, **{field: OTHER[field]})
    assert after != before and hash(after) != hash(before)
    assert answers(after) != answers(before)


@pytest.mark.parametrize("name", SCALINGS)
def test_field_order_is_factor_then_training_length(name):
    names = [field.name for field in dataclasses.fields(SCALINGS[name])]
    shared = [n for n in ("factor", "original_length") if n in names]
    assert names[:len(shared)] == shared


@pytest.mark.parametrize("head_dim", [2, 4, 16, 128])
def test_shapes_and_dtypes(scaling, head_dim):
    scaling = dataclasses.replace(scaling, short_factor=(), long_factor=()) if isinstance(scaling, LongRope) else scaling
    for length in (1, 64, 65, np.int64(1000)):
        got = scaling.inv_freq(head_dim, 10_000.0, length)
        assert got.shape == (head_dim // 2,) and got.dtype == jnp.float32
        assert np.isfinite(got).all() and (np.asarray(got) >= 0).all() and (np.asarray(got) <= 1).all()
        assert isinstance(scaling.attention_factor(length), float) and scaling.attention_factor(length) >= 1.0
    for name, value in scaling.initial(jax.random.key(0), head_dim).items():
        assert value.dtype == jnp.float32 and isinstance(name, str)


def test_traced_length_equals_known_length_and_compiles_once(scaling):
    for table in (None, scaling.solve(16, 10_000.0, scaling.initial(jax.random.key(0), 16))):
        traces = []

        @jax.jit
        def traced(length, table):
            traces.append(length)
            return scaling.inv_freq(16, 10_000.0, length, table), scaling.attention_factor(length)
        kinds = (jnp.int32, jnp.float32)
        for kind in kinds:                                                    # ids may be fractions, and then so is the length
            for length in (1, 63, 64, 65, 127, 128, 129, 300, 6 * 64, 6 * 64 + 1, 5000, 1_000_000):
                got, magnitude = traced(kind(length), table)
                assert got.dtype == jnp.float32
                np.testing.assert_allclose(got, scaling.inv_freq(16, 10_000.0, length, table), rtol=1e-6)
                np.testing.assert_allclose(magnitude, scaling.attention_factor(length), rtol=1e-6)
        assert len(traces) == len(kinds)


def test_a_length_a_row(scaling):
    lengths = np.array([40, 64, 65, 300, 10_000])
    want = np.stack([scaling.inv_freq(16, 10_000.0, length) for length in lengths.tolist()])
    for got in (scaling.inv_freq(16, 10_000.0, lengths), jax.jit(lambda n: scaling.inv_freq(16, 10_000.0, n))(lengths)):
        assert got.shape == ((5, 8) if scaling.dynamic else (8,))
        np.testing.assert_allclose(np.broadcast_to(got, want.shape), want, rtol=1e-6)


def test_only_dynamic_ones_look_at_the_length(scaling):
    same = [np.array_equal(scaling.inv_freq(16, 10_000.0, 64), scaling.inv_freq(16, 10_000.0, length)) for length in (1, 65, 1000)]
    assert same == ([True, False, False] if scaling.dynamic else [True, True, True])


def test_training_ids(scaling):
    pos = np.tile(np.arange(64, dtype=np.int32), (3, 1))
    if not scaling.draws_training_ids:
        assert scaling.training_ids(None, pos) is pos
        return
    draw = jax.jit(scaling.training_ids)
    ids = draw(jax.random.key(0), jnp.asarray(pos))
    assert ids.shape == pos.shape and (np.diff(np.asarray(ids)) > 0).all()
    for one in (pos[0], pos[:1]):
        got = scaling.training_ids(jax.random.key(0), one)
        assert got.shape == one.shape and (np.diff(np.asarray(got)) > 0).all()
    assert any(not np.array_equal(draw(jax.random.key(seed), pos), ids) for seed in range(1, 6))
    with pytest.raises(ValueError, match="key"):
        scaling.training_ids(None, pos)


# ---------------------------------------------------------------------------------------------------- what is refused

LEAST = {"factor": 1, "original_length": 1, "window": 1, "base": 1, "power": 0, "width": 1, "anchors": 0, "max_offset": 0, "step": 0,
         "beta_fast": 0, "beta_slow": -1e-9, "low_freq_factor": 0, "high_freq_factor": 0, "mscale": 0, "mscale_all_dim": 0, "magnitude": 0, "p": 0}


@pytest.mark.parametrize("name, field", [(name, field.name) for name in SCALINGS for field in dataclasses.fields(SCALINGS[name])
                                         if field.name in LEAST])
@pytest.mark.parametrize("how", ["small", "nan", "inf", "text"])
def test_bad_numbers(name, field, how):
    bad = {"small": LEAST[field] - 0.5, "nan": math.nan, "inf": math.inf, "text": "4"}[how]
    both = dataclasses.replace(SMALL[name], mscale=1.0, mscale_all_dim=0.5) if field.startswith("mscale") else SMALL[name]
    with pytest.raises(ValueError, match=rf"{field}.*{bad}"):
        dataclasses.replace(both, **{field: bad})


@pytest.mark.parametrize("make, message", [
    (lambda: Yarn(ramp="paper"), "unknown yarn ramp 'paper': choose one of index, rotations"),
    (lambda: Yarn(mscale=1.0), "mscale 1.0 and mscale_all_dim None: give both or neither"),
    (lambda: Yarn(beta_fast=1.0, beta_slow=2.0), "beta_fast must be a number > 2.0, got 1.0"),
    (lambda: ByParts(beta_fast=1.0), "beta_fast must be a number > 1.0, got 1.0"),
    (lambda: Llama3(high_freq_factor=1.0), "high_freq_factor must be a number > 1.0, got 1.0"),
    (lambda: LongRope(original_length=1), "original_length must be a whole number >= 2, got 1"),
    (lambda: LongRope(short_factor=[1.0]), "short_factor must be a tuple"),
    (lambda: LongRope(long_factor=(1.0, 0.0)), "long_factor must be a number > 0, got 0.0"),
    (lambda: LongRope(long_factor=(1.0,) * 4).inv_freq(16, 1e4, 1), "long_factor has 4 numbers, head_dim 16 wants 8"),
    (lambda: LongRope(short_factor=(1.0,) * 9).inv_freq(16, 1e4, 1), "short_factor has 9 numbers, head_dim 16 wants 8"),
    (lambda: PRope(1.5), "p_rope p must be a number from 0 to 1, got 1.5"),
    (lambda: turning(64, 1e4, 0), "p_rope length must be a whole number >= 1, got 0"),
    (lambda: E2(factor=2.5), "factor must be a whole number >= 1, got 2.5"),
    (lambda: E2(original_length=8).training_ids(jax.random.key(0), np.arange(9)), "within original_length 8, got 9"),
    (lambda: Linear().inv_freq(15, 1e4, 1), "got 15"),
    (lambda: Linear().inv_freq(16, 1.0, 1), "base above 1, got 1.0"),
    (lambda: Linear().inv_freq(16, math.nan, 1), "base above 1, got nan"),
])
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_odd_widths_are_refused_by_all(scaling):
    for f in (lambda: scaling.inv_freq(7, 10_000.0, 1), lambda: scaling.inv_freq(0, 10_000.0, 1)):
        with pytest.raises(ValueError, match="even"):
            f()


def test_the_base_class_has_no_frequencies():
    with pytest.raises(NotImplementedError, match="must define inv_freq"):
        Scaling().inv_freq(16, 10_000.0, 1)
