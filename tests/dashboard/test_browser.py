"""The page in a real browser: what an operator sees, without a mouse, in both themes, whatever the names.

Screenshots go to the directory that FAILSOFT_SCREENSHOTS names, or to one of the test's own.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")
pytest.importorskip("websockets")

import failsoft
from failsoft import CircuitState
from failsoft.dashboard.names import identity
from failsoft.dashboard.source import NamedArena

from .browser import Page, chromium, find_chromium
from .conftest import fail, trip
from .serving import served
from .test_numbers import HOSTILE

PROGRAM = find_chromium()
pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium here: `apt-get install chromium`, or name one in FAILSOFT_CHROMIUM"
)

PAYMENTS = f"a[data-id='{identity('payments')}']"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    assert PROGRAM is not None
    with chromium(PROGRAM, tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """The browser's tab, wide and light; at the end it must have complained of nothing and asked nobody else."""
    browser.size(1280, 900)
    browser.prefer("light")
    browser.complaints.clear()
    browser.requests.clear()
    yield browser
    complaints, requests = list(browser.complaints), set(browser.requests)
    browser.send("Page.navigate", url="about:blank")
    assert complaints == []
    assert {url for url in requests if not url.startswith(("http://127.0.0.1:", "about:"))} == set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points of the charts come as quickly as frames."""
    monkeypatch.setattr("failsoft.dashboard.sampler.STEP", 0.1)


@pytest.fixture
def busy(registry: failsoft.Registry) -> Iterator[None]:
    """Calls of a few milliseconds, some of which fail, while the test runs."""
    over = threading.Event()
    chance = random.Random(1)

    def select() -> None:
        over.wait(chance.lognormvariate(-6.0, 0.5))
        if chance.random() < 0.1:
            fail()

    guard = registry.integration("orders-db", "database").guard(select, retry=False)

    def work() -> None:
        while not over.is_set():
            with contextlib.suppress(Exception):
                guard()

    worker = threading.Thread(target=work)
    worker.start()
    yield
    over.set()
    worker.join()


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    named = os.environ.get("FAILSOFT_SCREENSHOTS")
    return Path(named) if named else tmp_path


def overflow(page: Page) -> int:
    """Pixels that the page is wider than the window."""
    wider: int = page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wider


def open_detail(page: Page, card: str = PAYMENTS) -> None:
    """By keyboard: from the card to its detail."""
    page.run(f'document.querySelector("{card}").focus()')
    page.press("Enter")
    page.wait("document.querySelector('.machine .node.live') && document.querySelector('.why li')")


def test_a_breaker_that_opens_is_seen_within_two_seconds(
    page: Page, registry: failsoft.Registry, payments: failsoft.Integration
) -> None:
    with served(registry, interval=1.0) as (port, _hub):
        page.go(f"http://127.0.0.1:{port}/")
        page.wait(f'document.querySelector("{PAYMENTS} .badge").dataset.state === "CLOSED"')
        trip(payments)
        assert page.wait(f'document.querySelector("{PAYMENTS} .badge").dataset.state === "OPEN"', 5.0) < 2.0
        assert "1 open" in page.text()
        assert "payments is open" in page.run("document.getElementById('said').textContent")
        tiles = page.run("[...document.querySelectorAll('.tile dt')].map((tile) => tile.textContent)")
        assert tiles == [
            "Health", "Circuit breakers", "Error rate", "Latency, average", "Fallbacks, last minute", "Degraded mode",
        ]  # fmt: skip
        assert page.run("document.getElementById('cards').getBoundingClientRect().top") < 400


@pytest.mark.usefixtures("quick")
def test_everything_by_keyboard(page: Page, registry: failsoft.Registry, payments: failsoft.Integration) -> None:
    registry.integration("quotes", "market_data").call(int)
    trip(payments)
    with served(registry) as (port, _hub):
        page.go(f"http://127.0.0.1:{port}/")
        page.wait("document.querySelectorAll('.card').length === 2")
        for _ in range(12):  # skip link, name of the page, theme, filter, first card
            page.press("Tab")
            if page.run("document.activeElement.matches('.card')"):
                break
        assert page.run("document.activeElement.dataset.id") == identity("payments")  # trouble first
        page.press("ArrowRight")
        assert page.run("document.activeElement.dataset.id") == identity("quotes")
        page.press("ArrowLeft")
        page.press("Enter")
        page.wait("document.querySelector('.machine .live') && document.activeElement.id === 'detail-name'")
        assert page.run("document.querySelector('.machine .live').dataset.state") == "OPEN"
        assert "closed to open: 1" in page.run("document.querySelector('.machine').getAttribute('aria-label')")
        assert "3 failures in a row" in page.run("document.querySelector('.why').textContent")
        page.wait("document.querySelectorAll('.uplot').length === 2")
        page.wait("document.querySelector('.plot').getAttribute('aria-label')", 8)
        page.run("document.querySelector('.chart').focus()")
        page.press("ArrowLeft")
        assert "p95" in page.run("document.querySelector('.chart .told').textContent")
        page.press("Escape")
        page.wait(f"document.activeElement.dataset.id === '{identity('payments')}'")
        page.press("/")
        for letter in "quo":
            page.press(letter)
        page.wait("document.querySelectorAll('#cards > li:not([hidden])').length === 1")
        page.press("Escape")
        page.wait("document.querySelectorAll('#cards > li:not([hidden])').length === 2")
        unnamed = "[...document.querySelectorAll('button, a, input, select')].filter((e) => !(e.textContent.trim() || e.labels?.length || e.ariaLabel)).length"
        assert page.run(unnamed) == 0


def test_without_the_switch_there_are_no_controls(
    page: Page, registry: failsoft.Registry, payments: failsoft.Integration
) -> None:
    with served(registry) as (port, _hub):
        page.go(f"http://127.0.0.1:{port}/")
        page.wait(f'document.querySelector("{PAYMENTS}")')
        open_detail(page)
        assert "Read-only" in page.run("document.getElementById('no-controls').textContent")
        assert page.run("document.querySelectorAll('.controls button').length") == 0
        request = (
            "fetch('api/control', {method: 'POST', headers: {'content-type': 'application/json', 'x-failsoft-control': '1'},"
            f" body: JSON.stringify({{id: '{identity('payments')}', action: 'force_open'}})}}).then((a) => a.status)"
        )
        assert page.run(request) == 403
        assert payments.breaker.state is CircuitState.CLOSED
        page.complaints.clear()  # Chromium lists the answer that was asked for


def test_with_it_an_action_is_asked_about_and_carried_out(
    page: Page, registry: failsoft.Registry, payments: failsoft.Integration
) -> None:
    with served(registry, controls=True) as (port, _hub):
        page.go(f"http://127.0.0.1:{port}/")
        page.wait(f'document.querySelector("{PAYMENTS}")')
        open_detail(page)
        page.run("document.querySelector('[data-action=force_open]').focus()")
        page.press("Enter")
        page.wait("document.getElementById('ask').open && document.activeElement.id === 'ask-no'")
        page.press("Enter")  # no is what comes first
        page.wait("!document.getElementById('ask').open")
        assert payments.breaker.state is CircuitState.CLOSED
        page.press("Enter")
        page.wait("document.getElementById('ask').open && document.activeElement.id === 'ask-no'")
        page.press("Tab")
        page.wait("document.activeElement.id === 'ask-yes'")
        page.press("Enter")
        page.wait("document.querySelector('.machine .live').dataset.state === 'FORCED_OPEN'")
        assert payments.breaker.state is CircuitState.FORCED_OPEN
        page.wait("document.querySelector('.controls .told').textContent === 'Done: force_open'")
        assert "127.0.0.1" in page.text()


def test_hostile_names_are_text(page: Page, registry: failsoft.Registry, shots: Path) -> None:
    for name in HOSTILE:
        registry.integration(name, "external_api").guard(lambda: 1, operation=name)()
    broken = registry.integration(HOSTILE[1], "external_api")
    broken.force_open()
    with served(registry) as (port, _hub):
        page.go(f"http://127.0.0.1:{port}/")
        page.wait(f"document.querySelectorAll('.card').length === {len(HOSTILE)}")
        for name in HOSTILE:
            page.run(f"location.hash = '#/i/{identity(name)}'")
            page.wait(
                f"document.querySelector('#detail .why li') && document.title !== 'failsoft' && location.hash.endsWith('{identity(name)}')"
            )
            assert (
                page.run("document.querySelectorAll('#main img, #main script, #main iframe, #main style').length") == 0
            )
        page.press("Escape")
        page.wait("!document.getElementById('overview').hidden")
        assert "<img src=x onerror=alert(1)>" in page.text()
        page.size(360, 740)
        page.wait("innerWidth === 360")
        assert overflow(page) <= 0
        page.shoot(shots / "hostile-360.png")


@pytest.mark.usefixtures("quick", "busy")
def test_light_dark_and_narrow(
    page: Page, registry: failsoft.Registry, payments: failsoft.Integration, shots: Path
) -> None:
    fallback = failsoft.Fallback(failsoft.FallbackType.MOCK, lambda: 7)
    quotes = registry.integration("quotes", "market_data")
    quotes.guard(lambda: 1, operation="last")()
    registry.capacities.enter("quotes", 0.5, "maintenance")
    trip(payments)
    refund = payments.guard(fail, operation="refund", retry=False, fallbacks=[fallback])
    for _ in range(20):
        refund()
    with served(registry) as (port, _hub):
        page.go(f"http://127.0.0.1:{port}/")
        page.wait("document.querySelectorAll('.card').length === 3")
        grounds = []
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            grounds.append(page.run("getComputedStyle(document.documentElement).backgroundColor"))
            page.shoot(shots / f"overview-{scheme}.png")
        assert grounds[0] != grounds[1]
        page.prefer("light")
        page.run("document.getElementById('theme').focus()")
        page.press("Enter")
        page.press("Enter")
        assert page.run("document.documentElement.dataset.theme") == "dark"
        assert page.run("getComputedStyle(document.documentElement).backgroundColor") == grounds[1]
        page.press("Enter")
        assert page.run("getComputedStyle(document.querySelector('.card .badge')).animationName") == "none"
        page.shoot(shots / "overview-light.png")
        open_detail(page, f"a[data-id='{identity('orders-db')}']")
        page.wait("document.querySelector('.plot').getAttribute('aria-label')", 8)
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            page.shoot(shots / f"detail-{scheme}.png", whole=True)
        page.size(360, 740)
        page.wait("innerWidth === 360 && document.querySelector('.uplot').clientWidth < 360")
        assert overflow(page) <= 0
        page.shoot(shots / "detail-360.png", whole=True)
        page.press("Escape")
        page.wait("!document.getElementById('overview').hidden")
        assert overflow(page) <= 0
        page.shoot(shots / "overview-360.png", whole=True)


def test_a_server_that_is_gone_is_said(page: Page, registry: failsoft.Registry, payments: failsoft.Integration) -> None:
    with served(registry) as (port, _hub):
        page.go(f"http://127.0.0.1:{port}/")
        page.wait("document.querySelector('.card')")
    page.wait("document.documentElement.dataset.link === 'old'", 10)
    assert "what you see is old" in page.text()
    page.complaints.clear()  # that nobody answers is listed


@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(os.name != "posix", reason="the demo freezes and kills a process by signals")
def test_over_a_running_demo(page: Page, tmp_path: Path, shots: Path) -> None:
    """Six real faults of a real server, seen from outside through the arena that the demo shares."""
    pytest.importorskip("rich")
    arena = str(tmp_path / "arena")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FAILSOFT_")}
    command = [sys.executable, "-c", "from failsoft.cli import main; main()", "demo", "--seconds", "6", "--json"]
    with served(NamedArena(arena)) as (port, _hub):
        page.go(f"http://127.0.0.1:{port}/")
        assert "waiting for the arena" in page.text()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**clean, "FAILSOFT_ARENA": arena}) as demo:
            try:
                page.wait("document.querySelectorAll('.card').length >= 2")
                page.wait("document.querySelector('.card .badge[data-state=OPEN]')")
                page.shoot(shots / "demo.png")
                open_detail(page, f"a[data-id='{identity('quotes')}']")
                page.wait("document.querySelector('.machine .live').dataset.state === 'OPEN'")
                assert "failures in a row" in page.run("document.querySelector('.why').textContent")
                assert page.run("document.querySelectorAll('[aria-label=Processes] tbody tr').length") == 1
                assert "without controls" in page.run("document.getElementById('no-controls').textContent")
                page.wait("document.querySelector('.plot').getAttribute('aria-label')")
                page.shoot(shots / "demo-detail.png", whole=True)
            finally:
                demo.kill()
