"""Fallbacks of a guard at work: how long they may take, how old their answers are, and what is remembered for them."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from failsoft import Aged, Fallback, FallbackType, IntegrationError, with_integration_resilience
from failsoft.fallbacks import Memory
from failsoft.testing import FakeClock

from .conftest import Make, drive


def gone(*_: object) -> Any:
    raise ConnectionError("gone")


async def agone(*_: object) -> Any:
    await asyncio.sleep(0)
    raise ConnectionError("gone")


# ---- in time


def test_a_slow_fallback_yields_to_the_next(make: Make) -> None:
    go_on, done = threading.Event(), threading.Event()

    def slow(*_: object) -> int:
        go_on.wait(10.0)
        done.set()
        return 1

    guard = make().guard(gone, fallbacks=[Fallback("cache", slow, timeout=0.02), Fallback("mock", lambda *_: 2)])
    result = guard.outcome("x")
    assert (result.data, result.fallback_type) == (2, FallbackType.MOCK)
    assert result.error.details["fallback_errors"] == (
        "cache: TimeoutError('the cache fallback gave no answer within 0.02 s')",
    )
    assert not done.is_set()
    go_on.set()
    assert done.wait(10.0)  # it is left behind, and ends by itself


def test_a_fallback_in_time_answers(make: Make) -> None:
    threads = []

    def quick(*_: object) -> int:
        threads.append(threading.current_thread())
        return 1

    guard = make().guard(gone, fallbacks=[Fallback("cache", quick, timeout=5.0)])
    assert guard("x") == 1
    assert threads[0] is not threading.current_thread()
    assert threads[0].daemon


def test_a_fallback_without_a_timeout_may_run_to_its_end(make: Make) -> None:
    here = threading.current_thread()
    guard = make().guard(gone, fallbacks=[Fallback("cache", lambda *_: threading.current_thread())])
    assert guard("x") is here


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3)])
def test_what_a_bounded_fallback_raises_is_its_answer(make: Make, error: BaseException) -> None:
    def raises(*_: object) -> None:
        raise error

    guard = make().guard(gone, fallbacks=[Fallback("cache", raises, timeout=5.0), Fallback("mock", lambda *_: 2)])
    assert guard("x") == 2


@pytest.mark.parametrize("bound", ["its own", "the integration's read timeout"])
def test_a_slow_async_fallback_is_cancelled(make: Make, bound: str) -> None:
    cancelled = []

    async def slow(*_: object) -> int:
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return 1

    async def main() -> None:
        own = bound == "its own"
        dependency = make(timeouts={} if own else {"read": 0.02})
        slow_one = Fallback("cache", slow, timeout=0.02 if own else None)
        guard = dependency.guard(agone, fallbacks=[slow_one, Fallback("mock", lambda *_: 2)])
        began = time.monotonic()
        assert await guard("x") == 2
        assert time.monotonic() - began < 5.0
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    asyncio.run(main())
    assert cancelled == [True]


def test_a_cancellation_during_a_fallback_is_the_callers(make: Make) -> None:
    async def slow(*_: object) -> int:
        await asyncio.sleep(10.0)
        return 1

    async def main() -> None:
        guard = make().guard(agone, fallbacks=[Fallback("cache", slow), Fallback("mock", lambda *_: 2)])
        task = asyncio.ensure_future(guard("x"))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


# ---- how old


@pytest.mark.parametrize("way", ["sync", "async handler", "async"])
def test_an_answer_may_say_how_old_it_is(make: Make, clock: FakeClock, way: str) -> None:
    async def aged(*_: object) -> Aged:
        await asyncio.sleep(0)
        return Aged({"price": 1}, 12.5)

    handler = (lambda *_: Aged({"price": 1}, 12.5)) if way == "sync" else aged
    guard = make().guard(gone if way == "sync" else agone, fallbacks=[Fallback("cache", handler)])

    async def main() -> Any:
        return await guard.outcome("x")

    result = guard.outcome("x") if way == "sync" else drive(main())
    assert (result.data, result.data_age, result.fallback_type) == ({"price": 1}, 12.5, FallbackType.CACHE)
    assert result.success


def test_an_answer_of_unknown_age(make: Make, clock: FakeClock) -> None:
    result = make().guard(gone, fallbacks=[Fallback("mock", lambda *_: 1)]).outcome()
    assert (result.success, result.data, result.data_age) == (True, 1, None)
    assert isinstance(result.error, IntegrationError)
    assert isinstance(result.error.original_error, ConnectionError)


def test_an_error_response_is_no_success(make: Make, clock: FakeClock) -> None:
    guard = make().guard(gone, fallbacks=[Fallback("error_response", lambda *_: {"message": "later"})])
    result = guard.outcome()
    assert (result.success, result.data, result.fallback_type) == (False, {"message": "later"}, "error_response")
    assert guard() == {"message": "later"}


# ---- what is remembered


def remembering(**memory: Any) -> Fallback:
    return Fallback("last_known", gone, memory=Memory(**memory))


@pytest.mark.parametrize("is_async", [False, True])
def test_the_last_value_of_each_key(make: Make, clock: FakeClock, is_async: bool) -> None:
    up = {"a": 1, "b": 2}

    def price(symbol: str, depth: int = 0) -> Any:
        return up[symbol] if symbol in up else gone()

    async def aprice(symbol: str, depth: int = 0) -> Any:
        await asyncio.sleep(0)
        return price(symbol)

    guard = make().guard(aprice if is_async else price, fallbacks=[remembering(key=lambda symbol, depth=0: symbol)])

    def ask(symbol: str, depth: int = 0) -> Any:
        async def main() -> Any:
            return await guard.outcome(symbol, depth)

        return drive(main()) if is_async else guard.outcome(symbol, depth)

    assert (ask("a").data, ask("b", 5).data) == (1, 2)
    clock.advance(30.0)
    up["a"] = 3
    ask("a")
    up.clear()
    clock.advance(7.0)
    a, b = ask("a", 1), ask("b", 2)
    assert (a.data, b.data) == (3, 2)
    assert (a.data_age, b.data_age) == (pytest.approx(7.0), pytest.approx(37.0))
    assert a.fallback_type is FallbackType.LAST_KNOWN
    assert ask("c").fallback_type is None


def test_what_is_too_old_is_not_served(make: Make, clock: FakeClock) -> None:
    up = [True]
    guard = make().guard(
        lambda: 1 if up else gone(), fallbacks=[remembering(max_age=10.0), Fallback("mock", lambda: 2)]
    )
    guard()
    up.clear()
    clock.advance(10.0)
    assert guard() == 1
    clock.advance(0.001)
    assert guard() == 2
    assert guard.outcome().error.details["fallback_errors"] == ("last_known: ConnectionError('gone')",)


def test_memory_is_bounded(make: Make, clock: FakeClock) -> None:
    up = [True]
    guard = make().guard(lambda i: i if up else gone(), fallbacks=[remembering(max_keys=3)])
    for i in range(10):
        guard(i)
    up.clear()
    served = [guard.outcome(i).success for i in range(10)]
    assert served == [False] * 7 + [True] * 3


def test_failures_and_fallbacks_are_not_remembered(make: Make, clock: FakeClock) -> None:
    values = iter([1, ConnectionError("gone"), 2, ConnectionError("gone")])

    def next_one() -> int:
        value = next(values)
        if isinstance(value, Exception):
            raise value
        return value

    guard = make().guard(next_one, fallbacks=[remembering()])
    assert [guard() for _ in range(4)] == [1, 1, 2, 2]


def test_a_success_after_a_retry_is_remembered(make: Make, clock: FakeClock) -> None:
    dependency = make(retries=1)
    answers = iter([None, 5, None, None])

    def flaky() -> int:
        return next(answers) or gone()

    guard = dependency.guard(flaky, fallbacks=[remembering()])
    assert [guard(), guard()] == [5, 5]


# ---- the seed's face


def test_fallbacks_of_one_call(make: Make, registry: Any, clock: FakeClock) -> None:
    make("db")

    def ask(*fallbacks: Fallback) -> Any:
        return with_integration_resilience("database", "db", gone, fallbacks=fallbacks, registry=registry)

    assert ask(Fallback("mock", list), Fallback("cache", lambda: Aged([1], 2.0))).data == [1]
    result = ask(Fallback("mock", gone), Fallback("cache", gone))
    assert (result.success, result.fallback_used) == (False, False)
    assert [text.split(":")[0] for text in result.error.details["fallback_errors"]] == ["cache", "mock"]
    assert registry["db"].metrics("gone").fallbacks == 1


def test_a_slow_sync_fallback_does_not_hold_up_the_loop(make: Make) -> None:
    let_go = threading.Event()

    async def gone_async() -> None:
        raise ConnectionError("gone")

    def slow() -> str:
        let_go.wait(10.0)
        return "late"

    fallbacks = [Fallback("cache", slow, timeout=0.02), Fallback("mock", lambda: "mocked")]
    call = make().guard(gone_async, operation="x", fallbacks=fallbacks)

    async def main() -> tuple[object, int]:
        turns = 0
        asked = asyncio.ensure_future(call())
        while not asked.done():
            turns += 1
            await asyncio.sleep(0.001)
        return await asked, turns

    try:
        answer, turns = asyncio.run(main())
    finally:
        let_go.set()
    assert answer == "mocked"
    assert turns > 3


def test_a_sync_fallback_in_time_answers_an_async_call(make: Make) -> None:
    async def gone_async(x: int) -> None:
        raise ConnectionError("gone")

    call = make().guard(gone_async, operation="x", fallbacks=[Fallback("cache", lambda x: x + 1, timeout=5.0)])
    assert asyncio.run(call(1)) == 2
