"""Alerts over a real registry: when they fire, when that is over, and what of it is told."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from failsoft import IntegrationType, Registry
from failsoft.alerts import AlertRule, Alerts, Notice, Observation, default_rules
from failsoft.testing import FakeClock


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.close()


class Service:
    """An operation that does as it is told."""

    def __init__(self, registry: Registry, clock: FakeClock, name: str = "db", **overrides: object) -> None:
        self.integration = registry.integration(
            name, IntegrationType.DATABASE, retry_policy={"max_retries": 0}, **overrides
        )
        self.clock = clock
        self.took = 0.0
        self.call = self.integration.guard(self._call, operation="read", retry=False)

    def _call(self, works: bool) -> None:
        self.clock.advance(self.took)
        if not works:
            raise ConnectionError("gone")

    def calls(self, works: bool, count: int = 1, took: float = 0.0) -> None:
        self.took = took
        for _ in range(count):
            self.call.outcome(works)


FIRM = {"circuit_breaker": {"failure_threshold": 10_000}}


def kinds(notices: tuple[Notice, ...]) -> list[str]:
    return [f"{notice.kind} {notice.key}" for notice in notices]


def test_an_alert_fires_once_and_is_resolved_once(registry: Registry, clock: FakeClock) -> None:
    service = Service(registry, clock)
    alerts = Alerts(
        [AlertRule("open", when="state == OPEN", severity="critical", summary="{integration} is {state}")],
        source=registry,
    )
    assert alerts.tick() == ()
    service.calls(False, 5)
    (notice,) = alerts.tick()
    assert (notice.kind, notice.key, notice.severity) == ("firing", "open/db", "critical")
    assert (notice.summary, notice.words, notice.values) == ("db is OPEN", "state OPEN", {"state": "OPEN"})
    for _ in range(5):
        clock.advance(5.0)
        assert alerts.tick() == ()
    assert alerts.firing() == ("open/db",)
    service.integration.reset()
    (over,) = alerts.tick()
    assert (over.kind, over.reason, over.lasted, over.since) == ("resolved", "recovered", 25.0, notice.since)
    assert str(over) == "resolved: open: db is OPEN (state OPEN) after 25s, recovered"
    assert over.id != notice.id
    assert [alerts.tick() for _ in range(3)] == [(), (), ()]
    assert kinds(alerts.history) == ["firing open/db", "resolved open/db"]


def test_it_has_to_hold_for_a_while_without_a_break(registry: Registry, clock: FakeClock) -> None:
    service = Service(registry, clock)
    alerts = Alerts([AlertRule("open", when="state == FORCED_OPEN", for_=30.0, resolve_after=10.0)], source=registry)
    service.integration.force_open()
    assert alerts.tick() == ()
    clock.advance(29.0)
    assert alerts.tick() == ()
    assert alerts.status().pending == 1
    service.integration.reset()
    assert alerts.tick() == ()
    service.integration.force_open()
    alerts.tick()
    clock.advance(29.9)
    assert alerts.tick() == ()
    clock.advance(0.2)
    assert kinds(alerts.tick()) == ["firing open/db"]
    service.integration.reset()
    assert alerts.tick() == ()
    clock.advance(5.0)
    service.integration.force_open()
    assert alerts.tick() == ()  # it has come back before it was over
    service.integration.reset()
    alerts.tick()
    clock.advance(10.0)
    assert kinds(alerts.tick()) == ["resolved open/db"]


def test_rates_and_percentiles_are_of_the_recent_window(registry: Registry, clock: FakeClock) -> None:
    service = Service(registry, clock, **FIRM)
    rules = [
        AlertRule("errors", when="error_rate > 5% and calls >= 20"),
        AlertRule("slow", when="p99 > 250ms"),
        AlertRule("tail", when="p50 > 250ms"),
    ]
    alerts = Alerts(rules, source=registry)
    service.calls(False, 2)
    assert alerts.tick() == ()  # all of two calls failed, and that is too few
    service.calls(True, 18)
    (notice,) = alerts.tick()
    assert (notice.key, notice.values) == ("errors/db/read", {"error_rate": 0.1, "calls": 20})
    assert notice.words == "error_rate 10%, calls 20"
    service.calls(True, 5, took=0.4)
    (slow,) = alerts.tick()
    assert slow.key == "slow/db/read"
    assert slow.values["p99"] == pytest.approx(0.4, rel=0.008)
    clock.advance(120.0)
    assert alerts.tick() == ()
    service.calls(True, 25)
    assert kinds(alerts.tick()) == ["resolved errors/db/read", "resolved slow/db/read"]


def test_no_data_is_not_zero(registry: Registry, clock: FakeClock) -> None:
    """Neither does an idle operation look perfect, nor does silence resolve what fires."""
    service = Service(registry, clock, **FIRM)
    rules = [AlertRule("errors", when="error_rate > 50%", no_data=300.0), AlertRule("perfect", when="error_rate == 0%")]
    alerts = Alerts(rules, source=registry)
    assert alerts.tick() == ()
    service.calls(False, 3)
    assert kinds(alerts.tick()) == ["firing errors/db/read"]
    for _ in range(5):
        clock.advance(60.0)
        assert alerts.tick() == ()  # the window is empty from the second of these on
    clock.advance(60.0)
    (over,) = alerts.tick()
    assert (over.kind, over.reason) == ("resolved", "no data")


def test_silence_is_told(registry: Registry, clock: FakeClock) -> None:
    service = Service(registry, clock, **FIRM)
    rules = [
        AlertRule("silent", when="calls == 0", for_=30.0),
        AlertRule("errors", when="error_rate > 50% and calls >= 3"),
        AlertRule("busy", when="calls >= 3", no_data=300.0),
        AlertRule("judged", when=lambda seen: seen.calls > 10),
    ]
    alerts = Alerts(rules, source=registry)
    assert alerts.tick() == ()  # it has its time to begin
    service.calls(False, 3)
    clock.advance(30.0)
    assert kinds(alerts.tick()) == ["firing errors/db/read", "firing busy/db/read"]
    clock.advance(60.0)
    assert kinds(alerts.tick()) == ["resolved busy/db/read"]  # and the errors have no data
    clock.advance(30.0)
    (silent,) = alerts.tick()
    assert (silent.key, silent.words) == ("silent/db/read", "calls 0")
    service.calls(True)
    (over,) = (notice for notice in alerts.tick() if notice.rule == "silent")
    assert (over.kind, over.reason) == ("resolved", "recovered")
    assert alerts.status().rule_errors == 0


def test_a_stream_that_never_gives_anything_is_late(registry: Registry, clock: FakeClock) -> None:
    alerts = Alerts([AlertRule("late", when="stream_age > 3s")], source=registry)
    stream = registry.integration("feed", "market_data").watch([], operation="quotes")
    assert alerts.tick() == ()
    clock.advance(3.5)
    assert kinds(alerts.tick()) == ["firing late/feed/quotes"]
    assert stream.status().age is None


def test_the_share_of_fallbacks_is_of_the_last_minute_and_of_all_that_was_asked(
    registry: Registry, clock: FakeClock
) -> None:
    from failsoft import database_fallbacks

    db = registry.integration(
        "db", "database", retry_policy={"max_retries": 0}, circuit_breaker={"failure_threshold": 8}
    )
    broken = [True]

    @db.guard(operation="read", retry=False, fallbacks=[database_fallbacks.mock_data([])])
    def read() -> list[int]:
        if broken[0]:
            raise ConnectionError
        return [1]

    seen: list[Observation] = []
    alerts = Alerts(
        [AlertRule("fallbacks", when="fallback_share > 10%"), AlertRule("look", when=seen.append)], source=registry
    )
    for _ in range(4):
        read()
    alerts.tick()
    assert (seen[-1].fallback_share, seen[-1].rejected_share) == (None, None)  # nobody knows since when these are
    clock.advance(10.0)
    for _ in range(12):
        read()
    assert kinds(alerts.tick()) == ["firing fallbacks/db/read"]
    assert (seen[-1].fallback_share, seen[-1].rejected_share) == (1.0, 8 / 12)
    db.reset()
    broken[0] = False
    for _ in range(12):
        read()
    alerts.tick()
    assert (seen[-1].fallback_share, seen[-1].rejected_share) == (0.5, 8 / 24)
    clock.advance(70.0)
    read()
    assert kinds(alerts.tick()) == ["resolved fallbacks/db/read"]


def test_an_operation_that_is_new_counts_from_its_first_call(registry: Registry, clock: FakeClock) -> None:
    seen: list[Observation] = []
    alerts = Alerts([AlertRule("look", when=seen.append)], source=registry)
    alerts.tick()
    Service(registry, clock).calls(False, 10)
    clock.advance(1.0)
    alerts.tick()
    assert seen[-1].rejected_share == 0.5


def test_capacity_and_the_retry_budget(registry: Registry, clock: FakeClock) -> None:
    service = Service(registry, clock)
    alerts = Alerts(
        [
            AlertRule("degraded", when="capacity < 100% and state == CLOSED"),
            AlertRule("budget", when="retry_budget < 50%"),
        ],
        source=registry,
    )
    assert alerts.tick() == ()
    registry.capacities.enter("db", 0.25, "maintenance")
    (notice,) = alerts.tick()
    assert notice.words == "capacity 25%, state CLOSED"
    registry.capacities.exit("db", "maintenance")
    assert kinds(alerts.tick()) == ["resolved degraded/db"]
    budget = service.integration.retry_budget
    assert budget is not None
    while budget.retry(service.integration.breaker):
        pass
    assert kinds(alerts.tick()) == ["firing budget/db"]


def test_a_breaker_that_opens_and_closes_is_seen(registry: Registry, clock: FakeClock) -> None:
    service = Service(registry, clock)
    alerts = Alerts([rule for rule in default_rules() if rule.name == "circuit-flapping"], source=registry)
    alerts.tick()
    for _ in range(3):
        clock.advance(1.0)
        service.integration.force_open()
        service.integration.reset()
    assert kinds(alerts.tick()) == ["firing circuit-flapping/db"]
    clock.advance(61.0)
    alerts.tick()
    clock.advance(121.0)
    alerts.tick()
    clock.advance(121.0)
    assert kinds(alerts.tick()) == ["resolved circuit-flapping/db"]


def test_flapping_is_told_once_and_so_is_its_end(registry: Registry, clock: FakeClock) -> None:
    service = Service(registry, clock)
    alerts = Alerts([AlertRule("held", when="state == FORCED_OPEN")], source=registry, flaps=3, flap_window=600.0)
    told: list[str] = []
    for _ in range(6):
        for step in (service.integration.force_open, service.integration.reset):
            step()
            told += [notice.kind for notice in alerts.tick()]
            clock.advance(10.0)
    assert told == ["firing", "resolved", "firing", "resolved", "flapping"]
    assert alerts.status().held == 7  # the end of the third, and both of the three after it
    clock.advance(600.0)
    assert [notice.kind for notice in alerts.tick()] == ["resolved"]
    service.integration.force_open()
    assert [notice.kind for notice in alerts.tick()] == ["firing"]


def test_what_flaps_and_ends_up_firing_is_resolved_when_it_is_over(registry: Registry, clock: FakeClock) -> None:
    service = Service(registry, clock)
    alerts = Alerts([AlertRule("held", when="state == FORCED_OPEN")], source=registry, flaps=2, flap_window=100.0)
    for step in (service.integration.force_open, service.integration.reset, service.integration.force_open):
        step()
        alerts.tick()
    assert [notice.kind for notice in alerts.history] == ["firing", "resolved", "flapping"]
    clock.advance(500.0)
    assert alerts.tick() == ()  # it fires as before, and somebody knows
    service.integration.reset()
    assert [notice.kind for notice in alerts.tick()] == ["resolved"]


def test_silences_hold_back_what_begins_but_never_the_end(registry: Registry, clock: FakeClock) -> None:
    first, second = Service(registry, clock, "db-1"), Service(registry, clock, "db-2")
    alerts = Alerts([AlertRule("held", when="state == FORCED_OPEN")], source=registry)
    first.integration.force_open()
    alerts.tick()
    silence = alerts.silence("held", "db-*", seconds=60.0, reason="maintenance")
    assert alerts.silences == (silence,)
    second.integration.force_open()
    first.integration.reset()
    assert kinds(alerts.tick()) == ["resolved held/db-1"]
    alerts.tick()
    assert (alerts.status().silenced, alerts.firing()) == (1, ("held/db-2",))
    clock.advance(59.0)
    assert alerts.tick() == ()
    clock.advance(1.0)
    assert kinds(alerts.tick()) == ["firing held/db-2"]
    assert alerts.silences == ()


def test_what_began_and_ended_in_a_silence_is_never_told(registry: Registry, clock: FakeClock) -> None:
    service = Service(registry, clock)
    alerts = Alerts([AlertRule("held", when="state == FORCED_OPEN")], source=registry)
    silence = alerts.silence(integration="db", until=time.time() + 60.0)
    service.integration.force_open()
    alerts.tick()
    service.integration.reset()
    alerts.tick()
    assert alerts.unsilence(silence)
    assert not alerts.unsilence(silence)
    assert alerts.tick() == ()
    assert alerts.history == ()
    with pytest.raises(ValueError, match="until must be a time to come"):
        alerts.silence(until=5.0)
    with pytest.raises(TypeError, match="rule must be a name"):
        alerts.silence(5)  # type: ignore[arg-type]


def test_each_key_is_looked_at_by_itself(registry: Registry, clock: FakeClock) -> None:
    market = registry.integration("venues", "market_data", retry_policy={"max_retries": 0})

    @market.guard(operation="quote", key=lambda venue: venue, retry=False)
    def quote(venue: str) -> float:
        if venue == "dead":
            raise ConnectionError
        return 1.0

    for _ in range(30):
        quote.outcome("dead")
        quote.outcome("alive")
    alerts = Alerts([AlertRule("open", when="state == OPEN", integrations="venues[*]")], source=registry)
    assert kinds(alerts.tick()) == ["firing open/venues[dead]"]


def test_an_operation_that_is_called_by_key_is_not_silent(registry: Registry, clock: FakeClock) -> None:
    market = registry.integration("binance", "market_data")

    @market.guard(operation="quote", key=lambda venue: venue, max_keys=1)
    def quote(venue: str) -> float:
        return 100.0

    alerts = Alerts([AlertRule("silent", when="calls == 0")], source=registry)
    quote("spot")
    assert alerts.tick() == ()
    for _ in range(4):
        clock.advance(30.0)
        quote("futures")
        assert alerts.tick() == ()
    clock.advance(120.0)
    assert sorted(notice.integration for notice in alerts.tick()) == ["binance", "binance[futures]"]


def test_a_stream_that_falls_silent(registry: Registry, clock: FakeClock) -> None:
    market = registry.integration("feed", "market_data")
    alerts = Alerts(
        [
            AlertRule("stale", when="stream_state == STALE"),
            AlertRule("old", when="stream_age > 3s", operations="quotes"),
        ],
        source=registry,
    )
    watched = market.watch(iter(range(3)), stale_after=2.0, operation="quotes")
    elsewhere = Registry()
    other = elsewhere.integration("feed", "market_data").watch(iter(range(3)), stale_after=0.1)
    assert alerts.tick() == ()
    next(watched), next(other)
    clock.advance(1.0)
    assert alerts.tick() == ()
    clock.advance(1.5)
    assert kinds(alerts.tick()) == ["firing stale/feed/quotes"]
    clock.advance(1.0)
    assert kinds(alerts.tick()) == ["firing old/feed/quotes"]
    next(watched)
    assert kinds(alerts.tick()) == ["resolved stale/feed/quotes", "resolved old/feed/quotes"]
    del watched, other
    gc.collect()
    assert alerts.tick() == ()
    elsewhere.close()


def test_an_async_stream_is_seen_too(registry: Registry) -> None:
    async def feed() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def look() -> list[str]:
        market = registry.integration("feed", "market_data")
        alerts = Alerts([AlertRule("live", when="stream_state == live")], source=registry)
        async with market.stream(feed, stale_after=None) as stream:
            await anext(stream)
            return kinds(alerts.tick())

    assert asyncio.run(look()) == ["firing live/feed/stream"]


def test_a_function_may_judge_and_may_raise(registry: Registry, clock: FakeClock) -> None:
    service = Service(registry, clock)
    service.calls(True)
    alerts: Alerts

    def judge(seen: Observation) -> bool:
        assert alerts.tick() == ()  # somebody looks already
        if seen.calls == 2:
            raise ValueError("nonsense")
        return True

    alerts = Alerts([AlertRule("mine", when=judge)], source=registry)
    (notice,) = alerts.tick()
    assert notice.condition.endswith("judge")
    service.calls(True)
    assert alerts.tick() == ()
    assert alerts.tick() == ()
    assert (alerts.status().rule_errors, alerts.firing()) == (2, ("mine/db/read",))


def test_health_checks_decide_where_there_are_some(registry: Registry, clock: FakeClock) -> None:
    Service(registry, clock, "db"), Service(registry, clock, "other")
    alerts = Alerts([AlertRule("sick", when="healthy == false")], source=registry)
    assert alerts.tick() == ()
    ill = threading.Event()

    def ping() -> None:
        if ill.is_set():
            raise ConnectionError

    registry.health.register_health_check(
        integration_type=IntegrationType.DATABASE, integration_name="db", check=ping, interval=1.0, unhealthy_after=1
    )
    ill.set()
    with registry.health:
        for _ in range(500):
            clock.advance(1.0)
            if registry.health.get_health("db").healthy is False:
                break
            time.sleep(0.002)
        assert kinds(alerts.tick()) == ["firing sick/db"]


def test_a_source_that_cannot_be_read_is_no_data(clock: FakeClock) -> None:
    class Gone:
        def with_shards(self) -> object:
            raise OSError("the arena is gone")

    alerts = Alerts([AlertRule("open", when="state == OPEN")], source=Gone())
    assert alerts.tick() == ()
    assert alerts.status().read_errors == 1


class Leaving:
    """A source as an arena is one: an integration may have gone by the time that it is read."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def with_shards(self) -> Iterator[Any]:
        yield Gone()
        yield from self._registry.with_shards()


