"""Health checks: when they run and where, what they make of the answers, whom they tell, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import failsoft
import failsoft.health.checks
from failsoft import CircuitState, HealthMonitor, HealthStatus, Integration, IntegrationResult, Registry
from failsoft.events import HealthChange, subscribe
from failsoft.testing import FakeClock

INTERVAL = 10.0
FIRST = 0.05 * INTERVAL  # with the dice of `exact`, when the first check comes
LONG = 1000.0
PATIENCE = 10.0  # real seconds after which a test gives up

Alter = Callable[[HealthStatus], Any]


def until(what: Callable[[], Any]) -> None:
    """Wait for other threads to bring something about."""
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.0005)


async def until_async(what: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.0005)


def beat(clock: FakeClock, n: int) -> None:
    """Move on to the n-th check, from 1."""
    clock.advance(FIRST if n == 1 else INTERVAL)


class Answers:
    """A check that answers as it is told, and counts."""

    def __init__(self, answer: Any = True) -> None:
        self.answer = answer
        self.runs = 0

    def __call__(self) -> Any:
        self.runs += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Hanging:
    """A check that returns when it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.runs = self.inside = self.most = 0

    def __call__(self) -> None:
        self.runs, self.inside = self.runs + 1, self.inside + 1
        self.most = max(self.most, self.inside)
        self.let_go.wait(PATIENCE)
        self.inside -= 1


