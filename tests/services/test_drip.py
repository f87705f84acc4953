"""A server that drips: a byte every 50 ms for two seconds. Each single read is quick, so no read timeout ever fires.

An overall deadline ends the call in time where it can be cancelled. Sync code cannot be: then the call comes back late
and counts as timed out.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from failsoft import IntegrationTimeoutError, IntegrationType, Registry
from tests.conftest import Score

DEADLINE, DRIP, BYTES = 0.3, 0.05, 40
HEAD = f"HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\nConnection: close\r\n\r\n".encode()


def answer(connection: socket.socket) -> None:
    with connection:
        connection.recv(65536)
        try:
            connection.sendall(HEAD)
            for _ in range(BYTES):
                time.sleep(DRIP)
                connection.sendall(b".")
        except OSError:  # the client has gone, as it should
            pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def bounded(call: Callable[..., Any]) -> Any:
    peer = Registry().integration("peer", IntegrationType.EXTERNAL_API, timeouts={"overall": DEADLINE})
    return peer.guard(call, retry=False)


async def by_httpx(httpx: Any, url: str) -> int:
    async with httpx.AsyncClient(timeout=DEADLINE, verify=False) as client:  # certificates take long to load
        return len((await client.get(url)).content)


async def by_httpx2(httpx2: Any, url: str) -> int:
    async with httpx2.AsyncClient(timeout=DEADLINE, verify=False) as client:  # certificates take long to load
        return len((await client.get(url)).content)


async def by_aiohttp(aiohttp: Any, url: str) -> int:
    # Its own overall limit, which the others lack, is off: this one is ours.
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_read=DEADLINE)) as session:
        async with session.get(url) as response:
            return len(await response.read())


CLIENTS = {"httpx": by_httpx, "httpx2": by_httpx2, "aiohttp": by_aiohttp}


@pytest.mark.parametrize("name", CLIENTS)
def test_the_deadline_ends_it(url: str, name: str, score: Score) -> None:
    library = pytest.importorskip(name)  # before the clock runs: importing it takes its time
    get = CLIENTS[name]

    async def main() -> float:
        call = bounded(get)
        began = time.monotonic()
        with pytest.raises(IntegrationTimeoutError):
            await call(library, url)
        took = time.monotonic() - began
        assert call.metrics().timeouts == 1
        return took

    took = asyncio.run(main())
    score(f"a deadline of 0.3 s ends a dripping answer, {name}", "seconds until it ended", took)
    assert DEADLINE <= took < DEADLINE + 0.2


def test_a_sync_call_comes_back_late_and_counts(url: str) -> None:
    requests = pytest.importorskip("requests")
    call = bounded(lambda url: len(requests.get(url, timeout=DEADLINE).content))
    began = time.monotonic()
    assert call(url) == BYTES  # an answer is an answer
    assert time.monotonic() - began > DRIP * BYTES * 0.9
    numbers = call.metrics()
    assert (numbers.timeouts, numbers.error_count) == (1, 1)
