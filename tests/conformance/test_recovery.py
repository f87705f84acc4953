"""What follows a failure: how often, after which waits, until when, and with what in the end."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import failsoft
from failsoft import (
    CircuitOpenError,
    CircuitState,
    ErrorCategory,
    Fallback,
    FallbackType,
    Integration,
    IntegrationError,
    IntegrationTimeoutError,
)
from failsoft.testing import FakeClock

from ..ids import shown
from .conftest import Make, drive


class Calls:
    """A dependency that does as it is told, call after call, and notes when it was called."""

    def __init__(self, clock: FakeClock, *answers: Any) -> None:
        self.clock = clock
        self.answers = list(answers)
        self.times: list[float] = []

    def __call__(self, *args: object, **kwargs: object) -> Any:
        self.times.append(self.clock.now)
        answer = self.answers[min(len(self.times), len(self.answers)) - 1]
        if callable(answer):
            answer = answer()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @property
    def count(self) -> int:
        return len(self.times)

    @property
    def waits(self) -> list[float]:
        return [round(after - before, 6) for before, after in zip(self.times, self.times[1:], strict=False)]


class Answer(Exception):
    """What an HTTP client raises."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Response:
    """What an HTTP client returns."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


GONE = ConnectionError("gone")


class Way:
    """The same call by a sync guard, an async one, or a sync one that gives something to await."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def guard(self, integration: Integration, fn: Callable[..., Any], **options: Any) -> Any:
        options.setdefault("operation", "quote")
        if self.kind == "sync":
            return integration.guard(fn, **options)

        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return fn(*args, **kwargs)

        if self.kind == "async":
            return integration.guard(asynchronous, **options)
        return integration.guard(lambda *args, **kwargs: asynchronous(*args, **kwargs), **options)

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.kind == "sync":
            return fn(*args, **kwargs)

        async def main() -> Any:
            return await fn(*args, **kwargs)

        return drive(main())


@pytest.fixture(params=["sync", "async", "handed over"])
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)


def retrying(make: Make, retries: int = 3, **parts: Any) -> Integration:
    """Waits of 1, 2, 4 and then 4 seconds, within 30 seconds in all."""
    policy = {"initial_delay": 1.0, "max_delay": 4.0, "backoff_multiplier": 2.0} | parts.pop("retry_policy", {})
    return make(retries=retries, retry_policy=policy, **parts)


# ---- how often, and when


def test_it_is_tried_until_it_succeeds(way: Way, make: Make, clock: FakeClock) -> None:
    calls = Calls(clock, GONE, TimeoutError(), "answer")
    guarded = way.guard(retrying(make), calls)
    assert way.run(guarded) == "answer"
    assert calls.waits == [1.0, 2.0]
    numbers = guarded.metrics()
    assert (numbers.count, numbers.error_count, numbers.retries, numbers.timeouts) == (3, 2, 2, 1)


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
def test_it_is_tried_no_more_often_than_told(way: Way, make: Make, clock: FakeClock, retries: int) -> None:
    calls = Calls(clock, GONE)
    guarded = way.guard(retrying(make, retries), calls)
    with pytest.raises(ConnectionError) as caught:
        way.run(guarded)
    assert caught.value is GONE
    assert calls.count == retries + 1
    assert calls.waits == [1.0, 2.0, 4.0, 4.0, 4.0][:retries]
    result = way.run(guarded.outcome)
    assert result.attempts == result.error.attempts == retries + 1
    assert result.duration == pytest.approx(sum(calls.waits[retries + 1 :]), abs=1e-3)


def test_the_last_error_is_the_one_raised(way: Way, make: Make, clock: FakeClock) -> None:
    errors = [ConnectionError(number) for number in range(3)]
    guarded = way.guard(retrying(make, 2), Calls(clock, *errors))
    with pytest.raises(ConnectionError) as caught:
        way.run(guarded)
    assert caught.value is errors[2]
    assert caught.value.__cause__ is caught.value.__context__ is None
    (note,) = caught.value.__notes__
    assert "3 attempts" in note
    assert "1, 2 s" in note
    assert not hasattr(errors[0], "__notes__")


def test_a_success_after_failures_leaves_no_trace_on_them(way: Way, make: Make, clock: FakeClock) -> None:
    error = ConnectionError("gone")
    assert way.run(way.guard(retrying(make), Calls(clock, error, 5))) == 5
    assert not hasattr(error, "__notes__")
    result = way.run(way.guard(retrying(make), Calls(clock, error, 5)).outcome)
    assert (result.success, result.data, result.error, result.attempts) == (True, 5, None, 2)
    assert result.duration == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (ConnectionError(), 3),
        (TimeoutError(), 3),
        (EOFError(), 3),
        (Answer(500), 3),
        (Answer(503), 3),
        (Answer(504), 3),
        (UnicodeDecodeError("utf-8", b"", 0, 1, ""), 3),
        (Answer(404), 1),
        (Answer(429), 1),
        (ValueError(), 1),
        (KeyError(), 1),
        (RuntimeError(), 1),
        (IntegrationError("theirs", category=ErrorCategory.NETWORK), 3),
        (IntegrationError("theirs", category=ErrorCategory.CLIENT_ERROR), 1),
        (IntegrationTimeoutError("theirs"), 3),
    ],
    ids=shown,
)
def test_only_some_errors_are_retried(way: Way, make: Make, clock: FakeClock, error: Exception, tries: int) -> None:
    calls = Calls(clock, error)
    guarded = way.guard(retrying(make, 2), calls)
    with pytest.raises(type(error)):
        way.run(guarded)
    assert calls.count == tries


