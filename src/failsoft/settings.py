"""The parts of an integration's settings, each a frozen record, checked when made. Durations are float seconds."""

from __future__ import annotations

from collections.abc import Iterable

from .checks import LONGEST, MOST, SHORTEST, at_least_one, duration, number, one_of, optional, settle, shown
from .kinds import SEED_RETRYABLE, ErrorCategory, Jitter
from .records import KW_ONLY, Record, field_names

_NARROWEST = 1e-3  # a window is cut into slices, and a slice has to be longer than a call
_LONGEST_STREAK = 65535  # sixteen bits of the gate word
_MOST_PROBES = 64  # one bit of a word for each half-open lease
_LONGEST_COUNT_WINDOW = 1024
_LONGEST_FILL = 1e6  # seconds: FS_LIMITER_DEEPEST
_STEEPEST = 1e6  # by then the second delay has passed every cap
_MOST_RETRIES = 1000.0  # for a call, as in Finagle

_wait = number(float, 0.0, LONGEST, " of seconds")
_fraction = number(float, SHORTEST, 1.0)
_streak = number(int, 1, _LONGEST_STREAK)


def _jitter(field: str, value: object) -> Jitter:
    if isinstance(value, bool):  # the seed's spelling
        return Jitter.FULL if value else Jitter.NONE
    return one_of(Jitter)(field, value)


def _categories(field: str, value: object) -> frozenset[ErrorCategory]:
    if isinstance(value, str) or not isinstance(value, Iterable):  # "TIMEOUT" would be read letter by letter
        raise TypeError(f"{field} must be a set of ErrorCategory, got {shown(value)}")
    category = one_of(ErrorCategory)
    return frozenset(category(field, item) for item in value)


class Timeouts(Record):
    """Time limits in seconds, each above zero. The defaults are DATABASE's.

    `overall` bounds one operation with all its retries and waits. `connect`, `read` and `write` are handed on
    to the client library by its adapter. The limit of one attempt is `CircuitBreakerConfig.timeout`.
    """

    connect: float = 5.0
    read: float = 10.0
    write: float = 15.0
    overall: float = 30.0

    def __post_init__(self) -> None:
        settle(self, "timeouts.", connect=duration, read=duration, write=duration, overall=duration)


class RetryPolicy(Record):
    """When to try again and how long to wait. The defaults are DATABASE's, the seed's own example.

    `max_retries` counts the attempts after the first. Before retry n (from 0) the wait is `initial_delay *
    backoff_multiplier**n` seconds, at most `max_delay`, spread by `jitter`: True is stored as `Jitter.FULL`,
    False as `Jitter.NONE`. Only errors of `retryable_errors` are retried; any iterable of categories or their
    names will do.
    """

    max_retries: int = 3
    initial_delay: float = 0.5
    max_delay: float = 10.0
    backoff_multiplier: float = 2.0
    jitter: Jitter | bool = Jitter.FULL
    retryable_errors: frozenset[ErrorCategory] = SEED_RETRYABLE

    def __post_init__(self) -> None:
        settle(
            self,
            "retry_policy.",
            max_retries=number(int, 0, MOST),
            initial_delay=_wait,
            max_delay=_wait,
            backoff_multiplier=number(float, 1.0, _STEEPEST),
            jitter=_jitter,
            retryable_errors=_categories,
        )
        if self.initial_delay > self.max_delay:
            most = f"max_delay ({self.max_delay})"
            raise ValueError(f"retry_policy.initial_delay must be at most {most}, got {self.initial_delay}")


