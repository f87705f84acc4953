"""What the errors of the standard library mean.

By the qualified names of classes, so that nothing is imported that the user has not imported. A class stands for all
derived from it; the first one found in the order of inheritance decides. What stands nowhere here means UNKNOWN,
which is not retried and counts as a failure: KeyError or AttributeError may be a bug or an unexpected reply, a
cancelled future was cancelled on purpose, and a missing socket file is how a stopped local service looks.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from .config import ErrorCategory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Rule = ErrorCategory | Callable[[Any], ErrorCategory | None]


def category_of_status(status: object) -> ErrorCategory | None:
    """Return what an HTTP status from 400 to 599 means, None for anything else."""
    if not isinstance(status, int) or not 400 <= status <= 599:
        return None
    if status == 429:
        return ErrorCategory.RATE_LIMIT
    if status in (408, 504):
        return ErrorCategory.TIMEOUT
    return ErrorCategory.SERVER_ERROR if status >= 500 else ErrorCategory.CLIENT_ERROR


def _of_urllib(error: object) -> ErrorCategory | None:
    """A redirect that could not be followed is an answer, and so is 304; all else says `.status`."""
    status = peek(error, "code")
    return ErrorCategory.CLIENT_ERROR if isinstance(status, int) and 300 <= status <= 399 else None


def _of_xmlrpc_protocol(error: object) -> ErrorCategory | None:
    return category_of_status(peek(error, "errcode"))


# The codes set aside by the specification for fault code interoperability: the server's own troubles.
_XMLRPC_SERVER_FAULTS = {-32603, -32500, -32400, -32300, *range(-32099, -31999)}


def _of_xmlrpc_fault(error: object) -> ErrorCategory:
    """Other faults are the application's, or say that the request was bad; the next one would be the same."""
    code = peek(error, "faultCode")
    own = isinstance(code, int) and code in _XMLRPC_SERVER_FAULTS
    return ErrorCategory.SERVER_ERROR if own else ErrorCategory.CLIENT_ERROR


# By the primary code, the low byte of sqlite_errorcode (sqlite.org/rescode.html). SQLITE_BUSY comes after the wait
# that connect(timeout=) sets, SQLITE_LOCKED is the same between the connections of one process.
_SQLITE = {
    1: ErrorCategory.CLIENT_ERROR,  # SQLITE_ERROR: no such table, a syntax error
    5: ErrorCategory.TIMEOUT,  # SQLITE_BUSY: database is locked
    6: ErrorCategory.TIMEOUT,  # SQLITE_LOCKED: database table is locked
    8: ErrorCategory.CLIENT_ERROR,  # SQLITE_READONLY
    10: ErrorCategory.SERVER_ERROR,  # SQLITE_IOERR
    13: ErrorCategory.SERVER_ERROR,  # SQLITE_FULL
    14: ErrorCategory.SERVER_ERROR,  # SQLITE_CANTOPEN
    15: ErrorCategory.SERVER_ERROR,  # SQLITE_PROTOCOL: a race for the write-ahead log
}


def _of_sqlite(error: Exception) -> ErrorCategory | None:
    code = peek(error, "sqlite_errorcode")
    if isinstance(code, int):
        return _SQLITE.get(code & 0xFF)
    words = error.args[0] if error.args else None  # made by hand, as tests do
    return ErrorCategory.TIMEOUT if isinstance(words, str) and words.endswith(" is locked") else None


def _of_smtp(error: object) -> ErrorCategory | None:
    """The other way round than HTTP: a 4xx reply asks to try again later, a 5xx one is final (RFC 5321, 4.2.1)."""
    recipients = peek(error, "recipients")  # of SMTPRecipientsRefused: a reply for each
    replies = recipients.values() if isinstance(recipients, dict) else [(peek(error, "smtp_code"), b"")]
    codes = [reply[0] for reply in replies if isinstance(reply, tuple) and reply and isinstance(reply[0], int)]
    if any(500 <= code <= 599 for code in codes):
        return ErrorCategory.CLIENT_ERROR
    return ErrorCategory.SERVER_ERROR if any(400 <= code <= 499 for code in codes) else None


