"""Degraded mode: how many calls go, who says so, what becomes of the others, and how it comes back by itself."""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import threading
import weakref
from typing import Any

import pytest

import failsoft
from failsoft import (
    CircuitState,
    DegradedModeError,
    Fallback,
    FallbackType,
    IntegrationType,
    Registry,
    with_integration_resilience,
)
from failsoft.testing import FakeClock

from .conftest import Make, drive
from .tripping import goes, gone, trip

CAPACITIES = pytest.mark.parametrize("capacity", [0.75, 0.5, 0.25, 0.1])
names = map("degraded-{}".format, itertools.count())


# ---- how many


def windows(admitted: list[bool]) -> list[int]:
    """How many of each thousand calls in a row were admitted."""
    sums = [0, *itertools.accumulate(admitted)]
    return [sums[i + 1000] - sums[i] for i in range(len(sums) - 1000)]


@CAPACITIES
def test_of_any_thousand_calls_the_share_goes(make: Make, registry: Registry, capacity: float) -> None:
    guard = make().guard(lambda: 1)
    registry.capacities.enter("dependency", capacity, "operator")
    admitted = [goes(guard) for _ in range(3000)]
    assert {abs(count - capacity * 1000) <= 1 for count in windows(admitted)} == {True}
    assert admitted[0]


@CAPACITIES
def test_of_any_thousand_awaited_calls_the_share_goes(make: Make, registry: Registry, capacity: float) -> None:
    async def quote() -> int:
        return 1

    guard = make().guard(quote)
    registry.capacities.enter("dependency", capacity, "operator")

    async def admitted() -> list[bool]:
        results = await asyncio.gather(*(guard.outcome() for _ in range(3000)))
        return [result.success for result in results]

    assert {abs(count - capacity * 1000) <= 1 for count in windows(asyncio.run(admitted()))} == {True}


@CAPACITIES
def test_eight_threads_share_one_account(make: Make, registry: Registry, capacity: float) -> None:
    dependency = make()
    guards = [dependency.guard(lambda: 1, operation=f"o{i}") for i in range(8)]
    registry.capacities.enter("dependency", capacity, "operator")
    start, counts = threading.Barrier(8), [0] * 8

    def work(i: int) -> None:
        start.wait()
        counts[i] = sum(goes(guards[i]) for _ in range(500))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert abs(sum(counts) - 4000 * capacity) <= 1


@pytest.mark.parametrize(("capacity", "expected"), [(0.0, 0), (1, 100), (1e-12, 1)])
def test_none_all_and_next_to_none(make: Make, registry: Registry, capacity: float, expected: int) -> None:
    guard = make().guard(lambda: 1)
    registry.capacities.enter("dependency", capacity, "operator")
    assert sum(goes(guard) for _ in range(100)) == expected


@pytest.mark.parametrize("capacity", [0.1, 0.3, 0.7, 1 / 3, 0.123456789])
def test_a_capacity_reads_as_it_was_given(make: Make, registry: Registry, capacity: float) -> None:
    dependency = make()
    registry.capacities.enter("dependency", capacity, "migration")
    assert dependency.status().capacity == pytest.approx(capacity, abs=1e-9)
    if capacity != 1 / 3:
        assert dependency.status().capacity == capacity
    with pytest.raises(DegradedModeError) as caught:
        for _ in range(100):
            dependency.call(int)
    assert caught.value.reason == "migration"
    assert caught.value.details["capacity"] == dependency.status().capacity


@CAPACITIES
def test_should_limit_operations_has_an_account_of_its_own(make: Make, registry: Registry, capacity: float) -> None:
    guard, capacities = make().guard(lambda: 1), registry.capacities
    capacities.enter("dependency", capacity, "operator")
    free, admitted = [], []
    for _ in range(2000):
        admitted.append(goes(guard))
        free.append(not capacities.limits_next("dependency"))
    for account in (free, admitted):
        assert {abs(count - capacity * 1000) <= 1 for count in windows(account)} == {True}


def test_should_limit_operations_is_not_stuck_when_the_wait_is_over(
    make: Make, registry: Registry, clock: FakeClock
) -> None:
    dependency, limits = make(circuit_breaker={"reset_timeout": 30.0}), registry.capacities.limits_next
    trip(dependency)
    clock.advance(29.999)
    assert [limits("dependency") for _ in range(5)] == [True] * 5
    clock.advance(0.001)
    assert not limits("dependency")
    dependency.call(int)
    assert dependency.status().state is CircuitState.HALF_OPEN
    assert not limits("dependency")
    dependency.force_open()
    assert limits("dependency")


# ---- what becomes of the others


def test_a_limited_call_raises_with_capacity_and_reason(make: Make, registry: Registry) -> None:
    dependency = make()
    guard = dependency.guard(lambda: 1, operation="quote", details={"symbol": "BTC"})
    registry.capacities.enter("dependency", 0.0, "migration")
    with pytest.raises(
        DegradedModeError, match=r"dependency was not called.*0 of its capacity \(migration\)"
    ) as caught:
        guard()
    error = caught.value
    assert (error.reason, error.operation, error.integration_name) == ("migration", "quote", "dependency")
    assert (error.details["capacity"], error.details["symbol"], error.retryable) == (0.0, "BTC", True)
    assert guard.metrics().rejected == 1
    assert guard.metrics().count == 0


def test_a_limited_call_goes_to_its_fallbacks(make: Make, registry: Registry) -> None:
    guard = make().guard(lambda: 1, fallbacks=[Fallback(FallbackType.MOCK, lambda: 2)])
    registry.capacities.enter("dependency", 0.5, "operator")
    assert [guard() for _ in range(4)] == [1, 2, 1, 2]
    result = [guard.outcome() for _ in range(2)][1]
    assert (result.success, result.fallback_used, result.fallback_type) == (True, True, FallbackType.MOCK)
    assert isinstance(result.error, DegradedModeError)


def test_the_seeds_face_is_limited_too(make: Make, registry: Registry) -> None:
    make()
    registry.capacities.enter("dependency", 0.25, "operator")

    async def quote() -> int:
        return 1

    def sync() -> Any:
        return with_integration_resilience(IntegrationType.DATABASE, "dependency", lambda: 1, registry=registry)

    async def awaited() -> Any:
        return await with_integration_resilience(IntegrationType.DATABASE, "dependency", quote, registry=registry)

    results = [sync() if i % 2 else drive(awaited()) for i in range(40)]
    assert sum(result.success for result in results) == 10
    assert {type(result.error) for result in results if not result.success} == {DegradedModeError}


def test_each_attempt_needs_room(make: Make, registry: Registry, clock: FakeClock) -> None:
    guard = make(retries=3).guard(gone)
    registry.capacities.enter("dependency", 0.5, "operator")
    error = guard.outcome().error  # attempts 1 and 2 of two calls are counted alike: one goes, one does not
    assert (error.attempts, error.reason) == (1, "the gate refused: capacity 0.5 (operator)")
    assert isinstance(error.original_error, ConnectionError)
    assert guard.metrics().rejected == 1


def test_probes_are_never_limited(make: Make, registry: Registry, clock: FakeClock) -> None:
    dependency = make(circuit_breaker={"reset_timeout": 1.0, "success_threshold": 3})
    trip(dependency)
    registry.capacities.enter("dependency", 0.0, "operator")
    clock.advance(1.0)
    for _ in range(3):
        dependency.call(int)
    assert dependency.status().state is CircuitState.CLOSED
    with pytest.raises(DegradedModeError):
        dependency.call(int)


# ---- who says so


def test_types_and_names_are_kept_apart(registry: Registry) -> None:
    enter, leave, one = registry.capacities.enter, registry.capacities.exit, IntegrationType.DATABASE
    named = registry.integration("database", "market_data")
    other = registry.integration("other", "database")
    enter(one, 0.5, "operator")
    assert (named.status().capacity, other.status().capacity) == (1.0, 0.5)
    enter("database", 0.25, "operator")
    assert (named.status().capacity, other.status().capacity) == (0.25, 0.5)
    assert leave("database", "operator")
    assert not leave("database", "operator")
    assert (named.status().capacity, other.status().capacity) == (1.0, 0.5)
    enter("database", 0.25, "operator")
    assert leave(one, "operator")
    assert (named.status().capacity, other.status().capacity) == (0.25, 1.0)


def test_a_word_is_taken_back_though_it_has_come_to_mean_something_else(registry: Registry) -> None:
    capacities = registry.capacities
    capacities.enter("cache", 0.5, "operator")
    late = registry.integration("cache", "cache")
    assert late.status().capacity == 0.5
    assert capacities.exit("cache", "operator")
    assert late.status().capacity == 1.0
    assert not capacities.is_degraded(IntegrationType.CACHE)


def test_new_integrations_are_limited_from_their_first_call(registry: Registry) -> None:
    registry.capacities.enter(IntegrationType.CACHE, 0.0, "operator")
    with pytest.raises(DegradedModeError):
        registry.integration("late", "cache").call(int)
    assert Registry().integration("late", "cache").call(int) == 0  # registries are apart


def test_keys_are_limited_with_their_integration(make: Make, registry: Registry) -> None:
    dependency = make()
    guard = dependency.guard(lambda venue: 1, key=lambda venue: venue)
    guard("a")
    registry.capacities.enter("dependency[a]", 0.0, "operator")
    for venue in "ab":
        with pytest.raises(DegradedModeError):
            guard(venue)
    assert registry.capacities.is_degraded("dependency[b]")
    assert registry.capacities.exit("dependency", "operator")
    assert (guard("a"), guard("b")) == (1, 1)
    dependency.shards["a"].force_open()
    assert registry.capacities.is_degraded("dependency[a]")
    assert not registry.capacities.is_degraded("dependency[b]")


