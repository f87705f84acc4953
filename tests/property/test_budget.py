"""The retry budget beside its model, and what holds of it whatever comes."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from failsoft import CircuitBreaker, RetryBudget
from failsoft._core import Budget, now_ns
from failsoft.testing import FakeClock

from ..reference import budget as model

SHARES = st.one_of(st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]), st.floats(0.0, 2.0))
FLOORS = st.one_of(st.sampled_from([0.0, 1.0, 10.0]), st.floats(1.0, 50.0))
WINDOWS = st.one_of(st.sampled_from([1.0, 10.0]), st.floats(1.0, 60.0))
WAITS = st.one_of(st.just(0.0), st.floats(0.0, 0.1), st.floats(0.0, 30.0))
CALLS, RETRIES, HEDGES = "calls", "retries", "hedges"
STEPS = st.lists(
    st.tuples(WAITS, st.sampled_from([CALLS, RETRIES, HEDGES]), st.integers(0, 1), st.integers(1, 60)), max_size=30
)


def near_one(balance: float) -> bool:
    """Too near to a whole retry for two roundings to agree about it."""
    return abs(balance - model.WHOLE) < 1e-9


@given(SHARES, FLOORS, WINDOWS, STEPS)
@example(0.2, 0.0, 10.0, [(0.0, CALLS, 0, 50), (0.0, RETRIES, 0, 11), (0.0, CALLS, 1, 50), (0.0, RETRIES, 1, 11)])
def test_it_grants_what_the_model_grants(share: float, floor: float, window: float, steps: list) -> None:  # type: ignore[type-arg]
    with FakeClock() as clock:
        breakers = [CircuitBreaker(), CircuitBreaker()]
        budget = Budget(RetryBudget(share, floor, window))
        expected = model.Budget(share, floor, window, now_ns())
        payers = [model.Payer(now_ns()), model.Payer(now_ns())]
        for wait, what, who, count in steps:
            clock.advance(wait)
            breaker, payer = breakers[who], payers[who]
            for _ in range(count):
                if what == CALLS:
                    breaker.success(breaker.acquire(), 1000)
                    payer.calls += 1
                    continue
                expected.pay(payer, now_ns())
                if near_one(expected.balance):
                    return
                ours, theirs = (budget.retry, expected.retry) if what == RETRIES else (budget.hedge, expected.hedge)
                assert ours(breaker) == theirs(payer, now_ns())
            expected.pay(payer, now_ns())
            balance, full, retries, _hedges, refused = budget.read(breaker)
            assert abs(balance - max(expected.balance, 0.0)) < 1e-6
            assert abs(full - max(expected.balance + expected.owed, 0.0)) < 1e-6
            assert (retries, refused) == (sum(payer.retries for payer in payers), expected.refused)


@given(SHARES, FLOORS, WINDOWS, st.lists(st.tuples(WAITS, st.integers(0, 50), st.integers(0, 100)), max_size=20))
def test_retries_stay_within_share_and_floor(
    share: float, floor: float, window: float, steps: list[tuple[float, int, int]]
) -> None:
    with FakeClock() as clock:
        breaker = CircuitBreaker()
        budget = Budget(RetryBudget(share, floor, window))
        began, calls, granted = clock.now, 0, 0
        for wait, more, asked in steps:
            clock.advance(wait)
            for _ in range(more):
                breaker.success(breaker.acquire(), 1000)
            calls += more
            granted += sum(budget.retry(breaker) for _ in range(asked))
            most = share * calls + floor * (clock.now - began + window)
            assert granted <= most + 1e-6 * (granted + 1)
            assert budget.read(breaker)[0] <= share * calls + floor * window + 1e-6
