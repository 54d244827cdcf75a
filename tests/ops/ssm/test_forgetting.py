"""What keeps a state within bounds: each against its formula, packed and in pieces as in one, finite, and where the formula costs digits."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops.ssm.forgetting import MITIGATIONS, CapState, ForgetMore, Recent, RecentOnly, recent_banded, recent_recurrent
from lcref.ops.ssm.ssd import FORMS, ssd_chunked, ssd_recurrent
from tests.compiling import quick
from tests.ops.ssm.test_ssd import G, H, N, P, gradients, inputs, numpy_ssd
from tests.tolerances import assert_close

REMEDIES = {"forget_more": ForgetMore(1.5, 0.7), "cap_state": CapState(1.0), "recent_only": RecentOnly(7)}


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def row(T, **kwargs):
    x = inputs(T, **kwargs)
    x.pop("initial_state")
    return x


def apply(remedy, x, form=ssd_chunked, **kwargs):
    return quick(lambda x: remedy(form, **x, chunk=5, **kwargs))(x)


def cut(x, first, last):
    return {name: value[:, first:last] if name in ("x", "dt", "B", "C") else value for name, value in x.items()}


# ------------------------------------------------------------------------------------------------------------- the formulas

@pytest.mark.parametrize("form", FORMS)
def test_forgetting_more(form):
    """Every decay exp(dt A) to the power 1.5, every write times 0.7."""
    x = inputs(9)
    want = numpy_ssd(**x | dict(B=0.7 * x["B"]), decay=lambda a: np.exp(a) ** 1.5)
    start = x.pop("initial_state")
    assert_close(apply(ForgetMore(1.5, 0.7), x, FORMS[form], initial_state=start), want)


def test_a_capped_state():
    """Token by token in numpy: never above the norm, and untouched below it."""
    x, p = row(20), 1.0
    z = {name: np.asarray(value, np.float64) for name, value in x.items()}
    h, want, capped = np.zeros((2, H, P, N)), np.zeros(z["x"].shape), 0
    for b, t, head in np.ndindex(z["x"].shape[:3]):
        group = head // (H // G)
        new = np.exp(z["dt"][b, t, head] * z["A"][head]) * h[b, head] + z["dt"][b, t, head] * np.outer(z["x"][b, t, head], z["B"][b, t, group])
        size = np.linalg.norm(new)
        capped += size > p
        h[b, head] = new * min(1.0, p / size)
        want[b, t, head] = h[b, head] @ z["C"][b, t, group] + z["D"][head] * z["x"][b, t, head]
    assert 10 < capped < 140
    assert_close(apply(CapState(p), x), (want, h))
    assert_close(apply(CapState(1e9), x), quick(lambda x: ssd_recurrent(**x))(x))


@pytest.mark.parametrize("window", [1, 2, 7, 23, 40])
def test_only_recent_tokens(window):
    """The difference of two states is the recurrence begun anew `window` tokens ago, and so is the band."""
    x = row(23)
    padded = {name: jnp.pad(value, [(0, 0), (window, 0)] + [(0, 0)] * (value.ndim - 2)) if value.ndim > 1 else value for name, value in x.items()}
    again = quick(lambda x: ssd_recurrent(**x)[0][:, -1])                  # tokens of dt = 0 neither write nor decay
    want = np.stack([again(cut(padded, t + 1, t + 1 + window)) for t in range(23)], 1)
    assert_close(quick(lambda x: recent_recurrent(**x, window=window))(x), want)
    assert_close(quick(lambda x: recent_banded(**x, window=window)[0])(x), want)


def test_the_bands_gradients_are_those_of_the_difference():
    x = row(23)
    for got, want in zip(*(gradients(form, x, window=7) for form in (lambda **x: recent_banded(**x)[0], recent_recurrent))):
        assert_close(got, want)


def test_where_the_difference_loses_digits():
    """A hundred thousand tokens that nothing forgets: the state is large, what the last 8 wrote is small. The band does not notice."""
    T, one = 100_000, jnp.ones((1, 1, 1, 1))
    x = dict(x=jnp.broadcast_to(one, (1, T, 1, 1)), dt=jnp.full((1, T, 1), 0.1), A=jnp.asarray([-1e-9]), B=jnp.broadcast_to(one, (1, T, 1, 1)),
             C=jnp.broadcast_to(one, (1, T, 1, 1)))
    band = quick(lambda x: recent_banded(**x, window=8)[0])(x)
    difference = quick(lambda x: recent_recurrent(**x, window=8))(x)
    assert_close(band[0, 8:, 0, 0], np.full(T - 8, 0.8))
    assert np.abs(np.asarray(difference[0, -1000:, 0, 0]) - 0.8).max() > 1e-3


@pytest.mark.parametrize("A, at_most", [(-1.0, 1e-4), (-16.0, 1e-3)])
def test_where_the_band_loses_digits(A, at_most):
    """Its running sum goes over two windows: where much decays the difference is the better one. Reference: the state, float64, all of it recent."""
    x = row(512, batch=1, H=1, G=1)
    x = x | dict(dt=jnp.asarray(np.log1p(np.exp(np.random.default_rng(0).normal(size=(1, 512, 1)))), jnp.float32), A=jnp.asarray([A]), D=jnp.zeros(1))
    want = numpy_ssd(**x, initial_state=np.zeros((1, 1, P, N)))[0]
    off = lambda y: (np.abs(y - want).max(-1) / np.abs(want).max(-1)).max()
    band, difference = off(quick(lambda x: recent_banded(**x, window=256)[0])(x)), off(quick(lambda x: recent_recurrent(**x, window=256))(x))
    assert difference < band < at_most


# ---------------------------------------------------------------------------------------------------------- every one of them

@pytest.mark.parametrize("name", MITIGATIONS)
def test_pieces_are_the_whole(name):
    remedy, x = REMEDIES[name], row(23)
    whole, state, outputs = apply(remedy, x), remedy.init_state(2, H, P, G, N), []
    for first, last in ((0, 5), (5, 6), (6, 7), (7, 20), (20, 23)):
        y, state = apply(remedy, cut(x, first, last), initial_state=state)
        outputs.append(y)
    assert_close((jnp.concatenate(outputs, 1), state), whole)


@pytest.mark.parametrize("name", MITIGATIONS)
def test_packed_is_separate(name):
    remedy, x = REMEDIES[name], row(23)
    y, state = apply(remedy, x, segments=np.array([[1] * 4 + [2] * 10 + [3] * 9] * 2))
    apart = [apply(remedy, cut(x, first, last)) for first, last in ((0, 4), (4, 14), (14, 23))]
    assert_close(y, jnp.concatenate([each for each, _ in apart], 1))
    assert_close(state, apart[-1][1])


@pytest.mark.parametrize("name", MITIGATIONS)
def test_extreme_inputs_stay_finite(name):
    x = row(200) | dict(dt=jnp.asarray(10.0 ** np.random.default_rng(0).uniform(-8, 4, (2, 200, H)), jnp.float32))
    for leaf in jax.tree.leaves(gradients(lambda **x: REMEDIES[name](ssd_chunked, **x), x)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("name", MITIGATIONS)
def test_output_and_state_have_their_types(name):
    y, state = apply(REMEDIES[name], row(9, dtype=jnp.bfloat16))
    assert y.dtype == jnp.bfloat16 and {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, REMEDIES[name].init_state(2, H, P, G, N))
    assert isinstance(state, Recent) == (name == "recent_only")


@pytest.mark.parametrize("make, words", [
    (lambda: ForgetMore(decay=0.5), "decay >= 1 and 0 < write <= 1; got 0.5 and 1.0"),
    (lambda: ForgetMore(write=0.0), "got 1.1 and 0.0"),
    (lambda: CapState(0.0), "norm must be positive, got 0.0"),
    (lambda: RecentOnly(0), "window must be a whole number >= 1, got 0"),
    (lambda: RecentOnly(2.5), "window must be a whole number >= 1, got 2.5"),
])
def test_wrong_settings(make, words):
    with pytest.raises(ValueError, match=words):
        make()
