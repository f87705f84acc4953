"""The dashboard in a server of its own: `failsoft dashboard`."""

from __future__ import annotations

import socket

import uvicorn

from .. import forks
from .gate import is_loopback

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette

    from .hub import Hub


class NotSafe(ValueError):
    """It would be open to others without a token."""


class Server(uvicorn.Server):
    """Ends the streams when it is told to stop: uvicorn waits for answers to end, and these do not by themselves."""

    hub: Hub
    bound: socket.socket

    def forked(self) -> None:
        """In a child nobody would accept what comes, and the port would be taken for as long as it lives."""
        self.bound.close()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.hub.close()
        await super().shutdown(sockets)


def run(
    dashboard: Starlette, *, host: str, port: int, safe: bool, ready: Callable[[str], object] | None = None
) -> None:
    """Serve until a signal. `safe`: whoever comes must show who they are. See `failsoft.dashboard.serve`."""
    if not is_loopback(host) and not safe:
        raise NotSafe(f"{host} can be reached from other machines, so a token is needed")
    config = uvicorn.Config(
        dashboard,
        access_log=False,  # tokens may stand in addresses
        log_level="warning",
        proxy_headers=False,  # the peer is who it is
        server_header=False,
        ws="none",
        limit_concurrency=256,
        timeout_graceful_shutdown=2,
    )
    server = Server(config)
    server.hub = dashboard.state.hub
    with bind(host, port) as bound:
        server.bound = bound
        forks.remember(server)
        if ready is not None:
            name = f"[{host}]" if ":" in host else host
            bound.listen(128)  # whoever is told may come at once
            ready(f"http://{name}:{bound.getsockname()[1]}/")
        server.run(sockets=[bound])


def bind(host: str, port: int) -> socket.socket:
    """A socket on this address; port 0: any that is free."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound
