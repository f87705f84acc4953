"""The files of the page: complete, without inline script, and asking nobody else for anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from failsoft import dashboard
from failsoft.dashboard import assets
from failsoft.dashboard.assets import load_assets
from failsoft.dashboard.source import NamedArena

from .conftest import BASE, From, Visit

STATIC = Path(assets.__file__).parent / "static"
SCRIPTS = sorted(STATIC.glob("*.js"))


def test_every_file_is_served_with_its_type(visit: Visit) -> None:
    client = visit()
    for name, asset in load_assets().items():
        if name == "index.html":
            continue
        answer = client.get(f"/static/{name}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == asset.kind
        again = client.get(f"/static/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name",
    ["", "%2e%2e", "%2e%2e%2f__init__.py", "%2e%2e%2fgate.py", "gate.py", "style.css%00", "x" * 5000],
    ids=range(7),
)
def test_nothing_else_is(visit: Visit, name: str) -> None:
    assert visit().get(f"/static/{name}").status_code == 404


def test_what_the_page_and_its_modules_name_is_there() -> None:
    have = load_assets()
    page = (STATIC / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="static/([^"]+)"', page):
        assert name in have
    for script in SCRIPTS:
        for name in re.findall(r'from "\./([^"]+)"', script.read_text()):
            assert name in have


def test_nothing_is_inline_and_nothing_is_from_elsewhere() -> None:
    for page in STATIC.glob("*.html"):
        text = page.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)", text)
        assert not re.search(r"<style|\sstyle=|\son\w+=", text)
        assert not re.search(r"(?:src|href|action)=\"(?:[a-z]+:)?//", text)
    for script in SCRIPTS:
        text = script.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(
            r"https?://|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text
        )
    assert not re.search(r"url\(|@import", (STATIC / "style.css").read_text())


def test_uplot_is_the_one_that_is_known_or_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("youplot")
    assert b"uPlot (v1.6.31)" in load_assets()["uplot.js"].body
    monkeypatch.setitem(assets.UPLOT, "uplot.js", ("uplot.iife.min.js", "0" * 64))
    assert load_assets()["uplot.js"].body == b""
    assert "draws no charts" in caplog.text


def test_metrics_are_served_where_they_can_be_written(visit: Visit, payments: object) -> None:
    pytest.importorskip("failsoft.export.prometheus")
    client = visit()
    plain = client.get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "payments" in plain.text
    more = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert more.headers["content-type"].startswith("application/openmetrics-text")
    assert more.text.endswith("# EOF\n")


def test_metrics_come_in_the_format_that_is_preferred(visit: Visit, payments: object) -> None:
    accept = "application/openmetrics-text;version=1.0.0;q=0.1, text/plain;q=0.9"
    assert visit().get("/metrics", headers={"accept": accept}).headers["content-type"].startswith("text/plain")


def test_metrics_of_an_arena_that_is_not_there_yet_are_not_our_fault() -> None:
    page = dashboard.app(NamedArena("no-such-arena-here"))  # type: ignore[arg-type]  # read as an arena is
    answer = TestClient(From(page), base_url=BASE).get("/metrics")
    assert answer.status_code == 503
    assert "no-such-arena-here" in answer.text
