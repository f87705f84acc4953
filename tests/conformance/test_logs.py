"""What the `failsoft` logger gets: each kind of failure once, with all there is to know, and no trouble ever."""

from __future__ import annotations

import asyncio
import itertools
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from failsoft import Fallback, FallbackType, IntegrationError, IntegrationType
from failsoft.logs import FIELDS
from failsoft.testing import FakeClock

from .conftest import Make, drive

numbers = itertools.count()


class Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.all: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)

    def take(self) -> list[dict[str, Any]]:
        """What came since the last time: all FIELDS, and the message."""
        taken = [{**{name: getattr(r, name) for name in FIELDS}, "message": r.getMessage()} for r in self.all]
        assert {(r.levelno, r.name) for r in self.all} <= {(logging.WARNING, "failsoft")}
        self.all.clear()
        return taken


@pytest.fixture
def log() -> Iterator[Records]:
    records = Records()
    logging.getLogger("failsoft").addHandler(records)
    yield records
    logging.getLogger("failsoft").removeHandler(records)


@pytest.fixture
def db() -> str:
    """A name no test had before: what repeats is counted for the whole process."""
    return f"db{next(numbers)}"


def gone(*_: object) -> Any:
    raise ConnectionError("gone")


def fail(guard: Any, *args: Any) -> None:
    with pytest.raises((ConnectionError, IntegrationError)):
        guard(*args)


