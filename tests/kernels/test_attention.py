"""The door: every implementation is the same function, chosen by name, and refuses what it cannot do."""
import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.kernels import attention as door
from lcref.kernels import flash_gpu, flash_tpu
from lcref.kernels.attention import IMPLEMENTATIONS, SMALL, WHY_NOT, dot_product_attention, pick
from lcref.nn.mixers.attention import AttentionConfig
from lcref.ops import masks
from lcref.ops.attention import attend
from lcref.ops.bias import alibi
from lcref.ops.weights import WEIGHTS, LogN, Lssa, Lssar, Tempered, softmax
from tests.compiling import quick
from tests.tolerances import assert_close

B, H, G, K, V = 2, 4, 2, 8, 6
# what runs on any machine; what the others are handed is asked at the end of this file, and their kernels have files of their own
ANYWHERE = [name for name in IMPLEMENTATIONS if name in ("dense", "chunked")]


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def inputs(T=40, S=40):
    return dict(q=normal(B, T, H, K, seed=1), k=normal(B, S, G, K, seed=2), v=normal(B, S, G, V, seed=3))


IDS = np.stack([np.repeat([1, 2], [25, 15]), np.repeat([1, 2, 0], [10, 20, 10])])
CASES = {
    "plain": dict(),
    "causal": dict(mask=masks.causal(), scale=0.5, soft_cap=2.0),
    "bias": dict(mask=masks.causal() & masks.window(9), bias=normal(H, 40, 40, seed=4), weights=LogN(8.0)),
    "slopes": dict(mask=masks.causal(), slopes=jnp.asarray(alibi.slopes(H)), weights=Tempered(jnp.float32(0.3))),
    "segments": dict(mask=masks.causal(), segments=IDS),
    "slots": dict(mask=masks.causal(), q_pos=np.arange(40) + 3, k_pos=np.arange(40)[::-1].copy(), slopes=jnp.asarray(alibi.slopes(H))),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mask, q_slots", [
    (masks.causal() & masks.window(500), np.arange(1100)), (masks.causal() & masks.window(200) & ~masks.sinks(1), np.arange(1100)),
    (masks.window(300), np.arange(700, 740)), (masks.causal(), np.arange(1099, 1100))], ids=["window 500", "window 200", "some rows", "one row"])
def test_tiles_chosen_by_the_mask_change_nothing(mask, q_slots, dtype):
    """Rows longer than those of the other tests: wide tiles for narrow windows, and streams of few queries. Values and gradients."""
    x = {name: normal(1, n, 2, 4, seed=i).astype(dtype) for i, (name, n) in enumerate(dict(q=len(q_slots), k=1100, v=1100).items())}

    def both(name, x):
        out, back = jax.vjp(lambda x: dot_product_attention(**x, mask=mask, q_pos=q_slots, implementation=name), x)
        return out, back(normal(*out.shape, seed=5).astype(dtype))[0]
    want, got = quick(lambda x: (both("dense", x), both("chunked", x)))(x)
    assert_close(got, want, dtype)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what a CPU cannot do")
@pytest.mark.parametrize("name, reason", [("pallas_tpu", "it runs on TPU, and this is cpu"), ("pallas_gpu", "it runs on NVIDIA's GPUs, and this is cpu"),
                                          ("cudnn", "it runs on NVIDIA's GPUs, and this is cpu")])
def test_a_named_implementation_says_why_not(name, reason):
    with pytest.raises(ValueError, match=f"attention by {name} cannot do this: {reason}"):
        dot_product_attention(**inputs(), implementation=name)


PLAIN = dict(mask=masks.causal(), bias=None, slopes=None, scale=None, soft_cap=None, weights=softmax, q_pos=None, k_pos=None, return_lse=False)


