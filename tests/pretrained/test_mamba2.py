"""Mamba-2 out of both layouts: logits equal transformers' (fixture), one decoder out of either, and what the layer lacks is refused by name."""
import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("gguf")

from flax import nnx  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

from lcref import extension  # noqa: E402
from lcref.nn.layers import Rms  # noqa: E402
from lcref.nn.mixers.mamba2 import Mamba2Config  # noqa: E402
from lcref.nn.positions import Nope  # noqa: E402
from lcref.pretrained import families, folder, models  # noqa: E402
from tests.pretrained.tiny import message  # noqa: E402

FIXTURES = Path(__file__).parent / "fixtures"
CONFIG = json.loads((FIXTURES / "mamba2" / "config.json").read_text())
TENSORS = load_file(FIXTURES / "mamba2" / "model.safetensors")
# The same model as mamba_ssm would write it. It keeps the vocabulary before it was rounded up.
SSM = dict(layer="Mamba2", d_state=4, headdim=8, ngroups=2, bias=True)
OURS = dict(d_model=16, d_intermediate=0, n_layer=2, vocab_size=19, ssm_cfg=SSM, attn_layer_idx=[], attn_cfg={}, rms_norm=True,
            residual_in_fp32=True, fused_add_norm=True, pad_vocab_size_multiple=16, tie_embeddings=True)
OURS_TENSORS = {name.replace("embeddings", "embedding"): array for name, array in TENSORS.items()}
OURS_TENSORS |= {"lm_head.weight": OURS_TENSORS["backbone.embedding.weight"]}
BOTH = {"transformers": (CONFIG, TENSORS), "mamba_ssm": (OURS, OURS_TENSORS)}


def write(path, config, tensors):
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    save_file(tensors, path / "model.safetensors")
    return path


@pytest.fixture(scope="module")
def fixture():
    """(decoder, tokens, transformers' logits)"""
    expected = load_file(FIXTURES / "mamba2_expected.safetensors")
    return families.decoder(folder.read(FIXTURES / "mamba2"))[0], expected["tokens"], expected["logits"]


def test_equals_transformers(fixture):
    decoder, tokens, want = fixture
    assert tokens.shape[1] > decoder.cfg.mixer.chunk
    got = nnx.jit(lambda decoder, tokens: decoder(tokens))(decoder, jnp.asarray(tokens))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)


def test_decoding_equals_transformers(fixture):
    decoder, tokens, want = fixture
    state, got, extend = decoder.init_state(1, 70), [], nnx.jit(lambda decoder, tokens, state: decoder.extend(tokens, state))
    for piece in np.split(tokens, [2, 33, *range(34, 50)], axis=1):
        out, state = extend(decoder, jnp.asarray(piece), state)
        got.append(out)
    np.testing.assert_allclose(np.concatenate(got, 1), want, rtol=0, atol=1e-4)


def test_both_layouts_give_the_same_decoder(fixture, tmp_path):
    decoder, window = families.decoder(folder.read(write(tmp_path / "f", OURS, OURS_TENSORS)))
    assert window is None and decoder.cfg == fixture[0].cfg
    assert decoder.cfg.mixer == Mamba2Config(state=4, head_dim=8, groups=2, bias=True, epsilon=1e-5)
    assert (decoder.cfg.vocab, decoder.cfg.feed_forward, decoder.cfg.position, decoder.cfg.norm) == (32, None, Nope(), Rms(1e-5))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(decoder), nnx.state(fixture[0]))
    untied, _ = families.decoder(folder.read(write(tmp_path / "f", OURS | dict(tie_embeddings=False), OURS_TENSORS)))
    np.testing.assert_array_equal(untied.readout.kernel[...], fixture[0].embedding.embedding[...].T)


def test_defaults_are_those_of_each_program(tmp_path):
    """mamba2-130m's own config.json, and transformers' for the same shapes: what neither says is not the same in both."""
    published = dict(d_model=768, n_layer=24, vocab_size=50277, ssm_cfg=dict(layer="Mamba2"), rms_norm=True, residual_in_fp32=True,
                     fused_add_norm=True, pad_vocab_size_multiple=16, tie_embeddings=True)
    fields = lambda config: families.mamba2.config(families.Fields(config, "file"))
    (a, none), (b, _) = fields(published), fields(dict(model_type="mamba2", vocab_size=32, hidden_size=4096, num_hidden_layers=1))
    assert none is None and a.mixer == Mamba2Config(state=128, head_dim=64, groups=1, epsilon=1e-5) and a.mixer.shape(768)[0] == 24
    assert (a.vocab, a.tie_embeddings, a.layers) == (50288, True, 24)
    assert b.mixer == Mamba2Config(state=128, head_dim=64, groups=8, epsilon=1e-5) and not b.tie_embeddings


def test_names_without_the_prefix(tmp_path):
    families.plan(folder.read(write(tmp_path / "f", CONFIG, {name.removeprefix("backbone."): array for name, array in TENSORS.items()})))


# ------------------------------------------------------------------------------------------------------------- what must be said

def plan(path, layout="transformers", tensors=None, inner=None, **config):
    """`message` wants the path first."""
    base, good = BOTH[layout]
    merged = base | config | (dict(ssm_cfg=base["ssm_cfg"] | inner) if inner else {})
    return families.plan(folder.read(write(path, merged, good if tensors is None else tensors)))


