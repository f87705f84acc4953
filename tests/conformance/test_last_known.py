"""What a guard remembers of its successes, and when it serves it."""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from failsoft import (
    ErrorCategory,
    Fallback,
    FallbackType,
    IntegrationTimeoutError,
    Registry,
    database_fallbacks,
    fallback_manager,
    with_integration_resilience,
)
from failsoft.fallbacks import Memory
from failsoft.testing import FakeClock

from .conftest import Make, drive

LAST = database_fallbacks.last_known()


class Source:
    """Gives what it is asked for and a number, until it is down."""

    def __init__(self) -> None:
        self.down = False
        self.given = 0

    def get(self, *args: Any, **kwargs: Any) -> Any:
        if self.down:
            raise ConnectionError("down")
        self.given += 1
        return args, kwargs, self.given

    async def aget(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return self.get(*args, **kwargs)

    async def aget_at_once(self, *args: Any, **kwargs: Any) -> Any:
        return self.get(*args, **kwargs)


class Guarded:
    """A source behind a guard, asked in one way whatever kind it is of."""

    def __init__(self, guard: Any, source: Source, result: bool) -> None:
        self.guard = guard.outcome if result else guard
        self.source = source
        self.result = result

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answer = self.guard(*args, **kwargs)
        if asyncio.iscoroutine(answer) or hasattr(answer, "send"):
            answer = asyncio.run(awaited(answer))
        if not self.result:
            return answer
        if not answer.success:
            raise answer.error
        return answer.data


async def awaited(answer: Any) -> Any:
    return await answer


def unknown(call: Callable[[], Any]) -> bool:
    """Whether nothing is remembered: the failure itself comes back."""
    try:
        call()
    except Exception:
        return True
    return False


@pytest.fixture(params=["sync", "async", "async at once", "handed over", "sync result", "async result"])
def build(request: pytest.FixtureRequest, make: Make) -> Callable[..., Guarded]:
    """A guard of each kind, by each way a success can take."""
    integration = make()

    def build(fallback: Fallback = LAST, **options: Any) -> Guarded:
        source = Source()
        kind, _, rest = request.param.partition(" ")
        fn: Any = source.get
        if kind == "async":
            fn = source.aget_at_once if rest == "at once" else source.aget
        elif kind == "handed":
            fn = lambda *args, **kwargs: source.aget(*args, **kwargs)  # noqa: E731
        guard = integration.guard(fn, operation="get", fallbacks=[fallback], **options)
        return Guarded(guard, source, rest == "result")

    return build


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1,), {}),
    (((1, 2),), {}),
    ((1, 2), {}),
    (((),), {}),
    ((1, 2, 3, 4, 5, 6), {}),
    ((1,), {"a": 1}),
    ((), {"a": 1, "b": 2}),
    ((1, 2, 3, 4), {"a": 1, "b": 2, "c": 3}),
    (((1,), frozenset({("a", 1)})), {}),
    ((None,), {}),
]


def test_each_call_is_answered_with_its_own_last_value(build: Callable[..., Guarded]) -> None:
    get = build()
    first = [get(*args, **kwargs) for args, kwargs in CALLS]
    last = [get(*args, **kwargs) for args, kwargs in CALLS]
    assert first != last
    get.source.down = True
    assert [get(*args, **kwargs) for args, kwargs in CALLS] == last
    assert unknown(lambda: get("never asked"))


def test_the_order_of_keywords_does_not_matter(build: Callable[..., Guarded]) -> None:
    get = build()
    value = get(a=1, b=2)
    get.source.down = True
    assert get(b=2, a=1) == value


def test_a_key_function_says_what_is_the_same(build: Callable[..., Guarded]) -> None:
    get = build(database_fallbacks.last_known(key=lambda text, **_: text.lower()))
    value = get("A", unimportant=[])
    get.source.down = True
    assert get("a", unimportant={}) == value
    assert unknown(lambda: get("b"))


