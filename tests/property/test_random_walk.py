"""The simulated prices: above zero, the same again for the same seed, continuous, and spread as they say."""

from __future__ import annotations

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from failsoft import SimulatedPrice, market_data_fallbacks
from failsoft.testing import FakeClock

SEEDS = st.integers(0, 2**128)
PRICES = st.one_of(st.floats(1e-300, 1e300), st.integers(1, 10**18), st.sampled_from([5e-324, 1.7e308]))
VOLATILITIES = st.one_of(st.just(0.0), st.floats(0.0, 1.0))
# What happens before the next answer: this much time passes, and maybe a real price comes when half of it has.
EVENTS = st.lists(st.tuples(st.one_of(st.just(0.0), st.floats(0.0, 1e6)), st.none() | PRICES), max_size=30)


def follow(seed: int, volatility: float, first: float, events: list[tuple[float, float | None]]) -> list[float]:
    """The answers along a course of events, asked as a guard would."""
    walk = market_data_fallbacks.simulated(seed=seed, volatility=volatility).handler
    answers = []
    with FakeClock() as clock:
        last, at = first, clock.now
        for passing, real in events:
            clock.advance(passing / 2)
            if real is not None:
                last, at = real, clock.now
            clock.advance(passing / 2)
            answers.append(walk("BTC", last=last, last_age=clock.now - at).value)
    return answers


@given(SEEDS, VOLATILITIES, PRICES, EVENTS)
def test_prices_stay_above_zero_finite_and_marked(
    seed: int, volatility: float, first: float, events: list[tuple[float, float | None]]
) -> None:
    for price in follow(seed, volatility, first, events):
        assert type(price) is SimulatedPrice
        assert 0.0 < price < math.inf


@given(SEEDS, VOLATILITIES, PRICES, EVENTS)
def test_the_same_seed_gives_the_same_prices(
    seed: int, volatility: float, first: float, events: list[tuple[float, float | None]]
) -> None:
    assert follow(seed, volatility, first, events) == follow(seed, volatility, first, events)


@given(SEEDS, st.floats(1e-6, 1e-2), st.floats(1e-3, 1e6), st.lists(st.floats(0.0, 3600.0), min_size=1, max_size=30))
def test_each_step_is_as_long_as_the_time_since_the_last(
    seed: int, volatility: float, real: float, passing: list[float]
) -> None:
    before = real
    for seconds, price in zip(passing, follow(seed, volatility, real, [(p, None) for p in passing]), strict=True):
        spread = volatility * math.sqrt(seconds)
        assert abs(math.log(price / before) + spread**2 / 2) <= 8 * spread + 1e-9  # 8 sigma
        before = price


@given(SEEDS, st.floats(0.0, 1e-2), st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=20))
def test_it_starts_again_at_each_new_real_price(seed: int, volatility: float, reals: list[float]) -> None:
    for real, price in zip(reals, follow(seed, volatility, 1.0, [(2.0, real) for real in reals]), strict=True):
        spread = volatility  # one second after the real price came
        assert abs(math.log(price / real) + spread**2 / 2) <= 8 * spread + 1e-9


@given(SEEDS, SEEDS)
def test_seeds_and_keys_give_walks_of_their_own(one: int, other: int) -> None:
    first, second = (market_data_fallbacks.simulated(seed=seed, step=1.0).handler for seed in (one, other))
    answers = [walk(key, last=100.0, last_age=0.0).value for walk in (first, second) for key in ("BTC", "ETH")]
    assert len(set(answers)) == (2 if one == other else 4)


def test_the_spread_is_what_the_volatility_says() -> None:
    walk = market_data_fallbacks.simulated(seed=7, volatility=0.01, step=1.0).handler
    prices = [100.0] + [walk("BTC", last=100.0, last_age=None) for _ in range(4000)]
    moves = [math.log(after / before) for before, after in zip(prices, prices[1:], strict=False)]
    assert abs(statistics.mean(moves) + 0.01**2 / 2) < 4 * 0.01 / math.sqrt(4000)
    assert abs(statistics.stdev(moves) / 0.01 - 1) < 4 / math.sqrt(2 * 4000)
    # Nor does one step tell anything of the next.
    assert abs(statistics.correlation(moves[1:], moves[:-1])) < 4 / math.sqrt(4000)
    within = sum(abs(move) < 0.01 for move in moves) / 4000
    assert abs(within - 0.6827) < 4 * math.sqrt(0.6827 * 0.3173 / 4000)


def test_the_price_is_expected_to_stay() -> None:
    walk = market_data_fallbacks.simulated(seed=7, volatility=0.5, max_keys=5000).handler
    with FakeClock():
        prices = [walk(number, last=100.0, last_age=1.0).value for number in range(4000)]
    error = 100 * math.sqrt((math.exp(0.25) - 1) / 4000)
    assert abs(statistics.mean(prices) - 100.0) < 4 * error  # 113.3 if the logarithm did not drift down
    assert abs(statistics.stdev(map(math.log, prices)) / 0.5 - 1) < 4 / math.sqrt(2 * 4000)
