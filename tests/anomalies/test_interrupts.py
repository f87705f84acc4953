"""Ctrl-C at every place in our Python rooms where the interpreter looks for it, and at every entry into the core.

It is never lost: the caller sees it, at the latest right after the call. It holds nobody up: no lock of ours stays taken, no
shared call stays under way, a permit is given back or its lease runs out, and the dependency is called again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dis
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

import failsoft
from failsoft import events
from failsoft.testing import FakeClock

from ..conftest import Score
from .matrix import ASYNC, OUTCOMES, SYNC, Case, some, told

# A coroutine that was made, and then not awaited for the interrupt, is nobody's fault.
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited:RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

ROOMS = str(Path(failsoft.__file__).parent)
LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD")
"""Instructions after which the interpreter looks for signals."""


@cache
def places(code: CodeType) -> frozenset[int]:
    """The offsets before which a signal may strike, and be handled as if by the instruction before."""
    ranges = dis._parse_exception_table(code)  # type: ignore[attr-defined]

    def handler(offset: int) -> int | None:
        return next((r.target for r in ranges if r.start <= offset < r.end), None)

    found = set()
    instructions = list(dis.get_instructions(code))
    for one, after in zip(instructions, instructions[1:], strict=False):
        if one.opname.startswith(LOOKS) and handler(one.offset) == handler(after.offset):
            found.add(after.offset)
    return frozenset(found)


class Strike:
    """Raises at the n-th such place. `passed` is how many there were, `struck` says where it was."""

    def __init__(self, n: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.n, self.error, self.passed, self.struck = n, error, 0, ""

    def __enter__(self) -> Strike:
        sys.settrace(self.enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def enter(self, frame: Any, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(ROOMS) or "/testing/" in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.step

    def step(self, frame: Any, event: str, argument: object) -> Any:
        if event == "opcode" and frame.f_lasti in places(frame.f_code):
            self.passed += 1
            if self.passed == self.n:
                self.struck = f"{frame.f_code.co_filename.removeprefix(ROOMS)}:{frame.f_lineno}"
                raise self.error
        return self.step


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    def strike(*_: object) -> None:  # by another function than Python's own, in whose place asyncio.run puts one
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, strike)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


def whole(case: Case) -> Any:
    if not case.is_async:
        return case.call()

    async def main() -> Any:
        answer = case.call()
        return await answer if hasattr(answer, "__await__") and hasattr(answer, "send") else answer

    return asyncio.run(main())


def finish(answer: Any) -> Any:
    if not hasattr(answer, "send"):
        return answer

    async def main() -> Any:
        return await answer

    return asyncio.run(main())


def sees(work: Callable[[], Any], strike: Strike) -> bool:
    """Whether the interrupt comes out of the work, or right after it."""
    try:
        with contextlib.suppress(Exception, GeneratorExit):
            with strike:
                work()
        for _ in range(10):
            pass
    except KeyboardInterrupt:
        return True
    except BaseException:
        return False
    return False


def sweep(case: Case, every: int = 1) -> tuple[int, int, list[str]]:
    """Strike at every place of the call's way. How many there were, how many leases ran out, and what went wrong."""
    case.warm_up(finish)
    case.arm()
    with Strike(0) as counting, contextlib.suppress(BaseException):
        told(whole(case))
    strikes, leased, wrong = 0, 0, []
    for n in range(1, counting.passed + 1, every):
        case.arm()
        strike = Strike(n)
        seen = sees(lambda: whole(case), strike)
        if not strike.struck:
            continue
        strikes += 1
        where = f"{case.kind}, {case.outcome}, at {strike.struck}"
        if not seen:
            wrong.append(f"{where}: lost")
        try:
            leased += case.check(leases_may_run=True)
            case.recovers(finish)
        except AssertionError as error:
            wrong.append(f"{where}: {error}")
            for one in case.integrations:
                one.reset()
            if events._delivering.locked():
                events._delivering.release()
    case.close()
    return strikes, leased, wrong


QUICK = [
    ("guard", "bad probe", False), ("falling back", "refusal", False), ("deduplicated", "failure", False),
    ("block", "bad probe", False), ("guard", "retry", True), ("deduplicated", "success", True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "outcome", "is_async"), QUICK)
def test_an_interrupt_anywhere(kind: str, outcome: str, is_async: bool, clock: FakeClock) -> None:
    strikes, _, wrong = sweep(Case(kind, outcome, clock, is_async=is_async))
    assert wrong == []
    assert strikes > 10


@pytest.mark.deep
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_interrupt_anywhere_in_every_kind(is_async: bool, clock: FakeClock, score: Score) -> None:
    unsubscribe = failsoft.subscribe(lambda event: None)
    strikes = leased = 0
    wrong = []
    for kind in ASYNC if is_async else SYNC:
        for outcome in OUTCOMES:
            struck, held, bad = sweep(Case(kind, outcome, clock, is_async=is_async))
            strikes, leased, wrong = strikes + struck, leased + held, wrong + bad
    unsubscribe()
    over = f"{strikes} interrupts of {'async' if is_async else 'sync'} calls"
    score("Ctrl-C is never lost and holds nothing", "lost interrupts, locks and permits", len(wrong), over)
    score("Ctrl-C is never lost and holds nothing", "permits that only their lease gave back", leased, over)
    assert wrong == []


# ---- at the entries into the core


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("kind", some(SYNC, "guard", "deduplicated", "by the seed's face"))
def test_an_interrupt_before_a_call_enters_the_core(kind: str, outcome: str, clock: FakeClock) -> None:
    import _testcapi

    case = Case(kind, outcome, clock)
    case.warm_up(finish)
    case.arm()
    interrupt = getattr(_testcapi, "pyerr_setinterrupt", None)

    def strike() -> None:
        if interrupt is not None:
            interrupt()
        else:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        try:
            [fn() for fn in (strike, case.call)]
        finally:
            for _ in range(10):
                pass
    case.check(leases_may_run=True)
    case.recovers(finish)
    case.close()


# ---- a storm


@pytest.mark.deep
def test_a_storm_of_signals(score: Score) -> None:
    class Storm(BaseException):
        pass

    def strike(*_: object) -> None:
        raise Storm

    registry = failsoft.Registry()
    integration = registry.integration(
        "stormy", "database", circuit_breaker={"half_open_max_calls": 1, "timeout": 0.05, "reset_timeout": 0.01},
        retry_policy={"max_retries": 1, "initial_delay": 0.0, "max_delay": 0.0},
    )  # fmt: skip
    turn = iter(range(10**9))

    @integration.guard(dedupe=True)
    def call() -> int:
        if next(turn) % 3 == 0:
            raise ConnectionError("gone")
        return 1

    before = signal.signal(signal.SIGALRM, strike)
    strikes, end = 0, time.monotonic() + 10.0
    try:
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002)
                for _ in range(200):
                    with contextlib.suppress(Exception):
                        call()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Storm:
                strikes += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    time.sleep(0.1)
    integration.reset()
    integration.force_open()
    integration.reset()
    assert not events._delivering.locked()
    done = threading.Thread(target=lambda: integration.guard(lambda: 1)(), daemon=True)
    done.start()
    done.join(5.0)
    assert not done.is_alive()
    assert integration.status().probes == 0
    score("Ctrl-C is never lost and holds nothing", "signals", strikes, "ten seconds of a timer's signals")
    registry.close()
