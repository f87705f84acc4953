"""Everything here that waits, in one place, so that a fake clock can stand in for all of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from ._core import now_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from threading import Event
    from typing import Protocol

    class Alarm(Protocol):
        """A callback to come. It can be called off, and referred to weakly."""

        def cancel(self) -> None: ...

    class Timers(Protocol):
        """How to wait, for a thread and for a task. Durations in seconds, points in time in ns of CLOCK_MONOTONIC."""

        def sleep(self, seconds: float) -> None: ...
        async def sleep_async(self, seconds: float) -> None: ...
        def wait(self, event: Event, seconds: float) -> bool: ...
        def call_later(
            self, loop: AbstractEventLoop, seconds: float, callback: Callable[[], None]
        ) -> Callable[[], None]: ...
        def call_at(self, loop: AbstractEventLoop, when: int, callback: Callable[[], None]) -> Callable[[], None]: ...
        def alarm(self, loop: AbstractEventLoop, when: int, callback: Callable[[], None]) -> Alarm: ...
        def wait_until(self, event: Event, when: int | None) -> None: ...


class RealTimers:
    """Waits that really wait."""

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait for an event, at most so long. Whether it came."""
        from threading import TIMEOUT_MAX

        return event.wait(min(seconds, TIMEOUT_MAX))

    def call_later(self, loop: AbstractEventLoop, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Run `callback` in the loop, `seconds` from now. Returns the function that calls it off."""
        return loop.call_later(seconds, callback).cancel

    def call_at(self, loop: AbstractEventLoop, when: int, callback: Callable[[], None]) -> Callable[[], None]:
        """The same at a point in time, at once if it has passed."""
        return loop.call_later(max(when - now_ns(), 0) / 1e9, callback).cancel

    def alarm(self, loop: AbstractEventLoop, when: int, callback: Callable[[], None]) -> Alarm:
        """As `call_at`, from the loop's own thread. Who only refers weakly to what it gives does not keep the loop."""
        from contextvars import Context

        # In a context of its own: that of whoever runs now may hold much, and the alarm may be a long way off.
        left = when - now_ns()
        return (
            loop.call_later(left / 1e9, callback, context=Context())
            if left > 0
            else loop.call_soon(callback, context=Context())
        )

    def wait_until(self, event: Event, when: int | None) -> None:
        """Block this thread until the event is set or the time has come; None: the event alone."""
        event.wait(None if when is None else max(when - now_ns(), 0) / 1e9)


current: Timers = RealTimers()
"""Who waits now; `failsoft.testing.FakeClock` puts itself here."""


def running_loop() -> AbstractEventLoop | None:
    """The asyncio loop that runs in this thread, without importing asyncio to find none."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        loop: AbstractEventLoop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop
