"""A rule: what has to hold, for how long, and for whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..checks import LONGEST, number, shown
from ..records import KW_ONLY, Record
from .language import Condition, ConditionError, parse
from .measures import OPERATION, PER, STREAM
from .observations import Observation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    When: TypeAlias = str | Callable[[Observation], object]
    Names: TypeAlias = str | Iterable[str]

SEVERITIES = ("info", "warning", "critical")

PLACES = ("integration", "operation", "value", "rule", "severity", "state")
"""What a summary may have in braces."""

NO_DATA = 900.0
"""Seconds for which a firing alert outlives its data, by default. An open breaker lets no calls go, so that the error
rate which fired has no value soon after: that is not the end of the trouble."""

_span = number(float, 0.0, LONGEST, " of seconds")


class AlertRule(Record):
    """When to tell somebody.

        AlertRule("slow", when="p99 > 250ms and calls >= 20", for_=30.0, severity="critical", integrations="binance*")

    `when` is a condition in words (failsoft/alerts/language.py has the grammar and failsoft/alerts/measures.py what it
    can be about), or a function of an `Observation` that answers True, False or None for no data. It has to hold at
    every look for `for_` seconds before the alert fires, and not to hold for `resolve_after` seconds before that is
    resolved; a firing alert that has no data for `no_data` seconds ends then.

    `severity` is "info", "warning" or "critical". `integrations` and `operations` are names, or patterns with "*",
    that it is for: all by default. It is looked at for each integration, each operation or each stream of these: that
    follows from what `when` is about, and for a function from `per`, "operation" by default. `summary` is the sentence
    to send; {integration}, {operation}, {value}, {rule}, {severity} and {state} are filled in.

    TypeError and ValueError name the field, the value and what is allowed; `ConditionError`, a ValueError, the column.
    """

    name: str
    _: KW_ONLY
    when: When
    for_: float = 0.0
    resolve_after: float = 0.0
    severity: str = "warning"
    integrations: Names | None = None
    operations: Names | None = None
    summary: str = ""
    per: str | None = None
    no_data: float = NO_DATA

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or len(self.name) > 200 or not self.name.isprintable():
            raise ValueError(f"name must be 1 to 200 printable characters, got {shown(self.name)}")
        for field in ("for_", "resolve_after", "no_data"):
            object.__setattr__(self, field, _span(field, getattr(self, field)))
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity must be one of {', '.join(SEVERITIES)}, got {shown(self.severity)}")
        for field in ("integrations", "operations"):
            object.__setattr__(self, field, _names(field, getattr(self, field)))
        _check_summary(self.summary)
        self._settle_per()

    def _settle_per(self) -> None:
        if self.per is not None and self.per not in PER:
            raise ValueError(f"per must be one of {', '.join(PER)}, got {shown(self.per)}")
        if isinstance(self.when, str):
            try:
                follows = parse(self.when).per
            except ConditionError as error:
                raise ConditionError(f"{str(error).partition(': ')[2]}, in when={self.when!r}", *error.place) from None
            if self.per not in (None, follows):
                raise ValueError(f"per follows from what `when` is about, and is {follows!r} here, got {self.per!r}")
            object.__setattr__(self, "per", follows)
        elif callable(self.when):
            object.__setattr__(self, "per", self.per or OPERATION)
        else:
            raise TypeError(f"when must be a condition or a function of an observation, got {shown(self.when)}")
        if self.operations is not None and self.per not in (OPERATION, STREAM):
            raise ValueError(f"operations must be None where a rule is about integrations, got {self.operations!r}")

    def is_for(self, observation: Observation) -> bool:
        """Whether it is about whom this observation is of."""
        return matches(self.integrations, observation.integration) and matches(self.operations, observation.operation)


class Judged:
    """A function of the user's in the place of a condition."""

    def __init__(self, function: Callable[[Observation], object], per: str) -> None:
        self.per = per
        self.text = getattr(function, "__qualname__", None) or type(function).__name__
        self.measures: tuple[str, ...] = ()
        self._function = function

    def holds(self, observation: Observation) -> bool | None:
        """What it says. Whatever it raises goes on to the caller."""
        said = self._function(observation)
        return None if said is None else bool(said)

    def values(self, observation: Observation) -> dict[str, object]:
        """Nobody knows what it looked at."""
        return {}

    def words(self, observation: Observation) -> str:
        """Its name has to do."""
        return self.text


def condition_of(rule: AlertRule) -> Condition | Judged:
    """What a rule asks, ready to be asked."""
    return parse(rule.when) if isinstance(rule.when, str) else Judged(rule.when, rule.per or OPERATION)


def matches(patterns: Any, name: str | None) -> bool:
    """Whether a name is one of these, in which "*" stands for any number of characters. None: any name is."""
    return patterns is None or any(_matches(pattern, name or "") for pattern in patterns)


def _matches(pattern: str, name: str) -> bool:
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    *inner, last = rest
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in inner:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _names(field: str, value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    given: Any = (value,) if isinstance(value, str) else value
    names: tuple[Any, ...]
    try:
        names = tuple(given)
    except TypeError:
        names = ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"{field} must be a name, several names, or None for all, got {shown(value)}")
    return names


def _check_summary(summary: object) -> None:
    if not isinstance(summary, str):
        raise TypeError(f"summary must be a string, got {shown(summary)}")
    opened = summary.split("{")[1:]
    for part in opened:
        place, closed, _ = part.partition("}")
        if not closed or place not in PLACES:
            allowed = ", ".join(f"{{{name}}}" for name in PLACES)
            raise ValueError(f"summary may have {allowed} filled in, got {shown('{' + part)}")


def filled(summary: str, values: dict[str, str]) -> str:
    """A summary with its places filled, each once: what is filled in is not looked at again."""
    first, *parts = summary.split("{")
    said = [first]
    for part in parts:
        place, _, rest = part.partition("}")
        said += [values.get(place, ""), rest]
    return "".join(said)
