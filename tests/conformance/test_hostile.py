"""What users' objects, handlers, finalisers and signals do in the middle of a call, without hurting anybody."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import failsoft
from failsoft import Fallback, FallbackType, IntegrationType, Registry, asking, logs
from failsoft.fallbacks import Memory
from failsoft.testing import FakeClock

from .conftest import Make, drive

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()

PATIENCE = 20.0
"""Seconds that only a deadlock takes."""


def in_time(work: Callable[[], Any]) -> Any:
    """Do it in a thread of its own: what never ends fails the test instead of stopping the run."""
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(work()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "never ended"
    return done[0] if done else None


class Alike:
    """Arguments of one hash, whose comparison is up to the test."""

    def __init__(self, compare: Callable[[], bool]) -> None:
        self.compare = compare

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        return self.compare()


# ---- values that can be awaited, or look as if they could


@pytest.mark.parametrize("capacity", [0.75, 0.5, 0.25])
def test_a_function_that_hands_over_an_awaitable_asks_for_room_once(registry: Registry, capacity: float) -> None:
    async def answer() -> int:
        return 1

    async def succeeded() -> int:
        calls = (
            failsoft.with_integration_resilience("database", "db", lambda: answer(), registry=registry)
            for _ in range(200)
        )
        return sum([(await call).success for call in calls])

    registry.integration("db", IntegrationType.DATABASE, retry_policy={"max_retries": 0})
    registry.capacities.enter("db", capacity, "test")
    assert abs(asyncio.run(succeeded()) - 200 * capacity) <= 1


class AnswersToAnyName:
    """As proxies of remote objects do."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.mark.parametrize("proxied", [False, True])
def test_a_fallback_may_answer_with_what_only_looks_awaitable(make: Make, proxied: bool) -> None:
    other = make("other").guard(lambda: 7)
    handler = AnswersToAnyName if proxied else other.outcome
    guarded = make("db").guard(failing, fallbacks=[Fallback(FallbackType.CUSTOM, handler)])
    answer = guarded()
    assert isinstance(answer, AnswersToAnyName) if proxied else answer.data == 7


def failing(*_: object) -> Any:
    raise ConnectionError("down")


def test_awaitable_answers_of_a_shared_call_are_not_shared(make: Make) -> None:
    async def cached() -> int:
        return 7

    entered, go = threading.Event(), threading.Event()

    def slow() -> int:
        entered.set()
        assert go.wait(PATIENCE)
        raise ConnectionError("down")

    guarded = make("db").guard(slow, dedupe=True, fallbacks=[Fallback(FallbackType.CACHE, cached)])
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(guarded())) for _ in range(3)]
    threads[0].start()
    assert entered.wait(PATIENCE)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert [drive(answer) for answer in answers] == [7, 7, 7]
    assert drive(guarded()) == 7


def test_a_shared_function_may_give_a_value_after_an_awaitable(make: Make) -> None:
    async def answer() -> int:
        return 1

    guarded = make("db").guard(lambda later: answer() if later else 2, dedupe=True)

    async def both() -> tuple[int, int]:
        return await guarded(True), await guarded(False)

    assert asyncio.run(both()) == (1, 2)


@pytest.mark.parametrize("mode", ["plain", "outcome"])
@pytest.mark.parametrize("gated", [False, True])
def test_a_callable_that_fails_without_saying_why_is_a_system_error(make: Make, mode: str, gated: bool) -> None:
    silent = pytest.importorskip("_testcapi").return_null_without_error
    db = make("db")
    guarded = db.guard(silent)
    if gated:
        db.metrics_only()
    if mode == "outcome":
        assert isinstance(guarded.outcome().error.original_error, SystemError)
    else:
        with pytest.raises(SystemError):
            guarded()


def test_hanging_fallbacks_do_not_pile_up_threads(make: Make) -> None:
    go = threading.Event()
    hanging = Fallback(FallbackType.CUSTOM, lambda: go.wait(PATIENCE), timeout=0.001)
    guarded = make("db").guard(failing, fallbacks=[hanging])
    before = threading.active_count()
    try:
        for _ in range(asking.THREADS_MOST + 10):
            failed = guarded.outcome()
        assert threading.active_count() - before == asking.THREADS_MOST
        assert "are being asked already" in str(failed.error.details["fallback_errors"])
    finally:
        go.set()
    for thread in threading.enumerate():
        if thread.name.startswith("failsoft fallback"):
            thread.join(PATIENCE)
    assert make("other").guard(failing, fallbacks=[Fallback(FallbackType.CUSTOM, lambda: 7, timeout=PATIENCE)])() == 7


