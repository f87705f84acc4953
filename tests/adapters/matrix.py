"""What every adapter makes of every way in which a server can fail: the conformance matrix.

    python -m tests.adapters.matrix        # provoke every cell and write what came of it into docs/

A module `rows_*.py` beside this one brings the rows of its adapters as `ROWS`. A `Row` says which server it is tested
against and how to bring each situation about; what comes of it is observed here, the same way for all. What has to come
of it stands in `SITUATIONS`, and where a row differs it says why. What else was seen, such as the classes of the errors,
is kept in `matrix.json`, so that a change of it is noticed, and rendered into the docs.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from failsoft import IntegrationType, Registry, classify_error
from failsoft._core import EVENTS
from failsoft.adapters.exchange import failure_of_status
from failsoft.standard import category_of_status
from tests.services.servers import Server

HERE = Path(__file__).parent
RECORD = HERE / "matrix.json"
PAGE = HERE.parents[1] / "docs" / "adapters.md"
DETAILS = HERE.parents[1] / "docs" / "adapters-matrix.md"
BEGIN, END = "<!-- matrix -->", "<!-- end of matrix -->"

READ = 0.08
"""Seconds of a read timeout that is meant to end the call."""

DEADLINE = 0.12
"""Seconds of an overall deadline that is meant to end the call."""

LONG = 5.0
"""Seconds of a limit that is not meant to."""

AT_ONCE = 2.0
"""Seconds that anything may take which waits for nothing; these machines are busy."""


class Expected(NamedTuple):
    """What has to come of a situation. `hangs`: it ends by a time limit only; `drips`: not by one of a single read."""

    category: str
    breaker: str
    what: str
    hangs: bool = False
    drips: bool = False


SITUATIONS = {
    "refused": Expected("NETWORK", "failure", "nobody listens"),
    "black hole": Expected("TIMEOUT", "failure", "the request is taken, and never answered", hangs=True),
    "reset mid-body": Expected("NETWORK", "failure", "the connection is reset after a part of the answer"),
    "drip": Expected("TIMEOUT", "failure", "the answer comes byte by byte, for ever", hangs=True, drips=True),
    "truncated body": Expected("NETWORK", "failure", "the connection is closed after a part of the answer"),
    "429 + Retry-After": Expected("RATE_LIMIT", "success", "asked to come back in 7 s, later than the deadline"),
    "503": Expected("SERVER_ERROR", "failure", "the server says that it cannot"),
    "4xx": Expected("CLIENT_ERROR", "success", "the server says that the request is to blame"),
    "malformed": Expected("SERVER_ERROR", "failure", "the answer is not of the protocol"),
    "TLS failure": Expected("UNKNOWN", "failure", "the server's certificate is trusted by nobody"),
    "server SIGSTOP": Expected("TIMEOUT", "failure", "the process is frozen: the kernel accepts, nobody answers", hangs=True),
    "server SIGKILL": Expected("NETWORK", "failure", "the process is killed while it has our request"),
}  # fmt: skip


class Row:
    """An adapter of the matrix. Derive from it."""

    name: ClassVar[str]
    server: ClassVar[type[Server]]
    type: ClassVar[IntegrationType] = IntegrationType.EXTERNAL_API
    impossible: ClassVar[dict[str, str]] = {}
    """Situations that cannot be, and why."""
    differs: ClassVar[dict[str, tuple[str, str, str]]] = {}
    """Situations in which another category and breaker effect fits, and why."""
    repeats: ClassVar[dict[str, str]] = {}
    """Situations in which the client itself sends a second time, through the adapter, and why."""
    deep: ClassVar[bool] = False
    """Only for `pytest --deep`."""
    in_flight: ClassVar[str] = "black hole"
    """The situation in which the server has our request when it is killed."""
    whole: ClassVar[bool] = False
    """The limit of a read is one of a whole message: a drip does not get around it."""
    note: ClassVar[str] = ""
    """What a reader of its table has to know."""

    def prepare(self) -> None:
        """Import what is needed; ImportError where it is not installed."""
        raise NotImplementedError

    def provoke(self, server: Any, situation: str, integration: Any) -> object:
        """Make one call through the adapter; a response gives its status, anything else raises.

        SIGSTOP and SIGKILL are sent by who calls this: then the situation is `in_flight`, or "well" for a server that
        is frozen.
        """
        raise NotImplementedError


class Cell(NamedTuple):
    """What came of a situation: what the caller got, how it counted, and what a deadline makes of it ("" if nothing)."""

    got: str
    category: str
    breaker: str
    deadline: str


def rows() -> list[Row]:
    """All rows there are, in order of their modules."""
    found: list[Row] = []
    for path in sorted(HERE.glob("rows_*.py")):
        found += importlib.import_module(f"tests.adapters.{path.stem}").ROWS
    return found


def observe(row: Row, situation: str, server: Server) -> Cell:
    """Bring a situation about, and say what came of it."""
    expected = SITUATIONS[situation]
    slow = _call(row, situation, server, read=LONG, overall=DEADLINE) if expected.hangs else None
    if slow is not None:
        assert DEADLINE * 0.5 <= slow.took < DEADLINE + AT_ONCE, (
            f"a deadline of {DEADLINE} s came after {slow.took:.3f} s"
        )
    read = READ if expected.hangs else LONG
    told = (
        slow
        if slow is not None and expected.drips and not row.whole
        else _call(row, situation, server, read=read, overall=LONG)
    )
    assert told.took < AT_ONCE, f"it took {told.took:.3f} s"
    deadline = slow.got if slow is not None else ""
    if situation.startswith("429"):
        hurried = _call(row, situation, server, read=LONG, overall=3.0, retries=3)
        assert hurried.took < AT_ONCE, "it waited for what cannot come in time"
        deadline = f"{hurried.got}, at once"
    return Cell(told.got, told.category, told.breaker, deadline)


class _Call(NamedTuple):
    got: str
    category: str
    breaker: str
    took: float


def _call(row: Row, situation: str, server: Server, *, read: float, overall: float, retries: int = 0) -> _Call:
    integration = Registry().integration(
        "peer",
        row.type,
        timeouts={"connect": LONG, "read": read, "write": LONG, "overall": overall},
        retry_policy={"max_retries": retries, "initial_delay": 0.01},
        circuit_breaker={"timeout": overall, "failure_threshold": 5},
    )
    with _signals(row, situation, server) as asked:
        began = time.monotonic()
        try:
            status = row.provoke(server, asked, integration)
        except Exception as error:
            got, category = _name_of(error), str(classify_error(error))
        else:
            assert isinstance(status, int), f"{situation}: it went well, and gave {status!r}"
            got = f"response {status}"
            category = str(failure_of_status(status) or category_of_status(status))
        took = time.monotonic() - began
    return _Call(got, category, _effect(integration, 2 if situation in row.repeats else 1), took)


@contextlib.contextmanager
def _signals(row: Row, situation: str, server: Server) -> Iterator[str]:
    if situation == "server SIGSTOP":
        server.freeze()
        try:
            yield "well"
        finally:
            server.thaw()
    elif situation == "server SIGKILL":
        timer = threading.Timer(0.1, server.kill)
        timer.start()
        try:
            yield row.in_flight
        finally:
            timer.join()
            server.revive()
    else:
        yield situation


def _name_of(error: BaseException) -> str:
    package, name = type(error).__module__.partition(".")[0], type(error).__qualname__
    if name == "DeadlineError":  # ours and the client's: say whose handlers see it
        theirs = next(base for base in type(error).__bases__ if base.__module__.partition(".")[0] != "failsoft")
        return f"IntegrationTimeoutError, {theirs.__module__.partition('.')[0]}.{theirs.__qualname__}"
    return name if package in ("failsoft", "builtins") else f"{package}.{name}"


def _effect(integration: Any, times: int) -> str:
    totals = [record.totals_of(False) for record in integration.recorded]
    calls, failures = sum(each[0] for each in totals), sum(each[2] for each in totals)
    ignored = sum(record.events()[EVENTS.index("ignored")] for record in integration.recorded)
    assert calls + ignored == times, f"it counted {calls} times, and was ignored {ignored} times"
    assert integration.status().failures == failures, "the breaker has not seen what was recorded"
    return "ignored" if ignored else "failure" if failures else "success"


def check(row: Row, situation: str, cell: Cell) -> None:
    """Whether a cell is what it has to be."""
    expected = SITUATIONS[situation]
    category, breaker = row.differs.get(situation, (expected.category, expected.breaker))[:2]
    assert (cell.category, cell.breaker) == (category, breaker), f"{row.name}, {situation}: {cell}"
    assert bool(cell.deadline) == (expected.hangs or situation.startswith("429"))


# ---- the record, and the docs


def recorded() -> dict[str, dict[str, Cell]]:
    return {name: {situation: Cell(*cell) for situation, cell in row.items()} for name, row in json.loads(RECORD.read_text()).items()}  # fmt: skip


def summary() -> str:
    """The table of docs/adapters.md."""
    all_rows = rows()
    lines = [f"Rows: {', '.join(row.name for row in all_rows)}.", ""]
    lines += ["| the server | category | breaker | but |", "| --- | --- | --- | --- |"]
    for situation, expected in SITUATIONS.items():
        others: dict[str, list[str]] = {}
        for row in all_rows:
            if situation in row.impossible:
                others.setdefault(f"impossible. {row.impossible[situation]}", []).append(row.name)
            if situation in row.differs:
                category, breaker, why = row.differs[situation]
                others.setdefault(f"{category}, {breaker}. {why}", []).append(row.name)
            if situation in row.repeats:
                others.setdefault(f"twice. {row.repeats[situation]}", []).append(row.name)
        but = " ".join(f"{', '.join(names)}: {what}" for what, names in others.items())
        lines.append(f"| **{situation}**: {expected.what} | {expected.category} | {expected.breaker} | {but} |")
    return "\n".join(lines)


def details(record: dict[str, dict[str, Cell]]) -> str:
    """docs/adapters-matrix.md."""
    lines = [
        "# What every adapter makes of every failure",
        "",
        "Provoked against real servers, and written by `python -m tests.adapters.matrix`. *At a deadline* is what the",
        "caller gets when the overall deadline or one around the call ends it first.",
    ]
    for row in rows():
        lines += [
            "",
            f"## {row.name}",
            "",
            *([row.note, ""] if row.note else []),
            "| the server | the caller gets | category | breaker | at a deadline |",
        ]
        lines.append("| --- | --- | --- | --- | --- |")
        for situation in SITUATIONS:
            if situation in row.impossible:
                lines.append(f"| {situation} | impossible: {row.impossible[situation]} | | | |")
            else:
                lines.append(f"| {situation} | {' | '.join(record[row.name][situation])} |")
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """docs/adapters.md with its table made anew."""
    table = f"{BEGIN}\n{summary()}\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: table, text, flags=re.DOTALL)


def main() -> None:
    record: dict[str, dict[str, Cell]] = {}
    with contextlib.ExitStack() as stack:
        servers: dict[type[Server], Server] = {}
        for row in rows():
            server = servers.get(row.server)
            if server is None:
                server = servers[row.server] = stack.enter_context(row.server())
            row.prepare()
            record[row.name] = {}
            for situation in SITUATIONS:
                if situation in row.impossible:
                    continue
                cell = record[row.name][situation] = observe(row, situation, server)
                check(row, situation, cell)
                print(f"{row.name:16} {situation:18} {' | '.join(cell)}", file=sys.stderr)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    DETAILS.write_text(details(record))
    PAGE.write_text(page(PAGE.read_text()))


if __name__ == "__main__":
    main()
