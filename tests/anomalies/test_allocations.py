"""A call that runs out of memory, at whatever allocation, ends with its true result or a MemoryError, and holds nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import Score
from .matrix import ASYNC, SYNC

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.anomalies.allocations", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module", autouse=True)
def interpreter() -> None:
    pytest.importorskip("_testcapi")
    if run("canary").returncode:
        pytest.skip("this release of CPython crashes when it runs out of memory, without us")


def sweep(way: str, *kinds: str) -> dict[str, int]:
    done = run(way, *kinds)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-3000:]}"
    result: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    assert result["wrong"] == []
    return result


@pytest.mark.parametrize("way", ["sync", pytest.param("async", marks=pytest.mark.deep)])
def test_a_guard(way: str) -> None:
    assert sweep(way, "guard")["leased"] == 0


@pytest.mark.deep
@pytest.mark.parametrize(("way", "kinds"), [("sync", SYNC), ("async", ASYNC)])
def test_every_kind(way: str, kinds: dict[str, object], score: Score) -> None:
    result = sweep(way, *kinds)
    over = f"{result['struck']} failed allocations in {len(kinds)} kinds of {way} guards"
    score("permits are conserved where memory runs out", "leaked permits", 0, over)
    score(
        "permits are conserved where memory runs out", "permits that only their lease gave back", result["leased"], over
    )
    score("running out of memory gives the true result or MemoryError", "crashes and other results", 0, over)
