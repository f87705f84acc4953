"""What a user may set: the enums, the frozen settings and the five presets.

Every duration is in float seconds. A value is checked once, when its object is made, so nothing behind this
room has to look again: a wrong type is a `TypeError`, a wrong value a `ValueError`, and both name the field,
the value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from .records import KW_ONLY, Record, field_names, replace

TYPE_CHECKING = False  # spares the import of `typing`; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, TypeVar

    _Enum = TypeVar("_Enum", bound=StrEnum)

LONGEST = 1e9
"""Longest duration in seconds, some 31 years: sums of a few still fit in 64-bit nanoseconds."""

_SHORTEST = 1e-9  # one nanosecond, the resolution of every clock here
_NARROWEST = 1e-3  # a window is cut into slices, and a slice has to be longer than a call
_MOST = 2**31 - 1  # what a C int holds
_LONGEST_STREAK = 65535  # sixteen bits of the gate word
_MOST_PROBES = 64  # one bit of a word for each half-open lease
_LONGEST_COUNT_WINDOW = 1024
_LONGEST_FILL = 1e6  # seconds: FS_LIMITER_DEEPEST
_STEEPEST = 1e6  # by then the second delay has passed every cap
_MOST_RETRIES = 1000.0  # for a call, as in Finagle


class IntegrationType(StrEnum):
    """What kind of thing is called; it chooses the preset."""

    DATABASE = "database"
    AI_SERVICE = "ai_service"
    MARKET_DATA = "market_data"
    CACHE = "cache"
    EXTERNAL_API = "external_api"


class ErrorCategory(StrEnum):
    """Why a call failed; it decides whether to retry and whether the breaker counts it."""

    TIMEOUT = "TIMEOUT"
    RATE_LIMIT = "RATE_LIMIT"
    NETWORK = "NETWORK"
    SERVER_ERROR = "SERVER_ERROR"
    CLIENT_ERROR = "CLIENT_ERROR"
    VALIDATION = "VALIDATION"
    UNKNOWN = "UNKNOWN"


class CircuitState(StrEnum):
    """The seed's three states of a breaker, and three that only an operator sets."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"
    FORCED_OPEN = "FORCED_OPEN"
    DISABLED = "DISABLED"
    METRICS_ONLY = "METRICS_ONLY"


class FallbackType(StrEnum):
    """Where a substitute answer came from, best first."""

    CACHE = "cache"
    LAST_KNOWN = "last_known"
    SIMULATED = "simulated"
    MOCK = "mock"
    ERROR_RESPONSE = "error_response"
    CUSTOM = "custom"


class Jitter(StrEnum):
    """How a retry delay is spread, so that callers who failed together do not return together."""

    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"
    NONE = "none"


SEED_RETRYABLE = frozenset({ErrorCategory.TIMEOUT, ErrorCategory.NETWORK, ErrorCategory.SERVER_ERROR})
"""The categories that the seed's example retries."""

RETRYABLE = SEED_RETRYABLE | {ErrorCategory.RATE_LIMIT}
"""The categories worth another attempt; a rate limit is, once its hint has been waited out."""

_Check = Callable[[str, object], object]
"""Takes a dotted field name and the value given, returns the value to keep or raises."""


def shown(value: object) -> str:
    """A value for an error message: its repr, cut where that would fill a page."""
    try:
        text = repr(value)
    except Exception:  # a hostile repr, or an int with too many digits to print
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 60 else f"{text[:57]}..."


def number(kind: type[int | float], low: float, high: float, unit: str = "") -> _Check:
    noun = "an integer" if kind is int else "a number"
    allowed = f"{noun}{unit} from {low:.10g} to {high:.10g}"
    accepted = int if kind is int else (int, float)

    def check(field: str, value: object) -> int | float:
        if isinstance(value, bool) or not isinstance(value, accepted):
            raise TypeError(f"{field} must be {allowed}, got {shown(value)}")
        if not low <= value <= high:  # NaN fails this too, and a huge int is compared without overflow
            raise ValueError(f"{field} must be {allowed}, got {shown(value)}")
        return kind(value) or kind()  # -0.0 becomes 0.0

    return check


