"""The circuit breaker as users hold it, and what it tells of itself."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from . import _core, events
from ._core import STATES, Breaker
from .config import CircuitBreakerConfig, CircuitState
from .errors import CircuitOpenError
from .functions import is_coroutine_function, is_generator_function
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import ParamSpec, Self, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

_core.set_refusal_error(CircuitOpenError)


class BreakerStatus(Record):
    """A breaker at one moment.

    `failures` is the number of consecutive failures, after a trip the number that tripped it. `failure_rate` (0 to 1)
    is over the rolling window, None below `minimum_calls`; `sample_size` says of how many calls. `retry_after` is in
    seconds until a call may go, None where nobody waits for a time. `reason` is why it last changed, `age` how many
    seconds ago, `probes` how many half-open calls are out.
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


class BreakerSummary(Record):
    """How many breakers there are and how many are CLOSED; `states` counts each state that occurs."""

    total: int
    healthy: int
    unhealthy: int
    states: dict[CircuitState, int]


def _publish(breaker: Breaker, previous: str, state: str, reason: str | None, generation: int, failures: int) -> None:
    if previous == state:
        return  # a reset of a closed breaker: fresh counts, but no transition
    events.publish(
        events.Transition(
            breaker.name, CircuitState(previous), CircuitState(state), generation, reason, failures, time.time()
        )
    )


class CircuitBreaker(Breaker):
    """A circuit breaker, alone. Integrations have one each; use this where there is no call to guard.

    Two steps where you hold both ends: `permit = breaker.acquire()` (0: refused), then once `success(permit)`,
    `failure(permit)` or `ignore(permit)`; a `duration_ns` of the call feeds the slow-call rule. One step where a block
    or a function is the call: `with breaker.attempt():`, or `@breaker`. Those raise `CircuitOpenError` when refused.
    """

    def __new__(cls, config: CircuitBreakerConfig | None = None, name: str = "") -> Self:
        if config is not None and not isinstance(config, CircuitBreakerConfig):
            raise TypeError(f"config must be a CircuitBreakerConfig, got {config!r}")
        if not isinstance(name, str):
            raise TypeError(f"name must be a string, got {name!r}")
        return super().__new__(cls, config or CircuitBreakerConfig(), name, _publish)

    def __init__(self, config: CircuitBreakerConfig | None = None, name: str = "") -> None:
        self.config = config or CircuitBreakerConfig()

    @property
    def state(self) -> CircuitState:
        """The state now. OPEN becomes HALF_OPEN when a call comes after the wait, not by itself."""
        return CircuitState(self.read()[0])

    def status(self) -> BreakerStatus:
        """Everything it knows of itself, now."""
        state, reason, generation, failures, probes, (calls, failed, _slow), retry_after, age = self.read()
        rate = failed / calls if calls and calls >= self.config.minimum_calls else None
        return BreakerStatus(CircuitState(state), failures, rate, calls, retry_after, reason, generation, probes, age)

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

    def force_open(self) -> None:
        """Refuse every call until an operator says otherwise."""
        self.force(STATES.index("FORCED_OPEN"))

    def force_closed(self) -> None:
        """Close it now, as if nothing had happened."""
        self.force(STATES.index("CLOSED"))

    def disable(self) -> None:
        """Let every call go and count nothing."""
        self.force(STATES.index("DISABLED"))

    def metrics_only(self) -> None:
        """Let every call go and count, but never trip."""
        self.force(STATES.index("METRICS_ONLY"))

    def reset(self) -> None:
        """Close it now, with fresh counts: the seed's name for `force_closed`."""
        self.force_closed()


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
        self._permit = self._breaker.acquire()
        if not self._permit:
            raise refused(self._breaker)
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


def refused(breaker: CircuitBreaker) -> CircuitOpenError:
    """The error for a breaker that has just said no."""
    status = breaker.status()
    name = breaker.name or "the call"
    return CircuitOpenError(
        refusal_message(name, status.state, status.reason, status.retry_after),
        integration_name=breaker.name or None,
        retryable=True,
        retry_after=status.retry_after,
        reason=status.reason,
    )


def refusal_message(name: str, state: str, reason: str | None, retry_after: float | None) -> str:
    """Why a call was not made, in words."""
    because = f" ({reason})" if reason else ""
    when = "" if retry_after is None else f"; retry after {retry_after:.3g} s"
    return f"{name} was not called: its circuit is {state}{because}{when}"
