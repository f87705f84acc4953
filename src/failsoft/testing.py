"""For tests of code that uses failsoft."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

from . import _core, timers

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

    A retry's wait advances the clock by itself. The clock is the process's: this is **not** thread-safe, and only one
    can run at a time.
    """

    def __init__(self) -> None:
        self._now = 0
        self._order = itertools.count()
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._real: timers.Timers | None = None

    def __enter__(self) -> Self:
        if isinstance(timers.current, FakeClock):
            raise RuntimeError("a FakeClock is running already")
        _core.fake_clock(True)
        self._now = _core.now_ns()
        self._real, timers.current = timers.current, self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._real is not None
        timers.current, self._real = self._real, None
        _core.fake_clock(False)

    @property
    def now(self) -> float:
        """Seconds, from the epoch of CLOCK_MONOTONIC."""
        return self._now / 1e9

    def advance(self, seconds: float) -> None:
        """Move time on, running on the way what falls due."""
        if not 0.0 <= seconds <= 1e9:
            raise ValueError(f"seconds must be a number from 0 to 1e9, got {seconds!r}")
        target = self._now + round(seconds * 1e9)
        while self._timers and self._timers[0][0] <= target:
            due, _, callback = heapq.heappop(self._timers)
            self._set(max(due, self._now))
            callback()
        self._set(target)

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
        entry = (self._now + round(seconds * 1e9), next(self._order), callback)
        heapq.heappush(self._timers, entry)

        def cancel() -> None:
            if entry in self._timers:
                self._timers.remove(entry)
                heapq.heapify(self._timers)

        return cancel
