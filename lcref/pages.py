"""Do the pages say what the results lines say?  `lcref claims --check`

README and docs show tables, figures and verdicts. Each must have committed results lines behind it:

    table     one whose rows begin with a run's name in backticks: the very table that some results file gives
    figure    an image under results/: the results file that it is drawn from is there, and has lines
    verdict   "- **partly**: statement": the verdict that the statement's claim has by the committed lines
    tally     "| [section](#section) | experiment | 3 | 2 | 1 |": how many claims were reproduced, partly, and not, and every experiment has one
    page      results/<experiment>.<size>.md: the page that `lcref plot` writes from the lines

Numbers in running text and tables of other kinds (speed) are not looked at.
"""

import re
from pathlib import Path


def texts(root: Path) -> dict[str, str]:
    """{page: its text} of README, CONTRIBUTING and docs."""
    paths = [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths if path.is_file()}


def findings(root: Path) -> list[str]:
    """What has no results line behind it, a sentence each; empty where all is well. ValueError where there are no pages."""
    from lcref import showing
    from lcref.experiment import experiments, load

    if not (pages := texts(root)):
        raise ValueError(f"{root} has no README.md and no docs: pages are part of a checkout")
    found, verdicts, tallies = [], {}, {}
    tables = of_the_extension(root / "results/extend") | of_the_collapse(root / "results/collapse")
    for name in experiments():
        (experiment,) = load(name)
        for size in experiment.runs:
            path = root / "results" / f"{name}.{size}.jsonl"
            if not path.is_file():
                continue
            lines, page = showing.lines_of(experiment, path), path.with_suffix(".md")
            tables |= of_figures(lines, experiment.figures)
            if not page.is_file() or page.read_text(encoding="utf-8") != showing.page(experiment, lines, path):
                found.append(f"{page.relative_to(root)} is not what its lines say: lcref plot {name} --size {size} --out results")
        judged = of_claims(experiment, root)
        found += [f"{name}: another experiment claims the same sentence: {twice}" for twice in judged.keys() & verdicts.keys()]
        verdicts |= judged
        if (root / "results" / f"{name}.cpu.jsonl").is_file():
            tallies[name] = tuple(list(judged.values()).count(verdict) for verdict in ("reproduced", "partly", "not"))
    found += [f"docs/results.md: {said}" for said in wrong_tallies(pages.get("docs/results.md", ""), tallies)]
    for page, text in pages.items():
        found += [f"{page}: no results file gives the table {table.splitlines()[0]}" for table in run_tables(text) if table not in tables]
        found += [f"{page}: {said}" for said in wrong_verdicts(text, verdicts)]
        for image in re.findall(r"!\[[^]]*\]\(((?!http)[^)]+\.png)\)", text):
            if not drawn_from((root / page).parent / image):
                found.append(f"{page}: no results lines behind the figure {image}")
    return found


def run_tables(text: str) -> list[str]:
    """The Markdown tables whose rows begin with a run's name alone."""
    blocks = re.findall(r"(?:^\|.*\|\n?)+", text, re.M)
    return [block.strip() for block in blocks if all(re.match(r"\| `[\w\[\].,=-]+` \|(?! `)", row) for row in block.strip().splitlines()[2:])]


def of_figures(lines, figures) -> set[str]:
    from lcref import report

    return {report.markdown(lines, figure).split("\n\n")[0] for figure in report.with_lines(figures, lines)}


def of_the_extension(folder: Path) -> set[str]:
    """Tables of published models read past their window."""
    from lcref import extension, results
    from lcref.experiment import Figure

    found = set()
    for path in sorted(folder.glob("*.jsonl")):
        order = [extension.CONTROL, *extension.METHODS]
        lines = sorted(extension.current(results.read(path)), key=lambda line: order.index(line["run"]))
        losses = extension.against_control([line for line in lines if "loss" in line["metrics"]])
        for some, metric, label in ((losses, "loss_along", "tokens read"), (losses, "over_control", "tokens in the row"),
                                    (lines, "passkey", "tokens@depth")):
            if some := [line for line in some if metric in line["metrics"]]:
                found |= of_figures(some, [Figure(metric, x_label=label)])
    return found


def of_the_collapse(folder: Path) -> set[str]:
    """Tables of published encoders by length and temperature."""
    from lcref import collapse, results

    return {table for path in sorted(folder.glob("*.jsonl")) for table in of_figures(results.current(results.read(path)), collapse.FIGURES)}


def of_claims(experiment, root: Path) -> dict[str, str]:
    """{statement: verdict} by the committed lines of size cpu."""
    from lcref import claims, showing

    path = root / "results" / f"{experiment.name}.cpu.jsonl"
    lines = showing.lines_of(experiment, path) if path.is_file() else []
    return {claim.statement: claims.judge(claim, lines)[0] for claim in experiment.claims}


def wrong_verdicts(text: str, verdicts: dict[str, str]) -> list[str]:
    from lcref.claims import VERDICTS

    found = []
    for said, statement in re.findall(rf"^- \*\*({'|'.join(VERDICTS)})\*\*: (.*)$", text, re.M):
        known = next((claim for claim in sorted(verdicts, key=len, reverse=True) if statement.startswith(claim)), None)
        if known is None:
            found.append(f"no experiment claims: {statement}")
        elif said != verdicts[known]:
            found.append(f"the verdict is {verdicts[known]}, not {said}: {known}")
    return found


def wrong_tallies(text: str, tallies: dict[str, tuple[int, int, int]]) -> list[str]:
    """Experiments whose claims came out another way than a row says, that have no row, or that have one and no results."""
    rows = re.findall(r"^\| \[[^]]+\]\(#[\w-]+\) \| `([\w/]+)` \| (\d+) \| (\d+) \| (\d+) \|$", text, re.M)
    said = {name: tuple(map(int, counts)) for name, *counts in rows}
    return [f"the claims of {name} are {' / '.join(map(str, tallies.get(name, ['not run'])))} (reproduced, partly, not), and its row says otherwise"
            for name in tallies | said if said.get(name) != tallies.get(name)]


def drawn_from(picture: Path) -> bool:
    """Is the picture there, and results lines of its name? copy.cpu.png, copy.cpu-2.png, smollm2-135m.passkey.png."""
    lines = picture.with_name(re.sub(r"(-\d+|\.passkey)?\.png$", ".jsonl", picture.name))
    return picture.is_file() and lines.is_file() and bool(lines.read_text(encoding="utf-8").strip())
