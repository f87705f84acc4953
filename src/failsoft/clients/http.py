"""What the errors of HTTP and WebSocket clients mean: httpx, httpx2, aiohttp, requests, urllib3 and websockets."""

from __future__ import annotations

from ..config import ErrorCategory
from ..standard import category_of_status, errno_name, name_of, peek

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..standard import Rule

_DEEPEST = 6
"""Errors that are looked at behind one: clients wrap those of their transport, which wraps those of the sockets."""

_UNTRUSTED = "ssl.SSLCertVerificationError"
_RUBBISH = {"http.client.BadStatusLine", "http.client.LineTooLong", "http.client.UnknownProtocol"}


def _behind(error: BaseException) -> list[str]:
    """The names of the classes of what is behind an error: its causes, reasons and arguments."""
    names: list[str] = []
    waiting: list[object] = [error]
    for _ in range(_DEEPEST):
        if not waiting:
            break
        each = waiting.pop()
        if isinstance(each, BaseException):
            names.extend(map(name_of, type(each).__mro__))
            waiting += (*each.args, each.__context__, peek(each, "reason"), each.__cause__)
        while waiting and not isinstance(waiting[-1], BaseException):
            waiting.pop()
    return names


def connection(error: BaseException) -> ErrorCategory:
    """NETWORK, but where the certificate is not to be trusted: somebody answered, and will again."""
    return ErrorCategory.UNKNOWN if _UNTRUSTED in _behind(error) else ErrorCategory.NETWORK


def _of_os_error(error: OSError) -> ErrorCategory:
    return ErrorCategory.TIMEOUT if errno_name(error) == "ETIMEDOUT" else connection(error)


def _of_response_of_aiohttp(error: BaseException) -> ErrorCategory | None:
    """A reply that cannot be parsed is given the status 400, as if the server had said it."""
    cause = error.__cause__
    if cause is not None and "aiohttp.http_exceptions.HttpProcessingError" in map(name_of, type(cause).__mro__):
        return ErrorCategory.SERVER_ERROR
    return None


def _of_protocol(error: BaseException) -> ErrorCategory:
    """urllib3's ProtocolError and what wraps it: broken off, or rubbish."""
    behind = _behind(error)
    if not _RUBBISH.isdisjoint(behind) and "http.client.RemoteDisconnected" not in behind:
        return ErrorCategory.SERVER_ERROR
    return ErrorCategory.UNKNOWN if _UNTRUSTED in behind else ErrorCategory.NETWORK


def _of_connection_of_requests(error: BaseException) -> ErrorCategory:
    """A read timeout within a body comes as a ConnectionError."""
    behind = _behind(error)
    if "urllib3.exceptions.ReadTimeoutError" in behind or "urllib3.exceptions.EmptyPoolError" in behind:
        return ErrorCategory.TIMEOUT
    return _of_protocol(error)


def _of_retries(error: BaseException) -> ErrorCategory | None:
    """urllib3 has given up, for a reason."""
    reason = peek(error, "reason")
    if not isinstance(reason, BaseException):
        return None
    names = set(map(name_of, type(reason).__mro__))
    if "urllib3.exceptions.ResponseError" in names:
        return _of_too_many(reason)
    if "urllib3.exceptions.NewConnectionError" in names:
        return ErrorCategory.NETWORK
    if "urllib3.exceptions.TimeoutError" in names:
        return ErrorCategory.TIMEOUT
    return _of_protocol(reason)


def _of_too_many(error: BaseException) -> ErrorCategory:
    """ "too many 503 error responses", or redirects."""
    words = str(error)
    statuses = [int(word) for word in words.split() if word.isdigit()]
    told = category_of_status(statuses[0]) if statuses else None
    return told or (ErrorCategory.CLIENT_ERROR if "redirect" in words else ErrorCategory.SERVER_ERROR)


def _httpx(module: str) -> dict[str, Rule]:
    return {
        f"{module}.TimeoutException": ErrorCategory.TIMEOUT,
        f"{module}.NetworkError": connection,
        f"{module}.RemoteProtocolError": ErrorCategory.NETWORK,
        f"{module}.ProxyError": ErrorCategory.NETWORK,
        f"{module}.SSEError": ErrorCategory.NETWORK,
        f"{module}.HTTPStatusError": ErrorCategory.CLIENT_ERROR,  # a redirect not followed; else the status speaks
        f"{module}.TooManyRedirects": ErrorCategory.CLIENT_ERROR,
        f"{module}.UnsupportedProtocol": ErrorCategory.CLIENT_ERROR,
        f"{module}.LocalProtocolError": ErrorCategory.CLIENT_ERROR,
        f"{module}.DecodingError": ErrorCategory.SERVER_ERROR,  # an undecodable reply
        f"{module}.InvalidURL": ErrorCategory.VALIDATION,
        f"{module}.CookieConflict": ErrorCategory.VALIDATION,
    }


