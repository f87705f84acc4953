"""A registry, an integration and a clock for one test, with policies that stand still unless a test moves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from failsoft import Integration, IntegrationType, Registry
from failsoft.testing import FakeClock

Make = Callable[..., Integration]


def drive(coroutine: Any) -> Any:
    """Run to the end by hand, sending None: no loop, so nothing it awaits may need one."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.close()


@pytest.fixture
def make(registry: Registry) -> Make:
    """An integration of DATABASE's preset whose breaker hardly trips and whose retries, none by default, don't wait."""

    def make(name: str = "dependency", *, retries: int = 0, threshold: int = 60_000, **parts: Any) -> Integration:
        policy = {"max_retries": retries, "initial_delay": 0.0, "max_delay": 0.0, "jitter": False}
        breaker = {"failure_threshold": threshold}
        return registry.integration(
            name,
            IntegrationType.DATABASE,
            retry_policy=policy | parts.pop("retry_policy", {}),
            circuit_breaker=breaker | parts.pop("circuit_breaker", {}),
            degraded={"ramp": 0.0} | parts.pop("degraded", {}),
            **parts,
        )

    return make


@pytest.fixture
def steady(make: Make) -> Integration:
    """No retries, and a breaker that hardly trips."""
    return make("steady")


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock
