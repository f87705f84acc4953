"""The flight recorder in words: what was last decided about an integration, and why it is in the state it is in."""

from __future__ import annotations

import math

from . import load
from ._core import RATE_LIMITED, REASONS, STATES, now_ns
from .budgets import budget_words
from .config import CircuitState
from .recorder import (
    CAPACITY,
    CATEGORIES,
    CHAOS,
    CHAOS_ERROR,
    CHAOS_OUTCOME,
    DISORDER,
    FALLBACK,
    FALLBACKS,
    GAP,
    GIVE_UP,
    GIVE_UPS,
    HEDGE,
    KINDS,
    LIMIT,
    LOAD,
    LOST,
    NO_BUDGET,
    PASSED,
    RECONNECTED,
    REFUSAL,
    RETRY,
    STALE,
    STREAM,
    TRANSITION,
)
from .records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .breakers import BreakerStatus
    from .enforcement import AbandonedCall
    from .integrations import Integration
    from .load import LoadStatus


class Decision(Record):
    """One entry of the flight recorder.

    `kind` is one of "transition", "refusal" (by the state), "limit" (refused for capacity), "retry", "give_up",
    "fallback", "capacity", "health", "hedge", "stream", "chaos" (a fault injected on purpose) and "load" (refused by
    load control); `text` says what was decided and why. `age` is how many seconds ago. Decisions alike about calls are
    one entry: `count` says how many, `age` tells of the first, `latest` of the last of them, and so does the text.
    `operation` is None where no call was the cause.
    """

    kind: str
    text: str
    operation: str | None
    age: float
    count: int = 1
    latest: float = 0.0


class Explanation(Record):
    """Why an integration is in the state it is in: as a string, or field by field. Oldest decision first.

    `limited` is how many of its calls may go at most and why, None where all may; `budget` how many retries are left,
    None where none was made lately; `load` its load control, None where there is none; `chaos` what faults are injected
    into its calls on purpose; `abandoned` the calls that go on in threads though their callers have left, oldest first.
    """

    integration: str
    status: BreakerStatus
    decisions: tuple[Decision, ...]
    limited: str | None = None
    budget: str | None = None
    load: LoadStatus | None = None
    chaos: tuple[str, ...] = ()
    abandoned: tuple[AbandonedCall, ...] = ()

    def __str__(self) -> str:
        status = self.status
        lines = [f"{self.integration} is {_standing(status)}", f"  {_rate(status)}"]
        if self.limited is not None:
            lines.append(f"  {self.limited}")
        if self.budget is not None:
            lines.append(f"  {self.budget}")
        if self.load is not None:
            lines += [f"  {line}" for line in load.lines(self.load)]
        lines += [f"  {line}" for line in self.chaos]
        if self.abandoned:
            oldest, number = self.abandoned[0], len(self.abandoned)
            calls = "1 abandoned call still runs" if number == 1 else f"{number} abandoned calls still run"
            lines.append(f"  {calls}, the oldest ({oldest.operation}) for {_span(oldest.age)}")
        for key, shard in (status.shards or {}).items():
            if shard.state is not CircuitState.CLOSED or shard.capacity < 1.0:
                lines.append(f"  {self.integration}[{key}] is {_standing(shard)}; {_rate(shard)}")
        lines += [f"  {_span(d.age):>12} ago  {d.text}{_times(d)}" for d in self.decisions]
        if not self.decisions:
            lines.append("  no decisions so far")
        return "\n".join(lines)

    __repr__ = __str__


def explain(integration: Integration) -> Explanation:
    """Read the flight recorder of an integration."""
    share = integration.breaker.capacity
    limited = limited_words(share, integration.limit_reason()) if share < 1.0 else None
    budget = budget_words(integration)
    limit = integration.config.rate_limit
    rate = math.nan if limit is None else limit.rate
    decisions = decisions_of(integration.numbered, integration.breaker.decisions(), rate)
    status, controlled = integration.status(), integration.load_if_any()
    plans = tuple(str(plan) for plan in integration.chaos)
    left = integration.abandoned
    return Explanation(integration.name, status, decisions, limited, budget, controlled, plans, left)


def limited_words(capacity: float, why: str) -> str:
    """That only a share of the calls may go."""
    return f"{_percent(capacity)} of the calls may go ({why})"


def decisions_of(
    names: Mapping[int, str],
    recorded: Iterable[tuple[int, int, int, int, float, int, int, int, int, int]],
    rate: float = math.nan,
) -> tuple[Decision, ...]:
    """Recorded decisions, at most 256, oldest first, in words. `rate` is that of a rate limit, calls a second."""
    now = now_ns()
    decisions = []
    for kind, because, state, detail, number, place, _generation, count, first, last in recorded:
        operation = names.get(place)
        words = _words(kind, because, state, detail, number) if kind != LOAD else _limited(rate, because, number)
        text = f"{operation}: {words}" if operation else words
        age, latest = max(now - first, 0) / 1e9, max(now - last, 0) / 1e9
        decisions.append(Decision(KINDS[kind], text, operation, age, count, latest))
    return tuple(decisions)


