"""Carrying out runs: train, evaluate, append one results line for each run and seed.

Everything that can be wrong with a request is found before the first file is written. What is finished (same run name, seed and
config in the results file) is not repeated; what was interrupted goes on from its last checkpoint:

    OUT/quickstart/copy.cpu.jsonl                          the results lines
    OUT/quickstart/checkpoints/copy.cpu/rope-s0/           run.json (the config) and the checkpoints of one training (lcref/training.py)

Runs work in threads of one process: the compiled steps leave Python's lock alone, so small models can share the cores.
"""

import contextlib
import os
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from lcref import config, provenance, results, training
from lcref.ops.numbers import whole


class Watch:
    """What a run tells while it works. The command line draws it; this one keeps silent."""

    def plan(self, names: list[str], finished: list[str]): ...

    def start(self, name: str): ...

    def step(self, name: str, progress): ...

    def measure(self, name: str): ...

    def done(self, name: str, lines: list[dict]): ...

    def failed(self, name: str, error: Exception): ...

    def stopping(self): ...

    def after(self):
        """Called between runs, from the thread that called run_all: the results file holds one more line."""


@dataclass(frozen=True)
class Job:
    """One run with one seed, or with several that are trained in one program."""

    experiment: str
    name: str
    size: str
    run: object
    seeds: tuple[int, ...]
    out: Path  # the results file
    trainings: tuple = ()  # that its seeds are trained in

    @property
    def label(self) -> str:
        return f"{self.name} seed {','.join(map(str, self.seeds))}"

    @property
    def digest(self) -> str:
        return config.digest(replace(self.run, seed=0))  # seeds share it


def run(run, out, *, name: str = "run", experiment: str = "", size: str = "", watch: Watch | None = None, stop=None) -> dict:
    """Train and measure one Run with its seed; append the results line to `out` (a .jsonl file, or a folder for runs.jsonl).

    Returns the line; the one already there when this run is finished. ValueError for a run that cannot work.
    """
    out = Path(out)
    job = Job(experiment, name, size, run, (run.seed,), out if out.suffix == ".jsonl" else out / "runs.jsonl")
    check(run)
    for line in writable(job.out):
        if done(job, line):
            return line
    job, = trained_in([job], {name: run})
    return carry_out(job, provenance.provenance(), watch or Watch(), stop or threading.Event(), training.Trainer())[0]


def done(job: Job, line: dict) -> bool:
    """Is this the line of the job: of its run, its seed, its config, and its data as they are now?"""
    return results.identity(line) == (job.name, job.seeds[0], job.digest) and line["data"] == job.run.data.fingerprint()


def run_all(experiment, size: str = "cpu", seeds: int | None = None, out: str | Path = "runs", *, overrides: Sequence[str] = (),
            only: Sequence[str] = (), jobs: int = 1, together: bool = False, watch: Watch | None = None) -> list[dict]:
    """Every run of an experiment with seeds 0 .. seeds-1, `jobs` at a time; returns all lines of these runs, old and new.

    overrides are "key=value" texts, added to the runs' names in brackets. together=True trains the seeds of a run in one program:
    should the loss of one of them stop being finite, those with it end as well, which seed by seed they would not.
    Runs that differ only in what they read or measure are trained once. A run whose loss stops being finite is reported at the end and
    does not stop the others. Ctrl-C checkpoints and raises.
    """
    watch = watch or Watch()
    runs = asked(experiment, size, seeds, overrides, only)
    whole("run_all", "jobs", jobs)
    seeds = experiment.seeds if seeds is None else seeds
    path = Path(out) / f"{experiment.name}.{size}.jsonl"
    finished = {results.identity(line): line for line in writable(path)}

    # Seed by seed, so that whoever stops early has every run at least once; of each seed, those that only read come last.
    declared = every_run(experiment, size, overrides) | runs
    owners = {name for name, _ in training.owners(declared).values()}
    order = sorted(runs.items(), key=lambda item: item[0] not in owners)
    every = [Job(experiment.name, name, size, made, (made.seed + s,), path) for s in range(seeds) for name, made in order]
    before = [job for job in every if (line := finished.get((job.name, job.seeds[0], job.digest))) and done(job, line)]
    waiting = [job for job in every if job not in before]
    if together:
        waiting = [replace(first, seeds=tuple(job.seeds[0] for job in waiting if job.name == first.name))
                   for first in {job.name: job for job in reversed(waiting)}.values()][::-1]
    watch.plan([job.label for job in waiting], [job.label for job in before])
    work(trained_in(waiting, declared, together), jobs, watch)
    wanted = {(job.name, job.seeds[0], job.digest) for job in every}
    return [line for line in results.read(path) if results.identity(line) in wanted]


def asked(experiment, size: str, seeds: int | None = None, overrides: Sequence[str] = (), only: Sequence[str] = ()) -> dict:
    """The `chosen` runs, each of which can work: KeyError or ValueError before anything is computed or written."""
    runs = chosen(experiment, size, overrides, only)
    if seeds is not None:
        whole(experiment.name, "seeds", seeds)
    for made in runs.values():
        check(made)
    return runs


