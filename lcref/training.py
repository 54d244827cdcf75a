"""Trainings: what is trained once for each seed, whoever reads it.

Runs with the same model, data, train and start, which differ in what is measured or in the model that reads the parameters, share one.

    OUT/quickstart/checkpoints/copy.cpu/rope-s0/           run.json, run_id, step_...: one training of one seed
    OUT/quickstart/checkpoints/copy.cpu/rope-s0_1_2/       the same of seeds trained in one program

A folder is named after the first declared run that has the training and reads it as it was trained (else after the first that has it;
the training of a `start` that is no run's own is called NAME.start). A folder of another name that holds a checkpoint of a training is
used where it is, so that a new name or other evaluations train nothing. Checkpoints of another training are moved aside, to
rope-s0-was-DIGEST, and come back when that config does.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from lcref import config, provenance, results

try:
    import fcntl
except ImportError:  # Windows has no fcntl: there, two programs must not train in one folder at a time
    fcntl = None

ASIDE = "-was-"
LONGEST = 200  # bytes of a folder's name before seeds and ASIDE: file systems take 255


@dataclass(frozen=True, eq=False)
class Training:
    """One training of one seed, or of several in one program."""

    of: tuple[str, str]  # experiment and size
    name: str  # the run that the folder is named after
    run: object  # that run
    seeds: tuple[int, ...]
    folder: Path
    starts: tuple = ()  # the trainings whose parameters it begins with; none where it has begun

    @property
    def steps(self) -> int:
        """Behind the last checkpoint."""
        from lcref import checkpoint

        return checkpoint.latest(self.folder) or 0


def identity(run) -> str:
    """The digest of what is trained, the same for all seeds."""
    return config.digest(replace(run, evals=(), read=None, seed=0))


def starts(run) -> list:
    """What a run begins with, and what that begins with, nearest first."""
    return [] if run.start is None else [run.start, *starts(run.start)]


def owners(declared: dict) -> dict[str, tuple]:
    """identity -> (name, run): who a training is named after."""
    found = {}
    for name, run in sorted(declared.items(), key=lambda item: item[1].read is not None):
        found.setdefault(identity(run), (name, run))
    for name, run in declared.items():
        for n, start in enumerate(starts(run), 1):
            found.setdefault(identity(start), (name + n * ".start", start))
    return found


def missing(trainings) -> set[Path]:
    """The folders in which there is still something to train before these are ready."""
    undone = [one for one in trainings if one.steps < one.run.train.steps]
    return {one.folder for one in undone}.union(*(missing(one.starts) for one in undone if not one.steps))


# -------------------------------------------------------------------------------------------------------------------- plan

def plan(wanted: list, declared: dict, home: Path, of: tuple[str, str], together: bool = False) -> dict[tuple, Training]:
    """Where each (run, seed) of `wanted` is trained, and what it begins with: (identity, seed) -> Training.

    home: the folder of folders. together: seeds that nothing is trained of yet share one program. What stands in the way is moved aside.
    ValueError for a folder whose run.json is damaged, and for one in the way in which another program is training.
    """
    named, needed = owners(declared), {}
    for run, seed in wanted:
        for each in [*reversed(starts(run)), run]:
            needed.setdefault(identity(each), {})[seed] = None
    for digest, seeds in needed.items():
        move_aside(home, named[digest][0], digest, seeds)
    made = {}
    for digest, seeds in needed.items():
        name, run = named[digest]
        held = begun(home, name, digest)
        fresh = tuple(sorted(seed for seed in seeds if seed not in held))
        groups = {home / folder_name(name, group): group for group in ([fresh] if together and fresh else [(seed,) for seed in fresh])}
        for folder, group in (groups | dict(held.values())).items():
            first = tuple(dict.fromkeys(made[identity(run.start), seed] for seed in group)) if folder in groups and run.start is not None else ()
            one = Training(of, name, replace(run, seed=0), group, folder, first)
            made |= {(digest, seed): one for seed in group if held.get(seed, (folder,))[0] == folder}
    return made


def folder_name(name: str, seeds) -> str:
    """Brackets are left out: shells would take them for patterns. What no file system would take is cut, and ends in what tells it apart."""
    safe = name.replace("[", "@").replace("]", "").replace("/", "_")
    if len(safe.encode()) > LONGEST:
        safe = f"{safe.encode()[:LONGEST - 9].decode(errors='ignore')}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{safe}-s{'_'.join(map(str, seeds))}"


def note(folder: Path) -> tuple[str, tuple[int, ...], dict] | None:
    """(identity, seeds, everything) of a folder's run.json; None where there is none. ValueError for a damaged one."""
    path = folder / "run.json"
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return config.digest_of({**said["config"], "evals": [], "read": None, "seed": 0}), tuple(said["seeds"]), said
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged; remove the folder {folder} to train this run again") from None


def move_aside(home: Path, name: str, digest: str, seeds) -> None:
    """Folders of this name that hold one of these seeds of another training: its checkpoints are not this one's."""
    for folder in sorted(home.glob("*")):
        numbers = re.fullmatch(r"\d+(_\d+)*", folder.name.removeprefix(folder_name(name, ())))
        if numbers and folder.name.startswith(folder_name(name, ())) and not {*map(int, numbers[0].split("_"))}.isdisjoint(seeds):
            if (held := note(folder)) and held[0] != digest:
                aside = folder.with_name(f"{folder.name}{ASIDE}{held[0]}")
                move(folder, aside)


