"""One guarded attempt as a block, for bodies, cursors and generators, which no guard can stand before."""

from __future__ import annotations

import sys

from ._core import TOO_LATE, limits, now_ns
from .classify import classify_error
from .config import ErrorCategory
from .course import FAILED, IGNORED, SECOND, SUCCEEDED, TIMEOUTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from ._core import Guard

NO_PERMIT = 1
"""Of generation 0, in which no breaker ever is."""


class IntegrationAttempt:
    """One guarded attempt as a block, sync or async; used once."""

    __slots__ = ("_guard", "_permit", "_started")

    def __init__(self, guard: Guard[..., Any]) -> None:
        self._guard = guard
        self._permit = 0
        self._started = 0

    def __enter__(self) -> None:
        if self._permit:
            raise RuntimeError("an attempt can be entered once; ask the integration for another one")
        permit = NO_PERMIT if self._guard._disabled else TOO_LATE if _overdue() else self._guard._breaker.admit()
        if not permit & 1:
            raise self._guard._refuse(permit).error()
        self._permit = permit
        self._started = now_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._settle(error, patient=False)

    def _settle(self, error: BaseException | None, *, patient: bool) -> None:
        took = now_ns() - self._started
        recovery = self._guard._recovery
        if error is None:
            late = took >= recovery.timeout * SECOND or _overdue(block=True)
            outcome = FAILED if late else SUCCEEDED
            timed_out = late
        elif isinstance(error, Exception):
            category = classify_error(error)
            outcome = recovery.outcome_of(category)
            timed_out = category is ErrorCategory.TIMEOUT
        else:  # a block given up after long was hanging, as for guards
            timed_out = patient and _is_cancelled(error) and took >= recovery.cancel_after * SECOND
            outcome = FAILED if timed_out else IGNORED
        if timed_out:
            recovery.record.note(TIMEOUTS)
        self._guard._settle(self._permit, outcome, took)
        if isinstance(error, Exception):
            recovery.log_block(error)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._settle(error, patient=True)


def _overdue(*, block: bool = False) -> bool:
    """Whether the deadline around us has passed, of a `block` or any."""
    around = limits()
    return around is not None and (around[1] or not block) and around[0] <= now_ns()


def _is_cancelled(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)
