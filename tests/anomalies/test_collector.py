"""The collector at every allocation, finalisers that call the same guard, and recursion to the limit."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from failsoft import Integration, Registry
from failsoft.testing import FakeClock

from ..conftest import Score
from .matrix import ASYNC, OUTCOMES, SYNC, Case, told

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


@pytest.fixture
def busy_collector() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*before)


def finish(answer: Any) -> Any:
    async def main() -> Any:
        return await answer

    return asyncio.run(main()) if hasattr(answer, "send") else answer


def ending(case: Case) -> tuple[object, ...]:
    try:
        return told(finish(case.call()))
    except BaseException as error:
        return told(error)


@pytest.mark.parametrize(("kind", "is_async"), [(kind, False) for kind in SYNC] + [(kind, True) for kind in ASYNC])
def test_collecting_all_the_time_changes_nothing(kind: str, is_async: bool, clock: FakeClock) -> None:
    """Each collection also calls the very guard whose call it comes in."""
    for outcome in OUTCOMES:
        case = Case(kind, outcome, clock, is_async=is_async)
        case.warm_up(finish)
        case.arm()
        usual = ending(case)
        inside = False
        again = 0

        def collected(phase: str, info: object, case: Case = case) -> None:
            nonlocal inside, again
            if inside or phase == "start" or again > 20:
                return
            inside = True
            again += 1
            try:
                answer = case.call()
                if hasattr(answer, "close"):
                    answer.close()
            except BaseException:
                pass
            inside = False

        case.arm()
        before = gc.get_threshold()
        if outcome in ("success", "passed through"):  # elsewhere a call in between takes a step of the script
            gc.callbacks.append(collected)
        gc.set_threshold(1, 1, 1)
        try:
            seen = ending(case)
        finally:
            gc.set_threshold(*before)
            if collected in gc.callbacks:
                gc.callbacks.remove(collected)
        assert seen == usual or outcome == "passed through"
        case.check()
        case.recovers(finish)
        case.close()


def test_a_weak_reference_may_call_back_into_the_guard_it_is_of(busy_collector: None) -> None:
    integration = Registry().integration("weak", "database")
    seen: list[object] = []
    for _ in range(50):
        guard = integration.guard(lambda value: value)
        other = integration.guard(lambda value: value)
        reference = weakref.ref(guard, lambda _, other=other: seen.append(other(2)))  # type: ignore[misc]
        assert guard(1) == 1
        del guard
        gc.collect(0)
        del reference


def test_a_call_may_drop_the_last_reference_to_its_guard_and_registry() -> None:
    held: dict[str, Any] = {}

    def drop() -> str:
        held.clear()
        gc.collect()
        return "value"

    def drop_and_fail() -> str:
        drop()
        raise ConnectionError("gone")

    for fn in (drop, drop_and_fail):
        registry = Registry()
        held["guard"] = registry.integration("dropped", "database", retry_policy={"max_retries": 0}).guard(fn)
        del registry
        try:
            assert held["guard"]() == "value"
        except ConnectionError:
            assert fn is drop_and_fail

    async def drop_async() -> str:
        await asyncio.sleep(0)
        return drop()

    async def main() -> str:
        held["guard"] = Registry().integration("dropped", "database").guard(drop_async)
        coroutine = held["guard"]()
        answer: str = await coroutine
        return answer

    assert asyncio.run(main()) == "value"


# ---- recursion


def run(program: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)


DEEP = """
import asyncio, sys, threading
from failsoft import Registry, Fallback, FallbackType
integration = Registry().integration("deep", "database", retry_policy={{"max_retries": 1, "initial_delay": 0.0, "max_delay": 0.0}})
options = {options}
is_async = {is_async}
if is_async:
    @integration.guard(**options)
    async def deeper(n): return await deeper(n + 1)
    def go():
        async def main(): await deeper(0)
        asyncio.run(main())
else:
    @integration.guard(**options)
    def deeper(n): return deeper(n + 1)
    def go(): deeper(0)
seen = []
def work():
    try: go()
    except RecursionError: seen.append("RecursionError")
    except BaseException as error: seen.append(repr(error)[:100])
thread = threading.Thread(target=work)
thread.start(); thread.join()
integration.reset()
print(*seen, integration.status().probes, integration.guard(lambda: 1)())
"""

OPTIONS = {
    "plain": "dict(retry=False)",
    "retried": "dict()",
    "judged": "dict(failure=lambda value: None, retry=False)",
    "keyed": "dict(key=lambda n: n % 3, retry=False)",
    "falling back": "dict(fallbacks=[Fallback(FallbackType.MOCK, lambda n: 1 // 0)], retry=False)",
    "with details": "dict(details=lambda n: {'n': n}, retry=False)",
}


@pytest.mark.deep
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("options", list(OPTIONS))
def test_recursion_to_the_limit_is_an_error(options: str, is_async: bool) -> None:
    done = run(DEEP.format(options=OPTIONS[options], is_async=is_async))
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-2000:]}"
    assert done.stdout.split() == ["RecursionError", "0", "1"]


SMALL = """
import functools, sys, threading
from failsoft import Registry
integration = Registry().integration("deep", "database", retry_policy={{"max_retries": 0}})
wrap = {wrap}
def deeper(n): return call(n - 1) if n else 0
call = wrap(deeper)
threading.stack_size({stack})
thread = threading.Thread(target=call, args=(450,))
thread.start(); thread.join()
print("done")
"""


def survives(wrap: str, stack: int) -> bool:
    done = run(SMALL.format(wrap=wrap, stack=stack))
    return done.returncode == 0 and "done" in done.stdout


@pytest.mark.deep
@pytest.mark.skipif(sys.platform != "linux", reason="stack sizes are the system's own")
def test_a_guard_takes_little_of_a_small_stack(score: Score) -> None:
    """450 calls within each other: a guard may want half as much again of the C stack as functools.partial."""

    def least(wrap: str) -> int:
        low, high = 32, 4096
        while high - low > 16:
            middle = (low + high) // 2
            low, high = (low, middle) if survives(wrap, middle * 1024) else (middle, high)
        return high

    partial, guard = least("functools.partial"), least("integration.guard")
    score("a guard takes little of the stack", "KiB for 450 nested calls", guard, f"functools.partial takes {partial}")
    assert guard <= partial * 1.5 + 64


def test_a_guard_of_an_integration_that_nobody_holds() -> None:
    integration: Integration | None = Registry().integration("alone", "database")
    assert integration is not None
    guard = integration.guard(lambda: 1)
    integration = None
    gc.collect()
    assert guard() == 1
    assert guard.integration.name == "alone"
