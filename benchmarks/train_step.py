"""One training step of a small Llama-shaped decoder, ours beside transformers' LlamaForCausalLM on torch where both are installed.

    python -m benchmarks.train_step [SHAPE ...]            shapes: benchmarks/shapes.py

Both: gated feed-forward, RMSNorm, RoPE, untied head, AdamW, float32, same sizes. Ours runs several steps per compiled call, as
training does; the time per step is the call's divided by their number.
"""
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.shapes import TRAIN_STEP
from benchmarks.timing import matmul, race, report
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.layers import GatedMlp
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Rope
from lcref.provenance import cores
from lcref.train import TrainConfig, call, make_optimizer, parameter_groups

STEPS = 4                                                  # per compiled call


def ours(layers, d_model, heads, feed_forward, T, B, vocab):
    cfg = DecoderConfig(vocab=vocab, d_model=d_model, layers=layers, mixer=AttentionConfig(heads=heads), position=Rope(),
                        feed_forward=GatedMlp(feed_forward))
    decoder = Decoder(cfg, rngs=nnx.Rngs(0))
    graph, params = nnx.split(decoder, nnx.Param)
    optimizer = make_optimizer(TrainConfig(), tuple(parameter_groups(decoder).values()), jax.tree.structure(params))
    tokens = np.random.default_rng(0).integers(0, vocab, (STEPS, B, T + 1)).astype(np.int32)
    data = dict(inputs=tokens[..., :-1], targets=tokens[..., 1:], weights=np.ones((STEPS, B, T), np.float32))
    state = [params, optimizer.init(params)]

    def run():
        state[0], state[1], losses, _ = call(graph, optimizer, cfg.position, *state, data, jax.random.key(0), jnp.int32(0))
        losses.block_until_ready()
    return {"lcref": run}


def theirs(layers, d_model, heads, feed_forward, T, B, vocab):
    try:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        return {}
    torch.set_num_threads(cores())
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocab, hidden_size=d_model, intermediate_size=feed_forward, num_hidden_layers=layers,
                                         num_attention_heads=heads, max_position_embeddings=2 * T))
    optimizer, x = torch.optim.AdamW(model.parameters(), lr=1e-3), torch.randint(0, vocab, (B, T))

    def run():
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            model(x, labels=x).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return {"transformers (torch)": run}


def main(names):
    matmul()
    for name in names or TRAIN_STEP:
        shape = TRAIN_STEP[name]
        seconds = race(ours(**shape) | theirs(**shape), repeats=7)
        seconds = {who: [s / STEPS for s in times] for who, times in seconds.items()}
        report(f"train step {name} {shape}", seconds, work=shape["B"] * shape["T"] * 1e9, unit="tokens/s")


if __name__ == "__main__":
    main(sys.argv[1:])
