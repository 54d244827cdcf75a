"""The command line: `lcref run quickstart`, and what belongs to it.

Each command is a frozen dataclass: its fields are the options, its docstring the help, its call the work. What a user can get wrong
ends in one line on stderr and exit code 2; an interruption in 130, after saving; anything else that fails in 1. jax and flax are
imported by the commands that compute, so that help and lists come at once.
"""

import contextlib
import dataclasses
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional, UseAppendAction, arg

from lcref import config, showing
from lcref.published import Collapse, Extend, Weights, said

Settings = Annotated[UseAppendAction[tuple[tuple[str, ...], ...]], arg(name="set", metavar="KEY=VALUE ...")]


@dataclass(frozen=True)
class Run:
    """Train, measure and draw the runs of an experiment. Finished runs are not repeated, interrupted ones go on."""

    name: Annotated[Positional[str], arg(metavar="NAME")]  # an experiment, a folder of them, or a path: quickstart/copy, quickstart, my/file.py
    size: str = "cpu"  # smoke, cpu, gpu or paper
    seeds: Annotated[int | None, said(metavar="N")] = None  # how many (default: as many as the experiment declares)
    out: Path = Path("runs")  # where results, figures and checkpoints go
    settings: Settings = ()  # change every run: model.layers=4 data.task=reverse (`lcref show experiment NAME` lists the keys)
    only: Annotated[str | None, said(metavar="RUN,RUN")] = None  # some of the runs (default: all)
    jobs: Annotated[int, arg(metavar="N")] = 2  # how many runs at a time: two small models keep two cores busier than one does
    together: Literal["auto", "yes", "no"] = "auto"  # train the seeds of a run in one program; auto: not on a CPU, which they keep busy singly
    dry: bool = False  # only say what it would cost here: parameters, tokens, FLOPs, memory, time

    def __call__(self):
        import jax

        from lcref import compilation, forecast, running
        from lcref.experiment import load
        from lcref.ops.numbers import whole
        from lcref.progress import Bars, Log

        chosen, console = load(self.name), showing.terminal()
        whole("run", "jobs", self.jobs)
        overrides, only = [s for group in self.settings for s in group], self.only.split(",") if self.only else ()
        compilation.keep()
        if self.dry:
            for one in chosen:
                for line in forecast.of_experiment(one, self.size, self.seeds, overrides, only):
                    print(line, flush=True)
            return
        for experiment in chosen if len(chosen) > 1 else ():  # run_all would find what is wrong with the last when all others are trained
            running.asked(experiment, self.size, self.seeds, overrides, only)
        together = self.together == "yes" or self.together == "auto" and jax.default_backend() != "cpu"
        for experiment in chosen:
            title = f"{experiment.name} ({self.size})"
            watch = (Bars(console, title, experiment.figures) if console.is_terminal else Log(title, experiment.figures))
            # The figure is there with the first finished run, and redrawn with each one after it.
            watch.after = lambda experiment=experiment: showing.pictures(experiment, showing.results_file(experiment, self.size, self.out))
            with watch:
                running.run_all(experiment, self.size, self.seeds, self.out, overrides=overrides, only=only, jobs=self.jobs, together=together,
                        watch=watch)
            showing.draw(experiment, self.size, self.out, console)