_WHY = {
    "consecutive_failures": "too many failures in a row",
    "failure_rate": "too large a share of the calls failed",
    "slow_rate": "too large a share of the calls was slow",
    "latency": "the latency passed its limit",
    "probe_failed": "a probe failed",
    "wait_over": "the wait is over, probes may go",
    "recovered": "the probes succeeded",
    "operator": "an operator said so",
    "ramped": "recovered, all the way",
    "fleet": "the fleet says so",
}
"""What each of REASONS means."""


def _words(kind: int, because: int, state: int, detail: int, number: float) -> str:
    if kind == TRANSITION:
        wait = f" for {_span(number)}" if STATES[state] == "OPEN" else ""
        return f"{STATES[detail]} -> {STATES[state]}{wait}: {_why(because)}"
    if kind == REFUSAL:
        return f"refused, the circuit is {STATES[state]}"
    if kind == LIMIT:
        return f"refused, {_percent(number)} of the calls may go"
    if kind == RETRY:
        return f"attempt {detail} in {_span(number)}, after a {CATEGORIES[because]} error"
    if kind == GIVE_UP and because == PASSED:
        return f"refused: {GIVE_UPS[because]}"
    if kind == GIVE_UP:
        return f"given up after {_counted(detail, 'attempt')}: {GIVE_UPS[because]}"
    if kind == FALLBACK:
        age = "" if math.isnan(number) else f", {_span(number)} old"
        return f"answered by the {FALLBACKS[because]} fallback{age}"
    if kind == HEDGE and because == NO_BUDGET:
        return f"no second attempt beside the first after {_span(number)}: {GIVE_UPS[because]}"
    if kind == HEDGE:
        return f"a second attempt beside the first after {_span(number)}"
    if kind == STREAM:
        return _stream_words(because, number)
    if kind == CHAOS:
        return _chaos_words(because, number)
    if kind == CAPACITY:
        return f"{_percent(number)} of the calls may go from now on: {_why(because)}"
    return "the health check passes again" if because else "the health check fails"


def _limited(rate: float, code: int, number: float) -> str:
    """A refusal by load control. Of the rate limit the recorder knows when the next token was due."""
    if code != RATE_LIMITED:
        return f"refused, {load.words(code, number)}"
    return f"refused, {load.words(code, rate, number)}"


def _stream_words(because: int, number: float) -> str:
    if because == STALE:
        return f"stale, nothing came for {_span(number)}"
    if because == GAP:
        return f"a gap in the sequence, {_counted(int(number), 'item')} missing"
    if because == DISORDER:
        return f"out of order, {int(number)} behind"
    if because == LOST:
        return f"the connection is lost, the next try in {_span(number)}"
    if because == RECONNECTED:
        return f"connected again, {_span(number)} after the last item"
    return "the buffer was full, its oldest item dropped"


def _chaos_words(because: int, number: float) -> str:
    after = f" after {_span(number)}" if number else ""
    if because == CHAOS_ERROR:
        return f"chaos: an error{after}"
    if because == CHAOS_OUTCOME:
        return f"chaos: answered in its place{after}"
    return f"chaos: held up for {_span(number)}"


def _why(because: int) -> str:
    reason = REASONS[because]
    return "unknown" if reason is None else _WHY[reason]


def _standing(status: BreakerStatus) -> str:
    """The state, how long it has been that, why, and when it may end."""
    why = "" if status.reason is None else f": {_WHY[status.reason]}"
    if status.reason == "consecutive_failures":
        why = f": {_counted(status.failures, 'failure')} in a row"
    then = ""
    if status.state is CircuitState.OPEN and status.retry_after is not None:
        left = status.retry_after
        then = f"; calls go again in {_span(left)}" if left else "; the next call is a probe"
    elif status.state is CircuitState.HALF_OPEN:
        then = f"; {_counted(status.probes, 'probe')} under way"
    return f"{status.state} for {_span(status.age)}{why}{then}"


def _rate(status: BreakerStatus) -> str:
    if status.failure_rate is None:
        return f"{_counted(status.sample_size, 'call')} lately, too few for a failure rate"
    return f"{_percent(status.failure_rate)} of the last {_counted(status.sample_size, 'call')} failed"


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _percent(share: float) -> str:
    return f"{share * 100:.3g}%"


def _span(seconds: float) -> str:
    """As one would say it, by the two largest units."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60.0:
        return f"{seconds:.3g} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if minutes < 60:
        return f"{minutes} min {int(seconds % 60)} s"
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _times(decision: Decision) -> str:
    if decision.count == 1:
        return ""
    return f" ({decision.count} times, the last {_span(decision.latest)} ago)"
