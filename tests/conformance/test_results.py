"""What a call answers with instead of raising, and what a refusal says of itself."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import threading
import time
import traceback
import weakref
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

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
    IntegrationResult,
    IntegrationTimeoutError,
    IntegrationType,
    OperationMetrics,
)
from failsoft.testing import FakeClock

from .conftest import Make, drive


@pytest.fixture(params=["sync", "async", "handed over"])
def outcome(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`outcome(integration, fn, **options)`: the result of one call of fn, by each kind of guard."""

    def ask(integration: Integration, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if request.param == "sync":
            return integration.guard(fn, **options).outcome(*args)

        async def asynchronous(*args: Any) -> Any:
            return fn(*args)

        options.setdefault("operation", getattr(fn, "__name__", "fn"))
        if request.param == "async":
            return drive(integration.guard(asynchronous, **options).outcome(*args))
        return drive(awaited(integration.guard(lambda *args: asynchronous(*args), **options).outcome, *args))

    return ask


async def awaited(fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    return await fn(*args)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


# ---- successes


def test_a_success(outcome: Any, steady: Integration) -> None:
    thing = object()
    result = outcome(steady, lambda: thing)
    assert isinstance(result, IntegrationResult)
    assert result.success is True
    assert result.data is thing
    assert result.error is None
    assert (result.fallback_used, result.fallback_type, result.data_age) == (False, None, None)
    assert result.attempts == 1
    assert 0.0 <= result.duration < 5.0
    assert isinstance(result.metrics, OperationMetrics)
    assert result.metrics.count == 1
    assert repr(result) == f"IntegrationResult(success=True, data={thing!r})"


@pytest.mark.parametrize("value", [None, False, 0, (), (1, 2), ValueError("a value"), StopIteration(1)], ids=repr)
def test_any_value_is_data(outcome: Any, steady: Integration, value: object) -> None:
    result = outcome(steady, lambda: value)
    assert result.success
    assert result.data is value


def test_metrics_are_read_when_asked_for(steady: Integration) -> None:
    guarded = steady.guard(lambda: 1)
    result = guarded.outcome()
    assert result.metrics.count == 1
    guarded()
    assert result.metrics.count == 2
    assert result.metrics == guarded.metrics()


def test_duration_and_lateness(steady: Integration, make: Make, clock: FakeClock) -> None:
    bounded = make("bounded", circuit_breaker={"timeout": 2.0})
    guarded = bounded.guard(clock.advance)
    assert guarded.outcome(1.5).duration == pytest.approx(1.5, abs=0.01)
    result = guarded.outcome(3.0)
    assert result.success
    assert result.duration == pytest.approx(3.0, abs=0.01)
    assert guarded.metrics().timeouts == 1
    assert guarded.metrics().error_count == 1


def test_a_result_cannot_be_changed(steady: Integration) -> None:
    result = steady.guard(lambda: 1).outcome()
    for name in ("success", "data", "error", "metrics", "attempts", "duration", "fallback_used", "other"):
        with pytest.raises(AttributeError):
            setattr(result, name, 1)


def test_one_can_be_made_for_a_test() -> None:
    result: IntegrationResult[int] = IntegrationResult(True, data=3, duration=0.5, attempts=2)
    assert (result.success, result.data, result.duration, result.attempts) == (True, 3, 0.5, 2)
    assert (result.error, result.metrics, result.fallback_used, result.data_age) == (None, None, False, None)
    failed: IntegrationResult[int] = IntegrationResult(
        False, error=IntegrationError("no"), fallback_type=FallbackType.MOCK, data_age=3.0
    )
    assert (failed.data, str(failed.error), failed.fallback_used, failed.data_age) == (None, "no", True, 3.0)
    assert "success=False" in repr(failed)
    for duration in (-1.0, float("nan"), float("inf"), 1e10):
        with pytest.raises(ValueError, match="duration"):
            IntegrationResult(True, duration=duration)
    with pytest.raises(TypeError):
        IntegrationResult()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        IntegrationResult(True, 3)  # type: ignore[misc]


def test_the_type_takes_a_parameter_where_annotations_are_evaluated() -> None:
    alias = IntegrationResult[int]
    assert alias.__origin__ is IntegrationResult  # type: ignore[attr-defined]


def test_results_are_used_again_without_a_trace(steady: Integration) -> None:
    """They come from a free list: nothing of a former one may shine through."""
    guarded = steady.guard(lambda value: value)
    failing = steady.guard(raising(KeyError("k")), fallbacks=[Fallback(FallbackType.MOCK, lambda: "mock")])
    for number in range(100):
        rescued = failing.outcome()
        assert (rescued.data, rescued.fallback_type) == ("mock", FallbackType.MOCK)
        del rescued
        result = guarded.outcome(number)
        assert (result.data, result.error, result.fallback_type, result.data_age) == (number, None, None, None)
        del result


def test_a_result_lets_go_of_what_it_held(steady: Integration) -> None:
    class Thing:
        own: object

    thing = Thing()
    thing.own = steady.guard(lambda value: value).outcome(thing)
    reference = weakref.ref(thing)
    del thing
    gc.collect()
    assert reference() is None


# ---- failures

CLASSIFIED: list[Any] = [
    (ConnectionError("gone"), IntegrationError, "DB_NETWORK", True),
    (TimeoutError("late"), IntegrationTimeoutError, "DB_TIMEOUT", True),
    (ValueError("bad"), IntegrationError, "DB_VALIDATION", False),
    (KeyError("k"), IntegrationError, "DB_UNKNOWN", False),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), IntegrationError, "DB_SERVER_ERROR", True),
    (StopIteration(3), IntegrationError, "DB_UNKNOWN", False),
    (Exception(), IntegrationError, "DB_UNKNOWN", False),
    (ExceptionGroup("all", [ConnectionError()]), IntegrationError, "DB_NETWORK", True),
]


