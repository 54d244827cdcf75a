"""Configs and tensors into the Decoder: logits equal transformers' (fixtures), and whatever the Decoder lacks is refused by name."""
import dataclasses
import json
import shutil
import tracemalloc
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("gguf")

import gguf as library  # noqa: E402
from flax import nnx  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

from lcref.nn.positions import Nope, Rope  # noqa: E402
from lcref.ops import rope_scaling  # noqa: E402
from lcref.pretrained import families, folder, gguf, gguf_words, gpt2, rope, tokenizer  # noqa: E402
from lcref.pretrained.source import Fields, Source, Tensor  # noqa: E402
from lcref.train import read_as  # noqa: E402
from tests.pretrained.tiny import CONFIG, D, F, message, weights, write_folder, write_gguf  # noqa: E402

FIXTURES = Path(__file__).parent / "fixtures"
MODELS = ["llama_yarn", "llama_llama3", "gpt2"]


def expected(name):
    found = load_file(FIXTURES / f"{name}_expected.safetensors")
    return found["tokens"], found["logits"]


def logits(decoder, tokens):
    return np.asarray(nnx.jit(lambda decoder, tokens: decoder(tokens))(decoder, jnp.asarray(tokens)))


# -------------------------------------------------------------------------------------------------- agreement with transformers

@pytest.mark.parametrize("name", MODELS)
def test_equals_transformers(name):
    decoder, window = families.decoder(folder.read(FIXTURES / name))
    tokens, want = expected(name)
    assert window == (24 if name == "gpt2" else 32)
    np.testing.assert_allclose(logits(decoder, tokens), want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["llama_yarn", "gpt2"])
def test_decoding_equals_transformers(name):
    decoder, _ = families.decoder(folder.read(FIXTURES / name))
    tokens, want = expected(name)
    state, got = decoder.init_state(1, 20), []
    for piece in np.split(tokens, [13, 14], axis=1):
        out, state = decoder.extend(jnp.asarray(piece), state)
        got.append(out)
    np.testing.assert_allclose(np.concatenate(got, 1), want, rtol=0, atol=1e-4)


