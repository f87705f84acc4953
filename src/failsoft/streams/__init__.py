"""Feeds that may not go quiet: an async iterator over connections that come and go.

While items come, C hands them on (csrc/python/stream.c). This room does what is rare: it connects through the breaker,
waits between tries, gives up a connection that has fallen silent, and tells of it all.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable

from .. import events, timers
from .._core import StreamSteps, now_ns, remaining
from ..checks import LONGEST, duration
from ..classify import classify_error, retry_after_of
from ..config import ErrorCategory
from ..course import IGNORED, SUCCEEDED, TIMEOUTS
from ..errors import IntegrationError, IntegrationTimeoutError
from ..fallbacks import Aged
from ..recorder import LOST, RECONNECTED
from ..retry import retryable
from .connections import Connection, bounded, closed, ended, opened
from .feeds import Feed
from .records import StreamMetrics, StreamPosition, StreamState, StreamStatus

__all__ = ["Stream", "StreamMetrics", "StreamPosition", "StreamState", "StreamStatus"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Event, Task
    from collections.abc import Coroutine
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import Any, Self, TypeAlias, TypeVar

    from ..integrations import Integration

    T = TypeVar("T")
    Source: TypeAlias = AsyncIterable[T] | AbstractAsyncContextManager[AsyncIterable[T]]
    Connect: TypeAlias = Callable[[], Source[T] | Awaitable[Source[T]]]
    Resume: TypeAlias = Callable[[StreamPosition], Source[T] | Awaitable[Source[T]]]

REFUSED_LEAST = 0.05
"""Seconds between two questions to a gate that does not say when to come back."""

STALE = "stale"


def _running_task() -> Task[Any] | None:
    loop = timers.running_loop()
    if loop is None:
        return None
    from asyncio import current_task

    return current_task(loop)


def _instead(given: object) -> str:
    """The end of a message about what is no function."""
    if isinstance(given, str):
        return "; failsoft.adapters.websockets and .nats connect to an address"
    if hasattr(given, "__aiter__") or hasattr(given, "__await__"):
        return "; give the function, for it is called for each connection"
    return ""


class Stream(Feed, StreamSteps["T"]):
    """An async iterator over what `connect` connects to, again and again. Made by `Integration.stream`.

    One consumer at a time. Use it as `async with` block, or call `aclose()`, to end the last connection in good order.
    """

    def __init__(
        self,
        integration: Integration,
        connect: Callable[[], Any],
        operation: str,
        *,
        resume: Callable[[StreamPosition], Any] | None,
        ends: bool,
        max_reconnects: int | None,
        close_timeout: float,
        **options: Any,
    ) -> None:
        for name, given in (("connect", connect), ("resume", resume)):
            if not callable(given) and (given is not None or name == "connect"):
                raise TypeError(f"{name} must be callable, got {given!r}{_instead(given)}")
        if max_reconnects is not None and (isinstance(max_reconnects, bool) or not isinstance(max_reconnects, int)):
            raise TypeError(f"max_reconnects must be an integer or None, got {max_reconnects!r}")
        if max_reconnects is not None and max_reconnects < 0:
            raise ValueError(f"max_reconnects must be 0 or more, got {max_reconnects!r}")
        super().__init__(integration, operation, resumes=resume is not None, **options)
        self._connector = connect
        self._resume = resume
        self._ends = ends
        self._max_reconnects = max_reconnects
        self._close_timeout: float = duration("close_timeout", close_timeout)  # type: ignore[assignment]
        self._state: StreamState = StreamState.WAITING
        self._connection: Connection | None = None
        self._connections = 0
        self._error: BaseException | None = None
        self._tries = 0  # since the last item of all
        self._delay = 0.0
        self._permit = 0  # of the connection that has not given an item yet
        self._began = 0
        self._last_at = 0  # when the last item of the connections before came, in ns
        self._interrupted = False  # a cancellation has gone through the iterator, and may have ended it
        self._loop: AbstractEventLoop | None = None
        self._call_off: Callable[[], None] | None = None
        self._connecting: Task[Any] | None = None  # who makes a connection now
        self._recalls = 0  # how often aclose() has cancelled that
        self._let_go: Event | None = None  # aclose() waits for who waits here
        self._made_whole()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the connection, and with it the wait of whoever waits for an item. There are no more items then."""
        self._state = StreamState.CLOSED
        self._disarm()
        if self._let_go is None and self._recall():
            from asyncio import Event

            self._let_go = Event()
        if self._let_go is not None and not await ended(self._let_go.wait(), self._close_timeout):
            self._recall()  # what it closes on its way hangs
        await self._disconnect()

    def status(self) -> StreamStatus:
        """What it is doing now."""
        state = self._state
        left = self._left()
        if state is not StreamState.CLOSED and (self._fired or (left is not None and left <= 0)):
            state = StreamState.STALE
        return StreamStatus(state, self._age() if self._counts()[0] else None, self._connections, self._error)

    def position(self) -> StreamPosition:
        """Where it has come to."""
        values = {key: Aged(*known) for key in tuple(self._values) if (known := self._last(key)) is not None}
        silent = self._age() if self._counts()[0] else 0.0
        sequences = self._numbers() if self._keyed else {}
        return StreamPosition(
            self._connections + 1, self._high(), sequences, values, time.time() - silent, silent
        )  # fmt: skip

    # ---- what C calls

    def _arrived(self) -> None:
        """The first item of a connection."""
        self._state = StreamState.LIVE
        self._tries, self._delay, self._interrupted = 0, 0.0, False
        permit, self._permit = self._permit, 0
        self._tell_breaker(SUCCEEDED, now_ns() - self._began, permit)
        if not self._last_at:
            return
        self._reconnects += 1
        silent = (now_ns() - self._last_at) / 1e9
        self._note(RECONNECTED, silent)
        if events.listening(events.StreamReconnected):
            events.publish(events.StreamReconnected(*self._name(), self._connections, silent, time.time()))

    def _lost(self, error: BaseException) -> Coroutine[Any, Any, None] | None:
        """No item came, for this reason. What makes up for it; None: the error stands."""
        self._disarm()
        fired, self._fired = self._fired, 0
        if fired:
            ours = self._uncancel(fired) and type(error).__name__ == "CancelledError"
            if ours or isinstance(error, Exception):  # whatever the iterator has made of the cancellation
                return self._connect(self._error)  # the alarm has settled it
            self._attach(None)  # it is silent, whoever else wants something
        if isinstance(error, Exception) and self._state is StreamState.CLOSED:
            return self._connect()
        if not isinstance(error, Exception):
            self._interrupted = True
            self._gone()
            return None
        if isinstance(error, StopAsyncIteration):
            if self._interrupted:
                self._interrupted = False
                return self._go_on()
            if self._ends:
                return self._end()
            error = self._ended_error()
        self._settle(error)
        return self._connect(error)

    def _spared(self) -> None:
        """The item came although the wait for it has been cancelled."""
        fired, self._fired = self._fired, 0
        self._disarm()
        self._uncancel(fired)
        self._gone()

    def _arm(self) -> None:
        """Somebody waits, and no alarm is set."""
        loop = self._loop = self._task.get_loop()
        assert self.stale_after is not None
        self._set_alarm(loop, self.stale_after)

    # ---- silence

    def _set_alarm(self, loop: AbstractEventLoop, seconds: float) -> None:
        ref = weakref.ref(self)

        def look() -> None:
            stream = ref()
            if stream is not None:
                stream._look(loop)

        self._call_off = timers.current.call_later(loop, seconds, look)

    def _disarm(self) -> None:
        call_off, self._call_off = self._call_off, None
        self._armed = False
        if call_off is not None:
            call_off()

    def _look(self, loop: AbstractEventLoop) -> None:
        """The alarm. It was set for an older wait mostly, and then it is set again for the present one."""
        self._call_off = None
        left = self._left()
        task = self._task
        if left is None or task is None:
            self._armed = False
            return
        if left > 0.0:
            self._set_alarm(loop, left)
            return
        self._fired += 1
        self._set_alarm(loop, self._close_timeout)  # what is closed on the way may hang as well
        if self._fired == 1:
            self._settle(self._stale_error())
            if self._note_stale():
                self._stale(self.stale_after or 0.0)
        task.cancel()

    def _uncancel(self, fired: int) -> bool:
        """Take back our cancellations of the task. False: somebody else has asked for one meanwhile."""
        left = 0
        for _ in range(fired):
            left = self._task.uncancel()
        return left <= self._cancelling

    # ---- connections

    async def _connect(self, error: BaseException | None = None) -> None:
        """Make a connection, after one that ended with `error`, or raise what ends the stream."""
        task = self._connecting = _running_task()
        cancelling = 0 if task is None else task.cancelling()
        try:
            await self._reconnect(error)
        except BaseException as raised:
            left = 0
            recalls, self._recalls = self._recalls, 0
            for _ in range(recalls):
                left = task.uncancel()  # type: ignore[union-attr]
            if recalls and left <= cancelling and type(raised).__name__ == "CancelledError":
                raise StopAsyncIteration from None
            raise
        finally:
            error = None  # its traceback may hold this frame
            self._connecting = None
            self._gone()

    async def _reconnect(self, error: BaseException | None) -> None:
        self._leave_other_loops()
        self._rest()
        await self._disconnect()
        try:
            while True:
                if self._is_closed():
                    raise StopAsyncIteration
                if error is not None and not await self._waited_after(error):
                    raise error
                await self._admitted()
                try:
                    self._connection = await bounded(self._open(), self._patience(), self._slow_error)
                except Exception as problem:
                    error = problem
                    self._settle(error)
                    self._rest()
                    continue
                except BaseException:
                    self._give_back()
                    self._rest()
                    raise
                if self._is_closed():
                    await self._disconnect()
                    raise StopAsyncIteration
                self._connections += 1
                self._last_at = now_ns() - round(self._age() * 1e9) if self._counts()[0] else 0
                self._begin(self._numbers() if self._keyed else None)
                self._attach(self._connection.iterator)
                return
        finally:
            error = None  # its traceback holds this frame

    async def _open(self) -> Connection:
        known = self._counts()[0] > 0
        made = self._resume(self.position()) if self._resume is not None and known else self._connector()
        return await opened(made)

    async def _disconnect(self) -> None:
        self._give_back()
        self._attach(None)
        connection, self._connection = self._connection, None
        if connection is not None:
            await closed(connection, self._close_timeout)

    async def _go_on(self) -> None:
        """A cancellation has ended the iterator: iterate anew if the connection allows it, else make another."""
        connection = self._connection
        if connection is not None and connection.again():
            self._attach(connection.iterator)
        else:
            await self._connect()

    async def _end(self) -> None:
        self._state = StreamState.CLOSED
        try:
            await self._disconnect()
        finally:
            self._gone()
        raise StopAsyncIteration

    async def _admitted(self) -> None:
        """Wait until the gate lets a connection be made."""
        while not self._is_closed():
            permit, *_ = self._guard._gate(
                1, False
            )  # a place is for a call, and a stream is there as long as it is read
            if permit & 1:
                self._permit, self._began = permit, now_ns()
                self._state = StreamState.CONNECTING
                return
            refusal = self._guard._refuse(permit)
            wait = refusal.retry_after or max(self.integration.backoff.delay(self._tries, self._delay), REFUSED_LEAST)
            await timers.current.sleep_async(wait)
        raise StopAsyncIteration

    async def _waited_after(self, error: BaseException) -> bool:
        """Wait before the next try. False: there is none."""
        policy, category = self.integration.config.retry_policy, classify_error(error)
        hint = retry_after_of(error)
        left = remaining()
        again = retryable(policy, category, hint) and (hint is None or left is None or hint <= left)
        if not again or (self._max_reconnects is not None and self._tries >= self._max_reconnects):
            self._state = StreamState.CLOSED
            return False
        drawn = self.integration.backoff.delay(self._tries, self._delay)
        self._tries, self._delay = self._tries + 1, drawn
        wait = min(drawn if hint is None else max(hint, 0.0), LONGEST)
        self._note(LOST, wait)
        if events.listening(events.StreamLost):
            events.publish(events.StreamLost(*self._name(), category, error, wait, time.time()))
        await timers.current.sleep_async(wait)
        return True

    def _recall(self) -> bool:
        """Cancel whoever waits here, for an item or a connection. False: nobody does whom that could reach."""
        here = _running_task()
        if here is None:
            return False
        if self._connecting is not None and self._connecting is not here:
            self._recalls += 1
            return self._connecting.cancel()
        task: Task[Any] | None = self._task
        if self._waiting and task is not None and task is not here:
            self._fired += 1
            return task.cancel()
        return False

    def _gone(self) -> None:
        if self._let_go is not None:
            self._let_go.set()

    def _is_closed(self) -> bool:
        return self._state is StreamState.CLOSED

    def _rest(self) -> None:
        if not self._is_closed():
            self._state = StreamState.WAITING

    def _settle(self, error: BaseException) -> None:
        """Tell breaker, record and log of a connection that could not be made, or is no more."""
        now = now_ns()
        begun = now - self._began if self._permit else 0
        took = begun or (round(self._age() * 1e9) if self._counts()[0] else 0)
        permit, self._permit = self._permit, 0
        self._error = error
        recovery = self._guard._recovery
        category = classify_error(error)
        if category is ErrorCategory.TIMEOUT:
            recovery.record.note(TIMEOUTS)
        self._tell_breaker(recovery.outcome_of(category), took, permit)
        if isinstance(error, Exception):
            recovery.log_block(error)

    def _give_back(self) -> None:
        """Of a connection that is given up without an outcome."""
        permit, self._permit = self._permit, 0
        if permit:
            self._tell_breaker(IGNORED, 0, permit)

    def _leave_other_loops(self) -> None:
        """An alarm in a loop that is not ours any more would never go off."""
        loop = timers.running_loop()
        if self._loop is not None and self._loop is not loop:
            with contextlib.suppress(Exception):
                self._disarm()
        self._loop = loop

    def _patience(self) -> float:
        return self.integration.config.timeouts.connect

    # ---- its errors

    def _stale_error(self) -> IntegrationTimeoutError:
        return self._timeout_error(f"nothing came for {self.stale_after:.3g} s", STALE)

    def _slow_error(self, seconds: float) -> IntegrationTimeoutError:
        return self._timeout_error(f"no connection within {seconds:.3g} s", "connect timeout")

    def _timeout_error(self, words: str, reason: str) -> IntegrationTimeoutError:
        return IntegrationTimeoutError(
            f"{self.operation}: {words}",
            integration_type=self.integration.type,
            integration_name=self.integration.name,
            operation=self.operation,
            reason=reason,
        )

    def _ended_error(self) -> IntegrationError:
        return IntegrationError(
            f"{self.operation}: the peer ended the stream",
            category=ErrorCategory.NETWORK,
            integration_type=self.integration.type,
            integration_name=self.integration.name,
            operation=self.operation,
            reason="ended",
        )
