"""Rate limiter and bulkhead as their specifications read: tokens that come, and places that are taken."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass
class Load:
    """A full bucket of `burst` tokens, `rate` of which come a second, and `places`."""

    rate: int
    burst: int
    places: int
    now: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        self.tokens = Fraction(self.burst)
        self.in_flight = 0

    def advance(self, seconds: Fraction) -> None:
        """Let time pass."""
        self.now += seconds
        self.tokens = min(self.tokens + self.rate * seconds, Fraction(self.burst))

    def admit(self, n: int) -> str:
        """Ask for n tokens and a place: "in", or what refused."""
        if self.tokens < n:
            return "rate limit"
        if self.in_flight >= self.places:
            return "bulkhead"
        self.tokens -= n
        self.in_flight += 1
        return "in"

    def when(self, n: int) -> Fraction:
        """Seconds until n tokens are there."""
        return max((n - self.tokens) / self.rate, Fraction(0))
