"""A call that its caller gives up counts for nothing, unless it had been hanging: then it timed out."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from failsoft import Integration
from failsoft.testing import FakeClock

from .conftest import Make


async def given_up(integration: Integration, clock: FakeClock, seconds: float, block: bool) -> None:
    async def hanging() -> None:
        await asyncio.sleep(3600.0)

    async def in_block() -> None:
        async with integration.attempt("x"):
            await hanging()

    guard = integration.guard(hanging, operation="x")
    task = asyncio.ensure_future(in_block() if block else guard())
    await asyncio.sleep(0)
    clock.advance(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("block", [False, True], ids=["guard", "block"])
@pytest.mark.parametrize(
    ("settings", "seconds", "counts"),
    [
        ({}, 9.9, False),  # timeouts.read
        ({}, 10.0, True),
        ({"timeouts": {"read": 3.0}}, 2.9, False),
        ({"timeouts": {"read": 3.0}}, 3.0, True),
        ({"circuit_breaker": {"cancel_counts_after": 20.0}}, 19.9, False),
        ({"circuit_breaker": {"cancel_counts_after": 20.0}}, 20.0, True),
        ({"circuit_breaker": {"cancel_counts_after": 0.0}}, 0.0, True),
    ],
)
@pytest.mark.parametrize("later", [False, True], ids=["made", "reconfigured"])
def test_after_how_long_it_counts(
    make: Make, clock: FakeClock, settings: dict[str, Any], seconds: float, counts: bool, block: bool, later: bool
) -> None:
    dependency = make(**({} if later else settings))
    if later and settings:
        dependency.reconfigure(**settings)
    asyncio.run(given_up(dependency, clock, seconds, block))
    numbers = dependency.metrics("x")
    assert (numbers.timeouts, numbers.error_count, dependency.status().failures) == ((1, 1, 1) if counts else (0, 0, 0))


@pytest.mark.parametrize("value", [-1.0, True, "1", float("nan")])
def test_it_is_a_duration(make: Make, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="cancel_counts_after must be a number of seconds"):
        make(circuit_breaker={"cancel_counts_after": value})