def test_a_llama_is_the_same_out_of_a_gguf_file(tmp_path):
    tokens = np.arange(12)[None] % 20
    a, window_a = families.decoder(folder.read(write_folder(tmp_path / "f")))
    b, window_b = families.decoder(gguf_words.source(gguf.read(write_gguf(tmp_path / "m.gguf"))))
    assert window_a == window_b == 64 and a.cfg.position == b.cfg.position == Rope(base=1000.0)
    np.testing.assert_allclose(logits(a, tokens), logits(b, tokens), rtol=0, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_gpt2_is_the_same_out_of_a_gguf_file(tied, tmp_path):
    tensors, (tokens, want) = load_file(FIXTURES / "gpt2" / "model.safetensors"), expected("gpt2")
    names = gguf_words.back(gguf_words.GPT2_TENSORS, gguf_words.GPT2_BLOCK)
    writer = library.GGUFWriter(tmp_path / "m.gguf", "gpt2")
    for key, value in dict(block_count=2, context_length=24, embedding_length=16, feed_forward_length=64).items():
        writer.add_uint32(f"gpt2.{key}", value)
    writer.add_uint32("gpt2.attention.head_count", 2)
    writer.add_float32("gpt2.attention.layer_norm_epsilon", 1e-5)
    for name, array in tensors.items():
        name = gpt2.canonical(name)
        writer.add_tensor(names(name), np.ascontiguousarray(array.T) if name.startswith("h.") and array.ndim == 2 else array)
    if not tied:
        writer.add_tensor("output.weight", 2 * tensors["transformer.wte.weight"])
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()
    decoder, window = families.decoder(gguf_words.source(gguf.read(tmp_path / "m.gguf")))
    assert window == 24 and decoder.cfg.tie_embeddings == tied
    np.testing.assert_allclose(logits(decoder, tokens), want if tied else 2 * want, rtol=0, atol=2e-4)


def test_names_with_and_without_the_prefix(tmp_path):
    from safetensors.numpy import save_file
    shutil.copytree(FIXTURES / "gpt2", tmp_path / "g")
    tensors = {gpt2.canonical(name): array for name, array in load_file(FIXTURES / "gpt2" / "model.safetensors").items()}
    tensors |= {"h.0.attn.bias": np.ones((1, 1, 24, 24), np.float32), "h.1.attn.masked_bias": np.ones((), np.float32)}      # buffers of old files
    save_file(tensors, tmp_path / "g" / "model.safetensors")
    families.plan(folder.read(tmp_path / "g"))
    save_file(tensors | {"transformer.ln_f.bias": tensors["ln_f.bias"]}, tmp_path / "g" / "model.safetensors")
    assert "are the same parameter" in message(lambda path: families.plan(folder.read(path)), tmp_path / "g")


# ------------------------------------------------------------------------------------------------------------- what must be said

def plan(tmp_path, tensors=None, **config):
    return families.plan(folder.read(write_folder(tmp_path / "f", tensors, config)))


REFUSED = {
    "hidden_act": "gelu", "mlp_bias": True, "sliding_window": 128, "num_local_experts": 8, "quantization_config": dict(bits=4),
    "rope_scaling": dict(type="su", factor=2.0), "model_type": "gpt_neox", "attention_bias": 1, "num_attention_heads": 3, "num_key_value_heads": 3,
    "hidden_size": -32, "num_hidden_layers": 10**9, "vocab_size": 2.5, "rms_norm_eps": "small", "rms_norm_eps ": 0, "rope_theta": -1.0,
    "rope_parameters": "yarn", "tie_word_embeddings": "yes", "max_position_embeddings": 0, "intermediate_size": True, "head_dim": 7,
    "partial_rotary_factor": 1.5, "num_hidden_layers ": 3,
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_config_that_asks_for_something_else(name, tmp_path):
    line = message(lambda path: plan(tmp_path, **{name.strip(): REFUSED[name]}), tmp_path / "f")
    told = {"num_attention_heads": "heads", "num_key_value_heads": "key-value heads", "num_hidden_layers": "layers", "model_type": "gpt_neox",
            "head_dim": "partial_rotary_factor"}
    assert told.get(name.strip(), name.strip()) in line


@pytest.mark.parametrize("name", ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "model_type"])
def test_a_config_that_lacks_something(name, tmp_path):
    assert f"{name} is missing" in message(lambda path: plan(tmp_path, **{name: None}), tmp_path / "f")


GPT2_REFUSED = dict(activation_function="relu", scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True, add_cross_attention=True, n_head=3)


@pytest.mark.parametrize("name", GPT2_REFUSED)
def test_a_gpt2_that_asks_for_something_else(name, tmp_path):
    shutil.copytree(FIXTURES / "gpt2", tmp_path / "g")
    path = tmp_path / "g" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: GPT2_REFUSED[name]}))
    assert name in message(lambda path: families.plan(folder.read(path)), tmp_path / "g")


