"""What a host does in a fleet, round by round on a fake clock, with the modelled store between the hosts."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import failsoft
from failsoft import CircuitState, Integration, Registry, events
from failsoft.fleets.stores import Store
from failsoft.fleets.syncer import Syncer
from failsoft.testing import FakeClock

from ..conftest import Score
from ..reference.fleet_client import Down, Memory

INTERVAL = 0.2
SETTINGS: dict[str, Any] = {
    "failure_threshold": 3, "success_threshold": 1, "half_open_max_calls": 2, "timeout": 0.5, "reset_timeout": 10.0,
}  # fmt: skip


class Host:
    """A process of the fleet."""

    def __init__(self, fleet: Fleet, name: str, settings: dict[str, Any], **options: Any) -> None:
        self.registry = Registry()
        self.integration: Integration = self.registry.integration("market", "external_api", circuit_breaker=settings)
        options = {"counts": False, "quorum": 0.5, "namespace": "test", "interval": INTERVAL, **options}
        member = f"{name}/{len(fleet.hosts)}"
        self.syncer = Syncer(fleet.memory.client, self.registry, member=member, **options)
        self.breaker = self.integration.breaker

    def fail(self, times: int = 3) -> int:
        """How many of so many calls went, each of which failed."""
        went = 0
        for _ in range(times):
            if permit := self.breaker.acquire():
                went += 1
                self.breaker.failure(permit)
        return went

    def succeed(self, times: int = 1) -> int:
        went = 0
        for _ in range(times):
            if permit := self.breaker.acquire():
                went += 1
                self.breaker.success(permit)
        return went

    @property
    def state(self) -> CircuitState:
        return self.breaker.state

    @property
    def status(self) -> Any:
        return self.syncer.breakers()["market"]


class Fleet:
    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.memory = Memory()
        self.hosts: list[Host] = []

    def host(self, name: str | None = None, settings: dict[str, Any] | None = None, **options: Any) -> Host:
        made = Host(self, name or f"h{len(self.hosts)}", {**SETTINGS, **(settings or {})}, **options)
        self.hosts.append(made)
        return made

    def rounds(self, times: int = 1, but: tuple[Host, ...] = ()) -> None:
        """Rounds of all hosts, an interval apart."""
        for _ in range(times):
            for host in self.hosts:
                if host not in but:
                    host.syncer.round()
            self.clock.advance(INTERVAL)

    def seconds(self, seconds: float) -> None:
        self.rounds(round(seconds / INTERVAL))

    @property
    def states(self) -> list[str]:
        return [str(host.state) for host in self.hosts]


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with FakeClock() as clock:
        yield Fleet(clock)


@pytest.fixture
def heard() -> Iterator[list[events.FleetChange]]:
    found: list[events.FleetChange] = []
    end = events.subscribe(found.append, events.FleetChange)
    yield found
    end()


def opened(fleet: Fleet, hosts: int = 4) -> None:
    """Half of them have failed, all are open."""
    for _ in range(hosts):
        fleet.host()
    fleet.rounds()
    for host in fleet.hosts[: hosts // 2]:
        host.fail()
    fleet.rounds(2)
    assert fleet.states == ["OPEN"] * hosts


def test_a_quorum_that_is_open_opens_all(fleet: Fleet) -> None:
    for _ in range(4):
        fleet.host()
    fleet.rounds()
    fleet.hosts[0].fail()
    fleet.rounds(5)
    assert fleet.states == ["OPEN", "CLOSED", "CLOSED", "CLOSED"]
    assert (fleet.hosts[2].status.hosts, fleet.hosts[2].status.open_hosts) == (4, 1)
    fleet.hosts[1].fail()
    fleet.rounds(2)
    assert fleet.states == ["OPEN"] * 4
    assert fleet.hosts[3].breaker.status().reason == "fleet"
    assert "CLOSED -> OPEN" in str(fleet.hosts[3].integration.explain())
    assert "the fleet says so" in str(fleet.hosts[3].integration.explain())


def test_a_sick_host_opens_nobody_else(fleet: Fleet) -> None:
    for _ in range(2):
        fleet.host()
    fleet.rounds()
    fleet.hosts[0].fail()
    fleet.rounds(100)
    assert fleet.hosts[1].state == "CLOSED"


def test_processes_of_one_host_count_once(fleet: Fleet) -> None:
    for name in ("a", "a", "a", "b", "c"):
        fleet.host(name)
    fleet.rounds()
    for host in fleet.hosts[:3]:
        host.fail()
    fleet.rounds(3)
    assert fleet.hosts[4].state == "CLOSED"
    assert fleet.hosts[4].status.hosts == 3
    fleet.hosts[3].fail()
    fleet.rounds(2)
    assert fleet.states == ["OPEN"] * 5


@pytest.mark.parametrize(("quorum", "needed"), [(1, 1), (3, 3), (0.75, 3), (1.0, 4), (0.01, 2)])
def test_the_quorum_is_a_number_or_a_share(fleet: Fleet, quorum: float, needed: int) -> None:
    for _ in range(4):
        fleet.host(quorum=quorum)
    fleet.rounds()
    for number in range(needed):
        assert fleet.hosts[3].state == "CLOSED"
        fleet.hosts[number].fail()
        fleet.rounds(2)
    assert fleet.states == ["OPEN"] * 4


def test_one_host_probes_for_all(fleet: Fleet, score: Score) -> None:
    opened(fleet)
    fleet.seconds(10.2)
    most = at_once = 0
    for _ in range(200):  # the probes fail, and all keep trying
        at_once = sum(host.breaker.acquire() > 0 for host in fleet.hosts for _ in range(5))
        most = max(most, at_once)
        fleet.rounds()
    score("one host probes for the fleet", "most probes at a time", most, "2 allowed, 4 hosts that all want to")
    assert most == 2
    assert sum(host.status.probing for host in fleet.hosts) <= 1


def test_without_the_hold_all_would_probe(fleet: Fleet) -> None:
    opened(fleet)
    fleet.seconds(10.2)
    for host in fleet.hosts:
        host.breaker.hold(0)
    assert sum(host.breaker.acquire() > 0 for host in fleet.hosts) == 4


def test_all_close_when_the_prober_has_recovered(fleet: Fleet) -> None:
    opened(fleet)
    fleet.seconds(10.2)
    while "CLOSED" not in fleet.states:
        for host in fleet.hosts:
            host.succeed()
        fleet.rounds()
    fleet.rounds(2)
    assert fleet.states == ["CLOSED"] * 4
    reasons = sorted(str(host.breaker.status().reason) for host in fleet.hosts)
    assert reasons == ["fleet", "fleet", "fleet", "recovered"]


def test_a_probe_that_fails_makes_all_wait_again(fleet: Fleet) -> None:
    opened(fleet)
    fleet.seconds(10.2)
    for _ in range(3):
        for host in fleet.hosts:
            host.fail(1)
        fleet.rounds()
    fleet.rounds()
    assert fleet.states == ["OPEN"] * 4
    waits = [host.breaker.status().retry_after for host in fleet.hosts]
    assert all(wait is not None and wait > 8.5 for wait in waits)
    assert fleet.hosts[0].status.generation == 2


def test_who_joins_takes_up_what_holds_and_restarts_nothing(fleet: Fleet, score: Score) -> None:
    opened(fleet)
    before = fleet.hosts[0].breaker.status().retry_after
    fleet.seconds(6.0)
    late = fleet.host()
    fleet.rounds()
    assert late.state == "OPEN"
    wait, known = late.breaker.status().retry_after, fleet.hosts[0].breaker.status().retry_after
    assert wait is not None
    assert known is not None
    assert before is not None
    assert known < before - 5.0
    score("a host that joins keeps the fleet's deadline", "seconds off", round(abs(wait - known), 3))
    assert abs(wait - known) < 0.005
    assert fleet.states == ["OPEN"] * 5


def test_a_prober_that_dies_is_followed_by_another(fleet: Fleet) -> None:
    opened(fleet)
    fleet.seconds(10.2)
    for host in fleet.hosts:
        host.breaker.acquire()
    fleet.rounds()
    (prober,) = [host for host in fleet.hosts if host.status.probing]
    fleet.hosts.remove(prober)
    for _ in range(20):
        if "CLOSED" in fleet.states:
            break
        for host in fleet.hosts:
            host.succeed()
        fleet.rounds()
    fleet.rounds()
    assert fleet.states == ["CLOSED"] * 3


def test_a_late_word_of_a_former_prober_is_dropped(fleet: Fleet) -> None:
    opened(fleet)
    fleet.seconds(10.2)
    for host in fleet.hosts:
        host.breaker.acquire()
    fleet.rounds()
    (prober,) = [host for host in fleet.hosts if host.status.probing]
    permit = prober.breaker.acquire()
    assert permit
    rest = tuple(host for host in fleet.hosts if host is not prober)
    for _ in range(20):  # it hangs; its lease lapses, another takes it
        for host in rest:
            host.breaker.acquire()
        fleet.rounds(but=(prober,))
    assert any(host.status.probing for host in rest)
    prober.breaker.success(permit)
    prober.syncer.round()
    fleet.rounds(2, but=(prober,))
    assert all(host.state != "CLOSED" for host in rest)


def test_without_a_syncer_the_hold_lapses(fleet: Fleet) -> None:
    opened(fleet)
    fleet.clock.advance(9.0)
    for host in fleet.hosts:
        host.syncer.round()
    fleet.clock.advance(1.0)
    assert [host.breaker.acquire() > 0 for host in fleet.hosts] == [False] * 4
    fleet.clock.advance(2.0)
    assert [host.breaker.acquire() > 0 for host in fleet.hosts] == [True] * 4


def test_without_the_store_each_is_protected_alone(
    fleet: Fleet, heard: list[events.FleetChange], caplog: pytest.LogCaptureFixture, score: Score
) -> None:
    for _ in range(3):
        fleet.host()
    fleet.rounds()
    heard.clear()
    fleet.memory.error = Down("gone")
    with caplog.at_level(logging.WARNING, "failsoft"):
        fleet.rounds(10)
    assert [(change.integration, change.shared) for change in heard] == [(None, False)] * 3
    assert "Down: gone" in str(heard[0].reason)
    assert "has lost its store" in caplog.text
    went = [host.fail(50) for host in fleet.hosts]
    score("without the store each host is protected", "calls beyond the threshold", max(went) - 3, "3 hosts")
    assert went == [3, 3, 3]
    fleet.clock.advance(10.0)
    assert [host.succeed() for host in fleet.hosts] == [1, 1, 1]
    assert fleet.states == ["CLOSED"] * 3
    assert [host.syncer.connected for host in fleet.hosts] == [False] * 3


def test_a_store_that_is_down_is_not_asked_all_the_time(fleet: Fleet) -> None:
    fleet.host()
    fleet.memory.error = Down("gone")
    fleet.rounds(500)  # 100 seconds
    assert 30 < fleet.memory.asked < 110


@pytest.mark.parametrize("forgets", [False, True])
def test_when_it_is_back_the_later_generation_holds(fleet: Fleet, forgets: bool) -> None:
    opened(fleet)
    generation = fleet.hosts[0].status.generation
    fleet.memory.error = Down("gone")
    fleet.seconds(3.0)
    if forgets:
        fleet.memory.forget()
    fleet.memory.error = None
    fleet.seconds(4.0)
    assert fleet.states == ["OPEN"] * 4
    assert [host.status.generation for host in fleet.hosts] == [generation] * 4
    late = fleet.host()
    fleet.rounds()
    wait = late.breaker.status().retry_after
    assert late.state == "OPEN"
    assert wait is not None
    assert wait < 3.0


def test_what_was_forgotten_does_not_come_back(fleet: Fleet) -> None:
    """A store restored from before the recovery says OPEN of an older generation; who knows better says so."""
    opened(fleet)
    old = copy.deepcopy(fleet.memory.store.records)
    fleet.seconds(10.2)
    while fleet.states != ["CLOSED"] * 4:
        for host in fleet.hosts:
            host.succeed()
        fleet.rounds()
    fleet.memory.store.records = old
    fleet.rounds(3)
    assert fleet.states == ["CLOSED"] * 4
    late = fleet.host()
    fleet.rounds(2)
    assert late.state == "CLOSED"


def test_what_an_operator_says_stays_with_his_host(fleet: Fleet) -> None:
    for _ in range(4):
        fleet.host()
    fleet.rounds()
    forced, disabled, watched, other = fleet.hosts
    forced.integration.force_open()
    disabled.integration.disable()
    watched.integration.metrics_only()
    fleet.rounds(5)
    assert fleet.states == ["FORCED_OPEN", "DISABLED", "METRICS_ONLY", "CLOSED"]
    fifth, sixth = fleet.host(), fleet.host()
    fleet.rounds()
    for host in (other, fifth, sixth):
        host.fail()
    fleet.rounds(3)
    assert fleet.states == ["FORCED_OPEN", "DISABLED", "METRICS_ONLY", "OPEN", "OPEN", "OPEN"]
    fifth.integration.reset()
    fleet.rounds(5)
    assert fifth.state == "CLOSED"  # the fleet has said it once


def test_hosts_with_other_settings_share_nothing_and_are_told(
    fleet: Fleet, heard: list[events.FleetChange], caplog: pytest.LogCaptureFixture
) -> None:
    opened(fleet)
    heard.clear()
    with caplog.at_level(logging.WARNING, "failsoft"):
        other = fleet.host(settings={"reset_timeout": 11.0})
        fleet.rounds(3)
    assert other.state == "CLOSED"
    assert "other hosts have other settings" in other.status.problem
    assert caplog.text.count("other hosts have other settings") == 1
    assert [(change.integration, change.shared) for change in heard if change.integration] == [("market", False)]
    assert other.fail(10) == 3
    assert fleet.hosts[0].status.problem is None
    fleet.hosts = [other]  # the others are replaced one by one, and the last of them is gone
    fleet.seconds(6.0)
    assert other.status.problem is None
    assert [change.shared for change in heard if change.integration] == [False, True]


@pytest.mark.parametrize("answer", [["layout", "2", 1], RuntimeError("WRONGTYPE"), ["nonsense"], 7,
    ["ok", 5, 1, 10**30, 0, 3, 3, 0], ["ok", 2**60, 1, 10, 0, 3, 3, 0], ["ok", 5, 1, -1, 0, 3, 3, 0], ["ok", 5, 7, 10, 0, 3, 3, 0],
])  # fmt: skip
def test_a_key_that_is_not_ours_leaves_the_others_alone(fleet: Fleet, answer: Any) -> None:
    opened(fleet)
    host = fleet.hosts[0]
    host.registry.integration("second", "cache")
    fleet.memory.answers["failsoft:{test:market}"] = answer
    fleet.rounds()
    assert host.status.problem is not None
    assert host.syncer.breakers()["second"].problem is None
    assert host.syncer.connected
    fleet.clock.advance(10.0)
    assert host.breaker.acquire()  # it probes for itself
    fleet.memory.answers.clear()
    fleet.rounds()
    assert host.status.problem is None


def test_a_store_that_only_reads_is_lost_though_some_keys_answer(fleet: Fleet) -> None:
    host = fleet.host()
    host.registry.integration("second", "cache")
    fleet.rounds()
    fleet.memory.answers["failsoft:{test:market}"] = RuntimeError(
        "READONLY You can't write against a read only replica"
    )
    fleet.rounds()
    assert not host.syncer.connected
    assert host.status.problem is None


def test_another_integration_of_the_same_name_is_another(fleet: Fleet) -> None:
    opened(fleet)
    host = fleet.hosts[3]
    host.registry.close()
    host.integration = host.registry.integration("market", "external_api", circuit_breaker=SETTINGS)
    host.breaker = host.integration.breaker
    fleet.rounds()
    assert host.state == "OPEN"


def test_the_counts_of_all_hosts_trip_it(fleet: Fleet) -> None:
    settings = {"failure_threshold": None, "failure_rate": 0.5, "minimum_calls": 8}
    for _ in range(4):
        fleet.host(settings=settings, counts=True)
    fleet.rounds()
    for host in fleet.hosts[:3]:
        assert host.fail(2) == 2
    fleet.rounds(2)
    assert fleet.states == ["CLOSED"] * 4
    fleet.hosts[3].fail(2)
    fleet.rounds(2)
    assert fleet.states == ["OPEN"] * 4


def test_so_do_failures_in_a_row_of_more_than_one_host(fleet: Fleet) -> None:
    for _ in range(3):
        fleet.host(settings={"failure_threshold": 6}, counts=True)
    fleet.rounds()
    for number in (0, 1):
        fleet.hosts[number].fail(2)
        fleet.rounds()
    fleet.hosts[2].succeed()
    fleet.rounds()
    for number in (0, 1):
        fleet.hosts[number].fail(2)
        fleet.rounds()
    assert fleet.states == ["CLOSED"] * 3  # somebody was answered in between
    fleet.hosts[2].fail(2)
    fleet.rounds(2)
    assert fleet.states == ["OPEN"] * 3


def test_in_shared_open_counts_stay_where_they_are(fleet: Fleet) -> None:
    for _ in range(4):
        fleet.host(settings={"failure_threshold": None, "failure_rate": 0.5, "minimum_calls": 8})
    fleet.rounds()
    for host in fleet.hosts:
        host.fail(2)
    fleet.rounds(3)
    assert fleet.states == ["CLOSED"] * 4


def test_keys_are_shared_one_by_one(fleet: Fleet) -> None:
    def venue(key: str) -> None:
        if key == "dead":
            raise ConnectionRefusedError

    hosts = [fleet.host() for _ in range(2)]
    guards = [host.integration.guard(venue, key=lambda key: key, retry=False) for host in hosts]
    for guard in guards:
        for key in ("dead", "well"):
            with contextlib.suppress(ConnectionRefusedError):
                guard(key)
    fleet.rounds()
    for guard in guards:
        for _ in range(3):
            with contextlib.suppress(Exception):
                guard("dead")
    fleet.rounds(2)
    assert set(hosts[0].syncer.breakers()) == {"market", "market[dead]", "market[well]"}
    assert hosts[0].syncer.breakers()["market[dead]"].state == "OPEN"
    assert hosts[0].syncer.breakers()["market[well]"].state == "CLOSED"


def test_a_name_that_no_client_can_send_leaves_the_others_alone(fleet: Fleet) -> None:
    for _ in range(4):
        fleet.host().registry.integration("half \udc80", "cache")
    fleet.rounds()
    for host in fleet.hosts[:2]:
        host.fail()
    fleet.rounds(2)
    assert fleet.states == ["OPEN"] * 4
    assert fleet.hosts[0].syncer.breakers()["half \udc80"].hosts > 0


def test_leaving_is_told(fleet: Fleet) -> None:
    hosts = [fleet.host() for _ in range(3)]
    fleet.rounds()
    hosts[0].fail()
    fleet.rounds(2)
    hosts[0].syncer.leave()
    fleet.hosts.remove(hosts[0])
    hosts[1].fail()
    fleet.rounds(10)
    assert hosts[2].state == "CLOSED"  # one of two is no quorum


def test_many_changes_at_once_are_one_hint() -> None:
    """Or an outage of a thousand keys would be a thousand rounds of everybody."""
    waiting: list[Any] = [{"type": "message"}] * 1000

    class Client:
        def pubsub(self, **_options: Any) -> Client:
            return self

        def subscribe(self, _channel: str) -> None: ...

        def get_message(self, timeout: float) -> Any:
            return waiting.pop() if waiting else None

    store = Store(Client, "channel")
    assert store.wait(1.0, threading.Event())
    assert not store.wait(0.01, threading.Event())


# The public face


def test_a_fleet_runs_until_it_is_closed() -> None:
    memory, registry = Memory(), Registry()
    registry.integration("market", "external_api")
    with failsoft.fleet("", registry=registry, client=memory.client, interval=0.01, host="here") as fleet:
        while fleet.status().rounds < 3:
            threading.Event().wait(0.005)
        status = fleet.status()
        assert (status.connected, status.mode, status.namespace) == (True, "shared-open", "default")
        assert status.member.startswith("here/")
        assert status.breakers["market"].hosts == 1
        assert [thread.daemon for thread in threading.enumerate() if thread.name == "failsoft-fleet"] == [True]
    assert not [thread for thread in threading.enumerate() if thread.name == "failsoft-fleet"]
    assert not fleet.status().connected
    fleet.close()
    assert not memory.store.records["failsoft:{default:market}"].members


def test_a_listener_may_close_it() -> None:
    memory = Memory()
    memory.error = Down("gone")
    done = threading.Event()
    fleets: list[failsoft.Fleet] = []

    def close(_change: events.FleetChange) -> None:
        if fleets:  # that it has no store may be told before we have it, that the store is back cannot
            fleets[0].close()
            done.set()

    end = events.subscribe(close, events.FleetChange)
    try:
        fleets.append(failsoft.fleet("", registry=Registry(), client=memory.client, interval=0.05))
        memory.error = None
        assert done.wait(5.0)
        thread = fleets[0]._thread
        assert thread is not None
        thread.join(5.0)
        assert not thread.is_alive()
    finally:
        end()


def test_who_keeps_no_hold_of_it_has_it_all_the_same() -> None:
    import gc

    from failsoft import fleets

    memory = Memory()
    failsoft.fleet("", registry=Registry(), client=memory.client, interval=0.01)
    gc.collect()
    (mine,) = [fleet for fleet in fleets._running if fleet._connect == memory.client]
    mine.close()
    assert mine not in fleets._running


def test_a_registry_is_in_one_fleet() -> None:
    memory, registry = Memory(), Registry()
    with failsoft.fleet("", registry=registry, client=memory.client):
        with pytest.raises(RuntimeError, match="in a fleet already"):
            failsoft.fleet("", registry=registry, client=memory.client)
    failsoft.fleet("", registry=registry, client=memory.client).close()


def test_local_asks_nobody() -> None:
    memory = Memory()
    with failsoft.fleet("", registry=Registry(), client=memory.client, mode="local") as fleet:
        assert not fleet.status().connected
    assert memory.connections == 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"mode": "shared"}, ValueError, "mode must be one of local, shared-open, shared-window, got 'shared'"),
        ({"interval": 0.001}, ValueError, "interval must be a number of seconds from 0.01 to 60, got 0.001"),
        ({"interval": True}, ValueError, "interval must be"),
        ({"quorum": 0}, ValueError, "quorum must be a number of hosts from 1 on, or a share"),
        ({"quorum": 1.5}, ValueError, "up to 1.0, got 1.5"),
        ({"quorum": True}, ValueError, "quorum must be"),
        ({"namespace": "a/b"}, ValueError, "namespace must be a string without braces and slashes"),
        ({"host": ""}, ValueError, "host must be a string"),
        ({"client": "memcached"}, ValueError, 'client must be "redis", "valkey"'),
        ({"client": 7}, TypeError, "client must be"),
    ],
)
def test_what_is_not_allowed_is_said(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        failsoft.fleet("redis://127.0.0.1:1", registry=Registry(), **{"mode": "local", **options})


def test_a_missing_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    def missing(name: str) -> Callable[..., Any]:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"pip install 'failsoft\[fleet\]'"):
        from failsoft.fleets.stores import connector

        connector("redis://127.0.0.1:1", None)
