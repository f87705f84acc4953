"""A fleet in virtual time: hundreds of hosts with real breakers and the real protocol, the model of the store between them.

Each host has a clock of its own, with an offset and a drift; so has the store. Messages take time, partitions swallow them,
hosts are killed and come back as new members, the store restarts empty. A run depends on nothing but its seed.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from failsoft import CircuitBreaker, CircuitBreakerConfig, _core
from failsoft.fleets import protocol
from failsoft.fleets.protocol import Follower
from failsoft.fleets.syncer import carry_out, look

from ..reference.fleet_store import FleetStore

INTERVAL = 0.2
TIMEOUT = 0.1
CONFIG = CircuitBreakerConfig(
    failure_threshold=5, success_threshold=2, half_open_max_calls=3, timeout=0.5, reset_timeout=5.0
)
RULES = protocol.rules_of(CONFIG, counts=False, quorum=0.5, presence=5.0)
PROBE = 0.03
"""Seconds that a probe takes."""


class Host:
    """One process: its breaker, its side of the protocol, its clock."""

    def __init__(self, number: int, life: int, dice: random.Random) -> None:
        self.number = number
        self.life = life
        self.member = f"host{number}/{life}"
        self.offset = dice.uniform(1e3, 1e6)
        self.drift = 1.0 + dice.uniform(-2e-4, 2e-4)
        self.breaker = CircuitBreaker(CONFIG, "dependency")
        self.follower = Follower(round(INTERVAL * 1e9))
        self.cut_off = False
        self.heard: float = -1e9
        self.missed = 0
        self.row = 0

    def clock(self, now: float) -> int:
        """Let its time be the core's time."""
        ns = int((self.offset + now * self.drift) * 1e9)
        _core.fake_clock_set(ns)
        return ns

    def alone(self, now: float) -> bool:
        """Whether it has not heard of the fleet for as long as the fleet may count on it."""
        return now - self.heard > self.follower.patience / 1e9


class Found(NamedTuple):
    """What a run came to. Times in seconds."""

    hosts: int
    rounds: int
    opened_after: float | None  # from the first host to the last one, at the first outage
    fleet_openings: int  # generations of the store that were open
    let_through: int  # calls that reached a dependency that was down
    longest_row: int  # failures in a row that a closed breaker let through
    probes: int
    most_probes: int  # at a time, of hosts that hear of the fleet
    over: int  # probes of such hosts beyond what is allowed
    alone: int  # probes of hosts that had lost the fleet
    healed_after: float | None  # from the end of the last outage until all are closed
    lost: int  # calls refused at hosts whose dependency was well all the time
    drift: float  # of the deadline of a host that joined, from the fleet's