def test_retries_can_be_turned_off(way: Way, make: Make, clock: FakeClock) -> None:
    calls = Calls(clock, GONE)
    guarded = way.guard(retrying(make), calls, retry=False)
    with pytest.raises(ConnectionError):
        way.run(guarded)
    assert not way.run(guarded.outcome).success
    assert calls.count == 2
    assert not hasattr(GONE, "__notes__")


def test_every_attempt_has_the_arguments(way: Way, make: Make, clock: FakeClock) -> None:
    seen: list[object] = []

    def greedy(*args: int, **kwargs: int) -> None:
        seen.append((args, dict(kwargs)))
        kwargs.clear()
        raise GONE

    guarded = way.guard(retrying(make, 2), greedy)
    with pytest.raises(ConnectionError):
        way.run(guarded, 1, 2, a=3, b=4)
    assert seen == [((1, 2), {"a": 3, "b": 4})] * 3


@pytest.mark.parametrize("jitter", ["full", "equal", "decorrelated", "none"])
def test_jitter_stays_within_its_bounds(way: Way, make: Make, clock: FakeClock, jitter: str) -> None:
    integration = retrying(make, 4, retry_policy={"jitter": jitter}, timeouts={"overall": 1000.0})
    guarded = way.guard(integration, Calls(clock, GONE))
    waits: list[list[float]] = []
    for _ in range(60):
        calls = Calls(clock, GONE)
        way.run(way.guard(integration, calls).outcome)
        waits.append(calls.waits)
    assert guarded.metrics().retries == 240
    for number, most in enumerate([1.0, 2.0, 4.0, 4.0]):
        drawn = [one[number] for one in waits]
        before = [one[number - 1] if number else 0.0 for one in waits]
        if jitter == "none":
            assert drawn == [most] * 60
        elif jitter == "decorrelated":
            pairs = list(zip(drawn, before, strict=True))
            assert all(1.0 <= wait <= min(4.0, 3.0 * max(last, 1.0)) + 1e-6 for wait, last in pairs)
        else:
            least = most / 2 if jitter == "equal" else 0.0
            assert all(least <= wait <= most for wait in drawn)
            assert max(drawn) - min(drawn) > (most - least) / 2
            assert statistics.mean(drawn) == pytest.approx((most + least) / 2, abs=(most - least) / 5)


# ---- until when


def test_the_overall_deadline_ends_the_retries(way: Way, make: Make, clock: FakeClock) -> None:
    """Waits of 1, 2 and 4 s fit into 8 s, the next one would not."""
    calls = Calls(clock, GONE)
    guarded = way.guard(retrying(make, 9, timeouts={"overall": 8.0}), calls)
    result = way.run(guarded.outcome)
    assert calls.waits == [1.0, 2.0, 4.0]
    assert "overall deadline" in result.error.reason
    assert result.duration <= 8.0


def test_time_spent_in_attempts_counts(way: Way, make: Make, clock: FakeClock) -> None:
    def slow() -> Exception:
        clock.advance(3.0)
        return GONE

    calls = Calls(clock, slow)
    result = way.run(way.guard(retrying(make, 9, timeouts={"overall": 9.0}), calls).outcome)
    assert calls.count == 2  # 3 s, a wait of 1 s, 3 s; a wait of 2 s would end at the deadline
    assert "overall deadline" in result.error.reason


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "0"}, 0.0),
        ({"retry_after": "7"}, 7.0),
        ({"Retry_After_Ms": "250"}, 0.25),
        ({"Retry_After": "0.5"}, 0.5),
        ({"Retry_After": "rubbish"}, 1.0),
        ({"Retry_After": "-5"}, 1.0),
        ({"Retry_After": "nan"}, 1.0),
        ({}, 1.0),
    ],
    ids=shown,
)
@pytest.mark.parametrize("status", [503, 429])
def test_retry_after_is_honoured(
    way: Way, make: Make, clock: FakeClock, headers: dict[str, str], wait: float, status: int
) -> None:
    calls = Calls(clock, Answer(status, **headers), "answer")
    guarded = way.guard(retrying(make), calls)
    if status == 429 and wait == 1.0:  # a rate limit without a hint is not retried by default
        with pytest.raises(Answer):
            way.run(guarded)
        return
    assert way.run(guarded) == "answer"
    assert calls.waits == [wait]


def test_retry_after_as_a_date(way: Way, make: Make, clock: FakeClock) -> None:
    now = 1_700_000_000.0
    dates = {
        "Retry_After": email.utils.formatdate(now + 5, usegmt=True),
        "Date": email.utils.formatdate(now, usegmt=True),
    }
    calls = Calls(clock, Answer(503, **dates), "answer")
    assert way.run(way.guard(retrying(make), calls)) == "answer"
    assert calls.waits == [5.0]


def test_retry_after_wins_over_a_longer_backoff(way: Way, make: Make, clock: FakeClock) -> None:
    calls = Calls(clock, GONE, GONE, Answer(503, Retry_After="0.1"), "answer")
    assert way.run(way.guard(retrying(make), calls)) == "answer"
    assert calls.waits == [1.0, 2.0, 0.1]


@pytest.mark.parametrize("hint", ["30", "31", "1e300", "999999999999999999999"])
def test_a_retry_after_that_cannot_fit_ends_the_call_now(way: Way, make: Make, clock: FakeClock, hint: str) -> None:
    calls = Calls(clock, Answer(503, Retry_After=hint), "answer")
    before = clock.now
    guarded = way.guard(retrying(make), calls)
    result = way.run(guarded.outcome)
    assert clock.now == before
    assert calls.count == 1
    assert "asked for" in result.error.reason
    assert "overall deadline" in result.error.reason
    assert result.error.retry_after == min(float(hint), 1e9)
    with pytest.raises(Answer) as caught:
        way.run(way.guard(retrying(make), Calls(clock, Answer(503, Retry_After=hint))))
    assert not hasattr(caught.value, "__notes__")


