"""Metrics as users read them: by name, ever and lately, counted anew, and bounded however many names there are."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from typing import Any

import pytest

import failsoft
from failsoft import CircuitState, OperationMetrics, Registry
from failsoft.testing import FakeClock

from .conftest import Make

NUMBERS = {"count", "avg_latency", "p50_latency", "p95_latency", "p99_latency", "error_count", "error_rate"}
EVENTS = {"retries", "fallbacks", "deduplicated", "rejected", "timeouts", "hedges"}


def taking(clock: FakeClock) -> Any:
    """An operation that takes the seconds it is told, and fails where told."""

    def operation(seconds: float, fails: bool = False) -> float:
        clock.advance(seconds)
        if fails:
            raise ConnectionError("gone")
        return seconds

    return operation


def failing(guard: Any, *args: Any) -> None:
    with pytest.raises(ConnectionError):
        guard(*args, True)


# ---- reading


def test_the_seeds_numbers(make: Make, registry: Registry, clock: FakeClock) -> None:
    guard = make("db", retries=1).guard(taking(clock), operation="robots")
    for _ in range(9):
        guard(0.1)
    failing(guard, 0.2)
    numbers = registry.metrics.get_metrics("db", "robots")
    assert (numbers.count, numbers.error_count, numbers.retries) == (11, 2, 1)
    assert numbers.error_rate == pytest.approx(2 / 11)
    assert numbers.avg_latency == pytest.approx(1.3 / 11, rel=1e-6)
    assert (numbers.p50_latency, numbers.p99_latency) == pytest.approx((0.1, 0.2), rel=0.0079)
    assert guard.metrics() == numbers


def test_the_summary_has_a_key_for_each_operation(make: Make, registry: Registry) -> None:
    make("a").guard(int, operation="x")()
    make("b").guard(int, operation="x")
    keyed = make("c").guard(lambda venue: 1, operation="y", key=lambda venue: venue)
    keyed("v")
    keyed("w")
    summary = registry.metrics.get_metrics_summary()
    assert {name: numbers.count for name, numbers in summary.items()} == {
        "a.x": 1, "b.x": 0, "c.y": 2, "c[v].y": 1, "c[w].y": 1,
    }  # fmt: skip


def test_as_dict_is_ready_for_json(make: Make, clock: FakeClock) -> None:
    guard = make().guard(taking(clock), operation="x")
    for numbers in (guard.metrics(), (guard(0.1), guard.metrics())[1], OperationMetrics()):
        as_dict = numbers.as_dict()
        assert json.loads(json.dumps(as_dict, allow_nan=False)) == as_dict
        assert set(as_dict) == NUMBERS | EVENTS | {"recent"}
    assert as_dict["recent"] is None


def test_lately_is_the_window_and_ever_is_ever(make: Make, clock: FakeClock) -> None:
    guard = make(circuit_breaker={"window": 60.0}).guard(taking(clock), operation="x")
    failing(guard, 0.1)
    clock.advance(61.0)
    assert (guard.metrics().count, guard.metrics().recent.count) == (1, 0)
    assert guard.metrics().recent == OperationMetrics()
    guard(0.2)
    numbers = guard.metrics()
    assert (numbers.count, numbers.error_count) == (2, 1)
    assert (numbers.recent.count, numbers.recent.error_count, numbers.recent.error_rate) == (1, 0, 0.0)
    assert numbers.recent.p50_latency == pytest.approx(0.2, rel=0.0079)


def test_names_that_are_not_known(make: Make, registry: Registry) -> None:
    make("db").guard(int, operation="x")
    for ask in (registry.metrics.get_metrics, registry.metrics.reset):
        with pytest.raises(KeyError, match="no integration is named 'nowhere'"):
            ask("nowhere", "x")
        with pytest.raises(KeyError, match=r"'db' has no operation 'y'; it has \['x'\]"):
            ask("db", "y")
    with pytest.raises(TypeError, match="operation 'x' needs the integration"):
        registry.metrics.reset(operation="x")


# ---- counting anew


@pytest.mark.parametrize("what", ["one", "integration", "all"])
def test_reset(make: Make, registry: Registry, clock: FakeClock, what: str) -> None:
    guards = {name: make(name[0]).guard(taking(clock), operation=name[1]) for name in ("ax", "ay", "bx")}
    for guard in guards.values():
        guard(0.1)
    chosen, anew = {
        "one": (("a", "x"), {"ax"}),
        "integration": (("a",), {"ax", "ay"}),
        "all": ((), {"ax", "ay", "bx"}),
    }[what]
    registry.metrics.reset(*chosen)
    assert {
        name for name, guard in guards.items() if guard.metrics() == OperationMetrics(recent=OperationMetrics())
    } == anew
    for name, guard in guards.items():
        guard(0.2)
        numbers = guard.metrics()
        assert (numbers.count, numbers.recent.count) == ((1, 1) if name in anew else (2, 2))


def test_reset_does_not_disturb_the_breaker(make: Make, registry: Registry, clock: FakeClock) -> None:
    dependency = make(threshold=3, circuit_breaker={"minimum_calls": 2})
    guard = dependency.guard(taking(clock), operation="x")
    guard(0.1)
    failing(guard, 0.1)
    failing(guard, 0.1)
    before = dependency.status()
    assert before.failure_rate == pytest.approx(2 / 3)
    registry.metrics.reset()
    after = dependency.status()
    assert (after.failures, after.failure_rate, after.sample_size) == (2, before.failure_rate, 3)
    failing(guard, 0.1)
    assert dependency.status().state is CircuitState.OPEN
    assert (guard.metrics().count, guard.metrics().error_rate) == (1, 1.0)


def test_reset_counts_events_anew_too(make: Make, registry: Registry, clock: FakeClock) -> None:
    dependency = make(retries=2)
    guard = dependency.guard(taking(clock), operation="x", fallbacks=[failsoft.Fallback("mock", lambda *_: None)])
    guard(31.0)  # late
    guard(0.1, True)
    dependency.force_open()
    guard(0.1)
    numbers = guard.metrics()
    assert (numbers.retries, numbers.fallbacks, numbers.rejected, numbers.timeouts) == (2, 2, 1, 1)
    registry.metrics.reset("dependency", "x")
    assert guard.metrics() == OperationMetrics(recent=OperationMetrics())


@pytest.mark.parametrize("seed", range(5))
def test_quantiles_after_a_reset(make: Make, registry: Registry, clock: FakeClock, seed: int) -> None:
    dice = random.Random(seed)
    guard = make().guard(taking(clock), operation="x")
    for _ in range(500):
        guard(dice.lognormvariate(-7, 2))
    registry.metrics.reset()
    values = sorted(guard(dice.lognormvariate(-9, 1)) for _ in range(500))
    numbers = guard.metrics()
    assert numbers.count == 500
    assert numbers.avg_latency == pytest.approx(sum(values) / 500, rel=1e-4)
    for share, found in ((50, numbers.p50_latency), (95, numbers.p95_latency), (99, numbers.p99_latency)):
        assert found == pytest.approx(values[share * 5 - 1], rel=0.0079)
    assert numbers.recent.count <= 500


def test_the_recent_view_forgets_what_was_before_a_reset_for_good(
    make: Make, registry: Registry, clock: FakeClock
) -> None:
    guard = make(circuit_breaker={"window": 60.0}).guard(taking(clock), operation="x")
    clock.advance(7.0)  # not where a slice of the window begins
    guard(5.0)
    registry.metrics.reset()
    for _ in range(50):
        clock.advance(1.3)
        assert guard.metrics().recent.count == 0
    guard(0.1)
    assert (guard.metrics().recent.count, guard.metrics().count) == (1, 1)
    clock.advance(61.0)
    assert (guard.metrics().recent.count, guard.metrics().count) == (0, 1)


def test_reset_of_keys(make: Make, registry: Registry) -> None:
    guard = make("c").guard(lambda venue: 1, operation="y", key=lambda venue: venue)
    guard("v")
    guard("w")
    registry.metrics.reset("c[v]")
    counts = {name: numbers.count for name, numbers in registry.metrics.get_metrics_summary().items()}
    assert counts == {"c.y": 1, "c[v].y": 0, "c[w].y": 1}
    registry.metrics.reset("c", "y")
    assert {numbers.count for numbers in registry.metrics.get_metrics_summary().values()} == {0}


# ---- bounds


def test_what_is_too_many_is_counted_together_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    registry = Registry(max_operations=3)
    a, b = registry.integration("a", "cache"), registry.integration("b", "cache")
    with caplog.at_level(logging.WARNING, "failsoft"):
        guards = [one.guard(int, operation=f"op{i}") for i in range(3) for one in (a, b)]
        for guard in guards:
            guard()
    assert a.operations == ("op0", "op1", "(overflow)")
    assert b.operations == ("op0", "(overflow)")
    assert [record.getMessage() for record in caplog.records] == [
        "more than 3 operations: b.op1 and all that come after are counted together, each integration's as '(overflow)'"
    ]
    assert guards[3].metrics() == registry.metrics.get_metrics("b", "(overflow)")
    assert guards[3].metrics().count == 2
    assert guards[0].metrics().count == 1
    with pytest.raises(KeyError, match=r"no operation 'op2'.*what came after was counted under '\(overflow\)'"):
        registry.metrics.get_metrics("b", "op2")
    registry.metrics.reset("b", "(overflow)")
    assert guards[3].metrics().count == 0


def test_handlers_of_the_warning_are_no_danger() -> None:
    registry = Registry(max_operations=1)
    one, free = registry.integration("a", "cache"), []

    class Nosy(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            def look() -> None:
                free.append(registry.lock.acquire(timeout=1.0))
                if free[-1]:
                    registry.lock.release()

            other = threading.Thread(target=look)
            other.start()
            other.join()
            raise RuntimeError("no room in the log either")

    logger, handler = logging.getLogger("failsoft"), Nosy()
    logger.addHandler(handler)
    try:
        one.guard(int, operation="x")
        assert one.guard(int, operation="y")() == 0
    finally:
        logger.removeHandler(handler)
    assert free[0] is True  # handlers run outside the registry's lock


def test_a_hundred_thousand_names(registry: Registry) -> None:
    one = registry.integration("a", "cache")
    one.caller("warm").outcome(int)
    began, before = time.process_time(), failsoft._core.arena_bytes()[0]
    for i in range(100_000):
        one.caller(f"op{i}")
    assert len(one.operations) == 1025
    assert time.process_time() - began < 20.0
    assert failsoft._core.arena_bytes()[0] - before < 1025 * 8192
    one.caller("op99999")(int)
    assert registry.metrics.get_metrics("a", "(overflow)").count == 1


def test_at_least_one() -> None:
    for most in (0, -1, 1.5, True):
        with pytest.raises((TypeError, ValueError), match="max_operations must be"):
            Registry(max_operations=most)  # type: ignore[arg-type]


def test_readers_never_see_numbers_go_back(make: Make) -> None:
    dependency = make(circuit_breaker={"window": 0.06})  # slices of 10 ms: turns come while reading
    guards, done = [dependency.guard(lambda: 1, operation=f"o{i % 2}") for i in range(4)], threading.Event()
    calls = [0] * 4

    def work(i: int) -> None:
        while not done.is_set():
            for _ in range(100):
                guards[i]()
            calls[i] += 100

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    before = {"o0": OperationMetrics(), "o1": OperationMetrics()}
    until = time.monotonic() + 0.7
    while time.monotonic() < until:
        for name, last in before.items():
            now = before[name] = dependency.metrics(name)
            assert now.count >= last.count
            assert now.recent.count <= now.count
    done.set()
    for thread in threads:
        thread.join()
    assert sum(dependency.metrics(name).count for name in before) == sum(calls)
