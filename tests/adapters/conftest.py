"""Servers for the tests of this room: one of each kind a run, given to each test in good health."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .origin import Origin


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[Any], Any]]:
    """Gives a running server of a class of tests/services/servers.py."""
    servers = pytest.importorskip("tests.services.servers", exc_type=ImportError)
    running: dict[Any, Any] = {}

    def get(cls: Any) -> Any:
        if cls not in running:
            try:
                running[cls] = cls()
                running[cls].__enter__()
            except (servers.Unavailable, ImportError) as error:
                pytest.skip(str(error))
        running[cls].revive()
        return running[cls]

    yield get
    for server in running.values():
        server.close()


@pytest.fixture
def origin(serve: Callable[[Any], Any]) -> Origin:
    """An HTTP server that misbehaves as it is asked to."""
    module = pytest.importorskip("tests.adapters.origin", exc_type=ImportError)
    server: Origin = serve(module.Origin)
    return server
