"""All settings of an integration, and the five presets.

The parts are in `settings.py`, the words in `kinds.py`; both may be had from here. Every duration is in float seconds.
A value is checked once, when its object is made, so nothing behind this room has to look again.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from .checks import LONGEST, Check, duration, instance_of, one_of, optional, refuse_unknown, settle, shown
from .kinds import (
    RETRYABLE,
    SEED_RETRYABLE,
    CircuitState,
    ErrorCategory,
    FallbackType,
    IntegrationType,
    Jitter,
)
from .records import Record, field_names, replace
from .settings import (
    DURATIONS,
    OPTIONAL,
    PARTS,
    AdaptiveThrottle,
    Bulkhead,
    ChaosConfig,
    CircuitBreakerConfig,
    DegradedPolicy,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    Timeouts,
)

TYPE_CHECKING = False  # spares the import of `typing`; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "DURATIONS",
    "OPTIONAL",
    "PARTS",
    "RETRYABLE",
    "SEED_RETRYABLE",
    "AdaptiveThrottle",
    "Bulkhead",
    "ChaosConfig",
    "CircuitBreakerConfig",
    "CircuitState",
    "DegradedPolicy",
    "ErrorCategory",
    "FallbackType",
    "IntegrationConfig",
    "IntegrationType",
    "Jitter",
    "RateLimit",
    "RetryBudget",
    "RetryPolicy",
    "Timeouts",
    "default_config",
]

_PRESET: Any = ...


class IntegrationConfig(Record):
    """All settings of one integration. A part left out is the one of its type's preset.

    Load control, `rate_limit`, `bulkhead` and `throttle`, is off (None) unless given, and so is `chaos`.
    `retry_budget=None` lets retries go without a budget. `health_check_interval` is in seconds. Names of a type
    ("database") are taken for the type. Of parts, `with_` changes single fields.
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
        settle(self, "", type=one_of(IntegrationType))
        for name in field_names(IntegrationConfig):
            if getattr(self, name) is _PRESET:
                object.__setattr__(self, name, getattr(_preset(self.type), name))
        parts = {room: optional(_part(kind)) if room in OPTIONAL else _part(kind) for room, kind in PARTS.items()}
        settle(self, "", **parts, health_check_interval=duration)

    def with_(self, **changes: Any) -> IntegrationConfig:
        """Return a copy with `changes`: whole parts, or mappings that replace single fields of a part.

            config.with_(retry_policy={"max_retries": 5}, health_check_interval=10)

        An unknown name is a `TypeError` that offers the nearest valid one.
        """
        refuse_unknown(changes, _names(IntegrationConfig), "", TypeError, PARTS)
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
        instance_of(Mapping)("settings", settings)
        changes = _from_camel(settings, "", cls)
        if "type" not in changes:
            raise ValueError(f"type is missing; it must be one of {', '.join(IntegrationType)}")
        for room, kind in PARTS.items():
            part = changes.get(room)
            if isinstance(part, Mapping):
                changes[room] = _from_camel(part, f"{room}.", kind)
        return default_config(changes["type"]).with_(**changes)


def differences(holds: IntegrationConfig, asked: IntegrationConfig) -> str:
    """Where two settings of one type differ, field by field, in words."""
    told = []
    for room in field_names(IntegrationConfig):
        was, wanted = getattr(holds, room), getattr(asked, room)
        if was == wanted:
            continue
        if room in PARTS and was is not None and wanted is not None:
            fields = [(f"{room}.{name}", getattr(was, name), getattr(wanted, name)) for name in _names(type(was))]
        else:
            fields = [(room, was, wanted)]
        told += [f"{name}={shown(a)}, not {name}={shown(b)}" for name, a, b in fields if a != b]
    return "; ".join(told)


def _part(kind: type[Record]) -> Check:
    """A part of the settings. What is wrong is told with what may stand for one."""
    check = instance_of(kind)

    def part(field: str, value: object) -> object:
        try:
            return check(field, value)
        except TypeError as error:
            fields = ", ".join(_names(kind))
            raise TypeError(f"{error}; integration() and with_() take a mapping of {fields} for one") from None

    return part


