"""The flight recorder in words: what was last decided about an integration, and why it is in the state it is in.

The recorder itself is csrc/include/failsoft/recorder.h, 256 entries an integration. Successes are not in it.
"""

from __future__ import annotations

import math

from ._core import REASONS, STATES, now_ns
from .config import ErrorCategory, FallbackType
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .breakers import BreakerStatus
    from .integrations import Integration

TRANSITION, REFUSAL, LIMIT, RETRY, GIVE_UP, FALLBACK, CAPACITY, HEALTH = range(1, 9)
"""The kinds of csrc/include/failsoft/recorder.h."""

KINDS = ("", "transition", "refusal", "limit", "retry", "give_up", "fallback", "capacity", "health")

OPERATOR = REASONS.index("operator")

NOT_RETRYABLE, USED_UP, NOT_IDEMPOTENT, NO_TIME, REFUSED = range(1, 6)
GIVE_UPS = (
    "",
    "such errors are not retried",
    "all retries are used up",
    "the operation is not idempotent and may have been carried out",
    "the overall deadline comes before the wait is over",
    "the gate refused the next attempt",
)
"""Why no further attempt was made, by the code that is recorded."""

CATEGORIES = tuple(ErrorCategory)
FALLBACKS = tuple(FallbackType)


class Decision(Record):
    """One entry of the flight recorder.

    `kind` is one of "transition", "refusal" (by the state), "limit" (refused for capacity), "retry", "give_up",
    "fallback", "capacity" and "health"; `text` says what was decided and why. `age` is how many seconds ago it was last
    decided, `count` how often: refusals alike are one entry. `operation` is None where no call was the cause.
    """

    kind: str
    text: str
    operation: str | None
    age: float
    count: int = 1


class Explanation(Record):
    """Why an integration is in the state it is in: as a string, or field by field. Oldest decision first."""

    integration: str
    status: BreakerStatus
    decisions: tuple[Decision, ...]

    def __str__(self) -> str:
        status = self.status
        lines = [f"{self.integration} is {status.state}{_since(status)}{_because(status)}"]
        lines.append(f"  {_numbers(status)}")
        lines += [f"  {_ago(d.age)}  {d.text}{_times(d)}" for d in self.decisions]
        if not self.decisions:
            lines.append("  nothing but successes so far")
        return "\n".join(lines)

    __repr__ = __str__


def explain(integration: Integration) -> Explanation:
    """Read the flight recorder of an integration."""
    return Explanation(integration.name, integration.status(), decisions_of(integration))


def decisions_of(integration: Integration) -> tuple[Decision, ...]:
    """The last decisions about an integration, at most 256, oldest first."""
    names, now = integration.operation_names, now_ns()
    decisions = []
    for (
        kind,
        because,
        state,
        detail,
        number,
        operation,
        _generation,
        count,
        _first,
        last,
    ) in integration.breaker.decisions():
        name = names[operation - 1] if 0 < operation <= len(names) else None
        text = (f"{name}: " if name else "") + _words(kind, because, state, detail, number)
        decisions.append(Decision(KINDS[kind], text, name, max(now - last, 0) / 1e9, count))
    return tuple(decisions)


def _words(kind: int, because: int, state: int, detail: int, number: float) -> str:
    if kind == TRANSITION:
        wait = f", for {number:.3g} s" if STATES[state] == "OPEN" else ""
        return f"{STATES[detail]} -> {STATES[state]}{wait} ({REASONS[because] or 'unknown'})"
    if kind == REFUSAL:
        return f"refused, the circuit is {STATES[state]} ({REASONS[because] or 'unknown'})"
    if kind == LIMIT:
        return f"refused, only {number:.3g} of the calls may go"
    if kind == RETRY:
        return f"attempt {detail} in {number:.3g} s, after a {CATEGORIES[because]} error"
    if kind == GIVE_UP:
        return f"given up after {detail} attempt{'s' if detail != 1 else ''}: {GIVE_UPS[because]}"
    if kind == FALLBACK:
        age = "" if math.isnan(number) else f", {number:.3g} s old"
        return f"answered by the {FALLBACKS[because]} fallback{age}"
    if kind == CAPACITY:
        return f"{number:.3g} of the calls may go from now on ({REASONS[because]})"
    return "the health check passes again" if because else "the health check fails"


def _since(status: BreakerStatus) -> str:
    return f" since {status.age:.3g} s" if status.generation > 1 else ""


def _because(status: BreakerStatus) -> str:
    if status.reason is None:
        return ""
    failures = f", {status.failures} in a row" if status.reason == "consecutive_failures" else ""
    return f" because of {status.reason}{failures}"


def _numbers(status: BreakerStatus) -> str:
    rate = "unknown" if status.failure_rate is None else f"{status.failure_rate:.1%}"
    parts = [f"failure rate {rate} of the last {status.sample_size} calls", f"capacity {status.capacity:.3g}"]
    if status.retry_after is not None:
        parts.append(f"retry after {status.retry_after:.3g} s")
    return "; ".join(parts)


def _ago(age: float) -> str:
    return f"{age:9.3f} s ago"


def _times(decision: Decision) -> str:
    return f" ({decision.count} times)" if decision.count > 1 else ""
