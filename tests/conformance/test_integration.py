"""A named dependency: how it is got, called, watched, steered by hand, and asked in the seed's own words."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import failsoft
from failsoft import (
    CircuitOpenError,
    CircuitState,
    ErrorCategory,
    Fallback,
    FallbackType,
    Integration,
    IntegrationResult,
    IntegrationType,
    Registry,
    create_integration_operation,
    default_config,
    with_integration_resilience,
)
from failsoft._core import faces
from failsoft.events import Transition, subscribe
from failsoft.integrations import CALLERS_MOST
from failsoft.testing import FakeClock

from .conftest import Make, drive

names = map("conformance-{}".format, itertools.count())


@pytest.fixture
def name() -> str:
    """One that the default registry has not seen."""
    return next(names)


@pytest.fixture
def heard() -> Iterator[list[Transition]]:
    """What is published during a test."""
    events: list[Transition] = []
    unsubscribe = subscribe(events.append, Transition)
    yield events
    unsubscribe()


def fail(*_: object) -> None:
    raise ConnectionError("gone")


async def fail_async(*_: object) -> None:
    await asyncio.sleep(0)
    raise ConnectionError("gone")


async def echo(value: object = None) -> object:
    await asyncio.sleep(0)
    return value


# ---- getting one


def test_the_same_name_gives_the_same_integration(registry: Registry) -> None:
    market = registry.integration("binance", IntegrationType.MARKET_DATA)
    assert registry.integration("binance", IntegrationType.MARKET_DATA) is market
    assert registry.integration("binance", "market_data") is market
    assert registry["binance"] is market
    assert list(registry) == [market]
    assert len(registry) == 1
    assert (market.name, market.type) == ("binance", IntegrationType.MARKET_DATA)
    assert market.config == default_config(IntegrationType.MARKET_DATA)
    assert Registry().integration("binance", "database") is not market
    assert "binance" in repr(market)
    assert "CLOSED" in repr(market)


def test_another_type_is_an_error_that_names_both(registry: Registry) -> None:
    registry.integration("x", "database")
    with pytest.raises(ValueError, match=r"'x' is database already and cannot be cache too"):
        registry.integration("x", "cache")


def test_other_settings_are_an_error_that_names_both(registry: Registry) -> None:
    first = registry.integration("x", "database", circuit_breaker={"reset_timeout": 5.0})
    assert registry.integration("x", "database") is first
    assert registry.integration("x", "database", circuit_breaker={"reset_timeout": 5.0}) is first
    assert registry.integration("x", "database", first.config) is first
    with pytest.raises(ValueError, match=r"'x' has other settings already.*reset_timeout=5\.0.*reset_timeout=6\.0"):
        registry.integration("x", "database", circuit_breaker={"reset_timeout": 6.0})
    with pytest.raises(ValueError, match="other settings"):
        registry.integration("x", "database", default_config("database"))


def test_settings_can_be_replaced_whole_or_in_part(registry: Registry) -> None:
    config = default_config("cache").with_(retry_policy={"max_retries": 4}, health_check_interval=7)
    assert registry.integration("whole", "cache", config).config is config
    both = registry.integration("both", "cache", config, timeouts=failsoft.Timeouts(1, 2, 3, 4))
    assert both.config.retry_policy.max_retries == 4
    assert both.config.timeouts == failsoft.Timeouts(1, 2, 3, 4)
    with pytest.raises(ValueError, match="config is for cache, not for database"):
        registry.integration("other", "database", config)
    with pytest.raises(TypeError, match="config must be an IntegrationConfig"):
        registry.integration("other", "cache", {"retry_policy": {}})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="did you mean 'timeouts'"):
        registry.integration("other", "cache", timeout={})
    with pytest.raises(TypeError, match="max_retries"):
        registry.integration("other", "cache", retry_policy={"max_retrys": 1})
    assert "other" not in [integration.name for integration in registry]


@pytest.mark.parametrize(
    ("name", "kind"),
    [(IntegrationType.DATABASE, "orders"), ("database", "orders"), (IntegrationType.CACHE, IntegrationType.CACHE)],
    ids=repr,
)
def test_swapped_arguments_are_told(registry: Registry, name: Any, kind: Any) -> None:
    with pytest.raises(TypeError, match="swapped"):
        registry.integration(name, kind)
    assert len(registry) == 0


def test_a_name_may_be_that_of_a_type(registry: Registry) -> None:
    assert registry.integration("cache", IntegrationType.CACHE).name == "cache"
    assert registry.integration("database", "external_api").type is IntegrationType.EXTERNAL_API


@pytest.mark.parametrize("name", ["", None, 3, b"x", ["x"]], ids=repr)
def test_a_name_is_a_string(registry: Registry, name: Any) -> None:
    with pytest.raises(TypeError, match="name must be a non-empty string"):
        registry.integration(name, "database")


@pytest.mark.parametrize("kind", ["nothing", "DATABASE", "", None, 3, ErrorCategory.TIMEOUT], ids=repr)
def test_a_type_is_one_of_five(registry: Registry, kind: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="type must be one of database, ai_service"):
        registry.integration("x", kind)


def test_an_unknown_name_is_a_key_error_that_lists_the_known(registry: Registry) -> None:
    registry.integration("a", "cache")
    for ask in (lambda: registry["b"], lambda: registry.status("b")):
        with pytest.raises(KeyError, match=r"no integration is named 'b'; there are \['a'\]"):
            ask()
    with pytest.raises(KeyError, match="no integration is named"):
        failsoft.get_circuit_breaker_status("nobody of this name")
    with pytest.raises(KeyError, match="no integration is named"):
        failsoft.reset_circuit_breaker("nobody of this name")


def test_threads_that_ask_at_once_get_one(registry: Registry) -> None:
    barrier = threading.Barrier(8)
    found: list[Integration] = []

    def ask() -> None:
        barrier.wait(10)
        found.append(registry.integration("x", "database"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_guards_outlive_a_closed_registry() -> None:
    registry = Registry()
    guarded = registry.integration("x", "database").guard(len)
    registry.close()
    registry.close()
    assert len(registry) == 0
    assert guarded("ab") == 2
    del registry
    gc.collect()
    assert guarded("ab") == 2
    assert guarded.outcome("ab").metrics.count == 3
    assert guarded.integration.status().state is CircuitState.CLOSED


# ---- call and acall


def test_call(make: Make) -> None:
    integration = make(retries=1)
    assert integration.call(len, "ab") == 2
    assert integration.call(dict, fn=1, self=2, args=3) == {"fn": 1, "self": 2, "args": 3}
    assert integration.call(lambda: None) is None
    assert integration.operations == ("len", "dict", "<lambda>")
    with pytest.raises(ConnectionError):
        integration.call(fail)
    assert integration.metrics("fail").retries == 1
    with pytest.raises(TypeError):
        integration.call(len, 3)
    integration.force_open()
    with pytest.raises(CircuitOpenError) as caught:
        integration.call(len, "ab")
    assert caught.value.operation == "len"


def test_acall(make: Make) -> None:
    integration = make(retries=1)

    async def main() -> None:
        assert await integration.acall(echo, 3) == 3
        assert await integration.acall(lambda value: echo(value), 4) == 4
        assert await integration.acall(functools.partial(echo, 5)) == 5
        with pytest.raises(ConnectionError):
            await integration.acall(fail_async)
        integration.force_open()
        with pytest.raises(CircuitOpenError):
            await integration.acall(echo, 3)

    asyncio.run(main())
    assert integration.metrics("fail_async").retries == 1
    assert integration.metrics("echo").count == 1
    assert integration.metrics("echo").rejected == 1


def test_metrics_of_an_operation(make: Make, clock: FakeClock) -> None:
    integration = make()
    with pytest.raises(KeyError, match="no operation 'quote'; it has"):
        integration.metrics("quote")
    guarded = integration.guard(clock.advance, operation="quote")
    assert integration.metrics("quote").count == 0
    assert integration.metrics("quote").as_dict()["avg_latency"] == 0.0
    for seconds in (0.1, 0.1, 0.4):
        guarded(seconds)
    numbers = integration.metrics("quote")
    assert numbers == guarded.metrics()
    assert (numbers.count, numbers.error_count, numbers.error_rate) == (3, 0, 0.0)
    assert numbers.avg_latency == pytest.approx(0.2, rel=0.01)
    assert numbers.p50_latency == pytest.approx(0.1, rel=0.01)
    assert numbers.p99_latency == pytest.approx(0.4, rel=0.01)
    assert numbers.recent is not None
    assert numbers.recent.count == 3
    clock.advance(1000.0)
    guarded(0.2)
    numbers = integration.metrics("quote")
    assert numbers.recent is not None
    assert (numbers.count, numbers.recent.count) == (4, 1)


def test_guards_of_one_operation_share_its_numbers(make: Make) -> None:
    integration = make()
    first, second = (integration.guard(len, operation="size") for _ in range(2))
    first("a")
    second("b")
    assert first.metrics().count == second.metrics().count == integration.metrics("size").count == 2


# ---- attempt


Block = Callable[..., None]


@pytest.fixture(params=["with", "async with"])
def block(request: pytest.FixtureRequest) -> Block:
    """`block(integration, body)`: run a body as an attempt."""

    def run(integration: Integration, body: Callable[[], object], operation: str = "body") -> None:
        if request.param == "with":
            with integration.attempt(operation=operation):
                body()
            return

        async def main() -> None:
            async with integration.attempt(operation=operation):
                body()

        drive(main())

    return run


def test_an_attempt_is_counted(make: Make, block: Block, clock: FakeClock) -> None:
    integration = make(threshold=3)
    block(integration, lambda: clock.advance(0.5))
    with pytest.raises(ConnectionError):
        block(integration, fail)
    with pytest.raises(ValueError, match="bad"):
        block(integration, lambda: int("bad"))
    numbers = integration.metrics("body")
    assert (numbers.count, numbers.error_count) == (2, 1)
    assert numbers.avg_latency == pytest.approx(0.25, rel=0.01)
    assert integration.status().failures == 1


def test_an_attempt_trips_and_is_refused(make: Make, block: Block, clock: FakeClock) -> None:
    integration = make(threshold=2, circuit_breaker={"success_threshold": 1})
    for _ in range(2):
        with pytest.raises(ConnectionError):
            block(integration, fail)
    entered: list[int] = []
    with pytest.raises(CircuitOpenError) as caught:
        block(integration, lambda: entered.append(1))
    assert not entered
    assert caught.value.operation == "body"
    assert caught.value.retry_after == pytest.approx(60.0)
    assert integration.metrics("body").rejected == 1
    clock.advance(60.0)
    block(integration, lambda: entered.append(1))
    assert entered
    assert integration.status().state is CircuitState.CLOSED


def test_an_attempt_that_takes_too_long_counts_as_failed(make: Make, block: Block, clock: FakeClock) -> None:
    integration = make(circuit_breaker={"timeout": 2.0})
    block(integration, lambda: clock.advance(1.9))
    block(integration, lambda: clock.advance(2.0))
    numbers = integration.metrics("body")
    assert (numbers.count, numbers.error_count, numbers.timeouts) == (2, 1, 1)


def test_an_attempt_that_ends_in_a_timeout_counts_as_one(make: Make, block: Block) -> None:
    def late() -> None:
        raise TimeoutError

    integration = make()
    with pytest.raises(TimeoutError):
        block(integration, late)
    numbers = integration.metrics("body")
    assert (numbers.error_count, numbers.timeouts) == (1, 1)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_is_no_exception_leaves_an_attempt_uncounted(make: Make, block: Block, error: type[BaseException]) -> None:
    integration = make(threshold=1)

    def stop() -> None:
        raise error

    with pytest.raises(error):
        block(integration, stop)
    assert integration.metrics("body").count == 0
    assert integration.status().state is CircuitState.CLOSED


def test_an_async_attempt_given_up_after_long_counts(make: Make, clock: FakeClock) -> None:
    """As an awaited call does, or a caller's own short timeout would hide a hang for ever."""
    integration = make(threshold=1)

    async def main() -> None:
        async with integration.attempt("body"):
            clock.advance(12.0)
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        drive(main())
    assert integration.metrics("body").error_count == 1
    assert integration.status().state is CircuitState.OPEN


