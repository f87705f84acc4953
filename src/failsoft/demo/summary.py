"""What happened, as numbers, and whether it is what the library promises."""

from __future__ import annotations

from typing import NamedTuple


class Trip(NamedTuple):
    """One breaker that a fault had to open. Seconds; None is never."""

    integration: str
    opened_after: float | None
    """From the injection of the fault."""
    recovered_after: float | None
    """From the moment the fault was lifted."""


class Outcome(NamedTuple):
    """One fault that was injected."""

    fault: str
    trips: tuple[Trip, ...]
    bad_frames: int

    @property
    def survived(self) -> bool:
        """Every breaker that had to open did, and closed again."""
        return all(trip.opened_after is not None and trip.recovered_after is not None for trip in self.trips)


class Latency(NamedTuple):
    """Microseconds since the start."""

    p50_us: float
    p95_us: float
    p99_us: float


class Summary(NamedTuple):
    """The whole run."""

    seconds: float
    seed: int
    clock_source: str
    faults_planned: int
    outcomes: tuple[Outcome, ...]
    arrived: int
    handled: int
    flowing_seconds: float
    gaps: int
    missed: int
    unexplained_gaps: int
    bad_frames: int
    quotes: int
    fallbacks: int
    unanswered: int
    unhandled: tuple[str, ...]
    handler: Latency
    quote: Latency
    bare_ns: float
    guard_overhead_ns: float

    @property
    def trips(self) -> list[Trip]:
        return [trip for outcome in self.outcomes for trip in outcome.trips]

    @property
    def dropped(self) -> int:
        """Ticks that arrived and did not reach the handler's end."""
        return self.arrived - self.handled

    @property
    def ticks_per_second(self) -> float:
        return self.handled / self.flowing_seconds if self.flowing_seconds else 0.0

    @property
    def failures(self) -> list[str]:
        """Why the run does not count as passed, in plain words; empty when it does."""
        reasons = []
        for outcome in self.outcomes:
            for trip in outcome.trips:
                if trip.opened_after is None:
                    reasons.append(f"{outcome.fault}: the breaker of {trip.integration} did not open")
                elif trip.recovered_after is None:
                    reasons.append(f"{outcome.fault}: the breaker of {trip.integration} did not close again")
        if len(self.outcomes) < self.faults_planned:
            reasons.append(f"only {len(self.outcomes)} of {self.faults_planned} faults were injected")
        if not self.arrived:
            reasons.append("no tick arrived")
        if self.dropped:
            reasons.append(f"{self.dropped:,} ticks arrived and were not handled")
        if self.unexplained_gaps:
            reasons.append(f"{self.unexplained_gaps} sequence gaps while connected")
        if len(self.outcomes) == self.faults_planned and not self.bad_frames:
            reasons.append("no malformed frame was noticed")
        if self.unhandled:
            reasons.append(f"{len(self.unhandled)} unhandled exceptions, first {self.unhandled[0]}")
        return reasons

    @property
    def passed(self) -> bool:
        return not self.failures

    def to_dict(self) -> dict[str, object]:
        """The object that `--json` prints. Times to open and recover are the slowest of the run."""
        opened = [trip.opened_after for trip in self.trips if trip.opened_after is not None]
        recovered = [trip.recovered_after for trip in self.trips if trip.recovered_after is not None]
        return {
            "passed": self.passed,
            "failures": self.failures,
            "seconds": self.seconds,
            "seed": self.seed,
            "ticks": self.handled,
            "ticks_per_second": round(self.ticks_per_second),
            "dropped": self.dropped,
            "gaps": self.gaps,
            "ticks_missed_in_gaps": self.missed,
            "gaps_while_connected": self.unexplained_gaps,
            "bad_frames": self.bad_frames,
            "unhandled_exceptions": len(self.unhandled),
            "should_open": len(self.trips),
            "opened": len(opened),
            "recovered": len(recovered),
            "time_to_open_s": _rounded(max(opened, default=None)),
            "time_to_recover_s": _rounded(max(recovered, default=None)),
            "quotes": self.quotes,
            "fallbacks": self.fallbacks,
            "quotes_unanswered": self.unanswered,
            "clock_source": self.clock_source,
            "bare_ns": round(self.bare_ns, 1),
            "guard_overhead_ns": round(self.guard_overhead_ns, 1),
            **{name: round(value, 3) for name, value in self.handler._asdict().items()},
            "quote": {name: round(value, 1) for name, value in self.quote._asdict().items()},
            "faults": [
                {
                    "fault": outcome.fault,
                    "breakers": {
                        trip.integration: {
                            "opened_after_s": _rounded(trip.opened_after),
                            "recovered_after_s": _rounded(trip.recovered_after),
                        }
                        for trip in outcome.trips
                    },
                    "bad_frames": outcome.bad_frames,
                }
                for outcome in self.outcomes
            ],
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
