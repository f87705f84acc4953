"""A guarded coroutine is a coroutine: to `await`, to asyncio, to whoever drives it by hand, and to the collector.

Most tests run one script against the bare coroutine function and against the guarded one, and compare what was seen.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextvars
import functools
import gc
import inspect
import io
import subprocess
import sys
import traceback
import types
import warnings
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import failsoft
from failsoft import CircuitOpenError, CircuitState, Fallback, FallbackType, Integration, Registry
from failsoft.testing import FakeClock

from .conftest import Make, drive

shipped = Registry().integration("shipped", "database", circuit_breaker={"failure_threshold": 60_000})

Script = Callable[[Callable[..., Any]], Any]


@types.coroutine
def hand(value: object) -> Generator[object, object, object]:
    """Yield a value to whoever drives; answer with what is sent."""
    return (yield value)


def told(value: object) -> str:
    """A value or an exception, without the addresses of objects."""
    return f"{type(value).__name__} {value!r}".split(" at 0x")[0]


def both(guard: Callable[[Any], Any], bare: Callable[..., Any]) -> list[Callable[..., Any]]:
    return [bare, guard(bare)]


@pytest.fixture(params=["plain", "armed", "metrics only", "bounded"])
def guard(request: pytest.FixtureRequest, make: Make) -> Callable[[Any], Any]:
    """`guard` by each of the ways that an await can take through it."""
    integration = make(retries=1)
    if request.param == "armed":
        return integration.guard(details=lambda *args, **kwargs: {"args": args}, failure=lambda value: None)
    if request.param == "metrics only":
        integration.metrics_only()
    if request.param == "bounded":
        return integration.guard(retry=False, idempotent=False)
    return integration.guard


# ---- driven by hand

Step = tuple[str, Any]


async def talkative(*ways: str) -> object:
    """Ends and answers in as many ways as there are."""
    seen: list[object] = []
    try:
        for number, way in enumerate(ways):
            try:
                got = await hand((number, way))
                seen.append(got)
                if way == "raise":
                    raise ValueError("raised", got)
                if way == "unknown":
                    raise KeyError(got)
                if way == "stop":
                    raise StopIteration(got)
                if way == "return":
                    return seen
                if way == "tuple":
                    return (got, 1)
                if way == "none":
                    return None
                if way == "exit":
                    raise SystemExit(4)
            except ArithmeticError as error:
                seen.append(told(error))
                if way == "swallow and await":
                    seen.append(await hand("in the handler"))
                if way == "swap":
                    raise LookupError("for it") from error
    finally:
        seen.append("finally")
    return seen


WAYS = ["raise", "unknown", "stop", "return", "tuple", "none", "exit", "swallow and await", "swap"]


def fresh(error: BaseException) -> BaseException:
    return type(error)(*error.args)


def transcript(coroutine: Any, steps: list[Step]) -> list[str]:
    """What a driver sees that takes these steps, up to the end and beyond it."""
    seen: list[str] = []
    for verb, value in [*steps, ("close", None), ("close", None)]:
        try:
            if verb == "send":
                seen.append(told(coroutine.send(value)))
            elif verb == "throw":
                seen.append(told(coroutine.throw(fresh(value))))
            else:
                seen.append(told(coroutine.close()))
        except StopIteration as stop:
            seen.append("stopped with " + told(stop.value))
        except BaseException as error:
            frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            seen.append(f"{told(error)} from {told(error.__cause__)} in {frames}")
    return seen


THROWN = [
    ZeroDivisionError("z"),
    ValueError("v"),
    KeyError(1),
    KeyboardInterrupt("k"),
    GeneratorExit(),
    OverflowError(),
]

a_step = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([None, None, None, 1, (2, 3), ()])),
    st.tuples(st.just("throw"), st.sampled_from(THROWN)),
    st.tuples(st.just("close"), st.none()),
)
by_hand = {
    "plain": shipped.guard(talkative, operation="plain"),
    "armed": shipped.guard(talkative, operation="armed", details=lambda *ways: {}, failure=lambda value: None),
    "bounded": shipped.guard(talkative, operation="bounded", retry=False),
}


@pytest.mark.parametrize("guarded", list(by_hand.values()), ids=list(by_hand))
@given(ways=st.lists(st.sampled_from(WAYS), max_size=3), steps=st.lists(a_step, max_size=6))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_driver_sees_what_the_bare_coroutine_shows(guarded: Any, ways: list[str], steps: list[Step]) -> None:
    steps = [("send", None), *steps]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        assert transcript(guarded(*ways), steps) == transcript(talkative(*ways), steps)
        assert transcript(guarded(*ways), steps[1:]) == transcript(talkative(*ways), steps[1:])


VALUES = [
    None,
    0,
    (),
    (1,),
    (1, 2),
    ((1, 2), None),
    [1],
    "text",
    ValueError("a value, not raised"),
    ValueError,
    StopIteration(7),
    StopIteration,
    (ValueError, ValueError("x"), None),
    object(),
    NotImplemented,
]


@pytest.mark.parametrize("value", VALUES, ids=told)
def test_values_come_back_as_themselves(guard: Callable[[Any], Any], value: object) -> None:
    async def give() -> object:
        return value

    async def give_late() -> object:
        await hand(None)
        return value

    async def through(fn: Callable[[], Awaitable[object]]) -> object:
        return await fn()

    for guarded in (guard(give), guard(give_late)):
        for _ in range(2):
            assert drive(guarded()) is value
            assert drive(through(guarded)) is value
    thrown = guard(swallow_and_give)(value)
    thrown.send(None)
    with pytest.raises(StopIteration) as caught:
        thrown.throw(ZeroDivisionError())
    assert caught.value.value is value
    assert asyncio.run(through(guard(give))) is value
    assert asyncio.run(guard(give)()) is value


async def swallow_and_give(value: object) -> object:
    try:
        await hand(None)
    except ZeroDivisionError:
        return value
    raise AssertionError


@pytest.mark.parametrize("value", [1, (1, 2), (), ValueError("v")], ids=told)
def test_the_stop_iteration_of_a_driver_is_complete(steady: Integration, value: object) -> None:
    """Its `args` and its words too, which a log may show."""

    @steady.guard
    async def give() -> object:
        return value

    for _ in range(3):
        with pytest.raises(StopIteration) as caught:
            give().send(None)
        assert caught.value.value is value
        assert caught.value.args == (value,)
        assert repr(caught.value) == repr(StopIteration(value))


def test_a_stop_iteration_that_somebody_keeps_stays_his(steady: Integration) -> None:
    @steady.guard
    async def give(value: object) -> object:
        return value

    async def main() -> list[object]:
        return [await give(number) for number in range(3)]

    kept: list[StopIteration] = []
    for number in range(4):
        try:
            give(number).send(None)
        except StopIteration as stop:
            kept.append(stop)
        assert drive(main()) == [0, 1, 2]
    assert [stop.value for stop in kept] == [0, 1, 2, 3]
    assert len(set(map(id, kept))) == 4


def test_a_stop_iteration_that_somebody_has_marked_is_not_used_again(steady: Integration) -> None:
    @steady.guard
    async def give(value: object) -> object:
        return value

    def mark(stop: StopIteration) -> None:
        stop.add_note("mine")
        stop.mine = 1  # type: ignore[attr-defined]
        stop.__cause__ = KeyError()
        stop.value = "changed"

    for number in range(3):
        try:
            give(number).send(None)
        except StopIteration as stop:
            mark(stop)
            stop.__traceback__ = None
        with pytest.raises(StopIteration) as caught:
            give(number).send(None)
        assert caught.value.value == number
        assert not hasattr(caught.value, "__notes__")
        assert not hasattr(caught.value, "mine")
        assert caught.value.__cause__ is None


FINALISER = """
import failsoft
dependency = failsoft.Registry().integration("x", "database")
inner = []

