"""The guard that every suite times: breaker, window with a rate rule, histogram, retry, timeout, fallback.

Each builder makes a registry of its own, so that no suite meets the operations of another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from failsoft import Fallback, FallbackType, Integration, IntegrationType, Registry, default_config


def identity(value: object) -> object:
    """The no-op target of every call."""
    return value


async def identity_async(value: object) -> object:
    """The no-op target of every await."""
    return value


def armed_integration(name: str = "benchmark", registry: Registry | None = None) -> Integration:
    preset = default_config(IntegrationType.MARKET_DATA)
    config = preset.with_(circuit_breaker={"failure_rate": 0.5})
    owner = Registry() if registry is None else registry
    return owner.integration(name, IntegrationType.MARKET_DATA, config)


def armed(function: Callable[..., Any], operation: str = "operation", integration: Integration | None = None) -> Any:
    """Guard the function with everything armed: what the report calls `guard`."""
    owner = armed_integration() if integration is None else integration
    return owner.guard(function, operation=operation, fallbacks=[Fallback(FallbackType.MOCK, identity)])


def armed_many(function: Callable[..., Any], count: int, per_integration: int = 64) -> list[Any]:
    """Guards in creation order, each an operation of its own, spread over integrations of one registry."""
    registry = Registry()
    guards: list[Any] = []
    while len(guards) < count:
        integration = armed_integration(f"benchmark-{len(guards) // per_integration}", registry)
        wanted = min(per_integration, count - len(guards))
        guards += [armed(function, f"operation-{number}", integration) for number in range(wanted)]
    return guards


def armed_open() -> Any:
    """A guard whose breaker refuses every call, without a fallback to answer instead."""
    integration = armed_integration()
    guard = integration.guard(identity, operation="refused")
    integration.force_open()
    return guard
