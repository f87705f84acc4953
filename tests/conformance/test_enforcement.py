"""`enforce="thread"`: the caller leaves in time, the work goes on, and that is told."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from failsoft import IntegrationError, IntegrationTimeoutError, Registry, deadline, enforcement, remaining, timers

from .conftest import Make

QUICK = {"timeout": 0.03}

FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What a hanging call waits for; set at the end, so that no thread outlives its test by much."""
    event = threading.Event()
    yield event
    event.set()


def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_the_caller_leaves_and_the_work_goes_on(make: Make, release: threading.Event) -> None:
    ended = threading.Event()

    def hang() -> str:
        release.wait()
        ended.set()
        return "nobody asks"

    integration = make(circuit_breaker=QUICK)
    guard = integration.guard(hang, enforce="thread")
    began = time.monotonic()
    with pytest.raises(IntegrationTimeoutError, match="goes on there"):
        guard()
    assert 0.03 <= time.monotonic() - began < 2.0
    (call,) = integration.abandoned
    assert (call.operation, 0.03 <= call.age < 5.0) == ("hang", True)
    assert integration.status().failures == guard.metrics().timeouts == 1
    assert "  1 abandoned call still runs, the oldest (hang) for " in str(integration.explain())
    assert not ended.is_set()
    release.set()
    eventually(lambda: integration.abandoned == ())
    assert "abandoned" not in str(integration.explain())
    assert ended.is_set()


def test_it_leaves_at_the_block_if_that_ends_first(make: Make, release: threading.Event) -> None:
    guard = make().guard(lambda: release.wait(), enforce="thread", operation="hang")
    began = time.monotonic()
    with deadline(0.03):
        result = guard.outcome()
    assert time.monotonic() - began < 2.0
    assert isinstance(result.error, IntegrationTimeoutError)
    assert result.error.attempts == 1


def test_each_attempt_has_a_thread_and_a_time_of_its_own(make: Make, release: threading.Event) -> None:
    integration = make(retries=2, circuit_breaker=QUICK)
    with pytest.raises(IntegrationTimeoutError):
        integration.guard(release.wait, enforce="thread")()
    calls = integration.abandoned
    assert len(calls) == 3
    assert [call.age for call in calls] == sorted((call.age for call in calls), reverse=True)


def test_calls_in_time_are_as_without(make: Make) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    class Service:
        def method(self, a: int, *, b: int = 0) -> tuple[object, ...]:
            return self, a, b, variable.get(), threading.current_thread() is threading.main_thread()

    integration = make()
    Service.method = integration.guard(Service.method, enforce="thread")  # type: ignore[method-assign, assignment]
    service = Service()
    variable.set("set")
    assert service.method(1, b=2) == (service, 1, 2, "set", False)
    assert integration.guard(len, enforce="thread")([1, 2]) == 2
    assert integration.guard(int, enforce="thread")("7") == 7
    assert str(inspect.signature(Service.method)) == "(self, a: 'int', *, b: 'int' = 0) -> 'tuple[object, ...]'"
    seen = integration.guard(lambda: remaining(), enforce="thread", operation="left")()
    assert seen is not None
    assert 29.0 < seen <= 30.0
    assert remaining() is None
    assert integration.abandoned == ()


def test_an_error_keeps_its_traceback(make: Make) -> None:
    def inside() -> None:
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside") as caught:
        make().guard(inside, enforce="thread")()
    assert "in inside" in "".join(traceback.format_exception(caught.value))


def test_threads_are_used_again(make: Make) -> None:
    guard = make().guard(lambda: threading.get_ident(), enforce="thread", operation="ident")
    assert len({guard() for _ in range(50)}) <= 3


def test_an_idle_thread_goes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    enforcement._idle.clear()  # those go by the time they were told
    monkeypatch.setattr(enforcement, "IDLE_SECONDS", 0.01)
    guard = make().guard(lambda: threading.current_thread(), enforce="thread", operation="who")
    thread = guard()
    eventually(lambda: not thread.is_alive())
    assert guard() is not thread


def test_beyond_the_cap_nothing_is_begun(make: Make, release: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcement, "ABANDONED_MOST", 3)
    calls: list[int] = []

    def hang() -> None:
        calls.append(1)
        release.wait()

    integration = make(circuit_breaker=QUICK)
    guard = integration.guard(hang, enforce="thread")
    for _ in range(3):
        with pytest.raises(IntegrationTimeoutError):
            guard()
    with pytest.raises(
        IntegrationError, match=r"3 abandoned calls of dependency still run, the oldest \(hang\) for"
    ) as caught:
        guard()
    assert (caught.value.code, caught.value.retryable) == ("DB_ABANDONED_CALLS", True)
    assert len(calls) == len(integration.abandoned) == 3
    assert integration.status().failures == 3  # a refusal is no failure of the peer
    assert guard.metrics().rejected == 1
    release.set()
    eventually(lambda: not integration.abandoned)
    guard()
    assert len(calls) == 4


def test_an_interrupt_leaves_the_call_too(make: Make, release: threading.Event) -> None:
    started = threading.Event()

    def hang() -> None:
        started.set()
        release.wait()

    integration = make()

    def interrupt() -> None:
        started.wait()
        time.sleep(0.05)  # until the caller is sure to wait: a signal just before that is seen when the wait is over
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        integration.guard(hang, enforce="thread")()
    assert [call.operation for call in integration.abandoned] == ["hang"]
    assert integration.status().failures == 0


def test_an_interrupt_while_the_thread_starts_leaves_it_too(
    make: Make, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = enforcement._start

    def interrupted(job: Any) -> None:
        start(job)
        raise KeyboardInterrupt

    monkeypatch.setattr(enforcement, "_start", interrupted)
    integration = make()
    with pytest.raises(KeyboardInterrupt):
        integration.guard(release.wait, enforce="thread", operation="hang")()
    eventually(lambda: [call.operation for call in integration.abandoned] == ["hang"])
    release.set()
    eventually(lambda: integration.abandoned == ())


class AtTheLastMoment:
    """Waits in vain for a call that ends just then."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        assert event.wait(5.0)
        return False


def test_a_call_that_ends_as_its_caller_leaves_has_one_end(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    integration = make()
    guard = integration.guard(lambda: "value", enforce="thread", operation="quick")
    monkeypatch.setattr(timers, "current", AtTheLastMoment())
    assert guard() == "value"
    assert integration.abandoned == ()
    assert guard.metrics().timeouts == 0


def test_many_callers_at_once_each_get_their_own(make: Make) -> None:
    integration = make(circuit_breaker={"timeout": 0.005})

    def work(n: int) -> int:
        time.sleep(0.004 + n % 3 * 0.001)  # some just in time, some just not
        return n

    guard = integration.guard(work, enforce="thread")
    wrong: list[object] = []

    def run(base: int) -> None:
        for n in range(base, base + 12):
            result = guard.outcome(n)
            if result.data != n and not isinstance(result.error, IntegrationTimeoutError):
                wrong.append(result)

    threads = [threading.Thread(target=run, args=(100 * k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    eventually(lambda: integration.abandoned == ())


def test_where_no_thread_is_to_be_had_nothing_is_called(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(job: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(enforcement, "_start", none)
    integration = make()
    with pytest.raises(IntegrationError, match="not called, no thread for it") as caught:
        integration.guard(len, enforce="thread")([])
    assert caught.value.code == "DB_NO_THREAD"
    assert integration.status().failures == 0


def test_what_cannot_be_enforced_is_told(make: Make) -> None:
    async def coroutine() -> None: ...

    with pytest.raises(TypeError, match="is async, and is cancelled in time anyway"):
        make().guard(coroutine, enforce="thread")
    with pytest.raises(ValueError, match='enforce must be "thread" or None'):
        make().guard(len, enforce="process")
    assert make().guard(len, enforce=None)([1]) == 1


def test_a_disabled_guard_calls_as_the_bare_function(make: Make, registry: Registry) -> None:
    guard = make().guard(lambda: threading.current_thread(), enforce="thread", operation="who")
    registry.disable()
    assert guard() is threading.current_thread()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_has_none_of_the_threads_and_makes_its_own(make: Make, release: threading.Event) -> None:
    integration = make(circuit_breaker={"timeout": 0.2})
    quick = integration.guard(lambda: "value", enforce="thread", operation="quick")
    assert quick() == "value"
    with deadline(0.01), pytest.raises(IntegrationTimeoutError):
        integration.guard(release.wait, enforce="thread")()
    assert len(integration.abandoned) == 1
    pid = os.fork()
    if pid == 0:
        good = False
        try:
            good = integration.abandoned == () and quick() == "value"
        finally:
            os._exit(0 if good else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert len(integration.abandoned) == 1


def test_neither_exit_nor_close_waits_for_an_abandoned_call() -> None:
    program = """if True:
        import time, failsoft
        db = failsoft.integration("db", "database", circuit_breaker={"timeout": 0.01}, retry_policy={"max_retries": 0})
        result = db.guard(time.sleep, enforce="thread").outcome(60)
        assert not result.success and len(db.abandoned) == 1
        failsoft.registry.default.close()
    """
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], timeout=20, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 10.0


# ---- a server that drips


@pytest.fixture
def dripping() -> Iterator[int]:
    """A port where a byte comes every 20 ms, for 0.6 s: no wait for one is ever long."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip(peer: socket.socket) -> None:
        with peer:
            for _ in range(30):
                if over.is_set():
                    return
                try:
                    peer.send(b".")
                except OSError:
                    return
                over.wait(0.02)

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            if over.is_set():
                peer.close()
                return
            threading.Thread(target=drip, args=(peer,), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = server.getsockname()[1]
    yield port
    over.set()
    socket.create_connection(("127.0.0.1", port), 1.0).close()  # accept() is not woken by a close
    thread.join(2.0)
    server.close()


def fetch(port: int) -> bytes:
    """As most clients: a timeout for each read, none for the whole."""
    with socket.create_connection(("127.0.0.1", port), timeout=remaining()) as peer:
        read = b""
        while part := peer.recv(64):
            read += part
        return read


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began


def test_a_dripping_server_holds_a_sync_call_that_nothing_enforces(make: Make, dripping: int) -> None:
    integration = make()
    guard = integration.guard(fetch)
    with deadline(0.3) as d:
        read, took = timed(lambda: guard(dripping))
        assert d.expired
        with pytest.raises(IntegrationTimeoutError):  # but then it is over
            guard(dripping)
    assert read == b"." * 30
    assert took >= 0.55
    assert integration.status().failures == guard.metrics().timeouts == 1


def test_and_does_not_where_a_thread_enforces_it(make: Make, dripping: int) -> None:
    integration = make()
    guard = integration.guard(fetch, enforce="thread")
    with deadline(0.3):
        result, took = timed(lambda: guard.outcome(dripping))
    assert isinstance(result.error, IntegrationTimeoutError)
    assert 0.3 <= took < 0.5
    assert [call.operation for call in integration.abandoned] == ["fetch"]  # it still reads
    assert integration.status().failures == guard.metrics().timeouts == 1
    eventually(lambda: not integration.abandoned)


def test_nor_one_that_reads_by_what_remains(make: Make, dripping: int) -> None:
    """The way without threads: a client that asks `remaining()` before each read."""

    def careful() -> bytes:
        with socket.create_connection(("127.0.0.1", dripping), timeout=remaining()) as peer:
            read = b""
            while part := peer.recv(64):
                read += part
                left = remaining()
                if not left:
                    raise TimeoutError
                peer.settimeout(left)
            return read

    guard = make().guard(careful)
    with deadline(0.3):
        result, took = timed(guard.outcome)
    assert isinstance(result.error, IntegrationTimeoutError)
    assert took < 0.5


def test_an_async_caller_of_a_sync_guard_is_held_as_by_any_blocking_call(make: Make, release: threading.Event) -> None:
    guard = make().guard(release.wait, enforce="thread")

    async def main() -> None:
        async with deadline(0.03):
            guard()  # blocks the loop, and returns in time all the same

    with pytest.raises(IntegrationTimeoutError):
        asyncio.run(main())


def test_options_that_cannot_be_are_told(make: Make) -> None:
    integration = make()
    with pytest.raises(TypeError, match=r"guard has no option 'enforced'; did you mean 'enforce'\?"):
        integration.guard(time.sleep, enforced="thread")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="no function can have both"):
        integration.guard(time.sleep, enforce="thread", hedge=0.9)


class Fault(Exception):
    pass


@pytest.mark.skipif(FREE, reason="what another thread has made dies when that thread comes by")
def test_an_error_is_held_by_nothing_but_its_catcher(make: Make) -> None:
    @make().guard(enforce="thread")
    def fail() -> None:
        raise Fault

    def caught() -> weakref.ref[BaseException]:
        try:
            fail()
        except Fault as error:
            return weakref.ref(error)
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        assert caught()() is None
    finally:
        gc.enable()


def test_a_disabled_guard_is_the_bare_function_in_a_block_too(make: Make, registry: Registry) -> None:
    guard = make().guard(threading.current_thread, enforce="thread", operation="who")
    registry.disable()
    with deadline(5.0):
        assert guard() is threading.current_thread()


def test_what_nobody_asked_for_is_let_go_outside_the_lock(make: Make, release: threading.Event) -> None:
    held: list[bool] = []
    gone = threading.Event()

    class Value:
        def __del__(self) -> None:
            held.append(enforcement._lock._is_owned())
            gone.set()

    @make(circuit_breaker=QUICK).guard(enforce="thread")
    def hang() -> Value:
        release.wait()
        return Value()

    with pytest.raises(IntegrationTimeoutError):
        hang()
    release.set()
    assert gone.wait(5.0)
    assert held == [False]


def test_a_function_may_raise_what_ends_iterations(make: Make) -> None:
    @make().guard(enforce="thread")
    def last() -> None:
        raise StopIteration(3)

    with pytest.raises(StopIteration) as told:
        last()
    assert told.value.value == 3
