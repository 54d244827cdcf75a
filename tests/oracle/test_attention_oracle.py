"""Attention against other people's: jax.nn.dot_product_attention, and torch's where it is installed. Values and gradients."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops.attention import attend, attend_chunked
from lcref.ops.masks import causal, segments, window
from tests.compiling import quick
from tests.tolerances import assert_close

B, T, S, H, K, V = 2, 40, 40, 4, 8, 8
IDS = np.repeat([1, 2, 3], [10, 25, 5])


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def inputs(G):
    return dict(q=normal(B, T, H, K, seed=1), k=normal(B, S, G, K, seed=2), v=normal(B, S, G, V, seed=3), bias=normal(B, H, T, S, seed=4))


# ours -> (jax.nn's, torch's) arguments. jax.nn gives a row without keys the mean of the values: no such rows here
BANDED = causal() & window(9)
SAME = causal() & segments(IDS, IDS)
ARRAY = {"window": np.asarray(BANDED(np.arange(T), np.arange(S))), "documents": np.asarray(SAME(np.arange(T), np.arange(S)))}
CASES = {
    "plain": (dict(), dict(), dict()),
    "causal": (dict(mask=causal(), scale=0.3), dict(is_causal=True, scale=0.3), dict(is_causal=True, scale=0.3)),
    "window": (dict(mask=BANDED), dict(is_causal=True, local_window_size=(8, 0)), dict(attn_mask=ARRAY["window"])),
    "documents": (dict(mask=SAME), dict(mask=ARRAY["documents"][None, None]), dict(attn_mask=ARRAY["documents"])),
}


@pytest.fixture(params=[(name, G, with_bias) for name, G, with_bias in
                        [("plain", 4, False), ("causal", 2, False), ("window", 1, True), ("documents", 2, True)]], ids=lambda p: f"{p[0]}-G{p[1]}")
def ours(request):
    """(case, parameters, cotangent, [attend's, attend_chunked's (output, gradients)])"""
    name, G, with_bias = request.param
    x, cotangent = inputs(G), normal(B, T, H, V, seed=5)
    if not with_bias:
        del x["bias"]

    def results(x):
        blocks = dict(block_q=16, block_k=16)
        for f, kwargs in ((attend, {}), (attend_chunked, blocks)):
            out, back = jax.vjp(lambda x: f(**x, **CASES[name][0], **kwargs), x)
            yield out, back(cotangent)[0]
    return name, x, cotangent, quick(lambda x: list(results(x)))(x)


def test_equals_jax_nn(ours):
    name, x, cotangent, both = ours

    def theirs(x):
        out, back = jax.vjp(lambda x: jax.nn.dot_product_attention(x["q"], x["k"], x["v"], bias=x.get("bias"), **CASES[name][1]), x)
        return out, back(cotangent)[0]
    want = quick(theirs)(x)
    for got in both:
        assert_close(got, want)


@pytest.mark.oracle
def test_equals_torch(ours):
    torch = pytest.importorskip("torch")
    name, x, cotangent, both = ours
    torch.set_num_threads(1)
    t = {key: torch.tensor(np.array(value), requires_grad=True) for key, value in x.items()}
    kwargs = {key: torch.tensor(value) if isinstance(value, np.ndarray) else value for key, value in CASES[name][2].items()}
    if "bias" in t:                                        # torch has one argument for both
        kwargs["attn_mask"] = torch.where(kwargs["attn_mask"], t["bias"], -torch.inf)
    heads_first = lambda a: a.transpose(1, 2)
    out = heads_first(torch.nn.functional.scaled_dot_product_attention(*(heads_first(t[n]) for n in "qkv"), enable_gqa=True, **kwargs))
    out.backward(torch.tensor(np.array(cotangent)))
    for got in both:
        assert_close(got, (out.detach().numpy(), {key: value.grad.numpy() for key, value in t.items()}))
