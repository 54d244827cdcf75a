"""Everything that was measured, as one web page that needs nothing else: verdicts, figures, sortable tables, config and commit of every run.

    lcref report --to report.html

Made of results lines and the pictures beside them alone. No server, no network: pictures are inline, the script is twenty lines. Light and
dark as the reader's system is.
"""

import base64
import html
import json
from pathlib import Path

from lcref import claims, report, showing

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --back: #fff; --line: #d5d5d5; --soft: #f4f4f2; --link: #0a58a6 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --back: #16181b; --line: #3a3d42; --soft: #202327; --link: #7db7f0 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1, h2, h3 { line-height: 1.2 } h2 { border-top: 1px solid var(--line); padding-top: 1.5rem; margin-top: 3rem } a { color: var(--link) }
pre { white-space: pre-wrap; background: var(--soft); padding: .8rem; border-radius: 6px; font-size: .85rem }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem; margin: .6rem 0 1.4rem }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { cursor: pointer; background: var(--soft) }
th[aria-sort=ascending]::after { content: " \\2191" } th[aria-sort=descending]::after { content: " \\2193" }
td small { opacity: .65 } img { max-width: 100%; background: #fff; border-radius: 6px }
.verdict { display: inline-block; min-width: 6.2em; text-align: center; border-radius: 4px; padding: 0 .4em; color: #fff; font-size: .85rem }
.reproduced { background: #007a5a } .partly { background: #9a6700 } .not { background: #b3261e } .notrun { background: #6b6b6b }
li { margin: .3rem 0 } li ul { font-size: .88rem; opacity: .85 } details { margin: .4rem 0 }
"""
SCRIPT = """
for (const head of document.querySelectorAll("th")) head.addEventListener("click", () => {
  const table = head.closest("table"), column = [...head.parentNode.children].indexOf(head), body = table.tBodies[0];
  const down = head.getAttribute("aria-sort") !== "descending";
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const text = row => row.children[column].dataset.value ?? row.children[column].textContent;
  const value = row => isNaN(text(row)) || text(row) === "" ? text(row) : +text(row);
  const order = (a, b) => { const [x, y] = [value(a), value(b)]; return (x > y) - (x < y) };
  [...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)).forEach(row => body.append(row));
});
"""


def webpage(experiments, size: str, out: Path | None) -> str:
    """The page. out: where the results are, None for those that come with lcref. ValueError where no experiment has any at this size."""
    parts, counts = [], dict.fromkeys(claims.VERDICTS, 0)
    for experiment in experiments:
        path = showing.committed(experiment, size) if out is None else showing.results_file(experiment, size, out)
        if path and path.is_file() and (lines := showing.lines_of(experiment, path)):
            parts.append(section(experiment, lines, path, counts))
    if not parts:
        raise ValueError(f"there are no results of size {size} in {out or 'this copy of lcref'}")
    total = " ".join(f"{badge(verdict)}&nbsp;{count}" for verdict, count in counts.items())
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>lcref: what was measured</title><style>{STYLE}</style></head><body><h1>What was measured</h1>"
            f"<p>Claims at size {escaped(size)}: {total}. A verdict is computed from the numbers below it.</p>"
            f"{''.join(parts)}<script>{SCRIPT}</script></body></html>\n")


def section(experiment, lines, path, counts) -> str:
    figures = report.with_lines(experiment.figures, lines)
    pictures = [picture for picture in showing.picture_paths(figures, path) if picture.is_file()]
    said = []
    for claim in experiment.claims:
        verdict, findings = claims.judge(claim, lines)
        counts[verdict] += 1
        there = f" ({escaped(': '.join(filter(None, (claim.source, claim.published))))})" if claim.source else ""
        found = "".join(f"<li>{escaped(each)}</li>" for each in (*claims.amendments(claim), *findings))
        said.append(f"<li>{badge(verdict)} {escaped(claim.statement)}{there}<ul>{found}</ul></li>")
    (question, _, rest), name = experiment.doc.partition("\n"), escaped(experiment.name)
    return "".join([
        f'<h2 id="{name}">{name}</h2><h3>{escaped(question)}</h3>{prose(rest)}',
        f"<p>{escaped(showing.origin(lines)).replace('`', '')}</p>", f"<ul>{''.join(said)}</ul>",
        *(f'<img alt="{escaped(picture.stem)}" src="data:image/png;base64,{inline(picture)}">' for picture in pictures),
        *(f"<h3>{escaped(figure.title or figure.metric)}</h3>{table(lines, figure)}" for figure in figures), runs(lines)])


def prose(text: str) -> str:
    """Paragraphs of a docstring; indented ones as they stand."""
    parts = [part for part in text.strip("\n").split("\n\n") if part.strip()]
    return "".join(f"<pre>{escaped(part)}</pre>" if part.startswith("    ") else f"<p>{escaped(' '.join(part.split()))}</p>" for part in parts)


def inline(picture: Path) -> str:
    return base64.b64encode(picture.read_bytes()).decode()


def table(lines, figure) -> str:
    """Median, and the seeds' range where they differ."""
    found = report.summary(report.shown(lines, figure), figure.metric)
    names = report.slices(found)

    def cell(point):
        if point is None:
            return "<td></td>"
        low, middle, high = (f"{value:.2f}" for value in point[:3])
        spread = f" <small>{low} to {high}</small>" if low != high else ""
        return f'<td data-value="{point.median:.6g}">{middle}{spread}</td>'
    head = "".join(f"<th>{escaped(name)}</th>" for name in [figure.x_label, *names])
    body = "".join(f"<tr><td>{escaped(run)}</td>{''.join(cell(points.get(name)) for name in names)}</tr>" for run, points in found.items())
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def runs(lines) -> str:
    """What every run was: one fold with size, time, commit and date, and its whole config inside."""
    columns = ("run", "seed", "parameters", "seconds", "device", "commit", "date")
    head = "".join(f"<th>{name}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escaped(line[name])}</td>' for name in columns)}</tr>" for line in lines)
    first = {line["run"]: line for line in reversed(lines)}
    inside = {run: escaped(json.dumps(line["config"], indent=1)) for run, line in first.items()}
    configs = "".join(f"<details><summary>{escaped(run)}</summary><pre>{text}</pre></details>" for run, text in inside.items())
    return (f'<details><summary>Every run: time, device, commit</summary><div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div></details><details><summary>Every run's config</summary>{configs}</details>")


def badge(verdict: str) -> str:
    return f'<span class="verdict {verdict.replace(" ", "")}">{verdict}</span>'


def escaped(text) -> str:
    return html.escape(str(text))
