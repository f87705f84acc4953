"""Processes that fork, spawn, copy, load twice and end, in the middle of calls."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import failsoft
from failsoft import CircuitState, Integration, Registry, events

from ..conftest import Score
from .matrix import ASYNC, OUTCOMES, SYNC, Case

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0
can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def in_child(check: Callable[[], object]) -> str:
    """What went wrong in a forked process, in time; "" if nothing did."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is being tested
        child = os.fork()
    if child == 0:
        signal.alarm(10)  # ends it
        said = ""
        try:
            check()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    return said if status == 0 else f"ended with status {status}"


@pytest.fixture
def integration() -> Iterator[Integration]:
    registry = Registry()
    yield registry.integration(
        "forked", "database", retry_policy={"max_retries": 0},
        circuit_breaker={"failure_threshold": 1, "reset_timeout": 0.001, "timeout": 0.2, "half_open_max_calls": 1,
                         "success_threshold": 1},
        degraded={"ramp": 0.0},
    )  # fmt: skip
    registry.close()


def works(integration: Integration) -> Callable[[], None]:
    """A dependency that answers is called, from this thread, another one and a loop, and its circuit is closed."""

    def check() -> None:
        import time

        sync = integration.guard(lambda: 1)

        @integration.guard
        async def call() -> int:
            await asyncio.sleep(0)
            return 1

        end = time.monotonic() + 5.0
        while integration.status().state is not CircuitState.CLOSED:
            assert time.monotonic() < end, integration.status()
            sync.outcome()
            time.sleep(0.01)
        assert sync() == 1
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(sync).result(PATIENCE) == 1
        assert asyncio.run(call()) == 1
        heard: list[object] = []
        unsubscribe = failsoft.subscribe(heard.append)
        integration.force_open()
        integration.reset()
        unsubscribe()
        assert len(heard) >= 2
        assert integration.status().probes == 0

    return check


def fail() -> None:
    raise ConnectionError("gone")


def trip(integration: Integration) -> None:
    integration.guard(fail).outcome()
    assert integration.breaker.state is CircuitState.OPEN


@can_fork
@pytest.mark.parametrize("state", ["closed", "open", "half-open", "forced open", "metrics only"])
def test_a_child_of_every_state_works(integration: Integration, state: str) -> None:
    import time

    if state == "open":
        trip(integration)
    elif state == "half-open":
        trip(integration)
        time.sleep(0.002)
        assert integration.breaker.acquire()  # and is never heard of again
        assert integration.breaker.state is CircuitState.HALF_OPEN
    elif state == "forced open":
        integration.force_open()
    elif state == "metrics only":
        integration.metrics_only()

    def check() -> None:
        if state in ("forced open", "metrics only"):
            integration.reset()
        works(integration)()

    assert in_child(check) == ""


@can_fork
@pytest.mark.parametrize("where", ["in a call", "in a probe", "in a listener", "in a fallback", "in a block"])
def test_a_child_forked_in_the_middle_works(integration: Integration, where: str) -> None:
    import time

    said: list[str] = []

    def fork(*_: object) -> int:
        if not said:
            said.append("forking")
            said.append(in_child(works(integration)))
        return 1

    if where == "in a call":
        assert integration.guard(fork)() == 1
    elif where == "in a probe":
        trip(integration)
        time.sleep(0.002)
        assert integration.guard(fork)() == 1
    elif where == "in a listener":
        unsubscribe = failsoft.subscribe(fork)
        trip(integration)
        unsubscribe()
    elif where == "in a fallback":
        assert integration.guard(fail, fallbacks=[failsoft.Fallback(failsoft.FallbackType.CUSTOM, fork)])() == 1
    else:
        with integration.attempt():
            fork()
    assert said[1:] == [""]


@can_fork
def test_a_child_forked_while_threads_are_in_calls_works(integration: Integration) -> None:
    entered, go = threading.Barrier(9), threading.Event()

    def wait(*_: object) -> None:
        entered.wait(PATIENCE)
        go.wait(PATIENCE)

    guards = [integration.guard(wait), integration.guard(wait, dedupe=lambda *_: threading.get_ident())]
    threads = [threading.Thread(target=guards[n % 2]) for n in range(8)]
    for thread in threads:
        thread.start()
    entered.wait(PATIENCE)
    said = in_child(works(integration))
    go.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert said == ""


