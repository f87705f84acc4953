"""asyncpg through an integration: its connections and its pool.

    from failsoft.adapters.asyncpg import pool

    database = failsoft.integration("orders", "database")
    async with pool(database, "postgresql://127.0.0.1/orders") as connections:
        await connections.fetch("select 1")

Connecting is retried; what is executed is not, for nobody here knows what it has done.
"""

from __future__ import annotations

import contextlib
import math
from functools import lru_cache

try:
    import asyncpg
except ModuleNotFoundError as error:
    if error.name != "asyncpg":
        raise
    raise ImportError("asyncpg is not installed: pip install 'failsoft[postgres]'") from error

from .._core import remaining
from ..deadlines import lifted_if_late
from ..integrations import Integration
from .openings import refuse_while_open

__all__ = ["connect", "connection_class", "pool"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PATIENCE = 0.25
"""Seconds that a server is given at least when a connection goes back to its pool, though no time is left."""

_ENDINGS = ("COMMIT", "ROLLBACK", "RELEASE ")
"""What transactions end with: an open circuit must not part one from its end."""

_GUARDED = ("executemany", "fetch", "fetchmany", "fetchrow", "fetchval")


async def connect(integration: Integration, dsn: str | None = None, *, retry: bool = True, **options: Any) -> Any:
    """An `asyncpg.Connection` whose statements go through the integration, under EXECUTE; connecting is CONNECT.

    `execute`, `executemany` and the `fetch`es are guarded, and cancelled when their time is up: what is left of the
    attempt, or of any deadline around it. COMMIT, ROLLBACK, prepared statements, cursors and COPY are not counted, and
    bounded by `command_timeout`.

    - `retry=False`: one attempt to connect.
    - `options`: those of `asyncpg.connect`. Unless given, `timeout` is `timeouts.connect`, `command_timeout` is
      `timeouts.read`, and so is the server's own statement_timeout in `server_settings` (which PgBouncer refuses: give
      it `{}`).
    """
    cls = connection_class(integration, options.pop("connection_class", asyncpg.Connection))
    return await _connecting(integration, retry)(dsn, connection_class=cls, **_settings(integration, options))


def pool(integration: Integration, dsn: str | None = None, *, retry: bool = True, **options: Any) -> Any:
    """An `asyncpg.Pool` of such connections, to be entered by `async with` or awaited. `options`: of `create_pool`.

    While the circuit is open, a connection is refused at once instead of waited for; otherwise one is waited for as
    long as `acquire(timeout=)` says, `timeouts.connect` by default, and never longer than a deadline around it. To wait
    in vain is no failure of the server's. A connection that cannot be reset on its way back is dropped in silence.
    """
    cls = connection_class(integration, options.pop("connection_class", asyncpg.Connection))
    settings = {"connect": _for_pool(_connecting(integration, retry)), **_settings(integration, options)}
    made = asyncpg.create_pool(dsn, connection_class=cls, **settings)
    made.__class__ = _pool_class(integration)
    return made


@lru_cache(maxsize=64)
def connection_class(integration: Integration, base: Any = asyncpg.Connection) -> Any:
    """The class of such connections, for pools and frameworks that want to be told one."""
    if not isinstance(integration, Integration):
        raise TypeError(f"integration must be an Integration, got {integration!r}")
    guards = {
        name: _counted(integration.guard(getattr(base, name), operation="EXECUTE", retry=False)) for name in _GUARDED
    }
    execute = integration.guard(base.execute, operation="EXECUTE", retry=False)
    body = {"__slots__": (), "__module__": base.__module__, "execute_guarded": execute, **guards}
    return type(base)(base.__name__, (_Connection, base), body)


def _counted(guard: Any) -> Any:
    """A method: the proxies of a pool look for functions."""

    def method(self: Any, *args: Any, **options: Any) -> Any:
        return guard(self, *args, **options)

    return method


@lru_cache(maxsize=64)
def _connecting(integration: Integration, retry: bool) -> Any:
    return integration.guard(asyncpg.connect, operation="CONNECT", retry=retry)


def _for_pool(connecting: Any) -> Any:
    async def connect(*args: Any, **options: Any) -> Any:
        # The pool keeps its connections up in tasks that were begun under the deadline of whoever lost one.
        with lifted_if_late():
            return await connecting(*args, **options)

    return connect


@lru_cache(maxsize=64)
def _pool_class(integration: Integration) -> Any:
    return type("Pool", (_Pool,), {"__slots__": (), "integration": integration, "__module__": _Pool.__module__})


def _settings(integration: Integration, options: dict[str, Any]) -> dict[str, Any]:
    limits = integration.config.timeouts
    told = {"statement_timeout": str(math.ceil(limits.read * 1000))}
    return {"timeout": limits.connect, "command_timeout": limits.read, "server_settings": told, **options}


class _Connection:
    __slots__ = ()
    execute_guarded: Any

    def execute(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        if not args and (query.startswith(_ENDINGS) or query == self.get_reset_query()):  # type: ignore[attr-defined]
            return super().execute(query, timeout=timeout)  # type: ignore[misc]  # of asyncpg's
        return self.execute_guarded(query, *args, timeout=timeout)


class _Pool(asyncpg.Pool):  # type: ignore[misc]  # untyped
    __slots__ = ()
    integration: Integration

    async def _acquire(self, timeout: float | None) -> Any:
        refuse_while_open(self.integration, "CONNECT")
        seconds, left = self.integration.config.timeouts.connect if timeout is None else timeout, remaining()
        return await super()._acquire(seconds if left is None else min(seconds, left))

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        seconds, left = self.integration.config.timeouts.connect if timeout is None else timeout, remaining()
        if left is not None:
            seconds = min(seconds, max(left, _PATIENCE))
        # Otherwise it has been dropped, and there will be another; who used it has had an answer, or an error.
        with contextlib.suppress(TimeoutError, OSError, asyncpg.PostgresError):
            await super().release(connection, timeout=seconds)
