"""An asyncio event loop in virtual time: real guards, tasks and timers, and nobody ever sleeps.

The loop's clock is the core's fake clock, so breakers, windows, deadlines and `asyncio.sleep` agree on what time it is.
Where an ordinary loop would wait for its next timer, this one moves the clock there. A run depends on nothing but its
seeds.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from failsoft import _core

T = TypeVar("T")


class Leap(selectors.BaseSelector):
    """A selector that never waits: time leaps instead."""

    def __init__(self) -> None:
        self._map: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj if isinstance(fileobj, int) else fileobj.fileno(), events, data)
        self._map[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._map.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._map

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing is left that could ever happen")
        if timeout > 0.0:
            _core.fake_clock_set(_core.now_ns() + math.ceil(timeout * 1e9))
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(Leap())

    def time(self) -> float:
        return _core.now_ns() / 1e9


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, in virtual time from an arbitrary, fixed moment on."""
    _core.fake_clock(True)
    _core.fake_clock_set(1_000_000_000_000)
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(main)
    finally:
        _core.fake_clock(False)