@dependency.guard
async def give(value): return value

class Last:
    def __del__(self):
        inner.append(drive(call("inner")))

@dependency.guard
async def give_last(): return Last()

async def call(value): return await give(value)

def drive(coroutine):
    try: coroutine.send(None)
    except StopIteration as stop: return stop.value

async def main():
    kept, outer = [], []
    for _ in range(5):
        awaitable, after = give_last(), give("outer")
        await awaitable
        kept.append(awaitable)
        outer.append(await after)
    return outer

print(drive(main()), inner)
"""


def test_a_finaliser_that_awaits_disturbs_no_value_on_its_way() -> None:
    """The last reference to a result may go while the next one is handed over."""
    done = subprocess.run([sys.executable, "-c", FINALISER], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
    assert done.stdout.strip() == f"{['outer'] * 5} {['inner'] * 5}"


def test_what_was_awaited_keeps_neither_result_nor_arguments(make: Make) -> None:
    """Finished tasks hold on to their coroutine, and a bare one to nothing of its own."""

    class Thing: ...

    @make(retries=2).guard
    async def swap(thing: object) -> object:
        return Thing()

    async def main() -> None:
        argument = Thing()
        awaitable = swap(argument)
        result = await awaitable
        references = [weakref.ref(argument), weakref.ref(result)]
        del argument, result
        gc.collect()
        assert [reference() for reference in references] == [None, None]

    asyncio.run(main())


def test_awaiting_twice_is_an_error(guard: Callable[[Any], Any]) -> None:
    async def once() -> int:
        await hand(None)
        return 1

    for fn in both(guard, once):
        coroutine = fn()
        assert drive(coroutine) == 1
        for again in (lambda c=coroutine: c.send(None), lambda c=coroutine: c.throw(ValueError)):
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                again()

        async def main(coroutine: Any = coroutine) -> None:
            await coroutine

        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            drive(main())
        coroutine.close()
        coroutine.close()


def test_two_tasks_cannot_await_the_same_call(guard: Callable[[Any], Any]) -> None:
    async def slow() -> str:
        for _ in range(3):
            await asyncio.sleep(0)
        return "answer"

    async def main(fn: Callable[..., Any]) -> list[object]:
        coroutine = fn()

        async def wait() -> object:
            return await coroutine

        return await asyncio.gather(wait(), wait(), return_exceptions=True)

    for fn in both(guard, slow):
        first, second = asyncio.run(main(fn))
        assert first == "answer"
        assert told(second) == told(RuntimeError("coroutine is being awaited already"))


@pytest.mark.parametrize("suspensions", [0, 1, 2])
def test_a_coroutine_cannot_drive_itself(guard: Callable[[Any], Any], suspensions: int) -> None:
    async def selfish(verb: str) -> None:
        for _ in range(suspensions):
            await hand(None)
        with pytest.raises(ValueError, match="coroutine already executing"):
            if verb == "send":
                own[0].send(None)
            elif verb == "throw":
                own[0].throw(KeyError())
            else:
                own[0].close()
        await hand(None)

    for fn in both(guard, selfish):
        for verb in ("send", "throw", "close"):
            own = [fn(verb)]
            assert drive(own[0]) is None


def test_an_unstarted_coroutine_takes_none_only(guard: Callable[[Any], Any]) -> None:
    async def give() -> int:
        return 1

    for fn in both(guard, give):
        coroutine = fn()
        with pytest.raises(TypeError, match="can't send non-None value to a just-started coroutine"):
            coroutine.send(1)
        assert drive(coroutine) == 1


def test_it_is_closed_and_collected_as_the_bare_one(guard: Callable[[Any], Any]) -> None:
    """`finally` runs at close() and when the last reference goes, once."""
    seen: list[str] = []

    async def tidy() -> None:
        try:
            await hand(None)
        finally:
            seen.append("finally")

    for fn in both(guard, tidy):
        seen.clear()
        coroutine = fn()
        coroutine.send(None)
        assert coroutine.close() is None
        assert seen == ["finally"]
        del coroutine
        coroutine = fn()
        coroutine.send(None)
        del coroutine
        gc.collect()
        assert seen == ["finally"] * 2


def test_who_ignores_a_close_goes_on(guard: Callable[[Any], Any]) -> None:
    async def stubborn() -> str:
        try:
            await hand(1)
        except GeneratorExit:
            await hand(2)
        return "answer"

    for fn in both(guard, stubborn):
        coroutine = fn()
        coroutine.send(None)
        with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
            coroutine.close()
        assert drive(coroutine) == "answer"


def test_an_exception_passes_unchanged(guard: Callable[[Any], Any]) -> None:
    error = KeyError("k")

    async def fail(late: bool) -> None:
        if late:
            await asyncio.sleep(0)
        raise error

    seen: list[object] = []
    for fn in both(guard, fail):
        for late in (False, True):
            error.__traceback__ = error.__context__ = None

            async def main(fn: Any = fn, late: bool = late) -> None:
                try:
                    raise LookupError("before")
                except LookupError:
                    await fn(late)

            with pytest.raises(KeyError) as caught:
                asyncio.run(main())
            assert caught.value is error
            assert not hasattr(error, "__notes__")
            frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
            seen.append((late, frames[-2:], repr(error.__context__), error.__cause__))
    assert seen[:2] == seen[2:]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_what_is_no_exception_counts_for_nothing(make: Make, error: type[BaseException]) -> None:
    integration = make(retries=2, threshold=1)

    @integration.guard(fallbacks=[Fallback(FallbackType.CACHE, lambda: "cached")])
    async def stop() -> None:
        raise error

    for call in (stop, stop.outcome):
        with pytest.raises(error):
            drive(call())
    assert integration.status().state is CircuitState.CLOSED
    assert stop.metrics().count == 0


def test_a_wrong_call_fails_at_the_call(steady: Integration) -> None:
    async def one(a: int) -> int:
        return a

    for fn in both(steady.guard, one):
        with pytest.raises(TypeError, match=r"one\(\) missing 1 required positional argument: 'a'"):
            fn()
        with pytest.raises(TypeError, match="unexpected keyword argument 'b'"):
            fn(1, b=2)


def test_many_arguments_and_names_reach_every_attempt(make: Make) -> None:
    seen: list[object] = []

    @make(retries=2).guard
    async def take(*args: int, **kwargs: int) -> None:
        seen.append((args, dict(kwargs)))
        kwargs.clear()
        raise ConnectionError("gone")

    shapes: list[tuple[tuple[int, ...], dict[str, int]]] = [
        ((), {}),
        ((1,), {}),
        ((1, 2, 3, 4), {}),
        ((1, 2, 3, 4, 5), {}),
        ((), {"a": 1, "b": 2, "c": 3, "d": 4}),
        ((), {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}),
        ((1, 2), {"b": 2, "a": 1}),
        (tuple(range(300)), {f"n{i}": i for i in range(300)}),
    ]
    for args, kwargs in shapes:
        seen.clear()
        with pytest.raises(ConnectionError):
            drive(take(*args, **kwargs))
        assert seen == [(args, kwargs)] * 3


# ---- looks


class Service:
    """Has a coroutine function of each kind."""

    @shipped.guard
    async def method(self, value: int) -> tuple[str, int]:
        """Of a method."""
        return type(self).__name__, value

    @shipped.guard
    @classmethod
    async def of_class(cls, value: int) -> tuple[str, int]:
        return cls.__name__, value

    @classmethod
    @shipped.guard
    async def of_class_too(cls, value: int) -> tuple[str, int]:
        return cls.__name__, value

    @shipped.guard
    @staticmethod
    async def static(value: int) -> int:
        return value

    @staticmethod
    @shipped.guard
    async def static_too(value: int) -> int:
        return value

    @shipped.guard
    async def __aenter__(self) -> str:
        return "entered"

    @shipped.guard
    async def __aexit__(self, *error: object) -> bool:
        return isinstance(error[1], KeyError)

    @shipped.guard
    async def __anext__(self) -> int:
        raise StopAsyncIteration

    def __aiter__(self) -> Service:
        return self


class Derived(Service):
    @shipped.guard
    async def method(self, value: int) -> tuple[str, int]:
        return await super().method(value + 1)


class AsyncCallable:
    async def __call__(self, value: int) -> int:
        return value


def test_methods() -> None:
    async def main() -> None:
        service, derived = Service(), Derived()
        assert await service.method(1) == ("Service", 1)
        assert await derived.method(1) == ("Derived", 2)
        assert await Service.method(derived, 1) == ("Derived", 1)
        assert await Derived.of_class(1) == await derived.of_class_too(1) == ("Derived", 1)
        assert await Service.static(1) == await service.static_too(1) == 1
        async with service as entered:
            assert entered == "entered"
            raise KeyError("swallowed")
        assert [item async for item in service] == []

    asyncio.run(main())


@shipped.guard
async def guarded(value: int = 1) -> int:
    """What is said of it."""
    return value


COROUTINE_FUNCTIONS: list[Any] = [
    pytest.param(guarded, id="function"),
    pytest.param(Service.method, id="method"),
    pytest.param(Service().method, id="bound method"),
    pytest.param(Service.of_class, id="class method"),
    pytest.param(Service().of_class_too, id="class method inside"),
    pytest.param(Service.static, id="static method"),
    pytest.param(Service.static_too, id="static method inside"),
    pytest.param(shipped.guard(AsyncCallable()), id="callable object"),
    pytest.param(shipped.guard(AsyncCallable().__call__), id="guard of a bound method"),
    pytest.param(shipped.guard(functools.partial(guarded.__wrapped__, 1)), id="guard of a partial"),
    pytest.param(functools.partial(guarded, 1), id="partial of a guard"),
    pytest.param(shipped.guard(guarded), id="guard of a guard"),
    pytest.param(shipped.guard(lambda: guarded(), operation="l"), id="lambda"),
]


@pytest.mark.parametrize("fn", COROUTINE_FUNCTIONS)
@pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction':DeprecationWarning")
def test_it_is_known_for_a_coroutine_function(fn: Any, request: pytest.FixtureRequest) -> None:
    known = "lambda" not in request.node.callspec.id
    assert inspect.iscoroutinefunction(fn) is known
    assert asyncio.iscoroutinefunction(fn) is known
    assert not inspect.isasyncgenfunction(fn)
    assert not inspect.isgeneratorfunction(fn)


@pytest.mark.filterwarnings("ignore:'asyncio.iscoroutinefunction':DeprecationWarning")
def test_mocks_are_guarded_as_what_they_stand_for(steady: Integration) -> None:
    fake = mock.AsyncMock(return_value=3)
    assert asyncio.run(call(steady.guard(fake), 1, a=2)) == 3
    fake.assert_awaited_once_with(1, a=2)
    mocked = mock.create_autospec(guarded)
    assert asyncio.iscoroutinefunction(mocked)


async def call(fn: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    return await fn(*args, **kwargs)


def test_the_function_has_its_looks() -> None:
    bare = guarded.__wrapped__
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__"):
        assert getattr(guarded, name) == getattr(bare, name)
    assert inspect.signature(guarded) == inspect.signature(bare)
    assert inspect.getsource(guarded) == inspect.getsource(bare)


def test_the_coroutine_has_the_looks_of_one() -> None:
    coroutine = guarded(3)
    bare = guarded.__wrapped__(3)
    assert isinstance(coroutine, collections.abc.Coroutine)
    assert isinstance(coroutine, collections.abc.Awaitable)
    assert asyncio.iscoroutine(coroutine)
    assert inspect.isawaitable(coroutine)
    assert (coroutine.__name__, coroutine.__qualname__) == ("guarded", "guarded")
    assert coroutine.cr_code is bare.cr_code
    assert (coroutine.cr_await, coroutine.cr_running, coroutine.cr_origin) == (None, False, None)
    assert coroutine.cr_frame.f_locals == {"value": 3}
    assert "coroutine object guarded" in repr(coroutine)
    assert weakref.ref(coroutine)() is coroutine
    bare.close()
    assert drive(coroutine) == 3
    assert coroutine.cr_frame is None
    assert "coroutine object guarded" in repr(coroutine)


def test_nobody_makes_one_by_hand() -> None:
    coroutine = guarded()
    with pytest.raises(TypeError):
        type(coroutine)()
    with pytest.raises(TypeError):
        object.__new__(type(coroutine))
    coroutine.close()


def test_its_state_can_be_asked(steady: Integration) -> None:
    async def look() -> None:
        states.append(inspect.getcoroutinestate(own[0]))
        await hand(None)

    for fn in both(steady.guard, look):
        states: list[str] = []
        own = [fn()]
        states.append(inspect.getcoroutinestate(own[0]))
        own[0].send(None)
        states.append(inspect.getcoroutinestate(own[0]))
        assert set(inspect.getcoroutinelocals(own[0])) >= {"own", "states"}
        own[0].close()
        states.append(inspect.getcoroutinestate(own[0]))
        assert states == ["CORO_CREATED", "CORO_RUNNING", "CORO_SUSPENDED", "CORO_CLOSED"]


def test_tasks_and_debuggers_can_show_it(steady: Integration) -> None:
    async def waiting() -> None:
        await asyncio.sleep(30)

    async def main(fn: Callable[..., Any]) -> tuple[object, ...]:
        task = asyncio.create_task(fn(), name="t")
        await asyncio.sleep(0)
        out = io.StringIO()
        task.print_stack(file=out)
        shown = (
            "waiting() running at" in repr(task),
            [frame.f_code.co_name for frame in task.get_stack()],
            "await asyncio.sleep(30)" in out.getvalue(),
            task.get_coro().__qualname__.rpartition(".")[2],
        )
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return shown

    for debug in (False, True):
        bare, shown = (asyncio.run(main(fn), debug=debug) for fn in both(steady.guard, waiting))
        assert shown == bare


# ---- in a loop


async def steps(count: int = 3, value: object = "done") -> object:
    for _ in range(count):
        await asyncio.sleep(0)
    return value


async def failing(count: int = 3) -> None:
    await steps(count)
    raise KeyError("failed")


async def by_task(fn: Any, *args: Any) -> object:
    return await asyncio.create_task(fn(*args))


async def by_ensure_future(fn: Any, *args: Any) -> object:
    return await asyncio.ensure_future(fn(*args))


async def by_gather(fn: Any, *args: Any) -> object:
    return await asyncio.gather(fn(*args), fn(*args), return_exceptions=True)


async def by_wait_for(fn: Any, *args: Any) -> object:
    return await asyncio.wait_for(fn(*args), 30)


async def by_group(fn: Any, *args: Any) -> object:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(fn(*args)) for _ in range(2)]
    return [task.result() for task in tasks]


async def by_timeout(fn: Any, *args: Any) -> object:
    async with asyncio.timeout(30):
        return await fn(*args)


async def by_shield(fn: Any, *args: Any) -> object:
    return await asyncio.shield(fn(*args))


async def by_as_completed(fn: Any, *args: Any) -> object:
    tasks = [asyncio.create_task(fn(*args)) for _ in range(2)]
    return [told(await asyncio.gather(done, return_exceptions=True)) for done in asyncio.as_completed(tasks)]


async def by_wait(fn: Any, *args: Any) -> object:
    done, _ = await asyncio.wait([asyncio.create_task(fn(*args))])
    return [task.result() for task in done]


async def by_thread(fn: Any, *args: Any) -> object:
    loop = asyncio.get_running_loop()
    return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(fn(*args), loop).result(30))


async def by_yield(fn: Any, *args: Any) -> object:
    class Asks:
        def __await__(self) -> Generator[Any, None, Any]:
            return (yield from fn(*args).__await__())

    return await Asks()


async def by_eager_task(fn: Any, *args: Any) -> object:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
    try:
        return await asyncio.gather(asyncio.create_task(fn(*args)), fn(*args), return_exceptions=True)
    finally:
        loop.set_task_factory(None)


eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
ENTRANCES: list[Any] = [
    call, by_task, by_ensure_future, by_gather, by_wait_for, by_group, by_timeout, by_shield, by_as_completed,
    by_wait, by_thread, by_yield, pytest.param(by_eager_task, marks=eager),
]  # fmt: skip


def seen_in_a_loop(script: Callable[..., Coroutine[Any, Any, object]], *args: Any) -> str:
    """What a program sees whose main coroutine this is; exceptions by their words."""
    try:
        return told(asyncio.run(script(*args)))
    except BaseException as error:
        errors = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
        return " and ".join(map(told, errors))


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("bare", [steps, failing])
@pytest.mark.parametrize("turns", [0, 1, 3])
def test_every_entrance_of_asyncio(guard: Callable[[Any], Any], entrance: Any, bare: Any, turns: int) -> None:
    assert seen_in_a_loop(entrance, guard(bare), turns) == seen_in_a_loop(entrance, bare, turns)


class Cancelled:
    """Functions that are cancelled, each in its own way. Every one notes what it has seen."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def passes(self) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError as error:
            self.seen.append(told(error))
            raise
        finally:
            self.seen.append("finally")

    async def swallows(self) -> str:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.seen.append("swallowed")
        await asyncio.sleep(0)
        return "answered all the same"

    async def swaps(self) -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            raise KeyError("instead") from None

    async def awaits_in_finally(self) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0)
            self.seen.append("tidied up")

    async def is_not_there_yet(self) -> None:
        self.seen.append("started")


