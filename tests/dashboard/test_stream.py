"""The stream, over real sockets: history first, frames after it, and nobody can hold up the others."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from collections import deque
from typing import Any

import pytest

pytest.importorskip("uvicorn")

import failsoft
from failsoft.dashboard import hub as hubs
from failsoft.dashboard.hub import Client, Hub
from failsoft.dashboard.names import identity
from failsoft.dashboard.sampler import Sampler

from .conftest import trip
from .serving import served


class Listener:
    """Reads server-sent events as a browser does."""

    def __init__(self, port: int, watch: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        self._connection.request("GET", f"/events?watch={watch}")
        self.answer = self._connection.getresponse()

    def next(self) -> tuple[str, dict[str, Any]]:
        kind = ""
        while True:
            line = self.answer.readline().decode().rstrip("\n")
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                return kind, json.loads(line.removeprefix("data: "))
            elif not line and self.answer.isclosed():
                raise EOFError("the stream has ended")

    def close(self) -> None:
        self._connection.close()


def wait(holds: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_history_comes_first_then_frames_and_a_trip_shows_at_once(
    registry: failsoft.Registry, payments: failsoft.Integration
) -> None:
    with served(registry) as (port, hub):
        listener = Listener(port, identity("payments"))
        assert listener.answer.headers["content-type"] == "text/event-stream"
        kind, history = listener.next()
        assert (kind, history["controls"], history["source"]) == ("history", False, "this process")
        assert history["detail"]["id"] == identity("payments")
        kind, frame = listener.next()
        assert (kind, frame["cards"][0]["state"]) == ("frame", "CLOSED")
        trip(payments)
        began = time.monotonic()
        while frame["cards"][0]["state"] == "CLOSED":
            kind, frame = listener.next()
        assert time.monotonic() - began < 2.0
        assert frame["detail"]["why"][0].startswith("payments is OPEN")
        listener.close()
        wait(lambda: hub.visitors == 0)


def test_the_server_ends_with_streams_open(registry: failsoft.Registry) -> None:
    with served(registry) as (port, _hub):
        listener = Listener(port)
        listener.next()
        began = time.monotonic()
    assert time.monotonic() - began < 1.5
    listener.close()


def test_who_does_not_read_is_sent_away_and_the_others_hear_on(
    registry: failsoft.Registry, payments: failsoft.Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    much = "m" * 12
    weight = {much: "x" * 1_000_000}
    monkeypatch.setattr(Hub, "frame", lambda self, watch: {"weight": weight.get(watch, "")})
    monkeypatch.setattr(Sampler, "pause", 0.02)
    with served(registry) as (port, hub), socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", port))
        stuck.sendall(f"GET /events?watch={much} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait(lambda: hub.visitors == 1)
        reader = Listener(port)
        assert reader.next()[0] == "history"
        deadline = time.monotonic() + 10
        while hub.dropped == 0:
            assert reader.next()[0] == "frame"
            assert time.monotonic() < deadline
        assert reader.next()[0] == "frame"
        assert hub.visitors == 1
        reader.close()


def test_a_full_queue_is_bounded() -> None:
    async def offer() -> Client:
        client = Client(None)
        for _ in range(1000):
            client.offer(b"frame")
        return client

    client = asyncio.run(offer())
    assert client.over.is_set()
    assert client.frames.qsize() == hubs.QUEUE_MOST


def test_streams_are_limited(registry: failsoft.Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "CLIENTS_MOST", 1)
    with served(registry) as (port, _hub):
        first, second = Listener(port), Listener(port)
        assert (first.answer.status, second.answer.status) == (200, 503)
        first.close()
        second.close()


def test_visitors_share_one_sampler(registry: failsoft.Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, encoded = [0], [0]
    look, event = Sampler.look, hubs.event

    def counted(sampler: Sampler) -> None:
        looks[0] += 1
        look(sampler)

    def counting(kind: str, told: dict[str, Any]) -> bytes:
        encoded[0] += 1
        return event(kind, told)

    monkeypatch.setattr(Sampler, "look", counted)
    with served(registry) as (port, _hub):
        listeners = [Listener(port) for _ in range(10)]
        for listener in listeners:
            listener.next()
            listener.next()
        monkeypatch.setattr(hubs, "event", counting)
        for listener in listeners:
            listener.next()
        before, encoded[0] = looks[0], 0
        for _ in range(3):
            for listener in listeners:
                assert listener.next()[0] == "frame"
        assert looks[0] - before <= 15  # thirty frames were heard
        assert encoded[0] <= looks[0] - before + 1
        for listener in listeners:
            listener.close()


def test_mounted_it_sleeps_until_somebody_comes_and_after_they_have_gone(
    registry: failsoft.Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hubs, "LINGER", 0.05)

    async def live() -> None:
        hub = Hub(Sampler(registry, 0.1), audit=deque(), about={})
        assert hub._task is None
        client = await hub.join(None)
        task = hub._task
        assert task is not None
        hub.leave(client)
        await asyncio.wait_for(task, 2)

    asyncio.run(live())
