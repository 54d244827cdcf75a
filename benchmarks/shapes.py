"""Named shapes, shared by tests and benchmarks: the tests run the small ones, the benchmarks all."""

ATTENTION = {                                              # causal, float32
    "tiny": dict(B=1, T=256, H=2, K=32),
    "train-256": dict(B=16, T=256, H=4, K=32),
    "1k": dict(B=1, T=1024, H=4, K=64),
    "4k": dict(B=1, T=4096, H=4, K=64),
    "8k": dict(B=1, T=8192, H=4, K=64),
}
WINDOWS = {                                                # causal, float32, most of the square hidden
    "tiny": dict(B=1, T=1024, H=2, K=32),
    "32k": dict(B=1, T=32768, H=4, K=64),
}
TRAIN_STEP = {                                             # a Llama-shaped decoder: gated feed-forward, RoPE, AdamW
    "tiny": dict(layers=2, d_model=32, heads=2, feed_forward=64, T=32, B=2, vocab=64),
    "4x128": dict(layers=4, d_model=128, heads=4, feed_forward=512, T=256, B=16, vocab=256),
}
DECODE = {                                                 # a Llama-shaped decoder: T tokens of prompt, then `tokens` one by one
    "tiny": dict(layers=2, d_model=32, heads=4, kv_heads=2, feed_forward=64, T=32, tokens=4, vocab=64),
    "smollm2-135m": dict(layers=30, d_model=576, heads=9, kv_heads=3, feed_forward=1536, T=2048, tokens=16, vocab=49152),
}
MAMBA2 = {                                                 # one layer of Mamba-2, E = 2 D
    "tiny": dict(B=1, T=64, d_model=16, state=8, head_dim=8),
    "8k": dict(B=1, T=8192, d_model=256, state=64, head_dim=64),
}
S4 = {                                                     # H channels, each a DPLR system of N states
    "tiny": dict(B=1, T=64, H=4, N=8),
    "4k": dict(B=4, T=4096, H=128, N=64),
}
STREAM = {                                                 # Mamba-2 decoders over text without end
    "tiny": dict(layers=1, d_model=16, state=8, tokens=512, every=128, piece=64),
    "1M": dict(layers=2, d_model=64, state=64, tokens=1_000_000, every=100_000, piece=2_000),
}
