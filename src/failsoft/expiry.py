"""Attempt deadlines of async calls.

Nothing is armed until an attempt first suspends. Then one timer cancels the task when time is up, with the
bookkeeping of `asyncio.timeout`: a cancellation from elsewhere is never swallowed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from . import timers

__all__ = ["AttemptDeadline", "arm"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from typing import Any

Expired = Callable[[float], BaseException]
"""Makes the exception for an attempt that was given so many seconds."""


class AttemptDeadline:
    """A running attempt's timer: armed at its making, ended by `finish`."""

    __slots__ = ("_cancelling", "_disarm", "_expired", "_fired", "_seconds", "_task")

    def __init__(self, task: Task[Any], seconds: float, expired: Expired) -> None:
        self._task = task
        self._seconds = seconds
        self._expired = expired
        self._fired = False
        self._cancelling = task.cancelling()
        self._disarm = timers.current.call_later(task.get_loop(), seconds, self._fire)

    def _fire(self) -> None:
        self._fired = True
        self._task.cancel()

    def finish(self, error: BaseException | None) -> BaseException | None:
        """Disarm. `error` is how the attempt ended, None for a value. Returns what to raise in its place, or None."""
        try:
            self._disarm()
        except AttributeError:  # the loop is being torn down with us
            return None
        if not self._fired:
            return None
        from asyncio import CancelledError

        # More requests to cancel than ours are somebody else's, who must see the cancellation.
        if self._task.uncancel() > self._cancelling or not isinstance(error, CancelledError):
            return None
        timeout = self._expired(self._seconds)
        timeout.__cause__ = error
        return timeout


def arm(seconds: float, expired: Expired) -> AttemptDeadline | None:
    """Cancel the running asyncio task in `seconds`. None where no such task runs: then nothing can be cancelled."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else AttemptDeadline(task, seconds, expired)