@pytest.mark.parametrize("name, device, change, reason", [
    ("pallas_tpu", "tpu", dict(), None),
    ("pallas_tpu", "tpu", dict(mask=masks.causal() & masks.segments(IDS, IDS), slopes=jnp.ones(H), soft_cap=2.0, return_lse=True), None),
    ("pallas_tpu", "tpu", dict(bias=lambda q, k: q), "takes no bias"),
    ("pallas_tpu", "tpu", dict(weights=LogN(8.0)), "softmax, lssa or lssar, not LogN"),
    ("pallas_tpu", "tpu", dict(q_pos=np.arange(40) + 1), "slots 0, 1, 2"),
    ("pallas_tpu", "tpu", dict(mask=masks.causal() | masks.segments(IDS, IDS)), "one factor of the mask"),
    ("pallas_tpu", "tpu", dict(mask=AttentionConfig(window=8, sinks=2).mask(IDS)), "looks positions up in an array"),
    ("pallas_gpu", "gpu", dict(), None),
    ("pallas_gpu", "gpu", dict(dtype=jnp.float16, mask=masks.segments(IDS, IDS), slopes=jnp.ones(H), soft_cap=2.0, return_lse=True), None),
    ("pallas_gpu", "gpu", dict(bias=lambda q, k: q), "takes no bias"),
    ("pallas_gpu", "gpu", dict(weights=Lssa()), "softmax, not Lssa"),
    ("pallas_gpu", "gpu", dict(q_pos=np.arange(40) + 1), "slots 0, 1, 2"),
    ("pallas_gpu", "gpu", dict(dtype=jnp.int32), "float32, bfloat16 or float16, not int32"),
    ("pallas_gpu", "gpu", dict(K=512), "at most 256 wide, not 512"),
    ("pallas_gpu", "gpu", dict(V=512), "at most 256 wide, not 512"),
    ("pallas_gpu", "gpu", dict(mask=~masks.segments(IDS, IDS)), "one factor of the mask"),
    ("cudnn", "gpu", dict(), "bfloat16 or float16, not float32"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16), None),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, mask=masks.window(5) & masks.causal()), None),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, mask=None), None),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, mask=masks.window(5)), "a row that sees nothing"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, mask=masks.causal() & masks.window(5), S=395), "a row that sees nothing"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, mask=masks.causal() & masks.window(5), S=396), None),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, K=20), "these are 20 and 20 wide"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, K=256), "these are 256 and 256 wide"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, V=32), "and 32 wide"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, return_lse=True), "no bias, slopes, soft cap or log-sum-exp"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, weights=LogN(8.0)), "plain softmax"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, slopes=jnp.ones(H)), "plain softmax"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, soft_cap=2.0), "plain softmax"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, bias=lambda q, k: q), "plain softmax"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, q_pos=np.arange(400) + 1), "slots 0, 1, 2"),
    ("cudnn", "gpu", dict(dtype=jnp.bfloat16, k_pos=np.arange(40)), "slots 0, 1, 2")])
def test_what_each_implementation_takes(name, device, change, reason, monkeypatch):
    """And that where the device's kernel cannot, tiles do it."""
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    call = PLAIN | change
    q = jnp.zeros((B, 400, H, call.pop("K", K)), call.pop("dtype", jnp.float32))
    k = jnp.zeros((B, call.pop("S", 400), *q.shape[2:]), q.dtype)
    v = jnp.zeros((*k.shape[:3], call.pop("V", q.shape[3])), q.dtype)
    found = WHY_NOT[name](q=q, k=k, v=v, **call)
    assert found is None if reason is None else reason in found
    single = device == "gpu" and q.dtype == jnp.float32
    otherwise = "dense" if single else "pallas_gpu" if name == "cudnn" and WHY_NOT["pallas_gpu"](q=q, k=k, v=v, **call) is None else "chunked"
    assert pick(q, k, v, call) == (otherwise if single or reason else name) and pick(q[:, :40], k[:, :40], v[:, :40], call) == "dense"


def test_single_precision_on_a_gpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    at = lambda T: pick(*[jax.ShapeDtypeStruct((1, T, H, K), jnp.float32)] * 3, PLAIN)
    assert (at(1024), at(1025)) == ("dense", "chunked")


