"""TFDS as a source of text, without TensorFlow: any text set by name, and a builder that stores the standard-library corpus.

    Text(corpus="tfds:lcref_stdlib_text")      the builder below: documents, splits and fingerprint as in Text(corpus="stdlib")
    Text(corpus="tfds:ag_news_subset#title")   another set, with the feature named that holds the text (if it is not "text")

This file is the only one that imports tensorflow_datasets. Four rules keep TensorFlow out of it:
  1. depend on importlib_resources: TFDS imports it and does not ask for it;
  2. `_info` returns `tfds.core.DatasetInfo(builder=self, ...)`: its helpers look for metadata files in a folder around the builder;
  3. always file_format="array_record": tfrecord, the default, is written and read by TensorFlow;
  4. never `tfds.load`, which returns tf.data: `tfds.data_source` reads records at random by index, as NumPy.
Sets are prepared once under $TFDS_DATA_DIR, else in lcref's folder of the user's cache. What is not there is downloaded, and TFDS
tries for about three minutes before it gives up on a machine without a network.
"""

from __future__ import annotations

import contextlib
import os
import sys

import tensorflow_datasets as tfds

from lcref.data import stdlib
from lcref.data.splits import SPLITS, by_name

LIMIT = 256 * 2**20  # bytes read from each split: text is held in memory here, and some sets are larger than that


class LcrefStdlibText(tfds.core.GeneratorBasedBuilder):
    """Python's standard library as a TFDS set of {name, text}. Its version is Python's own: the text differs between versions."""

    VERSION = tfds.core.Version("{}.{}.{}".format(*sys.version_info[:3]))

    def _info(self):
        features = tfds.features.FeaturesDict({"name": tfds.features.Text(), "text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, description=stdlib.__doc__, features=features)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(group) for split, group in by_name(stdlib.documents()).items()}

    def _generate_examples(self, documents):
        for name, text in documents.items():
            yield name, {"name": name, "text": text}


def splits(name: str, data_dir: str | None = None) -> dict[str, dict[str, bytes]]:
    """split -> document name -> text of the TFDS set "NAME", "NAME/CONFIG:VERSION" or "NAME#FEATURE".

    Of each split the first records are read, up to LIMIT bytes (TFDS stores them shuffled). A split that the set lacks is taken
    out of its train split, by the hash of the record's number. KeyError for a name that TFDS does not know; ValueError for a set
    that cannot be read or downloaded, or where it is not clear which feature holds the text.
    """
    name, _, feature = name.partition("#")
    sources = open_set(name, data_dir)
    feature = _feature(name, next(iter(sources.values())).dataset_info.features, feature)
    names = "name" if name.partition(":")[0] == LcrefStdlibText.name else None
    found = {split: _read(sources[split], feature, names) for split in SPLITS if split in sources}
    if "train" not in found:
        raise ValueError(f"TFDS set {name!r} has no train split; there is: {', '.join(sources)}")
    for split in SPLITS:
        if split not in found:
            found[split] = by_name(found["train"])[split]
            found["train"] = {key: text for key, text in found["train"].items() if key not in found[split]}
    return {split: found[split] for split in SPLITS}


def open_set(name: str, data_dir: str | None = None) -> dict:
    """split -> records of a TFDS set, random access by index. KeyError and ValueError as in `splits`."""
    data_dir = data_dir or _cache()
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(sys.stderr):  # TFDS prints what it prepares; standard output is for results
            return tfds.data_source(name, data_dir=data_dir, builder_kwargs={"file_format": "array_record"})
    except tfds.core.DatasetNotFoundError as error:
        raise KeyError(f"TFDS knows no set {name!r}, and none is prepared in {data_dir}") from error
    except Exception as error:  # a download, a format or a version: whatever it is, say it in one line
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"TFDS set {name!r} in {data_dir} cannot be read: {reason}") from error


def _feature(name: str, features, wanted: str) -> str:
    """The feature with the text: the one asked for, else "text", else the only one there is."""
    texts = [key for key, feature in features.items() if isinstance(feature, tfds.features.Text)]
    if wanted:
        choice = [key for key in texts if key == wanted]
    else:
        choice = ["text"] if "text" in texts else texts
    if len(choice) != 1:
        there = ", ".join(texts) or "none"
        raise ValueError(f"TFDS set {name!r}: name the feature to read as {name}#FEATURE; features with text: {there}")
    return choice[0]


def _read(source, feature: str, names: str | None) -> dict[str, bytes]:
    """Documents in the order of their names: the record's own `names` feature, else its number."""
    found, size = {}, 0
    for number in range(len(source)):
        record = source[number]
        size += len(record[feature])
        if size > LIMIT:
            break
        if record[feature]:
            found[record[names].decode() if names else f"{number:09d}"] = record[feature]
    return dict(sorted(found.items()))


def _cache() -> str:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.environ.get("TFDS_DATA_DIR") or os.path.join(home, "lcref", "tfds")