@dataclass(frozen=True)
class Plot:
    """Draw the figure and print the table of finished runs again."""

    name: Annotated[Positional[str], arg(metavar="NAME")]  # an experiment, or a results file: runs/quickstart/copy.cpu.jsonl
    size: str = "cpu"  # smoke, cpu, gpu or paper
    out: Annotated[Path | None, said(metavar="PATH")] = None  # where the results are, when NAME is an experiment (default: runs)

    def __call__(self):
        from lcref.experiment import experiments, load

        if not self.name.endswith(".jsonl"):
            chosen, out = load(self.name), self.out or Path("runs")
            config.legal(self.size, list(dict.fromkeys(size for each in chosen for size in each.runs)), f"size of {self.name}")
            there = [each for each in chosen if showing.results_file(each, self.size, out).is_file()]
            if len(chosen) > 1 and not there:
                raise ValueError(f"no results of {self.name} at size {self.size}; one would be {showing.results_file(chosen[0], self.size, out)}")
            for experiment in there or chosen:
                showing.draw(experiment, self.size, out, showing.terminal())
            if there and len(there) < len(chosen):
                print(f"no results yet: {', '.join(each.name for each in chosen if each not in there)}", file=sys.stderr)
            return
        if self.out is not None:
            raise ValueError(f"--out {self.out} goes with an experiment's name: {self.name} is drawn beside itself; copy it first to draw elsewhere")
        from lcref import results

        path = Path(self.name)
        if not (lines := results.read(path)):
            raise ValueError(f"{path} holds no results lines")
        name, size = lines[0]["experiment"], lines[0]["size"]
        if name.startswith("extend/"):
            from lcref import extension

            return showing.draw_extension(extension.current(lines), path)
        if name.startswith("collapse/"):
            return showing.draw_collapse(results.current(lines), path)
        if name not in experiments():
            raise ValueError(f"{path} was made by {name}, which is not here: plot it with lcref plot path/to/{name}.py --out OUT")
        showing.draw(load(name)[0], size, None, showing.terminal(), path)


@dataclass(frozen=True)
class Claims:
    """What papers claim, what was measured here, and the verdict that follows from it."""

    name: Annotated[Positional[str | None], said(metavar="[NAME]")] = None  # an experiment, a folder of them, or EXPERIMENT:CLAIM (default: all)
    size: str = "cpu"  # smoke, cpu, gpu or paper
    out: Annotated[Path | None, said(metavar="PATH")] = None  # where the results are (default: those that come with lcref)
    check: bool = False  # instead: has every table, figure and verdict in README and docs a results line behind it?

    def __call__(self):
        from lcref.experiment import experiments, load

        if self.check:
            if self.name or self.out or self.size != "cpu":
                raise ValueError("--check looks at every page and the committed results: leave out names, --size and --out")
            from lcref import pages, provenance

            found = pages.findings(provenance.checkout() or Path.cwd())
            print("\n".join(found) or "every table, figure and verdict in README and docs is what the results lines say")
            sys.exit(bool(found))
        name, _, claim = (self.name or "").partition(":")
        chosen = load(name) if name else [one for each in experiments() for one in load(each)]
        if claim:
            config.legal(claim, [each.name for one in chosen for each in one.claims], "claim")
        config.legal(self.size, list(dict.fromkeys(size for one in chosen for size in one.runs)), "size")
        if self.out is not None and not self.out.is_dir():
            raise ValueError(f"--out {self.out} is no folder")
        showing.ledger(chosen, self.size, self.out, claim or None)


@dataclass(frozen=True)
class Report:
    """One web page with everything that was measured: verdicts, figures, tables, config and commit of every run."""

    name: Annotated[Positional[str | None], said(metavar="[NAME]")] = None  # an experiment or a folder of them (default: all)
    size: str = "cpu"  # smoke, cpu, gpu or paper
    out: Annotated[Path | None, said(metavar="PATH")] = None  # where the results are (default: those that come with lcref)
    to: Path = Path("report.html")  # the page

    def __call__(self):
        from lcref import results, webpage
        from lcref.experiment import experiments, load

        chosen = load(self.name) if self.name else [one for each in experiments() for one in load(each)]
        if self.to.suffix not in (".html", ".htm"):  # whatever else is there of that name was no report
            raise ValueError(f"--to {self.to}: the page is a .html file")
        text = webpage.webpage(chosen, self.size, self.out)
        self.to.parent.mkdir(parents=True, exist_ok=True)
        results.write(self.to, text)
        print(f"page     {self.to}  ({self.to.stat().st_size / 1e6:.1f} MB)")


