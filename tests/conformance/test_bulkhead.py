"""The bulkhead: how many calls are under way, and that each place comes back whatever becomes of the call."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

from failsoft import BulkheadFullError, CircuitOpenError, Integration, Registry, database_fallbacks


def bulkhead(most: int = 1, max_wait: float = 0.0, **more: Any) -> Integration:
    return Registry().integration("db", "database", bulkhead={"max_concurrent": most, "max_wait": max_wait}, **more)


def in_flight(db: Integration) -> int | None:
    return db.load().in_flight


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class TestPlaces:
    def test_a_call_inside_a_call_needs_a_place_of_its_own(self) -> None:
        db, seen = bulkhead(2), []

        @db.guard(retry=False)
        def call(depth: int) -> None:
            seen.append(in_flight(db))
            if depth > 1:
                call(depth - 1)

        call(2)
        assert seen == [1, 2]
        with pytest.raises(BulkheadFullError):
            call(3)
        assert in_flight(db) == 0

    @pytest.mark.parametrize("error", [ConnectionError, ValueError, KeyboardInterrupt])
    def test_an_exception_leaves_it(self, error: type[BaseException]) -> None:
        db = bulkhead(retry_policy={"max_retries": 0})

        @db.guard
        def fail() -> None:
            raise error

        with pytest.raises(error):
            fail()
        assert in_flight(db) == 0

    @pytest.mark.parametrize("options", [{}, {"failure": lambda value: None}, {"key": lambda: 1}, {"dedupe": True}])
    def test_every_kind_of_guard_leaves_it(self, options: dict[str, Any]) -> None:
        db = bulkhead()
        guard = db.guard(lambda: "value", **options)
        for _ in range(3):
            assert guard() == "value"
            assert guard.outcome().success
        assert in_flight(db) == 0

    def test_no_place_is_held_between_attempts(self) -> None:
        db = bulkhead(retry_policy={"initial_delay": 0.0, "max_delay": 0.0})
        failures = iter([ConnectionError(), ConnectionError()])

        @db.guard
        def call() -> int | None:
            for failure in failures:
                raise failure
            return in_flight(db)

        assert call() == 1
        assert in_flight(db) == 0

    def test_fallbacks_run_outside(self) -> None:
        db = bulkhead(retry_policy={"max_retries": 0})

        def fail() -> None:
            raise ConnectionError

        guard = db.guard(fail, fallbacks=[database_fallbacks.cache_first("key", lambda key: in_flight(db))])
        assert guard() == 0

    def test_blocks_hold_one(self) -> None:
        db = bulkhead()
        with db.attempt():
            assert in_flight(db) == 1
            with pytest.raises(BulkheadFullError), db.attempt():
                pytest.fail("let in")
        with pytest.raises(ZeroDivisionError), db.attempt():
            raise ZeroDivisionError
        assert in_flight(db) == 0

    def test_an_open_circuit_takes_no_place(self) -> None:
        db = bulkhead()
        db.force_open()
        with pytest.raises(CircuitOpenError):
            db.guard(abs)(1)
        assert in_flight(db) == 0

    def test_a_probe_needs_a_place_too(self) -> None:
        db = bulkhead(circuit_breaker={"failure_threshold": 1, "reset_timeout": 0.0, "success_threshold": 1})

        @db.guard(retry=False)
        def call(fails: bool) -> str:
            if fails:
                raise ConnectionError
            return db.breaker.state

        with pytest.raises(ConnectionError):
            call(True)
        with db.attempt(), pytest.raises(BulkheadFullError):
            call(False)
        assert db.status().probes == 0

    def test_the_token_comes_back_where_there_is_no_place(self) -> None:
        db = bulkhead(rate_limit={"rate": 0.001, "burst": 2})
        with db.attempt(), pytest.raises(BulkheadFullError):
            db.guard(abs)(1)
        assert db.load().tokens == pytest.approx(1.0, abs=0.01)

    def test_what_it_says(self) -> None:
        db = bulkhead()
        with db.attempt(), pytest.raises(BulkheadFullError) as caught:
            db.guard(abs)(1)
        error = caught.value
        assert str(error) == "db was not called: bulkhead: all 1 places are taken"
        assert (error.code, error.reason, error.retry_after) == ("DB_BULKHEAD_FULL", "bulkhead", None)
        assert db.explain().decisions[-1].text == "abs: refused, bulkhead: all 1 places are taken"
        assert "bulkhead: 0 of 1 calls under way" in str(db.explain())

    def test_lowering_the_limit_strands_nobody(self) -> None:
        db = bulkhead(3)
        blocks = [db.attempt() for _ in range(3)]
        for block in blocks:
            block.__enter__()
        db.reconfigure(bulkhead={"max_concurrent": 1})
        for block in blocks[:2]:
            block.__exit__(None, None, None)
            with pytest.raises(BulkheadFullError):
                db.guard(abs)(1)
        blocks[2].__exit__(None, None, None)
        assert db.guard(abs)(-1) == 1

    def test_switched_on_and_off_under_calls(self) -> None:
        db = Registry().integration("db", "database")

        @db.guard
        def call(bulkhead: object) -> None:
            db.reconfigure(bulkhead=bulkhead)

        call({"max_concurrent": 1})
        assert in_flight(db) == 0
        call(None)
        db.reconfigure(bulkhead={"max_concurrent": 1})
        assert in_flight(db) == 0


class Never:
    """Suspends, and never goes on; in a loop and without one."""

    def __await__(self) -> Generator[Any, None, None]:
        while True:
            yield


class TestAwaitables:
    """The place of an awaited call comes back on every path out of it."""

    def hanging(self, db: Integration) -> Any:
        @db.guard
        async def hang() -> None:
            await Never()

        return hang

    def test_returned_raised_and_cancelled(self) -> None:
        db = bulkhead(retry_policy={"max_retries": 0})

        @db.guard
        async def call(error: type[Exception] | None) -> int | None:
            await asyncio.sleep(0)
            if error:
                raise error
            return in_flight(db)

        async def scene() -> None:
            assert await call(None) == 1
            with pytest.raises(ConnectionError):
                await call(ConnectionError)
            task = asyncio.ensure_future(self.hanging(db)())
            await turns()
            assert in_flight(db) == 1
            task.cancel()
            await asyncio.wait([task])
            assert in_flight(db) == 0

        asyncio.run(scene())

    def test_closed_dropped_and_thrown_into(self) -> None:
        db = bulkhead()
        hang = self.hanging(db)

        def throw(call: Any) -> None:
            with pytest.raises(ZeroDivisionError):
                call.throw(ZeroDivisionError)

        for end in (lambda call: call.close(), throw):
            call = hang()
            assert in_flight(db) == 0  # not before the first send
            call.send(None)
            assert in_flight(db) == 1
            end(call)
            assert in_flight(db) == 0
        call = hang()
        call.send(None)
        del call
        gc.collect()
        assert in_flight(db) == 0

    def test_timed_out(self) -> None:
        db = bulkhead(circuit_breaker={"timeout": 0.01}, retry_policy={"max_retries": 0})
        with pytest.raises(TimeoutError):
            asyncio.run(self.hanging(db)())
        assert in_flight(db) == 0

    def test_a_sync_function_that_hands_over_an_awaitable(self) -> None:
        db = bulkhead()
        hang = self.hanging(Registry().integration("other", "database"))
        guard = db.guard(lambda: hang())
        for _ in range(2):
            call = guard()
            assert in_flight(db) == 0
            call.send(None)
            assert in_flight(db) == 1
            call.close()
            assert in_flight(db) == 0


class TestWaiting:
    def test_tasks_go_in_order_and_nobody_barges(self) -> None:
        db = bulkhead(1, 10.0)
        order: list[int] = []

        @db.guard
        async def call(number: int) -> None:
            await asyncio.sleep(0)
            order.append(number)

        async def scene() -> None:
            tasks = [asyncio.ensure_future(call(number)) for number in range(10)]
            while len(order) < 5:
                await asyncio.sleep(0)
            tasks += [asyncio.ensure_future(call(number)) for number in range(10, 15)]
            await asyncio.gather(*tasks)

        asyncio.run(scene())
        assert order == list(range(15))
        assert in_flight(db) == 0

    def test_a_newcomer_does_not_take_what_was_left_for_another(self) -> None:
        db = bulkhead(1, 10.0)

        @db.guard
        async def call(until: asyncio.Event) -> str:
            await until.wait()
            return "in"

        async def scene() -> None:
            first, second = asyncio.Event(), asyncio.Event()
            holder, waiter = asyncio.ensure_future(call(first)), asyncio.ensure_future(call(second))
            await turns()
            first.set()
            await holder
            with pytest.raises(BulkheadFullError):
                db.guard(abs)(1)  # sync, in a loop: it may not wait
            second.set()
            assert await waiter == "in"

        asyncio.run(scene())

    def test_a_waiter_cancelled_when_its_place_has_come_hands_it_on(self) -> None:
        db = bulkhead(1, 10.0)

        @db.guard
        async def call(until: asyncio.Event) -> str:
            await until.wait()
            return "in"

        async def scene() -> None:
            first, done = asyncio.Event(), asyncio.Event()
            done.set()
            holder = asyncio.ensure_future(call(first))
            await turns()
            waiters = [asyncio.ensure_future(call(done)) for _ in range(3)]
            await turns()
            first.set()
            await holder
            assert in_flight(db) == 1  # given to the first of them, which has not run yet
            waiters[0].cancel()
            assert await asyncio.wait_for(asyncio.gather(*waiters[1:]), 5.0) == ["in", "in"]
            assert (in_flight(db), db.load().waiting) == (0, 0)

        asyncio.run(scene())

    def test_a_queued_call_that_is_closed_or_dropped_leaves_the_queue(self) -> None:
        db = bulkhead(1, 10.0)

        @db.guard
        async def call() -> None: ...

        async def scene() -> None:
            with db.attempt():
                closed, dropped = call(), call()
                closed.send(None)
                dropped.send(None)
                assert db.load().waiting == 2
                closed.close()
                assert db.load().waiting == 1
                del dropped
                gc.collect()
                assert db.load().waiting == 0
            await call()

        asyncio.run(scene())

    def test_its_patience_ends(self) -> None:
        db = bulkhead(1, 0.01)

        @db.guard
        async def call() -> None: ...

        async def scene() -> None:
            with db.attempt():
                began = time.monotonic()
                with pytest.raises(BulkheadFullError):
                    await call()
                assert time.monotonic() - began >= 0.01
                result = await call.outcome()
                assert isinstance(result.error, BulkheadFullError)
            assert await call() is None

        asyncio.run(scene())
        with db.attempt(), pytest.raises(BulkheadFullError):
            db.guard(abs)(1)

    def test_a_deadline_armed_after_the_wait(self) -> None:
        db = bulkhead(1, 10.0, circuit_breaker={"timeout": 0.02}, retry_policy={"max_retries": 0})

        @db.guard
        async def hang() -> None:
            await asyncio.Event().wait()

        async def scene() -> None:
            block = db.attempt()
            block.__enter__()
            task = asyncio.ensure_future(hang())
            await asyncio.sleep(0.03)
            assert db.load().waiting == 1  # waiting is not part of the attempt
            block.__exit__(None, None, None)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(task, 5.0)

        asyncio.run(scene())
        assert in_flight(db) == 0

    def test_raising_the_limit_wakes_who_fits(self) -> None:
        db = bulkhead(1, 10.0)

        @db.guard
        async def call() -> str:
            return "in"

        async def scene() -> None:
            with db.attempt():
                tasks = [asyncio.ensure_future(call()) for _ in range(3)]
                await turns()
                db.reconfigure(bulkhead={"max_concurrent": 2})
                assert await asyncio.wait_for(asyncio.gather(*tasks), 5.0) == ["in"] * 3

        asyncio.run(scene())

    def test_a_thread_waits_for_a_task_of_a_loop(self) -> None:
        db = bulkhead(1, 10.0)
        got: list[int] = []
        thread = threading.Thread(target=lambda: got.append(db.guard(abs)(-1)))

        async def scene() -> None:
            async with db.attempt():
                thread.start()
                while db.load().waiting == 0:
                    await asyncio.sleep(0.0005)
                assert got == []

        asyncio.run(scene())
        thread.join(10.0)
        assert got == [1]
