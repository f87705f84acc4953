"""The findings of many processes as one table, in plain text and in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from groups import Findings, Group, Row, Target


@dataclass(frozen=True, slots=True)
class Line:
    """One row over all processes: median, extremes, and how it stands to its target."""

    group: str
    figure: str
    against: str | None
    unit: str
    peer: bool
    median: float
    low: float
    high: float
    processes: int
    nanoseconds: float | None
    against_nanoseconds: float | None
    goal: float | None
    cap: float | None
    at_least: bool
    verdict: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def verdict(row: Row, value: float) -> str:
    if row.target is None:
        return _peer_verdict(value) if row.peer and row.against else ""
    cap = _judged(row.target, "cap", value, row.target.cap)
    if row.target.goal is None:
        return cap
    goal = _judged(row.target, "goal", value, row.target.goal)
    return goal if goal == "goal met" else f"{goal}, {cap}"


def _judged(target: Target, name: str, value: float, bound: float) -> str:
    excess = target.excess(value, bound)
    if excess <= 0:
        return f"{name} met"
    return f"{name.upper()} MISSED by {excess:.1%}" if bound else f"{name.upper()} MISSED by {value:g}"


def _peer_verdict(value: float) -> str:
    return f"PEER WINS, {number(1 / value)}x" if value < 1 else f"failsoft {number(value)}x cheaper"


def lines(group: Group, findings: Sequence[Findings]) -> list[Line]:
    return [line for row in group.rows if (line := _line(group.name, row, findings)) is not None]


def _line(group: str, row: Row, findings: Sequence[Findings]) -> Line | None:
    values = [found.values[row.key] for found in findings if row.key in found.values]
    if not values:
        return None
    median = statistics.median(values)
    return Line(
        group,
        row.figure,
        row.against if row.more_than is None else f"less {row.more_than}",
        row.unit,
        row.peer,
        median,
        min(values),
        max(values),
        len(values),
        _time(row.figure, findings),
        _time(row.against, findings),
        row.target.goal if row.target else None,
        row.target.cap if row.target else None,
        row.target.at_least if row.target else False,
        verdict(row, median),
    )


def _time(subject: str | None, findings: Sequence[Findings]) -> float | None:
    times = [found.nanoseconds[subject] for found in findings if subject in found.nanoseconds]
    return statistics.median(times) if times else None


HEADINGS = ("group", "figure", "against", "median", "min - max", "goal", "cap", "verdict", "ns", "ns against")


def cells(line: Line) -> tuple[str, ...]:
    bound = ">= " if line.at_least else "<= "
    return (
        line.group,
        line.figure,
        line.against or "",
        f"{number(line.median)} {line.unit}",
        f"{number(line.low)} - {number(line.high)}",
        bound + number(line.goal) if line.goal is not None else "",
        bound + number(line.cap) if line.cap is not None else "",
        line.verdict,
        number(line.nanoseconds),
        number(line.against_nanoseconds),
    )


def number(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.2g}" if value < 0.1 else f"{value:.3f}"


def plain(lines: Iterable[Line]) -> str:
    rows = [HEADINGS, *(cells(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def markdown(conditions: Mapping[str, object], lines: Iterable[Line], skipped: Mapping[str, str]) -> str:
    head = "".join(f"- {name}: {value}\n" for name, value in conditions.items())
    table = [HEADINGS, ("---",) * len(HEADINGS), *(cells(line) for line in lines)]
    body = "".join("| " + " | ".join(row) + " |\n" for row in table)
    tail = "".join(f"- left out: {name}: {reason}\n" for name, reason in skipped.items())
    return f"# failsoft, measured\n\n{head}\n{body}" + (f"\n{tail}" if tail else "")
