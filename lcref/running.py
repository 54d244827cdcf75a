"""Carrying out runs: train, evaluate, append one results line for each run and seed.

Everything that can be wrong with a request is found before the first file is written. What is finished (same run name, seed and
config in the results file) is not repeated; what was interrupted goes on from its last checkpoint:

    OUT/quickstart/copy.cpu.jsonl                          the results lines
    OUT/quickstart/checkpoints/copy.cpu/rope-s0/           run.json (the config) and the checkpoints of one run and seed

Runs work in threads of one process: the compiled steps leave Python's lock alone, so small models can share the cores.
"""

import json
import os
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from lcref import config, provenance, results


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

    @property
    def label(self) -> str:
        return f"{self.name} seed {','.join(map(str, self.seeds))}"

    @property
    def folder(self) -> Path:
        """Where the checkpoints go. Brackets are left out of its name: shells would take them for patterns."""
        name = self.name.replace("[", "@").replace("]", "").replace("/", "_")
        return self.out.parent / "checkpoints" / self.out.stem / f"{name}-s{'_'.join(map(str, self.seeds))}"

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
        if results.identity(line) == (name, run.seed, job.digest):
            return line
    return carry_out(job, provenance.provenance(), watch or Watch(), stop or threading.Event())[0]


def run_all(experiment, size: str = "cpu", seeds: int | None = None, out: str | Path = "runs", *, overrides: Sequence[str] = (),
            only: Sequence[str] = (), jobs: int = 1, together: bool = False, watch: Watch | None = None) -> list[dict]:
    """Every run of an experiment with seeds 0 .. seeds-1, `jobs` at a time; returns all lines of these runs, old and new.

    overrides are "key=value" texts, added to the runs' names in brackets. together=True trains the seeds of a run in one program.
    A run whose loss stops being finite is reported at the end and does not stop the others. Ctrl-C checkpoints and raises.
    """
    watch = watch or Watch()
    runs = chosen(experiment, size, overrides, only)
    seeds = experiment.seeds if seeds is None else seeds
    for name, number in (("seeds", seeds), ("jobs", jobs)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    for made in runs.values():
        check(made)
    path = Path(out) / f"{experiment.name}.{size}.jsonl"
    finished = {results.identity(line) for line in writable(path)}

    # Seed by seed, so that whoever stops early has every run at least once.
    every = [Job(experiment.name, name, size, made, (made.seed + s,), path) for s in range(seeds) for name, made in runs.items()]
    done = [job for job in every if (job.name, job.seeds[0], job.digest) in finished]
    waiting = [job for job in every if job not in done]
    if together:
        waiting = [replace(first, seeds=tuple(job.seeds[0] for job in waiting if job.name == first.name))
                   for first in {job.name: job for job in reversed(waiting)}.values()][::-1]
    watch.plan([job.label for job in waiting], [job.label for job in done])
    work(waiting, jobs, watch)
    wanted = {(job.name, job.seeds[0], job.digest) for job in every}
    return [line for line in results.read(path) if results.identity(line) in wanted]


def chosen(experiment, size: str, overrides: Sequence[str], only: Sequence[str]) -> dict:
    """The runs of a size, `only` some of them, with "key=value" changes applied and named. KeyError, ValueError."""
    runs = experiment.runs[config.legal(size, experiment.runs, f"size of {experiment.name}")]
    for name in only:
        config.legal(name, runs, f"run of {experiment.name} at size {size}")
    made = {}
    for name, run in runs.items():
        if only and name not in only:
            continue
        for text in overrides:
            key, equals, value = text.partition("=")
            if not equals:
                raise ValueError(f"a setting is KEY=VALUE, got {text!r}")
            run = change(run, key.strip(), value.strip())
        made[f"{name}[{','.join(overrides)}]" if overrides else name] = run
    return made


def change(run, key: str, text: str):
    """`override`, with the model's vocabulary following the data's: another task is one setting, not two."""
    changed = config.override(run, key, text)
    if run.model.vocab == run.data.vocab != changed.data.vocab and changed.model.vocab == run.model.vocab:
        changed = config.put(changed, "model.vocab", changed.data.vocab)
    return changed


def check(run) -> None:
    """ValueError or KeyError for a run that cannot work, before anything is computed or written.

    The data is read, the model is built and called on shapes alone, and the longest evaluation is held against the position scheme.
    """
    import jax
    import numpy as np
    from flax import nnx

    from lcref.nn.decoder import Decoder

    tokens = run.data.batch(np.random.default_rng(0), 1)["inputs"]
    if run.model.vocab != run.data.vocab:
        raise ValueError(f"the model has vocab={run.model.vocab}, and the data {run.data.vocab} tokens; set model.vocab")
    longest = max([tokens.shape[1], *(width(ev, run.data) for ev in run.evals)])
    for scheme in {getattr(mixer, "position", None) or run.model.position for mixer in run.model.mixers()}:
        if scheme.limit is not None and longest > scheme.limit:
            raise ValueError(f"rows of up to {longest} tokens are trained on or measured, and {scheme} ends at {scheme.limit} positions")
    jax.eval_shape(lambda: Decoder(run.model, rngs=nnx.Rngs(0))(tokens))


def width(ev, source) -> int:
    """Tokens in the longest row that an evaluation reads. ValueError for a length that the source's task cannot pose."""
    if hasattr(ev, "check"):
        ev.check(source)
    lengths, task = getattr(ev, "lengths", ()), getattr(source, "task", None)
    for length in lengths if task else ():
        task.check(length)
    return max((task.width(length) if task else length for length in lengths), default=0)


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


def work(jobs_waiting: list[Job], jobs: int, watch: Watch) -> None:
    """Carry out jobs, `jobs` at a time. The first error stops the others, except a loss that is not finite."""
    from lcref.train import NonFiniteLoss, Stopped

    stop, made, diverged = threading.Event(), provenance.provenance(), []

    def one(job):
        if not stop.is_set():
            carry_out(job, made, watch, stop)

    with ThreadPoolExecutor(jobs, thread_name_prefix="run") as pool:
        waiting = {pool.submit(one, job): job for job in jobs_waiting}
        try:
            while waiting:
                ready, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)  # a timeout lets Ctrl-C through
                for future in ready:
                    job = waiting.pop(future)
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


