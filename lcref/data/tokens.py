"""Byte tokens: ids 0..255 are the bytes themselves, 256 opens a document. No training, no unknown words, 257 rows of embedding.

Why a token at a document's start: without position embeddings (NoPE) the first token is the only thing that causal attention can
count from, and every scheme can use it as the place where attention rests. A row of packed text that continues a document does
not begin with it, so a model sees both kinds. It is never a target: one document does not predict the next.
"""

from __future__ import annotations

import numpy as np

BOS = 256
VOCAB = 257


def encode(text: str | bytes) -> np.ndarray:
    """uint16 [1+n]: BOS, then the n bytes of the text (UTF-8 where it is a str)."""
    text = text.encode() if isinstance(text, str) else text
    return np.concatenate([np.array([BOS], np.uint16), np.frombuffer(text, np.uint8)])


def decode(tokens) -> str:
    """The text of some token ids; BOS prints as nothing, and bytes that are not UTF-8 as the replacement character."""
    tokens = np.asarray(tokens).ravel()
    return tokens[tokens < 256].astype(np.uint8).tobytes().decode("utf-8", errors="replace")
