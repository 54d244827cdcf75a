"""The mask algebra: the element answer is the definition, tile answers must be sound, and exact where a tiled loop relies on it."""
from itertools import combinations_with_replacement, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcref.ops.attention import attend, attend_chunked
from lcref.ops.masks import Causal, Mask, causal, everything, prefix, segments, sinks, window
from tests.compiling import compilations

N = 8                                                      # the grid: slots 0..7, every rectangle of it
PACKED = np.array([1, 1, 1, 2, 3, 3, 3, 3])
PADDED = np.array([1, 1, 2, 2, 2, 3, 0, 0])
MIXED = np.array([2, 0, 1, 2, 2, 0, 3, 1])                 # ids need not be sorted
ROWS = np.stack([PACKED, PADDED])

# name -> mask whose tile answers are exact on every rectangle
EXACT = {
    "causal": causal(), "window 1": window(1), "window 3": window(3), "window long": window(50), "sinks 2": sinks(2), "sinks long": sinks(50),
    "prefix 3": prefix(3), "everything": everything(), "packed": segments(PACKED, PACKED),
    "sliding": causal() & window(3), "not causal": ~causal(), "not window": ~window(3), "not prefix": ~prefix(3),
    "not everything": ~everything(), "not not causal": ~~causal(), "causal sinks": causal() & sinks(2),
}
# name -> mask whose tile answers are sound, and may be cautious
SOUND = {
    "padded": segments(PADDED, PADDED), "mixed": segments(MIXED, MIXED), "two texts": segments(PACKED, MIXED), "rows": segments(ROWS, ROWS),
    "rows mixed": segments(ROWS, np.stack([MIXED, PACKED])), "only padding": segments(0 * PACKED, 0 * PACKED),
    "lambda": causal() & (window(2) | sinks(2)), "prefix lm": prefix(3) | causal(), "documents": causal() & segments(PADDED, PADDED),
    "documents of rows": causal() & window(3) & segments(ROWS, ROWS), "not documents": ~segments(PADDED, PADDED),
    "not rows": ~segments(ROWS, ROWS), "other documents or past": ~segments(ROWS, ROWS) | causal(), "nothing": causal() & ~causal(),
    "all": causal() | ~causal(), "far": causal() & ~window(3), "band": ~window(2) & window(5), "deep": ~(~(causal() & window(4)) | prefix(2)),
    "two packings": segments(PACKED, PACKED) | segments(ROWS, ROWS), "two axes": prefix(6) & sinks(3) | ~causal() & ~sinks(6),
}
MASKS = EXACT | SOUND


def whole(mask):
    """[B,N,N] answers for the grid, from the element answer."""
    return np.asarray(mask(np.arange(N), np.arange(N))).reshape(-1, N, N)


def rectangles():
    return product(combinations_with_replacement(range(N), 2), repeat=2)


def check_sound(mask, exact=False):
    seen = whole(mask)
    for (q_lo, q_hi), (k_lo, k_hi) in rectangles():
        answer, pairs = mask.tile(q_lo, q_hi, k_lo, k_hi), seen[:, q_lo:q_hi + 1, k_lo:k_hi + 1]
        truth = "all" if pairs.all() else "some" if pairs.any() else "none"
        assert answer == truth or answer == "some" and not exact, f"q {q_lo}..{q_hi}, k {k_lo}..{k_hi}: {answer}, but {truth} is true"


# ---------------------------------------------------------------------------------------------------- elements

@pytest.mark.parametrize("mask, visible", [
    (causal(), lambda q, k: k <= q), (window(3), lambda q, k: q - k <= 2), (sinks(2), lambda q, k: k in (0, 1)),
    (prefix(3), lambda q, k: max(q, k) < 3), (everything(), lambda q, k: True),
    (segments(MIXED, PADDED), lambda q, k: MIXED[q] == PADDED[k] != 0),
    (causal() & (window(2) | sinks(1)), lambda q, k: k == q or k == q - 1 or 0 == k <= q),
    (prefix(3) | causal(), lambda q, k: k <= q or k < 3 and q < 3), (~causal(), lambda q, k: k > q),
], ids=lambda x: type(x).__name__)
def test_which_pairs_are_visible(mask, visible):
    want = [[visible(q, k) for k in range(N)] for q in range(N)]
    got = mask(np.arange(N), np.arange(N))
    assert got.dtype == bool
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", MASKS)
def test_any_slots_may_be_asked_about(name):
    """Slots out of order, other lengths, one per row, numpy or jax: each a selection from the whole answer."""
    mask, rng = MASKS[name], np.random.default_rng(0)
    seen = np.broadcast_to(whole(mask), (2, N, N))
    q, k = rng.integers(0, N, (2, 5)), rng.integers(0, N, (2, 3))
    batched = np.stack([seen[b][np.ix_(q[b], k[b])] for b in range(2)])
    np.testing.assert_array_equal(mask(q, k), batched)
    np.testing.assert_array_equal(mask(jnp.asarray(q), jnp.asarray(k)), batched)
    one = np.asarray(mask(q[0], k[0]))
    assert one.shape[-2:] == (5, 3)
    np.testing.assert_array_equal(np.broadcast_to(one, (2, 5, 3)), np.stack([s[np.ix_(q[0], k[0])] for s in seen]))
    np.testing.assert_array_equal(np.broadcast_to(mask(q, k[0]), (2, 5, 3)), np.stack([seen[b][np.ix_(q[b], k[0])] for b in range(2)]))


