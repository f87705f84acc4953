"""Programs that stay on their feet while a real PostgreSQL and a real Valkey freeze, die and come back under traffic.

Nothing here tells failsoft that a server is down or up again. Each step waits for what has to happen, not for a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

import pytest

from failsoft import (
    CircuitState,
    DegradedPolicy,
    FallbackType,
    HealthStatus,
    IntegrationResult,
    IntegrationType,
    Registry,
    cache_fallbacks,
    database_fallbacks,
    events,
)
from failsoft.fallbacks import Aged

if TYPE_CHECKING:
    from .servers import Postgres, Valkey

pytestmark = pytest.mark.skipif(os.name != "posix", reason="servers are frozen and killed by signals")

ROBOTS = ["Bender", "Marvin", "Robby"]
WORKERS = 4
LIMIT = 20.0
"""Seconds that a step may take; on an idle machine each needs less than one."""

_SLACK = 0.5
"""Seconds between a server's being told to freeze and the last answer that counts as older than that."""

_FAST = {
    "timeouts": {"connect": 0.3, "read": 0.5, "write": 0.5, "overall": 1.5},
    "retry_policy": {"max_retries": 1, "initial_delay": 0.02, "max_delay": 0.02},
    "circuit_breaker": {
        "failure_threshold": 5,
        "success_threshold": 2,
        "half_open_max_calls": 2,
        "timeout": 0.3,
        "reset_timeout": 0.3,
    },
    "degraded": DegradedPolicy(ramp_from=0.5, ramp=0.5),
}


class Log:
    """What the program and failsoft said of an outage, in order."""

    def __init__(self) -> None:
        self.results: list[tuple[float, IntegrationResult[Any]]] = []
        self.transitions: list[events.Transition] = []
        self.degraded: list[events.DegradedChange] = []
        self.health: list[HealthStatus] = []

    def add(self, result: IntegrationResult[Any]) -> None:
        self.results.append((time.monotonic(), result))

    def since(self, mark: int, kind: FallbackType | None) -> list[tuple[float, IntegrationResult[Any]]]:
        """The results from number `mark` on that a fallback of this kind gave, or the operation itself."""
        return [entry for entry in self.results[mark:] if entry[1].fallback_type is kind]

    def trips(self, name: str) -> list[tuple[CircuitState, CircuitState]]:
        """The transitions of an integration, without the probes that failed meanwhile."""
        moves = [(move.previous, move.state) for move in self.transitions if move.integration == name]
        between = (CircuitState.OPEN, CircuitState.HALF_OPEN)
        return [move for move in moves if set(move) != set(between)]

    def ramps(self, name: str) -> list[list[tuple[str, float]]]:
        """Reasons and capacities of each degraded time of an integration, from the trip to full capacity."""
        times: list[list[tuple[str, float]]] = []
        for change in self.degraded:
            if change.target == name:
                if change.reason == "circuit_open":
                    times.append([])
                times[-1].append((change.reason, change.capacity))
        return times

    def verdicts(self, name: str) -> list[bool]:
        return [status.healthy for status in self.health if status.integration_name == name]


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    ends = [
        events.subscribe(log.transitions.append, events.Transition),
        events.subscribe(log.degraded.append, events.DegradedChange),
    ]
    yield log
    for end in ends:
        end()


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.close()


def _check_outages(log: Log, name: str, number: int) -> None:
    """The breaker opened and closed, capacity went and came back, health changed: each once an outage."""
    assert log.trips(name) == number * [
        (CircuitState.CLOSED, CircuitState.OPEN),
        (CircuitState.HALF_OPEN, CircuitState.CLOSED),
    ]
    assert len(log.ramps(name)) == number
    for reasons, capacities in (zip(*changes, strict=True) for changes in log.ramps(name)):
        assert reasons == ("circuit_open", "recovering", "recovered")
        assert capacities == pytest.approx((0.0, 0.5, 1.0), abs=0.1)  # the ramp may have moved on before it was read
    assert log.verdicts(name) == number * [False, True]