def test_only_what_was_never_sent_is_repeated_where_repeating_does_harm(way: Way, make: Make, clock: FakeClock) -> None:
    integration = retrying(make)
    for error, tries in [
        (GONE, 1),
        (TimeoutError(), 1),
        (Answer(503, Retry_After="1"), 1),
        (ConnectionRefusedError(), 4),
    ]:
        calls = Calls(clock, error)
        result = way.run(way.guard(integration, calls, idempotent=False).outcome)
        assert calls.count == tries
        if tries == 1:
            assert "not idempotent" in result.error.reason
        with pytest.raises(type(error)):
            way.run(way.guard(integration, Calls(clock, error), idempotent=False))


def test_an_attempt_that_may_have_arrived_ends_the_retries_of_those_that_had_not(
    way: Way, make: Make, clock: FakeClock
) -> None:
    calls = Calls(clock, ConnectionRefusedError(), ConnectionRefusedError(), GONE, "answer")
    with pytest.raises(ConnectionError):
        way.run(way.guard(retrying(make), calls, idempotent=False))
    assert calls.count == 3


# ---- the gate


def test_the_gate_ends_the_retries(way: Way, make: Make, clock: FakeClock) -> None:
    """The caller gets the last attempt's error, with the refusal as its reason."""
    integration = retrying(make, 5, threshold=2)
    calls = Calls(clock, GONE)
    guarded = way.guard(integration, calls)
    result = way.run(guarded.outcome)
    assert calls.count == 2
    assert integration.status().state is CircuitState.OPEN
    assert result.attempts == 2
    assert result.error.original_error is GONE
    assert "gate refused" in result.error.reason
    assert "OPEN" in result.error.reason
    assert guarded.metrics().rejected == 1
    integration.reset()
    error = ConnectionError("gone")
    with pytest.raises(ConnectionError) as caught:
        way.run(way.guard(integration, Calls(clock, error)))
    assert caught.value is error
    assert "gate refused" in error.__notes__[0]


def test_a_wait_that_is_longer_than_the_breakers_is_a_probe(way: Way, make: Make, clock: FakeClock) -> None:
    integration = retrying(make, threshold=1, circuit_breaker={"reset_timeout": 0.5, "success_threshold": 1})
    calls = Calls(clock, GONE, "answer")
    assert way.run(way.guard(integration, calls)) == "answer"
    assert integration.status().state is CircuitState.CLOSED


def test_an_open_circuit_is_not_retried(way: Way, make: Make, clock: FakeClock) -> None:
    integration = retrying(make)
    integration.force_open()
    calls = Calls(clock, "answer")
    with pytest.raises(CircuitOpenError):
        way.run(way.guard(integration, calls))
    assert calls.count == 0


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ConnectionError(), CircuitState.OPEN),
        (TimeoutError(), CircuitState.OPEN),
        (Answer(500), CircuitState.OPEN),
        (RuntimeError(), CircuitState.OPEN),
        (Answer(404), CircuitState.CLOSED),
        (Answer(429), CircuitState.CLOSED),
        (ValueError(), CircuitState.CLOSED),
        (CircuitOpenError("of another"), CircuitState.OPEN),
    ],
    ids=shown,
)
def test_what_counts_as_a_failure(
    way: Way, make: Make, clock: FakeClock, error: Exception, state: CircuitState
) -> None:
    integration = make(threshold=1)
    with pytest.raises(type(error)):
        way.run(way.guard(integration, Calls(clock, error)))
    assert integration.status().state is state


def test_an_ignored_error_is_in_no_count(way: Way, make: Make, clock: FakeClock) -> None:
    integration = make(threshold=2)
    guarded = way.guard(integration, Calls(clock, GONE, ValueError(), GONE))
    for _ in range(3):
        way.run(guarded.outcome)
    assert integration.status().state is CircuitState.OPEN  # a validation error neither counts nor resets
    assert guarded.metrics().count == 2


# ---- failure= and details=


def judge(response: Response) -> ErrorCategory | None:
    if response.status >= 500:
        return ErrorCategory.SERVER_ERROR
    return ErrorCategory.CLIENT_ERROR if response.status >= 400 else None


def test_a_bad_value_is_tried_again(way: Way, make: Make, clock: FakeClock) -> None:
    good = Response(200)
    calls = Calls(clock, Response(503), GONE, Response(500), good)
    guarded = way.guard(retrying(make), calls, failure=judge)
    assert way.run(guarded) is good
    assert calls.waits == [1.0, 2.0, 4.0]
    assert (guarded.metrics().count, guarded.metrics().error_count) == (4, 3)


def test_a_bad_value_comes_back_as_the_bare_function_gave_it(way: Way, make: Make, clock: FakeClock) -> None:
    bad = Response(503)
    guarded = way.guard(retrying(make, 2), Calls(clock, bad), failure=judge)
    assert way.run(guarded) is bad
    result = way.run(guarded.outcome)
    assert result.success is False
    assert result.data is bad
    assert result.attempts == result.error.attempts == 3
    assert result.error.category is ErrorCategory.SERVER_ERROR
    assert result.error.original_error is None


