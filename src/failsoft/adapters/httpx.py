"""A transport for httpx and httpx2, which also carries the openai and anthropic SDKs.

    from failsoft.adapters.httpx import FailsoftTransport

    client = httpx.Client(transport=FailsoftTransport(api))

One transport serves both libraries: which one, the request tells. The inner transport is that library's own unless
`inner` is given; what a client is told of certificates, proxies, HTTP/2 and limits belongs there, since a client with a
transport does not look at it any more (nor at the proxies of the environment).
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, MutableMapping
from types import coroutine

from ..deadlines import deadline
from ..forks import new_lock
from ..integrations import Integration
from ..wire import HEADER, inject_deadline
from .exchange import SWITCHED, Exchange, late_error
from .hosts import IDEMPOTENT, Hosts, host_of

__all__ = ["IDEMPOTENT", "AsyncFailsoftTransport", "FailsoftTransport", "async_client", "client"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType, TracebackType
    from typing import Any, Self

    from ..course import AnyGuard
    from .hosts import Chooser

    _Transport: Any
else:
    _Transport = object  # a base of both libraries' would import both

_FEED = b"text/event-stream"
_KIND_LENGTH = len(b"content-type")


class _Library:
    """What is made once for each of the two libraries."""

    def __init__(self, module: ModuleType | Any) -> None:
        self.module = module
        self.fixed: type = module.ByteStream
        late = late_error(module.ReadTimeout)

        class One(_Exchange):
            __slots__ = ()
            late_error = late

        class Body(_Body, module.SyncByteStream):  # type: ignore[misc, name-defined]
            pass

        class AsyncBody(_AsyncBody, module.AsyncByteStream):  # type: ignore[misc, name-defined]
            pass

        self.exchange = One
        self.body = Body
        self.async_body = AsyncBody


_libraries: dict[type, _Library] = {}  # by the class of a request
_making = new_lock()


def _library_of(cls: type) -> _Library:
    """The library that a class of requests comes from, or is derived from."""
    with _making:
        for base in cls.__mro__:
            module = sys.modules.get(base.__module__.partition(".")[0])
            if base.__name__ == "Request" and hasattr(module, "SyncByteStream"):
                known = next((one for one in _libraries.values() if one.module is module), None)
                _libraries[cls] = known or _Library(module)
                return _libraries[cls]
    raise TypeError(f"the transport takes requests of httpx or httpx2, got one of {cls.__module__}.{cls.__qualname__}")


class _Exchange(Exchange):
    __slots__ = ("_given", "_inner", "_request", "_timeouts", "_transport")

    def __init__(self, guard: AnyGuard, transport: _Settings, inner: Any, request: Any) -> None:
        super().__init__(guard)
        self._transport = transport
        self._inner = inner
        self._request = request
        self._given = request.extensions
        self._timeouts: dict[str, float] = {}

    def _send(self, seconds: float) -> tuple[Any, int]:
        try:
            response = self._inner.handle_request(self._limited(seconds))
        finally:
            self._request.extensions = self._given
        return response, response.status_code

    def _sending(self, seconds: float) -> Any:
        return self._inner.handle_async_request(self._limited(seconds))

    def _sent(self, response: Any) -> int:
        self._request.extensions = self._given
        return 0 if response is None else response.status_code

    def _limited(self, seconds: float) -> Any:
        """The request, with the time limits that hold until its head has come: it keeps its own."""
        request = self._request
        request.extensions = self._extensions(self._given, seconds)
        return request

    def _extensions(self, given: MutableMapping[str, Any], seconds: float) -> dict[str, Any]:
        """The request's own, with time limits that are the least of its, the integration's, and what is left."""
        ours = self._guard._recovery.integration.config.timeouts
        connect, read, write, pool = ours.connect, ours.read, ours.write, seconds
        if asked := given.get("timeout"):
            connect = _least(asked.get("connect"), connect)
            read = _least(asked.get("read"), read)
            write = _least(asked.get("write"), write)
            pool = _least(asked.get("pool"), pool)
        timeouts = self._timeouts = {
            "connect": connect if connect < seconds else seconds,
            "read": read if read < seconds else seconds,
            "write": write if write < seconds else seconds,
            "pool": pool,
        }
        header = self._transport.deadline_header
        if header is not None:
            with deadline(seconds):
                inject_deadline(self._request.headers, header=header)
        return {**given, "timeout": timeouts}

    def reads(self) -> None:
        """The body begins."""
        timeouts, left = self._timeouts, self.left()
        if timeouts and left < timeouts["read"]:  # the inner transport looks at it when the body is first asked for
            timeouts["read"] = left

    def _drop(self, response: Any) -> None:
        response.close()

    async def _drop_async(self, response: Any) -> None:
        await response.aclose()

    def _is_local(self, error: Exception) -> bool:
        return type(error).__name__ == "PoolTimeout"


def _least(asked: float | None, limit: float) -> float:
    return limit if asked is None or asked > limit else asked


class _Body:
    """The body of a response, whose end is the end of the exchange."""

    def __init__(self, stream: Any, exchange: _Exchange) -> None:
        self._stream = stream
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        exchange = self._exchange
        try:
            exchange.reads()
            for chunk in self._stream:
                exchange.in_time()
                exchange.came = True
                yield chunk
        except GeneratorExit:
            raise  # the reader has left; close() comes
        except BaseException as error:
            exchange.ended(error)
            raise
        exchange.ended()

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._exchange.leave()


class _AsyncBody:
    """The same, awaited: a read that takes too long is cancelled."""

    def __init__(self, stream: Any, exchange: _Exchange) -> None:
        self._stream = stream
        self._exchange = exchange
        self._pieces: Any = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._exchange.reads()
        self._pieces = self._stream.__aiter__()
        return _Pieces(self._pieces, self._exchange)

    async def aclose(self) -> None:
        pieces, self._pieces = self._pieces, None
        try:
            try:
                if hasattr(pieces, "aclose"):  # a generator must not be left to the garbage collector: trio minds
                    await pieces.aclose()
            finally:  # else the connection would never come back to its pool
                await self._stream.aclose()
        finally:
            self._exchange.leave()


class _Pieces:
    """The pieces of a body, as they come."""

    __slots__ = ("_exchange", "_next")

    def __init__(self, pieces: Any, exchange: _Exchange) -> None:
        self._next = pieces.__anext__
        self._exchange = exchange

    def __aiter__(self) -> Self:
        return self

    @coroutine
    def __anext__(self) -> Generator[Any, Any, bytes]:
        exchange = self._exchange
        try:
            steps = self._next().__await__()
            try:
                step = steps.send(None)
            except StopIteration as done:  # it was there
                piece: bytes = done.value
            else:
                piece = yield from exchange.waiting(steps, step)
            exchange.in_time()
        except StopAsyncIteration:
            exchange.ended()
            raise
        except GeneratorExit:
            raise  # the reader has left; aclose() comes
        except BaseException as error:
            exchange.ended(error, patient=True)
            raise
        exchange.came = True
        return piece


class _Settings(_Transport):  # type: ignore[misc]  # checkers take it for a transport of either library
    """What both transports are told."""

    def __init__(
        self,
        integration: Chooser,
        inner: Any = None,
        *,
        per_host: bool = False,
        max_hosts: int = 256,
        operation: str | None = None,
        retry: bool = True,
        retry_methods: Iterable[str] = IDEMPOTENT,
        send_deadline: bool | str = False,
    ) -> None:
        self._hosts = Hosts(
            integration,
            per_host=per_host,
            max_hosts=max_hosts,
            operation=operation,
            retry=retry,
            retry_methods=retry_methods,
        )
        self._inner = inner
        self.deadline_header = (HEADER if send_deadline is True else send_deadline) or None

    def _exchange(self, request: Any, kind: str) -> tuple[_Library, _Exchange | None]:
        """None: the guard is a pass-through."""
        library = _libraries.get(type(request)) or _library_of(type(request))
        if self._inner is None:
            with _making:
                self._inner = self._inner or getattr(library.module, kind)()
        hosts, url, method = self._hosts, request.url, request.method
        host = host_of(url.scheme, url.host, url.port) if hosts.by_host else ""
        again = method in hosts.retry_methods or "idempotency-key" in request.headers
        guard = hosts.guard(host, method, again and isinstance(request.stream, library.fixed))
        return library, None if guard._disabled else library.exchange(guard, self, self._inner, request)


def _has_body(response: Any, exchange: _Exchange) -> bool:
    """Whether there is a body to come. One that the inner transport made out of its memory has been read, and after
    101 the connection is another protocol's."""
    if response.is_stream_consumed or response.status_code == SWITCHED:
        exchange.ended()
        return False
    for name, value in response.headers.raw:
        if len(name) == _KIND_LENGTH and name.lower() == b"content-type" and value.strip().lower().startswith(_FEED):
            exchange.feeds()
    return True


