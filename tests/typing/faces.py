"""What type checkers make of the public names: `mypy` checks this file, nothing runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, assert_type

import failsoft
from failsoft import AbandonedCall, Aged, Batch, Deadline, IntegrationResult, Stream, StreamPosition, Watch, deadline
from failsoft._core import AsyncGuard, Guard

market = failsoft.integration("binance", "market_data")


@market.guard(hedge=0.95, fallbacks=(), key=lambda text: text)
async def embed(text: str) -> list[float]:
    return [float(len(text))]


@market.guard(enforce="thread")
def report(year: int, *, pages: int = 1) -> str:
    return str(year * pages)


class Client:
    @market.guard
    def ask(self, symbol: str, *, depth: int = 5) -> bytes:
        return symbol.encode() * depth

    @market.guard(hedge=0.9)
    async def wait(self, symbol: str) -> int:
        return len(symbol)


async def items() -> AsyncIterator[dict[str, Any]]:
    yield {}


async def later(position: StreamPosition) -> AsyncIterator[dict[str, Any]]:
    yield {"seq": position.sequence}


@asynccontextmanager
async def connected() -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    yield items()


def guards() -> None:
    assert_type(report(2020, pages=2), str)
    assert_type(report.outcome(2020), IntegrationResult[str])
    assert_type(Client().ask("BTC", depth=3), bytes)
    Client().ask(3)  # type: ignore[arg-type]
    report("2020")  # type: ignore[arg-type]
    market.guard(report, enforce="process")  # type: ignore[call-overload]
    assert_type(market.abandoned, tuple[AbandonedCall, ...])
    assert_type(report.many(3), Batch)


async def coroutines() -> None:
    assert_type(await embed("hello"), list[float])
    assert_type(await embed.outcome("hello"), IntegrationResult[list[float]])
    assert_type(await Client().wait("BTC"), int)
    async with deadline(1.0) as until:
        assert_type(until, Deadline)
    assert_type(failsoft.remaining(), float | None)


async def feeds() -> None:
    stream = market.stream(items, stale_after=2.0, key="symbol", sequence=1, resume=later, overflow="block")
    assert_type(stream, Stream[dict[str, Any]])
    assert_type(market.stream(connected, stale_after=None), Stream[dict[str, Any]])
    async with stream as entered:
        async for item in entered:
            assert_type(item, dict[str, Any])
    assert_type(stream.last("BTC"), Aged | None)
    market.stream(items)  # type: ignore[call-arg]  # how long is too long has to be said
    watched = market.watch([("BTC", 1)], key=0)
    assert_type(watched, Watch[tuple[str, int]])


def kinds(sync: Guard[[int], str], coroutine: AsyncGuard[[int], str]) -> None:
    assert_type(sync(1), str)
    assert_type(coroutine.operation, str)


async def robots() -> list[str]:
    return ["R2-D2"]


def count(of: str) -> int:
    return len(of)


async def seed() -> None:
    result = await failsoft.with_integration_resilience("database", "database", robots)
    assert_type(result, IntegrationResult[list[str]])
    assert_type(failsoft.with_integration_resilience("database", "database", lambda: 3), IntegrationResult[int])
    counted = failsoft.create_integration_operation("database", "database", count, retry=False)
    assert_type(counted("robots"), IntegrationResult[int])
    counted(3)  # type: ignore[arg-type]
    fetched = failsoft.create_integration_operation("database", "database", robots)
    assert_type(await fetched(), IntegrationResult[list[str]])
    manager = failsoft.fallback_manager
    answered = await manager.execute_with_fallback(
        integration_type="database", integration_name="database", primary_operation=robots
    )
    assert_type(answered, IntegrationResult[list[str]])
    assert_type(await market.acall(robots), list[str])


def listeners() -> None:
    failsoft.subscribe(lambda event: event.integration, failsoft.events.Transition, failsoft.events.Retry)
    failsoft.subscribe(lambda event: event.previous, failsoft.events.Transition)
    failsoft.CircuitBreaker(name="alone", failure_threshold=3)
    failsoft.arena.attach("name")
    failsoft.testing.FakeClock()
