"""Tiny models with random weights, written the way other people's programs write them: by gguf's writer and by safetensors; and what a
reader must do with a file that is wrong."""
import json
import tracemalloc

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from lcref.pretrained import gguf_words

D, F, HEADS, KV_HEADS, LAYERS = 32, 32, 4, 2, 2                        # 32: the width of a block of most quantised types
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdef0123456789.\u0120\u010a", "ab", "cd", "\u0120ab", "abcd"]
MERGES = ["a b", "c d", "\u0120 ab", "ab cd"]
W = len(TOKENS)
CONFIG = dict(model_type="llama", vocab_size=W, hidden_size=D, intermediate_size=F, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
              num_key_value_heads=KV_HEADS, max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=True, rope_theta=1000.0)
BLOCK = {"input_layernorm": (D,), "post_attention_layernorm": (D,), "self_attn.q_proj": (D, D), "self_attn.k_proj": (D // 2, D),
         "self_attn.v_proj": (D // 2, D), "self_attn.o_proj": (D, D), "mlp.gate_proj": (F, D), "mlp.up_proj": (F, D), "mlp.down_proj": (D, F)}


def weights(layers=LAYERS, seed=0) -> dict[str, np.ndarray]:
    """transformers' names -> float32."""
    rng = np.random.default_rng(seed)
    shapes = {"model.embed_tokens": (W, D), "model.norm": (D,)} | {f"model.layers.{i}.{n}": s for i in range(layers) for n, s in BLOCK.items()}
    return {f"{name}.weight": rng.normal(size=shape).astype(np.float32) * 0.3 + (len(shape) == 1) for name, shape in shapes.items()}


def permuted(rows, heads):
    """What llama.cpp's converter does to the rows of W_q and W_k."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write_gguf(path, tensors=None, kind="F32", settings=None, extra=None, tokenizer=True, rule="smollm"):
    """A llama file. settings: {key after "llama.": value, None to leave it out}; extra: more tensors, by GGUF's names."""
    tensors = weights() if tensors is None else tensors
    layers = max((int(name.split(".")[2]) + 1 for name in tensors if "layers" in name), default=1)
    writer = gguf.GGUFWriter(path, "llama")
    keys = {"block_count": layers, "context_length": 64, "embedding_length": D, "feed_forward_length": F, "attention.head_count": HEADS,
            "attention.head_count_kv": KV_HEADS, "rope.freq_base": 1000.0, "attention.layer_norm_rms_epsilon": 1e-5} | (settings or {})
    for key, value in keys.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array}
        if value is not None:
            add[type(value)](f"llama.{key}", value)
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(rule)
        writer.add_token_list(TOKENS)
        writer.add_token_types([3] * 3 + [1] * (W - 3))
        writer.add_token_merges(MERGES)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
    names = gguf_words.back(gguf_words.LLAMA_TENSORS, gguf_words.LLAMA_BLOCK)
    for name, array in tensors.items():
        array = permuted(array, {"q": HEADS, "k": KV_HEADS}[name.split("_proj")[0][-1]]) if "q_proj" in name or "k_proj" in name else array
        number = gguf.GGMLQuantizationType[kind if array.ndim == 2 else "F32"]
        writer.add_tensor(names(name), gguf.quants.quantize(array, number), raw_dtype=number)
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_folder(path, tensors=None, config=None):
    """A folder with one safetensors file. config: changes to CONFIG, None to leave a key out."""
    path.mkdir(exist_ok=True)
    merged = {key: value for key, value in (CONFIG | (config or {})).items() if value is not None}
    (path / "config.json").write_text(json.dumps(merged))
    save_file(weights() if tensors is None else tensors, path / "model.safetensors")
    return path


def raw_gguf(entries=b"", infos=b"", data=b"", tensors=0, count=0, version=3, magic=b"GGUF", alignment=32):
    """The bytes of a GGUF file, as wrong as one likes."""
    head = magic + np.uint32(version).tobytes() + np.uint64([tensors, count]).tobytes() + entries + infos
    return head + b"\0" * (-len(head) % alignment) + data


def text(string):
    raw = string if isinstance(string, bytes) else string.encode()
    return np.uint64(len(raw)).tobytes() + raw


def entry(key, kind, value):
    return text(key) + np.uint32(kind).tobytes() + value


def info(name, sizes, kind, offset):
    return text(name) + np.uint32(len(sizes)).tobytes() + np.uint64(sizes).tobytes() + np.uint32(kind).tobytes() + np.uint64(offset).tobytes()


def message(function, *args):
    """The error's one line, which has to be a ValueError that names the file (the first argument)."""
    with pytest.raises(ValueError) as caught:
        function(*args)
    line = str(caught.value)
    assert str(args[0]) in line and "\n" not in line and len(line) < 400 + len(str(args[0])), line
    return line


def bounded(function):
    """Runs it, and no more than 32 MiB may have been allocated at any one time, by Python or by numpy."""
    tracemalloc.start()
    try:
        function()
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
