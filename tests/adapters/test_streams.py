"""Feeds over WebSocket and NATS, and loops of ccxt's shape, as streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from failsoft import Integration, Registry, classify_error


@pytest.fixture
def market() -> Integration:
    return Registry().integration(
        "market", "market_data", retry_policy={"initial_delay": 0.01, "max_delay": 0.05}, timeouts={"connect": 1.0}
    )


# ---- websockets


def over_websocket(market: Integration, handler: Any, wanted: int, **options: Any) -> tuple[list[Any], Any]:
    """The first items of a feed that `handler` serves, and the stream."""
    pytest.importorskip("websockets")
    from websockets.asyncio.server import serve

    from failsoft.adapters.websockets import stream

    async def main() -> tuple[list[Any], Any]:
        async with serve(handler, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            options.setdefault("stale_after", 5.0)
            async with stream(market, url, close_timeout=0.1, **options) as feed:
                got = []
                async for item in feed:
                    got.append(item)
                    if len(got) == wanted:
                        break
                return got, feed.metrics()

    return asyncio.run(asyncio.wait_for(main(), 10.0))


def test_a_websocket_is_subscribed_anew_when_it_breaks(market: Integration) -> None:
    said: list[str | bytes] = []
    tokens = iter(["a", "b", "c"])

    async def handler(socket: Any) -> None:
        said.append(await socket.recv())
        first = 3 * len(said)
        for number in (first, first + 1, first + 2):
            await socket.send(json.dumps({"symbol": "BTC", "seq": number}))
        if len(said) == 1:
            socket.transport.abort()
        await socket.wait_closed()

    async def subscribe() -> dict[str, str]:
        return {"op": "subscribe", "token": next(tokens)}

    got, metrics = over_websocket(
        market, handler, 6, subscribe=subscribe, decode=json.loads, key="symbol", sequence="seq"
    )
    assert [item["seq"] for item in got] == [3, 4, 5, 6, 7, 8]
    assert said == ['{"op": "subscribe", "token": "a"}', '{"op": "subscribe", "token": "b"}']
    assert (metrics.reconnects, metrics.gaps) == (1, 0)
    assert market.metrics("stream").error_count == 1


def test_a_silent_websocket_is_given_up(market: Integration) -> None:
    connections = []

    async def handler(socket: Any) -> None:
        connections.append(socket)
        await socket.send(f"{len(connections)}")
        await socket.wait_closed()

    got, metrics = over_websocket(market, handler, 2, stale_after=0.1)
    assert got == ["1", "2"]
    assert metrics.stale == 1


def test_what_cannot_be_decoded_ends_the_connection(market: Integration) -> None:
    connections = []

    async def handler(socket: Any) -> None:
        connections.append(socket)
        await socket.send("1")
        await socket.send("{" if len(connections) == 1 else "2")
        await socket.wait_closed()

    got, _ = over_websocket(market, handler, 3, decode=json.loads, subscribe=None)
    assert got == [1, 1, 2]
    assert market.status().failures == 0  # something has come since


def test_several_messages_subscribe(market: Integration) -> None:
    said: list[str | bytes] = []

    async def handler(socket: Any) -> None:
        for _ in range(3):
            said.append(await socket.recv())
        await socket.send("x")
        await socket.wait_closed()

    over_websocket(market, handler, 1, subscribe=lambda: ["a", b"b", {"c": 1}])
    assert said == ["a", b"b", '{"c": 1}']


def test_a_websocket_whose_peer_says_no_good_bye_is_closed_all_the_same(market: Integration) -> None:
    pytest.importorskip("websockets")
    from failsoft.adapters.websockets import stream

    async def main() -> bool:
        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            import base64
            import hashlib

            head = await reader.readuntil(b"\r\n\r\n")
            key = next(line.partition(b": ")[2] for line in head.split(b"\r\n") if b"-WebSocket-Key" in line)
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            writer.write(b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ")
            writer.write(accept + b"\r\n\r\n")
            while await reader.read(1000):
                pass
            ended.set()
            writer.close()

        ended = asyncio.Event()
        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with stream(market, url, stale_after=0.05, max_reconnects=0, close_timeout=0.05) as feed:
            with pytest.raises(TimeoutError):
                await anext(feed)
        await asyncio.wait_for(ended.wait(), 5.0)
        server.close()
        return True

    assert asyncio.run(main())


def test_a_hint_that_does_not_fit_into_a_deadline_ends_the_wait(market: Integration) -> None:
    """Without a deadline a feed waits as long as it is asked to."""
    from failsoft import deadline

    class Limited(Exception):
        status_code = 429
        retry_after = 7.0

    def refused() -> Any:
        raise Limited

    async def main() -> None:
        with deadline(3.0), pytest.raises(Limited):
            await anext(market.stream(refused, stale_after=1.0))

    asyncio.run(asyncio.wait_for(main(), 2.0))


@pytest.mark.parametrize(
    ("received", "sent", "theirs_first", "category"),
    [
        (1002, 1002, False, "SERVER_ERROR"),  # what came was no frame
        (None, 1007, None, "SERVER_ERROR"),
        (1011, 1011, False, "TIMEOUT"),  # our pings were not answered, and it repeats our code
        (1011, 1011, True, "SERVER_ERROR"),
        (None, 1009, None, "VALIDATION"),
        (1013, 1013, True, "SERVER_ERROR"),
        (None, None, None, "NETWORK"),
    ],
)
def test_a_closed_websocket_is_told_by_who_closed_it(
    received: int | None, sent: int | None, theirs_first: bool | None, category: str
) -> None:
    exceptions = pytest.importorskip("websockets.exceptions")
    from websockets.frames import Close

    codes = [None if code is None else Close(code, "") for code in (received, sent)]
    assert classify_error(exceptions.ConnectionClosedError(*codes, theirs_first)) == category


# ---- NATS


def test_nats_goes_on_after_the_server_was_killed(serve: Callable[[Any], Any], market: Integration) -> None:
    nats = pytest.importorskip("nats")
    servers = pytest.importorskip("tests.services.servers", exc_type=ImportError)
    server = serve(servers.Nats)
    from failsoft.adapters.nats import stream

    async def publish(url: str, numbers: Any) -> None:
        client = await nats.connect(url, allow_reconnect=False)
        for number in numbers:
            await client.publish("quotes.BTC", json.dumps({"symbol": "BTC", "seq": number}).encode())
            await client.flush()
            await asyncio.sleep(0.02)
        await client.close()

    async def main() -> tuple[list[int], Any]:
        async with stream(
            market, server.url, ["quotes.*", "news"], decode=lambda message: json.loads(message.data),
            stale_after=5.0, key="symbol", sequence="seq", close_timeout=0.1,
        ) as feed:  # fmt: skip
            first = asyncio.ensure_future(anext(feed))
            await asyncio.sleep(0.2)
            await publish(server.url, [1])
            got = [(await first)["seq"]]
            second = asyncio.ensure_future(anext(feed))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            numbers = iter(range(2, 500))
            while not second.done():
                await publish(server.url, [next(numbers)])
            got.append((await second)["seq"])
            return got, feed.metrics()

    got, metrics = asyncio.run(asyncio.wait_for(main(), 15.0))
    assert got[0] == 1
    assert got[1] >= 2
    assert metrics.reconnects == 1
    assert market.metrics("stream").error_count >= 1


def test_nats_that_nobody_serves_is_a_network_failure(market: Integration) -> None:
    pytest.importorskip("nats")
    from failsoft.adapters.nats import stream
    from failsoft.testing.ports import free_port

    async def main() -> None:
        async with stream(
            market, f"nats://127.0.0.1:{free_port()}", "quotes", stale_after=1.0, max_reconnects=1
        ) as feed:
            await anext(feed)

    with pytest.raises(Exception) as caught:
        asyncio.run(main())
    assert classify_error(caught.value) == "NETWORK"
    with pytest.raises(TypeError, match="allow_reconnect"):
        stream(market, "nats://x", "quotes", stale_after=1.0, connect_options={"allow_reconnect": True})


@pytest.mark.parametrize(
    ("words", "category"),
    [
        ("nats: 'Authorization Violation'", "CLIENT_ERROR"),
        ('nats: permissions violation for subscription to "secret"', "CLIENT_ERROR"),
        ("nats: maximum connections exceeded", "SERVER_ERROR"),
        ("nats: empty response from server when expecting INFO message", "SERVER_ERROR"),
        ("nats: something new", "UNKNOWN"),
    ],
)
def test_what_a_nats_server_says_in_words(words: str, category: str) -> None:
    errors = pytest.importorskip("nats.errors")
    assert classify_error(errors.Error(words)) == category


# ---- the body of an HTTP response


def test_lines_of_a_body_that_breaks_off_and_one_that_falls_silent(market: Integration) -> None:
    """The recipe of docs/streams.md."""
    aiohttp = pytest.importorskip("aiohttp")
    from aiohttp import web

    answers = 0

    async def feed(request: web.Request) -> web.StreamResponse:
        nonlocal answers
        answers += 1
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(3 * answers, 3 * answers + 2):
            await response.write(json.dumps({"seq": number}).encode() + b"\n")
        if answers == 1:
            assert request.transport is not None
            request.transport.abort()
        await asyncio.sleep(60)
        return response

    async def main() -> tuple[list[int], Any, Any]:
        application = web.Application()
        application.router.add_get("/", feed)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        try:
            async with aiohttp.ClientSession() as session:

                async def lines() -> Any:
                    async with session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
                        response.raise_for_status()
                        async for line in response.content:
                            yield json.loads(line)

                got = []
                async with market.stream(lines, stale_after=0.15, sequence="seq") as items:
                    async for item in items:
                        got.append(item["seq"])
                        if len(got) == 6:
                            break
                    return got, items.metrics(), items.status()
        finally:
            await runner.cleanup()

    got, metrics, status = asyncio.run(asyncio.wait_for(main(), 10.0))
    assert got == [3, 4, 6, 7, 9, 10]
    assert (metrics.reconnects, metrics.stale, metrics.gaps, metrics.missing) == (2, 1, 2, 2)
    assert status.state == "live"


# ---- ccxt


class Exchange:
    """Of the shape of a ccxt.pro exchange: `watch_ticker` waits for the next, `close` ends its connections."""

    made = 0
    closed = 0

    def __init__(self) -> None:
        type(self).made += 1
        self._life = type(self).made
        self._number = 0

    async def watch_ticker(self, symbol: str) -> dict[str, Any]:
        await asyncio.sleep(0.001)
        self._number += 1
        if self._life == 1 and self._number == 3:
            raise ConnectionResetError("the exchange has closed the connection")
        if self._life == 2 and self._number == 3:
            await asyncio.sleep(60)  # it hangs, as a subscription does that was forgotten
        return {"symbol": symbol, "last": 100.0 * self._life + self._number}

    async def close(self) -> None:
        type(self).closed += 1


def test_a_watch_loop_of_ccxts_shape(market: Integration) -> None:
    """The recipe of docs/streams.md."""
    Exchange.made = Exchange.closed = 0

    async def tickers() -> Any:
        exchange = Exchange()
        try:
            while True:
                yield await exchange.watch_ticker("BTC/USDT")
        finally:
            await exchange.close()

    async def main() -> tuple[list[float], Any]:
        got = []
        async with market.stream(tickers, stale_after=0.1, key="symbol") as feed:
            async for ticker in feed:
                got.append(ticker["last"])
                if len(got) == 6:
                    break
            return got, (feed.metrics().reconnects, feed.metrics().stale, feed.last("BTC/USDT").value["last"])  # type: ignore[union-attr]

    got, seen = asyncio.run(asyncio.wait_for(main(), 10.0))
    assert got == [101.0, 102.0, 201.0, 202.0, 301.0, 302.0]
    assert seen == (2, 1, 302.0)
    assert Exchange.made == Exchange.closed == 3


def test_the_error_of_a_nats_connection_is_not_its_own_cause(market: Integration) -> None:
    """Whoever follows causes to their end would never come there."""
    pytest.importorskip("nats")
    from failsoft.adapters.nats import stream

    async def main() -> BaseException:
        with pytest.raises(OSError) as caught:
            async with stream(market, "nats://127.0.0.1:1", "quotes", stale_after=5.0, max_reconnects=0) as feed:
                await anext(aiter(feed))
        return caught.value

    error = asyncio.run(asyncio.wait_for(main(), 10.0))
    assert error.__cause__ is not error
