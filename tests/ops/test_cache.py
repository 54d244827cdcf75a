"""The cache: whatever the stream is split into, the same keys at the same slots, and attention over it equals the whole pass."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops.attention import attend
from lcref.ops.cache import EMPTY, FullCache, RingCache
from lcref.ops.masks import causal, sinks, window
from lcref.ops.weights import LogN
from tests.tolerances import assert_close

B, G, K, V, T = 2, 2, 3, 5, 12


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)             # numpy: a slice of it compiles nothing


k, v = normal(B, T, G, K, seed=1), normal(B, T, G, V, seed=2)
extend = jax.jit(lambda cache, k, v: cache.extend(k, v))   # one compile per number of new tokens

SPLITS = [(12,), (1,) * 12, (5, 7), (7, 5), (1, 5, 1, 5), (5, 1, 1, 5), (7, 1, 1, 1, 1, 1)]
RINGS = [(4, 0), (4, 2), (1, 1), (3, 6), (16, 0)]         # window, sinks; also a window longer than the stream


def pieces(split):
    ends = np.cumsum(split)
    assert ends[-1] == T
    return [slice(e - n, e) for n, e in zip(split, ends)]


@pytest.mark.parametrize("split", SPLITS, ids=repr)
@pytest.mark.parametrize("length", [T, T + 4])
def test_full_cache_holds_every_token_at_its_slot(split, length):
    cache = FullCache.create(B, length, G, K, V)
    for now in pieces(split):
        k_all, v_all, slots, cache = extend(cache, k[:, now], v[:, now])
        assert cache.cursor == now.stop and k_all.shape == (B, length, G, K) and v_all.shape == (B, length, G, V)
        np.testing.assert_array_equal(slots, np.arange(length))
        np.testing.assert_array_equal(np.asarray(k_all)[:, :now.stop], k[:, :now.stop])
        np.testing.assert_array_equal(np.asarray(v_all)[:, :now.stop], v[:, :now.stop])


@pytest.mark.parametrize("split", SPLITS, ids=repr)
@pytest.mark.parametrize("size", RINGS, ids=repr)
def test_ring_cache_holds_the_sinks_and_the_window(split, size):
    """Every slot that is handed out carries its own key, none twice, and all that any new query may see are there."""
    wide, first = size
    cache = RingCache.create(B, wide, first, G, K, V)
    for now in pieces(split):
        k_all, v_all, slots, cache = extend(cache, k[:, now], v[:, now])
        slots = np.asarray(slots)
        held = slots != EMPTY
        assert k_all.shape[1] == len(slots) <= wide + first + now.stop - now.start
        assert len(set(slots[held])) == held.sum() and set(slots[held]) <= set(range(now.stop))
        assert set(range(min(first, now.stop))) | set(range(max(0, now.start - wide + 1), now.stop)) <= set(slots[held])
        np.testing.assert_array_equal(np.asarray(k_all)[:, held], k[:, slots[held]])
        np.testing.assert_array_equal(np.asarray(v_all)[:, held], v[:, slots[held]])
        assert cache.cursor == now.stop and cache.k.shape == (B, wide + first, G, K)


def test_ring_memory_does_not_grow():
    shapes = jax.tree.map(lambda x: x.shape, RingCache.create(B, 4, 2, G, K, V))
    assert jax.tree.map(lambda x: x.shape, extend(RingCache.create(B, 4, 2, G, K, V), k, v)[3]) == shapes


MASK = causal() & (window(4) | sinks(2))
CACHES = {"full": lambda dtype=jnp.float32: FullCache.create(B, T + 3, G, K, V, dtype),
          "ring": lambda dtype=jnp.float32: RingCache.create(B, 4, 2, G, K, V, dtype)}
step = jax.jit(lambda q, k, v, slots, q_pos: attend(q, k, v, mask=MASK, weights=LogN(3.0), q_pos=q_pos, k_pos=slots))
whole = jax.jit(lambda q, k, v: attend(q, k, v, mask=MASK, weights=LogN(3.0)))


@pytest.mark.parametrize("split", [(12,), (1,) * 12, (5, 7), (5, 1, 1, 5)], ids=repr)
@pytest.mark.parametrize("name", CACHES)
def test_attention_over_the_cache_equals_the_whole_pass(name, split):
    """With log-n weights, so that a slot too many or too few shows in every weight."""
    q, outs, cache = normal(B, T, 4, K, seed=3), [], CACHES[name]()
    for now in pieces(split):
        q_pos = np.arange(now.start, now.stop, dtype=np.int32)
        *kv, cache = extend(cache, k[:, now], v[:, now])
        outs.append(step(q[:, now], *kv, q_pos))
    assert_close(np.concatenate(outs, 1), whole(q, k, v))


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_is_a_value(name):
    """It can be the carry of a scan, and extending it leaves the old one as it was."""
    def one(cache, kv):
        return cache.extend(*(x[:, None] for x in kv))[3], None
    start = extend(CACHES[name](), k[:, :5], v[:, :5])[3]
    before = jax.tree.map(np.array, start)
    scanned = jax.lax.scan(one, start, (k[:, 5:].swapaxes(0, 1), v[:, 5:].swapaxes(0, 1)))[0]
    assert_close(scanned, extend(start, k[:, 5:], v[:, 5:])[3])
    assert_close(jax.tree.map(np.array, start), before)


@pytest.mark.parametrize("name", CACHES)
def test_storage_type(name):
    k_all, v_all, slots, cache = extend(CACHES[name](jnp.bfloat16), k, v)
    assert {x.dtype for x in (k_all, v_all, cache.k, cache.v)} == {jnp.dtype(jnp.bfloat16)} and cache.cursor.dtype == jnp.int32
    held = np.asarray(slots) < T
    assert_close(np.asarray(k_all)[:, held], k[:, np.asarray(slots)[held]], "bfloat16")


# ---------------------------------------------------------------------------------------------------- past the end

def test_full_cache_raises_past_the_end():
    cache = FullCache.create(B, 10, G, K, V)
    with pytest.raises(ValueError, match="holds 10 tokens; 0 are in it and 12 more were given"):
        cache.extend(k, v)
    cache = cache.extend(k[:, :8], v[:, :8])[3]
    cache.extend(k[:, :2], v[:, :2])                       # exactly full is fine
    with pytest.raises(ValueError, match="holds 10 tokens; 8 are in it and 3 more were given"):
        cache.extend(k[:, :3], v[:, :3])


def test_full_cache_turns_to_nan_where_nothing_can_be_raised():
    cache = extend(FullCache.create(B, 10, G, K, V), k[:, :8], v[:, :8])[3]
    full, past = extend(cache, k[:, 8:10], v[:, 8:10]), extend(cache, k[:, 8:11], v[:, 8:11])
    assert np.isfinite(full[1]).all() and np.isnan(past[1]).all()
    assert np.isnan(extend(past[3], k[:, :1], v[:, :1])[1]).all()                    # and stays so
    out = step(normal(B, 3, 4, K), *past[:3], np.arange(8, 11, dtype=np.int32))
    assert np.isnan(out).all()


def test_more_tokens_than_the_cache_has_slots_raise_under_jit_too():
    with pytest.raises(ValueError, match="holds 10 tokens.* 12 more were given"):
        extend(FullCache.create(B, 10, G, K, V), k, v)


@pytest.mark.parametrize("name", CACHES)
@pytest.mark.parametrize("bad", [
    (k[:1, :4], v[:1, :4]), (k[:, :4, :1], v[:, :4, :1]), (k[:, :4, :, :2], v[:, :4]), (k[:, :4], v[:, :4, :, :2]), (k[:, :4], v[:, :3]),
], ids=["batch", "heads", "k width", "v width", "tokens"])
def test_tokens_of_another_shape_are_refused(name, bad):
    """A slice update would write a part of a row and say nothing."""
    with pytest.raises(ValueError, match="do not fit a cache of"):
        CACHES[name]().extend(*bad)
