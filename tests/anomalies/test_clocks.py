"""Clocks that step, run backwards or stand still: no decision moves, no latency is negative, the anomaly is counted."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import failsoft
from failsoft import CircuitState, Registry
from failsoft.testing import FakeClock

from ..conftest import Score


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


STEPS: dict[str, Callable[[], float]] = {
    "an hour on": lambda: 3600.0,
    "an hour back": lambda: -3600.0,
    "before the epoch": lambda: -2e9,
    "beyond 2038": lambda: 2e9,
    "to and fro": lambda: (-1) ** next(turns) * 86_400.0,
    "to the epoch": lambda: -time_then(),
}
time_then, turns = time.time, itertools.count()


def story(clock: FakeClock) -> list[object]:
    """All that a breaker, retries, degraded mode, fallbacks and metrics decide by time, and when."""
    registry = Registry()
    started = clock.now
    integration = registry.integration(
        "stepped", "database",
        retry_policy={"max_retries": 2, "initial_delay": 1.0, "max_delay": 2.0, "jitter": False},
        circuit_breaker={"failure_threshold": 3, "reset_timeout": 60.0, "timeout": 30.0, "success_threshold": 2},
        degraded={"ramp": 10.0, "ramp_from": 0.5},
    )  # fmt: skip
    up = True

    def ask(wait: float) -> str:
        clock.advance(wait)
        if not up:
            raise ConnectionError("gone")
        return "value"

    guard = integration.guard(ask, fallbacks=[failsoft.database_fallbacks.last_known(max_age=100.0)])
    told: list[object] = []
    unsubscribe = failsoft.subscribe(
        lambda event: told.append((type(event).__name__, getattr(event, "state", None), round(clock.now - started, 3))),
        failsoft.Transition, failsoft.DegradedChange,
    ) if hasattr(failsoft, "Transition") else failsoft.subscribe(
        lambda event: told.append((type(event).__name__, getattr(event, "state", None), round(clock.now - started, 3)))
    )  # fmt: skip
    for wait in (0.001, 0.5, 31.0):
        told.append(guard.outcome(wait).success)
    up = False
    for _ in range(3):
        result = guard.outcome(0.1)
        told.append((result.success, result.fallback_type, round(result.data_age or 0, 6), result.attempts))
    for _ in range(8):
        clock.advance(10.0)
        status = integration.status()
        told.append(
            (status.state, status.retry_after, round(status.age, 6), status.sample_size, guard.outcome(0.1).success)
        )
    up = True
    clock.advance(60.0)
    for _ in range(12):
        clock.advance(1.0)
        told.append((guard.outcome(0.01).success, integration.status().state, round(integration.status().capacity, 6)))
    metrics = guard.metrics()
    told.append(
        (
            metrics.count,
            metrics.error_count,
            metrics.timeouts,
            round(metrics.p50_latency, 6),
            round(metrics.avg_latency, 6),
        )
    )
    assert min(metrics.avg_latency, metrics.p50_latency, metrics.p99_latency) >= 0.0
    unsubscribe()
    registry.close()
    return told


@pytest.mark.parametrize("step", list(STEPS))
def test_a_wall_clock_that_steps_moves_no_decision(
    step: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, score: Score
) -> None:
    expected = story(clock)
    monkeypatch.setattr(time, "time", lambda: time_then() + STEPS[step]())
    seen = story(clock)
    shifted = sum(one != other for one, other in zip(expected, seen, strict=True))
    score("steps of the wall clock move no decision", "decisions moved", shifted, f"{step}: {len(expected)} decisions")
    assert seen == expected
    assert any("Transition" in str(each) for each in seen)


def test_a_dated_hint_of_a_peer_whose_clock_is_off_waits_for_what_it_meant(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Limited(Exception):
        status = 429
        headers = {"Retry-After": "Thu, 01 Jan 2026 00:00:07 GMT", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"}  # noqa: RUF012

    registry = Registry()
    turn = itertools.count()

    def ask() -> int:
        if next(turn) == 0:
            raise Limited
        return 1

    monkeypatch.setattr(time, "time", lambda: 0.0)
    before = clock.now
    guard = registry.integration("dated", "database").guard(ask)
    assert guard() == 1
    assert clock.now - before == pytest.approx(7.0)
    registry.close()


SKEWED = """
import asyncio, sys, time
import failsoft
from failsoft import _core
if _core.clock_source() not in ("tsc", "cntvct"):
    print("no counter"); sys.exit()
