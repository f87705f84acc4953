"""Rate limiter and bulkhead beside their model, step by step."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from failsoft import BulkheadFullError, RateLimitExceededError, Registry
from failsoft.batches import Batch
from failsoft.testing import FakeClock

from ..reference import limiter as model

RATES = st.sampled_from([1, 2, 4, 5, 8, 10, 20, 100, 1000, 1_000_000])  # whole ns a token, so that all is exact
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(0, 3_000_000_000)),
        st.tuples(st.just("admit"), st.integers(1, 9)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(rate=RATES, burst=st.integers(1, 9), places=st.integers(1, 4), steps=STEPS)
def test_what_the_model_lets_in_is_let_in(rate: int, burst: int, places: int, steps: list[tuple[str, int]]) -> None:
    with FakeClock() as clock:
        expected = model.Load(rate, burst, places)
        limits = {"rate_limit": {"rate": float(rate), "burst": burst}, "bulkhead": {"max_concurrent": places}}
        db = Registry().integration("db", "database", **limits)
        guard, inside = db.guard(abs), list[Batch]()
        for step, number in steps:
            if step == "advance":
                clock.advance(number / 1e9)
                expected.advance(Fraction(number, 10**9))
            elif step == "admit":
                n = min(number, burst)
                batch, wanted = guard.many(n), expected.when(n)
                answer = "in"
                try:
                    batch.__enter__()
                    inside.append(batch)
                except RateLimitExceededError as error:
                    answer = "rate limit"
                    assert abs(Fraction(error.retry_after or 0) - wanted) < Fraction(2, 10**9)
                except BulkheadFullError:
                    answer = "bulkhead"
                assert answer == expected.admit(n)
            elif inside:
                inside.pop(number % len(inside)).__exit__(None, None, None)
                expected.in_flight -= 1
            load = db.load()
            assert load.in_flight == expected.in_flight
            assert load.tokens is not None
            assert abs(load.tokens - float(expected.tokens)) < 1e-6