@dataclass(frozen=True)
class Reproduce:
    """Run what one claim needs and nothing else, and end with its verdict. Finished runs are not repeated, interrupted ones go on."""

    claim: Annotated[Positional[str], arg(metavar="EXPERIMENT:CLAIM")]  # `lcref claims` lists them
    size: str = "cpu"  # smoke, cpu, gpu or paper
    seeds: Annotated[int | None, said(metavar="N")] = None  # how many (default: as many as the experiment declares)
    out: Path = Path("runs")  # where results, figures and checkpoints go

    def __call__(self):
        from lcref.experiment import load

        name, _, wanted = self.claim.partition(":")
        if not wanted:
            raise ValueError(f"a claim is EXPERIMENT:CLAIM (`lcref claims` lists them), such as quickstart/copy:hard-alibi-copies; "
                             f"got {self.claim!r}")
        found = [(each, claim) for each in load(name) for claim in each.claims]
        config.legal(wanted, [claim.name for _, claim in found], f"claim of {name}")
        (experiment, claim), *more = [each for each in found if each[1].name == wanted]
        if more:
            raise ValueError(f"{self.claim} are several: {', '.join(f'{each.name}:{wanted}' for each, _ in [(experiment, claim), *more])}")
        if absent := showing.undecidable(experiment, claim, self.size):
            others = [size for size in experiment.runs if not showing.undecidable(experiment, claim, size)]
            raise ValueError(f"{experiment.name}:{wanted} cannot be decided at size {self.size}, which does not measure {absent[0]}"
                             f"{f' (and {len(absent) - 1} more)' if absent[1:] else ''}; it can at: {', '.join(others) or 'none'}")
        Run(str(experiment.path), size=self.size, seeds=self.seeds, out=self.out, only=",".join(claim.runs()))()
        showing.ledger([experiment], self.size, self.out, claim.name)


@dataclass(frozen=True)
class List:
    """List experiments, benchmarks, tasks, position schemes, ..., or all of them."""

    kind: Annotated[Positional[str], arg(metavar="[KIND]")] = "all"  # tasks, positions, mixers, weights (of attention), evaluations, ...

    def __call__(self):
        from lcref import catalogue

        print(catalogue.overview(columns()) if self.kind == "all" else catalogue.listing(catalogue.kind_of(self.kind), columns()))


@dataclass(frozen=True)
class Show:
    """Explain a task, a position scheme, an experiment, a function, ...: what it says of itself, its file, where it is tested."""

    kind: Annotated[Positional[str], arg(metavar="KIND|NAME")]  # what to show: alibi, quickstart/copy, attend, rope.rotate, lcref.ops.masks
    name: Annotated[Positional[str | None], said(metavar="[NAME]")] = None  # after a kind (task, mixer, ...), as `lcref list KIND` prints it
    length: Annotated[int | None, said(metavar="N")] = None  # problem length of a task, of which problems are printed
    seed: int = 0  # of a task's problems
    size: str = "cpu"  # of an experiment

    def __call__(self):
        from lcref import catalogue

        rest = self.length, self.seed, self.size, columns()
        print(catalogue.show_any(self.kind, *rest) if self.name is None else catalogue.show(catalogue.kind_of(self.kind), self.name, *rest))


