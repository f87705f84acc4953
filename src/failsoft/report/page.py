"""The page of a report: one file of HTML with nothing to load and nothing to run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence

from ..metrics import quantiles_of
from ..records import Record, replace
from .drawing import COLOURS, badge, curve, ribbon
from .ribbons import length_of, states_of
from .text import count, inert, latency, percent, span, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Cells: TypeAlias = tuple[tuple[int, int], ...]

    from ..alerts import Notice
    from ..breakers import BreakerStatus
    from ..decisions import Explanation
    from ..metrics import OperationMetrics

INTEGRATIONS_MOST = 200
"""Integrations and keys that are shown in full; the rest is counted."""

OPERATIONS_MOST = 50
"""Of each."""

DECISIONS_MOST = 60

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1b1f; --quiet: #5c5f66; --line: #d9dbe0; --card: #f7f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #121316; --ink: #e4e4e8; --quiet: #a3a6ad; --line: #34363c; --card: #1b1c20; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 1.2rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 0; } h3 { font-size: 1rem; }
p, .quiet { color: var(--quiet); margin: .2rem 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 1rem; margin: 1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 7rem; }
th { font-weight: 600; color: var(--quiet); }
svg { display: block; margin: .6rem 0; }
a { color: inherit; }
ol { padding-left: 0; list-style: none; font-size: .9rem; } ol span { color: var(--quiet); display: inline-block; }
@media print { section { break-inside: avoid; } }
"""


class Part(Record):
    """All that a report tells of one integration, read at one moment."""

    name: str
    type: str
    status: BreakerStatus
    told: Explanation
    metrics: tuple[tuple[str, OperationMetrics], ...]
    cells: tuple[Cells, Cells]
    calls: int
    errors: int
    summed: float
    fallbacks: int
    rejected: int


def read(source: Any) -> list[Part]:
    """Read a source: what it has of each integration and of each key."""
    parts = [_part(integration) for integration in source.with_shards()]
    return [_with_keys(part, parts) if part.status.shards else part for part in parts]


def _with_keys(part: Part, parts: list[Part]) -> Part:
    """Its latencies and those of its keys together, as its metrics are."""
    keys = {f"{part.name}[{key}]" for key in part.status.shards or ()}
    family = [part, *(one for one in parts if one.name in keys)]
    ever, lately = (_added(one.cells[span] for one in family) for span in (0, 1))
    return replace(part, cells=(ever, lately))


def _added(many: Iterable[Cells]) -> Cells:
    cells: dict[int, int] = {}
    for one in many:
        for middle, number in one:
            cells[middle] = cells.get(middle, 0) + number
    return tuple(sorted(cells.items()))


def _part(integration: Any) -> Part:
    names, records = integration.operations, integration.recorded
    metrics = tuple((name, integration.metrics(name)) for name in names)
    return Part(
        name=integration.name,
        type=str(integration.type),
        status=integration.status(),
        told=integration.explain(),
        metrics=metrics,
        cells=(_added(one.cells() for one in records), _added(one.recent.cells() for one in records)),
        calls=sum(one.count for _, one in metrics),
        errors=sum(one.error_count for _, one in metrics),
        summed=sum(one.avg_latency * one.count for _, one in metrics),
        fallbacks=sum(one.fallbacks for _, one in metrics),
        rejected=sum(one.rejected for _, one in metrics),
    )


def page(parts: list[Part], title: str, notices: Iterable[Notice] = ()) -> str:
    """The whole file."""
    shown = parts[:INTEGRATIONS_MOST]
    ribbons = [states_of(str(part.status.state), part.told.decisions) for part in shown]
    length = length_of(ribbons)
    written = time.strftime("%Y-%m-%d %H:%M:%S %z")
    rest = len(parts) - len(shown)
    body = [
        f"<h1>{inert(title)}</h1>",
        f"<p>written {written} by process {os.getpid()}; {_standing(parts)}</p>",
        _overview(shown, rest),
        _alerts(list(notices)),
        *(_section(part, segments, length, at) for at, (part, segments) in enumerate(zip(shown, ribbons, strict=True))),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{inert(title)}</title><style>{_STYLE}</style></head>\n<body>\n" + "\n".join(filter(None, body))
        + "\n</body></html>\n"
    )  # fmt: skip


def _standing(parts: list[Part]) -> str:
    if not parts:
        return "no integration has been made"
    healthy = sum(part.status.state == "CLOSED" for part in parts)
    return f"{count(healthy)} of {count(len(parts))} circuits CLOSED"