def test_tensors_that_do_not_fit(tmp_path):
    good, bias = weights(), "model.layers.0.self_attn.q_proj.bias"
    first = next(iter(good))
    said = lambda tensors, **config: message(lambda path: plan(tmp_path, tensors, **config), tmp_path / "f")
    assert f"tensor '{first}' is missing" in said({name: array for name, array in good.items() if name != first})
    assert "and 5 more are missing" in said({name: array for name, array in good.items() if "layers.1" not in name})
    assert f"tensor '{bias}' is not part of this model" in said(good | {bias: np.zeros(D, np.float32)})
    assert "are missing" in said(good | {bias: np.zeros(D, np.float32)}, attention_bias=True)          # one of four biases
    assert "has shape (32,), should have" in said(good | {first: np.zeros(32, np.float32)})
    assert "'lm_head.weight' is missing" in said(good, tie_word_embeddings=False)
    head = good["model.embed_tokens.weight"]
    plan(tmp_path, good | {"lm_head.weight": head, "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)})
    assert "and they differ" in said(good | {"lm_head.weight": head + 1})


def test_numbers_that_are_none(tmp_path):
    bad = weights()
    bad["model.norm.weight"][3] = np.nan
    assert "'model.norm.weight' holds NaN" in message(lambda path: families.decoder(folder.read(write_folder(path, bad))), tmp_path / "f")


def gguf_plan(tmp_path, *args, **kwargs):
    return families.plan(gguf_words.source(gguf.read(write_gguf(tmp_path / "m.gguf", *args, **kwargs))))


GGUF_REFUSED = {
    "attention.sliding_window": 128, "expert_count": 8, "attention.head_count": None, "attention.value_length": 4, "rope.dimension_count": 4,
    "rope.scaling.type": "other", "rope.scaling.yarn_log_multiplier": 0.1, "feed_forward_length": [32, 32], "embedding_length": "many",
    "rope.scaling.attn_factor": 2.0, "rope.scale_linear": 2.0, "expert_used_count": 2, "attention.key_length": 3,
}


@pytest.mark.parametrize("name", GGUF_REFUSED)
def test_a_gguf_file_that_asks_for_something_else(name, tmp_path):
    line = message(lambda path: gguf_plan(tmp_path, settings={name: GGUF_REFUSED[name]}), tmp_path / "m.gguf")
    assert name in line or name in ("rope.scaling.type", "feed_forward_length", "embedding_length", "attention.key_length")


ODD = [None, 0, -1, 2**31, 2**64 - 1, 0.0, 1.5, -0.5, 1e30, float("nan"), True, "", "x", [], [1.0], ["x"], {}, {"a": 1}, np.float32([1.0, 2.0]), [[[]]]]


@pytest.mark.parametrize("other", [dict(), dict(rope_scaling=dict(rope_type="yarn", factor=2.0)),
                                   dict(rope_parameters=dict(rope_type="longrope", factor=2.0, short_factor=[1.0] * 4, long_factor=[1.0] * 4))], ids=str)
def test_odd_values_everywhere(other, tmp_path):
    """Every setting of a config, of its rotation and of a GGUF file's metadata, replaced by values of every type: a plan or a ValueError."""
    source = folder.read(write_folder(tmp_path / "f"))
    file = gguf.read(write_gguf(tmp_path / "m.gguf"))
    config, inside = CONFIG | other, next(iter(other), None)
    for value in ODD:
        tries = [dataclasses.replace(source, config=config | {key: value}) for key in (*config, "head_dim", "attention_bias", "sliding_window")]
        if inside:
            tries += [dataclasses.replace(source, config=config | {inside: config[inside] | {key: value}}) for key in (*config[inside], "truncate", "x")]
        tries = [lambda made=made: families.plan(made) for made in tries]
        for key in () if inside else (*file.metadata, "llama.rope.scaling.type", "llama.rope.scaling.factor", "llama.attention.key_length"):
            changed = dataclasses.replace(file, metadata=file.metadata | {key: value})
            tries += [lambda changed=changed: families.plan(gguf_words.source(changed)), lambda changed=changed: tokenizer.from_gguf(changed.metadata, "m")]
        for attempt in tries:
            try:
                attempt()
            except ValueError as error:
                assert "\n" not in str(error)


def test_a_gguf_file_with_other_tensors(tmp_path):
    good = weights()
    for extra, words in (({"blk.0.attn_q.bias": np.zeros(D, np.float32)}, "blk.0.attn_k.bias"),        # read as attention_bias, and the rest is missing
                         ({"blk.0.ffn_gate_exps.weight": np.zeros((2, F, D), np.float32)}, "'blk.0.ffn_gate_exps.weight' is not part"),
                         ({"rope_freqs.weight": np.ones(3, np.float32)}, "'rope_freqs.weight' has shape (3,)"),
                         ({"model.norm.weight": np.ones(D, np.float32)}, "are the same parameter")):
        assert words in message(lambda path: gguf_plan(tmp_path, extra=extra), tmp_path / "m.gguf")
    part = {name: array for name, array in good.items() if "layers.1.mlp.up" not in name}
    assert "'blk.1.ffn_up.weight' is missing" in message(lambda path: gguf_plan(tmp_path, part), tmp_path / "m.gguf")
    del good["model.embed_tokens.weight"]
    assert "'token_embd.weight' is missing" in message(lambda path: gguf_plan(tmp_path, good), tmp_path / "m.gguf")


def test_a_promise_of_a_trillion_parameters_costs_nothing(tmp_path):
    tracemalloc.start()
    huge = 2**31 - 2
    message(lambda path: plan(tmp_path, hidden_size=huge, vocab_size=huge, intermediate_size=huge, max_position_embeddings=huge), tmp_path / "f")
    source = Source("file", CONFIG | dict(vocab_size=2**20, hidden_size=2**20), {})
    tensors = {name: Tensor(name, (1,), None) for name in range(100)}
    with pytest.raises(ValueError, match="missing"):
        families.plan(dataclasses.replace(source, tensors={str(name): tensor for name, tensor in tensors.items()}))
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()


# ---------------------------------------------------------------------------------------------------------------------- rotation

LISTS = dict(short_factor=[1.0, 2.0], long_factor=[3.0, 4.0])
LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
READ = [
    (dict(), Rope()),
    (dict(rope_theta=500.0), Rope(base=500.0)),
    (dict(rope_parameters=dict(rope_theta=500.0, rope_type="default")), Rope(base=500.0)),
    (dict(rope_parameters=dict(rope_type="default", partial_rotary_factor=0.5)), Rope(fraction=0.5)),
    (dict(rope_scaling=dict(type="linear", factor=2)), Rope(scaling=rope_scaling.Linear(2.0, 64))),
    (dict(rope_scaling=dict(rope_type="dynamic", factor=2.0)), Rope(scaling=rope_scaling.DynamicNtk(2.0, 64))),
    (dict(rope_scaling=dict(rope_type="yarn", factor=2.0)), Rope(scaling=rope_scaling.Yarn(2.0, 64))),
    (dict(rope_parameters=dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=32, beta_fast=16, truncate=False, attention_factor=1.5)),
     Rope(scaling=rope_scaling.Yarn(2.0, 32, beta_fast=16.0, truncate=False, magnitude=1.5))),
    (dict(rope_scaling=dict(rope_type="yarn", factor=2.0, mscale=0.7, mscale_all_dim=0.5)),
     Rope(scaling=rope_scaling.Yarn(2.0, 64, mscale=0.7, mscale_all_dim=0.5))),
    (dict(rope_scaling=dict(rope_type="yarn", factor=2.0, mscale=0.7, mscale_all_dim=0)), Rope(scaling=rope_scaling.Yarn(2.0, 64))),
    (dict(rope_scaling=dict(rope_type="llama3", original_max_position_embeddings=16, **LLAMA3)), Rope(scaling=rope_scaling.Llama3(8.0, 16, 1.0, 4.0))),
    (dict(rope_scaling=dict(rope_type="longrope", **LISTS), original_max_position_embeddings=16),
     Rope(scaling=rope_scaling.LongRope(4.0, 16, (1.0, 2.0), (3.0, 4.0)))),
]


@pytest.mark.parametrize("config, want", READ, ids=lambda x: str(x)[:60])
def test_rotations_are_read(config, want):
    assert rope.rope(Fields(config, "file"), 64, 4) == want


UNREAD = [
    dict(rope_type="linear"), dict(rope_type="linear", factor=0.5), dict(rope_type="linear", factor=2.0, beta_fast=3.0), dict(rope_type="yarn", factor="2"),
    dict(rope_type="yarn", factor=float("nan")), dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=0), dict(rope_type=["yarn"]),
    dict(rope_type="yarn", factor=2.0, truncate=1), dict(rope_type="yarn", factor=2.0, beta_fast=1.0, beta_slow=2.0), dict(rope_type="llama3", factor=2.0),
    dict(rope_type="longrope", short_factor=[1.0], long_factor=[1.0, 2.0]), dict(rope_type="longrope", short_factor=[1.0, "x"], long_factor=[1.0, 2.0]),
    dict(rope_type="dynamic", factor=2.0, original_max_position_embeddings=16), dict(rope_type="proportional"), dict(full_attention=dict()),
    dict(rope_type="default", partial_rotary_factor=0.25),
]