def chosen(experiment, size: str, overrides: Sequence[str], only: Sequence[str]) -> dict:
    """The runs of a size, `only` some of them, with "key=value" changes applied and named. KeyError, ValueError."""
    runs = experiment.runs[config.legal(size, experiment.runs, f"size of {experiment.name}")]
    for name in only:
        config.legal(name, runs, f"run of {experiment.name} at size {size}")
    return dict(settled(name, run, overrides) for name, run in runs.items() if not only or name in only)


def every_run(experiment, size: str, overrides: Sequence[str]) -> dict:
    """All runs that the changes can be applied to."""
    found = {}
    for name, run in experiment.runs[size].items():
        with contextlib.suppress(KeyError, ValueError):
            found |= [settled(name, run, overrides)]
    return found


def settled(name: str, run, overrides: Sequence[str]) -> tuple:
    """(name, run) after the changes, which are part of the name. Their order does not matter: a part is chosen before its fields are set, and
    what one value forbids (fewer steps than warm-up) is tried again after the others. ValueError for a key that is set twice."""
    asked = {}
    for text in overrides:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not all(key.split(".")):
            raise ValueError(f"a setting is KEY=VALUE, got {text!r}")
        if key in asked:
            raise ValueError(f"{key} is set twice, to {asked[key]!r} and to {value!r}")
        asked[key] = value
    waiting = sorted(asked, key=lambda key: key.count("."))
    while waiting:
        errors = {}
        for key in waiting:
            try:
                run = change(run, key, asked[key])
            except (KeyError, ValueError) as error:
                errors[key] = error
        if len(errors) == len(waiting):
            raise errors[waiting[0]]
        waiting = list(errors)
    return f"{name}[{','.join(overrides)}]" if overrides else name, run


def change(run, key: str, text: str):
    """`override`, for everything that makes one run: another setting is one, not three.

    What is set on model.* is set on read.* as well, where read has that key. The start is changed as a run of its own would be, where
    it has that key: a run of the file stays one that others begin with. The vocabularies of model and read follow the data's.
    """
    changed = config.override(run, key, text)
    part, _, rest = key.partition(".")
    if part == "model" and rest and run.read is not None:
        with contextlib.suppress(KeyError):
            changed = config.override(changed, f"read.{rest}", text)
    if part in ("model", "data", "train") and run.start is not None:
        with contextlib.suppress(KeyError):
            changed = replace(changed, start=change(run.start, key, text))
    for name in ("model", "read"):
        before, after = getattr(run, name), getattr(changed, name)
        if before is not None and before.vocab == run.data.vocab != changed.data.vocab and after.vocab == before.vocab:
            changed = config.put(changed, f"{name}.vocab", changed.data.vocab)
    return changed


def check(run) -> None:
    """ValueError or KeyError for a run that cannot work, before anything is computed or written.

    The data is read, the models are built and called on shapes alone, the longest evaluation is held against the position scheme that
    reads it, and the parameters of `read` and `start` against the model's.
    """
    import jax
    import numpy as np
    from flax import nnx

    from lcref.train import difference, loss_of, position_ids, shapes

    batch = run.data.batch(np.random.default_rng(0), 1)
    read = run.model if run.read is None else run.read
    for name, model in (("model", run.model), ("read", read)):
        if model.vocab != run.data.vocab:
            raise ValueError(f"the {name} has vocab={model.vocab}, and the data {run.data.vocab} tokens; set {name}.vocab")
    trained, measured = batch["inputs"].shape[1], max((width(ev, run.data) for ev in run.evals), default=0)
    for model, longest in ((run.model, trained), (read, measured)):
        own = {getattr(mixer, "position", None) or model.position for mixer in model.mixers()}
        for scheme in own | ({model.position} if model.position.embeds else set()):
            if scheme.limit is not None and longest > scheme.limit:
                raise ValueError(f"rows of up to {longest} tokens are trained on or measured, and {scheme} ends at {scheme.limit} positions")
    for ev in run.evals:
        if hasattr(ev, "fits"):
            ev.fits(read)
    slices(run)
    if run.read is not None:
        if wrong := difference(shapes(run.model), shapes(read)):
            raise ValueError(f"read must have the parameters that the model has trained: {wrong}")
        jax.eval_shape(lambda: read.build(rngs=nnx.Rngs(0))(batch["inputs"][:, :max(1, measured)]))
    if run.start is not None:
        check(run.start)
        if wrong := difference(shapes(run.start.model), shapes(run.model), more=True):
            raise ValueError(f"training cannot begin with the parameters of start: {wrong}")
    jax.eval_shape(lambda key: loss_of(run.model.build(rngs=nnx.Rngs(0)), batch, position_ids(run.model.position, key, batch)),
                   jax.random.key(0))