def _overview(parts: list[Part], rest: int) -> str:
    if not parts:
        return ""
    head = (
        "integration",
        "circuit",
        "capacity",
        "calls",
        "errors",
        "mean",
        "p50",
        "p95",
        "p99",
        "fallbacks",
        "refused",
    )
    rows = []
    for at, part in enumerate(parts):
        p50, p95, p99 = quantiles_of(dict(part.cells[0])) if part.cells[0] else (float("nan"),) * 3
        rows.append((
            f'<a href="#i{at}">{inert(part.name)}</a> <span class="quiet">{inert(part.type)}</span>',
            badge(str(part.status.state)), percent(part.status.capacity), count(part.calls),
            percent(part.errors / part.calls if part.calls else None),
            latency(part.summed / part.calls if part.calls else float("nan")),
            latency(p50), latency(p95), latency(p99), count(part.fallbacks), count(part.rejected),
        ))  # fmt: skip
    more = f"<p>and {count(rest)} more that are not shown</p>" if rest else ""
    return f"<section><h2>Overview</h2>{_table(head, rows)}{more}</section>"


def _alerts(notices: list[Notice]) -> str:
    if not notices:
        return ""
    rows = [
        (inert(notice.rule), inert(notice.kind), inert(notice.severity),
         inert(f"{notice.integration}.{notice.operation}" if notice.operation else notice.integration),
         inert(notice.words), time.strftime("%H:%M:%S", time.localtime(notice.timestamp)))
        for notice in notices
    ]  # fmt: skip
    return f"<section><h2>Alerts</h2>{_table(('rule', 'what', 'severity', 'of', 'seen', 'at'), rows)}</section>"


def _section(part: Part, segments: list[Any], length: float, at: int) -> str:
    finite = [(state, min(began, length), ended) for state, began, ended in segments]
    occurring = dict.fromkeys(state for state, _, _ in finite)
    legend = " ".join(badge(state) for state in occurring if state in COLOURS)
    head = ("operation", "calls", "errors", "mean", "p50", "p95", "p99", "lately", "retries", "fallbacks", "refused",
            "timeouts", "shared")  # fmt: skip
    rows = [_operation(name, metrics) for name, metrics in part.metrics[:OPERATIONS_MOST]]
    rest = len(part.metrics) - len(rows)
    more = f"<p>and {count(rest)} more operations</p>" if rest else ""
    table = _table(head, rows) + more if rows else "<p>no operation has been guarded</p>"
    lines = [("since the start", part.cells[0])]
    if part.cells[1] != part.cells[0]:
        lines.append(("lately (dashed)", part.cells[1]))
    return (
        f'<section id="i{at}"><h2>{inert(part.name)} {badge(str(part.status.state))}</h2>'
        f'<p>{inert(part.type)}; states over the last {span(length)}: {legend}</p>'
        f"{ribbon(part.name, finite, length)}"
        f"<h3>Latency</h3><p>since the start, and dashed what is of lately</p>{curve(lines)}"
        f"<h3>Operations</h3>{table}{_decisions(part.told)}</section>"
    )  # fmt: skip


def _operation(name: str, metrics: OperationMetrics) -> tuple[str, ...]:
    recent = metrics.recent
    there = metrics.count > 0
    numbers = (metrics.avg_latency, metrics.p50_latency, metrics.p95_latency, metrics.p99_latency)
    lately = "\u2013" if recent is None or not recent.count else f"p99 {latency(recent.p99_latency)}"
    return (
        inert(name),
        count(metrics.count),
        percent(metrics.error_rate if there else None),
        *(latency(number if there else float("nan")) for number in numbers),
        lately,
        count(metrics.retries),
        count(metrics.fallbacks),
        count(metrics.rejected),
        count(metrics.timeouts),
        count(metrics.deduplicated),
    )


def _decisions(told: Explanation) -> str:
    said = [inert(line) for line in (told.limited, told.budget) if line is not None]
    lines = [
        f"<li><span>{span(one.age)} ago</span> {inert(one.text, 300)}{times(one)}</li>"
        for one in told.decisions[-DECISIONS_MOST:]
    ]
    if not lines:
        lines = ["<li>no decisions so far</li>"]
    first = "".join(f"<p>{line}</p>" for line in said)
    return f"<h3>Decisions</h3>{first}<ol>{''.join(lines)}</ol>"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'
