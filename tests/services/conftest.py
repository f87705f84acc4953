"""Real servers for the tests of this room, given to each test in good health: those of the plugin, and two of our own.

A test may do to them what it likes. What is written to a Valkey or Redis is there until a restart, to a PostgreSQL until
the end of the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_failsoft import serve

if TYPE_CHECKING:
    from .servers import Feed, Nats, Postgres, Redis, Valkey


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> Postgres:
    pytest.importorskip("psycopg", exc_type=ImportError)
    pytest.importorskip("asyncpg", exc_type=ImportError)
    return request.getfixturevalue("failsoft_postgres")  # type: ignore[no-any-return]


@pytest.fixture
def valkey_server(request: pytest.FixtureRequest) -> Valkey:
    pytest.importorskip("valkey", exc_type=ImportError)
    return request.getfixturevalue("failsoft_valkey")  # type: ignore[no-any-return]


@pytest.fixture
def nats_server(request: pytest.FixtureRequest) -> Nats:
    pytest.importorskip("nats", exc_type=ImportError)
    return request.getfixturevalue("failsoft_nats")  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def _redis_of_the_run() -> Iterator[Redis]:
    pytest.importorskip("redis", exc_type=ImportError)
    yield from serve("Redis")  # type: ignore[misc]


@pytest.fixture
def redis_server(_redis_of_the_run: Redis) -> Redis:
    _redis_of_the_run.revive()
    return _redis_of_the_run


@pytest.fixture(scope="session")
def _feed_of_the_run() -> Iterator[Feed]:
    pytest.importorskip("websockets", exc_type=ImportError)
    servers = pytest.importorskip("tests.services.servers", exc_type=ImportError)
    yield from serve(servers.Feed)


@pytest.fixture
def feed_server(_feed_of_the_run: Feed) -> Feed:
    """A websockets server that counts."""
    _feed_of_the_run.revive()
    return _feed_of_the_run