class FailsoftTransport(_Settings):
    """A transport that sends each request through an integration. For `httpx.Client` and `httpx2.Client`.

    A request has succeeded when its body has ended. 5xx, 408 and 429 are failures, and yet are returned, not raised,
    as any client does; other 4xx are answers. A body that breaks on the way is a failure, but not sent for again, since
    its beginning has been handed on; one closed early, or never read, counts as ignored.

    - `integration`: one for all requests, or a function of the host that gives one. `per_host=True`: a shard of the one
      for each host, at most `max_hosts`, those not used lately forgotten first.
    - `inner`: what sends; the library's own transport with its defaults if not given.
    - `operation`: the name requests are recorded under, their method by default.
    - `retry=False`: no retries. `retry_methods`: methods that may be sent twice, the idempotent ones by default; an
      Idempotency-Key says so of any. Of others, and where the body can be read only once (a generator, a file), only
      what provably was never sent is sent again.
    - `send_deadline=True`: tell the server in `x-envoy-expected-rq-timeout-ms` how long we will wait, or in the header
      named.

    The least of the client's own time limits, the integration's `timeouts` and what is left of the attempt and of any
    deadline around it holds. Sync code cannot be interrupted: the clock is looked at between the pieces of a body, and
    a server that drips its head is bounded by nothing. Bodies of `text/event-stream` are feeds: not bounded by the
    integration's own limits but for `timeouts.read`, timed to their head, and a success when their reader leaves.
    """

    def handle_request(self, request: Any) -> Any:
        library, exchange = self._exchange(request, "HTTPTransport")
        if exchange is None:
            return self._inner.handle_request(request)
        response = exchange.run()
        if _has_body(response, exchange):
            response.stream = library.body(response.stream, exchange)
        return response

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    def __enter__(self) -> Self:
        if self._inner is not None:
            self._inner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._inner is not None:
            self._inner.__exit__(kind, error, traceback)


