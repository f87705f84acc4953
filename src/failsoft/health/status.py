"""What is known of an integration's health: from its checks, or from its traffic where nobody checks."""

from __future__ import annotations

from ..config import CircuitState, IntegrationType
from ..metrics import QUANTILES, quantiles_of
from ..records import Record, field_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..integrations import Integration

FAILING = 0.5
"""Traffic of which this share fails is unhealthy even while the breaker is CLOSED: failures that alternate with
successes never make a row that trips it. Judged from `minimum_calls` on, as rates are."""


class HealthStatus(Record):
    """An integration's health at one moment. Latencies in seconds; None where there is nothing to tell.

    With a check (`checked`), `healthy` is the verdict of the checks, `latency` the last one's, and the percentiles and
    `error_rate` (0 to 1) are over the last hundred of them or so. Until the first verdict, `healthy` is the traffic's.

    Without one, all comes from the integration's guarded operations over their rolling window: it is `healthy` while
    its breaker is CLOSED and less than half of its calls fail, `latency` is the mean, `consecutive_failures` those
    that the breaker has counted, and `last_check` is None.

    `last_check` is in seconds since the epoch. `last_error` is what the most recent failed check said, also after
    later ones have passed. `state` is the breaker's.
    """

    integration_name: str
    integration_type: IntegrationType
    healthy: bool
    latency: float | None
    p50_latency: float | None
    p95_latency: float | None
    p99_latency: float | None
    error_rate: float | None
    consecutive_successes: int
    consecutive_failures: int
    last_check: float | None
    last_error: str | None
    checked: bool
    state: CircuitState

    def as_dict(self) -> dict[str, object]:
        """All fields by name, ready for JSON."""
        return {name: getattr(self, name) for name in field_names(HealthStatus)}

    def __str__(self) -> str:
        parts = [f"{self.integration_name}: {'healthy' if self.healthy else 'unhealthy'}"]
        if self.consecutive_failures:
            what = "check" if self.checked else "call"
            count = self.consecutive_failures
            failed = f"{count} {what}s failed in a row" if count > 1 else f"the last {what} failed"
            parts.append(f"{failed} ({self.last_error})" if self.last_error else failed)
        if self.error_rate is not None:
            parts.append(f"error rate {self.error_rate:.3g}")
        if self.p50_latency is not None:
            parts.append(f"p50/p95/p99 {self.p50_latency:.3g}/{self.p95_latency:.3g}/{self.p99_latency:.3g} s")
        parts.append(f"circuit {self.state}")
        return ", ".join(parts)


class Traffic:
    """The recent calls of all guarded operations of an integration, taken together, and its breaker's state."""

    __slots__ = ("healthy", "mean", "operations", "share", "state")

    def __init__(self, integration: Integration) -> None:
        family = (integration, *integration.shards.values())
        self.operations = tuple(operation for member in family for operation in member.recorded)
        totals = [operation.totals_of(True) for operation in self.operations]
        calls = sum(total[0] for total in totals)
        self.mean = sum(total[1] for total in totals) / 1e9 / calls if calls else None
        self.share = sum(total[2] for total in totals) / calls if calls else None
        self.state = integration.breaker.state
        enough = calls >= integration.config.circuit_breaker.minimum_calls
        fails = enough and self.share is not None and self.share >= FAILING
        self.healthy = self.state is CircuitState.CLOSED and not fails

    def quantiles(self) -> tuple[float, ...] | tuple[None, ...]:
        """Exact over all operations: their cells are added up, where averaged percentiles would be nobody's."""
        cells: dict[int, int] = {}
        for operation in self.operations:
            for middle, count in operation.recent.cells():
                cells[middle] = cells.get(middle, 0) + count
        return quantiles_of(cells) if cells else (None,) * len(QUANTILES)


def from_traffic(integration: Integration) -> HealthStatus:
    """The health of an integration that nobody checks."""
    traffic = Traffic(integration)
    p50, p95, p99 = traffic.quantiles()
    return HealthStatus(
        integration_name=integration.name,
        integration_type=integration.type,
        healthy=traffic.healthy,
        latency=traffic.mean,
        p50_latency=p50,
        p95_latency=p95,
        p99_latency=p99,
        error_rate=traffic.share,
        consecutive_successes=0,
        consecutive_failures=integration.status().failures,
        last_check=None,
        last_error=None,
        checked=False,
        state=traffic.state,
    )
