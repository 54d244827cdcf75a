"""Writes tests/pretrained/fixtures: tiny models with random weights, saved by transformers, and the logits that transformers gives.

    python tests/pretrained/make_fixtures.py        needs torch and transformers; the files are committed, so nobody else needs either

llama_yarn is one file in bfloat16, llama_llama3 several in float16, gpt2 and mamba2 one in float32. Logits are computed in float32.
"""
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent / "fixtures"
LLAMA = dict(vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             head_dim=8, max_position_embeddings=32, tie_word_embeddings=True)
YARN = dict(rope_type="yarn", rope_theta=10_000.0, factor=4.0, original_max_position_embeddings=8)
LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=4.0, original_max_position_embeddings=8, low_freq_factor=1.0, high_freq_factor=4.0)
MAMBA2 = dict(vocab_size=32, hidden_size=16, num_hidden_layers=2, num_heads=4, head_dim=8, n_groups=2, state_size=4, use_bias=True,
              tie_word_embeddings=True)
BERT = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, max_position_embeddings=24)
LENGTH = {"mamba2": 70}                                    # of the tokens, 20 elsewhere: more than one chunk
MODELS = {
    "llama_yarn": (transformers.LlamaConfig(**LLAMA, rope_parameters=YARN), torch.bfloat16, "1GB"),
    "llama_llama3": (transformers.LlamaConfig(**LLAMA, rope_parameters=LLAMA3), torch.float16, "6KB"),
    "gpt2": (transformers.GPT2Config(vocab_size=48, n_embd=16, n_layer=2, n_head=2, n_positions=24), torch.float32, "1GB"),
    "mamba2": (transformers.Mamba2Config(**MAMBA2), torch.float32, "1GB"),
    "bert": (transformers.BertConfig(**BERT), torch.float32, "1GB"),
}


def randomised(config, dtype, seed):
    """A model whose every parameter is random: biases and norms too, or a mistake in them would not show."""
    kind = transformers.AutoModel if config.model_type == "bert" else transformers.AutoModelForCausalLM
    model, generator = kind.from_config(config).eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_((noise + ("norm" in name.lower() or "ln_" in name) * name.endswith("weight")).to(dtype).float())
    return model


def output(model, tokens):
    """Logits; of an encoder its last layer."""
    with torch.no_grad():
        said = model(torch.tensor(tokens, dtype=torch.int64))
    return (said.last_hidden_state if model.config.model_type == "bert" else said.logits).numpy()


def main():
    for seed, (name, (config, dtype, shard)) in enumerate(MODELS.items()):
        model, folder = randomised(config, dtype, seed), FOLDER / name
        tokens = np.random.default_rng(seed).integers(0, config.vocab_size, (1, LENGTH.get(name, 20)), np.int32)
        logits = output(model, tokens)
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        (folder / "generation_config.json").unlink(missing_ok=True)
        save_file({"tokens": tokens, "logits": logits}, FOLDER / f"{name}_expected.safetensors")
        print(name, sorted((path.name, path.stat().st_size) for path in folder.iterdir()), file=sys.stderr)


if __name__ == "__main__":
    main()
