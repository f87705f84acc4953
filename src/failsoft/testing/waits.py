"""Retries that do not wait, while everything else keeps real time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .. import timers


class _NoWaits(timers.RealTimers):
    def sleep(self, seconds: float) -> None:
        return None

    async def sleep_async(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(0)


@contextmanager
def no_backoff() -> Iterator[None]:
    """Let retries follow at once, and chaos hold nobody up, in a `with` block. How often is retried stays the same.

    Deadlines, breakers' waits and the durations of calls keep real time: with `FakeClock`, which does not wait either,
    they keep the clock's. Inside a FakeClock it changes nothing, and it is the process's, as that is.
    """
    before = timers.current
    if isinstance(before, timers.RealTimers):
        timers.current = _NoWaits()
    try:
        yield
    finally:
        timers.current = before
