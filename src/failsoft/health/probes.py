"""A health check as the half-open probe of its integration's breaker."""

from __future__ import annotations

from .._core import now_ns
from ..config import CircuitState
from .checks import SECOND, Check

GAP = 1.0
"""Least seconds between two checks that serve as probes, or the interval where that is shorter."""


def wanted(check: Check) -> int | None:
    """When the breaker would have a use for this check (ns); None: it has none."""
    if not check.probe:
        return None
    status = check.integration.breaker.status()
    if status.state is CircuitState.OPEN and status.retry_after is not None:
        wait = status.retry_after
    elif status.state is CircuitState.HALF_OPEN:
        wait = 0.0
    else:
        return None
    return now_ns() + round(wait * SECOND)


def earliest(check: Check) -> int:
    """When the check may come again as a probe (ns)."""
    return check.launched + round(min(check.interval, GAP) * SECOND)


def permit_for(check: Check) -> int:
    """A half-open permit, where there is one to be had; 0: the check says nothing to the breaker. May publish."""
    if not check.probe:
        return 0
    breaker = check.integration.breaker
    status = breaker.status()
    waited = status.state is CircuitState.OPEN and status.retry_after == 0.0
    return breaker.probe() if waited or status.state is CircuitState.HALF_OPEN else 0


def give_back(check: Check, permit: int) -> None:
    """Say nothing by it after all."""
    if permit:
        check.integration.breaker.ignore(permit)


def reserve(check: Check) -> None:
    """Keep calls of users out of the half-open breaker for as long as the check may take to come."""
    check.integration.breaker.reserve(2.0 * (check.interval + check.timeout))


def release(check: Check) -> None:
    """Let them in again."""
    if check.probe:
        check.integration.breaker.reserve(0.0)
