"""Other settings for an integration at work: what holds from the next call on, and what is kept."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from failsoft import (
    CircuitBreaker,
    CircuitBreakerConfig,
    CircuitOpenError,
    CircuitState,
    DegradedPolicy,
    Integration,
    IntegrationConfig,
    IntegrationTimeoutError,
    Registry,
    default_config,
)
from failsoft.testing import FakeClock

from .conftest import Make, drive


def gone(*_: object) -> Any:
    raise ConnectionError("gone")


class Way:
    """Sync, async, or a sync function that gives something to await."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def guard(self, integration: Integration, fn: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        """A guard made now; what is given calls it."""
        if self.kind == "sync":
            return integration.guard(fn, operation="x", **options)

        async def asynchronous(*args: Any) -> Any:
            await asyncio.sleep(0)
            return fn(*args)

        handing = asynchronous if self.kind == "async" else lambda *args: asynchronous(*args)
        guard = integration.guard(handing, operation="x", **options)

        async def call(*args: Any) -> Any:
            return await guard(*args)

        return lambda *args: drive(call(*args))


@pytest.fixture(params=["sync", "async", "handed over"])
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)


def fail(call: Callable[..., Any], *args: Any) -> None:
    with pytest.raises(ConnectionError):
        call(*args)


# ---- what is kept


def test_state_and_counts_are_kept(make: Make, clock: FakeClock) -> None:
    dependency = make("db", threshold=5, circuit_breaker={"minimum_calls": 2})
    call = dependency.guard(lambda fails: gone() if fails else 1, operation="x")
    call(False)
    for _ in range(3):
        fail(call, True)
    before, numbers = dependency.status(), call.metrics()
    dependency.reconfigure(circuit_breaker={"success_threshold": 7})
    assert dependency.status() == before
    assert call.metrics() == numbers
    dependency.reconfigure(circuit_breaker={"failure_threshold": 4})
    fail(call, True)
    assert dependency.status().state is CircuitState.OPEN
    assert [d.text[:14] for d in dependency.explain().decisions] == ["CLOSED -> OPEN"]


def test_a_wait_that_runs_ends_when_it_would_have(make: Make, clock: FakeClock) -> None:
    dependency = make(threshold=1, circuit_breaker={"reset_timeout": 30.0, "success_threshold": 1})
    fail(dependency.caller("x"), gone)
    clock.advance(10.0)
    dependency.reconfigure(circuit_breaker={"reset_timeout": 5.0})
    assert dependency.status().retry_after == pytest.approx(20.0)
    with pytest.raises(CircuitOpenError):
        dependency.call(int)
    clock.advance(20.0)
    fail(dependency.caller("x"), gone)
    assert dependency.status().retry_after == pytest.approx(5.0)


def test_a_ramp_that_runs_and_a_limit_are_kept(make: Make, registry: Registry, clock: FakeClock) -> None:
    policy = {"ramp": 10.0, "ramp_from": 0.5}
    dependency = make(
        "db", threshold=1, circuit_breaker={"reset_timeout": 1.0, "success_threshold": 1}, degraded=policy
    )
    fail(dependency.caller("x"), gone)
    clock.advance(1.0)
    dependency.call(int)
    dependency.reconfigure(circuit_breaker={"failure_threshold": 2})
    assert dependency.status().capacity == pytest.approx(0.5, abs=1e-6)
    registry.capacities.enter("db", 0.25, "operator")
    dependency.reconfigure(degraded={"ramp": 0.0})
    assert dependency.status().capacity == 0.25
    registry.capacities.exit("db", "operator")
    assert dependency.status().capacity == 1.0


@pytest.mark.parametrize("verb", ["force_open", "disable", "metrics_only"])
def test_what_an_operator_said_is_kept(make: Make, verb: str) -> None:
    dependency = make()
    getattr(dependency, verb)()
    state = dependency.breaker.state
    dependency.reconfigure(circuit_breaker={"failure_threshold": 1})
    assert dependency.breaker.state is state


def test_permits_that_are_out_are_good(make: Make, clock: FakeClock) -> None:
    dependency = make(threshold=2, circuit_breaker={"reset_timeout": 1.0, "success_threshold": 2})
    with pytest.raises(ConnectionError), dependency.attempt():
        dependency.reconfigure(circuit_breaker={"failure_threshold": 3})
        dependency.reconfigure(circuit_breaker={"failure_threshold": 2})
        gone()
    assert dependency.status().failures == 1
    fail(dependency.caller("x"), gone)
    clock.advance(1.0)
    with dependency.attempt():  # a probe
        dependency.reconfigure(circuit_breaker={"success_threshold": 1})
        assert dependency.status().probes == 1
    assert dependency.status().probes == 0
    assert dependency.breaker.state is CircuitState.CLOSED


def test_calls_that_are_out_are_counted(make: Make, clock: FakeClock) -> None:
    async def main() -> None:
        dependency, gate = make(threshold=2, retries=0), asyncio.Event()

        async def waiting(symbol: str) -> str:
            await gate.wait()
            if len(calls) < 3:
                calls.append(symbol)
                raise ConnectionError("gone")
            return symbol

        calls: list[str] = []
        guard = dependency.guard(waiting, operation="x")
        tasks = [asyncio.ensure_future(guard("BTC")) for _ in range(2)]
        await asyncio.sleep(0)
        policy = {"max_retries": 2, "initial_delay": 0.0, "max_delay": 0.0, "jitter": False}
        dependency.reconfigure(retry_policy=policy, circuit_breaker={"failure_threshold": 5})
        gate.set()
        assert await asyncio.gather(*tasks) == ["BTC", "BTC"]  # retried, by the arguments they came with
        assert calls == ["BTC"] * 3
        assert guard.metrics().count == 5
        assert dependency.status().failures == 0

    asyncio.run(main())


# ---- what holds from the next call on


def test_retries_and_their_waits(way: Way, make: Make, clock: FakeClock) -> None:
    dependency, calls = make(), itertools.count()
    call = way.guard(dependency, lambda *args: (next(calls), gone()))
    fail(call, 1)
    began = clock.now
    dependency.reconfigure(retry_policy={"max_retries": 3, "initial_delay": 2.0, "max_delay": 2.0, "jitter": False})
    fail(call, 1)
    assert (next(calls), clock.now - began) == (5, pytest.approx(6.0))
    dependency.reconfigure(retry_policy={"retryable_errors": ["TIMEOUT"]})
    fail(call, 1)
    assert next(calls) == 7
    off = way.guard(dependency, lambda *args: (next(calls), gone()), retry=False)
    dependency.reconfigure(retry_policy={"retryable_errors": ["NETWORK"]})
    fail(off, 1)
    assert next(calls) == 9  # retry=False is the guard's own word


def test_thresholds_and_what_trips(way: Way, make: Make, clock: FakeClock) -> None:
    dependency = make(threshold=100)
    call = way.guard(dependency, gone)
    fail(call)
    dependency.reconfigure(circuit_breaker={"trip_on": ["TIMEOUT"]})
    fail(call)
    assert dependency.status().failures == 0
    dependency.reconfigure(circuit_breaker={"trip_on": ["NETWORK"], "failure_threshold": 2})
    fail(call)
    fail(call)
    assert dependency.breaker.state is CircuitState.OPEN


def test_the_attempt_timeout(way: Way, make: Make, clock: FakeClock) -> None:
    dependency = make(circuit_breaker={"timeout": 10.0})
    call = way.guard(dependency, lambda: clock.advance(5.0))
    call()
    assert dependency.metrics("x").timeouts == 0
    dependency.reconfigure(circuit_breaker={"timeout": 5.0})
    call()
    assert dependency.metrics("x").timeouts == 1
    assert dependency.status().failures == 1


def test_async_attempts_are_cancelled_at_the_new_timeout(make: Make) -> None:
    async def main() -> None:
        dependency = make()
        guard = dependency.guard(lambda: asyncio.sleep(30.0), operation="x")
        dependency.reconfigure(circuit_breaker={"timeout": 0.01})
        with pytest.raises(IntegrationTimeoutError, match="x: no answer within"):
            await guard()

    asyncio.run(main())


def test_every_guard_is_reached(make: Make, registry: Registry, clock: FakeClock) -> None:
    dependency, calls = make(), itertools.count()

    def flaky(*_: object) -> None:
        next(calls)
        gone()

    keyed = dependency.guard(flaky, key=lambda venue: venue)
    fail(keyed, "a")
    fail(dependency.caller("called"), flaky)
    dependency.reconfigure(retry_policy={"max_retries": 1})
    fail(keyed, "a")
    fail(keyed, "new")
    fail(dependency.caller("called"), flaky)
    assert next(calls) == 8
    assert registry.integration("dependency", "database", dependency.config) is dependency


def test_a_guard_that_is_just_being_made_is_reached(make: Make, clock: FakeClock) -> None:
    dependency, calls = make(), itertools.count()

    class Odd:
        """Looked at while its guard is made."""

        @property
        def __name__(self) -> str:
            dependency.reconfigure(retry_policy={"max_retries": 2})
            return "odd"

        def __call__(self) -> None:
            next(calls)
            gone()

    fail(dependency.guard(Odd()))
    assert next(calls) == 3


def test_a_count_window_of_another_size_keeps_what_fits(make: Make, clock: FakeClock) -> None:
    rule = {"failure_rate": 0.9, "count_window": 100, "minimum_calls": 5}
    dependency = make(threshold=60_000, circuit_breaker=rule)
    call = dependency.guard(lambda fails: gone() if fails else 1, operation="x")
    for i in range(80):
        (fail if i % 2 else call)(*((call, True) if i % 2 else (False,)))
    dependency.reconfigure(circuit_breaker={"count_window": 10})
    assert (dependency.status().sample_size, dependency.status().failure_rate) == (10, 0.5)
    for _ in range(10):
        call(False)
    assert (dependency.status().sample_size, dependency.status().failure_rate) == (10, 0.0)


# ---- what is refused


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"circuit_breaker": {"window": 30.0}}, ValueError, "window is 60.0 and cannot be changed, got 30.0"),
        ({"type": "cache"}, ValueError, "'db' is database and cannot become cache"),
        ({"config": default_config("cache")}, ValueError, "'db' is database and cannot become cache"),
        ({"config": {}}, TypeError, "config must be an IntegrationConfig"),
        ({"circuit_breaker": {"failure_treshold": 1}}, TypeError, "did you mean 'failure_threshold'"),
        ({"timeouts": {"read": -1}}, ValueError, "timeouts.read must be"),
    ],
)
def test_what_cannot_be_changes_nothing(make: Make, change: dict[str, Any], error: type[Exception], words: str) -> None:
    dependency, calls = make("db"), itertools.count()
    guard = dependency.guard(lambda: (next(calls), gone()), operation="x")
    before, status = dependency.config, dependency.status()
    with pytest.raises(error, match=words):
        dependency.reconfigure(**{"retry_policy": {"max_retries": 9}, **change})
    assert dependency.config is before
    assert dependency.status().generation == status.generation
    fail(guard)
    assert next(calls) == 1


def test_of_a_breaker_alone(clock: FakeClock) -> None:
    breaker = CircuitBreaker(CircuitBreakerConfig(1, 1, reset_timeout=1.0), "b", DegradedPolicy(0.5, 10.0))
    breaker.reconfigure(CircuitBreakerConfig(2, 1, reset_timeout=1.0))
    for _ in range(2):
        breaker.failure(breaker.acquire())
    clock.advance(1.0)
    breaker.success(breaker.acquire())
    assert breaker.status().capacity == pytest.approx(0.5, abs=1e-6)  # the policy stays
    with pytest.raises(TypeError, match="config must be a CircuitBreakerConfig"):
        breaker.reconfigure(IntegrationConfig("cache"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="degraded must be a DegradedPolicy"):
        breaker.reconfigure(CircuitBreakerConfig(), 0.5)  # type: ignore[arg-type]


# ---- under traffic


def test_nothing_is_lost_under_traffic(make: Make) -> None:
    dependency, done = make(threshold=60_000), threading.Event()
    counts = [[0, 0] for _ in range(4)]
    guards = [dependency.guard(lambda fails: gone() if fails else 1, operation=f"o{i}") for i in range(4)]

    def work(i: int) -> None:
        for n in itertools.count():
            if done.is_set():
                return
            try:
                guards[i](n % 3 == 0)
            except ConnectionError:
                counts[i][1] += 1
            counts[i][0] += 1

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for n in range(60):
        dependency.reconfigure(circuit_breaker={"success_threshold": 1 + n % 2}, timeouts={"read": 1.0 + n % 2})
        done.wait(0.002)
    done.set()
    for thread in threads:
        thread.join()
    for i, (calls, failures) in enumerate(counts):
        numbers = dependency.metrics(f"o{i}")
        assert (numbers.count, numbers.error_count) == (calls, failures)
    status = dependency.status()
    assert status.sample_size == sum(calls for calls, _ in counts)
    assert status.failure_rate == pytest.approx(sum(failures for _, failures in counts) / status.sample_size)
    assert status.generation == 1
