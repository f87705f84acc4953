"""A client middleware for aiohttp, 3.12 or later.

    from failsoft.adapters.aiohttp import FailsoftMiddleware

    session = aiohttp.ClientSession(middlewares=(FailsoftMiddleware(api),))

Each hop of a redirect is a request of its own. aiohttp by itself sends an idempotent request again, once, where a kept
connection turns out to be closed; that comes through here again too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

try:
    import aiohttp
    from aiohttp.payload import BytesPayload
except ModuleNotFoundError as error:
    if error.name != "aiohttp":
        raise
    raise ImportError("aiohttp is not installed: pip install 'failsoft[http]'") from error

from ..course import SUCCEEDED
from ..deadlines import deadline
from ..wire import inject_deadline
from .exchange import SWITCHED, Exchange
from .hosts import IDEMPOTENT, Hosts, host_of

__all__ = ["IDEMPOTENT", "FailsoftMiddleware", "client_timeout"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from ..course import AnyGuard
    from ..integrations import Integration
    from .hosts import Chooser

    Handler: TypeAlias = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]

if tuple(map(int, aiohttp.__version__.split(".")[:2])) < (3, 12):
    raise ImportError(f"client middlewares came with aiohttp 3.12, and this is {aiohttp.__version__}")


class FailsoftMiddleware:
    """Sends each request through an integration. What counts as what is as for httpx: see `FailsoftTransport`.

    A request has succeeded when its body has come, whether or not it has been read by then; one that is released before
    that counts as ignored. Head and body are cancelled when the attempt's time, the integration's `timeouts.overall` or
    a deadline around the request is over. aiohttp's own limits hold as well; `client_timeout` makes them of the
    integration's `timeouts`.

    - `integration`, `per_host`, `max_hosts`, `operation`, `retry`, `retry_methods`, `send_deadline`: as for httpx.
    """

    def __init__(
        self,
        integration: Chooser,
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

    async def __call__(self, request: aiohttp.ClientRequest, handler: Handler) -> aiohttp.ClientResponse:
        hosts, url, method = self._hosts, request.url, request.method
        host = host_of(url.scheme, url.host, url.explicit_port) if hosts.by_host else ""
        again = method in hosts.retry_methods or "Idempotency-Key" in request.headers
        guard = hosts.guard(host, method, again and (not request.body or isinstance(request.body, BytesPayload)))
        if guard._disabled:
            return await handler(request)
        exchange = _Exchange(guard, request, handler, hosts.deadline_header)
        kind, payload, permit, took = await exchange.first()
        if kind != SUCCEEDED:
            payload = await exchange.rest(kind, payload, permit, took)
        response: aiohttp.ClientResponse = payload
        if response.status == SWITCHED:
            exchange.ended()
            return response
        if response.content_type == "text/event-stream":
            exchange.feeds()
        content = response.content
        content.on_eof(exchange.ended)
        if not content.is_eof():
            response.content = _Content(content, exchange)  # type: ignore[assignment]  # as good as one
        return response


def client_timeout(integration: Integration) -> aiohttp.ClientTimeout:
    """aiohttp's time limits, made of those of an integration: for `ClientSession(timeout=...)`."""
    limits = integration.config.timeouts
    return aiohttp.ClientTimeout(total=None, sock_connect=limits.connect, sock_read=limits.read)


class _Exchange(Exchange):
    __slots__ = ("_handler", "_header", "_request")

    def __init__(self, guard: AnyGuard, request: Any, handler: Handler, header: str | None) -> None:
        super().__init__(guard)
        self._request = request
        self._handler = handler
        self._header = header

    def _sending(self, seconds: float) -> Any:
        if self._header is not None:
            with deadline(seconds):
                inject_deadline(self._request.headers, header=self._header)
        return self._handler(self._request)

    def _sent(self, response: Any) -> int:
        return 0 if response is None else response.status

    def _drop(self, response: Any) -> None:
        response.release()


class _Content:
    """The reader of a body, whose errors and waits are the exchange's."""

    def __init__(self, content: aiohttp.StreamReader, exchange: Exchange) -> None:
        self._content = content
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    def set_exception(self, *args: Any) -> None:
        """The response is released or closed."""
        self._content.set_exception(*args)
        self._exchange.leave()

    async def _bounded(self, reading: Awaitable[Any]) -> Any:
        exchange = self._exchange
        try:
            piece = await exchange.bounded(reading)
        except aiohttp.EofStream:
            raise
        except BaseException as error:
            exchange.ended(error, patient=True)
            raise
        exchange.came = True
        return piece

    async def read(self, n: int = -1) -> bytes:
        return await self._bounded(self._content.read(n))  # type: ignore[no-any-return]

    async def readany(self) -> bytes:
        return await self._bounded(self._content.readany())  # type: ignore[no-any-return]

    async def readexactly(self, n: int) -> bytes:
        return await self._bounded(self._content.readexactly(n))  # type: ignore[no-any-return]

    async def readchunk(self) -> tuple[bytes, bool]:
        return await self._bounded(self._content.readchunk())  # type: ignore[no-any-return]

    async def readline(self, **options: Any) -> bytes:
        return await self._bounded(self._content.readline(**options))  # type: ignore[no-any-return]

    async def readuntil(self, separator: bytes = b"\n", **options: Any) -> bytes:
        return await self._bounded(self._content.readuntil(separator, **options))  # type: ignore[no-any-return]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        while piece := await self.read(n):
            yield piece

    async def iter_any(self) -> AsyncIterator[bytes]:
        while piece := await self.readany():
            yield piece

    async def iter_chunks(self) -> AsyncIterator[tuple[bytes, bool]]:
        while (chunk := await self.readchunk()) != (b"", False):
            yield chunk
