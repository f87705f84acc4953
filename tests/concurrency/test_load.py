"""Load control under many threads and loops at once: no call too many, no place lost, nobody overtaken."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from failsoft import BulkheadFullError, Registry
from failsoft.testing import FakeClock

PATIENT = {"max_wait": 60.0}


def together(count: int, work: Callable[[int], object]) -> None:
    """Run `work` in so many threads that start at one moment."""
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        work(number)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30.0)
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"


class Peak:
    """How many were inside at once, as they saw it themselves."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self.most = 0
        self.calls = 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
            self.calls += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1


def settled(registry: Registry, name: str = "db") -> None:
    load = registry[name].load()
    assert load.in_flight == 0, "a place is lost"
    assert load.waiting == 0


class TestBulkhead:
    def test_threads_that_do_not_wait(self) -> None:
        registry, peak = Registry(), Peak()
        db = registry.integration("db", "database", bulkhead={"max_concurrent": 3})
        refused = []

        @db.guard
        def call() -> None:
            with peak:
                time.sleep(0.0001)

        def work(_: int) -> None:
            for _call in range(100):
                try:
                    call()
                except BulkheadFullError:
                    refused.append(1)

        together(8, work)
        assert peak.most <= 3
        assert refused
        assert peak.calls + len(refused) == 800
        settled(registry)

    def test_threads_that_wait(self) -> None:
        registry, peak = Registry(), Peak()
        db = registry.integration("db", "database", bulkhead={"max_concurrent": 2, **PATIENT})

        @db.guard
        def call() -> None:
            with peak:
                time.sleep(0.0001)

        together(8, lambda _: [call() for _call in range(40)])
        assert peak.most <= 2
        assert peak.calls == 320
        settled(registry)

    def test_threads_and_loops_share_it(self) -> None:
        registry, peak = Registry(), Peak()
        db = registry.integration("db", "database", bulkhead={"max_concurrent": 2, **PATIENT})

        @db.guard
        def call() -> None:
            with peak:
                time.sleep(0.0001)

        @db.guard
        async def acall() -> None:
            with peak:
                await asyncio.sleep(0.0001)

        async def many() -> None:
            await asyncio.gather(*(acall() for _ in range(40)))

        together(6, lambda number: asyncio.run(many()) if number % 2 else [call() for _ in range(40)])
        assert peak.most <= 2
        assert peak.calls == 240
        settled(registry)

    def test_waiters_that_are_cancelled_lose_nothing_for_others(self) -> None:
        registry, peak = Registry(), Peak()
        db = registry.integration("db", "database", bulkhead={"max_concurrent": 2, **PATIENT})

        @db.guard
        async def call() -> None:
            with peak:
                await asyncio.sleep(0.0002)

        async def scene() -> None:
            tasks = [asyncio.ensure_future(call()) for _ in range(200)]
            for number, task in enumerate(tasks):
                if number % 3 == 0:
                    task.cancel()
                if number % 7 == 0:
                    await asyncio.sleep(0.0003)
            await asyncio.gather(*tasks, return_exceptions=True)
            assert await asyncio.wait_for(call(), 10.0) is None

        together(2, lambda _: asyncio.run(scene()))
        assert peak.most <= 2
        settled(registry)

    def test_limits_that_change_all_the_time(self) -> None:
        registry, peak = Registry(), Peak()
        db = registry.integration("db", "database", bulkhead={"max_concurrent": 4, **PATIENT})
        ready = threading.Event()

        @db.guard
        def call() -> None:
            with peak:
                time.sleep(0.0001)

        def work(number: int) -> None:
            if number == 0:
                for turn in range(60):
                    db.reconfigure(bulkhead={"max_concurrent": 1 + turn % 4})
                    time.sleep(0.0005)
                ready.set()
            else:
                while not ready.is_set():
                    call()

        together(5, work)
        assert peak.most <= 4
        settled(registry)


class TestOrder:
    def test_who_waits_first_goes_first(self) -> None:
        registry = Registry()
        db = registry.integration("db", "database", bulkhead={"max_concurrent": 1, **PATIENT})
        inside, go, order = threading.Event(), threading.Event(), []

        @db.guard
        def hold() -> None:
            inside.set()
            go.wait(10.0)

        call = db.guard(order.append)
        holder = threading.Thread(target=hold, daemon=True)
        holder.start()
        inside.wait(10.0)
        threads = []
        for number in range(8):
            threads.append(threading.Thread(target=call, args=(number,), daemon=True))
            threads[-1].start()
            while db.load().waiting <= number:
                time.sleep(0.0005)
        go.set()
        for thread in [holder, *threads]:
            thread.join(10.0)
        assert order == list(range(8))
        settled(registry)


class TestRate:
    def test_no_more_than_the_rate_over_threads(self) -> None:
        with FakeClock() as clock:
            registry, peak = Registry(), Peak()
            db = registry.integration("db", "database", rate_limit={"rate": 1000.0, "burst": 5, **PATIENT})

            @db.guard
            def call() -> None:
                with peak:
                    pass

            done = threading.Event()

            def work(number: int) -> None:
                if number:
                    for _ in range(20):
                        call()
                    if peak.calls == 80:
                        done.set()
                    return
                passed = 0
                while not done.is_set():
                    clock.advance(0.001)
                    passed += 1
                    time.sleep(0.0002)
                    assert peak.calls <= 5 + passed

            together(5, work)
            assert peak.calls == 80
            assert registry["db"].load().waiting == 0
