"""The errors we raise, and what we make of the errors of others.

An `IntegrationError` has one set of fields however it was made. A refusal has to cost next to nothing, so C
makes it without its fields: `args` holds a refusal whose `describe()` gives them all, and the first look at
one of them asks it. Hence nothing here may rely on `__init__` having run, nor add to the C layout of
`Exception`.

Classification knows the standard library and HTTP statuses. It goes by the names of classes, so nothing is
imported that the user has not imported.
"""

from __future__ import annotations

import errno
import math
import sys
import time
from collections.abc import Mapping
from functools import lru_cache

from .config import LONGEST, RETRYABLE, ErrorCategory, IntegrationType

TYPE_CHECKING = False  # spares the import of `typing`; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

_PREFIXES = {
    IntegrationType.DATABASE: "DB",
    IntegrationType.AI_SERVICE: "AI",
    IntegrationType.MARKET_DATA: "MARKET",
    IntegrationType.CACHE: "CACHE",
    IntegrationType.EXTERNAL_API: "API",
}


class IntegrationError(Exception):
    """A call through an integration failed, or was refused.

    `code` is a prefix of the integration's type (DB, AI, MARKET, CACHE, API; INTEGRATION where none is known)
    and the category: "DB_TIMEOUT". `timestamp` is in seconds since the epoch, `retry_after` in seconds from
    then. `retryable` says whether the same call may succeed later. `reason` says why we refused or stopped
    retrying. `original_error` is also `__cause__`; where it could not be pickled on its way between
    processes, it is a string, its repr.
    """

    code: str
    category: ErrorCategory
    message: str
    details: Mapping[str, object]
    original_error: BaseException | str | None
    timestamp: float
    retryable: bool
    integration_type: IntegrationType | None
    integration_name: str | None
    operation: str | None
    attempts: int
    retry_after: float | None
    reason: str | None

    _category = ErrorCategory.UNKNOWN  # unless the constructor is told
    _suffix = ""  # of the code, where it is not the category

    def __init__(
        self,
        message: str = "",
        *,
        category: ErrorCategory | None = None,
        code: str | None = None,
        details: Mapping[str, object] | None = None,
        original_error: BaseException | None = None,
        timestamp: float | None = None,
        retryable: bool | None = None,
        integration_type: IntegrationType | None = None,
        integration_name: str | None = None,
        operation: str | None = None,
        attempts: int = 0,
        retry_after: float | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.category = self._category if category is None else category
        prefix = "INTEGRATION" if integration_type is None else _PREFIXES[integration_type]
        self.code = code or f"{prefix}_{self._suffix or self.category}"
        self.message = message
        self.details = dict(details or {})
        self.original_error = original_error
        if original_error is not None:  # None would hide the error being handled
            self.__cause__ = original_error
        self.timestamp = time.time() if timestamp is None else timestamp
        self.retryable = self.category in RETRYABLE if retryable is None else retryable
        self.integration_type = integration_type
        self.integration_name = integration_name
        self.operation = operation
        self.attempts = attempts
        self.retry_after = retry_after
        self.reason = reason

    if not TYPE_CHECKING:  # a checker would take it for leave to read any name

        def __getattr__(self, name):
            fields = self.__dict__
            if name in _FIELDS:
                if self.args and hasattr(type(self.args[0]), "describe"):
                    for field, value in self.args[0].describe().items():
                        fields.setdefault(field, value)  # one that was set since then stays
                if name in fields:
                    return fields[name]
                if name in _UNSET:  # a subclass whose __init__ left ours out
                    return _UNSET[name]
            problem = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(problem, name=name, obj=self)

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, code={self.code!r})"

    def to_dict(self) -> dict[str, object]:
        """Return all fields by name, ready for JSON if `details` is; the original error as its repr."""
        state = {name: getattr(self, name) for name in _FIELDS}
        state["details"] = dict(self.details)
        if isinstance(self.original_error, BaseException):
            state["original_error"] = _repr(self.original_error)
        return state

    def __reduce__(self) -> tuple[object, ...]:
        fields = {name: getattr(self, name) for name in _FIELDS}  # asks the refusal, which stays behind
        return _revive, (type(self), _portable(self.__dict__ | fields))


