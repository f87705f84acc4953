"""Three ways to watch the run: a live table, plain lines, or nothing at all (`--json`)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from failsoft.demo.gauges import Row
from failsoft.demo.report import span


class Screen(Protocol):
    """What the scenario shows its progress on."""

    def running(self, seconds: float) -> AbstractContextManager[object]:
        """Wraps the scenario, which lasts about `seconds`."""
        ...

    def say(self, line: str) -> None:
        """One line that stays."""
        ...

    def step(self, title: str) -> None:
        """The scenario goes on to something else."""
        ...

    def show(self, rows: Sequence[Row], position: float) -> None:
        """The latest readings, `position` seconds into the plan. Called several times a second."""
        ...


class Silence:
    """Shows nothing: standard output belongs to the JSON object."""

    def running(self, seconds: float) -> AbstractContextManager[object]:
        return nullcontext()

    def say(self, line: str) -> None:
        pass

    def step(self, title: str) -> None:
        pass

    def show(self, rows: Sequence[Row], position: float) -> None:
        pass


class PlainLines:
    """For pipes and logs: the lines that are said, and the readings at the end of every step."""

    def __init__(self) -> None:
        self._rows: Sequence[Row] = ()

    def running(self, seconds: float) -> AbstractContextManager[object]:
        return nullcontext()

    def say(self, line: str) -> None:
        print(line, flush=True)

    def step(self, title: str) -> None:
        for row in self._rows:
            name, state, rate, *latencies, errors, refused, fallbacks = _cells(row)
            self.say(
                f"           {name:<16} {state:<9} {rate:>8}  p50/p95/p99 {' / '.join(latencies):<28}"
                f" {errors} errors, {refused} refused, {fallbacks} fallbacks"
            )
        self._rows = ()

    def show(self, rows: Sequence[Row], position: float) -> None:
        self._rows = rows


class LiveTable:
    """For a terminal: one table that changes in place over a progress bar."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<24}"), BarColumn(bar_width=None), TimeElapsedColumn(), expand=True
        )
        self._live = Live(console=self._console, auto_refresh=False)
        self._task = self._progress.add_task("warm-up")

    def running(self, seconds: float) -> AbstractContextManager[object]:
        self._progress.update(self._task, total=seconds)
        return self._live

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def step(self, title: str) -> None:
        self._progress.update(self._task, description=title)

    def show(self, rows: Sequence[Row], position: float) -> None:
        self._progress.update(self._task, completed=position)
        self._live.update(Group(_table(rows), self._progress), refresh=True)


def choose_screen(*, silent: bool) -> Screen:
    if silent:
        return Silence()
    return LiveTable() if sys.stdout.isatty() else PlainLines()


_COLUMNS = ("call", "state", "rate", "p50", "p95", "p99", "errors", "refused", "fallbacks")
_COLOURS = {"CLOSED": "green", "OPEN": "red", "HALF_OPEN": "yellow"}


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        row.state,
        f"{row.rate:,.0f}/s",
        span(row.p50),
        span(row.p95),
        span(row.p99),
        f"{row.errors:,}",
        f"{row.refused:,}",
        f"{row.fallbacks:,}",
    )


def _table(rows: Sequence[Row]) -> Table:
    table = Table(expand=True)
    for column in _COLUMNS:
        justify: Literal["left", "right"] = "left" if column in ("call", "state") else "right"
        table.add_column(column, justify=justify, no_wrap=True, min_width=9)
    for row in rows:
        name, state, *numbers = _cells(row)
        table.add_row(name, Text(state, style=_COLOURS.get(state, "magenta")), *numbers)
    return table
