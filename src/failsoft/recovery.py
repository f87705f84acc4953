"""What happens to a call that did not succeed at once: classification, retry and fallback.

The compiled guards come here with a failed, refused or judged first attempt, and never for a success. One course of
decisions serves sync and async calls: `_course` is a generator that yields what has to be done (wait, attempt, ask a
fallback) and is sent how it went; two short drivers do it, one by calling, one by awaiting.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Hashable, Mapping
from operator import attrgetter

from . import answers, events, expiry, load, recorder, timers
from ._core import REASONS, STATES, THROTTLED, limits, now_ns
from .asking import ask, ask_async
from .checks import LONGEST
from .classify import classify_error, never_sent, retry_after_of
from .config import CircuitState, ErrorCategory, FallbackType, IntegrationConfig, RetryPolicy
from .course import (
    ATTEMPT,
    FAILED,
    FALLBACKS,
    IGNORED,
    JUDGED,
    RAISE,
    REFUSED,
    RESULT,
    RETRIES,
    SECOND,
    SUCCEEDED,
    TIMEOUTS,
    Attempt,
    End,
    Final,
)
from .errors import IntegrationError
from .fallbacks import Aged, memory_of
from .functions import is_awaitable, looks_of
from .metrics import OperationMetrics
from .retry import retryable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from typing import Any

    from ._core import Operation, Refusal
    from .batches import Batch
    from .course import AnyGuard, Arguments
    from .dedupe import Flights
    from .fallbacks import Fallback
    from .integrations import Integration


_UNKNOWN = float("nan")


class Terms:
    """What the settings of an integration say about calls that do not succeed, worked out once for all its guards."""

    __slots__ = ("cancel_after", "overall", "patience", "policy", "retries", "timeout", "trip_on")

    def __init__(self, config: IntegrationConfig) -> None:
        self.policy = config.retry_policy
        self.retries = config.retry_policy.max_retries
        self.overall = round(config.timeouts.overall * SECOND)  # ns
        self.timeout = config.circuit_breaker.timeout
        self.trip_on = config.circuit_breaker.trip_on
        self.patience = config.timeouts.read
        counts_after = config.circuit_breaker.cancel_counts_after
        self.cancel_after = self.patience if counts_after is None else counts_after


class Special:
    """The options that few guards have."""

    __slots__ = ("bare", "details", "failure", "flights", "hedge", "key", "max_keys", "skip")

    def __init__(
        self,
        failure: Callable[[Any], ErrorCategory | str | None] | None = None,
        details: Mapping[str, object] | Callable[..., Mapping[str, object]] | None = None,
        key: Callable[..., Hashable] | None = None,
        max_keys: int = 1,
        flights: Flights | None = None,
        skip: int = 0,
        hedge: float | None = None,
    ) -> None:
        self.failure = failure
        self.details = details
        self.key = key
        self.max_keys = max_keys
        self.flights = flights
        self.skip = skip  # leading arguments that are not the operation's own: what to call
        self.hedge = hedge  # the quantile after which a second attempt starts
        self.bare: Callable[..., Any] | None = None  # what is hedged


_PLAIN = Special()
"""Those of all guards that have none of them."""


def _of(path: str) -> Any:
    """A property that lies in what guards share."""
    return property(attrgetter(path))


class Recovery:
    """The policies of one guard, and what they come to when they are needed."""

    __slots__ = ("fallbacks", "idempotent", "integration", "memory", "operation", "record", "retry", "special", "terms")

    cancel_after: float = _of("terms.cancel_after")
    overall: int = _of("terms.overall")  # ns
    patience: float = _of("terms.patience")
    policy: RetryPolicy = _of("terms.policy")
    timeout: float = _of("terms.timeout")

    bare: Callable[..., Any] | None = _of("special.bare")
    details: Mapping[str, object] | Callable[..., Mapping[str, object]] | None = _of("special.details")
    failure: Callable[[Any], ErrorCategory | str | None] | None = _of("special.failure")
    flights: Flights | None = _of("special.flights")
    hedge: float | None = _of("special.hedge")
    key: Callable[..., Hashable] | None = _of("special.key")
    max_keys: int = _of("special.max_keys")
    skip: int = _of("special.skip")

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
        key: Callable[..., Hashable] | None = None,
        max_keys: int = 1,
        flights: Flights | None = None,
        skip: int = 0,
        hedge: float | None = None,
    ) -> None:
        self.integration = integration
        self.operation = operation
        self.record = record
        self.fallbacks = fallbacks
        self.retry = retry
        self.idempotent = idempotent
        self.memory = memory_of(fallbacks)
        special = skip or any(option is not None for option in (failure, details, key, flights, hedge))
        self.special = Special(failure, details, key, max_keys, flights, skip, hedge) if special else _PLAIN
        self.terms = integration.terms  # until others hold

    @property
    def retries(self) -> int:
        """Attempts after the first, at most."""
        return self.terms.retries if self.retry else 0

    # ---- what the compiled guards call

    def failed(
        self, guard: AnyGuard, mode: int, error: Exception, _: None, permit: int, took: int, arguments: Arguments
    ) -> Any:
        """The first attempt of a sync call raised."""
        end = End(FAILED, error, permit, took)
        if mode == RAISE and not self.fallbacks and (why := self._final(end)) is not None:
            final = Final()
            final.attempts, final.error = 1, error
            final.category = self._settle(guard, end)
            if why and not guard._disabled:
                self._give_up(final, why, _not_retried(final.category) if why == recorder.NOT_RETRYABLE else None)
            answers.log(self, final, arguments)
            return False, error
        return self._run(guard, mode, end, arguments)

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

    def failed_async(
        self, guard: AnyGuard, mode: int, error: Exception, _: None, permit: int, took: int, arguments: Arguments
    ) -> Coroutine[Any, Any, Any]:
        """As `failed`, for an awaited call."""
        return self._run_async(guard, mode, End(FAILED, error, permit, took), arguments)

    def refused_async(
        self, guard: AnyGuard, mode: int, refusal: Refusal, _c: None, _p: int, _t: int, arguments: Arguments
    ) -> Coroutine[Any, Any, Any]:
        """As `refused`, for an awaited call."""
        return self._run_async(guard, mode, End(REFUSED, refusal, 0, 0), arguments)

    def judged_async(
        self, guard: AnyGuard, mode: int, value: object, category: str, permit: int, took: int, arguments: Arguments
    ) -> Coroutine[Any, Any, Any]:
        """As `judged`, for an awaited call."""
        return self._run_async(guard, mode, End(JUDGED, (value, category), permit, took), arguments)

    def refusal_seen(self, guard: AnyGuard, mode: int, refusal: Refusal) -> None:
        """The gate has refused: the first time in a while, or somebody listens to refusals."""
        late, limited = refusal.late, refusal.limited
        if events.listening(events.Refusal):
            refused_by = answers.DEADLINE_PASSED if late else load.NAMES.get(refusal.load)
            events.publish(
                events.Refusal(
                    self.integration.name,
                    self.operation,
                    CircuitState(STATES[refusal.state]),
                    refused_by or (self.limit_reason() if limited else REASONS[refusal.because]),
                    refusal.retry_after,
                    refusal.capacity if limited or refusal.load == THROTTLED else None,
                    time.time(),
                )
            )
        if mode != ATTEMPT and not self.fallbacks and not late:  # the others are logged at the end of their course
            final = Final()
            final.refusal = refusal
            answers.log(self, final, None)

    def judge(self, value: Any) -> ErrorCategory | None:
        """What `failure=` makes of a value. Nonsense is a ValueError, which changes nothing for the caller."""
        category = self.failure(value) if self.failure else None
        return None if category is None else ErrorCategory(category)

    def expired(
        self, task: Task[Any], cancelling: int, error: BaseException | None, seconds: float
    ) -> BaseException | None:
        """What to raise in place of `error` where an attempt, given so many seconds, was cancelled for that."""
        return expiry.verdict(task, cancelling, error, lambda: answers.expired(self, seconds))

    def many(self, guard: AnyGuard, n: int) -> Batch:
        """n items as one guarded call."""
        from .batches import Batch

        return Batch(guard, n)

    def wait(self, n: int, code: int, until: int) -> int:
        """Load control has no room for n sync calls: wait for it, until `until` (ns; 0: no bound). 0: all are in."""
        return self.integration.queue.wait(n, code, self._bound(until))

    async def wait_async(self, n: int, code: int, until: int) -> int:
        """The same for an awaited call."""
        return await self.integration.queue.wait_async(n, code, self._bound(until))

    def _bound(self, until: int) -> int:
        return until or now_ns() + self.terms.overall

    def shake(self) -> tuple[Any] | None:
        """Chaos is on: what befalls the sync attempt that is about to be made. See chaos_plans.py."""
        from .chaos_plans import shake

        return shake(self)

    def shake_async(self, made: Any) -> Any:
        """The same for an awaited one: what is awaited in place of `made`."""
        if self.hedge is not None:  # its attempts ask one by one
            return made
        from .chaos_plans import shake_async

        return shake_async(self, made)

    def in_loop(self) -> bool:
        """Whether a loop runs in this thread."""
        return timers.running_loop() is not None

    def place_left(self) -> None:
        """A call has ended, and somebody waits for its place."""
        self.integration.queue.serve()

    def metrics(self) -> OperationMetrics:
        """The numbers of this operation now."""
        return self.integration.metrics(self.integration.recorded_as(self.operation))

    def looks(self, guard: AnyGuard) -> dict[str, object]:
        """What the guard of a plain function has in its `__dict__`."""
        return looks_of(guard.__wrapped__, type(guard), self.operation)

    def describe(self, refusal: Refusal) -> dict[str, object]:
        """Every field of the error for a refusal."""
        return answers.describe(self, refusal)

    def shard(self, guard: AnyGuard, key: Hashable) -> AnyGuard:
        """The guard for a key that has not been seen yet."""
        return self.integration.guard_for_key(guard, key)

    # ---- what rooms around this one ask

    def outcome_of(self, category: ErrorCategory) -> int:
        """How a failure of this category counts for the breaker."""
        if category in self.terms.trip_on:
            return FAILED
        return IGNORED if category is ErrorCategory.VALIDATION else SUCCEEDED  # otherwise somebody answered

    def log_block(self, error: Exception) -> None:
        """A block that was an attempt has raised."""
        final = Final()
        final.attempts, final.error, final.category = 1, error, classify_error(error)
        answers.log(self, final, None)

    def shared_failure(self, mode: int, error: IntegrationError) -> Any:
        """The answer for who waited in vain for a call like theirs."""
        if mode == RESULT:
            return answers.failed_result(error)
        raise error

    def limit_reason(self) -> str:
        """Why fewer than all calls go."""
        return self.integration.limit_reason()

    # ---- the course of a call, and its two drivers

    def _course(
        self, guard: AnyGuard, end: End, around: tuple[int, bool] | None
    ) -> Generator[float | Attempt | Fallback, Any, Final]:
        started = now_ns() - end.took
        until, whose = started + self.terms.overall, "overall deadline"
        if around is not None and around[0] < until:
            until, whose = around[0], f"deadline of the {'block' if around[1] else 'guarded call'} around it"
        final = Final()
        previous = 0.0
        while end.kind != REFUSED:
            final.attempts += 1
            if end.kind == SUCCEEDED:
                final.success, final.value, final.error, final.reason = True, end.payload, None, None
                final.late = end.took >= round(self.terms.timeout * SECOND) or now_ns() >= until
                return final
            final.category = self._settle(guard, end)
            final.judged = end.kind == JUDGED
            if final.judged:
                final.value, final.error = end.payload[0], None
            else:
                final.value, final.error = None, end.payload
            if guard._disabled:
                return final
            wait = self._wait(final, previous, until, whose)
            if wait is None:
                break
            self._tell_retry(final, wait)
            final.delays += (wait,)
            previous = wait
            yield wait
            end = yield Attempt(until)
        else:
            final.refusal = end.payload
            final.reason = answers.words_of(self, end.payload)
            if final.attempts:
                self._give_up(final, recorder.REFUSED)
        for fallback in self.fallbacks:
            good, answer = yield fallback
            if good:
                self._take(final, fallback.type, answer)
                break
            final.fallback_errors += ((fallback.type, answer),)
        return final

    def _run(self, guard: AnyGuard, mode: int, end: End, arguments: Arguments) -> Any:
        args, kwargs = arguments or ((), {})
        course = self._course(guard, end, limits())
        began = now_ns() - end.took
        answer: Any = None
        try:
            while True:
                step = course.send(answer)
                if isinstance(step, float):
                    timers.current.sleep(step)
                    answer = None
                elif isinstance(step, Attempt):
                    attempt = guard._attempt(step.until, args, kwargs)
                    if not isinstance(attempt, tuple):  # what has raised when called gives an awaitable now
                        rest = self._finish(guard, mode, course, _ended(attempt), began, arguments)
                        return rest if mode == RESULT else (True, _unpacked(rest))
                    answer = End(*attempt)
                else:
                    answer = ask(self, guard, step, args, kwargs)
                    if answer[0] and is_awaitable(answer[1]):
                        # An async fallback of what turns out to be an async call: go on when it is awaited.
                        waiting = ask_async(self, step, answer[1])
                        rest = self._finish(guard, mode, course, waiting, began, arguments)
                        return rest if mode == RESULT else (True, _unpacked(rest))
        except StopIteration as stop:
            final = stop.value
        return self._answer(guard, mode, final, began, arguments)

    def _run_async(self, guard: AnyGuard, mode: int, end: End, arguments: Arguments) -> Coroutine[Any, Any, Any]:
        # No coroutine function: in the coroutine, the call's own deadline would be around us too.
        return self._finish(guard, mode, self._course(guard, end, limits()), None, now_ns() - end.took, arguments)

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
                    answer = ask(self, guard, step, args, kwargs, is_async=True)
                    if answer[0] and is_awaitable(answer[1]):
                        answer = await ask_async(self, step, answer[1])
        except StopIteration as stop:
            final = stop.value
        return self._answer(guard, mode, final, began, arguments)

    def _answer(self, guard: AnyGuard, mode: int, final: Final, began: int, arguments: Arguments) -> Any:
        if self.memory is not None and final.success and not final.late and final.fallback is None:
            args, kwargs = arguments or ((), {})
            guard._remember(args, kwargs, final.value)
        return answers.answer(self, guard, mode, final, began, arguments)

    # ---- the decisions

    def _final(self, end: End) -> int | None:
        """Why this failure of a first attempt cannot be retried at all, 0 where nothing ever is; None: it may be.

        A quick answer spares the whole course, in which `_wait` would come to the same.
        """
        error: Exception = end.payload
        category = end.category = classify_error(error)
        policy = self.terms.policy
        worth_it = retryable(policy, category, None) or retryable(policy, category, retry_after_of(error))
        if not worth_it:
            return recorder.NOT_RETRYABLE
        if not self.retries:
            return 0
        return None if self.idempotent or never_sent(error) else recorder.NOT_IDEMPOTENT

    def _settle(self, guard: AnyGuard, end: End) -> ErrorCategory:
        """Tell record and breaker how a failed attempt counts."""
        category: ErrorCategory = end.payload[1] if end.kind == JUDGED else end.category or classify_error(end.payload)
        if category is ErrorCategory.TIMEOUT:
            self.record.note(TIMEOUTS)
        guard._settle(end.permit, self.outcome_of(category), end.took)
        if category is ErrorCategory.RATE_LIMIT:
            self.integration.unaccepted()
        return category

    def _wait(self, final: Final, previous: float, until: int, whose: str) -> float | None:
        """Seconds until the next attempt. None: there is none, and `final.reason` says why."""
        hint = answers.hint_of(final)
        if not retryable(self.terms.policy, final.category, hint):
            return self._give_up(final, recorder.NOT_RETRYABLE, _not_retried(final.category))
        retries = self.retries
        if final.attempts > retries:
            return self._give_up(final, recorder.USED_UP) if retries else None
        if not self.idempotent and not (final.error is not None and never_sent(final.error)):
            return self._give_up(final, recorder.NOT_IDEMPOTENT)
        drawn = self.integration.backoff.delay(final.attempts - 1, previous)
        wait = min(drawn if hint is None else max(hint, 0.0), LONGEST)
        if now_ns() + wait * SECOND >= until:
            asked = "asked for" if hint is not None else "needed"
            words = f"a wait of {wait:.3g} s is {asked} and the {whose} comes first"
            return self._give_up(final, recorder.NO_TIME, words)
        budget = self.integration.retry_budget
        if budget is not None and not budget.retry(self.integration.breaker):
            return self._give_up(final, recorder.NO_BUDGET)
        return wait

    def _give_up(self, final: Final, code: int, words: str | None = None) -> float | None:
        """No further attempt, and why."""
        final.gave_up = code
        if code != recorder.REFUSED:
            final.reason = words or recorder.GIVE_UPS[code]
        self._note(recorder.GIVE_UP, code, final.attempts)
        return None

    def _tell_retry(self, final: Final, wait: float) -> None:
        self.record.note(RETRIES)
        self._note(recorder.RETRY, recorder.CATEGORIES.index(final.category), final.attempts + 1, wait)
        if events.listening(events.Retry):
            name, attempt = self.integration.name, final.attempts + 1
            events.publish(events.Retry(name, self.operation, attempt, wait, final.category, final.error, time.time()))

    def _take(self, final: Final, kind: FallbackType, answer: Any) -> None:
        """A fallback has answered."""
        if isinstance(answer, Aged):
            final.value, final.age = answer.value, answer.age
        else:
            final.value = answer
        final.success = kind is not FallbackType.ERROR_RESPONSE
        final.fallback = kind
        self.record.note(FALLBACKS)
        self._note(recorder.FALLBACK, recorder.FALLBACKS.index(kind), 0, _UNKNOWN if final.age is None else final.age)
        if events.listening(events.FallbackUsed):
            name = self.integration.name
            events.publish(events.FallbackUsed(name, self.operation, kind, final.age, final.error, time.time()))

    def _note(self, kind: int, code: int, attempt: int, number: float = 0.0) -> None:
        self.integration.breaker.note(kind, code, attempt, number, self.record.number)


def _not_retried(category: ErrorCategory) -> str:
    return f"{category} errors are not retried"


async def _ended(attempt: Awaitable[tuple[Any, ...]]) -> End:
    return End(*await attempt)


async def _unpacked(answer: Awaitable[tuple[bool, Any]]) -> Any:
    good, payload = await answer
    if not good:
        raise payload
    return payload
