"""A breaker a key: one dead shard cuts off nobody else, and what is kept of all of them is bounded."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from failsoft import (
    CircuitOpenError,
    CircuitState,
    DegradedModeError,
    ErrorCategory,
    Fallback,
    FallbackType,
    Integration,
    IntegrationType,
    Registry,
    _core,
    database_fallbacks,
    events,
)
from failsoft.integrations import Integration as Kept
from failsoft.testing import FakeClock

from .conftest import Make


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What has been reported through `sys.unraisablehook`."""
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: seen.append((report.exc_type, report.object)))
    return seen


def venue_of(venue: object, *_: object, **__: object) -> object:
    return venue


def ask(venue: str) -> str:
    if venue.startswith("dead"):
        raise ConnectionError(venue)
    return venue


async def ask_async(venue: str) -> str:
    await asyncio.sleep(0)
    return ask(venue)


def outcome(call: Callable[[], Any]) -> object:
    try:
        answer = call()
        return asyncio.run(answer) if asyncio.iscoroutine(answer) else answer
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("fn", [ask, ask_async])
def test_a_dead_shard_does_not_cut_off_the_others(make: Make, fn: Callable[..., Any]) -> None:
    integration = make("venues", threshold=2)
    guard = integration.guard(fn, key=venue_of, operation="ask")
    assert [outcome(lambda: guard("dead")) for _ in range(3)] == [ConnectionError, ConnectionError, CircuitOpenError]
    assert [outcome(lambda venue=venue: guard(venue)) for venue in ("a", "b")] == ["a", "b"]
    status = integration.status()
    assert status.state is CircuitState.CLOSED
    assert status.shards is not None
    assert {key: shard.state for key, shard in status.shards.items()} == {"dead": "OPEN", "a": "CLOSED", "b": "CLOSED"}


@pytest.mark.parametrize("fn", [ask, ask_async])
def test_outcomes_go_by_key_too(make: Make, fn: Callable[..., Any]) -> None:
    guard = make("venues", threshold=1).guard(fn, key=venue_of, operation="ask")

    def result(venue: str) -> Any:
        answer = guard.outcome(venue)
        return asyncio.run(answer) if asyncio.iscoroutine(answer) else answer

    assert result("dead").error.code == "DB_NETWORK"
    refused = result("dead").error
    assert (refused.code, refused.integration_name) == ("DB_CIRCUIT_OPEN", "venues[dead]")
    assert result("a").data == "a"


def test_methods_have_keys(make: Make) -> None:
    integration = make("venues", threshold=1)

    class Client:
        @integration.guard(key=lambda self, venue: venue)
        def get(self, venue: str) -> str:
            return ask(venue)

        @integration.guard(key=lambda self, venue: venue)
        async def aget(self, venue: str) -> str:
            return await ask_async(venue)

    client = Client()
    assert [outcome(lambda: client.get("dead")) for _ in range(2)] == [ConnectionError, CircuitOpenError]
    assert outcome(lambda: client.aget("dead")) is CircuitOpenError  # the same venue, the same breaker
    assert outcome(lambda: client.aget("a")) == "a"


def test_keywords_make_a_key(make: Make) -> None:
    integration = make("venues")
    guard = integration.guard(lambda *, venue: venue, key=lambda *, venue: venue)
    assert guard(venue="a") == "a"
    assert list(integration.shards) == ["a"]


def test_metrics_list_the_keys_and_add_them_up(registry: Registry, make: Make) -> None:
    integration = make("venues")
    guard = integration.guard(ask, key=venue_of)
    for venue in ("a", "a", "b", "dead"):
        outcome(lambda venue=venue: guard(venue))
    metrics = registry.metrics.get_metrics_summary()
    assert {name: (one.count, one.error_count) for name, one in metrics.items()} == {
        "venues.ask": (4, 1),
        "venues[a].ask": (2, 0),
        "venues[b].ask": (1, 0),
        "venues[dead].ask": (1, 1),
    }
    together = guard.metrics()
    assert (together.count, together.error_count) == (4, 1)
    assert together.recent is not None
    assert together.recent.count == 4
    assert registry.metrics.get_metrics("venues[a]", "ask").count == 2
    registry.metrics.reset("venues")
    assert guard.metrics().count == 0


def test_keys_count_in_the_registry(registry: Registry, make: Make) -> None:
    integration = make("venues", threshold=1)
    guard = integration.guard(ask, key=venue_of)
    for venue in ("a", "b", "dead"):
        outcome(lambda venue=venue: guard(venue))
    shard = registry["venues[dead]"]
    assert shard is integration.shards["dead"]
    assert "venues[a]" in registry
    assert "venues[c]" not in registry
    with pytest.raises(KeyError, match="no integration is named"):
        registry["venues[c]"]
    summary = registry.summary()
    assert (summary.total, summary.healthy, summary.states) == (4, 3, {"CLOSED": 3, "OPEN": 1})
    assert len(registry) == 1
    shard.reset()
    assert outcome(lambda: guard("dead")) is ConnectionError


def test_metrics_of_keys_are_there_beyond_the_operations_kept_apart() -> None:
    registry = Registry(max_operations=1)
    registry.integration("first", "database").guard(ask)("a")
    guard = registry.integration("venues", "database").guard(ask, key=venue_of)
    guard("a")
    assert guard.metrics().count == 1


def test_the_gates_of_one_key_are_shared_by_all_guards(make: Make) -> None:
    integration = make("venues", threshold=1)
    one, two = (integration.guard(ask, key=venue_of, operation=name) for name in ("one", "two"))
    assert outcome(lambda: one("dead")) is ConnectionError
    assert outcome(lambda: two("dead")) is CircuitOpenError
    assert len(integration.shards) == 1


# ---- bounds


def test_no_more_keys_are_kept_than_asked_for(make: Make) -> None:
    integration = make("venues")
    guard = integration.guard(lambda venue: venue, key=venue_of, max_keys=3)
    for venue in range(100):
        assert guard(venue) == venue
        assert len(integration.shards) <= 3
    assert 99 in integration.shards


def test_who_is_used_gets_a_second_chance(make: Make) -> None:
    integration = make("venues")
    guard = integration.guard(lambda venue: venue, key=venue_of, max_keys=4)
    for venue in range(4):
        guard(venue)
    for venue in range(4, 60):
        guard(venue)
        guard(2)  # in use all the time
    assert 2 in integration.shards


def test_what_is_forgotten_is_gone(make: Make) -> None:
    integration = make("venues", threshold=1)
    guard = integration.guard(ask, key=venue_of, max_keys=2)
    outcome(lambda: guard("dead"))
    gone = weakref.ref(integration.shards["dead"])
    gc.disable()
    try:
        for venue in "abcd":
            guard(venue)
        assert gone() is None  # without waiting for the collector
    finally:
        gc.enable()
    assert outcome(lambda: guard("dead")) is ConnectionError  # a new breaker, which knows of nothing


def test_arena_and_memory_come_back(make: Make) -> None:
    integration = make("venues")
    guard = integration.guard(lambda venue: venue, key=venue_of, max_keys=16)

    def turn(first: int, count: int) -> None:
        for venue in range(first, first + count):
            guard(venue)

    turn(0, 1_000)
    gc.collect()
    arena = _core.arena_bytes()
    blocks = sys.getallocatedblocks()
    turn(1_000, 10_000)
    gc.collect()
    assert _core.arena_bytes() == arena
    assert sys.getallocatedblocks() - blocks < 1_500  # lists of weak references, pruned every 256


def test_finding_room_does_not_walk_the_table(make: Make) -> None:
    """With marks on all of them, and then with none: a dict that is emptied from its front would be quadratic."""
    import time

    integration = make("venues")
    fallback = database_fallbacks.last_known(max_keys=30_000)
    guard = integration.guard(lambda key: key, operation="many", fallbacks=[fallback])
    for key in range(30_000):
        guard(key)
    began = time.thread_time()
    for key in range(30_000, 50_000):
        guard(key)
    assert time.thread_time() - began < 1.0  # 0.05 s; 3 s with the walk


class Fickle:
    """A key that is not equal to itself any more once it is kept."""

    def __init__(self) -> None:
        self.number = 0

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


def test_keys_that_change_cannot_fill_the_table(make: Make) -> None:
    integration = make("venues")
    guard = integration.guard(lambda venue: None, operation="fickle", key=venue_of, max_keys=4)
    for _ in range(100):
        fickle = Fickle()
        guard(fickle)
        fickle.number = id(fickle)
    assert len(integration.shards) <= 4


# ---- what a new key takes over, and what reaches old ones


@pytest.mark.parametrize(
    ("word", "state"),
    [("force_open", "FORCED_OPEN"), ("disable", "DISABLED"), ("metrics_only", "METRICS_ONLY"), ("reset", "CLOSED")],
)
def test_an_operators_word_holds_for_all_keys(make: Make, word: str, state: str) -> None:
    integration = make("venues", threshold=1)
    guard = integration.guard(ask, key=venue_of)
    outcome(lambda: guard("dead"))
    guard("old")
    getattr(integration, word)()
    outcome(lambda: guard("new"))
    assert {key: shard.breaker.state for key, shard in integration.shards.items()} == dict.fromkeys(
        ("dead", "old", "new"), CircuitState(state)
    )
    integration.force_closed()
    assert guard("newer") == "newer"
    assert all(shard.breaker.state is CircuitState.CLOSED for shard in integration.shards.values())


