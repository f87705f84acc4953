"""Adaptive throttling: refusing here what would be refused there."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator
from email.message import Message
from typing import Any

import pytest

from failsoft import CircuitOpenError, Integration, Registry, ThrottledError
from failsoft.testing import FakeClock


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


def throttled(breaker: dict[str, Any] | None = None, **throttle: Any) -> Integration:
    rules = {"failure_threshold": None, "failure_rate": 1.0, "minimum_calls": 100000, **(breaker or {})}
    return Registry().integration(
        "db", "database", throttle=throttle, circuit_breaker=rules, retry_policy={"max_retries": 0}
    )


class Dependency:
    """Answers every `accepts`-th call, or all, or none."""

    def __init__(self) -> None:
        self.accepts: int | None = 1
        self.asked = 0

    def __call__(self) -> int:
        self.asked += 1
        if self.accepts is None or self.asked % self.accepts:
            raise ConnectionError("busy")
        return self.asked


def calls(guard: Any, count: int) -> tuple[int, int, int]:
    """(answered, failed, refused)"""
    ended = [0, 0, 0]
    for _ in range(count):
        try:
            guard()
            ended[0] += 1
        except ConnectionError:
            ended[1] += 1
        except ThrottledError:
            ended[2] += 1
    return ended[0], ended[1], ended[2]


def test_nothing_is_refused_while_enough_is_accepted(clock: FakeClock) -> None:
    asked = iter(range(1000))

    def call() -> None:
        if next(asked) % 5 > 2:  # three of five are accepted, which lets six go
            raise ConnectionError("busy")

    assert calls(throttled().guard(call), 500)[2] == 0


def test_what_goes_is_twice_what_is_accepted(clock: FakeClock) -> None:
    dependency = Dependency()
    dependency.accepts = 5
    db = throttled()
    answered, failed, refused = calls(db.guard(dependency), 5000)
    # In the balance 2 * accepts of the requests are let go, but of each five that go one is accepted only: it sinks to
    # what `most` leaves.
    assert refused / 5000 > 0.8
    assert answered + failed >= 500  # a tenth always goes
    assert db.load().throttled == pytest.approx(0.9, abs=1e-9)


def test_a_balance(clock: FakeClock) -> None:
    """A dependency that can do 10 calls a tick and refuses the rest: 20 are let go of 100."""
    db, budget = throttled(), [10]

    def call() -> None:
        if not budget[0]:
            raise ConnectionError("busy")
        budget[0] -= 1

    guard, last = db.guard(call), (0, 0, 0)
    for _ in range(120):
        budget[0] = 10
        last = calls(guard, 100)
        clock.advance(1.0)
    answered, failed, refused = last
    assert answered == 10
    assert 5 <= failed <= 15
    assert 75 <= refused <= 85


def test_some_always_go_and_a_recovery_is_seen(clock: FakeClock) -> None:
    dependency = Dependency()
    dependency.accepts = None
    db = throttled(most=0.75)
    guard = db.guard(dependency)
    calls(guard, 200)
    assert calls(guard, 100) == (0, 25, 75)  # exactly a quarter: no dice
    dependency.accepts = 1
    for _ in range(70):
        calls(guard, 100)
        clock.advance(1.0)
    assert calls(guard, 100) == (100, 0, 0)
    assert db.load().throttled == 0.0


def test_few_calls_are_not_judged(clock: FakeClock) -> None:
    dependency = Dependency()
    dependency.accepts = None
    assert calls(throttled(minimum_calls=50).guard(dependency), 50)[2] == 0


def test_probes_are_not_limited_and_a_closed_breaker_begins_anew(clock: FakeClock) -> None:
    dependency = Dependency()
    dependency.accepts = None
    db = throttled({"minimum_calls": 150, "reset_timeout": 1.0, "success_threshold": 3})
    guard = db.guard(dependency)
    with pytest.raises(CircuitOpenError):
        calls(guard, 2000)
    assert db.breaker.state == "OPEN"
    dependency.accepts = 1
    clock.advance(1.0)
    db.reconfigure(degraded={"ramp": 0.0})
    assert calls(guard, 20) == (20, 0, 0)
    assert db.breaker.state == "CLOSED"


def test_too_many_requests_is_no_acceptance(clock: FakeClock) -> None:
    def call() -> None:
        raise urllib.error.HTTPError("http://it", 429, "Too Many Requests", Message(), None)

    db = throttled()
    guard = db.guard(call)
    refused = 0
    for _ in range(200):
        try:
            guard()
        except ThrottledError:
            refused += 1
        except urllib.error.HTTPError:
            pass
    assert refused > 100
    assert db.status().failure_rate in (None, 0.0)  # somebody answered, says the breaker


def test_what_it_says(clock: FakeClock) -> None:
    dependency = Dependency()
    dependency.accepts = None
    db = throttled()
    guard = db.guard(dependency, operation="call")
    calls(guard, 500)
    error = next(e for _ in range(20) if isinstance(e := guard.outcome().error, ThrottledError))
    assert (error.code, error.reason, error.retry_after) == ("DB_THROTTLED", "throttle", None)
    assert error.details["limit"] == pytest.approx(0.1, abs=1e-6)
    assert "throttle: 10% of the calls may go" in str(error)
    assert db.explain().decisions[-1].text.startswith("call: refused, throttle: 10% of the calls may go")
    assert "throttle: 90% of the calls are refused" in str(db.explain())
    assert guard.metrics().rejected > 400
    db.reconfigure(throttle=None)
    assert calls(guard, 50) == (0, 50, 0)


def test_it_is_asked_before_the_others(clock: FakeClock) -> None:
    dependency = Dependency()
    dependency.accepts = None
    db = throttled()
    guard = db.guard(dependency)
    db.reconfigure(rate_limit={"rate": 1000.0, "burst": 1000}, bulkhead={"max_concurrent": 1})
    went = 500 - calls(guard, 500)[2]
    assert db.load().tokens == 1000 - went
