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
    from .course import AnyGuard
    from .recovery import Recovery


class IntegrationAttempt:
    """One guarded attempt as a block, sync or async; used once."""

    __slots__ = ("_guard", "_holds", "_permit", "_started")

    def __init__(self, guard: Guard[..., Any]) -> None:
        self._guard = guard
        self._permit = 0
        self._holds = False
        self._started = 0

    def __enter__(self) -> None:
        self._begin(pass_gate(self._guard, 1, self._permit))

    def _begin(self, passed: tuple[int, bool]) -> None:
        self._permit, self._holds = passed
        self._started = now_ns()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._settle(error, patient=False)

    def _settle(self, error: BaseException | None, *, patient: bool) -> None:
        try:
            self._count(error, patient)
        except BaseException:  # no memory, or an interrupt: the permit at least goes back
            self._guard._breaker.ignore(self._permit)
            raise

    def _count(self, error: BaseException | None, patient: bool) -> None:
        took = now_ns() - self._started
        if self._holds:
            self._guard._leave()
        recovery = self._guard._recovery
        outcome, timed_out = outcome_of(recovery, error, took, patient=patient)
        if timed_out:
            recovery.record.note(TIMEOUTS)
        self._guard._settle(self._permit, outcome, took)
        tell(recovery, error)

    async def __aenter__(self) -> None:
        self._begin(await pass_gate_async(self._guard, 1, self._permit))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._settle(error, patient=True)


def outcome_of(recovery: Recovery, error: BaseException | None, took: int, *, patient: bool) -> tuple[int, bool]:
    """How a block that took so many ns counts, and whether as timed out. `patient`: it could be cancelled."""
    if error is None:
        late = took >= recovery.timeout * SECOND or _overdue(block=True)
        return FAILED if late else SUCCEEDED, late
    if isinstance(error, Exception):
        category = classify_error(error)
        return recovery.outcome_of(category), category is ErrorCategory.TIMEOUT
    # A block given up after long was hanging, as for guards.
    hung = patient and _is_cancelled(error) and took >= recovery.cancel_after * SECOND
    return FAILED if hung else IGNORED, hung


def tell(recovery: Recovery, error: BaseException | None) -> None:
    """Tell who has to know of a block that raised."""
    if not isinstance(error, Exception):
        return
    if classify_error(error) is ErrorCategory.RATE_LIMIT:
        recovery.integration.unaccepted()
    recovery.log_block(error)


def pass_gate(guard: AnyGuard, n: int, entered: int) -> tuple[int, bool]:
    """Pass the gate with n calls at once: the permit, and whether a place is held. Raises where it is refused."""
    permit, holds, waits = _ask(guard, n, entered)
    if waits:
        permit, holds = _after(guard, n, guard._recovery.wait(n, permit & 0xFF, 0), permit)
    return _granted(guard, permit), holds


async def pass_gate_async(guard: AnyGuard, n: int, entered: int) -> tuple[int, bool]:
    """The same, awaited."""
    permit, holds, waits = _ask(guard, n, entered)
    if waits:
        permit, holds = _after(guard, n, await guard._recovery.wait_async(n, permit & 0xFF, 0), permit)
    return _granted(guard, permit), holds


def _ask(guard: AnyGuard, n: int, entered: int) -> tuple[int, bool, bool]:
    if entered:
        raise RuntimeError("a block can be entered once; ask for another one")
    if not guard._disabled and _overdue():
        return TOO_LATE, False, False
    return guard._gate(n, False)


def _after(guard: AnyGuard, n: int, code: int, refused: int) -> tuple[int, bool]:
    """Out of the queue: the breaker may have opened meanwhile."""
    return guard._gate(n, True)[:2] if code == 0 else (refused & ~0xFF | code, False)


def _granted(guard: AnyGuard, permit: int) -> int:
    if not permit & 1:
        raise guard._refuse(permit).error()
    return permit


def _overdue(*, block: bool = False) -> bool:
    """Whether the deadline around us has passed, of a `block` or any."""
    around = limits()
    return around is not None and (around[1] or not block) and around[0] <= now_ns()


def _is_cancelled(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)