def width(ev, source) -> int:
    """Tokens in the longest row that an evaluation reads. ValueError for what it cannot measure on this source."""
    if hasattr(ev, "check"):
        ev.check(source)
    return ev.width(source) if hasattr(ev, "width") else 0


def slices(run) -> dict[str, dict] | None:
    """{metric: the names of its slices} that a run will measure; None where an evaluation does not say (one of the user's own, without
    `slices`). ValueError where two evaluations would measure the same."""
    found = {}
    for ev in run.evals:
        if not hasattr(ev, "slices"):
            return None
        merge(found, {metric: dict.fromkeys(names) for metric, names in ev.slices(run.data).items()})
    return found


def writable(path: Path) -> list[dict]:
    """The lines already in a results file. ValueError when it is damaged or its folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ValueError(f"cannot write results to {path.parent}: {error.strerror}") from error
    return results.read(path) if path.exists() else []


def trained_in(jobs: list[Job], declared: dict, together: bool = False) -> list[Job]:
    """The jobs, each with the trainings that it needs."""
    if not jobs:
        return []
    first = jobs[0]
    home = first.out.parent / "checkpoints" / first.out.stem
    made = training.plan([(job.run, seed) for job in jobs for seed in job.seeds], declared, home, (first.experiment, first.size), together)
    return [replace(job, trainings=tuple(dict.fromkeys(made[training.identity(job.run), seed] for seed in job.seeds))) for job in jobs]


def work(jobs_waiting: list[Job], jobs: int, watch: Watch) -> None:
    """Carry out jobs, `jobs` at a time, in order, but for those that would wait for what another is training: they come when that is ready.
    The first error stops the others, except a loss that is not finite."""
    from lcref.train import NonFiniteLoss, Stopped

    stop, made, diverged, trainer = threading.Event(), provenance.provenance(), [], training.Trainer()
    waiting, running = list(jobs_waiting), {}

    def next_job():
        taken = {folder for job in running.values() for folder in training.missing(job.trainings)}
        return next((job for job in waiting if taken.isdisjoint(training.missing(job.trainings))), None)

    with ThreadPoolExecutor(jobs, thread_name_prefix="run") as pool:
        try:
            while waiting or running:
                while len(running) < jobs and (job := next_job()):
                    waiting.remove(job)
                    running[pool.submit(carry_out, job, made, watch, stop, trainer)] = job
                ready, _ = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)  # a timeout lets Ctrl-C through
                for future in ready:
                    job = running.pop(future)
                    try:
                        future.result()
                        watch.after()
                    except Stopped:
                        pass
                    except NonFiniteLoss as error:
                        watch.failed(job.label, error)
                        diverged.append(f"{job.label}: {error}")
        except KeyboardInterrupt:
            stop.set()
            watch.stopping()
            raise  # leaving the pool waits until every thread has written its checkpoint
        except BaseException:
            stop.set()
            raise
    if diverged:
        raise NonFiniteLoss(f"{len(diverged)} of {len(jobs_waiting)} runs did not finish: {'; '.join(diverged)}")


def merge(metrics: dict, found: dict) -> None:
    """Add what an evaluation found. ValueError where another one has measured the same under the same name: one of the two would be lost."""
    for metric, slices in found.items():
        if twice := metrics.get(metric, {}).keys() & slices.keys():
            raise ValueError(f"two evaluations of this run measure {metric} at {sorted(twice)[0]}: keep one, or give them other lengths")
        metrics.setdefault(metric, {}).update(slices)


def carry_out(job: Job, made: dict, watch: Watch, stop: threading.Event, trainer: training.Trainer) -> list[dict]:
    """Train and measure one job, append its lines and return them."""
    from lcref.train import Stopped, read_as

    watch.start(job.label)
    found = [each for one in job.trainings for each in trainer.trained(one, lambda progress: watch.step(job.label, progress), stop)]
    trained, lines = [each for one in job.trainings for each in training.sessions(one)], []
    for each in sorted((each for each in found if each.seed in job.seeds), key=lambda each: job.seeds.index(each.seed)):
        watch.measure(job.label)
        decoder, metrics = each.decoder if job.run.read is None else read_as(each.decoder, job.run.read), {}
        for ev in job.run.evals:
            if stop.is_set():
                raise Stopped(f"{job.label} is trained but not measured")
            merge(metrics, ev(decoder, job.run.data))
        lines.append(results.append(job.out, {
            "experiment": job.experiment, "run": job.name, "size": job.size, "seed": each.seed,
            "config": config.to_dict(replace(job.run, seed=each.seed)), "digest": job.digest, "metrics": metrics,
            "seconds": round(each.seconds, 3), "steps_per_second": round(each.steps_per_second, 3), "parameters": each.parameters,
            **provenance.joined([*trained, made]), "data": job.run.data.fingerprint(), "date": provenance.now()}))
    watch.done(job.label, lines)
    return lines