def test_padding_sees_nothing_and_is_seen_by_nothing():
    seen = whole(segments(PADDED, PADDED))[0]
    assert not seen[PADDED == 0].any() and not seen[:, PADDED == 0].any() and seen[PADDED != 0].any(1).all()


# ---------------------------------------------------------------------------------------------------- tiles

@pytest.mark.parametrize("name", EXACT)
def test_tile_is_exact_on_every_rectangle(name):
    check_sound(EXACT[name], exact=True)


@pytest.mark.parametrize("name", SOUND)
def test_tile_is_sound_on_every_rectangle(name):
    check_sound(SOUND[name])


def test_a_mask_that_only_defines_its_elements_is_sound():
    class Even(Mask):
        def __call__(self, q_pos, k_pos):
            return everything()(q_pos, k_pos) & (jnp.asarray(k_pos) % 2 == 0)[None, :]
    check_sound(Even())
    check_sound(~Even() & causal())


@pytest.mark.parametrize("mask, none, some", [(causal(), 120, 16), (causal() & window(256), 211, 30), (everything(), 0, 0)])
def test_how_many_tiles_are_skipped(mask, none, some):
    """2048 slots in tiles of 128: causal has 136 live tiles of 256, the 16 on the diagonal partial; a window of 256 leaves 45."""
    edges = range(0, 2048, 128)
    answers = [mask.tile(q, q + 127, k, k + 127) for q, k in product(edges, edges)]
    assert (answers.count("none"), answers.count("some"), answers.count("all")) == (none, some, 256 - none - some)


def test_packed_documents_skip_each_other():
    ids = np.repeat([1, 2, 3, 4], 64)
    answers = [segments(ids, ids).tile(q, q + 63, k, k + 63) for q, k in product(range(0, 256, 64), repeat=2)]
    assert answers.count("all") == 4 and answers.count("none") == 12
    other = np.stack([ids, np.repeat([1, 2, 3, 4, 5], [32, 64, 64, 64, 32])])           # skipped only where every row agrees
    assert segments(other, other).tile(0, 63, 64, 127) == "some" and segments(other, other).tile(0, 63, 128, 191) == "none"


# ---------------------------------------------------------------------------------------------------- the algebra

ids = st.lists(st.integers(0, 3), min_size=N, max_size=N)
leaves = st.one_of(st.just(causal()), st.just(everything()), st.integers(1, N + 1).map(window), st.integers(1, N + 1).map(sinks),
                   st.integers(1, N + 1).map(prefix), st.tuples(ids, ids).map(lambda two: segments(*two)),
                   st.lists(ids, min_size=2, max_size=2).map(lambda rows: segments(rows, rows)))
any_mask = st.recursive(leaves, lambda inner: st.one_of(
    inner.map(lambda a: ~a), st.builds(lambda a, b: a & b, inner, inner), st.builds(lambda a, b: a | b, inner, inner)), max_leaves=5)


@settings(max_examples=25)
@given(any_mask)
def test_any_composition_is_sound(mask):
    check_sound(mask)


@settings(max_examples=25)
@given(any_mask, any_mask, any_mask)
def test_laws(a, b, c):
    def same(x, y):
        x, y = np.broadcast_arrays(whole(x), whole(y))
        np.testing.assert_array_equal(x, y)
    same(~(a & b), ~a | ~b)
    same(~(a | b), ~a & ~b)
    same(a & (b | c), a & b | a & c)
    same(a | a & b, a)
    same(~~a, a)
    same(a & b, b & a)
    same(a | b, b | a)
    same(a & everything(), a)
    same(a | ~a, everything())
    x, y, z = np.broadcast_arrays(whole(a), whole(b), whole(a & b))
    np.testing.assert_array_equal(z, x & y)
    x, y, z = np.broadcast_arrays(whole(a), whole(b), whole(a | b))
    np.testing.assert_array_equal(z, x | y)


# ---------------------------------------------------------------------------------------------------- pytrees

def test_masks_pass_through_jit_and_vmap():
    mask = causal() & segments(ROWS, ROWS)
    want = whole(mask)
    np.testing.assert_array_equal(jax.jit(lambda m, q, k: m(q, k))(mask, jnp.arange(N), jnp.arange(N)), want)
    np.testing.assert_array_equal(jax.vmap(lambda m: m(jnp.arange(N), jnp.arange(N)))(mask), want)          # one mask per row
    np.testing.assert_array_equal(jax.vmap(lambda q: mask(q, jnp.arange(N)), out_axes=2)(jnp.arange(N)[:, None])[:, 0], want)
    np.testing.assert_array_equal(jax.lax.scan(lambda m, q: (m, m(q, jnp.arange(N))), mask, jnp.arange(N)[:, None])[1][:, :, 0].swapaxes(0, 1), want)


