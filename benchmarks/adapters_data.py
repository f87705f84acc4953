"""CPU time that the adapters of databases add to a call. `benchmarks/adapters.py` puts them beside the others."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

from failsoft import Registry
from tests.services.servers import HOST, Postgres, Valkey

Measure = Callable[[Callable[[], object]], float]
MeasureAsync = Callable[[Callable[[], Awaitable[object]]], float]


def _peer(type: str) -> Any:
    return Registry().integration("peer", type)


class _Socket:
    def gettimeout(self) -> float:
        return 1.0

    def settimeout(self, _: float) -> None: ...

    def sendall(self, _: bytes) -> None: ...

    def recv(self, _: int) -> bytes:
        return b"x"


def redis_added(measure: Measure) -> float:
    """The gate, and the limits of two waits of the socket, which cost a system call each besides."""
    from failsoft.adapters import redis as adapter

    class Pipeline:
        def execute(self) -> None: ...

        def immediate_execute_command(self) -> None: ...

    class Bare:
        socket: Any = _Socket()

        def execute_command(self, *_: object) -> None:
            self.socket.sendall(b"x")
            self.socket.recv(1)

    commands = adapter._Commands(_peer("cache"), Bare, Pipeline, True, adapter.IDEMPOTENT)
    guarded = type("Guarded", (adapter._Guarded, Bare), {"_commands": commands, "socket": adapter._Socket(_Socket())})()
    bare = Bare()
    return measure(lambda: guarded.execute_command("GET", "a")) - measure(lambda: bare.execute_command("GET", "a"))


def psycopg_added(measure: Measure) -> float:
    """The gate, and the wait that looks at the clock."""
    from failsoft.adapters import psycopg as adapter

    def work() -> Any:
        yield 1
        yield 2

    def drive(steps: Any) -> None:
        with contextlib.suppress(StopIteration):
            next(steps)
            while True:
                steps.send(1)

    class Bare:
        def execute(self, _: str) -> None:
            drive(work())

    def guarded_work(_: Any, __: str) -> None:
        seconds = adapter.remaining()
        drive(adapter._Wait(work(), seconds or 1.0, 1.0)())

    guard = _peer("database").guard(guarded_work, operation="EXECUTE", retry=False)
    bare = Bare()
    guarded: Any = type("Guarded", (adapter._Cursor, Bare), {"execute_guarded": guard})()
    return measure(lambda: guarded.execute("select 1")) - measure(lambda: bare.execute("select 1"))


def asyncpg_added(measure: MeasureAsync) -> float:
    from failsoft.adapters import asyncpg as adapter

    class Bare:
        async def execute(self, query: str, *args: object, timeout: float | None = None) -> None:
            await asyncio.sleep(0)

        def get_reset_query(self) -> str:
            return ""

    guard = _peer("database").guard(Bare.execute, operation="EXECUTE", retry=False)
    guarded: Any = type("Guarded", (adapter._Connection, Bare), {"execute_guarded": guard})()
    bare = Bare()
    return measure(lambda: guarded.execute("select 1")) - measure(lambda: bare.execute("select 1"))


def sqlalchemy_added(measure: Measure) -> float:
    from failsoft.adapters import sqlalchemy as adapter

    def do(*_: object) -> None: ...

    listener = adapter._listener(_peer("database").guard(do, operation="EXECUTE", retry=False))
    return measure(lambda: listener(1, 2, 3, 4)) - measure(lambda: do(1, 2, 3, 4))


def async_sqlalchemy_added(measure: MeasureAsync) -> float:
    from sqlalchemy.util import await_only, greenlet_spawn

    from failsoft.adapters import sqlalchemy as adapter

    def do(*_: object) -> None:
        await_only(asyncio.sleep(0))

    listener = adapter._async_listener(_peer("database").guard(do, operation="EXECUTE", retry=False))
    return measure(lambda: greenlet_spawn(listener, 1, 2, 3, 4)) - measure(lambda: greenlet_spawn(do, 1, 2, 3, 4))


def own(loop: asyncio.AbstractEventLoop, least: Any, repeated: Any, awaited: Any) -> dict[str, float]:
    """CPU microseconds of a call by each client alone: GET, or SELECT 1, to a server on this machine."""
    import asyncpg
    import psycopg
    import redis
    import redis.asyncio
    import sqlalchemy
    from sqlalchemy.ext.asyncio import create_async_engine

    runs: dict[str, Any] = {}
    one = sqlalchemy.text("select 1")
    with contextlib.ExitStack() as stack:
        valkey, postgres = stack.enter_context(Valkey()), stack.enter_context(Postgres())
        store = stack.enter_context(redis.Redis(HOST, valkey.port))
        runs["redis"] = repeated(lambda: store.get("a"), time.process_time)
        connection = stack.enter_context(psycopg.connect(postgres.conninfo, autocommit=True))
        runs["psycopg"] = repeated(lambda: connection.execute("select 1"), time.process_time)
        engine = sqlalchemy.create_engine(postgres.url.replace("postgresql", "postgresql+psycopg"))
        stack.callback(engine.dispose)
        session = stack.enter_context(engine.connect())
        runs["sqlalchemy psycopg"] = repeated(lambda: session.execute(one), time.process_time)
        store_async = redis.asyncio.Redis(host=HOST, port=valkey.port)
        stack.callback(lambda: loop.run_until_complete(store_async.aclose()))
        runs["redis async"] = awaited(loop, lambda: store_async.get("a"), time.process_time)
        plain = loop.run_until_complete(asyncpg.connect(postgres.url))
        stack.callback(lambda: loop.run_until_complete(plain.close()))
        runs["asyncpg"] = awaited(loop, lambda: plain.fetchval("select 1"), time.process_time)
        engine_async = create_async_engine(postgres.url.replace("postgresql", "postgresql+asyncpg"))
        stack.callback(lambda: loop.run_until_complete(engine_async.dispose()))
        session_async = engine_async.connect()
        loop.run_until_complete(session_async.start())
        stack.callback(lambda: loop.run_until_complete(session_async.close()))
        runs["sqlalchemy asyncpg"] = awaited(loop, lambda: session_async.execute(one), time.process_time)
        return {name: least(run, 60, 10) for name, run in runs.items()}


def added(loop: asyncio.AbstractEventLoop, least: Any, repeated: Any, awaited: Any) -> dict[str, float]:
    def measure(call: Callable[[], object]) -> float:
        return float(least(repeated(call), 400, 50))

    def measure_async(call: Callable[[], Awaitable[object]]) -> float:
        return float(least(awaited(loop, call), 400, 50))

    return {
        "redis": redis_added(measure),
        "redis async": asyncpg_added(measure_async),  # a guard before a coroutine function, as there
        "psycopg": psycopg_added(measure),
        "asyncpg": asyncpg_added(measure_async),
        "sqlalchemy psycopg": sqlalchemy_added(measure) + psycopg_added(measure),
        "sqlalchemy asyncpg": async_sqlalchemy_added(measure_async),
    }
