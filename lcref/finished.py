"""A trained run, taken up again from its folder: to measure it elsewhere, or to let it write.

    trained = revive("runs/quickstart/checkpoints/copy.cpu/alibi-s0")
    ExactMatch(lengths=(10, 200))(trained.decoder, trained.run.data)
"""

import json
from pathlib import Path
from typing import NamedTuple

from lcref import config
from lcref.experiment import load


class Finished(NamedTuple):
    experiment: str
    name: str
    size: str
    seed: int
    step: int  # training steps behind it; fewer than run.train.steps for a run that was interrupted
    run: object
    decoder: object


def revive(folder: str | Path, seed: int | None = None) -> Finished:
    """The run in a checkpoint folder: of those that share its training, the one it is named after, and the model that this one reads.
    `seed` chooses one where several were trained together (default: the first).

    FileNotFoundError for a folder that is not one of a run, or where an experiment file is gone that defined a class of the config.
    ValueError for one without a whole checkpoint or with a foreign config.
    """
    folder = Path(folder)
    note = folder / "run.json"
    if not note.is_file():
        inside = sorted(str(path.parent) for path in folder.glob("**/run.json")) if folder.is_dir() else []
        hint = f"; did you mean {inside[0]}?" if inside else " (one looks like runs/quickstart/checkpoints/copy.cpu/rope-s0)"
        raise FileNotFoundError(f"{folder} is not the folder of a run: it has no run.json{hint}")
    try:
        said = json.loads(note.read_text(encoding="utf-8"))
        for file in said.get("files", ()):  # which define classes of the config
            load(file)
        made, seeds = config.from_dict(said["config"]), list(said["seeds"])
        said["experiment"], said["run"], said["size"], made.model, seeds[0]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{note} is damaged: {error}") from None
    seed = seeds[0] if seed is None else seed
    if seed not in seeds:
        raise ValueError(f"{folder} holds seed {', '.join(map(str, seeds))}, not {seed}")

    from lcref import checkpoint, train

    step = checkpoint.latest(folder)
    if step is None:
        raise ValueError(f"{folder} holds no whole checkpoint; run {said['experiment']} again to make one")
    decoder = train.load(folder, made.model, seeds.index(seed) if len(seeds) > 1 else None)
    decoder = decoder if made.read is None else train.read_as(decoder, made.read)
    return Finished(said["experiment"], said["run"], said["size"], seed, step, made, decoder)