REASONS = ("type", "name", "block", "trip")


@pytest.mark.parametrize("order", list(itertools.permutations(REASONS)), ids="-".join)
def test_no_reason_undoes_another(make: Make, registry: Registry, clock: FakeClock, order: tuple[str, ...]) -> None:
    dependency, capacities = make(circuit_breaker={"reset_timeout": 1.0, "success_threshold": 1}), registry.capacities
    capacities.enter(IntegrationType.DATABASE, 0.5, "operator")
    capacities.enter("dependency", 0.25, "operator")
    block = capacities.enter("dependency", 0.125, "block")
    block.__enter__()
    trip(dependency)
    left = {"type": 0.5, "name": 0.25, "block": 0.125, "trip": 0.0}
    for reason in order:
        assert dependency.status().capacity == min(left.values())
        if reason == "type":
            assert capacities.exit(IntegrationType.DATABASE, "operator")
        elif reason == "name":
            assert capacities.exit("dependency", "operator")
        elif reason == "block":
            block.__exit__(None, None, None)
        else:
            clock.advance(1.0)
            dependency.call(int)
        del left[reason]
    assert dependency.status().capacity == 1.0
    assert not capacities.is_degraded("dependency")


def test_a_block_gives_back_what_it_found(make: Make, registry: Registry) -> None:
    dependency, enter = make(), registry.capacities.enter

    def now() -> float:
        return dependency.status().capacity

    enter("dependency", 0.9, "operator")
    enter("dependency", 0.5, "operator")  # replaces
    with enter("dependency", 0.25, "operator") as outer:
        assert (now(), outer.capacity) == (0.25, 0.25)
        with pytest.raises(ZeroDivisionError), enter("dependency", 0.75, "operator"):
            assert now() == 0.75  # the newest word of one reason
            raise ZeroDivisionError
        assert now() == 0.25
        enter("dependency", 0.6, "operator")  # said within a block and not taken back
    assert now() == 0.6
    assert registry.capacities.exit("dependency", "operator")
    assert now() == 1.0
    with outer:
        assert now() == 0.25
    assert now() == 1.0


def test_entering_again_and_again_keeps_nothing(make: Make, registry: Registry) -> None:
    make()
    first = weakref.ref(registry.capacities.enter("dependency", 0.5, "operator"))
    for _ in range(3):
        registry.capacities.enter("dependency", 0.5, "operator")
    gc.collect()
    assert first() is None


@pytest.mark.parametrize("capacity", [math.nan, True, 2, -0.1, "x", None, math.inf])
def test_a_capacity_is_a_share(registry: Registry, capacity: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="capacity must be a number from 0 to 1"):
        registry.capacities.enter(IntegrationType.CACHE, capacity, "operator")
    assert not registry.capacities.is_degraded(IntegrationType.CACHE)


def test_targets_and_reasons(make: Make, registry: Registry) -> None:
    make()
    capacities = registry.capacities
    for call in (
        lambda target: capacities.enter(target, 0.5, "x"),
        lambda target: capacities.exit(target, "x"),
        capacities.is_degraded,
        capacities.limits_next,
    ):
        with pytest.raises(KeyError, match=r"'nowhere' is neither an integration \(\['dependency'\]\) nor a type"):
            call("nowhere")
        with pytest.raises(TypeError, match="target must be"):
            call(5)  # type: ignore[arg-type]
    for reason in ("", None):
        with pytest.raises(TypeError, match="reason must be a non-empty string"):
            capacities.enter("dependency", 0.5, reason)  # type: ignore[arg-type]


def test_a_closed_registry_limits_nobody() -> None:
    registry = Registry()
    guard = registry.integration("x", "cache").guard(lambda: 1)
    with registry.capacities.enter("x", 0.0, "operator"):
        registry.close()
        assert guard() == 1


def test_the_module_functions() -> None:
    name = next(names)
    integration = failsoft.integration(name, "external_api")
    with failsoft.enter_degraded_mode(name, reason="by half") as mode:
        assert repr(mode) == f"<DegradedMode {name} at 0.5 (by half)>"
        assert [failsoft.should_limit_operations(name) for _ in range(4)] == [False, True, False, True]
        failsoft.enter_degraded_mode(name, 0.25)
        assert integration.status().capacity == 0.25
        assert failsoft.exit_degraded_mode(name)
        assert not failsoft.exit_degraded_mode(name)
        assert failsoft.is_degraded(name)
    assert not failsoft.is_degraded(name)
