"""Bytes an operation costs, as the kernel sees them: resident memory before and after, divided by many.

Idle is a guard that was never called, Python objects included. Active is one whose latencies spread over
eight octaves in each of six slices of the window, recorded by one writer under a fake clock.
"""

from __future__ import annotations

import functools
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from armed import armed_integration, armed_many, identity
from groups import Effort, Findings, Row, Study, Target
from measure import UnavailableError

from failsoft.testing import FakeClock

IDLE = 8_192
ACTIVE = 1_024
OCTAVES = 8
SLICES = 6
SLICE_SECONDS = 10.0  # a sixth of the default window
SHORTEST = 1e-6
STATM = Path("/proc/self/statm")

kept: list[list[Any]] = []  # memory freed by one figure and used again by the next would be seen by neither


def resident() -> int:
    """Bytes of this process in memory.

    Raises:
        UnavailableError: there is no /proc.
    """
    if not STATM.exists():
        raise UnavailableError("resident memory is read from /proc/self/statm, which is not here")
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bytes_each(make: Callable[[int], list[Any]], count: int, use: Callable[[list[Any]], None]) -> float:
    kept.append(make(64))  # one-time costs: arenas, caches, interned names
    before = resident()
    made = make(count)
    use(made)
    kept.append(made)
    return (resident() - before) / len(made)


def left_idle(guards: list[Any]) -> None:
    """An idle operation is one that nobody called."""


def spread_latencies(clock: FakeClock) -> Callable[[list[Any]], None]:
    def use(guards: list[Any]) -> None:
        for _ in range(SLICES):
            for octave in range(OCTAVES):
                for guard in guards:
                    guard(SHORTEST * 2**octave)
            clock.advance(SLICE_SECONDS)

    return use


def idle_guard() -> float:
    return bytes_each(lambda count: armed_many(identity, count), IDLE, left_idle)


def idle_record() -> float:
    """What an operation is recorded in, without the guard before it."""
    integration = armed_integration()
    return bytes_each(lambda count: [integration.record(f"{count}-{n}") for n in range(count)], IDLE, left_idle)


def idle_partial() -> float:
    return bytes_each(lambda count: [functools.partial(identity) for _ in range(count)], IDLE, left_idle)


def active_guard() -> float:
    with FakeClock() as clock:
        return bytes_each(lambda count: armed_many(clock.advance, count), ACTIVE, spread_latencies(clock))


FIGURES: dict[str, Callable[[], float]] = {
    "idle partial": idle_partial,
    "idle operation, record only": idle_record,
    "idle operation": idle_guard,
    "active operation": active_guard,
}


def find(effort: Effort) -> Findings:
    findings = Findings()
    for name, figure in FIGURES.items():
        try:
            findings.values[name] = figure()
        except UnavailableError as reason:
            findings.skipped[name] = str(reason)
    return findings


GROUPS = (
    Study(
        "memory",
        (
            Row("active operation", target=Target(cap=24 * 1024.0), unit="B"),
            Row("idle operation", target=Target(cap=512.0), unit="B"),
            Row("idle operation, record only", unit="B"),
            Row("idle partial", unit="B"),
        ),
        find,
    ),
)


@pytest.mark.parametrize("figure", FIGURES)
def test_memory(benchmark: Any, figure: str) -> None:
    try:
        resident()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    benchmark.extra_info["bytes_each"] = benchmark.pedantic(FIGURES[figure], rounds=1)
