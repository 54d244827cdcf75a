"""Is this machine ready? One line for each thing that experiments depend on, with what to do where something is missing."""

import importlib.metadata
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

import lcref
from lcref import compilation, provenance
from lcref.catalogue import shorter
from lcref.experiment import experiments, shipped

# extra of pyproject.toml -> modules that show whether it is installed
EXTRAS = {
    "real": ("tensorflow_datasets", "array_record", "importlib_resources"),
    "hf": ("gguf", "safetensors", "tokenizers", "huggingface_hub"),
    "notebooks": ("jupytext", "nbmake", "jupyterlab"),
    "reference": ("pdoc",),
    "oracle": ("torch", "scipy", "sklearn", "transformers"),
    "dev": ("pytest", "xdist", "hypothesis", "build", "hatchling"),
}


def report(out: str = "runs") -> tuple[list[str], bool]:
    """The lines to print, and whether experiments can run."""
    lines, well = [], True

    def say(name, text):
        lines.append(f"{name:<17} {text}")

    say("lcref", f"{lcref.__version__}  {provenance.commit() or 'no commit known'}")
    say("python", f"{sys.version.split()[0]}  {sys.executable}")
    for name in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy"):
        say(name, importlib.metadata.version(name))
    try:
        import flax.nnx  # noqa: F401  an unlucky pair of jax and flax fails here
        import jax

        say("devices", ", ".join(f"{d.platform}:{d.id} {d.device_kind}" for d in jax.devices()))
    except Exception as error:
        well = False
        say("devices", f"jax or flax does not start: {type(error).__name__}: {error}".splitlines()[0])
    say("cores", f"{provenance.cores()}  {provenance.cpu_name()}")
    for name, folder in (("results", Path(out)), ("compiled", compilation.folder()), ("temporary", Path(tempfile.gettempdir()))):
        text, good = space(folder)
        well &= good
        say(name, f"{folder.absolute()}: {text}")
    say("experiments", f"{len(experiments())} in {shorter(shipped('experiments'))}" if shipped("experiments") else "none found")
    well &= bool(shipped("experiments"))
    for extra, modules in EXTRAS.items():
        absent = [name for name in modules if importlib.util.find_spec(name) is None]
        say(f"[{extra}]", f"missing {', '.join(absent)}: pip install -e '.[{extra}]'" if absent else "installed")
    lines.append("ready" if well else "not ready: see the lines above")
    return lines, well


def space(folder: Path) -> tuple[str, bool]:
    """Free space where a folder is or would be made, and whether something can be written there."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return f"{shutil.disk_usage(there).free / 2**30:.1f} GiB free", True
    except OSError as error:
        return f"cannot be written: {error.strerror}", False
