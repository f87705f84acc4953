"""Everything here that waits, in one place, so that a fake clock can stand in for all of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from threading import Event
    from typing import Protocol

    class Timers(Protocol):
        """How to wait, for a thread and for a task. Durations in seconds."""

        def sleep(self, seconds: float) -> None: ...
        async def sleep_async(self, seconds: float) -> None: ...
        def wait(self, event: Event, seconds: float) -> bool: ...
        def call_later(
            self, loop: AbstractEventLoop, seconds: float, callback: Callable[[], None]
        ) -> Callable[[], None]: ...


class RealTimers:
    """Waits that really wait."""

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)

    def wait(self, event: Event, seconds: float) -> bool:
        """Wait for an event, at most so long. Whether it came."""
        return event.wait(min(seconds, threading.TIMEOUT_MAX))

    def call_later(self, loop: AbstractEventLoop, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Run `callback` in the loop, `seconds` from now. Returns the function that calls it off."""
        return loop.call_later(seconds, callback).cancel


current: Timers = RealTimers()
"""Who waits now; `failsoft.testing.FakeClock` puts itself here."""
