"""The circuit breaker as its specification reads: one thread, integer nanoseconds, the time as an argument.

This is the oracle of the compiled breaker. It is written to be checked by eye against the text, so every rule
appears once, in the order in which the text gives it, and nothing is packed, cached or made fast.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from .degraded import ALL, Dial, Ramp, share_of
from .window import CountWindow, Outcome, Tally, TimeWindow, Window, nanoseconds

LEASE_TICK = 10_000  # lease expiries are kept in these (10 us), rounded up
LEASE_FLOOR = 0.001  # seconds; a shorter attempt timeout must not turn a lease into nothing
UNTIL_TICK = 1_000  # the end of an open period, or of a ramp, is kept in whole microseconds, rounded up


MOST_PROBES = 64


class State(StrEnum):
    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"
    FORCED_OPEN = "FORCED_OPEN"
    DISABLED = "DISABLED"
    METRICS_ONLY = "METRICS_ONLY"


REFUSING = (State.OPEN, State.HALF_OPEN, State.FORCED_OPEN)  # no call goes but probes


@dataclass(frozen=True)
class Rules:
    """The fields of `failsoft.CircuitBreakerConfig` that decide a breaker's state; durations in seconds."""

    failure_threshold: int | None = 5
    success_threshold: int = 2
    timeout: float = 30.0
    half_open_max_calls: int = 3
    reset_timeout: float = 60.0
    failure_rate: float | None = None
    slow_rate: float | None = None
    slow_call: float | None = None
    minimum_calls: int = 10
    window: float = 60.0
    count_window: int | None = None
    reset_growth: float = 1.0
    reset_max: float | None = None


class Refusal(StrEnum):
    """Why there is no permit."""

    STATE = "state"
    CAPACITY = "capacity"


class Change(NamedTuple):
    """What an operator finds about it in the flight recorder: a transition, or in one state the end of a ramp."""

    before: State
    after: State
    reason: str
    generation: int


class Permit(NamedTuple):
    """An admission. A probe also names the lease it holds."""

    generation: int
    slot: int | None = None
    nonce: int = 0


class Lease(NamedTuple):
    """A slot of the half-open cap, held by one probe until it reports or until somebody takes it over."""

    nonce: int
    expires: int


