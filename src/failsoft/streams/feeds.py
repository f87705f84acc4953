"""What streams and watched loops have in common: their numbers, their last items, and what they report."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Hashable

from .. import events
from .._core import Flow, LatencyHistogram, now_ns, setup_flow
from ..checks import at_least_one, duration
from ..config import FallbackType
from ..fallbacks import Aged, Fallback
from ..recorder import DISORDER, GAP, STALE, STREAM
from . import tally
from .records import StreamMetrics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..integrations import Integration

QUANTILES = (0.5, 0.95, 0.99)

_alive: weakref.WeakSet[Feed] = weakref.WeakSet()


def alive() -> tuple[Feed, ...]:
    """The streams and watched loops of this process, for those that watch over them."""
    while True:
        try:
            return tuple(_alive)
        except RuntimeError:  # others come and go while we look
            continue


class Feed(Flow):
    """Items that come one after another, counted."""

    _serial = 0  # before there is anything to count

    def __init__(
        self,
        integration: Integration,
        operation: str,
        *,
        stale_after: float | None,
        key: Callable[[Any], Hashable] | str | int | None,
        sequence: Callable[[Any], int | None] | str | int | None,
        max_keys: int,
        resumes: bool,
    ) -> None:
        self.integration = integration
        self.operation = operation
        self.stale_after: float | None = None
        if stale_after is not None:
            self.stale_after = duration("stale_after", stale_after)  # type: ignore[assignment]
        window = integration.config.circuit_breaker.window
        most: int = at_least_one("max_keys", max_keys)  # type: ignore[assignment]
        setup_flow(self, LatencyHistogram(window), self.stale_after, key, sequence, most, resumes)
        self._guard = integration.caller(operation)
        self._keyed = key is not None
        self._made = now_ns()
        self._reconnects = 0
        self._dropped = 0

    def _made_whole(self) -> None:
        """Nothing of it is wanting: whoever watches over streams may look at it from now on."""
        tally.settle(tally.NOTES_MOST)
        self._serial = next(tally.serials)
        _alive.add(self)

    def __del__(self) -> None:
        if self._serial:
            tally.leave(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.integration.name}.{self.operation} {self.status().state}>"

    def status(self) -> Any:
        """What it is doing now."""
        raise NotImplementedError

    def made_ago(self) -> float:
        """Seconds since it was made."""
        return (now_ns() - self._made) / 1e9

    def metrics(self) -> StreamMetrics:
        """What has come so far."""
        items, gaps, missing, duplicates, disorder, stale = self._counts()
        lately = self.intervals.recent
        count = lately.count
        p50, p95, p99 = lately.quantiles(QUANTILES) if count else (0.0, 0.0, 0.0)
        span = min(self.intervals.window, self.made_ago())
        return StreamMetrics(
            items,
            count / span if span > 0 else 0.0,
            p50,
            p95,
            p99,
            self._reconnects,
            gaps,
            missing,
            duplicates,
            disorder,
            stale,
            self._dropped,
        )

    def last(self, key: Hashable) -> Aged | None:
        """The last item of a key and its age in seconds; None where none is remembered. Needs the stream's `key`."""
        found = self._last(key)
        return None if found is None else Aged(*found)

    def fallback(
        self, *, max_age: float | None = None, key: Callable[..., Hashable] | None = None, priority: int | None = None
    ) -> Fallback:
        """A LAST_KNOWN fallback for guards: the last item of a key, none older than `max_age` seconds.

        The key is the first argument of the guarded call, or what `key` makes of its arguments.
        """
        if not self._keyed:
            raise ValueError("a stream remembers items by key; make it with key=")
        most: float | None = None
        if max_age is not None:
            most = duration("max_age", max_age)  # type: ignore[assignment]

        def last_known(*args: Any, **kwargs: Any) -> Aged:
            asked: Hashable = args[0] if key is None else key(*args, **kwargs)
            known = self.last(asked)
            if known is None:
                raise LookupError(f"{self.integration.name}.{self.operation} has given nothing for {asked!r} yet")
            if most is not None and known.age > most:
                raise LookupError(f"the last item for {asked!r} is {known.age:.3g} s old, more than {most:.3g} s")
            return known

        return Fallback(FallbackType.LAST_KNOWN, last_known, priority=priority)

    # ---- what C tells

    def _gap(self, key: Hashable, last: int, number: int) -> None:
        self._note(GAP, number - last - 1)
        if events.listening(events.StreamGap):
            missing = number - last - 1
            events.publish(events.StreamGap(*self._name(), key, last, number, missing, time.time()))

    def _disorder(self, key: Hashable, last: int, number: int) -> None:
        self._note(DISORDER, last - number)
        if events.listening(events.StreamDisorder):
            events.publish(events.StreamDisorder(*self._name(), key, last, number, time.time()))

    def _stale(self, seconds: float) -> None:
        self._note(STALE, seconds)
        if events.listening(events.StreamStale):
            events.publish(events.StreamStale(*self._name(), seconds, time.time()))

    def _name(self) -> tuple[str, str]:
        return self.integration.name, self.operation

    def _note(self, what: int, measure: float) -> None:
        """Write into the flight recorder."""
        place = self._guard._recovery.record.number
        self.integration.breaker.note(STREAM, what, number=float(measure), operation=place)

    def _tell_breaker(self, outcome: int, took: int, permit: int = 0) -> None:
        """How it went; of what was never admitted, if the breaker wants to know at all now."""
        if not permit:
            permit = 0 if self._guard._disabled else self._guard._breaker.admit()
        if permit & 1:
            self._guard._settle(permit, outcome, took)
