"""The breaker under many threads: the half-open cap, the permits, the transitions told, the calls counted.

An open breaker is due at once here (`reset_timeout` 0), so the tests live at the instants of change.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import sys
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest

import failsoft
from failsoft import CircuitBreaker, CircuitBreakerConfig, CircuitState, IntegrationType, Registry, _core

DEEP = os.environ.get("FAILSOFT_DEEP") == "1"
FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # then races are real, and worth more tries
THREADS = 64 if DEEP else 16
ROUNDS = 20_000 if DEEP else 100  # of many threads in step
RACES = 200_000 if DEEP else 10_000 if FREE else 2_000  # of two threads in step
CALLS = 2_000_000 if DEEP else 200_000 if FREE else 20_000  # of each thread on its own


class Broken(ConnectionError):
    """What the dependency raises; a ConnectionError is a NETWORK failure."""


def config(**overrides: object) -> CircuitBreakerConfig:
    fields: dict[str, object] = {
        "failure_threshold": 1,
        "success_threshold": 1,
        "timeout": 30.0,
        "half_open_max_calls": 3,
        "reset_timeout": 0.0,
    }
    return CircuitBreakerConfig(**(fields | overrides))  # type: ignore[arg-type]


def run_together(work: Callable[[int], None], threads: int) -> None:
    """Run `work(number)` in that many threads, let go at once; the first error in any of them is raised."""
    start = threading.Barrier(threads)
    errors: list[BaseException] = []

    def body(number: int) -> None:
        try:
            start.wait(30)
            work(number)
        except BaseException as error:  # carried to the main thread
            errors.append(error)

    running = [threading.Thread(target=body, args=(number,), daemon=True) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(600 if DEEP else 60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def race(prepare: Callable[[], None], work: Callable[[int], None], check: Callable[[], None]) -> None:
    """Let two threads do `work` at the same instant, many times over.

    They meet by spinning: a barrier wakes its threads one after the other, microseconds apart, and the
    races looked for last nanoseconds.
    """
    begun, done = [0], [0]

    def wait_until(reached: list[int], number: int) -> None:
        spins = 0
        while reached[0] < number:
            spins += 1
            if spins % 1_000 == 0:
                time.sleep(0)  # the other one may need this core

    def lead() -> None:
        for number in range(1, RACES + 1):
            prepare()
            begun[0] = number
            for _ in range(number % 32):  # word of it takes its time to the other core: try all head starts
                pass
            work(0)
            wait_until(done, number)
            check()

    def follow() -> None:
        for number in range(1, RACES + 1):
            wait_until(begun, number)
            work(1)
            done[0] = number

    def body(thread: int) -> None:
        try:
            (lead, follow)[thread]()
        finally:
            begun[0] = done[0] = RACES + 1  # whatever happened to one, the other need not wait for it

    run_together(body, 2)


def trip(breaker: CircuitBreaker) -> None:
    breaker.failure(breaker.acquire())
    assert breaker.state == CircuitState.OPEN


@pytest.mark.parametrize("cap", [1, 3, 64])
def test_a_stampede_at_the_end_of_the_wait_never_exceeds_the_cap(cap: int) -> None:
    """All threads ask an open breaker whose wait is over, and no probe reports before all have asked."""
    breaker = CircuitBreaker(config(half_open_max_calls=cap), name="stampede")
    lines = threading.Barrier(THREADS)
    admitted: list[int] = []
    opened: Counter[int] = Counter()

    def settle() -> None:
        opened[len(admitted)] += 1
        for permit in admitted:
            breaker.ignore(permit)
        admitted.clear()
        breaker.reset()

    def work(_number: int) -> None:
        for _ in range(ROUNDS):
            if lines.wait(30) == 0:
                trip(breaker)
            lines.wait(30)
            permit = breaker.acquire()
            if permit:
                admitted.append(permit)
            if lines.wait(30) == 0:
                settle()

    run_together(work, THREADS)
    assert opened == {min(cap, THREADS): ROUNDS}


def test_of_two_threads_at_one_instant_one_gets_the_only_probe() -> None:
    breaker = CircuitBreaker(config(half_open_max_calls=1), name="pair")
    permits = [0, 0]

    def prepare() -> None:
        breaker.reset()
        trip(breaker)

    def ask(thread: int) -> None:
        permits[thread] = breaker.acquire()

    def check() -> None:
        assert sorted(map(bool, permits)) == [False, True]
        breaker.ignore(max(permits))

    race(prepare, ask, check)


def test_a_cap_of_one_keeps_threads_out_of_each_others_way() -> None:
    """The slot is given back and taken again all the time. Who holds it may count without a lock."""
    breaker = CircuitBreaker(config(half_open_max_calls=1, success_threshold=60_000), name="probes")
    trip(breaker)
    inside = 0
    admitted = [0] * 4

    def work(number: int) -> None:
        nonlocal inside
        for call in range(CALLS):
            permit = breaker.acquire()
            if permit:
                inside += 1  # not atomic: an update is lost if anybody else is here
                admitted[number] += 1
                (breaker.success if call % 1_000 == 0 else breaker.ignore)(permit)

    run_together(work, 4)
    assert breaker.state == CircuitState.HALF_OPEN
    assert inside == sum(admitted) > 0


def test_every_permit_comes_back() -> None:
    """After any mixture of outcomes, transitions and operators all slots of the cap are free again."""
    cap = 5
    breaker = CircuitBreaker(config(half_open_max_calls=cap, success_threshold=3), name="conservation")

    def work(number: int) -> None:
        dice = random.Random(number)
        for _ in range(CALLS):
            permit = breaker.acquire()
            if permit:
                dice.choice((breaker.success, breaker.failure, breaker.ignore))(permit)
            if dice.random() < 0.01:
                dice.choice((breaker.reset, breaker.force_open, breaker.force_closed, breaker.metrics_only))()

    run_together(work, 4)
    breaker.reset()
    trip(breaker)
    permits = [breaker.acquire() for _ in range(cap + 1)]
    assert all(permits[:cap]), f"{permits.count(0) - 1} slots leaked"
    assert permits[cap] == 0


def test_an_outcome_reported_by_two_threads_counts_once() -> None:
    """Both report the same probe's success; a streak of two must wait for a second probe."""
    breaker = CircuitBreaker(config(success_threshold=2), name="once")
    probe = 0

    def prepare() -> None:
        nonlocal probe
        breaker.reset()
        trip(breaker)
        probe = breaker.acquire()

    def check() -> None:
        assert breaker.state == CircuitState.HALF_OPEN

    race(prepare, lambda _thread: breaker.success(probe), check)


