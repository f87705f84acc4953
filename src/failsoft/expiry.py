"""Deadlines of running asyncio tasks, as Python code sets them; those of guarded calls are csrc/python/deadlines.h.

The bookkeeping is that of `asyncio.timeout`: a cancellation from elsewhere is never swallowed.
"""

from __future__ import annotations

from collections.abc import Callable

from ._core import ArmedDeadline, arm_deadline

__all__ = ["AttemptDeadline", "arm", "verdict"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from typing import Any

Expired = Callable[[float], BaseException]
"""Makes the exception for what was given so many seconds."""


def verdict(
    task: Task[Any], cancelling: int, error: BaseException | None, make: Callable[[], BaseException]
) -> BaseException | None:
    """What to raise in place of `error` (None: a value came) after a deadline has cancelled `task`. None: what it was.

    `cancelling` requests to cancel the task were there before. More than those, not counting the deadline's own, are
    somebody else's, who must see the cancellation.
    """
    if task.uncancel() > cancelling or error is None:
        return None
    from asyncio import CancelledError

    if isinstance(error, CancelledError):
        timeout = make()
        timeout.__cause__ = error
        return timeout
    _tell(error, make, CancelledError)
    for each in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        _tell(each, make, CancelledError)
    return None


def _tell(error: BaseException, make: Callable[[], BaseException], cancelled: type[BaseException]) -> None:
    """Where an error was raised while our cancellation was being handled, let it say so."""
    while error.__context__ is not None:
        if isinstance(error.__context__, cancelled):
            timeout = make()
            timeout.__context__ = timeout.__cause__ = error.__context__
            error.__context__ = timeout
            return
        error = error.__context__


class AttemptDeadline:
    """What bounds a running task: armed at its making, ended by `finish`."""

    __slots__ = ("_armed", "_expired", "_seconds")

    def __init__(self, armed: ArmedDeadline, seconds: float, expired: Expired) -> None:
        self._armed = armed
        self._seconds = seconds
        self._expired = expired

    def finish(self, error: BaseException | None) -> BaseException | None:
        """Disarm. `error` is how the attempt ended, None for a value. Returns what to raise in its place, or None."""
        fired = self._armed.disarm()
        return None if fired is None else verdict(*fired, error, lambda: self._expired(self._seconds))


def arm(seconds: float, expired: Expired) -> AttemptDeadline | None:
    """Cancel the running asyncio task in `seconds`. None where no such task runs: then nothing can be cancelled."""
    armed = arm_deadline(seconds)
    return None if armed is None else AttemptDeadline(armed, seconds, expired)
