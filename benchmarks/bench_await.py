"""The await: a guarded coroutine function against an empty `async def` around it, ready or suspending."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import Any

import pytest
from armed import armed, identity_async
from groups import Contest, Row, Target, by_version
from measure import Subject
from run_one import benchmarked

SUSPENSIONS = 1_000


class Suspend:
    """An awaitable that only yields, so many times: the cheapest suspension there is."""

    def __init__(self, times: int) -> None:
        self._times = times

    def __await__(self) -> Generator[None, None, None]:
        for _ in range(self._times):
            yield


async def suspend(times: int) -> None:
    await Suspend(times)


def awaiting(function: Callable[..., Any], argument: int = 1) -> Callable[[], Mapping[str, object]]:
    return lambda: {"f": function(), "x": argument}


def draining(function: Callable[..., Any]) -> Callable[[], Mapping[str, object]]:
    """Drive the awaitable from C and drop what it yields, so that only the suspension itself is timed."""
    return lambda: {"f": function(), "x": SUSPENSIONS, "drain": functools.partial(deque, maxlen=0)}


async def forward(value: object) -> object:
    """The least that a wrapper written in Python can do; it does not even take any other arguments."""
    return await identity_async(value)


def timing_out(function: Callable[..., Any]) -> Callable[[], Mapping[str, object]]:
    return lambda: {"f": function, "x": 1, "timeout": asyncio.timeout}


AWAIT = "await f(x)"
TIMEOUT = "async with timeout(5):\n    await f(x)"
DRAIN = "drain(f(x).__await__())"

READY = (
    Subject("bare await", AWAIT, awaiting(lambda: identity_async), in_loop=True),
    Subject("forwarding async def", AWAIT, awaiting(lambda: forward), in_loop=True),
    Subject("guarded await", AWAIT, awaiting(lambda: armed(identity_async)), in_loop=True),
    Subject(
        "guarded await of .outcome",
        "await f.outcome(x)",
        awaiting(lambda: armed(identity_async)),
        in_loop=True,
    ),
    Subject("asyncio.timeout", TIMEOUT, timing_out(identity_async), in_loop=True),
)

ONCE = (
    Subject("suspending once, bare", AWAIT, awaiting(lambda: suspend), in_loop=True),
    Subject("suspending once, guarded", AWAIT, awaiting(lambda: armed(suspend)), in_loop=True),
    Subject("suspending once, asyncio.timeout", TIMEOUT, timing_out(suspend), in_loop=True),
)

FURTHER = (
    Subject("1,000 suspensions, bare", DRAIN, draining(lambda: suspend), SUSPENSIONS, in_loop=True),
    Subject("1,000 suspensions, guarded", DRAIN, draining(lambda: armed(suspend)), SUSPENSIONS, in_loop=True),
    Subject(
        "1,000 turns of the event loop, bare",
        AWAIT,
        awaiting(lambda: suspend, SUSPENSIONS),
        SUSPENSIONS,
        in_loop=True,
    ),
    Subject(
        "1,000 turns of the event loop, guarded",
        AWAIT,
        awaiting(lambda: armed(suspend), SUSPENSIONS),
        SUSPENSIONS,
        in_loop=True,
    ),
)

GROUPS = (
    Contest(
        "await",
        READY,
        (
            Row(
                "guarded await",
                "forwarding async def",
                Target(cap=by_version(0.90, 1.08), goal=by_version(0.80, 1.00)),
            ),
            Row("guarded await", "bare await"),
            Row("guarded await", "asyncio.timeout"),
            Row("guarded await of .outcome", "forwarding async def"),
        ),
    ),
    Contest(
        "suspension",
        ONCE,
        (
            Row("suspending once, guarded", "suspending once, bare"),
            Row("suspending once, guarded", "suspending once, asyncio.timeout"),
        ),
    ),
    Contest(
        "further suspensions",
        FURTHER,
        (
            Row("1,000 suspensions, guarded", "1,000 suspensions, bare", Target(cap=1.05)),
            Row(
                "1,000 turns of the event loop, guarded",
                "1,000 turns of the event loop, bare",
                Target(cap=1.05),
            ),
        ),
    ),
)


@pytest.mark.parametrize("subject", [*READY, *ONCE, *FURTHER], ids=lambda subject: subject.name)
def test_await(benchmark: Any, subject: Subject) -> None:
    benchmarked(benchmark, subject)
