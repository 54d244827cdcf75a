"""Configs: changed by key, written down and read back without loss, named by their digest."""
import dataclasses
import json
from dataclasses import dataclass

import pytest

from lcref import config
from lcref.evaluate import EVALS
from lcref.experiment import load, override
from lcref.nn.decoder import DecoderConfig
from lcref.nn.layers import NORMS
from lcref.nn.mixers import MIXERS, AttentionConfig
from lcref.nn.positions import POSITIONS, Alibi, HardAlibi, Randomized, Rope
from lcref.ops.ssm.forgetting import MITIGATIONS
from lcref.ops.weights import WEIGHTS
from lcref.tasks import TASKS, Sort

TINY = "tests/tiny_experiment.py"


@pytest.fixture(scope="module")
def base(request):
    return load(request.config.rootpath / TINY)[0].runs["smoke"]["rope"]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("make", [
    lambda: Alibi(max_bias=NAN), lambda: Alibi(max_bias=-8.0), lambda: HardAlibi(windows=(1.5,)), lambda: Rope(base=INF), lambda: Rope(base=0.5),
    lambda: POSITIONS["sinusoidal"](base=NAN), lambda: POSITIONS["xpos"](base=0.0), lambda: POSITIONS["fire"](c=NAN),
    lambda: POSITIONS["fire"](threshold=NAN), lambda: POSITIONS["lm_infinite"](limit_distance=-5), lambda: POSITIONS["lm_infinite"](limit_distance=2.9),
    lambda: AttentionConfig(soft_cap=INF), lambda: WEIGHTS["log_n"](INF), lambda: WEIGHTS["temp_scale"](INF), lambda: WEIGHTS["lssar"](INF),
    lambda: MIXERS["s4d"](dt_max=INF), lambda: MIXERS["s4"](learning_rate=NAN), lambda: MIXERS["s5"](learning_rate=-1.0),
    lambda: MIXERS["mamba2"](A_max=INF), lambda: MIXERS["mamba2"](epsilon=-1.0), lambda: NORMS["rms"](-1.0), lambda: NORMS["centred"](NAN),
    lambda: DecoderConfig(vocab=5, d_model=8, embed_std=NAN), lambda: MITIGATIONS["forget_more"](decay=INF)])
def test_numbers_that_no_model_can_have_are_refused(make):
    with pytest.raises(ValueError, match=r"got .*(nan|inf|-8|-5|-1|0|1\.5|2\.9)"):
        make()


@pytest.mark.parametrize("key, text, value", [
    ("model.mixer.heads", "8", 8),
    ("model.mixer.kv_heads", "2", 2),
    ("model.mixer.kv_heads", "none", None),
    ("model.mixer.qk_norm", "true", True),
    ("model.position", "alibi", Alibi()),
    ("model.position.base", "5e5", 500_000.0),
    ("model.position.layout", "interleaved", "interleaved"),
    ("model.mixer", "attention", AttentionConfig()),
    ("model.mixer.position", "rope", Rope()),
    ("model.mixer.position", "none", None),
    ("model.pattern", "attention,attention", (AttentionConfig(), AttentionConfig())),
    ("train.learning_rate", "1e-4", 1e-4),
    ("data.task", "sort", Sort()),
    ("evals.0.lengths", "5,7", (5, 7)),
    ("evals.0.lengths", "(5, 7)", (5, 7)),
    ("seed", "3", 3),
])
def test_override_sets_the_field_and_nothing_else(base, key, text, value):
    changed = override(base, key, text)
    found = changed
    for part in key.split("."):
        found = found[int(part)] if isinstance(found, tuple) else getattr(found, part)
    assert found == value and type(found) is type(value)
    before, after = config.flat(base), config.flat(changed)
    assert {k for k in {**before, **after} if before.get(k) != after.get(k) and not k.startswith(key)} == set()


def test_override_reaches_into_a_wrapped_scheme(base):
    changed = override(override(base, "model.position", "randomized_rope"), "model.position.base", "alibi")
    assert changed.model.position == Randomized(base=Alibi())
    assert override(changed, "model.position.base.max_bias", "4").model.position.base.max_bias == 4.0


def test_tuples_of_optional_fields(base):
    changed = override(override(base, "model.position", "hard_alibi"), "model.position.windows", "1,2,3")
    assert changed.model.position == HardAlibi(windows=(1, 2, 3))


