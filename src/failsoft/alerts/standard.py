"""The rules for a start: what a dashboard's first screen shows, said when it goes wrong."""

from __future__ import annotations

from ..config import IntegrationType
from .rules import AlertRule

SLOW = {
    IntegrationType.DATABASE: "2s",
    IntegrationType.AI_SERVICE: "20s",
    IntegrationType.MARKET_DATA: "1s",
    IntegrationType.CACHE: "100ms",
    IntegrationType.EXTERNAL_API: "5s",
}
"""p99 that somebody should know of: well below what the preset of each type lets an attempt take."""

_MINUTE = 60.0


def default_rules() -> tuple[AlertRule, ...]:
    """Rules for health, breaker states, error rates, latency, fallbacks and degraded mode, and for silent streams.

    A tuple to pick from and to add to; names are those of docs/alerts.md.
    """
    return (
        AlertRule(
            "unhealthy", when="healthy == false and state == CLOSED", for_=_MINUTE, resolve_after=_MINUTE,
            summary="{integration} is not healthy",
        ),
        AlertRule(
            "circuit-open", when="state == OPEN or state == HALF_OPEN", for_=30.0, resolve_after=10.0,
            severity="critical", summary="the circuit of {integration} opened",
        ),
        AlertRule(
            "circuit-flapping", when="state_changes >= 6", resolve_after=2 * _MINUTE,
            summary="the circuit of {integration} opens and closes again and again",
        ),
        AlertRule(
            "circuit-held", when="state == FORCED_OPEN or state == DISABLED or state == METRICS_ONLY",
            for_=30 * _MINUTE, severity="info",
            summary="somebody has held the circuit of {integration} for half an hour",
        ),
        AlertRule(
            "error-rate", when="error_rate > 5% and calls >= 20", for_=_MINUTE, resolve_after=_MINUTE,
            summary="{integration}.{operation} fails",
        ),
        *(
            AlertRule(
                f"slow-{kind}".replace("_", "-"), when=f"type == {kind} and p99 > {limit} and calls >= 20",
                for_=_MINUTE, resolve_after=_MINUTE, summary="{integration}.{operation} is slow",
            )
            for kind, limit in SLOW.items()
        ),
        AlertRule(
            "fallbacks", when="fallback_share > 10%", for_=_MINUTE, resolve_after=_MINUTE,
            summary="fallbacks answer for {integration}.{operation}",
        ),
        AlertRule(
            "degraded", when="capacity < 100% and state == CLOSED", for_=2 * _MINUTE,
            summary="{integration} is degraded",
        ),
        AlertRule(
            "retry-budget", when="retry_budget < 10%", for_=_MINUTE, resolve_after=_MINUTE,
            summary="{integration} has hardly any retries left",
        ),
        AlertRule(
            "stream-stale", when="stream_state == STALE", for_=5.0, resolve_after=5.0, severity="critical",
            summary="nothing comes from {integration}.{operation}",
        ),
    )  # fmt: skip
