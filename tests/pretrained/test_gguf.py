"""GGUF files: what gguf's writer writes is read back, and what is wrong with a file is said in one line, whatever it is."""
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("gguf")

import gguf as library  # noqa: E402

from lcref.pretrained import families, gguf, gguf_words, tokenizer  # noqa: E402
from tests.pretrained.tiny import MERGES, TOKENS, W, bounded, entry, info, message, raw_gguf, text, weights, write_gguf  # noqa: E402

# half a step of the coarsest block of numbers drawn from N(0, 0.3^2); what the float types lose
WITHIN = {"F32": 0, "F16": 1e-3, "BF16": 8e-3, "Q8_0": 0.01, "Q5_0": 0.08, "Q5_1": 0.05, "Q4_0": 0.16, "Q4_1": 0.1}


@pytest.mark.parametrize("kind", WITHIN)
def test_what_was_written_is_read(kind, tmp_path):
    want = weights()
    file = gguf.read(write_gguf(tmp_path / "m.gguf", want, kind))
    assert file.metadata["general.architecture"] == "llama" and file.metadata["llama.embedding_length"] == 32
    assert file.metadata["tokenizer.ggml.tokens"] == TOKENS and file.metadata["tokenizer.ggml.merges"] == MERGES
    assert file.metadata["tokenizer.ggml.token_type"].tolist() == [3] * 3 + [1] * (W - 3)
    assert file.metadata["llama.rope.freq_base"] == 1000.0
    assert file.kinds["blk.0.attn_q.weight"] == kind and file.kinds["blk.0.attn_norm.weight"] == "F32"
    source = gguf_words.source(file)
    for name, array in want.items():
        got = source.tensors[name].array()
        assert got.dtype == np.float32 and got.shape == array.shape
        difference = np.abs(got - array).max()
        assert difference <= (WITHIN[kind] if array.ndim == 2 else 0) and (difference > 0 or array.ndim == 1 or kind == "F32")


def test_agrees_with_the_librarys_reader(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", kind="Q4_0")
    theirs, ours = library.GGUFReader(path), gguf.read(path)
    assert [t.name for t in theirs.tensors] == list(ours.tensors)
    for tensor in theirs.tensors:
        np.testing.assert_array_equal(library.quants.dequantize(tensor.data, tensor.tensor_type), ours.tensors[tensor.name].array())
    own = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert own == {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in ours.metadata.items()}


def test_blocks_by_hand(tmp_path):
    """Q4_1: a block of 32 is d, m, 16 bytes; number k is d (low or high half of byte k mod 16) + m. Q6_K, which nobody here can write:
    256 numbers, scales of 16, and one d; d = 0 makes zeros, d = 1 with scales 1 and no bits set makes -32."""
    d, m, nibbles = 0.5, -2.0, np.arange(16, dtype=np.uint8) | (15 - np.arange(16, dtype=np.uint8)) << 4
    block = np.float16([d, m]).tobytes() + nibbles.tobytes()
    sixes = [bytes(192) + np.int8([1] * 16).tobytes() + np.float16(scale).tobytes() for scale in (0, 1)]
    infos = info("a", [32], library.GGMLQuantizationType.Q4_1, 0) + info("b", [256, 2], library.GGMLQuantizationType.Q6_K, 32)
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf(infos=infos, data=block + bytes(12) + b"".join(sixes), tensors=2))
    file = gguf.read(path)
    np.testing.assert_array_equal(file.tensors["a"].array(), d * np.concatenate([np.arange(16), 15 - np.arange(16)]) + m)
    np.testing.assert_array_equal(file.tensors["b"].array(), np.repeat([[0.0], [-32.0]], 256, 1))


def test_every_scalar(tmp_path):
    values = {"u8": (0, np.uint8(200)), "i8": (1, np.int8(-5)), "u16": (2, np.uint16(60000)), "i16": (3, np.int16(-300)), "u32": (4, np.uint32(2**31)),
              "i32": (5, np.int32(-7)), "f32": (6, np.float32(0.5)), "yes": (7, np.uint8(1)), "u64": (10, np.uint64(2**63)),
              "i64": (11, np.int64(-2**40)), "f64": (12, np.float64(0.1))}
    entries = b"".join(entry(key, kind, value.tobytes()) for key, (kind, value) in values.items())
    pair = entry("pair", 9, np.uint32(7).tobytes() + np.uint64(2).tobytes() + b"\1\0")
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf(entries=entries + pair, count=len(values) + 1))
    metadata = gguf.read(path).metadata
    assert metadata.pop("pair").tolist() == [True, False]
    assert metadata == {key: value.item() if key != "yes" else True for key, (_, value) in values.items()}