def _aiohttp() -> dict[str, Rule]:
    rules: dict[str, Rule] = {
        "ServerTimeoutError": ErrorCategory.TIMEOUT,
        "ClientOSError": _of_os_error,
        # As for ssl's own: not to be retried, but the breaker should know.
        "ClientConnectorCertificateError": ErrorCategory.UNKNOWN,
        "ServerFingerprintMismatch": ErrorCategory.UNKNOWN,
        "ClientConnectionError": ErrorCategory.NETWORK,
        "ClientPayloadError": ErrorCategory.NETWORK,
        "ClientResponseError": _of_response_of_aiohttp,
        "ContentTypeError": ErrorCategory.SERVER_ERROR,  # an undecodable reply; a status that says more speaks
        "TooManyRedirects": ErrorCategory.CLIENT_ERROR,
        "InvalidUrlRedirectClientError": ErrorCategory.CLIENT_ERROR,
        "NonHttpUrlRedirectClientError": ErrorCategory.CLIENT_ERROR,
        "InvalidURL": ErrorCategory.VALIDATION,
        "NonHttpUrlClientError": ErrorCategory.VALIDATION,
    }
    return {f"aiohttp.client_exceptions.{name}": rule for name, rule in rules.items()}


def _requests() -> dict[str, Rule]:
    rules: dict[str, Rule] = {
        "ConnectTimeout": ErrorCategory.TIMEOUT,  # a ConnectionError, too
        "Timeout": ErrorCategory.TIMEOUT,
        "ConnectionError": _of_connection_of_requests,
        "ProxyError": ErrorCategory.NETWORK,
        "SSLError": connection,
        "ChunkedEncodingError": ErrorCategory.NETWORK,
        "RetryError": _of_too_many,
        "HTTPError": ErrorCategory.CLIENT_ERROR,  # the status speaks, if there is one
        "TooManyRedirects": ErrorCategory.CLIENT_ERROR,
        "InvalidJSONError": ErrorCategory.SERVER_ERROR,
        "ContentDecodingError": ErrorCategory.SERVER_ERROR,
    }
    return {f"requests.exceptions.{name}": rule for name, rule in rules.items()}


def _urllib3() -> dict[str, Rule]:
    rules: dict[str, Rule] = {
        "MaxRetryError": _of_retries,
        "NewConnectionError": ErrorCategory.NETWORK,  # a ConnectTimeoutError, too
        "TimeoutError": ErrorCategory.TIMEOUT,
        "EmptyPoolError": ErrorCategory.TIMEOUT,
        "ProtocolError": _of_protocol,
        "IncompleteRead": ErrorCategory.NETWORK,
        "InvalidChunkLength": ErrorCategory.NETWORK,
        "ProxyError": ErrorCategory.NETWORK,
        "SSLError": connection,
        "ResponseError": _of_too_many,
        "DecodeError": ErrorCategory.SERVER_ERROR,
        "HeaderParsingError": ErrorCategory.SERVER_ERROR,
        "LocationValueError": ErrorCategory.VALIDATION,
        "InvalidHeader": ErrorCategory.VALIDATION,
    }
    return {f"urllib3.exceptions.{name}": rule for name, rule in rules.items()}


_CLOSE_CODES = {
    1007: ErrorCategory.VALIDATION,  # what we sent was not UTF-8
    1008: ErrorCategory.CLIENT_ERROR,  # policy violation: not allowed, mostly
    1011: ErrorCategory.SERVER_ERROR,
    1012: ErrorCategory.SERVER_ERROR,  # it restarts
    1013: ErrorCategory.SERVER_ERROR,  # it is too busy
}
"""RFC 6455, 7.4.1, and the IANA registry of close codes, as the peer gave them."""


_OUR_CLOSE_CODES = {
    1002: ErrorCategory.SERVER_ERROR,  # what came was no frame
    1007: ErrorCategory.SERVER_ERROR,  # nor UTF-8
    1009: ErrorCategory.VALIDATION,  # larger than our own `max_size`, and will be again
    1011: ErrorCategory.TIMEOUT,  # our pings were not answered
}
"""As we gave them first; the peer repeats them."""


def _of_websocket(error: object) -> ErrorCategory:
    """By the code that it was closed with, by who closed it; without one the connection has broken off."""
    code, ours = (peek(peek(error, side), "code") for side in ("rcvd", "sent"))
    if isinstance(ours, int) and (code is None or peek(error, "rcvd_then_sent") is False):
        return _OUR_CLOSE_CODES.get(ours, ErrorCategory.NETWORK)
    return _CLOSE_CODES.get(code, ErrorCategory.NETWORK) if isinstance(code, int) else ErrorCategory.NETWORK


def _websockets() -> dict[str, Rule]:
    rules: dict[str, Rule] = {
        "ConnectionClosed": _of_websocket,
        "InvalidMessage": ErrorCategory.NETWORK,  # broken off in the handshake
        "ProxyError": ErrorCategory.NETWORK,
        "InvalidHandshake": ErrorCategory.SERVER_ERROR,  # whoever answered speaks no WebSocket; a status says more
        "SecurityError": ErrorCategory.SERVER_ERROR,
        "NegotiationError": ErrorCategory.VALIDATION,
        "PayloadTooBig": ErrorCategory.VALIDATION,
        "ProtocolError": ErrorCategory.VALIDATION,
        "InvalidURI": ErrorCategory.VALIDATION,
        "InvalidProxy": ErrorCategory.VALIDATION,
    }
    return {f"websockets.exceptions.{name}": rule for name, rule in rules.items()}


RULES: dict[str, Rule] = {
    **_httpx("httpx"),
    **_httpx("httpx2"),
    **_aiohttp(),
    **_requests(),
    **_urllib3(),
    **_websockets(),
}
