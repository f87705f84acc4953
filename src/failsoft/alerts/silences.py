"""Silences: whom nobody is to be told of, and until when."""

from __future__ import annotations

from ..checks import LONGEST, number, shown
from ..records import Record
from .rules import matches

_seconds = number(float, 1e-9, LONGEST, " of seconds")


class Silence(Record):
    """Nobody is told of alerts that match, until `until` (in seconds of the monotonic clock; None: until taken back).

    `rule`, `integration` and `operation` are names or patterns with "*"; None is any. `reason` is for people.
    """

    rule: str | None
    integration: str | None
    operation: str | None
    until: float | None
    reason: str

    def covers(self, rule: str, integration: str, operation: str | None, now: float) -> bool:
        """Whether an alert is silent at this moment."""
        if self.until is not None and now >= self.until:
            return False
        given = ((self.rule, rule), (self.integration, integration), (self.operation, operation))
        return all(pattern is None or matches((pattern,), name) for pattern, name in given)


def silence_of(
    rule: str | None, integration: str | None, operation: str | None, seconds: float | None, reason: str, now: float
) -> Silence:
    """A silence from now on. TypeError and ValueError name what is wrong."""
    for field, value in (("rule", rule), ("integration", integration), ("operation", operation)):
        if value is not None and (not isinstance(value, str) or not value):
            raise TypeError(f"{field} must be a name, a pattern with '*', or None for any, got {shown(value)}")
    if not isinstance(reason, str):
        raise TypeError(f"reason must be a string, got {shown(reason)}")
    lasts: float | None = None
    if seconds is not None:
        lasts = _seconds("seconds", seconds)  # type: ignore[assignment]  # what its check gives
    return Silence(rule, integration, operation, None if lasts is None else now + lasts, reason)