def _optional(check: _Check) -> _Check:
    return lambda field, value: None if value is None else check(field, value)


def _member(enum: type[_Enum]) -> Callable[[str, object], _Enum]:
    def check(field: str, value: object) -> _Enum:
        if not isinstance(value, str):
            raise TypeError(f"{field} must be one of {', '.join(enum)}, got {shown(value)}")
        try:
            return enum(value)
        except ValueError:
            raise ValueError(
                f"{field} must be one of {', '.join(enum)}, got {shown(value)}{nearest(value, list(enum))}"
            ) from None

    return check


def _part(kind: type) -> _Check:
    def check(field: str, value: object) -> object:
        if not isinstance(value, kind):
            raise TypeError(
                f"{field} must be {'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}, got {shown(value)}"
            )
        return value

    return check


def _jitter(field: str, value: object) -> Jitter:
    if isinstance(value, bool):  # the seed's spelling
        return Jitter.FULL if value else Jitter.NONE
    return _member(Jitter)(field, value)


def _categories(field: str, value: object) -> frozenset[ErrorCategory]:
    if isinstance(value, str) or not isinstance(value, Iterable):  # "TIMEOUT" would be read letter by letter
        raise TypeError(f"{field} must be a set of ErrorCategory, got {shown(value)}")
    member = _member(ErrorCategory)
    return frozenset(member(field, item) for item in value)


