"""Batches: n items, one passage through the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy
import pytest

from failsoft import (
    BulkheadFullError,
    CircuitOpenError,
    Integration,
    RateLimitExceededError,
    Registry,
)
from failsoft.testing import FakeClock


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


def made(**options: Any) -> tuple[Integration, Any]:
    db = Registry().integration("db", "database", **options)
    return db, db.guard(abs, operation="op")


def fail(guard: Any, n: int = 10, error: type[BaseException] = ConnectionError) -> None:
    with pytest.raises(error), guard.many(n):
        raise error


class TestSuccess:
    def test_n_calls_of_an_nth_each(self, clock: FakeClock) -> None:
        _, guard = made()
        with guard.many(1000) as batch:
            clock.advance(2.0)
        metrics = guard.metrics()
        assert batch.n == metrics.count == 1000
        assert metrics.avg_latency == 0.002
        assert metrics.p99_latency == pytest.approx(0.002, rel=0.008)
        assert metrics.recent.count == 1000

    def test_exact_durations(self, clock: FakeClock) -> None:
        _, guard = made()
        with guard.many(5) as batch:
            batch.record_many(numpy.array([1_000_000, 2_000_000], dtype=numpy.int64))
            batch.record_many(numpy.array([3_000_000], dtype=numpy.int64))
            clock.advance(0.010)
        metrics = guard.metrics()
        assert metrics.count == 5
        assert metrics.avg_latency == 0.002  # 6 ms are known, the other two share 4 ms
        with guard.many(400) as batch:
            batch.record_many(numpy.full(400, 1000, dtype=numpy.int64))
        assert guard.metrics().count == 405

    def test_it_ends_a_row_of_failures(self) -> None:
        db, guard = made()
        fail(guard)
        assert db.status().failures == 1
        with guard.many(3):
            pass
        assert db.status().failures == 0

    def test_awaited(self, clock: FakeClock) -> None:
        _, guard = made()

        async def scene() -> None:
            async with guard.many(10):
                clock.advance(1.0)

        asyncio.run(scene())
        assert guard.metrics().avg_latency == 0.1

    def test_slow_items_count_as_slow(self, clock: FakeClock) -> None:
        db, guard = made(circuit_breaker={"slow_call": 0.1, "slow_rate": 0.5, "minimum_calls": 10})
        with guard.many(10) as batch:
            batch.record_many(numpy.full(4, 200_000_000, dtype=numpy.int64))
        assert db.breaker.state == "CLOSED"
        with guard.many(10):
            clock.advance(2.0)
        assert db.breaker.state == "OPEN"

    def test_a_pass_through_counts_nothing(self) -> None:
        registry = Registry()
        guard = registry.integration("db", "database").guard(abs, operation="op")
        registry.disable()
        with guard.many(10) as batch:
            batch.record_many(numpy.array([1], dtype=numpy.int64))
        assert guard.metrics().count == 0


class TestFailure:
    def test_an_exception_is_one_in_the_row_and_n_in_the_rates(self) -> None:
        db, guard = made()
        fail(guard, 10)
        status = db.status()
        assert (status.failures, status.failure_rate, status.sample_size) == (1, 1.0, 10)
        assert guard.metrics().error_count == 10
        for _ in range(4):
            fail(guard, 10)
        assert db.breaker.state == "OPEN"
        with pytest.raises(CircuitOpenError), guard.many(10):
            pytest.fail("let in")

    def test_what_trips_nothing_for_a_call_trips_nothing_here(self) -> None:
        db, guard = made(circuit_breaker={"failure_threshold": 1})
        fail(guard, 10, ValueError)
        fail(guard, 10, KeyboardInterrupt)
        assert db.breaker.state == "CLOSED"
        assert db.status().sample_size == 0

    def test_some_have_failed(self) -> None:
        db, guard = made(circuit_breaker={"failure_rate": 0.5, "minimum_calls": 10})
        for _ in range(10):
            with guard.many(10) as batch:
                batch.fail(1)
                batch.fail(2)
        status = db.status()
        assert (status.state, status.failures, status.failure_rate) == ("CLOSED", 1, 0.3)
        with guard.many(100) as batch:
            batch.fail(90)
        assert (db.breaker.state, db.status().reason) == ("OPEN", "failure_rate")

    def test_all_have_failed(self) -> None:
        db, guard = made()
        for _ in range(5):
            with guard.many(2) as batch:
                batch.fail(2)
        assert db.breaker.state == "OPEN"

    def test_a_probe_has_one_outcome(self, clock: FakeClock) -> None:
        for failing, state in ((0, "CLOSED"), (1, "OPEN")):
            db, guard = made(circuit_breaker={"failure_threshold": 1, "success_threshold": 1, "reset_timeout": 1.0})
            fail(guard)
            clock.advance(1.0)
            with guard.many(10) as batch:
                batch.fail(failing)
            assert db.breaker.state == state
            assert db.status().probes == 0

    def test_too_slow_on_average_is_a_timeout(self, clock: FakeClock) -> None:
        db, guard = made(circuit_breaker={"timeout": 1.0})
        with guard.many(10):
            clock.advance(9.0)
        assert db.status().failures == 0
        with guard.many(10):
            clock.advance(10.0)
        assert (db.status().failures, guard.metrics().timeouts) == (1, 10)

    def test_an_end_in_another_time_than_the_durations(self) -> None:
        """The operator's word has come in between: nothing of it counts in the rates, all of it in the metrics."""
        db, guard = made(circuit_breaker={"slow_call": 1.0})
        with guard.many(6) as batch:
            batch.record_many(numpy.array([1, 2_000_000_000, 3, 4, 5]))
            db.force_open()
            batch.fail(4)
        metrics = guard.metrics()
        assert (metrics.count, metrics.error_count) == (6, 4)
        assert guard._operation.totals_of(False)[2:] == (4, 1)
        db.reset()
        assert db.status().sample_size == 0


