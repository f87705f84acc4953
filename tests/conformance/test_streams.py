"""Streams: connections through the breaker, silence as a failure, sequences, last items, buffers."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from failsoft import (
    CircuitState,
    FallbackType,
    Integration,
    IntegrationError,
    IntegrationTimeoutError,
    StreamOverflowError,
    deadline,
    events,
    remaining,
    subscribe,
)  # fmt: skip
from failsoft.testing import FakeClock

from .conftest import Make

WAITS = {"initial_delay": 1.0, "max_delay": 8.0, "jitter": False}


class Feed:
    """A peer under a test's hand: each connection is a script of items, errors to raise, and futures to wait for."""

    def __init__(self, *scripts: list[Any]) -> None:
        self.scripts = list(scripts)
        self.connections = 0
        self.closed = 0

    async def __call__(self, *_position: Any) -> AsyncIterator[Any]:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        try:
            for step in script:
                if isinstance(step, BaseException):
                    raise step
                if callable(step):
                    await step()
                else:
                    yield step
        finally:
            self.closed += 1

    def connect(self) -> AsyncIterator[Any]:
        return self()


async def silence() -> None:
    await asyncio.get_running_loop().create_future()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def take(stream: Any, count: int) -> list[Any]:
    return [await anext(stream) for _ in range(count)]


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    told: list[Any] = []
    end = subscribe(told.append)
    yield told
    end()


@pytest.fixture
def market(make: Make) -> Integration:
    return make("market", retry_policy=WAITS, circuit_breaker={"timeout": 30.0})


def kinds(heard: list[Any]) -> list[str]:
    return [type(event).__name__ for event in heard]


# ---- passing items on


def test_items_come_as_from_the_bare_iterator_and_the_end_may_be_an_end(market: Integration) -> None:
    feed = Feed([1, None, (2, 3), StopIteration])

    async def main() -> list[Any]:
        stream = market.stream(lambda: Feed([1, None, (2, 3)]).connect(), stale_after=1.0, ends=True)
        items = [item async for item in stream]
        assert [item async for item in stream] == []
        assert stream.status().state == "closed"
        return items

    assert asyncio.run(main()) == [1, None, (2, 3)]
    assert feed.connections == 0


@pytest.mark.parametrize("kind", ["generator", "context", "awaited", "awaited context", "both"])
def test_connect_may_give_whatever_clients_give(market: Integration, kind: str) -> None:
    events: list[str] = []

    class Socket:
        def __aiter__(self) -> AsyncIterator[int]:
            return Feed([1, 2]).connect()

    class Context(Socket):
        async def __aenter__(self) -> Socket:
            events.append("enter")
            return self if kind == "both" else Socket()

        async def __aexit__(self, *error: object) -> None:
            assert error == (None, None, None)
            events.append("exit")

    async def awaited() -> Any:
        return Context() if kind == "awaited context" else Socket()

    makers: dict[str, Callable[[], Any]] = {
        "generator": Feed([1, 2]).connect, "context": Context, "both": Context, "awaited": awaited,
        "awaited context": awaited,
    }  # fmt: skip

    async def main() -> list[int]:
        async with market.stream(makers[kind], stale_after=1.0, ends=True) as stream:
            return [item async for item in stream]

    assert asyncio.run(main()) == [1, 2]
    assert events == (["enter", "exit"] if "context" in kind or kind == "both" else [])


def test_what_is_no_async_iterable_is_an_error_and_ends_it(market: Integration) -> None:
    async def main() -> None:
        stream = market.stream(lambda: 7, stale_after=1.0)  # type: ignore[arg-type,return-value]
        with pytest.raises(TypeError, match="async iterable, or a context manager of one, got 7"):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(main())


def test_one_consumer_at_a_time(market: Integration) -> None:
    async def main() -> None:
        async with market.stream(Feed([silence]).connect, stale_after=None) as stream:
            first = asyncio.ensure_future(anext(stream))
            await settle()
            with pytest.raises(RuntimeError, match="iterated already"):
                await anext(stream)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first

    asyncio.run(main())


def test_a_step_is_awaited_once(market: Integration) -> None:
    async def main() -> None:
        stream = market.stream(Feed([1, 2]).connect, stale_after=1.0)
        step: Awaitable[Any] = stream.__anext__()
        assert await step == 1
        with pytest.raises(RuntimeError, match="already awaited"):
            await step
        stream.__anext__().close()  # never begun: nothing is lost
        with pytest.raises(KeyError):
            stream.__anext__().throw(KeyError())
        assert await anext(stream) == 2
        await stream.aclose()

    asyncio.run(main())


# ---- connections that end