def nearest(name: object, valid: list[str]) -> str:
    """The end of a message about an unknown name: the valid one it comes near to, or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(str(name), valid, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def refuse_unknown(names: Iterable[object], valid: list[str], room: str, error: type[Exception]) -> None:
    """Raise `error` for the first name that is not valid, with the nearest that is. `room` goes before it."""
    for name in names:
        if name not in valid:
            hint = nearest(name, valid) or f"; it must be one of {', '.join(valid)}"
            raise error(f"{room}{name} is not a setting{hint}")


def _settle(config: object, room: str, **checks: _Check) -> None:
    for name, check in checks.items():
        object.__setattr__(config, name, check(room + name, getattr(config, name)))


_duration = duration = number(float, _SHORTEST, LONGEST, " of seconds")
_wait = number(float, 0.0, LONGEST, " of seconds")
_fraction = number(float, _SHORTEST, 1.0)
_count = at_least_one = number(int, 1, _MOST)
_streak = number(int, 1, _LONGEST_STREAK)


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
        _settle(self, "timeouts.", connect=_duration, read=_duration, write=_duration, overall=_duration)


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
        _settle(
            self,
            "retry_policy.",
            max_retries=number(int, 0, _MOST),
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
        _settle(
            self,
            "circuit_breaker.",
            failure_threshold=_optional(_streak),
            success_threshold=_streak,
            timeout=_duration,
            half_open_max_calls=number(int, 1, _MOST_PROBES),
            reset_timeout=_wait,
            failure_rate=_optional(_fraction),
            slow_rate=_optional(_fraction),
            slow_call=_optional(_duration),
            latency_quantile=_optional(_fraction),
            latency_limit=_optional(_duration),
            minimum_calls=_count,
            window=number(float, _NARROWEST, LONGEST, " of seconds"),
            count_window=_optional(number(int, 1, _LONGEST_COUNT_WINDOW)),
            reset_growth=number(float, 1.0, _STEEPEST),
            reset_max=_optional(_wait),
            reset_jitter=number(float, 0.0, 1.0),
            trip_on=_categories,
            cancel_counts_after=_optional(_wait),
        )
        if self.failure_threshold is self.failure_rate is self.slow_rate is self.latency_quantile is None:
            others = "failure_rate, slow_rate or latency_quantile"
            raise ValueError(f"circuit_breaker.failure_threshold needs a value or one of {others}, got None")
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
        _settle(self, "degraded.", ramp_from=number(float, 0.0, 1.0), ramp=_wait)


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
        _settle(
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
        _settle(self, "rate_limit.", rate=number(float, 1e-6, 1e9), burst=_optional(_count), max_wait=_wait)
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
        _settle(self, "bulkhead.", max_concurrent=number(int, 1, _MOST), max_wait=_wait)


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
        _settle(
            self,
            "throttle.",
            ratio=number(float, 1.0, _STEEPEST),
            most=number(float, _SHORTEST, 0.999999),
            minimum_calls=_count,
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
        _settle(
            self,
            "chaos.",
            latency=_wait,
            latency_most=_optional(_wait),
            error=_optional(_member(ErrorCategory)),
            rate=number(float, 0.0, 1.0),
            seed=_optional(number(int, 0, 2**63 - 1)),
        )
        if self.latency_most is not None and self.latency_most < self.latency:
            raise ValueError(f"chaos.latency_most must be at least latency ({self.latency}), got {self.latency_most}")


_PRESET: Any = ...
PARTS: dict[str, type] = {
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


class IntegrationConfig(Record):
    """All settings of one integration. A part left out is the one of its type's preset.

    Load control, `rate_limit`, `bulkhead` and `throttle`, is off (None) unless given, and so is `chaos`.
    `retry_budget=None` lets retries go without a budget. `health_check_interval` is in seconds. Names of a type
    ("database") are taken for the type.
    """

    type: IntegrationType
    timeouts: Timeouts = _PRESET
    retry_policy: RetryPolicy = _PRESET
    circuit_breaker: CircuitBreakerConfig = _PRESET
    health_check_interval: float = _PRESET
    degraded: DegradedPolicy = _PRESET
    retry_budget: RetryBudget | None = _PRESET
    rate_limit: RateLimit | None = None
    bulkhead: Bulkhead | None = None
    throttle: AdaptiveThrottle | None = None
    chaos: ChaosConfig | None = None

    def __post_init__(self) -> None:
        _settle(self, "", type=_member(IntegrationType))
        for name in field_names(IntegrationConfig):
            if getattr(self, name) is _PRESET:
                object.__setattr__(self, name, getattr(_PRESETS[self.type], name))
        parts = {room: _optional(_part(kind)) if room in OPTIONAL else _part(kind) for room, kind in PARTS.items()}
        _settle(self, "", **parts, health_check_interval=_duration)

    def with_(self, **changes: Any) -> IntegrationConfig:
        """Return a copy with `changes`: whole parts, or mappings that replace single fields of a part.

            config.with_(retry_policy={"max_retries": 5}, health_check_interval=10)

        An unknown name is a `TypeError` that offers the nearest valid one.
        """
        refuse_unknown(changes, _names(IntegrationConfig), "", TypeError)
        for room, kind in PARTS.items():
            change = changes.get(room)
            if isinstance(change, Mapping):
                refuse_unknown(change, _names(kind), f"{room}.", TypeError)
                part = getattr(self, room)
                changes[room] = _made(kind, room, change) if part is None else replace(part, **change)
        return replace(self, **changes)

    @classmethod
    def from_millis(cls, settings: Mapping[str, object]) -> IntegrationConfig:
        """Read one of the seed's objects: camelCase names, durations in milliseconds.

        Whatever it leaves out is the preset's of its `type`. An unknown name is a `ValueError` that offers
        the nearest valid one; any other error names the field as we spell it, and its value in seconds.
        """
        _part(Mapping)("settings", settings)
        changes = _from_camel(settings, "", cls)
        if "type" not in changes:
            raise ValueError(f"type is missing; it must be one of {', '.join(IntegrationType)}")
        for room, kind in PARTS.items():
            part = changes.get(room)
            if isinstance(part, Mapping):
                changes[room] = _from_camel(part, f"{room}.", kind)
        return default_config(changes["type"]).with_(**changes)


def _made(kind: type, room: str, given: Mapping[str, Any]) -> object:
    """A part that was off, of what is given of it."""
    for name in field_names(kind):
        if name not in given and name not in kind._defaults:  # type: ignore[attr-defined]  # a Record's
            raise ValueError(f"{room}.{name} is missing; {room} is off, and needs it")
    return kind(**given)


def _names(config: Any) -> list[str]:
    return list(field_names(config))


DURATIONS = {
    *_names(Timeouts),
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


def _from_camel(settings: Mapping[Any, object], room: str, config: type) -> dict[str, Any]:
    snake = {}
    for name in _names(config):
        first, *rest = name.split("_")
        snake[first + "".join(map(str.title, rest))] = name
    refuse_unknown(settings, list(snake), room, ValueError)
    return {snake[key]: _seconds(snake[key], value) for key, value in settings.items()}


def _seconds(name: str, value: object) -> object:
    if name not in DURATIONS or isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return value / 1000 if abs(value) <= LONGEST * 1000 else value  # beyond, the field's own check refuses it


# The seed's numbers to the letter; where it is silent, ours. The attempt timeout (`timeout`) is the type's
# own read timeout, so one hung attempt leaves at least half of the overall time for another; DATABASE's
# equals its overall timeout, so there a hung first attempt leaves no time for a retry. The seed lists what
# DATABASE retries; the others also retry a rate limit, which is a common answer of a hosted service. A feed
# and a cache are back at full capacity at once, for their peers are made for bursts; the others ramp up.
_PRESETS = {
    IntegrationType.DATABASE: IntegrationConfig(
        IntegrationType.DATABASE,
        Timeouts(),
        RetryPolicy(),
        CircuitBreakerConfig(),
        30.0,
        DegradedPolicy(),
        retry_budget=RetryBudget(),
    ),
    # Ours: a first delay of 1 s and a cap of 20 s, for a model that is overloaded takes longer to recover
    # than a database and each attempt costs money; two probes for the same reason.
    IntegrationType.AI_SERVICE: IntegrationConfig(
        IntegrationType.AI_SERVICE,
        Timeouts(connect=5.0, read=30.0, write=10.0, overall=60.0),
        RetryPolicy(3, 1.0, 20.0, 1.5, Jitter.FULL, RETRYABLE),
        CircuitBreakerConfig(3, 2, timeout=30.0, half_open_max_calls=2, reset_timeout=60.0),
        60.0,
        DegradedPolicy(),
        retry_budget=RetryBudget(),
    ),
    # Ours: short waits and an early return, for an old price is worth little; probes for all five successes
    # run at once.
    IntegrationType.MARKET_DATA: IntegrationConfig(
        IntegrationType.MARKET_DATA,
        Timeouts(connect=2.0, read=5.0, write=2.0, overall=10.0),
        RetryPolicy(2, 0.1, 2.0, 1.5, Jitter.FULL, RETRYABLE),
        CircuitBreakerConfig(10, 5, timeout=5.0, half_open_max_calls=5, reset_timeout=15.0),
        10.0,
        DegradedPolicy(ramp=0.0),
        retry_budget=RetryBudget(),
    ),
    # Ours: 50 ms is the seed's "minimal backoff", constant because its multiplier is 1; the source behind the
    # cache is the better second attempt.
    IntegrationType.CACHE: IntegrationConfig(
        IntegrationType.CACHE,
        Timeouts(connect=1.0, read=2.0, write=2.0, overall=5.0),
        RetryPolicy(1, 0.05, 0.05, 1.0, Jitter.NONE, RETRYABLE),
        CircuitBreakerConfig(20, 10, timeout=2.0, half_open_max_calls=10, reset_timeout=15.0),
        60.0,
        DegradedPolicy(ramp=0.0),
        retry_budget=RetryBudget(),
    ),
    # All ours, for the seed names the type and no numbers: DATABASE's policy, since nothing is known of the
    # peer, with half its overall time for an attempt so that a hung one can be retried, and half its wait,
    # since the peer is somebody else's to repair and often comes back behind a load balancer.
    IntegrationType.EXTERNAL_API: IntegrationConfig(
        IntegrationType.EXTERNAL_API,
        Timeouts(connect=5.0, read=15.0, write=10.0, overall=30.0),
        RetryPolicy(retryable_errors=RETRYABLE),
        CircuitBreakerConfig(timeout=15.0, reset_timeout=30.0),
        30.0,
        DegradedPolicy(),
        retry_budget=RetryBudget(),
    ),
}


def default_config(type: IntegrationType) -> IntegrationConfig:
    """Return the preset of `type`, or of its name ("database").

    DATABASE's attempt timeout equals its overall one, as in the seed: lower `circuit_breaker.timeout` where a
    hung first attempt should leave time for a retry.
    """
    return _PRESETS[_member(IntegrationType)("type", type)]