def _check_ages(entries: list[tuple[float, IntegrationResult[Any]]], frozen: float) -> None:
    """No answer is from after the server froze, nor from before the program began to remember."""
    for moment, result in entries:
        assert result.success
        assert result.data == ROBOTS
        assert result.error is not None
        assert result.data_age is not None
        assert moment - frozen - _SLACK <= result.data_age <= moment - frozen + LIMIT


# ---- an async program


class Connection:
    """One connection to PostgreSQL, made anew after anything has gone wrong with it.

    A pool of asyncpg's gives a cancelled connection back first, which waits for the frozen server.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._open: Any = None

    async def fetch(self, statement: str) -> list[Any]:
        import asyncpg

        try:
            if self._open is None:
                self._open = await asyncpg.connect(self._url)
            rows: list[Any] = await self._open.fetch(statement)
        except BaseException:
            self.close()
            raise
        return rows

    def close(self) -> None:
        if self._open is not None:
            self._open.terminate()
            self._open = None


class Program:
    """Workers that read robots from the database, and keep a copy of them in the cache."""

    def __init__(self, registry: Registry, log: Log, postgres: Postgres, valkey_server: Valkey) -> None:
        from valkey.asyncio import Valkey as Client

        self._log = log
        self._connections = [Connection(postgres.url) for _ in range(WORKERS)]
        # Limits are the guards' own here. With one of its own the client sends under `asyncio.wait_for`, which on Python
        # 3.11 loses a cancellation now and then.
        self._client = Client(port=valkey_server.port, socket_timeout=None, socket_connect_timeout=None)
        self._over = False
        self._tasks: list[asyncio.Task[None]] = []
        self.database = registry.integration("robots-db", IntegrationType.DATABASE, **_FAST)
        self.cache = registry.integration("robots-cache", IntegrationType.CACHE, **_FAST)

        self._cached = self.cache.guard(self._read_copy, operation="read")
        self._keep = self.cache.guard(self._write_copy, operation="write")
        self._robots = self.database.guard(
            self._read_robots,
            operation="robots",
            fallbacks=[
                database_fallbacks.cache_first("robots", self._cached),
                database_fallbacks.last_known(max_age=60.0),
            ],
        )

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work(worker)) for worker in range(WORKERS)]
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._over = True
        for task in self._tasks:
            task.cancel()
        _, left = await asyncio.wait(self._tasks, timeout=LIMIT)
        for connection in self._connections:
            connection.close()
        await self._client.aclose()
        assert not left

    async def until(self, done: Callable[[], bool]) -> None:
        """Let the workers work until then."""
        deadline = time.monotonic() + LIMIT
        while not done():
            for task in self._tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < deadline, "nothing of the kind happened"
            await asyncio.sleep(0.005)

    async def ask_database(self) -> None:
        """A health check that uses no connection of the workers."""
        import asyncpg

        connection = await asyncpg.connect(self._connections[0]._url)
        connection.terminate()

    async def ask_cache(self) -> bool:
        return bool(await self._client.ping())

    async def _work(self, worker: int) -> None:
        while not self._over:
            result = await self._robots.outcome(worker)
            self._log.add(result)
            if result.success and not result.fallback_used:
                await self._keep.outcome(result.data)
            await asyncio.sleep(0.005)

    async def _read_robots(self, worker: int) -> list[str]:
        rows = await self._connections[worker].fetch("SELECT name FROM robots ORDER BY name")
        return [row["name"] for row in rows]

    async def _read_copy(self, key: str) -> Aged | None:
        copy = await self._client.get(key)
        if copy is None:
            return None
        kept = json.loads(copy)
        return Aged(kept["robots"], time.time() - kept["at"])

    async def _write_copy(self, robots: list[str]) -> None:
        await self._client.set("robots", json.dumps({"robots": robots, "at": time.time()}))


async def _fill(postgres: Postgres) -> None:
    import asyncpg

    connection = await asyncpg.connect(postgres.url)
    await connection.execute("CREATE TABLE IF NOT EXISTS robots (name text PRIMARY KEY)")
    await connection.executemany("INSERT INTO robots VALUES ($1) ON CONFLICT DO NOTHING", [(name,) for name in ROBOTS])
    await connection.close()


@contextlib.asynccontextmanager
async def _outage(
    program: Program, log: Log, postgres: Postgres, valkey_server: Valkey
) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Both servers go, the database first; within the block they are gone; after it all has to come back by itself."""
    names = (program.database.name, program.cache.name)
    before = {name: len(log.verdicts(name)) for name in names}

    async def harm(how: str) -> None:
        start = len(log.results)
        await asyncio.to_thread(getattr(postgres, how))
        gone = time.monotonic()
        await program.until(lambda: program.database.status().state is not CircuitState.CLOSED)
        mark = len(log.results)
        await program.until(lambda: len(log.since(mark, FallbackType.CACHE)) >= 5 * WORKERS)
        assert not log.since(mark, None)
        _check_ages(log.since(mark, FallbackType.CACHE), gone)

        await asyncio.to_thread(getattr(valkey_server, how))
        await program.until(lambda: program.cache.status().state is not CircuitState.CLOSED)
        mark = len(log.results)
        await program.until(lambda: len(log.since(mark, FallbackType.LAST_KNOWN)) >= 5 * WORKERS)
        _check_ages(log.since(mark, FallbackType.LAST_KNOWN), gone)
        assert any(result.attempts == 0 for _, result in log.results[mark:])  # refused, which costs no time
        assert all(result.success for _, result in log.results[start:])

        await program.until(lambda: all(len(log.verdicts(name)) == before[name] + 1 for name in names))

    yield harm

    await program.until(lambda: all(log.ramps(name)[-1][-1][0] == "recovered" for name in names))
    await program.until(lambda: all(len(log.verdicts(name)) == before[name] + 2 for name in names))
    mark = len(log.results)
    await program.until(lambda: len(log.results) >= mark + 5 * WORKERS)
    # A call that was under way when capacity came back may still end in a fallback.
    assert all(result.fallback_type is None for _, result in log.results[mark + WORKERS :])