@pytest.mark.parametrize("entry", UNREAD, ids=str)
def test_rotations_that_are_not_read(entry):
    try:
        rope.rope(Fields(dict(rope_parameters=entry), "file"), 64, 4)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        raise AssertionError("accepted")


def test_rotations_of_gguf_files(tmp_path):
    scaling = lambda **kwargs: gguf_plan(tmp_path, **kwargs)[0].position.scaling
    yarn = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16}
    assert scaling(settings=yarn) == rope_scaling.Yarn(4.0, 16)
    assert scaling(settings={"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}) == rope_scaling.Linear(4.0, 64)
    assert scaling(settings={"rope.scaling.type": "none"}) is None
    divisors = np.float32([1, 2, 3, 4])
    stored = scaling(extra={"rope_freqs.weight": divisors})
    np.testing.assert_allclose(Rope(base=1000.0, scaling=stored).scaling.inv_freq(8, 1000.0, 9999),
                               np.float32(1000.0 ** -(np.arange(0, 8, 2) / 8)) / divisors, rtol=1e-6)
    assert stored.attention_factor(9999) == 1.0
    long = scaling(settings={"rope.scaling.type": "longrope", "rope.scaling.attn_factor": 1.25, "rope.scaling.original_context_length": 16},
                   extra={"rope_factors_long.weight": divisors, "rope_factors_short.weight": divisors / 2})
    assert long == rope_scaling.LongRope(4.0, 16, (0.5, 1.0, 1.5, 2.0), (1.0, 2.0, 3.0, 4.0), 1.25)
    for settings, extra in ((yarn, {"rope_freqs.weight": divisors}), ({}, {"rope_factors_long.weight": divisors}),
                            ({"rope.scaling.type": "longrope"}, {"rope_factors_long.weight": divisors})):
        assert "is not supported" in message(lambda path: scaling(settings=settings, extra=extra), tmp_path / "m.gguf")


# -------------------------------------------------------------------------------------------------------------------- other configs

def test_another_position_scheme_for_the_same_weights():
    decoder, _ = families.decoder(folder.read(FIXTURES / "llama_yarn"))
    tokens, want = expected("llama_yarn")
    plain = read_as(decoder, dataclasses.replace(decoder.cfg, position=dataclasses.replace(decoder.cfg.position, scaling=None)))
    assert plain.blocks[1].mixer.q.kernel[...] is decoder.blocks[1].mixer.q.kernel[...]                # shared, not copied
    assert np.abs(logits(plain, tokens) - want).max() > 0.05
    back = read_as(plain, decoder.cfg)
    np.testing.assert_allclose(logits(back, tokens), want, rtol=0, atol=1e-4)
    read_as(decoder, dataclasses.replace(decoder.cfg, position=Nope()))
    with pytest.raises(ValueError, match="cannot be read as another model: there is no readout.kernel"):
        read_as(decoder, dataclasses.replace(decoder.cfg, tie_embeddings=False))
    with pytest.raises(ValueError, match="cannot be read as another model: embedding.* is "):
        read_as(decoder, dataclasses.replace(decoder.cfg, vocab=65))
