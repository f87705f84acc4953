"""The rate limiter: what goes, what is refused and until when, who waits."""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from failsoft import (
    CircuitOpenError,
    Integration,
    IntegrationConfig,
    LoadControlError,
    RateLimit,
    RateLimitExceededError,
    Registry,
    subscribe,
)
from failsoft import events as kinds
from failsoft.testing import FakeClock


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


def limited(rate: float = 10.0, burst: int | None = 2, max_wait: float = 0.0, **more: Any) -> Integration:
    limit = {"rate": rate, "burst": burst, "max_wait": max_wait}
    return Registry().integration("db", "database", rate_limit=limit, **more)


def echo(value: object) -> object:
    return value


async def echo_async(value: object) -> object:
    await asyncio.sleep(0)
    return value


def took(guard: Any, most: int = 1000) -> int:
    """How many calls go before one is refused."""
    for count in range(most):
        try:
            guard(1)
        except RateLimitExceededError:
            return count
    return most


class TestWhatGoes:
    def test_a_burst_and_then_the_rate(self, clock: FakeClock) -> None:
        guard = limited().guard(echo)
        assert took(guard) == 2
        clock.advance(0.1)
        assert took(guard) == 1
        clock.advance(0.35)
        assert took(guard) == 2  # more than the burst is not saved up
        clock.advance(1000.0)
        assert took(guard) == 2

    def test_a_burst_of_a_second_unless_told(self, clock: FakeClock) -> None:
        assert took(limited(7.0, None).guard(echo)) == 7
        assert took(limited(0.1, None).guard(echo)) == 1

    def test_over_a_long_time_it_is_exact(self, clock: FakeClock) -> None:
        guard = limited(3.0, 1).guard(echo)
        gone = 0
        for _ in range(3000):
            clock.advance(0.01)
            gone += took(guard)
        assert 89 <= gone <= 91

    def test_all_guards_of_an_integration_share_it_and_keys_do_not(self, clock: FakeClock) -> None:
        db = limited()
        first, second = db.guard(echo, operation="a"), db.guard(echo, operation="b")
        first(1), second(1)
        with pytest.raises(RateLimitExceededError):
            first(1)
        keyed = limited().guard(echo, key=lambda value: value)
        for value in "aabb":
            keyed(value)
        with pytest.raises(RateLimitExceededError):
            keyed("a")

    def test_the_real_clock_drives_it_too(self) -> None:
        guard = limited(1000.0, 5).guard(echo)
        assert took(guard, 6) >= 5
        time.sleep(0.004)
        guard(1)

    def test_a_clock_that_changes_locks_nobody_out(self) -> None:
        guard = limited(10.0, 2).guard(echo)
        with FakeClock():
            assert took(guard) == 2
        assert took(guard) == 2

    def test_a_call_that_hands_over_an_awaitable_takes_one_token(self, clock: FakeClock) -> None:
        db = limited(1.0, 2)
        guard = db.guard(lambda: echo_async(1))

        async def scene() -> None:
            assert await guard() == 1
            assert db.load().tokens == 1.0
            guard().close()  # never awaited
            assert db.load().tokens == 1.0

        asyncio.run(scene())


