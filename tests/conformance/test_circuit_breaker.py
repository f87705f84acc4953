"""A circuit breaker alone: what it takes, what it refuses with, around blocks and functions, and what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from failsoft import CircuitBreaker, CircuitBreakerConfig, CircuitOpenError, CircuitState, DegradedModeError
from failsoft.config import DegradedPolicy
from failsoft.events import DegradedChange, Transition, subscribe
from failsoft.testing import FakeClock

Made = Callable[..., CircuitBreaker]


@pytest.fixture
def made(clock: FakeClock) -> Made:
    """Opens at the second failure in a row, for ten seconds, and closes after one success."""

    def made(name: str = "b", degraded: DegradedPolicy | None = None, **settings: Any) -> CircuitBreaker:
        settings = {
            "failure_threshold": 2,
            "success_threshold": 1,
            "reset_timeout": 10.0,
            "reset_jitter": 0.0,
        } | settings
        return CircuitBreaker(CircuitBreakerConfig(**settings), name, degraded)

    return made


@pytest.fixture
def changes() -> Iterator[list[DegradedChange]]:
    events: list[DegradedChange] = []
    unsubscribe = subscribe(events.append, DegradedChange)
    yield events
    unsubscribe()


def fail_in(breaker: CircuitBreaker, error: type[BaseException] = ValueError) -> None:
    with pytest.raises(error), breaker.attempt():
        raise error


def test_what_it_is_made_of(made: Made) -> None:
    plain = CircuitBreaker()
    assert plain.config == CircuitBreakerConfig()
    assert plain.degraded == DegradedPolicy(ramp=0.0)
    assert plain.ramping is False
    assert (plain.ramps, plain.name) == (False, "")
    policy = DegradedPolicy(ramp=5.0, ramp_from=0.5)
    breaker = made("n", policy)
    assert (breaker.config.failure_threshold, breaker.name, breaker.degraded) == (2, "n", policy)
    assert breaker.ramps is True
    assert made(degraded=DegradedPolicy(ramp=0.5, ramp_from=0.5)).ramps is True
    assert made(degraded=DegradedPolicy(ramp=5.0, ramp_from=1.0)).ramps is False


@pytest.mark.parametrize(
    ("given", "told"), [({"config": 1}, "config"), ({"name": 1}, "name"), ({"degraded": 1}, "degraded")]
)
def test_what_it_is_not_made_of(given: dict[str, Any], told: str) -> None:
    with pytest.raises(TypeError, match=f"^{told} must be"):
        CircuitBreaker(**given)


def test_a_block_that_fails_fails_and_one_that_ends_succeeds(made: Made) -> None:
    breaker = made()
    fail_in(breaker)
    assert breaker.status().failures == 1
    with breaker.attempt():
        pass
    assert breaker.status().failures == 0
    fail_in(breaker)
    fail_in(breaker, KeyboardInterrupt)  # no failure of what was called
    assert (breaker.state, breaker.status().failures) == (CircuitState.CLOSED, 1)
    fail_in(breaker)
    assert breaker.state is CircuitState.OPEN


def test_an_attempt_is_entered_once(made: Made) -> None:
    attempt = made().attempt()
    with attempt:
        pass
    with pytest.raises(RuntimeError, match="once"):
        attempt.__enter__()


def test_slow_blocks_are_slow(made: Made, clock: FakeClock) -> None:
    breaker = made(slow_call=1.0, slow_rate=0.5, minimum_calls=1, count_window=4)
    with breaker.attempt():
        clock.advance(0.9)
    assert breaker.state is CircuitState.CLOSED
    with breaker.attempt():
        clock.advance(1.0)
    assert breaker.status().reason == "slow_rate"
    failing = made(slow_call=1.0, slow_rate=1.0, failure_threshold=9, minimum_calls=1, count_window=4)
    with pytest.raises(ValueError), failing.attempt():
        clock.advance(1.0)
        raise ValueError
    assert failing.status().reason == "slow_rate"


def test_refusals_say_who_why_and_until_when(made: Made, clock: FakeClock) -> None:
    breaker = made("store")
    fail_in(breaker)
    fail_in(breaker)
    clock.advance(4.0)
    with pytest.raises(CircuitOpenError) as caught, breaker.attempt():
        pytest.fail("was let in")
    error = caught.value
    assert (error.integration_name, error.retryable, error.reason) == ("store", True, "consecutive_failures")
    assert error.retry_after == pytest.approx(6.0)
    assert str(error.message) == ("store was not called: its circuit is OPEN (consecutive_failures); retry after 6 s")
    nameless = made("")
    nameless.force_open()
    with pytest.raises(CircuitOpenError) as caught, nameless.attempt():
        pytest.fail("was let in")
    assert caught.value.integration_name is None
    assert caught.value.retry_after is None
    assert str(caught.value.message) == "the call was not called: its circuit is FORCED_OPEN (operator)"


def test_refusals_for_capacity(made: Made, clock: FakeClock) -> None:
    breaker = made("store", DegradedPolicy(ramp=100.0, ramp_from=0.25))
    fail_in(breaker)
    fail_in(breaker)
    clock.advance(10.0)
    with breaker.attempt():
        pass
    errors = []
    for _ in range(8):
        try:
            with breaker.attempt():
                pass
        except DegradedModeError as error:
            errors.append(error)
    assert len(errors) == 6
    error = errors[0]
    assert (error.integration_name, error.retryable, error.reason) == ("store", True, "degraded")
    assert error.capacity == pytest.approx(0.25)
    assert error.details == {"capacity": error.capacity}
    assert str(error.message) == "store was not called: it works at 0.25 of its capacity (degraded)"


def test_it_decorates(made: Made) -> None:
    breaker = made()

    @breaker
    def divide(a: int, b: int = 1) -> float:
        """Of two."""
        return a / b

    @breaker
    async def divide_later(a: int, b: int = 1) -> float:
        return a / b

    assert (divide.__name__, divide.__doc__, divide(6, b=2)) == ("divide", "Of two.", 3.0)
    assert asyncio.iscoroutinefunction(divide_later)
    assert not asyncio.iscoroutinefunction(divide)
    assert divide_later.__name__ == "divide_later"
    assert asyncio.run(divide_later(6, b=3)) == 2.0
    with pytest.raises(ZeroDivisionError):
        divide(1, 0)
    assert breaker.status().failures == 1
    with pytest.raises(ZeroDivisionError):
        asyncio.run(divide_later(1, 0))
    for refused in (lambda: divide(1), lambda: asyncio.run(divide_later(1))):
        with pytest.raises(CircuitOpenError):
            refused()

    def items() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="generator function"):
        breaker(items)


def test_numbers_are_those_of_the_status(made: Made) -> None:
    breaker = made(failure_threshold=9, minimum_calls=2, count_window=8)
    fail_in(breaker)
    assert breaker.numbers() == {"state": CircuitState.CLOSED, "failures": 1, "failure_rate": None, "sample_size": 1}
    with breaker.attempt():
        pass
    assert breaker.numbers() == {"state": CircuitState.CLOSED, "failures": 0, "failure_rate": 0.5, "sample_size": 2}
    status = breaker.status()
    assert (status.failure_rate, status.sample_size, status.probes, status.capacity) == (0.5, 2, 0, 1.0)
    assert status.shards is None


@pytest.mark.parametrize(
    ("verb", "state"),
    [
        ("force_open", CircuitState.FORCED_OPEN),
        ("force_closed", CircuitState.CLOSED),
        ("disable", CircuitState.DISABLED),
        ("metrics_only", CircuitState.METRICS_ONLY),
        ("reset", CircuitState.CLOSED),
    ],
)
def test_an_operators_words(made: Made, verb: str, state: CircuitState) -> None:
    breaker = made()
    breaker.force_open() if verb != "force_open" else None
    getattr(breaker, verb)()
    assert breaker.state is state


def test_other_settings(made: Made) -> None:
    breaker = made()
    policy = DegradedPolicy(ramp=3.0, ramp_from=0.5)
    breaker.reconfigure(CircuitBreakerConfig(failure_threshold=1), policy)
    assert (breaker.config.failure_threshold, breaker.degraded) == (1, policy)
    breaker.reconfigure(CircuitBreakerConfig(failure_threshold=3))
    assert (breaker.config.failure_threshold, breaker.degraded) == (3, policy)
    with pytest.raises(ValueError, match=r"window is 60\.0 and cannot be changed, got 30\.0"):
        breaker.reconfigure(CircuitBreakerConfig(window=30.0))
    with pytest.raises(TypeError, match=r"^config must be"):
        breaker.reconfigure(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^degraded must be"):
        breaker.reconfigure(CircuitBreakerConfig(), 1)  # type: ignore[arg-type]
    assert (breaker.config.failure_threshold, breaker.degraded) == (3, policy)


def test_changes_of_capacity_are_told(made: Made, clock: FakeClock, changes: list[DegradedChange]) -> None:
    moves: list[tuple[str, str]] = []
    unsubscribe = subscribe(lambda event: moves.append((event.previous, event.state)), Transition)
    breaker = made("b", DegradedPolicy(ramp=10.0, ramp_from=0.5))
    fail_in(breaker)
    fail_in(breaker)
    clock.advance(10.0)
    with breaker.attempt():
        assert breaker.state is CircuitState.HALF_OPEN  # as before: nothing more to tell
    assert breaker.ramping is True
    clock.advance(11.0)
    with breaker.attempt():
        pass
    assert breaker.ramping is False
    breaker.reset()
    unsubscribe()
    told = [(event.target, event.capacity, event.previous, event.reason) for event in changes]
    assert told == [
        ("b", 0.0, 1.0, "circuit_open"),
        ("b", pytest.approx(0.5), 0.0, "recovering"),
        ("b", 1.0, 1.0, "recovered"),
    ]
    assert moves == [("CLOSED", "OPEN"), ("OPEN", "HALF_OPEN"), ("HALF_OPEN", "CLOSED")]


def test_without_a_ramp_it_has_recovered_at_once(made: Made, clock: FakeClock, changes: list[DegradedChange]) -> None:
    breaker = made("b")
    breaker.force_open()
    breaker.disable()
    breaker.force_closed()
    assert [(event.capacity, event.previous, event.reason) for event in changes] == [
        (0.0, 1.0, "circuit_open"),
        (1.0, 0.0, "recovered"),
    ]
