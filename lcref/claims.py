"""What papers claim, as comparisons of measured numbers: the verdict is computed, never written.

    Claim("rope-fails", "Plain RoPE fails soon past its training length", source="arXiv 2306.15595, section 1",
          holds=(of("rope", "context_loss", 256) >= 1.2 * of("rope", "context_loss", 128), of("rope", "key_recall", 233) < 0.2))

`of(run, metric, slice)` stands for the median over seeds. Numbers multiply, divide, add to and are subtracted from it; <, <=, >, >= between
two of them, or with a number, make a condition; `within(a, share, b)` is |a - b| <= share |b|; `rise` is a difference of two slices, `mean` an
average of several numbers under a name of its own. A claim is
    reproduced    every condition holds           not       none does
    partly        some do                         not run   a number that it needs is not in the results
Each condition also says in how many seeds it holds by itself: medians may agree where seeds do not.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from lcref.report import summary

VERDICTS = ("reproduced", "partly", "not", "not run")


@dataclass(frozen=True)
class Measured:
    """scale * (a metric of a run at a slice) + shift. run None: a plain number, shift."""

    run: str | None
    metric: str = ""
    slice: str = ""
    scale: float = 1.0
    shift: float = 0.0

    def __mul__(self, number: float) -> "Measured":
        return replace(self, scale=self.scale * number, shift=self.shift * number)

    __rmul__ = __mul__

    def __truediv__(self, number: float) -> "Measured":
        return self * (1 / number)

    def __add__(self, number: float) -> "Measured":
        return replace(self, shift=self.shift + number)

    __radd__ = __add__

    def __sub__(self, number: float) -> "Measured":
        return self + -number

    def __lt__(self, other) -> "Condition":
        return Condition(self, "<", measured(other))

    def __le__(self, other) -> "Condition":
        return Condition(self, "<=", measured(other))

    def __gt__(self, other) -> "Condition":
        return Condition(self, ">", measured(other))

    def __ge__(self, other) -> "Condition":
        return Condition(self, ">=", measured(other))

    def parts(self) -> list["Measured"]:
        """What is measured in it: nothing, of a plain number."""
        return [] if self.run is None else [self]

    def value(self, find) -> float | None:
        """find(run, metric, slice) -> number or None."""
        if self.run is None:
            return self.shift
        found = find(self.run, self.metric, self.slice)
        return None if found is None else self.scale * found + self.shift

    def __str__(self) -> str:
        if self.run is None:
            return f"{self.shift:g}"
        return self.scaled(f"{self.run} {self.metric.replace('_', ' ')} at {self.slice}")

    def scaled(self, text: str) -> str:
        text = text if self.scale == 1 else f"{self.scale:g} x {text}"
        return text if not self.shift else f"{text} {'+' if self.shift > 0 else '-'} {abs(self.shift):g}"


def of(run: str, metric: str, slice_) -> Measured:
    """The median over seeds of a metric of a run at a slice: a length, a depth, or a name."""
    return Measured(run, metric, str(slice_))


@dataclass(frozen=True)
class Rise(Measured):
    """By how much a metric at a slice exceeds the same metric at another: of length, say, at the trained one."""

    since: str = ""

    def parts(self) -> list[Measured]:
        return [Measured(self.run, self.metric, self.slice), Measured(self.run, self.metric, self.since)]

    def value(self, find) -> float | None:
        near = find(self.run, self.metric, self.since)
        return None if near is None or (far := super().value(find)) is None else far - self.scale * near

    def __str__(self) -> str:
        return f"{super().__str__()} above that at {self.since}"


def rise(run: str, metric: str, slice_, since) -> Rise:
    """The median at a slice less the median at `since`."""
    return Rise(run, metric, str(slice_), since=str(since))


@dataclass(frozen=True)
class Mean(Measured):
    """The average of other numbers; None where one of them is missing. Of medians, where medians are looked up: not the median of averages."""

    of: tuple[Measured, ...] = ()

    def parts(self) -> list[Measured]:
        return [part for each in self.of for part in each.parts()]

    def value(self, find) -> float | None:
        values = [each.value(find) for each in self.of]
        return None if None in values else self.scale * float(np.mean(values)) + self.shift

    def __str__(self) -> str:
        return self.scaled(f"mean of {self.run}")


def mean(name: str, numbers) -> Mean:
    """The average of `of(...)`s. ValueError for none.

    mean("rope, beyond training", [of("rope", "exact_match", n) for n in (24, 32, 48)])
    """
    if not (numbers := tuple(numbers)):
        raise ValueError(f"the mean {name!r} needs numbers")
    return Mean(name, of=numbers)


def measured(value) -> Measured:
    return value if isinstance(value, Measured) else Measured(None, shift=float(value))


@dataclass(frozen=True)
class Condition:
    left: Measured
    sign: str  # < <= > >= or "within"
    right: Measured
    share: float = 0.0  # of "within"

    def __bool__(self):
        raise TypeError(f"a condition of a claim is no yes or no before its results are looked up: {self} (a chain a < b < c makes two)")

    def parts(self) -> list[Measured]:
        return [*self.left.parts(), *self.right.parts()]

    def holds(self, find) -> bool | None:
        """None where a number is missing."""
        a, b = self.left.value(find), self.right.value(find)
        if a is None or b is None:
            return None
        return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "within": abs(a - b) <= self.share * abs(b)}[self.sign]

    def __str__(self) -> str:
        return f"{self.left} {f'within {100 * self.share:g} % of' if self.sign == 'within' else self.sign} {self.right}"


def within(left: Measured, share: float, right) -> Condition:
    return Condition(left, "within", measured(right), share)


def flat(run: str, metrics, slices, since, share: float) -> tuple[Condition, ...]:
    """At each of the slices each metric is at most `share` above what it is at `since`: what a loss that stays has to meet."""
    return tuple(of(run, metric, each) <= (1 + share) * of(run, metric, since) for each in slices for metric in metrics)


@dataclass(frozen=True)
class Claim:
    """name: short, unique in its experiment. source: who says so, and where (empty: nobody but us). published: the numbers there.
    amended: what was changed in the conditions when results were known already (empty: they are as first declared)."""

    name: str
    statement: str
    holds: tuple[Condition, ...] = field(default=())
    source: str = ""
    published: str = ""
    amended: str = ""

    def __post_init__(self):
        if not self.holds or not all(isinstance(condition, Condition) for condition in self.holds):
            raise ValueError(f"claim {self.name!r} needs conditions: comparisons of `of(run, metric, slice)`, in a tuple")

    def runs(self) -> list[str]:
        """The runs that it needs, in the order in which it names them."""
        return list(dict.fromkeys(part.run for condition in self.holds for part in condition.parts()))


@dataclass(frozen=True)
class Finding:
    """One condition, looked up: what both sides came to, whether it holds, in how many of how many seeds."""

    condition: Condition
    left: float | None
    right: float | None
    holds: bool | None
    agreeing: int
    seeds: int

    def __str__(self) -> str:
        if self.holds is None:
            return f"{self.condition}: not run"
        sign = self.condition.sign if self.condition.sign != "within" else "to"
        seeds = f", {self.agreeing} of {self.seeds} seeds" if self.seeds > 1 else ""
        return f"{self.condition}: {self.left:.3f} {sign} {self.right:.3f}, {'yes' if self.holds else 'no'}{seeds}"


def undecidable(claim: Claim, measured: dict[str, dict | None]) -> list[str]:
    """What a claim compares and the runs of a size do not measure, in words: with any of it, no training there leads to a verdict.
    measured: {run: {metric: its slices}, or None where they are not known before they are there}."""
    def there(part):
        return part.run in measured and (measured[part.run] is None or part.slice in measured[part.run].get(part.metric, ()))
    parts = [part for condition in claim.holds for part in condition.parts()]
    return list(dict.fromkeys(str(Measured(part.run, part.metric, part.slice)) for part in parts if not there(part)))


def judge(claim: Claim, lines: list[dict]) -> tuple[str, list[Finding]]:
    """(verdict, a finding for each condition) of a claim, by results lines of one experiment at one size. No comparison holds with a number
    that was not finite in some seed."""
    medians, by_seed = {}, {}
    for metric in {part.metric for condition in claim.holds for part in condition.parts()}:
        some = [line for line in lines if metric in line["metrics"]]
        found = summary(some, metric) if some else {}
        medians[metric] = {run: {name: point.median for name, point in points.items()} for run, points in found.items()}
        for line in some:                                              # what is not finite in one seed supports nothing, whatever the others say
            for name, value in line["metrics"][metric].items():
                if not np.isfinite(_number(value)):
                    medians[metric].setdefault(line["run"], {})[name] = np.nan
    for line in lines:
        by_seed.setdefault(line["seed"], {})[line["run"]] = line["metrics"]

    def median(run, metric, name):
        return medians[metric].get(run, {}).get(name)

    def of_seed(seed):
        def value(run, metric, name):
            slices = by_seed[seed].get(run, {}).get(metric, {})
            return _number(slices[name]) if name in slices else None
        return value
    findings = []
    for condition in claim.holds:
        answers = [answer for seed in sorted(by_seed) if (answer := condition.holds(of_seed(seed))) is not None]
        sides = condition.left.value(median), condition.right.value(median)
        findings.append(Finding(condition, *sides, condition.holds(median), sum(answers), len(answers)))
    return verdict([finding.holds for finding in findings]), findings


def verdict(holds: list[bool | None]) -> str:
    return "not run" if None in holds else "reproduced" if all(holds) else "partly" if any(holds) else "not"


def _number(value) -> float:
    """Results have null for what was not finite."""
    return np.nan if value is None else value


def amendments(claim: Claim) -> list[str]:
    """What a reader has to know before the findings: nothing, or one sentence."""
    return [f"amended with the results known: {claim.amended}"] if claim.amended else []


def markdown(claims, lines: list[dict]) -> str:
    """A list for a page: every claim with its verdict, and under it what was found."""
    parts = []
    for claim in claims:
        said, findings = judge(claim, lines)
        source = f" ({claim.source}{f': {claim.published}' if claim.published else ''})" if claim.source else ""
        parts.append("\n".join([f"- **{said}**: {claim.statement}{source}", *(f"  - {each}" for each in (*amendments(claim), *findings))]))
    return "\n".join(parts)