@pytest.fixture(autouse=True)
def exact(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks come when they are due to the nanosecond, except where their spread is the question."""
    if "spread" not in request.node.name:
        monkeypatch.setattr(failsoft.health.checks, "_dice", SimpleNamespace(delay=lambda _: 0.5))


@pytest.fixture
def monitor(registry: Registry) -> Iterator[HealthMonitor]:
    monitor = registry.health
    yield monitor
    monitor.stop()


@pytest.fixture
def register(monitor: HealthMonitor) -> Callable[..., Callable[[], None]]:
    def register(check: Callable[[], Any], name: str = "database", **options: Any) -> Callable[[], None]:
        # A clock that is moved in the loop's own thread jumps over what the loop would do meanwhile; tests of loops
        # that are not about timeouts have them long.
        options = {"interval": INTERVAL, "timeout": 2.0, **options}
        return monitor.register_health_check(integration_type="database", integration_name=name, check=check, **options)

    return register


Register = Callable[..., Callable[[], None]]


def checks_done(monitor: HealthMonitor, name: str = "database") -> int:
    """How many results have been taken in; good for rows of one kind."""
    status = monitor.get_health(name)
    return status.consecutive_successes + status.consecutive_failures


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("failsoft-health")]


# ---- the seed's example


def test_the_seeds_example(registry: Registry, clock: FakeClock) -> None:
    alerts: list[str] = []
    database = SimpleNamespace(check_connection=lambda: up)
    up = True
    registry.health.register_health_check(
        integration_type=failsoft.IntegrationType.DATABASE,
        integration_name="database",
        check=lambda: {"success": database.check_connection(), "latency": 0.012},
        interval=30.0,
        timeout=10.0,
        on_health_change=lambda status: status.healthy or alerts.append(f"Database is unhealthy: {status}"),
    )
    with registry.health:
        clock.advance(1.5)
        until(lambda: checks_done(registry.health))
        assert registry.health.get_health("database").healthy
        up = False
        for failures in (1, 2):
            clock.advance(30.0)
            until(lambda f=failures: registry.health.get_health("database").consecutive_failures == f)
        until(lambda: alerts)
    assert alerts[0].startswith("Database is unhealthy: database: unhealthy, 2 checks failed in a row")
    assert "circuit CLOSED" in alerts[0]
    assert len(alerts) == 1


def test_the_module_functions_are_of_the_default_registry() -> None:
    guarded = failsoft.integration("health-default", "cache")
    assert failsoft.get_all_integration_health()["health-default"].healthy
    assert failsoft.integration_health_monitor.get_health("health-default").integration_name == guarded.name
    assert not failsoft.integration_health_monitor.running


def test_a_registry_has_one_monitor(registry: Registry) -> None:
    assert registry.health is registry.health
    assert isinstance(registry.health, HealthMonitor)
    assert registry.health is not Registry().health


# ---- what may be registered


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"check": None}, TypeError, "check must be callable"),
        ({"check": lambda: (yield)}, TypeError, "generator"),
        ({"interval": 0}, ValueError, "interval"),
        ({"interval": 1e-6}, ValueError, "interval must be at least 0.001"),
        ({"interval": "30s"}, TypeError, "interval"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": True}, TypeError, "timeout"),
        ({"on_health_change": 5}, TypeError, "on_health_change"),
        ({"healthy_after": 0}, ValueError, "healthy_after"),
        ({"unhealthy_after": 1.5}, TypeError, "unhealthy_after"),
        ({"probe": 1}, TypeError, "probe"),
        ({"integration_name": ""}, TypeError, "name"),
        ({"integration_type": "databass"}, ValueError, "databass"),
    ],
)
def test_wrong_arguments_are_named(registry: Registry, wrong: dict[str, Any], error: type, words: str) -> None:
    good: dict[str, Any] = {"integration_type": "database", "integration_name": "dependency", "check": lambda: True}
    with pytest.raises(error, match=words):
        registry.health.register_health_check(**{**good, **wrong})
    assert len(registry) == 0


def test_interval_and_timeout_are_the_integrations(registry: Registry, clock: FakeClock) -> None:
    """MARKET_DATA: every 10 s, and 5 s are the read timeout."""
    check = Hanging()
    registry.health.register_health_check(
        integration_type="market_data", integration_name="feed", check=check, unhealthy_after=1
    )
    with registry.health:
        clock.advance(1.0)
        until(lambda: check.runs == 1)
        clock.advance(4.9)
        time.sleep(0.01)
        assert registry.health.get_health("feed").last_check is None
        clock.advance(0.2)
        until(lambda: registry.health.get_health("feed").last_error)
        assert registry.health.get_health("feed").last_error == "no answer within 5 s"
        check.let_go.set()


def test_an_integration_that_is_something_else_already(registry: Registry) -> None:
    registry.integration("database", "database")
    with pytest.raises(ValueError, match="is database already"):
        registry.health.register_health_check(integration_type="cache", integration_name="database", check=lambda: True)


# ---- what answers mean


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("answer", "good", "error"),
    [
        (True, True, None),
        (None, True, None),
        (False, False, "the check returned no success"),
        ({"success": True}, True, None),
        ({"success": True, "latency": 0.25}, True, None),
        ({"success": False, "error": "lagging"}, False, "lagging"),
        ({"latency": 1}, False, "got dict"),
        ({"success": "yes"}, False, "got dict"),
        ({"success": True, "latency": -1}, False, "latency"),
        ({"success": True, "latency": float("nan")}, False, "latency"),
        (SimpleNamespace(success=True), True, None),
        (SimpleNamespace(success=False, error=OSError("down")), False, "down"),
        (IntegrationResult(True), True, None),
        (IntegrationResult(False), False, "no success"),
        (1, False, "a check must return"),
        ("PONG", False, "got str: 'PONG'"),
        (ConnectionError("gone"), False, "ConnectionError: gone"),
        (Hostile(), False, "Hostile"),
        (SystemExit(3), False, "SystemExit: 3"),
    ],
    ids=repr_of if (repr_of := lambda value: type(value).__name__) else None,
)
def test_answers(
    monitor: HealthMonitor, register: Register, clock: FakeClock, answer: Any, good: bool, error: str | None
) -> None:
    register(Answers(answer), unhealthy_after=1)
    with monitor:
        clock.advance(FIRST)
        until(lambda: checks_done(monitor))
    status = monitor.get_health("database")
    assert status.healthy is good
    assert (error in status.last_error) if error else status.last_error is None
    assert status.latency == (0.25 if isinstance(answer, dict) and answer.get("latency") == 0.25 else 0.0)


def test_the_status_tells_all(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    check = Answers({"success": True, "latency": 0.1})
    register(check)
    nothing = monitor.get_health("database")
    assert nothing == HealthStatus(
        "database", "database", True, None, None, None, None, None, 0, 0, None, None, True, CircuitState.CLOSED
    )
    with monitor:
        for n, (latency, good) in enumerate(((0.1, True), (0.15, True), (0.2, True), (0.4, False)), 1):
            check.answer = {"success": good, "latency": latency, "error": "slow"}
            beat(clock, n)
            until(lambda latency=latency: monitor.get_health("database").latency == latency)
        status = monitor.get_health("database")
    assert (status.healthy, status.checked, status.error_rate) == (True, True, 0.25)
    assert (status.consecutive_successes, status.consecutive_failures, status.last_error) == (0, 1, "slow")
    assert status.p50_latency == pytest.approx(0.15, rel=0.01)
    assert status.p99_latency == pytest.approx(0.4, rel=0.01)
    assert status.last_check == pytest.approx(time.time(), abs=PATIENCE)
    assert json.loads(json.dumps(status.as_dict()))["p50_latency"] == status.p50_latency
    assert str(status).startswith("database: healthy, the last check failed (slow), error rate 0.25, p50/p95/p99 0.")


# ---- verdicts, and whom they are told


def test_changes_are_told_once_each(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    told: list[bool] = []
    heard: list[HealthChange] = []
    check = Answers(True)
    register(check, on_health_change=lambda s: told.append(s.healthy), healthy_after=2, unhealthy_after=3)
    unsubscribe = subscribe(heard.append, HealthChange)

    def answer(answer: bool, times: int) -> None:
        check.answer = answer
        for _ in range(times):
            before = monitor.get_health("database").last_check
            beat(clock, check.runs + 1)
            until(lambda b=before: monitor.get_health("database").last_check != b)

    with monitor:
        answer(True, 4)
        answer(False, 2)
        assert monitor.get_health("database").healthy
        answer(True, 1)
        answer(False, 2)  # no row of three
        assert monitor.get_health("database").healthy
        answer(False, 3)  # three, and two more
        assert not monitor.get_health("database").healthy
        answer(True, 1)
        assert not monitor.get_health("database").healthy
        answer(True, 3)
        assert monitor.get_health("database").healthy
        until(lambda: len(heard) == 2)
    unsubscribe()
    assert told == [False, True]
    assert [(e.integration, e.healthy, e.consecutive_failures, e.consecutive_successes, e.error) for e in heard] == [
        ("database", False, 3, 0, "the check returned no success"),
        ("database", True, 0, 2, None),
    ]


@pytest.mark.parametrize(("first", "told"), [(True, []), (False, [False])])
def test_a_first_verdict_is_a_change_only_if_unhealthy(
    monitor: HealthMonitor, register: Register, clock: FakeClock, first: bool, told: list[bool]
) -> None:
    seen: list[bool] = []
    register(Answers(first), on_health_change=lambda s: seen.append(s.healthy), unhealthy_after=1)
    with monitor:
        clock.advance(FIRST)
        until(lambda: checks_done(monitor))
        until(lambda: seen == told)
    assert seen == told


def test_a_callback_that_raises_changes_nothing(
    monitor: HealthMonitor, register: Register, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[bool] = []
    check = Answers(False)

    def alert(status: HealthStatus) -> None:
        calls.append(status.healthy)
        raise SystemExit("the callback's own fault")

    register(check, on_health_change=alert, unhealthy_after=1)
    with caplog.at_level(logging.ERROR, "failsoft"), monitor:
        for n, answer in enumerate((False, True, False, True), 1):
            check.answer = answer
            beat(clock, n)
            until(lambda n=n: len(calls) == n)
    assert calls == [False, True, False, True]
    assert [record.message for record in caplog.records] == [
        "on_health_change of 'database' raised; this is not logged again"
    ]


def test_a_callback_that_hangs_holds_up_no_check(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    """The scheduling thread never calls it. Told in that thread, the second check would not come."""
    calls: list[bool] = []
    check = Answers(False)
    let_go = threading.Event()

    def alert(status: HealthStatus) -> None:
        calls.append(status.healthy)
        let_go.wait(PATIENCE)

    hung = Hanging()
    register(check, on_health_change=alert, unhealthy_after=1)
    register(hung, "hung", on_health_change=alert, unhealthy_after=1)  # given up by the scheduling thread
    with monitor:
        clock.advance(FIRST)
        until(lambda: hung.runs == 1)
        clock.advance(2.0)
        until(lambda: len(calls) == 2)
        for n in (2, 3):
            clock.advance(INTERVAL)
            until(lambda n=n: checks_done(monitor) == n)
        assert check.runs == 3
        check.answer = True
        clock.advance(INTERVAL)
        until(lambda: monitor.get_health("database").healthy)
        assert calls == [False, False]  # the next change waits for its turn
        let_go.set()
        until(lambda: calls == [False, False, True])
        hung.let_go.set()


def test_an_async_callback_in_a_thread(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    told: queue.Queue[tuple[bool, str]] = queue.Queue()

    async def alert(status: HealthStatus) -> None:
        await asyncio.sleep(0)
        told.put((status.healthy, threading.current_thread().name))

    register(Answers(False), on_health_change=alert, unhealthy_after=1)
    with monitor:
        clock.advance(FIRST)
        assert told.get(timeout=PATIENCE) == (False, "failsoft-health")


# ---- when they run


def test_intervals_are_spread(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    step = INTERVAL / 100
    at: list[float] = []

    async def check() -> None:
        at.append(clock.now)

    async def main() -> None:
        register(check)
        began = clock.now
        async with monitor:
            while len(at) < 40:
                clock.advance(step)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        assert at[0] - began <= 0.1 * INTERVAL + step

    asyncio.run(main())
    waits = [b - a for a, b in zip(at, at[1:], strict=False)]
    assert 0.9 * INTERVAL - step < min(waits) < INTERVAL < max(waits) < 1.1 * INTERVAL + step


def test_what_is_registered_later_begins_too(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    check = Answers()
    with monitor:
        register(check)
        clock.advance(FIRST)
        until(lambda: check.runs == 1)


def test_another_check_takes_the_place(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    old, new = Answers(False), Answers(True)
    unregister_old = register(old, unhealthy_after=1)
    with monitor:
        clock.advance(FIRST)
        until(lambda: not monitor.get_health("database").healthy)
        unregister_new = register(new)
        assert monitor.get_health("database").healthy  # nothing is known of it yet
        unregister_old()  # has nothing left to end
        clock.advance(FIRST)
        until(lambda: new.runs == 1)
        until(lambda: checks_done(monitor) == 1)
        unregister_new()
        unregister_new()
        clock.advance(10 * INTERVAL)
        assert (old.runs, new.runs) == (1, 1)
        assert not monitor.get_health("database").checked


def test_a_run_of_a_former_check_says_nothing(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    alerts: list[bool] = []
    let_go = threading.Event()
    began = threading.Event()

    def check() -> bool:
        began.set()
        return not let_go.wait(PATIENCE)

    unregister = register(check, unhealthy_after=1, on_health_change=lambda s: alerts.append(s.healthy))
    with monitor:
        clock.advance(FIRST)
        assert began.wait(PATIENCE)
        unregister()
        let_go.set()
        until(lambda: len(ours()) == 1)
    assert alerts == []
    assert not monitor.get_health("database").checked


# ---- hanging, and no overlap


def test_a_sync_check_that_hangs(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    """Neither stops the others nor overlaps with itself, and fails anew with each interval until it has ended."""
    hung = Hanging()
    alerts: list[HealthStatus] = []
    other = Answers()
    register(hung, "hung", on_health_change=alerts.append)
    register(other, "other")
    with monitor:
        clock.advance(FIRST)
        until(lambda: hung.runs == 1 and checks_done(monitor, "other") == 1)
        clock.advance(2.0)
        until(lambda: monitor.get_health("hung").consecutive_failures == 1)
        assert monitor.get_health("hung").last_error == "no answer within 2 s"
        for n in (2, 3, 4):
            clock.advance(INTERVAL)
            until(lambda n=n: monitor.get_health("hung").consecutive_failures == n)
            until(lambda n=n: checks_done(monitor, "other") == n)
        assert "has not ended" in str(monitor.get_health("hung").last_error)
        until(lambda: alerts)
        assert hung.runs == 1
        hung.let_go.set()
        until(lambda: len(ours()) == 1)
        clock.advance(INTERVAL)
        until(lambda: monitor.get_health("hung").healthy)
        assert (hung.runs, hung.most) == (2, 1)
    assert [status.healthy for status in alerts] == [False, True]


def test_a_slow_check_does_not_overlap_with_itself(
    monitor: HealthMonitor, register: Register, clock: FakeClock
) -> None:
    """Within its time, but longer than the interval: the beats that come meanwhile are left out."""
    check = Hanging()
    other = Answers()
    register(check, timeout=10 * INTERVAL)
    register(other, "other")
    with monitor:
        for n in (1, 2, 3):
            beat(clock, n)
            until(lambda n=n: checks_done(monitor, "other") == n)
        assert (check.runs, monitor.get_health("database").consecutive_failures) == (1, 0)
        check.let_go.set()
        until(lambda: checks_done(monitor) == 1)
        clock.advance(INTERVAL)
        until(lambda: check.runs == 2)
    assert check.most == 1


def test_stop_and_start_do_not_overlap_with_a_hung_run(
    monitor: HealthMonitor, register: Register, clock: FakeClock
) -> None:
    hung = Hanging()
    register(hung)
    with monitor:
        clock.advance(FIRST)
        until(lambda: hung.runs == 1)
        clock.advance(2.0)
        until(lambda: checks_done(monitor) == 1)
    with monitor:
        clock.advance(FIRST)
        until(lambda: monitor.get_health("database").consecutive_failures == 2)
        assert hung.runs == 1
        hung.let_go.set()


# ---- in a loop


def test_in_a_loop(registry: Registry, clock: FakeClock, register: Register) -> None:
    monitor = registry.health
    where: set[str] = set()
    alerts: list[bool] = []
    good = True

    async def check() -> bool:
        where.add(threading.current_thread().name)
        await asyncio.sleep(0)
        return good

    async def alert(status: HealthStatus) -> None:
        await asyncio.sleep(0)
        where.add(threading.current_thread().name)
        alerts.append(status.healthy)

    sync = Answers()

    async def main() -> None:
        nonlocal good
        async with monitor:
            register(check, on_health_change=alert, unhealthy_after=1, timeout=LONG)
            register(sync, "sync", timeout=LONG)
            for n in (1, 2, 3):
                beat(clock, n)
                await until_async(lambda n=n: checks_done(monitor) == n and checks_done(monitor, "sync") == n)
            good = False
            clock.advance(INTERVAL)
            await until_async(lambda: alerts == [False])
            assert monitor.running
            await until_async(lambda: not ours())  # those of sync checks, while they last
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not monitor.running
        clock.advance(10 * INTERVAL)
        await asyncio.sleep(0)
        assert sync.runs == 4

    asyncio.run(main())
    assert where == {"MainThread"}
    assert not ours()


def test_an_async_check_that_hangs_is_cancelled(registry: Registry, clock: FakeClock, register: Register) -> None:
    monitor = registry.health
    cancelled = runs = 0

    async def hang() -> None:
        nonlocal cancelled, runs
        runs += 1
        try:
            await asyncio.Event().wait()
        finally:
            cancelled += 1

    async def main() -> None:
        register(hang)
        async with monitor:
            for n in (1, 2):
                clock.advance(FIRST if n == 1 else INTERVAL - 2.0)
                await until_async(lambda n=n: runs == n)
                clock.advance(1.9)
                await asyncio.sleep(0)
                assert cancelled == n - 1
                clock.advance(0.1)
                await until_async(lambda n=n: cancelled == n)
                await asyncio.sleep(0)
            assert monitor.get_health("database").last_error == "no answer within 2 s"
            assert not monitor.get_health("database").healthy

    asyncio.run(main())


def test_an_async_check_that_will_not_be_cancelled(registry: Registry, clock: FakeClock, register: Register) -> None:
    """It is not run again before it has ended, and fails until then."""
    monitor = registry.health
    let_go = False
    runs = inside = 0

    async def stubborn() -> None:
        nonlocal runs, inside
        runs, inside = runs + 1, inside + 1
        assert inside == 1
        while not let_go:
            try:
                await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                continue
        inside -= 1

    async def main() -> None:
        nonlocal let_go
        register(stubborn)
        async with monitor:
            clock.advance(FIRST)
            await until_async(lambda: runs == 1)
            clock.advance(2.0)
            for n in (1, 2, 3):
                await until_async(lambda n=n: monitor.get_health("database").consecutive_failures == n)
                clock.advance(INTERVAL)
            assert runs == 1
            let_go = True
            await until_async(lambda: not inside)
            await asyncio.sleep(0)
            clock.advance(INTERVAL)
            await until_async(lambda: monitor.get_health("database").healthy)

    asyncio.run(main())


def test_a_function_that_returns_an_awaitable(registry: Registry, clock: FakeClock, register: Register) -> None:
    """`lambda: client.ping()` of an async client, whatever runs the checks."""
    monitor = registry.health
    where: list[str] = []

    async def ping() -> bool:
        where.append(threading.current_thread().name)
        return True

    register(lambda: ping(), timeout=LONG)
    with monitor:
        for n in (1, 2):
            beat(clock, n)
            until(lambda n=n: checks_done(monitor) == n)

    async def main() -> None:
        register(lambda: ping(), timeout=LONG)
        async with monitor:
            for n in (1, 2):
                beat(clock, n)
                await until_async(lambda n=n: checks_done(monitor) == n)

    asyncio.run(main())
    assert where == ["failsoft-health"] * 2 + ["MainThread"] * 2


def test_async_checks_in_a_thread_share_one_loop(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    """Which goes on between them, as the clients that live in it expect."""
    loops: list[asyncio.AbstractEventLoop] = []
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    background: list[asyncio.Task[None]] = []

    async def check() -> None:
        loops.append(asyncio.get_running_loop())
        if not background:
            background.append(asyncio.create_task(tick()))

    register(check, "one")
    register(check, "two")
    sync = Answers()
    register(sync, "three")
    with monitor:
        for n in (1, 2, 3):
            beat(clock, n)
            until(lambda n=n: all(checks_done(monitor, name) == n for name in ("one", "two", "three")))
        before = ticks
        until(lambda: ticks > before + 3)
        until(lambda: len(ours()) == 1)
    assert len(loops) == 6
    assert len(set(loops)) == 1
    assert loops[0].is_closed()
    assert background[0].cancelled()


def test_a_loop_that_ended_without_a_stop(registry: Registry, clock: FakeClock, register: Register) -> None:
    monitor = registry.health
    runs = 0

    async def hang() -> None:
        nonlocal runs
        runs += 1
        await asyncio.Event().wait()

    register(hang)

    async def main() -> None:
        monitor.start()
        expected = runs + 1
        clock.advance(FIRST)
        await until_async(lambda: runs == expected)

    asyncio.run(main())
    assert not monitor.running
    asyncio.run(main())
    assert runs == 2
    monitor.stop()
    monitor.stop()


def test_a_check_that_raises_the_cancellation_itself(registry: Registry, clock: FakeClock, register: Register) -> None:
    monitor = registry.health

    async def check() -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        register(check, timeout=LONG)
        async with monitor:
            for n in (1, 2):
                beat(clock, n)
                await until_async(lambda n=n: monitor.get_health("database").consecutive_failures == n)

    asyncio.run(main())


# ---- starting and stopping


def test_stop_leaves_nothing(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    async def acheck() -> None:
        await asyncio.sleep(0)

    check = Answers()
    register(check)
    register(acheck, "async")
    for _ in range(3):
        monitor.start()
        monitor.start()
        assert monitor.running
        runs = check.runs
        clock.advance(FIRST)
        until(lambda r=runs: check.runs == r + 1)
        assert len([thread for thread in ours() if thread.name == "failsoft-health"]) == 1
        monitor.stop()
        assert ours() == []
        monitor.stop()
        assert not monitor.running
    clock.advance(10 * INTERVAL)
    assert check.runs == 3


def test_stop_waits_for_the_check_under_way(monitor: HealthMonitor, register: Register, clock: FakeClock) -> None:
    began, over = threading.Event(), []

    def check() -> None:
        began.set()
        time.sleep(0.02)
        over.append(True)

    register(check)
    monitor.start()
    clock.advance(FIRST)
    assert began.wait(PATIENCE)
    monitor.stop()
    assert over
    assert ours() == []
    assert monitor.get_health("database").last_check is None  # nobody wanted to know any more


def test_stop_from_a_check_and_a_callback(registry: Registry, clock: FakeClock, register: Register) -> None:
    monitor = registry.health
    took: list[float] = []

    def stop(*_: object) -> None:
        began = time.monotonic()
        monitor.stop()
        took.append(time.monotonic() - began)

    async def stop_async() -> None:
        began = time.monotonic()
        await monitor.astop()
        took.append(time.monotonic() - began)

    for n, options in enumerate(
        (
            {"check": stop},
            {"check": Answers(False), "on_health_change": stop, "unhealthy_after": 1},
            {"check": stop_async},
        )
    ):
        register(**options)
        monitor.start()
        clock.advance(FIRST)
        until(lambda n=n: len(took) == n + 1 or (n == 2 and not monitor.running))
        until(lambda: not ours())
    assert max(took) < 0.5


def test_stop_ends_a_callback_that_waits(registry: Registry, clock: FakeClock, register: Register) -> None:
    monitor = registry.health
    calls = ended = 0

    async def alert(_: HealthStatus) -> None:
        nonlocal calls, ended
        calls += 1
        try:
            await asyncio.Event().wait()
        finally:
            ended += 1

    register(Answers(False), on_health_change=alert, unhealthy_after=1, timeout=LONG)

    async def main() -> None:
        async with monitor:
            clock.advance(FIRST)
            await until_async(lambda: calls == 1)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert ended == 1

    asyncio.run(main())
    register(Answers(False), on_health_change=alert, unhealthy_after=1)
    with monitor:
        clock.advance(FIRST)
        until(lambda: calls == 2)
    assert ended == 2
    assert ours() == []


def test_a_stop_from_another_thread_than_the_loops(registry: Registry, clock: FakeClock, register: Register) -> None:
    monitor = registry.health
    runs = 0

    async def hang() -> None:
        nonlocal runs
        runs += 1
        await asyncio.Event().wait()

    async def main() -> None:
        register(hang)
        monitor.start()
        clock.advance(FIRST)
        await until_async(lambda: runs == 1)
        stopper = threading.Thread(target=monitor.stop)
        stopper.start()
        await until_async(lambda: not stopper.is_alive())
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.mark.parametrize("end", ["", "fork"])
def test_exit_and_fork_with_a_running_monitor(end: str) -> None:
    code = """
import asyncio, os, sys, threading, time, failsoft
monitor = failsoft.integration_health_monitor
count = 0
def check():
    global count
    count += 1
async def acheck():
    global count
    count += 1
async def waiting():
    try:
        await asyncio.Event().wait()
    finally:
        print("ended in order")
for name, function in (("sync", check), ("async", acheck), ("hung", lambda: time.sleep(1000))):
    monitor.register_health_check(integration_type="cache", integration_name=name, check=function, interval=0.005)
monitor.register_health_check(
    integration_type="cache", integration_name="waiting", check=waiting, interval=0.005, timeout=1000)
def more():
    wanted, end = count + 6, time.monotonic() + 20
    while count < wanted and time.monotonic() < end:
        time.sleep(0.001)
    assert count >= wanted
monitor.start()
more()
if sys.argv[1:]:
    child = os.fork()
    if not child:
        assert not monitor.running and threading.active_count() == 1
        monitor.start()
        more()
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    more()
print("well", flush=True)
"""
    # From Python 3.12 on a fork beside threads is a DeprecationWarning of its own.
    options = ["-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    ran = subprocess.run(
        [sys.executable, *options, "-c", code, *([end] if end else [])],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONFAULTHANDLER": "0"},
    )
    ends = ["ended in order", "well", "ended in order"] if end else ["well", "ended in order"]
    assert (ran.stdout.splitlines(), ran.stderr, ran.returncode) == (ends, "", 0)


def test_without_async_checks_there_is_no_asyncio() -> None:
    code = """
import sys, time, failsoft
monitor, runs = failsoft.integration_health_monitor, []
monitor.register_health_check(
    integration_type="cache", integration_name="c", check=lambda: runs.append(1), interval=0.001)
with monitor:
    while not runs:
        time.sleep(0.001)
print("asyncio" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_clock_that_ends_leaves_the_thread_to_the_real_one(monitor: HealthMonitor, register: Register) -> None:
    check = Answers()

    async def acheck() -> None:
        check()

    register(check, interval=0.01, timeout=1.0)
    register(acheck, "async", interval=0.01, timeout=1.0)
    with FakeClock() as clock:
        monitor.start()
        clock.advance(0.011)
        until(lambda: check.runs >= 2)
    runs = check.runs
    until(lambda: check.runs > runs + 4)
    monitor.stop()


# ---- from traffic


def test_traffic_answers_where_nobody_checks(make: Callable[..., Integration], clock: FakeClock) -> None:
    dependency = make(threshold=3, circuit_breaker={"failure_threshold": 3, "minimum_calls": 4})
    monitor = dependency._registry.health

    @dependency.guard(operation="fast")
    def fast(seconds: float) -> None:
        clock.advance(seconds)

    @dependency.guard(operation="other")
    def other(seconds: float) -> None:
        clock.advance(seconds)
        raise ConnectionError("gone")

    quiet = monitor.get_health("dependency")
    assert (quiet.healthy, quiet.checked, quiet.latency, quiet.p99_latency, quiet.error_rate) == (
        True, False, None, None, None,
    )  # fmt: skip
    for _ in range(3):
        fast(0.001)
    with pytest.raises(ConnectionError):
        other(1.0)
    status = monitor.get_health("dependency")
    assert (status.healthy, status.error_rate, status.consecutive_failures) == (True, 0.25, 1)
    assert status.latency == pytest.approx(1.003 / 4, rel=0.01)
    assert status.p50_latency == pytest.approx(0.001, rel=0.01)
    assert status.p95_latency == status.p99_latency == pytest.approx(1.0, rel=0.01)
    fast(0.0)
    for _ in range(8):  # no row of three, but more than half
        with pytest.raises(ConnectionError):
            other(0.0)
        with pytest.raises(ConnectionError):
            other(0.0)
        fast(0.0)
    status = monitor.get_health("dependency")
    assert status.state is CircuitState.CLOSED
    assert status.error_rate is not None
    assert status.error_rate > 0.5
    assert not status.healthy
    clock.advance(100.0)
    assert monitor.get_health("dependency").healthy
    for _ in range(3):
        with pytest.raises(ConnectionError):
            other(0.0)
    status = monitor.get_health("dependency")
    assert (status.healthy, status.state, status.consecutive_failures) == (False, CircuitState.OPEN, 3)
    assert "3 calls failed in a row" in str(status)


def test_all_health(registry: Registry, register: Register) -> None:
    registry.integration("binance", "market_data").force_open()
    register(Answers())
    health = registry.health.get_all_health()
    assert {name: (status.healthy, status.checked) for name, status in health.items()} == {
        "binance": (False, False),
        "database": (True, True),
    }
    with pytest.raises(KeyError, match="no integration is named 'nobody'"):
        registry.health.get_health("nobody")


# ---- as probes


def test_checks_are_not_traffic(make: Callable[..., Integration], clock: FakeClock) -> None:
    dependency = make(threshold=1)
    monitor = dependency._registry.health
    monitor.register_health_check(
        integration_type="database", integration_name="dependency", check=lambda: False, interval=INTERVAL, probe=True
    )
    with monitor:
        for n in (1, 2, 3):
            beat(clock, n)
            until(lambda n=n: checks_done(monitor, "dependency") == n)
    assert dependency.status().state is CircuitState.CLOSED
    assert (dependency.status().failures, dependency.status().sample_size) == (0, 0)


def probing(make: Callable[..., Integration], check: Callable[[], Any]) -> tuple[Integration, HealthMonitor]:
    """A check every 1000 s before a breaker that opens for 60 s."""
    dependency = make(circuit_breaker={"failure_threshold": 1, "success_threshold": 2, "reset_timeout": 60.0})
    dependency._registry.health.register_health_check(
        integration_type="database",
        integration_name="dependency",
        check=check,
        interval=1000.0,
        timeout=2.0,
        unhealthy_after=1,
        probe=True,
    )
    return dependency, dependency._registry.health


def trip(dependency: Integration) -> None:
    dependency.breaker.failure(dependency.breaker.acquire())
    assert dependency.status().state is CircuitState.OPEN


def test_a_probe_comes_when_the_wait_is_over(make: Callable[..., Integration], clock: FakeClock) -> None:
    check = Answers(False)
    dependency, monitor = probing(make, check)
    with monitor:
        clock.advance(100.0)
        until(lambda: check.runs == 1 and checks_done(monitor, "dependency") and len(ours()) == 1)
        trip(dependency)
        clock.advance(59.9)
        time.sleep(0.01)
        assert check.runs == 1
        clock.advance(0.1)
        until(lambda: check.runs == 2)
        until(lambda: dependency.status().reason == "probe_failed")
        check.answer = True
        clock.advance(60.0)
        until(lambda: check.runs == 3)
        until(lambda: dependency.status().state is CircuitState.HALF_OPEN and not dependency.status().probes)
        clock.advance(1.0)
        until(lambda: dependency.status().state is CircuitState.CLOSED)
        assert check.runs == 4


def test_a_monitor_started_late_probes_at_once(make: Callable[..., Integration], clock: FakeClock) -> None:
    check = Answers()
    dependency, monitor = probing(make, check)
    trip(dependency)
    clock.advance(60.0)
    with monitor:
        until(lambda: dependency.status().state is CircuitState.HALF_OPEN and not dependency.status().probes)
    assert check.runs == 1


def test_a_probe_that_hangs_fails(make: Callable[..., Integration], clock: FakeClock) -> None:
    hung = Hanging()
    dependency, monitor = probing(make, hung)
    trip(dependency)
    clock.advance(60.0)
    with monitor:
        until(lambda: hung.runs == 1)
        assert dependency.status().probes == 1
        clock.advance(2.0)
        until(lambda: dependency.status().reason == "probe_failed")
        hung.let_go.set()


def test_a_stop_gives_the_permit_back(make: Callable[..., Integration], clock: FakeClock) -> None:
    hung = Hanging()
    dependency, monitor = probing(make, hung)
    trip(dependency)
    clock.advance(60.0)
    monitor.start()
    until(lambda: hung.runs == 1)
    assert dependency.status().probes == 1
    threading.Timer(0.05, hung.let_go.set).start()
    monitor.stop()
    assert dependency.status().state is CircuitState.HALF_OPEN
    assert dependency.status().probes == 0


def test_the_breaker_is_reserved_while_the_monitor_runs(
    make: Callable[..., Integration], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserved: list[float] = []
    monkeypatch.setattr(failsoft.CircuitBreaker, "reserve", lambda _, seconds: reserved.append(seconds), raising=False)
    _, monitor = probing(make, Answers())
    assert reserved == []
    monitor.start()
    assert reserved == [2004.0]
    monitor.stop()
    assert reserved == [2004.0, 0.0]


def test_users_are_not_risked_on_a_probe(make: Callable[..., Integration], clock: FakeClock) -> None:
    """While the check is to find out, calls of users are refused; and let in again if it never comes."""
    check = Answers(True)
    dependency, monitor = probing(make, check)
    reached: list[int] = []
    with monitor:
        clock.advance(100.0)
        until(lambda: check.runs == 1 and checks_done(monitor, "dependency"))
        trip(dependency)
        hung = Hanging()
        monitor.register_health_check(
            integration_type="database",
            integration_name="dependency",
            check=hung,
            interval=1000.0,
            timeout=2.0,
            probe=True,
        )
        clock.advance(60.0)
        until(lambda: hung.runs == 1)
        with pytest.raises(failsoft.CircuitOpenError):
            dependency.call(reached.append, 1)
        hung.let_go.set()
        until(lambda: dependency.status().state is CircuitState.HALF_OPEN and not dependency.status().probes)
        with pytest.raises(failsoft.CircuitOpenError):
            dependency.call(reached.append, 1)
    assert not reached
    dependency.call(reached.append, 1)  # the monitor has stopped and keeps nobody out
    assert reached == [1]


def test_a_monitor_that_died_keeps_nobody_out(make: Callable[..., Integration], clock: FakeClock) -> None:
    dependency = make(circuit_breaker={"failure_threshold": 1, "reset_timeout": 60.0})
    dependency.breaker.reserve(30.0)
    trip(dependency)
    clock.advance(89.9)
    with pytest.raises(failsoft.CircuitOpenError):
        dependency.call(list)
    clock.advance(0.1)
    assert dependency.call(list) == []