@pytest.mark.parametrize("name", ["passes", "swallows", "swaps", "awaits_in_finally", "is_not_there_yet"])
@pytest.mark.parametrize("before", [0, 1, 2], ids=lambda count: f"after {count} turns")
def test_cancelling(guard: Callable[[Any], Any], name: str, before: int) -> None:
    async def main(fn: Callable[..., Any], case: Cancelled) -> tuple[object, ...]:
        task = asyncio.create_task(fn())
        for _ in range(before):
            await asyncio.sleep(0)
        cancelled = task.cancel("because")
        try:
            result: object = await task
        except BaseException as error:
            result = told(error)
        return cancelled, result, task.cancelled(), task.cancelling(), case.seen

    cases = Cancelled(), Cancelled()
    bare = asyncio.run(main(getattr(cases[0], name), cases[0]))
    assert asyncio.run(main(guard(getattr(cases[1], name)), cases[1])) == bare


def test_a_cancelled_group_takes_its_guarded_calls_along(guard: Callable[[Any], Any]) -> None:
    async def main(fn: Callable[..., Any], bad: Callable[..., Any], seen: list[str]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fn())
            group.create_task(bad(1))

    records = []
    for wrap in (lambda fn: fn, guard):
        case = Cancelled()
        with pytest.raises(ExceptionGroup) as caught:
            asyncio.run(main(wrap(case.passes), wrap(failing), case.seen))
        records.append((case.seen, list(map(told, caught.value.exceptions))))
    assert records[0] == records[1]


