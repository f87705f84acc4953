"""The queue of load control under what can happen at any moment: interrupts, finalisers, forks, errors of our own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from failsoft import (
    BulkheadFullError,
    Integration,
    LoadControlError,
    RateLimitExceededError,
    Registry,
    deadline,
    timers,
)
from failsoft.recovery import Recovery
from failsoft.testing import FakeClock

ROOMS = ("queues.py", "attempts.py", "batches.py")


def bulkhead(most: int = 1, max_wait: float = 0.0, **more: Any) -> Integration:
    return Registry().integration("db", "database", bulkhead={"max_concurrent": most, "max_wait": max_wait}, **more)


def taken(db: Integration) -> tuple[int | None, int]:
    """(places, who waits)"""
    return db.load().in_flight, db.load().waiting


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@contextmanager
def at_moment(number: int, happens: Callable[[], None]) -> Iterator[list[int]]:
    """Let something happen where the interpreter looks for it in the rooms that wait: at the start of a function, and
    after a call of C. Yields a list that is not empty once it has."""
    seen, done = [0], list[int]()

    def look(frame: FrameType, event: str, _: object) -> None:
        if event not in ("call", "c_return") or done or os.path.basename(frame.f_code.co_filename) not in ROOMS:
            return
        seen[0] += 1
        if seen[0] == number:
            done.append(number)
            happens()

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield done
    finally:
        sys.setprofile(before)


def interrupt() -> None:
    raise KeyboardInterrupt


class TestMoments:
    """Between any two lines of Python an interrupt may come, and a finaliser that ends a call."""

    @pytest.mark.parametrize("block", [lambda db: db.attempt(), lambda db: db.guard(abs).many(2)])
    def test_a_block_that_is_interrupted(self, block: Callable[[Integration], Any]) -> None:
        for number in range(1, 200):
            db = bulkhead()
            one = block(db)
            try:
                with at_moment(number, interrupt) as happened, one:
                    pass
            except KeyboardInterrupt:
                pass
            del one
            assert taken(db) == (0, 0), number
            if not happened:
                break
        assert number > 5

    def test_a_call_that_is_interrupted_while_it_lets_the_next_in(self) -> None:
        came: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
        try:
            for number in range(1, 200):
                db = bulkhead(1, 10.0)
                call, block = db.guard(abs), db.attempt()
                threads = [threading.Thread(target=call, args=(1,)) for _ in range(2)]
                with block:
                    for thread in threads:
                        thread.start()
                    while db.load().waiting < 2:
                        time.sleep(0.0005)
                    try:
                        with at_moment(number, interrupt) as happened:
                            block._place = None
                    except KeyboardInterrupt:
                        came.append(0)
                began = time.monotonic()
                for thread in threads:
                    thread.join(5.0)
                assert time.monotonic() - began < 2.0, number
                assert taken(db) == (0, 0), number
                if not happened:
                    break
        finally:
            signal.signal(signal.SIGINT, before)
        assert number > 5
        assert len(came) >= number - 1

    @pytest.mark.parametrize("block", [lambda db: db.attempt(), lambda db: db.guard(abs).many(1)])
    def test_a_thread_that_is_interrupted_while_it_waits(self, block: Callable[[Integration], Any]) -> None:
        for number in range(1, 400):
            with FakeClock() as clock:
                db = bulkhead(rate_limit={"rate": 1.0, "burst": 1, "max_wait": 5.0})
                db.guard(abs)(1)
                real = clock.wait_until
                clock.wait_until = lambda event, when, clock=clock: clock.advance((when - clock._now) / 1e9)  # type: ignore[method-assign]
                one = block(db)
                try:
                    with at_moment(number, interrupt) as happened, one:
                        pass
                except KeyboardInterrupt:
                    pass
                del one
                assert taken(db) == (0, 0), number
                clock.wait_until = real  # type: ignore[method-assign]
                if not happened:
                    break
        assert number > 20

    def test_a_call_that_is_interrupted_while_it_waits(self) -> None:
        for number in range(1, 400):
            with FakeClock() as clock:
                db = bulkhead(rate_limit={"rate": 1.0, "burst": 1, "max_wait": 5.0})
                guard = db.guard(abs)
                guard(1)
                clock.wait_until = lambda event, when, clock=clock: clock.advance((when - clock._now) / 1e9)  # type: ignore[method-assign]
                try:
                    with at_moment(number, interrupt) as happened:
                        guard(1)
                except KeyboardInterrupt:
                    pass
                assert taken(db) == (0, 0), number
                if not happened:
                    break
        assert number > 20

    @pytest.mark.parametrize("waits", [False, True])
    def test_a_finaliser_ends_a_call(self, waits: bool) -> None:
        """Whatever the queue is doing in that moment; one that has a place, or one that waits for it."""
        for number in range(1, 1000):
            db = bulkhead(2, 10.0)

            @db.guard
            async def call() -> str:
                await asyncio.sleep(0)
                return "in"

            async def scene(db: Integration, call: Any, number: int) -> list[int]:
                dropped = call()
                if not waits:
                    dropped.send(None)
                async with db.attempt():
                    if waits:
                        db.reconfigure(bulkhead={"max_concurrent": 1})
                        dropped.send(None)
                    with at_moment(number, dropped.close) as happened:
                        tasks = [asyncio.ensure_future(call()) for _ in range(4)]
                        await turns(1)
                        tasks[1].cancel()
                        await turns(2)
                dropped.close()
                await asyncio.wait(tasks, timeout=5.0)
                assert [task.cancelled() or task.result() for task in tasks] == ["in", True, "in", "in"], number
                return happened

            happened = asyncio.run(scene(db, call, number))
            assert taken(db) == (0, 0), number
            if not happened:
                break
        assert number > 50

    def test_a_call_from_within_the_queue_does_not_wait_for_itself(self) -> None:
        db = bulkhead(1, 10.0)
        errors: list[BaseException] = []

        def call() -> None:
            try:
                db.guard(abs)(1)
            except BaseException as error:
                errors.append(error)

        with db.attempt():
            thread = threading.Thread(target=db.guard(abs), args=(1,), daemon=True)
            thread.start()
            while db.load().waiting == 0:
                time.sleep(0.0005)
            queue = db.queue
            began = time.monotonic()
            with queue._lock:
                queue._busy = True  # as where a signal's handler comes in the middle of it
                call()
                queue._busy = False
            assert time.monotonic() - began < 5.0
        thread.join(5.0)
        assert [type(error) for error in errors] == [BulkheadFullError]
        assert taken(db) == (0, 0)

    def test_a_block_left_twice_gives_back_one_place(self) -> None:
        for block in (bulkhead().attempt(), bulkhead().guard(abs).many(1)):
            db = block._guard.integration
            with block:
                pass
            block.__exit__(None, None, None)
            assert db.load().in_flight == 0


class TestQueued:
    def test_let_in_as_a_probe_it_is_settled(self) -> None:
        with FakeClock() as clock:
            db = bulkhead(
                1,
                60.0,
                circuit_breaker={
                    "failure_threshold": 1, "success_threshold": 2, "half_open_max_calls": 1, "reset_timeout": 5.0
                },
            )  # fmt: skip

            @db.guard
            async def call() -> str:
                return "in"

            async def scene() -> None:
                async with db.attempt():
                    tasks = [asyncio.ensure_future(call()) for _ in range(2)]
                    await turns()
                    db.breaker.failure(db.breaker.acquire())
                    clock.advance(5.0)
                assert await asyncio.wait_for(asyncio.gather(*tasks), 5.0) == ["in", "in"]
                assert db.breaker.state == "CLOSED"

            asyncio.run(scene())

    def test_any_number_of_items_may_wait(self) -> None:
        db = bulkhead(1, 10.0)
        guard = db.guard(abs)

        async def batch() -> int:
            async with guard.many(2**26) as batch:
                return batch.n

        async def scene() -> None:
            async with db.attempt():
                tasks = [asyncio.ensure_future(batch()) for _ in range(70)]
                await turns()
                assert db.load().waiting == 70
            assert await asyncio.wait_for(asyncio.gather(*tasks), 5.0) == [2**26] * 70

        asyncio.run(scene())
        assert taken(db) == (0, 0)

    def test_a_batch_that_never_fits_any_more_does_not_wait(self) -> None:
        db = bulkhead(rate_limit={"rate": 1e9, "burst": 10, "max_wait": 10.0})
        guard = db.guard(abs)

        async def enter(batch: Any) -> None:
            async with batch:
                pass

        async def scene() -> None:
            first, second = guard.many(10), guard.many(10)
            async with db.attempt():
                db.reconfigure(rate_limit={"rate": 1e-3, "burst": 10, "max_wait": 1e6})
                async with asyncio.timeout(5.0):
                    db.reconfigure(bulkhead={"max_concurrent": 1, "max_wait": 1e6})
                    task = asyncio.ensure_future(enter(first))
                    await turns()
                    assert db.load().waiting == 1
                    db.reconfigure(rate_limit={"rate": 1e9, "burst": 5, "max_wait": 1e6})
                    with pytest.raises(RateLimitExceededError):
                        await enter(second)
                    with pytest.raises(LoadControlError):
                        await task

        asyncio.run(scene())
        assert taken(db) == (0, 0)

    def test_its_own_deadline_passes_before_a_place_comes(self) -> None:
        db = bulkhead(1, 60.0)
        called: list[int] = []

        @db.guard
        async def call() -> None:
            called.append(1)

        async def bounded() -> None:
            with deadline(0.02):
                await call()

        async def scene() -> None:
            with db.attempt():
                task = asyncio.ensure_future(bounded())
                await turns()
                time.sleep(0.03)  # the loop does not turn, so nobody could tell it
            with pytest.raises(BulkheadFullError):
                await asyncio.wait_for(task, 5.0)

        asyncio.run(scene())
        assert called == []
        assert taken(db) == (0, 0)

    def test_an_error_of_ours_is_a_refusal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        db = bulkhead(1, 60.0)
        told: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", told.append)

        @db.guard
        async def call() -> None: ...

        def broken(*_: object) -> None:
            raise RuntimeError("no alarm")

        async def scene() -> None:
            with db.attempt():
                monkeypatch.setattr(timers.RealTimers, "call_at", broken)
                result = await call.outcome()
                assert isinstance(result.error, BulkheadFullError)
                with pytest.raises(BulkheadFullError):
                    await call()

        asyncio.run(scene())
        assert len(told) == 2
        assert taken(db) == (0, 0)

    def test_who_throws_into_a_waiting_call_gets_it_back(self) -> None:
        db = bulkhead(1, 60.0)

        @db.guard
        async def call() -> None: ...

        async def scene() -> None:
            with db.attempt():
                one = call()
                one.send(None)
                with pytest.raises(LookupError):
                    one.throw(LookupError())

        asyncio.run(scene())
        assert taken(db) == (0, 0)

    @pytest.mark.parametrize("is_async", [False, True])
    def test_serving_others_is_no_part_of_a_call(self, is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        with FakeClock() as clock:
            db = bulkhead(1, 600.0, circuit_breaker={"timeout": 5.0})
            serve = Recovery.place_left

            def slowly(self: Recovery) -> None:
                clock.advance(8.0)
                serve(self)

            @db.guard(operation="call")
            async def call_async(event: asyncio.Event) -> None:
                await event.wait()

            async def waiting() -> None:
                async with db.attempt():
                    pass

            async def scene() -> None:
                event = asyncio.Event()
                task = asyncio.ensure_future(call_async(event))
                await turns()
                other = asyncio.ensure_future(waiting())
                await turns()
                monkeypatch.setattr(Recovery, "place_left", slowly)
                event.set()
                await task
                await asyncio.wait_for(other, 5.0)

            def scene_sync() -> None:
                @db.guard(operation="call")
                def call() -> None:
                    thread.start()
                    while db.load().waiting == 0:
                        time.sleep(0.0005)

                thread = threading.Thread(target=lambda: asyncio.run(waiting()))
                monkeypatch.setattr(Recovery, "place_left", slowly)
                call()
                thread.join(5.0)

            asyncio.run(scene()) if is_async else scene_sync()
            assert db.metrics("call").timeouts == 0
            assert taken(db) == (0, 0)

    def test_a_place_is_left_while_the_registry_is_busy(self) -> None:
        """A finaliser may end a call where its thread holds any lock."""
        db = bulkhead(1, 10.0)
        busy, over = threading.Event(), threading.Event()

        def hold() -> None:
            with db._registry.lock:
                busy.set()
                over.wait(5.0)

        waiter = threading.Thread(target=db.guard(abs), args=(1,))
        holder = threading.Thread(target=hold)
        with db.attempt():
            waiter.start()
            while db.load().waiting == 0:
                time.sleep(0.0005)
            holder.start()
            busy.wait(5.0)
            began = time.monotonic()
        assert time.monotonic() - began < 2.0
        over.set()
        waiter.join(5.0)
        holder.join(5.0)
        assert taken(db) == (0, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing to fork with")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
class TestForks:
    """The calls of its parent's other threads never end in a child."""

    def test_their_places_are_free(self) -> None:
        db = bulkhead(1, 10.0)
        parked, go = threading.Event(), threading.Event()

        @db.guard
        def call(event: threading.Event) -> str:
            parked.set()
            event.wait(5.0)
            return "in"

        done = threading.Event()
        done.set()
        threads = [threading.Thread(target=call, args=(go,)), threading.Thread(target=call, args=(done,))]
        threads[0].start()
        parked.wait(5.0)
        threads[1].start()
        while db.load().waiting == 0:
            time.sleep(0.0005)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that threads are forked is the point
            child = os.fork()
        if child == 0:
            signal.alarm(5)
            good = taken(db) == (0, 0) and call(done) == "in" and taken(db) == (0, 0)
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        go.set()
        for thread in threads:
            thread.join(5.0)
        assert taken(db) == (0, 0)

    def test_a_call_that_forks_ends_in_both(self) -> None:
        db = bulkhead(1)
        child = -1

        @db.guard
        def fork() -> None:
            nonlocal child
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                child = os.fork()

        fork()
        if child == 0:
            signal.alarm(5)
            good = db.load().in_flight == 0 and db.guard(abs)(-1) == 1 and db.load().in_flight == 0
            os._exit(0 if good else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert db.load().in_flight == 0


class TestInterrupts:
    def test_one_that_comes_while_a_deadline_is_armed_is_not_lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        db = Registry().integration("db", "database", circuit_breaker={"timeout": 5.0})
        came: list[int] = []
        before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))

        @db.guard
        async def call() -> str:
            await asyncio.sleep(0)
            return "in"

        async def scene() -> None:
            monkeypatch.setattr(timers.RealTimers, "alarm", lambda *_: interrupt())
            assert await call() == "in"

        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(scene())
        finally:
            signal.signal(signal.SIGINT, before)
            loop.close()
        assert came == [signal.SIGINT]
