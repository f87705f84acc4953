"""Feeds over WebSocket as streams that may not go quiet, with the websockets library.

from failsoft.adapters.websockets import stream

async for quote in stream(market, "wss://feed.example/quotes", subscribe={"op": "subscribe"}, decode=json.loads,
                          stale_after=2.0, key="symbol", sequence="seq"): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

try:
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosedOK
except ModuleNotFoundError as error:
    if error.name != "websockets":
        raise
    raise ImportError("websockets is not installed: pip install 'failsoft[streams]'") from error

from ..functions import is_awaitable
from ..integrations import Integration

__all__ = ["stream"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from ..streams import Stream

    Said: TypeAlias = str | bytes | Mapping[str, Any] | Iterable[str | bytes | Mapping[str, Any]]


def stream(
    integration: Integration,
    url: str,
    *,
    stale_after: float | None,
    subscribe: Said | Callable[[], Said] | None = None,
    decode: Callable[[Any], Any] | None = None,
    connect_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Stream[Any]:
    """An `Integration.stream` over the messages of a WebSocket, connected and subscribed anew whenever it breaks.

    - `subscribe`: what is said on each connection before anything is heard: a message or several; mappings are sent as
      JSON. A function of nothing is asked for it each time (and may be async), for tokens that expire.
    - `decode`: makes an item of a message, such as `json.loads`; what it raises ends the connection. None: as it came.
    - `connect_options`: those of `websockets.connect`. `open_timeout` and `close_timeout` are the integration's
      `timeouts.connect` and `timeouts.write` unless given; its pings stay on.
    - `options`: those of `Integration.stream`.

    A close in good order (1000, 1001) is an end, any other an error; both are followed by another connection unless
    `ends=True` says otherwise.
    """
    if not isinstance(integration, Integration):
        raise TypeError(f"integration must be an Integration, got {integration!r}")
    limits = integration.config.timeouts
    settings = {"open_timeout": limits.connect, "close_timeout": limits.write, **(connect_options or {})}
    return integration.stream(lambda: _Connection(url, settings, subscribe, decode), stale_after=stale_after, **options)


class _Connection:
    """One connection, as a context of its messages."""

    def __init__(self, url: str, settings: dict[str, Any], subscribe: Any, decode: Any) -> None:
        self._opening = connect(url, **settings)
        self._socket: Any = None
        self._subscribe = subscribe
        self._decode = decode

    async def __aenter__(self) -> Messages:
        socket = self._socket = await self._opening.__aenter__()
        try:
            for message in await _said(self._subscribe):
                await socket.send(message)
        except BaseException:
            await self.__aexit__()
            raise
        return Messages(socket.recv, ConnectionClosedOK, self._decode)

    async def __aexit__(self, *_: Any) -> None:
        try:
            await self._opening.__aexit__(None, None, None)
        except (
            BaseException
        ):  # cut off: the peer does not answer, and its socket would be open until somebody collects it
            self._socket.transport.abort()
            raise


class Messages:
    """What comes by one receiving function, until it raises `end`. Iterated anew it goes on: nothing is lost."""

    __slots__ = ("_decode", "_end", "_receive")

    def __init__(self, receive: Callable[[], Any], end: type[Exception], decode: Callable[[Any], Any] | None) -> None:
        self._receive = receive
        self._end = end
        self._decode = decode

    def __aiter__(self) -> _Iterator:
        return _Iterator(self)

    async def next(self) -> Any:
        """The next item."""
        try:
            message = await self._receive()
        except self._end:
            raise StopAsyncIteration from None
        return message if self._decode is None else self._decode(message)


class _Iterator:
    __slots__ = ("_messages",)

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    def __aiter__(self) -> _Iterator:
        return self

    def __anext__(self) -> Any:
        return self._messages.next()


async def _said(subscribe: Any) -> list[Any]:
    said = subscribe() if callable(subscribe) else subscribe
    if is_awaitable(said):
        said = await said
    if said is None:
        return []
    several = [said] if isinstance(said, (str, bytes, Mapping)) else list(said)
    if not any(isinstance(each, Mapping) for each in several):
        return several
    import json

    return [json.dumps(each) if isinstance(each, Mapping) else each for each in several]