@pytest.mark.parametrize("entrance", ["timeout", "wait_for"])
def test_the_callers_own_timeout_is_the_callers(guard: Callable[[Any], Any], entrance: str) -> None:
    async def main(fn: Callable[..., Any]) -> str:
        with pytest.raises(TimeoutError) as caught:
            if entrance == "timeout":
                async with asyncio.timeout(0.002):
                    await fn()
            else:
                await asyncio.wait_for(fn(), 0.002)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
        return type(caught.value).__name__

    for fn in (Cancelled().passes, guard(Cancelled().passes)):
        assert asyncio.run(main(fn)) == "TimeoutError"


def test_a_shielded_call_goes_on(guard: Callable[[Any], Any]) -> None:
    async def main(fn: Callable[..., Any]) -> object:
        inner = asyncio.ensure_future(fn())
        outer = asyncio.shield(inner)
        await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        return await inner

    assert asyncio.run(main(guard(steps))) == "done"


def test_context_variables_are_the_callers(guard: Callable[[Any], Any]) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def change() -> str:
        before = variable.get()
        variable.set("changed")
        await asyncio.sleep(0)
        return before

    async def main(fn: Callable[..., Any]) -> tuple[str, ...]:
        variable.set("set")
        seen = await fn()
        within = variable.get()
        variable.set("set again")
        task = asyncio.create_task(fn())
        await task
        return seen, within, variable.get()

    for fn in both(guard, change):
        assert asyncio.run(main(fn)) == ("set", "changed", "set again")