class TestRefusal:
    def test_it_says_when_to_come_back(self, clock: FakeClock) -> None:
        db = limited(8.0, 1)
        guard = db.guard(echo)
        guard(1)
        clock.advance(0.025)
        with pytest.raises(RateLimitExceededError) as caught:
            guard(1)
        error = caught.value
        assert error.retry_after == 0.1
        assert (error.code, error.reason, error.retryable, error.attempts) == ("DB_RATE_LIMITED", "rate_limit", True, 0)
        assert error.details["limit"] == 8.0
        assert isinstance(error, LoadControlError)
        assert pickle.loads(pickle.dumps(error)).to_dict() == error.to_dict()
        clock.advance(error.retry_after)
        guard(1)

    def test_it_is_no_failure_and_no_latency(self, clock: FakeClock) -> None:
        db = limited(1.0, 1, circuit_breaker={"failure_threshold": 1})
        guard = db.guard(echo)
        guard(1)
        for _ in range(5):
            assert isinstance(guard.outcome(1).error, RateLimitExceededError)
        metrics, status = guard.metrics(), db.status()
        assert (metrics.count, metrics.rejected, metrics.error_count) == (1, 5, 0)
        assert (status.state, status.failures, status.sample_size) == ("CLOSED", 0, 1)

    def test_an_open_circuit_takes_no_token(self, clock: FakeClock) -> None:
        db = limited()
        guard = db.guard(echo)
        db.force_open()
        for _ in range(5):
            with pytest.raises(CircuitOpenError):
                guard(1)
        assert db.load().tokens == 2.0

    def test_each_attempt_takes_one_and_a_refusal_ends_the_retries(self, clock: FakeClock) -> None:
        made = []

        def fail() -> None:
            made.append(1)
            raise ConnectionError

        db = limited(0.001, 2, retry_policy={"max_retries": 5, "initial_delay": 0.1, "jitter": False})
        with pytest.raises(ConnectionError) as caught:
            db.guard(fail)()
        assert len(made) == 2
        assert "rate limit: 0.001 a second" in caught.value.__notes__[0]

    def test_fallbacks_answer(self, clock: FakeClock) -> None:
        from failsoft import database_fallbacks

        guard = limited(1.0, 1).guard(echo, fallbacks=[database_fallbacks.mock_data("mock")])
        assert [guard(1), guard(1)] == [1, "mock"]

    def test_the_flight_recorder_and_events_tell_the_numbers(self, clock: FakeClock) -> None:
        db = limited(100.0, 1)
        guard, heard = db.guard(echo), []
        unsubscribe = subscribe(heard.append, kinds.Refusal)
        try:
            guard(1)
            clock.advance(0.002)
            with pytest.raises(RateLimitExceededError):
                guard(1)
        finally:
            unsubscribe()
        (decision,) = db.explain().decisions
        assert (decision.kind, decision.text) == ("load", "echo: refused, rate limit: 100 a second, next token in 8 ms")
        assert "rate limit: 100 a second, 0 of 1 tokens left" in str(db.explain())
        assert [(event.reason, event.retry_after) for event in heard] == [("rate_limit", 0.008)]

    def test_blocks_and_awaits_pass_it(self, clock: FakeClock) -> None:
        db = limited(1.0, 1)
        with db.attempt():
            pass
        with pytest.raises(RateLimitExceededError), db.attempt():
            pytest.fail("let in")
        clock.advance(1.0)
        guard = db.guard(echo_async)

        async def scene() -> None:
            assert await guard(1) == 1
            with pytest.raises(RateLimitExceededError):
                await guard(1)
            with pytest.raises(RateLimitExceededError):
                async with db.attempt():
                    pytest.fail("let in")

        asyncio.run(scene())