def _made(kind: type, room: str, given: Mapping[str, Any]) -> object:
    """A part that was off, of what is given of it."""
    for name in field_names(kind):
        if name not in given and name not in kind._defaults:  # type: ignore[attr-defined]  # a Record's
            raise ValueError(f"{room}.{name} is missing; {room} is off, and needs it")
    return kind(**given)


def _names(config: Any) -> list[str]:
    return list(field_names(config))


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
@cache  # made when first asked for: importing failsoft makes no settings
def _preset(type: IntegrationType) -> IntegrationConfig:
    match type:
        case IntegrationType.DATABASE:
            return IntegrationConfig(
                IntegrationType.DATABASE,
                Timeouts(),
                RetryPolicy(),
                CircuitBreakerConfig(),
                30.0,
                DegradedPolicy(),
                retry_budget=RetryBudget(),
            )
        case IntegrationType.AI_SERVICE:
            # Ours: a first delay of 1 s and a cap of 20 s, for a model that is overloaded takes longer to recover
            # than a database and each attempt costs money; two probes for the same reason.
            return IntegrationConfig(
                IntegrationType.AI_SERVICE,
                Timeouts(connect=5.0, read=30.0, write=10.0, overall=60.0),
                RetryPolicy(3, 1.0, 20.0, 1.5, Jitter.FULL, RETRYABLE),
                CircuitBreakerConfig(3, 2, timeout=30.0, half_open_max_calls=2, reset_timeout=60.0),
                60.0,
                DegradedPolicy(),
                retry_budget=RetryBudget(),
            )
        case IntegrationType.MARKET_DATA:
            # Ours: short waits and an early return, for an old price is worth little; probes for all five successes
            # run at once.
            return IntegrationConfig(
                IntegrationType.MARKET_DATA,
                Timeouts(connect=2.0, read=5.0, write=2.0, overall=10.0),
                RetryPolicy(2, 0.1, 2.0, 1.5, Jitter.FULL, RETRYABLE),
                CircuitBreakerConfig(10, 5, timeout=5.0, half_open_max_calls=5, reset_timeout=15.0),
                10.0,
                DegradedPolicy(ramp=0.0),
                retry_budget=RetryBudget(),
            )
        case IntegrationType.CACHE:
            # Ours: 50 ms is the seed's "minimal backoff", constant because its multiplier is 1; the source behind the
            # cache is the better second attempt.
            return IntegrationConfig(
                IntegrationType.CACHE,
                Timeouts(connect=1.0, read=2.0, write=2.0, overall=5.0),
                RetryPolicy(1, 0.05, 0.05, 1.0, Jitter.NONE, RETRYABLE),
                CircuitBreakerConfig(20, 10, timeout=2.0, half_open_max_calls=10, reset_timeout=15.0),
                60.0,
                DegradedPolicy(ramp=0.0),
                retry_budget=RetryBudget(),
            )
        case IntegrationType.EXTERNAL_API:
            # All ours, for the seed names the type and no numbers: DATABASE's policy, since nothing is known of the
            # peer, with half its overall time for an attempt so that a hung one can be retried, and half its wait,
            # since the peer is somebody else's to repair and often comes back behind a load balancer.
            return IntegrationConfig(
                IntegrationType.EXTERNAL_API,
                Timeouts(connect=5.0, read=15.0, write=10.0, overall=30.0),
                RetryPolicy(retryable_errors=RETRYABLE),
                CircuitBreakerConfig(timeout=15.0, reset_timeout=30.0),
                30.0,
                DegradedPolicy(),
                retry_budget=RetryBudget(),
            )


def default_config(type: IntegrationType) -> IntegrationConfig:
    """Return the preset of `type`, or of its name ("database").

    DATABASE's attempt timeout equals its overall one, as in the seed: lower `circuit_breaker.timeout` where a
    hung first attempt should leave time for a retry.
    """
    return _preset(one_of(IntegrationType)("type", type))
