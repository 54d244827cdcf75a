"""Sinusoids, RoPE, xPos: values worked out in float64, and the properties that define them."""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops import rope

TIGHT = dict(rtol=2e-6, atol=2e-6)
# compiled once per shape: op by op, these tests would spend their time in the compiler
sinusoid = jax.jit(rope.sinusoid, static_argnums=(1, 2), static_argnames="layout")
rotate = jax.jit(rope.rotate, static_argnames="layout")
xpos = jax.jit(rope.xpos, static_argnames=("of", "scale_base", "center", "layout"))


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def normal(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def at(x, p, layout, **kwargs):
    """One head of one token, rotated at p."""
    x = jnp.asarray(x, jnp.float32)[None, None, None]
    return rotate(x, jnp.asarray([p]), rope.inv_freq(x.shape[-1]), layout=layout, **kwargs)[0, 0, 0]


# ---------------------------------------------------------------------------------------------------- frequencies and sinusoids

def test_inv_freq():
    # transformers 5.23.0, default rope, head_dim 16, base 10000
    np.testing.assert_allclose(rope.inv_freq(16), [1, .316228, .1, .0316228, .01, .00316228, .001, .000316228], rtol=2e-6)
    np.testing.assert_allclose(rope.inv_freq(4, base=500.0), [1, 500 ** -0.5], rtol=1e-7)
    np.testing.assert_allclose(jax.jit(lambda base: rope.inv_freq(8, base))(10_000.0), rope.inv_freq(8), rtol=1e-6)   # a traced base
    assert rope.inv_freq(64).dtype == jnp.float32
    for bad in (7, 0):
        with pytest.raises(ValueError, match=str(bad)):
            rope.inv_freq(bad)


def test_angles_are_float32_products_for_any_kind_of_position():
    f = rope.inv_freq(8)
    wanted = np.arange(5)[:, None] * np.asarray(f, np.float64)
    for pos in (np.arange(5), jnp.arange(5), jnp.arange(5, dtype=jnp.uint8), np.arange(5.0), jnp.arange(5, dtype=jnp.bfloat16)):
        got = rope.angles(pos, f)
        assert got.dtype == jnp.float32
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
    assert rope.angles(jnp.zeros((2, 3)), f).shape == (2, 3, 4)


def test_sinusoid_values():
    # closed form in float64: sin and cos of p * 10000^(-2k/8)
    np.testing.assert_allclose(sinusoid(np.array([1]), 8)[0],
                               [0.841471, 0.540302, 0.099833, 0.995004, 0.01, 0.99995, 0.001, 1.0], atol=1e-6)
    np.testing.assert_allclose(sinusoid(np.array([7]), 8, layout="concatenated")[0],
                               [0.656987, 0.644218, 0.069943, 0.007, 0.753902, 0.764842, 0.997551, 0.999976], atol=1e-6)


def test_sinusoid_products_depend_on_the_difference_only():
    p, q = np.array([3, 40, 1000]), np.array([10, 4, 1017])
    for layout in ("interleaved", "concatenated"):
        product = (sinusoid(p, 32, layout=layout) * sinusoid(q, 32, layout=layout)).sum(-1)
        np.testing.assert_allclose(product, np.cos((p - q)[:, None] * np.asarray(rope.inv_freq(32))).sum(-1), atol=2e-3)


def test_sinusoid_refuses():
    with pytest.raises(ValueError, match="15"):
        rope.sinusoid(np.arange(3), 15)
    with pytest.raises(ValueError, match="'half'"):
        rope.sinusoid(np.arange(3), 16, layout="half")


# ---------------------------------------------------------------------------------------------------- rotation

def test_rotate_values():
    # numpy float64, head_dim 4 (theta = 1, 0.01), position 3
    np.testing.assert_allclose(at([1, 2, 3, 4], 3, "half"), [-1.413353, 1.879118, -2.828857, 4.058191], **TIGHT)
    np.testing.assert_allclose(at([1, 2, 3, 4], 3, "interleaved"), [-1.272233, -1.838865, 2.878668, 4.088187], **TIGHT)


@pytest.mark.parametrize("layout, wanted", [("half", -7.228961506710718), ("interleaved", 7.982131588555753)])
@pytest.mark.parametrize("i, j", [(5, 2), (103, 100)])
def test_score_values(layout, wanted, i, j):
    score = at([1, 2, 3, 4], i, layout) @ at([.5, -1, 2, .25], j, layout)
    np.testing.assert_allclose(score, wanted, rtol=1e-5)


@pytest.mark.parametrize("layout", rope.LAYOUTS)
def test_norm_is_preserved_plane_by_plane(layout):
    x, pos = normal(2, 9, 3, 16), jnp.asarray([0, 1, 5, 64, 1000, 4096, 65_536, 1_000_000, 3])
    y = rotate(x, pos, rope.inv_freq(16), layout=layout)

    @jax.jit
    def radius(z):
        z = z.reshape(*z.shape[:-1], 2, 8) if layout == "half" else jnp.swapaxes(z.reshape(*z.shape[:-1], 8, 2), -1, -2)
        return jnp.hypot(z[..., 0, :], z[..., 1, :])
    np.testing.assert_allclose(radius(y), radius(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(y[:, 0], x[:, 0])
    assert abs(y[:, 1] - x[:, 1]).max() > 0.1


@pytest.mark.parametrize("layout", rope.LAYOUTS)
@pytest.mark.parametrize("shift, atol", [(17, 2e-5), (1000, 1e-3), (1_000_000, 0.6)])
def test_scores_depend_on_the_difference_only(layout, shift, atol):
    # the tolerance is the float32 angle's: half a unit in the last place of p * theta, times the size of a score (about 10)
    q, k, f = normal(1, 8, 2, 32), normal(1, 8, 2, 32, seed=1), rope.inv_freq(32)

    @jax.jit
    def scores(pos):
        return jnp.einsum("bthk,bshk->bhts", *(rotate(x, pos, f, layout=layout) for x in (q, k)))
    pos = np.arange(8)
    np.testing.assert_allclose(scores(pos + shift), scores(pos), atol=atol)
    assert abs(scores(pos * 2) - scores(pos)).max() > 1.0


def test_layouts_agree_under_the_permutation():
    x, pos, f = normal(2, 7, 3, 12), np.arange(7), rope.inv_freq(12)
    half = np.r_[0:12:2, 1:12:2]
    np.testing.assert_allclose(rotate(x[..., half], pos, f, layout="half"),
                               rotate(x, pos, f, layout="interleaved")[..., half], **TIGHT)


@pytest.mark.parametrize("layout", rope.LAYOUTS)
def test_against_complex_multiplication(layout):
    x, pos = normal(2, 6, 1, 8), jnp.asarray([[0, 1, 2, 3, 4, 5], [9, 2, 7, 7, 30, 100]])
    pairs = np.asarray(x, np.float64).reshape(2, 6, 1, *((2, 4) if layout == "half" else (4, 2)))
    a, c = (pairs[..., 0, :], pairs[..., 1, :]) if layout == "half" else (pairs[..., 0], pairs[..., 1])
    z = (a + 1j * c) * np.exp(1j * np.asarray(pos)[:, :, None, None] * 10_000.0 ** (-np.arange(4) / 4))
    wanted = np.concatenate([z.real, z.imag], -1) if layout == "half" else np.stack([z.real, z.imag], -1).reshape(x.shape)
    np.testing.assert_allclose(rotate(x, pos, rope.inv_freq(8), layout=layout), wanted, rtol=1e-5, atol=3e-5)


@pytest.mark.parametrize("layout", rope.LAYOUTS)
def test_partial_rotary_passes_the_rest_through(layout):
    x, pos, f = normal(1, 5, 2, 16), np.arange(5), rope.inv_freq(8)
    y = rotate(x, pos, f, layout=layout, factor=1.5)
    np.testing.assert_array_equal(y[..., 8:], x[..., 8:])
    np.testing.assert_allclose(y[..., :8], rotate(x[..., :8], pos, f, layout=layout, factor=1.5), **TIGHT)
    np.testing.assert_allclose(y[..., :8], 1.5 * rotate(x[..., :8], pos, f, layout=layout), **TIGHT)


def test_position_shapes_agree():
    x, f = normal(3, 5, 2, 8), rope.inv_freq(8)
    one = rotate(x, np.arange(5), f)
    for pos in (np.arange(5)[None], jnp.tile(jnp.arange(5), (3, 1)), np.arange(5.0)):
        np.testing.assert_array_equal(rotate(x, pos, f), one)
    np.testing.assert_array_equal(rotate(x[0], np.arange(5), f), one[0])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_inputs_are_turned_in_float32(dtype):
    x, pos, f = normal(1, 4, 2, 8, dtype=dtype), jnp.asarray([0, 257, 1001, 4097]), rope.inv_freq(8)
    for turn in (lambda x: rotate(x, pos, f), lambda x: xpos(x, pos, f, of="k")):
        assert turn(x).dtype == dtype
        np.testing.assert_array_equal(turn(x), turn(x.astype(jnp.float32)).astype(dtype))


def test_every_row_may_have_frequencies_of_its_own():
    x, f = jnp.asarray(normal(3, 5, 2, 8)), jnp.stack([rope.inv_freq(8, base) for base in (10.0, 100.0, 1e4)])
    for pos in (np.arange(5), np.arange(5)[None], np.arange(15).reshape(3, 5)):
        own = np.broadcast_to(pos, (3, 5))
        want = np.concatenate([rotate(x[i:i + 1], own[i:i + 1], f[i]) for i in range(3)])
        np.testing.assert_allclose(rotate(x, pos, f), want, **TIGHT)
    for y, g in ((x, f[:2]), (x[0], f), (x[None], f)):
        with pytest.raises(ValueError, match="frequencies .* do not fit x"):
            rope.rotate(y, np.arange(5), g)


def test_rotate_refuses():
    x, f = normal(2, 5, 1, 8), rope.inv_freq(8)
    with pytest.raises(ValueError, match="'neox'.*half, interleaved"):
        rope.rotate(x, np.arange(5), f, layout="neox")
    with pytest.raises(ValueError, match="8 frequencies turn 16 numbers, but a head has 8"):
        rope.rotate(x, np.arange(5), rope.inv_freq(16))
    for pos in (np.arange(4), np.arange(1), np.zeros((2, 1), int), np.zeros((3, 5), int), np.zeros((1, 2, 5, 1), int), np.int32(3)):
        with pytest.raises(ValueError, match="do not fit"):
            rope.rotate(x, pos, f)


@pytest.mark.parametrize("layout", rope.LAYOUTS)
def test_gradient_is_the_rotation_back(layout):
    # rotation is orthogonal: pulling the rotated vector back gives the vector
    x, pos, f = normal(1, 6, 2, 8), np.arange(6) * 50, rope.inv_freq(8)
    y, back = jax.vjp(lambda x: rotate(x, pos, f, layout=layout), x)
    np.testing.assert_allclose(back(y)[0], x, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- xPos

@partial(jax.jit, static_argnames=("scale_base", "center", "layout"))
def xpos_scores(q, k, pos, **kwargs):
    f = rope.inv_freq(q.shape[-1])
    return jnp.einsum("bthk,bshk->bhts", xpos(q, pos, f, of="q", **kwargs), xpos(k, pos, f, of="k", **kwargs))


@pytest.mark.parametrize("delta, wanted", [(64, [.85505, .908549, .946268, .975711]), (512, [.285714, .464286, .642857, .821429])])
def test_xpos_decay_values(delta, wanted):
    # float64, head_dim 8: a score of equal vectors in plane k is cos(delta theta_k) * zeta_k^(delta / 512)
    f = rope.inv_freq(8)
    for k in range(4):
        x = jnp.zeros((1, 2, 1, 8)).at[..., 2 * k].set(1.0)
        score = xpos_scores(x, x, np.array([0, delta]))[0, 0, 1, 0]
        np.testing.assert_allclose(score, np.cos(delta * float(f[k])) * wanted[k], atol=2e-5)


def test_xpos_scores_depend_on_the_difference_only_and_not_on_center():
    q, k, pos = normal(1, 8, 2, 16), normal(1, 8, 2, 16, seed=1), np.arange(8) * 40
    base = xpos_scores(q, k, pos)
    for other in (xpos_scores(q, k, pos + 300), xpos_scores(q, k, pos, center=160), xpos_scores(q, k, pos, layout="interleaved")):
        np.testing.assert_allclose(other, base, atol=1e-3)
    for changed in (xpos_scores(q, k, pos, layout="half"), xpos_scores(q, k, pos, scale_base=64.0)):
        assert abs(changed - base).max() > 0.1
    assert abs(xpos(q, pos, rope.inv_freq(16), of="q", center=160) - xpos(q, pos, rope.inv_freq(16), of="q")).max() > 0.1


def test_xpos_says_where_float16_ends():
    x, f = jnp.ones((1, 2, 1, 8), jnp.float16), rope.inv_freq(8)
    near = [rope.xpos(x, np.array([-4_000, 4_000]), f, of=of) for of in "qk"]
    assert all(np.isfinite(y).all() and (y != 0).any(-1).all() for y in near)
    for of in "qk":
        with pytest.raises(ValueError, match="5000 is more than .* float16 would overflow"):
            rope.xpos(x, np.array([0, 5_000]), f, of=of)
        assert np.isnan(jax.jit(lambda pos: rope.xpos(x, pos, f, of=of))(jnp.asarray([0, 5_000]))[:, 1]).all()


def test_xpos_is_rope_when_nothing_decays():
    q, pos, f = normal(1, 8, 2, 16), np.arange(8), rope.inv_freq(16)
    for of in "qk":
        np.testing.assert_allclose(xpos(q, pos, f, of=of, scale_base=1e9), rotate(q, pos, f, layout="interleaved"), **TIGHT)


def test_xpos_says_where_float32_ends():
    x, f = normal(1, 2, 1, 8), rope.inv_freq(8)
    for of in "qk":
        assert np.isfinite(rope.xpos(x, np.array([-32_000, 32_000]), f, of=of)).all()
        with pytest.raises(ValueError, match="40000 .* center 0"):
            rope.xpos(x, np.array([0, 40_000]), f, of=of)
        traced = jax.jit(lambda pos: rope.xpos(x, pos, f, of=of))(jnp.asarray([0, 40_000]))
        assert np.isfinite(traced[:, 0]).all() and np.isnan(traced[:, 1]).all()
        assert np.isfinite(rope.xpos(x, np.array([1_000_000, 1_000_001]), f, of=of, center=1_000_000)).all()
    with pytest.raises(ValueError, match="do not fit"):
        rope.xpos(x, np.zeros((3, 2), int), f, of="q")
    with pytest.raises(ValueError, match="'v'"):
        rope.xpos(x, np.arange(2), f, of="v")