def test_an_attempt_serves_once(make: Make) -> None:
    attempt = make().attempt()
    with attempt:
        pass
    with pytest.raises(RuntimeError, match="once"), attempt:
        pass


def test_attempts_nest_and_interleave(make: Make) -> None:
    integration = make()
    with integration.attempt("outer"), integration.attempt("inner"):
        pass

    async def body(number: int) -> int:
        async with integration.attempt("tasks"):
            for _ in range(number):
                await asyncio.sleep(0)
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(body(number) for number in range(20)))

    assert asyncio.run(main()) == list(range(20))
    assert integration.metrics("outer").count == integration.metrics("inner").count == 1
    assert integration.metrics("tasks").count == 20


def test_an_attempt_in_a_generator(make: Make) -> None:
    """What guard refuses generator functions for."""
    integration = make(threshold=1)

    def rows() -> Iterator[int]:
        with integration.attempt("rows"):
            yield 1
            yield 2

    assert list(rows()) == [1, 2]
    unfinished = rows()
    next(unfinished)
    unfinished.close()
    assert integration.metrics("rows").count == 1
    assert integration.status().state is CircuitState.CLOSED


def test_an_attempts_exception_passes_unchanged(make: Make, block: Block) -> None:
    class Empty(failsoft.IntegrationError):
        def __init__(self) -> None: ...

    for error in (ConnectionError("gone"), KeyError("k"), Empty()):

        def body(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            block(make(), body)
        assert caught.value is error
        assert caught.value.__context__ is None
        assert not hasattr(error, "__notes__")


@pytest.mark.parametrize("operation", ["", None, 3], ids=repr)
def test_an_operation_has_a_name(make: Make, operation: Any) -> None:
    with pytest.raises(TypeError, match="operation must be a non-empty string"):
        make().attempt(operation)


# ---- steering by hand


@pytest.mark.parametrize(
    ("verb", "state", "refuses", "trips", "counts"),
    [
        ("force_open", CircuitState.FORCED_OPEN, True, False, False),
        ("force_closed", CircuitState.CLOSED, False, True, True),
        ("disable", CircuitState.DISABLED, False, False, False),
        ("metrics_only", CircuitState.METRICS_ONLY, False, False, True),
        ("reset", CircuitState.CLOSED, False, True, True),
    ],
)
@pytest.mark.parametrize("before", ["closed", "failing", "open", "half-open", "forced", "disabled"])
def test_an_operator_decides(
    make: Make, clock: FakeClock, verb: str, state: CircuitState, refuses: bool, trips: bool, counts: bool, before: str
) -> None:
    integration = make(threshold=2)
    guarded = integration.guard(fail)
    for _ in range({"failing": 1, "open": 2, "half-open": 2}.get(before, 0)):
        guarded.outcome()
    if before == "half-open":
        clock.advance(61.0)
        integration.guard(lambda: 1)()
    if before == "forced":
        integration.force_open()
    if before == "disabled":
        integration.disable()
    getattr(integration, verb)()
    assert integration.status().state is state
    if verb in ("reset", "force_closed"):
        assert integration.status().failures == 0
    clock.advance(1e6)
    assert integration.status().state is state
    expected: type[Exception] = CircuitOpenError if refuses else ConnectionError
    for _ in range(2):
        with pytest.raises(expected):
            guarded()
    assert integration.status().state is (CircuitState.OPEN if trips else state)
    assert (integration.status().failures > 0) is counts
    if refuses:
        with pytest.raises(CircuitOpenError) as caught:
            guarded()
        assert caught.value.retry_after is None
        assert caught.value.reason == "operator"
    integration.reset()
    assert integration.status().state is CircuitState.CLOSED
    with pytest.raises(ConnectionError):
        guarded()


def test_an_operator_decides_over_calls_in_flight(make: Make) -> None:
    """What was admitted before does not move what was decided since."""
    integration = make(threshold=1)

    def steer_and_fail() -> None:
        integration.force_closed()
        fail()

    with pytest.raises(ConnectionError):
        integration.guard(steer_and_fail)()
    assert integration.status().state is CircuitState.CLOSED
    guarded = integration.guard(fail_async)
    coroutine = guarded()
    coroutine.send(None)
    integration.metrics_only()
    with pytest.raises(ConnectionError):
        coroutine.send(None)
    assert integration.status().state is CircuitState.METRICS_ONLY
    assert guarded.metrics().count == 1


def test_status(make: Make, clock: FakeClock) -> None:
    integration = make(threshold=3, circuit_breaker={"minimum_calls": 4})
    guarded = integration.guard(fail)
    status = integration.status()
    assert (status.state, status.failures, status.failure_rate, status.sample_size) == ("CLOSED", 0, None, 0)
    assert (status.retry_after, status.reason) == (None, None)
    integration.call(len, "")
    integration.call(len, "")
    guarded.outcome()
    status = integration.status()
    assert (status.failures, status.failure_rate, status.sample_size) == (1, None, 3)
    guarded.outcome()
    assert integration.status().failure_rate == 0.5
    guarded.outcome()
    clock.advance(20.0)
    status = integration.status()
    assert (status.state, status.failures, status.failure_rate, status.sample_size) == ("OPEN", 3, 0.6, 5)
    assert (status.retry_after, status.reason) == (pytest.approx(40.0), "consecutive_failures")
    assert status.age == pytest.approx(20.0)
    assert status.generation > 0
    clock.advance(1000.0)
    assert integration.status().sample_size == 0
    assert integration.status().retry_after == 0.0


def test_summary(registry: Registry, make: Make) -> None:
    empty = registry.summary()
    assert (empty.total, empty.healthy, empty.unhealthy, empty.states) == (0, 0, 0, {})
    for name, verb in [("a", "reset"), ("b", "force_open"), ("c", "disable"), ("d", "metrics_only"), ("e", "reset")]:
        getattr(make(name), verb)()
    summary = registry.summary()
    assert (summary.total, summary.healthy, summary.unhealthy) == (5, 2, 3)
    assert summary.states == {"CLOSED": 2, "FORCED_OPEN": 1, "DISABLED": 1, "METRICS_ONLY": 1}


def test_the_seeds_functions_act_on_the_default_registry(name: str) -> None:
    before = failsoft.get_circuit_breaker_summary()
    integration = failsoft.integration(name, "cache")
    assert failsoft.integration(name, "cache") is integration
    assert failsoft.get_circuit_breaker_status(name).state is CircuitState.CLOSED
    assert failsoft.get_circuit_breaker_summary().total == before.total + 1
    integration.force_open()
    assert failsoft.get_circuit_breaker_status(name).state is CircuitState.FORCED_OPEN
    assert failsoft.get_circuit_breaker_summary().unhealthy == before.unhealthy + 1
    failsoft.reset_circuit_breaker(name)
    assert failsoft.get_circuit_breaker_status(name).state is CircuitState.CLOSED


# ---- events


def test_every_transition_is_told_in_order(make: Make, clock: FakeClock, heard: list[Transition]) -> None:
    integration = make("told", threshold=2, circuit_breaker={"success_threshold": 1})
    guarded = integration.guard(fail)
    for _ in range(3):
        guarded.outcome()
    clock.advance(60.0)
    guarded.outcome()
    clock.advance(60.0)
    integration.call(len, "")
    integration.force_open()
    integration.disable()
    integration.metrics_only()
    integration.reset()
    told = [(event.previous, event.state, event.reason) for event in heard]
    assert told == [
        ("CLOSED", "OPEN", "consecutive_failures"),
        ("OPEN", "HALF_OPEN", "wait_over"),
        ("HALF_OPEN", "OPEN", "probe_failed"),
        ("OPEN", "HALF_OPEN", "wait_over"),
        ("HALF_OPEN", "CLOSED", "recovered"),
        ("CLOSED", "FORCED_OPEN", "operator"),
        ("FORCED_OPEN", "DISABLED", "operator"),
        ("DISABLED", "METRICS_ONLY", "operator"),
        ("METRICS_ONLY", "CLOSED", "operator"),
    ]
    generations = [event.generation for event in heard]
    assert generations == sorted(set(generations))
    assert {event.integration for event in heard} == {"told"}
    assert heard[0].failures == 2
    assert all(isinstance(event.state, CircuitState) for event in heard)


@pytest.mark.parametrize("verb", ["force_open", "disable", "metrics_only"])
def test_what_stays_as_it_is_is_no_transition(make: Make, heard: list[Transition], verb: str) -> None:
    integration = make()
    getattr(integration, verb)()
    getattr(integration, verb)()
    assert len(heard) == 1


def test_transitions_of_async_calls_are_told(make: Make, heard: list[Transition]) -> None:
    guarded = make(threshold=1).guard(fail_async)
    with pytest.raises(ConnectionError):
        drive(guarded())
    assert [event.state for event in heard] == ["OPEN"]


def test_unsubscribing(make: Make, heard: list[Transition]) -> None:
    integration = make()
    seen: list[object] = []
    unsubscribe = subscribe(seen.append, Transition)
    integration.force_open()
    unsubscribe()
    unsubscribe()
    integration.reset()
    assert len(seen) == 1
    assert len(heard) == 2
    with pytest.raises(TypeError, match="listener must be callable"):
        subscribe(3)  # type: ignore[arg-type]


def test_a_listener_subscribed_twice_is_called_twice_and_unsubscribed_once(make: Make) -> None:
    integration = make()
    seen: list[object] = []
    first, second = subscribe(seen.append, Transition), subscribe(seen.append, Transition)
    integration.force_open()
    first()
    integration.reset()
    second()
    integration.force_open()
    assert len(seen) == 3


def test_a_faulty_listener_disturbs_nobody(make: Make, heard: list[Transition], caplog: Any) -> None:
    integration = make()
    seen: list[object] = []

    def bad(event: object) -> None:
        raise RuntimeError("from a listener")

    ends = [subscribe(bad, Transition), subscribe(seen.append, Transition)]
    try:
        with caplog.at_level(logging.ERROR, "failsoft"):
            integration.force_open()
            integration.reset()
    finally:
        for end in ends:
            end()
    assert len(seen) == len(heard) == 2
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "from a listener" in caplog.text


def test_a_listener_that_causes_events_gets_them_afterwards(make: Make, heard: list[Transition]) -> None:
    """In order, and not from within itself."""
    integration = make()
    depth: list[int] = []
    running = [0]

    def causes(event: Transition) -> None:
        running[0] += 1
        depth.append(running[0])
        if event.state is CircuitState.FORCED_OPEN:
            integration.disable()
        running[0] -= 1

    unsubscribe = subscribe(causes, Transition)
    integration.force_open()
    unsubscribe()
    assert depth == [1, 1]
    assert [event.state for event in heard] == ["FORCED_OPEN", "DISABLED"]


def test_a_listener_is_let_go(make: Make) -> None:
    class Listener:
        def __call__(self, event: object) -> None: ...

    listener = Listener()
    reference = weakref.ref(listener)
    unsubscribe = subscribe(listener, Transition)
    make().force_open()
    unsubscribe()
    del listener, unsubscribe
    gc.collect()
    assert reference() is None


def test_a_queue_that_is_full_drops_and_counts(make: Make) -> None:
    integration = make()
    before = failsoft.events.dropped()
    seen: list[object] = []

    def slow(event: object) -> None:
        seen.append(event)
        if len(seen) == 1:
            for turn in range(failsoft.events.QUEUE_MOST + 10):
                (integration.metrics_only if turn % 2 else integration.disable)()

    unsubscribe = subscribe(slow, Transition)
    integration.force_open()
    unsubscribe()
    assert failsoft.events.dropped() == before + 10
    assert len(seen) == failsoft.events.QUEUE_MOST + 1


# ---- the seed's face


def resilience(make: Make, operation: Callable[[], Any], registry: Registry, **options: Any) -> Any:
    if "dependency" not in [known.name for known in registry]:
        make()
    return with_integration_resilience("database", "dependency", operation, registry=registry, **options)


def test_a_sync_operation_gives_its_result(make: Make, registry: Registry) -> None:
    result = resilience(make, lambda: 5, registry)
    assert isinstance(result, IntegrationResult)
    assert (result.success, result.data, result.metrics.count) == (True, 5, 1)
    result = resilience(make, fail, registry)
    assert not result.success
    assert (result.error.code, result.error.operation) == ("DB_NETWORK", "fail")
    result = resilience(make, functools.partial(len, 3), registry)
    assert (result.error.category, result.error.operation) == (ErrorCategory.VALIDATION, "partial")
    result = resilience(make, lambda: 5, registry, operation_name="robots")
    assert "robots" in registry["dependency"].operations
    assert result.success


@pytest.mark.parametrize(
    "operation",
    [echo, lambda: echo(), functools.partial(echo), lambda: asyncio.ensure_future(echo())],
    ids=["coroutine function", "lambda", "partial", "lambda of a task"],
)
@pytest.mark.parametrize("state", ["closed", "open", "fallback", "async fallback"])
def test_an_async_operation_can_always_be_awaited(make: Make, registry: Registry, operation: Any, state: str) -> None:
    """Whatever the breaker says: the caller has written `await`."""
    integration = make()
    options: dict[str, Any] = {}
    if state != "closed":
        integration.force_open()
    if state == "fallback":
        options["fallbacks"] = [Fallback(FallbackType.MOCK, lambda: "mock")]
    if state == "async fallback":
        options["fallbacks"] = [Fallback(FallbackType.MOCK, functools.partial(echo, "mock"))]

    async def main() -> None:
        result = await resilience(make, operation, registry, **options)
        assert isinstance(result, IntegrationResult)
        assert result.success is (state != "open")
        assert result.fallback_used is ("fallback" in state)
        assert result.data == ("mock" if "fallback" in state else None)

    asyncio.run(main())


def test_an_async_operation_that_fails(make: Make, registry: Registry) -> None:
    make(retries=2)

    async def main() -> None:
        for operation in (fail_async, lambda: fail_async()):
            result = await resilience(make, operation, registry, operation_name="robots")
            assert (result.success, result.attempts, result.error.code) == (False, 3, "DB_NETWORK")
            result = await resilience(make, operation, registry, retry=False)
            assert (result.success, result.attempts) == (False, 1)
            result = await resilience(make, operation, registry, idempotent=False)
            assert (result.success, result.attempts) == (False, 1)

    asyncio.run(main())


def test_a_lambda_that_fails_before_there_is_anything_to_await(make: Make, registry: Registry) -> None:
    def client() -> Any:
        raise ConnectionError("no connection to make a coroutine with")

    async def main() -> None:
        result = await resilience(make, lambda: client().get_robots(), registry)
        assert (result.success, result.error.code) == (False, "DB_NETWORK")

    asyncio.run(main())


def test_an_open_circuit_calls_nothing(make: Make, registry: Registry) -> None:
    make().force_open()
    called: list[int] = []
    result = resilience(make, lambda: called.append(1), registry)
    assert not called
    assert (result.success, result.error.code) == (False, "DB_CIRCUIT_OPEN")
    handlers = [Fallback(FallbackType.CACHE, lambda: {"robots": []})]
    result = resilience(make, lambda: called.append(1), registry, fallbacks=handlers)
    assert (result.success, result.data, result.fallback_type) == (True, {"robots": []}, "cache")
    assert isinstance(result.error, CircuitOpenError)


def test_fallbacks_may_be_any_iterable_and_any_callable(make: Make, registry: Registry) -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self) -> str:
            return "from an object"

    for handler in (Unhashable(), functools.partial(str, "from an object"), [1, "from an object"].pop):
        result = resilience(make, fail, registry, fallbacks=iter([Fallback(FallbackType.CUSTOM, handler)]))
        assert result.data == "from an object"


