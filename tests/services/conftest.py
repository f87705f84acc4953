"""Real servers for the tests of this room: started once a run, given to each test in good health."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .servers import Feed, Nats, Postgres, Redis, Valkey


@pytest.fixture(scope="session")
def _postgres_of_the_run(request: pytest.FixtureRequest) -> Postgres:
    pytest.importorskip("psycopg", exc_type=ImportError)
    pytest.importorskip("asyncpg", exc_type=ImportError)
    return request.getfixturevalue("_failsoft_postgres_of_the_run")  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def _valkey_of_the_run(request: pytest.FixtureRequest) -> Valkey:
    pytest.importorskip("valkey", exc_type=ImportError)
    return request.getfixturevalue("_failsoft_valkey_of_the_run")  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def _nats_of_the_run(request: pytest.FixtureRequest) -> Nats:
    pytest.importorskip("nats", exc_type=ImportError)
    return request.getfixturevalue("_failsoft_nats_of_the_run")  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def _feed_of_the_run() -> Iterator[Feed]:
    pytest.importorskip("websockets", exc_type=ImportError)
    servers = pytest.importorskip("tests.services.servers", exc_type=ImportError)
    with servers.Feed() as feed:
        yield feed


@pytest.fixture(scope="session")
def _redis_of_the_run() -> Iterator[Redis]:
    pytest.importorskip("redis", exc_type=ImportError)
    servers = pytest.importorskip("tests.services.servers", exc_type=ImportError)
    try:
        with servers.Redis() as server:
            yield server
    except servers.Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def redis_server(_redis_of_the_run: Redis) -> Redis:
    """A Redis that answers; a test may do to it what it likes. It is empty after a restart only."""
    _redis_of_the_run.revive()
    return _redis_of_the_run


@pytest.fixture
def postgres(_postgres_of_the_run: Postgres) -> Postgres:
    """A PostgreSQL that answers; a test may do to it what it likes. Tables last until the end of the run."""
    _postgres_of_the_run.revive()
    return _postgres_of_the_run


@pytest.fixture
def valkey_server(_valkey_of_the_run: Valkey) -> Valkey:
    """A Valkey that answers; a test may do to it what it likes. It is empty after a restart only."""
    _valkey_of_the_run.revive()
    return _valkey_of_the_run


@pytest.fixture
def nats_server(_nats_of_the_run: Nats) -> Nats:
    """A NATS server that answers; a test may do to it what it likes."""
    _nats_of_the_run.revive()
    return _nats_of_the_run


@pytest.fixture
def feed_server(_feed_of_the_run: Feed) -> Feed:
    """A websockets server that counts; a test may do to it what it likes."""
    _feed_of_the_run.revive()
    return _feed_of_the_run
