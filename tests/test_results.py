"""Results files: replaced as a whole, never half-written, never short of a line; damage is named."""
import json
import threading

import pytest

from lcref import provenance, results


def line(run="rope", seed=0, digest="d0", **metrics):
    return {**dict.fromkeys(results.RESULTS, ""), "run": run, "seed": seed, "digest": digest, "metrics": metrics or {"loss": {"10": 1.0}},
            "config": {}, "versions": {}}


def test_lines_are_appended_in_order_and_read_back(tmp_path):
    path = tmp_path / "deep" / "copy.cpu.jsonl"
    for seed in range(3):
        results.append(path, line(seed=seed))
    assert [entry["seed"] for entry in results.read(path)] == [0, 1, 2]
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file, no lock


def test_the_same_run_takes_the_place_of_its_old_line(tmp_path):
    path = tmp_path / "a.jsonl"
    for digest, value in (("d0", 1.0), ("d1", 2.0), ("d0", 3.0)):
        results.append(path, line(digest=digest, loss={"10": value}))
    assert {entry["digest"]: entry["metrics"]["loss"]["10"] for entry in results.read(path)} == {"d1": 2.0, "d0": 3.0}


def test_current_keeps_the_newest_config_of_each_run():
    old, new, other = line(digest="old"), line(digest="new"), line(run="nope", digest="x")
    assert results.current([old, other, new]) == [other, new]


def test_numbers_json_does_not_have_become_null(tmp_path):
    import numpy as np

    written = results.append(tmp_path / "a.jsonl", line(loss={"10": float("nan"), "20": np.float32(0.5), "30": np.int64(3)}))
    assert written["metrics"]["loss"] == {"10": None, "20": 0.5, "30": 3}
    assert results.read(tmp_path / "a.jsonl") == [written]
    assert "NaN" not in (tmp_path / "a.jsonl").read_text()


def test_many_threads_lose_no_line(tmp_path):
    threads = [threading.Thread(target=results.append, args=(tmp_path / "a.jsonl", line(seed=seed))) for seed in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry["seed"] for entry in results.read(tmp_path / "a.jsonl")) == list(range(24))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    results.append(path, line())
    before = path.read_bytes()
    monkeypatch.setattr(results.os, "replace", lambda *names: (_ for _ in ()).throw(OSError("disk is gone")))
    with pytest.raises(OSError, match="disk is gone"):
        results.append(path, line(seed=1))
    assert path.read_bytes() == before


@pytest.mark.parametrize("text, said", [
    ('{"run": "rope", "se', "line 2 is not JSON"),
    ('{"run": "rope"}', "line 2 is not a results line, it lacks experiment"),
    ("[1, 2]", "line 2 is not a results line"),
    ("", "line 2 is not JSON"),
])
def test_damage_is_named_by_file_and_line(tmp_path, text, said):
    path = tmp_path / "a.jsonl"
    results.append(path, line())
    with open(path, "a") as file:
        file.write(text + "\n")
    with pytest.raises(ValueError, match=said) as caught:
        results.read(path)
    assert str(path) in str(caught.value)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        results.append(path, line(seed=1))
    assert path.read_bytes() == before


@pytest.mark.parametrize("change, said", [
    ({"metrics": 3}, "its metrics is of another kind"), ({"metrics": {"loss": 3}}, "its metric loss is of another kind"),
    ({"metrics": {"loss": {"3": "x"}}}, "its metric loss is of another kind"), ({"seed": "0"}, "its seed is of another kind"),
    ({"config": []}, "its config is of another kind"), ({"run": None}, "its run is of another kind"),
])
def test_lines_of_another_kind_are_named(tmp_path, change, said):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(line()) + "\n" + json.dumps(line() | change) + "\n")
    with pytest.raises(ValueError, match=f"{path}: line 2 is not a results line, {said}"):
        results.read(path)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=f"{tmp_path / 'a.jsonl'} is not text"):
        results.read(tmp_path / "a.jsonl")


def test_a_line_needs_every_key_of_the_schema(tmp_path):
    short = line()
    del short["commit"]
    with pytest.raises(ValueError, match="commit"):
        results.append(tmp_path / "a.jsonl", short)
    assert not (tmp_path / "a.jsonl").exists()


def test_provenance_says_where():
    made = provenance.provenance()
    assert set(made) < set(results.RESULTS)
    assert set(made["versions"]) == {"python", "jax", "jaxlib", "flax", "numpy"} and all(made["versions"].values())
    assert made["device"].startswith(("cpu: ", "gpu: ", "tpu: "))
    assert json.loads(json.dumps(made)) == made
