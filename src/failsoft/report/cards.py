"""How values look in a notebook: a small table or a curve, in the notebook's own colours, light or dark."""

from __future__ import annotations

from collections.abc import Iterable

from .. import decisions
from ..breakers import BreakerStatus
from ..metrics import OperationMetrics
from ..records import Record, field_names
from .drawing import badge, curve
from .text import count, inert, latency, percent, span, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .._core import LatencyView

ROWS_MOST = 40
DECISIONS_MOST = 20
SHARDS_MOST = 20

_CELL = "padding:1px 10px 1px 0;text-align:left;vertical-align:top;border:0;background:none"
_HEAD = f"{_CELL};opacity:.7;font-weight:400"

_SHARES = ("error_rate", "failure_rate", "capacity", "throttled", "share")
_ROWS = (
    ("calls", "count", count),
    ("mean", "avg_latency", latency),
    ("p50", "p50_latency", latency),
    ("p95", "p95_latency", latency),
    ("p99", "p99_latency", latency),
    ("errors", "error_count", count),
    ("error rate", "error_rate", percent),
)
_EVENTS = ("retries", "fallbacks", "deduplicated", "rejected", "timeouts", "hedges")


def card(record: Record) -> str:
    """A record as HTML."""
    if isinstance(record, OperationMetrics):
        return _metrics(record)
    if isinstance(record, BreakerStatus):
        return _framed(_breaker(record))
    if isinstance(record, decisions.Explanation):
        return _explanation(record)
    title = f"<b>{inert(type(record).__name__)}</b>"
    rows = [(name, _value(name, getattr(record, name))) for name in field_names(type(record))[:ROWS_MOST]]
    return _framed(title + _table(rows))


def histogram(view: LatencyView) -> str:
    """A latency histogram as HTML: its percentiles and their curve."""
    total = view.count
    if not total:
        return _framed("<b>LatencyHistogram</b> no values yet")
    p50, p95, p99 = view.quantiles()
    numbers = [("values", count(total)), ("mean", latency(view.mean)), ("p50", latency(p50)), ("p95", latency(p95)),
               ("p99", latency(p99)), ("max", latency(view.max))]  # fmt: skip
    return _framed(_across(numbers) + curve([("latency", view.cells())], 480, 180))


def _metrics(metrics: OperationMetrics) -> str:
    recent = metrics.recent
    lines = [f'<tr><th style="{_HEAD}"></th><th style="{_HEAD}">since the start</th>'
             + (f'<th style="{_HEAD}">lately</th>' if recent else "") + "</tr>"]  # fmt: skip
    for title, field, words in _ROWS:
        cells = [_known(one, field, words) for one in (metrics, recent) if one is not None]
        shown = "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells)
        lines.append(f'<tr><th style="{_HEAD}">{title}</th>{shown}</tr>')
    for field in _EVENTS:
        number = getattr(metrics, field)
        if number:
            lines.append(f'<tr><th style="{_HEAD}">{field}</th><td style="{_CELL}">{count(number)}</td></tr>')
    return _framed(f'<table style="border-collapse:collapse;border:0">{"".join(lines)}</table>')


def _known(metrics: OperationMetrics, field: str, words: Any) -> str:
    """Without calls there is neither a rate nor a latency."""
    value: str = words(getattr(metrics, field)) if metrics.count or words is count else "\u2013"
    return value


def _breaker(status: BreakerStatus) -> str:
    rows = [
        ("for", span(status.age)),
        ("because", inert(status.reason) if status.reason else "\u2013"),
        ("failures", f"{status.failures} in a row"),
        ("failure rate", f"{percent(status.failure_rate)} of {count(status.sample_size)} calls"),
        ("capacity", percent(status.capacity)),
    ]
    if status.retry_after is not None:
        rows.append(("calls go again in", latency(status.retry_after)))
    if status.probes:
        rows.append(("probes under way", count(status.probes)))
    shards = list((status.shards or {}).items())
    rows += [(inert(key), badge(str(shard.state))) for key, shard in shards[:SHARDS_MOST]]
    if len(shards) > SHARDS_MOST:
        rows.append(("and", f"{count(len(shards) - SHARDS_MOST)} more keys"))
    return badge(str(status.state)) + _table(rows)


def _explanation(told: decisions.Explanation) -> str:
    lines = [f"<b>{inert(told.integration)}</b> {_breaker(told.status)}"]
    lines += [f"<div>{inert(line)}</div>" for line in (told.limited, told.budget) if line is not None]
    last = told.decisions[-DECISIONS_MOST:]
    if len(last) < len(told.decisions):
        lines.append(f'<div style="opacity:.7">the last {len(last)} of {len(told.decisions)} decisions</div>')
    lines.append(_table([(f"{span(one.age)} ago", inert(one.text, 300) + times(one)) for one in last]))
    return _framed("".join(lines))


def _value(name: str, value: object) -> str:
    if value is None:
        return "\u2013"
    if isinstance(value, float):
        return percent(value) if name in _SHARES else inert(f"{value:.6g}")
    return inert(value)


def _table(rows: Iterable[tuple[str, str]]) -> str:
    lines = [f'<tr><th style="{_HEAD}">{name}</th><td style="{_CELL}">{value}</td></tr>' for name, value in rows]
    return f'<table style="border-collapse:collapse;border:0">{"".join(lines)}</table>' if lines else ""


def _across(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f'<span style="margin-right:14px"><span style="opacity:.7">{name}</span> {value}</span>'
                    for name, value in rows)  # fmt: skip
    return f"<div>{cells}</div>"


def _framed(inside: str) -> str:
    return (
        '<div style="display:inline-block;max-width:100%;overflow-x:auto;font:13px/1.5 system-ui,sans-serif;'
        'color:inherit;border-left:3px solid #8884;padding:2px 0 2px 10px">'
        f"{inside}</div>"
    )
