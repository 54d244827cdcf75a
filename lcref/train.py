"""Training: AdamW with warm-up and cosine decay, gradient clipping, several steps per compiled call, checkpoints that resume exactly.

    loss = sum_bt weights_bt * -log softmax(logits_bt)[target_bt] / sum_bt weights_bt            nats per scored token

A run is a function of (config, seed): parameters come from the seed, batch i from default_rng([seed, i]), position ids from
fold_in(seed, i). So a killed run that resumes at step i sees what it would have seen, and there is no data state to save.

`train` takes one seed, or several that are trained together by `vmap` (same result per seed up to rounding): worth it where small
models leave the machine idle. The rows of a batch go over all devices (lcref/parallel.py). Batches are made in a thread while the device
computes; `steps_per_call` steps run in one `lax.scan`.

`Start` begins with parameters that another run has trained, and counts batches and ids on from there: on the same data it sees what
comes next. Its learning rate and optimiser begin anew.

Parameter groups are declared where parameters are made: `nnx.Param(x, learning_rate=0.1, weight_decay=False)` scales that
parameter's learning rate and exempts it from decay; vectors and scalars are never decayed (`parameter_groups`).
"""
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from lcref import checkpoint, parallel
from lcref.config import digest, digest_of
from lcref.ops.numbers import number, whole