HUGE = np.uint64(2**63).tobytes()
F32 = 0
WRONG = {
    "empty": (b"", "not a GGUF file"),
    "magic": (raw_gguf(magic=b"GGML"), "not a GGUF file"),
    "version": (raw_gguf(version=1), "version 1"),
    "big-endian": (raw_gguf(version=3 << 24), "big-endian"),
    "tensor count": (raw_gguf(tensors=2**60), "tensors are more than"),
    "tensor count beyond the file": (raw_gguf(tensors=1000), "1000 tensors do not fit"),
    "metadata count": (raw_gguf(count=2**64 - 1), "metadata entries are more than"),
    "key length": (raw_gguf(entries=HUGE + b"x" * 50, count=1), "a metadata key is a string of 9223372036854775808 bytes"),
    "key text": (raw_gguf(entries=entry(b"\xff\xfe", 0, b"\0"), count=1), "a metadata key is not UTF-8"),
    "key twice": (raw_gguf(entries=entry("a", 0, b"\0") * 2, count=2), "'a' occurs twice"),
    "string length": (raw_gguf(entries=entry("a", 8, HUGE), count=1), "'a' is a string of 9223372036854775808 bytes"),
    "value type": (raw_gguf(entries=entry("a", 99, b"\0" * 8), count=1), "unknown type 99"),
    "truth": (raw_gguf(entries=entry("a", 7, b"\2"), count=1), "neither 0 nor 1"),
    "array length": (raw_gguf(entries=entry("a", 9, np.uint32(12).tobytes() + HUGE), count=1), "would take"),
    "array of strings": (raw_gguf(entries=entry("a", 9, np.uint32(8).tobytes() + HUGE), count=1), "the 9223372036854775808 strings of 'a'"),
    "string in array": (raw_gguf(entries=entry("a", 9, np.uint32(8).tobytes() + np.uint64(2).tobytes() + text("x") + HUGE), count=1), "string 1 of"),
    "array of arrays": (raw_gguf(entries=entry("a", 9, np.uint32(9).tobytes() + np.uint64(1).tobytes()), count=1), "array of arrays"),
    "array of what": (raw_gguf(entries=entry("a", 9, np.uint32(77).tobytes() + np.uint64(1).tobytes()), count=1), "unknown type 77"),
    "alignment 0": (raw_gguf(entries=entry("general.alignment", 4, np.uint32(0).tobytes()), count=1), "power of two"),
    "alignment 48": (raw_gguf(entries=entry("general.alignment", 4, np.uint32(48).tobytes()), count=1), "power of two"),
    "alignment text": (raw_gguf(entries=entry("general.alignment", 8, text("32")), count=1), "power of two"),
    "name length": (raw_gguf(infos=info("n" * 300, [1], F32, 0), tensors=1, data=b"\0" * 64), "the name of tensor 0 is a string of 300"),
    "name twice": (raw_gguf(infos=info("a", [1], F32, 0) * 2, tensors=2, data=b"\0" * 64), "'a' occurs twice"),
    "axes": (raw_gguf(infos=info("a", [1] * 5, F32, 0), tensors=1, data=b"\0" * 64), "5 axes"),
    "no axes": (raw_gguf(infos=info("a", [], F32, 0), tensors=1, data=b"\0" * 64), "0 axes"),
    "size 0": (raw_gguf(infos=info("a", [0], F32, 0), tensors=1, data=b"\0" * 64), "none may be 0"),
    "tensor type": (raw_gguf(infos=info("a", [1], 250, 0), tensors=1, data=b"\0" * 64), "unknown type 250"),
    "sizes overflow": (raw_gguf(infos=info("a", [2**32, 2**32, 4], F32, 0), tensors=1, data=b"\0" * 64), "past the end"),
    "half a block": (raw_gguf(infos=info("a", [33], 2, 0), tensors=1, data=b"\0" * 64), "multiple of 32"),
    "past the end": (raw_gguf(infos=info("a", [17], F32, 0), tensors=1, data=b"\0" * 64), "past the end"),
    "offset": (raw_gguf(infos=info("a", [1], F32, 2**64 - 32), tensors=1, data=b"\0" * 64), "past the end"),
    "not aligned": (raw_gguf(infos=info("a", [1], F32, 4), tensors=1, data=b"\0" * 64), "not aligned"),
    "overlap": (raw_gguf(infos=info("a", [9], F32, 0) + info("b", [1], F32, 32), tensors=2, data=b"\0" * 64), "'a' and 'b' overlap"),
    "same place": (raw_gguf(infos=info("a", [1], F32, 0) + info("b", [1], F32, 0), tensors=2, data=b"\0" * 64), "'a' and 'b' overlap"),
}


