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


class Block:
    """A `with` or `async with` block behind the gate, used once: its permit, and its place until it ends."""

    __slots__ = ("_guard", "_permit", "_place", "_started")

    def __init__(self, guard: AnyGuard) -> None:
        self._guard = guard
        self._permit = 0
        self._place: object = None  # in load control, left when nobody refers to it
        self._started = 0

    def _enter(self, n: int) -> None:
        """Pass the gate with n calls at once. Raises where it is refused."""
        permit = TOO_LATE if self._is_late() else self._guard._pass(self, n)
        self._begin(permit)
        if self._is_shaken():
            from .chaos_plans import shake_block

            shake_block(self, self._guard._recovery)

    async def _enter_async(self, n: int) -> None:
        """The same, awaited."""
        if self._is_late():
            self._begin(TOO_LATE)
            return
        guard = self._guard
        permit, self._place, waits = guard._gate(n, False)
        if waits:
            code = await guard._recovery.wait_async(n, permit & 0xFF, 0)
            if code == 0:  # the breaker may have opened meanwhile
                permit, self._place, _ = guard._gate(n, True)
            else:
                permit = permit & ~0xFF | code
        self._begin(permit)
        if self._is_shaken():
            from .chaos_plans import shake_block_async

            await shake_block_async(self, guard._recovery)

    def _settle(self, error: BaseException | None, *, patient: bool) -> None:
        """Say how it ended. `patient`: it could be cancelled."""
        raise NotImplementedError

    def _is_late(self) -> bool:
        if self._permit:
            raise RuntimeError("a block can be entered once; ask for another one")
        return not self._guard._disabled and _overdue()

    def _is_shaken(self) -> bool:
        return bool(self._guard._recovery.integration.chaos) and not self._guard._disabled

    def _begin(self, permit: int) -> None:
        if not permit & 1:
            raise self._guard._refuse(permit).error()
        self._permit = permit
        self._started = now_ns()


class IntegrationAttempt(Block):
    """One guarded attempt as a block, sync or async; used once."""

    __slots__ = ()

    def __init__(self, guard: Guard[..., Any]) -> None:
        super().__init__(guard)

    def __enter__(self) -> None:
        self._enter(1)

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
        self._place = None
        recovery = self._guard._recovery
        outcome, timed_out = outcome_of(recovery, error, took, patient=patient)
        if timed_out:
            recovery.record.note(TIMEOUTS)
        self._guard._settle(self._permit, outcome, took)
        tell(recovery, error)

    async def __aenter__(self) -> None:
        await self._enter_async(1)

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


def _overdue(*, block: bool = False) -> bool:
    """Whether the deadline around us has passed, of a `block` or any."""
    around = limits()
    return around is not None and (around[1] or not block) and around[0] <= now_ns()


def _is_cancelled(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and isinstance(error, asyncio.CancelledError)
