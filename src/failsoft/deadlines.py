"""How much time is left: for a block, for what is called in it, and for whoever asks.

A block's end lies in a context variable as a `Bound` (csrc/python/bound.h): tasks made inside, and threads that are
given the context, are bound by it for as long as they hold it. Guards look only while a Bound exists at all.
"""

from __future__ import annotations

import os

from . import expiry
from ._core import Bound, bounds, limits, now_ns, remaining, set_frame
from .answers import DEADLINE_PASSED
from .checks import LONGEST
from .course import SECOND
from .errors import IntegrationTimeoutError

__all__ = ["Deadline", "deadline", "remaining"]

remaining.__doc__ = """Seconds that the code around us has left, 0.0 once they are over; None under no deadline.

That is the least of the `deadline()` block, and of the attempt timeouts and overall deadlines of all guards entered in
this thread or task. For the time limits of clients: `client.get(url, timeout=failsoft.remaining())`.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import Token
    from types import TracebackType
    from typing import Self


def deadline(seconds: float | None) -> Deadline:
    """A block that has `seconds` from its entering; None: no limit. What is less than zero has passed.

        with deadline(0.25) as d:
            ...

    `with` cuts nothing off. It bounds what failsoft does inside: guarded calls are not begun once the time is up,
    retries and waits that would not fit are not made, async attempts are cancelled at it, and `remaining()` tells
    clients how long they may take. `async with` also cancels the body when the time is up, as `asyncio.timeout` does,
    and raises `IntegrationTimeoutError`. Of nested blocks the earlier end wins.
    """
    if seconds is not None:
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds != seconds:  # NaN
            raise TypeError(f"seconds must be a number of seconds or None, got {seconds!r}")
        seconds = min(max(float(seconds), 0.0), LONGEST)
    return Deadline(seconds)


class Deadline:
    """The end of a block, from `deadline(seconds)` or `extract_deadline(headers)`: for one `with` or `async with`.

    One from a header runs from the moment it was read, one from `deadline()` from its entering.
    """

    __slots__ = ("_armed", "_seconds", "_token", "_until")

    def __init__(self, seconds: float | None, *, runs: bool = False) -> None:
        self._seconds = seconds
        self._until: int | None = self._end() if runs else None  # ns of CLOCK_MONOTONIC
        self._token: Token[Bound] | None = None
        self._armed: expiry.AttemptDeadline | None = None

    def __repr__(self) -> str:
        left = self.remaining()
        return "<Deadline without a limit>" if left is None else f"<Deadline in {left:.3g} s>"

    def remaining(self) -> float | None:
        """Seconds left, never less than 0.0; None where there is no limit."""
        if self._until is None:
            return self._seconds
        return max(self._until - now_ns(), 0) / SECOND

    @property
    def expired(self) -> bool:
        """Whether no time is left."""
        return self.remaining() == 0.0

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("a deadline can be entered once; ask for another one")
        if self._until is None:
            self._until = self._end()
        around = bounds.get(None)
        if around is not None and around.until != _NEVER and (self._until is None or around.until < self._until):
            self._until = around.until
        # Without any limit too: it has been entered, and something has to be put back.
        until = _NEVER if self._until is None else self._until
        self._token = bounds.set(Bound(until, lifts=around is not None and around.lifts))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._token is not None
        try:
            bounds.reset(self._token)
        except ValueError:  # an async generator, say, closed by somebody else: the context it was set in is gone
            return

    async def __aenter__(self) -> Self:
        self.__enter__()
        if self._until is not None:
            try:
                self._armed = expiry.arm(max(self._until - now_ns(), 0) / SECOND, _expired)
            except BaseException as error:
                self.__exit__(type(error), error, None)  # nobody else will
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)
        armed, self._armed = self._armed, None
        instead = armed.finish(error) if armed is not None else None
        if instead is not None:
            raise instead from error

    def _end(self) -> int | None:
        return None if self._seconds is None else now_ns() + round(self._seconds * SECOND)


_NEVER = 2**64 - 1
"""FS_FOREVER of csrc."""


def _expired(seconds: float) -> IntegrationTimeoutError:
    return IntegrationTimeoutError(f"the block was not done within {seconds:.3g} s", reason=DEADLINE_PASSED)


def leave_block() -> None:
    """Let no deadline bind the rest of this task that its maker was under."""
    if bounds.get(None) is not None:
        bounds.set(Bound(_NEVER))


def _in_child() -> None:
    """A forked child is not what the callers around its making wait for: a worker may live long."""
    set_frame(_NEVER)
    leave_block()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class lifted_if_late:
    """Lets what is inside go on although the deadline around it has passed, if it has.

    A fallback's answer that comes late beats none, and its handler may have guarded calls to make.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        around = limits()
        late = around is not None and around[0] <= now_ns()
        self._token = bounds.set(Bound(_NEVER, lifts=True)) if late else None

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            bounds.reset(self._token)
