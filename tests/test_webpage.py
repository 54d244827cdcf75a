"""The web page: whole in one file, true to the results lines, and, where there is a browser, looked at."""
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from lcref import claims, cli, report, showing, webpage
from lcref.experiment import experiments, load

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page():
    return webpage.webpage([one for name in experiments() for one in load(name)], "cpu", None)


class Balanced(HTMLParser):
    """Every tag that opens also closes, in order."""
    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_it_is_whole_and_needs_nothing_else(page):
    reader = Balanced()
    reader.feed(page)
    assert not reader.open
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page) and "@import" not in page and page.count("<img") >= 2
    assert "prefers-color-scheme: dark" in page


def test_it_says_what_the_lines_say(page):
    """Every verdict with its count, and every median of one figure at the place that sorting reads."""
    counts = dict.fromkeys(claims.VERDICTS, 0)
    for name in experiments():
        (experiment,) = load(name)
        if not (path := showing.committed(experiment, "cpu")):
            continue
        lines = showing.lines_of(experiment, path)
        for claim in experiment.claims:
            counts[claims.judge(claim, lines)[0]] += 1
            assert webpage.escaped(claim.statement) in page
        for points in report.summary(report.shown(lines, experiment.figures[0]), experiment.figures[0].metric).values():
            assert all(f'<td data-value="{point.median:.6g}">' in page for point in points.values())
        assert all(f"<td>{line['commit']}</td>" in page for line in lines)
    assert all(f"{webpage.badge(verdict)}&nbsp;{count}" in page for verdict, count in counts.items())


def test_text_is_escaped():
    assert webpage.prose("a < b\nc\n\n    x & y") == "<p>a &lt; b c</p><pre>    x &amp; y</pre>"


def test_the_command(tmp_path, capsys):
    assert cli.main(["report", "quickstart", "--to", str(tmp_path / "deep" / "page.html")]) == 0
    assert "page     " in capsys.readouterr().out and (tmp_path / "deep" / "page.html").read_text().startswith("<!doctype html>")
    assert cli.main(["report", "quickstart", "--size", "gpu", "--to", str(tmp_path / "none.html")]) == 2
    assert "there are no results of size gpu" in capsys.readouterr().err and not (tmp_path / "none.html").exists()


@pytest.mark.skipif(CHROMIUM is None, reason="needs a headless Chromium")
def test_a_browser_shows_it_and_sorts(page, tmp_path):
    """A click on a column's head sorts the rows by number, largest first, and again smallest first."""
    click = ("<script>const head = document.querySelectorAll('th')[3]; head.click(); const first = head.closest('table').tBodies[0].rows[0].cells[3];"
             "document.title = first.dataset.value; head.click(); document.title += ' ' + head.closest('table').tBodies[0].rows[0].cells[3].dataset.value;"
             "</script></body>")
    (tmp_path / "page.html").write_text(page.replace("</body>", click))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1100,1500"]
    picture, address = tmp_path / "page.png", (tmp_path / "page.html").as_uri()
    dom = subprocess.run([CHROMIUM, *options, "--dump-dom", address], capture_output=True, text=True, timeout=120).stdout
    largest, smallest = map(float, re.search(r"<title>(\S+) (\S+)</title>", dom).groups())
    column = [[float(value) for value in re.findall(r'data-value="([^"]+)"', row)][2] for row in re.findall(r"<tr>.*?</tr>", re.search(
        r"<tbody>.*?</tbody>", page).group())]
    assert largest == max(column) and smallest == min(column) and largest > smallest
    subprocess.run([CHROMIUM, *options, f"--screenshot={picture}", address], capture_output=True, timeout=120)
    assert picture.stat().st_size > 50_000