class Gone:
    name = "gone"
    operations = recorded = ()

    def status(self) -> Any:
        raise KeyError(7)


def test_one_that_has_gone_takes_no_other_along(registry: Registry, clock: FakeClock) -> None:
    registry.integration("db", "database").force_open()
    alerts = Alerts([AlertRule("held", when="state == FORCED_OPEN")], source=Leaving(registry))
    assert kinds(alerts.tick()) == ["firing held/db"]
    assert alerts.status().read_errors == 0


def test_a_function_that_would_end_the_program_ends_no_other_rule(registry: Registry, clock: FakeClock) -> None:
    def leave(_: Observation) -> bool:
        raise SystemExit(1)

    def cancelled(_: Observation) -> bool:
        raise asyncio.CancelledError

    registry.integration("db", "database").force_open()
    rules = [AlertRule(f.__name__, when=f, per="integration") for f in (leave, cancelled)]
    alerts = Alerts([*rules, AlertRule("held", when="state == FORCED_OPEN")], source=registry)
    assert [notice.rule for notice in alerts.tick()] == ["held"]
    assert alerts.status().rule_errors == 2


@pytest.mark.parametrize("now", [float("nan"), float("inf")])
def test_a_look_is_at_a_moment(registry: Registry, clock: FakeClock, now: float) -> None:
    alerts = Alerts([], source=registry)
    with pytest.raises(ValueError, match="now must be a number of seconds"):
        alerts.tick(now)