class TestLoad:
    def test_n_tokens_and_one_place(self, clock: FakeClock) -> None:
        db, guard = made(rate_limit={"rate": 10.0, "burst": 20}, bulkhead={"max_concurrent": 1})
        with guard.many(15):
            load = db.load()
            assert (load.tokens, load.in_flight) == (5.0, 1)
            with pytest.raises(BulkheadFullError), guard.many(5):
                pytest.fail("let in")
        with pytest.raises(RateLimitExceededError) as caught, guard.many(8):
            pytest.fail("let in")
        assert caught.value.retry_after == 0.3
        assert db.load().tokens == 5.0  # whole or not at all
        clock.advance(0.3)
        with guard.many(8):
            pass
        assert db.load().in_flight == 0

    def test_it_waits_for_all_it_needs(self, clock: FakeClock) -> None:
        db, guard = made(rate_limit={"rate": 10.0, "burst": 10, "max_wait": 5.0})

        async def batch() -> float:
            async with guard.many(10):
                return clock.now

        async def scene() -> None:
            began = await batch()
            task = asyncio.ensure_future(batch())
            for _ in range(11):
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                clock.advance(0.1)
            assert await task - began == pytest.approx(1.0, abs=0.1001)

        asyncio.run(scene())
        assert db.load().waiting == 0

    def test_more_than_ever_fits_is_an_error(self) -> None:
        _, guard = made(rate_limit={"rate": 10.0, "burst": 10})
        with pytest.raises(ValueError, match="n must be an integer from 1 to 10, as many as rate_limit"):
            guard.many(11)


class TestMistakes:
    def test_values(self) -> None:
        _, guard = made()
        for n, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), (2**40, ValueError)):
            with pytest.raises(error, match="n must be an integer"):
                guard.many(n)
        with guard.many(2) as batch:
            with pytest.raises(ValueError, match="from 0 to 2"):
                batch.fail(3)
            with pytest.raises(ValueError, match="at most 2 more"):
                batch.record_many(numpy.zeros(3, dtype=numpy.int64))
            with pytest.raises(ValueError, match="negative"):
                batch.record_many(numpy.array([-1], dtype=numpy.int64))
            with pytest.raises(TypeError, match="int64"):
                batch.record_many(numpy.zeros(1))
        assert guard.metrics().count == 2

    def test_once_only(self) -> None:
        _, guard = made()
        batch = guard.many(1)
        with batch:
            pass
        with pytest.raises(RuntimeError, match="once"), batch:
            pytest.fail("let in")
