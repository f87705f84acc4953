"""Guarded calls beside the model of the breaker: nested, so that outer calls end late, in another state.

A guard has its own way past the breaker, made for the call that succeeds. Here it must come to the same as the way
that test_breaker.py takes, and count every call in its metrics whether or not the breaker still cared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import failsoft
from failsoft import CircuitBreakerConfig, IntegrationType, Registry, Timeouts
from failsoft.testing import FakeClock

from ..reference import breaker as model
from .test_breaker import MILLISECOND, ORDERS, SECOND, rule_sets, status_matches

LONG = 1e6  # seconds; longer than any history, so that no call times out by itself
DEPTH = 6
ENDS = ["success", "success", "failure", "failure", "failure", "cancelled"]
STEPS: list[tuple[str, Any]] = [
    ("advance", 0),  # first, because hypothesis shrinks towards it
    *[("begin", None)] * 12,
    *[("end", how) for how in ENDS * 2],
    *[("advance", milliseconds) for milliseconds in (1, 99, 100, 249, 250, 601, 1_000, 7_000, 61_000)],
    *[("wait", offset) for offset in (-1, 0, 0, 0)],
    *[("operate", order) for order in [*ORDERS, "reset"]],
]


class Broken(ConnectionError):
    """What the dependency raises: a NETWORK failure."""


class Cancelled(BaseException):
    """No Exception: passes untouched and is ignored."""


RAISED: dict[str, type[BaseException]] = {"failure": Broken, "cancelled": Cancelled}
Body = Callable[[], None]


def sync_guard(market: failsoft.Integration) -> tuple[Callable[[Body], object], Any]:
    guarded = market.guard(lambda body: body(), operation="call", retry=False)
    return guarded, guarded


def async_guard(market: failsoft.Integration) -> tuple[Callable[[Body], object], Any]:
    async def run(body: Body) -> None:
        body()

    guarded = market.guard(run, operation="call", retry=False)

    def call(body: Body) -> None:
        with pytest.raises(StopIteration):
            guarded(body).send(None)

    return call, guarded


def attempt(market: failsoft.Integration) -> tuple[Callable[[Body], object], Any]:
    def call(body: Body) -> None:
        with market.attempt(operation="call"):
            body()

    return call, market.guard(lambda: None, operation="call", retry=False)


class Story:
    """One integration, one clock, one model, and calls within calls."""

    def __init__(self, rules: model.Rules, way: Callable[[failsoft.Integration], Any], registry: Registry) -> None:
        self.clock = FakeClock()
        self.clock.__enter__()
        self.now = 0
        self.market = registry.integration(
            "market",
            IntegrationType.MARKET_DATA,
            circuit_breaker=CircuitBreakerConfig(**asdict(rules)),
            timeouts=Timeouts(LONG, LONG, LONG, LONG),
        )
        self.call, self.counters = way(self.market)
        self.model = model.Breaker(rules, self.now)
        self.first_generation = self.market.status().generation
        self.count = self.errors = self.rejected = 0

    def close(self) -> None:
        self.clock.__exit__(None, None, None)

    def tell(self, steps: Iterator[tuple[str, Any]], depth: int = 0) -> str:
        """Go through the steps until the call they are in ends; says how."""
        for what, argument in steps:
            if argument != 0:
                note(f"{'  ' * depth}{what} {argument}")
            if what == "begin" and depth < DEPTH:
                self.begin(steps, depth + 1)
            elif what == "end" and depth > 0:
                return str(argument)
            elif what == "advance":
                self.advance(argument * MILLISECOND)
            elif what == "wait" and self.model.state is model.State.OPEN:
                self.advance(max(0, self.model.until + argument - self.now))
            elif what == "operate":
                getattr(self.market, argument)()
                getattr(self.model, argument)()
            self.compare()
        return "success"

    def begin(self, steps: Iterator[tuple[str, Any]], depth: int) -> None:
        permit = self.model.acquire(self.now)
        began = self.now
        how = ""

        def body() -> None:
            nonlocal how
            how = self.tell(steps, depth)
            if how in RAISED:
                raise RAISED[how]

        try:
            self.call(body)
        except failsoft.CircuitOpenError:
            raised: type[BaseException] | None = failsoft.CircuitOpenError
        except (Broken, Cancelled) as error:
            raised = type(error)
        else:
            raised = None
        if permit is None:
            assert raised is failsoft.CircuitOpenError, "admitted, but the model refuses"
            self.rejected += 1
            return
        assert raised is RAISED.get(how)
        if how == "cancelled":
            self.model.ignore(permit)
            return
        self.count += 1
        self.errors += how == "failure"
        (self.model.failure if how == "failure" else self.model.success)(permit, self.now, self.now - began)

    def advance(self, ns: int) -> None:
        self.clock.advance(ns / SECOND)
        self.now += ns

    def compare(self) -> None:
        status_matches(self.market.status(), self.model, self.now, self.first_generation)
        metrics = self.counters.metrics()
        assert (metrics.count, metrics.error_count, metrics.rejected) == (self.count, self.errors, self.rejected)


@pytest.mark.parametrize("way", [sync_guard, async_guard, attempt])
@settings(max_examples=settings().max_examples // 2)
@given(rules=rule_sets(), history=st.binary(min_size=100, max_size=300))
def test_calls_within_calls(way: Callable[[failsoft.Integration], Any], rules: model.Rules, history: bytes) -> None:
    registry = Registry()
    story = Story(replace(rules, timeout=LONG), way, registry)
    try:
        story.tell(STEPS[byte % len(STEPS)] for byte in history)
    finally:
        story.close()
        registry.close()
