"""The models themselves, against cases worked out by hand. Nothing compiled is imported here."""

from __future__ import annotations

import math
from itertools import islice

import pytest

from . import backoff, histogram
from .breaker import LEASE_TICK, Breaker, Change, Permit, Refusal, Rules, State, rounded_up
from .degraded import ALL, Dial, Ramp, share_of
from .rng import splitmix64, units, xoshiro256
from .window import CountWindow, Outcome, Tally, TimeWindow, nanoseconds

MS = 1_000_000
S = 1_000_000_000
RULES = Rules(failure_threshold=2, success_threshold=2, timeout=1.0, half_open_max_calls=2, reset_timeout=5.0)


def go(breaker: Breaker, now: int) -> Permit:
    permit = breaker.acquire(now)
    assert permit is not None
    return permit


def tripped(rules: Rules = RULES, at: int = 0) -> Breaker:
    breaker = Breaker(rules, 0)
    for _ in range(rules.failure_threshold or 0):
        breaker.failure(go(breaker, at), at)
    assert breaker.state is State.OPEN
    return breaker


class TestBreaker:
    def test_consecutive_failures_trip_and_a_success_between_them_starts_again(self) -> None:
        breaker = Breaker(RULES, 0)
        for step in (breaker.failure, breaker.success, breaker.failure):
            step(go(breaker, 0), 0)
        assert (breaker.state, breaker.failures(), breaker.generation) == (State.CLOSED, 1, 0)
        breaker.ignore(go(breaker, 0))
        breaker.failure(go(breaker, 3), 3)
        assert (breaker.state, breaker.reason, breaker.failures()) == (State.OPEN, "consecutive_failures", 2)
        assert breaker.generation == 1

    def test_open_refuses_before_the_deadline_and_admits_at_it(self) -> None:
        breaker = tripped(at=7)
        assert breaker.until == 5 * S + 1_000  # 5.000000007 s, in whole microseconds
        assert breaker.acquire(breaker.until - 1) is None
        assert breaker.retry_after(4 * S) == pytest.approx(1.000001)
        assert breaker.retry_after(9 * S) == 0.0
        assert breaker.state is State.OPEN  # reading moves nothing
        go(breaker, breaker.until)
        assert (breaker.state, breaker.generation, breaker.retry_after(6 * S)) == (State.HALF_OPEN, 2, None)

    def test_half_open_caps_its_probes_and_closes_after_enough_successes(self) -> None:
        breaker = tripped()
        first, second = go(breaker, 5 * S), go(breaker, 5 * S)
        assert breaker.acquire(5 * S) is None
        breaker.success(first, 5 * S)
        breaker.success(first, 5 * S)  # told twice, counted once
        assert breaker.state is State.HALF_OPEN
        breaker.ignore(second)
        breaker.success(go(breaker, 5 * S), 5 * S)
        assert (breaker.state, breaker.generation) == (State.CLOSED, 3)
        assert (breaker.failures(), breaker.reason) == (0, "recovered")

    def test_a_failed_probe_reopens_and_the_wait_grows_to_its_cap_until_it_closes(self) -> None:
        growing = Rules(1, success_threshold=1, reset_timeout=1.0, reset_growth=2.0, reset_max=3.0)
        breaker = tripped(growing)
        now = 0
        for wait in (1 * S, 2 * S, 3 * S, 3 * S):
            assert breaker.until == now + wait
            now = breaker.until
            breaker.failure(go(breaker, now), now)
            assert (breaker.state, breaker.reason) == (State.OPEN, "probe_failed")
        now = breaker.until
        breaker.success(go(breaker, now), now)
        breaker.failure(go(breaker, now), now)
        assert breaker.until == now + 1 * S

    def test_late_outcomes_of_an_older_generation_count_nothing(self) -> None:
        breaker = Breaker(RULES, 0)
        late = go(breaker, 0)
        breaker.reset()
        breaker.failure(late, 1)
        assert (breaker.failures(), breaker.sample_size(1), breaker.generation) == (0, 0, 1)

    def test_an_expired_lease_may_be_taken_over(self) -> None:
        breaker = tripped()
        hung, other = go(breaker, 5 * S), go(breaker, 5 * S)
        end = rounded_up(6 * S, LEASE_TICK)
        assert breaker.acquire(end - 1) is None
        go(breaker, end)  # takes the first slot
        breaker.failure(hung, end)
        assert breaker.generation == 2  # still the same half-open period
        breaker.failure(other, end)  # expired too, but still its own
        assert breaker.state is State.OPEN

    def test_a_lease_of_an_earlier_half_open_period_still_counts_against_the_cap(self) -> None:
        breaker = tripped(Rules(failure_threshold=1, half_open_max_calls=2, reset_timeout=1.0, timeout=10.0))
        failing, hung = go(breaker, 1 * S), go(breaker, 1 * S)
        breaker.failure(failing, 1 * S)
        go(breaker, 2 * S)
        assert breaker.acquire(2 * S) is None
        breaker.failure(hung, 2 * S)
        assert breaker.state is State.HALF_OPEN
        assert breaker.acquire(2 * S) is not None

    def test_rates_need_their_minimum_and_are_asked_at_failures_and_slow_calls_alone(self) -> None:
        breaker = Breaker(Rules(failure_threshold=None, failure_rate=0.5, minimum_calls=4), 0)
        for step in (breaker.failure, breaker.failure, breaker.failure, breaker.success):
            step(go(breaker, 0), 0)
        assert (breaker.state, breaker.failure_rate(0)) == (State.CLOSED, 0.75)
        breaker.failure(go(breaker, 0), 0)
        assert (breaker.state, breaker.reason) == (State.OPEN, "failure_rate")

    def test_a_slow_call_is_one_of_at_least_the_limit_and_a_slow_failure_is_both(self) -> None:
        rules = Rules(failure_threshold=None, slow_rate=0.5, slow_call=1.0, minimum_calls=2)
        for durations, opens in (((S, 0, S - 1, S - 1), False), ((S, S), True), ((0, S), True)):
            breaker = Breaker(rules, 0)
            for duration in durations:
                breaker.success(go(breaker, 0), 0, duration)
            assert (breaker.state is State.OPEN, breaker.reason) == (opens, "slow_rate" if opens else None)
        breaker = Breaker(rules, 0)
        breaker.success(go(breaker, 0), 0, S - 1)
        breaker.failure(go(breaker, 0), 0, S)
        assert breaker.reason == "slow_rate"

    def test_forced_states(self) -> None:
        breaker = Breaker(RULES, 0)
        breaker.force_open()
        breaker.force_open()
        assert (breaker.acquire(10**15), breaker.generation) == (None, 1)
        breaker.disable()
        for _ in range(9):
            breaker.failure(go(breaker, 0), 0)
        assert (breaker.state, breaker.sample_size(0)) == (State.DISABLED, 0)
        breaker.metrics_only()
        for _ in range(9):
            breaker.failure(go(breaker, 0), 0)
        assert (breaker.state, breaker.failures(), breaker.sample_size(0)) == (State.METRICS_ONLY, 9, 9)
        breaker.reset()
        assert (breaker.state, breaker.generation) == (State.CLOSED, 4)
        assert (breaker.failures(), breaker.sample_size(0)) == (0, 0)
        breaker.force_closed()
        assert breaker.generation == 5

    def test_a_limit_holds_where_calls_go_and_leaves_probes_alone(self) -> None:
        breaker = Breaker(RULES, 0)
        breaker.limit(0.5)
        assert [breaker.admit(0) is Refusal.CAPACITY for _ in range(4)] == [False, True, False, True]
        assert breaker.capacity(0) == 0.5
        breaker = tripped()
        breaker.limit(0.0)
        assert breaker.admit(0) is Refusal.STATE
        for _ in range(2):
            breaker.success(go(breaker, 5 * S), 5 * S)
        assert (breaker.state, breaker.admit(5 * S)) == (State.CLOSED, Refusal.CAPACITY)
        breaker.limit(1.0)
        go(breaker, 5 * S)

    def test_after_a_recovery_all_calls_come_back_along_a_line(self) -> None:
        breaker = Breaker(RULES, 0, Ramp(start=0.5, length=4.0))
        for _ in range(2):
            breaker.failure(go(breaker, 0), 0)
        for _ in range(2):
            breaker.success(go(breaker, 5 * S), 5 * S)
        assert [breaker.capacity(second * S) for second in (5, 6, 7, 8, 9)] == [0.5, 0.625, 0.75, 0.875, 1.0]
        breaker.limit(0.7)
        assert [breaker.capacity(second * S) for second in (5, 6, 7)] == [0.5, 0.625, share_of(0.7) / ALL]
        breaker.admit(9 * S - 1)
        assert breaker.ramping
        breaker.admit(9 * S)
        breaker.admit(9 * S)
        assert breaker.changes[-1] == Change(State.CLOSED, State.CLOSED, "ramped", 3)
        assert len(breaker.changes) == 4

    def test_reserved_probes_are_for_the_check_until_that_lapses(self) -> None:
        breaker = tripped()
        breaker.reserve(2.0)
        assert breaker.admit(7 * S - 1) is Refusal.STATE
        assert breaker.admit(5 * S - 1, check=True) is Refusal.STATE
        assert isinstance(breaker.admit(5 * S, check=True), Permit)
        assert (breaker.state, breaker.admit(6 * S)) == (State.HALF_OPEN, Refusal.STATE)
        go(breaker, 7 * S)

    def test_another_configuration_keeps_what_has_happened(self) -> None:
        breaker = Breaker(Rules(failure_threshold=9, count_window=4, minimum_calls=1), 0)
        for step in (breaker.success, *[breaker.failure] * 5, breaker.success):
            step(go(breaker, 0), 0)
        for count_window, expected in ((2, (2, 1)), (9, (2, 1)), (None, (7, 5)), (9, (0, 0))):
            breaker.reconfigure(Rules(failure_threshold=2, count_window=count_window, minimum_calls=1))
            seen = breaker.window.tally(0)
            assert (seen.calls, seen.failures) == expected
        breaker.failure(go(breaker, 0), 0)
        breaker.failure(go(breaker, 0), 0)
        assert breaker.reason == "consecutive_failures"


