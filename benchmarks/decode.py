"""Reading a prompt and writing on, in the shape of a published model, ours beside transformers' LlamaForCausalLM on torch.

    python -m benchmarks.decode [SHAPE ...]                shapes: benchmarks/shapes.py; weights are random, which no speed depends on

prefill: logits of all T tokens, and the cache. decode: greedy tokens one by one from a cache that holds T. Batch 1, float32.
"""
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.shapes import DECODE
from benchmarks.timing import matmul, race, report
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.layers import GatedMlp
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Rope
from lcref.provenance import cores


def model(layers, d_model, heads, kv_heads, feed_forward, vocab, **rest):
    """The DecoderConfig of a shape; what is not the model's (T, tokens) is left out."""
    return DecoderConfig(vocab=vocab, d_model=d_model, layers=layers, mixer=AttentionConfig(heads=heads, kv_heads=kv_heads), position=Rope(),
                         feed_forward=GatedMlp(feed_forward), tie_embeddings=True)


def ours(T, tokens, vocab, **shape):
    graph, params = nnx.split(Decoder(model(vocab=vocab, **shape), rngs=nnx.Rngs(0)))
    prompt = np.random.default_rng(0).integers(0, vocab, (1, T)).astype(np.int32)

    @jax.jit
    def prefill(params, prompt):
        decoder = nnx.merge(graph, params)
        return decoder.extend(prompt, decoder.init_state(1, T + tokens))

    @jax.jit
    def decode(params, token, state):
        decoder = nnx.merge(graph, params)

        def step(carry, _):
            logits, state = decoder.extend(carry[0], carry[1])
            return (jnp.argmax(logits, -1).astype(jnp.int32), state), logits[0, 0, 0]
        return jax.lax.scan(step, (token, state), None, length=tokens)[1]
    _, state = prefill(params, prompt)
    state = jax.tree.map(jnp.asarray, state)
    return (lambda: jax.block_until_ready(prefill(params, prompt))), (lambda: decode(params, prompt[:, :1], state).block_until_ready())


def theirs(layers, d_model, heads, kv_heads, feed_forward, T, tokens, vocab):
    try:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        return None
    torch.set_num_threads(cores())
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocab, hidden_size=d_model, intermediate_size=feed_forward, num_hidden_layers=layers,
                                         num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=4 * T,
                                         tie_word_embeddings=True)).eval()
    prompt = torch.randint(0, vocab, (1, T))

    @torch.no_grad()
    def prefill():
        return model(prompt, use_cache=True)
    past = prefill().past_key_values

    @torch.no_grad()
    def decode():
        token = prompt[:, :1]
        for _ in range(tokens):
            token = model(token, past_key_values=past, use_cache=True).logits[:, -1:].argmax(-1)
        past.crop(-tokens)
    return prefill, decode


def main(names):
    matmul()
    for name in names or DECODE:
        shape = DECODE[name]
        contenders = {who: made for who, made in (("lcref", ours(**shape)), ("transformers (torch)", theirs(**shape))) if made}
        for i, (what, count) in enumerate((("prefill", shape["T"]), ("decode", shape["tokens"]))):
            seconds = race({who: made[i] for who, made in contenders.items()}, repeats=5)
            report(f"{what} {name} {shape}", seconds, work=count * 1e9, unit="tokens/s")


if __name__ == "__main__":
    main(sys.argv[1:])
