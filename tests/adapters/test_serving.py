"""What a service of Starlette's or FastAPI's says when its dependencies fail."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest

from failsoft import CircuitOpenError, Integration, IntegrationTimeoutError, Registry, remaining
from failsoft.testing import FakeClock

pytest.importorskip("starlette")
httpx = pytest.importorskip("httpx")

from starlette.applications import Starlette  # noqa: E402
from starlette.responses import JSONResponse  # noqa: E402
from starlette.routing import Route  # noqa: E402

from failsoft.adapters.starlette import (  # noqa: E402
    DeadlineMiddleware,
    health_routes,
    install,
    lifespan,
    requires,
)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def database(registry: Registry) -> Integration:
    return registry.integration("orders", "database", circuit_breaker={"failure_threshold": 1, "reset_timeout": 7.2})


def ask(app: Any, path: str, **headers: str) -> Any:
    async def main() -> Any:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return asyncio.run(main())


def service(handler: Any, registry: Registry, **options: Any) -> Starlette:
    app = Starlette(routes=[Route("/", handler)])
    install(app, registry=registry, **options)
    return app


def test_a_refusal_is_a_503_that_says_when_to_come_back(registry: Registry, database: Integration) -> None:
    @database.guard(retry=False)
    def orders() -> None:
        raise ConnectionRefusedError

    async def handler(_: Any) -> Any:
        orders()

    with FakeClock() as clock:
        app = service(handler, registry)
        with pytest.raises(ConnectionRefusedError):
            orders()
        clock.advance(1.0)
        response = ask(app, "/")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "7"
    body = response.json()["error"]
    assert body.pop("retry_after") == pytest.approx(6.2)
    assert "circuit is OPEN" in body.pop("message")
    assert body == {
        "code": "DB_CIRCUIT_OPEN", "category": "UNKNOWN", "integration": "orders", "operation": "orders",
        "retryable": True,
    }  # fmt: skip


def test_a_timeout_is_a_504(registry: Registry) -> None:
    async def handler(_: Any) -> Any:
        raise IntegrationTimeoutError("too late")

    response = ask(service(handler, registry), "/")
    assert response.status_code == 504
    assert "retry-after" not in response.headers
    assert response.json()["error"]["category"] == "TIMEOUT"


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({}, None, None),
        ({"x_envoy_expected_rq_timeout_ms": "2000"}, 1.0, 2.0),
        ({"grpc_timeout": "3S"}, 2.0, 3.0),
        ({"x_deadline": "900"}, 0.5, 0.9),
        ({"x_envoy_expected_rq_timeout_ms": "99999999"}, 9.0, 10.0),
        ({"x_envoy_expected_rq_timeout_ms": "soon"}, None, None),
    ],
    ids=["none", "Envoy's", "gRPC's", "another", "too long", "rubbish"],
)
def test_a_callers_deadline_holds(registry: Registry, headers: dict[str, str], least: Any, most: Any) -> None:
    async def handler(_: Any) -> Any:
        return JSONResponse({"left": remaining()})

    left = ask(service(handler, registry, header="X-Deadline", most=10.0), "/", **headers).json()["left"]
    assert left is None if least is None else least < left <= most


def test_a_request_that_has_no_time_left_is_not_begun(registry: Registry) -> None:
    begun = []

    async def handler(_: Any) -> Any:
        begun.append(1)

    response = ask(service(handler, registry), "/", x_envoy_expected_rq_timeout_ms="0")
    assert (response.status_code, begun) == (504, [])


def test_the_middleware_leaves_other_scopes_alone() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["type"], remaining()))

    middleware = DeadlineMiddleware(app)
    for kind in ("lifespan", "websocket"):
        asyncio.run(middleware({"type": kind, "headers": [(b"grpc-timeout", b"1S")]}, None, None))
    assert seen == [("lifespan", None), ("websocket", None)]
    with pytest.raises(ValueError, match="most"):
        DeadlineMiddleware(app, most=0.0)


def test_readiness_does_not_flap_on_a_dependency(registry: Registry, database: Integration) -> None:
    ready = {"is": True}

    def is_ready() -> bool:
        if ready["is"] is None:
            raise RuntimeError
        return bool(ready["is"])

    app = Starlette(routes=health_routes(registry, ready=is_ready))
    assert ask(app, "/health/live").json() == {"status": "alive"}
    assert ask(app, "/health/ready").json() == {"status": "ready", "integrations": {}}
    database.force_open()
    registry.integration("quotes", "market_data").metrics_only()
    response = ask(app, "/health/ready")
    assert response.status_code == 200
    assert response.json() == {
        "status": "degraded",
        "integrations": {"orders": {"type": "database", "state": "FORCED_OPEN", "retry_after": None}},
    }
    for unready in (False, None):
        ready["is"] = unready  # type: ignore[assignment]
        response = ask(app, "/health/ready")
        assert (response.status_code, response.json()["status"]) == (503, "unready")


def test_an_async_readiness(registry: Registry) -> None:
    async def is_ready() -> bool:
        await asyncio.sleep(0)
        return False

    assert ask(Starlette(routes=health_routes(registry, prefix="/z", ready=is_ready)), "/z/ready").status_code == 503


def test_a_lifespan_starts_the_checks_and_closes(registry: Registry, database: Integration) -> None:
    seen = []
    registry.health.register_health_check(
        integration_type="database", integration_name="orders", check=lambda: True, interval=60.0
    )

    @asynccontextmanager
    async def inner(app: Any) -> Any:
        seen.append(registry.health.running)
        yield {"ready": True}
        seen.append("inner ends")

    async def main() -> None:
        async with lifespan(inner, registry=registry)(None) as state:
            assert state == {"ready": True}
        assert "orders" not in registry
        assert not registry.health.running

    asyncio.run(main())
    assert seen == [True, "inner ends"]
    with pytest.raises(ValueError, match="default"):
        lifespan(registry=registry, share="orders")


def test_a_dependency_refuses_before_anything_is_done(registry: Registry, database: Integration) -> None:
    fastapi = pytest.importorskip("fastapi")
    app = fastapi.FastAPI(lifespan=lifespan(registry=registry))
    install(app, registry=registry)

    @app.get("/orders", dependencies=[fastapi.Depends(requires(database))])
    async def orders() -> dict[str, int]:
        return {"orders": 1}

    assert ask(app, "/orders").json() == {"orders": 1}
    assert "request" not in database.operations
    database.force_open()
    response = ask(app, "/orders")
    assert response.status_code == 503
    assert response.json()["error"]["code"] == "DB_CIRCUIT_OPEN"
    assert ask(app, "/health/ready").status_code == 200


def test_asking_whether_it_is_open_uses_no_probe_up(registry: Registry, database: Integration) -> None:
    from failsoft.adapters.openings import refuse_while_open

    @database.guard(retry=False)
    def orders(error: Exception | None) -> int:
        if error is not None:
            raise error
        return 1

    with FakeClock() as clock:
        with pytest.raises(ConnectionError):
            orders(ConnectionError())
        with pytest.raises(CircuitOpenError):
            refuse_while_open(database, "request")
        clock.advance(8.0)
        for _ in range(10):
            refuse_while_open(database, "request")
        assert database.status().state == "HALF_OPEN"
        assert [orders(None), orders(None)] == [1, 1]
        assert database.status().state == "CLOSED"
