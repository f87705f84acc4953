"""Deadlines of coroutines: what arming one costs where it suspends, beside `asyncio.timeout`, and how late it fires.

Every subject awaits a real future that the loop sets in its next turn, so the suspension itself is the same in all of
them. "Without deadlines" is the same guard with its limits taken off.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from armed import armed, armed_integration
from bench_memory import resident
from groups import Contest, Effort, Findings, Row, Study, Target
from measure import Subject, UnavailableError, interleave
from run_one import benchmarked

from failsoft._core import arm_deadline, retime_guard

ARMED = 1_000_000
LATE = 1_000
SOONEST, LATEST = 0.05, 0.6  # seconds
LONG = 3_600.0


async def until_set(future: asyncio.Future[int]) -> int:
    return await future


def awaiting(guard: Callable[[], Any]) -> Callable[[], Mapping[str, object]]:
    def names() -> Mapping[str, object]:
        return {"f": guard(), "Future": asyncio.Future, "loop": asyncio.get_running_loop, "timeout": asyncio.timeout}

    return names


def without_deadlines() -> Any:
    guard = armed(until_set)
    retime_guard(guard, None, None, None, None)
    return guard


FUTURE = "future = Future()\nloop().call_soon(future.set_result, 1)\n"
BARE = Subject("a future, bare", FUTURE + "await f(future)", awaiting(lambda: until_set), in_loop=True)
WITHOUT = Subject("a future, without deadlines", FUTURE + "await f(future)", awaiting(without_deadlines), in_loop=True)
GUARDED = Subject("a future, guarded", FUTURE + "await f(future)", awaiting(lambda: armed(until_set)), in_loop=True)
TIMEOUT = Subject(
    "a future, asyncio.timeout",
    FUTURE + "async with timeout(5):\n    await f(future)",
    awaiting(lambda: until_set),
    in_loop=True,
)
SUBJECTS = (BARE, WITHOUT, GUARDED, TIMEOUT)


def price(effort: Effort) -> Findings:
    """By minima: the small difference of two large numbers drowns in the noise of medians."""
    findings = Findings()
    with asyncio.Runner() as runner:
        samples = interleave([subject.prepare(runner) for subject in SUBJECTS], effort.rounds * 4)
    least = {name: min(times) for name, times in samples.items()}
    ours, theirs = least[GUARDED.name] - least[WITHOUT.name], least[TIMEOUT.name] - least[BARE.name]
    findings.values["arming and disarming"] = ours
    findings.values["asyncio.timeout"] = theirs
    findings.values["arming and disarming / asyncio.timeout"] = ours / theirs
    return findings


async def bytes_each() -> float:
    """Resident memory of one armed deadline, the object that Python code holds included."""
    kept: list[object] = [None] * ARMED
    before = resident()
    for place in range(ARMED):
        kept[place] = arm_deadline(LONG + place % 4096 / 16)
    each = (resident() - before) / ARMED
    kept.clear()
    gc.collect()
    return each


async def lateness() -> tuple[list[float], list[float]]:
    """By how many seconds guarded calls are cancelled late, and timers of the loop go off late, at the same moments."""
    crowd = [arm_deadline(LONG) for _ in range(ARMED // 10)]
    loop, ours, theirs = asyncio.get_running_loop(), [], []
    integration = armed_integration()

    async def hang(due: float) -> None:
        try:
            await asyncio.Future()
        finally:
            ours.append(time.monotonic() - due)

    async def one(seconds: float, number: int) -> None:
        guard = integration.guard(hang, operation=f"{number % 64}", retry=False)
        retime_guard(guard, seconds, None, None, None)
        due = time.monotonic() + seconds
        loop.call_at(due, lambda: theirs.append(time.monotonic() - due))
        with contextlib.suppress(TimeoutError):
            await guard(due)

    integration.metrics_only()  # or the breaker would open
    chance = random.Random(1)
    await asyncio.gather(*(one(chance.uniform(SOONEST, LATEST), number) for number in range(LATE)))
    crowd.clear()
    return ours, theirs


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[-1]


def queue(effort: Effort) -> Findings:
    findings = Findings()
    try:
        findings.values["an armed deadline"] = asyncio.run(bytes_each())
    except UnavailableError as reason:
        findings.skipped["an armed deadline"] = str(reason)
    ours, theirs = asyncio.run(lateness())
    findings.values["earliest"] = min(ours) * 1e6
    findings.values["lateness, p99"] = p99(ours) * 1e6
    findings.values["lateness of the loop's own timers, p99"] = p99(theirs) * 1e6
    return findings


GROUPS = (
    Contest(
        "deadlines",
        SUBJECTS,
        (
            Row(GUARDED.name, WITHOUT.name, Target(cap=1.05)),
            Row(GUARDED.name, BARE.name),
            Row(GUARDED.name, TIMEOUT.name),
        ),
    ),
    Study(
        "price of a deadline",
        (
            Row("arming and disarming", "asyncio.timeout", Target(cap=1 / 25, goal=1 / 40)),
            Row("arming and disarming", target=Target(cap=80.0), unit="ns"),
            Row("asyncio.timeout", unit="ns"),
        ),
        price,
    ),
    Study(
        "deadline queue",
        (
            Row("an armed deadline", unit="B"),
            Row("earliest", unit="us"),
            Row("lateness, p99", unit="us"),
            Row("lateness of the loop's own timers, p99", unit="us"),
        ),
        queue,
    ),
)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_deadline(benchmark: Any, subject: Subject) -> None:
    benchmarked(benchmark, subject)
