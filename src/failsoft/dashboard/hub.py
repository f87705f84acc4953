"""Frames for everybody who looks: one sampler, one encoding a frame, and a short queue for each visitor.

A visitor who does not take frames as they come is sent away when the queue is full; a browser comes back by itself and
gets the history anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

from ..logs import complain
from .sampler import Sampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import deque
    from typing import Any

    from starlette.types import Receive, Scope, Send

QUEUE_MOST = 8
"""Frames that wait for one visitor."""

CLIENTS_MOST = 64
"""Streams at a time."""

LINGER = 900.0
"""Seconds that the sampler goes on after the last visitor has gone, so that who comes back sees what happened."""


class Full(RuntimeError):
    """There are CLIENTS_MOST streams already."""


class Client:
    """One open stream: the integration it watches, and the frames that wait."""

    def __init__(self, watch: str | None) -> None:
        self.watch = watch
        self.frames: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_MOST)
        self.over = asyncio.Event()

    def offer(self, frame: bytes) -> None:
        """Hand over a frame; a client that has not taken the last ones is over."""
        try:
            self.frames.put_nowait(frame)
        except asyncio.QueueFull:
            self.over.set()


class Hub:
    """The sampler's task, and who hears from it."""

    def __init__(self, sampler: Sampler, audit: deque[dict[str, Any]], about: dict[str, Any]) -> None:
        self.sampler = sampler
        self.dropped = 0
        self.stays = False
        """Whether it runs with nobody looking, too: in a server of its own."""
        self._audit = audit
        self._about = about
        self._clients: set[Client] = set()
        self._coming = 0
        self._task: asyncio.Task[None] | None = None
        self._visited = 0.0

    def wake(self) -> None:
        """Somebody is here: let the sampler run, in this loop."""
        self._visited = time.monotonic()
        if self._task is None or self._task.done() or self._task.get_loop() is not asyncio.get_running_loop():
            self._task = asyncio.get_running_loop().create_task(self._run(), name="failsoft dashboard")

    async def join(self, watch: str | None) -> Client:
        """Begin a stream, with its history first."""
        if len(self._clients) + self._coming >= CLIENTS_MOST:
            raise Full(f"{CLIENTS_MOST} streams are open already")
        self.wake()
        client = Client(watch)
        self._coming += 1  # it hears no frame before its history
        try:
            await asyncio.to_thread(self.sampler.look_if_old)
            first = await asyncio.to_thread(lambda: (event("history", self._history(watch)), self._encoded(watch)))
        finally:
            self._coming -= 1
        for told in first:
            client.offer(told)
        self._clients.add(client)
        return client

    def leave(self, client: Client) -> None:
        """End a stream."""
        if client.over.is_set() and client in self._clients:
            self.dropped += 1
        self._clients.discard(client)
        self._visited = time.monotonic()

    def close(self) -> None:
        """End all streams, and the sampler."""
        clients, self._clients = self._clients, set()
        for client in clients:
            client.over.set()
        if self._task is not None and not self._task.get_loop().is_closed():
            self._task.cancel()
        self._task = None

    @property
    def visitors(self) -> int:
        """How many streams are open."""
        return len(self._clients)

    async def _run(self) -> None:
        while self.stays or self._clients or time.monotonic() - self._visited < LINGER:
            try:
                await self._tick()
            except Exception:
                complain("the dashboard could not tell what it saw")
            await asyncio.sleep(self.sampler.pause)

    async def _tick(self) -> None:
        await asyncio.to_thread(self.sampler.look)
        if self._clients:
            watched = {client.watch for client in self._clients}
            frames = await asyncio.to_thread(lambda: {w: self._encoded(w) for w in watched})
            for client in tuple(self._clients):
                if client.watch in frames:
                    client.offer(frames[client.watch])

    def _history(self, watch: str | None) -> dict[str, Any]:
        told = {**self.sampler.history(), **self._about}
        if watch is not None:
            told["detail"] = self.sampler.detail(watch, whole=True)
        return told

    def _encoded(self, watch: str | None) -> bytes:
        return event("frame", self.frame(watch))

    def frame(self, watch: str | None) -> dict[str, Any]:
        """What is told of now, with the detail of one integration."""
        told = {**self.sampler.frame(), "audit": list(self._audit)}
        if watch is not None:
            told["detail"] = self.sampler.detail(watch)
            told["watch"] = watch
        return told


def event(kind: str, told: dict[str, Any]) -> bytes:
    """A server-sent event. JSON holds no line break, so one `data:` line is enough."""
    return f"event: {kind}\ndata: {json.dumps(told, separators=(',', ':'))}\n\n".encode()


class Stream:
    """The answer to a visitor who listens. It ends when they go, or do not keep up, or the server ends."""

    def __init__(self, hub: Hub, client: Client, headers: list[tuple[bytes, bytes]]) -> None:
        self._hub = hub
        self._client = client
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = self._client
        ends = [
            asyncio.ensure_future(self._send(send)),
            asyncio.ensure_future(_gone(receive)),
            asyncio.ensure_future(client.over.wait()),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._hub.leave(client)
            for task in ends:
                task.cancel()
            results = await asyncio.gather(*ends, return_exceptions=True)
        failed = results[0]
        if isinstance(failed, Exception) and not isinstance(failed, OSError):
            raise failed
        if client.over.is_set() and client.frames.empty():  # nothing is stuck: it can be told
            with contextlib.suppress(OSError):
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
        while True:
            frame = await self._client.frames.get()
            await send({"type": "http.response.body", "body": frame, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