class TestLive:
    def test_other_settings_hold_from_the_next_call_on(self, clock: FakeClock) -> None:
        db = limited(10.0, 2)
        guard = db.guard(echo)
        assert took(guard) == 2
        db.reconfigure(rate_limit={"rate": 100.0})
        assert took(guard) == 0  # what was taken stays taken
        clock.advance(0.01)
        assert took(guard) == 1
        db.reconfigure(rate_limit={"rate": 10.0})
        assert took(guard) == 0
        db.reconfigure(rate_limit=None)
        assert took(guard, 50) == 50
        db.reconfigure(rate_limit=RateLimit(1.0, 3))
        assert took(guard) == 3

    def test_a_pass_through_takes_nothing(self, clock: FakeClock) -> None:
        registry = Registry()
        db = registry.integration("db", "database", rate_limit=RateLimit(1.0, 1))
        guard = db.guard(echo)
        registry.disable()
        assert took(guard, 9) == 9
        registry.enable()
        assert took(guard) == 1

    def test_settings_in_millis(self) -> None:
        config = IntegrationConfig.from_millis({"type": "cache", "rateLimit": {"rate": 5, "maxWait": 250}})
        assert config.rate_limit == RateLimit(5.0, None, 0.25)

    @pytest.mark.parametrize(
        ("limit", "message"),
        [
            ({"rate": 0.0}, r"rate_limit\.rate must be a number from 1e-06 to 1000000000, got 0\.0"),
            ({"rate": 1.0, "burst": 0}, r"rate_limit\.burst must be an integer from 1"),
            ({"rate": 0.001, "burst": 2000}, r"rate_limit\.burst must be an integer from 1 to 1000, what comes in"),
            ({"rate": 1.0, "max_wait": -1.0}, r"rate_limit\.max_wait must be a number of seconds"),
            ({"burst": 1}, r"rate_limit\.rate is missing"),
        ],
    )
    def test_nonsense_is_refused(self, limit: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Registry().integration("db", "database", rate_limit=limit)


class TestWaiting:
    def test_tasks_wait_for_their_tokens_in_order(self, clock: FakeClock) -> None:
        db = limited(10.0, 1, max_wait=1.0)
        guard, order = db.guard(echo_async), []

        async def call(number: int) -> None:
            order.append((await guard(number), round(clock.now - began, 6)))

        async def scene() -> None:
            tasks = [asyncio.ensure_future(call(number)) for number in range(4)]
            for _ in range(40):
                await asyncio.sleep(0)
                if all(task.done() for task in tasks) or clock.now - began > 1.0:
                    break
                if db.load().waiting == 3 or order:
                    clock.advance(0.05)
            await asyncio.gather(*tasks)

        began = clock.now
        asyncio.run(scene())
        assert [number for number, _ in order] == [0, 1, 2, 3]
        assert all(when >= 0.1 * number for number, (_, when) in enumerate(order))
        assert db.guard(echo_async, operation="echo_async").metrics().p99_latency < 0.06  # waiting is no latency

    def test_who_cannot_be_served_in_time_is_refused_at_once(self, clock: FakeClock) -> None:
        db = limited(10.0, 1, max_wait=0.25)
        guard = db.guard(echo_async)

        async def scene() -> list[object]:
            tasks = [asyncio.ensure_future(guard(number)) for number in range(5)]
            for _ in range(5):
                await asyncio.sleep(0)
            refused = [task.exception() for task in tasks[3:]]
            assert db.load().waiting == 2
            for _ in range(8):
                clock.advance(0.05)
                for _turn in range(3):
                    await asyncio.sleep(0)
            return [*(await asyncio.gather(*tasks[:3])), *refused]

        first, second, third, *refused = asyncio.run(scene())
        assert (first, second, third) == (0, 1, 2)
        assert [type(error) for error in refused] == [RateLimitExceededError] * 2
        assert [error.retry_after for error in refused] == [0.3, 0.3]  # type: ignore[attr-defined]

    def test_a_deadline_bounds_the_wait(self, clock: FakeClock) -> None:
        db = limited(0.1, 1, max_wait=60.0, timeouts={"overall": 5.0})
        guard = db.guard(echo_async)

        async def scene() -> None:
            await guard(1)
            with pytest.raises(RateLimitExceededError):
                await guard(1)

        asyncio.run(scene())

    def test_the_deadline_of_an_outer_call_bounds_it_too(self, clock: FakeClock) -> None:
        outer = Registry().integration("outer", "cache", circuit_breaker={"timeout": 0.05})
        inner = limited(10.0, 1, max_wait=60.0).guard(echo_async)

        async def calls() -> None:
            await inner(1)
            await inner(1)

        with pytest.raises(RateLimitExceededError):
            asyncio.run(outer.guard(calls)())

    def test_a_thread_waits_until_the_token_is_there(self, clock: FakeClock) -> None:
        db = limited(10.0, 1, max_wait=1.0)
        guard, got = db.guard(echo), []
        guard(0)
        thread = threading.Thread(target=lambda: got.append(guard(1)))
        thread.start()
        while db.load().waiting == 0:
            time.sleep(0.0005)
        clock.advance(0.099)
        assert db.load().waiting == 1
        clock.advance(0.001)
        thread.join(10.0)
        assert got == [1]

    def test_a_sync_call_inside_a_loop_is_refused_rather_than_holding_it_up(self, clock: FakeClock) -> None:
        guard = limited(10.0, 1, max_wait=1.0).guard(echo)

        async def scene() -> None:
            guard(1)
            with pytest.raises(RateLimitExceededError):
                guard(1)

        asyncio.run(scene())

    def test_a_breaker_that_opened_meanwhile_refuses_and_the_token_is_given_back(self, clock: FakeClock) -> None:
        db = limited(10.0, 1, max_wait=1.0)
        guard = db.guard(echo_async)

        async def scene() -> None:
            await guard(0)
            task = asyncio.ensure_future(guard(1))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert db.load().waiting == 1
            db.force_open()
            clock.advance(0.1)
            with pytest.raises(CircuitOpenError):
                await task
            assert (db.load().tokens, db.load().waiting) == (1.0, 0)

        asyncio.run(scene())

    def test_a_higher_rate_wakes_who_fits(self, clock: FakeClock) -> None:
        db = limited(0.1, 1, max_wait=20.0)
        guard = db.guard(echo_async)

        async def scene() -> None:
            await guard(0)
            task = asyncio.ensure_future(guard(1))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            db.reconfigure(rate_limit=None)
            assert await task == 1

        asyncio.run(scene())
