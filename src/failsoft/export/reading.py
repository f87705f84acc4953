"""One look at a source: the numbers of all its integrations and operations, ready to be written down.

A source is a `Registry`, or whatever offers the same `with_shards()`. Nothing here stops a call or takes a lock that
one would see. What a counter shows is what the core has counted since the start, so that it never goes back.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, TypeAlias

    from .._core import Budget, Operation
    from ..arena import Arena, SharedIntegration
    from ..breakers import CircuitBreaker
    from ..integrations import Integration
    from ..registry import Registry
    from ..streams.tally import Tally

    Source: TypeAlias = Registry | Arena
    Member: TypeAlias = Integration | SharedIntegration
    Durations: TypeAlias = tuple[tuple[int, ...], int, int]

STREAM_STATES = ("connecting", "live", "stale", "waiting", "closed")
"""Those of `StreamState`, which is not imported before there is a stream."""

NAME_MOST = 256
"""Characters of a name that are shown. A longer one ends in a checksum of all of it."""


class Reading:
    """What a source had come to at one moment.

    `integrations` are name, type and state of each. With them go, in the same order, `standings`: the numbers of
    families.OF_INTEGRATIONS, None where there is none. `operations` are pairs of names; with them go `numbers` (of
    families.OF_OPERATIONS) and `durations` (counts below each bound, count, sum in ns). `by_record` has the durations
    once more, for the next look. `streams` are pairs of names as well, with `flows` (of families.OF_STREAMS) and
    `stream_states`: how many are in each of STREAM_STATES.
    """

    __slots__ = (
        "by_record", "durations", "flows", "integrations", "numbers", "operations", "standings", "stream_states",
        "streams",
    )  # fmt: skip

    def __init__(self) -> None:
        self.by_record: dict[Operation, Durations] = {}
        self.integrations: list[tuple[str, str, str]] = []
        self.standings: list[tuple[float | None, ...]] = []
        self.operations: list[tuple[str, str]] = []
        self.numbers: list[tuple[int, ...]] = []
        self.durations: list[Durations] = []
        self.streams: list[tuple[str, str]] = []
        self.flows: list[tuple[float | None, ...]] = []
        self.stream_states: list[tuple[int, ...]] = []


def read(source: Source, bounds_ns: Sequence[int], before: Reading | None = None) -> Reading:
    """Look at a source. `bounds_ns` cut its histograms; `before` is the last look with the same ones, if there is one:
    the histogram of an operation that nobody has called since is as it was."""
    reading, known = Reading(), before.by_record if before is not None else {}
    streaming = _streaming()
    for integration, name in named(source):
        try:
            _look(reading, integration, name, bounds_ns, known)
        except KeyError:  # it has gone from the arena since
            continue
        if integration in streaming:
            _streams(reading, name, streaming[integration])
    return reading


def _streaming() -> dict[Any, dict[str, Tally]]:
    """What the streams of this process have come to, by integration and operation."""
    feeds = sys.modules.get("failsoft.streams.feeds")  # not there: nobody has made a stream
    if feeds is None:
        return {}
    from ..streams.tally import tallies

    return tallies(feeds.alive())


def _streams(reading: Reading, name: str, tallies: dict[str, Tally]) -> None:
    taken: set[str] = set()
    for operation, tally in tallies.items():
        reading.streams.append((name, _own(operation, taken)))
        reading.flows.append((*tally.counts, tally.age))
        reading.stream_states.append(tally.states)


def _look(
    reading: Reading, integration: Member, name: str, bounds_ns: Sequence[int], known: dict[Operation, Durations]
) -> None:
    """All of an integration, or nothing."""
    state, breaker = _breaker(integration)
    standing = (*breaker, int(integration.passes_through), *_budget(integration), *_load(integration))
    names, numbers, durations = [], [], []
    for operation, record in operations(integration):
        calls, summed, failures, slow = record.totals_of(False)
        names.append((name, operation))
        numbers.append((calls, failures, slow, *record.events()))
        lasted = known.get(record)
        if lasted is None or lasted[1] != calls or lasted[2] != summed:
            lasted = record.counts_below(bounds_ns)
        reading.by_record[record] = lasted
        durations.append(lasted)
    reading.integrations.append((name, str(integration.type or "unknown"), state))
    reading.standings.append(standing)
    reading.operations += names
    reading.numbers += numbers
    reading.durations += durations


def named(source: Source) -> Iterator[tuple[Member, str]]:
    """The integrations of a source, each with a name of its own that can be shown."""
    taken: set[str] = set()
    for integration in source.with_shards():
        yield integration, _own(integration.name, taken)


def operations(integration: Member) -> Iterator[tuple[str, Operation]]:
    """Its operations, each with a name of its own that can be shown."""
    taken: set[str] = set()
    # Those that come between the two are for the next time.
    for name, record in zip(integration.operations, integration.recorded, strict=False):
        yield _own(name, taken), record


def shown(name: str) -> str:
    """A name as UTF-8 can hold it, and no longer than anybody reads."""
    if len(name) > NAME_MOST:
        from zlib import crc32

        checksum = crc32(name.encode("utf-8", "surrogatepass"))
        name = f"{name[: NAME_MOST - 9]}~{checksum:08x}"
    return name if name.isascii() else name.encode("utf-8", "backslashreplace").decode()


def _own(name: str, taken: set[str]) -> str:
    """Two series of one name would be one for who reads them: keys 1 and "1" are both shown as "1"."""
    own = first = shown(name)
    number = 1
    while own in taken:
        number += 1
        own = f"{first} ({number})"
    taken.add(own)
    return own


def _breaker(integration: Member) -> tuple[str, tuple[float | None, ...]]:
    """Its state and numbers. Keys are looked at for themselves, and a `BreakerStatus` takes longer than the rest."""
    breaker: CircuitBreaker | None = getattr(integration, "breaker", None)
    if breaker is None:
        now = integration.status()
        return str(now.state), (
            now.generation - 1, now.failures, now.failure_rate, now.sample_size, now.probes, now.age, now.retry_after,
            now.capacity,
        )  # fmt: skip
    state, _why, generation, failures, probes, (calls, failed, _slow), retry_after, age, capacity = breaker.read()
    rate = breaker.rate(calls, failed)
    return state, (generation - 1, failures, rate, calls, probes, age, retry_after, capacity)


def _budget(integration: Member) -> tuple[float | None, ...]:
    # Keys share the budget of their integration, and it would be counted once for each.
    if integration.family != integration.name:
        return _NO_BUDGET
    breaker: CircuitBreaker | None = getattr(integration, "breaker", None)
    if breaker is not None:
        own: Budget | None = integration.retry_budget  # type: ignore[union-attr]  # of this process, as breakers are
        return own.read(breaker) if own is not None else _NO_BUDGET
    budget = integration.budget()
    if budget is None:
        return _NO_BUDGET
    return budget.balance, budget.full, budget.retries, budget.hedges, budget.refused


_NO_BUDGET = (None,) * 5


def _load(integration: Member) -> tuple[float | None, ...]:
    load = integration.load_if_any()
    if load is None:
        return (None,) * 6
    return load.tokens, load.burst, load.in_flight, load.max_concurrent, load.throttled, load.waiting
