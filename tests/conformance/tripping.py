"""A dependency that is gone, what a trip takes, and whether a call goes then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import failsoft
from failsoft import CircuitState, DegradedModeError


def gone() -> int:
    raise ConnectionError("gone")


def goes(guard: Callable[..., Any]) -> bool:
    try:
        guard()
    except DegradedModeError:
        return False
    return True


def trip(integration: failsoft.Integration) -> None:
    integration.reconfigure(circuit_breaker={"failure_threshold": 1})
    with pytest.raises(ConnectionError):
        integration.call(gone)
    assert integration.breaker.state is CircuitState.OPEN