def rounded_up(time: int, tick: int) -> int:
    """The first multiple of `tick` that is not before `time`."""
    return -(-time // tick) * tick


class Breaker:
    """The six states, the permits and the outcomes."""

    def __init__(self, rules: Rules, now: int, ramp: Ramp | None = None) -> None:
        self.rules = rules
        self.ramp = ramp or Ramp()
        self.state = State.CLOSED
        self.generation = 0
        self.reason: str | None = None
        self.consecutive = 0
        self.streak = 0
        self.reopenings = 0
        self.until = 0
        self.leases: list[Lease | None] = [None] * MOST_PROBES
        self.nonces = itertools.count(1)
        self.by_time = TimeWindow(now, nanoseconds(rules.window))
        self.by_count = CountWindow(rules.count_window) if rules.count_window else None
        self.dial = Dial()
        self.limited_to = ALL
        self.ramping = False
        self.ramp_end = 0
        self.reserved = 0
        self.held = self.let = 0
        self.held_back = 0
        self.changes: list[Change] = []

    @property
    def window(self) -> Window:
        """What the rates are read from."""
        return self.by_time if self.by_count is None else self.by_count

    # Admission

    def acquire(self, now: int) -> Permit | None:
        """Ask to make a call at `now`; None is a refusal."""
        answer = self.admit(now)
        return answer if isinstance(answer, Permit) else None

    def admit(self, now: int, check: bool = False) -> Permit | Refusal:
        """Ask to make a call, or the call of a health check, and be told why not."""
        kept = not check and self.reserved > 0 and now < self.until + self.reserved
        due = self.state is State.HALF_OPEN or (self.state is State.OPEN and now >= self.until)
        if due and not kept and now < self.held and now >= self.let:
            self.held_back += 1
            return Refusal.STATE
        if self.state is State.OPEN and now >= self.until and not kept:
            self.streak = 0
            self._enter(State.HALF_OPEN, "wait_over")
        if self.state is State.HALF_OPEN and not kept:
            return self._lease(now) or Refusal.STATE
        if self.state in REFUSING:
            return Refusal.STATE
        return Permit(self.generation) if self._room(now) else Refusal.CAPACITY

    def _room(self, now: int) -> bool:
        if self.ramping and (now >= self.ramp_end or not self.ramp.needed()):
            self.ramping = False
            self.changes.append(Change(self.state, self.state, "ramped", self.generation))
        return self.dial.admits(self.share(now))

    def _lease(self, now: int) -> Permit | None:
        for slot, lease in enumerate(self.leases[: self.rules.half_open_max_calls]):
            if lease is None or now >= lease.expires:
                life = nanoseconds(max(self.rules.timeout, LEASE_FLOOR))
                taken = Lease(next(self.nonces), rounded_up(now + life, LEASE_TICK))
                self.leases[slot] = taken
                return Permit(self.generation, slot, taken.nonce)
        return None

    # Outcomes

    def success(self, permit: Permit, now: int, duration: int = 0) -> None:
        """The call came back well, after `duration` nanoseconds."""
        if not self._current(permit):
            return
        if self.state is State.HALF_OPEN:
            self.streak += 1
            if self.streak >= self.rules.success_threshold:
                self._close("recovered")
                self.ramping = self.ramp.needed()
                self.ramp_end = rounded_up(now + nanoseconds(self.ramp.length), UNTIL_TICK)
        elif self.state in (State.CLOSED, State.METRICS_ONLY):
            slow = self._is_slow(duration)
            self.consecutive = 0
            self._record(Outcome(now, failed=False, slow=slow))
            if self.state is State.CLOSED and slow:
                self._trip_if(now, self._slow_rule(now))

    def failure(self, permit: Permit, now: int, duration: int = 0) -> None:
        """The call failed, after `duration` nanoseconds."""
        if not self._current(permit):
            return
        if self.state is State.HALF_OPEN:
            self.reopenings += 1
            self._open("probe_failed", now)
        elif self.state in (State.CLOSED, State.METRICS_ONLY):
            self.consecutive += 1
            self._record(Outcome(now, failed=True, slow=self._is_slow(duration)))
            if self.state is State.CLOSED:
                rule = self._consecutive_rule() or self._failure_rule(now) or self._slow_rule(now)
                self._trip_if(now, rule)

    def ignore(self, permit: Permit) -> None:
        """The call says nothing about the dependency: only give back what it held."""
        self._current(permit)

    def _record(self, outcome: Outcome) -> None:
        self.by_time.record(outcome)
        if self.by_count is not None:
            self.by_count.record(outcome)

    def _current(self, permit: Permit) -> bool:
        """Give back a probe's lease, and say whether the outcome counts."""
        if permit.slot is not None:
            lease = self.leases[permit.slot]
            if lease is None or lease.nonce != permit.nonce:
                return False  # reported already, or taken over after it expired
            self.leases[permit.slot] = None
        return permit.generation == self.generation

    # Trip rules: each names itself as the reason when it is met

    def _is_slow(self, duration: int) -> bool:
        return self.rules.slow_call is not None and duration >= nanoseconds(self.rules.slow_call)

    def _consecutive_rule(self) -> str | None:
        threshold = self.rules.failure_threshold
        return "consecutive_failures" if threshold is not None and self.consecutive >= threshold else None

    def _failure_rule(self, now: int) -> str | None:
        seen = self.window.tally(now)
        return "failure_rate" if self._reached(seen, seen.failures, self.rules.failure_rate) else None

    def _slow_rule(self, now: int) -> str | None:
        seen = self.window.tally(now)
        return "slow_rate" if self._reached(seen, seen.slow, self.rules.slow_rate) else None

    def _reached(self, seen: Tally, part: int, rate: float | None) -> bool:
        return rate is not None and seen.calls >= self.rules.minimum_calls and part / seen.calls >= rate

    # Transitions

    def _enter(self, state: State, reason: str) -> None:
        self.generation += 1
        self.changes.append(Change(self.state, state, reason, self.generation))
        self.state = state
        self.reason = reason
        self.ramping = False

    def _close(self, reason: str) -> None:
        self.consecutive = 0
        self.reopenings = 0
        self.by_time.restart()
        if self.by_count is not None:
            self.by_count.restart()
        self._enter(State.CLOSED, reason)

    def _trip_if(self, now: int, reason: str | None) -> None:
        if reason is not None:
            self._open(reason, now)

    # The fleet

    def open_until(self, generation: int, end: int) -> bool:
        """The fleet is open. Only who still is where it was looked at follows."""
        if generation != self.generation or self.state not in (State.CLOSED, State.OPEN, State.HALF_OPEN):
            return False
        if self.state is State.OPEN:  # already; the longer wait holds
            self.until = max(self.until, rounded_up(end, UNTIL_TICK))
            return True
        self.until = rounded_up(end, UNTIL_TICK)
        self.reopenings += self.state is State.HALF_OPEN
        self._enter(State.OPEN, "fleet")
        return True

    def close_with_fleet(self, generation: int, now: int) -> bool:
        """The fleet has recovered."""
        if generation != self.generation or self.state not in (State.OPEN, State.HALF_OPEN):
            return False
        self._close("fleet")
        self.ramping = self.ramp.needed()
        self.ramp_end = rounded_up(now + nanoseconds(self.ramp.length), UNTIL_TICK)
        return True

    def hold(self, held: int, let: int) -> None:
        """Somebody else probes until `held`; but until `let` it is this one."""
        self.held, self.let = held, let

    def _open(self, reason: str, now: int) -> None:
        cap = math.inf if self.rules.reset_max is None else self.rules.reset_max
        wait = min(cap, self.rules.reset_timeout * self.rules.reset_growth**self.reopenings)
        self.until = rounded_up(now + nanoseconds(wait), UNTIL_TICK)
        self._enter(State.OPEN, reason)

    # The operator

    def force_closed(self) -> None:
        """Start afresh."""
        self._close("operator")

    def reset(self) -> None:
        """Start afresh."""
        self._close("operator")

    def force_open(self) -> None:
        """Refuse everything until told otherwise."""
        self._operate(State.FORCED_OPEN)

    def disable(self) -> None:
        """Admit everything, count nothing."""
        self._operate(State.DISABLED)

    def metrics_only(self) -> None:
        """Admit everything, count it, never change state. Consecutive failures are counted from here."""
        if self.state is not State.METRICS_ONLY:
            self.consecutive = 0
        self._operate(State.METRICS_ONLY)

    def _operate(self, state: State) -> None:
        if self.state is not state:
            self._enter(state, "operator")

    def limit(self, capacity: float) -> None:
        """Let only this share of the calls go; 1.0: all of them again."""
        self.limited_to = share_of(capacity)

    def reserve(self, seconds: float) -> None:
        """For so long after each wait the probes are the health check's."""
        self.reserved = nanoseconds(seconds)

    def reconfigure(self, rules: Rules, ramp: Ramp | None = None) -> None:
        """Other settings from now on. What has happened stays, so do the ends of waits, leases and ramps that run."""
        if rules.count_window is None:
            self.by_count = None
        elif self.by_count is None:
            self.by_count = CountWindow(rules.count_window)
        else:
            self.by_count.resize(rules.count_window)
        self.rules = rules
        self.ramp = ramp or Ramp()

    # What is read

    def share(self, now: int) -> int:
        """The share of the calls that limit and ramp let go, the lower of the two, whatever the state."""
        return min(self.limited_to, self.ramp.share(self.ramp_end - now) if self.ramping else ALL)

    def capacity(self, now: int) -> float:
        """The share of the calls that go, from 0 to 1."""
        return 0.0 if self.state in REFUSING else self.share(now) / ALL

    def failures(self) -> int:
        """Consecutive failures, or those at the trip while open or half-open."""
        return self.consecutive

    def sample_size(self, now: int) -> int:
        """Calls in the window."""
        return self.window.tally(now).calls

    def failure_rate(self, now: int) -> float | None:
        """The failed part of the window, or None while it holds too few calls to say."""
        seen = self.window.tally(now)
        return seen.failures / seen.calls if seen.calls >= self.rules.minimum_calls else None

    def retry_after(self, now: int) -> float | None:
        """Seconds until an open breaker admits a probe, 0.0 when it is due; None in any other state."""
        return max(0, self.until - now) / 1e9 if self.state is State.OPEN else None
