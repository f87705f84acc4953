"""Hedged calls: when a second attempt starts, who wins, and what becomes of the other."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import failsoft
from failsoft import CircuitState, Integration, Registry, deadline
from failsoft.hedges import WARM_UP
from failsoft.testing import FakeClock

from .conftest import Make

USUAL = 0.01


class Peer:
    """An async dependency: attempt n of the race takes as long, and ends, as the script says; all others at once."""

    def __init__(self) -> None:
        self.script: list[Callable[[], Awaitable[Any]]] = []
        self.started = 0
        self.cancelled: list[int] = []
        self.ended: list[int] = []

    async def call(self) -> Any:
        if not self.script:
            return "usual"
        number = self.started
        self.started += 1
        try:
            return await self.script[number]()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.ended.append(number)


def after(seconds: float, value: Any) -> Callable[[], Awaitable[Any]]:
    async def attempt() -> Any:
        await asyncio.sleep(seconds)
        if isinstance(value, BaseException):
            raise value
        return value

    return attempt


FOREVER = after(3600.0, None)


def warm(dependency: Integration, operation: str = "call", seconds: float = USUAL, calls: int = WARM_UP) -> None:
    """As if so many calls had taken so long."""
    record = dependency.record(operation)
    for _ in range(calls):
        record.record(seconds)


def race(make: Make, *script: Callable[[], Awaitable[Any]], **options: Any) -> tuple[Peer, Integration, Any]:
    """What a call comes to whose attempts follow the script."""
    peer, dependency = Peer(), make()
    guard = dependency.guard(peer.call, hedge=0.9, **options)
    warm(dependency)
    peer.script = list(script)
    try:
        answer = asyncio.run(asyncio.wait_for(guard(), 5.0))
    except Exception as error:
        answer = error
    return peer, dependency, answer


def hedges(dependency: Integration) -> int:
    return dependency.metrics("call").hedges


def told(dependency: Integration) -> list[str]:
    return [decision.text for decision in dependency.explain().decisions if decision.kind == "hedge"]


def test_a_slow_first_attempt_gets_a_second_that_wins(make: Make) -> None:
    peer, dependency, answer = race(make, FOREVER, after(0.0, "second"))
    assert answer == "second"
    assert (peer.started, peer.cancelled, peer.ended) == (2, [0], [1, 0])
    assert hedges(dependency) == 1
    assert told(dependency) == ["call: a second attempt beside the first after 10 ms"]
    status = dependency.budget()
    assert status is not None
    assert (status.hedges, status.retries) == (1, 0)


def test_a_first_attempt_that_ends_first_wins(make: Make) -> None:
    peer, _, answer = race(make, after(0.03, "first"), FOREVER)
    assert answer == "first"
    assert (peer.started, peer.cancelled, peer.ended) == (2, [1], [0, 1])


def test_a_quick_call_is_not_hedged(make: Make) -> None:
    peer, dependency, answer = race(make, after(0.0, "first"), FOREVER)
    assert (answer, peer.started, hedges(dependency)) == ("first", 1, 0)


def test_a_failure_does_not_win(make: Make) -> None:
    peer, _, answer = race(make, after(0.04, "first"), after(0.0, ConnectionError("second")))
    assert (answer, peer.cancelled) == ("first", [])
    peer, _, answer = race(make, after(0.03, ConnectionError("first")), after(0.04, "second"))
    assert (answer, peer.cancelled) == ("second", [])


@pytest.mark.parametrize("second", [0.0, 0.05])
def test_where_both_fail_the_first_error_is_raised(make: Make, second: float) -> None:
    error = ConnectionError("first")
    _, dependency, answer = race(make, after(0.03, error), after(second, ConnectionError("second")))
    assert answer is error
    assert dependency.metrics("call").error_count == 1


def test_a_failure_before_the_second_starts_is_final(make: Make) -> None:
    peer, _, answer = race(make, after(0.0, ConnectionError("first")), after(0.0, "second"))
    assert isinstance(answer, ConnectionError)
    assert peer.started == 1


def test_the_breaker_and_the_histogram_see_one_call(make: Make) -> None:
    _, dependency, _ = race(make, FOREVER, after(0.0, "second"))
    metrics = dependency.metrics("call")
    assert metrics.count == WARM_UP + 1
    assert metrics.error_count == 0
    assert dependency.recorded[0].max < 1.0


@pytest.mark.parametrize("calls", [0, WARM_UP - 1])
def test_nothing_is_hedged_before_the_warm_up(make: Make, calls: int) -> None:
    peer, dependency = Peer(), make()
    guard = dependency.guard(peer.call, hedge=0.9)
    warm(dependency, calls=calls)
    peer.script = [after(0.05, "first"), after(0.0, "second")]
    assert asyncio.run(guard()) == "first"
    assert peer.started == 1


def test_nothing_is_hedged_when_the_budget_is_spent(make: Make) -> None:
    peer, dependency = Peer(), make(retry_budget={"share": 0.0, "floor": 0.0})
    guard = dependency.guard(peer.call, hedge=0.9)
    warm(dependency)
    peer.script = [after(0.05, "first"), after(0.0, "second")]
    assert asyncio.run(guard()) == "first"
    assert (peer.started, hedges(dependency)) == (1, 0)
    assert told(dependency) == ["call: no second attempt beside the first after 10 ms: the retry budget is spent"]


def test_nothing_is_hedged_unless_the_breaker_is_closed(make: Make) -> None:
    peer, dependency = Peer(), make()
    guard = dependency.guard(peer.call, hedge=0.9)
    warm(dependency)

    async def opening() -> str:
        dependency.force_open()
        await asyncio.sleep(0.05)
        return "first"

    peer.script = [opening, after(0.0, "second")]
    assert asyncio.run(guard()) == "first"
    assert dependency.breaker.state is CircuitState.FORCED_OPEN
    assert peer.started == 1


def test_a_cancelled_caller_cancels_both_and_waits(make: Make) -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(3600.0)
        finally:
            await asyncio.sleep(0.02)

    async def main() -> None:
        peer, dependency = Peer(), make()
        guard = dependency.guard(peer.call, hedge=0.9)
        warm(dependency)
        peer.script = [stubborn, stubborn]
        task = asyncio.ensure_future(guard())
        while peer.started < 2:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(peer.ended) == [0, 1]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert dependency.metrics("call").error_count == 0

    asyncio.run(main())


@pytest.mark.parametrize("when", range(6))
def test_a_cancellation_that_races_the_winner_is_never_swallowed(make: Make, when: int) -> None:
    """In whatever step of the loop it comes: the caller is cancelled, or has its answer, and nothing is left over."""

    async def main() -> None:
        peer, dependency = Peer(), make()
        guard = dependency.guard(peer.call, hedge=0.9)
        warm(dependency)
        go = asyncio.Event()

        async def second() -> str:
            await go.wait()
            return "second"

        peer.script = [FOREVER, second]
        task = asyncio.ensure_future(guard())
        while peer.started < 2:
            await asyncio.sleep(0.005)
        go.set()
        for _ in range(when):
            await asyncio.sleep(0)
        asked = not task.done() and task.cancel()
        try:
            answer = await task
        except asyncio.CancelledError:
            answer = "cancelled"
        assert answer == ("cancelled" if asked else "second")
        assert sorted(peer.ended) == [0, 1]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_the_attempt_timeout_bounds_both(make: Make) -> None:
    peer, dependency = Peer(), make(circuit_breaker={"timeout": 0.2})
    guard = dependency.guard(peer.call, hedge=0.9)
    warm(dependency)
    peer.script = [FOREVER, FOREVER]
    with pytest.raises(failsoft.IntegrationTimeoutError):
        asyncio.run(asyncio.wait_for(guard(), 5.0))
    assert sorted(peer.cancelled) == [0, 1]
    assert dependency.metrics("call").timeouts == 1


def test_both_see_the_deadline_and_the_context(make: Make) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    seen: list[tuple[str, float | None, float | None]] = []

    async def look() -> str:
        before = failsoft.remaining()
        await asyncio.sleep(0.03 if not seen else 0.0)
        seen.append((who.get(), before, failsoft.remaining()))
        who.set("an attempt")
        await asyncio.sleep(0.03)
        return "done"

    async def main() -> None:
        peer, dependency = Peer(), make(circuit_breaker={"timeout": 2.0})
        guard = dependency.guard(peer.call, hedge=0.9)
        warm(dependency)
        peer.script = [look, look]
        who.set("the caller")
        before = failsoft.remaining()
        assert await guard() == "done"
        assert before is None
        assert failsoft.remaining() is None

    asyncio.run(main())
    assert [name for name, _, _ in seen] == ["the caller", "the caller"]
    for _, first, later in seen:
        assert first is not None
        assert later is not None
        assert 1.0 < later <= first <= 2.0


def test_each_key_has_its_own_quantile(make: Make) -> None:
    peer, dependency = Peer(), make()

    async def call(key: str) -> Any:
        return await peer.call()

    guard = dependency.guard(call, key=lambda key: key, hedge=0.9)
    assert guard.__wrapped__.__wrapped__ is call  # type: ignore[attr-defined]
    asyncio.run(guard("a"))
    asyncio.run(guard("b"))
    warm(dependency.shards["a"])
    peer.script = [after(0.05, "first"), after(0.0, "second")]
    assert asyncio.run(guard("b")) == "first"
    peer.started = 0
    assert asyncio.run(guard("a")) == "second"
    assert dependency.shards["a"].metrics("call").hedges == hedges(dependency) == 1


def test_methods_and_results(make: Make) -> None:
    dependency = make()

    class Client:
        slow = True

        @dependency.guard(hedge=0.9, operation="get")
        async def get(self, symbol: str) -> str:
            """Docs."""
            slow, self.slow = self.slow, False
            await asyncio.sleep(3600.0 if slow else 0.0)
            return symbol

    warm(dependency, "get")
    result = asyncio.run(Client.get.outcome(Client(), "BTC"))
    assert result.success
    assert result.data == "BTC"
    assert Client.get.__doc__ == "Docs."
    assert Client.get.__name__ == "get"


def test_by_hand_without_a_loop_nothing_is_hedged(make: Make) -> None:
    dependency = make()

    async def call() -> str:
        return "alone"

    guard = dependency.guard(call, hedge=0.9)
    warm(dependency)
    with pytest.raises(StopIteration) as stop:
        guard().send(None)
    assert stop.value.value == "alone"


def test_many_at_once_leave_nothing_behind(make: Make) -> None:
    """Also on a loop in another thread than the one that made the guard."""
    dependency = make(retry_budget=None)

    async def call(number: int) -> int:
        await asyncio.sleep(0.02 if number % 3 else 0.0)
        return number

    guard = dependency.guard(call, hedge=0.5)
    warm(dependency, seconds=0.002)

    async def main() -> None:
        assert await asyncio.gather(*map(guard, range(60))) == list(range(60))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    thread.join()
    assert hedges(dependency) == 40


def test_the_fake_clock_moves_hedges(make: Make, clock: FakeClock) -> None:
    """Whoever moves it: the second attempt sees the context variables of its caller."""
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")

    async def main() -> str:
        peer, dependency = Peer(), make()
        guard = dependency.guard(peer.call, hedge=0.9)
        warm(dependency)

        async def second() -> str:
            return who.get()

        peer.script = [FOREVER, second]
        who.set("the caller")
        task = asyncio.ensure_future(guard())
        await asyncio.sleep(0)
        who.set("who moves the clock")
        clock.advance(0.009)
        assert peer.started == 1
        clock.advance(0.002)
        return str(await task)

    assert asyncio.run(main()) == "the caller"


def test_a_second_attempt_that_never_began_leaves_nothing_unawaited(make: Make, clock: FakeClock) -> None:
    peer, dependency = Peer(), make()
    guard = dependency.guard(peer.call, hedge=0.9)
    warm(dependency)

    async def main() -> object:
        answer = asyncio.get_running_loop().create_future()
        peer.script = [lambda: answer, FOREVER]
        call = asyncio.ensure_future(guard())
        await asyncio.sleep(0)
        answer.set_result("just in time")
        clock.advance(USUAL * 2)  # the second starts in the turn in which the first ends
        return await call

    assert asyncio.run(main()) == "just in time"
    gc.collect()  # a coroutine that nobody awaited would say so now
    assert peer.started == 1


@pytest.mark.parametrize("hedge", [0.0, 1.0, 1.5, -0.1, float("nan")])
def test_a_quantile_out_of_range(make: Make, hedge: float) -> None:
    async def call() -> None: ...

    with pytest.raises(ValueError, match="hedge must be a quantile, a number between 0 and 1, got"):
        make().guard(call, hedge=hedge)


@pytest.mark.parametrize("hedge", [True, "0.95", 0.95j])
def test_no_quantile(make: Make, hedge: Any) -> None:
    async def call() -> None: ...

    with pytest.raises(TypeError, match="hedge must be a quantile"):
        make().guard(call, hedge=hedge)


def test_not_everything_can_be_hedged(make: Make) -> None:
    async def call() -> None: ...

    with pytest.raises(TypeError, match="hedge is for async functions"):
        make().guard(lambda: None, hedge=0.95)
    with pytest.raises(ValueError, match="hedge may carry a call out twice, which idempotent=False forbids"):
        make().guard(call, hedge=0.95, idempotent=False)


def faulty(value: Any) -> str | None:
    return "SERVER_ERROR" if value == "503" else None


def test_a_value_that_is_a_failure_does_not_win(make: Make) -> None:
    _, _, answer = race(make, after(0.05, "good"), after(0.0, "503"), failure=faulty)
    assert answer == "good"


def test_a_first_value_that_is_a_failure_waits_for_the_second(make: Make) -> None:
    _, _, answer = race(make, after(0.03, "503"), after(0.05, "good"), failure=faulty)
    assert answer == "good"


@pytest.mark.parametrize("second", ["503", ValueError("too")])
def test_where_both_fail_the_first_value_is_given(make: Make, second: Any) -> None:
    _, dependency, answer = race(make, after(0.03, "503"), after(0.0, second), failure=faulty)
    assert answer == "503"
    assert dependency.status().failures == 1


def test_a_guard_that_passes_through_hedges_nothing(make: Make, registry: Registry) -> None:
    peer, dependency = Peer(), make()
    guard = dependency.guard(peer.call, hedge=0.9)
    warm(dependency)
    peer.script = [after(0.03, "first"), after(0.0, "second")]
    registry.disable()
    assert (asyncio.run(guard()), peer.started) == ("first", 1)


def test_a_call_that_is_closed_leaves_no_second_attempt(make: Make) -> None:
    async def main() -> None:
        peer, dependency = Peer(), make()
        guard = dependency.guard(peer.call, hedge=0.9)
        warm(dependency)
        peer.script = [FOREVER, FOREVER]
        call: Any = guard()

        class Driven:
            def __await__(self) -> Any:
                yield call.send(None)

        async def drive() -> None:
            await Driven()

        driver = asyncio.create_task(drive())
        await asyncio.sleep(0.03)
        assert peer.started == 2
        call.close()  # as at the end of a loop that leaves tasks behind
        driver.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sorted(peer.ended) == [0, 1]

    asyncio.run(main())


class Fault(Exception):
    pass


def test_an_error_is_held_by_nothing_but_its_catcher(make: Make) -> None:
    async def fails() -> None:
        await asyncio.sleep(0.03)
        raise Fault

    async def main() -> weakref.ref[BaseException]:
        peer, dependency = Peer(), make()
        guard = dependency.guard(peer.call, hedge=0.9)
        warm(dependency)
        peer.script = [fails, fails]
        try:
            await guard()
        except Fault as error:
            assert peer.started == 2
            return weakref.ref(error)
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(main())() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("bound", ["block", "attempt"])
def test_a_value_is_not_lost_to_a_loser_that_takes_its_time(make: Make, bound: str) -> None:
    let_go: list[asyncio.Event] = []

    async def lingers() -> None:
        let_go.append(asyncio.Event())
        try:
            await asyncio.sleep(3600.0)
        finally:
            await let_go[0].wait()

    async def main() -> None:
        peer = Peer()
        dependency = make(circuit_breaker={"timeout": 0.3 if bound == "attempt" else 30.0})
        guard = dependency.guard(peer.call, hedge=0.9)
        warm(dependency)
        peer.script = [after(0.03, "first"), lingers]
        with deadline(0.3 if bound == "block" else None):
            assert await guard() == "first"
        assert (peer.ended, dependency.metrics("call").timeouts) == ([0], 0)
        let_go[0].set()
        await asyncio.sleep(0.001)
        assert peer.ended == [0, 1]

    asyncio.run(main())
