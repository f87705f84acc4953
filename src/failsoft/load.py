"""Load control of an integration: its settings for the core, what it tells of itself, and its refusals in words."""

from __future__ import annotations

import math
import time

from ._core import BULKHEAD_FULL, RATE_LIMITED, STATES, THROTTLED, Load
from .config import IntegrationConfig
from .errors import BulkheadFullError, LoadControlError, RateLimitExceededError, ThrottledError
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._core import Refusal
    from .recovery import Recovery

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


def arm(load: Load, config: IntegrationConfig) -> None:
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


def wanted(config: IntegrationConfig) -> bool:
    """Whether any of it is on."""
    return config.rate_limit is not None or config.bulkhead is not None or config.throttle is not None


def status(load: Load | None, config: IntegrationConfig, waiting: int) -> LoadStatus:
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


def lines(now: LoadStatus) -> list[str]:
    """The same in words, a line a limit."""
    said = []
    if now.rate is not None:
        said.append(f"rate limit: {now.rate:.6g} a second, {math.floor(now.tokens or 0.0)} of {now.burst} tokens left")
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
        return "rate limit" + ("" if math.isnan(allowed) else f": {allowed:.6g} a second") + when
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
