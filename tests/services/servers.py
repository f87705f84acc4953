"""The servers of this room: those of failsoft.testing, and a websockets server of our own."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path

from failsoft.testing.ports import HOST, Unavailable
from failsoft.testing.servers import LIMIT, Nats, Postgres, Redis, Server, ServerFailed, Valkey

__all__ = ["HOST", "LIMIT", "Feed", "Nats", "Postgres", "Redis", "Server", "ServerFailed", "Unavailable", "Valkey"]


class Feed(Server):
    """A websockets server in a process of its own, which counts: see feed_server.py."""

    def _prepare(self) -> None:
        self._script = Path(__file__).with_name("feed_server.py")

    def _command(self) -> list[str]:
        return [sys.executable, str(self._script), str(self.port), str(self.home)]

    @property
    def url(self) -> str:
        return f"ws://{HOST}:{self.port}"

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=1.0) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return connection.recv(4096).startswith(b"HTTP/1.1 ")
        return False
