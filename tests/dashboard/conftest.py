"""A registry with something to see, and the dashboard over it as a visitor on this machine meets it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the dashboard needs Starlette")
pytest.importorskip("httpx2", reason="Starlette's test client needs httpx2")

from starlette.testclient import TestClient

import failsoft
from failsoft import dashboard

HERE = ("127.0.0.1", 50123)
BASE = "http://127.0.0.1:8765"


class Down(Exception):
    """What the dependency answers with while it is down."""


def fail() -> None:
    raise Down("down")


@pytest.fixture
def registry() -> Iterator[failsoft.Registry]:
    registry = failsoft.Registry()
    yield registry
    registry.close()


@pytest.fixture
def payments(registry: failsoft.Registry) -> failsoft.Integration:
    """An integration with a few calls behind it; three failures in a row open it."""
    one = registry.integration("payments", "external_api", circuit_breaker={"failure_threshold": 3})
    charge = one.guard(lambda: 1, operation="charge", retry=False)
    for _ in range(20):
        charge()
    return one


def trip(one: failsoft.Integration) -> None:
    """Fail until the breaker is open."""
    broken = one.guard(fail, operation="refund", retry=False)
    for _ in range(3):
        with pytest.raises(Down):
            broken()
    assert one.breaker.state is failsoft.CircuitState.OPEN


class From:
    """An application as it is asked from this address. Starlette's client has a parameter for it only lately."""

    def __init__(self, app: Any, client: tuple[str, int] = HERE) -> None:
        self.app = app
        self._client = client

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app({**scope, "client": self._client} if scope["type"] == "http" else scope, receive, send)


Visit = Callable[..., TestClient]


@pytest.fixture
def visit(registry: failsoft.Registry) -> Visit:
    """A visitor of `app(registry, ...)`: from this machine, by its address."""

    def make(client: tuple[str, int] = HERE, base: str = BASE, **options: Any) -> TestClient:
        return TestClient(From(dashboard.app(registry, **options), client), base_url=base, follow_redirects=False)

    return make
