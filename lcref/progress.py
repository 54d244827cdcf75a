"""What a person sees while experiments run: bars in a terminal, a plain log elsewhere.

    rope seed 0    ━━━━━━━━━━━━━━━━━━━━  1200/2500  340 steps/s  0:04 left  loss 0.0213
"""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from lcref.report import summary
from lcref.running import Watch


class Pace:
    """Steps per second of the latest compiled call, and what is left at that pace. The first call compiles, and so says nothing."""

    def __init__(self):
        self.before = None
        self.rate = None

    def update(self, progress) -> str:
        if self.before and progress.seconds > self.before.seconds:
            self.rate = (progress.step - self.before.step) / (progress.seconds - self.before.seconds)
        self.before = progress
        return str(self)

    def __str__(self) -> str:
        if not self.rate:
            return ""
        return f"{self.rate:,.{0 if self.rate >= 10 else 1}f} steps/s  {clock((self.before.steps - self.before.step) / self.rate)} left"


def clock(seconds: float) -> str:
    """75 -> "1:15"."""
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"


def outcome(lines: list[dict], figures) -> str:
    """The ends of what a run was measured on: "exact match 1.00 at 10, 0.02 at 100; 12 s"."""
    words = []
    for metric in dict.fromkeys(figure.metric for figure in figures if any(figure.metric in line["metrics"] for line in lines)):
        for points in summary(lines, metric).values():
            ends = {name: points[name].median for name in (next(iter(points)), next(reversed(points)))}
            words.append(f"{metric.replace('_', ' ')} {', '.join(f'{value:.2f} at {name}' for name, value in ends.items())}")
    return "; ".join([*words, f"{max(line['seconds'] for line in lines):.0f} s of training"])


class Bars(Watch):
    """One bar for each run at work and one for the whole experiment."""

    def __init__(self, console: Console, title: str, figures=()):
        self.console, self.title, self.figures = console, title, figures
        self.bars, self.pace = {}, {}
        texts = [TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[count]}", "{task.fields[text]}")]
        self.progress = Progress(texts[0], BarColumn(bar_width=24), *texts[1:], console=console, transient=True)

    def __enter__(self):
        self.progress.start()
        return self

    def __exit__(self, *error):
        self.progress.stop()

    def plan(self, names, finished):
        if finished:
            self.console.print(f"{len(finished)} of {len(names) + len(finished)} runs are finished already and not repeated", style="dim",
                               highlight=False)
        self.runs, self.ready, self.begun = len(names), 0, time.monotonic()
        self.whole = self.progress.add_task(self.title, total=max(1, len(names)), count=f"0/{len(names)} runs", text="",
                                            visible=len(names) > 1)

    def start(self, name):
        self.pace[name] = Pace()
        self.bars[name] = self.progress.add_task(name, total=None, count="", text="compiling")

    def step(self, name, progress):
        text = self.pace[name].update(progress)
        self.progress.update(self.bars[name], total=progress.steps, completed=progress.step, count=f"{progress.step}/{progress.steps}",
                             text=f"{text}  loss {progress.loss:.4f}")
        at_work = sum(p.before.step / p.before.steps for n, p in list(self.pace.items()) if n in self.bars and p.before)
        share, gone = (self.ready + at_work) / self.runs, time.monotonic() - self.begun
        self.progress.update(self.whole, completed=share * self.runs, text=f"about {clock(gone / share - gone)} left" if share > 0.03 else "")

    def measure(self, name):
        self.progress.update(self.bars[name], text="measuring")

    def done(self, name, lines):
        self._close(name)
        self.console.print(Text.assemble(("done", "green"), f"  {name}: {outcome(lines, self.figures)}"))

    def failed(self, name, error):
        self._close(name)
        self.console.print(Text.assemble(("failed", "red"), f"  {name}: {error}"))

    def stopping(self):
        self.progress.stop()
        self.console.print("stopping: saving checkpoints (Ctrl-C again leaves at once)")

    def _close(self, name):
        self.progress.remove_task(self.bars.pop(name))
        self.ready += 1
        self.progress.update(self.whole, completed=self.ready, count=f"{self.ready}/{self.runs} runs")


class Log(Watch):
    """Plain lines for files and pipes: about ten a run, or one every `every` seconds."""

    def __init__(self, title: str, figures=(), every: float = 15.0, write=print):
        self.title, self.figures, self.every, self.write = title, figures, every, write
        self.pace, self.told = {}, {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def say(self, text):
        self.write(f"{time.strftime('%H:%M:%S')} {self.title}  {text}", flush=True)

    def plan(self, names, finished):
        self.say(f"{len(names)} runs to do, {len(finished)} finished before")

    def start(self, name):
        self.pace[name], self.told[name] = Pace(), (0.0, time.monotonic())
        self.say(f"{name}: starting")

    def step(self, name, progress):
        pace, (share, when) = self.pace[name].update(progress), self.told[name]
        now = progress.step / progress.steps
        if now >= share + 0.1 or now == 1 or time.monotonic() >= when + self.every:
            self.told[name] = now, time.monotonic()
            self.say(f"{name}: step {progress.step}/{progress.steps}  loss {progress.loss:.4f}  {pace}".rstrip())

    def done(self, name, lines):
        self.say(f"{name}: done, {outcome(lines, self.figures)}")

    def failed(self, name, error):
        self.say(f"{name}: failed, {error}")

    def stopping(self):
        self.say("stopping: saving checkpoints")