def test_fallbacks_of_one_call_are_not_those_of_another(make: Make, registry: Registry) -> None:
    for number in range(20):
        handlers = [Fallback(FallbackType.CACHE, lambda number=number: number)]
        assert resilience(make, fail, registry, fallbacks=handlers).data == number
    assert resilience(make, fail, registry).data is None


def test_what_is_no_exception_passes(make: Make, registry: Registry) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resilience(make, stop, registry)


def test_it_makes_the_integration_where_there_is_none(name: str) -> None:
    assert with_integration_resilience("market_data", name, lambda: 1).success
    assert failsoft.get_circuit_breaker_status(name).state is CircuitState.CLOSED
    with pytest.raises(ValueError, match="market_data already"):
        with_integration_resilience(IntegrationType.CACHE, name, lambda: 1)
    with pytest.raises(TypeError, match="swapped"):
        with_integration_resilience(name, "market_data", lambda: 1)


def test_an_operation_made_once(make: Make, registry: Registry) -> None:
    make(retries=1)

    def robots(where: str, *, limit: int = 3) -> list[str]:
        """All of them."""
        return [where] * limit

    create = functools.partial(create_integration_operation, "database", "dependency", registry=registry)
    operation = create(robots)
    assert operation("here", limit=2).data == ["here", "here"]
    assert (operation.__name__, operation.__doc__) == ("robots", "All of them.")
    assert inspect.signature(operation) == inspect.signature(robots)
    assert operation().error.category is ErrorCategory.VALIDATION
    assert registry["dependency"].metrics("robots").count == 1
    failing = create(fail, operation_name="failing", fallbacks=[Fallback(FallbackType.LAST_KNOWN, lambda *a: a)])
    result = failing(1, 2)
    assert (result.data, result.attempts, result.fallback_used) == ((1, 2), 2, True)
    assert create(fail, retry=False)(1).attempts == 1


