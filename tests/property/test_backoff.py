"""The retry delays: within the formula, spread as the formula says, the same again for the same seed."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import failsoft
from failsoft import RetryPolicy, calculate_backoff

from ..reference import backoff as model
from ..reference.rng import units

ROUNDING = 2e-9  # seconds: a delay may be kept in whole nanoseconds
KINDS = list(model.Jitter)
SEEDS = st.integers(0, 2**64 - 1)
ATTEMPTS = st.one_of(st.integers(0, 12), st.sampled_from([31, 32, 63, 64, 1023, 1024, 1025, 10**6]))


@st.composite
def policies(draw: st.DrawFn) -> model.Backoff:
    """Any policy that a caller may write down."""
    # In whole nanoseconds, as the core keeps them: growth would make a rounded bit of the first delay large.
    initial = draw(st.one_of(st.sampled_from([1_000, 50_000_000, 10**9]), st.integers(1, 60 * 10**9)))
    stretch = draw(st.one_of(st.sampled_from([1, 20, 10**6]), st.integers(1, 10**4)))
    return model.Backoff(
        initial=initial / 1e9,
        maximum=initial * stretch / 1e9,
        multiplier=draw(st.one_of(st.sampled_from([1.0, 1.5, 2.0, 10.0]), st.floats(1.0, 100.0))),
        jitter=draw(st.sampled_from(KINDS)),
    )


def compiled(policy: model.Backoff, seed: int | None = None) -> failsoft.Backoff:
    return failsoft.Backoff(
        initial=policy.initial,
        maximum=policy.maximum,
        multiplier=policy.multiplier,
        jitter=failsoft.Jitter(policy.jitter.value),
        seed=seed,
    )


def assert_within(policy: model.Backoff, delay: float, attempt: int, previous: float = 0.0) -> None:
    spread = policy.spread(attempt, previous)
    slack = ROUNDING + 1e-9 * spread.most
    assert 0 <= delay <= policy.maximum  # promised to the last bit
    assert spread.least - slack <= delay <= spread.most + slack, (delay, spread)


@given(policies(), SEEDS, st.lists(ATTEMPTS, min_size=1, max_size=10))
def test_delays_stay_within_the_formula(policy: model.Backoff, seed: int, attempts: list[int]) -> None:
    backoff = compiled(policy, seed)
    previous = 0.0
    for attempt in attempts:
        delay = backoff.delay(attempt, previous)
        assert_within(policy, delay, attempt, previous)
        previous = delay


@given(policies(), SEEDS, st.lists(ATTEMPTS, min_size=1, max_size=10))
def test_a_seed_foretells_every_delay(policy: model.Backoff, seed: int, attempts: list[int]) -> None:
    """On every platform: the sequence is the one that the model draws with its own generator."""
    backoff = compiled(policy, seed)
    previous = 0.0
    for attempt, unit in zip(attempts, units(seed), strict=False):
        expected = policy.spread(attempt, previous).at(unit)
        previous = backoff.delay(attempt, previous)
        assert previous == pytest.approx(expected, rel=1e-9, abs=ROUNDING)


@given(policies(), ATTEMPTS, st.floats(0, 1e6))
def test_after_any_previous_delay(policy: model.Backoff, attempt: int, previous: float) -> None:
    assert_within(policy, compiled(policy, seed=1).delay(attempt, previous), attempt, previous)


@given(policies(), SEEDS, st.lists(ATTEMPTS, min_size=1, max_size=10))
def test_the_same_seed_gives_the_same_delays(policy: model.Backoff, seed: int, attempts: list[int]) -> None:
    first, second = compiled(policy, seed), compiled(policy, seed)
    assert [first.delay(attempt) for attempt in attempts] == [second.delay(attempt) for attempt in attempts]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not model.Jitter.NONE])
def test_other_seeds_and_no_seed_give_other_delays(kind: model.Jitter) -> None:
    policy = model.Backoff(jitter=kind)
    backoffs = [compiled(policy, seed) for seed in (0, 1, 2, 2**64 - 1, None, None)]
    assert len({tuple(backoff.delay(3, 2.0) for _ in range(4)) for backoff in backoffs}) == len(backoffs)


@pytest.mark.parametrize("attempt", [0, 2, 8])
@pytest.mark.parametrize("previous", [0.0, 1.5, 9.0])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not model.Jitter.NONE])
def test_delays_are_spread_as_the_formula_says(kind: model.Jitter, previous: float, attempt: int) -> None:
    """Kolmogorov-Smirnov at three in a million, and the mean at five standard errors, for a fixed seed."""
    policy, count = model.Backoff(jitter=kind), 4_000
    spread = policy.spread(attempt, previous)
    backoff = compiled(policy, seed=20_260_101)
    delays = sorted(backoff.delay(attempt, previous) for _ in range(count))
    distance = max(
        max(
            abs(bisect_right(delays, delay) / count - spread.probability(delay)),
            abs(bisect_left(delays, delay) / count - spread.probability(delay - ROUNDING)),
        )
        for delay in delays
    )
    assert distance < 2.6 / math.sqrt(count)
    widest = (spread.most - spread.least) / 2  # standard deviation that no spread exceeds
    assert sum(delays) / count == pytest.approx(spread.mean, abs=5 * widest / math.sqrt(count))


@given(policies())
def test_without_jitter_delays_grow_to_the_maximum_and_stay(policy: model.Backoff) -> None:
    plain = model.Backoff(policy.initial, policy.maximum, policy.multiplier, model.Jitter.NONE)
    backoff = compiled(plain)
    delays = [backoff.delay(attempt) for attempt in [*range(40), 10**3, 10**6]]
    assert all(earlier <= later for earlier, later in pairwise(delays))
    if policy.multiplier > 1.01:
        assert delays[-1] == policy.maximum


@given(policies(), ATTEMPTS)
def test_calculate_backoff_follows_the_policy(policy: model.Backoff, attempt: int) -> None:
    retry = RetryPolicy(
        max_retries=3,
        initial_delay=policy.initial,
        max_delay=policy.maximum,
        backoff_multiplier=policy.multiplier,
        jitter=failsoft.Jitter(policy.jitter.value),
        retryable_errors=frozenset(),
    )
    assert_within(policy, calculate_backoff(attempt, retry), attempt)
