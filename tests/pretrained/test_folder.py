"""Folders of safetensors: read as written, one file or several, and what is wrong with one is said in one line."""
import itertools
import json
import os
import pickle

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("gguf")
pytest.importorskip("safetensors")

from safetensors.flax import save_file  # noqa: E402

from lcref.pretrained import folder  # noqa: E402
from tests.pretrained.tiny import CONFIG, bounded, message, weights, write_folder  # noqa: E402


def raw(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return np.uint64(len(text) if length is None else length).tobytes() + text + data


def one(dtype="F32", shape=(2,), offsets=(0, 8), name="a"):
    return {name: dict(dtype=dtype, shape=list(shape), data_offsets=list(offsets))}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_was_written_is_read(dtype, tmp_path):
    want = {name: jnp.asarray(array, dtype) for name, array in weights().items()}
    write_folder(tmp_path)
    save_file(want, tmp_path / "model.safetensors")
    source = folder.read(tmp_path)
    assert source.config == CONFIG and source.tensors.keys() == want.keys()
    for name, array in want.items():
        got = source.tensors[name].array()
        assert got.dtype == np.float32 and source.tensors[name].shape == array.shape
        np.testing.assert_array_equal(got, np.asarray(array, np.float32))


def sharded(path, tensors):
    """Three files and their index."""
    write_folder(path)
    (path / "model.safetensors").unlink()
    names = {name: f"model-{i % 3}.safetensors" for i, name in enumerate(tensors)}
    for file in set(names.values()):
        save_file({name: jnp.asarray(tensors[name]) for name in tensors if names[name] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps(dict(metadata={}, weight_map=names)))
    return names


def test_several_files(tmp_path):
    want = weights()
    sharded(tmp_path, want)
    got = folder.read(tmp_path).tensors
    assert got.keys() == want.keys() and all((got[name].array() == want[name]).all() for name in want)


def reindex(path, names):
    (path / "model.safetensors.index.json").write_text(json.dumps(dict(weight_map=names)))


@pytest.mark.parametrize("name", ["../model-0.safetensors", "/etc/passwd", "a/b.safetensors", "a\\b.safetensors", "c:x.safetensors", "model.bin",
                                  "..", "", "x\n.safetensors", "\0.safetensors", 3, None])
def test_an_index_names_files_beside_it(name, tmp_path):
    names = sharded(tmp_path, weights())
    reindex(tmp_path, names | {"lm_head.weight": name})
    line = message(folder.read, tmp_path)
    assert "not the plain name" in line if isinstance(name, str) else "should map tensors to file names" in line


def test_an_index_that_is_wrong(tmp_path):
    names = sharded(tmp_path, weights())
    first, *_ = names
    for changed, words in (({"x": "model-0.safetensors"}, "'x' is said to be in model-0.safetensors, and is in none"),
                           ({first: "model-1.safetensors"}, "said to be in model-1.safetensors, and is in model-0.safetensors"),
                           ({"x": "model-9.safetensors"}, "model-9.safetensors: there is no such file")):
        reindex(tmp_path, names | changed)
        assert words in message(folder.read, tmp_path)
    reindex(tmp_path, {name: file for name, file in names.items() if name != first})
    assert "said to be in no file" in message(folder.read, tmp_path)
    save_file({first: jnp.zeros(1)}, tmp_path / "model-1.safetensors")
    reindex(tmp_path, names)
    assert "is in model-0.safetensors and in model-1.safetensors" in message(folder.read, tmp_path)


def test_pickles_are_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)
    write_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.safetensors"):            # under an honest name, and under a false one
        (tmp_path / name).write_bytes(pickle.dumps(Trap()))
        line = message(folder.read, tmp_path)
        assert "is a pickle" in line if name.endswith(".bin") else "not a whole safetensors file" in line
    assert not (tmp_path / "sprung").exists()


def test_no_folder_no_weights_no_config(tmp_path):
    assert "no such folder" in message(folder.read, tmp_path / "none")
    assert "there is none" in message(folder.read, tmp_path)
    write_folder(tmp_path)
    assert "not a folder" in message(folder.read, tmp_path / "config.json")
    (tmp_path / "config.json").unlink()
    assert "config.json: there is no such file" in message(folder.read, tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    write_folder(tmp_path)
    os.remove(tmp_path / "config.json")
    os.mkfifo(tmp_path / "config.json")
    assert "not a plain file" in message(folder.read, tmp_path)


JSON = {"not JSON": b"{", "not an object": b"[1, 2]", "not text": b"\xff\xfe{}", "deep": b"[" * 100_000, "deep but whole": b"[" * 900 + b"]" * 900,
        "twice": b'{"a": 1, "a": 2}', "a number of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}"}


@pytest.mark.parametrize("name", JSON)
def test_a_config_that_is_not_json(name, tmp_path):
    write_folder(tmp_path)
    (tmp_path / "config.json").write_bytes(JSON[name])
    message(folder.read, tmp_path)


def test_a_config_without_end(tmp_path):
    write_folder(tmp_path)
    with open(tmp_path / "config.json", "wb") as file:
        file.truncate(2**40)                               # a sparse file: no disk is used
    assert "are more than" in message(folder.read, tmp_path)


WRONG = {
    "empty": (b"", "0 bytes"),
    "short": (b"\1\2\3", "3 bytes"),
    "header past the end": (raw({}, length=1000), "a header of 1000 bytes"),
    "huge header": (raw({}, length=2**63), "a header of 9223372036854775808 bytes"),
    "not JSON": (raw(b"{nothing}"), "not the JSON"),
    "twice": (raw(json.dumps(one()).encode()[:-1] + b"," + json.dumps(one()).encode()[1:], bytes(8)), "occurs twice"),
    "not an entry": (raw({"a": 3}), "should have dtype, shape and data_offsets"),
    "dtype": (raw(one(dtype="F99"), bytes(8)), "unknown dtype 'F99'"),
    "dtype list": (raw(one(dtype=["F32"]), bytes(8)), "unknown dtype"),
    "negative shape": (raw(one(shape=(-2,)), bytes(8)), "shape [-2]"),
    "shape of floats": (raw(one(shape=(2.0,)), bytes(8)), "shape [2.0]"),
    "shape of truths": (raw(one(shape=(True, 2)), bytes(8)), "shape [True, 2]"),
    "overflow": (raw(one(shape=(2**32, 2**32)), bytes(8)), "needs 73786976294838206464 bytes"),
    "too many axes": (raw(one(shape=(1,) * 9), bytes(8)), "shape [1, 1"),
    "offsets": (raw(one(offsets=(0, 16)), bytes(16)), "needs 8 bytes"),
    "past the end": (raw(one(offsets=(8, 16)), bytes(8)), "in 8 bytes of data"),
    "backwards": (raw(one(offsets=(8, 0)), bytes(8)), "needs 8 bytes"),
    "three offsets": (raw(one(offsets=(0, 8, 8)), bytes(8)), "needs 8 bytes"),
    "gap": (raw(one(offsets=(8, 16)), bytes(16)), "starts at byte 8"),
    "overlap": (raw(one() | one(offsets=(4, 12), name="b"), bytes(12)), "'b' starts at byte 4 of the data, the one before it ends at 8"),
    "rest": (raw(one(), bytes(9)), "9 bytes of data, and tensors for 8"),
    "metadata": (raw(one() | {"__metadata__": {"a": 3}}, bytes(8)), "not a safetensors file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_says_what_is_wrong(name, tmp_path):
    file, words = WRONG[name]
    (tmp_path / "model.safetensors").write_bytes(file)
    assert words in message(folder.read_file, str(tmp_path / "model.safetensors"))


def test_numbers_that_are_not_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(raw(one(dtype="I32"), bytes(8)))
    assert "I32" in message(lambda path: folder.read_file(path)["a"].array(), str(tmp_path / "model.safetensors"))


# ------------------------------------------------------------------------------------------------------------------ fuzzing

NUMBER = itertools.count()


def survives(here, file):
    path = here / f"{next(NUMBER)}.safetensors"
    path.write_bytes(file)
    try:
        for tensor in folder.read_file(str(path)).values():
            tensor.array()
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    finally:
        path.unlink()


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    here = tmp_path_factory.mktemp("safetensors")
    tensors = {"a": jnp.ones((2, 3)), "b": jnp.ones(4, jnp.bfloat16), "c": jnp.ones(3, jnp.float16)}
    save_file(tensors, here / "valid.safetensors", metadata={"format": "pt"})
    return here, (here / "valid.safetensors").read_bytes()


def test_every_truncation(valid):
    here, file = valid
    for n in range(len(file)):
        path = here / f"cut{n}.safetensors"
        path.write_bytes(file[:n])
        message(folder.read_file, str(path))


@given(st.binary(max_size=300))
def test_random_bytes(valid, noise):
    bounded(lambda: (survives(valid[0], noise), survives(valid[0], raw(noise, bytes(16)))))


@given(st.data())
def test_changed_bytes(valid, data):
    here, file = valid

    def run():
        for _ in range(10):
            changed = bytearray(file)
            at = data.draw(st.integers(0, len(file) - 9))
            value = data.draw(st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([np.uint64(n).tobytes() for n in (0, 2**31, 2**63, 2**64 - 1)])))
            changed[at:at + len(value)] = value
            survives(here, bytes(changed))
    bounded(run)


WORDS = st.sampled_from(["a", "dtype", "shape", "data_offsets", "F32", "BF16", "__metadata__", "weight_map"])
VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=3),
                      lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=8)


@given(VALUES, st.dictionaries(WORDS, VALUES, max_size=3))
def test_headers_of_anything(valid, header, entries):
    for value in (header, {"a": entries}, {"a": one()["a"] | entries}):
        survives(valid[0], raw(value, bytes(8)))
