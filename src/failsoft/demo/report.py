"""The words of the demo: what is going to happen, and what did."""

from __future__ import annotations

from collections.abc import Iterator

from failsoft.demo.plan import Plan
from failsoft.demo.settings import FEED, QUOTES, Settings, differences
from failsoft.demo.summary import Latency, Summary, Trip


def announcement(plan: Plan, settings: Settings, seed: int) -> Iterator[str]:
    """The fault schedule, and every setting that is not the preset's."""
    yield (
        f"failsoft demo: a live market feed and its quotes, {len(plan.slots)} real faults, "
        f"{plan.seconds:g} seconds (seed {seed})"
    )
    yield ""
    yield "The faults, one after another:"
    for slot in plan.slots:
        opens = f"must open {' and '.join(slot.fault.opens)}" if slot.fault.opens else "must open nothing"
        yield f"  {slot.start:5.1f} s  {slot.fault.title:<20} for {slot.hold:.1f} s, {opens}"
        yield f"{'':>11}{slot.fault.explanation}"
    yield ""
    yield "Settings that differ from the presets, durations in seconds (a demo cannot wait for minutes):"
    for name, config in ((FEED, settings.feed), (QUOTES, settings.quotes)):
        for setting, preset, chosen in differences(config):
            yield f"  {name:<6} {config.type.name:<12} {setting:<34} {_setting(preset)} -> {_setting(chosen)}"
    yield ""


def conclusion(summary: Summary) -> Iterator[str]:
    """The end of the story, for somebody who never heard of circuit breakers."""
    yield ""
    yield "Each fault, and the breakers (the switches that stop calling a broken server) it had to open:"
    for outcome in summary.outcomes:
        if not outcome.trips:
            yield f"  {outcome.fault:<20} {outcome.bad_frames:,} bad frames counted and skipped, no tick lost"
        for trip in outcome.trips:
            yield f"  {outcome.fault:<20} {trip.integration:<6} {_story(trip)}"
    yield ""
    yield (
        f"  ticks       {summary.arrived:,} arrived, {summary.handled:,} handled "
        f"({summary.ticks_per_second:,.0f} a second while they flowed)"
    )
    yield (
        f"  gaps        {summary.gaps} while the server was away ({summary.missed:,} ticks went unheard), "
        f"{summary.unexplained_gaps} while connected"
    )
    yield (
        f"  quotes      {summary.quotes:,} asked, {summary.fallbacks:,} answered with the last known price, "
        f"{summary.unanswered} unanswered"
    )
    yield f"  exceptions  {len(summary.unhandled)} unhandled"
    for exception in summary.unhandled[:3]:
        yield f"              {exception}"
    yield (
        f"  the guard   adds {summary.guard_overhead_ns:.0f} ns to a handler of {summary.bare_ns:.0f} ns "
        f"({summary.clock_source} clock)"
    )
    yield f"  a tick      {_quantiles(summary.handler)}"
    yield f"  a quote     {_quantiles(summary.quote)} (timeouts included)"
    yield ""


def verdict(summary: Summary) -> str:
    """One line: passed, or why not."""
    if summary.passed:
        return "PASSED: every breaker that had to open did and recovered; nothing that arrived was dropped."
    return "FAILED: " + "; ".join(summary.failures) + "."


def span(seconds: float) -> str:
    """A duration in the unit that fits it."""
    for unit, scale in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 1000 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"


def _quantiles(latency: Latency) -> str:
    p50, p95, p99 = (span(microseconds / 1e6) for microseconds in latency)
    return f"takes {p50} in the middle (p50), p95 {p95}, p99 {p99}"


def _story(trip: Trip) -> str:
    if trip.opened_after is None:
        return "did NOT open"
    story = f"opened after {trip.opened_after:.2f} s"
    if trip.recovered_after is None:
        return f"{story}, did NOT close again"
    return f"{story}, closed again {trip.recovered_after:.2f} s after the fault was lifted"


def _setting(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
