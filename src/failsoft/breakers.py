"""The circuit breaker as users hold it, and what it tells of itself."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Hashable, Mapping

from . import _core, events
from ._core import STATES, Breaker
from .checks import refuse_unknown
from .config import CircuitBreakerConfig, CircuitState, DegradedPolicy
from .errors import (
    BulkheadFullError,
    CircuitOpenError,
    DegradedModeError,
    IntegrationError,
    IntegrationTimeoutError,
    RateLimitExceededError,
    ThrottledError,
)
from .functions import is_coroutine_function, is_generator_function
from .records import Record, field_names, replace
from .switches import Switches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, ParamSpec, Self, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

_core.set_refusal_errors(
    CircuitOpenError,
    DegradedModeError,
    RateLimitExceededError,
    BulkheadFullError,
    ThrottledError,
    IntegrationTimeoutError,
)


class BreakerStatus(Record):
    """A breaker at one moment.

    `failures` is the number of consecutive failures, after a trip the number that tripped it. `failure_rate` (0 to 1)
    is over the rolling window, None below `minimum_calls`; `sample_size` says of how many calls. `retry_after` is in
    seconds until a call may go, None where nobody waits for a time. `reason` is why it last changed, `age` how many
    seconds ago, `probes` how many half-open calls are out. `capacity` is the share of calls (0 to 1) let go now: 0
    while it refuses, less than 1 in degraded mode and while it ramps back after a recovery. `shards` are the breakers
    of `guard(key=...)` by key, None without any.
    """

    state: CircuitState
    failures: int
    failure_rate: float | None
    sample_size: int
    retry_after: float | None
    reason: str | None
    generation: int
    probes: int
    age: float
    capacity: float = 1.0
    shards: Mapping[Hashable, BreakerStatus] | None = None

    def with_shards(self, shards: Mapping[Hashable, BreakerStatus]) -> BreakerStatus:
        """The same, with the breakers of keys."""
        return replace(self, shards=shards)


class BreakerSummary(Record):
    """How many breakers there are and how many are CLOSED; `states` counts each state that occurs."""

    total: int
    healthy: int
    unhealthy: int
    states: dict[CircuitState, int]


def _publish(
    breaker: CircuitBreaker, previous: str, state: str, reason: str | None, generation: int, failures: int
) -> None:
    before, after, now = CircuitState(previous), CircuitState(state), time.time()
    if before != after:  # a reset of a closed breaker is fresh counts, but no transition
        events.publish(events.Transition(breaker.name, before, after, generation, reason, failures, now))
    recovered = after is CircuitState.CLOSED and reason in ("recovered", "fleet")
    ramped, breaker.ramping = breaker.ramping, recovered and breaker.ramps
    if not events.listening(events.DegradedChange):
        return
    share = breaker.capacity  # what the limits leave, whatever the state
    if before in REFUSING and after not in REFUSING:
        why = "recovering" if breaker.ramping else "recovered"
        events.publish(events.DegradedChange(breaker.name, share, 0.0, why, now))
    elif after in REFUSING and before not in REFUSING:
        events.publish(events.DegradedChange(breaker.name, 0.0, share, "circuit_open", now))
    elif ramped:  # to its end, or an operator has put an end to it
        events.publish(events.DegradedChange(breaker.name, share, share, "recovered", now))


REFUSING = (CircuitState.OPEN, CircuitState.HALF_OPEN, CircuitState.FORCED_OPEN)
"""The states in which no call goes but probes."""


_INNER = frozenset({
    "adopt", "admit", "close_with_fleet", "decisions", "force", "held_back", "hold", "join", "label", "labels", "let",
    "limit", "mark_chaos", "note", "numbers", "open_until", "probe", "ramping", "ramps", "rate", "read", "relocate",
    "reserve", "shared", "show", "sit", "totals",
})  # fmt: skip
"""What our own rooms ask of a breaker. Who presses Tab is not looking for it."""


class CircuitBreaker(Breaker, Switches):
    """A circuit breaker, alone. Integrations have one each; use this where there is no call to guard.

    Two steps where you hold both ends: `permit = breaker.acquire()` (0: refused), then once `success(permit)`,
    `failure(permit)` or `ignore(permit)`; a `duration_ns` of the call feeds the slow-call rule. One step where a block
    or a function is the call: `with breaker.attempt():`, or `@breaker`. Those raise `CircuitOpenError` when refused.

    `settings` replace single fields of `config`: `CircuitBreaker(failure_threshold=3, reset_timeout=5.0)`. An unknown
    one is a `TypeError`.
    """

    def __new__(
        cls,
        config: CircuitBreakerConfig | None = None,
        name: str = "",
        degraded: DegradedPolicy | None = None,
        **settings: Any,
    ) -> Self:
        if config is not None and not isinstance(config, CircuitBreakerConfig):
            raise TypeError(f"config must be a CircuitBreakerConfig, got {config!r}")
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {name!r}")
        if degraded is not None and not isinstance(degraded, DegradedPolicy):
            raise TypeError(f"degraded must be a DegradedPolicy, got {degraded!r}")
        ramp = degraded or DegradedPolicy(ramp=0.0)
        chosen = _chosen(config, settings)
        return super().__new__(cls, chosen, name, _publish, ramp.ramp, ramp.ramp_from)  # type: ignore[arg-type]  # told of itself

    def __init__(
        self,
        config: CircuitBreakerConfig | None = None,
        name: str = "",
        degraded: DegradedPolicy | None = None,
        **settings: Any,
    ) -> None:
        self.config = _chosen(config, settings)
        self.degraded = degraded or DegradedPolicy(ramp=0.0)
        self.ramping = False  # as far as has been told: the end of a ramp is seen by the first call after it

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r} {self.state}>" if self.name else f"<CircuitBreaker {self.state}>"

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name not in _INNER]

    def reconfigure(self, config: CircuitBreakerConfig, degraded: DegradedPolicy | None = None) -> None:
        """Let other settings hold from now on; state, counts, windows, permits and decisions are kept.

        A wait that runs ends when it would have. Without `degraded` the policy stays. ValueError for another `window`:
        the calls so far are counted in it. A `count_window` of another size starts empty.
        """
        if not isinstance(config, CircuitBreakerConfig):
            raise TypeError(f"config must be a CircuitBreakerConfig, got {config!r}")
        if config.window != self.config.window:
            was = self.config.window
            raise ValueError(f"circuit_breaker.window is {was} and cannot be changed, got {config.window}")
        if degraded is not None and not isinstance(degraded, DegradedPolicy):
            raise TypeError(f"degraded must be a DegradedPolicy, got {degraded!r}")
        policy = degraded or self.degraded
        self.relocate(config, policy.ramp, policy.ramp_from)
        self.config, self.degraded = config, policy

    @property
    def ramps(self) -> bool:
        """Whether it comes back to full capacity by and by after a recovery."""
        return self.degraded.ramp > 0.0 and self.degraded.ramp_from < 1.0

    @property
    def state(self) -> CircuitState:
        """The state now. OPEN becomes HALF_OPEN when a call comes after the wait, not by itself."""
        return CircuitState(self.read()[0])

    def status(self) -> BreakerStatus:
        """Everything it knows of itself, now."""
        state, reason, generation, failures, probes, (calls, failed, _slow), retry_after, age, capacity = self.read()
        rate = self.rate(calls, failed)
        return BreakerStatus(
            CircuitState(state), failures, rate, calls, retry_after, reason, generation, probes, age, capacity, None
        )

    def numbers(self) -> dict[str, object]:
        """What an error tells of it: state, failures, failure_rate and sample_size, as in `status()`."""
        state, _reason, _generation, failures, _probes, (calls, failed, _slow), *_ = self.read()
        rate = self.rate(calls, failed)
        return {"state": CircuitState(state), "failures": failures, "failure_rate": rate, "sample_size": calls}

    def rate(self, calls: int, failed: int) -> float | None:
        """The failure rate of so many calls; None below `minimum_calls`."""
        return failed / calls if calls and calls >= self.config.minimum_calls else None

    def attempt(self) -> BreakerAttempt:
        """A context manager around one call: an exception is a failure, anything else a success."""
        return BreakerAttempt(self)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function: each call is an attempt. Coroutine functions stay coroutine functions."""
        if is_generator_function(fn):
            raise TypeError(f"{fn!r} is a generator function; put `with breaker.attempt():` around what it does")
        if is_coroutine_function(fn):

            async def guarded_async(*args: P.args, **kwargs: P.kwargs) -> object:
                with self.attempt():
                    return await fn(*args, **kwargs)  # type: ignore[misc]  # it is a coroutine function

            return functools.wraps(fn)(guarded_async)  # type: ignore[return-value]

        @functools.wraps(fn)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            with self.attempt():
                return fn(*args, **kwargs)

        return guarded

    def _switch(self, state: CircuitState) -> None:
        self.force(STATES.index(state))