def test_a_bad_value_comes_back_when_the_gate_ends_the_retries(way: Way, make: Make, clock: FakeClock) -> None:
    """The last attempt has answered; a refusal of the next one does not take that away."""
    bad = Response(503)
    integration = retrying(make, 3, threshold=1)
    assert way.run(way.guard(integration, Calls(clock, bad), failure=judge)) is bad
    assert integration.status().state is CircuitState.OPEN
    integration.reset()
    result = way.run(way.guard(integration, Calls(clock, bad), failure=judge).outcome)
    assert result.data is bad
    assert "gate refused" in result.error.reason


def test_the_last_attempt_decides_what_comes_back(way: Way, make: Make, clock: FakeClock) -> None:
    """A bad value of an earlier one is not the answer to a later one that raised."""
    guarded = way.guard(retrying(make, 1), Calls(clock, Response(503), GONE), failure=judge)
    result = way.run(guarded.outcome)
    assert result.data is None
    assert result.error.original_error is GONE
    with pytest.raises(ConnectionError):
        way.run(way.guard(retrying(make, 1), Calls(clock, Response(503), GONE), failure=judge))


def test_retry_after_of_a_value(way: Way, make: Make, clock: FakeClock) -> None:
    calls = Calls(clock, Response(503, Retry_After="9"), Response(200))
    assert way.run(way.guard(retrying(make), calls, failure=judge)).status == 200
    assert calls.waits == [9.0]


def test_a_bad_value_that_is_not_retried(way: Way, make: Make, clock: FakeClock) -> None:
    integration = retrying(make, threshold=1)
    calls = Calls(clock, Response(404))
    assert way.run(way.guard(integration, calls, failure=judge)).status == 404
    assert calls.count == 1
    assert integration.status().state is CircuitState.CLOSED
    unsafe = Calls(clock, Response(503))
    assert way.run(way.guard(integration, unsafe, failure=judge, idempotent=False)).status == 503
    assert unsafe.count == 1
    assert integration.status().state is CircuitState.OPEN


def test_fallbacks_stand_in_for_a_bad_value(way: Way, make: Make, clock: FakeClock) -> None:
    handler = Fallback(FallbackType.CACHE, lambda: "cached")
    guarded = way.guard(retrying(make, 1), Calls(clock, Response(503)), failure=judge, fallbacks=[handler])
    assert way.run(guarded) == "cached"


@pytest.mark.parametrize("name", ["SERVER_ERROR", ErrorCategory.SERVER_ERROR])
def test_failure_may_say_the_name(way: Way, make: Make, clock: FakeClock, name: str) -> None:
    guarded = way.guard(make(), Calls(clock, 5), failure=lambda value: name)
    assert way.run(guarded.outcome).error.category is ErrorCategory.SERVER_ERROR


@pytest.mark.parametrize("answer", ["NONSENSE", 42, True, False, object(), "", b"TIMEOUT"], ids=shown)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_failure_function_that_talks_nonsense_changes_nothing(
    way: Way, make: Make, clock: FakeClock, answer: object
) -> None:
    integration = retrying(make, threshold=1)
    calls = Calls(clock, 5)
    guarded = way.guard(integration, calls, failure=lambda value: answer)
    assert way.run(guarded) == 5
    result = way.run(guarded.outcome)
    assert (result.success, result.data) == (True, 5)
    assert calls.count == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_failure_function_that_raises_changes_nothing(way: Way, make: Make, clock: FakeClock) -> None:
    integration = retrying(make, threshold=1)
    calls = Calls(clock, 5)
    guarded = way.guard(integration, calls, failure=lambda value: value.status)
    assert way.run(guarded) == 5
    assert way.run(guarded.outcome).success
    assert calls.count == 2
    assert integration.status().state is CircuitState.CLOSED


@pytest.mark.parametrize(
    "details",
    [{"symbol": "BTC"}, lambda symbol, *, depth: {"symbol": symbol, "depth": depth}],
    ids=["mapping", "function"],
)
def test_details_are_in_the_error(way: Way, make: Make, clock: FakeClock, details: Any) -> None:
    guarded = way.guard(retrying(make, 1), Calls(clock, GONE), details=details)
    result = way.run(guarded.outcome, "BTC", depth=3)
    assert result.error.details["symbol"] == "BTC"
    assert result.error.details.get("depth") in (None, 3)
    assert result.error.details["delays"] == (1.0,)
    assert result.error.details["attempt_timeout"] == 30.0


@pytest.mark.parametrize(
    "details", [lambda: 1 / 0, lambda: 5, lambda: None, lambda: [1]], ids=["raises", "5", "None", "[1]"]
)
@pytest.mark.parametrize("retries", [0, 1])
def test_a_details_function_that_fails_changes_nothing(
    way: Way, make: Make, clock: FakeClock, details: Any, retries: int
) -> None:
    guarded = way.guard(retrying(make, retries), Calls(clock, GONE), details=details)
    result = way.run(guarded.outcome)
    assert result.error.original_error is GONE
    assert "details_error" in result.error.details
    with pytest.raises(ConnectionError) as caught:
        way.run(guarded)
    assert caught.value is GONE


def test_a_wrong_call_reaches_details_too(make: Make) -> None:
    """The arguments that did not fit the function do not fit its details either."""
    guarded = make().guard(lambda a: a, details=lambda a: {"a": a})
    result = guarded.outcome()
    assert isinstance(result.error.original_error, TypeError)
    assert "details_error" in result.error.details


# ---- fallbacks


def answering(kind: FallbackType | str, answer: object, asked: list[object], priority: int | None = None) -> Fallback:
    def handler(*args: object, **kwargs: object) -> object:
        asked.append((str(kind), args, kwargs))
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return Fallback(FallbackType(kind), handler, priority)


