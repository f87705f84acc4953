"""Every kind of guard, brought to the brink of every outcome: what the sweeps of this room run over.

A `Case` is one guard before one dependency. `arm()` puts breaker and dependency where the outcome will come from,
`call()` makes the call (for async kinds: makes the coroutine), `check()` says whether anything was left behind. The
clock is fake and the case's own: nothing here waits.
"""

from __future__ import annotations

import functools
import itertools
import sys
import types
from collections.abc import Callable, Generator, Iterable
from typing import Any

import pytest

import failsoft
from failsoft import CircuitState, Fallback, FallbackType, Integration, Registry, database_fallbacks, events, forks
from failsoft import registry as registries
from failsoft import with_integration_resilience as resilient
from failsoft.testing import FakeClock

LEASE, WAIT = 30.0, 60.0
"""Seconds that a probe may take, and that the breaker stays open."""

MOMENT = 1e-4
"""Waits and leases end on whole microseconds, or tens of them."""


class Gone(ConnectionError):
    """What the dependency raises: retried, and counted as a failure."""


class Given(BaseException):
    """What passes through: no Exception."""


ARGUMENT = "argument"


def judge(value: object) -> str | None:
    return "SERVER_ERROR" if value == "bad" else None


def first(argument: object) -> object:
    return argument


def mock(argument: object) -> str:
    return "mock"


async def mock_async(argument: object) -> str:
    await pause()
    return "mock"


@types.coroutine
def pause() -> Generator[None, None, None]:
    """One turn of the loop, or of whoever drives by hand."""
    yield


Make = Callable[[Integration, Callable[..., Any]], Callable[[], Any]]

PLAIN: dict[str, Make] = {
    "guard": lambda i, fn: functools.partial(i.guard(fn), ARGUMENT),
    "outcome": lambda i, fn: functools.partial(i.guard(fn).outcome, ARGUMENT),
    "judged": lambda i, fn: functools.partial(i.guard(fn, failure=judge), ARGUMENT),
    "remembering": lambda i, fn: functools.partial(i.guard(fn, fallbacks=[database_fallbacks.last_known()]), ARGUMENT),
    "keyed": lambda i, fn: functools.partial(i.guard(fn, key=first), ARGUMENT),
    "deduplicated": lambda i, fn: functools.partial(i.guard(fn, dedupe=True), ARGUMENT),
    "all at once": lambda i, fn: functools.partial(
        i.guard(fn, dedupe=True, key=first, failure=judge, details=lambda a: {"a": a}).outcome, ARGUMENT
    ),
    "by the integration": lambda i, fn: functools.partial(i.call, fn, ARGUMENT),
    "by the seed's face": lambda i, fn: functools.partial(resilient, i.type, i.name, functools.partial(fn, ARGUMENT)),
}


def block(i: Integration, fn: Callable[..., Any]) -> Callable[[], Any]:
    def call() -> Any:
        with i.attempt("block"):
            return fn(ARGUMENT)

    return call


def block_async(i: Integration, fn: Callable[..., Any]) -> Callable[[], Any]:
    async def call() -> Any:
        async with i.attempt("block"):
            return await fn(ARGUMENT)

    return call


SYNC: dict[str, Make] = {
    **PLAIN,
    "falling back": lambda i, fn: functools.partial(
        i.guard(fn, fallbacks=[Fallback(FallbackType.CACHE, _raise), Fallback(FallbackType.MOCK, mock)]), ARGUMENT
    ),
    "block": block,
}
ASYNC: dict[str, Make] = {
    **PLAIN,
    "falling back": lambda i, fn: functools.partial(
        i.guard(fn, fallbacks=[Fallback(FallbackType.CACHE, _raise), Fallback(FallbackType.MOCK, mock_async)]), ARGUMENT
    ),
    "handed over": lambda i, fn: functools.partial(i.guard(lambda argument: fn(argument)), ARGUMENT),
    "block": block_async,
}


def _raise(argument: object) -> object:
    raise LookupError("nothing cached")


OUTCOMES = ("success", "failure", "retry", "late", "refusal", "good probe", "bad probe", "passed through", "judged bad")
"""What the call is about to come to."""

_number = itertools.count()