def move(folder: Path, to: Path) -> Path:
    """Rename a folder that nobody trains in: who does writes by its path, and would write into what comes to stand there."""
    try:
        handle = lock(folder)
    except BlockingIOError:
        raise ValueError(f"another program is training in {folder}, which holds a run of this name with another config: "
                         f"wait for it, stop it, or write elsewhere (--out)") from None
    try:
        shutil.rmtree(to, ignore_errors=True)  # an older copy of the same, where there is one
        return folder.rename(to)
    finally:
        unlock(handle)


def begun(home: Path, name: str, digest: str) -> dict[int, tuple]:
    """seed -> (folder, its seeds), wherever a checkpoint of this training is: the furthest one. What was moved aside comes back."""
    from lcref import checkpoint

    found = {}
    for folder in sorted(home.glob("*")):
        try:
            held = note(folder)
        except ValueError:
            continue  # not under this name: `move_aside` has read those
        if held is None or held[0] != digest or not (steps := checkpoint.latest(folder)):
            continue
        if ASIDE in folder.name and not (back := home / folder_name(name, held[1])).exists():
            folder = move(folder, back)
        for seed in held[1]:
            found[seed] = max(found.get(seed, (0,)), (steps, folder, held[1]), key=lambda item: item[0])
    return {seed: (folder, seeds) for seed, (_, folder, seeds) in found.items()}


# ------------------------------------------------------------------------------------------------------------------- train

LOCKS = {}


def lock(folder: Path) -> int | None:
    """A handle that keeps others out of the folder until `unlock`. BlockingIOError where another has one."""
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise
    return handle


def unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


@contextlib.contextmanager
def alone(folder: Path, stop: threading.Event):
    """One at a time in a folder, over threads and over programs. Stopped, where that comes first."""
    from lcref.train import Stopped

    with LOCKS.setdefault(folder.absolute(), threading.Lock()):
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                handle = lock(folder)
                if handle is None or folder.exists() and os.path.samestat(os.fstat(handle), folder.stat()):
                    break
                unlock(handle)  # the folder was moved away before it was locked
            if stop.wait(0.2):
                raise Stopped(f"another program is training in {folder}")
        try:
            yield
        finally:
            unlock(handle)


class Trainer:
    """Carries trainings out, for threads that may want the same ones: the first one trains, the others find its last checkpoint."""

    def __init__(self):
        self.failed = {}

    def trained(self, one: Training, report, stop: threading.Event) -> list:
        """The Trained of every seed. NonFiniteLoss, also where an earlier call met it; Stopped."""
        from lcref.train import NonFiniteLoss, train

        with alone(one.folder, stop):
            if one.folder in self.failed:
                raise NonFiniteLoss(self.failed[one.folder])
            try:
                claim(one)
                return train(one.run.model, one.run.data, one.run.train, one.seeds, folder=one.folder, start=self.start(one, report, stop),
                             report=report, stop=stop)
            except NonFiniteLoss as error:
                self.failed[one.folder] = str(error)
                raise

    def start(self, one: Training, report, stop):
        from flax import nnx

        from lcref.train import NonFiniteLoss, Start, bare

        def parameters():
            try:
                found = {each.seed: each for start in one.starts for each in self.trained(start, report, stop)}
            except NonFiniteLoss as error:
                raise NonFiniteLoss(f"{one.starts[0].name}, which this begins with, did not finish: {error}") from error
            return [bare(nnx.state(found[seed].decoder, nnx.Param)) for seed in one.seeds]

        return None if one.run.start is None else Start(origin(one.run.start), sum(start.train.steps for start in starts(one.run)), parameters)


def origin(run) -> str:
    """What a start's parameters are a function of, but for the seed."""
    from lcref.train import Start, mark

    return mark(run.model, run.data, run.train, (), None if run.start is None else Start(origin(run.start), 0, list))


def sessions(one: Training) -> list[dict]:
    """On what, and by which commits, this was trained, and what it began with where that was trained for it."""
    held = note(one.folder)
    return [*(each for start in one.starts for each in sessions(start)), *([] if held is None else held[2].get("sessions", []))]


def claim(one: Training) -> None:
    """Write run.json into a training's folder, with the evaluations that its run has by now, and this session where there is more to train."""
    held, path = note(one.folder), one.folder / "run.json"
    said = {"experiment": one.of[0], "run": one.name, "size": one.of[1], "seeds": list(one.seeds), "digest": identity(one.run),
            "config": config.to_dict(one.run)}
    # Classes that an experiment file defines are found again through that file.
    modules = set(re.findall(r'"type": "(lcref_experiment_[^"]+)\.', json.dumps(said["config"])))
    if modules:
        said["files"] = sorted(str(Path(sys.modules[name].__file__).resolve()) for name in modules)
    if held is not None and held[2].get("run") != one.name:
        said = held[2]
    trained, now = [] if held is None else held[2].get("sessions", []), provenance.session()
    said = said | {"sessions": trained if one.steps >= one.run.train.steps or now in trained else [*trained, now]}
    if held is None or held[2] != said:
        one.folder.mkdir(parents=True, exist_ok=True)
        results.write(path, json.dumps(said, indent=1) + "\n")
