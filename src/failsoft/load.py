"""Load control of an integration: its settings for the core, what it tells of itself, and its refusals in words."""

from __future__ import annotations

import time

from . import forks
from ._core import BULKHEAD_FULL, RATE_LIMITED, STATES, THROTTLED, Load
from .config import IntegrationConfig
from .errors import BulkheadFullError, LoadControlError, RateLimitExceededError, ThrottledError
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._core import Breaker, Refusal
    from .queues import Queue
    from .recovery import Recovery
    from .registry import Registry

NAMES = {RATE_LIMITED: "rate_limit", BULKHEAD_FULL: "bulkhead", THROTTLED: "throttle"}
"""The limits, by the code of a refusal."""

_ERRORS: dict[int, type[LoadControlError]] = {
    RATE_LIMITED: RateLimitExceededError,
    BULKHEAD_FULL: BulkheadFullError,
    THROTTLED: ThrottledError,
}


class LoadStatus(Record):
    """Load control at one moment; the fields of a limit that is off are None.

    `tokens` of at most `burst` are there, and `rate` come in a second. `in_flight` of at most `max_concurrent` calls
    are under way. `waiting` calls wait for either, a batch counting as one. The throttle lets the share `throttled` (0
    to 1) of the calls not go.
    """

    rate: float | None
    burst: int | None
    tokens: float | None
    max_concurrent: int | None
    in_flight: int | None
    throttled: float | None
    waiting: int


def _arm(load: Load, config: IntegrationConfig) -> None:
    """Let these settings hold from now on. What is under way, or taken, stays so."""
    rate, bulkhead, throttle = config.rate_limit, config.bulkhead, config.throttle
    if rate is None:
        load.limit_rate(0.0, 1, 0.0)
    else:
        load.limit_rate(rate.rate, rate.tokens, rate.max_wait)
    load.limit_calls(*((0, 0.0) if bulkhead is None else (bulkhead.max_concurrent, bulkhead.max_wait)))
    window = config.circuit_breaker.window
    if throttle is None:
        load.throttle(0.0, 0.0, 0, window)
    else:
        load.throttle(throttle.ratio, throttle.most, throttle.minimum_calls, window)


def _status(load: Load | None, config: IntegrationConfig, waiting: int) -> LoadStatus:
    """What holds, and how much of it is used."""
    rate, bulkhead, throttle = config.rate_limit, config.bulkhead, config.throttle
    tokens, in_flight, share = (0.0, 0, 1.0) if load is None else load.read()
    return LoadStatus(
        rate=None if rate is None else rate.rate,
        burst=None if rate is None else rate.tokens,
        tokens=None if rate is None else tokens,
        max_concurrent=None if bulkhead is None else bulkhead.max_concurrent,
        in_flight=None if bulkhead is None else in_flight,
        throttled=None if throttle is None else 1.0 - share,
        waiting=waiting,
    )


class LoadControl:
    """Load control of one integration: nothing until its settings want some."""

    __slots__ = ("_breaker", "_queue", "_registry", "core")

    def __init__(self, registry: Registry, breaker: Breaker, config: IntegrationConfig) -> None:
        self._registry = registry
        self._breaker = breaker
        self.core: Load | None = None
        self._queue: Queue | None = None
        self.hold_to(config)

    @staticmethod
    def armed_by(config: IntegrationConfig) -> bool:
        """Whether these settings want any of it."""
        return config.rate_limit is not None or config.bulkhead is not None or config.throttle is not None

    def hold_to(self, config: IntegrationConfig) -> None:
        """Let these settings hold from now on."""
        if self.core is None and self.armed_by(config):
            self.core = Load(self._breaker)
            forks.remember(self.core)
        if self.core is not None:
            _arm(self.core, config)

    def status(self, config: IntegrationConfig) -> LoadStatus:
        """What holds, and how much of it is used."""
        return _status(self.core, config, len(self._queue) if self._queue is not None else 0)

    @property
    def queue(self) -> Queue:
        """Where calls wait for it."""
        queue = self._queue
        if queue is not None:  # asked without the lock: a finaliser that ends a call may hold the queue's own
            return queue
        from .queues import Queue

        with self._registry.lock:
            if self._queue is None:
                assert self.core is not None  # or nobody would wait
                self._queue = Queue(self.core)
            return self._queue

    def serve(self) -> None:
        """Let those who wait look again."""
        if self._queue is not None:
            self._queue.serve()

    def unaccepted(self) -> None:
        """An answer said that there are too many requests: for the throttle."""
        if self.core is not None:
            self.core.unaccepted()


def lines(now: LoadStatus) -> list[str]:
    """The same in words, a line a limit."""
    said = []
    if now.rate is not None:
        said.append(f"rate limit: {now.rate:.6g} a second, {int(now.tokens or 0)} of {now.burst} tokens left")
    if now.max_concurrent is not None:
        said.append(f"bulkhead: {now.in_flight} of {now.max_concurrent} calls under way")
    if now.throttled is not None:
        said.append(f"throttle: {now.throttled * 100:.3g}% of the calls are refused")
    if now.waiting:
        said.append(f"{now.waiting} waiting")
    return said


def words(code: int, allowed: float, retry_after: float | None = None) -> str:
    """Which limit refused, and its numbers."""
    if code == RATE_LIMITED:
        when = "" if retry_after is None else f", next token in {_span(retry_after)}"
        return "rate limit" + (f": {allowed:.6g} a second" if allowed == allowed else "") + when  # a NaN is none
    if code == BULKHEAD_FULL:
        return f"bulkhead: all {allowed:.10g} places are taken"
    return f"throttle: {allowed * 100:.3g}% of the calls may go, as few are accepted"


def _span(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def error_of(recovery: Recovery, refusal: Refusal, context: Mapping[str, object]) -> LoadControlError:
    """The error of a refusal, with every field."""
    integration, name = recovery.integration, NAMES[refusal.load]
    said = words(refusal.load, refusal.allowed, refusal.retry_after)
    return _ERRORS[refusal.load](
        f"{integration.name} was not called: {said}",
        integration_type=integration.type,
        details={**context, "limit": refusal.allowed, "state": STATES[refusal.state], "generation": refusal.generation},
        timestamp=time.time() - refusal.age,
        retryable=True,
        integration_name=integration.name,
        operation=recovery.operation,
        retry_after=refusal.retry_after,
        reason=name,
    )
