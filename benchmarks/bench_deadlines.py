"""Deadlines of coroutines: what arming one costs where it suspends, beside `asyncio.timeout`, and how late it fires.

Every subject awaits a real future that the loop sets in its next turn, so the suspension itself is the same in all of
them. "Without deadlines" is the same guard with its limits taken off.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
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
TICK_US = 1_000.0
"""The longest tick that the queue has (csrc/python/deadlines.h)."""


async def until_set(future: asyncio.Future[int]) -> int:
    return await future


def awaiting(guard: Callable[[], Any]) -> Callable[[], Mapping[str, object]]:
    def names() -> Mapping[str, object]:
        return {"f": guard(), "Future": asyncio.Future, "loop": asyncio.get_running_loop, "timeout": asyncio.timeout}

    return names


def unlimited(function: Callable[..., Any]) -> Any:
    guard = armed(function)
    retime_guard(guard, None, None, None, None)
    return guard


def without_deadlines() -> Any:
    return unlimited(until_set)


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
        samples |= interleave([subject.prepare(runner) for subject in BY_HAND], effort.rounds * 4)
    least = {name: min(times) for name, times in samples.items()}
    ours, theirs = least[GUARDED.name] - least[WITHOUT.name], least[TIMEOUT.name] - least[BARE.name]
    findings.values["arming and disarming"] = ours
    findings.values["asyncio.timeout"] = theirs
    findings.values["arming and disarming / asyncio.timeout"] = ours / theirs
    findings.values["arming and disarming, by hand"] = least[REAL_ARMED.name] - least[REAL_WITHOUT.name]
    findings.values["arming and disarming at a bare yield, by hand"] = least[BARE_ARMED.name] - least[BARE_WITHOUT.name]
    return findings


class Yielding:
    """Is suspended once, by a future of the loop or by nothing, and goes on though nobody has set that."""

    def __init__(self, by_future: bool) -> None:
        self._by_future = by_future
        self._future: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[object, None, None]:
        if self._by_future and self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        yield self._future


async def once(yielding: Yielding) -> None:
    await yielding


def draining(guard: Callable[[], Any], by_future: bool) -> Callable[[], Mapping[str, object]]:
    return lambda: {"f": guard(), "x": Yielding(by_future), "drain": functools.partial(deque, maxlen=0)}


def by_hand(name: str, by_future: bool) -> tuple[Subject, Subject]:
    """A guard with a deadline and one without, driven from C inside a task: no turn of the loop is in the figures."""

    def subject(guard: Callable[[], Any], kind: str) -> Subject:
        return Subject(f"{name}, {kind}", "drain(f(x).__await__())", draining(guard, by_future), in_loop=True)

    return subject(lambda: armed(once), "armed"), subject(lambda: unlimited(once), "without")


REAL_ARMED, REAL_WITHOUT = by_hand("a real future by hand", True)
BARE_ARMED, BARE_WITHOUT = by_hand("a bare yield by hand", False)
BY_HAND = (REAL_ARMED, REAL_WITHOUT, BARE_ARMED, BARE_WITHOUT)


def fill(kept: list[object]) -> None:
    """With armed deadlines, all of them far away, and no two next to each other at the same distance."""
    for place in range(len(kept)):
        kept[place] = arm_deadline(LONG + place % 4096 / 16)


async def bytes_each() -> float:
    """Resident memory of one armed deadline, the object that Python code holds included."""
    kept: list[object] = [None] * ARMED
    before = resident()
    fill(kept)
    each = (resident() - before) / ARMED
    kept.clear()
    gc.collect()
    return each


async def lateness() -> tuple[list[float], list[float]]:
    """By how many seconds guarded calls are cancelled late, and tasks under `asyncio.timeout`, at the same moments.

    Both beside the crowd, which is kept from the collector: it would walk over a million objects, and hold the loop up.
    """
    kept: list[object] = [None] * ARMED
    fill(kept)
    gc.collect()
    gc.freeze()
    integration = armed_integration()
    integration.metrics_only()  # or the breaker would open

    async def hang(due: float, late: list[float], place: int) -> None:
        try:
            await asyncio.Future()
        finally:
            late[place] = time.monotonic() - due

    async def one(seconds: float, place: int) -> None:
        guard = integration.guard(hang, operation=f"{place % 64}", retry=False)
        retime_guard(guard, seconds, None, None, None)
        with contextlib.suppress(TimeoutError):
            await guard(time.monotonic() + seconds, ours, place)

    async def other(seconds: float, place: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await hang(time.monotonic() + seconds, theirs, place)

    ours, theirs, chance = [0.0] * LATE, [0.0] * LATE, random.Random(1)
    waits = []
    for place in range(LATE):
        seconds = chance.uniform(SOONEST, LATEST)
        pair = [one(seconds, place), other(seconds, place)]
        waits += pair if place % 2 else pair[::-1]
    await asyncio.gather(*waits)
    gc.unfreeze()
    kept.clear()
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
    findings.values["lateness of asyncio.timeout, p99"] = p99(theirs) * 1e6
    findings.values["lateness, p99, beyond that of asyncio.timeout"] = (p99(ours) - p99(theirs)) * 1e6
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
            Row("arming and disarming, by hand", target=Target(cap=80.0), unit="ns"),
            Row("arming and disarming at a bare yield, by hand", unit="ns"),
        ),
        price,
    ),
    Study(
        "deadline queue",
        (
            Row("an armed deadline", unit="B"),
            Row("earliest", unit="us"),
            Row("lateness, p99", unit="us"),
            Row("lateness of asyncio.timeout, p99", unit="us"),
            Row("lateness, p99, beyond that of asyncio.timeout", target=Target(cap=TICK_US), unit="us"),
        ),
        queue,
    ),
)


@pytest.mark.parametrize("subject", [*SUBJECTS, *BY_HAND], ids=lambda subject: subject.name)
def test_deadline(benchmark: Any, subject: Subject) -> None:
    benchmarked(benchmark, subject)
