"""What features cost a call that does not need them, and what those that work on every call cost."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from armed import armed, identity, identity_async
from groups import Contest, Row, Target
from measure import Subject
from run_one import benchmarked

import failsoft
from failsoft import IntegrationType, Registry, database_fallbacks, events


def nothing() -> object:
    """The no-op target of the seed's functions, which hand on no arguments."""
    return None


async def nothing_async() -> object:
    return None


def configured(function: Callable[..., Any]) -> Any:
    """A guard with fallbacks, a degraded policy, details, metrics that were read and a listener to every event."""
    integration = Registry().integration("database", IntegrationType.DATABASE, circuit_breaker={"failure_rate": 0.5})
    cache: dict[str, object] = {}
    guard = integration.guard(
        function,
        operation="operation",
        fallbacks=[database_fallbacks.cache_first("key", cache.get), database_fallbacks.mock_data(0)],
        details={"query": "SELECT 1"},
    )
    guard.metrics()
    events.subscribe(lambda event: None)
    return guard


def with_option(**options: Any) -> Callable[[], Any]:
    integration = Registry().integration("database", IntegrationType.DATABASE)
    return lambda: integration.guard(identity, operation="operation", **options)


def limited() -> Any:
    """A guard whose every call asks the dial, which refuses one in a million."""
    registry = Registry()
    integration = registry.integration("database", IntegrationType.DATABASE)
    registry.capacities.enter("database", 0.999999, "benchmark")
    return integration.guard(identity, operation="operation")


def calling(function: Callable[[], Any]) -> Callable[[], Mapping[str, object]]:
    return lambda: {"f": function(), "x": 1}


def fail(value: object) -> object:
    raise ConnectionError("gone")


def failing(**options: Any) -> Callable[[], Any]:
    """A guard whose every call fails, never retries and never trips."""
    integration = Registry().integration(
        "database",
        IntegrationType.DATABASE,
        retry_policy={"max_retries": 0},
        circuit_breaker={"failure_threshold": None, "slow_call": 1.0, "slow_rate": 1.0},
    )
    return lambda: integration.guard(fail, operation="operation", **options)


names = map("benchmark-{}".format, itertools.count())


def facing(function: Callable[[], Any]) -> Callable[[], Mapping[str, object]]:
    """The seed's function on an integration of the default registry, of a name of its own."""
    return lambda: {
        "f": failsoft.with_integration_resilience,
        "kind": IntegrationType.DATABASE,
        "name": next(names),
        "g": function,
    }


CALL, AWAIT = "f(x)", "await f(x)"

SYNC = (
    Subject("functools.partial", CALL, calling(lambda: functools.partial(identity))),
    Subject("guard", CALL, calling(lambda: armed(identity))),
    Subject("guard, all configured", CALL, calling(lambda: configured(identity))),
)
ASYNC = (
    Subject("bare await", AWAIT, calling(lambda: identity_async), in_loop=True),
    Subject("guarded await", AWAIT, calling(lambda: armed(identity_async)), in_loop=True),
    Subject("guarded await, all configured", AWAIT, calling(lambda: configured(identity_async)), in_loop=True),
)
OPTIONS = (
    Subject("plain guard", CALL, calling(with_option())),
    Subject("guard, last value kept", CALL, calling(with_option(fallbacks=[database_fallbacks.last_known()]))),
    Subject("guard, a breaker a key", CALL, calling(with_option(key=identity))),
    Subject("guard, de-duplicated", CALL, calling(with_option(dedupe=True))),
    Subject("guard, capacity limited", CALL, calling(limited)),
)
ROOMY = {"rate": 1e9, "burst": 2**31 - 1}


def controlled(**options: Any) -> Callable[[], Any]:
    """A guard behind load control that never refuses; without a retry budget unless one is given."""
    integration = Registry().integration("database", IntegrationType.DATABASE, **{"retry_budget": None, **options})
    return lambda: integration.guard(identity, operation="operation")