@pytest.mark.parametrize("when", ["before the key is made", "after it looked"])
def test_an_operators_word_is_not_missed_by_a_key_being_made(
    make: Make, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    integration = make("venues")
    guard = integration.guard(ask, key=venue_of)
    made = Kept.limit  # called when a key is nearly there

    def limit(self: Integration, capacity: float) -> None:
        made(self, capacity)
        if self is not integration:
            integration.force_open()

    if when == "after it looked":
        monkeypatch.setattr(Kept, "limit", limit)
    else:
        integration.force_open()
    assert outcome(lambda: guard("new")) is CircuitOpenError


def test_listeners_hear_of_a_forced_key_outside_of_locks(make: Make, registry: Registry) -> None:
    integration = make("venues")
    guard = integration.guard(ask, key=venue_of)
    integration.force_open()
    free: list[bool] = []

    def take() -> None:
        free.append(registry.lock.acquire(timeout=5))
        registry.lock.release()

    def listener(_: object) -> None:
        thread = threading.Thread(target=take)
        thread.start()
        thread.join(10)

    unsubscribe = events.subscribe(listener, events.Transition)
    try:
        outcome(lambda: guard("new"))
    finally:
        unsubscribe()
    assert free == [True]


@pytest.mark.parametrize("target", ["venues", IntegrationType.DATABASE])
def test_a_degraded_capacity_holds_for_old_and_new_keys(
    make: Make, registry: Registry, target: str | IntegrationType
) -> None:
    integration = make("venues")
    guard = integration.guard(ask, key=venue_of)
    guard("old")
    registry.capacities.enter(target, 0.5, "operator")
    for venue in ("old", "new"):
        answers = [outcome(lambda venue=venue: guard(venue)) for _ in range(100)]
        assert abs(answers.count(venue) - 50) <= 1
        assert answers.count(DegradedModeError) == 100 - answers.count(venue)
    registry.capacities.exit(target, "operator")
    assert [outcome(lambda venue=venue: guard(venue)) for venue in ("old", "new", "newer")] == ["old", "new", "newer"]


def test_other_settings_reach_all_keys(make: Make, clock: FakeClock) -> None:
    integration = make("venues", retries=0, threshold=5)
    calls: list[str] = []

    @integration.guard(key=venue_of)
    def get(venue: str) -> str:
        calls.append(venue)
        clock.advance(2.0)
        return ask(venue)

    get("old")
    integration.reconfigure(
        circuit_breaker={"failure_threshold": 1, "timeout": 1.0}, retry_policy={"max_retries": 2, "initial_delay": 0.0}
    )
    for venue in ("old", "new"):
        assert get(venue) == venue  # late: counts as timed out, which trips now
        assert outcome(lambda venue=venue: get(venue)) is CircuitOpenError
    integration.reset()
    calls.clear()
    integration.reconfigure(circuit_breaker={"failure_threshold": 100})
    assert outcome(lambda: get("dead")) is ConnectionError
    assert len(calls) == 3


def test_all_the_options_hold_for_keys(make: Make) -> None:
    integration = make("venues", retries=2)
    seen: list[str] = []

    def get(venue: str) -> str:
        seen.append(venue)
        return ask(venue)

    mock = Fallback(FallbackType.MOCK, lambda venue: f"mock {venue}")
    guard = integration.guard(
        get,
        key=venue_of,
        retry=False,
        fallbacks=[mock],
        failure=lambda value: ErrorCategory.SERVER_ERROR if value == "b" else None,
    )
    assert [guard("a"), guard("dead"), guard("b")] == ["a", "mock dead", "mock b"]
    assert seen == ["a", "dead", "b"]


def test_keys_and_shared_executions_go_together(make: Make) -> None:
    integration = make("venues")
    calls: list[str] = []

    @integration.guard(key=venue_of, dedupe=True)
    async def get(venue: str) -> str:
        calls.append(venue)
        await asyncio.sleep(0)
        return venue

    async def main() -> list[str]:
        return await asyncio.gather(*[get(venue) for venue in "aabb"])

    assert asyncio.run(main()) == ["a", "a", "b", "b"]
    assert calls == ["a", "b"]
    assert (get.metrics().count, get.metrics().deduplicated) == (2, 2)
    assert len(integration.shards) == 2


def test_each_key_remembers_its_own_last_value(make: Make) -> None:
    down: set[str] = set()

    def get(venue: str) -> str:
        if venue in down:
            raise ConnectionError(venue)
        return venue.upper()

    guard = make("venues").guard(get, key=venue_of, fallbacks=[database_fallbacks.last_known()])
    guard("a")
    down.update("ab")
    assert guard("a") == "A"
    assert outcome(lambda: guard("b")) is ConnectionError


def test_a_disabled_registry_asks_for_no_key(make: Make, registry: Registry) -> None:
    asked: list[object] = []
    guard = make("venues", threshold=1).guard(ask, key=lambda venue: asked.append(venue) or venue)
    outcome(lambda: guard("dead"))
    registry.disable()
    asked.clear()
    assert outcome(lambda: guard("dead")) is ConnectionError
    assert outcome(lambda: guard("new")) == "new"
    assert asked == []
    registry.enable()
    assert outcome(lambda: guard("dead")) is CircuitOpenError


# ---- keys that cannot be told


@pytest.mark.parametrize("key", [lambda venue: 1 / 0, lambda venue: [venue]])
def test_without_a_key_the_integrations_own_breaker_does(
    make: Make, unraisable: list[Any], key: Callable[..., Any]
) -> None:
    integration = make("venues", threshold=1)
    guard = integration.guard(ask, key=key)
    assert outcome(lambda: guard("a")) == "a"
    ((kind, where),) = unraisable  # one report, of the key function
    assert kind in (ZeroDivisionError, TypeError)
    assert where is key
    assert outcome(lambda: guard("dead")) is ConnectionError
    assert outcome(lambda: guard("a")) is CircuitOpenError
    assert integration.status().state is CircuitState.OPEN
    assert integration.shards == {}
    assert guard.metrics().count == 2


def test_a_key_without_words_is_reported_too(make: Make, unraisable: list[Any]) -> None:
    class Wordless:
        def __str__(self) -> str:
            raise RuntimeError("no words")

    guard = make("venues").guard(lambda _: "fine", operation="x", key=venue_of)
    assert guard(Wordless()) == "fine"
    assert [kind for kind, _ in unraisable] == [RuntimeError]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_a_key_function_cannot_lose_an_interrupt(
    make: Make, unraisable: list[Any], interrupt: type[BaseException]
) -> None:
    def key(_: str) -> str:
        raise interrupt

    guard = make("venues").guard(ask, key=key)
    if interrupt is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            for _ in range(1000):
                guard("a")
    else:
        assert guard("a") == "a"
        assert [kind for kind, _ in unraisable] == [SystemExit]


def test_bad_options_are_named() -> None:
    integration = Registry().integration("venues", "database")
    with pytest.raises(TypeError, match="key must be callable"):
        integration.guard(ask, key="venue")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="max_keys"):
        integration.guard(ask, key=venue_of, max_keys=0)


