"""Events: every kind, in order, to whom it may concern, and never to the harm of a call."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from failsoft import (
    CircuitState,
    ErrorCategory,
    Fallback,
    FallbackType,
    Integration,
    IntegrationType,
    OperationMetrics,
    Registry,
)
from failsoft import events as events_room
from failsoft.events import (
    KINDS,
    QUEUE_MOST,
    DegradedChange,
    FallbackUsed,
    HealthChange,
    Refusal,
    Retry,
    Transition,
    dropped,
    publish,
    subscribe,
)
from failsoft.testing import FakeClock

from .conftest import Make


@pytest.fixture
def hear() -> Iterator[Callable[..., list[Any]]]:
    """Subscribe a list, until the end of the test."""
    ends = []

    def hear(*kinds: Any) -> list[Any]:
        heard: list[Any] = []
        ends.append(subscribe(heard.append, *kinds))
        return heard

    yield hear
    for end in ends:
        end()


def gone(*_: object) -> Any:
    raise ConnectionError("gone")


def outage(dependency: Integration, clock: FakeClock) -> None:
    """A trip, a refusal, a recovery: with a retry and a fallback."""
    up: list[bool] = []
    guard = dependency.guard(lambda: None if up else gone(), operation="x", fallbacks=[Fallback("mock", int)])
    guard()
    guard()
    up.append(True)
    clock.advance(1.0)
    guard()


def brittle(make: Make) -> Integration:
    breaker = {"reset_timeout": 1.0, "success_threshold": 1}
    return make("db", threshold=2, retries=1, circuit_breaker=breaker)


def test_every_kind_in_order(make: Make, clock: FakeClock, hear: Callable[..., list[Any]]) -> None:
    heard = hear()
    outage(brittle(make), clock)
    assert [type(event) for event in heard] == [
        Retry, Transition, DegradedChange, FallbackUsed, Refusal, FallbackUsed, Transition, Transition, DegradedChange,
    ]  # fmt: skip
    retry, opened, degraded, fallback, refusal, _, half, closed, recovered = heard
    assert (retry.integration, retry.operation, retry.attempt, retry.delay) == ("db", "x", 2, 0.0)
    assert (retry.category, str(retry.error)) == (ErrorCategory.NETWORK, "gone")
    assert (opened.previous, opened.state, opened.reason, opened.failures) == (
        CircuitState.CLOSED, CircuitState.OPEN, "consecutive_failures", 2,
    )  # fmt: skip
    assert (degraded.capacity, degraded.reason, recovered.capacity, recovered.reason) == (
        0.0, "circuit_open", 1.0, "recovered",
    )  # fmt: skip
    assert (fallback.type, fallback.data_age, str(fallback.error)) == (FallbackType.MOCK, None, "gone")
    assert (refusal.operation, refusal.state, refusal.reason, refusal.retry_after, refusal.capacity) == (
        "x", CircuitState.OPEN, "consecutive_failures", 1.0, None,
    )  # fmt: skip
    assert (half.state, closed.state) == (CircuitState.HALF_OPEN, CircuitState.CLOSED)
    assert [event.timestamp for event in heard] == sorted(event.timestamp for event in heard)


@pytest.mark.parametrize("kind", [Transition, Refusal, Retry, FallbackUsed, DegradedChange])
def test_only_the_kinds_asked_for(make: Make, clock: FakeClock, hear: Callable[..., list[Any]], kind: Any) -> None:
    everything, some, two = hear(), hear(kind), hear(kind, Retry)
    outage(brittle(make), clock)
    assert some == [event for event in everything if type(event) is kind]
    assert two == [event for event in everything if type(event) in (kind, Retry)]
    assert some


def test_what_can_be_heard() -> None:
    with pytest.raises(TypeError, match="listener must be callable"):
        subscribe(5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="kinds must be of Transition, Refusal, Retry"):
        subscribe(print, int)  # type: ignore[type-var]
    assert len(KINDS) == 13


def test_limited_calls_are_refusals_too(make: Make, registry: Registry, hear: Callable[..., list[Any]]) -> None:
    heard = hear(Refusal)
    make("db")
    registry.capacities.enter("db", 0.0, "migration")
    assert not registry["db"].caller("x").outcome(int).success
    ((refusal),) = heard
    assert (refusal.state, refusal.reason, refusal.capacity, refusal.retry_after) == ("CLOSED", "migration", 0.0, None)


def test_refusals_of_blocks_and_of_retries_are_told(make: Make, hear: Callable[..., list[Any]]) -> None:
    heard = hear(Refusal)
    dependency = make("db", threshold=1, retries=1)
    with pytest.raises(ConnectionError):
        dependency.caller("retried")(gone)
    with pytest.raises(Exception, match="circuit is OPEN"), dependency.attempt("block"):
        pass
    assert [event.operation for event in heard] == ["retried", "block"]


def test_refusals_are_made_only_where_somebody_listens(
    make: Make, hear: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dependency = make("db")
    guard = dependency.guard(int, operation="x")
    dependency.force_open()
    guard.outcome()
    calls: list[object] = []
    monkeypatch.setattr(type(guard._recovery), "refusal_seen", lambda *args: calls.append(args))
    for _ in range(100):
        guard.outcome()
    heard = hear(Transition)
    guard.outcome()
    assert (calls, heard) == ([], [])
    hear(Refusal)
    guard.outcome()
    assert len(calls) == 1


# ---- listeners that misbehave


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, GeneratorExit, BaseException])
def test_a_listener_may_raise_anything(
    make: Make, clock: FakeClock, hear: Callable[..., list[Any]], caplog: Any, error: type[BaseException]
) -> None:
    def raises(event: object) -> None:
        raise error("no")

    end = subscribe(raises)
    heard = hear()
    try:
        outage(brittle(make), clock)
    finally:
        end()
    assert len(heard) == 9
    assert [record.getMessage()[:20] for record in caplog.records].count("a listener raised on") == 9


def test_an_interrupt_that_strikes_a_listener_is_not_lost(make: Make, hear: Callable[..., list[Any]]) -> None:
    end = subscribe(lambda event: signal.raise_signal(signal.SIGINT), Transition)
    heard = hear(Transition)
    dependency = make("db")
    try:
        with pytest.raises(KeyboardInterrupt):
            dependency.force_open()
            for _ in range(1000):  # at the next chance
                pass
    finally:
        end()
    assert len(heard) == 1
    dependency.force_closed()
    assert len(heard) == 2


def test_a_listener_may_come_go_and_call(make: Make, clock: FakeClock, hear: Callable[..., list[Any]]) -> None:
    dependency, ends = make("db"), []
    late: list[Any] = []
    inside = []

    def listener(event: Transition) -> None:
        inside.append(threading.current_thread())
        ends.append(subscribe(late.append, Transition))
        if event.state is CircuitState.OPEN or len(inside) == 1:
            dependency.reset()
            assert dependency.call(int) == 0
            assert len(inside) == 1  # what it causes comes afterwards
            ends[0]()

    ends.append(subscribe(listener, Transition))
    heard = hear(Transition)
    try:
        dependency.force_open()
    finally:
        for end in ends:
            end()
            end()  # as often as you like
    assert [event.state for event in heard] == [CircuitState.FORCED_OPEN, CircuitState.CLOSED]
    assert len(inside) == 1
    assert [event.state for event in late] == [CircuitState.CLOSED]


def test_no_lock_of_ours_is_held_while_listeners_run(
    make: Make, registry: Registry, clock: FakeClock, hear: Callable[..., list[Any]]
) -> None:
    free: list[bool] = []

    def listener(event: object) -> None:
        def look() -> None:
            free.append(registry.lock.acquire(timeout=1.0))
            registry.lock.release()
            subscribe(print, HealthChange)()

        other = threading.Thread(target=look)
        other.start()
        other.join()

    end = subscribe(listener)
    try:
        outage(brittle(make), clock)
        with registry.capacities.enter("db", 0.5, "operator"):
            registry["db"].reconfigure(circuit_breaker={"failure_threshold": 7})
    finally:
        end()
    assert free == [True] * 11


def test_a_full_queue_drops_and_counts(hear: Callable[..., list[Any]]) -> None:
    event = HealthChange("db", True, 1, 0, None, 0.0)
    before, first = dropped(), []

    def busy(_: object) -> None:
        if not first:
            first.append(True)
            for _ in range(QUEUE_MOST + 10):
                publish(event)

    end, heard = subscribe(busy, HealthChange), hear(HealthChange)
    publish(event)
    end()
    assert len(heard) == QUEUE_MOST + 1
    assert dropped() - before == 10
    publish(DegradedChange("db", 1.0, 0.5, "nobody listens", 0.0))
    assert len(events_room._queue) == 0


def test_changes_of_capacity_come_in_order(make: Make, registry: Registry, hear: Callable[..., list[Any]]) -> None:
    """Though another thread changes it the moment the lock is free."""
    make("db")
    heard, then = hear(DegradedChange), [0.25, 0.75]

    class Lock:
        depth = 0

        def __enter__(self) -> None:
            lock.acquire()
            self.depth += 1

        def __exit__(self, *_: object) -> None:
            self.depth -= 1
            lock.release()
            if then and not self.depth:
                other = threading.Thread(target=registry.capacities.enter, args=("db", then.pop(), "operator"))
                other.start()
                other.join()

    lock, registry.lock = registry.lock, Lock()  # type: ignore[assignment]
    registry.capacities.enter("db", 0.5, "operator")
    assert [(event.previous, event.capacity) for event in heard] == [(1.0, 0.5), (0.5, 0.75), (0.75, 0.25)]


# ---- other processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_goes_on(make: Make, registry: Registry, hear: Callable[..., list[Any]]) -> None:
    """Though a thread of its parent was delivering, held the registry's lock, and events were waiting."""
    dependency = make("db")
    dependency.force_open()
    heard, delivering, go_on, begun = hear(Transition), threading.Event(), threading.Event(), []

    def slow(event: object) -> None:
        begun.append(event)
        delivering.set()
        go_on.wait(10.0)

    end = subscribe(slow, HealthChange)

    def hold() -> None:
        with registry.lock:
            publish(HealthChange("db", True, 1, 0, None, 0.0))

    thread = threading.Thread(target=hold)
    thread.start()
    delivering.wait(10.0)
    publish(HealthChange("db", False, 0, 1, None, 0.0))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(20)
            go_on.set()
            refused = not dependency.caller("x").outcome(int).success
            dependency.reset()
            ok = dependency.call(int) == 0 and [event.state for event in heard] == [CircuitState.CLOSED]
            ok &= len(begun) == 1  # what waits is its parent's to deliver
            code = 0 if refused and ok and registry.integration("new", "cache").call(int) == 0 else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    go_on.set()
    thread.join()
    end()
    assert os.waitstatus_to_exitcode(status) == 0
    assert heard == []


