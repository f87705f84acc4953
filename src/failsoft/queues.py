"""Calls that wait for a token or a place: one queue an integration, for threads and tasks of any loop alike.

First come, first served: while somebody waits, nobody who comes later goes before him. Whoever is first looks at the
limits himself, when a place is left and when his token is due; no thread and no timer of ours runs. A call waits at
most as long as the limit that it lacks allows (`max_wait`), and never longer than its own deadline. Where its token
cannot come in time it does not wait at all. One that is given up, by a cancellation or an interrupt, leaves the queue,
and gives back what it had been given in the same moment.

A sync call made in the thread of a running loop does not wait: it would hold up all that the loop has to do, the calls
that have to end for it among them.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable

from . import timers
from ._core import RATE_LIMITED, now_ns, remaining
from .forks import new_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from ._core import Load

IN = 0
"""The code of a call that is let in; the others are those of csrc/include/failsoft/load.h."""


def _awake() -> bool:
    """Of one that is looking, or will look before it goes to sleep."""
    return True


class Waiter:
    """A call in the queue."""

    __slots__ = ("arrived", "code", "lacks", "n", "until", "wake")

    def __init__(self, n: int, lacks: int, until: int) -> None:
        self.n = n  # tokens that it wants
        self.arrived = now_ns()
        self.until = until  # ns of CLOCK_MONOTONIC; its own deadline
        self.lacks = lacks  # the code of what it was last refused by
        self.code: int | None = None  # how its wait ended
        self.wake: Callable[[], bool] = _awake  # let it look; False: it cannot be told any more


class Queue:
    """Those who wait for load control, in the order they came."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._lock = new_lock()
        self._waiting: deque[Waiter] = deque()
        self._serving = self._again = False

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, n: int, code: int, until: int) -> int:
        """Wait in this thread. `until` in ns of CLOCK_MONOTONIC. The answer is IN, or the code of what refused."""
        if timers.running_loop() is not None:
            return code
        event = threading.Event()
        waiter = Waiter(n, code, until)
        waiter.wake = functools.partial(_wake, event)
        if not self._join(waiter):
            return code
        try:
            while (when := self._look(waiter)) is not None:
                timers.current.wait_until(event, when)
                event.clear()
        except BaseException:
            self._leave(waiter)
            raise
        return _ended(waiter)

    async def wait_async(self, n: int, code: int, until: int) -> int:
        """The same for a task, whose loop goes on meanwhile."""
        loop = timers.running_loop()
        if loop is None:  # not under asyncio: there is nothing that could wait
            return code
        waiter = Waiter(n, code, until)
        if not self._join(waiter):
            return code
        try:
            while True:
                future = loop.create_future()
                waiter.wake = functools.partial(_tell, loop, future)
                when = self._look(waiter)
                if when is None:
                    break
                call_off = timers.current.call_at(loop, when, functools.partial(_settle, future))
                try:
                    await future
                finally:
                    call_off()
        except BaseException:
            self._leave(waiter)
            raise
        return _ended(waiter)

    def serve(self) -> None:
        """Let in who fits now, from the front; then let the first of the others look when he has to look again."""
        with self._lock:
            self._again = True
            if self._serving:  # a finaliser or a signal's handler, in the middle of it
                return
            self._serving = True
            try:
                while self._again:
                    self._again = False
                    self._serve()
            finally:
                self._serving = False

    def _serve(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            first.lacks = self._load.admit(first.n) or IN
            late = first.lacks != IN and now_ns() >= self._limit(first)
            if first.lacks != IN and not late and first.wake():
                return
            self._drop(first)
            first.code = first.lacks
            if not first.wake() and first.code == IN:  # its loop is closed
                first.code = RATE_LIMITED
                self._load.withdraw(first.n)

    def _join(self, waiter: Waiter) -> bool:
        """Take the last place in the queue. False: there is no time for it."""
        left = remaining()
        if left is not None:
            waiter.until = min(waiter.until, waiter.arrived + round(left * 1e9))
        with self._lock:
            limit = self._limit(waiter)
            if waiter.arrived >= limit:
                return False
            wanted = waiter.n + sum(other.n for other in self._waiting)
            if waiter.lacks == RATE_LIMITED and waiter.arrived + self._load.when(wanted) > limit:
                return False
            self._waiting.append(waiter)
            self._count()
        return True

    def _look(self, waiter: Waiter) -> int | None:
        """When to look again, in ns of CLOCK_MONOTONIC; None: the wait is over."""
        with self._lock:
            if self._waiting and self._waiting[0] is waiter:
                wake, waiter.wake = waiter.wake, _awake  # it is looking
                try:
                    self.serve()
                finally:
                    waiter.wake = wake
            if waiter.code is not None:
                return None
            now, limit = now_ns(), self._limit(waiter)
            if now >= limit:
                self._drop(waiter)
                waiter.code = waiter.lacks
                self.serve()
                return None
            if waiter.lacks == RATE_LIMITED and self._waiting[0] is waiter:
                return min(limit, now + self._load.when(waiter.n))
            return limit

    def _limit(self, waiter: Waiter) -> int:
        """The time until which it waits for what it lacks."""
        return min(waiter.until, waiter.arrived + self._load.patience(waiter.lacks))

    def _leave(self, waiter: Waiter) -> None:
        """Its wait was given up."""
        with self._lock:
            if waiter.code is None:
                self._drop(waiter)
            elif waiter.code == IN:
                self._load.withdraw(waiter.n)
            self.serve()

    def _drop(self, waiter: Waiter) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        self._count()

    def _count(self) -> None:
        self._load.queue(sum(waiter.n for waiter in self._waiting))


def _ended(waiter: Waiter) -> int:
    assert waiter.code is not None
    return waiter.code


def _wake(event: threading.Event) -> bool:
    event.set()
    return True


def _tell(loop: AbstractEventLoop, future: Future[None]) -> bool:
    """Wake a task, from whatever thread. False: its loop is closed."""
    if timers.running_loop() is loop:
        _settle(future)
        return True
    try:
        loop.call_soon_threadsafe(_settle, future)
    except RuntimeError:
        return False
    return True


def _settle(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
