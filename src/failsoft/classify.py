"""What we make of the errors of others.

Classification asks in this order: the classifiers that the user registered, the tables of the standard library and of
common clients (`standard.py`, `clients`) and the classifiers that installed packages bring (`plugins.py`), an HTTP
status that the error carries. What can be told from its class
alone is told once for each class; so is who has to be asked. A failing call thus pays one look into a dict, without a
lock.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from . import clients, plugins, standard
from .checks import LONGEST, shown
from .config import ErrorCategory
from .errors import REFUSALS, IntegrationError
from .forks import new_lock
from .functions import is_coroutine_function
from .logs import complain
from .standard import category_of_errno, category_of_status, errno_name, name_of, peek

TYPE_CHECKING = False  # spares the import of `typing`; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, TypeAlias, TypeVar

    from .standard import Rule

    E = TypeVar("E", bound=Exception)
    Ruling: TypeAlias = tuple[tuple[Callable[[Any], ErrorCategory | None], ...], ErrorCategory, bool]


class _Registration:
    """A classifier of the user, or the category it always gives."""

    __slots__ = ("answer", "faulty")

    def __init__(self, answer: ErrorCategory | Callable[[Any], ErrorCategory | str | None]) -> None:
        self.answer = answer
        self.faulty = False

    def ask(self, error: BaseException) -> ErrorCategory | None:
        try:
            said = self.answer(error)  # type: ignore[operator]  # a category is not asked
            return None if said is None else ErrorCategory(said)
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._complain(error)
            return None

    def _complain(self, error: BaseException) -> None:
        with _changing:
            known, self.faulty = self.faulty, True
        if not known:
            complain("classifier %s failed on %s; it is not heard", shown(self.answer, 200), shown(error, 200))


_INFINITE = float("inf")

_MOST_CLASSES = 256
"""Rulings that are kept: a class made inside a function is a new one each time."""

_registered: dict[type, tuple[_Registration, ...]] = {}  # replaced, never changed, as `_rulings` is with it
_rulings: dict[type, Ruling] = {}
_changing = new_lock()  # over what is registered, and the first complaint


def register_classifier(
    exception_type: type[E],
    classifier: ErrorCategory | str | Callable[[E], ErrorCategory | str | None],
) -> Callable[[], None]:
    """Say what errors of `exception_type`, and of classes derived from it, are. Returns what takes that back.

        register_classifier(QuoteStale, ErrorCategory.SERVER_ERROR)
        unregister = register_classifier(BrokerError, lambda error: "RATE_LIMIT" if error.code == 17 else None)

    A function is asked with each such error, by the thread whose call failed, and answers a category or its name;
    None leaves it to the next. Of several that apply, the one for the most derived class is asked first, and of those
    for one class the latest; then come the built-in rules. One that raises or answers anything else is logged the first
    time, on the `failsoft` logger, and is as if it had answered None. Errors of failsoft itself carry their category,
    and nobody is asked. Not a class of exceptions, or no function: `TypeError`; no such category: `ValueError`.
    """
    global _registered, _rulings
    if not isinstance(exception_type, type) or not issubclass(exception_type, Exception):
        raise TypeError(f"exception_type must be a class derived from Exception, got {shown(exception_type)}")
    if issubclass(exception_type, IntegrationError):
        raise TypeError(f"exception_type must not be one of failsoft's, whose errors carry it; got {exception_type!r}")
    registration = _Registration(_answer(classifier))
    with _changing:
        others = _registered.get(exception_type, ())
        _registered = {**_registered, exception_type: (*others, registration)}
        _rulings = {}

    def unregister() -> None:
        global _registered, _rulings
        with _changing:
            left = tuple(other for other in _registered.get(exception_type, ()) if other is not registration)
            rest = {cls: those for cls, those in _registered.items() if cls is not exception_type}
            _registered = {**rest, exception_type: left} if left else rest
            _rulings = {}

    return unregister


def _answer(classifier: Any) -> ErrorCategory | Callable[[Any], ErrorCategory | str | None]:
    if isinstance(classifier, str):
        if classifier not in ErrorCategory.__members__.values():
            raise ValueError(f"classifier must be one of {', '.join(ErrorCategory)}, got {shown(classifier)}")
        return ErrorCategory(classifier)
    if not callable(classifier) or is_coroutine_function(classifier):
        raise TypeError(f"classifier must be a category or a plain function, got {shown(classifier)}")
    asked: Callable[[Any], ErrorCategory | str | None] = classifier
    return asked


def classify_error(error: BaseException) -> ErrorCategory:
    """Return the category of `error`, UNKNOWN where nothing is known of it.

    An `IntegrationError` has its own. Else what `register_classifier` was told comes first. Each plain error of the
    standard library has one. Elsewhere an HTTP status counts (`.status`, `.status_code`, or those of `.response`: 429
    RATE_LIMIT, 408 and 504 TIMEOUT, other 5xx SERVER_ERROR, other 4xx CLIENT_ERROR), then what the class inherits,
    then for an `OSError` its errno or its `.reason`. A group whose members agree has their category. Errors of files
    stay UNKNOWN: a missing socket file is how a stopped local service looks, and nobody answered, so it must not count
    as a success of the breaker.
    """
    asked, category, settled = _rulings.get(type(error)) or _rule(type(error))
    if asked:
        for ask in asked:
            if (said := ask(error)) is not None:
                return said
    if settled:
        return category
    if isinstance(error, IntegrationError):
        return error.category
    if (known := _category_by_status(error)) is not None:
        return known
    if category is not ErrorCategory.UNKNOWN:
        return category
    if isinstance(error, OSError):
        reason = peek(error, "reason")  # urllib's URLError wraps what happened
        return classify_error(reason) if isinstance(reason, BaseException) else category_of_errno(error)
    if isinstance(error, BaseExceptionGroup):
        categories = set(map(classify_error, error.exceptions))
        return categories.pop() if len(categories) == 1 else ErrorCategory.UNKNOWN
    return ErrorCategory.UNKNOWN


def _rule(cls: type) -> Ruling:
    """Say who is to be asked about errors of a class, what it means by itself, and whether that settles it."""
    rulings = _rulings  # before we look at what is registered: a ruling must not outlive that
    ruling = _ruling(cls)
    if len(rulings) >= _MOST_CLASSES:
        rulings.clear()
    rulings[cls] = ruling
    return ruling


def _ruling(cls: type) -> Ruling:
    if issubclass(cls, IntegrationError):
        return (), ErrorCategory.UNKNOWN, False
    asked: list[Callable[[Any], ErrorCategory | None]] = []
    registered = _registered
    for base in cls.__mro__:
        for registration in reversed(registered.get(base, ())):
            if isinstance(registration.answer, ErrorCategory):
                return tuple(asked), registration.answer, True
            asked.append(registration.ask)
    rule: Rule | None = None
    heard: set[str] = set()
    for base in cls.__mro__:
        name, package = name_of(base), str(base.__module__).partition(".")[0]
        if package in sys.stdlib_module_names:
            rule = standard.RULES.get(name)
        elif clients.knows(package):
            rule = clients.rules_of(package).get(name)
        elif package not in heard:
            heard.add(package)
            asked.extend(_Registration(each).ask for each in plugins.classifiers_of(package))
        if rule is not None:
            break
    if rule is None:
        return tuple(asked), ErrorCategory.UNKNOWN, False
    if not isinstance(rule, ErrorCategory):
        return (*asked, rule), ErrorCategory.UNKNOWN, False
    return tuple(asked), rule, cls.__module__.partition(".")[0] in sys.stdlib_module_names  # those carry no status


def _category_by_status(error: BaseException) -> ErrorCategory | None:
    response = peek(error, "response")
    for source in (error,) if response is None else (error, response):
        for name in ("status", "status_code"):
            status = peek(source, name)
            if status is not None and (category := category_of_status(status)) is not None:
                return category
    return None


def retry_after_of(error: BaseException) -> float | None:
    """Return how many seconds the peer asked us to wait, at most `LONGEST`, or None without a usable hint.

    Read from `.retry_after`, then from gRPC's metadata, then from the headers of the error or of its `.response`:
    Retry-After-Ms, then Retry-After in seconds or as an HTTP date. A date is measured from the reply's own Date where
    it has one, so our clock may be wrong.
    """
    if (hint := _seconds(peek(error, "retry_after"))) is not None:
        return hint
    cause = error.__cause__ if isinstance(error, BaseException) else None
    if isinstance(cause, IntegrationError):  # an SDK has wrapped a refusal of ours
        return _seconds(cause.retry_after)
    if (millis := _pushback(error)) is not None:
        return millis / 1000
    for source in (error, peek(error, "response")):
        headers = peek(source, "headers")
        if headers is None:
            continue
        if (millis := _seconds(_header(headers, "Retry-After-Ms"))) is not None:
            return millis / 1000
        after = _header(headers, "Retry-After")
        if (hint := _seconds(after)) is not None:
            return hint
        if (until := _epoch(after)) is not None:
            return _seconds(until - (_epoch(_header(headers, "Date")) or time.time()))
    return None


def _pushback(error: object) -> float | None:
    """Milliseconds that a gRPC server asks for in its trailing metadata."""
    metadata = peek(error, "trailing_metadata")
    if not callable(metadata):
        return None
    try:
        return _seconds(dict(metadata() or ()).get("grpc-retry-pushback-ms"))
    except Exception:
        return None


def _header(headers: object, name: str) -> object:
    get = peek(headers, "get")
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
    return min(seconds, LONGEST) if 0 <= seconds < _INFINITE else None


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

    True for a refused connection, a name that could not be resolved, a refusal of our own gate, and what clients raise
    where they had no connection to send on.
    """
    if isinstance(error, (ConnectionRefusedError, *REFUSALS)):
        return True
    names = [name_of(cls) for cls in type(error).__mro__]
    if clients.nothing_sent(names):
        return True
    inner = clients.wrapped(error, names)
    if inner is not None:
        return never_sent(inner)
    if not isinstance(error, OSError):
        return False
    reason = peek(error, "reason")
    if isinstance(reason, BaseException):
        return never_sent(reason)
    return errno_name(error) == "ECONNREFUSED" or "socket.gaierror" in names
