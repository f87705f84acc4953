"""The retry delays as formulas: which delays a kind of jitter allows, and how they are spread.

The model answers with a distribution: the interval, the probability of a delay of at most x, and the
delay of a given draw. Durations are seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Jitter(StrEnum):
    FULL = "full"
    EQUAL = "equal"
    DECORRELATED = "decorrelated"
    NONE = "none"


class Spread(NamedTuple):
    """A uniform draw from [low, high], of which everything above `cap` becomes `cap`."""

    low: float
    high: float
    cap: float

    @property
    def least(self) -> float:
        """The shortest delay."""
        return min(self.low, self.cap)

    @property
    def most(self) -> float:
        """The longest delay."""
        return min(self.high, self.cap)

    @property
    def mean(self) -> float:
        """The average delay."""
        if self.high <= self.cap or self.high == self.low:
            return (self.least + self.most) / 2
        if self.low >= self.cap:
            return self.cap
        below = (self.cap - self.low) / (self.high - self.low)
        return below * (self.low + self.cap) / 2 + (1 - below) * self.cap

    def at(self, unit: float) -> float:
        """The delay for a draw from [0, 1)."""
        return min(self.cap, self.low + (self.high - self.low) * unit)

    def probability(self, delay: float) -> float:
        """The probability of a delay of at most `delay`."""
        if delay >= self.most:
            return 1.0
        if delay < self.low:
            return 0.0
        return (delay - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Backoff:
    """The arguments of `failsoft.Backoff`, without the seed."""

    initial: float = 0.5
    maximum: float = 10.0
    multiplier: float = 2.0
    jitter: Jitter = Jitter.FULL

    def ceiling(self, attempt: int) -> float:
        """The longest wait before retry number `attempt`, counted from 0; growth stops at the maximum."""
        try:
            growth = self.multiplier**attempt
        except OverflowError:
            growth = math.inf
        return min(self.maximum, self.initial * growth) if self.initial > 0 else 0.0

    def spread(self, attempt: int, previous: float = 0.0) -> Spread:
        """How the delay is drawn, after one of `previous` seconds (used by the decorrelated kind only)."""
        ceiling = self.ceiling(attempt)
        match self.jitter:
            case Jitter.FULL:
                return Spread(0.0, ceiling, ceiling)
            case Jitter.EQUAL:
                return Spread(ceiling / 2, ceiling, ceiling)
            case Jitter.DECORRELATED:
                # No delay of this kind is shorter than the initial one, so a shorter `previous` says nothing.
                before = max(previous, self.initial)
                return Spread(self.initial, 3 * before, self.maximum)
            case Jitter.NONE:
                return Spread(ceiling, ceiling, ceiling)
