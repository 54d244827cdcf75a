"""Compiled programs are kept on disk, so that the second run of an experiment starts at once: compiling is most of a small run's time.

jax's own cache does this. A folder of it serves one jaxlib on one kind of processor: programs are compiled for the very instructions
that a processor has, and home folders are shared between machines. Set JAX_COMPILATION_CACHE_DIR to keep them elsewhere.
"""

import hashlib
import importlib.metadata
import os
from pathlib import Path

from lcref import provenance


def folder() -> Path:
    """Where compiled programs of this machine are kept."""
    if chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(chosen)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    machine = hashlib.sha256(provenance.instructions().encode()).hexdigest()[:8]
    return home / "lcref" / f"jaxlib-{importlib.metadata.version('jaxlib')}-{machine}"


def keep() -> None:
    """Keep what this process compiles, and use what was kept. Without a place to write, everything still works, a little later."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder()))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
