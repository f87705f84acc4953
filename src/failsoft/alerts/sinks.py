"""Where notices go: to a log, to a function of yours, to a webhook, to Slack.

A sink has a `name`, a `timeout` in seconds for one call of `send(notice)`, and says by `again` whether a notice that
could not be delivered is worth another try. Anything with these four will do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..checks import number, shown
from ..functions import is_coroutine_function, name_of
from .notices import RESOLVED, Notice, cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger
    from typing import Any, Protocol

    class Sink(Protocol):
        """Somebody who is told."""

        name: str
        timeout: float
        again: bool

        def send(self, notice: Notice) -> object: ...


TIMEOUT = 5.0
"""Seconds that one call of a sink may take, by default."""

_timeout = number(float, 1e-3, 3600.0, " of seconds")


def _checked_url(url: object) -> tuple[str, str]:
    """The address and the host in it. A mistake is told without it: it may be a secret."""
    from urllib.parse import urlsplit

    host = port = None
    if isinstance(url, str) and url.isascii() and url.isprintable() and " " not in url:
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname, parts.port) if parts.scheme in ("http", "https") else (None, None)
        except ValueError:
            pass
    if not host:
        raise ValueError("url must be one of http or https with a host, of printable ASCII alone, got another")
    return str(url), host if port is None else f"{host}:{port}"


def _checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Headers as they can be sent; a mistake is told by the name alone."""
    given = dict(headers or {})
    for name, value in given.items():
        if not isinstance(name, str) or not name or not name.replace("-", "a").replace("_", "a").isalnum():
            raise ValueError(f"headers must have names of letters, digits and hyphens, got {shown(name)}")
        if not isinstance(value, str) or not (value.isascii() and value.isprintable()):
            raise ValueError(f"headers[{name!r}] must be a string of printable ASCII, got another")
    return given


class LogSink:
    """To a logger, `failsoft.alerts` by default: critical alerts as ERROR, warnings as WARNING, all else as INFO.

    The record's `extra` has the notice's fields, each with "alert_" before its name.
    """

    again = False

    def __init__(self, logger: Logger | None = None, *, name: str = "log", timeout: float = TIMEOUT) -> None:
        self.name = name
        self.timeout: float = _timeout("timeout", timeout)  # type: ignore[assignment]
        self._logger = logger

    def send(self, notice: Notice) -> None:
        """Log it."""
        import logging

        logger = self._logger or logging.getLogger("failsoft.alerts")
        levels = {"critical": logging.ERROR, "warning": logging.WARNING}
        level = logging.INFO if notice.kind == RESOLVED else levels.get(notice.severity, logging.INFO)
        extra = {f"alert_{name}": value for name, value in notice.as_dict().items()}
        logger.log(level, "%s", notice, extra=extra)


class CallbackSink:
    """To a function of yours, called with each `Notice` in a thread of ours, one at a time.

    One that takes longer than `timeout` seconds is left alone there, and the next notice goes to another thread.
    """

    again = False

    def __init__(
        self, callback: Callable[[Notice], object], *, name: str | None = None, timeout: float = TIMEOUT
    ) -> None:
        if not callable(callback):
            raise TypeError(f"callback must be callable with one notice, got {shown(callback)}")
        if is_coroutine_function(callback):
            raise TypeError(
                f"callback must be a plain function, as no loop runs where it is called, got {shown(callback)}; "
                f"asyncio.run_coroutine_threadsafe reaches yours"
            )
        self.name = name or name_of(callback)
        self.timeout: float = _timeout("timeout", timeout)  # type: ignore[assignment]
        self._callback = callback

    def send(self, notice: Notice) -> None:
        """Call it."""
        self._callback(notice)


class WebhookSink:
    """By HTTP POST to an address of your own, as JSON: `Notice.as_dict()` with "host" and "process" beside it.

    Any answer of 2xx will do; redirects are not followed. What could not be delivered is tried again, so that a
    receiver may get a notice twice: "id" is the same then. `headers` go with each request. The address may be a secret:
    neither `name`, which is its host by default, nor any message of ours has more of it than that. `payload` makes
    another body of a notice, anything that JSON can hold.
    """

    again = True

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
        timeout: float = TIMEOUT,
        payload: Callable[[Notice], object] | None = None,
    ) -> None:
        self._url, host = _checked_url(url)
        self._headers = _checked_headers(headers)
        if payload is not None and not callable(payload):
            raise TypeError(f"payload must be a function of a notice, got {shown(payload)}")
        self.name = name or host
        self.timeout: float = _timeout("timeout", timeout)  # type: ignore[assignment]
        self._payload = payload

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def body(self, notice: Notice) -> object:
        """What is sent, before it is JSON."""
        if self._payload is not None:
            return self._payload(notice)
        import os
        import socket

        return {"version": 1, "host": socket.gethostname(), "process": os.getpid(), **notice.as_dict()}

    def send(self, notice: Notice) -> None:
        """Post it. `OSError` where nobody answers in time, and `urllib.error.HTTPError`, which is one, for an answer
        other than 2xx."""
        from .posting import post

        post(self._url, self.body(notice), self._headers, self.timeout)


class SlackSink(WebhookSink):
    """To an incoming webhook of Slack, or of what speaks as Slack does (Mattermost, Rocket.Chat, Discord's /slack)."""

    def body(self, notice: Notice) -> object:
        """A message with the colour of its severity."""
        return slack_payload(notice) if self._payload is None else self._payload(notice)


_COLOURS = {"critical": "#c62828", "warning": "#f9a825", "info": "#1565c0"}
_CALM = "#2e7d32"


def slack_payload(notice: Notice) -> dict[str, Any]:
    """A notice as Slack's incoming webhooks take it. Names are inert: no mention, no link with another text comes out
    of them, and in Slack no markup."""
    whom = notice.integration if notice.operation is None else f"{notice.integration}.{notice.operation}"
    fields = [("Integration", whom), ("Severity", notice.severity), ("Condition", notice.condition),
              ("Seen", notice.words)]  # fmt: skip
    return {
        "text": _slack(str(notice)),
        "mrkdwn": False,
        "attachments": [
            {
                "color": _CALM if notice.kind == RESOLVED else _COLOURS.get(notice.severity, _CALM),
                "fallback": _slack(str(notice)),
                "fields": [{"title": title, "value": _slack(cut(text)), "short": True} for title, text in fields],
                "mrkdwn_in": [],
                "ts": int(notice.timestamp),
            }
        ],
    }


def _slack(text: str) -> str:
    """Slack's three characters escaped, and marks of mentions and links held apart by nothing that can be seen."""
    for mark, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(mark, safe)
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text.replace("@", "@\u200b").replace("](", "]\u200b(")


def sink_of(given: Any) -> Sink:
    """A sink as it is, a function as one. TypeError for anything else."""
    if all(hasattr(given, part) for part in ("name", "timeout", "again", "send")):
        sink: Sink = given
        return sink
    if callable(given) and not isinstance(given, type):
        return CallbackSink(given)
    raise TypeError(f"a sink must have name, timeout, again and send(notice), or be a function, got {shown(given)}")