def carry_out(job: Job, made: dict, watch: Watch, stop: threading.Event) -> list[dict]:
    """Train and measure one job, append its lines and return them."""
    from lcref.train import Stopped, train

    watch.start(job.label)
    claim(job)
    trained = train(job.run.model, job.run.data, job.run.train, job.seeds, folder=job.folder,
                    report=lambda progress: watch.step(job.label, progress), stop=stop)
    lines = []
    for each in trained:
        watch.measure(job.label)
        metrics = {}
        for ev in job.run.evals:
            if stop.is_set():
                raise Stopped(f"{job.label} is trained but not measured")
            for metric, slices in ev(each.decoder, job.run.data).items():
                metrics.setdefault(metric, {}).update(slices)
        lines.append(results.append(job.out, {
            "experiment": job.experiment, "run": job.name, "size": job.size, "seed": each.seed,
            "config": config.to_dict(replace(job.run, seed=each.seed)), "digest": job.digest, "metrics": metrics,
            "seconds": round(each.seconds, 3), "steps_per_second": round(each.steps_per_second, 3), "parameters": each.parameters,
            **made, "data": job.run.data.fingerprint(), "date": provenance.now()}))
    watch.done(job.label, lines)
    return lines


def claim(job: Job) -> None:
    """Write run.json into the job's folder. What another config left there is moved aside: its checkpoints are not this run's."""
    note = job.folder / "run.json"
    if note.exists():
        try:
            before = json.loads(note.read_text())["digest"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{note} is damaged; remove the folder {job.folder} to train this run again") from None
        if before == job.digest:
            return
        aside = job.folder.with_name(f"{job.folder.name}-was-{before}")
        shutil.rmtree(aside, ignore_errors=True)  # an older copy of the same
        job.folder.rename(aside)
    job.folder.mkdir(parents=True, exist_ok=True)
    results.write(note, json.dumps({"experiment": job.experiment, "run": job.name, "size": job.size, "seeds": job.seeds,
                                    "digest": job.digest, "config": config.to_dict(job.run)}, indent=1) + "\n")