@pytest.mark.parametrize("refused", [False, True], ids=["failed", "refused"])
def test_fallbacks_are_asked_in_order(way: Way, make: Make, clock: FakeClock, refused: bool) -> None:
    integration = retrying(make, 1)
    asked: list[Any] = []
    fallbacks = [
        answering("mock", KeyError("m"), asked),
        answering("last_known", KeyError("l"), asked),
        answering("error_response", "sorry", asked),
        answering("cache", KeyError("c"), asked),
        answering("simulated", KeyError("s"), asked),
        answering("mock", KeyError("first"), asked, priority=1),
    ]
    guarded = way.guard(integration, Calls(clock, GONE), fallbacks=fallbacks)
    if refused:
        integration.force_open()
    result = way.run(guarded.outcome, 1, b=2)
    assert [kind for kind, *_ in asked] == ["mock", "cache", "last_known", "simulated", "mock", "error_response"]
    assert all(arguments == [(1,), {"b": 2}] for _, *arguments in asked)
    assert (result.success, result.data, result.fallback_type) == (False, "sorry", FallbackType.ERROR_RESPONSE)
    assert isinstance(result.error, CircuitOpenError) is refused
    assert guarded.metrics().fallbacks == 1
    if not (refused and way.kind == "handed over"):  # where nothing was called, a plain answer is not to be awaited
        assert way.run(guarded, 1, b=2) == "sorry"


def test_the_first_fallback_that_answers_ends_it(way: Way, make: Make, clock: FakeClock) -> None:
    asked: list[Any] = []
    fallbacks = [answering("cache", None, asked), answering("mock", 1, asked)]
    guarded = way.guard(retrying(make, 1), Calls(clock, GONE), fallbacks=fallbacks)
    assert way.run(guarded) is None
    assert len(asked) == 1
    result = way.run(guarded.outcome)
    assert (result.success, result.data, result.fallback_used) == (True, None, True)


def test_where_all_fallbacks_fail_the_error_tells(way: Way, make: Make, clock: FakeClock) -> None:
    error = ConnectionError("gone")
    fallbacks = [answering("cache", KeyError("c"), []), answering("mock", OSError("m"), [])]
    guarded = way.guard(retrying(make, 0), Calls(clock, error), fallbacks=fallbacks)
    result = way.run(guarded.outcome)
    assert (result.success, result.data, result.fallback_used) == (False, None, False)
    assert result.error.original_error is error
    with pytest.raises(ConnectionError) as caught:
        way.run(guarded)
    assert caught.value is error
    assert ["KeyError" in error.__notes__[0], "OSError" in error.__notes__[1]] == [True, True]


def test_where_all_fallbacks_fail_a_refusal_is_a_refusal(way: Way, make: Make, clock: FakeClock) -> None:
    integration = make()
    integration.force_open()
    guarded = way.guard(integration, Calls(clock, 1), fallbacks=[answering("cache", KeyError("c"), [])])
    with pytest.raises(CircuitOpenError):
        way.run(guarded)
    result = way.run(guarded.outcome)
    assert isinstance(result.error, CircuitOpenError)
    assert result.attempts == 0


def test_a_success_asks_no_fallback(way: Way, make: Make, clock: FakeClock) -> None:
    asked: list[Any] = []
    guarded = way.guard(retrying(make), Calls(clock, GONE, 5), fallbacks=[answering("cache", 1, asked)])
    assert way.run(guarded) == 5
    assert not asked


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_what_is_no_exception_passes_out_of_a_fallback(
    way: Way, make: Make, clock: FakeClock, error: type[BaseException]
) -> None:
    fallbacks = [answering("cache", error(), []), answering("mock", 1, [])]
    guarded = way.guard(make(), Calls(clock, GONE), fallbacks=fallbacks)
    for call in (guarded, guarded.outcome):
        with pytest.raises(error):
            way.run(call)


@pytest.mark.parametrize("kind", ["async", "handed over"])
@pytest.mark.parametrize("refused", [False, True], ids=["failed", "refused"])
def test_async_fallbacks(make: Make, clock: FakeClock, kind: str, refused: bool) -> None:
    way = Way(kind)
    integration = make()

    async def broken(*args: object) -> None:
        await asyncio.sleep(0)
        raise KeyError("broken")

    async def working(*args: object) -> object:
        await asyncio.sleep(0)
        return args

    fallbacks = [Fallback(FallbackType.CACHE, broken), Fallback(FallbackType.MOCK, working)]
    guarded = way.guard(integration, Calls(clock, GONE), fallbacks=fallbacks)
    if refused:
        integration.force_open()
    assert way.run(guarded, 1, 2) == (1, 2)
    result = way.run(guarded.outcome, 3)
    assert (result.success, result.data, result.fallback_type) == (True, (3,), FallbackType.MOCK)


def test_a_guard_is_a_fallback_of_another(way: Way, make: Make, clock: FakeClock) -> None:
    backup = way.guard(make("backup"), Calls(clock, "from the backup"))
    fallbacks = [Fallback(FallbackType.CUSTOM, backup)]
    guarded = way.guard(make("first"), Calls(clock, GONE), fallbacks=fallbacks)
    assert way.run(guarded) == "from the backup"


# ---- attempt timeouts


@pytest.fixture
def bounded(make: Make) -> Integration:
    """Attempts of at most 2 seconds, 30 in all."""
    return make("bounded", circuit_breaker={"timeout": 2.0})