def test_a_failed_connection_is_followed_by_another_after_a_backoff(
    market: Integration, clock: FakeClock, heard: list[Any]
) -> None:
    feed = Feed([ConnectionResetError()], [ConnectionRefusedError()], [1, ConnectionResetError("gone")], [2, silence])

    async def main() -> None:
        async with market.stream(feed.connect, stale_after=5.0) as stream:
            began = clock.now
            assert await anext(stream) == 1
            assert clock.now - began == pytest.approx(1.0 + 2.0)
            assert await anext(stream) == 2  # the first item has set the backoff back
            assert clock.now - began == pytest.approx(3.0 + 1.0)
            assert stream.metrics().reconnects == 1
            assert stream.status().connections == 4

    asyncio.run(main())
    assert kinds(heard) == ["StreamLost", "StreamLost", "StreamLost", "StreamReconnected"]
    assert [event.delay for event in heard[:3]] == [1.0, 2.0, 1.0]
    assert heard[3].silent_for == pytest.approx(1.0)
    assert market.metrics("stream").count == 5  # three that failed, and two that came to an item
    assert market.metrics("stream").error_count == 3
    text = str(market.explain())
    assert "stream: the connection is lost, the next try in" in text
    assert "stream: connected again" in text


def test_an_end_that_was_not_asked_for_is_a_failure(market: Integration, clock: FakeClock, heard: list[Any]) -> None:
    async def main() -> None:
        async with market.stream(Feed([1], [2, silence]).connect, stale_after=5.0) as stream:
            assert await take(stream, 2) == [1, 2]
            assert isinstance(stream.status().error, IntegrationError)

    asyncio.run(main())
    assert (heard[0].category, heard[0].error.reason) == ("NETWORK", "ended")


@pytest.mark.parametrize("error", [ValueError("nonsense"), PermissionError("no")])
def test_errors_that_are_not_retried_end_the_stream(market: Integration, error: Exception) -> None:
    feed = Feed([1, error])

    async def main() -> None:
        stream = market.stream(feed.connect, stale_after=1.0)
        assert await anext(stream) == 1
        with pytest.raises(type(error)) as caught:
            await anext(stream)
        assert caught.value is error
        assert stream.status().state == "closed"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(main())
    assert feed.connections == 1


def test_tries_in_a_row_may_be_limited(market: Integration, clock: FakeClock) -> None:
    feed = Feed([ConnectionResetError()])

    async def main() -> None:
        stream = market.stream(feed.connect, stale_after=1.0, max_reconnects=3)
        with pytest.raises(ConnectionResetError):
            await anext(stream)

    asyncio.run(main())
    assert feed.connections == 4


def test_connections_pass_the_breaker(make: Make, clock: FakeClock) -> None:
    market = make("market", retry_policy=WAITS, threshold=2, circuit_breaker={"reset_timeout": 60.0})
    feed = Feed([ConnectionResetError()], [ConnectionResetError()], [1, silence])

    async def main() -> None:
        async with market.stream(feed.connect, stale_after=5.0) as stream:
            began = clock.now
            assert await anext(stream) == 1
            assert 60.0 <= clock.now - began <= 63.1
        assert market.breaker.state is CircuitState.HALF_OPEN
        assert market.metrics("stream").rejected >= 1

    asyncio.run(main())


def test_a_connection_that_takes_too_long_is_given_up(market: Integration, clock: FakeClock) -> None:
    tries = 0

    async def connect() -> AsyncIterator[int]:
        nonlocal tries
        tries += 1
        if tries == 1:
            await silence()
        return Feed([1, silence]).connect()

    async def main() -> None:
        async with market.stream(connect, stale_after=1.0) as stream:
            first = asyncio.ensure_future(anext(stream))
            await settle()
            clock.advance(market.config.timeouts.connect)
            assert await first == 1
            assert isinstance(stream.status().error, IntegrationTimeoutError)

    asyncio.run(main())


# ---- silence


async def _silent(stream: Any, clock: FakeClock) -> asyncio.Future[Any]:
    """Somebody waits for an item that does not come."""
    waiting = asyncio.ensure_future(anext(stream))
    await settle()
    return waiting


def test_silence_is_a_failure_of_its_own(market: Integration, clock: FakeClock, heard: list[Any]) -> None:
    feed = Feed([1, silence], [2, silence])

    async def main() -> None:
        async with market.stream(feed.connect, stale_after=2.0) as stream:
            assert await anext(stream) == 1
            waiting = await _silent(stream, clock)
            assert stream.status().state == "live"
            clock.advance(1.999)
            await settle()
            assert kinds(heard) == []
            clock.advance(0.001)
            assert kinds(heard) == ["StreamStale"]  # at once, and not when the connection has been closed
            assert stream.status().state == "stale"
            assert await waiting == 2
            assert feed.closed == 1
            metrics = stream.metrics()
            assert (metrics.stale, metrics.reconnects) == (1, 1)

    asyncio.run(main())
    assert market.metrics("stream").timeouts == 1
    assert market.metrics("stream").error_count == 1
    assert "stale, nothing came for 2 s" in str(market.explain())


