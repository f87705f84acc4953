"""Serving with Starlette and FastAPI: what a service does about dependencies that fail.

    from failsoft.adapters.starlette import install, requires

    app = FastAPI(lifespan=lifespan())
    install(app)

    @app.get("/orders", dependencies=[Depends(requires(database))])
    async def orders(): ...

A refusal or a final error of an integration becomes a 503 with Retry-After and a body that clients can read; a deadline
that a caller sends holds for all that is done for it; and two pages say whether the process lives and may have traffic.
Pure ASGI: nothing here reads a body, or stands between a response and its client.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager

try:
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ModuleNotFoundError as error:
    if error.name != "starlette":
        raise
    raise ImportError("starlette is not installed: pip install 'failsoft[starlette]'") from error

from .. import registry as registries
from ..checks import LONGEST
from ..config import CircuitState
from ..deadlines import remaining
from ..errors import IntegrationError
from ..integrations import Integration
from ..registry import Registry
from ..wire import HEADER, extract_deadline
from .openings import refuse_while_open
from .responses import MOST, NO_TIME, response_to

__all__ = ["DeadlineMiddleware", "error_response", "health_routes", "install", "lifespan", "requires"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from typing import Any


def install(
    app: Any,
    *,
    registry: Registry | None = None,
    header: str = HEADER,
    most: float = MOST,
    health: str | None = "/health",
    ready: Callable[[], Any] | None = None,
) -> None:
    """Give an application, before it serves, the error handler, the deadline middleware and the health pages.

    `health`: where those pages are, None for nowhere. Its `lifespan` is for you to give: it is part of making an
    application. The rest is as for `DeadlineMiddleware` and `health_routes`.
    """
    app.add_exception_handler(IntegrationError, error_response)
    app.add_middleware(DeadlineMiddleware, header=header, most=most)
    if health is not None:
        app.router.routes.extend(health_routes(registry, prefix=health, ready=ready))


def lifespan(
    inner: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None,
    *,
    registry: Registry | None = None,
    share: str | None = None,
    health_checks: bool = True,
) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
    """A lifespan for an application: begins with its first worker process, ends with it.

    - `inner`: a lifespan of your own, entered inside; its state is handed on.
    - `share`: the name of the arena that the worker processes of this application share their breakers in, as for
      `failsoft.share`; only for the default registry.
    - `health_checks`: start those that were registered.

    At the end health checks are stopped and the registry is closed: what is under way has ended by then.
    """
    if share is not None and registry not in (None, registries.default):
        raise ValueError("share= is for the default registry")

    @asynccontextmanager
    async def spans(app: Any) -> AsyncIterator[Any]:
        mine = registries.default if registry is None else registry
        if share is not None:
            from ..sharing import share as begin

            begin(share)
        if health_checks and mine.health.checked():
            mine.health.start()
        try:
            if inner is None:
                yield
            else:
                async with inner(app) as state:
                    yield state
        finally:
            await mine.aclose()

    return spans


def requires(*integrations: Integration) -> Callable[[], None]:
    """A dependency of FastAPI's: while the circuit of one of these is open, a request is answered at once.

    It raises what a call would be refused with, before anything else is done for the request. Without FastAPI: call it.
    """
    for integration in integrations:
        if not isinstance(integration, Integration):
            raise TypeError(f"integration must be an Integration, got {integration!r}")

    async def required() -> None:
        for integration in integrations:
            refuse_while_open(integration, "request")

    return required  # type: ignore[return-value]  # FastAPI awaits it; a plain one would cost a thread


async def error_response(request: Any, error: Exception) -> Response:
    """The response to an `IntegrationError`, as an exception handler.

    504 where our own caller's deadline, or the dependency's time, is up; 503 for the rest. With Retry-After, in whole
    seconds and at least 1, where it is known when to come back. The body is {"error": {...}} with `code`, `category`,
    `message`, `integration`, `operation`, `retryable` and `retry_after`: what a client may know. Details and the
    original error stay here.
    """
    assert isinstance(error, IntegrationError)
    status, headers, body = response_to(error)
    return JSONResponse(body, status, headers)


class DeadlineMiddleware:
    """Lets the deadline that a caller sends hold for all that is done for its request.

    Guards inside make no call that cannot be answered in time, and `remaining()` says how long there is. The handler
    itself is not cancelled: what it has begun it may finish.

    - `header`: the one it is sent in, beside `x-envoy-expected-rq-timeout-ms` and `grpc-timeout`.
    - `most`: seconds that nobody is given more than; whoever sends nothing has no deadline.
    """

    def __init__(self, app: Any, header: str = HEADER, most: float = MOST) -> None:
        if isinstance(most, bool) or not isinstance(most, (int, float)) or not 0.0 < most <= LONGEST:
            raise ValueError(f"most must be a number of seconds above 0 to {LONGEST:g}, got {most!r}")
        self.app = app
        self._header = header.lower()
        self._names = {name.encode() for name in (self._header, HEADER, "grpc-timeout")}
        self._most = most

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":  # a WebSocket has no time by which it has to be over
            await self.app(scope, receive, send)
            return
        headers = scope["headers"]
        names = self._names
        for name, _ in headers:
            if name in names:
                break
        else:
            await self.app(scope, receive, send)
            return
        with extract_deadline(headers, header=self._header, most=self._most):
            if remaining() == 0.0:
                await _LATE(scope, receive, send)
            else:
                await self.app(scope, receive, send)


_LATE = JSONResponse(NO_TIME, 504)


def health_routes(
    registry: Registry | None = None, *, prefix: str = "/health", ready: Callable[[], Any] | None = None
) -> list[Route]:
    """Routes for `GET prefix/live` and `GET prefix/ready`.

    *live* is 200 while the event loop turns. *ready* is 200 too, whatever the dependencies do: one that is down is down
    for all replicas, and a balancer that took all of them away would make an outage of it. Its body says what is not
    well: {"status": "degraded", "integrations": {name: {...}}}. It is 503 only where `ready`, a function of yours, sync
    or async, gives something false or raises: caches are not warm yet, the process is to end.
    """

    async def live(_: Any) -> Response:
        return JSONResponse({"status": "alive"})

    async def may_have_traffic(_: Any) -> Response:
        mine = registries.default if registry is None else registry
        unwell = {each.name: _unwell(each) for each in mine.with_shards() if each.breaker.state not in _WELL}
        good = True
        if ready is not None:
            try:
                said = ready()
                good = bool(await said if hasattr(type(said), "__await__") else said)
            except Exception:
                good = False
        status = "unready" if not good else "degraded" if unwell else "ready"
        return JSONResponse({"status": status, "integrations": unwell}, 200 if good else 503)

    return [Route(f"{prefix}/live", live), Route(f"{prefix}/ready", may_have_traffic)]


_WELL = frozenset({CircuitState.CLOSED, CircuitState.DISABLED, CircuitState.METRICS_ONLY})


def _unwell(integration: Integration) -> dict[str, object]:
    status = integration.status()
    return {"type": str(integration.type), "state": str(status.state), "retry_after": status.retry_after}
