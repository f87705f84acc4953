"""The adapters of database clients: what they count, send again, refuse and bound."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from failsoft import CircuitOpenError, Integration, IntegrationTimeoutError, Registry, classify_error, deadline

servers = pytest.importorskip("tests.services.servers", exc_type=ImportError)

from failsoft.testing import FaultProxy  # noqa: E402

HOST = "127.0.0.1"


@pytest.fixture
def cache() -> Integration:
    return Registry().integration("cache", "cache", retry_policy={"max_retries": 2, "initial_delay": 0.01})


@pytest.fixture
def database() -> Integration:
    return Registry().integration("orders", "database", retry_policy={"max_retries": 2, "initial_delay": 0.01})


@pytest.fixture
def store(serve: Callable[[Any], Any]) -> Any:
    return serve(servers.Valkey)


@pytest.fixture
def postgres(serve: Callable[[Any], Any]) -> Any:
    return serve(servers.Postgres)


def counts(integration: Integration, operation: str) -> tuple[int, int, int]:
    """(attempts, of them failures, retries)."""
    numbers = integration.metrics(operation)
    return numbers.count, numbers.error_count, numbers.retries


# ---- redis and valkey


@pytest.fixture(params=["redis", pytest.param("valkey", marks=pytest.mark.deep)])
def library(request: pytest.FixtureRequest) -> Any:
    return pytest.importorskip(request.param)


def test_a_command_is_an_operation(library: Any, store: Any, cache: Integration) -> None:
    from failsoft.adapters.redis import client

    with client(cache, library, port=store.port, decode_responses=True) as made:
        assert made.set("a", 1)
        assert made.get("a") == "1"
        with pytest.raises(library.exceptions.ResponseError):
            made.lpush("a", 1)
        assert counts(cache, "GET") == (1, 0, 0)
        assert counts(cache, "LPUSH")[0] == 1
        assert cache.status().failures == 0
        assert isinstance(made, library.Redis if hasattr(library, "Redis") else library.Valkey)


def test_a_pipeline_is_one_operation_and_a_transaction_is_guarded(library: Any, store: Any, cache: Integration) -> None:
    from failsoft.adapters.redis import client

    with client(cache, library, port=store.port, decode_responses=True) as made:
        made.set("n", 1)

        def more(pipe: Any) -> None:
            n = int(pipe.get("n"))
            pipe.multi()
            pipe.set("n", n + 1)

        assert made.transaction(more, "n") == [True]
        assert made.pipeline().get("n").incr("n").execute() == ["2", 3]
        assert counts(cache, "PIPELINE")[0] == 2
        assert counts(cache, "WATCH")[0] >= 2
        cache.force_open()
        with pytest.raises(CircuitOpenError):
            made.pipeline().get("n").execute()


def test_what_may_be_sent_twice_is(library: Any, store: Any, cache: Integration) -> None:
    """The connection breaks with the first command: a GET goes again, INCR, SET NX and a pipeline do not."""
    from failsoft.adapters.redis import client

    with FaultProxy((HOST, store.port)) as proxy, client(cache, library, port=proxy.port) as made:
        made.delete("n", "lock")
        calls: list[tuple[str, Callable[[], Any], int]] = [
            ("GET", lambda: made.get("n"), 1),
            ("INCRBY", lambda: made.incr("n"), 0),
            ("SET", lambda: made.set("lock", 1, nx=True), 0),
            ("PIPELINE", lambda: made.pipeline(transaction=False).incr("n").execute(), 0),
        ]
        for operation, call, again in calls:
            made.ping()
            proxy.set(reset_after=0)
            timer = threading.Timer(0.005, proxy.clear)
            timer.start()
            try:
                call()
            except library.exceptions.ConnectionError:
                assert not again, operation
            timer.join()
            assert (counts(cache, operation)[2] > 0) == bool(again), operation


def test_a_refused_connection_is_tried_again_for_any_command(library: Any, cache: Integration) -> None:
    from failsoft.adapters.redis import client

    with client(cache, library, port=servers_free_port()) as made, pytest.raises(library.exceptions.ConnectionError):
        made.incr("n")
    assert counts(cache, "INCRBY") == (3, 3, 2)


def test_none_of_the_clients_own_retries_are_on(store: Any, cache: Integration) -> None:
    redis = pytest.importorskip("redis")
    from failsoft.adapters.redis import async_client, client

    for made in (client(cache, redis, port=store.port), async_client(cache, redis, port=store.port)):
        assert made.connection_pool.connection_kwargs["retry"]._retries == 0
        assert made.connection_pool.connection_kwargs["socket_timeout"] == cache.config.timeouts.read
    for option in ("retry_on_timeout", "connection_pool"):
        with pytest.raises(TypeError, match=option):
            client(cache, redis, **{option: True})
    with pytest.raises(TypeError, match="retry_policy"):
        client(cache, redis, retry=redis.retry.Retry(None, 10))
    with pytest.raises(TypeError, match="several names"):
        client(cache, redis, retry_commands="GET")


def test_the_pieces_of_an_answer_share_one_deadline(library: Any, store: Any, cache: Integration) -> None:
    from failsoft.adapters.redis import client

    with FaultProxy((HOST, store.port)) as proxy, client(cache, library, port=proxy.port, retry=False) as made:
        made.set("long", "x" * 5000)
        began = time.monotonic()
        with proxy.fault(slice=1, slice_delay=0.02), deadline(0.1):
            with pytest.raises(library.exceptions.TimeoutError):
                made.get("long")
        assert 0.05 < time.monotonic() - began < 1.5
        assert made.get("long") == b"x" * 5000


def test_what_blocks_for_others_is_not_counted(library: Any, store: Any, cache: Integration) -> None:
    from failsoft.adapters.redis import client

    with client(cache, library, port=store.port) as made:
        assert made.blpop(["nothing"], timeout=0.05) is None
        assert made.xread({"nothing": "$"}, block=20) in (None, [], {})
        assert not {"BLPOP", "XREAD"} & set(cache.operations)
        cache.force_open()
        for block in (lambda: made.blpop(["nothing"], timeout=1), lambda: made.xread({"nothing": "$"}, block=1000)):
            with pytest.raises(CircuitOpenError):
                block()


def test_async_commands_are_cancelled_in_time(library: Any, store: Any, cache: Integration) -> None:
    from failsoft.adapters.redis import async_client

    async def main() -> None:
        async with async_client(cache, library, port=store.port, retry=False) as made:
            assert await made.set("a", 1)
            assert await made.pipeline().get("a").execute() == [b"1"]
            store.freeze()
            with deadline(0.1), pytest.raises(IntegrationTimeoutError):
                await made.get("a")
            store.thaw()
            assert await made.get("a") == b"1"

    asyncio.run(main())
    assert counts(cache, "GET") == (2, 1, 0)


def test_messages_feed_a_stream(library: Any, store: Any) -> None:
    from failsoft.adapters.redis import async_client, messages

    market = Registry().integration("market", "market_data", timeouts={"read": 0.1})

    async def main() -> list[Any]:
        async with async_client(market, library, port=store.port) as made:
            stream = market.stream(lambda: messages(made, "quotes", patterns=["news.*"]), stale_after=5.0)
            async with stream:
                got = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(0.25)  # longer than its socket may be silent
                while not await made.publish("quotes", "101"):
                    await asyncio.sleep(0.01)
                first = await got
                await made.publish("news.btc", "up")
                return [first["data"], (await anext(stream))["data"], stream.metrics().reconnects]

    assert asyncio.run(main()) == [b"101", b"up", 0]


# ---- psycopg


def test_psycopg_statements_and_their_ends(postgres: Any, database: Integration) -> None:
    psycopg = pytest.importorskip("psycopg")
    from failsoft.adapters.psycopg import connect

    with connect(database, postgres.conninfo) as connection:
        assert isinstance(connection, psycopg.Connection)
        assert connection.execute("show statement_timeout").fetchone() == ("10s",)
        with pytest.raises(psycopg.errors.SyntaxError):
            connection.execute("selec")
        database.force_open()
        connection.rollback()
        with pytest.raises(CircuitOpenError):
            connection.execute("select 1")
        connection.commit()
    assert counts(database, "CONNECT") == (1, 0, 0)
    assert counts(database, "EXECUTE")[:2] == (2, 0)


def test_psycopg_stops_a_statement_and_keeps_its_connection(postgres: Any, database: Integration) -> None:
    psycopg = pytest.importorskip("psycopg")
    from failsoft.adapters.psycopg import connect

    for _ in range(4):  # a busy machine may take longer to confirm it than it is given
        with connect(database, postgres.conninfo, autocommit=True) as connection:
            began = time.monotonic()
            with deadline(0.1), pytest.raises(psycopg.errors.QueryCanceled) as caught:
                connection.execute("select pg_sleep(5)")
            assert time.monotonic() - began < 1.5
            assert isinstance(caught.value, IntegrationTimeoutError)
            if not connection.closed:
                assert connection.execute("select 1").fetchone() == (1,)
                return
    pytest.fail("the connection was closed each time")


def test_psycopg_waits_outside_of_statements_are_bounded_too(postgres: Any) -> None:
    pytest.importorskip("psycopg")
    from failsoft.adapters.psycopg import connect

    database = Registry().integration("orders", "database", timeouts={"overall": 0.2})
    with connect(database, postgres.conninfo) as connection:
        connection.execute("select 1")
        postgres.freeze()
        with pytest.raises(IntegrationTimeoutError):
            connection.commit()
        postgres.thaw()
        assert connection.closed


def test_psycopg_waits_for_notifications_as_long_as_it_is_told(postgres: Any) -> None:
    pytest.importorskip("psycopg")
    from failsoft.adapters.psycopg import connect

    database = Registry().integration("orders", "database", timeouts={"overall": 0.1, "read": 0.1})
    with connect(database, postgres.conninfo, autocommit=True) as connection:
        connection.execute("listen news")
        began = time.monotonic()
        assert list(connection.notifies(timeout=0.5)) == []
        assert time.monotonic() - began > 0.4


def test_psycopg_leaves_the_options_of_others_alone(postgres: Any, database: Integration) -> None:
    pytest.importorskip("psycopg")
    from failsoft.adapters.psycopg import connect

    with connect(database, f"{postgres.conninfo} options='-c search_path=app'") as connection:
        assert connection.execute("show search_path").fetchone() == ("app",)
        assert connection.execute("show statement_timeout").fetchone() == ("0",)


def test_psycopg_retries_connecting_only(database: Integration) -> None:
    psycopg = pytest.importorskip("psycopg")
    from failsoft.adapters.psycopg import connect

    with pytest.raises(psycopg.OperationalError):
        connect(database, f"host={HOST} port={servers_free_port()}")
    assert counts(database, "CONNECT") == (3, 3, 2)


def test_psycopg_pools_refuse_at_once(postgres: Any, database: Integration) -> None:
    psycopg = pytest.importorskip("psycopg")
    pytest.importorskip("psycopg_pool")
    from failsoft.adapters.psycopg import async_pool, pool

    with pool(database, postgres.conninfo, min_size=1) as connections:
        with connections.connection() as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        database.force_open()
        with pytest.raises(CircuitOpenError):
            connections.getconn()
        database.reset()

    async def main() -> None:
        async with async_pool(database, postgres.conninfo, min_size=1) as connections:
            async with connections.connection() as connection:
                assert await (await connection.execute("select 1")).fetchone() == (1,)
            with contextlib.suppress(psycopg.OperationalError):  # where it was closed there is nothing to commit
                async with connections.connection() as connection:
                    with deadline(0.1), pytest.raises(IntegrationTimeoutError):
                        await connection.execute("select pg_sleep(5)")
            database.force_open()
            with pytest.raises(CircuitOpenError):
                await connections.getconn()

    asyncio.run(main())


def test_psycopg_classes_are_made_once(database: Integration) -> None:
    pytest.importorskip("psycopg")
    from failsoft.adapters.psycopg import connection_class

    assert connection_class(database) is connection_class(database)


# ---- asyncpg


def test_asyncpg_pool(postgres: Any, database: Integration) -> None:
    pytest.importorskip("asyncpg")
    from failsoft.adapters.asyncpg import pool

    async def main() -> None:
        async with pool(database, postgres.url, min_size=1, max_size=2) as connections:
            assert await connections.fetchval("select 1") == 1
            async with connections.acquire() as connection:
                transaction = connection.transaction()
                await transaction.start()
                assert await connection.fetchrow("show statement_timeout") == ("10s",)
                database.force_open()
                with pytest.raises(CircuitOpenError):
                    await connection.execute("select 1")
                await transaction.rollback()
            with pytest.raises(CircuitOpenError):
                await connections.acquire()
            database.reset()
            with deadline(0.1), pytest.raises(IntegrationTimeoutError):
                await connections.execute("select pg_sleep(5)")
            assert await connections.fetchval("select 1") == 1

    asyncio.run(main())
    assert counts(database, "CONNECT") == (1, 0, 0)
    assert counts(database, "EXECUTE")[:2] == (5, 1)


def test_asyncpg_gives_a_frozen_server_little_time_to_take_a_connection_back(postgres: Any, database: Any) -> None:
    pytest.importorskip("asyncpg")
    from failsoft.adapters.asyncpg import pool

    async def main() -> float:
        async with pool(database, postgres.url, min_size=1, max_size=1) as connections:
            postgres.freeze()
            began = time.monotonic()
            with deadline(0.1), pytest.raises(IntegrationTimeoutError):
                await connections.fetchval("select 1")
            took = time.monotonic() - began
            postgres.thaw()
            assert await connections.fetchval("select 1") == 1
            return took

    assert asyncio.run(main()) < 1.5


# ---- SQLAlchemy


@pytest.fixture
def engine(postgres: Any, database: Integration) -> Iterator[Any]:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg")
    from failsoft.adapters.sqlalchemy import protect

    engine = sqlalchemy.create_engine(postgres.url.replace("postgresql", "postgresql+psycopg"))
    engine.counts = protect(engine, database)
    yield engine
    engine.dispose()


def test_sqlalchemy_counts_what_it_does(engine: Any, database: Integration) -> None:
    import sqlalchemy

    with engine.begin() as connection:
        assert engine.counts.in_use == 1
        assert connection.execute(sqlalchemy.text("show statement_timeout")).all() == [("10s",)]
        connection.execute(sqlalchemy.text("create temp table t (a int unique)"))
        connection.execute(sqlalchemy.text("insert into t values (:a)"), [{"a": 1}, {"a": 2}])
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            connection.execute(sqlalchemy.text("insert into t values (1)"))
        database.force_open()
        with pytest.raises(CircuitOpenError):
            connection.execute(sqlalchemy.text("select 1"))
        connection.rollback()
    assert counts(database, "CONNECT") == (1, 0, 0)
    assert counts(database, "EXECUTE")[1] == 0
    assert (engine.counts.checkouts, engine.counts.checkins, engine.counts.made, engine.counts.in_use) == (1, 1, 1, 0)


def test_sqlalchemy_drops_a_connection_whose_time_was_up(engine: Any, database: Integration) -> None:
    import sqlalchemy

    sleep = sqlalchemy.text("select pg_sleep(5)")
    with engine.connect() as connection, deadline(0.1), pytest.raises(IntegrationTimeoutError):
        connection.execute(sleep)
    assert engine.counts.invalidated == 1
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("select 1")).all() == [(1,)]


def test_sqlalchemy_is_told_of_disconnects(engine: Any, postgres: Any, database: Integration) -> None:
    import sqlalchemy

    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("select 1"))
    postgres.restart()
    for right in (False, True):
        with engine.connect() as connection:
            try:
                assert connection.execute(sqlalchemy.text("select 1")).all() == [(1,)]
            except sqlalchemy.exc.OperationalError as error:
                assert not right, error
                assert error.connection_invalidated
    assert database.status().failures == 0
    assert counts(database, "EXECUTE")[1] == 1


def test_sqlalchemy_retries_connecting(database: Integration) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    pytest.importorskip("psycopg")
    from failsoft.adapters.sqlalchemy import protect

    engine = sqlalchemy.create_engine(f"postgresql+psycopg://x@{HOST}:{servers_free_port()}/x")
    protect(engine, database)
    with pytest.raises(sqlalchemy.exc.OperationalError):
        engine.connect()
    assert counts(database, "CONNECT") == (3, 3, 2)
    with pytest.raises(RuntimeError, match="already"):
        protect(engine, database)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_sqlalchemy_async(postgres: Any, database: Integration, driver: str) -> None:
    """Statements of several tasks, one of which is cut off by its deadline."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    pytest.importorskip(driver)
    pytest.importorskip("greenlet")
    from sqlalchemy.ext.asyncio import create_async_engine

    from failsoft.adapters.sqlalchemy import protect

    async def main() -> None:
        engine = create_async_engine(postgres.url.replace("postgresql", f"postgresql+{driver}"))
        counted = protect(engine, database)

        async def ask(sql: str) -> Any:
            async with engine.connect() as connection:
                return (await connection.execute(sqlalchemy.text(sql))).scalar()

        async def late() -> None:
            with deadline(0.5), pytest.raises(IntegrationTimeoutError):
                await ask("select pg_sleep(5)")

        answers = await asyncio.gather(late(), *(ask(f"select {n} from pg_sleep(0.01)") for n in range(4)))
        assert answers[1:] == [0, 1, 2, 3]
        with pytest.raises(sqlalchemy.exc.ProgrammingError):
            await ask("selec")
        assert counted.invalidated == 1
        await engine.dispose()

    asyncio.run(main())
    assert counts(database, "EXECUTE")[1] == 1
    assert database.status().failures == 0