def test_an_async_program_is_served_through_outages_of_both_servers(
    registry: Registry, log: Log, postgres: Postgres, valkey_server: Valkey
) -> None:
    async def life() -> None:
        await _fill(postgres)
        program = Program(registry, log, postgres, valkey_server)
        for integration, check, probe in (
            (program.database, program.ask_database, True),
            (program.cache, program.ask_cache, False),
        ):
            registry.health.register_health_check(
                integration_type=integration.type,
                integration_name=integration.name,
                check=check,
                interval=0.1,
                timeout=0.3,
                on_health_change=log.health.append,
                probe=probe,
            )
        async with registry.health, program:
            await program.until(lambda: len(log.since(0, None)) >= 5 * WORKERS)

            async with _outage(program, log, postgres, valkey_server) as harm:
                await harm("freeze")
                await asyncio.to_thread(valkey_server.thaw)
                await asyncio.to_thread(postgres.thaw)

            async with _outage(program, log, postgres, valkey_server) as harm:
                await harm("kill")
                await asyncio.to_thread(valkey_server.start)
                await asyncio.to_thread(postgres.start)

        assert all(result.success for _, result in log.results)
        _check_outages(log, program.database.name, 2)
        _check_outages(log, program.cache.name, 2)

    asyncio.run(life())


# ---- a sync program


