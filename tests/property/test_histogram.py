"""The compiled histogram beside a list of everything that was recorded."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from failsoft import LatencyHistogram
from failsoft.testing import FakeClock

from ..reference import histogram as model

QS = (0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
SLICE = 100_000_000
WINDOW = 6 * SLICE

# A float second keeps a nanosecond apart from its neighbours up to the largest value, but not its last bits.
FLOAT_NOISE = 1e-12


def at_an_edge(exponent: int, step: int, offset: int) -> int:
    """A value at the first or the last nanosecond of a bucket, or beside it."""
    first = 1 << exponent
    width = max(1, first // model.SUB_BUCKETS)
    return max(0, first + step * width + offset)


EDGES = st.builds(at_an_edge, st.integers(0, 43), st.integers(0, 63), st.integers(-1, 1))
VALUES = st.one_of(
    EDGES,
    st.integers(0, 2 * model.EXACT_BELOW),
    st.integers(0, model.LARGEST),
    st.integers(10_000, 20_000),
    st.integers(0, 2**63 - 1),
)


def compare_quantiles(answers: tuple[float, ...], values: list[int], qs: tuple[float, ...]) -> None:
    """Seconds that the core answered against values that it was told."""
    assert len(answers) == len(qs)
    for q, answer in zip(qs, answers, strict=True):
        if not values:
            assert math.isnan(answer)
            continue
        exact = model.order_statistic(values, q)
        error = abs(answer * 1e9 - exact)
        assert error <= exact * (model.RELATIVE_ERROR + FLOAT_NOISE), (q, answer, exact)
        if exact < model.EXACT_BELOW:
            assert answer == pytest.approx(exact / 1e9, rel=FLOAT_NOISE, abs=1e-18)
        assert answer * 1e9 == pytest.approx(model.quantile(values, q), rel=FLOAT_NOISE, abs=1e-6), (q, exact)


def compare_summary(histogram: LatencyHistogram, values: list[int]) -> None:
    assert histogram.count == len(values)
    if not values:
        assert all(map(math.isnan, (histogram.mean, histogram.min, histogram.max)))
        return
    assert histogram.mean == pytest.approx(sum(values) / len(values) / 1e9, rel=1e-9, abs=1e-15)
    assert histogram.min == pytest.approx(min(values) / 1e9, rel=FLOAT_NOISE)
    assert histogram.max == pytest.approx(max(values) / 1e9, rel=FLOAT_NOISE)


@given(st.lists(VALUES, max_size=200), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_quantiles(values: list[int], qs: list[float]) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.record_ns(value)
    recorded = [model.clamp(value) for value in values]
    compare_summary(histogram, recorded)
    compare_quantiles(histogram.quantiles(QS), recorded, QS)
    asked = tuple(qs)  # in any order, some more than once
    compare_quantiles(histogram.quantiles(asked), recorded, asked)


@given(EDGES, st.integers(1, 50))
def test_equal_values_are_told_exactly(value: int, count: int) -> None:
    histogram = LatencyHistogram()
    for _ in range(count):
        histogram.record_ns(value)
    exact = model.clamp(value) / 1e9
    assert histogram.quantiles(QS) == pytest.approx((exact,) * len(QS), rel=FLOAT_NOISE)


def test_every_bucket_keeps_the_bound() -> None:
    """The first, the middle and the last value of each bucket, told apart from a smaller and a larger one."""
    value = 1
    while value <= model.LARGEST:
        first, last = model.bucket(value)
        for inside in {first, (first + last) // 2, last}:
            histogram = LatencyHistogram()
            values = [0, inside, model.LARGEST]
            for each in values:
                histogram.record_ns(each)
            compare_quantiles(histogram.quantiles((0.5,)), values, (0.5,))
        value = last + 1


@given(st.lists(VALUES, max_size=100))
def test_many_at_once_are_the_same_as_one_by_one(values: list[int]) -> None:
    together, alone = LatencyHistogram(), LatencyHistogram()
    together.record_many(array("q", values))
    for value in values:
        alone.record_ns(value)
    assert together.count == alone.count
    assert together.quantiles(QS) == pytest.approx(alone.quantiles(QS), nan_ok=True)


def test_what_is_no_duration_is_refused_and_leaves_no_trace() -> None:
    histogram = LatencyHistogram()
    for refused in (-1, -(2**62)):
        with pytest.raises(ValueError, match="0 or more"):
            histogram.record_ns(refused)
        with pytest.raises(ValueError, match="0 or more"):
            histogram.record_many(array("q", [5, refused]))
    for seconds in (-1e-9, -math.inf, math.nan):
        with pytest.raises(ValueError, match="0 or more"):
            histogram.record(seconds)
    assert histogram.count == 0


@given(st.floats(0, model.LARGEST / 1e9))
def test_seconds_are_recorded_to_the_nanosecond(seconds: float) -> None:
    histogram = LatencyHistogram()
    histogram.record(seconds)
    assert histogram.max == pytest.approx(seconds, rel=FLOAT_NOISE, abs=1.001e-9)


@given(st.lists(VALUES, max_size=60), st.lists(VALUES, max_size=60))
def test_merging_is_recording_both(left: list[int], right: list[int]) -> None:
    histogram, other = LatencyHistogram(), LatencyHistogram()
    for value in left:
        histogram.record_ns(value)
    for value in right:
        other.record_ns(value)
    histogram.merge(other)
    compare_summary(histogram, [model.clamp(value) for value in left + right])
    compare_quantiles(histogram.quantiles(QS), [model.clamp(value) for value in left + right], QS)
    compare_quantiles(other.quantiles(QS), [model.clamp(value) for value in right], QS)


class RecentMachine(RuleBasedStateMachine):
    """The rolling view: what has expired is gone, what has not is all there, and the whole never forgets."""

    @initialize()
    def create(self) -> None:
        self.clock = FakeClock()
        self.clock.__enter__()
        self.now = 0
        self.histogram = LatencyHistogram(window=WINDOW / 1e9)
        self.model = model.Histogram(WINDOW, self.now)

    def teardown(self) -> None:
        if hasattr(self, "clock"):
            self.clock.__exit__(None, None, None)

    @rule(values=st.lists(VALUES, min_size=1, max_size=20))
    def record(self, values: list[int]) -> None:
        for value in values:
            self.histogram.record_ns(value)
            self.model.record(value, self.now)

    @rule(
        ns=st.one_of(
            st.sampled_from([1, SLICE - 1, SLICE, SLICE + 1, WINDOW - 1, WINDOW, 10**6 * WINDOW]),
            st.integers(0, 2 * WINDOW),
        )
    )
    def advance(self, ns: int) -> None:
        self.move(ns)

    @rule(ahead=st.integers(1, 7), offset=st.sampled_from([-1, 0]))
    def to_the_edge_of_a_slice(self, ahead: int, offset: int) -> None:
        self.move((self.model.slices.number(self.now) + ahead) * SLICE + offset - self.now)

    def move(self, ns: int) -> None:
        self.clock.advance(ns / 1e9)
        self.now += ns

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "histogram"):
            return
        qs = (0.0, 0.5, 0.95, 1.0)
        compare_quantiles(self.histogram.quantiles(qs), self.model.values(), qs)
        recent = self.model.recent(self.now)
        assert self.histogram.recent.count == len(recent)
        for q, answer in zip(qs, self.histogram.recent.quantiles(qs), strict=True):
            if not recent:
                assert math.isnan(answer)
                continue
            exact = model.order_statistic(recent, q)
            error = abs(answer * 1e9 - exact)
            assert error <= exact * (model.RELATIVE_ERROR + FLOAT_NOISE), (q, answer, exact)


TestRecent = RecentMachine.TestCase
TestRecent.settings = settings(TestRecent.settings, max_examples=settings().max_examples // 2)