# ---- comparing, hashing and naming what users give


@pytest.mark.parametrize("mode", ["plain", "outcome"])
def test_arguments_of_shared_calls_may_raise_when_compared(make: Make, mode: str) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(_: object) -> int:
        if not entered.is_set():
            entered.set()
            assert go.wait(PATIENCE)
        return 7

    guarded = make("db").guard(slow, dedupe=True)
    call = guarded if mode == "plain" else lambda argument: guarded.outcome(argument).data

    def compare() -> bool:
        raise RuntimeError("not comparable")

    first: list[int] = []
    thread = threading.Thread(target=lambda: first.append(call(Alike(compare))))
    thread.start()
    assert entered.wait(PATIENCE)
    assert in_time(lambda: call(Alike(compare))) == 7
    go.set()
    thread.join(PATIENCE)
    assert first == [7]


def test_comparing_arguments_of_shared_calls_may_call_the_same_guard(make: Make) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(argument: object) -> int:
        if isinstance(argument, Alike) and not entered.is_set():
            entered.set()
            assert go.wait(PATIENCE)
        return 7

    guarded = make("db").guard(slow, dedupe=True)
    thread = threading.Thread(target=guarded, args=(Alike(lambda: guarded(1) != 7),))
    thread.start()
    assert entered.wait(PATIENCE)
    assert in_time(lambda: guarded(Alike(lambda: True))) == 7
    go.set()
    thread.join(PATIENCE)


def test_arguments_of_a_shared_call_may_change_their_hash_meanwhile(make: Make) -> None:
    class Changing:
        hash = 1

        def __hash__(self) -> int:
            return self.hash

    def change(argument: Changing) -> int:
        argument.hash += 1
        return argument.hash

    guarded = make("db").guard(change, dedupe=True)
    argument = Changing()
    assert [guarded(argument), guarded(argument)] == [2, 3]


def test_keys_that_come_and_go_while_being_compared_make_no_noise(make: Make) -> None:
    nested: list[int] = []

    class Key:
        def __init__(self, number: int) -> None:
            self.number = number

        def __hash__(self) -> int:
            if armed and not nested:
                nested.append(1)
                for more in range(100, 110):  # as another thread might, in the middle of making room
                    guarded(more)
            return hash(self.number)

    armed = False
    guarded = make("db").guard(
        lambda _: 7, fallbacks=[Fallback(FallbackType.LAST_KNOWN, failing, memory=Memory(max_keys=4))]
    )
    for number in range(4):
        guarded(Key(number))
    complaints: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, complaints.append
    try:
        armed = True
        for number in range(20):
            nested.clear()
            guarded(number)
    finally:
        sys.unraisablehook = hook
    assert complaints == []


def test_keys_whose_hash_changes_do_not_pile_up(make: Make) -> None:
    class Changing:
        number = 0

        def __hash__(self) -> int:
            self.number += 1
            return self.number

    remembered: list[weakref.ref[Changing]] = []

    def answer(argument: Changing) -> int:
        remembered.append(weakref.ref(argument))
        return 7

    last_known = Fallback(FallbackType.LAST_KNOWN, failing, memory=Memory(max_keys=4))
    guarded = make("db").guard(answer, fallbacks=[last_known])
    for _ in range(100):
        guarded(Changing())
    assert sum(ref() is not None for ref in remembered) <= 5


# ---- user code never runs under a lock of ours


def test_the_warning_of_too_many_operations_is_logged_under_no_lock() -> None:
    registry = Registry(max_operations=1)
    db = registry.integration("db", IntegrationType.DATABASE)
    seen: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(in_time(lambda: registry.integration("log", "external_api").name))

    handler = Handler()
    logs.logger().addHandler(handler)
    try:
        for number in range(3):
            db.guard(int, operation=f"op{number}")
    finally:
        logs.logger().removeHandler(handler)
    assert seen == ["log"]


def test_naming_a_key_runs_under_no_lock(make: Make, registry: Registry) -> None:
    class Venue:
        def __str__(self) -> str:
            return str(in_time(lambda: registry.integration("other", "cache").name))

    guarded = make("db").guard(lambda venue: 7, key=lambda venue: venue)
    assert guarded(Venue()) == 7
    assert [shard.name for shard in registry["db"].shards.values()] == ["db[other]"]


