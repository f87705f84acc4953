"""The two outcome windows, kept as plain lists of everything that happened.

The compiled windows are rings of counters; here an outcome is remembered with its time for ever, and a
question is answered by filtering. Times are integer nanoseconds of one monotonic clock that never steps back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

SLICES = 6


def nanoseconds(seconds: float) -> int:
    """Seconds as whole nanoseconds, to the nearest."""
    return round(seconds * 1_000_000_000)


class Tally(NamedTuple):
    """What a window holds: how many calls, and how many of them failed or were slow (a call may be both)."""

    calls: int
    failures: int
    slow: int


class Outcome(NamedTuple):
    """One recorded call."""

    time: int
    failed: bool
    slow: bool


def tally(outcomes: list[Outcome]) -> Tally:
    """Count a list of outcomes."""
    return Tally(
        calls=len(outcomes),
        failures=sum(outcome.failed for outcome in outcomes),
        slow=sum(outcome.slow for outcome in outcomes),
    )


class Window(Protocol):
    """What the breaker asks of either window."""

    def record(self, outcome: Outcome) -> None:
        """Add an outcome, no earlier than the last one."""

    def restart(self) -> None:
        """Forget everything recorded so far."""

    def tally(self, now: int) -> Tally:
        """Count what the window holds at `now`."""


@dataclass(frozen=True)
class Slices:
    """Time cut into equal slices, counted from the moment of creation.

    The window is the live slice and the five before it, so it covers between 5/6 and all of its length.
    """

    created: int
    length: int

    @property
    def width(self) -> int:
        """Nanoseconds a slice lasts."""
        return self.length // SLICES

    def number(self, time: int) -> int:
        """Which slice a time falls in; a boundary belongs to the slice that begins there."""
        return (time - self.created) // self.width

    def covers(self, time: int, now: int) -> bool:
        """Whether something that happened at `time` is still in the window at `now`."""
        return self.number(time) > self.number(now) - SLICES


class CountWindow:
    """Exactly the last `size` outcomes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def restart(self) -> None:
        self.outcomes = []

    def resize(self, size: int) -> None:
        """Keep as much of what is held as fits; what was not held before does not come back."""
        self.outcomes = self.outcomes[-min(size, self.size) :]
        self.size = size

    def tally(self, now: int) -> Tally:
        return tally(self.outcomes[-self.size :])


class TimeWindow:
    """The outcomes of the live slice and the five closed ones before it."""

    def __init__(self, created: int, length: int) -> None:
        self.slices = Slices(created, length)
        self.outcomes: list[Outcome] = []

    def record(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def restart(self) -> None:
        # The core keeps its slices and takes min(in the window, since the restart), part by part. Both are
        # tails of one history in time order, so the smaller count is the count of what is in both.
        self.outcomes = []

    def tally(self, now: int) -> Tally:
        return tally([outcome for outcome in self.outcomes if self.slices.covers(outcome.time, now)])
