"""Who may come in, before anything else is asked: the host's name, the origin, and who the visitor is.

Three strangers are kept out. A page of another site, that a browser on this machine has open: its requests carry its
`Origin`, and no answer allows another one. The same by a name that it lets point here (DNS rebinding): its requests
carry that name as `Host`, so only known names and plain addresses are answered. And whoever reaches the port: without a
token, only this machine itself is answered, and a proxy that forwards for others is not this machine.
"""

from __future__ import annotations

import hmac
import re
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from ..functions import is_awaitable, is_coroutine_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_LEAST = 16
"""Characters of a token."""

_SECURITY = {
    # Trusted types: even our own scripts cannot make markup of a string, in browsers that know them.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}

_HOST = re.compile(r"(?:[^\s/?#@\\:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
"""A name or an address, and perhaps a port."""

_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")


class Visitors:
    """Who is let in."""

    def __init__(
        self, token: str | None, authorize: Callable[[HTTPConnection], bool] | None, hosts: Iterable[str]
    ) -> None:
        if token is not None and (not isinstance(token, str) or len(token) < TOKEN_LEAST or not token.isascii()):
            raise ValueError(f"token must be a string of at least {TOKEN_LEAST} ASCII characters")
        if authorize is not None and not callable(authorize):
            raise TypeError(f"authorize must be callable with a request, got {authorize!r}")
        if is_coroutine_function(authorize):
            raise TypeError(
                f"authorize must be a plain function, for what an async one gives is never no: {authorize!r}"
            )
        if token is not None and authorize is not None:
            raise TypeError("token and authorize are two ways to say who may come in; give one")
        if isinstance(hosts, str):
            raise TypeError(f"hosts must be several names, got the string {hosts!r}")
        self.token = token
        self.authorize = authorize
        self.hosts = frozenset(host.lower().rstrip(".") for host in hosts)
        self._session = "" if token is None else hmac.new(token.encode(), b"failsoft session", sha256).hexdigest()
        # Cookies know no port: two dashboards of one machine must not take each other's for their own.
        self.cookie = f"failsoft-{sha256(self._session.encode()).hexdigest()[:8]}"

    def knows_host(self, host: str) -> bool:
        """Whether a `Host` is one we go by: localhost, an address, or a name that was allowed."""
        if not _HOST.fullmatch(host):  # what comes behind a slash in it, some servers take for the path
            return False
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        name = name.rstrip(".")
        if "*" in self.hosts or name in self.hosts or name == "localhost":
            return True
        return is_address(name)

    def knows(self, visitor: HTTPConnection) -> bool:
        """Whether this visitor may come in."""
        if self.authorize is not None:
            said: object = self.authorize(visitor)
            return bool(said) and not is_awaitable(said)  # one that was never awaited has said nothing
        if self.token is None:
            return is_here(visitor)
        scheme, _, given = visitor.headers.get("authorization", "").partition(" ")
        return (scheme.lower() == "bearer" and self.accepts(given.strip())) or hmac.compare_digest(
            visitor.cookies.get(self.cookie, "").encode(), self._session.encode()
        )

    def accepts(self, token: str) -> bool:
        """Whether this is the token."""
        return self.token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    def welcome(self, request: Request) -> Response:
        """To the page, with a cookie that stands for the token."""
        answer = RedirectResponse("./", status_code=303)
        secure, path = request.url.scheme == "https", request.scope.get("root_path", "") + "/"
        answer.set_cookie(self.cookie, self._session, path=path, httponly=True, samesite="strict", secure=secure)
        return answer


def is_address(name: str) -> bool:
    """Whether it is an IP address in letters."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    return host == "localhost" or (is_address(host) and ip_address(host).is_loopback)


def is_here(visitor: HTTPConnection) -> bool:
    """Whether the request comes from this machine itself."""
    client = visitor.client
    return client is not None and is_loopback(client.host) and not any(name in visitor.headers for name in _FORWARDED)


def same_origin(visitor: HTTPConnection) -> bool:
    """Whether no other site's page is behind it, as far as the browser says. What is no browser says nothing."""
    if visitor.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = visitor.headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == visitor.headers.get("host", "").lower() != ""
    except ValueError:
        return False


class Gate:
    """Stands before the whole application."""

    def __init__(self, app: ASGIApp, visitors: Visitors, open_to_all: frozenset[str]) -> None:
        self._app = app
        self._visitors = visitors
        self._open_to_all = open_to_all

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no websockets here
            await send({"type": "websocket.close", "code": 1008})
            return

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                have = {name.lower() for name, _ in message["headers"]}
                more = [(n.encode(), v.encode()) for n, v in _SECURITY.items()]
                if b"cache-control" not in have:
                    more.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        refused = self._refusal(Request(scope))
        await (self._app if refused is None else refused)(scope, receive, secured)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if not self._visitors.knows_host(host):
            return PlainTextResponse(
                "This dashboard is not known under that name. Allow it by hosts=[...], or --allow-host.\n", 421
            )
        opening = request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
        if not same_origin(request) and not opening:  # a link from elsewhere may open the page, and read nothing
            return PlainTextResponse("Requests of other sites are not answered.\n", 403)
        # As it is routed, and not of `request.url`, which is put together from what the visitor calls us.
        path = request.scope["path"].removeprefix(request.scope.get("root_path", "")) or "/"
        if path in self._open_to_all or self._visitors.knows(request):
            return None
        if self._visitors.token is None:
            return PlainTextResponse("Only this machine itself is answered without a token.\n", 403)
        if request.method == "GET" and path == "/":
            given = request.query_params.get("token")
            if given is not None and self._visitors.accepts(given):
                return self._visitors.welcome(request)
            return RedirectResponse("login", 303)
        return PlainTextResponse("A token is needed.\n", 401, {"www-authenticate": 'Bearer realm="failsoft"'})
