"""What the clients of real servers raise when those freeze, die, come back or refuse, and what we make of it.

The table is the record: the class that a client raised in each situation, and the category that fits.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from failsoft import ErrorCategory, classify_error

if TYPE_CHECKING:
    from .servers import Postgres, Valkey

pytestmark = pytest.mark.skipif(os.name != "posix", reason="servers are frozen and killed by signals")

TIMEOUT, NETWORK, SERVER_ERROR = ErrorCategory.TIMEOUT, ErrorCategory.NETWORK, ErrorCategory.SERVER_ERROR
CLIENT_ERROR, VALIDATION, UNKNOWN = ErrorCategory.CLIENT_ERROR, ErrorCategory.VALIDATION, ErrorCategory.UNKNOWN

POSTGRES = {
    "asyncpg, frozen: connect": ("builtins.TimeoutError", TIMEOUT),
    "asyncpg, frozen: query on an open connection": ("builtins.TimeoutError", TIMEOUT),
    "asyncpg, killed: query in flight": ("asyncpg.exceptions.ConnectionDoesNotExistError", NETWORK),
    "asyncpg, killed: query on an open connection": ("asyncpg.exceptions.ConnectionDoesNotExistError", NETWORK),
    # So says misuse too: the class cannot tell.
    "asyncpg, killed: query after that": ("asyncpg.exceptions._base.InterfaceError", UNKNOWN),
    "asyncpg, killed: connect": ("builtins.ConnectionRefusedError", NETWORK),
    "asyncpg, stopped: query on an open connection": ("asyncpg.exceptions.ConnectionDoesNotExistError", NETWORK),
    "asyncpg, full: connect": ("asyncpg.exceptions.TooManyConnectionsError", SERVER_ERROR),
    "asyncpg, well: statement timeout": ("asyncpg.exceptions.QueryCanceledError", TIMEOUT),
    "asyncpg, well: bad SQL": ("asyncpg.exceptions.PostgresSyntaxError", CLIENT_ERROR),
    "asyncpg, well: division by zero": ("asyncpg.exceptions.DivisionByZeroError", CLIENT_ERROR),
    "asyncpg, well: no such database": ("asyncpg.exceptions.InvalidCatalogNameError", CLIENT_ERROR),
    "psycopg, frozen: connect": ("psycopg.errors.ConnectionTimeout", TIMEOUT),
    "psycopg, killed: query on an open connection": ("psycopg.OperationalError", NETWORK),
    "psycopg, killed: query after that": ("psycopg.OperationalError", NETWORK),
    "psycopg, killed: connect": ("psycopg.OperationalError", NETWORK),
    "psycopg, stopped: query on an open connection": ("psycopg.errors.AdminShutdown", SERVER_ERROR),
    # Neither class nor SQLSTATE sets a refusal while connecting apart from a server that is not there.
    "psycopg, full: connect": ("psycopg.OperationalError", NETWORK),
    "psycopg, well: no such database": ("psycopg.OperationalError", NETWORK),
    "psycopg, well: statement timeout": ("psycopg.errors.QueryCanceled", TIMEOUT),
    "psycopg, well: bad SQL": ("psycopg.errors.SyntaxError", CLIENT_ERROR),
    "psycopg, well: division by zero": ("psycopg.errors.DivisionByZero", CLIENT_ERROR),
}

VALKEY = {
    "valkey, frozen: get": ("valkey.exceptions.TimeoutError", TIMEOUT),
    "valkey, frozen: connect": ("valkey.exceptions.TimeoutError", TIMEOUT),
    "valkey, killed: get": ("valkey.exceptions.ConnectionError", NETWORK),
    "valkey, killed: connect": ("valkey.exceptions.ConnectionError", NETWORK),
    "valkey, well: wrong type of key": ("valkey.exceptions.ResponseError", CLIENT_ERROR),
    "valkey, well: no such command": ("valkey.exceptions.ResponseError", CLIENT_ERROR),
    "valkey, well: value of a bad type": ("valkey.exceptions.DataError", VALIDATION),
    "valkey, full: set": ("valkey.exceptions.OutOfMemoryError", SERVER_ERROR),
    "valkey.asyncio, frozen: get": ("valkey.exceptions.TimeoutError", TIMEOUT),
    "valkey.asyncio, frozen: connect": ("valkey.exceptions.TimeoutError", TIMEOUT),
    "valkey.asyncio, killed: get": ("valkey.exceptions.ConnectionError", NETWORK),
    "valkey.asyncio, killed: blocked call": ("valkey.exceptions.ConnectionError", NETWORK),
    "valkey.asyncio, killed: connect": ("valkey.exceptions.ConnectionError", NETWORK),
}


async def _error_of(call: Awaitable[object] | Callable[[], object]) -> Exception:
    """What a call raises; the blocking ones of sync clients are given as functions, for nothing else runs here."""
    try:
        outcome = call() if callable(call) else await call
    except Exception as error:
        return error
    raise AssertionError(f"the call was answered: {outcome!r}")


async def _happen_to_postgres(server: Postgres) -> dict[str, Exception]:
    import asyncpg
    import psycopg

    found: dict[str, Exception] = {}

    async def note(situation: str, call: Awaitable[object] | Callable[[], object]) -> None:
        found[situation] = await _error_of(call)

    def connect(**options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(server.conninfo, autocommit=True, **{"connect_timeout": 2, **options})

    async def aconnect(**options: Any) -> Any:
        return await asyncpg.connect(server.url, **{"timeout": 5, **options})

    first, second, third = [await aconnect() for _ in range(3)]
    sync = connect()

    await note("asyncpg, well: bad SQL", first.execute("SELEC"))
    await note("asyncpg, well: division by zero", first.execute("SELECT 1/0"))
    await note("asyncpg, well: no such database", aconnect(database="none"))
    await note("asyncpg, well: statement timeout", first.execute("SET statement_timeout = 20; SELECT pg_sleep(60)"))
    await note("psycopg, well: bad SQL", lambda: sync.execute("SELEC"))
    await note("psycopg, well: division by zero", lambda: sync.execute("SELECT 1/0"))
    await note("psycopg, well: no such database", lambda: connect(dbname="none"))
    await note(
        "psycopg, well: statement timeout", lambda: sync.execute("SET statement_timeout = 20; SELECT pg_sleep(60)")
    )

    await first.execute("CREATE ROLE crowd LOGIN CONNECTION LIMIT 0")
    await note("asyncpg, full: connect", aconnect(user="crowd"))
    await note("psycopg, full: connect", lambda: connect(user="crowd"))
    await first.execute("DROP ROLE crowd")

    server.freeze()
    await note("asyncpg, frozen: connect", aconnect(timeout=0.1))
    await note("asyncpg, frozen: query on an open connection", first.execute("SELECT 1", timeout=0.1))
    await note("psycopg, frozen: connect", connect)  # two seconds, the least it takes
    server.thaw()

    in_flight = asyncio.create_task(second.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.05)
    server.kill()
    await note("asyncpg, killed: query on an open connection", third.execute("SELECT 1"))  # before the loop looks
    await note("asyncpg, killed: query in flight", in_flight)
    await note("asyncpg, killed: query after that", third.execute("SELECT 1"))
    await note("asyncpg, killed: connect", aconnect())
    await note("psycopg, killed: query on an open connection", lambda: sync.execute("SELECT 1"))
    await note("psycopg, killed: query after that", lambda: sync.execute("SELECT 1"))
    await note("psycopg, killed: connect", connect)

    server.restart()
    fourth, sync = await aconnect(), connect()
    server.stop()
    await note("asyncpg, stopped: query on an open connection", fourth.execute("SELECT 1"))
    await note("psycopg, stopped: query on an open connection", lambda: sync.execute("SELECT 1"))
    return found


async def _happen_to_valkey(server: Valkey) -> dict[str, Exception]:
    import valkey
    import valkey.asyncio

    found: dict[str, Exception] = {}

    async def note(situation: str, call: Awaitable[object] | Callable[[], object]) -> None:
        found[situation] = await _error_of(call)

    options = {"port": server.port, "socket_timeout": 0.1, "socket_connect_timeout": 0.1}
    sync, other = valkey.Valkey(**options), valkey.asyncio.Valkey(**options)
    sync_anew, other_anew = valkey.Valkey(**options), valkey.asyncio.Valkey(**options)
    patient = valkey.asyncio.Valkey(port=server.port)

    sync.set("text", "value")
    await other.set("text", "value")
    await note("valkey, well: wrong type of key", lambda: sync.lpush("text", 1))
    await note("valkey, well: no such command", lambda: sync.execute_command("NOPE"))
    await note("valkey, well: value of a bad type", lambda: sync.set("text", {}))
    sync.config_set("maxmemory", 1)
    await note("valkey, full: set", lambda: sync.set("more", "value"))
    sync.config_set("maxmemory", 0)

    server.freeze()
    await note("valkey, frozen: get", lambda: sync.get("text"))
    await note("valkey, frozen: connect", lambda: sync_anew.get("text"))
    await note("valkey.asyncio, frozen: get", other.get("text"))
    await note("valkey.asyncio, frozen: connect", other_anew.get("text"))
    server.thaw()

    blocked = asyncio.create_task(patient.blpop("nothing", timeout=60))
    await asyncio.sleep(0.05)
    server.kill()
    await note("valkey.asyncio, killed: blocked call", blocked)
    await note("valkey, killed: get", lambda: sync.get("text"))
    await note("valkey, killed: connect", lambda: sync_anew.get("text"))
    await note("valkey.asyncio, killed: get", other.get("text"))
    await note("valkey.asyncio, killed: connect", other_anew.get("text"))
    for client in (sync, sync_anew):
        client.close()
    for client in (other, other_anew, patient):
        await client.aclose()
    return found


@pytest.fixture(scope="module")
def postgres_errors(_failsoft_postgres_of_the_run: Postgres) -> dict[str, Exception]:
    pytest.importorskip("psycopg", exc_type=ImportError)
    pytest.importorskip("asyncpg", exc_type=ImportError)
    _failsoft_postgres_of_the_run.revive()
    return asyncio.run(_happen_to_postgres(_failsoft_postgres_of_the_run))


@pytest.fixture(scope="module")
def valkey_errors(_failsoft_valkey_of_the_run: Valkey) -> dict[str, Exception]:
    pytest.importorskip("valkey", exc_type=ImportError)
    _failsoft_valkey_of_the_run.revive()
    return asyncio.run(_happen_to_valkey(_failsoft_valkey_of_the_run))


def _check(error: Exception, raised: str, fitting: ErrorCategory) -> None:
    cls = type(error)
    assert f"{cls.__module__}.{cls.__qualname__}" == raised, repr(error)
    assert classify_error(error) is fitting


@pytest.mark.parametrize("situation", POSTGRES)
def test_errors_of_postgres_clients(postgres_errors: dict[str, Exception], situation: str) -> None:
    _check(postgres_errors[situation], *POSTGRES[situation])


@pytest.mark.parametrize("situation", VALKEY)
def test_errors_of_valkey_clients(valkey_errors: dict[str, Exception], situation: str) -> None:
    _check(valkey_errors[situation], *VALKEY[situation])