@pytest.mark.parametrize(("error", "kind", "code", "retryable"), CLASSIFIED, ids=lambda value: repr(value)[:20])
def test_a_failure(outcome: Any, make: Make, error: Exception, kind: type, code: str, retryable: bool) -> None:
    if isinstance(error, StopIteration) and outcome.__closure__[0].cell_contents.param != "sync":
        pytest.skip("a coroutine cannot raise it")
    before = time.time()
    integration = make()
    result = outcome(integration, raising(error), operation="quote")
    assert result.success is False
    assert result.data is None
    assert result.attempts == 1
    made = result.error
    assert made is result.error
    assert type(made) is kind
    assert made.code == code
    assert made.category == code.removeprefix("DB_")
    assert made.original_error is error
    assert made.__cause__ is error
    assert made.retryable is retryable
    assert (made.integration_type, made.integration_name) == (IntegrationType.DATABASE, "dependency")
    assert (made.operation, made.attempts) == ("quote", 1)
    assert "quote" in str(made)
    assert str(error) in str(made)
    assert before - 1 <= made.timestamp <= time.time() + 1
    assert not hasattr(error, "__notes__")


def test_an_integration_error_of_the_function_stays_itself(outcome: Any, steady: Integration) -> None:
    error = IntegrationError("theirs", category=ErrorCategory.SERVER_ERROR, attempts=7)
    result = outcome(steady, raising(error))
    assert result.error is error
    assert result.error.attempts == 7


