"""The store of a fleet as its script reads, in Python: one breaker's record, and what a report does to it.

The oracle of src/failsoft/fleets/store.lua, and the store of the simulation. Times are milliseconds of the store's own clock.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

NOTHING, OPEN, RECOVERED, REOPENED, LEAVE = range(5)
KEEP, WANT, RELEASE = range(3)
SLICES = 10


class Asked(NamedTuple):
    """The arguments of the script."""

    layout: str
    digest: str
    member: str
    channel: str
    generation: int
    open: int
    known_left: int
    say: int
    left: int
    want: int
    lease: int
    calls: int
    failures: int
    slow: int
    least: int
    share: float
    most: int
    presence: int
    window: int
    threshold: int
    failure_rate: float
    slow_rate: float
    minimum: int
    wait: int

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Asked:
        real = {"share", "failure_rate", "slow_rate"}
        kinds = [str] * 4 + [float if name in real else int for name in cls._fields[4:]]
        return cls(*(kind(text) for kind, text in zip(kinds, arguments, strict=True)))  # type: ignore[arg-type]

    @property
    def host(self) -> str:
        return self.member.rpartition("/")[0]


class Seen(NamedTuple):
    """A member, and its counts then."""

    at: int
    calls: int
    failures: int
    slow: int


@dataclass
class Record:
    """What is kept of one breaker."""

    layout: str
    digest: str
    generation: int = -1
    open: bool = False
    until: int = 0
    owner: str = ""
    lease_end: int = 0
    hosts: int = 0
    open_hosts: int = 0
    counted: int | None = None
    pending: bool = False
    members: dict[str, Seen] = field(default_factory=dict)
    votes: dict[str, int] = field(default_factory=dict)
    slices: dict[int, list[int]] = field(default_factory=dict)
    row: int = 0
    row_hosts: set[str] = field(default_factory=set)
    expires: int = 0


class FleetStore:
    """All breakers of a store. `published` counts the transitions that were told."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.published = 0

    def run(self, key: str, arguments: Sequence[str], now: int) -> list[str | int]:
        """What the script answers at `now`."""
        asked = Asked.of(arguments)
        record = self.records.get(key)
        if record is not None and now >= record.expires:
            record = self.records.pop(key) and None
        if record is not None and record.layout != asked.layout:
            return ["layout", record.layout, now]
        if asked.say == LEAVE:
            return self._leave(key, record, asked, now)
        if record is None:
            record = self.records[key] = Record(asked.layout, asked.digest)
        elif record.digest != asked.digest:
            if not record.hosts or record.counted is None or abs(now - record.counted) > asked.presence / 4:
                self._count(record, asked, now)
                others = {member.rpartition("/")[0] for member in record.members if member != asked.member}
                record.hosts, record.counted = len(others), now
            if record.hosts:
                return ["differs", record.digest, now]
            self._forget(record)
            record.digest, record.owner, record.counted = asked.digest, "", None
        self._merge(record, asked, now)
        more = self._presence(record, asked, now)
        self._outcome_of_probes(record, asked, now)
        self._counts(record, asked, more, now)
        self._lease(record, asked, now)
        left = max(record.until - now, 0)
        record.expires = now + 60_000 + 4 * asked.presence + asked.window + 2 * left
        may = max(record.lease_end - now, 0) if record.owner == asked.member else 0
        return ["ok", record.generation, int(record.open), left, may, record.hosts, record.open_hosts, now]

    def _leave(self, key: str, record: Record | None, asked: Asked, now: int) -> list[str | int]:
        if record is None:
            return ["ok", 0, 0, 0, 0, 0, 0, now]
        record.members.pop(asked.member, None)
        record.votes.pop(asked.member, None)
        if record.owner == asked.member:
            record.owner = ""
        return ["ok", record.generation, int(record.open), 0, 0, record.hosts, record.open_hosts, now]

    def _merge(self, record: Record, asked: Asked, now: int) -> None:
        """Who knows of a later generation is right; of the same one, open wins."""
        later = asked.generation > record.generation
        if later or (asked.generation == record.generation and asked.open and not record.open):
            record.generation, record.open, record.owner = asked.generation, bool(asked.open), ""
            record.until = now + min(asked.known_left, asked.most) if asked.open else 0
        if record.open and record.until - now > asked.most:
            record.until = now + asked.most
        if record.owner and record.lease_end - now > 2 * asked.lease:
            record.lease_end = now

    def _presence(self, record: Record, asked: Asked, now: int) -> tuple[int, int, int]:
        seen = record.members.get(asked.member)
        more = (0, 0, 0)
        if asked.window and seen is not None:
            reported = ((asked.calls, seen.calls), (asked.failures, seen.failures), (asked.slow, seen.slow))
            calls, failures, slow = (max(new - old, 0) for new, old in reported)
            more = calls, failures, slow
        if seen is None or abs(now - seen.at) > asked.presence / 4 or more[0]:
            record.members[asked.member] = Seen(now, asked.calls, asked.failures, asked.slow)
        self._vote(record, asked, now)
        self._recount(record, asked, seen is None, now)
        return more

    def _count(self, record: Record, asked: Asked, now: int) -> tuple[int, int, int]:
        """Hosts, those that are open, and until when the last of them waits; whoever is gone is forgotten."""
        members, votes = record.members, record.votes
        for member in [m for m, seen in members.items() if abs(now - seen.at) > asked.presence]:
            del members[member]
        reach = asked.presence
        for member in [m for m, till in votes.items() if till + reach < now or till > now + asked.most + reach]:
            del votes[member]
        this = now // self._width(asked)
        record.slices = {number: sums for number, sums in record.slices.items() if this - SLICES < number <= this}
        present = {member.rpartition("/")[0] for member in members}
        open_hosts = {member.rpartition("/")[0] for member in votes} & present
        waits = [till for member, till in votes.items() if member.rpartition("/")[0] in present]
        return len(present), len(open_hosts), max([now, *waits])

    def _vote(self, record: Record, asked: Asked, now: int) -> None:
        if asked.say != OPEN or record.open:
            record.votes.pop(asked.member, None)
            return
        before = record.votes.get(asked.member)
        record.votes[asked.member] = now + min(asked.left, asked.most)
        if before is None or before + asked.presence < now:
            record.pending = True

    def _recount(self, record: Record, asked: Asked, joins: bool, now: int) -> None:
        pause = min(asked.presence / 4, 250 if joins else math.inf, 25 if record.pending else math.inf)
        if record.counted is not None and abs(now - record.counted) <= pause:
            return
        record.hosts, record.open_hosts, latest = self._count(record, asked, now)
        record.counted, record.pending = now, False
        if not record.open and record.open_hosts >= max(asked.least, math.ceil(asked.share * record.hosts)):
            self._become(record, True, min(latest, now + asked.most))

    def _outcome_of_probes(self, record: Record, asked: Asked, now: int) -> None:
        nobody = not record.owner or record.lease_end <= now
        may = record.owner == asked.member or (now >= record.until and nobody)
        if not record.open or asked.generation != record.generation or not may:
            return
        if asked.say == RECOVERED:
            self._become(record, False, 0)
        elif asked.say == REOPENED:
            self._become(record, True, now + min(asked.left, asked.most))

    def _counts(self, record: Record, asked: Asked, more: tuple[int, int, int], now: int) -> None:
        calls, failures, slow = more
        if not calls or record.open:
            return
        this = now // self._width(asked)
        sums = record.slices.setdefault(this, [0, 0, 0])
        record.slices[this] = [a + b for a, b in zip(sums, more, strict=True)]
        if calls > failures:
            record.row, record.row_hosts = 0, set()
        else:
            record.row += failures
            record.row_hosts.add(asked.host)
        if not failures and not slow:
            return
        lately = [record.slices.get(this - back, [0, 0, 0]) for back in range(SLICES)]
        all_calls, all_failures, all_slow = (sum(column) for column in zip(*lately, strict=True))
        trips = 0 < asked.threshold <= record.row and len(record.row_hosts) > 1
        if all_calls >= asked.minimum:
            trips |= failures > 0 and all_failures / all_calls >= asked.failure_rate
            trips |= all_slow > 0 and all_slow / all_calls >= asked.slow_rate
        if trips:
            self._become(record, True, now + min(asked.wait, asked.most))

    def _lease(self, record: Record, asked: Asked, now: int) -> None:
        free = not record.owner or record.lease_end <= now or record.owner == asked.member
        if asked.want == WANT and record.open and now >= record.until and free:
            record.owner, record.lease_end = asked.member, now + asked.lease
        elif asked.want == RELEASE and record.owner == asked.member:
            record.owner = ""

    def _become(self, record: Record, is_open: bool, until: int) -> None:
        record.generation += 1
        record.open, record.until, record.owner, record.lease_end, record.open_hosts = is_open, until, "", 0, 0
        self._forget(record)
        self.published += 1

    def _forget(self, record: Record) -> None:
        record.votes, record.slices, record.row, record.row_hosts, record.pending = {}, {}, 0, set(), False

    def _width(self, asked: Asked) -> int:
        return max(math.ceil(asked.window / SLICES), 1)