@pytest.mark.parametrize("wrap", [lambda fn: fn, lambda fn: lambda *args: fn(*args)], ids=["function", "lambda"])
@pytest.mark.parametrize("state", ["closed", "open"])
def test_an_async_operation_made_once(make: Make, registry: Registry, wrap: Any, state: str) -> None:
    integration = make()
    operation = create_integration_operation("database", "dependency", wrap(echo), registry=registry)
    failing = create_integration_operation("database", "dependency", wrap(fail_async), registry=registry)
    if state == "open":
        integration.force_open()

    async def main() -> None:
        result = await operation(3)
        assert (result.success, result.data) == ((True, 3) if state == "closed" else (False, None))
        result = await failing()
        assert not result.success

    asyncio.run(main())


def test_operations_looked_up_at_once_are_so_many_at_most(name: str) -> None:
    """Names may be made up call by call: what is kept of them is bounded, and one too many starts afresh."""

    def call(number: int) -> int:
        def operation() -> int:
            return number

        operation.__name__ = operation.__qualname__ = f"operation-{number}"
        return with_integration_resilience("cache", name, operation).data

    for number in range(CALLERS_MOST):
        assert call(number) == number
        assert len(faces[name]) == number + 1
    assert call(CALLERS_MOST) == CALLERS_MOST
    assert len(faces[name]) == 1
    with_integration_resilience("cache", name, lambda: 1, operation_name="named")
    assert "named" not in faces[name]