@pytest.mark.parametrize("key, text, error, said", [
    ("model.mixer.head", "8", KeyError, ["head", "heads", "AttentionConfig"]),
    ("modle.layers", "8", KeyError, ["modle", "model"]),
    ("model.layers.x", "8", KeyError, ["model.layers.x", "no fields"]),
    ("model.layers", "many", ValueError, ["model.layers", "'many'", "whole number", "1"]),
    ("model.layers", "2.5", ValueError, ["2.5", "whole number"]),
    ("model.mixer.qk_norm", "yes", ValueError, ["true or false"]),
    ("model.mixer.kv_heads", "x", ValueError, ["whole number", "none"]),
    ("model.position", "ropee", KeyError, ["ropee", "rope", "alibi"]),
    ("data.task", "coppy", KeyError, ["coppy", "copy", "passkey"]),
    ("evals.3.lengths", "5", KeyError, ["3", "0"]),
    ("evals.0.lengths", "5,x", ValueError, ["5,x", "commas", "whole number"]),
    ("train", "fast", ValueError, ["TrainConfig", "train.steps"]),
])
def test_override_says_what_is_legal(base, key, text, error, said):
    with pytest.raises(error) as caught:
        override(base, key, text)
    for word in said:
        assert word in str(caught.value)


EVERY = [(kind, name, make) for kind, table in
         {"task": TASKS, "position": POSITIONS, "mixer": MIXERS, "eval": EVALS}.items() for name, make in table.items()]


@pytest.mark.parametrize("kind, name, make", EVERY, ids=[f"{kind}-{name}" for kind, name, _ in EVERY])
def test_every_config_survives_json(kind, name, make):
    value = make()
    again = from_json(value)
    assert repr(again) == repr(value) and type(again) is type(value)


def test_a_whole_run_survives_json(base):
    endless = override(base, "train.clip", "inf")  # JSON has no infinity
    for run in (base, endless):
        assert repr(from_json(run)) == repr(run)


def from_json(value):
    return config.from_dict(json.loads(json.dumps(config.to_dict(value), allow_nan=False)))


def test_from_dict_names_what_is_gone():
    with pytest.raises(ValueError, match="lcref.nn.positions.Nosuch, which does not exist"):
        config.from_dict({"type": "lcref.nn.positions.Nosuch"})
    with pytest.raises(ValueError, match="bass, which lcref.nn.positions.Rope does not have"):
        config.from_dict({"type": "lcref.nn.positions.Rope", "bass": 3.0})


def test_from_dict_fills_in_fields_added_since():
    assert config.from_dict({"type": "lcref.nn.positions.Rope", "layout": "half"}) == Rope()


def bumped(value):
    """Another value of the same kind."""
    if isinstance(value, bool) or value is None:
        return not value
    return value + "x" if isinstance(value, str) else value + 1


def test_digest_changes_with_every_field(base):
    digests = {config.digest(base): "base"}
    for key in config.flat(base):
        found = base
        for part in key.split("."):
            found = found[int(part)] if isinstance(found, tuple) else getattr(found, part)
        if dataclasses.is_dataclass(found) or isinstance(found, tuple):
            continue
        data = config.to_dict(base)
        at = data
        *path, last = key.split(".")
        for part in path:
            at = at[int(part)] if isinstance(at, list) else at[part]
        at[last] = bumped(at[last])
        changed = config.digest_of(data)
        assert changed not in digests, f"{key} and {digests[changed]} have one digest"
        digests[changed] = key
    assert len(digests) > 25


def test_fields_that_came_later_change_a_digest_only_where_they_are_used(base):
    written = config.to_dict(base)
    assert config.digest_of({name: value for name, value in written.items() if name not in ("read", "start")}) == config.digest(base)
    wider = dataclasses.replace(base.model, position=Alibi())
    others = [dataclasses.replace(base, read=base.model), dataclasses.replace(base, read=wider), dataclasses.replace(base, start=base),
              dataclasses.replace(base, start=dataclasses.replace(base, model=wider))]
    assert len({config.digest(run) for run in [base, *others]}) == 5
    assert all(repr(from_json(run)) == repr(run) for run in others)


def test_keys_reach_into_what_is_read_and_what_is_begun_with(base):
    run = dataclasses.replace(base, read=base.model, start=base)
    assert override(run, "read.position.base", "5").read.position.base == 5.0
    assert override(run, "start.train.steps", "9").start.train.steps == 9
    with pytest.raises(KeyError, match="read.position: None has no fields"):
        override(base, "read.position", "alibi")


def test_digest_tells_types_apart_and_not_modules():
    @dataclass(frozen=True)
    class Elsewhere:
        base: float

    assert config.digest(Elsewhere(5.0)) != config.digest(Rope(5.0))
    Elsewhere.__qualname__ = "Rope"
    assert config.digest(Elsewhere(5.0)) == config.digest(Rope(5.0))


def test_a_config_that_cannot_be_written_down_is_refused():
    with pytest.raises(TypeError, match="cannot hold"):
        config.to_dict(object())