REFUSED = [
    dict(hidden_act="gelu"), dict(use_conv_bias=False), dict(rms_norm=False), dict(time_step_limit=[0.0, 100.0]),
    dict(time_step_limit=[1e-3, np.inf]), dict(time_step_limit="none"), dict(n_groups=3), dict(n_groups=0), dict(chunk_size=0),
    dict(residual_in_fp32="yes"), dict(norm_before_gate=1),
    dict(layer_norm_epsilon=0), dict(state_size=2.5), dict(num_hidden_layers=10**9), dict(quantization_config=dict(bits=4)), dict(use_bias="no"),
    dict(num_heads=5), dict(head_dim=16), dict(expand=3), dict(conv_kernel=-1), dict(tie_word_embeddings=0), dict(expand=1.5),
]
OURS_REFUSED = [
    dict(rms_norm=False), dict(attn_layer_idx=[1]), dict(d_intermediate=64), dict(tie_embeddings="yes"), dict(pad_vocab_size_multiple=0),
    dict(ssm_cfg=[]), dict(ssm_cfg={}), dict(n_layer=0), dict(residual_in_fp32=1), dict(fused_add_norm="x"), dict(d_model=None), dict(n_layer=None),
    dict(vocab_size=None), dict(quantization_config=dict(bits=4)),
    *(dict(inner={name: value}) for name, value in dict(
        layer="Mamba1", d_ssm=16, D_has_hdim=True, conv_bias=False, rmsnorm=False, norm_before_gate=True, dt_limit=[0.0, 1.0], headdim=7, ngroups=3,
        d_state=0, d_conv="4", expand=-1, bias=1, chunk_size="x", heads=4).items()),
]


@pytest.mark.parametrize("layout, config", [("transformers", c) for c in REFUSED] + [("mamba_ssm", c) for c in OURS_REFUSED], ids=str)
def test_a_config_that_asks_for_something_else(layout, config, tmp_path):
    name = next(iter(config.get("inner", config)))
    line = message(lambda path: plan(path, layout, **config), tmp_path / "f")
    assert {"num_hidden_layers": "layers", "head_dim": "num_heads"}.get(name, "layer" if config == dict(ssm_cfg={}) else name) in line


def test_what_says_nothing_here(tmp_path):
    """No limit in any spelling; norm_before_gate as in published files (transformers gates first whatever it says); kernels, chunks."""
    for limit in ([0, np.inf], [0.0, dict(__float__="Infinity")], None):
        told = dict(norm_before_gate=True, rms_norm=True, residual_in_fp32=False, chunk_size=7, hidden_act="swish")
        want = plan(tmp_path / "f", time_step_limit=limit, **told)
        inner = dict(dt_limit=limit, A_init_range=[1, 16], dt_min=0.1, use_mem_eff_path=False, chunk_size=7, d_ssm=32, norm_before_gate=False)
        assert plan(tmp_path / "f", "mamba_ssm", inner=inner)[0] == want[0]


@pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "vocab_size", "model_type"])
def test_a_config_that_lacks_something(name, tmp_path):
    assert f"{name} is missing" in message(lambda path: plan(path, **{name: None}), tmp_path / "f")


def test_tensors_that_do_not_fit(tmp_path):
    said = lambda tensors, **config: message(lambda path: plan(path, tensors=tensors, **config), tmp_path / "f")
    for name in TENSORS:
        assert f"'{name}' is missing" in said({other: array for other, array in TENSORS.items() if other != name})
        assert f"'{name}' has shape" in said(TENSORS | {name: TENSORS[name][..., 1:]})
    assert "'backbone.layers.0.mixer.in_proj.bias'" in said(TENSORS, use_bias=False)
    assert "'lm_head.weight' is missing" in said(TENSORS, tie_word_embeddings=False)
    assert "and they differ" in said(TENSORS | {"lm_head.weight": 1 + TENSORS["backbone.embeddings.weight"]})
    assert "are the same parameter" in said(TENSORS | OURS_TENSORS)
    assert "'backbone.layers.0.mixer.fc.weight' is not part" in said(TENSORS | {"backbone.layers.0.mixer.fc.weight": np.ones(1, np.float32)})


ODD = [None, 0, -1, 2**31, 2**64 - 1, 2**30, 0.0, 1.5, 1e30, float("nan"), True, "", [], [1.0], ["x"], [0.0, np.inf, 1], {}, {"a": 1}, [[[]]]]


@pytest.mark.parametrize("layout", BOTH)
def test_odd_values_everywhere(layout, tmp_path):
    config, tensors = BOTH[layout]
    source = folder.read(write(tmp_path / "f", config, tensors))
    for value in ODD:
        tries = [config | {key: value} for key in (*config, "norm_before_gate", "rms_norm")]
        tries += [config | dict(ssm_cfg=SSM | {key: value}) for key in (*families.mamba2.READ, "x")] if layout == "mamba_ssm" else []
        for attempt in tries:
            try:
                families.plan(dataclasses.replace(source, config=attempt))
            except ValueError as error:
                assert "\n" not in str(error)


def test_the_file_that_mamba_ssm_writes_is_a_pickle(tmp_path):
    path = write(tmp_path / "f", OURS, OURS_TENSORS)
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    assert "pytorch_model.bin is a pickle" in message(models.load, path)


def test_no_window_and_nothing_to_extend(tmp_path):
    model = models.load(str(FIXTURES / "mamba2"))
    assert model.window is None and model.tokenizer is None
    with pytest.raises(ValueError, match="Nope positions: these methods change rotations"):
        extension.measure(dataclasses.replace(model, tokenizer=object()), tmp_path / "r.jsonl", methods=["none", "yarn"], lengths=[64],
                          texts=["abc"], depths=[0.5], scored=64)