@dataclass(frozen=True)
class TrainConfig:
    steps: int = 1000
    batch: int = 32
    learning_rate: float = 2e-3                # peak
    final_ratio: float = 0.05                  # learning rate at the end / peak
    warmup: int = 100
    weight_decay: float = 0.01
    b1: float = 0.9
    b2: float = 0.99
    clip: float = 1.0                          # global gradient norm
    steps_per_call: int = 50
    checkpoint_seconds: float = 30.0           # 0: after every call

    def __post_init__(self):
        for name, least in (("steps", 1), ("batch", 1), ("steps_per_call", 1), ("warmup", 0)):
            whole("TrainConfig", name, getattr(self, name), least=least)
        number("TrainConfig", "learning_rate", self.learning_rate, above=0)
        if not self.clip > 0:
            raise ValueError(f"TrainConfig clip must be above 0 (inf: none), got {self.clip}")
        for name in ("final_ratio", "weight_decay", "checkpoint_seconds"):
            number("TrainConfig", name, getattr(self, name), least=0)
        for name in ("b1", "b2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"TrainConfig {name} must be at least 0 and below 1, got {getattr(self, name)}")
        if not self.warmup < self.steps:
            raise ValueError(f"warmup={self.warmup} must be less than steps={self.steps}")


class NonFiniteLoss(RuntimeError):
    """The loss, a parameter or the optimiser's state became NaN or infinite; the message names the step (of the latter two, the steps of
    the compiled call) and the last good checkpoint."""


class Stopped(Exception):
    """The stop event was set; the state was saved if there is a folder."""


class Progress(NamedTuple):
    step: int
    steps: int
    loss: float                                # mean over seeds of the last step
    seconds: float                             # of training so far, earlier sessions included


class Start(NamedTuple):
    """Parameters that training begins with in place of fresh ones."""
    origin: str                                # what trained them (`mark`): becomes part of the folder's mark
    steps: int                                 # behind them
    parameters: Callable[[], list[dict]]       # one {name: array} a seed, named as in `bare`; asked for where there is no checkpoint to go on from


class Trained(NamedTuple):
    decoder: nnx.Module
    seed: int
    seconds: float
    steps_per_second: float                    # lcref.results.RESULTS says of what; all seeds together count once
    loss: float
    parameters: int


def loss_of(decoder, batch, positions):
    """Mean cross-entropy in nats over the scored tokens, by their weights; 0 where none is scored."""
    logits = decoder(batch["inputs"], positions=positions, segments=batch.get("segments"))
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
    weight = batch["weights"].sum()
    return (nll * batch["weights"]).sum() / jnp.where(weight > 0, weight, 1.0)


def position_ids(scheme, key, batch):
    """The ids a training pass uses: the batch's own (packed text) or 0..T-1, as the scheme maps them (some draw, Randomized for each row by
    how long it is: nothing behind the last scored target counts)."""
    if (packed := batch.get("positions")) is not None:
        return scheme.training_ids(key, packed)
    plain = jnp.arange(batch["inputs"].shape[1])[None, :]
    if scheme.draws_ids:
        return scheme.ids(key, plain, jnp.max(jnp.where(batch["weights"] > 0, plain + 1, 1), axis=-1))
    return scheme.training_ids(key, plain) if scheme.draws_training_ids else None


def parameter_groups(decoder):
    """{parameter path: (learning-rate scale, decayed?)}: what the optimiser does with each parameter."""
    flat = nnx.to_flat_state(nnx.state(decoder, nnx.Param))
    return {"/".join(map(str, path)): (param.get_metadata().get("learning_rate", 1.0),
                                       param.get_metadata().get("weight_decay", param.get_value().ndim >= 2)) for path, param in flat}


@lru_cache
def make_optimizer(cfg, groups, structure):
    """groups: a (scale, decayed?) per leaf of `structure`. Cached: the same object for the same config, so that nothing recompiles."""
    scales, decayed = (jax.tree.unflatten(structure, list(column)) for column in zip(*groups))
    schedule = optax.warmup_cosine_decay_schedule(0.0 if cfg.warmup else cfg.learning_rate, cfg.learning_rate, cfg.warmup, cfg.steps,
                                                  cfg.learning_rate * cfg.final_ratio)
    return optax.chain(
        optax.clip_by_global_norm(cfg.clip),
        optax.scale_by_adam(cfg.b1, cfg.b2),
        optax.add_decayed_weights(cfg.weight_decay, decayed),
        optax.scale_by_learning_rate(schedule),
        optax.stateless(lambda updates, params: jax.tree.map(lambda u, s: u * s, updates, scales)))


def batches(source, cfg, seeds, start, stop, behind=0):
    """Stacked batches of one compiled call after another, [steps, (seeds,) ...], made in a thread one call ahead. Step i has batch
    behind + i."""
    def make(first):
        last = min(first + cfg.steps_per_call, cfg.steps)
        rows = [[source.batch(np.random.default_rng([seed, behind + i]), cfg.batch) for seed in seeds] for i in range(first, last)]
        stack = lambda items: {name: np.stack([item[name] for item in items]) for name in items[0]}
        return stack([row[0] if len(seeds) == 1 else stack(row) for row in rows])
    ready = queue.Queue(maxsize=1)

    def work():
        try:
            for first in range(start, cfg.steps, cfg.steps_per_call):
                item = make(first)
                while not stop.is_set():
                    try:
                        ready.put(item, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if stop.is_set():
                    return
        except Exception as error:
            ready.put(error)
    threading.Thread(target=work, daemon=True).start()
    for _ in range(start, cfg.steps, cfg.steps_per_call):
        item = ready.get()
        if isinstance(item, Exception):
            raise item
        yield item


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3, 4))
def call(graph, optimizer, scheme, params, opt_state, data, keys, first):
    """Train on every batch of `data` in order: lax.scan over steps, vmap over seeds where keys carries several.

    -> (params, opt_state, loss of each step, is every number in params and opt_state finite?). The last step's loss was computed before
    its update, so it cannot tell. A norm could: but the norm of large finite numbers may overflow.
    """
    def step(params, opt_state, batch, key, i):
        positions = position_ids(scheme, jax.random.fold_in(key, i), batch)
        loss, grads = parallel.value_and_grad(lambda params, *rows: loss_of(nnx.merge(graph, params), *rows), params, batch, positions)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss
    if keys.ndim:
        step = jax.vmap(step, in_axes=(0, 0, 0, 0, None))

    def body(carry, x):
        batch, i = x
        params, opt_state, loss = step(*carry, batch, keys, i)
        return (params, opt_state), loss
    count = jax.tree.leaves(data)[0].shape[0]
    (params, opt_state), losses = jax.lax.scan(body, (params, opt_state), (data, first + jnp.arange(count)))
    sound = jnp.array([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((params, opt_state)) if jnp.issubdtype(leaf.dtype, jnp.inexact)])
    return params, opt_state, losses, sound.all()


def bare(tree):
    """A tree of modules' state as a flat dict of arrays with readable names, for a checkpoint; `dress` is the inverse."""
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def dress(tree, named):
    return jax.tree.unflatten(jax.tree.structure(tree), [named[name] for name in bare(tree)])


@lru_cache
def shapes(model):
    """{parameter name: shape} of a model's config. Nothing is computed."""
    return shapes_of(nnx.eval_shape(lambda: model.build(rngs=nnx.Rngs(0))))


