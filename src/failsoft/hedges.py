"""Hedged calls: a second attempt beside a first one that takes long, and the first success of the two.

    @model.guard(hedge=0.95)
    async def embed(text): ...

The second attempt starts when the call has taken longer than this share of the calls in the rolling window (`hedge` is
a quantile of the operation's own latencies), not before WARM_UP of them are known, and never within LEAST seconds. It
is made only while the breaker is closed and the retry budget, which pays for it, has one left; else the first attempt
goes on alone. It is for async functions that may safely be carried out twice: nothing is hedged unless you say so.

The first success wins, and the loser is cancelled and awaited before the call returns, unless its end takes more than
half of the time that is left. A failure of one, be it by `failure=`, does not end the other; where both fail, it is the
first attempt's that the caller gets. Breaker, retries and latencies see one call, of the length that its caller saw.
The first attempt runs in the caller's own task, the second in one beside it, with a copy of the context variables that
the call began with; `remaining()` tells the same deadline in both. Cancelling the caller cancels both, and waits for
them. Without an asyncio loop there is nothing to hedge with, and only the first attempt is made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from . import recorder, timers
from ._core import EVENTS, InFrame, frame, now_ns, remaining
from .config import CircuitState
from .course import SECOND
from .functions import is_coroutine_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from contextvars import Context
    from typing import Any

    from .recovery import Recovery

HEDGES = EVENTS.index("hedges")

WARM_UP = 100
"""Calls in the rolling window before any is hedged: of fewer a quantile says little."""

LEAST = 0.001
"""Seconds that every first attempt has for itself: below, a loop's own delays would start hedges (Finagle's bound)."""

_FRESH = SECOND
"""How long (ns) a quantile is good for before it is read again."""


def check_hedge(fn: object, hedge: object, idempotent: bool) -> float:
    """The quantile, if this function may be hedged."""
    if isinstance(hedge, bool) or not isinstance(hedge, (int, float)):
        raise TypeError(f"hedge must be a quantile, a number between 0 and 1, got {hedge!r}")
    if not 0.0 < hedge < 1.0:
        raise ValueError(f"hedge must be a quantile, a number between 0 and 1, got {hedge!r}")
    if not is_coroutine_function(fn):
        raise TypeError(f"hedge is for async functions, whose attempts can run side by side; {fn!r} is none")
    if not idempotent:
        raise ValueError("hedge may carry a call out twice, which idempotent=False forbids")
    return float(hedge)


def hedged(fn: Callable[..., Any], recovery: Recovery, quantile: float) -> Callable[..., Any]:
    """A coroutine function like `fn`, whose slow calls get a second attempt."""
    patience = _Patience(recovery, quantile)

    @functools.wraps(fn)
    async def call(*args: Any, **kwargs: Any) -> Any:
        bare = recovery.integration.passes_through
        delay = None if bare else patience.seconds()
        loop = timers.running_loop()
        attempt = functools.partial(fn, *args, **kwargs)
        if recovery.integration.chaos and not bare:  # each attempt has a fate of its own
            from .chaos_plans import shaken

            attempt = functools.partial(shaken, recovery, fn, *args, **kwargs)
        if delay is None or loop is None:
            return await attempt()
        return await _Race(loop, recovery, attempt, delay).run()

    return call


class _Patience:
    """How long a first attempt is given for itself."""

    __slots__ = ("_quantile", "_read_at", "_record", "_seconds")

    def __init__(self, recovery: Recovery, quantile: float) -> None:
        self._record = recovery.record
        self._quantile = quantile
        self._read_at = -_FRESH
        self._seconds: float | None = None

    def seconds(self) -> float | None:
        """The quantile of late; None while too few calls are known."""
        now = now_ns()
        if now - self._read_at >= _FRESH:
            recent = self._record.recent
            self._seconds = max(recent.quantiles((self._quantile,))[0], LEAST) if recent.count >= WARM_UP else None
            if self._seconds is not None:  # a warm-up ends with the call that ends it
                self._read_at = now
        return self._seconds


class _Race:
    """One call: its first attempt in this task, and perhaps a second one beside it."""

    __slots__ = ("_attempt", "_cancelling", "_context", "_delay", "_first_runs", "_frame", "_loop", "_recovery",
                 "_second", "_task", "_won")  # fmt: skip

    def __init__(self, loop: AbstractEventLoop, recovery: Recovery, attempt: Callable[[], Any], delay: float) -> None:
        import contextvars
        from asyncio import current_task

        task = current_task(loop)
        assert task is not None  # a loop runs coroutines in tasks only
        self._loop = loop
        self._recovery = recovery
        self._attempt = attempt
        self._delay = delay
        self._task: Task[Any] = task
        self._context: Context = contextvars.copy_context()
        self._frame = frame()
        self._cancelling = task.cancelling()
        self._second: Task[Any] | None = None
        self._first_runs = True
        self._won = False  # by the second, which then has asked the first to end

    async def run(self) -> Any:
        call_off = timers.current.call_later(self._loop, self._delay, self._start)
        value: Any = None
        error: BaseException | None = None
        try:
            value = await self._attempt()
        except BaseException as raised:
            error = raised
        self._first_runs = False
        call_off()
        try:
            if self._second is not None:
                value, error = await self._settle(self._second, value, error)
            if error is not None:
                raise error
            return value
        finally:
            error = None  # its traceback holds this frame

    async def _settle(self, second: Task[Any], value: Any, error: BaseException | None) -> tuple[Any, Any]:
        """What the call comes to, a value or an error, once the first of two attempts has ended."""
        if self._won:
            from asyncio import CancelledError

            # Our own request to end is answered; those of others stand, and must be seen.
            cancelled = self._task.uncancel() > self._cancelling and isinstance(error, CancelledError)
            return (None, error) if cancelled else (second.result(), None)
        if isinstance(error, GeneratorExit):  # closed by hand, or with its loop: nothing can be awaited any more
            second.cancel()
        elif isinstance(error, Exception) or (error is None and self._failed(value)):
            await _ended(second)
            if self._succeeded(second):
                return second.result(), None
        else:
            second.cancel()
            left = remaining() if error is None else None  # a value that is there must not be lost to a slow loser
            await _ended(second, None if left is None else left / 2)
        return value, error

    def _succeeded(self, second: Task[Any]) -> bool:
        # Its exception is looked at, so that nobody misses it.
        return not second.cancelled() and second.exception() is None and not self._failed(second.result())

    def _failed(self, value: Any) -> bool:
        """Whether `failure=` finds fault with a value; what it makes nonsense of is a success, as for the guard."""
        try:
            return self._recovery.judge(value) is not None
        except Exception:
            return False

    def _start(self) -> None:
        """The first attempt has had its time: start another, if we may."""
        integration = self._recovery.integration
        if not self._first_runs or integration.breaker.state is not CircuitState.CLOSED:
            return
        budget, record = integration.retry_budget, self._recovery.record
        because = 0 if budget is None or budget.hedge(integration.breaker) else recorder.NO_BUDGET
        integration.breaker.note(recorder.HEDGE, because, 0, self._delay, record.number)
        if because:
            return
        record.note(HEDGES)
        second = _in_frame(self._attempt, self._frame)
        self._second = self._loop.create_task(second, context=self._context)
        self._second.add_done_callback(self._second_ended)

    def _second_ended(self, second: Task[Any]) -> None:
        if self._succeeded(second) and self._first_runs:
            self._won = True
            self._task.cancel()


async def _called(attempt: Callable[[], Any]) -> Any:
    return await attempt()


async def _in_frame(attempt: Callable[[], Any], frame: int) -> Any:
    # Made here, not before: a task that is cancelled before it begins never comes here, and leaves nothing unawaited.
    return await InFrame(_called(attempt), frame)


async def _ended(second: Task[Any], most: float | None = None) -> None:
    """Wait for it, whatever comes; a caller who is cancelled meanwhile cancels it too.

    After `most` seconds it is left to itself, with what it does on its way out.
    """
    from asyncio import FIRST_COMPLETED, CancelledError, wait

    loop = second.get_loop()
    enough = loop.create_future()
    call_off = None
    if most is not None:
        call_off = timers.current.call_later(loop, most, lambda: None if enough.done() else enough.set_result(None))
    asked: CancelledError | None = None
    while not second.done() and not enough.done():
        try:
            await wait((second, enough), return_when=FIRST_COMPLETED)
        except CancelledError as error:
            asked = error
            second.cancel()
    if call_off is not None:
        call_off()
    try:
        if asked is not None:
            raise asked
    finally:
        asked = None
