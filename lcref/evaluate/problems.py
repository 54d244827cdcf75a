"""Problems with one right answer: solved entirely or not, by length, by depth, by what comes out."""
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lcref.evaluate import scoring
from lcref.generate import generate
from lcref.tasks import mixed


@dataclass(frozen=True)
class ExactMatch(scoring.Evaluation):
    """A task's problems of many lengths: share solved entirely, and share of answer tokens right."""
    lengths: tuple[int, ...] = (10, 20, 30, 40, 50)
    samples: int = 200                         # problems per length
    seed: int = 10_000                         # of the problems; training seeds are small numbers, so they never meet

    def check(self, source):
        scoring.needs(self, source, "task")
        for length in self.lengths:
            source.task.check(length)

    def width(self, source):
        return max(map(source.task.width, self.lengths))

    def slices(self, source):
        return dict.fromkeys(("exact_match", "token_accuracy"), [str(length) for length in self.lengths])

    def __call__(self, decoder, source):
        """All lengths are padded to the longest, so one program is compiled. 95 % intervals: lcref/report.py."""
        self.check(source)
        task, width = source.task, self.width(source)
        metrics = {"exact_match": {}, "token_accuracy": {}}
        for length in self.lengths:
            rng = np.random.default_rng([self.seed, length])
            batch = mixed(task, rng, self.samples, np.full(self.samples, length), width)
            _, right = scoring.score(decoder, batch.inputs, batch.targets, seed=length, real=task.width(length))
            wanted = batch.weights > 0
            metrics["exact_match"][str(length)] = float((right | ~wanted).all(1).mean())
            metrics["token_accuracy"][str(length)] = float(right[wanted].mean())
        return metrics


@dataclass(frozen=True)
class OutcomeMatch(ExactMatch):
    """A task whose answer says more than what comes out, such as a trace: share of problems whose outcome (`task.outcome`, each token at its
    place) is right when the answer is written token by token, greedily. The problems are those of ExactMatch, which asks for all of it, with
    as many samples."""

    def check(self, source):
        super().check(source)
        scoring.needs(self, source.task, "outcome")

    def slices(self, source):
        return {"outcome_match": [str(length) for length in self.lengths]}

    def __call__(self, decoder, source):
        self.check(source)
        shares = {}
        for length in self.lengths:
            batch = source.task.sample(np.random.default_rng([self.seed, length]), self.samples, length)
            first, places = int(batch.weights[0].argmax()), source.task.outcome(length)
            written = np.asarray(generate(decoder, batch.inputs[:, :first + 1], int(places.max()) + 1, temperature=0, seed=length))
            shares[str(length)] = float((written[:, places] == batch.targets[:, first + places]).all(1).mean())
        return {"outcome_match": shares}


@dataclass(frozen=True)
class DepthMatch(ExactMatch):
    """A task that hides something at a depth, such as a passkey: share of problems solved entirely.

        depth_match  by length and depth ("256@0.5")        depth_mean  by length, the mean over depths
    """
    samples: int = 40                          # problems per length and depth
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    task: Any = None                           # another one in the same tokens (other filler); None: the source's

    def check(self, source):
        scoring.needs(self, source, "task")
        scoring.needs(self, task := self.task or source.task, "depth")
        for length in self.lengths:
            task.check(length)
        if task.tokens != source.task.tokens:
            raise ValueError(f"{task} writes in other tokens than {source.task}, which the model has learned")

    def width(self, source):
        return max(map((self.task or source.task).width, self.lengths))

    def slices(self, source):
        return {"depth_mean": [str(length) for length in self.lengths],
                "depth_match": [f"{length}@{depth:g}" for length in self.lengths for depth in self.depths]}

    def __call__(self, decoder, source):
        """Each length has a program of its own: the longest rows are many times the shortest."""
        self.check(source)
        found = {"depth_mean": {}, "depth_match": {}}
        for length in self.lengths:
            rng = np.random.default_rng([self.seed, length])
            parts = [replace(self.task or source.task, depth=depth).sample(rng, self.samples, length) for depth in self.depths]
            inputs, targets, weights = (np.concatenate(column) for column in list(zip(*parts))[:3])
            shares = (scoring.score(decoder, inputs, targets, seed=length)[1] | (weights == 0)).all(1).reshape(len(self.depths), -1).mean(1)
            found["depth_mean"][str(length)] = float(shares.mean())
            found["depth_match"] |= {f"{length}@{depth:g}": float(share) for depth, share in zip(self.depths, shares)}
        return found


@dataclass(frozen=True)
class Accuracy(scoring.Evaluation):
    """Rows with one answer, at their last token (lcref.data.pixels): share of a whole split that is answered right, by how long the rows are."""
    split: str = "test"

    def check(self, source):
        scoring.needs(self, source, "examples")
        source.examples(self.split)

    def width(self, source):
        return source.width

    def slices(self, source):
        return {"accuracy": [str(source.width)]}

    def __call__(self, decoder, source):
        self.check(source)
        rows, answers = source.examples(self.split)
        targets = np.zeros_like(rows)
        targets[:, -1] = answers
        return {"accuracy": {str(source.width): float(scoring.score(decoder, rows, targets)[1][:, -1].mean())}}