class Case:
    """One kind of guard about to come to one outcome."""

    def __init__(self, kind: str, outcome: str, clock: FakeClock, *, is_async: bool = False) -> None:
        self.kind, self.outcome, self.clock, self.is_async = kind, outcome, clock, is_async
        self.registry = registries.default if kind == "by the seed's face" else Registry()
        self.integration = self.registry.integration(
            f"anomaly {next(_number)}",
            "database",
            timeouts={"overall": 1000.0, "read": 20.0},
            retry_policy={"max_retries": 1, "initial_delay": 0.5, "max_delay": 0.5, "jitter": False},
            circuit_breaker={
                "failure_threshold": 3, "success_threshold": 1, "half_open_max_calls": 1, "timeout": LEASE,
                "reset_timeout": WAIT,
            },
            degraded={"ramp": 0.0},
        )  # fmt: skip
        self.script: list[Any] = []
        self.made = 0
        self.call = (ASYNC if is_async else SYNC)[kind](self.integration, self._async if is_async else self._sync)

    def _sync(self, argument: object) -> object:
        self.made += 1
        step = self.script.pop() if self.script else "value"
        if step == "late":
            self.clock.advance(LEASE)
            return "value"
        if isinstance(step, BaseException):
            raise step
        return step

    async def _async(self, argument: object) -> object:
        self.made += 1
        step = self.script.pop() if self.script else "value"
        await pause()
        try:
            if step == "late":
                self.clock.advance(LEASE)
                await pause()
                await pause()
                return "value"
            if isinstance(step, BaseException):
                raise step
            return step
        finally:
            await pause()

    @property
    def integrations(self) -> tuple[Integration, ...]:
        return (self.integration, *self.integration.shards.values())

    @property
    def breaker(self) -> failsoft.CircuitBreaker:
        """The one that the call meets."""
        shards = self.integration.shards
        return shards[ARGUMENT].breaker if ARGUMENT in shards else self.integration.breaker

    def warm_up(self, drive: Callable[[Any], Any]) -> None:
        """Once each way, so that all is imported and made that is made once."""
        for script in (["value"], [Gone(), Gone()], ["value", Gone()], ["value"]):
            self.integration.reset()
            self.script = script
            try:
                result = self.call()
                if self.is_async:
                    drive(result)
            except Gone:
                pass

    def arm(self) -> None:
        """To the brink."""
        for one in self.integrations:
            one.reset()
        self.made = 0
        probe = "probe" in self.outcome
        if self.outcome == "refusal":
            for one in self.integrations:
                one.force_open()
        elif probe:
            for one in self.integrations:
                for _ in range(3):
                    one.breaker.failure(one.breaker.acquire())
                assert one.breaker.state is CircuitState.OPEN
            self.clock.advance(WAIT + MOMENT)
        self.script = {
            "failure": [Gone("2"), Gone("1")],
            "bad probe": [Gone("2"), Gone("1")],
            "retry": ["value", Gone("1")],
            "late": ["late"],
            "passed through": [Given()],
            "judged bad": ["bad", "bad"],
        }.get(self.outcome, [])

    def probes_out(self) -> int:
        return sum(one.status().probes for one in self.integrations)

    def flights_out(self) -> int:
        guards = [ref() for one in self.integrations for ref in one._guards]
        flights = [guard._recovery.flights for guard in guards if guard is not None and guard._recovery.flights]
        for each in flights:
            each._drop_closed_loops()  # as the next call from a new one does
        return sum(len(each._sync) + sum(map(len, each._async.values())) + len(each._aloft) for each in flights)

    def check(self, *, leases_may_run: bool = False) -> int:
        """Nothing is held, by nobody. The number of leases that have yet to run out."""
        assert failsoft.remaining() is None
        leased = self.probes_out()
        if not leases_may_run:
            assert leased == 0, f"{leased} permits were not given back"
        if leased:
            self.clock.advance(LEASE + MOMENT)
        assert self.flights_out() == 0, "a shared call is still under way"
        assert not events._delivering.locked(), "nobody can deliver events any more"
        assert all(map(is_free, tuple(forks._locks))), "a lock of ours is held"
        return leased

    def recovers(self, drive: Callable[[Any], Any]) -> None:
        """A dependency that answers again is called again, and its circuit closes."""
        self.script = []
        for one in self.integrations:
            if one.breaker.state is CircuitState.FORCED_OPEN:
                one.reset()
            if one.breaker.state is CircuitState.OPEN:
                self.clock.advance(WAIT + MOMENT)
        for _ in range(2):
            answer = self.call()
            if self.is_async:
                answer = drive(answer)
            assert told(answer) in (("value", "value"), ("result", True, "value", None, None)), told(answer)
        assert self.breaker.state is CircuitState.CLOSED
        assert self.probes_out() == 0

    def close(self) -> None:
        self.integration.reset()
        if self.registry is not registries.default:
            self.registry.close()


def some(kinds: Iterable[Any], *ordinary: Any) -> list[Any]:
    """All of them for `parametrize`, those not named here among the deep tests."""
    return [pytest.param(kind, marks=() if kind in ordinary else pytest.mark.deep) for kind in kinds]


def is_free(lock: Any) -> bool:
    """A lock of ours, which its holder may take again: asked of another thread where this one has it not."""
    return not lock._is_owned() and "owner=0" in repr(lock)


def told(answer: object) -> tuple[object, ...]:
    """An answer, or an exception, as far as two of them can be equal."""
    if isinstance(answer, failsoft.IntegrationResult):
        code = None if answer.error is None else answer.error.code
        return ("result", answer.success, answer.data, answer.fallback_type, code)
    if isinstance(answer, BaseException):
        return ("raised", type(answer).__name__)
    return ("value", answer)


def drive(coroutine: Any, steps: int = 100) -> Any:
    """Run to the end by hand."""
    for _ in range(steps):
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
    raise AssertionError("never ends")


FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()
