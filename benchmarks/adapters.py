"""CPU time that each adapter adds to a request, beside what the client itself takes.

    python benchmarks/adapters.py

*Its own* is the CPU time of this process, kernel included, for a request over a kept connection to a server in another
process that answers at once. *Added* is what the adapter takes before something that answers without a network, less
that thing alone: beside the other figure it could not be told from the noise. Both are the least of many short rounds,
since others on the machine can only add. A loop keeps the adapter's code warm in the cache, which a program that makes
a request now and then does not. Report only: the goal is at most 15 microseconds added.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import adapters_data
from failsoft import Registry
from tests.adapters.behind import RpcBehind
from tests.adapters.origin import Origin
from tests.adapters.rows_rpc import METHOD, OPTIONS
from tests.services.servers import HOST

GOAL = 15.0
"""Microseconds."""

HEADERS = [(b"Content-Type", b"application/json"), (b"Content-Length", b"1"), (b"Date", b"today"), (b"Server", b"x")]


def least(run: Callable[[int], float], rounds: int, calls: int) -> float:
    """Microseconds a call: the least of rounds of so many calls."""
    return min(run(calls) / calls * 1e6 for _ in range(rounds))


def repeated(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Callable[[int], float]:
    def run(calls: int) -> float:
        began = clock()
        for _ in range(calls):
            call()
        return clock() - began

    return run


def awaited(
    loop: asyncio.AbstractEventLoop,
    call: Callable[[], Awaitable[object]],
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[[int], float]:
    async def main(calls: int) -> float:
        began = clock()
        for _ in range(calls):
            await call()
        return clock() - began

    return lambda calls: loop.run_until_complete(main(calls))


def peer() -> Any:
    return Registry().integration("peer", "external_api")


class Pieces:
    """A body of one piece."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"x"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x"

    def close(self) -> None: ...

    async def aclose(self) -> None: ...


class Inner:
    """Answers at once, as httpx's transports do."""

    def handle_request(self, _: object) -> Any:
        return SimpleNamespace(
            status_code=200, is_stream_consumed=False, headers=SimpleNamespace(raw=HEADERS), stream=Pieces()
        )

    async def handle_async_request(self, request: object) -> Any:
        return self.handle_request(request)


def httpx_added(name: str) -> float:
    from failsoft.adapters.httpx import FailsoftTransport

    library: Any = import_module(name)
    timeout = library.Timeout(5.0).as_dict()

    def through(transport: Any) -> Callable[[], None]:
        request = library.Request("GET", "http://peer/", extensions={"timeout": timeout})

        def get() -> None:
            response = transport.handle_request(request)
            for _ in response.stream:
                pass
            response.stream.close()

        return get

    bare, guarded = through(Inner()), through(FailsoftTransport(peer(), Inner()))
    return least(repeated(guarded), 600, 50) - least(repeated(bare), 600, 50)


def async_httpx_added(name: str, loop: asyncio.AbstractEventLoop) -> float:
    from failsoft.adapters.httpx import AsyncFailsoftTransport

    library: Any = import_module(name)
    timeout = library.Timeout(5.0).as_dict()

    class Waits(Inner):
        async def handle_async_request(self, request: object) -> Any:
            await asyncio.sleep(0)  # as anything that uses a network, or no deadline would be set
            return self.handle_request(request)

    def through(transport: Any) -> Callable[[], Awaitable[None]]:
        request = library.Request("GET", "http://peer/", extensions={"timeout": timeout})

        async def get() -> None:
            response = await transport.handle_async_request(request)
            async for _ in response.stream:
                pass
            await response.stream.aclose()

        return get

    bare, guarded = through(Waits()), through(AsyncFailsoftTransport(peer(), Waits()))
    return least(awaited(loop, guarded), 600, 50) - least(awaited(loop, bare), 600, 50)


def aiohttp_added(loop: asyncio.AbstractEventLoop) -> float:
    from failsoft.adapters.aiohttp import FailsoftMiddleware

    class Content:
        def on_eof(self, callback: Callable[[], None]) -> None:
            self.done = callback

        def is_eof(self) -> bool:
            return False

        async def read(self, n: int = -1) -> bytes:
            self.done()
            return b"x"

    async def handler(_: Any) -> Any:
        await asyncio.sleep(0)
        return SimpleNamespace(status=200, content_type="application/json", content=Content())

    request: Any = SimpleNamespace(method="GET", headers={}, body=b"", url=None)
    middleware = FailsoftMiddleware(peer())

    async def bare() -> None:
        response = await handler(request)
        response.content.on_eof(int)
        await response.content.read()

    async def guarded() -> None:
        await (await middleware(request, handler)).content.read()

    return least(awaited(loop, guarded), 600, 50) - least(awaited(loop, bare), 600, 50)