integration = failsoft.Registry().integration("skewed", "database",
    circuit_breaker={{"failure_threshold": 2, "reset_timeout": 0.05, "timeout": 5.0}}, degraded={{"ramp": 0.0}},
    retry_policy={{"max_retries": 0}})
skew = {skew}
good = integration.guard(lambda: 1, operation="good")
skewing = integration.guard(lambda: (_core.skew_clock(skew), 1)[1], operation="skewing")
@integration.guard(operation="async")
async def pause():
    _core.skew_clock(-skew); await asyncio.sleep(0.001); _core.skew_clock(skew); return 1
for _ in range(100): good()
for turn in range(20):
    _core.skew_clock(0)
    assert skewing.outcome().success
    assert asyncio.run(pause()) == 1
    assert failsoft.remaining() is None
for _ in range(100): good()
time.sleep(0.15)
_core.clock_check()
integration.reset()
anomalies = _core.clock_anomalies()
for name in ("good", "skewing", "async"):
    m = integration.metrics(name)
    for value in (m.avg_latency, m.p50_latency, m.p99_latency): assert value >= 0.0, (name, m)
def gone(): raise ConnectionError("gone")
bad = integration.guard(gone)
bad.outcome(); bad.outcome()
opened = time.monotonic()
assert integration.status().state == "OPEN"
while not good.outcome().success: time.sleep(0.001)
assert 0.045 <= time.monotonic() - opened < 2.0
print(anomalies, _core.clock_source(), integration.status().state in ("HALF_OPEN", "CLOSED"))
"""


@pytest.mark.parametrize(
    "skew",
    [-(1 << 34), *(pytest.param(skew, marks=pytest.mark.deep) for skew in (1 << 34, -(1 << 50), 1 << 62, -(1 << 62)))],
)
def test_a_counter_that_jumps_is_left(skew: int, score: Score) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SKEWED.format(skew=skew))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    if "no counter" in done.stdout:
        pytest.skip("the kernel's clock is not a counter here")
    anomalies, source, right = done.stdout.split()
    assert int(anomalies) >= 1
    assert (source, right) == ("monotonic", "True")
    score("a counter that jumps is noticed and left", "negative latencies", 0, f"a jump of {skew:.2g} ticks")


def test_idle_for_ever_then_one_call(clock: FakeClock) -> None:
    """However long nobody called: the window is empty then, and the states are right."""
    for idle in (1.0, 59.0, 60.0, 61.0, 3600.0, 1e6, 1e9):
        registry = Registry()
        integration = registry.integration("idle", "database", retry_policy={"max_retries": 0})
        guard = integration.guard(lambda: 1)
        for _ in range(5):
            guard()
        clock.advance(idle)
        guard()
        guard()
        recent = guard.metrics().recent.count
        assert recent == (7 if idle < 55 else 2) or 59 <= idle <= 61
        registry.close()


def test_a_deadline_and_a_wall_clock_that_steps(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    integration = registry.integration(
        "late", "database", circuit_breaker={"timeout": 5.0}, retry_policy={"max_retries": 0}
    )

    @integration.guard
    async def hang() -> None:
        await asyncio.sleep(3600)

    async def main() -> Any:
        task = asyncio.ensure_future(hang())
        await asyncio.sleep(0)
        monkeypatch.setattr(time, "time", lambda: 0.0)
        clock.advance(4.999)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not task.done()
        clock.advance(0.001)
        with pytest.raises(failsoft.IntegrationTimeoutError):
            await task

    asyncio.run(main())
    assert integration.status().state is CircuitState.CLOSED
    registry.close()