class CircuitBreakerConfig(Record):
    """When a breaker trips, how long it stays open and how it closes. The defaults are DATABASE's.

    It trips on `failure_threshold` failures in a row (None: by no such rule), or by any rule added below. It
    refuses for `reset_timeout` seconds, then lets at most `half_open_max_calls` probes run at a time;
    `success_threshold` successes in a row close it, one failure reopens it. `timeout` bounds one attempt, in
    seconds: an attempt that takes longer is a failure.

    Rules that may be added; a rate is a fraction of the calls in the window and is None below
    `minimum_calls`:
    - `failure_rate`: trip at this share of failures.
    - `slow_rate`: trip at this share of calls slower than `slow_call` seconds.
    - `latency_quantile` with `latency_limit`: trip when this quantile of latency passes so many seconds.

    The window is the last `window` seconds, or exactly the last `count_window` calls, which costs one line
    that all callers share. Each reopening multiplies the wait by `reset_growth`, up to `reset_max` seconds;
    `reset_jitter` lengthens a wait by up to that fraction of it. `trip_on` names the categories that count as
    failures. A call that its caller cancels counts as none of the outcomes, unless it had lasted `cancel_counts_after`
    seconds (None: `Timeouts.read`): then it counts as timed out, or a short timeout around it would hide a hang.
    """

    failure_threshold: int | None = 5
    success_threshold: int = 2
    timeout: float = 30.0
    half_open_max_calls: int = 3
    reset_timeout: float = 60.0
    _: KW_ONLY
    failure_rate: float | None = None
    slow_rate: float | None = None
    slow_call: float | None = None
    latency_quantile: float | None = None
    latency_limit: float | None = None
    minimum_calls: int = 10
    window: float = 60.0
    count_window: int | None = None
    reset_growth: float = 1.0
    reset_max: float | None = None
    reset_jitter: float = 0.0
    trip_on: frozenset[ErrorCategory] = SEED_RETRYABLE | {ErrorCategory.UNKNOWN}
    cancel_counts_after: float | None = None

    def __post_init__(self) -> None:
        settle(
            self,
            "circuit_breaker.",
            failure_threshold=optional(_streak),
            success_threshold=_streak,
            timeout=duration,
            half_open_max_calls=number(int, 1, _MOST_PROBES),
            reset_timeout=_wait,
            failure_rate=optional(_fraction),
            slow_rate=optional(_fraction),
            slow_call=optional(duration),
            latency_quantile=optional(_fraction),
            latency_limit=optional(duration),
            minimum_calls=at_least_one,
            window=number(float, _NARROWEST, LONGEST, " of seconds"),
            count_window=optional(number(int, 1, _LONGEST_COUNT_WINDOW)),
            reset_growth=number(float, 1.0, _STEEPEST),
            reset_max=optional(_wait),
            reset_jitter=number(float, 0.0, 1.0),
            trip_on=_categories,
            cancel_counts_after=optional(_wait),
        )
        if self.failure_threshold is self.failure_rate is self.slow_rate is self.latency_quantile is None:
            others = "failure_rate, slow_rate or latency_quantile"
            raise ValueError(
                f"circuit_breaker.failure_threshold needs a value or one of {others}, got None; "
                "metrics_only() is for a breaker that never trips"
            )
        if self.slow_rate is not None and self.slow_call is None:
            raise ValueError(
                "circuit_breaker.slow_rate needs slow_call, the seconds from which a call is slow, got None"
            )
        if (self.latency_quantile is None) != (self.latency_limit is None):
            given = f"{self.latency_quantile} and {self.latency_limit}"
            raise ValueError(f"circuit_breaker.latency_quantile and latency_limit must be given together, got {given}")
        if self.count_window is not None and self.count_window < self.minimum_calls:
            least = f"minimum_calls ({self.minimum_calls})"
            raise ValueError(f"circuit_breaker.count_window must be at least {least}, got {self.count_window}")
        if self.reset_max is not None and self.reset_max < self.reset_timeout:
            least = f"reset_timeout ({self.reset_timeout})"
            raise ValueError(f"circuit_breaker.reset_max must be at least {least}, got {self.reset_max}")


class DegradedPolicy(Record):
    """How an integration comes back to full capacity after its breaker has closed.

    Right after that the share `ramp_from` (0 to 1) of its calls is let go, and from there steadily more, to all of them
    `ramp` seconds later. A `ramp` of 0.0 lets all go at once. What an operator limits is not undone by it: the lower
    capacity of the two holds.
    """

    ramp_from: float = 0.5
    ramp: float = 10.0

    def __post_init__(self) -> None:
        settle(self, "degraded.", ramp_from=number(float, 0.0, 1.0), ramp=_wait)


class RetryBudget(Record):
    """How many retries and hedges an integration may add to its traffic, so that they never become the outage.

    Each call pays `share` of a retry (0.2: one retry for five calls), each second `floor` retries; each retry or hedge
    takes one when it is decided on, so those that still wait for their turn are charged. What is not used is forgotten
    over some `window` seconds: a budget holds at most what a window brings. The numbers are Finagle's
    (`RetryBudget.apply`: 20 %, 10 retries a second, 10 s). `floor` is for each process: with many of them before a
    small dependency lower it. A floor of less than one retry a window would never come to one, and is refused.
    """

    share: float = 0.2
    floor: float = 10.0
    window: float = 10.0

    def __post_init__(self) -> None:
        settle(
            self,
            "retry_budget.",
            share=number(float, 0.0, _MOST_RETRIES),
            floor=number(float, 0.0, _STEEPEST, " of retries a second"),
            window=number(float, _NARROWEST, LONGEST, " of seconds"),
        )
        if 0.0 < self.floor * self.window < 1.0:
            least = f"1 / window ({1.0 / self.window:.3g})"
            raise ValueError(f"retry_budget.floor must be 0 or at least {least}, got {self.floor}")