def test_no_success_of_a_streak_is_lost() -> None:
    """Two probes succeed at one instant: a streak of two is complete."""
    breaker = CircuitBreaker(config(success_threshold=2, half_open_max_calls=2), name="streak")
    probes = [0, 0]

    def prepare() -> None:
        trip(breaker)
        probes[:] = breaker.acquire(), breaker.acquire()

    def check() -> None:
        assert breaker.state == CircuitState.CLOSED

    race(prepare, lambda thread: breaker.success(probes[thread]), check)


def test_no_failure_of_a_row_is_lost() -> None:
    """Two calls fail at one instant: a threshold of two is reached."""
    breaker = CircuitBreaker(config(failure_threshold=2), name="row")

    def check() -> None:
        assert breaker.state == CircuitState.OPEN

    race(breaker.reset, lambda _thread: breaker.failure(breaker.acquire()), check)


def test_an_operator_is_not_overruled_by_traffic() -> None:
    """A forced breaker stays as it was forced, whatever outcomes race with the order."""
    breaker = CircuitBreaker(config(failure_threshold=2), name="operator")

    def work(number: int) -> None:
        dice = random.Random(number)
        for _ in range(CALLS):
            if number == 0:
                breaker.force_open()
                assert breaker.state == CircuitState.FORCED_OPEN
                breaker.reset()
            elif permit := breaker.acquire():
                dice.choice((breaker.success, breaker.failure))(permit)

    run_together(work, 4)


