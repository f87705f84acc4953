"""Plain loops, watched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from failsoft import Integration, events, subscribe
from failsoft.testing import FakeClock

from .conftest import Make


@pytest.fixture
def market(make: Make) -> Integration:
    return make("market")


@pytest.fixture
def heard() -> Iterator[list[Any]]:
    told: list[Any] = []
    end = subscribe(told.append, events.StreamStale, events.StreamGap)
    yield told
    end()


def test_a_loop_sees_what_it_would_see(market: Integration) -> None:
    assert list(market.watch([])) == []
    watch = market.watch(iter([1, None, (2,)]))
    assert iter(watch) is watch
    assert list(watch) == [1, None, (2,)]
    with pytest.raises(StopIteration):
        next(watch)
    with pytest.raises(TypeError, match="not iterable"):
        market.watch(3)  # type: ignore[arg-type]


def test_an_error_goes_on_to_the_loop_and_counts(market: Integration) -> None:
    error = ConnectionResetError("gone")

    def feed() -> Iterator[int]:
        yield 1
        raise error

    watch = market.watch(feed(), operation="quotes")
    assert next(watch) == 1
    with pytest.raises(ConnectionResetError) as caught:
        next(watch)
    assert caught.value is error
    assert (watch.status().state, watch.status().error) == ("closed", error)
    assert market.metrics("quotes").error_count == 1
    with pytest.raises(StopIteration):
        next(watch)


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_an_interrupt_is_nobodys_failure(market: Integration, error: type[BaseException]) -> None:
    def feed() -> Iterator[int]:
        yield 1
        raise error

    watch = market.watch(feed(), operation="quotes")
    assert next(watch) == 1
    with pytest.raises(error):
        next(watch)
    assert market.metrics("quotes").error_count == 0


def test_silence_is_noticed_when_the_next_item_comes(market: Integration, clock: FakeClock, heard: list[Any]) -> None:
    def feed() -> Iterator[int]:
        yield 1
        clock.advance(1.9)
        yield 2
        clock.advance(2.0)
        yield 3
        yield 4

    watch = market.watch(feed(), stale_after=2.0)
    next(watch), next(watch)
    assert watch.metrics().stale == 0
    next(watch), next(watch)
    assert watch.metrics().stale == 1
    assert [event.seconds for event in heard] == [pytest.approx(2.0)]


def test_a_loop_that_dwells_on_an_item_does_not_make_the_next_one_late(market: Integration, clock: FakeClock) -> None:
    watch = market.watch([1, 2, 3], stale_after=2.0)
    for _ in watch:
        clock.advance(100.0)
    assert watch.metrics().stale == 0


def test_silence_is_noticed_by_who_asks_and_counted_once(
    market: Integration, clock: FakeClock, heard: list[Any]
) -> None:
    states: list[str] = []

    def feed() -> Iterator[int]:
        yield 1
        clock.advance(3.0)
        states.append(watch.status().state)
        states.append(watch.status().state)
        yield 2

    watch = market.watch(feed(), stale_after=2.0)
    assert watch.status().state == "waiting"
    next(watch)
    assert watch.status().state == "live"
    next(watch)
    assert watch.status().state == "live"
    assert states == ["stale", "stale"]
    assert watch.metrics().stale == 1
    assert len(heard) == 1