def shapes_of(decoder):
    return {name: leaf.shape for name, leaf in bare(nnx.state(decoder, nnx.Param)).items()}


def difference(have, want, more=False):
    """How the parameters {name: shape} that there are differ from those a model wants, in words; "" where they fit. more: it may have more."""
    def some(names):
        names = [name.removesuffix(".value") for name in names]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    absent, spare = [name for name in want if name not in have and not more], [name for name in have if name not in want]
    other = [name for name in have if name in want and have[name] != want[name]]
    return "; ".join([f"there is no {some(absent)}"] * bool(absent) + [f"the new model has no {some(spare)}"] * bool(spare)
                     + [f"{some([name])} is {have[name]}, the new model's is {want[name]}" for name in other[:2]])


def read_as(decoder, model):
    """The decoder's parameters in the decoder of another config. ValueError where they are not all of them, or others."""
    params = bare(nnx.state(decoder, nnx.Param))
    if wrong := difference(shapes_of(decoder), shapes(model)):
        raise ValueError(f"these parameters cannot be read as another model: {wrong}")
    graph, like = nnx.split(nnx.eval_shape(lambda: model.build(rngs=nnx.Rngs(0))), nnx.Param)
    return nnx.merge(graph, dress(like, params))


def begin_with(params, named):
    """A state of fresh parameters, with the values of those that are named: copies, since training reuses the memory it is given."""
    fresh = bare(params)
    have, want = ({name: np.shape(leaf) for name, leaf in leaves.items()} for leaves in (named, fresh))
    if wrong := difference(have, want, more=True):
        raise ValueError(f"training cannot begin with these parameters: {wrong}")
    return dress(params, fresh | {name: jnp.array(leaf) for name, leaf in named.items()})


def mark(model, source, cfg, seeds, start=None):
    """What a training is a function of, as text."""
    data = [digest(source)] if is_dataclass(source) else []            # a text's fingerprint is its corpus: row length and packing are not in it
    origin = [] if start is None else ["from", digest_of(start.origin)]
    return "-".join([digest(model), *data, source.fingerprint()[:12], digest(cfg), *map(str, seeds), *origin])


def claim(folder, model, source, cfg, seeds, start=None):
    """Mark a folder as this run's; ValueError if it holds another's checkpoints."""
    mine, note = mark(model, source, cfg, seeds, start), folder / "run_id"
    if note.exists() and note.read_text() == mine:
        return
    if checkpoint.latest(folder) is not None:
        raise ValueError(f"{folder} holds the checkpoint of another configuration, or of other data; choose another folder or delete it")
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(mine)


def unsound(losses, first):
    """What is not finite, and where, after a call that began at step `first`. losses [steps, seeds]"""
    if (bad := ~np.isfinite(losses).all(1)).any():
        return f"the loss is {losses[bad.argmax()].tolist()} at step {first + bad.argmax()}"
    return f"parameters or optimiser state are not finite after steps {first} to {first + len(losses) - 1}, though the loss at each of them was"