def test_silence_before_the_first_item_counts_too_and_opens_the_breaker(make: Make, clock: FakeClock) -> None:
    market = make("market", retry_policy=WAITS, threshold=1)

    async def main() -> None:
        stream = market.stream(Feed([silence]).connect, stale_after=2.0)
        waiting = await _silent(stream, clock)
        clock.advance(2.0)
        assert market.breaker.state is CircuitState.OPEN
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await stream.aclose()

    asyncio.run(main())


def test_a_slow_consumer_is_no_silence(market: Integration, clock: FakeClock, heard: list[Any]) -> None:
    later = asyncio.Event()

    async def main() -> None:
        async with market.stream(Feed([1, later.wait, 2, 3]).connect, stale_after=2.0, ends=True) as stream:
            waiting = await _silent(stream, clock)
            assert await waiting == 1
            clock.advance(100.0)  # nobody waits
            await settle()
            waiting = await _silent(stream, clock)
            clock.advance(1.5)
            later.set()
            assert await waiting == 2
            clock.advance(100.0)
            assert await anext(stream) == 3

    asyncio.run(main())
    assert kinds(heard) == []


class Counting:
    """Real enough timers that count what is set and called off."""

    def __init__(self, clock: FakeClock) -> None:
        self._real = clock.call_later
        self.set = self.called_off = 0
        clock.call_later = self  # type: ignore[method-assign,assignment]

    def __call__(self, loop: Any, seconds: float, callback: Any) -> Any:
        self.set += 1
        call_off = self._real(loop, seconds, callback)

        def off() -> None:
            self.called_off += 1
            call_off()

        return off


def test_one_alarm_serves_all_waits(market: Integration, clock: FakeClock) -> None:
    async def feed() -> AsyncIterator[int]:
        for item in range(1000):
            await asyncio.sleep(0)
            yield item

    async def main() -> None:
        stream = market.stream(feed, stale_after=2.0, ends=True)
        await anext(stream)
        counting = Counting(clock)
        await take(stream, 500)
        assert (counting.set, counting.called_off) == (0, 0)  # the one that the first wait has set goes on
        clock.advance(10.0)
        await take(stream, 499)
        assert (counting.set, counting.called_off) == (1, 0)

    asyncio.run(main())


def test_an_alarm_is_aimed_anew_at_the_present_wait(market: Integration, clock: FakeClock, heard: list[Any]) -> None:
    go = [asyncio.Event() for _ in range(3)]

    async def main() -> None:
        script = [go[0].wait, 1, go[1].wait, 2, go[2].wait, 3]
        async with market.stream(Feed(script).connect, stale_after=2.0) as stream:
            for number in range(2):
                waiting = await _silent(stream, clock)
                clock.advance(1.5)
                go[number].set()
                assert await waiting == number + 1
            waiting = await _silent(stream, clock)
            clock.advance(1.999)
            assert kinds(heard) == []
            clock.advance(0.001)
            assert kinds(heard) == ["StreamStale"]
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(main())


@pytest.mark.parametrize("first", ["alarm", "outer"])
def test_a_cancellation_from_elsewhere_wins_over_silence(market: Integration, clock: FakeClock, first: str) -> None:
    async def main() -> None:
        async with market.stream(Feed([1, silence]).connect, stale_after=2.0) as stream:
            await anext(stream)
            waiting = await _silent(stream, clock)
            if first == "outer":
                waiting.cancel()
                clock.advance(2.0)
            else:
                clock.advance(2.0)
                waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert isinstance(waiting, asyncio.Task)
            assert waiting.cancelling() == 1

    asyncio.run(main())


def test_one_that_takes_long_to_be_heard_is_not_swallowed(market: Integration, clock: FakeClock) -> None:
    """The connection waits for a task, which takes its time to end: the cancellation is under way, and time runs out."""
    released = asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await silence()
        finally:
            await released.wait()

    async def feed() -> AsyncIterator[int]:
        yield 1
        await asyncio.ensure_future(slow_to_end())

    async def main() -> None:
        stream = market.stream(feed, stale_after=2.0)
        await anext(stream)
        waiting = await _silent(stream, clock)
        clock.advance(1.0)
        waiting.cancel()
        await settle()
        clock.advance(1.0)
        released.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await stream.aclose()

    asyncio.run(main())


def test_silence_leaves_no_request_to_cancel_behind(market: Integration, clock: FakeClock) -> None:
    async def main() -> None:
        feed = Feed([1, silence], [2, silence])
        async with market.stream(feed.connect, stale_after=2.0) as stream:

            async def consume() -> int:
                task = asyncio.current_task()
                assert task is not None
                assert await take(stream, 2) == [1, 2]
                async with asyncio.timeout(None):
                    await asyncio.sleep(0)
                return task.cancelling()

            waiting = asyncio.ensure_future(consume())
            await settle()
            clock.advance(2.0)
            assert await waiting == 0

    asyncio.run(main())


