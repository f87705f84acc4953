"""What one look at an integration gives: counts since the start, and numbers of the rolling window."""

from __future__ import annotations

import math

from .._core import EVENTS
from ..metrics import OperationMetrics, quantiles_of, read_metrics
from ..records import Record
from .names import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeAlias

    from .._core import Operation
    from ..config import CircuitBreakerConfig
    from ..decisions import Explanation

    Numbers: TypeAlias = dict[str, Any]

BANDS = 32
"""Rows of the latency heat strip: four a decade, from 1 µs to 100 s."""

OPERATIONS_MOST = 50
DECISIONS_MOST = 60
LINES_MOST = 24
LINE_MOST = 300

_SHOWN = ("retries", "fallbacks", "deduplicated", "rejected", "timeouts", "hedges")
_PLACES = {name: EVENTS.index(name) for name in _SHOWN}


class Counts(Record):
    """What the calls of an integration have come to since the start, all operations together."""

    calls: int = 0
    failures: int = 0
    timeouts: int = 0
    rejected: int = 0
    fallbacks: int = 0
    retries: int = 0

    def since(self, before: Counts) -> Counts:
        """What has come since, never below nothing: a process that leaves may take counts with it."""
        return Counts(
            max(self.calls - before.calls, 0),
            max(self.failures - before.failures, 0),
            max(self.timeouts - before.timeouts, 0),
            max(self.rejected - before.rejected, 0),
            max(self.fallbacks - before.fallbacks, 0),
            max(self.retries - before.retries, 0),
        )


def counts_of(operations: Iterable[Operation]) -> Counts:
    """Add up operations."""
    calls = failures = 0
    events = [0] * len(EVENTS)
    for operation in operations:
        some, _ns, failed, _slow = operation.totals_of(False)
        calls, failures = calls + some, failures + failed
        for place, count in enumerate(operation.events()):
            events[place] += count
    return Counts(
        calls,
        failures,
        events[_PLACES["timeouts"]],
        events[_PLACES["rejected"]],
        events[_PLACES["fallbacks"]],
        events[_PLACES["retries"]],
    )


def cells_of(operations: Iterable[Operation]) -> dict[int, int]:
    """{middle in ns: count since the start} of operations together."""
    cells: dict[int, int] = {}
    for operation in operations:
        for middle, count in operation.cells():
            cells[middle] = cells.get(middle, 0) + count
    return cells


def window_of(one: Any) -> float:
    """Seconds of the rolling window of an integration, of a registry's or an arena's."""
    window: float = one.window if hasattr(one, "window") else one.config.circuit_breaker.window
    return window


def settings_of(one: Any) -> CircuitBreakerConfig | None:
    """What the breaker of an integration goes by, of a registry's or an arena's."""
    settings: CircuitBreakerConfig | None = one.config.circuit_breaker if hasattr(one, "config") else one.settings
    return settings


def recently(operations: Iterable[Operation], window: float) -> OperationMetrics:
    """The numbers of the rolling window, all operations together."""
    recent = read_metrics([(operation, None) for operation in operations], window).recent
    assert recent is not None  # only of `recent` itself is there none
    return recent


def heat(cells: dict[int, int]) -> list[int]:
    """Band, count, band, count, ...: of the bands that hold anything."""
    bands: dict[int, int] = {}
    for middle, count in cells.items():
        band = min(max(int(4 * math.log10(max(middle, 1) / 1e3)), 0), BANDS - 1)
        bands[band] = bands.get(band, 0) + count
    return [number for pair in sorted(bands.items()) for number in pair]


def latencies(cells: dict[int, int]) -> list[float] | None:
    """p50, p95 and p99 in seconds; None without a call."""
    return [rounded(value) for value in quantiles_of(cells)] if cells else None


def rounded(value: float | None) -> Any:
    """Four digits, which is more than anybody reads; None for what is no number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")


def numbers_of(metrics: OperationMetrics) -> Numbers:
    """An operation's row: latencies in seconds, None where nothing was counted."""
    counted = metrics.count > 0
    return {
        "count": metrics.count,
        "errors": rounded(metrics.error_rate) if counted else None,
        "mean": rounded(metrics.avg_latency) if counted else None,
        "p50": rounded(metrics.p50_latency) if counted else None,
        "p95": rounded(metrics.p95_latency) if counted else None,
        "p99": rounded(metrics.p99_latency) if counted else None,
    }


def operations_of(one: Any) -> list[Numbers]:
    """A row for each operation: the rolling window, and what it has come to since the start."""
    rows = []
    for name, operation in list(zip(one.operations, one.recorded, strict=False))[:OPERATIONS_MOST]:
        metrics = read_metrics([(operation, None)], window_of(one))
        recent = metrics.recent or OperationMetrics()
        totals = {field: getattr(metrics, field) for field in _PLACES}
        rows.append({"name": shown(name), **numbers_of(recent), "total": metrics.count, **totals})
    return rows


def processes_of(source: Any, one: Any) -> list[Numbers] | None:
    """A row for each process that shares it; None where nobody does."""
    if not hasattr(one, "slots") or not hasattr(source, "processes"):
        return None
    seats, rows = set(one.slots), []
    for process in source.processes():
        if process.slot in seats:
            total = one.total(slot=process.slot)
            rows.append(
                {
                    "pid": process.pid,
                    "name": shown(process.name),
                    "alive": process.alive,
                    "age": rounded(process.age),
                    **numbers_of(total.recent or OperationMetrics()),
                    "total": total.count,
                    "rejected": total.rejected,
                    "fallbacks": total.fallbacks,
                }
            )
    return rows


def why(explanation: Explanation) -> list[str]:
    """The first lines of an explanation, those above the decisions."""
    lines = str(explanation).split("\n")
    above = lines[: len(lines) - len(explanation.decisions)] if explanation.decisions else lines
    return [shown(line.strip(), LINE_MOST) for line in above[:LINES_MOST]]


def decisions_of(explanation: Explanation) -> list[Numbers]:
    """The last decisions, newest first."""
    return [
        {
            "kind": decision.kind,
            "text": shown(decision.text, LINE_MOST),
            "age": rounded(decision.latest),
            "first": rounded(decision.age),
            "count": decision.count,
        }
        for decision in sorted(explanation.decisions, key=lambda d: d.latest)[:DECISIONS_MOST]
    ]