class AsyncFailsoftTransport(_Settings):
    """The same for `httpx.AsyncClient` and `httpx2.AsyncClient`: what takes too long is cancelled, head or body.

    Where no asyncio task runs (trio), nothing can be cancelled, and the limits are those of sync code.
    """

    async def handle_async_request(self, request: Any) -> Any:
        library, exchange = self._exchange(request, "AsyncHTTPTransport")
        if exchange is None:
            return await self._inner.handle_async_request(request)
        response = await exchange.run_async()
        if _has_body(response, exchange):
            response.stream = library.async_body(response.stream, exchange)
        return response

    async def aclose(self) -> None:
        if self._inner is not None:
            await self._inner.aclose()

    async def __aenter__(self) -> Self:
        if self._inner is not None:
            await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._inner is not None:
            await self._inner.__aexit__(kind, error, traceback)


_INNER = ("verify", "cert", "trust_env", "http1", "http2", "limits", "proxy", "uds", "local_address", "socket_options")
_OUTER = ("per_host", "max_hosts", "operation", "retry", "retry_methods", "send_deadline")


def client(integration: Chooser, library: ModuleType | None = None, **options: Any) -> Any:
    """A `Client` of `library` (httpx, or else httpx2) whose requests go through an integration.

    `options` are those of the client and of `FailsoftTransport`. Its time limits are the integration's if not given.
    Proxies of the environment are not looked for; give `proxy`.
    """
    return _client(library, "Client", "HTTPTransport", FailsoftTransport, integration, options)


def async_client(integration: Chooser, library: ModuleType | None = None, **options: Any) -> Any:
    """The same, an `AsyncClient`."""
    return _client(library, "AsyncClient", "AsyncHTTPTransport", AsyncFailsoftTransport, integration, options)


def _client(
    library: Any, client: str, inner: str, transport: type[_Settings], integration: Chooser, options: dict[str, Any]
) -> Any:
    library = library or _installed()
    below = {name: options.pop(name) for name in _INNER if name in options}
    ours = {name: options.pop(name) for name in _OUTER if name in options}
    if isinstance(integration, Integration):
        limits = integration.config.timeouts
        own = library.Timeout(limits.overall, connect=limits.connect, read=limits.read, write=limits.write)
        options.setdefault("timeout", own)
    sends = getattr(library, inner)(**below)
    return getattr(library, client)(transport=transport(integration, sends, **ours), **options)


def _installed() -> ModuleType:
    from importlib import import_module

    for name in ("httpx", "httpx2"):
        try:
            return import_module(name)
        except ModuleNotFoundError:
            continue
    raise ImportError("neither httpx nor httpx2 is installed: pip install 'failsoft[http]'")
