"""The same for long: everything is used at once, over and over, and nothing may grow.

One soak runs on a fake clock, days in seconds; the other on the real one for FAILSOFT_SOAK seconds, 60 by default, 600 at night.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from failsoft import IntegrationType, Registry, database_fallbacks
from failsoft.testing import FakeClock
from tests.conftest import Score

SECONDS = float(os.environ.get("FAILSOFT_SOAK", "60"))
DAYS = 3
NAMES = 1_000_000
STATM, DESCRIPTORS = Path("/proc/self/statm"), Path("/proc/self/fd")

pytestmark = pytest.mark.skipif(not STATM.exists(), reason="what is in use is read from /proc")


def resident() -> int:
    """KiB of this process in memory."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def in_use() -> tuple[int, int]:
    """Descriptors and threads."""
    return len(list(DESCRIPTORS.iterdir())), threading.active_count()


class Traffic:
    """A dependency that works, fails, hangs and recovers, and all ways to call it."""

    def __init__(self, registry: Registry) -> None:
        self.chance = random.Random(1)
        self.health = 1.0
        peer = registry.integration(
            "peer",
            IntegrationType.MARKET_DATA,
            circuit_breaker={"failure_rate": 0.5, "timeout": 0.01},
            retry_policy={"max_retries": 1, "initial_delay": 0.0, "max_delay": 0.0, "jitter": False},
            rate_limit={"rate": 1e6, "burst": 1000},
            bulkhead={"max_concurrent": 100},
            throttle={},
        )
        self.peer = peer
        self.sync = peer.guard(self._answer, operation="sync", fallbacks=[database_fallbacks.last_known()])
        self.keyed = peer.guard(self._answer, operation="keyed", key=lambda n: n % 300, max_keys=64)
        self.waiting = peer.guard(self._wait, operation="waiting")
        self.hedged = peer.guard(self._wait, operation="hedged", hedge=0.9)
        self.shared = peer.guard(self._wait, operation="shared", dedupe=True)

    def _answer(self, n: int) -> int:
        if self.chance.random() > self.health:
            raise ConnectionError("down")
        return n

    async def _wait(self, n: int) -> int:
        await asyncio.sleep(0)
        if self.chance.random() > self.health:
            await asyncio.sleep(1.0 if n % 50 == 0 else 0)
        return self._answer(n)

    def call(self, n: int) -> None:
        self.health = 0.2 if n // 2000 % 5 == 4 else 0.999  # an outage now and then
        self.sync.outcome(n % 100)
        self.keyed.outcome(n)
        with self.peer.guard(self._answer, operation="block").many(3) as batch:
            batch.fail(1 if n % 7 == 0 else 0) if n % 7 == 0 else None

    async def turn(self, n: int) -> None:
        calls: list[Any] = [guard.outcome(n) for guard in (self.waiting, self.hedged, self.shared, self.shared)]
        await asyncio.gather(*calls)
        given_up = asyncio.ensure_future(self.waiting.outcome(n))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)


def quietly(traffic: Traffic, n: int) -> None:
    try:
        traffic.call(n)
    except Exception:
        pass  # a batch that is refused


def grown(samples: list[int]) -> float:
    """KiB from the second quarter's mean to the last one's."""
    quarter = len(samples) // 4
    return sum(samples[-quarter:]) / quarter - sum(samples[quarter : 2 * quarter]) / quarter


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    registry = Registry()
    logger = logging.getLogger("failsoft")
    logger.setLevel(logging.CRITICAL)  # or pytest would keep every record
    yield Traffic(registry)
    logger.setLevel(logging.NOTSET)
    registry.close()


def days(traffic: Traffic, score: Score, steps: int) -> None:
    samples: list[int] = []
    with FakeClock() as clock:

        async def main() -> None:
            for n in range(steps):
                quietly(traffic, n)
                if n % 4 == 0:
                    await traffic.turn(n)
                clock.advance(DAYS * 86_400 / steps)
                if n % (steps // 16) == steps // 16 - 1:
                    samples.append(resident())

        before = in_use()
        asyncio.run(main())
        assert in_use() == before
    assert grown(samples) < 512
    score("soak", f"KiB grown in {DAYS} days of a fake clock", round(grown(samples)), f"{steps} rounds of calls")


def test_three_days_of_a_fake_clock(traffic: Traffic, score: Score) -> None:
    days(traffic, score, 1_600)


@pytest.mark.deep
def test_three_long_days_of_a_fake_clock(traffic: Traffic, score: Score) -> None:
    days(traffic, score, 60_000)


@pytest.mark.deep
def test_a_while_of_the_real_clock(traffic: Traffic, score: Score) -> None:
    samples: list[int] = []

    async def main() -> int:
        end = time.monotonic() + SECONDS
        look = time.monotonic() + SECONDS / 32
        for n in itertools.count():
            quietly(traffic, n)
            if n % 4 == 0:
                await traffic.turn(n)
            if time.monotonic() > look:
                samples.append(resident())
                look += SECONDS / 32
            if time.monotonic() > end:
                return n
        raise AssertionError("the count has ended")

    before = in_use()
    rounds = asyncio.run(main())
    assert in_use() == before
    assert grown(samples) < 1024
    score("soak", f"KiB grown in {SECONDS:.0f} s of the real clock", round(grown(samples)), f"{rounds} rounds of calls")


@pytest.mark.deep
def test_a_million_names(score: Score) -> None:
    registry = Registry()
    peer = registry.integration("peer", IntegrationType.CACHE)
    for n in range(2_000):  # past what a registry keeps
        peer.guard(abs, operation=f"name {n}")(1)
    before = resident()
    for n in range(2_000, NAMES):
        peer.guard(abs, operation=f"name {n}")(1)
    assert len(peer.operations) <= 1025
    assert resident() - before < 4096
    score(
        "a million names",
        "KiB grown",
        resident() - before,
        f"{NAMES} operations, of which {len(peer.operations)} are kept",
    )
    registry.close()