def _chosen(config: CircuitBreakerConfig | None, settings: dict[str, Any]) -> CircuitBreakerConfig:
    """The settings of a breaker: those given, with single fields replaced."""
    chosen = config or CircuitBreakerConfig()
    if not settings:
        return chosen
    refuse_unknown(settings, list(field_names(CircuitBreakerConfig)), "circuit_breaker.", TypeError)
    return replace(chosen, **settings)


class BreakerAttempt:
    """One call through a breaker, as a context manager; used once."""

    __slots__ = ("_breaker", "_permit", "_started")

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._permit = 0
        self._started = 0

    def __enter__(self) -> None:
        if self._permit:
            raise RuntimeError("an attempt can be entered once; ask the breaker for another one")
        permit = self._breaker.admit()
        if not permit & 1:
            raise refused(self._breaker, permit)
        self._permit = permit
        self._started = _core.now_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        took = _core.now_ns() - self._started
        if error is None:
            self._breaker.success(self._permit, took)
        elif isinstance(error, Exception):
            self._breaker.failure(self._permit, took)
        else:
            self._breaker.ignore(self._permit)


def refused(breaker: CircuitBreaker, permit: int) -> IntegrationError:
    """The error for a breaker that has just said no, by the permit it gave instead."""
    status = breaker.status()
    name = breaker.name or None
    if permit == _core.NO_ROOM:
        capacity = breaker.capacity
        return DegradedModeError(
            limit_message(name or "the call", capacity, "degraded"),
            integration_name=name,
            capacity=capacity,
            details={"capacity": capacity},
            retryable=True,
            reason="degraded",
        )
    return CircuitOpenError(
        refusal_message(name or "the call", status.state, status.reason, status.retry_after),
        integration_name=name,
        retryable=True,
        retry_after=status.retry_after,
        reason=status.reason,
    )


def refusal_message(name: str, state: str, reason: str | None, retry_after: float | None) -> str:
    """Why a call was not made, in words."""
    because = f" ({reason})" if reason else ""
    when = "" if retry_after is None else f"; retry after {retry_after:.3g} s"
    return f"{name} was not called: its circuit is {state}{because}{when}"


def limit_message(name: str, capacity: float, reason: str) -> str:
    """Why a call was not made, where only a share of them goes."""
    return f"{name} was not called: it works at {capacity:.3g} of its capacity ({reason})"
