"""The dashboard on a real port of this machine, in a thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from failsoft import dashboard
from failsoft.dashboard.hub import Hub


@contextlib.contextmanager
def served(source: Any, interval: float = 0.1, **options: Any) -> Iterator[tuple[int, Hub]]:
    """The dashboard on a free port of this machine; its hub."""
    import uvicorn

    from failsoft.dashboard.server import Server, bind

    app = dashboard.app(source, interval=interval, **options)
    server = Server(uvicorn.Config(app, access_log=False, log_level="critical", ws="none", timeout_graceful_shutdown=2))
    server.hub = app.state.hub
    with bind("127.0.0.1", 0) as bound:
        bound.listen(64)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield bound.getsockname()[1], app.state.hub
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()
