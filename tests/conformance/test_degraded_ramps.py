"""Degraded mode that comes by itself: a trip, the way back from it, and what listeners hear of that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import failsoft
from failsoft import IntegrationType, Registry
from failsoft.events import DegradedChange, subscribe
from failsoft.testing import FakeClock

from .conftest import Make
from .tripping import goes, trip


@pytest.fixture
def heard() -> Iterator[list[DegradedChange]]:
    events: list[DegradedChange] = []
    unsubscribe = subscribe(events.append, DegradedChange)
    yield events
    unsubscribe()


def back(registry: Registry, clock: FakeClock, kind: str) -> failsoft.Integration:
    """An integration that has just recovered."""
    dependency = registry.integration(kind, kind, circuit_breaker={"success_threshold": 1, "reset_timeout": 1.0})
    trip(dependency)
    assert registry.capacities.is_degraded(kind)
    assert not registry.capacities.is_degraded(IntegrationType(kind))  # never the whole type
    clock.advance(1.0)
    dependency.call(int)
    return dependency


@pytest.mark.parametrize("kind", ["database", "ai_service", "external_api"])
def test_it_ramps_back(registry: Registry, clock: FakeClock, kind: str, heard: list[DegradedChange]) -> None:
    dependency = back(registry, clock, kind)
    guard = dependency.guard(lambda: 1)
    for capacity in (0.5, 0.625, 0.75, 0.875):
        assert dependency.status().capacity == pytest.approx(capacity, abs=1e-6)
        assert abs(sum(goes(guard) for _ in range(1000)) - capacity * 1000) <= 1
        assert registry.capacities.is_degraded(kind)
        clock.advance(2.5)
    clock.advance(1e-6)  # ends are on whole microseconds
    assert dependency.status().capacity == 1.0
    assert not registry.capacities.is_degraded(kind)
    assert sum(goes(guard) for _ in range(100)) == 100
    assert [(e.target, e.reason) for e in heard] == [(kind, why) for why in ("circuit_open", "recovering", "recovered")]
    assert [(e.previous, e.capacity) for e in heard] == [(1.0, 0.0), (0.0, 0.5), (1.0, 1.0)]


@pytest.mark.parametrize("kind", ["market_data", "cache"])
def test_it_is_back_at_once(registry: Registry, clock: FakeClock, kind: str, heard: list[DegradedChange]) -> None:
    guard = back(registry, clock, kind).guard(lambda: 1)
    assert sum(goes(guard) for _ in range(100)) == 100
    assert [e.reason for e in heard] == ["circuit_open", "recovered"]


def test_a_limited_integration_without_a_ramp_has_recovered(
    make: Make, registry: Registry, clock: FakeClock, heard: list[DegradedChange]
) -> None:
    dependency = make(circuit_breaker={"success_threshold": 1, "reset_timeout": 1.0})
    registry.capacities.enter("dependency", 0.5, "operator")
    trip(dependency)
    clock.advance(1.0)
    dependency.call(int)
    changes = [(e.reason, e.previous, e.capacity) for e in heard]
    assert changes == [("operator", 1.0, 0.5), ("circuit_open", 0.5, 0.0), ("recovered", 0.0, 0.5)]


def test_a_ramp_that_an_operator_ends_has_recovered(
    registry: Registry, clock: FakeClock, heard: list[DegradedChange]
) -> None:
    dependency = back(registry, clock, "database")
    assert dependency.call(int) == 0
    dependency.reset()
    assert [e.reason for e in heard] == ["circuit_open", "recovering", "recovered"]
    clock.advance(100.0)
    dependency.call(int)
    assert len(heard) == 3


def test_the_reason_of_a_ramp(registry: Registry, clock: FakeClock) -> None:
    dependency = back(registry, clock, "database")
    registry.capacities.enter("database", 0.75, "operator")  # more than the ramp leaves
    errors = [dependency.caller("x").outcome(int).error for _ in range(2)]
    assert [error.reason for error in errors if error] == ["recovering"]
    clock.advance(8.0)
    errors = [dependency.caller("x").outcome(int).error for _ in range(8)]
    assert {error.reason for error in errors if error} == {"operator"}


def test_every_change_is_told_once(make: Make, registry: Registry, heard: list[DegradedChange]) -> None:
    make()
    capacities = registry.capacities
    capacities.enter("dependency", 0.5, "a")
    capacities.enter("dependency", 0.5, "a")
    capacities.enter("dependency", 0.75, "b")  # changes nothing
    capacities.enter(IntegrationType.DATABASE, 0.1, "c")
    capacities.exit("dependency", "a")
    capacities.exit("dependency", "nothing")
    changes = [(e.target, e.previous, e.capacity, e.reason) for e in heard]
    kind = IntegrationType.DATABASE
    assert changes == [
        ("dependency", 1.0, 0.5, "a"),
        (kind, 1.0, 0.1, "c"),
        ("dependency", 0.5, 0.75, "a"),
    ]
    assert isinstance(heard[1].target, IntegrationType)
