"""Published models against transformers: whatever it saves is read here and gives the same logits. SmolLM2 where it is in the cache."""
import argparse
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

pytestmark = pytest.mark.oracle
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")

from lcref.pretrained import families, folder, models  # noqa: E402
from lcref.pretrained.tokenizer import chatml  # noqa: E402
from tests.pretrained.make_fixtures import BERT, LLAMA, LLAMA3, YARN, output, randomised  # noqa: E402

T = 40
BASE = dict(rope_theta=1000.0)
LISTS = dict(short_factor=[1.0, 1.1, 1.3, 1.7], long_factor=[1.0, 1.5, 3.0, 5.0])
ROPES = {
    "default": dict(rope_type="default", **BASE),
    "linear": dict(rope_type="linear", factor=3.0, **BASE),
    "dynamic": dict(rope_type="dynamic", factor=2.0, **BASE),
    "yarn": YARN,
    "yarn_untruncated": YARN | dict(truncate=False, beta_fast=4.0, beta_slow=0.5, factor=8.0),
    "yarn_mscale": YARN | dict(mscale=0.7, mscale_all_dim=0.3),
    "yarn_attention_factor": YARN | dict(attention_factor=1.3),
    "llama3": LLAMA3,
    "longrope": dict(rope_type="longrope", factor=4.0, original_max_position_embeddings=16, **LISTS, **BASE),
    "longrope_below": dict(rope_type="longrope", original_max_position_embeddings=64, attention_factor=1.1, **LISTS, **BASE),
}


def agree(model, path, shard="1GB"):
    """Saves, reads, compares the logits of T tokens."""
    model.save_pretrained(path, max_shard_size=shard)
    decoder, window = families.decoder(folder.read(path))
    tokens = np.random.default_rng(0).integers(0, model.config.vocab_size, (2, T), np.int32)
    with torch.no_grad():
        want = model(torch.tensor(tokens, dtype=torch.int64)).logits.numpy()
    assert want.std() > 0.1
    np.testing.assert_allclose(decoder(jnp.asarray(tokens)), want, rtol=0, atol=1e-4)
    return decoder


@pytest.mark.parametrize("name", ROPES)
def test_llama_with_every_rope(name, tmp_path):
    model = randomised(transformers.LlamaConfig(**LLAMA, rope_parameters=ROPES[name]), torch.float32, 0)
    decoder = agree(model, tmp_path)
    path = tmp_path / "config.json"                        # version 4 of transformers wrote the same in two fields
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    path.write_text(json.dumps(config))
    again, _ = families.decoder(folder.read(tmp_path))
    assert again.cfg == decoder.cfg


def test_llama_with_biases_its_own_head_and_shards(tmp_path):
    config = transformers.LlamaConfig(**LLAMA | dict(tie_word_embeddings=False, attention_bias=True, head_dim=None))
    agree(randomised(config, torch.float32, 1), tmp_path, shard="4KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1


@pytest.mark.parametrize("settings", [dict(), dict(n_inner=24), dict(tie_word_embeddings=False)], ids=str)
def test_gpt2(settings, tmp_path):
    config = transformers.GPT2Config(vocab_size=48, n_embd=16, n_layer=2, n_head=2, n_positions=T, **settings)
    agree(randomised(config, torch.float32, 2), tmp_path)


@pytest.mark.parametrize("settings", [dict(), dict(layer_norm_eps=1e-3, num_attention_heads=4)], ids=str)
def test_bert(settings, tmp_path):
    model = randomised(transformers.BertConfig(**BERT | dict(max_position_embeddings=T) | settings), torch.float32, 4)
    model.save_pretrained(tmp_path)
    encoder, window = families.encoder(folder.read(tmp_path))
    tokens = np.random.default_rng(0).integers(0, BERT["vocab_size"], (2, T), np.int32)
    assert window == T
    np.testing.assert_allclose(encoder(jnp.asarray(tokens)), output(model, tokens), rtol=0, atol=1e-4)


def test_minilm():
    if not models.is_kept("minilm-l6"):
        pytest.skip("lcref weights get minilm-l6")
    ours, theirs = models.load_encoder("minilm-l6"), transformers.AutoModel.from_pretrained(models.place("minilm-l6")).eval()
    tokens = np.stack([ours.tokenizer.encode("The grass is green. " * 20)[:90], ours.tokenizer.encode("There and back again. " * 20)[:90]])
    with torch.no_grad():
        want = theirs(torch.tensor(tokens, dtype=torch.int64)).last_hidden_state.numpy()
    np.testing.assert_allclose(ours.encoder(jnp.asarray(tokens)), want, rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def smollm2():
    if not models.is_kept("smollm2-135m"):
        pytest.skip("smollm2-135m is not in the cache: lcref weights get smollm2-135m")
    path = models.place("smollm2-135m")
    where = dict(pretrained_model_name_or_path=path.parent, gguf_file=path.name)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
    return models.load("smollm2-135m"), theirs, transformers.AutoTokenizer.from_pretrained(**where)


@pytest.mark.slow
def test_smollm2(smollm2, capsys):
    """512 tokens of the standard library: logits within 2e-3, the same first choice everywhere, the same token ids."""
    ours, theirs, tokenizer = smollm2
    text = Path(argparse.__file__).read_text()[:8000]
    ids = ours.tokenizer.encode(text)
    assert ids.tolist() == tokenizer(text)["input_ids"] and ours.tokenizer.decode(ids) == text
    # transformers builds every GGUF tokenizer with GPT-2's rule; SmolLM2's own cuts digits one by one, which shows in digits like \u0661 only
    for text in ("Caf\u00e9 na\u00efve \u4f60\u597d 1,234.56  \t\n\n  x\u00b2 don't I'LL <|im_start|>user\n\U0001f600", chatml(("system", "Be brief."), ("user", "2 + 2?"))):
        assert ours.tokenizer.encode(text).tolist() == tokenizer(text)["input_ids"]
    tokens = ids[None, :512]
    with torch.no_grad():
        want = theirs(torch.tensor(tokens, dtype=torch.int64)).logits.numpy()
    got = np.asarray(nnx.jit(lambda decoder, tokens: decoder(tokens))(ours.decoder, jnp.asarray(tokens)))
    difference = np.abs(got - want).max()
    with capsys.disabled():
        print(f"\nSmolLM2, 512 tokens: largest difference {difference:.2e}, logits {want.min():.1f} to {want.max():.1f}")
    assert difference <= 2e-3
    assert (got.argmax(-1) == want.argmax(-1)).all()


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france(smollm2):
    model, _, _ = smollm2
    ids = model.tokenizer.encode("The capital of France is")
    step = nnx.jit(lambda decoder, tokens, state: decoder.extend(tokens, state))
    state, tokens, said = model.decoder.init_state(1, 16), ids[None], []
    for _ in range(4):
        logits, state = step(model.decoder, jnp.asarray(tokens), state)
        tokens = np.asarray(jnp.argmax(logits[:, -1:], -1), np.int32)
        said.append(int(tokens[0, 0]))
    assert model.tokenizer.decode(said).startswith(" Paris.")