@can_fork
def test_a_child_forked_in_a_loop_with_a_deadline_armed_works(integration: Integration) -> None:
    """The parent's deadline stays the parent's: the child neither waits for it nor is struck by it."""

    async def fork() -> str:
        return await asyncio.to_thread(in_child, works(integration))

    @integration.guard
    async def outer() -> str:
        await asyncio.sleep(0)  # arms the deadline
        return in_child(works(integration))

    @integration.guard
    async def slow() -> None:
        await asyncio.sleep(30)

    async def main() -> list[str]:
        waiting = asyncio.ensure_future(slow())
        await asyncio.sleep(0)
        said = [await outer(), await fork()]
        with pytest.raises(failsoft.IntegrationTimeoutError):
            await waiting
        return said

    assert asyncio.run(main()) == ["", ""]


@can_fork
def test_children_jitter_each_by_themselves(integration: Integration, score: Score) -> None:
    policy = failsoft.RetryPolicy(initial_delay=1.0, max_delay=10.0)
    integration.backoff.delay(1)

    def stream() -> str:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            delays = [integration.backoff.delay(1) for _ in range(4)]
            delays += [failsoft.calculate_backoff(1, policy) for _ in range(4)]
            os.write(write, repr(delays).encode())
            os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            return pipe.read()

    streams = [stream() for _ in range(8)]
    streams.append(repr([integration.backoff.delay(1) for _ in range(4)]))
    score("forked processes jitter each by themselves", "equal streams", len(streams) - len(set(streams)), "8 children")
    assert len(set(streams)) == len(streams)


# ---- spawn, forkserver, pickle, copy

shared = Registry().integration("shared", "database", retry_policy={"max_retries": 0})


@shared.guard
def double(n: int) -> int:
    return n * 2


@shared.guard
async def double_async(n: int) -> int:
    return n * 2


def outcome_of(n: int) -> Any:
    return (
        double.outcome(n).data,
        shared.status(),
        failsoft.CircuitOpenError("x", integration_name="shared", retry_after=1.0),
    )


@pytest.mark.deep
@pytest.mark.parametrize(
    "method", [m for m in ("fork", "spawn", "forkserver") if m in multiprocessing.get_all_start_methods()]
)
def test_pools_of_processes(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        assert list(pool.map(double, range(10))) == [n * 2 for n in range(10)]
        data, status, error = pool.submit(outcome_of, 4).result(60)
        assert data == 8
        assert status.state is CircuitState.CLOSED
        assert error.retry_after == 1.0


def test_live_things_say_that_they_do_not_pickle() -> None:
    registry = Registry()
    integration = registry.integration("live", "database")
    local = integration.guard(lambda: 1)
    for thing in (
        integration,
        integration.breaker,
        registry,
        local,
        integration.backoff,
        integration.attempt(),
        local.outcome(),
    ):
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            pickle.dumps(thing)
    registry.close()


def test_what_travels_arrives() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(double, protocol)) is double
        assert pickle.loads(pickle.dumps(double_async, protocol)) is double_async
    config = failsoft.default_config("database")
    assert pickle.loads(pickle.dumps(config)) == config == copy.deepcopy(config)
    assert copy.copy(double) is double
    assert copy.deepcopy(double) is double


# ---- interpreters that end

ENDS = {
    "threads in calls": """
        for _ in range(4): threading.Thread(target=lambda: slow(0.02)).start()
    """,
    "daemon threads in calls": """
        for n in range(4): threading.Thread(target=lambda: [slow(0.001) for _ in range(10_000)], daemon=True).start()
        time.sleep(0.01)
    """,
    "daemon threads that fail": """
        def forever():
            while True: bad.outcome()
        for n in range(3): threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.01)
    """,
    "pending tasks": """
        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(hang()) for _ in range(5)]
        async def turn(): await asyncio.sleep(0)
        loop.run_until_complete(turn())
        for task in tasks: task._log_destroy_pending = False
        keep = [loop, tasks] if RANDOM.random() < 0.5 else []
    """,
    "a coroutine half way": """
        coroutine = hang(); coroutine.send(None)
        keep = [coroutine] if RANDOM.random() < 0.5 else None
    """,
    "calls at exit": """
        atexit.register(lambda: print("at exit", good.outcome(1), bad.outcome().success))
        if RANDOM.random() < 0.5: dependency.force_open()
    """,
    "a fallback in a thread": """
        late = dependency.guard(gone, fallbacks=[failsoft.Fallback(failsoft.FallbackType.CACHE, lambda: time.sleep(5), timeout=0.01)])
        late.outcome()
    """,
    "a health check under way": """
        failsoft.integration("healthy", "database")
        failsoft.integration_health_monitor.register_health_check(
            integration_type="database", integration_name="healthy", check=lambda: time.sleep(0.001), interval=0.002)
        failsoft.integration_health_monitor.start()
        time.sleep(RANDOM.random() * 0.02)
    """,
    "finalisers that call": """
        class Last:
            def __del__(self):
                try: good(1); bad.outcome(); hang().close()
                except BaseException: pass
        last, cycle = Last(), []
        cycle.append((cycle, Last(), good, bad))
        sys.last = Last()
    """,
    "sys.exit in a call": """
        dependency.guard(sys.exit)(0)
    """,
    "a probe out": """
        dependency.breaker.acquire()
        bad.outcome()
        dependency.force_open()
    """,
}

