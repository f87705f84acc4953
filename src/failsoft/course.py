"""The words in which a call that did not succeed at once is talked about: how an attempt ended, what comes next, and
what it has all come to."""

from __future__ import annotations

from ._core import EVENTS
from .config import ErrorCategory, FallbackType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from ._core import AsyncGuard, Guard, Refusal

    AnyGuard: TypeAlias = Guard[..., Any] | AsyncGuard[..., Any]
    Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]] | None

SUCCEEDED, FAILED, IGNORED, REFUSED, JUDGED = range(5)
RAISE, RESULT, ATTEMPT = range(3)
"""The codes of csrc/python/guard.h: how an attempt ended, and what its caller wants."""

RETRIES, FALLBACKS, TIMEOUTS = (EVENTS.index(name) for name in ("retries", "fallbacks", "timeouts"))

SECOND = 1_000_000_000


class End:
    """How one attempt ended: `payload` is the value, the exception, the Refusal, or (value, category) if judged."""

    __slots__ = ("category", "kind", "payload", "permit", "took")

    def __init__(self, kind: int, payload: Any, permit: int, took: int) -> None:
        self.category: ErrorCategory | None = None  # once the exception has been classified
        self.kind = kind
        self.payload = payload
        self.permit = permit
        self.took = took  # ns


class Attempt:
    """A step: try once more, until the CLOCK_MONOTONIC time `until` (ns)."""

    __slots__ = ("until",)

    def __init__(self, until: int) -> None:
        self.until = until


class Final:
    """What the call has come to."""

    __slots__ = (
        "age", "attempts", "category", "delays", "error", "fallback", "fallback_errors", "gave_up", "judged", "late",
        "reason", "refusal", "success", "value",
    )  # fmt: skip

    def __init__(self) -> None:
        self.success = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.category = ErrorCategory.UNKNOWN
        self.refusal: Refusal | None = None
        self.attempts = 0
        self.delays: tuple[float, ...] = ()
        self.reason: str | None = None
        self.gave_up = 0  # the code of recorder.GIVE_UPS
        self.judged = False
        self.late = False  # a success that took longer than an attempt may
        self.fallback: FallbackType | None = None
        self.age: float | None = None  # of the fallback's data, in seconds
        self.fallback_errors: tuple[tuple[FallbackType, BaseException], ...] = ()