def test_many_tasks_at_once_get_each_its_own(guard: Callable[[Any], Any]) -> None:
    async def echo(number: int) -> int:
        for _ in range(number % 7):
            await asyncio.sleep(0)
        if number % 5 == 0:
            raise KeyError(number)
        return number

    fn = guard(echo)

    async def main() -> None:
        answers = await asyncio.gather(*(fn(number) for number in range(300)), return_exceptions=True)
        for number, answer in enumerate(answers):
            assert told(answer) == told(KeyError(number) if number % 5 == 0 else number)

    asyncio.run(main())
    assert fn.metrics().count == 300


def test_deep_nesting(steady: Integration) -> None:
    @steady.guard
    async def deeper(n: int) -> int:
        if n == 0:
            await asyncio.sleep(0)
            return 0
        return await deeper(n - 1) + 1

    assert asyncio.run(deeper(100)) == 100


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_recursion_ends_in_recursion_error(steady: Integration, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: said.append(what.exc_value))

    @steady.guard
    async def deeper() -> int:
        return await deeper() + 1

    with pytest.raises(RecursionError):
        drive(deeper())
    assert not said
    assert asyncio.run(steady.guard(steps)()) == "done"


CHAIN = """
import os, sys, failsoft

passes = failsoft.Registry().integration("x", "database").guard(lambda awaitable: awaitable)

async def last(): return 1

coroutine = last()
for _ in range(150_000):
    coroutine = passes(coroutine)
try:
    coroutine.send(None)
except (StopIteration, RecursionError):
    sys.stdout.write("ended")
    sys.stdout.flush()
os._exit(0)  # a chain as long as this one cannot be freed, of bare coroutines neither
"""