@pytest.mark.parametrize("name", WRONG)
def test_says_what_is_wrong(name, tmp_path):
    raw, words = WRONG[name]
    (tmp_path / "m.gguf").write_bytes(raw)
    assert words in message(gguf.read, tmp_path / "m.gguf")


def test_a_header_past_the_limit(tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "m.gguf")
    monkeypatch.setattr(gguf, "HEADER", 1000)
    assert "a header of 1000 bytes, the limit here, ends" in message(gguf.read, path)


def test_not_a_file(tmp_path):
    assert "there is no such file" in message(gguf.read, tmp_path / "no.gguf")
    assert "not a plain file" in message(gguf.read, tmp_path)


def test_a_type_that_cannot_be_turned_into_numbers(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf(infos=info("a", [1], library.GGMLQuantizationType.I64, 0), tensors=1, data=bytes(8)))
    assert "I64" in message(lambda path: gguf.read(path).tensors["a"].array(), path)


# ------------------------------------------------------------------------------------------------------------------ fuzzing

NUMBER = itertools.count()


def survives(folder, raw):
    """All that loading does with a file's words and numbers, but for building the Decoder: a result or a ValueError of one line."""
    path = folder / f"{next(NUMBER)}.gguf"                 # a new file each time: an old one may still be mapped
    path.write_bytes(raw)
    try:
        file = gguf.read(path)
        for tensor in file.tensors.values():
            tensor.array()
        for step in (lambda: families.plan(gguf_words.source(file)), lambda: tokenizer.from_gguf(file.metadata, str(path))):
            try:
                step()
            except ValueError as error:
                assert str(path) in str(error) and "\n" not in str(error)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    finally:
        path.unlink()


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    path = write_gguf(folder / "valid.gguf", weights(1), "Q4_1")
    raw = path.read_bytes()
    families.plan(gguf_words.source(gguf.read(path)))      # it is valid
    return folder, raw, len(raw) - sum(t.n_bytes for t in library.GGUFReader(path).tensors)


def test_every_truncation(valid):
    folder, raw, header = valid
    for n in [*range(header), *range(header, len(raw), 97)]:
        path = folder / f"cut{n}.gguf"
        path.write_bytes(raw[:n])
        message(gguf.read, path)
        path.unlink()


@given(st.binary(max_size=300))
def test_random_bytes(valid, noise):
    bounded(lambda: (survives(valid[0], noise), survives(valid[0], raw_gguf(entries=noise, tensors=1, count=2))))


@given(st.data())
def test_changed_bytes(valid, data):
    """Counts, lengths, types, offsets and texts of a valid file, each replaced by something else."""
    folder, raw, header = valid

    def run():
        for _ in range(10):
            changed = bytearray(raw)
            for _ in range(data.draw(st.integers(1, 2))):
                at = data.draw(st.integers(0, header - 9))
                value = data.draw(st.one_of(st.binary(min_size=1, max_size=1), st.sampled_from(
                    [np.uint64(n).tobytes() for n in (0, 1, 2**16, 2**31, 2**32 - 1, 2**63, 2**64 - 1)] + [np.uint32(n).tobytes() for n in (0, 8, 9, 2**31)])))
                changed[at:at + len(value)] = value
            survives(folder, bytes(changed))
    bounded(run)


def test_every_byte_of_the_header_once(valid):
    """Set to 255: the highest byte of every length, count and offset is among them."""
    folder, raw, header = valid
    for at in range(header):
        survives(folder, raw[:at] + b"\xff" + raw[at + 1:])