def test_the_state_an_operator_gave_is_told_to_listeners_under_no_lock(make: Make, registry: Registry) -> None:
    db = make("db")
    guarded = db.guard(lambda venue: 7, key=lambda venue: venue)
    db.metrics_only()
    heard: list[str] = []

    def listener(event: Any) -> None:
        in_time(lambda: registry.integration("other", "cache"))
        heard.append(event.integration)

    unsubscribe = failsoft.subscribe(listener)
    try:
        assert guarded(1) == 7
    finally:
        unsubscribe()
    assert heard == ["db[1]"]


def interrupted_everywhere(file: str, interruption: Callable[[], object], work: Callable[[], object]) -> None:
    """Run the interruption before each line of a file that `work` passes: as a signal's handler or a finaliser may."""
    busy = False

    def trace(frame: Any, event: str, argument: object) -> Any:
        nonlocal busy
        if not frame.f_code.co_filename.endswith(file):
            return None
        if not busy and event == "line":
            busy = True
            try:
                interruption()
            finally:
                busy = False
        return trace

    def traced() -> None:
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(None)

    in_time(traced)


@pytest.mark.parametrize("file", ["failsoft/logs.py", "failsoft/dedupe.py", "failsoft/events.py"])
def test_a_signal_handler_may_make_guarded_calls_wherever_it_comes(make: Make, file: str) -> None:
    guarded = make("db").guard(failing, dedupe=True)
    turn = iter(range(1_000_000))

    def interruption() -> None:
        # A failure not seen before is the one that is logged; a subscription changes the list of listeners.
        make(f"other{next(turn)}").guard(failing).outcome()
        guarded.outcome()
        failsoft.subscribe(lambda event: None)()

    interrupted_everywhere(file, interruption, lambda: (guarded.outcome(), failsoft.subscribe(lambda event: None)()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_does_not_wait_for_flights_of_its_parent(make: Make) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow() -> int:
        if not entered.is_set():
            entered.set()
            assert go.wait(PATIENCE)
        return 7

    guarded = make("db").guard(slow, dedupe=True)
    thread = threading.Thread(target=guarded)
    thread.start()
    assert entered.wait(PATIENCE)
    assert in_child(lambda: guarded() == 7)
    go.set()
    thread.join(PATIENCE)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("held", ["registry", "logs", "events"])
def test_a_child_is_not_stopped_by_a_lock_that_a_thread_of_its_parent_held(registry: Registry, held: str) -> None:
    from failsoft import events

    lock = {"registry": registry.lock, "logs": logs._lock, "events": events._changing}[held]
    locked, go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            locked.set()
            assert go.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(PATIENCE)

    def works() -> bool:
        failsoft.subscribe(lambda event: None)()
        guarded = registry.integration("db", "database", retry_policy={"max_retries": 0}).guard(failing)
        return guarded.outcome().error.code == "DB_NETWORK"  # type: ignore[union-attr]

    assert in_child(works)
    go.set()
    thread.join(PATIENCE)


def in_child(check: Callable[[], bool]) -> bool:
    """Whether it holds in a forked process, in time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is being tested
        child = os.fork()
    if child == 0:
        signal.alarm(5)  # ends it
        os._exit(0 if check() else 1)
    return os.waitpid(child, 0)[1] == 0


# ---- keys that come and go while others look


def test_shards_can_be_read_while_keys_come_and_go(make: Make, registry: Registry) -> None:
    db = make("db")
    guarded = db.guard(lambda venue: 7, key=lambda venue: venue, max_keys=4)
    over = threading.Event()

    def trade() -> None:
        for venue in range(3_000):
            guarded(venue)
        over.set()

    thread = threading.Thread(target=trade)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        while not over.is_set():
            db.status()
            registry.summary()
    finally:
        sys.setswitchinterval(interval)
        thread.join(PATIENCE)


# ---- the garbage collector and the state of a call


def test_a_remembered_argument_may_meddle_with_the_awaitable_it_came_from(make: Make) -> None:
    taken: list[Any] = []

    class Meddler:
        @property
        def name(self) -> str:
            for meddle in (lambda: taken[0].send(None), taken[0].close):
                with pytest.raises(ValueError, match="already executing"):
                    meddle()
            return "name"

    async def answer(_: object) -> int:
        return 7

    memory = Memory(key=lambda argument: argument.name)
    guarded = make("db").guard(answer, fallbacks=[Fallback(FallbackType.LAST_KNOWN, failing, memory=memory)])
    taken.append(guarded(Meddler()))
    assert drive(taken[0]) == 7


def test_a_judge_may_meddle_with_the_awaitable_it_judges(make: Make) -> None:
    taken: list[Any] = []

    def judge(_: int) -> None:
        for meddle in (lambda: taken[0].send(None), taken[0].close):
            with pytest.raises(ValueError, match="already executing"):
                meddle()

    async def answer() -> int:
        return 7

    guarded = make("db").guard(answer, failure=judge)
    taken.append(guarded())
    assert drive(taken[0]) == 7


class Meddler:
    """A listener that drives and closes the awaitable whose event it hears, and keeps what comes of it."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.came: list[str] = []

    def __call__(self, _: object) -> None:
        for meddle in (lambda: self.taken[0].send(None), self.taken[0].close):
            try:
                self.came.append(f"{meddle()}")
            except BaseException as error:
                self.came.append(str(error))


async def seven() -> int:
    return 7


def test_a_listener_may_meddle_with_the_awaitable_whose_refusal_it_hears(make: Make) -> None:
    meddler, integration = Meddler(), make("db")
    meddler.taken.append(integration.guard(seven)())
    integration.force_open()
    end = failsoft.subscribe(meddler, failsoft.events.Refusal)
    try:
        with pytest.raises(failsoft.CircuitOpenError):
            drive(meddler.taken[0])
    finally:
        end()
    assert meddler.came == ["coroutine already executing"] * 2


def test_a_listener_may_meddle_with_the_awaitable_that_closes_the_circuit(make: Make, clock: FakeClock) -> None:
    meddler, integration = Meddler(), make("db", threshold=1, circuit_breaker={"reset_timeout": 1.0})
    with pytest.raises(ConnectionError):
        integration.guard(failing)()
    clock.advance(2.0)
    guarded, end = integration.guard(seven), failsoft.subscribe(meddler, failsoft.events.Transition)
    try:
        while integration.status().state != "CLOSED":
            meddler.taken[:] = [guarded()]
            assert drive(meddler.taken[0]) == 7
    finally:
        end()
    assert set(meddler.came) == {"coroutine already executing"}
    assert integration.status().failures == 0


@pytest.mark.skipif(FREE_THREADED, reason="guards of functions live as long as the process there")
def test_a_finaliser_in_a_dying_cycle_may_call_a_guard_that_remembers(make: Make) -> None:
    answers: list[int] = []

    class Last:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            answers.append(self.guard(1))

        guard: Any

    for _ in range(20):
        last = Last()
        last.guard = make("db").guard(
            lambda _, last=last: 7, fallbacks=[Fallback(FallbackType.LAST_KNOWN, failing, memory=Memory())]
        )
        last.guard(last)
    del last
    gc.collect()
    assert answers == [7] * 20


# ---- refusals that are not those of a plain call


def test_refusals_of_retries_do_not_silence_those_of_calls(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    guarded = make("refused in a retry", retries=3, threshold=1).guard(failing)
    for _ in range(3):
        guarded.outcome()
    assert [record.code for record in caplog.records] == ["DB_NETWORK", "DB_CIRCUIT_OPEN"]  # type: ignore[attr-defined]


def test_refused_blocks_are_recorded_and_told_like_refused_calls(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    db = make("a refused block")
    db.force_open()
    heard: list[failsoft.events.Refusal] = []
    unsubscribe = failsoft.subscribe(heard.append, failsoft.events.Refusal)
    try:
        with pytest.raises(failsoft.CircuitOpenError), db.attempt("block"):
            pass
    finally:
        unsubscribe()
    assert [(event.integration, event.operation) for event in heard] == [("a refused block", "block")]
    assert [d.kind for d in db.explain().decisions if d.operation == "block"] == ["refusal"]
    assert len(caplog.records) == 1


def test_a_closed_registry_limits_nobody(make: Make, registry: Registry) -> None:
    guarded = make("db").guard(lambda: 7)
    registry.capacities.enter("db", 0.0, "operator")
    registry.close()
    assert guarded() == 7
