"""The market-data server of the demo: `python -m failsoft.demo.server`, a process of its own.

One port on 127.0.0.1 serves the WebSocket feed (`/feed`) and single quotes over HTTP (`/quote/<symbol>`).
The parent switches faults by lines on stdin, each answered by a line on stdout. The server ends when stdin
closes, which the kernel does for a parent that dies in any way, and at the latest after `--lifetime` seconds.
On Linux it ends with its parent even while SIGSTOP keeps it from seeing any of that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import json
import logging
import signal
import socket
import struct
import sys
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.http11 import Request, Response

from failsoft.demo.market import FRAME_INTERVAL, Market

HEALTHY = "healthy"
SLOW = "slow"
UNAVAILABLE = "unavailable"
MALFORMED = "malformed"
RESET = "reset"

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LONGEST_LAG = 0.5
"""Seconds of backlog that are still caught up; a longer pause (SIGSTOP) halts the market and leaves none."""


class Server:
    """The feed, the quotes, and the fault that is switched on at the moment."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._listeners: set[ServerConnection] = set()
        self._fault = HEALTHY
        self._argument = 0.0

    def switch(self, fault: str, argument: float) -> None:
        self._fault = fault
        self._argument = argument
        if fault == RESET:
            for connection in self._listeners:
                _reset(connection)

    async def listen(self, connection: ServerConnection) -> None:
        """Keep one subscriber of the feed until it goes."""
        self._listeners.add(connection)
        try:
            await connection.wait_closed()
        finally:
            self._listeners.discard(connection)

    async def publish(self) -> None:
        """Send frames at a steady rate, for ever, to whoever listens."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            frame = self._market.next_frame()
            if self._fault == MALFORMED:
                # A cut copy ahead of the frame, so that bad data never costs the listener a tick.
                broadcast(self._listeners, frame[: len(frame) // 2])
            broadcast(self._listeners, frame)
            due += FRAME_INTERVAL
            if clock() - due > _LONGEST_LAG:
                due = clock()
            await asyncio.sleep(max(0.0, due - clock()))

    async def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a quote, or return None to let a subscriber of the feed in."""
        if self._fault == RESET:
            _reset(connection)
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "")
        if request.path == "/feed":
            return None
        if self._fault == UNAVAILABLE:
            refusal = connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "down for maintenance\n")
            refusal.headers["Retry-After"] = f"{self._argument:.0f}"
            return refusal
        if self._fault == SLOW:
            await asyncio.sleep(self._argument)
        symbol = request.path.removeprefix("/quote/")
        price = self._market.prices.get(symbol)
        if price is None:
            return connection.respond(HTTPStatus.NOT_FOUND, f"no symbol {symbol}\n")
        return connection.respond(HTTPStatus.OK, json.dumps({"symbol": symbol, "price": price}))


def _reset(connection: ServerConnection) -> None:
    """Drop a connection with RST, as a crashing peer or a firewall does, instead of the polite FIN."""
    handle = connection.transport.get_extra_info("socket")
    if handle is not None:
        with contextlib.suppress(OSError):
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.transport.abort()


async def _obey(server: Server) -> None:
    """Follow the lines on stdin until it closes."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        fault, _, argument = line.decode().strip().partition(" ")
        server.switch(fault, float(argument or 0))
        print(fault, flush=True)


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def run(seed: int, session: int) -> None:
    """Serve until stdin closes; the first line on stdout is the port."""
    server = Server(Market(seed, session))
    # Faults end handshakes in every ugly way; the server must not narrate its own sabotage.
    logger = logging.getLogger("failsoft.demo.server")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    async with serve(
        server.listen, "127.0.0.1", 0, process_request=server.answer, compression=None, logger=logger
    ) as listener:
        publishing = asyncio.create_task(server.publish())
        print(listener.sockets[0].getsockname()[1], flush=True)
        obeying = asyncio.create_task(_obey(server))
        done, _ = await asyncio.wait({publishing, obeying}, return_when=asyncio.FIRST_COMPLETED)
        publishing.cancel()
        for task in done:
            task.result()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seed", type=int, required=True)
    arguments.add_argument("--session", type=int, required=True)
    arguments.add_argument("--lifetime", type=int, required=True, help="seconds until the kernel ends it")
    options = arguments.parse_args()
    signal.alarm(options.lifetime)
    _end_with_parent()
    asyncio.run(run(options.seed, options.session))


if __name__ == "__main__":
    main()
