"""The addresses of the dashboard: the page, its files, the stream, the same as JSON, controls and /metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .assets import Asset, load_assets
from .controls import AUDIT_MOST, Refused, act
from .gate import Gate, Visitors
from .hub import Full, Hub, Stream
from .names import shown
from .sampler import MEMORY, STEP, Sampler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Any

CONTROL_HEADER = "x-failsoft-control"
"""What a request for a control must carry: a form of another site cannot, and a script of one must ask first."""

BODY_MOST = 4096

GUESS_DELAY = 0.5
"""Seconds that a wrong token takes: guessing is hopeless anyway, and need not be quick."""


def make_app(source: Any, visitors: Visitors, *, controls: bool, interval: float) -> Starlette:
    """Put it together. `source` is looked at from the first visit on; in a server of its own, from the start."""
    pages = Pages(source, visitors, controls=controls, interval=interval)

    @contextlib.asynccontextmanager
    async def alone(_app: Starlette) -> AsyncIterator[None]:  # a mounted application is not told
        pages.hub.stays = True
        pages.hub.wake()
        try:
            yield
        finally:
            pages.hub.close()

    routes = [
        Route("/", pages.page),
        Route("/login", pages.login, methods=["GET", "POST"]),
        Route("/static/{name}", pages.static),
        Route("/events", pages.events),
        Route("/api/state", pages.state),
        Route("/api/integrations/{id}", pages.integration),
        Route("/api/control", pages.control, methods=["POST"]),
        Route("/metrics", pages.metrics),
    ]
    open_to_all = frozenset({"/login", "/static/style.css", "/static/favicon.svg", "/static/theme.js"})
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Gate, visitors=visitors, open_to_all=open_to_all)],
        lifespan=alone,
    )
    app.state.hub = pages.hub
    return app


class Pages:
    """What is behind each address."""

    def __init__(self, source: Any, visitors: Visitors, *, controls: bool, interval: float) -> None:
        self._source = source
        self._visitors = visitors
        self._controls = controls
        self._audit: deque[dict[str, Any]] = deque(maxlen=AUDIT_MOST)
        self._sampler = Sampler(source, interval)
        name = getattr(source, "name", None)
        self._about = {
            "source": shown(f"arena {name}") if name else "this process",
            "shared": hasattr(source, "processes"),
            "controls": controls,
            "memory": MEMORY,
            "step": STEP,
        }
        self.hub = Hub(self._sampler, self._audit, self._about)
        self._assets = load_assets()

    async def page(self, request: Request) -> Response:
        return self._send(request, self._assets["index.html"])

    async def static(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["name"])
        if asset is None or asset is self._assets["index.html"]:
            return PlainTextResponse("There is no such file.\n", 404)
        return self._send(request, asset)

    def _send(self, request: Request, asset: Asset) -> Response:
        headers = {"cache-control": "no-cache", "etag": asset.tag, "content-type": asset.kind}
        if request.headers.get("if-none-match") == asset.tag:
            return Response(status_code=304, headers=headers)
        return Response(asset.body, headers=headers)

    async def login(self, request: Request) -> Response:
        if request.method == "GET" or self._visitors.token is None:
            return self._send(request, self._assets["login.html"])
        from urllib.parse import parse_qs

        try:
            form = parse_qs((await _body(request)).decode("ascii"))
        except (Refused, UnicodeDecodeError):
            form = {}
        if self._visitors.accepts(form.get("token", [""])[0]):
            return self._visitors.welcome(request)
        await asyncio.sleep(GUESS_DELAY)
        return Response(self._assets["login.html"].body, 403, {"content-type": self._assets["login.html"].kind})

    async def events(self, request: Request) -> Any:
        try:
            client = await self.hub.join(_watched(request))
        except Full as full:
            return PlainTextResponse(f"{full}\n", 503, {"retry-after": "5"})
        headers = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
        return Stream(self.hub, client, [(name.encode(), value.encode()) for name, value in headers.items()])

    async def state(self, request: Request) -> Response:
        return JSONResponse(await self._looked(lambda: {**self.hub.frame(None), **self._about}))

    async def integration(self, request: Request) -> Response:
        id = request.path_params["id"]
        told = await self._looked(lambda: self._sampler.detail(id, whole=True))
        if told is None:
            return JSONResponse({"error": "there is no such integration"}, 404)
        return JSONResponse(told)

    async def _looked(self, tell: Callable[[], Any]) -> Any:
        self.hub.wake()
        await asyncio.to_thread(self._sampler.look_if_old)
        return await asyncio.to_thread(tell)

    async def control(self, request: Request) -> Response:
        try:
            if not self._controls:
                raise Refused("controls are off: start with --controls", 403)
            if CONTROL_HEADER not in request.headers:
                raise Refused(f"the header {CONTROL_HEADER} is missing", 403)
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise Refused("the body must be application/json", 415)
            try:
                asked = json.loads(await _body(request))
            except (ValueError, RecursionError) as error:
                if isinstance(error, Refused):
                    raise
                raise Refused("the body must be JSON") from None
            who = request.client.host if request.client is not None else "unknown"
            # Listeners of the program hear of it, and must not hold up the loop.
            line = await asyncio.to_thread(act, self._source, asked, who, self._audit)
        except Refused as refused:
            return JSONResponse({"error": str(refused)}, refused.status)
        await asyncio.to_thread(self._sampler.look)
        return JSONResponse({"done": line})

    async def metrics(self, request: Request) -> Response:
        from ..arena import ArenaError
        from ..export.prometheus import respond

        try:
            body, kind = await asyncio.to_thread(respond, self._source, request.headers.get("accept"))
        except ArenaError as error:  # not there yet, or no more: the target is down, and says why
            return PlainTextResponse(f"{shown(error, 300)}\n", 503)
        return Response(body, headers={"content-type": kind})


def _watched(request: Request) -> str | None:
    watch = request.query_params.get("watch", "")
    return watch if len(watch) == 12 and watch.isalnum() else None


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_MOST:
            raise Refused(f"the body is longer than {BODY_MOST} bytes", 413)
    return body
