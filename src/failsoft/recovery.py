"""What happens to a call that did not succeed at once: classification, retry, fallback, and the words for it.

The compiled guards come here with a failed, refused or judged first attempt, and never for a success. One course of
decisions serves sync and async calls: `_course` is a generator that yields what has to be done (wait, attempt, ask a
fallback) and is sent how it went; two short drivers do it, one by calling, one by awaiting.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Mapping

from . import deadlines, timers
from ._core import EVENTS, REASONS, STATES, IntegrationResult, now_ns
from .breakers import refusal_message
from .config import LONGEST, CircuitState, ErrorCategory, FallbackType
from .errors import (
    CircuitOpenError,
    IntegrationError,
    IntegrationTimeoutError,
    classify_error,
    never_sent,
    retry_after_of,
)
from .metrics import OperationMetrics, read_metrics
from .retry import retryable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from ._core import AsyncGuard, Guard, Operation, Refusal
    from .fallbacks import Fallback
    from .registry import Integration

    AnyGuard: TypeAlias = Guard[..., Any] | AsyncGuard[..., Any]
    Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]] | None

SUCCEEDED, FAILED, IGNORED, REFUSED, JUDGED = range(5)
RAISE, RESULT = range(2)
"""The codes of csrc/python/guard.h: how an attempt ended, and what its caller wants."""

RETRIES, FALLBACKS, TIMEOUTS = (EVENTS.index(name) for name in ("retries", "fallbacks", "timeouts"))

SECOND = 1_000_000_000

ATTEMPT_TIMEOUT = "attempt timeout"


class End:
    """How one attempt ended: `payload` is the value, the exception, the Refusal, or (value, category) if judged."""

    __slots__ = ("kind", "payload", "permit", "took")

    def __init__(self, kind: int, payload: Any, permit: int, took: int) -> None:
        self.kind = kind
        self.payload = payload
        self.permit = permit
        self.took = took  # ns


class Attempt:
    """A step: try once more, until the CLOCK_MONOTONIC time `until` (ns)."""

    __slots__ = ("until",)

    def __init__(self, until: int) -> None:
        self.until = until


class Final:
    """What the call has come to."""

    def __init__(self) -> None:
        self.success = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.category = ErrorCategory.UNKNOWN
        self.refusal: Refusal | None = None
        self.attempts = 0
        self.delays: tuple[float, ...] = ()
        self.reason: str | None = None
        self.judged = False
        self.fallback: FallbackType | None = None
        self.fallback_errors: tuple[tuple[FallbackType, BaseException], ...] = ()


class Recovery:
    """The policies of one guard, and what they come to when they are needed."""

    __slots__ = (
        "_backoff", "details", "failure", "fallbacks", "idempotent", "integration", "operation", "overall", "patience",
        "policy", "record", "retries", "timeout", "trip_on",
    )  # fmt: skip

    def __init__(
        self,
        integration: Integration,
        operation: str,
        record: Operation,
        *,
        failure: Callable[[Any], ErrorCategory | str | None] | None = None,
        fallbacks: tuple[Fallback, ...],
        retry: bool,
        idempotent: bool,
        details: Mapping[str, object] | Callable[..., Mapping[str, object]] | None = None,
    ) -> None:
        config = integration.config
        self.integration = integration
        self.operation = operation
        self.record = record
        self.failure = failure
        self.fallbacks = fallbacks
        self.idempotent = idempotent
        self.details = details
        self.policy = config.retry_policy
        self.retries = config.retry_policy.max_retries if retry else 0
        self.overall = round(config.timeouts.overall * SECOND)
        self.timeout = config.circuit_breaker.timeout
        self.trip_on = config.circuit_breaker.trip_on
        self.patience = config.timeouts.read
        self._backoff = integration.backoff

    # ---- what the compiled guards call

    def failed(
        self, guard: AnyGuard, mode: int, error: Exception, _: None, permit: int, took: int, arguments: Arguments
    ) -> Any:
        """The first attempt of a sync call raised."""
        if mode == RAISE and not self.fallbacks and not self._again(error):
            self._settle(guard, End(FAILED, error, permit, took))
            return False, error
        return self._run(guard, mode, End(FAILED, error, permit, took), arguments)

    def refused(
        self, guard: AnyGuard, mode: int, refusal: Refusal, _c: None, _p: int, _t: int, arguments: Arguments
    ) -> Any:
        """The gate refused a sync call that has fallbacks."""
        return self._run(guard, mode, End(REFUSED, refusal, 0, 0), arguments)

    def judged(
        self, guard: AnyGuard, mode: int, value: object, category: str, permit: int, took: int, arguments: Arguments
    ) -> Any:
        """`failure=` found fault with the value of a sync call."""
        return self._run(guard, mode, End(JUDGED, (value, category), permit, took), arguments)

    async def failed_async(
        self, guard: AnyGuard, mode: int, error: Exception, _: None, permit: int, took: int, arguments: Arguments
    ) -> Any:
        """As `failed`, for an awaited call."""
        return await self._run_async(guard, mode, End(FAILED, error, permit, took), arguments)

    async def refused_async(
        self, guard: AnyGuard, mode: int, refusal: Refusal, _c: None, _p: int, _t: int, arguments: Arguments
    ) -> Any:
        """As `refused`, for an awaited call."""
        return await self._run_async(guard, mode, End(REFUSED, refusal, 0, 0), arguments)

    async def judged_async(
        self, guard: AnyGuard, mode: int, value: object, category: str, permit: int, took: int, arguments: Arguments
    ) -> Any:
        """As `judged`, for an awaited call."""
        return await self._run_async(guard, mode, End(JUDGED, (value, category), permit, took), arguments)

    def judge(self, value: Any) -> ErrorCategory | None:
        """What `failure=` makes of a value. Nonsense is a ValueError, which changes nothing for the caller."""
        category = self.failure(value) if self.failure else None
        return None if category is None else ErrorCategory(category)

    def outcome_of(self, category: ErrorCategory) -> int:
        """How a failure of this category counts for the breaker."""
        if category in self.trip_on:
            return FAILED
        return IGNORED if category is ErrorCategory.VALIDATION else SUCCEEDED  # otherwise somebody answered

    def arm(self, seconds: float) -> deadlines.AttemptDeadline | None:
        """Bound a suspended attempt."""
        return deadlines.arm(seconds, self._expired)

    def metrics(self) -> OperationMetrics:
        """The numbers of this operation now."""
        return read_metrics(self.record)

    def describe(self, refusal: Refusal) -> dict[str, object]:
        """Every field of the error for a refusal."""
        state, reason = STATES[refusal.state], REASONS[refusal.because]
        wait = refusal.retry_after
        error = CircuitOpenError(
            refusal_message(self.integration.name, state, reason, wait),
            integration_type=self.integration.type,
            details={"state": state, "failures": refusal.failures, "generation": refusal.generation},
            timestamp=time.time() - refusal.age,
            retryable=True,
            integration_name=self.integration.name,
            operation=self.operation,
            retry_after=wait,
            reason=reason,
        )
        return dict(vars(error))

    # ---- the course of a call, and its two drivers

    def _course(self, guard: AnyGuard, end: End) -> Generator[float | Attempt | Fallback, Any, Final]:
        started = now_ns() - end.took
        until = started + self.overall
        final = Final()
        previous = 0.0
        while end.kind != REFUSED:
            final.attempts += 1
            if end.kind == SUCCEEDED:
                final.success, final.value, final.error, final.reason = True, end.payload, None, None
                return final
            final.category = self._settle(guard, end)
            final.judged = end.kind == JUDGED
            if final.judged:
                final.value, final.error = end.payload[0], None
            else:
                final.value, final.error = None, end.payload
            if guard._disabled:
                return final
            wait, final.reason = self._wait(final, previous, until)
            if wait is None:
                break
            self.record.note(RETRIES)
            final.delays += (wait,)
            previous = wait
            yield wait
            end = yield Attempt(until)
        else:
            final.refusal = end.payload
            final.reason = self._words(end.payload)
        for fallback in self.fallbacks:
            good, answer = yield fallback
            if good:
                self.record.note(FALLBACKS)
                final.success = fallback.type is not FallbackType.ERROR_RESPONSE
                final.value, final.fallback = answer, fallback.type
                break
            final.fallback_errors += ((fallback.type, answer),)
        return final

    def _run(self, guard: AnyGuard, mode: int, end: End, arguments: Arguments) -> Any:
        args, kwargs = arguments or ((), {})
        course = self._course(guard, end)
        began = now_ns() - end.took
        answer: Any = None
        try:
            while True:
                step = course.send(answer)
                if isinstance(step, float):
                    timers.current.sleep(step)
                    answer = None
                elif isinstance(step, Attempt):
                    answer = End(*guard._attempt(step.until, args, kwargs))
                else:
                    answer = self._ask(step, args, kwargs)
                    if answer[0] and hasattr(answer[1], "__await__"):
                        # An async fallback of what turns out to be an async call: go on when it is awaited.
                        rest = self._finish(guard, mode, course, self._ask_async(answer[1]), began, arguments)
                        return rest if mode == RESULT else (True, _unpacked(rest))
        except StopIteration as stop:
            final = stop.value
        return self._answer(guard, mode, final, began, arguments)

    async def _run_async(self, guard: AnyGuard, mode: int, end: End, arguments: Arguments) -> Any:
        return await self._finish(guard, mode, self._course(guard, end), None, now_ns() - end.took, arguments)

    async def _finish(
        self,
        guard: AnyGuard,
        mode: int,
        course: Generator[float | Attempt | Fallback, Any, Final],
        first: Awaitable[Any] | None,
        began: int,
        arguments: Arguments,
    ) -> Any:
        args, kwargs = arguments or ((), {})
        answer: Any = None if first is None else await first
        try:
            while True:
                step = course.send(answer)
                if isinstance(step, float):
                    await timers.current.sleep_async(step)
                    answer = None
                elif isinstance(step, Attempt):
                    attempt = guard._attempt(step.until, args, kwargs)
                    answer = End(*(attempt if isinstance(attempt, tuple) else await attempt))
                else:
                    answer = self._ask(step, args, kwargs)
                    if answer[0] and hasattr(answer[1], "__await__"):
                        answer = await self._ask_async(answer[1])
        except StopIteration as stop:
            final = stop.value
        return self._answer(guard, mode, final, began, arguments)

    @staticmethod
    def _ask(fallback: Fallback, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, Any]:
        try:
            return True, fallback.handler(*args, **kwargs)
        except Exception as error:
            return False, error

    @staticmethod
    async def _ask_async(answer: Any) -> tuple[bool, Any]:
        try:
            return True, await answer
        except Exception as error:
            return False, error

    # ---- the decisions

    def _again(self, error: Exception) -> bool:
        """Could this failure of a first attempt be retried at all? A quick no spares the whole course."""
        if not self.retries or not (self.idempotent or never_sent(error)):
            return False
        category = classify_error(error)
        return retryable(self.policy, category, None) or retryable(self.policy, category, retry_after_of(error))

    def _settle(self, guard: AnyGuard, end: End) -> ErrorCategory:
        """Tell record and breaker how a failed attempt counts."""
        category: ErrorCategory = end.payload[1] if end.kind == JUDGED else classify_error(end.payload)
        if category is ErrorCategory.TIMEOUT:
            self.record.note(TIMEOUTS)
        guard._settle(end.permit, self.outcome_of(category), end.took)
        return category

    def _wait(self, final: Final, previous: float, until: int) -> tuple[float | None, str | None]:
        """Seconds until the next attempt, or None and the reason why there is none."""
        hint = _hint(final)
        if not retryable(self.policy, final.category, hint):
            return None, f"{final.category} errors are not retried"
        if final.attempts > self.retries:
            return None, "all retries are used up" if self.retries else None
        if not self.idempotent and not (final.error is not None and never_sent(final.error)):
            return None, "the operation is not idempotent and may have been carried out"
        drawn = self._backoff.delay(final.attempts - 1, previous)
        wait = min(drawn if hint is None else max(hint, 0.0), LONGEST)
        if now_ns() + wait * SECOND >= until:
            asked = "asked for" if hint is not None else "needed"
            return None, f"a wait of {wait:.3g} s is {asked} and the overall deadline comes first"
        return wait, None

    # ---- the answers

    def _answer(self, guard: AnyGuard, mode: int, final: Final, began: int, arguments: Arguments) -> Any:
        if mode == RESULT:
            failed = not final.success or final.fallback is not None
            return IntegrationResult(
                final.success,
                data=final.value,
                error=self._error(final, arguments) if failed else None,
                guard=guard,
                duration=max(now_ns() - began, 0) / SECOND,
                attempts=final.attempts,
                fallback_type=final.fallback,
            )
        if final.success or final.fallback is not None or final.judged:
            return True, final.value  # a judged value goes back as the bare function gave it
        error = final.error if final.error is not None else final.refusal.error()  # type: ignore[union-attr]
        _annotate(error, final)
        return False, error

    def _error(self, final: Final, arguments: Arguments) -> IntegrationError:
        """The standard form of what went wrong with the primary operation."""
        if isinstance(final.error, IntegrationError):
            error = final.error
            if isinstance(error, IntegrationTimeoutError) and error.reason == ATTEMPT_TIMEOUT:
                error.attempts = final.attempts  # ours, made while the attempt still ran
                error.reason = final.reason or error.reason
                error.details = {**error.details, **self._details(final, arguments)}
            return error
        if final.error is None and final.refusal is not None and not final.judged:
            refused: CircuitOpenError = final.refusal.error()
            return refused
        kind = IntegrationTimeoutError if final.category is ErrorCategory.TIMEOUT else IntegrationError
        original = final.error
        words = _shown(str, final.value) if original is None else _shown(str, original) or type(original).__name__
        return kind(
            f"{self.operation}: {words}",
            category=final.category,
            original_error=original,
            details=self._details(final, arguments),
            retryable=final.category in self.policy.retryable_errors,
            integration_type=self.integration.type,
            integration_name=self.integration.name,
            operation=self.operation,
            attempts=final.attempts,
            retry_after=_hint(final),
            reason=final.reason,
        )

    def _details(self, final: Final, arguments: Arguments) -> dict[str, object]:
        details: dict[str, object] = {}
        args, kwargs = arguments or ((), {})
        if self.details is not None:
            try:
                details.update(self.details(*args, **kwargs) if callable(self.details) else self.details)
            except Exception as error:
                details["details_error"] = _shown(repr, error)
        details["attempt_timeout"] = self.timeout
        details["delays"] = final.delays
        return details

    def _expired(self, seconds: float) -> IntegrationTimeoutError:
        return IntegrationTimeoutError(
            f"{self.operation}: no answer within {seconds:.3g} s",
            details={"attempt_timeout": self.timeout},
            integration_type=self.integration.type,
            integration_name=self.integration.name,
            operation=self.operation,
            reason=ATTEMPT_TIMEOUT,
        )

    def _words(self, refusal: Refusal) -> str:
        state, reason = CircuitState(STATES[refusal.state]), REASONS[refusal.because]
        return f"the gate refused: circuit {state}" + (f" ({reason})" if reason else "")


async def _unpacked(answer: Awaitable[tuple[bool, Any]]) -> Any:
    good, payload = await answer
    if not good:
        raise payload
    return payload


def _hint(final: Final) -> float | None:
    """When the peer asked us to come back, in seconds; a judged response may carry it as an error would."""
    source: Any = final.error if final.error is not None else final.value
    return None if source is None or isinstance(source, CircuitOpenError) else retry_after_of(source)


def _shown(how: Callable[[object], str], thing: object) -> str:
    """In words; things of users may have none, which must not become the caller's problem."""
    try:
        return how(thing)[:500]
    except Exception:
        return f"a {type(thing).__name__} without words"


def _annotate(error: BaseException, final: Final) -> None:
    """Say on the exception what was tried, if anything was; else it stays as it came."""
    if final.attempts > 1:
        waited = ", ".join(f"{delay:.3g}" for delay in final.delays)
        error.add_note(f"failsoft: {final.attempts} attempts, after waits of {waited} s; then: {final.reason}")
    for kind, failure in final.fallback_errors:
        error.add_note(f"failsoft: the {kind} fallback failed too: {_shown(repr, failure)}")
