"""What the calls of an operation came to, as numbers to look at."""

from __future__ import annotations

from ._core import EVENTS, LatencyView, Operation
from .records import Record, field_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

QUANTILES = (0.5, 0.95, 0.99)


class OperationMetrics(Record):
    """One operation's numbers, read at one moment. Latencies in seconds, 0.0 while nothing has been counted.

    `count` is how many attempts ended in success or failure, and `error_count` how many of them failed by the
    breaker's rules (see `CircuitBreakerConfig.trip_on`). `retries` are attempts after the first, `rejected` calls the
    gate refused, `timeouts` attempts that took longer than they may. All since the start; `recent` is the same over
    the rolling window, in which only count, latencies and errors are kept.
    """

    count: int = 0
    avg_latency: float = 0.0
    p50_latency: float = 0.0
    p95_latency: float = 0.0
    p99_latency: float = 0.0
    error_count: int = 0
    error_rate: float = 0.0
    retries: int = 0
    fallbacks: int = 0
    deduplicated: int = 0
    rejected: int = 0
    timeouts: int = 0
    recent: OperationMetrics | None = None

    def as_dict(self) -> dict[str, object]:
        """All fields by name, ready for JSON."""
        numbers: dict[str, object] = {name: getattr(self, name) for name in field_names(OperationMetrics)}
        numbers["recent"] = self.recent.as_dict() if self.recent else None
        return numbers


def read_metrics(operation: Operation) -> OperationMetrics:
    """The numbers of an operation now."""
    events = dict(zip(EVENTS, operation.events(), strict=True))
    recent = OperationMetrics(**_calls(operation, operation.recent, recent=True))
    return OperationMetrics(
        **_calls(operation, operation, recent=False),
        retries=events["retries"],
        fallbacks=events["fallbacks"],
        deduplicated=events["deduplicated"],
        rejected=events["rejected"],
        timeouts=events["timeouts"],
        recent=recent,
    )


def _calls(operation: Operation, view: LatencyView, *, recent: bool) -> dict[str, Any]:
    count, summed, failures, _slow = operation.totals_of(recent)
    if not count:
        return {}
    p50, p95, p99 = view.quantiles(QUANTILES)
    return {
        "count": count,
        "avg_latency": summed / 1e9 / count,
        "p50_latency": p50,
        "p95_latency": p95,
        "p99_latency": p99,
        "error_count": failures,
        "error_rate": failures / count,
    }