def test_values_pickle(make: Make, registry: Registry, clock: FakeClock, hear: Callable[..., list[Any]]) -> None:
    heard = hear()
    dependency = brittle(make)
    outage(dependency, clock)
    guard = dependency.guard(lambda venue: 1, key=lambda venue: venue)
    guard("a")
    error = dependency.caller("x").outcome(gone).error
    for value in (
        *(event for event in heard if not isinstance(getattr(event, "error", None), BaseException)),
        HealthChange("db", False, 0, 1, "gone", 1.0), dependency.config, dependency.status(), registry.summary(),
        guard.metrics(), OperationMetrics(), IntegrationType.CACHE, dependency.explain(),
    ):  # fmt: skip
        assert pickle.loads(pickle.dumps(value)) == value
    for event in heard:
        assert repr(pickle.loads(pickle.dumps(event))) == repr(event)
    assert pickle.loads(pickle.dumps(error)).to_dict() == error.to_dict()


def test_an_interpreter_ends_quietly_with_events_under_way() -> None:
    code = """if True:
        import failsoft, threading, time
        one = failsoft.integration("db", "database")
        started = threading.Event()
        def slow(event):
            started.set()
            time.sleep(0.2)
        failsoft.subscribe(slow)
        def work():
            for _ in range(50):
                one.force_open(); one.reset()
        threading.Thread(target=work, daemon=True).start()
        started.wait()
        for _ in range(50):
            one.force_open(); one.reset()
        failsoft.enter_degraded_mode("db", 0.5)
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