def train(model, source, cfg, seeds, *, folder=None, start=None, report=None, stop=None):
    """Train `model` (DecoderConfig, ReadProcessWriteConfig) on `source` once per seed -> list of Trained, one per seed.

    folder: where checkpoints go; a run that finds its own there goes on from it (another configuration's is a ValueError).
    start (Start): begin with other parameters. report(Progress) is called after every compiled call. stop (threading.Event): save and raise
    Stopped at the next call.
    Raises NonFiniteLoss; ValueError where the model's vocabulary is smaller than the data's, or `start` has not the model's parameters.
    """
    seeds = [int(seed) for seed in seeds]
    if not seeds or min(seeds) < 0:
        raise ValueError(f"seeds must be one or more whole numbers from 0 on, got {seeds}")
    if model.vocab < source.vocab:
        raise ValueError(f"the model's vocabulary is {model.vocab}, the data needs {source.vocab}")
    stop = stop or threading.Event()
    decoders = [model.build(rngs=nnx.Rngs(seed)) for seed in seeds]
    graph, _ = nnx.split(decoders[0])
    params = [nnx.state(decoder, nnx.Param) for decoder in decoders]
    if folder is not None:
        folder = Path(folder)
        claim(folder, model, source, cfg, seeds, start)
    step = (checkpoint.latest(folder) or 0) if folder is not None else 0
    if start is not None and not step:
        params = [begin_with(fresh, named) for fresh, named in zip(params, start.parameters(), strict=True)]
    optimizer = make_optimizer(cfg, tuple(parameter_groups(decoders[0]).values()), jax.tree.structure(params[0]))
    opt_state = [optimizer.init(p) for p in params]
    keys = [jax.random.key(seed) for seed in seeds]
    if len(seeds) == 1:
        (params,), (opt_state,), (keys,) = params, opt_state, keys
    else:
        params, opt_state = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in (params, opt_state))
        keys = jnp.stack(keys)

    seconds, loss, behind = 0.0, float("nan"), 0 if start is None else start.steps
    if step:
        saved = checkpoint.restore(folder, step, dict(params=bare(params), opt=bare(opt_state), seconds=0.0, loss=np.zeros(len(seeds))))
        params, opt_state = dress(params, saved["params"]), dress(opt_state, saved["opt"])
        seconds, loss = float(saved["seconds"]), saved["loss"]

    def save():
        if folder is not None and checkpoint.latest(folder) != step:
            losses = np.broadcast_to(np.asarray(loss, float), (len(seeds),)).copy()
            checkpoint.save(folder, step, dict(params=bare(params), opt=bare(opt_state), seconds=float(seconds), loss=losses))

    begun, warm, warm_steps, last_save, halt = step, 0.0, 0, time.monotonic(), threading.Event()
    try:
        for data in batches(source, cfg, seeds, step, halt, behind):
            if stop.is_set():
                save()
                raise Stopped(f"stopped at step {step} of {cfg.steps}")
            begin, count = time.monotonic(), len(data["inputs"])
            params, opt_state, losses, sound = call(graph, optimizer, model.position, params, opt_state, data, keys, jnp.int32(behind + step))
            losses = np.asarray(losses)
            took = time.monotonic() - begin
            seconds += took
            if not (sound and np.isfinite(losses).all()):
                good = checkpoint.latest(folder) if folder is not None else None
                raise NonFiniteLoss(f"{unsound(losses.reshape(count, -1), step)}; "
                                    + (f"last good checkpoint: {checkpoint.path(folder, good)}" if good else "no checkpoint before it"))
            if step > begun and count == cfg.steps_per_call:
                warm, warm_steps = warm + took, warm_steps + count
            step, loss = step + count, losses[-1]
            if report is not None:
                report(Progress(step, cfg.steps, float(np.mean(loss)), seconds))
            if folder is not None and time.monotonic() - last_save >= cfg.checkpoint_seconds:
                save()
                last_save = time.monotonic()
    finally:
        halt.set()
    save()
    rate = warm_steps / warm if warm else cfg.steps / max(seconds, 1e-9)
    states = [params] if len(seeds) == 1 else [jax.tree.map(lambda x: x[n], params) for n in range(len(seeds))]
    losses = np.broadcast_to(loss, (len(seeds),))
    size = sum(leaf.size for leaf in jax.tree.leaves(states[0]))
    return [Trained(nnx.merge(graph, state), seed, seconds, rate, float(l), size) for state, seed, l in zip(states, seeds, losses)]


def load(folder, model, index=None):
    """The decoder in the newest checkpoint of a run's folder; `index` picks a seed where several were trained together.

    Raises FileNotFoundError where there is no checkpoint, ValueError where its parameters are not those of `model`.
    """
    step = checkpoint.latest(folder)
    if step is None:
        raise FileNotFoundError(f"no checkpoint in {folder}")
    named = checkpoint.restore(folder, step, None).get("params") or {}
    decoder = model.build(rngs=nnx.Rngs(0))
    graph, like = nnx.split(decoder, nnx.Param)
    if not named:
        raise ValueError(f"the checkpoint in {folder} holds no parameters")
    together = min(leaf.shape[0] if leaf.ndim else 0 for leaf in named.values())
    if index is not None and not 0 <= index < together:                # JAX would give the last one
        raise ValueError(f"index={index} is not one of the seeds trained together in {folder}")
    named = {name: leaf if index is None else leaf[index] for name, leaf in named.items()}
    if wrong := difference({name: leaf.shape for name, leaf in named.items()}, {name: leaf.shape for name, leaf in bare(like).items()}):
        raise ValueError(f"the parameters in {folder} are not those of this model: {wrong}")
    return nnx.merge(graph, dress(like, {name: jnp.asarray(leaf) for name, leaf in named.items()}))
