"""SQLAlchemy 2 engines whose connections and statements go through an integration, sync and async.

    from failsoft.adapters.sqlalchemy import protect

    engine = sqlalchemy.create_engine("postgresql+psycopg://127.0.0.1/orders")
    protect(engine, failsoft.integration("orders", "database"))

What an engine does is reached by its events: a connection is made, and a statement executed, behind the gate.
Connecting is retried; statements are not, for they belong to a transaction that nobody here knows.
"""

from __future__ import annotations

import math
import sys
from weakref import WeakSet

try:
    import sqlalchemy
except ModuleNotFoundError as error:
    if error.name != "sqlalchemy":
        raise
    raise ImportError("SQLAlchemy is not installed: pip install 'failsoft[sqlalchemy]'") from error

from sqlalchemy import event, util

from .. import clients
from .._core import TOO_LATE, now_ns
from ..classify import classify_error, register_classifier
from ..config import ErrorCategory
from ..course import REFUSED, SUCCEEDED
from ..errors import IntegrationTimeoutError
from ..expiry import verdict
from ..forks import new_lock
from ..integrations import Integration
from ..standard import peek
from .exchange import Exchange

__all__ = ["PoolCounts", "protect"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .exchange import Ended


class PoolCounts:
    """What the pool of a protected engine has given out, since `protect`. Any thread may look.

    - `checkouts`, `checkins`: connections handed out and given back; `in_use` is the difference.
    - `made`, `invalidated`: connections that were opened, and dropped because they had broken.
    """

    __slots__ = ("_changing", "checkins", "checkouts", "invalidated", "made")

    def __init__(self) -> None:
        self._changing = new_lock()
        self.checkouts = self.checkins = self.made = self.invalidated = 0

    def __repr__(self) -> str:
        return f"<PoolCounts {self.in_use} in use, {self.checkouts} checkouts, {self.invalidated} invalidated>"

    @property
    def in_use(self) -> int:
        """Connections that are out now."""
        return self.checkouts - self.checkins

    def add(self, name: str) -> None:
        """Count one more."""
        with self._changing:
            setattr(self, name, getattr(self, name) + 1)


def protect(engine: Any, integration: Integration, *, retry: bool = True) -> PoolCounts:
    """Put an integration before the connections and statements of an `Engine` or `AsyncEngine`, once.

    Connections are made under the operation CONNECT and retried; every statement is an EXECUTE, made once. While the
    circuit is open both are refused, with `CircuitOpenError` as it is. COMMIT and ROLLBACK are not guarded: an open
    circuit must not part a transaction from its end. Errors count by what the driver says: one that `is_disconnect`
    knows is NETWORK, whatever the driver, and so is retried while connecting.

    An async statement is cancelled when its attempt or a deadline around it is over. A sync one is bounded with
    psycopg 3, as failsoft.adapters.psycopg does it; other drivers get `timeouts` as their own options, where they have
    any: psycopg2, pg8000, asyncpg, PyMySQL, mysqlclient, aiomysql and asyncmy. Options of the engine win.

    To wait for a connection of the pool is no failure of the server's: set `pool_timeout`. `retry=False`: one attempt
    to connect. TypeError for what is no engine, RuntimeError for one that is protected already.
    """
    if not isinstance(integration, Integration):
        raise TypeError(f"integration must be an Integration, got {integration!r}")
    sync = getattr(engine, "sync_engine", engine)
    if not isinstance(sync, sqlalchemy.Engine):
        raise TypeError(f"engine must be an Engine or an AsyncEngine, got {engine!r}")
    if sync.dialect in _protected:
        raise RuntimeError(f"{engine!r} is protected already")
    _protected.add(sync.dialect)
    _classify(sync.dialect)
    _Gate(sync, integration, retry)
    counts = PoolCounts()
    for name, counted in _COUNTED.items():
        event.listen(sync, name, lambda *_, counted=counted: counts.add(counted))

    def taken(_connection: Any, record: Any, _proxy: Any) -> None:
        if not record.record_info.get(_OUT):  # told again where a listener wants another connection
            record.record_info[_OUT] = True
            counts.add("checkouts")

    def returned(_connection: Any, record: Any) -> None:
        if record.record_info.pop(_OUT, None):  # what could not be connected comes back, too, and never was out
            counts.add("checkins")

    event.listen(sync, "checkout", taken)
    event.listen(sync, "checkin", returned)
    return counts


greenlet_spawn: Any = util.greenlet_spawn
await_only: Any = getattr(util, "await_", None) or util.await_only
"""The latter is its name up to SQLAlchemy 2.0."""

_protected: WeakSet[Any] = WeakSet()

_COUNTED = {"connect": "made", "invalidate": "invalidated"}

_OUT = "failsoft: out"
"""What a record of the pool is marked with while its connection is out."""


class _Gate:
    """Answers the events of one engine."""

    def __init__(self, engine: Any, integration: Integration, retry: bool) -> None:
        self._integration = integration
        dialect = engine.dialect
        kind = _spawned if dialect.is_async else _as_it_is
        self._connect = integration.guard(kind(_connector(dialect, integration)), operation="CONNECT", retry=retry)
        event.listen(engine, "do_connect", self._connected)
        event.listen(engine, "handle_error", _broken)
        for name in _EXECUTE:
            do = getattr(dialect, name)
            guard = integration.guard(do, operation="EXECUTE", retry=False)
            event.listen(engine, name, (_async_listener if dialect.is_async else _listener)(guard))

    def _connected(self, dialect: Any, _record: Any, args: list[Any], options: dict[str, Any]) -> Any:
        _limit(dialect, self._integration, options)
        made: Any = self._connect(*args, **options)
        return await_only(made) if dialect.is_async else made


_EXECUTE = ("do_execute", "do_executemany", "do_execute_no_params")


def _listener(guard: Any) -> Any:
    """`guard` as a listener, which says that it has done it."""

    def listener(*args: Any) -> bool:
        guard(*args)
        return True

    return listener


def _async_listener(guard: Any) -> Any:
    """The same where the statement waits by switching greenlets: in the one it is in, for another would cost more than
    all the rest."""
    do = guard.__wrapped__

    def listener(*args: Any) -> bool:
        if guard._disabled:
            do(*args)
        else:
            statement = _Statement(guard, do, args)
            statement.run()
            statement.ended()
        return True

    return listener


class _Statement(Exchange):
    """One statement of an async engine, seen from within its greenlet: what it awaits, the event loop's side awaits."""

    __slots__ = ("_args", "_do")

    def __init__(self, guard: Any, do: Any, args: tuple[Any, ...]) -> None:
        super().__init__(guard)
        self._do = do
        self._args = args

    def _attempt(self, until: int, _args: object = None, _kwargs: object = None) -> Ended:
        guard = self._guard
        if now_ns() >= until:
            return REFUSED, guard._refuse(TOO_LATE), 0, 0
        permit, self._place, waits = guard._gate(1, False)
        if waits:
            permit = await_only(self._waited(permit, until))
        if not permit & 1:
            return REFUSED, guard._refuse(permit), 0, 0
        seconds, armed = self._started_with(permit, until), None
        try:
            if guard._recovery.integration.chaos:
                from ..chaos_plans import befall

                await_only(self.bounded(befall(guard._recovery)))
                seconds = self.left()
            armed = self._arm(seconds)
            self._do(*self._args)
            if armed is not None and (fired := armed.disarm()) is not None:
                verdict(*fired, None, self.late)
        except BaseException as error:
            return self._failed(self._disarmed(armed, error), patient=True)
        return SUCCEEDED, None, 0, now_ns() - self._started


def _as_it_is(value: Any) -> Any:
    return value


def _spawned(fn: Any) -> Any:
    """A function of an async driver's face, which waits by switching greenlets, as a coroutine function.

    A guard must not be on the stack of a greenlet that others run in between: what it knows of the deadline belongs to
    the thread.
    """

    async def spawned(*args: Any, **options: Any) -> Any:
        return await greenlet_spawn(fn, *args, **options)

    return spawned


def _broken(context: Any) -> BaseException | None:
    """Of a statement whose time was up: drop its connection, and let our error come out as it is.

    The statement may still run, and its answer would come to the next one.
    """
    error: BaseException = context.original_exception
    if not isinstance(error, IntegrationTimeoutError):
        return None
    context.is_disconnect = True
    context.invalidate_pool_on_disconnect = False
    if context.connection is not None:
        pooled = context.connection.connection
        if context.dialect.driver == "asyncpg" and pooled.driver_connection is not None:
            pooled.driver_connection.terminate()  # or SQLAlchemy would wait 2 s for a good end
    return error


def _connector(dialect: Any, integration: Integration) -> Any:
    if dialect.driver == "psycopg" and not dialect.is_async:
        import psycopg

        from .psycopg import bounded_class

        return bounded_class(integration, psycopg.Connection).connect
    return dialect.connect


def _limit(dialect: Any, integration: Integration, options: dict[str, Any]) -> None:
    """Hand the integration's time limits on to the driver."""
    limits = integration.config.timeouts
    driver, connect, read = dialect.driver, limits.connect, limits.read
    given: dict[str, Any] = {}
    if dialect.driver == "psycopg" and dialect.is_async:
        import psycopg

        from .psycopg import bounded_class

        given = {"async_creator_fn": bounded_class(integration, psycopg.AsyncConnection).connect}
    elif driver == "psycopg2":
        given = {
            "connect_timeout": max(math.ceil(connect), 2),
            "options": f"-c statement_timeout={math.ceil(read * 1000)}",
        }
    elif driver == "asyncpg":
        settings = {"statement_timeout": str(math.ceil(read * 1000))}
        given = {"timeout": connect, "command_timeout": read, "server_settings": settings}
    elif driver == "pg8000":
        given = {"timeout": max(connect, read)}
    elif driver in ("pymysql", "mysqldb"):  # in whole seconds
        names = {"connect_timeout": connect, "read_timeout": read, "write_timeout": limits.write}
        given = {name: max(math.ceil(seconds), 1) for name, seconds in names.items()}
    elif driver in ("aiomysql", "asyncmy"):
        given = {"connect_timeout": max(math.ceil(connect), 1)}
    for name, value in given.items():
        options.setdefault(name, value)


_classified: set[type] = set()


def _classify(dialect: Any) -> None:
    """Let errors of this driver be told by its dialect, unless we have a table of them."""
    root = dialect.loaded_dbapi.Error
    package = root.__module__.partition(".")[0]
    ours = package in sys.stdlib_module_names or (package != "sqlalchemy" and clients.knows(package))
    if ours or root in _classified:
        return
    _classified.add(root)

    def category(error: BaseException) -> ErrorCategory | None:
        if dialect.is_disconnect(error, None, None):
            return ErrorCategory.NETWORK
        for each in (error.__cause__, peek(error, "orig")):  # what the driver itself said, behind an async face
            if isinstance(each, BaseException) and (known := classify_error(each)) is not ErrorCategory.UNKNOWN:
                return known
        return _BY_NAME.get(next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _BY_NAME), ""))

    register_classifier(root, category)


_BY_NAME = {
    "DataError": ErrorCategory.VALIDATION,
    "IntegrityError": ErrorCategory.CLIENT_ERROR,
    "InternalError": ErrorCategory.SERVER_ERROR,
    "NotSupportedError": ErrorCategory.CLIENT_ERROR,
    "OperationalError": ErrorCategory.SERVER_ERROR,
    "ProgrammingError": ErrorCategory.CLIENT_ERROR,
}
"""What the classes of PEP 249 stand for, where a driver says nothing more."""
