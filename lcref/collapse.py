"""A published encoder's vectors by the length of what it reads, at lower temperatures of its attention: `lcref collapse minilm-l6`.

Length collapse (arXiv 2410.24200): attention spread over more tokens averages more, so that the vectors of long texts come to point one way;
TempScale divides all scores by a temperature below 1, and changes no parameter. From each of several texts two pieces that do not overlap:

    embedding_cosine  mean cosine between pieces of different texts: 1 where all look alike
    input_cosine      the same of the mean of the tokens' embeddings alone, the control: what averaging over more tokens does by itself
    sibling_found     share of pieces whose nearest, among the second pieces of all texts, is that of their own text

The same at every length, whose pieces begin at the same tokens. A row is the tokenizer's first special token, a piece, and its last; its vector is
the mean over all of them. A seed is a choice of pieces; the texts are all of a corpus that are long enough.
"""
import hashlib
import time
from dataclasses import dataclass, replace

import jax
import numpy as np
from flax import nnx

from lcref import config, provenance, results, running
from lcref.data import corpora
from lcref.data.packing import stream
from lcref.data.windows import windows
from lcref.evaluate.inside import spread
from lcref.experiment import Figure
from lcref.nn.encoder import EncoderConfig, vectors
from lcref.ops.weights import TempScale
from lcref.train import read_as

BATCH = 4                                                      # rows read at a time
TOKENS = dict(x_label="tokens in a piece", log_x=True)
FIGURES = (
    Figure("embedding_cosine", title="How alike pieces of different texts are", y_label="mean cosine", lower_is_better=True, **TOKENS),
    Figure("sibling_found", title="Pieces that find the other one of their text", y_label="share", **TOKENS),
    Figure("input_cosine", title="The control: means of embeddings alone", y_label="mean cosine", lower_is_better=True,
           runs=("tau_1",), **TOKENS),                                                              # the same at every temperature
)


@dataclass(frozen=True)
class Cell:
    """One temperature on one choice of pieces. The config's digest names the cell."""
    temperature: float
    model: EncoderConfig
    sha256: str                                # of the weights
    corpus: str
    lengths: tuple[int, ...]


@jax.jit
def read(split, tokens):
    return vectors(nnx.merge(*split), tokens)


def pieces(tokenizer, corpus, seed, longest):
    """(ids [texts, 2, longest], the special tokens before and after a row): two pieces of each text of the corpus that is long enough."""
    documents = {name: text for split in corpora.load(corpus).values() for name, text in split.items()}
    rows = {name: tokenizer.encode(text.decode("utf-8", "replace")) for name, text in documents.items()}
    first, last = next(iter(rows.values()))[[0, -1]]
    bare = {name: row[1:-1] for name, row in rows.items() if len(row) >= 2 * longest + 2}
    if len(bare) < 2:
        lengths = sorted(len(row) - 2 for row in rows.values())
        raise ValueError(f"{len(bare)} texts of {corpus} have the {2 * longest} tokens that two pieces take, and 2 are needed; the longest have "
                         f"{', '.join(map(str, lengths[-2:]))}")
    cut = windows(stream(bare.values()), list(bare), seed, len(bare), 2 * longest - 1)
    return cut.reshape(len(bare), 2, longest), (first, last)


def measured(encoder, ids, ends, lengths):
    """{metric: {length: value}} of pieces [texts, 2, longest], cut to every length."""
    split, found = nnx.split(encoder), {"embedding_cosine": {}, "input_cosine": {}, "sibling_found": {}}
    for length in lengths:
        rows = np.pad(ids[:, :, :length], ((0, 0), (0, 0), (1, 1)))
        rows[:, :, 0], rows[:, :, -1] = ends
        flat = rows.reshape(-1, length + 2)
        read_rows = [read(split, flat[i:i + BATCH]) for i in range(0, len(flat), BATCH)]
        made, alone = (np.concatenate([np.asarray(pair[of]) for pair in read_rows]).reshape(*rows.shape[:2], -1) for of in (0, 1))
        found["embedding_cosine"][str(length)], found["sibling_found"][str(length)] = spread(made[:, 0], made[:, 1])
        found["input_cosine"][str(length)], _ = spread(alone[:, 0], alone[:, 1])
    return found


def measure(model, out, *, temperatures, lengths, seeds=3, corpus="topics", say=lambda line: None):
    """Fill the results file `out` with every (temperature, seed) that is not in it yet; returns their lines, in order of temperature.

    model: a PretrainedEncoder with a tokenizer. Raises ValueError before anything is measured where a value makes no sense, a length does not
    fit the window, or the corpus has fewer than two texts for it.
    """
    temperatures, lengths = tuple(dict.fromkeys(temperatures)), tuple(sorted(set(lengths)))
    for what, given in (("temperatures", temperatures), ("lengths", lengths)):
        if not given:
            raise ValueError(f"nothing to measure: {what} is empty")
    if model.tokenizer is None:
        raise ValueError(f"{model.name} has no tokenizer.json, which texts need")
    if lengths[0] < 1 or lengths[-1] > model.window - 2:
        raise ValueError(f"lengths are from 1 to {model.window - 2}, {model.name}'s window of {model.window} less two special tokens; got {lengths}")
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    cells = [Cell(tau, replace(model.encoder.cfg, weights=TempScale(tau)), model.sha256, corpus, lengths) for tau in temperatures]
    cut = [pieces(model.tokenizer, corpus, seed, lengths[-1]) for seed in range(seeds)]
    texts = [hashlib.sha256(np.ascontiguousarray(ids)).hexdigest() for ids, _ in cut]
    jobs = {(f"tau_{cell.temperature:g}", seed, config.digest(cell)): cell for cell in cells for seed in range(seeds)}
    there = {results.identity(line) for line in running.writable(out) if line["seed"] < seeds and line["data"] == texts[line["seed"]]}
    made = provenance.provenance()
    for number, ((run, seed, digest), cell) in enumerate(jobs.items(), 1):
        if (run, seed, digest) in there:
            continue
        begun = time.monotonic()
        metrics = measured(read_as(model.encoder, cell.model), *cut[seed], lengths)
        results.append(out, {
            "experiment": f"collapse/{model.name}", "run": run, "size": "", "config": config.to_dict(cell), "seed": seed, "digest": digest,
            "metrics": metrics, "seconds": round(time.monotonic() - begun, 2), "steps_per_second": None,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model.encoder, nnx.Param))), **made, "data": texts[seed],
            "date": provenance.now()})
        say(f"{number}/{len(jobs)}  {run} seed {seed}, {len(cut[seed][0])} texts  {time.monotonic() - begun:.0f} s")
    order = list(jobs)
    return sorted((line for line in results.read(out) if results.identity(line) in jobs), key=lambda line: order.index(results.identity(line)))
