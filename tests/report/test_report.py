"""The report: one file that needs nothing, runs nothing, and in which a name is a name."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from failsoft import Registry, database_fallbacks, report
from failsoft.alerts import AlertRule, Alerts
from failsoft.report.drawing import curve, ribbon
from failsoft.report.ribbons import states_of
from failsoft.testing import FakeClock

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title><svg/onload=alert(1)>",
    "</style><iframe src=https://evil.example>",
    "]]><![CDATA[",
    "{{7*7}}${7*7}",
    "javascript:alert(1)",
    "\x00\x1b[31m\u202e\u2066evil",
    "\ud800",
    "&lt;b&gt;",
    "x" * 1_000_000,
    "x: CLOSED -> OPEN for 5 s: y",
]

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """What a browser would find in it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(self.text)


TAGS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "section", "div", "span", "a", "table",
    "thead", "tbody", "tr", "th", "td", "ol", "li", "svg", "path", "rect", "text", "b",
}  # fmt: skip


def inert(page: Page) -> None:
    """Nothing runs, and nothing is loaded."""
    assert {tag for tag, _ in page.tags} <= TAGS
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "srcset", "action")]
        assert "url(" not in (attributes.get("style") or "")
        if "href" in attributes:
            assert tag == "a"
            assert (attributes["href"] or "").startswith("#i")
    assert not page.open


@pytest.fixture(autouse=True)
def _no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Names that are no text cannot travel from one process of the suite to another."""
    caplog.set_level(logging.CRITICAL, "failsoft")


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.close()


def run(registry: Registry, clock: FakeClock, name: str = "db", operation: str = "read") -> None:
    """An operation that works, fails for a while, and works again."""
    db = registry.integration(name, "database", retry_policy={"max_retries": 0})
    works = [True]

    @db.guard(operation=operation, retry=False, fallbacks=[database_fallbacks.mock_data([])])
    def read() -> list[int]:
        clock.advance(0.004)
        if not works[0]:
            raise ConnectionError(name)
        return [1]

    for good, count in ((True, 90), (False, 10), (True, 1)):
        works[0] = good
        for _ in range(count):
            read()
    clock.advance(61.0)
    for _ in range(5):
        read()


def test_it_tells_the_six_key_metrics(registry: Registry, clock: FakeClock) -> None:
    run(registry, clock)
    registry.integration("binance", "market_data")
    registry.integration("quiet", "cache")
    registry.capacities.enter("binance", 0.25, "maintenance")
    page = Page(report.html(registry, title="the run of today"))
    inert(page)
    for words in (
        "the run of today", "3 of 3 circuits CLOSED", "db", "binance", "25%", "CLOSED", "5.05%", "4 ms",
        "too many failures in a row", "answered by the mock fallback", "no operation has been guarded",
        "no decisions so far", "25% of the calls may go (maintenance)",
    ):  # fmt: skip
        assert words in page.words, words
    assert "p99 4 ms" in " ".join(page.words.split())
    ribbons = [attributes["fill"] for tag, attributes in page.tags if tag == "rect"]
    assert ribbons == ["#2e7d32", "#c62828", "#9a5b00", "#2e7d32", "#2e7d32", "#2e7d32"]


def test_it_needs_nothing_beside_it(registry: Registry, clock: FakeClock) -> None:
    run(registry, clock)
    text = report.html(registry)
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    assert len(text) < 40_000


@pytest.mark.parametrize("at", range(len(HOSTILE)))
def test_hostile_names_are_inert(registry: Registry, clock: FakeClock, at: int) -> None:
    name = HOSTILE[at]
    run(registry, clock, name, name)
    registry[name].force_open()
    registry[name].guard(lambda: None, operation="plain")
    alerts = Alerts([AlertRule("held", when="state == FORCED_OPEN", summary="{integration}")], source=registry)
    alerts.tick()
    text = report.html(registry, title=name, alerts=alerts)
    page = Page(text)
    inert(page)
    assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]
    assert len(text) < 60_000
    for thing in (registry[name].status(), registry[name].explain(), registry[name].metrics(name), alerts.history[0]):
        card = Page(thing._repr_html_())
        inert(card)


def test_a_file_is_written_whole_or_not_at_all(
    registry: Registry, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(registry, clock, "\ud800")
    path = tmp_path / "run.html"
    report.write(path, registry, title="first")
    assert "first" in path.read_text(encoding="utf-8")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        report.write(path, registry, title="second")
    assert "first" in path.read_text(encoding="utf-8")
    assert os.listdir(tmp_path) == ["run.html"]


def test_an_integration_has_the_numbers_of_its_keys(registry: Registry, clock: FakeClock) -> None:
    market = registry.integration("venues", "market_data")
    quote = market.guard(lambda venue: clock.advance(0.002), operation="quote", key=lambda venue: venue)
    for venue in ("eu", "us", "us"):
        quote(venue)
    page = Page(report.html(registry))
    words = " ".join(page.words.split())
    assert "venues market_data CLOSED 100% 3 0% 2 ms 2.01 ms 2.01 ms 2.01 ms 0 0" in words
    assert "venues[us] market_data CLOSED 100% 2 0% 2 ms" in words


def test_an_empty_run_says_so(registry: Registry) -> None:
    page = Page(report.html(registry))
    inert(page)
    assert "no integration has been made" in page.words


def test_a_great_many_integrations_are_counted(registry: Registry) -> None:
    for number in range(210):
        registry.integration(f"db-{number}", "database")
    page = Page(report.html(registry))
    inert(page)
    assert "and 10 more that are not shown" in page.words
    assert "210 of 210 circuits CLOSED" in page.words


def test_alerts_are_on_it(registry: Registry, clock: FakeClock) -> None:
    registry.integration("db", "database").force_open()
    alerts = Alerts([AlertRule("held", when="state == FORCED_OPEN")], source=registry)
    alerts.tick()
    page = Page(report.html(registry, alerts=alerts))
    assert "held" in page.words
    assert "state FORCED_OPEN" in page.words


PROGRAM = """
import os, sys, failsoft
failsoft.integration("db", "database").guard(lambda: 1, operation="read")()
call_off = failsoft.report.at_exit("run.html", title="the end")
if "fork" in sys.argv and not os.fork():
    failsoft.integration("of-the-fork", "database")
    sys.exit(0)