class World:
    """Hosts, store, dependency, and what happens to them."""

    def __init__(self, hosts: int, seed: int, rate: float, following: bool = True) -> None:
        self.dice = random.Random(seed)
        self.rate = rate
        self.following = following
        self.now = 0.0
        self.store = FleetStore()
        self.store_up = True
        self.store_offset = 1.7e12
        self.down = False
        self.ill: set[int] = set()
        self.delay: Callable[[], float] = lambda: self.dice.uniform(0.0002, 0.002)
        self.hosts = [Host(number, 0, self.dice) for number in range(hosts)]
        self.outage_began: list[float] = []
        self.outage_ended: list[float] = []
        self.out: dict[int, bool] = {}  # probes under way: whether their host hears of the fleet
        self.figures = dict.fromkeys(
            ["rounds", "let_through", "longest_row", "probes", "most_probes", "over", "alone", "lost"], 0
        )
        self.openings: set[int] = set()
        self.first_open: float | None = None
        self.all_open: float | None = None
        self.all_closed: float | None = None
        self.drift = 0.0
        self._open = 0
        self._closed = hosts
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        for host in self.hosts:
            self._start(host)

    def _start(self, host: Host) -> None:
        self.after(self.dice.expovariate(self.rate), self.call, host)
        if self.following:
            self.after(self.dice.uniform(0.0, INTERVAL), self.round, host)

    def after(self, seconds: float, what: Callable[..., None], *arguments: Any) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now + seconds, self._number, what, arguments))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, what, arguments = heapq.heappop(self._events)
            what(*arguments)
        self.now = until

    # Calls

    def well(self, host: Host) -> bool:
        return not self.down and host.number not in self.ill

    def call(self, host: Host) -> None:
        if self.hosts[host.number] is not host:
            return  # killed
        self.after(self.dice.expovariate(self.rate), self.call, host)
        host.clock(self.now)
        permit = host.breaker.acquire()
        if permit == 0:
            if not self.outage_began and host.number not in self.ill:
                self.figures["lost"] += 1
        elif permit >> 1 & 0xFF:
            self.probe(host, permit)
        elif self.well(host):
            host.row = 0
            host.breaker.success(permit)
        else:
            host.row += 1
            self.figures["longest_row"] = max(self.figures["longest_row"], host.row)
            self.figures["let_through"] += 1
            host.breaker.failure(permit)
        self.count()

    def probe(self, host: Host, permit: int) -> None:
        self.figures["probes"] += 1
        hears = self.following and host.follower.open and not host.alone(self.now)
        if hears:
            with_fleet = sum(self.out.values()) + 1
            self.figures["most_probes"] = max(self.figures["most_probes"], with_fleet)
            self.figures["over"] += with_fleet > CONFIG.half_open_max_calls
        elif host.alone(self.now):
            self.figures["alone"] += 1
        self._number += 1
        self.out[self._number] = hears
        self.after(PROBE, self.probed, host, permit, self._number)

    def probed(self, host: Host, permit: int, number: int) -> None:
        del self.out[number]
        if self.hosts[host.number] is not host:
            return
        host.clock(self.now)
        if self.well(host):
            host.row = 0
            host.breaker.success(permit)
        else:
            self.figures["let_through"] += self.down
            host.breaker.failure(permit)
        self.count()

    # The protocol

    def round(self, host: Host) -> None:
        if self.hosts[host.number] is not host:
            return
        ns = host.clock(self.now)
        report = host.follower.report(look(host.breaker), ns, RULES)
        arguments = report.arguments(RULES, host.member, "channel")
        if host.cut_off or not self.store_up:
            host.missed += 1
            pause = (
                INTERVAL if host.missed < 2 else min(0.5 * 2 ** (host.missed - 2), 2.0) * self.dice.uniform(1.0, 1.5)
            )
            self.after(TIMEOUT + pause, self.round, host)
            return
        self.after(self.delay(), self.arrive, host, arguments, ns)

    def arrive(self, host: Host, arguments: list[str], sent: int) -> None:
        answer = self.store.run("dependency", arguments, int(self.store_offset + self.now * 1e3))
        record = self.store.records["dependency"]
        if record.open:
            self.openings.add(record.generation)
        if host.cut_off or not self.store_up:  # the answer is lost
            self.after(TIMEOUT + INTERVAL, self.round, host)
        else:
            self.after(self.delay(), self.hear, host, answer, sent)

    def hear(self, host: Host, raw: list[Any], sent: int) -> None:
        if self.hosts[host.number] is not host:
            return
        self.figures["rounds"] += 1
        host.missed = 0
        joins, host.heard = host.heard < 0.0, self.now
        ns = host.clock(self.now)
        answer = protocol.read(raw)
        orders = host.follower.hear(answer, look(host.breaker), sent, ns, RULES)
        done = carry_out(orders, host.breaker)
        view = look(host.breaker)
        host.follower.carried(view, done)
        if joins and answer.open and answer.left:
            record = self.store.records["dependency"]
            if record.generation == answer.generation and view.state == "OPEN":
                ends = (self.now * 1e3 + view.left / 1e6 + self.store_offset - record.until) / 1e3
                self.drift = max(self.drift, abs(ends))
        self.count()
        self.after(INTERVAL * self.dice.uniform(0.9, 1.0), self.round, host)

    # What happens

    def fail(self) -> None:
        self.down = True
        self.outage_began.append(self.now)

    def heal(self) -> None:
        self.down = False
        self.outage_ended.append(self.now)
        self.all_closed = None

    def cut(self, share: float, seconds: float) -> None:
        some = self.dice.sample(self.hosts, round(share * len(self.hosts)))
        for host in some:
            host.cut_off = True
        self.after(seconds, self.join, some)

    def join(self, some: list[Host]) -> None:
        for host in some:
            host.cut_off = False

    def kill(self, share: float) -> None:
        """And start others in their place, which know nothing."""
        for host in self.dice.sample(self.hosts, round(share * len(self.hosts))):
            new = Host(host.number, host.life + 1, self.dice)
            self.hosts[host.number] = new
            self._start(new)

    def restart_store(self, seconds: float) -> None:
        """It comes back empty, with another clock."""
        self.store_up = False
        self.after(seconds, self.store_is_back)

    def store_is_back(self) -> None:
        self.store, self.store_up = FleetStore(), True
        self.store_offset += self.dice.uniform(-6e5, 6e5)

    def count(self) -> None:
        """Who is open, looked at seldom: it is a look at everybody."""
        watch = (self.outage_began and self.all_open is None) or (self.outage_ended and self.all_closed is None)
        if not watch or self.now - getattr(self, "_looked", -1.0) < 0.01:
            return
        self._looked = self.now
        closed = 0
        for host in self.hosts:
            closed += host.breaker.read()[0] == "CLOSED"
        if self.first_open is None and closed < len(self.hosts) and self.outage_began:
            self.first_open = self.now
        if self.all_open is None and closed == 0:
            self.all_open = self.now
        if self.outage_ended and self.all_closed is None and closed == len(self.hosts):
            self.all_closed = self.now

    def found(self) -> Found:
        opened = None if self.all_open is None or self.first_open is None else self.all_open - self.first_open
        healed = None if self.all_closed is None else self.all_closed - self.outage_ended[-1]
        figures = self.figures
        return Found(
            len(self.hosts), figures["rounds"], opened, len(self.openings), figures["let_through"], figures["longest_row"],
            figures["probes"], figures["most_probes"], figures["over"], figures["alone"], healed, figures["lost"],
            self.drift,
        )  # fmt: skip