async def turn(times: int = 8) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def at_times(clock: FakeClock, step: float, task: asyncio.Task[Any], most: int = 100) -> Any:
    """Let time pass for a task until it is done."""
    for _ in range(most):
        await turn()
        if task.done():
            return await task
        clock.advance(step)
    raise AssertionError("it never ends")


async def hang(*_: object) -> None:
    await asyncio.get_running_loop().create_future()


def test_an_async_attempt_is_cancelled_at_its_timeout(bounded: Integration, clock: FakeClock) -> None:
    seen: list[object] = []

    @bounded.guard
    async def slow() -> None:
        try:
            await hang()
        except asyncio.CancelledError:
            seen.append(clock.now)
            raise

    async def main() -> None:
        start = clock.now
        task = asyncio.create_task(slow())
        await turn()
        clock.advance(1.999)
        await turn()
        assert not task.done()
        clock.advance(0.001)
        with pytest.raises(IntegrationTimeoutError) as caught:
            await task
        assert seen == [pytest.approx(start + 2.0, abs=1e-6)]
        error = caught.value
        assert isinstance(error, TimeoutError)
        assert isinstance(error.__cause__, asyncio.CancelledError)
        assert (error.code, error.operation, error.integration_name) == ("DB_TIMEOUT", "slow", "bounded")
        assert "2 s" in str(error)
        assert task.cancelling() == 0

    asyncio.run(main())
    numbers = slow.metrics()
    assert (numbers.count, numbers.error_count, numbers.timeouts) == (1, 1, 1)
    assert bounded.status().failures == 1


def test_timed_out_attempts_are_retried(make: Make, clock: FakeClock) -> None:
    integration = retrying(make, 2, circuit_breaker={"timeout": 2.0})
    times: list[float] = []

    async def slow() -> str:
        times.append(clock.now)
        if len(times) < 3:
            await hang()
        return "answer"

    async def main(call: Callable[[], Any]) -> Any:
        return await at_times(clock, 0.5, asyncio.create_task(call()))

    assert asyncio.run(main(integration.guard(slow))) == "answer"
    assert len(times) == 3
    assert [round(after - before, 3) for before, after in zip(times, times[1:], strict=False)] == [3.0, 4.0]


def test_the_error_of_a_timeout_tells_all(make: Make, clock: FakeClock) -> None:
    """The same as any other error of a result: how often it was tried, why no more, and the caller's details."""
    integration = retrying(make, 1, circuit_breaker={"timeout": 2.0})
    guarded = integration.guard(hang, details=lambda symbol: {"symbol": symbol})

    async def main() -> Any:
        return await at_times(clock, 0.5, asyncio.create_task(guarded.outcome("BTC")))

    result = asyncio.run(main())
    error = result.error
    assert isinstance(error, IntegrationTimeoutError)
    assert result.attempts == error.attempts == 2
    assert error.details["symbol"] == "BTC"
    assert error.details["delays"] == (1.0,)
    assert "retries are used up" in error.reason


def test_the_overall_deadline_bounds_the_last_attempt(make: Make, clock: FakeClock) -> None:
    integration = retrying(make, 9, circuit_breaker={"timeout": 4.0}, timeouts={"overall": 10.0})
    start = clock.now

    async def main() -> Any:
        return await at_times(clock, 0.25, asyncio.create_task(integration.guard(hang).outcome()))

    result = asyncio.run(main())
    assert not result.success
    assert clock.now - start <= 10.5  # 4, a wait of 1, 4; and no wait of 2
    assert result.attempts == 2


def test_an_answer_to_the_cancellation_stands(bounded: Integration, clock: FakeClock) -> None:
    """As with asyncio.timeout: who swallows the cancellation has the last word, and the task goes on as before."""

    @bounded.guard
    async def stubborn() -> str:
        try:
            await hang()
        except asyncio.CancelledError:
            return "all the same"
        raise AssertionError

    async def main() -> None:
        task = asyncio.create_task(stubborn())
        await turn()
        clock.advance(2.0)
        assert await task == "all the same"
        assert task.cancelling() == 0

    asyncio.run(main())
    assert stubborn.metrics().timeouts == 1
    assert stubborn.metrics().error_count == 1


def test_an_error_in_answer_to_the_cancellation_is_the_error(bounded: Integration, clock: FakeClock) -> None:
    @bounded.guard
    async def clumsy() -> None:
        try:
            await hang()
        except asyncio.CancelledError:
            raise KeyError("while tidying up") from None

    async def main() -> None:
        task = asyncio.create_task(clumsy())
        await turn()
        clock.advance(2.0)
        with pytest.raises(KeyError):
            await task

    asyncio.run(main())


def test_a_cancellation_from_outside_is_never_swallowed(bounded: Integration, clock: FakeClock) -> None:
    """Even where it comes in the same turn as the timeout, before or after it."""
    guarded = bounded.guard(hang)

    async def main(order: str) -> None:
        task = asyncio.create_task(guarded())
        await turn()
        for step in order:
            if step == "t":
                clock.advance(2.0)
            else:
                task.cancel("from outside")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    for order in ("c", "ct", "tc", "tcc"):
        asyncio.run(main(order))


def test_a_cancellation_during_a_retrys_wait_ends_the_call(make: Make) -> None:
    calls: list[int] = []
    asked: list[int] = []

    @make(retries=3, retry_policy={"initial_delay": 30.0, "max_delay": 30.0}, timeouts={"overall": 1e6}).guard(
        fallbacks=[Fallback(FallbackType.CACHE, lambda: asked.append(1))]
    )
    async def fail() -> None:
        calls.append(1)
        raise GONE

    async def main() -> None:
        task = asyncio.create_task(fail())
        await turn()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await fail()

    asyncio.run(main())
    assert (len(calls), asked) == (2, [])


