"""An HTTP server that misbehaves as it is asked to, by the first part of the path: a process of its own.

    origin_server.py PORT TLS_PORT FOLDER

FOLDER holds `server.pem`, key and certificate for TLS. Runs until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import sys
from collections import Counter
from pathlib import Path

seen: Counter[str] = Counter()
CHAT = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
}  # fmt: skip
MESSAGE = {
    "id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "stop_sequence": None,
    "content": [{"type": "text", "text": "hello"}], "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip
PIECE = {
    "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
    "choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": None}],
}  # fmt: skip
DRIP = 0.02


def head(status: int, length: int | None, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *more]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def reply(status: int, body: object, *more: str) -> bytes:
    text = json.dumps(body).encode()
    return head(status, len(text), "Content-Type: application/json", *more) + text


def good(path: str) -> object:
    return CHAT if path.endswith("/completions") else MESSAGE if path.endswith("/messages") else {"ok": True}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while await answer(reader, writer):
            pass
    writer.close()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request. Whether there may be another."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    what, *rest = path.strip("/").split("/")
    seen[path] += 1
    if what == "ok":
        writer.write(reply(200, good(path)))
    elif what == "echo":
        writer.write(reply(200, {"method": method, "headers": headers, "body": body.decode()}))
    elif what == "seen":
        writer.write(reply(200, seen["/" + "/".join(rest)]))
    elif what == "redirect":
        writer.write(head(302, 0, "Location: /ok"))
    elif what == "flaky":  # /flaky/503/2/name: so often, then well
        good_now = seen[path] > int(rest[1])
        writer.write(reply(200, good(path)) if good_now else reply(int(rest[0]), {}, "Retry-After: 0.01"))
    elif what == "breaks":  # /breaks/1/name: mid-body so often, then well
        if seen[path] <= int(rest[0]):
            writer.write(head(200, 100) + b"0123456789")
            return False
        writer.write(reply(200, good(path)))
    elif what == "hang":
        await asyncio.sleep(60)
    elif what == "reset":
        writer.write(head(200, 100) + b"0123456789")
        await asyncio.sleep(0.05)  # so that the reset comes after what was sent
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    elif what == "truncated":
        writer.write(head(200, 100) + b"0123456789")
        return False
    elif what == "drip":
        writer.write(head(200, 400))
        for _ in range(400):
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(DRIP)
    elif what == "feed":  # events for as long as the path says, in seconds
        writer.write(head(200, None, "Content-Type: text/event-stream", "Connection: close"))
        for _ in range(int(float(rest[0]) / DRIP)):
            writer.write(f"data: {json.dumps(PIECE)}\n\n".encode())
            await writer.drain()
            await asyncio.sleep(DRIP)
        writer.write(b"data: [DONE]\n\n")
        return False
    elif what == "malformed":
        writer.write(b"no protocol that anybody speaks\r\n\r\n")
        return False
    elif what == "429":
        writer.write(reply(429, {"error": {"message": "slow down"}}, "Retry-After: 7"))
    else:
        writer.write(reply(int(what), {"error": {"message": "no"}}))
    await writer.drain()
    return True


async def main(port: int, tls_port: int, folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    await asyncio.start_server(serve, "127.0.0.1", port)
    await asyncio.start_server(serve, "127.0.0.1", tls_port, ssl=context)
    await asyncio.Event().wait()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