def test_an_item_that_comes_although_the_wait_was_cancelled_is_handed_on(market: Integration, clock: FakeClock) -> None:
    async def stubborn() -> AsyncIterator[int]:
        yield 1
        try:
            await silence()
        except asyncio.CancelledError:
            yield 2
        await silence()

    async def main() -> None:
        async with market.stream(stubborn, stale_after=2.0) as stream:
            await anext(stream)
            waiting = await _silent(stream, clock)
            clock.advance(2.0)
            assert await waiting == 2
            assert isinstance(waiting, asyncio.Task)
            assert waiting.cancelling() == 0
            assert stream.metrics().stale == 1

    asyncio.run(main())


def test_what_hangs_while_it_is_closed_is_cancelled_again(market: Integration, clock: FakeClock) -> None:
    @asynccontextmanager
    async def connection() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await silence()  # a goodbye that nobody answers

    connections = 0

    async def feed() -> AsyncIterator[int]:
        nonlocal connections
        connections += 1
        yield connections
        async with connection():
            await silence()

    async def main() -> None:
        stream = market.stream(feed, stale_after=2.0, close_timeout=0.5)
        await anext(stream)
        waiting = await _silent(stream, clock)
        clock.advance(2.0)
        await settle()
        assert not waiting.done()
        clock.advance(0.5)
        assert await waiting == 2
        await stream.aclose()

    asyncio.run(main())


def test_closing_takes_a_bounded_time(market: Integration, clock: FakeClock) -> None:
    class Hangs:
        async def __aenter__(self) -> AsyncIterator[Any]:
            return Feed([1, silence]).connect()

        async def __aexit__(self, *_error: object) -> None:
            await silence()

    async def main() -> None:
        stream = market.stream(Hangs, stale_after=2.0, close_timeout=0.5)
        await anext(stream)
        closing = asyncio.ensure_future(stream.aclose())
        await settle()
        assert not closing.done()
        clock.advance(0.5)
        await closing

    asyncio.run(main())


def test_aclose_ends_who_waits(market: Integration) -> None:
    async def main() -> None:
        stream = market.stream(Feed([1, silence]).connect, stale_after=60.0)
        consumer = asyncio.ensure_future(_collect(stream))
        await settle()
        await stream.aclose()
        assert await consumer == [1]
        assert isinstance(consumer, asyncio.Task)
        assert consumer.cancelling() == 0

    asyncio.run(main())


async def _collect(stream: Any) -> list[Any]:
    return [item async for item in stream]


def test_an_item_given_up_by_its_consumer_breaks_nothing_off(market: Integration, heard: list[Any]) -> None:
    feed = Feed([1, silence], [2, silence])

    class Socket:  # cancelling one read leaves it usable, as it does a websocket
        def __init__(self) -> None:
            self.queue: asyncio.Queue[int] = asyncio.Queue()
            self.entered = 0

        async def __aenter__(self) -> Socket:
            self.entered += 1
            return self

        async def __aexit__(self, *_error: object) -> None:
            pass

        async def __aiter__(self) -> AsyncIterator[int]:
            while True:
                yield await self.queue.get()

    async def main() -> None:
        socket = Socket()
        async with market.stream(lambda: socket, stale_after=60.0) as stream:
            for number in range(3):
                waiting = asyncio.ensure_future(anext(stream))
                await settle()
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                socket.queue.put_nowait(number)
                assert await anext(stream) == number
            assert socket.entered == 1
        async with market.stream(feed.connect, stale_after=60.0) as stream:
            assert await anext(stream) == 1
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.01)
            assert await anext(stream) == 2  # a generator is over then: another connection, but nobody's failure

    asyncio.run(main())
    assert kinds(heard) == ["StreamReconnected"]


def test_a_dropped_stream_goes_and_its_alarm_does_nothing(market: Integration, clock: FakeClock) -> None:
    async def main() -> None:
        stream = market.stream(Feed([lambda: asyncio.sleep(0), 1, silence]).connect, stale_after=2.0)
        await anext(stream)
        assert stream._armed  # by the wait for that item
        ref = weakref.ref(stream)
        del stream
        gc.collect()
        assert ref() is None
        clock.advance(10.0)

    asyncio.run(main())


# ---- sequences and last items


def _gaps(market: Integration, *scripts: list[Any], **options: Any) -> Any:
    items = sum(1 for script in scripts for step in script if isinstance(step, (int, tuple, dict)))

    async def main() -> Any:
        async with market.stream(Feed(*scripts, [silence]).connect, stale_after=50.0, **options) as stream:
            await take(stream, items)
            return stream.metrics()

    return asyncio.run(main())