if "off" in sys.argv:
    call_off()
if "gone" in sys.argv:
    os.chdir("/"); os.rmdir(sys.argv[2])
os.chdir("/")
if "fork" in sys.argv:
    os.wait()
sys.exit(3)
"""


@pytest.mark.parametrize("how", ["", "fork", "off", "gone"])
def test_it_can_be_written_when_the_program_ends(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, how, str(folder)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    if how in ("", "fork"):
        text = (folder / "run.html").read_text()
        assert "the end" in text
        assert "of-the-fork" not in text
    else:
        assert not (folder / "run.html").exists()


def test_states_come_from_the_flight_recorder(registry: Registry, clock: FakeClock) -> None:
    db = registry.integration("db", "database")
    db.force_open()
    clock.advance(10.0)
    db.reset()
    clock.advance(5.0)
    db.metrics_only()
    clock.advance(1.0)
    told = states_of(str(db.status().state), db.explain().decisions)
    assert [(state, round(began, 3), round(ended, 3)) for state, began, ended in told] == [
        ("CLOSED", float("inf"), 16.0), ("FORCED_OPEN", 16.0, 6.0), ("CLOSED", 6.0, 1.0), ("METRICS_ONLY", 1.0, 0.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "cells",
    [
        [(5, 1)], [(1, 1), (2, 1)], [(0, 10)], [(1_000, 5), (10**12, 1)], [(1_000_000, 10**9)],
        [(n * 1_000, 1 + n % 7) for n in range(1, 2000)],
    ],
    ids=["one", "two", "zero", "far", "many", "long"],
)  # fmt: skip
def test_curves_are_well_formed_and_inside(cells: list[tuple[int, int]]) -> None:
    drawing = curve([("a", cells), ("<b>", cells[:1])])
    root = ElementTree.fromstring(drawing)
    numbers = [
        float(number)
        for path in root.iter("path")
        for number in path.attrib["d"].replace("M", " ").replace("L", " ").replace("H", " ").replace("V", " ").split()
    ]
    assert all(0.0 <= number <= 560.0 for number in numbers)
    assert len(drawing) < 12_000
    assert root.attrib["role"] == "img"


def test_a_short_trip_can_be_seen() -> None:
    root = ElementTree.fromstring(
        ribbon("db", [("CLOSED", 3600.0, 0.01), ("OPEN", 0.01, 0.005), ("CLOSED", 0.005, 0.0)], 3600.0)
    )
    widths = [float(rect.attrib["width"]) for rect in root.iter("rect")]
    edges = [float(rect.attrib["x"]) + float(rect.attrib["width"]) for rect in root.iter("rect")]
    assert min(widths) >= 2.0
    assert max(edges) <= 560.1


def cli(*arguments: str) -> tuple[int, str]:
    from click.testing import CliRunner

    from failsoft.cli.commands import failsoft

    done = CliRunner().invoke(failsoft, ["report", *arguments])
    return done.exit_code, done.output


def test_the_command_reads_an_arena(arena_left: str, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    assert cli("--arena", arena_left, "--title", "trading", str(path)) == (0, f"{path}\n")
    page = path.read_text()
    assert "trading" in page
    assert "quote" in page
    code, said = cli("--arena", arena_left, str(tmp_path / "none" / "run.html"))
    assert (code, said) == (1, f"Error: {tmp_path}/none/run.html cannot be written: No such file or directory\n")
    code, said = cli("--arena", "nothing", str(path))
    assert (code, "there is no arena 'nothing'" in said) == (1, True)


def test_a_dash_is_the_standard_output(arena_left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = cli("--arena", arena_left, "-")
    assert (code, said[:15], said.rstrip()[-7:]) == (0, "<!DOCTYPE html>", "</html>")
    assert not (tmp_path / "-").exists()


def test_what_is_written_to_stays_what_it_is(tmp_path: Path) -> None:
    """A link, a pipe: a file takes the place of neither."""
    file, link, pipe = tmp_path / "run.html", tmp_path / "latest.html", tmp_path / "pipe"
    link.symlink_to(file)
    report.write(link, Registry())
    assert link.is_symlink()
    assert "</html>" in file.read_text()
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        report.write(pipe, Registry())
        assert os.read(reading, 15) == b"<!DOCTYPE html>"
    finally:
        os.close(reading)
    assert pipe.is_fifo()
    assert sorted(tmp_path.iterdir()) == [link, pipe, file]