class RateLimit(Record):
    """At most `rate` calls a second, on average; `burst` of them at once where none came before.

    Each attempt takes one token; `burst` is how many there can be: None for as many as come in a second, and at least
    one. A call that finds none is refused with the time to come back, or waits for one up to `max_wait` seconds.
    """

    rate: float
    burst: int | None = None
    max_wait: float = 0.0

    def __post_init__(self) -> None:
        settle(self, "rate_limit.", rate=number(float, 1e-6, 1e9), burst=optional(at_least_one), max_wait=_wait)
        if self.tokens / self.rate > _LONGEST_FILL:
            raise ValueError(
                f"rate_limit.burst must be an integer from 1 to {int(self.rate * _LONGEST_FILL)}, "
                f"what comes in {_LONGEST_FILL:.10g} seconds, got {self.burst}"
            )

    @property
    def tokens(self) -> int:
        """How many there can be."""
        return max(round(self.rate), 1) if self.burst is None else self.burst


class Bulkhead(Record):
    """At most `max_concurrent` calls at a time, each attempt from its start to its end.

    A call that finds no place is refused, or waits for one up to `max_wait` seconds.
    """

    max_concurrent: int
    max_wait: float = 0.0

    def __post_init__(self) -> None:
        settle(self, "bulkhead.", max_concurrent=number(int, 1, MOST), max_wait=_wait)


class AdaptiveThrottle(Record):
    """Refuse what the dependency would refuse most likely, as it accepts less than was asked of it.

    Of `requests` calls in the breaker's window, refused ones included, it has accepted `accepts`; calls are refused
    with the probability (requests - ratio * accepts) / (requests + 1), at most `most`. Below `minimum_calls` all go. A
    `ratio` of 2 lets twice as many go as are accepted, so that a recovery is seen soon; 1 lets no more go than that.
    """

    ratio: float = 2.0
    most: float = 0.9
    minimum_calls: int = 10

    def __post_init__(self) -> None:
        settle(
            self,
            "throttle.",
            ratio=number(float, 1.0, _STEEPEST),
            most=number(float, SHORTEST, 0.999999),
            minimum_calls=at_least_one,
        )


class ChaosConfig(Record):
    """Faults on purpose, for as long as the settings hold: see `failsoft.chaos`, which can do more.

    The share `rate` (0 to 1) of the attempts is held up for `latency` seconds, or for any time between `latency` and
    `latency_most`; with an `error`, the name of an `ErrorCategory`, it then fails with one. The same `seed` befalls the
    same attempts, by their order. With neither, nothing happens.
    """

    latency: float = 0.0
    latency_most: float | None = None
    error: ErrorCategory | None = None
    rate: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        settle(
            self,
            "chaos.",
            latency=_wait,
            latency_most=optional(_wait),
            error=optional(one_of(ErrorCategory)),
            rate=number(float, 0.0, 1.0),
            seed=optional(number(int, 0, 2**63 - 1)),
        )
        if self.latency_most is not None and self.latency_most < self.latency:
            raise ValueError(f"chaos.latency_most must be at least latency ({self.latency}), got {self.latency_most}")


PARTS: dict[str, type[Record]] = {
    "timeouts": Timeouts,
    "retry_policy": RetryPolicy,
    "circuit_breaker": CircuitBreakerConfig,
    "degraded": DegradedPolicy,
    "retry_budget": RetryBudget,
    "rate_limit": RateLimit,
    "bulkhead": Bulkhead,
    "throttle": AdaptiveThrottle,
    "chaos": ChaosConfig,
}
"""The settings that have settings of their own."""

OPTIONAL = frozenset({"retry_budget", "rate_limit", "bulkhead", "throttle", "chaos"})
"""Those of them that may be None: there is no such thing then."""


DURATIONS = {
    *field_names(Timeouts),
    "initial_delay",
    "max_delay",
    "timeout",
    "reset_timeout",
    "reset_max",
    "slow_call",
    "latency_limit",
    "window",
    "health_check_interval",
    "ramp",
    "cancel_counts_after",
    "max_wait",
    "latency",
    "latency_most",
}
"""The names of the settings in seconds, whichever room they are in."""
