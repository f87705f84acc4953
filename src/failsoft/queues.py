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

from . import forks, timers
from ._core import RATE_LIMITED, now_ns, remaining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from typing import TypeVar

    from ._core import Load

    T = TypeVar("T")

IN = 0
"""The code of a call that is let in; the others are those of csrc/include/failsoft/load.h."""
WAITS = -1
"""The code of one whose wait has not ended."""

_MOST = 2**32 - 1  # that the core counts


def _awake() -> bool:
    """Of one that is looking, or will look before it goes to sleep."""
    return True


class Waiter:
    """A call in the queue."""

    __slots__ = ("arrived", "code", "lacks", "n", "thread", "until", "wake")

    def __init__(self, n: int, lacks: int, until: int) -> None:
        self.n = n  # tokens that it wants
        self.arrived = now_ns()
        self.until = until  # ns of CLOCK_MONOTONIC; its own deadline
        self.lacks = lacks  # the code of what it was last refused by
        self.code = WAITS  # how its wait ended
        self.thread = threading.get_ident()
        self.wake: Callable[[], bool] = _awake  # let it look; False: it cannot be told any more


class Queue:
    """Those who wait for load control, in the order they came.

    An interrupt may come between any two steps, and so may a finaliser or a signal's handler that ends a call or gives
    one up. What it asks for while the queue is being changed in the same thread is done right after.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._lock = forks.new_lock()
        self._waiting: deque[Waiter] = deque()
        self._busy = False  # being changed, by the lock's holder
        self._again = False  # somebody has to be served
        forks.remember(self)

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, n: int, code: int, until: int) -> int:
        """Wait in this thread. `until` in ns of CLOCK_MONOTONIC. The answer is IN, or the code of what refused."""
        if timers.running_loop() is not None:
            return code
        event = threading.Event()
        waiter = Waiter(n, code, until)
        waiter.wake = functools.partial(_wake, event)
        try:
            if not self._join(waiter):
                return code
            while (when := self._look(waiter)) is not None:
                timers.current.wait_until(event, when)
                event.clear()
            return waiter.code
        except BaseException:
            self._give_up(waiter)
            raise

    async def wait_async(self, n: int, code: int, until: int) -> int:
        """The same for a task, whose loop goes on meanwhile."""
        loop = timers.running_loop()
        if loop is None:  # not under asyncio: there is nothing that could wait
            return code
        waiter = Waiter(n, code, until)
        try:
            if not self._join(waiter):
                return code
            while True:
                future = loop.create_future()
                waiter.wake = functools.partial(_tell, loop, future)
                when = self._look(waiter)
                if when is None:
                    return waiter.code
                call_off = timers.current.call_at(loop, when, functools.partial(_settle, future))
                try:
                    await future
                finally:
                    call_off()
        except BaseException:
            self._give_up(waiter)
            raise

    def serve(self) -> None:
        """Let in who fits now, from the front; then let the first of the others look when he has to look again."""
        with self._lock:
            self._again = True
            self._catch_up()

    def _change(self, step: Callable[[], T]) -> T:
        """Take a step that nothing comes into."""
        with self._lock:
            busy = self._busy
            try:
                self._busy = True
                return step()
            finally:
                self._busy = busy
                self._catch_up()

    def _catch_up(self) -> None:
        while self._again and not self._busy:
            try:
                self._busy = True
                self._again = False
                self._serve()
            except BaseException:
                self._again = True  # for whoever comes next
                raise
            finally:
                self._busy = False

    def _serve(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            if first.code == WAITS and now_ns() < first.until:
                self._load.admit(first)
            if first.code == WAITS:
                if now_ns() < self._limit(first) and first.wake():
                    return
                first.code = first.lacks
            if not first.wake() and first.code == IN:  # its loop is closed
                first.code = RATE_LIMITED
                self._load.withdraw(first.n)
            self._drop(first)

    def _join(self, waiter: Waiter) -> bool:
        """Take the last place in the queue. False: there is no time for it."""
        left = remaining()
        if left is not None:
            waiter.until = min(waiter.until, waiter.arrived + round(left * 1e9))
        with self._lock:
            if self._busy:  # whoever could let it in goes on only after it
                return False
            return self._change(functools.partial(self._append, waiter))

    def _append(self, waiter: Waiter) -> bool:
        limit = self._limit(waiter)
        if waiter.arrived >= limit:
            return False
        if waiter.lacks == RATE_LIMITED and waiter.arrived + self._load.when(self._wanted() + waiter.n) > limit:
            return False
        self._waiting.append(waiter)
        self._count()
        return True

    def _look(self, waiter: Waiter) -> int | None:
        """When to look again, in ns of CLOCK_MONOTONIC; None: the wait is over."""
        return self._change(functools.partial(self._looked, waiter))

    def _looked(self, waiter: Waiter) -> int | None:
        if self._waiting and self._waiting[0] is waiter:
            wake, waiter.wake = waiter.wake, _awake  # it is looking
            try:
                self._serve()
            finally:
                waiter.wake = wake
        if waiter.code != WAITS:
            return None
        now, limit = now_ns(), self._limit(waiter)
        if now >= limit:
            waiter.code = waiter.lacks
            self._drop(waiter)
            self._again = True
            return None
        if waiter.lacks == RATE_LIMITED and self._waiting[0] is waiter:
            return min(limit, now + self._load.when(waiter.n))
        return limit

    def _limit(self, waiter: Waiter) -> int:
        """The time until which it waits for what it lacks; 0 where no wait would do, for `burst` has become less."""
        if not self._load.fits(waiter.n):
            return 0
        return min(waiter.until, waiter.arrived + self._load.patience(waiter.lacks))

    def _give_up(self, waiter: Waiter) -> None:
        with self._lock:
            code, waiter.code = waiter.code, waiter.lacks
            if code == IN:
                self._load.withdraw(waiter.n)
            self._again = True
            if not self._busy:  # or else it goes when it is first
                self._change(functools.partial(self._drop, waiter))

    def _drop(self, waiter: Waiter) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        self._count()

    def _count(self) -> None:
        self._load.queue(min(self._wanted(), _MOST))

    def _wanted(self) -> int:
        return sum(waiter.n for waiter in self._waiting)

    def forked(self) -> None:
        """In a child, the threads of its parent do not wait any more."""
        if not forks.held(self._lock):
            self._busy = self._again = False
        here = threading.get_ident()
        self._waiting = deque(waiter for waiter in self._waiting if waiter.thread == here)
        self._count()


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
