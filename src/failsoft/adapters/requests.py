"""A transport adapter for requests.

from failsoft.adapters.requests import FailsoftAdapter

session = requests.Session()
session.mount("https://", FailsoftAdapter(api))
"""

from __future__ import annotations

try:
    import requests
    from requests.adapters import HTTPAdapter
except ModuleNotFoundError as error:
    if error.name != "requests":
        raise
    raise ImportError("requests is not installed: pip install 'failsoft[http]'") from error

from collections.abc import Iterable
from urllib.parse import urlsplit

from urllib3.exceptions import DecodeError, ProtocolError, ReadTimeoutError, SSLError

from ..deadlines import deadline
from ..wire import inject_deadline
from .exchange import Exchange, late_error
from .hosts import IDEMPOTENT, Hosts, host_of

__all__ = ["IDEMPOTENT", "FailsoftAdapter"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..course import AnyGuard
    from .hosts import Chooser

_PIECE = 65536
"""Bytes of a body that are asked for at a time."""


class FailsoftAdapter(HTTPAdapter):
    """Sends each request through an integration. What counts as what is as for httpx: see `FailsoftTransport`.

    With `stream=False`, the default, a request has succeeded when its body has been read, and where the body breaks off
    it is sent again as policy says. With `stream=True` it has succeeded when its head has come: what becomes of the
    body is between the caller and the server, and nothing here bounds it but the time limit of one read.

    Each read and connect is given the least of the `timeout` the caller asked for, the integration's `timeouts`, and
    what is left of the attempt and of any deadline around it; the clock is looked at between the pieces of a body. A
    server that drips its head is bounded by nothing, for sync code cannot be interrupted.

    - `integration`, `per_host`, `max_hosts`, `operation`, `retry`, `retry_methods`, `send_deadline`: as for httpx.
    - `options`: those of `HTTPAdapter`. Its `max_retries` are 0 by default and should stay so.
    """

    def __init__(
        self,
        integration: Chooser,
        *,
        per_host: bool = False,
        max_hosts: int = 256,
        operation: str | None = None,
        retry: bool = True,
        retry_methods: Iterable[str] = IDEMPOTENT,
        send_deadline: bool | str = False,
        **options: Any,
    ) -> None:
        self._hosts = Hosts(
            integration,
            per_host=per_host,
            max_hosts=max_hosts,
            operation=operation,
            retry=retry,
            retry_methods=retry_methods,
            send_deadline=send_deadline,
        )
        super().__init__(**options)

    def __reduce__(self) -> Any:
        raise TypeError("an adapter of failsoft belongs to its process and cannot be pickled")

    def send(
        self,
        request: Any,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send a prepared request through the gate. `requests.Session` calls it."""
        hosts, method = self._hosts, request.method
        host = ""
        if hosts.by_host:
            url = urlsplit(request.url)
            host = host_of(url.scheme, url.hostname, url.port)
        again = method in hosts.retry_methods or "Idempotency-Key" in request.headers
        guard = hosts.guard(host, method, again and isinstance(request.body, (bytes, str, type(None))))
        options = {"stream": stream, "verify": verify, "cert": cert, "proxies": proxies}
        if guard._disabled:
            return super().send(request, timeout=timeout, **options)
        exchange = _Exchange(guard, self, request, timeout, options)
        response: requests.Response = exchange.run()
        exchange.ended()
        return response

    def send_bare(self, request: Any, timeout: tuple[float, float], options: dict[str, Any]) -> requests.Response:
        """Send it past the gate."""
        return super().send(request, timeout=timeout, **options)


class _Exchange(Exchange):
    __slots__ = ("_adapter", "_header", "_options", "_request", "_timeout")

    late_error = late_error(requests.ReadTimeout)

    def __init__(
        self, guard: AnyGuard, adapter: FailsoftAdapter, request: Any, timeout: Any, options: dict[str, Any]
    ) -> None:
        super().__init__(guard)
        self._adapter = adapter
        self._header = adapter._hosts.deadline_header
        self._request = request
        self._timeout = timeout
        self._options = options

    def _send(self, seconds: float) -> tuple[Any, int]:
        header = self._header
        if header is not None:
            with deadline(seconds):
                inject_deadline(self._request.headers, header=header)
        asked = self._timeout
        if isinstance(asked, tuple):
            connect, read = asked
        else:  # a number, None, or urllib3's own Timeout
            connect, read = getattr(asked, "connect_timeout", asked), getattr(asked, "read_timeout", asked)
        limits = self._guard._recovery.integration.config.timeouts
        timeout = _least(connect, limits.connect, seconds), _least(read, limits.read, seconds)
        response = self._adapter.send_bare(self._request, timeout, self._options)
        if not self._options["stream"]:
            self._read(response)
        return response, response.status_code

    def _read(self, response: requests.Response) -> None:
        """Read the body as `Response.content` does, but with a look at the clock after each piece."""
        pieces = []
        try:
            while piece := response.raw.read1(_PIECE, decode_content=True):
                pieces.append(piece)
                self.in_time()
        except ProtocolError as error:
            raise requests.exceptions.ChunkedEncodingError(error) from error
        except DecodeError as error:
            raise requests.exceptions.ContentDecodingError(error) from error
        except ReadTimeoutError as error:
            raise requests.ReadTimeout(error, request=self._request) from error
        except SSLError as error:
            raise requests.exceptions.SSLError(error) from error
        finally:
            response.raw.release_conn() if response.raw.closed else response.close()
        response._content = b"".join(pieces)
        response._content_consumed = True

    def _drop(self, response: Any) -> None:
        response.close()


def _least(asked: float | None, limit: float, left: float) -> float:
    least = min(limit, left)
    return least if not isinstance(asked, (int, float)) else min(asked, least)
