"""The web dashboard: `failsoft dashboard`, or `failsoft.dashboard.app()` mounted in an ASGI application.

It reads what guards write anyway, from outside: nothing here runs on the path of a call. See docs/dashboard.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection

    from ..arena import Arena
    from ..registry import Registry

INTERVAL = 1.0
"""Seconds between two looks at the source, unless it is told otherwise. A look that takes long makes them rarer."""


def app(
    source: Registry | Arena | None = None,
    *,
    controls: bool = False,
    token: str | None = None,
    authorize: Callable[[HTTPConnection], bool] | None = None,
    hosts: Iterable[str] = (),
    interval: float = INTERVAL,
) -> Starlette:
    """The dashboard as a Starlette application, to run by itself or to mount under any path.

        api.mount("/failsoft", failsoft.dashboard.app(hosts=["api.example.com"], token=secret))

    - `source`: a Registry, the default one if None, or what `attach(name)` gives.
    - `controls`: let operators force, disable, reset and degrade. An arena must be open for it: `attach(name,
      controls=True)`; what is said goes for all its processes.
    - `token`: what visitors must show, at least 16 characters: as `Authorization: Bearer`, or once on the login page.
      Without, only requests that come from this machine itself, through no proxy, are answered.
    - `authorize`: a function of the request, in place of a token, for applications that know their users.
    - `hosts`: the names it may be visited under, besides localhost and addresses; "*" for any.
    - `interval`: seconds between two looks, 0.1 to 60.

    ImportError without Starlette: `pip install 'failsoft[dashboard]'`.
    """
    try:
        import starlette  # noqa: F401
    except ImportError as missing:
        raise ImportError("the dashboard needs Starlette: pip install 'failsoft[dashboard]'") from missing
    from ..registry import Registry, default
    from .gate import Visitors
    from .pages import make_app

    chosen = default if source is None else source
    if not callable(getattr(chosen, "with_shards", None)):
        raise TypeError(f"source must be a Registry or an Arena, got {source!r}")
    if controls and not isinstance(chosen, Registry) and not getattr(chosen, "controls", False):
        raise ValueError("controls of an arena need it to be opened for them: attach(name, controls=True)")
    if not 0.1 <= interval <= 60.0:
        raise ValueError(f"interval must be 0.1 to 60 seconds, got {interval!r}")
    return make_app(chosen, Visitors(token, authorize, hosts), controls=controls, interval=interval)


def serve(
    source: Registry | Arena | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    controls: bool = False,
    token: str | None = None,
    hosts: Iterable[str] = (),
    interval: float = INTERVAL,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve the dashboard alone until a signal comes; in a daemon thread, for as long as the process lives.

        Thread(target=failsoft.dashboard.serve, kwargs={"controls": True}, daemon=True).start()

    `ready` is called with the address once it can be visited. ValueError for a host that others can reach without a
    token, OSError where the port is taken. ImportError without uvicorn: `pip install 'failsoft[dashboard]'`.
    """
    try:
        from .server import run
    except ImportError as missing:
        raise ImportError("serving the dashboard needs uvicorn: pip install 'failsoft[dashboard]'") from missing
    dashboard = app(source, controls=controls, token=token, hosts=hosts, interval=interval)
    run(dashboard, host=host, port=port, safe=token is not None, ready=ready)