class TestDial:
    def test_three_quarters(self) -> None:
        dial = Dial()
        assert [dial.admits(share_of(0.75)) for _ in range(8)] == 2 * [True, True, True, False]

    def test_the_ends(self) -> None:
        dial = Dial()
        assert not any(dial.admits(share_of(0.0)) for _ in range(9))
        assert [dial.admits(share_of(1e-300)) for _ in range(3)] == [True, False, False]
        assert all(dial.admits(share_of(1.0)) for _ in range(9))
        assert share_of(1.0) == ALL


class TestWindows:
    def test_the_count_window_holds_exactly_the_last(self) -> None:
        window = CountWindow(2)
        for failed, slow in ((True, True), (True, False), (False, True)):
            window.record(Outcome(0, failed, slow))
        assert window.tally(10**18) == Tally(calls=2, failures=1, slow=1)

    def test_the_time_window_holds_the_live_slice_and_five_before_it(self) -> None:
        window = TimeWindow(created=50 * MS, length=nanoseconds(0.6))
        window.record(Outcome(50 * MS, True, False))  # the first instant of slice 0
        window.record(Outcome(150 * MS - 1, False, False))  # its last
        window.record(Outcome(150 * MS, False, True))  # slice 1
        assert window.tally(650 * MS - 1) == (3, 1, 1)
        assert window.tally(650 * MS) == (1, 0, 1)
        assert window.tally(750 * MS) == (0, 0, 0)


