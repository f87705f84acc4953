"""What all rooms of the suite share: the deep tests, and the figures that they report.

`pytest` leaves out what is marked `deep`; `pytest --deep` runs it as well, and lets hypothesis try harder. With FAILSOFT_SCORES=file in the
environment, each figure that a test reports by `score` is a line of JSON in that file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Score = Callable[..., None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--deep", action="store_true", help="also run the deep tests, which take minutes")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--deep"):
        os.environ["FAILSOFT_DEEP"] = "1"  # read by what is imported from here on, and by processes that tests start


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--deep"):
        return
    deep = [item for item in items if item.get_closest_marker("deep")]
    if deep:
        config.hook.pytest_deselected(items=deep)
        items[:] = [item for item in items if not item.get_closest_marker("deep")]


def pytest_itemcollected(item: pytest.Item) -> None:
    """For pytest-run-parallel (`--parallel-threads`), which makes the fixtures of a test once for all its threads."""
    if not item.config.getoption("parallel_threads", default=None):
        return
    callspec = getattr(item, "callspec", None)
    parameters = set(callspec.params) if callspec else set()
    shared = sorted(set(getattr(item, "fixturenames", ())) - parameters - {"request"})
    if shared:
        reason = f"the threads would share {', '.join(shared)}"
        item.add_marker(pytest.mark.thread_unsafe(reason=reason))


@pytest.fixture
def score(request: pytest.FixtureRequest) -> Score:
    """Report a figure: `score("permits are conserved", "leaked permits", 0, over="1,204 failed allocations")`."""

    def report(promise: str, figure: str, value: float | int | str, over: str = "") -> None:
        path = os.environ.get("FAILSOFT_SCORES")
        if not path:
            return
        line = {"promise": promise, "figure": figure, "value": value, "over": over, "test": request.node.nodeid}
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    return report


_SHARING = """
import sys
import failsoft

failsoft.share(sys.argv[1])
market = failsoft.integration("market", "market_data")
guard = market.guard(lambda n: n, operation="quote")
for n in range(50):
    guard(n)
market.guard(lambda n: n, operation="book")(1)
"""


@pytest.fixture
def arena_left(tmp_path: Path) -> str:
    """An arena, a file, as a process has left it that made 50 calls of market.quote and one of market.book."""
    path = str(tmp_path / "arena")
    subprocess.run([sys.executable, "-c", _SHARING, path], check=True)
    return path
