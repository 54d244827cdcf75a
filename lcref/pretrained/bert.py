"""BERT and the sentence encoders made of it (MiniLM, ...): weights as torch stores them, [out, in], transposed here.

    embeddings.{word,position}_embeddings  embedding, position;  embeddings.token_type_embeddings  segment (its first row);  LayerNorm  norm
    encoder.layer.i.attention.self.{query,key,value}, attention.output.dense       blocks.i.q, k, v, out
    encoder.layer.i.intermediate.dense, output.dense                               up, down
    encoder.layer.i.{attention.output,output}.LayerNorm                            mixer_norm, feed_norm

What stands on top of the encoder, a pooler or a head that guesses hidden words, is left out. Names may have "bert." in front.
"""
from __future__ import annotations

import re

from lcref.nn.encoder import EncoderConfig
from lcref.nn.layers import Centred
from lcref.pretrained.source import Fields

BUFFERS = re.compile(r"embeddings\.position_ids|(pooler|cls)\..+")
TIED = None                                                # no logits, no matrix for them


def config(fields: Fields) -> tuple[EncoderConfig, int]:
    """(EncoderConfig, window). ValueError for what the Encoder does not have."""
    fields.only("hidden_act", ("gelu",), "the feed-forward layer uses the exact gelu")
    fields.only("position_embedding_type", ("absolute",), "positions are learned vectors, added to the tokens'")
    fields.only("is_decoder", (False,), "every token sees every other")
    fields.only("type_vocab_size", (2,), "there are two segments")
    length = fields.whole("max_position_embeddings")
    return EncoderConfig(vocab=fields.whole("vocab_size"), d_model=fields.whole("hidden_size"), layers=fields.whole("num_hidden_layers"),
                         heads=fields.whole("num_attention_heads"), width=fields.whole("intermediate_size"), length=length,
                         norm=Centred(fields.number("layer_norm_eps", 1e-12))), length


def layout(cfg: EncoderConfig) -> dict:
    """tensor -> (its shape, {parameter: how to cut it out of the tensor})"""
    D, F, whole, turned = cfg.d_model, cfg.width, lambda w: w, lambda w: w.T
    found = {"embeddings.word_embeddings.weight": ((cfg.vocab, D), {"embedding": whole}),
             "embeddings.position_embeddings.weight": ((cfg.length, D), {"position": whole}),
             "embeddings.token_type_embeddings.weight": ((2, D), {"segment": lambda w: w[0]})}
    norms = {"embeddings.LayerNorm": "norm"}
    for i in range(cfg.layers):
        there, here = f"encoder.layer.{i}.", f"blocks.{i}."
        norms |= {there + "attention.output.LayerNorm": here + "mixer_norm", there + "output.LayerNorm": here + "feed_norm"}
        square = {"attention.self.query": "q", "attention.self.key": "k", "attention.self.value": "v", "attention.output.dense": "out"}
        shapes = {theirs: (ours, (D, D)) for theirs, ours in square.items()}
        for theirs, (ours, shape) in (shapes | {"intermediate.dense": ("up", (F, D)), "output.dense": ("down", (D, F))}).items():
            found[f"{there}{theirs}.weight"] = shape, {f"{here}{ours}.kernel": turned}
            found[f"{there}{theirs}.bias"] = shape[:1], {f"{here}{ours}.bias": whole}
    for theirs, ours in norms.items():
        found[theirs + ".weight"], found[theirs + ".bias"] = ((D,), {ours + ".scale": whole}), ((D,), {ours + ".shift": whole})
    return found


def canonical(name: str) -> str:
    return name.removeprefix("bert.")