class TestHistogram:
    @pytest.mark.parametrize(
        ("value", "first", "last", "middle"),
        [
            (0, 0, 0, 0),
            (127, 127, 127, 127),
            (128, 128, 129, 129),
            (255, 254, 255, 255),
            (256, 256, 259, 258),
            (1_000, 1_000, 1_007, 1_004),
            (2**42 - 1, 2**42 - 2**35, 2**42 - 1, 2**42 - 2**34),
        ],
    )
    def test_buckets(self, value: int, first: int, last: int, middle: int) -> None:
        assert histogram.bucket(value) == (first, last)
        assert histogram.midpoint(value) == middle

    def test_the_bound_holds_in_every_octave(self) -> None:
        for exponent in range(7, 42):
            for value in (2**exponent, 2**exponent + 1, 2 ** (exponent + 1) - 1):
                assert abs(histogram.midpoint(value) - value) <= value * histogram.RELATIVE_ERROR

    def test_ranks_and_the_clamp_to_what_was_seen(self) -> None:
        values = [1_000, 10, 20]
        assert [histogram.order_statistic(values, q) for q in (0, 1 / 3, 0.34, 1)] == [10, 10, 20, 1_000]
        assert histogram.quantile(values, 1) == 1_000  # not 1,004: nothing above 1,000 was seen
        assert math.isnan(histogram.quantile([], 0.5))

    def test_recent(self) -> None:
        seen = histogram.Histogram(window=6 * S, now=0)
        for value, now in ((-5, 0), (2**50, S)):
            seen.record(value, now)
        assert seen.values() == [0, 2**42 - 1]
        assert seen.recent(6 * S - 1) == [0, 2**42 - 1]
        assert seen.recent(6 * S) == [2**42 - 1]
        assert seen.recent(7 * S) == []