def test_what_fires_and_vanishes_ends_without_data(clock: FakeClock) -> None:
    registry = Registry()
    Service(registry, clock).integration.force_open()
    alerts = Alerts([AlertRule("held", when="state == FORCED_OPEN", no_data=60.0)], source=registry)
    alerts.tick()
    registry.close()
    assert alerts.tick() == ()
    clock.advance(60.0)
    assert [notice.reason for notice in alerts.tick()] == ["no data"]
    clock.advance(3600.0)
    alerts.tick()
    assert not alerts._tracks  # nothing is kept of it


def test_the_thread_looks_and_ends(registry: Registry, clock: FakeClock) -> None:
    service = Service(registry, clock)
    heard: list[Notice] = []
    alerts = Alerts(
        [AlertRule("held", when="state == FORCED_OPEN")], sinks=[heard.append], source=registry, interval=5.0
    )
    before = threading.active_count()
    assert (alerts.running, repr(alerts)) == (False, "<Alerts stopped, 1 rules>")
    with alerts as same:
        assert same is alerts.start()
        assert threading.active_count() == before + 1
        until = time.monotonic() + 5.0
        while alerts.status().looks < 1 and time.monotonic() < until:
            time.sleep(0.001)
        service.integration.force_open()
        time.sleep(0.01)
        assert heard == []
        clock.advance(5.0)
        while not heard and time.monotonic() < until:
            time.sleep(0.001)
    assert [notice.kind for notice in heard] == ["firing"]
    assert (alerts.running, alerts.status().looks) == (False, 2)
    alerts.stop()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_rules_but_no_thread_and_no_alerts(registry: Registry, clock: FakeClock) -> None:
    Service(registry, clock).integration.force_open()
    heard: list[Notice] = []
    go_on = threading.Event()

    def slow(notice: Notice) -> None:
        go_on.wait(10.0)
        heard.append(notice)

    alerts = Alerts([AlertRule("held", when="state == FORCED_OPEN")], sinks=[slow], source=registry, interval=1e6)
    alerts.tick()
    alerts._looking.acquire()  # as if the thread looked now, and the sink is being told
    alerts.start()
    child = os.fork()
    if not child:
        go_on.set()
        fine = not alerts.running and kinds(alerts.tick()) == ["firing held/db"] and alerts.flush() and len(heard) == 1
        os._exit(0 if fine else 1)
    go_on.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert alerts.running
    alerts.stop()


