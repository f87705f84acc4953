"""Cancelling at every step of a guarded call: it is cancelled, nothing is left of it, and nobody else notices.

The task is stepped by its loop, turn by turn, and asked to cancel itself at the n-th turn, for every n until it is done: before
its first step, while the dependency is waited for, while that cleans up, between attempts, in a fallback, in a shared call, and
at the very turn in which its own deadline falls due.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from failsoft import IntegrationResult
from failsoft.testing import FakeClock

from ..conftest import Score
from .matrix import ASYNC, LEASE, OUTCOMES, Case, some, told

TURNS = 60
"""More than any of the calls takes."""


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def made(case: Case) -> Any:
    answer = case.call()
    return answer if isinstance(answer, IntegrationResult) and not case.is_async else await answer


async def cancelled_at(
    case: Case, turn: int, more: Callable[[int], None] = lambda turn: None
) -> tuple[bool, list[str]]:
    """Cancel at a turn. Whether the call was still under way, and what is wrong with how it ended."""
    wrong: list[str] = []
    task = asyncio.ensure_future(made(case))
    for now in range(turn):
        await asyncio.sleep(0)
        more(now)
    asked = task.cancel()
    for _ in range(TURNS):
        if task.done():
            break
        await asyncio.sleep(0)
    if not task.done():
        wrong.append("stuck")
        return asked, wrong
    if asked and not task.cancelled():
        wrong.append(f"swallowed, and ended with {told(task.exception() or task.result())}")
    if asked and task.cancelling() != 1:
        wrong.append(f"cancelling() is {task.cancelling()}")
    await settle()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        wrong.append(f"left {others}")
    return asked, wrong


async def finish(answer: Any) -> Any:
    return await answer


def sweep(case: Case, more: Callable[[int], None] = lambda turn: None) -> tuple[int, list[str]]:
    """Cancel at every turn."""
    wrong: list[str] = []
    with asyncio.Runner() as runner:

        def drive(awaitable: Any) -> Any:
            return runner.run(finish(awaitable))

        case.warm_up(drive)
        for turn in range(TURNS):
            case.arm()
            asked, bad = runner.run(cancelled_at(case, turn, more))
            wrong += [f"{case.kind}, {case.outcome}, turn {turn}: {each}" for each in bad]
            try:
                case.check()
                case.recovers(drive)
            except AssertionError as error:
                wrong.append(f"{case.kind}, {case.outcome}, turn {turn}: {error}")
            if not asked:
                break
    case.close()
    return turn, wrong


@pytest.mark.parametrize("outcome", ["retry", "good probe", "refusal", "late"])
@pytest.mark.parametrize("kind", ["guard", "falling back", "deduplicated", "block"])
def test_a_cancellation_at_any_turn(kind: str, outcome: str, clock: FakeClock) -> None:
    turns, wrong = sweep(Case(kind, outcome, clock, is_async=True))
    assert wrong == []
    assert turns >= 1


@pytest.mark.parametrize("delay", [0, 1, 2])
@pytest.mark.parametrize("kind", some(ASYNC, "guard", "deduplicated", "block"))
def test_a_cancellation_and_the_deadline_at_once(kind: str, delay: int, clock: FakeClock) -> None:
    """Whichever comes first, by up to two turns: who cancels from outside has the last word."""
    case = Case(kind, "success", clock, is_async=True)

    def fall_due(turn: int) -> None:
        if turn == delay:
            clock.advance(LEASE)

    _, wrong = sweep(case, fall_due)
    assert wrong == []


@pytest.mark.deep
def test_a_cancellation_at_any_turn_of_every_kind(clock: FakeClock, score: Score) -> None:
    cancelled, wrong = 0, []
    for kind in ASYNC:
        for outcome in OUTCOMES:
            turns, bad = sweep(Case(kind, outcome, clock, is_async=True))
            cancelled, wrong = cancelled + turns, wrong + bad
    over = f"{cancelled} cancellations in {len(ASYNC)} kinds of guards"
    score("cancelling a probe frees its permit", "stuck breakers", len(wrong), over)
    score("outer cancellations are never swallowed", "swallowed", sum("swallowed" in each for each in wrong), over)
    assert wrong == []


# ---- as in a group, under a timeout, and twice


@pytest.mark.parametrize("kind", some(ASYNC, "falling back", "deduplicated"))
def test_twice(kind: str, clock: FakeClock) -> None:
    """The second strikes while the first is being cleaned up after."""
    for turn in range(12):
        for later in range(4):
            case = Case(kind, "retry", clock, is_async=True)

            async def main(case: Case = case, turn: int = turn, later: int = later) -> None:
                case.arm()
                task = asyncio.ensure_future(made(case))
                for _ in range(turn):
                    await asyncio.sleep(0)
                asked = task.cancel()
                for _ in range(later):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task], timeout=5.0)
                assert task.done()
                assert not asked or task.cancelled()
                await settle()

            asyncio.run(main())
            case.check()
            case.close()


@pytest.mark.parametrize("kind", some(ASYNC, "falling back", "deduplicated"))
def test_in_a_group_whose_sibling_fails(kind: str, clock: FakeClock) -> None:
    case = Case(kind, "good probe", clock, is_async=True)

    async def fail(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise LookupError("the sibling")

    async def main(turns: int) -> None:
        case.arm()
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(made(case))
                group.create_task(fail(turns))
        assert [type(each) for each in caught.value.exceptions] == [LookupError]
        await settle()

    for turns in range(8):
        asyncio.run(main(turns))
        case.check()
    case.close()


@pytest.mark.parametrize("kind", some(ASYNC, "falling back", "deduplicated"))
def test_closed_thrown_into_and_dropped_at_every_yield(kind: str, clock: FakeClock) -> None:
    """By hand, without a loop: what ends a coroutine from outside ends its hold on the breaker."""
    ends: dict[str, Callable[[Any], object]] = {
        "close": lambda coroutine: coroutine.close(),
        "throw": lambda coroutine: coroutine.throw(GeneratorExit()),
        "drop": lambda coroutine: None,
        "throw an error": lambda coroutine: coroutine.throw(ZeroDivisionError()),
    }
    for outcome in ("success", "retry", "good probe", "bad probe"):
        case = Case(kind, outcome, clock, is_async=True)
        case.warm_up(asyncio.run if kind != "all at once" else lambda coroutine: asyncio.run(finish(coroutine)))
        for end in ends.values():
            for yields in range(20):
                case.arm()
                coroutine = case.call()
                if not hasattr(coroutine, "send"):
                    break
                over = False
                try:
                    for _ in range(yields):
                        coroutine.send(None)
                except BaseException:
                    over = True
                if not over and yields:
                    try:
                        while True:  # who cleans up may yield
                            end(coroutine)
                            break
                    except BaseException:
                        pass
                if not yields:
                    coroutine.close()
                for _ in range(5):
                    try:
                        coroutine.close()
                    except RuntimeError:  # the dependency awaits while it cleans up
                        continue
                    break
                del coroutine
                gc.collect(0)
                case.check()
                if over:
                    break
        case.close()