@pytest.mark.parametrize(("args", "kwargs"), [(([],), {}), ((1, {}), {}), ((), {"a": set()})])
def test_arguments_that_do_not_hash_have_no_last_value(
    build: Callable[..., Guarded], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    get = build()
    get(*args, **kwargs)
    get.source.down = True
    with pytest.raises(ConnectionError if not get.result else Exception) as caught:
        get(*args, **kwargs)
    if not get.result:
        assert "unhashable" in "".join(caught.value.__notes__)


def test_a_key_function_that_raises_is_reported_and_the_call_goes_on(
    build: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: seen.append(report.exc_type))
    get = build(database_fallbacks.last_known(key=lambda: 1 / 0))
    assert get() == ((), {}, 1)
    assert seen == [ZeroDivisionError]


def test_no_more_is_kept_than_asked_for(build: Callable[..., Guarded]) -> None:
    get = build(database_fallbacks.last_known(max_keys=3))
    for number in range(20):
        get(number)
        get(0)  # in use all the time
    get.source.down = True
    known = [number for number in range(20) if not unknown(lambda number=number: get(number))]
    assert len(known) == 3
    assert {0, 19} <= set(known)


def test_none_is_served_past_its_age(make: Make, clock: FakeClock) -> None:
    source = Source()
    guard = make().guard(source.get, fallbacks=[database_fallbacks.last_known(max_age=10.0)])
    guard(1)
    clock.advance(4.0)
    value = guard(1)
    source.down = True
    clock.advance(10.0)
    result = guard.outcome(1)
    assert (result.data, result.fallback_type, result.data_age) == (value, FallbackType.LAST_KNOWN, 10.0)
    clock.advance(0.001)
    assert not guard.outcome(1).success
    source.down = False
    guard(1)
    source.down = True
    clock.advance(1.5)
    assert guard.outcome(1).data_age == 1.5


def test_without_a_most_age_it_is_served_however_old(make: Make, clock: FakeClock) -> None:
    source = Source()
    guard = make().guard(source.get, fallbacks=[database_fallbacks.last_known(max_age=None)])
    value = guard()
    source.down = True
    clock.advance(1e7)
    assert guard() == value


def test_the_age_counts_from_the_answer(make: Make, clock: FakeClock) -> None:
    source = Source()

    def slow() -> object:
        clock.advance(2.0)
        return source.get()

    guard = make(circuit_breaker={"timeout": 5.0}).guard(slow, fallbacks=[LAST])
    guard()
    source.down = True
    assert guard.outcome().data_age == 2.0  # the failing call took as long


def test_what_another_clock_has_stamped_has_no_age_and_is_not_served(make: Make) -> None:
    source = Source()
    guard = make().guard(source.get, fallbacks=[LAST])
    with FakeClock():
        guard()
    source.down = True
    assert unknown(guard)


def test_a_none_is_remembered_like_any_value(make: Make) -> None:
    down: list[bool] = []

    def get() -> None:
        if down:
            raise ConnectionError

    guard = make().guard(get, fallbacks=[LAST])
    guard()
    down.append(True)
    result = guard.outcome()
    assert (result.success, result.data, result.fallback_type) == (True, None, FallbackType.LAST_KNOWN)


def test_it_answers_a_refused_call_too(make: Make) -> None:
    source = Source()
    integration = make()
    guard = integration.guard(source.get, fallbacks=[LAST])
    value = guard(1)
    integration.force_open()
    assert guard(1) == value
    assert source.given == 1


# ---- what counts as a success worth remembering


def flaky(source: Source, failures: list[int], is_async: bool) -> Any:
    def get(*args: object) -> Any:
        if failures and failures.pop():
            raise ConnectionError("once")
        return source.get(*args)

    async def aget(*args: object) -> Any:
        await asyncio.sleep(0)
        return get(*args)

    return aget if is_async else get


@pytest.mark.parametrize("is_async", [False, True])
def test_a_retried_success_is_remembered(make: Make, clock: FakeClock, is_async: bool) -> None:
    source, failures = Source(), [1]
    guard = make(retries=1).guard(flaky(source, failures, is_async), fallbacks=[LAST])
    get = Guarded(guard, source, result=False)
    value = get(1, 2, 3, 4, 5, 6)
    source.down = True
    assert get(1, 2, 3, 4, 5, 6) == value
    assert guard.metrics().retries >= 1


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("judge", [None, lambda value: None])
def test_a_success_that_came_too_late_is_not(
    make: Make, clock: FakeClock, is_async: bool, retried: bool, judge: Any
) -> None:
    source, failures = Source(), [1] if retried else []
    integration = make(retries=1, circuit_breaker={"timeout": 1.0}, timeouts={"overall": 60.0})

    def late() -> Any:
        if failures and failures.pop():
            raise ConnectionError("once")
        value = source.get()
        clock.advance(1.0)
        return value

    async def late_async() -> Any:
        return late()

    guard = integration.guard(late_async if is_async else late, fallbacks=[LAST], failure=judge)
    get = Guarded(guard, source, result=False)
    assert get() == ((), {}, 1)  # the value stands
    assert guard.metrics().timeouts == 1
    source.down = True
    assert unknown(get)


@pytest.mark.parametrize("is_async", [False, True])
def test_one_that_was_found_fault_with_is_not(make: Make, is_async: bool) -> None:
    source = Source()
    faults = [ErrorCategory.SERVER_ERROR]
    fallbacks = [LAST, database_fallbacks.mock_data("mock")]
    guard = make().guard(
        source.aget if is_async else source.get,
        fallbacks=fallbacks,
        failure=lambda value: faults[0] if faults else None,
    )
    get = Guarded(guard, source, result=False)
    assert get() == "mock"
    faults.clear()
    assert get() == ((), {}, 2)
    faults.append(ErrorCategory.SERVER_ERROR)
    assert get() == ((), {}, 2)  # what passed is served in place of what did not


@pytest.mark.parametrize("is_async", [False, True])
def test_the_answer_of_a_fallback_is_not(make: Make, is_async: bool) -> None:
    source = Source()
    backup: list[object] = ["backup"]

    def ask_backup() -> object:
        return backup.pop()

    fallbacks = [LAST, Fallback(FallbackType.MOCK, ask_backup)]
    get = Guarded(make().guard(source.aget if is_async else source.get, fallbacks=fallbacks), source, result=False)
    source.down = True
    assert get() == "backup"
    assert unknown(get)
    source.down = False
    value = get()
    source.down = True
    assert [get(), get()] == [value, value]


def test_an_attempt_that_timed_out_leaves_nothing(make: Make, clock: FakeClock) -> None:
    async def main() -> None:
        hang = asyncio.Event()

        async def get() -> str:
            await hang.wait()
            return "late"

        guard = make(circuit_breaker={"timeout": 1.0}).guard(get, fallbacks=[LAST])
        task = asyncio.ensure_future(guard())
        await asyncio.sleep(0)
        clock.advance(1.0)
        with pytest.raises(IntegrationTimeoutError):
            await task

    asyncio.run(main())


def test_a_coroutine_driven_by_hand_is_remembered(make: Make) -> None:
    source = Source()
    guard = make().guard(source.aget_at_once, fallbacks=[LAST])
    value = drive(guard(1))
    source.down = True
    assert drive(guard(1)) == value


def test_methods_remember_by_instance(make: Make) -> None:
    class Client(Source):
        @make().guard(fallbacks=[LAST])
        def fetch(self, key: int) -> Any:
            return self.get(key)

    one, two = Client(), Client()
    value = one.fetch(1)
    one.down = two.down = True
    assert one.fetch(1) == value
    assert unknown(lambda: two.fetch(1))


def test_several_that_remember_do_so_by_the_same_key(make: Make) -> None:
    ages = [database_fallbacks.last_known(max_age=age) for age in (1.0, 10.0)]
    source = Source()
    with FakeClock() as clock:
        guard = make().guard(source.get, fallbacks=ages)
        value = guard()
        source.down = True
        clock.advance(5.0)
        assert guard() == value
    with pytest.raises(ValueError, match="same key"):
        make().guard(source.get, fallbacks=[LAST, database_fallbacks.last_known(key=len)])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"max_keys": 0}, "max_keys"), ({"max_age": -1.0}, "max_age"), ({"key": 1}, "key")],
)
def test_bad_settings_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        Memory(**options)