@dataclass(frozen=True)
class Eval:
    """Measure a trained run again, at other lengths if wanted."""

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]  # of its checkpoints: runs/quickstart/checkpoints/copy.cpu/rope-s0
    lengths: Annotated[str | None, said(metavar="N,N,...")] = None  # instead of the evaluations' own lengths; those without are left out
    evals: Annotated[str | None, said(metavar="NAME,...")] = None  # instead of the run's own: position_loss, ... (`lcref list evaluations`)
    stream: Annotated[int | None, said(metavar="N")] = None  # read N tokens of text as one stream, in constant memory, instead
    seed: Annotated[int | None, said(metavar="N")] = None  # which, of seeds trained together

    def __call__(self):
        from lcref import compilation, config, finished, report, running
        from lcref.evaluate import EVALS, StreamLoss
        from lcref.experiment import Figure

        if self.stream is not None and (self.evals or self.lengths):
            raise ValueError("--stream is an evaluation of its own: leave out --evals and --lengths")
        chosen = [EVALS[config.legal(name.strip(), EVALS, "evaluation")]() for name in self.evals.split(",")] if self.evals else None
        chosen = chosen if self.stream is None else [StreamLoss(self.stream)]
        compilation.keep()
        trained = finished.revive(self.folder, self.seed)
        evals = chosen or trained.run.evals
        if self.lengths:
            fields = [next((field for field in ("lengths", "length") if hasattr(ev, field)), None) for ev in evals]
            if not any(fields):
                raise ValueError(f"--lengths {self.lengths}: no evaluation here is by length")
            if left_out := [type(ev).__name__ for ev, field in zip(evals, fields) if not field]:
                print(f"not by length, and left out: {', '.join(left_out)}", file=sys.stderr)
            evals = [config.override(ev, field, self.lengths) for ev, field in zip(evals, fields) if field]
        running.check(dataclasses.replace(trained.run, evals=tuple(evals)))
        metrics = {}
        for ev in evals:
            running.merge(metrics, ev(trained.decoder, trained.run.data))
        name = f"{trained.name} seed {trained.seed}"
        print(f"{trained.experiment} ({trained.size}), {name}, step {trained.step} of {trained.run.train.steps}")
        for metric in metrics:
            line = {"run": name, "metrics": metrics, "config": {"evals": config.to_dict(tuple(evals))}}
            along = {"position_loss": "position", "key_recall": "distance", "stream_loss": "tokens read"}.get(metric, "length")
            print("\n" + report.table([line], Figure(metric, x_label=along), columns()))


@dataclass(frozen=True)
class Generate:
    """Let a trained run write on: greedily or by drawing."""

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]  # of its checkpoints: runs/quickstart/checkpoints/text.cpu/alibi-s0
    # text, or a task's tokens with spaces between (default: one from the data); - reads it from standard input and writes what follows only
    prompt: Annotated[str | None, said(metavar="TEXT")] = None
    tokens: Annotated[int | None, said(metavar="N")] = None  # how many to write (default: the answer's length, or 200 of text)
    temperature: Annotated[float | None, said(metavar="T")] = None  # 0 is greedy (default: 0 for a task, 0.8 for text)
    top_k: Annotated[int | None, said(metavar="K")] = None  # draw from the K likeliest tokens only
    top_p: Annotated[float | None, said(metavar="P")] = None  # draw from the likeliest tokens that sum to P
    seed: int = 0  # of the draws and of the prompt from the data

    def __call__(self):
        from lcref import compilation, finished, writing

        compilation.keep()
        piped = self.prompt == "-"
        prompt = sys.stdin.buffer.read() if piped else self.prompt
        print(writing.write_on(finished.revive(self.folder), prompt, self.tokens, temperature=self.temperature, top_k=self.top_k,
                               top_p=self.top_p, seed=self.seed, echo=not piped))


@dataclass(frozen=True)
class Bench:
    """Run benchmarks and print their tables, or draw the recorded ones."""

    names: Annotated[Positional[tuple[str, ...]], said(metavar="[NAME]")] = ()  # which (default: all; `lcref list benchmarks`)
    plot: bool = False  # run none: draw the lines of results/bench/*.jsonl as PNGs beside them

    def __call__(self):
        from lcref.catalogue import benchmarks
        from lcref.config import legal

        there = benchmarks()
        if not there:
            raise ValueError("benchmarks are part of a checkout, and this is an installed copy of lcref without them")
        python = partial(subprocess.run, cwd=next(iter(there.values())).parent.parent)
        if self.plot:
            if self.names:
                raise ValueError(f"--plot draws all recorded lines: leave out {', '.join(self.names)}")
            sys.exit(python([sys.executable, "-c", "from benchmarks import plots; plots.draw_all()"]).returncode)
        for name in [legal(name.replace("-", "_"), there, "benchmark") for name in self.names] or there:
            print(f"\n{name}", flush=True)
            if not self.names and name == "tpu_schedule" and not find_spec("libtpu"):
                print("left out: it needs libtpu, which is not installed")
            elif code := python([sys.executable, "-m", f"benchmarks.{name}"]).returncode:
                sys.exit(code)


