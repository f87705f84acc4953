"""Deadlines of blocks, and of the calls around a call: who is refused, bounded, cancelled and blamed at them."""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

import failsoft
from failsoft import Fallback, FallbackType, IntegrationTimeoutError, Registry, deadline, remaining, subscribe
from failsoft.events import Refusal
from failsoft.testing import FakeClock

from .conftest import Make, drive


def passing(clock: FakeClock, seconds: float, value: object = "value") -> Callable[..., Any]:
    def fn(*_: object) -> object:
        clock.advance(seconds)
        return value

    return fn


# ---- the block


def test_a_block_counts_down_from_its_entering(clock: FakeClock) -> None:
    d = deadline(0.5)
    clock.advance(1.0)
    assert d.remaining() == 0.5
    with d as entered:
        assert entered is d
        clock.advance(0.2)
        assert d.remaining() == remaining() == pytest.approx(0.3)
        assert not d.expired
        clock.advance(0.3)
        assert d.remaining() == remaining() == 0.0
        assert d.expired
        clock.advance(5.0)
        assert d.remaining() == remaining() == 0.0
    assert remaining() is None


def test_of_nested_blocks_the_earlier_end_wins(clock: FakeClock) -> None:
    with deadline(1.0):
        with deadline(9.0) as inner:
            assert inner.remaining() == remaining() == 1.0
        with deadline(0.25) as inner:
            assert inner.remaining() == remaining() == 0.25
        with deadline(None) as inner:
            assert inner.remaining() == remaining() == 1.0
        clock.advance(0.5)
        assert remaining() == 0.5


def test_a_block_without_a_limit_limits_nothing() -> None:
    with deadline(None) as d:
        assert d.remaining() is None
        assert not d.expired
        assert remaining() is None


def test_a_block_without_time_is_over_at_once(clock: FakeClock) -> None:
    for seconds in (0, 0.0, -1.0):
        with deadline(seconds) as d:
            assert d.expired


@pytest.mark.parametrize("wrong", ["1", True, math.nan, object()])
def test_what_is_no_time_is_told(wrong: Any) -> None:
    with pytest.raises(TypeError, match="seconds must be a number of seconds or None"):
        deadline(wrong)


def test_a_deadline_is_entered_once() -> None:
    with deadline(1.0) as d, pytest.raises(RuntimeError, match="entered once"), d:
        pass


def test_what_bounds_is_the_least_of_block_and_call(make: Make, clock: FakeClock) -> None:
    guard = make(circuit_breaker={"timeout": 2.0}).guard(lambda: remaining())
    assert guard() == 2.0
    with deadline(5.0):
        assert guard() == 2.0
        clock.advance(4.5)
        assert guard() == pytest.approx(0.5)
    assert guard() == 2.0


def test_a_block_binds_who_is_given_its_context_and_nobody_else(make: Make, clock: FakeClock) -> None:
    guard = make().guard(lambda: "value")
    with deadline(1.0):
        context = contextvars.copy_context()
        clock.advance(2.0)
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(guard()))
        thread.start()
        thread.join()
        assert answers == ["value"]
    assert guard() == "value"
    assert context.run(remaining) == 0.0
    with pytest.raises(IntegrationTimeoutError):
        context.run(guard)
    del context
    assert guard() == "value"


def test_a_task_made_inside_is_bound_by_the_block(make: Make, clock: FakeClock) -> None:
    async def fn() -> str:
        return "value"

    guard = make().guard(fn)

    async def main() -> tuple[object, object]:
        with deadline(1.0):
            task = asyncio.create_task(guard())
            clock.advance(2.0)
        return (await asyncio.gather(task, return_exceptions=True))[0], await guard()

    bound, free = asyncio.run(main())
    assert isinstance(bound, IntegrationTimeoutError)
    assert free == "value"


def test_a_generator_closed_in_another_context_is_no_trouble() -> None:
    def generate() -> Any:
        with deadline(1.0):
            yield

    generator = generate()
    contextvars.copy_context().run(next, generator)
    generator.close()
    assert remaining() is None


# ---- nothing begins when the time is up


