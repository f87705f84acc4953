"""What the calls of an operation came to, as numbers to look at.

Everything here reads what guards write, without stopping them and without a lock that they would see.
"""

from __future__ import annotations

from collections.abc import Iterable

from ._core import EVENTS, LatencyView, Operation, now_ns
from .records import Record, field_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .registry import Registry

QUANTILES = (0.5, 0.95, 0.99)

OVERFLOW = "(overflow)"
"""The operation that counts for all that came after a registry's `max_operations`."""


class OperationMetrics(Record):
    """One operation's numbers, read at one moment. Latencies in seconds, 0.0 while nothing has been counted.

    `count` is how many attempts ended in success or failure, and `error_count` how many of them failed by the
    breaker's rules (see `CircuitBreakerConfig.trip_on`). `retries` are attempts after the first, `fallbacks` calls that
    a fallback answered, `deduplicated` calls that shared the execution of another, `rejected` calls the gate refused,
    `timeouts` attempts that took longer than they may, `hedges` second attempts beside a slow first one. All since the
    start or the last reset; `recent` is the same over the rolling window, in which only count, latencies and errors are
    kept.
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
    hedges: int = 0

    def as_dict(self) -> dict[str, object]:
        """All fields by name, ready for JSON."""
        numbers: dict[str, object] = {name: getattr(self, name) for name in field_names(OperationMetrics)}
        numbers["recent"] = self.recent.as_dict() if self.recent else None
        return numbers


class Baseline:
    """What an operation had come to when its metrics were reset. The breaker's windows know nothing of it."""

    __slots__ = ("at", "cells", "events", "totals")

    def __init__(self, operation: Operation) -> None:
        self.at = now_ns()
        self.totals = operation.totals_of(False)
        self.events = operation.events()
        self.cells = dict(operation.cells())


class IntegrationMetrics:
    """The metrics of a registry's operations, by name."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def get_metrics(self, integration: str, operation: str) -> OperationMetrics:
        """The numbers of one operation. KeyError where there is none of this name."""
        return self._registry[integration].metrics(operation)

    def get_metrics_summary(self) -> dict[str, OperationMetrics]:
        """The numbers of every operation, by "integration.operation", and of keys by "integration[key].operation"."""
        return {
            f"{integration.name}.{operation}": integration.metrics(operation)
            for integration in self._registry.with_shards()
            for operation in integration.operations
        }

    def reset(self, integration: str | None = None, operation: str | None = None) -> None:
        """Count anew: one operation, all of an integration, or all. Breakers and their windows stay as they are.

        KeyError for a name that is not known, and nothing is counted anew then.
        """
        if integration is None and operation is not None:
            raise TypeError(f"operation {operation!r} needs the integration it belongs to")
        chosen = self._registry.with_shards() if integration is None else (self._registry[integration],)
        for one in chosen:
            one.reset_metrics(operation)


def read_metrics(operations: Iterable[tuple[Operation, Baseline | None]], window: float) -> OperationMetrics:
    """The numbers of operations together, each less what it had come to when it was last reset."""
    parts = list(operations)
    if not parts:
        return OperationMetrics(recent=OperationMetrics())
    if len(parts) == 1 and parts[0][1] is None:
        operation = parts[0][0]
        # Lately first: what comes while we read must not make it more than there ever was.
        recent = _calls(operation, operation.recent, True)
        ever = _calls(operation, operation, False)
    else:
        recent = _together(parts, now_ns() - round(window * 1e9))
        ever = _together(parts, None)
    counted = dict.fromkeys(EVENTS, 0)
    for operation, base in parts:
        before = base.events if base else (0,) * len(EVENTS)
        for name, count, was in zip(EVENTS, operation.events(), before, strict=True):
            counted[name] += count - was
    return OperationMetrics(
        **ever,
        retries=counted["retries"],
        fallbacks=counted["fallbacks"],
        deduplicated=counted["deduplicated"],
        rejected=counted["rejected"],
        timeouts=counted["timeouts"],
        hedges=counted["hedges"],
        recent=OperationMetrics(**recent),
    )


def _calls(operation: Operation, view: LatencyView, recent: bool) -> dict[str, Any]:
    count, summed, failures, _slow = operation.totals_of(recent)
    return _fields(count, summed, failures, view.quantiles(QUANTILES)) if count else {}


def _fields(count: int, summed: int, failures: int, quantiles: tuple[float, ...]) -> dict[str, Any]:
    return {
        "count": count,
        "avg_latency": summed / 1e9 / count,
        "p50_latency": quantiles[0],
        "p95_latency": quantiles[1],
        "p99_latency": quantiles[2],
        "error_count": failures,
        "error_rate": failures / count,
    }


def _together(parts: list[tuple[Operation, Baseline | None]], since: int | None) -> dict[str, Any]:
    """Of several operations, or after a reset. `since`: over the window that began then, or since a later reset."""
    cells: dict[int, int] = {}
    calls = summed = failures = 0
    for operation, base in parts:
        # Of two spans of time that both end now, what is in the shorter one is in both.
        windowed = since is not None and (base is None or base.at < since)
        before = None if windowed else base
        some, more, failed, _slow = operation.totals_of(windowed)
        seen = dict((operation.recent if windowed else operation).cells())
        if before is not None:
            some, more, failed = (now - was for now, was in zip((some, more, failed), before.totals, strict=False))
            seen = {middle: count - before.cells.get(middle, 0) for middle, count in seen.items()}
        calls, summed, failures = calls + some, summed + more, failures + failed
        for middle, count in seen.items():
            cells[middle] = cells.get(middle, 0) + count
    return _fields(calls, summed, failures, quantiles_of(cells)) if calls else {}


def quantiles_of(cells: dict[int, int]) -> tuple[float, ...]:
    """The QUANTILES in seconds of (middle in ns -> count), 0.0 without any: the ceil(q * n)-th smallest, as in C."""
    total = sum(cells.values())
    if not total:
        return (0.0,) * len(QUANTILES)
    answers, passed, ordered = [], 0, iter(sorted(cells.items()))
    middle = 0
    for share in QUANTILES:
        while passed < share * total:
            middle, count = next(ordered)
            passed += count
        answers.append(middle / 1e9)
    return tuple(answers)