def test_a_timeout_of_the_callers_own_is_told_from_ours(bounded: Integration, clock: FakeClock) -> None:
    """`asyncio.timeout` around, shorter, longer, and due in the same turn."""

    async def main(due: float) -> str:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as own:

            def strike() -> None:
                if due <= 2.0:
                    own.reschedule(loop.time())
                if due >= 2.0:
                    clock.advance(2.0)

            loop.call_soon(strike)
            await bounded.guard(hang)()
        raise AssertionError

    with pytest.raises(TimeoutError) as caught:
        asyncio.run(main(1.0))
    assert not isinstance(caught.value, IntegrationTimeoutError)
    with pytest.raises(IntegrationTimeoutError):
        asyncio.run(main(3.0))
    with pytest.raises(TimeoutError):
        asyncio.run(main(2.0))


def test_nested_timeouts_blame_the_one_that_was_due(make: Make, clock: FakeClock) -> None:
    inner = make("inner", circuit_breaker={"timeout": 3.0}).guard(hang, operation="inner")
    outer = make("outer", circuit_breaker={"timeout": 2.0}).guard(inner, operation="outer")

    async def main(guarded: Any, wait: float) -> IntegrationTimeoutError:
        task = asyncio.create_task(guarded())
        await turn()
        clock.advance(wait)
        with pytest.raises(IntegrationTimeoutError) as caught:
            await task
        assert task.cancelling() == 0
        return caught.value

    assert asyncio.run(main(outer, 2.0)).operation == "outer"
    other = make("other", circuit_breaker={"timeout": 9.0}).guard(inner, operation="other")
    assert asyncio.run(main(other, 3.0)).operation == "inner"
    assert asyncio.run(main(outer, 5.0)).operation == "outer"  # both are due


def test_a_timer_does_not_strike_later(bounded: Integration, clock: FakeClock) -> None:
    """What has ended in any way is not cancelled when its time would have been up."""

    async def brief(way: str) -> None:
        await asyncio.sleep(0)
        if way == "error":
            raise KeyError(way)

    async def main() -> None:
        guarded = bounded.guard(brief)
        for way in ("value", "error"):
            await asyncio.gather(guarded(way), return_exceptions=True)
        started = bounded.guard(hang)()
        inner = asyncio.create_task(started)
        await turn()
        inner.cancel()
        await asyncio.gather(inner, return_exceptions=True)
        clock.advance(100.0)
        await turn()
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        assert not clock._timers

    asyncio.run(main())


def test_it_works_in_real_time(make: Make) -> None:
    integration = make(circuit_breaker={"timeout": 0.005})

    async def main() -> None:
        began = time.perf_counter()
        with pytest.raises(IntegrationTimeoutError):
            await integration.guard(hang)()
        assert time.perf_counter() - began < 1.0
        async with asyncio.timeout(5.0):
            result = await integration.guard(hang).outcome()
        assert isinstance(result.error, IntegrationTimeoutError)

    asyncio.run(main())


def test_a_slow_sync_call_keeps_its_value_and_counts_as_failed(bounded: Integration, clock: FakeClock) -> None:
    guarded = bounded.guard(clock.advance, operation="slow")
    guarded(1.999)
    assert (guarded.metrics().timeouts, bounded.status().failures) == (0, 0)
    guarded(2.0)
    assert (guarded.metrics().timeouts, bounded.status().failures) == (1, 1)


@pytest.mark.parametrize(("after", "counted"), [(9.9, 0), (10.0, 1), (15.0, 1)])
def test_a_call_given_up_after_long_counts_as_a_timeout(
    make: Make, clock: FakeClock, after: float, counted: int
) -> None:
    """`timeouts.read` of the preset is 10 s: who gives up later has been let down."""
    integration = make(threshold=1)
    guarded = integration.guard(hang)

    async def main() -> None:
        task = asyncio.create_task(guarded())
        await turn()
        clock.advance(after)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert guarded.metrics().timeouts == guarded.metrics().error_count == counted
    assert (integration.status().state is CircuitState.OPEN) is bool(counted)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_only_a_cancellation_is_a_giving_up(make: Make, clock: FakeClock, error: type[BaseException]) -> None:
    integration = make(threshold=1)

    @integration.guard
    async def stop() -> None:
        clock.advance(20.0)
        raise error

    with pytest.raises(error):
        drive(stop())
    assert integration.status().state is CircuitState.CLOSED


# ---- remaining()


def test_nobody_has_a_deadline_outside_a_call(steady: Integration) -> None:
    assert failsoft.remaining() is None
    steady.guard(lambda: 1)()
    assert failsoft.remaining() is None


def test_remaining_counts_down(way: Way, make: Make, clock: FakeClock) -> None:
    integration = make(circuit_breaker={"timeout": 4.0})
    seen: list[float | None] = []

    def ask() -> None:
        seen.append(failsoft.remaining())
        clock.advance(1.5)
        seen.append(failsoft.remaining())
        clock.advance(5.0)
        seen.append(failsoft.remaining())

    way.run(way.guard(integration, ask))
    assert seen == [pytest.approx(4.0, abs=1e-6), pytest.approx(2.5, abs=1e-6), 0.0]
    assert failsoft.remaining() is None


