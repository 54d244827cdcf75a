"""Does plain RoPE fail at twice its training length if what it looks for is longer?

    ^ f0 f1 f2 KEY 4 1 7 2 9 0 6 3 f3 f4 f0 f1 ... ? 4 1 7 2 9 0 6 3 $        trained on rows of up to 128 tokens, as passkey/grid is

Of four digits plain RoPE with the usual base finds nearly all in 256 tokens of filler (passkey/grid). Here three of its models have keys of eight
digits, in rows of the same length, and twice the steps: `rope_eight` with a base of 10,000, `rope_fast_eight` with the base that turns two thirds of
its planes in these rows, and `p_rope_eight`, the control, with the planes stopped that do not turn once in them (arXiv 2410.06205).
They were declared after passkey/grid was known, and after trials of RoPE on a seed of their own had found .4 at twice and nothing at four times.

A share of 100 problems at each length, 20 at each depth; guessing is right once in a hundred million. Seven minutes for a trained run on one of two
cores, three quarters of an hour in all on both. Sizes gpu and paper have not been run.
Deviation: as in passkey/grid.
"""
from dataclasses import replace

from lcref.claims import Claim, of
from lcref.experiment import Figure, load

GRID, = load("passkey/grid")
DIGITS, SAME = 8, ("rope", "rope_fast", "p_rope")
ROPES = ("rope_eight", "rope_fast_eight")


def longer(run):
    """The run with keys of DIGITS digits in rows of the same length, and twice the steps."""
    task = replace(run.data.task, digits=DIGITS)
    data = replace(run.data, task=task, max_length=run.data.width - 2 * DIGITS - 3)
    lengths = lambda ev: tuple(data.max_length if n == run.data.max_length else n for n in ev.lengths)
    return replace(run, data=data, train=replace(run.train, steps=2 * run.train.steps),
                   evals=tuple(replace(ev, lengths=lengths(ev)) for ev in run.evals),
                   start=replace(run.start, data=replace(run.start.data, task=task)))


RUNS = {size: {f"{name}_eight": longer(known[name]) for name in SAME if name in known} for size, known in GRID.runs.items()}
SEEDS = 3
PAPER = {name: text for name, text in GRID.paper.items() if name == "attention"}
at, cell = (lambda run, n: of(run, "depth_mean", n)), (lambda run, n, depth: of(run, "depth_match", f"{n}@{depth:g}"))
CLAIMS = (
    Claim("rope-fails-at-eight-digits", "With keys of eight digits plain RoPE finds next to nothing at twice its training length.",
          source="arXiv 2306.15595, section 1",
          holds=tuple(part for run in ROPES for part in (at(run, 109) >= 0.95, at(run, 256) <= 0.2))),
    Claim("not-half-as-far-again",
          "Of keys of eight digits plain RoPE finds next to none that stand half as far again as any in training, or farther.",
          holds=tuple(part for run in ROPES
                      for part in (at(run, 109) >= 0.95, *(cell(run, 256, depth) <= 0.2 for depth in (0.0, 0.25))))),
    Claim("nothing-at-four-times", "At four times its training length plain RoPE finds next to no key of eight digits, wherever it stands.",
          holds=tuple(part for run in ROPES for part in (at(run, 109) >= 0.95, at(run, 512) <= 0.2))),
    Claim("stopped-planes-find-eight-digits",
          "With the planes stopped that do not turn once within the trained length RoPE finds most keys of eight digits at twice.",
          source="arXiv 2410.06205", holds=(at("p_rope_eight", 109) >= 0.95, at("p_rope_eight", 256) >= 0.9,
                                            at("p_rope_eight", 512) >= at("rope_eight", 512) + 0.3)),
)
FILLER = dict(x_label="tokens of filler", log_x=True, trained_to="data.max_length")
FIGURES = (
    Figure("depth_mean", title="Passkeys of eight digits found", y_label="found, mean over depths", **FILLER),
    Figure("depth_match", title="Found by length and depth, trained to 109 (gpu: 1,005): keys of eight digits", heat=True,
           x_label="tokens of filler", y_label="depth of the key"),
)
