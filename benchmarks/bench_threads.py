"""Two threads on one shared guard: does it scale as far as the function it wraps, and count every call?

The speed-up is the work two threads finish per time, over that of one. With a GIL it is about one for all
and says nothing of the guard; only a free-threaded build makes it a target.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from armed import armed, identity
from groups import Effort, Findings, Row, Study, Target
from measure import Loop, Subject, collector_off
from run_one import ROUNDS

THREADS = 2
ROUND_NS = 20_000_000  # long enough for both threads to be running, not waking
ROUNDS_A_LONG_ONE = 4  # of the usual short rounds


def gil_enabled() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


def together(loop: Loop) -> float:
    """Nanoseconds per call, all threads' calls counted, from the first start to the last end."""
    spans: list[tuple[int, int]] = []
    gate = threading.Barrier(THREADS)

    def work() -> None:
        gate.wait()
        spans.append(loop.span(loop.count))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    with collector_off():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    wall = max(end for _, end in spans) - min(start for start, _ in spans)
    return wall / (loop.count * THREADS)


def shared(name: str, function: Callable[..., Any], runner: asyncio.Runner) -> Loop:
    loop = Subject(name, "f(x)", lambda: {"f": function, "x": 1}).prepare(runner)
    loop.calibrate(ROUND_NS)
    return loop


def find(effort: Effort) -> Findings:
    guard = armed(identity)
    rounds = max(5, effort.rounds // ROUNDS_A_LONG_ONE)
    with asyncio.Runner() as runner:
        loops = [shared("guard", guard, runner), shared("bare call", identity, runner)]
        loops[0].count = loops[1].count
        before = guard.metrics().count
        speed_ups: dict[str, list[float]] = {loop.subject.name: [] for loop in loops}
        for _ in range(rounds):
            for loop in loops:
                alone = loop.round()
                speed_ups[loop.subject.name].append(alone / together(loop))
    called = loops[0].count * (1 + THREADS) * rounds
    ratios = [ours / bare for ours, bare in zip(speed_ups["guard"], speed_ups["bare call"], strict=True)]
    return Findings(
        {
            "guard's speed-up / bare call's speed-up": statistics.median(ratios),
            "guard's speed-up": statistics.median(speed_ups["guard"]),
            "bare call's speed-up": statistics.median(speed_ups["bare call"]),
            "calls not counted": abs(called - (guard.metrics().count - before)),
        }
    )


GROUPS = (
    Study(
        "two threads",
        (
            Row(
                "guard's speed-up",
                "bare call's speed-up",
                None if gil_enabled() else Target(cap=0.9, at_least=True),
            ),
            Row("guard's speed-up", unit="x one thread"),
            Row("bare call's speed-up", unit="x one thread"),
            Row("calls not counted", target=Target(cap=0.0), unit="calls"),
        ),
        find,
    ),
)


@pytest.mark.parametrize("name", ["bare call", "guard"])
def test_threads(benchmark: Any, name: str) -> None:
    with asyncio.Runner() as runner:
        loop = shared(name, armed(identity) if name == "guard" else identity, runner)
        benchmark.extra_info["threads"] = THREADS
        benchmark.pedantic(together, args=(loop,), rounds=ROUNDS)
