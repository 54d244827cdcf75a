"""What the command line shows of results lines: tables in the terminal, pictures and a page beside the results file."""

import sys
from dataclasses import replace
from pathlib import Path

PANELS = 3  # of one picture


def results_file(experiment, size: str, out: Path) -> Path:
    return Path(out) / f"{experiment.name}.{size}.jsonl"


def lines_of(experiment, path: Path) -> list[dict]:
    """A results file's lines, in the order in which the experiment declares its runs (others last): of each run those of its config as it is
    declared, or, where there are none, of the newest."""
    from lcref import config, results

    names = [name for runs in sorted(experiment.runs.values(), key=len, reverse=True) for name in runs]
    lines, known = results.read(path), {}
    for line in lines:
        known.setdefault(line["run"], set()).add(line["digest"])
    several = {name for name, digests in known.items() if len(digests) > 1}        # digests take their time: only where they decide something
    declared = {(name, config.digest(replace(run, seed=0))) for runs in experiment.runs.values() for name, run in runs.items() if name in several}
    kept = {name for name, digest in declared if digest in known[name]}
    lines = results.current([line for line in lines if line["run"] not in kept or (line["run"], line["digest"]) in declared])
    return sorted(lines, key=lambda line: names.index(line["run"]) if line["run"] in names else len(names))


def pictures(experiment, path: Path) -> list[Path]:
    """Draw a results file, over the committed one of the same name where there is one: name.png, and name-2.png, ... where one sheet is not
    enough. Figures that show none of its runs are left out."""
    from lcref import plotting, report
    from lcref.experiment import shipped

    lines = lines_of(experiment, path)
    figures = report.with_lines(experiment.figures, lines)
    known = shipped("results") / experiment.name if shipped("results") else None
    known = known and known.with_name(path.name)
    apart = known and known.is_file() and known.resolve() != path.resolve()
    reference = lines_of(experiment, known) if apart else ()

    def drawn(sheet, name):
        if not sheet[0].heat:
            return plotting.curves(lines, sheet, name, reference)
        figure = sheet[0]
        return plotting.heat(report.shown(lines, figure), figure.metric, name, title=figure.title, x_label=figure.x_label, y_label=figure.y_label)
    return [drawn(sheet, name) for sheet, name in zip(sheets(figures), picture_paths(figures, path))]


def sheets(figures) -> list[list]:
    """The figures of each picture: up to PANELS of curves, or one of heat maps."""
    found = []
    for figure in figures:
        if not found or figure.heat or found[-1][-1].heat or len(found[-1]) == PANELS:
            found.append([])
        found[-1].append(figure)
    return found


def picture_paths(figures, path: Path) -> list[Path]:
    return [path.with_name(f"{path.stem}{f'-{i + 1}' if i else ''}.png") for i in range(len(sheets(figures)))]


def page(experiment, lines: list[dict], path: Path) -> str:
    """All that the lines of a results file say, in Markdown: question, verdicts, every figure and table, and where the numbers are from."""
    from lcref import claims, report

    figures = report.with_lines(experiment.figures, lines)
    parts = [f"# {experiment.name}, size {lines[0]['size']}", experiment.doc, origin(lines), "## Claims", claims.markdown(experiment.claims, lines),
             "## Figures"]
    for sheet, name in zip(sheets(figures), picture_paths(figures, path)):
        parts.append(f"![{'; '.join(figure.title or figure.metric for figure in sheet)}]({name.name})")
        for figure in sheet:
            parts += [f"**{figure.title or figure.metric}**", report.markdown(lines, figure)]
    return "\n\n".join(parts) + "\n"


def origin(lines: list[dict]) -> str:
    """What was run, and on what."""
    def every(values) -> str:
        return ", ".join(dict.fromkeys(map(str, values)))
    used = [f"{name} {every(line['versions'].get(name, '-') for line in lines)}" for name in lines[0]["versions"]]
    return (f"`lcref run {lines[0]['experiment']} --size {lines[0]['size']}`: {len({line['run'] for line in lines})} runs, seeds "
            f"{every(sorted(line['seed'] for line in lines))}; {every(line['device'] for line in lines)}; {', '.join(used)}; commit "
            f"{every(line['commit'] or 'unknown' for line in lines)}.")


def draw(experiment, size: str, out: Path | None, console, path: Path | None = None) -> None:
    """Tables in the terminal; pictures, and a page with all of it, beside the results file."""
    from lcref import report, results

    path = path or results_file(experiment, size, out)
    lines = lines_of(experiment, path)
    if not lines:
        raise ValueError(f"{path} holds no results lines")
    tables = [(figure.title, report.table(lines, figure, console.width)) for figure in report.with_lines(experiment.figures, lines)]
    drawn, made = pictures(experiment, path), path.with_suffix(".md")
    results.write(made, page(experiment, lines, path))
    tell(console, tables, drawn, path, lines, f"page     {made}")


def committed(experiment, size: str) -> Path | None:
    """The results file that comes with lcref, where there is one."""
    from lcref.experiment import shipped

    path = results_file(experiment, size, shipped("results")) if shipped("results") else None
    return path if path and path.is_file() else None


def undecidable(experiment, claim, size: str) -> list[str]:
    """What a claim compares and the experiment's runs of a size do not measure (lcref/claims.py). KeyError for an unknown size."""
    from lcref import claims, config, running

    runs = experiment.runs[config.legal(size, experiment.runs, f"size of {experiment.name}")]
    return claims.undecidable(claim, {name: running.slices(run) for name, run in runs.items() if name in claim.runs()})


def ledger(experiments, size: str, out: Path | None, only: str | None = None) -> None:
    """Every claim of the experiments with its verdict and what it rests on; a last line counts. out None: by the committed results."""
    from lcref import claims

    counts = dict.fromkeys(claims.VERDICTS, 0)
    for experiment in experiments:
        path = committed(experiment, size) if out is None else results_file(experiment, size, out)
        lines = lines_of(experiment, path) if path and path.is_file() else []
        for claim in experiment.claims:
            if only in (None, claim.name):
                verdict, findings = claims.judge(claim, lines)
                counts[verdict] += 1
                print(f"{verdict:<10}  {experiment.name}:{claim.name}\n{'':<12}{claim.statement}{f' ({claim.source})' if claim.source else ''}")
                if claim.published:
                    print(f"{'':<12}there: {claim.published}")
                print("\n".join([f"{'':<12}{each}" for each in claims.amendments(claim)] + [f"{'':<12}here:  {finding}" for finding in findings]))
                if verdict == "not run" and size in experiment.runs and (absent := undecidable(experiment, claim, size)):
                    print(f"{'':<12}size {size} does not measure {'; '.join(absent)}")
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))


def draw_extension(lines: list[dict], path: Path) -> None:
    """Tables and figures of a published model read past its window."""
    from lcref import extension, plotting, report
    from lcref.experiment import Figure

    console, drawn, tables, window = terminal(), [], [], lines[0]["config"]["window"]
    losses = extension.against_control([line for line in lines if "loss" in line["metrics"]])
    keys = [line for line in lines if "passkey" in line["metrics"]]
    if losses:
        along = Figure("loss_along", title=f"{path.stem} past its window of {window}", x_label="tokens read", y_label="loss (nats per token)",
                       trained_to=window, lower_is_better=True, over="texts")
        by_row = dict(x_label="tokens in the row", lower_is_better=True, over="texts")
        over = Figure("over_control", title="Loss over that of the control, which reads inside the window, in percent", **by_row)
        measured = any("over_control" in line["metrics"] for line in losses)  # not where an interruption left the control alone
        for figure in (along, Figure("loss", title="Loss of the last tokens of a row", **by_row), *[over] * measured):
            tables.append((figure.title, report.table(losses, figure, console.width)))
        drawn.append(plotting.curves(losses, [along], path.with_suffix(".png")))
    if keys:
        figure = Figure("passkey", title="Passkeys found, by length and depth", x_label="length@depth", over="samples")
        tables.append((figure.title, report.table(keys, figure, console.width)))
        drawn.append(plotting.heat(keys, "passkey", path.with_name(f"{path.stem}.passkey.png"), title=figure.title, x_label="tokens",
                                   y_label="depth of the key", over="samples"))
    tell(console, tables, drawn, path, lines)


def draw_collapse(lines: list[dict], path: Path) -> None:
    """Tables and the figure of a published encoder's vectors by length and temperature."""
    from lcref import collapse, plotting, report

    console, figures = terminal(), report.with_lines(collapse.FIGURES, lines)
    drawn = [plotting.curves(lines, figures, path.with_suffix(".png"))]
    tell(console, [(figure.title, report.table(lines, figure, console.width)) for figure in figures], drawn, path, lines)


def tell(console, tables, drawn, path: Path, lines, *more: str) -> None:
    """What was found, and where it is. Comes last, when all of it is written: who reads this may leave in the middle."""
    for title, table in tables:
        console.print(f"\n{title}", style="bold", highlight=False, markup=False)
        console.print(table, highlight=False, markup=False)
    console.print()
    print("".join(f"{row}\n" for row in [*(f"figure   {each}" for each in drawn), *more]) + f"results  {path}  ({len(lines)} lines)", flush=True)


def terminal():
    from rich.console import Console

    class Terminal(Console):
        def on_broken_pipe(self):
            raise  # the BrokenPipeError that is being handled, as `print` would have: rich leaves with exit code 1

    return Terminal(width=None if sys.stdout.isatty() else 120)
