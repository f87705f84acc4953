"""One HTTP POST, by the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping

from .._core import remaining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LEAST = 0.05
"""Seconds given to a connection whose time is all but up."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST becomes a GET, which tells nobody anything: a redirect is an error here."""

    def redirect_request(self, *_: Any) -> None:
        return None


def post(url: str, body: object, headers: Mapping[str, str], timeout: float) -> None:
    """Send it as JSON. `OSError`, and `urllib.error.HTTPError` for an answer other than 2xx."""
    data = json.dumps(body, default=str).encode()
    fields = {"Content-Type": "application/json", "User-Agent": "failsoft", **headers}
    request = urllib.request.Request(url, data=data, headers=fields, method="POST")
    left = remaining()
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(request, timeout=timeout if left is None else max(min(left, timeout), LEAST)):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        raise
