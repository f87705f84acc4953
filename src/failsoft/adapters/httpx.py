"""A transport for httpx and httpx2, which also carries the openai and anthropic SDKs.

    from failsoft.adapters.httpx import FailsoftTransport

    client = httpx.Client(transport=FailsoftTransport(api))

One transport serves both libraries: which one, the request tells. The inner transport is that library's own unless
`inner` is given; what a client is told of certificates, proxies, HTTP/2 and limits belongs there, since a client with a
transport does not look at it any more (nor at the proxies of the environment).
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from types import coroutine

from .._core import now_ns
from ..course import SECOND, SUCCEEDED
from ..deadlines import deadline
from ..forks import new_lock
from ..integrations import Integration
from ..wire import inject_deadline
from .exchange import SWITCHED, Exchange, late_error
from .hosts import IDEMPOTENT, OPTIONS, Hosts, host_of

__all__ = ["IDEMPOTENT", "AsyncFailsoftTransport", "FailsoftTransport", "async_client", "client"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType, TracebackType
    from typing import Any, ClassVar, Self

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

        class SyncExchange(_SyncExchange, module.SyncByteStream):  # type: ignore[misc, name-defined]
            late_error = late

        class AsyncExchange(_AsyncExchange, module.AsyncByteStream):  # type: ignore[misc, name-defined]
            late_error = late
            closed = _Closed(module.ReadError)

        self.exchanges = {"HTTPTransport": SyncExchange, "AsyncHTTPTransport": AsyncExchange}


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
    """A request, and then the body of its response, whose end is the end of the exchange."""

    __slots__ = ("_given", "_header", "_inner", "_pieces", "_request", "_stream", "_timeouts")

    def __init__(self, guard: AnyGuard, header: str | None, inner: Any, request: Any) -> None:
        super().__init__(guard)
        self._header = header
        self._inner = inner
        self._request = request
        self._given = request.extensions
        self._timeouts: dict[str, float] = {}
        self._stream: Any = None
        self._pieces: Any = _NONE

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
        """The request, until its head has come with time limits that are the least of its, the integration's, and what
        is left."""
        request, given = self._request, self._given
        ours = self._guard._recovery.integration.config.timeouts
        connect, read, write = ours.connect, ours.read, ours.write
        timeouts = self._timeouts = {
            "connect": connect if connect < seconds else seconds,
            "read": read if read < seconds else seconds,
            "write": write if write < seconds else seconds,
            "pool": seconds,
        }
        asked = given.get("timeout")
        if asked:
            for phase in timeouts:
                most = asked.get(phase)
                if most is not None and most < timeouts[phase]:
                    timeouts[phase] = most
        if self._header is not None:
            with deadline(seconds):
                inject_deadline(request.headers, header=self._header)
        request.extensions = {**given, "timeout": timeouts}
        return request

    def reads(self) -> None:
        """The body begins."""
        timeouts = self._timeouts
        if timeouts:
            left = (self.until - now_ns()) / SECOND
            if left < timeouts["read"]:  # the inner transport looks at it when the body is first asked for
                timeouts["read"] = max(left, 0.0)

    def _drop(self, response: Any) -> None:
        response.close()

    async def _drop_async(self, response: Any) -> None:
        await response.aclose()

    def _is_local(self, error: Exception) -> bool:
        return type(error).__name__ == "PoolTimeout"


class _SyncExchange(_Exchange):
    __slots__ = ()

    def __iter__(self) -> Iterator[bytes]:
        try:
            self.reads()
            for chunk in self._stream:
                self.in_time()
                self.came = True
                yield chunk
        except GeneratorExit:
            raise  # the reader has left; close() comes
        except BaseException as error:
            self.ended(error)
            raise
        self.ended()

    def close(self) -> None:
        try:
            self.leave()  # first: what another thread reads breaks off by our own doing, and says nothing of the server
        finally:
            self._stream.close()


class _AsyncExchange(_Exchange):
    """The same, awaited: a read that takes too long is cancelled."""

    __slots__ = ()

    closed: ClassVar[_Closed]

    def __aiter__(self) -> AsyncIterator[bytes]:
        self.reads()
        self._pieces = self._stream.__aiter__()
        return self

    @coroutine
    def __anext__(self) -> Generator[Any, Any, bytes]:
        try:
            steps = self._pieces.__anext__().__await__()
            try:
                step = steps.send(None)
            except StopIteration as done:  # it was there
                piece: bytes = done.value
            else:
                piece = yield from self.waiting(steps, step)
            if now_ns() >= self.until:
                raise self.late()
        except StopAsyncIteration:
            self._pieces = _NONE  # of a generator that has ended nothing is left to close
            self.ended()
            raise
        except GeneratorExit:
            raise  # the reader has left; aclose() comes
        except BaseException as error:
            self.ended(error, patient=True)
            raise
        self.came = True
        return piece

    async def aclose(self) -> None:
        pieces = self._pieces
        if pieces is not _NONE:
            self._pieces = self.closed
        try:
            self.leave()  # first, as above
            # A generator must not be left to the garbage collector: trio minds. One that another task waits in ends by
            # itself when its stream is closed.
            if hasattr(pieces, "aclose") and not getattr(pieces, "ag_running", False):
                await pieces.aclose()
        finally:  # else the connection would never come back to its pool
            await self._stream.aclose()


class _NoPieces:
    """There are no more."""

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


_NONE = _NoPieces()


class _Closed:
    """There are more, but the body has been closed: its reader must not take what it has for the whole."""

    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    async def __anext__(self) -> bytes:
        raise self._error("the body was closed before its end")


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
            send_deadline=send_deadline,
        )
        self._inner = inner

    def _exchange(self, request: Any, kind: str) -> Any:
        """None: the guard is a pass-through."""
        library = _libraries.get(type(request)) or _library_of(type(request))
        if self._inner is None:
            with _making:
                self._inner = self._inner or getattr(library.module, kind)()
        hosts, url, method = self._hosts, request.url, request.method
        host = host_of(url.scheme, url.host, url.port) if hosts.by_host else ""
        again = method in hosts.retry_methods or "idempotency-key" in request.headers
        guard = hosts.guard(host, method, again and isinstance(request.stream, library.fixed))
        if guard._disabled:
            return None
        return library.exchanges[kind](guard, hosts.deadline_header, self._inner, request)


def _attend(response: Any, exchange: _Exchange) -> Any:
    """The response, whose body is to go by the exchange, if there is one to come. What the inner transport made out of
    its memory has been read, and after 101 the connection is another protocol's."""
    if response.is_stream_consumed or response.status_code == SWITCHED:
        exchange.ended()
        return response
    for name, value in response.headers.raw:
        if len(name) == _KIND_LENGTH and name.lower() == b"content-type" and value.strip().lower().startswith(_FEED):
            exchange.feeds()
    exchange._stream, response.stream = response.stream, exchange
    return response


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
        exchange = self._exchange(request, "HTTPTransport")
        if exchange is None:
            return self._inner.handle_request(request)
        return _attend(exchange.run(), exchange)

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
        exchange = self._exchange(request, "AsyncHTTPTransport")
        if exchange is None:
            return await self._inner.handle_async_request(request)
        kind, response, permit, took = await exchange.first()
        if kind != SUCCEEDED:
            response = await exchange.rest(kind, response, permit, took)
        return _attend(response, exchange)

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
    ours = {name: options.pop(name) for name in OPTIONS if name in options}
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