PROGRAM = """
import asyncio, atexit, random, sys, threading, time
import failsoft
RANDOM = random.Random({seed})
dependency = failsoft.integration("ending", "database", retry_policy={{"max_retries": 1, "initial_delay": 0.0, "max_delay": 0.0}})
good = dependency.guard(lambda value: value, dedupe=RANDOM.random() < 0.3)
def gone(): raise ConnectionError("gone")
bad = dependency.guard(gone, operation="bad")
slow = dependency.guard(time.sleep, operation="slow")
@dependency.guard
async def hang():
    try: await asyncio.sleep(3600)
    finally: await asyncio.sleep(0)
if RANDOM.random() < 0.3: failsoft.subscribe(lambda event: None)
good(1)
{body}
"""

QUIET = (
    "never awaited",
    "ResourceWarning",
    "generator ignored GeneratorExit",
    "Task was destroyed",
    "coroutine ignored",
)


def end(body: str, seed: int) -> str:
    program = PROGRAM.format(seed=seed, body=textwrap.dedent(body))
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0 or "Fatal" in done.stderr or "failsoft/" in done.stderr:
        return f"exit code {done.returncode}: {done.stderr[-1500:]}"
    return ""


@pytest.mark.parametrize("end_of", ["pending tasks"])
def test_an_interpreter_ends(end_of: str) -> None:
    assert end(ENDS[end_of], 1) == ""


@pytest.mark.deep
def test_interpreters_end_however_often(score: Score) -> None:
    rounds = 18
    choices = [(name, body, seed) for seed in range(rounds) for name, body in ENDS.items()]
    random.Random(5).shuffle(choices)
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda choice: end(choice[1], choice[2]), choices))
    wrong = [f"{name}, seed {seed}: {what}" for (name, _, seed), what in zip(choices, said, strict=True) if what]
    score("interpreters end with calls in flight", "crashes and hangs", len(wrong), f"{len(choices)} ends")
    assert wrong == []


# ---- subinterpreters and reloads

SUB = """
import sys
try: import _interpreters as subs
except ImportError: import _xxsubinterpreters as subs
import failsoft
good = failsoft.integration("main", "database").guard(lambda: 1)
for turn in range({turns}):
    other = subs.create()
    code = '''
try: import failsoft
except ImportError as error: said = str(error)
else: raise SystemError("imported")
'''
    failed = subs.run_string(other, code)
    assert failed is None, failed
    assert good() == 1
    subs.destroy(other)
print(good(), failsoft.integration("main", "database").status().state)
"""


def test_subinterpreters_are_refused_and_harm_nobody() -> None:
    turns = 5
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore", "-c", SUB.format(turns=turns)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "No module named" in done.stderr:
        pytest.skip("no subinterpreters here")
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-2000:]}"
    assert done.stdout.split() == ["1", "CLOSED"]


@pytest.mark.deep
def test_a_second_import_of_the_package_is_the_first_core() -> None:
    """As a reloader or a test's clean-up of sys.modules brings about."""
    program = """
    import sys, failsoft
    first = failsoft.integration("one", "database").guard(lambda: 1)
    assert first() == 1
    for name in [name for name in sys.modules if name.partition(".")[0] == "failsoft" and name != "failsoft._core"]:
        del sys.modules[name]
    import failsoft as again
    second = again.integration("one", "database").guard(lambda: 2)
    def gone(): raise ConnectionError("gone")
    assert again.integration("one", "database").guard(gone).outcome().error.code == "DB_NETWORK"
    print(first(), second())
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-2000:]}"
    assert done.stdout.split() == ["1", "2"]


# ---- a fork at any outcome


@can_fork
@pytest.mark.deep
def test_a_child_forked_after_any_outcome_of_any_kind_recovers() -> None:
    from failsoft.testing import FakeClock

    def finish(answer: Any) -> Any:
        async def main() -> Any:
            return await answer

        return asyncio.run(main()) if hasattr(answer, "send") else answer

    wrong = []
    with FakeClock() as clock:
        for is_async in (False, True):
            for kind in ASYNC if is_async else SYNC:
                for outcome in OUTCOMES:
                    case = Case(kind, outcome, clock, is_async=is_async)
                    case.arm()
                    said = in_child(lambda case=case: case.recovers(finish))  # type: ignore[misc]
                    wrong += [f"{kind}, {outcome}: {said}"] if said else []
                    case.close()
    assert wrong == []
    assert not events._delivering.locked()