def flaky_guard(registry: Registry) -> tuple[Callable[[], object], Callable[[], failsoft.BreakerStatus]]:
    market = registry.integration(
        "openings", IntegrationType.MARKET_DATA, circuit_breaker=config(half_open_max_calls=2)
    )

    def flaky() -> None:
        if random.random() < 0.8:
            raise Broken

    return market.guard(flaky, operation="flaky", retry=False), market.status


def flaky_breaker(_registry: Registry) -> tuple[Callable[[], object], Callable[[], failsoft.BreakerStatus]]:
    breaker = CircuitBreaker(config(half_open_max_calls=2), name="openings")

    def call() -> None:
        permit = breaker.acquire()
        if permit:
            (breaker.failure if random.random() < 0.8 else breaker.success)(permit)

    return call, breaker.status


@pytest.mark.parametrize("flaky", [flaky_breaker, flaky_guard])
def test_each_opening_is_told_once(
    flaky: Callable[[Registry], tuple[Callable[[], object], Callable[[], failsoft.BreakerStatus]]],
) -> None:
    """Threads fail at once, over and over: every opening has one event, and late failures have none."""
    threads = 4
    told: list[failsoft.events.Transition] = []
    lost = failsoft.events.dropped()
    unsubscribe = failsoft.events.subscribe(told.append, failsoft.events.Transition)
    registry = Registry()
    try:
        call, status = flaky(registry)
        first = status().generation
        lines = threading.Barrier(threads)

        def work(_number: int) -> None:
            for number in range(CALLS // 20):
                if number % 100 == 0:
                    lines.wait(30)  # the queue of events is bounded: nobody goes on before it is empty
                with contextlib.suppress(Broken, failsoft.CircuitOpenError):
                    call()

        run_together(work, threads)
        final = status()
    finally:
        unsubscribe()
        registry.close()
    assert failsoft.events.dropped() == lost
    # Threads may overtake each other on their way to the queue; the generation says what followed what.
    told.sort(key=lambda event: event.generation)
    generations = [event.generation for event in told]
    assert generations == list(range(first + 1, final.generation + 1)), "told twice, or not at all"
    assert all(event.previous == before.state != event.state for before, event in pairwise(told))
    assert told[-1].state == final.state
    openings = [event for event in told if event.state == CircuitState.OPEN]
    assert {event.reason for event in openings} <= {"consecutive_failures", "probe_failed"}
    assert openings


@pytest.mark.parametrize("threads", [2, 4, 34])  # more than the stripes of counters
def test_no_call_is_lost_from_the_metrics(threads: int) -> None:
    """Every call of a guard that several threads share is in its counters, failures among them."""
    registry = Registry()
    try:
        market = registry.integration(
            "counts", IntegrationType.MARKET_DATA, circuit_breaker=config(failure_threshold=10_000)
        )

        def quote(number: int) -> int:
            if number % 10 == 0:
                raise Broken
            return number

        guarded = market.guard(quote, operation="quote", retry=False)

        def work(_number: int) -> None:
            for number in range(CALLS):
                try:
                    assert guarded(number) == number
                except Broken:
                    assert number % 10 == 0

        run_together(work, threads)
        metrics = guarded.metrics()
        assert metrics.count == threads * CALLS
        assert metrics.error_count == threads * CALLS // 10
        assert metrics.rejected == 0
    finally:
        registry.close()


@pytest.mark.skipif(not FREE, reason="this interpreter has a GIL")
def test_the_interpreter_still_runs_without_its_gil() -> None:
    """An extension that does not declare itself safe turns it on; the tests above would then say little."""
    assert not sys._is_gil_enabled()  # type: ignore[attr-defined,unused-ignore]


def test_threads_that_reconfigure_at_once_lose_no_block() -> None:
    settings = [config(failure_threshold=threshold) for threshold in (1, 2)]
    for _ in range(4):
        gc.collect()
        before = _core.arena_bytes()[0]
        moved = [CircuitBreaker(settings[0])]

        def reconfigure(number: int, moved: list[CircuitBreaker] = moved) -> None:
            for _ in range(RACES // 10):
                moved[0].reconfigure(settings[number % 2])

        run_together(reconfigure, 4)
        moved.clear()
        gc.collect()
        assert _core.arena_bytes()[0] == before
