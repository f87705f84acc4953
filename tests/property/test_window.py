"""The windows behind the rates: which outcomes count, seen through a breaker that only measures."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failsoft import CircuitBreaker, CircuitBreakerConfig
from failsoft.testing import FakeClock

from ..reference import breaker as model
from ..reference.window import SLICES, CountWindow, Outcome, TimeWindow, Window

MILLISECOND = 1_000_000
SLICE = 100 * MILLISECOND
WINDOW = SLICES * SLICE

ADVANCES = st.one_of(
    st.just(0),
    st.sampled_from([SLICE - 1, SLICE, SLICE + 1, WINDOW - 1, WINDOW, WINDOW + 1, 1_000 * WINDOW]),
    st.integers(0, 2 * WINDOW),
)
HISTORIES = st.lists(st.tuples(ADVANCES, st.booleans()), max_size=80)


class Observer:
    """A breaker that only measures."""

    def __init__(self, rules: model.Rules) -> None:
        self.breaker = CircuitBreaker(CircuitBreakerConfig(**asdict(rules)), name="observer")
        self.breaker.metrics_only()
        self.permit = self.breaker.acquire()

    def record(self, failed: bool) -> None:
        (self.breaker.failure if failed else self.breaker.success)(self.permit)

    def compare(self, window: Window, now: int) -> None:
        expected, status = window.tally(now), self.breaker.status()
        assert status.sample_size == expected.calls
        if expected.calls:
            assert status.failure_rate == pytest.approx(expected.failures / expected.calls)
        else:
            assert status.failure_rate is None


@given(HISTORIES)
def test_time_window(history: list[tuple[int, bool]]) -> None:
    with FakeClock() as clock:
        observer = Observer(model.Rules(minimum_calls=1, window=WINDOW / 1e9))
        window = TimeWindow(0, WINDOW)
        now = 0
        for advance, failed in history:
            clock.advance(advance / 1e9)
            now += advance
            observer.compare(window, now)
            observer.record(failed)
            window.record(Outcome(now, failed, slow=False))
            observer.compare(window, now)


@given(st.integers(1, 130), st.lists(st.booleans(), max_size=400))
def test_count_window(size: int, failures: list[bool]) -> None:
    with FakeClock():
        observer = Observer(model.Rules(minimum_calls=1, count_window=size))
        window = CountWindow(size)
        for failed in failures:
            observer.record(failed)
            window.record(Outcome(0, failed, slow=False))
        observer.compare(window, 0)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1023, 1024])
def test_the_count_window_forgets_one_outcome_at_a_time(size: int) -> None:
    with FakeClock():
        observer = Observer(model.Rules(minimum_calls=1, count_window=size))
        window = CountWindow(size)
        for failed in [True] * size + [False] * size + [True] * size:
            observer.record(failed)
            window.record(Outcome(0, failed, slow=False))
            observer.compare(window, 0)


@pytest.mark.parametrize("count_window", [None, 10])
def test_a_reset_starts_the_window_afresh(count_window: int | None) -> None:
    with FakeClock():
        observer = Observer(model.Rules(minimum_calls=1, count_window=count_window))
        for failed in [True, False, True]:
            observer.record(failed)
        observer.breaker.reset()
        observer.breaker.metrics_only()
        status = observer.breaker.status()
        assert (status.sample_size, status.failure_rate) == (0, None)
        observer.record(failed=True)  # with the permit of the time before the reset
        assert observer.breaker.status().sample_size == 0
        observer.permit = observer.breaker.acquire()
        observer.record(failed=True)
        status = observer.breaker.status()
        assert (status.sample_size, status.failure_rate) == (1, 1.0)
