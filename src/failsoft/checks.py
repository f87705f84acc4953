"""What checks a value that a user has given, once, when the object that holds it is made.

A wrong type is a `TypeError`, a wrong value a `ValueError`, and both name the field, the value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .records import Record, field_names

TYPE_CHECKING = False  # spares the import of `typing`; type checkers know the name
if TYPE_CHECKING:
    from enum import StrEnum
    from typing import TypeVar

    E = TypeVar("E", bound=StrEnum)

LONGEST = 1e9
"""Longest duration in seconds, some 31 years: sums of a few still fit in 64-bit nanoseconds."""

SHORTEST = 1e-9  # one nanosecond, the resolution of every clock here
MOST = 2**31 - 1  # what a C int holds

Check = Callable[[str, object], object]
"""Takes a dotted field name and the value given, returns the value to keep or raises."""


def shown(value: object, longest: int = 60) -> str:
    """A value for an error message: its repr, cut to `longest` characters where that would fill a page."""
    try:
        text = repr(value)
    except Exception:  # a hostile repr, or an int with too many digits to print
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def number(kind: type[int | float], low: float, high: float, unit: str = "") -> Check:
    """An `int`, or a `float` that may be given as an int, from `low` to `high`."""
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


def optional(check: Check) -> Check:
    """The same, or None."""
    return lambda field, value: None if value is None else check(field, value)


def one_of(enum: type[E]) -> Callable[[str, object], E]:
    """A member of an enum, or its value."""

    def check(field: str, value: object) -> E:
        if not isinstance(value, str):
            raise TypeError(f"{field} must be one of {', '.join(enum)}, got {shown(value)}")
        try:
            return enum(value)
        except ValueError:
            raise ValueError(
                f"{field} must be one of {', '.join(enum)}, got {shown(value)}{nearest(value, list(enum))}"
            ) from None

    return check


def instance_of(kind: type) -> Check:
    """An object of a class."""

    def check(field: str, value: object) -> object:
        if not isinstance(value, kind):
            raise TypeError(
                f"{field} must be {'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}, got {shown(value)}"
            )
        return value

    return check


def nearest(name: object, valid: list[str]) -> str:
    """The end of a message about an unknown name: the valid one it comes near to, or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(str(name), valid, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


_ELSEWHERE = {
    "attempts": ("max_retries", "retry_policy"),
    "backoff": ("initial_delay", "retry_policy"),
    "base_delay": ("initial_delay",),
    "breaker": ("circuit_breaker",),
    "cooldown": ("reset_timeout",),
    "degraded_mode": ("degraded",),
    "fail_max": ("failure_threshold", "circuit_breaker"),
    "failures": ("failure_threshold",),
    "limit": ("rate", "max_concurrent"),
    "max_attempts": ("max_retries", "retry_policy"),
    "max_failures": ("failure_threshold",),
    "multiplier": ("backoff_multiplier",),
    "per_second": ("rate",),
    "recovery_timeout": ("reset_timeout",),
    "retries": ("max_retries", "retry_policy"),
    "retry": ("max_retries", "retry_policy"),
    "retry_on": ("retryable_errors",),
    "threshold": ("failure_threshold",),
    "total": ("overall",),
    "tries": ("max_retries",),
}
"""What other libraries call a setting of ours."""


def _hint(name: object, valid: list[str]) -> str:
    ours = next((ours for ours in _ELSEWHERE.get(str(name), ()) if ours in valid), None)
    return f"; did you mean '{ours}'?" if ours else nearest(name, valid)


def refuse_unknown(
    names: Iterable[object],
    valid: list[str],
    room: str,
    error: type[Exception],
    parts: Mapping[str, type[Record]] | None = None,
) -> None:
    """Raise `error` for the first name that is not valid, with the nearest that is, or with the part that has it.

    `room` goes before the name. `parts` are the valid names that stand for records.
    """
    for name in names:
        if name not in valid:
            hint = _hint(name, valid)
            if not hint and (owners := [part for part, kind in (parts or {}).items() if name in field_names(kind)]):
                hint = f"; it is one of {' and of '.join(owners)}"
            raise error(f"{room}{name} is not a setting{hint or '; it must be one of ' + ', '.join(valid)}")


def settle(config: object, room: str, **checks: Check) -> None:
    """Put what the checks give into a frozen record's fields. `room` goes before their names."""
    for name, check in checks.items():
        object.__setattr__(config, name, check(room + name, getattr(config, name)))


duration = number(float, SHORTEST, LONGEST, " of seconds")
at_least_one = number(int, 1, MOST)