def test_what_cudnn_cannot_do_the_other_kernel_does(monkeypatch):
    """And a jax without the backend that it is written for is a reason, not a crash."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    q = jnp.zeros((B, 400, H, K), jnp.bfloat16)
    assert [pick(q, q, q, PLAIN | change) for change in (dict(), dict(soft_cap=2.0), dict(bias=jnp.zeros(1)))] == ["cudnn", "pallas_gpu", "chunked"]
    monkeypatch.setattr(flash_gpu, "triton", None)
    assert pick(q, q, q, PLAIN | dict(soft_cap=2.0)) == "chunked" and "has no more" in WHY_NOT["pallas_gpu"](q=q, k=q, v=q, **PLAIN)


def test_at_least_these_exist():
    assert list(IMPLEMENTATIONS)[:2] == ["dense", "chunked"] == ANYWHERE


@pytest.mark.parametrize("case", CASES)
def test_implementations_agree(case):
    """Output, log-sum-exp and the gradients of both; with and without return_lse."""
    def results(x, name):
        call = lambda x, **kwargs: dot_product_attention(**x, **CASES[case], implementation=name, **kwargs)
        out, back = jax.vjp(lambda x: call(x, return_lse=True), x)
        hidden = jnp.isneginf(out[1])
        grads = back((normal(*out[0].shape, seed=5), jnp.where(hidden, 0.0, normal(*out[1].shape, seed=6))))
        return call(x), out, grads
    x = inputs()
    per_name = quick(lambda x: {name: results(x, name) for name in ANYWHERE})(x)
    for alone, (out, lse), _ in per_name.values():
        assert out.shape == (B, 40, H, V) and lse.shape == (B, H, 40) and lse.dtype == jnp.float32
        np.testing.assert_array_equal(alone, out)
    for name in ANYWHERE[1:]:
        assert_close(per_name[name], per_name["dense"])


def test_slopes_are_alibi():
    x, slopes = inputs(), jnp.linspace(0.1, 2.0, H)

    def both(x, slopes):
        bias = alibi.bias(np.arange(40), np.arange(40), slopes)
        return ([dot_product_attention(**x, mask=masks.causal(), slopes=slopes, implementation=name) for name in ANYWHERE]
                + [dot_product_attention(**x, mask=masks.causal(), bias=bias)])
    *got, want = quick(both)(x, slopes)
    assert_close(got, [want] * len(got))


def test_a_bias_function_is_added_to_the_slopes():
    slopes, extra = jnp.linspace(0.1, 2.0, H), lambda q_pos, k_pos: jnp.where(k_pos % 2 == 0, 0.0, 1.0)[None, None, :]

    def both(x):
        want = attend(**x, bias=alibi.bias(np.arange(40), np.arange(40), slopes) + extra(np.arange(40), np.arange(40)))
        got = [dot_product_attention(**x, slopes=slopes, bias=bias, implementation=name) for name in ANYWHERE
               for bias in (extra, lambda q_pos, k_pos: extra(q_pos, k_pos)[None])]              # [H,T,S], and [B,H,T,S]
        return got, [want] * len(got)
    with jax.numpy_rank_promotion("raise"):
        assert_close(*quick(both)(inputs()))


@pytest.mark.parametrize("mask", [None, masks.causal()], ids=["alone", "causal"])
def test_segments_are_the_packed_mask(mask):
    x, ids = inputs(), jnp.asarray(IDS)
    same = masks.segments(IDS, IDS) if mask is None else mask & masks.segments(IDS, IDS)

    def both(x, ids):
        got = [dot_product_attention(**x, mask=mask, segments=s, implementation=name) for name in ANYWHERE for s in (IDS, ids, (ids, ids))]
        return got, attend(**x, mask=same)
    got, want = quick(both)(x, ids)
    assert_close(got, [want] * len(got))
    assert not np.asarray(want)[1, 30:].any() and np.asarray(want)[0].all()


def test_segments_of_queries_and_keys_may_differ():
    x, pair = inputs(24, 40), (IDS[:, 16:], IDS)
    *got, want = quick(lambda x: [dot_product_attention(**x, segments=pair, implementation=name) for name in ANYWHERE]
                       + [attend(**x, mask=masks.segments(*pair))])(x)
    assert_close(got, [want] * len(got))


@pytest.mark.parametrize("T, chosen", [(128, "dense"), (129, "chunked"), (1, "dense")])
def test_the_default_goes_by_size(T, chosen, monkeypatch):
    asked = []
    for name in ANYWHERE:
        monkeypatch.setitem(IMPLEMENTATIONS, name, lambda *args, name=name, **kwargs: asked.append(name))
    dot_product_attention(**inputs(T, SMALL // 128))
    dot_product_attention(**inputs(T, SMALL // 128), implementation="chunked")
    assert asked == [chosen, "chunked"]


@pytest.mark.parametrize("name", ANYWHERE)
def test_every_argument_reaches_the_implementation(name):
    """Each changes the result: none is accepted and dropped."""
    x, base = inputs(), dict(mask=masks.causal(), weights=LogN(8.0))
    changes = dict(mask=masks.window(3), bias=normal(H, 40, 40), slopes=jnp.ones(H), scale=1.0, soft_cap=0.5, segments=IDS,
                   weights=WEIGHTS["softmax"](), q_pos=np.arange(40) + 5, k_pos=np.arange(40) + 5)
    given = set(inspect.signature(dot_product_attention).parameters) - {"q", "k", "v", "return_lse", "implementation"}
    assert set(changes) == given

    def all_of_them(x):
        call = lambda **kwargs: dot_product_attention(**x, **(base | kwargs), implementation=name)
        return call(), {key: call(**{key: value}) for key, value in changes.items()}
    plain, changed = quick(all_of_them)(x)
    for key, out in changed.items():
        assert np.abs(np.asarray(out) - np.asarray(plain)).max() > 1e-2, f"{key} changes nothing"


# ---------------------------------------------------------------------------------------------------- wrong input

def test_an_unknown_implementation_lists_the_legal_ones():
    with pytest.raises(KeyError, match="unknown implementation 'flash'") as error:
        dot_product_attention(**inputs(), implementation="flash")
    assert all(name in str(error.value) for name in IMPLEMENTATIONS) and "\\n" not in str(error.value)


@pytest.mark.parametrize("change, words", [
    (dict(k=jnp.zeros((B, 40, 3, K)), v=jnp.zeros((B, 40, 3, V))), "3 key heads do not divide 4"),
    (dict(q=jnp.zeros((B, 40, H, K + 1))), "do not fit"),
    (dict(slopes=jnp.ones(H), bias=jnp.zeros((H, 40, 40))), "slopes and a bias array cannot be combined"),
    (dict(slopes=jnp.ones(1)), "one number per query head, 4 in all"),
    (dict(segments=IDS[:, :7]), r"segments \(2, 7\) do not fit 40 queries in 2 rows"),
    (dict(segments=(IDS, IDS[:, :7])), r"segments \(2, 7\) do not fit 40 keys in 2 rows"),
    (dict(segments=np.ones((3, 40), int)), r"segments \(3, 40\) do not fit"),
    (dict(segments=(IDS, IDS[0])), "segments takes ids"),
], ids=["heads", "width", "slopes and bias", "slopes", "ids too short", "key ids too short", "rows", "ids of unlike rank"])
def test_wrong_arguments(change, words):
    with pytest.raises(ValueError, match=words):
        dot_product_attention(**(inputs() | change))


# ------------------------------------------------------------------------------------------------- the entries of other devices

@pytest.mark.parametrize("name, module, kernel, weights", [
    ("pallas_gpu", flash_gpu, "flash_attention", softmax), ("pallas_tpu", flash_tpu, "flash_attention", softmax),
    ("pallas_tpu", door, "softplus_attention", Lssar(3))])
def test_the_door_hands_everything_on(name, module, kernel, weights, monkeypatch):
    """Interpreted: mask, slopes, scale and soft cap arrive at the kernel that the weights ask for."""
    monkeypatch.setattr(module, kernel, partial(getattr(module, kernel), interpret=True))
    x = dict(q=normal(2, 40, 4, 32), k=normal(2, 40, 2, 32, seed=1), v=normal(2, 40, 2, 32, seed=2))
    call = dict(mask=masks.causal() & masks.window(20), slopes=jnp.linspace(0.1, 1.0, 4), scale=0.7, soft_cap=2.0, weights=weights, return_lse=True)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        got, want = (quick(lambda x, one=one: IMPLEMENTATIONS[one](**x, **call))(x) for one in (name, "dense"))
    assert_close(got, want)


def test_the_door_of_cudnn(monkeypatch):
    """jax.nn is asked for cuDNN, with masks and a scale that mean the same in its other implementation."""
    real, asked = jax.nn.dot_product_attention, []
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda *x, implementation, **kwargs: asked.append(implementation) or real(*x, **kwargs))
    x = [normal(2, 40, 2, 32, seed=n) for n in range(3)]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for mask in (None, masks.causal(), masks.causal() & masks.window(9)):
            assert_close(IMPLEMENTATIONS["cudnn"](*x, mask=mask, scale=0.7), attend(*x, mask=mask, scale=0.7))
    assert asked == ["cudnn"] * 3


@pytest.mark.gpu
@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs an NVIDIA GPU: JAX_PLATFORMS=cuda,cpu pytest -m gpu")
@pytest.mark.parametrize("n", [None, 64])
@pytest.mark.parametrize("name", ["pallas_gpu", "cudnn"])
def test_on_the_device(name, n):
    q, k, v = (normal(2, 512, heads, 64, seed=heads).astype(jnp.bfloat16) for heads in (4, 2, 2))
    mask = masks.causal() if n is None else masks.causal() & masks.window(n)
    assert_close(dot_product_attention(q, k, v, mask=mask, implementation=name), attend(q, k, v, mask=mask), "bfloat16")
