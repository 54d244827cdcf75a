"""Checkpoints with orbax: everything a run needs to go on as if it had never been stopped.

    save(folder, step, tree)     folder/step_00000400/  (written beside it and renamed, so a kill leaves no half checkpoint)
    latest(folder)               the newest whole checkpoint's step, or None
    restore(folder, step, like)  a tree of arrays shaped like `like`

The tree holds parameters and optimiser state; data and randomness need no state of their own, since batch i and key i are
functions of (seed, i). The newest checkpoint is kept, older ones are removed once it is whole.
"""
import re
import shutil
import threading
from pathlib import Path

import jax
import numpy as np

STEP = re.compile(r"step_(\d+)")
ONE_AT_A_TIME = threading.Lock()                           # orbax shares state between checkpointers: runs in threads take turns


def steps(folder):
    """Steps of the whole checkpoints in a folder, oldest first."""
    folder = Path(folder)
    found = [STEP.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in found if match)


def latest(folder):
    return max(steps(folder), default=None)


def path(folder, step):
    return Path(folder).absolute() / f"step_{step:08d}"


def save(folder, step, tree):
    import orbax.checkpoint as ocp                          # slow to import: only who saves or restores pays for it
    with ONE_AT_A_TIME:
        for half in Path(folder).glob("step_*.orbax-checkpoint-tmp*"):                 # what a killed run was writing
            shutil.rmtree(half, ignore_errors=True)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path(folder, step), tree, force=True)
        for old in steps(folder):
            if old < step:
                shutil.rmtree(path(folder, old), ignore_errors=True)


def restore(folder, step, like):
    """Raises ValueError naming the folder where the checkpoint does not fit or cannot be read."""
    import orbax.checkpoint as ocp
    try:
        with ONE_AT_A_TIME, ocp.StandardCheckpointer() as checkpointer:
            found = checkpointer.restore(path(folder, step), like)
        if like is not None and (shapes := jax.tree.map(np.shape, found)) != jax.tree.map(np.shape, like):
            raise ValueError(f"it holds arrays of shapes {shapes}")
        return found
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise ValueError(f"cannot restore {path(folder, step)}: {reason}; delete the folder to start again") from error