_FIELDS = tuple(IntegrationError.__annotations__)
_UNSET: dict[str, Any] = {
    "code": "INTEGRATION_UNKNOWN",
    "category": ErrorCategory.UNKNOWN,
    "message": "",
    "details": {},
    "timestamp": 0.0,
    "retryable": False,
    "attempts": 0,
    **dict.fromkeys(("original_error", "integration_type", "integration_name", "operation", "retry_after", "reason")),
}


class CircuitOpenError(IntegrationError):
    """The breaker refused the call, which was not made: "DB_CIRCUIT_OPEN". See `retry_after`."""

    _suffix = "CIRCUIT_OPEN"


class DegradedModeError(IntegrationError):
    """The gate let this call not go, for only a share of them may: "DB_DEGRADED". See `details["capacity"]`."""

    _suffix = "DEGRADED"


class IntegrationTimeoutError(IntegrationError, TimeoutError):
    """An attempt or the whole operation passed its time limit: "DB_TIMEOUT"."""

    _category = ErrorCategory.TIMEOUT


def _revive(cls: type[IntegrationError], state: dict[str, Any]) -> IntegrationError:
    error = cls.__new__(cls)  # a subclass may have another __init__
    error.args = (state["message"],)
    error.__dict__.update(state)
    if isinstance(error.original_error, BaseException):
        error.__cause__ = error.original_error
    return error


def _portable(value: object) -> object:
    """Return `value`, or the repr of what in it cannot be pickled: better a detail lost than the error."""
    import pickle

    if type(value) is dict:
        return {key: _portable(item) for key, item in value.items()}
    try:
        pickle.loads(pickle.dumps(value))  # there and back: an exception may fail in its own __init__
    except Exception:
        return _repr(value)
    return value


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return object.__repr__(value)


