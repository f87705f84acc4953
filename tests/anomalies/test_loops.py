"""Loops that come and go under armed deadlines: in threads, closed with deadlines pending, at one address, in a child."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from failsoft import Integration, IntegrationTimeoutError, Registry
from failsoft.testing import FakeClock

from ..conftest import Score


@pytest.fixture
def integration() -> Iterator[Integration]:
    registry = Registry()
    yield registry.integration(
        "looped", "database", circuit_breaker={"timeout": 0.02, "failure_threshold": 60_000},
        retry_policy={"max_retries": 0},
    )  # fmt: skip
    registry.close()


def hanging(integration: Integration) -> Any:
    @integration.guard
    async def hang(seconds: float = 3600.0) -> str:
        await asyncio.sleep(seconds)
        return "value"

    return hang


async def left_pending(hang: Any, count: int) -> None:
    for _ in range(count):
        task = asyncio.ensure_future(hang())
        task._log_destroy_pending = False
    await asyncio.sleep(0)


def test_a_loop_closed_with_deadlines_pending_and_a_new_one_at_its_address(integration: Integration) -> None:
    """Each new loop's deadlines are its own, and fire; those of the loop before strike nobody."""
    hang = hanging(integration)
    addresses = set()
    for turn in range(20):
        loop = asyncio.new_event_loop()
        addresses.add(id(loop))
        loop.run_until_complete(left_pending(hang, 1 + turn % 3))
        loop.close()
        del loop
        if turn % 2:
            gc.collect()
    assert len(addresses) < 20  # some did share an address

    async def main() -> float:
        begun = time.monotonic()
        with pytest.raises(IntegrationTimeoutError):
            await hang()
        assert await hang(0.0) == "value"
        return time.monotonic() - begun

    assert 0.019 <= asyncio.run(main()) < 5.0


@pytest.mark.parametrize("when", ["aimed nearer", "aimed anew"])
def test_a_timer_that_cannot_be_set_takes_no_other_deadline_along(
    integration: Integration, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No memory for an earlier timer: that deadline is late, and those that waited already are met in time."""
    far, near = (
        hanging(
            integration._registry.integration(
                name, "database", circuit_breaker={"timeout": seconds}, retry_policy={"max_retries": 0}
            )
        )
        for name, seconds in (("far", 5.0), ("near", 1.0))
    )
    real = FakeClock.alarm
    fails = 0

    def alarm(self: FakeClock, *given: Any) -> Any:
        nonlocal fails
        if fails:
            fails -= 1
            raise MemoryError
        return real(self, *given)

    async def main() -> None:
        nonlocal fails
        with FakeClock() as clock:
            task = asyncio.ensure_future(far())
            if when == "aimed anew":
                other = asyncio.ensure_future(near())
                await asyncio.sleep(0)
                fails = 1
                with contextlib.suppress(MemoryError):
                    clock.advance(1.0)
                assert await near(0.0) == "value"  # sees to the others, too
                clock.advance(1.0)
                with pytest.raises(IntegrationTimeoutError):
                    await asyncio.wait_for(other, 5.0)
            else:
                await asyncio.sleep(0)
                fails = 1
                other = asyncio.ensure_future(near())
                await asyncio.sleep(0)
                assert told == [MemoryError]
            clock.advance(5.0)
            for _ in range(20):
                await asyncio.sleep(0)
            done = task.done()
            task.cancel()
            assert done
            assert isinstance(task.exception(), IntegrationTimeoutError)
            assert isinstance(other.exception(), IntegrationTimeoutError)

    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda problem: told.append(problem.exc_type))
    monkeypatch.setattr(FakeClock, "alarm", alarm)
    asyncio.run(main())


def test_nested_and_interleaved_loops_of_one_thread(integration: Integration) -> None:
    hang = hanging(integration)
    one, two = asyncio.new_event_loop(), asyncio.new_event_loop()
    with FakeClock() as clock:
        tasks = []
        for loop in (one, two, one, two):
            task = loop.create_task(hang())
            tasks.append(task)
            loop.run_until_complete(left_pending(lambda: asyncio.sleep(0), 1))
        clock.advance(0.02)
        for loop in (two, one):
            for _ in range(4):
                loop.run_until_complete(asyncio.sleep(0))
        assert [type(task.exception()) for task in tasks] == [IntegrationTimeoutError] * 4
    one.close()
    two.close()


def test_a_clock_that_falls_back_behind_a_deadline(integration: Integration) -> None:
    """A test's clock begun and ended while deadlines are armed: they are neither early nor forgotten."""
    hang = hanging(integration)

    async def main() -> float:
        begun = time.monotonic()
        task = asyncio.ensure_future(hang())
        await asyncio.sleep(0)
        with FakeClock():
            other = asyncio.ensure_future(hang())
            await asyncio.sleep(0)
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
        with pytest.raises(IntegrationTimeoutError):
            await asyncio.wait_for(task, 10.0)
        return time.monotonic() - begun

    assert 0.019 <= asyncio.run(main()) < 5.0


@pytest.mark.parametrize("passed", [False, True])
def test_a_fake_clock_ends_after_a_loop_that_was_closed_with_deadlines_pending(
    integration: Integration, passed: bool
) -> None:
    hang = hanging(integration)
    with FakeClock() as clock:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(left_pending(hang, 2))
        loop.close()
        if passed:
            clock.advance(1.0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_begins_with_loops_of_its_own(integration: Integration) -> None:
    hang = hanging(integration)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(left_pending(hang, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        good = False
        try:

            async def main() -> None:
                with pytest.raises(IntegrationTimeoutError):
                    await asyncio.wait_for(hang(), 5.0)

            asyncio.run(main())
            good = True
        finally:
            os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    loop.close()


def churn(integration: Integration, seconds: float, seed: int, seen: list[tuple[int, int, float]]) -> None:
    """Loops that come and go in one thread, with deadlines that are met, missed, cancelled and left behind."""
    chance = random.Random(seed)
    hang = hanging(integration)
    met = missed = 0
    latest = 0.0
    end = time.monotonic() + seconds

    async def one() -> None:
        nonlocal met, missed, latest
        wait = chance.choice([0.0, 0.001, 0.01, 3600.0])
        begun = time.monotonic()
        try:
            await hang(wait)
            met += 1
        except IntegrationTimeoutError:
            took = time.monotonic() - begun
            assert took >= 0.0199, took
            latest = max(latest, took - 0.02)
            missed += 1

    async def main() -> None:
        tasks = [asyncio.ensure_future(one()) for _ in range(20)]
        await asyncio.sleep(0.005)
        for task in chance.sample(tasks, 5):
            task.cancel()
        if chance.random() < 0.3:
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            return
        await asyncio.gather(*tasks, return_exceptions=True)

    while time.monotonic() < end:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
    seen.append((met, missed, latest))


@pytest.mark.deep
def test_loops_that_come_and_go_in_threads(integration: Integration, score: Score) -> None:
    seen: list[tuple[int, int, float]] = []
    threads = [threading.Thread(target=churn, args=(integration, 10.0, seed, seen)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert len(seen) == 4
    missed = sum(each[1] for each in seen)
    assert missed > 100
    latest = max(each[2] for each in seen)
    score(
        "deadlines are never early", "deadlines that fired early", 0, f"{missed} in loops that come and go, 4 threads"
    )
    score("deadlines are never early", "latest, ms", round(latest * 1000, 1), f"{missed} on a busy machine")
    gc.collect()
    assert sys.getrefcount(integration) < 1000
