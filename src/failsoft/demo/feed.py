"""The guarded consumer of the live feed. It reconnects by itself, and the breaker says when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from failsoft import Backoff, CircuitOpenError, Integration
from failsoft.demo.book import TickBook, tick_handler
from failsoft.demo.market import decode
from failsoft.demo.process import Address

_SHORTEST_WAIT = 0.01
"""Seconds; a refusal that names no time (all probes are out) must not become a busy loop."""


class Feed:
    """Four guarded calls on one integration: connect, wait for a frame, decode it, handle each tick.

    A silent connection is a row of timeouts, a dead server a row of refused connects; both open the same
    breaker. A bad frame is one failure among thousands of good ticks, and does not.
    """

    def __init__(self, market: Integration, locate: Callable[[], Address], book: TickBook, seed: int) -> None:
        self._locate = locate
        self._book = book
        self._backoff = Backoff(initial=0.02, maximum=0.2, seed=seed)
        self.connect = market.guard(self._connect, operation="connect")
        self.next_frame = market.guard(_next_frame, operation="next_frame", retry=False)
        self.decode = market.guard(decode, operation="decode", retry=False)
        self.on_tick = market.guard(tick_handler(book))
        self.guards = (self.connect, self.next_frame, self.decode, self.on_tick)
        self.bad_frames = 0
        self.flowing_seconds = 0.0
        """From each connect to the last frame that it brought."""

    async def run(self) -> None:
        """Consume the feed until cancelled."""
        failures = 0
        while True:
            try:
                connection = await self.connect()
            except CircuitOpenError as refusal:
                await asyncio.sleep(max(_SHORTEST_WAIT, refusal.retry_after or 0.0))
            except (OSError, TimeoutError):
                await asyncio.sleep(self._backoff.delay(failures))
                failures += 1
            else:
                failures = 0
                await self._consume(connection)

    async def _connect(self) -> ClientConnection:
        address = self._locate()
        try:
            return await connect(
                f"ws://{address.host}:{address.port}/feed", compression=None, proxy=None, ping_interval=None
            )
        except InvalidHandshake as error:
            raise ConnectionError("the feed did not complete the handshake") from error

    async def _consume(self, connection: ClientConnection) -> None:
        """Handle frames until the connection is lost, or the breaker opened on its silence."""
        self._book.reconnected()
        since = latest = time.monotonic()
        try:
            while True:
                try:
                    text = await self.next_frame(connection)
                except TimeoutError:
                    continue  # one silence is not an outage; the breaker counts them
                except (ConnectionError, CircuitOpenError):
                    return
                latest = time.monotonic()
                self._handle(text)
        finally:
            self.flowing_seconds += latest - since
            connection.transport.abort()

    def _handle(self, text: str | bytes) -> None:
        try:
            session, first, ticks = self.decode(text)
        except ValueError:
            self.bad_frames += 1
            return
        self._book.frame(session, first, len(ticks))
        on_tick = self.on_tick
        for sequence, (symbol, price) in enumerate(ticks, first):
            on_tick(symbol, price, sequence)


async def _next_frame(connection: ClientConnection) -> str | bytes:
    try:
        return await connection.recv()
    except ConnectionClosed as error:
        raise ConnectionResetError("the feed was disconnected") from error