# By the qualified name of a class; the first one found in the order of inheritance decides.
_CATEGORIES = {
    "builtins.TimeoutError": ErrorCategory.TIMEOUT,  # also socket's, asyncio's and concurrent.futures'
    "multiprocessing.context.TimeoutError": ErrorCategory.TIMEOUT,
    "subprocess.TimeoutExpired": ErrorCategory.TIMEOUT,
    "builtins.ConnectionError": ErrorCategory.NETWORK,
    "builtins.EOFError": ErrorCategory.NETWORK,  # also asyncio.IncompleteReadError
    "socket.gaierror": ErrorCategory.NETWORK,
    "socket.herror": ErrorCategory.NETWORK,
    "ssl.SSLError": ErrorCategory.NETWORK,
    "http.client.IncompleteRead": ErrorCategory.NETWORK,
    "urllib.error.ContentTooShortError": ErrorCategory.NETWORK,
    # Undecodable replies: the peer answered, with rubbish.
    "json.decoder.JSONDecodeError": ErrorCategory.SERVER_ERROR,
    "builtins.UnicodeError": ErrorCategory.SERVER_ERROR,
    "http.client.BadStatusLine": ErrorCategory.SERVER_ERROR,
    "http.client.LineTooLong": ErrorCategory.SERVER_ERROR,
    # The database answered, and the statement is to blame.
    "sqlite3.DataError": ErrorCategory.CLIENT_ERROR,
    "sqlite3.IntegrityError": ErrorCategory.CLIENT_ERROR,
    "sqlite3.ProgrammingError": ErrorCategory.CLIENT_ERROR,
    # Bad input, noticed on our side.
    "builtins.UnicodeEncodeError": ErrorCategory.VALIDATION,
    "builtins.ValueError": ErrorCategory.VALIDATION,
    "builtins.TypeError": ErrorCategory.VALIDATION,
    "http.client.InvalidURL": ErrorCategory.VALIDATION,
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


def classify_error(error: BaseException) -> ErrorCategory:
    """Return the category of `error`, UNKNOWN where nothing is known of it.

    An `IntegrationError` has its own, and so has each plain error of the standard library. Elsewhere an HTTP
    status counts (`.status`, `.status_code`, or those of `.response`: 429 RATE_LIMIT, 408 and 504 TIMEOUT,
    other 5xx SERVER_ERROR, other 4xx CLIENT_ERROR), then what the class inherits, then for an `OSError` its
    errno or its `.reason`. A group whose members agree has their category. Errors of files stay UNKNOWN: a
    missing socket file is how a stopped local service looks, and nobody answered, so it must not count as a
    success of the breaker.
    """
    if isinstance(error, IntegrationError):
        return error.category
    cls: type = type(error)
    category, settled = _category_of_class(cls)
    if settled:
        return category
    if (status := _status_of(error)) is not None:
        return _category_of_status(status)
    if category is not ErrorCategory.UNKNOWN:
        return category
    if isinstance(error, OSError):
        return _category_of_os_error(error)
    if isinstance(error, BaseExceptionGroup):
        categories = set(map(classify_error, error.exceptions))
        return categories.pop() if len(categories) == 1 else ErrorCategory.UNKNOWN
    return ErrorCategory.UNKNOWN


@lru_cache(maxsize=256)  # bounded, for a class made inside a function is new each time
def _category_of_class(cls: type) -> tuple[ErrorCategory, bool]:
    """Return the category by class, and whether that settles it: no plain standard error carries a status."""
    for base in cls.__mro__:
        if category := _CATEGORIES.get(_name_of(base)):
            return category, cls.__module__.partition(".")[0] in sys.stdlib_module_names
    return ErrorCategory.UNKNOWN, False


def _name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _category_of_status(status: int) -> ErrorCategory:
    if status == 429:
        return ErrorCategory.RATE_LIMIT
    if status in (408, 504):
        return ErrorCategory.TIMEOUT
    return ErrorCategory.SERVER_ERROR if status >= 500 else ErrorCategory.CLIENT_ERROR


def _category_of_os_error(error: OSError) -> ErrorCategory:
    reason = _peek(error, "reason")  # urllib's URLError wraps what happened
    if isinstance(reason, BaseException):
        return classify_error(reason)
    name = _errno_name(error)
    if name == "ETIMEDOUT":
        return ErrorCategory.TIMEOUT
    # asyncio joins the failures of several addresses in one OSError that has no errno
    if name in _NETWORK_ERRNOS or OSError.__str__(error).startswith("Multiple exceptions: [Errno"):
        return ErrorCategory.NETWORK
    return ErrorCategory.UNKNOWN


def _errno_name(error: OSError) -> str:
    number = error.errno  # the first of two arguments, whatever it was
    known = errno.errorcode.get(number, "") if isinstance(number, int) else ""
    return known.removeprefix("WSA")  # as Windows writes them


def _status_of(error: BaseException) -> int | None:
    for source in (error, _peek(error, "response")):
        for name in ("status", "status_code"):
            status = _peek(source, name)
            if isinstance(status, int) and 400 <= status <= 599:
                return status
    return None


def _peek(source: object, name: str) -> Any:
    try:
        return getattr(source, name, None)
    except Exception:  # some clients raise from a property that is not set yet
        return None


def retry_after_of(error: BaseException) -> float | None:
    """Return how many seconds the peer asked us to wait, at most `LONGEST`, or None without a usable hint.

    Read from `.retry_after`, then from the headers of the error or of its `.response`: Retry-After-Ms, then
    Retry-After in seconds or as an HTTP date. A date is measured from the reply's own Date where it has one,
    so our clock may be wrong.
    """
    if (hint := _seconds(_peek(error, "retry_after"))) is not None:
        return hint
    for source in (error, _peek(error, "response")):
        headers = _peek(source, "headers")
        if (millis := _seconds(_header(headers, "Retry-After-Ms"))) is not None:
            return millis / 1000
        after = _header(headers, "Retry-After")
        if (hint := _seconds(after)) is not None:
            return hint
        if (until := _epoch(after)) is not None:
            return _seconds(until - (_epoch(_header(headers, "Date")) or time.time()))
    return None


def _header(headers: object, name: str) -> object:
    get = _peek(headers, "get")
    try:
        return get(name) or get(name.lower())  # a plain dict of headers is often in lower case
    except Exception:
        return None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return min(seconds, LONGEST) if 0 <= seconds < math.inf else None


def _epoch(value: object) -> float | None:
    if not isinstance(value, str):
        return None
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None


def never_sent(error: BaseException) -> bool:
    """Say whether the call provably never reached its peer, so that any call may be repeated.

    True for a refused connection, a name that could not be resolved and our own refusal.
    """
    if isinstance(error, (ConnectionRefusedError, CircuitOpenError)):
        return True
    if not isinstance(error, OSError):
        return False
    reason = _peek(error, "reason")
    if isinstance(reason, BaseException):
        return never_sent(reason)
    return _errno_name(error) == "ECONNREFUSED" or "socket.gaierror" in map(_name_of, type(error).__mro__)
