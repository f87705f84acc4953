"""Concurrent calls that are alike share one execution, and nothing else of each other's fate."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import itertools
import logging
import os
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from failsoft import (
    DegradedModeError,
    ErrorCategory,
    Fallback,
    FallbackType,
    Integration,
    IntegrationError,
    IntegrationTimeoutError,
    Registry,
    with_integration_resilience,
)
from failsoft.testing import FakeClock

from .conftest import Make, drive

THREADS = 8
PATIENCE = 20.0
"""Seconds until a test that hangs says so."""


@pytest.fixture(autouse=True)
def nothing_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No task's exception goes unseen, and no coroutine unawaited."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert not [str(warning.message) for warning in seen]
    assert not [record.getMessage() for record in caplog.records if record.name == "asyncio"]


class Crew:
    """Threads that make a call each, and what came of it."""

    def __init__(self, *calls: Callable[[], object]) -> None:
        self.answers: list[object] = [None] * len(calls)
        self.threads = [
            threading.Thread(target=self._run, args=(place, call), daemon=True) for place, call in enumerate(calls)
        ]

    def _run(self, place: int, call: Callable[[], object]) -> None:
        try:
            self.answers[place] = call()
        except BaseException as error:
            self.answers[place] = error

    def start(self) -> Crew:
        for thread in self.threads:
            thread.start()
        return self

    def parked(self) -> Crew:
        """Return when every thread waits for an event."""
        until(self._wait)
        return self

    def _wait(self) -> bool:
        doing = {
            thread: (frame.f_code.co_name, frame.f_back.f_code.co_name)
            for thread, frame in sys._current_frames().items()
            if frame.f_back
        }
        return all(doing.get(thread.ident or 0) == ("wait", "wait") for thread in self.threads)

    def joined(self) -> list[Any]:
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        return self.answers


def until(true: Callable[[], object]) -> None:
    """Return when something that other threads do has come about."""
    for _ in range(int(PATIENCE / 0.001)):
        if true():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it has not come about")


class Gate:
    """A function to guard, which answers when told to."""

    def __init__(self, answer: Callable[[int], object] = lambda call: call) -> None:
        self.calls = 0
        self.open = threading.Event()
        self.answer = answer

    def __call__(self, *_: object, **__: object) -> object:
        self.calls += 1
        call = self.calls
        assert self.open.wait(PATIENCE)
        return self.answer(call)


def shared(integration: Integration, answer: Callable[[int], object], **options: Any) -> tuple[Gate, Any]:
    gate = Gate(answer)
    return gate, integration.guard(gate, operation="shared", **{"dedupe": True, **options})


def fail(error: Callable[[], BaseException]) -> Callable[[int], object]:
    def raise_it(_: int) -> object:
        raise error()

    return raise_it


def together(gate: Gate, call: Callable[[], object], threads: int = THREADS) -> list[Any]:
    """The answers of threads that all wait before the first is answered."""
    crew = Crew(*[call] * threads).start().parked()
    gate.open.set()
    return crew.joined()


# ---- threads


def test_threads_share_one_execution(steady: Integration) -> None:
    thing = object()
    gate, guard = shared(steady, lambda _: thing)
    answers = together(gate, lambda: guard(1, b=2))
    assert answers == [thing] * THREADS
    assert gate.calls == 1
    assert guard.metrics().count == 1  # one outcome for the breaker
    assert guard.metrics().deduplicated == THREADS - 1


def test_what_comes_after_is_a_call_of_its_own(steady: Integration) -> None:
    gate, guard = shared(steady, lambda call: call)
    assert together(gate, guard) == [1] * THREADS
    assert guard() == 2


def test_one_failure_is_one_failure_for_the_breaker(make: Make) -> None:
    integration = make(threshold=2)
    gate, guard = shared(integration, fail(lambda: ConnectionError("gone")))
    answers = together(gate, guard)
    assert [str(error) for error in answers] == ["gone"] * THREADS
    assert integration.status().failures == 1


def test_threads_that_ask_at_the_same_moment_share(steady: Integration) -> None:
    """Fails where looking for a flight and leaving one's own are two steps."""
    looking = threading.Barrier(THREADS)

    class Slow:
        """A key whose hash takes all threads to be told for the second time: when it is looked up."""

        def __init__(self) -> None:
            self.hashed = 0

        def __hash__(self) -> int:
            self.hashed += 1
            if self.hashed == 2:
                looking.wait(PATIENCE)
            if self.hashed > 2:
                threading.Event().wait(0.01)
            return 1

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Slow)

    gate, guard = shared(steady, lambda call: call, dedupe=Slow)
    crew = Crew(*[guard] * THREADS).start()
    until(lambda: gate.calls)
    crew.parked()
    gate.open.set()
    assert crew.joined() == [1] * THREADS


