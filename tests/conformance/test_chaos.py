"""Chaos: what it does to calls, that everything takes it for the real thing, and that nothing of it is left behind."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import failsoft
from failsoft import (
    ChaosConfig,
    CircuitOpenError,
    CircuitState,
    ErrorCategory,
    Integration,
    IntegrationTimeoutError,
    Registry,
    chaos,
)
from failsoft import events as happenings
from failsoft.testing import FakeClock

from .conftest import Make


class Dependency:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def sync(self, *_: object) -> str:
        self.calls += 1
        return "real"

    async def awaited(self, *_: object, **_named: object) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        return "real"


Caller = Callable[[], Any]


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dependency() -> Dependency:
    return Dependency()


def caller(integration: Integration, dependency: Dependency, kind: str, **options: Any) -> Caller:
    """A function that makes one guarded call, sync or async."""
    if kind == "sync":
        return integration.guard(dependency.sync, operation="call", **options)
    guard = integration.guard(dependency.awaited, operation="call", **options)
    return lambda: asyncio.run(_await(guard()))


async def _await(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


def kinds_of(integration: Integration) -> list[str]:
    return [decision.kind for decision in integration.explain().decisions]


# ---- what it does


def test_an_error_stands_in_for_the_call(steady: Integration, dependency: Dependency, kind: str) -> None:
    call = caller(steady, dependency, kind)
    with chaos(steady, error=ConnectionRefusedError("injected")):
        with pytest.raises(ConnectionRefusedError, match="injected") as caught:
            call()
    assert dependency.calls == 0
    assert caught.value.__notes__ == ["injected by failsoft.chaos"]
    assert call() == "real"


def test_an_instance_is_raised_each_time_anew(steady: Integration, dependency: Dependency) -> None:
    call = caller(steady, dependency, "sync")
    error = OSError("gone")
    lengths = []
    with chaos(steady, error=error):
        for _ in range(3):
            with pytest.raises(OSError, match="gone") as caught:
                call()
            assert caught.value is error
            lengths.append(len(caught.traceback))
    assert len(set(lengths)) == 1
    assert error.__notes__ == ["injected by failsoft.chaos"]


@pytest.mark.parametrize("value", ["other", None, 0])
def test_an_outcome_stands_in_for_the_answer(
    steady: Integration, dependency: Dependency, kind: str, value: object
) -> None:
    call = caller(steady, dependency, kind)
    with chaos(steady, outcome=value):
        assert call() == value
    assert dependency.calls == 0
    assert steady.metrics("call").count == 1


def test_an_outcome_is_judged_like_an_answer(steady: Integration, dependency: Dependency, kind: str) -> None:
    call = caller(steady, dependency, kind, failure=lambda value: "SERVER_ERROR" if value == 503 else None)
    with chaos(steady, outcome=503):
        assert call() == 503
    assert steady.metrics("call").error_count == 1
    assert steady.status().failures == 1


def test_latency_is_a_part_of_the_call(
    steady: Integration, dependency: Dependency, clock: FakeClock, kind: str
) -> None:
    call = caller(steady, dependency, kind)
    before = clock.now
    with chaos(steady, latency=0.25):
        assert call() == "real"
    assert clock.now - before == pytest.approx(0.25)
    assert steady.metrics("call").p50_latency == pytest.approx(0.25, rel=0.01)
    assert steady.status().failures == 0


@pytest.mark.usefixtures("clock")
def test_latency_lies_between_its_ends(steady: Integration, dependency: Dependency, kind: str) -> None:
    call = caller(steady, dependency, kind)
    with chaos(steady, latency=(0.1, 0.3), seed=3):
        for _ in range(50):
            call()
    metrics = steady.metrics("call")
    assert 0.099 <= metrics.p50_latency <= 0.301
    assert metrics.p99_latency - metrics.p50_latency > 0.02


def test_the_deadline_ends_the_latency(make: Make, dependency: Dependency, clock: FakeClock, kind: str) -> None:
    hasty = make("hasty", circuit_breaker={"timeout": 1.0})
    call = caller(hasty, dependency, kind)
    before = clock.now
    with chaos(hasty, latency=60.0):
        with pytest.raises(IntegrationTimeoutError, match="no answer within 1 s"):
            call()
    if kind == "sync":
        assert clock.now - before == pytest.approx(1.0)
    assert dependency.calls == 0
    assert hasty.status().failures == 1
    assert hasty.metrics("call").timeouts == 1


def test_a_real_sync_latency_ends_with_the_block_around_it(steady: Integration, dependency: Dependency) -> None:
    call = caller(steady, dependency, "sync")
    began = time.monotonic()
    with chaos(steady, latency=30.0), failsoft.deadline(0.05), pytest.raises(IntegrationTimeoutError):
        call()
    assert time.monotonic() - began < 5.0
    assert dependency.calls == 0


def test_a_real_async_latency_suspends_and_ends_at_the_attempts_timeout(make: Make, dependency: Dependency) -> None:
    hasty = make("hasty", circuit_breaker={"timeout": 0.05})
    guard = hasty.guard(dependency.awaited)

    async def main() -> int:
        with chaos(hasty, latency=30.0):
            task = asyncio.ensure_future(guard())
            turns = 0
            while not task.done():
                await asyncio.sleep(0.001)
                turns += 1
            with pytest.raises(IntegrationTimeoutError):
                task.result()
        return turns

    began = time.monotonic()
    assert asyncio.run(main()) > 3
    assert time.monotonic() - began < 5.0
    assert dependency.calls == 0


def test_a_call_cancelled_during_the_latency_leaves_nothing(make: Make, dependency: Dependency) -> None:
    probing = make("probing", circuit_breaker={"failure_threshold": 1, "reset_timeout": 0.0, "half_open_max_calls": 1})
    guard = probing.guard(dependency.awaited)

    async def main() -> None:
        with chaos(probing, error=OSError):
            with pytest.raises(OSError):
                await guard()
        with chaos(probing, latency=30.0):
            task = asyncio.ensure_future(guard())  # the only probe
            await asyncio.sleep(0.01)
            assert probing.status().probes == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert probing.status().probes == 0
        assert await guard() == "real"

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "coroutine was never awaited"
        asyncio.run(main())
    assert dependency.calls == 1


def test_a_block_is_held_up_and_fails_too(steady: Integration, clock: FakeClock) -> None:
    before = clock.now
    with chaos(steady, latency=0.5, error=ConnectionResetError):
        with pytest.raises(ConnectionResetError):
            with steady.attempt("body"):
                pytest.fail("it does not come to the body")
    assert clock.now - before == pytest.approx(0.5)
    assert (steady.metrics("body").count, steady.metrics("body").error_count) == (1, 1)
    with chaos(steady, outcome="none of a block's"), steady.attempt("body"):
        pass
    assert steady.metrics("body").error_count == 1


def test_an_async_block_and_a_batch_too(steady: Integration, dependency: Dependency) -> None:
    async def main() -> None:
        async with steady.attempt("body"):
            pytest.fail("it does not come to the body")

    guard = steady.guard(dependency.sync, operation="batch")
    with chaos(steady, error=ConnectionResetError):
        with pytest.raises(ConnectionResetError):
            asyncio.run(main())
        with pytest.raises(ConnectionResetError), guard.many(10):
            pytest.fail("nor here")
    assert steady.metrics("body").error_count == 1
    assert steady.metrics("batch").error_count == 10


def test_whatever_is_told_to_be_called_may_turn_out_to_be_async(registry: Registry, dependency: Dependency) -> None:
    database = registry.integration("db", "database", retry_policy={"max_retries": 0})

    async def main() -> list[Any]:
        with chaos(database, latency=0.1):
            began = time.monotonic()
            both = await asyncio.gather(*(
                failsoft.with_integration_resilience(
                    "database", "db", lambda: dependency.awaited(), operation_name="lambda", registry=registry
                )
                for _ in range(10)
            ))  # fmt: skip
            assert time.monotonic() - began < 0.8  # not one after another: nobody blocks the loop
        with chaos(database, error=OSError):
            failed = await failsoft.with_integration_resilience(
                "database", "db", lambda: dependency.awaited(), operation_name="lambda", registry=registry
            )
        return [*both, failed]

    *good, bad = asyncio.run(main())
    assert [result.data for result in good] == ["real"] * 10
    assert isinstance(bad.error.original_error, OSError)
    assert dependency.calls == 10


def test_a_retry_of_what_failed_before_it_gave_its_awaitable(make: Make, dependency: Dependency) -> None:
    retrying = make(retries=1)
    guard = retrying.guard(lambda: dependency.awaited(), operation="call")
    with chaos(retrying, error=ConnectionError, rate=0.5, seed=_seed_that(True, False, False)):
        assert asyncio.run(_await(guard())) == "real"
    assert retrying.metrics("call").retries == 1


def test_the_attempts_of_a_hedged_call_have_a_fate_each(make: Make, dependency: Dependency) -> None:
    quick = make("quick", retry_budget=None)
    guard = quick.guard(dependency.awaited, operation="call", hedge=0.9)

    async def main() -> float:
        for _ in range(120):
            await guard()
        with chaos(quick, latency=20.0, rate=0.5, seed=_seed_that(True, False)):
            began = time.monotonic()
            assert await guard(fn="a name of ours") == "real"
            return time.monotonic() - began

    assert asyncio.run(main()) < 5.0
    assert quick.metrics("call").hedges == 1


# ---- that it is taken for the real thing


def test_it_opens_the_breaker_and_its_end_lets_it_close(
    make: Make, dependency: Dependency, clock: FakeClock, kind: str
) -> None:
    fragile = make("fragile", threshold=3, circuit_breaker={"reset_timeout": 10.0, "success_threshold": 1})
    call = caller(fragile, dependency, kind)
    with chaos(fragile, error=TimeoutError):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                call()
        assert fragile.status().state is CircuitState.OPEN
        with pytest.raises(CircuitOpenError):
            call()
        clock.advance(10.0)
        with pytest.raises(TimeoutError):  # a probe is befallen as well: the flag has survived two transitions
            call()
        assert fragile.status().state is CircuitState.OPEN
    clock.advance(10.0)
    assert call() == "real"
    assert fragile.status().state is CircuitState.CLOSED
    assert dependency.calls == 1


def test_retries_and_fallbacks_answer_it(make: Make, dependency: Dependency, kind: str) -> None:
    retrying = make(retries=2)
    call = caller(retrying, dependency, kind)
    with chaos(retrying, error=ConnectionError, rate=0.5, seed=_seed_that(True, True, False)):
        assert call() == "real"
    assert retrying.metrics("call").retries == 2
    falling = caller(retrying, dependency, kind, fallbacks=[failsoft.database_fallbacks.mock_data("substitute")])
    with chaos(retrying, error=ConnectionError):
        assert falling() == "substitute"


def test_events_and_flight_recorder_say_that_it_was_chaos(
    make: Make, dependency: Dependency, clock: FakeClock, kind: str
) -> None:
    marked = make("marked")
    call = caller(marked, dependency, kind)
    heard: list[Any] = []
    unsubscribe = failsoft.subscribe(heard.append, happenings.ChaosInjected)
    try:
        with chaos(marked, latency=0.2):
            call()
        with chaos(marked, error=OSError), pytest.raises(OSError):
            call()
        with chaos(marked, latency=0.1, outcome=1):
            call()
    finally:
        unsubscribe()
    assert [(event.fault, event.latency) for event in heard] == [("latency", 0.2), ("error", 0.0), ("outcome", 0.1)]
    assert {(event.integration, event.operation) for event in heard} == {("marked", "call")}
    assert isinstance(heard[1].error, OSError)
    words = [decision.text for decision in marked.explain().decisions if decision.kind == "chaos"]
    assert words == [
        "call: chaos: held up for 200 ms", "call: chaos: an error", "call: chaos: answered in its place after 100 ms",
    ]  # fmt: skip


# ---- who is befallen


def _draws(**options: Any) -> list[bool]:
    integration = Registry().integration("drawn", "cache", retry_policy={"max_retries": 0})
    with chaos(integration, outcome=True, **options):
        return [integration.call(lambda: False) for _ in range(400)]


def _seed_that(*wanted: bool) -> int:
    """A seed whose first draws at a rate of 0.5 come out like this."""
    return next(seed for seed in range(1000) if _draws_quickly(seed, len(wanted)) == list(wanted))


def _draws_quickly(seed: int, count: int) -> list[bool]:
    integration = Registry().integration("drawn", "cache")
    plan = chaos(integration, latency=0.0, rate=0.5, seed=seed)
    with plan:
        return [plan.draw("call") is not None for _ in range(count)]


def test_the_same_seed_befalls_the_same_calls() -> None:
    first = _draws(rate=0.3, seed=11)
    assert first == _draws(rate=0.3, seed=11) == _draws(rate=0.3, seed=11, latency=0.0)
    assert first != _draws(rate=0.3, seed=12)
    assert 80 <= sum(first) <= 160
    assert not any(_draws(rate=0.0))
    assert all(_draws(rate=1.0))
    assert _draws(rate=0.5) != _draws(rate=0.5)  # without a seed nobody knows


def test_a_plan_started_again_begins_again(steady: Integration) -> None:
    plan = chaos(steady, outcome=True, rate=0.5, seed=1)
    runs = []
    for _ in range(2):
        plan.start()
        runs.append([steady.call(lambda: False) for _ in range(50)])
        plan.stop()
    assert runs[0] == runs[1]
    assert (plan.calls, plan.injected) == (50, sum(runs[1]))


def test_threads_that_draw_at_a_time_share_one_sequence(steady: Integration) -> None:
    threads, draws = 4, 4000

    def draw(plan: failsoft.Chaos, count: int) -> None:
        for _ in range(count):
            plan.draw("call")

    plan = chaos(steady, latency=0.0, rate=0.5, seed=5)
    with plan:
        draw(plan, threads * draws)
        alone = plan.injected
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with plan:
            workers = [threading.Thread(target=draw, args=(plan, draws)) for _ in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
    finally:
        sys.setswitchinterval(interval)
    assert (plan.calls, plan.injected) == (threads * draws, alone)


def test_only_the_operations_named(steady: Integration) -> None:
    read, write = steady.guard(lambda: "real", operation="read"), steady.guard(lambda: "real", operation="write")
    with chaos(steady, outcome="chaos", operations=["write"]):
        assert (read(), write()) == ("real", "chaos")
    assert kinds_of(steady) == ["chaos"]


def test_latencies_of_several_plans_add_up_and_the_first_end_counts(
    steady: Integration, dependency: Dependency, clock: FakeClock
) -> None:
    call = caller(steady, dependency, "sync")
    before = clock.now
    with chaos(steady, latency=0.1), chaos(steady, latency=0.2, outcome="first"), chaos(steady, error=OSError):
        assert call() == "first"
    assert clock.now - before == pytest.approx(0.3)
    assert call() == "real"


def test_plans_end_in_any_order(steady: Integration, dependency: Dependency) -> None:
    call = caller(steady, dependency, "sync")
    one, other = chaos(steady, outcome=1).start(), chaos(steady, outcome=2).start()
    assert call() == 1
    one.stop()
    assert call() == 2
    one.stop()
    other.stop()
    assert call() == "real"


def test_keys_those_there_and_those_to_come(registry: Registry) -> None:
    market = registry.integration("market", "market_data")
    quote = market.guard(lambda venue: f"real {venue}", key=lambda venue: venue)
    quote("early")
    with chaos(market, outcome="chaos"):
        assert [quote("early"), quote("late")] == ["chaos", "chaos"]
    assert [quote("early"), quote("late")] == ["real early", "real late"]
    with chaos("market[late]", outcome="chaos", registry=registry):
        assert [quote("early"), quote("late")] == ["real early", "chaos"]


def test_a_disabled_registry_has_no_chaos(registry: Registry, steady: Integration, dependency: Dependency) -> None:
    call = caller(steady, dependency, "sync")
    hedged = steady.guard(dependency.awaited, operation="hedged", hedge=0.9)
    with chaos(steady, error=OSError):
        registry.disable()
        assert call() == "real"
        assert asyncio.run(_await(hedged())) == "real"
        with steady.attempt():
            pass
        registry.enable()
        with pytest.raises(OSError):
            call()


# ---- that nothing but its end ends it, and nothing is left of it


def test_the_flag_outlives_moves_resets_and_forced_states(make: Make, dependency: Dependency, kind: str) -> None:
    moved = make("moved")
    call = caller(moved, dependency, kind)
    with chaos(moved, outcome="chaos"):
        for change in (
            lambda: moved.reconfigure(circuit_breaker={"failure_threshold": 7}),
            lambda: moved.reconfigure(circuit_breaker={"count_window": 100}),
            moved.reset,
            moved.disable,
            moved.metrics_only,
            moved.force_open,
            moved.force_closed,
            lambda: moved.limit(0.5),
            lambda: moved.limit(1.0),
        ):
            change()
            if moved.status().state is CircuitState.FORCED_OPEN:
                with pytest.raises(CircuitOpenError):
                    call()
            elif moved.status().capacity == 1.0:
                assert call() == "chaos"
    assert dependency.calls == 0
    moved.reconfigure(circuit_breaker={"failure_threshold": 8})
    assert call() == "real"


def test_it_ends_with_its_block_whatever_raises(steady: Integration, dependency: Dependency) -> None:
    call = caller(steady, dependency, "sync")
    plan = chaos(steady, error=OSError)
    with pytest.raises(KeyError), plan:
        raise KeyError
    assert not plan.on
    assert call() == "real"


def test_a_call_under_way_at_its_end_settles_as_ever(make: Make, dependency: Dependency) -> None:
    counted = make("counted")
    inside, go = threading.Event(), threading.Event()

    @counted.guard
    def slow() -> None:
        inside.set()
        assert go.wait(10.0)
        raise ConnectionError("real")

    plan = chaos(counted, latency=0.0).start()
    raised: list[str] = []

    def call() -> None:
        try:
            slow()
        except ConnectionError as error:
            raised.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    assert inside.wait(10.0)
    plan.stop()
    go.set()
    thread.join()
    assert raised == ["real"]
    status = counted.status()
    assert (status.state, status.failures) == (CircuitState.CLOSED, 1)


def test_starting_and_stopping_under_traffic_loses_no_outcome(make: Make) -> None:
    busy = make("busy")
    guard = busy.guard(lambda: "real", operation="call")
    stop, made = threading.Event(), [0, 0]

    def hammer(which: int) -> None:
        while not stop.is_set():
            assert guard() in ("real", "chaos")
            made[which] += 1

    threads = [threading.Thread(target=hammer, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        with chaos(busy, outcome="chaos"), chaos(busy, latency=0.0):
            time.sleep(0)
    stop.set()
    for thread in threads:
        thread.join()
    assert busy.metrics("call").count == sum(made)
    assert busy.status().failures == 0
    assert guard() == "real"


def test_a_chaos_of_its_own_making_is_the_calls_error(steady: Integration, dependency: Dependency, kind: str) -> None:
    def broken() -> BaseException:
        raise ZeroDivisionError

    call = caller(steady, dependency, kind)
    with chaos(steady, error=broken), pytest.raises(ZeroDivisionError):
        call()
    with chaos(steady, error=lambda: "no exception"), pytest.raises(TypeError, match="must make an exception"):  # type: ignore[arg-type,return-value]
        call()
    assert call() == "real"


# ---- by category, and by settings


@pytest.mark.parametrize("category", list(ErrorCategory))
def test_an_error_of_a_category(make: Make, dependency: Dependency, kind: str, category: ErrorCategory) -> None:
    integration = make("categories")
    call = caller(integration, dependency, kind)
    with chaos(integration, error=category), pytest.raises(Exception, match=f"chaos: {category}") as caught:
        call()
    assert failsoft.classify_error(caught.value) is category


def test_by_settings_and_by_other_settings(make: Make, dependency: Dependency, clock: FakeClock) -> None:
    configured = make("configured", chaos={"latency": 0.5, "rate": 1.0})
    call = caller(configured, dependency, "sync")
    before = clock.now
    assert call() == "real"
    assert clock.now - before == pytest.approx(0.5)
    assert "chaos is on: 100% of the calls held up for 0.5 s" in str(configured.explain())
    configured.reconfigure(chaos={"error": "NETWORK"})
    with pytest.raises(ConnectionError, match="chaos: NETWORK"):
        call()
    configured.reconfigure(circuit_breaker={"failure_threshold": 9})  # nothing about chaos
    assert len(configured.chaos) == 1
    configured.reconfigure(chaos=None)
    assert call() == "real"
    assert configured.chaos == ()
    assert "chaos is on" not in str(configured.explain())


def test_settings_hold_for_keys_once(registry: Registry, clock: FakeClock) -> None:
    market = registry.integration("market", "market_data", chaos={"latency": 0.5})
    quote = market.guard(lambda venue: venue, key=lambda venue: venue)
    before = clock.now
    quote("venue")
    assert clock.now - before == pytest.approx(0.5)
    market.reconfigure(chaos=None)
    quote("venue")
    assert clock.now - before == pytest.approx(0.5)


def test_settings_from_files_and_variables(tmp_path: Path) -> None:
    file = tmp_path / "failsoft.toml"
    file.write_text('[integrations.db]\ntype = "database"\nchaos = {latency = "50ms", latency_most = "2s", seed = 3}\n')
    configs = failsoft.load_config(
        file, environ={"FAILSOFT_DB__CHAOS__ERROR": "TIMEOUT", "FAILSOFT_DB__CHAOS__RATE": "0.25"}
    )
    assert configs["db"].chaos == ChaosConfig(0.05, 2.0, ErrorCategory.TIMEOUT, 0.25, 3)
    assert failsoft.load_config(file, environ={"FAILSOFT_DB__CHAOS": "none"})["db"].chaos is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"latency": 2.0, "latency_most": 1.0}, "latency_most must be at least latency"),
        ({"error": "TIMOUT"}, "chaos.error must be one of TIMEOUT"),
        ({"latency": 1.0, "rate": 2.0}, "chaos.rate must be a number from 0 to 1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ChaosConfig(**settings)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, TypeError, "needs a latency, an error or an outcome"),
        ({"error": OSError, "outcome": 1}, TypeError, "not both"),
        ({"error": "TIMOUT"}, ValueError, "error must be one of TIMEOUT, RATE_LIMIT"),
        ({"error": int}, TypeError, "error must be an exception"),
        ({"latency": -1.0}, ValueError, "latency must be a number of seconds from 0 to"),
        ({"latency": (2.0, 1.0)}, ValueError, r"latency must be seconds or \(least, most\)"),
        ({"latency": "1s"}, TypeError, "latency must be a number of seconds"),
        ({"latency": 1.0, "rate": 1.5}, ValueError, "rate must be a number from 0 to 1"),
        ({"latency": 1.0, "seed": 1.5}, TypeError, "seed must be an integer, a string or None"),
        ({"latency": 1.0, "operations": "quote"}, TypeError, "several names"),
    ],
)  # fmt: skip
def test_what_it_cannot_be_told(steady: Integration, options: dict[str, Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        chaos(steady, **options)


def test_whom_it_cannot_befall(registry: Registry, steady: Integration) -> None:
    with pytest.raises(KeyError, match="no integration is named 'stady'"):
        chaos("stady", latency=1.0, registry=registry)
    with pytest.raises(TypeError, match="name must be the name of an integration"):
        chaos(None, latency=1.0)  # type: ignore[arg-type]
    with chaos(steady, latency=0.0) as plan, pytest.raises(RuntimeError, match="is on already"):
        plan.start()