RULES: dict[str, Rule] = {
    "builtins.TimeoutError": ErrorCategory.TIMEOUT,  # also socket's, asyncio's and concurrent.futures'
    "multiprocessing.context.TimeoutError": ErrorCategory.TIMEOUT,
    "subprocess.TimeoutExpired": ErrorCategory.TIMEOUT,
    "builtins.ConnectionError": ErrorCategory.NETWORK,
    "builtins.EOFError": ErrorCategory.NETWORK,  # cut short: also asyncio.IncompleteReadError, and of gzip
    "socket.gaierror": ErrorCategory.NETWORK,
    "socket.herror": ErrorCategory.NETWORK,
    "ssl.SSLError": ErrorCategory.NETWORK,
    # Somebody answered whom we must not believe, and will again: no retry, but the breaker should know.
    "ssl.SSLCertVerificationError": ErrorCategory.UNKNOWN,
    "http.client.IncompleteRead": ErrorCategory.NETWORK,
    "urllib.error.ContentTooShortError": ErrorCategory.NETWORK,
    "smtplib.SMTPServerDisconnected": ErrorCategory.NETWORK,
    "imaplib.IMAP4.abort": ErrorCategory.NETWORK,  # "close the instance and make a new one"
    # Undecodable replies: the peer answered, with rubbish.
    "json.decoder.JSONDecodeError": ErrorCategory.SERVER_ERROR,
    "builtins.UnicodeError": ErrorCategory.SERVER_ERROR,
    "http.client.BadStatusLine": ErrorCategory.SERVER_ERROR,
    "http.client.LineTooLong": ErrorCategory.SERVER_ERROR,
    "http.client.UnknownProtocol": ErrorCategory.SERVER_ERROR,
    "asyncio.exceptions.LimitOverrunError": ErrorCategory.SERVER_ERROR,
    "ftplib.error_proto": ErrorCategory.SERVER_ERROR,
    "ftplib.error_reply": ErrorCategory.SERVER_ERROR,
    "xmlrpc.client.ResponseError": ErrorCategory.SERVER_ERROR,
    "binascii.Error": ErrorCategory.SERVER_ERROR,
    "binascii.Incomplete": ErrorCategory.SERVER_ERROR,
    "zlib.error": ErrorCategory.SERVER_ERROR,
    "gzip.BadGzipFile": ErrorCategory.SERVER_ERROR,
    "_lzma.LZMAError": ErrorCategory.SERVER_ERROR,
    "zipfile.BadZipFile": ErrorCategory.SERVER_ERROR,
    "tarfile.ReadError": ErrorCategory.SERVER_ERROR,
    "xml.etree.ElementTree.ParseError": ErrorCategory.SERVER_ERROR,
    "xml.parsers.expat.ExpatError": ErrorCategory.SERVER_ERROR,
    "xml.sax._exceptions.SAXParseException": ErrorCategory.SERVER_ERROR,
    "email.errors.MessageParseError": ErrorCategory.SERVER_ERROR,
    "email.errors.MessageDefect": ErrorCategory.SERVER_ERROR,
    "_pickle.UnpicklingError": ErrorCategory.SERVER_ERROR,
    # The peer answered that it cannot now.
    "ftplib.error_temp": ErrorCategory.SERVER_ERROR,
    "sqlite3.InternalError": ErrorCategory.SERVER_ERROR,
    # The peer answered, and the request is to blame.
    "sqlite3.DataError": ErrorCategory.CLIENT_ERROR,
    "sqlite3.IntegrityError": ErrorCategory.CLIENT_ERROR,
    "sqlite3.InterfaceError": ErrorCategory.CLIENT_ERROR,
    "sqlite3.NotSupportedError": ErrorCategory.CLIENT_ERROR,
    "sqlite3.ProgrammingError": ErrorCategory.CLIENT_ERROR,
    "ftplib.error_perm": ErrorCategory.CLIENT_ERROR,
    "imaplib.IMAP4.error": ErrorCategory.CLIENT_ERROR,
    "imaplib.IMAP4.readonly": ErrorCategory.CLIENT_ERROR,
    "smtplib.SMTPNotSupportedError": ErrorCategory.CLIENT_ERROR,
    # The answer has a code.
    "urllib.error.HTTPError": _of_urllib,
    "xmlrpc.client.ProtocolError": _of_xmlrpc_protocol,
    "xmlrpc.client.Fault": _of_xmlrpc_fault,
    "sqlite3.OperationalError": _of_sqlite,
    "smtplib.SMTPResponseException": _of_smtp,
    "smtplib.SMTPRecipientsRefused": _of_smtp,
    # Bad input, noticed on our side.
    "builtins.UnicodeEncodeError": ErrorCategory.VALIDATION,
    "builtins.ValueError": ErrorCategory.VALIDATION,
    "builtins.TypeError": ErrorCategory.VALIDATION,
    "http.client.InvalidURL": ErrorCategory.VALIDATION,
    "_pickle.PicklingError": ErrorCategory.VALIDATION,
}

_NETWORK_ERRNOS = {
    "ECONNREFUSED",
    "ECONNRESET",
    "ECONNABORTED",
    "EPIPE",
    "ESHUTDOWN",
    "ENOTCONN",
    "ENETDOWN",
    "ENETUNREACH",
    "ENETRESET",
    "ENONET",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "EADDRNOTAVAIL",
    "ENOBUFS",
    "EPROTO",
}


def name_of(cls: type) -> str:
    """Return the name that a class goes by here."""
    return f"{cls.__module__}.{cls.__qualname__}"


def category_of_errno(error: OSError) -> ErrorCategory:
    """Return what an `OSError` means that is of no class known here."""
    name = errno_name(error)
    if name == "ETIMEDOUT":
        return ErrorCategory.TIMEOUT
    # asyncio joins the failures of several addresses in one OSError that has no errno
    if name in _NETWORK_ERRNOS or OSError.__str__(error).startswith("Multiple exceptions: [Errno"):
        return ErrorCategory.NETWORK
    return ErrorCategory.UNKNOWN


def errno_name(error: OSError) -> str:
    """Return "ECONNREFUSED" and the like, "" if there is none."""
    number = error.errno  # the first of two arguments, whatever it was
    known = errno.errorcode.get(number, "") if isinstance(number, int) else ""
    return known.removeprefix("WSA")  # as Windows writes them


def peek(source: object, name: str) -> Any:
    """Return an attribute, or None where it is missing or raises, as some clients' properties do until they are set."""
    try:
        return getattr(source, name, None)
    except Exception:
        return None
