"""Subjects of NATS as streams that may not go quiet, with nats-py.

    from failsoft.adapters.nats import stream

    async for quote in stream(market, "nats://127.0.0.1:4222", "quotes.>", decode=lambda m: json.loads(m.data),
                              stale_after=2.0, key="symbol", sequence="seq"): ...

nats-py would reconnect by itself for two minutes, and nobody who waits for a message would hear of it. Here a
connection that breaks is a failure of the integration's, and the next one goes by its backoff and its breaker.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping

try:
    from nats.aio.client import Client
    from nats.errors import ConnectionClosedError, StaleConnectionError, UnexpectedEOF
    from nats.protocol.parser import PERMISSIONS_ERR
except ModuleNotFoundError as error:
    if error.name != "nats":
        raise
    raise ImportError("nats-py is not installed: pip install 'failsoft[streams]'") from error

from ..integrations import Integration
from ..streams.connections import ended

__all__ = ["stream"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..streams import Stream

_FATAL = (UnexpectedEOF, StaleConnectionError, OSError)
"""Errors that a connection ends with."""

_CLOSING = 0.1
"""Seconds to close a client that never came to be; nats-py would wait for ever where TLS has failed."""

_OURS = ("allow_reconnect", "servers")


def stream(
    integration: Integration,
    servers: str | list[str],
    subjects: str | Iterable[str],
    *,
    stale_after: float | None,
    queue: str = "",
    decode: Callable[[Any], Any] | None = None,
    connect_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Stream[Any]:
    """An `Integration.stream` over the messages of one subject or several, each connection a client of its own.

    - `servers`: as of `nats.connect`; which of several is tried first changes from one connection to the next.
    - `queue`: the queue group, if the messages are to be shared among several that subscribe.
    - `decode`: makes an item of a `Msg`; None: as it came.
    - `connect_options`: those of `nats.connect`. `connect_timeout` is the integration's `timeouts.connect` unless
      given; `allow_reconnect` is ours to give: TypeError.
    - `options`: those of `Integration.stream`.
    """
    if not isinstance(integration, Integration):
        raise TypeError(f"integration must be an Integration, got {integration!r}")
    for name in connect_options or ():
        if name in _OURS:
            raise TypeError(f"stream gives {name} itself")
    settings = {"connect_timeout": integration.config.timeouts.connect, **(connect_options or {})}
    names = (subjects,) if isinstance(subjects, str) else tuple(subjects)
    return integration.stream(
        lambda: _Connection(servers, names, queue, settings, decode), stale_after=stale_after, **options
    )


class _Connection:
    """One client, as a context of the messages of its subscriptions."""

    def __init__(self, servers: Any, subjects: tuple[str, ...], queue: str, settings: Any, decode: Any) -> None:
        self._servers = servers
        self._subjects = subjects
        self._queue = queue
        self._settings = settings
        self._decode = decode
        self._client: Any = None
        self._connected = False
        self._tries = 0
        self._error: Exception | None = None
        self._messages: Any = None

    async def __aenter__(self) -> _Connection:
        from asyncio import Queue

        self._messages = Queue()
        told = self._settings.get("error_cb")

        async def failed(error: Exception) -> None:
            self._error = error
            if not self._connected:  # nats-py would go round its servers for ever
                self._tries += 1
                if self._tries >= (1 if isinstance(self._servers, str) else len(self._servers)):
                    raise error
            # nats-py may wait long for itself before it says that it is closed, and a forbidden subject is only silent.
            if isinstance(error, _FATAL) or PERMISSIONS_ERR in str(error):
                self._messages.put_nowait(None)
            if told is not None:
                await told(error)

        closed = self._settings.get("closed_cb")

        async def left() -> None:
            self._messages.put_nowait(None)
            if closed is not None:
                await closed()

        settings = {**self._settings, "error_cb": failed, "closed_cb": left}
        client = self._client = Client()
        try:
            await client.connect(self._servers, allow_reconnect=False, **settings)
            self._connected = True
            for subject in self._subjects:
                await client.subscribe(subject, queue=self._queue, cb=self._messages.put)
            await client.flush(settings["connect_timeout"])
        except BaseException as error:
            with contextlib.suppress(Exception):
                await ended(client.close(), _CLOSING)
            reason = self._reason() if isinstance(error, Exception) else None
            if reason is not None and reason is not error:  # an error is not its own cause
                raise reason from error
            raise
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self._client.close()

    def __aiter__(self) -> _Iterator:
        return _Iterator(self)

    async def next(self) -> Any:
        """The next item."""
        message = await self._messages.get()
        if message is None:
            self._messages.put_nowait(None)  # for whoever asks again
            raise self._reason() or ConnectionClosedError()
        return message if self._decode is None else self._decode(message)

    def _reason(self) -> Exception | None:
        """What the server has said last, or what has become of the connection."""
        return self._error or self._client.last_error


class _Iterator:
    __slots__ = ("_connection",)

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def __aiter__(self) -> _Iterator:
        return self

    def __anext__(self) -> Any:
        return self._connection.next()