class Mute(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Empty(IntegrationError):
    """Forgets what an IntegrationError has."""

    def __init__(self) -> None:
        pass


class Sealed(Exception):
    """Takes no notes."""

    def add_note(self, note: str) -> None:
        raise RuntimeError("no notes")


class Lying(Exception):
    """Raises from each property that a classifier may look at."""

    @property
    def status(self) -> int:
        raise RuntimeError("no status")

    status_code = response = headers = retry_after = reason = status


class Heading(ConnectionError):
    """Headers that are nothing a client would have."""

    headers = {"Retry-After": ["a", "list"], "Retry-After-Ms": float("nan"), "Date": 3}  # noqa: RUF012


HOSTILE = [Mute(), Empty(), Sealed(), Lying(), Heading(), ConnectionError(Mute()), OSError("strange", "numbers")]


@pytest.mark.parametrize("error", HOSTILE, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("retries", [0, 2])
def test_no_error_is_too_strange_for_a_result(outcome: Any, make: Make, error: Exception, retries: int) -> None:
    """`outcome` never raises an Exception, and says nothing on stderr either."""
    result = outcome(make(retries=retries), raising(error))
    assert not result.success
    assert isinstance(result.error, IntegrationError)
    assert result.error is error or result.error.original_error is error


@pytest.mark.parametrize("error", HOSTILE, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("retries", [0, 2])
def test_no_error_is_too_strange_to_be_raised(make: Make, error: Exception, retries: int) -> None:
    guarded = make(retries=retries, threshold=1).guard(raising(error), retry=True)
    with pytest.raises(type(error)) as caught:
        guarded()
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), asyncio.CancelledError()])
def test_what_is_no_exception_passes(outcome: Any, steady: Integration, error: BaseException) -> None:
    handler = Fallback(FallbackType.MOCK, lambda: "mock")
    for options in ({}, {"fallbacks": [handler]}):
        with pytest.raises(type(error)) as caught:
            outcome(steady, raising(error), **options)
        assert caught.value is error


def test_wrong_arguments_are_a_failure_too(steady: Integration) -> None:
    def one(a: int) -> int:
        return a

    async def one_async(a: int) -> int:
        return a

    for result in (steady.guard(one).outcome(), drive(awaited(steady.guard(one_async).outcome))):
        assert not result.success
        assert result.error.category is ErrorCategory.VALIDATION
        assert isinstance(result.error.original_error, TypeError)


def test_a_coroutine_function_that_raises_at_the_call(make: Make) -> None:
    """As a plain function marked as one may: it is an attempt like any other."""
    calls: list[int] = []

    class AtOnce(mock.AsyncMock):
        """Known for a coroutine function on every version, and raises before there is a coroutine."""

        def __call__(self) -> Any:
            calls.append(1)
            raise ConnectionError("gone")

    guarded = make(retries=2).guard(AtOnce(), operation="quote")
    result = drive(awaited(guarded.outcome))
    assert not result.success
    assert result.attempts == len(calls) == 3


def test_a_result_with_a_fallback_tells_both(outcome: Any, steady: Integration) -> None:
    handler = Fallback(FallbackType.LAST_KNOWN, lambda: 42)
    error = ConnectionError("gone")
    result = outcome(steady, raising(error), fallbacks=[handler])
    assert (result.success, result.data) == (True, 42)
    assert (result.fallback_used, result.fallback_type) == (True, FallbackType.LAST_KNOWN)
    assert result.error.original_error is error
    assert result.metrics.fallbacks == 1


def test_an_error_response_is_no_success(outcome: Any, steady: Integration) -> None:
    handler = Fallback(FallbackType.ERROR_RESPONSE, lambda: {"error": "later"})
    result = outcome(steady, raising(ConnectionError("gone")), fallbacks=[handler])
    assert (result.success, result.data) == (False, {"error": "later"})
    assert result.fallback_type is FallbackType.ERROR_RESPONSE
    assert result.error.code == "DB_NETWORK"


# ---- refusals


