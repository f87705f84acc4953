"""psycopg 3 through an integration: connections and pools, sync and async.

    from failsoft.adapters.psycopg import connect, pool

    database = failsoft.integration("orders", "database")
    with pool(database, "host=127.0.0.1 dbname=orders") as connections, connections.connection() as connection:
        connection.execute("select 1")

Connecting is retried; what is executed is not, for nobody here knows what it has done. Every wait for the server is
bounded, sync ones too: psycopg waits in turns, and between two of them the clock is looked at.
"""

from __future__ import annotations

import math
import os
from functools import lru_cache

try:
    import psycopg
    from psycopg import errors, waiting
    from psycopg.conninfo import conninfo_to_dict
except ModuleNotFoundError as error:
    if error.name != "psycopg":
        raise
    raise ImportError("psycopg is not installed: pip install 'failsoft[postgres]'") from error

from .._core import now_ns, remaining
from ..answers import ATTEMPT_TIMEOUT
from ..course import SECOND
from ..integrations import Integration
from .exchange import late_error
from .openings import refuse_while_open

__all__ = ["async_connect", "async_connection_class", "async_pool", "connect", "connection_class", "pool"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

_TURN = 0.1
"""Seconds that psycopg waits at most before it looks up."""

_GRACE = 0.5
"""Seconds after its deadline that an async wait is ended by us, if nobody has cancelled it."""

_PATIENCE = 0.25
"""Seconds that a server is given to confirm that it has stopped a query whose time is up. Then the connection goes."""

_ACTIVE = psycopg.pq.TransactionStatus.ACTIVE

QueryLate: Any = late_error(errors.QueryCanceled)
ConnectLate: Any = late_error(errors.ConnectionTimeout)
for _cls in (QueryLate, ConnectLate):
    _cls.pgconn = _cls.pgresult = _cls._info = None  # what psycopg's own constructor would have set
    _cls._encoding = "utf-8"


def connect(integration: Integration, conninfo: str = "", *, retry: bool = True, **options: Any) -> Any:
    """A `psycopg.Connection` whose statements go through the integration, as EXECUTE; connecting is CONNECT.

    `execute` and `executemany` are guarded; COPY, `stream`, server cursors, cursors of another `cursor_factory`,
    `commit` and `rollback` are bounded and not counted, so that a circuit that opens does not part a transaction from
    its end.

    A statement is bounded by what is left of its attempt and of any deadline around it, and what else waits for the
    server, but for notifications, by `timeouts.overall`; either ends too where nothing comes for `timeouts.read` and a
    little more. Then the server is asked to stop; if it does not confirm that in a quarter of a second the connection
    is closed. The server itself stops what takes longer than `timeouts.read` (statement_timeout), unless it is given
    `options` by argument, conninfo or PGOPTIONS.

    - `retry=False`: one attempt to connect.
    - `options`: those of `psycopg.connect`.
    """
    cls = connection_class(integration, options.pop("connection_class", psycopg.Connection), retry=retry)
    return cls.connect(conninfo, **options)


async def async_connect(integration: Integration, conninfo: str = "", *, retry: bool = True, **options: Any) -> Any:
    """The same, a `psycopg.AsyncConnection`."""
    cls = async_connection_class(integration, options.pop("connection_class", psycopg.AsyncConnection), retry=retry)
    return await cls.connect(conninfo, **options)


def pool(integration: Integration, conninfo: str = "", **options: Any) -> Any:
    """A `psycopg_pool.ConnectionPool` of such connections.

    While the circuit is open, a connection is refused at once instead of waited for. To wait for one in vain is no
    failure of the server's. `timeout` is `timeouts.connect` unless given, and never more than what is left of a
    deadline around it. The pool makes its connections in the background, and tries again by itself.
    """
    cls = connection_class(integration, options.pop("connection_class", psycopg.Connection), retry=False)
    return _pool(integration, "ConnectionPool", cls, conninfo, options)


def async_pool(integration: Integration, conninfo: str = "", **options: Any) -> Any:
    """The same, a `psycopg_pool.AsyncConnectionPool`. Open it as ever: `async with`, or `await pool.open()`."""
    cls = async_connection_class(integration, options.pop("connection_class", psycopg.AsyncConnection), retry=False)
    return _pool(integration, "AsyncConnectionPool", cls, conninfo, options)


def connection_class(integration: Integration, base: Any = psycopg.Connection, *, retry: bool = True) -> Any:
    """The class that `connect` makes connections of, for pools and frameworks that want to be told one."""
    return _class(integration, _Connection, base, psycopg.Cursor, retry)


def async_connection_class(integration: Integration, base: Any = psycopg.AsyncConnection, *, retry: bool = True) -> Any:
    """The same for async connections."""
    return _class(integration, _AsyncConnection, base, psycopg.AsyncCursor, retry)


@lru_cache(maxsize=64)
def bounded_class(integration: Integration, base: Any) -> Any:
    """A class of connections that are bounded, and counted by somebody else."""
    mixin = _BoundedAsync if issubclass(base, psycopg.AsyncConnection) else _Bounded
    return type(base.__name__, (mixin, base), {"integration": integration, "__module__": base.__module__})


def server_limits(integration: Integration) -> str:
    """What a server is told when a connection is made, as libpq's `options`."""
    return f"-c statement_timeout={math.ceil(integration.config.timeouts.read * 1000)}"


@lru_cache(maxsize=64)
def _class(integration: Integration, mixin: Any, base: Any, cursor: Any, retry: bool) -> Any:
    if not isinstance(integration, Integration):
        raise TypeError(f"integration must be an Integration, got {integration!r}")
    guards = {
        "execute_guarded": integration.guard(cursor.execute, operation="EXECUTE", retry=False),
        "executemany_guarded": integration.guard(cursor.executemany, operation="EXECUTE", retry=False),
    }
    bounded = bounded_class(integration, base)
    parts = (mixin, bounded)
    cls = type(base.__name__, parts, {"__module__": base.__module__})
    cursors = type(cursor.__name__, (_Cursor, cursor), {**guards, "__module__": cursor.__module__})
    made: Any = cls
    made.guarded_cursor = cursors
    made.connect_guarded = integration.guard(bounded.connect.__func__, operation="CONNECT", retry=retry)
    return made


def _pool(integration: Integration, name: str, cls: Any, conninfo: str, options: dict[str, Any]) -> Any:
    try:
        import psycopg_pool
    except ModuleNotFoundError as error:
        if error.name != "psycopg_pool":
            raise
        raise ImportError("psycopg-pool is not installed: pip install 'failsoft[postgres]'") from error
    base = getattr(psycopg_pool, name)
    mixin = _AsyncPool if name == "AsyncConnectionPool" else _Pool
    guarded: Any = type(name, (mixin, base), {"integration": integration, "__module__": base.__module__})
    settings = {"timeout": integration.config.timeouts.connect, "open": mixin is _Pool, **options}
    return guarded(conninfo, connection_class=cls, **settings)


class _Cursor:
    execute_guarded: Any
    executemany_guarded: Any

    def execute(self, *args: Any, **options: Any) -> Any:
        return self.execute_guarded(*args, **options)

    def executemany(self, *args: Any, **options: Any) -> Any:
        return self.executemany_guarded(*args, **options)


class _Wait:
    """The generator of a wait, given so many seconds, and so many between two signs of life. It can be waited on."""

    __slots__ = ("_idle", "_until", "_work", "turn")

    def __init__(self, work: Any, seconds: float, idle: float) -> None:
        self._work = work
        self._until = now_ns() + round(seconds * SECOND)
        self._idle = round(idle * SECOND)
        least = min(seconds, idle)
        self.turn = max(least / max(math.ceil(least / _TURN), 1), 0.001)  # the last turn ends with the time

    def __call__(self) -> Generator[Any, Any, Any]:
        work, until, idle = self._work, self._until, self._idle
        alive = began = now_ns()
        try:
            wanted = next(work)
            while True:
                ready = yield wanted
                wanted = work.send(ready)
                now = now_ns()  # looked at only where there is more to wait for
                if ready:
                    alive = now
                if now >= until or now - alive >= idle:
                    raise _Late(f"no answer within {(now - began) / SECOND:.3g} s")
        except StopIteration as done:
            return done.value


class _Late(Exception):
    """The time of a wait is up."""


class _Connecting:
    """Bounds the making of a connection, which psycopg would only do in whole seconds, two at least."""

    integration: Integration

    @classmethod
    def _connect_gen(cls, *args: Any, **options: Any) -> Generator[Any, Any, Any]:
        left, limit = remaining(), cls.integration.config.timeouts.connect
        seconds = limit if left is None else min(limit, left)
        work = super()._connect_gen(*args, **options)  # type: ignore[misc]  # of psycopg's
        try:
            return (yield from _Wait(work, seconds, seconds)())
        except _Late as late:
            work.close()
            raise _error(ConnectLate, cls.integration, "CONNECT", late) from None

    @classmethod
    def _options(cls, conninfo: str, options: dict[str, Any]) -> dict[str, Any]:
        if "options" in options or "PGOPTIONS" in os.environ or "options" in conninfo_to_dict(conninfo):
            return options  # libpq knows one only: ours would hide theirs
        return {"options": server_limits(cls.integration), **options}

    def _seconds(self, work: Any) -> float | None:
        """How long such a wait may take. One for notifications tells of nothing but that there are none."""
        left = remaining()
        if left is None and getattr(work, "__name__", "") != "notifies":
            return self.integration.config.timeouts.overall
        return left


class _Bounded(_Connecting):
    pgconn: Any

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Any:
        return super().connect(conninfo, **cls._options(conninfo, options))  # type: ignore[misc]

    def wait(self, work: Any, interval: float = _TURN, **options: Any) -> Any:
        seconds = self._seconds(work)
        if seconds is None:
            return super().wait(work, interval, **options)  # type: ignore[misc]  # of psycopg's
        wait = _Wait(work, seconds, self.integration.config.timeouts.read + _PATIENCE)
        try:
            return super().wait(wait(), min(interval, wait.turn), **options)  # type: ignore[misc]
        except _Late as late:
            self._give_up(work)
            raise _error(QueryLate, self.integration, "EXECUTE", late) from None

    def _give_up(self, work: Any) -> None:
        try:
            self.cancel_safe(timeout=_PATIENCE)  # type: ignore[attr-defined]
            wait = _Wait(work, _PATIENCE, _PATIENCE)
            waiting.wait(wait(), self.pgconn.socket, interval=wait.turn)
        except errors.QueryCanceled:
            return
        except (_Late, psycopg.Error, OSError):
            pass
        if self.pgconn.transaction_status == _ACTIVE:
            self.pgconn.finish()


class _BoundedAsync(_Connecting):
    pgconn: Any

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Any:
        return await super().connect(conninfo, **cls._options(conninfo, options))  # type: ignore[misc]

    async def wait(self, work: Any, interval: float = _TURN, **options: Any) -> Any:
        seconds = self._seconds(work)
        if seconds is None:
            return await super().wait(work, interval, **options)  # type: ignore[misc]  # of psycopg's
        from asyncio import CancelledError

        # Later than the deadline that cancels us, if one does: it would interrupt our good-bye to the server.
        wait = _Wait(work, seconds + _GRACE, self.integration.config.timeouts.read + _PATIENCE)
        try:
            return await waiting.wait_async(wait(), self.pgconn.socket, interval=min(interval, wait.turn), **options)
        except _Late as late:
            await self._give_up(work)
            raise _error(QueryLate, self.integration, "EXECUTE", late) from None
        except (CancelledError, KeyboardInterrupt):
            # psycopg itself would ask the server for 5 s, and wait 5 s for its answer.
            if self.pgconn.transaction_status == _ACTIVE:
                await self._give_up(work)
            raise

    async def _give_up(self, work: Any) -> None:
        try:
            await self.cancel_safe(timeout=_PATIENCE)  # type: ignore[attr-defined]
            wait = _Wait(work, _PATIENCE, _PATIENCE)
            await waiting.wait_async(wait(), self.pgconn.socket, interval=wait.turn)
        except errors.QueryCanceled:
            return
        except (_Late, psycopg.Error, OSError):
            pass
        finally:
            if self.pgconn.transaction_status == _ACTIVE:
                self.pgconn.finish()


class _Connection:
    connect_guarded: Any
    guarded_cursor: Any

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Any:
        return cls.connect_guarded(cls, conninfo, **{"cursor_factory": cls.guarded_cursor, **options})


class _AsyncConnection:
    connect_guarded: Any
    guarded_cursor: Any

    @classmethod
    async def connect(cls, conninfo: str = "", **options: Any) -> Any:
        return await cls.connect_guarded(cls, conninfo, **{"cursor_factory": cls.guarded_cursor, **options})


class _Pool:
    integration: Integration
    timeout: float

    def getconn(self, timeout: float | None = None) -> Any:
        refuse_while_open(self.integration, "CONNECT")
        return super().getconn(_least(self.timeout if timeout is None else timeout))  # type: ignore[misc]


class _AsyncPool:
    integration: Integration
    timeout: float

    async def getconn(self, timeout: float | None = None) -> Any:
        refuse_while_open(self.integration, "CONNECT")
        return await super().getconn(_least(self.timeout if timeout is None else timeout))  # type: ignore[misc]


def _least(seconds: float) -> float:
    left = remaining()
    return seconds if left is None else min(seconds, left)


def _error(cls: Any, integration: Integration, operation: str, late: _Late) -> Exception:
    error: Exception = cls(
        f"{operation}: {late}",
        integration_type=integration.type,
        integration_name=integration.name,
        operation=operation,
        reason=ATTEMPT_TIMEOUT,
    )
    return error
