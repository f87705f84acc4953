"""Exact admission beside its model: the dial alone, and through a breaker that is limited."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failsoft import CircuitBreaker
from failsoft._core import Dial

from ..reference import degraded as model

CAPACITIES = st.one_of(
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1 / 3, 2**-32, 1 - 2**-32]), st.floats(0.0, 1.0)
)
COURSES = st.lists(st.tuples(CAPACITIES, st.integers(1, 200)), min_size=1, max_size=20)


@given(COURSES)
def test_a_dial_admits_what_the_model_does(course: list[tuple[float, int]]) -> None:
    dial, expected = Dial(), model.Dial()
    for capacity, calls in course:
        share = model.share_of(capacity)
        assert [dial.admits(capacity) for _ in range(calls)] == [expected.admits(share) for _ in range(calls)]


@given(COURSES)
def test_a_breaker_asks_its_dial_once_a_call(course: list[tuple[float, int]]) -> None:
    breaker, expected = CircuitBreaker(), model.Dial()
    for capacity, calls in course:
        breaker.limit(capacity)
        share = model.share_of(capacity)
        assert breaker.capacity == pytest.approx(share / model.ALL, abs=1e-9)
        assert [breaker.acquire() != 0 for _ in range(calls)] == [expected.admits(share) for _ in range(calls)]


@given(CAPACITIES, st.integers(0, 500), st.integers(0, 1_000))
def test_any_calls_in_a_row_let_their_share_go(capacity: float, before: int, calls: int) -> None:
    dial = Dial()
    for _ in range(before):
        dial.admits(capacity)
    exact = calls * Fraction(model.share_of(capacity), model.ALL)
    went = sum(dial.admits(capacity) for _ in range(calls))
    assert math.floor(exact) <= went <= math.ceil(exact)


@pytest.mark.parametrize(("capacity", "admitted"), [(0.75, 750), (0.5, 500), (0.25, 250), (0.1, 100)])
def test_any_thousand_consecutive_calls(capacity: float, admitted: int) -> None:
    dial = Dial()
    went = [dial.admits(capacity) for _ in range(20_000)]
    sums = {sum(went[first : first + 1_000]) for first in range(19_001)}
    assert sums <= {admitted - 1, admitted, admitted + 1}
