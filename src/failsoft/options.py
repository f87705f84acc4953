"""What a guard can be told besides whom it stands before, and the check of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping

from .checks import at_least_one, nearest, shown
from .fallbacks import Fallback, in_order
from .functions import name_of
from .kinds import ErrorCategory
from .recovery import Recovery

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, Literal, ParamSpec, Protocol, TypeAlias, TypedDict, TypeVar, overload

    from ._core import AsyncGuard, Guard
    from .dedupe import Flights
    from .integrations import Integration

    P = ParamSpec("P")
    R = TypeVar("R")
    Judge: TypeAlias = Callable[[Any], ErrorCategory | str | None]
    Details: TypeAlias = Mapping[str, object] | Callable[..., Mapping[str, object]]
    Key: TypeAlias = Callable[..., Hashable]

    class Choices(TypedDict, total=False):
        """What a guard can be told besides whom it stands before."""

        fallbacks: Iterable[Fallback]
        dedupe: bool | Key | None
        retry: bool
        idempotent: bool
        failure: Judge | None
        key: Key | None
        max_keys: int
        details: Details | None
        hedge: float | None

    class Options(Choices, total=False):
        """What `Integration.guard` takes besides the function."""

        operation: str | None
        enforce: Literal["thread"] | None

    class Decorator(Protocol):
        """What `Integration.guard(...)` without a function gives."""

        @overload
        def __call__(  # type: ignore[overload-overlap]  # a coroutine function is the special case of a function
            self, fn: Callable[P, Coroutine[Any, Any, R]], /
        ) -> AsyncGuard[P, R]: ...
        @overload
        def __call__(self, fn: Callable[P, R], /) -> Guard[P, R]: ...


OPTIONS = [
    "operation", "fallbacks", "dedupe", "retry", "idempotent", "failure", "key", "max_keys", "details", "hedge",
    "enforce",
]  # fmt: skip
"""What `Integration.guard` takes besides the function."""


_RETRIES = "how often is a setting of the integration, retry_policy; retry=False is one attempt only"
_TIME = (
    "time limits are settings of the integration: circuit_breaker.timeout for an attempt, timeouts.overall for a call; "
    "`with failsoft.deadline(seconds):` bounds a block"
)
_ELSEWHERE = {
    "circuit_breaker": "the breaker is a setting of the integration, common to its guards",
    "max_retries": _RETRIES,
    "name": "did you mean 'operation'?",
    "retries": _RETRIES,
    "retry_policy": _RETRIES,
    "timeout": _TIME,
    "timeouts": _TIME,
}
"""Where what is no option of a guard is to be said."""


def refuse_unknown_options(options: Iterable[str]) -> None:
    """TypeError for the first that is none, with the nearest that is, or with the place where it belongs."""
    for option in options:
        if option not in OPTIONS:
            where = _ELSEWHERE.get(option)
            hint = f"; {where}" if where else nearest(option, OPTIONS) or f"; it has {', '.join(OPTIONS)}"
            raise TypeError(f"guard has no option {option!r}{hint}")


def check_switches(**switches: object) -> None:
    """TypeError for the first that is neither True nor False."""
    for name, value in switches.items():
        if not isinstance(value, bool):
            more = f"; {_RETRIES}" if name == "retry" else ""
            raise TypeError(f"{name} must be True or False, got {shown(value)}{more}")


def recovery_of(
    integration: Integration,
    fn: Any,
    *,
    operation: str | None = None,
    fallbacks: Iterable[Fallback] = (),
    dedupe: bool | Key | None = None,
    retry: bool = True,
    idempotent: bool = True,
    failure: Judge | None = None,
    key: Key | None = None,
    max_keys: int = 1024,
    details: Details | None = None,
    hedge: float | None = None,
) -> Recovery:
    """The policies that these options come to, for a guard of the integration before `fn`."""
    check_switches(retry=retry, idempotent=idempotent)
    for name, option in (("failure", failure), ("key", key)):
        if option is not None and not callable(option):
            raise TypeError(f"{name} must be callable, got {option!r}")
    if details is not None and not isinstance(details, Mapping) and not callable(details):
        raise TypeError(
            f"details must be a mapping, or a function of the arguments that makes one, got {shown(details)}"
        )
    if dedupe is not None and not isinstance(dedupe, bool) and not callable(dedupe):
        raise TypeError(f"dedupe must be True or a function of the arguments that gives a key, got {dedupe!r}")
    if hedge is not None:
        from .hedges import check_hedge

        hedge = check_hedge(fn, hedge, idempotent)
    flights: Flights | None = None
    if dedupe:
        from .dedupe import Flights

        flights = Flights(None if dedupe is True else dedupe)
    name = operation or name_of(fn)
    return Recovery(
        integration,
        name,
        integration.record(name),
        failure=failure,
        fallbacks=in_order(fallbacks),
        retry=retry,
        idempotent=idempotent,
        details=details,
        key=key,
        max_keys=at_least_one("max_keys", max_keys),  # type: ignore[arg-type]  # what its check gives
        flights=flights,
        hedge=hedge,
    )