def test_a_refusal_by_outcome(outcome: Any, make: Make, clock: FakeClock) -> None:
    integration = make(threshold=2)
    for _ in range(2):
        assert not outcome(integration, raising(ConnectionError("gone")), operation="quote").success
    assert integration.status().state is CircuitState.OPEN
    clock.advance(10.0)
    called: list[int] = []
    result = outcome(integration, called.append, 1, operation="quote")
    assert not called
    assert (result.success, result.data, result.attempts, result.duration) == (False, None, 0, 0.0)
    assert result.metrics.rejected == 1
    error = result.error
    assert isinstance(error, CircuitOpenError)
    assert error is result.error
    assert error.retry_after == pytest.approx(50.0)
    assert error.reason == "consecutive_failures"
    assert (error.code, error.category) == ("DB_CIRCUIT_OPEN", ErrorCategory.UNKNOWN)
    assert error.details == {"state": "OPEN", "failures": 2, "generation": integration.status().generation}
    assert (error.integration_name, error.integration_type, error.operation) == ("dependency", "database", "quote")
    assert (error.retryable, error.attempts, error.original_error, error.__cause__) == (True, 0, None, None)
    assert "dependency" in str(error)
    assert "retry after 50 s" in str(error)


def test_the_fields_of_a_refusal_are_of_its_moment(make: Make, clock: FakeClock) -> None:
    """They are made when first asked for, which may be much later."""
    integration = make(threshold=1)
    guarded = integration.guard(raising(ConnectionError("gone")))
    guarded.outcome()
    clock.advance(20.0)
    moment = time.time()
    result, other = guarded.outcome(), guarded.outcome()
    with pytest.raises(CircuitOpenError) as caught:
        guarded()
    clock.advance(1000.0)
    integration.reset()
    integration.force_open()
    for error in (result.error, other.error, caught.value):
        assert error is not None
        assert error.retry_after == pytest.approx(40.0)
        assert error.details["state"] == "OPEN"
        assert error.reason == "consecutive_failures"
    assert caught.value.timestamp == pytest.approx(time.time() - 1000.0, abs=30.0)
    assert moment > caught.value.timestamp


def test_a_raised_refusal_is_an_exception_like_any_other(make: Make) -> None:
    integration = make()
    integration.force_open()
    guarded = integration.guard(lambda: 1)
    with pytest.raises(CircuitOpenError, match=r"dependency was not called: its circuit is FORCED_OPEN \(operator\)"):
        guarded()
    with pytest.raises(IntegrationError) as caught:
        try:
            raise KeyError("before")
        except KeyError:
            guarded()
    assert isinstance(caught.value.__context__, KeyError)
    assert caught.value.__cause__ is None
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names == ["test_a_raised_refusal_is_an_exception_like_any_other"]
    text = "".join(traceback.format_exception(caught.value))
    assert "CircuitOpenError: dependency was not called" in text
    assert repr(caught.value) == f"CircuitOpenError({caught.value.message!r}, code='DB_CIRCUIT_OPEN')"


def test_two_refusals_are_two_errors(make: Make) -> None:
    integration = make()
    integration.force_open()
    guarded = integration.guard(lambda: 1)
    first, second = guarded.outcome(), guarded.outcome()
    assert first.error is not second.error
    assert first.error is first.error


def test_threads_that_look_at_one_refusal_see_one_error(make: Make) -> None:
    """The error is made at the first look, which several threads may take at once."""
    integration = make()
    integration.force_open()
    guarded = integration.guard(lambda: 1)
    results = [guarded.outcome() for _ in range(20_000)]
    start = threading.Barrier(4)
    seen: list[list[object]] = []

    def look() -> None:
        start.wait(30)
        seen.append([result.error for result in results])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(seen) == 4
    assert sum(len(set(map(id, errors))) > 1 for errors in zip(*seen, strict=True)) == 0


def test_a_field_can_be_set_before_others_are_asked_for(make: Make) -> None:
    integration = make()
    integration.force_open()
    error = integration.guard(lambda: 1).outcome().error
    error.reason = "mine"
    error.extra = 1
    assert (error.reason, error.extra, error.operation) == ("mine", 1, "<lambda>")
    with pytest.raises(AttributeError, match="'CircuitOpenError' object has no attribute 'missing'"):
        error.missing
    assert hasattr(error, "code")
    assert not hasattr(error, "status")


