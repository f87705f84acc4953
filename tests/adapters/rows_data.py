"""The rows of database clients."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from importlib import import_module
from typing import Any, ClassVar

from failsoft import IntegrationType
from failsoft.testing.ports import HOST

from .behind import PostgresBehind, ValkeyBehind
from .matrix import Row

LATER = "The protocol has no way to ask for less, or to say when to come back."
ONE_CLASS = "The client raises the same, without the cause, as for a server that cannot be reached."
BUSY = "in flight"


ON_CONNECTING = ("refused", "malformed", "TLS failure")
"""Situations that end what connects; in the others the connection is there already."""


@contextlib.contextmanager
def uncounted(integration: Any, server: Any, situation: str) -> Iterator[None]:
    """What goes before the call: it passes the gate unseen, and a frozen server was not frozen yet."""
    if situation == "well":
        server.thaw()
    integration._registry.disable()
    yield
    integration._registry.enable()
    if situation == "well":
        server.freeze()


class _Valkey(Row):
    server = ValkeyBehind
    type = IntegrationType.CACHE
    impossible: ClassVar = {"429 + Retry-After": LATER}
    differs: ClassVar = {"TLS failure": ("NETWORK", "failure", ONE_CLASS)}
    in_flight = BUSY
    face = ""

    def __init__(self, library: str) -> None:
        self.library = library
        self.name = f"{library} async" if self.face else library  # type: ignore[misc]  # of the instance here
        self.deep = library == "valkey" or bool(self.face)  # type: ignore[misc]  # much the same code

    def prepare(self) -> None:
        import_module(self.library)

    def options(self, server: Any, situation: str) -> dict[str, Any]:
        options: dict[str, Any] = {"host": HOST, "port": server.port_for(situation)}
        if situation == "TLS failure":
            options.update(ssl=True, ssl_ca_certs=server.authority)
        return options

    def command(self, situation: str) -> tuple[Any, ...]:
        return {
            "4xx": ("GET", "list"),
            "503": ("SET", "more", "1"),
            BUSY: ("EVAL", "while true do end", 0),
            "well": ("GET", "short"),
        }.get(situation, ("GET", "long"))

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        from failsoft.adapters.redis import client

        with client(integration, import_module(self.library), **self.options(server, situation)) as store:
            if situation not in ON_CONNECTING:
                with uncounted(integration, server, situation):
                    store.ping()
            if situation == "503":
                self.fill_up(server)
            with server.fault(situation):
                return store.execute_command(*self.command(situation))

    def fill_up(self, server: Any) -> None:
        import valkey

        with valkey.Valkey(port=server.port) as store:
            store.config_set("maxmemory", "1")


class _AsyncValkey(_Valkey):
    face = ".asyncio"

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        return asyncio.run(self.provoke_async(server, situation, integration))

    async def provoke_async(self, server: Any, situation: str, integration: Any) -> object:
        from failsoft.adapters.redis import async_client

        options = self.options(server, situation)
        async with async_client(integration, import_module(self.library), **options) as store:
            if situation not in ON_CONNECTING:
                with uncounted(integration, server, situation):
                    await store.ping()
            if situation == "503":
                self.fill_up(server)
            with server.fault(situation):
                return await store.execute_command(*self.command(situation))


LONG_ANSWER = "select repeat('x', 20000)"
SAID = {
    "4xx": "selec 1",
    "503": "do $$ begin raise exception 'the disk is full' using errcode = '53100'; end $$",
    BUSY: "select pg_sleep(20)",
    "well": "select 1",
}


class _Postgres(Row):
    server = PostgresBehind
    type = IntegrationType.DATABASE
    impossible: ClassVar = {"429 + Retry-After": LATER}
    in_flight = BUSY

    def prepare(self) -> None:
        for library in self.name.split():
            if library != "async":
                import_module(library)

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        return asyncio.run(self.provoke_async(server, situation, integration))

    async def provoke_async(self, server: Any, situation: str, integration: Any) -> object:
        raise NotImplementedError


class Psycopg(_Postgres):
    name = "psycopg"
    differs: ClassVar = {
        "malformed": ("NETWORK", "failure", ONE_CLASS),
        "TLS failure": ("NETWORK", "failure", ONE_CLASS),
    }

    def conninfo(self, server: Any, situation: str) -> str:
        secure = f"verify-full sslrootcert={server.authority}" if situation == "TLS failure" else "disable"
        return f"{server.conninfo} port={server.port_for(situation)} gssencmode=disable sslmode={secure}"

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        from failsoft.adapters.psycopg import connect

        conninfo = self.conninfo(server, situation)
        if situation in ON_CONNECTING:
            return connect(integration, conninfo)
        with uncounted(integration, server, situation):
            connection = connect(integration, conninfo, autocommit=True)
        with connection, server.fault(situation):
            return connection.execute(SAID.get(situation, LONG_ANSWER))


class AsyncPsycopg(Psycopg):
    name = "psycopg async"
    deep = True

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        return asyncio.run(self.provoke_async(server, situation, integration))

    async def provoke_async(self, server: Any, situation: str, integration: Any) -> object:
        from failsoft.adapters.psycopg import async_connect

        conninfo = self.conninfo(server, situation)
        if situation in ON_CONNECTING:
            return await async_connect(integration, conninfo)
        with uncounted(integration, server, situation):
            connection = await async_connect(integration, conninfo, autocommit=True)
        async with connection:
            with server.fault(situation):
                return await connection.execute(SAID.get(situation, LONG_ANSWER))


def context_for(server: Any, situation: str) -> Any:
    return ssl.create_default_context(cafile=server.authority) if situation == "TLS failure" else False


class Asyncpg(_Postgres):
    name = "asyncpg"
    differs: ClassVar = {
        "malformed": ("UNKNOWN", "failure", "asyncpg raises its InterfaceError, which a mistake of its user is too."),
    }

    async def provoke_async(self, server: Any, situation: str, integration: Any) -> object:
        from failsoft.adapters.asyncpg import connect

        url, secure = server.url_for(situation), context_for(server, situation)
        if situation in ON_CONNECTING:
            return await connect(integration, url, ssl=secure)
        with uncounted(integration, server, situation):
            connection = await connect(integration, url, ssl=secure)
        try:
            with server.fault(situation):
                return await connection.fetch(SAID.get(situation, LONG_ANSWER))
        finally:
            connection.terminate()


class SqlalchemyPsycopg(_Postgres):
    name = "sqlalchemy psycopg"
    deep = True
    differs: ClassVar = Psycopg.differs

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        import sqlalchemy

        from failsoft.adapters.sqlalchemy import protect

        secure = {"sslmode": "disable"}
        if situation == "TLS failure":
            secure = {"sslmode": "verify-full", "sslrootcert": server.authority}
        url = server.url_for(situation, "postgresql+psycopg")
        engine = sqlalchemy.create_engine(url, connect_args=secure)
        try:
            protect(engine, integration)
            if situation not in ON_CONNECTING:
                with uncounted(integration, server, situation), engine.connect():
                    pass
            with engine.connect() as connection, server.fault(situation):
                return connection.execute(sqlalchemy.text(SAID.get(situation, LONG_ANSWER)))
        finally:
            engine.dispose()


class SqlalchemyAsyncpg(_Postgres):
    name = "sqlalchemy asyncpg"
    differs: ClassVar = {
        "malformed": (
            "NETWORK",
            "failure",
            "SQLAlchemy makes an InterfaceError of it, which says that the connection is of no use.",
        ),
    }

    def prepare(self) -> None:
        super().prepare()
        import_module("greenlet")

    async def provoke_async(self, server: Any, situation: str, integration: Any) -> object:
        import sqlalchemy
        from sqlalchemy.ext.asyncio import create_async_engine

        from failsoft.adapters.sqlalchemy import protect

        url = server.url_for(situation, "postgresql+asyncpg")
        engine = create_async_engine(url, connect_args={"ssl": context_for(server, situation)})
        try:
            protect(engine, integration)
            if situation not in ON_CONNECTING:
                with uncounted(integration, server, situation):
                    async with engine.connect():
                        pass
            async with engine.connect() as connection:
                with server.fault(situation):
                    return await connection.execute(sqlalchemy.text(SAID.get(situation, LONG_ANSWER)))
        finally:
            await engine.dispose()


ROWS: list[Row] = [
    *(row(library) for library in ("redis", "valkey") for row in (_Valkey, _AsyncValkey)),
    Psycopg(),
    AsyncPsycopg(),
    Asyncpg(),
    SqlalchemyPsycopg(),
    SqlalchemyAsyncpg(),
]