# ---- threads


def test_threads_with_the_same_new_key_make_one_breaker(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where the second look under the lock is left out: each thread counts in a breaker of its own then."""
    integration = make("venues")
    threads = 8
    ready = threading.Barrier(threads)
    born = threading.Barrier(threads)
    plain = Kept.__init__

    def slowly(self: Integration, *args: Any) -> None:
        plain(self, *args)
        born.wait(20)  # all of them have found none

    guard = integration.guard(ask, key=venue_of)
    monkeypatch.setattr(Kept, "__init__", slowly)
    used: list[object] = []

    def call() -> None:
        ready.wait(20)
        guard("a")
        used.append(integration.shards["a"])

    crew = [threading.Thread(target=call) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join(30)
    assert len(used) == threads
    assert len(set(used)) == 1
    assert integration.shards["a"].metrics("ask").count == threads
    assert guard.metrics().count == threads


def test_looking_while_keys_come_and_go(make: Make, registry: Registry) -> None:
    """Fails with `RuntimeError` or `KeyError` where `shards` reads its weak dict as it changes."""
    integration = make("venues")
    guard = integration.guard(lambda venue: venue, key=venue_of, max_keys=64)
    for venue in range(64):
        guard(venue)
    stop = threading.Event()
    errors: list[BaseException] = []
    interval = sys.getswitchinterval()

    def churn(first: int) -> None:
        venue = first
        while not stop.is_set():
            guard(venue)
            venue += 2

    def look() -> None:
        try:
            for _ in range(150):
                integration.status()
                registry.summary()
        except BaseException as error:
            errors.append(error)
        finally:
            stop.set()

    crew = [threading.Thread(target=target) for target in (lambda: churn(100), lambda: churn(101), look)]
    sys.setswitchinterval(1e-5)
    try:
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert errors == []
    guard("last")
    assert len(integration.shards) <= 64  # what raced past the bound was taken back
