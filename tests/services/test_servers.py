"""The servers of this room do what their methods say, as a client sees it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .servers import Postgres, Valkey

pytestmark = pytest.mark.skipif(os.name != "posix", reason="servers are frozen and killed by signals")


def _alive(pids: list[int]) -> list[int]:
    """Those that are more than a zombie; what has no parent any more is buried by somebody else."""
    psutil = pytest.importorskip("psutil")
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_postgres_freezes_with_its_backends_dies_and_comes_back(postgres: Postgres) -> None:
    asyncpg = pytest.importorskip("asyncpg")

    async def life() -> None:
        open_before = await asyncpg.connect(postgres.url)
        await open_before.execute("CREATE TABLE IF NOT EXISTS kept AS SELECT 1 AS n")
        assert await open_before.fetchval("SELECT n FROM kept") == 1

        postgres.freeze()
        with pytest.raises(TimeoutError):
            await open_before.fetchval("SELECT 1", timeout=0.2)  # its backend is frozen too
        with pytest.raises(TimeoutError):
            await asyncpg.connect(postgres.url, timeout=0.2)
        postgres.thaw()
        assert await open_before.fetchval("SELECT n FROM kept", timeout=5) == 1

        in_flight = asyncio.create_task(open_before.fetchval("SELECT pg_sleep(60)"))
        await asyncio.sleep(0.05)
        family = [process.pid for process in postgres.family]
        assert len(family) > 1
        postgres.kill()
        assert not _alive(family)
        assert postgres.pid is None
        with pytest.raises(asyncpg.PostgresConnectionError):
            await in_flight
        with pytest.raises(ConnectionRefusedError):
            await asyncpg.connect(postgres.url, timeout=5)

        postgres.restart()
        anew = await asyncpg.connect(postgres.url, timeout=5)
        assert await anew.fetchval("SELECT n FROM kept") == 1
        await anew.close()

    asyncio.run(life())


def test_postgres_is_revived_from_any_state(postgres: Postgres) -> None:
    psycopg = pytest.importorskip("psycopg")
    for harm in (postgres.freeze, postgres.kill, postgres.stop):
        harm()
        postgres.revive()
        with psycopg.connect(postgres.conninfo) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_postgres_leaves_nothing_behind() -> None:
    servers = pytest.importorskip("tests.services.servers")
    pytest.importorskip("psycopg")
    try:
        with servers.Postgres() as postgres:
            family, home = [process.pid for process in postgres.family], postgres.home
            postgres.kill()
            raise KeyboardInterrupt
    except servers.Unavailable as error:
        pytest.skip(str(error))
    except KeyboardInterrupt:
        pass
    assert not _alive(family)
    assert not home.exists()
    segments = Path("/proc/sysvipc/shm")  # creator in the fifth column
    if segments.exists():
        creators = {int(line.split()[4]) for line in segments.read_text().splitlines()[1:]}
        assert creators.isdisjoint(family)


def test_valkey_freezes_dies_and_comes_back_empty(valkey_server: Valkey) -> None:
    valkey = pytest.importorskip("valkey")
    limits = {"socket_timeout": 0.2, "socket_connect_timeout": 0.2}
    with valkey.Valkey(port=valkey_server.port, **limits) as client:
        client.set("key", "value")
        assert client.get("key") == b"value"

        valkey_server.freeze()
        with pytest.raises(valkey.TimeoutError):
            client.get("key")
        valkey_server.thaw()
        assert client.get("key") == b"value"

        valkey_server.kill()
        assert valkey_server.pid is None
        with pytest.raises(valkey.ConnectionError):
            client.get("key")

        valkey_server.restart()
        assert client.get("key") is None


def test_valkey_answers_async_clients_again_after_a_freeze(valkey_server: Valkey) -> None:
    pytest.importorskip("valkey")
    from valkey.asyncio import Valkey as Client
    from valkey.exceptions import TimeoutError as ClientTimeoutError

    async def life() -> None:
        async with Client(port=valkey_server.port, socket_timeout=0.2) as client:
            await client.set("key", "value")
            valkey_server.freeze()
            with pytest.raises(ClientTimeoutError):
                await client.get("key")
            valkey_server.thaw()
            assert await client.get("key") == b"value"

    asyncio.run(life())


def test_valkey_that_fails_to_start_says_why(valkey_server: Valkey) -> None:
    servers = pytest.importorskip("tests.services.servers")
    other = servers.Valkey()
    other.port = valkey_server.port
    with pytest.raises(servers.ServerFailed, match="Address already in use"), other:
        pass
    assert other.pid is None
    assert not other.home.exists()