class Picky(Exception):
    """Made of other arguments than it keeps."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}")
        self.code, self.hint = code, hint


class Slotted(Exception):
    """Keeps what nobody can copy for it."""

    __slots__ = ("secret",)

    def __init__(self) -> None:
        super().__init__("slotted")
        self.secret = object()


class Uncopyable(Exception):
    def __copy__(self) -> object:
        raise TypeError("no")

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("no")

    def __deepcopy__(self, memo: object) -> object:
        raise TypeError("no")


def of_the_standard_library() -> list[BaseException]:
    return [
        ValueError("a", 1),
        KeyError("k"),
        FileNotFoundError(2, "No such file", "name", None, "other"),
        ImportError("no", name="n", path="p"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        SyntaxError("bad", ("file", 1, 2, "text", 1, 3)),
        ExceptionGroup("many", [ValueError(1), TypeError(2)]),
        TimeoutError(),
        asyncio.IncompleteReadError(b"x", 2),
        IntegrationError("m", category=ErrorCategory.NETWORK, details={"a": 1}, original_error=ValueError(lambda: 0)),
        IntegrationTimeoutError("late", retry_after=2.0),
        DegradedModeError("limited"),
        Picky(7, hint="h"),
    ]


@pytest.mark.parametrize("place", range(len(of_the_standard_library())))
def test_each_thread_gets_an_exception_of_its_own(steady: Integration, place: int) -> None:
    error = of_the_standard_library()[place]
    error.extra = [1]  # type: ignore[attr-defined]
    error.add_note("noted")
    cause = KeyError("cause")

    def answer(_: int) -> object:
        raise error from cause

    gate, guard = shared(steady, answer)
    answers = together(gate, guard, 3)
    assert len({id(answer) for answer in answers}) == 3
    state = {**vars(error), "text": str(error), "args": error.args}
    for got in answers:
        assert type(got) is type(error)
        assert {**vars(got), "text": str(got), "args": got.args} == state
        assert got.__cause__ is cause
        assert "answer" in [frame.name for frame in traceback.extract_tb(got.__traceback__)]
    for name in ("errno", "strerror", "filename", "filename2", "name", "path", "start", "lineno", "exceptions", "code"):
        assert [getattr(got, name, None) for got in answers] == [getattr(error, name, None)] * 3
    answers[0].add_note("mine")
    assert answers[1].__notes__ == answers[2].__notes__ == ["noted"]


def test_an_exception_that_refuses_to_be_copied_is_copied_all_the_same(steady: Integration) -> None:
    with pytest.raises(TypeError):
        copy.copy(Uncopyable())
    gate, guard = shared(steady, fail(Uncopyable))
    assert len({id(error) for error in together(gate, guard)}) == THREADS


def test_one_that_cannot_be_copied_is_shared_and_does_not_grow(steady: Integration) -> None:
    few, guard = shared(steady, fail(Slotted))
    (error, *others) = together(few, guard, 2)
    assert others == [error]
    short = len(traceback.extract_tb(error.__traceback__))
    many, guard = shared(steady, fail(Slotted))
    (error, *others) = together(many, guard, 12)
    assert all(other is error for other in others)
    assert len(traceback.extract_tb(error.__traceback__)) <= short + 2


@pytest.mark.parametrize("error", [ValueError, Slotted, Uncopyable])
def test_a_failure_is_gone_when_it_has_been_handled(steady: Integration, error: type[Exception]) -> None:
    class Payload:
        pass

    alive: list[weakref.ref[Payload]] = []

    def answer(_: int) -> object:
        payload = Payload()
        alive.append(weakref.ref(payload))
        raise error

    gate, guard = shared(steady, answer)
    gc.collect()
    gc.disable()
    try:
        gate.open.set()
        with pytest.raises(error):
            guard()
        assert alive[0]() is None
        gate.open.clear()
        together(gate, guard).clear()
        assert alive[1]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interrupt_is_the_leaders_alone(steady: Integration, interrupt: type[BaseException]) -> None:
    others_wait = threading.Event()
    asked: list[None] = []

    def answer(call: int) -> object:
        if call == 1:
            raise interrupt
        assert others_wait.wait(PATIENCE)
        return call

    gate, guard = shared(steady, answer, dedupe=lambda: asked.append(None))
    leader = Crew(guard).start().parked()
    crew = Crew(*[guard] * THREADS).start().parked()
    gate.open.set()
    leader.joined()
    until(lambda: len(asked) == 1 + 2 * THREADS)
    crew.parked()
    others_wait.set()
    assert type(leader.answers[0]) is interrupt
    assert crew.joined() == [2] * THREADS  # those who waited share again


def test_threads_are_told_apart_by_arguments(steady: Integration) -> None:
    calls = [(1,), (True,), (1.0,), ((1,),), ("1",), (1, 2), ((1, 2),), ()]
    named: list[dict[str, object]] = [{"a": 1}, {"a": True}, {"b": 1}]
    gate, guard = shared(steady, lambda call: call)
    crew = Crew(
        *[lambda args=args: guard(*args) for args in calls],
        *[lambda kwargs=kwargs: guard(**kwargs) for kwargs in named],
    )
    crew.start().parked()
    gate.open.set()
    assert sorted(crew.joined()) == list(range(1, len(calls) + len(named) + 1))


def test_the_order_of_keywords_does_not_matter(steady: Integration) -> None:
    gate, guard = shared(steady, lambda call: call)
    crew = Crew(lambda: guard(a=1, b=2), lambda: guard(b=2, a=1)).start().parked()
    gate.open.set()
    assert crew.joined() == [1, 1]


def test_a_key_function_says_what_is_alike(steady: Integration) -> None:
    gate, guard = shared(steady, lambda call: call, dedupe=lambda text, *, unimportant: text.lower())
    crew = Crew(lambda: guard("A", unimportant=[]), lambda: guard("a", unimportant={})).start().parked()
    gate.open.set()
    assert crew.joined() == [1, 1]


@pytest.mark.parametrize("args", [([],), ({},), (1, {2})])
def test_arguments_that_do_not_hash_are_as_if_alone(steady: Integration, args: tuple[object, ...]) -> None:
    gate, guard = shared(steady, lambda call: call)
    assert sorted(together(gate, lambda: guard(*args), 3)) == [1, 2, 3]
    assert guard.metrics().deduplicated == 0


class Incomparable:
    """Hashes like its kind, and will not be compared."""

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("compare something else")


def test_arguments_that_do_not_compare_are_as_if_alone(steady: Integration) -> None:
    gate, guard = shared(steady, lambda call: call)
    crew = Crew(*[lambda: guard(Incomparable()) for _ in range(3)]).start().parked()
    gate.open.set()
    assert sorted(crew.joined()) == [1, 2, 3]
    assert guard(Incomparable()) == 4  # nothing is in the way of the next

    @steady.guard(dedupe=True)
    async def ask(_: object) -> int:
        await asyncio.sleep(0)
        return next(numbers)

    async def main() -> list[int]:
        return await asyncio.gather(*[ask(Incomparable()) for _ in range(3)])

    numbers = itertools.count()
    assert sorted(asyncio.run(main())) == [0, 1, 2]


@pytest.mark.parametrize("key", [lambda: 1 / 0, list])
def test_a_key_function_that_fails_is_logged_once_and_the_call_goes_on(
    steady: Integration, key: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    guard = steady.guard(lambda: "fine", operation=f"by {key!r}", dedupe=key)
    with caplog.at_level(logging.ERROR, "failsoft"):
        assert [guard(), guard()] == ["fine", "fine"]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] in (ZeroDivisionError, TypeError)


def test_a_call_from_inside_its_own_flight_is_made(steady: Integration) -> None:
    @steady.guard(dedupe=True)
    def deep(levels: list[int] = [3]) -> int:  # noqa: B006  a default is no argument
        if levels[0] == 0:
            return 0
        levels[0] -= 1
        return deep() + 1

    assert deep() == 3


def test_comparing_keys_may_call_the_guard(steady: Integration) -> None:
    class Nosy:
        def __hash__(self) -> int:
            guard(1)
            return 1

        def __eq__(self, other: object) -> bool:
            guard(2)
            return isinstance(other, Nosy)

    gate, guard = shared(steady, lambda call: call)
    gate.open.set()
    crew = Crew(lambda: guard(Nosy()), lambda: guard(Nosy())).start()
    assert all(isinstance(answer, int) for answer in crew.joined())


def test_who_waits_does_so_for_the_overall_timeout(make: Make, clock: FakeClock) -> None:
    integration = make(timeouts={"overall": 7.0}, circuit_breaker={"timeout": 3.0})
    gate, guard = shared(integration, lambda call: call)
    leader = Crew(guard).start().parked()
    others = Crew(guard, guard.outcome, guard).start()
    first_result = Crew(guard.outcome)
    until(lambda: gate.calls == 2)  # `.outcome()` leads its own
    first_result.start().parked()
    others.parked()
    clock.advance(6.9)
    assert all(thread.is_alive() for thread in others.threads)
    clock.advance(0.2)
    raised, again = others.threads[0], others.threads[2]
    for thread in (raised, again):
        thread.join(PATIENCE)
    (result,) = first_result.joined()
    for error in (others.answers[0], others.answers[2], result.error):
        assert isinstance(error, IntegrationTimeoutError)
        assert (error.integration_name, error.operation) == ("dependency", "shared")
        assert error.reason == "waited for a call like it"
        assert error.details["waited"] == 7.0
    assert not result.success
    assert integration.status().failures == 0  # waiting says nothing about the dependency
    # A leader that is lost does not take the key along.
    fresh = Crew(guard).start()
    until(lambda: gate.calls == 3)
    gate.open.set()
    assert [*leader.joined(), *fresh.joined()] == [1, 3]


def test_who_waits_heeds_the_deadline_around_it(make: Make, clock: FakeClock) -> None:
    gate, inner = shared(make("inner", timeouts={"overall": 30.0}), lambda call: call)
    outer = make("outer", circuit_breaker={"timeout": 2.0}, timeouts={"overall": 2.0}).guard(lambda: inner())
    leader = Crew(inner).start().parked()
    follower = Crew(outer).start().parked()
    clock.advance(1.9)
    assert follower.threads[0].is_alive()
    clock.advance(0.2)
    (error,) = follower.joined()
    assert isinstance(error, IntegrationTimeoutError)
    gate.open.set()
    assert leader.joined() == [1]


def test_waiting_in_vain_is_logged(make: Make, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    gate, guard = shared(make("impatient", timeouts={"overall": 1.0}, circuit_breaker={"timeout": 1.0}), lambda c: c)
    leader = Crew(guard).start().parked()
    follower = Crew(guard).start().parked()
    with caplog.at_level(logging.WARNING, "failsoft"):
        clock.advance(1.5)
        follower.joined()
    assert [record.__dict__["code"] for record in caplog.records if record.name == "failsoft"] == ["DB_TIMEOUT"]
    gate.open.set()
    leader.joined()


def test_outcomes_are_shared_with_outcomes(make: Make) -> None:
    integration = make("o")
    mock = Fallback(FallbackType.MOCK, lambda: "mock")
    gate, guard = shared(integration, fail(lambda: ConnectionError("gone")), fallbacks=[mock])
    crew = Crew(guard, guard.outcome, guard, guard.outcome).start().parked()
    gate.open.set()
    plain, result, plain_too, result_too = crew.joined()
    assert gate.calls == 2
    assert plain == plain_too == "mock"
    assert result is result_too
    assert (result.data, result.fallback_used, result.fallback_type) == ("mock", True, "mock")


def test_methods_share_by_instance(steady: Integration) -> None:
    gates = Gate(), Gate()

    class Client:
        def __init__(self, gate: Gate) -> None:
            self.gate = gate

        @steady.guard(dedupe=True)
        def get(self, key: str) -> object:
            return self.gate(key)

    clients = [Client(gate) for gate in gates]
    crew = Crew(*[lambda client=client: client.get("k") for client in clients * 3]).start().parked()
    for gate in gates:
        gate.open.set()
    crew.joined()
    assert [gate.calls for gate in gates] == [1, 1]
    alive = weakref.ref(clients[0])
    clients.clear()
    del crew
    gc.collect()
    assert alive() is None


def test_a_disabled_registry_shares_nothing(registry: Registry, steady: Integration) -> None:
    gate, guard = shared(steady, lambda call: call)
    registry.disable()
    assert sorted(together(gate, guard, 3)) == [1, 2, 3]

    async def bare() -> int:
        return 1

    guarded = steady.guard(bare, dedupe=True)
    inner = guarded()
    assert inner.cr_code is bare.__code__  # the bare coroutine itself
    inner.close()
    registry.enable()
    assert guarded.metrics().deduplicated == guard.metrics().deduplicated == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing to fork with")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_child_does_not_wait_for_its_parents_threads(steady: Integration) -> None:
    gate, guard = shared(steady, lambda call: call)
    crew = Crew(guard).start().parked()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that threads are forked is the point
        child = os.fork()
    if child == 0:
        gate.open.set()
        os._exit(0 if guard() == 2 else 1)
    gate.open.set()
    assert os.waitpid(child, 0)[1] == 0
    assert crew.joined() == [1]


# ---- tasks


class Flight:
    """An async function to guard: what it was called with, and when it ends."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.cancelled = 0
        self.open = asyncio.Event()
        self.error: BaseException | None = None

    async def fly(self, *args: object) -> object:
        self.calls.append(args)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self


