"""Streams over a real NATS server and a real websockets server that freeze, die and come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from failsoft import Integration, Registry, events, subscribe
from tests.conftest import Score

if TYPE_CHECKING:
    from .servers import Feed, Nats, Server

pytestmark = pytest.mark.skipif(os.name != "posix", reason="servers are frozen and killed by signals")

STALE_AFTER = 0.4
TICK = 0.25
"""Seconds that an event loop among others on a busy machine may come late."""


@pytest.fixture
def market() -> Iterator[Integration]:
    registry = Registry()
    yield registry.integration(
        "market",
        "market_data",
        retry_policy={"initial_delay": 0.02, "max_delay": 0.1},
        circuit_breaker={"failure_threshold": 1000},
    )
    registry.close()


@pytest.fixture
def heard() -> Iterator[list[tuple[float, Any]]]:
    told: list[tuple[float, Any]] = []
    kinds = (events.StreamStale, events.StreamLost, events.StreamReconnected, events.StreamGap)
    end = subscribe(lambda event: told.append((time.monotonic(), event)), *kinds)
    yield told
    end()


def first(heard: list[tuple[float, Any]], kind: type[Any]) -> tuple[float, Any]:
    return next((when, event) for when, event in heard if type(event) is kind)


def streaming(market: Integration, feed: Callable[[], AsyncIterator[Any]], positions: list[Any]) -> Any:
    def resume(position: Any) -> AsyncIterator[Any]:
        positions.append(position)
        return feed()

    return market.stream(feed, stale_after=STALE_AFTER, key="symbol", sequence="seq", close_timeout=0.2, resume=resume)


def over_websockets(market: Integration, server: Feed, positions: list[Any]) -> Any:
    from websockets.asyncio.client import connect

    async def feed() -> AsyncIterator[Any]:
        async with connect(server.url) as socket:
            async for message in socket:
                yield json.loads(message)

    return streaming(market, feed, positions)


def over_nats(market: Integration, server: Nats, positions: list[Any]) -> Any:
    import nats

    async def quiet(_error: Exception) -> None:
        pass

    async def feed() -> AsyncIterator[Any]:
        client = await nats.connect(server.url, allow_reconnect=False, connect_timeout=1, error_cb=quiet)
        try:
            subscription = await client.subscribe("quotes")
            async for message in subscription.messages:
                yield json.loads(message.data)
        finally:
            await client.close()

    return streaming(market, feed, positions)


@contextlib.asynccontextmanager
async def publisher(server: Nats) -> AsyncIterator[None]:
    """Publishes numbers; those of a time when nobody takes them are lost."""
    import nats

    client: Any = None

    async def close() -> None:
        nonlocal client
        if client is not None:
            with contextlib.suppress(Exception):
                await client.close()
        client = None

    async def publish() -> None:
        nonlocal client
        number = 0
        while True:
            number += 1
            try:
                if client is None or not client.is_connected:
                    await close()
                    client = await nats.connect(server.url, allow_reconnect=False, connect_timeout=1, error_cb=quiet)
                await asyncio.wait_for(client.publish("quotes", json.dumps({"symbol": "A", "seq": number}).encode()), 1)
                await asyncio.wait_for(client.flush(), 1)
            except Exception:
                await close()
            await asyncio.sleep(0.01)

    async def quiet(_error: Exception) -> None:
        pass

    task = asyncio.ensure_future(publish())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await close()


@contextlib.asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


async def outage(stream: Any, server: Server, feeding: Any, heard: list[tuple[float, Any]], *, kill: bool) -> float:
    """Somebody consumes all the time; the server goes and comes back. Seconds until that it had gone was told."""
    loop = asyncio.get_running_loop()
    items: list[Any] = []

    async def consume() -> None:
        async for item in stream:
            items.append(item)

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            assert not consumer.done(), consumer.result()
            await asyncio.sleep(0.005)

    async with asyncio.timeout(20), feeding, stream:
        consumer = asyncio.ensure_future(consume())
        await until(lambda: len(items) >= 20)
        heard.clear()
        await loop.run_in_executor(None, server.kill if kill else server.freeze)
        down = time.monotonic()
        await until(lambda: any(type(event) in (events.StreamLost, events.StreamStale) for _, event in heard))
        told, _ = heard[0]
        if not kill:
            told, stale = first(heard, events.StreamStale)
            assert stale.seconds == STALE_AFTER
            assert told - down <= STALE_AFTER + TICK
        before = len(items)
        await loop.run_in_executor(None, server.revive)
        await until(lambda: len(items) >= before + 20)
        _, again = first(heard, events.StreamReconnected)
        assert again.silent_for >= (0.0 if kill else STALE_AFTER)
        assert stream.metrics().reconnects >= 1
        last = stream.last("A")
        assert last is not None
        assert last.value == items[-1]
    await consumer
    return told - down


def resumed_at_the_gap(positions: list[Any], heard: list[tuple[float, Any]]) -> bool:
    """Did the connection that a gap was found on ask for what comes after the last number before the gap?"""
    _, gap = first(heard, events.StreamGap)
    return positions[-1].sequences == {"A": gap.last} and positions[-1].values["A"].value["seq"] == gap.last


@pytest.mark.parametrize("kill", [False, True], ids=["SIGSTOP", "SIGKILL"])
def test_a_websockets_feed(
    market: Integration, feed_server: Feed, heard: list[tuple[float, Any]], kill: bool, score: Score
) -> None:
    positions: list[Any] = []
    stream = over_websockets(market, feed_server, positions)
    took = asyncio.run(outage(stream, feed_server, nothing(), heard, kill=kill))
    if kill:  # the numbers that went by meanwhile
        _, gap = first(heard, events.StreamGap)
        assert gap.key == "A"
        assert gap.missing >= 9
        assert resumed_at_the_gap(positions, heard)
    else:
        score("silence of a frozen websockets server is noticed", "seconds beyond stale_after", took - STALE_AFTER)
    assert stream.metrics().disorder == 0


@pytest.mark.parametrize("kill", [False, True], ids=["SIGSTOP", "SIGKILL"])
def test_a_nats_feed(
    market: Integration, nats_server: Nats, heard: list[tuple[float, Any]], kill: bool, score: Score
) -> None:
    positions: list[Any] = []
    stream = over_nats(market, nats_server, positions)
    took = asyncio.run(outage(stream, nats_server, publisher(nats_server), heard, kill=kill))
    if kill:
        _, gap = first(heard, events.StreamGap)
        assert gap.missing >= 1
        assert resumed_at_the_gap(positions, heard)
    else:
        score("silence of a frozen NATS server is noticed", "seconds beyond stale_after", took - STALE_AFTER)
