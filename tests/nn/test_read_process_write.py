import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lcref.config import digest, from_dict, override, to_dict
from lcref.evaluate import ExactMatch, score
from lcref.generate import generate
from lcref.nn.read_process_write import READERS, TINY, AsSet, InOrder, ReadProcessWriteConfig
from lcref.tasks import BOS, EOS, PAD, Sort, TaskSource
from lcref.train import TrainConfig, loss_of, train
from tests.tolerances import assert_close

TASK = Sort(12)
CFG = ReadProcessWriteConfig(TASK.vocab, d_model=8)
EVERY = pytest.mark.parametrize("reader", [AsSet(0), AsSet(3), InOrder()])
N = 6


def problems(batch=4, length=N, seed=0):
    return TASK.sample(np.random.default_rng(seed), batch, length)


def build(reader=AsSet(), **kwargs):
    return ReadProcessWriteConfig(TASK.vocab, d_model=8, reader=reader, **kwargs).build(rngs=nnx.Rngs(0))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    x = np.exp(x - x.max())
    return x / x.sum()


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def literal(model, row):
    """One row, one number after another, in float64: the docstring of the file."""
    array = lambda param: np.asarray(param[...], np.float64)
    linear = lambda layer, x: x @ array(layer.kernel) + (0 if layer.bias is None else array(layer.bias))
    D = model.cfg.d_model

    def lstm(cell, h, c, x):
        i, f, g, o = np.split(linear(cell.into, x) + linear(cell.across, h), 4)
        c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    def pointed(memory, query):
        return softmax(np.array([m @ query for m in memory]) / np.sqrt(D))

    embedded = array(model.embedding.embedding)[row]
    bar = row.tolist().index(model.cfg.separator)
    h, c, reader = np.zeros(D), np.zeros(D), model.reader
    if isinstance(model.cfg.reader, InOrder):
        memory = []
        for x in embedded[:bar]:
            h, c = lstm(reader.lstm, h, c, x)
            memory.append(h)
    else:
        memory, found = [linear(reader.each.down, gelu(linear(reader.each.up, x))) for x in embedded[:bar]], np.zeros(D)
        for _ in range(model.cfg.reader.steps):
            h, c = lstm(reader.process, h, c, np.r_[h, found])
            found = pointed(memory, h) @ np.array(memory)
        h, c = np.split(linear(reader.start, np.r_[h, found]), 2)
    shares = np.zeros((len(row) - bar, model.cfg.vocab))
    for t, x in enumerate(embedded[bar:]):
        h, c = lstm(model.writer, h, c, x)
        asks = h
        for look, join in zip(model.looks, model.joins):
            asks = linear(join, np.r_[asks, pointed(memory, linear(look, asks)) @ np.array(memory)])
        for token, share in zip(row[:bar], pointed(memory, linear(model.points, asks))):
            shares[t, EOS if token == BOS else token] += share
    return np.log(shares + TINY)


@EVERY
@pytest.mark.parametrize("glimpses", [0, 1, 2])
def test_it_is_its_formula(reader, glimpses):
    model, rows = build(reader, glimpses=glimpses), problems().inputs
    for row, logits in zip(rows, np.asarray(model(rows))):
        assert_close(logits[N + 1:], literal(model, row).astype(np.float32))


@pytest.mark.parametrize("reader, same", [(AsSet(0), True), (AsSet(3), True), (InOrder(), False)])
def test_a_set_has_no_order_and_a_pass_over_it_has(reader, same):
    model, rows = build(reader), problems().inputs
    turned = np.concatenate([rows[:, :1], rows[:, N:0:-1], rows[:, N + 1:]], 1)
    one, other = (np.asarray(model(x))[:, N + 1:] for x in (rows, turned))
    assert np.allclose(one, other, atol=1e-4) == same


@EVERY
def test_it_points_at_members_alone(reader):
    batch = problems()
    shares = np.asarray(jax.nn.softmax(build(reader)(batch.inputs), -1))[:, N + 1:]
    legal = np.zeros((4, TASK.vocab), bool)
    np.put_along_axis(legal, batch.inputs[:, 1:N + 1], True, 1)
    legal[:, EOS] = True
    assert_close(np.where(legal[:, None], shares, 0).sum(-1), np.ones((4, N + 1), np.float32))
    assert (shares[np.broadcast_to(legal[:, None], shares.shape)] > 0).all()


@EVERY
def test_what_is_written_later_and_padding_change_nothing(reader):
    model, rows = build(reader), problems().inputs
    later = rows.copy()
    later[:, N + 4:] = rows[:, N + 3:N + 4]
    padded = np.pad(rows, ((0, 0), (0, 5)), constant_values=PAD)
    assert_close(np.asarray(model(later))[:, N + 1:N + 4], np.asarray(model(rows))[:, N + 1:N + 4])
    assert not np.allclose(np.asarray(model(later))[:, N + 4:], np.asarray(model(rows))[:, N + 4:], atol=1e-4)
    assert_close(np.asarray(model(padded))[:, N + 1:rows.shape[1]], np.asarray(model(rows))[:, N + 1:])


@EVERY
def test_gradients_reach_every_parameter_that_is_used_and_are_finite(reader):
    model, batch = build(reader), problems()
    fields = {name: getattr(batch, name) for name in ("inputs", "targets", "weights")}
    grads = nnx.grad(lambda model: loss_of(model, fields, None))(model)
    sizes = {"/".join(map(str, path)): float(jnp.abs(leaf.get_value()).max()) for path, leaf in nnx.to_flat_state(nnx.state(grads, nnx.Param))}
    assert all(np.isfinite(size) for size in sizes.values())
    unused = {name for name, size in sizes.items() if size == 0}
    idle = {"reader/process/into/kernel", "reader/process/into/bias", "reader/process/across/kernel", "reader/start/kernel"}
    assert unused == (idle if reader == AsSet(0) else set())


@pytest.mark.parametrize("reader", [AsSet(2), InOrder()])
def test_it_learns_to_sort(reader):
    source = TaskSource(TASK, 2, 5)
    model = ReadProcessWriteConfig(source.vocab, d_model=32, reader=reader)
    trained, = train(model, source, TrainConfig(steps=400, batch=64, learning_rate=5e-3, warmup=20), [0])
    found = ExactMatch(lengths=(3,), samples=100)(trained.decoder, source)["exact_match"]["3"]
    assert found >= 0.8
    assert ExactMatch(lengths=(3,), samples=100)(model.build(rngs=nnx.Rngs(0)), source)["exact_match"]["3"] <= 0.05


def test_rows_of_any_number_are_scored_alike():
    model, batch = build(), problems(batch=5)
    whole = score(model, batch.inputs, batch.targets)[0]
    one = np.concatenate([score(model, batch.inputs[i:i + 1], batch.targets[i:i + 1])[0] for i in range(5)])
    assert_close(whole[:, N + 1:], one[:, N + 1:])


def test_a_config_is_changed_by_name_written_down_and_read_back():
    changed = override(override(CFG, "reader", "in_order"), "glimpses", "2")
    assert changed == ReadProcessWriteConfig(TASK.vocab, d_model=8, reader=InOrder(), glimpses=2)
    assert from_dict(to_dict(changed)) == changed and digest(changed) != digest(CFG)
    assert override(CFG, "reader.steps", "7").reader == AsSet(7) and set(READERS) == {"as_set", "in_order"}


@pytest.mark.parametrize("field, value", [("d_model", 0), ("vocab", 0), ("glimpses", -1)])
def test_impossible_sizes_are_named(field, value):
    with pytest.raises(ValueError, match=f"{field} must be at least .*{value}"):
        ReadProcessWriteConfig(**{"vocab": 20, field: value})
    with pytest.raises(ValueError, match="steps must be at least 0, got -1"):
        AsSet(-1)


def test_what_it_cannot_do_is_said():
    model, rows = build(), problems().inputs
    for kwargs in (dict(positions=np.arange(rows.shape[1])[None, :]), dict(segments=np.ones_like(rows))):
        with pytest.raises(ValueError, match="neither positions nor segments"):
            model(rows, **kwargs)
    with pytest.raises(ValueError, match="does not read or write piece by piece"):
        generate(model, rows[:, :N + 2], 3)
