"""Rows as lines of text: columns that fit the width, in colours where they are wanted."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from failsoft.cli.inert import shown
from failsoft.cli.rows import Row
from failsoft.records import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NAME_LEAST, NAME_MOST = 16, 48
"""Cells of the first column."""

COLOURS = {
    "CLOSED": "green", "alive": "green", "OPEN": "red", "FORCED_OPEN": "red", "HALF_OPEN": "yellow",
    "METRICS_ONLY": "magenta", "DISABLED": "magenta", "gone": "dim",
}  # fmt: skip


class Column(Record):
    """A column: the field it shows, its title, its width in cells, and how a value is written."""

    field: str
    title: str
    width: int
    write: Callable[[float], str]


def duration(seconds: float) -> str:
    """In the unit that fits it: 870ns, 1.25ms, 31.2s."""
    for unit, scale in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * scale:
            return f"{seconds / scale:.3g}{unit}"
    return f"{seconds:.3g}s" if seconds < 1000 else f"{seconds / 60:.0f}min"


def number(value: float) -> str:
    """At most seven characters: 0.2, 17, 12,345, 1.2M."""
    if value < 10 and value != int(value):
        return f"{value:.1f}"
    if value < 99_999.5:
        return f"{value:,.0f}"
    for unit, scale in (("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)):
        if value < 999.5 * scale:
            return f"{value / scale:.4g}{unit}"
    return f"{value:.2g}"


def percent(share: float) -> str:
    """0%, 0.3%, 12%, 100%."""
    hundredths = share * 100
    return f"{hundredths:.1f}%" if 0 < hundredths < 9.95 else f"{hundredths:.0f}%"


COLUMNS = (
    Column("state", "STATE", 12, str),
    Column("capacity", "LEVEL", 6, percent),
    Column("rate", "CALLS/S", 8, number),
    Column("p50", "P50", 7, duration),
    Column("p95", "P95", 7, duration),
    Column("p99", "P99", 7, duration),
    Column("errors", "ERRORS", 6, percent),
    Column("fallbacks", "FALLBACK", 8, percent),
    Column("retries", "RETRY/S", 8, number),
    Column("unpaid", "NO BUDGET", 9, number),
    Column("rejected", "REJECT/S", 8, number),
    Column("processes", "PROCS", 5, number),
)

SORTS = ("name", *(column.field for column in COLUMNS))
"""What a table can be sorted by."""

_FIRST_TO_GO = (
    "unpaid",
    "processes",
    "p95",
    "retries",
    "fallbacks",
    "p50",
    "capacity",
    "rejected",
    "errors",
    "p99",
    "rate",
)
"""Where the terminal is narrow."""


def columns_for(width: int | None) -> tuple[Column, ...]:
    """The columns that fit beside a name."""
    kept: tuple[Column, ...] = COLUMNS
    for field in _FIRST_TO_GO:
        if width is None or NAME_LEAST + sum(column.width + 1 for column in kept) <= width:
            break
        kept = tuple(column for column in kept if column.field != field)
    return kept


def sorted_rows(rows: Sequence[Row], by: str, reverse: bool) -> list[Row]:
    """By a field, what cannot be told last; parts stay under their integration."""
    groups: list[list[Row]] = []
    for row in rows:
        if row.under is None or not groups:
            groups.append([])
        groups[-1].append(row)
    known = [group for group in groups if getattr(group[0], by) is not None]
    unknown = [group for group in groups if getattr(group[0], by) is None]
    known.sort(key=lambda group: group[0].name)
    known.sort(key=lambda group: getattr(group[0], by), reverse=reverse)
    return [row for group in [*known, *unknown] for row in group]


def lines_of(
    rows: Sequence[Row],
    *,
    width: int | None,
    by: str | None = None,
    chosen: int | None = None,
    first: str = "INTEGRATION",
) -> list[Text]:
    """A line of titles and one for each row, none wider than `width` cells. `chosen` is the row under the cursor."""
    columns = columns_for(width)
    room = None if width is None else width - sum(column.width + 1 for column in columns)
    names = [_name(row) for row in rows]
    longest = max([NAME_LEAST, *map(cell_len, names)])
    name_width = max(1, min(longest, NAME_MOST, room if room is not None else longest))
    titles = Text(set_cell_size(first, name_width), style="bold underline" if by == "name" else "bold")
    for column in columns:
        title = column.title.ljust(column.width) if column.field == "state" else column.title.rjust(column.width)
        titles.append(" " + title, style="underline" if by == column.field else "")
    lines = [titles]
    for at, (row, name) in enumerate(zip(rows, names, strict=True)):
        line = Text(set_cell_size(name, name_width), style="reverse" if at == chosen else "")
        if row.under is not None:
            line.stylize("dim")
        for column in columns:
            line.append(" ")
            line.append(_cell(row, column), style=_colour(row, column))
        lines.append(line)
    if width is not None:
        for line in lines:
            line.truncate(width)
    return lines


def _name(row: Row) -> str:
    return shown(row.name, NAME_MOST) if row.under is None else "  " + shown(row.name, NAME_MOST - 2)


def _cell(row: Row, column: Column) -> str:
    value = getattr(row, column.field)
    if column.field == "state":
        return (value or "").ljust(column.width)
    if value is None:
        return ("" if row.under and column.field in ("capacity", "unpaid", "processes") else "-").rjust(column.width)
    return column.write(value).rjust(column.width)


def _colour(row: Row, column: Column) -> str:
    value = getattr(row, column.field)
    if column.field == "state":
        return COLOURS.get(value or "", "")
    if column.field == "capacity" and value is not None and value < 1.0:
        return "yellow"
    return "red" if column.field in ("errors", "rejected", "unpaid") and value else ""


def width_of_output() -> int | None:
    """Of the terminal that is written to; None: it is none, and lines may be as long as they are."""
    return Console().width if sys.stdout.isatty() else None


def print_lines(lines: Sequence[Text]) -> None:
    """Lines to standard output: in colours on a terminal, elsewhere without any control character."""
    console = Console(highlight=False)
    for line in lines:
        if sys.stdout.isatty():
            console.print(line, soft_wrap=True)
        else:
            print(line.plain.rstrip())
