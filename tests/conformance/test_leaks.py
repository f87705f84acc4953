"""Nothing is left behind: not by successes, failures and refusals, not by calls that nobody finishes.

A leak of one block a call shows as thousands of blocks, so bounds are loose and still tell. Where garbage is counted,
the collector is off until it is asked, or it would hide what only it can free.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import itertools
import sys
import tracemalloc
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from failsoft import CircuitOpenError, Fallback, FallbackType, Integration, with_integration_resilience

from .conftest import Make, drive

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
CALLS = 50_000
FAILURES = 20_000
SLACK = 900 if FREE_THREADED else 200
"""Blocks that come and go with the interpreter's own caches."""


def exhaust(iterator: Iterator[object]) -> None:
    collections.deque(iterator, maxlen=0)


def growth(work: Callable[[int], object], count: int) -> int:
    """Blocks that `count` turns of the work leave behind, after it has warmed up."""
    work(min(count, 2_000))
    grown = []
    while len(grown) < 3 and min(grown, default=SLACK) >= SLACK:  # a cache that grows once is no leak
        gc.collect()
        before = sys.getallocatedblocks()
        work(count)
        gc.collect()
        grown.append(sys.getallocatedblocks() - before)
    return min(grown)


def repeated(fn: Callable[[], object]) -> Callable[[int], None]:
    def work(count: int) -> None:
        for _ in itertools.repeat(None, count):
            fn()

    return work


def swallowing(fn: Callable[[], object], error: type[BaseException]) -> Callable[[], None]:
    def call() -> None:
        try:
            fn()
        except error:
            return
        raise AssertionError

    return call


def fail(*_: object) -> None:
    raise ConnectionError("gone")


async def echo(value: object = None) -> object:
    return value


async def fail_async() -> None:
    raise ConnectionError("gone")


# ---- success


def test_sync_successes_leave_nothing(steady: Integration) -> None:
    guarded = steady.guard(len)
    before = sys.getrefcount(guarded)
    assert growth(repeated(lambda: guarded("ab")), CALLS) < SLACK
    assert sys.getrefcount(guarded) == before


def test_outcomes_leave_nothing(steady: Integration) -> None:
    guarded = steady.guard(len)
    before = sys.getrefcount(guarded)
    assert growth(repeated(lambda: guarded.outcome("ab").data), CALLS) < SLACK
    assert sys.getrefcount(guarded) == before


def test_calls_of_every_shape_leave_nothing(make: Make) -> None:
    @make(retries=2).guard(failure=lambda value: None, details=lambda *args, **kwargs: {})
    def take(*args: object, **kwargs: object) -> object:
        return args

    thing = object()
    before = sys.getrefcount(thing)
    assert growth(repeated(lambda: take(thing, thing, a=thing, b=thing)), 5_000) < SLACK
    assert growth(repeated(lambda: take.outcome(thing, a=thing).data), 5_000) < SLACK
    assert sys.getrefcount(thing) == before


def transient(run: Callable[[], object]) -> int:
    """Bytes that are in use at the peak of a run and were not before it."""
    run()
    tracemalloc.start()
    try:
        run()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        run()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_a_sync_success_allocates_nothing(steady: Integration) -> None:
    """Neither for good nor for the time of the call: its peak is the bare call's."""

    def run(fn: Callable[[object], object]) -> None:
        exhaust(map(fn, itertools.repeat("ab", 1_000)))

    for bare in (len, lambda value: value):
        guarded = steady.guard(bare)
        run(guarded)
        blocks = []
        for _ in range(5):  # now and then the interpreter takes some for a cache of its own
            before = sys.getallocatedblocks()
            run(guarded)
            blocks.append(sys.getallocatedblocks() - before)
        assert min(blocks) <= 0
        assert transient(lambda guarded=guarded: run(guarded)) <= transient(lambda bare=bare: run(bare))


@pytest.mark.skipif(FREE_THREADED, reason="allocation is by thread there, and free lists are not shared")
def test_an_await_allocates_nothing_of_its_own(make: Make) -> None:
    """After warm-up, its peak is the bare one's."""
    guarded = make(retries=2).guard(echo)

    async def work(fn: Callable[..., Any]) -> None:
        for _ in itertools.repeat(None, 1_000):
            await fn(fn)

    assert transient(lambda: drive(work(guarded))) <= transient(lambda: drive(work(echo)))


def test_awaits_leave_nothing(steady: Integration) -> None:
    guarded = steady.guard(echo)
    thing = object()

    async def await_all(count: int) -> None:
        for _ in itertools.repeat(None, count):
            await guarded(thing)

    before = sys.getrefcount(guarded), sys.getrefcount(thing)
    assert growth(lambda count: drive(await_all(count)), CALLS) < SLACK
    assert (sys.getrefcount(guarded), sys.getrefcount(thing)) == before


