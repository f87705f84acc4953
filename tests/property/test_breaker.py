"""The compiled breaker beside its model: the same calls, one clock, the same answers after every step."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from failsoft import BreakerStatus, CircuitBreaker, CircuitBreakerConfig, DegradedPolicy
from failsoft._core import NO_ROOM, REASONS, STATES, now_ns
from failsoft.decisions import CAPACITY, TRANSITION
from failsoft.testing import FakeClock

from ..conftest import Score
from ..reference import breaker as model
from ..reference.degraded import Ramp
from ..reference.window import TimeWindow, nanoseconds

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
SLOW_CALL = 0.25
JUST_SLOW = nanoseconds(SLOW_CALL)
DURATIONS = [0, JUST_SLOW - 1, JUST_SLOW]
HOWS = ["success", "failure", "ignore"]
PAUSES = [0, 1, 49, 99, 100, 101, 600, 1_000, 7_000, 61_000, 10**9]  # milliseconds
BESIDE = [-MILLISECOND // 2, -1, 0, MILLISECOND]  # an end: all closer to it than the shortest lease is long
CAPACITIES = [0.0, 0.1, 0.5, 0.75, 1.0]
RESERVATIONS = [0.0, 0.0, 0.01, 1.0]  # seconds
AT_ONCE = Ramp()
ORDERS = ["force_open", "force_closed", "disable", "metrics_only", "reset"]


class Call(NamedTuple):
    """One admission, as both sides know it."""

    expected: model.Permit
    permit: int


class Pair:
    """A breaker, its model and the clock that both of them see."""

    def __init__(self, rules: model.Rules, ramp: Ramp = AT_ONCE) -> None:
        self.clock = FakeClock()
        self.clock.__enter__()
        self.now = 0
        self.breaker = CircuitBreaker(CircuitBreakerConfig(**asdict(rules)), "pair", policy(ramp))
        self.model = model.Breaker(rules, self.now, ramp)
        self.first_generation = self.breaker.status().generation

    def close(self) -> None:
        self.clock.__exit__(None, None, None)

    def advance(self, ns: int) -> None:
        self.clock.advance(ns / SECOND)
        self.now += ns

    def acquire(self, check: bool = False) -> Call | None:
        expected = self.model.admit(self.now, check)
        permit = self.breaker.probe() if check else self.breaker.admit()
        if isinstance(expected, model.Permit):
            assert permit & 1, f"{permit} is no permit, expected {expected}"
            return Call(expected, permit)
        no_room = expected is model.Refusal.CAPACITY and not check
        assert permit == (NO_ROOM if no_room else 0), f"permit {permit}, expected {expected}"
        return None

    def reconfigure(self, rules: model.Rules, ramp: Ramp) -> None:
        self.breaker.reconfigure(CircuitBreakerConfig(**asdict(rules)), policy(ramp))
        self.model.reconfigure(rules, ramp)

    def settle(self, call: Call, how: str, duration: int = 0) -> None:
        if how == "success":
            self.breaker.success(call.permit, duration)
            self.model.success(call.expected, self.now, duration)
        elif how == "failure":
            self.breaker.failure(call.permit, duration)
            self.model.failure(call.expected, self.now, duration)
        else:
            self.breaker.ignore(call.permit)
            self.model.ignore(call.expected)

    def operate(self, order: str) -> None:
        getattr(self.breaker, order)()
        getattr(self.model, order)()

    def follow(self, wait: int | None, late: bool) -> None:
        """Do as the fleet does, having looked at the breaker now or a generation ago."""
        seen = self.model.generation - late
        if wait is None:
            done = self.breaker.close_with_fleet((self.first_generation + seen) % 2**32)
            assert done == self.model.close_with_fleet(seen, self.now)
        else:
            done = self.breaker.open_until((self.first_generation + seen) % 2**32, now_ns() + wait)
            assert done == self.model.open_until(seen, self.now + wait)

    def hold(self, held: int, let: int) -> None:
        self.breaker.let(now_ns() + let)
        self.breaker.hold(now_ns() + held)
        self.model.hold(self.now + held, self.now + let)

    def compare(self) -> None:
        global compared
        compared += 1
        assert str(self.breaker.state) == self.model.state
        assert self.breaker.capacity == pytest.approx(self.model.share(self.now) / 2**32, abs=1e-9)
        assert self.breaker.held_back == self.model.held_back
        status_matches(self.breaker.status(), self.model, self.now, self.first_generation)

    def compare_records(self) -> None:
        """The flight recorder holds the last 256 changes, each once."""
        recorded, changes = self.breaker.decisions(), self.model.changes[-256:]
        assert len(recorded) == len(changes)
        for entry, change in zip(recorded, changes, strict=True):
            kind, because, state, before, _, _, generation, *_ = entry
            assert kind == (CAPACITY if change.reason == "ramped" else TRANSITION)
            assert (REASONS[because], STATES[state]) == (change.reason, change.after)
            assert kind == CAPACITY or STATES[before] == change.before
            assert generation - self.first_generation == change.generation


def policy(ramp: Ramp) -> DegradedPolicy:
    return DegradedPolicy(ramp_from=ramp.start, ramp=ramp.length)


def status_matches(status: BreakerStatus, expected: model.Breaker, now: int, first_generation: int) -> None:
    """Everything that an operator can read must be what the model says."""
    assert str(status.state) == expected.state
    assert status.generation - first_generation == expected.generation
    assert status.reason == expected.reason
    assert status.capacity == pytest.approx(expected.capacity(now), abs=1e-9)
    if expected.state in (model.State.FORCED_OPEN, model.State.DISABLED):
        return  # the text gives these states no numbers
    assert status.failures == expected.failures()
    assert close(status.retry_after, expected.retry_after(now), 1e-9)
    if expected.state in (model.State.CLOSED, model.State.METRICS_ONLY):
        assert status.sample_size == expected.sample_size(now)
        assert close(status.failure_rate, expected.failure_rate(now), 1e-9)


def close(value: float | None, expected: float | None, tolerance: float) -> bool:
    """Equal but for `tolerance`, or both None; pytest.approx would take most of the time of these tests."""
    if value is None or expected is None:
        return value is expected
    return abs(value - expected) <= tolerance


def small_rules(pick: Callable[[Sequence[Any]], Any]) -> model.Rules:
    """Small numbers, so that a few steps reach every edge of them; `pick` chooses one of several."""
    count_window = pick([None, None, 1, 2, 3, 5, 10, 64, 65])
    slow_rate = pick([None, 0.3, 0.5, 1.0])
    reset_timeout = pick([0.01, 0.5, 3.0])
    failure_rate = pick([None, 0.1, 0.5, 0.7, 1.0])
    # A breaker without any rule is refused.
    thresholds = [1, 2, 3, 5] if failure_rate is slow_rate is None else [None, 1, 2, 3, 5]
    reset_growth = pick([1.0, 1.5, 2.0])
    # Uncapped growth would reach the end of the clock within the steps of one run.
    longest = None if reset_growth == 1.0 else 1_000.0
    return model.Rules(
        failure_threshold=pick(thresholds),
        success_threshold=pick([1, 2, 3]),
        timeout=pick([0.0001, 0.05, 0.05, 2.0]),
        half_open_max_calls=pick([1, 2, 3, 64]),
        reset_timeout=reset_timeout,
        failure_rate=failure_rate,
        slow_rate=slow_rate,
        slow_call=pick([None, SLOW_CALL]) if slow_rate is None else SLOW_CALL,
        minimum_calls=min(pick([1, 2, 3, 4, 5]), count_window or 5),
        window=pick([0.6, 6.0, 60.0]),
        count_window=count_window,
        reset_growth=reset_growth,
        reset_max=pick([longest, reset_timeout, 4 * reset_timeout]),
    )


def small_ramp(pick: Callable[[Sequence[Any]], Any]) -> Ramp:
    """No ramp, or one of about the other times."""
    return Ramp(start=pick([0.0, 0.1, 0.5, 0.9, 1.0]), length=pick([0.0, 0.0, 0.01, 0.7, 3.0]))


@st.composite
def rule_sets(draw: st.DrawFn) -> model.Rules:
    return small_rules(lambda options: draw(st.sampled_from(options)))


@st.composite
def ramps(draw: st.DrawFn) -> Ramp:
    return small_ramp(lambda options: draw(st.sampled_from(options)))


class BreakerMachine(RuleBasedStateMachine):
    """Calls that overlap anything: transitions, each other, expiries, operators.

    Single steps seldom get past an opening, so some rules walk to where it becomes interesting and stop.
    """

    @initialize(rules=rule_sets(), ramp=ramps())
    def create(self, rules: model.Rules, ramp: Ramp) -> None:
        self.pair = Pair(rules, ramp)
        self.calls: list[Call] = []
        self.settled: list[Call] = []

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            self.pair.close()
            self.pair.compare_records()

    @rule(count=st.integers(1, 4), check=st.booleans())
    def acquire(self, count: int, check: bool = False) -> None:
        for _ in range(count):
            call = self.pair.acquire(check)
            if call is not None:
                self.calls.append(call)

    @rule(index=st.integers(0, 7), how=st.sampled_from(HOWS), duration=st.sampled_from(DURATIONS))
    def settle(self, index: int, how: str, duration: int) -> None:
        if self.calls:
            call = self.calls.pop(index % len(self.calls))
            self.pair.settle(call, how, duration)
            self.settled.append(call)

    @rule(index=st.integers(0, 7), how=st.sampled_from(HOWS), duration=st.sampled_from(DURATIONS))
    def settle_again(self, index: int, how: str, duration: int) -> None:
        if self.settled:
            self.pair.settle(self.settled[-1 - index % len(self.settled)], how, duration)

    @rule(hows=st.lists(st.sampled_from(HOWS), min_size=1, max_size=8), duration=st.sampled_from(DURATIONS))
    def calls_in_turn(self, hows: list[str], duration: int) -> None:
        for how in hows:
            call = self.pair.acquire()
            if call is not None:
                self.pair.settle(call, how, duration)
            self.pair.compare()

    @rule(duration=st.sampled_from(DURATIONS))
    def fail_until_it_opens(self, duration: int) -> None:
        for _ in range(12):
            if self.pair.model.state is model.State.CLOSED and (call := self.pair.acquire()) is not None:
                self.pair.settle(call, "failure", duration)
                self.pair.compare()

    @rule(offset=st.sampled_from(BESIDE))
    def recover(self, offset: int) -> None:
        """Once it is open and its wait is over, or nearly."""
        self.probe_at_the_end_of_the_wait(offset, 0)
        for _ in range(4):
            if self.pair.model.state in (model.State.OPEN, model.State.HALF_OPEN):
                call = self.pair.acquire(check=True)
                if call is not None:
                    self.pair.settle(call, "success")
                self.pair.compare()

    @rule(offset=st.sampled_from(BESIDE), count=st.integers(0, 4))
    def call_at_the_end_of_the_ramp(self, offset: int, count: int) -> None:
        if self.pair.model.ramping:
            self.go_to(self.pair.model.ramp_end + offset)
            self.acquire(count)

    @rule(part=st.integers(1, 4), count=st.integers(0, 4))
    def call_during_the_ramp(self, part: int, count: int) -> None:
        if self.pair.model.ramping:
            self.go_to(self.pair.now + (self.pair.model.ramp_end - self.pair.now) // part)
            self.acquire(count)

    @rule(capacity=st.sampled_from(CAPACITIES))
    def limit(self, capacity: float) -> None:
        self.pair.breaker.limit(capacity)
        self.pair.model.limit(capacity)

    @rule(seconds=st.sampled_from(RESERVATIONS))
    def reserve(self, seconds: float) -> None:
        self.pair.breaker.reserve(seconds)
        self.pair.model.reserve(seconds)

    @rule(milliseconds=st.sampled_from(PAUSES), late=st.booleans())
    def follow_the_fleet_open(self, milliseconds: int, late: bool = False) -> None:
        self.pair.follow(milliseconds * MILLISECOND, late)

    @rule(late=st.booleans())
    def follow_the_fleet_closed(self, late: bool = False) -> None:
        self.pair.follow(None, late)

    @rule(held=st.sampled_from(PAUSES), let=st.sampled_from(PAUSES))
    def hold(self, held: int, let: int) -> None:
        self.pair.hold(held * MILLISECOND, let * MILLISECOND)

    @rule(offset=st.sampled_from(BESIDE), check=st.booleans())
    def probe_at_the_end_of_a_reservation(self, offset: int, check: bool) -> None:
        if self.pair.model.state in (model.State.OPEN, model.State.HALF_OPEN):
            self.go_to(self.pair.model.until + self.pair.model.reserved + offset)
            self.acquire(1, check)

    @rule(seed=st.integers(0, 1_000))
    def reconfigure(self, seed: int) -> None:
        pick = random.Random(seed).choice
        rules = replace(small_rules(pick), window=self.pair.model.rules.window)  # which cannot be changed
        self.pair.reconfigure(rules, small_ramp(pick))

    @rule(milliseconds=st.sampled_from(PAUSES))
    def advance(self, milliseconds: int) -> None:
        self.pair.advance(milliseconds * MILLISECOND)

    @rule(offset=st.sampled_from(BESIDE), count=st.integers(0, 4))
    def probe_at_the_end_of_the_wait(self, offset: int, count: int) -> None:
        if self.pair.model.state is model.State.OPEN:
            self.go_to(self.pair.model.until + offset)
            self.acquire(count)

    @rule(index=st.integers(0, 7), offset=st.sampled_from(BESIDE), count=st.integers(0, 4))
    def probe_at_the_end_of_a_lease(self, index: int, offset: int, count: int) -> None:
        leases = [lease for lease in self.pair.model.leases if lease is not None]
        if leases:
            self.go_to(leases[index % len(leases)].expires + offset)
            self.acquire(count)

    @rule(ahead=st.integers(1, 7), offset=st.sampled_from([-1, 0]))
    def go_to_the_edge_of_a_slice(self, ahead: int, offset: int) -> None:
        window = self.pair.model.window
        if isinstance(window, TimeWindow):
            self.go_to((window.slices.number(self.pair.now) + ahead) * window.slices.width + offset)

    def go_to(self, time: int) -> None:
        if time > self.pair.now:
            self.pair.advance(time - self.pair.now)

    @rule(order=st.sampled_from(ORDERS))
    def operate(self, order: str) -> None:
        self.pair.operate(order)

    @invariant()
    def same(self) -> None:
        if hasattr(self, "pair"):
            self.pair.compare()


DEEP = os.environ.get("FAILSOFT_DEEP") == "1"
compared = 0
"""Steps after which core and model were looked at."""

TestBreaker = BreakerMachine.TestCase

STEPS: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
    (BreakerMachine.advance, (0,)),  # first, because hypothesis shrinks towards it
    *((BreakerMachine.acquire, (count,)) for count in (1, 1, 1, 2, 4)),
    *((BreakerMachine.settle, step) for step in itertools.product(range(4), HOWS, DURATIONS)),
    *((BreakerMachine.settle_again, step) for step in itertools.product(range(3), HOWS, [JUST_SLOW])),
    *((BreakerMachine.calls_in_turn, step) for step in itertools.product([HOWS[:2], HOWS[1::-1]], DURATIONS)),
    *((BreakerMachine.fail_until_it_opens, (duration,)) for duration in (0, 0, JUST_SLOW)),
    *((BreakerMachine.advance, (milliseconds,)) for milliseconds in PAUSES),
    *((BreakerMachine.probe_at_the_end_of_the_wait, (0, count)) for count in (0, 1, 1, 2, 2, 3, 4)),
    *((BreakerMachine.probe_at_the_end_of_the_wait, (offset, 1)) for offset in BESIDE),
    *((BreakerMachine.probe_at_the_end_of_a_lease, step) for step in itertools.product(range(3), BESIDE, [1])),
    *((BreakerMachine.go_to_the_edge_of_a_slice, step) for step in itertools.product([1, 1, 2, 5, 6], [-1, 0])),
    *((BreakerMachine.operate, (order,)) for order in ORDERS),
    *((BreakerMachine.recover, (offset,)) for offset in (0, 0, 0, 0, *BESIDE)),
    *((BreakerMachine.acquire, (count, True)) for count in (1, 4)),
    *((BreakerMachine.call_during_the_ramp, step) for step in itertools.product([2, 3], [1, 4])),
    *((BreakerMachine.call_at_the_end_of_the_ramp, (offset, 2)) for offset in BESIDE),
    *((BreakerMachine.limit, (capacity,)) for capacity in (*CAPACITIES, 1.0, 1.0)),
    *((BreakerMachine.reserve, (seconds,)) for seconds in RESERVATIONS),
    *(
        (BreakerMachine.follow_the_fleet_open, step)
        for step in itertools.product([0, 600, 7_000], [False, False, True])
    ),
    *((BreakerMachine.follow_the_fleet_closed, (late,)) for late in (False, True)),
    *((BreakerMachine.hold, step) for step in itertools.product([0, 600, 7_000], [0, 0, 99])),
    *((BreakerMachine.probe_at_the_end_of_a_reservation, step) for step in itertools.product(BESIDE, [False, True])),
    *((BreakerMachine.reconfigure, (seed,)) for seed in range(6)),
]


@settings(max_examples=(4 if DEEP else 1) * settings().max_examples)  # more than a million steps, if deep
@given(rule_sets(), ramps(), st.binary(min_size=200, max_size=400))
def test_long_histories(rules: model.Rules, ramp: Ramp, history: bytes) -> None:
    """The same rules, a byte a step: a hundred times the steps that the machine can draw in the same time."""
    machine = BreakerMachine()
    machine.create(rules, ramp)
    try:
        for byte in history:
            step, arguments = STEPS[byte % len(STEPS)]
            if byte:
                note(f"{step.__name__}{arguments}")
            step(machine, *arguments)
            machine.pair.compare()
    finally:
        machine.teardown()


def exhaustive_rules() -> list[model.Rules]:
    """Every combination of the smallest settings that a caller can choose."""
    return [
        model.Rules(
            failure_threshold=threshold,
            success_threshold=successes,
            timeout=1.0,
            half_open_max_calls=probes,
            reset_timeout=0.001,
            failure_rate=rate,
            slow_rate=slow_rate,
            slow_call=SLOW_CALL,
            minimum_calls=1,
            count_window=count_window,
        )
        for threshold, successes, probes, rate, slow_rate, count_window in itertools.product(
            [None, 1, 2], [1, 2], [1, 2], [None, 1.0], [None, 0.5], [None, 1, 2]
        )
        if not threshold is rate is slow_rate is None
    ]


def test_every_short_history_of_every_small_breaker() -> None:
    """Window 1, minimum 1, threshold 1, rate 100 %: the smallest breakers through all histories of three (deep: five)."""
    for rules in exhaustive_rules():
        pair = Pair(rules)
        try:
            for history in itertools.product(["success", "failure", "slow", "ignore", "wait"], repeat=5 if DEEP else 3):
                pair.operate("reset")
                for step in history:
                    if step == "wait":
                        pair.advance(MILLISECOND)
                    elif (call := pair.acquire()) is not None:
                        how, duration = ("success", SECOND) if step == "slow" else (step, 0)
                        pair.settle(call, how, duration)
                pair.compare()
        finally:
            pair.close()


def test_a_rate_is_reached_by_exactly_its_share_of_the_calls() -> None:
    """k failures of n trip a rate of k / n, however the quotient rounds, and k - 1 do not."""
    for calls in range(1, 31):
        for failures in range(1, calls + 1):
            rules = model.Rules(
                failure_threshold=None,
                failure_rate=failures / calls,
                minimum_calls=calls,
                count_window=calls,
            )
            pair = Pair(rules)
            try:
                for hows in (["success"] * (calls - failures + 1), ["failure"] * (failures - 1), ["failure"]):
                    for how in hows:
                        call = pair.acquire()
                        assert call is not None
                        pair.settle(call, how)
                    pair.compare()
                assert pair.model.state is model.State.OPEN
            finally:
                pair.close()


@pytest.mark.parametrize("resets", [1, 2**15 - 3, 2**15 - 2, 2**15 - 1, 2**15, 2**16 - 2, 2**16 - 1, 2**16])
def test_a_wait_is_kept_however_many_generations_have_passed(resets: int) -> None:
    """An operator's resets between two openings, up to every width that a tag could be cut to."""
    pair = Pair(model.Rules(failure_threshold=1, reset_timeout=1.0))
    try:
        for _ in range(2):
            call = pair.acquire()
            assert call is not None
            pair.settle(call, "failure")
            pair.compare()
            assert pair.acquire() is None
            pair.advance(SECOND)
            for _ in range(resets):
                pair.operate("reset")
    finally:
        pair.close()


def test_idle_for_ages_then_one_call() -> None:
    """Whatever the window held has expired, one slice too late as well as a thousand million."""
    for slices in [*range(8), 10**3, 10**6, 10**9]:
        pair = Pair(model.Rules(failure_threshold=None, failure_rate=1.0, minimum_calls=2, window=0.6))
        try:
            call = pair.acquire()
            assert call is not None
            pair.settle(call, "failure")
            pair.advance(slices * 100 * MILLISECOND)
            pair.compare()
            pair.settle(call, "failure")
            pair.compare()
        finally:
            pair.close()


def test_that_was_many_steps(score: Score) -> None:
    """Last in its file: how often core and model were compared until here."""
    score("core and model agree", "differences", 0, f"{compared} steps")
    assert compared > 0