def test_remaining_is_bounded_by_the_overall_deadline(way: Way, make: Make, clock: FakeClock) -> None:
    """Also in later attempts, which have less of it left."""
    integration = retrying(make, 3, circuit_breaker={"timeout": 5.0}, timeouts={"overall": 6.0})
    seen: list[float | None] = []

    def ask() -> None:
        seen.append(failsoft.remaining())
        clock.advance(0.5)
        raise GONE

    way.run(way.guard(integration, ask).outcome)
    assert seen == [pytest.approx(left, abs=1e-6) for left in (5.0, 4.5, 2.0)]
    assert failsoft.remaining() is None


def test_the_nearer_deadline_holds_in_nested_calls(way: Way, make: Make, clock: FakeClock) -> None:
    short, long = (make(str(limit), circuit_breaker={"timeout": limit}) for limit in (3.0, 8.0))
    seen: list[float | None] = []

    def ask() -> None:
        seen.append(failsoft.remaining())

    def around(inner: Any) -> Callable[[], Any]:
        def call() -> Any:
            seen.append(failsoft.remaining())
            clock.advance(1.0)
            result = inner()
            seen.append(failsoft.remaining())
            return result

        return call

    short_ask, long_ask = short.guard(ask), long.guard(ask)
    way.run(way.guard(long, around(short_ask)))
    way.run(way.guard(short, around(long_ask)))
    assert seen == [pytest.approx(left, abs=1e-6) for left in (8.0, 3.0, 7.0, 3.0, 2.0, 2.0)]


def test_remaining_after_every_kind_of_end(way: Way, make: Make, clock: FakeClock) -> None:
    integration = make(threshold=2)
    for answer in (1, GONE, KeyError(), KeyboardInterrupt(), asyncio.CancelledError(), GONE):
        guarded = way.guard(integration, Calls(clock, answer), fallbacks=[])
        for call in (guarded, guarded.outcome):
            try:
                way.run(call)
            except BaseException as error:
                del error
            assert failsoft.remaining() is None


def test_a_child_task_is_not_bound_by_its_parents_call(make: Make) -> None:
    seen: list[float | None] = []

    async def ask() -> None:
        seen.append(failsoft.remaining())

    @make(circuit_breaker={"timeout": 5.0}).guard
    async def parent() -> None:
        await asyncio.create_task(ask())
        await ask()

    asyncio.run(parent())
    assert seen[0] is None
    assert seen[1] is not None


def test_threads_do_not_share_a_deadline(make: Make) -> None:
    seen: list[float | None] = []

    @make().guard
    def wait() -> None:
        thread = threading.Thread(target=lambda: seen.append(failsoft.remaining()))
        thread.start()
        thread.join()
        seen.append(failsoft.remaining())

    wait()
    assert seen[0] is None
    assert seen[1] is not None


# ---- interrupts, and helpers that fail


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a signal that comes by itself")
def test_an_interrupt_during_a_retrys_wait_gets_through(make: Make) -> None:
    integration = make(retries=3, threshold=1_000, retry_policy={"initial_delay": 20.0, "max_delay": 20.0})
    asked: list[int] = []
    handler = Fallback(FallbackType.CACHE, lambda: asked.append(1))

    @integration.guard(fallbacks=[handler])
    def fail() -> None:
        raise GONE

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    usual = signal.signal(signal.SIGALRM, interrupt)
    try:
        for call in (fail, fail.outcome):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(KeyboardInterrupt):
                call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
    assert not asked
    assert fail.metrics().count == 2
    assert integration.status().failures == 2


def test_an_interrupt_out_of_a_later_attempt_returns_its_permit(way: Way, make: Make, clock: FakeClock) -> None:
    integration = retrying(
        make, 2, threshold=1,
        circuit_breaker={"reset_timeout": 0.5, "half_open_max_calls": 1, "success_threshold": 1},
    )  # fmt: skip
    calls = Calls(clock, GONE, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        way.run(way.guard(integration, calls))
    assert calls.count == 2
    status = integration.status()
    assert (status.state, status.probes) == (CircuitState.HALF_OPEN, 0)


def test_listeners_that_raise_change_nothing(way: Way, make: Make, clock: FakeClock, caplog: Any) -> None:
    integration = make(threshold=1)

    def bad(event: object) -> None:
        raise RuntimeError("from a listener")

    unsubscribe = failsoft.events.subscribe(bad, failsoft.events.Transition)
    try:
        with caplog.at_level(logging.CRITICAL, "failsoft"), pytest.raises(ConnectionError) as caught:
            way.run(way.guard(integration, Calls(clock, GONE)))
        assert caught.value is GONE
        clock.advance(61.0)
        assert way.run(way.guard(integration, Calls(clock, 5))) == 5
    finally:
        unsubscribe()


def test_a_listener_may_call_the_guard(way: Way, make: Make, clock: FakeClock) -> None:
    """Events come outside every lock."""
    integration = make(threshold=1)
    answers: list[object] = []
    other = make("other").guard(lambda: 7)

    def call(event: Any) -> None:
        answers.append((event.state, other(), integration.status().state))
        if event.state is CircuitState.OPEN:
            integration.reset()

    unsubscribe = failsoft.events.subscribe(call, failsoft.events.Transition)
    try:
        with pytest.raises(ConnectionError):
            way.run(way.guard(integration, Calls(clock, GONE)))
    finally:
        unsubscribe()
    assert answers[0] == ("OPEN", 7, "OPEN")
    assert integration.status().state is CircuitState.CLOSED


@pytest.fixture(autouse=True)
def no_notes_on_shared_errors() -> Iterator[None]:
    """GONE is raised by many tests."""
    yield
    vars(GONE).pop("__notes__", None)
    GONE.__traceback__ = None
