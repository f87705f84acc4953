"""Fails the n-th allocation of a call, for every n until the call goes through. A program of its own: it may crash.

    python -m tests.anomalies.allocations sync guard outcome ...

Each call is made for each n with that one allocation failing, and with some more after it. (Not with all after it: from
3.11 on the interpreter may then look for memory for ever on its way to an `except`.) For async kinds that is done for each
step of the coroutine. The last line of the output is what it has come to, as JSON.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import sys
import warnings
from _testcapi import remove_mem_hooks, set_nomemory
from collections.abc import Callable
from typing import Any

from failsoft import IntegrationResult
from failsoft.testing import FakeClock

from .matrix import ARGUMENT, OUTCOMES, Case, told

MOST = 3_000
"""More allocations than any call makes."""

RUNS = (1, 20)
"""How many allocations in a row fail."""

COMPILED = ("success", "passed through")
COMPILED_KINDS = ("guard", "outcome", "judged", "remembering", "keyed", "falling back", "handed over")
"""Outcomes and kinds in which no Python code of ours runs: CPython 3.11 itself leaks where a function has no room for its cells."""

unraisable: list[type[BaseException] | None] = []


def fails() -> bool:
    try:
        bytearray(4096)
    except MemoryError:
        return True
    return False


def all_there(count: int) -> bool:
    try:
        for _ in range(count):
            bytearray(4096)
    except MemoryError:
        return False
    return True


def struck(work: Callable[[], Any], n: int, run: int) -> tuple[bool, Any, BaseException | None]:
    """Fail a run of allocations from the n-th on. Whether that was met, and what the work gave or raised."""
    value = error = None
    met = False
    set_nomemory(n, n + run)
    try:
        try:
            value = work()
        except BaseException as raised:
            error = raised
        met = fails()
        if not met:  # before its beginning, or after its end?
            met = all_there(n + run)
    finally:
        remove_mem_hooks()
    return met, value, error


def permitted(case: Case, undisturbed: tuple[object, ...], answer: object) -> bool:
    """The true result, that of the bare call where no policy could be asked, or a MemoryError. Nothing else."""
    seen = told(answer)
    if seen == undisturbed or isinstance(answer, MemoryError):
        return True
    if isinstance(answer, SystemError):  # CPython's own: it cannot always say what it lacks memory for
        return "without" in str(answer) and "failsoft" not in str(answer)
    if isinstance(answer, IntegrationResult):
        if answer.success:
            return answer.data in ("value", "mock", "bad")
        assert answer.error is not None
        return answer.error.code == "DB_UNKNOWN" or told(answer)[4] in ("DB_NETWORK", "DB_SERVER_ERROR", "DB_TIMEOUT")
    if case.outcome == "refusal" and seen == ("raised", "CircuitOpenError"):  # its fallback had no room
        return True
    return seen in {("raised", "Gone"), ("raised", "Given"), ("value", "value"), ("value", "bad"), ("value", "mock")}


class Tally:
    """What a sweep has come to."""

    def __init__(self) -> None:
        self.struck = self.leased = 0
        self.wrong: list[str] = []

    def __call__(self, case: Case, undisturbed: tuple[object, ...], where: str, before: Any, drive: Any) -> None:
        """After a strike."""
        self.struck += 1
        try:
            self.leased += case.check(leases_may_run=True)
            case.recovers(drive)
        except AssertionError as error:
            self.wrong.append(f"{where}: {error}")
            for one in case.integrations:
                one.reset()
        if case.outcome in COMPILED and case.kind in COMPILED_KINDS and held(case) > before:
            gc.collect()
            if held(case) > before:
                self.wrong.append(f"{where}: {held(case) - before} references leaked")


def held(case: Case) -> int:
    """How often the argument and the guard are referred to."""
    return sys.getrefcount(ARGUMENT) + sys.getrefcount(getattr(case.call, "func", case))


def sweep_sync(kind: str, tally: Tally, clock: FakeClock) -> None:
    for outcome in OUTCOMES:
        case = Case(kind, outcome, clock)
        case.warm_up(lambda value: value)
        undisturbed = ending(case)
        ending(case)
        before = held(case)
        for run in RUNS:
            for n in range(1, MOST):
                case.arm()
                met, value, error = struck(case.call, n, run)
                where = f"sync {kind}, {outcome}, allocation {n} and {run - 1} more"
                if not permitted(case, undisturbed, error if error is not None else value):
                    tally.wrong.append(f"{where}: {error if error is not None else told(value)!r}")
                del value, error
                tally(case, undisturbed, where, before, lambda value: value)
                if not met:
                    break
        case.close()


def ending(case: Case) -> tuple[object, ...]:
    case.arm()
    try:
        return told(case.call())
    except BaseException as error:
        return told(error)


async def steps(case: Case, at: int, n: int, run: int) -> tuple[int, bool, Any, BaseException | None]:
    """Drive by hand, striking at one step. How many there were, whether it struck, what came of it."""
    coroutine: Any = None
    thrown: BaseException | None = None
    met = False

    def step() -> Any:
        nonlocal coroutine
        if coroutine is None:
            coroutine = case.call()
            if not hasattr(coroutine, "send"):
                return coroutine
        return coroutine.send(None) if thrown is None else coroutine.throw(thrown)

    for number in range(100):
        if number == at:
            struck_here, yielded, error = struck(step, n, run)
            met |= struck_here
        else:
            try:
                yielded, error = step(), None
            except BaseException as raised:
                yielded, error = None, raised
        thrown = None
        if isinstance(error, StopIteration):
            return number, met, error.value, None
        if error is not None:
            return number, met, None, error
        if isinstance(yielded, IntegrationResult):
            return number, met, yielded, None
        try:
            if yielded is not None:
                yielded._asyncio_future_blocking = False
                await asyncio.wait([yielded], timeout=1.0)
                if not yielded.done():
                    raise RuntimeError(f"stuck at step {number}: {yielded!r}")
            else:
                await asyncio.sleep(0)
        except asyncio.CancelledError as cancelled:
            thrown = cancelled
    raise AssertionError("never ends")


async def turns() -> None:
    """Let the loop come to rest."""
    for _ in range(10):
        await asyncio.sleep(0)


def sweep_async(kind: str, tally: Tally, clock: FakeClock) -> None:
    with asyncio.Runner() as runner:

        def drive(awaitable: Any) -> Any:
            return runner.run(awaitable) if hasattr(awaitable, "send") else awaitable

        for outcome in OUTCOMES:
            case = Case(kind, outcome, clock, is_async=True)
            case.warm_up(drive)
            for _ in range(2):
                case.arm()
                most, _, value, error = runner.run(steps(case, -1, 0, 1))
                undisturbed = told(error if error is not None else value)
                del value, error
            before = held(case)
            for at in range(most + 1):
                for run in RUNS:
                    for n in range(1, MOST):
                        case.arm()
                        try:
                            _, met, value, error = runner.run(steps(case, at, n, run))
                        except RuntimeError as stuck:
                            value, error = None, stuck
                        runner.run(turns())
                        where = f"async {kind}, {outcome}, step {at}, allocation {n} and {run - 1} more"
                        if not permitted(case, undisturbed, error if error is not None else value):
                            tally.wrong.append(f"{where}: {error if error is not None else told(value)!r}")
                        del value, error
                        tally(case, undisturbed, where, before, drive)
                        if not met:
                            break
            case.close()


def canary() -> None:
    """What any program does. Some releases of CPython crash at this, without us."""

    def outer(a: object) -> object:
        def inner() -> object:
            return a

        return inner() and (each for each in "ab")

    def shared(a: object) -> object:
        made: list[object] = [a]

        def one() -> object:
            return made and a

        def two() -> object:
            return one() and f"{a}{made}"

        def three() -> dict[str, object]:
            return {**{str(each): two() for each in made}, "a": a}

        return three

    for n in range(1, 60):
        struck(functools.partial(shared, ARGUMENT), n, 1)
        struck(functools.partial(outer, ARGUMENT), n, 1)
        struck(lambda: list(outer(ARGUMENT)), n, 1)  # type: ignore[call-overload]


def main(way: str, kinds: list[str]) -> None:
    if way == "canary":
        canary()
        return
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda what: unraisable.append(what.exc_type)
    tally = Tally()
    with FakeClock() as clock:
        for kind in kinds:
            (sweep_async if way == "async" else sweep_sync)(kind, tally, clock)
    tally.wrong += [f"told on stderr: {kind}" for kind in set(unraisable) - {MemoryError}]
    print(json.dumps({"struck": tally.struck, "leased": tally.leased, "wrong": tally.wrong}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
