"""Mamba-2 against transformers: whatever it saves is read here and gives the same logits, in one pass and token by token."""
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

pytestmark = pytest.mark.oracle
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5.0")

from lcref.pretrained import families, folder  # noqa: E402
from tests.pretrained.make_fixtures import MAMBA2, randomised  # noqa: E402

T, PROMPT = 90, 70
CASES = {
    "groups, biases, tied": dict(),
    "one group, no biases": dict(n_groups=1, use_bias=False),
    "a group a head": dict(n_groups=4, chunk_size=16),
    "one head": dict(num_heads=1, head_dim=32, n_groups=1, state_size=8),
    "untied": dict(tie_word_embeddings=False),
    "wider, another norm": dict(expand=3, num_heads=6, head_dim=8, n_groups=3, conv_kernel=3, layer_norm_epsilon=1e-2, residual_in_fp32=False),
    "many small heads": dict(num_heads=16, head_dim=2, n_groups=8, state_size=3, conv_kernel=2),
}


@pytest.mark.parametrize("case", CASES)
def test_mamba2(case, tmp_path):
    config = transformers.Mamba2Config(**MAMBA2 | dict(chunk_size=32) | CASES[case])
    model = randomised(config, torch.float32, 3)
    model.save_pretrained(tmp_path)
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (2, T), np.int32)
    ids = torch.tensor(tokens, dtype=torch.int64)
    with torch.no_grad():
        want, stepped, cache = model(ids).logits.numpy(), [], None
        for piece in (ids[:, :PROMPT], *ids[:, PROMPT:].split(1, 1)):
            out = model(piece, cache_params=cache, use_cache=True)
            cache = out.cache_params
            stepped.append(out.logits.numpy())
    decoder, window = families.decoder(folder.read(tmp_path))
    assert want.std() > 0.1 and window is None
    np.testing.assert_allclose(nnx.jit(lambda decoder, tokens: decoder(tokens))(decoder, jnp.asarray(tokens)), want, rtol=0, atol=1e-4)
    state, got, extend = decoder.init_state(2, T), [], nnx.jit(lambda decoder, tokens, state: decoder.extend(tokens, state))
    for piece in (tokens[:, :PROMPT], *np.split(tokens[:, PROMPT:], T - PROMPT, 1)):
        logits, state = extend(decoder, jnp.asarray(piece), state)
        got.append(logits)
    np.testing.assert_allclose(np.concatenate(got, 1), np.concatenate(stepped, 1), rtol=0, atol=1e-4)
    np.testing.assert_allclose(np.concatenate(got, 1), want, rtol=0, atol=1e-4)


def test_its_two_layouts(tmp_path):
    """The words of mamba_ssm for a model that transformers saved, in shards."""
    config = transformers.Mamba2Config(**MAMBA2)
    randomised(config, torch.float32, 4).save_pretrained(tmp_path, max_shard_size="6KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    a, _ = families.decoder(folder.read(tmp_path))
    ssm = dict(layer="Mamba2", d_state=config.state_size, headdim=config.head_dim, ngroups=config.n_groups, bias=True)
    (tmp_path / "config.json").write_text(json.dumps(dict(d_model=config.hidden_size, n_layer=config.num_hidden_layers,
                                                          vocab_size=config.vocab_size, ssm_cfg=ssm)))
    b, _ = families.decoder(folder.read(tmp_path))
    assert a.cfg == b.cfg
    jax.tree.map(np.testing.assert_array_equal, nnx.state(a), nnx.state(b))