# ---- calls that say what to call


def face(registry: Registry, operation: Callable[[], Any], **options: Any) -> Any:
    options.setdefault("fallbacks", [database_fallbacks.last_known()])
    answer = with_integration_resilience("database", "robots", operation, registry=registry, **options)
    return asyncio.run(awaited(answer)) if hasattr(answer, "send") else answer


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_fresh_lambdas_of_one_place_are_one_operation(registry: Registry, kind: str) -> None:
    source = Source()
    fetch = source.get if kind == "sync" else source.aget

    def ask() -> Any:
        return face(registry, lambda: fetch("robots"), idempotent=False, retry=False)

    value = ask().data
    source.down = True
    result = ask()
    assert (result.success, result.data, result.fallback_type) == (True, value, FallbackType.LAST_KNOWN)
    assert result.data_age is not None
    assert result.data_age < 60.0


def test_they_are_told_apart_by_what_they_close_over(registry: Registry) -> None:
    source = Source()

    def ask(number: int, default: int = 0) -> Any:
        return face(registry, lambda also=default: source.get(number, also), retry=False)

    first, second, third = ask(1).data, ask(2).data, ask(1, 1).data
    source.down = True
    assert [ask(1).data, ask(2).data, ask(1, 1).data] == [first, second, third]
    assert not ask(3).success


