import gc
import logging
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from lcref import checkpoint
from tests.tolerances import assert_close

# orbax reads arrays side by side, and when one fails it forgets the others
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TREE = dict(params={"blocks.0.k": np.arange(6, dtype=np.float32).reshape(2, 3), "scale": jnp.float32(0.1)},
            opt={"count": jnp.int32(7), "tiny": np.float32([1e-38, np.nextafter(np.float32(1), np.float32(2))])},
            seconds=1.25, loss=np.array([0.5, 0.25]))


def same(a, b):
    assert_close(a, b)
    for x, y in ((a["params"]["blocks.0.k"], b["params"]["blocks.0.k"]), (a["opt"]["tiny"], b["opt"]["tiny"])):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes() and np.asarray(x).dtype == np.asarray(y).dtype


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    checkpoint.save(folder, 400, TREE)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(saved, tmp_path / "copy")


@pytest.mark.parametrize("like", [TREE, None], ids=["like a tree", "as it lies there"])
def test_what_was_saved_comes_back_bit_for_bit(saved, like):
    same(checkpoint.restore(saved, 400, like), TREE)


def test_steps_are_those_of_whole_checkpoints(tmp_path):
    assert checkpoint.steps(tmp_path / "nowhere") == [] and checkpoint.latest(tmp_path / "nowhere") is None
    for name in ("step_00000100", "step_00000020", "step_123456789", "step_00000900.orbax-checkpoint-tmp", "run_id", "step_x",
                 "my_step_00000999"):
        (tmp_path / name).mkdir()
    assert checkpoint.steps(tmp_path) == [20, 100, 123456789] and checkpoint.latest(tmp_path) == 123456789


def test_the_newest_replaces_the_older_and_what_a_kill_left(folder):
    """A run killed while it was writing step 500 saves step 600 the next time: nothing of the two remains."""
    half = folder / "step_00000500.orbax-checkpoint-tmp"
    shutil.copytree(checkpoint.path(folder, 400), half)
    assert checkpoint.latest(folder) == 400
    checkpoint.save(folder, 600, TREE)
    assert [path.name for path in folder.iterdir()] == ["step_00000600"]
    same(checkpoint.restore(folder, 600, TREE), TREE)


def test_the_same_step_may_be_saved_again(folder):
    checkpoint.save(folder, 400, TREE | dict(seconds=2.0))
    assert checkpoint.restore(folder, 400, None)["seconds"] == 2.0


def test_a_relative_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    same(checkpoint.restore("copy", 400, TREE), TREE)


def empty(path):
    for file in path.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def garbage(path):
    for file in path.rglob("*"):
        if file.is_file():
            file.write_bytes(b"\x93garbage\n" * 20)


def no_arrays(path):
    for inner in path.rglob("d"):
        shutil.rmtree(inner)


def nothing_inside(path):
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize("damage", [empty, garbage, no_arrays, nothing_inside], ids=lambda f: f.__name__)
@pytest.mark.parametrize("like", [TREE, None], ids=["like a tree", "as it lies there"])
def test_a_damaged_checkpoint_is_one_line_that_names_it(folder, damage, like, monkeypatch):
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)
    damage(checkpoint.path(folder, 400))
    with pytest.raises(ValueError, match="cannot restore .*step_00000400: .*delete the folder") as error:
        checkpoint.restore(folder, 400, like)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    del error
    gc.collect()


@pytest.mark.parametrize("params", [{"other": np.zeros(3)}, TREE["params"] | {"blocks.0.k": np.zeros((2, 2))},
                                    TREE["params"] | {"blocks.0.k": jnp.zeros((4, 4))}, {"scale": jnp.float32(0)}],
                         ids=["names", "numpy shapes", "jax shapes", "fewer"])
def test_a_checkpoint_of_another_model_is_one_line_that_names_it(saved, params):
    like = TREE | dict(params=params)
    with pytest.raises(ValueError, match="cannot restore .*step_00000400") as error:
        checkpoint.restore(saved, 400, like)
    assert "\n" not in str(error.value)