def test_gaps_duplicates_and_disorder_are_counted_and_told(
    market: Integration, clock: FakeClock, heard: list[Any]
) -> None:
    metrics = _gaps(market, [1, 2, 5, 4, 5, 6, 9], sequence=lambda item: item)
    assert (metrics.gaps, metrics.missing, metrics.duplicates, metrics.disorder) == (2, 4, 1, 1)
    told = [(type(event).__name__, event.last, event.sequence) for event in heard]
    assert told == [("StreamGap", 2, 5), ("StreamDisorder", 5, 4), ("StreamGap", 6, 9)]
    assert [event.missing for event in heard if isinstance(event, events.StreamGap)] == [2, 2]
    assert "a gap in the sequence, 2 items missing" in str(market.explain())


def test_numbers_are_counted_for_each_key(market: Integration, heard: list[Any]) -> None:
    metrics = _gaps(market, [("A", 1), ("B", 100), ("A", 2), ("B", 102), ("A", 3)], key=0, sequence=1)
    assert (metrics.gaps, metrics.missing) == (1, 1)
    assert [(event.key, event.last, event.sequence) for event in heard] == [("B", 100, 102)]


class Quote:
    def __init__(self, symbol: str, seq: int) -> None:
        self.symbol, self.seq = symbol, seq


class Row:
    def __getitem__(self, name: str) -> Any:
        return {"symbol": "A", "seq": 3}[name]


@pytest.mark.parametrize(
    ("key", "sequence", "items"),
    [
        ("symbol", "seq", [{"symbol": "A", "seq": 1}, {"symbol": "A", "seq": 3}]),
        ("symbol", "seq", [Quote("A", 1), Quote("A", 3)]),
        ("symbol", "seq", [{"symbol": "A", "seq": 1}, Row()]),
        (0, 1, [("A", 1), ("A", 3)]),
        (0, -1, [["A", 1], ["A", 3]]),
        (0, 1, [{0: "A", 1: 1}, {0: "A", 1: 3}]),
        (lambda item: item[0], lambda item: item[1], [("A", 1), ("A", 3)]),
    ],
)
def test_key_and_number_are_found_in_items_of_all_kinds(
    market: Integration, key: Any, sequence: Any, items: list[Any]
) -> None:
    watch = market.watch(items, key=key, sequence=sequence)
    assert list(watch) == items
    assert (watch.metrics().gaps, watch.metrics().missing) == (1, 1)
    known = watch.last("A")
    assert known is not None
    assert known.value is items[-1]


@pytest.mark.parametrize("item", [{}, {"symbol": None}, 7, None, {"symbol": "A"}, {"symbol": "A", "seq": "x"},
                                  {"symbol": "A", "seq": None}, {"symbol": "A", "seq": 1 << 80}])  # fmt: skip
