"""Experiments are data: a file declares runs, and declaring is all it does.

An experiment file holds a docstring (the question, the paper, the expected minutes) and
    RUNS      {"smoke": {...}, "cpu": {...}, "gpu": {...}, "paper": {...}}: size -> run name -> Run
    SEEDS     how many seeds the shown results have
    PAPER     the published values it aims at;  CLAIMS  what papers say, as comparisons of what is measured (lcref/claims.py);  FIGURES  what to draw

    load("quickstart/copy")                                        the file as an Experiment, by name or by path
    run(Run(model, data, train, evals), "runs/mine.jsonl")         one run, one seed: train, evaluate, append a results line
    run_all(load("quickstart/copy")[0], "cpu", seeds=3)            all runs of a file (lcref/running.py)

Differences between runs are `dataclasses.replace`, or `grid`, so that the difference is the ablation. Runs can share what is trained:
    replace(base, read=replace(base.model, position=yarn))         base's parameters, read with other positions: nothing is trained
    replace(base, model=wider, train=short, start=base)            training that begins with base's parameters
What is equal in model, data, train and start is trained once a seed (lcref/training.py). This file imports nothing heavy: listing
experiments must be quick.
"""

import dataclasses
import importlib.util
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcref import config, provenance
from lcref.config import override
from lcref.ops.numbers import whole
from lcref.results import RESULTS
from lcref.running import Watch, run, run_all

__all__ = ["Experiment", "Figure", "RESULTS", "Run", "Watch", "experiments", "grid", "load", "override", "run", "run_all", "shipped"]


# ------------------------------------------------------------------------------------------------------------ declarations

@dataclass(frozen=True)
class Run:
    """One thing to train and measure. The type of each part chooses the implementation.

    read: the model in which the trained parameters are measured, all of them and no others: its positions and windows may differ.
    start: a run whose trained parameters (same seed) this training begins with; of its data it goes on with the batches that come
    next, with a learning rate and an optimiser of its own. New parameters keep their initial values (CLEX's). Only a start's training
    counts: its evals and read are left out of the value that is kept here, and its seed is this run's.
    """

    model: Any  # DecoderConfig, ReadProcessWriteConfig
    data: Any  # a source: TaskSource, Text
    train: Any  # TrainConfig
    evals: tuple = ()  # what to measure afterwards
    seed: int = 0
    read: Any = None  # another config of the same parameters; None: model
    start: Any = None  # Run; None: fresh parameters

    def __post_init__(self):
        whole("Run", "seed", self.seed, least=0)
        if self.start is not None:
            object.__setattr__(self, "start", dataclasses.replace(self.start, evals=(), read=None, seed=self.seed))


@dataclass(frozen=True)
class Figure:
    """What to draw of the metrics of an experiment: one line per run over the slices of one metric, which become the x axis.

    With `across`, a setting ("model.mixer.state") is the x axis instead, and what is drawn is how far each run gets: the slice at which a
    metric that falls with its slices crosses `reaching`. Runs whose names differ in their last number alone ("mamba2_16", "mamba2_64") are
    one line, and where they are three or more the power law through their medians is drawn and printed (lcref/report.py). A run is left out
    if one of its seeds never falls below `reaching`, or is below from the first slice on.
    """

    metric: str
    title: str = ""
    x_label: str = "length"
    y_label: str = ""
    trained_to: float | str | None = None  # a dotted line: everything right of it was never trained on. "data.max_length": each run's own
    log_x: bool = False
    lower_is_better: bool = False
    over: str = "seeds"  # what a run's lines differ in: the median and range are over these
    across: str = ""
    reaching: float = 0.5  # of `across` alone
    ranking: bool = False  # one number for all runs of a name ("rope-copy", "rope-sort"): the mean over what lies beyond `trained_to`
    heat: bool = False  # slices "x@y": a map for each run, light where right; the mean over seeds
    runs: tuple[str, ...] = ()  # the runs it shows, also where settings were changed ("rope[model.layers=4]"); all where empty


@dataclass(frozen=True)
class Experiment:
    """An experiment file, loaded."""

    name: str
    path: Path
    doc: str
    runs: dict[str, dict[str, Run]]
    seeds: int = 3
    paper: dict = dataclasses.field(default_factory=dict)
    claims: tuple = ()
    figures: tuple[Figure, ...] = ()


def grid(run: Run, **choices: dict[str, Any]) -> dict[str, Run]:
    """Every combination of choices: grid(base, **{"model.position": {"rope": Rope(), "nope": Nope()}, "train.steps": {"long": 9000}})
    -> {"rope-long": ..., "nope-long": ...}; an empty name is left out. KeyError for a key the run does not have."""
    found = {}
    for picked in itertools.product(*(options.items() for options in choices.values())):
        made = run
        for key, (_, value) in zip(choices, picked):
            made = config.put(made, key, value)
        found["-".join(name for name, _ in picked if name)] = made
    return found


# ---------------------------------------------------------------------------------------------------------------- find, load

def shipped(kind: str) -> Path | None:
    """The folder "experiments", "results" or "benchmarks" of the checkout; of an installed wheel, its copy of the first two. Or None."""
    folder = checkout / kind if (checkout := provenance.checkout()) else provenance.PACKAGE / f"_{kind}"
    return folder if folder.is_dir() else None


def experiments() -> dict[str, Path]:
    """Every experiment file by name, e.g. "quickstart/copy"."""
    root = shipped("experiments")
    return {_name(path, root): path for path in _files(root)} if root else {}


def load(name: str | Path) -> list[Experiment]:
    """The experiments of a name ("quickstart/copy"), of a folder ("quickstart": its files in name order) or of a path to either.

    KeyError for an unknown name, FileNotFoundError for an unknown path, ValueError for a file that is not an experiment.
    """
    known, path = experiments(), Path(name)
    if chosen := [known[n] for n in known if n == str(name) or n.startswith(f"{name}/")]:
        return [_load(path) for path in chosen]
    if path.suffix == ".py" or path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"no experiment file at {path}")
        if not (files := [path] if path.is_file() else _files(path)):
            raise ValueError(f"the folder {path} holds no experiment file")
        return [_load(file.resolve()) for file in files]
    folders = {n.rpartition("/")[0] for n in known} - {""}
    raise KeyError(config.unknown(str(name), [*sorted(folders), *known], "experiment"))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if not path.name.startswith("_"))


def _name(path: Path, root: Path | None) -> str:
    return path.relative_to(root).with_suffix("").as_posix() if root and path.is_relative_to(root) else path.stem


def _load(path: Path) -> Experiment:
    name = _name(path, shipped("experiments"))
    spec = importlib.util.spec_from_file_location(f"lcref_experiment_{name.replace('/', '_')}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses defined in the file look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} does not load: {type(error).__name__}: {error}") from error
    runs = getattr(module, "RUNS", None)
    if not isinstance(runs, dict) or not all(isinstance(r, Run) for sizes in runs.values() for r in sizes.values()):
        raise ValueError(f"{path} is not an experiment: it needs RUNS, a dict of sizes, each a dict of names and Run values")
    rest = {key: getattr(module, key.upper()) for key in ("seeds", "paper", "claims", "figures") if hasattr(module, key.upper())}
    return Experiment(name, path, (module.__doc__ or "").strip(), runs, **rest)