@contextmanager
def world(hosts: int, seed: int, rate: float, following: bool = True) -> Iterator[World]:
    _core.fake_clock(True)
    _core.fake_clock_set(0)
    try:
        yield World(hosts, seed, rate, following)
    finally:
        _core.fake_clock(False)


def outage(hosts: int, *, rate: float = 4.0, seconds: float = 12.0, following: bool = True, seed: int = 1) -> Found:
    """The dependency is down for all, for so long. Without `following` every host learns of it alone."""
    with world(hosts, seed, rate, following) as w:
        w.after(2.0, w.fail)
        w.after(2.0 + seconds, w.heal)
        w.run(2.0 + seconds + 12.0)
        return w.found()


def sick(hosts: int, *, ill: int = 1, rate: float = 4.0, seed: int = 1) -> Found:
    """The dependency is well, but some hosts cannot reach it."""
    with world(hosts, seed, rate) as w:
        w.ill = set(range(ill))
        w.run(20.0)
        return w.found()


def storm(hosts: int, *, rate: float = 4.0, seed: int = 1) -> Found:
    """An outage while hosts are partitioned and killed, and the store restarts empty, twice, with another clock."""
    with world(hosts, seed, rate) as w:
        w.after(2.0, w.fail)
        w.after(1.5, w.cut, 0.2, 4.0)
        w.after(3.5, w.kill, 0.1)
        w.after(6.0, w.restart_store, 1.0)
        w.after(9.0, w.cut, 0.3, 3.0)
        w.after(10.0, w.kill, 0.1)
        w.after(13.0, w.restart_store, 3.0)
        w.after(20.0, w.heal)
        w.run(34.0)
        return w.found()