def requests_added() -> float:
    import io

    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPResponse

    from failsoft.adapters.requests import FailsoftAdapter

    prepared = requests.Request("GET", "http://peer/").prepare()

    def answer(adapter: Any) -> Any:
        return adapter.build_response(prepared, HTTPResponse(io.BytesIO(b"x"), {}, 200, preload_content=False))

    class Guarded(FailsoftAdapter):
        def send_bare(self, *_: Any) -> Any:
            return answer(self)

    plain, adapter = HTTPAdapter(), Guarded(peer())
    bare, guarded = repeated(lambda: answer(plain).content), repeated(lambda: adapter.send(prepared).content)
    return least(guarded, 400, 50) - least(bare, 400, 50)


class Rpc:
    """A call of gRPC's that has ended."""

    def done(self) -> bool:
        return True

    def result(self) -> bytes:
        return b"x"

    def __await__(self) -> Any:
        return asyncio.sleep(0).__await__()


def grpc_added() -> float:
    from failsoft.adapters.grpc import FailsoftInterceptor

    made, interceptor = Rpc(), FailsoftInterceptor(peer())
    asked = SimpleNamespace(method="/quotes.Feed/Get", timeout=None)

    def send(_details: Any, _request: Any) -> Rpc:
        return made

    bare = repeated(lambda: send(asked, b"").result())
    guarded = repeated(lambda: interceptor.intercept_unary_unary(send, asked, b"").result())
    return least(guarded, 600, 50) - least(bare, 600, 50)


def async_grpc_added(loop: asyncio.AbstractEventLoop) -> float:
    from failsoft.adapters.grpc import async_interceptors

    made, interceptor = Rpc(), async_interceptors(peer())[0]
    asked = SimpleNamespace(method=b"/quotes.Feed/Get", timeout=None)

    async def send(_details: Any, _request: Any) -> Rpc:
        return made

    async def bare() -> None:
        await (await send(asked, b""))

    async def guarded() -> None:
        await interceptor.intercept_unary_unary(send, asked, b"")

    return least(awaited(loop, guarded), 600, 50) - least(awaited(loop, bare), 600, 50)


def grpc_own(loop: asyncio.AbstractEventLoop) -> dict[str, float]:
    import grpc
    import grpc.aio

    async def open_channel() -> Any:
        return grpc.aio.insecure_channel(target, OPTIONS)

    with RpcBehind() as server, contextlib.ExitStack() as stack:
        target = f"{HOST}:{server.port}"
        channel = stack.enter_context(grpc.insecure_channel(target, OPTIONS))
        channel_async = loop.run_until_complete(open_channel())
        stack.callback(lambda: loop.run_until_complete(channel_async.close()))
        get, get_async = channel.unary_unary(METHOD), channel_async.unary_unary(METHOD)
        return {
            "grpc": least(repeated(lambda: get(b"BTC"), time.process_time), 60, 10),
            "grpc async": least(awaited(loop, lambda: get_async(b"BTC"), time.process_time), 60, 10),
        }


def own(url: str, loop: asyncio.AbstractEventLoop, stack: contextlib.ExitStack) -> dict[str, float]:
    """CPU microseconds of a request by each client alone."""
    import aiohttp
    import httpx
    import httpx2
    import requests

    async def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    async def get() -> None:
        async with kept.get(url) as response:
            await response.read()

    kept = loop.run_until_complete(session())
    stack.callback(lambda: loop.run_until_complete(kept.close()))
    runs: dict[str, Callable[[int], float]] = {}
    for library in (httpx, httpx2):
        client, client_async = library.Client(verify=False), library.AsyncClient(verify=False)
        runs[library.__name__] = repeated(lambda client=client: client.get(url), time.process_time)
        runs[f"{library.__name__} async"] = awaited(
            loop, lambda client=client_async: client.get(url), time.process_time
        )
    runs["aiohttp"] = awaited(loop, get, time.process_time)
    plain = requests.Session()
    runs["requests"] = repeated(lambda: plain.get(url), time.process_time)
    return {name: least(run, 60, 10) for name, run in runs.items()}


def main() -> None:
    loop = asyncio.new_event_loop()
    with Origin() as origin, contextlib.ExitStack() as stack:
        alone = own(f"{origin.url}/ok", loop, stack)
    added = {
        "httpx": httpx_added("httpx"),
        "httpx async": async_httpx_added("httpx", loop),
        "httpx2": httpx_added("httpx2"),
        "httpx2 async": async_httpx_added("httpx2", loop),
        "aiohttp": aiohttp_added(loop),
        "requests": requests_added(),
        "grpc": grpc_added(),
        "grpc async": async_grpc_added(loop),
    }
    alone.update(grpc_own(loop))
    tools = (least, repeated, awaited)
    alone.update(adapters_data.own(loop, *tools))
    added.update(adapters_data.added(loop, *tools))
    print("| adapter | the client's own, us of CPU | added, us |\n| --- | --- | --- |")
    for name, figure in added.items():
        print(f"| {name} | {alone[name]:.0f} | {figure:.1f}{'' if figure <= GOAL else ' **over the goal**'} |")


if __name__ == "__main__":
    main()
