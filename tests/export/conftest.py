"""A program with everything in it that an exporter tells of, on a fake clock."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from failsoft import (
    Bulkhead,
    Fallback,
    FallbackType,
    IntegrationConfig,
    RateLimit,
    Registry,
    RetryPolicy,
    default_config,
)
from failsoft.config import AdaptiveThrottle
from failsoft.streams.watched import Watch
from failsoft.testing import FakeClock

DURATIONS = (0.00002, 0.0004, 0.004, 0.004, 0.3, 45.0)
"""Seconds that the calls of market.quote take."""

SEQUENCE = (1, 2, 5, 4, 4, 6)
"""What comes in market.ticks: a gap of two numbers, one of which comes late, and then again."""

SILENCE = 3.0
"""Seconds since then."""

BROKEN_AFTER = 5
"""Failures that open the breaker of "db"."""


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def source(clock: FakeClock) -> Registry:
    return program(clock)


@pytest.fixture
def ticks(source: Registry, clock: FakeClock) -> Watch[int]:
    """A stream beside that."""
    ticks = source["market"].watch(SEQUENCE, operation="ticks", sequence=lambda number: number, stale_after=2.0)
    assert list(ticks) == list(SEQUENCE)
    clock.advance(SILENCE)
    return ticks


def program(clock: FakeClock) -> Registry:
    registry = Registry()

    market = registry.integration(
        "market",
        "market_data",
        circuit_breaker={"timeout": 1000.0, "slow_call": 1.0, "minimum_calls": 3},
        timeouts={"overall": 1000.0},
    )

    @market.guard(operation="quote")
    def quote(seconds: float) -> float:
        clock.advance(seconds)
        return seconds

    for seconds in DURATIONS:
        quote(seconds)

    patient = default_config("database").with_(
        retry_policy=RetryPolicy(max_retries=1, initial_delay=0.001, max_delay=0.001, jitter=False),
        circuit_breaker={"failure_threshold": BROKEN_AFTER},
    )
    database = registry.integration("db", "database", patient)

    @database.guard(operation="robots", fallbacks=[Fallback(FallbackType.MOCK, list)])
    def robots() -> list[str]:
        raise ConnectionError("gone")

    for _ in range(4):  # two attempts each until the breaker opens at the fifth
        robots()

    limited: IntegrationConfig = default_config("external_api").with_(
        rate_limit=RateLimit(rate=10.0, burst=5),
        bulkhead=Bulkhead(max_concurrent=3),
        throttle=AdaptiveThrottle(),
    )
    api = registry.integration("api", "external_api", limited)
    by_venue = api.guard(lambda venue: venue, operation="ask", key=lambda venue: venue)
    for venue in ("xetra", "nyse", "nyse"):
        by_venue(venue)
    registry.keep = by_venue  # type: ignore[attr-defined]  # or its keys would be forgotten

    registry.integration("idle", "cache")
    registry["market"].limit(0.5)
    return registry