def test_sqlalchemy_async_waits_for_its_turn_and_for_chaos_without_holding_the_loop(postgres: Any) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    pytest.importorskip("asyncpg")
    pytest.importorskip("greenlet")
    from sqlalchemy.ext.asyncio import create_async_engine

    from failsoft import chaos
    from failsoft.adapters.sqlalchemy import protect

    narrow = Registry().integration(
        "narrow", "database", bulkhead={"max_concurrent": 1, "max_wait": 5.0}, circuit_breaker={"timeout": 0.3}
    )

    async def main() -> int:
        engine = create_async_engine(postgres.url.replace("postgresql", "postgresql+asyncpg"))
        protect(engine, narrow)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        async def ask(number: int) -> Any:
            async with engine.connect() as connection:
                return (await connection.execute(sqlalchemy.text(f"select {number} from pg_sleep(0.03)"))).scalar()

        ticking = asyncio.ensure_future(tick())
        assert await asyncio.gather(*map(ask, range(3))) == [0, 1, 2]
        with chaos(narrow, latency=20.0, operations=["EXECUTE"]), pytest.raises(IntegrationTimeoutError):
            await ask(1)
        with chaos(narrow, error=ConnectionResetError, operations=["EXECUTE"]), pytest.raises(Exception) as caught:
            await ask(1)
        assert classify_error(caught.value) == "NETWORK"
        assert await ask(4) == 4
        ticking.cancel()
        await engine.dispose()
        return ticks

    assert asyncio.run(asyncio.wait_for(main(), 15.0)) > 20
    assert counts(narrow, "EXECUTE")[1] == 2