def ways(make: Make, calls: list[object]) -> dict[str, Callable[[], Any]]:
    def fn() -> None:
        calls.append(fn)

    async def coroutine() -> None:
        calls.append(coroutine)

    def block() -> None:
        with integration.attempt("fn"):
            calls.append(block)

    async def async_block() -> None:
        async with integration.attempt("fn"):
            calls.append(async_block)

    def raised(result: Any) -> None:
        if not result.success:
            raise result.error

    integration = make()
    return {
        "call": integration.guard(fn, operation="fn"),
        "judged": integration.guard(fn, operation="fn", failure=lambda value: None),
        "once": lambda: integration.caller("fn")(fn),
        "outcome": lambda: raised(integration.guard(fn, operation="fn").outcome()),
        "block": block,
        "async": lambda: drive(integration.guard(coroutine, operation="fn")()),
        "async outcome": lambda: raised(drive(integration.guard(coroutine, operation="fn").outcome())),
        "async block": lambda: drive(async_block()),
    }


WAYS = ["call", "judged", "once", "outcome", "block", "async", "async outcome", "async block"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("inside", ["a block", "a call"])
def test_a_call_too_late_is_refused_and_never_made(
    way: str, inside: str, make: Make, clock: FakeClock, registry: Registry
) -> None:
    calls: list[object] = []
    call = ways(make, calls)[way]
    integration = registry["dependency"]
    call()
    assert len(calls) == 1

    def late() -> IntegrationTimeoutError:
        clock.advance(1.0)
        with pytest.raises(IntegrationTimeoutError) as caught:
            call()
        return caught.value

    if inside == "a block":
        with deadline(1.0):
            error = late()
    else:
        error = make("outer", circuit_breaker={"timeout": 1.0}).guard(late)()
    assert len(calls) == 1
    assert (error.reason, error.code, error.integration_name) == ("deadline passed", "DB_TIMEOUT", "dependency")
    assert not error.retryable
    metrics = integration.metrics("fn")
    assert (metrics.count, metrics.rejected, metrics.error_count, metrics.timeouts) == (1, 1, 0, 0)
    assert integration.status().failures == 0
    assert "has passed" in str(integration.explain())
    call()
    assert len(calls) == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_call_too_late_takes_no_permit(way: str, make: Make, clock: FakeClock, registry: Registry) -> None:
    call = ways(make, [])[way]
    breaker = registry["dependency"].breaker
    registry["dependency"].reconfigure(circuit_breaker={"failure_threshold": 1})
    breaker.failure(breaker.acquire())
    clock.advance(1e6)  # its wait is over: the next call would be a probe
    with deadline(0.0), pytest.raises(IntegrationTimeoutError, match="not called"):
        call()
    assert (breaker.state, breaker.status().probes) == ("OPEN", 0)


def test_a_disabled_guard_lets_every_call_go(make: Make, registry: Registry) -> None:
    guard = make().guard(lambda: "value")
    registry.disable()
    with deadline(0.0):
        assert guard() == guard.outcome().data == "value"


def test_each_key_is_refused_alike(make: Make) -> None:
    guard = make().guard(lambda key: key, key=lambda key: key)
    assert guard("a") == "a"
    with deadline(0.0), pytest.raises(IntegrationTimeoutError):
        guard("a")


def test_who_listens_hears_why(make: Make) -> None:
    heard: list[Refusal] = []
    guard = make().guard(lambda: None)
    off = subscribe(lambda event: heard.append(event) if isinstance(event, Refusal) else None, Refusal)
    try:
        with deadline(0.0), pytest.raises(IntegrationTimeoutError):
            guard()
    finally:
        off()
    assert [event.reason for event in heard] == ["deadline passed"]


# ---- retries


def failing(clock: FakeClock, seen: list[float | None]) -> Callable[[], None]:
    def fn() -> None:
        seen.append(remaining())
        clock.advance(0.1)
        raise ConnectionError("down")

    return fn


@pytest.mark.parametrize("is_async", [False, True])
def test_no_retry_is_waited_for_that_would_come_after_the_block(is_async: bool, make: Make, clock: FakeClock) -> None:
    seen: list[float | None] = []
    integration = make(retries=5, retry_policy={"initial_delay": 0.3, "max_delay": 0.3})
    fn = failing(clock, seen)

    async def coroutine() -> None:
        fn()

    guard: Any = integration.guard(coroutine if is_async else fn)
    with deadline(1.0):
        result = asyncio.run(_awaited(guard)) if is_async else guard.outcome()
        assert remaining() == pytest.approx(0.1)
    assert seen == [pytest.approx(1.0), pytest.approx(0.6), pytest.approx(0.2)]
    assert result.error.attempts == 3
    assert result.error.reason.endswith("the deadline of the block around it comes first")


async def _awaited(guard: Any) -> Any:
    return await guard.outcome()


@pytest.mark.parametrize("is_async", [False, True])
def test_nor_one_after_the_deadline_of_the_call_around(is_async: bool, make: Make, clock: FakeClock) -> None:
    seen: list[float | None] = []
    inner = make("inner", retries=5, retry_policy={"initial_delay": 0.3, "max_delay": 0.3})
    outer = make("outer", circuit_breaker={"timeout": 0.7})
    fn = failing(clock, seen)

    async def coroutine() -> None:
        fn()

    guard: Any = inner.guard(coroutine if is_async else fn)

    async def around() -> Any:
        return await guard.outcome()

    result = asyncio.run(_awaited(outer.guard(around))).data if is_async else outer.guard(guard.outcome)()
    assert len(seen) == 2
    assert result.error.reason.endswith("the deadline of the guarded call around it comes first")


@pytest.mark.parametrize("is_async", [False, True])
def test_its_own_overall_deadline_goes_by_its_own_name(is_async: bool, make: Make, clock: FakeClock) -> None:
    integration = make(retries=5, retry_policy={"initial_delay": 0.3, "max_delay": 0.3}, timeouts={"overall": 0.6})
    fn = failing(clock, [])

    async def coroutine() -> None:
        fn()

    guard: Any = integration.guard(coroutine if is_async else fn)
    with deadline(60.0):
        result = asyncio.run(_awaited(guard)) if is_async else guard.outcome()
    assert result.error.reason.endswith("the overall deadline comes first")


# ---- overruns


@pytest.mark.parametrize("limit", ["attempt", "overall", "block", "retried"])
@pytest.mark.parametrize("took", [0.4, 0.5])
def test_a_value_that_came_late_counts_as_a_timeout_and_is_returned(
    limit: str, took: float, make: Make, clock: FakeClock
) -> None:
    parts: dict[str, Any] = {
        "attempt": {"circuit_breaker": {"timeout": 0.5}},
        "overall": {"timeouts": {"overall": 0.5}},
    }.get(limit, {})
    integration = make(retries=1, **parts)
    ends = [ConnectionError()] if limit == "retried" else []

    def fn() -> str:
        if ends:
            raise ends.pop()
        clock.advance(took)
        return "value"

    guard = integration.guard(fn, operation="fn")
    with deadline(0.5 if limit in ("block", "retried") else None):
        assert guard() == "value"
    late = took >= 0.5
    assert integration.status().failures == (0 if not late else 2 if limit == "retried" else 1)
    assert integration.metrics("fn").timeouts == late


def test_a_block_that_is_an_attempt_overruns_alike(make: Make, clock: FakeClock) -> None:
    integration = make()
    with deadline(0.5), integration.attempt("fn"):
        clock.advance(0.5)
    assert integration.status().failures == integration.metrics("fn").timeouts == 1


def test_a_late_value_is_not_remembered(make: Make, clock: FakeClock) -> None:
    last = failsoft.database_fallbacks.last_known()
    values = iter([passing(clock, 0.0, "in time"), passing(clock, 0.5, "late")])

    def fn() -> object:
        return next(values, down)()

    def down() -> object:
        raise ConnectionError

    guard = make().guard(fn, fallbacks=[last])
    assert guard() == "in time"
    with deadline(0.5):
        assert guard() == "late"
    assert guard() == "in time"


# ---- async


@pytest.mark.parametrize("cuts", [False, True], ids=["with", "async with"])
def test_an_async_attempt_is_cancelled_at_the_blocks_end_and_counts_as_a_timeout(cuts: bool, make: Make) -> None:
    async def hang() -> None:
        await asyncio.sleep(30)

    integration = make()
    guard = integration.guard(hang, operation="fn")

    async def main() -> float:
        began = asyncio.get_running_loop().time()
        with pytest.raises(IntegrationTimeoutError):
            if cuts:
                async with deadline(0.05):
                    await guard()
            else:
                with deadline(0.05):
                    await guard()
        return asyncio.get_running_loop().time() - began

    assert 0.049 <= asyncio.run(main()) < 1.0
    assert integration.status().failures == integration.metrics("fn").timeouts == 1


def test_the_body_of_an_async_block_is_cancelled_at_its_end() -> None:
    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(IntegrationTimeoutError, match=r"not done within 0\.03 s") as caught:
            async with deadline(0.03):
                await asyncio.sleep(30)
        assert caught.value.reason == "deadline passed"
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert not task.cancelling()
        assert remaining() is None
        async with deadline(30) as d:
            await asyncio.sleep(0)
        assert not d.expired

    asyncio.run(main())


def test_of_nested_async_blocks_the_earlier_one_ends_them(clock: FakeClock) -> None:
    async def main(outer: float, inner: float) -> str:
        try:
            async with deadline(outer):
                try:
                    async with deadline(inner):
                        asyncio.get_running_loop().call_soon(clock.advance, min(outer, inner))
                        await asyncio.sleep(30)
                except IntegrationTimeoutError:
                    return "inner"
        except IntegrationTimeoutError:
            return "outer"
        return "none"

    assert asyncio.run(main(5.0, 1.0)) == "inner"
    assert asyncio.run(main(1.0, 5.0)) in ("inner", "outer")


def test_a_cancellation_from_elsewhere_goes_through_an_async_block() -> None:
    async def body() -> None:
        async with deadline(30):
            await asyncio.sleep(30)

    async def main() -> None:
        task = asyncio.create_task(body())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_shared_call_goes_by_its_own_deadlines(make: Make) -> None:
    seen: list[float | None] = []

    async def fn() -> str:
        await asyncio.sleep(0)
        seen.append(remaining())
        return "value"

    guard = make().guard(fn, dedupe=True)

    async def main() -> list[str]:
        with deadline(5.0):
            first = asyncio.create_task(guard())
        return await asyncio.gather(first, guard())

    assert asyncio.run(main()) == ["value", "value"]
    assert len(seen) == 1
    assert seen[0] is not None
    assert seen[0] > 20.0


# ---- fallbacks


@pytest.mark.parametrize("is_async", [False, True])
def test_fallbacks_are_asked_though_the_time_is_up_and_may_call(is_async: bool, make: Make, clock: FakeClock) -> None:
    cache = make("cache").guard(lambda: ("cached", remaining()))

    async def from_cache() -> object:
        await asyncio.sleep(0)
        with deadline(25.0):
            return cache()

    def fn() -> None:
        clock.advance(1.0)
        raise ConnectionError

    async def coroutine() -> None:
        fn()

    fallback = Fallback(FallbackType.CACHE, from_cache if is_async else cache)
    guard: Any = make().guard(coroutine if is_async else fn, fallbacks=[fallback])

    async def main() -> Any:
        return await guard()

    for seconds in (1.0, 0.0):  # the second call is refused
        with deadline(seconds):
            value, left = asyncio.run(main()) if is_async else guard()
            assert value == "cached"
            assert left > 20.0  # the time of its own
            assert remaining() == 0.0
            with pytest.raises(IntegrationTimeoutError):
                cache()


def test_a_late_fallback_may_open_a_block_of_its_own(make: Make, clock: FakeClock) -> None:
    cache = make("cache").guard(lambda: remaining())

    def from_cache() -> float | None:
        with deadline(5.0):
            return cache()

    def down() -> None:
        clock.advance(1.0)
        raise ConnectionError

    guard = make().guard(down, fallbacks=[Fallback(FallbackType.CACHE, from_cache)])
    outer = make("outer", circuit_breaker={"timeout": 1.0}).guard(lambda: guard(), operation="outer")
    assert outer() == 5.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_starts_without_it(make: Make) -> None:
    """A worker that is forked inside a call, or a block, outlives both."""
    integration = make(circuit_breaker={"timeout": 0.01})

    def fork() -> int:
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        good = remaining() is None and integration.guard(lambda: "value", operation="inner")() == "value"
        os._exit(0 if good else 1)

    with deadline(0.01):
        assert integration.guard(fork)() == 0


def test_a_block_that_cannot_be_armed_binds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise RuntimeError("no")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="no"):
            async with deadline(5.0):
                raise AssertionError
        assert remaining() is None

    monkeypatch.setattr("failsoft.expiry.arm", refuses)
    asyncio.run(main())