class TestBackoff:
    def test_the_ceiling_grows_and_saturates(self) -> None:
        policy = backoff.Backoff(initial=0.5, maximum=10.0, multiplier=2.0)
        assert [policy.ceiling(attempt) for attempt in (0, 1, 4, 5, 10**6)] == [0.5, 1.0, 8.0, 10.0, 10.0]

    @pytest.mark.parametrize(
        ("jitter", "previous", "least", "most", "mean"),
        [
            (backoff.Jitter.NONE, 0.0, 2.0, 2.0, 2.0),
            (backoff.Jitter.FULL, 0.0, 0.0, 2.0, 1.0),
            (backoff.Jitter.EQUAL, 0.0, 1.0, 2.0, 1.5),
            (backoff.Jitter.DECORRELATED, 0.0, 0.5, 1.5, 1.0),
            (backoff.Jitter.DECORRELATED, 1.5, 0.5, 4.5, 2.5),
            # Uniform in [0.5, 20.5] cut at 10: 10 with a chance of 10.5 in 20, else 5.25 on average.
            (backoff.Jitter.DECORRELATED, 20.5 / 3, 0.5, 10.0, 0.475 * 5.25 + 0.525 * 10),
        ],
    )
    def test_spreads(self, jitter: backoff.Jitter, previous: float, least: float, most: float, mean: float) -> None:
        spread = backoff.Backoff(jitter=jitter).spread(2, previous)
        assert (spread.least, spread.most) == pytest.approx((least, most))
        assert spread.mean == pytest.approx(mean)
        assert spread.probability(most) == 1.0
        assert spread.probability(least - 1e-6) == 0.0
        assert spread.at(0.0) == pytest.approx(least)
        assert least <= spread.at(0.5) <= most


class TestRng:
    def test_known_answers(self) -> None:
        """The published vectors of both generators."""
        assert list(islice(splitmix64(1234567), 3)) == [
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
        ]
        assert list(islice(xoshiro256([1, 2, 3, 4]), 5)) == [
            41943041,
            58720359,
            3588806011781223,
            3591011842654386,
            9228616714210784205,
        ]
        assert all(0 <= unit < 1 for unit in islice(units(0), 1_000))