def test_awaits_that_suspend_leave_nothing(make: Make) -> None:
    """Each of them arms a timer, disarms it, and joins the collector in between."""

    @make(retries=2).guard
    async def pause(*args: object, **kwargs: object) -> None:
        await asyncio.sleep(0)

    async def await_all(count: int) -> None:
        for _ in itertools.repeat(None, count):
            await pause(1, 2, 3, a=4, b=5, c=6)

    with asyncio.Runner() as runner:
        assert growth(lambda count: runner.run(await_all(count)), 10_000) < SLACK


def test_tasks_leave_nothing(steady: Integration) -> None:
    guarded = steady.guard(echo)

    async def await_all(count: int) -> None:
        for _ in itertools.repeat(None, count // 10):
            await asyncio.gather(*(guarded() for _ in range(10)))

    with asyncio.Runner() as runner:
        assert growth(lambda count: runner.run(await_all(count)), 5_000) < SLACK


def test_handed_over_calls_leave_nothing(steady: Integration) -> None:
    guarded = steady.guard(lambda value: echo(value))

    async def await_all(count: int) -> None:
        for _ in itertools.repeat(None, count):
            await guarded(3)

    assert growth(lambda count: drive(await_all(count)), 10_000) < SLACK


# ---- failures and refusals


def test_failures_leave_nothing(steady: Integration) -> None:
    guarded = steady.guard(fail)
    assert growth(repeated(swallowing(guarded, ConnectionError)), FAILURES) < SLACK
    assert growth(repeated(lambda: guarded.outcome().success), FAILURES // 4) < SLACK


def test_retries_and_fallbacks_leave_nothing(make: Make) -> None:
    handlers = [Fallback(FallbackType.CACHE, fail), Fallback(FallbackType.MOCK, lambda *args: args)]
    guarded = make(retries=2).guard(fail, fallbacks=handlers, details=lambda *args: {"args": args})
    assert growth(repeated(lambda: guarded(1)), 1_000) < SLACK
    assert growth(repeated(lambda: guarded.outcome(1).error.details), 1_000) < SLACK


def test_failures_of_awaits_leave_nothing(make: Make) -> None:
    guarded = make(retries=1).guard(fail_async)

    async def await_all(count: int) -> None:
        for _ in itertools.repeat(None, count):
            try:
                await guarded()
            except ConnectionError:
                pass
            await guarded.outcome()

    assert growth(lambda count: drive(await_all(count)), 1_500) < SLACK


def test_refusals_leave_nothing(steady: Integration) -> None:
    guarded = steady.guard(fail)
    steady.force_open()
    before = sys.getrefcount(guarded)
    assert growth(repeated(swallowing(guarded, CircuitOpenError)), FAILURES) < SLACK
    assert growth(repeated(lambda: guarded.outcome().error), FAILURES) < SLACK
    assert growth(repeated(lambda: str(guarded.outcome().error)), 1_000) < SLACK
    assert sys.getrefcount(guarded) == before


def test_refusals_of_awaits_leave_nothing(steady: Integration) -> None:
    guarded = steady.guard(echo)
    steady.force_open()
    thing = object()
    before = sys.getrefcount(thing)

    async def await_all(count: int) -> None:
        for _ in itertools.repeat(None, count):
            try:
                await guarded(thing)
            except CircuitOpenError:
                pass
            await guarded.outcome(thing)

    assert growth(lambda count: drive(await_all(count)), 5_000) < SLACK
    assert sys.getrefcount(thing) == before


def test_a_failure_leaves_no_cycle(steady: Integration) -> None:
    """What a failed call held is freed with its last reference, not by the collector some time later."""

    class Thing: ...

    def fail_with(thing: object) -> None:
        raise ConnectionError("gone")

    async def fail_with_async(thing: object) -> None:
        fail_with(thing)

    guarded, guarded_async = steady.guard(fail_with), steady.guard(fail_with_async, details=lambda thing: {})
    calls: list[Callable[[object], object]] = [
        swallowing_one(guarded),
        guarded.outcome,
        swallowing_one(lambda thing: drive(guarded_async(thing))),
        lambda thing: drive(guarded_async.outcome(thing)),
    ]
    gc.disable()
    try:
        for call in calls:
            thing = Thing()
            reference = weakref.ref(thing)
            call(thing)
            del thing
            assert reference() is None, call
    finally:
        gc.enable()


def swallowing_one(fn: Callable[[object], object]) -> Callable[[object], None]:
    def call(thing: object) -> None:
        try:
            fn(thing)
        except ConnectionError:
            del thing

    return call


# ---- what nobody finishes


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_never_awaited_calls_leave_nothing(make: Make) -> None:
    guarded = make(retries=2).guard(echo)
    thing = object()
    before = sys.getrefcount(thing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert growth(repeated(lambda: guarded(thing, *()) and None), 5_000) < SLACK
    assert sys.getrefcount(thing) == before


def test_abandoned_calls_leave_nothing(make: Make) -> None:
    @make(retries=2).guard
    async def pause(thing: object) -> None:
        await asyncio.sleep(0)

    thing = object()
    before = sys.getrefcount(thing)

    def abandon() -> None:
        pause(thing).send(None)

    def close() -> None:
        coroutine = pause(thing)
        coroutine.send(None)
        coroutine.close()

    assert growth(repeated(abandon), 5_000) < SLACK
    assert growth(repeated(close), 5_000) < SLACK
    assert sys.getrefcount(thing) == before


class Holder:
    """Keeps the call that knows it."""

    kept: Any


@pytest.mark.parametrize("stage", ["never awaited", "suspended", "finished", "refused", "failed", "recovering"])
def test_a_call_that_its_argument_keeps_is_collected(make: Make, stage: str) -> None:
    """`self.pending = self.fetch()` is a cycle, at whatever point the call stands."""
    integration = make(retries=1)

    async def wait(holder: Holder) -> None:
        if stage == "suspended":
            await asyncio.sleep(0)
        if stage == "recovering" or stage == "failed":
            raise ConnectionError("gone")

    async def pause(holder: Holder) -> None:
        await asyncio.sleep(0)

    handlers = [Fallback(FallbackType.CACHE, pause)] if stage == "recovering" else []
    guarded = integration.guard(wait, fallbacks=handlers)
    if stage == "refused":
        integration.force_open()
    holder = Holder()
    holder.kept = guarded(holder)
    reference = weakref.ref(holder)
    if stage != "never awaited":
        try:
            for _ in range(3 if stage == "failed" else 1):
                holder.kept.send(None)
        except (StopIteration, CircuitOpenError, ConnectionError) as error:
            error.__traceback__ = None
    del holder
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert reference() is None
    assert [str(warning.message) for warning in caught] == (
        [f"coroutine '{wait.__qualname__}' was never awaited"] if stage == "never awaited" else []
    )


@pytest.mark.skipif(FREE_THREADED, reason="guards of functions live as long as the process there")
def test_a_guard_that_its_function_knows_is_collected(make: Make) -> None:
    """Guards of bound methods, of closures, and of what remembers its last result or refusal."""
    integration = make()

    class Client:
        def __init__(self) -> None:
            self.guarded = integration.guard(self.ask)
            self.last: Any = None

        def ask(self) -> None: ...

    def closure() -> Callable[[], object]:
        kept: list[object] = []
        guarded = integration.guard(lambda: kept)
        kept.append(guarded)
        return guarded  # type: ignore[no-any-return]

    def client_with(last: Callable[[Client], object]) -> Client:
        client = Client()
        client.last = last(client)
        return client

    def refused(client: Client) -> object:
        try:
            client.guarded()
        except CircuitOpenError as error:
            return error.with_traceback(None)
        raise AssertionError

    references = [
        weakref.ref(closure()),
        weakref.ref(Client()),
        weakref.ref(client_with(lambda client: client.guarded.outcome())),
    ]
    integration.force_open()
    references += [
        weakref.ref(client_with(lambda client: client.guarded.outcome())),
        weakref.ref(client_with(lambda client: client.guarded.outcome().error)),
        weakref.ref(client_with(refused)),
    ]
    gc.collect()
    assert [reference() for reference in references] == [None] * 6


@pytest.mark.skipif(FREE_THREADED, reason="guards of functions live as long as the process there")
def test_guards_that_come_and_go_leave_nothing(make: Make) -> None:
    integration = make()
    assert growth(repeated(lambda: integration.guard(len)("ab")), 2_000) < 3 * SLACK


def test_integration_calls_leave_nothing(make: Make) -> None:
    integration = make()

    def block() -> None:
        with integration.attempt():
            pass

    assert growth(repeated(lambda: integration.call(len, "ab")), 5_000) < SLACK
    assert growth(repeated(block), 5_000) < SLACK


def test_fallbacks_made_for_one_call_do_not_pile_up(make: Make) -> None:
    """The seed's own way to call: each call brings its own closures, and what they hold has to go with it."""
    integration = make("dependency")
    references: list[weakref.ref[object]] = []

    class Request: ...

    def serve() -> None:
        request = Request()
        references.append(weakref.ref(request))
        handlers = [Fallback(FallbackType.CACHE, lambda: (request, "cached")[1])]
        result = with_integration_resilience(
            "database", "dependency", fail, fallbacks=handlers, registry=integration._registry
        )
        assert result.data == "cached"

    for _ in range(300):
        serve()
    gc.collect()
    kept = sum(reference() is not None for reference in references)
    assert kept <= 64


def test_listeners_hold_no_events(steady: Integration) -> None:
    def switch() -> None:
        steady.force_open()
        steady.reset()

    assert growth(repeated(switch), 2_000) < SLACK
