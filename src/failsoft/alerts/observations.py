"""What rules look at: the numbers of an integration, an operation or a stream at one moment, read from a source."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator

from .._core import EVENTS
from ..records import Record
from .measures import INTEGRATION, OPERATION, STREAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LATELY = 60.0
"""Seconds over which shares of fallbacks and refusals, and changes of state, are counted. Of those only the number of
all time is kept: it is compared with what it was so long ago."""

APART = 5.0
"""Least seconds between two such readings that are remembered."""

UNHEALTHY = 0.5
"""A closed breaker that sees this share of its calls fail is not healthy: as the health of traffic has it."""

_RETRIES, _FALLBACKS, _REJECTED = (EVENTS.index(name) for name in ("retries", "fallbacks", "rejected"))


class Observation(Record):
    """An integration, one of its operations or one of its streams, as it is seen now. None: there are no data.

    Of the integration: its breaker's `state` and `failure_rate` (0 to 1, over the rolling window, None below
    `minimum_calls`), the `capacity` (0 to 1) of its calls that may go, `healthy` by its health check, or by its traffic
    where it has none, `state_changes` of the breaker in the last minute, and `retry_budget`, the share (0 to 1) of its
    retry budget that is left. A key of `guard(key=...)` is an integration of its own here.

    Of the operation: `calls` in the rolling window, 0 without any, where it has none but by key those of its keys;
    their `error_rate` (0 to 1) and latencies in seconds, None without calls of its own. `fallback_share` and
    `rejected_share` (0 to 1) are how many of the last minute's calls a fallback answered, and the gate refused.

    Of the stream: its `stream_state`, and `stream_age`, seconds since its last item or, before the first, since it was
    made.
    """

    integration: str
    type: str
    operation: str | None = None
    state: str | None = None
    healthy: bool | None = None
    capacity: float | None = None
    failure_rate: float | None = None
    state_changes: int | None = None
    retry_budget: float | None = None
    calls: int | None = None
    error_rate: float | None = None
    avg: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    fallback_share: float | None = None
    rejected_share: float | None = None
    stream_state: str | None = None
    stream_age: float | None = None


class Reader:
    """Reads a source again and again, and knows what it read a minute ago. For one thread at a time."""

    def __init__(self) -> None:
        self._past: dict[tuple[str, str | None], deque[tuple[float, tuple[int, ...]]]] = {}
        self._seen: set[tuple[str, str | None]] = set()
        self._begun = False

    def read(self, source: Any, now: float, wanted: frozenset[str], health: bool) -> dict[str, list[Observation]]:
        """What is `wanted` of each integration, operation and stream, by these words; `now` in seconds."""
        found: dict[str, list[Observation]] = {kind: [] for kind in wanted}
        checked = _checked(source) if health else {}
        self._seen = set()
        members = []
        there = list(source.with_shards())
        by_key = _by_key(there) if OPERATION in wanted else {}
        for integration in there:
            try:
                common = self._common(integration, now, checked)
                numbers = self._operations(integration, common, now, by_key) if OPERATION in wanted else []
            except KeyError:  # it has gone from the arena since
                continue
            members.append((integration, common))
            if INTEGRATION in wanted:
                found[INTEGRATION].append(Observation(**common))
            if OPERATION in wanted:
                found[OPERATION].extend(numbers)
            time.sleep(0)  # so much work at a time, and then whoever waits for the interpreter
        if STREAM in wanted:
            found[STREAM].extend(_streams(members))
        for gone in self._past.keys() - self._seen:
            del self._past[gone]
        self._begun = True
        return found

    def _common(self, integration: Any, now: float, checked: dict[str, bool]) -> dict[str, Any]:
        status, budget = integration.status(), integration.budget()
        name = integration.name
        told = checked.get(name)
        lately = self._since(name, None, now, (status.generation,))
        fails = status.failure_rate is not None and status.failure_rate >= UNHEALTHY
        return {
            "integration": name,
            "type": str(integration.type),
            "state": str(status.state),
            "healthy": told if told is not None else status.state == "CLOSED" and not fails,
            "capacity": status.capacity,
            "failure_rate": status.failure_rate,
            "state_changes": None if lately is None else lately[0],
            "retry_budget": None if budget is None or budget.full <= 0 else max(budget.balance, 0.0) / budget.full,
        }

    def _operations(
        self, integration: Any, common: dict[str, Any], now: float, by_key: dict[tuple[str, str], int]
    ) -> list[Observation]:
        of, found = common["integration"], []
        forgotten = _parent(integration) is not None and getattr(integration, "slots", True) == ()
        for name, record in zip(integration.operations, integration.recorded, strict=False):
            numbers = self._operation(of, name, record, now)
            if not numbers["calls"]:
                if forgotten:  # by whoever called it: an arena remembers keys longer
                    del numbers["calls"]
                else:
                    numbers["calls"] = by_key.get((of, name), 0)
            found.append(Observation(**common, operation=name, **numbers))
        return found

    def _operation(self, integration: str, name: str, record: Any, now: float) -> dict[str, Any]:
        calls, summed, failures, _slow = record.totals_of(True)
        numbers: dict[str, Any] = {"calls": calls}
        if calls:
            numbers["error_rate"] = failures / calls
            numbers["avg"] = summed / 1e9 / calls
            numbers["p50"], numbers["p95"], numbers["p99"] = record.recent.quantiles()
        events = record.events()
        counts = (record.totals_of(False)[0], events[_RETRIES], events[_FALLBACKS], events[_REJECTED])
        lately = self._since(integration, name, now, counts)
        if lately is not None:
            attempts, retries, fallbacks, rejected = lately
            asked = attempts - retries + rejected  # a retry that the gate refused is counted as both
            if asked > 0:
                numbers["fallback_share"] = min(fallbacks / asked, 1.0)
                numbers["rejected_share"] = min(rejected / asked, 1.0)
        return numbers

    def _since(self, integration: str, name: str | None, now: float, counts: tuple[int, ...]) -> tuple[int, ...] | None:
        """How much was counted lately; None at the first look, and where counting has begun anew."""
        key = integration, name
        self._seen.add(key)
        past = self._past.get(key)
        if past is None:
            past = self._past[key] = deque()
            if self._begun and name is not None:  # new since the last look: all of it is of lately
                past.append((now, (0,) * len(counts)))
        if past and any(count < was for count, was in zip(counts, past[-1][1], strict=True)):
            past.clear()
        while len(past) > 1 and past[1][0] <= now - LATELY:
            past.popleft()
        before = past[0][1] if past else None
        if not past or now - past[-1][0] >= APART:
            past.append((now, counts))
        return None if before is None else tuple(count - was for count, was in zip(counts, before, strict=True))


def _by_key(members: list[Any]) -> dict[tuple[str, str], int]:
    """Calls in the rolling window of those of keys together, by integration and operation."""
    calls: dict[tuple[str, str], int] = {}
    for one in members:
        parent = _parent(one)
        if parent is None:
            continue
        try:
            for name, record in zip(one.operations, one.recorded, strict=False):
                calls[parent, name] = calls.get((parent, name), 0) + record.totals_of(True)[0]
        except KeyError:  # it has gone from the arena since
            continue
    return calls


def _parent(integration: Any) -> str | None:
    """The name of the integration that this is a key of, if it is."""
    name: str = integration.name
    if not hasattr(integration, "slots"):
        family: str = getattr(integration, "family", name)
        return family if family != name else None
    parent, opened, _ = name.partition("[")  # an arena knows names alone
    return parent if opened and name.endswith("]") else None


def _checked(source: Any) -> dict[str, bool]:
    """The verdicts of health checks by name, where the source has any."""
    monitor = getattr(source, "health", None)
    return {} if monitor is None else {name: status.healthy for name, status in monitor.checked().items()}


def _streams(members: list[tuple[Any, dict[str, Any]]]) -> Iterator[Observation]:
    feeds = sys.modules.get("failsoft.streams.feeds")  # not there: nobody has made a stream
    if feeds is None:
        return
    common = {id(integration): fields for integration, fields in members}
    for feed in feeds.alive():
        fields = common.get(id(feed.integration))
        if fields is not None:
            status = feed.status()
            age = feed.made_ago() if status.age is None else status.age
            yield Observation(**fields, operation=feed.operation, stream_state=str(status.state), stream_age=age)
