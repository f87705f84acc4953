"""What conditions can be about: the measures, what kind of thing each is, and how its value is written and shown."""

from __future__ import annotations

from ..config import CircuitState, IntegrationType
from ..records import Record

STREAM_STATES = ("CONNECTING", "LIVE", "STALE", "WAITING", "CLOSED")
"""Those of `StreamState`, which is not imported before there is a stream."""

INTEGRATION, OPERATION, STREAM = "integration", "operation", "stream"
PER = (INTEGRATION, OPERATION, STREAM)
"""What a rule is looked at for each of."""

WORD, SHARE, DURATION, NUMBER, TRUTH = "word", "share", "duration", "number", "truth"

TRUTHS = ("true", "false")

_FORMS = {
    SHARE: "a share, as 0.05 or 5%",
    DURATION: "a duration with its unit, as 250ms or 2s",
    NUMBER: "a number, as 20",
    TRUTH: "true or false",
}


class Measure(Record):
    """One thing that can be compared: of what kind it is, of what it is known, and the words it may be."""

    kind: str
    per: str
    words: tuple[str, ...] = ()

    @property
    def form(self) -> str:
        """What it is compared with, for error messages."""
        return _FORMS.get(self.kind) or f"one of {', '.join(self.words)}"


MEASURES = {
    "state": Measure(WORD, INTEGRATION, tuple(str(state) for state in CircuitState)),
    "type": Measure(WORD, INTEGRATION, tuple(str(kind) for kind in IntegrationType)),
    "healthy": Measure(TRUTH, INTEGRATION),
    "capacity": Measure(SHARE, INTEGRATION),
    "failure_rate": Measure(SHARE, INTEGRATION),
    "state_changes": Measure(NUMBER, INTEGRATION),
    "retry_budget": Measure(SHARE, INTEGRATION),
    "calls": Measure(NUMBER, OPERATION),
    "error_rate": Measure(SHARE, OPERATION),
    "avg": Measure(DURATION, OPERATION),
    "p50": Measure(DURATION, OPERATION),
    "p95": Measure(DURATION, OPERATION),
    "p99": Measure(DURATION, OPERATION),
    "fallback_share": Measure(SHARE, OPERATION),
    "rejected_share": Measure(SHARE, OPERATION),
    "stream_state": Measure(WORD, STREAM, STREAM_STATES),
    "stream_age": Measure(DURATION, STREAM),
}
"""By name. `Observation` has the same fields and says what each means."""


def words_of(name: str, value: object) -> str:
    """A measure's value as one would write it in a condition; "no data" for None."""
    kind = MEASURES[name].kind
    if value is None:
        return "no data"
    if kind == SHARE and isinstance(value, float):
        return f"{value * 100:.4g}%"
    if kind == DURATION and isinstance(value, float):
        return span(value)
    if kind == TRUTH:
        return "true" if value else "false"
    return str(value)


def span(seconds: float) -> str:
    """A duration with the unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.4g}{unit}"
    return f"{seconds * 1e9:.4g}ns" if seconds else "0s"