@dataclass(frozen=True)
class Doctor:
    """Say what this machine has: versions, devices, space, optional parts."""

    def __call__(self):
        from lcref import doctor

        lines, well = doctor.report()
        print("\n".join(lines))
        sys.exit(not well)


COMMANDS = {"doctor": Doctor, "list": List, "show": Show, "run": Run, "plot": Plot, "claims": Claims, "reproduce": Reproduce, "report": Report,
            "eval": Eval, "generate": Generate, "weights": Weights, "extend": Extend, "collapse": Collapse, "bench": Bench}
UNFINISHED = ("run", "reproduce", "weights", "extend", "collapse")  # where more is asked for than what is printed


def main(args: list[str] | None = None) -> int:
    """Parse, run, and turn errors into one line and an exit code."""
    args = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"] or ["--help"]
    if not debug:  # orbax leaves these behind when a checkpoint cannot be read; the error itself says enough
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    try:
        with interruptible():
            parse(args)()
        return 0
    except KeyboardInterrupt:
        return complain("stopped; what was written is kept, and the same command goes on from there", 130)
    except BrokenPipeError:  # `lcref list | head`: whoever read has seen enough, but must know where work was left undone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if args[0] not in UNFINISHED:
            return 0
        return complain("stopped, since nothing reads the output any more; what was written is kept, and the same command goes on from there", 1)
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        if debug:
            raise
        return complain(words(error), 2)
    except RuntimeError as error:
        full = re.search(r"out of memory[^\n]*", str(error), re.IGNORECASE)  # as XLA puts it
        if debug or not full and type(error).__module__.partition(".")[0] != "lcref":
            raise
        return complain(f"{full[0]} Make it smaller: batch, lengths, tokens" if full else words(error), 1)


@contextlib.contextmanager
def interruptible():
    """The first Ctrl-C (or SIGTERM, which batch systems send before they kill) saves and stops; a second one leaves at once."""
    def first(number, frame):
        signal.signal(number, lambda number, frame: os._exit(130))
        raise KeyboardInterrupt

    before = {number: signal.signal(number, first) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parse(args: list[str]):
    """The command that the words ask for. tyro explains mistakes in a box; here it becomes one line."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="lcref", args=args, config=(tyro.conf.FlagCreatePairsOff,),
                description="Length-extrapolation methods: experiments with seeds and error bars. Start with: lcref run quickstart. "
                            "Every command takes --debug, which shows the traceback of an error.")
    except SystemExit as leaving:
        if leaving.code:
            raise ValueError(unboxed(box.getvalue(), args)) from None
        raise


def unboxed(text: str, args: list[str]) -> str:
    """tyro's box of text as one line."""
    parts = [" ".join(line.strip("│ ").strip() for line in part.splitlines()) for part in re.split(r"\n│ ─+ │\n", text.split("\n", 1)[-1])]
    parts = [re.sub(r"\s+", " ", part) for part in parts if not part.startswith(("For full", "╰"))]
    parts = [re.sub(r"no type matching .* Got errors: .* - <class '\w+'>: ", "", part) for part in parts]  # of "N or nothing" N alone
    command = f"lcref {args[0]} --help" if args[0] in COMMANDS else "lcref --help"
    return f"{'; '.join(part.strip(' .╰╯─') for part in parts)} ({command})"


def words(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def complain(text: str, code: int) -> int:
    print(f"lcref: {'error: ' if code != 130 else ''}{text}", file=sys.stderr)
    return code


def columns() -> int:
    return min(shutil.get_terminal_size((120, 24)).columns, 140)


if __name__ == "__main__":
    sys.exit(main())
