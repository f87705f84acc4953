"""The errors we raise.

An `IntegrationError` has one set of fields however it was made. A refusal has to cost next to nothing, so C
makes it without its fields: `args` holds a refusal whose `describe()` gives them all (for a `DegradedModeError`
its `capacity` too), and the first look at one of them asks it. Hence nothing here may rely on `__init__`
having run, nor add to the C layout of `Exception`.

What we make of the errors of others is in `classify.py`, how the values in ours travel in `portable.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from .checks import shown
from .config import RETRYABLE, ErrorCategory, IntegrationType

TYPE_CHECKING = False  # spares the import of `typing`; type checkers know the name
if TYPE_CHECKING:
    from typing import Any, Self, TypeVar

    E = TypeVar("E", bound="IntegrationError")

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
    processes, or came back from JSON, it is a string, its repr.

    `details` holds what the guard's own `details=` said of the call, and of the following what was known;
    these names are ours, and win over the caller's:
    - `attempt_timeout`: the limit of one attempt, in seconds.
    - `delays`: the waits before each retry, in seconds, in order.
    - `state`, `generation`: the breaker's state ("OPEN"), and how many times it had changed before.
    - `failures`: its consecutive failures; after a trip, those that tripped it.
    - `failure_rate` (0 to 1, or None below `minimum_calls`), `sample_size`: over its rolling window, of so many calls.
    - `capacity`: the share of calls (0 to 1) that degraded mode let go.
    - `limit`: what the limit that refused allowed: calls a second, calls at a time, or the share of calls let go.

    A pickled or copied error is equal in every field and keeps its notes and its cause; what of `details` or the
    original cannot be pickled degrades to its repr, alone.
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

    _fields = tuple(__annotations__)
    _category = ErrorCategory.UNKNOWN  # unless the constructor is told
    _suffix = ""  # of the code, where it is not the category
    _retryable = False  # whatever the category

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
        self.retryable = self._retryable or self.category in RETRYABLE if retryable is None else retryable
        self.integration_type = integration_type
        self.integration_name = integration_name
        self.operation = operation
        self.attempts = attempts
        self.retry_after = retry_after
        self.reason = reason

    if not TYPE_CHECKING:  # a checker would take it for leave to read any name

        def __getattr__(self, name):
            fields = self.__dict__
            if name in self._fields:
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
        """Return all fields by name, ready for strict JSON, and as `type` the class: "CircuitOpenError".

        Values that JSON does not have (and numbers that are not finite) become their repr, the original error among
        them; so does what is nested too deep. Tuples become lists. A class derived from ours goes by the name of ours.
        """
        from .portable import finite, plain

        kind = next(cls.__name__ for cls in type(self).__mro__ if _KINDS.get(cls.__name__) is cls)
        state: dict[str, object] = {"type": kind}
        for name in self._fields:
            value = getattr(self, name)
            state[name] = plain(value if not isinstance(value, float) or finite(value) else _UNSET[name])
        return state

    @classmethod
    def from_dict(cls, state: Mapping[str, object]) -> Self:
        """Return the error that gave `state` by `to_dict`, of the class its `type` names.

        The original error stays a string. Fields left out are as in an error of which nothing is known. An unknown
        type, a type that is no `cls`, an unknown field or a value out of place is a `ValueError` that names it.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"an error is read from a mapping, as to_dict() gives it; got {shown(state)}")
        name = state.get("type")
        kind = _KINDS.get(name) if isinstance(name, str) else None
        if kind is None or not issubclass(kind, cls):
            known = [other for other, found in _KINDS.items() if issubclass(found, cls)]
            allowed = f"one of {', '.join(known)}" if known else "a class of failsoft's own; ask IntegrationError"
            raise ValueError(f"type must be {allowed}, got {shown(name)}")
        fields: dict[str, Any] = {"details": {}}
        for field, value in state.items():
            if field == "type":
                continue
            if field not in kind._fields:
                raise ValueError(f"{shown(field)} is not a field of {name}; it has {', '.join(kind._fields)}")
            fields[field] = _read(field, value)
        return _revive(kind, fields)

    def _state(self) -> dict[str, Any]:
        """Everything set on it, with the fields a refusal had still to tell; the refusal stays behind."""
        return {name: getattr(self, name) for name in self._fields} | self.__dict__

    def __reduce__(self) -> tuple[object, ...]:
        from .portable import picklable

        cause = None if self.__cause__ is self.original_error else picklable(self.__cause__)
        return _revive, (type(self), picklable(self._state()), cause)

    def __copy__(self) -> Self:
        return _revive(type(self), self._state(), self.__cause__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        from .portable import copied

        memo[id(self)] = again = _revive(type(self), {"message": self.message})
        again.__dict__.update(copied(self._state(), memo))
        if self.__cause__ is not None:
            again.__cause__ = copied(self.__cause__, memo)
        return again


class CircuitOpenError(IntegrationError):
    """The breaker refused the call, which was not made: "DB_CIRCUIT_OPEN". See `retry_after`."""

    # The category of a refusal, here and below, is UNKNOWN: nobody was asked, so nothing is known of the peer.
    # Any other would make a guard around this call do wrong. TIMEOUT, NETWORK, SERVER_ERROR and RATE_LIMIT would
    # be tried again, and each try is one more draw on a capacity that was to be kept low; CLIENT_ERROR and
    # RATE_LIMIT would count as an answer, and could close that guard's breaker. The code says what it is,
    # `retryable` that it may succeed later, `retry_after` when.
    _suffix = "CIRCUIT_OPEN"
    _retryable = True


class DegradedModeError(IntegrationError):
    """The gate did not let this call go, since the integration works at a reduced capacity: "DB_DEGRADED".

    The call was not made. `capacity` is the share of calls that go (0 to 1; None where unknown), `reason` why it is
    reduced.
    """

    capacity: float | None

    _fields = (*IntegrationError._fields, "capacity")
    _suffix = "DEGRADED"
    _retryable = True  # the next call may be one of those that go

    def __init__(self, message: str = "", *, capacity: float | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.capacity = capacity


class LoadControlError(IntegrationError):
    """A limit of our own on the load did not let this call go. The call was not made; the class says which limit."""

    _suffix = "LOAD_LIMITED"
    _retryable = True


class RateLimitExceededError(LoadControlError):
    """More calls than `rate_limit` allows: "DB_RATE_LIMITED". `retry_after` is when there will be a token, exactly."""

    _suffix = "RATE_LIMITED"


class BulkheadFullError(LoadControlError):
    """As many calls are under way as `bulkhead` allows: "DB_BULKHEAD_FULL"."""

    _suffix = "BULKHEAD_FULL"


class ThrottledError(LoadControlError):
    """`throttle` refused what the dependency would have refused most likely: "DB_THROTTLED"."""

    _suffix = "THROTTLED"


class IntegrationTimeoutError(IntegrationError, TimeoutError):
    """An attempt or the whole operation passed its time limit: "DB_TIMEOUT"."""

    _category = ErrorCategory.TIMEOUT


class RetryBudgetExhaustedError(IntegrationError):
    """The call failed and was not tried again, for the retry budget was spent: "DB_RETRY_BUDGET_EXHAUSTED".

    `category` and `original_error` are those of the last failure. The same call may succeed once there is less to
    retry.
    """

    _suffix = "RETRY_BUDGET_EXHAUSTED"
    _retryable = True


class StreamOverflowError(IntegrationError):
    """A stream's buffer was full and its policy is to raise: "MARKET_STREAM_OVERFLOW".

    It is our own consumer that was too slow, so nothing is known of the peer, and to try again would not help.
    """

    _suffix = "STREAM_OVERFLOW"


REFUSALS = (CircuitOpenError, DegradedModeError, LoadControlError)
"""What a gate of ours raises in place of making the call."""

_KINDS: dict[str, type[IntegrationError]] = {
    cls.__name__: cls
    for cls in (
        IntegrationError, CircuitOpenError, DegradedModeError, IntegrationTimeoutError, RetryBudgetExhaustedError,
        LoadControlError, RateLimitExceededError, BulkheadFullError, ThrottledError, StreamOverflowError,
    )
}  # fmt: skip

_UNSET: dict[str, Any] = {
    "code": "INTEGRATION_UNKNOWN",
    "category": ErrorCategory.UNKNOWN,
    "message": "",
    "details": {},
    "timestamp": 0.0,
    "retryable": False,
    "attempts": 0,
    **dict.fromkeys(("original_error", "integration_type", "integration_name", "operation", "retry_after", "reason")),
    "capacity": None,
}


def _revive(cls: type[E], state: dict[str, Any], cause: object = None) -> E:
    error = cls.__new__(cls)  # a subclass may have another __init__
    error.args = (state.get("message", ""),)
    error.__dict__.update(state)
    for known in (cause, state.get("original_error")):
        if isinstance(known, BaseException):
            error.__cause__ = known
            break
    return error


_FORMS: dict[str, type] = {
    "category": ErrorCategory,
    "details": dict,
    "timestamp": float,
    "retryable": bool,
    "integration_type": IntegrationType,
    "attempts": int,
    "retry_after": float,
    "capacity": float,
}
"""What JSON gives for a field, where it is no text. Those that may be unset may be null."""


def _read(field: str, value: Any) -> Any:
    from .portable import finite

    form = _FORMS.get(field, str)
    if value is None and _UNSET[field] is None:
        return None
    if form in (ErrorCategory, IntegrationType):
        allowed = f"one of {', '.join(form)}"
        good = isinstance(value, str) and value in form.__members__.values()
    elif form is float:
        allowed = "a number from 0 to 1" if field == "capacity" else "a finite number"
        good = finite(value) and (field != "capacity" or 0 <= value <= 1)
    else:
        allowed = f"of type {form.__name__}"
        good = isinstance(value, form) and (form is bool or not isinstance(value, bool))
    if not good:
        raise ValueError(f"{field} must be {allowed}, got {shown(value)}")
    return value if form is float else form(value)
