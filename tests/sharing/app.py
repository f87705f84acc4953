"""A small service for servers that run it in several processes: /fail trips its breaker, /call says what a call came to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from tests.sharing.worker import fail, guard, refused

call = guard("backend", threshold=3)


def answer(path: str) -> bytes:
    if path == "/fail":
        fail(call, 3)
        return f"{os.getpid()} tripped".encode()
    return f"{os.getpid()} {'refused' if path == '/call' and refused(call) else 'fine'}".encode()


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer(environ["PATH_INFO"])]


async def asgi(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer(scope["path"])})