def _until(done: Callable[[], bool], work: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not done():
        assert time.monotonic() < deadline, "nothing of the kind happened"
        work()
        time.sleep(0.005)


def test_a_sync_program_is_served_while_its_cache_freezes_and_dies(
    registry: Registry, log: Log, valkey_server: Valkey
) -> None:
    import valkey

    cache = registry.integration("prices", IntegrationType.CACHE, **_FAST)
    client = valkey.Valkey(port=valkey_server.port, socket_timeout=0.1, socket_connect_timeout=0.1)

    @cache.guard(fallbacks=[cache_fallbacks.last_known(max_age=60.0)])
    def prices() -> list[str]:
        client.set("prices", json.dumps(ROBOTS))  # it is empty after a restart
        found: list[str] = json.loads(client.get("prices"))
        return found

    def work() -> None:
        log.add(prices.outcome())

    def outage(go: Callable[[], None], come_back: Callable[[], None]) -> None:
        known = len(log.verdicts(cache.name))
        go()
        gone = time.monotonic()
        _until(lambda: cache.status().state is not CircuitState.CLOSED, work)
        mark = len(log.results)
        _until(lambda: len(log.since(mark, FallbackType.LAST_KNOWN)) >= 20, work)
        _check_ages(log.since(mark, FallbackType.LAST_KNOWN), gone)
        _until(lambda: len(log.verdicts(cache.name)) == known + 1, work)
        come_back()
        _until(lambda: log.ramps(cache.name)[-1][-1][0] == "recovered", work)
        _until(lambda: len(log.verdicts(cache.name)) == known + 2, work)
        assert not prices.outcome().fallback_used

    registry.health.register_health_check(
        integration_type=cache.type,
        integration_name=cache.name,
        check=lambda: bool(client.ping()),
        interval=0.1,
        timeout=0.3,
        on_health_change=log.health.append,
    )
    registry.health.start()
    try:
        _until(lambda: len(log.since(0, None)) >= 20, work)
        outage(valkey_server.freeze, valkey_server.thaw)
        outage(valkey_server.kill, valkey_server.start)
    finally:
        registry.health.stop()
        client.close()
    assert all(result.success for _, result in log.results)
    _check_outages(log, cache.name, 2)


def test_a_sync_program_reads_its_cache_while_the_database_is_dead(
    registry: Registry, log: Log, postgres: Postgres, valkey_server: Valkey
) -> None:
    import psycopg
    import valkey

    asyncio.run(_fill(postgres))
    database = registry.integration("robots-db", IntegrationType.DATABASE, **_FAST)
    cache = registry.integration("robots-cache", IntegrationType.CACHE, **_FAST)
    client = valkey.Valkey(port=valkey_server.port, socket_timeout=0.1, socket_connect_timeout=0.1)

    @cache.guard
    def copy(key: str) -> Aged | None:
        found = client.get(key)
        kept = found and json.loads(found)
        return kept and Aged(kept["robots"], time.time() - kept["at"])

    @database.guard(
        fallbacks=[database_fallbacks.cache_first("robots", copy), database_fallbacks.last_known(max_age=60.0)]
    )
    def robots() -> list[str]:
        with psycopg.connect(postgres.conninfo, connect_timeout=2) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM robots ORDER BY name")]

    def work() -> None:
        result = robots.outcome()
        log.add(result)
        if not result.fallback_used:
            client.set("robots", json.dumps({"robots": result.data, "at": time.time()}))

    def served(kind: FallbackType, mark: int) -> Callable[[], bool]:
        return lambda: len(log.since(mark, kind)) >= 20

    try:
        _until(lambda: len(log.since(0, None)) >= 20, work)
        postgres.kill()
        gone, mark = time.monotonic(), len(log.results)
        _until(served(FallbackType.CACHE, mark), work)
        _check_ages(log.since(mark, FallbackType.CACHE), gone)
        valkey_server.freeze()
        mark = len(log.results)
        _until(served(FallbackType.LAST_KNOWN, mark), work)
        _check_ages(log.since(mark, FallbackType.LAST_KNOWN), gone)
        valkey_server.thaw()
        mark = len(log.results)
        _until(served(FallbackType.CACHE, mark), work)
        postgres.start()
        _until(lambda: log.ramps(database.name)[-1][-1][0] == "recovered", work)
        assert not robots.outcome().fallback_used
    finally:
        client.close()
    assert all(result.success for _, result in log.results)