def test_lambdas_of_two_places_are_two_operations(registry: Registry) -> None:
    """Both are called "<lambda>": orders must not be served as users."""
    source = Source()

    def users() -> Any:
        return face(registry, lambda: source.get("users"), retry=False)

    def orders() -> Any:
        return face(registry, lambda: source.get("orders"), retry=False)

    users()
    source.down = True
    assert users().data[0] == ("users",)
    assert not orders().success


def test_partials_and_methods_are_known_by_their_parts(registry: Registry) -> None:
    source, other = Source(), Source()
    calls = [
        lambda: functools.partial(source.get, 1),
        lambda: functools.partial(source.get, 2),
        lambda: functools.partial(source.get, a=1),
        lambda: functools.partial(other.get, 1),
        lambda: source.get,
        lambda: other.get,
    ]

    def ask(call: Callable[[], Any]) -> Any:
        return face(registry, call(), operation_name="get", retry=False).data

    values = [ask(call) for call in calls]
    source.down = other.down = True
    assert [ask(call) for call in calls] == values


def test_what_closes_over_something_unhashable_has_no_last_value(registry: Registry) -> None:
    source = Source()

    def ask(ids: list[int]) -> Any:
        return face(registry, lambda: source.get(tuple(ids)), retry=False)

    ask([1])
    source.down = True
    assert "unhashable" in str(ask([1]).error.details["fallback_errors"])


def test_a_key_function_gets_the_operations_own_arguments(registry: Registry) -> None:
    source = Source()
    fallback = database_fallbacks.last_known(key=lambda: "the robots")

    def ask(ids: list[int]) -> Any:
        return face(registry, lambda: source.get(tuple(ids)), fallbacks=[fallback], retry=False)

    value = ask([1]).data
    source.down = True
    assert ask([1]).data == value


def test_what_was_closed_over_is_not_kept_alive(registry: Registry) -> None:
    class Session:
        pass

    def ask() -> weakref.ref[Session]:
        session = Session()
        face(registry, lambda: session and "fine", retry=False)
        return weakref.ref(session)

    gc.collect()
    gc.disable()
    try:
        assert ask()() is None
    finally:
        gc.enable()


def test_the_seeds_manager_remembers_too(registry: Registry) -> None:
    source = Source()

    def ask() -> Any:
        return fallback_manager.execute_with_fallback(
            integration_type="database",
            integration_name="robots",
            primary_operation=lambda: source.get(),
            fallbacks=[database_fallbacks.last_known()],
            registry=registry,
        )

    registry.integration("robots", "database", retry_policy={"max_retries": 0})
    value = ask().data
    source.down = True
    assert ask().data == value


# ---- nothing is kept for ever


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)() and sys.version_info < (3, 14),
    reason="guards are immortal on 3.13 without the GIL",
)
def test_a_guard_that_remembers_itself_is_collected(make: Make) -> None:
    class Value:
        guard: Any

    integration = make()
    for fn in (lambda value: value, echo):
        value = Value()
        value.guard = integration.guard(fn, operation="echo", fallbacks=[LAST])
        answer = value.guard(value)
        if asyncio.iscoroutine(answer) or hasattr(answer, "send"):
            drive(answer)
        gone = weakref.ref(value)
        del value, answer
        gc.collect()
        assert gone() is None


async def echo(value: object) -> object:
    return value


def test_an_old_value_goes_when_a_new_one_comes(make: Make) -> None:
    class Value:
        pass

    guard = make().guard(lambda key: Value(), operation="values", fallbacks=[LAST])
    old = weakref.ref(guard(1))
    assert old() is not None
    guard(1)
    assert old() is None


@pytest.mark.parametrize("is_async", [False, True])
def test_ten_thousand_calls_leave_nothing_behind(make: Make, is_async: bool) -> None:
    async def get(*args: object, **kwargs: object) -> object:
        return [args, kwargs]

    integration = make()
    fallback = database_fallbacks.last_known(max_keys=8)
    fn = get if is_async else (lambda *args, **kwargs: [args, kwargs])
    guard: Any = integration.guard(fn, operation="values", fallbacks=[fallback])

    def turn(calls: int) -> None:
        for number in range(calls):
            for args, kwargs in (((number,), {}), ((1, 2, number), {"a": number}), (([],), {}), (CALLS[5][0], {})):
                answer = guard(*args, **kwargs)
                if is_async:
                    drive(answer)

    turn(100)
    gc.collect()
    blocks, objects = sys.getallocatedblocks(), len(gc.get_objects())
    turn(2_500)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 200
    assert len(gc.get_objects()) - objects < 100
