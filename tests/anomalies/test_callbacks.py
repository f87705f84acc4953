"""An exception, of whatever kind, in whatever of the user's functions we call: the caller's result is what it was.

It is reported once, to the `failsoft` logger or to `sys.unraisablehook`; only an interrupt goes on its way instead.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import failsoft
from failsoft import (
    CircuitState,
    Fallback,
    FallbackType,
    Integration,
    IntegrationResult,
    Registry,
    database_fallbacks,
    logs,
    register_classifier,
)

from .matrix import some, told


class Gone(ConnectionError):
    """What the dependency raises."""


class Odd(BaseException):
    """No Exception."""


RAISED = [
    ValueError,
    Odd,
    SystemExit,
    GeneratorExit,
    asyncio.CancelledError,
    KeyboardInterrupt,
    MemoryError,
    StopIteration,
]
Raise = Callable[..., Any]
Call = Callable[[], Any]


def succeed(*_: object) -> str:
    return "value"


def fail(*_: object) -> str:
    raise Gone("gone")


async def succeed_async(*_: object) -> str:
    return "value"


async def fail_async(*_: object) -> str:
    raise Gone("gone")


Fns = tuple[Callable[..., Any], Callable[..., Any]]


def mock(*_: object) -> str:
    return "mock"


MOCKED = Fallback(FallbackType.MOCK, mock)

# What makes a call that comes by the function, and what the call is to come to all the same.
POSITIONS: dict[str, tuple[Callable[[Integration, Raise, Fns], Call], tuple[object, ...]]] = {
    "failure=": (lambda i, bad, fns: partial(i.guard(fns[0], failure=bad), 1), ("value", "value")),
    "key=": (lambda i, bad, fns: partial(i.guard(fns[0], key=bad), 1), ("value", "value")),
    "dedupe=": (lambda i, bad, fns: partial(i.guard(fns[0], dedupe=bad), 1), ("value", "value")),
    "memory key": (
        lambda i, bad, fns: partial(i.guard(fns[0], fallbacks=[database_fallbacks.last_known(key=bad)]), 1),
        ("value", "value"),
    ),
    "details=": (
        lambda i, bad, fns: partial(i.guard(fns[1], details=bad).outcome, 1),
        ("result", False, None, None, "DB_NETWORK"),
    ),
    "details= of a plain call": (lambda i, bad, fns: partial(i.guard(fns[1], details=bad), 1), ("raised", "Gone")),
    "classifier": (lambda i, bad, fns: classified(i, bad, fns), ("raised", "Gone")),
    "fallback": (
        lambda i, bad, fns: partial(i.guard(fns[1], fallbacks=[Fallback(FallbackType.CACHE, bad), MOCKED]), 1),
        ("value", "mock"),
    ),
    "listener": (lambda i, bad, fns: heard(i, bad, fns), ("raised", "Gone")),
    "log handler": (lambda i, bad, fns: logged(i, bad, fns), ("raised", "Gone")),
}

undo: list[Callable[[], object]] = []


def classified(i: Integration, bad: Raise, fns: Fns) -> Call:
    undo.append(register_classifier(Gone, bad))
    guard = i.guard(fns[1])
    return lambda: guard(1)


def heard(i: Integration, bad: Raise, fns: Fns) -> Call:
    undo.append(failsoft.subscribe(bad))
    guard = i.guard(fns[1])
    return lambda: guard(1)


def logged(i: Integration, bad: Raise, fns: Fns) -> Call:
    handler = logging.Handler()
    handler.emit = bad  # type: ignore[method-assign]
    logger = logging.getLogger("failsoft")
    logger.addHandler(handler)
    undo.append(lambda: logger.removeHandler(handler))
    guard = i.guard(fns[1])
    return lambda: guard(1)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    logs._told.clear()
    yield
    while undo:
        undo.pop()()
    logs._told.clear()


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[type[BaseException]], int]:
    """How often an exception of a class was told of."""
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: unraisable.append(what.exc_type))

    def count(kind: type[BaseException]) -> int:
        logged = [record.exc_info[0] for record in caplog.records if record.exc_info]
        shown = [record for record in caplog.records if kind.__name__ in str(getattr(record, "details", ""))]
        return unraisable.count(kind) + logged.count(kind) + len(shown)

    return count


def ended(call: Call, is_async: bool) -> tuple[object, ...]:
    async def main() -> Any:
        answer = call()
        return answer if isinstance(answer, IntegrationResult) and not hasattr(answer, "send") else await answer

    try:
        return told(asyncio.run(main()) if is_async else call())
    except BaseException as error:
        return told(error)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("raised", some(RAISED, ValueError, Odd, KeyboardInterrupt))
@pytest.mark.parametrize("position", list(POSITIONS))
def test_the_result_stands(
    position: str, raised: type[BaseException], is_async: bool, reports: Callable[[type[BaseException]], int]
) -> None:
    registry = Registry()
    integration = registry.integration(
        "called back", "database", retry_policy={"max_retries": 0}, circuit_breaker={"failure_threshold": 1}
    )
    calls = 0

    def bad(*_: object, **__: object) -> Any:
        nonlocal calls
        calls += 1
        raise raised("from the callback")

    make, expected = POSITIONS[position]
    call = make(integration, bad, (succeed_async, fail_async) if is_async else (succeed, fail))
    seen: tuple[object, ...] | None = None
    interrupted = False
    try:
        seen = ended(call, is_async)
        for _ in range(10):  # an interrupt may come right after the call
            pass
    except KeyboardInterrupt:
        interrupted = True
    assert calls >= 1
    assert integration.status().probes == 0
    registry.close()
    if raised is KeyboardInterrupt:
        assert interrupted or seen == ("raised", "KeyboardInterrupt")
        return
    if position == "fallback" and not issubclass(raised, Exception):  # another operation, whose word it is
        assert seen == ("raised", raised.__name__)
        return
    assert seen == expected
    if position not in ("fallback", "log handler"):  # those are told of with the result, or by logging itself
        assert reports(raised) == calls
    tripped = expected[-1] in ("Gone", "DB_NETWORK", "mock")
    assert integration.status().state is (CircuitState.OPEN if tripped else CircuitState.CLOSED)


@pytest.mark.parametrize("raised", some([error for error in RAISED if error is not KeyboardInterrupt], Odd))
def test_a_health_check_may_raise_anything(raised: type[BaseException]) -> None:
    registry = Registry()
    integration = registry.integration("checked", "database")
    checked = threading.Event()

    def check() -> None:
        checked.set()
        raise raised("from the check")

    registry.health.register_health_check(
        integration_type="database", integration_name="checked", check=check, interval=0.02, unhealthy_after=1
    )
    with registry.health:
        assert checked.wait(20.0)
        deadline = time.monotonic() + 20.0
        while registry.health.get_health("checked").healthy and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not registry.health.get_health("checked").healthy
        assert integration.guard(succeed)(1) == "value"
    registry.close()