LOAD = (
    Subject("plain guard, no load control", CALL, calling(controlled())),
    Subject("guard, rate limit", CALL, calling(controlled(rate_limit=ROOMY))),
    Subject("guard, bulkhead", CALL, calling(controlled(bulkhead={"max_concurrent": 1000}))),
    Subject("guard, throttle", CALL, calling(controlled(throttle={}))),
    Subject("guard, retry budget", CALL, calling(controlled(retry_budget={}))),
    Subject(
        "guard, all four",
        CALL,
        calling(controlled(rate_limit=ROOMY, bulkhead={"max_concurrent": 1000}, throttle={}, retry_budget={})),
    ),
)
ARMED_COST = Target(cap=8.0)
"""Nanoseconds that each of them may add to a call that it lets pass."""
BATCH = (
    Subject("loop over 1000 items", "for _ in r:\n    g()", lambda: {"g": nothing, "r": range(1000)}),
    Subject(
        "batch of 1000 items",
        "with f.many(1000):\n    for _ in r:\n        g()",
        lambda: {"f": controlled()(), "g": nothing, "r": range(1000)},
    ),
    Subject(
        "1000 guarded calls",
        "for _ in r:\n    g()",
        lambda: {"g": Registry().integration("database", "database").guard(nothing), "r": range(1000)},
    ),
)
CAUGHT = "try:\n    f(x)\nexcept Error:\n    pass"
FAILURE = (
    Subject("bare failure, caught", CAUGHT, lambda: {"f": fail, "x": 1, "Error": ConnectionError}),
    Subject("guarded failure, caught", CAUGHT, lambda: {"f": failing()(), "x": 1, "Error": ConnectionError}),
    Subject("guarded failure, outcome", "f.outcome(x)", calling(failing())),
    Subject("guarded failure, fallback", CALL, calling(failing(fallbacks=[database_fallbacks.mock_data(0)]))),
)
FACE = (
    Subject("bare call", "g()", lambda: {"g": nothing}),
    Subject("with_integration_resilience", "f(kind, name, g)", facing(nothing)),
)
FACE_ASYNC = (
    Subject("bare await of nothing", "await g()", lambda: {"g": nothing_async}, in_loop=True),
    Subject("with_integration_resilience, async", "await f(kind, name, g)", facing(nothing_async), in_loop=True),
)

GROUPS = (
    Contest(
        "configured",
        SYNC,
        (
            Row("guard, all configured", "guard"),
            Row("guard, all configured", "functools.partial"),
        ),
    ),
    Contest(
        "configured, async",
        ASYNC,
        (
            Row("guarded await, all configured", "guarded await"),
            Row("guarded await, all configured", "bare await"),
        ),
    ),
    Contest(
        "options",
        OPTIONS,
        tuple(Row(subject.name, "plain guard") for subject in OPTIONS[1:]),
    ),
    Contest(
        "load control",
        LOAD,
        (
            *(Row(subject.name, LOAD[0].name) for subject in LOAD[1:]),
            *(Row(subject.name, unit="ns", more_than=LOAD[0].name, target=ARMED_COST) for subject in LOAD[1:-1]),
        ),
    ),
    Contest("batches", BATCH, tuple(Row(subject.name, BATCH[0].name) for subject in BATCH[1:])),
    Contest(
        "failure",
        FAILURE,
        tuple(Row(subject.name, "bare failure, caught") for subject in FAILURE[1:]),
    ),
    Contest("seed's functions", FACE, (Row("with_integration_resilience", "bare call", Target(cap=8.0)),)),
    Contest(
        "seed's functions, async",
        FACE_ASYNC,
        (Row("with_integration_resilience, async", "bare await of nothing", Target(cap=3.0)),),
    ),
)


@pytest.mark.parametrize(
    "subject", [*SYNC, *ASYNC, *OPTIONS, *LOAD, *BATCH, *FAILURE, *FACE, *FACE_ASYNC], ids=lambda subject: subject.name
)
def test_configured(benchmark: Any, subject: Subject) -> None:
    benchmarked(benchmark, subject)