def test_looks_from_many_threads_tell_everything_once(registry: Registry, clock: FakeClock) -> None:
    services = [Service(registry, clock, f"db-{n}") for n in range(10)]
    alerts = Alerts([AlertRule("held", when="state == FORCED_OPEN")], source=registry, flaps=1000)
    told: list[Notice] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            told.extend(alerts.tick())

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for service in services:
        service.integration.force_open()
    over_at = time.monotonic() + 5.0
    while len(told) < 10 and time.monotonic() < over_at:
        time.sleep(0.001)
    over.set()
    for thread in threads:
        thread.join()
    assert sorted(notice.integration for notice in told) == sorted(service.integration.name for service in services)


def test_default_rules_cover_the_first_screen(registry: Registry, clock: FakeClock) -> None:
    from failsoft.alerts.language import parse

    rules = default_rules()
    measured = {name for rule in rules for name in parse(str(rule.when)).measures}
    assert {"healthy", "state", "error_rate", "p99", "fallback_share", "capacity", "stream_state"} <= measured
    alerts = Alerts(rules, source=registry)
    service = Service(registry, clock)
    service.calls(True, 30)
    for _ in range(10):
        clock.advance(30.0)
        assert alerts.tick() == ()
    service.calls(False, 30)
    alerts.tick()
    clock.advance(30.0)
    assert "firing circuit-open/db" in kinds(alerts.tick())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"rules": ["state == OPEN"]}, "rules must be AlertRules"),
        ({"rules": [AlertRule("a", when="calls > 1")] * 2}, "two are 'a'"),
        ({"rules": [], "interval": 0}, "interval must be"),
        ({"rules": [], "flaps": 1}, "flaps must be an integer from 2"),
        ({"rules": [], "sinks": [5]}, "a sink must have name"),
        ({"rules": [], "sinks": [print, print]}, "two are 'print'"),
    ],
)
def test_nonsense_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        Alerts(**arguments)  # type: ignore[arg-type]
