"""Time that moves only when told."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable

from .. import _core, timers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from threading import Event
    from types import TracebackType
    from typing import Self


class FakeClock:
    """Time that moves only when told, for all of failsoft: breakers, windows, retries' waits, attempt deadlines.

        with FakeClock() as clock:
            clock.advance(60.0)

    A retry's wait advances the clock by itself. The clock is the process's, and only one can run at a time. One thread
    moves it; others, and their loops, may wait for it. What falls due there is woken, and runs when it gets to it.
    """

    def __init__(self) -> None:
        self._now = 0
        self._order = itertools.count()
        self._timers: list[tuple[int, int, Callable[[], None], bool]] = []
        self._changing = threading.Lock()  # over _timers and _ended
        self._ended = False
        self._real: timers.Timers | None = None

    def __enter__(self) -> Self:
        if isinstance(timers.current, FakeClock):
            raise RuntimeError("a FakeClock is running already")
        _core.fake_clock(True)
        self._now = _core.now_ns()
        self._ended = False
        self._real, timers.current = timers.current, self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._real is not None
        timers.current, self._real = self._real, None
        _core.fake_clock(False)
        with self._changing:
            self._ended = True
            waiting = [timer for timer in self._timers if timer[3]]
        for timer in waiting:  # they look again, by the real clock
            timer[2]()

    @property
    def now(self) -> float:
        """Seconds, from the epoch of CLOCK_MONOTONIC."""
        return self._now / 1e9

    def advance(self, seconds: float) -> None:
        """Move time on, running on the way what falls due."""
        if not 0.0 <= seconds <= 1e9:
            raise ValueError(f"seconds must be a number from 0 to 1e9, got {seconds!r}")
        target = self._now + round(seconds * 1e9)
        while (fire := self._next(target)) is not None:
            fire()

    def _next(self, target: int) -> Callable[[], None] | None:
        """Move on to what falls due next, or to the target where nothing does."""
        with self._changing:
            if self._timers and self._timers[0][0] <= target:
                due, _, fire, _ = heapq.heappop(self._timers)
                self._set(max(due, self._now))
                return fire
            self._set(target)
            return None

    def _set(self, now: int) -> None:
        self._now = now
        _core.fake_clock_set(now)

    # ---- as timers.Timers

    def sleep(self, seconds: float) -> None:
        """A retry's wait: time jumps over it."""
        self.advance(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """The same, letting other tasks run once."""
        import asyncio

        self.advance(seconds)
        await asyncio.sleep(0)

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait until another thread sets the event, or advances the clock so far."""
        until = self._now + round(seconds * 1e9)
        while not event.wait(0.001):
            if self._now >= until:
                return event.is_set()
        return True

    def call_later(self, loop: AbstractEventLoop, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Run `callback` when `advance` passes the time. Returns the function that calls it off."""
        return self._at(self._now + round(seconds * 1e9), _in_loop(loop, callback))

    def call_at(self, loop: AbstractEventLoop, when: int, callback: Callable[[], None]) -> Callable[[], None]:
        """The same at a point in time, at once if it has passed, and when the clock ends: `callback` looks again.

        The loop of another thread is told, and runs it itself.
        """
        return self._at(when, _in_loop(loop, callback), looks_again=True)

    def alarm(self, loop: AbstractEventLoop, when: int, callback: Callable[[], None]) -> _Alarm:
        """The same, as an object."""
        alarm = _Alarm(_in_loop(loop, callback))
        alarm.cancel = self._at(when, alarm.fire, looks_again=True)
        return alarm

    def wait_until(self, event: threading.Event, when: int | None) -> None:
        """Block this thread until the event is set, `advance` in another one passes the time, or the clock ends."""
        call_off = None if when is None else self._at(when, event.set, looks_again=True)
        event.wait()
        if call_off is not None:
            call_off()

    def _at(self, when: int, fire: Callable[[], None], *, looks_again: bool = False) -> Callable[[], None]:
        entry = (when, next(self._order), fire, looks_again)
        with self._changing:
            over = looks_again and (self._ended or when <= self._now)
            if not over:
                heapq.heappush(self._timers, entry)
        if over:
            fire()

        def call_off() -> None:
            with self._changing:
                if entry in self._timers:
                    self._timers.remove(entry)
                    heapq.heapify(self._timers)

        return call_off


class _Alarm:
    __slots__ = ("__weakref__", "_go", "cancel")

    cancel: Callable[[], None]

    def __init__(self, fire: Callable[[], None]) -> None:
        self._go = fire

    def fire(self) -> None:
        self._go()


def _in_loop(loop: AbstractEventLoop, callback: Callable[[], None]) -> Callable[[], None]:
    def fire() -> None:
        if loop.is_closed():  # it runs nothing any more
            return
        if loop.is_running() and timers.running_loop() is not loop:
            loop.call_soon_threadsafe(callback)
        else:
            callback()

    return fire