def run(*code: str) -> str:
    """Another interpreter's stderr."""
    command = [sys.executable, "-W", "error", "-c", "\n".join(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_failure_is_logged_with_all_fields(make: Make, clock: FakeClock, log: Records, db: str) -> None:
    dependency = make(db, retries=2)
    fail(dependency.guard(gone, operation="robots", details={"query": "SELECT 1"}))
    (record,) = log.take()
    assert record["message"] == f"{db}.robots failed: DB_NETWORK: robots: gone"
    details = record["details"]
    assert {**record, "message": "", "details": {}} == {
        "integration": db, "integration_type": IntegrationType.DATABASE, "operation": "robots", "code": "DB_NETWORK",
        "category": "NETWORK", "reason": "all retries are used up", "attempts": 3, "retry_after": None,
        "fallback": None, "details": {}, "repeats": 0, "message": "",
    }  # fmt: skip
    assert (details["query"], details["delays"], details["failures"]) == ("SELECT 1", (0.0, 0.0), 3)


@pytest.mark.parametrize("way", ["sync", "async", "outcome", "block"])
def test_every_way_to_fail(make: Make, log: Records, db: str, way: str) -> None:
    async def asynchronous() -> None:
        await asyncio.sleep(0)
        gone()

    dependency = make(db)
    if way == "sync":
        fail(dependency.guard(gone, operation="x"))
    elif way == "async":
        with pytest.raises(ConnectionError):
            asyncio.run(dependency.acall(asynchronous))
    elif way == "outcome":
        assert not dependency.guard(gone, operation="x").outcome().success
    else:
        with pytest.raises(ConnectionError), dependency.attempt("x"):
            gone()
    (record,) = log.take()
    assert (record["integration"], record["code"], record["attempts"]) == (db, "DB_NETWORK", 1)


def test_repeats_are_counted_and_told_after_a_minute(make: Make, clock: FakeClock, log: Records, db: str) -> None:
    guard = make(db).guard(gone, operation="x")
    for _ in range(100):
        fail(guard)
    clock.advance(59.9)
    fail(guard)
    assert len(log.take()) == 1
    clock.advance(0.1)
    fail(guard)
    (record,) = log.take()
    assert record["repeats"] == 100
    assert record["message"].endswith("gone (100 more since the last time)")
    fail(guard)
    clock.advance(60.0)
    fail(guard)
    assert [r["repeats"] for r in log.take()] == [1]


def test_kinds_are_kept_apart(make: Make, clock: FakeClock, log: Records, db: str) -> None:
    dependency = make(db)

    def other() -> None:
        raise BrokenPipeError("gone")

    def bad() -> None:
        raise ValueError("bad")

    for _ in range(3):
        for operation in ("a", "b"):
            for fn in (gone, other, bad):
                with pytest.raises((OSError, ValueError)):
                    dependency.guard(fn, operation=operation)()
    records = log.take()
    assert len(records) == 6
    assert {(r["operation"], r["category"]) for r in records} == {
        (o, c) for o in "ab" for c in ("NETWORK", records[2]["category"])
    }


def test_one_record_an_opening(make: Make, clock: FakeClock, log: Records, db: str) -> None:
    dependency = make(db, threshold=1, circuit_breaker={"reset_timeout": 70.0, "success_threshold": 1})
    guard = dependency.guard(lambda fails: gone() if fails else 1, operation="x", details={"host": "a"})
    for _ in range(3):
        fail(guard, True)
        log.take()
        for _ in range(1000):
            fail(guard, True)
        (record,) = log.take()
        assert (record["code"], record["reason"], record["attempts"]) == ("DB_CIRCUIT_OPEN", "consecutive_failures", 0)
        assert record["retry_after"] == pytest.approx(70.0)
        assert (record["details"]["host"], record["details"]["state"]) == ("a", "OPEN")
        clock.advance(70.0)
        guard(False)


def test_a_refusal_is_logged_though_a_retry_met_it_first(make: Make, clock: FakeClock, log: Records, db: str) -> None:
    guard = make(db, retries=3, threshold=2).guard(gone, operation="x")
    fail(guard)
    (record,) = log.take()
    assert record["reason"] == "the gate refused: circuit OPEN (consecutive_failures)"
    fail(guard)
    (record,) = log.take()
    assert record["code"] == "DB_CIRCUIT_OPEN"


def test_a_refused_block_is_logged_as_a_call_is(make: Make, clock: FakeClock, log: Records, db: str) -> None:
    dependency = make(db)
    dependency.force_open()
    for _ in range(5):
        with pytest.raises(IntegrationError), dependency.attempt("x"):
            raise AssertionError("not to be reached")
    (record,) = log.take()
    assert (record["code"], record["operation"]) == ("DB_CIRCUIT_OPEN", "x")
    assert dependency.explain().decisions[-1].text == "x: refused, the circuit is FORCED_OPEN"
    assert dependency.metrics("x").rejected == 5


def test_limited_and_refused_are_two_kinds(make: Make, registry: Any, clock: FakeClock, log: Records, db: str) -> None:
    dependency = make(db)
    guard = dependency.guard(int, operation="x", fallbacks=[Fallback("error_response", lambda: 0)])
    registry.capacities.enter(db, 0.0, "migration")
    guard()
    dependency.force_open()
    guard()
    assert [(r["code"], r["reason"]) for r in log.take()] == [
        ("DB_DEGRADED", "migration"),
        ("DB_CIRCUIT_OPEN", "operator"),
    ]


def test_what_a_fallback_answered_is_logged_too(make: Make, clock: FakeClock, log: Records, db: str) -> None:
    guard = make(db).guard(
        gone,
        operation="x",
        fallbacks=[Fallback("cache", gone), Fallback("mock", lambda *_: 5)],
        details=lambda i: {"i": i},
    )
    assert [guard(i) for i in range(3)] == [5, 5, 5]
    (record,) = log.take()
    assert record["fallback"] is FallbackType.MOCK
    assert record["message"] == f"{db}.x failed: DB_NETWORK: x: gone; the mock fallback answered"
    assert record["details"]["i"] == 0
    assert record["details"]["fallback_errors"] == ("cache: ConnectionError('gone')",)


def test_context_is_there_whatever_the_error(make: Make, clock: FakeClock, log: Records, db: str) -> None:
    """An operation that fails because of another integration is still this one's failure."""
    inner = make(f"{db}-inner")
    inner.force_open()
    guard = make(db).guard(lambda i: inner.call(int), operation="x", details=lambda i: {"i": i})
    fail(guard, 7)
    inner_record, record = log.take()
    assert (inner_record["integration"], inner_record["operation"]) == (f"{db}-inner", "int")
    assert (record["integration"], record["operation"], record["code"]) == (db, "x", "DB_CIRCUIT_OPEN")
    assert record["details"]["i"] == 7


def test_a_refusal_with_fallbacks_has_the_context_of_its_call(
    make: Make, clock: FakeClock, log: Records, db: str
) -> None:
    dependency = make(db)
    guard = dependency.guard(gone, operation="x", details=lambda i: {"i": i}, fallbacks=[Fallback("mock", lambda i: i)])
    dependency.force_open()
    assert guard(7) == 7
    assert log.take()[0]["details"]["i"] == 7


# ---- no trouble


class Hostile(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


def test_errors_without_words(make: Make, clock: FakeClock, log: Records, db: str) -> None:
    def hostile() -> None:
        raise Hostile

    dependency = make(db)
    with pytest.raises(Hostile):
        dependency.guard(hostile, operation="x")()
    assert dependency.guard(hostile, operation="y", fallbacks=[Fallback("mock", int)])() == 0
    assert [r["message"] for r in log.take()] == [
        f"{db}.x failed: DB_UNKNOWN: x: a Hostile without words",
        f"{db}.y failed: DB_UNKNOWN: y: a Hostile without words; the mock fallback answered",
    ]


def test_a_handler_that_raises_changes_nothing(make: Make, clock: FakeClock, db: str) -> None:
    class Broken(logging.Handler):
        calls = 0

        def emit(self, record: logging.LogRecord) -> None:
            Broken.calls += 1
            raise OSError("disk full")

    broken = Broken()
    logging.getLogger("failsoft").addHandler(broken)
    try:
        dependency = make(db)
        fail(dependency.guard(gone, operation="x"))
        assert dependency.guard(gone, operation="y", fallbacks=[Fallback("mock", int)])() == 0
        dependency.force_open()
        fail(dependency.guard(gone, operation="z"))
    finally:
        logging.getLogger("failsoft").removeHandler(broken)
    assert Broken.calls >= 3


def test_a_handler_may_call_guards(make: Make, clock: FakeClock, db: str) -> None:
    guard = make(db).guard(gone, operation="x")

    class Calling(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fail(guard)

    handler = Calling()
    logging.getLogger("failsoft").addHandler(handler)
    try:
        fail(guard)
    finally:
        logging.getLogger("failsoft").removeHandler(handler)
    assert guard.metrics().count == 2


def test_threads_log_a_failure_once(make: Make, log: Records, db: str) -> None:
    class Slow(type):  # to look the kind of a failure up takes long enough for all threads to be at it
        def __hash__(cls) -> int:
            time.sleep(0.002)
            return 1

    class Gone(ConnectionError, metaclass=Slow):
        pass

    def slowly_gone() -> None:
        raise Gone("gone")

    guard, start = make(db).guard(slowly_gone, operation="x"), threading.Barrier(8)

    def work() -> None:
        start.wait()
        fail(guard)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(log.take()) == 1


def test_a_clock_that_went_back_silences_nobody(make: Make, log: Records, db: str) -> None:
    guard = make(db).guard(gone, operation="x")
    with FakeClock() as clock:
        clock.advance(100_000.0)
        fail(guard)
    fail(guard)
    assert len(log.take()) == 2


def test_nothing_is_printed_and_logging_is_not_imported() -> None:
    assert (
        run(
            "import sys, failsoft",
            "assert 'logging' not in sys.modules",
            "integration = failsoft.integration('db', 'database', circuit_breaker={'failure_threshold': 1})",
            "def gone(): raise ConnectionError('gone')",
            "for fn in (gone, int): ",
            "    try: integration.caller('x', retry=False)(fn)",
            "    except Exception: pass",
            "assert 'logging' in sys.modules",
            "for i in range(1030): integration.guard(int, operation=f'o{i}')",
        )
        == ""
    )


def test_drive_is_quiet(make: Make, log: Records, db: str) -> None:
    async def fine() -> int:
        return 1

    assert drive(make(db).acall(fine)) == 1
    assert log.take() == []