async def settle(turns: int = 5) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


def test_ten_thousand_tasks_run_the_function_once(steady: Integration) -> None:
    async def main() -> None:
        flight = Flight()
        guard = steady.guard(flight.fly, dedupe=True, operation="ten thousand")
        tasks = [asyncio.ensure_future(guard(1)) for _ in range(10_000)]
        await settle()
        flight.open.set()
        assert await asyncio.gather(*tasks) == [flight] * 10_000
        assert flight.calls == [(1,)]
        metrics = guard.metrics()
        assert (metrics.count, metrics.deduplicated) == (1, 9_999)
        assert (await guard(1), len(flight.calls)) == (flight, 2)

    asyncio.run(main())


@pytest.mark.parametrize("survivor", [0, 5_000, 9_999])
def test_cancelling_all_but_one_leaves_it_its_result(steady: Integration, survivor: int) -> None:
    async def main() -> None:
        flight = Flight()
        guard = steady.guard(flight.fly, dedupe=True)
        tasks = [asyncio.ensure_future(guard()) for _ in range(10_000)]
        await settle()
        last = tasks.pop(survivor)
        for task in tasks:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(answer, asyncio.CancelledError) for answer in answers)
        assert not last.done()
        flight.open.set()
        assert await last is flight
        assert (len(flight.calls), flight.cancelled) == (1, 0)

    asyncio.run(main())