def test_ids_known_only_at_run_time_are_never_skipped():
    answers = []

    @jax.jit
    def f(mask):
        answers.append((mask.tile(0, 2, 3, 7), mask.tile(5, 6, 0, 1), (mask & causal()).tile(0, 2, 3, 7)))
        return mask(jnp.arange(N), jnp.arange(N))
    f(segments(PACKED, PACKED))
    f(segments(MIXED, MIXED))                              # other ids, same program
    assert answers == [("some", "some", "none")]
    np.testing.assert_array_equal(f(segments(MIXED, MIXED)), whole(segments(MIXED, MIXED))[0])


def test_numbers_are_static_and_ids_are_not():
    f = jax.jit(lambda m: m(jnp.arange(N), jnp.arange(N)))
    with compilations() as programs:
        for mask in (window(3), window(3), segments(PACKED, PACKED), segments(MIXED, MIXED)):
            f(mask)
        assert programs.count("<lambda>") == 2
        np.testing.assert_array_equal(f(window(4)), whole(window(4))[0])
        assert programs.count("<lambda>") == 3
    assert len(jax.tree.leaves(causal() & window(3) | ~segments(PACKED, PACKED))) == 2


# ---------------------------------------------------------------------------------------------------- wrong input

@pytest.mark.parametrize("make", [window, sinks, prefix])
@pytest.mark.parametrize("n", [0, -1, 2.5, "3", None])
def test_lengths_are_positive_integers(make, n):
    with pytest.raises(ValueError, match=f"{make.__name__}.*integer n >= 1.*{n!r}"):
        make(n)


def test_numpy_integers_are_lengths_too():
    np.testing.assert_array_equal(whole(window(np.int64(3))), whole(window(3)))


@pytest.mark.parametrize("shapes", [((4,), (2, 4)), ((2, 4), (4,)), ((), ()), ((1, 2, 4), (1, 2, 4))])
def test_segments_of_unlike_rank(shapes):
    with pytest.raises(ValueError, match=r"segments takes ids \[T\], \[S\] or \[B,T\], \[B,S\]"):
        segments(*(np.ones(s, int) for s in shapes))


@pytest.mark.parametrize("other", [True, np.ones((2, 2), bool), Causal])
def test_masks_combine_with_masks_only(other):
    for combine in (lambda: causal() & other, lambda: causal() | other):
        with pytest.raises(TypeError, match="masks combine with masks"):
            combine()


def test_a_negative_slot_has_no_document():
    ids = np.array([1, 1, 2])
    with pytest.raises(ValueError, match="slots 0 and up, and slot -1 is asked about"):
        segments(ids, ids)(np.array([-1, 0]), np.arange(3))
    traced = jax.jit(lambda slots: segments(ids, ids)(slots, np.arange(3)))(np.array([-1, 0]))
    np.testing.assert_array_equal(traced, [[False] * 3, [True, True, False]])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_narrow_slots_find_their_document(dtype):
    """In rows longer than the type counts."""
    ids, slots = 1 + np.arange(40_000) // 2, np.arange(4)
    for ask in (segments(ids, ids), jax.jit(lambda q, k: segments(ids, ids)(q, k))):
        np.testing.assert_array_equal(ask(slots.astype(dtype), slots.astype(dtype)), slots[:, None] // 2 == slots[None] // 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint32])
def test_unsigned_slots_are_numbers_like_others(dtype):
    slots = np.arange(6)
    for mask in (window(2), ~window(2), causal() & window(2), sinks(1) | window(3)):
        np.testing.assert_array_equal(mask(slots.astype(dtype), slots.astype(dtype)), mask(slots, slots))


@pytest.mark.parametrize("form", [attend, attend_chunked])
def test_slots_without_a_document_are_refused(form):
    x = jnp.ones((1, 8, 1, 4))
    ids = np.array([1, 1, 2, 2, 2])
    with pytest.raises(ValueError, match="segments have ids for 5 slots, and slot 7 is asked about"):
        form(x, x, x, mask=causal() & segments(ids, ids))
    with pytest.raises(ValueError, match="segments have ids for 5 slots, and slot 7 is asked about"):
        form(x, x, x, mask=segments(np.ones(5, int), np.ones(5, int)))                   # one tile, in which all that has an id is seen
    traced = jax.jit(lambda slots: causal()(slots, slots) & segments(ids, ids)(slots, slots))(np.arange(8))
    assert not traced[5:].any() and not traced[:, 5:].any(), "where that is not known, they see nothing and nobody sees them"