def test_a_chain_of_handed_over_calls_does_not_overflow_the_stack() -> None:
    """There are no Python frames in between whose number anybody would limit."""
    done = subprocess.run([sys.executable, "-c", CHAIN], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
    assert done.stdout == "ended"


def test_calls_of_two_loops_in_two_threads(guard: Callable[[Any], Any]) -> None:
    fn = guard(steps)

    async def main() -> list[object]:
        return await asyncio.gather(*(asyncio.to_thread(lambda: asyncio.run(fn(5))) for _ in range(4)))

    assert asyncio.run(main()) == ["done"] * 4


# ---- never awaited, abandoned, refused


def warnings_of(make_one: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        one = make_one()
        del one
        gc.collect()
    return [f"{warning.category.__name__}: {warning.message}" for warning in caught]


def test_never_awaited_warns_as_the_bare_one_does(guard: Callable[[Any], Any]) -> None:
    bare, told_ = (warnings_of(fn) for fn in both(guard, steps))
    assert told_ == bare == ["RuntimeWarning: coroutine 'steps' was never awaited"]
    fn = guard(steps)
    assert warnings_of(lambda: fn.outcome()) == bare
    assert warnings_of(lambda: fn().close()) == []
    assert warnings_of(lambda: drive(fn())) == []


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_what_is_not_awaited_holds_no_permit(make: Make, clock: FakeClock) -> None:
    integration = make(threshold=1, circuit_breaker={"half_open_max_calls": 1, "success_threshold": 1})

    @integration.guard
    async def answer(ok: bool) -> bool:
        if not ok:
            raise ConnectionError("gone")
        return ok

    with pytest.raises(ConnectionError):
        drive(answer(False))
    clock.advance(61.0)
    unused = [answer(True) for _ in range(5)]
    assert integration.status().state is CircuitState.OPEN
    assert drive(answer(True)) is True
    assert integration.status().state is CircuitState.CLOSED
    for coroutine in unused:
        coroutine.close()


@pytest.mark.parametrize("end", ["close", "throw", "cancel", "drop", "value", "error", "interrupt"])
def test_every_end_returns_the_permit(make: Make, clock: FakeClock, end: str) -> None:
    """With one probe only, the next call tells whether the last one has given it back."""
    integration = make(threshold=1, circuit_breaker={"half_open_max_calls": 1, "success_threshold": 2})

    @integration.guard
    async def probe(way: str) -> str:
        await hand(None)
        if way == "error":
            raise TypeError("ignored by the breaker")
        if way == "interrupt":
            raise KeyboardInterrupt
        if way == "fail":
            raise ConnectionError("gone")
        return "answer"

    with pytest.raises(ConnectionError):
        drive(probe("fail"))
    clock.advance(61.0)
    coroutine = probe(end)
    coroutine.send(None)
    assert integration.status().probes == 1
    with pytest.raises(CircuitOpenError):
        drive(probe("value"))
    if end == "close":
        coroutine.close()
    elif end == "throw":
        with pytest.raises(ValueError, match="x"):
            coroutine.throw(ValueError("x"))
    elif end == "cancel":
        with pytest.raises(asyncio.CancelledError):
            coroutine.throw(asyncio.CancelledError())
    elif end == "drop":
        del coroutine
        gc.collect()
    else:
        with pytest.raises((StopIteration, TypeError, KeyboardInterrupt)):
            coroutine.send(None)
    assert integration.status().probes == 0
    assert drive(probe("value")) == "answer"


def test_a_refused_call_closes_without_a_warning(make: Make) -> None:
    integration = make()
    called: list[int] = []

    @integration.guard
    async def answer() -> None:
        called.append(1)

    integration.force_open()

    def refused() -> None:
        with pytest.raises(CircuitOpenError) as caught:
            drive(answer())
        assert caught.value.integration_name == "dependency"
        assert not drive(answer.outcome()).success

    assert warnings_of(refused) == []
    assert not called
    assert answer.metrics().rejected == 2
    assert answer.metrics().count == 0


def test_a_refused_call_is_done(make: Make) -> None:
    integration = make()
    integration.force_open()
    coroutine = integration.guard(steps)()
    with pytest.raises(CircuitOpenError):
        coroutine.send(None)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        coroutine.send(None)
    coroutine.close()


def test_the_gate_is_passed_at_the_first_send(make: Make) -> None:
    integration = make()
    fn = integration.guard(steps)
    before, after = fn(0), fn(0)
    integration.force_open()
    with pytest.raises(CircuitOpenError):
        drive(before)
    integration.force_closed()
    assert drive(after) == "done"


def test_abandoned_pending_tasks_are_collected(make: Make) -> None:
    """A loop is dropped with tasks that wait for what will never come."""
    integration = make(retries=2)
    things: list[weakref.ref[object]] = []

    class Thing: ...

    @integration.guard
    async def wait(thing: object) -> None:
        await asyncio.get_running_loop().create_future()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)  # "Task was destroyed but it is pending!"

    async def main() -> None:
        for _ in range(10):
            thing = Thing()
            things.append(weakref.ref(thing))
            task = asyncio.create_task(wait(thing))
            task.own = task  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    gc.collect()
    assert [thing() for thing in things] == [None] * 10


# ---- a sync callable that gives something to await


class Answering:
    """An awaitable that is no coroutine."""

    def __init__(self, iterator: Callable[[], Iterator[Any]]) -> None:
        self.iterator = iterator

    def __await__(self) -> Iterator[Any]:
        return self.iterator()


class NoMore:
    """An iterator with nothing but `__next__`."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> NoMore:
        return self

    def __next__(self) -> None:
        self.count -= 1
        if self.count < 0:
            raise StopIteration((1, "answer"))


def in_generator() -> Iterator[Any]:
    yield from asyncio.sleep(0).__await__()
    return "answer"


def future_with(value: object) -> asyncio.Future[object]:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_result, value)
    return future


def future_failing() -> asyncio.Future[object]:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_exception, KeyError("failed"))
    return future


GIVERS: list[Any] = [
    pytest.param(lambda: steps(2), id="coroutine"),
    pytest.param(lambda: failing(2), id="failing coroutine"),
    pytest.param(lambda: asyncio.create_task(steps(2)), id="task"),
    pytest.param(lambda: asyncio.create_task(failing(2)), id="failing task"),
    pytest.param(lambda: future_with(5), id="future"),
    pytest.param(future_failing, id="failing future"),
    pytest.param(lambda: asyncio.gather(steps(), steps(1, "other")), id="gather"),
    pytest.param(lambda: asyncio.sleep(0, "slept"), id="sleep"),
    pytest.param(lambda: Answering(in_generator), id="object with a generator"),
    pytest.param(lambda: Answering(lambda: NoMore(0)), id="object with an iterator, at once"),
    pytest.param(lambda: Answering(lambda: NoMore(2)), id="object with an iterator"),
    pytest.param(lambda: guarded(7), id="guarded coroutine"),
    pytest.param(functools.partial(steps, 1, "part"), id="partial"),
    pytest.param(mock.Mock(side_effect=lambda: steps(1)), id="mock"),
]


@pytest.mark.parametrize("bare", GIVERS)
def test_what_a_sync_callable_gives_to_await_is_guarded(guard: Callable[[Any], Any], bare: Any) -> None:
    fn = guard(bare)
    assert seen_in_a_loop(call, fn) == seen_in_a_loop(call, bare)
    assert fn.metrics().count in (1, 0)  # a TypeError is ignored
    assert seen_in_a_loop(by_gather, fn) == seen_in_a_loop(by_gather, bare)


def test_what_cannot_be_awaited_after_all_is_a_type_error(guard: Callable[[Any], Any]) -> None:
    class Lists:
        def __await__(self) -> Any:
            return [1, 2]

    for fn in both(guard, Lists):
        with pytest.raises(TypeError, match=r"__await__\(\) returned non-iterator of type 'list'"):
            drive(call(fn))


@pytest.mark.parametrize("bare", GIVERS)
def test_what_a_sync_callable_gives_can_be_cancelled(guard: Callable[[Any], Any], bare: Any) -> None:
    async def main(fn: Callable[..., Any]) -> str:
        task = asyncio.create_task(call(fn))
        await asyncio.sleep(0)
        task.cancel("because")
        try:
            return told(await task)
        except BaseException as error:
            return told(error)

    assert asyncio.run(main(guard(bare))) == asyncio.run(main(bare))


@pytest.mark.parametrize("bare", GIVERS[8:11])
def test_what_a_sync_callable_gives_can_be_closed(guard: Callable[[Any], Any], bare: Any) -> None:
    coroutine = guard(bare)()
    coroutine.close()
    started = guard(bare)()
    with pytest.raises((StopIteration, GeneratorExit)):
        started.send(None)
        started.throw(GeneratorExit())
    started.close()


def test_a_handed_over_call_counts_once_at_its_end(make: Make, clock: FakeClock) -> None:
    integration = make(threshold=1, circuit_breaker={"half_open_max_calls": 1, "success_threshold": 1})
    fn = integration.guard(lambda ok: steps(1, ok) if ok else failing_connection())
    with pytest.raises(ConnectionError):
        drive(call(fn, False))
    assert fn.metrics().count == 1
    assert integration.status().state is CircuitState.OPEN
    clock.advance(61.0)
    coroutine = fn("probe")
    assert integration.status().probes == 0
    coroutine.send(None)
    assert integration.status().probes == 1
    assert drive(coroutine) == "probe"
    assert integration.status().state is CircuitState.CLOSED
    assert fn.metrics().count == 2


async def failing_connection() -> None:
    raise ConnectionError("gone")


def test_a_handed_over_call_is_retried_by_calling_again(make: Make) -> None:
    attempts: list[int] = []

    async def fail_twice() -> int:
        attempts.append(1)
        await asyncio.sleep(0)
        if len(attempts) < 3:
            raise ConnectionError("gone")
        return len(attempts)

    fn = make(retries=3).guard(lambda: fail_twice())
    assert asyncio.run(call(fn)) == 3
    assert fn.metrics().retries == 2


def test_a_handed_over_call_refused_can_be_awaited(make: Make) -> None:
    """Whether a lambda is async shows only when it runs, and an open circuit does not run it."""
    integration = make()
    fn = integration.guard(lambda: steps(1))
    handler = Fallback(FallbackType.CACHE, lambda: steps(1, "cached"))
    rescued = integration.guard(lambda: steps(1), operation="rescued", fallbacks=[handler])
    integration.force_open()

    async def main() -> None:
        with pytest.raises(CircuitOpenError):
            await fn()
        result = await fn.outcome()
        assert not result.success
        assert isinstance(result.error, CircuitOpenError)
        assert await rescued() == "cached"
        result = await rescued.outcome()
        assert (result.success, result.data, result.fallback_used) == (True, "cached", True)

    asyncio.run(main())


def test_generator_based_functions_are_refused(steady: Integration) -> None:
    with pytest.raises(TypeError, match=r"generator function.*attempt"):
        steady.guard(hand)


def test_the_function_that_was_interrupted_can_be_called_again(guard: Callable[[Any], Any]) -> None:
    """After each strange end the guard is as good as new."""
    fn = guard(steps)
    for _ in range(3):
        fn(2).close()
        started = fn(2)
        started.send(None)
        with pytest.raises(KeyboardInterrupt):
            started.throw(KeyboardInterrupt())
        assert asyncio.run(fn(2)) == "done"


def test_remaining_is_of_the_task_that_asks(make: Make) -> None:
    """Interleaved tasks do not see each other's deadline, and between two sends nobody's is left behind."""
    fast = make("fast", circuit_breaker={"timeout": 1.0})
    slow = make("slow", circuit_breaker={"timeout": 20.0})
    seen: dict[str, list[float | None]] = {"fast": [], "slow": [], "none": []}

    async def ask(name: str) -> None:
        for _ in range(3):
            seen[name].append(failsoft.remaining())
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(fast.guard(ask)("fast"), slow.guard(ask)("slow"), ask("none"))
        assert failsoft.remaining() is None

    asyncio.run(main())
    assert all(0.5 < (left or 0) <= 1.0 for left in seen["fast"])
    assert all(19.0 < (left or 0) <= 20.0 for left in seen["slow"])
    assert seen["none"] == [None] * 3