def test_cancelling_all_cancels_the_execution(steady: Integration) -> None:
    async def main() -> None:
        flight = Flight()
        guard = steady.guard(flight.fly, dedupe=True)
        tasks = [asyncio.ensure_future(guard()) for _ in range(100)]
        await settle()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await settle()
        assert (len(flight.calls), flight.cancelled) == (1, 1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert steady.status().failures == 0


def test_a_call_while_the_abandoned_one_dies_begins_afresh(steady: Integration) -> None:
    async def main() -> None:
        leave: list[weakref.ref[asyncio.Future[None]]] = []
        starts = itertools.count(1)

        @steady.guard(dedupe=True)
        async def stubborn() -> int:
            start = next(starts)
            try:
                await asyncio.sleep(0 if start > 1 else 3600)
            finally:
                if start == 1:
                    last_words = asyncio.get_running_loop().create_future()
                    leave.append(weakref.ref(last_words))
                    await last_words
            return start

        first = asyncio.ensure_future(stubborn())
        await settle()
        first.cancel()
        await settle()
        assert first.cancelled()
        del first
        assert await stubborn() == 2
        gc.collect()  # nobody else holds a task that waits for what only it knows
        last_words = leave[0]()
        assert last_words is not None
        last_words.set_result(None)
        await settle()
        assert await stubborn() == 3

    asyncio.run(main())


def test_an_execution_may_be_joined_while_the_last_to_wait_is_being_cancelled(steady: Integration) -> None:
    async def main() -> None:
        flight = Flight()
        guard = steady.guard(flight.fly, dedupe=True)
        first = asyncio.ensure_future(guard())
        await settle()
        second = asyncio.ensure_future(guard())  # takes its turn before the first is told
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        flight.open.set()
        assert await second is flight
        assert (len(flight.calls), flight.cancelled) == (1, 0)

    asyncio.run(main())


@pytest.mark.parametrize("error", of_the_standard_library(), ids=lambda error: type(error).__name__)
def test_each_task_gets_an_exception_of_its_own(steady: Integration, error: BaseException) -> None:
    async def main() -> None:
        flight = Flight()
        flight.error = error
        guard = steady.guard(flight.fly, dedupe=True)
        tasks = [asyncio.ensure_future(guard()) for _ in range(3)]
        await settle()
        flight.open.set()
        answers: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        assert len({id(answer) for answer in answers}) == 3
        assert {(type(answer), str(answer)) for answer in answers} == {(type(error), str(error))}

    asyncio.run(main())


@pytest.mark.parametrize("error", [ValueError("x"), Slotted(), Uncopyable()], ids=repr)
def test_tracebacks_do_not_grow_with_those_who_wait(steady: Integration, error: Exception) -> None:
    async def lengths(tasks: int) -> int:
        flight = Flight()
        flight.error = error
        guard = steady.guard(flight.fly, dedupe=True)
        calls = [asyncio.ensure_future(guard()) for _ in range(tasks)]
        await settle()
        flight.open.set()
        answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        longest = max(len(traceback.extract_tb(answer.__traceback__)) for answer in answers)
        error.__traceback__ = None
        return longest

    assert asyncio.run(lengths(2)) == asyncio.run(lengths(200)) < 20


@pytest.mark.parametrize("make_error", [lambda: ValueError("x"), Slotted])
def test_nothing_of_a_failed_execution_stays(steady: Integration, make_error: Callable[[], Exception]) -> None:
    class Payload:
        pass

    alive: list[weakref.ref[Payload]] = []

    @steady.guard(dedupe=True)
    async def failing() -> None:
        payload = Payload()
        alive.append(weakref.ref(payload))
        await asyncio.sleep(0)
        raise make_error()

    async def call() -> None:
        try:
            await failing()
        except Exception:
            pass

    async def main() -> None:
        await asyncio.gather(*[call() for _ in range(5)])
        await settle()
        assert alive[0]() is None

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
    assert len(alive) == 1


def test_nothing_of_a_successful_execution_stays(steady: Integration) -> None:
    class Value:
        pass

    @steady.guard(dedupe=True)
    async def get(_: Value) -> Value:
        await asyncio.sleep(0)
        return Value()

    async def main() -> None:
        argument = Value()
        values = await asyncio.gather(*[get(argument) for _ in range(5)])
        assert len(set(values)) == 1
        alive = weakref.ref(values[0]), weakref.ref(argument)
        del values, argument
        await settle()
        assert [ref() for ref in alive] == [None, None]

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_a_call_from_inside_its_own_execution_is_made(steady: Integration) -> None:
    async def main() -> None:
        depth = itertools.count()

        @steady.guard(dedupe=True)
        async def direct() -> str:
            return "done" if next(depth) == 3 else await direct()

        @steady.guard(dedupe=True)
        async def by_a_task_of_its_own() -> str:
            if next(depth) >= 7:
                return "done"
            return await asyncio.create_task(by_a_task_of_its_own())

        assert await asyncio.wait_for(direct(), PATIENCE) == "done"
        assert await asyncio.wait_for(by_a_task_of_its_own(), PATIENCE) == "done"

    asyncio.run(main())


def test_it_runs_in_a_copy_of_the_first_callers_context(steady: Integration) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")

    async def main() -> None:
        @steady.guard(dedupe=True)
        async def see() -> str:
            await asyncio.sleep(0)
            seen = who.get()
            who.set("changed inside")
            return seen

        async def call(name: str) -> tuple[str, str]:
            who.set(name)
            return await see(), who.get()

        assert await asyncio.gather(call("first"), call("second")) == [("first", "first"), ("first", "second")]

    asyncio.run(main())


def test_two_loops_share_nothing(steady: Integration) -> None:
    both = threading.Barrier(2)

    @steady.guard(dedupe=True)
    async def where() -> int:
        await asyncio.to_thread(both.wait, PATIENCE)  # passes only if both are called
        return threading.get_ident()

    async def main() -> list[int]:
        return await asyncio.gather(where(), where())

    crew = Crew(*[lambda: asyncio.run(main())] * 2).start()
    assert sorted(crew.joined()) == sorted([[thread.ident] * 2 for thread in crew.threads])


def test_a_loop_that_was_torn_down_is_forgotten(steady: Integration) -> None:
    flight_of: list[weakref.ref[Any]] = []

    @steady.guard(dedupe=True)
    async def forever() -> None:
        flight_of.append(weakref.ref(asyncio.current_task()))
        await asyncio.get_running_loop().create_future()

    def tear_down() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()
        task = loop.create_task(forever())
        loop.run_until_complete(settle())
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        flight_of[-1]()._log_destroy_pending = False
        loop.close()
        return weakref.ref(loop)

    closed = tear_down()

    async def call_in_another() -> None:
        task = asyncio.ensure_future(forever())
        await settle()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(call_in_another())
    assert len(flight_of) == 2
    gc.collect()
    assert closed() is None


def test_outside_a_loop_a_coroutine_is_driven_as_if_alone(steady: Integration) -> None:
    @steady.guard(dedupe=True)
    async def get() -> int:
        return 1

    assert drive(get()) == 1


def test_an_async_outcome_is_shared_too(steady: Integration) -> None:
    async def main() -> None:
        flight = Flight()
        flight.error = ConnectionError("gone")
        guard = steady.guard(flight.fly, dedupe=True)
        calls = [asyncio.ensure_future(guard.outcome()) for _ in range(3)]
        await settle()
        flight.open.set()
        one, two, three = await asyncio.gather(*calls)
        assert one is two is three
        assert (one.success, one.error.code, len(flight.calls)) == (False, "DB_NETWORK", 1)

    asyncio.run(main())


@pytest.mark.parametrize("call", ["plain", "outcome"])
def test_a_function_that_turns_out_to_be_async_is_shared_from_its_first_call(steady: Integration, call: str) -> None:
    async def main() -> None:
        flight = Flight()
        guard = steady.guard(lambda *args: flight.fly(*args), dedupe=True, operation=f"handed over {call}")
        made = guard if call == "plain" else guard.outcome
        calls = [asyncio.ensure_future(made(1)) for _ in range(100)]
        await settle()
        flight.open.set()
        answers = await asyncio.gather(*calls)
        assert len(set(map(id, answers))) == 1
        assert len(flight.calls) == 1
        assert (guard.metrics().count, guard.metrics().deduplicated) == (1, 99)

    asyncio.run(main())


def test_its_first_call_may_find_that_another_has_begun(steady: Integration) -> None:
    async def main() -> None:
        flight = Flight()
        guard = steady.guard(lambda: flight.fly(), dedupe=True, operation="handed over late")
        first, second = guard(), guard()
        task = asyncio.ensure_future(second)
        await settle()
        flight.open.set()
        assert await first is await task is flight
        assert len(flight.calls) == 1

    asyncio.run(main())


def test_it_may_return_a_value_the_next_time(steady: Integration) -> None:
    async def main() -> None:
        async def fetch() -> str:
            return "fetched"

        cached: list[str] = []
        guard = steady.guard(lambda: cached[0] if cached else fetch(), dedupe=True, operation="cached")
        assert await guard() == "fetched"
        cached.append("cached")
        assert await guard() == "cached"
        result = await guard.outcome()
        assert (result.success, result.data) == (True, "cached")

    asyncio.run(main())


def test_the_first_caller_may_be_cancelled_before_it_begins(steady: Integration) -> None:
    async def main() -> None:
        flight = Flight()
        guard = steady.guard(flight.fly, dedupe=True)
        first, second = asyncio.ensure_future(guard()), asyncio.ensure_future(guard())
        first.cancel()
        await settle()
        flight.open.set()
        assert await second is flight
        assert first.cancelled()

    asyncio.run(main())


def test_a_timeout_around_one_caller_is_its_own(steady: Integration) -> None:
    async def main() -> None:
        flight = Flight()
        guard = steady.guard(flight.fly, dedupe=True)
        hasty = asyncio.ensure_future(asyncio.wait_for(guard(), 0.01))
        patient = asyncio.ensure_future(guard())
        with pytest.raises(TimeoutError):
            await hasty
        flight.open.set()
        assert await patient is flight

    asyncio.run(main())


def test_the_integrations_own_deadline_holds_for_all(make: Make, clock: FakeClock) -> None:
    async def main() -> None:
        flight = Flight()
        guard = make(circuit_breaker={"timeout": 5.0}).guard(flight.fly, dedupe=True)
        calls = [asyncio.ensure_future(guard()) for _ in range(3)]
        await settle()
        clock.advance(5.0)
        answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(answer, IntegrationTimeoutError) for answer in answers)
        assert guard.metrics().timeouts == 1
        assert len(flight.calls) == 1

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks are lazy before Python 3.12")
def test_eager_tasks_share_as_well(steady: Integration) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        starts = itertools.count(1)

        @steady.guard(dedupe=True)
        async def get(suspended: bool) -> int:
            start = next(starts)
            if suspended:
                await asyncio.sleep(0)
            return start

        assert await asyncio.gather(*[get(True) for _ in range(5)]) == [1] * 5
        assert await get(False) == 2

        @steady.guard(dedupe=True)
        async def inside() -> int:
            start = next(starts)
            return start if start > 3 else await asyncio.create_task(inside())

        assert await asyncio.wait_for(inside(), PATIENCE) == 4

    asyncio.run(main())


def test_it_goes_through_the_seeds_face(registry: Registry) -> None:
    async def main() -> None:
        flight = Flight()
        guard = registry.integration("face", "database").guard(flight.fly, dedupe=True)
        calls = [
            asyncio.ensure_future(with_integration_resilience("database", "outer", guard, registry=registry))
            for _ in range(3)
        ]
        await settle()
        flight.open.set()
        assert [result.data for result in await asyncio.gather(*calls)] == [flight] * 3
        assert len(flight.calls) == 1

    asyncio.run(main())


# ---- the end of the registry


def test_closing_cancels_shared_calls(make: Make, registry: Registry) -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("it")

    call = make().guard(forever, dedupe=True)

    async def main(close: Callable[[], Any]) -> None:
        waiting = [asyncio.ensure_future(call()) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        closing = close()
        if closing is not None:
            await closing
            assert ended == ["it"]
        done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10.0)
        assert [type(error) for error in done] == [asyncio.CancelledError] * 3
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main(registry.aclose))
    call = make("another").guard(forever, dedupe=True)
    asyncio.run(main(registry.close))
    assert ended == ["it", "it"]
