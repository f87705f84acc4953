"""The rows of the live table, read from the guards themselves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from failsoft._core import AsyncGuard, Guard


class Row(NamedTuple):
    """One guarded operation at one moment. Latencies are seconds."""

    name: str
    state: str
    rate: float
    """Calls a second since the previous reading."""
    p50: float
    p95: float
    p99: float
    errors: int
    refused: int
    fallbacks: int


class Gauges:
    """Reads all guards at once, and knows the previous reading for the rates."""

    def __init__(self, guards: Sequence[Guard[..., Any] | AsyncGuard[..., Any]]) -> None:
        self._guards = guards
        self._counts = [0] * len(guards)
        self._read_at = time.monotonic()

    def read(self) -> list[Row]:
        now = time.monotonic()
        elapsed = max(now - self._read_at, 1e-3)
        self._read_at = now
        rows = []
        for index, guard in enumerate(self._guards):
            metrics = guard.metrics()
            rate = (metrics.count - self._counts[index]) / elapsed
            self._counts[index] = metrics.count
            rows.append(
                Row(
                    f"{guard.integration.name}.{guard.operation}",
                    str(guard.integration.status().state),
                    rate,
                    metrics.p50_latency,
                    metrics.p95_latency,
                    metrics.p99_latency,
                    metrics.error_count,
                    metrics.rejected,
                    metrics.fallbacks,
                )
            )
        return rows
