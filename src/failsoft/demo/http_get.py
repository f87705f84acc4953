"""One HTTP GET over asyncio streams: all the demo's quotes need, and no dependency."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from failsoft.demo.process import Address


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes


async def http_get(address: Address, path: str) -> Reply:
    """Fetch `path` on a connection of its own.

    Raises `OSError` when the network fails and `ConnectionError` when what came back is not HTTP.
    """
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {address.host}\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status_line, *header_lines = head.decode("latin-1").split("\r\n")
    protocol, _, status = status_line.partition(" ")
    if not protocol.startswith("HTTP/1."):
        raise ConnectionError(f"{address.host}:{address.port} did not answer in HTTP")
    headers = {}
    for line in header_lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Reply(int(status[:3]), headers, body)
