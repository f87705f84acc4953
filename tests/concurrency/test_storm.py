"""All at once: threads that call, await, stream and wait, while others change settings, force states, read and make guards anew.

Nothing is timed to meet. What is looked for is what no single test asks: two things that nobody thought would happen together.
FAILSOFT_STORM=seconds in the environment lets it last longer; `python tests/sanitized.py threads` has it watched.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import failsoft
from failsoft import IntegrationError, LatencyHistogram, Registry
from failsoft import database_fallbacks as kept

SECONDS = float(os.environ.get("FAILSOFT_STORM", "0.4"))
PATIENCE = 60.0
NO_WAITS = {"max_retries": 1, "initial_delay": 0.0, "max_delay": 0.0}


class Storm:
    """What the threads have in common, and what must come out in the end."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.end = time.monotonic() + SECONDS
        breaker = {"failure_threshold": 5, "reset_timeout": 0.001, "window": 0.05, "failure_rate": 0.5}
        self.shaky = self.registry.integration(
            "shaky", "database", retry_policy=NO_WAITS, circuit_breaker=breaker, degraded={"ramp": 0.01}
        )
        self.limited = self.registry.integration(
            "limited", "cache", retry_policy=NO_WAITS, circuit_breaker=breaker,
            bulkhead={"max_concurrent": 2, "max_wait": 0.002},
            rate_limit={"rate": 50_000.0, "burst": 50, "max_wait": 0.002},
        )  # fmt: skip
        self.steady = self.registry.integration("steady", "external_api")
        self.latencies = LatencyHistogram(window=0.05)
        self.exact = self.steady.guard(lambda n: n, operation="exact")
        self.exactly: list[int] = []
        self.recorded: list[int] = []
        self.hear = failsoft.subscribe(lambda _event: None)

    def lasts(self) -> bool:
        return time.monotonic() < self.end


def fails(n: int) -> int:
    if n % 3 == 0:
        raise ConnectionError("gone")
    return n


async def fails_later(n: int) -> int:
    await asyncio.sleep(0.02 if n % 50 == 0 else 0)
    return fails(n)


def tried(work: Callable[..., Any], *args: Any) -> Any:
    try:
        return work(*args)
    except (IntegrationError, ConnectionError):
        return None


async def tried_later(work: Callable[..., Any], *args: Any) -> Any:
    try:
        return await work(*args)
    except (IntegrationError, ConnectionError, TimeoutError):
        return None


def calls(storm: Storm) -> None:
    made = [
        storm.shaky.guard(fails, operation="plain"),
        storm.shaky.guard(fails, operation="kept", fallbacks=[kept.last_known(), kept.mock_data(0)]),
        storm.shaky.guard(fails, operation="keyed", key=lambda n: n % 5, max_keys=3),
        storm.shaky.guard(fails, operation="once", dedupe=lambda n: n % 2),
        storm.shaky.guard(lambda n: n, operation="judged", failure=lambda n: "NETWORK" if n % 7 == 0 else None),
    ]
    n = done = 0
    while storm.lasts():
        n += 1
        for guard in made:
            tried(guard, n)
            guard.outcome(n)
        storm.exact(n)
        done += 1
        with storm.steady.attempt("block"):
            pass
    storm.exactly.append(done)


def waits(storm: Storm) -> None:
    guard, n = storm.limited.guard(fails, operation="limited"), 0
    while storm.lasts():
        n += 1
        tried(guard, n)


def awaits(storm: Storm) -> None:
    timed = storm.shaky.guard(fails_later, operation="awaited")
    once = storm.shaky.guard(fails_later, operation="awaited once", dedupe=lambda n: n % 2)
    limited = storm.limited.guard(fails_later, operation="awaited limited")

    async def feed() -> AsyncIterator[int]:
        for n in range(5):
            yield n

    async def streams() -> None:
        async with storm.shaky.stream(
            feed, sequence=lambda n: n, key=lambda n: n % 2, stale_after=1.0, ends=True
        ) as items:
            async for _ in items:
                pass

    async def main() -> None:
        n = 0
        while storm.lasts():
            n += 1
            work = [tried_later(guard, n + m) for guard in (timed, once, limited) for m in range(3)]
            if n % 5 == 0:
                work.append(tried_later(streams))
            with failsoft.deadline(0.01):
                await asyncio.gather(*work)

    while storm.lasts():
        asyncio.run(tried_later(main))


def operates(storm: Storm) -> None:
    rng = random.Random(1)
    one, other = storm.shaky, storm.limited
    said = (
        one.force_open, one.force_closed, one.disable, one.metrics_only, one.reset, one.reset_metrics, other.reset,
        lambda: one.limit(rng.random()), lambda: one.limit(1.0),
        lambda: one.reconfigure(circuit_breaker={"failure_threshold": rng.randint(1, 9)}),
        lambda: one.reconfigure(timeouts={"overall": rng.uniform(0.005, 0.05)}),
        lambda: one.reconfigure(bulkhead={"max_concurrent": 50} if rng.random() < 0.5 else None),
        lambda: other.reconfigure(rate_limit={"rate": rng.uniform(1e4, 1e5), "burst": 50, "max_wait": 0.001}),
        lambda: other.reconfigure(throttle={"ratio": 2.0} if rng.random() < 0.5 else None),
    )  # fmt: skip
    while storm.lasts():
        rng.choice(said)()
        one.reset()


def reads(storm: Storm) -> None:
    histogram, n = storm.latencies, 0
    while storm.lasts():
        n += 1
        histogram.record_ns(n)
        histogram.quantiles()
        histogram.recent.quantiles()
        passing = LatencyHistogram()
        passing.record(0.001)
        histogram.merge(passing)
        for integration in storm.registry.with_shards():
            integration.status()
            integration.explain()
            integration.load_if_any()
            for operation in integration.operations:
                assert integration.metrics(operation).count >= 0
    storm.recorded.append(2 * n)


def makes(storm: Storm) -> None:
    n = 0
    while storm.lasts():
        n += 1
        registry = Registry()
        guard = registry.integration(f"passing {n}", "cache").guard(fails, operation="passing")
        for m in range(4):
            tried(guard, m)
        tried(storm.shaky.guard(fails, operation=f"passing {n % 3}"), n)


@pytest.mark.parametrize("of_each", [1, 2])
def test_a_storm_leaves_nothing_behind(of_each: int) -> None:
    storm = Storm()
    errors: list[BaseException] = []

    def run(work: Callable[[Storm], None]) -> None:
        try:
            work(storm)
        except BaseException as error:  # carried to the main thread
            errors.append(error)

    kinds = (calls, waits, awaits, operates, reads, makes) if of_each == 1 else (calls, awaits, reads)
    threads = [threading.Thread(target=run, args=(kind,), daemon=True) for kind in kinds for _ in range(of_each)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS + PATIENCE)
            assert not thread.is_alive(), "a thread hangs"
    finally:
        storm.hear()
    if errors:
        raise errors[0]
    assert storm.steady.metrics("exact").count == sum(storm.exactly)
    assert storm.latencies.count == sum(storm.recorded)
    assert storm.limited.load().in_flight == 0
    assert storm.limited.load().waiting == 0
    storm.shaky.limit(1.0)
    storm.shaky.reset()
    guard, end = storm.shaky.guard(fails, operation="plain"), time.monotonic() + PATIENCE
    while tried(guard, 1) != 1:  # not before the ramp is over
        assert time.monotonic() < end, "the breaker is stuck"
