"""Rotations, T5's buckets and ALiBi against transformers' own."""
import jax.numpy as jnp
import numpy as np
import pytest

from lcref.ops import rope
from lcref.ops.bias import alibi, t5
from tests.tolerances import assert_close

pytestmark = pytest.mark.oracle
B, T, H, K = 2, 33, 3, 16
POS = np.stack([np.arange(T), np.arange(T) * 7 + 1000])


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers", minversion="5.0")
    torch.set_num_threads(1)
    return torch


def qk():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(B, T, H, K)).astype(np.float32) for _ in "qk"]


def angles():
    return np.asarray(rope.angles(POS, rope.inv_freq(K)))


def test_half_layout_is_llamas(torch):
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
    a = torch.tensor(np.concatenate([angles()] * 2, -1))
    q, k = qk()
    want = apply_rotary_pos_emb(*(torch.tensor(x).transpose(1, 2) for x in (q, k)), a.cos(), a.sin(), unsqueeze_dim=1)
    for x, y in zip((q, k), want):
        assert_close(rope.rotate(jnp.asarray(x), POS, rope.inv_freq(K), layout="half"), y.transpose(1, 2).numpy())


def test_interleaved_layout_is_gptjs(torch):
    from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb
    a = torch.tensor(angles())
    for x in qk():
        want = apply_rotary_pos_emb(torch.tensor(x), a.sin(), a.cos())
        assert_close(rope.rotate(jnp.asarray(x), POS, rope.inv_freq(K), layout="interleaved"), want.numpy())


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("buckets, max_distance", [(32, 128), (16, 64), (64, 1000), (8, 20)])
def test_t5_buckets(torch, buckets, max_distance, bidirectional):
    from transformers.models.t5.modeling_t5 import T5Attention
    far = 3 * max_distance
    relative = np.arange(-far, far + 1)                                       # key - query
    want = T5Attention._relative_position_bucket(torch.tensor(relative), bidirectional, buckets, max_distance).numpy()
    table = np.tile(np.arange(buckets, dtype=np.float32)[:, None], (1, 2))    # the bias is the number of its bucket
    got = np.asarray(t5.bias(np.array([far]), relative + far, jnp.asarray(table), max_distance=max_distance, bidirectional=bidirectional))
    # transformers takes its logarithm in float32: at an exact edge it may fall to either side, one bucket apart
    differ = got[0, 0] != want
    half = (buckets // 2 if bidirectional else buckets) // 2
    log = np.log(np.maximum(abs(relative), 1) / half) / np.log(max_distance / half) * half
    assert (abs(log[differ] - log[differ].round()) < 1e-5).all() and (abs(got[0, 0] - want) <= 1).all()
    assert differ.mean() < 0.02


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 6, 8, 12, 16, 20])
def test_alibi_slopes(torch, heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor
    from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor
    # both give one row for all queries, slope * key position up to a constant: equal after softmax, and equal here as differences of keys
    bloom = build_alibi_tensor(torch.ones(1, T), heads, torch.float32).numpy().reshape(heads, T)
    mpt = build_mpt_alibi_tensor(heads, T, alibi_bias_max=8).numpy().reshape(heads, T)
    last = np.asarray(alibi.bias(np.array([T - 1]), np.arange(T), alibi.slopes(heads)))[:, 0]
    for other in (bloom, mpt):
        assert_close(last - last[:, :1], other - other[:, :1])