# ---- errors on their way to other processes


def errors(make: Make) -> dict[str, IntegrationError]:
    integration = make(retries=2, threshold=60_000)
    timed_out = IntegrationTimeoutError("late", integration_name="x", details={"q": 1}, attempts=3)
    failed = integration.guard(raising(EOFError("gone"))).outcome().error
    detailed = integration.guard(raising(KeyError("k")), details={"lock": gc, "n": 1}).outcome().error
    unpicklable = integration.guard(raising(ValueError(lambda: 1))).outcome().error
    integration.force_open()
    refused = integration.guard(lambda: 1).outcome().error
    return {
        "timed out": timed_out, "failed": failed, "detailed": detailed, "unpicklable": unpicklable, "refused": refused,
    }  # fmt: skip


@pytest.mark.parametrize("which", ["timed out", "failed", "detailed", "unpicklable", "refused"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_pickle(make: Make, which: str, protocol: int) -> None:
    error = errors(make)[which]
    there = pickle.loads(pickle.dumps(error, protocol))
    assert type(there) is type(error)
    assert there.args == (error.message,)
    assert str(there) == str(error)
    for name in ("code", "category", "message", "timestamp", "retryable", "operation", "attempts", "retry_after"):
        assert getattr(there, name) == getattr(error, name), name
    assert there.reason == error.reason
    assert there.integration_type == error.integration_type
    if which == "unpicklable":
        assert there.original_error == repr(error.original_error)
    else:
        assert repr(there.original_error) == repr(error.original_error)
        assert repr(there.__cause__) == repr(error.__cause__)
    if which == "detailed":
        assert there.details["n"] == 1
        assert "module" in there.details["lock"]
    again = pickle.loads(pickle.dumps(there, protocol))
    assert again.to_dict() == there.to_dict()


@pytest.mark.parametrize("which", ["timed out", "failed", "refused"])
def test_errors_copy(make: Make, which: str) -> None:
    error = errors(make)[which]
    for made in (copy.copy(error), copy.deepcopy(error)):
        assert type(made) is type(error)
        assert made.to_dict() == error.to_dict()


def test_errors_are_ready_for_json(make: Make) -> None:
    import json

    for which, error in errors(make).items():
        if which != "detailed":
            said = json.loads(json.dumps(error.to_dict()))
            assert said["code"] == error.code
            assert said["message"] == str(error)


def test_a_timeout_error_is_a_timeout_error() -> None:
    with pytest.raises(TimeoutError):
        raise IntegrationTimeoutError("late")
    error = IntegrationTimeoutError("late")
    assert str(error) == "late"
    assert error.category is ErrorCategory.TIMEOUT
    assert failsoft.classify_error(error) is ErrorCategory.TIMEOUT


def test_a_storm_of_refusals_is_on_time() -> None:
    """By the real clock: no call is let go early, and the wait that refusals tell only ever gets shorter."""
    reset = 0.02
    settings = failsoft.default_config("database").with_(
        circuit_breaker={"failure_threshold": 1, "reset_timeout": reset, "reset_jitter": 0.0}
    )
    stormy = failsoft.Registry().integration("stormy", "database", settings)
    answers = iter([OSError()])

    @stormy.guard(retry=False)
    def once_down() -> int:
        for error in answers:
            raise error
        return 1

    began = time.monotonic_ns()
    with pytest.raises(OSError):
        once_down()
    waits = []
    while not (result := once_down.outcome()).success:
        assert isinstance(result.error, CircuitOpenError)
        waits.append(result.error.retry_after)
    assert time.monotonic_ns() - began >= reset * 1e9
    assert len(waits) > 10
    assert all(later <= earlier + 1e-6 for earlier, later in zip(waits, waits[1:], strict=False))