def test_items_without_them_pass_uncounted(market: Integration, item: Any) -> None:
    quote = {"symbol": "A", "seq": 1}
    items = [quote, item, {"symbol": "A", "seq": 2}]
    watch = market.watch(items, key="symbol", sequence="seq")
    assert list(watch) == items
    assert watch.metrics().gaps == watch.metrics().disorder == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_function_that_raises_changes_nothing_for_the_consumer(market: Integration) -> None:
    items = [1, 2, 3]
    watch = market.watch(items, key=lambda item: 1 // 0, sequence=lambda item: item)
    assert list(watch) == items
    watch = market.watch([[1], [2]], key=lambda item: item)  # not hashable
    assert list(watch) == [[1], [2]]


def test_a_gap_is_noticed_over_a_reconnect(market: Integration, clock: FakeClock, heard: list[Any]) -> None:
    lost = ConnectionResetError()
    metrics = _gaps(market, [("A", 1), ("B", 1), lost], [("A", 4), lost], [("B", 2), ("A", 5)], key=0, sequence=1)
    assert (metrics.gaps, metrics.missing, metrics.disorder) == (1, 2, 0)


def test_a_peer_that_counts_anew_is_believed(market: Integration, clock: FakeClock, heard: list[Any]) -> None:
    lost = ConnectionResetError()
    assert _gaps(market, [7, 8, lost], [1, 2, 4], sequence=lambda item: item).missing == 1
    metrics = _gaps(market, [("A", 7), ("A", 8), lost], [("A", 1), ("A", 2)], key=0, sequence=1)
    assert (metrics.gaps, metrics.duplicates, metrics.disorder) == (0, 0, 0)


@pytest.mark.parametrize("keyed", [True, False])
def test_resume_is_told_where_it_was_and_what_comes_again_is_a_duplicate(
    market: Integration, clock: FakeClock, keyed: bool
) -> None:
    positions: list[Any] = []
    feed = Feed([("A", 1), ("A", 2), ConnectionResetError()], [("A", 1), ("A", 2), ("A", 3), silence])

    def resume(position: Any) -> Any:
        positions.append(position)
        return feed.connect()

    async def main() -> Any:
        options: dict[str, Any] = {"key": 0} if keyed else {}
        async with market.stream(feed.connect, stale_after=5.0, sequence=1, resume=resume, **options) as stream:
            await take(stream, 5)
            return stream.metrics()

    metrics = asyncio.run(main())
    assert (metrics.duplicates, metrics.disorder, metrics.gaps) == (2, 0, 0)
    (position,) = positions
    assert position.connection == 2
    assert position.silent_for == pytest.approx(1.0)
    if keyed:
        assert (position.sequence, position.sequences) == (None, {"A": 2})
        assert position.values["A"].value == ("A", 2)
    else:
        assert (position.sequence, position.sequences, position.values) == (2, {}, {})


def test_the_last_item_of_a_key_has_an_age_and_serves_as_a_fallback(make: Make, clock: FakeClock) -> None:
    market = make("market")
    watch = market.watch([("A", 1), ("B", 2), ("A", 3)], key=0)
    assert watch.last("A") is None
    list(watch)
    clock.advance(4.0)
    known = watch.last("A")
    assert known is not None
    assert (known.value, known.age) == (("A", 3), pytest.approx(4.0))

    @market.guard(fallbacks=[watch.fallback(max_age=5.0)])
    def quote(symbol: str) -> Any:
        raise ConnectionResetError

    result = quote.outcome("A")
    assert (result.data, result.fallback_type, result.data_age) == (("A", 3), FallbackType.LAST_KNOWN, 4.0)
    assert not quote.outcome("C").success
    clock.advance(2.0)
    assert not quote.outcome("A").success  # too old by now
    with pytest.raises(ValueError, match="key="):
        market.watch([]).fallback()


def test_the_tables_are_bounded(market: Integration) -> None:
    watch = market.watch([(key, 1) for key in range(1000)], key=0, sequence=1, max_keys=16)
    list(watch)
    assert sum(watch.last(key) is not None for key in range(1000)) <= 16


# ---- numbers


def test_the_time_between_items_is_measured(market: Integration, clock: FakeClock) -> None:
    def ticking() -> Iterator[int]:
        for item in range(101):
            yield item
            clock.advance(0.01)

    watch = market.watch(ticking())
    list(watch)
    metrics = watch.metrics()
    assert metrics.items == 101
    assert metrics.p50 == pytest.approx(0.01, rel=0.01)
    assert metrics.p99 == pytest.approx(0.01, rel=0.01)
    assert metrics.rate == pytest.approx(100.0, rel=0.05)
    assert watch.intervals.count == 100


def test_the_time_without_a_connection_is_no_interval(market: Integration, clock: FakeClock) -> None:
    async def main() -> None:
        feed = Feed([1, ConnectionResetError()], [2, silence])
        async with market.stream(feed.connect, stale_after=5.0) as stream:
            await take(stream, 2)
            assert stream.intervals.count == 0

    asyncio.run(main())


# ---- buffers


def test_a_buffer_reads_ahead_and_drops_the_oldest(market: Integration) -> None:
    async def main() -> None:
        async with market.stream(Feed([*range(10)]).connect, stale_after=5.0, buffer=3, ends=True) as stream:
            assert await anext(stream) in range(10)
            await settle()
            await settle()
            rest = [item async for item in stream]
            assert rest == [7, 8, 9]
            assert stream.metrics().dropped >= 4

    asyncio.run(main())
    assert "its oldest item dropped" in str(market.explain())


def test_a_buffer_may_block_the_feed(market: Integration) -> None:
    read: list[int] = []

    async def feed() -> AsyncIterator[int]:
        for item in range(20):
            read.append(item)
            yield item

    async def main() -> None:
        stream = market.stream(feed, stale_after=5.0, buffer=3, overflow="block", ends=True)
        async with stream:
            assert await anext(stream) == 0
            await settle()
            assert len(read) <= 5
            assert [item async for item in stream] == list(range(1, 20))
            assert stream.metrics().dropped == 0

    asyncio.run(main())


def test_a_full_buffer_may_raise(market: Integration) -> None:
    async def main() -> None:
        async with market.stream(Feed([*range(9)]).connect, stale_after=5.0, buffer=2, overflow="raise") as stream:
            assert await anext(stream) == 0
            await settle()
            got = []
            with pytest.raises(StreamOverflowError, match="all the buffer holds") as caught:
                while True:
                    got.append(await anext(stream))
            assert got == [1, 2] or got == [1]
            assert caught.value.code == "DB_STREAM_OVERFLOW"
            with pytest.raises(StopAsyncIteration):
                await anext(stream)

    asyncio.run(main())


def test_with_a_buffer_silence_is_the_feeds_whether_or_not_anybody_waits(
    market: Integration, clock: FakeClock, heard: list[Any]
) -> None:
    async def main() -> None:
        feed = Feed([1, silence], [2, silence])
        async with market.stream(feed.connect, stale_after=2.0, buffer=4) as stream:
            assert await anext(stream) == 1
            await settle()
            clock.advance(2.0)
            await settle()
            assert kinds(heard)[:1] == ["StreamStale"]
            assert await anext(stream) == 2

    asyncio.run(main())


def test_a_feed_held_up_by_a_full_buffer_is_not_silent(market: Integration, clock: FakeClock, heard: list[Any]) -> None:
    async def main() -> None:
        feed = Feed([1, 2, 3, 4, 5])
        async with market.stream(feed.connect, stale_after=2.0, buffer=1, overflow="block", ends=True) as stream:
            assert await anext(stream) == 1
            await settle()
            clock.advance(10.0)
            await settle()
            assert [item async for item in stream] == [2, 3, 4, 5]

    asyncio.run(main())
    assert kinds(heard) == []


def test_an_error_comes_after_what_was_buffered(market: Integration) -> None:
    async def main() -> None:
        async with market.stream(Feed([1, 2, ValueError("nonsense")]).connect, stale_after=2.0, buffer=8) as stream:
            assert await anext(stream) == 1
            await settle()
            assert await anext(stream) == 2
            with pytest.raises(ValueError, match="nonsense"):
                await anext(stream)

    asyncio.run(main())


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"stale_after": -1.0}, ValueError, "stale_after"),
        ({"buffer": -1}, ValueError, "buffer must be a number of items from 0"),
        ({"buffer": True}, TypeError, "buffer"),
        ({"overflow": "explode"}, ValueError, "drop_oldest, block, raise"),
        ({"key": 1.5}, TypeError, "key must be a callable, a field's name or an index"),
        ({"sequence": True}, TypeError, "sequence"),
        ({"max_keys": 0}, ValueError, "max_keys"),
        ({"max_reconnects": -1}, ValueError, "max_reconnects"),
        ({"resume": 3}, TypeError, "resume must be callable"),
        ({"close_timeout": 0.0}, ValueError, "close_timeout"),
    ],
)
def test_nonsense_is_refused_at_once(
    market: Integration, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        market.stream(Feed([1]).connect, **{"stale_after": 1.0, **options})


# ---- endings


async def ended_by_aclose(stream: Any) -> list[Any]:
    """What a consumer got that waits while the stream is closed."""

    async def consume() -> list[Any]:
        return [item async for item in stream]

    consumer = asyncio.create_task(consume())
    await settle()
    await stream.aclose()
    got = await asyncio.wait_for(consumer, 5.0)
    assert consumer.cancelling() == 0
    return got


def test_aclose_ends_who_waits_for_a_backoff(make: Make) -> None:
    market = make("market", retry_policy=WAITS | {"initial_delay": 60.0, "max_delay": 60.0})

    def connect() -> Any:
        raise ConnectionRefusedError

    async def main() -> None:
        assert await ended_by_aclose(market.stream(connect, stale_after=None)) == []

    asyncio.run(main())


def test_aclose_ends_who_waits_for_a_connection(market: Integration) -> None:
    ended: list[int] = []

    async def connect() -> Any:
        try:
            await silence()
        finally:
            await asyncio.sleep(0)
            ended.append(1)

    async def main() -> None:
        assert await ended_by_aclose(market.stream(connect, stale_after=None)) == []
        assert ended == [1]

    asyncio.run(main())


@pytest.mark.parametrize("stale_after", [None, 60.0])
def test_aclose_waits_for_what_is_closed_on_the_way(market: Integration, stale_after: float | None) -> None:
    log: list[str] = []

    @asynccontextmanager
    async def connect() -> AsyncIterator[Any]:
        async def items() -> AsyncIterator[int]:
            try:
                yield 1
                await silence()
            finally:
                await settle()
                log.append("iterator")

        yield items()
        await settle()
        log.append("connection")

    async def main() -> None:
        stream = market.stream(connect, stale_after=stale_after)
        consumer = asyncio.create_task(take(stream, 2))
        await settle()
        await asyncio.gather(stream.aclose(), stream.aclose())
        assert log == ["iterator", "connection"]
        with pytest.raises(StopAsyncIteration):
            await consumer

    asyncio.run(main())


@pytest.mark.parametrize("buffer", [0, 4])
def test_aclose_waits_no_longer_than_closing_may_take(market: Integration, buffer: int) -> None:
    stop: list[int] = []

    async def connect() -> AsyncIterator[int]:
        yield 1
        while not stop:
            try:
                await silence()
            except asyncio.CancelledError:
                if stop:
                    raise

    async def main() -> None:
        stream = market.stream(connect, stale_after=None, buffer=buffer, close_timeout=0.02)
        consumer = asyncio.create_task(take(stream, 2))
        await settle()
        await asyncio.wait_for(stream.aclose(), 5.0)
        stop.append(1)
        consumer.cancel()
        await asyncio.wait([consumer])

    asyncio.run(main())


def test_an_end_that_silence_has_brought_about_is_none(market: Integration, clock: FakeClock) -> None:
    async def gives_up() -> None:
        with pytest.raises(asyncio.CancelledError):
            await silence()

    feed = Feed([gives_up], ["again"])

    async def main() -> None:
        stream = market.stream(feed.connect, stale_after=2.0, ends=True)
        consumer = asyncio.create_task(take(stream, 1))
        await settle()
        clock.advance(2.0)
        assert await consumer == ["again"]

    asyncio.run(main())


def test_silence_is_one_failure_whatever_is_raised_for_it(market: Integration, clock: FakeClock) -> None:
    async def fails() -> None:
        try:
            await silence()
        except asyncio.CancelledError:
            raise ConnectionError from None

    feed = Feed([fails], ["again"])

    async def main() -> None:
        stream = market.stream(feed.connect, stale_after=2.0)
        consumer = asyncio.create_task(take(stream, 1))
        await settle()
        clock.advance(2.0)
        assert await consumer == ["again"]
        assert market.metrics("stream").error_count == 1

    asyncio.run(main())


@pytest.mark.parametrize("wrong", ["raises", "gives nonsense"])
def test_a_context_is_left_where_what_it_gives_cannot_be_iterated(market: Integration, wrong: str) -> None:
    log: list[str] = []

    class Source:
        def __aiter__(self) -> Any:
            if wrong == "raises":
                raise TypeError("never")
            return 3

    @asynccontextmanager
    async def connect() -> AsyncIterator[Any]:
        yield Source()
        log.append("left")

    async def main() -> None:
        stream = market.stream(connect, stale_after=None)
        with pytest.raises(TypeError, match=r"never|without __anext__"):
            await anext(stream)
        assert (log, stream.status().state) == (["left"], "closed")

    asyncio.run(main())


def test_a_connection_that_is_cancelled_by_itself_is_no_end(market: Integration) -> None:
    async def cancelled() -> Any:
        raise asyncio.CancelledError

    async def main() -> None:
        stream = market.stream(cancelled, stale_after=None)
        with pytest.raises(asyncio.CancelledError):
            await anext(stream)
        assert stream.status().state == "waiting"

        async def passing() -> None:
            await settle()  # until somebody waits
            raise asyncio.CancelledError

        ahead = market.stream(Feed([1, passing], [2]).connect, stale_after=None, ends=True, buffer=4)
        assert await anext(ahead) == 1
        with pytest.raises(asyncio.CancelledError):
            await anext(ahead)
        assert [item async for item in ahead] == [2]

    asyncio.run(main())


@pytest.mark.parametrize("buffer", [0, 4])
def test_it_goes_on_in_another_loop(market: Integration, buffer: int) -> None:
    stream = market.stream(Feed([1, silence], [2, silence]).connect, stale_after=None, buffer=buffer)
    market.reconfigure(retry_policy=WAITS | {"initial_delay": 0.0})

    async def main() -> Any:
        return await anext(stream)

    assert [asyncio.run(main()), asyncio.run(main())] == [1, 2]


def test_who_reads_ahead_is_not_bound_by_a_consumers_block(market: Integration) -> None:
    async def connect() -> AsyncIterator[float | None]:
        yield remaining()

    async def main() -> None:
        async with market.stream(connect, stale_after=None, buffer=4, ends=True) as stream:
            with deadline(5.0):
                assert await anext(stream) is None

    asyncio.run(main())


def test_the_error_of_a_connection_is_forgotten_with_the_next(market: Integration, clock: FakeClock) -> None:
    class Refused(ConnectionError):
        pass

    known: list[weakref.ref[BaseException]] = []
    feed = Feed([1, ConnectionResetError()])

    def connect() -> Any:
        if not known:
            raise Refused
        return feed.connect()

    def told(event: events.Event) -> None:
        if isinstance(event, events.StreamLost) and not known:
            known.append(weakref.ref(event.error))

    async def main() -> None:
        assert await take(market.stream(connect, stale_after=None), 2) == [1, 1]

    end = subscribe(told)
    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
        assert known[0]() is None
    finally:
        gc.enable()
        end()


@pytest.mark.parametrize("waits_for", ["item", "connection"])
def test_a_cancellation_from_elsewhere_wins_over_aclose(market: Integration, waits_for: str) -> None:
    async def connect() -> Any:
        if waits_for == "connection":
            await silence()
        return Feed([1, silence])()

    async def main() -> None:
        stream = market.stream(connect, stale_after=None)
        consumer = asyncio.create_task(take(stream, 2))
        await settle()
        closing = asyncio.create_task(stream.aclose())
        consumer.cancel()
        await closing
        with pytest.raises(asyncio.CancelledError):
            await consumer
        assert stream.status().state == "closed"

    asyncio.run(main())


def test_under_trio_it_is_refused_and_nothing_is_left_unawaited(market: Integration) -> None:
    trio = pytest.importorskip("trio")
    asked: list[int] = []

    async def connect() -> AsyncIterator[int]:
        asked.append(1)
        yield 1

    async def main() -> None:
        async with market.stream(connect, stale_after=1.0) as stream:
            with pytest.raises(RuntimeError, match="need asyncio"):
                await anext(stream)

    trio.run(main)
    gc.collect()
    assert not asked
