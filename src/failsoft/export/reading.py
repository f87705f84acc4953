"""One look at a source: the numbers of all its integrations and operations, ready to be written down.

A source is a `Registry`, or whatever offers the same `with_shards()`. Nothing here stops a call or takes a lock that
one would see. What a counter shows is what the core has counted since the start, so that it never goes back.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    from .._core import Operation
    from ..arena import Arena, SharedIntegration
    from ..breakers import BreakerStatus
    from ..config import CircuitState
    from ..integrations import Integration
    from ..registry import Registry

    Source: TypeAlias = Registry | Arena
    Member: TypeAlias = Integration | SharedIntegration

NAME_MOST = 256
"""Characters of a name that are shown. A longer one ends in a checksum of all of it."""


class Reading:
    """What a source had come to at one moment.

    `integrations` are name, type and state of each. With them go, in the same order, `standings`: the numbers of
    families.OF_INTEGRATIONS, None where there is none. `operations` are pairs of names; with them go `numbers` (of
    families.OF_OPERATIONS) and `durations` (counts below each bound, count, sum in ns).
    """

    __slots__ = ("durations", "integrations", "numbers", "operations", "standings")

    def __init__(self) -> None:
        self.integrations: list[tuple[str, str, CircuitState]] = []
        self.standings: list[tuple[float | None, ...]] = []
        self.operations: list[tuple[str, str]] = []
        self.numbers: list[tuple[int, ...]] = []
        self.durations: list[tuple[tuple[int, ...], int, int]] = []


def read(source: Source, bounds_ns: Sequence[int]) -> Reading:
    """Look at a source. `bounds_ns` cut its histograms."""
    reading = Reading()
    for integration, name in named(source):
        try:
            _look(reading, integration, name, bounds_ns)
        except KeyError:  # it has gone from the arena since
            continue
    return reading


def _look(reading: Reading, integration: Member, name: str, bounds_ns: Sequence[int]) -> None:
    """All of an integration, or nothing."""
    status = integration.status()
    standing = (*_breaker(status), int(integration.passes_through), *_budget(integration), *_load(integration))
    names, numbers, durations = [], [], []
    for operation, record in operations(integration):
        calls, _sum, failures, slow = record.totals_of(False)
        names.append((name, operation))
        numbers.append((calls, failures, slow, *record.events()))
        durations.append(record.counts_below(bounds_ns))
    reading.integrations.append((name, str(integration.type or "unknown"), status.state))
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


def _breaker(status: BreakerStatus) -> tuple[float | None, ...]:
    return (
        status.generation - 1, status.failures, status.failure_rate, status.sample_size, status.probes, status.age,
        status.retry_after, status.capacity,
    )  # fmt: skip


def _budget(integration: Member) -> tuple[float | None, ...]:
    # Keys share the budget of their integration, and it would be counted once for each.
    budget = integration.budget() if integration.family == integration.name else None
    if budget is None:
        return (None,) * 5
    return budget.balance, budget.full, budget.retries, budget.hedges, budget.refused


def _load(integration: Member) -> tuple[float | None, ...]:
    load = integration.load_if_any()
    if load is None:
        return (None,) * 6
    return load.tokens, load.burst, load.in_flight, load.max_concurrent, load.throttled, load.waiting