def test_sqlalchemy_counts_no_return_of_what_was_never_out(database: Integration) -> None:
    """A pool says so of a connection that could not be made."""
    import sqlite3

    sqlalchemy = pytest.importorskip("sqlalchemy")
    from failsoft.adapters.sqlalchemy import protect

    down: list[bool] = []

    def creator() -> Any:
        if down:
            raise sqlite3.OperationalError("unable to open database file")
        return sqlite3.connect(":memory:")

    engine = sqlalchemy.create_engine("sqlite://", creator=creator, poolclass=sqlalchemy.QueuePool)
    counts = protect(engine, database)
    with engine.connect() as connection:
        assert counts.in_use == 1
        connection.invalidate()
    down.append(True)
    for _ in range(3):
        with pytest.raises(sqlalchemy.exc.OperationalError):
            engine.connect()
    assert (counts.in_use, counts.checkouts, counts.checkins) == (0, 1, 1)
    down.clear()
    with engine.connect():
        assert counts.in_use == 1
    assert (counts.in_use, counts.checkouts, counts.checkins) == (0, 2, 2)
    engine.dispose()


def test_sqlalchemy_takes_any_driver(database: Integration) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    from failsoft.adapters.sqlalchemy import protect

    engine = sqlalchemy.create_engine("sqlite://")
    protect(engine, database)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("create table t (a int unique)"))
        connection.execute(sqlalchemy.text("insert into t values (:a)"), [{"a": 1}, {"a": 2}])
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            connection.execute(sqlalchemy.text("insert into t values (1)"))
    assert database.status().failures == 0
    engine.dispose()
    with pytest.raises(TypeError, match="Engine"):
        protect(object(), database)


@pytest.mark.parametrize(
    ("state", "category"),
    [
        ("P0001", "CLIENT_ERROR"),  # raise exception, in a function of the user's
        ("25P02", "CLIENT_ERROR"),  # in a transaction that has failed before
        ("25P04", "TIMEOUT"),
        ("25006", "SERVER_ERROR"),
        ("54001", "CLIENT_ERROR"),  # the statement is too complex
        ("55000", "CLIENT_ERROR"),
        ("55P03", "TIMEOUT"),
        ("HV000", "SERVER_ERROR"),
        ("08006", "NETWORK"),
    ],
)
def test_what_a_server_has_answered_is_told_by_its_state_whatever_the_driver(state: str, category: str) -> None:
    asyncpg = pytest.importorskip("asyncpg")
    errors = pytest.importorskip("psycopg.errors")
    fields = {"C": state, "S": "ERROR", "M": "no"}
    assert classify_error(asyncpg.exceptions.PostgresError.new(fields)) == category
    assert classify_error(errors.lookup(state)("no")) == category


def servers_free_port() -> int:
    from failsoft.testing.ports import free_port

    return free_port()
